/* queue/store.c - the LMDB environment. See store.h for threads. */
#include "queue/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "queue/bytes.h"
#include "queue/file.h"
#include "queue/meta.h"

#define MIB         (UINT64_C(1) << 20)
#define RESERVE_MIN (64 * MIB)
#define RESERVE_DIV 16
#define MAP_MAX     (UINT64_C(1) << 46) /* of 47 bits of address space */
#define PAGE        UINT64_C(4096)
#define READERS_MAX 500
#define LOCK_BYTES  (UINT64_C(64) * READERS_MAX + PAGE) /* LMDB takes 64 bytes a reader */
#define FLAGS       (MDB_NOTLS | MDB_NORDAHEAD)

static const char *const db_names[] = {
    [QUEUE_DB_META] = "meta",       [QUEUE_DB_MESSAGE] = "message",
    [QUEUE_DB_BODY] = "body",       [QUEUE_DB_INCOMING] = "incoming",
    [QUEUE_DB_FRESH] = "fresh",     [QUEUE_DB_DUE] = "due",
    [QUEUE_DB_NEXT] = "next",       [QUEUE_DB_ATTEMPT] = "attempt",
    [QUEUE_DB_CONTROL] = "control", [QUEUE_DB_DAMAGED] = "damaged",
};
_Static_assert(sizeof db_names / sizeof db_names[0] == QUEUE_DB_COUNT, "one name per database");

const char *queue_store_db_name(enum queue_db db)
{
    return db_names[db];
}

int queue_store_code(int lmdb)
{
    switch (lmdb) {
    case 0:
        return QUEUE_OK;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return QUEUE_ERR_FULL;
    default:
        return QUEUE_ERR_IO;
    }
}

static int open_env(struct queue_store *store, MDB_env **env_out)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != 0)
        return rc;
    rc = mdb_env_set_mapsize(env, store->map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, QUEUE_DB_COUNT + 6);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(env, READERS_MAX);
    if (rc == 0)
        rc = mdb_env_open(env, store->folder, FLAGS, 0600);
    if (rc != 0) {
        mdb_env_close(env);
        return rc;
    }
    *env_out = env;
    return 0;
}

/* meta first: a queue of another version is left untouched. */
static int open_databases(struct queue_store *store, MDB_txn *txn, char *error, size_t size)
{
    int rc = queue_meta_check(txn, error, size);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < QUEUE_DB_COUNT; i++) {
        rc = mdb_dbi_open(txn, db_names[i], MDB_CREATE, &store->dbi[i]);
        if (rc != 0) {
            (void)snprintf(error, size, "cannot open database %s: %s", db_names[i],
                           mdb_strerror(rc));
            return QUEUE_ERR_IO;
        }
    }
    rc = queue_meta_stamp(txn, store->dbi[QUEUE_DB_META]);
    if (rc != 0) {
        (void)snprintf(error, size, "cannot write the schema version: %s", mdb_strerror(rc));
        return QUEUE_ERR_IO;
    }
    return 0;
}

static int attach(struct queue_store *store, char *error, size_t size)
{
    MDB_txn *txn = NULL;
    int dead = 0;
    int rc = open_env(store, &store->env);
    if (rc != 0) {
        (void)snprintf(error, size, "cannot open the store in %s: %s", store->folder,
                       mdb_strerror(rc));
        store->env = NULL;
        return QUEUE_ERR_IO;
    }
    (void)mdb_reader_check(store->env, &dead);
    rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != 0) {
        (void)snprintf(error, size, "cannot begin in %s: %s", store->folder, mdb_strerror(rc));
        rc = QUEUE_ERR_IO;
        goto done;
    }
    rc = open_databases(store, txn, error, size);
    if (rc < 0) {
        mdb_txn_abort(txn);
        goto done;
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0) {
        (void)snprintf(error, size, "cannot write in %s: %s", store->folder, mdb_strerror(rc));
        rc = QUEUE_ERR_IO;
    }
done:
    if (rc < 0) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
    return rc;
}

uint64_t queue_store_reserve(uint64_t max_bytes)
{
    uint64_t reserve = max_bytes / RESERVE_DIV;
    return reserve < RESERVE_MIN ? RESERVE_MIN : reserve;
}

