/* mta/deliver/feeder.c - draws units from the store into the scheduler: what an earlier run left
 * fresh, and what is due.
 *
 * On the first loop, in steps of a few ms. `next` is read in order of time up to now; a domain
 * found there is marked as having a backlog, and its `due` rows are drawn while its window has
 * room.
 *
 * `next` names only the earliest entry of a domain, and that of a unit in delivery stays there
 * until its outcome is recorded: what becomes due behind it is not seen by time alone. So while
 * units are in memory, and once more after the last of them, `next` is read from its beginning
 * every few seconds: a damaged record that is set aside leaves its entry in front of others until
 * then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/deliver_private.h"

#define FRESH_STEP       128
#define DUE_STEP         1024
#define PURGE_MS         60000
#define BLOCKED_PURGE_MS 1000 /* the next purge while there are too many domains in memory */
#define LONGEST_SLEEP_MS 60000
#define BUSY_MS          200  /* look again while the scheduler is full */
#define SWEEP_MS         2000 /* at least, between two readings of `next` from its beginning */
#define SWEEP_SHARE      20   /* of the time at most one in so many goes into it */
#define RECOVER_MS       10000
#define FRESH_AGAIN_MS   600000 /* nothing should be found then; a lost unit would be */

struct feeder {
    struct deliver *deliver;
    struct loop *loop;
    uv_timer_t timer;
    uint64_t boundary; /* ids from here on are offered by the accepting commit itself */
    uint64_t fresh_from;
    bool fresh_done;
    int64_t position_ms; /* in `next`: all before was seen */
    enum queue_lane position_lane;
    char position[QUEUE_DOMAIN_MAX + 1];
    uint64_t purge_at_ms;
    uint64_t swept_from_ms; /* monotonic: when this reading from the beginning was begun, */
    uint64_t sweep_at_ms;   /* and the next is due; 0: while one is under way */
    bool sweep_owed;        /* units have been in memory since the last one began */
    uint64_t fresh_at_ms;   /* when `fresh` is read anew */
    pthread_mutex_t lock;   /* stopped: no post to a loop that may be gone */
    bool stopped;           /* changed on the loop only */
    atomic_bool posted;
    atomic_bool recover;              /* units were forgotten */
    atomic_bool look_again;           /* domains before the position have due work */
    _Atomic int64_t awake_at_unix_ms; /* when the timer fires, by the wall clock */
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

/* ---- fresh ---- */

static bool offer_fresh(struct feeder *feeder, uint64_t id)
{
    struct deliver *deliver = feeder->deliver;
    struct queue_message *message = NULL;
    int rc = queue_read_message(deliver->queue, id, &message);
    if (rc == QUEUE_ERR_IO)
        return false;
    if (rc != 0)
        return true; /* gone or set aside */
    const struct queue_envelope *envelope = queue_message_envelope(message);
    for (size_t i = 0; i < envelope->unit_count; i++) {
        const struct queue_unit *unit = &envelope->units[i];
        if (unit->done || unit->held || unit->due_unix_ms != 0)
            continue;
        if (scheduler_offer(deliver->scheduler, id, (uint16_t)i, unit->domain) == OFFER_FULL)
            queue_park(deliver->queue, id, (uint16_t)i, time_wall_ms());
    }
    queue_message_free(&message);
    return true;
}

/* @return true: more at once */
static bool draw_fresh(struct feeder *feeder)
{
    uint64_t ids[FRESH_STEP];
    if (feeder->fresh_done || !scheduler_has_room(feeder->deliver->scheduler))
        return false;
    long count = queue_read_fresh(feeder->deliver->queue, feeder->fresh_from, ids, FRESH_STEP);
    if (count < 0)
        return false;
    for (long i = 0; i < count; i++) {
        if (ids[i] >= feeder->boundary) {
            feeder->fresh_done = true;
            return false;
        }
        if (!offer_fresh(feeder, ids[i]))
            return false;
        feeder->fresh_from = ids[i] + 1;
    }
    feeder->fresh_done = count < FRESH_STEP;
    return !feeder->fresh_done;
}

/* ---- due ---- */

struct next_walk {
    struct feeder *feeder;
    size_t left;
    bool blocked;
};

static bool on_next(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx)
{
    struct next_walk *walk = ctx;
    struct feeder *feeder = walk->feeder;
    walk->blocked = !scheduler_mark_backlog(feeder->deliver->scheduler, domain);
    if (walk->blocked)
        return false;
    feeder->position_ms = due_unix_ms;
    feeder->position_lane = lane;
    snprintf(feeder->position, sizeof feeder->position, "%s", domain);
    return --walk->left > 0;
}

/* @return true: more at once. *blocked_out: too many domains in memory, look again soon */
static bool find_domains(struct feeder *feeder, int64_t now, bool *blocked_out)
{
    struct next_walk walk = {feeder, DUE_STEP, false};
    int rc = queue_read_next(feeder->deliver->queue, feeder->position_ms, feeder->position_lane,
                             feeder->position, now, on_next, &walk);
    *blocked_out = walk.blocked || rc < 0;
    return rc == 0 && walk.left == 0;
}

struct due_walk {
    struct feeder *feeder;
    const char *domain;
    size_t left;
    bool full, taken;
};

static bool on_due(int64_t due_unix_ms, uint64_t id, uint16_t unit, void *ctx)
{
    struct due_walk *walk = ctx;
    (void)due_unix_ms;
    enum offer offer = scheduler_offer(walk->feeder->deliver->scheduler, id, unit, walk->domain);
    walk->full = offer == OFFER_FULL || offer == OFFER_STOPPED;
    walk->taken = walk->taken || offer == OFFER_TAKEN;
    walk->feeder->sweep_owed = walk->feeder->sweep_owed || offer == OFFER_TAKEN;
    return !walk->full && --walk->left > 0;
}

/* Half a window of one lane. *more_out: there is, or may be, more of it. */
static int draw_lane(struct feeder *feeder, const char *domain, enum queue_lane lane, int64_t now,
                     bool *more_out, bool *taken_out)
{
    struct due_walk walk = {feeder, domain, SCHEDULER_WINDOW_MAX / 2, false, false};
    int rc = queue_read_due(feeder->deliver->queue, domain, lane, now, on_due, &walk, NULL);
    *more_out = *more_out || walk.full || walk.left == 0;
    *taken_out = *taken_out || walk.taken;
    return rc;
}

/* Draw one domain's due units. @return true: more at once */
static bool draw_domain(struct feeder *feeder, int64_t now)
{
    char domain[QUEUE_DOMAIN_MAX + 1];
    struct scheduler *scheduler = feeder->deliver->scheduler;
    if (!scheduler_next_backlog(scheduler, domain, sizeof domain))
        return false;
    bool more = false;
    bool taken = false;
    int rc = draw_lane(feeder, domain, QUEUE_LANE_NEW, now, &more, &taken);
    if (rc == 0)
        rc = draw_lane(feeder, domain, QUEUE_LANE_RETRY, now, &more, &taken);
    if (rc < 0 || more) {
        bool marked = scheduler_mark_backlog(scheduler, domain);
        return marked && rc == 0 && taken; /* others may have room where this one is full */
    }
    scheduler_drawn(scheduler, domain, now);
    return true;
}

struct first_next {
    int64_t due_unix_ms;
};

static bool take_first(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx)
{
    (void)lane;
    (void)domain;
    ((struct first_next *)ctx)->due_unix_ms = due_unix_ms;
    return false;
}

static uint64_t until_next_due(struct feeder *feeder, int64_t now)
{
    struct first_next first = {QUEUE_NEVER};
    int rc = queue_read_next(feeder->deliver->queue, feeder->position_ms, feeder->position_lane,
                             feeder->position, QUEUE_NEVER, take_first, &first);
    if (rc < 0 || first.due_unix_ms == QUEUE_NEVER || first.due_unix_ms - now > LONGEST_SLEEP_MS)
        return LONGEST_SLEEP_MS;
    return first.due_unix_ms > now ? (uint64_t)(first.due_unix_ms - now) + 1 : 1;
}

static void begin_sweep(struct feeder *feeder, uint64_t now_ms)
{
    feeder->position_ms = 0;
    feeder->position[0] = '\0';
    feeder->swept_from_ms = now_ms;
    feeder->sweep_at_ms = 0;
    feeder->sweep_owed = false;
}

static void read_fresh_anew(struct feeder *feeder, uint64_t now_ms)
{
    feeder->fresh_from = 0;
    feeder->fresh_done = false;
    feeder->boundary = UINT64_MAX;
    feeder->fresh_at_ms = now_ms + FRESH_AGAIN_MS;
}

/* What is to be begun from the beginning at this time. */
static void restart_what_is_due(struct feeder *feeder, int64_t now, uint64_t now_ms)
{
    if (feeder->fresh_at_ms == 0)
        feeder->fresh_at_ms = now_ms + FRESH_AGAIN_MS;
    if (atomic_exchange(&feeder->recover, false) && feeder->fresh_at_ms > now_ms + RECOVER_MS)
        feeder->fresh_at_ms = now_ms + RECOVER_MS;
    bool anew = now_ms >= feeder->fresh_at_ms;
    if (anew)
        read_fresh_anew(feeder, now_ms);
    bool sweep = feeder->sweep_owed && feeder->sweep_at_ms != 0 && now_ms >= feeder->sweep_at_ms;
    bool clock_went_back = now < feeder->position_ms;
    if (atomic_exchange(&feeder->look_again, false) || anew || sweep || clock_went_back)
        begin_sweep(feeder, now_ms);
}

static void end_sweep(struct feeder *feeder)
{
    if (feeder->sweep_at_ms != 0)
        return;
    uint64_t now_ms = time_monotonic_ms();
    uint64_t pause_ms = (now_ms - feeder->swept_from_ms) * SWEEP_SHARE;
    feeder->sweep_at_ms = now_ms + (pause_ms > SWEEP_MS ? pause_ms : SWEEP_MS);
}

static uint64_t until_next_step(struct feeder *feeder, int64_t now)
{
    uint64_t sleep_ms = until_next_due(feeder, now);
    uint64_t now_ms = time_monotonic_ms();
    uint64_t at_ms = feeder->fresh_at_ms;
    if (feeder->sweep_owed && feeder->sweep_at_ms < at_ms)
        at_ms = feeder->sweep_at_ms;
    uint64_t left_ms = at_ms > now_ms ? at_ms - now_ms : 1;
    return left_ms < sleep_ms ? left_ms : sleep_ms;
}

static void step(struct feeder *feeder)
{
    if (feeder->stopped)
        return;
    /* What is inserted from here on may be missed by this step: it has to wake the next. */
    atomic_store(&feeder->awake_at_unix_ms, INT64_MAX);
    int64_t now = time_wall_ms();
    uint64_t now_ms = time_monotonic_ms();
    if (now_ms >= feeder->purge_at_ms) {
        scheduler_purge(feeder->deliver->scheduler, now_ms);
        feeder->purge_at_ms = now_ms + PURGE_MS;
    }
    restart_what_is_due(feeder, now, now_ms);
    bool blocked = false;
    bool more = draw_fresh(feeder);
    more = find_domains(feeder, now, &blocked) || more;
    more = draw_domain(feeder, now) || more;
    if (blocked && feeder->purge_at_ms > now_ms + BLOCKED_PURGE_MS)
        feeder->purge_at_ms = now_ms + BLOCKED_PURGE_MS;
    feeder->sweep_owed = feeder->sweep_owed || !scheduler_is_empty(feeder->deliver->scheduler);
    if (more) {
        sleep_for(feeder, 0);
        return;
    }
    end_sweep(feeder);
    if (!feeder->fresh_done || blocked)
        sleep_for(feeder, BUSY_MS);
    else
        sleep_for(feeder, until_next_step(feeder, now));
}

static void wake_on_loop(struct loop *loop, void *arg)
{
    struct feeder *feeder = arg;
    (void)loop;
    atomic_store(&feeder->posted, false);
    step(feeder);
}

void feeder_expect(struct feeder *feeder, int64_t due_unix_ms)
{
    if (due_unix_ms < atomic_load(&feeder->awake_at_unix_ms))
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

void feeder_wake(struct feeder *feeder)
{
    pthread_mutex_lock(&feeder->lock);
    if (!feeder->stopped && !atomic_exchange(&feeder->posted, true) &&
        !loop_post(feeder->loop, wake_on_loop, feeder))
        atomic_store(&feeder->posted, false);
    pthread_mutex_unlock(&feeder->lock);
}

static void start_on_loop(struct loop *loop, void *arg)
{
    struct feeder *feeder = arg;
    uv_timer_init(loop_uv(loop), &feeder->timer);
    feeder->timer.data = feeder;
    begin_sweep(feeder, time_monotonic_ms());
    step(feeder);
}

struct feeder *feeder_new(struct deliver *deliver, struct loop *loop, uint64_t boundary)
{
    struct feeder *feeder = mem_alloc(sizeof *feeder);
    feeder->deliver = deliver;
    feeder->loop = loop;
    feeder->boundary = boundary;
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
