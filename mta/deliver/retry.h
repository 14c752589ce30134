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
 * @param age_ms   of the message, by retry_age_ms()
 * @param random   any 32 bits: spreads the interval by 0..+20%
 * @return wall time in ms, after now; never later than the expiry unless that has passed (then one
 *         interval of the schedule after now; the caller asks retry_is_expired() first)
 */
int64_t retry_next(const struct retry_schedule *schedule, uint32_t attempts, int64_t now_unix_ms,
                   int64_t age_ms, uint32_t random);

/* How long it is that we have the message. known_ms: what the clock says (clock_age_ms()); negative
 * where that cannot be true: then it is as long as the attempts so far took at least. */
int64_t retry_age_ms(const struct retry_schedule *schedule, uint32_t attempts, int64_t known_ms);

/* Only to be asked directly after an attempt that failed since the last start or step of the clock:
 * a clock that jumps expires nothing untried. */
bool retry_is_expired(const struct retry_schedule *schedule, int64_t age_ms);

/* No attempt is ever put off beyond this time: what is due later was stored before the clock went
 * back. At least two minutes off. */
int64_t retry_horizon(const struct retry_schedule *schedule, int64_t now_unix_ms);

#endif
