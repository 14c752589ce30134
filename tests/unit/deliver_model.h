/* A small world for the scheduler and its supply: a store in memory with the order of work, a clock
 * that only the test moves, lookups and connections that are made at once. Header only. */
#ifndef TESTS_UNIT_DELIVER_MODEL_H
#define TESTS_UNIT_DELIVER_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/deliver/supply.h"

struct model_row { /* one unit that waits */
    int64_t due;
    uint64_t id;
    uint32_t attempts;
    uint16_t domain;
    uint8_t lane;
    bool there;     /* in the store's order of work; else held or done */
    bool in_memory; /* of the scheduler */
};

struct model {
    struct scheduler *scheduler;
    struct supply supply;
    struct config config;
    struct model_row *rows;
    size_t row_count;
    uint32_t *order; /* scratch of one reading */
    int64_t wall;
    uint64_t monotonic;
    int64_t horizon_ms; /* from now */
    struct domain **asked;
    struct site **opened;
    size_t asked_count, opened_count;
    size_t sites;                        /* domain d has site d % sites */
    size_t rows_read;                    /* of `due` */
    int64_t look_from;                   /* on_due found no room */
    bool (*in_between)(struct model *m); /* runs between a reading's snapshot and its rows */
};

static inline void model_hook_resolve(struct domain *domain, void *ctx)
{
    struct model *m = ctx;
    m->asked[m->asked_count++] = domain;
}

static inline void model_hook_connect(struct site *site, void *ctx)
{
    struct model *m = ctx;
    m->opened[m->opened_count++] = site;
}

static inline void model_hook_wake(struct idler *idler, void *ctx)
{
    (void)idler;
    (void)ctx;
}

static inline void model_hook_feed(void *ctx)
{
    (void)ctx;
}

static inline uint64_t model_hook_monotonic(void *ctx)
{
    return ((struct model *)ctx)->monotonic;
}

static inline int64_t model_hook_wall(void *ctx)
{
    return ((struct model *)ctx)->wall;
}

static inline void model_name(unsigned domain, char name[32])
{
    snprintf(name, 32, "d%u.example", domain);
}

/* ---- the store ---- */

static struct model *model_sorting;

static inline int model_compare(const void *a, const void *b)
{
    const struct model_row *x = &model_sorting->rows[*(const uint32_t *)a];
    const struct model_row *y = &model_sorting->rows[*(const uint32_t *)b];
    if (x->due != y->due)
        return x->due < y->due ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static inline int model_read_due(void *queue, const char *domain, enum queue_lane lane,
                                 int64_t from_ms, int64_t until_ms, queue_draw_fn fn, void *ctx,
                                 int64_t *later_out)
{
    struct model *m = queue;
    unsigned number = (unsigned)strtoul(domain + 1, NULL, 10);
    size_t count = 0;
    int64_t later = QUEUE_NEVER;
    for (size_t i = 0; i < m->row_count; i++) {
        const struct model_row *row = &m->rows[i];
        if (!row->there || row->domain != number || row->lane != (uint8_t)lane ||
            row->due < from_ms)
            continue;
        if (row->due <= until_ms)
            m->order[count++] = (uint32_t)i;
        else if (row->due < later)
            later = row->due;
    }
    model_sorting = m;
    qsort(m->order, count, sizeof *m->order, model_compare);
    struct queue_due_entry *entries = malloc((count + 1) * sizeof *entries);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct queue_due_entry){.due_unix_ms = m->rows[m->order[i]].due,
                                              .id = m->rows[m->order[i]].id};
    if (m->in_between != NULL)
        (void)m->in_between(m);
    size_t at = 0;
    while (at < count && fn(&entries[at], ctx))
        at++;
    m->rows_read += at;
    free(entries);
    *later_out = at < count ? QUEUE_NEVER : later;
    return 0;
}

struct model_next {
    int64_t due;
    uint8_t lane;
    char domain[32];
};

static inline int model_compare_next(const void *a, const void *b)
{
    const struct model_next *x = a, *y = b;
    if (x->due != y->due)
        return x->due < y->due ? -1 : 1;
    if (x->lane != y->lane)
        return x->lane < y->lane ? -1 : 1;
    return strcmp(x->domain, y->domain);
}

