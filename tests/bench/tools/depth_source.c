/* tests/bench/tools/depth_source.c - a cheap SMTP load source: one thread, epoll, nothing is made
 * anew for a message but its RCPT line.
 *
 * depth_source -p PORT [-s SESSIONS] [-m MESSAGES] [-l BYTES] [-d DOMAINS] [-n NAME] [-i PAUSE_MS]
 *              [-T SECONDS] [-t] [-q]
 * SESSIONS connections stay open and send MESSAGES in all, pipelined (MAIL, RCPT and DATA in one
 * write), each to one recipient at one of DOMAINS domains in turn (d00000.example.net ...), or at
 * NAME. With -i each session rests so long between two messages; with -t it begins with STARTTLS;
 * with -q it sends none and stays as it is behind EHLO. When all sessions are open, it prints a
 * line "ready held=N s=SECONDS". At its end, after SECONDS or at SIGTERM it prints a line of
 * key=value: the messages accepted and refused, the rate, the time from the final dot to its
 * answer, and the sessions that were lost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/tools/wire.h"

#define EVENTS  256
#define SCATTER 7919 /* a prime: neighbours in time are none in the order of names */

enum stage {
    STAGE_GREETING,
    STAGE_EHLO,
    STAGE_STARTTLS,
    STAGE_HANDSHAKE,
    STAGE_ENVELOPE,
    STAGE_DOT,
    STAGE_REST,
    STAGE_QUIET,
    STAGE_END,
};

struct session {
    struct wire wire;
    enum stage stage;
    int replies;     /* still to come in this stage */
    double dot_s;    /* when the final dot was written, */
    double resume_s; /* or when the next message may begin */
    const char *out; /* what is still to be written */
    size_t out_len;
    char envelope[256];
    size_t in_len;
    char in[4096];
};

struct source {
    int epoll;
    unsigned short port;
    size_t sessions, messages, bytes, domains;
    const char *name;
    double pause_s, limit_s;
    bool tls, quiet;
    char *body;
    size_t body_len;
    size_t begun, accepted, refused, broken;
    size_t opened;   /* sessions that have come to their first message, or would send one */
    double begun_s;  /* when the first was opened */
    float *waits_ms; /* of each accepted one */
};

static volatile sig_atomic_t stopped;

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

