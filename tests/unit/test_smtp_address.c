/* tests/unit/test_smtp_address.c - paths, mailboxes and domains: what is taken, how it is cut, what
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/address.h"

static void assert_str(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.p, want, got.len);
}

/* An exact copy on the heap, so that a read beyond the end is found by the sanitizer. */
static struct str exact(const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    return (struct str){copy, len};
}

static void test_path_accepted(void **state)
{
    static const struct {
        const char *text;
        enum smtp_path_kind kind;
        bool literal;
        const char *local, *domain, *rest;
    } cases[] = {
        {"<>", SMTP_PATH_NULL, false, "", "", ""},
        {"<> SIZE=1", SMTP_PATH_NULL, false, "", "", " SIZE=1"},
        {"<a@b>", SMTP_PATH_MAILBOX, false, "a", "b", ""},
        {"<a@b.example> X=<y>", SMTP_PATH_MAILBOX, false, "a", "b.example", " X=<y>"},
        {"<postmaster>", SMTP_PATH_UNQUALIFIED, false, "postmaster", "", ""},
        {"<a.b+c=d@x_y.example>", SMTP_PATH_MAILBOX, false, "a.b+c=d", "x_y.example", ""},
        /* no dot-strings, yet such mailboxes exist */
        {"<a..b@x>", SMTP_PATH_MAILBOX, false, "a..b", "x", ""},
        {"<a.@x>", SMTP_PATH_MAILBOX, false, "a.", "x", ""},
        {"<.a@x>", SMTP_PATH_MAILBOX, false, ".a", "x", ""},
        {"<!#$%&'*+-/=?^_`{|}~@x>", SMTP_PATH_MAILBOX, false, "!#$%&'*+-/=?^_`{|}~", "x", ""},
        /* O14: the quotes hide everything and stay as they are */
        {"<\"foo@evil.test> ORCPT=a@b\"@good.test> N=1", SMTP_PATH_MAILBOX, false,
         "\"foo@evil.test> ORCPT=a@b\"", "good.test", " N=1"},
        {"<\"a b\"@good.test>", SMTP_PATH_MAILBOX, false, "\"a b\"", "good.test", ""},
        {"<\"a\\\"b\"@good.test>", SMTP_PATH_MAILBOX, false, "\"a\\\"b\"", "good.test", ""},
        {"<\"a\\\\\"@good.test>", SMTP_PATH_MAILBOX, false, "\"a\\\\\"", "good.test", ""},
        {"<\"a@b\"@good.test>", SMTP_PATH_MAILBOX, false, "\"a@b\"", "good.test", ""},
        {"<\"\"@good.test>", SMTP_PATH_MAILBOX, false, "\"\"", "good.test", ""},
        {"<a@[192.0.2.1]>", SMTP_PATH_MAILBOX, true, "a", "[192.0.2.1]", ""},
        {"<a@[IPv6:2001:db8::1]>", SMTP_PATH_MAILBOX, true, "a", "[IPv6:2001:db8::1]", ""},
        {"<a@[ipv6:::ffff:192.0.2.1]>", SMTP_PATH_MAILBOX, true, "a", "[ipv6:::ffff:192.0.2.1]",
         ""},
        {"<@r1.example:a@b>", SMTP_PATH_MAILBOX, false, "a", "b", ""},
        {"<@r1.example,@[192.0.2.1]:\"x\"@b>", SMTP_PATH_MAILBOX, false, "\"x\"", "b", ""},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str text = exact(cases[i].text, strlen(cases[i].text));
        enum smtp_path_kind kind = SMTP_PATH_NULL;
        struct smtp_address address;
        struct str rest;
        assert_true(smtp_path_parse(text, &kind, &address, &rest));
        assert_int_equal(kind, cases[i].kind);
        assert_str(address.local, cases[i].local);
        assert_str(address.domain, cases[i].domain);
        assert_str(rest, cases[i].rest);
        assert_int_equal(address.literal, cases[i].literal);
        if (kind == SMTP_PATH_MAILBOX) {
            struct smtp_address again;
            assert_true(smtp_address_parse(address.whole, &again));
            assert_ptr_equal(again.local.p, address.local.p);
            assert_int_equal(again.local.len, address.local.len);
            assert_int_equal(address.whole.len, address.local.len + 1 + address.domain.len);
        }
        free((char *)text.p);
    }
}