static inline int model_read_next(void *queue, int64_t after_ms, enum queue_lane after_lane,
                                  const char *after_domain, int64_t until_ms, queue_next_fn fn,
                                  void *ctx)
{
    enum { DOMAINS = 4096 };
    static struct model_next nexts[2 * DOMAINS];
    struct model *m = queue;
    size_t count = 0;
    memset(nexts, 0, sizeof nexts);
    for (size_t i = 0; i < m->row_count; i++) {
        const struct model_row *row = &m->rows[i];
        struct model_next *next = &nexts[row->lane * DOMAINS + row->domain];
        if (row->there && (next->due == 0 || row->due < next->due))
            *next = (struct model_next){.due = row->due, .lane = row->lane};
    }
    for (size_t i = 0; i < 2 * DOMAINS; i++) {
        if (nexts[i].due == 0 || nexts[i].due > until_ms || nexts[i].due < after_ms)
            continue;
        model_name((unsigned)(i % DOMAINS), nexts[i].domain);
        struct model_next after = {.due = after_ms, .lane = (uint8_t)after_lane};
        snprintf(after.domain, sizeof after.domain, "%s", after_domain != NULL ? after_domain : "");
        if (after_domain != NULL && model_compare_next(&nexts[i], &after) <= 0)
            continue;
        nexts[count++] = nexts[i];
    }
    qsort(nexts, count, sizeof nexts[0], model_compare_next);
    for (size_t i = 0; i < count; i++) {
        if (!fn(nexts[i].due, (enum queue_lane)nexts[i].lane, nexts[i].domain, ctx))
            break;
    }
    return 0;
}

/* ---- what the daemon does around it ---- */

static inline void model_open(struct model *m, uint32_t units, size_t rows, size_t sites)
{
    struct scheduler_hooks hooks = {model_hook_resolve,
                                    model_hook_connect,
                                    model_hook_wake,
                                    model_hook_feed,
                                    model_hook_monotonic,
                                    model_hook_wall,
                                    m,
                                    0};
    struct supply_source source = {model_read_next, model_read_due, m};
    m->config.delivery.site_connections = 20;
    m->config.delivery.max_connections = 1000;
    m->config.delivery.units_in_memory = units;
    m->rows = calloc(rows, sizeof *m->rows);
    m->order = calloc(rows, sizeof *m->order);
    m->asked = calloc(rows, sizeof *m->asked);
    m->opened = calloc(100000, sizeof *m->opened);
    m->row_count = rows;
    m->sites = sites;
    m->look_from = QUEUE_NEVER;
    m->scheduler = scheduler_new(&hooks, &m->config);
    supply_init(&m->supply, m->scheduler, &source);
}

/* The daemon ends and starts again: the store is as it was. */
static inline void model_restart(struct model *m)
{
    struct scheduler_hooks hooks = {model_hook_resolve,
                                    model_hook_connect,
                                    model_hook_wake,
                                    model_hook_feed,
                                    model_hook_monotonic,
                                    model_hook_wall,
                                    m,
                                    0};
    struct supply_source source = m->supply.source;
    scheduler_free(&m->scheduler);
    m->scheduler = scheduler_new(&hooks, &m->config);
    m->asked_count = m->opened_count = 0;
    m->look_from = QUEUE_NEVER;
    for (size_t i = 0; i < m->row_count; i++)
        m->rows[i].in_memory = false;
    supply_init(&m->supply, m->scheduler, &source);
}

static inline void model_close(struct model *m)
{
    scheduler_free(&m->scheduler);
    free(m->rows);
    free(m->order);
    free(m->asked);
    free(m->opened);
}

/* The row enters the order of work: as deliver_on_due() is told of it. */
static inline void model_put(struct model *m, struct model_row *row, enum queue_lane lane,
                             int64_t due)
{
    char name[32];
    row->there = true;
    row->lane = (uint8_t)lane;
    row->due = due;
    model_name(row->domain, name);
    if (!scheduler_note_due(m->scheduler, name, lane, due, due <= m->wall) && due < m->look_from)
        m->look_from = due;
}

static inline bool model_step(struct model *m)
{
    if (m->look_from != QUEUE_NEVER)
        supply_look_from(&m->supply, m->look_from);
    m->look_from = QUEUE_NEVER;
    return supply_step(&m->supply, m->wall, m->wall + m->horizon_ms);
}

static inline void model_resolve(struct model *m)
{
    char key[32];
    while (m->asked_count > 0) {
        struct domain *domain = m->asked[--m->asked_count];
        struct site_target target = {.host_count = 1};
        target.hosts = mem_alloc(sizeof *target.hosts);
        target.hosts[0].name = str_dup(str_from("host"));
        snprintf(key, sizeof key, "s%zu",
                 (size_t)strtoul(domain_name(domain) + 1, NULL, 10) % m->sites);
        scheduler_domain_known(m->scheduler, domain, key, &target, m->monotonic + 300000);
    }
}

/* All connections end; those asked for by that stay. */
static inline void model_hang_up(struct model *m)
{
    size_t count = m->opened_count;
    for (size_t i = 0; i < count; i++)
        scheduler_connection_gone(m->scheduler, m->opened[i], false);
    m->opened_count -= count;
    memmove(m->opened, m->opened + count, m->opened_count * sizeof *m->opened);
}

static inline struct model_row *model_row_of(struct model *m, const struct unit *unit)
{
    return &m->rows[unit->id - 1];
}

#endif
