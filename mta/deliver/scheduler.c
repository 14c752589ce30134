/* mta/deliver/scheduler.c - domains, sites and units under one lock. See scheduler.h. */
#include "mta/deliver/scheduler.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/scheduler_private.h"

void unit_list_add(struct unit_list *list, struct unit *unit)
{
    unit->next = NULL;
    if (list->tail != NULL)
        list->tail->next = unit;
    else
        list->head = unit;
    list->tail = unit;
    list->count++;
}

struct unit *unit_list_take(struct unit_list *list)
{
    struct unit *unit = list->head;
    if (unit == NULL)
        return NULL;
    list->head = unit->next;
    if (list->head == NULL)
        list->tail = NULL;
    list->count--;
    unit->next = NULL;
    return unit;
}

static void unit_list_push_front(struct unit_list *list, struct unit *unit)
{
    unit->next = list->head;
    list->head = unit;
    if (list->tail == NULL)
        list->tail = unit;
    list->count++;
}

static void unit_list_append(struct unit_list *to, struct unit_list *from)
{
    if (from->head == NULL)
        return;
    if (to->tail != NULL)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->count += from->count;
    *from = (struct unit_list){0};
}

void site_target_clear(struct site_target *target)
{
    for (size_t i = 0; i < target->host_count; i++)
        free(target->hosts[i].name);
    free(target->hosts);
    *target = (struct site_target){0};
}

struct scheduler *scheduler_new(const struct scheduler_hooks *hooks, const struct config *config)
{
    struct scheduler *s = mem_alloc(sizeof *s);
    s->hooks = *hooks;
    pthread_mutex_init(&s->lock, NULL);
    s->site_connections = config->delivery.site_connections;
    s->max_connections = config->delivery.max_connections;
    return s;
}

/* The analyser does not see that HASH_DEL takes the last element's table away with it. */
/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
void scheduler_free_domain(struct scheduler *s, struct domain *domain)
{
    HASH_DEL(s->domains, domain);
    free(domain->name);
    free(domain);
}

void scheduler_free_site(struct scheduler *s, struct site *site)
{
    HASH_DEL(s->sites, site);
    site_target_clear(&site->target);
    free(site->key);
    free(site);
}

void scheduler_free(struct scheduler **schedulerp)
{
    struct scheduler *s = *schedulerp;
    if (s == NULL)
        return;
    while (s->slots != NULL) {
        struct slot *slot = s->slots;
        HASH_DEL(s->slots, slot);
        free(slot);
    }
    while (s->domains != NULL)
        scheduler_free_domain(s, s->domains);
    while (s->sites != NULL)
        scheduler_free_site(s, s->sites);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *schedulerp = NULL;
}

/* NOLINTEND(clang-analyzer-unix.Malloc) */

static void ask_for_site(struct scheduler *s, struct domain *domain)
{
    if (domain->resolving || s->stopping || domain->waiting.count == 0)
        return;
    domain->resolving = true;
    domain->asked_generation = s->generation;
    s->hooks.resolve(domain, s->hooks.ctx);
}

/* What waits is routed anew; what is with a connection ends as it began. */
void scheduler_reload(struct scheduler *s, const struct config *config)
{
    pthread_mutex_lock(&s->lock);
    s->site_connections = config->delivery.site_connections;
    s->max_connections = config->delivery.max_connections;
    s->generation++;
    for (struct site *site = s->sites; site != NULL; site = site->hh.next) {
        for (struct unit *unit = unit_list_take(&site->queue); unit != NULL;
             unit = unit_list_take(&site->queue))
            unit_list_add(&unit->domain->waiting, unit);
    }
    for (struct domain *domain = s->domains; domain != NULL; domain = domain->hh.next) {
        domain->known_until_ms = 0;
        ask_for_site(s, domain);
    }
    pthread_mutex_unlock(&s->lock);
}

void scheduler_stop(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
}

/* ---- sites ---- */

static void add_starved(struct scheduler *s, struct site *site)
{
    if (site->starved)
        return;
    site->starved = true;
    site->next_starved = NULL;
    if (s->starved_tail != NULL)
        s->starved_tail->next_starved = site;
    else
        s->starved_head = site;
    s->starved_tail = site;
}

static struct site *take_starved(struct scheduler *s)
{
    struct site *site = s->starved_head;
    if (site == NULL)
        return NULL;
    s->starved_head = site->next_starved;
    if (s->starved_head == NULL)
        s->starved_tail = NULL;
    site->starved = false;
    site->next_starved = NULL;
    return site;
}

static void unlist(struct idler *idler)
{
    struct site *site = idler->site;
    if (idler->prev != NULL)
        idler->prev->next = idler->next;
    else
        site->idle = idler->next;
    if (idler->next != NULL)
        idler->next->prev = idler->prev;
    idler->prev = idler->next = NULL;
    idler->listed = false;
}

/* Give a site with work what it needs: an idle connection, or a new one while those that are
 * connecting are fewer than the units that wait. */
