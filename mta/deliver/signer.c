/* mta/deliver/signer.c - DKIM signatures in libuv's thread pool, once a message, before its first
 * attempt. A small cache serves the other units of the same message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/deliver/deliver_private.h"
#include "mta/mail/dkim.h"

#define CACHE_PLACES   256
#define PREFIX_MAX     ((size_t)16 * 1024)
#define HEADER_MAX     (256 * 1024 + 4096)
#define SIGNATURES_MAX 8

struct signature_cache {
    pthread_mutex_t lock;
    struct {
        uint64_t id;
        char *prefix;
    } places[CACHE_PLACES];
};

struct signature_cache *signature_cache_new(void)
{
    struct signature_cache *cache = mem_alloc(sizeof *cache);
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void signature_cache_free(struct signature_cache **cachep)
{
    struct signature_cache *cache = *cachep;
    if (cache == NULL)
        return;
    for (size_t i = 0; i < CACHE_PLACES; i++)
        free(cache->places[i].prefix);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
    *cachep = NULL;
}

static size_t cache_place(uint64_t id)
{
    return (size_t)((id ^ (id >> 22)) % CACHE_PLACES);
}

static char *cache_find(struct signature_cache *cache, uint64_t id)
{
    char *copy = NULL;
    pthread_mutex_lock(&cache->lock);
    size_t place = cache_place(id);
    if (cache->places[place].prefix != NULL && cache->places[place].id == id)
        copy = str_dup(str_from(cache->places[place].prefix));
    pthread_mutex_unlock(&cache->lock);
    return copy;
}

static void cache_store(struct signature_cache *cache, uint64_t id, const char *prefix)
{
    pthread_mutex_lock(&cache->lock);
    size_t place = cache_place(id);
    free(cache->places[place].prefix);
    cache->places[place].id = id;
    cache->places[place].prefix = str_dup(str_from(prefix));
    pthread_mutex_unlock(&cache->lock);
}

struct signing {
    uv_work_t work;
    struct worker *worker;
    struct settings *settings;
    uint64_t id;
    int64_t accepted_unix_ms;
    uint8_t body_hash[32];
    size_t header_bytes;
    char sign_domain[256];
    bool share;   /* other units will want it */
    char *prefix; /* NULL: failed */
    signed_fn on_signed;
    void *ctx;
};

static void sha_update(void *ctx, const void *bytes, size_t len)
{
    tls_sha256_update(ctx, bytes, len);
}

static void sha_final(void *ctx, uint8_t digest[32])
{
    tls_sha256_final(ctx, digest);
}

static long sign_digest(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    return tls_key_sign_sha256(key, digest, signature, size);
}

static bool read_section(const struct signing *s, char *section)
{
    size_t have = 0;
    while (have < s->header_bytes) {
        long n = queue_read_body(s->worker->deliver->queue, s->id, have, section + have,
                                 s->header_bytes - have);
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    return true;
}

static bool sign_all(const struct signing *s, struct str section, struct buf *out)
{
    const struct config *config = s->settings->config;
    struct tls_sha256 *sha = tls_sha256_new();
    bool ok = true;
    size_t made = 0;
    for (size_t i = 0; ok && i < config->dkim_count && made < SIGNATURES_MAX; i++) {
        if (strcmp(config->dkim[i].domain, s->sign_domain) != 0)
            continue;
        struct dkim_signer signer = {
            .domain = config->dkim[i].domain,
            .selector = config->dkim[i].selector,
            .time_unix_s = s->accepted_unix_ms / 1000,
            .hash = {.update = sha_update, .final = sha_final, .ctx = sha},
            .sign = sign_digest,
            .key = s->settings->keys[i],
        };
        ok = dkim_sign(&signer, section, s->body_hash, out);
        made++;
    }
    tls_sha256_free(&sha);
    return ok && buf_add(out, "", 1);
}

/* In the thread pool. */
static void sign_work(uv_work_t *work)
{
    struct signing *s = work->data;
    char *section = mem_alloc(s->header_bytes + 1);
    struct buf out;
    buf_init(&out, PREFIX_MAX);
    if (read_section(s, section) && sign_all(s, (struct str){section, s->header_bytes}, &out)) {
        s->prefix = str_dup(str_from(buf_str(&out).p));
        if (s->share)
            cache_store(s->worker->deliver->signatures, s->id, s->prefix);
    }
    buf_deinit(&out);
    free(section);
}

static void sign_after(uv_work_t *work, int status)
{
    struct signing *s = work->data;
    struct worker *worker = s->worker;
    (void)status; /* never cancelled */
    worker->signing--;
    s->on_signed(s->prefix, s->ctx);
    settings_unref(&s->settings);
    free(s->prefix);
    free(s);
    worker_check_stopped(worker);
}

static bool has_key(const struct config *config, const char *domain)
{
    for (size_t i = 0; i < config->dkim_count; i++) {
        if (strcmp(config->dkim[i].domain, domain) == 0)
            return true;
    }
    return false;
}

void signer_start(struct worker *worker, struct settings *settings, uint64_t id,
                  const struct queue_envelope *envelope, signed_fn on_signed, void *ctx)
{
    bool share = envelope->unit_count > 1;
    if (envelope->prefix[0] != '\0') { /* kept from an earlier attempt */
        on_signed(envelope->prefix, ctx);
        return;
    }
    if (envelope->sign_domain[0] == '\0' || !has_key(settings->config, envelope->sign_domain)) {
        on_signed("", ctx);
        return;
    }
    char *known = share ? cache_find(worker->deliver->signatures, id) : NULL;
    if (known != NULL) {
        on_signed(known, ctx);
        free(known);
        return;
    }
    if (envelope->header_bytes > HEADER_MAX) {
        on_signed(NULL, ctx);
        return;
    }
    struct signing *s = mem_alloc(sizeof *s);
    s->work.data = s;
    s->worker = worker;
    s->settings = settings_ref(settings);
    s->id = id;
    s->accepted_unix_ms = envelope->accepted_unix_ms;
    memcpy(s->body_hash, envelope->body_hash, sizeof s->body_hash);
    s->header_bytes = (size_t)envelope->header_bytes;
    snprintf(s->sign_domain, sizeof s->sign_domain, "%s", envelope->sign_domain);
    s->share = share;
    s->on_signed = on_signed;
    s->ctx = ctx;
    worker->signing++;
    int rc = uv_queue_work(loop_uv(worker->loop), &s->work, sign_work, sign_after);
    (void)rc; /* fails only without a function */
}
