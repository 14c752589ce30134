/* mta/auth/auth_private.h - what auth.c (the loops' side) and auth_work.c (the threads) share. */
#ifndef MTA_AUTH_AUTH_PRIVATE_H
#define MTA_AUTH_AUTH_PRIVATE_H

#include <pthread.h>
#include <sys/stat.h>

#include "mta/auth/auth.h"
#include "mta/auth/mechanism.h"
#include "mta/auth/siphash.h"
#include "mta/auth/standing.h"
#include "mta/auth/verified.h"

enum { AUTH_HASHERS = 2 }; /* 16 MiB each while they work */

/* Where an exchange is; under auth->lock. */
enum auth_place {
    AUTH_WITH_CLIENT,
    AUTH_IN_INBOX,   /* for the front thread */
    AUTH_IN_TIMED,   /* waits for due_ms, then the front thread takes it */
    AUTH_IN_HASHES,  /* waits for a hasher, by turn */
    AUTH_AT_WORK,    /* on a thread of ours; in no list */
    AUTH_IN_ANSWERS, /* of its port */
};

/* What the front thread does with it next. */
enum auth_action {
    AUTH_DO_STEP,
    AUTH_DO_CHECK,
    AUTH_DO_CONCLUDE, /* `next` holds what the check said */
    AUTH_DO_ANSWER,
};

struct auth_exchange {
    struct auth_exchange *prev, *following;
    struct auth_port *port;
    enum auth_place place;
    enum auth_action action;
    bool cancelled;        /* the owner has left while it was at work */
    struct auth_client client; /* its names are copies */
    int kind;              /* enum mechanism_kind; -1: unknown */
    struct auth_users *users;
    struct mechanism *mechanism;
    char *token; /* base64; NULL: no initial response */
    size_t token_len;
    uint64_t due_ms, turn;
    enum mechanism_next next;
    auth_answer_fn on_answer;
    void *ctx;
    enum auth_answer_kind answer;
    char *challenge; /* base64, or NULL */
};

struct auth_port {
    struct auth *auth;
    void (*notify)(void *ctx);
    void *ctx;
    struct auth_exchange *answers;
    bool notified;
};

struct auth {
    struct log *log;

    pthread_mutex_t lock; /* lists, places, users */
    pthread_cond_t front_wakes, hashers_wake;
    struct auth_exchange *inbox, *timed, *hashes;
    size_t exchange_count;
    bool stopping;
    bool look_asked;    /* the front thread is to look at the file */
    uint64_t looked_ms; /* when it last did because of that */
    struct auth_users *users; /* NULL: none configured */

    pthread_mutex_t file_lock; /* the three below; held over file I/O */
    char *path;
    struct stat file;
    bool file_known; /* `file` is what was read last, well or not */

    /* Of the front thread alone. */
    struct mechanisms *mechanisms;
    struct standing *standing;
    struct verified *verified;
    struct siphash_key key;

    pthread_t front, hashers[AUTH_HASHERS];
};

void *auth_front_run(void *auth);
void *auth_hasher_run(void *auth);

/* Lock held. In lists ordered by due_ms or turn: behind its equals. */
void auth_put(struct auth *auth, struct auth_exchange *exchange, enum auth_place place);
void auth_take_out(struct auth *auth, struct auth_exchange *exchange); /* of its list, if in one */
void auth_exchange_free(struct auth *auth, struct auth_exchange *exchange);
/* Wiped, and its memory given back: an exchange may last for long after it. No lock. */
void auth_drop_token(struct auth_exchange *exchange);

/* ---- auth_file.c ---- */

/* Reads the file again if it has changed since. */
void auth_look_at_file(struct auth *auth);
/* Lock held: the front thread is to do that soon, unless it just has. */
void auth_ask_to_look(struct auth *auth);

#endif
