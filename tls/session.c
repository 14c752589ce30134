/* tls/session.c - one TLS connection as a byte filter. GnuTLS reads from `in` and writes to `out`;
 * it sees no socket and no clock: deadlines are the caller's. RFC 8446, RFC 5246. */
#include "tls/tls_private.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_MAX_BYTES = 256 * 1024,
    /* Records without data (alerts, tickets, key updates) that one call works off; the peer's next
     * bytes go on from there. */
    EMPTY_TURNS_MAX = 1000,
};

enum state {
    STATE_HANDSHAKE,
    STATE_OPEN,
    STATE_CLOSED, /* the peer's close_notify was read */
    STATE_FAILED,
};

struct tls_session {
    gnutls_session_t tls;
    struct tls_credentials *credentials;
    struct tls_bytes in, out;
    enum state state;
    bool close_sent;
    char *server_name; /* or NULL: without the final dot */
    char error[160];
};

/* ---- transport: GnuTLS' view of the two queues ---- */

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t size)
{
    struct tls_session *session = ptr;

    if (tls_bytes_len(&session->in) == 0) {
        gnutls_transport_set_errno(session->tls, EAGAIN);
        return -1;
    }
    return (ssize_t)tls_bytes_take(&session->in, to, size);
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned timeout_ms)
{
    const struct tls_session *session = ptr;

    (void)timeout_ms; /* waiting is the caller's matter */
    return tls_bytes_len(&session->in) > 0 ? 1 : 0;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const void *bytes, size_t len)
{
    struct tls_session *session = ptr;

    tls_bytes_add(&session->out, bytes, len);
    return (ssize_t)len;
}

/* ---- making and freeing ---- */

static int new_session(struct tls_credentials *credentials, unsigned flags,
                       struct tls_session **out)
{
    struct tls_session *session = tls_alloc(sizeof *session);

    session->credentials = tls_credentials_ref(credentials);
    int rc = gnutls_init(&session->tls, flags | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc >= 0)
        rc = gnutls_priority_set(session->tls, credentials->priority);
    if (rc >= 0)
        rc =
            gnutls_credentials_set(session->tls, GNUTLS_CRD_CERTIFICATE, credentials->certificates);
    if (rc < 0) {
        tls_session_free(&session);
        return TLS_ERR_SETUP;
    }
    gnutls_transport_set_ptr(session->tls, session);
    gnutls_transport_set_pull_function(session->tls, pull);
    gnutls_transport_set_pull_timeout_function(session->tls, pull_timeout);
    gnutls_transport_set_push_function(session->tls, push);
    gnutls_handshake_set_timeout(session->tls, 0);
    *out = session;
    return 0;
}

int tls_server_session_new(struct tls_credentials *credentials, struct tls_session **out)
{
    struct tls_session *session;

    assert(credentials->server);
    int rc = new_session(credentials, GNUTLS_SERVER, &session);
    if (rc < 0)
        return rc;
    gnutls_certificate_server_set_request(
        session->tls, credentials->ask_client ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
    if (gnutls_session_ticket_enable_server(session->tls, &credentials->ticket_key) < 0) {
        tls_session_free(&session);
        return TLS_ERR_SETUP;
    }
    *out = session;
    return 0;
}

/* RFC 6066 section 3: a host name. GnuTLS servers end the handshake at any other byte, the
 * underscore included, and MX hosts with one exist: such a name goes without SNI. */
static bool is_sni_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    unsigned char address[16];

    return name[strspn(name, allowed)] == '\0' && inet_pton(AF_INET, name, address) != 1;
}

static void set_server_name(struct tls_session *session, const char *name)
{
    size_t len = strlen(name);

    if (len > 0 && name[len - 1] == '.')
        len--;
    if (len == 0)
        return;
    session->server_name = tls_alloc(len + 1);
    memcpy(session->server_name, name, len);
    if (is_sni_name(session->server_name))
        (void)gnutls_server_name_set(session->tls, GNUTLS_NAME_DNS, session->server_name, len);
}

int tls_client_session_new(struct tls_credentials *credentials, const char *server_name,
                           struct tls_session **out)
{
    struct tls_session *session;

    assert(!credentials->server);
    /* Nothing resumes a client session: tickets would only cost memory. */
    int rc = new_session(credentials, GNUTLS_CLIENT | GNUTLS_NO_TICKETS, &session);
    if (rc < 0)
        return rc;
    if (server_name != NULL)
        set_server_name(session, server_name);
    *out = session;
    return 0;
}

void tls_session_free(struct tls_session **sessionp)
{
    struct tls_session *session = *sessionp;

    if (session == NULL)
        return;
    *sessionp = NULL;
    if (session->tls != NULL)
        gnutls_deinit(session->tls);
    tls_bytes_clear(&session->in);
    tls_bytes_clear(&session->out);
    tls_credentials_unref(&session->credentials);
    free(session->server_name);
    free(session);
}

/* ---- running ---- */

/* Nothing that came or comes later is looked at. */
static void end(struct tls_session *session, enum state state)
{
    session->state = state;
    tls_bytes_clear(&session->in);
}

static void describe(struct tls_session *session, const char *stage, int rc)
{
    const char *alert = NULL;

    if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED || rc == GNUTLS_E_WARNING_ALERT_RECEIVED)
        alert = gnutls_alert_get_name(gnutls_alert_get(session->tls));
    if (alert != NULL)
        snprintf(session->error, sizeof session->error, "%s: the peer sent the alert \"%s\"", stage,
                 alert);
    else
        snprintf(session->error, sizeof session->error, "%s: %s", stage, gnutls_strerror(rc));
}

