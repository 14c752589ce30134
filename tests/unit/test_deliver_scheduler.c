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

#include "mta/base/time.h"
#include "mta/deliver/scheduler.h"

#define LISTED 64

struct fake {
    struct scheduler *scheduler;
    struct config config;
    struct domain *asked[LISTED]; /* to be resolved */
    struct site *opened[LISTED];  /* connections asked for */
    struct idler *woken[LISTED];
    size_t asked_count, opened_count, woken_count, fed;
};

static void hook_resolve(struct domain *domain, void *ctx)
{
    struct fake *f = ctx;
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

static void set_up(struct fake *f, uint32_t site_connections, uint32_t max_connections)
{
    memset(f, 0, sizeof *f);
    f->config.delivery.site_connections = site_connections;
    f->config.delivery.max_connections = max_connections;
    struct scheduler_hooks hooks = {hook_resolve, hook_connect, hook_wake, hook_feed, f};
    f->scheduler = scheduler_new(&hooks, &f->config);
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
                           time_monotonic_ms() + 3600000);
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
    assert_true(scheduler_is_empty(f.scheduler));
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
    for (uint64_t id = 1; id <= 6; id++)
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
    scheduler_requeue(f.scheduler, site, unit); /* stale: back, and first again */
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
    struct unit_list list = scheduler_domain_failed(f.scheduler, f.asked[--f.asked_count]);
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
    list = scheduler_take_all(f.scheduler, site, 3);
    assert_int_equal(list.count, 3);
    for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list))
        scheduler_finish(f.scheduler, unit);
    scheduler_connection_gone(f.scheduler, site, false);
    finish_next(&f, take_connection(&f), 7); /* what was left has asked for its own */
    scheduler_connection_gone(f.scheduler, site, false);
    assert_true(scheduler_is_empty(f.scheduler));
    tear_down(&f);
}

/* ---- windows and the backlog ---- */

/* A few domains that get nothing done fill the memory only so far that each further one finds a
 * place. */
static void test_slow_domains_leave_room(void **unused)
{
    struct fake f;
    char name[32];
    uint64_t id = 1;
    (void)unused;
    set_up(&f, 1, 10);
    for (int d = 0; d < 8; d++) {
        snprintf(name, sizeof name, "slow%d.example", d);
        size_t taken = 0;
        while (offer(&f, id, name) == OFFER_TAKEN) {
            id++;
            taken++;
        }
        assert_in_range(taken, 100, SCHEDULER_WINDOW_MAX);
    }
    assert_true(counts_of(&f).units < SCHEDULER_UNITS_MAX);
    assert_true(scheduler_has_room(f.scheduler));
    assert_int_equal(offer(&f, id, "other.example"), OFFER_TAKEN);
    tear_down(&f);
}

static void test_backlog(void **unused)
{
    struct fake f;
    char name[256];
    (void)unused;
    set_up(&f, 1, 10);
    assert_false(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_true(scheduler_mark_backlog(f.scheduler, "a.example"));
    assert_true(scheduler_mark_backlog(f.scheduler, "b.example"));
    assert_true(scheduler_mark_backlog(f.scheduler, "a.example")); /* once only */
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_string_equal(name, "a.example");
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_string_equal(name, "b.example");
    assert_false(scheduler_next_backlog(f.scheduler, name, sizeof name));

    /* What was drawn is not drawn again, unless it is new. */
    scheduler_drawn(f.scheduler, "a.example", 1000);
    assert_true(scheduler_mark_due(f.scheduler, "a.example", 1000, false));
    assert_false(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_true(scheduler_mark_due(f.scheduler, "a.example", 1001, false));
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_true(scheduler_mark_due(f.scheduler, "a.example", 999, true));
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));

    /* A full window waits until it is half empty, and then it asks. */
    uint64_t id = 1;
    while (offer(&f, id, "a.example") == OFFER_TAKEN)
        id++;
    assert_int_equal(id - 1, SCHEDULER_WINDOW_MAX);
    (void)scheduler_mark_backlog(f.scheduler, "a.example");
    (void)scheduler_mark_backlog(f.scheduler, "c.example");
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_string_equal(name, "c.example"); /* not held up by the one before it */
    assert_false(scheduler_next_backlog(f.scheduler, name, sizeof name));
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    uint64_t next = 1;
    while (f.fed == 0) {
        assert_false(scheduler_next_backlog(f.scheduler, name, sizeof name));
        finish_next(&f, site, next++);
    }
    assert_int_equal(next - 1, SCHEDULER_WINDOW_MAX / 2);
    assert_true(scheduler_next_backlog(f.scheduler, name, sizeof name));
    assert_string_equal(name, "a.example");
    scheduler_connection_gone(f.scheduler, site, false);
    tear_down(&f);
}

