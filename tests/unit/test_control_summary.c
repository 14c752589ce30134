/* summary through the control socket: rows by domain and by sender, of what the selectors mean. */
#include "control_bed.h"
#include "mta/control/walk.h"

#define MINUTE_MS INT64_C(60000)

static void accept_aged(const struct bed *bed, const char *sender, const char *recipients,
                        int64_t age_ms, int times)
{
    for (int i = 0; i < times; i++) {
        struct fixture_envelope e;
        char space[512];
        struct queue_put *put = NULL;
        struct answer answer = {ANSWER_NONE, 0};
        uint64_t id = 0;
        fixture_envelope(&e, recipients, space);
        e.envelope.sender = sender;
        e.envelope.accepted_unix_ms = time_wall_ms() - age_ms;
        assert_int_equal(queue_put_begin(bed->fixture->queue, bed->fixture->port, &put, &id), 0);
        queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
        assert_int_equal(fixture_result(bed->fixture, &answer), 0);
    }
}

static void fill(const struct bed *bed)
{
    accept_aged(bed, "x@One.example", "a@a.example b@b.example", 0, 3);
    accept_aged(bed, "y@two.example", "a@a.example", 7 * MINUTE_MS, 2);
    accept_aged(bed, "", "c@c.example", 2000 * MINUTE_MS, 1);
    accept_aged(bed, "postmaster", "c@d.example", -60 * MINUTE_MS, 1); /* the clock was set back */
}

static void assert_row(const json_t *lines, size_t index, const char *kind, const char *name,
                       const char *counts)
{
    const json_t *row = json_array_get(lines, index);
    char *text = json_dumps(json_object_get(row, "counts"), JSON_COMPACT);
    int64_t sum = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(row, "counts")); i++)
        sum += json_integer_value(json_array_get(json_object_get(row, "counts"), i));
    assert_string_equal(text_at(lines, index, "row"), kind);
    assert_string_equal(text_at(lines, index, "name"), name);
    assert_string_equal(text, counts);
    assert_int_equal(number_at(lines, index, "total"), sum);
    free(text);
}

static void test_by_domain(void **state)
{
    struct bed *bed = *state;
    json_t *lines = ask(bed, "{\"command\":\"summary\"}");
    assert_end(lines, 1, 0); /* an empty queue is an answer */
    assert_row(lines, 0, "total", "", "[0,0,0,0,0,0,0,0,0,0]");
    json_decref(lines);
    fill(bed);
    lines = ask(bed, "{\"command\":\"summary\"}");
    assert_end(lines, 5, 0);
    assert_row(lines, 0, "total", "", "[7,2,0,0,0,0,0,0,0,1]");
    assert_int_equal(json_array_size(json_object_get(json_array_get(lines, 0), "minutes")), 9);
    assert_row(lines, 1, "domain", "a.example", "[3,2,0,0,0,0,0,0,0,0]");
    assert_row(lines, 2, "domain", "b.example", "[3,0,0,0,0,0,0,0,0,0]");
    assert_row(lines, 3, "domain", "c.example", "[0,0,0,0,0,0,0,0,0,1]");
    assert_row(lines, 4, "domain", "d.example", "[1,0,0,0,0,0,0,0,0,0]");
    json_decref(lines);

    lines = ask(bed, "{\"command\":\"summary\",\"rows\":1}");
    assert_end(lines, 3, 0);
    assert_row(lines, 2, "others", "", "[4,0,0,0,0,0,0,0,0,1]");
    assert_int_equal(number_at(lines, 2, "names"), 3);
    assert_true(json_is_false(json_object_get(json_array_get(lines, 2), "at_least")));
    json_decref(lines);
}

static void test_by_sender(void **state)
{
    struct bed *bed = *state;
    fill(bed);
    json_t *lines = ask(bed, "{\"command\":\"summary\",\"by\":\"sender\"}");
    assert_end(lines, 5, 0);
    assert_row(lines, 0, "total", "", "[4,2,0,0,0,0,0,0,0,1]"); /* messages, not units */
    assert_row(lines, 1, "sender", "one.example", "[3,0,0,0,0,0,0,0,0,0]");
    assert_row(lines, 2, "sender", "two.example", "[0,2,0,0,0,0,0,0,0,0]");
    assert_row(lines, 3, "sender", "<>", "[0,0,0,0,0,0,0,0,0,1]");
    assert_row(lines, 4, "sender", "postmaster", "[1,0,0,0,0,0,0,0,0,0]");
    json_decref(lines);
}

static void test_selectors(void **state)
{
    struct bed *bed = *state;
    static const struct {
        const char *selectors;
        int64_t total;
        int exit_code;
    } cases[] = {
        {"\"domain\":\"a.example\"", 5, 0},
        {"\"sender\":\"x@one.example\"", 6, 0},
        {"\"older_s\":300", 3, 0},
        {"\"state\":\"queued\"", 10, 0},
        {"\"state\":\"held\"", 0, 1},
        {"\"state\":\"damaged\"", 0, 1}, /* nothing is known about those */
        {"\"all\":true", 10, 0},
    };
    fill(bed);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        (void)snprintf(request, sizeof request, "{\"command\":\"summary\",%s}", cases[i].selectors);
        json_t *lines = ask(bed, request);
        assert_int_equal(number_at(lines, 0, "total"), cases[i].total);
        assert_int_equal(number_at(lines, json_array_size(lines) - 1, "exit"), cases[i].exit_code);
        json_decref(lines);
    }
}

/* Each holds a table: so many at a time. */
static void test_too_many(void **state)
{
    struct bed *bed = *state;
    bed->control->summaries = 4;
    json_t *lines = ask(bed, "{\"command\":\"summary\"}");
    assert_end(lines, 0, 1);
    assert_non_null(strstr(text_at(lines, 0, "error"), "other summaries are being made"));
    json_decref(lines);
    bed->control->summaries = 3;
    lines = ask(bed, "{\"command\":\"summary\"}");
    assert_end(lines, 1, 0);
    json_decref(lines);
    assert_int_equal(bed->control->summaries, 3); /* it has been given back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_by_domain),
        BED_TEST(test_by_sender),
        BED_TEST(test_selectors),
        BED_TEST(test_too_many),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
