/* tests/bench/written.c - how many bytes are handed to the kernel for writing: the C library's
 * functions that LMDB calls, taken over by the program and counted. /proc/self/io is no use for it:
 * where the page cache holds large folios it counts whole ones. */
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/bench.h"

static _Atomic uint64_t written;
static _Atomic uint64_t writes;

static ssize_t counted(long result)
{
    if (result > 0)
        atomic_fetch_add(&written, (uint64_t)result);
    atomic_fetch_add(&writes, 1);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    return counted(syscall(SYS_write, fd, bytes, len));
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    return counted(syscall(SYS_pwrite64, fd, bytes, len, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return counted(syscall(SYS_writev, fd, parts, count));
}

uint64_t bench_written(void)
{
    return atomic_load(&written);
}

uint64_t bench_writes(void)
{
    return atomic_load(&writes);
}
