/* queue/check_walk.c - everything that is keyed by a message's id, read side by side in one pass:
 * so that no database is looked up at random and what belongs to nothing shows. */
#include <errno.h>
#include <string.h>

#include "queue/body.h"
#include "queue/check.h"

#define STREAMS 6

static struct check_rows *rows_at(struct check_walk *walk, size_t i)
{
    struct check_rows *const all[STREAMS] = {&walk->message, &walk->body,     &walk->attempt,
                                             &walk->fresh,   &walk->incoming, &walk->damaged};
    return all[i];
}

/* ---- rows ---- */

static bool is_known_key(enum queue_db db, const MDB_val *key)
{
    if (db == QUEUE_DB_BODY)
        return key->mv_size == QUEUE_BODY_KEY;
    if (db == QUEUE_DB_ATTEMPT)
        return key->mv_size == QUEUE_ATTEMPT_KEY;
    if (db == QUEUE_DB_DAMAGED) {
        const uint8_t *p = key->mv_data;
        return (key->mv_size == 9 && p[8] == 'R') || (key->mv_size >= 9 && p[8] == 'V');
    }
    return key->mv_size == 8 || (db == QUEUE_DB_MESSAGE && key->mv_size == QUEUE_MESSAGE_KEY);
}

/* Take over where the cursor stands; step over rows with keys that none of ours has. */
static int load(struct check_rows *rows, int rc)
{
    while (rc == 0 && !is_known_key(rows->db, &rows->key)) {
        rc = check_keep_foreign(rows->check, rows->db, &rows->key, &rows->value);
        if (rc != 0)
            return rc;
        check_problem(rows->check, CHECK_KEY,
                      "a row in the database of %s has a key that no version writes",
                      rows->db == QUEUE_DB_BODY ? "message bytes" : "records");
        rc = mdb_cursor_get(rows->cursor, &rows->key, &rows->value, MDB_NEXT);
    }
    rows->end = rc == MDB_NOTFOUND;
    if (rc == 0)
        rows->id = queue_be64_get(rows->key.mv_data);
    return rows->end ? 0 : rc;
}

int check_rows_next(struct check_rows *rows)
{
    return load(rows, mdb_cursor_get(rows->cursor, &rows->key, &rows->value, MDB_NEXT));
}

static int rows_seek(struct check_rows *rows, uint64_t id)
{
    uint8_t bytes[8];
    queue_be64_put(bytes, id);
    rows->key = queue_val(bytes, sizeof bytes);
    return load(rows, mdb_cursor_get(rows->cursor, &rows->key, &rows->value,
                                     id == 0 ? MDB_FIRST : MDB_SET_RANGE));
}

/* ---- the walk ---- */

static void close_walk(struct check_walk *walk)
{
    for (size_t i = 0; i < STREAMS; i++) {
        struct check_rows *rows = rows_at(walk, i);
        if (rows->cursor != NULL)
            mdb_cursor_close(rows->cursor);
        rows->cursor = NULL;
    }
}

/* Open on the snapshot at hand, from this id on. */
static int open_walk(struct check *check, struct check_walk *walk, uint64_t id)
{
    static const enum queue_db dbs[STREAMS] = {QUEUE_DB_MESSAGE,  QUEUE_DB_BODY,
                                               QUEUE_DB_ATTEMPT,  QUEUE_DB_FRESH,
                                               QUEUE_DB_INCOMING, QUEUE_DB_DAMAGED};
    int rc = 0;
    for (size_t i = 0; i < STREAMS && rc == 0; i++) {
        struct check_rows *rows = rows_at(walk, i);
        *rows = (struct check_rows){.check = check, .db = dbs[i]};
        rc = mdb_cursor_open(check->txn, check_db(check, dbs[i]), &rows->cursor);
        if (rc == 0)
            rc = rows_seek(rows, id);
    }
    return rc;
}

/* @return false: all are at their end */
static bool lowest_id(struct check_walk *walk, uint64_t *id_out)
{
    bool some = false;
    for (size_t i = 0; i < STREAMS; i++) {
        const struct check_rows *rows = rows_at(walk, i);
        if (rows->end || (some && rows->id >= *id_out))
            continue;
        *id_out = rows->id;
        some = true;
    }
    return some;
}

/* ---- what belongs to no record ---- */

static int look_at_stray_attempts(struct check *check, struct check_walk *walk, uint64_t id)
{
    char text[QUEUE_ID_TEXT];
    uint64_t count = 0;
    while (check_rows_at(&walk->attempt, id)) {
        int rc = check_delete(check, QUEUE_DB_ATTEMPT, walk->attempt.key.mv_data,
                              walk->attempt.key.mv_size);
        if (rc == 0)
            rc = check_rows_next(&walk->attempt);
        if (rc != 0)
            return rc;
        count++;
    }
    if (count == 0)
        return 0;
    queue_id_text(id, text);
    check_problem(check, CHECK_ORPHAN_ATTEMPT,
                  "%llu recorded attempts belong to message %s, which is not there",
                  (unsigned long long)count, text);
    return 0;
}

static int look_at_stray_fresh(struct check *check, struct check_walk *walk, uint64_t id)
{
    char text[QUEUE_ID_TEXT];
    if (!check_rows_at(&walk->fresh, id))
        return 0;
    int rc = check_delete(check, QUEUE_DB_FRESH, walk->fresh.key.mv_data, walk->fresh.key.mv_size);
    queue_id_text(id, text);
    check_problem(check, CHECK_FRESH_STRAY, "the list of new messages names %s, which is not there",
                  text);
    return rc;
}

