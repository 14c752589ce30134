/* Notifications: their structure, what each part says, and what foreign bytes cannot do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mta/mail/dsn.h"
#include "mta/mail/header.h"

#define NOW INT64_C(1795567926123) /* 2026-11-25T00:52:06.123Z */

static const struct dsn_recipient bob = {
    .address = "bob@example.net",
    .status = "5.1.1",
    .code = 550,
    .text = "No such user",
    .remote_host = "mx.example.net",
    .last_attempt_unix_ms = NOW,
};

static struct dsn make_dsn(const struct dsn_recipient *recipients, size_t count)
{
    return (struct dsn){
        .reporting_mta = "mail.example.com",
        .to = "alice@example.com",
        .id = "0ABCDEFGHJKMN",
        .own_id = "0ABCDEFGHJKMP",
        .arrival_unix_ms = NOW - 3600000,
        .now_unix_ms = NOW,
        .recipients = recipients,
        .recipient_count = count,
        .original_header = STR("From: Alice <alice@example.com>\r\nTo: bob@example.net\r\n"
                               "Subject: Lunch\r\nMessage-ID:\r\n <1@example.com>\r\n"),
    };
}

/* A notification taken apart. */
struct report {
    struct buf message;
    bool is_8bit;
    struct str header;
    struct str parts[3]; /* fields and content of each */
};

static struct str find(struct str s, const char *text)
{
    const char *at = s.len > 0 ? memmem(s.p, s.len, text, strlen(text)) : NULL;
    return at == NULL ? (struct str){NULL, 0} : str_skip(s, (size_t)(at - s.p));
}

static bool holds(struct str s, const char *text)
{
    return find(s, text).p != NULL;
}

static size_t count(struct str s, const char *text)
{
    size_t n = 0;
    for (s = find(s, text); s.p != NULL; s = find(str_skip(s, 1), text))
        n++;
    return n;
}

/* Every line ends in CRLF and is short enough; no control bytes. */
static void check_lines(struct str s, bool is_8bit)
{
    size_t column = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\r') {
            assert_true(i + 1 < s.len && s.p[i + 1] == '\n');
            i++;
            column = 0;
            continue;
        }
        assert_true(c == '\t' || (c >= ' ' && c != 0x7f));
        assert_true(is_8bit || c < 0x80);
        column++;
        assert_true(column <= 998);
    }
    assert_int_equal(column, 0);
}

static void check_fields(struct str section)
{
    struct header_walk walk;
    struct header_field field;
    size_t bytes = 0;
    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        assert_true(field.name.len > 0);
        bytes += field.whole.len;
    }
    assert_int_equal(bytes, section.len);
}

static void split_parts(struct report *report, struct str body)
{
    char delimiter[128];
    struct str value = find(report->header, "boundary=\"");
    assert_non_null(value.p);
    value = str_skip(value, strlen("boundary=\""));
    size_t len = (size_t)(strchr(value.p, '"') - value.p);
    (void)snprintf(delimiter, sizeof delimiter, "\r\n--%.*s", (int)len, value.p);

    assert_int_equal(count(body, delimiter), 4);
    for (size_t i = 0; i < 3; i++) {
        body = str_skip(find(body, delimiter), strlen(delimiter) + 2);
        struct str next = find(body, delimiter);
        report->parts[i] = (struct str){body.p, (size_t)(next.p - body.p)};
    }
    body = str_skip(find(body, delimiter), strlen(delimiter));
    assert_true(str_equal(body, STR("--\r\n")));
}

static void build(const struct dsn *dsn, struct report *report)
{
    size_t header_len = 0;
    buf_init(&report->message, DSN_SIZE_MAX(dsn->recipient_count));
    assert_true(dsn_build(dsn, &report->message, &header_len, &report->is_8bit));

    struct str all = buf_str(&report->message);
    size_t end;
    size_t body;
    check_lines(all, report->is_8bit);
    assert_true(header_section_end(all, &end, &body));
    assert_int_equal(end, header_len);
    report->header = (struct str){all.p, header_len};
    check_fields(report->header);
    split_parts(report, str_skip(all, header_len));
    assert_true(holds(report->header, report->is_8bit ? "\r\nContent-Transfer-Encoding: 8bit\r\n"
                                                      : "\r\nContent-Transfer-Encoding: 7bit\r\n"));
    assert_true(str_starts_nocase(report->parts[0], STR("Content-Type: text/plain")));
    assert_true(
        str_starts_nocase(report->parts[1], STR("Content-Type: message/delivery-status\r\n")));
    assert_true(str_starts_nocase(report->parts[2], STR("Content-Type: text/rfc822-headers\r\n")));
    /* One group for the message and one for each recipient; each holds fields only. */
    struct str groups = find(report->parts[1], "\r\n\r\n");
    assert_int_equal(count(groups, "\r\n\r\n"), 1 + dsn->recipient_count);
}

