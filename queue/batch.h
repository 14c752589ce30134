/* queue/batch.h - one transaction of the writer, and what will be told once it is committed.
 * Writer's thread. */
#ifndef QUEUE_BATCH_H
#define QUEUE_BATCH_H

#include "queue/queue_private.h"
#include "queue/record.h"

struct queue_due_note {
    size_t domain; /* offset in names */
    enum queue_lane lane;
    int64_t due_unix_ms;
};

struct queue_batch {
    struct queue *queue;
    MDB_txn *txn;
    struct queue_state state; /* working copy; published by the commit */
    uint64_t body_bytes;      /* put into this transaction */
    int64_t wall_ms;
    int64_t end_ns; /* when a job that can go on in the next transaction should stop */
    bool admin;     /* an admin's step is in it */
    /* told after the commit */
    struct queue_unit_ref *fresh; /* domains belong to jobs, which live until then */
    size_t fresh_count;
    size_t fresh_cap;
    struct queue_due_note *due;
    size_t due_count;
    size_t due_cap;
    uint64_t *removed;
    size_t removed_count;
    size_t removed_cap;
    uint64_t *sweeps; /* submitted then */
    size_t sweep_count;
    size_t sweep_cap;
    struct queue_bytes names;   /* domains of due notes */
    struct queue_bytes notices; /* lines, each with its NUL */
    struct queue_edit *edit;    /* scratch, kept between jobs */
};

struct queue_batch *queue_batch_new(struct queue *queue);
void queue_batch_free(struct queue_batch **batchp);
/* @return LMDB's code */
int queue_batch_begin(struct queue_batch *batch);
/* Write the counters and commit. txn_out: this transaction's number. @return LMDB's code */
int queue_batch_commit(struct queue_batch *batch, uint64_t *txn_out);
void queue_batch_abort(struct queue_batch *batch);
/* Call the options' functions with what gathered. */
void queue_batch_tell(struct queue_batch *batch);

void queue_batch_note_fresh(struct queue_batch *batch, const struct queue_unit_ref *units,
                            size_t count);
void queue_batch_note_due(struct queue_batch *batch, const char *domain, enum queue_lane lane,
                          int64_t due_unix_ms);
