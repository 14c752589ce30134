/* tests/unit/queue_fixture.h - a queue in a folder of its own, and its answers made to wait for. */
#ifndef TESTS_UNIT_QUEUE_FIXTURE_H
#define TESTS_UNIT_QUEUE_FIXTURE_H

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "queue/maintain.h"
#include "queue/queue.h"

#define FIXTURE_NOTES 4096
#define UNUSED        __attribute__((unused))

struct fresh_note {
    uint64_t id;
    uint16_t unit;
    char domain[QUEUE_DOMAIN_MAX + 1];
};

struct due_note {
    char domain[QUEUE_DOMAIN_MAX + 1];
    enum queue_lane lane;
    int64_t due;
};

struct fixture {
    char folder[64];
    struct queue *queue;
    struct queue_port *port;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool notified;
    /* what the queue told, under lock */
    struct fresh_note fresh[FIXTURE_NOTES];
    size_t fresh_count;
    struct due_note due[FIXTURE_NOTES];
    size_t due_count;
    uint64_t removed[FIXTURE_NOTES];
    size_t removed_count;
    char notices[64][512];
    size_t notice_count;
};

/* Wall clock of the tests; 0: the system's. */
static _Atomic int64_t fixture_wall_ms;

static int64_t fixture_clock(void)
{
    struct timespec ts;
    int64_t set = atomic_load(&fixture_wall_ms);
    if (set != 0)
        return set;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void fixture_on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    struct fixture *f = ctx;
    (void)pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < count && f->fresh_count < FIXTURE_NOTES; i++) {
        struct fresh_note *note = &f->fresh[f->fresh_count++];
        note->id = units[i].id;
        note->unit = units[i].unit;
        (void)snprintf(note->domain, sizeof note->domain, "%s", units[i].domain);
    }
    (void)pthread_mutex_unlock(&f->lock);
}

static void fixture_on_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx)
{
    struct fixture *f = ctx;
    (void)pthread_mutex_lock(&f->lock);
    if (f->due_count < FIXTURE_NOTES) {
        struct due_note *note = &f->due[f->due_count++];
        note->due = due_unix_ms;
        note->lane = lane;
        (void)snprintf(note->domain, sizeof note->domain, "%s", domain);
    }
    (void)pthread_mutex_unlock(&f->lock);
}

static void fixture_on_removed(uint64_t id, void *ctx)
{
    struct fixture *f = ctx;
    (void)pthread_mutex_lock(&f->lock);
    if (f->removed_count < FIXTURE_NOTES)
        f->removed[f->removed_count++] = id;
    (void)pthread_mutex_unlock(&f->lock);
}

static void fixture_on_notice(bool is_error, const char *text, void *ctx)
{
    struct fixture *f = ctx;
    (void)is_error;
    (void)pthread_mutex_lock(&f->lock);
    if (f->notice_count < 64)
        (void)snprintf(f->notices[f->notice_count++], sizeof f->notices[0], "%s", text);
    (void)pthread_mutex_unlock(&f->lock);
}

static void fixture_notify(void *ctx)
{
    struct fixture *f = ctx;
    (void)pthread_mutex_lock(&f->lock);
    f->notified = true;
    (void)pthread_cond_signal(&f->wake);
    (void)pthread_mutex_unlock(&f->lock);
}

static struct queue_options fixture_options(struct fixture *f, uint64_t max_bytes)
{
    return (struct queue_options){.folder = f->folder,
                                  .max_bytes = max_bytes,
                                  .on_fresh = fixture_on_fresh,
                                  .on_due = fixture_on_due,
                                  .on_removed = fixture_on_removed,
                                  .on_notice = fixture_on_notice,
                                  .ctx = f,
                                  .wall_ms = fixture_clock};
}

static void fixture_check(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "fixture: %s\n", what);
    abort();
}

UNUSED static void fixture_open_max(struct fixture *f, uint64_t max_bytes)
{
    char error[512] = "";
    struct queue_options options = fixture_options(f, max_bytes);
    int rc = queue_open(&options, &f->queue, error, sizeof error);
    fixture_check(rc == 0, error);
    f->port = queue_port_new(f->queue, fixture_notify, f);
}

