/* Outcomes: states, attempts, due order, bounces, the end of a message; admins' steps; parking. */
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

/* ---- what is due, as text: domain@time, domain+time for what was parked ---- */

struct listing {
    char text[2048];
};

static bool add_next(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    struct listing *l = ctx;
    size_t at = strlen(l->text);
    (void)snprintf(l->text + at, sizeof l->text - at, "%s%s%c%lld", at > 0 ? " " : "", domain,
                   lane == QUEUE_LANE_RETRY ? '@' : '+', (long long)due);
    return true;
}

static bool add_due(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    struct listing *l = ctx;
    size_t at = strlen(l->text);
    (void)id;
    (void)snprintf(l->text + at, sizeof l->text - at, "%s%u@%lld", at > 0 ? " " : "",
                   (unsigned)unit, (long long)due);
    return true;
}

static void check_next(struct fixture *f, const char *want)
{
    struct listing l = {.text = ""};
    assert_int_equal(fixture_read_next(f, INT64_MAX, add_next, &l), 0);
    assert_string_equal(l.text, want);
}

static void check_due(struct fixture *f, const char *domain, int64_t until, const char *want)
{
    struct listing l = {.text = ""};
    assert_int_equal(fixture_read_due(f, domain, until, add_due, &l), 0);
    assert_string_equal(l.text, want);
}

/* ---- tests ---- */

static void delivered_at_once_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "hello", 5, &id), 0);
    fixture_check_counts(f, 1, 1, 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_true(fixture_is_gone(f, id));
    fixture_check_counts(f, 0, 0, 0);
    assert_int_equal(fixture_counts(f).bytes, 0);
    check_next(f, "");
    /* once more: it is gone, which is no fault */
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
}

static void deferral_enters_due_and_next(void **state)
{
    struct fixture *f = *state;
    uint64_t a = 0;
    uint64_t b = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &a), 0);
    assert_int_equal(fixture_accept(f, "b@x.example c@y.example", "2", 1, &b), 0);
    fixture_check_counts(f, 2, 3, 0);
    check_next(f, "");

    assert_int_equal(fixture_record(f, a, 0, 0, QUEUE_RCPT_WAITING, 500), 0);
    check_next(f, "x.example@500");
    fixture_check_counts(f, 2, 2, 1);
    assert_int_equal(fixture_record(f, b, 0, 0, QUEUE_RCPT_WAITING, 400), 0);
    check_next(f, "x.example@400");
    assert_int_equal(fixture_record(f, b, 1, 1, QUEUE_RCPT_WAITING, 450), 0);
    check_next(f, "x.example@400 y.example@450");
    check_due(f, "x.example", INT64_MAX, "0@400 0@500");
    check_due(f, "x.example", 499, "0@400");
    check_due(f, "y.example", 449, "");
    check_due(f, "x.exampl", INT64_MAX, "");
    fixture_check_counts(f, 2, 0, 3);

    /* later: the domain's earliest is now the other one */
    assert_int_equal(fixture_record(f, b, 0, 0, QUEUE_RCPT_WAITING, 900), 0);
    check_next(f, "y.example@450 x.example@500");
    fixture_reopen(f);
    check_next(f, "y.example@450 x.example@500");
    check_due(f, "x.example", INT64_MAX, "0@500 0@900");
    assert_int_equal(fixture_record(f, a, 0, 0, QUEUE_RCPT_FAILED, 0), 0);
    check_next(f, "y.example@450 x.example@900");
    assert_int_equal(fixture_record(f, b, 1, 1, QUEUE_RCPT_DELIVERED, 0), 0);
    check_next(f, "x.example@900");
    fixture_check_counts(f, 1, 0, 1);
    assert_int_equal(fixture_record(f, b, 0, 0, QUEUE_RCPT_EXPIRED, 0), 0);
    check_next(f, "");
    fixture_check_counts(f, 0, 0, 0);
    assert_true(fixture_is_gone(f, b));
}

