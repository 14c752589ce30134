/* mta/deliver/supply.h - what the store has for the scheduler, and when. Pure: it reads the order
 * of work through functions it is given, and no clock. One thread.
 *
 * Promise: whatever is due in the store is in the scheduler, or will be drawn as soon as there is
 * room. A domain that the scheduler does not know has no entry before the position reached in
 * `next`; of one that it knows, it knows the earliest entry that is not in memory. Entries beyond
 * the horizon cannot be meant (the clock went back since): they count as due. */
#ifndef MTA_DELIVER_SUPPLY_H
#define MTA_DELIVER_SUPPLY_H

#include "mta/deliver/scheduler.h"

/* The functions of queue.h, which tests replace. */
struct supply_source {
    int (*read_next)(void *queue, int64_t after_ms, enum queue_lane after_lane,
                     const char *after_domain, int64_t until_ms, queue_next_fn fn, void *ctx);
    int (*read_due)(void *queue, const char *domain, enum queue_lane lane, int64_t from_ms,
                    int64_t until_ms, queue_draw_fn fn, void *ctx, int64_t *later_out);
    void *queue;
};

struct supply_position {
    int64_t ms;
    enum queue_lane lane;
    char domain[QUEUE_DOMAIN_MAX + 1];
    bool begins; /* with the first entry at this time; else after lane and domain */
};

struct supply {
    struct scheduler *scheduler;
    struct supply_source source;
    struct supply_position near, far; /* in `next`: all before was seen; beyond the horizon */
    bool far_done;
    bool blocked; /* a domain of `next` found no room in memory */
    bool failed;  /* the store could not be read */
};

void supply_init(struct supply *supply, struct scheduler *scheduler,
                 const struct supply_source *source);
/* Read everything anew: after a step of the clock, a failure of the store, and now and then. */
void supply_again(struct supply *supply);
/* A due entry at this time came to a domain that found no room in memory. */
void supply_look_from(struct supply *supply, int64_t due_unix_ms);
/* A few ms of work. @return true: there is more at once */
bool supply_step(struct supply *supply, int64_t now_unix_ms, int64_t horizon_unix_ms);
/* When something will be due that is not yet; QUEUE_NEVER: nothing that is known. */
int64_t supply_next(struct supply *supply);

#endif
