/* queue/batch.c - one transaction and the news it makes. */
#include "queue/batch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTICE_MAX 512

struct queue_batch *queue_batch_new(struct queue *queue)
{
    struct queue_batch *batch = queue_alloc(sizeof *batch);
    batch->queue = queue;
    batch->edit = queue_alloc(sizeof *batch->edit);
    return batch;
}

void queue_batch_free(struct queue_batch **batchp)
{
    struct queue_batch *batch = *batchp;
    if (batch == NULL)
        return;
    free(batch->fresh);
    free(batch->due);
    free(batch->removed);
    free(batch->sweeps);
    queue_bytes_deinit(&batch->names);
    queue_bytes_deinit(&batch->notices);
    queue_edit_deinit(batch->edit);
    free(batch->edit);
    free(batch);
    *batchp = NULL;
}

static void forget_news(struct queue_batch *batch)
{
    batch->fresh_count = 0;
    batch->due_count = 0;
    batch->removed_count = 0;
    batch->sweep_count = 0;
    batch->names.len = 0;
    batch->notices.len = 0;
}

int queue_batch_begin(struct queue_batch *batch)
{
    forget_news(batch);
    batch->body_bytes = 0;
    batch->admin = false;
    batch->wall_ms = queue_wall_ms(batch->queue);
    batch->state = batch->queue->state; /* the writer alone changes it */
    return queue_store_write(&batch->queue->store, &batch->txn);
}

/* The high-water mark moves in steps of seconds, and only with something else worth a commit, or
 * when an id above it comes into use. */
static int write_state(struct queue_batch *batch)
{
    struct queue_state *state = &batch->state;
    if (memcmp(state, &batch->queue->state, sizeof *state) == 0)
        return 0;
    uint64_t high = queue_ids_high(&batch->queue->ids, batch->wall_ms);
    if (high > state->id_high)
        state->id_high = high;
    if (batch->wall_ms > 0 && (uint64_t)batch->wall_ms > state->newest_ms)
        state->newest_ms = (uint64_t)batch->wall_ms;
    return queue_meta_write(&batch->queue->store, batch->txn, state);
}

static void publish(struct queue_batch *batch, uint64_t used)
{
    struct queue *queue = batch->queue;
    queue_space_set_used(&queue->space, used);
    (void)pthread_mutex_lock(&queue->lock);
    queue->state = batch->state;
    queue->commits++;
    queue->file_bytes = used;
    (void)pthread_mutex_unlock(&queue->lock);
}

int queue_batch_commit(struct queue_batch *batch, uint64_t *txn_out)
{
    MDB_txn *txn = batch->txn;
    int rc = write_state(batch);
    if (rc != 0) {
        queue_batch_abort(batch);
        return rc;
    }
    uint64_t used = queue_store_used(&batch->queue->store, txn);
    *txn_out = mdb_txn_id(txn);
    batch->txn = NULL;
    rc = mdb_txn_commit(txn); /* frees it, whatever it returns */
    if (rc == 0)
        publish(batch, used);
    return rc;
}

void queue_batch_abort(struct queue_batch *batch)
{
    if (batch->txn != NULL)
        mdb_txn_abort(batch->txn);
    batch->txn = NULL;
}

void queue_batch_tell(struct queue_batch *batch)
{
    const struct queue_options *options = &batch->queue->options;
    const char *names = (const char *)batch->names.p;
    if (batch->fresh_count > 0)
        options->on_fresh(batch->fresh, batch->fresh_count, options->ctx);
    for (size_t i = 0; i < batch->due_count; i++)
        options->on_due(names + batch->due[i].domain, batch->due[i].lane, batch->due[i].due_unix_ms,
                        options->ctx);
    for (size_t i = 0; i < batch->removed_count; i++)
        options->on_removed(batch->removed[i], options->ctx);
    for (size_t i = 0; i < batch->sweep_count; i++)
        queue_sweep_submit(batch->queue, batch->sweeps[i]);
    for (size_t at = 0; at < batch->notices.len;) {
        const char *line = (const char *)batch->notices.p + at;
        options->on_notice(true, line, options->ctx);
        at += strlen(line) + 1;
    }
    forget_news(batch);
}

/* Room for one more of size bytes in a growing array. */
static void *grown(void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return array;
    *cap = *cap > 0 ? *cap * 2 : 64;
    return queue_resize(array, *cap * size);
}

void queue_batch_note_fresh(struct queue_batch *batch, const struct queue_unit_ref *units,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        batch->fresh = grown(batch->fresh, batch->fresh_count, &batch->fresh_cap, sizeof *units);
        batch->fresh[batch->fresh_count++] = units[i];
    }
}

void queue_batch_note_due(struct queue_batch *batch, const char *domain, enum queue_lane lane,
                          int64_t due_unix_ms)
{
    batch->due = grown(batch->due, batch->due_count, &batch->due_cap, sizeof *batch->due);
    batch->due[batch->due_count++] = (struct queue_due_note){batch->names.len, lane, due_unix_ms};
    queue_bytes_add(&batch->names, domain, strlen(domain) + 1);
}

void queue_batch_note_removed(struct queue_batch *batch, uint64_t id)
{
    batch->removed =
        grown(batch->removed, batch->removed_count, &batch->removed_cap, sizeof *batch->removed);
    batch->removed[batch->removed_count++] = id;
}

void queue_batch_note_sweep(struct queue_batch *batch, uint64_t id)
{
    batch->sweeps =
        grown(batch->sweeps, batch->sweep_count, &batch->sweep_cap, sizeof *batch->sweeps);
    batch->sweeps[batch->sweep_count++] = id;
}

void queue_batch_note_text(struct queue_batch *batch, const char *format, ...)
{
    char line[NOTICE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    queue_bytes_add(&batch->notices, line, strlen(line) + 1);
}
