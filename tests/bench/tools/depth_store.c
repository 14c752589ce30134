/* tests/bench/tools/depth_store.c - brings a queue to a depth and measures what one message costs
 * there, through the queue's own interface. `usage` below says how.
 *
 * A line of key=value for opening and for each step: n, s(econds), rate, cpu_us and writer_us (of
 * the whole program and of all but its main thread, a message), kib (handed to write calls, a
 * message), depth, used_mib, file_mib, anon_mib (without the list of ids). */
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "queue/queue.h"
#include "tests/tools/no_hooks.h"

#define OUTSTANDING_MAX 20000
#define IDS_A_READ      4096
#define SCATTER         7919 /* a prime */

static const char usage[] =
    "depth_store FOLDER [-d DOMAINS] [-l BYTES] [-o OUTSTANDING] [-r SEED] STEP...\n"
    "  put:N        accept N messages of one recipient, the domains in turn\n"
    "  park:N       the N put last leave `fresh`, due now\n"
    "  defer:N[:AFTER_S[:SPREAD_S]]\n"
    "               the next N, in their order, get a failed attempt; due AFTER_S from now, and "
    "up\n"
    "               to SPREAD_S later (or earlier); both may be negative\n"
    "  defer-new:N[:AFTER_S[:SPREAD_S]]\n"
    "               the same for the N put last\n"
    "  deliver:N    N taken at random are delivered; deliver:all\n"
    "  shuffle      from here on `defer` goes in random order\n";

struct bench {
    struct queue *queue;
    struct queue_port *port;
    sem_t wake;
    const char *folder;
    size_t domains, bytes, outstanding;
    uint64_t random;
    char *body;
    uint64_t *ids; /* of what is stored */
    size_t count, cap;
    size_t next; /* in ids: the first that defer has not had in this round */
    size_t open; /* under way */
    size_t failed;
    size_t put_count; /* ever: picks the domain */
};

struct mark { /* what was used up to here */
    double wall_s, cpu_s, own_s;
    uint64_t written;
};

static double seconds(clockid_t clock)
{
    struct timespec ts;
    (void)clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int64_t now_unix_ms(void)
{
    return (int64_t)(seconds(CLOCK_REALTIME) * 1e3);
}

static uint64_t number_after(const char *path, const char *name)
{
    char line[256];
    uint64_t value = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name), NULL, 10);
    }
    (void)fclose(file);
    return value;
}

static struct mark mark_now(void)
{
    return (struct mark){
        .wall_s = seconds(CLOCK_MONOTONIC),
        .cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID),
        .own_s = seconds(CLOCK_THREAD_CPUTIME_ID),
        .written = number_after("/proc/self/io", "wchar:"),
    };
}

static uint64_t random_below(struct bench *b, uint64_t below)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (b->random >> 11) % below;
}

/* ---- what the queue tells ---- */

static void on_notice(bool is_error, const char *text, void *ctx)
{
    (void)is_error;
    (void)ctx;
    (void)fprintf(stderr, "depth_store: %s\n", text);
}

static void wake(void *ctx)
{
    (void)sem_post(&((struct bench *)ctx)->wake);
}

static void on_done(int result, void *ctx)
{
    struct bench *b = ctx;
    b->open--;
    b->failed += result != QUEUE_OK;
}

static void wait_until_open(struct bench *b, size_t most)
{
    while (b->open > most) {
        (void)sem_wait(&b->wake);
        queue_port_run(b->port);
    }
}

/* ---- steps ---- */

static void add_id(struct bench *b, uint64_t id)
{
    if (b->count == b->cap) {
        b->cap = b->cap == 0 ? 1 << 16 : b->cap * 2;
        b->ids = realloc(b->ids, b->cap * sizeof *b->ids);
        if (b->ids == NULL)
            abort();
    }
    b->ids[b->count++] = id;
}

static void put_one(struct bench *b)
{
    char domain[64];
    char address[80];
    /* Neighbours in time are none in the order of names. */
    (void)snprintf(domain, sizeof domain, "d%05zu.example.net",
                   b->put_count++ * SCATTER % b->domains);
    (void)snprintf(address, sizeof address, "user@%s", domain);
    struct queue_recipient rcpt = {.address = address, .domain = domain};
    struct queue_envelope envelope = {.sender = "bench@sender.example",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .header_bytes = b->bytes < 200 ? b->bytes : 200,
                                      .sign_domain = "sender.example",
                                      .accepted_unix_ms = now_unix_ms()};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    if (queue_put_begin(b->queue, b->port, &put, &id) != 0)
        abort();
    for (size_t at = 0; at < b->bytes; at += QUEUE_PIECE_MAX) {
        size_t len = b->bytes - at < QUEUE_PIECE_MAX ? b->bytes - at : QUEUE_PIECE_MAX;
        if (queue_put_piece(put, b->body + at, len, NULL, NULL) != 0)
            abort();
    }
    b->open++;
    queue_put_commit(put, &envelope, on_done, b);
    add_id(b, id);
}

