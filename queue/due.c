/* queue/due.c - databases `due`, `next` and `fresh`: which unit, when. Writer's thread, but for the
 * keys.
 *
 * `due` keeps each domain's units in time order; `next` has one row a domain, with its earliest
 * time. */
#include <string.h>

#include "queue/batch.h"

size_t queue_due_key(uint8_t key[QUEUE_DUE_KEY], const char *domain, int64_t due_unix_ms,
                     uint64_t id, uint16_t unit)
{
    size_t len = strlen(domain) + 1; /* its NUL keeps a.example before a.example.org */
    memcpy(key, domain, len);
    queue_be64_put(key + len, (uint64_t)due_unix_ms);
    queue_be64_put(key + len + 8, id);
    queue_be16_put(key + len + 16, unit);
    return len + 18;
}

bool queue_due_key_read(const MDB_val *key, char domain[QUEUE_DOMAIN_MAX + 1], int64_t *due_out,
                        uint64_t *id_out, uint16_t *unit_out)
{
    const uint8_t *p = key->mv_data;
    if (key->mv_size < 18 + 2 || key->mv_size > QUEUE_DUE_KEY)
        return false;
    size_t len = key->mv_size - 18;
    if (memchr(p, 0, len) != p + len - 1)
        return false;
    memcpy(domain, p, len);
    uint64_t due = queue_be64_get(p + len);
    *due_out = due > INT64_MAX ? INT64_MAX : (int64_t)due;
    *id_out = queue_be64_get(p + len + 8);
    *unit_out = queue_be16_get(p + len + 16);
    return true;
}

#define NEXT_KEY (8 + QUEUE_DOMAIN_MAX + 1) /* with the NUL that is not part of it */

static size_t next_key(uint8_t key[NEXT_KEY], const char *domain, int64_t due_unix_ms)
{
    size_t len = strlen(domain);
    queue_be64_put(key, (uint64_t)due_unix_ms);
    memcpy(key + 8, domain, len + 1);
    return 8 + len;
}

bool queue_next_key_read(const MDB_val *key, char domain[QUEUE_DOMAIN_MAX + 1], int64_t *due_out)
{
    const uint8_t *p = key->mv_data;
    if (key->mv_size <= 8 || key->mv_size > 8 + QUEUE_DOMAIN_MAX)
        return false;
    size_t len = key->mv_size - 8;
    if (memchr(p + 8, 0, len) != NULL)
        return false;
    uint64_t due = queue_be64_get(p);
    *due_out = due > INT64_MAX ? INT64_MAX : (int64_t)due;
    memcpy(domain, p + 8, len);
    domain[len] = '\0';
    return true;
}

/* The earliest time of a domain in `due`; 0: it has none. */
static int earliest(struct queue_batch *batch, const char *domain, int64_t *due_out)
{
    MDB_cursor *cursor = NULL;
    size_t len = strlen(domain) + 1;
    MDB_val key = queue_val(domain, len);
    MDB_val value;
    *due_out = 0;
    int rc = mdb_cursor_open(batch->txn, queue_batch_db(batch, QUEUE_DB_DUE), &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && key.mv_size == len + 18 && memcmp(key.mv_data, domain, len) == 0)
        *due_out = (int64_t)queue_be64_get((const uint8_t *)key.mv_data + len);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int move_next(struct queue_batch *batch, const char *domain, int64_t from, int64_t to)
{
    uint8_t bytes[NEXT_KEY];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_NEXT);
    int rc = 0;
    if (from == to)
        return 0;
    if (from != 0)
        rc = queue_store_delete(batch->txn, dbi, bytes, next_key(bytes, domain, from));
    if (rc != 0 || to == 0)
        return rc;
    MDB_val key = queue_val(bytes, next_key(bytes, domain, to));
    MDB_val value = queue_val("", 0);
    return mdb_put(batch->txn, dbi, &key, &value, 0);
}

int queue_due_apply(struct queue_batch *batch, const struct queue_due_move *move)
{
    uint8_t bytes[QUEUE_DUE_KEY];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_DUE);
    int64_t before = 0;
    int64_t after = 0;
    if (move->from == 0 && move->to == 0)
        return 0;
    int rc = earliest(batch, move->domain, &before);
    if (rc == 0 && move->from != 0)
        rc = queue_store_delete(
            batch->txn, dbi, bytes,
            queue_due_key(bytes, move->domain, move->from, move->id, move->unit));
    if (rc == 0 && move->to != 0) {
        MDB_val key =
            queue_val(bytes, queue_due_key(bytes, move->domain, move->to, move->id, move->unit));
        MDB_val value = queue_val(move->deferred ? "d" : "f", 1);
        rc = mdb_put(batch->txn, dbi, &key, &value, 0);
    }
    if (rc == 0)
        rc = earliest(batch, move->domain, &after);
    if (rc == 0)
        rc = move_next(batch, move->domain, before, after);
    if (rc != 0)
        return rc;
    if (move->to != 0 && move->to <= batch->wall_ms)
        queue_batch_note_due(batch, move->domain, move->to, true);
    else if (after != 0 && after != before)
        queue_batch_note_due(batch, move->domain, after, false);
    return 0;
}

int queue_fresh_set(struct queue_batch *batch, uint64_t id, uint32_t units)
{
    uint8_t bytes[8];
    uint8_t count[4];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_FRESH);
    queue_be64_put(bytes, id);
    if (units == 0)
        return queue_store_delete(batch->txn, dbi, bytes, sizeof bytes);
    queue_le32_put(count, units);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val(count, sizeof count);
    return queue_store_append(batch->txn, dbi, &key, &value, 0);
}
