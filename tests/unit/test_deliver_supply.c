/* Whatever happens in the store and to the clock, nothing that is due there is forgotten, nothing
 * is drawn twice or early, memory stays bounded and the work a unit constant. A random test against
 * a small model of the store; also what comes in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "deliver_model.h"

#define NOW     INT64_C(1795572000000)
#define HOUR    INT64_C(3600000)
#define ROWS    600
#define DOMAINS 90
#define UNITS   100 /* in memory: 50 domains at most, 43 of the store */

static uint64_t state;

static uint32_t any(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static void set_up(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    m->wall = NOW;
    m->monotonic = 5000000;
    m->horizon_ms = HOUR;
    model_open(m, UNITS, ROWS, 7);
    for (size_t i = 0; i < ROWS; i++) {
        m->rows[i].id = i + 1;
        m->rows[i].domain = (uint16_t)(any(2) == 0 ? any(3) : any(DOMAINS)); /* some have many */
    }
}

static int64_t some_time(struct model *m)
{
    return m->wall + (any(4) == 0 ? -(int64_t)any(5000) : (int64_t)any(600000));
}

static enum queue_lane some_lane(void)
{
    return any(2) == 0 ? QUEUE_LANE_NEW : QUEUE_LANE_RETRY;
}

/* Units of which the store has the deferral, and the scheduler has yet to hear. */
static struct {
    struct unit *unit;
    int64_t due;
} late[16];
static size_t late_count;

/* A commit of the writer: entries come, also such as are in memory (an admin's retry). */
static bool come(struct model *m)
{
    if (late_count > 0 && any(4) == 0) {
        struct model_row *row = model_row_of(m, late[any((uint32_t)late_count)].unit);
        if (row->there)
            model_put(m, row, (enum queue_lane)row->lane, m->wall);
    }
    for (uint32_t n = any(6); n > 0; n--) {
        struct model_row *row = &m->rows[any(ROWS)];
        if (!row->there && !row->in_memory)
            model_put(m, row, some_lane(), some_time(m));
        else if (row->there && any(8) == 0)
            model_put(m, row, (enum queue_lane)row->lane, m->wall);
    }
    return true;
}

/* An admin deletes or holds: the row goes, the unit may be in memory. */
static void remove_some(struct model *m)
{
    struct model_row *row = &m->rows[any(ROWS)];
    row->there = false;
    scheduler_changed(m->scheduler, row->id);
}

/* As settle.c does when the writer has answered. */
static void let_go(struct model *m, size_t keep)
{
    while (late_count > keep) {
        struct unit *unit = late[--late_count].unit;
        model_row_of(m, unit)->in_memory = false;
        if (late[late_count].due <= m->wall)
            scheduler_forget(m->scheduler, unit);
        else
            scheduler_finish(m->scheduler, unit);
    }
}

static void defer(struct model *m, struct unit *unit)
{
    struct model_row *row = model_row_of(m, unit);
    int64_t due = m->wall + 1 + any(300000);
    if (late_count == sizeof late / sizeof late[0])
        let_go(m, 0);
    model_put(m, row, QUEUE_LANE_RETRY, due);
    row->in_memory = true;
    late[late_count].unit = unit;
    late[late_count++].due = due;
}

static void end_unit(struct model *m, struct unit *unit, bool drain)
{
    struct model_row *row = model_row_of(m, unit);
    bool early = row->there && row->due > m->wall && row->due <= m->wall + m->horizon_ms;
    row->in_memory = false;
    if (early) { /* moved since it was drawn, or the clock went back: delivery_load() skips it */
        scheduler_forget(m->scheduler, unit);
    } else if (row->there && (drain || any(3) > 0)) {
        row->there = false; /* delivered */
        scheduler_finish(m->scheduler, unit);
    } else if (row->there && any(4) > 0) {
        defer(m, unit);
    } else { /* gone, held, or the store could not be read */
        scheduler_forget(m->scheduler, unit);
    }
}

static void see_taken(struct model *m, struct unit *unit)
{
    struct model_row *row = model_row_of(m, unit);
    assert_false(row->in_memory);
    row->in_memory = true;
}

/* Each site hands out some of its units. */
static void work(struct model *m, uint32_t most, bool drain)
{
    model_resolve(m);
    size_t sites = m->opened_count;
    for (size_t i = 0; i < sites; i++) {
        struct site *site = m->opened[i];
        for (uint32_t n = drain ? most : any(most + 1); n > 0; n--) {
            struct unit *unit = scheduler_pull(m->scheduler, site);
            if (unit == NULL)
                break;
            see_taken(m, unit);
            if (!drain && any(12) == 0) {
                model_row_of(m, unit)->in_memory = false;
                scheduler_requeue(m->scheduler, unit);
            } else {
                end_unit(m, unit, drain);
            }
        }
    }
    model_hang_up(m);
    for (struct unit *unit = scheduler_next_changed(m->scheduler); unit != NULL;
         unit = scheduler_next_changed(m->scheduler)) {
        if (model_row_of(m, unit)->there)
            scheduler_requeue(m->scheduler, unit);
        else
            scheduler_forget(m->scheduler, unit);
    }
}

static void check_bounds(struct model *m)
{
    struct scheduler_counts counts;
    scheduler_read_counts(m->scheduler, &counts);
    assert_true(counts.units <= UNITS);
    assert_true(counts.domains <= UNITS / 2);
}

static size_t left(const struct model *m)
{
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++)
        count += m->rows[i].there ? 1 : 0;
    return count;
}

