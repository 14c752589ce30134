/* mta/auth/base64: RFC 4648 section 10, and everything that is not quite base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mta/auth/base64.h"

static void test_both_ways(void **state)
{
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xfe\xfb\xef\xbe", "//77774="},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        uint8_t bytes[64];
        size_t len = strlen(cases[i].bytes);
        assert_int_equal(base64_encode(cases[i].bytes, len, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_true(base64_decode(str_from(text), bytes, &len));
        assert_int_equal(len, strlen(cases[i].bytes));
        assert_memory_equal(bytes, cases[i].bytes, len);
    }
}

static void test_not_base64(void **state)
{
    static const char *const cases[] = {
        "A",
        "AA",
        "AAA",
        "=",
        "==",
        "====",
        "A===",
        "=AAA",
        "AA=A",
        "AA==AAAA",
        "!!!!",
        "AAAA ",
        " AAA",
        "AAA\n",
        "AA\r\n",
        "AAAA=",
        "AB==",
        "AAB=",
        "AA-_",
        "\xc3\xa4"
        "AA",
        "AAAA====",
        "Zm9v\tZm9",
        "AA=\xff",
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[16];
        size_t len = 99;
        assert_false(base64_decode(str_from(cases[i]), bytes, &len));
        assert_int_equal(len, 99);
    }
    /* A NUL among the letters. */
    uint8_t bytes[16];
    size_t len;
    assert_false(base64_decode(STR("AA\0A"), bytes, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_not_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
