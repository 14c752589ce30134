/* dns/transport.c - one name server, reached by a c-ares channel on the loop. c-ares does sockets,
 * ids, forged answers and the change to TCP; which server is asked when is decided in lookup.c,
 * because c-ares 1.18 remembers no dead server and does not say who answered. */
#include "dns/dns_private.h"

#include <ares.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { CLASS_IN = 1, TICK_MS = 100 };

struct channel {
    struct dns_transport *transport;
    ares_channel ares;
    bool is_open;
};

struct watch {
    uv_poll_t poll;
    SLIST_ENTRY(watch) link;
    struct channel *channel;
    ares_socket_t fd;
};

struct dns_transport {
    uv_loop_t *loop;
    struct dns_server server;
    struct channel udp;
    struct channel tcp; /* opened when first needed. Apart, because c-ares ends every question of a
                           channel when one of its connections breaks */
    uv_timer_t timer;   /* runs while something is pending: c-ares looks for what took too long */
    SLIST_HEAD(watch_list, watch) watches;
    size_t pending;
};

struct sending {
    struct dns_transport *transport;
    dns_transport_fn on_done;
    void *ctx;
    bool by_tcp;
    int len;
    unsigned char question[];
};

/* ---- sockets ---- */

static void on_readiness(uv_poll_t *poll, int status, int events)
{
    const struct watch *watch = poll->data;
    ares_socket_t fd = watch->fd;
    bool failed = status < 0; /* then reading or writing shows c-ares the reason */

    /* May close this very handle: nothing of it is used afterwards. */
    ares_process_fd(watch->channel->ares,
                    failed || (events & UV_READABLE) != 0 ? fd : ARES_SOCKET_BAD,
                    failed || (events & UV_WRITABLE) != 0 ? fd : ARES_SOCKET_BAD);
}

static void free_watch(uv_handle_t *handle)
{
    free(handle->data);
}

static struct watch *find_watch(struct dns_transport *transport, ares_socket_t fd)
{
    struct watch *watch = SLIST_FIRST(&transport->watches);

    for (; watch != NULL; watch = SLIST_NEXT(watch, link)) {
        if (watch->fd == fd)
            return watch;
    }
    return NULL;
}

static struct watch *new_watch(struct channel *channel, ares_socket_t fd)
{
    struct dns_transport *transport = channel->transport;
    struct watch *watch = dns_alloc(sizeof *watch);

    if (uv_poll_init_socket(transport->loop, &watch->poll, fd) < 0) {
        free(watch); /* the question times out */
        return NULL;
    }
    watch->poll.data = watch;
    watch->channel = channel;
    watch->fd = fd;
    SLIST_INSERT_HEAD(&transport->watches, watch, link);
    return watch;
}

static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = data;
    struct dns_transport *transport = channel->transport;
    struct watch *watch = find_watch(transport, fd);

    if (readable == 0 && writable == 0) {
        if (watch == NULL)
            return;
        SLIST_REMOVE(&transport->watches, watch, watch, link);
        uv_poll_stop(&watch->poll);
        uv_close((uv_handle_t *)&watch->poll, free_watch);
        return;
    }
    if (watch == NULL)
        watch = new_watch(channel, fd);
    if (watch != NULL)
        uv_poll_start(&watch->poll,
                      (readable != 0 ? UV_READABLE : 0) | (writable != 0 ? UV_WRITABLE : 0),
                      on_readiness);
}

