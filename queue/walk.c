/* queue/walk.c - listings: attempts, fresh, next, due, ids, damaged. Any thread.
 *
 * A read transaction is held for one bounded step: rows are copied out, the transaction is given
 * back, then callbacks run; the next step seeks again by key. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

#define STEP       256                 /* rows looked at in one step */
#define STEP_BYTES ((size_t)256 << 10) /* and bytes taken */
#define KEY_MAX    512                 /* LMDB's is 511 */
#define IDS_MAX    16384               /* ids given at once */

/* ---- walking a database in steps ---- */

struct step {
    struct queue *queue;
    enum queue_db db;
    uint8_t key[KEY_MAX]; /* where the next step begins */
    size_t key_len;
    bool after;             /* beyond that key */
    struct queue_bytes out; /* rows: le32 key length, le32 value length, key, value, NUL */
    bool more;              /* the step ended because it was full */
};

static void step_init(struct step *step, struct queue *queue, enum queue_db db, const void *key,
                      size_t key_len)
{
    *step = (struct step){.queue = queue, .db = db, .key_len = key_len};
    if (key_len > 0)
        memcpy(step->key, key, key_len);
}

static void step_add(struct step *step, const MDB_val *key, const MDB_val *value)
{
    queue_bytes_32(&step->out, (uint32_t)key->mv_size);
    queue_bytes_32(&step->out, (uint32_t)value->mv_size);
    queue_bytes_add(&step->out, key->mv_data, key->mv_size);
    queue_bytes_add(&step->out, value->mv_data, value->mv_size);
}

static void step_pass(struct step *step, const MDB_val *key)
{
    if (key->mv_size >= KEY_MAX)
        return;
    memcpy(step->key, key->mv_data, key->mv_size);
    step->key_len = key->mv_size;
    step->after = true;
}

/* Does a row belong to the walk? -1: not any more, the walk ends; 0: leave it out; 1: take it */
typedef int (*step_fn)(const struct step *step, MDB_txn *txn, const MDB_val *key, void *ctx);

static int step_first(const struct step *step, MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
    *key = queue_val(step->key, step->key_len);
    int rc = mdb_cursor_get(cursor, key, value, step->key_len > 0 ? MDB_SET_RANGE : MDB_FIRST);
    if (rc == 0 && step->after && key->mv_size == step->key_len &&
        memcmp(key->mv_data, step->key, step->key_len) == 0)
        rc = mdb_cursor_get(cursor, key, value, MDB_NEXT);
    return rc;
}

/* Take the next rows. @return 0, QUEUE_ERR_IO */
static int step_run(struct step *step, step_fn wants, void *ctx)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    step->out.len = 0;
    step->more = false;
    int rc = queue_store_read(&step->queue->store, &txn);
    if (rc < 0)
        return rc;
    rc = mdb_cursor_open(txn, step->queue->store.dbi[step->db], &cursor);
    if (rc != 0) {
        queue_store_read_end(&step->queue->store, txn);
        return QUEUE_ERR_IO;
    }
    rc = step_first(step, cursor, &key, &value);
    for (size_t looked = 0; rc == 0; looked++) {
        int want = key.mv_size < KEY_MAX ? wants(step, txn, &key, ctx) : 0;
        step->more = want >= 0 && (looked >= STEP || step->out.len >= STEP_BYTES);
        if (want < 0 || step->more)
            break;
        if (want > 0)
            step_add(step, &key, &value);
        step_pass(step, &key);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    queue_store_read_end(&step->queue->store, txn);
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : QUEUE_ERR_IO;
}

static void step_row(struct queue_walk *walk, MDB_val *key, MDB_val *value)
{
    uint32_t key_len = queue_walk_32(walk);
    uint32_t value_len = queue_walk_32(walk);
    *key = queue_val(queue_walk_raw(walk, key_len), key_len);
    *value = queue_val(queue_walk_raw(walk, value_len), value_len);
}

/* Called for each taken row, without a transaction. @return false: stop */
typedef bool (*row_fn)(struct queue *queue, const MDB_val *key, const MDB_val *value, void *ctx);

