/* Durations, sizes, times and UTF-8 as mtactl reads and writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mta/mtactl/words.h"

static void test_duration_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t seconds; /* 0: refused */
    } cases[] = {
        {"1s", 1},
        {"90s", 90},
        {"30m", 1800},
        {"2h", 7200},
        {"5d", 432000},
        {"36500d", 3153600000},
        {"3153600000s", 3153600000},
        {"36501d", 0},
        {"3153600001s", 0},
        {"99999999999999999999d", 0},
        {"18446744073709551615s", 0},
        {"0s", 0},
        {"0d", 0},
        {"2", 0},
        {"h", 0},
        {"", 0},
        {"2w", 0},
        {"2H", 0},
        {"2 h", 0},
        {" 2h", 0},
        {"-2h", 0},
        {"+2h", 0},
        {"1.5h", 0},
        {"1h30m", 0},
        {"2hh", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t seconds = 0;
        bool good = ctl_duration_parse(str_from(cases[i].text), &seconds);
        if (good != (cases[i].seconds > 0) || seconds != cases[i].seconds)
            fail_msg("\"%s\" gave %llu", cases[i].text, (unsigned long long)seconds);
    }
}

static void test_duration_words(void **state)
{
    (void)state;
    static const struct {
        uint64_t seconds;
        const char *words;
    } cases[] = {
        {0, "0s"},           {59, "59s"},
        {60, "1m"},          {3599, "59m"},
        {3600, "1h"},        {3660, "1h1m"},
        {172799, "47h59m"},  {172800, "2d"},
        {176400, "2d1h"},    {86399999, "999d23h"},
        {86400000, "1000d"}, {UINT64_MAX, "213503982334601d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[CTL_WORDS_MAX];
        ctl_duration_words(cases[i].seconds, words);
        assert_string_equal(words, cases[i].words);
    }
}

static void test_next_words(void **state)
{
    (void)state;
    static const struct {
        int64_t due, now;
        const char *words;
    } cases[] = {
        {1000, 1000, "now"},     {999, 1000, "now"},
        {1001, 1000, "in 1s"},   {2000, 1000, "in 1s"},
        {241000, 1000, "in 4m"}, {INT64_MIN, INT64_MAX, "now"},
        {7260000, 0, "in 2h1m"}, {INT64_MAX - 1000, 0, "in 106751991167d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[CTL_WORDS_MAX];
        ctl_next_words(cases[i].due, cases[i].now, words);
        assert_string_equal(words, cases[i].words);
    }
}

static void test_sizes_and_numbers(void **state)
{
    (void)state;
    static const struct {
        uint64_t number;
        const char *size, *words;
    } cases[] = {
        {0, "0", "0"},
        {999, "999", "999"},
        {1000, "1.0K", "1,000"},
        {4198, "4.1K", "4,198"},
        {10188, "9.9K", "10,188"},
        {10189, "10K", "10,189"},
        {1023487, "999K", "1,023,487"},
        {1023488, "1.0M", "1,023,488"},
        {52428800, "50M", "52,428,800"},
        {UINT64_C(107374182400), "100G", "107,374,182,400"},
        {UINT64_MAX, "16E", "18,446,744,073,709,551,615"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[CTL_WORDS_MAX];
        ctl_size_words(cases[i].number, words);
        assert_string_equal(words, cases[i].size);
        ctl_number_words(cases[i].number, words);
        assert_string_equal(words, cases[i].words);
    }
}

static void test_time_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t unix_ms; /* -1: refused */
    } cases[] = {
        {"1970-01-01T00:00:00.000Z", 0},
        {"2026-11-25T00:52:06.123Z", 1795567926123},
        {"2024-02-29T23:59:59.999Z", 1709251199999},
        {"2026-11-25T00:52:06Z", -1},
        {"2026-11-25 00:52:06.123Z", -1},
        {"2026-11-25T00:52:06.123", -1},
        {"2026-11-25T00:52:06.12xZ", -1},
        {"2026-11-25T00:52:06.123ZZ", -1},
        {"never", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t unix_ms = -1;
        bool good = ctl_time_parse(cases[i].text, &unix_ms);
        if (good != (cases[i].unix_ms >= 0) || unix_ms != cases[i].unix_ms)
            fail_msg("\"%s\" gave %lld", cases[i].text, (long long)unix_ms);
    }
}

/* RFC 3629 sections 3 and 4 */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_duration_parse), cmocka_unit_test(test_duration_words),
        cmocka_unit_test(test_next_words),     cmocka_unit_test(test_sizes_and_numbers),
        cmocka_unit_test(test_time_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