/* ---- forgetting ---- */

static void test_purge(void **unused)
{
    struct fake f;
    uint64_t now_ms = time_monotonic_ms();
    (void)unused;
    set_up(&f, 1, 10);
    (void)offer(&f, 1, "a.example");
    scheduler_purge(f.scheduler, now_ms + 7200000); /* being looked up: stays */
    assert_int_equal(counts_of(&f).domains, 1);
    resolve_to(&f, "mx.example");
    struct site *site = take_connection(&f);
    struct unit *unit = scheduler_pull(f.scheduler, site);
    scheduler_purge(f.scheduler, now_ms + 7200000); /* has a unit: stays */
    assert_string_equal(domain_name(unit->domain), "a.example");
    scheduler_finish(f.scheduler, unit);
    scheduler_purge(f.scheduler, now_ms); /* still known */
    assert_int_equal(counts_of(&f).domains, 1);
    scheduler_purge(f.scheduler, now_ms + 7200000); /* the site has a connection */
    assert_int_equal(counts_of(&f).domains, 0);
    assert_int_equal(counts_of(&f).sites, 1);
    scheduler_connection_gone(f.scheduler, site, false);
    scheduler_purge(f.scheduler, now_ms + 7200000);
    assert_int_equal(counts_of(&f).sites, 0);

    (void)scheduler_mark_backlog(f.scheduler, "b.example");
    scheduler_purge(f.scheduler, now_ms + 7200000);
    assert_int_equal(counts_of(&f).domains, 1);
    tear_down(&f);
}

/* Domains that are merely remembered give way when there are very many. */
static void test_purge_when_crowded(void **unused)
{
    struct fake f;
    char name[32];
    (void)unused;
    set_up(&f, 1, 10);
    for (unsigned i = 0; i < SCHEDULER_DOMAINS_MAX; i++) {
        snprintf(name, sizeof name, "d%u.example", i);
        assert_true(scheduler_mark_backlog(f.scheduler, name));
    }
    assert_false(scheduler_mark_backlog(f.scheduler, "more.example"));
    assert_true(scheduler_mark_backlog(f.scheduler, "d7.example"));
    while (scheduler_next_backlog(f.scheduler, name, sizeof name))
        continue;
    scheduler_purge(f.scheduler, 0);
    assert_int_equal(counts_of(&f).domains, 0);
    assert_true(scheduler_mark_backlog(f.scheduler, "more.example"));
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
    assert_int_equal(counts_of(&f).sites, 2);
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
    assert_int_equal(scheduler_take_all(f.scheduler, site, 100).count, 0);
    assert_false(scheduler_idle(f.scheduler, site, &idler, &work));
    assert_false(work);
    assert_false(scheduler_has_room(f.scheduler));
    scheduler_requeue(f.scheduler, site, unit);
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
        cmocka_unit_test(test_slow_domains_leave_room),
        cmocka_unit_test(test_backlog),
        cmocka_unit_test(test_purge),
        cmocka_unit_test(test_purge_when_crowded),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_during_a_lookup),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
