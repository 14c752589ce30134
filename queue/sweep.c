/* queue/sweep.c - what is left of messages that have gone, removed in steps: a long list with its
 * attempts, or a large body, is too much for one transaction.
 *
 * A row in `incoming` stands for each: empty for a message that never came whole, SWEEP_REMOVED for
 * one that has left. There is no head, so nobody sees the rest; a crash, or the queue's closing,
 * leaves it to the next start. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

#define SWEEP_REMOVED 'r'
#define LARGE_BODY    (UINT64_C(256) << 10)
#define STEP_BYTES    QUEUE_BATCH_BODY /* a step gives back no more than one may store */
#define REST_NS       INT64_C(1000000000)
#define FAILURES_MAX  3

struct sweep_job {
    struct queue_job job;
    uint8_t id[8];
    bool more;         /* the last step left some */
    unsigned failures; /* of steps that made a transaction fail */
};

bool queue_sweep_is_removed(const MDB_val *value)
{
    return value->mv_size == 1 && *(const char *)value->mv_data == SWEEP_REMOVED;
}

bool queue_sweep_is_large(const struct queue_head *head)
{
    return !queue_head_is_whole(head) || head->body_bytes > LARGE_BODY;
}

/* ---- rows ---- */

struct room { /* what a step may still do */
    int64_t end_ns;
    size_t bytes;
};

static bool is_spent(const struct room *room)
{
    return room->bytes == 0 || queue_now_ns() >= room->end_ns;
}

/* Delete rows that begin with the id, at least one. @return LMDB's code; MDB_NOTFOUND: none is left
 */
static int delete_some(MDB_txn *txn, MDB_dbi dbi, const uint8_t id[8], struct room *room)
{
    MDB_cursor *cursor = NULL;
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0) {
        if (key.mv_size < 8 || memcmp(key.mv_data, id, 8) != 0) {
            rc = MDB_NOTFOUND;
            break;
        }
        size_t size = key.mv_size + value.mv_size;
        rc = mdb_cursor_del(cursor, 0);
        room->bytes -= size < room->bytes ? size : room->bytes;
        if (rc != 0 || is_spent(room))
            break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* One message, as far as the step goes. With a head it is in the queue, and stays. */
static int sweep_rows(struct queue_batch *batch, const uint8_t id[8], bool *more_out)
{
    static const enum queue_db tables[] = {QUEUE_DB_ATTEMPT, QUEUE_DB_MESSAGE, QUEUE_DB_BODY};
    struct room room = {batch->end_ns, STEP_BYTES};
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    int rc = mdb_get(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), &key, &value);
    bool gone = rc == MDB_NOTFOUND;
    for (size_t i = 0; gone && i < 3 && rc == MDB_NOTFOUND; i++)
        rc = delete_some(batch->txn, queue_batch_db(batch, tables[i]), id, &room);
    *more_out = gone && rc == 0;
    if (*more_out || (rc != 0 && rc != MDB_NOTFOUND))
        return rc;
    return queue_store_delete(batch->txn, queue_batch_db(batch, QUEUE_DB_INCOMING), id, 8);
}

/* ---- the writer's work ---- */

static bool is_closing(struct queue *queue)
{
    (void)pthread_mutex_lock(&queue->lock);
    bool closing = queue->closing;
    (void)pthread_mutex_unlock(&queue->lock);
    return closing;
}

static int apply_sweep(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct sweep_job *sweep = (struct sweep_job *)job;
    char text[QUEUE_ID_TEXT];
    (void)finished_out;
    sweep->more = false;
    if (is_closing(batch->queue))
        return 0;
    if (sweep->failures >= FAILURES_MAX) {
        queue_id_text(queue_be64_get(sweep->id), text);
        queue_batch_note_text(batch, "what is left of message %s cannot be removed", text);
        return 0;
    }
    int rc = sweep_rows(batch, sweep->id, &sweep->more);
    if (rc != 0 && queue_store_code(rc) != QUEUE_ERR_FULL)
        sweep->failures++;
    return rc;
}

static void report_sweep(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)job;
    (void)result;
}

/* After a step it waits in line again, behind the outcomes that came meanwhile; one that failed
 * rests for a while. */
static void release_sweep(struct queue *queue, struct queue_job *job, int result)
{
    job->refused = 0;
    job->tried = false;
    if (result != 0) {
        queue_jobs_push(&queue->resting, job);
        queue->rested_ns = queue_now_ns() + REST_NS;
    } else if (((struct sweep_job *)job)->more) {
        queue_submit(queue, job);
    } else {
        free(job);
    }
}

static const struct queue_job_type sweep_type = {apply_sweep, NULL, report_sweep, release_sweep,
                                                 QUEUE_JOB_OTHER};

static struct queue_job *new_sweep(uint64_t id)
{
    struct sweep_job *sweep = queue_alloc(sizeof *sweep);
    sweep->job = (struct queue_job){.type = &sweep_type};
    queue_be64_put(sweep->id, id);
    return &sweep->job;
}

void queue_sweep_submit(struct queue *queue, uint64_t id)
{
    queue_submit(queue, new_sweep(id));
}

int queue_sweep_later(struct queue_batch *batch, uint64_t id)
{
    static const char removed[] = {SWEEP_REMOVED};
    uint8_t bytes[8];
    queue_be64_put(bytes, id);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val(removed, sizeof removed);
    queue_batch_note_sweep(batch, id);
    return mdb_put(batch->txn, queue_batch_db(batch, QUEUE_DB_INCOMING), &key, &value, 0);
}

/* ---- those that rest ---- */

int64_t queue_sweep_wake(struct queue *queue)
{
    struct queue_jobs jobs = queue->resting;
    if (jobs.head == NULL)
        return INT64_MAX;
    if (queue_now_ns() < queue->rested_ns)
        return queue->rested_ns;
    queue->resting = (struct queue_jobs){0};
    for (struct queue_job *job = queue_jobs_shift(&jobs); job != NULL;
         job = queue_jobs_shift(&jobs))
        queue_submit(queue, job);
    return INT64_MAX;
}

void queue_sweep_drop(struct queue *queue)
{
    for (struct queue_job *job = queue_jobs_shift(&queue->resting); job != NULL;
         job = queue_jobs_shift(&queue->resting))
        free(job);
}

/* ---- at the start ---- */

int queue_sweep_open(struct queue *queue)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    size_t interrupted = 0;
    if (queue_store_read(&queue->store, &txn) != 0)
        return MDB_PANIC;
    int rc = mdb_cursor_open(txn, queue->store.dbi[QUEUE_DB_INCOMING], &cursor);
    if (rc == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size != 8)
            continue; /* not one of ours; the check knows it */
        interrupted += queue_sweep_is_removed(&value) ? 0 : 1;
        queue_jobs_push(&queue->resting, new_sweep(queue_be64_get(key.mv_data)));
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    queue_store_read_end(&queue->store, txn);
    if (interrupted > 0)
        queue_notice(queue, false, "removing %zu message%s whose transfer was interrupted",
                     interrupted, interrupted == 1 ? "" : "s");
    return rc == MDB_NOTFOUND ? 0 : rc;
}
