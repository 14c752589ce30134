/* tls/digest.c - SHA-256 as mta/mail asks for it. A digest belongs to one thread at a time. */
#include "tls/tls_private.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <stdlib.h>

struct tls_sha256 {
    gnutls_hash_hd_t hash;
};

struct tls_sha256 *tls_sha256_new(void)
{
    struct tls_sha256 *sha = tls_alloc(sizeof *sha);
    int rc = gnutls_hash_init(&sha->hash, GNUTLS_DIG_SHA256);
    assert(rc == GNUTLS_E_SUCCESS);
    (void)rc;
    return sha;
}

void tls_sha256_update(struct tls_sha256 *sha, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    int rc = gnutls_hash(sha->hash, bytes, len);
    assert(rc == GNUTLS_E_SUCCESS);
    (void)rc;
}

void tls_sha256_final(struct tls_sha256 *sha, uint8_t digest[32])
{
    gnutls_hash_output(sha->hash, digest);
}

void tls_sha256_free(struct tls_sha256 **shap)
{
    if (*shap == NULL)
        return;
    gnutls_hash_deinit((*shap)->hash, NULL);
    free(*shap);
    *shap = NULL;
}
