/* mta/base/log.c - from any thread to one target. Callers format their line and append it to
 * `pending` under a short lock; the log thread swaps that buffer for an empty one and writes it.
 * The target belongs to the log thread alone: only that thread ever waits for it. */
#include "mta/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "mta/base/buf.h"
#include "mta/base/log_private.h"
#include "mta/base/time.h"

/* Two sides of this size change places: the ring of 4 MiB that log.h promises. */
#define SIDE_BYTES      ((size_t)2 << 20)
#define REPORT_BYTES    ((size_t)512)       /* room for the line that tells of dropped ones */
#define KEPT_BYTES      ((size_t)256 << 10) /* a larger buffer is given back after a burst */
#define GATHER_MS       5                   /* one wake-up for all lines of this time */
#define CLOSE_MS        2000
#define PACE_MS         1000
#define CLOSE_MARGIN_MS 500

/* Lines, and for each its level: a syslog priority is a property of a line. */
struct side {
    struct buf text;
    struct buf levels;
};

struct target {
    enum log_target kind;
    int fd;       /* -1: syslog */
    size_t chunk; /* the most that one write may carry without waiting inside the kernel */
};

struct log {
    atomic_int format, level;
    int wake_fd;
    pthread_t thread;

    pthread_mutex_t lock;
    /* Under the lock: */
    struct side pending;
    uint64_t dropped, dropped_total; /* since the last report; since the start */
    bool full; /* a line was dropped: so are all until the sides change places */
    bool signalled, stopping, changing;
    struct target next; /* if changing */

    /* The log thread's own: */
    struct side writing;
    struct target target;
    uint64_t reported;    /* dropped lines that the last line of `writing` tells of */
    uint64_t deadline_ms; /* 0: not stopping */
    bool mid_line;        /* the last byte in the target is no LF ... */
    bool broken;          /* ... and the rest of that line was lost */
};

static void side_init(struct side *side)
{
    buf_init(&side->text, SIDE_BYTES + REPORT_BYTES);
    buf_init(&side->levels, SIDE_BYTES + REPORT_BYTES);
}

static void side_clear(struct side *side)
{
    buf_clear(&side->text);
    buf_clear(&side->levels);
    if (side->text.capacity > KEPT_BYTES) {
        buf_release(&side->text);
        buf_release(&side->levels);
    }
}

static void side_deinit(struct side *side)
{
    buf_deinit(&side->text);
    buf_deinit(&side->levels);
}

static void side_add(struct side *side, enum log_level level, const char *line, size_t len)
{
    const char code = (char)level;
    bool fits = buf_add(&side->text, line, len) && buf_add(&side->levels, &code, 1);
    assert(fits); /* the callers look first */
}

static size_t count_lines(struct str text)
{
    size_t lines = 0;
    for (size_t i = 0; i < text.len; i++)
        lines += text.p[i] == '\n';
    return lines;
}

static void close_target(const struct target *target)
{
    if (target->fd >= 0)
        close(target->fd);
    if (target->kind == LOG_TO_SYSLOG)
        closelog();
}

