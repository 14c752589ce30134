/* tests/crash/power_cut.c - cut the power at many points of a queue's life, open what is left,
 * compare.
 *
 * power_cut [POINTS [SEED]] : a process works a queue for several lives, each on what a cut of the
 * one before has left; shim_record.so writes down what it does to its file. Then the file is made
 * as it may be at POINTS moments (cut_disk.h), opened with the queue library, and compared with
 * what was promised by then (cut_ledger.h). In every second life the disk fails now and then. Last,
 * the same record is read wrongly, as if syncs did nothing: that must be found out. Exit 0: all of
 * it held. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "queue/maintain.h"
#include "queue/queue.h"
#include "tests/crash/cut_disk.h"
#include "tests/crash/cut_ledger.h"
#include "tests/crash/cut_work.h"
#include "tests/tools/no_hooks.h"

#define LIVES     4
#define WORKERS   2
#define CONTROL   24                  /* points of each wrong reading */
#define ROOM      (UINT64_C(1) << 30) /* wanted in memory */
#define MAX_BYTES (UINT64_C(256) << 20)
#define PATH      256
#define GARBAGE   8192

struct point {
    size_t record; /* cut after it */
    enum cut_choice choice;
    uint64_t seed;
};

struct life {
    unsigned number;
    bool faults;
    uint64_t seed;
    char folder[PATH]; /* where it was lived */
    char log[PATH];
    uint8_t *image; /* its file at the beginning */
    size_t image_len;
    struct cut_ledger *ledger; /* at the beginning */
    struct point *points;
    size_t point_count;
};

static char place[PATH / 2];
static char self[PATH];

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "power_cut: %s\n", what);
    exit(2);
}

static void path_of(char out[PATH], const char *folder, const char *name)
{
    if (snprintf(out, PATH, "%s/%s", folder, name) >= PATH)
        die("a path is too long");
}

/* ---- one life ---- */

/* A sanitizer's library must come before ours. */
static void preload(char *out, size_t size)
{
    char line[512];
    char sanitizer[512] = "";
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        const char *path = strchr(line, '/');
        if (path != NULL && (strstr(path, "/libasan.") || strstr(path, "/libtsan.")))
            (void)snprintf(sanitizer, sizeof sanitizer, "%.*s ", (int)strcspn(path, "\n"), path);
    }
    if (maps != NULL)
        (void)fclose(maps);
    (void)snprintf(out, size, "%s%s", sanitizer, CUT_SHIM);
}

static _Noreturn void run_work(const struct life *life, size_t target)
{
    char libraries[1024];
    char number[32];
    char messages[32];
    char file[PATH];
    char birth[PATH];
    preload(libraries, sizeof libraries);
    path_of(file, life->folder, "data.mdb");
    path_of(birth, life->folder, "data.new");
    (void)snprintf(number, sizeof number, "%" PRIu64, life->seed);
    (void)snprintf(messages, sizeof messages, "%zu", target);
    if (setenv("LD_PRELOAD", libraries, 1) != 0 || setenv("CUT_TARGET", file, 1) != 0 ||
        setenv("CUT_BIRTH", birth, 1) != 0 || setenv("CUT_LOG", life->log, 1) != 0 ||
        setenv("CUT_SYNC_US", "300", 1) != 0)
        die("setenv");
    if (life->faults && setenv("CUT_FAULTS", number, 1) != 0)
        die("setenv");
    (void)execl(self, self, "--work", life->folder, number, messages, (char *)NULL);
    die("exec");
}

static void live(const struct life *life, size_t target)
{
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run_work(life, target);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("the working process failed");
}

/* ---- one point ---- */

struct walk { /* through a record */
    struct cut_disk *disk;
    struct cut_ledger *ledger;
    size_t record;
    bool named;       /* the file has its name */
    bool name_synced; /* and keeps it */
};

struct notices {
    char text[256];
};

