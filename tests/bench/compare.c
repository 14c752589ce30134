/* tests/bench/compare.c - in one run, in turns: the queue, a bare LMDB loop, an append log, one
 * commit a message; on a fresh store and on a churned one. Only ratios within the run are judged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/bench/bench.h"

#define BYTES      4096
#define ROUNDS_MAX 9

/* The queue with 100 sessions must do at least so much of each, and more than the one commit a
 * message. */
#define OF_BARE        0.60
#define OF_LOG_FRESH   0.40
#define OF_LOG_CHURNED 0.20
#define TIMES_ONE      8.0

struct scale {
    size_t rounds;
    double seconds;        /* a run of the queue */
    size_t churn_messages; /* depth of the churned store */
};
static const struct scale full = {5, 1.5, 60000};
static const struct scale quick = {3, 0.7, 15000};

enum what { QUEUE, BARE, LOG_GROWING, LOG_WRITTEN, ONE, WHATS };
static const char *const names[] = {
    [QUEUE] = "queue",
    [BARE] = "bare LMDB, same batches",
    [LOG_GROWING] = "append log, growing file",
    [LOG_WRITTEN] = "append log, file written before",
    [ONE] = "bare LMDB, one commit a message",
};

struct series {                     /* one number of sessions on one kind of store */
    double rate[WHATS][ROUNDS_MAX]; /* messages/s */
    double p50[ROUNDS_MAX];
    double p99[ROUNDS_MAX];
    double commits[ROUNDS_MAX]; /* a second */
    double batch[ROUNDS_MAX];   /* messages a commit */
    double written[ROUNDS_MAX]; /* KiB a message */
};

struct bench {
    struct scale scale;
    size_t only; /* this number of sessions; 0: 1, 10, 100 and 500 */
    bool fresh_only;
    char folder[3000];
    struct bare_pattern *pattern;
    bool churned;
};

static void path_of(const struct bench *bench, const char *name, char path[4096])
{
    (void)snprintf(path, 4096, "%s/%s", bench->folder, name);
}

/* ---- one round ---- */

static void run_queue(struct bench *bench, size_t sessions, struct load_result *result)
{
    char folder[4096];
    path_of(bench, bench->churned ? "churned" : "fresh", folder);
    if (!bench->churned)
        bench_folder_remove(folder);
    struct load *load = load_open(folder);
    size_t depth = load_waiting(load);
    struct load_plan plan = {
        .sessions = sessions, .seconds = bench->scale.seconds, .bytes = BYTES, .domains = 10000};
    load_run(load, &plan, result);
    if (bench->churned)
        load_shrink(load, depth); /* by delivering any, so that ages stay mixed */
    load_close(&load);
}

static double run_bare(struct bench *bench, const uint32_t *batches, size_t count)
{
    char folder[4096];
    path_of(bench, bench->churned ? "churned-bare" : "fresh-bare", folder);
    if (!bench->churned) {
        bench_folder_remove(folder);
        bench_check(mkdir(folder, 0700) == 0, "cannot make a folder");
    }
    struct bare *bare = bare_open(folder, bench->pattern);
    double took_s = bare_run(bare, batches, count);
    if (bench->churned)
        bare_remove_added(bare);
    bare_close(&bare);
    return took_s;
}

/* So many commits of one message each as fit in the time of a run. */
static double one_rate(struct bench *bench)
{
    enum { STEP = 64 };
    uint32_t ones[STEP];
    char folder[4096];
    size_t count = 0;
    double took_s = 0;
    for (size_t i = 0; i < STEP; i++)
        ones[i] = 1;
    path_of(bench, bench->churned ? "churned-bare" : "fresh-bare", folder);
    struct bare *bare = bare_open(folder, bench->pattern);
    while (took_s < bench->scale.seconds) {
        took_s += bare_run(bare, ones, STEP);
        count += STEP;
    }
    if (bench->churned)
        bare_remove_added(bare);
    bare_close(&bare);
    return (double)count / took_s;
}

static void run_round(struct bench *bench, size_t sessions, size_t round, struct series *series)
{
    struct load_result result;
    char log[4096];
    path_of(bench, "log", log);
    run_queue(bench, sessions, &result);
    double messages = (double)result.messages;
    series->rate[QUEUE][round] = messages / result.took_s;
    series->p50[round] = result.p50_ms;
    series->p99[round] = result.p99_ms;
    series->commits[round] = (double)result.commits / result.took_s;
    series->batch[round] = messages / (double)result.batch_count;
    series->written[round] = result.written / messages / 1024;
    series->rate[BARE][round] = messages / run_bare(bench, result.batches, result.batch_count);
    for (int before = 0; before < 2; before++) {
        double took_s = log_run(log, bare_pattern_bytes(bench->pattern), result.batches,
                                result.batch_count, before == 1);
        series->rate[before == 1 ? LOG_WRITTEN : LOG_GROWING][round] = messages / took_s;
    }
    series->rate[ONE][round] = one_rate(bench);
    load_result_deinit(&result);
}

/* ---- the stores ---- */

static void make_pattern(struct bench *bench)
{
    char folder[4096];
    struct load_result result;
    struct load_plan plan = {.sessions = 1, .messages = 1, .bytes = BYTES, .domains = 10000};
    path_of(bench, "fresh", folder);
    bench_folder_remove(folder);
    struct load *load = load_open(folder);
    load_run(load, &plan, &result);
    load_result_deinit(&result);
    load_close(&load);
    bench->pattern = bare_pattern_read(folder);
}

/* Fill, replace everything three times over at random, deliver half of it at random: the free pages
 * lie everywhere, and what is measured then needs no new ones. */
