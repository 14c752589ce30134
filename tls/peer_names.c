/* tls/peer_names.c - the names in the peer's certificate, for those who asked for one (RFC 5280
 * section 4.2.1.6, RFC 6125). */
#include "tls/tls_private.h"

#include <gnutls/x509.h>

enum { ENTRIES_MAX = 256 }; /* of one certificate */

/* Nothing else is a host or a mail address; a NUL inside would cut the name short. */
static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return len > 0 && len <= TLS_NAME_MAX_BYTES;
}

static size_t read_alternative(gnutls_x509_crt_t leaf, struct tls_name *names_out, bool *any_out)
{
    size_t count = 0;

    for (unsigned i = 0; i < ENTRIES_MAX && count < TLS_NAMES_MAX; i++) {
        struct tls_name *name = &names_out[count];
        size_t size = sizeof name->text;
        int type = gnutls_x509_crt_get_subject_alt_name(leaf, i, name->text, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_E_SHORT_MEMORY_BUFFER) /* too long */
            *any_out = true;
        if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_RFC822NAME)
            continue;
        *any_out = true;
        if (!is_plain(name->text, size))
            continue;
        name->text[size] = '\0';
        name->kind = type == GNUTLS_SAN_DNSNAME ? TLS_NAME_DNS : TLS_NAME_EMAIL;
        count++;
    }
    return count;
}

static size_t read_common_name(gnutls_x509_crt_t leaf, struct tls_name *name_out)
{
    size_t size = sizeof name_out->text;

    int rc = gnutls_x509_crt_get_dn_by_oid(leaf, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name_out->text,
                                           &size);
    if (rc < 0 || !is_plain(name_out->text, size))
        return 0;
    name_out->text[size] = '\0';
    name_out->kind = TLS_NAME_COMMON;
    return 1;
}

size_t tls_names_read(gnutls_session_t tls, struct tls_name *names_out)
{
    const gnutls_datum_t *peer = gnutls_certificate_get_peers(tls, NULL);
    gnutls_x509_crt_t leaf;
    size_t count = 0;
    bool any = false;

    if (peer == NULL || gnutls_x509_crt_init(&leaf) < 0)
        return 0;
    if (gnutls_x509_crt_import(leaf, &peer[0], GNUTLS_X509_FMT_DER) >= 0) {
        count = read_alternative(leaf, names_out, &any);
        if (!any)
            count = read_common_name(leaf, names_out);
    }
    gnutls_x509_crt_deinit(leaf);
    return count;
}