/* Nothing new comes: all that is there gets its turn, by what the supply itself says of time. */
static void drain(struct model *m)
{
    /* After a step back one may be behind an earlier one until that is due, then within the
     * horizon. */
    int64_t latest = m->wall + 2 * HOUR + HOUR / 4;
    m->in_between = NULL;
    for (int round = 0; left(m) > 0; round++) {
        assert_true(round < 20000);
        while (model_step(m))
            check_bounds(m);
        work(m, 50, true);
        scheduler_tidy(m->scheduler);
        if (model_step(m))
            continue;
        int64_t next = supply_next(&m->supply);
        assert_true(next > m->wall); /* nobody is to look again before */
        int64_t pause = next > m->wall ? next - m->wall : 1;
        if (m->supply.blocked || pause > 10000) /* as the feeder sleeps */
            pause = m->supply.blocked ? 200 : 10000;
        m->wall += pause;
        m->monotonic += (uint64_t)pause;
        assert_true(m->wall < latest);
    }
}

static void one_life(uint64_t seed)
{
    struct model m;
    set_up(&m, seed);
    m.in_between = come;
    for (int round = 0; round < 400; round++) {
        (void)come(&m);
        if (any(4) == 0)
            remove_some(&m);
        (void)model_step(&m);
        check_bounds(&m);
        let_go(&m, any(8));
        work(&m, any(10) == 0 ? 40 : 3, false);
        int64_t pause = any(3) == 0 ? any(20000) : any(50);
        m.wall += pause;
        m.monotonic += (uint64_t)pause;
        if (any(50) == 0) /* the safety net, and what a step of the clock or a reload asks for */
            supply_again(&m.supply);
        if (any(100) == 0) {
            m.wall += any(2) == 0 ? -(int64_t)any(2000000) : (int64_t)any(2000000);
            supply_again(&m.supply);
        }
        if (any(100) == 0) {
            late_count = 0;
            model_restart(&m);
        }
    }
    let_go(&m, 0);
    drain(&m);
    struct scheduler_counts counts;
    scheduler_read_counts(m.scheduler, &counts);
    assert_int_equal(counts.active, 0);
    model_close(&m);
}

static void test_nothing_is_forgotten(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 150; seed++)
        one_life(seed);
}

/* A year back while it was stopped, or running: due now, though nothing says so but the horizon. */
static void test_clock_goes_back(void **unused)
{
    (void)unused;
    for (int running = 0; running <= 1; running++) {
        struct model m;
        set_up(&m, 7);
        for (size_t i = 0; i < ROWS; i++)
            model_put(&m, &m.rows[i], QUEUE_LANE_RETRY, NOW + 1 + any(600000));
        (void)model_step(&m);
        m.wall -= 365 * 24 * HOUR;
        if (running)
            supply_again(&m.supply);
        else
            model_restart(&m);
        m.rows[0].there =
            false; /* one in front of them, as of a retry since: it hides the others */
        model_put(&m, &m.rows[0], QUEUE_LANE_RETRY, m.wall + 60000);
        drain(&m);
        model_close(&m);
    }
}

