/* mta/deliver/deliver.h - delivery as a whole: queue -> dns -> tls -> remote server -> queue.
 *
 * Runs on the loops it is given. Life: deliver_new, queue_open (with deliver_on_* as its hooks),
 * deliver_start, deliver_reload any time, deliver_stop, then loops_stop and queue_close,
 * deliver_free. All functions from the main thread unless they say otherwise. */
#ifndef MTA_DELIVER_DELIVER_H
#define MTA_DELIVER_DELIVER_H

#include "config/config.h"
#include "mta/base/log.h"
#include "mta/net/loops.h"
#include "queue/queue.h"

struct deliver;

/* Opens keys, trust store and DNS settings of the configuration, as the user that runs the daemon.
 * @return 0; -1: error says which file or setting and why */
MUST_USE int deliver_new(const struct config *config, struct log *log, struct deliver **deliver_out,
                         char *error, size_t error_size);

/* Begins delivery on the loops; what an earlier run left is drawn in. @return 0; -1 with a text */
MUST_USE int deliver_start(struct deliver *deliver, struct queue *queue, struct loop **loops,
                           size_t loop_count, char *error, size_t error_size);

/* Keys, certificates, routes, limits anew; on failure nothing changes. */
MUST_USE int deliver_reload(struct deliver *deliver, const struct config *config, char *error,
                            size_t error_size);

/* No new work. Connections that wait for the reply to a final dot go on for grace_ms, all else ends
 * at once. When every connection has ended and its outcome is in the store, done(ctx) is called on
 * one of the loops. */
void deliver_stop(struct deliver *deliver, uint64_t grace_ms, void (*done)(void *ctx), void *ctx);
/* End now (second SIGTERM); done still comes. */
void deliver_stop_now(struct deliver *deliver);
void deliver_free(struct deliver **deliverp); /* after loops_stop */

/* Hooks of struct queue_options; ctx is the deliver. Writer thread. */
void deliver_on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx);
void deliver_on_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx);
void deliver_on_changed(uint64_t id, void *ctx); /* on_removed: an admin's step */

struct deliver_counts {
    size_t units;  /* in memory */
    size_t active; /* with a connection */
    size_t sites_at_work;
    size_t connections;
    uint64_t delivered, deferred, bounced, expired; /* recipients, since start */
};
void deliver_read_counts(struct deliver *deliver,
                         struct deliver_counts *counts_out);                 /* any thread */
bool deliver_is_active(struct deliver *deliver, uint64_t id, uint16_t unit); /* any thread */

#endif