static void on_due_tells_of_every_entry_that_came(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[3];
    atomic_store(&fixture_wall_ms, 100);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &ids[i]), 0);
    assert_int_equal(fixture_record(f, ids[0], 0, 0, QUEUE_RCPT_WAITING, 500), 0);
    assert_int_equal(fixture_record(f, ids[1], 0, 0, QUEUE_RCPT_WAITING, 600), 0);
    assert_int_equal(fixture_record(f, ids[2], 0, 0, QUEUE_RCPT_WAITING, 400), 0);
    fixture_settle(f);
    assert_int_equal(f->due_count, 3);
    assert_int_equal(f->due[0].due, 500);
    assert_int_equal(f->due[1].due, 600);
    assert_int_equal(f->due[2].due, 400);
    assert_int_equal(f->due[2].lane, QUEUE_LANE_RETRY);
    assert_string_equal(f->due[2].domain, "x.example");

    /* Entries that leave are not told. */
    assert_int_equal(fixture_record(f, ids[2], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    fixture_settle(f);
    assert_int_equal(f->due_count, 3);

    /* Parking a unit that was tried leaves it in its lane; one that never was comes into the other.
     */
    queue_park(f->queue, NULL, ids[1], 0, 950, NULL, NULL);
    assert_int_equal(fixture_accept(f, "a@y.example", "1", 1, &ids[2]), 0);
    queue_park(f->queue, NULL, ids[2], 0, 80, NULL, NULL);
    fixture_settle(f);
    assert_int_equal(f->due_count, 5);
    assert_int_equal(f->due[3].due, 950);
    assert_int_equal(f->due[3].lane, QUEUE_LANE_RETRY);
    assert_int_equal(f->due[4].due, 80);
    assert_int_equal(f->due[4].lane, QUEUE_LANE_NEW);
    assert_string_equal(f->due[4].domain, "y.example");
    check_next(f, "y.example+80 x.example@500");

    /* The first attempt moves it to the other lane. */
    assert_int_equal(fixture_record(f, ids[2], 0, 0, QUEUE_RCPT_WAITING, 90), 0);
    check_next(f, "y.example@90 x.example@500");
    fixture_check_counts(f, 3, 0, 3);
    atomic_store(&fixture_wall_ms, 0);
}

static void fresh_goes_when_no_unit_is_fresh(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[2];
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example c@z.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 2), 1);
    assert_int_equal(fixture_record(f, id, 1, 1, QUEUE_RCPT_WAITING, 100), 0);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 2), 1);
    queue_park(f->queue, NULL, id, 2, 300, NULL, NULL);
    fixture_settle(f);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 2), 0);
    check_next(f, "y.example@100 z.example+300");
    fixture_check_counts(f, 1, 1, 1); /* parked is still not tried */

    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_true(e->units[0].done);
    assert_int_equal(e->units[0].due_unix_ms, QUEUE_NEVER);
    assert_int_equal(e->units[1].due_unix_ms, 100);
    assert_int_equal(e->units[1].attempts, 1);
    assert_int_equal(e->units[2].due_unix_ms, 300);
    assert_int_equal(e->units[2].attempts, 0);
    assert_int_equal(e->recipients[0].state, QUEUE_RCPT_DELIVERED);
    assert_int_equal(e->recipients[1].attempts, 1);
    assert_int_equal(e->recipients[2].attempts, 0);
    queue_message_free(&message);
    assert_int_equal(fixture_record(f, id, 2, 2, QUEUE_RCPT_DELIVERED, 0), 0);
    fixture_check_counts(f, 1, 0, 1);
}

static void each_recipient_has_its_own_state(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    struct queue_attempt ok = fixture_attempt("250 2.0.0 ok");
    struct queue_attempt no = fixture_attempt("550 5.1.1 no such user");
    struct queue_rcpt_outcome rcpts[] = {{0, QUEUE_RCPT_DELIVERED, &ok},
                                         {1, QUEUE_RCPT_BOUNCE_PENDING, &no},
                                         {3, QUEUE_RCPT_DELIVERED, &ok},  /* another unit's */
                                         {9, QUEUE_RCPT_DELIVERED, &ok}}; /* nobody */
    struct queue_outcome outcome = {.unit = 0,
                                    .recipients = rcpts,
                                    .recipient_count = 4,
                                    .due_unix_ms = 70,
                                    .count_attempt = true,
                                    .prefix = "DKIM-Signature: v=1\r\n"};
    struct answer answer = {ANSWER_NONE, 0};
    assert_int_equal(
        fixture_accept(f, "a@x.example b@x.example c@x.example d@y.example", "1", 1, &id), 0);
    outcome.id = id;
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_int_equal(e->recipients[0].state, QUEUE_RCPT_DELIVERED);
    assert_int_equal(e->recipients[1].state, QUEUE_RCPT_BOUNCE_PENDING);
    assert_int_equal(e->recipients[2].state, QUEUE_RCPT_WAITING);
    assert_int_equal(e->recipients[3].state, QUEUE_RCPT_WAITING);
    assert_string_equal(e->prefix, "DKIM-Signature: v=1\r\n");
    assert_int_equal(e->units[0].due_unix_ms, 70);
    assert_int_equal(e->units[1].due_unix_ms, 0);
    queue_message_free(&message);
    /* an ended recipient stays as it ended */
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_FAILED, 80), 0);
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    assert_int_equal(queue_message_envelope(message)->recipients[0].state, QUEUE_RCPT_DELIVERED);
    queue_message_free(&message);
    /* a unit that is not there */
    assert_int_equal(fixture_record(f, id, 7, 0, QUEUE_RCPT_FAILED, 80), QUEUE_ERR_LIMIT);
}

