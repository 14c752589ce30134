/* dns/upstream.c - the name servers as one loop sees them: who answers, and who lately did not. */
#include "dns/dns_private.h"

#include <stdio.h>
#include <stdlib.h>

/* A silent server is passed over for so long; then one question tries it again. */
enum { BAD_MS = 30000 };

static void write_text(const struct dns_server *server, char *text, size_t size)
{
    char address[INET6_ADDRSTRLEN] = "";
    const struct sockaddr *any = (const struct sockaddr *)&server->address;

    if (any->sa_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&server->address;
        uv_ip4_name(in4, address, sizeof address);
        snprintf(text, size, "%s:%u", address, ntohs(in4->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&server->address;
        uv_ip6_name(in6, address, sizeof address);
        snprintf(text, size, "[%s]:%u", address, ntohs(in6->sin6_port));
    }
}

int dns_upstream_set_new(uv_loop_t *loop, const struct dns_server_list *list,
                         struct dns_upstream_set **set_out)
{
    struct dns_upstream_set *set = dns_alloc(sizeof *set);

    set->generation = list->generation;
    for (size_t i = 0; i < list->count; i++) {
        struct dns_upstream *upstream = &set->upstreams[i];
        int rc = dns_transport_new(loop, &list->servers[i], &upstream->transport);
        if (rc < 0) {
            dns_upstream_set_free(&set);
            return rc;
        }
        write_text(&list->servers[i], upstream->text, sizeof upstream->text);
        set->count++;
    }
    *set_out = set;
    return 0;
}

void dns_upstream_set_free(struct dns_upstream_set **setp)
{
    struct dns_upstream_set *set = *setp;

    if (set == NULL)
        return;
    *setp = NULL;
    for (size_t i = 0; i < set->count; i++)
        dns_transport_close(&set->upstreams[i].transport);
    free(set);
}

int dns_upstream_pick(struct dns_upstream_set *set, unsigned skip, uint64_t now_ms)
{
    int bad = -1;

    for (int i = 0; i < (int)set->count; i++) {
        struct dns_upstream *upstream = &set->upstreams[i];
        if ((skip & 1U << i) != 0)
            continue;
        if (upstream->bad_until_ms == 0)
            return i;
        if (upstream->bad_until_ms <= now_ms) {
            upstream->bad_until_ms = now_ms + BAD_MS; /* the others do not wait for this probe */
            return i;
        }
        if (bad < 0)
            bad = i;
    }
    return bad;
}

void dns_upstream_answered(struct dns_upstream *upstream, uint64_t now_ms)
{
    upstream->bad_until_ms = 0;
    upstream->last_answer_ms = now_ms;
}

void dns_upstream_failed(struct dns_upstream *upstream, uint64_t sent_ms, uint64_t now_ms)
{
    /* It answered others meanwhile: the question was slow, not the server. */
    if (upstream->last_answer_ms > sent_ms)
        return;
    upstream->bad_until_ms = now_ms + BAD_MS;
}
