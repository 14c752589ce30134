/* queue/restore.c - a backup put in place of a queue that no daemon has open.
 *
 * Nothing is touched before the new store stands beside, checked and synced; then one rename puts
 * it in place. A crash before leaves the old queue, a crash after the new one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "queue/backup.h"
#include "queue/build.h"
#include "queue/check.h"
#include "queue/lock.h"
#include "queue/pages.h"

#define UNKNOWN_SIZE                                                                               \
    (UINT64_C(1) << 40)   /* of address space, if the backup comes through a pipe                  \
                           */
#define KEPT_A_SECOND 100 /* old files of one second, at most */
#define PATH_BYTES    4096

struct restore {
    const char *folder;
    int fd;
    char built[PATH_BYTES]; /* the folder beside */
    bool has_old;           /* there is a file in place, */
    bool holds_mail;        /* with messages in it, or what cannot be read */
    struct queue_build build;
    uint64_t rows;
    uint8_t *block;
    size_t block_size;
    char *error;
    size_t error_size;
};

#define FAIL(restore, code, ...)                                                                   \
    ((void)snprintf((restore)->error, (restore)->error_size, __VA_ARGS__), (code))

static int fail_errno(struct restore *restore, const char *what, const char *path, int err)
{
    int code = queue_store_code(err);
    return FAIL(restore, code, "%s %s: %s", what, path, strerror(err));
}

static void path_in(char path[PATH_BYTES], const char *folder, const char *name)
{
    if (snprintf(path, PATH_BYTES, "%s/%s", folder, name) >= PATH_BYTES)
        path[0] = '\0'; /* which no call finds */
}

/* ---- reading the backup ---- */

static int damaged(struct restore *restore, const char *how)
{
    return FAIL(restore, QUEUE_ERR_DAMAGED, "this is no whole backup of a queue: %s", how);
}

/* @return 0; QUEUE_ERR_DAMAGED: the file ends before; QUEUE_ERR_IO */
static int read_all(struct restore *restore, void *out, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(restore->fd, (uint8_t *)out + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FAIL(restore, QUEUE_ERR_IO, "the backup cannot be read: %s", strerror(errno));
        if (n == 0)
            return damaged(restore, "it ends too early");
        got += (size_t)n;
    }
    return 0;
}

static int read_line(struct restore *restore)
{
    static const char want[] = QUEUE_BACKUP_LINE;
    char line[sizeof want - 1];
    const size_t version = sizeof line - 2; /* where its number stands */
    int rc = read_all(restore, line, sizeof line);
    if (rc < 0)
        return rc;
    if (memcmp(line, want, version) != 0)
        return damaged(restore, "it begins otherwise");
    if (memcmp(line, want, sizeof line) != 0)
        return FAIL(restore, QUEUE_ERR_SCHEMA,
                    "the backup was made by a version that this program does not know");
    return 0;
}

/* @return 0 with the length of the next block, which is sound */
static int read_block(struct restore *restore, size_t *len_out)
{
    uint8_t head[QUEUE_BACKUP_HEAD];
    int rc = read_all(restore, head, sizeof head);
    if (rc < 0)
        return rc;
    size_t len = queue_le32_get(head);
    if (len == 0 || len > QUEUE_BACKUP_MAX)
        return damaged(restore, "a length in it is impossible");
    if (len > restore->block_size) {
        restore->block = queue_resize(restore->block, len);
        restore->block_size = len;
    }
    rc = read_all(restore, restore->block, len);
    if (rc == 0 && queue_crc32c(0, restore->block, len) != queue_le32_get(head + 4))
        rc = damaged(restore, "a checksum in it is wrong");
    *len_out = len;
    return rc;
}

static bool database_of(char letter, enum queue_db *db_out)
{
    for (int db = 0; db < QUEUE_DB_COUNT && letter != '\0'; db++) {
        *db_out = (enum queue_db)db;
        if (queue_backup_letter(*db_out) == letter)
            return true;
    }
    return false;
}

