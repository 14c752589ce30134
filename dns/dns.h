/* dns/dns.h - asynchronous lookups: c-ares on a libuv loop, with a cache shared by all loops.
 *
 * One struct dns a loop; every function below runs on that loop's thread unless it says otherwise.
 * Only absolute names are asked, no search list is ever used. No policy lives here: five outcomes
 * and records, nothing else. RFC 1035, RFC 5321 section 5.1, RFC 7505 (null MX). */
#ifndef DNS_DNS_H
#define DNS_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define DNS_MUST_USE __attribute__((warn_unused_result))

#define DNS_NAME_MAX 254 /* presentation form with its NUL, without the final dot */
#define DNS_HOSTS_MAX 64 /* MX hosts kept, after sorting by preference */
#define DNS_ADDRESSES_MAX 40

enum {
    DNS_ERR_NAME = -1,   /* not a domain name: empty, label over 63, over 253 octets, bad bytes */
    DNS_ERR_SETUP = -2,  /* c-ares or libuv refused to start */
};

enum dns_status {
    DNS_ANSWER,         /* records follow */
    DNS_NO_NAME,        /* NXDOMAIN */
    DNS_NO_RECORD,      /* the name exists, this type does not */
    DNS_SERVER_FAILURE, /* SERVFAIL, REFUSED, FORMERR, NOTIMP, malformed answer, no server reachable */
    DNS_TIMEOUT,
};

/* "answer", "no such name", "no such record", "server failure", "timeout" */
const char *dns_status_text(enum dns_status status);

struct dns_server {
    struct sockaddr_storage address; /* with port */
};

struct dns_options {
    const struct dns_server *servers; /* borrowed for the call; count 0: resolv.conf */
    size_t server_count;
    uint32_t cache_entries; /* most entries kept; 0: 65,536 */
};

/* The part shared by all loops: server list and cache (own short lock). Any thread. */
struct dns_shared;
DNS_MUST_USE int dns_shared_new(const struct dns_options *options, struct dns_shared **shared_out);
void dns_shared_free(struct dns_shared **sharedp); /* after every struct dns of it is closed */

/* Replace the servers for queries started from now on (a reload); empties the cache. Any thread. */
DNS_MUST_USE int dns_shared_set_servers(struct dns_shared *shared, const struct dns_options *options);

struct dns;
DNS_MUST_USE int dns_open(uv_loop_t *loop, struct dns_shared *shared, struct dns **dns_out);

/* Cancels what is under way without calling back (the wrapper absorbs c-ares' calls from inside
 * cancel and destroy) and closes its handles; memory is freed at the end of the loop turn, so run
 * the loop once more before closing it. Stores NULL. */
void dns_close(struct dns **dnsp);

struct dns_query;

struct dns_mx_host {
    char name[DNS_NAME_MAX]; /* lower case, no final dot */
    uint16_t preference;
};

struct dns_mx_answer {
    enum dns_status status;
    bool null_mx;  /* the only record is "0 ." or "N ." (RFC 7505); hosts is empty. Among others a "." is dropped */
    bool implicit; /* no MX record: hosts holds the domain itself, preference 0 (RFC 5321 section 5.1).
                      Then status is DNS_ANSWER; whether the domain has an address is asked by the caller */
    bool authentic; /* AD bit, as the resolver said it */
    uint32_t ttl_s; /* what is left of it */
    struct dns_mx_host *hosts; /* sorted by preference, equals in DNS order (the caller shuffles) */
    size_t host_count;
    char detail[128]; /* for people: "SERVFAIL from 127.0.0.1:53", "" if nothing to add */
};

struct dns_address {
    bool ipv6;
    uint8_t bytes[16];
};

struct dns_address_answer {
    enum dns_status status; /* of A and AAAA together: DNS_ANSWER if either has records; a failure of one
                               with no records of the other is a failure, not "no record" */
    bool authentic;
    uint32_t ttl_s;
    struct dns_address *addresses; /* families alternate, IPv6 first; DNS order within a family */
    size_t address_count;
    char detail[128];
};

typedef void (*dns_mx_fn)(const struct dns_mx_answer *answer, void *ctx);
typedef void (*dns_address_fn)(const struct dns_address_answer *answer, void *ctx);

/**
 * Ask for the mail exchangers of a domain.
 *
 * @param domain     borrowed for the call; A-labels, any case, with or without the final dot
 * @param timeout_ms for the whole query, all servers and the TCP retry included
 * @param query_out  valid until the callback or dns_cancel()
 * @return 0: exactly one callback follows, on a later loop turn, never from inside this call
 *         (also for a cached answer); DNS_ERR_NAME; DNS_ERR_SETUP
 *
 * The answer is borrowed for the callback. Answers and negative answers are cached by TTL (at most
 * 1 day; negative by the SOA minimum, at most 15 minutes); failures are cached for 5 s at most.
 * A truncated UDP answer is asked again by TCP on the same configured port. Concurrent queries for one
 * name on one loop share one lookup.
 */
DNS_MUST_USE int dns_mx_start(struct dns *dns, const char *domain, uint32_t timeout_ms,
                              dns_mx_fn on_answer, void *ctx, struct dns_query **query_out);

enum dns_family { DNS_FAMILY_ANY, DNS_FAMILY_4, DNS_FAMILY_6 };

/* The same for the addresses of a host; CNAMEs are followed (at most 16). */
DNS_MUST_USE int dns_address_start(struct dns *dns, const char *host, enum dns_family family,
                                   uint32_t timeout_ms, dns_address_fn on_answer, void *ctx,
                                   struct dns_query **query_out);

/* After this the callback never comes. Accepts a pointer to NULL; stores NULL. */
void dns_cancel(struct dns_query **queryp);

#endif
