/* tests/bench/queue_bench.c - rates of the queue, through its own interface.
 *
 * queue_bench FOLDER SESSIONS MESSAGES BYTES [deliver|defer|keep] : SESSIONS producers, each with
 * one message under way at a time, hand in MESSAGES of BYTES; with `deliver` every accepted unit is
 * recorded as delivered, with `defer` as deferred, over 10,000 domains. Prints one line. The
 * sessions are multiplexed on two threads, as the daemon's loops do it. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue/queue.h"

#define THREADS      2
#define DOMAINS      10000
#define SESSIONS_MAX 10000
#define WAITS_MAX    4000000

struct loop;

struct session {
    struct loop *loop;
    double begun;
};

struct loop {
    struct queue *queue;
    struct queue_port *port;
    sem_t wake;
    size_t sessions;
    size_t left; /* messages still to begin */
    size_t open; /* begun, not answered */
    size_t failed;
    double *waits;
    size_t wait_count;
    const char *body;
    size_t bytes;
    pthread_t thread;
};

static struct queue *bench_queue;
static struct queue_port *outcome_port;
static bool deliver;
static bool defer;
static _Atomic size_t recorded;

static double now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void on_recorded(int result, void *ctx)
{
    (void)ctx;
    if (result == 0)
        atomic_fetch_add(&recorded, 1);
}

static void on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    (void)ctx;
    for (size_t i = 0; (deliver || defer) && i < count; i++) {
        struct queue_attempt attempt = {.time_unix_ms = 1,
                                        .host = "mx.example",
                                        .address = "192.0.2.1",
                                        .code = 250,
                                        .status = "2.0.0",
                                        .text = "ok",
                                        .tls = "TLS1.3"};
        struct queue_rcpt_outcome rcpt = {0, deliver ? QUEUE_RCPT_DELIVERED : QUEUE_RCPT_WAITING,
                                          &attempt};
        struct queue_outcome outcome = {.id = units[i].id,
                                        .unit = units[i].unit,
                                        .recipients = &rcpt,
                                        .recipient_count = 1,
                                        .due_unix_ms = (int64_t)(units[i].id >> 22) + 300000,
                                        .count_attempt = true};
        queue_record(bench_queue, outcome_port, &outcome, on_recorded, NULL);
    }
}

static void on_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx)
{
    (void)lane;
    (void)domain;
    (void)due_unix_ms;
    (void)ctx;
}

static void on_removed(uint64_t id, void *ctx)
{
    (void)id;
    (void)ctx;
}

static void on_notice(bool is_error, const char *text, void *ctx)
{
    (void)is_error;
    (void)ctx;
    (void)fprintf(stderr, "%s\n", text);
}

static void wake_loop(void *ctx)
{
    (void)sem_post(&((struct loop *)ctx)->wake);
}

static void begin(struct session *session);

static void on_done(int result, void *ctx)
{
    struct session *session = ctx;
    struct loop *loop = session->loop;
    loop->open--;
    if (result != 0)
        loop->failed++;
    if (loop->wait_count < WAITS_MAX)
        loop->waits[loop->wait_count++] = now_s() - session->begun;
    begin(session);
}

static void begin(struct session *session)
{
    struct loop *loop = session->loop;
    char domain[32];
    (void)snprintf(domain, sizeof domain, "d%zu.example.net", defer ? loop->left % DOMAINS : 0);
    struct queue_recipient rcpt = {.address = "user@example.net", .domain = domain};
    struct queue_envelope envelope = {.sender = "sender@example.org",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .header_bytes = loop->bytes < 200 ? loop->bytes : 200,
                                      .sign_domain = "example.org",
                                      .accepted_unix_ms = 1700000000000};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    if (loop->left == 0)
        return;
    loop->left--;
    loop->open++;
    session->begun = now_s();
    if (queue_put_begin(loop->queue, loop->port, &put, &id) != 0)
        abort();
    for (size_t at = 0; at < loop->bytes; at += QUEUE_PIECE_MAX) {
        size_t len = loop->bytes - at < QUEUE_PIECE_MAX ? loop->bytes - at : QUEUE_PIECE_MAX;
        if (queue_put_piece(put, loop->body + at, len, NULL, NULL) != 0)
            abort();
    }
    queue_put_commit(put, &envelope, on_done, session);
}

