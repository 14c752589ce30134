/* What the scheduler knows of the store: which lanes draw, when, and how much fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mta/deliver/scheduler.h"

#define UNITS   1000
#define NOW     INT64_C(1795572000000)
#define HORIZON (NOW + 3600000)

struct fake {
    struct scheduler *scheduler;
    struct config config;
    struct domain *asked;
    struct site *opened;
    size_t fed;
    uint64_t now_ms;
    uint64_t id;
};

static void hook_resolve(struct domain *domain, void *ctx)
{
    ((struct fake *)ctx)->asked = domain;
}

static void hook_connect(struct site *site, void *ctx)
{
    ((struct fake *)ctx)->opened = site;
}

static void hook_wake(struct idler *idler, void *ctx)
{
    (void)idler;
    (void)ctx;
    fail();
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
    return NOW + (int64_t)((struct fake *)ctx)->now_ms;
}

static void set_up(struct fake *f)
{
    memset(f, 0, sizeof *f);
    f->config.delivery.site_connections = f->config.delivery.max_connections = 1;
    f->config.delivery.units_in_memory = UNITS;
    struct scheduler_hooks hooks = {hook_resolve,   hook_connect, hook_wake, hook_feed,
                                    hook_monotonic, hook_wall,    f,         0};
    f->scheduler = scheduler_new(&hooks, &f->config);
    scheduler_set_time(f->scheduler, NOW, HORIZON);
}

static void tear_down(struct fake *f)
{
    scheduler_free(&f->scheduler);
}

static struct scheduler_counts counts_of(struct fake *f)
{
    struct scheduler_counts counts;
    scheduler_read_counts(f->scheduler, &counts);
    return counts;
}

static bool due(struct fake *f, const char *domain, enum queue_lane lane, int64_t at)
{
    return scheduler_note_due(f->scheduler, domain, lane, at, at <= NOW);
}

static void expect_draw(struct fake *f, const char *domain, enum queue_lane lane, int64_t from,
                        struct draw *draw)
{
    assert_true(scheduler_next_draw(f->scheduler, draw));
    assert_string_equal(draw->domain, domain);
    assert_int_equal(draw->lane, lane);
    assert_int_equal(draw->from_unix_ms, from);
}

static void expect_none(struct fake *f)
{
    struct draw draw;
    assert_false(scheduler_next_draw(f->scheduler, &draw));
}

/* Units for the draw until it is full, at most so many. */
static size_t draw_units(struct fake *f, struct draw *draw, size_t most)
{
    size_t taken = 0;
    enum offer offer = OFFER_TAKEN;
    while (taken < most && offer == OFFER_TAKEN) {
        struct queue_due_entry entry = {.due_unix_ms = NOW, .id = ++f->id};
        offer = scheduler_draw_unit(f->scheduler, draw, &entry);
        taken += offer == OFFER_TAKEN ? 1 : 0;
    }
    assert_true(offer == OFFER_TAKEN || offer == OFFER_FULL);
    return taken;
}

static enum offer draw_at(struct fake *f, struct draw *draw, uint64_t id, int64_t due_unix_ms)
{
    struct queue_due_entry entry = {.due_unix_ms = due_unix_ms, .id = id};
    return scheduler_draw_unit(f->scheduler, draw, &entry);
}

static struct site *resolve(struct fake *f)
{
    struct site_target target = {.host_count = 1};
    target.hosts = mem_alloc(sizeof *target.hosts);
    target.hosts[0].name = str_dup(str_from("mx"));
    scheduler_domain_known(f->scheduler, f->asked, "mx", &target, f->now_ms + 3600000);
    return f->opened;
}

static void finish(struct fake *f, struct site *site, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct unit *unit = scheduler_pull(f->scheduler, site);
        assert_non_null(unit);
        scheduler_finish(f->scheduler, unit);
    }
}

/* ---- when ---- */

