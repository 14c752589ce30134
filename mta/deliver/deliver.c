/* mta/deliver/deliver.c - delivery as a whole: its parts, their start, reload and end. See
 * deliver.h. */
#include "mta/deliver/deliver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/deliver_private.h"
#include "mta/deliver/retry.h"
#include "mta/net/descriptors.h"

#define CONNECTIONS_ANY 1000000 /* more than delivery.max_connections may be */

/* ---- settings ---- */

static void read_local_addresses(struct settings *settings)
{
    uv_interface_address_t *found = NULL;
    int count = 0;
    if (uv_interface_addresses(&found, &count) != 0)
        return;
    settings->local = mem_alloc((size_t)count * sizeof *settings->local + 1);
    for (int i = 0; i < count; i++) {
        struct local_address *local = &settings->local[settings->local_count++];
        local->ipv6 = found[i].address.address4.sin_family == AF_INET6;
        if (local->ipv6)
            memcpy(local->bytes, &found[i].address.address6.sin6_addr, 16);
        else
            memcpy(local->bytes, &found[i].address.address4.sin_addr, 4);
    }
    uv_free_interface_addresses(found, count);
}

static int load_keys(struct settings *settings, char *error, size_t error_size)
{
    const struct config *config = settings->config;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
    settings->keys = mem_alloc((config->dkim_count + 1) * sizeof *settings->keys);
    for (size_t i = 0; i < config->dkim_count; i++) {
        if (tls_key_load(config->dkim[i].key_path, &settings->keys[i], error, error_size) < 0)
            return -1;
        if (!tls_key_is_rsa(settings->keys[i])) {
            snprintf(error, error_size,
                     "%s: this version signs with RSA keys only; make one of 2048 bits",
                     config->dkim[i].key_path);
            return -1;
        }
    }
    return 0;
}

static struct settings *load_settings(const struct config *config, char *error, size_t error_size)
{
    struct settings *settings = mem_alloc(sizeof *settings);
    atomic_init(&settings->references, 1);
    settings->config = config_ref(config);
    read_local_addresses(settings);
    if (load_keys(settings, error, error_size) < 0 ||
        tls_client_credentials_load(config->tls_ca, &settings->tls, error, error_size) < 0)
        settings_unref(&settings);
    return settings;
}

struct settings *settings_ref(struct settings *settings)
{
    atomic_fetch_add(&settings->references, 1);
    return settings;
}

void settings_unref(struct settings **settingsp)
{
    struct settings *settings = *settingsp;
    *settingsp = NULL;
    if (settings == NULL || atomic_fetch_sub(&settings->references, 1) != 1)
        return;
    for (size_t i = 0; settings->keys != NULL && i < settings->config->dkim_count; i++)
        tls_key_unref(&settings->keys[i]);
    free(settings->keys);
    free(settings->local);
    tls_credentials_unref(&settings->tls);
    config_unref(&settings->config);
    free(settings);
}

struct settings *deliver_settings(struct deliver *deliver)
{
    pthread_mutex_lock(&deliver->lock);
    struct settings *settings = settings_ref(deliver->settings);
    pthread_mutex_unlock(&deliver->lock);
    return settings;
}

/* ---- scheduler hooks: under its lock, so they only post ---- */

struct worker *deliver_least_busy(struct deliver *deliver)
{
    size_t first = atomic_fetch_add(&deliver->next_worker, 1) % deliver->worker_count;
    struct worker *best = &deliver->workers[first];
    for (size_t i = 1; i < deliver->worker_count; i++) {
        struct worker *other = &deliver->workers[(first + i) % deliver->worker_count];
        if (loop_load(other->loop) < loop_load(best->loop))
            best = other;
    }
    return best;
}

struct opening {
    struct worker *worker;
    struct site *site;
};

static void open_on_loop(struct loop *loop, void *arg)
{
    struct opening *opening = arg;
    (void)loop;
    connection_open(opening->worker, opening->site);
    free(opening);
}

