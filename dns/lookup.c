/* dns/lookup.c - one question until it is answered: which server is asked in which order, CNAMEs
 * that lead out of an answer, and who waits for it. Loop thread only. */
#include "dns/dns_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIES_MAX = 4, /* of the whole: four with one server, two each with two */
    OUTSTANDING_MAX =
        256, /* questions a loop has under way: a burst must not overrun the resolver */
    FAILURE_TTL_S = 5,
};

/* How much a failure says; the most telling one is reported. */
enum failure { FAILURE_NONE, FAILURE_UNREACHABLE, FAILURE_TIMEOUT, FAILURE_ANSWER };

struct dns_lookup {
    LIST_ENTRY(dns_lookup) in_bucket;
    STAILQ_ENTRY(dns_lookup) in_waiting;
    struct dns *dns;
    struct dns_upstream_set *set;
    struct dns_name name;   /* what was asked for */
    struct dns_name target; /* what is asked now: the name, or where its CNAMEs led */
    uint16_t type;
    struct dns_leg_list legs;
    unsigned hops;
    bool authentic; /* so far, along the CNAMEs */
    uint32_t ttl_s;
    unsigned asked; /* bits of the servers asked in this round */
    unsigned out;   /* bits of those that need not be asked again */
    unsigned tries;
    int current;
    uint64_t sent_ms;
    enum failure failure;
    char detail[128];
};

static struct dns_lookup_list *find_bucket(struct dns *dns, const struct dns_name *name,
                                           uint16_t type)
{
    return &dns->lookups[dns_name_hash(name, type) % DNS_LOOKUP_BUCKETS];
}

static struct dns_lookup *find(struct dns *dns, const struct dns_name *name, uint16_t type)
{
    struct dns_lookup *lookup = LIST_FIRST(find_bucket(dns, name, type));
    unsigned generation = SLIST_FIRST(&dns->sets)->generation;

    for (; lookup != NULL; lookup = LIST_NEXT(lookup, in_bucket)) {
        if (lookup->type == type && lookup->set->generation == generation &&
            dns_name_equal(&lookup->name, name))
            return lookup;
    }
    return NULL;
}

static void free_lookup(struct dns_lookup *lookup)
{
    assert(LIST_EMPTY(&lookup->legs));
    LIST_REMOVE(lookup, in_bucket);
    lookup->set->users--;
    dns_wake(lookup->dns); /* an outdated set may go now */
    free(lookup);
}

/* Takes over one reference of the result. */
static void finish(struct dns_lookup *lookup, struct dns_result *result)
{
    struct dns *dns = lookup->dns;

    dns_shared_put(dns->shared, lookup->set->generation, &lookup->name, lookup->type, result,
                   uv_now(dns->loop));
    while (!LIST_EMPTY(&lookup->legs)) {
        struct dns_leg *leg = LIST_FIRST(&lookup->legs);
        LIST_REMOVE(leg, link);
        leg->lookup = NULL;
        dns_query_leg_done(leg, dns_result_ref(result), result->parsed.ttl_s);
    }
    dns_result_unref(&result);
    free_lookup(lookup);
}

static void finish_failed(struct dns_lookup *lookup)
{
    struct dns_parsed nothing = {.ttl_s = FAILURE_TTL_S};

    finish(lookup,
           dns_result_new(lookup->failure == FAILURE_TIMEOUT ? DNS_TIMEOUT : DNS_SERVER_FAILURE,
                          &nothing, lookup->detail));
}

static void note_failure(struct dns_lookup *lookup, enum failure failure, const char *what)
{
    if (failure <= lookup->failure)
        return;
    lookup->failure = failure;
    snprintf(lookup->detail, sizeof lookup->detail, "%s from %s", what,
             lookup->set->upstreams[lookup->current].text);
}

static void send_next(struct dns_lookup *lookup);

/* The chain of CNAMEs led to a name of which the resolver said nothing. */
static void follow(struct dns_lookup *lookup, const struct dns_parsed *parsed)
{
    lookup->hops += parsed->hops;
    lookup->authentic = lookup->authentic && parsed->authentic;
    if (parsed->ttl_s < lookup->ttl_s)
        lookup->ttl_s = parsed->ttl_s;
    if (lookup->hops > DNS_CNAME_MAX || !dns_name_read(parsed->target, &lookup->target)) {
        note_failure(lookup, FAILURE_ANSWER, "more than 16 CNAMEs in a row");
        finish_failed(lookup);
        return;
    }
    lookup->asked = lookup->out = lookup->tries = 0;
    send_next(lookup);
}

static void on_answer(struct dns_lookup *lookup, const uint8_t *bytes, size_t len)
{
    struct dns_parsed parsed;

    dns_parse_answer(bytes, len, lookup->target.text, lookup->type, &parsed);
    if (parsed.status == DNS_SERVER_FAILURE) {
        note_failure(lookup, FAILURE_ANSWER, parsed.problem);
        lookup->out |= 1U << lookup->current;
        dns_parsed_deinit(&parsed);
        send_next(lookup);
    } else if (parsed.follow) {
        follow(lookup, &parsed);
        dns_parsed_deinit(&parsed);
    } else {
        parsed.authentic = parsed.authentic && lookup->authentic;
        if (lookup->ttl_s < parsed.ttl_s)
            parsed.ttl_s = lookup->ttl_s;
        finish(lookup, dns_result_new(parsed.status, &parsed, NULL));
    }
}

