/* mta/mail/dkim_canon.c - relaxed canonicalisation of body and fields, RFC 6376 sections 3.4.2
 * and 3.4.4.
 *
 * Every byte of every message passes here. Most stretches of mail are canonical as they stand, line
 * ends included, so the scan looks for the next place that is not, eight bytes at a step, and
 * hashes all before it in one call, straight from the input. */
#include "mta/mail/dkim_private.h"

#include <string.h>

#define DIRECT_MIN 512 /* pieces from here on are hashed where they lie */

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- batch ---- */

void dkim_batch_init(struct dkim_batch *batch, const struct dkim_hash *hash)
{
    batch->hash = hash;
    batch->len = 0;
}

void dkim_batch_flush(struct dkim_batch *batch)
{
    if (batch->len > 0)
        batch->hash->update(batch->hash->ctx, batch->bytes, batch->len);
    batch->len = 0;
}

void dkim_batch_add(struct dkim_batch *batch, const char *bytes, size_t len)
{
    if (len > sizeof batch->bytes - batch->len || len >= DIRECT_MIN)
        dkim_batch_flush(batch);
    if (len >= DIRECT_MIN) {
        batch->hash->update(batch->hash->ctx, bytes, len);
        return;
    }
    memcpy(batch->bytes + batch->len, bytes, len);
    batch->len += len;
}

/* ---- body ---- */

/* Sets the high bit of (at least) every byte that is b. A bit too many sends its byte to the
 * careful path, which costs time and nothing else. */
static uint64_t bytes_equal(uint64_t word, uint64_t b)
{
    uint64_t x = word ^ EACH_BYTE(b);
    return (x - EACH_BYTE(1)) & ~x & EACH_BYTE(0x80);
}

static uint64_t bytes_at_most_space(uint64_t word)
{
    return (word - EACH_BYTE(0x21)) & ~word & EACH_BYTE(0x80);
}

/* A tab, or a space before white space or the line's end, is where the text must change. */
static bool changes_here(const char *bytes, size_t at, size_t len)
{
    if (bytes[at] == '\t')
        return true;
    if (bytes[at] != ' ')
        return false;
    return at + 1 == len || is_blank(bytes[at + 1]) || bytes[at + 1] == '\r';
}

/* How many bytes go through unchanged; what follows them decides about trailing line ends. */
static size_t clean_length(const char *bytes, size_t len)
{
    size_t at = 0;
    while (at < len) {
        if (len - at > sizeof(uint64_t)) {
            uint64_t here;
            uint64_t next;
            memcpy(&here, bytes + at, sizeof here);
            memcpy(&next, bytes + at + 1, sizeof next);
            uint64_t hits =
                bytes_equal(here, '\t') | (bytes_equal(here, ' ') & bytes_at_most_space(next));
            if (hits == 0) {
                at += sizeof here;
                continue;
            }
        }
        size_t stop = len - at > sizeof(uint64_t) ? at + sizeof(uint64_t) : len;
        for (; at < stop; at++) {
            if (changes_here(bytes, at, len))
                return at;
        }
    }
    return len;
}

static void add_line_ends(struct dkim_batch *batch, uint64_t count)
{
    static const char line_ends[] =
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
    const uint64_t most = (sizeof line_ends - 1) / 2;
    while (count > 0) {
        uint64_t some = count < most ? count : most;
        dkim_batch_add(batch, line_ends, (size_t)some * 2);
        count -= some;
    }
}

/* Text follows: what was held back is part of the body after all. */
static void release_held(struct dkim_body *body, struct dkim_batch *batch)
{
    add_line_ends(batch, body->blank_lines);
    body->blank_lines = 0;
    if (body->pending_space)
        dkim_batch_add(batch, " ", 1);
    body->pending_space = false;
    body->any = true;
}

/* A run that begins with text. Its line ends at the very end are held back, as the body may stop
 * there.
 * @return bytes used */
static size_t eat_run(struct dkim_body *body, struct dkim_batch *batch, const char *bytes,
                      size_t len)
{
    size_t used = clean_length(bytes, len);
    size_t keep = used;
    if (used == len && bytes[keep - 1] == '\r') {
        body->pending_cr = true;
        keep--;
    }
    while (keep >= 2 && bytes[keep - 1] == '\n' && bytes[keep - 2] == '\r') {
        body->blank_lines++;
        keep -= 2;
    }
    dkim_batch_add(batch, bytes, keep);
    return used;
}

/* A CR was seen: with LF it ends the line (and drops the white space before it), alone it is text.
 * @return bytes used */
static size_t settle_cr(struct dkim_body *body, struct dkim_batch *batch, char next)
{
    body->pending_cr = false;
    if (next != '\n') {
        release_held(body, batch);
        dkim_batch_add(batch, "\r", 1);
        return 0;
    }
    body->pending_space = false;
    body->blank_lines++;
    return 1;
}

void dkim_body_init(struct dkim_body *body, const struct dkim_hash *hash)
{
    *body = (struct dkim_body){.hash = *hash};
}

void dkim_body_update(struct dkim_body *body, const char *bytes, size_t len)
{
    struct dkim_batch batch;
    dkim_batch_init(&batch, &body->hash);

    for (size_t at = 0; at < len;) {
        if (body->pending_cr) {
            at += settle_cr(body, &batch, bytes[at]);
        } else if (is_blank(bytes[at])) {
            body->pending_space = true;
            at++;
        } else if (bytes[at] == '\r') {
            body->pending_cr = true;
            at++;
        } else {
            release_held(body, &batch);
            at += eat_run(body, &batch, bytes + at, len - at);
        }
    }
    dkim_batch_flush(&batch);
}

void dkim_body_final(struct dkim_body *body, uint8_t digest[32])
{
    struct dkim_batch batch;
    dkim_batch_init(&batch, &body->hash);

    if (body->pending_cr)
        (void)settle_cr(body, &batch, '\0');
    if (body->any)
        dkim_batch_add(&batch, "\r\n", 2); /* the last line's own, or the one that it lacks */
    dkim_batch_flush(&batch);
    body->hash.final(body->hash.ctx, digest);
}

/* ---- fields ---- */

static void add_lower(struct dkim_batch *batch, struct str name)
{
    while (name.len > 0) {
        char piece[64];
        size_t len = name.len < sizeof piece ? name.len : sizeof piece;
        memcpy(piece, name.p, len);
        str_lower(piece, len);
        dkim_batch_add(batch, piece, len);
        name = str_skip(name, len);
    }
}

static bool at_line_end(struct str s)
{
    return s.len >= 2 && s.p[0] == '\r' && s.p[1] == '\n';
}

void dkim_relax_field(struct dkim_batch *batch, struct str name, struct str value)
{
    bool space = false;
    bool text = false;

    add_lower(batch, name);
    dkim_batch_add(batch, ":", 1);
    while (value.len > 0) {
        if (at_line_end(value)) {
            value = str_skip(value, 2);
            continue;
        }
        if (is_blank(value.p[0])) {
            space = true;
            value = str_skip(value, 1);
            continue;
        }
        size_t len = 1;
        while (len < value.len && !is_blank(value.p[len]) && value.p[len] != '\r')
            len++;
        if (space && text)
            dkim_batch_add(batch, " ", 1);
        dkim_batch_add(batch, value.p, len);
        space = false;
        text = true;
        value = str_skip(value, len);
    }
}
