/* queue/check.h - a check under way: what its parts share. Private to queue/.
 *
 * One snapshot is read from beginning to end. With repair, changes gather in a write transaction of
 * bounded size beside it; after its commit the snapshot is renewed and the walks seek their place
 * again (check_settle, called where nothing points into the snapshot). */
#ifndef QUEUE_CHECK_H
#define QUEUE_CHECK_H

#include "queue/batch.h"
#include "queue/maintain.h"

/* Kinds of problems; check.c has the words for what repair does about each. */
enum check_kind {
    CHECK_PAGES,
    CHECK_RECORD,
    CHECK_BODY,
    CHECK_BODY_EXTRA,
    CHECK_SUMS,
    CHECK_ENDED,
    CHECK_TWICE,
    CHECK_ORPHAN_BODY,
    CHECK_ORPHAN_ATTEMPT,
    CHECK_ATTEMPT,
    CHECK_ATTEMPT_LOST,
    CHECK_FRESH,
    CHECK_FRESH_STRAY,
    CHECK_DUE,
    CHECK_DUE_STRAY,
    CHECK_NEXT,
    CHECK_NEXT_STRAY,
    CHECK_KEY,
    CHECK_COUNTER,
    CHECK_KIND_COUNT
};

#define CHECK_STOPPED (-1) /* among LMDB's codes: the check was told to stop */

struct check {
    struct queue *queue; /* its store; in a check of its own, only that */
    MDB_txn *txn;        /* the snapshot */
    bool repair;
    bool in_use;               /* by this process: mail flows meanwhile */
    bool writable;             /* the pages are so sound that LMDB may write among them */
    struct queue_batch *batch; /* repair: changes not yet committed; txn NULL: none */
    size_t changes;            /* in it */
    unsigned generation;       /* of the snapshot */
    queue_line_fn line;
    void *ctx;
    struct queue_check_result result;
    uint64_t kinds[CHECK_KIND_COUNT];
    struct queue_state state; /* counted anew */
    uint64_t waiting;         /* units that must have a row in `due` */
    uint64_t interrupted;     /* transfers that the next start sweeps */
    uint64_t leftovers;       /* rows of `due` of messages that were set aside */
    /* Called often; false: stop. NULL: never. */
    bool (*pace)(void *ctx);
    void *pace_ctx;
};

/* ---- check.c ---- */
/* A problem, as a sentence without its end. In a repair it is counted as put right: to be called
 * when what mends it has been done. */
void check_problem(struct check *check, enum check_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Something worth knowing that is no problem. */
void check_note(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline MDB_dbi check_db(const struct check *check, enum queue_db db)
{
    return check->queue->store.dbi[db];
}
/* @return LMDB's code, CHECK_STOPPED */
int check_pace(struct check *check);

/* The pages of the file as of a transaction (0: the newest). @return LMDB's code, CHECK_STOPPED; 1:
 * the file does not hold that state any more */
int check_pages(struct check *check, int fd, uint64_t txnid, bool *readable_out);
int check_contents(struct check *check);
/* A queue whose folder's lock is held, to be read; check->queue is there and zeroed.
 * all_out: every database is there. @return 0; QUEUE_ERR_IO, QUEUE_ERR_SCHEMA with words */
int check_open_to_read(struct check *check, const char *folder, bool *all_out, char *error,
                       size_t size);
void check_close(struct check *check);
/* queue_check of a folder whose lock is held. */
int check_folder(const char *folder, bool repair, queue_line_fn line, void *ctx,
                 struct queue_check_result *result_out, char *error, size_t error_size);

/* ---- the walks; each @return LMDB's code, CHECK_STOPPED ---- */
int check_messages(struct check *check); /* check_walk.c: everything that is keyed by id */
int check_due(struct check *check);      /* check_due.c: `due` and `next` */
int check_meta(struct check *check);     /* check_meta.c: counters, `control` */

/* ---- check_walk.c: the rows of one database, in step with those of the others ---- */
struct check_rows {
    struct check *check;
    enum queue_db db;
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    bool end;
    uint64_t id; /* of the row at hand */
};
/* The next row. @return LMDB's code; rows->end: there is none */
int check_rows_next(struct check_rows *rows);
static inline bool check_rows_at(const struct check_rows *rows, uint64_t id)
{
    return !rows->end && rows->id == id;
}

/* The databases whose keys begin with an id, all at the same one. */
struct check_walk {
    struct check_rows message, body, attempt, fresh, incoming, damaged;
};

/* ---- check_message.c ---- */
/* The walk stands at rows of this message; it may leave them behind or not. */
int check_message(struct check *check, struct check_walk *walk, uint64_t id);

/* ---- check_fix.c: changes; without repair they do nothing. @return LMDB's code ---- */
int check_put_state(struct check *check); /* the counters, as counted */
int check_put(struct check *check, enum queue_db db, const void *key, size_t key_len,
              const void *value, size_t len);
int check_delete(struct check *check, enum queue_db db, const void *key, size_t key_len);
/* Keep a row that no version writes under id 0 of `damaged`, and take it from where it is. */
int check_keep_foreign(struct check *check, enum queue_db db, const MDB_val *key,
                       const MDB_val *value);
int check_set_aside(struct check *check, uint64_t id, const char *reason);
/* Remove every row of a message that has ended. */
int check_remove(struct check *check, uint64_t id);
/* Commit if much has gathered, or anyway. The snapshot is then a new one (generation). */
int check_settle(struct check *check, bool anyway);

#endif
