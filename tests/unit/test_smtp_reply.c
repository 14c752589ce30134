/* tests/unit/test_smtp_reply.c - replies whole, in pieces, and as nobody should send them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mta/smtp/reply.h"

static const struct {
    const char *in;
    size_t len; /* 0: strlen(in) */
    enum smtp_reply_result result;
    uint16_t code;
    const char *status;
    const char *text;
    size_t rest; /* bytes left for the next reply */
} cases[] = {
    {"250 2.1.0 ok\r\n", 0, SMTP_REPLY_DONE, 250, "2.1.0", "ok", 0},
    {"250 ok\r\n", 0, SMTP_REPLY_DONE, 250, "", "ok", 0},
    {"250\r\n", 0, SMTP_REPLY_DONE, 250, "", "", 0}, /* RFC 5321 section 4.2: a code alone */
    {"250 \r\n", 0, SMTP_REPLY_DONE, 250, "", "", 0},
    {"250 ok\n", 0, SMTP_REPLY_DONE, 250, "", "ok", 0}, /* bare LF: old servers */
    {"250-a\r\n250 b\r\n", 0, SMTP_REPLY_DONE, 250, "", "a b", 0},
    {"250-a\n250-\r\n250-  c \r\n250\r\n", 0, SMTP_REPLY_DONE, 250, "", "a c", 0},
    {"550-5.1.1 no such\r\n550 5.1.1 user\r\n", 0, SMTP_REPLY_DONE, 550, "5.1.1", "no such user",
     0},
    {"550-5.1.1 no\r\n550 user\r\n", 0, SMTP_REPLY_DONE, 550, "5.1.1", "no user", 0},
    {"550-5.1.1 a\r\n550 5.7.1 b\r\n", 0, SMTP_REPLY_DONE, 550, "5.7.1", "a b", 0}, /* the last */
    {"250 ok\r\n354 go\r\n", 0, SMTP_REPLY_DONE, 250, "", "ok", 8},
    /* Enhanced codes that are none */
    {"250 5.1.1 ok\r\n", 0, SMTP_REPLY_DONE, 250, "", "5.1.1 ok", 0}, /* class misfits */
    {"550 4.1.1 no\r\n", 0, SMTP_REPLY_DONE, 550, "", "4.1.1 no", 0},
    {"354 3.0.0 go\r\n", 0, SMTP_REPLY_DONE, 354, "", "3.0.0 go", 0}, /* RFC 3463: 2, 4, 5 only */
    {"550 5.1.1x no\r\n", 0, SMTP_REPLY_DONE, 550, "", "5.1.1x no", 0},
    {"550 5.1. no\r\n", 0, SMTP_REPLY_DONE, 550, "", "5.1. no", 0},
    {"550 5..1 no\r\n", 0, SMTP_REPLY_DONE, 550, "", "5..1 no", 0},
    {"550 5.1234.1 no\r\n", 0, SMTP_REPLY_DONE, 550, "", "5.1234.1 no", 0},
    {"550 5.1.1234\r\n", 0, SMTP_REPLY_DONE, 550, "", "5.1.1234", 0},
    {"550 5.1\r\n", 0, SMTP_REPLY_DONE, 550, "", "5.1", 0},
    {"550 5\r\n", 0, SMTP_REPLY_DONE, 550, "", "5", 0},
    {"550 5.1.1\r\n", 0, SMTP_REPLY_DONE, 550, "5.1.1", "", 0},
    {"550 5.100.200\tx\r\n", 0, SMTP_REPLY_DONE, 550, "5.100.200", "x", 0},
    /* Odd bytes (cases O20): kept, but NUL and CR */
    {"550 a\x1b[31m\x80\xff b\r\n", 0, SMTP_REPLY_DONE, 550, "", "a\x1b[31m\x80\xff b", 0},
    {"550 a\0b\r\n", 9, SMTP_REPLY_DONE, 550, "", "a b", 0},
    {"550 a\rb\r\r\n", 0, SMTP_REPLY_DONE, 550, "", "a b ", 0},
    {"550 %s%n\r\n", 0, SMTP_REPLY_DONE, 550, "", "%s%n", 0},
    /* Not there yet */
    {"", 0, SMTP_REPLY_MORE, 0, "", "", 0},
    {"25", 0, SMTP_REPLY_MORE, 0, "", "", 0},
    {"250 ok\r", 0, SMTP_REPLY_MORE, 0, "", "", 0},
    {"250-ok\r\n", 0, SMTP_REPLY_MORE, 250, "", "ok", 0},
    /* No reply at all; rest counts from the LF of the bad line */
    {"\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"25\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"2x0 ok\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"25x ok\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"150 wait\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0}, /* no 1xx in SMTP */
    {"650 what\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"2500 ok\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"250x\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {" 250 ok\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"HTTP/1.1 400 Bad Request\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
    {"250-a\r\n354 b\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0}, /* code changes, section 4.2.1 */
    {"250-a\r\n\r\n", 0, SMTP_REPLY_BAD, 0, NULL, NULL, 0},
};

/* One reply out of the bytes, `piece` at a time. */
static enum smtp_reply_result feed(struct smtp_reply_parser *parser, const char *in, size_t len,
                                   size_t piece, size_t *taken_out)
{
    enum smtp_reply_result result = SMTP_REPLY_MORE;
    size_t taken = 0;
    while (result == SMTP_REPLY_MORE && taken < len) {
        size_t used = 0;
        size_t now = piece < len - taken ? piece : len - taken;
        result = smtp_reply_feed(parser, in + taken, now, &used, NULL, NULL);
        assert_true(used <= now);
        if (result == SMTP_REPLY_MORE)
            assert_int_equal(used, now);
        taken += used;
    }
    *taken_out = taken;
    return result;
}

static void run_case(size_t n, size_t piece)
{
    struct smtp_reply_parser parser;
    smtp_reply_parser_init(&parser);
    size_t len = cases[n].len > 0 ? cases[n].len : strlen(cases[n].in);
    size_t taken = 0;
    enum smtp_reply_result result = feed(&parser, cases[n].in, len, piece, &taken);
    if (result != cases[n].result)
        fail_msg("case %zu \"%s\": result %d", n, cases[n].in, (int)result);
    if (result == SMTP_REPLY_BAD)
        return;
    assert_int_equal(parser.reply.code, cases[n].code);
    assert_string_equal(parser.reply.status, cases[n].status);
    assert_string_equal(parser.reply.text, cases[n].text);
    assert_int_equal(len - taken, cases[n].rest);
}

static void replies_whole_and_in_pieces(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++)
        for (size_t piece = 1; piece < 20; piece++)
            run_case(n, piece);
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++)
        run_case(n, 4096);
}

static void second_reply_forgets_the_first(void **state)
{
    (void)state;
    const char in[] = "550 5.1.1 gone\r\n250 ok\r\n";
    struct smtp_reply_parser parser;
    smtp_reply_parser_init(&parser);
    size_t taken = 0, more = 0;
    assert_int_equal(feed(&parser, in, strlen(in), 99, &taken), SMTP_REPLY_DONE);
    assert_string_equal(parser.reply.status, "5.1.1");
    assert_int_equal(feed(&parser, in + taken, strlen(in) - taken, 99, &more), SMTP_REPLY_DONE);
    assert_int_equal(parser.reply.code, 250);
    assert_string_equal(parser.reply.status, "");
    assert_string_equal(parser.reply.text, "ok");
    assert_int_equal(taken + more, strlen(in));
}

/* A line of SMTP_REPLY_LINE_MAX octets before its LF is read, one more is not. */
static void line_length_is_bounded(void **state)
{
    (void)state;
    static const char code[] = {'5', '5', '0', ' '};
    static char in[SMTP_REPLY_LINE_MAX + 2];
    for (size_t over = 0; over < 2; over++) {
        for (size_t piece = 1; piece < sizeof in; piece += 1000) {
            size_t len = SMTP_REPLY_LINE_MAX + over;
            memset(in, 'x', sizeof in);
            memcpy(in, code, sizeof code);
            in[len - 1] = '\r';
            in[len] = '\n';
            struct smtp_reply_parser parser;
            smtp_reply_parser_init(&parser);
            size_t taken = 0;
            enum smtp_reply_result result = feed(&parser, in, len + 1, piece, &taken);
            assert_int_equal(result, over ? SMTP_REPLY_BAD : SMTP_REPLY_DONE);
            if (!over) /* text is cut, and ends */
                assert_int_equal(strlen(parser.reply.text), SMTP_REPLY_TEXT_MAX - 1);
        }
    }
}

static void endless_line_without_lf_is_bad(void **state)
{
    (void)state;
    struct smtp_reply_parser parser;
    smtp_reply_parser_init(&parser);
    enum smtp_reply_result result = SMTP_REPLY_MORE;
    size_t n = 0, used = 0;
    while (result == SMTP_REPLY_MORE && n <= SMTP_REPLY_LINE_MAX) {
        result = smtp_reply_feed(&parser, "2", 1, &used, NULL, NULL);
        n++;
    }
    assert_int_equal(result, SMTP_REPLY_BAD);
    assert_int_equal(n, SMTP_REPLY_LINE_MAX + 1);
}

static void line_count_is_bounded(void **state)
{
    (void)state;
    struct smtp_reply_parser parser;
    smtp_reply_parser_init(&parser);
    size_t used = 0;
    for (unsigned i = 0; i < SMTP_REPLY_LINES_MAX; i++)
        assert_int_equal(smtp_reply_feed(&parser, "250-x\r\n", 7, &used, NULL, NULL),
                         SMTP_REPLY_MORE);
    assert_int_equal(smtp_reply_feed(&parser, "250 x\r\n", 7, &used, NULL, NULL), SMTP_REPLY_BAD);
}

static void long_text_of_900_octets_is_kept(void **state)
{
    (void)state;
    char in[910];
    int len = snprintf(in, sizeof in, "550 %0900d\r\n", 7);
    struct smtp_reply_parser parser;
    smtp_reply_parser_init(&parser);
    size_t taken = 0;
    assert_int_equal(feed(&parser, in, (size_t)len, 1, &taken), SMTP_REPLY_DONE);
    assert_int_equal(strlen(parser.reply.text), 900);
}

static void note_line(struct str line, void *ctx)
{
    char *notes = ctx;
    size_t at = strlen(notes);
    snprintf(notes + at, 200 - at, "[%.*s]", (int)line.len, line.p == NULL ? "" : line.p);
}

static void lines_are_told_one_by_one(void **state)
{
    (void)state;
    const char in[] = "250-mx.example\r\n250-SIZE 1000\r\n250-\r\n250 8BITMIME\r\n";
    for (size_t piece = 1; piece < sizeof in; piece++) {
        char notes[200] = "";
        struct smtp_reply_parser parser;
        smtp_reply_parser_init(&parser);
        enum smtp_reply_result result = SMTP_REPLY_MORE;
        for (size_t at = 0; at < strlen(in); at += piece) {
            size_t used = 0, left = strlen(in) - at;
            result = smtp_reply_feed(&parser, in + at, left < piece ? left : piece, &used,
                                     note_line, notes);
        }
        assert_int_equal(result, SMTP_REPLY_DONE);
        assert_string_equal(notes, "[mx.example][SIZE 1000][][8BITMIME]");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_whole_and_in_pieces),
        cmocka_unit_test(second_reply_forgets_the_first),
        cmocka_unit_test(line_length_is_bounded),
        cmocka_unit_test(endless_line_without_lf_is_bad),
        cmocka_unit_test(line_count_is_bounded),
        cmocka_unit_test(long_text_of_900_octets_is_kept),
        cmocka_unit_test(lines_are_told_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
