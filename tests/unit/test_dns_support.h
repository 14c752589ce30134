/* tests/unit/test_dns_support.h - DNS messages made byte by byte, and a scripted name server on
 * loopback (UDP and TCP on one free port) in a thread of its own. */
#ifndef TEST_DNS_SUPPORT_H
#define TEST_DNS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns/dns_private.h"

/* ---- messages ---- */

struct message {
    size_t len;
    uint8_t bytes[65535];
};

enum {
    FLAG_QR = 0x8000,
    FLAG_AA = 0x0400,
    FLAG_TC = 0x0200,
    FLAG_RD = 0x0100,
    FLAG_RA = 0x0080,
    FLAG_AD = 0x0020,
    REPLY = FLAG_QR | FLAG_RD | FLAG_RA,
    SECTION_ANSWER = 6,
    SECTION_AUTHORITY = 8
};

static inline void put(struct message *m, const void *bytes, size_t len)
{
    assert_true(len <= sizeof m->bytes - m->len);
    memcpy(m->bytes + m->len, bytes, len);
    m->len += len;
}

static inline void put_number(struct message *m, uint32_t value, size_t octets)
{
    while (octets-- > 0) {
        uint8_t octet = (uint8_t)(value >> (8 * octets));
        put(m, &octet, 1);
    }
}

/* "" or "." is the root; "@" is a pointer to the question's name. */
static inline void put_name(struct message *m, const char *text)
{
    if (strcmp(text, "@") == 0) {
        put_number(m, 0xc00c, 2);
        return;
    }
    while (*text != '\0') {
        size_t label = strcspn(text, ".");
        if (label > 0) {
            put_number(m, (uint32_t)label, 1);
            put(m, text, label);
        }
        text += label + (text[label] == '.');
    }
    put_number(m, 0, 1);
}

static inline void start_message(struct message *m, uint16_t id, unsigned flags, const char *name,
                                 uint16_t type)
{
    m->len = 0;
    put_number(m, id, 2);
    put_number(m, flags, 2);
    put_number(m, 1, 2);
    put_number(m, 0, 4);
    put_number(m, 0, 2);
    put_name(m, name);
    put_number(m, type, 2);
    put_number(m, 1, 2);
}

static inline size_t start_record(struct message *m, size_t section, const char *owner,
                                  uint16_t type, uint32_t ttl_s)
{
    unsigned count = (unsigned)m->bytes[section] << 8 | m->bytes[section + 1];
    count++;
    m->bytes[section] = (uint8_t)(count >> 8);
    m->bytes[section + 1] = (uint8_t)count;
    put_name(m, owner);
    put_number(m, type, 2);
    put_number(m, 1, 2);
    put_number(m, ttl_s, 4);
    put_number(m, 0, 2);
    return m->len;
}

static inline void end_record(struct message *m, size_t data)
{
    size_t len = m->len - data;
    m->bytes[data - 2] = (uint8_t)(len >> 8);
    m->bytes[data - 1] = (uint8_t)len;
}

static inline void add_mx(struct message *m, const char *owner, uint32_t ttl_s, uint16_t preference,
                          const char *host)
{
    size_t data = start_record(m, SECTION_ANSWER, owner, DNS_TYPE_MX, ttl_s);
    put_number(m, preference, 2);
    put_name(m, host);
    end_record(m, data);
}

static inline void add_cname(struct message *m, const char *owner, uint32_t ttl_s, const char *to)
{
    size_t data = start_record(m, SECTION_ANSWER, owner, DNS_TYPE_CNAME, ttl_s);
    put_name(m, to);
    end_record(m, data);
}

static inline void add_address(struct message *m, const char *owner, uint32_t ttl_s,
                               const char *text)
{
    uint8_t bytes[16];
    bool ipv6 = strchr(text, ':') != NULL;
    assert_int_equal(inet_pton(ipv6 ? AF_INET6 : AF_INET, text, bytes), 1);
    size_t data = start_record(m, SECTION_ANSWER, owner, ipv6 ? DNS_TYPE_AAAA : DNS_TYPE_A, ttl_s);
    put(m, bytes, ipv6 ? 16 : 4);
    end_record(m, data);
}

static inline void add_soa(struct message *m, const char *owner, uint32_t ttl_s, uint32_t minimum_s)
{
    size_t data = start_record(m, SECTION_AUTHORITY, owner, DNS_TYPE_SOA, ttl_s);
    put_name(m, "ns.test");
    put_name(m, "admin.test");
    for (int i = 0; i < 4; i++)
        put_number(m, 3600, 4);
    put_number(m, minimum_s, 4);
    end_record(m, data);
}

