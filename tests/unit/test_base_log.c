/* tests/unit/test_base_log.c - log lines, escaping, and targets that stall, break or change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/base/log.h"
#include "mta/base/time.h"

#define TIME_LEN (sizeof "2026-11-25T00:52:06.123Z" - 1)

static char folder[] = "/tmp/test_base_log.XXXXXX";
static char error[256];

static const char *path_of(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* The whole file, NUL-terminated. The caller frees. */
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, (size_t)8 << 20);
    assert_non_null(text);
    size_t len = fread(text, 1, ((size_t)8 << 20) - 1, file);
    assert_true(len < ((size_t)8 << 20) - 1);
    fclose(file);
    return text;
}

static struct log *open_log(enum log_format format, const char *path)
{
    struct log_options options = {format, LOG_LEVEL_INFO, LOG_TO_FILE, path};
    struct log *log = NULL;
    if (log_open(&options, &log, error, sizeof error) < 0)
        fail_msg("%s", error);
    return log;
}

static const struct {
    const char *value;
    size_t len;
    const char *json, *text, *escape;
} values[] = {
#define VALUE(literal) literal, sizeof(literal) - 1
    {VALUE("plain"), "plain", "plain", "plain"},
    {VALUE("two words"), "two words", "\"two words\"", "two words"},
    {VALUE("a=b"), "a=b", "\"a=b\"", "a=b"},
    {VALUE("q\"b\\"), "q\\\"b\\\\", "\"q\\\"b\\\\\"", "q\"b\\"},
    {VALUE("x\r\nevent"), "x\\u000d\\u000aevent", "\"x\\x0d\\x0aevent\"", "x\\x0d\\x0aevent"},
    {VALUE("\0\x1b[2J\x7f"), "\\u0000\\u001b[2J\\u007f", "\"\\x00\\x1b[2J\\x7f\"",
     "\\x00\\x1b[2J\\x7f"},
    {VALUE("\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7"), "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7",
     "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7"},
    {VALUE("\xe4 latin1"), "\\u00e4 latin1", "\"\\xe4 latin1\"", "\\xe4 latin1"},
    {VALUE("\xc0\xaf"), "\\u00c0\\u00af", "\"\\xc0\\xaf\"", "\\xc0\\xaf"}, /* overlong */
    {VALUE("\xe0\x80\xaf"), "\\u00e0\\u0080\\u00af", "\"\\xe0\\x80\\xaf\"", "\\xe0\\x80\\xaf"},
    {VALUE("\xed\xa0\x80"), "\\u00ed\\u00a0\\u0080", "\"\\xed\\xa0\\x80\"", /* a surrogate */
     "\\xed\\xa0\\x80"},
    {VALUE("\xf4\x90\x80\x80"), "\\u00f4\\u0090\\u0080\\u0080", "\"\\xf4\\x90\\x80\\x80\"",
     "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
    {VALUE("cut \xe2\x82"), "cut \\u00e2\\u0082", "\"cut \\xe2\\x82\"", "cut \\xe2\\x82"},
    {VALUE("\xc2\x85"), "\\u00c2\\u0085", "\"\\xc2\\x85\"", "\\xc2\\x85"}, /* NEL, a C1 control */
    {VALUE("\xe2\x80\xa8"), "\\u00e2\\u0080\\u00a8", "\"\\xe2\\x80\\xa8\"", "\\xe2\\x80\\xa8"},
    /* a right-to-left override: NOLINTNEXTLINE(misc-misleading-bidirectional) */
    {VALUE("\xe2\x80\xae"), "\\u00e2\\u0080\\u00ae", "\"\\xe2\\x80\\xae\"", "\\xe2\\x80\\xae"},
    {VALUE("\xc2\xa0\xe2\x80\xa7\xe2\x81\xaa"), "\xc2\xa0\xe2\x80\xa7\xe2\x81\xaa",
     "\xc2\xa0\xe2\x80\xa7\xe2\x81\xaa", "\xc2\xa0\xe2\x80\xa7\xe2\x81\xaa"},
};
#define VALUE_COUNT (sizeof values / sizeof values[0])

static void check_format(enum log_format format)
{
    const char *path = path_of("format");
    struct log *log = open_log(format, path);
    for (size_t i = 0; i < VALUE_COUNT; i++)
        log_event(log, LOG_LEVEL_INFO, "queue", LOG_T("id", "7"),
                  LOG_S("sender", ((struct str){values[i].value, values[i].len})),
                  LOG_T("reply", ""), LOG_T("host", NULL), LOG_I("code", -250));
    log_close(&log);
    assert_null(log);

    char *text = read_file(path);
    char *rest = text;
    for (size_t i = 0; i < VALUE_COUNT; i++) {
        char expected[512];
        char *line = strsep(&rest, "\n");
        assert_non_null(rest);
        if (format == LOG_JSON) {
            assert_memory_equal(line, "{\"time\":\"", 9);
            line += 9 + TIME_LEN;
            (void)snprintf(
                expected, sizeof expected,
                "\",\"event\":\"queue\",\"level\":\"info\",\"id\":\"7\",\"sender\":\"%s\","
                "\"code\":-250}",
                values[i].json);
        } else {
            line += TIME_LEN;
            (void)snprintf(expected, sizeof expected, " info queue id=7 sender=%s code=-250",
                           values[i].text);
        }
        assert_string_equal(line, expected);
    }
    assert_string_equal(rest, "");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void writes_json(void **state)
{
    (void)state;
    check_format(LOG_JSON);
}

static void writes_text(void **state)
{
    (void)state;
    check_format(LOG_TEXT);
}

static void escapes_for_a_terminal(void **state)
{
    char out[64];
    (void)state;
    for (size_t i = 0; i < VALUE_COUNT; i++) {
        log_escape((struct str){values[i].value, values[i].len}, out, sizeof out);
        assert_string_equal(out, values[i].escape);
    }
    /* A character or an escape fits whole or is left out. */
    static const struct {
        size_t size;
        const char *text;
    } cut[] = {{1, ""},          {2, "a"},         {3, "a"},
               {4, "a\xc3\xa4"}, {7, "a\xc3\xa4"}, {8, "a\xc3\xa4\\x07"}};
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        memset(out, '#', sizeof out);
        log_escape(STR("a\xc3\xa4\x07"), out, cut[i].size);
        assert_string_equal(out, cut[i].text);
    }
    log_escape(STR("x"), NULL, 0);
}

static void cuts_long_values_between_characters(void **state)
{
    static char value[5000];
    const char *path = path_of("long");
    (void)state;
    struct log *log = open_log(LOG_TEXT, path);
    memset(value, 'a', 1023);
    value[1023] = '\xe2';
    value[1024] = '\x82';
    value[1025] = '\xac';
    log_event(log, LOG_LEVEL_INFO, "e", LOG_S("v", ((struct str){value, 1026})));
    memset(value, 0x80, sizeof value); /* no character anywhere: cut at the limit at latest */
    log_event(log, LOG_LEVEL_INFO, "e", LOG_S("v", ((struct str){value, sizeof value})));
    /* Twenty of them do not fit a line: the line stays whole. */
#define LONG LOG_S("v", ((struct str){value, sizeof value}))
    struct log_field many[20];
    for (size_t i = 0; i < 20; i++)
        many[i] = LONG;
    log_event_fields(log, LOG_LEVEL_INFO, "e", many, 20);
    log_close(&log);

    char *text = read_file(path);
    char *rest = text;
    const char *line = strsep(&rest, "\n");
    assert_int_equal(strlen(line), TIME_LEN + strlen(" info e v=") + 1023);
    line = strsep(&rest, "\n");
    size_t bytes = (strlen(line) - TIME_LEN - strlen(" info e v=\"\"")) / 4;
    assert_true(bytes <= 1024 && bytes >= 1021);
    line = strsep(&rest, "\n");
    assert_true(strlen(line) > 32768 && strlen(line) < 65536);
    assert_int_equal(line[strlen(line) - 1], '"');
    assert_string_equal(rest, "");
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void filters_and_reopens(void **state)
{
    char first[256];
    char second[256];
    (void)state;
    (void)snprintf(first, sizeof first, "%s/first", folder);
    (void)snprintf(second, sizeof second, "%s/second", folder);
    struct log *log = open_log(LOG_TEXT, first);
    log_event(log, LOG_LEVEL_DEBUG, "no", LOG_I("n", 1));
    log_event(log, LOG_LEVEL_INFO, "one", LOG_I("n", 1));

    struct log_options options = {LOG_TEXT, LOG_LEVEL_WARNING, LOG_TO_FILE, "/nonexistent/x"};
    assert_int_equal(log_reopen(log, &options, error, sizeof error), -1);
    assert_non_null(strstr(error, "/nonexistent/x"));
    log_event(log, LOG_LEVEL_INFO, "two", LOG_I("n", 1)); /* nothing changed */

    /* Wait for the thread to have written, then rotate. */
    for (int i = 0; i < 500; i++) {
        char *text = read_file(first);
        bool there = strstr(text, "two n=1\n") != NULL;
        free(text);
        if (there)
            break;
        usleep(10000);
    }
    assert_int_equal(rename(first, second), 0);
    options.file = first;
    assert_int_equal(log_reopen(log, &options, error, sizeof error), 0);
    log_event(log, LOG_LEVEL_INFO, "no", LOG_I("n", 1));
    log_event(log, LOG_LEVEL_ERROR, "three", LOG_I("n", 1));
    log_close(&log);

    char *old = read_file(second);
    char *new = read_file(first);
    assert_non_null(strstr(old, " info one n=1\n"));
    assert_non_null(strstr(old, " info two n=1\n"));
    assert_null(strstr(old, "three"));
    assert_null(strstr(old, " no "));
    assert_string_equal(new + TIME_LEN, " error three n=1\n");
    free(old);
    free(new);
    unlink(first);
    unlink(second);
    log_event(NULL, LOG_LEVEL_ERROR, "nobody", LOG_I("n", 1));
    log_close(&log);
}

static void refuses_what_cannot_be_opened(void **state)
{
    struct log_options options = {LOG_JSON, LOG_LEVEL_INFO, LOG_TO_FILE, path_of("fifo0")};
    struct log *log = NULL;
    (void)state;
    assert_int_equal(mkfifo(options.file, 0600), 0);
    assert_int_equal(log_open(&options, &log, error, sizeof error), -1); /* no reader: no hang */
    assert_non_null(strstr(error, "fifo0"));
    assert_null(log);
    unlink(options.file);
}

/* ---- a pipe as target ---- */

struct tally {
    char line[70000];
    size_t len;
    uint64_t lines, dropped, out_of_order;
    int64_t last;
};

static void take_line(struct tally *tally)
{
    tally->line[tally->len] = '\0';
    const char *dropped = strstr(tally->line, " warning log dropped=");
    const char *number = strstr(tally->line, " info e n=");
    if (dropped != NULL) {
        tally->dropped += strtoull(dropped + strlen(" warning log dropped="), NULL, 10);
    } else if (number == NULL) {
        fail_msg("broken line: %s", tally->line);
    } else {
        int64_t n = strtoll(number + strlen(" info e n="), NULL, 10);
        tally->out_of_order += n <= tally->last;
        tally->last = n;
        tally->lines++;
    }
    tally->len = 0;
}

/* Reads until nothing comes for wait_ms. */
static void drain(int fd, struct tally *tally, int wait_ms)
{
    static char bytes[65536];
    struct pollfd poll_fd = {fd, POLLIN, 0};
    while (poll(&poll_fd, 1, wait_ms) > 0) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0)
            return;
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n')
                take_line(tally);
            else
                tally->line[tally->len++] = bytes[i];
            assert_true(tally->len < sizeof tally->line);
        }
    }
}

