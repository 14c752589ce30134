/* mta/mail/trace.h - the fields that submission adds: Received (RFC 5321 section 4.4), Date and
 * Message-ID (RFC 6409 section 8). Pure: the clock's and generator's values come in. */
#ifndef MTA_MAIL_TRACE_H
#define MTA_MAIL_TRACE_H

#include "mta/base/buf.h"

struct trace_received {
    struct str helo;      /* as the client said; bytes outside printable ASCII become '?' */
    const char *address;  /* of the client, "192.0.2.1" or "2001:db8::1" (written as IPv6:...) */
    const char *by;       /* our hostname */
    const char *protocol; /* "ESMTP", "ESMTPS", "SMTP" (RFC 3848) */
    const char *tls;      /* "TLS1.3 ..." for a comment, or "" */
    const char *id;
    const char *recipient; /* "for <...>" if there is exactly one, else NULL */
    int64_t time_unix_ms;
};
/* Each appends one folded field with CRLF; lines of at most 78 octets where a fold is possible.
 * false: no room. */
MUST_USE bool trace_add_received(const struct trace_received *received, struct buf *out);
MUST_USE bool trace_add_date(int64_t time_unix_ms, struct buf *out);
MUST_USE bool trace_add_message_id(const char *id, const char *hostname, int64_t time_unix_ms,
                                   struct buf *out);

#endif