static struct str content(struct str part)
{
    return str_skip(find(part, "\r\n\r\n"), 4);
}

static void test_whole(void **state)
{
    (void)state;
    struct dsn dsn = make_dsn(&bob, 1);
    struct report report;
    build(&dsn, &report);
    assert_false(report.is_8bit);
    assert_true(str_starts_nocase(
        report.header, STR("From: Mail Delivery System <MAILER-DAEMON@mail.example.com>\r\n"
                           "To: <alice@example.com>\r\n"
                           "Subject: Your message could not be delivered\r\n"
                           "Date: Wed, 25 Nov 2026 00:52:06 +0000\r\n"
                           "Message-ID: <0ABCDEFGHJKMP@mail.example.com>\r\n"
                           "In-Reply-To: <1@example.com>\r\n"
                           "References: <1@example.com>\r\n"
                           "Auto-Submitted: auto-replied\r\n"
                           "MIME-Version: 1.0\r\n"
                           "Content-Type: multipart/report; report-type=delivery-status;\r\n")));
    assert_false(holds(report.header, "Received:"));
    assert_true(str_equal(content(report.parts[1]),
                          STR("Reporting-MTA: dns; mail.example.com\r\n"
                              "X-Queue-ID: 0ABCDEFGHJKMN\r\n"
                              "Arrival-Date: Tue, 24 Nov 2026 23:52:06 +0000\r\n"
                              "\r\n"
                              "Final-Recipient: rfc822; bob@example.net\r\n"
                              "Action: failed\r\n"
                              "Status: 5.1.1\r\n"
                              "Remote-MTA: dns; mx.example.net\r\n"
                              "Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"
                              "Last-Attempt-Date: Wed, 25 Nov 2026 00:52:06 +0000\r\n")));
    assert_true(str_equal(content(report.parts[2]), dsn.original_header));
    assert_true(holds(report.parts[0], "<bob@example.net>"));
    assert_true(holds(report.parts[0], "The server mx.example.net answered:\r\n"));
    assert_true(holds(report.parts[0], "550 5.1.1 No such user\r\n"));
    assert_true(holds(report.parts[0], "\r\n- The address does not exist there"));
    buf_deinit(&report.message);
}

/* A notice of delay: Action, a 4.x Status always, and until when it will be tried (RFC 3464 section
 * 2.3.9); no words of giving up, and no advice but to wait. */
static void test_delayed(void **state)
{
    static const struct dsn_recipient recipients[] = {
        {.address = "bob@example.net",
         .status = "4.2.1",
         .code = 451,
         .text = "try later",
         .remote_host = "mx.example.net",
         .last_attempt_unix_ms = NOW},
        {.address = "carl@example.net", .status = "5.7.1", .text = "connection timed out"},
        {.address = "dora@example.net"},
    };
    (void)state;
    struct dsn dsn = make_dsn(recipients, 3);
    struct report report;
    dsn.kind = DSN_DELAYED;
    dsn.retry_until_unix_ms = NOW + 86400000;
    dsn.more_recipients = 42;
    build(&dsn, &report);
    assert_true(
        holds(report.header, "\r\nSubject: Your message is delayed and will be tried again\r\n"));
    assert_true(holds(report.parts[1], "Final-Recipient: rfc822; bob@example.net\r\n"
                                       "Action: delayed\r\n"
                                       "Status: 4.2.1\r\n"
                                       "Remote-MTA: dns; mx.example.net\r\n"
                                       "Diagnostic-Code: smtp; 451 4.2.1 try later\r\n"
                                       "Last-Attempt-Date: Wed, 25 Nov 2026 00:52:06 +0000\r\n"
                                       "Will-Retry-Until: Thu, 26 Nov 2026 00:52:06 +0000\r\n"));
    assert_int_equal(count(report.parts[1], "\r\nAction: delayed\r\nStatus: 4.0.0\r\n"), 2);
    assert_int_equal(count(report.parts[1], "\r\nWill-Retry-Until: "), 3);
    assert_true(holds(report.parts[0], "At the last try: the server mx.example.net answered:"));
    assert_true(holds(report.parts[0], "until Thu, 26 Nov 2026 00:52:06 +0000. If"));
    assert_true(holds(report.parts[0], "The same holds for 42 more."));
    assert_true(holds(report.parts[0], "You need not do anything"));
    assert_false(holds(report.parts[0], "sorry"));
    assert_false(holds(report.parts[0], "What you can do"));
    buf_deinit(&report.message);

    dsn.retry_until_unix_ms = 0;
    build(&dsn, &report);
    assert_int_equal(count(report.parts[1], "Will-Retry-Until: "), 0);
    assert_true(holds(report.parts[0], "again. If it fails"));
    buf_deinit(&report.message);
}