static void *loop_main(void *arg)
{
    struct loop *loop = arg;
    struct session *sessions = calloc(loop->sessions, sizeof *sessions);
    if (sessions == NULL)
        abort();
    for (size_t i = 0; i < loop->sessions; i++) {
        sessions[i].loop = loop;
        begin(&sessions[i]);
    }
    while (loop->open > 0) {
        (void)sem_wait(&loop->wake);
        queue_port_run(loop->port);
    }
    free(sessions);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(struct loop *loops, size_t messages, double took, uint64_t commits)
{
    double *all = loops[0].waits;
    size_t count = loops[0].wait_count;
    size_t failed = 0;
    for (size_t i = 0; i < THREADS; i++)
        failed += loops[i].failed;
    memcpy(all + count, loops[1].waits, loops[1].wait_count * sizeof *all);
    count += loops[1].wait_count;
    qsort(all, count, sizeof *all, compare);
    (void)printf("%8.0f messages/s  %6.0f commits/s  p50 %6.2f ms  p99 %6.2f ms  failed %zu\n",
                 (double)messages / took, (double)commits / took, all[count / 2] * 1e3,
                 all[count * 99 / 100] * 1e3, failed);
}

static void start_loops(struct loop *loops, size_t sessions, size_t messages, size_t bytes)
{
    char *body = malloc(bytes + 1);
    if (body == NULL)
        abort();
    for (size_t i = 0; i < bytes; i++)
        body[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < THREADS; i++) {
        loops[i] = (struct loop){.queue = bench_queue,
                                 .sessions = (sessions + i) / THREADS,
                                 .left = sessions == 1 ? i * messages : (messages + i) / THREADS,
                                 .body = body,
                                 .bytes = bytes};
        loops[i].waits = malloc((messages + 1) * sizeof(double) * (i == 0 ? 2 : 1));
        if (loops[i].waits == NULL || sem_init(&loops[i].wake, 0, 0) != 0)
            abort();
        loops[i].port = queue_port_new(bench_queue, wake_loop, &loops[i]);
    }
}

static void notify_nobody(void *ctx)
{
    (void)ctx;
}

int main(int argc, char **argv)
{
    static struct loop loops[THREADS];
    char error[256] = "";
    if (argc < 5) {
        (void)fprintf(stderr,
                      "usage: queue_bench FOLDER SESSIONS MESSAGES BYTES [deliver|defer|keep]\n");
        return 2;
    }
    size_t sessions = strtoul(argv[2], NULL, 10);
    size_t messages = strtoul(argv[3], NULL, 10);
    size_t bytes = strtoul(argv[4], NULL, 10);
    deliver = argc > 5 && strcmp(argv[5], "deliver") == 0;
    defer = argc > 5 && strcmp(argv[5], "defer") == 0;
    if (sessions == 0 || sessions > SESSIONS_MAX || messages == 0 || messages > WAITS_MAX)
        return 2;
    struct queue_options options = {.folder = argv[1],
                                    .max_bytes = UINT64_C(64) << 30,
                                    .on_fresh = on_fresh,
                                    .on_due = on_due,
                                    .on_removed = on_removed,
                                    .on_notice = on_notice};
    if (queue_open(&options, &bench_queue, error, sizeof error) != 0) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    outcome_port = queue_port_new(bench_queue, notify_nobody, NULL);
    start_loops(loops, sessions, messages, bytes);
    double begun = now_s();
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&loops[i].thread, NULL, loop_main, &loops[i]) != 0)
            return 1;
    for (size_t i = 0; i < THREADS; i++)
        (void)pthread_join(loops[i].thread, NULL);
    double took = now_s() - begun;
    struct queue_counts counts;
    if (queue_read_counts(bench_queue, &counts) != 0)
        return 1;
    report(loops, messages, took, counts.commits);
    queue_port_run(outcome_port);
    for (size_t i = 0; i < THREADS; i++)
        queue_port_free(&loops[i].port);
    queue_port_free(&outcome_port);
    queue_close(&bench_queue);
    return 0;
}
