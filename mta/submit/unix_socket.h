/* mta/submit/unix_socket.h - a listening socket in the file system. Main thread, before others
 * start: the file's mode is set by way of the process's umask. */
#ifndef MTA_SUBMIT_UNIX_SOCKET_H
#define MTA_SUBMIT_UNIX_SOCKET_H

#include <sys/types.h>

#include "mta/base/str.h"

/* Which file is ours: somebody may have put another in its place since. */
struct unix_socket {
    int fd;
    dev_t device;
    ino_t inode;
};

/**
 * Make the socket and listen on it.
 *
 * @param path absolute, fits a socket's address
 * @param uid, gid who gets it, and its folder if that is missing and is made (one level, mode
 *        0755), when called as root
 * @return 0; -1: error says why
 *
 * Everybody may connect (mode 0666): who connects is known by his account. A socket of the same
 * name is replaced only if nobody listens there; any other file stays and is an error.
 */
MUST_USE int unix_socket_listen(const char *path, int backlog, uid_t uid, gid_t gid,
                                struct unix_socket *socket_out, char *error, size_t error_size);

/* Remove the file, if it is still the one that was made. Where our rights do not suffice it stays,
 * and the next start replaces it. The descriptor is left alone. */
void unix_socket_remove(const struct unix_socket *socket, const char *path);

/* The account of a connection's other end (SO_PEERCRED): its name, or "uid 1234" where it has none.
 * @return false: not known */
MUST_USE bool unix_socket_user(int fd, char *name, size_t size);

#endif
