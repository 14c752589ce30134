/* mta/submit/session_private.h - what the files of a client's session share: session.c (life, bytes,
 * time), session_mail.c (whose mail, to whom), login.c (AUTH). */
#ifndef MTA_SUBMIT_SESSION_PRIVATE_H
#define MTA_SUBMIT_SESSION_PRIVATE_H

#include "mta/smtp/server.h"
#include "mta/submit/submit_private.h"
#include "mta/submit/trust.h"

#define SESSION_TLS_TEXT_MAX 96
#define SESSION_DENIALS_MAX                                                                        \
    5 /* of relaying; each is a line in the log, and no trust comes by asking */

struct session {
    struct session *prev, *next;
    struct submit_worker *worker;
    struct submit_settings *settings;
    const struct config_listener *listener;
    size_t listener_number;
    enum config_listener_tls tls_mode; /* of the listener; a socket of this machine demands none */
    struct stream *stream;
    struct smtp_server *server;
    struct intake *intake;
    char ended_id[QUEUE_ID_TEXT]; /* of the message refused at its end, for the log line of that */
    uint64_t ended_ns;            /* when the end of the message at hand came */
    uv_timer_t timer;
    bool timer_closed;
    uint64_t active_ms; /* the last byte from the client */
    char address[48];   /* for people: "192.0.2.1", "unix" */
    uint16_t port;
    struct auth_exchange *exchange; /* AUTH under way */
    struct auth_user *login;        /* who has logged in, or NULL */
    const char *attempted;          /* the user whose login is being refused, for the log */
    struct session_names *names;    /* of the client's trusted certificate, or NULL */
    char account[64]; /* of this machine, at the other end of a socket in the file system; or "" */
    struct trust_client client;
    char helo[256];
    bool extended;
    char tls[SESSION_TLS_TEXT_MAX];
    bool crowded;
    unsigned denials;
    /* noted by events */
    bool want_tls, want_close;
    bool handshaking, paused, over;
    bool half; /* the client has ended its side and waits for an answer; the stream is silent now */
    bool unread;  /* paused because the client does not take our replies */
    bool starved; /* paused because the budget is used up */
};

/* Do what events have noted, send, and read on or not. */
void session_step(struct session *s);
void session_end(struct session *s, bool graceful);

/* Whom the client is known as: the login, or the account of this machine; NULL: nobody. */
const char *session_user(const struct session *s);

/* ---- login.c ---- */
/* Announce the mechanisms that this client may use now, or none. */
void login_offer(struct session *s);
/* TLS runs: what was known before is forgotten, what the certificate says is learnt. */
void login_tls_started(struct session *s, const struct tls_verdict *verdict);
/* Who has logged in may still do so, or nobody has; what he may send as is learnt anew. */
MUST_USE bool login_stands(struct session *s);
void login_free(struct session *s); /* also in the middle of an exchange */
void login_on_auth(struct str mechanism, const struct str *initial, void *ctx);
void login_on_auth_response(struct str base64, void *ctx);
void login_on_auth_cancel(void *ctx);

/* ---- session_mail.c ---- */
void session_refuse(struct smtp_verdict *verdict, uint16_t code, const char *text);
void session_on_mail(const struct smtp_mail *mail, struct smtp_verdict *verdict, void *ctx);
void session_on_rcpt(const struct smtp_rcpt *rcpt, struct smtp_verdict *verdict, void *ctx);

#endif
