/* An admin's verbs: what each does to units and recipients, alone and by unit list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/queue_fixture.h"

#define NOW INT64_C(5000)

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    atomic_store(&fixture_wall_ms, NOW);
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free((struct fixture **)state);
    return 0;
}

static int act(struct fixture *f, uint64_t id, enum queue_verb verb, const uint16_t *units,
               size_t count)
{
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_attempt attempt = fixture_attempt("given up");
    queue_admin(f->queue, f->port, verb, id, units, count, &attempt, fixture_on_done, &answer);
    return fixture_result(f, &answer);
}

static void check_counts(struct fixture *f, uint64_t messages, uint64_t fresh, uint64_t deferred,
                         uint64_t held)
{
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, messages);
    assert_int_equal(counts.units_fresh, fresh);
    assert_int_equal(counts.units_deferred, deferred);
    assert_int_equal(counts.units_held, held);
}

/* A domain's rows as text: "+time" parked, "@time" deferred. */
struct rows {
    char text[256];
    char mark;
};

static bool add_row(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    struct rows *rows = ctx;
    size_t at = strlen(rows->text);
    (void)id;
    (void)unit;
    (void)snprintf(rows->text + at, sizeof rows->text - at, "%c%lld", rows->mark, (long long)due);
    return true;
}

static void check_rows(struct fixture *f, const char *domain, const char *want)
{
    struct rows rows = {.mark = '+'};
    assert_int_equal(
        queue_read_due(f->queue, domain, QUEUE_LANE_NEW, INT64_MAX, add_row, &rows, NULL), 0);
    rows.mark = '@';
    assert_int_equal(
        queue_read_due(f->queue, domain, QUEUE_LANE_RETRY, INT64_MAX, add_row, &rows, NULL), 0);
    assert_string_equal(rows.text, want);
}

static struct queue_unit read_unit(struct fixture *f, uint64_t id, size_t unit)
{
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_true(unit < e->unit_count);
    struct queue_unit found = e->units[unit];
    queue_message_free(&message);
    found.domain = NULL;
    return found;
}

static int read_state(struct fixture *f, uint64_t id, size_t recipient)
{
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    int found = (int)queue_message_envelope(message)->recipients[recipient].state;
    queue_message_free(&message);
    return found;
}

static bool count_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    (void)recipient;
    if (strcmp(attempt->text, "given up") == 0)
        ++*(int *)ctx;
    return true;
}

static int given_up(struct fixture *f, uint64_t id)
{
    int count = 0;
    assert_int_equal(queue_read_attempts(f->queue, id, count_attempt, &count), 0);
    return count;
}

static void a_fresh_unit_held_comes_back_parked(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[1];
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "1", 1, &id), 0);
    const uint16_t first = 0;
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, &first, 1), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, &first, 1), 1);
    check_counts(f, 1, 1, 0, 1);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 1), 1);
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, NULL, 0), 0);
    check_counts(f, 1, 0, 0, 2);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 1), 0);
    check_rows(f, "x.example", "");
    assert_true(read_unit(f, id, 0).held);
    assert_int_equal(read_unit(f, id, 0).due_unix_ms, QUEUE_NEVER);
    assert_int_equal(act(f, id, QUEUE_VERB_RETRY, NULL, 0), 1);
    fixture_reopen(f);
    check_counts(f, 1, 0, 0, 2);
    assert_int_equal(act(f, id, QUEUE_VERB_RELEASE, &first, 1), 0);
    check_counts(f, 1, 1, 0, 1);
    check_rows(f, "x.example", "+5000");
    check_rows(f, "y.example", "");
    fixture_settle(f);
    assert_int_equal(f->due_count, 1);
    assert_int_equal(f->due[0].lane, QUEUE_LANE_NEW);
    assert_int_equal(act(f, id, QUEUE_VERB_RELEASE, &first, 1), 1);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 1), 0);
}

static void an_outcome_of_a_held_unit_leaves_it_held(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@x.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 90000), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, NULL, 0), 0);
    check_rows(f, "x.example", "");
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 70000), 0);
    assert_int_equal(fixture_record(f, id, 0, 1, QUEUE_RCPT_DELIVERED, 60000), 0);
    check_rows(f, "x.example", "");
    check_counts(f, 1, 0, 0, 1);
    assert_int_equal(read_unit(f, id, 0).attempts, 3);
    assert_int_equal(act(f, id, QUEUE_VERB_RELEASE, NULL, 0), 0);
    check_rows(f, "x.example", "@5000");
    check_counts(f, 1, 0, 1, 0);
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, NULL, 0), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    check_counts(f, 0, 0, 0, 0);
}

