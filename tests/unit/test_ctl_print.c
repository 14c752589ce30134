/* What people see: tables that fit, words for times, and nothing that steers a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mtactl/print.h"

#define NOW 1795567926123 /* 2026-11-25T00:52:06.123Z */

struct sheet {
    char *text;
    size_t len;
    struct ctl_options options;
    struct ctl_output output;
};

static void open_sheet(struct sheet *sheet, enum ctl_verb verb, unsigned width)
{
    *sheet = (struct sheet){.text = NULL};
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        if (ctl_command_at(i)->verb == verb)
            sheet->options.command = ctl_command_at(i);
    }
    sheet->output = (struct ctl_output){.out = open_memstream(&sheet->text, &sheet->len),
                                        .options = &sheet->options,
                                        .width = width,
                                        .now_unix_ms = NOW};
    assert_non_null(sheet->output.out);
}

static void close_sheet(struct sheet *sheet)
{
    if (sheet->output.out != NULL)
        assert_int_equal(fclose(sheet->output.out), 0);
    sheet->output.out = NULL;
}

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    if (object == NULL)
        fail_msg("%s: %s", error.text, text);
    return object;
}

static void assert_contains(const struct sheet *sheet, const char *part)
{
    if (strstr(sheet->text, part) == NULL)
        fail_msg("no \"%s\" in:\n%s", part, sheet->text);
}

/* Only printable ASCII, ends of line, and UTF-8 beyond. */
static void assert_safe(const struct sheet *sheet)
{
    for (const char *p = sheet->text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c != '\n' && (c < 0x20 || c == 0x7F))
            fail_msg("byte %02x in:\n%s", c, sheet->text);
    }
}

static const char *const list_lines[] = {
    "{\"id\":\"0H5KJAAAAAAA0\",\"domain\":\"a.example\",\"sender\":\"\",\"recipients\":"
    "[\"x@a.example\"],\"recipient_count\":1,\"state\":\"queued\",\"next\":null,\"attempts\":0,"
    "\"size\":4233,\"age\":59}",
    "{\"id\":\"0H5KJAAAAAAA1\",\"domain\":\"a.example\",\"sender\":"
    "\"a-very-long-local-part-of-an-address@sub.domain.example\",\"recipients\":"
    "[\"x@a.example\",\"y@a.example\"],\"recipient_count\":12,\"state\":\"deferred\",\"next\":"
    "\"2026-11-25T00:56:06.123Z\",\"attempts\":2,\"size\":52428800,\"age\":176400}",
    "{\"id\":\"0H5KJAAAAAAA2\",\"state\":\"damaged\",\"reason\":\"bad \\u001b[31m\",\"size\":7}",
};

static void print_lines(struct sheet *sheet)
{
    for (size_t i = 0; i < sizeof list_lines / sizeof list_lines[0]; i++) {
        json_t *unit = parse(list_lines[i]);
        ctl_print_unit(&sheet->output, unit);
        json_decref(unit);
    }
    close_sheet(sheet);
}

static void test_list_whole(void **state)
{
    (void)state;
    struct sheet sheet;
    open_sheet(&sheet, CTL_LIST, 0);
    print_lines(&sheet);
    assert_safe(&sheet);
    assert_string_equal(
        sheet.text,
        "ID             AGE      SIZE    STATE     NEXT       SENDER                        "
        "RECIPIENTS\n"
        "0H5KJAAAAAAA0  59s      4.1K    queued    now        <>                            "
        "x@a.example\n"
        "0H5KJAAAAAAA1  2d1h     50M     deferred  in 4m      "
        "a-very-long-local-part-of-an-address@sub.domain.example  x@a.example, y@a.example and 10 "
        "more\n"
        "0H5KJAAAAAAA2  -        7       damaged   -          -                             bad "
        "\\x1b[31m\n");
    free(sheet.text);
}

static void test_list_cut(void **state)
{
    (void)state;
    static const unsigned widths[] = {80, 81, 100, 132, 200};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct sheet sheet;
        open_sheet(&sheet, CTL_LIST, widths[i]);
        print_lines(&sheet);
        char *save = NULL;
        for (char *line = strtok_r(sheet.text, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
            if (strlen(line) > widths[i])
                fail_msg("%zu columns of %u: %s", strlen(line), widths[i], line);
        }
        free(sheet.text);
    }
    /* On less than the table needs, lines wrap, but every column keeps its least. */
    struct sheet sheet;
    open_sheet(&sheet, CTL_LIST, 20);
    print_lines(&sheet);
    assert_contains(&sheet, "0H5KJAAAAAAA1  2d1h     50M     deferred  in 4m      a-very-long~");
    free(sheet.text);
}

