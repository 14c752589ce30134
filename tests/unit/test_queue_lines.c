/* Who gets how much of the writer: accepting goes first, outcomes and admin's steps are never
 * starved, and a lone sender does not pay for them. This program's own fdatasync stands before the
 * C library's, also for LMDB: a commit lasts as long as a test wants, and what is handed in
 * meanwhile is waiting when it is over. Counted in commits, not in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/syscall.h>

#include "tests/unit/queue_fixture.h"

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_wake = PTHREAD_COND_INITIALIZER;
static bool gate_closed;
static bool at_gate;
static _Atomic long sync_ns;
static void (*_Atomic during_sync)(void);

int fdatasync(int fd)
{
    struct timespec wait = {.tv_nsec = atomic_load(&sync_ns)};
    void (*call)(void) = atomic_load(&during_sync);
    (void)pthread_mutex_lock(&gate_lock);
    at_gate = true;
    (void)pthread_cond_broadcast(&gate_wake);
    while (gate_closed)
        (void)pthread_cond_wait(&gate_wake, &gate_lock);
    (void)pthread_mutex_unlock(&gate_lock);
    if (call != NULL)
        call();
    (void)nanosleep(&wait, NULL);
    return (int)syscall(SYS_fdatasync, fd);
}

static void set_gate(bool closed)
{
    (void)pthread_mutex_lock(&gate_lock);
    gate_closed = closed;
    at_gate = false;
    (void)pthread_cond_broadcast(&gate_wake);
    (void)pthread_mutex_unlock(&gate_lock);
}

static void wait_at_gate(void)
{
    (void)pthread_mutex_lock(&gate_lock);
    while (!at_gate)
        (void)pthread_cond_wait(&gate_wake, &gate_lock);
    (void)pthread_mutex_unlock(&gate_lock);
}

/* ---- what the writer tells, seen on its own thread ---- */

struct watch {
    struct fixture *f;
    struct queue *queue;
    _Atomic uint64_t fresh_at; /* number of the commit that accepted a message; the last one */
    _Atomic uint64_t due_at;   /* and that put a unit into x.example; the first one */
    struct queue_metrics at_fresh;
    struct queue_metrics at_due;
};

static uint64_t commits(struct watch *w)
{
    struct queue_counts counts;
    fixture_check(queue_read_counts(w->queue, &counts) == 0, "counts");
    return counts.commits;
}

static void watch_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    struct watch *w = ctx;
    (void)units;
    (void)count;
    queue_read_metrics(w->queue, &w->at_fresh);
    atomic_store(&w->fresh_at, commits(w));
}

static void watch_due(const char *domain, enum queue_lane lane, int64_t due, void *ctx)
{
    struct watch *w = ctx;
    (void)lane;
    (void)due;
    if (strcmp(domain, "x.example") != 0)
        return;
    queue_read_metrics(w->queue, &w->at_due);
    if (atomic_load(&w->due_at) == 0)
        atomic_store(&w->due_at, commits(w));
}

static void watch_removed(uint64_t id, void *ctx)
{
    (void)id;
    (void)ctx;
}

static void watch_notice(bool is_error, const char *text, void *ctx)
{
    (void)ctx;
    if (is_error)
        (void)fprintf(stderr, "%s\n", text);
}

static int setup(void **state)
{
    struct watch *w = calloc(1, sizeof *w);
    char error[256];
    fixture_check(w != NULL, "memory");
    w->f = fixture_new();
    struct queue_options options = {.folder = w->f->folder,
                                    .max_bytes = UINT64_C(1) << 30,
                                    .on_fresh = watch_fresh,
                                    .on_due = watch_due,
                                    .on_removed = watch_removed,
                                    .on_notice = watch_notice,
                                    .ctx = w};
    fixture_check(queue_open(&options, &w->queue, error, sizeof error) == 0, error);
    w->f->queue = w->queue;
    w->f->port = queue_port_new(w->queue, fixture_notify, w->f);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct watch *w = *state;
    atomic_store(&during_sync, NULL);
    atomic_store(&sync_ns, 0);
    set_gate(false);
    fixture_free(&w->f);
    free(w);
    return 0;
}

static uint64_t hand_in(struct fixture *f, const char *rcpts, size_t len, struct answer *answer)
{
    static char body[4096];
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    fixture_envelope(&e, rcpts, space);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, body, len, NULL, NULL), 0);
    queue_put_commit(put, &e.envelope, fixture_on_done, answer);
    return id;
}

/* Keep the writer inside a commit; what is handed in from here on waits. */
static void hold_writer(struct watch *w, struct answer *answer)
{
    set_gate(true);
    (void)hand_in(w->f, "a@gate.example", 1, answer);
    wait_at_gate();
}

