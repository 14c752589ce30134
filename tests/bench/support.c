/* tests/bench/support.c - clock, memory, medians, folders. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"

double bench_now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

_Noreturn void bench_fail(const char *what)
{
    (void)fprintf(stderr, "queue_bench: %s\n", what);
    exit(1);
}

void bench_check(bool ok, const char *what)
{
    if (!ok)
        bench_fail(what);
}

void *bench_alloc(size_t size)
{
    void *p = calloc(1, size > 0 ? size : 1);
    bench_check(p != NULL, "out of memory");
    return p;
}

void *bench_resize(void *p, size_t size)
{
    void *q = realloc(p, size > 0 ? size : 1);
    bench_check(q != NULL, "out of memory");
    return q;
}

uint64_t bench_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = *seed ^ *seed >> 32;
    return (x * UINT64_C(0x9e3779b97f4a7c15)) >> 16;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_median(double *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- folders ---- */

static void path_join(char path[4096], const char *folder, const char *name)
{
    int len = snprintf(path, 4096, "%s/%s", folder, name);
    bench_check(len > 0 && len < 4096, "a path is too long");
}

void bench_folder_remove(const char *folder)
{
    char path[4096];
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        path_join(path, folder, entry->d_name);
        (void)unlink(path); /* "." and ".." stay */
    }
    (void)closedir(dir);
    bench_check(rmdir(folder) == 0, "cannot remove a folder of an earlier measurement");
}

static void copy_file(const char *from, const char *to)
{
    struct stat st;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bench_check(in >= 0 && out >= 0 && fstat(in, &st) == 0, "cannot copy a file");
    while (lseek(in, 0, SEEK_CUR) < st.st_size)
        bench_check(sendfile(out, in, NULL, (size_t)1 << 30) > 0, "cannot copy a file");
    bench_check(fsync(out) == 0, "cannot copy a file");
    (void)close(in);
    (void)close(out);
}

void bench_folder_copy(const char *from, const char *to)
{
    char source[4096];
    char target[4096];
    bench_folder_remove(to);
    bench_check(mkdir(to, 0700) == 0, "cannot make a folder");
    DIR *dir = opendir(from);
    bench_check(dir != NULL, "cannot read a folder");
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        path_join(source, from, entry->d_name);
        path_join(target, to, entry->d_name);
        copy_file(source, target);
    }
    (void)closedir(dir);
}

uint64_t bench_file_blocks(const char *folder, const char *name)
{
    char path[4096];
    struct stat st;
    path_join(path, folder, name);
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}