static void churn(struct bench *bench)
{
    char folder[4096];
    char copy[4096];
    struct load_result result;
    size_t depth = bench->scale.churn_messages;
    struct load_plan plan = {.sessions = 1000, .messages = depth, .domains = 10000};
    path_of(bench, "churned", folder);
    path_of(bench, "churned-bare", copy);
    bench_folder_remove(folder);
    struct load *load = load_open(folder);
    double begun_s = bench_now_s();
    load_run(load, &plan, &result);
    load_result_deinit(&result);
    double full_bytes = (double)bench_file_blocks(folder, "data.mdb");
    plan.mode = LOAD_REPLACE;
    plan.messages = 3 * depth;
    load_run(load, &plan, &result);
    load_result_deinit(&result);
    load_shrink(load, depth / 2);
    (void)printf(
        "churned: %zu messages accepted, %zu wait; file %.0f MiB, when filled %.0f; %.0f s\n",
        4 * depth, load_waiting(load), (double)bench_file_blocks(folder, "data.mdb") / 1048576,
        full_bytes / 1048576, bench_now_s() - begun_s);
    load_close(&load);
    bench_folder_copy(folder, copy);
}

/* ---- telling ---- */

static double median_ratio(const struct bench *bench, const struct series *series, enum what of)
{
    double ratios[ROUNDS_MAX];
    for (size_t i = 0; i < bench->scale.rounds; i++)
        ratios[i] = series->rate[QUEUE][i] / series->rate[of][i];
    return bench_median(ratios, bench->scale.rounds);
}

static bool judge(const char *what, double ratio, double least)
{
    bool good = ratio >= least;
    (void)printf("%-52s %6.2f   at least %.2f: %s\n", what, ratio, least, good ? "yes" : "NO");
    return good;
}

static bool judge_series(const struct bench *bench, const struct series *series)
{
    const char *store = bench->churned ? "churned" : "fresh";
    double least_log = bench->churned ? OF_LOG_CHURNED : OF_LOG_FRESH;
    char line[100];
    bool good = true;
    (void)snprintf(line, sizeof line, "%s: queue / bare LMDB", store);
    good = judge(line, median_ratio(bench, series, BARE), OF_BARE) && good;
    (void)snprintf(line, sizeof line, "%s: queue / append log, growing", store);
    good = judge(line, median_ratio(bench, series, LOG_GROWING), least_log) && good;
    (void)snprintf(line, sizeof line, "%s: queue / one commit a message", store);
    good = judge(line, median_ratio(bench, series, ONE), TIMES_ONE) && good;
    (void)printf("%-52s %6.2f\n", "   (queue / append log, file written before)",
                 median_ratio(bench, series, LOG_WRITTEN));
    return good;
}

static void print_series(const struct bench *bench, size_t sessions, struct series *series)
{
    size_t rounds = bench->scale.rounds;
    for (size_t what = 0; what < WHATS; what++) {
        (void)printf("%-8s %4zu  %-32s %8.0f", bench->churned ? "churned" : "fresh", sessions,
                     names[what], bench_median(series->rate[what], rounds));
        if (what == QUEUE)
            (void)printf("  %7.2f  %7.2f  %8.0f  %8.1f  %8.1f", bench_median(series->p50, rounds),
                         bench_median(series->p99, rounds), bench_median(series->commits, rounds),
                         bench_median(series->batch, rounds),
                         bench_median(series->written, rounds));
        (void)printf("\n");
    }
    (void)fflush(stdout);
}

static void measure(struct bench *bench, bool *good)
{
    static const size_t sessions[] = {1, 10, 100, 500};
    for (size_t s = 0; s < sizeof sessions / sizeof sessions[0]; s++) {
        if (bench->only != 0 && bench->only != sessions[s])
            continue;
        struct series series = {0};
        bool judged = sessions[s] == 100;
        struct series kept;
        for (size_t round = 0; round < bench->scale.rounds; round++)
            run_round(bench, sessions[s], round, &series);
        kept = series; /* medians sort */
        print_series(bench, sessions[s], &series);
        if (judged && !judge_series(bench, &kept))
            *good = false;
    }
}

static void clean_up(const struct bench *bench)
{
    static const char *const folders[] = {"fresh", "fresh-bare", "churned", "churned-bare"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[4096];
        path_of(bench, folders[i], path);
        bench_folder_remove(path);
    }
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: queue_bench compare [--quick] [--fresh] [--sessions 1|10|100|500] "
                  "FOLDER\n");
    return 2;
}

static bool parse(struct bench *bench, int argc, char **argv)
{
    int at = 0;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--quick") == 0)
            bench->scale = quick;
        else if (strcmp(argv[at], "--fresh") == 0)
            bench->fresh_only = true;
        else if (strcmp(argv[at], "--sessions") == 0 && at + 1 < argc)
            bench->only = strtoul(argv[++at], NULL, 10);
        else
            return false;
    }
    if (argc != at + 1)
        return false;
    (void)snprintf(bench->folder, sizeof bench->folder, "%s", argv[at]);
    return true;
}

int compare_main(int argc, char **argv)
{
    struct bench bench = {.scale = full};
    bool good = true;
    if (!parse(&bench, argc, argv))
        return usage();
    (void)mkdir(bench.folder, 0700);
    make_pattern(&bench);
    (void)printf(
        "messages of %d bytes, %zu bytes of records each; medians of %zu rounds in turns\n", BYTES,
        bare_pattern_bytes(bench.pattern), bench.scale.rounds);
    (void)printf(
        "store    sessions                         messages/s   p50 ms   p99 ms  commits/s  "
        "messages/commit  KiB written/message\n");
    measure(&bench, &good);
    if (!bench.fresh_only) {
        churn(&bench);
        bench.churned = true;
        measure(&bench, &good);
    }
    bare_pattern_free(&bench.pattern);
    clean_up(&bench);
    return good ? 0 : 1;
}
