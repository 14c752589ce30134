/* mta/deliver/resolve.c - from a domain to its site: the route, or the MX set (RFC 5321
 * section 5.1, RFC 7505). On the loop of one worker; asked by the scheduler. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/deliver_private.h"
#include "mta/deliver/policy.h"
#include "mta/deliver/route.h"

#define MX_TIMEOUT_MS 30000
#define KNOWN_MIN_MS  30000
#define KNOWN_MAX_MS  3600000

struct resolving {
    struct resolving *prev, *next;
    struct worker *worker;
    struct domain *domain;
    struct settings *settings;
    struct dns_query *query;
    uint64_t started_ms; /* monotonic */
};

static void begin(struct resolving *r)
{
    struct worker *worker = r->worker;
    r->next = worker->resolving;
    if (r->next != NULL)
        r->next->prev = r;
    worker->resolving = r;
}

static void finish(struct resolving *r)
{
    struct worker *worker = r->worker;
    if (r->prev != NULL)
        r->prev->next = r->next;
    else
        worker->resolving = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    settings_unref(&r->settings);
    free(r);
    worker_check_stopped(worker);
}

void resolve_cancel_all(struct worker *worker)
{
    struct resolving *next = NULL;
    for (struct resolving *r = worker->resolving; r != NULL; r = next) {
        next = r->next;
        dns_cancel(&r->query);
        finish(r);
    }
}

static void fail(struct resolving *r, const struct mail_outcome *outcome)
{
    struct settle_place nowhere = {"", "", ""};
    struct unit_list waiting = scheduler_domain_failed(r->worker->deliver->scheduler, r->domain,
                                                       outcome->kind == OUTCOME_DEFERRED);
    settle_list(r->worker, &waiting, outcome, r->started_ms, &nowhere);
}

static void succeed(struct resolving *r, struct site_target *target, uint32_t ttl_s)
{
    /* The key names all that decides what a connection may carry: equal key, equal site. */
    struct buf key;
    buf_init(&key, (size_t)SITE_HOSTS_MAX * (DNS_NAME_MAX + 16));
    buf_printf(&key, "%s tls=%d",
               target->fixed      ? "relay"
               : target->implicit ? "host"
                                  : "mx",
               (int)target->tls);
    for (size_t i = 0; i < target->host_count; i++)
        buf_printf(&key, " %u:%s:%u", target->hosts[i].preference, target->hosts[i].name,
                   target->hosts[i].port);
    buf_add(&key, "", 1);
    uint64_t known_ms = (uint64_t)ttl_s * 1000;
    if (known_ms < KNOWN_MIN_MS)
        known_ms = KNOWN_MIN_MS;
    if (known_ms > KNOWN_MAX_MS)
        known_ms = KNOWN_MAX_MS;
    scheduler_domain_known(r->worker->deliver->scheduler, r->domain, buf_str(&key).p, target,
                           time_monotonic_ms() + known_ms);
    buf_deinit(&key);
}

static void by_relay(struct resolving *r, const struct config_route *route)
{
    struct site_target target = {.fixed = true, .tls = route->tls};
    target.hosts = mem_alloc(route->to_count * sizeof *target.hosts);
    for (size_t i = 0; i < route->to_count && i < SITE_HOSTS_MAX; i++) {
        struct site_host *host = &target.hosts[target.host_count++];
        host->name = str_dup(str_from(route->to[i].host));
        host->port = route->to[i].port;
        host->preference = (uint16_t)i;
    }
    succeed(r, &target, KNOWN_MAX_MS / 1000);
}

