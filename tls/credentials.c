/* tls/credentials.c - certificates, keys and trust, loaded once and then immutable: any number of
 * sessions on any threads share them by reference. */
#include "tls/tls_private.h"

#include <gnutls/x509.h>
#include <stdlib.h>

/* NORMAL alone still offers TLS 1.0 and 1.1 in GnuTLS 3.7 (RFC 8996). */
static const char PRIORITY[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

enum { CHAIN_MAX = 16, RSA_MIN_BITS = 1024 };

struct chain {
    gnutls_x509_crt_t *certificates;
    unsigned count;
};

static void free_chain(struct chain *chain)
{
    for (unsigned i = 0; i < chain->count; i++)
        gnutls_x509_crt_deinit(chain->certificates[i]);
    gnutls_free(chain->certificates);
    *chain = (struct chain){0};
}

static int new_credentials(bool server, struct tls_credentials **out)
{
    struct tls_credentials *made = tls_alloc(sizeof *made);

    atomic_init(&made->references, 1);
    made->server = server;
    int rc = gnutls_certificate_allocate_credentials(&made->certificates);
    if (rc >= 0)
        rc = gnutls_priority_init(&made->priority, PRIORITY, NULL);
    if (rc >= 0 && server)
        rc = gnutls_session_ticket_key_generate(&made->ticket_key);
    /* For old clients that want DHE but name no group (RFC 7919). */
    if (rc >= 0 && server)
        rc = gnutls_certificate_set_known_dh_params(made->certificates, GNUTLS_SEC_PARAM_MEDIUM);
    if (rc < 0)
        tls_credentials_unref(&made);
    *out = made;
    return rc;
}

static int load_chain(const char *path, struct chain *chain_out, char *error, size_t error_size)
{
    struct tls_pem pem;
    int rc = tls_pem_read(path, &pem, error, error_size);
    if (rc < 0)
        return rc;

    struct chain chain = {0};
    gnutls_datum_t data = {(unsigned char *)pem.text, (unsigned)pem.len};
    rc = gnutls_x509_crt_list_import2(&chain.certificates, &chain.count, &data, GNUTLS_X509_FMT_PEM,
                                      0);
    tls_pem_free(&pem);
    if (rc < 0 || chain.count == 0) {
        tls_error_file(error, error_size, path,
                       rc == GNUTLS_E_NO_CERTIFICATE_FOUND || rc >= 0
                           ? "no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
                           : gnutls_strerror(rc));
        return TLS_ERR_FORMAT;
    }
    if (chain.count > CHAIN_MAX) {
        tls_error_file(error, error_size, path, "more than 16 certificates: not a server's chain");
        free_chain(&chain);
        return TLS_ERR_FORMAT;
    }
    *chain_out = chain;
    return 0;
}

static const char *import_server_key(gnutls_x509_privkey_t key, const struct tls_pem *pem)
{
    const char *fault = tls_pem_key_fault(pem);
    if (fault != NULL)
        return fault;

    gnutls_datum_t data = {(unsigned char *)pem->text, (unsigned)pem->len};
    int rc = gnutls_x509_privkey_import2(key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc < 0)
        return gnutls_strerror(rc);

    unsigned bits = 0;
    if (gnutls_x509_privkey_get_pk_algorithm2(key, &bits) == GNUTLS_PK_RSA && bits < RSA_MIN_BITS)
        return "RSA key too weak: at least 1024 bits are needed";
    return NULL;
}

static int load_server_key(const char *path, gnutls_x509_privkey_t *key_out, char *error,
                           size_t error_size)
{
    struct tls_pem pem;
    int rc = tls_pem_read(path, &pem, error, error_size);
    if (rc < 0)
        return rc;

    gnutls_x509_privkey_t key = NULL;
    const char *fault = gnutls_x509_privkey_init(&key) < 0 ? "GnuTLS made no key object"
                                                           : import_server_key(key, &pem);
    tls_pem_free(&pem);
    if (fault != NULL) {
        tls_error_file(error, error_size, path, fault);
        gnutls_x509_privkey_deinit(key);
        return TLS_ERR_FORMAT;
    }
    *key_out = key;
    return 0;
}

static int load_trust(struct tls_credentials *credentials, const char *path, char *error,
                      size_t error_size)
{
    struct tls_pem pem;
    int rc = tls_pem_read(path, &pem, error, error_size);
    if (rc < 0)
        return rc;

    gnutls_datum_t data = {(unsigned char *)pem.text, (unsigned)pem.len};
    int count = gnutls_certificate_set_x509_trust_mem(credentials->certificates, &data,
                                                      GNUTLS_X509_FMT_PEM);
    tls_pem_free(&pem);
    if (count > 0)
        return 0;
    tls_error_file(error, error_size, path,
                   count == 0 || count == GNUTLS_E_NO_CERTIFICATE_FOUND
                       ? "no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
                       : gnutls_strerror(count));
    return TLS_ERR_FORMAT;
}

int tls_server_credentials_load(const char *certificate_path, const char *key_path,
                                const char *client_ca_path, struct tls_credentials **out,
                                char *error, size_t error_size)
{
    struct tls_credentials *made = NULL;
    struct chain chain = {0};
    gnutls_x509_privkey_t key = NULL;

    int rc = load_chain(certificate_path, &chain, error, error_size);
    if (rc < 0)
        goto done;
    rc = load_server_key(key_path, &key, error, error_size);
    if (rc < 0)
        goto done;
    int fault = new_credentials(true, &made);
    if (fault >= 0)
        fault = gnutls_certificate_set_x509_key(made->certificates, chain.certificates,
                                                (int)chain.count, key);
    if (fault == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
        tls_error_file(error, error_size, key_path,
                       "not the key of the first certificate in the certificate file");
        rc = TLS_ERR_PAIR;
    } else if (fault < 0) {
        tls_error_file(error, error_size, certificate_path, gnutls_strerror(fault));
        rc = TLS_ERR_SETUP;
    } else if (client_ca_path != NULL) {
        made->ask_client = true;
        rc = load_trust(made, client_ca_path, error, error_size);
    }
done:
    free_chain(&chain);
    gnutls_x509_privkey_deinit(key);
    if (rc < 0)
        tls_credentials_unref(&made);
    else
        *out = made;
    return rc;
}

int tls_client_credentials_load(const char *ca_path, struct tls_credentials **out, char *error,
                                size_t error_size)
{
    struct tls_credentials *made = NULL;

    int fault = new_credentials(false, &made);
    if (fault < 0) {
        tls_error_file(error, error_size, "TLS", gnutls_strerror(fault));
        return TLS_ERR_SETUP;
    }
    if (ca_path != NULL) {
        int rc = load_trust(made, ca_path, error, error_size);
        if (rc < 0) {
            tls_credentials_unref(&made);
            return rc;
        }
    } else {
        /* A machine without a trust store can still encrypt: then no certificate is trusted, and
         * each verdict says so. */
        (void)gnutls_certificate_set_x509_system_trust(made->certificates);
    }
    *out = made;
    return 0;
}

struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials)
{
    atomic_fetch_add_explicit(&credentials->references, 1, memory_order_relaxed);
    return credentials;
}

void tls_credentials_unref(struct tls_credentials **credentialsp)
{
    struct tls_credentials *old = *credentialsp;

    *credentialsp = NULL;
    if (old == NULL || atomic_fetch_sub_explicit(&old->references, 1, memory_order_acq_rel) != 1)
        return;
    if (old->certificates != NULL)
        gnutls_certificate_free_credentials(old->certificates);
    if (old->priority != NULL)
        gnutls_priority_deinit(old->priority);
    if (old->ticket_key.data != NULL) {
        gnutls_memset(old->ticket_key.data, 0, old->ticket_key.size);
        gnutls_free(old->ticket_key.data);
    }
    free(old);
}
