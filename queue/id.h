/* queue/id.h - where message ids come from. Any thread. */
#ifndef QUEUE_ID_H
#define QUEUE_ID_H

#include <stdatomic.h>
#include <stdint.h>

struct queue_ids {
    _Atomic uint64_t last; /* the newest id given out */
};

/* high: no id up to it is given again. */
void queue_ids_init(struct queue_ids *ids, uint64_t high);
/* max(last + 1, wall_ms << 22); a clock before 1970 counts as 1970. */
uint64_t queue_ids_next(struct queue_ids *ids, int64_t wall_ms);
/* The high-water mark to store with a commit: nothing given out up to now or in the next 10 s (by
 * this clock) lies above it, so a crash followed by a clock step cannot repeat even an id that only
 * a log knows. */
uint64_t queue_ids_high(struct queue_ids *ids, int64_t wall_ms);

#endif