static void test_cells(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned columns;
        bool cut, pad;
        const char *cell;
    } cases[] = {
        {"abc", 5, true, true, "abc  "},
        {"abc", 5, true, false, "abc"},
        {"abcde", 5, true, true, "abcde"},
        {"abcdef", 5, true, true, "abcd~"},
        {"abcdef", 5, false, true, "abcdef"},
        {"\xc3\xa9\xc3\xa9\xc3\xa9", 2, true, true, "\xc3\xa9~"}, /* whole characters */
        {"\xc3\xa9", 3, true, true, "\xc3\xa9  "},
        {"\x1b[2J", 9, true, true, "\\x1b[2J  "},
        {"\xff", 9, false, false, "\\xff"},
        {"\xc2\x9b"
         "1m",
         20, false, false, "\\xc2\\x9b1m"}, /* a C1 control */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sheet sheet;
        open_sheet(&sheet, CTL_LIST, 0);
        ctl_print_cell(sheet.output.out, cases[i].text, cases[i].columns, cases[i].cut,
                       cases[i].pad);
        close_sheet(&sheet);
        assert_string_equal(sheet.text, cases[i].cell);
        free(sheet.text);
    }
}

static void test_show(void **state)
{
    (void)state;
    struct sheet sheet;
    json_t *message = parse(
        "{\"id\":\"0H5KJAAAAAAA0\",\"sender\":\"s@s.example\",\"size\":4233,\"accepted\":"
        "\"2026-11-25T00:00:00.000Z\",\"age\":3126,\"8bit\":true,\"bounce\":false,\"sign_domain\":"
        "\"s.example\",\"units\":[{\"domain\":\"a.example\",\"state\":\"deferred\",\"next\":"
        "\"2026-11-25T00:56:06.123Z\",\"attempts\":2},{\"domain\":\"b.example\",\"state\":"
        "\"active\",\"next\":null,\"attempts\":0}],\"recipients\":[{\"address\":\"x@a.example\","
        "\"domain\":\"a.example\",\"state\":\"waiting\",\"attempt_count\":50,\"attempts\":["
        "{\"time\":\"2026-11-25T00:00:01.500Z\",\"host\":\"mx.a.example\",\"address\":"
        "\"192.0.2.1\",\"code\":451,\"status\":\"4.7.1\",\"text\":\"later \\u001b[31m\\n250 ok\","
        "\"tls\":\"TLS1.3\"},{\"time\":\"2026-11-25T00:05:01.500Z\",\"host\":\"\",\"address\":"
        "\"\",\"code\":0,\"status\":\"4.4.3\",\"text\":\"DNS: timed out\",\"tls\":\"\"}]},"
        "{\"address\":\"y@b.example\",\"domain\":\"b.example\",\"state\":\"waiting\","
        "\"attempt_count\":0,\"attempts\":[]}],\"attempts_cut\":true}");
    open_sheet(&sheet, CTL_SHOW, 0);
    ctl_print_show(&sheet.output, message);
    close_sheet(&sheet);
    assert_safe(&sheet);
    assert_contains(&sheet, "Sender    <s@s.example>\n");
    assert_contains(&sheet, "Accepted  2026-11-25 00:00:00Z, 52m ago\n");
    assert_contains(&sheet, "Size      4,233 bytes, 8-bit\n");
    assert_contains(&sheet,
                    "a.example: deferred, next attempt in 4m, at 2026-11-25 00:56:06Z; 2 "
                    "attempts so far\n  <x@a.example>  waiting  (2 of 50 attempts follow)\n");
    assert_contains(&sheet, "      2026-11-25 00:00:01Z  mx.a.example[192.0.2.1]  TLS1.3\n"
                            "          451 4.7.1 later \\x1b[31m\\x0a250 ok\n");
    assert_contains(&sheet,
                    "      2026-11-25 00:05:01Z  no host\n          4.4.3 DNS: timed out\n");
    assert_contains(&sheet,
                    "b.example: being delivered at this moment\n  <y@b.example>  waiting\n");
    assert_contains(&sheet, "There are more attempts than are shown here.");
    json_decref(message);
    free(sheet.text);
}

