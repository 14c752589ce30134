/* tests/crash/queue_kill.c - kill -9 the writing process at random moments, open the queue again,
 * compare.
 *
 * queue_kill [ROUNDS [SEED]] : a child submits messages of many sizes from several sessions,
 * delivers some, defers some, and tells every step through a pipe; the parent kills it, opens the
 * queue and checks:
 *   - what was answered OK is there, whole, unless its delivery was handed in
 *   - what was recorded as delivered is gone; what was recorded as deferred has its time in `due`
 *   - nothing is there that was never begun; counters agree with the rows; nothing is damaged
 *   - queue_check finds no problem
 * All the while the queue is compacted, again and again.
 * Exit 0: all of it held. */
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "queue/maintain.h"
#include "queue/queue.h"
#include "tests/tools/no_hooks.h"

#define SESSIONS  24
#define MESSAGES  200000 /* of all rounds */
#define MAX_BYTES (UINT64_C(4) << 30)
#define BIG       (3u << 20)

enum step {
    STEP_BEGUN = 'b',
    STEP_ACCEPTED = 'a',
    STEP_ENDING = 'e', /* its delivery is handed in */
    STEP_ENDED = 'E',  /* and recorded */
    STEP_DEFERRING = 'd',
    STEP_DEFERRED = 'D',
};

struct report { /* one write to the pipe */
    uint64_t id;
    uint32_t size;
    uint32_t step;
};

/* The content of a message follows from its id. */
static void fill(uint64_t id, char *out, size_t len)
{
    uint64_t x = id;
    for (size_t i = 0; i < len; i += sizeof x) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(out + i, &x, len - i < sizeof x ? len - i : sizeof x);
    }
}

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "queue_kill: %s\n", what);
    exit(1);
}

static void show_notice(bool is_error, const char *text, void *ctx)
{
    (void)ctx;
    if (is_error)
        (void)fprintf(stderr, "queue_kill: %s\n", text);
}

/* ---- the child ---- */

struct child {
    struct queue *queue;
    struct queue_port *port;
    struct queue_port *outcomes; /* run by the same thread */
    sem_t wake;
    int pipe;
    uint64_t random;
};

struct sender {
    struct child *child;
    uint64_t id;
    uint32_t size;
};

static struct child child;

static void tell(enum step step, uint64_t id, uint32_t size)
{
    struct report report = {id, size, step};
    if (write(child.pipe, &report, sizeof report) != (ssize_t)sizeof report)
        _exit(3);
}

static uint32_t roll(struct child *c, uint32_t below)
{
    c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(c->random >> 33) % below;
}

static void on_recorded(int result, void *ctx)
{
    uint64_t *id = ctx;
    if (result == 0)
        tell(*id % 8 == 0 ? STEP_DEFERRED : STEP_ENDED, *id, 0);
    free(id);
}

/* Of eight messages one is deferred, one stays, six are delivered. */
static void on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < count; i++) {
        bool defer = units[i].id % 8 == 0;
        struct queue_rcpt_outcome rcpt = {0, defer ? QUEUE_RCPT_WAITING : QUEUE_RCPT_DELIVERED,
                                          NULL};
        struct queue_outcome outcome = {.id = units[i].id,
                                        .unit = units[i].unit,
                                        .recipients = &rcpt,
                                        .recipient_count = 1,
                                        .due_unix_ms = (int64_t)(units[i].id >> 22) + 1,
                                        .count_attempt = true};
        if (units[i].id % 8 == 1)
            continue;
        uint64_t *id = malloc(sizeof *id);
        if (id == NULL)
            _exit(3);
        *id = units[i].id;
        tell(defer ? STEP_DEFERRING : STEP_ENDING, *id, 0);
        queue_record(child.queue, child.outcomes, &outcome, on_recorded, id);
    }
}

static void begin(struct sender *sender);

static void on_done(int result, void *ctx)
{
    struct sender *sender = ctx;
    if (result == 0)
        tell(STEP_ACCEPTED, sender->id, sender->size);
    begin(sender);
}

static uint32_t random_size(struct child *c)
{
    switch (roll(c, 40)) {
    case 0:
        return roll(c, BIG);
    case 1:
    case 2:
        return roll(c, 200000);
    default:
        return roll(c, 12000);
    }
}

