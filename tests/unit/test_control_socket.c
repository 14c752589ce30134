/* The control socket with a real queue behind it: requests good and bad, clients that read slowly,
 * leave early or never ask. One thread: the test turns the loop while it reads. */
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

static void read_status(struct control_status *out, void *ctx)
{
    (void)ctx;
    *out = (struct control_status){.accepted = 11, .active = 3, .uptime_s = 77};
}

static bool is_active(uint64_t id, uint16_t unit, void *ctx)
{
    (void)id;
    (void)unit;
    (void)ctx;
    return false;
}

static int reload(char *text, size_t size, void *ctx)
{
    const struct bed *bed = ctx;
    if (bed->reload_error == NULL)
        return 0;
    (void)snprintf(text, size, "%s", bed->reload_error);
    return -1;
}

static int setup(void **state)
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

static int teardown(void **state)
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

static int connect_client(const struct bed *bed)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, bed->path, strlen(bed->path) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Turn the loop until the peer has closed. Owned, NUL-terminated (and so are NULs in it kept). */
static char *read_all(struct bed *bed, int fd, size_t *len_out)
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

static void send_text(struct bed *bed, int fd, const char *text, size_t len)
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

static char *exchange(struct bed *bed, const char *request)
{
    size_t len = 0;
    int fd = connect_client(bed);
    send_text(bed, fd, request, strlen(request));
    char *answer = read_all(bed, fd, &len);
    close(fd);
    return answer;
}

/* The lines of an answer as an array; the last one is the end. Owned. */
static json_t *ask(struct bed *bed, const char *request)
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

static const char *text_at(const json_t *lines, size_t index, const char *key)
{
    const char *text = json_string_value(json_object_get(json_array_get(lines, index), key));
    return text != NULL ? text : "(none)";
}

static int64_t number_at(const json_t *lines, size_t index, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(lines, index), key));
}

/* `lines` before the end, which has this exit code. */
static void assert_end(const json_t *lines, size_t before, int exit_code)
{
    size_t last = json_array_size(lines) - 1;
    if (last != before || number_at(lines, last, "exit") != exit_code) {
        char *text = json_dumps(lines, JSON_INDENT(1));
        fail_msg("expected %zu lines and exit %d: %s", before, exit_code, text);
    }
}

static uint64_t accept_message(const struct bed *bed, const char *recipients,
                               char id_out[QUEUE_ID_TEXT])
{
    uint64_t id = 0;
    assert_int_equal(fixture_accept(bed->fixture, recipients, "A: b\r\n\r\nx\r\n", 11, &id), 0);
    queue_id_text(id, id_out);
    return id;
}

/* ---- requests ---- */

