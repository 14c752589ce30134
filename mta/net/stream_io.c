/* mta/net/stream_io.c - what happens on the loop's side of a stream. Every callback to the owner
 * comes from here, and after each one the states are looked at anew: the owner may have closed. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/net/stream_private.h"

/* After a failed write the peer's last words (a 421, say) may still lie in the socket. */
#define LAST_WORDS_MS 1000
/* A peer that makes us answer (key updates) and never reads. */
#define CIPHER_BYTES_MAX ((size_t)256 << 10)

static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);

static bool is_handshaking(const struct stream *stream)
{
    return stream->tls_state == STREAM_TLS_WAITING || stream->tls_state == STREAM_TLS_HANDSHAKE;
}

/* ---- ending ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;
    if (--stream->handles_open > 0)
        return;
    stream_turn_leave(stream->turn);
    tls_session_free(&stream->tls);
    buf_deinit(&stream->out);
    buf_deinit(&stream->flight);
    buf_deinit(&stream->inbox);
    free(stream);
}

void stream_dispose(struct stream *stream)
{
    if (stream->life == STREAM_GONE)
        return;
    stream_unmark(stream);
    stream->life = STREAM_GONE;
    uv_close((uv_handle_t *)&stream->tcp, on_handle_closed); /* closes the socket at once */
    uv_close((uv_handle_t *)&stream->timer, on_handle_closed);
    if (stream->count != NULL)
        atomic_fetch_sub(stream->count, 1);
}

static void set_reading(struct stream *stream, bool reading)
{
    if (stream->reading == reading)
        return;
    stream->reading = reading;
    if (reading)
        (void)uv_read_start((uv_stream_t *)&stream->tcp, on_alloc, on_read);
    else
        uv_read_stop((uv_stream_t *)&stream->tcp);
}

/* The one place that says on_end. During a handshake everything is a TLS failure, so that a peer
 * that hangs up is treated like one that talks nonsense. */
static void end(struct stream *stream, enum stream_end how, const char *text)
{
    char words[256];
    if (stream->life != STREAM_CONNECTING && stream->life != STREAM_OPEN)
        return;
    (void)snprintf(words, sizeof words, "%s", text);
    if (is_handshaking(stream) && (how == STREAM_END_EOF || how == STREAM_END_ERROR)) {
        how = STREAM_END_TLS;
        (void)snprintf(words, sizeof words, "TLS handshake: %s", text);
    }
    stream->life = how == STREAM_END_EOF ? STREAM_HALF : STREAM_BROKEN;
    stream->draining = false;
    uv_timer_stop(&stream->timer);
    set_reading(stream, false);
    stream_mark(stream); /* what is queued may still go out after an EOF */
    stream->events->on_end(how, words, stream->ctx);
}

/* ---- writing ---- */

static void on_written(uv_write_t *req, int status);

static void fail_write(struct stream *stream, int error)
{
    stream->error = error;
    buf_clear(&stream->out);
    stream->draining = false;
    if (stream->life == STREAM_CLOSING || stream->life == STREAM_SHUT)
        stream_dispose(stream);
    else if (stream->life == STREAM_HALF)
        stream->life = STREAM_BROKEN;
    else if (stream->life == STREAM_OPEN && stream->reading)
        uv_timer_start(&stream->timer, stream_on_timer, LAST_WORDS_MS, 0);
    else
        end(stream, STREAM_END_ERROR, uv_strerror(error));
}

/* What the kernel takes at once. @return bytes; negative: the stream has failed */
static ssize_t write_now(struct stream *stream, const char *bytes, size_t len)
{
    uv_buf_t buf = uv_buf_init((char *)bytes, (unsigned)len);
    int n = uv_try_write((uv_stream_t *)&stream->tcp, &buf, 1);
    if (n == UV_EAGAIN)
        return 0;
    if (n < 0)
        fail_write(stream, n);
    else
        stream->taken_bytes += (size_t)n;
    return n;
}

