/* tls/binding.c - channel bindings: RFC 9266 (tls-exporter), RFC 5929 section 3 (tls-unique). */
#include "tls/tls_private.h"

#include <string.h>

size_t tls_binding_read(gnutls_session_t tls, enum tls_binding kind,
                        uint8_t binding_out[TLS_BINDING_MAX_BYTES])
{
    gnutls_protocol_t version = gnutls_protocol_get_version(tls);
    gnutls_datum_t bytes = {NULL, 0};
    size_t len = 0;

    /* TLS 1.2 without it: a man in the middle can make two sessions with the same binding
     * (RFC 7627 section 1). TLS 1.3 always has its effect. */
    if (version != GNUTLS_TLS1_3 && gnutls_session_ext_master_secret_status(tls) == 0)
        return 0;
    if (kind == TLS_BINDING_UNIQUE && version != GNUTLS_TLS1_2)
        return 0;
    int rc = gnutls_session_channel_binding(
        tls, kind == TLS_BINDING_UNIQUE ? GNUTLS_CB_TLS_UNIQUE : GNUTLS_CB_TLS_EXPORTER, &bytes);
    if (rc >= 0 && bytes.size <= TLS_BINDING_MAX_BYTES) {
        memcpy(binding_out, bytes.data, bytes.size);
        len = bytes.size;
    }
    gnutls_free(bytes.data);
    return len;
}
