/* Steps of the wall clock: seen, and not counted as age. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/deliver/clock.h"

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define DAY    (1440 * MINUTE)
#define YEAR   (365 * DAY)
#define NOW    INT64_C(1795572000000)

struct time {
    struct clock clock;
    int64_t wall;
    uint64_t monotonic;
};

static void start(struct time *t, int64_t wall)
{
    t->wall = wall;
    t->monotonic = 77 * SECOND;
    clock_init(&t->clock, t->wall, t->monotonic);
}

static int64_t pass(struct time *t, int64_t ms, int64_t step)
{
    t->monotonic += (uint64_t)ms;
    t->wall += ms + step;
    return clock_look(&t->clock, t->wall, t->monotonic);
}

static int64_t age(struct time *t, int64_t past)
{
    return clock_age_ms(&t->clock, t->wall, past);
}

static void test_steady(void **unused)
{
    struct time t;
    (void)unused;
    start(&t, NOW);
    for (int i = 0; i < 1000; i++) /* a correction of half a second a minute is none */
        assert_int_equal(pass(&t, MINUTE, i % 2 == 0 ? 500 : -499), 0);
    assert_true(clock_is_steady_since(&t.clock, 77 * SECOND));
    assert_int_equal(age(&t, NOW), t.wall - NOW);
    assert_int_equal(age(&t, NOW - 3 * DAY), t.wall - NOW + 3 * DAY); /* of an earlier run */
    assert_true(age(&t, t.wall + 1) < 0);
    assert_true(age(&t, 0) < 0);
    clock_deinit(&t.clock);
}

static void test_forward(void **unused)
{
    struct time t;
    (void)unused;
    start(&t, NOW);
    assert_int_equal(pass(&t, MINUTE, 10 * DAY), 10 * DAY);
    assert_false(clock_is_steady_since(&t.clock, t.monotonic - 1));
    assert_true(clock_is_steady_since(&t.clock, t.monotonic));
    assert_int_equal(pass(&t, MINUTE, 0), 0);
    assert_int_equal(age(&t, NOW), 2 * MINUTE);
    assert_int_equal(age(&t, NOW + MINUTE + 10 * DAY), MINUTE);
    assert_int_equal(age(&t, NOW - DAY), DAY + 2 * MINUTE); /* of an earlier run: it was right */
    clock_deinit(&t.clock);
}

static void test_back(void **unused)
{
    struct time t;
    (void)unused;
    start(&t, NOW);
    assert_int_equal(pass(&t, MINUTE, -YEAR), -YEAR);
    (void)pass(&t, MINUTE, 0);
    assert_int_equal(age(&t, NOW), 2 * MINUTE); /* it lies in the future, but we were there */
    assert_int_equal(age(&t, NOW + MINUTE / 2), 90 * SECOND);
    assert_true(age(&t, NOW - MINUTE) < 0); /* of an earlier run, in the future */
    assert_int_equal(age(&t, t.wall - 2 * MINUTE), 2 * MINUTE); /* older than all we know */
    clock_deinit(&t.clock);
}

/* A machine without a clock of its own: 1970 until the network tells. */
static void test_boot(void **unused)
{
    struct time t;
    (void)unused;
    start(&t, 40 * SECOND);
    assert_true(age(&t, 20 * SECOND) < 0);
    (void)pass(&t, MINUTE, 0);
    assert_int_equal(age(&t, 40 * SECOND), MINUTE);
    assert_int_equal(pass(&t, MINUTE, 56 * YEAR), 56 * YEAR);
    assert_int_equal(age(&t, 40 * SECOND), 2 * MINUTE);
    assert_true(age(&t, 20 * SECOND) < 0);
    clock_deinit(&t.clock);
}

/* There and back: what was accepted meanwhile has its true age, what is older too. */
static void test_slip(void **unused)
{
    struct time t;
    (void)unused;
    start(&t, NOW);
    (void)pass(&t, MINUTE, 10 * DAY);
    int64_t meanwhile = t.wall;
    (void)pass(&t, MINUTE, -10 * DAY);
    (void)pass(&t, MINUTE, 0);
    assert_int_equal(age(&t, NOW), 3 * MINUTE);
    assert_int_equal(age(&t, meanwhile), 2 * MINUTE);
    assert_int_equal(age(&t, NOW - DAY), DAY + 3 * MINUTE);
    clock_deinit(&t.clock);
}

/* Very many steps: the oldest are forgotten, the rest still holds. */
static void test_many(void **unused)
{
    struct time t;
    int64_t past = 0;
    (void)unused;
    start(&t, NOW);
    for (int i = 0; i < 5 * CLOCK_STEPS_MAX; i++) {
        (void)pass(&t, MINUTE, DAY);
        if (i == 5 * CLOCK_STEPS_MAX - 10)
            past = t.wall;
    }
    assert_int_equal(t.clock.step_count, CLOCK_STEPS_MAX);
    assert_int_equal(age(&t, past), 9 * MINUTE);
    assert_true(age(&t, NOW) >= 0);
    clock_deinit(&t.clock);
}

static void test_machine(void **unused)
{
    struct clock clock;
    (void)unused;
    clock_init(&clock, NOW - YEAR, 0);
    assert_true(clock_check(&clock) != 0);
    assert_int_equal(clock_check(&clock), 0);
    clock_deinit(&clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady),  cmocka_unit_test(test_forward), cmocka_unit_test(test_back),
        cmocka_unit_test(test_boot),    cmocka_unit_test(test_slip),    cmocka_unit_test(test_many),
        cmocka_unit_test(test_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
