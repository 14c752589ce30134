/* mta/mtactl/queue_file.c - see queue_private.h. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/mtactl/queue_private.h"

static int fail(const char *what, const char *path, char *error, size_t size)
{
    (void)snprintf(error, size, "%s %s: %s", what, path, strerror(errno));
    return -1;
}

/* The new file takes the name: /dev/null must stay what it is. */
static bool may_be_replaced(const char *path)
{
    struct stat st;
    return lstat(path, &st) != 0 || S_ISREG(st.st_mode);
}

int ctl_file_begin(struct ctl_file *file, const char *path, char *error, size_t size)
{
    size_t len = strlen(path) + sizeof ".part";
    *file = (struct ctl_file){.path = path, .fd = -1};
    if (!may_be_replaced(path)) {
        (void)snprintf(error, size, "%s is no ordinary file: give the name of one", path);
        return -1;
    }
    file->part = mem_alloc(len);
    (void)snprintf(file->part, len, "%s.part", path);
    (void)unlink(file->part); /* of a backup that was cut short */
    file->fd = open(file->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return file->fd >= 0 ? 0 : fail("cannot make", file->part, error, size);
}

bool ctl_file_add(struct ctl_file *file, const void *bytes, size_t len)
{
    const char *next = bytes;
    while (len > 0) {
        ssize_t n = write(file->fd, next, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            file->failure = errno;
            return false;
        }
        next += n;
        len -= (size_t)n;
        file->bytes += (uint64_t)n;
    }
    return true;
}

/* The new name must survive a power cut as the bytes do. */
static void sync_folder_of(const char *path)
{
    char *copy = str_dup(str_from(path));
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    free(copy);
}

int ctl_file_end(struct ctl_file *file, char *error, size_t size)
{
    if (fsync(file->fd) != 0)
        return fail("cannot write", file->part, error, size);
    int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0 || rename(file->part, file->path) != 0) {
        (void)fail("cannot make", file->path, error, size);
        (void)unlink(file->part);
        return -1;
    }
    sync_folder_of(file->path);
    return 0;
}

void ctl_file_close(struct ctl_file *file)
{
    if (file->fd >= 0) {
        (void)close(file->fd);
        (void)unlink(file->part);
    }
    file->fd = -1;
    free(file->part);
    file->part = NULL;
}
