/* queue/read.c - one message: its record and its bytes. Any thread. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

#define BODY_STEP ((size_t)256 << 10) /* copied in one step */

/* ---- messages ---- */

struct queue_message {
    struct queue_envelope envelope;
    struct queue_bytes rows; /* every row one after the other; texts point into them */
    struct queue_recipient *recipients;
    struct queue_unit *units;
};

/* One row appended to rows as: le32 length, bytes. @return LMDB's code */
static int add_row(struct queue_store *store, MDB_txn *txn, const struct queue_row_key *row_key,
                   struct queue_bytes *rows)
{
    MDB_val key = queue_val(row_key->bytes, row_key->len);
    MDB_val value;
    int rc = mdb_get(txn, store->dbi[QUEUE_DB_MESSAGE], &key, &value);
    if (rc != 0)
        return rc;
    queue_bytes_32(rows, (uint32_t)value.mv_size);
    queue_bytes_add(rows, value.mv_data, value.mv_size);
    return 0;
}

/* The further rows of a long list, units before recipients. @return LMDB's code */
static int add_further(struct queue_store *store, MDB_txn *txn, uint64_t id,
                       const struct queue_head *head, struct queue_bytes *rows)
{
    for (uint32_t row = 0; queue_row_items(head->unit_count, row) > 0; row++) {
        struct queue_row_key key = queue_row_key(id, QUEUE_ROW_UNITS, row);
        int rc = add_row(store, txn, &key, rows);
        if (rc != 0)
            return rc;
    }
    for (uint32_t row = 0; queue_row_items(head->recipient_count, row) > 0; row++) {
        struct queue_row_key key = queue_row_key(id, QUEUE_ROW_RCPTS, row);
        int rc = add_row(store, txn, &key, rows);
        if (rc != 0)
            return rc;
    }
    return 0;
}

struct queue_envelope queue_head_seen(const struct queue_head *head)
{
    struct queue_envelope envelope = {
        .sender = head->sender,
        .recipient_count = head->recipient_count,
        .flags = head->flags,
        .ret = (enum queue_ret)head->ret,
        .envid = head->envid,
        .header_bytes = head->header_bytes,
        .body_bytes = head->body_bytes,
        .sign_domain = head->sign_domain,
        .accepted_unix_ms = head->accepted_unix_ms,
        .prefix = head->prefix,
        .unit_count = head->unit_count,
    };
    memcpy(envelope.body_hash, head->body_hash, sizeof head->body_hash);
    return envelope;
}

struct queue_unit queue_unit_seen(const struct queue_unit_row *row)
{
    bool waits = row->open > 0 && !row->held;
    return (struct queue_unit){
        .domain = row->domain,
        .due_unix_ms = waits ? row->due_unix_ms : QUEUE_NEVER,
        .attempts = row->attempts,
        .held = row->held,
        .warned = row->warned,
        .done = row->open == 0,
    };
}

struct queue_recipient queue_rcpt_seen(const struct queue_rcpt_row *row, const char *domain)
{
    return (struct queue_recipient){
        .address = row->address,
        .domain = domain,
        .notify = row->notify,
        .orcpt = row->orcpt,
        .unit = row->unit,
        .state = (enum queue_rcpt_state)row->state,
        .attempts = row->attempts,
    };
}

static void fill_units(struct queue_message *message, size_t first,
                       const struct queue_unit_row *units, size_t count)
{
    for (size_t i = 0; i < count; i++)
        message->units[first + i] = queue_unit_seen(&units[i]);
}

static void fill_rcpts(struct queue_message *message, size_t first,
                       const struct queue_rcpt_row *rcpts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        message->recipients[first + i] =
            queue_rcpt_seen(&rcpts[i], message->units[rcpts[i].unit].domain);
}

static MDB_val next_row(struct queue_walk *walk)
{
    uint32_t len = queue_walk_32(walk);
    return queue_val(queue_walk_raw(walk, len), len);
}

static const char *decode_further(struct queue_message *message, uint64_t id,
                                  const struct queue_head *head, struct queue_walk *walk)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    size_t count;
    for (uint32_t row = 0; (count = queue_row_items(head->unit_count, row)) > 0; row++) {
        MDB_val value = next_row(walk);
        const char *reason = queue_units_read(head, id, row, value.mv_data, value.mv_size, units);
        if (reason != NULL)
            return reason;
        fill_units(message, (size_t)row * QUEUE_ROW_ITEMS, units, count);
    }
    for (uint32_t row = 0; (count = queue_row_items(head->recipient_count, row)) > 0; row++) {
        MDB_val value = next_row(walk);
        const char *reason = queue_rcpts_read(head, id, row, value.mv_data, value.mv_size, rcpts);
        if (reason != NULL)
            return reason;
        fill_rcpts(message, (size_t)row * QUEUE_ROW_ITEMS, rcpts, count);
    }
    return NULL;
}

