/* tests/crash/cut_work.c - producers, outcomes and admin's steps on one queue, at random from a
 * seed.
 *
 * One thread does all of it; the queue's writer calls on_fresh. A mark that allows something is
 * made before the queue is asked for it, a mark that demands something after the queue has said so.
 */
#include "tests/crash/cut_work.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "queue/maintain.h"
#include "queue/queue.h"
#include "tests/crash/cut_disk.h"
#include "tests/crash/cut_ledger.h"
#include "tests/tools/no_hooks.h"

#define PRODUCERS     10
#define LIVE_MAX      4096
#define LIVE_MANY     90 /* from then on more leaves than comes */
#define FRESH_MAX     4096
#define ACTS_MAX      1024
#define SECONDS       60 /* it never takes that long */
#define MAX_BYTES     (UINT64_C(256) << 20)
#define WAIT_NS       300000
#define FAILING_US    20000
#define COMPACT_EVERY 40 /* turns */
#define REPEAT_OPEN   50 /* times, while the disk fails */

struct live { /* a message that is there */
    uint64_t id;
    bool bounce;
    bool busy;      /* an act waits for its answer */
    uint8_t parked; /* a bit a unit: it was asked for, of which no answer tells */
};

struct producer {
    struct queue_put *put; /* NULL: nothing under way */
    uint64_t id;
    uint32_t size;
    uint32_t at;
    bool waits; /* for the answer to a commit */
};

static struct work {
    struct queue *queue;
    struct queue_port *port;
    cut_mark_fn mark;
    uint64_t random;
    bool faults;
    bool failing; /* something was refused: no hurry with more */
    sem_t wake;
    struct producer producers[PRODUCERS];
    struct live live[LIVE_MAX];
    size_t live_count;
    struct cut_note acts_asked[ACTS_MAX]; /* that wait for their answers; step 0: free */
    size_t accepted;
    uint32_t acts;
    pthread_mutex_t lock; /* guards what follows */
    struct live fresh[FRESH_MAX];
    size_t fresh_count;
} work = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "cut_work: %s\n", what);
    _exit(3);
}

static void mark(const struct cut_note *note)
{
    work.mark(note, sizeof *note);
}

static void mark_step(enum cut_step step, uint64_t id, uint32_t size)
{
    mark(&(struct cut_note){.step = (uint32_t)step, .id = id, .size = size});
}

static uint32_t roll(uint32_t below)
{
    return cut_roll(&work.random, below);
}

static int64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- news ---- */

/* Whoever is told of a fresh message may deliver it: it must be durable by now. */
static void on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    (void)ctx;
    (void)pthread_mutex_lock(&work.lock);
    for (size_t i = 0; i < count; i++) {
        bool bounce = strcmp(units[i].domain, CUT_HOME) == 0;
        if (units[i].unit != 0)
            continue;
        if (!bounce)
            mark_step(CUT_STEP_ACCEPTED, units[i].id, 0);
        if (work.fresh_count == FRESH_MAX)
            die("too much is fresh");
        work.fresh[work.fresh_count++] = (struct live){.id = units[i].id, .bounce = bounce};
    }
    (void)pthread_mutex_unlock(&work.lock);
    (void)sem_post(&work.wake);
}

static void on_notice(bool is_error, const char *text, void *ctx)
{
    (void)ctx;
    if (is_error && !work.faults)
        (void)fprintf(stderr, "cut_work: %s\n", text);
}

static void on_wake(void *ctx)
{
    (void)ctx;
    (void)sem_post(&work.wake);
}

static void add_live(const struct live *live)
{
    struct queue_message *message = NULL;
    struct cut_note note = {.step = CUT_STEP_BOUNCE_ID, .id = live->id};
    if (work.live_count == LIVE_MAX)
        die("too much is there");
    if (live->bounce) {
        if (queue_read_message(work.queue, live->id, &message) != 0)
            return; /* the disk fails just now */
        if (!cut_mail_is_bounce(queue_message_envelope(message), &note.origin, &note.unit))
            die("a bounce is not one");
        queue_message_free(&message);
        mark(&note);
    }
    work.live[work.live_count++] = *live;
}

static void take_fresh(void)
{
    static struct live fresh[FRESH_MAX];
    (void)pthread_mutex_lock(&work.lock);
    size_t count = work.fresh_count;
    memcpy(fresh, work.fresh, count * sizeof *fresh);
    work.fresh_count = 0;
    (void)pthread_mutex_unlock(&work.lock);
    for (size_t i = 0; i < count; i++)
        add_live(&fresh[i]);
}

/* ---- producers ---- */

