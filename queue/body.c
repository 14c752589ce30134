/* queue/body.c - writing, reading and checking the rows of `body`. */
#include "queue/body.h"

#include <string.h>

#include "queue/queue_private.h"

static const char missing[] = "bytes of the message are missing";

static void put_key(uint8_t bytes[QUEUE_BODY_KEY], uint64_t id, uint64_t offset)
{
    queue_be64_put(bytes, id);
    queue_be64_put(bytes + 8, offset);
}

static uint32_t sum_of(const void *key, const void *bytes, size_t len)
{
    return queue_crc32c(queue_crc32c(0, key, QUEUE_BODY_KEY), bytes, len);
}

int queue_body_write(MDB_txn *txn, MDB_dbi dbi, uint64_t id, uint64_t offset, size_t len,
                     queue_body_fill_fn fill, void *ctx)
{
    uint8_t bytes[QUEUE_BODY_KEY];
    put_key(bytes, id, offset);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val(NULL, len + QUEUE_BODY_SUM);
    int rc = queue_store_append(txn, dbi, &key, &value, MDB_NOOVERWRITE | MDB_RESERVE);
    if (rc != 0)
        return rc;
    uint8_t *row = value.mv_data;
    fill(ctx, row, len);
    queue_le32_put(row + len, sum_of(bytes, row, len));
    return 0;
}

const char *queue_body_row_read(const MDB_val *key, const MDB_val *value,
                                struct queue_body_row *row_out)
{
    const uint8_t *k = key->mv_data;
    const uint8_t *row = value->mv_data;
    if (key->mv_size != QUEUE_BODY_KEY || value->mv_size <= QUEUE_BODY_SUM)
        return "a row of the message's bytes is cut short";
    size_t len = value->mv_size - QUEUE_BODY_SUM;
    if (queue_le32_get(row + len) != sum_of(k, row, len))
        return "the checksum of the message's bytes is wrong";
    *row_out = (struct queue_body_row){
        .id = queue_be64_get(k), .offset = queue_be64_get(k + 8), .bytes = row, .len = len};
    return NULL;
}

/* Put the cursor on the row that holds byte `offset` of the message, or would. @return LMDB's code
 */
static int seek(MDB_cursor *cursor, uint64_t id, uint64_t offset, MDB_val *key, MDB_val *value)
{
    uint8_t bytes[QUEUE_BODY_KEY];
    put_key(bytes, id, offset);
    *key = queue_val(bytes, sizeof bytes);
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc == 0 && key->mv_size == sizeof bytes && memcmp(key->mv_data, bytes, sizeof bytes) == 0)
        return 0;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    return mdb_cursor_get(cursor, key, value, rc == 0 ? MDB_PREV : MDB_LAST);
}

long queue_body_copy(const struct queue_store *store, MDB_txn *txn, uint64_t id, uint64_t offset,
                     uint8_t *out, size_t size)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    struct queue_body_row row;
    size_t copied = 0;
    if (mdb_cursor_open(txn, store->dbi[QUEUE_DB_BODY], &cursor) != 0)
        return QUEUE_ERR_IO;
    int rc = seek(cursor, id, offset, &key, &value);
    while (rc == 0 && copied < size && queue_body_row_read(&key, &value, &row) == NULL) {
        if (row.id != id || row.offset > offset || offset - row.offset >= row.len)
            break;
        size_t skip = (size_t)(offset - row.offset);
        size_t part = row.len - skip < size - copied ? row.len - skip : size - copied;
        memcpy(out + copied, row.bytes + skip, part);
        copied += part;
        offset += part;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? (long)copied : QUEUE_ERR_IO;
}

static bool has_id(const MDB_val *key, const uint8_t id[8])
{
    return key->mv_size >= 8 && memcmp(key->mv_data, id, 8) == 0;
}

static const char *reason_at_end(uint64_t at, uint64_t body_bytes)
{
    if (at < body_bytes)
        return missing;
    return at > body_bytes ? "more bytes of the message are stored than it has" : NULL;
}

int queue_body_check(const struct queue_store *store, MDB_txn *txn, uint64_t id,
                     uint64_t body_bytes, int64_t end_ns, struct queue_body_look *look)
{
    uint8_t bytes[QUEUE_BODY_KEY];
    MDB_cursor *cursor = NULL;
    put_key(bytes, id, look->at);
    /* at first also what stands before all rows */
    MDB_val key = queue_val(bytes, look->at == 0 ? 8 : sizeof bytes);
    MDB_val value;
    int rc = mdb_cursor_open(txn, store->dbi[QUEUE_DB_BODY], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && has_id(&key, bytes) && look->reason == NULL && queue_now_ns() < end_ns) {
        struct queue_body_row row = {0};
        look->reason = queue_body_row_read(&key, &value, &row);
        if (look->reason == NULL && row.offset != look->at)
            look->reason = missing;
        look->at += row.len;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    bool end = rc == MDB_NOTFOUND || (rc == 0 && !has_id(&key, bytes));
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (end && look->reason == NULL)
        look->reason = reason_at_end(look->at, body_bytes);
    look->done = end || look->reason != NULL;
    return 0;
}

int queue_body_sum(const struct queue_store *store, MDB_txn *txn, uint64_t id, uint64_t *bytes_out)
{
    uint8_t id_bytes[8];
    MDB_cursor *cursor = NULL;
    MDB_val value;
    uint64_t sum = 0;
    queue_be64_put(id_bytes, id);
    MDB_val key = queue_val(id_bytes, sizeof id_bytes);
    int rc = mdb_cursor_open(txn, store->dbi[QUEUE_DB_BODY], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && has_id(&key, id_bytes)) {
        sum += value.mv_size > QUEUE_BODY_SUM ? value.mv_size - QUEUE_BODY_SUM : 0;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    *bytes_out = sum;
    return rc == MDB_NOTFOUND ? 0 : rc;
}
