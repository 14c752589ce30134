/* Requests of the control socket good and bad, status and reload, the socket file. */
#include "control_bed.h"

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
        {"{\"command\":\"holds\"}\n", "this daemon does not know the command"},
        {"{\"command\":\"hold\"}\n", "which messages?"},
        {"{\"command\":\"release\",\"all\":false}\n", "which messages?"},
        {"{\"command\":\"bounce\",\"reason\":\"x\"}\n", "which messages?"},
        {"{\"command\":\"bounce\",\"all\":true,\"reason\":7}\n", "reason: expected a text"},
        {"{\"command\":\"summary\",\"by\":\"size\"}\n", "by: expected domain or sender"},
        {"{\"command\":\"summary\",\"by\":null}\n", "by: expected domain or sender"},
        {"{\"command\":\"summary\",\"rows\":0}\n", "rows: expected a number from 1 on"},
        {"{\"command\":\"summary\",\"domain\":7}\n", "domain: expected a text"},
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
    json_t *lines = ask(bed, "{\"command\":\"status\"}");
    assert_true(json_is_null(json_object_get(json_array_get(lines, 0), "oldest_age")));
    json_decref(lines);
    (void)accept_message(bed, "a@a.example b@b.example", id);
    lines = ask(bed, "{\"command\":\"status\"}");
    assert_end(lines, 1, 0);
    assert_string_equal(text_at(lines, 0, "version"), MTA_VERSION);
    assert_int_equal(number_at(lines, 0, "queued"), 1);
    assert_int_equal(number_at(lines, 0, "fresh"), 2);
    assert_int_equal(number_at(lines, 0, "bytes"), 11);
    assert_int_equal(number_at(lines, 0, "accepted"), 11);
    assert_int_equal(number_at(lines, 0, "held"), 0);
    assert_in_range(number_at(lines, 0, "oldest_age"), 80000000, 8000000000); /* since 2023 */
    assert_true(json_is_false(json_object_get(json_array_get(lines, 0), "full")));
    assert_true(json_is_false(json_object_get(json_array_get(lines, 0), "broken")));
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

/* The next daemon may have made its socket before the one that ends is all gone. */
static void test_socket_of_the_next(void **state)
{
    struct bed *bed = *state;
    struct control *next = NULL;
    char error[512];
    control_stop(bed->control);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    if (control_new(bed->path, (uid_t)-1, (gid_t)-1, &next, error, sizeof error) < 0)
        fail_msg("%s", error);
    control_free(&bed->control);
    assert_int_equal(access(bed->path, F_OK), 0);
    bed->control = next;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_wrong_requests), BED_TEST(test_too_long_or_too_deep),
        BED_TEST(test_byte_by_byte),   BED_TEST(test_status_and_reload),
        BED_TEST(test_socket_file),    BED_TEST(test_socket_of_the_next),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
