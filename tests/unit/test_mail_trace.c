/* Received, Date and Message-ID: their form, their folding, and what a client cannot put into them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mta/mail/header.h"
#include "mta/mail/trace.h"

#define NOW INT64_C(1795567926123) /* 2026-11-25T00:52:06.123Z */

static const struct trace_received plain = {
    .helo = {"client.example", 14},
    .address = "192.0.2.1",
    .by = "mail.example.com",
    .protocol = "ESMTPS",
    .tls = "TLS1.3 TLS_AES_256_GCM_SHA384",
    .id = "0ABCDEFGHJKMN",
    .recipient = "bob@example.net",
    .time_unix_ms = NOW,
};

/* One field, folded, no line over the limit but where a single word is longer. */
static void check_shape(struct str text, size_t widest)
{
    struct header_walk walk;
    struct header_field field;
    header_walk_init(&walk, text);
    assert_true(header_walk_next(&walk, &field));
    assert_int_equal(field.whole.len, text.len);
    assert_true(field.name.len > 0);
    size_t column = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '\r') {
            assert_true(i + 1 < text.len && text.p[i + 1] == '\n');
            assert_true(column <= widest);
            column = 0;
            i++;
            continue;
        }
        assert_in_range(c, ' ', '~');
        column++;
    }
    assert_int_equal(column, 0); /* ends in CRLF */
}

static void check_received(const struct trace_received *received, const char *expected)
{
    struct buf buf;
    buf_init(&buf, 4096);
    assert_true(trace_add_received(received, &buf));
    check_shape(buf_str(&buf), 78);
    assert_true(buf_add(&buf, "", 1));
    assert_string_equal(buf_str(&buf).p, expected);
    buf_deinit(&buf);
}

static void test_received(void **state)
{
    (void)state;
    struct trace_received received = plain;
    check_received(&received,
                   "Received: from client.example ([192.0.2.1])\r\n"
                   " by mail.example.com with ESMTPS (TLS1.3 TLS_AES_256_GCM_SHA384)\r\n"
                   " id 0ABCDEFGHJKMN for <bob@example.net>; Wed, 25 Nov 2026 00:52:06 +0000\r\n");

    received.address = "2001:db8::1";
    received.tls = "";
    received.protocol = "ESMTP";
    received.recipient = NULL;
    check_received(&received, "Received: from client.example ([IPv6:2001:db8::1])\r\n"
                              " by mail.example.com with ESMTP id 0ABCDEFGHJKMN;\r\n"
                              " Wed, 25 Nov 2026 00:52:06 +0000\r\n");

    received.address = ""; /* a local socket */
    received.helo = STR("");
    check_received(&received, "Received: from unknown\r\n"
                              " by mail.example.com with ESMTP id 0ABCDEFGHJKMN;\r\n"
                              " Wed, 25 Nov 2026 00:52:06 +0000\r\n");
}

/* A submission's client may keep to itself where it sits and who it is. */
static void test_client(void **state)
{
    (void)state;
    struct trace_received received = plain;
    received.user = "anna (x)\r\nBcc: y";
    check_received(&received,
                   "Received: from client.example ([192.0.2.1]) (user anna ?x???Bcc: y)\r\n"
                   " by mail.example.com with ESMTPS (TLS1.3 TLS_AES_256_GCM_SHA384)\r\n"
                   " id 0ABCDEFGHJKMN for <bob@example.net>; Wed, 25 Nov 2026 00:52:06 +0000\r\n");
    received.private_client = true;
    check_received(&received,
                   "Received: by mail.example.com with ESMTPS (TLS1.3 TLS_AES_256_GCM_SHA384)\r\n"
                   " id 0ABCDEFGHJKMN for <bob@example.net>; Wed, 25 Nov 2026 00:52:06 +0000\r\n");
}

