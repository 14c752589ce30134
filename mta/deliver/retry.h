/* mta/deliver/retry.h - when to try again. Pure, clamped: no input makes it overflow (cases O36).
 */
#ifndef MTA_DELIVER_RETRY_H
#define MTA_DELIVER_RETRY_H

#include "mta/base/str.h"

struct retry_schedule {
    const uint64_t *intervals_ms; /* the last one repeats */
    size_t interval_count;        /* at least 1 */
    uint64_t expire_ms;
};

/**
 * The time of the next attempt.
 *
 * @param attempts finished so far, the one that just failed included (0 counts as 1)
 * @param random   any 32 bits: spreads the interval by 0..+20%
 * @return wall time in ms, after now; never later than the expiry unless that has passed (then one
 *         interval of the schedule after now; the caller asks retry_is_expired() first)
 */
int64_t retry_next(const struct retry_schedule *schedule, uint32_t attempts, int64_t now_unix_ms,
                   int64_t accepted_unix_ms, uint32_t random);

/* Only to be asked directly after a failed attempt: a clock that jumps expires nothing untried. */
bool retry_is_expired(const struct retry_schedule *schedule, int64_t now_unix_ms,
                      int64_t accepted_unix_ms);

#endif