static void watch(const struct source *source, struct session *session, int op, bool writes)
{
    struct epoll_event event = {.events = EPOLLIN | (writes ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = session};
    if (epoll_ctl(source->epoll, op, session->wire.fd, &event) != 0)
        abort();
}

/* @return false: the connection is gone */
static bool write_out(const struct source *source, struct session *session)
{
    while (session->out_len > 0) {
        ssize_t n = wire_send(&session->wire, session->out, session->out_len);
        if (n < 0 && errno == EAGAIN) {
            watch(source, session, EPOLL_CTL_MOD, true);
            return true;
        }
        if (n < 0)
            return false;
        session->out += n;
        session->out_len -= (size_t)n;
        if (session->out_len == 0)
            watch(source, session, EPOLL_CTL_MOD, false);
    }
    return true;
}

static bool say(const struct source *source, struct session *session, const char *text, size_t len)
{
    session->out = text;
    session->out_len = len;
    return write_out(source, session);
}

static bool begin_message(struct source *source, struct session *session)
{
    if (source->begun == source->messages) {
        session->stage = STAGE_END;
        session->replies = 1;
        return say(source, session, "QUIT\r\n", 6);
    }
    char domain[64];
    size_t number = source->begun++ * SCATTER % source->domains;
    (void)snprintf(domain, sizeof domain, "d%05zu.example.net", number);
    int len = snprintf(session->envelope, sizeof session->envelope,
                       "MAIL FROM:<bench@sender.example>\r\nRCPT TO:<user@%s>\r\nDATA\r\n",
                       source->name != NULL ? source->name : domain);
    session->stage = STAGE_ENVELOPE;
    session->replies = 3;
    return say(source, session, session->envelope, (size_t)len);
}

static bool rest(struct source *source, struct session *session)
{
    if (source->pause_s <= 0)
        return begin_message(source, session);
    session->stage = STAGE_REST;
    session->resume_s = now_s() + source->pause_s;
    return true;
}

/* EHLO is done for good. */
static bool begin_work(struct source *source, struct session *session)
{
    if (++source->opened == source->sessions) {
        (void)printf("ready held=%zu s=%.3f\n", source->opened, now_s() - source->begun_s);
        (void)fflush(stdout);
    }
    if (!source->quiet)
        return begin_message(source, session);
    session->stage = STAGE_QUIET;
    session->replies = 1;
    return true;
}

static bool say_hello(const struct source *source, struct session *session)
{
    session->stage = STAGE_EHLO;
    session->replies = 1;
    return say(source, session, "EHLO source.example\r\n", 21);
}

/* @return false: it failed */
static bool shake_hands(const struct source *source, struct session *session)
{
    bool writes = false;
    int rc = wire_handshake(&session->wire, &writes);
    if (rc < 0)
        return false;
    watch(source, session, EPOLL_CTL_MOD, writes);
    return rc == 0 || say_hello(source, session);
}

/* One whole reply has come. @return false: give the connection up */
static bool on_reply(struct source *source, struct session *session, long code)
{
    if (code >= 400) {
        source->refused++;
        if (source->refused < 5)
            (void)fprintf(stderr, "depth_source: %ld in stage %d\n", code, (int)session->stage);
        return false;
    }
    if (--session->replies > 0)
        return true;
    switch (session->stage) {
    case STAGE_GREETING:
        return say_hello(source, session);
    case STAGE_EHLO:
        if (!source->tls || session->wire.tls != NULL)
            return begin_work(source, session);
        session->stage = STAGE_STARTTLS;
        session->replies = 1;
        return say(source, session, "STARTTLS\r\n", 10);
    case STAGE_STARTTLS:
        session->stage = STAGE_HANDSHAKE;
        wire_start_tls(&session->wire);
        return shake_hands(source, session);
    case STAGE_ENVELOPE:
        session->stage = STAGE_DOT;
        session->replies = 1;
        session->dot_s = now_s();
        return say(source, session, source->body, source->body_len);
    case STAGE_DOT:
        source->waits_ms[source->accepted++] = (float)((now_s() - session->dot_s) * 1e3);
        return rest(source, session);
    case STAGE_HANDSHAKE:
    case STAGE_REST:
    case STAGE_QUIET:
    case STAGE_END:
        return false;
    }
    abort();
}

static bool read_some(struct source *source, struct session *session)
{
    ssize_t n = wire_recv(&session->wire, session->in + session->in_len,
                          sizeof session->in - session->in_len);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    session->in_len += (size_t)n;
    size_t at = 0;
    bool go = true;
    char *end = NULL;
    while (go && (end = memchr(session->in + at, '\n', session->in_len - at)) != NULL) {
        const char *line = session->in + at;
        at = (size_t)(end + 1 - session->in);
        if (end - line >= 4 && line[3] != '-')
            go = on_reply(source, session, strtol(line, NULL, 10));
    }
    memmove(session->in, session->in + at, session->in_len - at);
    session->in_len -= at;
    return go;
}

static bool read_in(struct source *source, struct session *session)
{
    if (session->stage == STAGE_HANDSHAKE)
        return shake_hands(source, session);
    bool go = read_some(source, session);
    while (go && wire_pending(&session->wire))
        go = read_some(source, session);
    return go;
}

static void open_session(struct source *source, struct session *session)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(source->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *session = (struct session){.wire = {fd, NULL}, .replies = 1};
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("depth_source: connect");
        exit(1);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    watch(source, session, EPOLL_CTL_ADD, false);
}

static void make_body(struct source *source)
{
    static const char head[] = "From: <bench@sender.example>\r\nTo: <user@example.net>\r\n"
                               "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
                               "Message-ID: <1@sender.example>\r\nSubject: depth\r\n\r\n";
    source->body = malloc(source->bytes + sizeof head + 128);
    if (source->body == NULL)
        abort();
    memcpy(source->body, head, sizeof head - 1);
    size_t at = sizeof head - 1;
    while (at + 5 < source->bytes) {
        size_t len = source->bytes - 5 - at;
        len = len > 76 ? 76 : len;
        memset(source->body + at, 'x', len);
        at += len;
        memcpy(source->body + at, "\r\n", 2);
        at += 2;
    }
    memcpy(source->body + at, ".\r\n", 3);
    source->body_len = at + 3;
}

/* @return sessions that are still open */
static size_t wake_resting(struct source *source, struct session *sessions)
{
    double now = now_s();
    size_t open = 0;
    for (size_t i = 0; i < source->sessions; i++) {
        struct session *session = &sessions[i];
        open += session->wire.fd >= 0;
        if (session->wire.fd >= 0 && session->stage == STAGE_REST && now >= session->resume_s)
            (void)begin_message(source, session);
    }
    return open;
}

static void run(struct source *source, struct session *sessions)
{
    struct epoll_event events[EVENTS];
    double begun_s = now_s();
    double look_s = 0;
    size_t open = source->sessions;
    while (open > 0 && !stopped && now_s() - begun_s < source->limit_s) {
        int n = epoll_wait(source->epoll, events, EVENTS, source->pause_s > 0 ? 1 : 100);
        for (int i = 0; i < n; i++) {
            struct session *session = events[i].data.ptr;
            bool good = (events[i].events & EPOLLOUT) == 0 || session->stage == STAGE_HANDSHAKE ||
                        write_out(source, session);
            if (good && (session->stage == STAGE_HANDSHAKE ||
                         (events[i].events & ~(uint32_t)EPOLLOUT) != 0))
                good = read_in(source, session);
            if (good)
                continue;
            source->broken += session->stage != STAGE_END;
            wire_close(&session->wire);
        }
        if (source->pause_s > 0 || now_s() >= look_s) {
            open = wake_resting(source, sessions);
            look_s = now_s() + 0.05;
        }
    }
}

static int compare(const void *a, const void *b)
{
    const float *x = a;
    const float *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(const struct source *source, double took_s)
{
    size_t n = source->accepted;
    qsort(source->waits_ms, n, sizeof *source->waits_ms, compare);
    (void)printf("accepted=%zu refused=%zu broken=%zu opened=%zu s=%.3f rate=%.0f p50_ms=%.2f "
                 "p99_ms=%.2f max_ms=%.2f\n",
                 n, source->refused, source->broken, source->opened, took_s, (double)n / took_s,
                 n > 0 ? (double)source->waits_ms[n / 2] : 0,
                 n > 0 ? (double)source->waits_ms[n * 99 / 100] : 0,
                 n > 0 ? (double)source->waits_ms[n - 1] : 0);
}

static bool read_options(struct source *source, int argc, char **argv)
{
    int option = 0;
    while ((option = getopt(argc, argv, "p:s:m:l:d:n:i:T:tq")) != -1) {
        unsigned long value = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'p':
            source->port = (unsigned short)value;
            break;
        case 's':
            source->sessions = value;
            break;
        case 'm':
            source->messages = value;
            break;
        case 'l':
            source->bytes = value;
            break;
        case 'd':
            source->domains = value;
            break;
        case 'n':
            source->name = optarg;
            break;
        case 'i':
            source->pause_s = (double)value / 1e3;
            break;
        case 'T':
            source->limit_s = (double)value;
            break;
        case 't':
            source->tls = true;
            break;
        case 'q':
            source->quiet = true;
            break;
        default:
            return false;
        }
    }
    return source->port != 0 && source->sessions > 0 && source->domains > 0 && optind == argc;
}

int main(int argc, char **argv)
{
    struct source source = {
        .sessions = 100, .messages = 1000, .bytes = 4096, .domains = 1, .limit_s = 3600};
    if (!read_options(&source, argc, argv))
        return 2;
    struct sigaction action = {.sa_handler = on_term};
    (void)sigaction(SIGTERM, &action, NULL);
    struct session *sessions = calloc(source.sessions, sizeof *sessions);
    source.waits_ms = calloc(source.messages + 1, sizeof *source.waits_ms);
    source.epoll = epoll_create1(0);
    if (sessions == NULL || source.waits_ms == NULL || source.epoll < 0)
        abort();
    make_body(&source);
    source.begun_s = now_s();
    for (size_t i = 0; i < source.sessions; i++)
        open_session(&source, &sessions[i]);
    run(&source, sessions);
    report(&source, now_s() - source.begun_s);
    free(sessions);
    free(source.waits_ms);
    free(source.body);
    return source.accepted == source.messages && source.refused + source.broken == 0 ? 0 : 1;
}
