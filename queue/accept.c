/* queue/accept.c - a new message: its rows are encoded by the thread that hands it over, stored by
 * the writer. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

static bool is_within_limits(const struct queue_envelope *envelope, uint64_t body_bytes)
{
    if (envelope->recipient_count == 0 || envelope->recipient_count > QUEUE_RECIPIENTS_MAX ||
        envelope->header_bytes > body_bytes || envelope->accepted_unix_ms < 0 ||
        strlen(envelope->sender) > QUEUE_ADDRESS_MAX ||
        strlen(envelope->sign_domain) > QUEUE_DOMAIN_MAX ||
        !queue_head_params_fit(envelope->flags, envelope->ret, envelope->envid))
        return false;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *rcpt = &envelope->recipients[i];
        size_t address = strlen(rcpt->address);
        size_t domain = strlen(rcpt->domain);
        if (address == 0 || address > QUEUE_ADDRESS_MAX || domain == 0 ||
            domain > QUEUE_DOMAIN_MAX || !queue_rcpt_params_fit(rcpt->notify, rcpt->orcpt))
            return false;
    }
    return true;
}

/* ---- recipients of one domain form a unit ---- */

struct grouping {
    struct queue_unit_row *units;
    struct queue_rcpt_row *rcpts;
    uint32_t unit_count;
    uint32_t *slots; /* hash of the domain -> unit + 1 */
    uint32_t mask;
};

static uint32_t find_unit(struct grouping *grouping, const char *domain)
{
    uint32_t at = queue_crc32c(0, domain, strlen(domain)) & grouping->mask;
    while (grouping->slots[at] != 0) {
        uint32_t unit = grouping->slots[at] - 1;
        if (strcmp(grouping->units[unit].domain, domain) == 0)
            return unit;
        at = (at + 1) & grouping->mask;
    }
    uint32_t unit = grouping->unit_count++;
    grouping->slots[at] = unit + 1;
    grouping->units[unit] = (struct queue_unit_row){.domain = domain};
    return unit;
}

static void group(struct grouping *grouping, const struct queue_envelope *envelope)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        uint32_t unit = find_unit(grouping, envelope->recipients[i].domain);
        grouping->units[unit].open++;
        grouping->rcpts[i] = (struct queue_rcpt_row){
            .unit = (uint16_t)unit,
            .state = QUEUE_RCPT_WAITING,
            .notify = envelope->recipients[i].notify,
            .address = envelope->recipients[i].address,
            .orcpt = envelope->recipients[i].orcpt,
        };
    }
}

/* ---- rows ---- */

static size_t begin_row(struct queue_bytes *rows, const struct queue_row_key *key)
{
    size_t begin = rows->len;
    queue_bytes_32(rows, 0);
    queue_bytes_8(rows, (uint8_t)key->len);
    queue_bytes_add(rows, key->bytes, key->len);
    return begin;
}

static void end_row(struct queue_bytes *rows, size_t begin, const struct queue_row_key *key)
{
    queue_le32_put(rows->p + begin, (uint32_t)(rows->len - begin - 5 - key->len));
}

static void encode_rows(struct queue_new *message, const struct queue_head *head,
                        const struct grouping *grouping)
{
    struct queue_bytes *rows = &message->rows;
    struct queue_row_key key = queue_row_key(message->id, QUEUE_ROW_HEAD, 0);
    size_t begin = begin_row(rows, &key);
    queue_head_write(rows, message->id, head, grouping->units, grouping->rcpts);
    end_row(rows, begin, &key);
    if (queue_head_is_whole(head))
        return;
    for (uint32_t row = 0; queue_row_items(head->recipient_count, row) > 0; row++) {
        key = queue_row_key(message->id, QUEUE_ROW_RCPTS, row);
        begin = begin_row(rows, &key);
        queue_rcpts_write(rows, message->id, row, grouping->rcpts + (size_t)row * QUEUE_ROW_ITEMS,
                          queue_row_items(head->recipient_count, row));
        end_row(rows, begin, &key);
    }
    for (uint32_t row = 0; queue_row_items(head->unit_count, row) > 0; row++) {
        key = queue_row_key(message->id, QUEUE_ROW_UNITS, row);
        begin = begin_row(rows, &key);
        queue_units_write(rows, message->id, row, grouping->units + (size_t)row * QUEUE_ROW_ITEMS,
                          queue_row_items(head->unit_count, row));
        end_row(rows, begin, &key);
    }
}