static void test_times(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    expect_none(&f);
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW - 5));
    assert_true(due(&f, "later", QUEUE_LANE_RETRY, NOW + 5)); /* the store's `next` has it */
    assert_int_equal(counts_of(&f).domains, 1);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw); /* the first time: from the beginning */
    expect_none(&f);
    assert_int_equal(draw_units(&f, &draw, 1), 1);

    /* What comes while it draws counts, and so does what the draw found. */
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW + 300));
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW + 200));
    assert_int_equal(scheduler_next_due(f.scheduler), QUEUE_NEVER);
    scheduler_drawn(f.scheduler, &draw, NOW + 250);
    assert_int_equal(scheduler_next_due(f.scheduler), NOW + 200);
    assert_true(due(&f, "a", QUEUE_LANE_NEW, NOW + 100));
    assert_int_equal(scheduler_next_due(f.scheduler), NOW + 100);

    /* `next` shows the unit that is in memory: known better. Of the other lane it knows more. */
    assert_true(scheduler_mark(f.scheduler, "a", QUEUE_LANE_RETRY, NOW - 5));
    expect_none(&f);
    assert_true(scheduler_mark(f.scheduler, "a", QUEUE_LANE_NEW, NOW - 3));
    expect_draw(&f, "a", QUEUE_LANE_NEW, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, NOW + 400);

    scheduler_set_time(f.scheduler, NOW + 199, HORIZON);
    expect_none(&f);
    scheduler_set_time(f.scheduler, NOW + 200, HORIZON);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, NOW + 200, &draw);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    assert_int_equal(scheduler_next_due(f.scheduler), NOW + 400);
    tear_down(&f);
}

/* An entry beyond the horizon was stored by a clock that has gone back: it is due. */
static void test_horizon(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW));
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, HORIZON + 1);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, HORIZON + 1, &draw);
    scheduler_drawn(f.scheduler, &draw, HORIZON);
    expect_none(&f);
    assert_int_equal(scheduler_next_due(f.scheduler), HORIZON);
    assert_int_equal(scheduler_offer(f.scheduler, 1, 0, "b"), OFFER_TAKEN);
    (void)due(&f, "b", QUEUE_LANE_RETRY, NOW + 1);
    scheduler_set_time(f.scheduler, NOW - 3599000, HORIZON - 3599000); /* an hour back */
    scheduler_doubt(f.scheduler);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, HORIZON);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, HORIZON, &draw);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    expect_none(&f);
    assert_int_equal(scheduler_next_due(f.scheduler), NOW + 1);
    tear_down(&f);
}

/* The next draw of retried mail; the other lane is in doubt as well, and has nothing. */
static bool next_retry_draw(struct fake *f, struct draw *draw)
{
    while (scheduler_next_draw(f->scheduler, draw)) {
        assert_int_equal(draw->from_unix_ms, 0);
        if (draw->lane == QUEUE_LANE_RETRY)
            return true;
        scheduler_drawn(f->scheduler, draw, QUEUE_NEVER);
    }
    return false;
}

/* A unit that left memory without an outcome: its domain is read from the beginning, ever more
 * seldom while that is in vain. */
static void test_doubt(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW - 9);
    assert_true(next_retry_draw(&f, &draw));
    for (int64_t wait = 1000; wait <= 512000; wait *= 2) {
        assert_int_equal(draw_units(&f, &draw, 1), 1);
        scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
        struct site *site = f.opened != NULL ? f.opened : resolve(&f);
        int64_t now = hook_wall(&f);
        scheduler_set_time(f.scheduler, now, HORIZON);
        scheduler_forget(f.scheduler, scheduler_pull(f.scheduler, site));
        assert_in_range(scheduler_next_due(f.scheduler), now + 1000, now + wait);
        f.now_ms += (uint64_t)wait;
        scheduler_set_time(f.scheduler, now + wait - 1, HORIZON);
        assert_false(next_retry_draw(&f, &draw));
        scheduler_set_time(f.scheduler, now + wait, HORIZON);
        assert_true(next_retry_draw(&f, &draw));
    }
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER); /* nothing is left: as at first */
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW - 9);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, NOW - 9, &draw);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    tear_down(&f);
}

