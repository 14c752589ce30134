/* mta/smtp/server_private.h - what the files of the server session share: server.c (life, bytes,
 * replies), server_command.c (the command table), server_mail.c (MAIL and RCPT), server_param.c
 * (their parameters), server_auth.c (the exchange of AUTH), server_data.c (message content). */
#ifndef MTA_SMTP_SERVER_PRIVATE_H
#define MTA_SMTP_SERVER_PRIVATE_H

#include "mta/smtp/dot.h"
#include "mta/smtp/server.h"

enum server_state {
    SERVER_UNGREETED, /* the greeting is not queued yet: input waits */
    SERVER_NEW,       /* no HELO or EHLO yet */
    SERVER_READY,
    SERVER_MAIL, /* MAIL accepted, no RCPT yet */
    SERVER_RCPT, /* at least one RCPT accepted */
    SERVER_DATA,  /* content behind 354 */
    SERVER_CHUNK, /* the octets of a BDAT */
    SERVER_BDAT,  /* between two BDATs of a message */
    SERVER_ANSWER,   /* the end was seen, the owner's answer is outstanding: input waits */
    SERVER_AUTH_ANSWER,   /* AUTH or a response was handed over, the owner's answer is outstanding:
                             input waits */
    SERVER_AUTH_RESPONSE, /* 334 is queued: the next line is the response */
    SERVER_STARTTLS, /* 220 to STARTTLS is queued: input in clear is dropped */
    SERVER_CLOSED,
};

/* The message whose content is arriving. What speaks against it is gathered until its end, so that
 * the verdict does not depend on how the bytes were cut into segments. */
struct server_content {
    struct smtp_dot_reader reader;
    struct buf piece; /* unstuffed content on its way to the owner */
    uint64_t bytes;
    uint64_t header_bytes; /* of the header section as far as it has been seen */
    size_t header_line_bytes;
    bool header_ended;
    uint64_t announced; /* octets of all BDATs; 0 for DATA */
    uint64_t chunk_left;
};

/* The arguments of a BDAT. */
struct server_chunk {
    uint64_t bytes;
    bool last;
    bool good; /* nothing else stood there */
};

struct server_auth {
    char *mechanisms; /* offered; NULL: none */
    bool done;        /* logged in */
    unsigned failures;
};

struct smtp_server {
    struct smtp_server_options options; /* strings owned */
    struct smtp_server_events events;
    void *ctx;
    enum server_state state;
    bool tls;
    struct buf input; /* what could not be handled yet */
    struct buf output;
    struct str now; /* the bytes being handled: the caller's, or those of input */
    bool running;   /* inside the handling loop; events must not start it again */
    bool skipping;  /* an overlong command line is being dropped up to its LF */
    bool smtputf8;  /* of the transaction */
    bool refused;   /* MAIL (in SERVER_READY) or a RCPT (later) was: what was pipelined behind it is
                       no fault */
    /* since the last accepted message: */
    unsigned faults;             /* bad commands */
    unsigned chatter;            /* commands that make long replies and carry no mail */
    unsigned idling;             /* NOOP, RSET */
    unsigned empty_chunks;       /* BDAT 0 without LAST */
    unsigned refused_mails;      /* MAIL and DATA, good commands but refused */
    unsigned refused_recipients; /* RCPT likewise, and what was pipelined behind a refusal */
    uint32_t recipients;
    char *sender;           /* of the transaction, for refusals; NULL: none */
    struct str recipient;   /* of the RCPT being handled, likewise */
    uint64_t dropped_bytes; /* in clear behind STARTTLS */
    char *shut_text;        /* smtp_server_shut() waits for the end of an event or for the answer */
    struct server_auth auth;
    struct server_content content;
    struct server_chunk chunk; /* of the BDAT being handled */
    uint64_t skip_bytes;       /* octets of a refused BDAT, still to be dropped */
};

/* What is wrong with a command: code 0 is nothing. */
struct server_refusal {
    uint16_t code;
    const char *text;
};

/* The only writer of the state; asserts that the move is legal. */
void server_set_state(struct smtp_server *server, enum server_state state);

/* Queue one reply line. text: enhanced code and words; unprintable bytes become '?'. 421 ends the
 * session. */
void server_reply(struct smtp_server *server, uint16_t code, const char *text);
/* The same, for a bad command: counts against SMTP_SERVER_ERRORS_MAX. */
void server_reply_fault(struct smtp_server *server, uint16_t code, const char *text);
/* The same, for a good MAIL or DATA that is refused: counts against SMTP_SERVER_REFUSED_MAX. Each
 * refusal is a line in the owner's log, so none may be without bound. */
void server_reply_refused_mail(struct smtp_server *server, uint16_t code, const char *text);
/* The same, for RCPT and what was pipelined behind a refusal. The bound leaves room for messages
 * with many bad recipients. */
void server_reply_refused_recipient(struct smtp_server *server, uint16_t code, const char *text);
/* The transaction, if there is one, is gone: tells the owner. Back to SERVER_READY. */
void server_reset(struct smtp_server *server);
/* The same, but a refusal that follows still knows the sender, until server_forget_sender(). */
void server_end_transaction(struct smtp_server *server);
void server_forget_sender(struct smtp_server *server);
/* Nothing is read or answered any more; on_reset if there was a transaction, on_quit. */
void server_end(struct smtp_server *server);

/* Wipe and count what lies behind the command being handled: nobody will look at it. */
void server_drop_input(struct smtp_server *server);
/* An answer of the owner has been queued: handle the input that waited, unless called from inside an
 * event. */
void server_go_on(struct smtp_server *server);

/* What EHLO announces behind AUTH; NULL: nothing. */
const char *server_auth_mechanisms(const struct smtp_server *server);
void server_auth(struct smtp_server *server, struct str args);
/* A response line, without its line end. */
void server_auth_line(struct smtp_server *server, struct str line);
/* A response line that cannot be read: ends the exchange. */
void server_auth_line_fault(struct smtp_server *server, uint16_t code, const char *text);

/* Handle one complete command line, without its line end. */
void server_command(struct smtp_server *server, struct str line);
/* A line that begins so cannot be read as a command: a fault. Behind a BDAT octets follow, and nobody
 * knows how many: that ends the session, so that content is not taken for commands. */
void server_refuse_unread(struct smtp_server *server, struct str line, uint16_t code,
                          const char *text);
void server_mail(struct smtp_server *server, struct str args);
void server_rcpt(struct smtp_server *server, struct str args);

/* Parameters behind the path, into mail or rcpt. */
struct server_refusal server_mail_params(const struct smtp_server *server, struct str rest,
                                         struct smtp_mail *mail);
struct server_refusal server_rcpt_params(const struct smtp_server *server, struct str rest,
                                         struct smtp_rcpt *rcpt);
bool server_offers_requiretls(const struct smtp_server *server);

/* A BDAT line, whether it may come or not: its octets follow, and are dropped unless server_bdat()
 * takes them. @return false: no chunk can be told from it, that has been answered */
bool server_chunk_announce(struct smtp_server *server, struct str args);
void server_bdat(struct smtp_server *server, struct str args);
/* A BDAT was refused. What lacks a chunk is no message: its transaction ends. */
void server_chunk_lost(struct smtp_server *server);
/* Eat octets of a chunk from server->now. */
void server_chunk_input(struct smtp_server *server);

/* After 354. */
void server_content_begin(struct smtp_server *server);
/* Eat content from server->now, up to its end or the end of the bytes. */
void server_content_input(struct smtp_server *server);

#endif
