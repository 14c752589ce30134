/* mta/submit/listener.c - listening sockets: bound once for each address, accepted on the main
 * loop. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/submit/submit_private.h"

#define BACKLOG        1024
#define ACCEPTS_A_TURN 64
#define PAUSE_MS       100

static socklen_t fill_address(const struct config_endpoint *endpoint, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (endpoint->address.ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(endpoint->port);
        memcpy(&in6->sin6_addr, endpoint->address.bytes, 16);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(endpoint->port);
    memcpy(&in->sin_addr, endpoint->address.bytes, 4);
    return sizeof *in;
}

/* @return the socket, or -errno. SO_REUSEADDR only: a second daemon on the port is an error, not a
 * sharer. */
static int bind_one(const struct config_endpoint *endpoint)
{
    struct sockaddr_storage address;
    socklen_t len = fill_address(endpoint, &address);
    int one = 1;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        (endpoint->address.ipv6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) ||
        bind(fd, (const struct sockaddr *)&address, len) < 0 || listen(fd, BACKLOG) < 0) {
        int failure = errno;
        close(fd);
        return -failure;
    }
    return fd;
}

static bool means_no_ipv6(const struct config_endpoint *endpoint, int failure)
{
    return endpoint->address.ipv6 && (failure == EAFNOSUPPORT || failure == EADDRNOTAVAIL);
}

static struct listener *next_listener(struct submit *submit, size_t number, const char *text)
{
    struct listener *listener = &submit->listeners[submit->listener_count++];
    listener->submit = submit;
    listener->number = number;
    snprintf(listener->text, sizeof listener->text, "%s", text);
    return listener;
}

static int add_unix_listener(struct submit *submit, size_t number,
                             const struct config_endpoint *endpoint,
                             const struct submit_owner *owner, char *error, size_t error_size)
{
    struct unix_socket made;
    if (unix_socket_listen(endpoint->unix_path, BACKLOG, owner->uid, owner->gid, &made, error,
                           error_size) < 0)
        return -1;
    struct listener *listener = next_listener(submit, number, endpoint->text);
    listener->fd = made.fd;
    listener->unix_socket = made;
    listener->unix_path = str_dup(str_from(endpoint->unix_path));
    return 0;
}

static int add_listener(struct submit *submit, size_t number,
                        const struct config_endpoint *endpoint, char *error, size_t error_size)
{
    int fd = bind_one(endpoint);
    if (fd < 0 && means_no_ipv6(endpoint, -fd)) {
        size_t used = strlen(submit->skipped);
        snprintf(submit->skipped + used, sizeof submit->skipped - used, "%s%s", used > 0 ? " " : "",
                 endpoint->text);
        return 0;
    }
    if (fd < 0) {
        snprintf(error, error_size, "cannot listen on %s: %s%s", endpoint->text, strerror(-fd),
                 -fd == EADDRINUSE ? " (another program holds this port)"
                 : -fd == EACCES   ? " (ports under 1024 need root)"
                                   : "");
        return -1;
    }
    next_listener(submit, number, endpoint->text)->fd = fd;
    return 0;
}

int listener_bind_all(struct submit *submit, const struct config *config,
                      const struct submit_owner *owner, char *error, size_t error_size)
{
    size_t most = 0;
    for (size_t i = 0; i < config->listener_count; i++)
        most += config->listeners[i].address_count;
    submit->listeners = mem_alloc(most * sizeof *submit->listeners + 1);
    submit->connection_count = config->listener_count;
    submit->connections = mem_alloc(config->listener_count * sizeof *submit->connections + 1);
    for (size_t i = 0; i < config->listener_count; i++) {
        for (size_t k = 0; k < config->listeners[i].address_count; k++) {
            const struct config_endpoint *endpoint = &config->listeners[i].addresses[k];
            int rc = endpoint->unix_path != NULL
                         ? add_unix_listener(submit, i, endpoint, owner, error, error_size)
                         : add_listener(submit, i, endpoint, error, error_size);
            if (rc < 0)
                return -1;
        }
    }
    if (submit->listener_count == 0) {
        snprintf(error, error_size, "none of the configured addresses can be listened on");
        return -1;
    }
    return 0;
}

/* ---- accepting ---- */

static void open_on_loop(struct loop *loop, void *arg)
{
    struct session_start *start = arg;
    (void)loop;
    session_open(start);
    free(start);
}

