/* A header section from anyone: the walk covers every byte once, parts point into it, and nothing
 * of it shapes the fields that we write. */
#include <assert.h>
#include <string.h>

#include "mta/mail/dkim.h"
#include "mta/mail/header.h"
#include "mta/mail/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct str part, struct str whole)
{
    return part.p >= whole.p && part.p + part.len <= whole.p + whole.len;
}

static void check_mailbox(struct str value)
{
    struct str local;
    struct str domain;
    if (!header_first_mailbox(value, &local, &domain))
        return;
    assert(local.len > 0 && domain.len > 0);
    assert(lies_in(local, value) && lies_in(domain, value));
    assert(domain.p > local.p + local.len - 1);
    if (domain.p[0] != '[')
        assert(memchr(domain.p, ' ', domain.len) == NULL &&
               memchr(domain.p, '@', domain.len) == NULL);
}

static void check_walk(struct str section)
{
    struct header_walk walk;
    struct header_field field;
    size_t used = 0;

    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        assert(field.whole.p == section.p + used && field.whole.len > 0);
        if (field.name.len > 0) {
            assert(lies_in(field.name, field.whole) && lies_in(field.value, field.whole));
            check_mailbox(field.value);
        }
        used += field.whole.len;
    }
    struct str rest = str_skip(section, used);
    assert(rest.len == 0 || str_starts_nocase(rest, STR("\r\n")));
}

static void check_end(struct str bytes)
{
    size_t header_len;
    size_t body_start;
    if (!header_section_end(bytes, &header_len, &body_start))
        return;
    assert(body_start == header_len + 2 && body_start <= bytes.len);
    assert(memcmp(bytes.p + header_len, "\r\n", 2) == 0);
    struct header_facts facts;
    header_facts_read((struct str){bytes.p, header_len}, &facts);
    assert(facts.has_from == (facts.from_count > 0));
}

/* One field and no byte that could begin another. */
static void check_field(struct str field)
{
    struct header_walk walk;
    struct header_field got;
    header_walk_init(&walk, field);
    bool first = header_walk_next(&walk, &got);
    assert(first && got.whole.len == field.len && got.name.len > 0);
    for (size_t i = 0; i < field.len; i++) {
        char c = field.p[i];
        assert((c >= ' ' && c < 0x7f) || (c == '\r' && field.p[i + 1] == '\n') || c == '\n');
    }
}

static void check_received(struct str text)
{
    char recipient[128];
    size_t len = text.len < sizeof recipient ? text.len : sizeof recipient - 1;
    struct buf out;

    memcpy(recipient, text.p, len);
    recipient[len] = '\0';
    struct trace_received received = {.helo = text,
                                      .address = "2001:db8::1",
                                      .by = "mail.example.com",
                                      .protocol = "ESMTP",
                                      .tls = recipient,
                                      .id = "0ABCDEFGHJKMN",
                                      .recipient = recipient,
                                      .time_unix_ms = 0};
    buf_init(&out, 8192);
    bool ok = trace_add_received(&received, &out);
    assert(ok);
    check_field(buf_str(&out));
    buf_deinit(&out);
}

static void no_update(void *ctx, const void *bytes, size_t len)
{
    assert(bytes != NULL && len > 0);
    *(size_t *)ctx += len;
}

static void no_final(void *ctx, uint8_t digest[32])
{
    memset(digest, (int)(*(size_t *)ctx & 0xff), 32);
}

static long no_sign(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    (void)key;
    assert(size >= 256);
    memset(signature, digest[0], 256);
    return 256;
}

static void check_signature(struct str section)
{
    size_t hashed = 0;
    struct dkim_signer signer = {"example.com", "s1",   1, {no_update, no_final, &hashed},
                                 no_sign,       &hashed};
    uint8_t body_hash[32] = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    bool ok = dkim_sign(&signer, section, body_hash, &out);
    assert(ok);
    check_field(buf_str(&out));
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    if (size == 0 || size > 32768)
        return 0;
    check_walk(text);
    check_mailbox(text);
    check_end(text);
    check_received(text);
    check_signature(text);
    return 0;
}
