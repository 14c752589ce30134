/* mta/auth/auth.h - AUTH as a server sees it (RFC 4954, 4422): one conversation an exchange, base64 in
 * and answers out, for PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS and EXTERNAL.
 *
 * Nothing here blocks a loop: checks, the slow hash and the delays behind failures run on threads of
 * its own (few, so that memory and CPU stay bounded), and answers come back through a port, one a
 * loop. Passwords live in the exchange only until they are checked, and are wiped; nothing of what a
 * client sent is logged. */
#ifndef MTA_AUTH_AUTH_H
#define MTA_AUTH_AUTH_H

#include "mta/auth/users.h"
#include "mta/base/log.h"

struct auth;          /* the whole; one a process */
struct auth_port;     /* one a loop */
struct auth_exchange; /* from AUTH to its end; belongs to its port's loop */

enum {
    AUTH_TOKEN_MAX_BYTES = 12288, /* base64 of one line (RFC 4954 section 4) */
    AUTH_BINDING_MAX_BYTES = 64,
    AUTH_CERTIFICATE_NAMES_MAX = 16,
    AUTH_EXCHANGES_MAX = 8192, /* at once; more are answered AUTH_BUSY */
    AUTH_MECHANISMS_TEXT_MAX = 64,
};

/* Starts the threads. log may be NULL. Never fails but for want of memory or threads, which ends the
 * process. */
struct auth *auth_new(struct log *log);
/* No exchange may be open and no port left. Accepts a pointer to NULL. */
void auth_free(struct auth **authp);

/**
 * Whom to let in: from the start, and again at each reload of the configuration.
 *
 * @param path the users file, or NULL: nobody can log in, no mechanism is offered
 * @param error as auth_users_load() writes it
 * @return 0; -1: nothing has changed
 *
 * Blocks on file I/O. Later changes of the file are noticed without a call, with the next login and
 * whenever somebody is asked about whom it could have changed; one that is faulty is logged (event
 * reload) and the former users stay. Any thread.
 */
MUST_USE int auth_set_users_file(struct auth *auth, const char *path, char *error,
                                 size_t error_size);

/* ---- who is asking ---- */

/* What is known of the client beside what it says. Copied where it is kept. */
struct auth_client {
    bool local; /* loopback or a unix socket: failures are counted by user alone */
    bool ipv6;
    uint8_t address[16]; /* 4 or 16 bytes; not looked at where local */
    /* Channel bindings of its TLS session (tls_session_binding()), length 0: none of that kind. */
    uint8_t exporter[AUTH_BINDING_MAX_BYTES], unique[AUTH_BINDING_MAX_BYTES];
    size_t exporter_len, unique_len;
    /* Names in its certificate, if that is trusted; printable ASCII. */
    const char *names[AUTH_CERTIFICATE_NAMES_MAX];
    size_t name_count;
};

/* The mechanisms for this client, strongest first, with blanks between them, as EHLO lists them:
 * -PLUS with a channel binding only, EXTERNAL only if a name of its certificate is a user. Empty: no
 * users file. Where passwords may cross the network in clear is the caller's decision. Any thread. */
void auth_mechanisms(struct auth *auth, const struct auth_client *client,
                     char text_out[AUTH_MECHANISMS_TEXT_MAX]);

/**
 * Does a login of some time ago still hold: is there such a user, with the same password? Asked before
 * each message, so that who was removed sends no more by a connection that stays open.
 *
 * @param userp what auth_user_ref() gave; replaced by what the users file says of him now
 * @return false: log in again; *userp is as it was
 *
 * The file itself is looked at behind this call (20 times a second at most): its change counts from
 * the next one on. Any thread.
 */
MUST_USE bool auth_user_stands(struct auth *auth, struct auth_user **userp);

/* ---- exchanges ---- */

enum auth_answer_kind {
    AUTH_CHALLENGE, /* 334: ask the client, then auth_step() or auth_cancel() */
    /* All others end the exchange: the pointer is not valid any more. */
    AUTH_ACCEPTED,  /* 235 2.7.0 */
    AUTH_WRONG,     /* 535 5.7.8: name, password, proof or certificate; never says which */
    AUTH_MALFORMED, /* 501 5.5.2: not base64, or not what the mechanism sends */
    AUTH_UNKNOWN,   /* 504 5.5.4: not one of auth_mechanisms() for this client */
    AUTH_BUSY,      /* 454 4.7.0: too many logins at once for this user, address or server */
};

struct auth_answer {
    enum auth_answer_kind kind;
    struct str challenge;         /* AUTH_CHALLENGE: base64, may be empty */
    const struct auth_user *user; /* AUTH_ACCEPTED: keep with auth_user_ref() */
    /* The user's name where there is such a user, also if the login failed; else NULL: what was typed
     * in its place may be a password, so it is not to be logged. */
    const char *name;
    const char *text; /* one printable line for the reply: what to do about it */
};
typedef void (*auth_answer_fn)(const struct auth_answer *answer, void *ctx);

/* notify is called from any thread when an answer waits (not again until auth_port_run() has begun):
 * let it wake the loop. */
struct auth_port *auth_port_new(struct auth *auth, void (*notify)(void *ctx), void *ctx);
void auth_port_run(struct auth_port *port);    /* the loop's thread: delivers what waits */
void auth_port_free(struct auth_port **portp); /* the loop's thread; its exchanges must have ended */

/**
 * A client said AUTH.
 *
 * @param initial base64 as sent; NULL: none; "=" is an empty one (RFC 4954 section 4)
 * @return the exchange; exactly one answer comes, from a later auth_port_run(), never from inside
 *
 * Answers take as long as they must: a failing one for 0.5 s up to 16 s, growing with what failed lately
 * for that user and address. While others fail, a right one waits for up to a second and for its turn to
 * be hashed; nobody is locked out. AUTH_BUSY comes where one address (on this machine: one user) with
 * failures asks for more than 8 checks a second.
 */
struct auth_exchange *auth_start(struct auth_port *port, const struct auth_client *client,
                                 struct str mechanism, const struct str *initial,
                                 auth_answer_fn on_answer, void *ctx);
/* The client's line behind AUTH_CHALLENGE. Exactly one answer comes, as above. */
void auth_step(struct auth_exchange *exchange, struct str base64);
/* The client gave up ("*") or has left: no answer comes any more, everything is wiped. Stores NULL;
 * accepts a pointer to NULL. */
void auth_cancel(struct auth_exchange **exchangep);

#endif
