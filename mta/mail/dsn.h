/* mta/mail/dsn.h - building a notification of a failure or a delay: multipart/report, RFC
 * 3461-3464, 6522. Pure. */
#ifndef MTA_MAIL_DSN_H
#define MTA_MAIL_DSN_H

#include "mta/base/buf.h"

struct dsn_recipient {
    const char *address;
    const char *status;           /* RFC 3463 "5.1.1" */
    const char *text;             /* the peer's or our words; any bytes: made printable here */
    const char *remote_host;      /* "" : none was reached */
    int64_t last_attempt_unix_ms; /* 0: none */
    uint16_t code;                /* SMTP code, 0: none (our own decision) */
    bool expired;                 /* given up after retries: the text says so */
};

enum dsn_kind {
    DSN_FAILED,  /* given up: Action: failed, Status 5.x (or the last 4.x) */
    DSN_DELAYED, /* tried again until a time: Action: delayed, Status 4.x */
};

struct dsn {
    enum dsn_kind kind;
    int64_t retry_until_unix_ms; /* DSN_DELAYED; 0: not known */
    const char *reporting_mta;   /* our hostname */
    const char *to;              /* the sender of the message */
    const char *id;              /* queue id of the message */
    const char *own_id;          /* for Message-ID; unique */
    int64_t arrival_unix_ms;
    int64_t now_unix_ms;
    const struct dsn_recipient *recipients;
    size_t recipient_count;
    size_t more_recipients; /* that it holds for as well, but are not listed */
    /* Header section of the message; at most 64 KiB of whole lines are attached as
     * text/rfc822-headers; 8-bit bytes make that part 8bit. */
    struct str original_header;
};

/* Room that is always enough for n recipients, whatever their texts. */
#define DSN_SIZE_MAX(n) ((size_t)(n)*4096 + (size_t)1024 * 1024)

/* Appends the whole message (CRLF, lines under 998 octets). *header_len_out: length of its header
 * section, the blank line excluded. *is_8bit_out: 8-bit bytes inside. false: no room in out. From:
 * "Mail Delivery System <MAILER-DAEMON@host>", Auto-Submitted: auto-replied, no Received. */
MUST_USE bool dsn_build(const struct dsn *dsn, struct buf *out, size_t *header_len_out,
                        bool *is_8bit_out);

#endif
