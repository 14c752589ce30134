/* dns/cache.c - results by question, until their time is over. Bounded in entries and in memory;
 * the oldest go first. Not locked. */
#include "dns/dns_private.h"

#include <stdlib.h>
#include <string.h>

enum {
    BYTES_PER_ENTRY = 256, /* of the limit; an answer of one or two hosts */
    BYTES_LEAST = 256 * 1024,
};

struct entry {
    LIST_ENTRY(entry) in_bucket;
    TAILQ_ENTRY(entry) by_age;
    struct dns_result *result;
    uint64_t expires_ms;
    size_t bytes;
    uint16_t type;
    uint16_t name_len;
    char name[]; /* without a NUL */
};

LIST_HEAD(bucket, entry);

struct dns_cache {
    TAILQ_HEAD(age_list, entry) by_age; /* oldest first */
    struct bucket *buckets;
    size_t bucket_count; /* a power of two */
    size_t entry_limit, entries;
    size_t byte_limit, bytes;
};

/* ---- results ---- */

struct dns_result *dns_result_new(enum dns_status status, const struct dns_parsed *parsed,
                                  const char *detail)
{
    struct dns_result *result = dns_alloc(sizeof *result);

    atomic_init(&result->references, 1);
    result->status = status;
    if (parsed != NULL)
        result->parsed = *parsed;
    if (detail != NULL && detail[0] != '\0') {
        size_t size = strlen(detail) + 1;
        result->detail = dns_alloc(size);
        memcpy(result->detail, detail, size);
    }
    return result;
}

struct dns_result *dns_result_ref(struct dns_result *result)
{
    atomic_fetch_add_explicit(&result->references, 1, memory_order_relaxed);
    return result;
}

void dns_result_unref(struct dns_result **resultp)
{
    struct dns_result *result = *resultp;

    *resultp = NULL;
    if (result == NULL ||
        atomic_fetch_sub_explicit(&result->references, 1, memory_order_acq_rel) != 1)
        return;
    dns_parsed_deinit(&result->parsed);
    free(result->detail);
    free(result);
}

static size_t result_bytes(const struct dns_result *result)
{
    size_t each = result->parsed.hosts != NULL ? sizeof result->parsed.hosts[0]
                                               : sizeof result->parsed.addresses[0];
    return sizeof *result + result->parsed.count * each;
}

/* ---- the table ---- */

struct dns_cache *dns_cache_new(size_t entry_limit)
{
    struct dns_cache *cache = dns_alloc(sizeof *cache);

    cache->entry_limit = entry_limit;
    cache->byte_limit = entry_limit * BYTES_PER_ENTRY;
    if (cache->byte_limit < BYTES_LEAST)
        cache->byte_limit = BYTES_LEAST;
    cache->bucket_count = 64;
    while (cache->bucket_count < entry_limit && cache->bucket_count < 65536)
        cache->bucket_count *= 2;
    cache->buckets = dns_alloc(cache->bucket_count * sizeof cache->buckets[0]);
    TAILQ_INIT(&cache->by_age);
    return cache;
}

static void drop(struct dns_cache *cache, struct entry *entry)
{
    LIST_REMOVE(entry, in_bucket);
    TAILQ_REMOVE(&cache->by_age, entry, by_age);
    cache->entries--;
    cache->bytes -= entry->bytes;
    dns_result_unref(&entry->result);
    free(entry);
}

void dns_cache_clear(struct dns_cache *cache)
{
    struct entry *entry = TAILQ_FIRST(&cache->by_age);

    while (entry != NULL) {
        struct entry *next = TAILQ_NEXT(entry, by_age);
        drop(cache, entry);
        entry = next;
    }
}

void dns_cache_free(struct dns_cache **cachep)
{
    struct dns_cache *cache = *cachep;

    if (cache == NULL)
        return;
    *cachep = NULL;
    dns_cache_clear(cache);
    free(cache->buckets);
    free(cache);
}

size_t dns_cache_count(const struct dns_cache *cache)
{
    return cache->entries;
}

static struct bucket *find_bucket(struct dns_cache *cache, const struct dns_name *name,
                                  uint16_t type)
{
    return &cache->buckets[dns_name_hash(name, type) & (cache->bucket_count - 1)];
}

static struct entry *find(struct dns_cache *cache, const struct dns_name *name, uint16_t type)
{
    struct entry *entry = LIST_FIRST(find_bucket(cache, name, type));

    for (; entry != NULL; entry = LIST_NEXT(entry, in_bucket)) {
        if (entry->type == type && entry->name_len == name->len &&
            memcmp(entry->name, name->text, name->len) == 0)
            return entry;
    }
    return NULL;
}

struct dns_result *dns_cache_get(struct dns_cache *cache, const struct dns_name *name,
                                 uint16_t type, uint64_t now_ms, uint32_t *ttl_s_out)
{
    struct entry *entry = find(cache, name, type);

    if (entry == NULL)
        return NULL;
    if (entry->expires_ms <= now_ms) {
        drop(cache, entry);
        return NULL;
    }
    *ttl_s_out = (uint32_t)((entry->expires_ms - now_ms + 999) / 1000);
    return dns_result_ref(entry->result);
}

static void make_room(struct dns_cache *cache, size_t bytes)
{
    struct entry *oldest = TAILQ_FIRST(&cache->by_age);

    while (oldest != NULL &&
           (cache->entries >= cache->entry_limit || cache->bytes + bytes > cache->byte_limit)) {
        struct entry *next = TAILQ_NEXT(oldest, by_age);
        drop(cache, oldest);
        oldest = next;
    }
}

void dns_cache_put(struct dns_cache *cache, const struct dns_name *name, uint16_t type,
                   struct dns_result *result, uint32_t ttl_s, uint64_t now_ms)
{
    struct entry *old = find(cache, name, type);

    if (old != NULL)
        drop(cache, old);
    if (ttl_s == 0)
        return;
    struct entry *entry = dns_alloc(sizeof *entry + name->len);
    entry->bytes = sizeof *entry + name->len + result_bytes(result);
    make_room(cache, entry->bytes);
    entry->result = dns_result_ref(result);
    entry->expires_ms = now_ms + (uint64_t)ttl_s * 1000;
    entry->type = type;
    entry->name_len = (uint16_t)name->len;
    memcpy(entry->name, name->text, name->len);
    LIST_INSERT_HEAD(find_bucket(cache, name, type), entry, in_bucket);
    TAILQ_INSERT_TAIL(&cache->by_age, entry, by_age);
    cache->entries++;
    cache->bytes += entry->bytes;
}
