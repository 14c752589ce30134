/* mta/net/stream.c - the calls of the owner: they change the stream's wishes and mark it dirty; the
 * end of the turn (stream_io.c) fulfils them. */
#include "mta/net/stream.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/net/stream_private.h"

#define UNSENT_BYTES (128 * 1024)
#define CLOSE_MS     5000
/* A peer that sends faster than we throw away is stopped by its own garbage in the handshake. */
#define DROP_READS_MAX  256
#define STALE_READS_MAX 8

static struct stream *new_stream(uv_loop_t *loop, const struct stream_events *events, void *ctx)
{
    struct stream *stream = mem_alloc(sizeof *stream);
    stream->turn = stream_turn_join(loop);
    stream->events = events;
    stream->ctx = ctx;
    buf_init(&stream->out, SIZE_MAX / 4); /* the owner bounds it: stream_pending() */
    buf_init(&stream->flight, SIZE_MAX / 4);
    buf_init(&stream->inbox, STREAM_PLAIN_BYTES);
    uv_tcp_init(loop, &stream->tcp);
    uv_timer_init(loop, &stream->timer);
    stream->tcp.data = stream;
    stream->timer.data = stream;
    stream->handles_open = 2;
    return stream;
}

/* An IPv4 peer of a dual-stack listener is an IPv4 peer. */
static void unmap(union stream_address *address)
{
    if (address->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        return;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = address->v6.sin6_port};
    memcpy(&v4.sin_addr, address->v6.sin6_addr.s6_addr + 12, 4);
    address->v4 = v4;
}

void stream_learn_local(struct stream *stream)
{
    int len = (int)sizeof stream->local;
    (void)uv_tcp_getsockname(&stream->tcp, &stream->local.any, &len);
    unmap(&stream->local);
}

/* What the kernel holds unsent is kept small: "taken by the kernel" then means "nearly with the
 * peer", which is what deadlines for a peer's progress count, and thousands of connections to slow
 * peers hold little. */