static int put_row(struct restore *restore, struct queue_walk *walk)
{
    enum queue_db db = QUEUE_DB_META;
    char letter = (char)queue_walk_8(walk);
    size_t key_len = queue_walk_16(walk);
    size_t len = queue_walk_32(walk);
    MDB_val key = queue_val(queue_walk_raw(walk, key_len), key_len);
    MDB_val value = queue_val(queue_walk_raw(walk, len), len);
    if (walk->bad || !database_of(letter, &db))
        return damaged(restore, "a row in it is impossible");
    restore->rows++;
    int rc = queue_build_row(&restore->build, db, &key, &value);
    if (rc == MDB_KEYEXIST || rc == MDB_BAD_VALSIZE)
        return damaged(restore, "its rows are out of order");
    return rc == 0 ? 0
                   : FAIL(restore, queue_store_code(rc), "cannot write in %s: %s", restore->built,
                          mdb_strerror(rc));
}

static int put_rows(struct restore *restore)
{
    for (;;) {
        size_t len = 0;
        int rc = read_block(restore, &len);
        if (rc < 0)
            return rc;
        struct queue_walk walk = {.p = restore->block, .left = len};
        if (len == 8) /* shorter than any row: the end */
            return queue_walk_64(&walk) == restore->rows
                       ? 0
                       : damaged(restore, "it has not as many rows as it says");
        while (rc == 0 && walk.left > 0)
            rc = put_row(restore, &walk);
        if (rc < 0)
            return rc;
    }
}

/* ---- the store beside ---- */

static void remove_built(const struct restore *restore)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_in(path, restore->built, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(restore->built);
}

static int build(struct restore *restore)
{
    struct stat st;
    uint64_t size = UNKNOWN_SIZE;
    if (fstat(restore->fd, &st) == 0 && S_ISREG(st.st_mode))
        size = (uint64_t)st.st_size;
    int rc = read_line(restore);
    if (rc < 0)
        return rc;
    remove_built(restore); /* of a restore that was cut short */
    int lmdb = queue_build_begin(&restore->build, restore->built, size);
    if (lmdb == 0)
        rc = put_rows(restore);
    int ended = queue_build_end(&restore->build, lmdb != 0 ? lmdb : rc);
    if (rc == 0 && ended != 0)
        rc = FAIL(restore, queue_store_code(ended), "cannot write in %s: %s", restore->built,
                  mdb_strerror(ended));
    return rc;
}

/* ---- what is in place ---- */

static int count_rows(MDB_env *env, uint64_t *rows_out)
{
    static const enum queue_db dbs[] = {QUEUE_DB_MESSAGE, QUEUE_DB_BODY, QUEUE_DB_DAMAGED};
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    MDB_stat stat;
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0] && rc == 0; i++) {
        rc = mdb_dbi_open(txn, queue_store_db_name(dbs[i]), 0, &dbi);
        if (rc == 0)
            rc = mdb_stat(txn, dbi, &stat);
        *rows_out += rc == 0 ? stat.ms_entries : 0;
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    mdb_txn_abort(txn);
    return rc;
}

static void ignore_text(const char *text, void *ctx)
{
    (void)text;
    (void)ctx;
}

/* What cannot be read may hold mail. */
static bool may_hold_mail(const char *folder, int fd)
{
    struct queue_pages_options options = {.report = ignore_text};
    struct queue_pages pages;
    MDB_env *env = NULL;
    uint64_t rows = 0;
    if (queue_pages_check(fd, &options, &pages) != 0 || pages.unreadable ||
        mdb_env_create(&env) != 0)
        return true;
    int rc = mdb_env_set_maxdbs(env, QUEUE_DB_COUNT + 6);
    if (rc == 0)
        rc = mdb_env_open(env, folder, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600);
    if (rc == 0)
        rc = count_rows(env, &rows);
    mdb_env_close(env);
    return rc != 0 || rows > 0;
}

