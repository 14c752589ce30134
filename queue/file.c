/* queue/file.c - making the database's file, and being sure of its meta pages. */
#include "queue/file.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/bytes.h"

static void path_of(char path[4096], const char *folder, const char *name)
{
    (void)snprintf(path, 4096, "%s/%s", folder, name);
}

int queue_file_sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0
                               : errno; /* a parent that we may not read is its owner's matter */
    int rc = fsync(fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP ? 0 : errno;
    (void)close(fd);
    return rc;
}

/* An empty database, synced. */
static int write_empty(const char *path)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != 0)
        return rc;
    rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
    if (rc == 0)
        rc = mdb_env_sync(env, 1);
    mdb_env_close(env);
    return rc;
}

int queue_file_make(const char *folder)
{
    char path[4096];
    char begun[4096];
    struct stat st;
    path_of(path, folder, "data.mdb");
    path_of(begun, folder, "data.new");
    if (stat(path, &st) == 0 && st.st_size > 0)
        return 0;
    (void)unlink(begun);
    int rc = write_empty(begun);
    if (rc == 0 && rename(begun, path) != 0)
        rc = errno;
    if (rc != 0)
        (void)unlink(begun);
    return rc;
}

int queue_file_fill_lock(const char *folder, size_t bytes)
{
    char path[4096];
    struct stat st;
    int rc = 0;
    path_of(path, folder, "lock.mdb");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0)
        rc = errno;
    else if ((size_t)st.st_blocks * 512 < bytes)
        rc = posix_fallocate(fd, 0, (off_t)bytes);
    /* Older versions left it with holes: what had blocks sufficed so far. */
    if ((rc == ENOSPC || rc == EDQUOT) && st.st_blocks > 0)
        rc = 0;
    (void)close(fd);
    return rc;
}

static int rewrite(int fd, uint8_t *bytes, size_t size)
{
    ssize_t len = pread(fd, bytes, size, 0);
    if (len < 0)
        return errno;
    for (size_t at = 0; at < (size_t)len;) {
        ssize_t n = pwrite(fd, bytes + at, (size_t)len - at, (off_t)at);
        if (n <= 0)
            return n < 0 ? errno : EIO;
        at += (size_t)n;
    }
    return fdatasync(fd) == 0 ? 0 : errno;
}

int queue_file_settle(const char *folder)
{
    char path[4096];
    size_t size = 2 * (size_t)sysconf(_SC_PAGESIZE); /* LMDB's page is the system's */
    path_of(path, folder, "data.mdb");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    uint8_t *bytes = queue_alloc(size);
    int rc = rewrite(fd, bytes, size);
    free(bytes);
    (void)close(fd);
    return rc;
}
