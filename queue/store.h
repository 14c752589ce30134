/* queue/store.h - the LMDB environment: opening, databases, transactions, error codes. Private to
 * queue/.
 *
 * Full durability; no DUPSORT, no nested transactions. One write transaction at a time, on the
 * writer's thread; read transactions come from a small pool and are reset between uses. */
#ifndef QUEUE_STORE_H
#define QUEUE_STORE_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "queue/queue.h"

enum queue_db {
    QUEUE_DB_META,
    QUEUE_DB_MESSAGE,  /* id [kind row] -> row (record.h) */
    QUEUE_DB_BODY,     /* id, offset of the first byte -> bytes, checksum (body.h) */
    QUEUE_DB_INCOMING, /* id -> nothing: a body begun; 'r': what is left of a message */
    QUEUE_DB_FRESH,    /* id -> le32 units still fresh */
    QUEUE_DB_DUE,      /* domain NUL lane time id unit -> 'b': nothing but a bounce is to be made */
    QUEUE_DB_NEXT,     /* time lane domain -> nothing */
    QUEUE_DB_ATTEMPT,  /* id recipient n -> row */
    QUEUE_DB_CONTROL,  /* suspensions; made empty */
    QUEUE_DB_DAMAGED,  /* id 'R' -> reason; id 'V' rest of the key -> the row as it was */
    QUEUE_DB_COUNT
};

#define QUEUE_STORE_READERS 64

struct queue_store {
    MDB_env *env; /* NULL: broken, waits for a reopen that works */
    MDB_dbi dbi[QUEUE_DB_COUNT];
    char *folder;
    uint64_t map_bytes;
    pthread_rwlock_t gate; /* readers share it; a reopen has it alone */
    _Atomic bool leave;    /* a reopen waits: readers that stay long must go */
    pthread_mutex_t pool_lock;
    MDB_txn *pool[QUEUE_STORE_READERS]; /* reset, ready to renew */
    size_t pool_count;
};

/* Address space beyond max_bytes, for outcomes and deletions: max_bytes / 16, at least 64 MiB. */
uint64_t queue_store_reserve(uint64_t max_bytes);

/* The map is max_bytes plus the reserve.
 * @return 0, QUEUE_ERR_IO, QUEUE_ERR_SCHEMA; error has the words */
QUEUE_MUST_USE int queue_store_open(struct queue_store *store, const char *folder,
                                    uint64_t max_bytes, char *error, size_t error_size);
void queue_store_close(struct queue_store *store);

const char *queue_store_db_name(enum queue_db db);

/* LMDB's and the system's codes to ours. */
int queue_store_code(int lmdb);

/* A read transaction, held until queue_store_read_end on the same thread. @return 0, QUEUE_ERR_IO
 */
QUEUE_MUST_USE int queue_store_read(struct queue_store *store, MDB_txn **txn_out);
void queue_store_read_end(struct queue_store *store, MDB_txn *txn);

/* Writer's thread. @return 0 or LMDB's code */
QUEUE_MUST_USE int queue_store_write(struct queue_store *store, MDB_txn **txn_out);

/* After a commit that failed: is it undecided, because writing the meta page failed? */
bool queue_store_is_undecided(struct queue_store *store);

/* Close, open again and sync, so that what is read is what is on disk. Writer's thread, no
 * transaction open. @return 0; QUEUE_ERR_IO: the store is broken until a later call works.
 * last_txn_out: the newest committed transaction */
QUEUE_MUST_USE int queue_store_reopen(struct queue_store *store, uint64_t *last_txn_out);

/* Bytes of pages in use, summed from the tables' own counts. */
uint64_t queue_store_used(struct queue_store *store, MDB_txn *txn);

/* mdb_put that tries the cheap way at the end of the tree first. flags: 0, MDB_NOOVERWRITE,
 * MDB_RESERVE */
int queue_store_append(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags);
/* mdb_del to which an absent key is no error. */
int queue_store_delete(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_len);
/* Delete every key that begins with these bytes. */
int queue_store_delete_range(MDB_txn *txn, MDB_dbi dbi, const void *prefix, size_t prefix_len);

static inline MDB_val queue_val(const void *bytes, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)bytes};
}

#endif
