/* Routes, and addresses that no MX host may have. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/deliver/route.h"

static void test_patterns(void **unused)
{
    static const struct {
        const char *pattern, *domain;
        bool want;
    } rows[] = {
        {"a.example", "a.example", true},       {"a.example", "b.a.example", false},
        {"a.example", "xa.example", false},     {"*.a.example", "b.a.example", true},
        {"*.a.example", "c.b.a.example", true}, {"*.a.example", "a.example", false},
        {"*.a.example", "xa.example", false},   {"*.a.example", ".a.example", false},
        {"*.example", "example", false},        {"a.example", "", false},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (route_pattern_matches(rows[i].pattern, rows[i].domain) != rows[i].want)
            fail_msg("%s %s", rows[i].pattern, rows[i].domain);
    }
}

static void test_first_match_wins(void **unused)
{
    static const char *const inner[] = {"x.example", "*.in.example"};
    static const char *const outer[] = {"*.example"};
    const struct config_route routes[] = {
        {.recipients = inner, .recipient_count = 2},
        {.recipients = outer, .recipient_count = 1},
        {.recipient_count = 0},
    };
    struct config config = {.routes = routes, .route_count = 2};
    (void)unused;
    assert_ptr_equal(route_match(&config, "x.example"), &routes[0]);
    assert_ptr_equal(route_match(&config, "a.in.example"), &routes[0]);
    assert_ptr_equal(route_match(&config, "in.example"), &routes[1]);
    assert_null(route_match(&config, "elsewhere.test"));
    config.route_count = 3;
    assert_ptr_equal(route_match(&config, "elsewhere.test"), &routes[2]);
    config.route_count = 0;
    assert_null(route_match(&config, "x.example"));
}

static void test_private_addresses(void **unused)
{
    static const struct {
        const char *text;
        bool want;
    } rows[] = {
        {"0.0.0.0", true},
        {"10.1.2.3", true},
        {"127.0.0.1", true},
        {"127.9.9.9", true},
        {"100.64.0.1", true},
        {"100.127.255.255", true},
        {"100.63.0.1", false},
        {"100.128.0.1", false},
        {"169.254.1.1", true},
        {"172.16.0.1", true},
        {"172.31.255.1", true},
        {"172.32.0.1", false},
        {"192.168.0.1", true},
        {"192.169.0.1", false},
        {"224.0.0.1", true},
        {"255.255.255.255", true},
        {"192.0.2.1", false},
        {"8.8.8.8", false},
        {"::", true},
        {"::1", true},
        {"::2", true}, /* IPv4-compatible: 0.0.0.2 */
        {"::192.0.2.1", false},
        {"64:ff9b::10.0.0.1", true},
        {"64:ff9b::192.0.2.1", false},
        {"2002:c0a8:1::1", true},
        {"2002:c000:201::1", false},
        {"198.18.0.1", true},
        {"198.20.0.1", false},
        {"192.0.0.8", true},
        {"fe80::1", true},
        {"febf::1", true},
        {"fec0::1", true},
        {"fc00::1", true},
        {"fdff::1", true},
        {"fe00::1", false},
        {"ff02::1", true},
        {"2001:db8::1", false},
        {"::ffff:127.0.0.1", true},
        {"::ffff:0.0.0.0", true},
        {"::ffff:192.0.2.1", false},
        {"2606:4700::1", false},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[16] = {0};
        bool ipv6 = inet_pton(AF_INET6, rows[i].text, bytes) == 1;
        if (!ipv6)
            assert_int_equal(inet_pton(AF_INET, rows[i].text, bytes), 1);
        if (route_address_is_private(ipv6, bytes) != rows[i].want)
            fail_msg("%s", rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_first_match_wins),
        cmocka_unit_test(test_private_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
