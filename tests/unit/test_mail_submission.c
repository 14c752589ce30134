/* What submission takes out of a header section, completes in it, and refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/submission.h"

static const struct row {
    const char *in, *out; /* out NULL: unchanged */
} rows[] = {
    {"", NULL},
    {"Subject: x\r\nTo: a@b\r\n", NULL},
    /* Bcc in every form that it comes in (cases O40) */
    {"Bcc: a@x,\r\n b@y\r\nTo: c@z\r\n", "To: c@z\r\n"},
    {"To: c@z\r\nbcc : a@x\r\n", "To: c@z\r\n"},
    {"BCC\t:a@x\r\nTo: c@z\r\nBcc: b@y\r\n", "To: c@z\r\n"},
    {"Bcc:\r\nTo: c@z\r\n", "To: c@z\r\n"},
    {"Resent-Bcc: a@x\r\nTo: c@z\r\n", "To: c@z\r\n"},
    {"Bcc: \"open\r\n <@\r\nTo: c@z\r\n", "To: c@z\r\n"}, /* unreadable, gone all the same */
    {"Bcc: a@x", ""},                                     /* without its CRLF */
    {"no field\r\nBcc: a@x\r\nTo: c@z\r\n", "no field\r\nTo: c@z\r\n"},
    {"X-Bcc: a\r\nBcc2: b\r\nX: Bcc: c\r\n", NULL},
    {"Subject: x\r\n Bcc: folded text\r\n", NULL},
    {"From a@b\r\nBcc: a@x\r\n", "From a@b\r\n"},
    /* local parts alone */
    {"From: root (Cron Daemon)\r\nTo: root\r\n",
     "From: root@dom.example (Cron Daemon)\r\nTo: root@dom.example\r\n"},
    {"From: \"Cron\" <root>\r\n", "From: \"Cron\" <root@dom.example>\r\n"},
    {"To: a, b,\r\n c\r\n", "To: a@dom.example, b@dom.example,\r\n c@dom.example\r\n"},
    {"To: a, b@c\r\n", NULL},            /* names a domain */
    {"From: Doe, John <j@d>\r\n", NULL}, /* an unquoted comma */
    {"From: John Doe\r\n", NULL},        /* words */
    {"From: \"John\"\r\n", NULL},
    {"To: root, <open\r\n", NULL}, /* unreadable */
    {"Reply-To: x\r\n", "Reply-To: x@dom.example\r\n"},
    {"Resent-From: x\r\nResent-Date: y\r\n", "Resent-From: x@dom.example\r\nResent-Date: y\r\n"},
    {"X-To: root\r\nSubject: root\r\n", NULL},
};

static void check(const char *in, const char *domain, const char *expected)
{
    struct str section = str_from(in);
    struct buf out;
    buf_init(&out, section.len + SUBMISSION_COMPLETED_MAX);
    assert_true(submission_copy_header(section, domain, &out));
    if (!str_equal(buf_str(&out), str_from(expected)))
        fail_msg("'%s' became '%.*s'", in, (int)buf_len(&out), buf_str(&out).p);
    buf_deinit(&out);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(rows[i].in, "dom.example", rows[i].out != NULL ? rows[i].out : rows[i].in);
    check("To: root\r\nBcc: a@x\r\n", NULL, "To: root\r\n");
}

static void test_line_of_a_mailbox_file(void **state)
{
    (void)state;
    static const struct {
        const char *section, *behind; /* behind NULL: nothing is skipped */
    } cases[] = {
        {"From a@b Wed Nov 25 00:00:00 2026\r\nBcc: a@x\r\n", "Bcc: a@x\r\n"},
        {"From a@b\r\n folded\r\nTo: c@z\r\n", "To: c@z\r\n"},
        {">>From a@b\r\nFrom a@b\r\n", "From a@b\r\n"}, /* one only */
        {"From a@b\r\n", ""},
        {"From : a@b\r\n", NULL}, /* a field */
        {"Fromage\r\nTo: c@z\r\n", NULL},
        {"To: c@z\r\nFrom a@b\r\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *behind = cases[i].behind != NULL ? cases[i].behind : cases[i].section;
        struct str got = submission_skip_mailbox_line(str_from(cases[i].section));
        if (!str_equal(got, str_from(behind)))
            fail_msg("'%s': '%.*s'", cases[i].section, (int)got.len, got.p);
    }
}

/* A list that would grow over the bound is left alone, and the next is not. */
static void test_bound(void **state)
{
    (void)state;
    enum { LEN = 200 * 1024 };
    char *section = calloc(1, LEN + 100);
    struct buf out;
    assert_non_null(section);
    for (size_t i = 0; i < LEN; i++)
        section[i] = i % 2 == 0 ? 'a' : ',';
    (void)snprintf(section, 5, "To: ");
    section[4] = 'a'; /* the NUL's place */
    (void)snprintf(section + LEN, 100, "\r\nCc: b\r\n");
    buf_init(&out, LEN + 9 + SUBMISSION_COMPLETED_MAX);
    assert_true(submission_copy_header(str_from(section), "dom.example", &out));
    assert_int_equal(buf_len(&out), LEN + 9 + strlen("@dom.example"));
    assert_memory_equal(buf_str(&out).p, section, LEN);
    buf_deinit(&out);
    buf_init(&out, 10);
    assert_false(submission_copy_header(str_from(section), "dom.example", &out));
    buf_deinit(&out);
    free(section);
}

static void test_repeated(void **state)
{
    (void)state;
    static const struct {
        const char *section, *name;
    } cases[] = {
        {"From: a\r\nDate: b\r\nSubject: c\r\nTo: d\r\nCc: e\r\nCc: f\r\nReceived: g\r\nReceived: "
         "h\r\n",
         NULL},
        {"From: a\r\nfrom : b\r\n", "From"},
        {"DATE: a\r\nDate: b\r\n", "Date"},
        {"Subject: a\r\nX: y\r\nSubject: a\r\n", "Subject"},
        {"To: a\r\nTo: b\r\nTo: c\r\n", "To"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct header_facts facts;
        header_facts_read(str_from(cases[i].section), &facts);
        const char *name = submission_repeated_field(&facts);
        assert_int_equal(name == NULL, cases[i].name == NULL);
        if (name != NULL)
            assert_string_equal(name, cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_line_of_a_mailbox_file),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
