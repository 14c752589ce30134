/* list: which units, in what order, how much at a time. */
#include "control_bed.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_list),
        BED_TEST(test_list_many),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as mtad does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
