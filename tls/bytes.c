/* tls/bytes.c - a queue of bytes between the caller and GnuTLS. An empty queue holds no memory, so
 * that thousands of idle sessions stay small. */
#include "tls/tls_private.h"

#include <stdlib.h>
#include <string.h>

enum { SMALLEST_CAPACITY = 512 };

size_t tls_bytes_len(const struct tls_bytes *queue)
{
    return queue->end - queue->start;
}

void tls_bytes_clear(struct tls_bytes *queue)
{
    free(queue->data);
    *queue = (struct tls_bytes){0};
}

void tls_bytes_add(struct tls_bytes *queue, const void *bytes, size_t len)
{
    size_t held = tls_bytes_len(queue);

    if (len == 0)
        return;
    if (queue->capacity - queue->end < len && queue->start > 0) {
        memmove(queue->data, queue->data + queue->start, held);
        queue->start = 0;
        queue->end = held;
    }
    if (queue->capacity - queue->end < len) {
        size_t capacity = queue->capacity > 0 ? queue->capacity : SMALLEST_CAPACITY;
        while (capacity < held + len)
            capacity *= 2;
        queue->data = tls_grow(queue->data, capacity);
        queue->capacity = capacity;
    }
    memcpy(queue->data + queue->end, bytes, len);
    queue->end += len;
}

size_t tls_bytes_take(struct tls_bytes *queue, void *to, size_t len)
{
    size_t held = tls_bytes_len(queue);
    size_t taken = len < held ? len : held;

    if (taken == 0)
        return 0;
    if (to != NULL)
        memcpy(to, queue->data + queue->start, taken);
    queue->start += taken;
    if (queue->start == queue->end)
        tls_bytes_clear(queue);
    return taken;
}
