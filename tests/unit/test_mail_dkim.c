/* Relaxed canonicalisation against the RFC's own vectors and known hashes, h= lists, folding. The
 * signature is a copy of the digest, so that a test can say what was signed; real keys are for the
 * system tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/dkim.h"
#include "mta/mail/header.h"

/* ---- SHA-256, FIPS 180-4, short and slow ---- */

static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void hash_block(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64];
    uint32_t v[8];
    for (size_t i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (size_t i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(v, h, sizeof v);
    for (size_t i = 0; i < 64; i++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + rounds[i] + w[i];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (size_t i = 0; i < 8; i++)
        h[i] += v[i];
}

static void sha256(struct str text, uint8_t digest[32])
{
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t last[128] = {0};
    size_t whole = text.len / 64 * 64;
    size_t rest = text.len - whole;
    for (size_t i = 0; i < whole; i += 64)
        hash_block(h, (const uint8_t *)text.p + i);
    if (rest > 0)
        memcpy(last, text.p + whole, rest);
    last[rest] = 0x80;
    size_t size = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < 8; i++)
        last[size - 1 - i] = (uint8_t)((uint64_t)text.len * 8 >> (8 * i));
    for (size_t i = 0; i < size; i += 64)
        hash_block(h, last + i);
    for (size_t i = 0; i < 32; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t digest[32], char text[45])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned count = 0;
    size_t at = 0;
    for (size_t i = 0; i < 33; i++) { /* a zero byte more, for the last six bits */
        bits = bits << 8 | (i < 32 ? digest[i] : 0);
        for (count += 8; count >= 6; count -= 6)
            text[at++] = digits[bits >> (count - 6) & 63];
    }
    memcpy(text + 43, "=", 2);
}

/* ---- a hash that remembers what it was fed ---- */

static void recorder_update(void *ctx, const void *bytes, size_t len)
{
    assert_true(len > 0);
    assert_true(buf_add(ctx, bytes, len));
}

static void recorder_final(void *ctx, uint8_t digest[32])
{
    sha256(buf_str(ctx), digest);
}

static struct dkim_hash recorder(struct buf *buf)
{
    return (struct dkim_hash){recorder_update, recorder_final, buf};
}

/* ---- body ---- */

static const struct body_case {
    struct str body, canonical;
} body_cases[] = {
    {STR(""), STR("")},
    {STR("\r\n"), STR("")},
    {STR("\r\n\r\n\r\n"), STR("")},
    {STR("  \r\n\t\r\n \t "), STR("")},
    {STR(" C \r\nD \t E\r\n\r\n\r\n"), STR(" C\r\nD E\r\n")}, /* RFC 6376 section 3.4.5 */
    {STR("a"), STR("a\r\n")},
    {STR("a\r\n"), STR("a\r\n")},
    {STR("a \t"), STR("a\r\n")},
    {STR("a\r\n\r\nb"), STR("a\r\n\r\nb\r\n")},
    {STR("\r\n\r\na\r\n"), STR("\r\n\r\na\r\n")},
    {STR(" \r\n\t\r\na\r\n"), STR("\r\n\r\na\r\n")},
    {STR("a\r\n \r\n  b\r\n"), STR("a\r\n\r\n b\r\n")},
    {STR("\ta\tb\t\r\n"), STR(" a b\r\n")},
    {STR("a  b   c\r\n"), STR("a b c\r\n")},
    {STR("one two three four five six seven eight nine ten  eleven \r\n"),
     STR("one two three four five six seven eight nine ten eleven\r\n")},
    /* Bare CR and LF are never stored; should one come, it is text. */
    {STR("a\nb\rc\r\n"), STR("a\nb\rc\r\n")},
    {STR("a \rb\r\n"), STR("a \rb\r\n")},
    {STR("a\r\r\n"), STR("a\r\r\n")},
    {STR("a \r\r \r\n"), STR("a \r\r\r\n")},
    {STR("\r"), STR("\r\r\n")},
    {STR("a\r"), STR("a\r\r\n")},
    {STR("a\r\n\r"), STR("a\r\n\r\r\n")},
    {STR("\n\r\n"), STR("\n\r\n")},
    {STR("a\r\n\r\tb\r\n"), STR("a\r\n\r b\r\n")},
    {STR("\xc3\xa4\xff\x80 \x80\r\n"), STR("\xc3\xa4\xff\x80 \x80\r\n")},
    {STR("a\0 \0b\r\n"), STR("a\0 \0b\r\n")},
};

static void check_body(struct str body, struct str canonical, size_t piece)
{
    struct buf got;
    struct dkim_body state;
    uint8_t digest[32];
    uint8_t expected[32];

    buf_init(&got, 1 << 24);
    struct dkim_hash hash = recorder(&got);
    dkim_body_init(&state, &hash);
    for (size_t at = 0; at < body.len; at += piece) {
        size_t len = body.len - at < piece ? body.len - at : piece;
        dkim_body_update(&state, body.p + at, len);
    }
    dkim_body_final(&state, digest);
    if (!str_equal(buf_str(&got), canonical))
        fail_msg("body '%.*s' in pieces of %zu: got '%.*s'", (int)body.len, body.p, piece,
                 (int)buf_len(&got), buf_str(&got).p);
    sha256(canonical, expected);
    assert_memory_equal(digest, expected, 32);
    buf_deinit(&got);
}

static void test_body(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof body_cases / sizeof body_cases[0]; i++) {
        for (size_t piece = 1; piece <= body_cases[i].body.len + 1; piece++)
            check_body(body_cases[i].body, body_cases[i].canonical, piece);
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void put(char *out, struct str text)
{
    memcpy(out, text.p, text.len);
}

/* The rule of section 3.4.4, read line by line. */
static size_t canonical_slow(struct str body, char *out)
{
    size_t at = 0;
    size_t kept = 0; /* behind the last line that is not empty */
    while (body.len > 0) {
        const char *end = memmem(body.p, body.len, "\r\n", 2);
        size_t len = end == NULL ? body.len : (size_t)(end - body.p);
        struct str line = {body.p, len};
        body = str_skip(body, end == NULL ? len : len + 2);
        while (line.len > 0 && is_blank(line.p[line.len - 1]))
            line.len--;
        for (size_t i = 0; i < line.len; i++) {
            if (!is_blank(line.p[i]))
                out[at++] = line.p[i];
            else if (i == 0 || !is_blank(line.p[i - 1]))
                out[at++] = ' ';
        }
        out[at++] = '\r';
        out[at++] = '\n';
        if (line.len > 0)
            kept = at;
    }
    return kept;
}

/* Every text of six of these bytes. */
static void test_body_all_short(void **state)
{
    (void)state;
    static const char bytes[] = "ax \t\r\n";
    for (unsigned n = 0; n < 6 * 6 * 6 * 6 * 6 * 6; n++) {
        char body[8];
        char canonical[32];
        unsigned rest = n;
        for (size_t i = 0; i < 6; i++, rest /= 6)
            body[i] = bytes[rest % 6];
        struct str expected = {canonical, canonical_slow((struct str){body, 6}, canonical)};
        check_body((struct str){body, 6}, expected, 6);
        check_body((struct str){body, 6}, expected, 1);
    }
}

/* Runs longer than any buffer, cut at every kind of place. */
static void test_body_long(void **state)
{
    (void)state;
    const size_t size = 300000;
    static const size_t pieces[] = {1, 7, 8, 9, 63, 4095, 4096, 4097, 65536, 300000};
    char *body = malloc(size);
    char *canonical = malloc(2 * size + 2);
    uint32_t random = 1;

    assert_true(body != NULL && canonical != NULL);
    for (unsigned density = 1; density <= 64; density *= 8) {
        for (size_t i = 0; i < size; i++) {
            random = random * 1664525 + 1013904223;
            uint32_t r = random >> 16;
            body[i] = (char)(33 + r % 200);
            if (r % 64 < density)
                body[i] = " \t\r\n"[r / 64 % 4];
            if (i > 0 && r % 80 == 79) {
                body[i - 1] = '\r';
                body[i] = '\n';
            }
        }
        struct str expected = {canonical, canonical_slow((struct str){body, size}, canonical)};
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
            check_body((struct str){body, size}, expected, pieces[i]);
    }
    free(body);
    free(canonical);
}

static void test_body_many_blank_lines(void **state)
{
    (void)state;
    const size_t lines = 100000;
    char *body = malloc(2 * lines + 3);
    assert_non_null(body);
    for (size_t i = 0; i < lines; i++)
        put(body + 2 * i, STR("\r\n"));
    check_body((struct str){body, 2 * lines}, STR(""), 5000);
    put(body + 2 * lines, STR("a\r\n"));
    check_body((struct str){body, 2 * lines + 3}, (struct str){body, 2 * lines + 3}, 5000);
    free(body);
}

/* Cases O01: the hash of nothing, for the empty body and for all-blank bodies. */
static void test_empty_body_hash(void **state)
{
    (void)state;
    static const char *const bodies[] = {"", "\r\n", "\r\n\r\n\r\n", " \r\n\t\r\n"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct buf got;
        struct dkim_body body;
        uint8_t digest[32];
        char text[45];
        buf_init(&got, 100);
        struct dkim_hash hash = recorder(&got);
        dkim_body_init(&body, &hash);
        dkim_body_update(&body, bodies[i], strlen(bodies[i]));
        dkim_body_final(&body, digest);
        base64(digest, text);
        assert_string_equal(text, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        buf_deinit(&got);
    }
}

/* ---- the signature field ---- */

static long sign_copy(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    long len = *(const long *)key;
    assert_true(len <= (long)size);
    for (long i = 0; i < len; i++)
        signature[i] = digest[i % 32];
    return len;
}

/* Signs, and gives the field in out and what was hashed in hashed. */
static void sign(struct str section, const char *domain, const char *selector, long signature_len,
                 struct buf *out, struct buf *hashed)
{
    struct dkim_signer signer = {domain,           selector,  1795567926,
                                 recorder(hashed), sign_copy, &signature_len};
    uint8_t body_hash[32];
    sha256(STR(""), body_hash);
    assert_true(dkim_sign(&signer, section, body_hash, out));
}

/* The text of one tag, white space out. */
static void find_tag(struct str field, const char *tag, char *value, size_t size)
{
    char text[20000] = ";";
    char key[8];
    size_t len = 1;
    for (size_t i = sizeof "DKIM-Signature:" - 1; i < field.len && len + 1 < sizeof text; i++) {
        if (strchr(" \r\n", field.p[i]) == NULL)
            text[len++] = field.p[i];
    }
    text[len] = '\0';
    (void)snprintf(key, sizeof key, ";%s=", tag);
    const char *start = strstr(text, key);
    assert_non_null(start);
    start += strlen(key);
    size_t n = strcspn(start, ";");
    assert_true(n < size);
    memcpy(value, start, n);
    value[n] = '\0';
}

/* Cases O02: whole tags, names and values; no line over 78 where a fold is legal. */
static void check_folding(struct str field, size_t widest)
{
    size_t line = 0;
    assert_true(field.len > 2 && memcmp(field.p + field.len - 2, "\r\n", 2) == 0);
    while (line < field.len) {
        const char *end = memmem(field.p + line, field.len - line, "\r\n", 2);
        assert_non_null(end);
        size_t stop = (size_t)(end - field.p);
        assert_true(stop - line <= widest);
        assert_true(line == 0 || (field.p[line] == ' ' && stop > line + 1));
        /* A line begins with a tag, a ':' of the list, or is base64 of b=. */
        if (line > 0) {
            struct str rest = {field.p + line + 1, stop - line - 1};
            const char *equals = memchr(rest.p, '=', rest.len);
            bool tag = equals != NULL && equals - rest.p <= 2 && rest.p[0] >= 'a';
            bool in_b = memmem(field.p, line, " b=", 3) != NULL;
            assert_true(tag || rest.p[0] == ':' || in_b);
        }
        line = stop + 2;
    }
}

static const struct list_case {
    const char *section, *h, *hashed;
} list_cases[] = {
    {"", "From:Reply-To:To:Cc:Subject:Date:Message-ID:MIME-Version:Content-Type", ""},
    {"From: a@b\r\nSubject: x\r\n",
     "From:From:Reply-To:To:Cc:Subject:Subject:Date:Message-ID:MIME-Version:Content-Type",
     "from:a@b\r\nsubject:x\r\n"},
    /* Order of the list, not of the message; names in any case; never these. */
    {"Received: by x\r\nReturn-Path: <p@q>\r\nBcc: s@t\r\nResent-From: r@s\r\nsubject: x\r\n"
     "FROM: a@b\r\nDKIM-Signature: v=1\r\nX-Other: y\r\n",
     "From:From:Reply-To:To:Cc:Subject:Subject:Date:Message-ID:MIME-Version:Content-Type",
     "from:a@b\r\nsubject:x\r\n"},
    /* Repeated: bottom-up (section 5.4.2), and one more (cases O03). */
    {"Subject: 1\r\nFrom: a@b\r\nSubject: 2\r\nSubject: 3\r\n",
     "From:From:Reply-To:To:Cc:Subject:Subject:Subject:Subject:Date:Message-ID:MIME-Version:"
     "Content-Type",
     "from:a@b\r\nsubject:3\r\nsubject:2\r\nsubject:1\r\n"},
    {"List-Id: 1\r\nList-Id: 2\r\nFrom: a@b\r\nList-Unsubscribe-Post: p\r\nSender: s\r\n",
     "From:From:Sender:Reply-To:To:Cc:Subject:Date:Message-ID:MIME-Version:Content-Type:"
     "List-Unsubscribe-Post:List-Id:List-Id",
     "from:a@b\r\nsender:s\r\nlist-unsubscribe-post:p\r\nlist-id:2\r\nlist-id:1\r\n"},
    /* Relaxed form (section 3.4.2). */
    {"From \t : \t A  b \t\r\n\t c \r\n",
     "From:From:Reply-To:To:Cc:Subject:Date:Message-ID:"
     "MIME-Version:Content-Type",
     "from:A b c\r\n"},
    {"From:\r\n \r\n a\r\nSubject:\r\nTo: \t\r\n \r\n",
     "From:From:Reply-To:To:To:Cc:Subject:Subject:Date:Message-ID:MIME-Version:Content-Type",
     "from:a\r\nto:\r\nsubject:\r\n"},
    /* Lines that are no field are passed over. */
    {"nonsense\r\nFrom: a@b\r\n: x\r\nS\xc3\xbc: y\r\n",
     "From:From:Reply-To:To:Cc:Subject:Date:Message-ID:MIME-Version:Content-Type", "from:a@b\r\n"},
    {"Subject: \xc3\xa4\r\n  \xff\r\nFrom: a@b",
     "From:From:Reply-To:To:Cc:Subject:Subject:Date:Message-ID:MIME-Version:Content-Type",
     "from:a@b\r\nsubject:\xc3\xa4 \xff\r\n"},
};

static void test_signed_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof list_cases / sizeof list_cases[0]; i++) {
        const struct list_case *row = &list_cases[i];
        struct buf out;
        struct buf hashed;
        char value[2000];
        uint8_t digest[32];
        char digest_text[45];

        buf_init(&out, 100000);
        buf_init(&hashed, 100000);
        sign(str_from(row->section), "example.com", "s1", 32, &out, &hashed);
        check_folding(buf_str(&out), 78);

        find_tag(buf_str(&out), "h", value, sizeof value);
        assert_string_equal(value, row->h);
        find_tag(buf_str(&out), "d", value, sizeof value);
        assert_string_equal(value, "example.com");
        find_tag(buf_str(&out), "t", value, sizeof value);
        assert_string_equal(value, "1795567926");
        find_tag(buf_str(&out), "bh", value, sizeof value);
        assert_string_equal(value, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");

        /* The signature is over the fields, then this one with b= empty and no CRLF (section 3.7).
         */
        struct str got = buf_str(&hashed);
        assert_true(str_starts_nocase(got, str_from(row->hashed)));
        struct str own = str_skip(got, strlen(row->hashed));
        assert_true(str_starts_nocase(own, STR("dkim-signature:v=1; a=rsa-sha256; "
                                               "c=relaxed/relaxed; d=example.com; s=s1; t=")));
        assert_true(str_ends_nocase(own, STR("; b=")));
        sha256(got, digest);
        base64(digest, digest_text);
        find_tag(buf_str(&out), "b", value, sizeof value);
        assert_string_equal(value, digest_text);
        buf_deinit(&out);
        buf_deinit(&hashed);
    }
}

/* RFC 6376 section 3.4.5: its header example, with names that are signed here. */
static void test_rfc_header_example(void **state)
{
    (void)state;
    struct buf out;
    struct buf hashed;
    buf_init(&out, 10000);
    buf_init(&hashed, 10000);
    sign(STR("To: X\r\nCc : Y\t\r\n\tZ  \r\n"), "example.com", "s1", 32, &out, &hashed);
    assert_true(str_starts_nocase(buf_str(&hashed), STR("to:X\r\ncc:Y Z\r\n")));
    buf_deinit(&out);
    buf_deinit(&hashed);
}

/* Domains and selectors of every length, small and large keys, one to 400 names in h=. */
static void test_folding_everywhere(void **state)
{
    (void)state;
    char name[254];
    struct buf section;
    buf_init(&section, 100000);
    memset(name, 'x', sizeof name);

    for (size_t len = 1; len < sizeof name; len++) {
        struct buf out;
        struct buf hashed;
        char value[2000];
        name[len] = '\0';
        buf_init(&out, 100000);
        buf_init(&hashed, 100000);
        sign(buf_str(&section), name, len < 64 ? name : "s1", 128 + (long)len * 2, &out, &hashed);
        check_folding(buf_str(&out), len + 4 > 78 ? len + 4 : 78);
        find_tag(buf_str(&out), "d", value, sizeof value);
        assert_string_equal(value, name);
        find_tag(buf_str(&out), "b", value, sizeof value);
        size_t signature_len = 128 + len * 2;
        assert_int_equal(strlen(value), (signature_len + 2) / 3 * 4);
        assert_int_equal(strcspn(value, "="), (signature_len * 8 + 5) / 6);
        name[len] = 'x';
        assert_true(buf_add_text(&section, len % 2 == 0 ? "To: a@b\r\n" : "References: <a@b>\r\n"));
        buf_deinit(&out);
        buf_deinit(&hashed);
    }
    buf_deinit(&section);
}

static long sign_nothing(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    (void)digest;
    (void)signature;
    (void)size;
    return *(long *)key;
}

static void test_failures(void **state)
{
    (void)state;
    uint8_t body_hash[32] = {0};
    struct buf out;
    struct buf hashed;
    long result = -1;
    buf_init(&hashed, 10000);
    struct dkim_signer signer = {"example.com", "s1", 1, recorder(&hashed), sign_nothing, &result};

    buf_init(&out, 10000);
    assert_false(dkim_sign(&signer, STR("From: a@b\r\n"), body_hash, &out));
    result = 0;
    assert_false(dkim_sign(&signer, STR("From: a@b\r\n"), body_hash, &out));
    result = 100000; /* more than the room it was given */
    assert_false(dkim_sign(&signer, STR("From: a@b\r\n"), body_hash, &out));
    assert_int_equal(buf_len(&out), 0);
    buf_deinit(&out);

    char domain[600]; /* more than any domain has */
    memset(domain, 'd', sizeof domain - 1);
    domain[sizeof domain - 1] = '\0';
    result = 32;
    signer.sign = sign_copy;
    signer.domain = domain;
    buf_init(&out, 10000);
    assert_false(dkim_sign(&signer, STR("From: a@b\r\n"), body_hash, &out));
    assert_int_equal(buf_len(&out), 0);
    buf_deinit(&out);
    signer.domain = "example.com";
    for (size_t max = 0; max < 400; max += 7) { /* whole or not at all */
        buf_init(&out, max);
        bool ok = dkim_sign(&signer, STR("From: a@b\r\n"), body_hash, &out);
        assert_int_equal(ok, buf_len(&out) > 0);
        buf_deinit(&out);
    }
    buf_deinit(&hashed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_body_all_short),
        cmocka_unit_test(test_body_long),
        cmocka_unit_test(test_body_many_blank_lines),
        cmocka_unit_test(test_empty_body_hash),
        cmocka_unit_test(test_signed_fields),
        cmocka_unit_test(test_rfc_header_example),
        cmocka_unit_test(test_folding_everywhere),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