struct seen {
    size_t count;
    uint32_t first_code;
    uint32_t last_code;
    uint32_t recipient;
    size_t stop_after;
};

static bool see_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    struct seen *seen = ctx;
    if (seen->count == 0)
        seen->first_code = attempt->code;
    seen->last_code = attempt->code;
    seen->recipient = recipient;
    seen->count++;
    return seen->count != seen->stop_after;
}

static void the_first_and_the_last_20_attempts_are_kept(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@x.example", "1", 1, &id), 0);
    for (uint16_t i = 0; i < 50; i++) {
        struct queue_attempt attempt = fixture_attempt("later");
        attempt.code = (uint16_t)(400 + i);
        struct queue_rcpt_outcome rcpts[] = {{0, QUEUE_RCPT_WAITING, &attempt},
                                             {1, QUEUE_RCPT_WAITING, NULL}};
        struct queue_outcome outcome = {.id = id,
                                        .recipients = rcpts,
                                        .recipient_count = 2,
                                        .due_unix_ms = 100 + i,
                                        .count_attempt = true};
        struct answer answer = {ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
        if (i % 10 == 0)
            assert_int_equal(fixture_result(f, &answer), 0);
        else
            assert_true(fixture_wait(f, &answer.times, 1));
    }
    struct seen seen = {.count = 0};
    assert_int_equal(queue_read_attempts(f->queue, id, see_attempt, &seen), 0);
    assert_int_equal(seen.count, 21);
    assert_int_equal(seen.first_code, 400);
    assert_int_equal(seen.last_code, 449);
    assert_int_equal(seen.recipient, 0);
    seen = (struct seen){.stop_after = 3};
    assert_int_equal(queue_read_attempts(f->queue, id, see_attempt, &seen), 0);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.last_code, 431);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 5), 0);
    assert_int_equal(fixture_record(f, id, 0, 1, QUEUE_RCPT_DELIVERED, 5), 0);
    seen = (struct seen){.count = 0};
    assert_int_equal(queue_read_attempts(f->queue, id, see_attempt, &seen), 0);
    assert_int_equal(seen.count, 0);
    check_next(f, "");
}

static void a_bounce_is_accepted_with_its_failure(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[4];
    struct fixture_envelope e;
    char space[512];
    char body[9000];
    memset(body, 'b', sizeof body);
    fixture_envelope(&e, "sender@s.example", space);
    e.envelope.sender = "";
    e.envelope.flags = QUEUE_FLAG_BOUNCE;
    struct queue_bounce bounce = {&e.envelope, body, sizeof body};
    struct queue_attempt no = fixture_attempt("550 no");
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_FAILED, &no};
    struct queue_outcome outcome = {
        .recipients = &rcpt, .recipient_count = 1, .count_attempt = true, .bounce = &bounce};
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &id), 0);
    outcome.id = id;
    for (int round = 0; round < 2; round++) { /* told twice (it was undecided): one bounce */
        struct answer answer = {ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), 0);
    }
    assert_true(fixture_is_gone(f, id));
    assert_int_equal(queue_read_ids(f->queue, 0, ids, 4), 1);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 4), 1);
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, ids[0], &message), 0);
    assert_string_equal(queue_message_envelope(message)->sender, "");
    assert_int_equal(queue_message_envelope(message)->flags, QUEUE_FLAG_BOUNCE);
    assert_int_equal(queue_message_envelope(message)->body_bytes, sizeof body);
    queue_message_free(&message);
    char got[sizeof body];
    assert_int_equal(queue_read_body(f->queue, ids[0], 0, got, sizeof got), sizeof got);
    assert_memory_equal(got, body, sizeof body);
    fixture_settle(f);
    assert_int_equal(f->fresh_count, 2);
    assert_int_equal(f->fresh[1].id, ids[0]);
    assert_string_equal(f->fresh[1].domain, "s.example");
}

