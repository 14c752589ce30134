/* queue/check.c - check and repair of a queue that no daemon has open: from the lock to the result.
 * The parts are in check_walk.c, check_message.c, check_due.c and check_meta.c. */
#include "queue/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/lock.h"
#include "queue/pages.h"

#define LINE_MAX_BYTES 1024
#define LINES_A_KIND   20
#define ROOM           (UINT64_C(1) << 30) /* of address space, for what a repair writes */

/* What a kind is called in sums, and what repair does about it (NULL: nothing it could do). */
static const struct kind_row {
    const char *name;
    const char *cure;
} kinds[] = {
    [CHECK_PAGES] = {"pages of the file", NULL},
    [CHECK_RECORD] = {"damaged records", "set aside, its bytes are kept"},
    [CHECK_BODY] = {"messages with damaged bytes", "set aside, its bytes are kept"},
    [CHECK_BODY_EXTRA] = {"bytes beyond a message's end", "removed, the message is whole"},
    [CHECK_SUMS] = {"wrong sums", "counted anew"},
    [CHECK_ENDED] = {"messages that have ended", "removed"},
    [CHECK_TWICE] = {"messages that are there twice", "the one set aside was removed"},
    [CHECK_ORPHAN_BODY] = {"bytes without a message", "set aside, they are kept"},
    [CHECK_ORPHAN_ATTEMPT] = {"attempts without a message", "removed"},
    [CHECK_ATTEMPT] = {"damaged attempts", "replaced by a note that it was lost"},
    [CHECK_ATTEMPT_LOST] = {"lost attempts", "replaced by notes that they were lost"},
    [CHECK_FRESH] = {"entries in the list of new messages", "put right"},
    [CHECK_FRESH_STRAY] = {"strays in the list of new messages", "removed"},
    [CHECK_DUE] = {"entries missing in the order of work", "entered"},
    [CHECK_DUE_STRAY] = {"strays in the order of work", "removed"},
    [CHECK_NEXT] = {"entries missing among the next ones", "entered"},
    [CHECK_NEXT_STRAY] = {"strays among the next ones", "removed"},
    [CHECK_KEY] = {"rows that no version writes", "set aside, its bytes are kept"},
    [CHECK_COUNTER] = {"counters", "put right"},
};
_Static_assert(sizeof kinds / sizeof kinds[0] == CHECK_KIND_COUNT, "one row per kind");

/* ---- words ---- */

void check_note(struct check *check, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check->line(text, check->ctx);
}

void check_problem(struct check *check, enum check_kind kind, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    bool cured = check->repair && kinds[kind].cure != NULL;
    check->result.problems++;
    check->result.repaired += cured ? 1 : 0;
    if (++check->kinds[kind] > LINES_A_KIND)
        return;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (cured && len > 0 && (size_t)len < sizeof text)
        (void)snprintf(text + len, sizeof text - (size_t)len, ": %s", kinds[kind].cure);
    check->line(text, check->ctx);
}

static void tell_rest(struct check *check)
{
    for (int kind = 0; kind < CHECK_KIND_COUNT; kind++) {
        if (check->kinds[kind] > LINES_A_KIND)
            check_note(check, "and %" PRIu64 " more of this kind: %s",
                       check->kinds[kind] - LINES_A_KIND, kinds[kind].name);
    }
}

int check_pace(struct check *check)
{
    return check->pace == NULL || check->pace(check->pace_ctx) ? 0 : CHECK_STOPPED;
}

/* ---- the file itself ---- */

static void on_page_problem(const char *text, void *ctx)
{
    check_problem(ctx, CHECK_PAGES, "%s", text);
}

static bool on_page_pace(void *ctx)
{
    return check_pace(ctx) == 0;
}

int check_pages(struct check *check, int fd, uint64_t txnid, bool *readable_out)
{
    struct queue_pages_options options = {
        .txnid = txnid, .report = on_page_problem, .pace = on_page_pace, .ctx = check};
    struct queue_pages pages;
    int rc = queue_pages_check(fd, &options, &pages);
    if (rc != 0)
        return rc == ECANCELED ? CHECK_STOPPED : rc;
    *readable_out = !pages.unreadable;
    check->writable = !pages.unreadable && !pages.unwritable;
    return 0;
}

/* ---- records ---- */

/* All but the pages: the snapshot and the databases are open. @return LMDB's code, CHECK_STOPPED */
int check_contents(struct check *check)
{
    int rc = check_messages(check);
    if (rc == 0)
        rc = check_due(check);
    if (rc == 0)
        rc = check_meta(check);
    if (rc != 0)
        return rc;
    tell_rest(check);
    if (check->interrupted > 0 && check->in_use)
        check_note(check, "%" PRIu64 " messages are on their way in", check->interrupted);
    else if (check->interrupted > 0)
        check_note(check, "%" PRIu64 " interrupted transfers will be removed at the next start",
                   check->interrupted);
    if (check->leftovers > 0)
        check_note(check,
                   "%" PRIu64 " entries of messages set aside are still in the order of work",
                   check->leftovers);
    check->result.messages = check->state.messages;
    check->result.body_bytes = check->state.bytes;
    check->result.damaged = check->state.damaged;
    return 0;
}

/* ---- a queue without its daemon ---- */

