/* queue/id.c - message ids: the generator, and Crockford base32 for people. Any thread. */
#include "queue/id.h"

#include <string.h>

#include "queue/queue.h"

#define MS_SHIFT  22
#define AHEAD_MS  10000
#define AHEAD_IDS 65536
#define CHARS     (QUEUE_ID_TEXT - 1)

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static uint64_t clock_part(int64_t wall_ms)
{
    if (wall_ms <= 0)
        return 0;
    uint64_t max = UINT64_MAX >> MS_SHIFT;
    return ((uint64_t)wall_ms < max ? (uint64_t)wall_ms : max) << MS_SHIFT;
}

void queue_ids_init(struct queue_ids *ids, uint64_t high)
{
    atomic_init(&ids->last, high);
}

uint64_t queue_ids_next(struct queue_ids *ids, int64_t wall_ms)
{
    uint64_t now = clock_part(wall_ms);
    uint64_t last = atomic_load_explicit(&ids->last, memory_order_relaxed);
    uint64_t next;
    do {
        next = last + 1 > now ? last + 1 : now;
    } while (!atomic_compare_exchange_weak_explicit(&ids->last, &last, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return next;
}

uint64_t queue_ids_high(struct queue_ids *ids, int64_t wall_ms)
{
    uint64_t last = atomic_load_explicit(&ids->last, memory_order_relaxed);
    uint64_t ahead =
        clock_part(wall_ms > 0 && wall_ms < INT64_MAX - AHEAD_MS ? wall_ms + AHEAD_MS : 0);
    uint64_t counted = last + AHEAD_IDS; /* while the clock is behind, ids are counted up */
    return counted > ahead ? counted : ahead;
}

void queue_id_text(uint64_t id, char text[QUEUE_ID_TEXT])
{
    for (size_t i = CHARS; i-- > 0; id >>= 5)
        text[i] = alphabet[id & 31];
    text[CHARS] = '\0';
}

/* @return 0..31, or -1 */
static int digit_value(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    if (c == 'I' || c == 'L')
        c = '1';
    if (c == 'O')
        c = '0';
    const char *at = c != '\0' ? strchr(alphabet, c) : NULL;
    return at != NULL ? (int)(at - alphabet) : -1;
}

bool queue_id_parse(const char *text, size_t len, uint64_t *id_out)
{
    uint64_t id = 0;
    if (len != CHARS)
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = digit_value(text[i]);
        if (value < 0 || (i == 0 && value > 15)) /* 13 * 5 bits is one more than 64 */
            return false;
        id = id << 5 | (uint64_t)value;
    }
    *id_out = id;
    return true;
}