static void bounce_leaves_the_message_to_the_delivery_side(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@x.example c@y.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 90000), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, NULL, 0), 0);
    const uint16_t first = 0;
    assert_int_equal(act(f, id, QUEUE_VERB_BOUNCE, &first, 1), 0);
    assert_int_equal(read_state(f, id, 0), QUEUE_RCPT_DELIVERED);
    assert_int_equal(read_state(f, id, 1), QUEUE_RCPT_BOUNCE_PENDING);
    assert_int_equal(read_state(f, id, 2), QUEUE_RCPT_WAITING);
    check_rows(f, "x.example", "@5000");
    check_counts(f, 1, 0, 1, 1);
    assert_int_equal(read_unit(f, id, 0).attempts, 2);
    assert_int_equal(given_up(f, id), 1);
    /* once more: it only waits for its bounce, no attempt took place */
    assert_int_equal(act(f, id, QUEUE_VERB_BOUNCE, &first, 1), 0);
    assert_int_equal(read_unit(f, id, 0).attempts, 2);
    assert_int_equal(given_up(f, id), 1);
    /* an attempt that was under way failed for now: the bounce stands, soon */
    assert_int_equal(fixture_record(f, id, 0, 1, QUEUE_RCPT_WAITING, 900000), 0);
    assert_int_equal(read_state(f, id, 1), QUEUE_RCPT_BOUNCE_PENDING);
    check_rows(f, "x.example", "@6000");
    /* one that went well ends it */
    assert_int_equal(fixture_record(f, id, 0, 1, QUEUE_RCPT_DELIVERED, 0), 0);
    check_counts(f, 1, 0, 0, 1);
    assert_int_equal(act(f, id, QUEUE_VERB_BOUNCE, &first, 1), 1);
}

static bool add_entry(const struct queue_due_entry *entry, void *ctx)
{
    struct rows *rows = ctx;
    size_t at = strlen(rows->text);
    (void)snprintf(rows->text + at, sizeof rows->text - at, "%s%lld",
                   entry->bounce_only ? "b" : "@", (long long)entry->due_unix_ms);
    return true;
}

static void check_draw(struct fixture *f, int64_t from, const char *want)
{
    struct rows rows = {.mark = '@'};
    assert_int_equal(queue_draw_due(f->queue, "x.example", QUEUE_LANE_RETRY, from, INT64_MAX,
                                    add_entry, &rows, NULL),
                     0);
    assert_string_equal(rows.text, want);
}

static void a_draw_tells_what_needs_no_delivery(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t other = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@x.example", "1", 1, &id), 0);
    assert_int_equal(fixture_accept(f, "c@x.example", "1", 1, &other), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 4000), 0);
    assert_int_equal(fixture_record(f, other, 0, 0, QUEUE_RCPT_WAITING, 7000), 0);
    check_draw(f, 0, "@4000@7000");
    check_draw(f, 4000, "@4000@7000");
    check_draw(f, 4001, "@7000");
    check_draw(f, 7001, "");
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_BOUNCE_PENDING, 4000), 0);
    assert_int_equal(fixture_record(f, id, 0, 1, QUEUE_RCPT_DELIVERED, 4000), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_BOUNCE, NULL, 0), 0); /* in its place, but marked */
    check_draw(f, 0, "b4000@7000");
    assert_int_equal(act(f, id, QUEUE_VERB_HOLD, NULL, 0), 0);
    check_draw(f, 0, "@7000");
    assert_int_equal(act(f, id, QUEUE_VERB_RELEASE, NULL, 0), 0);
    check_draw(f, 0, "b4000@7000");
    fixture_settle(f);
    assert_int_equal(f->removed_count, 2); /* the bounce and the hold: what waits in memory ends */
    fixture_reopen(f);
    check_draw(f, 0, "b4000@7000");
    assert_int_equal(fixture_record(f, other, 0, 0, QUEUE_RCPT_BOUNCE_PENDING, 7000), 0);
    check_draw(f, 0, "b4000b7000"); /* the delivery side's own: the queue was full */
}

static void a_fresh_unit_bounced_was_tried(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[1];
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &id), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_BOUNCE, NULL, 0), 0);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 1), 0);
    check_rows(f, "x.example", "@5000");
    check_counts(f, 1, 0, 1, 0);
}

static void delete_by_unit_ends_the_message_with_the_last(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example c@z.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 1, 1, QUEUE_RCPT_WAITING, 90000), 0);
    const uint16_t units[] = {0, 1};
    assert_int_equal(act(f, id, QUEUE_VERB_DELETE, units, 2), 0);
    assert_int_equal(read_state(f, id, 0), QUEUE_RCPT_REMOVED);
    assert_int_equal(read_state(f, id, 1), QUEUE_RCPT_REMOVED);
    assert_int_equal(read_state(f, id, 2), QUEUE_RCPT_WAITING);
    check_rows(f, "y.example", "");
    check_counts(f, 1, 1, 0, 0);
    assert_int_equal(act(f, id, QUEUE_VERB_DELETE, units, 2), 1);
    fixture_settle(f);
    assert_int_equal(f->removed_count, 1);
    const uint16_t last = 2;
    assert_int_equal(act(f, id, QUEUE_VERB_DELETE, &last, 1), 0);
    check_counts(f, 0, 0, 0, 0);
    fixture_settle(f);
    assert_int_equal(f->removed_count, 2);
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 1);
}

