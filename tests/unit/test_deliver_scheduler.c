/* Units, domains and sites in memory: who may take one, how many connections are asked for, and
 * that no unit, place or wake-up is ever lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mta/deliver/scheduler.h"

#define LISTED 64

struct fake {
    uint32_t connections_most;
    struct scheduler *scheduler;
    struct config config;
    struct domain *asked[LISTED]; /* to be resolved */
    struct site *opened[LISTED];  /* connections asked for */
    struct idler *woken[LISTED];
    size_t asked_count, opened_count, woken_count, fed;
    bool any_resolve; /* only counted: */
    size_t resolves;
    struct domain *last_resolve;
    uint64_t now_ms;
};

static void hook_resolve(struct domain *domain, void *ctx)
{
    struct fake *f = ctx;
    f->resolves++;
    f->last_resolve = domain;
    if (f->any_resolve)
        return;
    assert_true(f->asked_count < LISTED);
    f->asked[f->asked_count++] = domain;
}

static void hook_connect(struct site *site, void *ctx)
{
    struct fake *f = ctx;
    assert_true(f->opened_count < LISTED);
    f->opened[f->opened_count++] = site;
}

static void hook_wake(struct idler *idler, void *ctx)
{
    struct fake *f = ctx;
    assert_true(f->woken_count < LISTED);
    f->woken[f->woken_count++] = idler;
}

static void hook_feed(void *ctx)
{
    ((struct fake *)ctx)->fed++;
}

static uint64_t hook_monotonic(void *ctx)
{
    return ((struct fake *)ctx)->now_ms;
}

static int64_t hook_wall(void *ctx)
{
    return (int64_t)((struct fake *)ctx)->now_ms;
}

static void set_up_most(struct fake *f, uint32_t site_connections, uint32_t max_connections,
                        uint32_t connections_most)
{
    memset(f, 0, sizeof *f);
    f->connections_most = connections_most;
    f->config.delivery.site_connections = site_connections;
    f->config.delivery.max_connections = max_connections;
    f->config.delivery.units_in_memory = 50000;
    f->now_ms = 10000000;
    struct scheduler_hooks hooks = {hook_resolve,   hook_connect, hook_wake, hook_feed,
                                    hook_monotonic, hook_wall,    f,         f->connections_most};
    f->scheduler = scheduler_new(&hooks, &f->config);
}

static void set_up(struct fake *f, uint32_t site_connections, uint32_t max_connections)
{
    set_up_most(f, site_connections, max_connections, 0);
}

static void tear_down(struct fake *f)
{
    scheduler_free(&f->scheduler);
    assert_null(f->scheduler);
}

static struct scheduler_counts counts_of(struct fake *f)
{
    struct scheduler_counts counts;
    scheduler_read_counts(f->scheduler, &counts);
    return counts;
}

static enum offer offer(struct fake *f, uint64_t id, const char *domain)
{
    return scheduler_offer(f->scheduler, id, 0, domain);
}

/* Answer the lookup asked last: the domain's mail goes to this host. */
static void resolve_to(struct fake *f, const char *key)
{
    struct site_target target = {.host_count = 1};
    target.hosts = mem_alloc(sizeof *target.hosts);
    target.hosts[0].name = str_dup(str_from(key));
    assert_true(f->asked_count > 0);
    scheduler_domain_known(f->scheduler, f->asked[--f->asked_count], key, &target,
                           f->now_ms + 3600000);
}

/* The connection asked for last: stands, with its first unit. */
static struct site *take_connection(struct fake *f)
{
    assert_true(f->opened_count > 0);
    return f->opened[--f->opened_count];
}

static void finish_next(struct fake *f, struct site *site, uint64_t id)
{
    struct unit *unit = scheduler_pull(f->scheduler, site);
    assert_non_null(unit);
    assert_int_equal(unit->id, id);
    scheduler_finish(f->scheduler, unit);
}

/* ---- one unit's way ---- */

