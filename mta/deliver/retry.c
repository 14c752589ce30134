/* mta/deliver/retry.c - the retry schedule. */
#include "mta/deliver/retry.h"

/* Over a hundred years: no sum of two such values comes near the limits of int64_t. */
#define LONGEST_MS ((uint64_t)100 * 366 * 24 * 3600 * 1000)

static int64_t clamp_time(int64_t t)
{
    if (t < 0)
        return 0;
    return (uint64_t)t > LONGEST_MS * 5 ? (int64_t)(LONGEST_MS * 5) : t;
}

static int64_t clamp_span(uint64_t ms)
{
    return (int64_t)(ms > LONGEST_MS ? LONGEST_MS : ms);
}

int64_t retry_next(const struct retry_schedule *schedule, uint32_t attempts, int64_t now_unix_ms,
                   int64_t accepted_unix_ms, uint32_t random)
{
    size_t last = schedule->interval_count - 1;
    size_t index = attempts == 0 ? 0 : attempts - 1;
    int64_t interval = clamp_span(schedule->intervals_ms[index < last ? index : last]);
    if (interval < 1)
        interval = 1;
    int64_t jitter = (int64_t)((uint64_t)interval / 5 / 1000 * (random % 1001));
    if (jitter == 0) /* intervals under 5 s */
        jitter = interval / 5 * (int64_t)(random % 1001) / 1000;

    int64_t now = clamp_time(now_unix_ms);
    int64_t next = now + interval + jitter;
    int64_t expiry = clamp_time(accepted_unix_ms) + clamp_span(schedule->expire_ms);
    if (next > expiry && expiry > now)
        next = expiry;
    return next;
}

bool retry_is_expired(const struct retry_schedule *schedule, int64_t now_unix_ms,
                      int64_t accepted_unix_ms)
{
    return clamp_time(now_unix_ms) - clamp_time(accepted_unix_ms) >=
           clamp_span(schedule->expire_ms);
}