static void hook_connect(struct site *site, void *ctx)
{
    struct opening *opening = mem_alloc(sizeof *opening);
    opening->worker = deliver_least_busy(ctx);
    opening->site = site;
    if (!loop_post(opening->worker->loop, open_on_loop, opening))
        free(opening);
}

static void hook_resolve(struct domain *domain, void *ctx)
{
    resolve_start(ctx, domain);
}

static void wake_on_loop(struct loop *loop, void *arg)
{
    (void)loop;
    connection_woken(arg);
}

static void hook_wake(struct idler *idler, void *ctx)
{
    (void)ctx;
    bool posted = loop_post(connection_loop(idler), wake_on_loop, idler);
    (void)posted; /* false only after every connection has ended */
}

static void hook_feed(void *ctx)
{
    struct deliver *deliver = ctx;
    if (deliver->feeder != NULL)
        feeder_wake(deliver->feeder);
}

/* ---- queue hooks: writer thread ---- */

void deliver_on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    struct deliver *deliver = ctx;
    for (size_t i = 0; i < count; i++) {
        enum offer offer =
            scheduler_offer(deliver->scheduler, units[i].id, units[i].unit, units[i].domain);
        if (offer == OFFER_FULL)
            feeder_park(deliver->feeder, units[i].id, units[i].unit);
    }
}

void deliver_on_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx)
{
    struct deliver *deliver = ctx;
    /* What is due later is found in the store in its time, if nothing of the domain is in memory.
     */
    bool placed = scheduler_note_due(deliver->scheduler, domain, lane, due_unix_ms,
                                     due_unix_ms <= time_wall_ms());
    feeder_expect(deliver->feeder, due_unix_ms, !placed);
}

void deliver_on_changed(uint64_t id, void *ctx)
{
    struct deliver *deliver = ctx;
    scheduler_changed(deliver->scheduler, id);
}

int64_t deliver_horizon(struct deliver *deliver, int64_t now_unix_ms)
{
    struct settings *settings = deliver_settings(deliver);
    struct retry_schedule schedule = {
        .intervals_ms = settings->config->retry.intervals_ms,
        .interval_count = settings->config->retry.interval_count,
    };
    int64_t horizon = retry_horizon(&schedule, now_unix_ms);
    settings_unref(&settings);
    return horizon;
}

/* ---- workers ---- */

uint32_t worker_random(struct worker *worker)
{
    uint64_t x = worker->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    worker->random = x;
    return (uint32_t)(x >> 32);
}

static void on_port(uv_async_t *async)
{
    struct worker *worker = async->data;
    queue_port_run(worker->port);
}

static void notify_port(void *ctx)
{
    uv_async_send(ctx);
}

struct starting {
    struct worker *worker;
    uv_sem_t done;
    int result;
};

static void start_worker(struct loop *loop, void *arg)
{
    struct starting *starting = arg;
    struct worker *worker = starting->worker;
    uv_async_init(loop_uv(loop), &worker->port_async, on_port);
    worker->port_async.data = worker;
    worker->port = queue_port_new(worker->deliver->queue, notify_port, &worker->port_async);
    starting->result = dns_open(loop_uv(loop), worker->deliver->dns, &worker->dns);
    uv_sem_post(&starting->done);
}

static int start_workers(struct deliver *deliver, struct loop **loops, size_t count)
{
    deliver->workers = mem_alloc(count * sizeof *deliver->workers);
    deliver->worker_count = count;
    atomic_store(&deliver->workers_left, count);
    for (size_t i = 0; i < count; i++) {
        struct starting starting = {.worker = &deliver->workers[i], .result = -1};
        deliver->workers[i].deliver = deliver;
        deliver->workers[i].loop = loops[i];
        tls_random(&deliver->workers[i].random, sizeof deliver->workers[i].random);
        deliver->workers[i].random |= 1;
        uv_sem_init(&starting.done, 0);
        if (loop_post(loops[i], start_worker, &starting))
            uv_sem_wait(&starting.done);
        uv_sem_destroy(&starting.done);
        if (starting.result < 0)
            return -1;
    }
    return 0;
}