static int open_target(const struct log_options *options, struct target *target_out, char *error,
                       size_t error_size)
{
    struct target target = {.kind = options->target, .fd = -1, .chunk = PIPE_BUF};
    struct stat st;
    const char *name = options->target == LOG_TO_FILE ? options->file : "standard error";
    switch (options->target) {
    case LOG_TO_SYSLOG:
        *target_out = target;
        return 0;
    case LOG_TO_STDERR:
        target.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        break;
    case LOG_TO_FILE:
        /* O_NONBLOCK: a FIFO without a reader is an error, not a start that hangs. */
        target.fd = open(options->file,
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
        break;
    }
    if (target.fd < 0 || fstat(target.fd, &st) < 0) {
        (void)snprintf(error, error_size, "log: cannot open %s: %s", name, strerror(errno));
        close_target(&target);
        return -1;
    }
    if (S_ISREG(st.st_mode))
        target.chunk = SIZE_MAX;
    *target_out = target;
    return 0;
}

static void wake(struct log *log)
{
    const uint64_t one = 1;
    ssize_t n = write(log->wake_fd, &one, sizeof one);
    assert(n == (ssize_t)sizeof one); /* it fails only at 2^64 unread wake-ups */
}

static void forget_wake(struct log *log)
{
    uint64_t count;
    ssize_t n = read(log->wake_fd, &count, sizeof count);
    assert(n == (ssize_t)sizeof count || errno == EAGAIN || errno == EINTR);
}

/* ---- the log thread ---- */

/* What other threads ask for. Called with the lock held. */
static void obey(struct log *log)
{
    if (log->stopping && log->deadline_ms == 0)
        log->deadline_ms = time_monotonic_ms() + CLOSE_MS;
    if (!log->changing)
        return;
    close_target(&log->target);
    log->target = log->next;
    log->changing = false;
    log->mid_line = false;
    log->broken = false;
    if (log->target.kind == LOG_TO_SYSLOG)
        openlog(NULL, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

/* The rest of the batch cannot be written: its lines become part of the next report. */
static void lose_rest(struct log *log)
{
    uint64_t lost = count_lines(buf_str(&log->writing.text));
    if (log->reported > 0)
        lost--; /* the report itself is no loss */
    buf_clear(&log->writing.text);
    log->broken = log->mid_line;
    pthread_mutex_lock(&log->lock);
    log->dropped += lost + log->reported;
    log->dropped_total += lost;
    pthread_mutex_unlock(&log->lock);
}

/* @return 1: the target takes bytes; 0: look again, the target may be another; -1: log_close()
 * waits no longer */
static int wait_writable(struct log *log)
{
    int timeout = -1;
    if (log->deadline_ms > 0) {
        uint64_t now = time_monotonic_ms();
        if (now >= log->deadline_ms)
            return -1;
        timeout = (int)(log->deadline_ms - now);
    }
    struct pollfd fds[2] = {{log->wake_fd, POLLIN, 0}, {log->target.fd, POLLOUT, 0}};
    if (poll(fds, 2, timeout) <= 0)
        return 0;
    if (fds[0].revents == 0)
        return 1;
    forget_wake(log);
    pthread_mutex_lock(&log->lock);
    obey(log);
    pthread_mutex_unlock(&log->lock);
    return 0;
}

static void write_syslog(struct log *log)
{
    static const int priorities[] = {
        [LOG_LEVEL_DEBUG] = LOG_DEBUG,
        [LOG_LEVEL_INFO] = LOG_INFO,
        [LOG_LEVEL_WARNING] = LOG_WARNING,
        [LOG_LEVEL_ERROR] = LOG_ERR,
    };
    struct str text = buf_str(&log->writing.text);
    /* Part of the batch may have gone to another target before. */
    struct str levels = buf_str(&log->writing.levels);
    levels = str_skip(levels, levels.len - count_lines(text));
    for (; levels.len > 0; levels = str_skip(levels, 1)) {
        const char *end = memchr(text.p, '\n', text.len);
        assert(end != NULL);
        size_t len = (size_t)(end - text.p);
        syslog(priorities[(size_t)levels.p[0]], "%.*s", (int)len, text.p);
        text = str_skip(text, len + 1);
    }
    buf_clear(&log->writing.text);
}

static void write_fd(struct log *log)
{
    static char newline[] = "\n";
    struct str text = buf_str(&log->writing.text);
    size_t lead = log->broken ? 1 : 0;
    size_t len = text.len < log->target.chunk - lead ? text.len : log->target.chunk - lead;
    const struct iovec parts[2] = {{newline, lead},
                                   {log->writing.text.data + log->writing.text.start, len}};
    ssize_t n = writev(log->target.fd, parts, 2);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            lose_rest(log);
        return;
    }
    size_t taken = (size_t)n;
    if (taken == 0)
        return;
    log->broken = false;
    log->mid_line = taken > lead && text.p[taken - lead - 1] != '\n';
    buf_consume(&log->writing.text, taken - lead);
}

static void write_batch(struct log *log)
{
    while (buf_len(&log->writing.text) > 0) {
        if (log->target.kind == LOG_TO_SYSLOG) {
            write_syslog(log);
            continue;
        }
        int rc = wait_writable(log);
        if (rc > 0)
            write_fd(log);
        else if (rc < 0)
            lose_rest(log);
    }
    side_clear(&log->writing);
}

/* Called with the lock held, after the sides changed places. The line stands exactly where the
 * dropped ones would have stood. */
static void add_report(struct log *log)
{
    char line[LOG_LINE_MAX];
    const struct log_field field = LOG_I("dropped", (int64_t)log->dropped);
    size_t len = log_line_format(line, (enum log_format)log->format, LOG_LEVEL_WARNING,
                                 time_wall_ms(), "log", &field, 1);
    side_add(&log->writing, LOG_LEVEL_WARNING, line, len);
    log->reported = log->dropped;
    log->dropped = 0;
    log->full = false;
}

/* Waits for lines, gathers for a moment, takes them. @return false: stopping and nothing left */
static bool take_batch(struct log *log)
{
    bool gathered = false;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        size_t len = buf_len(&log->pending.text);
        obey(log);
        if (log->stopping || len >= SIDE_BYTES / 2 || gathered)
            break;
        pthread_mutex_unlock(&log->lock);
        struct pollfd fd = {log->wake_fd, POLLIN, 0};
        int n = poll(&fd, 1, len > 0 ? GATHER_MS : -1);
        if (n > 0)
            forget_wake(log);
        gathered = n == 0;
        pthread_mutex_lock(&log->lock);
    }
    struct side side = log->writing;
    log->writing = log->pending;
    log->pending = side;
    log->signalled = false;
    log->reported = 0;
    bool some = buf_len(&log->writing.text) > 0;
    if (some && log->dropped > 0)
        add_report(log);
    pthread_mutex_unlock(&log->lock);
    return some;
}

static void *run(void *arg)
{
    struct log *log = arg;
    while (take_batch(log))
        write_batch(log);
    return NULL;
}

static int start_thread(struct log *log)
{
    /* Signals are for the main thread; SIGPIPE from a target without reader must not even pend. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&log->thread, NULL, run, log);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* ---- any thread ---- */

static void free_log(struct log *log)
{
    close_target(&log->target);
    if (log->changing)
        close_target(&log->next);
    if (log->wake_fd >= 0)
        close(log->wake_fd);
    side_deinit(&log->pending);
    side_deinit(&log->writing);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

/* A process that was killed while it wrote leaves a part of a line: ours begin on one of their own.
 */
static void end_torn_line(const struct target *target)
{
    char path[64];
    char last = '\n';
    struct stat st;
    if (target->fd < 0 || fstat(target->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d",
                   target->fd); /* it is open to write only */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n') {
        ssize_t written = write(target->fd, "\n", 1);
        (void)written; /* a full disk is met again by the lines that follow */
    }
    (void)close(fd);
}

int log_open(const struct log_options *options, struct log **log_out, char *error,
             size_t error_size)
{
    struct target target;
    int rc = open_target(options, &target, error, error_size);
    if (rc < 0)
        return rc;
    end_torn_line(&target);

    struct log *log = mem_alloc(sizeof *log);
    log->target.fd = -1;
    log->next = target;
    log->changing = true;
    log->format = (int)options->format;
    log->level = (int)options->level;
    side_init(&log->pending);
    side_init(&log->writing);
    pthread_mutex_init(&log->lock, NULL);
    log->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (log->wake_fd < 0 || start_thread(log) != 0) {
        (void)snprintf(error, error_size, "log: cannot start the log thread");
        free_log(log);
        return -1;
    }
    *log_out = log;
    return 0;
}

int log_reopen(struct log *log, const struct log_options *options, char *error, size_t error_size)
{
    struct target target;
    int rc = open_target(options, &target, error, error_size);
    if (rc < 0)
        return rc;

    pthread_mutex_lock(&log->lock);
    if (log->changing)
        close_target(&log->next);
    log->next = target;
    log->changing = true;
    pthread_mutex_unlock(&log->lock);
    log->format = (int)options->format;
    log->level = (int)options->level;
    wake(log);
    return 0;
}

uint64_t log_dropped(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t dropped = log->dropped_total;
    pthread_mutex_unlock(&log->lock);
    return dropped;
}

void log_close(struct log **logp)
{
    struct log *log = *logp;
    if (log == NULL)
        return;
    *logp = NULL;
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_mutex_unlock(&log->lock);
    wake(log);

    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (CLOSE_MS + CLOSE_MARGIN_MS) / 1000;
    until.tv_nsec += (CLOSE_MS + CLOSE_MARGIN_MS) % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    /* A thread that hangs inside the kernel (a dead file server, a syslog daemon that was stopped)
     * keeps its memory: the process is about to end, and waiting for it would be worse. */
    if (pthread_timedjoin_np(log->thread, NULL, &until) == 0)
        free_log(log);
}

bool log_pace(struct log_pace *pace, int64_t *left_out_out)
{
    uint64_t now = time_monotonic_ms();
    uint64_t told = atomic_load(&pace->told_ms);
    if ((told != 0 && now - told < PACE_MS) ||
        !atomic_compare_exchange_strong(&pace->told_ms, &told, now)) {
        (void)atomic_fetch_add(&pace->left_out, 1);
        return false;
    }
    *left_out_out = (int64_t)atomic_exchange(&pace->left_out, 0);
    return true;
}

void log_event_fields(struct log *log, enum log_level level, const char *event,
                      const struct log_field *fields, size_t count)
{
    char line[LOG_LINE_MAX];
    if (log == NULL || (int)level < log->level)
        return;
    size_t len = log_line_format(line, (enum log_format)log->format, level, time_wall_ms(), event,
                                 fields, count);
    bool must_wake = false;
    pthread_mutex_lock(&log->lock);
    size_t used = buf_len(&log->pending.text);
    if (log->full || len > SIDE_BYTES - used) {
        log->full = true;
        log->dropped++;
        log->dropped_total++;
    } else {
        side_add(&log->pending, level, line, len);
        must_wake = !log->signalled || (used < SIDE_BYTES / 2 && used + len >= SIDE_BYTES / 2);
        log->signalled = true;
    }
    pthread_mutex_unlock(&log->lock);
    if (must_wake)
        wake(log);
}
