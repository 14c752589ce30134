/* mta/deliver/clock.c - steps of the wall clock. See clock.h. */
#include "mta/deliver/clock.h"

#include <string.h>

#include "mta/base/time.h"

#define STEP_MS       2000                   /* less is a correction */
#define READ_MOST_MS  200                    /* two clocks read further apart tell nothing */
#define PROGRAM_BEGAN INT64_C(1577836800000) /* 2020-01-01: no message of ours is older */

void clock_init(struct clock *clock, int64_t wall_ms, uint64_t monotonic_ms)
{
    *clock = (struct clock){
        .begun_unix_ms = wall_ms,
        .offset_ms = wall_ms - (int64_t)monotonic_ms,
        .stepped_at_ms = monotonic_ms,
    };
    pthread_mutex_init(&clock->lock, NULL);
}

void clock_deinit(struct clock *clock)
{
    pthread_mutex_destroy(&clock->lock);
}

static void add_step(struct clock *clock, int64_t from, int64_t to)
{
    if (clock->step_count == CLOCK_STEPS_MAX) {
        clock->begun_unix_ms = clock->steps[0].to_unix_ms;
        memmove(clock->steps, clock->steps + 1, sizeof clock->steps - sizeof clock->steps[0]);
        clock->step_count--;
    }
    clock->steps[clock->step_count++] = (struct clock_step){from, to};
}

int64_t clock_look(struct clock *clock, int64_t wall_ms, uint64_t monotonic_ms)
{
    pthread_mutex_lock(&clock->lock);
    int64_t offset = wall_ms - (int64_t)monotonic_ms;
    int64_t step = offset - clock->offset_ms;
    clock->offset_ms = offset;
    if (step > STEP_MS || step < -STEP_MS) {
        add_step(clock, wall_ms - step, wall_ms);
        clock->stepped_at_ms = monotonic_ms;
    } else {
        step = 0;
    }
    pthread_mutex_unlock(&clock->lock);
    return step;
}

int64_t clock_check(struct clock *clock)
{
    uint64_t before_ms = time_monotonic_ms();
    int64_t wall_ms = time_wall_ms();
    uint64_t after_ms = time_monotonic_ms();
    return after_ms - before_ms > READ_MOST_MS ? 0 : clock_look(clock, wall_ms, after_ms);
}

bool clock_is_steady_since(struct clock *clock, uint64_t monotonic_ms)
{
    pthread_mutex_lock(&clock->lock);
    bool steady = clock->stepped_at_ms <= monotonic_ms;
    pthread_mutex_unlock(&clock->lock);
    return steady;
}

/* Our time is a row of stretches, each without a step. A wall time that lies in several of them is
 * taken to be in the last. */
static int64_t age_locked(const struct clock *clock, int64_t now, int64_t past)
{
    int64_t end = now;
    int64_t later = 0; /* the length of the stretches behind */
    int64_t forward = 0;
    for (size_t i = clock->step_count + 1; i-- > 0;) {
        int64_t start = i > 0 ? clock->steps[i - 1].to_unix_ms : clock->begun_unix_ms;
        if (past >= start && past <= end)
            return later + (end - past);
        if (i == 0)
            break;
        later += end > start ? end - start : 0;
        end = clock->steps[i - 1].from_unix_ms;
        forward += start - end;
    }
    if (past > now || past < PROGRAM_BEGAN)
        return -1;
    int64_t age = now - past - (forward > 0 ? forward : 0);
    return age > 0 ? age : 0;
}

int64_t clock_age_ms(struct clock *clock, int64_t now_unix_ms, int64_t past_unix_ms)
{
    pthread_mutex_lock(&clock->lock);
    int64_t age = age_locked(clock, now_unix_ms, past_unix_ms);
    pthread_mutex_unlock(&clock->lock);
    return age;
}
