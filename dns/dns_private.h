/* dns/dns_private.h - what the files of this folder share and nobody else sees. */
#ifndef DNS_DNS_PRIVATE_H
#define DNS_DNS_PRIVATE_H

#include "dns/dns.h"
#include "dns/parse_private.h"

#include <stdatomic.h>
#include <sys/queue.h>

/* ---- name.c ---- */

/* Zeroed memory; without any the process ends, here and nowhere else. */
void *dns_alloc(size_t size);

struct dns_name {
    size_t len;
    char text[DNS_NAME_MAX]; /* lower case, no final dot */
};

/* Letters, digits, '-' and '_' in labels of 1 to 63, 253 octets at most, a final dot or none. */
bool dns_name_read(const char *text, struct dns_name *name_out);
bool dns_name_equal(const struct dns_name *a, const struct dns_name *b);
uint32_t dns_name_hash(const struct dns_name *name, uint16_t type);

/* ---- cache.c: not locked, that is shared.c's part ---- */

/* What one question brought, immutable and shared between cache, lookups and loops. */
struct dns_result {
    atomic_uint references;
    enum dns_status status;
    struct dns_parsed parsed; /* status DNS_TIMEOUT: nothing in it */
    char *detail;             /* or NULL */
};

/* Takes over *parsed; detail is copied, "" or NULL: none. One reference. */
struct dns_result *dns_result_new(enum dns_status status, const struct dns_parsed *parsed,
                                  const char *detail);
struct dns_result *dns_result_ref(struct dns_result *result);
void dns_result_unref(struct dns_result **resultp);

struct dns_cache;
struct dns_cache *dns_cache_new(size_t entry_limit);
void dns_cache_free(struct dns_cache **cachep);
void dns_cache_clear(struct dns_cache *cache);
size_t dns_cache_count(const struct dns_cache *cache);
/* A new reference and what is left of its life, or NULL. */
struct dns_result *dns_cache_get(struct dns_cache *cache, const struct dns_name *name,
                                 uint16_t type, uint64_t now_ms, uint32_t *ttl_s_out);
/* Takes a reference of its own, replaces what was there, evicts the oldest when it is full. */
void dns_cache_put(struct dns_cache *cache, const struct dns_name *name, uint16_t type,
                   struct dns_result *result, uint32_t ttl_s, uint64_t now_ms);

/* ---- shared.c: any thread ---- */

enum { DNS_SERVERS_MAX = 8 };

struct dns_server_list {
    unsigned generation; /* changes with every dns_shared_set_servers() */
    size_t count;
    struct dns_server servers[DNS_SERVERS_MAX];
};

unsigned dns_shared_generation(struct dns_shared *shared);
void dns_shared_servers(struct dns_shared *shared, struct dns_server_list *list_out);
struct dns_result *dns_shared_get(struct dns_shared *shared, const struct dns_name *name,
                                  uint16_t type, uint64_t now_ms, uint32_t *ttl_s_out);
/* Dropped if the servers have changed since that generation. */
void dns_shared_put(struct dns_shared *shared, unsigned generation, const struct dns_name *name,
                    uint16_t type, struct dns_result *result, uint64_t now_ms);

/* ---- transport.c: one name server, reached through c-ares on the loop ---- */

enum dns_transport_status {
    DNS_TRANSPORT_ANSWERED,    /* any answer to this question, whatever its rcode */
    DNS_TRANSPORT_TIMEOUT,     /* nothing within DNS_TRY_MS */
    DNS_TRANSPORT_UNREACHABLE, /* refused by the kernel or the peer, or no socket */
    DNS_TRANSPORT_CLOSED,      /* from inside dns_transport_close() */
};

enum { DNS_TRY_MS = 2000 };

typedef void (*dns_transport_fn)(enum dns_transport_status status, const uint8_t *bytes, size_t len,
                                 void *ctx);

struct dns_transport;
DNS_MUST_USE int dns_transport_new(uv_loop_t *loop, const struct dns_server *server,
                                   struct dns_transport **transport_out);

/* By UDP, then by TCP to the same port if that answer is truncated. Exactly one callback, possibly
 * from inside this call: c-ares does so when it gets no socket. A callback may send, but not close.
 */
void dns_transport_send(struct dns_transport *transport, const struct dns_name *name, uint16_t type,
                        dns_transport_fn on_done, void *ctx);

/* Calls back for all that is under way, then frees itself at the end of the loop turn. */
void dns_transport_close(struct dns_transport **transportp);

/* ---- upstream.c: the servers of one generation on one loop, and what is known of their health
 * ---- */

