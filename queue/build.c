/* queue/build.c - see build.h. Nothing is synced before the end: until then the store is nobody's.
 */
#include "queue/build.h"

#include <errno.h>
#include <sys/stat.h>

#define PENDING_MAX (UINT64_C(4) << 20)
#define ROOM        (UINT64_C(256) << 20)
#define MAP_MAX     (UINT64_C(1) << 46)

static int open_databases(struct queue_build *build)
{
    int rc = mdb_txn_begin(build->env, NULL, 0, &build->txn);
    for (int i = 0; i < QUEUE_DB_COUNT && rc == 0; i++)
        rc = mdb_dbi_open(build->txn, queue_store_db_name((enum queue_db)i), MDB_CREATE,
                          &build->dbi[i]);
    return rc;
}

int queue_build_begin(struct queue_build *build, const char *folder, uint64_t max_bytes)
{
    uint64_t map = max_bytes < MAP_MAX / 2 ? max_bytes * 2 + ROOM : MAP_MAX;
    *build = (struct queue_build){0};
    if (mkdir(folder, 0700) != 0)
        return errno;
    int rc = mdb_env_create(&build->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(build->env, map / 4096 * 4096);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(build->env, QUEUE_DB_COUNT + 6);
    if (rc == 0)
        rc = mdb_env_open(build->env, folder, MDB_NOSYNC | MDB_NOLOCK, 0600);
    return rc == 0 ? open_databases(build) : rc;
}

static int commit(struct queue_build *build)
{
    MDB_txn *txn = build->txn;
    build->txn = NULL;
    build->pending = 0;
    return mdb_txn_commit(txn);
}

int queue_build_row(struct queue_build *build, enum queue_db db, const MDB_val *key,
                    const MDB_val *value)
{
    MDB_val k = *key;
    MDB_val v = *value;
    int rc = mdb_put(build->txn, build->dbi[db], &k, &v, MDB_APPEND);
    build->pending += key->mv_size + value->mv_size;
    if (rc != 0 || build->pending < PENDING_MAX)
        return rc;
    rc = commit(build);
    return rc == 0 ? mdb_txn_begin(build->env, NULL, 0, &build->txn) : rc;
}

int queue_build_end(struct queue_build *build, int rc)
{
    if (rc == 0)
        rc = commit(build);
    if (rc == 0)
        rc = mdb_env_sync(build->env, 1);
    if (build->txn != NULL)
        mdb_txn_abort(build->txn);
    if (build->env != NULL)
        mdb_env_close(build->env);
    *build = (struct queue_build){0};
    return rc;
}
