/* mta/control/control.c - the control socket and its clients. See control.h for the protocol. */
#include "mta/control/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "mta/base/buf.h"
#include "mta/base/time.h"
#include "mta/control/control_private.h"
#include "mta/control/maintenance.h"
#include "mta/control/scanner.h"
#include "mta/control/walk.h"

#define BACKLOG      64
#define STOP_MS      10000 /* for the writer to do what it was asked for */
#define STOP_LOOK_MS 2

/* ---- binding ---- */

/* Is somebody serving at this path? One who does not come to accept (EAGAIN) is alive as well. */
static bool is_alive(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    bool alive = rc == 0 || errno == EAGAIN || errno == EACCES;
    close(fd);
    return alive;
}

static int bind_socket(const struct sockaddr_un *address, uid_t uid, gid_t gid)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* Made with no rights for others: no moment in which anybody could connect. */
    mode_t mask = umask(0117);
    bool bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    umask(mask);
    if (bound && (geteuid() != 0 || chown(address->sun_path, uid, gid) == 0) &&
        listen(fd, BACKLOG) == 0)
        return fd;
    int failure = errno;
    if (bound)
        unlink(address->sun_path);
    close(fd);
    errno = failure;
    return -1;
}

int control_new(const char *path, uid_t uid, gid_t gid, struct control **control_out, char *error,
                size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(error, error_size,
                 "control_socket: %s is longer than the %zu octets that a socket may have", path,
                 sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (is_alive(&address)) {
        snprintf(error, error_size,
                 "control_socket: another mtad is running and serves %s (if none is, remove it)",
                 path);
        return -1;
    }
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    int fd = bind_socket(&address, uid, gid);
    if (fd < 0) {
        snprintf(error, error_size, "control_socket: %s cannot be made: %s", path, strerror(errno));
        return -1;
    }
    struct control *control = mem_alloc(sizeof *control);
    control->path = str_dup(str_from(path));
    control->fd = fd;
    *control_out = control;
    return 0;
}

/* ---- clients ---- */

static void free_client_when_closed(uv_handle_t *handle)
{
    struct control_client *client = handle->data;
    if (--client->handles_open > 0)
        return;
    struct control *control = client->control;
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        control->clients = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    control->client_count--;
    buf_deinit(&client->input);
    json_decref(client->request);
    control_walk_free(&client->walk);
    free(client);
}

static void close_client(struct control_client *client)
{
    if (client->closing)
        return;
    client->closing = true;
    if (client->holds > 0)
        return; /* the last control_unhold() calls again */
    uv_close((uv_handle_t *)&client->pipe, free_client_when_closed);
    uv_close((uv_handle_t *)&client->idle, free_client_when_closed);
    uv_close((uv_handle_t *)&client->timer, free_client_when_closed);
}

void control_close(struct control_client *client)
{
    control_step_stop(client);
    close_client(client);
}

void control_hold(struct control_client *client)
{
    client->holds++;
}

void control_unhold(struct control_client *client)
{
    if (--client->holds > 0 || !client->closing)
        return;
    client->closing = false;
    close_client(client);
}

bool control_has_left(const struct control_client *client)
{
    struct pollfd look = {.fd = -1};
    if (uv_fileno((const uv_handle_t *)&client->pipe, &look.fd) != 0)
        return true;
    /* POLLHUP means both directions here: a client that only ended its own still listens. */
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR)) != 0;
}

struct write_request {
    uv_write_t write;
    char bytes[];
};

static void on_written(uv_write_t *write, int status)
{
    struct control_client *client = write->handle->data;
    free(write);
    if (status < 0 || (client->finishing && client->pipe.write_queue_size == 0))
        close_client(client);
    else if (!control_is_slow(client))
        control_step_resume(client);
}

void control_send_bytes(struct control_client *client, const void *bytes, size_t len)
{
    if (client->closing || len == 0)
        return;
    struct write_request *request = mem_alloc(sizeof *request + len);
    memcpy(request->bytes, bytes, len);
    uv_buf_t vector = uv_buf_init(request->bytes, (unsigned)len);
    if (uv_write(&request->write, (uv_stream_t *)&client->pipe, &vector, 1, on_written) != 0) {
        free(request);
        close_client(client);
    }
}

void control_send(struct control_client *client, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return;
    size_t len = strlen(text);
    text[len] = '\n'; /* the NUL's place */
    control_send_bytes(client, text, len + 1);
    free(text);
}

void control_finish(struct control_client *client, int exit_code)
{
    control_step_stop(client);
    client->finishing = true;
    control_send(client, json_pack("{s:b,s:i}", "done", 1, "exit", exit_code));
}

void control_fail(struct control_client *client, const char *text)
{
    control_step_stop(client);
    client->finishing = true;
    control_send(client, json_pack("{s:o,s:i}", "error", control_text(text), "exit", 1));
}

bool control_is_slow(const struct control_client *client)
{
    return client->pipe.write_queue_size > CONTROL_PENDING_MAX;
}

static void on_idle(uv_idle_t *idle)
{
    control_command_step(idle->data);
}

void control_step_start(struct control_client *client)
{
    uv_idle_start(&client->idle, on_idle);
}

void control_step_stop(struct control_client *client)
{
    client->waiting = false;
    uv_idle_stop(&client->idle);
}

void control_step_wait(struct control_client *client)
{
    client->waiting = true;
    uv_idle_stop(&client->idle);
}

void control_step_resume(struct control_client *client)
{
    if (!client->waiting || client->closing)
        return;
    client->waiting = false;
    uv_idle_start(&client->idle, on_idle);
}