UNUSED static void fixture_open(struct fixture *f)
{
    fixture_open_max(f, UINT64_C(1) << 30);
}

UNUSED static void fixture_close(struct fixture *f)
{
    queue_port_free(&f->port);
    queue_close(&f->queue);
}

UNUSED static void fixture_reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

UNUSED static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_check(f != NULL, "memory");
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/test-queue-XXXXXX");
    fixture_check(mkdtemp(f->folder) != NULL, "mkdtemp");
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->wake, NULL);
    atomic_store(&fixture_wall_ms, 0);
    return f;
}

static int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

UNUSED static void fixture_free(struct fixture **fp)
{
    struct fixture *f = *fp;
    fixture_close(f);
    (void)nftw(f->folder, fixture_unlink, 8, FTW_DEPTH | FTW_PHYS);
    (void)pthread_mutex_destroy(&f->lock);
    (void)pthread_cond_destroy(&f->wake);
    free(f);
    *fp = NULL;
}

/* ---- answers ---- */

#define ANSWER_NONE 12345

struct answer {
    int result; /* ANSWER_NONE until it came */
    int times;
};

UNUSED static void fixture_on_done(int result, void *ctx)
{
    struct answer *answer = ctx;
    answer->result = result;
    answer->times++;
}

/* Run the port until *times is reached; 10 s at most. */
UNUSED static bool fixture_wait(struct fixture *f, const int *times, int want)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    while (*times < want) {
        (void)pthread_mutex_lock(&f->lock);
        int rc = 0;
        while (!f->notified && rc == 0)
            rc = pthread_cond_timedwait(&f->wake, &f->lock, &until);
        f->notified = false;
        (void)pthread_mutex_unlock(&f->lock);
        if (rc == ETIMEDOUT)
            return false;
        queue_port_run(f->port);
    }
    return true;
}

UNUSED static int fixture_result(struct fixture *f, const struct answer *answer)
{
    fixture_check(fixture_wait(f, &answer->times, 1), "no answer in 10 s");
    return answer->result;
}

/* ---- short ways ---- */

#define FIXTURE_RCPTS 8

struct fixture_envelope {
    struct queue_recipient recipients[FIXTURE_RCPTS];
    struct queue_envelope envelope;
};

/* "a@x.example b@y.example": recipients, their domains being the next hops */
UNUSED static void fixture_envelope(struct fixture_envelope *e, const char *rcpts, char *space)
{
    size_t count = 0;
    (void)snprintf(space, 512, "%s", rcpts);
    char *save = NULL;
    for (char *p = strtok_r(space, " ", &save); p != NULL && count < FIXTURE_RCPTS;
         p = strtok_r(NULL, " ", &save))
        e->recipients[count++] =
            (struct queue_recipient){.address = p, .domain = strchr(p, '@') + 1};
    e->envelope = (struct queue_envelope){.sender = "sender@example.org",
                                          .recipients = e->recipients,
                                          .recipient_count = count,
                                          .sign_domain = "example.org",
                                          .accepted_unix_ms = 1700000000000};
}

UNUSED static int fixture_accept(struct fixture *f, const char *rcpts, const void *body, size_t len,
                                 uint64_t *id_out)
{
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    fixture_envelope(&e, rcpts, space);
    int rc = queue_put_begin(f->queue, f->port, &put, id_out);
    if (rc != 0)
        return rc;
    for (size_t at = 0; at < len; at += QUEUE_PIECE_MAX) {
        size_t part = len - at < QUEUE_PIECE_MAX ? len - at : QUEUE_PIECE_MAX;
        rc = queue_put_piece(put, (const char *)body + at, part, NULL, NULL);
        fixture_check(rc == 0, "queue_put_piece");
    }
    queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
    return fixture_result(f, &answer);
}

UNUSED static struct queue_attempt fixture_attempt(const char *text)
{
    return (struct queue_attempt){.time_unix_ms = 1700000001000,
                                  .host = "mx.example",
                                  .address = "192.0.2.1",
                                  .code = 451,
                                  .status = "4.3.0",
                                  .text = text,
                                  .tls = "TLS1.3"};
}

