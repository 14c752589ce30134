/* tls/verdict.c - what the peer's certificate proves, as a value (RFC 5280, RFC 6125). Nothing here
 * ends a session. */
#include "tls/tls_private.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

static const struct {
    unsigned flag;
    const char *text;
} status_texts[] = {
    {GNUTLS_CERT_EXPIRED, "expired"},
    {GNUTLS_CERT_NOT_ACTIVATED, "not valid yet"},
    {GNUTLS_CERT_REVOKED, "revoked"},
    {GNUTLS_CERT_SIGNER_NOT_FOUND, "issuer unknown"},
    {GNUTLS_CERT_SIGNER_NOT_CA, "issuer is not a CA"},
    {GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, "outside its issuer's constraints"},
    {GNUTLS_CERT_PURPOSE_MISMATCH, "not for this end of TLS"},
    {GNUTLS_CERT_INSECURE_ALGORITHM, "insecure algorithm or key"},
    {GNUTLS_CERT_SIGNATURE_FAILURE, "signature wrong"},
    {GNUTLS_CERT_MISSING_OCSP_STATUS, "required OCSP status missing"},
    {GNUTLS_CERT_INVALID_OCSP_STATUS, "OCSP status invalid"},
};

/* Appends after ", " where something stands already; cuts at the end of the buffer. */
static void add_problem(struct tls_verdict *verdict, const char *text)
{
    size_t len = strlen(verdict->problem);
    snprintf(verdict->problem + len, sizeof verdict->problem - len, "%s%s", len > 0 ? ", " : "",
             text);
}

static int verify_for(gnutls_session_t tls, const char *purpose, unsigned *status_out)
{
    gnutls_typed_vdata_st wanted = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                    .data = (unsigned char *)purpose};
    return gnutls_certificate_verify_peers(tls, &wanted, 1, status_out);
}

static bool check_chain(gnutls_session_t tls, bool of_client, struct tls_verdict *verdict)
{
    unsigned status = 0;

    int rc =
        verify_for(tls, of_client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER, &status);
    /* MTAs show the certificate that they serve with, and public CAs no longer issue others; it
     * proves the same name. */
    if (rc >= 0 && of_client && (status & GNUTLS_CERT_PURPOSE_MISMATCH) != 0)
        rc = verify_for(tls, GNUTLS_KP_TLS_WWW_SERVER, &status);
    if (rc < 0) {
        add_problem(verdict, gnutls_strerror(rc));
        return false;
    }
    for (size_t i = 0; i < sizeof status_texts / sizeof status_texts[0]; i++) {
        if ((status & status_texts[i].flag) != 0)
            add_problem(verdict, status_texts[i].text);
    }
    if (status != 0 && verdict->problem[0] == '\0')
        add_problem(verdict, "not trusted");
    return status == 0;
}

static bool check_name(gnutls_session_t tls, const char *server_name, struct tls_verdict *verdict)
{
    unsigned count = 0;
    const gnutls_datum_t *peer = gnutls_certificate_get_peers(tls, &count);
    gnutls_x509_crt_t leaf;
    bool matches = false;

    if (peer == NULL || count == 0 || gnutls_x509_crt_init(&leaf) < 0)
        return false;
    if (gnutls_x509_crt_import(leaf, &peer[0], GNUTLS_X509_FMT_DER) >= 0)
        matches = gnutls_x509_crt_check_hostname2(leaf, server_name, 0) != 0;
    gnutls_x509_crt_deinit(leaf);
    if (!matches) {
        char text[sizeof verdict->problem];
        snprintf(text, sizeof text, "not for %s", server_name);
        add_problem(verdict, text);
    }
    return matches;
}

void tls_verdict_fill(gnutls_session_t tls, bool of_client, const char *server_name,
                      struct tls_verdict *verdict_out)
{
    struct tls_verdict verdict = {
        .version = gnutls_protocol_get_name(gnutls_protocol_get_version(tls)),
        .cipher = gnutls_ciphersuite_get(tls),
    };

    if (verdict.version == NULL)
        verdict.version = "";
    if (verdict.cipher == NULL)
        verdict.cipher = "";
    if (gnutls_certificate_get_peers(tls, NULL) == NULL) {
        add_problem(&verdict, "no certificate");
    } else {
        verdict.trusted = check_chain(tls, of_client, &verdict);
        verdict.name_matches = server_name != NULL && check_name(tls, server_name, &verdict);
    }
    *verdict_out = verdict;
}