static int walk_rows(struct step *step, step_fn wants, row_fn fn, void *ctx)
{
    int rc = 0;
    bool go = true;
    do {
        rc = step_run(step, wants, ctx);
        struct queue_walk walk = {.p = step->out.p, .left = step->out.len};
        while (rc == 0 && go && walk.left > 0) {
            MDB_val key;
            MDB_val value;
            step_row(&walk, &key, &value);
            go = fn(step->queue, &key, &value, ctx);
        }
    } while (rc == 0 && go && step->more);
    queue_bytes_deinit(&step->out);
    return rc;
}

static bool has_id(const MDB_val *key, const uint8_t id[8])
{
    return key->mv_size >= 8 && memcmp(key->mv_data, id, 8) == 0;
}

/* ---- attempts ---- */

struct attempts {
    uint8_t id[8];
    queue_attempt_fn fn;
    void *ctx;
};

static int wants_attempt(const struct step *step, MDB_txn *txn, const MDB_val *key, void *ctx)
{
    const struct attempts *attempts = ctx;
    (void)step;
    (void)txn;
    if (!has_id(key, attempts->id))
        return -1;
    return key->mv_size == QUEUE_ATTEMPT_KEY ? 1 : 0;
}

/* An attempt that does not decode is left out: it is history, nothing depends on it. */
static bool on_attempt_row(struct queue *queue, const MDB_val *key, const MDB_val *value, void *ctx)
{
    const struct attempts *attempts = ctx;
    struct queue_attempt attempt;
    (void)queue;
    if (queue_attempt_read(&attempt, value->mv_data, value->mv_size) != NULL)
        return true;
    uint32_t recipient = (uint32_t)(queue_be64_get((const uint8_t *)key->mv_data + 8) >> 32);
    return attempts->fn(recipient, &attempt, attempts->ctx);
}

int queue_read_attempts(struct queue *queue, uint64_t id, queue_attempt_fn fn, void *ctx)
{
    struct attempts attempts = {.fn = fn, .ctx = ctx};
    struct step step;
    queue_be64_put(attempts.id, id);
    step_init(&step, queue, QUEUE_DB_ATTEMPT, attempts.id, sizeof attempts.id);
    return walk_rows(&step, wants_attempt, on_attempt_row, &attempts);
}

/* ---- next ---- */

struct nexts {
    int64_t until_ms;
    queue_next_fn fn;
    void *ctx;
};

static int wants_next(const struct step *step, MDB_txn *txn, const MDB_val *key, void *ctx)
{
    const struct nexts *nexts = ctx;
    char domain[QUEUE_DOMAIN_MAX + 1];
    enum queue_lane lane = QUEUE_LANE_NEW;
    int64_t due = 0;
    (void)step;
    (void)txn;
    if (!queue_next_key_read(key, domain, &lane, &due))
        return 0;
    return due <= nexts->until_ms ? 1 : -1;
}

static bool on_next_row(struct queue *queue, const MDB_val *key, const MDB_val *value, void *ctx)
{
    const struct nexts *nexts = ctx;
    char domain[QUEUE_DOMAIN_MAX + 1];
    enum queue_lane lane = QUEUE_LANE_NEW;
    int64_t due = 0;
    (void)queue;
    (void)value;
    return !queue_next_key_read(key, domain, &lane, &due) ||
           nexts->fn(due, lane, domain, nexts->ctx);
}

int queue_read_next(struct queue *queue, int64_t after_ms, enum queue_lane after_lane,
                    const char *after_domain, int64_t until_ms, queue_next_fn fn, void *ctx)
{
    struct nexts nexts = {.until_ms = until_ms, .fn = fn, .ctx = ctx};
    struct step step;
    uint8_t key[QUEUE_NEXT_KEY];
    int64_t after = after_ms > 0 ? after_ms : 0;
    size_t len = queue_next_key(key, after_domain != NULL ? after_domain : "", after_lane, after);
    if (after_domain == NULL)
        len = sizeof(uint64_t); /* the time alone comes before all of that time */
    step_init(&step, queue, QUEUE_DB_NEXT, key, len);
    step.after = true;
    return walk_rows(&step, wants_next, on_next_row, &nexts);
}

/* ---- due ---- */

struct dues {
    uint8_t prefix[QUEUE_DUE_KEY]; /* domain and lane; then the time to begin with */
    size_t prefix_len;
    int64_t until_ms;
    int64_t later_ms; /* QUEUE_NEVER: none, or stopped before */
    queue_draw_fn fn;
    void *ctx;
};