void worker_check_stopped(struct worker *worker)
{
    struct deliver *deliver = worker->deliver;
    if (!worker->stopping || worker->closed || worker->connections != NULL ||
        worker->recording > 0 || worker->signing > 0 || worker->failing != NULL ||
        worker->resolving != NULL)
        return;
    worker->closed = true;
    dns_close(&worker->dns);
    queue_port_free(&worker->port);
    uv_close((uv_handle_t *)&worker->port_async, NULL);
    uv_close((uv_handle_t *)&worker->grace, NULL);
    if (atomic_fetch_sub(&deliver->workers_left, 1) == 1)
        deliver->on_stopped(deliver->on_stopped_ctx);
}

static void on_grace_over(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    connection_stop_all(worker, true);
    worker_check_stopped(worker);
}

static void stop_worker(struct loop *loop, void *arg)
{
    struct worker *worker = arg;
    uv_timer_init(loop_uv(loop), &worker->grace);
    worker->grace.data = worker;
    uv_timer_start(&worker->grace, on_grace_over, worker->deliver->grace_ms, 0);
    worker->stopping = true;
    if (worker == &worker->deliver->workers[0])
        feeder_stop(worker->deliver->feeder);
    resolve_cancel_all(worker);
    connection_stop_all(worker, false);
    worker_check_stopped(worker);
}

static void stop_worker_now(struct loop *loop, void *arg)
{
    struct worker *worker = arg;
    (void)loop;
    if (worker->closed)
        return;
    connection_stop_all(worker, true);
    worker_check_stopped(worker);
}

static void post_to_all(struct deliver *deliver, loop_fn fn)
{
    for (size_t i = 0; i < deliver->worker_count; i++) {
        bool posted = loop_post(deliver->workers[i].loop, fn, &deliver->workers[i]);
        (void)posted; /* false: the loop has stopped, and the worker before it */
    }
}

/* ---- the whole ---- */

static void read_dns_options(const struct config *config, struct dns_server *servers,
                             struct dns_options *options)
{
    *options = (struct dns_options){.servers = servers, .server_count = config->dns_server_count};
    for (size_t i = 0; i < config->dns_server_count; i++) {
        const struct config_endpoint *from = &config->dns_servers[i];
        memset(&servers[i], 0, sizeof servers[i]);
        if (from->address.ipv6) {
            struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&servers[i].address;
            in6->sin6_family = AF_INET6;
            in6->sin6_port = htons(from->port);
            memcpy(&in6->sin6_addr, from->address.bytes, 16);
        } else {
            struct sockaddr_in *in = (struct sockaddr_in *)&servers[i].address;
            in->sin_family = AF_INET;
            in->sin_port = htons(from->port);
            memcpy(&in->sin_addr, from->address.bytes, 4);
        }
    }
}

static int open_dns(struct deliver *deliver, const struct config *config)
{
    struct dns_options options;
    struct dns_server *servers = mem_alloc((config->dns_server_count + 1) * sizeof *servers);
    read_dns_options(config, servers, &options);
    int rc = deliver->dns == NULL ? dns_shared_new(&options, &deliver->dns)
                                  : dns_shared_set_servers(deliver->dns, &options);
    free(servers);
    return rc;
}

