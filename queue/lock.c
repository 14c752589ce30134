/* queue/lock.c - the lock of a queue folder. Start and end of the process only. */
#include "queue/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/file.h"

struct identity {
    char host[64];
    char space[64]; /* of pids: "pid:[4026531836]" */
};

static int fail(char *error, size_t size, const char *what, const char *path, int err)
{
    (void)snprintf(error, size, "%s %s: %s", what, path, strerror(err));
    return QUEUE_ERR_IO;
}

static int sync_parent(const char *folder)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/..", folder);
    return queue_file_sync_folder(path);
}

static int make_folder(const char *folder, char *error, size_t size)
{
    struct stat st;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return fail(error, size, "cannot make the queue folder", folder, errno);
    if (stat(folder, &st) != 0)
        return fail(error, size, "cannot look at the queue folder", folder, errno);
    if (!S_ISDIR(st.st_mode))
        return fail(error, size, "the queue folder", folder, ENOTDIR);
    if (access(folder, R_OK | W_OK | X_OK) != 0)
        return fail(error, size, "cannot write in the queue folder", folder, errno);
    /* A new folder's name must survive a power cut as its content does; whoever made it may have
     * been killed before this. */
    int rc = sync_parent(folder);
    return rc == 0 ? 0 : fail(error, size, "cannot sync the folder above", folder, rc);
}

/* Who writes this file: host and pid namespace, so that a holder is not sought where it is not. */
static void describe_self(struct identity *self)
{
    memset(self, 0, sizeof *self);
    if (gethostname(self->host, sizeof self->host - 1) != 0)
        self->host[0] = '\0';
    if (readlink("/proc/self/ns/pid", self->space, sizeof self->space - 1) < 0)
        self->space[0] = '\0';
}

/* The content of the file: an open-file-description lock does not tell who holds it. */
static void name_holder(int fd, const char *folder, char *error, size_t size)
{
    char text[256] = "";
    char pid[16] = "";
    struct identity self;
    struct identity holder = {"", ""};
    describe_self(&self);
    if (pread(fd, text, sizeof text - 1, 0) <= 0 ||
        sscanf(text, "%15[0-9] %63[!-~] %63[!-~]", pid, holder.host, holder.space) < 1) {
        (void)snprintf(error, size, "the queue %s is in use by another process", folder);
        return;
    }
    bool known = holder.host[0] != '\0';
    bool far = known && strcmp(holder.host, self.host) != 0;
    bool apart = known && strcmp(holder.space, self.space) != 0;
    (void)snprintf(error, size, "the queue %s is in use by process %s%s%s%s", folder, pid,
                   far ? " on host " : "", far ? holder.host : "",
                   apart && !far ? " of another container (pid namespace)" : "");
}

/* Over what the last one wrote, so that a full disk needs no block for it. */
static int write_holder(int fd)
{
    char text[256];
    struct identity self;
    describe_self(&self);
    int len = snprintf(text, sizeof text, "%ld %s %s\n", (long)getpid(),
                       self.host[0] != '\0' ? self.host : "-", self.space);
    return pwrite(fd, text, (size_t)len, 0) == len && ftruncate(fd, len) == 0 ? 0 : -1;
}

/* Only a lock that was refused because somebody has it names a holder. */
static int refuse(int fd, const char *folder, const char *path, char *error, size_t size)
{
    int err = errno;
    if (err == EAGAIN || err == EACCES) {
        name_holder(fd, folder, error, size);
        return QUEUE_ERR_LOCKED;
    }
    if (err == ENOLCK || err == ENOSYS || err == EINVAL || err == EOPNOTSUPP) {
        (void)snprintf(error, size,
                       "cannot lock %s: %s: the file system has no locks, so two daemons could not "
                       "be kept apart; put the queue on another one",
                       path, strerror(err));
        return QUEUE_ERR_IO;
    }
    return fail(error, size, "cannot lock", path, err);
}

int queue_lock_take(const char *folder, int *fd_out, char *error, size_t error_size)
{
    char path[4096];
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
        rc = refuse(fd, folder, path, error, error_size);
        (void)close(fd);
        return rc;
    }
    if (write_holder(fd) != 0) {
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
