/* Single values: what each parser takes, and what it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "config/value.h"

#define BAD UINT64_MAX /* refused; none of the bounds below reaches it */

struct number_case {
    const char *text;
    uint64_t value;
};

static void check_numbers(bool (*parse)(const char *, uint64_t, uint64_t, uint64_t *,
                                        struct reason *),
                          uint64_t min, uint64_t max, const struct number_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = BAD;
        struct reason why = {""};
        bool good = parse(cases[i].text, min, max, &value, &why);
        if (value != cases[i].value || good != (cases[i].value != BAD))
            fail_msg("\"%s\" gave %llu", cases[i].text, (unsigned long long)value);
        if (!good)
            assert_memory_equal(why.text, "expected a ", 11);
    }
}

#define CHECK_NUMBERS(parse, min, max, cases)                                                      \
    check_numbers(parse, min, max, cases, sizeof(cases) / sizeof(cases)[0])

static void test_number(void **state)
{
    (void)state;
    static const struct number_case cases[] = {
        {"1", 1},
        {"65535", 65535},
        {"0", BAD},
        {"65536", BAD},
        {"", BAD},
        {" 1", BAD},
        {"1 ", BAD},
        {"+1", BAD},
        {"-1", BAD},
        {"01", BAD},
        {"0x1", BAD},
        {"0o7", BAD},
        {"1e3", BAD},
        {"1.0", BAD},
        {"1_000", BAD},
        {"1,000", BAD},
        {"1s", BAD},
        {"one", BAD},
        {".inf", BAD},
        {"\xd9\xa1", BAD},
        {"18446744073709551615", BAD},
        {"18446744073709551616", BAD},
        {"18446744073709551617", BAD},
        {"99999999999999999999999999", BAD},
    };
    static const struct number_case zero[] = {{"0", 0}, {"00", BAD}};
    CHECK_NUMBERS(value_number, 1, 65535, cases);
    CHECK_NUMBERS(value_number, 0, 9, zero);
}

static void test_size(void **state)
{
    (void)state;
    static const struct number_case cases[] = {
        {"1", 1},
        {"1024", 1024},
        {"1KiB", 1024},
        {"50MiB", 52428800},
        {"1024GiB", UINT64_C(1) << 40},
        {"1025GiB", BAD},
        {"0", BAD},
        {"0MiB", BAD},
        {"MiB", BAD},
        {"50 MiB", BAD},
        {"50MB", BAD},
        {"50M", BAD},
        {"50mib", BAD},
        {"1.5GiB", BAD},
        {"-1KiB", BAD},
        {"50MiBs", BAD},
        {"1TiB", BAD},
        {"17179869184GiB", BAD}, /* 2^64 */
        {"17179869185GiB", BAD}, /* 2^64 + 2^30 */
        {"99999999999999999999GiB", BAD},
    };
    CHECK_NUMBERS(value_size, 1, UINT64_C(1) << 40, cases);
}

static void test_duration(void **state)
{
    (void)state;
    static const struct number_case cases[] = {
        {"10ms", 10},
        {"2s", 2000},
        {"5m", 300000},
        {"1h", 3600000},
        {"30d", 2592000000},
        {"9ms", BAD},
        {"31d", BAD},
        {"0s", BAD},
        {"30", BAD},
        {"s", BAD},
        {"5 m", BAD},
        {"5min", BAD},
        {"1h30m", BAD},
        {"5M", BAD},
        {"1.5h", BAD},
        {"-5m", BAD},
        {"05m", BAD},
        {"1w", BAD},
        {"", BAD},
        {"213503982335d", BAD},
        {"99999999999999999999d", BAD},
    };
    CHECK_NUMBERS(value_duration, 10, UINT64_C(2592000000), cases);
}