static void a_bounce_that_does_not_fit_changes_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    static char body[3000000];
    struct fixture_envelope e;
    char space[512];
    fixture_close(f);
    fixture_open_max(f, 800000);
    fixture_envelope(&e, "sender@s.example", space);
    struct queue_bounce bounce = {&e.envelope, body, 600000};
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_FAILED, NULL};
    struct queue_outcome outcome = {.recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = 50,
                                    .count_attempt = true,
                                    .bounce = &bounce};
    struct answer answer = {ANSWER_NONE, 0};
    assert_int_equal(fixture_accept(f, "a@x.example", body, 300000, &id), 0);
    outcome.id = id;
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), QUEUE_ERR_FULL);
    fixture_check_counts(f, 1, 1, 0);
    check_next(f, "");
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_BOUNCE_PENDING, 50), 0);
    check_next(f, "x.example@50");
    bounce.len = 1000;
    answer = (struct answer){ANSWER_NONE, 0};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    fixture_check_counts(f, 1, 1, 0);
    check_next(f, "");
    bounce.len = 3000000;
    answer = (struct answer){ANSWER_NONE, 0};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), QUEUE_ERR_LIMIT);
}

static void retry_makes_deferred_units_due_now(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    atomic_store(&fixture_wall_ms, 5000);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 90000), 0);
    fixture_settle(f);
    f->due_count = 0;
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_RETRY), 0);
    check_next(f, "x.example@5000"); /* and the fresh one stays fresh */
    fixture_settle(f);               /* answers come before the news */
    assert_int_equal(f->due_count, 1);
    assert_int_equal(f->due[0].due, 5000);
    assert_int_equal(fixture_admin(f, id + 1, QUEUE_VERB_RETRY), 1);
    fixture_check_counts(f, 1, 1, 1);
}

static void delete_removes_every_row(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t other = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example c@z.example", "1", 1, &id), 0);
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &other), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 10), 0);
    assert_int_equal(fixture_record(f, id, 1, 1, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_int_equal(fixture_record(f, other, 0, 0, QUEUE_RCPT_WAITING, 20), 0);
    check_next(f, "x.example@10");
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    assert_true(fixture_is_gone(f, id));
    check_next(f, "x.example@20");
    fixture_check_counts(f, 1, 0, 1);
    fixture_settle(f);
    assert_int_equal(f->removed_count, 1);
    assert_int_equal(f->removed[0], id);
    struct seen seen = {.count = 0};
    assert_int_equal(queue_read_attempts(f->queue, id, see_attempt, &seen), 0);
    assert_int_equal(seen.count, 0);
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 1);
    /* what was on its way when it went */
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 10), 0);
    check_next(f, "x.example@20");
}

/* More rows than one step of a listing takes, and domains that are each other's beginnings. */
static void listings_go_on_by_key(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 700 };
    struct answer answer = {ANSWER_NONE, 0};
    for (int i = 0; i < COUNT; i++) {
        struct fixture_envelope e;
        char space[512];
        char rcpt[64];
        struct queue_put *put = NULL;
        uint64_t id = 0;
        (void)snprintf(rcpt, sizeof rcpt, "u@x.example%s e@d%d.example", i % 2 ? "" : ".org", i);
        fixture_envelope(&e, rcpt, space);
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
        queue_park(f->queue, NULL, id, 0, 1000 + i, NULL, NULL);
        queue_park(f->queue, NULL, id, 1, 2000 - i, NULL, NULL);
    }
    assert_true(fixture_wait(f, &answer.times, COUNT));
    fixture_settle(f);
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, COUNT);
    assert_int_equal(counts.units_fresh, 2 * COUNT);
    static uint64_t ids[COUNT + 1];
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, COUNT + 1), 0);
    assert_int_equal(queue_read_ids(f->queue, 0, ids, COUNT + 1), COUNT);
}

struct order {
    int64_t last;
    int count;
    int stop_after;
    char domain[QUEUE_DOMAIN_MAX + 1];
};

