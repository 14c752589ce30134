/* Random work against a plain model in memory: after each batch of steps every table must say what
 * the model says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/queue_fixture.h"

#define MESSAGES   400 /* in a run */
#define RCPTS      70  /* at most in a message: three rows */
#define DOMAINS    6
#define NOW        INT64_C(1000000)
#define SOON       (NOW + 1000)
#define KEPT_LIMIT 21

static const char *const domains[DOMAINS] = {
    "a.example", "a.example.org", "b.example", "xn--c.example", "d", "e.example"};

struct model_message {
    uint64_t id;
    bool gone;
    size_t rcpt_count;
    size_t domain_of[RCPTS]; /* index of the domain of each recipient */
    int state[RCPTS];
    unsigned attempts[RCPTS];
    size_t unit_of[DOMAINS]; /* SIZE_MAX: none */
    size_t unit_count;
    int64_t due[DOMAINS]; /* by unit */
    bool held[DOMAINS];
    unsigned tries[DOMAINS];
};

struct model {
    struct model_message messages[MESSAGES];
    size_t count;
    uint64_t random;
};

static uint32_t roll(struct model *m, uint32_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(m->random >> 33) % below;
}

/* A few times, half of them past. */
static int64_t roll_time(struct model *m)
{
    return NOW - 2500 + 100 * (int64_t)roll(m, 50);
}

static bool is_open(int state)
{
    return state == QUEUE_RCPT_WAITING || state == QUEUE_RCPT_BOUNCE_PENDING;
}

static size_t unit_of_rcpt(const struct model_message *mm, size_t rcpt)
{
    return mm->unit_of[mm->domain_of[rcpt]];
}

static bool unit_open(const struct model_message *mm, size_t unit)
{
    for (size_t r = 0; r < mm->rcpt_count; r++) {
        if (unit_of_rcpt(mm, r) == unit && is_open(mm->state[r]))
            return true;
    }
    return false;
}

static const char *domain_of_unit(const struct model_message *mm, size_t unit)
{
    for (size_t d = 0; d < DOMAINS; d++) {
        if (mm->unit_of[d] == unit)
            return domains[d];
    }
    return "";
}

/* ---- steps: the same to the queue and to the model ---- */

static void step_accept(struct fixture *f, struct model *m)
{
    static char addresses[RCPTS][80];
    struct queue_recipient rcpts[RCPTS];
    if (m->count == MESSAGES)
        return;
    struct model_message *mm = &m->messages[m->count++];
    *mm = (struct model_message){.rcpt_count = 1 + roll(m, roll(m, 4) ? 5 : RCPTS)};
    for (size_t d = 0; d < DOMAINS; d++)
        mm->unit_of[d] = SIZE_MAX;
    for (size_t r = 0; r < mm->rcpt_count; r++) {
        size_t d = roll(m, DOMAINS);
        mm->domain_of[r] = d;
        if (mm->unit_of[d] == SIZE_MAX)
            mm->unit_of[d] = mm->unit_count++;
        (void)snprintf(addresses[r], sizeof addresses[r], "user%zu@%s", r, domains[d]);
        rcpts[r] = (struct queue_recipient){.address = addresses[r], .domain = domains[d]};
    }
    struct queue_envelope envelope = {
        .sender = "s", .recipients = rcpts, .recipient_count = mm->rcpt_count, .sign_domain = ""};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &mm->id), 0);
    assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
}

static void model_end(struct model_message *mm)
{
    mm->gone = true;
    for (size_t u = 0; u < mm->unit_count; u++)
        mm->gone = mm->gone && !unit_open(mm, u);
}

