/* mta/smtp/client_private.h - what client.c (the session) and client_transaction.c (MAIL to the
 * reply to the dot) share. Nobody else includes it. */
#ifndef MTA_SMTP_CLIENT_PRIVATE_H
#define MTA_SMTP_CLIENT_PRIVATE_H

#include "mta/smtp/client.h"
#include "mta/smtp/dot.h"

enum client_state {
    STATE_NEW,
    STATE_GREETING,
    STATE_HELLO, /* EHLO or HELO is outstanding */
    STATE_STARTTLS,
    STATE_TLS, /* the owner's handshake runs */
    STATE_READY,
    STATE_REFUSED,  /* we refuse the transaction ourselves; not told yet */
    STATE_ENVELOPE, /* replies to MAIL, RCPT, DATA are outstanding */
    STATE_CONTENT,
    STATE_ABORTED,     /* the owner gave up within the content; not told yet */
    STATE_DOT_WRITING, /* the dot is queued, not all is with the kernel */
    STATE_DOT,
    STATE_RSET,
    STATE_QUIT,
    STATE_ENDED,
    STATE_COUNT
};

enum client_command {
    COMMAND_GREETING, /* no command: the reply that comes unasked */
    COMMAND_EHLO,
    COMMAND_HELO,
    COMMAND_STARTTLS,
    COMMAND_MAIL,
    COMMAND_RCPT,
    COMMAND_DATA,
    COMMAND_DOT,
    COMMAND_EMPTY_DOT, /* a 354 that nobody wanted (RFC 2920 section 3.1) */
    COMMAND_RSET,
    COMMAND_QUIT,
    COMMAND_COUNT
};

enum client_extension {
    EXTENSION_PIPELINING = 1,
    EXTENSION_8BITMIME = 2,
    EXTENSION_STARTTLS = 4,
    EXTENSION_SIZE = 8,
};

struct client_transaction {
    struct smtp_transaction what; /* its strings are borrowed; recipient_count 0: none */
    enum client_next { NEXT_MAIL, NEXT_RCPT, NEXT_DATA, NEXT_NOTHING } next; /* to be sent */
    enum { MAIL_UNANSWERED, MAIL_ACCEPTED, MAIL_REFUSED } mail;
    size_t sent;     /* RCPT commands */
    size_t reported; /* recipients that have their result */
    size_t accepted;
    struct smtp_result failure; /* why nobody gets the message, as far as known */
    struct smtp_dot_writer writer;
};

struct sent_command {
    enum client_command command;
    uint64_t
        end; /* queued_total behind it: while the output still holds it no reply can be its own */
};

struct smtp_client {
    struct smtp_client_options options;
    char *hostname;
    const struct smtp_client_events *events;
    void *ctx;

    enum client_state state;
    bool running;   /* an entry function is at work: no second one, and no free */
    bool encrypted; /* TLS runs */
    uint64_t deadline_ms;

    unsigned offered; /* enum client_extension bits of the last EHLO */
    uint64_t size_limit;
    unsigned ehlo_lines;
    struct smtp_reply ehlo_refusal; /* code 0: EHLO was not refused */

    struct smtp_reply_parser parser;
    struct sent_command *sent; /* oldest first, from sent_first */
    size_t sent_first, sent_count, sent_capacity;

    struct buf output;
    uint64_t queued_total; /* bytes ever appended to output */

    struct client_transaction transaction;
};

/* ---- client.c ---- */

/* The only writer of the state: a move that is not in its table is a bug. */
void client_set_state(struct smtp_client *client, enum client_state next);

/* Append a command, for which a reply is due from now on. Starts the timer if it is the oldest. */
void client_command(struct smtp_client *client, enum client_command command, uint64_t now_ms,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same for what the caller has put into the output, or for the greeting. */
void client_expect_reply(struct smtp_client *client, enum client_command command, uint64_t now_ms);
void client_arm(struct smtp_client *client, uint32_t timeout_ms, uint64_t now_ms);

/* Fill a result: with the peer's reply, or with a line of our own. */
void client_result_reply(struct smtp_result *result, enum smtp_stage stage,
                         const struct smtp_reply *reply);
void client_result_text(struct smtp_result *result, enum smtp_failure failure,
                        enum smtp_stage stage, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void client_become_ready(struct smtp_client *client);
/* Finish the transaction off, then on_end. No event comes after it. */
void client_end(struct smtp_client *client, const struct smtp_result *result);

/* ---- client_hello.c ---- */

void client_send_ehlo(struct smtp_client *client, uint64_t now_ms);
/* A smtp_reply_line_fn for the reply to EHLO; ctx: the client. */
void client_note_extension(struct str line, void *ctx);
void client_greeting_ok(struct smtp_client *client, const struct smtp_reply *reply,
                        uint64_t now_ms);
void client_ehlo_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_ehlo_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms);
void client_helo_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_starttls_ok(struct smtp_client *client, const struct smtp_reply *reply,
                        uint64_t now_ms);
void client_starttls_refused(struct smtp_client *client, const struct smtp_reply *reply,
                             uint64_t now_ms);

/* ---- client_transaction.c: one function per row and kind of reply ---- */

void client_mail_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_mail_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms);
void client_rcpt_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_rcpt_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms);
void client_data_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_data_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms);
void client_dot_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
void client_dot_refused(struct smtp_client *client, const struct smtp_reply *reply,
                        uint64_t now_ms);
void client_empty_dot_answered(struct smtp_client *client, const struct smtp_reply *reply,
                               uint64_t now_ms);

/* Tell what we refused ourselves (STATE_REFUSED, STATE_ABORTED). */
void client_tell_refusal(struct smtp_client *client);
/* The session ends: recipients without a result get this one, then on_transaction_done. */
void client_abandon_transaction(struct smtp_client *client, const struct smtp_result *result);

#endif