static uint32_t random_size(void)
{
    uint32_t kind = roll(100);
    if (kind < 70)
        return 100 + roll(8000);
    if (kind < 92)
        return roll(60000);
    return kind < 98 ? roll(400000) : roll((uint32_t)CUT_MAIL_MAX);
}

static void on_committed(int result, void *ctx)
{
    struct producer *producer = ctx;
    if (result == 0) {
        mark_step(CUT_STEP_ACCEPTED, producer->id, 0);
        work.accepted++;
    } else {
        mark_step(result == QUEUE_ERR_UNSURE ? CUT_STEP_UNSURE : CUT_STEP_REFUSED, producer->id, 0);
    }
    if (result != 0 && !work.faults)
        die("a message was refused");
    work.failing = work.failing || result != 0;
    producer->waits = false;
}

static void begin_message(struct producer *producer)
{
    producer->size = random_size();
    producer->at = 0;
    if (queue_put_begin(work.queue, work.port, &producer->put, &producer->id) != 0)
        die("queue_put_begin");
    mark_step(CUT_STEP_BEGUN, producer->id, producer->size);
}

static void commit_message(struct producer *producer)
{
    struct cut_mail mail;
    cut_mail_make(&mail, producer->id, producer->size);
    producer->waits = true;
    mark_step(CUT_STEP_HANDED_IN, producer->id, 0);
    struct queue_put *put = producer->put;
    producer->put = NULL;
    queue_put_commit(put, &mail.envelope, on_committed, producer);
}

static void step_producer(struct producer *producer)
{
    static uint8_t piece[QUEUE_PIECE_MAX];
    if (producer->waits)
        return;
    if (producer->put == NULL) {
        begin_message(producer);
        return;
    }
    if (roll(40) == 0) { /* its client went away */
        mark_step(CUT_STEP_ABORTED, producer->id, 0);
        queue_put_abort(producer->put);
        producer->put = NULL;
        return;
    }
    uint32_t left = producer->size - producer->at;
    uint32_t len = left > 60000 ? 1 + roll((uint32_t)sizeof piece) : left;
    len = len < left ? len : left;
    cut_mail_fill(producer->id, producer->at, piece, len);
    if (len > 0 && queue_put_piece(producer->put, piece, len, NULL, NULL) != 0)
        die("queue_put_piece");
    producer->at += len;
    if (producer->at == producer->size)
        commit_message(producer);
}

/* ---- acts ---- */

static struct live *find_live(uint64_t id)
{
    for (size_t i = 0; i < work.live_count; i++) {
        if (work.live[i].id == id)
            return &work.live[i];
    }
    return NULL;
}

static void forget_live(struct live *live)
{
    *live = work.live[--work.live_count];
}

static void on_acted(int result, void *ctx)
{
    struct cut_note *act = ctx;
    struct live *live = find_live(act->id);
    bool undecided = result == QUEUE_ERR_UNSURE;
    if (result < 0 && !work.faults)
        die("an act failed");
    work.failing = work.failing || result < 0;
    if (!undecided) { /* else: it may have happened, for good */
        act->step = result == 0 ? CUT_STEP_ACT_DONE : CUT_STEP_ACT_VOID;
        mark(act);
    }
    if (live != NULL && undecided)
        forget_live(live);
    else if (live != NULL)
        live->busy = false;
    act->step = 0;
}

static struct cut_note *free_act(void)
{
    for (size_t i = 0; i < ACTS_MAX; i++) {
        if (work.acts_asked[i].step == 0)
            return &work.acts_asked[i];
    }
    die("too many acts wait");
}

static struct cut_note *begin_act(struct live *live, const struct cut_note *note)
{
    struct cut_note *act = free_act();
    *act = *note;
    live->busy = true;
    mark(note);
    return act;
}

static enum queue_rcpt_state state_after(enum cut_act act, size_t number)
{
    if (act == CUT_ACT_DELIVER || (act == CUT_ACT_MIXED && number % 2 == 0))
        return QUEUE_RCPT_DELIVERED;
    return act == CUT_ACT_FAIL ? QUEUE_RCPT_FAILED : QUEUE_RCPT_WAITING;
}