static void test_protocol(void **state)
{
    (void)state;
    static const struct {
        struct trace_session session;
        const char *name;
    } cases[] = {
        {{.extended = false}, "SMTP"},
        {{.tls = true}, "SMTP"}, /* there is no name for it */
        {{.extended = true}, "ESMTP"},
        {{.extended = true, .tls = true}, "ESMTPS"},
        {{.extended = true, .logged_in = true}, "ESMTPA"},
        {{.extended = true, .tls = true, .logged_in = true}, "ESMTPSA"},
        {{.extended = true, .utf8 = true}, "UTF8SMTP"},
        {{.extended = true, .utf8 = true, .tls = true, .logged_in = true}, "UTF8SMTPSA"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(trace_protocol(cases[i].session), cases[i].name);
}

static void test_from(void **state)
{
    (void)state;
    static const struct {
        const char *sender, *field;
    } cases[] = {
        {"anna@sender.example", "From: anna@sender.example\r\n"},
        {"\"a b\"@x", "From: \"a b\"@x\r\n"},
        {"", "From: Mail Delivery System <MAILER-DAEMON@mail.example.com>\r\n"},
        {"root", ""}, /* nobody outside could answer that */
        {"a@b\r\nBcc: c", ""},
        {"j\xc3\xb6rg@x", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf buf;
        buf_init(&buf, 1024);
        assert_true(trace_add_from(cases[i].sender, "mail.example.com", &buf));
        assert_true(str_equal(buf_str(&buf), str_from(cases[i].field)));
        buf_deinit(&buf);
    }
}

/* What a client says must not become a clause, a comment, a line or a field (cases O20). */
static const struct helo_case {
    struct str helo;
    const char *written;
} helo_cases[] = {
    {{"a_b-c.example", 13}, "a_b-c.example"},
    {{"[IPv6:2001:db8::1]", 18}, "[IPv6:2001:db8::1]"},
    {{"x\r\nBcc: y", 9}, "x??Bcc:?y"},
    {{"x) by evil (y", 13}, "x??by?evil??y"},
    {{"a;b<c>\"d\\", 9}, "a?b?c??d?"},
    {{"a\0b\x1b\x80\xff", 6}, "a?b???"},
    {{"%s%n", 4}, "?s?n"},
};

static void test_helo(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof helo_cases / sizeof helo_cases[0]; i++) {
        struct trace_received received = plain;
        struct buf buf;
        char expected[100] = "Received: from ";
        memcpy(expected + 15, helo_cases[i].written, strlen(helo_cases[i].written));
        memcpy(expected + 15 + strlen(helo_cases[i].written), " ([", 4);

        received.helo = helo_cases[i].helo;
        buf_init(&buf, 4096);
        assert_true(trace_add_received(&received, &buf));
        check_shape(buf_str(&buf), 78);
        assert_true(str_starts_nocase(buf_str(&buf), str_from(expected)));
        buf_deinit(&buf);
    }
}

static void test_long_words(void **state)
{
    (void)state;
    struct trace_received received = plain;
    char helo[3000];
    char recipient[600];
    struct buf buf;

    memset(helo, 'h', sizeof helo);
    memset(recipient, 'r', sizeof recipient);
    recipient[500] = '\0';
    received.helo = (struct str){helo, sizeof helo};
    received.recipient = recipient;
    buf_init(&buf, 4096);
    assert_true(trace_add_received(&received, &buf));
    check_shape(buf_str(&buf), 1 + 4 + 500 + 3);
    buf_deinit(&buf);
}

/* "for" is left out rather than written wrong. */
static void test_recipient_that_cannot_be_named(void **state)
{
    (void)state;
    static const char *const recipients[] = {"", "a\r\nX: y@b", "b\xc3\xb6@c", "a\x7f@b", "a\tb@c"};
    for (size_t i = 0; i < sizeof recipients / sizeof recipients[0]; i++) {
        struct trace_received received = plain;
        received.tls = "";
        received.recipient = recipients[i];
        check_received(&received, "Received: from client.example ([192.0.2.1])\r\n"
                                  " by mail.example.com with ESMTPS id 0ABCDEFGHJKMN;\r\n"
                                  " Wed, 25 Nov 2026 00:52:06 +0000\r\n");
    }
}

static void test_comment(void **state)
{
    (void)state;
    struct trace_received received = plain;
    received.tls = "a)(b\\c\r\nd";
    received.recipient = NULL;
    check_received(&received, "Received: from client.example ([192.0.2.1])\r\n"
                              " by mail.example.com with ESMTPS (a??b?c??d) id 0ABCDEFGHJKMN;\r\n"
                              " Wed, 25 Nov 2026 00:52:06 +0000\r\n");
}

static void test_date_and_message_id(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 4096);
    assert_true(trace_add_date(NOW, &buf));
    assert_true(trace_add_message_id("0ABCDEFGHJKMN", "mail.example.com", NOW, &buf));
    assert_true(str_equal(buf_str(&buf),
                          STR("Date: Wed, 25 Nov 2026 00:52:06 +0000\r\n"
                              "Message-ID: <1795567926123.0ABCDEFGHJKMN@mail.example.com>\r\n")));
    buf_deinit(&buf);
}

static void test_no_room(void **state)
{
    (void)state;
    struct buf buf;
    for (size_t max = 0; max < 60; max++) {
        buf_init(&buf, max);
        assert_false(trace_add_received(&plain, &buf));
        assert_true(buf_len(&buf) <= max);
        buf_deinit(&buf);
    }
    buf_init(&buf, 20);
    assert_false(trace_add_date(NOW, &buf));
    buf_clear(&buf);
    assert_false(trace_add_message_id("i", "h", NOW, &buf));
    buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_received),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_protocol),
        cmocka_unit_test(test_from),
        cmocka_unit_test(test_helo),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_recipient_that_cannot_be_named),
        cmocka_unit_test(test_comment),
        cmocka_unit_test(test_date_and_message_id),
        cmocka_unit_test(test_no_room),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