static void set_options(struct stream *stream)
{
    int unsent_bytes = UNSENT_BYTES;
    uv_os_fd_t fd;
    (void)uv_tcp_nodelay(&stream->tcp, 1);
    if (uv_fileno((const uv_handle_t *)&stream->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof unsent_bytes);
}

struct stream *stream_accept_fd(uv_loop_t *loop, int fd, const struct stream_events *events,
                                void *ctx)
{
    struct stream *stream = new_stream(loop, events, ctx);
    int len = (int)sizeof stream->peer;
    stream->life = STREAM_OPEN;
    stream->accepted = true;
    if (uv_tcp_open(&stream->tcp, fd) < 0) {
        close(fd);
        stream_dispose(stream);
        return NULL;
    }
    set_options(stream);
    (void)uv_tcp_getpeername(&stream->tcp, &stream->peer.any, &len);
    unmap(&stream->peer);
    stream_learn_local(stream);
    stream_mark(stream);
    return stream;
}

void stream_count(struct stream *stream, atomic_size_t *count)
{
    stream->count = count;
}

static int connect_socket(struct stream *stream, const struct sockaddr *address,
                          const struct sockaddr *source)
{
    const int on = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (source != NULL) {
        socklen_t len = source->sa_family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6)
                                                      : (socklen_t)sizeof(struct sockaddr_in);
        /* Without it the ports of the source address run out although the peers differ. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, source, len) < 0) {
            int error = -errno;
            close(fd);
            return error;
        }
    }
    int rc = uv_tcp_open(&stream->tcp, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    set_options(stream);
    return uv_tcp_connect(&stream->req.connect, &stream->tcp, address, stream_on_connect);
}

struct stream *stream_connect(uv_loop_t *loop, const struct sockaddr *address,
                              const struct sockaddr *source, uint32_t timeout_ms,
                              const struct stream_events *events, void *ctx)
{
    assert(address->sa_family == AF_INET || address->sa_family == AF_INET6);
    struct stream *stream = new_stream(loop, events, ctx);
    stream->life = STREAM_CONNECTING;
    if (address->sa_family == AF_INET6)
        memcpy(&stream->peer.v6, address, sizeof stream->peer.v6);
    else
        memcpy(&stream->peer.v4, address, sizeof stream->peer.v4);
    unmap(&stream->peer);
    stream->error = connect_socket(stream, address, source);
    uv_timer_start(&stream->timer, stream_on_timer, stream->error < 0 ? 0 : timeout_ms, 0);
    return stream;
}

/* ---- writing ---- */

static bool takes_bytes(const struct stream *stream)
{
    return stream->life <= STREAM_HALF && (stream->error == 0 || stream->life == STREAM_CONNECTING);
}

void stream_write(struct stream *stream, const void *bytes, size_t len)
{
    if (len == 0 || !takes_bytes(stream))
        return;
    bool fits = buf_add(&stream->out, bytes, len);
    assert(fits); /* a quarter of the address space */
    stream->draining = true;
    stream_mark(stream);
}

size_t stream_pending(const struct stream *stream)
{
    size_t cipher_len = 0;
    if (stream->tls != NULL)
        (void)tls_session_output(stream->tls, &cipher_len);
    return buf_len(&stream->out) + cipher_len +
           uv_stream_get_write_queue_size((const uv_stream_t *)&stream->tcp);
}

uint64_t stream_written_total(const struct stream *stream)
{
    size_t left = uv_stream_get_write_queue_size((const uv_stream_t *)&stream->tcp);
    size_t flight = buf_len(&stream->flight);
    return stream->taken_bytes + (flight > left ? flight - left : 0);
}

/* ---- reading ---- */

void stream_pause(struct stream *stream)
{
    stream->paused = true;
    stream_mark(stream);
}

void stream_resume(struct stream *stream)
{
    stream->paused = false;
    stream_mark(stream);
}

static int socket_of(const struct stream *stream)
{
    uv_os_fd_t fd = -1;
    return uv_fileno((const uv_handle_t *)&stream->tcp, &fd) == 0 ? fd : -1;
}

static ssize_t receive(const struct stream *stream, void *bytes, size_t size, int flags)
{
    ssize_t n;
    do
        n = recv(socket_of(stream), bytes, size, flags | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Feeds what lies in the socket: session tickets and key updates are no news. */
static bool is_tls_stale(struct stream *stream)
{
    char bytes[STREAM_PLAIN_BYTES];
    for (int i = 0; i < STALE_READS_MAX; i++) {
        ssize_t n = receive(stream, bytes, sizeof bytes, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return false;
        if (n <= 0 || tls_session_feed(stream->tls, bytes, (size_t)n) < 0)
            return true;
        long plain = tls_session_read(stream->tls, bytes, sizeof bytes);
        stream_mark(stream); /* the session may have answered */
        if (plain == TLS_AGAIN)
            continue;
        /* Not lost: the next turn tells them. */
        if (plain > 0)
            (void)buf_add(&stream->inbox, bytes, (size_t)plain);
        stream->behind = true;
        return true;
    }
    return true;
}

bool stream_is_stale(struct stream *stream)
{
    char byte;
    if (stream->life != STREAM_OPEN || stream->error < 0 || stream->behind)
        return true;
    switch (stream->tls_state) {
    case STREAM_TLS_OPEN:
        return is_tls_stale(stream);
    case STREAM_TLS_OFF: {
        ssize_t n = receive(stream, &byte, 1, MSG_PEEK);
        return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
    case STREAM_TLS_WAITING:
    case STREAM_TLS_HANDSHAKE:
    case STREAM_TLS_OVER:
        return true;
    }
    unreachable_bug();
}

/* ---- TLS ---- */

/* Bytes that the peer sent before it can have known that TLS begins: a client's before our 220 has
 * left, a server's before our first handshake message. If nothing was said in clear at all, TLS is
 * implicit and what waits is its beginning. */
static bool is_injected(const struct stream *stream)
{
    bool spoke = stream->taken_bytes > 0 || stream_pending(stream) > 0;
    return stream->life == STREAM_OPEN && (stream->accepted ? stream_pending(stream) > 0 : spoke);
}

static size_t drop_clear_bytes(struct stream *stream)
{
    char bytes[4096];
    size_t dropped = 0;
    for (int i = 0; i < DROP_READS_MAX; i++) {
        ssize_t n = receive(stream, bytes, sizeof bytes, 0);
        if (n <= 0)
            break;
        dropped += (size_t)n;
    }
    return dropped;
}

void stream_start_tls(struct stream *stream, struct tls_session *session, uint32_t timeout_ms,
                      size_t *dropped_out)
{
    assert(stream->tls_state == STREAM_TLS_OFF);
    size_t dropped = is_injected(stream) ? drop_clear_bytes(stream) : 0;
    if (dropped_out != NULL)
        *dropped_out = dropped;
    stream->tls = session;
    stream->tls_state = STREAM_TLS_WAITING;
    stream->clear_left = buf_len(&stream->out);
    stream->handshake_ms = timeout_ms;
    if (stream->life == STREAM_OPEN)
        uv_timer_start(&stream->timer, stream_on_timer, timeout_ms, 0);
    stream_mark(stream);
}

bool stream_is_tls(const struct stream *stream)
{
    return stream->tls_state == STREAM_TLS_OPEN || stream->tls_state == STREAM_TLS_OVER;
}

const struct tls_session *stream_tls_session(const struct stream *stream)
{
    return stream_is_tls(stream) ? stream->tls : NULL;
}

/* ---- addresses ---- */

static void put_address(const union stream_address *address, char *text, size_t size,
                        uint16_t *port_out)
{
    char words[INET6_ADDRSTRLEN] = "";
    uint16_t port = 0;
    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->v6.sin6_addr, words, sizeof words);
        port = ntohs(address->v6.sin6_port);
    } else if (address->any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->v4.sin_addr, words, sizeof words);
        port = ntohs(address->v4.sin_port);
    }
    (void)snprintf(text, size, "%s", words);
    if (port_out != NULL)
        *port_out = port;
}

void stream_peer(const struct stream *stream, char *text, size_t size, uint16_t *port_out)
{
    put_address(&stream->peer, text, size, port_out);
}

void stream_local(const struct stream *stream, char *text, size_t size, uint16_t *port_out)
{
    put_address(&stream->local, text, size, port_out);
}

bool stream_peer_bytes(const struct stream *stream, uint8_t bytes[16])
{
    memset(bytes, 0, 16);
    if (stream->peer.any.sa_family == AF_INET6) {
        memcpy(bytes, &stream->peer.v6.sin6_addr, 16);
        return true;
    }
    memcpy(bytes, &stream->peer.v4.sin_addr, 4);
    return false;
}

/* ---- the end ---- */

void stream_close(struct stream **streamp, bool graceful)
{
    struct stream *stream = *streamp;
    if (stream == NULL)
        return;
    *streamp = NULL;
    stream->events = NULL;
    bool can_end_well = (stream->life == STREAM_OPEN || stream->life == STREAM_HALF) &&
                        stream->error == 0 && stream->tls_state != STREAM_TLS_WAITING &&
                        stream->tls_state != STREAM_TLS_HANDSHAKE;
    if (!graceful || !can_end_well) {
        stream_dispose(stream);
        return;
    }
    stream->life = STREAM_CLOSING;
    uv_timer_start(&stream->timer, stream_on_timer, CLOSE_MS, 0);
    stream_mark(stream);
}