/* The kernel is full: libuv writes this when there is room. */
static void write_later(struct stream *stream, const char *bytes, size_t len)
{
    bool fits = buf_add(&stream->flight, bytes, len);
    assert(fits);
    uv_buf_t buf = uv_buf_init(stream->flight.data + stream->flight.start, (unsigned)len);
    stream->req.write.data = stream;
    int rc = uv_write(&stream->req.write, (uv_stream_t *)&stream->tcp, &buf, 1, on_written);
    if (rc < 0) {
        buf_clear(&stream->flight);
        fail_write(stream, rc);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct stream *stream = req->data;
    if (status == 0)
        stream->taken_bytes += buf_len(&stream->flight);
    buf_clear(&stream->flight);
    buf_release(&stream->flight);
    if (stream->life == STREAM_GONE)
        return;
    if (status < 0)
        fail_write(stream, status);
    stream_mark(stream);
}

static void flush_clear(struct stream *stream)
{
    while (buf_len(&stream->flight) == 0 && stream->error == 0) {
        struct str bytes = buf_str(&stream->out);
        if (stream->tls_state == STREAM_TLS_WAITING)
            bytes.len = stream->clear_left;
        if (bytes.len == 0)
            return;
        ssize_t n = write_now(stream, bytes.p, bytes.len);
        if (n < 0)
            return;
        size_t done = (size_t)n;
        bytes = str_skip(bytes, done);
        if (bytes.len > 0) {
            size_t step = bytes.len < STREAM_STEP_BYTES ? bytes.len : STREAM_STEP_BYTES;
            write_later(stream, bytes.p, step);
            done += step;
        }
        if (stream->tls_state == STREAM_TLS_WAITING)
            stream->clear_left -= done;
        buf_consume(&stream->out, done);
    }
}

/* Encrypt a step of what is queued. @return false: nothing to encrypt, or it failed */
static bool encrypt_some(struct stream *stream)
{
    struct str bytes = buf_str(&stream->out);
    if (bytes.len == 0 || !stream_is_tls(stream))
        return false;
    size_t step = bytes.len < STREAM_STEP_BYTES ? bytes.len : STREAM_STEP_BYTES;
    if (tls_session_write(stream->tls, bytes.p, step) < 0) {
        buf_clear(&stream->out);
        stream->draining = false;
        end(stream, STREAM_END_TLS, tls_session_error(stream->tls));
        return false;
    }
    buf_consume(&stream->out, step);
    return true;
}

static void flush_tls(struct stream *stream)
{
    while (buf_len(&stream->flight) == 0 && stream->error == 0) {
        size_t len;
        const char *bytes = (const char *)tls_session_output(stream->tls, &len);
        if (len == 0) {
            if (!encrypt_some(stream))
                return;
            continue;
        }
        ssize_t n = write_now(stream, bytes, len);
        if (n < 0)
            return;
        if ((size_t)n < len)
            write_later(stream, bytes + n, len - (size_t)n);
        tls_session_output_consumed(stream->tls, len);
    }
}

static void flush(struct stream *stream)
{
    if (stream->error < 0)
        return;
    if (stream->tls_state == STREAM_TLS_OFF || stream->tls_state == STREAM_TLS_WAITING)
        flush_clear(stream);
    else
        flush_tls(stream);
    if (stream->life != STREAM_GONE)
        buf_release(&stream->out);
}

/* ---- TLS ---- */

static void end_tls(struct stream *stream)
{
    const char *text = tls_session_error(stream->tls);
    if (is_handshaking(stream) || stream->tls_state == STREAM_TLS_OPEN)
        stream->tls_state = STREAM_TLS_OVER;
    stream->peer_done = true;
    flush(stream); /* the alert that tells the peer why */
    end(stream, STREAM_END_TLS, text[0] != '\0' ? text : "TLS: the session failed");
}

/* Hand over what the session holds, until the owner pauses. */
static void deliver_plain(struct stream *stream)
{
    char *plain = stream_turn_plain_buffer(stream->turn);
    stream->behind = true;
    while (stream->life == STREAM_OPEN && !stream->paused) {
        if (buf_len(&stream->inbox) > 0) {
            struct buf inbox = stream->inbox;
            buf_init(&stream->inbox, STREAM_PLAIN_BYTES);
            stream->events->on_bytes(inbox.data + inbox.start, buf_len(&inbox), stream->ctx);
            buf_deinit(&inbox);
            continue;
        }
        long n = tls_session_read(stream->tls, plain, STREAM_PLAIN_BYTES);
        if (n > 0) {
            stream->events->on_bytes(plain, (size_t)n, stream->ctx);
        } else if (n == TLS_CLOSED) {
            stream->tls_state = STREAM_TLS_OVER;
            stream->peer_done = true;
            end(stream, STREAM_END_EOF, "the peer ended TLS");
        } else if (n == TLS_FAILED) {
            end_tls(stream);
        } else {
            stream->behind = false;
            break;
        }
    }
    size_t cipher_len;
    (void)tls_session_output(stream->tls, &cipher_len);
    if (cipher_len > CIPHER_BYTES_MAX)
        end(stream, STREAM_END_ERROR, "the peer does not read");
    if (cipher_len > 0)
        stream_mark(stream);
}

static void shake_hands(struct stream *stream)
{
    struct tls_verdict verdict;
    stream->shake_due = false;
    int rc = tls_session_handshake(stream->tls);
    stream_mark(stream);
    if (rc == TLS_AGAIN)
        return;
    if (rc < 0) {
        end_tls(stream);
        return;
    }
    stream->tls_state = STREAM_TLS_OPEN;
    if (stream->error == 0)
        uv_timer_stop(&stream->timer);
    tls_session_verdict(stream->tls, &verdict);
    if (stream->events->on_tls != NULL)
        stream->events->on_tls(&verdict, stream->ctx);
    deliver_plain(stream);
}

static void on_cipher(struct stream *stream, const char *bytes, size_t len)
{
    if (tls_session_feed(stream->tls, bytes, len) < 0) {
        end_tls(stream);
    } else if (stream->tls_state == STREAM_TLS_HANDSHAKE) {
        stream->shake_due = true;
        stream_mark(stream);
    } else {
        deliver_plain(stream);
    }
}

/* ---- reading ---- */

static bool may_read(const struct stream *stream)
{
    switch (stream->life) {
    case STREAM_OPEN: /* whose turn to shake hands has not come waits with what it has */
        return !stream->peer_done && !stream->shake_due &&
               (!stream->paused || is_handshaking(stream));
    case STREAM_CLOSING:
    case STREAM_SHUT:
        return !stream->peer_done;
    case STREAM_CONNECTING:
    case STREAM_HALF:
    case STREAM_BROKEN:
    case STREAM_GONE:
        return false;
    }
    unreachable_bug();
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct stream *stream = handle->data;
    (void)suggested;
    /* libuv reads on while the buffer comes back full: a pause must hold at once, although
     * uv_read_stop() waits for the end of the turn (a pause is often followed by a resume). */
    if (may_read(stream))
        *buf = uv_buf_init(stream_turn_read_buffer(stream->turn), (unsigned)STREAM_READ_BYTES);
    else
        *buf = uv_buf_init(NULL, 0);
}

static void on_read_end(struct stream *stream, int error)
{
    if (stream->shake_due && stream->life == STREAM_OPEN) {
        shake_hands(stream); /* what came before its end may say why */
        if (stream->life != STREAM_OPEN)
            return;
    }
    stream->reading = false;
    stream->peer_done = true;
    uv_read_stop((uv_stream_t *)&stream->tcp);
    if (stream->life == STREAM_CLOSING && error == UV_EOF)
        stream_mark(stream);
    else if (stream->life == STREAM_CLOSING || stream->life == STREAM_SHUT)
        stream_dispose(stream);
    else if (stream->error < 0)
        end(stream, STREAM_END_ERROR, uv_strerror(stream->error));
    else if (error != UV_EOF)
        end(stream, STREAM_END_ERROR, uv_strerror(error));
    else if (stream->tls_state == STREAM_TLS_OPEN)
        end(stream, STREAM_END_ERROR, "the peer closed the connection without close_notify");
    else
        end(stream, STREAM_END_EOF, "the peer closed the connection");
}

static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    struct stream *stream = tcp->data;
    if (n == 0 || n == UV_ENOBUFS)
        return;
    if (n < 0) {
        on_read_end(stream, (int)n);
        return;
    }
    if (stream->life != STREAM_OPEN)
        return; /* closing: only the FIN is of interest */
    switch (stream->tls_state) {
    case STREAM_TLS_OFF:
        stream->events->on_bytes(buf->base, (size_t)n, stream->ctx);
        return;
    case STREAM_TLS_HANDSHAKE:
    case STREAM_TLS_OPEN:
        on_cipher(stream, buf->base, (size_t)n);
        return;
    case STREAM_TLS_WAITING: /* sent before it can have seen our go-ahead: RFC 3207 section 4.2 */
    case STREAM_TLS_OVER:
        return;
    }
    unreachable_bug();
}