void queue_batch_note_removed(struct queue_batch *batch, uint64_t id);
void queue_batch_note_sweep(struct queue_batch *batch, uint64_t id);
void queue_batch_note_text(struct queue_batch *batch, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline MDB_dbi queue_batch_db(const struct queue_batch *batch, enum queue_db db)
{
    return batch->queue->store.dbi[db];
}

/* ---- due.c: the rows that say when ---- */
#define QUEUE_DUE_KEY  (QUEUE_DOMAIN_MAX + 1 + 1 + 8 + 8 + 2)
#define QUEUE_NEXT_KEY (8 + 1 + QUEUE_DOMAIN_MAX)

struct queue_due_row {
    const char *domain;
    enum queue_lane lane;
    int64_t due_unix_ms;
    bool bounces; /* in the value, not the key */
    uint64_t id;
    uint16_t unit;
};

size_t queue_due_key(uint8_t key[QUEUE_DUE_KEY], const struct queue_due_row *row);
static inline MDB_val queue_due_value(const struct queue_due_row *row)
{
    return queue_val("b", row->bounces ? 1 : 0);
}
/* What the keys of a lane begin with. */
size_t queue_due_prefix(uint8_t key[QUEUE_DUE_KEY], const char *domain, enum queue_lane lane);
/* @return false: not such a key. The domain points into it. */
bool queue_due_key_read(const MDB_val *key, struct queue_due_row *row_out);
size_t queue_next_key(uint8_t key[QUEUE_NEXT_KEY], const char *domain, enum queue_lane lane,
                      int64_t due_unix_ms);
bool queue_next_key_read(const MDB_val *key, char domain[QUEUE_DOMAIN_MAX + 1],
                         enum queue_lane *lane_out, int64_t *due_out);

/* Take a unit's row out of `due`, put one in (NULL: none; the domain is the same), keep `next`
 * exact, tell of what came in. @return LMDB's code */
int queue_due_move(struct queue_batch *batch, const struct queue_due_row *from,
                   const struct queue_due_row *to);
/* The `fresh` row of a message: how many of its units are fresh (0: no row). */
int queue_fresh_set(struct queue_batch *batch, uint64_t id, uint32_t units);

/* ---- message.c: changing a stored message ---- */
struct queue_edit {
    struct queue_batch *batch;
    uint64_t id;
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint32_t units_row; /* which further row is loaded */
    uint32_t rcpts_row;
    bool units_dirty;
    bool rcpts_dirty;
    bool head_dirty;
    const char
        *damaged; /* the reason, once something did not decode; the message is set aside then */
    struct queue_bytes head_bytes; /* copies that the structs above point into */
    struct queue_bytes units_bytes;
    struct queue_bytes rcpts_bytes;
    struct queue_bytes out;
};

void queue_edit_deinit(struct queue_edit *edit);
/* @return LMDB's code. found_out false: no such message, or damaged (edit->damaged) and set aside.
 */
int queue_edit_open(struct queue_edit *edit, struct queue_batch *batch, uint64_t id,
                    bool *found_out);
/* NULL in *out: no such number, or damaged. Valid until the next call of the same function. */
int queue_edit_unit(struct queue_edit *edit, uint32_t unit, struct queue_unit_row **out);
int queue_edit_rcpt(struct queue_edit *edit, uint32_t recipient, struct queue_rcpt_row **out);
/* Write what is dirty. */
int queue_edit_save(struct queue_edit *edit);
/* Remove every row of the message; its units' due rows are the caller's matter. */
int queue_edit_remove(struct queue_edit *edit);
/* A unit was changed (`before`: what it was): bring `due`, `next`, `fresh` and the counters after
 * it. @return LMDB's code */
int queue_edit_place(struct queue_edit *edit, uint32_t number, const struct queue_unit_row *before,
                     const struct queue_unit_row *unit);
/* Store an encoded attempt as the recipient's n-th; the first and the last 20 are kept. */
int queue_edit_attempt(struct queue_edit *edit, uint32_t recipient, uint32_t n, const void *row,
                       size_t len);

/* ---- accept.c: a message encoded and ready to be stored ---- */
struct queue_new {
    uint64_t id;
    uint64_t body_bytes;
    struct queue_bytes rows; /* each: le32 length, key length, key, row */
    struct queue_unit_ref *units;
    size_t unit_count;
};

/* Any thread. @return NULL: the envelope is over a limit */
struct queue_new *queue_new_encode(uint64_t id, const struct queue_envelope *envelope,
                                   uint64_t body_bytes);
void queue_new_free(struct queue_new **newp);
/* Write its rows and its `fresh` row, count it, note it. The body is the caller's matter.
 * MDB_KEYEXIST: the id is taken. */
int queue_new_store(struct queue_batch *batch, const struct queue_new *message);

/* ---- sweep.c ---- */
/* Is it too much to be removed at once? */
bool queue_sweep_is_large(const struct queue_head *head);
/* Its head is gone: have the rest removed after this transaction. @return LMDB's code */
int queue_sweep_later(struct queue_batch *batch, uint64_t id);
/* A row of `incoming`: of a message that was in the queue? */
bool queue_sweep_is_removed(const MDB_val *value);

/* ---- damaged.c ---- */
/* Move the message's rows to `damaged`. @return LMDB's code */
int queue_set_aside(struct queue_batch *batch, uint64_t id, const char *reason);
/* Delete a message that was set aside. found_out: there was one */
int queue_damaged_delete(struct queue_batch *batch, uint64_t id, bool *found_out);

/* ---- read.c ---- */
/* Load and decode. @return 0; 1: no such; QUEUE_ERR_DAMAGED with *reason_out; QUEUE_ERR_IO */
int queue_message_load(struct queue_store *store, MDB_txn *txn, uint64_t id,
                       struct queue_message **out, const char **reason_out);
/* The decoded rows as their readers see them. Pointers are handed on; counts and texts of an
 * envelope are the head's. */
struct queue_unit queue_unit_seen(const struct queue_unit_row *row);
struct queue_recipient queue_rcpt_seen(const struct queue_rcpt_row *row, const char *domain);
struct queue_envelope queue_head_seen(const struct queue_head *head);

#endif
