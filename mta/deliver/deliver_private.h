/* mta/deliver/deliver_private.h - what the files of this folder share. */
#ifndef MTA_DELIVER_DELIVER_PRIVATE_H
#define MTA_DELIVER_DELIVER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "dns/dns.h"
#include "mta/deliver/clock.h"
#include "mta/deliver/deliver.h"
#include "mta/deliver/memory.h"
#include "mta/deliver/outcome.h"
#include "mta/deliver/scheduler.h"
#include "tls/tls.h"

struct local_address {
    bool ipv6;
    uint8_t bytes[16];
};

/* What one reading of the configuration gave: immutable, counted. */
struct settings {
    atomic_uint references;
    const struct config *config;
    struct tls_credentials *tls;
    struct tls_key **keys;       /* config->dkim_count of them */
    struct local_address *local; /* of this machine's interfaces */
    size_t local_count;
};
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings **settingsp);

struct connection;
struct failing;

/* One a loop. */
struct worker {
    struct deliver *deliver;
    struct loop *loop;
    struct dns *dns;
    struct queue_port *port;
    uv_async_t port_async;
    struct connection *connections; /* doubly linked */
    size_t recording;               /* outcomes handed to the writer, not yet answered */
    size_t signing;                 /* in the thread pool */
    struct resolving *resolving;
    struct failing *failing, *failing_last; /* lists of units being settled; first: its turn */
    size_t failing_in_flight;               /* of their outcomes, how many the writer has */
    bool failing_posted;
    bool stopping, closed;
    uv_timer_t grace; /* once stopping */
    uint64_t random;  /* xorshift state */
};

struct deliver {
    struct log *log;
    struct queue *queue;
    struct scheduler *scheduler;
    struct dns_shared *dns;
    struct worker *workers;
    size_t worker_count;
    atomic_uint next_worker;

    pthread_mutex_t lock; /* settings, memory and signatures */
    struct settings *settings;
    struct memory *memory;
    struct signature_cache *signatures;

    struct feeder *feeder; /* lives on the first loop; set before the writer's hooks can want it */
    struct clock clock;
    atomic_uint_fast64_t delivered, deferred, bounced, expired;
    struct log_pace unrecorded; /* outcomes that could not be recorded yet */
    struct log_pace socketless; /* connections for which no socket could be made yet */

    atomic_size_t workers_left; /* until all have stopped */
    uint64_t grace_ms;
    void (*on_stopped)(void *ctx);
    void *on_stopped_ctx;
};

struct settings *deliver_settings(struct deliver *deliver); /* a reference; any thread */
struct worker *deliver_least_busy(struct deliver *deliver);
uint32_t worker_random(struct worker *worker);
void worker_check_stopped(struct worker *worker); /* call when something of it ended */
/* What is due later than this cannot be meant. Any thread. */
int64_t deliver_horizon(struct deliver *deliver, int64_t now_unix_ms);

/* ---- resolve.c: domain -> site ---- */
void resolve_start(struct deliver *deliver, struct domain *domain); /* scheduler hook */
void resolve_cancel_all(struct worker *worker);

/* ---- feeder.c: store -> scheduler, on the first loop. All but the first three: any thread ---- */
struct feeder *feeder_new(struct deliver *deliver, struct loop *loop, uint64_t boundary);
void feeder_stop(struct feeder *feeder);
void feeder_free(struct feeder **feederp);
void feeder_start(struct feeder *feeder);
void feeder_wake(struct feeder *feeder); /* something became due or has room */
/* An entry of the store at this time; unplaced: it is due and its domain found no room. */
void feeder_expect(struct feeder *feeder, int64_t due_unix_ms, bool unplaced);
/* A fresh unit found no room: it enters the store's order of work, or is offered again later. */
void feeder_park(struct feeder *feeder, uint64_t id, uint16_t unit);
/* A unit had to be forgotten although it waits in the store, which cannot be trusted to tell of it
 * (an I/O error): all is read anew in a few seconds. */
void feeder_recover(struct feeder *feeder);
/* The schedule was set: what is due when is read anew. */
void feeder_look_again(struct feeder *feeder);
/* Has the clock been set? Then it is told, and the same is done. */
void feeder_notice_clock(struct feeder *feeder);

/* ---- connection.c ---- */
void connection_open(struct worker *worker, struct site *site);
struct loop *connection_loop(const struct idler *idler); /* any thread */
void connection_woken(struct idler *idler); /* the scheduler's wake-up, on the connection's loop */
void connection_stop_all(struct worker *worker, bool now);

/* ---- settle.c: outcomes -> store, log, bounce ---- */
struct delivery;
typedef void (*settle_fn)(void *ctx);
/* Log and record the outcomes of a delivery and, if something failed for good, bounce; when that is
 * in the store the unit is finished and, if given, on_done called on the worker's loop. Takes the
 * delivery. */
void settle_delivery(struct delivery *delivery, settle_fn on_done, void *ctx);

/* ---- failing.c: many units at once ---- */
struct settle_place {
    const char *site, *host, *address; /* "" where there is none */
};
/* One outcome for all waiting recipients of each unit, a few at a time. Takes the list. since_ms:
 * monotonic, when the attempt began that failed. */
void settle_list(struct worker *worker, struct unit_list *units, const struct mail_outcome *outcome,
                 uint64_t since_ms, const struct settle_place *place);
/* On the first loop: there are units that were changed in the store. */
void settle_changed(struct deliver *deliver);

/* ---- bounce.c ---- */
struct bounce; /* a DSN ready for queue_record */
/* Of what has failed for good or, with a time, of what waits after this attempt and will be tried
 * until then. NULL (and logged): none can be made. */
struct bounce *bounce_new(const struct delivery *delivery, const struct config *config,
                          int64_t retry_until_unix_ms);
const struct queue_bounce *bounce_queue(const struct bounce *bounce);
void bounce_free(struct bounce **bouncep);

/* ---- signer.c ---- */
struct signature_cache *signature_cache_new(void);
void signature_cache_free(struct signature_cache **cachep);
/* Makes the DKIM-Signature fields in the thread pool. prefix: NUL-terminated, borrowed; "" when no
 * key fits; NULL: failed. The callback comes on the worker's loop, also at once if no key fits or
 * it is known. */
typedef void (*signed_fn)(const char *prefix, void *ctx);
void signer_start(struct worker *worker, struct settings *settings, uint64_t id,
                  const struct queue_envelope *envelope, signed_fn on_signed, void *ctx);

#endif
