/* mta/deliver/feeder.c - brings units from the store to the scheduler: what an earlier run left
 * fresh, and what is due (supply.c says what). On the first loop, in steps of a few ms.
 *
 * A fresh unit that finds no room in memory is parked: it enters the store's order of work. Only so
 * many parkings are with the writer at a time; while they are, further units stay in `fresh`, from
 * which they are offered again. */
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/time.h"
#include "mta/deliver/deliver_private.h"
#include "mta/deliver/supply.h"

#define FRESH_STEP       64
#define PARKING_MAX      256
#define LONGEST_SLEEP_MS 5000 /* so soon a step of the clock is seen */
#define BUSY_MS          200  /* look again while a domain finds no room, or after a failure */
#define TIDY_MS          1000
#define RECOVER_MS       10000
#define AGAIN_MS         600000 /* nothing should be found then; a lost unit would be */

struct feeder {
    struct deliver *deliver;
    struct loop *loop;
    uv_timer_t timer;
    struct supply supply;
    uint64_t boundary;   /* ids from here on are offered by the accepting commit itself */
    uint64_t fresh_from; /* ids before have been offered */
    bool fresh_done;
    uint64_t tidy_at_ms, again_at_ms; /* monotonic */
    pthread_mutex_t lock;             /* of the next four */
    bool stopped;                     /* no post to a loop that may be gone */
    bool posted;
    size_t parking;         /* with the writer */
    uint64_t left_in_fresh; /* the first id that could be neither offered nor parked */
    atomic_bool recover, look_again;
    _Atomic int64_t look_from_unix_ms; /* a due entry found no room; QUEUE_NEVER: none did */
    _Atomic int64_t awake_at_unix_ms;  /* when the timer fires, by the wall clock */
};

static void step(struct feeder *feeder);

static void on_timer(uv_timer_t *timer)
{
    step(timer->data);
}

static void sleep_for(struct feeder *feeder, uint64_t ms)
{
    atomic_store(&feeder->awake_at_unix_ms, time_wall_ms() + (int64_t)ms);
    uv_timer_start(&feeder->timer, on_timer, ms, 0);
}

/* ---- parking ---- */

static void on_parked(int result, void *ctx)
{
    struct feeder *feeder = ctx;
    pthread_mutex_lock(&feeder->lock);
    feeder->parking--;
    bool wake = feeder->parking == PARKING_MAX / 2 || feeder->parking == 0;
    pthread_mutex_unlock(&feeder->lock);
    if (result != QUEUE_OK && result != QUEUE_ERR_CLOSED)
        feeder_recover(feeder);
    else if (wake)
        feeder_wake(feeder);
}

/* @return false: too many are under way */
static bool park(struct feeder *feeder, uint64_t id, uint16_t unit)
{
    pthread_mutex_lock(&feeder->lock);
    bool room = feeder->parking < PARKING_MAX;
    if (room && !feeder->stopped) {
        feeder->parking++;
        queue_park(feeder->deliver->queue, feeder->deliver->workers[0].port, id, unit,
                   time_wall_ms(), on_parked, feeder);
    }
    if (!room && id < feeder->left_in_fresh)
        feeder->left_in_fresh = id;
    pthread_mutex_unlock(&feeder->lock);
    return room;
}

void feeder_park(struct feeder *feeder, uint64_t id, uint16_t unit)
{
    bool parked = park(feeder, id, unit);
    (void)parked; /* if not, it is left in `fresh`, and noted */
}

/* ---- fresh ---- */

enum fresh_offer { FRESH_DONE, FRESH_FAILED, FRESH_WAITS };

static enum fresh_offer offer_fresh(struct feeder *feeder, uint64_t id)
{
    struct deliver *deliver = feeder->deliver;
    struct queue_message *message = NULL;
    enum fresh_offer result = FRESH_DONE;
    int rc = queue_read_message(deliver->queue, id, &message);
    if (rc == QUEUE_ERR_IO)
        return FRESH_FAILED;
    if (rc != 0)
        return FRESH_DONE; /* gone or set aside */
    const struct queue_envelope *envelope = queue_message_envelope(message);
    for (size_t i = 0; i < envelope->unit_count && result == FRESH_DONE; i++) {
        const struct queue_unit *unit = &envelope->units[i];
        if (unit->done || unit->held || unit->due_unix_ms != 0)
            continue;
        if (scheduler_offer(deliver->scheduler, id, (uint16_t)i, unit->domain) == OFFER_FULL &&
            !park(feeder, id, (uint16_t)i))
            result = FRESH_WAITS;
    }
    queue_message_free(&message);
    return result;
}