#define LABEL63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool domain, selector, hostname;
    } cases[] = {
        {"example.com", true, true, true},
        {"EXAMPLE.com", true, true, true},
        {"a-1.xn--bcher-kva.example", true, true, true},
        {LABEL63 ".example", true, true, true},
        {LABEL63 "." LABEL63 "." LABEL63
                 ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi",
         true, true, true}, /* 253 */
        {LABEL63 "." LABEL63 "." LABEL63
                 ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij",
         false, false, false},
        {LABEL63 "l.example", false, false, false},
        {"example", true, true, false},
        {"mail.local", true, true, false},
        {"mail.localdomain", true, true, false},
        {"app.localhost", true, true, false},
        {"local.example", true, true, true},
        {"s_1.example", false, true, false},
        {"2024", false, true, false},
        {"192.0.2.1", false, true, false},
        {"1.example", true, true, true},
        {"", false, false, false},
        {".", false, false, false},
        {"a..b", false, false, false},
        {".a.b", false, false, false},
        {"a.b.", false, false, false},
        {"-a.b", false, false, false},
        {"a-.b", false, false, false},
        {"a b.c", false, false, false},
        {"a@b.c", false, false, false},
        {"*.b.c", false, false, false},
        {"b\xc3\xbc.example", false, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[VALUE_DOMAIN_SIZE];
        struct reason why = {""};
        if (value_domain(cases[i].text, out, &why) != cases[i].domain ||
            value_selector(cases[i].text, out, &why) != cases[i].selector ||
            value_hostname(cases[i].text, out, &why) != cases[i].hostname)
            fail_msg("%s", cases[i].text);
    }
    char out[VALUE_DOMAIN_SIZE];
    struct reason why = {""};
    assert_true(value_domain("EXAMPLE.Com", out, &why));
    assert_string_equal(out, "example.com");
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expected; /* NULL: refused */
    } cases[] = {
        {"A.example", "a.example"},
        {"*.A.example", "*.a.example"},
        {"localhost", "localhost"},
        {"*." LABEL63 "." LABEL63 "." LABEL63
         ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi",
         "*." LABEL63 "." LABEL63 "." LABEL63
         ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi"},
        {"Joe.Doe+x@A.example", NULL},
        {"*", NULL},
        {"*.", NULL},
        {"**.a.example", NULL},
        {"a.*.example", NULL},
        {"@a.example", NULL},
        {"a@", NULL},
        {"a@*.example", NULL},
        {"a b", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[VALUE_PATTERN_SIZE] = "";
        struct reason why = {""};
        bool good = value_pattern(cases[i].text, out, &why);
        if (good != (cases[i].expected != NULL) || (good && strcmp(out, cases[i].expected) != 0))
            fail_msg("%s gave %s", cases[i].text, out);
    }
}

static void test_user(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"mta", true},  {"_mta-2.x", true}, {"1000", true},     {LABEL63 "l", true},
                 {"", false},    {"-mta", false},    {"a b", false},     {LABEL63 "lm", false},
                 {"a:b", false}, {"a/b", false},     {"\xc3\xa4", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reason why = {""};
        if (value_user(cases[i].text, &why) != cases[i].good)
            fail_msg("%s", cases[i].text);
    }
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *address; /* NULL: refused */
        unsigned prefix;
    } cases[] = {
        {"127.0.0.0/8", "127.0.0.0", 8},
        {"10.1.2.3", "10.1.2.3", 32},
        {"10.1.2.3/32", "10.1.2.3", 32},
        {"128.0.0.0/1", "128.0.0.0", 1},
        {"10.1.2.128/25", "10.1.2.128", 25},
        {"::1", "::1", 128},
        {"2001:db8::/33", "2001:db8::", 33},
        {"2001:db8:8000::/33", "2001:db8:8000::", 33},
        {"2001:db8:4000::/33", NULL, 0},
        {"10.1.2.3/8", NULL, 0},
        {"10.1.2.128/24", NULL, 0},
        {"0.0.0.0/0", NULL, 0},
        {"::/0", NULL, 0},
        {"10.0.0.0/33", NULL, 0},
        {"::/129", NULL, 0},
        {"10.0.0.0/", NULL, 0},
        {"10.0.0.0/08", NULL, 0},
        {"10.0.0.0/255.0.0.0", NULL, 0},
        {"10.0.0.0/8/8", NULL, 0},
        {"10.0.0", NULL, 0},
        {"010.0.0.1", NULL, 0},
        {"10.0.0.256", NULL, 0},
        {"::ffff:10.0.0.1", NULL, 0},
        {"fe80::1%eth0", NULL, 0},
        {"[::1]", NULL, 0},
        {"10.0.0.1:25", NULL, 0},
        {"localhost", NULL, 0},
        {"", NULL, 0},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_network network = {0};
        struct reason why = {""};
        char shown[INET6_ADDRSTRLEN] = "";
        bool good = value_network(cases[i].text, &network, &why);
        if (good)
            inet_ntop(network.ipv6 ? AF_INET6 : AF_INET, network.bytes, shown, sizeof shown);
        if (good != (cases[i].address != NULL) ||
            (good && (strcmp(shown, cases[i].address) != 0 || network.prefix != cases[i].prefix)))
            fail_msg("%s gave %s/%u", cases[i].text, shown, network.prefix);
    }
}

