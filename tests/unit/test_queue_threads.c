/* Many threads at once: submitting, recording, reading, ports that go away under way. Made for the
 * thread sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>

#include "tests/unit/queue_fixture.h"

#define SUBMITTERS 3
#define MESSAGES   150

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

struct submitter {
    struct fixture *f;
    pthread_t thread;
    sem_t wake;
    struct queue_port *port;
    size_t accepted;
    size_t stored;
    size_t answers;
};

static void wake(void *ctx)
{
    (void)sem_post(&((struct submitter *)ctx)->wake);
}

static void count_answer(int result, void *ctx)
{
    struct submitter *s = ctx;
    s->answers++;
    s->accepted += result == 0 ? 1 : 0;
}

static void count_stored(size_t len, void *ctx)
{
    ((struct submitter *)ctx)->stored += len;
}

static size_t hand_in(struct submitter *s, size_t number, queue_done_fn on_done, void *ctx)
{
    static char body[300000];
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    size_t size = number % 50 == 7 ? sizeof body : number * 37 % 9000;
    fixture_envelope(&e, number % 3 ? "a@x.example" : "a@x.example b@y.example", space);
    fixture_check(queue_put_begin(s->f->queue, s->port, &put, &id) == 0, "begin");
    for (size_t at = 0; at < size; at += 100000) {
        size_t part = size - at < 100000 ? size - at : 100000;
        fixture_check(queue_put_piece(put, body + at, part, count_stored, s) == 0, "piece");
    }
    if (number % 11 == 3) {
        queue_put_abort(put);
        return 0;
    }
    queue_put_commit(put, &e.envelope, on_done, ctx);
    return 1;
}

static void *submit_main(void *arg)
{
    struct submitter *s = arg;
    size_t handed = 0;
    s->port = queue_port_new(s->f->queue, wake, s);
    for (size_t i = 0; i < MESSAGES; i++) {
        handed += hand_in(s, i, count_answer, s);
        queue_port_run(s->port);
    }
    while (s->answers < handed) {
        (void)sem_wait(&s->wake);
        queue_port_run(s->port);
    }
    /* once more, without waiting for the answers */
    for (size_t i = 0; i < 20; i++)
        (void)hand_in(s, i, count_answer, s);
    queue_port_free(&s->port);
    return NULL;
}

/* Takes what is fresh and records it: delivered, deferred, parked, by turns. */
struct deliverer {
    struct fixture *f;
    struct submitter port_owner; /* for its semaphore */
    _Atomic bool stop;
    pthread_t thread;
    size_t answers;
    size_t asked;
};

static void count_recorded(int result, void *ctx)
{
    struct deliverer *d = ctx;
    fixture_check(result == 0, "an outcome was not recorded");
    d->answers++;
}

static void deliver_one(struct deliverer *d, uint64_t id)
{
    struct queue_message *message = NULL;
    char buf[5000];
    if (queue_read_message(d->f->queue, id, &message) != 0)
        return;
    const struct queue_envelope *e = queue_message_envelope(message);
    uint64_t at = 0;
    long part;
    while ((part = queue_read_body(d->f->queue, id, at, buf, sizeof buf)) > 0)
        at += (uint64_t)part;
    fixture_check(part == QUEUE_READ_GONE || at == e->body_bytes, "a body is short");
    for (size_t r = 0; r < e->recipient_count; r++) {
        bool defer = (id + r) % 4 == 0;
        struct queue_attempt attempt = fixture_attempt("x");
        struct queue_rcpt_outcome rcpt = {
            (uint32_t)r, defer ? QUEUE_RCPT_WAITING : QUEUE_RCPT_DELIVERED, &attempt};
        struct queue_outcome outcome = {.id = id,
                                        .unit = e->recipients[r].unit,
                                        .recipients = &rcpt,
                                        .recipient_count = 1,
                                        .due_unix_ms = 1000 + (int64_t)(id % 100),
                                        .count_attempt = true};
        if ((id + r) % 16 == 1) {
            queue_park(d->f->queue, NULL, id, e->recipients[r].unit, 5, NULL, NULL);
            continue;
        }
        queue_record(d->f->queue, d->port_owner.port, &outcome, count_recorded, d);
        d->asked++;
    }
    queue_message_free(&message);
}

