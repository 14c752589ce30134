/* Ids: the generator, and their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "queue/id.h"
#include "queue/queue.h"

static void texts(void **state)
{
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {
        {0, "0000000000000"},
        {1, "0000000000001"},
        {31, "000000000000Z"},
        {32, "0000000000010"},
        {UINT64_C(0x123456789ABCDEF0), "14D2PF2DBSQQG"},
        {UINT64_MAX, "FZZZZZZZZZZZZ"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[QUEUE_ID_TEXT];
        uint64_t id = 7;
        queue_id_text(cases[i].id, text);
        assert_string_equal(text, cases[i].text);
        assert_true(queue_id_parse(cases[i].text, strlen(cases[i].text), &id));
        assert_int_equal(id, cases[i].id);
    }
}

static void parsing(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        bool ok;
        uint64_t id;
    } cases[] = {
        {"14d2pf2dbsqqg", 13, true, UINT64_C(0x123456789ABCDEF0)},
        {"l4D2PF2DBSQQG", 13, true, UINT64_C(0x123456789ABCDEF0)},
        {"I4D2PF2DBSQQG", 13, true, UINT64_C(0x123456789ABCDEF0)},
        {"oOoOoOoOoOoO1", 13, true, 1},
        {"0000000000001tail", 13, true, 1},
        {"000000000000", 12, false, 0},
        {"00000000000001", 14, false, 0},
        {"", 0, false, 0},
        {"000000000000U", 13, false, 0},
        {"000000000000-", 13, false, 0},
        {"000000000000\0", 13, false, 0},
        {"000000000000\xff", 13, false, 0},
        {"G000000000000", 13, false, 0}, /* 65 bits */
        {"ZZZZZZZZZZZZZ", 13, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t id = 77;
        assert_int_equal(queue_id_parse(cases[i].text, cases[i].len, &id), cases[i].ok);
        assert_int_equal(id, cases[i].ok ? cases[i].id : 77);
    }
}

static void follows_the_clock_but_never_back(void **state)
{
    (void)state;
    struct queue_ids ids;
    queue_ids_init(&ids, 0);
    int64_t now = 1700000000000;
    uint64_t first = queue_ids_next(&ids, now);
    assert_int_equal(first, (uint64_t)now << 22);
    assert_int_equal(queue_ids_next(&ids, now), first + 1);
    assert_int_equal(queue_ids_next(&ids, now - 86400000), first + 2);
    assert_int_equal(queue_ids_next(&ids, -5), first + 3);
    assert_int_equal(queue_ids_next(&ids, now + 1), (uint64_t)(now + 1) << 22);
    assert_int_equal(queue_ids_next(&ids, INT64_MAX), UINT64_MAX >> 22 << 22);
}

/* What was stored at any commit is at least what was given out before the next one. */
static void the_high_mark_covers_what_is_given_out(void **state)
{
    (void)state;
    static const int64_t steps[] = {0, 1, 5000, 9999, -100000000, 3, -86400000, 10};
    struct queue_ids ids;
    int64_t now = 1700000000000;
    uint64_t high = 0;
    queue_ids_init(&ids, high);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        now += steps[i];
        (void)queue_ids_next(&ids, now);
        uint64_t mark = queue_ids_high(&ids, now);
        for (int n = 0; n < 100; n++)
            assert_true(queue_ids_next(&ids, now + (int64_t)n * 99) <= mark);
        struct queue_ids restarted;
        queue_ids_init(&restarted, mark);
        assert_true(queue_ids_next(&restarted, 0) > atomic_load(&ids.last));
        high = mark;
    }
    assert_true(high > 0);
}

#define PER_THREAD 20000

struct taker {
    struct queue_ids *ids;
    uint64_t *out;
};

static void *take_many(void *arg)
{
    struct taker *taker = arg;
    for (size_t i = 0; i < PER_THREAD; i++)
        taker->out[i] = queue_ids_next(taker->ids, 1700000000000);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void threads_never_share_an_id(void **state)
{
    (void)state;
    static uint64_t all[4 * PER_THREAD];
    struct queue_ids ids;
    struct taker takers[4];
    pthread_t threads[4];
    queue_ids_init(&ids, 0);
    for (size_t i = 0; i < 4; i++) {
        takers[i] = (struct taker){&ids, all + i * (size_t)PER_THREAD};
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, &takers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    qsort(all, sizeof all / sizeof all[0], sizeof all[0], compare);
    for (size_t i = 1; i < sizeof all / sizeof all[0]; i++)
        assert_true(all[i] > all[i - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(parsing),
        cmocka_unit_test(follows_the_clock_but_never_back),
        cmocka_unit_test(the_high_mark_covers_what_is_given_out),
        cmocka_unit_test(threads_never_share_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