static void on_tick(uv_timer_t *timer)
{
    struct dns_transport *transport = timer->data;

    ares_process_fd(transport->udp.ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    if (transport->tcp.is_open)
        ares_process_fd(transport->tcp.ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    if (transport->pending == 0)
        uv_timer_stop(timer);
}

/* ---- making and closing ---- */

static bool set_server(ares_channel channel, const struct dns_server *server)
{
    struct ares_addr_port_node node = {.family = server->address.ss_family};

    if (node.family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&server->address;
        memcpy(&node.addr.addr4, &in4->sin_addr, sizeof in4->sin_addr);
        node.udp_port = ntohs(in4->sin_port);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&server->address;
        memcpy(&node.addr.addr6, &in6->sin6_addr, sizeof in6->sin6_addr);
        node.udp_port = ntohs(in6->sin6_port);
    }
    node.tcp_port = node.udp_port;
    return ares_set_servers_ports(channel, &node) == ARES_SUCCESS;
}

static bool open_channel(struct dns_transport *transport, struct channel *channel, int how)
{
    static char lookups[] = "b";
    /* NOCHECKRESP: SERVFAIL and its like come to us, who say what they mean. */
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP | how,
        .timeout = DNS_TRY_MS,
        .tries = 1,
        .lookups = lookups,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = channel,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_SOCK_STATE_CB;

    channel->transport = transport;
    if (ares_init_options(&channel->ares, &options, mask) != ARES_SUCCESS)
        return false;
    channel->is_open = set_server(channel->ares, &transport->server);
    if (!channel->is_open)
        ares_destroy(channel->ares);
    return channel->is_open;
}

int dns_transport_new(uv_loop_t *loop, const struct dns_server *server,
                      struct dns_transport **transport_out)
{
    struct dns_transport *transport = dns_alloc(sizeof *transport);

    transport->loop = loop;
    transport->server = *server;
    if (!open_channel(transport, &transport->udp, ARES_FLAG_IGNTC)) {
        free(transport);
        return DNS_ERR_SETUP;
    }
    if (uv_timer_init(loop, &transport->timer) < 0) {
        ares_destroy(transport->udp.ares);
        free(transport);
        return DNS_ERR_SETUP;
    }
    transport->timer.data = transport;
    *transport_out = transport;
    return 0;
}

static void free_transport(uv_handle_t *handle)
{
    free(handle->data);
}

void dns_transport_close(struct dns_transport **transportp)
{
    struct dns_transport *transport = *transportp;

    if (transport == NULL)
        return;
    *transportp = NULL;
    ares_destroy(transport->udp.ares);
    if (transport->tcp.is_open)
        ares_destroy(transport->tcp.ares);
    uv_close((uv_handle_t *)&transport->timer, free_transport);
}

/* ---- questions ---- */

static enum dns_transport_status translate(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return DNS_TRANSPORT_ANSWERED;
    case ARES_ETIMEOUT:
        return DNS_TRANSPORT_TIMEOUT;
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
        return DNS_TRANSPORT_CLOSED;
    default:
        return DNS_TRANSPORT_UNREACHABLE;
    }
}

static bool is_truncated(const unsigned char *bytes, int len)
{
    return len > 3 && (bytes[2] & 0x02) != 0;
}

static void on_ares(void *data, int status, int timeouts, unsigned char *bytes, int len)
{
    struct sending *sending = data;
    struct dns_transport *transport = sending->transport;

    (void)timeouts;
    if (status == ARES_SUCCESS && !sending->by_tcp && is_truncated(bytes, len)) {
        sending->by_tcp = true;
        if (transport->tcp.is_open || open_channel(transport, &transport->tcp, ARES_FLAG_USEVC)) {
            ares_send(transport->tcp.ares, sending->question, sending->len, on_ares, sending);
            return;
        }
        status = ARES_ECONNREFUSED;
    }
    transport->pending--;
    sending->on_done(translate(status), bytes, len > 0 ? (size_t)len : 0, sending->ctx);
    free(sending);
}

void dns_transport_send(struct dns_transport *transport, const struct dns_name *name, uint16_t type,
                        dns_transport_fn on_done, void *ctx)
{
    unsigned char *question = NULL;
    unsigned short id;
    int len = 0;

    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id ||
        ares_create_query(name->text, CLASS_IN, type, id, 1, &question, &len, 0) != ARES_SUCCESS) {
        on_done(DNS_TRANSPORT_UNREACHABLE, NULL, 0, ctx);
        return;
    }
    struct sending *sending = dns_alloc(sizeof *sending + (size_t)len);
    sending->transport = transport;
    sending->on_done = on_done;
    sending->ctx = ctx;
    sending->len = len;
    memcpy(sending->question, question, (size_t)len);
    sending->question[3] |= 0x20; /* AD: tell whether it is authentic (RFC 6840 section 5.7) */
    ares_free_string(question);
    transport->pending++;
    if (uv_is_active((uv_handle_t *)&transport->timer) == 0)
        uv_timer_start(&transport->timer, on_tick, TICK_MS, TICK_MS);
    ares_send(transport->udp.ares, sending->question, len, on_ares, sending);
}
