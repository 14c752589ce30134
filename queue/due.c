/* queue/due.c - databases `due`, `next` and `fresh`: which unit, when. Writer's thread, but for the
 * keys.
 *
 * `due` keeps each lane of a domain in time order; `next` has one row a lane of a domain, with its
 * earliest time. */
#include <assert.h>
#include <string.h>

#include "queue/batch.h"

#define DUE_TAIL (1 + 8 + 8 + 2) /* what follows the domain and its NUL */

size_t queue_due_key(uint8_t key[QUEUE_DUE_KEY], const struct queue_due_row *row)
{
    size_t len = strlen(row->domain) + 1; /* its NUL keeps a.example before a.example.org */
    memcpy(key, row->domain, len);
    key[len] = (uint8_t)row->lane;
    queue_be64_put(key + len + 1, (uint64_t)row->due_unix_ms);
    queue_be64_put(key + len + 9, row->id);
    queue_be16_put(key + len + 17, row->unit);
    return len + DUE_TAIL;
}

size_t queue_due_prefix(uint8_t key[QUEUE_DUE_KEY], const char *domain, enum queue_lane lane)
{
    size_t len = strlen(domain) + 1;
    memcpy(key, domain, len);
    key[len] = (uint8_t)lane;
    return len + 1;
}

static int64_t read_time(const uint8_t *p)
{
    uint64_t time = queue_be64_get(p);
    return time > INT64_MAX ? INT64_MAX : (int64_t)time;
}

bool queue_due_key_read(const MDB_val *key, struct queue_due_row *row_out)
{
    const uint8_t *p = key->mv_data;
    if (key->mv_size < DUE_TAIL + 2 || key->mv_size > QUEUE_DUE_KEY)
        return false;
    size_t len = key->mv_size - DUE_TAIL;
    if (memchr(p, 0, len) != p + len - 1 || p[len] > QUEUE_LANE_RETRY)
        return false;
    *row_out = (struct queue_due_row){
        .domain = (const char *)p,
        .lane = (enum queue_lane)p[len],
        .due_unix_ms = read_time(p + len + 1),
        .id = queue_be64_get(p + len + 9),
        .unit = queue_be16_get(p + len + 17),
    };
    return true;
}

size_t queue_next_key(uint8_t key[QUEUE_NEXT_KEY], const char *domain, enum queue_lane lane,
                      int64_t due_unix_ms)
{
    size_t len = strnlen(domain, QUEUE_DOMAIN_MAX);
    queue_be64_put(key, (uint64_t)due_unix_ms);
    key[8] = (uint8_t)lane;
    memcpy(key + 9, domain, len);
    return 9 + len;
}

bool queue_next_key_read(const MDB_val *key, char domain[QUEUE_DOMAIN_MAX + 1],
                         enum queue_lane *lane_out, int64_t *due_out)
{
    const uint8_t *p = key->mv_data;
    if (key->mv_size <= 9 || key->mv_size > QUEUE_NEXT_KEY || p[8] > QUEUE_LANE_RETRY)
        return false;
    size_t len = key->mv_size - 9;
    if (memchr(p + 9, 0, len) != NULL)
        return false;
    *lane_out = (enum queue_lane)p[8];
    *due_out = read_time(p);
    memcpy(domain, p + 9, len);
    domain[len] = '\0';
    return true;
}

/* The earliest time in a lane of a domain; 0: it has none. */
static int earliest(struct queue_batch *batch, const char *domain, enum queue_lane lane,
                    int64_t *due_out)
{
    uint8_t bytes[QUEUE_DUE_KEY];
    MDB_cursor *cursor = NULL;
    size_t len = queue_due_prefix(bytes, domain, lane);
    MDB_val key = queue_val(bytes, len);
    MDB_val value;
    *due_out = 0;
    int rc = mdb_cursor_open(batch->txn, queue_batch_db(batch, QUEUE_DB_DUE), &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && key.mv_size == len + DUE_TAIL - 1 && memcmp(key.mv_data, bytes, len) == 0)
        *due_out = (int64_t)queue_be64_get((const uint8_t *)key.mv_data + len);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int move_next(struct queue_batch *batch, const char *domain, enum queue_lane lane,
                     int64_t from, int64_t to)
{
    uint8_t bytes[QUEUE_NEXT_KEY];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_NEXT);
    int rc = 0;
    if (from == to)
        return 0;
    if (from != 0)
        rc = queue_store_delete(batch->txn, dbi, bytes, queue_next_key(bytes, domain, lane, from));
    if (rc != 0 || to == 0)
        return rc;
    MDB_val key = queue_val(bytes, queue_next_key(bytes, domain, lane, to));
    MDB_val value = queue_val("", 0);
    return mdb_put(batch->txn, dbi, &key, &value, 0);
}

/* Take a row out of a lane, put one in (either may be NULL), keep `next` exact. */
static int change_lane(struct queue_batch *batch, const struct queue_due_row *out,
                       const struct queue_due_row *in)
{
    const struct queue_due_row *any = in != NULL ? in : out;
    uint8_t bytes[QUEUE_DUE_KEY];
    MDB_dbi dbi = queue_batch_db(batch, QUEUE_DB_DUE);
    int64_t before = 0;
    int64_t after = 0;
    assert(any != NULL);
    int rc = earliest(batch, any->domain, any->lane, &before);
    if (rc == 0 && out != NULL)
        rc = queue_store_delete(batch->txn, dbi, bytes, queue_due_key(bytes, out));
    if (rc == 0 && in != NULL) {
        MDB_val key = queue_val(bytes, queue_due_key(bytes, in));
        MDB_val value = queue_due_value(in);
        rc = mdb_put(batch->txn, dbi, &key, &value, 0);
    }
    if (rc == 0)
        rc = earliest(batch, any->domain, any->lane, &after);
    return rc == 0 ? move_next(batch, any->domain, any->lane, before, after) : rc;
}

int queue_due_move(struct queue_batch *batch, const struct queue_due_row *from,
                   const struct queue_due_row *to)
{
    int rc = 0;
    if (from != NULL && to != NULL && from->lane == to->lane) {
        if (from->due_unix_ms != to->due_unix_ms || from->bounces != to->bounces)
            rc = change_lane(batch, from, to);
    } else {
        if (from != NULL)
            rc = change_lane(batch, from, NULL);
        if (rc == 0 && to != NULL)
            rc = change_lane(batch, NULL, to);
    }
    if (rc == 0 && to != NULL)
        queue_batch_note_due(batch, to->domain, to->lane, to->due_unix_ms);
    return rc;
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
