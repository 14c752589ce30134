/* Standard input becomes content: line ends, the lone dot, faults; whole and a byte at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mta/sendmail/input.h"

#define TEXT(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

static const struct row {
    struct str in;
    const char *out;
    bool ignore_dot, ended;
    enum sendmail_fault fault;
} rows[] = {
    {TEXT(""), "", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a"), "a\r\n", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\nb\n"), "a\r\nb\r\n", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\r\nb\n\r\n\n"), "a\r\nb\r\n\r\n\r\n", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\r"), "a\r\n", false, false, SENDMAIL_FAULT_NONE}, /* half a line end */
    {TEXT("a\n.\nb\n"), "a\r\n", false, true, SENDMAIL_FAULT_NONE},
    {TEXT("a\n.\r\nb\n"), "a\r\n", false, true, SENDMAIL_FAULT_NONE},
    {TEXT("a\n."), "a\r\n", false, true, SENDMAIL_FAULT_NONE},
    {TEXT("a\n.\r"), "a\r\n", false, true, SENDMAIL_FAULT_NONE},
    {TEXT(".\na"), "", false, true, SENDMAIL_FAULT_NONE},
    {TEXT("a\n..\n.b\n"), "a\r\n..\r\n.b\r\n", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a.\n .\nb\n"), "a.\r\n .\r\nb\r\n", false, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\n.\nb\n"), "a\r\n.\r\nb\r\n", true, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\n."), "a\r\n.\r\n", true, false, SENDMAIL_FAULT_NONE},
    {TEXT("a\rb\n"), "a\rb\r\n", false, false, SENDMAIL_FAULT_CR},
    {TEXT("a\r\r\n"), "a\r\r\n", false, false, SENDMAIL_FAULT_CR},
    {TEXT(".\rb\n"), ".\rb\r\n", false, false, SENDMAIL_FAULT_CR},
    {TEXT(".\r\r\n"), ".\r\r\n", false, false, SENDMAIL_FAULT_CR},
    {TEXT("\xe4\x80\xff\n"), "\xe4\x80\xff\r\n", false, false, SENDMAIL_FAULT_NONE},
};

static void check(const struct row *row, size_t step)
{
    struct sendmail_input input;
    struct buf out;
    buf_init(&out, 2 * row->in.len + 4);
    sendmail_input_init(&input, row->ignore_dot);
    for (size_t at = 0; at < row->in.len; at += step)
        sendmail_input_feed(&input, row->in.p + at,
                            row->in.len - at < step ? row->in.len - at : step, &out);
    sendmail_input_end(&input, &out);
    if (!str_equal(buf_str(&out), str_from(row->out)))
        fail_msg("'%s' gave '%.*s'", row->in.p, (int)buf_len(&out), buf_str(&out).p);
    assert_int_equal(input.ended, row->ended);
    assert_int_equal(input.fault, row->fault);
    buf_deinit(&out);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t step = 1; step < 4; step++)
            check(&rows[i], step);
        check(&rows[i], rows[i].in.len + 1);
    }
}

static void test_nul(void **state)
{
    (void)state;
    struct sendmail_input input;
    struct buf out;
    buf_init(&out, 100);
    sendmail_input_init(&input, false);
    sendmail_input_feed(&input, "a\n", 2, &out);
    assert_int_equal(input.fault, SENDMAIL_FAULT_NONE);
    sendmail_input_feed(&input, "b\0c\rd\n", 6, &out);
    assert_int_equal(input.fault, SENDMAIL_FAULT_NUL); /* the first stays */
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
