/* An outcome of very many recipients: recorded in steps, each of which leaves a whole queue. */
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

enum { CROWD = 40000, FAILED = 100 };

static void accept_crowd(struct fixture *f, uint64_t *id_out)
{
    static char addresses[CROWD][40];
    static struct queue_recipient rcpts[CROWD];
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    for (size_t i = 0; i < CROWD; i++) { /* one of another domain */
        (void)snprintf(addresses[i], sizeof addresses[i], "u%zu@%s.example", i, i > 0 ? "d" : "e");
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1};
    }
    struct queue_envelope envelope = {
        .sender = "s", .recipients = rcpts, .recipient_count = CROWD, .sign_domain = ""};
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, id_out), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
}

/* All of the large unit: the first of them fail, of the others every second one is delivered. */
static void record_crowd(struct fixture *f, uint64_t id, struct answer *answer)
{
    static struct queue_rcpt_outcome outcomes[CROWD];
    struct queue_attempt attempt = fixture_attempt("busy");
    struct fixture_envelope e;
    char space[512];
    fixture_envelope(&e, "sender@home.example", space);
    e.envelope.sender = "";
    struct queue_bounce bounce = {&e.envelope, "DSN!", 4};
    for (uint32_t i = 1; i < CROWD; i++)
        outcomes[i] = (struct queue_rcpt_outcome){i,
                                                  i <= FAILED  ? QUEUE_RCPT_FAILED
                                                  : i % 2 == 0 ? QUEUE_RCPT_DELIVERED
                                                               : QUEUE_RCPT_WAITING,
                                                  &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .unit = 1,
                                    .recipients = outcomes + 1,
                                    .recipient_count = CROWD - 1,
                                    .due_unix_ms = 77,
                                    .count_attempt = true,
                                    .bounce = &bounce};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, answer);
}

static void assert_crowd(struct fixture *f, uint64_t id)
{
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    for (size_t i = 1; i < CROWD; i++) {
        assert_int_equal(e->recipients[i].attempts, 1);
        assert_int_equal(e->recipients[i].state, i <= FAILED  ? QUEUE_RCPT_FAILED
                                                 : i % 2 == 0 ? QUEUE_RCPT_DELIVERED
                                                              : QUEUE_RCPT_WAITING);
    }
    assert_int_equal(e->recipients[0].state, QUEUE_RCPT_WAITING);
    assert_int_equal(e->units[1].attempts, 1);
    assert_int_equal(e->units[1].due_unix_ms, 77);
    queue_message_free(&message);
}

/* Whoever looks in between sees a whole queue, the bounce comes with its failures, others' mail is
 * not kept waiting for all of it. */
static void a_crowd_is_recorded_in_steps(void **state)
{
    struct fixture *f = *state;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    uint64_t other = 0;
    accept_crowd(f, &id);
    uint64_t commits = fixture_counts(f).commits;
    record_crowd(f, id, &answer);
    for (int looks = 0; answer.times == 0 && looks < 1000; looks++) {
        struct queue_message *message = NULL;
        fixture_check_all(f);
        assert_int_equal(queue_read_message(f->queue, id, &message), 0);
        bool failed = queue_message_envelope(message)->recipients[1].state == QUEUE_RCPT_FAILED;
        bool ended = queue_message_envelope(message)->units[1].attempts > 0;
        queue_message_free(&message);
        assert_int_equal(failed, ended);
        assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &other), 0);
        assert_int_equal(fixture_admin(f, other, QUEUE_VERB_DELETE), 0);
    }
    assert_int_equal(fixture_result(f, &answer), 0);
    assert_true(fixture_counts(f).commits >= commits + 3);
    assert_crowd(f, id);
    fixture_check_counts(f, 2, 2, 1); /* the bounce, and the recipient of another domain */
    fixture_check_all(f);
    fixture_reopen(f);
    assert_crowd(f, id);
}

/* An admin deletes the message between the steps, which takes less of them: no bounce is made. */
static void a_crowd_that_is_deleted_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct answer deleted = {ANSWER_NONE, 0};
    struct answer recorded = {ANSWER_NONE, 0};
    uint64_t id = 0;
    accept_crowd(f, &id);
    queue_admin(f->queue, f->port, QUEUE_VERB_DELETE, id, NULL, 0, NULL, fixture_on_done, &deleted);
    record_crowd(f, id, &recorded);
    assert_int_equal(fixture_result(f, &deleted), 0);
    assert_int_equal(fixture_result(f, &recorded), 0);
    assert_true(fixture_is_gone(f, id));
    fixture_check_counts(f, 0, 0, 0);
    fixture_check_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_crowd_is_recorded_in_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crowd_that_is_deleted_meanwhile, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