/* A file that outgrew a max_bytes made smaller still gets its reserve. */
static uint64_t map_size(const char *folder, uint64_t max_bytes)
{
    char path[4096];
    struct stat st;
    uint64_t reserve = queue_store_reserve(max_bytes);
    uint64_t base = max_bytes;
    (void)snprintf(path, sizeof path, "%s/data.mdb", folder);
    if (stat(path, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size > base)
        base = (uint64_t)st.st_size;
    uint64_t map = base < MAP_MAX - reserve ? base + reserve : MAP_MAX;
    return (map + PAGE - 1) / PAGE * PAGE;
}

/* The process before this one may have left a page cache that the disk does not agree with. On a
 * full disk of the kind that never writes in place there is no being sure; deliveries must go on.
 */
static int prepare_file(const char *folder, char *error, size_t size)
{
    int rc = queue_file_make(folder);
    if (rc == 0)
        rc = queue_file_settle(folder);
    if (queue_store_code(rc) == QUEUE_ERR_FULL)
        rc = 0;
    if (rc == 0)
        rc = queue_file_fill_lock(folder, LOCK_BYTES);
    if (rc == 0)
        rc = queue_file_sync_folder(folder);
    if (rc == 0)
        return 0;
    (void)snprintf(error, size, "cannot write the store in %s: %s", folder, mdb_strerror(rc));
    return QUEUE_ERR_IO;
}

int queue_store_open(struct queue_store *store, const char *folder, uint64_t max_bytes, char *error,
                     size_t error_size)
{
    pthread_rwlockattr_t attr;
    *store = (struct queue_store){.map_bytes = map_size(folder, max_bytes)};
    store->folder = queue_alloc(strlen(folder) + 1);
    memcpy(store->folder, folder, strlen(folder) + 1);
    (void)pthread_rwlockattr_init(&attr);
    (void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&store->gate, &attr);
    (void)pthread_rwlockattr_destroy(&attr);
    (void)pthread_mutex_init(&store->pool_lock, NULL);
    int rc = prepare_file(folder, error, error_size);
    if (rc == 0)
        rc = attach(store, error, error_size);
    if (rc < 0)
        queue_store_close(store);
    return rc;
}

static void detach(struct queue_store *store)
{
    for (size_t i = 0; i < store->pool_count; i++)
        mdb_txn_abort(store->pool[i]);
    store->pool_count = 0;
    if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
}

void queue_store_close(struct queue_store *store)
{
    if (store->folder == NULL)
        return;
    detach(store);
    (void)pthread_rwlock_destroy(&store->gate);
    (void)pthread_mutex_destroy(&store->pool_lock);
    free(store->folder);
    store->folder = NULL;
}

int queue_store_read(struct queue_store *store, MDB_txn **txn_out)
{
    MDB_txn *txn = NULL;
    int rc = MDB_PANIC;
    (void)pthread_rwlock_rdlock(&store->gate);
    (void)pthread_mutex_lock(&store->pool_lock);
    if (store->pool_count > 0)
        txn = store->pool[--store->pool_count];
    (void)pthread_mutex_unlock(&store->pool_lock);
    if (txn != NULL)
        rc = mdb_txn_renew(txn);
    else if (store->env != NULL)
        rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        if (txn != NULL)
            mdb_txn_abort(txn);
        (void)pthread_rwlock_unlock(&store->gate);
        return QUEUE_ERR_IO;
    }
    *txn_out = txn;
    return 0;
}

void queue_store_read_end(struct queue_store *store, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    (void)pthread_mutex_lock(&store->pool_lock);
    if (store->pool_count < QUEUE_STORE_READERS) {
        store->pool[store->pool_count++] = txn;
        txn = NULL;
    }
    (void)pthread_mutex_unlock(&store->pool_lock);
    if (txn != NULL)
        mdb_txn_abort(txn);
    (void)pthread_rwlock_unlock(&store->gate);
}

int queue_store_write(struct queue_store *store, MDB_txn **txn_out)
{
    return store->env != NULL ? mdb_txn_begin(store->env, NULL, 0, txn_out) : MDB_PANIC;
}

bool queue_store_is_undecided(struct queue_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc == 0)
        mdb_txn_abort(txn);
    return rc == MDB_PANIC;
}

int queue_store_reopen(struct queue_store *store, uint64_t *last_txn_out)
{
    char error[512];
    MDB_env *env = NULL;
    MDB_envinfo info = {0};
    atomic_store(&store->leave, true);
    (void)pthread_rwlock_wrlock(&store->gate);
    atomic_store(&store->leave, false);
    detach(store);
    /* LMDB has put the old meta page back into the page cache, or the new one is there; the disk
     * may have either. Look before anything of ours is written, once what we see is what is on
     * disk. */
    int rc = queue_file_settle(store->folder);
    if (rc == 0)
        rc = open_env(store, &env);
    if (rc == 0) {
        rc = mdb_env_info(env, &info);
        mdb_env_close(env);
    }
    if (rc == 0)
        rc = attach(store, error, sizeof error);
    (void)pthread_rwlock_unlock(&store->gate);
    if (rc != 0)
        return QUEUE_ERR_IO;
    *last_txn_out = info.me_last_txnid;
    return 0;
}

uint64_t queue_store_used(struct queue_store *store, MDB_txn *txn)
{
    uint64_t pages = 2; /* the two meta pages */
    uint64_t page_bytes = PAGE;
    for (size_t i = 0; i < QUEUE_DB_COUNT + 2; i++) {
        MDB_stat stat;
        /* 0 is the list of free pages, 1 the table of databases */
        MDB_dbi dbi = i < QUEUE_DB_COUNT ? store->dbi[i] : (MDB_dbi)(i - QUEUE_DB_COUNT);
        if (mdb_stat(txn, dbi, &stat) != 0)
            continue;
        pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
        page_bytes = stat.ms_psize; /* the system's where the file was made */
    }
    return pages * page_bytes;
}

int queue_store_append(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags)
{
    size_t size = value->mv_size;
    void *data = value->mv_data;
    int rc = mdb_put(txn, dbi, key, value, flags | MDB_APPEND);
    if (rc != MDB_KEYEXIST)
        return rc;
    *value = (MDB_val){.mv_size = size, .mv_data = data};
    return mdb_put(txn, dbi, key, value, flags);
}

int queue_store_delete(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_len)
{
    MDB_val k = queue_val(key, key_len);
    int rc = mdb_del(txn, dbi, &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int queue_store_delete_range(MDB_txn *txn, MDB_dbi dbi, const void *prefix, size_t prefix_len)
{
    MDB_cursor *cursor = NULL;
    MDB_val key = queue_val(prefix, prefix_len);
    MDB_val value;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size >= prefix_len && memcmp(key.mv_data, prefix, prefix_len) == 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}