/* ---- the server ---- */

struct question {
    uint16_t id, type;
    bool tcp;
    bool ad; /* the AD bit is set */
    char name[256];
    char first[64]; /* the first label */
};

struct test_server;

/* Fills *reply, already begun as an empty good answer. @return false: say nothing; over TCP: close
 */
typedef bool (*script_fn)(struct test_server *server, const struct question *question,
                          struct message *reply);

struct test_server {
    _Atomic(script_fn) script;
    int udp, tcp, stop[2];
    uint16_t port;
    pthread_t thread;
    atomic_int udp_questions, tcp_questions;
    atomic_int reply_copies; /* each UDP reply is sent that often */
    struct sockaddr_in peer; /* of the UDP question under way */
};

static inline bool read_test_question(const uint8_t *bytes, size_t len, bool tcp,
                                      struct question *q)
{
    size_t at = 12, used = 0;
    if (len < 17)
        return false;
    memset(q, 0, sizeof *q);
    q->id = (uint16_t)(bytes[0] << 8 | bytes[1]);
    q->ad = (bytes[3] & 0x20) != 0;
    q->tcp = tcp;
    while (at < len && bytes[at] != 0) {
        size_t label = bytes[at];
        if (label > 63 || at + 1 + label > len || used + label + 1 >= sizeof q->name)
            return false;
        memcpy(q->name + used, bytes + at + 1, label);
        if (used == 0)
            memcpy(q->first, q->name, label);
        used += label;
        q->name[used++] = '.';
        at += 1 + label;
    }
    if (used > 0)
        q->name[used - 1] = '\0';
    if (at + 5 > len)
        return false;
    q->type = (uint16_t)(bytes[at + 1] << 8 | bytes[at + 2]);
    return true;
}

static inline void send_udp(struct test_server *server, const struct message *reply)
{
    sendto(server->udp, reply->bytes, reply->len, 0, (struct sockaddr *)&server->peer,
           sizeof server->peer);
}

static inline void serve_udp(struct test_server *server)
{
    static _Thread_local struct message reply;
    uint8_t bytes[512];
    struct question question;
    socklen_t size = sizeof server->peer;
    ssize_t n =
        recvfrom(server->udp, bytes, sizeof bytes, 0, (struct sockaddr *)&server->peer, &size);
    if (n < 0 || !read_test_question(bytes, (size_t)n, false, &question))
        return;
    atomic_fetch_add(&server->udp_questions, 1);
    start_message(&reply, question.id, REPLY, question.name, question.type);
    script_fn script = atomic_load(&server->script);
    if (script(server, &question, &reply)) {
        for (int i = 0; i < server->reply_copies; i++)
            send_udp(server, &reply);
    }
}

static inline bool read_exactly(int fd, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, to, len);
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

static inline void serve_tcp(struct test_server *server)
{
    static _Thread_local struct message reply;
    static const struct timeval patience = {.tv_sec = 2};
    uint8_t bytes[512];
    struct question question;
    int fd = accept(server->tcp, NULL, NULL);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (read_exactly(fd, bytes, 2)) {
        size_t len = (size_t)bytes[0] << 8 | bytes[1];
        if (len <= sizeof bytes && read_exactly(fd, bytes, len) &&
            read_test_question(bytes, len, true, &question)) {
            atomic_fetch_add(&server->tcp_questions, 1);
            start_message(&reply, question.id, REPLY, question.name, question.type);
            script_fn script = atomic_load(&server->script);
            if (script(server, &question, &reply)) {
                uint8_t size[2] = {(uint8_t)(reply.len >> 8), (uint8_t)reply.len};
                if (write(fd, size, 2) == 2)
                    (void)!write(fd, reply.bytes, reply.len);
            }
        }
    }
    close(fd);
}

static inline void *serve(void *ctx)
{
    struct test_server *server = ctx;
    for (;;) {
        struct pollfd fds[] = {{.fd = server->udp, .events = POLLIN},
                               {.fd = server->tcp, .events = POLLIN},
                               {.fd = server->stop[0], .events = POLLIN}};
        if (poll(fds, 3, 20000) <= 0 || fds[2].revents != 0)
            return NULL;
        if (fds[0].revents != 0)
            serve_udp(server);
        if (fds[1].revents != 0)
            serve_tcp(server);
    }
}