static void record(struct live *live, struct cut_note *note, const struct queue_envelope *envelope)
{
    static struct queue_rcpt_outcome rcpts[CUT_RCPTS_MAX];
    static uint8_t bytes[CUT_BOUNCE_LEN];
    struct queue_attempt attempt = {.time_unix_ms = now_ms(),
                                    .host = "mx.example",
                                    .address = "192.0.2.1",
                                    .code = 451,
                                    .status = "4.3.0",
                                    .text = "come back later",
                                    .tls = ""};
    struct cut_mail mail;
    char prefix[128];
    struct queue_bounce bounce = {&mail.envelope, bytes, sizeof bytes};
    size_t count = 0;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        enum queue_rcpt_state state = envelope->recipients[i].state;
        if (envelope->recipients[i].unit == note->unit &&
            (state == QUEUE_RCPT_WAITING || state == QUEUE_RCPT_BOUNCE_PENDING))
            rcpts[count++] = (struct queue_rcpt_outcome){
                (uint32_t)i, state_after((enum cut_act)note->act, i), &attempt};
    }
    cut_mail_prefix(note->id, prefix);
    cut_mail_make_bounce(&mail, note->id, note->unit);
    cut_mail_fill(cut_mail_bounce_key(note->id, note->unit), 0, bytes, sizeof bytes);
    struct queue_outcome outcome = {.id = note->id,
                                    .unit = note->unit,
                                    .recipients = rcpts,
                                    .recipient_count = count,
                                    .due_unix_ms = note->due_unix_ms,
                                    .count_attempt = true,
                                    .prefix = note->prefix ? prefix : NULL,
                                    .bounce = note->act == CUT_ACT_FAIL ? &bounce : NULL};
    queue_record(work.queue, work.port, &outcome, on_acted, begin_act(live, note));
}

static void step_as_admin(struct live *live, struct cut_note *note)
{
    static const enum queue_verb verbs[] = {
        [CUT_ACT_HOLD] = QUEUE_VERB_HOLD,     [CUT_ACT_RELEASE] = QUEUE_VERB_RELEASE,
        [CUT_ACT_RETRY] = QUEUE_VERB_RETRY,   [CUT_ACT_BOUNCE] = QUEUE_VERB_BOUNCE,
        [CUT_ACT_DELETE] = QUEUE_VERB_DELETE,
    };
    struct queue_attempt attempt = {.time_unix_ms = now_ms(),
                                    .host = "",
                                    .address = "",
                                    .status = "5.7.0",
                                    .text = "bounced by the postmaster",
                                    .tls = ""};
    if (roll(3) == 0)
        note->unit = CUT_ALL_UNITS;
    queue_admin(work.queue, work.port, verbs[note->act], note->id, &note->unit,
                note->unit == CUT_ALL_UNITS ? 0 : 1, note->act == CUT_ACT_BOUNCE ? &attempt : NULL,
                on_acted, begin_act(live, note));
}

static void park(struct live *live, struct cut_note *note)
{
    live->parked |= (uint8_t)(1U << note->unit);
    note->due_unix_ms = now_ms() + roll(5000) - 1000;
    mark(note);
    queue_park(work.queue, NULL, note->id, note->unit, note->due_unix_ms, NULL, NULL);
}

/* What may happen to a unit in this state. */
static enum cut_act choose_act(const struct queue_envelope *envelope, uint16_t unit)
{
    static const enum cut_act held[] = {CUT_ACT_RELEASE, CUT_ACT_RELEASE, CUT_ACT_DELETE,
                                        CUT_ACT_BOUNCE, CUT_ACT_DELIVER};
    static const enum cut_act usual[] = {
        CUT_ACT_DELIVER, CUT_ACT_DELIVER, CUT_ACT_DELIVER, CUT_ACT_DELIVER, CUT_ACT_DEFER,
        CUT_ACT_DEFER,   CUT_ACT_DEFER,   CUT_ACT_MIXED,   CUT_ACT_FAIL,    CUT_ACT_HOLD,
        CUT_ACT_RETRY,   CUT_ACT_BOUNCE,  CUT_ACT_DELETE,  CUT_ACT_PARK};
    bool pending = false;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        pending = pending || (envelope->recipients[i].unit == unit &&
                              envelope->recipients[i].state == QUEUE_RCPT_BOUNCE_PENDING);
    if (pending)
        return roll(4) == 0 ? CUT_ACT_DELETE : CUT_ACT_FAIL;
    if (work.live_count > LIVE_MANY && roll(3) > 0)
        return CUT_ACT_DELIVER;
    if (envelope->units[unit].held)
        return held[roll(sizeof held / sizeof held[0])];
    enum cut_act act = usual[roll(sizeof usual / sizeof usual[0])];
    /* a park that a failing disk loses is told to nobody */
    if (act == CUT_ACT_PARK && (work.faults || envelope->units[unit].due_unix_ms != 0))
        return CUT_ACT_DEFER;
    if (act == CUT_ACT_FAIL && envelope->sender[0] == '\0')
        return CUT_ACT_DELIVER;
    return act;
}

