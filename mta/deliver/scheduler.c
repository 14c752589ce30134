/* mta/deliver/scheduler.c - units and domains in memory. See scheduler.h. */
#include "mta/deliver/scheduler.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/scheduler_private.h"

#define RESOLVING_MAX 1000    /* lookups at a time; further ones wait their turn */
#define ASK_AGAIN_MS  30000   /* after a lookup that failed for now, while the old answer serves */
#define STALE_MAX_MS  3600000 /* so long does it (in the spirit of RFC 8767) */

/* ---- lists ---- */

void unit_list_add(struct unit_list *list, struct unit *unit)
{
    unit->next = NULL;
    unit->prev = list->tail;
    if (list->tail != NULL)
        list->tail->next = unit;
    else
        list->head = unit;
    list->tail = unit;
    list->count++;
}

static void unit_list_remove(struct unit_list *list, struct unit *unit)
{
    if (unit->prev != NULL)
        unit->prev->next = unit->next;
    else
        list->head = unit->next;
    if (unit->next != NULL)
        unit->next->prev = unit->prev;
    else
        list->tail = unit->prev;
    unit->prev = unit->next = NULL;
    list->count--;
}

struct unit *unit_list_take(struct unit_list *list)
{
    struct unit *unit = list->head;
    if (unit != NULL)
        unit_list_remove(list, unit);
    return unit;
}

static void unit_list_push_front(struct unit_list *list, struct unit *unit)
{
    unit->prev = NULL;
    unit->next = list->head;
    if (list->head != NULL)
        list->head->prev = unit;
    else
        list->tail = unit;
    list->head = unit;
    list->count++;
}

void domain_list_add(struct domain_list *list, struct domain *domain)
{
    domain->next = NULL;
    domain->prev = list->tail;
    if (list->tail != NULL)
        list->tail->next = domain;
    else
        list->head = domain;
    list->tail = domain;
}

void domain_list_remove(struct domain_list *list, struct domain *domain)
{
    if (domain->prev != NULL)
        domain->prev->next = domain->next;
    else
        list->head = domain->next;
    if (domain->next != NULL)
        domain->next->prev = domain->prev;
    else
        list->tail = domain->prev;
    domain->prev = domain->next = NULL;
}

/* ---- the whole ---- */

static uint64_t machine_monotonic_ms(void *ctx)
{
    (void)ctx;
    return time_monotonic_ms();
}

static int64_t machine_wall_ms(void *ctx)
{
    (void)ctx;
    return time_wall_ms();
}

static uint64_t monotonic_ms(const struct scheduler *s)
{
    return s->hooks.monotonic_ms(s->hooks.ctx);
}

static void take_limits(struct scheduler *s, const struct config *config)
{
    s->site_connections = config->delivery.site_connections;
    s->max_connections = config->delivery.max_connections;
    if (s->hooks.connections_most > 0 && s->hooks.connections_most < s->max_connections)
        s->max_connections = s->hooks.connections_most;
    s->units_max = config->delivery.units_in_memory;
    s->domains_max = s->units_max / 2; /* a domain with its site weighs several units */
}

struct scheduler *scheduler_new(const struct scheduler_hooks *hooks, const struct config *config)
{
    struct scheduler *s = mem_alloc(sizeof *s);
    s->hooks = *hooks;
    if (s->hooks.monotonic_ms == NULL) {
        s->hooks.monotonic_ms = machine_monotonic_ms;
        s->hooks.wall_ms = machine_wall_ms;
    }
    pthread_mutex_init(&s->lock, NULL);
    take_limits(s, config);
    slots_init(&s->slots, s->units_max);
    s->horizon_unix_ms = QUEUE_NEVER;
    return s;
}

/* The analyser does not see that HASH_DEL takes the last element's table away with it. */
/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
void scheduler_drop_domain(struct scheduler *s, struct domain *domain)
{
    for (int kind = 0; kind < LANES; kind++)
        lane_take_out(s, &domain->lanes[kind]);
    if (domain->idle)
        domain_list_remove(&s->idle, domain);
    scheduler_detach(s, domain);
    HASH_DEL(s->domains, domain);
    free(domain->name);
    free(domain);
}