static void test_sources(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool v4, v6;
    } cases[] = {{"192.0.2.1", true, false},     {"127.0.0.2", true, false},
                 {"2001:db8::1", false, true},   {"0.0.0.0", false, false},
                 {"::", false, false},           {"224.0.0.1", false, false},
                 {"ff02::1", false, false},      {"::ffff:192.0.2.1", false, false},
                 {"192.0.2.0/24", false, false}, {"", false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_network address;
        struct reason why = {""};
        if (value_source(cases[i].text, false, &address, &why) != cases[i].v4 ||
            value_source(cases[i].text, true, &address, &why) != cases[i].v6)
            fail_msg("%s", cases[i].text);
    }
}

static void test_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned listen, server; /* the port; 0: refused */
    } cases[] = {
        {"127.0.0.1:587", 587, 587},
        {"0.0.0.0:25", 25, 25},
        {"[::1]:587", 587, 587},
        {"[::]:65535", 65535, 65535},
        {"127.0.0.1", 0, 53},
        {"::1", 0, 53},
        {"[::1]", 0, 53},
        {"::1:587", 0, 53}, /* an address of its own */
        {"127.0.0.1:", 0, 0},
        {"127.0.0.1:0", 0, 0},
        {"127.0.0.1:65536", 0, 0},
        {"127.0.0.1:025", 0, 0},
        {"127.0.0.1: 25", 0, 0},
        {"127.0.0.1:25:25", 0, 0},
        {"[127.0.0.1]:25", 0, 0},
        {"[::1:25", 0, 0},
        {"[::1]25", 0, 0},
        {"[::1]:", 0, 0},
        {"[]:25", 0, 0},
        {":25", 0, 0},
        {"*:25", 0, 0},
        {"localhost:25", 0, 0},
        {"25", 0, 0},
        {"", 0, 0},
        {"[", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_endpoint listen = {0}, server = {0};
        struct reason why = {""};
        bool listens = value_endpoint(cases[i].text, 0, &listen, &why);
        bool serves = value_endpoint(cases[i].text, 53, &server, &why);
        if (listens != (cases[i].listen != 0) || listen.port != cases[i].listen ||
            serves != (cases[i].server != 0) || server.port != cases[i].server)
            fail_msg("%s gave %u and %u", cases[i].text, listen.port, server.port);
    }
}

static void test_hops(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        unsigned port;
    } cases[] = {
        {"Relay.example:25", "relay.example", 25},
        {"localhost:2525", "localhost", 2525},
        {"192.0.2.1:25", "192.0.2.1", 25},
        {"[2001:db8::1]:25", "2001:db8::1", 25},
        {"relay.example", NULL, 0},
        {"relay.example:", NULL, 0},
        {"relay.example:0", NULL, 0},
        {"relay.example:smtp", NULL, 0},
        {"relay.example.:25", NULL, 0},
        {"[relay.example]:25", NULL, 0},
        {"[192.0.2.1]:25", NULL, 0},
        {"2001:db8::1:25", NULL, 0},
        {"256.0.0.1:25", NULL, 0},
        {"smtp://relay.example:25", NULL, 0},
        {"a_b.example:25", NULL, 0},
        {":25", NULL, 0},
        {"", NULL, 0},
        {LABEL63 "." LABEL63 "." LABEL63 "." LABEL63 ":25", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char host[VALUE_DOMAIN_SIZE] = "";
        uint16_t port = 0;
        struct reason why = {""};
        bool good = value_hop(cases[i].text, host, &port, &why);
        if (good != (cases[i].host != NULL) || port != cases[i].port ||
            (good && strcmp(host, cases[i].host) != 0))
            fail_msg("%s gave %s %u", cases[i].text, host, port);
        if (!good)
            assert_memory_equal(why.text, "expected host:port", 18);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number),    cmocka_unit_test(test_size),
        cmocka_unit_test(test_duration),  cmocka_unit_test(test_names),
        cmocka_unit_test(test_patterns),  cmocka_unit_test(test_user),
        cmocka_unit_test(test_networks),  cmocka_unit_test(test_sources),
        cmocka_unit_test(test_endpoints), cmocka_unit_test(test_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
