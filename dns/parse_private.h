/* dns/parse_private.h - reads one DNS answer. The bytes are hostile: every step is bounded, nothing
 * is read beyond len, compression cannot loop. Pure. RFC 1035 section 4, RFC 2181, RFC 2308, RFC
 * 7505. */
#ifndef DNS_PARSE_PRIVATE_H
#define DNS_PARSE_PRIVATE_H

#include "dns/dns.h"

enum {
    DNS_TYPE_A = 1,
    DNS_TYPE_NS = 2,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_SOA = 6,
    DNS_TYPE_MX = 15,
    DNS_TYPE_AAAA = 28
};

enum {
    DNS_TTL_MAX_S = 24 * 3600,
    DNS_NEGATIVE_TTL_MAX_S = 15 * 60,
    DNS_CNAME_MAX = 16,
};

struct dns_parsed {
    enum dns_status status; /* never DNS_TIMEOUT */
    bool follow;   /* status is DNS_ANSWER, but the chain of CNAMEs leads to `target`, of which
                      the answer says nothing: ask for it */
    unsigned hops; /* CNAMEs passed */
    char target[DNS_NAME_MAX];
    bool authentic;
    bool null_mx;
    uint32_t ttl_s;      /* within the maxima above; 0: not to be kept */
    const char *problem; /* DNS_SERVER_FAILURE: static text, such as "SERVFAIL" */
    struct dns_mx_host *hosts;
    struct dns_address *addresses;
    size_t count; /* of hosts or addresses */
};

/**
 * @param name lower case, no final dot: what was asked
 * @param type DNS_TYPE_MX, DNS_TYPE_A or DNS_TYPE_AAAA
 *
 * Always fills *parsed_out; the caller gives it back with dns_parsed_deinit().
 */
void dns_parse_answer(const uint8_t *bytes, size_t len, const char *name, uint16_t type,
                      struct dns_parsed *parsed_out);
void dns_parsed_deinit(struct dns_parsed *parsed);

#endif