static void test_wrong_requests(void **state)
{
    struct bed *bed = *state;
    static const struct {
        const char *request, *error;
    } cases[] = {
        {"\n", "the request is not a JSON object"},
        {"hello\n", "the request is not a JSON object"},
        {"[]\n", "the request is not a JSON object"},
        {"{\"command\":\"status\",\"command\":\"list\"}\n", "the request is not a JSON object"},
        {"{\"command\":\"status\"} x\n", "the request is not a JSON object"},
        {"{\"command\":\"stat\xff\"}\n", "the request is not a JSON object"},
        {"{}\n", "this daemon does not know the command"},
        {"{\"command\":7}\n", "this daemon does not know the command"},
        {"{\"command\":\"hold\"}\n", "this daemon does not know the command"},
        {"{\"command\":\"list\",\"limit\":0}\n", "limit: expected a number from 1 on"},
        {"{\"command\":\"list\",\"limit\":\"3\"}\n", "limit: expected a number from 1 on"},
        {"{\"command\":\"list\",\"id\":\"x\"}\n", "is not a message id"},
        {"{\"command\":\"delete\"}\n", "which messages?"},
        {"{\"command\":\"retry\",\"limit\":5}\n", "which messages?"},
        {"{\"command\":\"show\"}\n", "which message? give its id"},
        {"{\"command\":\"cat\",\"all\":true}\n", "which message? give its id"},
        {"{\"command\":\"show\",\"id\":\"\\u001b[31m\"}\n", "\\\\x1b[31m"},
        {"{\"command\":\"show\",\"id\":\"0000000000001\"}\n", "no such message in the queue"},
        {"{\"command\":\"cat\",\"id\":\"0000000000001\"}\n", "no such message in the queue"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *answer = exchange(bed, cases[i].request);
        if (strncmp(answer, "{\"error\":\"", 10) != 0 || strstr(answer, cases[i].error) == NULL ||
            strcmp(answer + strlen(answer) - 11, ",\"exit\":1}\n") != 0 ||
            strchr(answer, '\n') != answer + strlen(answer) - 1)
            fail_msg("%s got %s", cases[i].request, answer);
        free(answer);
    }
}

static void test_too_long_or_too_deep(void **state)
{
    struct bed *bed = *state;
    size_t size = (size_t)1024 * 1024;
    char *request = mem_alloc(size + 1);
    memset(request, '[', size);
    char *answer = exchange(bed, request);
    assert_string_equal(answer, "{\"error\":\"the request is too long\",\"exit\":1}\n");
    free(answer);
    request[60000] = '\n';
    request[60001] = '\0';
    answer = exchange(bed, request);
    assert_string_equal(answer, "{\"error\":\"the request is not a JSON object\",\"exit\":1}\n");
    free(answer);
    free(request);
}

static void test_byte_by_byte(void **state)
{
    struct bed *bed = *state;
    static const char request[] = "{\"command\":\"status\"}\n{\"command\":\"list\"}\n";
    size_t len = 0;
    int fd = connect_client(bed);
    for (size_t i = 0; i < sizeof request - 1; i++)
        send_text(bed, fd, request + i, 1);
    (void)shutdown(fd, SHUT_WR);
    char *answer = read_all(bed, fd, &len);
    close(fd);
    /* one request a connection: two lines, not more */
    char *end = strchr(answer, '\n');
    assert_non_null(strstr(answer, "\"uptime\":77,"));
    assert_string_equal(end + 1, "{\"done\":true,\"exit\":0}\n");
    free(answer);
}

static void test_status_and_reload(void **state)
{
    struct bed *bed = *state;
    char id[QUEUE_ID_TEXT];
    (void)accept_message(bed, "a@a.example b@b.example", id);
    json_t *lines = ask(bed, "{\"command\":\"status\"}");
    assert_end(lines, 1, 0);
    assert_string_equal(text_at(lines, 0, "version"), MTA_VERSION);
    assert_int_equal(number_at(lines, 0, "queued"), 1);
    assert_int_equal(number_at(lines, 0, "fresh"), 2);
    assert_int_equal(number_at(lines, 0, "bytes"), 11);
    assert_int_equal(number_at(lines, 0, "accepted"), 11);
    json_decref(lines);

    lines = ask(bed, "{\"command\":\"reload\"}");
    assert_end(lines, 1, 0);
    assert_string_equal(text_at(lines, 0, "result"), "reloaded");
    json_decref(lines);
    bed->reload_error = "mta.yaml:3:1: \x1b]0;x\x07";
    lines = ask(bed, "{\"command\":\"reload\"}");
    assert_end(lines, 0, 1);
    assert_string_equal(text_at(lines, 0, "error"), "mta.yaml:3:1: \\x1b]0;x\\x07");
    json_decref(lines);
}

/* ---- list ---- */

static void test_list(void **state)
{
    struct bed *bed = *state;
    char first[QUEUE_ID_TEXT];
    char second[QUEUE_ID_TEXT];
    char request[128];
    json_t *lines = ask(bed, "{\"command\":\"list\"}");
    assert_end(lines, 0, 0); /* an empty queue is an answer */
    json_decref(lines);
    uint64_t id = accept_message(bed, "a@a.example b@a.example c@b.example", first);
    (void)accept_message(bed, "d@a.example", second);
    assert_int_equal(fixture_record(bed->fixture, id, 0, 0, QUEUE_RCPT_DELIVERED, 1800000000000),
                     0);

    lines = ask(bed, "{\"command\":\"list\"}");
    assert_end(lines, 3, 0);
    assert_string_equal(text_at(lines, 0, "id"), first);
    assert_string_equal(text_at(lines, 0, "domain"), "a.example");
    assert_string_equal(text_at(lines, 0, "state"), "deferred");
    assert_string_equal(text_at(lines, 0, "next"), "2027-01-15T08:00:00.000Z");
    assert_int_equal(number_at(lines, 0, "recipient_count"), 1); /* the other one has it */
    const json_t *open = json_object_get(json_array_get(lines, 0), "recipients");
    assert_string_equal(json_string_value(json_array_get(open, 0)), "b@a.example");
    assert_string_equal(text_at(lines, 1, "domain"), "b.example");
    assert_string_equal(text_at(lines, 1, "state"), "queued");
    assert_string_equal(text_at(lines, 2, "id"), second);
    json_decref(lines);

    (void)snprintf(request, sizeof request, "{\"command\":\"list\",\"id\":\"%s\"}", second);
    lines = ask(bed, request);
    assert_end(lines, 1, 0);
    json_decref(lines);
    lines = ask(bed, "{\"command\":\"list\",\"limit\":2}");
    assert_end(lines, 2, 0);
    json_decref(lines);
    lines = ask(bed, "{\"command\":\"list\",\"domain\":\"c.example\"}");
    assert_end(lines, 0, 1); /* a selection of nothing */
    json_decref(lines);
    lines = ask(bed, "{\"command\":\"list\",\"id\":\"0000000000001\"}");
    assert_end(lines, 0, 1);
    json_decref(lines);
}

static void test_list_many(void **state)
{
    struct bed *bed = *state;
    char last[QUEUE_ID_TEXT] = "";
    char id[QUEUE_ID_TEXT];
    for (int i = 0; i < 150; i++)
        (void)accept_message(bed, "a@a.example", id);
    json_t *lines = ask(bed, "{\"command\":\"list\",\"all\":true}");
    assert_end(lines, 150, 0);
    for (size_t i = 0; i < 150; i++) { /* each once, in the order of their ids */
        assert_true(strcmp(last, text_at(lines, i, "id")) < 0);
        (void)snprintf(last, sizeof last, "%s", text_at(lines, i, "id"));
    }
    json_decref(lines);
}

/* ---- retry and delete ---- */

static void test_retry(void **state)
{
    struct bed *bed = *state;
    char id_text[QUEUE_ID_TEXT];
    uint64_t id = accept_message(bed, "a@a.example", id_text);
    assert_int_equal(fixture_record(bed->fixture, id, 0, 0, QUEUE_RCPT_WAITING, 4000000000000), 0);
    json_t *lines = ask(bed, "{\"command\":\"retry\",\"state\":\"deferred\"}");
    assert_end(lines, 2, 0);
    assert_string_equal(text_at(lines, 0, "id"), id_text);
    assert_string_equal(text_at(lines, 0, "result"), "done");
    assert_int_equal(number_at(lines, 1, "count"), 1);
    json_decref(lines);
    lines = ask(bed, "{\"command\":\"list\"}");
    assert_true(strcmp(text_at(lines, 0, "next"), "2090") < 0);
    json_decref(lines);
    lines = ask(bed, "{\"command\":\"retry\",\"domain\":\"b.example\"}");
    assert_end(lines, 1, 1);
    json_decref(lines);
}

static void test_delete(void **state)
{
    struct bed *bed = *state;
    char both[QUEUE_ID_TEXT];
    char pair[QUEUE_ID_TEXT];
    char lone[QUEUE_ID_TEXT];
    char request[128];
    (void)accept_message(bed, "a@a.example b@b.example", both);
    (void)accept_message(bed, "c@c.example d@c.example", pair);
    (void)accept_message(bed, "a@a.example", lone);

    json_t *lines = ask(bed, "{\"command\":\"delete\",\"domain\":\"a.example\",\"dry_run\":true}");
    assert_end(lines, 3, 0);
    assert_string_equal(text_at(lines, 1, "result"), "would be changed");
    assert_int_equal(number_at(lines, 2, "count"), 1);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 3);

    lines = ask(bed, "{\"command\":\"delete\",\"domain\":\"a.example\"}");
    assert_end(lines, 3, 0);
    assert_string_equal(text_at(lines, 0, "id"), both);
    assert_memory_equal(text_at(lines, 0, "result"), "kept: ", 6);
    assert_string_equal(text_at(lines, 1, "id"), lone);
    assert_string_equal(text_at(lines, 1, "result"), "done");
    assert_int_equal(number_at(lines, 2, "count"), 1);
    json_decref(lines);

    lines = ask(bed, "{\"command\":\"delete\",\"recipient\":\"c@c.example\"}");
    assert_end(lines, 2, 1); /* d@c.example would go with it */
    assert_memory_equal(text_at(lines, 0, "result"), "kept: ", 6);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 2);

    (void)snprintf(request, sizeof request, "{\"command\":\"delete\",\"id\":\"%s\"}", both);
    lines = ask(bed, request);
    assert_end(lines, 2, 0);
    json_decref(lines);
    lines = ask(bed, request);
    assert_end(lines, 1, 1);
    assert_int_equal(number_at(lines, 0, "count"), 0);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 1);
}