static void *deliver_main(void *arg)
{
    struct deliverer *d = arg;
    uint64_t from = 0;
    d->port_owner.port = queue_port_new(d->f->queue, wake, &d->port_owner);
    while (!atomic_load(&d->stop)) {
        uint64_t ids[16];
        long count = queue_read_fresh(d->f->queue, from, ids, 16);
        fixture_check(count >= 0, "fresh");
        for (long i = 0; i < count; i++)
            deliver_one(d, ids[i]);
        from = count > 0 ? ids[count - 1] + 1 : 0;
        queue_port_run(d->port_owner.port);
        if (count == 0)
            usleep(500);
    }
    while (d->answers < d->asked) {
        (void)sem_wait(&d->port_owner.wake);
        queue_port_run(d->port_owner.port);
    }
    queue_port_free(&d->port_owner.port);
    return NULL;
}

static bool due_count(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    (void)due;
    (void)id;
    (void)unit;
    (*(size_t *)ctx)++;
    return true;
}

static void *look_main(void *arg)
{
    struct deliverer *d = arg;
    while (!atomic_load(&d->stop)) {
        size_t count = 0;
        uint64_t ids[64];
        (void)fixture_counts(d->f);
        (void)queue_is_full(d->f->queue, 1);
        fixture_check(fixture_read_due(d->f, "x.example", INT64_MAX, due_count, &count) == 0,
                      "due");
        fixture_check(queue_read_ids(d->f->queue, 0, ids, 64) >= 0, "ids");
        usleep(200);
    }
    return NULL;
}

static void all_at_once(void **state)
{
    struct fixture *f = *state;
    static struct submitter submitters[SUBMITTERS];
    static struct deliverer deliverer;
    pthread_t looker;
    deliverer.f = f;
    assert_int_equal(sem_init(&deliverer.port_owner.wake, 0, 0), 0);
    for (size_t i = 0; i < SUBMITTERS; i++) {
        submitters[i].f = f;
        assert_int_equal(sem_init(&submitters[i].wake, 0, 0), 0);
        assert_int_equal(pthread_create(&submitters[i].thread, NULL, submit_main, &submitters[i]),
                         0);
    }
    assert_int_equal(pthread_create(&deliverer.thread, NULL, deliver_main, &deliverer), 0);
    assert_int_equal(pthread_create(&looker, NULL, look_main, &deliverer), 0);
    for (size_t i = 0; i < SUBMITTERS; i++)
        (void)pthread_join(submitters[i].thread, NULL);
    for (size_t i = 0; i < SUBMITTERS; i++)
        assert_int_equal(submitters[i].accepted, submitters[i].answers);
    atomic_store(&deliverer.stop, true);
    (void)pthread_join(deliverer.thread, NULL);
    (void)pthread_join(looker, NULL);
    fixture_reopen(f);

    /* nothing is lost between the tables */
    size_t due = 0;
    assert_int_equal(fixture_read_due(f, "x.example", INT64_MAX, due_count, &due), 0);
    assert_int_equal(fixture_read_due(f, "y.example", INT64_MAX, due_count, &due), 0);
    static uint64_t ids[10000];
    long messages = queue_read_ids(f->queue, 0, ids, 10000);
    size_t waiting = 0;
    size_t fresh = 0;
    for (long i = 0; i < messages; i++) {
        struct queue_message *message = NULL;
        assert_int_equal(queue_read_message(f->queue, ids[i], &message), 0);
        const struct queue_envelope *e = queue_message_envelope(message);
        for (size_t u = 0; u < e->unit_count; u++) {
            waiting += e->units[u].done ? 0 : 1;
            fresh += e->units[u].due_unix_ms == 0 ? 1 : 0;
        }
        queue_message_free(&message);
    }
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, messages);
    assert_int_equal(counts.units_fresh + counts.units_deferred, waiting);
    assert_int_equal(due + fresh, waiting);
    assert_int_equal(counts.damaged, 0);
}

/* A callback frees its own port. */
static void free_in_callback(int result, void *ctx)
{
    struct queue_port **port = ctx;
    assert_int_equal(result, 0);
    queue_port_free(port);
}

static void a_callback_may_free_its_port(void **state)
{
    struct fixture *f = *state;
    struct submitter s = {.f = f};
    assert_int_equal(sem_init(&s.wake, 0, 0), 0);
    for (int i = 0; i < 20; i++) {
        s.port = queue_port_new(f->queue, wake, &s);
        struct queue_port *port = s.port;
        for (size_t n = 0; n < 3; n++)
            (void)hand_in(&s, n, free_in_callback, &s.port);
        while (s.port != NULL) {
            (void)sem_wait(&s.wake);
            if (s.port == port)
                queue_port_run(port);
        }
    }
    fixture_settle(f);
    assert_int_equal(fixture_counts(f).messages, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_callback_may_free_its_port, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
