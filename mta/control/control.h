/* mta/control/control.h - the control socket: mtactl's side of the daemon.
 *
 * A stream of lines. The client sends one JSON object: {"command":"list", ...}; the daemon answers
 * with one JSON object a line and ends with {"done":true,"exit":0} or {"error":"text","exit":1}.
 * Runs on the main loop, never on those that carry mail; what goes over the queue, in steps on a
 * thread of its own. Access is by the socket's mode (0660). */
#ifndef MTA_CONTROL_CONTROL_H
#define MTA_CONTROL_CONTROL_H

#include <sys/types.h>
#include <uv.h>

#include "mta/base/log.h"
#include "queue/queue.h"

/* What the rest of the daemon knows at the moment; filled in by the hook. */
struct control_status {
    uint64_t accepted, rejected;          /* messages, replies; since start */
    uint64_t delivered, deferred, failed; /* recipients; since start */
    size_t sessions, connections, sites_at_work, active, units_in_memory;
    size_t bytes_waiting;
    uint64_t uptime_s;
};

struct control_hooks {
    void (*read_status)(struct control_status *status_out, void *ctx);
    bool (*is_active)(uint64_t id, uint16_t unit, void *ctx); /* any thread */
    /* @return 0; -1: nothing changed and text says why */
    int (*reload)(char *text, size_t size, void *ctx);
    void *ctx;
};

struct control;

/* Bind the socket and listen: a stale socket file of a dead daemon is replaced, a live one is an
 * error. Called before root is dropped; uid/gid own the socket file ((uid_t)-1: unchanged).
 * @return 0; -1 with a text */
MUST_USE int control_new(const char *path, uid_t uid, gid_t gid, struct control **control_out,
                         char *error, size_t error_size);
/* Begin to serve. @return 0; -1 with a text */
MUST_USE int control_start(struct control *control, uv_loop_t *main_loop, struct queue *queue,
                           struct log *log, const struct control_hooks *hooks, char *error,
                           size_t error_size);
/* Removes the socket file, ends all clients and closes the handles (run the main loop once more);
 * before queue_close. Waits, 10 s at most, until the writer has done what it was asked for. */
void control_stop(struct control *control);
void control_free(struct control **controlp); /* the socket file too, if it was never started */

#endif