static void test_one_unit(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 20, 100);
    assert_int_equal(offer(&f, 7, "a.example"), OFFER_TAKEN);
    assert_int_equal(offer(&f, 7, "a.example"), OFFER_KNOWN);
    assert_int_equal(f.asked_count, 1);
    assert_string_equal(domain_name(f.asked[0]), "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    assert_string_equal(site_key(site), "mx.example");
    assert_string_equal(site_target(site)->hosts[0].name, "mx.example");

    assert_false(scheduler_is_active(f.scheduler, 7, 0));
    struct unit *unit = scheduler_pull(f.scheduler, site);
    assert_non_null(unit);
    assert_true(scheduler_is_active(f.scheduler, 7, 0));
    assert_null(scheduler_pull(f.scheduler, site));
    assert_int_equal(offer(&f, 7, "a.example"), OFFER_KNOWN); /* drawn again while in delivery */
    scheduler_connected(f.scheduler, site);
    assert_int_equal(scheduler_connections_standing(f.scheduler, site), 1);
    scheduler_finish(f.scheduler, unit);
    assert_false(scheduler_is_active(f.scheduler, 7, 0));
    scheduler_connection_gone(f.scheduler, site, true);

    struct scheduler_counts counts = counts_of(&f);
    assert_int_equal(counts.units + counts.active + counts.connections + counts.sites_at_work, 0);
    assert_int_equal(f.opened_count, 0);
    tear_down(&f);
}

/* Many units and one lookup, domains of one host share the site and its limit. */
static void test_domains_share_a_site(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 2, 100);
    for (uint64_t id = 1; id <= 5; id++)
        assert_int_equal(offer(&f, id, "a.example"), OFFER_TAKEN);
    assert_int_equal(f.asked_count, 1);
    resolve_to(&f, "mx.example");
    assert_int_equal(f.opened_count, 2);
    assert_int_equal(offer(&f, 6, "b.example"), OFFER_TAKEN);
    resolve_to(&f, "mx.example");
    assert_int_equal(f.opened_count, 2);
    assert_int_equal(counts_of(&f).sites, 1);
    struct site *site = take_connection(&f);
    finish_next(&f, site, 1);
    finish_next(&f, site, 6); /* the other domain's turn */
    for (uint64_t id = 2; id <= 5; id++)
        finish_next(&f, site, id);
    scheduler_connection_gone(f.scheduler, site, false);
    scheduler_connection_gone(f.scheduler, take_connection(&f), false);
    assert_int_equal(f.opened_count, 0);
    assert_int_equal(counts_of(&f).connections, 0);
    tear_down(&f);
}

/* What comes while the only connection is connecting gets its own as soon as the host answers. */
static void test_unit_behind_a_connecting_one(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 20, 100);
    (void)offer(&f, 1, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    struct unit *first = scheduler_pull(f.scheduler, site);
    (void)offer(&f, 2, "a.example");
    assert_int_equal(f.opened_count, 0);
    scheduler_connected(f.scheduler, site); /* and busy with the first for long */
    assert_int_equal(f.opened_count, 1);
    assert_ptr_equal(take_connection(&f), site);
    finish_next(&f, site, 2);
    scheduler_finish(f.scheduler, first);
    scheduler_connection_gone(f.scheduler, site, true);
    scheduler_connection_gone(f.scheduler, site, false);
    assert_int_equal(counts_of(&f).connections, 0);
    tear_down(&f);
}

