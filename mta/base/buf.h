/* mta/base/buf.h - a growing byte buffer with a hard maximum: a queue of bytes, append at the end,
 * consume at the front. Nobody else walks raw pointers. */
#ifndef MTA_BASE_BUF_H
#define MTA_BASE_BUF_H

#include "mta/base/str.h"

struct buf {
    char *data;
    size_t start, end, capacity;
    size_t max;
    bool overflow; /* an append did not fit: it and all later ones were dropped whole */
    bool secret;   /* see buf_init_secret() */
};

/* No allocation yet. max in bytes. */
void buf_init(struct buf *buf, size_t max);
/* The same for what may hold passwords: bytes that are consumed, cleared or moved leave no copy. */
void buf_init_secret(struct buf *buf, size_t max);
void buf_deinit(struct buf *buf);

size_t buf_len(const struct buf *buf);
struct str buf_str(const struct buf *buf); /* valid until the next change */

/* Appends whole or not at all. @return false and sets overflow if it does not fit */
bool buf_add(struct buf *buf, const void *bytes, size_t len);
bool buf_add_str(struct buf *buf, struct str s);
bool buf_add_text(struct buf *buf, const char *text);
bool buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for at least len more bytes, to be filled by the caller and told with buf_filled.
 * NULL if that is over the maximum. */
char *buf_reserve(struct buf *buf, size_t len);
void buf_filled(struct buf *buf, size_t len);

void buf_consume(struct buf *buf, size_t len); /* at most buf_len */
void buf_clear(struct buf *buf);               /* also overflow; keeps the memory */
void buf_release(struct buf *buf);             /* gives the memory back if empty */

#endif
