/* tests/unit/test_net_loops.c - posting into loops from many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "mta/net/loops.h"

#define POSTERS 6
#define POSTS   20000

struct poster {
    struct loop *loop;
    uint32_t next;       /* what the loop expects; its own */
    uint32_t wrong;      /* its own */
    atomic_uint arrived; /* any thread */
};

struct item {
    struct poster *poster;
    uint32_t number;
};

static void take_item(struct loop *loop, void *arg)
{
    struct item *item = arg;
    struct poster *poster = item->poster;
    poster->wrong += loop != poster->loop || item->number != poster->next;
    poster->next++;
    atomic_fetch_add(&poster->arrived, 1);
    free(item);
}

static void *post_items(void *arg)
{
    struct poster *poster = arg;
    for (uint32_t i = 0; i < POSTS; i++) {
        struct item *item = mem_alloc(sizeof *item);
        *item = (struct item){poster, i};
        if (!loop_post(poster->loop, take_item, item))
            free(item);
    }
    return NULL;
}

static void runs_all_posts_in_order(void **state)
{
    struct loop **loops = NULL;
    struct poster posters[POSTERS] = {0};
    pthread_t threads[POSTERS];
    (void)state;
    assert_int_equal(loops_start(3, &loops), 0);
    for (size_t i = 0; i < POSTERS; i++) {
        posters[i].loop = loops[i % 3];
        assert_int_equal(pthread_create(&threads[i], NULL, post_items, &posters[i]), 0);
    }
    for (size_t i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(loop_index(loops[i]), i);
    loops_stop(&loops, 3); /* what was posted before still runs */
    assert_null(loops);
    for (size_t i = 0; i < POSTERS; i++) {
        assert_int_equal(atomic_load(&posters[i].arrived), POSTS);
        assert_int_equal(posters[i].wrong, 0);
    }
}

/* ---- stopping while others post ---- */

struct ping {
    struct loop **loops;
    atomic_uint refused, ran;
};

static void ping_pong(struct loop *loop, void *arg)
{
    struct ping *ping = arg;
    atomic_fetch_add(&ping->ran, 1);
    if (!loop_post(ping->loops[1 - loop_index(loop)], ping_pong, ping))
        atomic_fetch_add(&ping->refused, 1);
}

static void stops_while_loops_post_to_each_other(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct ping ping = {0};
        struct loop **loops = NULL;
        assert_int_equal(loops_start(2, &loops), 0);
        ping.loops = loops;
        for (int i = 0; i < 4; i++)
            assert_true(loop_post(loops[i % 2], ping_pong, &ping));
        loops_stop(&loops, 2);
        assert_int_equal(atomic_load(&ping.refused), 4); /* each of the four chains ended once */
        assert_true(atomic_load(&ping.ran) >= 4);
    }
}

/* ---- a later turn, handles, signals ---- */

struct turns {
    int step;
    bool later, blocked;
    uv_timer_t timer;
};

static void second_step(struct loop *loop, void *arg)
{
    struct turns *turns = arg;
    (void)loop;
    turns->later = turns->step == 1;
    uv_close((uv_handle_t *)&turns->timer, NULL);
}

static void first_step(struct loop *loop, void *arg)
{
    struct turns *turns = arg;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    turns->blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGPIPE) == 1;
    uv_timer_init(loop_uv(loop), &turns->timer);
    bool accepted = loop_post(loop, second_step, turns);
    turns->step = accepted ? 1 : 0; /* after the post: it must not run inside it */
}

static void nothing(struct loop *loop, void *arg)
{
    atomic_bool *ran = arg;
    (void)loop;
    atomic_store(ran, true);
}

static void runs_on_a_later_turn(void **state)
{
    struct loop **loops = NULL;
    struct turns turns = {0};
    atomic_bool ran = false;
    (void)state;
    assert_int_equal(loops_start(1, &loops), 0);
    assert_true(loop_post(loops[0], first_step, &turns));
    while (!atomic_load(&ran)) { /* first_step must have posted before the stop */
        assert_true(loop_post(loops[0], nothing, &ran));
        uv_sleep(1);
    }
    uv_sleep(20);
    loops_stop(&loops, 1);
    assert_true(turns.later);
    assert_true(turns.blocked);
}

static void counts_load(void **state)
{
    struct loop **loops = NULL;
    (void)state;
    assert_int_equal(loops_start(1, &loops), 0);
    assert_int_equal(loop_load(loops[0]), 0);
    loop_load_add(loops[0], 3);
    loop_load_add(loops[0], -1);
    assert_int_equal(loop_load(loops[0]), 2);
    loops_stop(&loops, 1);
    loops_stop(&loops, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_all_posts_in_order),
        cmocka_unit_test(stops_while_loops_post_to_each_other),
        cmocka_unit_test(runs_on_a_later_turn),
        cmocka_unit_test(counts_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