/* With SMTPUTF8 (RFC 6531 section 3.3). */
static void test_utf8_paths(void **state)
{
    static const struct {
        const char *text;
        const char *local; /* NULL: refused */
        const char *domain;
        bool utf8;
    } cases[] = {
        {"<a@b>", "a", "b", false},
        {"<\xc3\xbc@b>", "\xc3\xbc", "b", true},
        {"<a\xf0\x9f\x98\x80.c@b\xc3\xbc.example>", "a\xf0\x9f\x98\x80.c", "b\xc3\xbc.example",
         true},
        {"<\"\xc3\xbc x\"@b>", "\"\xc3\xbc x\"", "b", true},
        {"<\xc3\xbc>", "\xc3\xbc", "", true},
        {"<@r\xc3\xbc:a@b>", "a", "b", false}, /* the route is dropped */
        {"<\xc3@b>", NULL, NULL, false},
        {"<a\xc3@b>", NULL, NULL, false},
        {"<\xc0\x80@b>", NULL, NULL, false},         /* overlong */
        {"<\xed\xa0\x80@b>", NULL, NULL, false},     /* a surrogate */
        {"<\xf4\x90\x80\x80@b>", NULL, NULL, false}, /* beyond U+10FFFF */
        {"<\"\xff\"@b>", NULL, NULL, false},
        {"<\"\\\xc3\xbc\"@b>", NULL, NULL, false}, /* only ASCII is quoted by a backslash */
        {"<a@\xff>", NULL, NULL, false},
        {"<a@\xe2\x80\xa8>", NULL, NULL, false}, /* a line separator is no letter */
        {"<a@[\xc3\xbc]>", NULL, NULL, false},
        {"<a@b\xc3\xbc..c>", NULL, NULL, false},
        {"<a\x01@b\xc3\xbc>", NULL, NULL, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str text = exact(cases[i].text, strlen(cases[i].text));
        enum smtp_path_kind kind = SMTP_PATH_NULL;
        struct smtp_address address;
        struct str rest;
        bool good = smtp_path_parse_utf8(text, &kind, &address, &rest);
        if (good != (cases[i].local != NULL))
            fail_msg("%s", cases[i].text);
        if (good) {
            assert_str(address.local, cases[i].local);
            assert_str(address.domain, cases[i].domain);
            assert_int_equal(address.utf8, cases[i].utf8);
            assert_int_equal(rest.len, 0);
        }
        free((char *)text.p);
    }
}

static const char *const refused_paths[] = {"",
                                            "<",
                                            ">",
                                            "a@b",
                                            "a@b>",
                                            "<a@b",
                                            "< a@b>",
                                            "<a@b >",
                                            "<a b@c>",
                                            "<@>",
                                            "<@b>",
                                            "<a@>",
                                            "<a@@b>",
                                            "<a@b@c>",
                                            "<a@b.>",
                                            "<a@.b>",
                                            "<a@b..c>",
                                            "<a@-b>",
                                            "<a@b->",
                                            "<a@b,c>",
                                            "<a@b c>",
                                            "<a@b;c>",
                                            "<(x)a@b>",
                                            "<a,b@c>",
                                            "<a:b@c>",
                                            "<a;b@c>",
                                            "<a\\b@c>",
                                            "<a[b@c>",
                                            "<<a@b>>",
                                            "<\"\">",
                                            "<\"a\">",
                                            "<\"a@b>",
                                            "<\"a\"b@c>",
                                            "<a\"b\"@c>",
                                            "<\"a\\\"@b>",
                                            "<\"\ta\"@b>",
                                            "<\"\\\x01\"@b>",
                                            "<\"\x7f\"@b>",
                                            "<a\x01@b>",
                                            "<a\xc3\xbc@b>",
                                            "<\"\xc3\xbc\"@b>",
                                            "<a@b\xc3\xbc>",
                                            "<a@[192.0.2]>",
                                            "<a@[192.0.2.256]>",
                                            "<a@[192.0.2.01]>",
                                            "<a@[]>",
                                            "<a@[IPv6:]>",
                                            "<a@[IPv6:1]>",
                                            "<a@[2001:db8::1]>",
                                            "<a@[IPv6:192.0.2.1]>",
                                            "<a@[IPv6:fe80::1%eth0]>",
                                            "<a@[x:y]>",
                                            "<a@[192.0.2.1>",
                                            "<a@[192.0.2.1]x>",
                                            "<@r.example>",
                                            "<@r.example:>",
                                            "<@r.example a@b>",
                                            "<@r.example,a@b>",
                                            "<@r.example,@s.example>",
                                            "<@:a@b>",
                                            "<@r.example:postmaster>",
                                            "<a@b\r\n>"};

static void test_path_refused(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof refused_paths / sizeof refused_paths[0]; i++) {
        struct str text = exact(refused_paths[i], strlen(refused_paths[i]));
        enum smtp_path_kind kind = SMTP_PATH_NULL;
        struct smtp_address address;
        struct str rest;
        if (smtp_path_parse(text, &kind, &address, &rest))
            fail_msg("accepted: %s", refused_paths[i]);
        free((char *)text.p);
    }
}

static void test_nul_bytes_are_no_text(void **state)
{
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct smtp_address address;
    struct str rest;
    char name[256];
    (void)state;

    assert_false(smtp_path_parse(STR("<a\0b@c>"), &kind, &address, &rest));
    assert_false(smtp_path_parse(STR("<\"\0\"@c>"), &kind, &address, &rest));
    assert_false(smtp_path_parse(STR("<a@c\0>"), &kind, &address, &rest));
    assert_false(smtp_path_parse(STR("<a@[192.0.2.1\0]>"), &kind, &address, &rest));
    assert_false(smtp_domain_ascii(STR("a\0b"), name, sizeof name));
    assert_false(smtp_domain_ascii(STR("\xc3\xbc\0b"), name, sizeof name));
}

