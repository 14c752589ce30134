/* tests/bench/tools/depth_sink.c - a cheap SMTP sink: one thread, epoll, takes everything.
 *
 * depth_sink PORT [CODE]: listens on 127.0.0.1 until SIGTERM; with CODE, each RCPT is answered with
 * it instead of 250. Prints "first SECONDS DOMAIN" at the first message taken, "more SECONDS COUNT"
 * at the first in each later tenth of a second (monotonic clock), and the count at its end. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS   256
#define READ_MAX 65536

struct peer {
    int fd;
    bool in_data;
    size_t seen; /* octets of "\r\n.\r\n" that the data ends with just now */
    size_t len;  /* of line */
    char line[1024];
    size_t out_len;
    char out[8192];
    char domain[256];
};

static const char end_of_data[] = "\r\n.\r\n";
static volatile sig_atomic_t stopped;
static size_t taken;
static double told_s;
static const char *rcpt_reply = "250 2.1.5 ok\r\n";

static void on_term(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static double now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void answer(struct peer *peer, const char *text)
{
    size_t len = strlen(text);
    if (peer->out_len + len > sizeof peer->out)
        return; /* a client that pipelines more than it reads: not ours */
    memcpy(peer->out + peer->out_len, text, len);
    peer->out_len += len;
}

static void count_message(const struct peer *peer)
{
    double now = now_s();
    taken++;
    if (taken == 1)
        (void)printf("first %.4f %s\n", now, peer->domain);
    else if (now - told_s >= 0.1)
        (void)printf("more %.4f %zu\n", now, taken);
    if (taken == 1 || now - told_s >= 0.1) {
        told_s = now;
        (void)fflush(stdout);
    }
}

static void note_domain(struct peer *peer)
{
    const char *at = strchr(peer->line, '@');
    if (at != NULL)
        (void)snprintf(peer->domain, sizeof peer->domain, "%.*s", (int)strcspn(at + 1, ">\r"),
                       at + 1);
}

/* @return false: QUIT */
static bool on_line(struct peer *peer)
{
    const char *line = peer->line;
    if (strncasecmp(line, "EHLO", 4) == 0) {
        answer(peer, "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                     "250 ENHANCEDSTATUSCODES\r\n");
    } else if (strncasecmp(line, "RCPT", 4) == 0) {
        note_domain(peer);
        answer(peer, rcpt_reply);
    } else if (strncasecmp(line, "DATA", 4) == 0 && rcpt_reply[0] == '2') {
        answer(peer, "354 go on\r\n");
        peer->in_data = true;
        peer->seen = 2; /* at the beginning of a line */
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        answer(peer, "554 5.5.1 no recipients\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        answer(peer, "221 bye\r\n");
        return false;
    } else {
        answer(peer, "250 2.0.0 ok\r\n");
    }
    return true;
}

/* @return octets of the data that were eaten */
static size_t eat_data(struct peer *peer, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (peer->seen == 0) { /* nothing can begin before the next CR */
            const char *cr = memchr(bytes + i, '\r', len - i);
            if (cr == NULL)
                return len;
            i = (size_t)(cr - bytes);
        }
        if (bytes[i] == end_of_data[peer->seen])
            peer->seen++;
        else
            peer->seen = bytes[i] == '\r' ? 1 : 0;
        if (peer->seen == sizeof end_of_data - 1) {
            peer->in_data = false;
            count_message(peer);
            answer(peer, "250 2.0.0 taken\r\n");
            return i + 1;
        }
    }
    return len;
}

static bool eat(struct peer *peer, const char *bytes, size_t len)
{
    size_t at = 0;
    while (at < len) {
        if (peer->in_data) {
            at += eat_data(peer, bytes + at, len - at);
            continue;
        }
        char octet = bytes[at++];
        if (peer->len < sizeof peer->line - 1)
            peer->line[peer->len++] = octet;
        if (octet != '\n')
            continue;
        peer->line[peer->len] = '\0';
        peer->len = 0;
        if (!on_line(peer))
            return false;
    }
    return true;
}

static bool send_answers(struct peer *peer)
{
    ssize_t n = peer->out_len > 0 ? send(peer->fd, peer->out, peer->out_len, MSG_NOSIGNAL) : 0;
    bool all = n >= 0 && (size_t)n == peer->out_len;
    peer->out_len = 0;
    return all;
}

static void take_peer(int epoll, int listener)
{
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        abort();
    peer->fd = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        abort();
    answer(peer, "220 sink.example\r\n");
    (void)send_answers(peer);
}

static void serve(struct peer *peer)
{
    static char bytes[READ_MAX];
    ssize_t n = recv(peer->fd, bytes, sizeof bytes, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    bool go = n > 0 && eat(peer, bytes, (size_t)n);
    if (send_answers(peer) && go)
        return;
    (void)close(peer->fd);
    free(peer);
}

static int listen_on(unsigned short port)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0) {
        perror("depth_sink");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static char reply[64];
    struct sigaction action = {.sa_handler = on_term};
    struct epoll_event events[EVENTS];
    if (argc < 2)
        return 2;
    if (argc > 2) {
        (void)snprintf(reply, sizeof reply, "%.3s not now\r\n", argv[2]);
        rcpt_reply = reply;
    }
    (void)sigaction(SIGTERM, &action, NULL);
    int listener = listen_on((unsigned short)strtoul(argv[1], NULL, 10));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        abort();
    (void)printf("ready\n");
    (void)fflush(stdout);
    while (!stopped) {
        int n = epoll_wait(epoll, events, EVENTS, 1000);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                take_peer(epoll, listener);
            else
                serve(events[i].data.ptr);
        }
    }
    (void)printf("taken %zu\n", taken);
    return 0;
}