static void begin(struct sender *sender)
{
    static char body[BIG];
    struct queue_recipient rcpt = {.address = "user@example.net", .domain = "example.net"};
    struct queue_put *put = NULL;
    sender->size = random_size(sender->child);
    if (queue_put_begin(sender->child->queue, sender->child->port, &put, &sender->id) != 0)
        _exit(3);
    tell(STEP_BEGUN, sender->id, sender->size);
    fill(sender->id, body, sender->size);
    size_t at = 0;
    while (at < sender->size) {
        size_t len = 1 + roll(sender->child, 256 * 1024);
        if (len > sender->size - at)
            len = sender->size - at;
        if (queue_put_piece(put, body + at, len, NULL, NULL) != 0)
            _exit(3);
        at += len;
    }
    if (roll(sender->child, 30) == 0) { /* changed its mind */
        queue_put_abort(put);
        begin(sender);
        return;
    }
    struct queue_envelope envelope = {.sender = "sender@example.org",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000000};
    queue_put_commit(put, &envelope, on_done, sender);
}

static void wake(void *ctx)
{
    (void)sem_post(&((struct child *)ctx)->wake);
}

static void compact(void);

static void on_compacted(int result, void *ctx)
{
    (void)ctx;
    if (result == 0) /* the file system can */
        compact();
}

static void compact(void)
{
    if (queue_compact_start(child.queue, child.outcomes, on_compacted, NULL) != 0)
        _exit(3);
}

static _Noreturn void run_child(const char *folder, int pipe_fd, uint64_t seed)
{
    static struct sender senders[SESSIONS];
    char error[256];
    struct queue_options options = {.folder = folder,
                                    .max_bytes = MAX_BYTES,
                                    .on_fresh = on_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = show_notice};
    child = (struct child){.pipe = pipe_fd, .random = seed};
    if (sem_init(&child.wake, 0, 0) != 0 ||
        queue_open(&options, &child.queue, error, sizeof error) != 0)
        _exit(3);
    child.port = queue_port_new(child.queue, wake, &child);
    child.outcomes = queue_port_new(child.queue, wake, &child);
    for (size_t i = 0; i < SESSIONS; i++) {
        senders[i].child = &child;
        begin(&senders[i]);
    }
    compact();
    for (;;) {
        (void)sem_wait(&child.wake);
        queue_port_run(child.outcomes);
        queue_port_run(child.port);
    }
}

/* ---- the parent ---- */

struct known { /* what a message's reports said */
    uint64_t id;
    uint32_t size;
    bool accepted;
    bool ending;
    bool ended;
    bool deferred;
    bool seen; /* in the queue, this round */
    bool due;
    int64_t due_ms;
};

static struct known known[MESSAGES];
static size_t known_count;
static size_t accepted_count;
static size_t open_ended; /* killed between handing in and the answer */

/* Ids only grow, and are told in the order they are taken. */
static struct known *find(uint64_t id)
{
    size_t low = 0;
    size_t high = known_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < known_count && known[low].id == id ? &known[low] : NULL;
}

static void note(const struct report *report)
{
    struct known *k = find(report->id);
    if (report->step == STEP_BEGUN) {
        if (known_count > 0 && report->id <= known[known_count - 1].id)
            die("an id came twice, or out of order");
        if (known_count == MESSAGES)
            die("too many messages");
        known[known_count++] = (struct known){.id = report->id, .size = report->size};
        return;
    }
    if (k == NULL)
        die("a report of an unknown message");
    k->accepted |= report->step == STEP_ACCEPTED;
    k->ending |= report->step == STEP_ENDING;
    k->ended |= report->step == STEP_ENDED;
    k->deferred |= report->step == STEP_DEFERRED;
    accepted_count += report->step == STEP_ACCEPTED ? 1 : 0;
}

/* Read reports until the pipe closes; kill the child some time after the first answer. */
static void watch_and_kill(pid_t pid, int fd, useconds_t after_us)
{
    struct report report;
    bool killed = false;
    for (;;) {
        ssize_t got = read(fd, &report, sizeof report);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != (ssize_t)sizeof report)
            break;
        note(&report);
        if (killed || report.step != STEP_ACCEPTED)
            continue;
        (void)usleep(after_us);
        (void)kill(pid, SIGKILL);
        killed = true;
    }
    int status = 0;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        die("the child ended by itself");
}

static void check_body(struct queue *queue, const struct known *k)
{
    static char want[BIG];
    static char got[BIG];
    size_t at = 0;
    long part;
    while ((part = queue_read_body(queue, k->id, at, got + at, BIG - at)) > 0)
        at += (size_t)part;
    fill(k->id, want, k->size);
    if (part != 0 || at != k->size || memcmp(want, got, at) != 0)
        die("a message is not whole");
}