/* Record one recipient's state. */
UNUSED static int fixture_record(struct fixture *f, uint64_t id, uint16_t unit, uint32_t recipient,
                                 enum queue_rcpt_state state, int64_t due)
{
    struct queue_attempt attempt = fixture_attempt("later");
    struct queue_rcpt_outcome rcpt = {recipient, state, &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .unit = unit,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = due,
                                    .count_attempt = true};
    struct answer answer = {ANSWER_NONE, 0};
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    return fixture_result(f, &answer);
}

UNUSED static int fixture_admin(struct fixture *f, uint64_t id, enum queue_verb verb)
{
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_attempt attempt = fixture_attempt("bounced by an admin");
    queue_admin(f->queue, f->port, verb, id, NULL, 0, verb == QUEUE_VERB_BOUNCE ? &attempt : NULL,
                fixture_on_done, &answer);
    return fixture_result(f, &answer);
}

/* Both lanes, one after the other. */
UNUSED static int fixture_read_due(struct fixture *f, const char *domain, int64_t until,
                                   queue_due_fn fn, void *ctx)
{
    int rc = queue_read_due(f->queue, domain, QUEUE_LANE_NEW, until, fn, ctx, NULL);
    return rc != 0 ? rc : queue_read_due(f->queue, domain, QUEUE_LANE_RETRY, until, fn, ctx, NULL);
}

UNUSED static int fixture_read_next(struct fixture *f, int64_t until, queue_next_fn fn, void *ctx)
{
    return queue_read_next(f->queue, 0, QUEUE_LANE_NEW, NULL, until, fn, ctx);
}

/* Everything handed over before is committed after this, and its news are told: an answer comes
 * before the news of its own transaction, hence twice. */
UNUSED static void fixture_settle(struct fixture *f)
{
    for (int i = 0; i < 2; i++) {
        struct queue_outcome nothing = {.id = 1}; /* of a message that is not there */
        struct answer answer = {ANSWER_NONE, 0};
        queue_record(f->queue, f->port, &nothing, fixture_on_done, &answer);
        (void)fixture_admin(f, 1, QUEUE_VERB_RETRY);
        fixture_check(fixture_wait(f, &answer.times, 1), "no answer in 10 s");
    }
}

UNUSED static void fixture_problem(const char *line, void *ctx)
{
    (void)ctx;
    (void)fprintf(stderr, "%s\n", line);
}

/* Every reference in the store, counted anew: records, order of work, `fresh`, counters. */
UNUSED static void fixture_check_all(struct fixture *f)
{
    struct queue_patience patience = {0};
    struct queue_check_result result;
    char error[256] = "";
    int rc =
        queue_check_open(f->queue, &patience, fixture_problem, NULL, &result, error, sizeof error);
    fixture_check(rc == 0, error);
    fixture_check(result.problems == 0, "the check found problems");
}

UNUSED static struct queue_counts fixture_counts(struct fixture *f)
{
    struct queue_counts counts;
    fixture_check(queue_read_counts(f->queue, &counts) == 0, "counts");
    return counts;
}

static inline void fixture_check_counts(struct fixture *f, uint64_t messages, uint64_t fresh, uint64_t deferred)
{
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, messages);
    assert_int_equal(counts.units_fresh, fresh);
    assert_int_equal(counts.units_deferred, deferred);
    assert_int_equal(counts.units_held, 0);
}

/* Neither record nor bytes nor a row in `fresh`. */
static inline bool fixture_is_gone(struct fixture *f, uint64_t id)
{
    struct queue_message *message = NULL;
    char byte;
    uint64_t ids[1];
    int rc = queue_read_message(f->queue, id, &message);
    queue_message_free(&message);
    return rc == 1 && queue_read_body(f->queue, id, 0, &byte, 1) == QUEUE_READ_GONE &&
           (queue_read_fresh(f->queue, id, ids, 1) == 0 || ids[0] != id);
}

#endif
