/* mta/control/metrics_scan.c - messages by state and age. No counter tells that: it changes by the
 * mere passing of time. So a thread looks through the queue, in steps of some milliseconds and with
 * long rests in between, and the last result is what is told. Nobody asks: nothing is done. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

#define REST_FACTOR 19   /* one part work, so many parts rest: at most 1/20 of one core */
#define NEXT_MS     5000 /* between the end of a look and the next */
#define NS_PER_S    1000000000LL

const char *const scan_state_names[SCAN_STATES] = {
    [SCAN_QUEUED] = "queued", [SCAN_DEFERRED] = "deferred", [SCAN_HELD] = "held"};
/* minutes: 0 5 30, hours: 1 4 12, days: 1 2 5 */
const uint32_t scan_ages_s[SCAN_AGES] = {0, 300, 1800, 3600, 14400, 43200, 86400, 172800, 432000};

struct scan {
    struct queue *queue;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* monotonic */
    /* Under the lock: */
    bool stopping, wanted;
    struct scan_result result;
};

/* ---- one look ---- */

struct look {
    int64_t now_unix_ms;
    struct scan_result *result;
};

/* A message counts once: by what waits for its next attempt before what was never tried, and by
 * either before what an admin holds. */
static enum scan_state state_of(const struct queue_envelope *envelope)
{
    enum scan_state state = SCAN_HELD;
    for (size_t i = 0; i < envelope->unit_count; i++) {
        const struct queue_unit *unit = &envelope->units[i];
        if (unit->done || unit->held)
            continue;
        if (unit->attempts > 0)
            return SCAN_DEFERRED;
        state = SCAN_QUEUED;
    }
    return state;
}

static bool count_message(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    const struct look *look = ctx;
    struct scan_result *result = look->result;
    enum scan_state state = state_of(envelope);
    int64_t accepted = envelope->accepted_unix_ms;
    int64_t age_s = (look->now_unix_ms - accepted) / 1000;
    (void)id;
    /* What came while we look, or after a clock step, is of age 0. */
    for (size_t i = 0; i < SCAN_AGES && (i == 0 || age_s >= (int64_t)scan_ages_s[i]); i++)
        result->messages[state][i]++;
    int64_t *oldest = &result->oldest_unix_ms[state];
    if (*oldest == 0 || accepted < *oldest)
        *oldest = accepted;
    return true;
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* @return false: the thread is to end */
static bool rest(struct scan *scan, int64_t ns)
{
    int64_t until = monotonic_ns() + ns;
    struct timespec at = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};
    pthread_mutex_lock(&scan->lock);
    int rc = 0;
    while (!scan->stopping && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&scan->wake, &scan->lock, &at);
    bool go_on = !scan->stopping;
    pthread_mutex_unlock(&scan->lock);
    return go_on;
}

/* @return false: the thread is to end */
static bool look_through(struct scan *scan)
{
    struct scan_result result = {.made_unix_ms = time_wall_ms()};
    struct look look = {result.made_unix_ms, &result};
    uint64_t after = 0, began_ms = time_monotonic_ms();
    int rc = 1;
    while (rc == 1) {
        int64_t before = monotonic_ns();
        rc = queue_scan(scan->queue, &after, count_message, &look);
        if (!rest(scan, (monotonic_ns() - before) * REST_FACTOR))
            return false;
    }
    if (rc < 0) /* the store is in trouble: the last result stands, its time tells */
        return true;
    result.took_ms = time_monotonic_ms() - began_ms;
    pthread_mutex_lock(&scan->lock);
    scan->result = result;
    pthread_mutex_unlock(&scan->lock);
    return true;
}

static bool wait_for_asker(struct scan *scan)
{
    pthread_mutex_lock(&scan->lock);
    while (!scan->stopping && !scan->wanted)
        pthread_cond_wait(&scan->wake, &scan->lock);
    scan->wanted = false;
    bool go_on = !scan->stopping;
    pthread_mutex_unlock(&scan->lock);
    return go_on;
}

static void *run(void *arg)
{
    struct scan *scan = arg;
    while (wait_for_asker(scan) && look_through(scan) && rest(scan, NEXT_MS * NS_PER_S / 1000))
        ;
    return NULL;
}

/* ---- any thread ---- */

struct scan *scan_new(struct queue *queue)
{
    struct scan *scan = mem_alloc(sizeof *scan);
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t old;
    scan->queue = queue;
    pthread_mutex_init(&scan->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&scan->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&scan->thread, NULL, run, scan);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        return scan;
    pthread_cond_destroy(&scan->wake);
    pthread_mutex_destroy(&scan->lock);
    free(scan);
    return NULL;
}

void scan_want(struct scan *scan)
{
    pthread_mutex_lock(&scan->lock);
    scan->wanted = true;
    pthread_cond_signal(&scan->wake);
    pthread_mutex_unlock(&scan->lock);
}

void scan_read(struct scan *scan, struct scan_result *result_out)
{
    pthread_mutex_lock(&scan->lock);
    *result_out = scan->result;
    pthread_mutex_unlock(&scan->lock);
}

void scan_free(struct scan **scanp)
{
    struct scan *scan = *scanp;
    if (scan == NULL)
        return;
    *scanp = NULL;
    pthread_mutex_lock(&scan->lock);
    scan->stopping = true;
    pthread_cond_signal(&scan->wake);
    pthread_mutex_unlock(&scan->lock);
    pthread_join(scan->thread, NULL);
    pthread_cond_destroy(&scan->wake);
    pthread_mutex_destroy(&scan->lock);
    free(scan);
}