json_t *control_text(const char *text)
{
    size_t size = strlen(text) * 4 + 1; /* every byte as \\xXX */
    char *escaped = mem_alloc(size);
    log_escape(str_from(text), escaped, size);
    json_t *value = json_string(escaped);
    free(escaped);
    return value;
}

json_t *control_time(int64_t unix_ms)
{
    char text[TIME_TEXT_MAX];
    if (unix_ms <= 0 || unix_ms == QUEUE_NEVER)
        return json_null();
    time_iso(unix_ms, text);
    return json_string(text);
}

/* ---- reading the request ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct control_client *client = handle->data;
    (void)suggested;
    char *room = buf_reserve(&client->input, 4096);
    *out = uv_buf_init(room, room != NULL ? 4096 : 0);
}

static void take_request(struct control_client *client, struct str line)
{
    json_error_t error;
    uv_timer_stop(&client->timer);
    client->request = json_loadb(line.p, line.len, JSON_REJECT_DUPLICATES, &error);
    if (client->request == NULL || !json_is_object(client->request)) {
        control_fail(client, "the request is not a JSON object");
        return;
    }
    control_command_start(client);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *unused)
{
    struct control_client *client = stream->data;
    (void)unused;
    if (count < 0) {
        close_client(client); /* before it had asked: later nothing is read */
        return;
    }
    buf_filled(&client->input, (size_t)count);
    struct str all = buf_str(&client->input);
    const char *end = all.len > 0 ? memchr(all.p, '\n', all.len) : NULL;
    if (end == NULL && all.len < CONTROL_REQUEST_MAX)
        return;
    uv_read_stop(stream); /* one request a connection */
    if (end != NULL)
        take_request(client, (struct str){all.p, (size_t)(end - all.p)});
    else
        control_fail(client, "the request is too long");
}

static void on_request_late(uv_timer_t *timer)
{
    struct control_client *client = timer->data;
    uv_read_stop((uv_stream_t *)&client->pipe);
    control_fail(client, "no request came in time");
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct control *control = listener->data;
    if (status < 0)
        return;
    struct control_client *client = mem_alloc(sizeof *client);
    client->control = control;
    buf_init(&client->input, CONTROL_REQUEST_MAX + 4096);
    uv_pipe_init(control->loop, &client->pipe, 0);
    uv_idle_init(control->loop, &client->idle);
    uv_timer_init(control->loop, &client->timer);
    client->pipe.data = client->idle.data = client->timer.data = client;
    client->handles_open = 3;
    client->next = control->clients;
    if (client->next != NULL)
        client->next->prev = client;
    control->clients = client;
    control->client_count++;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) != 0) {
        close_client(client);
        return;
    }
    if (control->client_count > CONTROL_CLIENTS_MAX) {
        control_fail(client, "too many control clients at once");
        return;
    }
    uv_read_start((uv_stream_t *)&client->pipe, on_allocate, on_read);
    uv_timer_start(&client->timer, on_request_late, CONTROL_REQUEST_MS, 0);
}

/* ---- life ---- */

static void on_port(uv_async_t *async)
{
    struct control *control = async->data;
    queue_port_run(control->port);
}

static void notify_port(void *ctx)
{
    uv_async_send(ctx);
}

int control_start(struct control *control, uv_loop_t *main_loop, struct queue *queue,
                  struct log *log, const struct control_hooks *hooks, char *error,
                  size_t error_size)
{
    control->loop = main_loop;
    control->queue = queue;
    control->log = log;
    control->hooks = *hooks;
    uv_async_init(main_loop, &control->port_async, on_port);
    control->port_async.data = control;
    control->port = queue_port_new(queue, notify_port, &control->port_async);
    uv_pipe_init(main_loop, &control->listener, 0);
    control->listener.data = control;
    control->listening = true;
    if (scanner_start(main_loop, &control->scanner) < 0) {
        snprintf(error, error_size, "control_socket: its thread cannot be started");
        return -1;
    }
    if (uv_pipe_open(&control->listener, control->fd) != 0 ||
        uv_listen((uv_stream_t *)&control->listener, BACKLOG, on_connection) != 0) {
        snprintf(error, error_size, "control_socket: %s cannot be listened on", control->path);
        return -1;
    }
    control->fd = -1; /* the pipe's now */
    return 0;
}

/* What the writer was asked for will be done, with us or without: it is told in the log. */
static void await_calls(struct control *control)
{
    uint64_t until_ms = time_monotonic_ms() + STOP_MS;
    while (control->calls > 0 && time_monotonic_ms() < until_ms) {
        uv_sleep(STOP_LOOK_MS);
        queue_port_run(control->port);
    }
}

void control_stop(struct control *control)
{
    if (!control->listening)
        return;
    control->listening = false;
    unlink(control->path); /* while we are here: later it may be that of the next daemon */
    scanner_stop(&control->scanner);
    maintenance_stop(control);
    await_calls(control);
    queue_port_free(&control->port);
    uv_close((uv_handle_t *)&control->port_async, NULL);
    uv_close((uv_handle_t *)&control->listener, NULL);
    for (struct control_client *client = control->clients; client != NULL; client = client->next) {
        control_walk_abandon(client->walk);
        if (client->holds > 0) { /* those who kept it went with the scanner and the port */
            client->holds = 1;
            control_unhold(client);
        }
        close_client(client);
    }
}

void control_free(struct control **controlp)
{
    struct control *control = *controlp;
    if (control == NULL)
        return;
    if (control->fd >= 0) { /* it never served */
        close(control->fd);
        unlink(control->path);
    }
    free(control->path);
    free(control);
    *controlp = NULL;
}
