/* tests/bench/compact.c - queue_bench compact FOLDER [MIB]: space given back while mail flows.
 *
 * Fills the queue with MIB (1024) of messages of 64 KiB, removes all but one in 50, and lets ten
 * sessions hand in messages of 4 KiB: for a while alone, then beside a compact, then beside a
 * check. Then measures a backup. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "queue/maintain.h"
#include "tests/bench/bench.h"

#define MIB      (1u << 20)
#define BIG      (64u << 10)
#define SMALL    4096u
#define KEPT     50
#define SESSIONS 10

struct side { /* what goes on beside the load */
    struct load *load;
    double took_s;
    struct queue_compact_progress compact;
    struct queue_check_result check;
};

static void ignore_done(int result, void *ctx)
{
    *(int *)ctx = result;
}

static void ignore_wake(void *ctx)
{
    (void)ctx;
}

static void *compact_it(void *arg)
{
    struct side *side = arg;
    struct queue *queue = load_queue(side->load);
    struct queue_port *port = queue_port_new(queue, ignore_wake, NULL);
    int result = 0;
    double begun = bench_now_s();
    bench_check(queue_compact_start(queue, port, ignore_done, &result) == 0, "compact");
    do {
        usleep(1000);
        queue_compact_progress(queue, &side->compact);
    } while (side->compact.going);
    side->took_s = bench_now_s() - begun;
    usleep(1000); /* the answer is posted after */
    queue_port_run(port);
    bench_check(result == 0, queue_error_text(result));
    queue_port_free(&port);
    return NULL;
}

static void show_line(const char *line, void *ctx)
{
    (void)ctx;
    (void)printf("  %s\n", line);
}

static void *check_it(void *arg)
{
    struct side *side = arg;
    struct queue_patience patience = {0};
    char error[512];
    double begun = bench_now_s();
    if (queue_check_open(load_queue(side->load), &patience, show_line, NULL, &side->check, error,
                         sizeof error) != 0)
        (void)printf("  %s\n", error);
    side->took_s = bench_now_s() - begun;
    return NULL;
}

static void run_load(struct load *load, double seconds, const char *what)
{
    struct load_plan plan = {.mode = LOAD_DELIVER,
                             .sessions = SESSIONS,
                             .seconds = seconds,
                             .bytes = SMALL,
                             .domains = 100};
    struct load_result result = {0};
    load_run(load, &plan, &result);
    (void)printf("%-16s %7.0f accepted/s, p50 %6.1f ms, p99 %6.1f ms\n", what,
                 (double)result.messages / result.took_s, result.p50_ms, result.p99_ms);
    load_result_deinit(&result);
}

static void run_beside(struct side *side, void *(*body)(void *), double seconds, const char *what)
{
    pthread_t thread;
    bench_check(pthread_create(&thread, NULL, body, side) == 0, "thread");
    run_load(side->load, seconds, what);
    bench_check(pthread_join(thread, NULL) == 0, "join");
}

static bool count_bytes(const void *bytes, size_t len, void *ctx)
{
    (void)bytes;
    *(uint64_t *)ctx += len;
    return true;
}

static void run_backup(struct load *load)
{
    struct queue_patience patience = {0};
    struct queue_backup_result result = {0};
    uint64_t bytes = 0;
    char error[512];
    double begun = bench_now_s();
    bench_check(queue_backup(load_queue(load), &patience, count_bytes, &bytes, &result, error,
                             sizeof error) == 0,
                "backup");
    double took = bench_now_s() - begun;
    (void)printf("backup: %llu messages, %.1f MiB in %.1f s\n", (unsigned long long)result.messages,
                 (double)bytes / MIB, took);
}

int compact_main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    size_t count = mib * (MIB / BIG);
    if (argc < 1 || count == 0) {
        (void)fprintf(stderr, "usage: queue_bench compact FOLDER [MIB]\n");
        return 2;
    }
    bench_folder_remove(argv[0]);
    struct side side = {.load = load_open(argv[0])};
    struct load_plan fill = {
        .mode = LOAD_KEEP, .sessions = 50, .messages = count, .bytes = BIG, .domains = 100};
    struct load_result result = {0};
    load_run(side.load, &fill, &result);
    load_result_deinit(&result);
    load_shrink(side.load, count / KEPT);
    run_load(side.load, 5, "alone");
    double before = (double)bench_file_blocks(argv[0], "data.mdb") / MIB;
    run_beside(&side, compact_it, 5, "with a compact");
    (void)printf("compact: %.0f MiB -> %.0f MiB on disk in %.1f s\n", before,
                 (double)bench_file_blocks(argv[0], "data.mdb") / MIB, side.took_s);
    run_beside(&side, check_it, 5, "with a check");
    (void)printf("check: %llu messages, %llu problems in %.1f s\n",
                 (unsigned long long)side.check.messages, (unsigned long long)side.check.problems,
                 side.took_s);
    run_backup(side.load);
    load_close(&side.load);
    bench_folder_remove(argv[0]);
    return 0;
}
