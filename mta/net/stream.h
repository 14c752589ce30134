/* mta/net/stream.h - one TCP connection with an optional TLS filter, on one loop.
 *
 * Owns the socket, the TLS session and the bytes on their way. No protocol knowledge. All functions
 * run on the loop's thread. Callbacks come from the loop, never from inside a call on the stream.
 * Nothing is freed under its own callback: stream_close() stops
 * everything at once, memory goes at the end of the turn. */
#ifndef MTA_NET_STREAM_H
#define MTA_NET_STREAM_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <uv.h>

#include "mta/base/str.h"
#include "tls/tls.h"

struct stream;

enum stream_end {
    STREAM_END_EOF, /* FIN from the peer (in clear), or close_notify (under TLS) */
    /* Reset, unreachable, write error, FIN under TLS without close_notify ...: text says. */
    STREAM_END_ERROR,
    /* The handshake failed in whatever way but silence, or a record did: text says. */
    STREAM_END_TLS,
    STREAM_END_TIMEOUT, /* the connect or handshake deadline */
    /* stream_connect only: no descriptor or no memory here for a socket. Says nothing of the peer. */
    STREAM_END_SHORTAGE,
};

/* on_open, on_tls and on_drain may be NULL. */
struct stream_events {
    /* Connected (stream_connect only). */
    void (*on_open)(void *ctx);
    /* The TLS handshake is done. */
    void (*on_tls)(const struct tls_verdict *verdict, void *ctx);
    /* Plain bytes from the peer. The callee takes all of them; to slow the peer it calls
     * stream_pause(). It may overwrite them: a password is not to lie in the stream's buffer until
     * the next read. After stream_start_tls() nothing that arrived before is ever delivered here.
     */
    void (*on_bytes)(char *bytes, size_t len, void *ctx);
    /* stream_pending() fell to 0 after it was above it: all bytes are with the kernel. */
    void (*on_drain)(void *ctx);
    /* It is over; no further callback. The owner still calls stream_close(); after an EOF it may
     * write before, and a graceful close sends it. */
    void (*on_end)(enum stream_end end, const char *text, void *ctx);
};

/* Take over an accepted socket. The fd belongs to the stream from now on, also on failure.
 * @return NULL on failure */
struct stream *stream_accept_fd(uv_loop_t *loop, int fd, const struct stream_events *events,
                                void *ctx);

/* Lowers *count by one when the socket has been closed, which may be seconds after stream_close(). */
void stream_count(struct stream *stream, atomic_size_t *count);

/* Connect within timeout_ms; source may be NULL. Failure comes as on_end (ENETUNREACH etc. on the
 * next turn). */
struct stream *stream_connect(uv_loop_t *loop, const struct sockaddr *address,
                              const struct sockaddr *source, uint32_t timeout_ms,
                              const struct stream_events *events, void *ctx);

/* Queue bytes; they go out in one write at the end of the callback or turn in which they were
 * queued (so that a pipelined batch is one write). Copies. */
void stream_write(struct stream *stream, const void *bytes, size_t len);
size_t stream_pending(const struct stream *stream); /* queued and not yet taken by the kernel */
/* Bytes the kernel took (under TLS: of ciphertext), for progress deadlines. */
uint64_t stream_written_total(const struct stream *stream);

/* No on_bytes until resume, at once; what was decrypted already waits inside. A handshake goes on.
 */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Begin TLS after what is queued has been written. Takes the session. Bytes that arrived before
 * this call and were not delivered are dropped (RFC 3207 section 4.2, CVE-2011-0411); *dropped_out
 * (may be NULL) counts them. */
void stream_start_tls(struct stream *stream, struct tls_session *session, uint32_t timeout_ms,
                      size_t *dropped_out);
bool stream_is_tls(const struct stream *stream);
/* For what it tells (names of the peer, channel bindings); NULL unless stream_is_tls(). */
const struct tls_session *stream_tls_session(const struct stream *stream);

/* Has the peer sent anything (bytes, FIN) that was not delivered yet? A non-blocking look at the
 * socket: the check for a stale connection before reuse. Takes nothing away; under TLS, records
 * that are no news (session tickets) are worked off. */
bool stream_is_stale(struct stream *stream);

/* "192.0.2.1" / "2001:db8::1", and port; of the peer and of our end. */
void stream_peer(const struct stream *stream, char *text, size_t size, uint16_t *port_out);
void stream_local(const struct stream *stream, char *text, size_t size, uint16_t *port_out);
/* The peer's address as bytes for network checks. @return true: IPv6 (16 bytes), false: IPv4 (4) */
bool stream_peer_bytes(const struct stream *stream, uint8_t bytes[16]);

/* End it: graceful sends what is queued (and close_notify), then FIN, for at most 5 s; otherwise at
 * once. No callback comes after this. Stores NULL; accepts a pointer to NULL. */
void stream_close(struct stream **streamp, bool graceful);

/* Streams of this thread whose memory is not free yet, those that still close among them: at 0 the
 * loop may stop. Counted per thread, because a loop belongs to one: never put two loops on a
 * thread. */
size_t stream_open_count(void);

/* Shutdown: when the last stream of this loop has closed, done(ctx) is called once, on the loop.
 * Closing ones get grace_ms for their end, then they are cut. All streams must have been given to
 * stream_close(). */
void stream_drain(uv_loop_t *loop, uint32_t grace_ms, void (*done)(void *ctx), void *ctx);

#endif