static struct submit_worker *least_busy(struct submit *submit)
{
    size_t first = submit->next_worker++ % submit->worker_count;
    struct submit_worker *best = &submit->workers[first];
    for (size_t i = 1; i < submit->worker_count; i++) {
        struct submit_worker *other = &submit->workers[(first + i) % submit->worker_count];
        if (loop_load(other->loop) < loop_load(best->loop))
            best = other;
    }
    return best;
}

static void hand_over(struct listener *listener, int fd)
{
    struct submit *submit = listener->submit;
    struct session_start *start = mem_alloc(sizeof *start);
    unsigned now = atomic_fetch_add(&submit->connections[listener->number], 1) + 1;
    size_t sockets = atomic_fetch_add(&submit->sockets, 1) + 1;
    pthread_mutex_lock(&submit->lock);
    start->settings = submit_settings_ref(submit->settings);
    pthread_mutex_unlock(&submit->lock);
    start->worker = least_busy(submit);
    start->listener = listener->number;
    start->text = listener->text;
    start->fd = fd;
    start->is_unix = listener->unix_path != NULL;
    start->crowded = now > start->settings->config->listeners[listener->number].max_connections ||
                     sockets > start->settings->shares.clients;
    if (!loop_post(start->worker->loop, open_on_loop, start)) {
        close(fd);
        atomic_fetch_sub(&submit->sockets, 1);
        submit_settings_unref(&start->settings);
        free(start);
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct listener *listener = timer->data;
    if (listener->open)
        uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
}

/* What waits in the backlog waits on; spinning helps nobody. */
static void pause_accepting(struct listener *listener, const char *reason)
{
    struct submit *submit = listener->submit;
    int64_t left_out = 0;
    if (log_pace(&submit->unaccepted, &left_out))
        log_event(submit->log, LOG_LEVEL_ERROR, "reject", LOG_T("listener", listener->text),
                  LOG_T("error", reason), LOG_T("text", "new connections have to wait"),
                  LOG_I("suppressed", left_out));
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
}

/* Failures of the one connection that was next, which is gone with them: accept(2) hands on what
 * went wrong on the network meanwhile. */
static bool concerns_one(int failure)
{
    static const int these[] = {EINTR,     ECONNABORTED, EPROTO,       ENETDOWN,   ENOPROTOOPT,
                                EHOSTDOWN, ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
    for (size_t i = 0; i < sizeof these / sizeof these[0]; i++) {
        if (failure == these[i])
            return true;
    }
    return false;
}

static bool has_room(const struct submit *submit)
{
    const struct descriptor_shares *shares =
        &submit->settings->shares; /* replaced on this thread */
    return atomic_load(&submit->sockets) < shares->clients + shares->refused;
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (!has_room(listener->submit)) {
            pause_accepting(listener, "as many clients as the limit of open files has room for");
            return;
        }
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(listener, fd);
            continue;
        }
        int failure = errno;
        if (concerns_one(failure))
            continue;
        if (failure != EAGAIN)
            pause_accepting(listener, strerror(failure));
        return;
    }
}

int listener_start_all(struct submit *submit, uv_loop_t *loop)
{
    for (size_t i = 0; i < submit->listener_count; i++) {
        struct listener *listener = &submit->listeners[i];
        if (uv_poll_init(loop, &listener->poll, listener->fd) != 0)
            return -1;
        uv_timer_init(loop, &listener->pause);
        listener->poll.data = listener;
        listener->pause.data = listener;
        listener->open = true;
        uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    }
    return 0;
}

static void close_socket(struct listener *listener)
{
    if (listener->fd < 0)
        return;
    if (listener->unix_path != NULL)
        unix_socket_remove(&listener->unix_socket, listener->unix_path);
    close(listener->fd);
    listener->fd = -1;
}

static void on_poll_closed(uv_handle_t *handle)
{
    close_socket(handle->data);
}

void listener_free_all(struct submit *submit)
{
    for (size_t i = 0; i < submit->listener_count; i++) {
        close_socket(&submit->listeners[i]);
        free(submit->listeners[i].unix_path);
    }
    free(submit->listeners);
    free(submit->connections);
}

void listener_close_all(struct submit *submit)
{
    for (size_t i = 0; i < submit->listener_count; i++) {
        struct listener *listener = &submit->listeners[i];
        if (!listener->open)
            continue;
        listener->open = false;
        uv_poll_stop(&listener->poll);
        uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
        uv_close((uv_handle_t *)&listener->pause, NULL);
    }
}