static const struct recipient_case {
    struct dsn_recipient recipient;
    const char *status;     /* in the report */
    const char *diagnostic; /* NULL: none */
    const char *words;
} recipient_cases[] = {
    {{.address = "a@b", .status = "5.1.2", .text = "no such domain"},
     "5.1.2",
     "x-mta; no such domain",
     "behind the @"},
    {{.address = "a@b",
      .status = "4.4.1",
      .text = "connection timed out",
      .expired = true,
      .remote_host = "mx"},
     "4.4.1",
     "x-mta; connection timed out",
     "Given up after several tries. At the last one: no success"},
    {{.address = "a@b", .status = "4.4.7", .code = 451, .text = "later", .expired = true},
     "4.4.7",
     "smtp; 451 4.4.7 later",
     "At the last one: the recipient's"},
    {{.address = "a@b", .status = "5.2.2", .code = 552, .text = "full"},
     "5.2.2",
     "smtp; 552 5.2.2 full",
     "mailbox is full"},
    {{.address = "a@b", .status = "5.3.4", .code = 552, .text = "big"},
     "5.3.4",
     "smtp; 552 5.3.4 big",
     "too large"},
    {{.address = "a@b", .status = "5.7.26", .code = 550, .text = ""},
     "5.7.26",
     "smtp; 550 5.7.26",
     "its own rules"},
    {{.address = "a@b", .status = "5.1.10", .code = 556, .text = "null MX"},
     "5.1.10",
     "smtp; 556 5.1.10 null MX",
     "behind the @"},
    {{.address = "a@b", .status = "5.4.6", .text = "loop"},
     "5.4.6",
     "x-mta; loop",
     "administrator"},
    {{.address = "a@b"}, "5.0.0", NULL, "the reason is not known"},
    /* No status of a failure. */
    {{.address = "a@b", .status = "2.0.0", .text = "x"}, "5.0.0", "x-mta; x", "administrator"},
    {{.address = "a@b", .status = "5.1", .text = "x"}, "5.0.0", "x-mta; x", "administrator"},
    {{.address = "a@b", .status = "5.1.1\r\nX: y", .text = "x"}, "5.0.0", "x-mta; x", "a"},
    {{.address = "a@b", .status = "5.1234.1", .text = "x"}, "5.0.0", "x-mta; x", "a"},
    {{.address = "a@b", .status = "5..1", .text = "x"}, "5.0.0", "x-mta; x", "a"},
    /* Replies of all kinds (cases O20). */
    {{.address = "a@b", .status = "5.0.0", .code = 550, .text = "two\r\nlines\n\nmore\t  text "},
     "5.0.0",
     "smtp; 550 5.0.0 two lines more text",
     "two lines more text"},
    {{.address = "a@b", .status = "5.0.0", .code = 550, .text = "\x1b[2J\x80\xff\x01 %s%n"},
     "5.0.0",
     "smtp; 550 5.0.0 \\x1B[2J\\x80\\xFF\\x01 %s%n",
     "\\x1B[2J\\x80\\xFF\\x01 %s%n"},
    {{.address = "a@b", .status = "5.0.0", .code = 550, .text = "x\r\nAction: delivered"},
     "5.0.0",
     "smtp; 550 5.0.0 x Action: delivered",
     "x Action: delivered"},
};