/* One domain has nearly all: while it draws and draws, another's entry is in memory at once. */
static void test_flood_does_not_delay(void **unused)
{
    struct model m;
    (void)unused;
    set_up(&m, 3);
    for (size_t i = 0; i < ROWS - 50; i++) {
        m.rows[i].domain = 0;
        model_put(&m, &m.rows[i], QUEUE_LANE_RETRY, NOW - 1000);
    }
    for (size_t i = ROWS - 50; i < ROWS; i++) {
        m.rows[i].domain = 1;
        model_put(&m, &m.rows[i], some_lane(), NOW);
        (void)model_step(&m);
        (void)model_step(&m);
        model_resolve(&m);
        bool seen = false; /* its site hands out nothing but that one */
        for (size_t s = 0; s < m.opened_count; s++) {
            struct unit *unit = scheduler_pull(m.scheduler, m.opened[s]);
            if (unit == NULL)
                continue;
            see_taken(&m, unit);
            seen = seen || unit->id == i + 1;
            if (unit->id == i + 1) {
                end_unit(&m, unit, true);
                continue;
            }
            model_row_of(&m, unit)->in_memory = false;
            scheduler_requeue(m.scheduler, unit);
        }
        assert_true(seen);
    }
    model_close(&m);
}

/* The oldest first, also if it stops in the middle. */
static void test_order_over_a_restart(void **unused)
{
    struct model m;
    int64_t last = 0;
    (void)unused;
    set_up(&m, 5);
    m.sites = 1;
    for (size_t i = 0; i < ROWS; i++) {
        m.rows[i].domain = 3;
        model_put(&m, &m.rows[i], QUEUE_LANE_RETRY, NOW - 1000000 + (int64_t)any(900000));
    }
    for (size_t done = 0; done < ROWS;) {
        while (model_step(&m))
            continue;
        model_resolve(&m);
        if (m.opened_count == 0) {
            m.monotonic += 1000;
            scheduler_tidy(m.scheduler);
            continue;
        }
        struct unit *unit = NULL;
        for (size_t n = 0; n < 5; n++) {
            unit = scheduler_pull(m.scheduler, m.opened[0]);
            if (unit == NULL)
                break;
            see_taken(&m, unit);
            assert_true(model_row_of(&m, unit)->due >= last);
            last = model_row_of(&m, unit)->due;
            end_unit(&m, unit, true);
            done++;
        }
        if (done == ROWS / 2)
            model_restart(&m);
    }
    model_close(&m);
}

/* More domains have work than fit: until one of them has had its turn there is nothing to look for.
 */
static void test_too_many_domains(void **unused)
{
    struct model m;
    (void)unused;
    set_up(&m, 13);
    for (size_t i = 0; i < ROWS; i++) {
        m.rows[i].domain = (uint16_t)(i % DOMAINS);
        model_put(&m, &m.rows[i], QUEUE_LANE_RETRY, NOW - 1000);
    }
    for (int round = 0; model_step(&m); round++)
        assert_true(round < 1000);
    assert_true(m.supply.blocked);
    assert_true(supply_next(&m.supply) > m.wall);
    drain(&m);
    model_close(&m);
}

/* Each entry is read a few times at most, however large the backlog and small the windows. */
static void test_work_is_constant(void **unused)
{
    struct model m;
    (void)unused;
    set_up(&m, 11);
    for (size_t i = 0; i < ROWS; i++) {
        m.rows[i].domain = (uint16_t)any(2);
        model_put(&m, &m.rows[i], some_lane(), NOW - (int64_t)any(100000));
    }
    m.rows_read = 0;
    for (int round = 0; left(&m) > 0; round++) {
        assert_true(round < 100 * ROWS);
        while (model_step(&m))
            continue;
        work(&m, 1, true);
        m.monotonic += 10;
    }
    assert_in_range(m.rows_read, ROWS, 3 * ROWS);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_forgotten), cmocka_unit_test(test_clock_goes_back),
        cmocka_unit_test(test_flood_does_not_delay), cmocka_unit_test(test_order_over_a_restart),
        cmocka_unit_test(test_too_many_domains),     cmocka_unit_test(test_work_is_constant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
