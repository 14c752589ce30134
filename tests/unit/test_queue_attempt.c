/* Attempts keep what the other side said, whatever it said. */
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

static bool copy_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    char *text = ctx;
    (void)recipient;
    (void)snprintf(text, 4096, "%lld %s %s %u %s %s %s", (long long)attempt->time_unix_ms,
                   attempt->host, attempt->address, (unsigned)attempt->code, attempt->status,
                   attempt->text, attempt->tls);
    return true;
}

/* O20: any bytes but NUL; too long is cut */
static void attempt_texts_may_hold_anything(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    char text[4096] = "";
    char odd[2000];
    for (size_t i = 0; i < sizeof odd - 1; i++)
        odd[i] = (char)(i % 255 + 1);
    odd[sizeof odd - 1] = '\0';
    struct queue_attempt attempt = fixture_attempt(odd);
    attempt.host = "";
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_WAITING, &attempt};
    struct queue_outcome outcome = {
        .recipients = &rcpt, .recipient_count = 1, .due_unix_ms = 9, .count_attempt = true};
    struct answer answer = {ANSWER_NONE, 0};
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &id), 0);
    outcome.id = id;
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    fixture_reopen(f);
    assert_int_equal(queue_read_attempts(f->queue, id, copy_attempt, text), 0);
    char want[4096];
    odd[QUEUE_TEXT_MAX] = '\0';
    (void)snprintf(want, sizeof want, "1700000001000  192.0.2.1 451 4.3.0 %s TLS1.3", odd);
    assert_string_equal(text, want);
}

/* Recipients that shared an attempt are listed one after the other, each with it. */
static bool add_recipient(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    char *text = ctx;
    size_t at = strlen(text);
    (void)snprintf(text + at, 256 - at, "%u:%u ", (unsigned)recipient, (unsigned)attempt->code);
    return true;
}

static void a_shared_attempt_is_everyones(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    char text[256] = "";
    struct queue_attempt first = fixture_attempt("all of you: later");
    struct queue_attempt second = fixture_attempt("you: no");
    second.code = 550;
    struct queue_rcpt_outcome rcpts[] = {{0, QUEUE_RCPT_WAITING, &first},
                                         {1, QUEUE_RCPT_FAILED, &second},
                                         {2, QUEUE_RCPT_WAITING, &first},
                                         {3, QUEUE_RCPT_WAITING, NULL}};
    struct queue_outcome outcome = {
        .recipients = rcpts, .recipient_count = 4, .due_unix_ms = 9, .count_attempt = true};
    assert_int_equal(
        fixture_accept(f, "a@x.example b@x.example c@x.example d@x.example", "1", 1, &id), 0);
    outcome.id = id;
    for (int i = 0; i < 2; i++) {
        struct answer answer = {ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), 0);
    }
    assert_int_equal(queue_read_attempts(f->queue, id, add_recipient, text), 0);
    assert_string_equal(text, "0:451 0:451 1:550 2:451 2:451 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(attempt_texts_may_hold_anything, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shared_attempt_is_everyones, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
