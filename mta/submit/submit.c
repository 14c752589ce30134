/* mta/submit/submit.c - submission as a whole: its parts, their start, reload and end. See
 * submit.h. */
#include "mta/submit/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/submit/submit_private.h"

/* ---- the life of the whole ---- */

int submit_new(const struct config *config, const struct submit_owner *owner,
               struct submit **submit_out, char *error, size_t error_size)
{
    struct submit *submit = mem_alloc(sizeof *submit);
    pthread_mutex_init(&submit->lock, NULL);
    submit->settings = settings_new(config);
    if (listener_bind_all(submit, config, owner, error, error_size) < 0) {
        submit_free(&submit);
        return -1;
    }
    *submit_out = submit;
    return 0;
}

static void replace_settings(struct submit *submit, struct submit_settings *settings)
{
    pthread_mutex_lock(&submit->lock);
    struct submit_settings *old = submit->settings;
    submit->settings = settings;
    pthread_mutex_unlock(&submit->lock);
    submit_settings_unref(&old);
}

/* Said once: what comes of it later looks like a fault of the configuration. */
static void warn_of_few_descriptors(const struct submit *submit)
{
    const struct config *config = submit->settings->config;
    const struct descriptor_shares *shares = &submit->settings->shares;
    size_t clients = 0;
    for (size_t i = 0; i < config->listener_count; i++)
        clients += config->listeners[i].max_connections;
    if (shares->clients < clients || shares->deliveries < config->delivery.max_connections)
        log_event(
            submit->log, LOG_LEVEL_WARNING, "start", LOG_I("clients", (int64_t)shares->clients),
            LOG_I("deliveries", (int64_t)shares->deliveries),
            LOG_T("text", "the limit of open files leaves room for so many connections, fewer "
                          "than max_connections allow: raise it (ulimit -n, LimitNOFILE)"));
}

int submit_load(struct submit *submit, struct log *log, char *error, size_t error_size)
{
    submit->log = log;
    if (submit->skipped[0] != '\0')
        log_event(log, LOG_LEVEL_WARNING, "start", LOG_T("listener", submit->skipped),
                  LOG_T("text", "not listening here: this machine has no such IPv6 address"));
    warn_of_few_descriptors(submit);
    struct submit_settings *settings = settings_load(submit->settings->config, error, error_size);
    if (settings == NULL)
        return -1;
    submit->auth = auth_new(log);
    if (auth_set_users_file(submit->auth, settings->config->users_file, error, error_size) < 0) {
        submit_settings_unref(&settings);
        return -1;
    }
    replace_settings(submit, settings);
    return 0;
}

int submit_check(const struct config *config, char *error, size_t error_size)
{
    struct submit_settings *settings = settings_load(config, error, error_size);
    struct auth_users *users = NULL;
    int rc = settings != NULL ? 0 : -1;
    if (rc == 0 && config->users_file != NULL)
        rc = auth_users_load(config->users_file, &users, error, error_size);
    auth_users_unref(&users);
    submit_settings_unref(&settings);
    return rc;
}

static bool same_endpoint(const struct config_endpoint *a, const struct config_endpoint *b)
{
    if (a->unix_path != NULL || b->unix_path != NULL)
        return a->unix_path != NULL && b->unix_path != NULL &&
               strcmp(a->unix_path, b->unix_path) == 0;
    return a->port == b->port && a->address.ipv6 == b->address.ipv6 &&
           memcmp(a->address.bytes, b->address.bytes, sizeof a->address.bytes) == 0;
}

static bool same_addresses(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count)
        return false;
    for (size_t i = 0; i < a->listener_count; i++) {
        if (a->listeners[i].address_count != b->listeners[i].address_count)
            return false;
        for (size_t k = 0; k < a->listeners[i].address_count; k++) {
            if (!same_endpoint(&a->listeners[i].addresses[k], &b->listeners[i].addresses[k]))
                return false;
        }
    }
    return true;
}

int submit_reload(struct submit *submit, const struct config *config, char *error,
                  size_t error_size)
{
    if (!same_addresses(submit->settings->config, config)) {
        snprintf(error, error_size,
                 "%s: listeners: their addresses can be changed only by a restart", config->path);
        return -1;
    }
    struct submit_settings *settings = settings_load(config, error, error_size);
    if (settings == NULL)
        return -1;
    if (auth_set_users_file(submit->auth, config->users_file, error, error_size) < 0) {
        submit_settings_unref(&settings);
        return -1;
    }
    replace_settings(submit, settings);
    return 0;
}

static void on_port(uv_async_t *async)
{
    struct submit_worker *worker = async->data;
    queue_port_run(worker->port);
}

static void notify_port(void *ctx)
{
    uv_async_send(ctx);
}

static void on_auth(uv_async_t *async)
{
    struct submit_worker *worker = async->data;
    auth_port_run(worker->auth_port);
}

