/* queue/build.h - a new store made by inserting rows in order: compact, whatever they come from.
 * Private to queue/. */
#ifndef QUEUE_BUILD_H
#define QUEUE_BUILD_H

#include "queue/store.h"

struct queue_build {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi[QUEUE_DB_COUNT];
    uint64_t pending; /* bytes in the transaction */
};

/* Make the folder, which must not exist, and an empty store in it. max_bytes: more than will be put
 * in. @return LMDB's code or errno */
int queue_build_begin(struct queue_build *build, const char *folder, uint64_t max_bytes);
/* Rows of one database in ascending order. @return LMDB's code; MDB_KEYEXIST: they are not */
int queue_build_row(struct queue_build *build, enum queue_db db, const MDB_val *key,
                    const MDB_val *value);
/* Commit and sync, if all went well so far (rc 0), and close. @return rc, LMDB's code */
int queue_build_end(struct queue_build *build, int rc);

#endif
