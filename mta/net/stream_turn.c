/* mta/net/stream_turn.c - the end of a loop's turn. What streams were asked to do is done together:
 * before the loop waits (prepare: for timers) and after it served what came (check). One a thread,
 * made with the thread's first stream, gone with its last. */
#include <assert.h>
#include <stdlib.h>

#include "mta/net/stream_private.h"

TAILQ_HEAD(stream_list, stream);

/* Steps of handshakes at the end of a turn. Each may cost milliseconds of arithmetic, and when
 * thousands of clients come back at once, those that are in already must not wait for all of them.
 */
#define HANDSHAKES_A_TURN 4

struct stream_turn {
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* runs while streams wait: the loop must not sleep */
    struct stream_list dirty;
    size_t dirty_count;
    unsigned handshakes; /* worked on at this end of a turn */
    size_t streams;
    unsigned handles_open;
    char *read_buffer, *plain_buffer;
};

/* stream_open_count() and the turn have no other place: a loop belongs to one thread. */
static _Thread_local struct stream_turn *current;

static void settle_all(struct stream_turn *turn)
{
    turn->handshakes = 0;
    /* Those that become dirty meanwhile wait for the next turn: one busy stream starves nobody. */
    for (size_t n = turn->dirty_count; n > 0 && turn->dirty_count > 0; n--) {
        struct stream *stream = TAILQ_FIRST(&turn->dirty);
        stream_unmark(stream);
        stream_settle(stream);
    }
}

static void on_idle(uv_idle_t *idle)
{
    uv_idle_stop(idle);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct stream_turn *turn = prepare->data;
    settle_all(turn);
    if (turn->dirty_count > 0)
        uv_idle_start(&turn->idle, on_idle);
}

static void on_check(uv_check_t *check)
{
    settle_all(check->data);
}

static void on_close(uv_handle_t *handle)
{
    struct stream_turn *turn = handle->data;
    if (--turn->handles_open > 0)
        return;
    free(turn->read_buffer);
    free(turn->plain_buffer);
    free(turn);
}

static struct stream_turn *new_turn(uv_loop_t *loop)
{
    struct stream_turn *turn = mem_alloc(sizeof *turn);
    TAILQ_INIT(&turn->dirty);
    turn->read_buffer = mem_grow(NULL, STREAM_READ_BYTES);
    turn->plain_buffer = mem_grow(NULL, STREAM_PLAIN_BYTES);
    uv_prepare_init(loop, &turn->prepare);
    uv_check_init(loop, &turn->check);
    uv_idle_init(loop, &turn->idle);
    turn->prepare.data = turn;
    turn->check.data = turn;
    turn->idle.data = turn;
    turn->handles_open = 3;
    uv_prepare_start(&turn->prepare, on_prepare);
    uv_check_start(&turn->check, on_check);
    return turn;
}

struct stream_turn *stream_turn_join(uv_loop_t *loop)
{
    if (current == NULL)
        current = new_turn(loop);
    assert(current->prepare.loop == loop); /* one loop a thread */
    current->streams++;
    return current;
}

void stream_turn_leave(struct stream_turn *turn)
{
    assert(turn == current);
    if (--turn->streams > 0)
        return;
    current = NULL;
    uv_close((uv_handle_t *)&turn->prepare, on_close);
    uv_close((uv_handle_t *)&turn->check, on_close);
    uv_close((uv_handle_t *)&turn->idle, on_close);
}

void stream_mark(struct stream *stream)
{
    if (stream->dirty || stream->life == STREAM_GONE)
        return;
    stream->dirty = true;
    TAILQ_INSERT_TAIL(&stream->turn->dirty, stream, link);
    stream->turn->dirty_count++;
}

void stream_unmark(struct stream *stream)
{
    if (!stream->dirty)
        return;
    stream->dirty = false;
    TAILQ_REMOVE(&stream->turn->dirty, stream, link);
    stream->turn->dirty_count--;
}

bool stream_turn_has_time(struct stream_turn *turn)
{
    return ++turn->handshakes <= HANDSHAKES_A_TURN;
}

char *stream_turn_read_buffer(struct stream_turn *turn)
{
    return turn->read_buffer;
}

char *stream_turn_plain_buffer(struct stream_turn *turn)
{
    return turn->plain_buffer;
}

size_t stream_open_count(void)
{
    return current != NULL ? current->streams : 0;
}

/* ---- the end of all ---- */

#define DRAIN_LOOK_MS 5

struct drain {
    uv_timer_t timer;
    uint64_t until_ms;
    void (*done)(void *ctx);
    void *ctx;
};

/* The only TCP handles of these loops are streams. */
static void cut_closing(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (uv_handle_get_type(handle) != UV_TCP || uv_is_closing(handle))
        return;
    struct stream *stream = handle->data;
    if (stream->life == STREAM_CLOSING || stream->life == STREAM_SHUT)
        stream_dispose(stream);
}

static void on_drain_closed(uv_handle_t *handle)
{
    struct drain *drain = handle->data;
    drain->done(drain->ctx);
    free(drain);
}

static void on_drain_look(uv_timer_t *timer)
{
    struct drain *drain = timer->data;
    if (stream_open_count() == 0) {
        uv_close((uv_handle_t *)timer, on_drain_closed);
        return;
    }
    if (uv_now(timer->loop) >= drain->until_ms)
        uv_walk(timer->loop, cut_closing, NULL);
}

void stream_drain(uv_loop_t *loop, uint32_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    struct drain *drain = mem_alloc(sizeof *drain);
    uv_update_time(loop);
    drain->until_ms = uv_now(loop) + grace_ms;
    drain->done = done;
    drain->ctx = ctx;
    uv_timer_init(loop, &drain->timer);
    drain->timer.data = drain;
    uv_timer_start(&drain->timer, on_drain_look, 0, DRAIN_LOOK_MS);
}
