/* queue/meta.c - schema version and counters. */
#include "queue/meta.h"

#include <stdio.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

static const char schema_key[] = "schema";
static const char state_key[] = "state";

static int refuse(char *error, size_t size, const char *found, size_t len)
{
    size_t most = len < 20 ? len : 20;
    int shown = 0;
    while ((size_t)shown < most && found[shown] > ' ' && found[shown] <= '~')
        shown++;
    (void)snprintf(
        error, size,
        "the queue was written with schema version \"%.*s\"; this program knows " QUEUE_SCHEMA,
        shown, found);
    return QUEUE_ERR_SCHEMA;
}

int queue_meta_check(MDB_txn *txn, char *error, size_t error_size)
{
    MDB_dbi meta;
    MDB_val key = queue_val(schema_key, sizeof schema_key - 1);
    MDB_val value;
    MDB_stat main_table;
    int rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == MDB_NOTFOUND) { /* new, or not ours */
        rc = mdb_stat(txn, 1, &main_table);
        if (rc == 0 && main_table.ms_entries == 0)
            return 0;
        return refuse(error, error_size, "none", 4);
    }
    if (rc == 0)
        rc = mdb_get(txn, meta, &key, &value);
    if (rc == MDB_NOTFOUND)
        return refuse(error, error_size, "none", 4);
    if (rc != 0) {
        (void)snprintf(error, error_size, "cannot read the schema version: %s", mdb_strerror(rc));
        return QUEUE_ERR_IO;
    }
    if (value.mv_size != strlen(QUEUE_SCHEMA) ||
        memcmp(value.mv_data, QUEUE_SCHEMA, value.mv_size) != 0)
        return refuse(error, error_size, value.mv_data, value.mv_size);
    return 0;
}

int queue_meta_stamp(MDB_txn *txn, MDB_dbi meta)
{
    MDB_val key = queue_val(schema_key, sizeof schema_key - 1);
    MDB_val value = queue_val(QUEUE_SCHEMA, strlen(QUEUE_SCHEMA));
    int rc = mdb_put(txn, meta, &key, &value, MDB_NOOVERWRITE);
    return rc == MDB_KEYEXIST ? 0 : rc;
}

int queue_meta_read(struct queue_store *store, MDB_txn *txn, struct queue_state *state_out)
{
    MDB_val key = queue_val(state_key, sizeof state_key - 1);
    MDB_val value;
    struct queue_walk walk;
    struct queue_state state;
    int rc = mdb_get(txn, store->dbi[QUEUE_DB_META], &key, &value);
    if (rc != 0)
        return rc;
    if (queue_row_open(&walk, QUEUE_ROW_META, state_key, sizeof state_key - 1, value.mv_data,
                       value.mv_size) != NULL)
        return MDB_NOTFOUND;
    state.messages = queue_walk_64(&walk);
    state.units_fresh = queue_walk_64(&walk);
    state.units_deferred = queue_walk_64(&walk);
    state.units_held = queue_walk_64(&walk);
    state.damaged = queue_walk_64(&walk);
    state.bytes = queue_walk_64(&walk);
    state.id_high = queue_walk_64(&walk);
    state.newest_ms = queue_walk_64(&walk);
    if (walk.bad || walk.left > 0)
        return MDB_NOTFOUND;
    *state_out = state;
    return 0;
}

int queue_meta_write(struct queue_store *store, MDB_txn *txn, const struct queue_state *state)
{
    MDB_val key = queue_val(state_key, sizeof state_key - 1);
    struct queue_bytes row = {0};
    size_t begin = queue_row_begin(&row, QUEUE_ROW_META);
    queue_bytes_64(&row, state->messages);
    queue_bytes_64(&row, state->units_fresh);
    queue_bytes_64(&row, state->units_deferred);
    queue_bytes_64(&row, state->units_held);
    queue_bytes_64(&row, state->damaged);
    queue_bytes_64(&row, state->bytes);
    queue_bytes_64(&row, state->id_high);
    queue_bytes_64(&row, state->newest_ms);
    queue_row_seal(&row, begin, state_key, sizeof state_key - 1);
    MDB_val value = queue_val(row.p, row.len);
    int rc = mdb_put(txn, store->dbi[QUEUE_DB_META], &key, &value, 0);
    queue_bytes_deinit(&row);
    return rc;
}