static void on_notice(bool is_error, const char *text, void *ctx)
{
    struct notices *notices = ctx;
    if (is_error)
        (void)snprintf(notices->text, sizeof notices->text, "%s", text);
}

static int open_queue(const char *folder, struct notices *notices, struct queue **out, char *error,
                      size_t size)
{
    struct queue_options options = {.folder = folder,
                                    .max_bytes = MAX_BYTES,
                                    .on_fresh = no_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = on_notice,
                                    .ctx = notices};
    return queue_open(&options, out, error, size);
}

static void on_wake(void *ctx)
{
    (void)ctx;
}

static void on_done(int result, void *ctx)
{
    *(int *)ctx = result;
}

/* The queue takes mail again, and knows it when opened once more. */
static bool goes_on(const char *folder, char *error, size_t size)
{
    static uint8_t body[20000];
    struct notices notices = {""};
    struct cut_mail mail;
    struct queue *queue = NULL;
    struct queue_put *put = NULL;
    struct queue_message *message = NULL;
    uint64_t id = 0;
    int result = 1;
    int rc = open_queue(folder, &notices, &queue, error, size);
    if (rc != 0)
        return false;
    struct queue_port *port = queue_port_new(queue, on_wake, NULL);
    if (queue_put_begin(queue, port, &put, &id) != 0 ||
        queue_put_piece(put, body, sizeof body, NULL, NULL) != 0)
        die("queue_put");
    cut_mail_make(&mail, id, sizeof body);
    queue_put_commit(put, &mail.envelope, on_done, &result);
    for (int i = 0; i < 10000 && result == 1; i++) {
        queue_port_run(port);
        (void)usleep(500);
    }
    queue_port_free(&port);
    queue_close(&queue);
    (void)snprintf(error, size, "a new message is not taken (%d)", result);
    if (result != 0 || open_queue(folder, &notices, &queue, error, size) != 0)
        return false;
    rc = queue_read_message(queue, id, &message);
    queue_message_free(&message);
    queue_close(&queue);
    (void)snprintf(error, size, "a new message is gone (%d)", rc);
    return rc == 0;
}

static void on_line(const char *line, void *ctx)
{
    (void)snprintf(ctx, 256, "%s", line);
}

static bool is_clean(const char *folder, char *error, size_t size)
{
    char line[256] = "";
    char why[256] = "";
    struct queue_check_result result;
    int rc = queue_check(folder, false, on_line, line, &result, why, sizeof why);
    if (rc == 0 && result.problems == 0 && result.damaged == 0)
        return true;
    (void)snprintf(error, size, "the check finds %s%s", line, why);
    return false;
}

/* In a process of its own: a queue that is broken enough may end it. */
static int judge(struct cut_ledger *ledger, const char *folder, bool further)
{
    char error[512] = "";
    struct notices notices = {""};
    struct queue *queue = NULL;
    struct cut_numbers numbers;
    if (open_queue(folder, &notices, &queue, error, sizeof error) != 0) {
        (void)printf("  cannot be opened: %s\n", error);
        (void)fflush(stdout);
        return 1;
    }
    bool good = cut_ledger_compare(ledger, queue, false, &numbers, error, sizeof error);
    queue_close(&queue);
    if (good && notices.text[0] != '\0') {
        (void)snprintf(error, sizeof error, "the queue complains: %s", notices.text);
        good = false;
    }
    good = good && is_clean(folder, error, sizeof error);
    if (good && further)
        good = goes_on(folder, error, sizeof error) && is_clean(folder, error, sizeof error);
    if (!good)
        (void)printf("  %s\n", error);
    (void)fflush(stdout);
    return good ? 0 : 1;
}

