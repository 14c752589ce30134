/* queue/backup.c - a copy of a queue, in use or not: every row of one snapshot, in order. */
#include "queue/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queue/check.h"
#include "queue/lock.h"
#include "queue/snapshot.h"

struct backup {
    struct queue *queue;
    MDB_txn *txn;
    bool (*pace)(void *ctx); /* false: give up */
    void *pace_ctx;
    bool given_up;
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

/* Rows of a message that has not come whole, or of one that has left: `incoming` is not copied, so
 * nothing would ever remove them. */
static bool is_left_out(struct queue *queue, MDB_txn *txn, enum queue_db db, const MDB_val *key)
{
    MDB_val none;
    MDB_val id = queue_val(key->mv_data, 8);
    bool further = db == QUEUE_DB_BODY || db == QUEUE_DB_ATTEMPT ||
                   (db == QUEUE_DB_MESSAGE && key->mv_size > 8);
    return further && key->mv_size >= 8 &&
           mdb_get(txn, queue->store.dbi[QUEUE_DB_INCOMING], &id, &none) == 0 &&
           mdb_get(txn, queue->store.dbi[QUEUE_DB_MESSAGE], &id, &none) == MDB_NOTFOUND;
}

static int copy_database(struct backup *backup, enum queue_db db)
{
    struct queue *queue = backup->queue;
    MDB_txn *txn = backup->txn;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    char letter = queue_backup_letter(db);
    int rc = letter != '\0' ? mdb_cursor_open(txn, queue->store.dbi[db], &cursor) : MDB_NOTFOUND;
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0) {
        if (value.mv_size > QUEUE_BACKUP_MAX / 2) { /* no version writes such a row */
            rc = EFBIG;
            break;
        }
        if (!is_left_out(queue, txn, db, &key) && !add_row(backup, letter, &key, &value))
            break;
        backup->given_up = !backup->pace(backup->pace_ctx);
        if (backup->given_up)
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
        if (backup->refused || backup->given_up)
            return 0;
        rc = copy_database(backup, (enum queue_db)db);
    }
    if (rc != 0 || backup->refused || backup->given_up)
        return rc;
    if (backup->block.len > QUEUE_BACKUP_HEAD && !end_block(backup))
        return 0;
    queue_bytes_64(&backup->block, backup->rows);
    (void)end_block(backup);
    return 0;
}

/* @return LMDB's code */
static int run(struct backup *backup, struct queue_backup_result *result)
{
    struct queue_state state = {0};
    int rc = queue_meta_read(&backup->queue->store, backup->txn, &state);
    if (rc == 0 || rc == MDB_NOTFOUND)
        rc = copy_all(backup);
    queue_bytes_deinit(&backup->block);
    *result = (struct queue_backup_result){.messages = state.messages, .bytes = backup->bytes};
    return rc;
}

/* The result in words. lmdb: LMDB's code; why: the reason if it was given up */
static int conclude(const struct backup *backup, int lmdb, const char *why, char *error,
                    size_t error_size)
{
    if (lmdb != 0) {
        (void)snprintf(error, error_size, "the queue cannot be read: %s", mdb_strerror(lmdb));
        return QUEUE_ERR_IO;
    }
    if (!backup->given_up && !backup->refused)
        return 0;
    (void)snprintf(error, error_size, "the backup was given up: %s",
                   backup->given_up ? why : "its bytes are not taken any more");
    return QUEUE_ERR_LIMIT;
}

int queue_backup(struct queue *queue, const struct queue_patience *patience, queue_bytes_fn write,
                 void *ctx, struct queue_backup_result *result_out, char *error, size_t error_size)
{
    struct queue_snapshot snapshot;
    struct queue_backup_result result = {0};
    struct backup backup = {.queue = queue,
                            .pace = queue_snapshot_pace,
                            .pace_ctx = &snapshot,
                            .write = write,
                            .ctx = ctx};
    int lmdb = MDB_PANIC;
    if (queue_snapshot_begin(&snapshot, queue, patience) == 0) {
        backup.txn = snapshot.txn;
        lmdb = run(&backup, &result);
        queue_snapshot_end(&snapshot);
    }
    int rc = conclude(&backup, lmdb, snapshot.reason, error, error_size);
    if (rc == 0)
        *result_out = result;
    return rc;
}

/* ---- a queue without its daemon ---- */

static void ignore_line(const char *line, void *ctx)
{
    (void)line;
    (void)ctx;
}

static bool never_tires(void *ctx)
{
    (void)ctx;
    return true;
}

/* LMDB is let near the file only if its pages are sound. */
static int open_sound(struct check *check, const char *folder, int fd, char *error,
                      size_t error_size)
{
    bool readable = false;
    bool all = false;
    int lmdb = check_pages(check, fd, 0, &readable);
    if (lmdb == 0 && readable) {
        int rc = check_open_to_read(check, folder, &all, error, error_size);
        if (rc < 0 || all)
            return rc;
    }
    (void)snprintf(error, error_size,
                   "the queue in %s is damaged or was never used; `mtactl queue check` tells more",
                   folder);
    return QUEUE_ERR_DAMAGED;
}

static int back_up_locked(const char *folder, int fd, struct backup *backup,
                          struct queue_backup_result *result, char *error, size_t error_size)
{
    struct check check = {.line = ignore_line};
    check.queue = backup->queue;
    int rc = open_sound(&check, folder, fd, error, error_size);
    if (rc == 0) {
        backup->txn = check.txn;
        rc = conclude(backup, run(backup, result), "", error, error_size);
    }
    check_close(&check);
    return rc;
}

int queue_backup_folder(const char *folder, queue_bytes_fn write, void *ctx,
                        struct queue_backup_result *result_out, char *error, size_t error_size)
{
    char path[4096];
    int lock = -1;
    struct queue_backup_result result = {0};
    struct backup backup = {.pace = never_tires, .write = write, .ctx = ctx};
    (void)snprintf(path, sizeof path, "%s/data.mdb", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(error, error_size, "there is no queue in %s: %s", folder, strerror(errno));
        return QUEUE_ERR_IO;
    }
    backup.queue = queue_alloc(sizeof *backup.queue);
    int rc = queue_lock_take(folder, &lock, error, error_size);
    if (rc == 0)
        rc = back_up_locked(folder, fd, &backup, &result, error, error_size);
    if (rc == 0)
        *result_out = result;
    queue_lock_drop(&lock);
    (void)close(fd);
    free(backup.queue);
    return rc;
}
