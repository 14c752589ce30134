/* tests/crash/shim_record.c - preloaded: writes down what the process does to one file (cut_log.h).
 *
 * The file is known by its inode, so that all its descriptors count. Calls go straight to the
 * kernel. What could change the file unseen (a shared writable mapping, an append, an unknown kind
 * of fallocate) ends the process. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/cut_log.h"

#define SYNC_EVERY  11 /* one in so many fails, when faults are wanted */
#define WRITE_EVERY 101
#define META_EVERY  13

/* Preloaded functions have no other place for it. */
static struct {
    pthread_mutex_t lock;
    const char *target;
    const char *birth;
    dev_t device;
    ino_t inode; /* 0: the file is not there yet */
    int log;
    unsigned sync_us;
    uint64_t call;
    uint64_t random; /* 0: no faults */
    int misery; /* so many calls from now are more likely to fail: what follows a failed meta page
                 */
} shim = {.lock = PTHREAD_MUTEX_INITIALIZER, .log = -1};

static _Noreturn void give_up(const char *what)
{
    (void)dprintf(2, "shim_record: %s\n", what);
    _exit(70);
}

__attribute__((constructor)) static void shim_begin(void)
{
    const char *path = getenv("CUT_LOG");
    const char *sync_us = getenv("CUT_SYNC_US");
    const char *faults = getenv("CUT_FAULTS");
    shim.target = getenv("CUT_TARGET");
    shim.birth = getenv("CUT_BIRTH");
    if (path == NULL || shim.target == NULL || shim.birth == NULL)
        return;
    shim.sync_us = sync_us != NULL ? (unsigned)strtoul(sync_us, NULL, 10) : 0;
    shim.random = faults != NULL ? strtoull(faults, NULL, 10) | 1 : 0;
    shim.log =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (shim.log < 0)
        give_up("cannot open CUT_LOG");
}

static void log_bytes(const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len > 0) {
        long n = syscall(SYS_write, shim.log, p, len);
        if (n <= 0)
            give_up("cannot write CUT_LOG");
        p += n;
        len -= (size_t)n;
    }
}

/* Under the lock. */
static void log_record(const struct cut_record *record, const struct iovec *iov, int count)
{
    uint64_t left = record->len;
    log_bytes(record, sizeof *record);
    for (int i = 0; i < count && left > 0; i++) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : (size_t)left;
        log_bytes(iov[i].iov_base, part);
        left -= part;
    }
}

