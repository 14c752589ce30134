/* mta/deliver/clock.h - what the wall clock did since we run: steps are seen by comparing it with
 * the monotonic one, and the age of a message does not count them. Any thread. */
#ifndef MTA_DELIVER_CLOCK_H
#define MTA_DELIVER_CLOCK_H

#include <pthread.h>

#include "mta/base/str.h"

#define CLOCK_STEPS_MAX 16 /* remembered */

struct clock_step {
    int64_t from_unix_ms, to_unix_ms;
};

struct clock {
    pthread_mutex_t lock;
    int64_t begun_unix_ms; /* the wall time from which on the steps below are all */
    int64_t offset_ms;     /* wall - monotonic */
    uint64_t stepped_at_ms;
    struct clock_step steps[CLOCK_STEPS_MAX];
    size_t step_count;
};

void clock_init(struct clock *clock, int64_t wall_ms, uint64_t monotonic_ms);
void clock_deinit(struct clock *clock);

/* The time is now such. @return by how much the wall clock has been set since the last look; 0: not
 * at all, or by no more than it may be corrected in passing */
int64_t clock_look(struct clock *clock, int64_t wall_ms, uint64_t monotonic_ms);
/* The same by the machine's clocks. */
int64_t clock_check(struct clock *clock);

/* Has the clock been left alone since then (as far as it was looked at)? */
bool clock_is_steady_since(struct clock *clock, uint64_t monotonic_ms);

/* How long ago a wall time of the past was, without what the clock was set forward by meanwhile.
 * Negative: it cannot be true (it lies in the future, or before this program was written). */
int64_t clock_age_ms(struct clock *clock, int64_t now_unix_ms, int64_t past_unix_ms);

#endif
