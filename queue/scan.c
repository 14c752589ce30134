/* queue/scan.c - looking at very many messages: decoded in place, in one read transaction a call.
 * Any thread. */
#include "queue/batch.h"

#define SCAN_NS   INT64_C(5000000)
#define LOOK_EACH 16 /* messages between two looks at the clock */

struct scan {
    struct queue *queue;
    MDB_txn *txn;
    queue_scan_fn fn;
    void *ctx;
};

/* A message whose record is one row: nothing is copied. @return fn's answer */
static bool show_whole(const struct scan *scan, uint64_t id, const struct queue_head *head,
                       const struct queue_unit_row *unit_rows,
                       const struct queue_rcpt_row *rcpt_rows)
{
    struct queue_unit units[QUEUE_ROW_ITEMS];
    struct queue_recipient recipients[QUEUE_ROW_ITEMS];
    struct queue_envelope envelope = queue_head_seen(head);
    for (size_t i = 0; i < head->unit_count; i++)
        units[i] = queue_unit_seen(&unit_rows[i]);
    for (size_t i = 0; i < head->recipient_count; i++)
        recipients[i] = queue_rcpt_seen(&rcpt_rows[i], unit_rows[rcpt_rows[i].unit].domain);
    envelope.units = units;
    envelope.recipients = recipients;
    return scan->fn(id, &envelope, scan->ctx);
}

static const char *show_long(const struct scan *scan, uint64_t id, bool *go_out)
{
    struct queue_message *message = NULL;
    const char *reason = NULL;
    int rc = queue_message_load(&scan->queue->store, scan->txn, id, &message, &reason);
    if (rc == 0)
        *go_out = scan->fn(id, queue_message_envelope(message), scan->ctx);
    queue_message_free(&message);
    return reason;
}

/* @return fn's answer; true for a record that does not decode */
static bool show(const struct scan *scan, uint64_t id, const MDB_val *value)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_head head;
    bool go = true;
    const char *reason = queue_head_read(&head, id, value->mv_data, value->mv_size, units, rcpts);
    if (reason == NULL && queue_head_is_whole(&head))
        go = show_whole(scan, id, &head, units, rcpts);
    else if (reason == NULL)
        reason = show_long(scan, id, &go);
    if (reason != NULL)
        queue_damaged_suspect(scan->queue, id, false);
    return go;
}

/* To the head of the first message after this id. @return LMDB's code */
static int seek_after(MDB_cursor *cursor, uint64_t id, MDB_val *key, MDB_val *value)
{
    uint8_t bytes[8];
    if (id == UINT64_MAX)
        return MDB_NOTFOUND;
    queue_be64_put(bytes, id + 1);
    *key = queue_val(bytes, sizeof bytes);
    return mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
}

static int scan_rows(const struct scan *scan, MDB_cursor *cursor, uint64_t *after)
{
    MDB_val key;
    MDB_val value;
    int64_t end_ns = queue_now_ns() + SCAN_NS;
    int rc = seek_after(cursor, *after, &key, &value);
    for (unsigned shown = 1; rc == 0; shown++) {
        bool is_head = key.mv_size == 8;
        bool is_further = key.mv_size > 8; /* of a long list */
        if (is_head || is_further)
            *after = queue_be64_get(key.mv_data);
        if (is_head && !show(scan, *after, &value))
            return 0;
        bool is_time = shown % LOOK_EACH == 0 || !is_head;
        if (is_time && queue_now_ns() >= end_ns)
            return 1;
        rc = is_further ? seek_after(cursor, *after, &key, &value)
                        : mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : QUEUE_ERR_IO;
}

int queue_scan(struct queue *queue, uint64_t *after, queue_scan_fn fn, void *ctx)
{
    struct scan scan = {.queue = queue, .fn = fn, .ctx = ctx};
    MDB_cursor *cursor = NULL;
    int rc = queue_store_read(&queue->store, &scan.txn);
    if (rc < 0)
        return rc;
    rc = QUEUE_ERR_IO;
    if (mdb_cursor_open(scan.txn, queue->store.dbi[QUEUE_DB_MESSAGE], &cursor) == 0) {
        rc = scan_rows(&scan, cursor, after);
        mdb_cursor_close(cursor);
    }
    queue_store_read_end(&queue->store, scan.txn);
    return rc;
}