static void on_transport(enum dns_transport_status status, const uint8_t *bytes, size_t len,
                         void *ctx)
{
    struct dns_lookup *lookup = ctx;
    struct dns_upstream *upstream = &lookup->set->upstreams[lookup->current];
    uint64_t now_ms = uv_now(lookup->dns->loop);

    lookup->dns->outstanding--;
    switch (status) {
    case DNS_TRANSPORT_ANSWERED:
        dns_upstream_answered(upstream, now_ms);
        on_answer(lookup, bytes, len);
        return;
    case DNS_TRANSPORT_TIMEOUT:
        dns_upstream_failed(upstream, lookup->sent_ms, now_ms);
        note_failure(lookup, FAILURE_TIMEOUT, "no answer");
        send_next(lookup);
        return;
    case DNS_TRANSPORT_UNREACHABLE:
        dns_upstream_failed(upstream, lookup->sent_ms, now_ms);
        note_failure(lookup, FAILURE_UNREACHABLE, "no connection or no whole answer");
        send_next(lookup);
        return;
    case DNS_TRANSPORT_CLOSED:
        free_lookup(lookup);
        return;
    }
    abort();
}

/* @return false: every server has had its tries */
static bool choose_server(struct dns_lookup *lookup)
{
    uint64_t now_ms = uv_now(lookup->dns->loop);
    unsigned most = lookup->set->count > TRIES_MAX ? (unsigned)lookup->set->count : TRIES_MAX;

    if (lookup->tries >= most)
        return false;
    lookup->current = dns_upstream_pick(lookup->set, lookup->asked | lookup->out, now_ms);
    if (lookup->current < 0) {
        lookup->asked = 0;
        lookup->current = dns_upstream_pick(lookup->set, lookup->out, now_ms);
    }
    return lookup->current >= 0;
}

static void send_now(struct dns_lookup *lookup)
{
    struct dns *dns = lookup->dns;

    if (!choose_server(lookup)) {
        finish_failed(lookup);
        return;
    }
    lookup->tries++;
    lookup->asked |= 1U << lookup->current;
    lookup->sent_ms = uv_now(dns->loop);
    dns->outstanding++;
    dns_transport_send(lookup->set->upstreams[lookup->current].transport, &lookup->target,
                       lookup->type, on_transport, lookup);
}

static void send_next(struct dns_lookup *lookup)
{
    struct dns *dns = lookup->dns;

    if (LIST_EMPTY(&lookup->legs)) {
        free_lookup(lookup); /* all who asked have left */
        return;
    }
    if (dns->outstanding >= OUTSTANDING_MAX || !STAILQ_EMPTY(&dns->waiting)) {
        STAILQ_INSERT_TAIL(&dns->waiting, lookup, in_waiting);
        dns_wake(dns);
        return;
    }
    send_now(lookup);
}

void dns_lookup_pump(struct dns *dns)
{
    while (!STAILQ_EMPTY(&dns->waiting) && (dns->outstanding < OUTSTANDING_MAX || dns->closing)) {
        struct dns_lookup *lookup = STAILQ_FIRST(&dns->waiting);
        STAILQ_REMOVE_HEAD(&dns->waiting, in_waiting);
        if (dns->closing || LIST_EMPTY(&lookup->legs))
            free_lookup(lookup);
        else
            send_now(lookup);
    }
}

/* The servers may have been replaced since the last query. */
static int refresh_set(struct dns *dns)
{
    struct dns_upstream_set *fresh = SLIST_FIRST(&dns->sets);
    struct dns_server_list list;

    if (fresh != NULL && fresh->generation == dns_shared_generation(dns->shared))
        return 0;
    dns_shared_servers(dns->shared, &list);
    int rc = dns_upstream_set_new(dns->loop, &list, &fresh);
    if (rc < 0)
        return rc;
    SLIST_INSERT_HEAD(&dns->sets, fresh, link);
    dns_wake(dns);
    return 0;
}

int dns_lookup_start(struct dns *dns, const struct dns_name *name, uint16_t type,
                     struct dns_leg *leg)
{
    uint32_t ttl_s;
    struct dns_result *cached = dns_shared_get(dns->shared, name, type, uv_now(dns->loop), &ttl_s);
    if (cached != NULL) {
        dns_query_leg_done(leg, cached, ttl_s);
        return 0;
    }
    int rc = refresh_set(dns);
    if (rc < 0)
        return rc;

    struct dns_lookup *lookup = find(dns, name, type);
    if (lookup != NULL) {
        leg->lookup = lookup;
        LIST_INSERT_HEAD(&lookup->legs, leg, link);
        return 0;
    }
    lookup = dns_alloc(sizeof *lookup);
    lookup->dns = dns;
    lookup->set = SLIST_FIRST(&dns->sets);
    lookup->set->users++;
    lookup->name = lookup->target = *name;
    lookup->type = type;
    lookup->authentic = true;
    lookup->ttl_s = DNS_TTL_MAX_S;
    LIST_INSERT_HEAD(find_bucket(dns, name, type), lookup, in_bucket);
    leg->lookup = lookup;
    LIST_INSERT_HEAD(&lookup->legs, leg, link);
    send_next(lookup);
    return 0;
}

void dns_lookup_leave(struct dns_leg *leg)
{
    if (leg->lookup == NULL)
        return;
    /* The question goes on: its answer is worth keeping. */
    LIST_REMOVE(leg, link);
    leg->lookup = NULL;
}
