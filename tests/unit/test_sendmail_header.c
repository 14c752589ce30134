/* The header section from standard input: where it ends, whom it names, what is sent of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/sendmail/header.h"

static const struct end_row {
    const char *in, *section, *body;
} end_rows[] = {
    {"", "", ""},
    {"\r\nbody\r\n", "", "body\r\n"},
    {"To: a\r\n\r\nbody\r\n", "To: a\r\n", "body\r\n"},
    {"To: a\r\n b\r\nX:\r\n\r\n\r\nbody\r\n", "To: a\r\n b\r\nX:\r\n", "\r\nbody\r\n"},
    {"To: a\r\n", "To: a\r\n", ""},
    {"To: a\r\nHello there\r\n\r\nmore\r\n", "To: a\r\n", "Hello there\r\n\r\nmore\r\n"},
    {"just text\r\nTo: a\r\n", "", "just text\r\nTo: a\r\n"},
    {" indented\r\nTo: a\r\n", "", " indented\r\nTo: a\r\n"},
    {"From a@b Wed Nov 25\r\nTo: a\r\n\r\nbody\r\n", "To: a\r\n", "body\r\n"},
    {"From a@b\r\n>From c@d\r\nTo: a\r\n\r\nFrom me\r\n", "To: a\r\n", "From me\r\n"},
    {"From a@b\r\n\r\nbody\r\n", "", "body\r\n"},
    {"To: a\r\nFrom b\r\n", "To: a\r\n", "From b\r\n"},
};

static void assert_text(struct str got, const char *expected)
{
    if (!str_equal(got, str_from(expected)))
        fail_msg("got '%.*s', expected '%s'", (int)got.len, got.p, expected);
}

static void test_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof end_rows / sizeof end_rows[0]; i++) {
        const struct end_row *row = &end_rows[i / 2];
        struct sendmail_header header;
        size_t len = strlen(row->in), step = i % 2 == 0 ? len + 1 : 1;
        sendmail_header_init(&header);
        for (size_t at = 0; at < len; at += step) {
            assert_true(buf_add(&header.bytes, row->in + at, len - at < step ? len - at : step));
            assert_true(sendmail_header_look(&header, false) >= 0);
        }
        assert_int_equal(sendmail_header_look(&header, true), 1);
        assert_text(sendmail_header_section(&header), row->section);
        assert_text(sendmail_header_body(&header), row->body);
        sendmail_header_deinit(&header);
    }
}

static void test_bound(void **state)
{
    (void)state;
    static const char line[] =
        "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
    struct sendmail_header header;
    size_t len = 0;
    sendmail_header_init(&header);
    while (len + sizeof line - 1 <= SENDMAIL_HEADER_MAX) {
        assert_true(buf_add_text(&header.bytes, line));
        len += sizeof line - 1;
        assert_int_equal(sendmail_header_look(&header, false), 0);
    }
    assert_true(buf_add_text(&header.bytes, line));
    assert_int_equal(sendmail_header_look(&header, false), -1);
    sendmail_header_deinit(&header);

    sendmail_header_init(&header); /* one line without an end */
    char *space = buf_reserve(&header.bytes, SENDMAIL_HEADER_MAX + 1);
    assert_non_null(space);
    memset(space, 'a', SENDMAIL_HEADER_MAX + 1);
    buf_filled(&header.bytes, SENDMAIL_HEADER_MAX + 1);
    assert_int_equal(sendmail_header_look(&header, false), -1);
    sendmail_header_deinit(&header);
}

static const struct recipient_row {
    const char *section, *recipients; /* NULL: refused */
} recipient_rows[] = {
    {"Subject: x\r\n", ""},
    {"To: a@b\r\nCc: c@d, e@f\r\nbcc : root\r\nX-To: g@h\r\n", "a@b c@d e@f root"},
    {"To: a@b\r\nTO: c@d\r\n", "a@b c@d"},
    {"To: undisclosed-recipients:;\r\nBcc: \"B, B\" <a@b>\r\n", "a@b"},
    {"To: a@b\r\nResent-To: c@d\r\nResent-Bcc: e@f\r\nCc: g@h\r\n", "c@d e@f"},
    {"To: a@b\r\nResent-From: c@d\r\nResent-Date: now\r\n", "a@b"},
    {"To: \"x\r\n y\"@b\r\n", NULL}, /* a line end in the address */
    {"To: a@[1\r\n RCPT TO:<evil@x>]\r\n", NULL},
    {"To: a@b, John Doe\r\n", NULL},
    {"To: a@b, <\r\n", NULL},
    {"To: a@b\r\nCc: c@d <e\r\n", NULL},
    {"To: \"a b\"@c, <@x:d@e>\r\n", "\"a b\"@c d@e"},
};

