/* queue/backup.c - a copy of a queue in use: every row of one snapshot, in order. */
#include "queue/backup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "queue/snapshot.h"

struct backup {
    struct queue_snapshot snapshot;
    queue_bytes_fn write;
    void *ctx;
    struct queue_bytes block;
    uint64_t rows;
    uint64_t bytes; /* handed over */
    bool refused;   /* by write */
};

static bool hand_over(struct backup *backup, const void *bytes, size_t len)
{
    if (!backup->refused)
        backup->refused = !backup->write(bytes, len, backup->ctx);
    backup->bytes += len;
    return !backup->refused;
}

static void begin_block(struct backup *backup)
{
    backup->block.len = 0;
    queue_bytes_64(&backup->block, 0);
}

static bool end_block(struct backup *backup)
{
    struct queue_bytes *block = &backup->block;
    size_t len = block->len - QUEUE_BACKUP_HEAD;
    queue_le32_put(block->p, (uint32_t)len);
    queue_le32_put(block->p + 4, queue_crc32c(0, block->p + QUEUE_BACKUP_HEAD, len));
    bool fine = hand_over(backup, block->p, block->len);
    begin_block(backup);
    return fine;
}

static bool add_row(struct backup *backup, char letter, const MDB_val *key, const MDB_val *value)
{
    struct queue_bytes *block = &backup->block;
    queue_bytes_8(block, (uint8_t)letter);
    queue_bytes_16(block, (uint16_t)key->mv_size);
    queue_bytes_32(block, (uint32_t)value->mv_size);
    queue_bytes_add(block, key->mv_data, key->mv_size);
    queue_bytes_add(block, value->mv_data, value->mv_size);
    backup->rows++;
    return block->len < QUEUE_BACKUP_BLOCK || end_block(backup);
}

/* A message that has not come whole has rows in `body` but none in `incoming` then: they are left
 * out. */
static int copy_database(struct backup *backup, enum queue_db db)
{
    struct queue *queue = backup->snapshot.queue;
    MDB_txn *txn = backup->snapshot.txn;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    char letter = queue_backup_letter(db);
    int rc = letter != '\0' ? mdb_cursor_open(txn, queue->store.dbi[db], &cursor) : MDB_NOTFOUND;
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0) {
        MDB_val none;
        MDB_val id = queue_val(key.mv_data, 8);
        bool part = db == QUEUE_DB_BODY && key.mv_size >= 8 &&
                    mdb_get(txn, queue->store.dbi[QUEUE_DB_INCOMING], &id, &none) == 0;
        if (value.mv_size > QUEUE_BACKUP_MAX / 2) { /* no version writes such a row */
            rc = EFBIG;
            break;
        }
        if (!part && !add_row(backup, letter, &key, &value))
            break;
        if (!queue_snapshot_pace(&backup->snapshot))
            break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int copy_all(struct backup *backup)
{
    int rc = 0;
    if (!hand_over(backup, QUEUE_BACKUP_LINE, sizeof QUEUE_BACKUP_LINE - 1))
        return 0;
    begin_block(backup);
    for (int db = 0; db < QUEUE_DB_COUNT && rc == 0; db++) {
        if (backup->refused || backup->snapshot.given_up)
            return 0;
        rc = copy_database(backup, (enum queue_db)db);
    }
    if (rc != 0 || backup->refused || backup->snapshot.given_up)
        return rc;
    if (backup->block.len > QUEUE_BACKUP_HEAD && !end_block(backup))
        return 0;
    queue_bytes_64(&backup->block, backup->rows);
    (void)end_block(backup);
    return 0;
}

int queue_backup(struct queue *queue, const struct queue_patience *patience, queue_bytes_fn write,
                 void *ctx, struct queue_backup_result *result_out, char *error, size_t error_size)
{
    struct backup backup = {.write = write, .ctx = ctx};
    struct queue_state state = {0};
    int rc = MDB_PANIC;
    if (queue_snapshot_begin(&backup.snapshot, queue, patience) == 0) {
        rc = queue_meta_read(&queue->store, backup.snapshot.txn, &state);
        if (rc == 0 || rc == MDB_NOTFOUND)
            rc = copy_all(&backup);
        queue_snapshot_end(&backup.snapshot);
    }
    queue_bytes_deinit(&backup.block);
    if (rc != 0) {
        (void)snprintf(error, error_size, "the queue cannot be read: %s", mdb_strerror(rc));
        return QUEUE_ERR_IO;
    }
    if (backup.snapshot.given_up || backup.refused) {
        (void)snprintf(error, error_size, "the backup was given up: %s",
                       backup.snapshot.given_up ? backup.snapshot.reason
                                                : "its bytes are not taken any more");
        return QUEUE_ERR_LIMIT;
    }
    *result_out = (struct queue_backup_result){.messages = state.messages, .bytes = backup.bytes};
    return 0;
}