/* What was left in `fresh` since it was last read through is read once more. */
static void return_to_left(struct feeder *feeder)
{
    pthread_mutex_lock(&feeder->lock);
    if (feeder->fresh_done && feeder->left_in_fresh != UINT64_MAX &&
        feeder->parking <= PARKING_MAX / 2) {
        feeder->fresh_from = feeder->left_in_fresh;
        feeder->left_in_fresh = UINT64_MAX;
        feeder->boundary = UINT64_MAX;
        feeder->fresh_done = false;
    }
    pthread_mutex_unlock(&feeder->lock);
}

/* @return true: more at once */
static bool draw_fresh(struct feeder *feeder)
{
    uint64_t ids[FRESH_STEP];
    return_to_left(feeder);
    if (feeder->fresh_done)
        return false;
    long count = queue_read_fresh(feeder->deliver->queue, feeder->fresh_from, ids, FRESH_STEP);
    if (count < 0) {
        feeder->supply.failed = true;
        return false;
    }
    for (long i = 0; i < count; i++) {
        if (ids[i] >= feeder->boundary) {
            feeder->fresh_done = true;
            return false;
        }
        enum fresh_offer offer = offer_fresh(feeder, ids[i]);
        feeder->supply.failed = feeder->supply.failed || offer == FRESH_FAILED;
        if (offer != FRESH_DONE)
            return false; /* the next parking that is done wakes us */
        feeder->fresh_from = ids[i] + 1;
    }
    feeder->fresh_done = count < FRESH_STEP;
    return !feeder->fresh_done;
}

/* ---- the step ---- */

void feeder_notice_clock(struct feeder *feeder)
{
    int64_t step_ms = clock_check(&feeder->deliver->clock);
    if (step_ms == 0)
        return;
    log_event(feeder->deliver->log, LOG_LEVEL_WARNING, "queue",
              LOG_T("text", step_ms > 0 ? "the clock was set forward: what has become due by that "
                                          "is tried bit by bit; nothing expires before it was tried"
                                        : "the clock was set back: what would now be due too late "
                                          "is tried bit by bit"),
              LOG_SECONDS("seconds", step_ms));
    feeder_look_again(feeder);
}

static void read_all_anew(struct feeder *feeder, uint64_t now_ms)
{
    feeder->fresh_from = 0;
    feeder->fresh_done = false;
    feeder->boundary = UINT64_MAX;
    feeder->again_at_ms = now_ms + AGAIN_MS;
    supply_again(&feeder->supply);
}

static void take_requests(struct feeder *feeder, uint64_t now_ms)
{
    feeder_notice_clock(feeder);
    if (atomic_exchange(&feeder->recover, false) && feeder->again_at_ms > now_ms + RECOVER_MS)
        feeder->again_at_ms = now_ms + RECOVER_MS;
    if (now_ms >= feeder->again_at_ms)
        read_all_anew(feeder, now_ms);
    if (atomic_exchange(&feeder->look_again, false))
        supply_again(&feeder->supply);
    int64_t from = atomic_exchange(&feeder->look_from_unix_ms, QUEUE_NEVER);
    if (from != QUEUE_NEVER)
        supply_look_from(&feeder->supply, from);
    if (now_ms >= feeder->tidy_at_ms) {
        scheduler_tidy(feeder->deliver->scheduler);
        feeder->tidy_at_ms = now_ms + TIDY_MS;
    }
}

static uint64_t until_next_step(struct feeder *feeder, int64_t now, uint64_t now_ms)
{
    int64_t next = supply_next(&feeder->supply);
    uint64_t left_ms = feeder->again_at_ms > now_ms ? feeder->again_at_ms - now_ms : 1;
    uint64_t most_ms = left_ms < LONGEST_SLEEP_MS ? left_ms : LONGEST_SLEEP_MS;
    if ((feeder->supply.blocked || feeder->supply.failed) && most_ms > BUSY_MS)
        most_ms = BUSY_MS;
    if (next <= now)
        return 1;
    return next - now < (int64_t)most_ms ? (uint64_t)(next - now) : most_ms;
}

