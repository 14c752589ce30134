/* tests/unit/test_net_support.h - a loop, streams that remember what they were told, and raw
 * sockets as their peers. */
#ifndef TEST_NET_SUPPORT_H
#define TEST_NET_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/buf.h"
#include "mta/base/time.h"
#include "mta/net/stream.h"

#define PATIENCE_MS 10000

static uv_loop_t loop;

#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t give_up = time_monotonic_ms() + PATIENCE_MS;                                      \
        while (!(condition)) {                                                                     \
            assert_true(time_monotonic_ms() < give_up);                                            \
            (void)uv_run(&loop, UV_RUN_NOWAIT);                                                    \
            usleep(100);                                                                           \
        }                                                                                          \
    } while (0)

static inline void run_for(uint64_t ms)
{
    uint64_t end = time_monotonic_ms() + ms;
    while (time_monotonic_ms() < end) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        usleep(100);
    }
}

enum act { ACT_NOTHING, ACT_PAUSE, ACT_CLOSE, ACT_CLOSE_GRACEFULLY };

/* One owner of a stream. */
struct owner {
    struct stream *stream;
    struct buf in;
    unsigned opened, shook, read, drained, ended;
    enum act on_open, on_bytes, on_drain, on_end, on_tls;
    const char *answer; /* written at the end */
    enum stream_end how;
    char text[256];
    struct tls_verdict verdict;
};

static inline void act(struct owner *owner, enum act what)
{
    if (what == ACT_PAUSE)
        stream_pause(owner->stream);
    else if (what != ACT_NOTHING)
        stream_close(&owner->stream, what == ACT_CLOSE_GRACEFULLY);
}

static inline void note_open(void *ctx)
{
    struct owner *owner = ctx;
    owner->opened++;
    act(owner, owner->on_open);
}

static inline void note_tls(const struct tls_verdict *verdict, void *ctx)
{
    struct owner *owner = ctx;
    owner->shook++;
    owner->verdict = *verdict;
    act(owner, owner->on_tls);
}

static inline void note_bytes(char *bytes, size_t len, void *ctx)
{
    struct owner *owner = ctx;
    assert_true(len > 0);
    owner->read++;
    assert_int_equal(owner->ended, 0);
    assert_true(buf_add(&owner->in, bytes, len));
    act(owner, owner->on_bytes);
}

static inline void note_drain(void *ctx)
{
    struct owner *owner = ctx;
    owner->drained++;
    assert_int_equal(stream_pending(owner->stream), 0);
    act(owner, owner->on_drain);
}

static inline void note_end(enum stream_end how, const char *text, void *ctx)
{
    struct owner *owner = ctx;
    owner->ended++;
    assert_int_equal(owner->ended, 1);
    owner->how = how;
    (void)snprintf(owner->text, sizeof owner->text, "%s", text);
    assert_true(owner->text[0] != '\0');
    if (owner->answer != NULL)
        stream_write(owner->stream, owner->answer, strlen(owner->answer));
    act(owner, owner->on_end);
}

static const struct stream_events notes = {note_open, note_tls, note_bytes, note_drain, note_end};

static inline struct owner *new_owner(void)
{
    struct owner *owner = mem_alloc(sizeof *owner);
    buf_init(&owner->in, (size_t)64 << 20);
    return owner;
}

static inline bool has(const struct owner *owner, const char *text)
{
    return str_equal(buf_str(&owner->in), str_from(text));
}

/* Ends the test's streams and shows that nothing of them is left. */
static inline void free_owner(struct owner *owner)
{
    stream_close(&owner->stream, false);
    buf_deinit(&owner->in);
    free(owner);
}

static inline int start_loop(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return uv_loop_init(&loop);
}

static inline int stop_loop(void **state)
{
    (void)state;
    for (int i = 0; i < 100 && uv_loop_alive(&loop); i++)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    if (stream_open_count() != 0)
        return -1;
    return uv_loop_close(&loop);
}

/* ---- raw sockets ---- */

static inline void set_nonblocking(int fd)
{
    const int on = 1;
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline int listen_on_loopback(struct sockaddr_in *address_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *address_out = address;
    return fd;
}

/* An accepted stream and the raw client at its other end. */
static inline int accept_from_raw(struct owner *owner)
{
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(raw, (const struct sockaddr *)&address, sizeof address), 0);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    close(listener);
    set_nonblocking(raw);
    owner->stream = stream_accept_fd(&loop, fd, &notes, owner);
    assert_non_null(owner->stream);
    return raw;
}

/* A connected stream and the raw server at its other end. */
static inline int connect_to_raw(struct owner *owner)
{
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    owner->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 5000, &notes, owner);
    assert_int_equal(owner->opened, 0); /* never from inside the call */
    RUN_UNTIL(owner->opened == 1);
    int raw = accept(listener, NULL, NULL);
    assert_true(raw >= 0);
    close(listener);
    set_nonblocking(raw);
    return raw;
}

static inline void raw_send(int raw, const char *text)
{
    assert_int_equal(send(raw, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads what is there into in. @return false: end of stream or error */
static inline bool raw_take(int raw, struct buf *in)
{
    for (;;) {
        char bytes[16384];
        ssize_t n = recv(raw, bytes, sizeof bytes, 0);
        if (n > 0)
            assert_true(buf_add(in, bytes, (size_t)n));
        else
            return n < 0 && errno == EAGAIN;
    }
}

/* Bytes that betray a wrong order. */
static inline char *make_pattern(size_t len)
{
    char *bytes = mem_alloc(len);
    uint32_t random = 12345;
    for (size_t i = 0; i < len; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (char)(random >> 24);
    }
    return bytes;
}

#endif
