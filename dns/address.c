/* dns/address.c - the addresses of a host: A and AAAA asked at once, told as one answer. */
#include "dns/dns_private.h"

static bool has_records(const struct dns_leg *leg)
{
    return dns_leg_status(leg) == DNS_ANSWER;
}

/* Of several legs without records. A failure outweighs "no": the other family might be there. Of
 * two kinds of "no", the weaker. */
static const struct dns_leg *most_telling(const struct dns_query *query)
{
    static const int weights[] = {
        [DNS_NO_NAME] = 1,
        [DNS_NO_RECORD] = 2,
        [DNS_TIMEOUT] = 3,
        [DNS_SERVER_FAILURE] = 4,
    };
    const struct dns_leg *told = &query->legs[0];

    for (size_t i = 1; i < query->leg_count; i++) {
        const struct dns_leg *leg = &query->legs[i];
        if (weights[dns_leg_status(leg)] > weights[dns_leg_status(told)])
            told = leg;
    }
    return told;
}

/* Every record of both families in turn, beginning with the first leg's. */
static size_t interleave(const struct dns_query *query, struct dns_address *addresses)
{
    size_t count = 0;

    for (size_t turn = 0; turn < DNS_ADDRESSES_MAX; turn++) {
        for (size_t i = 0; i < query->leg_count; i++) {
            const struct dns_leg *leg = &query->legs[i];
            if (has_records(leg) && turn < leg->result->parsed.count && count < DNS_ADDRESSES_MAX)
                addresses[count++] = leg->result->parsed.addresses[turn];
        }
    }
    return count;
}

static void tell(struct dns_query *query)
{
    struct dns_address addresses[DNS_ADDRESSES_MAX];
    struct dns_address_answer answer = {
        .status = DNS_ANSWER,
        .authentic = true,
        .ttl_s = UINT32_MAX,
        .addresses = addresses,
    };

    answer.address_count = interleave(query, addresses);
    if (answer.address_count == 0) {
        const struct dns_leg *told = most_telling(query);
        answer.status = dns_leg_status(told);
        dns_leg_detail(told, answer.detail, sizeof answer.detail);
    }
    for (size_t i = 0; i < query->leg_count; i++) {
        const struct dns_leg *leg = &query->legs[i];
        answer.authentic = answer.authentic && leg->result != NULL && leg->result->parsed.authentic;
        if (leg->ttl_s < answer.ttl_s)
            answer.ttl_s = leg->ttl_s;
    }
    dns_address_fn on_answer = query->on_answer.address;
    void *ctx = query->ctx;
    dns_query_end(query);
    on_answer(&answer, ctx);
}

int dns_address_start(struct dns *dns, const char *host, enum dns_family family,
                      uint32_t timeout_ms, dns_address_fn on_answer, void *ctx,
                      struct dns_query **query_out)
{
    struct dns_query_plan plan = {
        .name = host,
        .timeout_ms = timeout_ms,
        .tell = tell,
        .ctx = ctx,
        .types = {DNS_TYPE_AAAA, DNS_TYPE_A},
        .type_count = 2,
    };
    struct dns_query *query;

    if (family != DNS_FAMILY_ANY) {
        plan.types[0] = family == DNS_FAMILY_4 ? DNS_TYPE_A : DNS_TYPE_AAAA;
        plan.type_count = 1;
    }
    int rc = dns_query_new(dns, &plan, &query);
    if (rc < 0)
        return rc;
    query->on_answer.address = on_answer;
    *query_out = query;
    return 0;
}