static void test_connection_lost_before_its_unit(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 100);
    (void)offer(&f, 1, "a.example");
    (void)offer(&f, 2, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    struct unit *unit = scheduler_pull(f.scheduler, site);
    assert_int_equal(unit->id, 1);
    scheduler_requeue(f.scheduler, unit); /* stale: back, and first again */
    assert_false(scheduler_is_active(f.scheduler, 1, 0));
    assert_int_equal(f.opened_count, 0); /* no place until that one is gone */
    scheduler_connection_gone(f.scheduler, site, false);
    assert_int_equal(f.opened_count, 1);
    finish_next(&f, take_connection(&f), 1);
    finish_next(&f, site, 2);
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

/* ---- idle connections ---- */

static void test_idle_and_wake(void **unused)
{
    struct fake f;
    struct idler idler = {0};
    bool work = true;
    (void)unused;
    set_up(&f, 20, 100);
    (void)offer(&f, 1, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    finish_next(&f, site, 1);
    scheduler_connected(f.scheduler, site);
    assert_true(scheduler_idle(f.scheduler, site, &idler, &work));
    assert_false(work);

    (void)offer(&f, 2,
                "a.example"); /* known: no lookup, the idle one is woken, nothing is opened */
    assert_int_equal(f.asked_count + f.opened_count, 0);
    assert_int_equal(f.woken_count, 1);
    assert_ptr_equal(f.woken[0], &idler);
    assert_false(scheduler_unidle(f.scheduler, &idler)); /* too late: the wake-up comes */
    (void)offer(&f, 3, "a.example");
    assert_int_equal(f.opened_count, 1); /* one is on its way, the second unit needs another */
    scheduler_woken(f.scheduler, site);
    finish_next(&f, site, 2);
    assert_false(scheduler_idle(f.scheduler, site, &idler, &work));
    assert_true(work);
    finish_next(&f, site, 3);
    assert_true(scheduler_idle(f.scheduler, site, &idler, &work));
    assert_true(scheduler_unidle(f.scheduler, &idler));
    assert_false(scheduler_unidle(f.scheduler, &idler));
    scheduler_connection_gone(f.scheduler, site, true);
    scheduler_connection_gone(f.scheduler, take_connection(&f), false);
    tear_down(&f);
}

/* A woken connection that turns out to be stale: its unit gets another. */
static void test_woken_but_stale(void **unused)
{
    struct fake f;
    struct idler idler = {0};
    bool work;
    (void)unused;
    set_up(&f, 1, 1);
    (void)offer(&f, 1, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    finish_next(&f, site, 1);
    scheduler_connected(f.scheduler, site);
    assert_true(scheduler_idle(f.scheduler, site, &idler, &work));
    (void)offer(&f, 2, "a.example");
    assert_int_equal(f.woken_count, 1);
    scheduler_woken(f.scheduler, site);
    scheduler_connection_gone(f.scheduler, site, true);
    assert_int_equal(f.opened_count, 1);
    finish_next(&f, take_connection(&f), 2);
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

/* All places taken: the next free one goes to the site that has waited longest, and nobody idles
 * meanwhile. */
static void test_starved_sites_take_turns(void **unused)
{
    struct fake f;
    struct idler idler = {0};
    bool work;
    (void)unused;
    set_up(&f, 20, 1);
    (void)offer(&f, 1, "a.example");
    resolve_to(&f, "mx-a");
    struct site *a = take_connection(&f);
    finish_next(&f, a, 1);
    scheduler_connected(f.scheduler, a);
    (void)offer(&f, 2, "b.example");
    resolve_to(&f, "mx-b");
    (void)offer(&f, 3, "c.example");
    resolve_to(&f, "mx-c");
    assert_int_equal(f.opened_count, 0);
    assert_false(scheduler_idle(f.scheduler, a, &idler, &work));
    assert_false(work);
    scheduler_connection_gone(f.scheduler, a, true);
    assert_int_equal(f.opened_count, 1);
    struct site *b = take_connection(&f);
    assert_string_equal(site_key(b), "mx-b");
    (void)offer(&f, 4, "b.example"); /* b is not preferred because it has the place */
    finish_next(&f, b, 2);
    scheduler_connection_gone(f.scheduler, b, false);
    struct site *c = take_connection(&f);
    assert_string_equal(site_key(c), "mx-c");
    finish_next(&f, c, 3);
    scheduler_connection_gone(f.scheduler, c, false);
    assert_ptr_equal(take_connection(&f), b);
    finish_next(&f, b, 4);
    scheduler_connection_gone(f.scheduler, b, false);
    assert_int_equal(f.opened_count, 0);
    assert_int_equal(counts_of(&f).connections, 0);
    tear_down(&f);
}

/* ---- failures ---- */

static void test_failed_domain_and_dead_site(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 10);
    for (uint64_t id = 1; id <= 3; id++)
        (void)offer(&f, id, "a.example");
    struct unit_list list = scheduler_domain_failed(f.scheduler, f.asked[--f.asked_count], false);
    assert_int_equal(list.count, 3);
    assert_int_equal(counts_of(&f).active, 3);
    for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list))
        scheduler_finish(f.scheduler, unit);
    assert_int_equal(counts_of(&f).active, 0);

    for (uint64_t id = 4; id <= 7; id++)
        (void)offer(&f, id, "a.example");
    assert_int_equal(f.asked_count, 1); /* asked again */
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    assert_int_equal(scheduler_connections_standing(f.scheduler, site), 0);
    list = scheduler_take_all(f.scheduler, site);
    assert_int_equal(list.count, 4);
    for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list))
        scheduler_finish(f.scheduler, unit);
    scheduler_connection_gone(f.scheduler, site, false);
    assert_int_equal(f.opened_count, 0);
    assert_int_equal(counts_of(&f).units + counts_of(&f).active, 0);
    tear_down(&f);
}