static void step_record(struct fixture *f, struct model *m, struct model_message *mm)
{
    static const int states[] = {QUEUE_RCPT_WAITING,   QUEUE_RCPT_WAITING,
                                 QUEUE_RCPT_DELIVERED, QUEUE_RCPT_FAILED,
                                 QUEUE_RCPT_DELIVERED, QUEUE_RCPT_BOUNCE_PENDING};
    struct queue_rcpt_outcome rcpts[RCPTS];
    struct queue_attempt attempt = fixture_attempt("x");
    size_t unit = roll(m, (uint32_t)mm->unit_count);
    size_t count = 0;
    bool open = !mm->gone && unit_open(mm, unit);
    bool all = roll(m, 2) == 0;
    bool keeps = false; /* a bounce that waits, although the recipient was to wait */
    struct queue_outcome outcome = {.id = mm->id,
                                    .unit = (uint16_t)unit,
                                    .recipients = rcpts,
                                    .due_unix_ms = roll_time(m),
                                    .count_attempt = roll(m, 4) > 0};
    for (size_t r = 0; r < mm->rcpt_count; r++) {
        if (unit_of_rcpt(mm, r) != unit || (!all && roll(m, 2)))
            continue;
        int state = states[roll(m, 6)];
        bool tried = roll(m, 5) > 0;
        rcpts[count++] = (struct queue_rcpt_outcome){(uint32_t)r, (enum queue_rcpt_state)state,
                                                     tried ? &attempt : NULL};
        if (!open || !is_open(mm->state[r]))
            continue;
        if (state != QUEUE_RCPT_WAITING || mm->state[r] != QUEUE_RCPT_BOUNCE_PENDING)
            mm->state[r] = state;
        else
            keeps = true;
        mm->attempts[r] += tried ? 1 : 0;
    }
    outcome.recipient_count = count;
    if (open) {
        mm->tries[unit] += outcome.count_attempt ? 1 : 0;
        int64_t due = keeps && outcome.due_unix_ms > SOON ? SOON : outcome.due_unix_ms;
        mm->due[unit] = unit_open(mm, unit) ? due : 0;
        model_end(mm);
    }
    struct answer answer = {ANSWER_NONE, 0};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
}

static void step_park(struct fixture *f, struct model *m, struct model_message *mm)
{
    size_t unit = roll(m, (uint32_t)mm->unit_count);
    int64_t due = roll_time(m);
    queue_park(f->queue, NULL, mm->id, (uint16_t)unit, due, NULL, NULL);
    if (!mm->gone && unit_open(mm, unit))
        mm->due[unit] = due;
}

/* @return whether the unit changed */
static bool model_verb(struct model_message *mm, size_t unit, enum queue_verb verb)
{
    bool waited = false;
    if (!unit_open(mm, unit))
        return false;
    if ((verb == QUEUE_VERB_RETRY && (mm->held[unit] || mm->due[unit] == 0)) ||
        (verb == QUEUE_VERB_HOLD && mm->held[unit]) ||
        (verb == QUEUE_VERB_RELEASE && !mm->held[unit]))
        return false;
    for (size_t r = 0; r < mm->rcpt_count; r++) {
        if (unit_of_rcpt(mm, r) != unit || !is_open(mm->state[r]))
            continue;
        if (verb == QUEUE_VERB_DELETE)
            mm->state[r] = QUEUE_RCPT_REMOVED;
        if (verb != QUEUE_VERB_BOUNCE || mm->state[r] != QUEUE_RCPT_WAITING)
            continue;
        mm->state[r] = QUEUE_RCPT_BOUNCE_PENDING;
        mm->attempts[r]++;
        waited = true;
    }
    mm->tries[unit] += waited ? 1 : 0;
    mm->held[unit] = verb == QUEUE_VERB_HOLD;
    if (mm->due[unit] == 0 || (verb != QUEUE_VERB_HOLD && mm->due[unit] > NOW))
        mm->due[unit] = NOW;
    return true;
}

