/* mta/deliver/scheduler.h - units in memory, grouped by domain and site, and who may take them.
 *
 * One structure under one short lock; any thread. Memory is bounded: a domain holds a window of
 * units, the smaller the less room is left for all together; what does not fit stays in the store
 * and is drawn later (feeder.c).
 * A unit in memory is owned by exactly one of: a domain's waiting list, a site's queue, a
 * connection, or the writer that records its outcome. */
#ifndef MTA_DELIVER_SCHEDULER_H
#define MTA_DELIVER_SCHEDULER_H

#include "config/config.h"
#include "mta/base/str.h"

#define SCHEDULER_UNITS_MAX   50000 /* in memory, all sites together */
#define SCHEDULER_WINDOW_MAX  10000 /* of one domain */
#define SCHEDULER_DOMAINS_MAX 50000
#define SITE_HOSTS_MAX        64

struct scheduler;
struct domain;
struct site;
struct idler; /* an idle connection, as the scheduler sees it: embedded in the connection */

struct unit {
    uint64_t id;
    uint16_t number;
    bool requeued; /* went back once because a reused connection was stale */
    struct domain *domain;
    struct unit *next;
};

struct unit_list {
    struct unit *head, *tail;
    size_t count;
};
void unit_list_add(struct unit_list *list, struct unit *unit);
struct unit *unit_list_take(struct unit_list *list); /* NULL: empty */

/* What a site is: the hosts and how to speak to them. */
struct site_host {
    char *name;
    uint16_t preference; /* relays: their place in the list */
    uint16_t port;
};
struct site_target {
    struct site_host *hosts; /* owned */
    size_t host_count;
    enum config_tls tls;
    bool fixed;    /* a route's relay: private addresses allowed, a missing name is never the
                      recipient's fault */
    bool implicit; /* the domain itself stands for its MX (RFC 5321 section 5.1) */
};
void site_target_clear(struct site_target *target);

struct scheduler_hooks {
    /* A domain with waiting units needs its site: answer with scheduler_domain_known/_failed. Lock
     * held: only post. */
    void (*resolve)(struct domain *domain, void *ctx);
    /* A site has work and room: open one connection, already counted; end it with
     * scheduler_connection_gone. Only post. */
    void (*connect)(struct site *site, void *ctx);
    /* An idle connection has work. It was taken off the idle list. Only post. */
    void (*wake)(struct idler *idler, void *ctx);
    /* There is room for a domain that has more in the store. Only post. */
    void (*feed)(void *ctx);
    void *ctx;
};

struct scheduler *scheduler_new(const struct scheduler_hooks *hooks, const struct config *config);
void scheduler_free(struct scheduler **schedulerp);
/* New limits; domains are looked up anew when they next get mail. */
void scheduler_reload(struct scheduler *scheduler, const struct config *config);
void scheduler_stop(
    struct scheduler *scheduler); /* no unit is handed out from now on, no connection asked for */

enum offer {
    OFFER_TAKEN,
    OFFER_KNOWN,   /* is in memory already */
    OFFER_FULL,    /* no room: it belongs into the store's order of work */
    OFFER_STOPPED, /* shutting down: it stays in the store as it is */
};
enum offer scheduler_offer(struct scheduler *scheduler, uint64_t id, uint16_t number,
                           const char *domain);

/* ---- domains ---- */
const char *domain_name(const struct domain *domain); /* constant while a unit of it is in memory or
                                                         it is being looked up */
/* Takes the target. The mapping is good until monotonic `until_ms`. */
void scheduler_domain_known(struct scheduler *scheduler, struct domain *domain,
                            const char *site_key, struct site_target *target, uint64_t until_ms);
/* The units that waited; the caller settles and finishes each of them. The next offer asks again.
 */
struct unit_list scheduler_domain_failed(struct scheduler *scheduler, struct domain *domain);

/* ---- connections ---- */
const char *site_key(const struct site *site);
const struct site_target *site_target(const struct site *site);
struct unit *scheduler_pull(struct scheduler *scheduler, struct site *site); /* NULL: no work */
/* The connection stands (no longer connecting). */
void scheduler_connected(struct scheduler *scheduler, struct site *site);
/* Gives the connection's place back (`connected`: scheduler_connected was called) and the reference
 * to the site. */
void scheduler_connection_gone(struct scheduler *scheduler, struct site *site, bool connected);
/* Back to the front of its site's queue: no attempt took place. */
void scheduler_requeue(struct scheduler *scheduler, struct site *site, struct unit *unit);
/* All that is queued at a site whose hosts cannot be reached, at most max; the caller settles each.
 */
struct unit_list scheduler_take_all(struct scheduler *scheduler, struct site *site, size_t max);
size_t scheduler_connections_standing(struct scheduler *scheduler, struct site *site);

struct idler {
    struct idler *prev, *next;
    struct site *site;
    bool listed;
};
/* Wait for work. @return false: there is work already, or others wait for a connection's place: not
 * listed */
bool scheduler_idle(struct scheduler *scheduler, struct site *site, struct idler *idler,
                    bool *work_out);
/* Take it off the list. @return false: a wake-up is on its way and will come */
bool scheduler_unidle(struct scheduler *scheduler, struct idler *idler);

/* The wake-up has come: counted until here. */
void scheduler_woken(struct scheduler *scheduler, struct site *site);

/* The unit's outcome is in the store (or needs none): forget it. */
void scheduler_finish(struct scheduler *scheduler, struct unit *unit);

/* ---- the store's side ---- */
/* The domain has due work in the store that is not in memory. @return false: too many domains in
 * memory */
bool scheduler_mark_backlog(struct scheduler *scheduler, const char *domain);
/* The same for an entry of the store that became the domain's first: nothing to do if it has been
 * drawn before, unless it was newly inserted. */
bool scheduler_mark_due(struct scheduler *scheduler, const char *domain, int64_t due_unix_ms,
                        bool inserted);
/* All that was due up to this time has been offered. */
void scheduler_drawn(struct scheduler *scheduler, const char *domain, int64_t until_unix_ms);
/* Next domain with a backlog and room, its name copied; false: none. It is marked done until marked
 * again. */
bool scheduler_next_backlog(struct scheduler *scheduler, char *domain, size_t size);
bool scheduler_has_room(struct scheduler *scheduler);
bool scheduler_is_empty(struct scheduler *scheduler); /* no unit in memory */
void scheduler_purge(struct scheduler *scheduler,
                     uint64_t now_ms); /* forget domains and sites without work */

/* ---- looking ---- */
struct scheduler_counts {
    size_t units, active, domains, sites, connections, sites_at_work;
};
void scheduler_read_counts(struct scheduler *scheduler, struct scheduler_counts *counts_out);
/* Is the unit with a connection (or its outcome being recorded) now? */
bool scheduler_is_active(struct scheduler *scheduler, uint64_t id, uint16_t number);

#endif