/* LMDB's lock file is no part of the data: absent, as it was, or anything. */
static void make_company(const char *folder, uint64_t seed)
{
    static uint8_t garbage[GARBAGE];
    char path[PATH];
    path_of(path, folder, "lock");
    (void)unlink(path);
    path_of(path, folder, "lock.mdb");
    if (seed % 3 == 0)
        (void)unlink(path);
    if (seed % 3 != 1)
        return;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cut_mail_fill(seed, 0, garbage, sizeof garbage);
    if (fd < 0 || write(fd, garbage, sizeof garbage) != (ssize_t)sizeof garbage)
        die("lock.mdb");
    (void)close(fd);
}

/* @return whether all holds there */
static bool try_point(const struct walk *walk, const struct point *point, const char *folder)
{
    char path[PATH];
    int status = 0;
    bool named = walk->name_synced || (walk->named && point->seed % 2 == 0);
    path_of(path, folder, named ? "data.new" : "data.mdb");
    (void)unlink(path);
    path_of(path, folder, named ? "data.mdb" : "data.new");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die("no image");
    cut_disk_crash(walk->disk, point->choice, point->seed, fd);
    (void)close(fd);
    make_company(folder, point->seed >> 20);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        (void)alarm(60);
        _exit(judge(walk->ledger, folder, point->seed % 4 == 0));
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFSIGNALED(status))
        (void)printf("  ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- all points of a life ---- */

static void note_record(struct walk *walk, const struct cut_record *record, const void *bytes)
{
    struct cut_note note;
    walk->name_synced = walk->name_synced || (walk->named && record->kind == CUT_FOLDER_SYNC);
    walk->named = walk->named || record->kind == CUT_NAME;
    if (record->kind != CUT_MARK)
        return;
    if (record->len != sizeof note)
        die("a mark of another length");
    memcpy(&note, bytes, sizeof note);
    cut_ledger_note(walk->ledger, &note);
}

static bool walk_to(struct walk *walk, size_t record)
{
    struct cut_record now;
    const void *bytes = NULL;
    while (walk->record <= record) {
        if (!cut_disk_next(walk->disk, &now, &bytes))
            return false;
        note_record(walk, &now, bytes);
        walk->record++;
    }
    return true;
}

static struct walk begin_walk(const struct life *life, enum cut_mutant mutant)
{
    struct walk walk = {
        .disk = cut_disk_new(life->log, life->image, life->image_len, mutant, life->seed),
        .ledger = cut_ledger_copy(life->ledger),
        .named = life->image_len > 0,
        .name_synced = life->image_len > 0,
    };
    return walk;
}

static void end_walk(struct walk *walk)
{
    cut_ledger_free(&walk->ledger);
    cut_disk_free(&walk->disk);
}

/* One of several workers, a process: every WORKERS-th point. @return the number that failed */
static int run_points(const struct life *life, enum cut_mutant mutant, size_t first, size_t limit)
{
    struct walk walk = begin_walk(life, mutant);
    char folder[PATH];
    int failed = 0;
    (void)snprintf(folder, sizeof folder, "%s/try%zu", place, first);
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        die("mkdir");
    for (size_t i = first; i < limit && failed < 100; i += WORKERS) {
        const struct point *point = &life->points[i];
        if (!walk_to(&walk, point->record))
            die("the log is shorter than it was");
        if (try_point(&walk, point, folder))
            continue;
        failed++;
        if (mutant == CUT_HONEST)
            (void)printf(
                "FAILED: life %u, record %zu of %zu, %zu uncertain, %s, seed %" PRIu64 "\n",
                life->number, point->record, cut_disk_records(walk.disk),
                cut_disk_uncertain(walk.disk), cut_choice_names[point->choice], point->seed);
    }
    end_walk(&walk);
    return failed;
}

static int try_points(const struct life *life, enum cut_mutant mutant, size_t limit)
{
    int failed = 0;
    int status = 0;
    pid_t pids[WORKERS];
    (void)fflush(stdout);
    for (size_t i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            die("fork");
        if (pids[i] == 0) {
            if (mutant != CUT_HONEST && freopen("/dev/null", "w", stdout) != NULL)
                (void)dup2(STDOUT_FILENO, STDERR_FILENO); /* what a broken queue says is known */
            int bad = run_points(life, mutant, i, limit);
            (void)fflush(stdout);
            _exit(bad);
        }
    }
    for (size_t i = 0; i < WORKERS; i++) {
        if (waitpid(pids[i], &status, 0) != pids[i] || !WIFEXITED(status))
            die("a worker failed");
        failed += WEXITSTATUS(status);
    }
    return failed;
}

static int compare_points(const void *a, const void *b)
{
    const struct point *x = a;
    const struct point *y = b;
    return x->record < y->record ? -1 : x->record > y->record;
}

/* Half of them anywhere, half around syncs and what went through the synced descriptor. */
static void choose_points(struct life *life, size_t count)
{
    uint64_t random = life->seed;
    struct walk walk = begin_walk(life, CUT_HONEST);
    size_t total = cut_disk_records(walk.disk);
    size_t *special = calloc(total * 2, sizeof *special);
    size_t specials = 0;
    struct cut_record record;
    const void *bytes = NULL;
    life->points = calloc(count, sizeof *life->points);
    if (special == NULL || life->points == NULL)
        die("memory");
    for (size_t i = 0; cut_disk_next(walk.disk, &record, &bytes); i++) {
        if (record.kind == CUT_SYNC || (record.flags & CUT_DSYNC) != 0) {
            special[specials++] = i; /* begun */
            special[specials++] = i + 1 < total ? i + 1 : i;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct point *point = &life->points[i];
        bool near = specials > 0 && i % 2 == 0;
        point->record = near ? special[cut_roll(&random, (uint32_t)specials)]
                             : cut_roll(&random, (uint32_t)total);
        point->choice = (enum cut_choice)cut_roll(&random, CUT_CHOICES);
        point->seed = (uint64_t)cut_roll(&random, 1U << 31) << 20 | cut_roll(&random, 1U << 20);
    }
    qsort(life->points, count, sizeof *life->points, compare_points);
    life->point_count = count;
    free(special);
    end_walk(&walk);
}

/* ---- from life to life ---- */

/* The last cut of a life: its file and what is in it are the beginning of the next. */
static void inherit(const struct life *life, struct life *next)
{
    struct walk walk = begin_walk(life, CUT_HONEST);
    uint64_t random = ~life->seed;
    size_t total = cut_disk_records(walk.disk);
    char path[PATH];
    char error[512] = "";
    struct stat st;
    struct notices notices = {""};
    struct queue *queue = NULL;
    struct cut_numbers numbers;
    (void)walk_to(&walk, total - 1 - cut_roll(&random, (uint32_t)total / 8));
    if (mkdir(next->folder, 0700) != 0)
        die("mkdir");
    path_of(path, next->folder, "data.mdb");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die("no image");
    cut_disk_crash(walk.disk, CUT_SECTORS, random, fd);
    if (open_queue(next->folder, &notices, &queue, error, sizeof error) != 0 ||
        !cut_ledger_compare(walk.ledger, queue, true, &numbers, error, sizeof error))
        die(error);
    queue_close(&queue);
    if (fstat(fd, &st) != 0)
        die("stat");
    next->image_len = (size_t)st.st_size;
    next->image = malloc(next->image_len);
    if (next->image == NULL || pread(fd, next->image, next->image_len, 0) != st.st_size)
        die("the image cannot be read");
    (void)close(fd);
    next->ledger = walk.ledger;
    walk.ledger = NULL;
    end_walk(&walk);
}

/* Read to its end, the record is the file; and the file's name was on disk before anything was
 * said. */
static void check_record(const struct life *life)
{
    struct walk walk = begin_walk(life, CUT_HONEST);
    char path[PATH];
    struct cut_record record;
    const void *bytes = NULL;
    size_t writes = 0;
    size_t syncs = 0;
    size_t holes = 0;
    size_t broken = 0;
    path_of(path, life->folder, "data.mdb");
    while (cut_disk_next(walk.disk, &record, &bytes)) {
        note_record(&walk, &record, bytes);
        writes += record.kind == CUT_WRITE ? 1 : 0;
        syncs += record.kind == CUT_SYNC ? 1 : 0;
        holes += record.kind == CUT_PUNCH ? 1 : 0;
        broken += record.kind == CUT_END && record.result < 0 ? 1 : 0;
        if (record.kind == CUT_MARK && !walk.name_synced)
            die("the file's name was not on disk when the queue opened");
    }
    if (broken == 0 && !cut_disk_is_whole(walk.disk, path))
        die("the record does not make the file");
    (void)printf("life %u: %zu records, %zu writes, %zu syncs, %zu holes, %zu failed calls%s\n",
                 life->number, cut_disk_records(walk.disk), writes, syncs, holes, broken,
                 broken == 0 ? "; they make the file, byte for byte" : "");
    end_walk(&walk);
}

static bool control(const struct life *life, enum cut_mutant mutant, const char *name)
{
    size_t limit = life->point_count < CONTROL ? life->point_count : CONTROL;
    int failed = try_points(life, mutant, limit);
    (void)printf("%s: found out at %d of %zu points\n", name, failed, limit);
    return failed > 0;
}

static int run(size_t points, uint64_t seed)
{
    struct life lives[LIVES] = {0};
    int failed = 0;
    bool caught = true;
    for (unsigned i = 0; i < LIVES; i++) {
        struct life *life = &lives[i];
        life->number = i;
        life->faults = i % 2 == 1;
        life->seed = seed + i;
        (void)snprintf(life->folder, sizeof life->folder, "%s/life%u", place, i);
        (void)snprintf(life->log, sizeof life->log, "%s/log%u", place, i);
        if (i == 0)
            life->ledger = cut_ledger_new();
        else
            inherit(&lives[i - 1], life);
        live(life, 80 + points / LIVES / 2);
        check_record(life);
        choose_points(life, points / LIVES);
        failed += try_points(life, CUT_HONEST, life->point_count);
    }
    (void)printf("%zu power cuts, %d failed\n", points / LIVES * LIVES, failed);
    caught = control(&lives[0], CUT_NO_SYNC, "without syncs") && caught;
    caught = control(&lives[0], CUT_NO_DSYNC, "without synced writes") && caught;
    for (unsigned i = 0; i < LIVES; i++) {
        cut_ledger_free(&lives[i].ledger);
        free(lives[i].image);
        free(lives[i].points);
    }
    return failed == 0 && caught ? 0 : 1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* In memory if there is room: it is a simulation, and quicker so. */
static void make_place(void)
{
    struct statvfs fs;
    const char *folder = getenv("TMPDIR");
    if (folder == NULL)
        folder = "/tmp";
    if (statvfs("/dev/shm", &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= ROOM)
        folder = "/dev/shm";
    if (snprintf(place, sizeof place, "%s/power-cut-XXXXXX", folder) >= (int)sizeof place ||
        mkdtemp(place) == NULL)
        die("mkdtemp");
}

int main(int argc, char **argv)
{
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0 || len >= (ssize_t)sizeof self - 1)
        die("/proc/self/exe");
    if (argc == 5 && strcmp(argv[1], "--work") == 0)
        return cut_work(argv[2], strtoull(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    size_t points = argc > 1 ? strtoul(argv[1], NULL, 10) : 1200;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL) * 1000;
    if (points < LIVES)
        die("usage: power_cut [POINTS [SEED]]");
    (void)printf("seed %" PRIu64 "\n", seed);
    make_place();
    int result = run(points, seed);
    if (result == 0)
        (void)nftw(place, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    else
        (void)printf("kept: %s\n", place);
    return result;
}
