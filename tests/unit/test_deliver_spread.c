/* An hour in which nothing can be delivered, and what comes after: simulated with the schedule, the
 * scheduler, its supply and a clock that runs by the second. Attempts come spread, during the
 * outage and behind it, and nobody waits longer than its schedule says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "deliver_model.h"
#include "mta/deliver/retry.h"

#define NOW      INT64_C(1795572000000)
#define SECOND   1000
#define MINUTE   (60 * SECOND)
#define MESSAGES 3000
#define DOMAINS  10
#define SITES    5
#define OUTAGE_S 3600
#define END_S    (3 * 3600)
#define A_SECOND 10 /* messages that a connection carries */

static const uint64_t intervals[] = {5 * MINUTE,  10 * MINUTE, 20 * MINUTE,
                                     30 * MINUTE, 60 * MINUTE, 120 * MINUTE};
static const struct retry_schedule schedule = {intervals, 6, UINT64_C(5) * 24 * 3600 * SECOND};

static uint64_t state = 88172645463325252U;

static uint32_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

struct outcome {
    uint32_t attempts[END_S]; /* in that second */
    size_t delivered;
    int64_t last_s; /* when the last one was delivered */
};

static void defer(struct model *m, struct unit *unit)
{
    struct model_row *row = model_row_of(m, unit);
    row->attempts++;
    model_put(m, row, QUEUE_LANE_RETRY,
              retry_next(&schedule, row->attempts, m->wall, m->wall - NOW, any()));
    scheduler_finish(m->scheduler, unit);
}

static void deliver_some(struct model *m, struct outcome *out, int64_t second)
{
    size_t count = m->opened_count;
    for (size_t i = 0; i < count; i++) {
        for (int n = 0; n < A_SECOND; n++) {
            struct unit *unit = scheduler_pull(m->scheduler, m->opened[i]);
            if (unit == NULL)
                break;
            out->attempts[second]++;
            out->delivered++;
            out->last_s = second;
            model_row_of(m, unit)->there = false;
            scheduler_finish(m->scheduler, unit);
        }
    }
    model_hang_up(m);
}

/* What waits at a dead site fails as a whole, by the attempt of one connection. */
static void fail_all(struct model *m, struct outcome *out, int64_t second)
{
    size_t count = m->opened_count;
    for (size_t i = 0; i < count; i++) {
        struct unit_list list = scheduler_take_all(m->scheduler, m->opened[i]);
        for (struct unit *unit = unit_list_take(&list); unit != NULL;
             unit = unit_list_take(&list)) {
            out->attempts[second]++;
            defer(m, unit);
        }
    }
    model_hang_up(m);
}

static void one_second(struct model *m, struct outcome *out, int64_t second)
{
    for (int again = 0; again < 3; again++) {
        while (model_step(m))
            continue;
        model_resolve(m);
        if (second < OUTAGE_S)
            fail_all(m, out, second);
        else
            deliver_some(m, out, second);
    }
}

/* Messages come within so many seconds from the beginning of the outage. */
static void simulate(struct outcome *out, int64_t within_s)
{
    struct model m = {.wall = NOW, .monotonic = 1000000};
    m.horizon_ms = retry_horizon(&schedule, 0);
    model_open(&m, 2000, MESSAGES, SITES);
    memset(out, 0, sizeof *out);
    size_t accepted = 0;
    for (int64_t second = 0; second < END_S; second++) {
        for (; accepted < MESSAGES && (int64_t)accepted * within_s / MESSAGES <= second;
             accepted++) {
            struct model_row *row = &m.rows[accepted];
            row->id = accepted + 1;
            row->domain = (uint16_t)(any() % DOMAINS);
            model_put(&m, row, QUEUE_LANE_NEW, m.wall);
        }
        one_second(&m, out, second);
        if (second % 10 == 0)
            scheduler_tidy(m.scheduler);
        m.wall += SECOND;
        m.monotonic += SECOND;
    }
    model_close(&m);
}

static uint32_t highest(const struct outcome *out, int64_t from_s, int64_t to_s)
{
    uint32_t most = 0;
    for (int64_t second = from_s; second < to_s; second++)
        most = out->attempts[second] > most ? out->attempts[second] : most;
    return most;
}

static void report(const char *what, const struct outcome *out)
{
    print_message("%s: attempts a second at most %u during the outage after the first, %u behind; "
                  "the last delivered %lld minutes behind\n",
                  what, highest(out, 240, OUTAGE_S), highest(out, OUTAGE_S, END_S),
                  (long long)(out->last_s - OUTAGE_S) / 60);
}

/* Mail that came evenly: so it is tried, and so it leaves. */
static void test_steady_mail(void **unused)
{
    struct outcome *out = malloc(sizeof *out);
    (void)unused;
    simulate(out, OUTAGE_S);
    report("steady", out);
    assert_int_equal(out->delivered, MESSAGES);
    /* 3,000 an hour is less than one a second; each is tried about three times in the hour. */
    assert_true(highest(out, 0, OUTAGE_S) <= 15);
    assert_true(highest(out, OUTAGE_S, END_S) <= 15);
    /* Nobody is kept longer than the longest interval that had come up, with its jitter. */
    assert_true(out->last_s <= OUTAGE_S + 30 * 72);
    free(out);
}

/* All within ten seconds: from 300 a second the first time, jitter makes it flatter with each. */
static void test_burst(void **unused)
{
    struct outcome *out = malloc(sizeof *out);
    (void)unused;
    simulate(out, 10);
    report("burst", out);
    assert_int_equal(out->delivered, MESSAGES);
    uint32_t first = highest(out, 0, 60);
    uint32_t second = highest(out, 240, 420);
    uint32_t fourth = highest(out, 1800, OUTAGE_S);
    uint32_t behind = highest(out, OUTAGE_S, END_S);
    assert_true(first >= 250);
    assert_true(second <= first / 3);
    assert_true(fourth <= second / 3);
    assert_true(behind <= 30);
    assert_true(out->last_s <= OUTAGE_S + 60 * 72);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady_mail),
        cmocka_unit_test(test_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
