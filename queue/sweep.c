/* queue/sweep.c - what is left of messages that have gone: removed in steps, since a long list with
 * its attempts, or a large body, is too much for one transaction.
 *
 * A row in `incoming` stands for each: empty for a message that never came whole, SWEEP_REMOVED for
 * one that has left. Its head is gone, so that nobody sees the rest; a crash leaves it to the next
 * start. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

#define SWEEP_REMOVED 'r'
#define LARGE_BODY    (UINT64_C(4) << 20)
#define OPEN_STEP_NS  INT64_C(50000000)
#define REST_NS       INT64_C(1000000000)
#define LOOK_EACH     64 /* rows between two looks at the clock */

bool queue_sweep_is_removed(const MDB_val *value)
{
    return value->mv_size == 1 && *(const char *)value->mv_data == SWEEP_REMOVED;
}

bool queue_sweep_is_large(const struct queue_head *head)
{
    return !queue_head_is_whole(head) || head->body_bytes > LARGE_BODY;
}

/* ---- rows ---- */

/* Delete rows that begin with the id until the time. @return LMDB's code; *all_out: none is left */
static int delete_some(MDB_txn *txn, MDB_dbi dbi, const uint8_t id[8], int64_t end_ns,
                       bool *all_out)
{
    MDB_cursor *cursor = NULL;
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    unsigned count = 0;
    *all_out = false;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size >= 8 && memcmp(key.mv_data, id, 8) == 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (++count % LOOK_EACH == 0 && queue_now_ns() >= end_ns)
            break;
    }
    /* At the end of the time there may be none left as well: the next step finds that out. */
    bool more = rc == 0 && key.mv_size >= 8 && memcmp(key.mv_data, id, 8) == 0;
    mdb_cursor_close(cursor);
    *all_out = !more;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* One message, as far as time goes. An accepted one has no row in `incoming`; were there both, it
 * stays. */
static int sweep_one(struct queue_store *store, MDB_txn *txn, const uint8_t id[8], bool removed,
                     int64_t end_ns, bool *all_out)
{
    static const enum queue_db tables[] = {QUEUE_DB_ATTEMPT, QUEUE_DB_MESSAGE, QUEUE_DB_BODY};
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    *all_out = true;
    int rc = mdb_get(txn, store->dbi[QUEUE_DB_MESSAGE], &key, &value);
    bool there = rc == 0;
    if (rc == MDB_NOTFOUND)
        rc = 0;
    for (size_t i = removed ? 0 : 2; i < 3 && rc == 0 && !there && *all_out; i++)
        rc = delete_some(txn, store->dbi[tables[i]], id, end_ns, all_out);
    if (rc != 0 || !*all_out)
        return rc;
    return queue_store_delete(txn, store->dbi[QUEUE_DB_INCOMING], id, 8);
}

/* ---- while the queue runs ---- */

struct sweep_job {
    struct queue_job job;
    uint8_t id[8];
    bool removed;
};

static int apply_sweep(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    const struct sweep_job *sweep = (const struct sweep_job *)job;
    return sweep_one(&batch->queue->store, batch->txn, sweep->id, sweep->removed, batch->end_ns,
                     finished_out);
}

static void report_sweep(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)job;
    (void)result;
}

/* One that failed rests until the store works again. */
static void release_sweep(struct queue *queue, struct queue_job *job, int result)
{
    if (result == 0) {
        free(job);
        return;
    }
    job->refused = 0;
    job->tried = false;
    queue_jobs_push(&queue->resting, job);
    queue->rested_ns = queue_now_ns() + REST_NS;
}

void queue_sweep_wake(struct queue *queue)
{
    if (queue->resting.head == NULL || queue_now_ns() < queue->rested_ns)
        return;
    struct queue_jobs jobs = queue->resting;
    queue->resting = (struct queue_jobs){0};
    for (struct queue_job *job = queue_jobs_shift(&jobs); job != NULL;
         job = queue_jobs_shift(&jobs))
        queue_submit(queue, job);
}

void queue_sweep_drop(struct queue *queue)
{
    for (struct queue_job *job = queue_jobs_shift(&queue->resting); job != NULL;
         job = queue_jobs_shift(&queue->resting))
        free(job); /* swept at the next start */
}

static const struct queue_job_type sweep_type = {apply_sweep, NULL, report_sweep, release_sweep,
                                                 QUEUE_JOB_SWEEP};

void queue_sweep_submit(struct queue *queue, const struct queue_sweep *what)
{
    struct sweep_job *sweep = queue_alloc(sizeof *sweep);
    sweep->job = (struct queue_job){.type = &sweep_type};
    queue_be64_put(sweep->id, what->id);
    sweep->removed = what->removed;
    queue_submit(queue, &sweep->job);
}

int queue_sweep_later(struct queue_batch *batch, uint64_t id)
{
    static const char removed[] = {SWEEP_REMOVED};
    uint8_t bytes[8];
    queue_be64_put(bytes, id);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val(removed, sizeof removed);
    queue_batch_note_sweep(batch, &(struct queue_sweep){id, true});
    return mdb_put(batch->txn, queue_batch_db(batch, QUEUE_DB_INCOMING), &key, &value, 0);
}

/* ---- at the start ---- */

/* Sweep until the time; the first row of `incoming` is always the next. @return LMDB's code */
static int sweep_some(struct queue_store *store, MDB_txn *txn, size_t *interrupted, bool *more_out)
{
    int64_t end_ns = queue_now_ns() + OPEN_STEP_NS;
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, store->dbi[QUEUE_DB_INCOMING], &cursor);
    if (rc != 0)
        return rc;
    do {
        MDB_val key;
        MDB_val value;
        uint8_t id[8];
        bool all = true;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (rc != 0)
            break;
        bool ours = key.mv_size == sizeof id;
        bool removed = queue_sweep_is_removed(&value);
        if (ours)
            memcpy(id, key.mv_data, sizeof id);
        rc = ours ? sweep_one(store, txn, id, removed, end_ns, &all) : mdb_cursor_del(cursor, 0);
        *interrupted += ours && all && !removed ? 1 : 0;
    } while (rc == 0 && queue_now_ns() < end_ns);
    mdb_cursor_close(cursor);
    *more_out = rc == 0;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int queue_sweep_open(struct queue *queue)
{
    size_t interrupted = 0;
    bool more = true;
    while (more) {
        MDB_txn *txn = NULL;
        int rc = queue_store_write(&queue->store, &txn);
        if (rc != 0)
            return rc;
        rc = sweep_some(&queue->store, txn, &interrupted, &more);
        if (rc == 0) {
            rc = mdb_txn_commit(txn);
        } else {
            mdb_txn_abort(txn);
        }
        if (rc != 0)
            return rc;
    }
    if (interrupted > 0)
        queue_notice(queue, false, "removed %zu message%s whose transfer was interrupted",
                     interrupted, interrupted == 1 ? "" : "s");
    return 0;
}