/* ---- turns ---- */

static void draw_one(struct fake *f, uint64_t id, const char *domain)
{
    struct draw draw;
    struct queue_due_entry entry = {.due_unix_ms = 1, .id = id};
    scheduler_set_time(f->scheduler, 1000, 2000);
    assert_true(scheduler_note_due(f->scheduler, domain, QUEUE_LANE_RETRY, 1, true));
    assert_true(scheduler_next_draw(f->scheduler, &draw));
    assert_string_equal(draw.domain, domain);
    assert_int_equal(scheduler_draw_unit(f->scheduler, &draw, &entry), OFFER_TAKEN);
    scheduler_drawn(f->scheduler, &draw, QUEUE_NEVER);
}

/* One site, one domain with a flood, one with a little: by turns, and new and retried mail as well.
 */
static void test_turns(void **unused)
{
    struct fake f;
    static const uint64_t order[] = {101, 201, 301, 202, 102, 203, 103, 204, 104, 205};
    (void)unused;
    set_up(&f, 1, 100);
    for (uint64_t id = 101; id <= 104; id++)
        assert_int_equal(offer(&f, id, "a.example"), OFFER_TAKEN);
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    for (uint64_t id = 201; id <= 205; id++)
        draw_one(&f, id, "a.example");
    assert_int_equal(offer(&f, 301, "b.example"), OFFER_TAKEN);
    resolve_to(&f, "mx.example");
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        finish_next(&f, site, order[i]);
    assert_null(scheduler_pull(f.scheduler, site));
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

/* A host that nothing stands to is not met by all at once. */
static void test_connections_grow_in_steps(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 20, 100);
    for (uint64_t id = 1; id <= 60; id++)
        (void)offer(&f, id, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = f.opened[0];
    assert_int_equal(f.opened_count, 2);
    scheduler_connected(f.scheduler, site);
    assert_int_equal(f.opened_count, 4);
    scheduler_connected(f.scheduler, site);
    assert_int_equal(f.opened_count, 6);
    for (size_t standing = 3; standing <= 20; standing++)
        scheduler_connected(f.scheduler, site);
    assert_int_equal(f.opened_count, 20);
    assert_int_equal(counts_of(&f).connections, 20);
    scheduler_stop(f.scheduler);
    for (size_t i = 0; i < 20; i++)
        scheduler_connection_gone(f.scheduler, site, true);
    assert_int_equal(counts_of(&f).connections, 0);
    tear_down(&f);
}

/* What the process has room for bounds delivery.max_connections, after a reload too. */
static void test_room_for_connections(void **unused)
{
    static const struct {
        uint32_t configured, room;
        size_t opened;
    } cases[] = {{5, 3, 3}, {3, 5, 3}, {5, 0, 5}};
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake f;
        set_up_most(&f, 20, cases[i].configured, cases[i].room);
        scheduler_reload(f.scheduler, &f.config);
        for (uint64_t id = 1; id <= 60; id++)
            (void)offer(&f, id, "a.example");
        resolve_to(&f, "mx.example");
        struct site *site = f.opened[0];
        for (size_t standing = 0; standing < cases[i].opened; standing++)
            scheduler_connected(f.scheduler, site);
        assert_int_equal(f.opened_count, cases[i].opened);
        scheduler_stop(f.scheduler);
        for (size_t n = 0; n < cases[i].opened; n++)
            scheduler_connection_gone(f.scheduler, site, true);
        tear_down(&f);
    }
}

