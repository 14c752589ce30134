/* queue/damaged.c - records that do not decode, or whose message's bytes are damaged: moved to
 * database `damaged` byte for byte, told once, never in the way of anything else. Body rows stay
 * where they are. A row of `due` that leads to no message is dropped when a reader meets it: a
 * record that does not decode cannot say where its rows are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

#define KEY_MAX 511 /* LMDB's */

static void damaged_key(uint8_t key[9], uint64_t id, char kind)
{
    queue_be64_put(key, id);
    key[8] = (uint8_t)kind;
}

/* ---- moving ---- */

/* Move one row, the first whose key begins with the id. @return LMDB's code; MDB_NOTFOUND: no more
 */
static int move_row(struct queue_batch *batch, MDB_cursor *cursor, const uint8_t id[8],
                    struct queue_bytes *copy)
{
    uint8_t bytes[KEY_MAX];
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc != 0)
        return rc;
    if (key.mv_size < 8 || key.mv_size >= KEY_MAX || memcmp(key.mv_data, id, 8) != 0)
        return MDB_NOTFOUND;
    damaged_key(bytes, queue_be64_get(id), 'V');
    memcpy(bytes + 9, (const uint8_t *)key.mv_data + 8, key.mv_size - 8);
    size_t len = key.mv_size + 1;
    copy->len = 0;
    queue_bytes_add(copy, value.mv_data, value.mv_size);
    rc = mdb_cursor_del(cursor, 0);
    if (rc != 0)
        return rc;
    key = queue_val(bytes, len);
    value = queue_val(copy->len > 0 ? (const void *)copy->p : "", copy->len);
    return mdb_put(batch->txn, queue_batch_db(batch, QUEUE_DB_DAMAGED), &key, &value, 0);
}

static int move_rows(struct queue_batch *batch, const uint8_t id[8])
{
    MDB_cursor *cursor = NULL;
    struct queue_bytes copy = {0};
    int rc = mdb_cursor_open(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), &cursor);
    if (rc != 0)
        return rc;
    do
        rc = move_row(batch, cursor, id, &copy);
    while (rc == 0);
    mdb_cursor_close(cursor);
    queue_bytes_deinit(&copy);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static uint64_t less(uint64_t value, uint64_t part)
{
    return value > part ? value - part : 0;
}

/* A record of one row that can be read (the message's bytes cannot): its units leave the order of
 * work and the counters. Others cannot tell, or are too many for one transaction. bytes_out: what
 * the counters have of the message's bytes. */
static int take_out(struct queue_batch *batch, uint64_t id, uint64_t *bytes_out)
{
    struct queue_edit edit = {.batch = batch, .id = id};
    struct queue_row_key k = queue_row_key(id, QUEUE_ROW_HEAD, 0);
    MDB_val key = queue_val(k.bytes, k.len);
    MDB_val value;
    int rc = mdb_get(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), &key, &value);
    if (rc == 0)
        queue_bytes_add(&edit.head_bytes, value.mv_data, value.mv_size);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (queue_head_read(&edit.head, id, edit.head_bytes.p, edit.head_bytes.len, edit.units,
                        edit.rcpts) != NULL) {
        queue_edit_deinit(&edit);
        return queue_body_sum(&batch->queue->store, batch->txn, id, bytes_out);
    }
    *bytes_out = edit.head.body_bytes;
    uint32_t count = queue_head_is_whole(&edit.head) ? edit.head.unit_count : 0;
    rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        struct queue_unit_row gone = {.domain = edit.units[i].domain};
        rc = queue_edit_place(&edit, i, &edit.units[i], &gone);
    }
    queue_edit_deinit(&edit);
    return rc;
}

static int drop_fresh(struct queue_batch *batch, const uint8_t id[8], uint32_t *units_out)
{
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_FRESH);
    MDB_val key = queue_val(id, 8);
    MDB_val value;
    *units_out = 0;
    int rc = mdb_get(batch->txn, dbi, &key, &value);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    *units_out = value.mv_size == 4 ? queue_le32_get(value.mv_data) : 1;
    return queue_store_delete(batch->txn, dbi, id, 8);
}

int queue_set_aside(struct queue_batch *batch, uint64_t id, const char *reason)
{
    uint8_t id_bytes[8];
    uint8_t key_bytes[9];
    char text[QUEUE_ID_TEXT];
    uint64_t body = 0;
    uint32_t fresh = 0;
    struct queue_state *state = &batch->state;
    queue_be64_put(id_bytes, id);
    damaged_key(key_bytes, id, 'R');
    MDB_val key = queue_val(key_bytes, sizeof key_bytes);
    MDB_val value = queue_val(reason, strlen(reason));
    int rc = take_out(batch, id, &body);
    if (rc == 0)
        rc = move_rows(batch, id_bytes);
    if (rc == 0)
        rc = mdb_put(batch->txn, queue_batch_db(batch, QUEUE_DB_DAMAGED), &key, &value, 0);
    if (rc == 0)
        rc = drop_fresh(batch, id_bytes, &fresh);
    if (rc != 0)
        return rc;
    state->units_fresh = less(state->units_fresh, fresh);
    state->messages = less(state->messages, 1);
    state->bytes = less(state->bytes, body);
    state->damaged++;
    queue_id_text(id, text);
    queue_batch_note_text(batch, "message %s was set aside: %s; its bytes are kept", text, reason);
    return 0;
}