static int compare_hosts(const void *a, const void *b)
{
    const struct site_host *x = a, *y = b;
    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Our own host in the list: it and all that is not better are dropped (RFC 5321 section 5.1). */
static uint32_t own_preference(const struct config *config, const struct dns_mx_answer *answer)
{
    uint32_t own = UINT32_MAX;
    for (size_t i = 0; i < answer->host_count; i++) {
        if (strcmp(answer->hosts[i].name, config->hostname) == 0 &&
            answer->hosts[i].preference < own)
            own = answer->hosts[i].preference;
    }
    return own;
}

static void use_answer(struct resolving *r, const struct dns_mx_answer *answer)
{
    const struct config *config = r->settings->config;
    const char *name = domain_name(r->domain);
    const struct config_route *route = route_match(config, name);
    struct mail_outcome outcome = {0};
    char text[512];

    if (answer->null_mx) {
        snprintf(text, sizeof text, "the domain %s accepts no mail (null MX, RFC 7505)", name);
        outcome_set(&outcome, OUTCOME_FAILED, 556, "5.1.10", text);
        fail(r, &outcome);
        goto done;
    }
    if (answer->status != DNS_ANSWER) {
        policy_judge_dns(answer->status, name, answer->detail, &outcome);
        fail(r, &outcome);
        goto done;
    }
    struct site_target target = {
        .tls = route != NULL ? route->tls : config->delivery.tls,
        .implicit = answer->implicit,
    };
    uint32_t own = own_preference(config, answer);
    target.hosts = mem_alloc((answer->host_count + 1) * sizeof *target.hosts);
    for (size_t i = 0; i < answer->host_count && target.host_count < SITE_HOSTS_MAX; i++) {
        if (answer->hosts[i].preference >= own)
            continue;
        struct site_host *host = &target.hosts[target.host_count++];
        host->name = str_dup(str_from(answer->hosts[i].name));
        host->preference = answer->hosts[i].preference;
        host->port = config->delivery.port;
    }
    if (target.host_count == 0) {
        site_target_clear(&target);
        snprintf(text, sizeof text, "mail for %s loops back to this host: %s is its best MX", name,
                 config->hostname);
        outcome_set(&outcome, OUTCOME_FAILED, 0, "5.4.6", text);
        fail(r, &outcome);
        goto done;
    }
    qsort(target.hosts, target.host_count, sizeof *target.hosts, compare_hosts);
    succeed(r, &target, answer->ttl_s);
done:
    outcome_clear(&outcome);
}

static void on_mx(const struct dns_mx_answer *answer, void *ctx)
{
    struct resolving *r = ctx;
    r->query = NULL;
    use_answer(r, answer);
    finish(r);
}

/* user@[192.0.2.1]: the address is the only host (RFC 5321 section 4.1.3). */
static bool by_literal(struct resolving *r, const char *name)
{
    char text[DNS_NAME_MAX];
    struct in6_addr unused;
    size_t len = strlen(name);
    if (len < 3 || len >= sizeof text || name[0] != '[' || name[len - 1] != ']')
        return false;
    snprintf(text, sizeof text, "%.*s", (int)(len - 2), name + 1);
    const char *address = strncmp(text, "ipv6:", 5) == 0 ? text + 5 : text;
    if (inet_pton(address == text ? AF_INET : AF_INET6, address, &unused) != 1)
        return false;
    const struct config *config = r->settings->config;
    struct site_target target = {.tls = config->delivery.tls, .host_count = 1};
    target.hosts = mem_alloc(sizeof *target.hosts);
    target.hosts[0].name = str_dup(str_from(address));
    target.hosts[0].port = config->delivery.port;
    succeed(r, &target, KNOWN_MAX_MS / 1000);
    return true;
}

static void resolve_on_loop(struct loop *loop, void *arg)
{
    struct resolving *r = arg;
    (void)loop;
    struct worker *worker = r->worker;
    begin(r);
    if (worker->stopping) { /* what waits stays in the store */
        finish(r);
        return;
    }
    const char *name = domain_name(r->domain);
    const struct config_route *route = route_match(r->settings->config, name);
    if (route != NULL && route->to_count > 0) {
        by_relay(r, route);
        finish(r);
        return;
    }
    if (by_literal(r, name)) {
        finish(r);
        return;
    }
    int rc = dns_mx_start(worker->dns, name, MX_TIMEOUT_MS, on_mx, r, &r->query);
    if (rc < 0) {
        struct mail_outcome outcome = {0};
        char text[512];
        snprintf(text, sizeof text,
                 rc == DNS_ERR_NAME ? "\"%s\" is not a domain name"
                                    : "DNS lookup of %s could not start",
                 name);
        outcome_set(&outcome, rc == DNS_ERR_NAME ? OUTCOME_FAILED : OUTCOME_DEFERRED, 0,
                    rc == DNS_ERR_NAME ? "5.1.2" : "4.4.3", text);
        fail(r, &outcome);
        outcome_clear(&outcome);
        finish(r);
    }
}

void resolve_start(struct deliver *deliver, struct domain *domain)
{
    struct resolving *r = mem_alloc(sizeof *r);
    r->worker = deliver_least_busy(deliver);
    r->domain = domain;
    r->started_ms = time_monotonic_ms();
    r->settings = deliver_settings(deliver);
    if (!loop_post(r->worker->loop, resolve_on_loop, r)) {
        settings_unref(&r->settings);
        free(r);
    }
}