/* More than may be with the writer at a time. */
static void test_delete_many(void **state)
{
    struct bed *bed = *state;
    char id[QUEUE_ID_TEXT];
    for (int i = 0; i < 150; i++)
        (void)accept_message(bed, "a@a.example", id);
    json_t *lines = ask(bed, "{\"command\":\"delete\",\"all\":true}");
    assert_end(lines, 151, 0);
    assert_int_equal(number_at(lines, 150, "count"), 150);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 0);
}

/* ---- show and cat ---- */

static void test_show(void **state)
{
    struct bed *bed = *state;
    char id_text[QUEUE_ID_TEXT];
    char request[128];
    uint64_t id = accept_message(bed, "a@a.example b@b.example", id_text);
    struct queue_attempt attempt = fixture_attempt("550 \x1b[2J \xff \"done\":true\r\n.");
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_WAITING, &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = 1800000000000,
                                    .count_attempt = true};
    struct answer answer = {ANSWER_NONE, 0};
    queue_record(bed->fixture->queue, bed->fixture->port, &outcome, fixture_on_done, &answer);
    assert_int_equal(fixture_result(bed->fixture, &answer), 0);

    (void)snprintf(request, sizeof request, "{\"command\":\"show\",\"id\":\"%s\"}", id_text);
    json_t *lines = ask(bed, request);
    assert_end(lines, 1, 0);
    json_t *message = json_array_get(lines, 0);
    assert_string_equal(text_at(lines, 0, "id"), id_text);
    assert_string_equal(text_at(lines, 0, "accepted"), "2023-11-14T22:13:20.000Z");
    assert_int_equal(json_array_size(json_object_get(message, "units")), 2);
    const json_t *recipients = json_object_get(message, "recipients");
    const json_t *attempts = json_object_get(json_array_get(recipients, 0), "attempts");
    assert_int_equal(json_array_size(attempts), 1);
    assert_int_equal(number_at(attempts, 0, "code"), 451);
    assert_string_equal(text_at(attempts, 0, "address"), "192.0.2.1");
    assert_string_equal(text_at(attempts, 0, "text"),
                        "550 \\x1b[2J \\xff \"done\":true\\x0d\\x0a.");
    attempts = json_object_get(json_array_get(recipients, 1), "attempts");
    assert_int_equal(json_array_size(attempts), 0);
    assert_false(json_is_true(json_object_get(message, "attempts_cut")));
    json_decref(lines);
}

