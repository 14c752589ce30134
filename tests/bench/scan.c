/* tests/bench/scan.c - how fast every message of a queue is looked at: queue_scan, by one thread.
 * The first turn reads from the disk, if the page cache does not hold the store. */
#include <stdio.h>
#include <stdlib.h>

#include "queue/queue.h"
#include "tests/bench/bench.h"

#define TURNS 4

struct seen {
    size_t messages;
    size_t units;
    uint64_t bytes;
};

static bool look(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    struct seen *seen = ctx;
    (void)id;
    seen->messages++;
    seen->units += envelope->unit_count;
    seen->bytes += envelope->body_bytes;
    return true;
}

int scan_main(int argc, char **argv)
{
    if (argc != 1) {
        (void)fprintf(stderr, "usage: queue_bench scan FOLDER\n");
        return 2;
    }
    struct load *load = load_open(argv[0]);
    for (int turn = 0; turn < TURNS; turn++) {
        struct seen seen = {0};
        uint64_t after = 0;
        size_t steps = 0;
        double longest_s = 0;
        int rc = 1;
        double begun_s = bench_now_s();
        while (rc == 1) {
            double step_s = bench_now_s();
            rc = queue_scan(load_queue(load), &after, look, &seen);
            step_s = bench_now_s() - step_s;
            longest_s = step_s > longest_s ? step_s : longest_s;
            steps++;
        }
        bench_check(rc == 0, "queue_scan");
        double took_s = bench_now_s() - begun_s;
        (void)printf("%zu messages, %zu units, %llu MiB in %.3f s: %.0f messages/s; %zu steps, the "
                     "longest %.1f ms\n",
                     seen.messages, seen.units, (unsigned long long)(seen.bytes >> 20), took_s,
                     (double)seen.messages / took_s, steps, longest_s * 1e3);
    }
    load_close(&load);
    return 0;
}