/* The units as they will be announced; their domains stand behind the array, in the same block. */
static void copy_units(struct queue_new *message, const struct grouping *grouping, int64_t accepted)
{
    size_t names = 0;
    for (uint32_t i = 0; i < grouping->unit_count; i++)
        names += strlen(grouping->units[i].domain) + 1;
    size_t array = grouping->unit_count * sizeof *message->units;
    message->units = queue_alloc(array + names);
    message->unit_count = grouping->unit_count;
    char *name = (char *)message->units + array;
    for (uint32_t i = 0; i < grouping->unit_count; i++) {
        size_t len = strlen(grouping->units[i].domain) + 1;
        memcpy(name, grouping->units[i].domain, len);
        message->units[i] = (struct queue_unit_ref){
            .id = message->id, .unit = (uint16_t)i, .accepted_unix_ms = accepted, .domain = name};
        name += len;
    }
}

struct queue_new *queue_new_encode(uint64_t id, const struct queue_envelope *envelope,
                                   uint64_t body_bytes)
{
    if (!is_within_limits(envelope, body_bytes))
        return NULL;
    struct grouping grouping = {.mask = 1};
    size_t count = envelope->recipient_count;
    while (grouping.mask < 2 * count)
        grouping.mask = grouping.mask << 1 | 1;
    size_t items = count * (sizeof *grouping.units + sizeof *grouping.rcpts);
    uint8_t *scratch = queue_alloc(items + (grouping.mask + 1) * sizeof *grouping.slots);
    grouping.units = (struct queue_unit_row *)(void *)scratch;
    grouping.rcpts = (struct queue_rcpt_row *)(void *)(grouping.units + count);
    grouping.slots = (uint32_t *)(void *)(scratch + items);
    group(&grouping, envelope);

    struct queue_head head = {
        .accepted_unix_ms = envelope->accepted_unix_ms,
        .flags = envelope->flags,
        .header_bytes = envelope->header_bytes,
        .body_bytes = body_bytes,
        .recipient_count = (uint32_t)count,
        .unit_count = grouping.unit_count,
        .open = (uint32_t)count,
        .fresh = grouping.unit_count,
        .sender = envelope->sender,
        .sign_domain = envelope->sign_domain,
        .prefix = "",
        .ret = (uint8_t)envelope->ret,
        .envid = envelope->envid,
    };
    memcpy(head.body_hash, envelope->body_hash, sizeof head.body_hash);
    struct queue_new *message = queue_alloc(sizeof *message);
    message->id = id;
    message->body_bytes = body_bytes;
    queue_bytes_reserve(&message->rows, 512);
    encode_rows(message, &head, &grouping);
    copy_units(message, &grouping, envelope->accepted_unix_ms);
    free(scratch);
    return message;
}

void queue_new_free(struct queue_new **newp)
{
    struct queue_new *message = *newp;
    if (message == NULL)
        return;
    queue_bytes_deinit(&message->rows);
    free(message->units);
    free(message);
    *newp = NULL;
}

int queue_new_store(struct queue_batch *batch, const struct queue_new *message)
{
    struct queue_walk walk = {.p = message->rows.p, .left = message->rows.len};
    while (walk.left > 0) {
        uint32_t len = queue_walk_32(&walk);
        uint8_t key_len = queue_walk_8(&walk);
        MDB_val key = queue_val(queue_walk_raw(&walk, key_len), key_len);
        MDB_val value = queue_val(queue_walk_raw(&walk, len), len);
        int rc = queue_store_append(batch->txn, queue_batch_db(batch, QUEUE_DB_MESSAGE), &key,
                                    &value, MDB_NOOVERWRITE);
        if (rc != 0)
            return rc;
    }
    batch->state.messages++;
    batch->state.units_fresh += message->unit_count;
    batch->state.bytes += message->body_bytes;
    batch->body_bytes += message->rows.len; /* a long list takes room as well */
    queue_batch_note_fresh(batch, message->units, message->unit_count);
    return queue_fresh_set(batch, message->id, (uint32_t)message->unit_count);
}