/* Both sockets on one free port. @return whether it was free for TCP too */
static inline bool bind_both(struct test_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    server->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->udp, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(server->udp, (struct sockaddr *)&address, &size), 0);
    server->port = ntohs(address.sin_port);
    if (bind(server->tcp, (struct sockaddr *)&address, sizeof address) == 0)
        return true;
    close(server->udp);
    close(server->tcp);
    return false;
}

static inline void server_start(struct test_server *server, script_fn script)
{
    memset(server, 0, sizeof *server);
    server->script = script;
    server->reply_copies = 1;
    for (int i = 0; i < 20 && !bind_both(server); i++)
        assert_true(i < 19);
    assert_int_equal(listen(server->tcp, 64), 0);
    assert_int_equal(pipe(server->stop), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static inline void server_stop(struct test_server *server)
{
    assert_int_equal(write(server->stop[1], "x", 1), 1);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    close(server->stop[0]);
    close(server->stop[1]);
    close(server->udp);
    close(server->tcp);
}

/* ---- our side ---- */

static inline void server_address(uint16_t port, struct dns_server *server_out)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)&server_out->address;
    memset(server_out, 0, sizeof *server_out);
    in4->sin_family = AF_INET;
    in4->sin_port = htons(port);
    in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

struct client {
    uv_loop_t loop;
    struct dns_shared *shared;
    struct dns *dns;
};

static inline void client_start(struct client *client, const uint16_t *ports, size_t count)
{
    struct dns_server servers[DNS_SERVERS_MAX];
    for (size_t i = 0; i < count; i++)
        server_address(ports[i], &servers[i]);
    struct dns_options options = {.servers = servers, .server_count = count};
    assert_int_equal(uv_loop_init(&client->loop), 0);
    assert_int_equal(dns_shared_new(&options, &client->shared), 0);
    assert_int_equal(dns_open(&client->loop, client->shared, &client->dns), 0);
}

/* The loop must be empty after close and one more turn. */
static inline void client_stop(struct client *client)
{
    dns_close(&client->dns);
    assert_null(client->dns);
    uv_run(&client->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&client->loop), 0);
    dns_shared_free(&client->shared);
    assert_null(client->shared);
}

/* A copy of what a callback was told. */
struct told {
    int calls;
    struct dns_mx_answer mx;
    struct dns_mx_host hosts[DNS_HOSTS_MAX];
    struct dns_address_answer address;
    struct dns_address addresses[DNS_ADDRESSES_MAX];
};

static inline void on_mx(const struct dns_mx_answer *answer, void *ctx)
{
    struct told *told = ctx;
    told->calls++;
    told->mx = *answer;
    if (answer->host_count > 0)
        memcpy(told->hosts, answer->hosts, answer->host_count * sizeof told->hosts[0]);
    told->mx.hosts = told->hosts;
}

static inline void on_address(const struct dns_address_answer *answer, void *ctx)
{
    struct told *told = ctx;
    told->calls++;
    told->address = *answer;
    if (answer->address_count > 0)
        memcpy(told->addresses, answer->addresses,
               answer->address_count * sizeof told->addresses[0]);
    told->address.addresses = told->addresses;
}

static inline void stop_loop(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Runs the loop until *calls reaches `until`, `limit_ms` at most. */
static inline void run_until(uv_loop_t *loop, const int *calls, int until, uint64_t limit_ms)
{
    uv_timer_t timer;
    bool over = false;
    uv_timer_init(loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, stop_loop, limit_ms, 0);
    while (*calls < until && !over)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
}

static inline void ask_mx(struct client *client, const char *name, uint32_t timeout_ms,
                          struct told *told)
{
    struct dns_query *query = NULL;
    memset(told, 0, sizeof *told);
    assert_int_equal(dns_mx_start(client->dns, name, timeout_ms, on_mx, told, &query), 0);
    assert_int_equal(told->calls, 0);
    run_until(&client->loop, &told->calls, 1, timeout_ms + 3000);
    assert_int_equal(told->calls, 1);
}

static inline void ask_address(struct client *client, const char *name, enum dns_family family,
                               uint32_t timeout_ms, struct told *told)
{
    struct dns_query *query = NULL;
    memset(told, 0, sizeof *told);
    assert_int_equal(
        dns_address_start(client->dns, name, family, timeout_ms, on_address, told, &query), 0);
    assert_int_equal(told->calls, 0);
    run_until(&client->loop, &told->calls, 1, timeout_ms + 3000);
    assert_int_equal(told->calls, 1);
}

#endif
