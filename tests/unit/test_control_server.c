/* The HTTP side against clients of every kind: good, garbled, slow, many. The server's thread is
 * the test's own, turned while it reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

#define WAIT_MS   20000
#define CLIENT_MS 500

struct bed {
    struct server *server;
    int wake_fd;
    uint16_t port;
    unsigned health_code;
    size_t page_bytes;
    unsigned pages;
};

static void give_metrics(struct buf *out, void *ctx)
{
    struct bed *bed = ctx;
    bed->pages++;
    for (size_t i = 0; i < bed->page_bytes; i++)
        buf_add(out, "x", 1);
    buf_add_text(out, "end\n");
}

static unsigned give_health(struct buf *out, void *ctx)
{
    const struct bed *bed = ctx;
    buf_add_text(out, "{\"status\":\"as it is\"}\n");
    return bed->health_code;
}

static int listen_somewhere(uint16_t *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int small = 4096; /* inherited by what is accepted: a page must not fit */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

static int setup(void **state)
{
    struct bed *bed = mem_alloc(sizeof *bed);
    const struct server_pages pages = {give_metrics, give_health, bed};
    bed->health_code = MHD_HTTP_OK;
    bed->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bed->server = server_new(&pages, CLIENT_MS);
    assert_non_null(bed->server);
    server_listen(bed->server, listen_somewhere(&bed->port));
    *state = bed;
    return 0;
}

static int teardown(void **state)
{
    struct bed *bed = *state;
    server_free(&bed->server);
    assert_null(bed->server);
    close(bed->wake_fd);
    free(bed);
    return 0;
}

static void turn(struct bed *bed)
{
    server_turn(bed->server, bed->wake_fd, time_monotonic_ms() + 2);
}

/* ---- a client ---- */

static int connect_client(const struct bed *bed)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(bed->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *bytes, size_t len)
{
    ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* a server that has heard enough is no fault */
}

/* All that comes until the server closes; NULL: it does not close. Owned. */
static char *hear(struct bed *bed, int fd)
{
    struct buf all;
    char piece[65536];
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    buf_init(&all, (size_t)16 << 20);
    for (;;) {
        turn(bed);
        ssize_t got = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            break;
        if (got > 0)
            assert_true(buf_add(&all, piece, (size_t)got));
        if (time_monotonic_ms() > until_ms)
            fail_msg("the server does not close");
    }
    char *text = str_dup(buf_str(&all));
    buf_deinit(&all);
    return text;
}

static char *ask_bytes(struct bed *bed, const char *request, size_t len)
{
    int fd = connect_client(bed);
    say(fd, request, len);
    char *answer = hear(bed, fd);
    close(fd);
    return answer;
}

static char *ask(struct bed *bed, const char *request)
{
    return ask_bytes(bed, request, strlen(request));
}

#define TAIL " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void assert_starts(const char *answer, const char *status)
{
    char expected[64];
    snprintf(expected, sizeof expected, "HTTP/1.1 %s ", status);
    if (strncmp(answer, expected, strlen(expected)) != 0)
        fail_msg("expected %s, got: %.200s", status, answer);
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static size_t open_descriptors(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* ---- tests ---- */

static void good_requests(void **state)
{
    struct bed *bed = *state;
    char *answer = ask(bed, "GET /metrics" TAIL);
    assert_starts(answer, "200");
    assert_string_equal(body_of(answer), "end\n");
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    free(answer);

    answer = ask(bed, "HEAD /metrics?x=1" TAIL);
    assert_starts(answer, "200");
    assert_non_null(strstr(answer, "Content-Length: 4\r\n"));
    assert_string_equal(body_of(answer), "");
    free(answer);

    answer = ask(bed, "GET /healthz HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(answer, " 200 OK\r\n"));
    assert_non_null(strstr(answer, "Content-Type: application/json\r\n"));
    free(answer);

    bed->health_code = MHD_HTTP_SERVICE_UNAVAILABLE;
    answer = ask(bed, "GET /healthz" TAIL);
    assert_starts(answer, "503");
    assert_string_equal(body_of(answer), "{\"status\":\"as it is\"}\n");
    free(answer);
    assert_int_equal(bed->pages, 2);
}

static void refused_requests(void **state)
{
    static const struct {
        const char *request, *status;
    } cases[] = {
        {"GET /" TAIL, "404"},
        {"GET /metrics/" TAIL, "404"},
        {"GET /metrics%00" TAIL, "404"},
        {"GET /../metrics" TAIL, "404"},
        {"GET //metrics" TAIL, "404"},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "404"},
        {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "405"},
        {"PUT /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "405"},
        {"DELETE /metrics" TAIL, "405"},
        {"OPTIONS /metrics" TAIL, "405"},
        {"get /metrics" TAIL, "405"},
        {"TRACE /healthz" TAIL, "405"},
    };
    struct bed *bed = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *answer = ask(bed, cases[i].request);
        assert_starts(answer, cases[i].status);
        if (strcmp(cases[i].status, "405") == 0)
            assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
        free(answer);
    }
    assert_int_equal(bed->pages, 0);
}

/* Whatever comes, the server answers or closes, and goes on. */
static void garbage(void **state)
{
    static char wide[70000];
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\r\n\r\n\r\n\r\nX\r\n\r\n", 11},
        {"\0\0\0\0\0\0\0\0\r\n\r\n", 12},
        {"GET\r\n\r\n", 7},
        {"GET /metrics HTTP/9.9\r\n\r\n", 25},
        {"EHLO there\r\nMAIL FROM:<>\r\n\r\n", 28},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24},
        {wide, sizeof wide},
    };
    struct bed *bed = *state;
    size_t before = open_descriptors();
    memset(wide, 'A', sizeof wide);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = connect_client(bed);
        say(fd, cases[i].bytes, cases[i].len);
        shutdown(fd, SHUT_WR); /* what is only half a request ends here */
        free(hear(bed, fd));
        close(fd);
        char *answer = ask(bed, "GET /metrics" TAIL);
        assert_starts(answer, "200");
        free(answer);
    }
    turn(bed);
    assert_int_equal(open_descriptors(), before);
}

