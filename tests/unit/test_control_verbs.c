/* retry, hold, release, delete and bounce through the control socket. */
#include "control_bed.h"
#include "mta/control/verb.h"

#define LATER INT64_C(4000000000000)

/* ---- each verb with each state ---- */

/* One message a state; "both" has a unit of each of two domains. */
struct mail {
    uint64_t id;
    char text[QUEUE_ID_TEXT];
};

static struct mail accept_one(const struct bed *bed, const char *recipients)
{
    struct mail mail;
    mail.id = accept_message(bed, recipients, mail.text);
    return mail;
}

static struct mail accept_deferred(const struct bed *bed, const char *recipients)
{
    struct mail mail = accept_one(bed, recipients);
    assert_int_equal(fixture_record(bed->fixture, mail.id, 0, 0, QUEUE_RCPT_WAITING, LATER), 0);
    return mail;
}

static json_t *run_verb(struct bed *bed, const char *verb, const char *selectors, bool dry_run)
{
    char request[512];
    (void)snprintf(request, sizeof request, "{\"command\":\"%s\",%s,\"dry_run\":%s}", verb,
                   selectors, dry_run ? "true" : "false");
    return ask(bed, request);
}

/* The sum is the line before the end. */
static int64_t sum_of(const json_t *lines, const char *key)
{
    return number_at(lines, json_array_size(lines) - 2, key);
}

static int exit_of(const json_t *lines)
{
    return (int)number_at(lines, json_array_size(lines) - 1, "exit");
}

/* Dry, then for real: both tell the same, and only the second changes anything. */
static void assert_verb(struct bed *bed, const char *verb, const char *selectors, int64_t count,
                        int64_t units, int64_t skipped)
{
    char before[65536];
    json_t *listed = ask(bed, "{\"command\":\"list\"}");
    for (int dry_run = 1; dry_run >= 0; dry_run--) {
        json_t *lines = run_verb(bed, verb, selectors, dry_run == 1);
        if (sum_of(lines, "count") != count || sum_of(lines, "units") != units ||
            sum_of(lines, "skipped") != skipped || exit_of(lines) != (count + skipped == 0))
            fail_msg("%s %s: %s", verb, selectors, json_dumps(lines, 0));
        assert_int_equal(json_array_size(lines), (size_t)count + 2);
        for (size_t i = 0; i < (size_t)count; i++)
            assert_string_equal(text_at(lines, i, "result"), dry_run ? "would be changed" : "done");
        json_decref(lines);
        json_t *now = ask(bed, "{\"command\":\"list\"}");
        for (size_t i = 0; i < json_array_size(listed); i++) { /* ages pass */
            (void)json_object_del(json_array_get(listed, i), "age");
            (void)json_object_del(json_array_get(now, i), "age");
        }
        (void)snprintf(before, sizeof before, "%s %s", verb, selectors);
        if (dry_run == 1 && !json_equal(listed, now))
            fail_msg("%s was no dry run", before);
        json_decref(now);
    }
    json_decref(listed);
}

static void assert_state(struct bed *bed, const struct mail *mail, const char *state)
{
    char request[128];
    (void)snprintf(request, sizeof request, "{\"command\":\"list\",\"id\":\"%s\"}", mail->text);
    json_t *lines = ask(bed, request);
    assert_string_equal(text_at(lines, 0, "state"), state);
    json_decref(lines);
}

static void test_each_state(void **state)
{
    struct bed *bed = *state;
    struct mail fresh = accept_one(bed, "a@a.example");
    struct mail late = accept_deferred(bed, "a@b.example");
    struct mail parked = accept_one(bed, "a@c.example");
    queue_park(bed->fixture->queue, NULL, parked.id, 0, LATER, NULL, NULL);
    fixture_settle(bed->fixture);

    assert_verb(bed, "retry", "\"all\":true", 2, 2, 1); /* a fresh one is on its way */
    assert_verb(bed, "release", "\"all\":true", 0, 0, 3);
    assert_verb(bed, "hold", "\"state\":\"deferred\"", 1, 1, 0);
    assert_state(bed, &late, "held");
    assert_verb(bed, "hold", "\"all\":true", 2, 2, 1);
    assert_state(bed, &fresh, "held");
    assert_state(bed, &parked, "held");
    assert_int_equal(fixture_counts(bed->fixture).units_held, 3);
    assert_verb(bed, "retry", "\"all\":true", 0, 0, 3); /* held mail is left alone */
    assert_verb(bed, "release", "\"domain\":\"b.example\"", 1, 1, 0);
    assert_state(bed, &late, "deferred");
    assert_verb(bed, "release", "\"state\":\"held\"", 2, 2, 0);
    assert_state(bed, &fresh, "queued");
    assert_verb(bed, "hold", "\"domain\":\"a.example\"", 1, 1, 0);
    assert_verb(bed, "bounce", "\"all\":true", 3, 3, 0); /* held mail too */
    assert_verb(bed, "bounce", "\"all\":true", 0, 0, 3); /* on its way already */
    assert_verb(bed, "delete", "\"state\":\"held\"", 0, 0, 0);
    assert_verb(bed, "delete", "\"all\":true", 3, 3, 0);
    assert_int_equal(fixture_counts(bed->fixture).messages, 0);
}

