/* queue/meta.c - schema version and counters. */
#include "queue/meta.h"

#include <stdio.h>
#include <string.h>

#include "queue/body.h"
#include "queue/record.h"
#include "queue/store.h"

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

typedef void (*count_fn)(struct queue_state *state, const MDB_val *key, const MDB_val *value);

static void count_message(struct queue_state *state, const MDB_val *key, const MDB_val *value)
{
    (void)value;
    if (key->mv_size < 8)
        return;
    uint64_t id = queue_be64_get(key->mv_data);
    if (id > state->id_high)
        state->id_high = id;
    if (key->mv_size == 8)
        state->messages++;
}

static void count_damaged(struct queue_state *state, const MDB_val *key, const MDB_val *value)
{
    (void)value;
    if (key->mv_size != 9 || ((const uint8_t *)key->mv_data)[8] != 'R')
        return;
    uint64_t id = queue_be64_get(key->mv_data);
    if (id > state->id_high)
        state->id_high = id;
    state->damaged++;
}

static void count_body(struct queue_state *state, const MDB_val *key, const MDB_val *value)
{
    (void)key;
    state->bytes += value->mv_size > QUEUE_BODY_SUM ? value->mv_size - QUEUE_BODY_SUM : 0;
}

static void count_fresh(struct queue_state *state, const MDB_val *key, const MDB_val *value)
{
    (void)key;
    state->units_fresh += value->mv_size == 4 ? queue_le32_get(value->mv_data) : 1;
}

static void count_due(struct queue_state *state, const MDB_val *key, const MDB_val *value)
{
    (void)key;
    if (value->mv_size == 1 && *(const uint8_t *)value->mv_data == 'f')
        state->units_fresh++;
    else
        state->units_deferred++;
}

static int count_all(MDB_txn *txn, MDB_dbi dbi, count_fn count, struct queue_state *state)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        count(state, &key, &value);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int queue_meta_recount(struct queue_store *store, MDB_txn *txn, struct queue_state *state_out)
{
    static const struct {
        enum queue_db db;
        count_fn count;
    } tables[] = {
        {QUEUE_DB_MESSAGE, count_message}, {QUEUE_DB_DAMAGED, count_damaged},
        {QUEUE_DB_BODY, count_body},       {QUEUE_DB_FRESH, count_fresh},
        {QUEUE_DB_DUE, count_due},
    };
    struct queue_state state = {0};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        int rc = count_all(txn, store->dbi[tables[i].db], tables[i].count, &state);
        if (rc != 0)
            return rc;
    }
    *state_out = state;
    return 0;
}