static int fail(char *error, size_t size, const char *what, const char *folder, int rc)
{
    (void)snprintf(error, size, "%s in %s: %s", what, folder, mdb_strerror(rc));
    return QUEUE_ERR_IO;
}

/* Open the databases; one that is missing is a problem. @return LMDB's code */
static int open_databases(struct check *check, bool *all_out)
{
    MDB_stat table;
    int rc = mdb_stat(check->txn, 1, &table);
    *all_out = true;
    for (int i = 0; i < QUEUE_DB_COUNT && rc == 0; i++) {
        rc = mdb_dbi_open(check->txn, queue_store_db_name((enum queue_db)i), 0,
                          &check->queue->store.dbi[i]);
        if (rc != MDB_NOTFOUND)
            continue;
        rc = 0;
        *all_out = false;
        if (table.ms_entries > 0)
            check_problem(check, CHECK_PAGES, "the database \"%s\" is missing",
                          queue_store_db_name((enum queue_db)i));
    }
    return rc;
}

/* Without LMDB's lock file: ours is held, and nothing may be written. */
int check_open_to_read(struct check *check, const char *folder, bool *all_out, char *error,
                       size_t size)
{
    struct queue_store *store = &check->queue->store;
    int rc = mdb_env_create(&store->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(store->env, QUEUE_DB_COUNT + 6);
    if (rc == 0)
        rc = mdb_env_open(store->env, folder, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &check->txn);
    if (rc != 0)
        return fail(error, size, "cannot open the store", folder, rc);
    rc = queue_meta_check(check->txn, error, size);
    if (rc < 0)
        return rc;
    rc = open_databases(check, all_out);
    return rc == 0 ? 0 : fail(error, size, "cannot read the store", folder, rc);
}

static int open_to_write(struct check *check, const char *folder, uint64_t file_bytes, char *error,
                         size_t size)
{
    struct queue_store *store = &check->queue->store;
    int rc = queue_store_open(store, folder, file_bytes + file_bytes / 2 + ROOM, error, size);
    if (rc < 0)
        return rc;
    check->batch = queue_batch_new(check->queue);
    rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &check->txn);
    return rc == 0 ? 0 : fail(error, size, "cannot open the store", folder, rc);
}

void check_close(struct check *check)
{
    struct queue_store *store = &check->queue->store;
    if (check->batch != NULL)
        queue_batch_abort(check->batch);
    queue_batch_free(&check->batch);
    if (check->txn != NULL)
        mdb_txn_abort(check->txn);
    check->txn = NULL;
    if (store->folder != NULL)
        queue_store_close(store);
    else if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
}

/* The store's records, once its pages are known to be sound. */
static int look_inside(struct check *check, const char *folder, uint64_t file_bytes, char *error,
                       size_t size)
{
    bool all = true;
    int rc = check->repair ? open_to_write(check, folder, file_bytes, error, size)
                           : check_open_to_read(check, folder, &all, error, size);
    if (rc < 0)
        return rc;
    int lmdb = all ? check_contents(check) : 0;
    return lmdb == 0 ? 0 : fail(error, size, "cannot read the store", folder, lmdb);
}

static int look_at_file(struct check *check, const char *folder, int fd, char *error, size_t size)
{
    struct stat st;
    bool readable = false;
    if (fstat(fd, &st) != 0)
        return fail(error, size, "cannot read the store", folder, errno);
    if (st.st_size == 0) /* its very first start was cut short: there is nothing yet */
        return 0;
    int rc = check_pages(check, fd, 0, &readable);
    if (rc != 0)
        return fail(error, size, "cannot read the store", folder, rc);
    if (!readable) {
        check_note(check, "the file of the queue is damaged; what is in it was not looked at");
        return 0;
    }
    if (check->repair && !check->writable) {
        check->repair = false;
        check_note(check, "the file of the queue is damaged: nothing is changed in it");
    }
    return look_inside(check, folder, (uint64_t)st.st_size, error, size);
}

int check_folder(const char *folder, bool repair, queue_line_fn line, void *ctx,
                 struct queue_check_result *result_out, char *error, size_t error_size)
{
    char path[4096];
    struct check check = {.repair = repair, .line = line, .ctx = ctx};
    (void)snprintf(path, sizeof path, "%s/data.mdb", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(error, error_size, "there is no queue in %s: %s", folder, strerror(errno));
        return QUEUE_ERR_IO;
    }
    check.queue = queue_alloc(sizeof *check.queue);
    int rc = look_at_file(&check, folder, fd, error, error_size);
    check_close(&check);
    free(check.queue);
    (void)close(fd);
    if (rc == 0)
        *result_out = check.result;
    return rc;
}

int queue_check(const char *folder, bool repair, queue_line_fn line, void *ctx,
                struct queue_check_result *result_out, char *error, size_t error_size)
{
    char path[4096];
    int lock = -1;
    (void)snprintf(path, sizeof path, "%s/data.mdb", folder);
    if (access(path, F_OK) != 0) { /* taking the lock would make the folder */
        (void)snprintf(error, error_size, "there is no queue in %s: %s", folder, strerror(errno));
        return QUEUE_ERR_IO;
    }
    int rc = queue_lock_take(folder, &lock, error, error_size);
    if (rc == 0)
        rc = check_folder(folder, repair, line, ctx, result_out, error, error_size);
    queue_lock_drop(&lock);
    return rc;
}
