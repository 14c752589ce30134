/* The walk over a header section, its end, the facts, and the first mailbox of From. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/header.h"

static void assert_str(struct str got, const char *expected)
{
    if (!str_equal(got, str_from(expected)))
        fail_msg("got '%.*s', expected '%s'", (int)got.len, got.p, expected);
}

/* Each row: a section, then its fields as name|value pairs; "" as name is a line that is no field.
 */
static const struct walk_case {
    const char *section;
    struct {
        const char *name, *value;
    } fields[5];
    size_t count;
} walk_cases[] = {
    {"", {{0}}, 0},
    {"\r\n", {{0}}, 0},
    {"A: b\r\n", {{"A", " b"}}, 1},
    {"A: b", {{"A", " b"}}, 1}, /* cut off */
    {"A: b\r\nC:\r\n", {{"A", " b"}, {"C", ""}}, 2},
    {"A: b\r\n c\r\n\td\r\nE: f\r\n", {{"A", " b\r\n c\r\n\td"}, {"E", " f"}}, 2},
    {"A: b\r\n \r\n c\r\n", {{"A", " b\r\n \r\n c"}}, 1}, /* a fold of nothing but white space */
    {"A \t: b\r\n", {{"A", " b"}}, 1},                    /* RFC 5322 section 4.5 */
    {"A: b: c\r\n", {{"A", " b: c"}}, 1},
    {"A: b\r\n\r\nC: d\r\n", {{"A", " b"}}, 1}, /* the blank line ends it */
    {"no field\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2},
    {": empty\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2},
    {" fold of nothing\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2},
    {"From a@b Mon Jan  1 00:00:00 2024\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2}, /* mbox */
    {"N\xc3\xa4me: x\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2},
    {"no\r\n colon: here\r\nA: b\r\n", {{"", 0}, {"A", " b"}}, 2},
    {"A: b\nB: c\rD: e\r\n", {{"A", " b\nB: c\rD: e"}}, 1}, /* bare CR and LF end nothing */
};

static void test_walk(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof walk_cases / sizeof walk_cases[0]; i++) {
        const struct walk_case *row = &walk_cases[i];
        struct str section = str_from(row->section);
        struct header_walk walk;
        struct header_field field;
        size_t bytes = 0;

        header_walk_init(&walk, section);
        for (size_t n = 0; n < row->count; n++) {
            assert_true(header_walk_next(&walk, &field));
            assert_str(field.name, row->fields[n].name);
            if (row->fields[n].value != NULL)
                assert_str(field.value, row->fields[n].value);
            assert_ptr_equal(field.whole.p, section.p + bytes);
            bytes += field.whole.len;
        }
        assert_false(header_walk_next(&walk, &field));
        assert_false(header_walk_next(&walk, &field));
    }
}

static const struct end_case {
    const char *bytes;
    bool found;
    size_t header_len, body_start;
} end_cases[] = {
    {"", false, 0, 0},
    {"\r", false, 0, 0},
    {"\r\n", true, 0, 2},
    {"\r\nbody", true, 0, 2},
    {"A: b\r\n", false, 0, 0},
    {"A: b\r\n\r", false, 0, 0},
    {"A: b\r\n\r\n", true, 6, 8},
    {"A: b\r\n\r\nbody\r\n\r\n", true, 6, 8},
    {"A: b\n\nbody", false, 0, 0}, /* bare LFs end nothing */
    {"A: b\r\n \r\n\r\n", true, 9, 11},
};

static void test_section_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof end_cases / sizeof end_cases[0]; i++) {
        const struct end_case *row = &end_cases[i];
        size_t len = strlen(row->bytes);
        size_t header_len = 0;
        size_t body_start = 0;
        bool found = false;

        assert_int_equal(
            header_section_end((struct str){row->bytes, len}, &header_len, &body_start),
            row->found);
        assert_int_equal(header_len, row->header_len);
        assert_int_equal(body_start, row->body_start);
        /* A byte more at a time: found once, at the same place, and it stays there. */
        for (size_t n = 0; n <= len; n++) {
            bool now = header_section_end((struct str){row->bytes, n}, &header_len, &body_start);
            assert_true(now || !found);
            if (now) {
                assert_int_equal(body_start, row->body_start);
                assert_true(n >= body_start);
            }
            found = now;
        }
        assert_int_equal(found, row->found);
    }
}

static const struct mailbox_case {
    const char *value, *local, *domain; /* local NULL: none */
} mailbox_cases[] = {
    {"", NULL, NULL},
    {"   ", NULL, NULL},
    {"a@b", "a", "b"},
    {" a@Example.COM ", "a", "Example.COM"},
    {"<a@b>", "a", "b"},
    {" Name <a@b>", "a", "b"},
    {"\"Last, First\" <a@b>", "a", "b"},
    {"\"a@evil\" <a@b>", "a", "b"},
    {"\"quoted \\\" <a@evil>\" <a@b>", "a", "b"},
    {"=?utf-8?q?J=C3=B6rg_M=2E?= <a@b>", "a", "b"},
    {"J\xc3\xb6rg <j\xc3\xb6rg@ex\xc3\xa4mple.org>", "j\xc3\xb6rg", "ex\xc3\xa4mple.org"},
    {"Doe, John <a@b>", "a", "b"}, /* an unquoted comma, seen in the field */
    {"old@address <a@b>", "a", "b"},
    {"(comment) a@b (again)", "a", "b"},
    {"(nested (\\) <x@y>) again) a@b", "a", "b"},
    {"a (c) @ (d) b", "a", "b"},
    {"a@b, c@d", "a", "b"},
    {"Name <a@b>, c@d", "a", "b"},
    {", ,a@b", "a", "b"},
    {"Undisclosed: ;", NULL, NULL},
    {"Undisclosed recipients:;", NULL, NULL},
    {"Team: a@b, c@d;", "a", "b"},
    {"Empty: ; , a@b", "a", "b"},
    {"Team: Name <a@b>;", "a", "b"},
    {"<@x,@y:a@b>", "a", "b"},
    {"Name <@x.org (c), @y.org : a@b>", "a", "b"},
    {"<@[10.0.0.1]:a@b>", "a", "b"},
    {"\"a b\"@c", "\"a b\"", "c"},
    {"\"<x@y>\"@c", "\"<x@y>\"", "c"},
    {"first.last@a.b.c", "first.last", "a.b.c"},
    {"a..b.@docomo.example", "a..b.", "docomo.example"},
    {"a@[192.0.2.1]", "a", "[192.0.2.1]"},
    {"a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"},
    {"\r\n Name\r\n <a@b>\r\n", "a", "b"},
    {"Name <a@b", NULL, NULL},
    {"Name <a>", NULL, NULL},
    {"<>", NULL, NULL},
    {"<@b>", NULL, NULL},
    {"@b", NULL, NULL},
    {"a@", NULL, NULL},
    {"a@.b", NULL, NULL},
    {"a@b.", NULL, NULL},
    {"a@b..c", NULL, NULL},
    {"a@b@c", NULL, NULL},
    {"a@b . c", NULL, NULL}, /* which domain? none, rather than the first half */
    {"Name a@b", NULL, NULL},
    {"a@b c", NULL, NULL},
    {"<a@b> <c@d>", NULL, NULL},
    {"<a@b> x", NULL, NULL},
    {"a@b: c@d;", NULL, NULL},
    {"<a@b>: c@d;", NULL, NULL},
    {"(open a@b", NULL, NULL},
    {"\"open a@b", NULL, NULL},
    {"\"open\\", NULL, NULL},
    {"a@[open", NULL, NULL},
    {"a\\@b", NULL, NULL},
    {"just words", NULL, NULL},
    {"<@x a@b>", NULL, NULL},
    {"<@x;y:a@b>", NULL, NULL},
    {"<@[x:a@b>", NULL, NULL},
    {"<@x(:a@b>", NULL, NULL},
    {"<(a@b>", NULL, NULL},
    {"<\"a@b>", NULL, NULL},
    {"<a@[b>", NULL, NULL},
    {"<a@b> (x", NULL, NULL},
};

static void test_first_mailbox(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mailbox_cases / sizeof mailbox_cases[0]; i++) {
        const struct mailbox_case *row = &mailbox_cases[i];
        struct str local;
        struct str domain;
        bool found = header_first_mailbox(str_from(row->value), &local, &domain);
        if (found != (row->local != NULL))
            fail_msg("'%s': %s", row->value, found ? "found" : "not found");
        if (found) {
            assert_str(local, row->local);
            assert_str(domain, row->domain);
        }
    }
}

static void test_deep_nesting(void **state)
{
    (void)state;
    const size_t depth = 1000000;
    char *value = malloc(2 * depth + 4);
    struct str local;
    struct str domain;

    assert_non_null(value);
    memset(value, '(', depth);
    memset(value + depth, ')', depth);
    memcpy(value + 2 * depth, "a@b", 4);
    assert_true(header_first_mailbox((struct str){value, 2 * depth + 3}, &local, &domain));
    assert_str(domain, "b");
    assert_false(header_first_mailbox((struct str){value, depth}, &local, &domain));
    free(value);
}

static void test_facts(void **state)
{
    (void)state;
    struct header_facts facts;
    header_facts_read(STR("Received: by a\r\n"
                          "rECEIVED: by b\r\n"
                          "from: Me <me@Example.ORG>\r\n"
                          "From: other@example.net\r\n"
                          "MESSAGE-id: <x@y>\r\n"
                          "Date : today\r\n"
                          "Mime-Version: 1.0\r\n"),
                      &facts);
    assert_true(facts.has_date && facts.has_message_id && facts.has_from && facts.has_mime_version);
    assert_int_equal(facts.received_count, 2);
    assert_int_equal(facts.from_count, 2);
    assert_int_equal(facts.date_count, 1);
    assert_int_equal(facts.subject_count + facts.to_count, 0);
    assert_false(facts.has_malformed);
    assert_string_equal(facts.from_domain, "example.org");

    header_facts_read(STR("X-Date: 1\r\nDated: 1\r\nnonsense\r\n\r\nDate: body\r\n"), &facts);
    assert_false(facts.has_date || facts.has_message_id || facts.has_from ||
                 facts.has_mime_version);
    assert_int_equal(facts.received_count, 0);
    assert_int_equal(facts.from_count, 0);
    assert_true(facts.has_malformed);
    assert_string_equal(facts.from_domain, "");
}

static void test_long_domain(void **state)
{
    (void)state;
    char section[600];
    struct header_facts facts;
    for (int len = 254; len <= 257; len++) {
        (void)snprintf(section, sizeof section, "From: a@%0*d\r\n", len, 1);
        header_facts_read(str_from(section), &facts);
        assert_int_equal(strlen(facts.from_domain), len <= 255 ? len : 0);
    }
}

/* Hop limit (cases O30): 99, 100, 101 are told apart. */
static void test_hops(void **state)
{
    (void)state;
    static const char line[] = "Received: by x;\r\n";
    const size_t len = sizeof line - 1;
    char section[101 * sizeof line];
    struct header_facts facts;
    for (uint32_t n = 1; n <= 101; n++) {
        memcpy(section + (n - 1) * len, line, len);
        header_facts_read((struct str){section, n * len}, &facts);
        assert_int_equal(facts.received_count, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),          cmocka_unit_test(test_section_end),
        cmocka_unit_test(test_first_mailbox), cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_facts),         cmocka_unit_test(test_long_domain),
        cmocka_unit_test(test_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
