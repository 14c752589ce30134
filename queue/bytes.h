/* queue/bytes.h - memory that never fails, a growing byte buffer, and integers at fixed widths.
 *
 * Keys are big endian (their order is the order of their bytes), values little endian. */
#ifndef QUEUE_BYTES_H
#define QUEUE_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Never NULL: out of memory stops the process (every size from outside is bounded before). */
void *queue_alloc(size_t size); /* zeroed */
void *queue_resize(void *p, size_t size);

struct queue_bytes {
    uint8_t *p;
    size_t len;
    size_t cap;
};

void queue_bytes_reserve(struct queue_bytes *out, size_t more);
void queue_bytes_add(struct queue_bytes *out, const void *bytes, size_t len);
void queue_bytes_text(struct queue_bytes *out, const char *text,
                      size_t len); /* le16 length, text, NUL */
void queue_bytes_8(struct queue_bytes *out, uint8_t value);
void queue_bytes_16(struct queue_bytes *out, uint16_t value);
void queue_bytes_32(struct queue_bytes *out, uint32_t value);
void queue_bytes_64(struct queue_bytes *out, uint64_t value);
void queue_bytes_deinit(struct queue_bytes *out);

/* A bounded walk over foreign bytes. Once something was missing, `bad` stays set and all reads give
 * 0. */
struct queue_walk {
    const uint8_t *p;
    size_t left;
    int bad;
};

uint8_t queue_walk_8(struct queue_walk *walk);
uint16_t queue_walk_16(struct queue_walk *walk);
uint32_t queue_walk_32(struct queue_walk *walk);
uint64_t queue_walk_64(struct queue_walk *walk);
const uint8_t *queue_walk_raw(struct queue_walk *walk, size_t len);
/* A text as queue_bytes_text wrote it: of at most max octets, without inner NUL. Never NULL. */
const char *queue_walk_text(struct queue_walk *walk, size_t max);

void queue_be64_put(uint8_t *p, uint64_t value);
uint64_t queue_be64_get(const uint8_t *p);
void queue_be16_put(uint8_t *p, uint16_t value);
uint16_t queue_be16_get(const uint8_t *p);
void queue_le32_put(uint8_t *p, uint32_t value);
uint32_t queue_le32_get(const uint8_t *p);

/* CRC-32C (Castagnoli) of bytes, going on from seed. */
uint32_t queue_crc32c(uint32_t seed, const void *bytes, size_t len);
/* The same by tables alone: what a processor without the instruction computes. */
uint32_t queue_crc32c_tables(uint32_t seed, const void *bytes, size_t len);

#endif