struct dns_upstream {
    struct dns_transport *transport;
    char text[INET6_ADDRSTRLEN + 16]; /* "127.0.0.1:53", "[::1]:53" */
    uint64_t bad_until_ms;            /* 0: nothing is known against it */
    uint64_t last_answer_ms;
};

struct dns_upstream_set {
    SLIST_ENTRY(dns_upstream_set) link;
    unsigned generation;
    size_t users; /* lookups under way with it */
    size_t count;
    struct dns_upstream upstreams[DNS_SERVERS_MAX];
};

DNS_MUST_USE int dns_upstream_set_new(uv_loop_t *loop, const struct dns_server_list *list,
                                      struct dns_upstream_set **set_out);
void dns_upstream_set_free(struct dns_upstream_set **setp); /* closes; callbacks as above */

/* The best one whose bit is not in `skip`, or -1. A bad one whose time is over is given to one
 * caller only, as a probe. */
int dns_upstream_pick(struct dns_upstream_set *set, unsigned skip, uint64_t now_ms);
void dns_upstream_answered(struct dns_upstream *upstream, uint64_t now_ms);
void dns_upstream_failed(struct dns_upstream *upstream, uint64_t sent_ms, uint64_t now_ms);

/* ---- lookup.c: one question (name, type), shared by all who ask it at the same time ---- */

struct dns_lookup;

/* A query's wait for one result. */
struct dns_leg {
    LIST_ENTRY(dns_leg) link;
    struct dns_query *query;
    struct dns_lookup *lookup; /* NULL: answered, or not started */
    struct dns_result *result; /* owned */
    uint32_t ttl_s;
};

LIST_HEAD(dns_leg_list, dns_leg);
STAILQ_HEAD(dns_lookup_queue, dns_lookup);
LIST_HEAD(dns_lookup_list, dns_lookup);

/* From the cache, from a lookup under way, or by a new one. Ends in dns_query_leg_done(), possibly
 * from inside this call. */
DNS_MUST_USE int dns_lookup_start(struct dns *dns, const struct dns_name *name, uint16_t type,
                                  struct dns_leg *leg);
void dns_lookup_leave(struct dns_leg *leg); /* harmless if it waits for nothing */
void dns_lookup_pump(struct dns *dns);      /* sends what waited for a free place */

/* ---- query.c ---- */

TAILQ_HEAD(dns_query_list, dns_query);

enum { DNS_LOOKUP_BUCKETS = 256 };

struct dns {
    uv_loop_t *loop;
    struct dns_shared *shared;
    uv_idle_t idle; /* runs while anything is ready to be told, sent or swept */
    bool closing;
    SLIST_HEAD(dns_upstream_list, dns_upstream_set) sets; /* the first one is current */
    struct dns_lookup_list lookups[DNS_LOOKUP_BUCKETS];
    struct dns_lookup_queue waiting; /* lookups without a free place to send */
    size_t outstanding;              /* questions sent and not answered */
    struct dns_query_list queries, ready;
};

struct dns_query {
    TAILQ_ENTRY(dns_query) link; /* in dns->queries, or in dns->ready */
    struct dns *dns;
    uv_timer_t timer;
    uint64_t deadline_ms;
    uint32_t timeout_ms;
    enum { DNS_QUERY_WAITING, DNS_QUERY_READY, DNS_QUERY_DONE } state;
    void (*tell)(struct dns_query *query); /* builds the answer and calls back */
    union {
        dns_mx_fn mx;
        dns_address_fn address;
    } on_answer;
    void *ctx;
    struct dns_name name;
    struct dns_leg legs[2];
    size_t leg_count, pending;
};

void dns_wake(struct dns *dns); /* the idle handle runs in the next loop turn */

/* Makes a query and starts a leg for each type. Sets *query_out before the first leg starts. */
struct dns_query_plan {
    const char *name;
    uint32_t timeout_ms;
    void (*tell)(struct dns_query *query);
    void *ctx;
    uint16_t types[2];
    size_t type_count;
};
DNS_MUST_USE int dns_query_new(struct dns *dns, const struct dns_query_plan *plan,
                               struct dns_query **query_out);
/* Takes it out of every list; its memory, and with it the results, stays until the end of the loop
 * turn. `tell` calls this before it calls back, so that the callback may do anything. */
void dns_query_end(struct dns_query *query);
/* Takes over one reference of the result. */
void dns_query_leg_done(struct dns_leg *leg, struct dns_result *result, uint32_t ttl_s);

/* What a leg came to; without a result it is a timeout. */
enum dns_status dns_leg_status(const struct dns_leg *leg);
/* Copies the detail of a leg's failure, or says how long nothing came. */
void dns_leg_detail(const struct dns_leg *leg, char *detail, size_t size);

#endif
