/* tests/bench/tools/wire.c - see wire.h. */
#include "tests/bench/tools/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* One set for all sessions of the process, made with the first. */
static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priority;

static ssize_t result_of(ssize_t rc)
{
    if (rc >= 0)
        return rc;
    errno = rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED ? EAGAIN : EPROTO;
    return -1;
}

ssize_t wire_send(struct wire *wire, const void *bytes, size_t len)
{
    if (wire->tls == NULL)
        return send(wire->fd, bytes, len, MSG_NOSIGNAL);
    return result_of(gnutls_record_send(wire->tls, bytes, len));
}

ssize_t wire_recv(struct wire *wire, void *bytes, size_t size)
{
    if (wire->tls == NULL)
        return recv(wire->fd, bytes, size, 0);
    return result_of(gnutls_record_recv(wire->tls, bytes, size));
}

bool wire_pending(const struct wire *wire)
{
    return wire->tls != NULL && gnutls_record_check_pending(wire->tls) > 0;
}

void wire_start_tls(struct wire *wire)
{
    if (credentials == NULL && (gnutls_certificate_allocate_credentials(&credentials) < 0 ||
                                gnutls_priority_init(&priority, "NORMAL", NULL) < 0))
        abort();
    if (gnutls_init(&wire->tls,
                    GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS) < 0 ||
        gnutls_priority_set(wire->tls, priority) < 0 ||
        gnutls_credentials_set(wire->tls, GNUTLS_CRD_CERTIFICATE, credentials) < 0)
        abort();
    gnutls_transport_set_int(wire->tls, wire->fd);
    gnutls_handshake_set_timeout(wire->tls, 0);
}

int wire_handshake(struct wire *wire, bool *writes_out)
{
    int rc = gnutls_handshake(wire->tls);
    if (rc >= 0)
        return 1;
    *writes_out = gnutls_record_get_direction(wire->tls) == 1;
    return gnutls_error_is_fatal(rc) != 0 ? -1 : 0;
}

void wire_close(struct wire *wire)
{
    if (wire->tls != NULL)
        gnutls_deinit(wire->tls);
    wire->tls = NULL;
    if (wire->fd >= 0)
        (void)close(wire->fd);
    wire->fd = -1;
}
