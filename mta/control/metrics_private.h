/* mta/control/metrics_private.h - shared by the files of the HTTP side; nobody else. */
#ifndef MTA_CONTROL_METRICS_PRIVATE_H
#define MTA_CONTROL_METRICS_PRIVATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "mta/base/buf.h"
#include "mta/control/metrics.h"

#define METRICS_CLIENTS_MAX 32
#define METRICS_CLIENT_MS   10000 /* for request and answer together */
#define METRICS_BEAT_MS     1000  /* between two questions to a loop */
#define METRICS_STUCK_MS    10000
#define METRICS_PAGE_MAX    ((size_t)1 << 20)
#define METRICS_REASONS_MAX 8
#define METRICS_MAIL_BYTES  65536 /* the message for which there must be room */

/* ---- metrics_scan.c: what only a look at every message tells ---- */

enum scan_state { SCAN_QUEUED, SCAN_DEFERRED, SCAN_HELD, SCAN_STATES };
#define SCAN_AGES 9
extern const char *const scan_state_names[SCAN_STATES];
extern const uint32_t scan_ages_s[SCAN_AGES]; /* rising, the first is 0 */

struct scan_result {
    int64_t made_unix_ms; /* 0: none yet; when the look began */
    uint64_t took_ms;
    uint64_t messages[SCAN_STATES][SCAN_AGES]; /* at least so old */
    int64_t oldest_unix_ms[SCAN_STATES];       /* accepted then; 0: none */
};

struct scan;

/* Starts the thread. @return NULL: it cannot be had */
struct scan *scan_new(struct queue *queue);
/* Somebody asks for the result: worth another look once this one is some seconds old. */
void scan_want(struct scan *scan);
void scan_read(struct scan *scan, struct scan_result *result_out);
void scan_free(struct scan **scanp); /* ends the thread */

/* ---- metrics_health.c: are all that must move still moving? Serving thread only ---- */

/* A question to a loop, and when it answered. */
struct beat {
    atomic_uint_fast64_t answered_ms; /* by the loop */
    uint64_t asked_ms;
    uint64_t lag_ms; /* of the last answer */
};

struct health {
    const struct metrics_options *options;
    uv_async_t *main_async; /* its data: the main loop's beat */
    struct beat main_beat;
    struct beat *loop_beats;
    uint64_t last_ms; /* the last question */
};

void health_init(struct health *health, const struct metrics_options *options,
                 uv_async_t *main_async);
void health_deinit(struct health *health);
void health_answer(struct beat *beat); /* the loop's side */
void health_ask(struct health *health, uint64_t now_ms);
/* From question to answer; while there is none, since the question. */
uint64_t health_lag_ms(const struct beat *beat, uint64_t now_ms);
/* Why mail cannot be accepted or delivered. @return how many reasons: 0 is well */
size_t health_reasons(const struct health *health, const struct queue_metrics *queue,
                      const struct metrics_parts *parts, uint64_t now_ms,
                      const char *reasons_out[METRICS_REASONS_MAX]);

/* ---- metrics_page.c: all values as text ---- */

struct page_source {
    const struct metrics_options *options;
    const struct health *health;
    struct scan *scan;
    int64_t started_unix_ms;
};
void page_write(const struct page_source *source, struct buf *out);

/* ---- metrics_server.c: connections and requests. Serving thread only ---- */

struct server;

/* What is asked for, in the server's thread; out is empty. @return the HTTP code */
struct server_pages {
    void (*metrics)(struct buf *out, void *ctx);
    unsigned (*health)(struct buf *out, void *ctx);
    void *ctx;
};

/* A client has client_ms for everything. @return NULL: no memory, no descriptors */
struct server *server_new(const struct server_pages *pages, uint64_t client_ms);
/* Serve this listening socket (taken) from now on; -1: none. The old one is closed. */
void server_listen(struct server *server, int fd);
bool server_is_listening(const struct server *server);
/* Wait for clients, for the other descriptor or until `until_ms`, and do what there is to do. */
void server_turn(struct server *server, int wake_fd, uint64_t until_ms);
void server_free(struct server **serverp);

#endif
