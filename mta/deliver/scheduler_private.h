/* mta/deliver/scheduler_private.h - what the scheduler's files share: scheduler.c (units, domains),
 * scheduler_site.c (sites, connections), scheduler_store.c (what waits in the store),
 * scheduler_slots.c (the table of units). All under scheduler.lock. */
#ifndef MTA_DELIVER_SCHEDULER_PRIVATE_H
#define MTA_DELIVER_SCHEDULER_PRIVATE_H

#include <pthread.h>
#include <uthash.h>

#include "mta/deliver/scheduler.h"

/* ---- the table of units ---- */
enum slot_state {
    SLOT_QUEUED, /* in its lane's queue */
    SLOT_LOOKED, /* in scheduler.changed */
    SLOT_ACTIVE, /* with a connection or the writer */
};

struct slot {
    struct unit unit; /* first: slot_of() */
    struct slot *next_in_bucket;
    enum slot_state state;
    bool passed; /* a draw met a newer entry of it while it was active */
};

static inline struct slot *slot_of(struct unit *unit)
{
    return (struct slot *)unit;
}

/* Keyed by id and, in steps of SLOT_GROUP, number: all units of a message are found by a look at
 * each group it may have. */
#define SLOT_GROUP 16
struct slots {
    struct slot **buckets;
    size_t mask;
    size_t count;
    size_t beyond;    /* of those, how many are not in the first group */
    uint16_t highest; /* number since `beyond` was 0 */
};
void slots_init(struct slots *slots, size_t expected);
void slots_deinit(struct slots *slots); /* frees what is left in it */
void slots_resize(struct slots *slots, size_t expected);
struct slot *slots_find(const struct slots *slots, uint64_t id, uint16_t number);
struct slot *slots_add(struct slots *slots, uint64_t id, uint16_t number); /* not there yet */
void slots_remove(struct slots *slots, struct slot *slot);                 /* frees it */
/* Calls fn for each unit of the message. */
void slots_each(const struct slots *slots, uint64_t id, void (*fn)(struct slot *slot, void *ctx),
                void *ctx);

/* ---- domains ---- */
enum lane_place {
    LANE_NOWHERE, /* nothing more in the store, as far as we know */
    LANE_TIMED,   /* in the heap: there is, at next_unix_ms */
    LANE_READY,   /* it is due: on the list of those to be drawn */
    LANE_HUNGRY,  /* it is due, but its window is full */
    LANE_DRAWING,
};

struct lane {
    struct domain *domain;
    struct unit_list queue;
    struct lane *ring_prev, *ring_next; /* of the site, while anything is queued; else NULL */
    size_t units;                       /* in memory, wherever they are */
    int64_t next_unix_ms;               /* the store has nothing for us before */
    struct lane *place_prev, *place_next;
    size_t heap_index;
    uint8_t place; /* enum lane_place */
    uint8_t kind;  /* enum queue_lane */
    /* next_unix_ms counts, whatever `next` says: entries of units in memory stand in front. */
    bool known;
    bool unsure;    /* something may be left before next_unix_ms: draw from the beginning */
    uint8_t doubts; /* how often that was so, and what was drawn then ended in doubt again */
};

struct lane_list {
    struct lane *head, *tail;
    size_t count;
};

struct domain {
    char *name;
    struct lane lanes[LANES];
    struct site *site;       /* NULL until known */
    uint64_t known_until_ms; /* monotonic */
    uint64_t ask_after_ms;   /* monotonic: a lookup has just failed */
    size_t units;
    unsigned asked_generation; /* of the configuration, when it was asked */
    bool asking, resolving;    /* on the list of those to be looked up; being looked up */
    bool idle;                 /* on the list of those that may be forgotten */
    uint64_t idle_since_ms;
    struct domain *prev, *next; /* asking or idle */
    UT_hash_handle hh;
};

struct domain_list {
    struct domain *head, *tail;
};

/* ---- sites ---- */
struct site {
    char *key;
    struct site_target target;
    struct lane *ring[LANES]; /* next to be served; domains with units queued */
    size_t queued;
    uint32_t connections, connecting, waking;
    size_t domains; /* that point here */
    struct idler *idle;
    uint8_t turn; /* which kind is served next */
    bool starved; /* has work, but all connections of the daemon are in use */
    struct site *next_starved;
    UT_hash_handle hh;
};

struct scheduler {
    pthread_mutex_t lock;
    struct scheduler_hooks hooks;
    uint32_t site_connections, max_connections;
    size_t units_max, domains_max;
    struct slots slots;
    struct domain *domains;
    struct site *sites;
    uint32_t connections;
    size_t active;
    bool stopping;
    unsigned generation; /* of the configuration */
    struct site *starved_head, *starved_tail;
    struct unit_list changed;

    struct domain_list asking[LANES]; /* to be looked up, by what waits */
    uint8_t ask_turn;
    size_t resolving;
    struct domain_list idle; /* longest idle first */
    bool domain_wanted;      /* a domain of the store found no room */

    int64_t now_unix_ms, horizon_unix_ms;
    struct lane **heap; /* by next_unix_ms */
    size_t heap_count, heap_size;
    struct lane_list ready, hungry;
    size_t finished; /* units (or a reload), since the hungry ones had a look */
};

/* All with the lock held. */

/* ---- scheduler.c ---- */
/* NULL: not there and, where it is to be made, no room. spare: how many places to leave free. */
struct domain *scheduler_find_domain(struct scheduler *s, const char *name, bool make,
                                     size_t spare);
enum offer scheduler_add_unit(struct scheduler *s, struct lane *lane,
                              const struct queue_due_entry *entry);
void scheduler_check_idle(struct scheduler *s, struct domain *domain);
void scheduler_drop_domain(struct scheduler *s, struct domain *domain);
void scheduler_ask(struct scheduler *s, struct domain *domain, enum queue_lane kind);
void domain_list_add(struct domain_list *list, struct domain *domain);
void domain_list_remove(struct domain_list *list, struct domain *domain);

/* ---- scheduler_site.c ---- */
/* The queue of the lane got its first unit, or lost its last; the domain has a site. */
void site_ring_add(struct lane *lane);
void site_ring_remove(struct lane *lane);
void scheduler_attach(struct scheduler *s, struct domain *domain, struct site *site);
void scheduler_detach(struct scheduler *s, struct domain *domain);
void scheduler_stir(struct scheduler *s, struct site *site);
struct site *scheduler_find_site(struct scheduler *s, const char *key, struct site_target *target);
void scheduler_free_site(struct scheduler *s, struct site *site);

/* ---- scheduler_store.c ---- */
size_t scheduler_window(const struct scheduler *s); /* how many units a domain may hold just now */
size_t lane_window(size_t window);                  /* of those, of one kind */
void lane_lower(struct scheduler *s, struct lane *lane, int64_t due_unix_ms);
/* Something of the lane may have been left behind: it is read from the beginning in a while. */
void lane_doubt(struct scheduler *s, struct lane *lane, int64_t wall_ms);
void lane_take_out(struct scheduler *s, struct lane *lane); /* of heap and lists */
/* A unit of the domain has left memory. */
void scheduler_room_grew(struct scheduler *s, struct domain *domain);

#endif
