/* tests/unit/test_base_time.c - the text forms of time, against the C library's own calendar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mta/base/time.h"

static void writes_iso(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1795567926123, "2026-11-25T00:52:06.123Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"}, /* 2100 has no leap day */
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {-1, "1970-01-01T00:00:00.000Z"},
        {INT64_MIN, "1970-01-01T00:00:00.000Z"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[TIME_TEXT_MAX];
        time_iso(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void agrees_with_gmtime_on_every_day(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 100000; day++) {
        time_t seconds = (time_t)(day * 86400 + day % 86400);
        struct tm tm;
        char expected[TIME_TEXT_MAX];
        char text[TIME_TEXT_MAX];
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.007Z", &tm) > 0);
        time_iso((int64_t)seconds * 1000 + 7, text);
        assert_string_equal(text, expected);
    }
}

static void writes_rfc5322_in_the_local_zone(void **state)
{
    static const struct {
        const char *zone;
        int64_t ms;
        const char *text;
    } cases[] = {
        {"UTC0", 1795567926123, "Wed, 25 Nov 2026 00:52:06 +0000"},
        {"XST-5:30", 1795567926123, "Wed, 25 Nov 2026 06:22:06 +0530"},
        {"XST3:30", 1795567926123, "Tue, 24 Nov 2026 21:22:06 -0330"},
        {"XST0:30", 1795567926123, "Wed, 25 Nov 2026 00:22:06 -0030"},
        {"UTC0", -5, "Thu, 01 Jan 1970 00:00:00 +0000"},
        {"UTC0", INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[TIME_TEXT_MAX];
        assert_int_equal(setenv("TZ", cases[i].zone, 1), 0);
        tzset();
        time_rfc5322(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void clocks_run(void **state)
{
    (void)state;
    uint64_t before = time_monotonic_ms();
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
    uint64_t after = time_monotonic_ms();
    assert_true(after >= before + 4 && after < before + 10000);

    int64_t difference = time_wall_ms() / 1000 - (int64_t)time(NULL);
    assert_true(difference >= -1 && difference <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_iso),
        cmocka_unit_test(agrees_with_gmtime_on_every_day),
        cmocka_unit_test(writes_rfc5322_in_the_local_zone),
        cmocka_unit_test(clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
