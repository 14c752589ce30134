/* mta/control/maintenance.c - see maintenance.h. */
#include "mta/control/maintenance.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mta/base/time.h"
#include "queue/maintain.h"

#define PENDING_MAX ((size_t)1024 * 1024) /* what the client has not taken yet */
#define PIECE       ((size_t)64 * 1024)   /* of it, handed to the client at once */
#define STUCK_MS    30000                 /* a client that takes nothing for so long has it ended */
#define WAIT_MS     100                   /* between two looks whether to wait on */
#define LOOK_MS     500                   /* between two looks whether the client is there */
#define ERROR_BYTES 1024

enum kind { KIND_CHECK, KIND_BACKUP };

struct maintenance {
    struct control *control;
    struct control_client *client; /* held; NULL: the daemon stops */
    enum kind kind;
    pthread_t thread;
    uv_async_t async; /* the thread has something, or has ended */
    uv_timer_t timer;
    unsigned handles_open;
    _Atomic bool stop;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t taken;
    char *pending;        /* lines with their ends, or bytes of a backup; */
    size_t taken_len;     /* these of them are gone, */
    size_t pending_len;   /* these wait */
    const char *given_up; /* why the client is waited for no longer; NULL: it is */
    bool ended;
    /* of a thread that has ended: */
    int code; /* QUEUE_... */
    char error[ERROR_BYTES];
    struct queue_check_result check;
    struct queue_backup_result backup;

    char piece[PIECE]; /* the loop's */
};

/* ---- the thread ---- */

static struct timespec in_ms(int64_t ms)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* With the lock. When it returns there is room, or the thread is to stop: nothing may be missing in
 * between. */
static void wait_for_room(struct maintenance *m)
{
    const uint64_t until_ms = time_monotonic_ms() + STUCK_MS;
    while (m->pending_len >= PENDING_MAX && !atomic_load(&m->stop)) {
        const struct timespec until = in_ms(WAIT_MS);
        if (queue_look_must_end(m->control->queue))
            m->given_up = "given up: the queue had to be opened again after a failed write";
        else if (time_monotonic_ms() >= until_ms)
            m->given_up = "given up: mtactl took nothing for 30 s";
        else
            (void)pthread_cond_timedwait(&m->taken, &m->lock, &until);
        if (m->given_up != NULL)
            atomic_store(&m->stop, true);
    }
}

/* Hand over bytes; waits for room. @return false: nobody takes them any more */
static bool hand_over(const void *bytes, size_t len, void *ctx)
{
    struct maintenance *m = ctx;
    (void)pthread_mutex_lock(&m->lock);
    wait_for_room(m);
    bool fine = !atomic_load(&m->stop);
    if (fine) {
        if (m->taken_len > 0)
            memmove(m->pending, m->pending + m->taken_len, m->pending_len);
        m->taken_len = 0;
        m->pending = mem_grow(m->pending, m->pending_len + len);
        memcpy(m->pending + m->pending_len, bytes, len);
        m->pending_len += len;
    }
    (void)pthread_mutex_unlock(&m->lock);
    uv_async_send(&m->async);
    return fine;
}

static void hand_over_line(const char *line, void *ctx)
{
    json_t *object = json_pack("{s:o}", "line", control_text(line));
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return;
    size_t len = strlen(text);
    text[len] = '\n'; /* the NUL's place */
    (void)hand_over(text, len + 1, ctx);
    free(text);
}

static void *thread_main(void *arg)
{
    struct maintenance *m = arg;
    struct queue *queue = m->control->queue;
    struct queue_patience patience = {.stop = &m->stop};
    char error[ERROR_BYTES] = "";
    struct queue_check_result check = {0};
    struct queue_backup_result backup = {0};
    int code =
        m->kind == KIND_CHECK
            ? queue_check_open(queue, &patience, hand_over_line, m, &check, error, sizeof error)
            : queue_backup(queue, &patience, hand_over, m, &backup, error, sizeof error);
    (void)pthread_mutex_lock(&m->lock);
    m->code = code;
    m->check = check;
    m->backup = backup;
    memcpy(m->error, error, sizeof error);
    m->ended = true;
    (void)pthread_mutex_unlock(&m->lock);
    uv_async_send(&m->async);
    return NULL;
}

/* ---- its end ---- */

static void free_when_closed(uv_handle_t *handle)
{
    struct maintenance *m = handle->data;
    if (--m->handles_open > 0)
        return;
    (void)pthread_cond_destroy(&m->taken);
    (void)pthread_mutex_destroy(&m->lock);
    free(m->pending);
    free(m);
}

/* The thread has ended or is told to; the client is let go. */
static void end(struct maintenance *m)
{
    struct control_client *client = m->client;
    (void)pthread_mutex_lock(&m->lock); /* else a thread that is about to wait would miss it */
    atomic_store(&m->stop, true);
    (void)pthread_cond_signal(&m->taken);
    (void)pthread_mutex_unlock(&m->lock);
    (void)pthread_join(m->thread, NULL);
    m->control->maintenance = NULL;
    m->client = NULL;
    uv_close((uv_handle_t *)&m->async, free_when_closed);
    uv_close((uv_handle_t *)&m->timer, free_when_closed);
    if (client == NULL)
        return;
    client->maintenance = NULL;
    control_unhold(client);
}

