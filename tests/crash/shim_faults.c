/* tests/crash/shim_faults.c - preloaded: makes the calls on one file fail while a control file says
 * so.
 *
 * FAULT_TARGET names the file (it may not exist yet), FAULT_CONTROL a file of at least 16 bytes
 * that is mapped: u32 which calls fail (enum fault, any of them together), u32 one in how many (0,
 * 1: each), u32 how many have failed, u32 unused. Whoever tests writes the first two at any time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define META_BYTES 8192

enum fault {
    FAULT_WRITE_ENOSPC = 1, /* of data */
    FAULT_WRITE_EIO = 2,
    FAULT_WRITE_SHORT = 4, /* half of it is written, and the call says so */
    FAULT_SYNC_EIO = 8,
    FAULT_META_EIO = 16,     /* of a write through a synced descriptor: nothing arrives */
    FAULT_META_LATE = 32,    /* it arrives, but the call fails */
    FAULT_PAGES_EIO = 128,   /* of the two meta pages by the other descriptor */
    FAULT_OTHER_ENOSPC = 64, /* no room for other files beside it: the ballast */
};

struct control {
    _Atomic uint32_t faults;
    _Atomic uint32_t every;
    _Atomic uint32_t hits;
    _Atomic uint32_t calls;
};

/* Preloaded functions have no other place for it. */
static struct control *control;
static const char *target;

__attribute__((constructor)) static void shim_begin(void)
{
    const char *path = getenv("FAULT_CONTROL");
    target = getenv("FAULT_TARGET");
    if (path == NULL || target == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED
                       : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        (void)dprintf(2, "shim_faults: no control file\n");
        _exit(70);
    }
    control = map;
    (void)close(fd);
}

static bool is_target(int fd)
{
    struct stat st;
    struct stat there;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && stat(target, &there) == 0 &&
           st.st_ino == there.st_ino && st.st_dev == there.st_dev;
}

/* @return whether one of the wanted faults strikes now */
static bool strikes(int fd, uint32_t wanted)
{
    int error = errno;
    if (control == NULL || (atomic_load(&control->faults) & wanted) == 0)
        return false;
    uint32_t every = atomic_load(&control->every);
    bool hit =
        is_target(fd) && (every <= 1 || atomic_fetch_add(&control->calls, 1) % every == every - 1);
    if (hit)
        atomic_fetch_add(&control->hits, 1);
    errno = error;
    return hit;
}

static bool is_synced(int fd)
{
    return control != NULL && ((int)syscall(SYS_fcntl, fd, F_GETFL) & O_DSYNC) != 0;
}

static ssize_t fail(int error)
{
    errno = error;
    return -1;
}

static ssize_t do_write(int fd, const struct iovec *iov, int count, off_t offset, bool moves)
{
    return moves ? syscall(SYS_writev, fd, iov, count)
                 : syscall(SYS_pwritev, fd, iov, count, offset, 0L);
}

static ssize_t write_half(int fd, const struct iovec *iov, off_t offset, bool moves)
{
    struct iovec half = {iov[0].iov_base, iov[0].iov_len / 2};
    return do_write(fd, &half, 1, offset, moves);
}

static ssize_t any_write(int fd, const struct iovec *iov, int count, off_t offset, bool moves)
{
    if (is_synced(fd)) {
        if (strikes(fd, FAULT_META_EIO))
            return fail(EIO);
        if (strikes(fd, FAULT_META_LATE)) {
            (void)do_write(fd, iov, count, offset, moves);
            return fail(EIO);
        }
        return do_write(fd, iov, count, offset, moves);
    }
    if (!moves && offset < META_BYTES && strikes(fd, FAULT_PAGES_EIO))
        return fail(EIO);
    if (strikes(fd, FAULT_WRITE_ENOSPC))
        return fail(ENOSPC);
    if (strikes(fd, FAULT_WRITE_EIO))
        return fail(EIO);
    if (strikes(fd, FAULT_WRITE_SHORT))
        return write_half(fd, iov, offset, moves);
    return do_write(fd, iov, count, offset, moves);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    struct iovec iov = {(void *)bytes, len};
    if (control == NULL || atomic_load(&control->faults) == 0)
        return syscall(SYS_write, fd, bytes, len);
    return any_write(fd, &iov, 1, 0, true);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return any_write(fd, iov, count, 0, true);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    struct iovec iov = {(void *)bytes, len};
    return any_write(fd, &iov, 1, offset, false);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset)
{
    return pwrite(fd, bytes, len, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return any_write(fd, iov, count, offset, false);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (control != NULL && (atomic_load(&control->faults) & FAULT_OTHER_ENOSPC) != 0)
        return (int)fail(ENOSPC);
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int fdatasync(int fd)
{
    return strikes(fd, FAULT_SYNC_EIO) ? (int)fail(EIO) : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return strikes(fd, FAULT_SYNC_EIO) ? (int)fail(EIO) : (int)syscall(SYS_fsync, fd);
}
