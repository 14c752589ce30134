/* queue/body.h - rows of `body`: the bytes of messages, each row with a checksum. Private to
 * queue/.
 *
 * Key: be64 id, be64 offset of the row's first byte. Value: at least one byte of the message, then
 * le32 CRC-32C over key and bytes. A row's bytes are looked at only through here, so that nothing
 * torn is ever taken for mail. */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "queue/store.h"

#define QUEUE_BODY_KEY 16
#define QUEUE_BODY_SUM 4 /* octets of the checksum */

/* Bytes of a message in a row that is full: with key, checksum and LMDB's header exactly one page.
 * A shorter rest below about 2 KiB shares a leaf page. Rows of several pages would need free pages
 * side by side: in a large store of scattered free pages LMDB's search for those, and the list of
 * free pages that it then writes with every commit, cost more than all else (README). */
#define QUEUE_BODY_ROW ((size_t)4096 - 16 - QUEUE_BODY_SUM)

/* Copies the message's next len bytes to out. */
typedef void (*queue_body_fill_fn)(void *ctx, uint8_t *out, size_t len);

/**
 * Store one row; len is at least 1. Rows of one message are written in ascending order.
 *
 * @return LMDB's code; MDB_KEYEXIST: the row is there already
 */
QUEUE_MUST_USE int queue_body_write(MDB_txn *txn, MDB_dbi dbi, uint64_t id, uint64_t offset,
                                    size_t len, queue_body_fill_fn fill, void *ctx);

struct queue_body_row {
    uint64_t id;
    uint64_t offset;
    const uint8_t *bytes; /* in the row */
    size_t len;           /* not 0 */
};

/* @return NULL, or the reason why the row is damaged; then row_out is not set */
const char *queue_body_row_read(const MDB_val *key, const MDB_val *value,
                                struct queue_body_row *row_out);

/* Copy from offset on. @return bytes copied: less than size at the message's end, a gap or a
 * damaged row; QUEUE_ERR_IO */
long queue_body_copy(const struct queue_store *store, MDB_txn *txn, uint64_t id, uint64_t offset,
                     uint8_t *out, size_t size);

/* A look at all rows of a message, which may take several steps. */
struct queue_body_look {
    uint64_t at; /* bytes seen; 0 at first */
    bool done;
    const char *reason; /* why the rows are not as they should be, once done; or NULL */
};

/* Do sound rows cover 0 .. body_bytes, no more and without a gap? Goes on where the look stands,
 * until it is done or it is time. @return LMDB's code */
QUEUE_MUST_USE int queue_body_check(const struct queue_store *store, MDB_txn *txn, uint64_t id,
                                    uint64_t body_bytes, int64_t end_ns,
                                    struct queue_body_look *look);

/* How many bytes the message's rows hold, sound or not. @return LMDB's code */
QUEUE_MUST_USE int queue_body_sum(const struct queue_store *store, MDB_txn *txn, uint64_t id,
                                  uint64_t *bytes_out);

#endif