/* What was left behind is found, and gets done: the next doubt does not have to wait for longer. */
static void test_doubt_that_helps(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW - 9);
    assert_true(next_retry_draw(&f, &draw));
    assert_int_equal(draw_units(&f, &draw, 1), 1);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    struct site *site = resolve(&f);
    for (int round = 0; round < 20; round++) {
        scheduler_forget(f.scheduler, scheduler_pull(f.scheduler, site));
        assert_in_range(scheduler_next_due(f.scheduler), hook_wall(&f), hook_wall(&f) + 1000);
        f.now_ms += 1000;
        scheduler_set_time(f.scheduler, hook_wall(&f), HORIZON);
        assert_true(next_retry_draw(&f, &draw));
        assert_int_equal(draw_units(&f, &draw, 2), 2);
        scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
        finish(&f, site, 1);
    }
    tear_down(&f);
}

/* A deferral is in the store, and an admin has made it due again, before the scheduler has heard of
 * the former: the draw meets a unit that is still in memory. */
static void test_due_again_at_once(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW - 5));
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    assert_int_equal(draw_at(&f, &draw, 1, NOW - 5), OFFER_TAKEN);
    assert_int_equal(draw_at(&f, &draw, 2, NOW - 5), OFFER_TAKEN);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    struct site *site = resolve(&f);
    struct unit *first = scheduler_pull(f.scheduler, site);
    struct unit *second = scheduler_pull(f.scheduler, site);
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW + 300000));
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW - 5)); /* a retry of what is under way */
    expect_draw(&f, "a", QUEUE_LANE_RETRY, NOW - 5, &draw);
    assert_int_equal(draw_at(&f, &draw, 2, NOW - 5), OFFER_KNOWN); /* the entry that it came by */
    assert_int_equal(draw_at(&f, &draw, 1, NOW), OFFER_KNOWN);
    scheduler_drawn(f.scheduler, &draw, NOW + 600000);
    scheduler_finish(f.scheduler, second);
    assert_int_equal(scheduler_next_due(f.scheduler), NOW + 600000);
    scheduler_finish(f.scheduler, first);
    assert_in_range(scheduler_next_due(f.scheduler), NOW, NOW + 2000);
    scheduler_set_time(f.scheduler, NOW + 2000, HORIZON);
    expect_draw(&f, "a", QUEUE_LANE_NEW, 0, &draw); /* whichever it is in by now */
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    assert_int_equal(draw_at(&f, &draw, 1, NOW), OFFER_TAKEN);
    tear_down(&f);
}

/* ---- how much ---- */

/* A reload that allows more is felt, though nothing of what is in memory gets done. */
static void test_more_room_by_reload(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    assert_true(due(&f, "a", QUEUE_LANE_RETRY, NOW - 5));
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    size_t before = draw_units(&f, &draw, UNITS);
    scheduler_drawn(f.scheduler, &draw, NOW - 5);
    expect_none(&f);
    f.config.delivery.units_in_memory = 4 * UNITS;
    scheduler_reload(f.scheduler, &f.config);
    scheduler_tidy(f.scheduler);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, NOW - 5, &draw);
    assert_in_range(draw_units(&f, &draw, 4 * UNITS), before, 4 * before);
    tear_down(&f);
}

/* Alone, a domain takes about an eighth, three quarters of its window with either kind of mail. */
static void test_one_domain(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW - 9);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    size_t retried = draw_units(&f, &draw, UNITS);
    assert_in_range(retried, UNITS / 12, UNITS / 8);
    scheduler_drawn(f.scheduler, &draw, NOW - 8);
    expect_none(&f); /* full: others draw meanwhile */

    size_t fresh = 0;
    while (scheduler_offer(f.scheduler, ++f.id, 0, "a") == OFFER_TAKEN)
        fresh++;
    assert_in_range(fresh, UNITS / 50, UNITS / 10);
    assert_in_range(retried + fresh, UNITS / 10, UNITS / 6);

    /* It draws again when half of its kind's window is free, and others have room all the time. */
    struct site *site = resolve(&f);
    size_t fed = f.fed;
    size_t done = 0;
    for (; !scheduler_next_draw(f.scheduler, &draw); done++)
        finish(&f, site, 1);
    assert_true(f.fed > fed);
    assert_int_equal(draw.from_unix_ms, NOW - 8);
    assert_in_range(done, retried / 2, fresh + retried);
    assert_true(draw_units(&f, &draw, UNITS) > retried / 4);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    tear_down(&f);
}

