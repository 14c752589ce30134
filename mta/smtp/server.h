/* mta/smtp/server.h - the server side of an SMTP session: bytes and time in, bytes and events out.
 * No sockets, no clock, no queue. RFC 5321, 2920, 1870, 6152, 2034/3463, 3207, 3030, 4954, 3461, 6531, 8689. One
 * thread at a time.
 *
 * The owner feeds bytes with smtp_server_input() and sends what lies in smtp_server_output(). Decisions are asked
 * through the events; one that takes time is answered later: the commit behind the final dot or the last chunk by
 * smtp_server_answer(), a step of AUTH by smtp_server_auth_challenge() or smtp_server_auth_end(). Until then the
 * session eats no more than its input buffer (64 KiB) and says so by smtp_server_wants_input(). */
#ifndef MTA_SMTP_SERVER_H
#define MTA_SMTP_SERVER_H

#include "mta/base/buf.h"
#include "mta/smtp/address.h"

#define SMTP_COMMAND_LINE_MAX 2048 /* longer: 500 5.5.2, then resync at LF */
#define SMTP_AUTH_LINE_MAX 12288   /* AUTH and its responses (RFC 4954 section 4): 500 5.5.6 */
#define SMTP_ENVID_MAX 100         /* octets (RFC 3461 section 4.4), */
#define SMTP_ORCPT_MAX 500         /* (section 4.2) */
#define SMTP_AUTH_FAILURES_MAX 10  /* a session; the next one is answered by 421 4.7.0 and close */
#define SMTP_SERVER_ERRORS_MAX 50  /* bad commands before 421 4.7.0 and close */
#define SMTP_SERVER_REFUSED_MAX 100 /* refused MAIL and DATA, likewise; of RCPT: */
#define SMTP_SERVER_REFUSED_RCPT_MAX(max_recipients) (1000U + 4U * (max_recipients))

struct smtp_server_options {
    const char *hostname;
    const char *banner;          /* text behind the hostname in the greeting: "ESMTP" */
    uint64_t max_message_bytes;
    uint32_t max_recipients;     /* over it: 452 4.5.3 */
    bool offer_starttls;
    bool accept_unqualified;     /* <root> goes to on_mail and on_rcpt with an empty domain, for the owner to complete; else
                                    553. RCPT <postmaster> always does (RFC 5321 section 4.5.1) */
    bool require_starttls;       /* MAIL before TLS: 530 5.7.0 Must issue a STARTTLS command first */
    bool refuse_long_lines;      /* over 998 octets: 5xx at the dot; else up to 1 MiB a line */
    size_t header_max;           /* header section over it: 552 5.3.4 at the dot */
    bool auth_after_tls;         /* AUTH without smtp_server_offer_auth() in clear: 538 5.7.11, else 502 5.5.1 */
    /* Announced and taken; else their parameters are refused (555 5.5.4). CHUNKING always is, BINARYMIME never. */
    bool offer_dsn;        /* RET, ENVID, NOTIFY, ORCPT */
    bool offer_smtputf8;   /* else 8-bit bytes in addresses: 553 5.6.7 */
    bool offer_requiretls; /* under TLS only */
};

/* What an event says back: code 0 means "as usual" (the session's own 250); else this reply is sent and, if it is
 * 4xx/5xx, the command failed. text without CRLF, with the enhanced code at its start: "5.7.1 Relaying denied". */
struct smtp_verdict {
    uint16_t code;
    char text[400];
};

enum smtp_ret { SMTP_RET_NONE, SMTP_RET_FULL, SMTP_RET_HDRS };

/* A MAIL command. AUTH= (RFC 4954 section 5) is checked and not handed on: no client is trusted to name another. */
struct smtp_mail {
    struct str sender;        /* "" : <> ; verbatim mailbox otherwise; UTF-8 only with smtputf8 */
    struct str sender_domain; /* verbatim; "" for <> and for an unqualified sender */
    uint64_t declared_bytes;  /* SIZE=, 0: none */
    bool body_8bit;
    bool smtputf8;
    bool requiretls;
    enum smtp_ret ret;
    struct str envid; /* xtext as sent, at most SMTP_ENVID_MAX octets; "": none */
};

enum smtp_notify { SMTP_NOTIFY_NEVER = 1, SMTP_NOTIFY_SUCCESS = 2, SMTP_NOTIFY_FAILURE = 4, SMTP_NOTIFY_DELAY = 8 };

/* A RCPT command. */
struct smtp_rcpt {
    struct smtp_address address;
    unsigned notify;  /* enum smtp_notify bits, NEVER alone; 0: not given */
    struct str orcpt; /* "type;xtext" as sent, at most SMTP_ORCPT_MAX octets; "": none */
};

/* A reply of 4xx or 5xx, for the log. Borrowed. */
struct smtp_refusal {
    uint16_t code;
    struct str status;    /* enhanced code: "5.7.1"; "" where the reply has none */
    struct str line;      /* whole, code included, without CRLF; printable ASCII */
    struct str sender;    /* of the transaction, or of the refused MAIL as it was given; any bytes */
    struct str recipient; /* of the refused RCPT, likewise */
};

