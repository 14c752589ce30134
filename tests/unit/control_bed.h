/* tests/unit/control_bed.h - the control socket with a real queue behind it. One thread: the test
 * turns the loop while it reads. */
#ifndef TESTS_UNIT_CONTROL_BED_H
#define TESTS_UNIT_CONTROL_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "mta/base/buf.h"
#include "mta/base/time.h"
#include "mta/control/control_private.h"
#include "queue_fixture.h"

#define WAIT_MS 20000

struct bed {
    struct fixture *fixture;
    char path[128];
    uv_loop_t loop;
    struct control *control;
    const char *reload_error; /* what the next reload says */
};

UNUSED static void read_status(struct control_status *out, void *ctx)
{
    (void)ctx;
    *out = (struct control_status){.accepted = 11, .active = 3, .uptime_s = 77};
}

UNUSED static bool is_active(uint64_t id, uint16_t unit, void *ctx)
{
    (void)id;
    (void)unit;
    (void)ctx;
    return false;
}

UNUSED static int reload(char *text, size_t size, void *ctx)
{
    const struct bed *bed = ctx;
    if (bed->reload_error == NULL)
        return 0;
    (void)snprintf(text, size, "%s", bed->reload_error);
    return -1;
}

UNUSED static int setup(void **state)
{
    char error[512];
    struct bed *bed = mem_alloc(sizeof *bed);
    bed->fixture = fixture_new();
    fixture_open(bed->fixture);
    (void)snprintf(bed->path, sizeof bed->path, "%s/control", bed->fixture->folder);
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    struct control_hooks hooks = {read_status, is_active, reload, bed};
    assert_int_equal(
        control_new(bed->path, (uid_t)-1, (gid_t)-1, &bed->control, error, sizeof error), 0);
    assert_int_equal(control_start(bed->control, &bed->loop, bed->fixture->queue, NULL, &hooks,
                                   error, sizeof error),
                     0);
    *state = bed;
    return 0;
}

UNUSED static int teardown(void **state)
{
    struct bed *bed = *state;
    control_stop(bed->control);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    control_free(&bed->control);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    assert_int_not_equal(access(bed->path, F_OK), 0);
    fixture_free(&bed->fixture);
    free(bed);
    return 0;
}

/* ---- a client ---- */

UNUSED static int connect_client(const struct bed *bed)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, bed->path, strlen(bed->path) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Turn the loop until the peer has closed. Owned, NUL-terminated (and so are NULs in it kept). */
UNUSED static char *read_all(struct bed *bed, int fd, size_t *len_out)
{
    struct buf all;
    char piece[65536];
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    buf_init(&all, (size_t)256 * 1024 * 1024);
    for (;;) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        ssize_t got = read(fd, piece, sizeof piece);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            break;
        if (got > 0)
            assert_true(buf_add(&all, piece, (size_t)got));
        else
            usleep(200);
        if (time_monotonic_ms() > until_ms)
            fail_msg("no end of the answer");
    }
    *len_out = buf_len(&all);
    char *text = str_dup(buf_str(&all));
    buf_deinit(&all);
    return text;
}

UNUSED static void send_text(struct bed *bed, int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return; /* the daemon had heard enough */
        text += sent > 0 ? sent : 0;
        len -= sent > 0 ? (size_t)sent : 0;
        uv_run(&bed->loop, UV_RUN_NOWAIT);
    }
}

/* Send a request that begins a walk, and turn the loop until its first step is next. */
UNUSED static struct control_client *begin_walk(struct bed *bed, int fd, const char *request)
{
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while (bed->control->clients == NULL || bed->control->clients->walk == NULL) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
    }
    return bed->control->clients;
}

UNUSED static char *exchange(struct bed *bed, const char *request)
{
    size_t len = 0;
    int fd = connect_client(bed);
    send_text(bed, fd, request, strlen(request));
    char *answer = read_all(bed, fd, &len);
    close(fd);
    return answer;
}

/* The lines of an answer as an array; the last one is the end. Owned. */
UNUSED static json_t *ask(struct bed *bed, const char *request)
{
    char line[1024];
    json_t *lines = json_array();
    (void)snprintf(line, sizeof line, "%s\n", request);
    char *answer = exchange(bed, line);
    for (char *p = answer; *p != '\0';) {
        json_error_t error;
        char *end = strchr(p, '\n');
        assert_non_null(end);
        json_t *object = json_loadb(p, (size_t)(end - p), 0, &error);
        if (object == NULL)
            fail_msg("%s: %.*s", error.text, (int)(end - p), p);
        json_array_append_new(lines, object);
        p = end + 1;
    }
    assert_true(json_array_size(lines) > 0);
    free(answer);
    return lines;
}

UNUSED static const char *text_at(const json_t *lines, size_t index, const char *key)
{
    const char *text = json_string_value(json_object_get(json_array_get(lines, index), key));
    return text != NULL ? text : "(none)";
}

UNUSED static int64_t number_at(const json_t *lines, size_t index, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(lines, index), key));
}

/* `lines` before the end, which has this exit code. */
UNUSED static void assert_end(const json_t *lines, size_t before, int exit_code)
{
    size_t last = json_array_size(lines) - 1;
    if (last != before || number_at(lines, last, "exit") != exit_code) {
        char *text = json_dumps(lines, JSON_INDENT(1));
        fail_msg("expected %zu lines and exit %d: %s", before, exit_code, text);
    }
}

UNUSED static uint64_t accept_message(const struct bed *bed, const char *recipients,
                                      char id_out[QUEUE_ID_TEXT])
{
    uint64_t id = 0;
    assert_int_equal(fixture_accept(bed->fixture, recipients, "A: b\r\n\r\nx\r\n", 11, &id), 0);
    queue_id_text(id, id_out);
    return id;
}

#define BED_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
