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

struct control_client;
struct walk;
struct maintenance;
struct scanner;

enum selector_state {
    SELECT_ANY,
    SELECT_QUEUED,
    SELECT_ACTIVE,
    SELECT_DEFERRED,
    SELECT_HELD,
    SELECT_DAMAGED,
};

/* Which units a command means. Strings are borrowed from the request. */
struct selector {
    bool by_id, all;
    uint64_t id;
    const char *domain, *sender, *recipient; /* NULL: any */
    enum selector_state state;
    int64_t older_ms;    /* 0: any age */
    int64_t now_unix_ms; /* ages are those of the moment when the command came */
};

/* Units of one message, ascending. Zeroed to begin with; unit_set_deinit() at the end. */
struct unit_set {
    uint16_t *numbers;
    size_t count, size;
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
    struct scanner *scanner;
    struct maintenance *maintenance; /* at work, or NULL */
    size_t summaries;                /* at work: each holds a table */
    size_t calls;                    /* of verbs, with the writer */
    struct control_client *clients;
    size_t client_count;
};

struct control_client {
    struct control_client *prev, *next;
    struct control *control;
    uv_pipe_t pipe;
    uv_idle_t idle;   /* drives a command of many steps, one a loop turn */
    uv_timer_t timer; /* until the request is there */
    struct buf input;
    json_t *request;
    struct walk *walk;               /* NULL: the command is none */
    struct maintenance *maintenance; /* likewise */
    uint64_t cat_offset;
    uint64_t cat_id;
    bool cat_going, finishing, closing;
    bool waiting;   /* it rests until the client has read, or what it waits for has come */
    unsigned holds; /* others that will come back to the client: it is not freed before */
    unsigned handles_open;
};

/* ---- control.c ---- */
/* Queue one object as a line; takes the reference. */
void control_send(struct control_client *client, json_t *object);
void control_send_bytes(struct control_client *client, const void *bytes, size_t len);
/* The last line; the connection is closed when all is written. */
void control_finish(struct control_client *client, int exit_code);
void control_fail(struct control_client *client, const char *text); /* {"error":...,"exit":1} */
/* Somebody (the writer, a thread) keeps the client for a later call: its close waits for the last
 * control_unhold(), which may free it. */
void control_hold(struct control_client *client);
void control_unhold(struct control_client *client);
/* Has its process ended, or closed the connection? (A half-closed one still listens.) */
bool control_has_left(const struct control_client *client);
void control_close(struct control_client *client); /* one that has left */
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
/* Seconds since it was accepted; a clock that was set back makes nothing younger than new. */
int64_t age_seconds(int64_t accepted_unix_ms, int64_t now_unix_ms);
bool selector_is_empty(const struct selector *selector);
/* Does it ask about the content of a record? (A damaged one has no answer.) */
bool selector_looks_inside(const struct selector *selector);
/* The open units of a message that are meant. @return how many */
size_t selector_pick(const struct selector *selector, const struct control *control, uint64_t id,
                     const struct queue_envelope *envelope, struct unit_set *set);
void unit_set_deinit(struct unit_set *set);
/* As an admin would type it, for the log: "--domain a.example --older 3600s". Bounded, any bytes.
 */
void selector_text(const struct selector *selector, char *text, size_t size);
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

/* ---- listing.c, verb.c, summary.c: walks ---- */
void command_list(struct control_client *client);
void command_summary(struct control_client *client);
void command_retry(struct control_client *client);
void command_hold(struct control_client *client);
void command_release(struct control_client *client);
void command_delete(struct control_client *client);
void command_bounce(struct control_client *client);

#endif
