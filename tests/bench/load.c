/* tests/bench/load.c - the queue through its own interface. The sessions are multiplexed on two
 * threads, as the daemon's loops do it; each has one message under way at a time. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue/queue.h"
#include "tests/bench/bench.h"
#include "tests/tools/no_hooks.h"

#define THREADS    2
#define KIB        ((size_t)1024)
#define BODY_MAX   (32 * KIB * KIB)
#define DEFER_EACH 4 /* with LOAD_REPLACE: one deferral for so many messages */

struct load {
    struct queue *queue;
    struct queue_port *port; /* answers to outcomes */
    sem_t answered;
    const struct load_plan *plan;
    uint64_t seed;
    /* ids that wait; touched by the writer's thread, or by the caller while nothing runs */
    uint64_t *live;
    size_t live_count;
    size_t live_cap;
    uint32_t *batches;
    size_t batch_count;
    size_t batch_cap;
    _Atomic size_t told;     /* messages that on_fresh told of */
    _Atomic size_t recorded; /* outcomes handed over */
    size_t done;             /* and answered */
};

struct loop {
    struct load *load;
    struct queue_port *port;
    sem_t wake;
    size_t sessions;
    size_t left; /* messages still to begin */
    size_t begun;
    size_t open; /* begun, not answered */
    double until_s;
    double *waits_ms;
    size_t wait_count;
    size_t wait_cap;
    uint64_t seed;
    const char *body;
    pthread_t thread;
};

struct session {
    struct loop *loop;
    double begun_s;
};

/* ---- outcomes ---- */

static void on_recorded(int result, void *ctx)
{
    struct load *load = ctx;
    bench_check(result == 0, "an outcome could not be recorded");
    load->done++;
}

static void record(struct load *load, uint64_t id, bool deliver)
{
    struct queue_attempt attempt = {.time_unix_ms = 1,
                                    .host = "mx.example",
                                    .address = "192.0.2.1",
                                    .code = deliver ? 250 : 451,
                                    .status = deliver ? "2.0.0" : "4.2.0",
                                    .text = deliver ? "ok" : "try again later",
                                    .tls = "TLS1.3"};
    struct queue_rcpt_outcome rcpt = {0, deliver ? QUEUE_RCPT_DELIVERED : QUEUE_RCPT_WAITING,
                                      &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = (int64_t)(id >> 22) + 300000,
                                    .count_attempt = true};
    atomic_fetch_add(&load->recorded, 1);
    queue_record(load->queue, load->port, &outcome, on_recorded, load);
}

static void add_live(struct load *load, uint64_t id)
{
    if (load->live_count == load->live_cap) {
        load->live_cap = load->live_cap > 0 ? 2 * load->live_cap : 4096;
        load->live = bench_resize(load->live, load->live_cap * sizeof *load->live);
    }
    load->live[load->live_count++] = id;
}

static uint64_t take_live(struct load *load)
{
    size_t at = bench_random(&load->seed) % load->live_count;
    uint64_t id = load->live[at];
    load->live[at] = load->live[--load->live_count];
    return id;
}

static void add_batch(struct load *load, size_t count)
{
    if (load->batch_count == load->batch_cap) {
        load->batch_cap = load->batch_cap > 0 ? 2 * load->batch_cap : 4096;
        load->batches = bench_resize(load->batches, load->batch_cap * sizeof *load->batches);
    }
    load->batches[load->batch_count++] = (uint32_t)count;
}

/* Every message has one recipient, hence one unit. */
static void on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    struct load *load = ctx;
    enum load_mode mode = load->plan->mode;
    add_batch(load, count);
    for (size_t i = 0; i < count; i++) {
        if (mode == LOAD_DELIVER) {
            record(load, units[i].id, true);
            continue;
        }
        add_live(load, units[i].id);
        if (mode == LOAD_DEFER)
            record(load, units[i].id, false);
        if (mode != LOAD_REPLACE)
            continue;
        record(load, take_live(load), true);
        if (i % DEFER_EACH == 0 && load->live_count > 0)
            record(load, load->live[bench_random(&load->seed) % load->live_count], false);
    }
    atomic_fetch_add(&load->told, count);
}

static void on_notice(bool is_error, const char *text, void *ctx)
{
    (void)is_error;
    (void)ctx;
    (void)fprintf(stderr, "queue_bench: %s\n", text);
}

static void on_answered(void *ctx)
{
    (void)sem_post(&((struct load *)ctx)->answered);
}

static void await_outcomes(struct load *load)
{
    while (load->done < atomic_load(&load->recorded)) {
        (void)sem_wait(&load->answered);
        queue_port_run(load->port);
    }
}

/* ---- sessions ---- */

