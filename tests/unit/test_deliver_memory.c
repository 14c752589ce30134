/* What hosts lately taught us: found, forgotten in time, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mta/deliver/memory.h"

static void test_learn_and_forget(void **unused)
{
    struct memory *memory = memory_new();
    (void)unused;
    assert_false(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.1", 0));
    memory_learn(memory, MEMORY_UNREACHABLE, "192.0.2.1", 1000);
    assert_true(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.1", 999));
    assert_false(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.1", 1000));
    assert_false(memory_knows(memory, MEMORY_TLS_BROKEN, "192.0.2.1", 1));
    assert_false(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.2", 1));
    memory_learn(memory, MEMORY_UNREACHABLE, "192.0.2.1", 5000);
    assert_true(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.1", 4000));
    memory_forget(memory, MEMORY_UNREACHABLE, "192.0.2.1");
    assert_false(memory_knows(memory, MEMORY_UNREACHABLE, "192.0.2.1", 1));
    memory_forget(memory, MEMORY_UNREACHABLE, "192.0.2.1");
    memory_learn(memory, MEMORY_IPV6_DEAD, "", 10);
    assert_true(memory_knows(memory, MEMORY_IPV6_DEAD, "", 9));
    memory_free(&memory);
    assert_null(memory);
    memory_free(&memory);
}

/* The longest address in text fits: two that differ only at the end are two. */
static void test_long_keys(void **unused)
{
    struct memory *memory = memory_new();
    (void)unused;
    memory_learn(memory, MEMORY_UNREACHABLE, "1111:2222:3333:4444:5555:6666:255.255.255.254", 9);
    assert_true(memory_knows(memory, MEMORY_UNREACHABLE,
                             "1111:2222:3333:4444:5555:6666:255.255.255.254", 1));
    assert_false(memory_knows(memory, MEMORY_UNREACHABLE,
                              "1111:2222:3333:4444:5555:6666:255.255.255.255", 1));
    memory_free(&memory);
}

/* However many are learnt, the latest is known, and much of what came shortly before. */
static void test_bounded(void **unused)
{
    struct memory *memory = memory_new();
    char key[32];
    size_t known = 0;
    (void)unused;
    for (unsigned i = 1; i <= 100000; i++) {
        snprintf(key, sizeof key, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        memory_learn(memory, MEMORY_TLS_BROKEN, key, 1000000 + i);
        assert_true(memory_knows(memory, MEMORY_TLS_BROKEN, key, 1));
    }
    for (unsigned i = 99001; i <= 100000; i++) {
        snprintf(key, sizeof key, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        known += memory_knows(memory, MEMORY_TLS_BROKEN, key, 1);
    }
    assert_in_range(known, 900, 1000);
    memory_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learn_and_forget),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
