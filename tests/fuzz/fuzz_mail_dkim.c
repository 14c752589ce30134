/* The fast canonicaliser against the rules of RFC 6376 sections 3.4.2 and 3.4.4 written down
 * plainly, the input cut into pieces at places that the input itself chooses. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/dkim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void record(void *ctx, const void *bytes, size_t len)
{
    bool ok = buf_add(ctx, bytes, len);
    assert(ok);
}

static void no_final(void *ctx, uint8_t digest[32])
{
    (void)ctx;
    memset(digest, 0, 32);
}

static long sign_byte(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    (void)key;
    (void)size;
    signature[0] = digest[0];
    return 1;
}

/* Runs of white space to one space; none at the end; at the start only if `keep_first`. */
static size_t squeeze(const char *line, size_t len, bool keep_first, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_blank(line[i]))
            out[at++] = line[i];
        else if (at == 0 ? keep_first : out[at - 1] != ' ')
            out[at++] = ' ';
    }
    while (at > 0 && out[at - 1] == ' ')
        at--;
    return at;
}

static size_t plain_body(const char *body, size_t len, char *out)
{
    size_t at = 0;
    size_t kept = 0;
    for (size_t start = 0; start < len;) {
        const char *end = memmem(body + start, len - start, "\r\n", 2);
        size_t line = end == NULL ? len - start : (size_t)(end - body) - start;
        size_t squeezed = squeeze(body + start, line, true, out + at);
        at += squeezed;
        out[at++] = '\r';
        out[at++] = '\n';
        if (squeezed > 0)
            kept = at;
        start += line + 2;
    }
    return kept;
}

static void check_body(const char *body, size_t len, size_t step)
{
    char *expected = malloc(2 * len + 2);
    struct buf got;
    struct dkim_body state;
    uint8_t digest[32];

    assert(expected != NULL);
    size_t expected_len = plain_body(body, len, expected);
    buf_init(&got, 4 * len + 4);
    struct dkim_hash hash = {record, no_final, &got};
    dkim_body_init(&state, &hash);
    for (size_t at = 0, n = step; at < len; n = n * 5 + 1) {
        size_t piece = n % 97 + 1;
        if (step == 0 || piece > len - at)
            piece = len - at;
        dkim_body_update(&state, body + at, piece);
        at += piece;
    }
    dkim_body_final(&state, digest);
    assert(str_equal(buf_str(&got), (struct str){expected, expected_len}));
    buf_deinit(&got);
    free(expected);
}

/* The bytes as the value of one field: a CRLF that would end it is left out. */
static void check_field(const char *bytes, size_t len)
{
    static const char name[] = "sUBJECT \t:";
    size_t at = sizeof name - 1;
    size_t unfolded_len = 0;
    char *section = malloc(at + len + 2);
    char *unfolded = calloc(len + 1, 1);
    char *expected = malloc(len + 16);
    assert(section != NULL && unfolded != NULL && expected != NULL);

    memcpy(section, name, at);
    for (size_t i = 0; i < len; i++) {
        bool line_end = i + 1 < len && bytes[i] == '\r' && bytes[i + 1] == '\n';
        bool folds = line_end && i + 2 < len && is_blank(bytes[i + 2]);
        if (folds) {
            section[at++] = '\r';
            section[at++] = '\n';
        }
        if (line_end) {
            i++;
            continue;
        }
        /* What was left out must not make a new CRLF. */
        if (bytes[i] == '\n' && at > 0 && section[at - 1] == '\r')
            continue;
        section[at++] = bytes[i];
        unfolded[unfolded_len++] = bytes[i];
    }
    if (section[at - 1] == '\r') { /* nor with the final one */
        at--;
        unfolded_len--;
    }
    section[at++] = '\r';
    section[at++] = '\n';
    memcpy(expected, "subject:", 8);
    size_t expected_len = 8 + squeeze(unfolded, unfolded_len, false, expected + 8);
    memcpy(expected + expected_len, "\r\n", 2);
    expected_len += 2;

    struct buf got;
    struct buf out;
    buf_init(&got, len + 4096);
    buf_init(&out, 4096);
    struct dkim_signer signer = {"example.com", "s1", 1, {record, no_final, &got}, sign_byte, NULL};
    uint8_t body_hash[32] = {0};
    bool ok = dkim_sign(&signer, (struct str){section, at}, body_hash, &out);
    assert(ok);
    struct str hashed = buf_str(&got);
    assert(hashed.len > expected_len && memcmp(hashed.p, expected, expected_len) == 0);
    assert(str_starts_nocase(str_skip(hashed, expected_len), STR("dkim-signature:v=1;")));
    buf_deinit(&got);
    buf_deinit(&out);
    free(section);
    free(unfolded);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 65536)
        return 0;
    const char *bytes = (const char *)data + 1;
    check_body(bytes, size - 1, 0);
    check_body(bytes, size - 1, 1);
    check_body(bytes, size - 1, data[0]);
    check_field(bytes, size - 1);
    return 0;
}