/* locals and labels of given lengths, at and over each limit */
static void test_lengths(void **state)
{
    static const struct {
        size_t local, labels, label;
        bool good;
    } cases[] = {
        {1, 1, 63, true},   {1, 1, 64, false},  {255, 1, 1, true},
        {256, 1, 1, false}, {255, 4, 62, true}, {255, 4, 63, false} /* 255 octets of name */,
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024] = "<";
        size_t n = 1;
        memset(text + n, 'l', cases[i].local);
        n += cases[i].local;
        for (size_t k = 0; k < cases[i].labels; k++) {
            text[n++] = k == 0 ? '@' : '.';
            memset(text + n, 'd', cases[i].label);
            n += cases[i].label;
        }
        text[n++] = '>';
        enum smtp_path_kind kind = SMTP_PATH_NULL;
        struct smtp_address address;
        struct str rest;
        assert_int_equal(smtp_path_parse((struct str){text, n}, &kind, &address, &rest),
                         cases[i].good);
        assert_int_equal(smtp_address_parse((struct str){text + 1, n - 2}, &address),
                         cases[i].good);
    }
}

static void test_route_counts_into_the_path(void **state)
{
    char text[1024] = "<@";
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct smtp_address address;
    struct str rest;
    (void)state;

    for (size_t i = 0; i < 42; i++)
        snprintf(text + 1 + 11 * i, 12, "@r.example,"); /* ends at 463 */
    snprintf(text + 462, 4, ":a@");
    memset(text + 465, 'd', 46);
    text[511] = '>';
    assert_true(smtp_path_parse((struct str){text, 512}, &kind, &address, &rest));
    snprintf(text + 511, 3, "d>");
    assert_false(smtp_path_parse((struct str){text, 513}, &kind, &address, &rest));
}

static void test_address(void **state)
{
    struct smtp_address address;
    (void)state;

    assert_true(smtp_address_parse(STR("\"a@b\"@[192.0.2.1]"), &address));
    assert_str(address.whole, "\"a@b\"@[192.0.2.1]");
    assert_true(address.literal);
    assert_false(smtp_address_parse(STR("postmaster"), &address));
    assert_false(smtp_address_parse(STR("a@b>"), &address));
    assert_false(smtp_address_parse(STR("a@b "), &address));
    assert_false(smtp_address_parse(STR("<a@b>"), &address));
    assert_false(smtp_address_parse(STR("@r:a@b"), &address));
    assert_false(smtp_address_parse(STR(""), &address));
}

static void test_domain(void **state)
{
    static const struct {
        const char *in;
        const char *out; /* NULL: refused */
    } cases[] = {
        {"Example.COM", "example.com"},
        {"localhost", "localhost"},
        {"a_b.x-y.example", "a_b.x-y.example"},
        {"b\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example"},
        {"B\xc3\x9c"
         "CHER.example",
         "xn--bcher-kva.example"},
        {"fa\xc3\x9f.de", "xn--fa-hia.de"}, /* non-transitional: not fass.de */
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"[192.0.2.1]", "[192.0.2.1]"},
        {"[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"},
        {"", NULL},
        {".", NULL},
        {"a.", NULL},
        {".a", NULL},
        {"a..b", NULL},
        {"-a", NULL},
        {"a-", NULL},
        {"a b", NULL},
        {"a/b", NULL},
        {"a@b", NULL},
        {"[192.0.2.1", NULL},
        {"[1]", NULL},
        {"\xff\xfe.example", NULL},     /* no UTF-8 */
        {"a\xe3\x80\x82", NULL},        /* ideographic full stop at the end */
        {"\xe2\x84\x80.example", NULL}, /* the sign a/c maps to three characters, one a slash */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str in = exact(cases[i].in, strlen(cases[i].in));
        char out[256] = "untouched";
        bool good = smtp_domain_ascii(in, out, sizeof out);
        if (good != (cases[i].out != NULL))
            fail_msg("%s: %d", cases[i].in, good);
        assert_string_equal(out, good ? cases[i].out : "untouched");
        free((char *)in.p);
    }
}

static void test_domain_fits_exactly(void **state)
{
    char out[8];
    (void)state;

    assert_true(smtp_domain_ascii(STR("abc.def"), out, sizeof out));
    assert_false(smtp_domain_ascii(STR("abc.defg"), out, sizeof out));
    assert_false(smtp_domain_ascii(STR("\xc3\xbc"), out, 7)); /* xn--tda */
    assert_true(smtp_domain_ascii(STR("\xc3\xbc"), out, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_accepted),
        cmocka_unit_test(test_path_refused),
        cmocka_unit_test(test_utf8_paths),
        cmocka_unit_test(test_nul_bytes_are_no_text),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_route_counts_into_the_path),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_domain),
        cmocka_unit_test(test_domain_fits_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
