/* mta/control/metrics.h - HTTP for those that watch the daemon: /metrics (Prometheus text format)
 * and /healthz. Read-only.
 *
 * Two threads of its own, never the loops that carry mail: one serves, one now and then looks
 * through the whole queue for what no counter tells (messages by age). Whatever a client does, it
 * holds at most one of 32 places for 10 s. Life: metrics_new, metrics_start, metrics_reload_*,
 * metrics_stop, metrics_free, all on the main thread. */
#ifndef MTA_CONTROL_METRICS_H
#define MTA_CONTROL_METRICS_H

#include <uv.h>

#include "config/config.h"
#include "mta/base/log.h"
#include "mta/net/loops.h"
#include "queue/queue.h"

/* What the rest of the daemon counts. Totals are since start. */
struct metrics_parts {
    uint64_t accepted, rejected;                    /* messages, replies of 4xx/5xx */
    uint64_t delivered, deferred, bounced, expired; /* recipients; deferred: each time */
    uint64_t sessions, bytes_waiting;               /* with clients; content not yet stored */
    struct queue_histogram answered;                /* seconds from a message's end to its 250 */
    uint64_t connections, sites_at_work;            /* with servers */
    uint64_t units, active;                         /* in memory; of them with a connection */
    uint64_t log_dropped;                           /* lines */
    bool stopping;                                  /* no new mail is taken */
    bool reload_failed;                             /* the last one */
    int64_t reloaded_unix_ms;                       /* the last one that worked, or the start */
};

struct metrics_hooks {
    void (*read_parts)(struct metrics_parts *parts_out, void *ctx); /* on the serving thread */
    void *ctx;
};

/* The daemon around it. Everything is borrowed until metrics_stop. */
struct metrics_options {
    struct queue *queue;
    uv_loop_t *main_loop;
    struct loop **loops;
    size_t loop_count;
    struct metrics_hooks hooks;
    const char *state_dir;    /* whose disk is watched; copied */
    uint64_t queue_max_bytes; /* told as it is */
    uint64_t stuck_ms;        /* so late is stuck; 0: 10 s */
};

struct metrics;

/* Binds the address that the configuration gives, if it gives one: before root is dropped.
 * @return 0; -1: error names the address and the reason */
MUST_USE int metrics_new(const struct config *config, struct metrics **metrics_out, char *error,
                         size_t error_size);

/* Begins to serve. Without an address no thread is started. @return 0; -1 with a text */
MUST_USE int metrics_start(struct metrics *metrics, const struct metrics_options *options,
                           char *error, size_t error_size);

/* A reload in two steps, so that it happens whole or not at all. begin: binds a changed address and
 * keeps it aside. @return 0; -1: error says why the address cannot be had. end: `good` moves to it,
 * else it is given up. */
MUST_USE int metrics_reload_begin(struct metrics *metrics, const struct config *config, char *error,
                                  size_t error_size);
void metrics_reload_end(struct metrics *metrics, bool good);

const char *metrics_address(const struct metrics *metrics); /* as written; "": off */

/* Ends both threads and closes the handle on the main loop (run it once more). Before loops_stop
 * and queue_close. */
void metrics_stop(struct metrics *metrics);
void metrics_free(struct metrics **metricsp); /* after loops_stop; also before metrics_start */

#endif
