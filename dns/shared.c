/* dns/shared.c - what all loops share: the list of name servers and the cache, under one short
 * lock. */
#include "dns/dns_private.h"

#include <ares.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_ENTRIES_DEFAULT = 65536, PORT_DEFAULT = 53 };

struct dns_shared {
    pthread_mutex_t lock; /* over all below, but for reading the generation */
    struct dns_server_list list;
    struct dns_cache *cache;
    atomic_uint generation; /* that of the list: a loop looks before every query */
};

static void fill_server(struct dns_server *server, int family, const void *address, int port)
{
    uint16_t net_port = htons((uint16_t)(port > 0 ? port : PORT_DEFAULT));

    memset(server, 0, sizeof *server);
    if (family == AF_INET) {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&server->address;
        in4->sin_family = AF_INET;
        in4->sin_port = net_port;
        memcpy(&in4->sin_addr, address, sizeof in4->sin_addr);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&server->address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = net_port;
        memcpy(&in6->sin6_addr, address, sizeof in6->sin6_addr);
    }
}

/* resolv.conf, as c-ares reads it; without any server that is 127.0.0.1. */
static int read_system_servers(struct dns_server_list *list)
{
    ares_channel channel;
    struct ares_addr_port_node *nodes = NULL;

    if (ares_init(&channel) != ARES_SUCCESS)
        return DNS_ERR_SETUP;
    if (ares_get_servers_ports(channel, &nodes) == ARES_SUCCESS) {
        for (struct ares_addr_port_node *n = nodes; n != NULL && list->count < DNS_SERVERS_MAX;
             n = n->next)
            fill_server(&list->servers[list->count++], n->family, &n->addr, n->udp_port);
        ares_free_data(nodes);
    }
    ares_destroy(channel);
    return list->count > 0 ? 0 : DNS_ERR_SETUP;
}

static int read_options(const struct dns_options *options, struct dns_server_list *list)
{
    if (options->server_count == 0)
        return read_system_servers(list);
    for (size_t i = 0; i < options->server_count && i < DNS_SERVERS_MAX; i++) {
        sa_family_t family = options->servers[i].address.ss_family;
        if (family != AF_INET && family != AF_INET6)
            return DNS_ERR_SETUP;
        list->servers[list->count++] = options->servers[i];
    }
    return 0;
}

static size_t cache_entries(const struct dns_options *options)
{
    return options->cache_entries > 0 ? options->cache_entries : CACHE_ENTRIES_DEFAULT;
}

int dns_shared_new(const struct dns_options *options, struct dns_shared **shared_out)
{
    struct dns_server_list list = {.generation = 1};

    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return DNS_ERR_SETUP;
    int rc = read_options(options, &list);
    if (rc < 0) {
        ares_library_cleanup();
        return rc;
    }
    struct dns_shared *shared = dns_alloc(sizeof *shared);
    pthread_mutex_init(&shared->lock, NULL);
    shared->list = list;
    shared->cache = dns_cache_new(cache_entries(options));
    atomic_init(&shared->generation, list.generation);
    *shared_out = shared;
    return 0;
}

void dns_shared_free(struct dns_shared **sharedp)
{
    struct dns_shared *shared = *sharedp;

    if (shared == NULL)
        return;
    *sharedp = NULL;
    dns_cache_free(&shared->cache);
    pthread_mutex_destroy(&shared->lock);
    free(shared);
    ares_library_cleanup();
}

int dns_shared_set_servers(struct dns_shared *shared, const struct dns_options *options)
{
    struct dns_server_list list = {0};
    int rc = read_options(options, &list);
    if (rc < 0)
        return rc;

    struct dns_cache *fresh = dns_cache_new(cache_entries(options));
    pthread_mutex_lock(&shared->lock);
    struct dns_cache *old = shared->cache;
    list.generation = shared->list.generation + 1;
    shared->list = list;
    shared->cache = fresh;
    atomic_store_explicit(&shared->generation, list.generation, memory_order_release);
    pthread_mutex_unlock(&shared->lock);
    dns_cache_free(&old);
    return 0;
}

unsigned dns_shared_generation(struct dns_shared *shared)
{
    return atomic_load_explicit(&shared->generation, memory_order_acquire);
}

void dns_shared_servers(struct dns_shared *shared, struct dns_server_list *list_out)
{
    pthread_mutex_lock(&shared->lock);
    *list_out = shared->list;
    pthread_mutex_unlock(&shared->lock);
}

struct dns_result *dns_shared_get(struct dns_shared *shared, const struct dns_name *name,
                                  uint16_t type, uint64_t now_ms, uint32_t *ttl_s_out)
{
    pthread_mutex_lock(&shared->lock);
    struct dns_result *result = dns_cache_get(shared->cache, name, type, now_ms, ttl_s_out);
    pthread_mutex_unlock(&shared->lock);
    return result;
}

void dns_shared_put(struct dns_shared *shared, unsigned generation, const struct dns_name *name,
                    uint16_t type, struct dns_result *result, uint64_t now_ms)
{
    pthread_mutex_lock(&shared->lock);
    if (generation == shared->list.generation)
        dns_cache_put(shared->cache, name, type, result, result->parsed.ttl_s, now_ms);
    pthread_mutex_unlock(&shared->lock);
}
