/* tests/bench/log.c - the least a durable queue could do: append, fdatasync. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define ZEROS ((size_t)1 << 20)

static void write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        bench_check(n > 0, "cannot write the log");
        bytes += n;
        len -= (size_t)n;
    }
}

static void write_zeros(int fd, size_t len)
{
    char *zeros = bench_alloc(ZEROS);
    for (size_t at = 0; at < len; at += ZEROS)
        write_all(fd, zeros, ZEROS);
    free(zeros);
    bench_check(fsync(fd) == 0 && lseek(fd, 0, SEEK_SET) == 0, "cannot write the log");
}

double log_run(const char *path, size_t message_bytes, const uint32_t *batches, size_t count,
               bool written_before)
{
    size_t total = 0;
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        total += batches[i];
        most = batches[i] > most ? batches[i] : most;
    }
    char *message = bench_alloc(message_bytes);
    char *buffer = bench_alloc(most * message_bytes);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bench_check(fd >= 0, "cannot make the log");
    memset(message, 'x', message_bytes);
    if (written_before)
        write_zeros(fd, total * message_bytes);
    double begun_s = bench_now_s();
    for (size_t i = 0; i < count; i++) {
        for (uint32_t m = 0; m < batches[i]; m++)
            memcpy(buffer + m * message_bytes, message, message_bytes);
        write_all(fd, buffer, batches[i] * message_bytes);
        bench_check(fdatasync(fd) == 0, "cannot sync the log");
    }
    double took_s = bench_now_s() - begun_s;
    (void)close(fd);
    (void)unlink(path);
    free(buffer);
    free(message);
    return took_s;
}
