/* mta/net/stream_private.h - the stream as its files see it: stream.c (the calls of the owner),
 * stream_io.c (what the loop does: reading, writing, TLS, ending), stream_turn.c (one a thread:
 * which streams have something to do at the end of the turn; shared buffers). */
#ifndef MTA_NET_STREAM_PRIVATE_H
#define MTA_NET_STREAM_PRIVATE_H

#include <sys/queue.h>

#include "mta/base/buf.h"
#include "mta/net/stream.h"

#define STREAM_READ_BYTES  ((size_t)64 << 10)
#define STREAM_PLAIN_BYTES ((size_t)16 << 10) /* a TLS record */
/* What one write hands to libuv when the kernel is full, and what is encrypted at a time. */
#define STREAM_STEP_BYTES ((size_t)64 << 10)

enum stream_life {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_HALF,    /* the peer's end came and was told; ours may still be sent */
    STREAM_BROKEN,  /* on_end was told; nothing goes either way */
    STREAM_CLOSING, /* the owner is gone; what is queued goes out */
    STREAM_SHUT,    /* ... and went out with our FIN; the peer's is awaited */
    STREAM_GONE,    /* uv_close() was called */
};

enum stream_tls {
    STREAM_TLS_OFF,
    STREAM_TLS_WAITING, /* what was queued in clear goes out first */
    STREAM_TLS_HANDSHAKE,
    STREAM_TLS_OPEN,
    STREAM_TLS_OVER, /* close_notify or failure: nothing is read from the socket any more */
};

union stream_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct stream {
    uv_tcp_t tcp;
    uv_timer_t timer; /* what it means follows from the states: see on_timer() */
    union {           /* never two at a time */
        uv_connect_t connect;
        uv_write_t write;
        uv_shutdown_t shutdown;
    } req;
    struct stream_turn *turn;
    const struct stream_events *events;
    void *ctx;
    atomic_size_t *count; /* of open sockets, for the owner; may be NULL */

    enum stream_life life;
    enum stream_tls tls_state;
    struct tls_session *tls;
    uint32_t handshake_ms;

    TAILQ_ENTRY(stream) link; /* if dirty */
    bool dirty;               /* has something to do at the end of the turn */
    bool reading;             /* libuv reads: follows the states at the end of the turn */
    bool accepted;            /* not made by stream_connect() */
    bool paused;
    bool shake_due; /* bytes of the handshake have come, the end of the turn works on them */
    bool behind;    /* bytes wait in the session or in `inbox` for on_bytes */
    bool draining;  /* on_drain is due when nothing is pending */
    bool peer_done; /* no more bytes can come */
    uint8_t handles_open;
    int error; /* of a connect or a write, not told yet */

    struct buf out;       /* of the owner: in clear, or to be encrypted */
    struct buf flight;    /* with libuv */
    struct buf inbox;     /* decrypted by stream_is_stale() */
    size_t clear_left;    /* STREAM_TLS_WAITING: how much of `out` goes in clear */
    uint64_t taken_bytes; /* by the kernel, without `flight` */

    union stream_address peer, local;
};

/* ---- stream_turn.c ---- */

/* One more stream on this thread's loop. */
struct stream_turn *stream_turn_join(uv_loop_t *loop);
/* One less; with the last one the turn goes. */
void stream_turn_leave(struct stream_turn *turn);
/* Let stream_settle() look at it at the end of the turn. */
void stream_mark(struct stream *stream);
void stream_unmark(struct stream *stream);
/* Is there time in this turn for one more step of a handshake? */
bool stream_turn_has_time(struct stream_turn *turn);
/* STREAM_READ_BYTES and STREAM_PLAIN_BYTES that live until the callback of the loop returns. */
char *stream_turn_read_buffer(struct stream_turn *turn);
char *stream_turn_plain_buffer(struct stream_turn *turn);

/* ---- stream.c ---- */

/* Which of our addresses the connection goes out from. */
void stream_learn_local(struct stream *stream);

/* ---- stream_io.c ---- */

/* Do what is due: deliver, write, close, start or stop reading. May free nothing, may call back. */
void stream_settle(struct stream *stream);
void stream_on_connect(uv_connect_t *req, int status);
void stream_on_timer(uv_timer_t *timer);
/* Close the handles; the memory goes with the last of them. */
void stream_dispose(struct stream *stream);

#endif
