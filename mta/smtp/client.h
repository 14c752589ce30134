/* mta/smtp/client.h - the client side of an SMTP session: bytes and time in, bytes and events out.
 * No sockets, no clock, no queue. RFC 5321, 2920, 1870, 6152, 2034, 3207. One thread at a time.
 *
 * Life: new -> greeting -> EHLO (HELO after 5xx) -> [STARTTLS -> EHLO] -> READY -> transactions, one after the other -> QUIT.
 * Every failure arrives as an event with an outcome value; the session decides nothing about retries. The row of the oldest
 * command sent gets the reply.
 *
 * Events come only from inside _input, _closed, _timeout and _tls_failed; what the session refuses by
 * itself (size, content_abort) is told by the next of those calls, and smtp_client_deadline() then says
 * "now". So after every call the owner looks at the output and at the deadline. From inside an event the
 * owner may call: on_ready: _send, _quit; on_go_ahead: _content, _content_end, _content_abort; on_starttls:
 * _tls_started; and always the questions (_output, _ready, ...). smtp_client_free is allowed from inside no event: the
 * owner frees on its next turn. After on_end no event comes, and every call is accepted and does nothing
 * (but _send and _quit, which need smtp_client_ready()). The output may then hold a last QUIT, which may be
 * sent before closing. */
#ifndef MTA_SMTP_CLIENT_H
#define MTA_SMTP_CLIENT_H

#include "mta/base/buf.h"
#include "mta/smtp/reply.h"

enum smtp_stage {
    SMTP_STAGE_CONNECT, SMTP_STAGE_GREETING, SMTP_STAGE_EHLO, SMTP_STAGE_HELO, SMTP_STAGE_STARTTLS, SMTP_STAGE_TLS,
    SMTP_STAGE_MAIL, SMTP_STAGE_RCPT, SMTP_STAGE_DATA, SMTP_STAGE_CONTENT, SMTP_STAGE_DOT, SMTP_STAGE_RSET, SMTP_STAGE_QUIT,
};
const char *smtp_stage_text(enum smtp_stage stage); /* "connect", "greeting", ... "final dot" */

/* Why a stage failed. */
enum smtp_failure {
    SMTP_FAIL_NONE,
    SMTP_FAIL_REPLY,    /* the peer said so: reply holds code and text */
    SMTP_FAIL_PROTOCOL, /* garbage, unexpected 1xx/2xx/3xx (counts as 4xx and ends the connection) */
    SMTP_FAIL_TIMEOUT,
    SMTP_FAIL_CLOSED,   /* EOF or reset */
    SMTP_FAIL_TLS,      /* handshake failed: also when it timed out or the connection ended in it (cases O21) */
    SMTP_FAIL_POLICY,   /* required TLS not offered, 8-bit or size: ours; text says */
};

struct smtp_result {
    enum smtp_failure failure;
    enum smtp_stage stage;
    struct smtp_reply reply; /* code 0: no reply; then reply.text is our own words, one printable line */
};
/* Three that need more words:
 * - FAIL_CLOSED at stage EHLO with reply.code 5xx: EHLO was refused with that reply and the peer closed
 *   before HELO was answered: a fresh connection with helo_only may work.
 * - stage MAIL with FAIL_CLOSED, or FAIL_REPLY 421, is also what an idle connection ends with: on a
 *   reused connection the message was not at fault (cases O17).
 * - FAIL_TIMEOUT or FAIL_CLOSED at stage DOT: the outcome is unknown (cases O16). */

#define SMTP_CLIENT_CONTENT_MAX ((size_t)256 * 1024) /* bytes in one smtp_client_content() */

struct smtp_client_options {
    const char *hostname;   /* for EHLO; copied */
    bool helo_only;         /* no EHLO: the peer refused it on an earlier connection and closed */
    enum { SMTP_CLIENT_TLS_OFF, SMTP_CLIENT_TLS_MAY, SMTP_CLIENT_TLS_MUST } tls;
    uint32_t greeting_ms, ehlo_ms, tls_ms, mail_ms, rcpt_ms, data_ms, block_ms, dot_ms;
};

/* One transaction: what the owner wants sent. The struct is copied; the recipients and all text are borrowed until
 * on_transaction_done. */
