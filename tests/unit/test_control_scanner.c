/* The scanner: jobs in turn on a thread of its own, their ends on the loop, and a stop at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "mta/control/scanner.h"

struct bed;

struct test_job {
    struct scanner_job job;
    struct bed *bed;
    char name;
    int times; /* to be done */
    pthread_t worker;
};

struct bed {
    uv_loop_t loop;
    struct scanner *scanner;
    char worked[64], done[64];
    size_t worked_count, done_count;
    atomic_bool gate; /* work waits for it */
};

static int setup(void **state)
{
    static struct bed bed;
    memset(&bed, 0, sizeof bed);
    assert_int_equal(uv_loop_init(&bed.loop), 0);
    assert_int_equal(scanner_start(&bed.loop, &bed.scanner), 0);
    atomic_store(&bed.gate, true);
    *state = &bed;
    return 0;
}

static int teardown(void **state)
{
    struct bed *bed = *state;
    scanner_stop(&bed->scanner);
    assert_null(bed->scanner);
    scanner_stop(&bed->scanner);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    return 0;
}

static void work(struct scanner_job *job)
{
    struct test_job *test = (struct test_job *)job;
    while (!atomic_load(&test->bed->gate))
        usleep(100);
    test->worker = pthread_self();
    test->bed->worked[test->bed->worked_count++] = test->name;
}

static void done(struct scanner_job *job)
{
    struct test_job *test = (struct test_job *)job;
    assert_false(pthread_equal(test->worker, pthread_self()));
    test->bed->done[test->bed->done_count++] = test->name;
    if (--test->times > 0)
        scanner_add(test->bed->scanner, job);
}

static struct test_job job_of(struct bed *bed, char name, int times)
{
    return (struct test_job){{work, done, NULL}, bed, name, times, pthread_self()};
}

static void turn_until_done(struct bed *bed, size_t count)
{
    for (int i = 0; i < 100000 && bed->done_count < count; i++) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
    assert_int_equal(bed->done_count, count);
}

/* While the first waits the others line up behind it; long ones go to the end of the line again. */
static void test_in_turn(void **state)
{
    struct bed *bed = *state;
    struct test_job jobs[] = {job_of(bed, 'a', 1), job_of(bed, 'b', 1), job_of(bed, 'c', 1)};
    atomic_store(&bed->gate, false);
    for (size_t i = 0; i < 3; i++)
        scanner_add(bed->scanner, &jobs[i].job);
    for (int i = 0; i < 100; i++)
        uv_run(&bed->loop, UV_RUN_NOWAIT); /* the loop goes on meanwhile */
    assert_int_equal(bed->done_count, 0);
    atomic_store(&bed->gate, true);
    turn_until_done(bed, 3);
    assert_string_equal(bed->worked, "abc");
    assert_string_equal(bed->done, "abc");
}

static void test_again(void **state)
{
    struct bed *bed = *state;
    struct test_job jobs[] = {job_of(bed, 'a', 20), job_of(bed, 'b', 20)};
    scanner_add(bed->scanner, &jobs[0].job);
    scanner_add(bed->scanner, &jobs[1].job);
    turn_until_done(bed, 40);
    assert_int_equal(bed->worked_count, 40);
}

/* With one at work, one waiting and one finished of which nobody was told. */
static void test_stop_at_work(void **state)
{
    struct bed *bed = *state;
    struct test_job jobs[] = {job_of(bed, 'a', 1), job_of(bed, 'b', 1), job_of(bed, 'c', 1)};
    for (size_t i = 0; i < 3; i++)
        scanner_add(bed->scanner, &jobs[i].job);
    scanner_stop(&bed->scanner);
    assert_in_range(bed->worked_count, 0, 3);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(bed->done_count, 0);
}

#define BED_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_in_turn),
        BED_TEST(test_again),
        BED_TEST(test_stop_at_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