/* What comes next must not overtake it: an admin's step might. */
static bool is_being_parked(struct live *live, const struct queue_envelope *envelope)
{
    for (size_t u = 0; u < envelope->unit_count && u < CUT_UNITS_MAX; u++) {
        if ((live->parked & 1U << u) != 0 && !envelope->units[u].done &&
            envelope->units[u].due_unix_ms == 0)
            return true;
    }
    live->parked = 0;
    return false;
}

static void act_on(struct live *live)
{
    struct queue_message *message = NULL;
    int rc = queue_read_message(work.queue, live->id, &message);
    if (rc == 1) { /* its last recipient has ended */
        forget_live(live);
        return;
    }
    if (rc != 0 && !work.faults)
        die("a message cannot be read");
    if (rc != 0)
        return;
    const struct queue_envelope *envelope = queue_message_envelope(message);
    if (is_being_parked(live, envelope)) {
        queue_message_free(&message);
        return;
    }
    uint16_t unit = (uint16_t)roll((uint32_t)envelope->unit_count);
    while (envelope->units[unit].done)
        unit = (uint16_t)((unit + 1U) % envelope->unit_count);
    enum cut_act act = choose_act(envelope, unit);
    struct cut_note note = {.step = CUT_STEP_ACT,
                            .number = ++work.acts,
                            .id = live->id,
                            .due_unix_ms = now_ms() + 1000 * (int64_t)roll(3600),
                            .unit = unit,
                            .act = (uint8_t)act};
    if (act == CUT_ACT_PARK) {
        park(live, &note);
    } else if (act >= CUT_ACT_HOLD) {
        step_as_admin(live, &note);
    } else {
        note.prefix = (act == CUT_ACT_DEFER || act == CUT_ACT_MIXED) && roll(3) == 0;
        record(live, &note, envelope);
    }
    queue_message_free(&message);
}

static void step_acts(void)
{
    size_t count = 1 + work.live_count / 16;
    for (size_t i = 0; i < count && work.live_count > 0; i++) {
        struct live *live = &work.live[roll((uint32_t)work.live_count)];
        if (!live->busy)
            act_on(live);
    }
}

/* ---- holes ---- */

static void on_compacted(int result, void *ctx)
{
    (void)ctx;
    if (result != 0 && !work.faults)
        die("compaction failed");
}

static void step_compaction(void)
{
    if (roll(COMPACT_EVERY) == 0) /* no matter whether one is under way */
        (void)!queue_compact_start(work.queue, work.port, on_compacted, NULL);
}

/* ---- the whole ---- */

static void open_queue(const char *folder)
{
    char error[256] = "";
    struct queue_options options = {.folder = folder,
                                    .max_bytes = MAX_BYTES,
                                    .on_fresh = on_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = on_notice};
    int rc = queue_open(&options, &work.queue, error, sizeof error);
    for (int i = 0; rc == QUEUE_ERR_IO && work.faults && i < REPEAT_OPEN; i++)
        rc = queue_open(&options, &work.queue, error, sizeof error);
    if (rc != 0)
        die(error);
    work.port = queue_port_new(work.queue, on_wake, NULL);
}

/* What an earlier life left. */
static void find_old(void)
{
    uint64_t ids[256];
    uint64_t after = 0;
    long count;
    while ((count = queue_read_ids(work.queue, after, ids, 256)) > 0) {
        for (long i = 0; i < count; i++)
            work.live[work.live_count++] = (struct live){.id = ids[i]};
        after = ids[count - 1];
    }
}

static void turn(void)
{
    struct timespec until;
    queue_port_run(work.port);
    take_fresh();
    for (size_t i = 0; i < PRODUCERS; i++) {
        if (roll(3) == 0)
            step_producer(&work.producers[i]);
    }
    step_acts();
    step_compaction();
    if (work.failing)
        (void)usleep(FAILING_US);
    work.failing = false;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)sem_timedwait(&work.wake, &until);
}

int cut_work(const char *folder, uint64_t seed, size_t target)
{
    int64_t end = now_ms() + SECONDS * INT64_C(1000);
    work.random = seed;
    work.faults = getenv("CUT_FAULTS") != NULL;
    void *found = dlsym(RTLD_DEFAULT, "cut_mark");
    memcpy(&work.mark, &found, sizeof found);
    if (work.mark == NULL || sem_init(&work.wake, 0, 0) != 0)
        die("the shim is not there");
    open_queue(folder);
    find_old();
    while (work.accepted < target) {
        if (now_ms() > end)
            die("it takes too long");
        turn();
    }
    if (roll(2) == 0)
        _exit(0);
    for (size_t i = 0; i < PRODUCERS; i++) {
        if (work.producers[i].put != NULL)
            queue_put_abort(work.producers[i].put);
    }
    queue_port_free(&work.port);
    queue_close(&work.queue);
    return 0;
}