/* New mail that finds others of its domain waiting in the store waits behind them. */
static void test_fresh_behind_parked(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW);
    assert_int_equal(scheduler_offer(f.scheduler, 1, 0, "a"), OFFER_TAKEN);
    (void)due(&f, "a", QUEUE_LANE_NEW, NOW);
    assert_int_equal(scheduler_offer(f.scheduler, 1, 0, "a"), OFFER_KNOWN);
    assert_int_equal(scheduler_offer(f.scheduler, 2, 0, "a"), OFFER_FULL);
    assert_int_equal(scheduler_offer(f.scheduler, 2, 0, "b"), OFFER_TAKEN);
    expect_draw(&f, "a", QUEUE_LANE_RETRY, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    expect_draw(&f, "a", QUEUE_LANE_NEW, 0, &draw);
    assert_int_equal(scheduler_offer(f.scheduler, 3, 0, "a"), OFFER_FULL);
    scheduler_drawn(f.scheduler, &draw, NOW + 1);
    assert_int_equal(scheduler_offer(f.scheduler, 3, 0, "a"), OFFER_TAKEN);
    tear_down(&f);
}

/* Domains that get nothing done fill the memory only so far that each further one finds a place. */
static void test_slow_domains_leave_room(void **unused)
{
    struct fake f;
    char name[32];
    (void)unused;
    set_up(&f);
    for (int d = 0; d < UNITS / 4; d++) {
        snprintf(name, sizeof name, "slow%d.example", d);
        size_t taken = 0;
        while (scheduler_offer(f.scheduler, ++f.id, 0, name) == OFFER_TAKEN)
            taken++;
        assert_in_range(taken, 1, UNITS / 5);
    }
    assert_true(counts_of(&f).units < UNITS);
    assert_true(scheduler_has_room(f.scheduler));
    assert_int_equal(scheduler_offer(f.scheduler, ++f.id, 0, "other.example"), OFFER_TAKEN);
    tear_down(&f);
}

/* A lane that found no room looks again when windows have grown, though nothing of its own ends. */
static void test_room_of_others(void **unused)
{
    struct fake f;
    struct draw draw;
    char name[32];
    (void)unused;
    set_up(&f);
    for (int d = 0; d < 40; d++) {
        snprintf(name, sizeof name, "slow%d.example", d);
        while (scheduler_offer(f.scheduler, ++f.id, 0, name) == OFFER_TAKEN)
            continue;
        (void)resolve(&f);
    }
    (void)due(&f, "slow35.example", QUEUE_LANE_NEW, NOW);
    expect_none(&f);
    size_t fed = f.fed;
    struct unit_list list = scheduler_take_all(f.scheduler, f.opened);
    assert_int_equal(list.count, counts_of(&f).units);
    for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list)) {
        if (strcmp(domain_name(unit->domain), "slow35.example") != 0)
            scheduler_finish(f.scheduler, unit);
    }
    assert_true(f.fed > fed);
    expect_draw(&f, "slow35.example", QUEUE_LANE_NEW, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, QUEUE_NEVER);
    tear_down(&f);
}

