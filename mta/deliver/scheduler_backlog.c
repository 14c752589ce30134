/* mta/deliver/scheduler_backlog.c - the scheduler's view of the store: which domains have more
 * there than fits in memory, and forgetting domains and sites without work. */
#include <stdio.h>
#include <string.h>

#include "mta/deliver/scheduler_private.h"

static bool mark_locked(struct scheduler *s, const char *name, const int64_t *reappeared_unix_ms)
{
    bool room = HASH_COUNT(s->domains) < SCHEDULER_DOMAINS_MAX;
    struct domain *domain = scheduler_find_domain(s, name, room);
    if (domain == NULL)
        return false;
    bool drawn = reappeared_unix_ms != NULL && *reappeared_unix_ms <= domain->drawn_unix_ms;
    if (domain->backlog || drawn)
        return true;
    domain->backlog = true;
    domain->next_backlog = NULL;
    if (s->backlog_tail != NULL)
        s->backlog_tail->next_backlog = domain;
    else
        s->backlog_head = domain;
    s->backlog_tail = domain;
    return true;
}

bool scheduler_mark_backlog(struct scheduler *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    bool marked = mark_locked(s, name, NULL);
    pthread_mutex_unlock(&s->lock);
    return marked;
}

bool scheduler_mark_due(struct scheduler *s, const char *name, int64_t due_unix_ms, bool inserted)
{
    pthread_mutex_lock(&s->lock);
    bool marked = mark_locked(s, name, inserted ? NULL : &due_unix_ms);
    pthread_mutex_unlock(&s->lock);
    return marked;
}

void scheduler_drawn(struct scheduler *s, const char *name, int64_t until_unix_ms)
{
    pthread_mutex_lock(&s->lock);
    struct domain *domain = scheduler_find_domain(s, name, false);
    if (domain != NULL)
        domain->drawn_unix_ms = until_unix_ms;
    pthread_mutex_unlock(&s->lock);
}

static void unlink_backlog(struct scheduler *s, struct domain *previous, struct domain *domain)
{
    if (previous != NULL)
        previous->next_backlog = domain->next_backlog;
    else
        s->backlog_head = domain->next_backlog;
    if (s->backlog_tail == domain)
        s->backlog_tail = previous;
    domain->backlog = false;
    domain->next_backlog = NULL;
}

bool scheduler_next_backlog(struct scheduler *s, char *name, size_t size)
{
    bool found = false;
    pthread_mutex_lock(&s->lock);
    if (s->stopping || HASH_COUNT(s->slots) >= SCHEDULER_UNITS_MAX) {
        s->starved_backlog = !s->stopping;
        goto done;
    }
    s->starved_backlog = false;
    struct domain *previous = NULL;
    for (struct domain *d = s->backlog_head; d != NULL; previous = d, d = d->next_backlog) {
        if (d->units > scheduler_window(s) / 2)
            continue;
        snprintf(name, size, "%s", d->name);
        unlink_backlog(s, previous, d);
        found = true;
        break;
    }
done:
    pthread_mutex_unlock(&s->lock);
    return found;
}

bool scheduler_has_room(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool room = !s->stopping && scheduler_window(s) > 0;
    pthread_mutex_unlock(&s->lock);
    return room;
}

bool scheduler_is_empty(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool empty = HASH_COUNT(s->slots) == 0;
    pthread_mutex_unlock(&s->lock);
    return empty;
}

void scheduler_purge(struct scheduler *s, uint64_t now_ms)
{
    pthread_mutex_lock(&s->lock);
    /* What is known of a domain is only a convenience: the answer is in the DNS cache as well. */
    bool crowded = HASH_COUNT(s->domains) > SCHEDULER_DOMAINS_MAX / 2;
    struct domain *domain = NULL, *next_domain = NULL;
    HASH_ITER(hh, s->domains, domain, next_domain)
    {
        bool idle = domain->units == 0 && !domain->backlog && !domain->resolving;
        if (idle && (crowded || domain->known_until_ms <= now_ms))
            scheduler_free_domain(s, domain);
        else if (domain->site != NULL)
            domain->site->wanted = true;
    }
    struct site *site = NULL, *next_site = NULL;
    HASH_ITER(hh, s->sites, site, next_site)
    {
        if (!site->wanted && site->queue.count == 0 && site->connections == 0 && !site->starved)
            scheduler_free_site(s, site);
        else
            site->wanted = false;
    }
    pthread_mutex_unlock(&s->lock);
}