int queue_damaged_delete(struct queue_batch *batch, uint64_t id, bool *found_out)
{
    uint8_t key_bytes[9];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_DAMAGED);
    damaged_key(key_bytes, id, 'R');
    MDB_val key = queue_val(key_bytes, sizeof key_bytes);
    MDB_val value;
    int rc = mdb_get(batch->txn, dbi, &key, &value);
    *found_out = rc == 0;
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    rc = queue_store_delete_range(batch->txn, dbi, key_bytes, 8);
    if (rc == 0)
        rc = queue_sweep_later(batch, id);
    batch->state.damaged = less(batch->state.damaged, 1);
    return rc;
}

/* ---- a reader's suspicion, looked into by the writer ---- */

struct suspect_job {
    struct queue_job job;
    uint64_t id;
    bool check_body;
    struct queue_body_look look;
};

/* A body is read in steps: what was seen of it stays as it is while the message is there. */
static int apply_suspect(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct suspect_job *suspect = (struct suspect_job *)job;
    struct queue_store *store = &batch->queue->store;
    struct queue_message *message = NULL;
    const char *reason = NULL;
    int found = queue_message_load(store, batch->txn, suspect->id, &message, &reason);
    if (found == QUEUE_ERR_DAMAGED && reason != NULL)
        return queue_set_aside(batch, suspect->id, reason);
    if (found != 0)
        return 0; /* gone, or set aside already */
    uint64_t bytes = queue_message_envelope(message)->body_bytes;
    queue_message_free(&message);
    if (!suspect->check_body)
        return 0;
    int rc = queue_body_check(store, batch->txn, suspect->id, bytes, batch->end_ns, &suspect->look);
    *finished_out = rc != 0 || suspect->look.done;
    if (rc == 0 && suspect->look.done && suspect->look.reason != NULL)
        rc = queue_set_aside(batch, suspect->id, suspect->look.reason);
    return rc;
}

static void report_nothing(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)job;
    (void)result;
}

static void release_job(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)result;
    free(job);
}

static const struct queue_job_type suspect_type = {apply_suspect, NULL, report_nothing, release_job,
                                                   QUEUE_JOB_OTHER};

void queue_damaged_suspect(struct queue *queue, uint64_t id, bool check_body)
{
    struct suspect_job *suspect = queue_alloc(sizeof *suspect);
    suspect->job = (struct queue_job){.type = &suspect_type, .urgent = true};
    suspect->id = id;
    suspect->check_body = check_body;
    queue_submit(queue, &suspect->job);
}

/* ---- a row of `due` that leads nowhere ---- */

struct stray_job {
    struct queue_job job;
    struct queue_due_row row; /* its domain is the copy below */
    char domain[QUEUE_DOMAIN_MAX + 1];
};

static int apply_stray(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    const struct queue_due_row *stray = &((const struct stray_job *)job)->row;
    uint8_t bytes[QUEUE_DUE_KEY];
    (void)finished_out;
    struct queue_row_key row = queue_row_key(stray->id, QUEUE_ROW_HEAD, 0);
    MDB_val key = queue_val(row.bytes, row.len);
    MDB_val value;
    int rc = mdb_get(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), &key, &value);
    if (rc != MDB_NOTFOUND)
        return rc;
    key = queue_val(bytes, queue_due_key(bytes, stray));
    rc = mdb_get(batch->txn, queue_batch_db(batch, QUEUE_DB_DUE), &key, &value);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    uint64_t *count =
        stray->lane == QUEUE_LANE_NEW ? &batch->state.units_fresh : &batch->state.units_deferred;
    *count = less(*count, 1);
    return queue_due_move(batch, stray, NULL);
}

static const struct queue_job_type stray_type = {apply_stray, NULL, report_nothing, release_job,
                                                 QUEUE_JOB_OTHER};

void queue_damaged_stray(struct queue *queue, const struct queue_due_row *row)
{
    struct stray_job *stray = queue_alloc(sizeof *stray);
    stray->job = (struct queue_job){.type = &stray_type};
    (void)snprintf(stray->domain, sizeof stray->domain, "%s", row->domain);
    stray->row = *row;
    stray->row.domain = stray->domain;
    queue_submit(queue, &stray->job);
}