/* Draws go round, domain by domain and lane by lane. */
static void test_draws_take_turns(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    (void)due(&f, "a", QUEUE_LANE_RETRY, NOW - 9);
    (void)due(&f, "a", QUEUE_LANE_NEW, NOW - 9);
    (void)due(&f, "b", QUEUE_LANE_RETRY, NOW - 9);
    for (int64_t at = NOW - 9; at < NOW; at++) {
        int64_t from = at > NOW - 9 ? at : 0;
        expect_draw(&f, "a", QUEUE_LANE_RETRY, from, &draw);
        scheduler_drawn(f.scheduler, &draw, at + 1);
        expect_draw(&f, "a", QUEUE_LANE_NEW, from, &draw);
        scheduler_drawn(f.scheduler, &draw, at + 1);
        expect_draw(&f, "b", QUEUE_LANE_RETRY, from, &draw);
        scheduler_drawn(f.scheduler, &draw, at + 1);
    }
    tear_down(&f);
}

/* ---- forgetting ---- */

static void test_many_domains(void **unused)
{
    struct fake f;
    struct draw draw;
    char name[32];
    size_t marked = 0;
    (void)unused;
    set_up(&f);
    for (;; marked++) {
        snprintf(name, sizeof name, "d%zu.example", marked);
        if (!scheduler_mark(f.scheduler, name, QUEUE_LANE_RETRY, NOW))
            break;
    }
    assert_in_range(marked, UNITS / 4, UNITS / 2); /* some places are left for fresh mail */
    assert_int_equal(scheduler_offer(f.scheduler, ++f.id, 0, "fresh.example"), OFFER_TAKEN);
    assert_false(due(&f, name, QUEUE_LANE_RETRY, NOW));
    assert_true(due(&f, name, QUEUE_LANE_RETRY, NOW + 1)); /* `next` has it */
    assert_true(scheduler_mark(f.scheduler, "d7.example", QUEUE_LANE_RETRY, NOW));

    /* One that has nothing left makes room, and that is told. */
    size_t fed = f.fed;
    expect_draw(&f, "d0.example", QUEUE_LANE_RETRY, 0, &draw);
    scheduler_drawn(f.scheduler, &draw, NOW + 500);
    assert_true(f.fed > fed);
    size_t domains = counts_of(&f).domains;
    assert_true(scheduler_mark(f.scheduler, name, QUEUE_LANE_RETRY, NOW));
    assert_int_equal(counts_of(&f).domains, domains);
    assert_int_equal(scheduler_next_due(f.scheduler), QUEUE_NEVER); /* d0 is gone */
    tear_down(&f);
}

static void test_idle_domains(void **unused)
{
    struct fake f;
    struct draw draw;
    (void)unused;
    set_up(&f);
    assert_int_equal(scheduler_offer(f.scheduler, 1, 0, "a"), OFFER_TAKEN);
    struct site *site = resolve(&f);
    (void)due(&f, "b", QUEUE_LANE_RETRY, NOW);
    expect_draw(&f, "b", QUEUE_LANE_RETRY, 0, &draw);
    f.now_ms += 7200000;
    scheduler_tidy(f.scheduler); /* one has a unit, the other draws */
    assert_int_equal(counts_of(&f).domains, 2);
    scheduler_drawn(f.scheduler, &draw, NOW + 500);
    finish(&f, site, 1);
    scheduler_tidy(f.scheduler); /* not long enough idle */
    assert_int_equal(counts_of(&f).domains, 2);
    f.now_ms += 3600000;
    scheduler_tidy(f.scheduler);
    assert_int_equal(counts_of(&f).domains, 0);
    assert_int_equal(counts_of(&f).sites, 1); /* it has a connection */
    scheduler_connection_gone(f.scheduler, site, false);
    assert_int_equal(counts_of(&f).sites, 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_horizon),
        cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_doubt_that_helps),
        cmocka_unit_test(test_due_again_at_once),
        cmocka_unit_test(test_more_room_by_reload),
        cmocka_unit_test(test_one_domain),
        cmocka_unit_test(test_fresh_behind_parked),
        cmocka_unit_test(test_slow_domains_leave_room),
        cmocka_unit_test(test_room_of_others),
        cmocka_unit_test(test_draws_take_turns),
        cmocka_unit_test(test_many_domains),
        cmocka_unit_test(test_idle_domains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