static void what_is_due_keeps_its_place(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 4000), 0);
    fixture_settle(f);
    f->due_count = 0;
    assert_int_equal(act(f, id, QUEUE_VERB_RETRY, NULL, 0), 0);
    check_rows(f, "x.example", "@4000");
    fixture_settle(f);
    assert_int_equal(f->due_count, 1);
    assert_int_equal(f->due[0].due, 4000);
}

static void a_warning_is_told_once(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[4];
    struct fixture_envelope e;
    char space[512];
    fixture_envelope(&e, "sender@s.example", space);
    struct queue_bounce bounce = {&e.envelope, "delayed", 7};
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_WAITING, NULL};
    struct queue_outcome outcome = {.recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = 90000,
                                    .count_attempt = true,
                                    .warned = true,
                                    .bounce = &bounce};
    assert_int_equal(fixture_accept(f, "a@x.example", "1", 1, &outcome.id), 0);
    id = outcome.id;
    assert_false(read_unit(f, id, 0).warned);
    for (int round = 0; round < 2; round++) { /* told twice (it was undecided): one warning */
        struct answer answer = {ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), 0);
        assert_int_equal(queue_read_ids(f->queue, 0, ids, 4), 2);
    }
    assert_true(read_unit(f, id, 0).warned);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 95000), 0);
    assert_true(read_unit(f, id, 0).warned);
}

/* ---- looking at all ---- */

struct seen {
    uint64_t ids[64];
    size_t count;
    size_t stop_at;
    size_t recipients;
};

static bool see(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    struct seen *seen = ctx;
    seen->ids[seen->count++] = id;
    seen->recipients += envelope->recipient_count;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        assert_string_equal(envelope->recipients[i].domain,
                            envelope->units[envelope->recipients[i].unit].domain);
    return seen->count != seen->stop_at;
}

static void scan_shows_every_message_once(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 50 };
    uint64_t ids[COUNT];
    struct seen seen = {.count = 0};
    uint64_t after = 0;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_accept(f, i % 2 ? "a@x.example b@x.example c@y.example" : "a@x",
                                        "1", 1, &ids[i]),
                         0);
    int rc = 1;
    while (rc == 1)
        rc = queue_scan(f->queue, &after, see, &seen);
    assert_int_equal(rc, 0);
    assert_int_equal(seen.count, COUNT);
    assert_int_equal(seen.recipients, COUNT / 2 * 4);
    assert_memory_equal(seen.ids, ids, sizeof ids);
    seen = (struct seen){.stop_at = 7};
    after = ids[9];
    assert_int_equal(queue_scan(f->queue, &after, see, &seen), 0);
    assert_int_equal(after, ids[16]);
    assert_int_equal(seen.count, 7);
}

static void metrics_count_what_was_done(void **state)
{
    struct fixture *f = *state;
    struct queue_metrics m;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "1", 1, &id), 0);
    queue_park(f->queue, NULL, id, 1, 7, NULL, NULL);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 90000), 0);
    assert_int_equal(act(f, id, QUEUE_VERB_RETRY, NULL, 0), 0);
    queue_read_metrics(f->queue, &m);
    assert_int_equal(m.accepted, 1);
    assert_int_equal(m.parked, 1);
    assert_int_equal(m.outcomes, 1);
    assert_int_equal(m.admin_steps, 1);
    assert_int_equal(m.accept.count, 1);
    assert_int_equal(m.admin.count, 1);
    assert_int_equal(m.commit.count, fixture_counts(f).commits);
    assert_int_equal(m.sync.count, m.commit.count);
    assert_true(m.batch.sum >= 4);
    assert_true(m.commit.sum >= m.sync.sum);
    assert_false(m.full);
    assert_false(m.broken);
    uint64_t sum = 0;
    for (size_t i = 0; i <= QUEUE_BUCKETS; i++)
        sum += m.commit.counts[i];
    assert_int_equal(sum, m.commit.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fresh_unit_held_comes_back_parked, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outcome_of_a_held_unit_leaves_it_held, setup, teardown),
        cmocka_unit_test_setup_teardown(a_draw_tells_what_needs_no_delivery, setup, teardown),
        cmocka_unit_test_setup_teardown(bounce_leaves_the_message_to_the_delivery_side, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_fresh_unit_bounced_was_tried, setup, teardown),
        cmocka_unit_test_setup_teardown(delete_by_unit_ends_the_message_with_the_last, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_due_keeps_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(a_warning_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_shows_every_message_once, setup, teardown),
        cmocka_unit_test_setup_teardown(metrics_count_what_was_done, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