static void start_worker(struct loop *loop, void *arg)
{
    struct submit_worker *worker = arg;
    uv_async_init(loop_uv(loop), &worker->port_async, on_port);
    worker->port_async.data = worker;
    worker->port = queue_port_new(worker->submit->queue, notify_port, &worker->port_async);
    uv_async_init(loop_uv(loop), &worker->auth_async, on_auth);
    worker->auth_async.data = worker;
    worker->auth_port = auth_port_new(worker->submit->auth, notify_port, &worker->auth_async);
}

int submit_start(struct submit *submit, struct queue *queue, uv_loop_t *main_loop,
                 struct loop **loops, size_t loop_count, char *error, size_t error_size)
{
    submit->queue = queue;
    submit->workers = mem_alloc(loop_count * sizeof *submit->workers);
    submit->worker_count = loop_count;
    atomic_store(&submit->workers_left, loop_count);
    for (size_t i = 0; i < loop_count; i++) {
        submit->workers[i].submit = submit;
        submit->workers[i].loop = loops[i];
        if (!loop_post(loops[i], start_worker, &submit->workers[i]))
            unreachable_bug(); /* the loops have just been started */
    }
    if (listener_start_all(submit, main_loop) < 0) {
        snprintf(error, error_size, "the listening sockets cannot be polled");
        return -1;
    }
    return 0;
}

void submit_check_stopped(struct submit_worker *worker)
{
    struct submit *submit = worker->submit;
    if (!worker->stopping || worker->closed || worker->sessions != NULL || worker->intakes != NULL)
        return;
    worker->closed = true;
    queue_port_free(&worker->port);
    uv_close((uv_handle_t *)&worker->port_async, NULL);
    auth_port_free(&worker->auth_port);
    uv_close((uv_handle_t *)&worker->auth_async, NULL);
    uv_close((uv_handle_t *)&worker->grace, NULL);
    if (atomic_fetch_sub(&submit->workers_left, 1) == 1)
        submit->on_stopped(submit->on_stopped_ctx);
}

static void on_grace_over(uv_timer_t *timer)
{
    struct submit_worker *worker = timer->data;
    session_cut_all(worker);
    submit_check_stopped(worker);
}

static void stop_worker(struct loop *loop, void *arg)
{
    struct submit_worker *worker = arg;
    worker->stopping = true;
    uv_timer_init(loop_uv(loop), &worker->grace);
    worker->grace.data = worker;
    uv_timer_start(&worker->grace, on_grace_over, worker->submit->grace_ms, 0);
    session_shut_all(worker);
    submit_check_stopped(worker);
}

void submit_stop(struct submit *submit, uint64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    submit->on_stopped = done;
    submit->on_stopped_ctx = ctx;
    submit->grace_ms = grace_ms;
    listener_close_all(submit);
    for (size_t i = 0; i < submit->worker_count; i++) {
        bool posted = loop_post(submit->workers[i].loop, stop_worker, &submit->workers[i]);
        (void)posted; /* the loops stop after us */
    }
}

static void cut_worker(struct loop *loop, void *arg)
{
    struct submit_worker *worker = arg;
    (void)loop;
    session_cut_all(worker);
    submit_check_stopped(worker);
}

void submit_stop_now(struct submit *submit)
{
    for (size_t i = 0; i < submit->worker_count; i++) {
        bool posted = loop_post(submit->workers[i].loop, cut_worker, &submit->workers[i]);
        (void)posted; /* false: it has stopped already */
    }
}

void submit_free(struct submit **submitp)
{
    struct submit *submit = *submitp;
    if (submit == NULL)
        return;
    listener_free_all(submit);
    free(submit->workers);
    auth_free(&submit->auth);
    submit_settings_unref(&submit->settings);
    pthread_mutex_destroy(&submit->lock);
    free(submit);
    *submitp = NULL;
}

void submit_count_answer(struct submit *submit, uint64_t ns)
{
    struct queue_histogram *answered = &submit->answered;
    double seconds = (double)ns / 1e9;
    size_t bucket = 0;
    while (bucket < QUEUE_BUCKETS && seconds > queue_time_bounds[bucket])
        bucket++;
    pthread_mutex_lock(&submit->lock);
    answered->counts[bucket]++;
    answered->count++;
    answered->sum += seconds;
    pthread_mutex_unlock(&submit->lock);
}

void submit_read_counts(struct submit *submit, struct submit_counts *out)
{
    *out = (struct submit_counts){
        .sessions = atomic_load(&submit->sessions),
        .accepted = atomic_load(&submit->accepted),
        .rejected = atomic_load(&submit->rejected),
        .bytes_waiting = atomic_load(&submit->budget_used),
    };
    pthread_mutex_lock(&submit->lock);
    out->answered = submit->answered;
    pthread_mutex_unlock(&submit->lock);
}
