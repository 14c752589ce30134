/* show and cat. */
#include "control_bed.h"

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

static uint64_t accept_asking(struct bed *bed, char id_text[QUEUE_ID_TEXT])
{
    struct queue_recipient recipients[] = {
        {.address = "a@a.example",
         .domain = "a.example",
         .notify = QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_DELAY,
         .orcpt = "utf-8;\xc3\xa4\xff@x"},
        {.address = "b@a.example",
         .domain = "a.example",
         .notify = QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_EXPANDED},
        {.address = "c@a.example", .domain = "a.example", .notify = QUEUE_NOTIFY_FAILURE},
        {.address = "d@a.example", .domain = "a.example"},
    };
    struct queue_envelope envelope = {.sender = "s@s.example",
                                      .recipients = recipients,
                                      .recipient_count = 4,
                                      .flags = QUEUE_FLAG_SMTPUTF8 | QUEUE_FLAG_REQUIRETLS,
                                      .ret = QUEUE_RET_HDRS,
                                      .envid = "QQ+3D1",
                                      .sign_domain = ""};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    assert_int_equal(queue_put_begin(bed->fixture->queue, bed->fixture->port, &put, &id), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(bed->fixture, &answer), 0);
    queue_id_text(id, id_text);
    return id;
}

/* What MAIL and RCPT asked for is shown where it was given, and nothing where it was not. */
static void test_show_params(void **state)
{
    static const char *const keys[] = {"ret", "envid", "smtputf8", "requiretls"};
    struct bed *bed = *state;
    char id_text[QUEUE_ID_TEXT];
    char request[128];
    (void)accept_asking(bed, id_text);
    (void)snprintf(request, sizeof request, "{\"command\":\"show\",\"id\":\"%s\"}", id_text);
    json_t *lines = ask(bed, request);
    json_t *message = json_array_get(lines, 0);
    assert_string_equal(text_at(lines, 0, "ret"), "HDRS");
    assert_string_equal(text_at(lines, 0, "envid"), "QQ+3D1");
    assert_true(json_is_true(json_object_get(message, "smtputf8")));
    assert_true(json_is_true(json_object_get(message, "requiretls")));
    const json_t *recipients = json_object_get(message, "recipients");
    json_t *notify = json_object_get(json_array_get(recipients, 0), "notify");
    char *words = json_dumps(notify, JSON_COMPACT);
    assert_string_equal(words, "[\"SUCCESS\",\"DELAY\"]");
    free(words);
    assert_string_equal(text_at(recipients, 0, "orcpt"), "utf-8;\xc3\xa4\\xff@x");
    assert_null(json_object_get(json_array_get(recipients, 0), "notify_expanded"));
    words = json_dumps(json_object_get(json_array_get(recipients, 1), "notify"), JSON_COMPACT);
    assert_string_equal(words, "[\"NEVER\"]");
    free(words);
    assert_true(json_is_true(json_object_get(json_array_get(recipients, 1), "notify_expanded")));
    assert_null(json_object_get(json_array_get(recipients, 1), "orcpt"));
    words = json_dumps(json_object_get(json_array_get(recipients, 2), "notify"), JSON_COMPACT);
    assert_string_equal(words, "[\"FAILURE\"]");
    free(words);
    assert_null(json_object_get(json_array_get(recipients, 3), "notify"));
    json_decref(lines);

    (void)accept_message(bed, "a@a.example", id_text);
    (void)snprintf(request, sizeof request, "{\"command\":\"show\",\"id\":\"%s\"}", id_text);
    lines = ask(bed, request);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_null(json_object_get(json_array_get(lines, 0), keys[i]));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_show),
        BED_TEST(test_show_params),
        BED_TEST(test_cat),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
