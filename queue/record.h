/* queue/record.h - the bytes of a stored row: message heads, unit rows, recipient rows, attempts,
 * meta.
 *
 * Every row begins with: u8 version, u8 kind, u16 zero, u32 CRC-32C over its key and what follows,
 * going on from version - 1: one version never passes for another.
 * A message of up to QUEUE_ROW_ITEMS recipients is one row, the head; a longer list goes on in rows
 * of QUEUE_ROW_ITEMS units or recipients each, so that an outcome rewrites a bounded number of
 * bytes. Decoding takes any bytes: it answers with a reason in words, never reads beyond, never
 * asserts. Decoded texts are NUL-terminated and point into the row. Any thread.
 *
 * Heads and rows of recipients have two versions: the second one keeps parameters of MAIL and RCPT
 * (RFC 3461, 6531, 8689) and is written only where some were given, so that other mail costs
 * nothing, and a program that does not know them sets such a message aside instead of sending it
 * otherwise than was asked. */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "queue/bytes.h"
#include "queue/queue.h"

#define QUEUE_RECORD_VERSION 1
#define QUEUE_RECORD_PARAMS  2 /* the version with parameters */
#define QUEUE_ROW_ITEMS      32
#define QUEUE_PREFIX_MAX     60000
#define QUEUE_MESSAGE_KEY    11 /* octets of the longest key in `message` */

enum queue_row_kind {
    QUEUE_ROW_HEAD = 'H',
    QUEUE_ROW_RCPTS = 'R',
    QUEUE_ROW_UNITS = 'U',
    QUEUE_ROW_ATTEMPT = 'A',
    QUEUE_ROW_META = 'M',
};

struct queue_row_key { /* of `message`: id, and for further rows kind and number */
    uint8_t bytes[QUEUE_MESSAGE_KEY];
    size_t len;
};
struct queue_row_key queue_row_key(uint64_t id, enum queue_row_kind kind, uint32_t number);

struct queue_head {
    int64_t accepted_unix_ms;
    uint32_t flags;
    uint64_t header_bytes;
    uint64_t body_bytes;
    uint8_t body_hash[32];
    uint32_t recipient_count;
    uint32_t unit_count;
    uint32_t open;  /* recipients that have not ended */
    uint32_t fresh; /* units that are still fresh: due 0 and not ended */
    const char *sender;
    const char *sign_domain;
    const char *prefix;
    uint8_t ret;       /* enum queue_ret */
    const char *envid; /* none: "", for writers NULL too */
};

struct queue_unit_row {
    int64_t due_unix_ms; /* 0: fresh */
    uint32_t attempts;
    uint32_t open; /* recipients that have not ended; 0: done */
    bool held;
    bool warned;
    bool bounces; /* every recipient that has not ended is BOUNCE_PENDING */
    const char *domain;
};

struct queue_rcpt_row {
    uint16_t unit;
    uint8_t state;
    uint8_t notify;    /* enum queue_notify */
    uint32_t attempts; /* attempt rows ever written for it */
    const char *address;
    const char *orcpt; /* none: "", for writers NULL too */
};

bool queue_rcpt_is_open(uint8_t state);

/* May these be stored? NULL is as good as "". */
bool queue_head_params_fit(uint32_t flags, unsigned ret, const char *envid);
bool queue_rcpt_params_fit(unsigned notify, const char *orcpt);

static inline bool queue_head_is_whole(const struct queue_head *head)
{
    return head->recipient_count <= QUEUE_ROW_ITEMS;
}

/* Writers append one row to out. units and rcpts of a head are written only when it is whole. */
void queue_head_write(struct queue_bytes *out, uint64_t id, const struct queue_head *head,
                      const struct queue_unit_row *units, const struct queue_rcpt_row *rcpts);
void queue_units_write(struct queue_bytes *out, uint64_t id, uint32_t row,
                       const struct queue_unit_row *units, size_t count);
void queue_rcpts_write(struct queue_bytes *out, uint64_t id, uint32_t row,
                       const struct queue_rcpt_row *rcpts, size_t count);

/* Readers: NULL, or the reason why the row is damaged. units and rcpts have room for
 * QUEUE_ROW_ITEMS and are filled by a head only when it is whole. */
const char *queue_head_read(struct queue_head *head, uint64_t id, const void *bytes, size_t len,
                            struct queue_unit_row *units, struct queue_rcpt_row *rcpts);
const char *queue_units_read(const struct queue_head *head, uint64_t id, uint32_t row,
                             const void *bytes, size_t len, struct queue_unit_row *units);
const char *queue_rcpts_read(const struct queue_head *head, uint64_t id, uint32_t row,
                             const void *bytes, size_t len, struct queue_rcpt_row *rcpts);

/* How many items further row number `row` of `total` holds. */
size_t queue_row_items(uint32_t total, uint32_t row);

/* body_bytes of a head without decoding the rest; false: too short or another version. */
bool queue_head_peek_body(const void *bytes, size_t len, uint64_t *body_bytes_out);

/* ---- attempts ---- */
#define QUEUE_ATTEMPT_KEY 16
void queue_attempt_key(uint8_t key[QUEUE_ATTEMPT_KEY], uint64_t id, uint32_t recipient, uint32_t n);
/* Strings are cut at QUEUE_TEXT_MAX. The key is not part of the checksum: one row serves many
 * recipients. */
void queue_attempt_write(struct queue_bytes *out, const struct queue_attempt *attempt);
const char *queue_attempt_read(struct queue_attempt *attempt, const void *bytes, size_t len);

/* ---- sealing, shared with meta.c and the fuzz target ---- */
size_t queue_row_begin(struct queue_bytes *out, enum queue_row_kind kind); /* the first version */
void queue_row_seal(struct queue_bytes *out, size_t begin, const void *key, size_t key_len);
/* Checks version, kind and checksum; leaves the walk at the content. NULL or the reason. */
const char *queue_row_open(struct queue_walk *walk, enum queue_row_kind kind, const void *key,
                           size_t key_len, const void *bytes, size_t len);

#endif