static bool has_message(const struct queue_store *store, MDB_txn *txn, uint64_t id)
{
    uint8_t bytes[8];
    MDB_val value;
    queue_be64_put(bytes, id);
    MDB_val key = queue_val(bytes, sizeof bytes);
    return mdb_get(txn, store->dbi[QUEUE_DB_MESSAGE], &key, &value) != MDB_NOTFOUND;
}

static int wants_due(const struct step *step, MDB_txn *txn, const MDB_val *key, void *ctx)
{
    struct dues *dues = ctx;
    struct queue_due_row row;
    if (key->mv_size < dues->prefix_len ||
        memcmp(key->mv_data, dues->prefix, dues->prefix_len) != 0)
        return -1;
    if (!queue_due_key_read(key, &row))
        return 0;
    bool later = row.due_unix_ms > dues->until_ms;
    if (!has_message(&step->queue->store, txn, row.id)) {
        if (!later)
            queue_damaged_stray(step->queue, &row);
        return 0;
    }
    if (!later)
        return 1;
    dues->later_ms = row.due_unix_ms;
    return -1;
}

static bool on_due_row(struct queue *queue, const MDB_val *key, const MDB_val *value, void *ctx)
{
    struct dues *dues = ctx;
    struct queue_due_row row;
    (void)queue;
    if (!queue_due_key_read(key, &row))
        return true;
    struct queue_due_entry entry = {
        .due_unix_ms = row.due_unix_ms,
        .id = row.id,
        .unit = row.unit,
        .bounce_only = value->mv_size > 0,
    };
    if (dues->fn(&entry, dues->ctx))
        return true;
    dues->later_ms = QUEUE_NEVER;
    return false;
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are queue.h's */
int queue_draw_due(struct queue *queue, const char *domain, enum queue_lane lane, int64_t from_ms,
                   int64_t until_ms, queue_draw_fn fn, void *ctx, int64_t *later_out)
{
    struct dues dues = {.until_ms = until_ms, .later_ms = QUEUE_NEVER, .fn = fn, .ctx = ctx};
    struct step step;
    int rc = 0;
    if (strlen(domain) <= QUEUE_DOMAIN_MAX) {
        dues.prefix_len = queue_due_prefix(dues.prefix, domain, lane);
        queue_be64_put(dues.prefix + dues.prefix_len, from_ms > 0 ? (uint64_t)from_ms : 0);
        step_init(&step, queue, QUEUE_DB_DUE, dues.prefix, dues.prefix_len + 8);
        rc = walk_rows(&step, wants_due, on_due_row, &dues);
    }
    if (rc == 0 && later_out != NULL)
        *later_out = dues.later_ms;
    return rc;
}

struct plain_dues {
    queue_due_fn fn;
    void *ctx;
};

static bool tell_plain(const struct queue_due_entry *entry, void *ctx)
{
    const struct plain_dues *dues = ctx;
    return dues->fn(entry->due_unix_ms, entry->id, entry->unit, dues->ctx);
}

int queue_read_due(struct queue *queue, const char *domain, enum queue_lane lane, int64_t until_ms,
                   queue_due_fn fn, void *ctx, int64_t *later_out)
{
    struct plain_dues dues = {fn, ctx};
    return queue_draw_due(queue, domain, lane, 0, until_ms, tell_plain, &dues, later_out);
}

/* ---- damaged ---- */

struct damaged {
    struct queue_damaged at; /* being gathered: the reason row comes first, then the rows */
    char reason[256];
    bool some;
    queue_damaged_fn fn;
    void *ctx;
};

static int wants_all(const struct step *step, MDB_txn *txn, const MDB_val *key, void *ctx)
{
    (void)step;
    (void)txn;
    (void)ctx;
    return key->mv_size >= 9 ? 1 : 0;
}

static bool on_damaged_row(struct queue *queue, const MDB_val *key, const MDB_val *value, void *ctx)
{
    struct damaged *damaged = ctx;
    uint64_t id = queue_be64_get(key->mv_data);
    (void)queue;
    if (((const uint8_t *)key->mv_data)[8] != 'R') {
        if (damaged->some && damaged->at.id == id)
            damaged->at.bytes += value->mv_size;
        return true;
    }
    if (damaged->some && !damaged->fn(&damaged->at, damaged->ctx)) {
        damaged->some = false;
        return false;
    }
    size_t len =
        value->mv_size < sizeof damaged->reason ? value->mv_size : sizeof damaged->reason - 1;
    memcpy(damaged->reason, value->mv_data, len);
    damaged->reason[len] = '\0';
    damaged->at = (struct queue_damaged){.id = id, .reason = damaged->reason};
    damaged->some = true;
    return true;
}

int queue_read_damaged(struct queue *queue, queue_damaged_fn fn, void *ctx)
{
    struct damaged damaged = {.fn = fn, .ctx = ctx};
    struct step step;
    step_init(&step, queue, QUEUE_DB_DAMAGED, "", 0);
    int rc = walk_rows(&step, wants_all, on_damaged_row, &damaged);
    if (rc == 0 && damaged.some)
        (void)fn(&damaged.at, ctx);
    return rc;
}

/* ---- ids ---- */

/* Ids of a database, from `from` on: those of its rows whose key is an id and one more octet at
 * most. Others are further rows of something, and stepped over. @return count, QUEUE_ERR_IO */
static long list_ids(MDB_txn *txn, MDB_dbi dbi, uint64_t from, uint64_t *ids_out, size_t max)
{
    MDB_cursor *cursor = NULL;
    uint8_t bytes[8];
    MDB_val value;
    size_t count = 0;
    queue_be64_put(bytes, from);
    MDB_val key = queue_val(bytes, sizeof bytes);
    if (mdb_cursor_open(txn, dbi, &cursor) != 0)
        return QUEUE_ERR_IO;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && count < max) {
        if (key.mv_size < 8) { /* not one of ours */
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
            continue;
        }
        uint64_t id = queue_be64_get(key.mv_data);
        if (key.mv_size == 8 || key.mv_size == 9)
            ids_out[count++] = id;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (rc != 0 || key.mv_size <= 8)
            continue;
        if (id == UINT64_MAX)
            break;
        queue_be64_put(bytes, id + 1);
        key = queue_val(bytes, sizeof bytes);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? (long)count : QUEUE_ERR_IO;
}

long queue_read_fresh(struct queue *queue, uint64_t from, uint64_t *ids_out, size_t max)
{
    MDB_txn *txn = NULL;
    int rc = queue_store_read(&queue->store, &txn);
    if (rc < 0)
        return rc;
    long count = list_ids(txn, queue->store.dbi[QUEUE_DB_FRESH], from, ids_out,
                          max < IDS_MAX ? max : IDS_MAX);
    queue_store_read_end(&queue->store, txn);
    return count;
}

/* Two ascending lists into one, at most max. */
static size_t merge(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count,
                    uint64_t *out, size_t max)
{
    size_t i = 0;
    size_t j = 0;
    size_t count = 0;
    while (count < max && (i < a_count || j < b_count)) {
        bool first = j >= b_count || (i < a_count && a[i] <= b[j]);
        uint64_t id = first ? a[i++] : b[j++];
        if (count == 0 || out[count - 1] != id)
            out[count++] = id;
    }
    return count;
}

long queue_read_ids(struct queue *queue, uint64_t after, uint64_t *ids_out, size_t max)
{
    MDB_txn *txn = NULL;
    if (max > IDS_MAX)
        max = IDS_MAX;
    if (max == 0 || after == UINT64_MAX)
        return 0;
    int rc = queue_store_read(&queue->store, &txn);
    if (rc < 0)
        return rc;
    uint64_t *ids = queue_alloc(2 * max * sizeof *ids);
    long good = list_ids(txn, queue->store.dbi[QUEUE_DB_MESSAGE], after + 1, ids, max);
    long bad = list_ids(txn, queue->store.dbi[QUEUE_DB_DAMAGED], after + 1, ids + max, max);
    queue_store_read_end(&queue->store, txn);
    long count = QUEUE_ERR_IO;
    if (good >= 0 && bad >= 0)
        count = (long)merge(ids, (size_t)good, ids + max, (size_t)bad, ids_out, max);
    free(ids);
    return count;
}