/* What the unit's state says about the future. */
static void test_outlook(void **state)
{
    (void)state;
    static const struct {
        const char *state, *next, *words;
    } cases[] = {
        {"queued", "null", "d: not tried yet, waits for its first attempt"},
        {"active", "null", "d: being delivered at this moment"},
        {"held", "null", "d: held: not tried until an admin releases it"},
        {"done", "null", "d: done: every recipient has its final state"},
        {"deferred", "\"2026-11-25T00:52:07.123Z\"", "d: deferred, next attempt in 1s, at "},
        {"deferred", "\"2026-11-25T00:52:06.123Z\"", "d: deferred, the next attempt is due now"},
        {"queued", "\"2026-11-25T00:52:05.123Z\"", "d: not tried yet, waits for its first"},
        {"deferred", "null", "d: deferred"},
        {"a later\\u0007", "null", "d: a later\\x07"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sheet sheet;
        char text[512];
        (void)snprintf(text, sizeof text,
                       "{\"units\":[{\"domain\":\"d\",\"state\":\"%s\",\"next\":%s}]}",
                       cases[i].state, cases[i].next);
        json_t *message = parse(text);
        open_sheet(&sheet, CTL_SHOW, 0);
        ctl_print_show(&sheet.output, message);
        close_sheet(&sheet);
        assert_contains(&sheet, cases[i].words);
        json_decref(message);
        free(sheet.text);
    }
}

/* Bounce pending, and the sender told of the delay. */
static void test_outlook_of_a_bounce(void **state)
{
    (void)state;
    struct sheet sheet;
    json_t *message = parse(
        "{\"units\":[{\"domain\":\"a\",\"state\":\"queued\",\"next\":null,\"warned\":true},"
        "{\"domain\":\"b\",\"state\":\"held\",\"next\":null,\"warned\":false}],\"recipients\":["
        "{\"address\":\"x@b\",\"domain\":\"b\",\"state\":\"waiting\"},"
        "{\"address\":\"y@b\",\"domain\":\"b\",\"state\":\"bounce pending\"}]}");
    open_sheet(&sheet, CTL_SHOW, 0);
    ctl_print_show(&sheet.output, message);
    close_sheet(&sheet);
    assert_contains(&sheet, "a: not tried yet, waits for its first attempt; its sender was told of "
                            "the delay\n");
    assert_contains(&sheet, "b: held: not tried until an admin releases it (mtactl release); "
                            "failed for good, and its sender is to be told next\n");
    json_decref(message);
    free(sheet.text);
}

static void test_status(void **state)
{
    (void)state;
    struct sheet sheet;
    json_t *status = parse("{\"version\":\"0.1.0\",\"uptime\":8000,\"queued\":12041,\"fresh\":5,"
                           "\"deferred\":1000,\"active\":2,\"held\":0,\"damaged\":1,"
                           "\"bytes\":52428800}");
    open_sheet(&sheet, CTL_STATUS, 0);
    ctl_print_status(&sheet.output, status);
    close_sheet(&sheet);
    assert_contains(&sheet, "mtad 0.1.0 is running, for 2h13m now\n");
    assert_contains(&sheet, "  messages           12,041   in all\n");
    assert_contains(&sheet, "  size                  50M   of them\n");
    assert_contains(&sheet, "  damaged                 1   set aside: mtactl list --state damaged");
    assert_null(strstr(sheet.text, "oldest"));
    assert_null(strstr(sheet.text, "THE QUEUE"));
    json_decref(status);
    free(sheet.text);

    status = parse("{\"version\":\"0.1.0\",\"oldest_age\":90000,\"full\":true,\"broken\":true}");
    open_sheet(&sheet, CTL_STATUS, 0);
    ctl_print_status(&sheet.output, status);
    close_sheet(&sheet);
    assert_contains(&sheet, "THE QUEUE IS FULL");
    assert_contains(&sheet, "THE QUEUE CANNOT BE WRITTEN");
    assert_contains(&sheet, "  oldest                25h   since it was accepted\n");
    json_decref(status);
    free(sheet.text);
}

static void test_verbs(void **state)
{
    (void)state;
    static const struct {
        enum ctl_verb verb;
        const char *line, *words;
    } cases[] = {
        {CTL_DELETE, "{\"id\":\"A\",\"result\":\"done\"}", "A  deleted\n"},
        {CTL_RETRY, "{\"id\":\"A\",\"result\":\"done\"}", "A  is due now\n"},
        {CTL_HOLD, "{\"id\":\"A\",\"result\":\"gone\"}",
         "A  had left the queue, or changed, meanwhile\n"},
        {CTL_BOUNCE,
         "{\"id\":\"A\",\"sender\":\"s@s.example\",\"domain\":\"a.example\",\"units\":1,"
         "\"result\":\"done\"}",
         "A  is being returned to its sender  from <s@s.example>  to a.example\n"},
        {CTL_DELETE,
         "{\"id\":\"A\",\"sender\":\"\",\"domain\":\"a.example\",\"units\":3,"
         "\"result\":\"would be changed\"}",
         "A  would be deleted  from <>  to a.example and 2 more domains\n"},
        {CTL_DELETE, "{\"id\":\"A\",\"result\":\"kept: \\u001b\"}", "A  kept: \\x1b\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sheet sheet;
        json_t *line = parse(cases[i].line);
        open_sheet(&sheet, cases[i].verb, 0);
        ctl_print_verb(&sheet.output, line);
        close_sheet(&sheet);
        assert_string_equal(sheet.text, cases[i].words);
        json_decref(line);
        free(sheet.text);
    }
}

static void test_sums(void **state)
{
    (void)state;
    static const struct {
        enum ctl_verb verb;
        bool dry_run;
        struct ctl_sum sum;
        const char *words;
    } cases[] = {
        {CTL_DELETE, false, {.count = 1, .units = 1}, "1 message deleted\n"},
        {CTL_DELETE,
         true,
         {.count = 1204, .units = 1204, .unlisted = 1184},
         "... and 1,184 more (--verbose names all)\n"
         "1,204 messages would be deleted; nothing was changed\n"},
        {CTL_HOLD,
         false,
         {.count = 2, .units = 3, .partial = 1, .skipped = 1},
         "2 messages held (3 units), 1 message only in part\n1 unit left alone: held already\n"},
        {CTL_RELEASE, false, {.skipped = 2}, "2 units left alone: not held\n"},
        {CTL_RETRY,
         false,
         {.count = 2, .units = 2, .gone = 1, .failed = 1},
         "2 messages due now\n1 message had left the queue, or changed, meanwhile\n"
         "1 message could not be changed\n"},
        {CTL_BOUNCE,
         false,
         {.count = 1, .units = 1, .partial = 1, .kept = 1},
         "1 message on the way back to their senders, all of them only in part\n1 unit kept: other "
         "recipients travel with the one that was named; to take them all, name the message and "
         "--domain\n"},
        {CTL_DELETE, false, {.count = 0}, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sheet sheet;
        struct ctl_sum sum = {0};
        open_sheet(&sheet, cases[i].verb, 0);
        sheet.options.dry_run = cases[i].dry_run;
        ctl_print_sum(&sheet.output, &cases[i].sum);
        close_sheet(&sheet);
        assert_string_equal(sheet.text, cases[i].words);
        free(sheet.text);

        json_t *object = ctl_sum_json(&cases[i].sum, cases[i].dry_run); /* and back */
        ctl_sum_add(&sum, object);
        ctl_sum_add(&sum, object);
        assert_int_equal(sum.count, 2 * cases[i].sum.count);
        assert_int_equal(sum.skipped, 2 * cases[i].sum.skipped);
        assert_int_equal(sum.failed, 2 * cases[i].sum.failed);
        assert_int_equal(json_is_true(json_object_get(object, "dry_run")), cases[i].dry_run);
        json_decref(object);
    }
}

/* ---- summary ---- */

static const char summary_rows[] =
    "[{\"row\":\"total\",\"name\":\"\",\"total\":1000000,\"counts\":[999990,0,10],\"minutes\":"
    "[5,10]},{\"row\":\"domain\",\"name\":\"a-long-name-of-a-domain.example\",\"total\":999980,"
    "\"counts\":[999980,0,0]},{\"row\":\"domain\",\"name\":\"\\u001b[2J\",\"total\":8,"
    "\"counts\":[0,0,8]},{\"row\":\"others\",\"name\":\"\",\"total\":12,\"counts\":[10,0,2],"
    "\"names\":11,\"at_least\":true}]";

static void test_summary(void **state)
{
    (void)state;
    struct sheet sheet;
    json_t *rows = parse(summary_rows);
    open_sheet(&sheet, CTL_SUMMARY, 0);
    ctl_print_summary(&sheet.output, rows);
    close_sheet(&sheet);
    assert_safe(&sheet);
    assert_string_equal(sheet.text,
                        "DOMAIN                                T      5 10 10+\n"
                        "TOTAL                           1000000 999990  0  10\n"
                        "a-long-name-of-a-domain.example  999980 999980  0   0\n"
                        "\\x1b[2J                               8      0  0   8\n"
                        "(at least 11 others)                 12     10  0   2\n"
                        "\nThere are too many names to count each: small rows may be more than is "
                        "shown.\n");
    free(sheet.text);
    open_sheet(&sheet, CTL_SUMMARY, 36);
    sheet.options.by = "sender";
    ctl_print_summary(&sheet.output, rows);
    close_sheet(&sheet);
    assert_contains(&sheet, "SENDER               T      5 10 10+\n");
    assert_contains(&sheet, "a-long-name-o~  999980 999980  0   0\n");
    json_decref(rows);
    free(sheet.text);
}

/* A daemon of another version, or no daemon at all: members missing or of another type. */
static void test_odd_objects(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "{}",
        "{\"id\":7,\"sender\":[],\"recipients\":{},\"state\":null,\"size\":\"x\",\"age\":-5}",
        "{\"sender\":\"a\",\"recipients\":[7,null,[]],\"recipient_count\":-1,\"units\":[7,{}]}",
        "{\"units\":{},\"recipients\":[{\"attempts\":[7,{}]}],\"uptime\":-1,\"version\":{}}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct sheet sheet;
        json_t *object = parse(odd[i]);
        open_sheet(&sheet, CTL_LIST, 80);
        ctl_print_unit(&sheet.output, object);
        ctl_print_show(&sheet.output, object);
        ctl_print_status(&sheet.output, object);
        ctl_print_verb(&sheet.output, object);
        ctl_print_summary(&sheet.output, object);
        close_sheet(&sheet);
        assert_safe(&sheet);
        json_decref(object);
        free(sheet.text);
    }
    static const char *const odd_rows[] = {
        "[]",
        "[7,null,{}]",
        "[{\"row\":\"total\",\"minutes\":[]},{\"name\":7,\"counts\":{}}]",
        "[{\"minutes\":[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3]}]",
        "[{\"row\":\"total\",\"minutes\":[\"x\",{}],\"counts\":[-1]},{\"row\":\"others\"}]",
    };
    for (size_t i = 0; i < sizeof odd_rows / sizeof odd_rows[0]; i++) {
        struct sheet sheet;
        json_t *rows = parse(odd_rows[i]);
        open_sheet(&sheet, CTL_SUMMARY, 80);
        ctl_print_summary(&sheet.output, rows);
        close_sheet(&sheet);
        assert_safe(&sheet);
        json_decref(rows);
        free(sheet.text);
    }
}

/* What was asked for, as it stood in the commands; no line where nothing was. */
static void test_show_params(void **state)
{
    static const struct {
        const char *message, *recipient, *envelope, *below;
    } cases[] = {
        {"", "", "Size      0 bytes\n\n", "  <x@a.example>  waiting\n"},
        {"\"ret\":\"HDRS\",\"envid\":\"QQ+3D\",\"smtputf8\":true,\"requiretls\":true,",
         "\"notify\":[\"SUCCESS\",\"FAILURE\"],\"orcpt\":\"rfc822;y@z\",",
         "Size      0 bytes\nAsked     RET=HDRS ENVID=QQ+3D SMTPUTF8 REQUIRETLS\n\n",
         "  <x@a.example>  waiting\n      asked NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;y@z\n"},
        {"\"requiretls\":true,", "\"orcpt\":\"utf-8;\xc3\xa4\\u001b[2J\",",
         "Asked     REQUIRETLS\n", "      asked ORCPT=utf-8;\xc3\xa4\\x1b[2J\n"},
        {"\"envid\":\"\\u001b[2J\\n\",", "\"notify\":[\"NEVER\"],\"notify_expanded\":true,",
         "Asked     ENVID=\\x1b[2J\\x0a\n",
         "      asked NOTIFY=NEVER (and to be told that the name stands for several)\n"},
        {"\"ret\":7,\"smtputf8\":1,", "\"notify\":[7],\"orcpt\":[],", "Size      0 bytes\n\n",
         "      asked NOTIFY=\n"}, /* of no version */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sheet sheet;
        char text[1024];
        (void)snprintf(text, sizeof text,
                       "{%s\"units\":[{\"domain\":\"a.example\",\"state\":\"active\"}],"
                       "\"recipients\":[{%s\"address\":\"x@a.example\",\"domain\":"
                       "\"a.example\",\"state\":\"waiting\"}]}",
                       cases[i].message, cases[i].recipient);
        json_t *message = parse(text);
        open_sheet(&sheet, CTL_SHOW, 0);
        ctl_print_show(&sheet.output, message);
        close_sheet(&sheet);
        assert_safe(&sheet);
        assert_contains(&sheet, cases[i].envelope);
        assert_contains(&sheet, cases[i].below);
        assert_int_equal(strstr(sheet.text, "sked") != NULL, i > 0);
        free(sheet.text);
        json_decref(message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_whole),
        cmocka_unit_test(test_list_cut),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_show_params),
        cmocka_unit_test(test_outlook),
        cmocka_unit_test(test_outlook_of_a_bounce),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_verbs),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_odd_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