static size_t next_size(struct loop *loop)
{
    static const size_t sizes[] = {1, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 8, 8, 16, 32, 100};
    if (loop->load->plan->bytes > 0)
        return loop->load->plan->bytes;
    size_t kib = sizes[bench_random(&loop->seed) % (sizeof sizes / sizeof sizes[0])];
    return kib * KIB - bench_random(&loop->seed) % 512;
}

static bool may_begin(struct loop *loop)
{
    if (loop->load->plan->messages > 0)
        return loop->left > 0;
    return bench_now_s() < loop->until_s;
}

static void begin(struct session *session);

static void on_accepted(int result, void *ctx)
{
    struct session *session = ctx;
    struct loop *loop = session->loop;
    bench_check(result == 0, "a message was not accepted");
    loop->open--;
    if (loop->wait_count == loop->wait_cap) {
        loop->wait_cap = loop->wait_cap > 0 ? 2 * loop->wait_cap : 4096;
        loop->waits_ms = bench_resize(loop->waits_ms, loop->wait_cap * sizeof *loop->waits_ms);
    }
    loop->waits_ms[loop->wait_count++] = (bench_now_s() - session->begun_s) * 1e3;
    begin(session);
}

static void begin(struct session *session)
{
    struct loop *loop = session->loop;
    char domain[48];
    struct queue_recipient rcpt = {.address = "user@example.net", .domain = domain};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    if (!may_begin(loop))
        return;
    size_t bytes = next_size(loop);
    (void)snprintf(domain, sizeof domain, "d%llu.example.net",
                   (unsigned long long)(bench_random(&loop->seed) % loop->load->plan->domains));
    struct queue_envelope envelope = {.sender = "sender@example.org",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .header_bytes = bytes < 200 ? bytes : 200,
                                      .sign_domain = "example.org",
                                      .accepted_unix_ms = 1700000000000};
    loop->left -= loop->left > 0 ? 1 : 0;
    loop->begun++;
    loop->open++;
    bench_check(queue_put_begin(loop->load->queue, loop->port, &put, &id) == 0, "queue_put_begin");
    for (size_t at = 0; at < bytes; at += QUEUE_PIECE_MAX) {
        size_t len = bytes - at < QUEUE_PIECE_MAX ? bytes - at : QUEUE_PIECE_MAX;
        bench_check(queue_put_piece(put, loop->body + at, len, NULL, NULL) == 0, "queue_put_piece");
    }
    session->begun_s = bench_now_s();
    queue_put_commit(put, &envelope, on_accepted, session);
}

static void wake_loop(void *ctx)
{
    (void)sem_post(&((struct loop *)ctx)->wake);
}