static int open_fifo(const char *name, struct log **log_out)
{
    const char *path = path_of(name);
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_SETPIPE_SZ, 4096) >= 4096);
    *log_out = open_log(LOG_TEXT, path);
    return fd;
}

static const char padding[] = "........................................................"
                              "........................................................";

static void a_stalled_pipe_stalls_nobody(void **state)
{
    static struct tally tally = {.last = -1};
    struct log *log = NULL;
    (void)state;
    int fd = open_fifo("stalled", &log);
    uint64_t before = time_monotonic_ms();
    for (int64_t n = 0; n < 60000; n++) /* about 10 MB into 4 MiB */
        log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", n), LOG_T("p", padding));
    assert_true(time_monotonic_ms() - before < 10000);

    drain(fd, &tally, 200);
    assert_true(tally.dropped > 1000);
    assert_true(tally.lines > 10000);
    assert_int_equal(tally.lines + tally.dropped, 60000);
    assert_int_equal(log_dropped(log), tally.dropped);
    log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", 60000)); /* goes on as if nothing had been */
    drain(fd, &tally, 200);
    assert_int_equal(tally.last, 60000);
    assert_int_equal(tally.out_of_order, 0);
    log_close(&log);
    close(fd);
    unlink(path_of("stalled"));
}

static void a_reader_that_leaves_kills_nobody(void **state)
{
    static struct tally tally = {.last = -1};
    struct log *log = NULL;
    (void)state; /* SIGPIPE has its deadly default here */
    int fd = open_fifo("broken", &log);
    for (int64_t n = 0; n < 500; n++)
        log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", n), LOG_T("p", padding));
    usleep(50000);
    drain(fd, &tally, 200);
    assert_int_equal(tally.lines, 500);
    for (int64_t n = 500; n < 1000; n++)
        log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", n), LOG_T("p", padding));
    usleep(50000); /* the pipe is full, in the middle of a line */
    close(fd);
    usleep(50000);

    fd = open(path_of("broken"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    char bytes[8192];
    ssize_t n = read(fd, bytes, sizeof bytes - 1); /* what the old reader left */
    assert_true(n > 0 && bytes[n - 1] != '\n');
    bytes[n] = '\0';
    uint64_t left = 0;
    for (const char *p = strchr(bytes, '\n'); p != NULL; p = strchr(p + 1, '\n'))
        left++;

    log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", 1000));
    usleep(50000);
    assert_int_equal(read(fd, bytes, 1), 1); /* the half line ends before the next begins */
    assert_int_equal(bytes[0], '\n');
    drain(fd, &tally, 200);
    assert_int_equal(tally.lines, 501);
    assert_int_equal(left + tally.dropped, 500);
    assert_int_equal(log_dropped(log), tally.dropped);
    assert_int_equal(tally.last, 1000);
    log_close(&log);
    close(fd);
    unlink(path_of("broken"));
}

static void close_waits_two_seconds_at_most(void **state)
{
    struct log *log = NULL;
    (void)state;
    int fd = open_fifo("closing", &log);
    for (int64_t n = 0; n < 1000; n++)
        log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", n), LOG_T("p", padding));
    uint64_t before = time_monotonic_ms();
    log_close(&log);
    uint64_t took = time_monotonic_ms() - before;
    assert_true(took >= 1500 && took < 4000);
    close(fd);
    unlink(path_of("closing"));
}

static void a_reopen_frees_a_stalled_log(void **state)
{
    const char *path = path_of("after");
    char after[256];
    struct log *log = NULL;
    (void)state;
    (void)snprintf(after, sizeof after, "%s", path);
    int fd = open_fifo("before", &log);
    for (int64_t n = 0; n < 1000; n++)
        log_event(log, LOG_LEVEL_INFO, "e", LOG_I("n", n), LOG_T("p", padding));
    usleep(50000);
    struct log_options options = {LOG_TEXT, LOG_LEVEL_INFO, LOG_TO_FILE, after};
    assert_int_equal(log_reopen(log, &options, error, sizeof error), 0);
    uint64_t before = time_monotonic_ms();
    log_close(&log);
    assert_true(time_monotonic_ms() - before < 1000);
    char *text = read_file(after);
    assert_non_null(strstr(text, " info e n=999 "));
    free(text);
    close(fd);
    unlink(path_of("before"));
    unlink(after);
}

/* ---- many threads ---- */

#define THREADS 8
#define LINES   4000

struct writer {
    struct log *log;
    int64_t number;
};

static void *write_lines(void *arg)
{
    const struct writer *writer = arg;
    for (int64_t n = 0; n < LINES; n++)
        log_event(writer->log, LOG_LEVEL_INFO, "e", LOG_I("thread", writer->number), LOG_I("n", n));
    return NULL;
}

static void threads_write_whole_lines_in_order(void **state)
{
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    int64_t next[THREADS] = {0};
    const char *path = path_of("threads");
    (void)state;
    struct log *log = open_log(LOG_TEXT, path);
    for (size_t i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){log, (int64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &writers[i]), 0);
    }
    struct log_options options = {LOG_TEXT, LOG_LEVEL_INFO, LOG_TO_FILE, path};
    for (int i = 0; i < 20; i++) /* O_APPEND: the same file again and again */
        assert_int_equal(log_reopen(log, &options, error, sizeof error), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_close(&log);

    char *text = read_file(path);
    char *rest = text;
    for (size_t i = 0; i < (size_t)THREADS * LINES; i++) {
        const char *line = strsep(&rest, "\n");
        int thread = -1;
        long n = -1;
        assert_non_null(rest);
        assert_int_equal(sscanf(line + TIME_LEN, " info e thread=%d n=%ld", &thread, &n), 2);
        assert_true(thread >= 0 && thread < THREADS);
        assert_int_equal(n, next[thread]++);
    }
    assert_string_equal(rest, "");
    free(text);
    unlink(path);
}

static void writes_to_standard_error(void **state)
{
    struct log_options options = {LOG_TEXT, LOG_LEVEL_INFO, LOG_TO_STDERR, NULL};
    struct log *log = NULL;
    char line[200] = "";
    int pipe_fds[2];
    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    int saved = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
    int rc = log_open(&options, &log, error, sizeof error);
    dup2(saved, STDERR_FILENO);
    assert_int_equal(rc, 0);
    log_event(log, LOG_LEVEL_INFO, "start", LOG_I("n", 1));
    log_close(&log);
    assert_true(read(pipe_fds[0], line, sizeof line - 1) > 0);
    assert_string_equal(line + TIME_LEN, " info start n=1\n");
    close(saved);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* ---- syslog, in a mount namespace with a /dev/log of our own ---- */

enum { CHILD_OK, CHILD_BAD, CHILD_SKIP };

/* Root of the machine, or root of a user namespace of one user. */
static bool enter_own_dev(void)
{
    char map[64];
    int len = snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
    if (unshare(CLONE_NEWNS) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
            return false;
        int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return false;
        bool mapped = write(fd, map, (size_t)len) == len;
        close(fd);
        if (!mapped)
            return false;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev", "tmpfs", 0, NULL) == 0;
}

static int be_syslog(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    struct log_options options = {LOG_JSON, LOG_LEVEL_INFO, LOG_TO_SYSLOG, NULL};
    struct timeval timeout = {5, 0};
    struct log *log = NULL;
    char text[512] = "";
    if (!enter_own_dev())
        return CHILD_SKIP;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return CHILD_SKIP;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    if (log_open(&options, &log, error, sizeof error) < 0)
        return CHILD_BAD;
    log_event(log, LOG_LEVEL_WARNING, "reject", LOG_T("reply", "50% \"of\" %s"));
    log_event(log, LOG_LEVEL_INFO, "queue", LOG_T("id", "1"));
    log_close(&log);
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    /* facility mail (2) * 8 + warning (4) */
    if (n <= 0 || strncmp(text, "<20>", 4) != 0 ||
        strstr(text, "\"reply\":\"50% \\\"of\\\" %s\"}") == NULL)
        return CHILD_BAD;
    memset(text, 0, sizeof text);
    n = recv(fd, text, sizeof text - 1, 0);
    close(fd);
    return n > 0 && strncmp(text, "<22>", 4) == 0 && strchr(text, '\n') == NULL ? CHILD_OK
                                                                                : CHILD_BAD;
}

static void writes_to_syslog(void **state)
{
    int status = 0;
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(be_syslog());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_SKIP)
        skip();
    assert_int_equal(WEXITSTATUS(status), CHILD_OK);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Lines that come in floods: one a second, and the next tells how many were left out. */
static void floods_are_paced(void **state)
{
    struct log_pace pace = {0};
    int64_t left_out = -1;
    (void)state;
    assert_true(log_pace(&pace, &left_out));
    assert_int_equal(left_out, 0);
    for (int i = 0; i < 5; i++)
        assert_false(log_pace(&pace, &left_out));
    (void)usleep(1050000);
    assert_true(log_pace(&pace, &left_out));
    assert_int_equal(left_out, 5);
    assert_false(log_pace(&pace, &left_out));
}

/* What a killed process left of a line does not spoil the next one; a whole line gets no blank one.
 */
static void begins_on_a_line_of_its_own(void **state)
{
    static const struct {
        const char *there, *begins;
    } cases[] = {
        {"{\"torn", "{\"torn\n{\"time\""}, {"whole\n", "whole\n{\"time\""}, {"", "{\"time\""}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = path_of("torn");
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(cases[i].there, file);
        fclose(file);
        struct log *log = open_log(LOG_JSON, path);
        log_event(log, LOG_LEVEL_INFO, "start", LOG_T("text", "x"));
        log_close(&log);
        char *text = read_file(path);
        assert_memory_equal(text, cases[i].begins, strlen(cases[i].begins));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floods_are_paced),
        cmocka_unit_test(writes_json),
        cmocka_unit_test(writes_text),
        cmocka_unit_test(escapes_for_a_terminal),
        cmocka_unit_test(cuts_long_values_between_characters),
        cmocka_unit_test(filters_and_reopens),
        cmocka_unit_test(refuses_what_cannot_be_opened),
        cmocka_unit_test(a_stalled_pipe_stalls_nobody),
        cmocka_unit_test(a_reader_that_leaves_kills_nobody),
        cmocka_unit_test(close_waits_two_seconds_at_most),
        cmocka_unit_test(a_reopen_frees_a_stalled_log),
        cmocka_unit_test(threads_write_whole_lines_in_order),
        cmocka_unit_test(begins_on_a_line_of_its_own),
        cmocka_unit_test(writes_to_standard_error),
        cmocka_unit_test(writes_to_syslog),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
