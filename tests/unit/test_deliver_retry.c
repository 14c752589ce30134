/* The retry schedule: no input makes it negative, endless or late (cases O36). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/deliver/retry.h"

#define DAY INT64_C(86400000)
#define NOW INT64_C(1795572000000)

static uint64_t state = 88172645463325252U;

static uint64_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void test_example(void **unused)
{
    static const uint64_t intervals[] = {300000, 600000, 1200000};
    static const struct {
        uint32_t attempts, random;
        int64_t want;
    } rows[] = {
        {0, 0, 300000},   {1, 0, 300000},           {2, 0, 600000},    {3, 0, 1200000},
        {4, 0, 1200000},  {UINT32_MAX, 0, 1200000}, {1, 1000, 360000}, {3, 1000, 1440000},
        {1, 500, 330000}, {3, UINT32_MAX, 1348560}, /* 4294967295 % 1001 = 619 */
    };
    struct retry_schedule schedule = {intervals, 3, 5 * (uint64_t)DAY};
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(retry_next(&schedule, rows[i].attempts, NOW, 0, rows[i].random) - NOW,
                         rows[i].want);
}

/* Every interval is kept, never more than a fifth longer, never beyond the expiry, and a later
 * attempt never waits less while the schedule grows. */
static void test_bounds(void **unused)
{
    (void)unused;
    for (int round = 0; round < 20000; round++) {
        uint64_t intervals[8];
        size_t count = 1 + any() % 8;
        intervals[0] = 1 + any() % (uint64_t)DAY;
        for (size_t i = 1; i < count; i++)
            intervals[i] = intervals[i - 1] + any() % (uint64_t)DAY;
        struct retry_schedule schedule = {intervals, count, 1 + any() % (365 * (uint64_t)DAY)};
        int64_t age = (int64_t)(any() % (uint64_t)DAY);
        int64_t expiry = NOW - age + (int64_t)schedule.expire_ms;
        uint32_t attempts = 1 + (uint32_t)(any() % 10000);
        uint64_t interval = intervals[attempts - 1 < count ? attempts - 1 : count - 1];
        int64_t next = retry_next(&schedule, attempts, NOW, age, (uint32_t)any());
        assert_true(next > NOW);
        assert_true(next <= NOW + (int64_t)(interval + interval / 5));
        if (expiry > NOW)
            assert_true(next <= expiry);
        if (expiry <= NOW || next < expiry)
            assert_true(next >= NOW + (int64_t)interval);
        int64_t plain = retry_next(&schedule, attempts, NOW, age, 0);
        assert_true(plain <= retry_next(&schedule, attempts + 1, NOW, age, 0));
    }
}

/* Values that no configuration gives: the result stays a time after now, and a sane one. */
static void test_extremes(void **unused)
{
    static const uint64_t spans[] = {0, 1, 999, 86400000, UINT64_MAX / 2, UINT64_MAX};
    static const int64_t times[] = {INT64_MIN, -1, 0, 1, NOW, INT64_MAX / 2, INT64_MAX};
    static const uint32_t numbers[] = {0, 1, 2, 1000, 1001, UINT32_MAX};
    const int64_t century = INT64_C(36600) * DAY;
    (void)unused;
    for (size_t i = 0; i < 6; i++)
        for (size_t e = 0; e < 6; e++)
            for (size_t n = 0; n < 7; n++)
                for (size_t a = 0; a < 7; a++)
                    for (size_t r = 0; r < 6; r++) {
                        struct retry_schedule schedule = {&spans[i], 1, spans[e]};
                        int64_t next =
                            retry_next(&schedule, numbers[r], times[n], times[a], numbers[5 - r]);
                        assert_true(next >= 0 && next <= 5 * century + century / 5 * 6);
                        if (times[n] >= 0 && times[n] < 5 * century)
                            assert_true(next > times[n]);
                    }
}

static void test_expiry(void **unused)
{
    static const uint64_t interval = 1000;
    struct retry_schedule schedule = {&interval, 1, 60000};
    (void)unused;
    assert_false(retry_is_expired(&schedule, 0));
    assert_false(retry_is_expired(&schedule, 59999));
    assert_true(retry_is_expired(&schedule, 60000));
    assert_true(retry_is_expired(&schedule, INT64_MAX));
    assert_false(retry_is_expired(&schedule, INT64_MIN));
    /* The last attempt is made at the expiry itself, and then it is expired. */
    int64_t next = retry_next(&schedule, 1, NOW + 59500, 59500, 1000);
    assert_int_equal(next, NOW + 60000);
    /* Over it (an expiry shortened by a reload): one interval more. */
    assert_int_equal(retry_next(&schedule, 1, NOW + 70000, 70000, 0), NOW + 71000);
}

/* Where the clock cannot be right, a message is as old as its attempts took at least. */
static void test_age(void **unused)
{
    static const uint64_t intervals[] = {300000, 600000, 1200000};
    static const struct {
        uint32_t attempts;
        int64_t known, want;
    } rows[] = {
        {1, 0, 0},       {9, 5, 5},       {0, -1, 0},       {1, -1, 0},
        {2, -1, 300000}, {3, -7, 900000}, {4, -1, 2100000}, {6, INT64_MIN, 4500000},
    };
    struct retry_schedule schedule = {intervals, 3, 5 * (uint64_t)DAY};
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(retry_age_ms(&schedule, rows[i].attempts, rows[i].known), rows[i].want);
    assert_in_range(retry_age_ms(&schedule, UINT32_MAX, -1), 30 * 365 * DAY, INT64_C(36600) * DAY);
    /* It is tried to the end of its time, not for ever. */
    uint32_t attempts = 1;
    while (!retry_is_expired(&schedule, retry_age_ms(&schedule, attempts, -1)))
        attempts++;
    assert_in_range(attempts, 5 * DAY / 1200000, 5 * DAY / 1200000 + 4);
}

/* Whatever the schedule gives lies before the horizon, now and for as long as it waits. */
static void test_horizon(void **unused)
{
    (void)unused;
    for (int round = 0; round < 20000; round++) {
        uint64_t intervals[3] = {1 + any() % (uint64_t)DAY, 1 + any() % (uint64_t)DAY,
                                 1 + any() % (uint64_t)DAY};
        struct retry_schedule schedule = {intervals, 1 + any() % 3, 30 * (uint64_t)DAY};
        int64_t horizon = retry_horizon(&schedule, NOW);
        assert_true(horizon >= NOW + 60000);
        assert_true(horizon < NOW + 2 * DAY);
        assert_true(retry_next(&schedule, (uint32_t)(any() % 6), NOW, 0, (uint32_t)any()) <=
                    horizon);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),  cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_extremes), cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_age),      cmocka_unit_test(test_horizon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