static void test_retry_is_due_now(void **state)
{
    struct bed *bed = *state;
    (void)accept_deferred(bed, "a@a.example");
    assert_verb(bed, "retry", "\"state\":\"deferred\"", 1, 1, 0);
    json_t *lines = ask(bed, "{\"command\":\"list\"}");
    assert_true(strcmp(text_at(lines, 0, "next"), "2090") < 0);
    json_decref(lines);
}

/* What the sender will be told is kept with the message. */
static void test_bounce(void **state)
{
    struct bed *bed = *state;
    struct mail mail = accept_deferred(bed, "a@a.example b@a.example");
    char selectors[64];
    char request[128];
    (void)snprintf(selectors, sizeof selectors, "\"id\":\"%s\",\"reason\":\"wrong list\"",
                   mail.text);
    assert_verb(bed, "bounce", selectors, 1, 1, 0);
    (void)snprintf(request, sizeof request, "{\"command\":\"show\",\"id\":\"%s\"}", mail.text);
    json_t *lines = ask(bed, request);
    const json_t *recipients = json_object_get(json_array_get(lines, 0), "recipients");
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(text_at(recipients, i, "state"), "bounce pending");
        const json_t *attempts = json_object_get(json_array_get(recipients, i), "attempts");
        size_t last = json_array_size(attempts) - 1;
        assert_string_equal(text_at(attempts, last, "status"), "5.7.0");
        assert_string_equal(text_at(attempts, last, "text"),
                            "returned to the sender by the administrator: wrong list");
    }
    json_decref(lines);
}

/* ---- which units of a message ---- */

static void test_units(void **state)
{
    struct bed *bed = *state;
    struct mail both = accept_one(bed, "a@a.example b@b.example c@c.example");
    struct mail lone = accept_one(bed, "a@a.example");
    char selectors[128];
    assert_verb(bed, "hold", "\"domain\":\"a.example\"", 2, 2, 0);
    assert_verb(bed, "hold", "\"all\":true", 1, 2, 2);
    assert_verb(bed, "release", "\"recipient\":\"B@b.example\"", 1, 1, 0);

    json_t *lines = run_verb(bed, "delete", "\"domain\":\"a.example\"", false);
    assert_end(lines, 3, 0);
    assert_string_equal(text_at(lines, 0, "domain"), "a.example");
    assert_int_equal(sum_of(lines, "partial"), 1);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 1);

    (void)snprintf(selectors, sizeof selectors, "\"id\":\"%s\",\"domain\":\"c.example\"",
                   both.text);
    assert_verb(bed, "delete", selectors, 1, 1, 0);
    (void)snprintf(selectors, sizeof selectors, "\"id\":\"%s\"", both.text);
    assert_verb(bed, "delete", selectors, 1, 1, 0);
    assert_verb(bed, "delete", selectors, 0, 0, 0);
    (void)snprintf(selectors, sizeof selectors, "\"id\":\"%s\"", lone.text);
    assert_verb(bed, "delete", selectors, 0, 0, 0);
    assert_int_equal(fixture_counts(bed->fixture).messages, 0);
}

/* Others travel with the recipient that was named. */
static void test_recipient_among_others(void **state)
{
    struct bed *bed = *state;
    static const char *const finals[] = {"delete", "bounce"};
    struct mail pair = accept_one(bed, "c@c.example d@c.example");
    for (size_t i = 0; i < 2; i++) {
        json_t *lines = run_verb(bed, finals[i], "\"recipient\":\"c@c.example\"", false);
        assert_end(lines, 2, 1); /* d@c.example would go with it */
        assert_memory_equal(text_at(lines, 0, "result"), "kept: ", 6);
        assert_int_equal(sum_of(lines, "kept"), 1);
        json_decref(lines);
    }
    assert_verb(bed, "hold", "\"recipient\":\"c@c.example\"", 1, 1, 0); /* it can be undone */
    assert_int_equal(fixture_record(bed->fixture, pair.id, 0, 1, QUEUE_RCPT_DELIVERED, LATER), 0);
    assert_verb(bed, "delete", "\"recipient\":\"c@c.example\"", 1, 1, 0); /* now it is alone */
    assert_int_equal(fixture_counts(bed->fixture).messages, 0);
}

/* ---- many ---- */

static void accept_many(const struct bed *bed, int count)
{
    char id[QUEUE_ID_TEXT];
    for (int i = 0; i < count; i++)
        (void)accept_message(bed, i % 2 == 0 ? "a@a.example" : "b@b.example", id);
}

