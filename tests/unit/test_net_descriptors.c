/* tests/unit/test_net_descriptors.c - how a limit of open files is shared out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "mta/net/descriptors.h"

static void test_shares(void **state)
{
    static const struct {
        size_t limit, loops, wanted;
        struct descriptor_shares shares;
    } cases[] = {
        {524288, 2, 1000, {490448, 32696, 1000}}, /* mtad.service: no bound at all */
        {4096, 2, 1000, {2768, 184, 1000}},       /* room for the default of 2000 and 1000 */
        {1024, 2, 1000, {413, 27, 440}},          /* too few: nobody gets more than the half */
        {1024, 2, 20, {807, 53, 20}},             /* what delivery does not want is the clients' */
        {1024, 64, 1000, {360, 24, 384}},         /* own needs: at most a quarter */
        {64, 2, 1000, {23, 1, 24}},
        {4, 2, 1000, {1, 1, 1}},
        {1, 2, 1000, {1, 0, 0}},
        {0, 2, 1000, {0, 0, 0}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct descriptor_shares got =
            descriptors_share(cases[i].limit, cases[i].loops, cases[i].wanted);
        assert_int_equal(got.clients, cases[i].shares.clients);
        assert_int_equal(got.refused, cases[i].shares.refused);
        assert_int_equal(got.deliveries, cases[i].shares.deliveries);
        assert_true(got.clients + got.refused + got.deliveries <= cases[i].limit);
    }
}

static void test_unlimited(void **state)
{
    (void)state;
    struct descriptor_shares got = descriptors_share((size_t)RLIM_INFINITY, 64, 1000);
    assert_int_equal(got.deliveries, 1000);
    assert_true(got.clients > 1000000);
}

/* The limit as it is now, not as it was at the start of the process. */
static void test_this_process(void **state)
{
    struct rlimit before, lower;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    lower = before;
    lower.rlim_cur = 200;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lower), 0);
    struct descriptor_shares got = descriptors_share_now(1000);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(got.deliveries, 75);
    assert_int_equal(got.clients + got.refused, 75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_unlimited),
        cmocka_unit_test(test_this_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
