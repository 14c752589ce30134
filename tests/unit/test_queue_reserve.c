/* A full queue whose mail is tried again and again: what is written of the attempts must leave the
 * room that deliveries and removals need, down to the last page of the map. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define MAX_BYTES  (UINT64_C(1) << 20) /* the reserve is 64 MiB then */
#define RESERVE    (UINT64_C(64) << 20)
#define MESSAGES   26
#define RECIPIENTS 100
#define ROUNDS     22 /* so many attempts of each are kept */

static struct queue_recipient recipients[RECIPIENTS];
static char text[QUEUE_TEXT_MAX];

static int accept_one(struct fixture *f, uint64_t *id_out)
{
    static char addresses[RECIPIENTS][32];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_envelope envelope = {.sender = "sender@example.org",
                                      .recipients = recipients,
                                      .recipient_count = RECIPIENTS,
                                      .sign_domain = ""};
    for (size_t i = 0; i < RECIPIENTS; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "u%zu@x.example", i);
        recipients[i] = (struct queue_recipient){.address = addresses[i], .domain = "x.example"};
    }
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, id_out), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    return fixture_result(f, &answer);
}

/* The same becomes of all messages and recipients. @return the worst answer */
static int record_all(struct fixture *f, const uint64_t *ids, enum queue_rcpt_state state)
{
    static struct queue_rcpt_outcome rcpts[RECIPIENTS];
    static struct queue_attempt attempts[RECIPIENTS];
    static struct answer answers[MESSAGES];
    int worst = 0;
    for (size_t i = 0; i < RECIPIENTS; i++) {
        attempts[i] = fixture_attempt(text);
        rcpts[i] = (struct queue_rcpt_outcome){(uint32_t)i, state, &attempts[i]};
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        struct queue_outcome outcome = {.id = ids[i],
                                        .recipients = rcpts,
                                        .recipient_count = RECIPIENTS,
                                        .due_unix_ms = 1700000002000,
                                        .count_attempt = true};
        answers[i] = (struct answer){ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answers[i]);
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        int result = fixture_result(f, &answers[i]);
        worst = result < worst ? result : worst;
    }
    return worst;
}

static uint32_t attempts_of_unit(struct fixture *f, uint64_t id)
{
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    uint32_t attempts = queue_message_envelope(message)->units[0].attempts;
    queue_message_free(&message);
    return attempts;
}

static void history_leaves_room_for_the_end(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t ids[MESSAGES];
    struct queue_check_result result;
    char error[256];
    (void)state;
    memset(text, 't', sizeof text - 1);
    fixture_open_max(f, MAX_BYTES);
    for (size_t i = 0; i < MESSAGES; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    for (int round = 0; round < ROUNDS; round++)
        assert_int_equal(record_all(f, ids, QUEUE_RCPT_WAITING), 0);
    uint64_t used = fixture_counts(f).file_bytes;
    assert_true(used > MAX_BYTES + RESERVE / 4); /* there was something to be stopped */
    assert_true(used < MAX_BYTES + RESERVE * 3 / 4);
    assert_int_equal(attempts_of_unit(f, ids[0]), ROUNDS); /* counted all the same */
    fixture_close(f);
    assert_int_equal(queue_check(f->folder, false, NULL, NULL, &result, error, sizeof error), 0);
    assert_int_equal(result.problems, 0);
    fixture_open_max(f, MAX_BYTES);
    assert_int_equal(record_all(f, ids, QUEUE_RCPT_DELIVERED), 0);
    assert_int_equal(fixture_counts(f).messages, 0);
    /* Long lists are removed in steps: the last room comes back a moment later. */
    int rc = QUEUE_ERR_FULL;
    for (int i = 0; i < 5000 && rc == QUEUE_ERR_FULL; i++) {
        (void)usleep(2000);
        rc = accept_one(f, &ids[0]);
    }
    assert_int_equal(rc, 0);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_leaves_room_for_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