static int look_at_old(struct restore *restore)
{
    char path[PATH_BYTES];
    struct stat st;
    path_in(path, restore->folder, "data.mdb");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : fail_errno(restore, "cannot open", path, errno);
    restore->has_old = true;
    restore->holds_mail =
        fstat(fd, &st) != 0 || (st.st_size > 0 && may_hold_mail(restore->folder, fd));
    (void)close(fd);
    return 0;
}

/* ---- putting in place ---- */

static int sync_folder(struct restore *restore)
{
    int fd = open(restore->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return rc == 0 ? 0 : fail_errno(restore, "cannot sync", restore->folder, rc);
}

/* A second name for the old file, which the rename below then leaves as its only one. */
static int keep_old(struct restore *restore, char kept[256])
{
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    struct tm tm;
    time_t now = time(NULL);
    path_in(from, restore->folder, "data.mdb");
    (void)gmtime_r(&now, &tm);
    size_t len = strftime(kept, 200, "data.mdb.replaced-%Y%m%dT%H%M%SZ", &tm);
    for (int i = 2; i < KEPT_A_SECOND; i++) {
        path_in(to, restore->folder, kept);
        if (link(from, to) == 0)
            return 0;
        if (errno != EEXIST)
            break;
        (void)snprintf(kept + len, 256 - len, "-%d", i);
    }
    return fail_errno(restore, "cannot keep the old queue as", to, errno);
}

static int put_in_place(struct restore *restore, char kept[256])
{
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    char old[PATH_BYTES];
    int rc = restore->has_old && restore->holds_mail ? keep_old(restore, kept) : 0;
    if (rc < 0)
        return rc;
    path_in(from, restore->built, "data.mdb");
    path_in(to, restore->folder, "data.mdb");
    if (rename(from, to) != 0) {
        rc = fail_errno(restore, "cannot put in place", to, errno);
        path_in(old, restore->folder, kept);
        if (kept[0] != '\0')
            (void)unlink(old); /* a second name only, of the queue that stays */
        return rc;
    }
    path_in(to, restore->folder, "lock.mdb"); /* LMDB's list of readers of the old one */
    (void)unlink(to);
    return sync_folder(restore);
}

static int restore_locked(struct restore *restore, bool force, queue_line_fn line, void *ctx,
                          struct queue_restore_result *result)
{
    int rc = look_at_old(restore);
    if (rc == 0 && restore->holds_mail && !force)
        return FAIL(restore, QUEUE_ERR_LIMIT,
                    "the queue in %s holds messages: only with --force is it replaced (its file is "
                    "then kept beside)",
                    restore->folder);
    if (rc == 0)
        rc = build(restore);
    if (rc == 0)
        rc = check_folder(restore->built, false, line, ctx, &result->check, restore->error,
                          restore->error_size);
    if (rc == 0 && result->check.problems > 0 && !force)
        return FAIL(restore, QUEUE_ERR_LIMIT,
                    "the backup has problems: only with --force is it put in place (then `queue "
                    "check --repair` puts right what can be)");
    return rc == 0 ? put_in_place(restore, result->kept) : rc;
}

int queue_restore(const struct queue_restore_source *source, queue_line_fn line, void *ctx,
                  struct queue_restore_result *result_out, char *error, size_t error_size)
{
    struct restore restore = {
        .folder = source->folder, .fd = source->fd, .error = error, .error_size = error_size};
    struct queue_restore_result result = {0};
    int lock = -1;
    path_in(restore.built, source->folder, "restore");
    int rc = queue_lock_take(source->folder, &lock, error, error_size);
    if (rc < 0)
        return rc;
    rc = restore_locked(&restore, source->force, line, ctx, &result);
    remove_built(&restore);
    free(restore.block);
    queue_lock_drop(&lock);
    if (rc == 0)
        *result_out = result;
    return rc;
}