/* Decode the collected rows; texts of the result point into them. */
static const char *decode(struct queue_message *message, uint64_t id)
{
    struct queue_walk walk = {.p = message->rows.p, .left = message->rows.len};
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_head head;
    MDB_val value = next_row(&walk);
    const char *reason = queue_head_read(&head, id, value.mv_data, value.mv_size, units, rcpts);
    if (reason != NULL)
        return reason;
    message->units = queue_alloc(head.unit_count * sizeof *message->units);
    message->recipients = queue_alloc(head.recipient_count * sizeof *message->recipients);
    message->envelope = queue_head_seen(&head);
    message->envelope.recipients = message->recipients;
    message->envelope.units = message->units;
    if (!queue_head_is_whole(&head))
        return decode_further(message, id, &head, &walk);
    fill_units(message, 0, units, head.unit_count);
    fill_rcpts(message, 0, rcpts, head.recipient_count);
    return NULL;
}

static bool is_set_aside(struct queue_store *store, MDB_txn *txn, uint64_t id)
{
    uint8_t bytes[9];
    MDB_val value;
    queue_be64_put(bytes, id);
    bytes[8] = 'R';
    MDB_val key = queue_val(bytes, sizeof bytes);
    return mdb_get(txn, store->dbi[QUEUE_DB_DAMAGED], &key, &value) == 0;
}

/* @return LMDB's code */
static int collect_rows(struct queue_store *store, MDB_txn *txn, uint64_t id,
                        struct queue_bytes *rows)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_head head;
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_HEAD, 0);
    int rc = add_row(store, txn, &key, rows);
    if (rc != 0 || queue_head_read(&head, id, rows->p + 4, rows->len - 4, units, rcpts) != NULL ||
        queue_head_is_whole(&head))
        return rc;
    return add_further(store, txn, id, &head, rows);
}

int queue_message_load(struct queue_store *store, MDB_txn *txn, uint64_t id,
                       struct queue_message **out, const char **reason_out)
{
    struct queue_message *message = queue_alloc(sizeof *message);
    int rc = collect_rows(store, txn, id, &message->rows);
    *reason_out = NULL;
    if (rc == MDB_NOTFOUND && message->rows.len > 0)
        *reason_out = "a row of the record is missing";
    else if (rc == MDB_NOTFOUND)
        rc = is_set_aside(store, txn, id) ? QUEUE_ERR_DAMAGED : 1;
    else if (rc != 0)
        rc = QUEUE_ERR_IO;
    else
        *reason_out = decode(message, id);
    if (*reason_out != NULL)
        rc = QUEUE_ERR_DAMAGED;
    if (rc != 0) {
        queue_message_free(&message);
        return rc;
    }
    *out = message;
    return 0;
}

int queue_read_message(struct queue *queue, uint64_t id, struct queue_message **out)
{
    MDB_txn *txn = NULL;
    const char *reason = NULL;
    int rc = queue_store_read(&queue->store, &txn);
    if (rc < 0)
        return rc;
    rc = queue_message_load(&queue->store, txn, id, out, &reason);
    queue_store_read_end(&queue->store, txn);
    if (reason != NULL)
        queue_damaged_suspect(queue, id, false);
    return rc;
}

const struct queue_envelope *queue_message_envelope(const struct queue_message *message)
{
    return &message->envelope;
}

void queue_message_free(struct queue_message **messagep)
{
    struct queue_message *message = *messagep;
    if (message == NULL)
        return;
    queue_bytes_deinit(&message->rows);
    free(message->recipients);
    free(message->units);
    free(message);
    *messagep = NULL;
}

/* ---- bodies ---- */

static long read_body(struct queue_store *store, MDB_txn *txn, uint64_t id, uint64_t offset,
                      uint8_t *out, size_t size)
{
    uint8_t id_bytes[8];
    uint64_t total = 0;
    MDB_val value;
    queue_be64_put(id_bytes, id);
    MDB_val key = queue_val(id_bytes, sizeof id_bytes);
    int rc = mdb_get(txn, store->dbi[QUEUE_DB_MESSAGE], &key, &value);
    if (rc == MDB_NOTFOUND)
        return is_set_aside(store, txn, id) ? QUEUE_ERR_DAMAGED : QUEUE_READ_GONE;
    if (rc != 0)
        return QUEUE_ERR_IO;
    if (!queue_head_peek_body(value.mv_data, value.mv_size, &total))
        return QUEUE_ERR_DAMAGED;
    if (offset >= total)
        return 0;
    if (size > total - offset)
        size = (size_t)(total - offset);
    long copied = queue_body_copy(store, txn, id, offset, out, size);
    return copied < 0 || (size_t)copied == size ? copied : QUEUE_ERR_DAMAGED;
}

long queue_read_body(struct queue *queue, uint64_t id, uint64_t offset, void *buf, size_t size)
{
    MDB_txn *txn = NULL;
    int rc = queue_store_read(&queue->store, &txn);
    if (rc < 0)
        return rc;
    long got = read_body(&queue->store, txn, id, offset, buf, size < BODY_STEP ? size : BODY_STEP);
    queue_store_read_end(&queue->store, txn);
    if (got == QUEUE_ERR_DAMAGED)
        queue_damaged_suspect(queue, id, true);
    return got;
}
