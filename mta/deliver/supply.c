/* mta/deliver/supply.c - drawing from the store's order of work. See supply.h. */
#include "mta/deliver/supply.h"

#include <stdio.h>

#define NEXT_STEP 1024 /* rows of `next` a step */
#define DRAW_STEP 512  /* units a draw takes: then it is the next domain's turn */
#define SEEN_STEP 4096 /* rows it passes, whether in memory already or not */

void supply_init(struct supply *supply, struct scheduler *scheduler,
                 const struct supply_source *source)
{
    *supply = (struct supply){.scheduler = scheduler, .source = *source};
    supply_again(supply);
}

static void begin_at(struct supply_position *position, int64_t ms)
{
    *position = (struct supply_position){.ms = ms, .begins = true};
}

void supply_again(struct supply *supply)
{
    scheduler_doubt(supply->scheduler);
    begin_at(&supply->near, 0);
    begin_at(&supply->far, 0);
    supply->far_done = false;
}

void supply_look_from(struct supply *supply, int64_t due_unix_ms)
{
    if (due_unix_ms <= supply->near.ms)
        begin_at(&supply->near, due_unix_ms);
}

/* ---- which domains have work ---- */

struct next_walk {
    struct supply *supply;
    struct supply_position *position;
    size_t left;
};

static bool on_next(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx)
{
    struct next_walk *walk = ctx;
    if (!scheduler_mark(walk->supply->scheduler, domain, lane, due_unix_ms)) {
        walk->supply->blocked = true;
        return false;
    }
    walk->position->ms = due_unix_ms;
    walk->position->lane = lane;
    walk->position->begins = false;
    snprintf(walk->position->domain, sizeof walk->position->domain, "%s", domain);
    return --walk->left > 0;
}

/* @return true: the end was reached */
static bool find_domains(struct supply *supply, struct supply_position *position, int64_t until_ms,
                         bool *more)
{
    struct next_walk walk = {supply, position, NEXT_STEP};
    int rc = supply->source.read_next(supply->source.queue, position->ms, position->lane,
                                      position->begins ? NULL : position->domain, until_ms, on_next,
                                      &walk);
    supply->failed = supply->failed || rc < 0;
    *more = *more || (rc == 0 && walk.left == 0);
    return rc == 0 && walk.left > 0 && !supply->blocked;
}

static void look_into_next(struct supply *supply, int64_t now, int64_t horizon, bool *more)
{
    if (find_domains(supply, &supply->near, now, more) && now < QUEUE_NEVER)
        begin_at(&supply->near, now + 1);
    if (supply->far_done || horizon == QUEUE_NEVER)
        return;
    if (supply->far.ms <= horizon)
        begin_at(&supply->far, horizon + 1);
    supply->far_done = find_domains(supply, &supply->far, QUEUE_NEVER, more);
}

/* ---- drawing ---- */

struct due_walk {
    struct supply *supply;
    struct draw *draw;
    size_t seen;
    int64_t first_ms, stopped_at_ms;
};

static bool on_due(const struct queue_due_entry *entry, void *ctx)
{
    struct due_walk *walk = ctx;
    int64_t due_unix_ms = entry->due_unix_ms;
    if (walk->seen == 0)
        walk->first_ms = due_unix_ms;
    /* Rows of one time are read in one go, or a draw that begins with them would never pass. */
    bool enough = walk->seen >= SEEN_STEP && due_unix_ms > walk->first_ms;
    if (walk->draw->taken >= DRAW_STEP || enough) {
        walk->stopped_at_ms = due_unix_ms;
        return false;
    }
    walk->seen++;
    enum offer offer = scheduler_draw_unit(walk->supply->scheduler, walk->draw, entry);
    if (offer != OFFER_FULL && offer != OFFER_STOPPED)
        return true;
    walk->stopped_at_ms = due_unix_ms;
    return false;
}

/* @return false: nothing was to be drawn */
static bool draw_one(struct supply *supply, int64_t now, int64_t horizon)
{
    struct draw draw;
    int64_t later = QUEUE_NEVER;
    if (!scheduler_next_draw(supply->scheduler, &draw))
        return false;
    struct due_walk walk = {.supply = supply, .draw = &draw, .stopped_at_ms = QUEUE_NEVER};
    int rc = supply->source.read_due(
        supply->source.queue, draw.domain, draw.lane, draw.from_unix_ms,
        draw.from_unix_ms > horizon ? QUEUE_NEVER : now, on_due, &walk, &later);
    if (walk.stopped_at_ms < later)
        later = walk.stopped_at_ms;
    if (rc < 0) {
        supply->failed = true;
        later = draw.from_unix_ms;
    }
    scheduler_drawn(supply->scheduler, &draw, later);
    return rc >= 0;
}

bool supply_step(struct supply *supply, int64_t now_unix_ms, int64_t horizon_unix_ms)
{
    bool more = false;
    supply->blocked = supply->failed = false;
    scheduler_set_time(supply->scheduler, now_unix_ms, horizon_unix_ms);
    look_into_next(supply, now_unix_ms, horizon_unix_ms, &more);
    return draw_one(supply, now_unix_ms, horizon_unix_ms) || more;
}

static bool take_first(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx)
{
    (void)lane;
    (void)domain;
    *(int64_t *)ctx = due_unix_ms;
    return false;
}

int64_t supply_next(struct supply *supply)
{
    int64_t in_store = QUEUE_NEVER;
    int64_t in_memory = scheduler_next_due(supply->scheduler);
    const struct supply_position *near = &supply->near;
    if (supply->blocked) /* what stands there is due, and waits for room */
        return in_memory;
    int rc = supply->source.read_next(supply->source.queue, near->ms, near->lane,
                                      near->begins ? NULL : near->domain, QUEUE_NEVER, take_first,
                                      &in_store);
    supply->failed = supply->failed || rc < 0;
    return in_store < in_memory ? in_store : in_memory;
}