/* ---- the timer and the connect ---- */

static bool is_shortage(int error)
{
    return error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOBUFS || error == UV_ENOMEM;
}

void stream_on_timer(uv_timer_t *timer)
{
    struct stream *stream = timer->data;
    switch (stream->life) {
    case STREAM_CONNECTING:
        if (stream->error < 0)
            end(stream, is_shortage(stream->error) ? STREAM_END_SHORTAGE : STREAM_END_ERROR,
                uv_strerror(stream->error));
        else
            end(stream, STREAM_END_TIMEOUT, "connect timed out");
        return;
    case STREAM_OPEN:
        if (stream->error < 0)
            end(stream, STREAM_END_ERROR, uv_strerror(stream->error));
        else
            end(stream, STREAM_END_TIMEOUT, "TLS handshake timed out");
        return;
    case STREAM_CLOSING:
    case STREAM_SHUT:
        stream_dispose(stream);
        return;
    case STREAM_HALF:
    case STREAM_BROKEN:
    case STREAM_GONE:
        return;
    }
    unreachable_bug();
}

void stream_on_connect(uv_connect_t *req, int status)
{
    struct stream *stream = req->handle->data;
    if (stream->life != STREAM_CONNECTING)
        return;
    if (status < 0) {
        end(stream, STREAM_END_ERROR, uv_strerror(status));
        return;
    }
    stream->life = STREAM_OPEN;
    uv_timer_stop(&stream->timer);
    if (is_handshaking(stream))
        uv_timer_start(&stream->timer, stream_on_timer, stream->handshake_ms, 0);
    stream_learn_local(stream);
    stream_mark(stream);
    if (stream->events->on_open != NULL)
        stream->events->on_open(stream->ctx);
}