/* Put the pieces of a `cat` together. Owned. */
static char *join_raw(const char *answer, size_t len, size_t *len_out)
{
    char *all = mem_alloc(len + 1);
    size_t used = 0;
    const char *p = answer;
    for (;;) {
        long long size = 0;
        const char *end = memchr(p, '\n', len - (size_t)(p - answer));
        assert_non_null(end);
        if (sscanf(p, "{\"raw\":%lld}", &size) != 1)
            break;
        p = end + 1;
        assert_true(size > 0 && (size_t)size <= len - (size_t)(p - answer));
        memcpy(all + used, p, (size_t)size);
        used += (size_t)size;
        p += size;
    }
    assert_string_equal(p, "{\"done\":true,\"exit\":0}\n");
    *len_out = used;
    return all;
}

static void test_cat(void **state)
{
    struct bed *bed = *state;
    static char body[300000];
    char request[128];
    char id_text[QUEUE_ID_TEXT];
    uint64_t id = 0;
    size_t len = 0;
    size_t body_len = 0;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 + i / 251); /* NULs and ends of lines too */
    assert_int_equal(fixture_accept(bed->fixture, "a@a.example", body, sizeof body, &id), 0);
    queue_id_text(id, id_text);
    (void)snprintf(request, sizeof request, "{\"command\":\"cat\",\"id\":\"%s\"}\n", id_text);
    int fd = connect_client(bed);
    send_text(bed, fd, request, strlen(request));
    char *answer = read_all(bed, fd, &len);
    close(fd);
    char *message = join_raw(answer, len, &body_len);
    assert_int_equal(body_len, sizeof body);
    assert_memory_equal(message, body, sizeof body);
    free(message);
    free(answer);
}

