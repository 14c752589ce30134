/* tests/unit/test_base_str.c - borrowed text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mta/base/str.h"

static void compares_whole(void **state)
{
    (void)state;
    assert_true(str_equal(STR("abc"), STR("abc")));
    assert_false(str_equal(STR("abc"), STR("abC")));
    assert_false(str_equal(STR("abc"), STR("ab")));
    assert_true(str_equal(str_from(NULL), STR("")));
    assert_true(str_equal((struct str){"a\0b", 3}, (struct str){"a\0b", 3}));
    assert_false(str_equal((struct str){"a\0b", 3}, (struct str){"a\0c", 3}));
}

static void compares_without_case(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal, starts, ends;
    } cases[] = {
        {"MAIL FROM:", "mail from:", true, true, true},
        {"STARTTLS now", "starttls", false, true, false},
        {"mx.Example.COM", ".example.com", false, false, true},
        {"", "", true, true, true},
        {"x", "", false, true, true},
        {"", "x", false, false, false},
        {"\xC4", "\xE4", false, false, false}, /* only ASCII has a case */
        {"@", "`", false, false, false},       /* neighbours of A and a */
        {"[", "{", false, false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str a = str_from(cases[i].a);
        struct str b = str_from(cases[i].b);
        assert_int_equal(str_equal_nocase(a, b), cases[i].equal);
        assert_int_equal(str_starts_nocase(a, b), cases[i].starts);
        assert_int_equal(str_ends_nocase(a, b), cases[i].ends);
    }
}

static void trims_and_skips(void **state)
{
    (void)state;
    assert_true(str_equal(str_trim(STR(" \t a b\t ")), STR("a b")));
    assert_true(str_equal(str_trim(STR(" \t ")), STR("")));
    assert_true(str_equal(str_trim(STR("\r\n")), STR("\r\n")));
    assert_true(str_equal(str_trim(str_from(NULL)), STR("")));
    assert_true(str_equal(str_skip(STR("abc"), 1), STR("bc")));
    assert_true(str_equal(str_skip(STR("abc"), 9), STR("")));
    assert_true(str_equal(str_skip(str_from(NULL), 9), STR("")));
}

static void copies(void **state)
{
    (void)state;
    char *copy = str_dup((struct str){"abcdef", 3});
    assert_string_equal(copy, "abc");
    free(copy);
    copy = str_dup(str_from(NULL));
    assert_string_equal(copy, "");
    free(copy);

    char text[] = "AZaz09@[\xC4";
    str_lower(text, strlen(text));
    assert_string_equal(text, "azaz09@[\xC4");
}

static void parses_numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", 10, true, 0},
        {"10", 10, true, 10},
        {"11", 10, false, 0},
        {"0010", 10, true, 10},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"99999999999999999999", UINT64_MAX, false, 0},
        {"000000000000000000001", UINT64_MAX, false, 0}, /* 21 digits */
        {"", 10, false, 0},
        {"+1", 10, false, 0},
        {"-1", 10, false, 0},
        {" 1", 10, false, 0},
        {"1 ", 10, false, 0},
        {"0x1", 10, false, 0},
        {"1/", 10, false, 0},
        {"1:", 10, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 77;
        bool ok = str_parse_u64(str_from(cases[i].text), cases[i].max, &value);
        assert_int_equal(ok, cases[i].ok);
        assert_int_equal(value, ok ? cases[i].value : 77); /* written only on success */
    }
}

static void allocates_zeroed(void **state)
{
    (void)state;
    unsigned char *p = mem_alloc(100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    p = mem_grow(p, 1000);
    assert_int_equal(p[99], 0);
    free(p);
    p = mem_alloc(0);
    assert_non_null(p);
    free(p);
}

static void measures_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        int length;
    } cases[] = {
        {"", 0, -1},
        {"a", 1, 1},
        {"\0", 1, 1},
        {"\x7f\x80", 2, 1},
        {"\x80", 1, 0},
        {"\xc1\x81", 2, 0}, /* overlong */
        {"\xc3\xa9x", 3, 2},
        {"\xc3", 1, -1},
        {"\xc3x", 2, 0},
        {"\xe0\x80\x80", 3, 0},
        {"\xe0\xa0\x80", 3, 3},
        {"\xe2\x82\xac", 3, 3},
        {"\xe2\x82", 2, -1},
        {"\xe2x\xac", 3, 0},
        {"\xe2\x82x", 3, 0},
        {"\xed\xa0\x80", 3, 0}, /* a surrogate */
        {"\xed\x9f\xbf", 3, 3},
        {"\xf0\x80\x80\x80", 4, 0},
        {"\xf0\x9f\x98\x80", 4, 4},
        {"\xf0\x9f\x98", 3, -1},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\xf4\x90\x80\x80", 4, 0}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xff", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str bytes = {cases[i].bytes, cases[i].len};
        if (str_utf8_length(bytes) != cases[i].length)
            fail_msg("case %zu gave %d", i, str_utf8_length(bytes));
    }
    assert_true(str_utf8_valid(STR("")));
    assert_true(str_utf8_valid(STR("a\xc3\xa9\xf0\x9f\x98\x80")));
    assert_false(str_utf8_valid(STR("a\xc3")));
    assert_false(str_utf8_valid(STR("\xffz")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_whole),  cmocka_unit_test(compares_without_case),
        cmocka_unit_test(trims_and_skips), cmocka_unit_test(copies),
        cmocka_unit_test(parses_numbers),  cmocka_unit_test(allocates_zeroed),
        cmocka_unit_test(measures_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