static void step_admin(struct fixture *f, struct model *m, struct model_message *mm)
{
    static const enum queue_verb verbs[] = {
        QUEUE_VERB_RETRY,   QUEUE_VERB_RETRY,  QUEUE_VERB_HOLD,   QUEUE_VERB_RELEASE,
        QUEUE_VERB_RELEASE, QUEUE_VERB_BOUNCE, QUEUE_VERB_DELETE, QUEUE_VERB_HOLD};
    enum queue_verb verb = verbs[roll(m, 8)];
    struct queue_attempt attempt = fixture_attempt("by an admin");
    struct answer answer = {ANSWER_NONE, 0};
    uint16_t units[DOMAINS];
    size_t count = 0;
    bool all = roll(m, 2) == 0;
    bool changed = false;
    for (size_t u = 0; u < mm->unit_count; u++) {
        if (!all && roll(m, 2))
            continue;
        units[count++] = (uint16_t)u;
        changed = (!mm->gone && model_verb(mm, u, verb)) || changed;
    }
    if (count == 0)
        return;
    model_end(mm);
    queue_admin(f->queue, f->port, verb, mm->id, all ? NULL : units, all ? 0 : count, &attempt,
                fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), changed ? 0 : 1);
}

/* ---- comparing ---- */

static bool count_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    unsigned *counts = ctx;
    (void)attempt;
    counts[recipient]++;
    return true;
}

