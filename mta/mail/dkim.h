/* mta/mail/dkim.h - DKIM signing (RFC 6376, 8301): rsa-sha256, relaxed/relaxed. Pure: hashing and
 * signing come in as function pointers. The body hash runs while the message arrives; the header is
 * signed once, later. */
#ifndef MTA_MAIL_DKIM_H
#define MTA_MAIL_DKIM_H

#include "mta/base/buf.h"

struct dkim_hash { /* a running SHA-256 */
    void (*update)(void *ctx, const void *bytes, size_t len);
    void (*final)(void *ctx, uint8_t digest[32]);
    void *ctx;
};

/* Relaxed body canonicalisation (section 3.4.4), fed in pieces of any size, each byte once. */
struct dkim_body {
    struct dkim_hash hash;
    uint64_t blank_lines; /* CRLFs held back: dropped if the body ends here */
    bool pending_space;
    bool pending_cr;
    bool any; /* something was hashed */
};
void dkim_body_init(struct dkim_body *body, const struct dkim_hash *hash);
void dkim_body_update(struct dkim_body *body, const char *bytes, size_t len);
void dkim_body_final(struct dkim_body *body, uint8_t digest[32]);

struct dkim_signer {
    const char *domain;
    const char *selector;
    int64_t time_unix_s;   /* t= */
    struct dkim_hash hash; /* for the header hash */
    /* rsa-sha256 over the digest; returns the length or < 0. */
    long (*sign)(void *key, const uint8_t digest[32], uint8_t *signature, size_t size);
    void *key;
};

/**
 * Make the DKIM-Signature field (folded at legal places, lines of at most 78 octets, final CRLF)
 * over a header section. Signed where present, bottom-up: From Sender Reply-To To Cc Subject Date
 * Message-ID In-Reply-To References MIME-Version Content-Type Content-Transfer-Encoding
 * List-Unsubscribe List-Unsubscribe-Post List-Id; oversigned (one name more than there are): From
 * To Cc Subject Date Reply-To Message-ID Content-Type MIME-Version. Never Received, Return-Path,
 * Bcc, Resent-*.
 *
 * @param section the stored header section, final blank line excluded
 * @return false: no room in out, or sign failed
 */
MUST_USE bool dkim_sign(const struct dkim_signer *signer, struct str section,
                        const uint8_t body_hash[32], struct buf *out);

#endif