struct smtp_transaction {
    struct str sender;            /* "" : <> */
    const struct str *recipients;
    size_t recipient_count;
    uint64_t size_bytes;          /* for SIZE= where offered; over the server's limit: MAIL is not sent, result is
                                     FAIL_POLICY with code 552, status 5.3.4 for all */
    bool body_8bit;               /* BODY=8BITMIME where offered; sent unchanged elsewhere */
};

struct smtp_client_events {
    /* Greeting, EHLO and (as the options say) TLS are done; a transaction may start. Also after each transaction, when the next may. */
    void (*on_ready)(void *ctx);
    /* 220 to STARTTLS came: the owner begins TLS, then calls smtp_client_tls_started() or _tls_failed(). */
    void (*on_starttls)(void *ctx);
    /* Reply to one RCPT (every recipient gets exactly one, in order, also when the transaction fails earlier). */
    void (*on_recipient)(size_t index, const struct smtp_result *result, void *ctx);
    /* 354 came: append content to smtp_client_output() through smtp_client_content(), at your pace, then smtp_client_content_end(). */
    void (*on_go_ahead)(void *ctx);
    /* The transaction is over. result: of the message as a whole for the accepted recipients: FAIL_NONE: reply to the dot was 2xx.
     * If no recipient was accepted result repeats the last RCPT's failure and says stage RCPT.
     * Afterwards on_ready (reusable, after the RSET that a refused transaction needs) or on_end. */
    void (*on_transaction_done)(const struct smtp_result *result, void *ctx);
    /* The session is of no more use; the owner closes the connection. Called once, also after QUIT. During a transaction
     * on_recipient for the rest and on_transaction_done come first. */
    void (*on_end)(const struct smtp_result *result, void *ctx);
};

struct smtp_client;
struct smtp_client *smtp_client_new(const struct smtp_client_options *options,
                                    const struct smtp_client_events *events, void *ctx);
void smtp_client_free(struct smtp_client **clientp); /* calls no event */

/* The connection stands; waits for the greeting from now on. now_ms: monotonic. */
void smtp_client_start(struct smtp_client *client, uint64_t now_ms);
void smtp_client_input(struct smtp_client *client, const char *bytes, size_t len, uint64_t now_ms);
/* The connection ended. detail: one line, e.g. "connection reset by peer". */
void smtp_client_closed(struct smtp_client *client, const char *detail, uint64_t now_ms);
struct buf *smtp_client_output(struct smtp_client *client);
/* The kernel took bytes: restarts the block timer while content is being sent, and starts the dot timer
 * (dot_ms) only when the last byte was written (drained true; RFC 5321 section 4.5.3.2.6). */
void smtp_client_progress(struct smtp_client *client, bool drained, uint64_t now_ms);

/* When smtp_client_timeout() must be called (monotonic ms), UINT64_MAX: never. */
uint64_t smtp_client_deadline(const struct smtp_client *client);
void smtp_client_timeout(struct smtp_client *client, uint64_t now_ms);

void smtp_client_tls_started(struct smtp_client *client, uint64_t now_ms); /* forgets all that was learnt; EHLO again */
void smtp_client_tls_failed(struct smtp_client *client, const char *detail, uint64_t now_ms);

/* Begin; only after on_ready (smtp_client_ready()). With PIPELINING: MAIL, all RCPT and DATA in one write. */
void smtp_client_send(struct smtp_client *client, const struct smtp_transaction *transaction, uint64_t now_ms);
/* Content bytes (unstuffed; dots are added here). @return false: the output holds more than 256 KiB, call again after it drained; nothing was taken.
 * After the transaction's end bytes are accepted and dropped. */
MUST_USE bool smtp_client_content(struct smtp_client *client, const char *bytes, size_t len);
void smtp_client_content_end(struct smtp_client *client, uint64_t now_ms);
/* The owner cannot supply the rest (store failed): the session ends without the dot, on_transaction_done with FAIL_POLICY, 4.3.0. */
void smtp_client_content_abort(struct smtp_client *client, const char *detail, uint64_t now_ms);

void smtp_client_quit(struct smtp_client *client, uint64_t now_ms); /* only when ready; then on_end */

bool smtp_client_ready(const struct smtp_client *client);
bool smtp_client_has_8bitmime(const struct smtp_client *client);
/* The final dot was written or queued and its reply is outstanding: the only place where a crash may duplicate. */
bool smtp_client_awaits_dot(const struct smtp_client *client);

#endif
