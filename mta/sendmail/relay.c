/* mta/sendmail/relay.c - SMTP passed through, for -bs: run.h. One buffer each way; who is not read
 * is not read from. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/sendmail/run.h"
#include "mta/sendmail/session.h"

struct channel {
    int from, to;
    char bytes[32 * 1024];
    size_t start, end;
    bool ended; /* from has */
};

static void look_at(const struct channel *c, struct pollfd *from, struct pollfd *to)
{
    bool full = c->end > c->start;
    *from = (struct pollfd){.fd = full || c->ended ? -1 : c->from, .events = POLLIN};
    *to = (struct pollfd){.fd = full ? c->to : -1, .events = POLLOUT};
}

static void fill(struct channel *c)
{
    ssize_t got = read(c->from, c->bytes, sizeof c->bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    c->start = 0;
    c->end = got > 0 ? (size_t)got : 0;
    c->ended = got <= 0;
}

/* @return false: nobody reads there any more */
static bool drain(struct channel *c)
{
    ssize_t sent = write(c->to, c->bytes + c->start, c->end - c->start);
    if (sent < 0)
        return errno == EINTR || errno == EAGAIN;
    c->start += (size_t)sent;
    return true;
}

/* @return false: the conversation is over */
static bool pass(struct channel *up, struct channel *down)
{
    struct pollfd fds[4];
    look_at(up, &fds[0], &fds[1]);
    look_at(down, &fds[2], &fds[3]);
    if (poll(fds, 4, -1) < 0)
        return errno == EINTR;
    if (fds[0].revents != 0) {
        fill(up);
        if (up->ended)
            (void)shutdown(up->to, SHUT_WR); /* what was asked is still answered */
    }
    if (fds[1].revents != 0 && !drain(up)) {
        up->ended = true; /* the listener has hung up: its last words are still to come */
        up->end = up->start;
    }
    if (fds[2].revents != 0)
        fill(down);
    if (fds[3].revents != 0 && !drain(down))
        return false;
    return !down->ended || down->end > down->start;
}

int sendmail_relay(const char *path, int in_fd, int out_fd, struct sendmail_verdict *verdict)
{
    static const char refusal[] = "421 4.3.2 The mail system is not available, try again later\r\n";
    struct channel up = {.from = in_fd};
    struct channel down = {.to = out_fd};
    int fd = sendmail_connect(path, verdict);
    if (fd < 0) {
        (void)!write(out_fd, refusal, sizeof refusal - 1);
        return -1;
    }
    up.to = fd;
    down.from = fd;
    while (pass(&up, &down)) {
    }
    close(fd);
    return 0;
}
