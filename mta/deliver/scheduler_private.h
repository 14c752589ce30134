/* mta/deliver/scheduler_private.h - what scheduler.c keeps. All fields under scheduler.lock. */
#ifndef MTA_DELIVER_SCHEDULER_PRIVATE_H
#define MTA_DELIVER_SCHEDULER_PRIVATE_H

#include <pthread.h>
#include <uthash.h>

#include "mta/deliver/scheduler.h"

struct slot_key {
    uint64_t id;
    uint64_t number; /* 64 bits so that the key has no padding */
};

struct slot {
    struct unit unit; /* first: slot_of() */
    struct slot_key key;
    bool active;
    UT_hash_handle hh;
};

static inline struct slot *slot_of(struct unit *unit)
{
    return (struct slot *)unit;
}

struct domain {
    char *name;
    struct site *site;       /* NULL until known */
    uint64_t known_until_ms; /* monotonic */
    struct unit_list waiting;
    size_t units; /* in memory, wherever they are */
    bool resolving;
    unsigned asked_generation; /* of the configuration, when it was asked */
    int64_t drawn_unix_ms;     /* what was due up to then is in memory or settled */
    bool backlog;              /* more in the store: on the backlog list */
    struct domain *next_backlog;
    UT_hash_handle hh;
};

struct site {
    char *key;
    struct site_target target;
    struct unit_list queue;
    uint32_t connections, connecting, waking;
    struct idler *idle;
    bool starved; /* has work, but all connections of the daemon are in use */
    bool wanted;  /* by a domain: purge keeps it */
    struct site *next_starved;
    UT_hash_handle hh;
};

struct scheduler {
    pthread_mutex_t lock;
    struct scheduler_hooks hooks;
    uint32_t site_connections, max_connections;
    struct slot *slots;
    struct domain *domains;
    struct site *sites;
    uint32_t connections;
    size_t active;
    bool stopping;
    unsigned generation;  /* of the configuration */
    bool starved_backlog; /* a backlog waits for room among all units */
    struct site *starved_head, *starved_tail;
    struct domain *backlog_head, *backlog_tail;
};

/* All with the lock held. */
struct domain *scheduler_find_domain(struct scheduler *s, const char *name, bool make);
void scheduler_free_domain(struct scheduler *s, struct domain *domain);
void scheduler_free_site(struct scheduler *s, struct site *site);
size_t scheduler_window(const struct scheduler *s); /* how many units a domain may hold just now */

#endif