int deliver_new(const struct config *config, struct log *log, struct deliver **deliver_out,
                char *error, size_t error_size)
{
    struct settings *settings = load_settings(config, error, error_size);
    if (settings == NULL)
        return -1;
    struct deliver *deliver = mem_alloc(sizeof *deliver);
    pthread_mutex_init(&deliver->lock, NULL);
    clock_init(&deliver->clock, time_wall_ms(), time_monotonic_ms());
    deliver->log = log;
    deliver->settings = settings;
    deliver->memory = memory_new();
    deliver->signatures = signature_cache_new();
    struct scheduler_hooks hooks = {
        .resolve = hook_resolve,
        .connect = hook_connect,
        .wake = hook_wake,
        .feed = hook_feed,
        .ctx = deliver,
        .connections_most = (uint32_t)descriptors_share_now(CONNECTIONS_ANY).deliveries,
    };
    deliver->scheduler = scheduler_new(&hooks, config);
    if (open_dns(deliver, config) < 0) {
        snprintf(error, error_size, "the DNS client could not be set up");
        deliver_free(&deliver);
        return -1;
    }
    *deliver_out = deliver;
    return 0;
}

int deliver_start(struct deliver *deliver, struct queue *queue, struct loop **loops,
                  size_t loop_count, char *error, size_t error_size)
{
    deliver->queue = queue;
    if (start_workers(deliver, loops, loop_count) < 0) {
        snprintf(error, error_size, "the DNS client could not be started");
        return -1;
    }
    /* Ids from here on belong to this run: the accepting commit itself offers them. */
    struct queue_put *put = NULL;
    uint64_t boundary = 0;
    if (queue_put_begin(queue, deliver->workers[0].port, &put, &boundary) < 0) {
        snprintf(error, error_size, "the queue gives no identifiers");
        return -1;
    }
    queue_put_abort(put);
    deliver->feeder = feeder_new(deliver, loops[0], boundary);
    feeder_start(deliver->feeder);
    return 0;
}

int deliver_reload(struct deliver *deliver, const struct config *config, char *error,
                   size_t error_size)
{
    struct settings *settings = load_settings(config, error, error_size);
    if (settings == NULL)
        return -1;
    if (open_dns(deliver, config) < 0) {
        snprintf(error, error_size, "the DNS client could not be set up");
        settings_unref(&settings);
        return -1;
    }
    pthread_mutex_lock(&deliver->lock);
    struct settings *old = deliver->settings;
    deliver->settings = settings;
    pthread_mutex_unlock(&deliver->lock);
    settings_unref(&old);
    scheduler_reload(deliver->scheduler, config);
    if (deliver->feeder != NULL)
        feeder_look_again(deliver->feeder); /* the intervals may be shorter now */
    return 0;
}

void deliver_stop(struct deliver *deliver, uint64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    deliver->on_stopped = done;
    deliver->on_stopped_ctx = ctx;
    deliver->grace_ms = grace_ms;
    scheduler_stop(deliver->scheduler);
    post_to_all(deliver, stop_worker);
}

void deliver_stop_now(struct deliver *deliver)
{
    post_to_all(deliver, stop_worker_now);
}

void deliver_free(struct deliver **deliverp)
{
    struct deliver *deliver = *deliverp;
    if (deliver == NULL)
        return;
    feeder_free(&deliver->feeder);
    scheduler_free(&deliver->scheduler);
    dns_shared_free(&deliver->dns);
    memory_free(&deliver->memory);
    signature_cache_free(&deliver->signatures);
    settings_unref(&deliver->settings);
    free(deliver->workers);
    clock_deinit(&deliver->clock);
    pthread_mutex_destroy(&deliver->lock);
    free(deliver);
    *deliverp = NULL;
}

void deliver_read_counts(struct deliver *deliver, struct deliver_counts *out)
{
    struct scheduler_counts counts;
    scheduler_read_counts(deliver->scheduler, &counts);
    *out = (struct deliver_counts){
        .units = counts.units,
        .active = counts.active,
        .sites_at_work = counts.sites_at_work,
        .connections = counts.connections,
        .delivered = atomic_load(&deliver->delivered),
        .deferred = atomic_load(&deliver->deferred),
        .bounced = atomic_load(&deliver->bounced),
        .expired = atomic_load(&deliver->expired),
    };
}

bool deliver_is_active(struct deliver *deliver, uint64_t id, uint16_t unit)
{
    return scheduler_is_active(deliver->scheduler, id, unit);
}
