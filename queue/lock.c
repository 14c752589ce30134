/* queue/lock.c - the lock of a queue folder. Start and end of the process only. */
#include "queue/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(char *error, size_t size, const char *what, const char *path, int err)
{
    (void)snprintf(error, size, "%s %s: %s", what, path, strerror(err));
    return QUEUE_ERR_IO;
}

/* A new folder's name must survive a power cut as its content does. */
static void sync_parent(const char *folder)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/..", folder);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* best effort: the parent may be on a file system that knows no such sync */
    (void)close(fd);
}

static int make_folder(const char *folder, char *error, size_t size)
{
    struct stat st;
    if (mkdir(folder, 0700) == 0) {
        sync_parent(folder);
        return 0;
    }
    if (errno != EEXIST)
        return fail(error, size, "cannot make the queue folder", folder, errno);
    if (stat(folder, &st) != 0)
        return fail(error, size, "cannot look at the queue folder", folder, errno);
    if (!S_ISDIR(st.st_mode))
        return fail(error, size, "the queue folder", folder, ENOTDIR);
    if (access(folder, R_OK | W_OK | X_OK) != 0)
        return fail(error, size, "cannot write in the queue folder", folder, errno);
    return 0;
}

/* The pid in the file: an open-file-description lock does not tell who holds it. */
static void name_holder(int fd, const char *folder, char *error, size_t size)
{
    char pid[24] = "";
    ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
    size_t digits = got > 0 ? strspn(pid, "0123456789") : 0;
    pid[digits] = '\0';
    (void)snprintf(error, size, "the queue %s is in use by process %s", folder,
                   digits > 0 ? pid : "(unknown)");
}

int queue_lock_take(const char *folder, int *fd_out, char *error, size_t error_size)
{
    char path[4096];
    char pid[24];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = make_folder(folder, error, error_size);
    if (rc < 0)
        return rc;
    if (snprintf(path, sizeof path, "%s/lock", folder) >= (int)sizeof path)
        return fail(error, error_size, "cannot open", folder, ENAMETOOLONG);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(error, error_size, "cannot open", path, errno);
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        rc = QUEUE_ERR_LOCKED;
        if (errno == EAGAIN || errno == EACCES)
            name_holder(fd, folder, error, error_size);
        else
            rc = fail(error, error_size, "cannot lock", path, errno);
        (void)close(fd);
        return rc;
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        rc = fail(error, error_size, "cannot write", path, errno);
        (void)close(fd);
        return rc;
    }
    *fd_out = fd;
    return 0;
}

void queue_lock_drop(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}
