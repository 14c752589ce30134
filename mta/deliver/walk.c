/* mta/deliver/walk.c - the order of addresses. See walk.h. */
#include "mta/deliver/walk.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/policy.h"
#include "mta/deliver/route.h"

#define ADDRESS_TIMEOUT_MS 30000
#define TRIES_MAX          60 /* addresses in one attempt: with the connect timeout this bounds it */

struct candidate {
    struct dns_address address;
    char text[48];
};

struct walk {
    struct worker *worker;
    struct settings *settings;
    const struct site_target *target;
    struct walk_events events;
    void *ctx;
    size_t order[SITE_HOSTS_MAX];
    size_t host; /* index into order of the host at hand */
    bool started;
    struct candidate candidates[DNS_ADDRESSES_MAX];
    size_t candidate_count, candidate;
    size_t given;                /* addresses handed out */
    size_t loops;                /* addresses left out because mail would come back */
    struct mail_outcome failure; /* the last DNS failure: temporary ones win */
    struct dns_query *query;
    struct sockaddr_storage socket;
};

static void shuffle_equals(struct walk *walk)
{
    const struct site_target *target = walk->target;
    for (size_t i = 0; i < target->host_count; i++)
        walk->order[i] = i;
    if (target->fixed)
        return;
    for (size_t i = 0; i < target->host_count; i++) {
        size_t equal = i + 1;
        while (equal < target->host_count &&
               target->hosts[equal].preference == target->hosts[i].preference)
            equal++;
        size_t pick = i + worker_random(walk->worker) % (equal - i);
        /* target->hosts is sorted, so order[i..equal) are the equals that are left */
        size_t kept = walk->order[i];
        walk->order[i] = walk->order[pick];
        walk->order[pick] = kept;
    }
}

struct walk *walk_new(struct worker *worker, struct settings *settings,
                      const struct site_target *target, const struct walk_events *events, void *ctx)
{
    struct walk *walk = mem_alloc(sizeof *walk);
    walk->worker = worker;
    walk->settings = settings_ref(settings);
    walk->target = target;
    walk->events = *events;
    walk->ctx = ctx;
    shuffle_equals(walk);
    return walk;
}

void walk_free(struct walk **walkp)
{
    struct walk *walk = *walkp;
    if (walk == NULL)
        return;
    dns_cancel(&walk->query);
    outcome_clear(&walk->failure);
    settings_unref(&walk->settings);
    free(walk);
    *walkp = NULL;
}

static const struct site_host *host_at_hand(const struct walk *walk)
{
    return &walk->target->hosts[walk->order[walk->host]];
}

/* Would mail to this address come back to us? */
static bool is_own_listener(const struct config *config, const struct dns_address *address,
                            uint16_t port, bool local)
{
    static const uint8_t any[16] = {0};
    size_t len = address->ipv6 ? 16 : 4;
    for (size_t i = 0; i < config->listener_count; i++) {
        for (size_t k = 0; k < config->listeners[i].address_count; k++) {
            const struct config_endpoint *own = &config->listeners[i].addresses[k];
            if (own->port != port || own->address.ipv6 != address->ipv6)
                continue;
            if (memcmp(own->address.bytes, address->bytes, len) == 0 ||
                (local && memcmp(own->address.bytes, any, len) == 0))
                return true;
        }
    }
    return false;
}

static bool is_forbidden(const struct walk *walk, const struct dns_address *address)
{
    const struct config *config = walk->settings->config;
    static const uint8_t unspecified[16] = {0};
    size_t len = address->ipv6 ? 16 : 4;
    if (memcmp(address->bytes, unspecified, len) == 0)
        return true;
    if (walk->target->fixed)
        return false;
    bool local = !address->ipv6 && address->bytes[0] == 127;
    for (size_t i = 0; i < walk->settings->local_count && !local; i++) {
        const struct local_address *own = &walk->settings->local[i];
        local = own->ipv6 == address->ipv6 && memcmp(own->bytes, address->bytes, len) == 0;
    }
    if (config->delivery.allow_private_addresses)
        return is_own_listener(config, address, host_at_hand(walk)->port, local);
    return local || route_address_is_private(address->ipv6, address->bytes);
}

static int rank(const struct walk *walk, const struct candidate *candidate, bool ipv6_dead,
                uint64_t now_ms)
{
    char place[MEMORY_KEY_MAX];
    memory_place(place, candidate->text, host_at_hand(walk)->port);
    if (memory_knows(walk->worker->deliver->memory, MEMORY_UNREACHABLE, place, now_ms))
        return 2;
    return ipv6_dead && candidate->address.ipv6 ? 1 : 0;
}

/* Stable: within a rank the order of the answer stays. */
static void sort_candidates(struct walk *walk)
{
    uint64_t now_ms = time_monotonic_ms();
    bool ipv6_dead = memory_knows(walk->worker->deliver->memory, MEMORY_IPV6_DEAD, "", now_ms);
    int ranks[DNS_ADDRESSES_MAX];
    for (size_t i = 0; i < walk->candidate_count; i++)
        ranks[i] = rank(walk, &walk->candidates[i], ipv6_dead, now_ms);
    for (size_t i = 1; i < walk->candidate_count; i++) {
        struct candidate moved = walk->candidates[i];
        int moved_rank = ranks[i];
        size_t k = i;
        for (; k > 0 && ranks[k - 1] > moved_rank; k--) {
            walk->candidates[k] = walk->candidates[k - 1];
            ranks[k] = ranks[k - 1];
        }
        walk->candidates[k] = moved;
        ranks[k] = moved_rank;
    }
}