static bool in_order(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    struct order *order = ctx;
    assert_int_equal(lane, QUEUE_LANE_NEW);
    assert_true(due >= order->last);
    order->last = due;
    (void)snprintf(order->domain, sizeof order->domain, "%s", domain);
    order->count++;
    return order->count != order->stop_after;
}

static bool in_due_order(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    (void)id;
    assert_int_equal(unit, 0);
    return in_order(due, QUEUE_LANE_NEW, "", ctx);
}

static void next_goes_on_after_a_position(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 700 };
    listings_go_on_by_key(state);
    struct order all = {.count = 0};
    assert_int_equal(fixture_read_next(f, INT64_MAX, in_order, &all), 0);
    assert_int_equal(all.count, COUNT + 2);
    struct order steps = {.count = 0};
    for (int i = 0; i < COUNT + 2; i++) {
        steps.stop_after = i + 1;
        assert_int_equal(queue_read_next(f->queue, steps.last, QUEUE_LANE_NEW, steps.domain,
                                         INT64_MAX, in_order, &steps),
                         0);
        assert_int_equal(steps.count, i + 1);
    }
    struct order until = {.count = 0};
    assert_int_equal(fixture_read_next(f, 1001, in_order, &until), 0);
    assert_int_equal(until.count, 2); /* x.example.org@1000 x.example@1001 */
    struct order due = {.count = 0};
    assert_int_equal(fixture_read_due(f, "x.example", INT64_MAX, in_due_order, &due), 0);
    assert_int_equal(due.count, COUNT / 2);
    due = (struct order){.stop_after = 300};
    assert_int_equal(fixture_read_due(f, "x.example.org", INT64_MAX, in_due_order, &due), 0);
    assert_int_equal(due.count, 300);
}

static void a_long_list_changes_row_by_row(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 200 };
    static char addresses[COUNT][40];
    static struct queue_recipient rcpts[COUNT];
    for (size_t i = 0; i < COUNT; i++) { /* even ones share a domain, odd ones have their own */
        (void)snprintf(addresses[i], sizeof addresses[i], "u%zu@d%zu.example", i, i % 2 ? i : 0);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1};
    }
    struct queue_envelope envelope = {
        .sender = "s", .recipients = rcpts, .recipient_count = COUNT, .sign_domain = ""};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    fixture_check_counts(f, 1, 1 + COUNT / 2, 0);
    for (uint32_t i = 0; i < COUNT; i += 2)
        assert_int_equal(fixture_record(f, id, 0, i, QUEUE_RCPT_WAITING, 7), 0);
    fixture_check_counts(f, 1, COUNT / 2, 1);
    check_next(f, "d0.example@7");
    for (uint32_t i = 1; i < COUNT; i += 2)
        assert_int_equal(fixture_record(f, id, (uint16_t)(i / 2 + 1), i, QUEUE_RCPT_DELIVERED, 0),
                         0);
    fixture_check_counts(f, 1, 0, 1);
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(e->recipients[i].attempts, 1);
        assert_int_equal(e->recipients[i].state, i % 2 ? QUEUE_RCPT_DELIVERED : QUEUE_RCPT_WAITING);
        assert_int_equal(e->units[e->recipients[i].unit].done, i % 2);
    }
    assert_int_equal(e->units[0].attempts, COUNT / 2);
    queue_message_free(&message);
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    assert_true(fixture_is_gone(f, id));
    check_next(f, "");
    fixture_check_counts(f, 0, 0, 0);
    uint64_t ids[1];
    assert_int_equal(queue_read_ids(f->queue, 0, ids, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(delivered_at_once_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(deferral_enters_due_and_next, setup, teardown),
        cmocka_unit_test_setup_teardown(on_due_tells_of_every_entry_that_came, setup, teardown),
        cmocka_unit_test_setup_teardown(fresh_goes_when_no_unit_is_fresh, setup, teardown),
        cmocka_unit_test_setup_teardown(each_recipient_has_its_own_state, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_and_the_last_20_attempts_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_bounce_is_accepted_with_its_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bounce_that_does_not_fit_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(retry_makes_deferred_units_due_now, setup, teardown),
        cmocka_unit_test_setup_teardown(delete_removes_every_row, setup, teardown),
        cmocka_unit_test_setup_teardown(listings_go_on_by_key, setup, teardown),
        cmocka_unit_test_setup_teardown(next_goes_on_after_a_position, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_list_changes_row_by_row, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