/* ---- clients that misbehave ---- */

static void turn_until_clients(struct bed *bed, size_t count)
{
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    while (bed->control->client_count != count) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
        usleep(200);
    }
}

/* 100 messages whose lines in a listing are about 8 KiB. */
static void accept_wide_messages(struct bed *bed)
{
    static char addresses[8][1001];
    struct queue_recipient recipients[8];
    for (size_t i = 0; i < 8; i++) {
        memset(addresses[i], 'a', 1000);
        memcpy(addresses[i] + 980, "@a.example", 11);
        recipients[i] = (struct queue_recipient){.address = addresses[i], .domain = "a.example"};
    }
    struct queue_envelope envelope = {.sender = "s@s.example",
                                      .recipients = recipients,
                                      .recipient_count = 8,
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000000};
    struct answer answers[100];
    for (size_t i = 0; i < 100; i++) {
        struct queue_put *put = NULL;
        uint64_t id = 0;
        answers[i] = (struct answer){ANSWER_NONE, 0};
        assert_int_equal(queue_put_begin(bed->fixture->queue, bed->fixture->port, &put, &id), 0);
        assert_int_equal(queue_put_piece(put, "x\r\n", 3, NULL, NULL), 0);
        queue_put_commit(put, &envelope, fixture_on_done, &answers[i]);
    }
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(fixture_result(bed->fixture, &answers[i]), 0);
}

/* A client that does not read is waited for without spinning and without growing. */
static void test_slow_client(void **state)
{
    struct bed *bed = *state;
    size_t len = 0;
    size_t lines = 0;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"list\"}\n", 19);
    for (int i = 0; i < 2000; i++)
        uv_run(&bed->loop, UV_RUN_NOWAIT);
    assert_int_not_equal(uv_backend_timeout(&bed->loop), 0);
    assert_int_equal(bed->control->client_count, 1);
    size_t waiting = bed->control->clients->pipe.write_queue_size;
    assert_in_range(waiting, CONTROL_PENDING_MAX, CONTROL_PENDING_MAX + 16384);
    char *answer = read_all(bed, fd, &len);
    for (const char *p = answer; *p != '\0'; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 101);
    close(fd);
    free(answer);
}

static void test_client_leaves_while_listing(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"list\"}\n", 19);
    for (int i = 0; i < 100; i++)
        uv_run(&bed->loop, UV_RUN_NOWAIT);
    assert_int_equal(bed->control->client_count, 1);
    close(fd);
    turn_until_clients(bed, 0);
}

