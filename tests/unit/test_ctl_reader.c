/* The daemon's answer as events: each stream whole, and one byte at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mtactl/reader.h"

/* What a stream became, as text: "L{...} R(bytes) D0". Raw pieces that follow each other are one.
 */
struct trace {
    char text[1024];
    size_t len;
    bool in_raw, ended;
};

static void put(struct trace *trace, const char *text, size_t len)
{
    assert_true(trace->len + len + 4 < sizeof trace->text);
    memcpy(trace->text + trace->len, text, len);
    trace->len += len;
    trace->text[trace->len] = '\0';
}

static void note(struct trace *trace, enum ctl_event event, const struct ctl_answer *answer)
{
    char *line = NULL;
    if (trace->in_raw && event != CTL_RAW)
        put(trace, ") ", 2);
    switch (event) {
    case CTL_LINE:
        line = json_dumps(answer->object, JSON_COMPACT);
        put(trace, "L", 1);
        put(trace, line, strlen(line));
        put(trace, " ", 1);
        free(line);
        break;
    case CTL_RAW:
        if (!trace->in_raw)
            put(trace, "R(", 2);
        assert_true(answer->raw.len > 0);
        put(trace, answer->raw.p, answer->raw.len);
        break;
    case CTL_DONE:
        put(trace, answer->exit_code == 0 ? "D0" : "D1", 2);
        break;
    case CTL_ERROR:
        put(trace, "E:", 2);
        put(trace, answer->text, strlen(answer->text));
        break;
    case CTL_BROKEN:
        put(trace, "B", 1);
        assert_true(strlen(answer->text) > 0);
        break;
    case CTL_MORE:
        fail();
    }
    trace->in_raw = event == CTL_RAW;
    trace->ended = event == CTL_DONE || event == CTL_ERROR || event == CTL_BROKEN;
}

static void feed(const char *bytes, size_t len, size_t step, struct trace *trace)
{
    struct ctl_reader reader;
    ctl_reader_init(&reader);
    *trace = (struct trace){.len = 0};
    for (size_t at = 0; at < len && !trace->ended;) {
        struct ctl_answer answer;
        size_t size = 0;
        char *room = ctl_reader_room(&reader, &size);
        size_t part = len - at < step ? len - at : step;
        assert_true(size >= part);
        memcpy(room, bytes + at, part);
        ctl_reader_filled(&reader, part);
        at += part;
        for (enum ctl_event event = ctl_reader_next(&reader, &answer);
             event != CTL_MORE && !trace->ended; event = ctl_reader_next(&reader, &answer)) {
            note(trace, event, &answer);
            if (trace->ended)
                break;
        }
    }
    ctl_reader_deinit(&reader);
}

static void test_streams(void **state)
{
    (void)state;
    static const struct {
        const char *stream, *events;
    } cases[] = {
        {"{\"done\":true,\"exit\":0}\n", "D0"},
        {"{\"done\":true,\"exit\":1}\n", "D1"},
        {"{\"done\":true,\"exit\":77}\n", "D1"},
        {"{\"done\":true}\n", "D1"},
        {"{\"done\":true,\"exit\":\"0\"}\n", "D1"},
        {"{\"id\":\"a\"}\n{\"done\":true,\"exit\":0}\n{\"id\":\"b\"}\n", "L{\"id\":\"a\"} D0"},
        {"{\"done\":false}\n{\"done\":true,\"exit\":0}\n", "L{\"done\":false} D0"},
        {"{\"error\":\"no\\nway\",\"exit\":1}\n", "E:no\nway"},
        {"{\"a\":1}\n{\"error\":\"gone\"}\n", "L{\"a\":1} E:gone"},
        {"{\"raw\":5}\na\nb\n{{\"done\":true,\"exit\":0}\n", "R(a\nb\n{) D0"},
        {"{\"raw\":3}\nabc{\"raw\":2}\nde{\"done\":true,\"exit\":0}\n", "R(abc) R(de) D0"},
        {"{\"raw\":0}\n{\"done\":true,\"exit\":0}\n", "D0"},
        {"{\"raw\":22}\n{\"done\":true,\"exit\":0}", "R({\"done\":true,\"exit\":0}"},
        {"{\"raw\":4}\nab", "R(ab"}, /* more is to come */
        {"{\"raw\":3}\nabc{\"error\":\"gone\"}\n", "R(abc) E:gone"},
        {"{\"raw\":-1}\n", "B"},
        {"{\"raw\":\"5\"}\n", "B"},
        {"\n", "B"},
        {"[]\n", "B"},
        {"7\n", "B"},
        {"hello\n{\"done\":true,\"exit\":0}\n", "B"},
        {"{\"a\":\"\xff\"}\n", "B"},
        {"{\"a\":\"\\u0000\"}\n", "B"},
        {"{} {}\n", "B"},
        {"{\"a\":1}", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const size_t steps[] = {1024, 1, 7};
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            struct trace trace;
            feed(cases[i].stream, strlen(cases[i].stream), steps[s], &trace);
            bool join = strstr(cases[i].events, ") R(") != NULL;
            /* pieces of one byte cannot tell where a piece ended */
            char joined[1024];
            (void)snprintf(joined, sizeof joined, "%s", cases[i].events);
            char *seam = join ? strstr(joined, ") R(") : NULL;
            if (seam != NULL)
                memmove(seam, seam + 4, strlen(seam + 4) + 1);
            if (strcmp(trace.text, joined) != 0)
                fail_msg("%s by %zu gave %s", cases[i].stream, steps[s], trace.text);
        }
    }
}

/* A line without an end takes a bounded amount of memory, and is told. */
static void test_endless_line(void **state)
{
    (void)state;
    struct ctl_reader reader;
    struct ctl_answer answer;
    enum ctl_event event = CTL_MORE;
    size_t total = 0;
    ctl_reader_init(&reader);
    while (event == CTL_MORE && total < 2 * CTL_LINE_MAX) {
        size_t size = 0;
        char *room = ctl_reader_room(&reader, &size);
        assert_non_null(room);
        memset(room, 'x', size);
        ctl_reader_filled(&reader, size);
        total += size;
        event = ctl_reader_next(&reader, &answer);
    }
    assert_int_equal(event, CTL_BROKEN);
    assert_string_equal(answer.text, "a line of the daemon's answer is too long");
    assert_in_range(total, CTL_LINE_MAX, CTL_LINE_MAX + 65536);
    ctl_reader_deinit(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_endless_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
