/* mta/submit/submit_private.h - what the files of this folder share. */
#ifndef MTA_SUBMIT_SUBMIT_PRIVATE_H
#define MTA_SUBMIT_SUBMIT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "mta/auth/auth.h"
#include "mta/net/descriptors.h"
#include "mta/net/stream.h"
#include "mta/smtp/server.h"
#include "mta/submit/submit.h"
#include "mta/submit/unix_socket.h"
#include "tls/tls.h"

#define SUBMIT_BUDGET_BYTES                                                                        \
    ((size_t)16 * 1024 * 1024) /* content in memory, all sessions together */
/* Header sections and recipients, all sessions together: kept until the message is complete, so
 * waiting would free nothing; what does not fit is refused. */
#define SUBMIT_KEPT_MAX    ((size_t)64 * 1024 * 1024)
#define SUBMIT_PIECE_BYTES ((size_t)64 * 1024)
#define SUBMIT_HEADER_MAX  ((size_t)256 * 1024)

/* What one reading of the configuration gave: immutable, counted. */
struct submit_settings {
    atomic_uint references;
    const struct config *config;
    struct tls_credentials **tls; /* one a listener; NULL: no certificate configured */
    struct descriptor_shares shares;
};
struct submit_settings *settings_new(const struct config *config); /* without credentials */
/* Blocks on file I/O. @return NULL with a text */
MUST_USE struct submit_settings *settings_load(const struct config *config, char *error,
                                               size_t error_size);
struct submit_settings *submit_settings_ref(struct submit_settings *settings);
void submit_settings_unref(struct submit_settings **settingsp);

struct submit;
struct session;

/* One a loop. */
struct submit_worker {
    struct submit *submit;
    struct loop *loop;
    struct queue_port *port;
    uv_async_t port_async;
    struct auth_port *auth_port;
    uv_async_t auth_async;
    struct session *sessions;
    struct intake *intakes; /* commits under way */
    uv_timer_t grace;       /* once stopping */
    bool stopping, closed;
};

struct listener {
    struct submit *submit;
    size_t number; /* in the configuration */
    int fd;
    uv_poll_t poll;
    uv_timer_t pause; /* nothing can be accepted just now: look again later */
    bool open;
    char text[128];
    char *unix_path; /* NULL: IP */
    struct unix_socket unix_socket;
};

struct submit {
    struct log *log;
    struct queue *queue;
    struct auth *auth; /* from submit_load() on */
    struct listener *listeners;
    size_t listener_count;
    atomic_uint *connections; /* a configured listener */
    size_t connection_count;
    char skipped[128]; /* addresses left out: no IPv6 here */
    struct submit_worker *workers;
    size_t worker_count;
    unsigned next_worker;

    pthread_mutex_t lock; /* settings and answered */
    struct submit_settings *settings;
    struct queue_histogram answered; /* seconds from a message's end to its 250 */

    atomic_size_t budget_used; /* content behind the header, here and with the writer */
    atomic_bool budget_short;  /* somebody has paused */
    atomic_size_t kept_used;   /* of SUBMIT_KEPT_MAX */
    atomic_uint_fast64_t accepted, rejected;
    struct log_pace unstored;   /* messages that could not be stored */
    struct log_pace unaccepted; /* accepting had to pause */
    atomic_size_t sockets;      /* accepted and not closed yet: longer than a session lives */
    atomic_size_t sessions;
    atomic_size_t workers_left;
    uint64_t grace_ms;
    void (*on_stopped)(void *ctx);
    void *on_stopped_ctx;
};

/* ---- listener.c ---- */
MUST_USE int listener_bind_all(struct submit *submit, const struct config *config,
                               const struct submit_owner *owner, char *error, size_t error_size);
MUST_USE int listener_start_all(struct submit *submit, uv_loop_t *loop);
void listener_close_all(struct submit *submit);
void listener_free_all(struct submit *submit); /* also what listener_close_all() did not see */

