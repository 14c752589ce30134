/* dkim_sign DOMAIN SELECTOR KEY.pem: signs the message on standard input (CRLF) as the daemon does,
 * prints it. */
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

static bool read_all(struct buf *message)
{
    char bytes[65536];
    size_t len;
    do {
        len = fread(bytes, 1, sizeof bytes, stdin);
        if (!buf_add(message, bytes, len))
            return false;
    } while (len > 0);
    return ferror(stdin) == 0;
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

int main(int argc, char **argv)
{
    struct buf message;
    struct buf field;
    struct tls_key *key = NULL;
    char error[256];

    if (argc != 4) {
        fprintf(stderr, "usage: dkim_sign DOMAIN SELECTOR KEY.pem < message\n");
        return 2;
    }
    buf_init(&message, MESSAGE_MAX);
    buf_init(&field, MESSAGE_MAX);
    if (tls_init() < 0 || tls_key_load(argv[3], &key, error, sizeof error) < 0) {
        fprintf(stderr, "dkim_sign: cannot load %s\n", argv[3]);
        return 1;
    }
    struct tls_sha256 *sha = tls_sha256_new();
    struct dkim_signer signer = {argv[1], argv[2], SIGNED_AT, {hash_update, hash_final, sha},
                                 sign,    key};
    bool ok = read_all(&message) && sign_message(buf_str(&message), &signer, &field) &&
              fwrite(buf_str(&field).p, 1, buf_len(&field), stdout) == buf_len(&field) &&
              (buf_len(&message) == 0 ||
               fwrite(buf_str(&message).p, 1, buf_len(&message), stdout) == buf_len(&message)) &&
              fflush(stdout) == 0;
    tls_sha256_free(&sha);
    tls_key_unref(&key);
    buf_deinit(&message);
    buf_deinit(&field);
    tls_deinit();
    return ok ? 0 : 1;
}
