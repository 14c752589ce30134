/* mta/mail/trace.h - the fields that submission adds: Received (RFC 5321 section 4.4), Date, From and
 * Message-ID (RFC 6409 section 8). Pure: the clock's and generator's values come in. */
#ifndef MTA_MAIL_TRACE_H
#define MTA_MAIL_TRACE_H

#include "mta/base/buf.h"

struct trace_received {
    struct str helo;      /* as the client said; bytes outside printable ASCII become '?' */
    const char *address;  /* of the client, "192.0.2.1" or "2001:db8::1" (written as IPv6:...); else not told */
    const char *user;     /* whom it logged in as, any bytes; NULL or "": nobody */
    bool private_client;  /* helo, address and user are not told: the field begins with "by" */
    const char *by;       /* our hostname */
    const char *protocol; /* trace_protocol() */
    const char *tls;      /* "TLS1.3 ..." for a comment, or "" */
    const char *id;
    const char *recipient; /* "for <...>" if there is exactly one, else NULL */
    int64_t time_unix_ms;
};
/* Each appends one folded field with CRLF; lines of at most 78 octets where a fold is possible.
 * false: no room. */
MUST_USE bool trace_add_received(const struct trace_received *received, struct buf *out);
/* From, where a submission has none: the sender, or for <> the mail system at hostname. sender is
 * printable ASCII with a domain (else nothing is added) */
MUST_USE bool trace_add_from(const char *sender, const char *hostname, struct buf *out);
MUST_USE bool trace_add_date(int64_t time_unix_ms, struct buf *out);
MUST_USE bool trace_add_message_id(const char *id, const char *hostname, int64_t time_unix_ms,
                                   struct buf *out);

/* The "with" clause: RFC 3848, and RFC 6531 section 4.3 where SMTPUTF8 was asked for. */
struct trace_session {
    bool extended, tls, logged_in, utf8;
};
const char *trace_protocol(struct trace_session session);

#endif