/* ---- the end of the turn ---- */

static void on_shut(uv_shutdown_t *req, int status)
{
    struct stream *stream = req->handle->data;
    if (stream->life == STREAM_SHUT && (status < 0 || stream->peer_done))
        stream_dispose(stream);
}

/* All that was queued is out: say goodbye, and wait for the peer to do the same. */
static void go_on_closing(struct stream *stream)
{
    if (stream->life != STREAM_CLOSING)
        return;
    if (stream->tls != NULL && stream_pending(stream) == 0) {
        tls_session_close(stream->tls);
        flush(stream);
    }
    if (stream->life != STREAM_CLOSING || stream_pending(stream) > 0)
        return;
    stream->life = STREAM_SHUT;
    if (uv_shutdown(&stream->req.shutdown, (uv_stream_t *)&stream->tcp, on_shut) < 0)
        stream_dispose(stream);
}

static void say_drained(struct stream *stream)
{
    if (!stream->draining || stream->life != STREAM_OPEN || stream_pending(stream) > 0)
        return;
    stream->draining = false;
    if (stream->events->on_drain != NULL)
        stream->events->on_drain(stream->ctx);
}

void stream_settle(struct stream *stream)
{
    if (stream->life == STREAM_CONNECTING || stream->life == STREAM_BROKEN ||
        stream->life == STREAM_GONE)
        return;
    if (stream->behind && !stream->paused && stream->tls_state == STREAM_TLS_OPEN)
        deliver_plain(stream);
    if (stream->shake_due && stream->life == STREAM_OPEN) {
        if (stream_turn_has_time(stream->turn))
            shake_hands(stream);
        else
            stream_mark(stream); /* the next turn */
    }
    flush(stream);
    if (stream->tls_state == STREAM_TLS_WAITING && stream->life == STREAM_OPEN &&
        stream->clear_left == 0 && buf_len(&stream->flight) == 0) {
        stream->tls_state = STREAM_TLS_HANDSHAKE;
        shake_hands(stream);
        flush(stream);
    }
    say_drained(stream);
    go_on_closing(stream);
    if (stream->life == STREAM_GONE)
        return;
    set_reading(stream, may_read(stream));
    if (stream->error < 0 && !stream->reading && !stream->shake_due)
        end(stream, STREAM_END_ERROR, uv_strerror(stream->error));
}
