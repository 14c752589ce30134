/* tests/bench/bench.h - what the parts of queue_bench share. One process, one measurement at a
 * time.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- support.c: every failure ends the program with a line that says what failed ---- */
double bench_now_s(void); /* monotonic */
_Noreturn void bench_fail(const char *what);
void bench_check(bool ok, const char *what);
void *bench_alloc(size_t size); /* zeroed */
void *bench_resize(void *p, size_t size);
uint64_t bench_random(uint64_t *seed);
double bench_median(double *values, size_t count); /* sorts them */
void bench_folder_remove(const char *folder);      /* with what it holds; absent: nothing to do */
void bench_folder_copy(const char *from, const char *to);         /* flat */
uint64_t bench_file_blocks(const char *folder, const char *name); /* bytes on disk */

/* ---- written.c ---- */
uint64_t bench_written(void); /* bytes this process has handed to the kernel for writing */
uint64_t bench_writes(void);  /* in so many calls: LMDB makes one for each run of pages */

/* ---- load.c: the queue through its own interface, by many sessions on two threads ---- */
struct load; /* an open queue and the ids of what waits in it */

enum load_mode {
    LOAD_KEEP,
    LOAD_DELIVER, /* every message is delivered as it was accepted */
    LOAD_DEFER,   /* or deferred, over many domains */
    LOAD_REPLACE, /* for every message one that waits, chosen at random, is delivered and now and
                     then another deferred: the depth stays, ages and free pages mix */
};

struct load_plan {
    enum load_mode mode;
    size_t sessions;
    size_t messages; /* 0: by time */
    double seconds;  /* 0: by count */
    size_t bytes;    /* of a message; 0: mixed, 1 to 100 KiB, mostly 4 */
    size_t domains;
};

struct load_result {
    double took_s;
    size_t messages;
    double p50_ms; /* from handing in the last byte to the answer */
    double p99_ms;
    uint64_t commits;
    double written;    /* bytes handed to the kernel */
    uint32_t *batches; /* messages accepted by each commit, in order; freed by load_result_deinit */
    size_t batch_count;
};

struct load *load_open(const char *folder);
void load_run(struct load *load, const struct load_plan *plan, struct load_result *result_out);
void load_result_deinit(struct load_result *result);
size_t load_waiting(const struct load *load);
/* Deliver messages chosen at random until no more than `keep` wait. */
void load_shrink(struct load *load, size_t keep);
struct queue *load_queue(struct load *load);
void load_close(struct load **loadp);

/* ---- bare.c: the same records in a loop around LMDB ---- */
struct bare;

/* Takes a stored message of the queue in `folder` (closed) as the pattern of records. */
struct bare_pattern *bare_pattern_read(const char *folder);
size_t bare_pattern_bytes(const struct bare_pattern *pattern); /* keys and values of a message */
void bare_pattern_free(struct bare_pattern **patternp);

struct bare *bare_open(const char *folder, const struct bare_pattern *pattern);
/* One transaction a batch, committed as the queue does. @return seconds */
double bare_run(struct bare *bare, const uint32_t *batches, size_t count);
void bare_remove_added(struct bare *bare); /* in random order; not measured */
void bare_close(struct bare **barep);

/* ---- log.c: the same bytes appended to a file, fdatasync after each batch ---- */
/* written_before: the file has its blocks and length already, so that a sync is data alone.
 * @return seconds */
double log_run(const char *path, size_t message_bytes, const uint32_t *batches, size_t count,
               bool written_before);

/* ---- the commands of queue_bench; each gets the words behind its name ---- */
int compare_main(int argc, char **argv);
int load_main(int argc, char **argv);
int layout_main(int argc, char **argv);
int scan_main(int argc, char **argv);
int compact_main(int argc, char **argv);

#endif
