/* mta/mail/dkim_sign.c - the DKIM-Signature field: which fields are signed, in which order, and the
 * field's own form. RFC 6376 sections 3.5, 3.7, 5.4. */
#include "mta/mail/dkim_private.h"

#include "mta/mail/fold_private.h"
#include "mta/mail/header.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE_MAX 1024
#define BASE64_MAX    ((SIGNATURE_MAX + 2) / 3 * 4)
#define NONE          SIZE_MAX

/* In the order of h=. Oversigned names are listed once more than they occur, so that a copy put in
 * front later, which mail programs would show, breaks the signature (section 8.15). */
static const struct signed_name {
    const char *name;
    bool oversigned;
} signed_names[] = {
    {"From", true},
    {"Sender", false},
    {"Reply-To", true},
    {"To", true},
    {"Cc", true},
    {"Subject", true},
    {"Date", true},
    {"Message-ID", true},
    {"In-Reply-To", false},
    {"References", false},
    {"MIME-Version", true},
    {"Content-Type", true},
    {"Content-Transfer-Encoding", false},
    {"List-Unsubscribe", false},
    {"List-Unsubscribe-Post", false},
    {"List-Id", false},
};
#define NAMES (sizeof signed_names / sizeof signed_names[0])

/* The fields to sign, each linked to the one above it with the same name: bottom-up is the order in
 * which a verifier looks for them (section 5.4.2). */
struct index {
    struct entry {
        struct str name;
        struct str value;
        size_t above;
    } * entries;
    size_t count;
    size_t capacity;
    size_t lowest[NAMES];
};

static size_t find_name(struct str name)
{
    size_t i = 0;
    while (i < NAMES && !str_equal_nocase(name, str_from(signed_names[i].name)))
        i++;
    return i;
}

/* Memory is bounded by the section: a field takes five octets there at least. */
static void add_entry(struct index *index, size_t which, const struct header_field *field)
{
    if (index->count == index->capacity) {
        index->capacity = index->capacity == 0 ? 32 : index->capacity * 2;
        index->entries = mem_grow(index->entries, index->capacity * sizeof index->entries[0]);
    }
    index->entries[index->count] = (struct entry){field->name, field->value, index->lowest[which]};
    index->lowest[which] = index->count++;
}

static void index_init(struct index *index, struct str section)
{
    struct header_walk walk;
    struct header_field field;

    *index = (struct index){0};
    for (size_t i = 0; i < NAMES; i++)
        index->lowest[i] = NONE;
    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        size_t which = find_name(field.name);
        if (which < NAMES)
            add_entry(index, which, &field);
    }
}

static void index_deinit(struct index *index)
{
    free(index->entries);
}

static void list_name(struct fold *fold, const char *name, bool *first)
{
    char piece[40];
    int len = snprintf(piece, sizeof piece, "%s%s", *first ? "h=" : ":", name);
    if (*first)
        fold_word(fold, (struct str){piece, (size_t)len});
    else
        fold_glue(fold, (struct str){piece, (size_t)len});
    *first = false;
}

static void list_names(struct fold *fold, const struct index *index)
{
    bool first = true;
    for (size_t i = 0; i < NAMES; i++) {
        for (size_t at = index->lowest[i]; at != NONE; at = index->entries[at].above)
            list_name(fold, signed_names[i].name, &first);
        if (signed_names[i].oversigned)
            list_name(fold, signed_names[i].name, &first);
    }
    fold_add(fold, STR(";"));
}

static size_t encode_base64(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (i + 1 < len)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < len)
            group |= bytes[i + 2];
        out[at++] = digits[group >> 18];
        out[at++] = digits[group >> 12 & 63];
        out[at++] = digits[group >> 6 & 63];
        out[at++] = digits[group & 63];
    }
    if (len % 3 != 0)
        out[at - 1] = '=';
    if (len % 3 == 1)
        out[at - 2] = '=';
    return at;
}

/* "k=value;" as one piece: nowhere inside d= and s= may white space stand. */
static void add_tag(struct fold *fold, const char *tag, const char *value)
{
    char piece[512];
    int len = snprintf(piece, sizeof piece, "%s=%s;", tag, value);
    if (len < 0 || (size_t)len >= sizeof piece) {
        fold->out->overflow = true; /* no domain or selector is that long */
        return;
    }
    fold_word(fold, (struct str){piece, (size_t)len});
}

/* All but the value of b=, the form over which the signature is made (section 3.7). */
static void write_unsigned(struct fold *fold, struct buf *field, const struct dkim_signer *signer,
                           const struct index *index, const uint8_t body_hash[32])
{
    char text[64];
    fold_begin(fold, field, "DKIM-Signature:");
    fold_word(fold, STR("v=1;"));
    fold_word(fold, STR("a=rsa-sha256;"));
    fold_word(fold, STR("c=relaxed/relaxed;"));
    add_tag(fold, "d", signer->domain);
    add_tag(fold, "s", signer->selector);
    (void)snprintf(text, sizeof text, "%" PRId64,
                   signer->time_unix_s > 0 ? signer->time_unix_s : 0);
    add_tag(fold, "t", text);
    list_names(fold, index);
    text[encode_base64(body_hash, 32, text)] = '\0';
    add_tag(fold, "bh", text);
    fold_word(fold, STR("b="));
}

static void hash_header(const struct dkim_hash *hash, const struct index *index, struct str field,
                        uint8_t digest[32])
{
    struct dkim_batch batch;
    dkim_batch_init(&batch, hash);
    for (size_t i = 0; i < NAMES; i++) {
        for (size_t at = index->lowest[i]; at != NONE; at = index->entries[at].above) {
            dkim_relax_field(&batch, index->entries[at].name, index->entries[at].value);
            dkim_batch_add(&batch, "\r\n", 2);
        }
    }
    dkim_relax_field(&batch, STR("dkim-signature"), str_skip(field, sizeof "DKIM-Signature:" - 1));
    dkim_batch_flush(&batch);
    hash->final(hash->ctx, digest);
}

bool dkim_sign(const struct dkim_signer *signer, struct str section, const uint8_t body_hash[32],
               struct buf *out)
{
    struct index index;
    struct buf field;
    struct fold fold;
    uint8_t digest[32];
    uint8_t signature[SIGNATURE_MAX];
    char base64[BASE64_MAX];
    bool ok = false;

    index_init(&index, section);
    buf_init(&field, out->max);
    write_unsigned(&fold, &field, signer, &index, body_hash);
    if (field.overflow)
        goto done;

    hash_header(&signer->hash, &index, buf_str(&field), digest);
    long len = signer->sign(signer->key, digest, signature, sizeof signature);
    if (len <= 0 || (size_t)len > sizeof signature)
        goto done;

    fold_fill(&fold, (struct str){base64, encode_base64(signature, (size_t)len, base64)});
    fold_end(&fold);
    ok = !field.overflow && buf_add_str(out, buf_str(&field));
done:
    buf_deinit(&field);
    index_deinit(&index);
    return ok;
}