static bool family_allowed(const struct config *config, bool ipv6)
{
    return config->delivery.ip == CONFIG_IP_ANY || (config->delivery.ip == CONFIG_IP_6) == ipv6;
}

static void add_candidate(struct walk *walk, const struct dns_address *address)
{
    if (walk->candidate_count == DNS_ADDRESSES_MAX ||
        !family_allowed(walk->settings->config, address->ipv6))
        return;
    if (is_forbidden(walk, address)) {
        walk->loops++;
        return;
    }
    struct candidate *candidate = &walk->candidates[walk->candidate_count++];
    candidate->address = *address;
    inet_ntop(address->ipv6 ? AF_INET6 : AF_INET, address->bytes, candidate->text,
              sizeof candidate->text);
}

/* A missing name of one MX host proves nothing about the recipient: temporary, unless the domain
 * stands for itself (no MX) and has no address either. */
static void note_dns_failure(struct walk *walk, enum dns_status status, const char *detail)
{
    const char *host = host_at_hand(walk)->name;
    char text[512];
    bool absent = status == DNS_NO_NAME || status == DNS_NO_RECORD;
    if (!absent || walk->target->implicit) {
        policy_judge_dns(status, host, detail, &walk->failure);
    } else if (walk->failure.kind == OUTCOME_NONE) {
        snprintf(text, sizeof text, "the mail server %s has no address (%s)", host,
                 dns_status_text(status));
        outcome_set(&walk->failure, OUTCOME_DEFERRED, 0, "4.4.4", text);
    }
}

static void on_addresses(const struct dns_address_answer *answer, void *ctx)
{
    struct walk *walk = ctx;
    walk->query = NULL;
    walk->candidate_count = 0;
    walk->candidate = 0;
    if (answer->status != DNS_ANSWER)
        note_dns_failure(walk, answer->status, answer->detail);
    for (size_t i = 0; answer->status == DNS_ANSWER && i < answer->address_count; i++)
        add_candidate(walk, &answer->addresses[i]);
    sort_candidates(walk);
    walk_next(walk);
}

static bool is_literal(const char *host, struct dns_address *out)
{
    *out = (struct dns_address){0};
    if (inet_pton(AF_INET, host, out->bytes) == 1)
        return true;
    out->ipv6 = inet_pton(AF_INET6, host, out->bytes) == 1;
    return out->ipv6;
}

/* Find the addresses of the host at hand. @return true: they are here already */
static bool look_up(struct walk *walk)
{
    const char *host = host_at_hand(walk)->name;
    enum config_ip ip = walk->settings->config->delivery.ip;
    struct dns_address literal;
    walk->candidate_count = 0;
    walk->candidate = 0;
    if (is_literal(host, &literal)) {
        add_candidate(walk, &literal);
        return true;
    }
    enum dns_family family = ip == CONFIG_IP_4   ? DNS_FAMILY_4
                             : ip == CONFIG_IP_6 ? DNS_FAMILY_6
                                                 : DNS_FAMILY_ANY;
    int rc = dns_address_start(walk->worker->dns, host, family, ADDRESS_TIMEOUT_MS, on_addresses,
                               walk, &walk->query);
    if (rc == 0)
        return false;
    note_dns_failure(walk, rc == DNS_ERR_NAME ? DNS_NO_NAME : DNS_SERVER_FAILURE, "");
    return true;
}

static void exhaust(struct walk *walk)
{
    if (walk->given > 0) {
        outcome_clear(&walk->failure);
    } else if (walk->failure.kind == OUTCOME_NONE && walk->loops > 0) {
        outcome_set(&walk->failure, OUTCOME_FAILED, 0, "5.4.6",
                    "mail loops back: all mail servers of the domain are on this machine or on "
                    "private addresses");
    } else if (walk->failure.kind == OUTCOME_NONE) {
        outcome_set(&walk->failure, OUTCOME_DEFERRED, 0, "4.4.4",
                    "no mail server has an address of the configured IP version");
    }
    walk->events.on_exhausted(&walk->failure, walk->ctx);
}

static void give(struct walk *walk)
{
    const struct candidate *candidate = &walk->candidates[walk->candidate++];
    const struct site_host *host = host_at_hand(walk);
    memset(&walk->socket, 0, sizeof walk->socket);
    if (candidate->address.ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&walk->socket;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(host->port);
        memcpy(&in6->sin6_addr, candidate->address.bytes, 16);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&walk->socket;
        in->sin_family = AF_INET;
        in->sin_port = htons(host->port);
        memcpy(&in->sin_addr, candidate->address.bytes, 4);
    }
    walk->given++;
    walk->events.on_address(host->name, candidate->text, (const struct sockaddr *)&walk->socket,
                            walk->ctx);
}

void walk_next(struct walk *walk)
{
    while (walk->given < TRIES_MAX) {
        if (walk->candidate < walk->candidate_count) {
            give(walk);
            return;
        }
        if (walk->started)
            walk->host++;
        walk->started = true;
        if (walk->host >= walk->target->host_count)
            break;
        if (!look_up(walk))
            return;
    }
    exhaust(walk);
}
