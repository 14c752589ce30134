/* mta/deliver/connection_private.h - one outgoing connection; shared by connection.c (its life) and
 * connection_unit.c (the units that travel on it). */
#ifndef MTA_DELIVER_CONNECTION_PRIVATE_H
#define MTA_DELIVER_CONNECTION_PRIVATE_H

#include "mta/deliver/delivery.h"
#include "mta/deliver/walk.h"
#include "mta/net/stream.h"

enum connection_state {
    CONNECTION_WALKING,    /* looking for the next address */
    CONNECTION_CONNECTING, /* TCP */
    CONNECTION_SESSION,    /* SMTP, with or without a unit */
    CONNECTION_IDLE,       /* listed as idle */
    CONNECTION_WAKING,     /* taken off the idle list, the wake-up is on its way */
    CONNECTION_QUITTING,   /* QUIT sent */
    CONNECTION_OVER, /* closed; memory goes when its timer has closed and nothing is under way */
};

/* What the client session's events have said since they were last looked at. Handled in
 * connection_step(), never inside an event. */
struct session_news {
    bool starttls, go_ahead, done, ended;
    struct smtp_result done_result, end_result;
};

struct connection {
    struct connection *prev, *next; /* of the worker */
    struct idler idler;             /* CONNECTION_IDLE */
    struct worker *worker;
    struct site *site;
    struct settings *settings;
    enum connection_state state;
    uv_timer_t timer;
    uint64_t armed_ms;  /* when it fires */
    uint64_t opened_ms; /* monotonic */
    bool timer_closed;

    struct walk *walk;
    char host[256], address[48], tls[96];
    char place[MEMORY_KEY_MAX]; /* address and port: what is remembered of it */
    struct sockaddr_storage socket;
    bool ipv6, ipv6_failed; /* this address; an earlier one of this walk */

    uint64_t redial_ms; /* CONNECTION_CONNECTING: no socket could be made, try again then; or 0 */
    struct stream *stream;
    struct smtp_client *client;
    struct session_news news;
    bool clear_only; /* STARTTLS failed here: opportunistic goes on in clear */
    bool helo_only;
    bool tls_tried, tls_handshaking;
    bool counted;          /* scheduler_connected was called */
    uint32_t transactions; /* begun on this connection */
    uint32_t completed;    /* of those, after which the session lived on */
    uint64_t written_seen;

    struct delivery *delivery;
    bool signing; /* callback is to come */
    bool in_transaction, content_going, content_done;
    bool recording;       /* the last unit's outcome is not in the store yet: the next dot waits */
    uint64_t deadline_ms; /* of the attempt as a whole */
    uint64_t idle_until_ms;
    struct mail_outcome last; /* what the last address said */
    bool reached_ready;       /* an address of this walk spoke SMTP with us: the site is not down */
    unsigned given_up;        /* addresses, in this attempt */
    char tried[800];          /* what each of them said */
};

/* ---- connection.c ---- */
void connection_step(struct connection *c); /* look at the news and go on; may end the connection */
void connection_end(struct connection *c);  /* closes; gives its place back */
void connection_quit(struct connection *c); /* QUIT, then end */

void connection_arm(struct connection *c); /* the timer: the earliest of all deadlines */
extern const struct stream_events connection_stream_events;

/* ---- connection_dial.c ---- */
void connection_dial(struct connection *c);    /* connect to the address at hand */
void connection_dialled(struct connection *c); /* it worked: remember */
/* It did not: remember, and go on to the next address. */
void connection_dial_failed(struct connection *c, const char *text);
/* No socket could be made: that is our trouble, not the host's. Dial again a little later. */
void connection_dial_later(struct connection *c, const char *text);
extern const struct walk_events connection_walk_events;
/* The address at hand is given up for c->last: log it and keep it for the record. */
void connection_note_given_up(struct connection *c);

/* ---- connection_unit.c ---- */
/* Takes the next unit of the site. @return false: none */
bool connection_take_unit(struct connection *c);
/* A ready session: send the unit's next transaction if it may start. */
void connection_begin_transaction(struct connection *c);
void connection_pump_content(struct connection *c);
/* The transaction is over (news.done). */
void connection_end_transaction(struct connection *c);
void connection_recipient_result(struct connection *c, size_t index,
                                 const struct smtp_result *result);
/* The attempt is over without further addresses: c->last for all that wait. */
void connection_give_up(struct connection *c);
/* Back to the queue without an attempt, or forgotten until the next start when stopping. */
void connection_drop_unit(struct connection *c);

#endif
