/* queue/message.c - changing a stored message: load rows, change them, write back what changed.
 * Writer's thread. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

#define NO_ROW    UINT32_MAX
#define LAST_KEPT 20 /* attempts of a recipient that are kept, besides the first */

void queue_edit_deinit(struct queue_edit *edit)
{
    queue_bytes_deinit(&edit->head_bytes);
    queue_bytes_deinit(&edit->units_bytes);
    queue_bytes_deinit(&edit->rcpts_bytes);
    queue_bytes_deinit(&edit->out);
}

/* Copy a row: LMDB's memory is good only until the next write. @return LMDB's code */
static int fetch(struct queue_edit *edit, enum queue_row_kind kind, uint32_t row,
                 struct queue_bytes *into)
{
    struct queue_row_key k = queue_row_key(edit->id, kind, row);
    MDB_val key = queue_val(k.bytes, k.len);
    MDB_val value;
    int rc = mdb_get(edit->batch->txn, queue_batch_db(edit->batch, QUEUE_DB_MESSAGE), &key, &value);
    if (rc != 0)
        return rc;
    into->len = 0;
    queue_bytes_add(into, value.mv_data, value.mv_size);
    return 0;
}

static int set_aside(struct queue_edit *edit, const char *reason)
{
    edit->damaged = reason;
    return queue_set_aside(edit->batch, edit->id, reason);
}

int queue_edit_open(struct queue_edit *edit, struct queue_batch *batch, uint64_t id,
                    bool *found_out)
{
    edit->batch = batch;
    edit->id = id;
    edit->units_row = NO_ROW;
    edit->rcpts_row = NO_ROW;
    edit->head_dirty = edit->units_dirty = edit->rcpts_dirty = false;
    edit->damaged = NULL;
    *found_out = false;
    int rc = fetch(edit, QUEUE_ROW_HEAD, 0, &edit->head_bytes);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc != 0)
        return rc;
    const char *reason = queue_head_read(&edit->head, id, edit->head_bytes.p, edit->head_bytes.len,
                                         edit->units, edit->rcpts);
    if (reason != NULL)
        return set_aside(edit, reason);
    *found_out = true;
    return 0;
}

static int write_row(struct queue_edit *edit, enum queue_row_kind kind, uint32_t row)
{
    struct queue_row_key k = queue_row_key(edit->id, kind, row);
    MDB_val key = queue_val(k.bytes, k.len);
    MDB_val value = queue_val(edit->out.p, edit->out.len);
    return mdb_put(edit->batch->txn, queue_batch_db(edit->batch, QUEUE_DB_MESSAGE), &key, &value,
                   0);
}

/* Rows of a long list; a whole message's items go with its head. */
static int flush_units(struct queue_edit *edit)
{
    if (queue_head_is_whole(&edit->head) || !edit->units_dirty)
        return 0;
    edit->units_dirty = false;
    edit->out.len = 0;
    queue_units_write(&edit->out, edit->id, edit->units_row, edit->units,
                      queue_row_items(edit->head.unit_count, edit->units_row));
    return write_row(edit, QUEUE_ROW_UNITS, edit->units_row);
}

static int flush_rcpts(struct queue_edit *edit)
{
    if (queue_head_is_whole(&edit->head) || !edit->rcpts_dirty)
        return 0;
    edit->rcpts_dirty = false;
    edit->out.len = 0;
    queue_rcpts_write(&edit->out, edit->id, edit->rcpts_row, edit->rcpts,
                      queue_row_items(edit->head.recipient_count, edit->rcpts_row));
    return write_row(edit, QUEUE_ROW_RCPTS, edit->rcpts_row);
}

static int load_units(struct queue_edit *edit, uint32_t row, const char **reason)
{
    int rc = flush_units(edit);
    edit->units_row = NO_ROW;
    if (rc == 0)
        rc = fetch(edit, QUEUE_ROW_UNITS, row, &edit->units_bytes);
    if (rc == MDB_NOTFOUND) {
        *reason = "a row of the record is missing";
        return 0;
    }
    if (rc != 0)
        return rc;
    *reason = queue_units_read(&edit->head, edit->id, row, edit->units_bytes.p,
                               edit->units_bytes.len, edit->units);
    edit->units_row = row;
    return 0;
}

static int load_rcpts(struct queue_edit *edit, uint32_t row, const char **reason)
{
    int rc = flush_rcpts(edit);
    edit->rcpts_row = NO_ROW;
    if (rc == 0)
        rc = fetch(edit, QUEUE_ROW_RCPTS, row, &edit->rcpts_bytes);
    if (rc == MDB_NOTFOUND) {
        *reason = "a row of the record is missing";
        return 0;
    }
    if (rc != 0)
        return rc;
    *reason = queue_rcpts_read(&edit->head, edit->id, row, edit->rcpts_bytes.p,
                               edit->rcpts_bytes.len, edit->rcpts);
    edit->rcpts_row = row;
    return 0;
}

int queue_edit_unit(struct queue_edit *edit, uint32_t unit, struct queue_unit_row **out)
{
    uint32_t row = unit / QUEUE_ROW_ITEMS;
    const char *reason = NULL;
    int rc = 0;
    *out = NULL;
    if (unit >= edit->head.unit_count)
        return 0;
    if (!queue_head_is_whole(&edit->head) && edit->units_row != row)
        rc = load_units(edit, row, &reason);
    if (rc != 0)
        return rc;
    if (reason != NULL)
        return set_aside(edit, reason);
    *out = &edit->units[unit % QUEUE_ROW_ITEMS];
    return 0;
}

