/* mta/deliver/scheduler_site.c - sites: whose turn it is, connections asked for and given back,
 * idle ones woken. See scheduler.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/deliver/scheduler_private.h"

/* A host that nothing stands to gets so many connections at first; each one that stands brings
 * as many more. After an outage the hosts are not met by all that waited at once. */
#define FIRST_CONNECTIONS 2u

void site_target_clear(struct site_target *target)
{
    for (size_t i = 0; i < target->host_count; i++)
        free(target->hosts[i].name);
    free(target->hosts);
    *target = (struct site_target){0};
}

const char *site_key(const struct site *site)
{
    return site->key;
}

const struct site_target *site_target(const struct site *site)
{
    return &site->target;
}

struct site *scheduler_find_site(struct scheduler *s, const char *key, struct site_target *target)
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

/* The analyser does not see that HASH_DEL takes the last element's table away with it. */
/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
void scheduler_free_site(struct scheduler *s, struct site *site)
{
    HASH_DEL(s->sites, site);
    site_target_clear(&site->target);
    free(site->key);
    free(site);
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

static void free_if_unused(struct scheduler *s, struct site *site)
{
    if (site->domains == 0 && site->connections == 0 && !site->starved)
        scheduler_free_site(s, site);
}

/* ---- whose turn it is ---- */

void site_ring_add(struct lane *lane)
{
    struct lane **ring = &lane->domain->site->ring[lane->kind];
    if (*ring == NULL) {
        lane->ring_prev = lane->ring_next = lane;
        *ring = lane;
        return;
    }
    lane->ring_next = *ring; /* last: in front of the one that is served next */
    lane->ring_prev = (*ring)->ring_prev;
    lane->ring_prev->ring_next = lane;
    lane->ring_next->ring_prev = lane;
}

void site_ring_remove(struct lane *lane)
{
    struct lane **ring = &lane->domain->site->ring[lane->kind];
    if (*ring == lane)
        *ring = lane->ring_next != lane ? lane->ring_next : NULL;
    lane->ring_prev->ring_next = lane->ring_next;
    lane->ring_next->ring_prev = lane->ring_prev;
    lane->ring_prev = lane->ring_next = NULL;
}

void scheduler_attach(struct scheduler *s, struct domain *domain, struct site *site)
{
    domain->site = site;
    site->domains++;
    for (int kind = 0; kind < LANES; kind++) {
        struct lane *lane = &domain->lanes[kind];
        site->queued += lane->queue.count;
        if (lane->queue.count > 0)
            site_ring_add(lane);
    }
    scheduler_stir(s, site);
}

void scheduler_detach(struct scheduler *s, struct domain *domain)
{
    struct site *site = domain->site;
    if (site == NULL)
        return;
    for (int kind = 0; kind < LANES; kind++) {
        struct lane *lane = &domain->lanes[kind];
        site->queued -= lane->queue.count;
        if (lane->queue.count > 0)
            site_ring_remove(lane);
    }
    domain->site = NULL;
    site->domains--;
    free_if_unused(s, site);
}

/* New and retried mail alternate, and within each kind the domains. */
static struct unit *take_next(struct scheduler *s, struct site *site)
{
    unsigned kind = site->ring[site->turn] != NULL ? site->turn : 1u - site->turn;
    struct lane *lane = site->ring[kind];
    if (lane == NULL)
        return NULL;
    site->turn = (uint8_t)(1u - kind);
    struct unit *unit = unit_list_take(&lane->queue);
    site->queued--;
    if (lane->queue.count == 0)
        site_ring_remove(lane);
    else
        site->ring[kind] = lane->ring_next;
    slot_of(unit)->state = SLOT_ACTIVE;
    s->active++;
    return unit;
}

struct unit *scheduler_pull(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    struct unit *unit = s->stopping ? NULL : take_next(s, site);
    pthread_mutex_unlock(&s->lock);
    return unit;
}

struct unit_list scheduler_take_all(struct scheduler *s, struct site *site)
{
    struct unit_list taken = {0};
    pthread_mutex_lock(&s->lock);
    struct unit *unit = s->stopping ? NULL : take_next(s, site);
    while (unit != NULL) {
        unit_list_add(&taken, unit);
        unit = take_next(s, site);
    }
    pthread_mutex_unlock(&s->lock);
    return taken;
}

/* ---- connections ---- */

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

static uint32_t connections_allowed(const struct scheduler *s, const struct site *site)
{
    uint32_t standing = site->connections - site->connecting;
    uint32_t steps = FIRST_CONNECTIONS * (standing + 1);
    return steps < s->site_connections ? steps : s->site_connections;
}

/* Give a site with work what it needs: an idle connection, or a new one while those that are
 * connecting are fewer than the units that wait. */
void scheduler_stir(struct scheduler *s, struct site *site)
{
    if (s->stopping)
        return;
    while (site->idle != NULL && site->waking + site->connecting < site->queued) {
        struct idler *idler = site->idle;
        unlist(idler);
        site->waking++;
        s->hooks.wake(idler, s->hooks.ctx);
    }
    while (site->waking + site->connecting < site->queued &&
           site->connections < connections_allowed(s, site)) {
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

void scheduler_connected(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    assert(site->connecting > 0);
    site->connecting--;
    /* What came while it was connecting has waited for the result: this one is busy with its own
     * unit. */
    scheduler_stir(s, site);
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
    while (s->starved_head != NULL && s->connections < s->max_connections) {
        struct site *starved = take_starved(s);
        scheduler_stir(s, starved);
        if (starved != site)
            free_if_unused(s, starved);
    }
    scheduler_stir(s, site);
    free_if_unused(s, site);
    pthread_mutex_unlock(&s->lock);
}

size_t scheduler_connections_standing(struct scheduler *s, struct site *site)
{
    pthread_mutex_lock(&s->lock);
    size_t standing = site->connections - site->connecting;
    pthread_mutex_unlock(&s->lock);
    return standing;
}

/* ---- idle connections ---- */

bool scheduler_idle(struct scheduler *s, struct site *site, struct idler *idler, bool *work_out)
{
    pthread_mutex_lock(&s->lock);
    *work_out = !s->stopping && site->queued > 0;
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