static void test_delete_many(void **state)
{
    struct bed *bed = *state;
    accept_many(bed, 1200);
    json_t *lines = run_verb(bed, "delete", "\"domain\":\"a.example\"", true);
    assert_int_equal(sum_of(lines, "count"), 600);
    json_decref(lines);
    lines = run_verb(bed, "delete", "\"domain\":\"a.example\"", false);
    assert_end(lines, 601, 0);
    assert_int_equal(sum_of(lines, "count"), 600);
    json_decref(lines);
    assert_int_equal(fixture_counts(bed->fixture).messages, 600);
}

/* The client wants the first few named, and the number of the others. */
static void test_few_lines(void **state)
{
    struct bed *bed = *state;
    accept_many(bed, 60);
    for (int dry_run = 1; dry_run >= 0; dry_run--) {
        json_t *lines = run_verb(bed, "hold", "\"all\":true,\"lines\":20", dry_run == 1);
        assert_end(lines, 21, 0);
        assert_int_equal(sum_of(lines, "count"), 60);
        assert_int_equal(sum_of(lines, "unlisted"), 40);
        json_decref(lines);
    }
    json_t *lines = run_verb(bed, "release", "\"all\":true,\"lines\":0", false);
    assert_end(lines, 1, 0);
    json_decref(lines);
}

/* What comes in while a verb is at work is not meant by it. */
static void test_later_mail(void **state)
{
    struct bed *bed = *state;
    accept_many(bed, 10);
    int fd = connect_client(bed);
    size_t len = 0;
    (void)begin_walk(bed, fd, "{\"command\":\"hold\",\"all\":true,\"lines\":0}\n");
    struct mail later = accept_one(bed, "a@a.example");
    char *answer = read_all(bed, fd, &len);
    close(fd);
    assert_non_null(strstr(answer, "{\"count\":10,"));
    free(answer);
    assert_state(bed, &later, "queued");
    assert_int_equal(fixture_counts(bed->fixture).units_held, 10);
}

/* Removing tells who it was, in memory that does not grow with the queue. */
static void test_wide_messages(void **state)
{
    struct bed *bed = *state;
    enum { COUNT = 40, RCPTS = 1200 };
    static char addresses[RCPTS][256];
    static struct queue_recipient recipients[RCPTS];
    struct answer answers[COUNT];
    for (size_t i = 0; i < RCPTS; i++) {
        memset(addresses[i], 'a', 240);
        (void)snprintf(addresses[i] + 200, 56, "%zu@a.example", i);
        recipients[i] = (struct queue_recipient){.address = addresses[i], .domain = "a.example"};
    }
    struct queue_envelope envelope = {.sender = "s@s.example",
                                      .recipients = recipients,
                                      .recipient_count = RCPTS,
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000000};
    for (size_t i = 0; i < COUNT; i++) {
        struct queue_put *put = NULL;
        uint64_t id = 0;
        answers[i] = (struct answer){ANSWER_NONE, 0};
        assert_int_equal(queue_put_begin(bed->fixture->queue, bed->fixture->port, &put, &id), 0);
        queue_put_commit(put, &envelope, fixture_on_done, &answers[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(fixture_result(bed->fixture, &answers[i]), 0);

    int fd = connect_client(bed);
    size_t most = 0;
    size_t len = 0;
    const struct control_client *client =
        begin_walk(bed, fd, "{\"command\":\"delete\",\"all\":true}\n");
    while (bed->control->clients == client && !client->finishing) {
        const struct verb *verb = client->walk->own;
        most = verb->logged_bytes > most ? verb->logged_bytes : most;
        uv_run(&bed->loop, UV_RUN_NOWAIT);
    }
    free(read_all(bed, fd, &len));
    close(fd);
    assert_in_range(most, 1, (size_t)5 << 20);
    assert_int_equal(fixture_counts(bed->fixture).messages, 0);
}

/* Told at most twice a second, and only where it was asked for. */
static void test_progress(void **state)
{
    struct bed *bed = *state;
    accept_many(bed, 100);
    int fd = connect_client(bed);
    size_t len = 0;
    const char *request = "{\"command\":\"hold\",\"all\":true,\"lines\":0,\"progress\":true}\n";
    begin_walk(bed, fd, request)->walk->progress_ms -= WALK_PROGRESS_MS;
    char *answer = read_all(bed, fd, &len);
    close(fd);
    assert_non_null(
        strstr(answer, "{\"progress\":{\"seen\":100,\"total\":100,\"matched\":100}}\n"));
    free(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_each_state),
        BED_TEST(test_retry_is_due_now),
        BED_TEST(test_bounce),
        BED_TEST(test_units),
        BED_TEST(test_recipient_among_others),
        BED_TEST(test_delete_many),
        BED_TEST(test_few_lines),
        BED_TEST(test_later_mail),
        BED_TEST(test_wide_messages),
        BED_TEST(test_progress),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