static void test_recipients(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recipient_cases / sizeof recipient_cases[0]; i++) {
        const struct recipient_case *row = &recipient_cases[i];
        struct dsn dsn = make_dsn(&row->recipient, 1);
        struct report report;
        char line[400];
        build(&dsn, &report);
        (void)snprintf(line, sizeof line, "\r\nAction: failed\r\nStatus: %s\r\n", row->status);
        assert_true(holds(report.parts[1], line));
        if (row->diagnostic != NULL) {
            (void)snprintf(line, sizeof line, "\r\nDiagnostic-Code: %s\r\n", row->diagnostic);
            assert_true(holds(report.parts[1], line));
        } else {
            assert_false(holds(report.parts[1], "Diagnostic-Code"));
        }
        assert_int_equal(holds(report.parts[1], "Remote-MTA:"), row->recipient.remote_host != NULL);
        assert_false(holds(report.parts[1], "Last-Attempt-Date"));
        assert_true(holds(report.parts[0], row->words));
        buf_deinit(&report.message);
    }
}

static void test_foreign_addresses(void **state)
{
    (void)state;
    struct dsn_recipient recipient = bob;
    struct report report;
    recipient.address = "x\r\nAction: delivered\r\n\r\n@\x80\xc3\xa4";
    recipient.remote_host = "mx\r\n\r\nX: y";
    struct dsn dsn = make_dsn(&recipient, 1);
    dsn.to = "al\r\nBcc: ice\x01@b\xc3\xb6se";
    build(&dsn, &report);
    assert_true(holds(report.header, "\r\nTo: <al??Bcc: ice?@b??se>\r\n"));
    assert_true(
        holds(report.parts[1], "\r\nFinal-Recipient: rfc822; x??Action: delivered????@???\r\n"));
    assert_true(holds(report.parts[1], "\r\nRemote-MTA: dns; mx????X: y\r\n"));
    buf_deinit(&report.message);
}

static void test_many_recipients(void **state)
{
    (void)state;
    enum { MANY = 250 };
    static char addresses[MANY][32];
    static struct dsn_recipient recipients[MANY];
    struct report report;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "user%d@example.net", i);
        recipients[i] = bob;
        recipients[i].address = addresses[i];
        if (i % 2 == 0)
            recipients[i].status = "5.2.2";
    }
    struct dsn dsn = make_dsn(recipients, MANY);
    build(&dsn, &report);
    assert_int_equal(count(report.parts[1], "\r\nFinal-Recipient: rfc822; user"), MANY);
    assert_true(holds(report.parts[1], "user249@"));
    assert_int_equal(count(report.parts[0], "  <user"), 100);
    assert_true(holds(report.parts[0], "and 150 more"));
    assert_int_equal(count(report.parts[0], "\r\n- "), 2); /* each advice once */
    buf_deinit(&report.message);
}

/* The largest of everything fits into what the header promises. */
static void test_largest(void **state)
{
    (void)state;
    enum { MANY = 300 };
    static struct dsn_recipient recipients[MANY];
    const size_t size = 100000;
    char *one_word = malloc(size + 1);
    char *many_words = malloc(size + 1);
    char *binary = malloc(size + 1);
    struct report report;

    assert_non_null(one_word);
    assert_non_null(many_words);
    assert_non_null(binary);
    memset(one_word, 'x', size);
    memset(binary, 0x80, size);
    for (size_t i = 0; i < size; i++)
        many_words[i] = i % 2 == 0 ? 'y' : ' ';
    one_word[size] = many_words[size] = binary[size] = '\0';
    for (size_t i = 0; i < MANY; i++)
        recipients[i] = (struct dsn_recipient){
            .address = one_word,
            .status = "5.999.999",
            .code = 999,
            .text = i % 3 == 0   ? one_word
                    : i % 3 == 1 ? many_words
                                 : binary,
            .remote_host = one_word,
            .last_attempt_unix_ms = NOW,
            .expired = true,
        };
    struct dsn dsn = make_dsn(recipients, MANY);
    dsn.to = one_word;
    dsn.original_header = (struct str){one_word, size};
    build(&dsn, &report);
    dsn.original_header = (struct str){binary, 60000}; /* one line, which is folded */
    buf_deinit(&report.message);
    build(&dsn, &report);
    assert_true(report.is_8bit);
    assert_true(report.parts[2].len > 60000);
    buf_deinit(&report.message);
    free(one_word);
    free(many_words);
    free(binary);
}

static void test_original_is_cut(void **state)
{
    (void)state;
    const size_t lines = 3000;
    char *section = malloc(lines * 32 + 1);
    struct report report;
    assert_non_null(section);
    for (size_t i = 0; i < lines; i++)
        (void)snprintf(section + i * 32, 33, "X-Field-%04zu: 1234567890123456\r\n", i);
    struct dsn dsn = make_dsn(&bob, 1);
    dsn.original_header = (struct str){section, lines * 32};
    build(&dsn, &report);
    struct str got = content(report.parts[2]);
    assert_int_equal(got.len, 65536);
    assert_memory_equal(got.p, section, got.len);
    buf_deinit(&report.message);
    free(section);
}

