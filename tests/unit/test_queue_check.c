/* A store that only the queue has touched is clean, whatever was done; the check itself changes
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define LINES_MAX 256

struct lines {
    size_t count;
    char text[LINES_MAX][512];
};

static void add_line(const char *line, void *ctx)
{
    struct lines *lines = ctx;
    if (lines->count < LINES_MAX)
        (void)snprintf(lines->text[lines->count], sizeof lines->text[0], "%s", line);
    lines->count++;
}

static struct queue_check_result checked(struct fixture *f, bool repair, struct lines *lines)
{
    struct queue_check_result result = {0};
    char error[512] = "";
    lines->count = 0;
    int rc = queue_check(f->folder, repair, add_line, lines, &result, error, sizeof error);
    if (rc != 0)
        fail_msg("queue_check: %s", error);
    for (size_t i = 0; result.problems > 0 && i < lines->count && i < LINES_MAX; i++)
        print_message("%s\n", lines->text[i]);
    return result;
}

static void test_random_store_is_clean(void **state)
{
    struct fixture *f = *state;
    static struct lines lines;
    static const char *const rcpts[] = {"a@x.example", "a@x.example b@y.example",
                                        "a@x.example b@x.example c@z.example",
                                        "q@w.example r@x.example s@y.example t@z.example"};
    static char body[300000];
    uint64_t ids[400];
    size_t count = 0;
    unsigned seed = 4711;
    memset(body, 'x', sizeof body);
    for (int i = 0; i < 400; i++) {
        int what = rand_r(&seed) % 10;
        if (what < 5 || count == 0) {
            size_t len =
                (size_t)(rand_r(&seed) % 20 == 0 ? rand_r(&seed) % 300000 : rand_r(&seed) % 9000) +
                1;
            assert_int_equal(fixture_accept(f, rcpts[rand_r(&seed) % 4], body, len, &ids[count++]),
                             0);
        } else {
            uint64_t id = ids[(size_t)rand_r(&seed) % count];
            enum queue_rcpt_state to =
                rand_r(&seed) % 2 == 0 ? QUEUE_RCPT_WAITING : QUEUE_RCPT_DELIVERED;
            (void)fixture_record(f, id, 0, 0, to, 1700000000000 + rand_r(&seed) % 100000);
            if (rand_r(&seed) % 3 == 0)
                queue_park(f->queue, NULL, id, 1, 1700000000000 + rand_r(&seed) % 1000, NULL, NULL);
            if (rand_r(&seed) % 5 == 0)
                (void)fixture_admin(f, id, (enum queue_verb)(rand_r(&seed) % 5));
        }
    }
    fixture_settle(f);
    struct queue_counts counts = fixture_counts(f);
    fixture_close(f);
    struct queue_check_result result = checked(f, false, &lines);
    assert_int_equal(result.problems, 0);
    assert_int_equal(result.messages, counts.messages);
    assert_int_equal(result.body_bytes, counts.bytes);
    assert_int_equal(result.units, counts.units_fresh + counts.units_deferred + counts.units_held);
    result = checked(f, true, &lines);
    assert_int_equal(result.problems, 0);
    fixture_open(f);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free((struct fixture **)state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_store_is_clean, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
