/* mta/deliver/deliver_private.h - what the files of this folder share. */
#ifndef MTA_DELIVER_DELIVER_PRIVATE_H
#define MTA_DELIVER_DELIVER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "dns/dns.h"
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
    size_t failing; /* lists of units being settled in steps */
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
    atomic_uint_fast64_t delivered, deferred, bounced, expired;

    atomic_size_t workers_left; /* until all have stopped */
    uint64_t grace_ms;
    void (*on_stopped)(void *ctx);
    void *on_stopped_ctx;
};

struct settings *deliver_settings(struct deliver *deliver); /* a reference; any thread */
struct worker *deliver_least_busy(struct deliver *deliver);
uint32_t worker_random(struct worker *worker);
void worker_check_stopped(struct worker *worker); /* call when something of it ended */

/* ---- resolve.c: domain -> site ---- */
void resolve_start(struct deliver *deliver, struct domain *domain); /* scheduler hook */
void resolve_cancel_all(struct worker *worker);

/* ---- feeder.c: store -> scheduler, on the first loop ---- */
struct feeder *feeder_new(struct deliver *deliver, struct loop *loop, uint64_t boundary);
void feeder_start(struct feeder *feeder);
void feeder_expect(struct feeder *feeder,
                   int64_t due_unix_ms); /* any thread: be awake at that time */
void feeder_look_again(
    struct feeder *feeder); /* any thread: a domain with due work found no room in memory */
/* Any thread: a unit had to be forgotten although it waits in the store, which cannot be trusted to
 * tell of it (an I/O error): all is read anew in a few seconds. */
void feeder_recover(struct feeder *feeder);
void feeder_wake(struct feeder *feeder); /* any thread: something became due or has room */
void feeder_stop(struct feeder *feeder); /* on its loop */
void feeder_free(struct feeder **feederp);

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
/* One outcome for all waiting recipients of each unit, in steps of a few a loop turn. Takes the
 * list. */
void settle_list(struct worker *worker, struct unit_list *units, const struct mail_outcome *outcome,
                 const char *site, const char *host, const char *address);

/* ---- bounce.c ---- */
struct bounce; /* a DSN ready for queue_record */
struct bounce *bounce_new(const struct delivery *delivery, const struct config *config);
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
