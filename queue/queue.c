/* queue/queue.c - opening and closing, error texts, counters. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue/batch.h"
#include "queue/compact.h"
#include "queue/lock.h"

#define CLOCK_BEHIND_MS 60000

const char *queue_error_text(int code)
{
    switch (code) {
    case QUEUE_OK:
        return "ok";
    case QUEUE_ERR_FULL:
        return "the queue or its disk is full";
    case QUEUE_ERR_IO:
        return "the queue could not be read or written";
    case QUEUE_ERR_UNSURE:
        return "it is undecided whether the queue stored it";
    case QUEUE_ERR_LOCKED:
        return "another process holds the queue";
    case QUEUE_ERR_SCHEMA:
        return "the queue was written by a version that this program does not know";
    case QUEUE_ERR_DAMAGED:
        return "the record is damaged";
    case QUEUE_ERR_CLOSED:
        return "the queue is shutting down";
    case QUEUE_ERR_LIMIT:
        return "over a limit of the queue";
    case QUEUE_ERR_UNABLE:
        return "the file system cannot do this";
    case QUEUE_READ_GONE:
        return "no such message";
    default:
        return "unknown error";
    }
}

int64_t queue_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t system_wall_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t queue_wall_ms(const struct queue *queue)
{
    return queue->options.wall_ms();
}

void queue_notice(const struct queue *queue, bool is_error, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    queue->options.on_notice(is_error, text, queue->options.ctx);
}

/* ---- opening ---- */

/* Counters, ids, pages in use. @return LMDB's code */
static int load_state(struct queue *queue)
{
    MDB_txn *txn = NULL;
    MDB_stat messages;
    if (queue_store_read(&queue->store, &txn) != 0)
        return MDB_PANIC;
    int rc = queue_meta_read(&queue->store, txn, &queue->state);
    if (rc == MDB_NOTFOUND) {
        rc = mdb_stat(txn, queue->store.dbi[QUEUE_DB_MESSAGE], &messages);
        if (rc == 0 && messages.ms_entries > 0)
            queue_notice(queue, true, "the queue's counters are damaged; counting anew");
        if (rc == 0)
            rc = queue_meta_recount(&queue->store, txn, &queue->state);
    }
    queue->file_bytes = queue_store_used(&queue->store, txn);
    queue_store_read_end(&queue->store, txn);
    queue_space_set_used(&queue->space, queue->file_bytes);
    queue_ids_init(&queue->ids, queue->state.id_high);
    return rc;
}

static void check_clock(struct queue *queue)
{
    int64_t now = queue_wall_ms(queue);
    uint64_t newest = queue->state.newest_ms;
    if (now > 0 && newest < INT64_MAX && (int64_t)newest - now > CLOCK_BEHIND_MS)
        queue_notice(queue, true, "the clock is %lld s behind the newest time in the queue",
                     (long long)(((int64_t)newest - now) / 1000));
}

static struct queue *new_queue(const struct queue_options *options)
{
    pthread_condattr_t attr;
    struct queue *queue = queue_alloc(sizeof *queue);
    queue->options = *options;
    queue->options.folder = NULL; /* borrowed for the call */
    if (queue->options.wall_ms == NULL)
        queue->options.wall_ms = system_wall_ms;
    queue->lock_fd = -1;
    (void)pthread_mutex_init(&queue->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&queue->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return queue;
}

int queue_open(const struct queue_options *options, struct queue **queue_out, char *error,
               size_t error_size)
{
    struct queue *queue = new_queue(options);
    int rc = queue_lock_take(options->folder, &queue->lock_fd, error, error_size);
    if (rc == 0)
        rc =
            queue_store_open(&queue->store, options->folder, options->max_bytes, error, error_size);
    if (rc < 0)
        goto done;
    queue_space_init(&queue->space, options->folder, options->max_bytes,
                     queue->store.map_bytes - queue_store_reserve(options->max_bytes) / 2);
    int lmdb = load_state(queue);
    if (lmdb == 0)
        lmdb = queue_sweep_open(queue);
    if (lmdb != 0) {
        (void)snprintf(error, error_size, "cannot read the queue %s: %s", options->folder,
                       mdb_strerror(lmdb));
        rc = QUEUE_ERR_IO;
        goto done;
    }
    check_clock(queue);
    queue_space_restore(&queue->space);
    rc = queue_writer_start(queue);
    if (rc < 0)
        (void)snprintf(error, error_size, "cannot start the queue's thread");
done:
    if (rc < 0)
        queue_close(&queue);
    else
        *queue_out = queue;
    return rc;
}

void queue_close(struct queue **queuep)
{
    struct queue *queue = *queuep;
    if (queue == NULL)
        return;
    *queuep = NULL;
    queue_writer_stop(queue);
    queue_compact_drop(queue);
    queue_answers_tell(&queue->answers);
    queue_sweep_drop(queue);
    queue_store_close(&queue->store);
    queue_space_deinit(&queue->space);
    queue_lock_drop(&queue->lock_fd);
    (void)pthread_cond_destroy(&queue->wake);
    (void)pthread_mutex_destroy(&queue->lock);
    free(queue);
}

/* ---- small questions ---- */

bool queue_is_full(struct queue *queue, uint64_t bytes)
{
    return queue_space_is_full(&queue->space, bytes);
}

int queue_read_counts(struct queue *queue, struct queue_counts *counts_out)
{
    (void)pthread_mutex_lock(&queue->lock);
    *counts_out = (struct queue_counts){
        .messages = queue->state.messages,
        .units_fresh = queue->state.units_fresh,
        .units_deferred = queue->state.units_deferred,
        .units_held = queue->state.units_held,
        .damaged = queue->state.damaged,
        .bytes = queue->state.bytes,
        .file_bytes = queue->file_bytes,
        .commits = queue->commits,
    };
    (void)pthread_mutex_unlock(&queue->lock);
    return 0;
}