static bool note_due(int64_t due_unix_ms, uint64_t id, uint16_t unit, void *ctx)
{
    struct known *k = find(id);
    size_t *count = ctx;
    if (k == NULL || unit != 0 || k->due)
        die("a row of due leads nowhere, or is there twice");
    k->due = true;
    k->due_ms = due_unix_ms;
    (*count)++;
    return true;
}

static size_t mark_seen(struct queue *queue)
{
    uint64_t ids[512];
    uint64_t after = 0;
    size_t total = 0;
    long count;
    while ((count = queue_read_ids(queue, after, ids, 512)) > 0) {
        for (long i = 0; i < count; i++) {
            struct known *k = find(ids[i]);
            if (k == NULL)
                die("a message is there that was never begun");
            k->seen = true;
            check_body(queue, k);
        }
        after = ids[count - 1];
        total += (size_t)count;
    }
    if (count < 0)
        die("ids cannot be read");
    return total;
}

static size_t count_fresh(struct queue *queue)
{
    uint64_t ids[512];
    uint64_t from = 0;
    size_t total = 0;
    long count;
    while ((count = queue_read_fresh(queue, from, ids, 512)) > 0) {
        for (long i = 0; i < count; i++) {
            const struct known *k = find(ids[i]);
            if (k == NULL || !k->seen || k->due)
                die("a row of fresh leads nowhere, or to a deferred message");
        }
        from = ids[count - 1] + 1;
        total += (size_t)count;
    }
    return total;
}

/* A message that is there counts as accepted from now on: it may not go. */
static void compare(void)
{
    for (size_t i = 0; i < known_count; i++) {
        struct known *k = &known[i];
        if (k->ended && k->seen)
            die("a delivered message is there again");
        if (k->accepted && !k->seen && !k->ending && !k->ended)
            die("an accepted message is gone");
        if (k->deferred && (!k->due || k->due_ms != (int64_t)(k->id >> 22) + 1))
            die("a deferred message is not due at its time");
        open_ended += k->ending && !k->ended && k->seen ? 1 : 0;
        k->accepted |= k->seen;
        k->ended |= !k->seen;
        k->ending = false;
    }
}

static void show_line(const char *line, void *ctx)
{
    (void)ctx;
    (void)fprintf(stderr, "queue_kill: %s\n", line);
}

static void check_whole(const char *folder)
{
    struct queue_check_result result = {0};
    char error[256];
    if (queue_check(folder, false, show_line, NULL, &result, error, sizeof error) != 0)
        die(error);
    if (result.problems > 0)
        die("the check found problems");
}

static void verify(const char *folder)
{
    char error[256];
    check_whole(folder);
    struct queue *queue = NULL;
    struct queue_counts counts;
    size_t due = 0;
    struct queue_options options = {.folder = folder,
                                    .max_bytes = MAX_BYTES,
                                    .on_fresh = no_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = show_notice};
    if (queue_open(&options, &queue, error, sizeof error) != 0)
        die(error);
    for (size_t i = 0; i < known_count; i++)
        known[i].seen = known[i].due = false;
    size_t total = mark_seen(queue);
    if (queue_read_due(queue, "example.net", QUEUE_LANE_RETRY, INT64_MAX, note_due, &due, NULL) !=
        0)
        die("due cannot be read");
    size_t fresh = count_fresh(queue);
    if (queue_read_counts(queue, &counts) != 0 || counts.messages != total ||
        counts.units_fresh != fresh || counts.units_deferred != due || fresh + due != total ||
        counts.damaged != 0)
        die("the counters do not agree with the rows");
    compare();
    queue_close(&queue);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void run_round(const char *folder, uint64_t seed)
{
    int fds[2];
    if (pipe(fds) != 0)
        die("pipe");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        (void)close(fds[0]);
        run_child(folder, fds[1], seed);
    }
    (void)close(fds[1]);
    watch_and_kill(pid, fds[0], (useconds_t)(seed >> 40) % 150000);
    (void)close(fds[0]);
    verify(folder);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/queue-kill-XXXXXX";
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 60;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    if (mkdtemp(folder) == NULL)
        die("mkdtemp");
    (void)printf("seed %llu\n", (unsigned long long)seed);
    for (unsigned long i = 0; i < rounds; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        run_round(folder, seed);
    }
    size_t there = 0;
    for (size_t i = 0; i < known_count; i++)
        there += known[i].seen ? 1 : 0;
    (void)printf(
        "%lu kills: %zu begun, %zu answered OK, %zu still queued, %zu deliveries in flight "
        "at a kill stayed\n",
        rounds, known_count, accepted_count, there, open_ended);
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}