/* ---- looking up ---- */

/* While a new answer is awaited, what is queued goes on to the site known from earlier; a failure
 * for now changes nothing, one for good ends it. */
static void test_answer_runs_out(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 10);
    (void)offer(&f, 1, "a.example");
    (void)offer(&f, 2, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    f.now_ms += 2 * 3600000; /* an hour was promised */
    f.now_ms -= 3600000 / 2;
    assert_int_equal(offer(&f, 3, "a.example"), OFFER_TAKEN);
    assert_int_equal(f.asked_count, 1);
    finish_next(&f, site, 1);
    struct unit_list list = scheduler_domain_failed(f.scheduler, f.asked[--f.asked_count], true);
    assert_int_equal(list.count, 0);
    (void)offer(&f, 4, "a.example");
    assert_int_equal(f.asked_count, 0); /* not at once again */
    finish_next(&f, site, 2);
    f.now_ms += 31000;
    (void)offer(&f, 5, "a.example");
    assert_int_equal(f.asked_count, 1);
    list = scheduler_domain_failed(f.scheduler, f.asked[--f.asked_count], false);
    assert_int_equal(list.count, 3);
    assert_null(scheduler_pull(f.scheduler, site));
    for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list))
        scheduler_finish(f.scheduler, unit);

    (void)offer(&f, 6, "a.example"); /* nothing is queued: it waits for the answer */
    assert_null(scheduler_pull(f.scheduler, site));
    resolve_to(&f, "mx2.example");
    assert_null(scheduler_pull(f.scheduler, site));
    scheduler_connection_gone(f.scheduler, site, false);
    struct site *site2 = take_connection(&f);
    finish_next(&f, site2, 6);
    scheduler_connection_gone(f.scheduler, site2, false);
    tear_down(&f);
}

/* Lookups are bounded, and those for new mail do not wait behind all those for retried. */
static void test_lookups_take_turns(void **unused)
{
    struct fake f;
    char name[32];
    (void)unused;
    set_up(&f, 1, 10);
    f.any_resolve = true;
    for (uint64_t id = 1; id <= 3000; id++) {
        snprintf(name, sizeof name, "old%u.example", (unsigned)id);
        draw_one(&f, id, name);
    }
    assert_int_equal(f.resolves, 1000);
    assert_int_equal(offer(&f, 9001, "new.example"), OFFER_TAKEN);
    assert_int_equal(f.resolves, 1000);
    for (int i = 0; i < 2; i++) {
        struct unit_list list = scheduler_domain_failed(f.scheduler, f.last_resolve, true);
        struct unit *unit = unit_list_take(&list);
        assert_int_equal(f.resolves, 1001 + i);
        scheduler_finish(f.scheduler, unit);
        if (strcmp(domain_name(f.last_resolve), "new.example") == 0)
            break;
        assert_int_equal(i, 0);
    }
    assert_string_equal(domain_name(f.last_resolve), "new.example");
    tear_down(&f);
}

/* ---- an admin's steps ---- */