static void step(struct feeder *feeder)
{
    if (feeder->stopped)
        return;
    /* What comes from here on may be missed by this step: it has to wake the next. */
    atomic_store(&feeder->awake_at_unix_ms, INT64_MAX);
    int64_t now = time_wall_ms();
    uint64_t now_ms = time_monotonic_ms();
    take_requests(feeder, now_ms);
    settle_changed(feeder->deliver);
    bool more = supply_step(&feeder->supply, now, deliver_horizon(feeder->deliver, now));
    more = draw_fresh(feeder) || more;
    sleep_for(feeder, more ? 0 : until_next_step(feeder, now, now_ms));
}

/* ---- waking ---- */

static void wake_on_loop(struct loop *loop, void *arg)
{
    struct feeder *feeder = arg;
    (void)loop;
    pthread_mutex_lock(&feeder->lock);
    feeder->posted = false;
    pthread_mutex_unlock(&feeder->lock);
    step(feeder);
}

void feeder_wake(struct feeder *feeder)
{
    pthread_mutex_lock(&feeder->lock);
    if (!feeder->stopped && !feeder->posted)
        feeder->posted = loop_post(feeder->loop, wake_on_loop, feeder);
    pthread_mutex_unlock(&feeder->lock);
}

void feeder_expect(struct feeder *feeder, int64_t due_unix_ms, bool unplaced)
{
    int64_t from = atomic_load(&feeder->look_from_unix_ms);
    while (unplaced && due_unix_ms < from &&
           !atomic_compare_exchange_weak(&feeder->look_from_unix_ms, &from, due_unix_ms))
        continue;
    if (unplaced || due_unix_ms < atomic_load(&feeder->awake_at_unix_ms))
        feeder_wake(feeder);
}

void feeder_look_again(struct feeder *feeder)
{
    atomic_store(&feeder->look_again, true);
    feeder_wake(feeder);
}

void feeder_recover(struct feeder *feeder)
{
    atomic_store(&feeder->recover, true);
    feeder_wake(feeder);
}

/* ---- life ---- */

static int read_next(void *queue, int64_t after_ms, enum queue_lane after_lane,
                     const char *after_domain, int64_t until_ms, queue_next_fn fn, void *ctx)
{
    return queue_read_next(queue, after_ms, after_lane, after_domain, until_ms, fn, ctx);
}

/* NOLINTNEXTLINE(readability-function-size): the parameters of queue_draw_due */
static int read_due(void *queue, const char *domain, enum queue_lane lane, int64_t from_ms,
                    int64_t until_ms, queue_draw_fn fn, void *ctx, int64_t *later_out)
{
    return queue_draw_due(queue, domain, lane, from_ms, until_ms, fn, ctx, later_out);
}

static void start_on_loop(struct loop *loop, void *arg)
{
    struct feeder *feeder = arg;
    struct supply_source source = {read_next, read_due, feeder->deliver->queue};
    uv_timer_init(loop_uv(loop), &feeder->timer);
    feeder->timer.data = feeder;
    feeder->again_at_ms = time_monotonic_ms() + AGAIN_MS;
    supply_init(&feeder->supply, feeder->deliver->scheduler, &source);
    step(feeder);
}

struct feeder *feeder_new(struct deliver *deliver, struct loop *loop, uint64_t boundary)
{
    struct feeder *feeder = mem_alloc(sizeof *feeder);
    feeder->deliver = deliver;
    feeder->loop = loop;
    feeder->boundary = boundary;
    feeder->left_in_fresh = UINT64_MAX;
    atomic_store(&feeder->look_from_unix_ms, QUEUE_NEVER);
    pthread_mutex_init(&feeder->lock, NULL);
    return feeder;
}

void feeder_start(struct feeder *feeder)
{
    bool posted = loop_post(feeder->loop, start_on_loop, feeder);
    (void)posted; /* the loops run: deliver_start has just used them */
}

void feeder_stop(struct feeder *feeder)
{
    if (feeder->stopped)
        return;
    pthread_mutex_lock(&feeder->lock);
    feeder->stopped = true;
    pthread_mutex_unlock(&feeder->lock);
    uv_timer_stop(&feeder->timer);
    uv_close((uv_handle_t *)&feeder->timer, NULL);
}

void feeder_free(struct feeder **feederp)
{
    if (*feederp == NULL)
        return;
    pthread_mutex_destroy(&(*feederp)->lock);
    free(*feederp);
    *feederp = NULL;
}
