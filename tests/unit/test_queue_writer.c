/* The writer: who shares a transaction with whom, and what closing does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/queue_fixture.h"

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

static void hand_in(struct fixture *f, struct answer *answer)
{
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    fixture_envelope(&e, "a@x.example", space);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
    queue_put_commit(put, &e.envelope, fixture_on_done, answer);
}

static void many_messages_share_a_commit(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 300 };
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t before = fixture_counts(f).commits;
    for (int i = 0; i < COUNT; i++)
        hand_in(f, &answer);
    assert_true(fixture_wait(f, &answer.times, COUNT));
    assert_int_equal(fixture_counts(f).messages, COUNT);
    assert_true(fixture_counts(f).commits - before < COUNT / 3);
}

static void hand_in_outcome(struct fixture *f, uint64_t id, enum queue_rcpt_state state,
                            struct answer *answer)
{
    struct queue_rcpt_outcome rcpt = {0, state, NULL};
    struct queue_outcome outcome = {.id = id,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = 5,
                                    .count_attempt = true};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, answer);
}

/* One that ends something; a busy machine may take longer than it waits: once of many times is
 * enough. */
static void an_accept_takes_a_waiting_outcome_along(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    bool shared = false;
    for (int i = 0; i < 100 && !shared; i++) {
        struct answer answer = {ANSWER_NONE, 0};
        assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &id), 0);
        fixture_settle(f);
        uint64_t before = fixture_counts(f).commits;
        hand_in_outcome(f, id, QUEUE_RCPT_DELIVERED, &answer);
        hand_in(f, &answer);
        assert_true(fixture_wait(f, &answer.times, 2));
        shared = fixture_counts(f).commits == before + 1;
    }
    assert_true(shared);
}

static void many_outcomes_share_a_commit(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 2000 };
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &id), 0);
    uint64_t before = fixture_counts(f).commits;
    for (int i = 0; i < COUNT; i++)
        hand_in_outcome(f, id, QUEUE_RCPT_WAITING, &answer);
    assert_true(fixture_wait(f, &answer.times, COUNT));
    assert_true(fixture_counts(f).commits - before < COUNT / 10);
}

static bool see_next(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    (void)lane;
    (void)domain;
    *(int64_t *)ctx = due;
    return true;
}

static void closing_commits_what_waits(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    int64_t due = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &id), 0);
    queue_park(f->queue, NULL, id, 0, 77, NULL, NULL);
    fixture_reopen(f); /* before its company could come */
    assert_int_equal(fixture_read_next(f, INT64_MAX, see_next, &due), 0);
    assert_int_equal(due, 77);
}

static void copy_store(const struct fixture *from, const struct fixture *to)
{
    static char block[1 << 16];
    char path[128];
    size_t got;
    (void)snprintf(path, sizeof path, "%s/data.mdb", from->folder);
    FILE *in = fopen(path, "rb");
    (void)snprintf(path, sizeof path, "%s/data.mdb", to->folder);
    FILE *out = fopen(path, "wb");
    fixture_check(in != NULL && out != NULL, "fopen");
    while ((got = fread(block, 1, sizeof block, in)) > 0)
        fixture_check(fwrite(block, 1, got, out) == got, "fwrite");
    (void)fclose(in);
    fixture_check(fclose(out) == 0, "fclose");
}

/* A large message begins to be stored while it arrives; one that is never finished is swept. */
static void an_interrupted_message_is_swept(void **state)
{
    struct fixture *f = *state;
    static char piece[QUEUE_PIECE_MAX];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    char byte;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 1000 && fixture_counts(f).file_bytes < 6 * sizeof piece; i++)
        usleep(1000);
    assert_true(fixture_counts(f).file_bytes >= 6 * sizeof piece);
    /* a copy of the folder is what a crash would leave */
    struct fixture *g = fixture_new();
    copy_store(f, g);
    queue_put_abort(put);
    fixture_open(g);
    assert_int_equal(g->notice_count, 1);
    assert_string_equal(g->notices[0], "removing 1 message whose transfer was interrupted");
    assert_int_equal(queue_read_body(g->queue, id, 0, &byte, 1), QUEUE_READ_GONE);
    for (int i = 0; i < 500 && fixture_counts(g).file_bytes >= sizeof piece; i++)
        fixture_settle(g); /* it is removed in steps */
    assert_int_equal(fixture_accept(g, "a@x.example", "x", 1, &id), 0);
    assert_true(fixture_counts(g).file_bytes < sizeof piece);
    fixture_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_messages_share_a_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(an_accept_takes_a_waiting_outcome_along, setup, teardown),
        cmocka_unit_test_setup_teardown(many_outcomes_share_a_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_commits_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_message_is_swept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
