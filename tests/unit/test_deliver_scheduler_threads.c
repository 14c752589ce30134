/* The scheduler from many threads at once, as workers use it: writers offer, connections take,
 * idle, are woken and end, one thread draws, looks at what was changed and reads counts. Each unit
 * is delivered exactly once, and in the end no unit, place or wake-up is left. Meant for the thread
 * sanitizer as well. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mta/base/time.h"
#include "mta/deliver/scheduler.h"

#define WORKERS 3
#define OFFERS  4000 /* of each of two writers */
#define DOMAINS 37
#define SITES   5

/* What was posted to the one mailbox all workers take from: a wake-up or a lookup may be served by
 * any of them, since no connection is bound to a thread here. */
struct post {
    enum { POST_RESOLVE, POST_CONNECT, POST_WAKE } what;
    void *arg;
    struct post *next;
};

struct connection {
    struct idler idler; /* first */
    struct site *site;
    struct connection *next; /* in world.connections */
    unsigned units;
};

static struct world {
    struct scheduler *scheduler;
    pthread_mutex_t lock; /* posts */
    struct post *head, *tail;
    struct connection *connections;
    atomic_uint delivered[2 * OFFERS];
    atomic_uint left; /* to be delivered */
    atomic_bool over;
    atomic_uint feeds;
} world;

static void post(int what, void *arg)
{
    struct post *p = mem_alloc(sizeof *p);
    p->what = what;
    p->arg = arg;
    pthread_mutex_lock(&world.lock);
    if (world.tail != NULL)
        world.tail->next = p;
    else
        world.head = p;
    world.tail = p;
    pthread_mutex_unlock(&world.lock);
}

static struct post *take_post(void)
{
    pthread_mutex_lock(&world.lock);
    struct post *p = world.head;
    if (p != NULL) {
        world.head = p->next;
        if (world.head == NULL)
            world.tail = NULL;
    }
    pthread_mutex_unlock(&world.lock);
    return p;
}

static void hook_resolve(struct domain *domain, void *ctx)
{
    (void)ctx;
    post(POST_RESOLVE, domain);
}

static void hook_connect(struct site *site, void *ctx)
{
    (void)ctx;
    post(POST_CONNECT, site);
}

static void hook_wake(struct idler *idler, void *ctx)
{
    (void)ctx;
    post(POST_WAKE, idler);
}

static void hook_feed(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&world.feeds, 1);
}

static void deliver(struct unit *unit)
{
    atomic_fetch_add(&world.delivered[unit->id], 1);
    scheduler_finish(world.scheduler, unit);
    atomic_fetch_sub(&world.left, 1);
}

/* Some lookups fail once: the units come back through the writer's hands, here at once. */
static void resolve(struct domain *domain, unsigned *random)
{
    char key[16];
    unsigned number = (unsigned)atoi(domain_name(domain) + 1);
    if (rand_r(random) % 8 == 0) {
        struct unit_list list =
            scheduler_domain_failed(world.scheduler, domain, rand_r(random) % 2 == 0);
        for (struct unit *unit = unit_list_take(&list); unit != NULL; unit = unit_list_take(&list))
            deliver(unit);
        return;
    }
    struct site_target target = {.host_count = 1};
    target.hosts = mem_alloc(sizeof *target.hosts);
    target.hosts[0].name = str_dup(str_from("host"));
    snprintf(key, sizeof key, "s%u", number % SITES);
    scheduler_domain_known(world.scheduler, domain, key, &target,
                           time_monotonic_ms() + (unsigned)rand_r(random) % 4);
}

static void end(struct connection *c)
{
    struct site *site = c->site;
    pthread_mutex_lock(&world.lock);
    struct connection **at = &world.connections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    pthread_mutex_unlock(&world.lock);
    free(c);
    scheduler_connection_gone(world.scheduler, site, true);
}

/* Take units until there are none, with all that may go wrong on the way. */
static void work(struct connection *c, unsigned *random)
{
    for (;;) {
        struct unit *unit = scheduler_pull(world.scheduler, c->site);
        bool more = false;
        if (unit != NULL && rand_r(random) % 16 == 0) {
            scheduler_requeue(world.scheduler, unit);
            end(c);
            return;
        }
        if (unit != NULL) {
            deliver(unit);
            c->units++;
            if (c->units < 50)
                continue;
            end(c);
            return;
        }
        if (scheduler_idle(world.scheduler, c->site, &c->idler, &more))
            return;
        if (!more) {
            end(c);
            return;
        }
    }
}

static void connect_to(struct site *site, unsigned *random)
{
    if (rand_r(random) % 4 == 0) { /* cannot be reached; what waits there fails with it */
        if (scheduler_connections_standing(world.scheduler, site) == 0) {
            struct unit_list list = scheduler_take_all(world.scheduler, site);
            for (struct unit *unit = unit_list_take(&list); unit != NULL;
                 unit = unit_list_take(&list))
                deliver(unit);
        }
        scheduler_connection_gone(world.scheduler, site, false);
        return;
    }
    struct connection *c = mem_alloc(sizeof *c);
    c->site = site;
    pthread_mutex_lock(&world.lock);
    c->next = world.connections;
    world.connections = c;
    pthread_mutex_unlock(&world.lock);
    scheduler_connected(world.scheduler, site);
    work(c, random);
}

