/* tls/key.c - private keys that sign (DKIM: RFC 6376 section 3.3.1, RFC 8463). A loaded key is
 * immutable, so any number of threads may sign with it at once. */
#include "tls/tls_private.h"

#include <assert.h>
#include <gnutls/abstract.h>
#include <stdlib.h>
#include <string.h>

enum { RSA_MIN_BITS = 1024, RSA_MAX_BITS = 8192 };

struct tls_key {
    atomic_uint references;
    gnutls_privkey_t private_key;
    bool rsa;
    unsigned bits;
};

static const char *find_fault(struct tls_key *key)
{
    int algorithm = gnutls_privkey_get_pk_algorithm(key->private_key, &key->bits);

    key->rsa = algorithm == GNUTLS_PK_RSA;
    if (!key->rsa && algorithm != GNUTLS_PK_EDDSA_ED25519)
        return "neither an RSA nor an Ed25519 key";
    if (key->rsa && key->bits < RSA_MIN_BITS)
        return "RSA key too weak: at least 1024 bits are needed";
    if (key->rsa && key->bits > RSA_MAX_BITS)
        return "RSA key too large: at most 8192 bits are used";
    if (gnutls_privkey_verify_params(key->private_key) < 0)
        return "the numbers of the key do not fit together";
    return NULL;
}

static const char *import_key(struct tls_key *key, const struct tls_pem *pem)
{
    const char *fault = tls_pem_key_fault(pem);
    if (fault != NULL)
        return fault;

    gnutls_datum_t data = {(unsigned char *)pem->text, (unsigned)pem->len};
    int rc = gnutls_privkey_init(&key->private_key);
    if (rc >= 0)
        rc = gnutls_privkey_import_x509_raw(key->private_key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc < 0)
        return gnutls_strerror(rc);
    return find_fault(key);
}

int tls_key_load(const char *path, struct tls_key **out, char *error, size_t error_size)
{
    struct tls_pem pem;
    int rc = tls_pem_read(path, &pem, error, error_size);
    if (rc < 0)
        return rc;

    struct tls_key *key = tls_alloc(sizeof *key);
    atomic_init(&key->references, 1);
    const char *fault = import_key(key, &pem);
    tls_pem_free(&pem);
    if (fault != NULL) {
        tls_error_file(error, error_size, path, fault);
        tls_key_unref(&key);
        return TLS_ERR_FORMAT;
    }
    *out = key;
    return 0;
}

struct tls_key *tls_key_ref(struct tls_key *key)
{
    atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
    return key;
}

void tls_key_unref(struct tls_key **keyp)
{
    struct tls_key *key = *keyp;

    *keyp = NULL;
    if (key == NULL || atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) != 1)
        return;
    if (key->private_key != NULL)
        gnutls_privkey_deinit(key->private_key);
    free(key);
}

bool tls_key_is_rsa(const struct tls_key *key)
{
    return key->rsa;
}

unsigned tls_key_bits(const struct tls_key *key)
{
    return key->bits;
}

static long copy_out(gnutls_datum_t *from, uint8_t *to, size_t size)
{
    long len = TLS_FAILED;

    if (from->size <= size) {
        memcpy(to, from->data, from->size);
        len = (long)from->size;
    }
    gnutls_free(from->data);
    return len;
}

long tls_key_sign_sha256(struct tls_key *key, const uint8_t digest[32], uint8_t *signature,
                         size_t size)
{
    gnutls_datum_t hash = {.data = (unsigned char *)digest, .size = 32};
    gnutls_datum_t made = {0};

    if (!key->rsa ||
        gnutls_privkey_sign_hash2(key->private_key, GNUTLS_SIGN_RSA_SHA256, 0, &hash, &made) < 0)
        return TLS_FAILED;
    return copy_out(&made, signature, size);
}

long tls_key_public_der(struct tls_key *key, uint8_t *der, size_t size)
{
    gnutls_datum_t made = {0};
    gnutls_pubkey_t public_key;

    if (gnutls_pubkey_init(&public_key) < 0)
        return TLS_FAILED;
    int rc = gnutls_pubkey_import_privkey(public_key, key->private_key, 0, 0);
    if (rc >= 0)
        rc = gnutls_pubkey_export2(public_key, GNUTLS_X509_FMT_DER, &made);
    gnutls_pubkey_deinit(public_key);
    return rc < 0 ? TLS_FAILED : copy_out(&made, der, size);
}
