/* mta/deliver/scheduler.h - units in memory, grouped by domain and site, and who may take them.
 *
 * One structure under one short lock; any thread; constant or logarithmic work a unit. Memory is
 * bounded by delivery.units_in_memory: a domain holds a window of units, the smaller the less room
 * is left for all together; what does not fit stays in the store and is drawn later (supply.c).
 *
 * Fair by turns: a site's new and retried mail alternate, and within each kind its domains; a
 * window keeps room for either kind; domains draw from the store one after the other.
 *
 * A unit in memory is owned by exactly one of: a domain's queue, the list of those to be looked at
 * (an admin changed them), a connection, or the writer that records its outcome. */
#ifndef MTA_DELIVER_SCHEDULER_H
#define MTA_DELIVER_SCHEDULER_H

#include "config/config.h"
#include "mta/base/str.h"
#include "queue/queue.h"

#define SITE_HOSTS_MAX 64
#define LANES          2 /* of enum queue_lane */

struct scheduler;
struct domain;
struct site;
struct idler; /* an idle connection, as the scheduler sees it: embedded in the connection */

struct unit {
    uint64_t id;
    int64_t due_unix_ms; /* of the entry that it was drawn by; 0: it was offered */
    struct domain *domain;
    struct unit *prev, *next;
    uint16_t number;
    uint8_t lane;  /* enum queue_lane */
    bool requeued; /* went back once because a reused connection was stale */
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

/* All with the lock held: only post. */
struct scheduler_hooks {
    /* A domain with waiting units needs its site: answer with scheduler_domain_known/_failed. */
    void (*resolve)(struct domain *domain, void *ctx);
    /* A site has work and room: open one connection, already counted; end it with
     * scheduler_connection_gone. */
    void (*connect)(struct site *site, void *ctx);
    /* An idle connection has work. It was taken off the idle list. */
    void (*wake)(struct idler *idler, void *ctx);
    /* There is room for what waits in the store, or a unit is to be looked at. */
    void (*feed)(void *ctx);
    uint64_t (*monotonic_ms)(void *ctx); /* NULL: the machine's clocks */
    int64_t (*wall_ms)(void *ctx);
    void *ctx;
    /* What the process has room for, whatever delivery.max_connections says; 0: no such bound. */
    uint32_t connections_most;
};

struct scheduler *scheduler_new(const struct scheduler_hooks *hooks, const struct config *config);
void scheduler_free(struct scheduler **schedulerp);
/* New limits; what waits is routed anew. */
void scheduler_reload(struct scheduler *scheduler, const struct config *config);
/* No unit is handed out from now on, no connection asked for. */
void scheduler_stop(struct scheduler *scheduler);

enum offer {
    OFFER_TAKEN,
    OFFER_KNOWN,   /* is in memory already */
    OFFER_FULL,    /* no room, or others of its kind wait in the store: there it belongs as well */
    OFFER_STOPPED, /* shutting down: it stays in the store as it is */
};
/* A fresh unit. */
enum offer scheduler_offer(struct scheduler *scheduler, uint64_t id, uint16_t number,
                           const char *domain);

/* ---- domains ---- */
/* Constant while a unit of it is in memory or it is being looked up. */
const char *domain_name(const struct domain *domain);
/* Takes the target. The mapping is good until monotonic `until_ms`. */
void scheduler_domain_known(struct scheduler *scheduler, struct domain *domain,
                            const char *site_key, struct site_target *target, uint64_t until_ms);
/* @return the units that waited; the caller settles and finishes each of them. The next offer asks
 * again. A temporary failure leaves them with a site that was known until lately; after a reload
 * it is asked once more. */
struct unit_list scheduler_domain_failed(struct scheduler *scheduler, struct domain *domain,
                                         bool temporary);

/* ---- connections ---- */
const char *site_key(const struct site *site);
const struct site_target *site_target(const struct site *site);
struct unit *scheduler_pull(struct scheduler *scheduler, struct site *site); /* NULL: no work */
/* The connection stands (no longer connecting). */
void scheduler_connected(struct scheduler *scheduler, struct site *site);
/* Gives the connection's place back (`connected`: scheduler_connected was called) and the reference
 * to the site. */
void scheduler_connection_gone(struct scheduler *scheduler, struct site *site, bool connected);
/* Back to the front of its domain's queue: no attempt took place. */
void scheduler_requeue(struct scheduler *scheduler, struct unit *unit);
/* All that is queued at a site whose hosts cannot be reached; the caller settles each. */
struct unit_list scheduler_take_all(struct scheduler *scheduler, struct site *site);
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

/* The unit's outcome is in the store: it leaves memory. */
void scheduler_finish(struct scheduler *scheduler, struct unit *unit);
/* It leaves memory without: what the store holds of its kind is read again a little later. */
void scheduler_forget(struct scheduler *scheduler, struct unit *unit);

/* ---- an admin's steps ---- */
/* The message was changed in the store: its waiting units are to be looked at. */
void scheduler_changed(struct scheduler *scheduler, uint64_t id);
/* The next of them, taken as by a connection: finish, forget or requeue it. NULL: none */
struct unit *scheduler_next_changed(struct scheduler *scheduler);

/* ---- the store's order of work (supply.c) ---- */
/* The clock by which entries are due: those up to `now`, and those after `horizon`, which cannot be
 * meant (the clock went back). */
void scheduler_set_time(struct scheduler *scheduler, int64_t now_unix_ms, int64_t horizon_unix_ms);
/* The lane has an entry at this time that came just now (queue's on_due). `make`: also if nothing
 * is known of the domain. @return false: there is no room for a further domain */
bool scheduler_note_due(struct scheduler *scheduler, const char *domain, enum queue_lane lane,
                        int64_t due_unix_ms, bool make);
/* The same of the lane's earliest entry, as found in the store: passed over where memory knows the
 * lane better. @return false: no room for a further domain */
bool scheduler_mark(struct scheduler *scheduler, const char *domain, enum queue_lane lane,
                    int64_t due_unix_ms);
/* Trust nothing that is known of the store: all lanes will be marked anew. */
void scheduler_doubt(struct scheduler *scheduler);

/* A lane with due entries in the store and room in memory. */
struct draw {
    char domain[QUEUE_DOMAIN_MAX + 1];
    enum queue_lane lane;
    int64_t from_unix_ms; /* what lies before is in memory already */
    size_t taken;
    bool doubted;
};
bool scheduler_next_draw(struct scheduler *scheduler, struct draw *draw_out);
/* A unit of the draw. One that is only to be bounced needs no connection: it is to be looked at. */
enum offer scheduler_draw_unit(struct scheduler *scheduler, struct draw *draw,
                               const struct queue_due_entry *entry);
/* Ends the draw: the first entry that is not in memory is the one at `later` (QUEUE_NEVER: none).
 */
void scheduler_drawn(struct scheduler *scheduler, const struct draw *draw, int64_t later_unix_ms);
/* When the next lane in memory becomes due; QUEUE_NEVER: none will. */
int64_t scheduler_next_due(struct scheduler *scheduler);
bool scheduler_has_room(struct scheduler *scheduler);
/* Every second or so: forget what was idle for long, give those that found no room another look. */
void scheduler_tidy(struct scheduler *scheduler);

/* ---- looking ---- */
struct scheduler_counts {
    size_t units, active, domains, sites, connections, sites_at_work;
};
void scheduler_read_counts(struct scheduler *scheduler, struct scheduler_counts *counts_out);
/* Is the unit with a connection (or its outcome being recorded) now? */
bool scheduler_is_active(struct scheduler *scheduler, uint64_t id, uint16_t number);

#endif
