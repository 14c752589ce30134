/* mta/control/metrics.c - the HTTP side's life: its address, its two threads, reload and end. See
 * metrics.h. */
#include "mta/control/metrics.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

#define BACKLOG          512
#define PAGE_MS          250 /* a page is told again for so long: whoever asks, its making costs little */
#define IDLE_MS          3600000
#define ADDRESS_TEXT_MAX 64

/* Where to listen. */
struct place_to_be {
    int fd; /* -1: nowhere, or handed over */
    bool on;
    struct config_network address;
    uint16_t port;
    char text[ADDRESS_TEXT_MAX];
};

struct metrics {
    struct metrics_options options;
    char *state_dir;
    bool started, running; /* start was called; the threads are there */
    bool reloading, changes;
    struct place_to_be now, next;
    uv_async_t main_async;

    pthread_t thread;
    int wake_fd;
    pthread_mutex_t lock;
    /* Under the lock: */
    bool stopping, moving;
    int moving_fd; /* if moving: listen here from now on; -1: nowhere */

    /* The serving thread's own: */
    struct server *server;
    struct health health;
    struct page_source source;
    struct buf page;
    uint64_t page_ms; /* when it was made; 0: never */
};

/* ---- the address ---- */

static socklen_t fill_address(const struct place_to_be *place, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (place->address.ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(place->port);
        memcpy(&in6->sin6_addr, place->address.bytes, 16);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(place->port);
    memcpy(&in->sin_addr, place->address.bytes, 4);
    return sizeof *in;
}

/* @return the socket, or -errno */
static int open_socket(const struct place_to_be *place)
{
    struct sockaddr_storage address;
    socklen_t len = fill_address(place, &address);
    int one = 1;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        (!place->address.ipv6 ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0) &&
        bind(fd, (const struct sockaddr *)&address, len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int failure = errno;
    close(fd);
    return -failure;
}

static const char *hint(int failure, const struct place_to_be *now, const struct place_to_be *next)
{
    switch (failure) {
    case EADDRINUSE:
        return now->on && now->port == next->port
                   ? " (the present address is in its way: a restart moves it)"
                   : " (another program holds this port)";
    case EACCES:
        return " (ports under 1024 need root)";
    case EADDRNOTAVAIL:
        return " (this machine does not have that address)";
    case EAFNOSUPPORT:
        return " (this machine has no IPv6)";
    default:
        return "";
    }
}

static struct place_to_be place_of(const struct config *config)
{
    struct place_to_be place = {.fd = -1, .on = config->metrics.on};
    if (place.on) {
        place.address = config->metrics.address.address;
        place.port = config->metrics.address.port;
        snprintf(place.text, sizeof place.text, "%s", config->metrics.address.text);
    }
    return place;
}

static bool is_same(const struct place_to_be *a, const struct place_to_be *b)
{
    return a->on == b->on && a->port == b->port && a->address.ipv6 == b->address.ipv6 &&
           memcmp(a->address.bytes, b->address.bytes, sizeof a->address.bytes) == 0;
}

/* now: what is in use, which may be in the way. */
static int open_place(const struct place_to_be *now, struct place_to_be *place, char *error,
                      size_t error_size)
{
    if (!place->on)
        return 0;
    int fd = open_socket(place);
    if (fd < 0) {
        snprintf(error, error_size, "metrics.address: cannot listen on %s: %s%s", place->text,
                 strerror(-fd), hint(-fd, now, place));
        return -1;
    }
    place->fd = fd;
    return 0;
}

static void close_place(struct place_to_be *place)
{
    if (place->fd >= 0)
        close(place->fd);
    place->fd = -1;
}

/* ---- what is asked for: on the serving thread ---- */

static void give_metrics(struct buf *out, void *ctx)
{
    struct metrics *metrics = ctx;
    uint64_t now_ms = time_monotonic_ms();
    if (metrics->page_ms == 0 || now_ms - metrics->page_ms >= PAGE_MS) {
        buf_clear(&metrics->page);
        page_write(&metrics->source, &metrics->page);
        metrics->page_ms = now_ms;
    }
    buf_add_str(out, buf_str(&metrics->page));
}

static unsigned give_health(struct buf *out, void *ctx)
{
    struct metrics *metrics = ctx;
    const struct metrics_hooks *hooks = &metrics->options.hooks;
    const char *reasons[METRICS_REASONS_MAX];
    struct metrics_parts parts;
    struct queue_metrics queue;
    hooks->read_parts(&parts, hooks->ctx);
    queue_read_metrics(metrics->options.queue, &queue);
    size_t count = health_reasons(&metrics->health, &queue, &parts, time_monotonic_ms(), reasons);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(reasons[i]));
    json_t *object =
        json_pack("{s:s,s:o}", "status", count == 0 ? "ok" : "failing", "reasons", list);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    buf_printf(out, "%s\n", text != NULL ? text : "{}");
    free(text);
    return count == 0 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

/* ---- the serving thread ---- */

static void forget_wake(struct metrics *metrics)
{
    uint64_t count;
    ssize_t n = read(metrics->wake_fd, &count, sizeof count);
    assert(n == (ssize_t)sizeof count || errno == EAGAIN || errno == EINTR);
}

/* @return false: end */
static bool obey(struct metrics *metrics)
{
    forget_wake(metrics);
    pthread_mutex_lock(&metrics->lock);
    bool go_on = !metrics->stopping;
    if (metrics->moving)
        server_listen(metrics->server, metrics->moving_fd);
    metrics->moving = false;
    pthread_mutex_unlock(&metrics->lock);
    return go_on;
}

static void *serve(void *arg)
{
    struct metrics *metrics = arg;
    while (obey(metrics)) {
        uint64_t now_ms = time_monotonic_ms();
        bool listening = server_is_listening(metrics->server);
        if (listening)
            health_ask(&metrics->health, now_ms);
        server_turn(metrics->server, metrics->wake_fd,
                    now_ms + (listening ? METRICS_BEAT_MS : IDLE_MS));
    }
    return NULL;
}

static int start_thread(struct metrics *metrics)
{
    sigset_t all;
    sigset_t old;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&metrics->thread, NULL, serve, metrics);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : -1;
}

static void wake(struct metrics *metrics)
{
    const uint64_t one = 1;
    ssize_t n = write(metrics->wake_fd, &one, sizeof one);
    assert(n == (ssize_t)sizeof one); /* it fails only at 2^64 unread wake-ups */
}

static void release(struct metrics *metrics)
{
    server_free(&metrics->server);
    scan_free(&metrics->source.scan);
    health_deinit(&metrics->health);
    if (metrics->wake_fd >= 0)
        close(metrics->wake_fd);
    metrics->wake_fd = -1;
}

/* Server, scan and their threads: the first time there is an address. */
static int run(struct metrics *metrics, char *error, size_t error_size)
{
    const struct server_pages pages = {give_metrics, give_health, metrics};
    if (metrics->running)
        return 0;
    metrics->stopping = false;
    health_init(&metrics->health, &metrics->options, &metrics->main_async);
    metrics->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    metrics->server = server_new(&pages, METRICS_CLIENT_MS);
    metrics->source.scan = scan_new(metrics->options.queue);
    if (metrics->wake_fd < 0 || metrics->server == NULL || metrics->source.scan == NULL ||
        start_thread(metrics) < 0) {
        snprintf(error, error_size, "metrics.address: the thread that serves %s cannot be started",
                 metrics->next.text);
        release(metrics);
        return -1;
    }
    metrics->running = true;
    return 0;
}

/* The serving thread listens at `next` from now on. */
static void move(struct metrics *metrics)
{
    metrics->now = metrics->next;
    metrics->now.fd = -1;
    if (!metrics->running)
        return; /* it was off and stays off */
    pthread_mutex_lock(&metrics->lock);
    if (metrics->moving && metrics->moving_fd >= 0)
        close(metrics->moving_fd); /* the one before was not even begun */
    metrics->moving = true;
    metrics->moving_fd = metrics->next.fd;
    pthread_mutex_unlock(&metrics->lock);
    metrics->next.fd = -1;
    wake(metrics);
}

/* ---- life ---- */

static void on_main(uv_async_t *async)
{
    health_answer(async->data);
}

int metrics_new(const struct config *config, struct metrics **metrics_out, char *error,
                size_t error_size)
{
    const struct place_to_be none = {.fd = -1};
    struct place_to_be place = place_of(config);
    if (open_place(&none, &place, error, error_size) < 0)
        return -1;
    struct metrics *metrics = mem_alloc(sizeof *metrics);
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->now = none;
    metrics->next = place;
    metrics->wake_fd = -1;
    buf_init(&metrics->page, METRICS_PAGE_MAX);
    *metrics_out = metrics;
    return 0;
}

int metrics_start(struct metrics *metrics, const struct metrics_options *options, char *error,
                  size_t error_size)
{
    metrics->options = *options;
    metrics->state_dir = str_dup(str_from(options->state_dir));
    metrics->options.state_dir = metrics->state_dir;
    if (metrics->options.stuck_ms == 0)
        metrics->options.stuck_ms = METRICS_STUCK_MS;
    metrics->source.options = &metrics->options;
    metrics->source.health = &metrics->health;
    metrics->source.started_unix_ms = time_wall_ms();
    uv_async_init(options->main_loop, &metrics->main_async, on_main);
    metrics->main_async.data = &metrics->health.main_beat;
    metrics->started = true;
    if (metrics->next.on && run(metrics, error, error_size) < 0)
        return -1;
    move(metrics);
    return 0;
}

int metrics_reload_begin(struct metrics *metrics, const struct config *config, char *error,
                         size_t error_size)
{
    struct place_to_be place = place_of(config);
    metrics->changes = !is_same(&place, &metrics->now);
    if (!metrics->changes)
        return 0;
    if (open_place(&metrics->now, &place, error, error_size) < 0)
        return -1;
    metrics->next = place;
    if (place.on && run(metrics, error, error_size) < 0) {
        close_place(&metrics->next);
        return -1;
    }
    return 0;
}

void metrics_reload_end(struct metrics *metrics, bool good)
{
    if (metrics->changes && good)
        move(metrics);
    else if (metrics->changes)
        close_place(&metrics->next);
    metrics->changes = false;
}

const char *metrics_address(const struct metrics *metrics)
{
    return metrics->now.text;
}

void metrics_stop(struct metrics *metrics)
{
    if (!metrics->started)
        return;
    metrics->started = false;
    if (metrics->running) {
        pthread_mutex_lock(&metrics->lock);
        metrics->stopping = true;
        pthread_mutex_unlock(&metrics->lock);
        wake(metrics);
        pthread_join(metrics->thread, NULL);
        server_free(&metrics->server);
        scan_free(&metrics->source.scan);
        metrics->running = false;
    }
    uv_close((uv_handle_t *)&metrics->main_async, NULL);
}

void metrics_free(struct metrics **metricsp)
{
    struct metrics *metrics = *metricsp;
    if (metrics == NULL)
        return;
    *metricsp = NULL;
    if (metrics->moving && metrics->moving_fd >= 0)
        close(metrics->moving_fd);
    close_place(&metrics->next);
    release(metrics);
    buf_deinit(&metrics->page);
    free(metrics->state_dir);
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}