void scheduler_free(struct scheduler **schedulerp)
{
    struct scheduler *s = *schedulerp;
    if (s == NULL)
        return;
    while (s->domains != NULL) {
        struct domain *domain = s->domains;
        HASH_DEL(s->domains, domain);
        free(domain->name);
        free(domain);
    }
    while (s->sites != NULL)
        scheduler_free_site(s, s->sites);
    slots_deinit(&s->slots);
    free(s->heap);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *schedulerp = NULL;
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

static size_t queued(const struct domain *domain)
{
    return domain->lanes[QUEUE_LANE_NEW].queue.count + domain->lanes[QUEUE_LANE_RETRY].queue.count;
}

void scheduler_reload(struct scheduler *s, const struct config *config)
{
    pthread_mutex_lock(&s->lock);
    size_t before = s->units_max;
    take_limits(s, config);
    if (s->units_max != before)
        slots_resize(&s->slots, s->units_max);
    s->finished++; /* there may be more room: scheduler_tidy() lets the hungry ones look */
    s->generation++;
    for (struct domain *domain = s->domains; domain != NULL; domain = domain->hh.next) {
        domain->known_until_ms = 0;
        scheduler_detach(s, domain); /* what is with a connection ends as it began */
        if (queued(domain) > 0)
            scheduler_ask(s, domain, QUEUE_LANE_NEW);
    }
    pthread_mutex_unlock(&s->lock);
}

void scheduler_stop(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
}

/* ---- domains ---- */

const char *domain_name(const struct domain *domain)
{
    return domain->name;
}

static bool make_room(struct scheduler *s, size_t spare)
{
    if (HASH_COUNT(s->domains) + spare < s->domains_max)
        return true;
    if (s->idle.head == NULL)
        return false;
    scheduler_drop_domain(s, s->idle.head);
    return true;
}

struct domain *scheduler_find_domain(struct scheduler *s, const char *name, bool make, size_t spare)
{
    struct domain *domain;
    HASH_FIND_STR(s->domains, name, domain);
    if (domain != NULL || !make || !make_room(s, spare))
        return domain;
    domain = mem_alloc(sizeof *domain);
    domain->name = str_dup(str_from(name));
    for (int kind = 0; kind < LANES; kind++) {
        domain->lanes[kind].domain = domain;
        domain->lanes[kind].kind = (uint8_t)kind;
        domain->lanes[kind].next_unix_ms = QUEUE_NEVER;
    }
    HASH_ADD_KEYPTR(hh, s->domains, domain->name, strlen(domain->name), domain);
    return domain;
}

/* A domain may be forgotten when nothing of it is in memory or due, and nothing is in doubt: all
 * that the store has of it comes later than what has been looked for in `next`. */
void scheduler_check_idle(struct scheduler *s, struct domain *domain)
{
    bool idle = domain->units == 0 && !domain->asking && !domain->resolving;
    for (int kind = 0; kind < LANES; kind++) {
        const struct lane *lane = &domain->lanes[kind];
        bool later = lane->place == LANE_TIMED && lane->next_unix_ms > s->now_unix_ms;
        idle = idle && !lane->unsure && (lane->place == LANE_NOWHERE || later);
    }
    if (idle == domain->idle)
        return;
    domain->idle = idle;
    if (!idle) {
        domain_list_remove(&s->idle, domain);
        return;
    }
    domain_list_add(&s->idle, domain);
    domain->idle_since_ms = monotonic_ms(s);
    if (s->domain_wanted && !s->stopping) {
        s->domain_wanted = false;
        s->hooks.feed(s->hooks.ctx);
    }
}

/* ---- looking up ---- */

static void resolve_next(struct scheduler *s)
{
    while (s->resolving < RESOLVING_MAX && !s->stopping) {
        unsigned kind = s->asking[s->ask_turn].head != NULL ? s->ask_turn : 1u - s->ask_turn;
        struct domain *domain = s->asking[kind].head;
        if (domain == NULL)
            return;
        s->ask_turn = (uint8_t)(1u - kind);
        domain_list_remove(&s->asking[kind], domain);
        domain->asking = false;
        domain->resolving = true;
        domain->asked_generation = s->generation;
        s->resolving++;
        s->hooks.resolve(domain, s->hooks.ctx);
    }
}

void scheduler_ask(struct scheduler *s, struct domain *domain, enum queue_lane kind)
{
    if (domain->resolving || domain->asking || s->stopping || queued(domain) == 0)
        return;
    if (domain->site != NULL && monotonic_ms(s) < domain->ask_after_ms)
        return;
    domain->asking = true;
    domain_list_add(&s->asking[kind], domain);
    resolve_next(s);
}

static void end_resolving(struct scheduler *s, struct domain *domain)
{
    assert(domain->resolving && s->resolving > 0);
    domain->resolving = false;
    s->resolving--;
    resolve_next(s);
}

void scheduler_domain_known(struct scheduler *s, struct domain *domain, const char *key,
                            struct site_target *target, uint64_t until_ms)
{
    pthread_mutex_lock(&s->lock);
    end_resolving(s, domain);
    if (domain->asked_generation != s->generation) { /* the answer to an older configuration */
        site_target_clear(target);
        scheduler_ask(s, domain, QUEUE_LANE_NEW);
    } else {
        struct site *site = scheduler_find_site(s, key, target);
        domain->known_until_ms = until_ms;
        if (site != domain->site) {
            site->domains++; /* detaching must not free it */
            scheduler_detach(s, domain);
            site->domains--;
            scheduler_attach(s, domain, site);
        }
    }
    scheduler_check_idle(s, domain);
    pthread_mutex_unlock(&s->lock);
}

static void take_queued(struct scheduler *s, struct domain *domain, struct unit_list *taken)
{
    for (int kind = 0; kind < LANES; kind++) {
        struct unit_list *queue = &domain->lanes[kind].queue;
        for (struct unit *unit = unit_list_take(queue); unit != NULL;
             unit = unit_list_take(queue)) {
            slot_of(unit)->state = SLOT_ACTIVE;
            s->active++;
            unit_list_add(taken, unit);
        }
    }
}

struct unit_list scheduler_domain_failed(struct scheduler *s, struct domain *domain, bool temporary)
{
    struct unit_list waiting = {0};
    pthread_mutex_lock(&s->lock);
    uint64_t now_ms = monotonic_ms(s);
    end_resolving(s, domain);
    if (domain->asked_generation != s->generation) { /* as in scheduler_domain_known() */
        scheduler_ask(s, domain, QUEUE_LANE_NEW);
    } else if (temporary && domain->site != NULL &&
               domain->known_until_ms + STALE_MAX_MS > now_ms) {
        domain->ask_after_ms = now_ms + ASK_AGAIN_MS;
    } else {
        scheduler_detach(s, domain);
        take_queued(s, domain, &waiting);
    }
    scheduler_check_idle(s, domain);
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

/* ---- queueing ---- */

/* A site that is known from earlier serves until the new answer comes, but only what is queued
 * there already: a domain that was quiet waits for it. */
static void place(struct scheduler *s, struct unit *unit, bool first)
{
    struct domain *domain = unit->domain;
    struct lane *lane = &domain->lanes[unit->lane];
    bool known = domain->site != NULL && domain->known_until_ms > monotonic_ms(s);
    if (!known && queued(domain) == 0)
        scheduler_detach(s, domain);
    slot_of(unit)->state = SLOT_QUEUED;
    if (first)
        unit_list_push_front(&lane->queue, unit);
    else
        unit_list_add(&lane->queue, unit);
    if (domain->site != NULL) {
        if (lane->queue.count == 1)
            site_ring_add(lane);
        domain->site->queued++;
        scheduler_stir(s, domain->site);
    }
    if (!known)
        scheduler_ask(s, domain, (enum queue_lane)unit->lane);
}

static void look_at(struct scheduler *s, struct unit *unit)
{
    slot_of(unit)->state = SLOT_LOOKED;
    unit_list_add(&s->changed, unit);
    if (s->changed.count == 1 && !s->stopping)
        s->hooks.feed(s->hooks.ctx);
}

enum offer scheduler_add_unit(struct scheduler *s, struct lane *lane,
                              const struct queue_due_entry *entry)
{
    struct domain *domain = lane->domain;
    size_t window = scheduler_window(s);
    if (domain->units >= window || lane->units >= lane_window(window))
        return OFFER_FULL;
    struct unit *unit = &slots_add(&s->slots, entry->id, entry->unit)->unit;
    unit->domain = domain;
    unit->due_unix_ms = entry->due_unix_ms;
    unit->lane = lane->kind;
    domain->units++;
    lane->units++;
    scheduler_check_idle(s, domain);
    if (entry->bounce_only)
        look_at(s, unit);
    else
        place(s, unit, false);
    return OFFER_TAKEN;
}

static enum offer offer_locked(struct scheduler *s, uint64_t id, uint16_t number, const char *name)
{
    if (slots_find(&s->slots, id, number) != NULL)
        return OFFER_KNOWN;
    if (s->stopping)
        return OFFER_STOPPED;
    if (scheduler_window(s) == 0)
        return OFFER_FULL;
    struct domain *domain = scheduler_find_domain(s, name, true, 0);
    if (domain == NULL)
        return OFFER_FULL;
    struct lane *lane = &domain->lanes[QUEUE_LANE_NEW];
    if (lane->place >= LANE_READY) /* earlier ones wait in the store: behind them */
        return OFFER_FULL;
    return scheduler_add_unit(s, lane, &(struct queue_due_entry){.id = id, .unit = number});
}

enum offer scheduler_offer(struct scheduler *s, uint64_t id, uint16_t number, const char *domain)
{
    pthread_mutex_lock(&s->lock);
    enum offer answer = offer_locked(s, id, number, domain);
    pthread_mutex_unlock(&s->lock);
    return answer;
}

void scheduler_requeue(struct scheduler *s, struct unit *unit)
{
    pthread_mutex_lock(&s->lock);
    if (slot_of(unit)->state == SLOT_ACTIVE)
        s->active--;
    place(s, unit, true);
    pthread_mutex_unlock(&s->lock);
}

static void leave(struct scheduler *s, struct unit *unit)
{
    struct domain *domain = unit->domain;
    struct lane *lane = &domain->lanes[unit->lane];
    if (slot_of(unit)->state == SLOT_ACTIVE)
        s->active--;
    assert(domain->units > 0 && lane->units > 0);
    domain->units--;
    lane->units--;
    slots_remove(&s->slots, slot_of(unit));
    scheduler_room_grew(s, domain);
}

static void let_go(struct scheduler *s, struct unit *unit, bool doubtful)
{
    struct domain *domain = unit->domain;
    struct lane *lane = &domain->lanes[unit->lane];
    int64_t wall_ms = s->hooks.wall_ms(s->hooks.ctx);
    leave(s, unit);
    if (!doubtful && lane->doubts > 0)
        lane->doubts--;                                  /* drawing leads somewhere */
    for (int kind = 0; doubtful && kind < LANES; kind++) /* it may have changed its lane */
        lane_doubt(s, &domain->lanes[kind], wall_ms);
    scheduler_check_idle(s, domain);
}

void scheduler_finish(struct scheduler *s, struct unit *unit)
{
    pthread_mutex_lock(&s->lock);
    let_go(s, unit, slot_of(unit)->passed);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_forget(struct scheduler *s, struct unit *unit)
{
    pthread_mutex_lock(&s->lock);
    let_go(s, unit, true);
    pthread_mutex_unlock(&s->lock);
}

/* ---- an admin's steps ---- */

static void change(struct slot *slot, void *ctx)
{
    struct scheduler *s = ctx;
    struct unit *unit = &slot->unit;
    struct lane *lane = &unit->domain->lanes[unit->lane];
    if (slot->state != SLOT_QUEUED)
        return; /* an attempt under way ends as it began */
    unit_list_remove(&lane->queue, unit);
    if (unit->domain->site != NULL) {
        unit->domain->site->queued--;
        if (lane->queue.count == 0)
            site_ring_remove(lane);
    }
    look_at(s, unit);
}

void scheduler_changed(struct scheduler *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    slots_each(&s->slots, id, change, s);
    pthread_mutex_unlock(&s->lock);
}

struct unit *scheduler_next_changed(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    struct unit *unit = s->stopping ? NULL : unit_list_take(&s->changed);
    if (unit != NULL) {
        slot_of(unit)->state = SLOT_ACTIVE;
        s->active++;
    }
    pthread_mutex_unlock(&s->lock);
    return unit;
}

/* ---- looking ---- */

void scheduler_read_counts(struct scheduler *s, struct scheduler_counts *out)
{
    pthread_mutex_lock(&s->lock);
    *out = (struct scheduler_counts){
        .units = s->slots.count,
        .active = s->active,
        .domains = HASH_COUNT(s->domains),
        .sites = HASH_COUNT(s->sites),
        .connections = s->connections,
    };
    for (struct site *site = s->sites; site != NULL; site = site->hh.next)
        out->sites_at_work += site->connections > 0 || site->queued > 0;
    pthread_mutex_unlock(&s->lock);
}

bool scheduler_is_active(struct scheduler *s, uint64_t id, uint16_t number)
{
    pthread_mutex_lock(&s->lock);
    const struct slot *slot = slots_find(&s->slots, id, number);
    bool active = slot != NULL && slot->state == SLOT_ACTIVE;
    pthread_mutex_unlock(&s->lock);
    return active;
}