static const struct original_case {
    struct str section;
    const char *content;
    bool is_8bit;
} original_cases[] = {
    {STR(""), "", false},
    {STR("A: b"), "A: b\r\n", false},
    {STR("A: b\r\n\r\nbody"), "A: b\r\n", false},
    {STR("A: \xc3\xa4\r\n"), "A: \xc3\xa4\r\n", true},
    {STR("A: b\0c\nD\rE\r\n"), "A: b?c?D?E\r\n", false},
};

static void test_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof original_cases / sizeof original_cases[0]; i++) {
        struct dsn dsn = make_dsn(&bob, 1);
        struct report report;
        dsn.original_header = original_cases[i].section;
        build(&dsn, &report);
        assert_true(str_equal(content(report.parts[2]), str_from(original_cases[i].content)));
        assert_int_equal(report.is_8bit, original_cases[i].is_8bit);
        assert_int_equal(holds(report.parts[2], "\r\nContent-Transfer-Encoding: 8bit\r\n"),
                         original_cases[i].is_8bit);
        buf_deinit(&report.message);
    }
}

/* A sender who guesses our ids still cannot end a part. */
static void test_boundary_is_new(void **state)
{
    (void)state;
    struct dsn dsn = make_dsn(&bob, 1);
    struct report report;
    struct buf section;
    buf_init(&section, 65536);
    for (int i = 0; i < 1000; i++) {
        if (i != 700)
            assert_true(buf_printf(&section, "--=_0ABCDEFGHJKMP_%d\r\n", i));
    }
    dsn.original_header = buf_str(&section);
    build(&dsn, &report);
    assert_true(holds(report.header, "boundary=\"=_0ABCDEFGHJKMP_700\""));
    buf_deinit(&report.message);
    buf_deinit(&section);
}

static const struct reference_case {
    const char *section;
    bool refers;
} reference_cases[] = {
    {"", false},
    {"Message-ID: <a@b>\r\n", true},
    {"Subject: x\r\nmessage-id:\r\n\t<a@b> \r\nA: b\r\n", true},
    {"Message-ID: a@b\r\n", false},
    {"Message-ID: <a b>\r\n", false},
    {"Message-ID: <a\r\n b>\r\n", false},
    {"Message-ID: <\xc3\xa4>\r\n", false},
    {"Message-ID:\r\n", false},
    {"Message-ID: <>\r\n", false},
};

static void test_references(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof reference_cases / sizeof reference_cases[0]; i++) {
        struct dsn dsn = make_dsn(&bob, 1);
        struct report report;
        dsn.original_header = str_from(reference_cases[i].section);
        build(&dsn, &report);
        assert_int_equal(holds(report.header, "\r\nReferences: <a@b>\r\n"),
                         reference_cases[i].refers);
        assert_int_equal(holds(report.header, "In-Reply-To:"), reference_cases[i].refers);
        buf_deinit(&report.message);
    }
}

static void test_no_room(void **state)
{
    (void)state;
    struct dsn dsn = make_dsn(&bob, 1);
    size_t header_len = 7;
    bool is_8bit = true;
    size_t ignored_len;
    bool ignored;
    struct buf out;
    buf_init(&out, DSN_SIZE_MAX(1));
    assert_true(dsn_build(&dsn, &out, &ignored_len, &ignored));
    size_t len = buf_len(&out);
    buf_deinit(&out);
    for (size_t max = len % 10; max < len; max += 10) {
        buf_init(&out, max);
        assert_false(dsn_build(&dsn, &out, &header_len, &is_8bit));
        assert_true(buf_len(&out) <= max);
        buf_deinit(&out);
    }
    assert_int_equal(header_len, 7);
    assert_true(is_8bit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),           cmocka_unit_test(test_delayed),
        cmocka_unit_test(test_recipients),      cmocka_unit_test(test_foreign_addresses),
        cmocka_unit_test(test_many_recipients), cmocka_unit_test(test_largest),
        cmocka_unit_test(test_original_is_cut), cmocka_unit_test(test_original),
        cmocka_unit_test(test_boundary_is_new), cmocka_unit_test(test_references),
        cmocka_unit_test(test_no_room),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
