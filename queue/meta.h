/* queue/meta.h - the schema version and the counters in database `meta`. Private to queue/. */
#ifndef QUEUE_META_H
#define QUEUE_META_H

#include <lmdb.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_SCHEMA "2"

struct queue_store;

/* Changed in the very transaction that changes what they count. */
struct queue_state {
    uint64_t messages;
    uint64_t units_fresh; /* no attempt finished yet */
    uint64_t units_deferred;
    uint64_t units_held;
    uint64_t damaged;   /* messages set aside */
    uint64_t bytes;     /* of message bodies */
    uint64_t id_high;   /* no id up to this one is given out again */
    uint64_t newest_ms; /* newest wall time seen at a commit */
};

/* Refuse a store of another schema before anything in it is opened for writing.
 * @return 0, QUEUE_ERR_SCHEMA, QUEUE_ERR_IO */
int queue_meta_check(MDB_txn *txn, char *error, size_t error_size);
/* Write the schema version if there is none. @return LMDB's code */
int queue_meta_stamp(MDB_txn *txn, MDB_dbi meta);

/* @return LMDB's code; MDB_NOTFOUND: none yet or damaged (then count with queue_meta_recount) */
int queue_meta_read(struct queue_store *store, MDB_txn *txn, struct queue_state *state_out);
int queue_meta_write(struct queue_store *store, MDB_txn *txn, const struct queue_state *state);
/* Count everything anew: the one scan, for a store whose counters are lost. @return LMDB's code */
int queue_meta_recount(struct queue_store *store, MDB_txn *txn, struct queue_state *state_out);

#endif
