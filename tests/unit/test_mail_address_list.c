/* The walk over an address list: what is an address, what is only words, and what cannot be read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/address_list.h"

/* What the walk finds, one word an item: "m:local@domain", "l:local", "w" (words), "bad"; bracketed
 * ones in <>. */
static const struct row {
    const char *value, *found;
} rows[] = {
    {"", ""},
    {" \r\n\t", ""},
    {",;, ,", ""},
    {"a@b", "m:a@b"},
    {"a@b, c@d", "m:a@b m:c@d"},
    {"a@b; c@d;", "m:a@b m:c@d"}, /* as some mail programs separate */
    {" Anna <a@b> ,\r\n \"Bert, B.\" <c@d>", "<m:a@b> <m:c@d>"},
    {"root", "l:root"},
    {"root, bin", "l:root l:bin"},
    {"root (Cron Daemon)", "l:root"},
    {"Cron Daemon <root>", "<l:root>"},
    {"<root>", "<l:root>"},
    {"\"root\"", "w"}, /* a display name alone */
    {"<\"root\">", "<l:\"root\">"},
    {"John Doe", "w"},
    {"=?utf-8?q?J=C3=B6rg?=", "w"}, /* likewise, encoded */
    {"=?utf-8?q?J=C3=B6rg?= <a@b>", "<m:a@b>"},
    {"=?utf-8?q?Doe?=, =?utf-8?q?J=C3=B6rg?= <root>", "w <l:root>"},
    {"Doe, John <a@b>", "l:Doe <m:a@b>"},
    {"Team: a@b, root; c@d", "m:a@b l:root m:c@d"},
    {"root: a@b;", "m:a@b"}, /* a group's name */
    {"undisclosed-recipients:;", ""},
    {"\"a, b\"@c, d@[192.0.2.1]", "m:\"a, b\"@c m:d@[192.0.2.1]"},
    {"<@x,@y:a@b>, c@d", "<m:a@b> m:c@d"},
    {"(a@b) c@d (e, f)", "m:c@d"},
    {"j\xc3\xb6rg@x, y@\xc3\xa4.example", "m:j\xc3\xb6rg@x m:y@\xc3\xa4.example"},
    {"<@x:root>", "bad"},
    {"<>", "bad"},
    {"a@b, <>, c@d", "m:a@b bad"},
    {"a@b c@d", "bad"},
    {"a@b <", "bad"},
    {"a@b: c@d;", "bad"},
    {"<root>: c@d;", "bad"},
    {"\"open", "bad"},
    {"(open", "bad"},
    {"a@b, \"open\\", "m:a@b bad"},
    {"<a@b> c, d@e", "bad"},
};

static void add(char *found, size_t size, const char *text)
{
    size_t len = strlen(found);
    (void)snprintf(found + len, size - len, "%s%s", len > 0 ? " " : "", text);
}

static void note(char *found, size_t size, enum address_item item, const struct address *address)
{
    char text[100] = "w";
    const char *open = address->bracketed ? "<" : "";
    const char *close = address->bracketed ? ">" : "";
    if (item == ADDRESS_BAD)
        (void)snprintf(text, sizeof text, "bad");
    else if (item == ADDRESS_MAILBOX)
        (void)snprintf(text, sizeof text, "%sm:%.*s@%.*s%s", open, (int)address->local.len,
                       address->local.p, (int)address->domain.len, address->domain.p, close);
    else if (item == ADDRESS_LOCAL)
        (void)snprintf(text, sizeof text, "%sl:%.*s%s", open, (int)address->local.len,
                       address->local.p, close);
    add(found, size, text);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char found[200] = "";
        struct address_list list;
        struct address address;
        enum address_item item;
        struct str value = str_from(rows[i].value);

        address_list_init(&list, value);
        while ((item = address_list_next(&list, &address)) != ADDRESS_END) {
            note(found, sizeof found, item, &address);
            assert_true(address.text.p >= value.p &&
                        address.text.p + address.text.len <= value.p + value.len);
        }
        if (strcmp(found, rows[i].found) != 0)
            fail_msg("'%s': %s", rows[i].value, found);
        assert_int_equal(address_list_next(&list, &address), ADDRESS_END);
    }
}

/* What a message about it shows. */
static void test_text(void **state)
{
    (void)state;
    struct address_list list;
    struct address address;
    address_list_init(&list, STR("a@b, John Doe ,<x"));
    assert_int_equal(address_list_next(&list, &address), ADDRESS_MAILBOX);
    assert_true(str_equal(str_trim(address.text), STR("a@b")));
    assert_int_equal(address_list_next(&list, &address), ADDRESS_WORDS);
    assert_true(str_equal(str_trim(address.text), STR("John Doe")));
    assert_int_equal(address_list_next(&list, &address), ADDRESS_BAD);
    assert_true(str_equal(str_trim(address.text), STR("<x")));
}

/* 256 KiB of the worst that fits a header section take no longer than they are long. */
static void test_linear(void **state)
{
    (void)state;
    static const char *const patterns[] = {"a,", "(", "()", "\"\\", "a@b,", ":", "<@x,", "<a>,"};
    const size_t len = (size_t)256 * 1024;
    char *value = malloc(len);
    assert_non_null(value);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct address_list list;
        struct address address;
        size_t items = 0;
        for (size_t at = 0; at < len; at++)
            value[at] = patterns[i][at % strlen(patterns[i])];
        address_list_init(&list, (struct str){value, len});
        while (address_list_next(&list, &address) != ADDRESS_END)
            items++;
        assert_in_range(items, 0, len);
    }
    free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