struct smtp_server_events {
    /* The client named itself (any HELO/EHLO). */
    void (*on_hello)(struct str name, bool extended, void *ctx);
    /* The owner begins TLS after the output has been sent; then smtp_server_tls_started(). */
    void (*on_starttls)(void *ctx);
    void (*on_mail)(const struct smtp_mail *mail, struct smtp_verdict *verdict, void *ctx);
    void (*on_rcpt)(const struct smtp_rcpt *rcpt, struct smtp_verdict *verdict, void *ctx);
    /* DATA, or the first BDAT, after at least one accepted RCPT; code 0: content follows. A refused BDAT ends the
     * transaction (on_reset), a refused DATA does not. */
    void (*on_data)(struct smtp_verdict *verdict, void *ctx);
    /* Content without the dots, in order; of BDAT with the final CRLF that it lacked. Not called any more once the message is
     * to be refused (too big, faults). */
    void (*on_content)(const char *bytes, size_t len, void *ctx);
    /* The end was seen, or of BDAT the end of the first chunk with a fault. faults 0: the owner stores the message and calls smtp_server_answer() sooner or later (also at once, from
     * inside). refused true: the session has refused it already (bare CR/LF, size ...); `reason` says why: drop what was kept. */
    void (*on_content_end)(bool refused, const char *reason, void *ctx);
    /* RSET, EHLO in a transaction, QUIT, STARTTLS: the transaction is gone. Also when the session ends within content. */
    void (*on_reset)(void *ctx);
    /* The session is to be closed after its output has been sent: QUIT, 421. */
    void (*on_quit)(void *ctx);
    /* A reply of 4xx or 5xx went out. */
    void (*on_refusal)(const struct smtp_refusal *refusal, void *ctx);
    /* The next three only after smtp_server_offer_auth(). AUTH: mechanism is one of those offered, in the client's letters;
     * initial is good base64 ("" where the client sent "=": an empty response), NULL without one. The owner answers with
     * one of smtp_server_auth_...(), now or later. */
    void (*on_auth)(struct str mechanism, const struct str *initial, void *ctx);
    /* The line behind a challenge: good base64, or "". Answered like on_auth. */
    void (*on_auth_response)(struct str base64, void *ctx);
    /* The exchange is over without the owner's answer: "*", a line that is too long or no base64, or the session's end. The
     * owner must not answer any more. */
    void (*on_auth_cancel)(void *ctx);
};

struct smtp_server;
struct smtp_server *smtp_server_new(const struct smtp_server_options *options,
                                    const struct smtp_server_events *events, void *ctx);
void smtp_server_free(struct smtp_server **serverp); /* calls no event */

/* Queue the greeting: 220, or e.g. verdict 421 4.3.2 too many connections / 554: then the session is to be closed. */
void smtp_server_greet(struct smtp_server *server, const struct smtp_verdict *verdict);

/* Bytes from the peer; all are taken (kept up to 64 KiB while waiting; the owner looks at wants_input first). Lines of
 * AUTH in them, and what is kept or dropped, are overwritten: no password stays in the owner's buffer.
 * Bytes that arrive before the greeting was queued, or pipelined where that is not allowed (behind EHLO, DATA, STARTTLS),
 * are handled as RFC 2920 says; behind STARTTLS they are dropped and counted (cases O10). */
void smtp_server_input(struct smtp_server *server, char *bytes, size_t len);
bool smtp_server_wants_input(const struct smtp_server *server);
struct buf *smtp_server_output(struct smtp_server *server); /* the owner consumes from it */

/* The answer to on_content_end(refused false): 250 text, or a failure. Then buffered input goes on being handled. */
void smtp_server_answer(struct smtp_server *server, const struct smtp_verdict *verdict);

/* Announce AUTH with these mechanisms, separated by single spaces: "PLAIN LOGIN SCRAM-SHA-256" (copied); NULL or "": do not. Before
 * the greeting and, since TLS forgets it, after smtp_server_tls_started(). Not announced in clear where STARTTLS is required. */
void smtp_server_offer_auth(struct smtp_server *server, const char *mechanisms);

/* The answers to on_auth and on_auth_response, also from inside. A challenge is base64 of at most SMTP_AUTH_LINE_MAX octets, ""
 * for an empty one: 334. The end: code 0 or 235 is success, after which AUTH is refused (503 5.5.1) until TLS starts; or
 * 535 5.7.8, 454 4.7.0, 501, 504 ... */
void smtp_server_auth_challenge(struct smtp_server *server, struct str base64);
void smtp_server_auth_end(struct smtp_server *server, const struct smtp_verdict *verdict);

/* TLS runs: forget EHLO, login, what AUTH was offered, and the transaction; offer STARTTLS no more. The owner forgets the login
 * too (RFC 3207 section 4.2). After on_starttls or, for implicit TLS, before
 * smtp_server_greet(). @return bytes that were pipelined behind STARTTLS and dropped */
size_t smtp_server_tls_started(struct smtp_server *server);

/* End from our side: queues "421 4.x.x text" (once), then on_quit. Used for the idle timeout (4.4.2) and shutdown (4.3.2).
 * While the answer to a final dot is outstanding only the flag is kept: the answer goes first, then 421. */
void smtp_server_shut(struct smtp_server *server, const char *text);

/* Where it stands, for timeouts and status: */
bool smtp_server_in_data(const struct smtp_server *server);        /* content is arriving; between chunks too */
bool smtp_server_answer_pending(const struct smtp_server *server); /* the owner's answer is outstanding: to a message's end, to AUTH */
bool smtp_server_auth_pending(const struct smtp_server *server);   /* ... to AUTH */

#endif