/* ---- session.c ---- */
struct session_start {
    struct submit_worker *worker;
    struct submit_settings *settings; /* taken */
    size_t listener;
    const char *text; /* of the listening address; lives as long as submit */
    int fd;           /* taken */
    bool is_unix; /* a socket in the file system */
    bool crowded; /* over max_connections or the share of descriptors: 421 */
};
void session_open(const struct session_start *start);
void session_shut_all(struct submit_worker *worker);
void session_cut_all(struct submit_worker *worker);
void session_budget_short(struct submit_worker *worker); /* hand over what every session holds */
void session_budget_freed(struct submit_worker *worker); /* go on reading where that was paused */
void submit_check_stopped(struct submit_worker *worker);
void submit_count_answer(struct submit *submit, uint64_t ns); /* a 250, so long after the end */

/* ---- intake.c: one message on its way into the queue ---- */
struct intake;
struct intake_client { /* for the trace field; strings are copied */
    const char *helo;
    bool extended;
    const char *address;
    const char *tls;  /* "" or "TLS1.3 ..." */
    const char *user; /* whom it is known as, for the trace field where that may tell; NULL: nobody */
    /* Who has logged in by AUTH (ESMTPA), and whom From may name; NULL: nobody. Not copied: stays until
     * the message has ended. */
    const struct auth_user *login;
};
struct intake_result {
    int result; /* QUEUE_* */
    const char *id;
};
/* Comes once after intake_finish, on the worker's loop; not after intake_abandon. */
typedef void (*intake_done_fn)(const struct intake_result *result, void *ctx);

/* A transaction begins (MAIL). sender: as it is to be stored; what else MAIL asks for is taken from
 * mail. Both are copied. */
struct intake *intake_new(struct submit_worker *worker, const struct submit_settings *settings,
                          const struct config_listener *listener, struct str sender,
                          const struct smtp_mail *mail);
enum intake_rcpt {
    INTAKE_RCPT_OK,
    INTAKE_RCPT_NO_DOMAIN, /* not a valid domain name */
    INTAKE_RCPT_NO_ROOM,   /* SUBMIT_KEPT_MAX, or as many as the queue takes */
};
/* notify: enum queue_notify bits; orcpt: "" is none. An address that is there already stays as it
 * was named first. */
MUST_USE enum intake_rcpt intake_add_recipient(struct intake *intake, struct str address,
                                               struct str domain, uint8_t notify,
                                               struct str orcpt);
size_t intake_recipient_count(const struct intake *intake);
/* Only the first `count` stay. */
void intake_drop_recipients(struct intake *intake, size_t count);
/* DATA. @return 0 or QUEUE_ERR_* */
MUST_USE int intake_begin(struct intake *intake, const struct intake_client *client);
/* What makes SUBMIT_KEPT_MAX overflow is dropped with the rest of the message; intake_finish then
 * refuses. */
void intake_content(struct intake *intake, const char *bytes, size_t len);
const char *intake_id(const struct intake *intake); /* "" before intake_begin */
/* Is its content counted in the budget? Not before the header section is complete: to stop reading
 * there would free nothing. */
bool intake_in_body(const struct intake *intake);
/* Hands over what is held of the body, so that the budget can shrink while the client is not
 * read. */
void intake_flush(struct intake *intake);
/* The budget has run out: all sessions are to hand over what they hold, the idle ones too. */
void intake_budget_short(struct submit *submit);
/* The end. A refusal comes back at once: code and text are set and false returned (the intake is
 * then to be abandoned). */
MUST_USE bool intake_finish(struct intake *intake, intake_done_fn on_done, void *ctx,
                            uint16_t *code_out, char *text, size_t text_size);
/* The transaction is gone, or the session: what was stored is removed. After intake_finish: the
 * commit goes on, nobody is told. Stores NULL. */
void intake_abandon(struct intake **intakep);

#endif
