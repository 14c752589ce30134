/* mta/auth/standing and siphash: delays that grow and decay, apart for each user and address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "mta/auth/siphash.h"
#include "mta/auth/standing.h"

static const struct standing_client here = {.local = true};
static const struct standing_client host_a = {.address = {192, 0, 2, 1}};
static const struct standing_client host_b = {.address = {192, 0, 2, 2}};

/* Our input is a length before two parts. The value is that of a second implementation, which gives
 * a129ca6149be45e5 for the message of the paper's appendix A. */
static void test_siphash(void **state)
{
    const struct siphash_key key = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};
    (void)state;

    assert_true(siphash(&key, STR("ab"), STR("c")) == 0x0df467c355595c6a);
    assert_false(siphash(&key, STR("ab"), STR("c")) == siphash(&key, STR("a"), STR("bc")));
    assert_false(siphash(&key, STR(""), STR("")) == siphash(&key, STR(""), STR("\0")));
    const struct siphash_key other = {{1, 2}};
    assert_false(siphash(&key, STR("a"), STR("b")) == siphash(&other, STR("a"), STR("b")));
}

static void fail_times(struct standing *standing, const struct standing_client *client,
                       struct str name, int times, uint64_t now_ms)
{
    for (int i = 0; i < times; i++)
        (void)standing_fail(standing, client, name, now_ms);
}

static uint32_t wait_ms(struct standing *standing, const struct standing_client *client,
                        struct str name, uint64_t now_ms)
{
    struct standing_admission admission = standing_admit(standing, client, name, now_ms);
    assert_true(admission.admitted);
    return admission.wait_ms;
}

static void test_answers_take_longer(void **state)
{
    static const uint32_t expected[] = {500, 1000, 2000, 4000, 8000, 16000, 16000, 16000};
    struct standing *standing = standing_new();
    (void)state;

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(standing_fail(standing, &here, STR("u"), 1000), expected[i]);
    standing_free(&standing);
    assert_null(standing);
}

static void test_failures_are_forgotten(void **state)
{
    struct standing *standing = standing_new();
    (void)state;

    fail_times(standing, &here, STR("u"), 50, 0); /* counts to 10 */
    assert_int_equal(standing_fail(standing, &here, STR("u"), 5 * STANDING_FORGET_MS), 16000);
    /* Six now, the last a moment ago; after four minutes two are left, and one comes. */
    assert_int_equal(standing_fail(standing, &here, STR("u"), 9 * STANDING_FORGET_MS), 2000);
    assert_int_equal(standing_fail(standing, &here, STR("u"), 99 * STANDING_FORGET_MS), 500);
    standing_free(&standing);
}

static void test_checks_wait_a_second_at_most(void **state)
{
    static const uint32_t expected[] = {0, 0, 0, 250, 500, 1000, 1000, 1000};
    (void)state;

    for (int failures = 0; failures < 8; failures++) {
        struct standing *standing = standing_new();
        fail_times(standing, &here, STR("u"), failures, 1000);
        assert_int_equal(wait_ms(standing, &here, STR("u"), 1000), expected[failures]);
        standing_free(&standing);
    }
}

static void test_whose_failures_count(void **state)
{
    struct standing *standing = standing_new();
    (void)state;

    /* On this machine: the user's, whatever else fails. */
    fail_times(standing, &here, STR("u"), 9, 0);
    assert_int_equal(wait_ms(standing, &here, STR("u"), 0), 1000);
    assert_int_equal(wait_ms(standing, &here, STR("v"), 0), 0);
    assert_int_equal(wait_ms(standing, &host_a, STR("u"), 0), 0);
    /* Over the network: the address for all users, the user for all addresses. */
    fail_times(standing, &host_a, STR("w"), 9, 0);
    assert_int_equal(wait_ms(standing, &host_a, STR("x"), 0), 1000);
    assert_int_equal(wait_ms(standing, &host_b, STR("w"), 0), 1000);
    assert_int_equal(wait_ms(standing, &host_b, STR("x"), 0), 0);
    assert_int_equal(wait_ms(standing, &here, STR("w"), 0), 0);
    standing_free(&standing);
}

