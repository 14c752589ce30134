/* mta/mtactl/link.c - see link.h. */
#include "mta/mtactl/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S 30

struct ctl_link {
    int fd;
    struct ctl_reader reader;
};

/* ---- connecting ---- */

static void explain(int failure, const char *path, char *error, size_t size)
{
    switch (failure) {
    case ENOENT:
    case ENOTDIR:
        (void)snprintf(error, size,
                       "mtad is not reachable: there is no control socket %s (is mtad running, "
                       "with this configuration?)",
                       path);
        return;
    case ECONNREFUSED:
        (void)snprintf(error, size, "mtad is not reachable: it is not running (nobody serves %s)",
                       path);
        return;
    case EACCES:
    case EPERM:
        (void)snprintf(error, size,
                       "mtad is not reachable: no permission to use %s; run mtactl as root, or as "
                       "mtad's user or a member of its group",
                       path);
        return;
    case EAGAIN:
        (void)snprintf(error, size,
                       "mtad is not reachable: it is stuck or very busy (%s was not served for "
                       "%d s)",
                       path, PATIENCE_S);
        return;
    default:
        (void)snprintf(error, size, "mtad is not reachable: %s: %s", path, strerror(failure));
    }
}

/* @return the socket, or -1 with errno */
static int connect_to(const char *path, bool patient)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = PATIENCE_S};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* The limit for sending is also that for connecting: unix(7) waits for room in the backlog. */
    int rc = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (rc == 0 && !patient)
        rc = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (rc == 0)
        rc = connect(fd, (const struct sockaddr *)&address, sizeof address);
    if (rc == 0)
        return fd;
    int failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

static int send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        bytes += sent;
        len -= (size_t)sent;
    }
    return 0;
}

static int send_request(int fd, const json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    if (text == NULL) {
        errno = EINVAL;
        return -1;
    }
    size_t len = strlen(text);
    text[len] = '\n'; /* the NUL's place */
    int rc = send_all(fd, text, len + 1);
    int failure = errno;
    free(text);
    errno = failure;
    return rc;
}

int ctl_link_open(const char *path, const json_t *request, bool patient, struct ctl_link **link_out,
                  char *error, size_t error_size)
{
    int fd = connect_to(path, patient);
    if (fd < 0) {
        explain(errno, path, error, error_size);
        return -1;
    }
    /* A daemon that refuses at once has closed its side, but its words can still be read. */
    if (send_request(fd, request) < 0 && errno != EPIPE) {
        explain(errno, path, error, error_size);
        close(fd);
        return -1;
    }
    struct ctl_link *link = mem_alloc(sizeof *link);
    link->fd = fd;
    ctl_reader_init(&link->reader);
    *link_out = link;
    return 0;
}

/* ---- reading ---- */

static enum ctl_event broken(struct ctl_answer *answer, const char *text)
{
    *answer = (struct ctl_answer){.text = text};
    return CTL_BROKEN;
}

enum ctl_event ctl_link_next(struct ctl_link *link, struct ctl_answer *answer_out)
{
    for (;;) {
        size_t size = 0;
        enum ctl_event event = ctl_reader_next(&link->reader, answer_out);
        if (event != CTL_MORE)
            return event;
        char *room = ctl_reader_room(&link->reader, &size);
        if (room == NULL)
            return broken(answer_out, "a line of the daemon's answer is too long");
        ssize_t got = read(link->fd, room, size);
        if (got > 0)
            ctl_reader_filled(&link->reader, (size_t)got);
        else if (got == 0 || errno == ECONNRESET)
            return broken(answer_out, "mtad ended the connection before its answer was complete "
                                      "(has it stopped?)");
        else if (errno == EAGAIN)
            return broken(answer_out, "mtad took the request but does not answer");
        else if (errno != EINTR)
            return broken(answer_out, "the control socket cannot be read");
    }
}

void ctl_link_close(struct ctl_link **linkp)
{
    struct ctl_link *link = *linkp;
    if (link == NULL)
        return;
    close(link->fd);
    ctl_reader_deinit(&link->reader);
    free(link);
    *linkp = NULL;
}