/* ---- counting anew ---- */

struct recount {
    struct queue_store *store;
    MDB_txn *txn;
    struct queue_state state;
    struct queue_head head; /* of the message at hand, */
    uint64_t id;            /* if its further rows can be read; else 0 */
    int error;
};

typedef void (*count_fn)(struct recount *recount, const MDB_val *key, const MDB_val *value);

static void count_held(struct recount *recount, const struct queue_unit_row *units, size_t count)
{
    for (size_t i = 0; i < count; i++)
        recount->state.units_held += units[i].open > 0 && units[i].held ? 1 : 0;
}

static void count_head(struct recount *recount, uint64_t id, const MDB_val *value)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint64_t bytes = 0;
    recount->state.messages++;
    recount->id = 0;
    if (queue_head_read(&recount->head, id, value->mv_data, value->mv_size, units, rcpts) == NULL) {
        bytes = recount->head.body_bytes;
        if (queue_head_is_whole(&recount->head))
            count_held(recount, units, recount->head.unit_count);
        else
            recount->id = id;
    } else if (recount->error == 0) {
        recount->error = queue_body_sum(recount->store, recount->txn, id, &bytes);
    }
    recount->state.bytes += bytes;
}

static void count_message(struct recount *recount, const MDB_val *key, const MDB_val *value)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    const uint8_t *p = key->mv_data;
    if (key->mv_size < 8)
        return;
    uint64_t id = queue_be64_get(p);
    if (id > recount->state.id_high)
        recount->state.id_high = id;
    if (key->mv_size == 8)
        count_head(recount, id, value);
    if (key->mv_size != QUEUE_MESSAGE_KEY || p[8] != QUEUE_ROW_UNITS || recount->id != id)
        return;
    uint32_t row = queue_be16_get(p + 9);
    if (queue_units_read(&recount->head, id, row, value->mv_data, value->mv_size, units) == NULL)
        count_held(recount, units, queue_row_items(recount->head.unit_count, row));
}

static void count_damaged(struct recount *recount, const MDB_val *key, const MDB_val *value)
{
    (void)value;
    if (key->mv_size != 9 || ((const uint8_t *)key->mv_data)[8] != 'R')
        return;
    uint64_t id = queue_be64_get(key->mv_data);
    if (id > recount->state.id_high)
        recount->state.id_high = id;
    recount->state.damaged++;
}

/* A transfer's id is in use, though it is no message yet. */
static void count_incoming(struct recount *recount, const MDB_val *key, const MDB_val *value)
{
    (void)value;
    uint64_t id = key->mv_size == 8 ? queue_be64_get(key->mv_data) : 0;
    if (id > recount->state.id_high)
        recount->state.id_high = id;
}

static void count_fresh(struct recount *recount, const MDB_val *key, const MDB_val *value)
{
    (void)key;
    recount->state.units_fresh += value->mv_size == 4 ? queue_le32_get(value->mv_data) : 1;
}

static void count_due(struct recount *recount, const MDB_val *key, const MDB_val *value)
{
    struct queue_due_row row;
    (void)value;
    if (!queue_due_key_read(key, &row))
        return;
    if (row.lane == QUEUE_LANE_NEW)
        recount->state.units_fresh++;
    else
        recount->state.units_deferred++;
}

static int count_all(struct recount *recount, enum queue_db db, count_fn count)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(recount->txn, recount->store->dbi[db], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0 && recount->error == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        count(recount, &key, &value);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? recount->error : rc;
}

int queue_meta_recount(struct queue_store *store, MDB_txn *txn, struct queue_state *state_out)
{
    static const struct {
        enum queue_db db;
        count_fn count;
    } tables[] = {
        {QUEUE_DB_MESSAGE, count_message},   {QUEUE_DB_DAMAGED, count_damaged},
        {QUEUE_DB_INCOMING, count_incoming}, {QUEUE_DB_FRESH, count_fresh},
        {QUEUE_DB_DUE, count_due},
    };
    struct recount recount = {.store = store, .txn = txn};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        int rc = count_all(&recount, tables[i].db, tables[i].count);
        if (rc != 0)
            return rc;
    }
    *state_out = recount.state;
    return 0;
}