static void test_hosts_of_ipv6_have_networks(void **state)
{
    struct standing_client a = {.ipv6 = true, .address = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1}};
    struct standing_client same = a, other = a;
    struct standing *standing = standing_new();
    (void)state;

    same.address[15] = 9;
    other.address[7] = 2;
    fail_times(standing, &a, STR("u"), 9, 0);
    assert_int_equal(wait_ms(standing, &same, STR("v"), 0), 1000);
    assert_int_equal(wait_ms(standing, &other, STR("v"), 0), 0);
    standing_free(&standing);
}

/* Who hangs up and guesses again gets eight checks a second out of an address. */
static void test_rate_of_checks(void **state)
{
    struct standing *standing = standing_new();
    int admitted = 0;
    (void)state;

    fail_times(standing, &host_a, STR("u"), 9, 0);
    for (int i = 0; i < 1000; i++) {
        struct standing_admission admission = standing_admit(standing, &host_a, STR("u"), 0);
        admitted += admission.admitted;
        assert_true(!admission.admitted || admission.wait_ms <= STANDING_WAIT_MAX_MS);
    }
    assert_int_equal(admitted, 9);
    /* The user comes in from elsewhere meanwhile, and who waits gets a turn. */
    assert_int_equal(wait_ms(standing, &host_b, STR("u"), 0), 1000);
    assert_int_equal(wait_ms(standing, &host_a, STR("u"), 2000), 1000);
    standing_free(&standing);
}

/* Without failures nobody is counted: an app may open a hundred connections at once. */
static void test_no_rate_without_failures(void **state)
{
    struct standing *standing = standing_new();
    (void)state;

    fail_times(standing, &host_a, STR("u"), 2, 0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(wait_ms(standing, &host_a, STR("u"), 0), 0);
    standing_free(&standing);
}

static void test_turns_are_fair(void **state)
{
    struct standing *standing = standing_new();
    uint64_t many = 0;
    (void)state;

    for (int i = 0; i < 100; i++)
        many = standing_turn(standing, &here, STR("u"), 0);
    assert_int_equal(many, 100);
    assert_int_equal(standing_turn(standing, &here, STR("v"), 0), 1);
    assert_int_equal(standing_turn(standing, &here, STR("v"), 0), 2);
    /* Over the network it is the address that counts. */
    assert_int_equal(standing_turn(standing, &host_a, STR("u"), 0), 1);
    assert_int_equal(standing_turn(standing, &host_a, STR("w"), 0), 2);
    assert_int_equal(standing_turn(standing, &host_b, STR("w"), 0), 1);
    /* Who comes later does not get in front of what has been served. */
    standing_serve(standing, 50);
    standing_serve(standing, 40);
    assert_int_equal(standing_turn(standing, &here, STR("w"), 0), 51);
    standing_free(&standing);
}

/* A flood of invented names has its place in the table, and no more. */
static void test_the_table_is_bounded(void **state)
{
    struct standing *standing = standing_new();
    char name[32];
    (void)state;

    fail_times(standing, &here, STR("u"), 9, 0);
    for (int i = 0; i < 50000; i++) {
        int len = snprintf(name, sizeof name, "name%d", i);
        (void)standing_fail(standing, &here, (struct str){name, (size_t)len}, 0);
    }
    /* What failed often stays. */
    assert_int_equal(standing_fail(standing, &here, STR("u"), 0), 16000);
    standing_free(&standing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash),
        cmocka_unit_test(test_answers_take_longer),
        cmocka_unit_test(test_failures_are_forgotten),
        cmocka_unit_test(test_checks_wait_a_second_at_most),
        cmocka_unit_test(test_whose_failures_count),
        cmocka_unit_test(test_hosts_of_ipv6_have_networks),
        cmocka_unit_test(test_rate_of_checks),
        cmocka_unit_test(test_no_rate_without_failures),
        cmocka_unit_test(test_turns_are_fair),
        cmocka_unit_test(test_the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