static void send_result(struct maintenance *m, struct control_client *client)
{
    if (m->given_up != NULL) {
        control_fail(client, m->given_up);
        return;
    }
    if (m->code < 0) {
        control_fail(client, m->error[0] != '\0' ? m->error : queue_error_text(m->code));
        return;
    }
    if (m->kind == KIND_BACKUP) {
        control_send(client, json_pack("{s:I,s:I}", "messages", (json_int_t)m->backup.messages,
                                       "bytes", (json_int_t)m->backup.bytes));
        control_finish(client, 0);
        return;
    }
    control_send(client,
                 json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "messages",
                           (json_int_t)m->check.messages, "units", (json_int_t)m->check.units,
                           "recipients", (json_int_t)m->check.recipients, "bytes",
                           (json_int_t)m->check.body_bytes, "damaged", (json_int_t)m->check.damaged,
                           "problems", (json_int_t)m->check.problems, "repaired",
                           (json_int_t)m->check.repaired));
    control_finish(client, m->check.problems > 0 ? 1 : 0);
}

/* ---- the loop ---- */

/* Take what waits, at most a piece. @return its length; *ended_out: there is no more */
static size_t take(struct maintenance *m, bool *ended_out)
{
    (void)pthread_mutex_lock(&m->lock);
    size_t len = m->pending_len;
    if (len > PIECE)
        len = PIECE;
    if (len > 0) {
        memcpy(m->piece, m->pending + m->taken_len, len);
        m->taken_len += len;
        m->pending_len -= len;
        (void)pthread_cond_signal(&m->taken);
    }
    *ended_out = m->ended && m->pending_len == 0;
    (void)pthread_mutex_unlock(&m->lock);
    return len;
}

void maintenance_step(struct control_client *client)
{
    struct maintenance *m = client->maintenance;
    bool ended = false;
    if (control_is_slow(client)) {
        control_step_wait(client);
        return;
    }
    size_t len = take(m, &ended);
    if (len > 0 && m->kind == KIND_BACKUP)
        control_send(client, json_pack("{s:I}", "raw", (json_int_t)len));
    control_send_bytes(client, m->piece, len);
    if (ended) {
        send_result(m, client);
        end(m);
    } else if (len == 0) {
        control_step_wait(client);
    }
}

static void on_async(uv_async_t *async)
{
    struct maintenance *m = async->data;
    if (m->client != NULL && m->client->closing)
        end(m);
    else if (m->client != NULL)
        control_step_resume(m->client);
}

static void on_timer(uv_timer_t *timer)
{
    struct maintenance *m = timer->data;
    if (!m->client->closing && !control_has_left(m->client))
        return;
    struct control_client *client = m->client;
    control_hold(client);
    end(m);
    control_close(client);
    control_unhold(client);
}

static void start(struct control_client *client, enum kind kind)
{
    struct control *control = client->control;
    pthread_condattr_t attr;
    if (control->maintenance != NULL) {
        control_fail(client, "a check or a backup of the queue is under way already");
        return;
    }
    struct maintenance *m = mem_alloc(sizeof *m);
    m->control = control;
    m->client = client;
    m->kind = kind;
    (void)pthread_mutex_init(&m->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&m->taken, &attr);
    (void)pthread_condattr_destroy(&attr);
    uv_async_init(control->loop, &m->async, on_async);
    uv_timer_init(control->loop, &m->timer);
    m->async.data = m->timer.data = m;
    m->handles_open = 2;
    if (pthread_create(&m->thread, NULL, thread_main, m) != 0) {
        uv_close((uv_handle_t *)&m->async, free_when_closed);
        uv_close((uv_handle_t *)&m->timer, free_when_closed);
        control_fail(client, "no thread can be started for it");
        return;
    }
    control->maintenance = m;
    client->maintenance = m;
    control_hold(client);
    uv_timer_start(&m->timer, on_timer, LOOK_MS, LOOK_MS);
    control_step_start(client);
}

void command_queue_check(struct control_client *client)
{
    start(client, KIND_CHECK);
}

void command_queue_backup(struct control_client *client)
{
    start(client, KIND_BACKUP);
}

void maintenance_stop(struct control *control)
{
    struct maintenance *m = control->maintenance;
    if (m == NULL)
        return;
    if (m->client != NULL)
        m->client->maintenance = NULL; /* its hold goes with the daemon's other ones */
    m->client = NULL;
    end(m);
}

/* ---- compact: the writer does it ---- */

static void on_compacted(int result, void *ctx)
{
    struct control_client *client = ctx;
    struct queue_compact_progress progress;
    queue_compact_progress(client->control->queue, &progress);
    if (result == QUEUE_ERR_UNABLE) {
        control_fail(client, "the queue's file system cannot give back parts of a file (it knows "
                             "no holes); nothing was changed");
    } else if (result < 0) {
        control_fail(client, queue_error_text(result));
    } else {
        control_send(client, json_pack("{s:I,s:I,s:I}", "before", (json_int_t)progress.before_bytes,
                                       "after", (json_int_t)progress.now_bytes, "given_back",
                                       (json_int_t)progress.punched_bytes));
        control_finish(client, 0);
    }
    control_unhold(client);
}

void command_queue_compact(struct control_client *client)
{
    struct control *control = client->control;
    if (queue_compact_start(control->queue, control->port, on_compacted, client) == 0)
        control_hold(client);
    else
        control_fail(client, "the queue is being compacted already");
}
