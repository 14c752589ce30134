/* mta/control/metrics_health.c - can mail be accepted and delivered just now? Each loop is asked
 * every second for a sign of life; the writer's is in the queue's own figures. */
#include <stdlib.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

static void beat_init(struct beat *beat)
{
    beat->asked_ms = time_monotonic_ms();
    beat->lag_ms = 0;
    atomic_init(&beat->answered_ms, beat->asked_ms);
}

void health_init(struct health *health, const struct metrics_options *options,
                 uv_async_t *main_async)
{
    health->options = options;
    health->main_async = main_async;
    health->last_ms = time_monotonic_ms();
    main_async->data = &health->main_beat;
    beat_init(&health->main_beat);
    health->loop_beats = mem_alloc((options->loop_count + 1) * sizeof *health->loop_beats);
    for (size_t i = 0; i < options->loop_count; i++)
        beat_init(&health->loop_beats[i]);
}

void health_deinit(struct health *health)
{
    free(health->loop_beats);
    health->loop_beats = NULL;
}

void health_answer(struct beat *beat)
{
    atomic_store(&beat->answered_ms, time_monotonic_ms());
}

static void on_loop(struct loop *loop, void *arg)
{
    (void)loop;
    health_answer(arg);
}

static bool is_answered(const struct beat *beat)
{
    return atomic_load(&beat->answered_ms) >= beat->asked_ms;
}

/* @return is it time for another question? Slept: we were not running ourselves (stopped, or the
 * machine was), so nobody else is to blame. */
static bool begin(struct beat *beat, uint64_t now_ms, bool slept)
{
    if (!is_answered(beat)) {
        if (slept)
            beat->asked_ms = now_ms;
        return false;
    }
    beat->lag_ms = atomic_load(&beat->answered_ms) - beat->asked_ms;
    beat->asked_ms = now_ms;
    return true;
}

void health_ask(struct health *health, uint64_t now_ms)
{
    const struct metrics_options *options = health->options;
    if (now_ms - health->last_ms < METRICS_BEAT_MS)
        return;
    bool slept = now_ms - health->last_ms > METRICS_BEAT_MS + options->stuck_ms / 2;
    health->last_ms = now_ms;
    if (begin(&health->main_beat, now_ms, slept))
        uv_async_send(health->main_async);
    for (size_t i = 0; i < options->loop_count; i++) {
        struct beat *beat = &health->loop_beats[i];
        if (begin(beat, now_ms, slept) && !loop_post(options->loops[i], on_loop, beat))
            health_answer(beat); /* it has ended in good order */
    }
}

uint64_t health_lag_ms(const struct beat *beat, uint64_t now_ms)
{
    if (is_answered(beat) || now_ms < beat->asked_ms)
        return beat->lag_ms;
    uint64_t waiting_ms = now_ms - beat->asked_ms;
    return waiting_ms > beat->lag_ms ? waiting_ms : beat->lag_ms;
}

static bool is_stuck(const struct health *health, const struct beat *beat, uint64_t now_ms)
{
    return !is_answered(beat) && now_ms > beat->asked_ms &&
           now_ms - beat->asked_ms > health->options->stuck_ms;
}

size_t health_reasons(const struct health *health, const struct queue_metrics *queue,
                      const struct metrics_parts *parts, uint64_t now_ms,
                      const char *reasons_out[METRICS_REASONS_MAX])
{
    size_t count = 0;
    bool loop_stuck = false;
    for (size_t i = 0; i < health->options->loop_count; i++)
        loop_stuck = loop_stuck || is_stuck(health, &health->loop_beats[i], now_ms);
    if (parts->stopping)
        reasons_out[count++] = "shutting down";
    if (queue->broken)
        reasons_out[count++] = "the store of the queue is broken";
    if (queue->full || queue_is_full(health->options->queue, METRICS_MAIL_BYTES))
        reasons_out[count++] = "the queue is full";
    if (queue->busy_ms > health->options->stuck_ms)
        reasons_out[count++] = "the writer of the queue is stuck";
    if (is_stuck(health, &health->main_beat, now_ms))
        reasons_out[count++] = "the main loop is stuck";
    if (loop_stuck)
        reasons_out[count++] = "a loop that carries mail is stuck";
    return count;
}
