/* mta/base/buf.c - the growing byte buffer. Bytes live in data[start..end); consumed space at the
 * front is used again before the buffer grows. */
#include "mta/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 256

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_init_secret(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max, .secret = true};
}

/* These bytes are nobody's any more. */
static void forget(const struct buf *buf, size_t from, size_t to)
{
    if (buf->secret && to > from)
        explicit_bzero(buf->data + from, to - from);
}

void buf_deinit(struct buf *buf)
{
    forget(buf, buf->start, buf->end);
    free(buf->data);
    *buf = (struct buf){.max = buf->max, .secret = buf->secret};
}

size_t buf_len(const struct buf *buf)
{
    return buf->end - buf->start;
}

struct str buf_str(const struct buf *buf)
{
    if (buf->data == NULL)
        return (struct str){NULL, 0};
    return (struct str){buf->data + buf->start, buf_len(buf)};
}

/* realloc() would leave the old bytes behind. */
static char *move_secret(struct buf *buf, size_t capacity)
{
    char *data = mem_grow(NULL, capacity);
    if (buf->end > buf->start)
        memcpy(data + buf->start, buf->data + buf->start, buf_len(buf));
    forget(buf, buf->start, buf->end);
    free(buf->data);
    return data;
}

/* Capacity is at most max plus one: the spare byte is where vsnprintf puts its NUL. */
static void grow(struct buf *buf, size_t need)
{
    size_t capacity = buf->capacity > 0 ? buf->capacity : FIRST_CAPACITY;
    while (capacity < need)
        capacity = capacity > buf->max / 2 ? buf->max + 1 : capacity * 2;
    buf->data = buf->secret ? move_secret(buf, capacity) : mem_grow(buf->data, capacity);
    buf->capacity = capacity;
}

char *buf_reserve(struct buf *buf, size_t len)
{
    size_t used = buf_len(buf);
    if (buf->overflow || len > buf->max - used)
        return NULL;
    size_t need = used + len + 1;
    if (buf->end + len + 1 <= buf->capacity)
        return buf->data + buf->end;

    /* Moving is cheap only while little moves: at least as much room as bytes keeps the cost of
     * each byte constant. */
    if (buf->start > 0 && (used <= buf->start || need > buf->max / 2)) {
        memmove(buf->data, buf->data + buf->start, used);
        forget(buf, used, buf->end);
        buf->start = 0;
        buf->end = used;
    }
    if (buf->end + len + 1 > buf->capacity)
        grow(buf, buf->end + len + 1);
    return buf->data + buf->end;
}

void buf_filled(struct buf *buf, size_t len)
{
    buf->end += len;
}

bool buf_add(struct buf *buf, const void *bytes, size_t len)
{
    char *room = buf_reserve(buf, len);
    if (room == NULL) {
        buf->overflow = true;
        return false;
    }
    if (len > 0)
        memcpy(room, bytes, len);
    buf_filled(buf, len);
    return true;
}

bool buf_add_str(struct buf *buf, struct str s)
{
    return buf_add(buf, s.p, s.len);
}

bool buf_add_text(struct buf *buf, const char *text)
{
    return buf_add(buf, text, strlen(text));
}

bool buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);

    char *room = len < 0 ? NULL : buf_reserve(buf, (size_t)len);
    if (room == NULL) {
        buf->overflow = true;
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(room, (size_t)len + 1, format, args);
    va_end(args);
    buf_filled(buf, (size_t)len);
    return true;
}

void buf_consume(struct buf *buf, size_t len)
{
    size_t used = buf_len(buf);
    size_t taken = len < used ? len : used;
    forget(buf, buf->start, buf->start + taken);
    buf->start += taken;
    if (buf->start == buf->end) {
        buf->start = 0;
        buf->end = 0;
    }
}

void buf_clear(struct buf *buf)
{
    forget(buf, buf->start, buf->end);
    buf->start = 0;
    buf->end = 0;
    buf->overflow = false;
}

void buf_release(struct buf *buf)
{
    if (buf_len(buf) > 0)
        return;
    free(buf->data);
    buf->data = NULL;
    buf->start = 0;
    buf->end = 0;
    buf->capacity = 0;
}