static void record_one(struct bench *b, uint64_t id, enum queue_rcpt_state state,
                       int64_t due_unix_ms)
{
    bool delivered = state == QUEUE_RCPT_DELIVERED;
    struct queue_attempt attempt = {
        .time_unix_ms = now_unix_ms(),
        .host = "mx1.example.net",
        .address = "192.0.2.1",
        .code = delivered ? 250 : 0,
        .status = delivered ? "2.0.0" : "4.4.1",
        .text = delivered ? "2.0.0 queued" : "192.0.2.1 (mx1.example.net): connection refused",
        .tls = delivered ? "TLS1.3" : ""};
    struct queue_rcpt_outcome rcpt = {0, state, &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = due_unix_ms,
                                    .count_attempt = true};
    b->open++;
    queue_record(b->queue, b->port, &outcome, on_done, b);
}

static void step_put(struct bench *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        wait_until_open(b, b->outstanding - 1);
        put_one(b);
    }
}

static uint64_t next_id(struct bench *b)
{
    if (b->next >= b->count)
        b->next = 0;
    return b->ids[b->next++];
}

/* newest: the N put last, else those that come next in the round. */
static void step_defer(struct bench *b, size_t n, bool newest, int64_t after_s, int64_t spread_s)
{
    size_t first = b->count > n ? b->count - n : 0;
    uint64_t spread_ms = (uint64_t)(spread_s < 0 ? -spread_s : spread_s) * 1000 + 1;
    for (size_t i = 0; i < n && b->count > 0; i++) {
        int64_t more = (int64_t)random_below(b, spread_ms);
        int64_t due = now_unix_ms() + after_s * 1000 + (spread_s < 0 ? -more : more);
        wait_until_open(b, b->outstanding - 1);
        record_one(b, newest ? b->ids[(first + i) % b->count] : next_id(b), QUEUE_RCPT_WAITING,
                   due);
    }
}

static void step_park(struct bench *b, size_t n)
{
    for (size_t i = b->count > n ? b->count - n : 0; i < b->count; i++) {
        wait_until_open(b, b->outstanding - 1);
        b->open++;
        queue_park(b->queue, b->port, b->ids[i], 0, now_unix_ms(), on_done, b);
    }
}

static void step_deliver(struct bench *b, size_t n)
{
    for (size_t i = 0; i < n && b->count > 0; i++) {
        size_t at = (size_t)random_below(b, b->count);
        wait_until_open(b, b->outstanding - 1);
        record_one(b, b->ids[at], QUEUE_RCPT_DELIVERED, QUEUE_NEVER);
        b->ids[at] = b->ids[--b->count];
    }
}

static void step_shuffle(struct bench *b)
{
    for (size_t i = b->count; i > 1; i--) {
        size_t j = (size_t)random_below(b, i);
        uint64_t id = b->ids[i - 1];
        b->ids[i - 1] = b->ids[j];
        b->ids[j] = id;
    }
    b->next = 0;
}

/* ---- running them ---- */

static void report(struct bench *b, const char *step, size_t n, const struct mark *from)
{
    struct mark to = mark_now();
    struct queue_counts counts;
    struct stat st = {0};
    char path[4096];
    double per = n > 0 ? 1e6 / (double)n : 0;
    double wall_s = to.wall_s - from->wall_s;
    double cpu_s = to.cpu_s - from->cpu_s;
    uint64_t anon_kib = number_after("/proc/self/status", "RssAnon:");
    uint64_t ids_kib = b->count * sizeof *b->ids / 1024;
    (void)snprintf(path, sizeof path, "%s/data.mdb", b->folder);
    (void)stat(path, &st);
    if (queue_read_counts(b->queue, &counts) != 0)
        abort();
    (void)printf(
        "step=%s n=%zu s=%.3f rate=%.0f cpu_us=%.1f writer_us=%.1f kib=%.2f depth=%llu "
        "fresh=%llu deferred=%llu used_mib=%llu file_mib=%llu anon_mib=%llu\n",
        step, n, wall_s, (double)n / wall_s, cpu_s * per, (cpu_s - (to.own_s - from->own_s)) * per,
        n > 0 ? (double)(to.written - from->written) / 1024 / (double)n : 0,
        (unsigned long long)counts.messages, (unsigned long long)counts.units_fresh,
        (unsigned long long)counts.units_deferred, (unsigned long long)counts.file_bytes >> 20,
        (unsigned long long)st.st_blocks / 2048,
        (unsigned long long)(anon_kib > ids_kib ? (anon_kib - ids_kib) / 1024 : 0));
    (void)fflush(stdout);
}