static int fail(struct tls_session *session, const char *stage, int rc)
{
    describe(session, stage, rc);
    if (rc != GNUTLS_E_FATAL_ALERT_RECEIVED)
        (void)gnutls_alert_send_appropriate(session->tls, rc);
    end(session, STATE_FAILED);
    return TLS_FAILED;
}

int tls_session_feed(struct tls_session *session, const void *bytes, size_t len)
{
    if (session->state == STATE_FAILED)
        return TLS_FAILED;
    if (session->state == STATE_CLOSED)
        return 0;
    if (len > INPUT_MAX_BYTES - tls_bytes_len(&session->in))
        return TLS_FAILED;
    tls_bytes_add(&session->in, bytes, len);
    return 0;
}

/* GnuTLS says AGAIN also after a record that held no data for us (a ticket, a new key), so that
 * only an empty input means "wait for the peer". */
static bool goes_on(const struct tls_session *session, long rc)
{
    if (rc == GNUTLS_E_AGAIN)
        return tls_bytes_len(&session->in) > 0;
    return rc < 0 && rc != GNUTLS_E_REHANDSHAKE && gnutls_error_is_fatal((int)rc) == 0;
}

int tls_session_handshake(struct tls_session *session)
{
    int rc = GNUTLS_E_AGAIN;

    if (session->state == STATE_FAILED)
        return TLS_FAILED;
    if (session->state != STATE_HANDSHAKE)
        return 0;
    for (int i = 0; i < EMPTY_TURNS_MAX && (i == 0 || goes_on(session, rc)); i++)
        rc = gnutls_handshake(session->tls);
    if (rc >= 0) {
        session->state = STATE_OPEN;
        return 0;
    }
    if (gnutls_error_is_fatal(rc) != 0)
        return fail(session, "TLS handshake", rc);
    return TLS_AGAIN;
}

/* RFC 5246 section 7.2.2: no_renegotiation is a warning, but a peer that insists on new keys has
 * no use for the old ones. */
static int refuse_renegotiation(struct tls_session *session)
{
    (void)gnutls_alert_send(session->tls, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
    snprintf(session->error, sizeof session->error, "TLS: the peer asked to renegotiate");
    end(session, STATE_FAILED);
    return TLS_FAILED;
}

static long receive(struct tls_session *session, void *buf, size_t size)
{
    ssize_t n = GNUTLS_E_AGAIN;

    for (int i = 0; i < EMPTY_TURNS_MAX && (i == 0 || goes_on(session, n)); i++)
        n = gnutls_record_recv(session->tls, buf, size);
    if (n > 0)
        return (long)n;
    if (n == 0) {
        end(session, STATE_CLOSED);
        return TLS_CLOSED;
    }
    if (n == GNUTLS_E_REHANDSHAKE)
        return refuse_renegotiation(session);
    if (gnutls_error_is_fatal((int)n) != 0)
        return fail(session, "TLS", (int)n);
    return TLS_AGAIN;
}

long tls_session_read(struct tls_session *session, void *buf, size_t size)
{
    assert(size > 0);
    switch (session->state) {
    case STATE_HANDSHAKE:
        return TLS_AGAIN;
    case STATE_OPEN:
        return receive(session, buf, size);
    case STATE_CLOSED:
        return TLS_CLOSED;
    case STATE_FAILED:
        return TLS_FAILED;
    }
    abort();
}

int tls_session_write(struct tls_session *session, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;

    if (session->state == STATE_HANDSHAKE || session->state == STATE_FAILED || session->close_sent)
        return TLS_FAILED;
    while (len > 0) {
        /* push() never asks to wait, so that every negative value is a failure. */
        ssize_t n = gnutls_record_send(session->tls, from, len);
        if (n <= 0)
            return fail(session, "TLS", (int)n);
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

void tls_session_close(struct tls_session *session)
{
    if (session->state == STATE_HANDSHAKE || session->state == STATE_FAILED || session->close_sent)
        return;
    session->close_sent = true;
    (void)gnutls_bye(session->tls, GNUTLS_SHUT_WR);
}

const uint8_t *tls_session_output(const struct tls_session *session, size_t *len_out)
{
    *len_out = tls_bytes_len(&session->out);
    return *len_out > 0 ? session->out.data + session->out.start : NULL;
}

void tls_session_output_consumed(struct tls_session *session, size_t len)
{
    assert(len <= tls_bytes_len(&session->out));
    (void)tls_bytes_take(&session->out, NULL, len);
}

const char *tls_session_error(const struct tls_session *session)
{
    return session->error;
}

void tls_session_verdict(const struct tls_session *session, struct tls_verdict *verdict_out)
{
    assert(session->state != STATE_HANDSHAKE);
    tls_verdict_fill(session->tls, session->credentials->server, session->server_name, verdict_out);
}

size_t tls_session_peer_names(const struct tls_session *session, struct tls_name *names_out)
{
    struct tls_verdict verdict;

    tls_session_verdict(session, &verdict);
    return verdict.trusted ? tls_names_read(session->tls, names_out) : 0;
}

size_t tls_session_binding(const struct tls_session *session, enum tls_binding kind,
                           uint8_t binding_out[TLS_BINDING_MAX_BYTES])
{
    assert(session->state != STATE_HANDSHAKE);
    return tls_binding_read(session->tls, kind, binding_out);
}