static void stir(struct scheduler *s, struct site *site)
{
    if (s->stopping)
        return;
    while (site->idle != NULL && site->waking + site->connecting < site->queue.count) {
        struct idler *idler = site->idle;
        unlist(idler);
        site->waking++;
        s->hooks.wake(idler, s->hooks.ctx);
    }
    while (site->waking + site->connecting < site->queue.count &&
           site->connections < s->site_connections) {
        if (s->connections >= s->max_connections) {
            add_starved(s, site);
            return;
        }
        site->connections++;
        site->connecting++;
        s->connections++;
        s->hooks.connect(site, s->hooks.ctx);
    }
}

const char *site_key(const struct site *site)
{
    return site->key;
}

const struct site_target *site_target(const struct site *site)
{
    return &site->target;
}

struct unit *scheduler_pull(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    struct unit *unit = s->stopping ? NULL : unit_list_take(&site->queue);
    if (unit != NULL) {
        slot_of(unit)->active = true;
        s->active++;
    }
    pthread_mutex_unlock(&s->lock);
    return unit;
}

void scheduler_connected(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    assert(site->connecting > 0);
    site->connecting--;
    /* What came while it was connecting has waited for the result: this one is busy with its own
     * unit. */
    stir(s, site);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_connection_gone(struct scheduler *s, struct site *site, bool connected)
{
    pthread_mutex_lock(&s->lock);
    assert(site->connections > 0 && s->connections > 0);
    site->connections--;
    s->connections--;
    if (!connected) {
        assert(site->connecting > 0);
        site->connecting--;
    }
    while (s->starved_head != NULL && s->connections < s->max_connections)
        stir(s, take_starved(s));
    stir(s, site);
    pthread_mutex_unlock(&s->lock);
}

size_t scheduler_connections_standing(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    size_t standing = site->connections - site->connecting;
    pthread_mutex_unlock(&s->lock);
    return standing;
}

void scheduler_requeue(struct scheduler *s, struct site *site, struct unit *unit)
{
    pthread_mutex_lock(&s->lock);
    struct slot *slot = slot_of(unit);
    if (slot->active) {
        slot->active = false;
        s->active--;
    }
    unit_list_push_front(&site->queue, unit);
    stir(s, site);
    pthread_mutex_unlock(&s->lock);
}

struct unit_list scheduler_take_all(struct scheduler *s, struct site *site, size_t max)
{
    struct unit_list taken = {0};
    pthread_mutex_lock(&s->lock);
    while (!s->stopping && taken.count < max) {
        struct unit *unit = unit_list_take(&site->queue);
        if (unit == NULL)
            break;
        slot_of(unit)->active = true;
        s->active++;
        unit_list_add(&taken, unit);
    }
    pthread_mutex_unlock(&s->lock);
    return taken;
}

bool scheduler_idle(struct scheduler *s, struct site *site, struct idler *idler, bool *work_out)
{
    pthread_mutex_lock(&s->lock);
    *work_out = !s->stopping && site->queue.count > 0;
    bool listed = !*work_out && !s->stopping && s->starved_head == NULL;
    if (listed) {
        idler->site = site;
        idler->prev = NULL;
        idler->next = site->idle;
        if (site->idle != NULL)
            site->idle->prev = idler;
        site->idle = idler;
        idler->listed = true;
    }
    pthread_mutex_unlock(&s->lock);
    return listed;
}

bool scheduler_unidle(struct scheduler *s, struct idler *idler)
{
    pthread_mutex_lock(&s->lock);
    bool listed = idler->listed;
    if (listed)
        unlist(idler);
    pthread_mutex_unlock(&s->lock);
    return listed;
}

void scheduler_woken(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    assert(site->waking > 0);
    site->waking--;
    pthread_mutex_unlock(&s->lock);
}

/* ---- offering and finishing ---- */

struct domain *scheduler_find_domain(struct scheduler *s, const char *name, bool make)
{
    struct domain *domain;
    HASH_FIND_STR(s->domains, name, domain);
    if (domain != NULL || !make)
        return domain;
    domain = mem_alloc(sizeof *domain);
    domain->name = str_dup(str_from(name));
    HASH_ADD_KEYPTR(hh, s->domains, domain->name, strlen(domain->name), domain);
    return domain;
}

static void place(struct scheduler *s, struct domain *domain, struct unit *unit)
{
    if (domain->site != NULL && domain->known_until_ms > time_monotonic_ms()) {
        unit_list_add(&domain->site->queue, unit);
        stir(s, domain->site);
        return;
    }
    unit_list_add(&domain->waiting, unit);
    ask_for_site(s, domain);
}

/* How many units the domain may hold: never more than there is room left for all others, so that a
 * few slow destinations cannot fill the memory and a further one always finds a place. */
size_t scheduler_window(const struct scheduler *s)
{
    size_t used = HASH_COUNT(s->slots);
    size_t room = used < SCHEDULER_UNITS_MAX ? SCHEDULER_UNITS_MAX - used : 0;
    return room < SCHEDULER_WINDOW_MAX ? room : SCHEDULER_WINDOW_MAX;
}

static enum offer offer_locked(struct scheduler *s, const struct slot_key *key, const char *name)
{
    struct slot *slot;
    HASH_FIND(hh, s->slots, key, sizeof *key, slot);
    if (slot != NULL)
        return OFFER_KNOWN;
    if (s->stopping)
        return OFFER_STOPPED;
    size_t window = scheduler_window(s);
    if (window == 0)
        return OFFER_FULL;
    struct domain *domain = scheduler_find_domain(s, name, true);
    if (domain->units >= window)
        return OFFER_FULL;

    slot = mem_alloc(sizeof *slot);
    slot->key = *key;
    slot->unit.id = key->id;
    slot->unit.number = (uint16_t)key->number;
    slot->unit.domain = domain;
    HASH_ADD(hh, s->slots, key, sizeof slot->key, slot);
    domain->units++;
    place(s, domain, &slot->unit);
    return OFFER_TAKEN;
}

enum offer scheduler_offer(struct scheduler *s, uint64_t id, uint16_t number, const char *domain)
{
    struct slot_key key = {.id = id, .number = number};
    pthread_mutex_lock(&s->lock);
    enum offer answer = offer_locked(s, &key, domain);
    pthread_mutex_unlock(&s->lock);
    return answer;
}

void scheduler_finish(struct scheduler *s, struct unit *unit)
{
    pthread_mutex_lock(&s->lock);
    struct slot *slot = slot_of(unit);
    struct domain *domain = unit->domain;
    if (slot->active)
        s->active--;
    HASH_DEL(s->slots, slot);
    assert(domain->units > 0);
    domain->units--;
    /* Draw more when a window has run half empty, not for each unit. */
    bool low = domain->backlog && (domain->units == SCHEDULER_WINDOW_MAX / 2 || domain->units == 0);
    bool room = s->starved_backlog && HASH_COUNT(s->slots) == SCHEDULER_UNITS_MAX / 2;
    if ((low || room) && !s->stopping)
        s->hooks.feed(s->hooks.ctx);
    free(slot);
    pthread_mutex_unlock(&s->lock);
}

/* ---- domains ---- */

const char *domain_name(const struct domain *domain)
{
    return domain->name;
}

static struct site *find_site(struct scheduler *s, const char *key, struct site_target *target)
{
    struct site *site;
    HASH_FIND_STR(s->sites, key, site);
    if (site != NULL) {
        site_target_clear(target);
        return site;
    }
    site = mem_alloc(sizeof *site);
    site->key = str_dup(str_from(key));
    site->target = *target;
    *target = (struct site_target){0};
    HASH_ADD_KEYPTR(hh, s->sites, site->key, strlen(site->key), site);
    return site;
}

void scheduler_domain_known(struct scheduler *s, struct domain *domain, const char *key,
                            struct site_target *target, uint64_t until_ms)
{
    pthread_mutex_lock(&s->lock);
    domain->resolving = false;
    if (domain->asked_generation != s->generation) { /* the answer to an older configuration */
        site_target_clear(target);
        ask_for_site(s, domain);
        pthread_mutex_unlock(&s->lock);
        return;
    }
    struct site *site = find_site(s, key, target);
    domain->site = site;
    domain->known_until_ms = until_ms;
    unit_list_append(&site->queue, &domain->waiting);
    stir(s, site);
    pthread_mutex_unlock(&s->lock);
}

struct unit_list scheduler_domain_failed(struct scheduler *s, struct domain *domain)
{
    pthread_mutex_lock(&s->lock);
    domain->resolving = false;
    domain->site = NULL;
    struct unit_list waiting = domain->waiting;
    domain->waiting = (struct unit_list){0};
    for (struct unit *unit = waiting.head; unit != NULL; unit = unit->next) {
        slot_of(unit)->active = true;
        s->active++;
    }
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

/* ---- looking ---- */

void scheduler_read_counts(struct scheduler *s, struct scheduler_counts *out)
{
    pthread_mutex_lock(&s->lock);
    *out = (struct scheduler_counts){
        .units = HASH_COUNT(s->slots),
        .active = s->active,
        .domains = HASH_COUNT(s->domains),
        .sites = HASH_COUNT(s->sites),
        .connections = s->connections,
    };
    for (struct site *site = s->sites; site != NULL; site = site->hh.next)
        out->sites_at_work += site->connections > 0 || site->queue.count > 0;
    pthread_mutex_unlock(&s->lock);
}

bool scheduler_is_active(struct scheduler *s, uint64_t id, uint16_t number)
{
    struct slot_key key = {.id = id, .number = number};
    struct slot *slot;
    pthread_mutex_lock(&s->lock);
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the key has no padding */
    HASH_FIND(hh, s->slots, &key, sizeof key, slot);
    bool active = slot != NULL && slot->active;
    pthread_mutex_unlock(&s->lock);
    return active;
}
