/* mta/submit/submit.h - listeners and server sessions: bytes -> smtp -> queue.
 *
 * Life: submit_new binds (as root, for ports under 1024), submit_start begins to accept,
 * submit_stop ends. All functions from the main thread. */
#ifndef MTA_SUBMIT_SUBMIT_H
#define MTA_SUBMIT_SUBMIT_H

#include <sys/types.h>

#include "config/config.h"
#include "mta/base/log.h"
#include "mta/net/loops.h"
#include "queue/queue.h"

struct submit;

/* Who gets the sockets in the file system, when we start as root. */
struct submit_owner {
    uid_t uid;
    gid_t gid;
};
/* Binds every address. @return 0; -1: error names the address and the reason ("address already in
 * use ..."). An IPv6 address on a machine without IPv6 is left out with a warning, unless nothing
 * else is bound. */
MUST_USE int submit_new(const struct config *config, const struct submit_owner *owner,
                        struct submit **submit_out, char *error, size_t error_size);
/* Certificates of the listeners, as the user that runs the daemon. @return 0; -1 with a text */
MUST_USE int submit_load(struct submit *submit, struct log *log, char *error, size_t error_size);
/* Could submit_load do it? For mtad --check. */
MUST_USE int submit_check(const struct config *config, char *error, size_t error_size);
/* Accepts on main_loop, hands connections to the least busy of the loops. @return 0; -1 with a text
 */
MUST_USE int submit_start(struct submit *submit, struct queue *queue, uv_loop_t *main_loop,
                          struct loop **loops, size_t loop_count, char *error, size_t error_size);
/* Certificates and settings of listeners anew, for connections from now on; on failure nothing
 * changes. Addresses can change only with a restart: refused with that text. */
MUST_USE int submit_reload(struct submit *submit, const struct config *config, char *error,
                           size_t error_size);
/* No further connection; sessions get 421, those that wait for the commit their answer first. After
 * grace_ms the rest is cut. done(ctx) comes on one of the loops when the last session has ended. */
void submit_stop(struct submit *submit, uint64_t grace_ms, void (*done)(void *ctx), void *ctx);
/* Cut what is left (second SIGTERM); done still comes. */
void submit_stop_now(struct submit *submit);
void submit_free(struct submit **submitp); /* after loops_stop; also before submit_start */

struct submit_counts {
    size_t sessions;
    uint64_t accepted, rejected;     /* messages stored, replies of 4xx/5xx, since start */
    size_t bytes_waiting;            /* content not yet stored */
    struct queue_histogram answered; /* seconds from a message's end to its 250 */
};
void submit_read_counts(struct submit *submit, struct submit_counts *counts_out); /* any thread */

#endif
