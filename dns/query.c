/* dns/query.c - opening and closing on a loop, and the life of a query: exactly one callback, never
 * from inside a start, never from inside c-ares. Loop thread only. */
#include "dns/dns_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With the addresses of one family there, the other one gets this long. */
enum { GRACE_MS = 1000 };

/* ---- the loop's part ---- */

static void sweep_sets(struct dns *dns)
{
    struct dns_upstream_set *set = SLIST_FIRST(&dns->sets);

    if (set == NULL)
        return;
    for (struct dns_upstream_set *old = SLIST_NEXT(set, link); old != NULL;
         old = SLIST_NEXT(set, link)) {
        if (old->users > 0) {
            set = old;
            continue;
        }
        SLIST_REMOVE(&dns->sets, old, dns_upstream_set, link);
        dns_upstream_set_free(&old);
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct dns *dns = idle->data;
    size_t count = 0;
    struct dns_query *query;

    uv_idle_stop(idle); /* whatever becomes ready from here on wakes it again */
    for (query = TAILQ_FIRST(&dns->ready); query != NULL; query = TAILQ_NEXT(query, link))
        count++;
    for (; count > 0 && !dns->closing && !TAILQ_EMPTY(&dns->ready); count--) {
        query = TAILQ_FIRST(&dns->ready);
        query->tell(query);
    }
    if (dns->closing)
        return;
    if (!TAILQ_EMPTY(&dns->ready))
        dns_wake(dns);
    dns_lookup_pump(dns);
    sweep_sets(dns);
}

void dns_wake(struct dns *dns)
{
    if (!dns->closing)
        uv_idle_start(&dns->idle, on_idle);
}

int dns_open(uv_loop_t *loop, struct dns_shared *shared, struct dns **dns_out)
{
    struct dns *dns = dns_alloc(sizeof *dns);

    if (uv_idle_init(loop, &dns->idle) < 0) {
        free(dns);
        return DNS_ERR_SETUP;
    }
    dns->loop = loop;
    dns->shared = shared;
    dns->idle.data = dns;
    SLIST_INIT(&dns->sets);
    STAILQ_INIT(&dns->waiting);
    TAILQ_INIT(&dns->queries);
    TAILQ_INIT(&dns->ready);
    *dns_out = dns;
    return 0;
}

static void free_dns(uv_handle_t *handle)
{
    free(handle->data);
}

/* ---- queries ---- */

static void free_query(uv_handle_t *handle)
{
    struct dns_query *query = handle->data;

    for (size_t i = 0; i < query->leg_count; i++)
        dns_result_unref(&query->legs[i].result);
    free(query);
}

void dns_query_end(struct dns_query *query)
{
    struct dns *dns = query->dns;

    if (query->state == DNS_QUERY_DONE)
        return;
    for (size_t i = 0; i < query->leg_count; i++)
        dns_lookup_leave(&query->legs[i]);
    if (query->state == DNS_QUERY_READY)
        TAILQ_REMOVE(&dns->ready, query, link);
    else
        TAILQ_REMOVE(&dns->queries, query, link);
    query->state = DNS_QUERY_DONE;
    uv_close((uv_handle_t *)&query->timer, free_query);
}

void dns_close(struct dns **dnsp)
{
    struct dns *dns = *dnsp;

    if (dns == NULL)
        return;
    *dnsp = NULL;
    dns->closing = true;
    while (!TAILQ_EMPTY(&dns->queries))
        dns_query_end(TAILQ_FIRST(&dns->queries));
    while (!TAILQ_EMPTY(&dns->ready))
        dns_query_end(TAILQ_FIRST(&dns->ready));
    dns_lookup_pump(dns);
    while (!SLIST_EMPTY(&dns->sets)) {
        struct dns_upstream_set *set = SLIST_FIRST(&dns->sets);
        SLIST_REMOVE_HEAD(&dns->sets, link);
        dns_upstream_set_free(&set);
    }
    assert(dns->outstanding == 0);
    uv_close((uv_handle_t *)&dns->idle, free_dns);
}

void dns_cancel(struct dns_query **queryp)
{
    if (*queryp == NULL)
        return;
    dns_query_end(*queryp);
    *queryp = NULL;
}

static void make_ready(struct dns_query *query)
{
    struct dns *dns = query->dns;

    uv_timer_stop(&query->timer);
    query->state = DNS_QUERY_READY;
    TAILQ_REMOVE(&dns->queries, query, link);
    TAILQ_INSERT_TAIL(&dns->ready, query, link);
    dns_wake(dns);
}

static void on_deadline(uv_timer_t *timer)
{
    make_ready(timer->data);
}

static void start_deadline(struct dns_query *query)
{
    uint64_t now_ms = uv_now(query->dns->loop);
    uint64_t left_ms = query->deadline_ms > now_ms ? query->deadline_ms - now_ms : 0;
    bool has_records = false;

    for (size_t i = 0; i < query->leg_count; i++)
        has_records = has_records ||
                      (query->legs[i].result != NULL && query->legs[i].result->parsed.count > 0);
    if (has_records && left_ms > GRACE_MS)
        left_ms = GRACE_MS;
    uv_timer_start(&query->timer, on_deadline, left_ms, 0);
}

void dns_query_leg_done(struct dns_leg *leg, struct dns_result *result, uint32_t ttl_s)
{
    struct dns_query *query = leg->query;

    leg->result = result;
    leg->ttl_s = ttl_s;
    query->pending--;
    if (query->state != DNS_QUERY_WAITING)
        return;
    if (query->pending == 0)
        make_ready(query);
    else
        start_deadline(query);
}

int dns_query_new(struct dns *dns, const struct dns_query_plan *plan, struct dns_query **query_out)
{
    struct dns_name name;
    int rc = 0;

    if (!dns_name_read(plan->name, &name))
        return DNS_ERR_NAME;
    struct dns_query *query = dns_alloc(sizeof *query);
    if (uv_timer_init(dns->loop, &query->timer) < 0) {
        free(query);
        return DNS_ERR_SETUP;
    }
    query->timer.data = query;
    query->dns = dns;
    query->timeout_ms = plan->timeout_ms;
    query->deadline_ms = uv_now(dns->loop) + plan->timeout_ms;
    query->tell = plan->tell;
    query->ctx = plan->ctx;
    query->name = name;
    query->leg_count = query->pending = plan->type_count;
    TAILQ_INSERT_TAIL(&dns->queries, query, link);
    start_deadline(query);
    for (size_t i = 0; i < plan->type_count && rc == 0; i++) {
        query->legs[i].query = query;
        rc = dns_lookup_start(dns, &name, plan->types[i], &query->legs[i]);
    }
    if (rc < 0)
        dns_query_end(query);
    else
        *query_out = query;
    return rc;
}

enum dns_status dns_leg_status(const struct dns_leg *leg)
{
    return leg->result != NULL ? leg->result->status : DNS_TIMEOUT;
}

void dns_leg_detail(const struct dns_leg *leg, char *detail, size_t size)
{
    if (leg->result == NULL)
        snprintf(detail, size, "no answer within %u ms", leg->query->timeout_ms);
    else if (leg->result->detail != NULL)
        snprintf(detail, size, "%s", leg->result->detail);
}
