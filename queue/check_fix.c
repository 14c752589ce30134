/* queue/check_fix.c - what a repair writes: in transactions of bounded size. */
#include <string.h>

#include "queue/check.h"

#define CHANGES_MAX 1000
#define BYTES_MAX   (UINT64_C(4) << 20)
#define KEY_MAX     511 /* LMDB's */

static int begin(struct check *check)
{
    struct queue_batch *batch = check->batch;
    if (batch->txn != NULL)
        return 0;
    check->changes = 0;
    batch->body_bytes = 0;
    return queue_store_write(&check->queue->store, &batch->txn);
}

int check_put(struct check *check, enum queue_db db, const void *key, size_t key_len,
              const void *value, size_t len)
{
    MDB_val k = queue_val(key, key_len);
    MDB_val v = queue_val(value, len);
    if (!check->repair)
        return 0;
    int rc = begin(check);
    if (rc != 0)
        return rc;
    check->changes++;
    check->batch->body_bytes += len;
    return mdb_put(check->batch->txn, check_db(check, db), &k, &v, 0);
}

int check_delete(struct check *check, enum queue_db db, const void *key, size_t key_len)
{
    if (!check->repair)
        return 0;
    int rc = begin(check);
    if (rc != 0)
        return rc;
    check->changes++;
    return queue_store_delete(check->batch->txn, check_db(check, db), key, key_len);
}

int check_keep_foreign(struct check *check, enum queue_db db, const MDB_val *key,
                       const MDB_val *value)
{
    static const char reason[] = "rows that no version of this program writes";
    uint8_t bytes[KEY_MAX] = {0}; /* id 0, which no message has */
    size_t len = key->mv_size < KEY_MAX - 10 ? key->mv_size : KEY_MAX - 10;
    bytes[8] = 'R';
    int rc = check_put(check, QUEUE_DB_DAMAGED, bytes, 9, reason, sizeof reason - 1);
    bytes[8] = 'V';
    bytes[9] = (uint8_t)('a' + (int)db);
    memcpy(bytes + 10, key->mv_data, len);
    if (rc == 0)
        rc = check_put(check, QUEUE_DB_DAMAGED, bytes, 10 + len, value->mv_data, value->mv_size);
    return rc == 0 ? check_delete(check, db, key->mv_data, key->mv_size) : rc;
}

int check_set_aside(struct check *check, uint64_t id, const char *reason)
{
    if (!check->repair)
        return 0;
    int rc = begin(check);
    if (rc != 0)
        return rc;
    check->changes++;
    return queue_set_aside(check->batch, id, reason);
}

int check_remove(struct check *check, uint64_t id)
{
    static const enum queue_db dbs[] = {QUEUE_DB_MESSAGE, QUEUE_DB_BODY, QUEUE_DB_ATTEMPT,
                                        QUEUE_DB_FRESH};
    uint8_t bytes[8];
    if (!check->repair)
        return 0;
    queue_be64_put(bytes, id);
    int rc = begin(check);
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0] && rc == 0; i++)
        rc = queue_store_delete_range(check->batch->txn, check_db(check, dbs[i]), bytes, 8);
    check->changes++;
    return rc;
}

int check_settle(struct check *check, bool anyway)
{
    struct queue_batch *batch = check->batch;
    if (!check->repair || batch->txn == NULL ||
        (!anyway && check->changes < CHANGES_MAX && batch->body_bytes < BYTES_MAX))
        return 0;
    MDB_txn *txn = batch->txn;
    batch->txn = NULL;
    batch->notices.len = 0; /* the check has its own words */
    mdb_txn_reset(check->txn);
    check->generation++;
    int rc = mdb_txn_commit(txn);
    int renewed = mdb_txn_renew(check->txn);
    return rc != 0 ? rc : renewed;
}

int check_put_state(struct check *check)
{
    if (!check->repair)
        return 0;
    int rc = begin(check);
    check->changes++;
    return rc == 0 ? queue_meta_write(&check->queue->store, check->batch->txn, &check->state) : rc;
}