static void test_client_leaves_with_verbs_under_way(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"delete\",\"all\":true}\n", 32);
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    while (bed->control->clients == NULL || bed->control->clients->walk.outstanding == 0) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
    }
    close(fd);
    turn_until_clients(bed, 0);
    assert_in_range(fixture_counts(bed->fixture).messages, 0, 99);
}

/* The teardown frees what the writer was asked for and will not answer any more. */
static void test_stop_with_verbs_under_way(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"delete\",\"all\":true}\n", 32);
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    while (bed->control->clients == NULL || bed->control->clients->walk.outstanding == 0) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
    }
    close(fd);
}

static void test_too_many_clients(void **state)
{
    struct bed *bed = *state;
    int fds[CONTROL_CLIENTS_MAX];
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fds[i] = connect_client(bed);
        turn_until_clients(bed, i + 1);
    }
    char *answer = exchange(bed, "");
    assert_string_equal(answer, "{\"error\":\"too many control clients at once\",\"exit\":1}\n");
    free(answer);
    close(fds[0]);
    turn_until_clients(bed, CONTROL_CLIENTS_MAX - 1);
    json_t *lines = ask(bed, "{\"command\":\"status\"}");
    assert_end(lines, 1, 0);
    json_decref(lines);
    for (size_t i = 1; i < CONTROL_CLIENTS_MAX; i++)
        close(fds[i]);
    turn_until_clients(bed, 0);
}

/* The 30 s are cut short by hand. */
static void test_request_never_comes(void **state)
{
    struct bed *bed = *state;
    size_t len = 0;
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\"", 10);
    turn_until_clients(bed, 1);
    uv_timer_t *timer = &bed->control->clients->timer;
    assert_in_range(uv_timer_get_due_in(timer), 1, CONTROL_REQUEST_MS);
    uv_timer_set_repeat(timer, 1);
    assert_int_equal(uv_timer_again(timer), 0);
    char *answer = read_all(bed, fd, &len);
    assert_string_equal(answer, "{\"error\":\"no request came in time\",\"exit\":1}\n");
    close(fd);
    free(answer);
    turn_until_clients(bed, 0);
}

/* ---- the socket file ---- */

static void test_socket_file(void **state)
{
    struct bed *bed = *state;
    struct stat st;
    struct control *second = NULL;
    char error[512];
    char path[160];
    assert_int_equal(stat(bed->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(control_new(bed->path, (uid_t)-1, (gid_t)-1, &second, error, sizeof error),
                     -1);
    assert_non_null(strstr(error, "another mtad is running"));

    /* what a daemon that was killed has left */
    (void)snprintf(path, sizeof path, "%s/stale", bed->fixture->folder);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    assert_int_equal(control_new(path, (uid_t)-1, (gid_t)-1, &second, error, sizeof error), 0);
    control_free(&second);
    assert_int_not_equal(access(path, F_OK), 0);

    /* no file of somebody else is removed */
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(control_new(path, (uid_t)-1, (gid_t)-1, &second, error, sizeof error), -1);
    assert_non_null(strstr(error, "cannot be made"));
    assert_int_equal(access(path, F_OK), 0);

    memset(path, 'p', 150);
    path[150] = '\0';
    assert_int_equal(control_new(path, (uid_t)-1, (gid_t)-1, &second, error, sizeof error), -1);
    assert_non_null(strstr(error, "longer than"));
}

#define BED_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_wrong_requests),
        BED_TEST(test_too_long_or_too_deep),
        BED_TEST(test_byte_by_byte),
        BED_TEST(test_status_and_reload),
        BED_TEST(test_list),
        BED_TEST(test_list_many),
        BED_TEST(test_retry),
        BED_TEST(test_delete),
        BED_TEST(test_delete_many),
        BED_TEST(test_show),
        BED_TEST(test_cat),
        BED_TEST(test_slow_client),
        BED_TEST(test_client_leaves_while_listing),
        BED_TEST(test_client_leaves_with_verbs_under_way),
        BED_TEST(test_stop_with_verbs_under_way),
        BED_TEST(test_too_many_clients),
        BED_TEST(test_request_never_comes),
        BED_TEST(test_socket_file),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