static bool is_target(int fd)
{
    struct stat st;
    if (shim.log < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    (void)pthread_mutex_lock(&shim.lock);
    struct stat target;
    if (shim.inode == 0 && (stat(shim.target, &target) == 0 || stat(shim.birth, &target) == 0)) {
        shim.device = target.st_dev;
        shim.inode = target.st_ino;
    }
    bool same = shim.inode != 0 && st.st_ino == shim.inode && st.st_dev == shim.device;
    (void)pthread_mutex_unlock(&shim.lock);
    return same;
}

static uint64_t begin(struct cut_record record, const struct iovec *iov, int count)
{
    (void)pthread_mutex_lock(&shim.lock);
    record.call = ++shim.call;
    log_record(&record, iov, count);
    (void)pthread_mutex_unlock(&shim.lock);
    return record.call;
}

static void end(uint64_t call, int64_t result)
{
    struct cut_record record = {.kind = CUT_END, .call = call, .result = result};
    int error = errno;
    (void)pthread_mutex_lock(&shim.lock);
    log_record(&record, NULL, 0);
    (void)pthread_mutex_unlock(&shim.lock);
    errno = error;
}

/* One in `every`, and one in three after a failed synced write. */
static bool fails(unsigned every)
{
    if (shim.random == 0)
        return false;
    (void)pthread_mutex_lock(&shim.lock);
    shim.random = shim.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    unsigned roll = (unsigned)(shim.random >> 33);
    bool yes = shim.misery > 0 ? roll % 3 == 0 : roll % every == 0;
    shim.misery -= shim.misery > 0 ? 1 : 0;
    if (yes && every == META_EVERY)
        shim.misery = 3;
    (void)pthread_mutex_unlock(&shim.lock);
    return yes;
}

/* ---- writes ---- */

static ssize_t record_write(int fd, const struct iovec *iov, int count, off_t offset, bool moves)
{
    struct cut_record record = {.kind = CUT_WRITE, .offset = (uint64_t)offset};
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    long result;
    if ((flags & O_APPEND) != 0)
        give_up("the file is written by appending");
    for (int i = 0; i < count; i++)
        record.len += iov[i].iov_len;
    record.flags = (flags & O_DSYNC) != 0 ? CUT_DSYNC : 0;
    uint64_t call = begin(record, iov, count);
    bool broken = fails(record.flags != 0 ? META_EVERY : WRITE_EVERY);
    if (broken && record.flags == 0) { /* nothing of it is there, for anybody */
        errno = EIO;
        result = -1;
    } else {
        result = moves ? syscall(SYS_writev, fd, iov, count)
                       : syscall(SYS_pwritev, fd, iov, count, offset, 0L);
        if (broken) { /* the page cache has it, the disk perhaps */
            errno = EIO;
            result = -1;
        }
    }
    end(call, result);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    struct iovec iov = {(void *)bytes, len};
    if (!is_target(fd))
        return syscall(SYS_write, fd, bytes, len);
    return record_write(fd, &iov, 1, syscall(SYS_lseek, fd, 0L, SEEK_CUR), true);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (!is_target(fd))
        return syscall(SYS_writev, fd, iov, count);
    return record_write(fd, iov, count, syscall(SYS_lseek, fd, 0L, SEEK_CUR), true);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    struct iovec iov = {(void *)bytes, len};
    if (!is_target(fd))
        return syscall(SYS_pwrite64, fd, bytes, len, offset);
    return record_write(fd, &iov, 1, offset, false);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset)
{
    return pwrite(fd, bytes, len, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (!is_target(fd))
        return syscall(SYS_pwritev, fd, iov, count, offset, 0L);
    return record_write(fd, iov, count, offset, false);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
    return pwritev(fd, iov, count, offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (!is_target(fd))
        return syscall(SYS_pwritev2, fd, iov, count, offset, 0L, flags);
    give_up("pwritev2 is not understood");
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len,
                        unsigned flags)
{
    if (!is_target(out))
        return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    give_up("copy_file_range is not understood");
}

/* ---- size and holes ---- */

int ftruncate(int fd, off_t size)
{
    if (!is_target(fd))
        return (int)syscall(SYS_ftruncate, fd, size);
    uint64_t call = begin((struct cut_record){.kind = CUT_SIZE, .offset = (uint64_t)size}, NULL, 0);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    end(call, result);
    return result;
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    struct cut_record record = {.kind = CUT_PUNCH, .offset = (uint64_t)offset};
    if (!is_target(fd))
        return (int)syscall(SYS_fallocate, fd, mode, offset, len);
    if (mode == 0) {
        record.kind = CUT_GROW;
        record.offset += (uint64_t)len;
    } else if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
        give_up("this fallocate is not understood");
    } else {
        record.len = (uint64_t)len;
    }
    uint64_t call = begin(record, NULL, 0);
    int result = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    end(call, result);
    return result;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    return fallocate(fd, mode, offset, len);
}

void *mmap(void *where, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && (protection & PROT_WRITE) != 0 && (flags & MAP_TYPE) != MAP_PRIVATE &&
        is_target(fd))
        give_up("the file is mapped to be written");
    return (void *)syscall(SYS_mmap, where, len, protection, flags, fd, offset);
}

void *mmap64(void *where, size_t len, int protection, int flags, int fd, off64_t offset)
{
    return mmap(where, len, protection, flags, fd, offset);
}

/* ---- syncs ---- */

static int record_sync(int fd, long number)
{
    struct stat st;
    if (shim.log >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        uint64_t folder = begin(
            (struct cut_record){.kind = CUT_FOLDER_SYNC, .offset = (uint64_t)st.st_ino}, NULL, 0);
        end(folder, 0);
        return 0;
    }
    if (!is_target(fd))
        return (int)syscall(number, fd);
    uint64_t call = begin((struct cut_record){.kind = CUT_SYNC}, NULL, 0);
    if (shim.sync_us > 0)
        (void)usleep(shim.sync_us);
    int result = fails(SYNC_EVERY) ? -1 : 0;
    end(call, result);
    if (result != 0)
        errno = EIO;
    return result;
}

int fsync(int fd)
{
    return record_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return record_sync(fd, SYS_fdatasync);
}

/* ---- its name ---- */

int rename(const char *from, const char *to)
{
    bool named = shim.log >= 0 && strcmp(to, shim.target) == 0;
    uint64_t call = named ? begin((struct cut_record){.kind = CUT_NAME}, NULL, 0) : 0;
    int result = (int)syscall(SYS_rename, from, to);
    if (named)
        end(call, result);
    return result;
}

/* ---- the process's own ---- */

void cut_mark(const void *bytes, uint64_t len);
void cut_mark(const void *bytes, uint64_t len)
{
    struct iovec iov = {(void *)bytes, len};
    (void)begin((struct cut_record){.kind = CUT_MARK, .len = len}, &iov, 1);
}