int queue_edit_rcpt(struct queue_edit *edit, uint32_t recipient, struct queue_rcpt_row **out)
{
    uint32_t row = recipient / QUEUE_ROW_ITEMS;
    const char *reason = NULL;
    int rc = 0;
    *out = NULL;
    if (recipient >= edit->head.recipient_count)
        return 0;
    if (!queue_head_is_whole(&edit->head) && edit->rcpts_row != row)
        rc = load_rcpts(edit, row, &reason);
    if (rc != 0)
        return rc;
    if (reason != NULL)
        return set_aside(edit, reason);
    *out = &edit->rcpts[recipient % QUEUE_ROW_ITEMS];
    return 0;
}

int queue_edit_save(struct queue_edit *edit)
{
    int rc = flush_units(edit);
    if (rc == 0)
        rc = flush_rcpts(edit);
    bool whole = queue_head_is_whole(&edit->head);
    if (rc != 0 || !(edit->head_dirty || (whole && (edit->units_dirty || edit->rcpts_dirty))))
        return rc;
    edit->out.len = 0;
    queue_head_write(&edit->out, edit->id, &edit->head, edit->units, edit->rcpts);
    return write_row(edit, QUEUE_ROW_HEAD, 0);
}

int queue_edit_remove(struct queue_edit *edit)
{
    struct queue_batch *batch = edit->batch;
    uint8_t id[8];
    queue_be64_put(id, edit->id);
    int rc = queue_store_delete(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), id, 8);
    if (rc == 0)
        rc = queue_fresh_set(batch, edit->id, 0);
    batch->state.messages -= batch->state.messages > 0 ? 1 : 0;
    uint64_t bytes = edit->head.body_bytes;
    batch->state.bytes -= bytes < batch->state.bytes ? bytes : batch->state.bytes;
    if (rc == 0 && queue_sweep_is_large(&edit->head))
        return queue_sweep_later(batch, edit->id);
    if (rc == 0)
        rc = queue_store_delete_range(batch->txn, queue_batch_db(batch, QUEUE_DB_BODY), id, 8);
    if (rc == 0)
        rc = queue_store_delete_range(batch->txn, queue_batch_db(batch, QUEUE_DB_ATTEMPT), id, 8);
    return rc;
}

/* Take a unit's part out of the counters (-1), or put it in (+1). */
static void count(struct queue_state *state, const struct queue_unit_row *unit, int sign)
{
    if (unit->open == 0)
        return;
    uint64_t *counter = &state->units_deferred;
    if (unit->held)
        counter = &state->units_held;
    else if (unit->attempts == 0)
        counter = &state->units_fresh;
    if (sign > 0)
        (*counter)++;
    else if (*counter > 0)
        (*counter)--;
}

static bool is_fresh(const struct queue_unit_row *unit)
{
    return unit->open > 0 && unit->due_unix_ms == 0;
}

/* @return whether the unit has a row in `due` */
static bool due_row(const struct queue_edit *edit, uint32_t number,
                    const struct queue_unit_row *unit, struct queue_due_row *row_out)
{
    *row_out = (struct queue_due_row){
        .domain = unit->domain,
        .lane = unit->attempts > 0 ? QUEUE_LANE_RETRY : QUEUE_LANE_NEW,
        .due_unix_ms = unit->due_unix_ms,
        .id = edit->id,
        .unit = (uint16_t)number,
        .bounces = unit->bounces,
    };
    return unit->open > 0 && !unit->held && unit->due_unix_ms != 0;
}

int queue_edit_place(struct queue_edit *edit, uint32_t number, const struct queue_unit_row *before,
                     const struct queue_unit_row *unit)
{
    struct queue_due_row from;
    struct queue_due_row to;
    bool had = due_row(edit, number, before, &from);
    bool has = due_row(edit, number, unit, &to);
    edit->units_dirty = true;
    count(&edit->batch->state, before, -1);
    count(&edit->batch->state, unit, 1);
    int rc = queue_due_move(edit->batch, had ? &from : NULL, has ? &to : NULL);
    if (rc != 0 || is_fresh(before) == is_fresh(unit))
        return rc;
    assert(is_fresh(before)); /* once tried or parked, never fresh again */
    edit->head.fresh -= edit->head.fresh > 0 ? 1 : 0;
    edit->head_dirty = true;
    return queue_fresh_set(edit->batch, edit->id, edit->head.fresh);
}

int queue_edit_attempt(struct queue_edit *edit, uint32_t recipient, uint32_t n, const void *row,
                       size_t len)
{
    MDB_dbi dbi = queue_batch_db(edit->batch, QUEUE_DB_ATTEMPT);
    uint8_t bytes[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(bytes, edit->id, recipient, n);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val(row, len);
    int rc = mdb_put(edit->batch->txn, dbi, &key, &value, 0);
    if (rc != 0 || n <= LAST_KEPT)
        return rc;
    queue_attempt_key(bytes, edit->id, recipient, n - LAST_KEPT);
    return queue_store_delete(edit->batch->txn, dbi, bytes, sizeof bytes);
}
