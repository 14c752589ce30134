/* mta/control/control_private.h - one client of the control socket, and what a command may use. */
#ifndef MTA_CONTROL_CONTROL_PRIVATE_H
#define MTA_CONTROL_CONTROL_PRIVATE_H

#include <jansson.h>

#include "mta/base/buf.h"
#include "mta/control/control.h"

#define CONTROL_REQUEST_MAX ((size_t)64 * 1024)
#define CONTROL_PENDING_MAX                                                                        \
    ((size_t)256 * 1024) /* answers a client lets lie before the walk waits for it */
#define CONTROL_CLIENTS_MAX 64
#define CONTROL_REQUEST_MS  30000 /* from connecting to the end of the request */
#define CONTROL_IDS_A_READ  64

struct control_client;

/* Which units a command means. Strings are borrowed from the request. */
struct selector {
    bool by_id, all;
    uint64_t id;
    const char *domain, *sender, *recipient, *state; /* NULL: any */
    int64_t older_ms;                                /* 0: any age */
};

struct verb_call;

/* A command that goes over the queue in steps. */
struct walk_state {
    bool going;
    enum { WALK_LIST, WALK_VERB } kind;
    enum queue_verb verb;
    bool dry_run;
    struct selector selector;
    uint64_t ids[CONTROL_IDS_A_READ]; /* read ahead */
    size_t id_count, id_next;
    uint64_t after;                /* the last id read ahead */
    struct queue_message *message; /* at hand; NULL: take the next */
    uint64_t id;                   /* its id */
    size_t unit;                   /* its next unit */
    uint64_t limit;                /* lines or messages; UINT64_MAX: no limit */
    uint64_t matched;              /* so far */
    uint64_t damaged;              /* of them */
    uint64_t done;                 /* verbs the writer has done */
    uint64_t failed;               /* verbs it could not do */
    size_t outstanding;            /* verbs handed to the writer */
    struct verb_call *calls;
    bool scanned; /* the end of the queue was seen */
};

struct control {
    char *path;
    int fd;
    struct queue *queue;
    struct log *log;
    struct control_hooks hooks;
    uv_loop_t *loop;
    uv_pipe_t listener;
    bool listening;
    struct queue_port *port;
    uv_async_t port_async;
    struct control_client *clients;
    size_t client_count;
};

struct control_client {
    struct control_client *prev, *next;
    struct control *control;
    uv_pipe_t pipe;
    uv_idle_t idle;   /* drives a walk, one step a loop turn */
    uv_timer_t timer; /* until the request is there */
    struct buf input;
    json_t *request;
    struct walk_state walk;
    uint64_t cat_offset;
    uint64_t cat_id;
    bool cat_going, finishing, closing;
    bool waiting; /* the walk rests until the client has read or the writer has answered */
    unsigned handles_open;
};

/* ---- control.c ---- */
/* Queue one object as a line; takes the reference. */
void control_send(struct control_client *client, json_t *object);
void control_send_bytes(struct control_client *client, const void *bytes, size_t len);
/* The last line; the connection is closed when all is written. */
void control_finish(struct control_client *client, int exit_code);
void control_fail(struct control_client *client, const char *text); /* {"error":...,"exit":1} */
/* The writer has answered everything: a close that waited for it goes on. */
void control_client_settled(struct control_client *client);
bool control_is_slow(
    const struct control_client *client);               /* the client must first take what lies */
void control_step_start(struct control_client *client); /* call control_command_step() every turn */
void control_step_stop(struct control_client *client);
void control_step_wait(struct control_client *client);   /* rest, without spinning */
void control_step_resume(struct control_client *client); /* go on if it rests */

/* Any bytes as a JSON string: control bytes and what is not UTF-8 become \\xXX. */
json_t *control_text(const char *text);
json_t *control_time(int64_t unix_ms); /* ISO text, or null for none */

/* ---- command.c: the table ---- */
void control_command_start(struct control_client *client);
void control_command_step(struct control_client *client);

/* ---- select.c ---- */
/* @return false: text says what is wrong with the request */
bool selector_read(const json_t *request, struct selector *selector_out, char *text, size_t size);
/* Still to be dealt with: whom the message has reached is no reason to touch it. */
bool recipient_is_open(const struct queue_recipient *recipient);
bool selector_is_empty(const struct selector *selector);
/* Does it ask about the content of a record? (A damaged one has no answer.) */
bool selector_looks_inside(const struct selector *selector);
bool selector_matches(const struct selector *selector, const struct control *control, uint64_t id,
                      const struct queue_envelope *envelope, size_t unit);
const char *unit_state_text(const struct control *control, uint64_t id,
                            const struct queue_unit *unit, size_t number);

/* ---- show.c ---- */
void command_show(struct control_client *client);
void command_cat(struct control_client *client);
void cat_step(struct control_client *client);
/* A record that was set aside. @return false: it is not (written all the same) */
struct damage {
    char reason[256];
    uint64_t bytes;
};
bool damage_find(struct queue *queue, uint64_t id, struct damage *damage_out);

/* ---- listing.c ---- */
void command_list(struct control_client *client);
void command_retry(struct control_client *client);
void command_delete(struct control_client *client);
void listing_step(struct control_client *client);
void listing_forget_calls(struct control_client *client); /* the writer's answers will not come */
void listing_free(struct control_client *client);

#endif
