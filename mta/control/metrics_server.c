/* mta/control/metrics_server.c - HTTP by libmicrohttpd, driven from one thread.
 *
 * libmicrohttpd parses and answers; accepting and who may stay is decided here: its own timeout
 * begins anew with every byte, so a client could hold a place for ever. Here a client has
 * so much time for everything, and when all places are taken the one that sits longest goes:
 * an honest client is done in milliseconds. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

#define ACCEPTS_A_TURN 16
#define PAUSE_MS       100         /* without descriptors: what waits in the backlog waits on */
#define MEMORY_BYTES   (16 * 1024) /* for the request of one client */

/* A client's place; free: fd -1. */
struct place {
    int fd;
    uint64_t since_ms;
};

struct server {
    struct MHD_Daemon *daemon;
    struct server_pages pages;
    uint64_t client_ms;
    int daemon_fd; /* its epoll */
    int listen_fd; /* -1: none */
    uint64_t paused_until_ms;
    struct place places[METRICS_CLIENTS_MAX];
};

/* ---- requests ---- */

static struct MHD_Response *respond(const struct buf *body, const char *type)
{
    struct str text = buf_str(body);
    /* The library does not write to it, and copies. */
    struct MHD_Response *response = MHD_create_response_from_buffer(
        text.len, text.len > 0 ? (void *)(uintptr_t)text.p : "", MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return NULL;
    if (MHD_add_response_header(response, "Content-Type", type) == MHD_YES &&
        MHD_add_response_header(response, "Cache-Control", "no-store") == MHD_YES &&
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        MHD_add_response_header(response, "Connection", "close") == MHD_YES)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

/* GET and HEAD of two paths. @return the HTTP code; *type_out that of the body */
static unsigned answer(const struct server *server, const char *path, const char *method,
                       struct buf *body, const char **type_out)
{
    const struct server_pages *pages = &server->pages;
    bool metrics = strcmp(path, "/metrics") == 0;
    bool health = strcmp(path, "/healthz") == 0;
    *type_out = "text/plain; charset=utf-8";
    if (!metrics && !health) {
        buf_add_text(body, "There are /metrics and /healthz.\n");
        return MHD_HTTP_NOT_FOUND;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        buf_add_text(body, "Only GET and HEAD.\n");
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    }
    if (health) {
        *type_out = "application/json";
        return pages->health(body, pages->ctx);
    }
    *type_out = "text/plain; version=0.0.4; charset=utf-8";
    pages->metrics(body, pages->ctx);
    return MHD_HTTP_OK;
}

/* Paths are taken as they come: no escape ends a text early, or leads anywhere. */
static size_t leave_escapes(void *ctx, struct MHD_Connection *connection, char *text)
{
    (void)ctx;
    (void)connection;
    return strlen(text);
}

/* The first call, when the head of the request is there, is answered at once: what body the client
 * may send is not read, and the connection closes. */
/* NOLINTNEXTLINE(readability-function-size): the library's parameters */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request_ctx)
{
    const char *type = NULL;
    struct buf body;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)request_ctx;
    buf_init(&body, METRICS_PAGE_MAX);
    unsigned code = answer(ctx, path, method, &body, &type);
    struct MHD_Response *response = respond(&body, type);
    buf_deinit(&body);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_YES;
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        result = MHD_add_response_header(response, "Allow", "GET, HEAD");
    if (result == MHD_YES)
        result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- places ---- */

static void on_connection(void *ctx, struct MHD_Connection *connection, void **place_ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    struct server *server = ctx;
    struct place *place = *place_ctx;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (place != NULL)
            place->fd = -1;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    for (size_t i = 0; i < METRICS_CLIENTS_MAX && info != NULL; i++) {
        place = &server->places[i];
        if (place->fd >= 0)
            continue;
        place->fd = info->connect_fd;
        place->since_ms = time_monotonic_ms();
        *place_ctx = place;
        return;
    }
}

/* The library sees the end of the connection in its next turn, and closes. */
static void cut(const struct place *place)
{
    shutdown(place->fd, SHUT_RDWR);
}

static void cut_late(struct server *server, uint64_t now_ms)
{
    for (size_t i = 0; i < METRICS_CLIENTS_MAX; i++) {
        const struct place *place = &server->places[i];
        if (place->fd >= 0 && now_ms >= place->since_ms + server->client_ms)
            cut(place);
    }
}

static bool has_free_place(const struct server *server, const struct place **oldest_out)
{
    const struct place *oldest = &server->places[0];
    for (size_t i = 0; i < METRICS_CLIENTS_MAX; i++) {
        const struct place *place = &server->places[i];
        if (place->fd < 0)
            return true;
        if (place->since_ms < oldest->since_ms)
            oldest = place;
    }
    *oldest_out = oldest;
    return false;
}

static bool make_place(struct server *server)
{
    const struct place *oldest = NULL;
    if (has_free_place(server, &oldest))
        return true;
    cut(oldest);
    MHD_run(server->daemon);
    return has_free_place(server, &oldest);
}

static void accept_some(struct server *server, uint64_t now_ms)
{
    for (int i = 0; i < ACCEPTS_A_TURN && make_place(server); i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        int fd = accept4(server->listen_fd, (struct sockaddr *)&address, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            /* On failure the library has closed it. */
            enum MHD_Result added =
                MHD_add_connection(server->daemon, fd, (struct sockaddr *)&address, len);
            (void)added;
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            server->paused_until_ms = now_ms + PAUSE_MS;
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* ---- the thread's turn ---- */

static int timeout_of(const struct server *server, uint64_t now_ms, uint64_t until_ms)
{
    MHD_UNSIGNED_LONG_LONG library_ms;
    uint64_t timeout_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    if (server->paused_until_ms > now_ms && server->paused_until_ms - now_ms < timeout_ms)
        timeout_ms = server->paused_until_ms - now_ms;
    if (MHD_get_timeout(server->daemon, &library_ms) == MHD_YES && library_ms < timeout_ms)
        timeout_ms = library_ms;
    return (int)timeout_ms;
}

void server_turn(struct server *server, int wake_fd, uint64_t until_ms)
{
    uint64_t now_ms = time_monotonic_ms();
    bool paused = server->paused_until_ms > now_ms;
    struct pollfd fds[3] = {{wake_fd, POLLIN, 0},
                            {paused ? -1 : server->listen_fd, POLLIN, 0},
                            {server->daemon_fd, POLLIN, 0}};
    (void)poll(fds, 3, timeout_of(server, now_ms, until_ms));
    now_ms = time_monotonic_ms();
    if (fds[1].revents != 0)
        accept_some(server, now_ms);
    cut_late(server, now_ms);
    MHD_run(server->daemon);
}

/* ---- life ---- */

void server_listen(struct server *server, int fd)
{
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->listen_fd = fd;
    for (size_t i = 0; i < METRICS_CLIENTS_MAX && fd < 0; i++) {
        if (server->places[i].fd >= 0)
            cut(&server->places[i]);
    }
}

bool server_is_listening(const struct server *server)
{
    return server->listen_fd >= 0;
}

struct server *server_new(const struct server_pages *pages, uint64_t client_ms)
{
    struct server *server = mem_alloc(sizeof *server);
    server->pages = *pages;
    server->client_ms = client_ms;
    server->listen_fd = -1;
    for (size_t i = 0; i < METRICS_CLIENTS_MAX; i++)
        server->places[i].fd = -1;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, server,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)METRICS_CLIENTS_MAX, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(client_ms / 1000 + 1),
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        server->daemon != NULL ? MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)
                               : NULL;
    if (info != NULL) {
        server->daemon_fd = info->epoll_fd;
        return server;
    }
    server_free(&server);
    return NULL;
}

void server_free(struct server **serverp)
{
    struct server *server = *serverp;
    if (server == NULL)
        return;
    *serverp = NULL;
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    free(server);
}
