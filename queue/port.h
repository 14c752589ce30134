/* queue/port.h - completions on their way to a port. Private to queue/. */
#ifndef QUEUE_PORT_H
#define QUEUE_PORT_H

#include "queue/queue.h"

struct queue_completion;

/* Made when the work is handed over, so that reporting allocates nothing. They keep the port's
 * memory alive. */
struct queue_completion *queue_completion_done(struct queue_port *port, queue_done_fn fn,
                                               void *ctx);
struct queue_completion *queue_completion_stored(struct queue_port *port, size_t len,
                                                 queue_stored_fn fn, void *ctx);

/* Decided, their owners not yet told: in this way a port is told once of many. Writer's thread. */
struct queue_answers {
    struct queue_completion *head;
    struct queue_completion *tail;
    size_t count;
};

/* Consumes the completion; result is ignored for `stored`. NULL does nothing. */
void queue_completion_post(struct queue_answers *answers, struct queue_completion *completion,
                           int result);
/* Give all of them to the owners of their ports. */
void queue_answers_tell(struct queue_answers *answers);

#endif
