/* dkim_sign: signs messages as the daemon does, one after the other. Reads "DOMAIN SELECTOR KEY.pem
 * LENGTH\n" and LENGTH octets of a message (CRLF); writes "LENGTH\n" and so many octets of
 * DKIM-Signature, until the input ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/dkim.h"
#include "mta/mail/header.h"
#include "tls/tls.h"

#define MESSAGE_MAX ((size_t)64 << 20)
#define SIGNED_AT   1795567926
#define PIECE       1009 /* the body comes in pieces, as from a network */

static void hash_update(void *ctx, const void *bytes, size_t len)
{
    tls_sha256_update(ctx, bytes, len);
}

static void hash_final(void *ctx, uint8_t digest[32])
{
    tls_sha256_final(ctx, digest);
}

static long sign(void *key, const uint8_t digest[32], uint8_t *signature, size_t size)
{
    return tls_key_sign_sha256(key, digest, signature, size);
}

static bool read_exactly(struct buf *message, size_t len)
{
    char bytes[65536];
    while (len > 0) {
        size_t want = len < sizeof bytes ? len : sizeof bytes;
        if (fread(bytes, 1, want, stdin) != want || !buf_add(message, bytes, want))
            return false;
        len -= want;
    }
    return true;
}

static bool sign_message(struct str message, struct dkim_signer *signer, struct buf *field)
{
    size_t header_len = message.len;
    size_t body_start = message.len;
    struct dkim_body body;
    uint8_t body_hash[32];

    if (!header_section_end(message, &header_len, &body_start))
        fprintf(stderr, "no blank line: all of it is header\n");
    dkim_body_init(&body, &signer->hash);
    for (size_t at = body_start; at < message.len; at += PIECE)
        dkim_body_update(&body, message.p + at,
                         message.len - at < PIECE ? message.len - at : PIECE);
    dkim_body_final(&body, body_hash);
    return dkim_sign(signer, (struct str){message.p, header_len}, body_hash, field);
}

/* The message under way, LENGTH octets of it, and what it is signed with. */
struct request {
    char domain[256];
    char selector[256];
    char path[1024];
    size_t length;
};

static bool read_request(struct request *request)
{
    char line[1600];
    return fgets(line, sizeof line, stdin) != NULL &&
           sscanf(line, "%255s %255s %1023s %zu", request->domain, request->selector, request->path,
                  &request->length) == 4 &&
           request->length <= MESSAGE_MAX;
}

static bool answer(const struct request *request, struct tls_key *key, struct tls_sha256 *sha)
{
    struct buf message;
    struct buf field;
    struct dkim_signer signer = {
        request->domain, request->selector, SIGNED_AT, {hash_update, hash_final, sha}, sign, key};
    buf_init(&message, MESSAGE_MAX);
    buf_init(&field, MESSAGE_MAX);
    bool ok = read_exactly(&message, request->length) &&
              sign_message(buf_str(&message), &signer, &field) &&
              printf("%zu\n", buf_len(&field)) > 0 &&
              fwrite(buf_str(&field).p, 1, buf_len(&field), stdout) == buf_len(&field) &&
              fflush(stdout) == 0;
    buf_deinit(&message);
    buf_deinit(&field);
    return ok;
}

int main(void)
{
    struct request request = {0};
    char loaded[sizeof request.path] = "";
    struct tls_key *key = NULL;
    char error[256];
    bool ok = tls_init() == 0;
    struct tls_sha256 *sha = tls_sha256_new();
    while (ok && read_request(&request)) {
        if (strcmp(loaded, request.path) != 0) {
            tls_key_unref(&key);
            memcpy(loaded, request.path, sizeof loaded);
            if (tls_key_load(request.path, &key, error, sizeof error) < 0) {
                fprintf(stderr, "dkim_sign: %s\n", error);
                ok = false;
                break;
            }
        }
        ok = answer(&request, key, sha);
    }
    ok = ok && feof(stdin) != 0; /* else a request that cannot be read */
    tls_sha256_free(&sha);
    tls_key_unref(&key);
    tls_deinit();
    return ok ? 0 : 1;
}
