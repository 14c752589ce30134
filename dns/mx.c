/* dns/mx.c - the mail exchangers of a domain (RFC 5321 section 5.1, RFC 7505). */
#include "dns/dns_private.h"

#include <string.h>

static void tell(struct dns_query *query)
{
    const struct dns_leg *leg = &query->legs[0];
    struct dns_mx_answer answer = {.status = dns_leg_status(leg), .ttl_s = leg->ttl_s};
    struct dns_mx_host itself = {0};

    dns_leg_detail(leg, answer.detail, sizeof answer.detail);
    if (leg->result != NULL) {
        answer.authentic = leg->result->parsed.authentic;
        answer.null_mx = leg->result->parsed.null_mx;
        answer.hosts = leg->result->parsed.hosts;
        answer.host_count = leg->result->parsed.count;
    }
    if (answer.status == DNS_NO_RECORD) {
        memcpy(itself.name, query->name.text, query->name.len + 1);
        answer.status = DNS_ANSWER;
        answer.implicit = true;
        answer.hosts = &itself;
        answer.host_count = 1;
    }
    dns_mx_fn on_answer = query->on_answer.mx;
    void *ctx = query->ctx;
    dns_query_end(query);
    on_answer(&answer, ctx);
}

int dns_mx_start(struct dns *dns, const char *domain, uint32_t timeout_ms, dns_mx_fn on_answer,
                 void *ctx, struct dns_query **query_out)
{
    const struct dns_query_plan plan = {
        .name = domain,
        .timeout_ms = timeout_ms,
        .tell = tell,
        .ctx = ctx,
        .types = {DNS_TYPE_MX},
        .type_count = 1,
    };
    struct dns_query *query;

    int rc = dns_query_new(dns, &plan, &query);
    if (rc < 0)
        return rc;
    query->on_answer.mx = on_answer;
    *query_out = query;
    return 0;
}