static int look_at_stray_body(struct check *check, struct check_walk *walk, uint64_t id)
{
    char text[QUEUE_ID_TEXT];
    uint64_t bytes = 0;
    while (check_rows_at(&walk->body, id)) {
        size_t len = walk->body.value.mv_size;
        bytes += len > QUEUE_BODY_SUM ? len - QUEUE_BODY_SUM : 0;
        int rc = check_rows_next(&walk->body);
        if (rc != 0)
            return rc;
    }
    int rc = check_set_aside(check, id, "only bytes of the message are left, its record is lost");
    queue_id_text(id, text);
    check_problem(check, CHECK_ORPHAN_BODY,
                  "%llu bytes belong to message %s, whose record is not there",
                  (unsigned long long)bytes, text);
    return rc;
}

static int look_at_damaged(struct check *check, struct check_walk *walk, uint64_t id)
{
    const uint8_t *key = walk->damaged.key.mv_data;
    char text[QUEUE_ID_TEXT];
    if (key[8] == 'R') {
        queue_id_text(id, text);
        if (id != 0)
            check_note(check, "message %s is set aside: %.*s", text,
                       (int)(walk->damaged.value.mv_size < 200 ? walk->damaged.value.mv_size : 200),
                       (const char *)walk->damaged.value.mv_data);
    } else {
        int rc = check_set_aside(check, id, "set aside before, for a reason that is lost");
        check_problem(check, CHECK_KEY, "rows are set aside without a reason");
        if (rc != 0)
            return rc;
    }
    return look_at_stray_fresh(check, walk, id);
}

/* ---- one id ---- */

static int drop_aside(struct check *check, struct check_walk *walk, uint64_t id)
{
    char text[QUEUE_ID_TEXT];
    while (check_rows_at(&walk->damaged, id)) {
        int rc = check_delete(check, QUEUE_DB_DAMAGED, walk->damaged.key.mv_data,
                              walk->damaged.key.mv_size);
        if (rc == 0)
            rc = check_rows_next(&walk->damaged);
        if (rc != 0)
            return rc;
    }
    queue_id_text(id, text);
    check_problem(check, CHECK_TWICE, "message %s is in the queue and set aside as well", text);
    return 0;
}

static int keep_beside(struct check *check, struct check_walk *walk, uint64_t id)
{
    char text[QUEUE_ID_TEXT];
    while (check_rows_at(&walk->message, id)) {
        int rc =
            check_keep_foreign(check, QUEUE_DB_MESSAGE, &walk->message.key, &walk->message.value);
        if (rc == 0)
            rc = check_rows_next(&walk->message);
        if (rc != 0)
            return rc;
    }
    queue_id_text(id, text);
    check_problem(check, CHECK_KEY,
                  "message %s is set aside, but rows of it are in the queue as well", text);
    return 0;
}

/* A record that is there twice: the one in the queue counts if it can be read. If not, the one set
 * aside may be all there is of the message. Rows of the other are left behind. */
static int look_at_twice(struct check *check, struct check_walk *walk, uint64_t id)
{
    struct queue_message *message = NULL;
    const char *reason = NULL;
    int found = queue_message_load(&check->queue->store, check->txn, id, &message, &reason);
    queue_message_free(&message);
    if (found == QUEUE_ERR_IO)
        return EIO;
    return found == 0 ? drop_aside(check, walk, id) : keep_beside(check, walk, id);
}

static int visit(struct check *check, struct check_walk *walk, uint64_t id)
{
    bool incoming = check_rows_at(&walk->incoming, id);
    if (id > check->state.id_high)
        check->state.id_high = id;
    bool head = check_rows_at(&walk->message, id) && walk->message.key.mv_size == 8;
    if (incoming && !head && queue_sweep_is_removed(&walk->incoming.value))
        return 0; /* it has left; what is here is about to be removed */
    check->interrupted += incoming ? 1 : 0;
    int rc = 0;
    if (check_rows_at(&walk->message, id) && check_rows_at(&walk->damaged, id))
        rc = look_at_twice(check, walk, id);
    if (rc != 0)
        return rc;
    if (check_rows_at(&walk->message, id))
        return check_message(check, walk, id);
    if (check_rows_at(&walk->damaged, id))
        return look_at_damaged(check, walk, id);
    rc = look_at_stray_attempts(check, walk, id);
    if (rc == 0)
        rc = look_at_stray_fresh(check, walk, id);
    if (rc == 0 && !incoming && check_rows_at(&walk->body, id))
        rc = look_at_stray_body(check, walk, id);
    return rc;
}

static int leave_behind(struct check_walk *walk, uint64_t id)
{
    int rc = 0;
    for (size_t i = 0; i < STREAMS && rc == 0; i++) {
        struct check_rows *rows = rows_at(walk, i);
        while (rc == 0 && check_rows_at(rows, id))
            rc = check_rows_next(rows);
    }
    return rc;
}

int check_messages(struct check *check)
{
    struct check_walk walk = {0};
    uint64_t id = 0;
    int rc = open_walk(check, &walk, 0);
    while (rc == 0 && lowest_id(&walk, &id)) {
        unsigned generation = check->generation;
        rc = visit(check, &walk, id);
        if (rc == 0)
            rc = leave_behind(&walk, id);
        if (rc == 0)
            rc = check_pace(check);
        if (rc == 0)
            rc = check_settle(check, false);
        if (rc != 0 || generation == check->generation)
            continue;
        close_walk(&walk);
        if (id == UINT64_MAX)
            return 0;
        rc = open_walk(check, &walk, id + 1);
    }
    close_walk(&walk);
    return rc;
}