static void test_recipients(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recipient_rows / sizeof recipient_rows[0]; i++) {
        const struct recipient_row *row = &recipient_rows[i];
        struct sendmail_recipients recipients = {0};
        char error[300], found[300] = "";
        int rc =
            sendmail_header_recipients(str_from(row->section), &recipients, error, sizeof error);
        assert_int_equal(rc, row->recipients != NULL ? 0 : -1);
        for (size_t n = 0; n < recipients.count; n++) {
            size_t len = strlen(found);
            (void)snprintf(found + len, sizeof found - len, "%s%s", n > 0 ? " " : "",
                           recipients.addresses[n]);
        }
        if (rc == 0)
            assert_string_equal(found, row->recipients);
        sendmail_recipients_deinit(&recipients);
    }
}

static void test_error_text(void **state)
{
    (void)state;
    struct sendmail_recipients recipients = {0};
    char error[300];
    assert_int_equal(sendmail_recipients_add(&recipients, STR("a@b, \x1b[2J J\xc3\xb6rg D"), error,
                                             sizeof error),
                     -1);
    assert_string_equal(error, "not to be read as an address: \"?[2J J??rg D\"");
    assert_int_equal(sendmail_recipients_add(&recipients, STR("John Doe"), error, sizeof error),
                     -1);
    assert_string_equal(error, "words without an address: \"John Doe\"");
    sendmail_recipients_deinit(&recipients);
}

static void test_sender(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},         {"<>", ""},          {" <> ", ""},     {"a@b", "a@b"},
        {"root", "root"}, {"Me <a@b>", "a@b"}, {"<a@b>", "a@b"}, {"a@b, c@d", NULL},
        {"a b", NULL},    {"a@b>", NULL},      {",", NULL},      {"a@b\r\nX", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[300];
        char *sender = sendmail_sender_read(str_from(cases[i].in), error, sizeof error);
        if (cases[i].out == NULL)
            assert_null(sender);
        else
            assert_string_equal(sender, cases[i].out);
        free(sender);
    }
}

static void test_written(void **state)
{
    (void)state;
    static const struct {
        const char *section, *name, *sender;
        bool from_header;
        const char *out;
    } cases[] = {
        {"To: a\r\nBcc: b\r\n", NULL, "me", true, "To: a\r\n\r\n"},
        {"To: a\r\nBcc: b\r\n", NULL, "me", false, "To: a\r\nBcc: b\r\n\r\n"},
        {"", "CronDaemon", "root", false, "From: \"CronDaemon\"\r\n <root>\r\n\r\n"},
        {"from: x\r\n", "CronDaemon", "root", false, "from: x\r\n\r\n"},
        {"", "CronDaemon", "", false, "\r\n"},
        {"", "", "root", false, "\r\n"},
        {"", "a \"b\" \\c\r\nBcc: d", "root", false,
         "From: \"a \\\"b\\\" \\\\c??Bcc: d\"\r\n <root>\r\n\r\n"},
        {"", "J\xc3\xb6rg M", "root", false, "From: =?utf-8?q?J=C3=B6rg=20M?=\r\n <root>\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sendmail_options options = {.name = cases[i].name,
                                           .from_header = cases[i].from_header};
        struct str section = str_from(cases[i].section);
        struct buf out;
        buf_init(&out, section.len + SENDMAIL_ADDED_MAX);
        sendmail_header_write(section, &options, cases[i].sender, &out);
        assert_text(buf_str(&out), cases[i].out);
        buf_deinit(&out);
    }
}

/* The longest name and sender that can be. */
static void test_room(void **state)
{
    (void)state;
    char name[1000], sender[1001];
    struct buf out;
    memset(name, 0xe4, sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memset(sender, 'a', sizeof sender - 1);
    sender[sizeof sender - 1] = '\0';
    struct sendmail_options options = {.name = name};
    buf_init(&out, SENDMAIL_ADDED_MAX);
    sendmail_header_write(STR(""), &options, sender, &out);
    assert_false(out.overflow);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_recipients), cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_sender),     cmocka_unit_test(test_written),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