/* @return false: not a step */
static bool run_step(struct bench *b, const char *text)
{
    struct mark from = mark_now();
    const char *colon = strchr(text, ':');
    char name[16] = "";
    char *end = NULL;
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ":"), text);
    size_t n = colon == NULL ? 0 : (size_t)strtoull(colon + 1, &end, 10);
    if (colon != NULL && strcmp(colon, ":all") == 0)
        n = b->count;
    int64_t after_s = end != NULL && *end == ':' ? strtoll(end + 1, &end, 10) : 300;
    int64_t spread_s = end != NULL && *end == ':' ? strtoll(end + 1, &end, 10) : 0;
    if (strcmp(name, "put") == 0)
        step_put(b, n);
    else if (strcmp(name, "park") == 0)
        step_park(b, n);
    else if (strcmp(name, "defer") == 0)
        step_defer(b, n, false, after_s, spread_s);
    else if (strcmp(name, "defer-new") == 0)
        step_defer(b, n, true, after_s, spread_s);
    else if (strcmp(name, "deliver") == 0)
        step_deliver(b, n);
    else if (strcmp(name, "shuffle") == 0)
        step_shuffle(b);
    else
        return false;
    wait_until_open(b, 0);
    report(b, name, n, &from);
    return true;
}

static void load_ids(struct bench *b)
{
    uint64_t ids[IDS_A_READ];
    uint64_t after = 0;
    for (;;) {
        long count = queue_read_ids(b->queue, after, ids, IDS_A_READ);
        if (count <= 0)
            break;
        for (long i = 0; i < count; i++)
            add_id(b, ids[i]);
        after = ids[count - 1];
    }
    b->put_count = b->count;
}

static bool open_queue(struct bench *b)
{
    char error[512] = "";
    struct mark from = mark_now();
    struct queue_options options = {.folder = b->folder,
                                    .max_bytes = UINT64_C(256) << 30,
                                    .on_fresh = no_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = on_notice};
    if (queue_open(&options, &b->queue, error, sizeof error) != 0) {
        (void)fprintf(stderr, "depth_store: %s\n", error);
        return false;
    }
    report(b, "open", 0, &from);
    b->port = queue_port_new(b->queue, wake, b);
    load_ids(b);
    b->body = malloc(b->bytes + 1);
    if (b->body == NULL)
        abort();
    for (size_t i = 0; i < b->bytes; i++)
        b->body[i] = (char)('a' + i % 26);
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {
        .domains = 1, .bytes = 4096, .outstanding = 500, .random = 88172645463325252U};
    int option = 0;
    while ((option = getopt(argc, argv, "d:l:o:r:")) != -1) {
        size_t value = optarg != NULL ? (size_t)strtoull(optarg, NULL, 10) : 0;
        if (option == '?' || value == 0) {
            (void)fputs(usage, stderr);
            return 2;
        }
        if (option == 'd')
            b.domains = value;
        else if (option == 'l')
            b.bytes = value;
        else if (option == 'o')
            b.outstanding = value < OUTSTANDING_MAX ? value : OUTSTANDING_MAX;
        else
            b.random ^= value << 20;
    }
    if (argc - optind < 1 || sem_init(&b.wake, 0, 0) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    b.folder = argv[optind];
    if (!open_queue(&b))
        return 1;
    int result = 0;
    for (int i = optind + 1; i < argc && result == 0; i++) {
        if (!run_step(&b, argv[i])) {
            (void)fprintf(stderr, "depth_store: no such step: %s\n", argv[i]);
            result = 2;
        }
    }
    if (b.failed > 0) {
        (void)fprintf(stderr, "depth_store: %zu failed\n", b.failed);
        result = 1;
    }
    queue_port_free(&b.port);
    queue_close(&b.queue);
    free(b.ids);
    free(b.body);
    return result;
}
