/* Which exit code a refusal is: callers decide by it whether to try again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sysexits.h>

#include "mta/sendmail/verdict.h"

static const struct row {
    const char *reply;
    int code;
    const char *text;
} rows[] = {
    {"421 4.3.2 shutting down\r\n", EX_TEMPFAIL, "x: 421 4.3.2 shutting down"},
    {"451 later\r\n", EX_TEMPFAIL, "x: 451 later"},
    {"452 4.5.3 too many\r\n", EX_TEMPFAIL, "x: 452 4.5.3 too many"},
    {"550 5.1.1 no such user\r\n", EX_NOUSER, "x: 550 5.1.1 no such user"},
    {"550 5.1.2 no such host\r\n", EX_NOHOST, "x: 550 5.1.2 no such host"},
    {"553 5.1.3 syntax\r\n", EX_DATAERR, "x: 553 5.1.3 syntax"},
    {"553 5.1.7 sender\r\n", EX_DATAERR, "x: 553 5.1.7 sender"},
    {"550 5.1.10 null MX\r\n", EX_NOUSER, "x: 550 5.1.10 null MX"},
    {"550 5.2.1 disabled\r\n", EX_NOUSER, "x: 550 5.2.1 disabled"},
    {"552 5.3.4 too big\r\n", EX_UNAVAILABLE, "x: 552 5.3.4 too big"},
    {"554 5.6.0 two From\r\n", EX_DATAERR, "x: 554 5.6.0 two From"},
    {"554 5.7.1 denied\r\n", EX_NOPERM, "x: 554 5.7.1 denied"},
    {"503 5.5.1 bad sequence\r\n", EX_PROTOCOL, "x: 503 5.5.1 bad sequence"},
    {"555 5.5.4 parameter\r\n", EX_UNAVAILABLE, "x: 555 5.5.4 parameter"},
    {"550 no\r\n", EX_UNAVAILABLE, "x: 550 no"},
    {"250 2.0.0 unexpected\r\n", EX_PROTOCOL, "x: 250 2.0.0 unexpected"},
    {"550-5.1.1 a\x1b[2J\r\n550 5.1.1 b\r\n", EX_NOUSER, "x: 550 5.1.1 a?[2J b"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct smtp_reply_parser parser;
        struct sendmail_verdict verdict;
        size_t used = 0;
        smtp_reply_parser_init(&parser);
        assert_int_equal(
            smtp_reply_feed(&parser, rows[i].reply, strlen(rows[i].reply), &used, NULL, NULL),
            SMTP_REPLY_DONE);
        assert_int_equal(sendmail_fail_reply(&verdict, "x", &parser.reply), -1);
        assert_int_equal(verdict.code, rows[i].code);
        assert_string_equal(verdict.text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
