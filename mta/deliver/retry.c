/* mta/deliver/retry.c - the retry schedule. */
#include "mta/deliver/retry.h"

/* Over a hundred years: no sum of two such values comes near the limits of int64_t. */
#define LONGEST_MS       ((uint64_t)100 * 366 * 24 * 3600 * 1000)
#define HORIZON_SLACK_MS INT64_C(120000) /* small steps, and what settle.c puts off by a minute */

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

static int64_t interval_of(const struct retry_schedule *schedule, size_t index)
{
    size_t last = schedule->interval_count - 1;
    int64_t interval = clamp_span(schedule->intervals_ms[index < last ? index : last]);
    return interval < 1 ? 1 : interval;
}

int64_t retry_next(const struct retry_schedule *schedule, uint32_t attempts, int64_t now_unix_ms,
                   int64_t age_ms, uint32_t random)
{
    int64_t interval = interval_of(schedule, attempts == 0 ? 0 : attempts - 1);
    int64_t jitter = (int64_t)((uint64_t)interval / 5 / 1000 * (random % 1001));
    if (jitter == 0) /* intervals under 5 s */
        jitter = interval / 5 * (int64_t)(random % 1001) / 1000;

    int64_t now = clamp_time(now_unix_ms);
    int64_t next = now + interval + jitter;
    int64_t left = clamp_span(schedule->expire_ms) - clamp_time(age_ms);
    if (left > 0 && next > now + left)
        next = now + left;
    return next;
}

int64_t retry_age_ms(const struct retry_schedule *schedule, uint32_t attempts, int64_t known_ms)
{
    if (known_ms >= 0)
        return known_ms;
    int64_t took = 0;
    uint64_t waits = attempts > 0 ? attempts - 1 : 0; /* each attempt but the first */
    for (size_t i = 0; i < schedule->interval_count && waits > 0; i++, waits--)
        took = clamp_span((uint64_t)(took + interval_of(schedule, i)));
    uint64_t last = (uint64_t)interval_of(schedule, schedule->interval_count - 1);
    if (waits > LONGEST_MS / last)
        return (int64_t)LONGEST_MS;
    return clamp_span((uint64_t)took + waits * last);
}

bool retry_is_expired(const struct retry_schedule *schedule, int64_t age_ms)
{
    return clamp_time(age_ms) >= clamp_span(schedule->expire_ms);
}

int64_t retry_horizon(const struct retry_schedule *schedule, int64_t now_unix_ms)
{
    int64_t longest = 0;
    for (size_t i = 0; i < schedule->interval_count; i++) {
        int64_t interval = interval_of(schedule, i);
        longest = interval > longest ? interval : longest;
    }
    return clamp_time(now_unix_ms) + longest + longest / 5 + HORIZON_SLACK_MS;
}
