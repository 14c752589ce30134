/* queue/compact.h - the writer's part of giving space back to the disk. Private to queue/. */
#ifndef QUEUE_COMPACT_H
#define QUEUE_COMPACT_H

#include <stdint.h>

#include "queue/queue_private.h"

/* Under queue->lock: when the writer should take the next step; INT64_MAX: nothing to do. */
int64_t queue_compact_deadline(const struct queue *queue);
/* Writer's thread, no transaction open: one step, if it is time. */
void queue_compact_step(struct queue *queue);
/* The writer has ended: drop what is not finished. */
void queue_compact_drop(struct queue *queue);

#endif
