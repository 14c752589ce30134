/* mta/deliver/failing.c - many units at once: what waited for a site or a domain that cannot be
 * reached, and units that an admin changed. Each is recorded like any other, but only so many are
 * on their way to the writer at a time: its line stays short, whoever else waits in it, and the
 * lists take turns. */
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/time.h"
#include "mta/deliver/delivery.h"

#define LIST_STEP     32  /* units a loop turn */
#define IN_FLIGHT_MAX 256 /* of all workers */
#define IN_FLIGHT_MIN 32  /* of each */

struct failing {
    struct failing *next;
    struct unit_list units;
    struct mail_outcome outcome;
    uint64_t since_ms; /* monotonic: when the attempt began that failed */
    char site[256], host[256], address[48];
};

static void go_on_later(struct worker *worker);

static size_t in_flight_most(const struct worker *worker)
{
    size_t most = IN_FLIGHT_MAX / worker->deliver->worker_count;
    return most > IN_FLIGHT_MIN ? most : IN_FLIGHT_MIN;
}

static void on_settled(void *ctx)
{
    struct worker *worker = ctx;
    worker->failing_in_flight--;
    go_on_later(worker);
}

static void settle(struct worker *worker, struct delivery *delivery)
{
    worker->failing_in_flight++;
    settle_delivery(delivery, on_settled, worker);
}

static void forget(struct worker *worker, struct unit *unit, enum delivery_load load)
{
    scheduler_forget(worker->deliver->scheduler, unit);
    if (load == DELIVERY_LATER)
        feeder_recover(worker->deliver->feeder);
}

static void fail_one(struct worker *worker, const struct failing *f, struct unit *unit)
{
    struct delivery *delivery = NULL;
    enum delivery_load load = delivery_load(worker, unit, &delivery);
    if (load != DELIVERY_READY) {
        forget(worker, unit, load);
        return;
    }
    delivery->count_attempt = !delivery->bounce_only;
    delivery->started_ms = f->since_ms;
    delivery_fail_rest(delivery, &f->outcome);
    snprintf(delivery->site, sizeof delivery->site, "%s", f->site);
    if (!delivery->bounce_only) {
        snprintf(delivery->host, sizeof delivery->host, "%s", f->host);
        snprintf(delivery->address, sizeof delivery->address, "%s", f->address);
    }
    settle(worker, delivery);
}

/* A unit that was changed in the store: gone, held, to be bounced, or to be sent as before. */
static void look_at_one(struct worker *worker, struct unit *unit)
{
    struct delivery *delivery = NULL;
    enum delivery_load load = delivery_load(worker, unit, &delivery);
    if (load != DELIVERY_READY) {
        forget(worker, unit, load);
    } else if (delivery->bounce_only) {
        delivery->count_attempt = false;
        settle(worker, delivery);
    } else {
        delivery_free(&delivery);
        scheduler_requeue(worker->deliver->scheduler, unit);
    }
}

/* ---- taking turns ---- */

static void free_first(struct worker *worker)
{
    struct failing *f = worker->failing;
    struct scheduler *scheduler = worker->deliver->scheduler;
    worker->failing = f->next;
    if (worker->failing == NULL)
        worker->failing_last = NULL;
    /* Stopping: what is left waits in the store as it did. */
    for (struct unit *unit = unit_list_take(&f->units); unit != NULL;
         unit = unit_list_take(&f->units))
        scheduler_forget(scheduler, unit);
    outcome_clear(&f->outcome);
    free(f);
}

static void add_last(struct worker *worker, struct failing *f)
{
    f->next = NULL;
    if (worker->failing_last != NULL)
        worker->failing_last->next = f;
    else
        worker->failing = f;
    worker->failing_last = f;
}

/* @return false: no list has a unit left */
static bool fail_next(struct worker *worker)
{
    struct failing *f = worker->failing;
    if (f == NULL)
        return false;
    struct unit *unit = unit_list_take(&f->units);
    if (unit == NULL) {
        free_first(worker);
        return true;
    }
    fail_one(worker, f, unit);
    if (f->next != NULL) {
        worker->failing = f->next;
        add_last(worker, f);
    }
    return true;
}

static bool look_at_next(struct worker *worker)
{
    struct deliver *deliver = worker->deliver;
    struct unit *unit = NULL;
    if (worker == &deliver->workers[0])
        unit = scheduler_next_changed(deliver->scheduler);
    if (unit != NULL)
        look_at_one(worker, unit);
    return unit != NULL;
}

static void go_on(struct worker *worker)
{
    bool more = true;
    while (worker->stopping && worker->failing != NULL)
        free_first(worker);
    for (int i = 0; i < LIST_STEP && more && !worker->stopping &&
                    worker->failing_in_flight < in_flight_most(worker);
         i++) {
        bool looked = look_at_next(worker);
        more = fail_next(worker) || looked;
    }
    if (more && !worker->stopping && worker->failing_in_flight < in_flight_most(worker))
        go_on_later(worker);
    worker_check_stopped(worker);
}

static void go_on_posted(struct loop *loop, void *arg)
{
    struct worker *worker = arg;
    (void)loop;
    worker->failing_posted = false;
    go_on(worker);
}

static void go_on_later(struct worker *worker)
{
    if (worker->failing_posted)
        return;
    worker->failing_posted = loop_post(worker->loop, go_on_posted, worker);
    while (!worker->failing_posted && worker->failing != NULL)
        free_first(worker); /* the loop is ending */
}

void settle_list(struct worker *worker, struct unit_list *units, const struct mail_outcome *outcome,
                 uint64_t since_ms, const struct settle_place *place)
{
    if (units->count == 0)
        return;
    struct failing *f = mem_alloc(sizeof *f);
    f->units = *units;
    *units = (struct unit_list){0};
    f->since_ms = since_ms;
    outcome_copy(&f->outcome, outcome);
    snprintf(f->site, sizeof f->site, "%s", place->site);
    snprintf(f->host, sizeof f->host, "%s", place->host);
    snprintf(f->address, sizeof f->address, "%s", place->address);
    add_last(worker, f);
    go_on_later(worker);
}

void settle_changed(struct deliver *deliver)
{
    go_on_later(&deliver->workers[0]);
}