/* An outcome that ends something: it waits for nobody, nor does what came before it. */
static void end_one(struct watch *w, uint64_t id, struct answer *answer)
{
    struct queue_attempt attempt = fixture_attempt("taken");
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_DELIVERED, &attempt};
    struct queue_outcome outcome = {
        .id = id, .recipients = &rcpt, .recipient_count = 1, .count_attempt = true};
    queue_record(w->queue, w->f->port, &outcome, fixture_on_done, answer);
}

#define MESSAGES 200

static void accept_some(struct watch *w, uint64_t ids[MESSAGES])
{
    struct answer answer = {ANSWER_NONE, 0};
    for (int i = 0; i < MESSAGES; i++)
        ids[i] = hand_in(w->f, "a@other.example", 1, &answer);
    assert_true(fixture_wait(w->f, &answer.times, MESSAGES));
    fixture_settle(w->f);
}

/* ---- tests ---- */

static void a_flood_of_outcomes_does_not_delay_an_accept(void **state)
{
    struct watch *w = *state;
    enum { FLOOD = 10000 };
    uint64_t ids[MESSAGES];
    struct answer answer = {ANSWER_NONE, 0};
    accept_some(w, ids);
    hold_writer(w, &answer);
    uint64_t before = commits(w);
    for (int i = 0; i < FLOOD; i++)
        queue_park(w->queue, NULL, ids[i % MESSAGES], 0, 1 + i, NULL, NULL);
    (void)hand_in(w->f, "a@y.example", 1, &answer);
    set_gate(false);
    assert_true(fixture_wait(w->f, &answer.times, 2));
    fixture_settle(w->f);
    assert_int_equal(atomic_load(&w->fresh_at), before + 2); /* the one under way, and the next */
    assert_true(w->at_fresh.parked > 0);
    assert_true(w->at_fresh.parked < FLOOD);
}

static void a_flood_of_accepts_does_not_starve_outcomes(void **state)
{
    struct watch *w = *state;
    enum { FLOOD = 6000, OUTCOMES = 100 };
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t ids[OUTCOMES];
    for (int i = 0; i < OUTCOMES; i++)
        ids[i] = hand_in(w->f, "a@x.example", 1, &answer);
    assert_true(fixture_wait(w->f, &answer.times, OUTCOMES));
    hold_writer(w, &answer);
    uint64_t before = commits(w);
    for (int i = 0; i < FLOOD; i++) /* 4 KiB each: a transaction takes about a thousand */
        (void)hand_in(w->f, "a@y.example", 4096, &answer);
    for (int i = 1; i < OUTCOMES; i++)
        queue_park(w->queue, NULL, ids[i], 0, 1 + i, NULL, NULL);
    end_one(w, ids[0], &answer);
    set_gate(false);
    assert_true(fixture_wait(w->f, &answer.times, OUTCOMES + 1 + FLOOD + 1));
    fixture_settle(w->f);
    assert_int_equal(atomic_load(&w->due_at), before + 2);
    assert_true(w->at_due.accepted < FLOOD);
    assert_int_equal(w->at_due.parked, OUTCOMES - 1);
}

static void admin_steps_leave_room_for_all_others(void **state)
{
    struct watch *w = *state;
    enum { STEPS = 20000 };
    uint64_t ids[MESSAGES];
    struct answer answer = {ANSWER_NONE, 0};
    struct answer steps = {ANSWER_NONE, 0};
    accept_some(w, ids);
    uint64_t mine = hand_in(w->f, "a@x.example", 1, &answer);
    uint64_t ended = hand_in(w->f, "a@x.example", 1, &answer);
    assert_true(fixture_wait(w->f, &answer.times, 2));
    hold_writer(w, &answer);
    uint64_t before = commits(w);
    for (int i = 0; i < STEPS; i++)
        queue_admin(w->queue, w->f->port, i % 2 ? QUEUE_VERB_HOLD : QUEUE_VERB_RELEASE,
                    ids[i / 2 % MESSAGES], NULL, 0, NULL, fixture_on_done, &steps);
    (void)hand_in(w->f, "a@y.example", 1, &answer);
    queue_park(w->queue, NULL, mine, 0, 7, NULL, NULL);
    end_one(w, ended, &answer);
    set_gate(false);
    assert_true(fixture_wait(w->f, &answer.times, 5));
    assert_true(fixture_wait(w->f, &steps.times, STEPS));
    fixture_settle(w->f);
    assert_int_equal(atomic_load(&w->fresh_at), before + 2);
    assert_int_equal(atomic_load(&w->due_at), before + 2);
    assert_true(w->at_fresh.admin_steps > 0);
    assert_true(w->at_fresh.admin_steps < STEPS);
}

/* What the sync of the message before had in store: an outcome comes while a sender's commit is
 * under way, and that lasts longer than outcomes wait for company. */
static struct queue *park_queue;
static _Atomic uint64_t park_id;

static void park_one(void)
{
    uint64_t id = atomic_exchange(&park_id, 0);
    if (id != 0)
        queue_park(park_queue, NULL, id, 0, 77, NULL, NULL);
}