static void wake(struct connection *c, unsigned *random)
{
    scheduler_woken(world.scheduler, c->site);
    if (rand_r(random) % 4 == 0)
        end(c); /* it was stale */
    else
        work(c, random);
}

/* @return false: there is none */
static bool serve_post(unsigned *random)
{
    struct post *p = take_post();
    if (p == NULL)
        return false;
    if (p->what == POST_RESOLVE)
        resolve(p->arg, random);
    else if (p->what == POST_CONNECT)
        connect_to(p->arg, random);
    else
        wake(p->arg, random);
    free(p);
    return true;
}

static void *worker_main(void *arg)
{
    unsigned random = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&world.over)) {
        if (!serve_post(&random))
            usleep(50);
    }
    return NULL;
}

static void *writer_main(void *arg)
{
    unsigned first = (unsigned)(uintptr_t)arg;
    unsigned random = first + 99;
    char name[16];
    for (unsigned id = first; id < first + OFFERS; id++) {
        snprintf(name, sizeof name, "d%u", (unsigned)rand_r(&random) % DOMAINS);
        enum offer offer = scheduler_offer(world.scheduler, id, 0, name);
        if (offer != OFFER_TAKEN)
            atomic_fetch_add(&world.delivered[id], 100); /* seen as wrong at the end */
        if (id % 64 == 0)
            usleep(500);
        /* What is told of the store is drawn by the purger, which finds nothing there. */
        (void)scheduler_note_due(world.scheduler, name, QUEUE_LANE_RETRY, (int64_t)id, id % 2 == 0);
        if (id % 7 == 0)
            scheduler_changed(world.scheduler, id - (unsigned)rand_r(&random) % 5);
    }
    return NULL;
}

static void *purger_main(void *arg)
{
    struct draw draw;
    unsigned random = 7;
    (void)arg;
    while (!atomic_load(&world.over)) {
        struct scheduler_counts counts;
        scheduler_tidy(world.scheduler);
        scheduler_set_time(world.scheduler, rand_r(&random) % OFFERS, 2 * OFFERS);
        scheduler_read_counts(world.scheduler, &counts);
        if (scheduler_next_draw(world.scheduler, &draw))
            scheduler_drawn(world.scheduler, &draw, rand_r(&random) % (2 * OFFERS));
        struct unit *unit = scheduler_next_changed(world.scheduler);
        if (unit != NULL && rand_r(&random) % 2 == 0)
            scheduler_requeue(world.scheduler, unit);
        else if (unit != NULL)
            deliver(unit);
        if (rand_r(&random) % 64 == 0)
            scheduler_doubt(world.scheduler);
        (void)scheduler_is_active(world.scheduler, counts.units, 0);
        usleep(200);
    }
    return NULL;
}

/* Connections and wake-ups without work; then all that stands is idle. */
static void end_what_is_left(void)
{
    unsigned random = 5;
    while (serve_post(&random))
        continue;
    while (world.connections != NULL) {
        assert_true(scheduler_unidle(world.scheduler, &world.connections->idler));
        end(world.connections);
    }
}

static void test_threads(void **unused)
{
    pthread_t workers[WORKERS], writers[2], purger;
    struct config config = {
        .delivery = {.site_connections = 3, .max_connections = 8, .units_in_memory = 100000}};
    struct scheduler_hooks hooks = {
        .resolve = hook_resolve, .connect = hook_connect, .wake = hook_wake, .feed = hook_feed};
    struct scheduler_counts counts;
    (void)unused;
    pthread_mutex_init(&world.lock, NULL);
    world.scheduler = scheduler_new(&hooks, &config);
    atomic_store(&world.left, 2 * OFFERS);
    for (uintptr_t i = 0; i < WORKERS; i++)
        pthread_create(&workers[i], NULL, worker_main, (void *)(i + 1));
    for (uintptr_t i = 0; i < 2; i++)
        pthread_create(&writers[i], NULL, writer_main, (void *)(i * OFFERS));
    pthread_create(&purger, NULL, purger_main, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    for (int i = 0; i < 60000 && atomic_load(&world.left) > 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&world.left), 0);
    for (int i = 0; i < 2 * OFFERS; i++)
        assert_int_equal(atomic_load(&world.delivered[i]), 1);

    atomic_store(&world.over, true);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    pthread_join(purger, NULL);
    end_what_is_left();
    scheduler_read_counts(world.scheduler, &counts);
    assert_int_equal(counts.units + counts.active + counts.connections + counts.sites_at_work, 0);
    scheduler_free(&world.scheduler);
    pthread_mutex_destroy(&world.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