static void test_changed(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 10);
    for (uint16_t number = 0; number < 40; number++)
        assert_int_equal(scheduler_offer(f.scheduler, 5, number, "a.example"), OFFER_TAKEN);
    (void)offer(&f, 6, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    struct unit *active = scheduler_pull(f.scheduler, site);
    assert_int_equal(active->number, 0);
    scheduler_changed(f.scheduler, 7);
    assert_null(scheduler_next_changed(f.scheduler));
    size_t fed = f.fed;
    scheduler_changed(f.scheduler, 5); /* all but the one under way */
    scheduler_changed(f.scheduler, 5);
    assert_int_equal(f.fed, fed + 1);
    finish_next(&f, site, 6);
    assert_null(scheduler_pull(f.scheduler, site));
    for (size_t i = 1; i < 39; i++)
        scheduler_forget(f.scheduler, scheduler_next_changed(f.scheduler));
    struct unit *kept = scheduler_next_changed(f.scheduler);
    assert_null(scheduler_next_changed(f.scheduler));
    scheduler_requeue(f.scheduler, kept);
    finish_next(&f, site, 5);
    scheduler_finish(f.scheduler, active);
    assert_int_equal(counts_of(&f).units + counts_of(&f).active, 0);
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

static void test_reload(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 10);
    for (uint64_t id = 1; id <= 3; id++)
        (void)offer(&f, id, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    struct unit *under_way = scheduler_pull(f.scheduler, site);
    assert_non_null(under_way);

    scheduler_reload(f.scheduler, &f.config);
    assert_int_equal(f.asked_count, 1); /* what waits is routed anew */
    assert_null(scheduler_pull(f.scheduler, site));
    scheduler_finish(f.scheduler, under_way); /* what is under way ends as it began */
    scheduler_connection_gone(f.scheduler, site, false);

    resolve_to(&f, "mx2.example");
    assert_int_equal(counts_of(&f).sites, 1);
    struct site *new_site = take_connection(&f);
    assert_string_equal(site_key(new_site), "mx2.example");
    finish_next(&f, new_site, 2);
    finish_next(&f, new_site, 3);
    scheduler_connection_gone(f.scheduler, new_site, false);
    tear_down(&f);
}

/* A lookup that began before the reload answers for the configuration that is gone. */
static void test_reload_during_a_lookup(void **unused)
{
    struct fake f;
    (void)unused;
    set_up(&f, 1, 10);
    (void)offer(&f, 1, "a.example");
    f.config.delivery.site_connections = 3;
    scheduler_reload(f.scheduler, &f.config);
    assert_int_equal(f.asked_count, 1);
    resolve_to(&f, "old.example");
    assert_int_equal(counts_of(&f).sites, 0);
    assert_int_equal(f.opened_count, 0);
    assert_int_equal(f.asked_count, 1);
    resolve_to(&f, "new.example");
    struct site *site = take_connection(&f);
    assert_string_equal(site_key(site), "new.example");
    finish_next(&f, site, 1);
    for (int temporary = 0; temporary <= 1; temporary++) { /* nor does its failure count */
        char name[32];
        snprintf(name, sizeof name, "b%d.example", temporary);
        (void)offer(&f, 2, name);
        scheduler_reload(f.scheduler, &f.config);
        struct unit_list none =
            scheduler_domain_failed(f.scheduler, f.asked[--f.asked_count], temporary == 1);
        assert_int_equal(none.count, 0);
        assert_int_equal(f.asked_count, 1);
        resolve_to(&f, "new.example");
        finish_next(&f, site, 2);
    }
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

static void test_stopped(void **unused)
{
    struct fake f;
    struct idler idler = {0};
    bool work;
    (void)unused;
    set_up(&f, 2, 10);
    (void)offer(&f, 1, "a.example");
    (void)offer(&f, 2, "a.example");
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    (void)take_connection(&f);
    struct unit *unit = scheduler_pull(f.scheduler, site);
    scheduler_stop(f.scheduler);
    assert_int_equal(offer(&f, 3, "b.example"), OFFER_STOPPED); /* never parked by mistake */
    assert_null(scheduler_pull(f.scheduler, site));
    assert_int_equal(scheduler_take_all(f.scheduler, site).count, 0);
    assert_false(scheduler_idle(f.scheduler, site, &idler, &work));
    assert_false(work);
    assert_false(scheduler_has_room(f.scheduler));
    scheduler_requeue(f.scheduler, unit);
    scheduler_connection_gone(f.scheduler, site, false);
    scheduler_connection_gone(f.scheduler, site, false);
    assert_int_equal(f.opened_count + f.woken_count + f.asked_count + f.fed, 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_unit),
        cmocka_unit_test(test_domains_share_a_site),
        cmocka_unit_test(test_unit_behind_a_connecting_one),
        cmocka_unit_test(test_connection_lost_before_its_unit),
        cmocka_unit_test(test_idle_and_wake),
        cmocka_unit_test(test_woken_but_stale),
        cmocka_unit_test(test_starved_sites_take_turns),
        cmocka_unit_test(test_failed_domain_and_dead_site),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_connections_grow_in_steps),
        cmocka_unit_test(test_room_for_connections),
        cmocka_unit_test(test_answer_runs_out),
        cmocka_unit_test(test_lookups_take_turns),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_during_a_lookup),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