static void a_lone_sender_does_not_wait_for_a_commit_of_outcomes(void **state)
{
    struct watch *w = *state;
    enum { COUNT = 30 };
    uint64_t id = 0;
    park_queue = w->queue;
    atomic_store(&sync_ns, 8000000);
    assert_int_equal(fixture_accept(w->f, "a@x.example", "1", 1, &id), 0);
    atomic_store(&during_sync, park_one);
    uint64_t before = commits(w);
    for (int i = 0; i < COUNT; i++) {
        struct timespec pause = {.tv_nsec = 500000};
        atomic_store(&park_id, id);
        assert_int_equal(fixture_accept(w->f, "a@x.example", "1", 1, &id), 0);
        (void)nanosleep(&pause, NULL);
    }
    /* one each; a busy machine may keep the sender from coming back in time now and then */
    assert_in_range(commits(w) - before, COUNT, COUNT + COUNT / 2);
    fixture_settle(w->f);
    struct queue_metrics m;
    queue_read_metrics(w->queue, &m);
    assert_int_equal(m.parked, COUNT);
}

struct session {
    struct fixture *f;
    size_t *left;
    int *open;
};

static void come_back(int result, void *ctx)
{
    struct session *s = ctx;
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    assert_int_equal(result, 0);
    if (*s->left == 0) {
        ++*s->open;
        return;
    }
    --*s->left;
    fixture_envelope(&e, "a@x.example", space);
    assert_int_equal(queue_put_begin(s->f->queue, s->f->port, &put, &id), 0);
    queue_put_commit(put, &e.envelope, come_back, s);
}

/* Once of a few times is enough, see above. */
static void senders_that_come_back_share_the_next_commit(void **state)
{
    struct watch *w = *state;
    enum { SESSIONS = 20, ROUNDS = 15 };
    bool shared = false;
    atomic_store(&sync_ns, 8000000);
    for (int try = 0; try < 5 && !shared; try++) {
        size_t left = (size_t)SESSIONS * ROUNDS;
        int ended = 0;
        struct session session = {w->f, &left, &ended};
        uint64_t before = commits(w);
        for (int i = 0; i < SESSIONS; i++)
            come_back(0, &session);
        assert_true(fixture_wait(w->f, &ended, SESSIONS));
        shared = commits(w) - before < (uint64_t)ROUNDS * 3 / 2; /* else two a round */
    }
    assert_true(shared);
}

/* What ends nothing does not make those wait who hand in mail; on a busy machine it may have waited
 * its time already, so once of a few times is enough. */
static void what_goes_on_waiting_lets_senders_go_first(void **state)
{
    struct watch *w = *state;
    bool first = false;
    for (int try = 0; try < 5 && !first; try++) {
        struct answer answer = {ANSWER_NONE, 0};
        uint64_t id = hand_in(w->f, "a@x.example", 1, &answer);
        assert_true(fixture_wait(w->f, &answer.times, 1));
        fixture_settle(w->f);
        uint64_t parked = w->at_fresh.parked;
        hold_writer(w, &answer);
        queue_park(w->queue, NULL, id, 0, 7, NULL, NULL);
        (void)hand_in(w->f, "a@y.example", 1, &answer);
        set_gate(false);
        assert_true(fixture_wait(w->f, &answer.times, 3));
        fixture_settle(w->f);
        first = w->at_fresh.parked == parked;
        assert_true(atomic_load(&w->due_at) > 0);
    }
    assert_true(first);
}

/* But not for ever. */
static void what_goes_on_waiting_is_recorded_among_senders_who_do_not_stop(void **state)
{
    struct watch *w = *state;
    enum { SESSIONS = 4, ROUNDS = 100 };
    size_t left = (size_t)SESSIONS * ROUNDS;
    int ended = 0;
    struct session session = {w->f, &left, &ended};
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = hand_in(w->f, "a@x.example", 1, &answer);
    assert_true(fixture_wait(w->f, &answer.times, 1));
    atomic_store(&sync_ns, 8000000);
    queue_park(w->queue, NULL, id, 0, 7, NULL, NULL);
    for (int i = 0; i < SESSIONS; i++)
        come_back(0, &session);
    assert_true(fixture_wait(w->f, &ended, SESSIONS));
    fixture_settle(w->f);
    assert_true(atomic_load(&w->due_at) > 0);
    assert_true(w->at_due.accepted < SESSIONS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_flood_of_outcomes_does_not_delay_an_accept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_accepts_does_not_starve_outcomes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(admin_steps_leave_room_for_all_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lone_sender_does_not_wait_for_a_commit_of_outcomes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(senders_that_come_back_share_the_next_commit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_goes_on_waiting_lets_senders_go_first, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            what_goes_on_waiting_is_recorded_among_senders_who_do_not_stop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