/* Many who hold their places, also with a byte now and then, keep nobody away. */
static void slow_clients_keep_nobody_away(void **state)
{
    enum { MANY = 3 * METRICS_CLIENTS_MAX };
    struct bed *bed = *state;
    int fds[MANY];
    size_t before = open_descriptors();
    for (size_t i = 0; i < MANY; i++) {
        fds[i] = connect_client(bed);
        say(fds[i], "GET /metrics HTTP/1.1\r\nX-A: b\r\n", 31);
        turn(bed);
        turn(bed);
    }
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < MANY; i++)
            say(fds[i], "X", 1);
        char *answer = ask(bed, "GET /metrics" TAIL);
        assert_starts(answer, "200");
        free(answer);
    }
    assert_true(open_descriptors() <= before + MANY + METRICS_CLIENTS_MAX);
    for (size_t i = 0; i < MANY; i++)
        close(fds[i]);
    for (int i = 0; i < 50 && open_descriptors() > before; i++)
        turn(bed);
    assert_int_equal(open_descriptors(), before);
}

/* A client that trickles is cut after its time, however busy it looks; so is one that does not
 * read. */
static void time_is_short(void **state)
{
    struct bed *bed = *state;
    bed->page_bytes = (size_t)200 * 1024; /* more than the sockets hold */
    uint64_t began_ms = time_monotonic_ms(), ended_ms = 0;
    int trickling = connect_client(bed), deaf = connect_client(bed);
    int small = 4096;
    setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say(deaf, "GET /metrics" TAIL, strlen("GET /metrics" TAIL));
    say(trickling, "GET /metrics HTTP/1.1\r\n", 23);
    while (ended_ms == 0 && time_monotonic_ms() - began_ms < WAIT_MS) {
        char byte;
        say(trickling, "X", 1);
        usleep(5000);
        turn(bed);
        ssize_t got = recv(trickling, &byte, 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            ended_ms = time_monotonic_ms();
    }
    assert_in_range(ended_ms - began_ms, CLIENT_MS - 10, CLIENT_MS + 2000);
    turn(bed);
    char *heard = hear(bed, deaf); /* what lay in the sockets, and then the end */
    assert_true(strlen(heard) < bed->page_bytes);
    free(heard);
    close(trickling);
    close(deaf);
}

/* An address that goes takes its clients along; the next one serves. */
static void listening_elsewhere(void **state)
{
    struct bed *bed = *state;
    assert_true(server_is_listening(bed->server));
    int held = connect_client(bed);
    turn(bed);
    server_listen(bed->server, -1);
    assert_false(server_is_listening(bed->server));
    free(hear(bed, held));
    close(held);

    uint16_t old = bed->port;
    server_listen(bed->server, listen_somewhere(&bed->port));
    char *answer = ask(bed, "GET /metrics" TAIL);
    assert_starts(answer, "200");
    free(answer);
    assert_int_not_equal(old, bed->port);
}

/* Without descriptors the server rests instead of spinning, and goes on when there are some. */
static void no_descriptors_left(void **state)
{
    struct bed *bed = *state;
    static int taken[70000];
    size_t count = 0;
    int fd = connect_client(bed);
    say(fd, "GET /metrics" TAIL, strlen("GET /metrics" TAIL));
    for (; count < sizeof taken / sizeof taken[0]; count++) {
        taken[count] = dup(bed->wake_fd);
        if (taken[count] < 0)
            break;
    }
    if (count < sizeof taken / sizeof taken[0]) {
        uint64_t began_ms = time_monotonic_ms();
        turn(bed);
        server_turn(bed->server, bed->wake_fd, time_monotonic_ms() + 50);
        assert_true(time_monotonic_ms() - began_ms >= 40);
    }
    while (count > 0)
        close(taken[--count]);
    char *answer = hear(bed, fd);
    assert_starts(answer, "200");
    free(answer);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_clients_keep_nobody_away, setup, teardown),
        cmocka_unit_test_setup_teardown(time_is_short, setup, teardown),
        cmocka_unit_test_setup_teardown(listening_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptors_left, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
