/* queue/bytes.c - memory, byte buffers, fixed-width integers. Any thread. */
#include "queue/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p)
{
    if (p == NULL) {
        (void)fputs("queue: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *queue_alloc(size_t size)
{
    return checked(calloc(1, size > 0 ? size : 1));
}

void *queue_resize(void *p, size_t size)
{
    return checked(realloc(p, size > 0 ? size : 1));
}

void queue_bytes_reserve(struct queue_bytes *out, size_t more)
{
    size_t need = out->len + more;
    if (need <= out->cap)
        return;
    size_t cap = out->cap * 2 > need ? out->cap * 2 : need;
    out->p = queue_resize(out->p, cap);
    out->cap = cap;
}

void queue_bytes_add(struct queue_bytes *out, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    queue_bytes_reserve(out, len);
    memcpy(out->p + out->len, bytes, len);
    out->len += len;
}

void queue_bytes_text(struct queue_bytes *out, const char *text, size_t len)
{
    queue_bytes_16(out, (uint16_t)len);
    queue_bytes_add(out, text, len);
    queue_bytes_8(out, 0);
}

void queue_bytes_8(struct queue_bytes *out, uint8_t value)
{
    queue_bytes_add(out, &value, 1);
}

static void add_le(struct queue_bytes *out, uint64_t value, size_t width)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    queue_bytes_add(out, bytes, width);
}

void queue_bytes_16(struct queue_bytes *out, uint16_t value)
{
    add_le(out, value, 2);
}

void queue_bytes_32(struct queue_bytes *out, uint32_t value)
{
    add_le(out, value, 4);
}

void queue_bytes_64(struct queue_bytes *out, uint64_t value)
{
    add_le(out, value, 8);
}

void queue_bytes_deinit(struct queue_bytes *out)
{
    free(out->p);
    *out = (struct queue_bytes){0};
}

const uint8_t *queue_walk_raw(struct queue_walk *walk, size_t len)
{
    if (walk->bad || len > walk->left) {
        walk->bad = 1;
        return NULL;
    }
    const uint8_t *p = walk->p;
    walk->p += len;
    walk->left -= len;
    return p;
}

static uint64_t walk_le(struct queue_walk *walk, size_t width)
{
    const uint8_t *p = queue_walk_raw(walk, width);
    uint64_t value = 0;
    if (p == NULL)
        return 0;
    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

uint8_t queue_walk_8(struct queue_walk *walk)
{
    return (uint8_t)walk_le(walk, 1);
}

uint16_t queue_walk_16(struct queue_walk *walk)
{
    return (uint16_t)walk_le(walk, 2);
}

uint32_t queue_walk_32(struct queue_walk *walk)
{
    return (uint32_t)walk_le(walk, 4);
}

uint64_t queue_walk_64(struct queue_walk *walk)
{
    return walk_le(walk, 8);
}

const char *queue_walk_text(struct queue_walk *walk, size_t max)
{
    size_t len = queue_walk_16(walk);
    const uint8_t *p = queue_walk_raw(walk, len + 1);
    if (p == NULL)
        return "";
    if (len > max || memchr(p, 0, len + 1) != p + len) {
        walk->bad = 1;
        return "";
    }
    return (const char *)p;
}

void queue_be64_put(uint8_t *p, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> (56 - 8 * i));
}

uint64_t queue_be64_get(const uint8_t *p)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

void queue_be16_put(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

uint16_t queue_be16_get(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

void queue_le32_put(uint8_t *p, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

uint32_t queue_le32_get(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