static void compare_message(struct fixture *f, const struct model_message *mm)
{
    struct queue_message *message = NULL;
    unsigned attempts[RCPTS] = {0};
    assert_int_equal(queue_read_attempts(f->queue, mm->id, count_attempt, attempts), 0);
    if (mm->gone) {
        assert_int_equal(queue_read_message(f->queue, mm->id, &message), 1);
        for (size_t r = 0; r < RCPTS; r++)
            assert_int_equal(attempts[r], 0);
        return;
    }
    assert_int_equal(queue_read_message(f->queue, mm->id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_int_equal(e->recipient_count, mm->rcpt_count);
    assert_int_equal(e->unit_count, mm->unit_count);
    for (size_t r = 0; r < mm->rcpt_count; r++) {
        assert_int_equal(e->recipients[r].state, mm->state[r]);
        assert_int_equal(e->recipients[r].unit, unit_of_rcpt(mm, r));
        assert_int_equal(e->recipients[r].attempts, mm->attempts[r]);
        unsigned kept = mm->attempts[r] < KEPT_LIMIT ? mm->attempts[r] : KEPT_LIMIT;
        assert_int_equal(attempts[r], kept);
    }
    for (size_t u = 0; u < mm->unit_count; u++) {
        assert_string_equal(e->units[u].domain, domain_of_unit(mm, u));
        assert_int_equal(e->units[u].done, !unit_open(mm, u));
        bool waits = unit_open(mm, u) && !mm->held[u];
        assert_int_equal(e->units[u].due_unix_ms, waits ? mm->due[u] : QUEUE_NEVER);
        if (unit_open(mm, u))
            assert_int_equal(e->units[u].held, mm->held[u]);
        assert_int_equal(e->units[u].attempts, mm->tries[u]);
    }
    queue_message_free(&message);
}

struct due_walk {
    const struct model *model;
    const char *domain;
    enum queue_lane lane;
    int64_t last;
    int64_t first;
    size_t count;
};

static bool see_due(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    struct due_walk *walk = ctx;
    const struct model_message *mm = walk->model->messages;
    while (mm->id != id)
        mm++;
    assert_false(mm->gone);
    assert_true(unit_open(mm, unit));
    assert_false(mm->held[unit]);
    assert_int_equal(mm->due[unit], due);
    assert_int_equal(walk->lane, mm->tries[unit] > 0 ? QUEUE_LANE_RETRY : QUEUE_LANE_NEW);
    assert_string_equal(domain_of_unit(mm, unit), walk->domain);
    assert_true(due >= walk->last);
    walk->last = due;
    walk->first = walk->count == 0 ? due : walk->first;
    walk->count++;
    return true;
}

struct next_walk {
    int64_t first[DOMAINS][2];
    size_t count;
};

static bool see_next(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    struct next_walk *walk = ctx;
    for (size_t d = 0; d < DOMAINS; d++) {
        if (strcmp(domains[d], domain) == 0)
            walk->first[d][lane] = due;
    }
    walk->count++;
    return true;
}

static void compare_due(struct fixture *f, const struct model *m, size_t want)
{
    struct next_walk next = {.count = 0};
    size_t due_total = 0;
    size_t with_work = 0;
    assert_int_equal(fixture_read_next(f, INT64_MAX, see_next, &next), 0);
    for (size_t i = 0; i < 2 * (size_t)DOMAINS; i++) {
        size_t d = i / 2;
        enum queue_lane lane = i % 2 == 0 ? QUEUE_LANE_NEW : QUEUE_LANE_RETRY;
        struct due_walk walk = {.model = m, .domain = domains[d], .lane = lane};
        int64_t later = 0;
        assert_int_equal(
            queue_read_due(f->queue, domains[d], lane, INT64_MAX, see_due, &walk, &later), 0);
        assert_int_equal(later, QUEUE_NEVER);
        assert_int_equal(walk.first, next.first[d][lane]);
        due_total += walk.count;
        with_work += walk.count > 0 ? 1 : 0;
    }
    assert_int_equal(due_total, want);
    assert_int_equal(next.count, with_work);
}

static void compare_all(struct fixture *f, const struct model *m)
{
    uint64_t fresh_ids[MESSAGES];
    uint64_t ids[MESSAGES + 1];
    size_t fresh_seen = 0;
    size_t messages = 0;
    size_t due = 0;
    size_t untried = 0;
    size_t tried = 0;
    size_t held = 0;
    fixture_settle(f);
    long fresh_count = queue_read_fresh(f->queue, 0, fresh_ids, MESSAGES);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_message *mm = &m->messages[i];
        bool fresh = false;
        compare_message(f, mm);
        for (size_t u = 0; !mm->gone && u < mm->unit_count; u++) {
            if (!unit_open(mm, u))
                continue;
            held += mm->held[u] ? 1 : 0;
            if (mm->held[u])
                continue;
            fresh = fresh || mm->due[u] == 0;
            due += mm->due[u] != 0 ? 1 : 0;
            untried += mm->tries[u] == 0 ? 1 : 0;
            tried += mm->tries[u] > 0 ? 1 : 0;
        }
        messages += mm->gone ? 0 : 1;
        if (!fresh)
            continue;
        assert_true((long)fresh_seen < fresh_count);
        assert_int_equal(fresh_ids[fresh_seen++], mm->id);
    }
    assert_int_equal(fresh_seen, fresh_count);
    compare_due(f, m, due);
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, messages);
    assert_int_equal(counts.bytes, 4 * messages);
    assert_int_equal(counts.units_fresh, untried);
    assert_int_equal(counts.units_deferred, tried);
    assert_int_equal(counts.units_held, held);
    fixture_check_all(f);
    assert_int_equal(queue_read_ids(f->queue, 0, ids, MESSAGES + 1), messages);
}

static void run(uint64_t seed)
{
    struct fixture *f = fixture_new();
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random = seed;
    atomic_store(&fixture_wall_ms, NOW);
    fixture_open(f);
    for (int step = 0; step < 1200; step++) {
        uint32_t what = roll(m, 20);
        struct model_message *mm = m->count > 0 ? &m->messages[roll(m, (uint32_t)m->count)] : NULL;
        if (what < 5 || mm == NULL)
            step_accept(f, m);
        else if (what < 15)
            step_record(f, m, mm);
        else if (what < 18)
            step_park(f, m, mm);
        else
            step_admin(f, m, mm);
        if (step % 150 == 149)
            compare_all(f, m);
        if (step % 400 == 399) {
            fixture_reopen(f);
            compare_all(f, m);
        }
    }
    free(m);
    fixture_free(&f);
}

static void random_work_agrees_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++)
        run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_work_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