static void *loop_main(void *arg)
{
    struct loop *loop = arg;
    struct session *sessions = bench_alloc(loop->sessions * sizeof *sessions);
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

/* ---- a run ---- */

/* Answers come before news. */
static void await_news(struct load *load, size_t messages)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    while (atomic_load(&load->told) < messages)
        (void)nanosleep(&pause, NULL);
    await_outcomes(load);
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static void add_waits(struct loop *loops, struct load_result *result)
{
    size_t count = 0;
    for (size_t i = 0; i < THREADS; i++)
        count += loops[i].wait_count;
    double *all = bench_alloc(count * sizeof *all);
    size_t at = 0;
    for (size_t i = 0; i < THREADS; i++) {
        if (loops[i].wait_count > 0)
            memcpy(all + at, loops[i].waits_ms, loops[i].wait_count * sizeof *all);
        at += loops[i].wait_count;
        free(loops[i].waits_ms);
    }
    qsort(all, count, sizeof *all, compare_doubles);
    result->messages = count;
    result->p50_ms = count > 0 ? all[count / 2] : 0;
    result->p99_ms = count > 0 ? all[count * 99 / 100] : 0;
    free(all);
}

static void run_loops(struct load *load, struct loop *loops, char *body)
{
    const struct load_plan *plan = load->plan;
    for (size_t i = 0; i < THREADS; i++) {
        size_t left = plan->sessions == 1 ? i * plan->messages : (plan->messages + i) / THREADS;
        loops[i] = (struct loop){.load = load,
                                 .sessions = (plan->sessions + i) / THREADS,
                                 .left = left,
                                 .until_s = bench_now_s() + plan->seconds,
                                 .seed = load->seed + i,
                                 .body = body};
        bench_check(sem_init(&loops[i].wake, 0, 0) == 0, "sem_init");
        loops[i].port = queue_port_new(load->queue, wake_loop, &loops[i]);
    }
    for (size_t i = 0; i < THREADS; i++)
        bench_check(pthread_create(&loops[i].thread, NULL, loop_main, &loops[i]) == 0, "thread");
    for (size_t i = 0; i < THREADS; i++)
        (void)pthread_join(loops[i].thread, NULL);
}

void load_run(struct load *load, const struct load_plan *plan, struct load_result *result_out)
{
    struct loop loops[THREADS];
    struct queue_counts before;
    struct queue_counts after;
    size_t room = plan->bytes > 100 * KIB ? plan->bytes : 100 * KIB;
    bench_check(plan->bytes <= BODY_MAX && plan->sessions > 0 && plan->domains > 0, "plan");
    char *body = bench_alloc(room);
    for (size_t i = 0; i < room; i++)
        body[i] = (char)('a' + i % 26);
    load->plan = plan;
    load->batch_count = 0;
    atomic_store(&load->told, 0);
    bench_check(queue_read_counts(load->queue, &before) == 0, "queue_read_counts");
    uint64_t written = bench_written();
    double begun_s = bench_now_s();
    run_loops(load, loops, body);
    result_out->took_s = bench_now_s() - begun_s;
    add_waits(loops, result_out);
    await_news(load, result_out->messages);
    result_out->written = (double)(bench_written() - written);
    bench_check(queue_read_counts(load->queue, &after) == 0, "queue_read_counts");
    result_out->commits = after.commits - before.commits;
    for (size_t i = 0; i < THREADS; i++) {
        queue_port_free(&loops[i].port);
        (void)sem_destroy(&loops[i].wake);
    }
    load->seed += THREADS;
    result_out->batch_count = load->batch_count;
    result_out->batches = bench_alloc(load->batch_count * sizeof *load->batches);
    if (load->batch_count > 0)
        memcpy(result_out->batches, load->batches, load->batch_count * sizeof *load->batches);
    free(body);
}

void load_result_deinit(struct load_result *result)
{
    free(result->batches);
    result->batches = NULL;
}

size_t load_waiting(const struct load *load)
{
    return load->live_count;
}

void load_shrink(struct load *load, size_t keep)
{
    while (load->live_count > keep) {
        for (size_t i = 0; i < 512 && load->live_count > keep; i++)
            record(load, take_live(load), true);
        await_outcomes(load);
    }
}

struct queue *load_queue(struct load *load)
{
    return load->queue;
}

struct load *load_open(const char *folder)
{
    char error[512] = "";
    struct load *load = bench_alloc(sizeof *load);
    uint64_t after = 0;
    uint64_t ids[1024];
    load->seed = 4711;
    bench_check(sem_init(&load->answered, 0, 0) == 0, "sem_init");
    struct queue_options options = {.folder = folder,
                                    .max_bytes = UINT64_C(64) << 30,
                                    .on_fresh = on_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = on_notice,
                                    .ctx = load};
    bench_check(queue_open(&options, &load->queue, error, sizeof error) == 0, error);
    load->port = queue_port_new(load->queue, on_answered, load);
    for (;;) {
        long count = queue_read_ids(load->queue, after, ids, 1024);
        bench_check(count >= 0, "queue_read_ids");
        if (count == 0)
            return load;
        for (long i = 0; i < count; i++)
            add_live(load, ids[i]);
        after = ids[count - 1];
    }
}

void load_close(struct load **loadp)
{
    struct load *load = *loadp;
    *loadp = NULL;
    await_outcomes(load);
    queue_port_free(&load->port);
    queue_close(&load->queue);
    (void)sem_destroy(&load->answered);
    free(load->live);
    free(load->batches);
    free(load);
}

/* ---- the command ---- */

int load_main(int argc, char **argv)
{
    static const char *const modes[] = {"keep", "deliver", "defer", "replace"};
    struct load_result result;
    if (argc < 4) {
        (void)fprintf(stderr, "usage: queue_bench load FOLDER SESSIONS MESSAGES BYTES "
                              "[keep|deliver|defer|replace]   (0 bytes: mixed sizes)\n");
        return 2;
    }
    struct load_plan plan = {.sessions = strtoul(argv[1], NULL, 10),
                             .messages = strtoul(argv[2], NULL, 10),
                             .bytes = strtoul(argv[3], NULL, 10),
                             .domains = 10000};
    for (size_t i = 0; argc > 4 && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[4], modes[i]) == 0)
            plan.mode = (enum load_mode)i;
    }
    if (plan.sessions == 0 || plan.messages == 0 || plan.bytes > BODY_MAX)
        return 2;
    struct load *load = load_open(argv[0]);
    load_run(load, &plan, &result);
    double messages = (double)result.messages;
    struct queue_metrics metrics;
    queue_read_metrics(load->queue, &metrics);
    double transactions = metrics.commit.count > 0 ? (double)metrics.commit.count : 1;
    (void)printf(
        "%8.0f messages/s  %6.0f commits/s, each %.2f ms, %.2f of it in the commit  wait p50 "
        "%.2f p99 %.2f ms  %.1f KiB written a message\n",
        messages / result.took_s, (double)result.commits / result.took_s,
        metrics.commit.sum / transactions * 1e3, metrics.sync.sum / transactions * 1e3,
        result.p50_ms, result.p99_ms, result.written / messages / 1024);
    load_result_deinit(&result);
    load_close(&load);
    return 0;
}
