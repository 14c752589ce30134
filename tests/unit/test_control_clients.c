/* Clients of the control socket that read slowly, leave early or never ask. */
#include "control_bed.h"
#include "mta/control/verb.h"

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
    const struct control_client *client = begin_walk(bed, fd, "{\"command\":\"list\"}\n");
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    while (!client->waiting || client->walk->stepping) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
    }
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

/* Until the writer has been asked for something. */
static void turn_until_outstanding(struct bed *bed)
{
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    const struct verb *verb = NULL;
    while (verb == NULL || verb->outstanding == 0) {
        uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_true(time_monotonic_ms() < until_ms);
        const struct control_client *client = bed->control->clients;
        verb = client != NULL && client->walk != NULL ? client->walk->own : NULL;
    }
}

static void test_client_leaves_with_verbs_under_way(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"delete\",\"all\":true}\n", 32);
    turn_until_outstanding(bed);
    close(fd);
    turn_until_clients(bed, 0);
    assert_in_range(fixture_counts(bed->fixture).messages, 0, 99);
}

/* A selection of nothing writes nothing that could fail: its client is missed all the same. */
static void test_client_leaves_while_scanning(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    for (int rest = 0; rest < 2; rest++) { /* with its own side ended or not */
        int fd = connect_client(bed);
        const struct control_client *client =
            begin_walk(bed, fd, "{\"command\":\"hold\",\"domain\":\"b.example\"}\n");
        if (rest == 1)
            (void)shutdown(fd, SHUT_WR);
        assert_false(control_has_left(client));
        close(fd);
        assert_true(control_has_left(client));
        turn_until_clients(bed, 0);
    }
}

/* The daemon ends while the scanner has a walk. */
static void test_stop_while_scanning(void **state)
{
    struct bed *bed = *state;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    struct control_client *client = begin_walk(bed, fd, "{\"command\":\"summary\"}\n");
    control_command_step(client);
    assert_true(client->walk->stepping);
    close(fd);
}

static size_t count_events(const char *path, const char *event)
{
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, event) != NULL;
    (void)fclose(file);
    return count;
}

/* What the writer was asked for is done all the same, so it is told. */
static void test_stop_with_verbs_under_way(void **state)
{
    struct bed *bed = *state;
    char path[160];
    char error[256];
    (void)snprintf(path, sizeof path, "%s/log", bed->fixture->folder);
    const struct log_options options = {
        .level = LOG_LEVEL_INFO, .target = LOG_TO_FILE, .file = path};
    accept_wide_messages(bed);
    assert_int_equal(log_open(&options, &bed->control->log, error, sizeof error), 0);
    struct log *log = bed->control->log;
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"delete\",\"all\":true}\n", 32);
    turn_until_outstanding(bed);
    control_stop(bed->control);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    fixture_settle(bed->fixture);
    log_close(&log);
    size_t left = (size_t)fixture_counts(bed->fixture).messages;
    assert_in_range(left, 0, 99);
    assert_int_equal(count_events(path, "\"removed\""), 8 * (100 - left));
    assert_int_equal(unlink(path), 0);
    close(fd);
}

/* The store fails in the middle: what was done until then is told before the error. */
static void test_walk_fails_half_way(void **state)
{
    struct bed *bed = *state;
    size_t len = 0;
    unsigned long long count = 0;
    accept_wide_messages(bed);
    int fd = connect_client(bed);
    send_text(bed, fd, "{\"command\":\"hold\",\"all\":true,\"lines\":0}\n", 41);
    turn_until_outstanding(bed);
    bed->control->clients->walk->failure = QUEUE_ERR_IO;
    char *answer = read_all(bed, fd, &len);
    assert_int_equal(sscanf(answer, "{\"count\":%llu,", &count), 1);
    assert_in_range(count, 1, 100);
    assert_int_equal(fixture_counts(bed->fixture).units_held, count);
    const char *end = strchr(answer, '\n') + 1;
    assert_memory_equal(end, "{\"error\":", 9);
    assert_string_equal(strchr(end, '\n'), "\n");
    close(fd);
    free(answer);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_slow_client),
        BED_TEST(test_client_leaves_while_listing),
        BED_TEST(test_client_leaves_with_verbs_under_way),
        BED_TEST(test_stop_with_verbs_under_way),
        BED_TEST(test_walk_fails_half_way),
        BED_TEST(test_client_leaves_while_scanning),
        BED_TEST(test_stop_while_scanning),
        BED_TEST(test_too_many_clients),
        BED_TEST(test_request_never_comes),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
