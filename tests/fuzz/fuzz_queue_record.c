/* Rows of the store as an adversary would write them. The first byte picks the kind; the row's
 * checksum is made right, so that what lies behind it is reached. What decodes must encode to the
 * same bytes. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "queue/record.h"

#define ID UINT64_C(0x0102030405060708)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct queue_bytes *row, const struct queue_bytes *again)
{
    assert(row->len == again->len && memcmp(row->p, again->p, row->len) == 0);
}

static void try_head(const struct queue_bytes *row, struct queue_bytes *again)
{
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint64_t body = 0;
    if (queue_head_read(&head, ID, row->p, row->len, units, rcpts) != NULL)
        return;
    assert(queue_head_peek_body(row->p, row->len, &body) && body == head.body_bytes);
    queue_head_write(again, ID, &head, units, rcpts);
    check_same(row, again);
}

/* A row of a long list, under a head that knows as much as one can. */
static void try_further(const struct queue_bytes *row, struct queue_bytes *again, bool is_units)
{
    struct queue_head head = {.recipient_count = 100, .unit_count = 70, .open = 90};
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    if (is_units) {
        if (queue_units_read(&head, ID, 2, row->p, row->len, units) != NULL)
            return;
        queue_units_write(again, ID, 2, units, 6);
    } else {
        if (queue_rcpts_read(&head, ID, 3, row->p, row->len, rcpts) != NULL)
            return;
        queue_rcpts_write(again, ID, 3, rcpts, 4);
    }
    check_same(row, again);
}

static void try_attempt(const struct queue_bytes *row, struct queue_bytes *again)
{
    struct queue_attempt attempt;
    if (queue_attempt_read(&attempt, row->p, row->len) != NULL)
        return;
    queue_attempt_write(again, &attempt);
    check_same(row, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue_bytes row = {0};
    struct queue_bytes again = {0};
    struct queue_row_key key = {.len = 0};
    if (size < 2)
        return 0;
    uint8_t kind = data[0] % 4;
    queue_bytes_add(&row, data + 1, size - 1);
    if (kind == 0)
        key = queue_row_key(ID, QUEUE_ROW_HEAD, 0);
    else if (kind == 1)
        key = queue_row_key(ID, QUEUE_ROW_UNITS, 2);
    else if (kind == 2)
        key = queue_row_key(ID, QUEUE_ROW_RCPTS, 3);
    if (row.len >= 8)
        queue_row_seal(&row, 0, key.bytes, key.len);
    if (kind == 0)
        try_head(&row, &again);
    else if (kind == 3)
        try_attempt(&row, &again);
    else
        try_further(&row, &again, kind == 1);
    queue_bytes_deinit(&row);
    queue_bytes_deinit(&again);
    return 0;
}
