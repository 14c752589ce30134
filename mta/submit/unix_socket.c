/* mta/submit/unix_socket.c - see unix_socket.h. */
#include "mta/submit/unix_socket.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Is somebody serving at this path? One who does not come to accept (EAGAIN) is alive as well. */
static bool is_alive(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true; /* not known: better an error than another's socket */
    int rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    bool alive = rc == 0 || (errno != ECONNREFUSED && errno != ENOENT);
    close(fd);
    return alive;
}

static int make_folder(const char *path, uid_t uid, gid_t gid)
{
    struct sockaddr_un address;
    char folder[sizeof address.sun_path];
    const char *end = strrchr(path, '/');
    size_t len = (size_t)(end - path);
    if (len == 0)
        return 0;
    memcpy(folder, path, len);
    folder[len] = '\0';
    if (mkdir(folder, 0755) < 0)
        return errno == EEXIST ? 0 : -1;
    return geteuid() == 0 ? chown(folder, uid, gid) : 0;
}

/* @return 0, or errno */
static int bind_and_listen(const struct sockaddr_un *address, int backlog, uid_t uid, gid_t gid,
                           struct unix_socket *out)
{
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    mode_t mask = umask(0111);
    bool bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    int failure = errno;
    umask(mask);
    if (bound && (geteuid() != 0 || lchown(address->sun_path, uid, gid) == 0) &&
        lstat(address->sun_path, &st) == 0 && listen(fd, backlog) == 0) {
        *out = (struct unix_socket){.fd = fd, .device = st.st_dev, .inode = st.st_ino};
        return 0;
    }
    if (bound) {
        failure = errno;
        unlink(address->sun_path);
    }
    close(fd);
    return failure;
}

int unix_socket_listen(const char *path, int backlog, uid_t uid, gid_t gid,
                       struct unix_socket *socket_out, char *error, size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    memcpy(address.sun_path, path, strlen(path) + 1);
    bool exists = lstat(path, &st) == 0;
    if (exists && !S_ISSOCK(st.st_mode)) {
        snprintf(error, error_size, "cannot listen on unix:%s: there is a file that is no socket",
                 path);
        return -1;
    }
    if (exists && is_alive(&address)) {
        snprintf(error, error_size,
                 "cannot listen on unix:%s: another program listens there (if none does, remove "
                 "the file)",
                 path);
        return -1;
    }
    if (exists)
        unlink(path);
    int failure = make_folder(path, uid, gid) < 0 ? errno : 0;
    if (failure == 0)
        failure = bind_and_listen(&address, backlog, uid, gid, socket_out);
    if (failure == 0)
        return 0;
    snprintf(error, error_size, "cannot listen on unix:%s: %s", path, strerror(failure));
    return -1;
}

void unix_socket_remove(const struct unix_socket *socket, const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && st.st_dev == socket->device && st.st_ino == socket->inode)
        unlink(path);
}

bool unix_socket_user(int fd, char *name, size_t size)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    char buffer[4096];
    struct passwd entry, *found = NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    if (getpwuid_r(peer.uid, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL)
        snprintf(name, size, "%s", found->pw_name);
    else
        snprintf(name, size, "uid %u", (unsigned)peer.uid);
    return true;
}
