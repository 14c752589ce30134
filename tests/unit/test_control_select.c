/* Which units a request means: reading selectors, and what they match. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/control/control_private.h"

#define ID      UINT64_C(0x19a2b3c4d5e6f708)
#define ID_TEXT "1K8NKRKAYDXR8"

static bool is_active(uint64_t id, uint16_t unit, void *ctx)
{
    (void)ctx;
    return id == ID && unit == 2;
}

static struct control control = {.hooks = {.is_active = is_active}};

static bool read_request(const char *text, struct selector *out, json_t **request_out, char *error,
                         size_t size)
{
    *request_out = json_loads(text, 0, NULL);
    assert_non_null(*request_out);
    return selector_read(*request_out, out, error, size);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *request, *error;
    } cases[] = {
        {"{\"id\":\"abc\"}", "\"abc\" is not a message id"},
        {"{\"id\":\"\"}", "\"\" is not a message id"},
        {"{\"id\":\"UUUUUUUUUUUUU\"}", "is not a message id"},
        {"{\"id\":17}", "id: expected a text"},
        {"{\"id\":null}", "id: expected a text"},
        {"{\"domain\":[]}", "domain: expected a text"},
        {"{\"sender\":{}}", "sender: expected a text"},
        {"{\"recipient\":true}", "recipient: expected a text"},
        {"{\"state\":1}", "state: expected a text"},
        {"{\"state\":\"Held\"}", "state: expected queued, active, deferred, held or damaged, not"},
        {"{\"older_s\":-1}", "older_s: expected a number of seconds"},
        {"{\"older_s\":\"2h\"}", "older_s: expected a number of seconds"},
        {"{\"older_s\":9223372036854775807}", "older_s: expected a number of seconds"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *request = NULL;
        struct selector selector;
        char error[512] = "";
        if (read_request(cases[i].request, &selector, &request, error, sizeof error))
            fail_msg("%s was accepted", cases[i].request);
        if (strstr(error, cases[i].error) == NULL)
            fail_msg("%s: %s", cases[i].request, error);
        json_decref(request);
    }
}

static void test_empty(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        bool empty, looks_inside;
    } cases[] = {
        {"{}", true, false},
        {"{\"command\":\"delete\",\"limit\":3}", true, false},
        {"{\"all\":false}", true, false},
        {"{\"older_s\":0}", true, false},
        {"{\"all\":true}", false, false},
        {"{\"id\":\"" ID_TEXT "\"}", false, false},
        {"{\"state\":\"damaged\"}", false, false},
        {"{\"state\":\"queued\"}", false, true},
        {"{\"domain\":\"a.example\"}", false, true},
        {"{\"sender\":\"\"}", false, true}, /* the null sender is a sender */
        {"{\"recipient\":\"a@a.example\"}", false, true},
        {"{\"older_s\":1}", false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *request = NULL;
        struct selector selector;
        char error[512] = "";
        if (!read_request(cases[i].request, &selector, &request, error, sizeof error) ||
            selector_is_empty(&selector) != cases[i].empty ||
            selector_looks_inside(&selector) != cases[i].looks_inside)
            fail_msg("%s: %s", cases[i].request, error);
        json_decref(request);
    }
}

static const struct queue_recipient recipients[] = {
    {.address = "Ann@a.example", .domain = "a.example", .unit = 0},
    {.address = "bob@a.example", .domain = "a.example", .unit = 0, .state = QUEUE_RCPT_DELIVERED},
    {.address = "cid@b.example",
     .domain = "b.example",
     .unit = 1,
     .state = QUEUE_RCPT_BOUNCE_PENDING},
    {.address = "dan@c.example", .domain = "c.example", .unit = 2},
    {.address = "eve@d.example", .domain = "d.example", .unit = 3},
    {.address = "fay@e.example", .domain = "e.example", .unit = 4, .state = QUEUE_RCPT_FAILED},
};
static const struct queue_unit units[] = {
    {.domain = "a.example"},                /* queued */
    {.domain = "b.example", .attempts = 3}, /* deferred */
    {.domain = "c.example", .attempts = 1}, /* active, says the hook */
    {.domain = "d.example", .held = true},  /* held */
    {.domain = "e.example", .done = true},  /* done: never meant */
};

/* Bits: which of the units above are matched. */
static void test_matches(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        unsigned units;
    } cases[] = {
        {"{}", 0x0F},
        {"{\"all\":true}", 0x0F},
        {"{\"id\":\"" ID_TEXT "\"}", 0x0F},
        {"{\"id\":\"1k8nkrkaydxr8\"}", 0x0F},
        {"{\"id\":\"0000000000001\"}", 0},
        {"{\"domain\":\"A.EXAMPLE\"}", 0x01},
        {"{\"domain\":\"example\"}", 0},
        {"{\"domain\":\"e.example\"}", 0},
        {"{\"sender\":\"S@s.example\"}", 0x0F},
        {"{\"sender\":\"\"}", 0},
        {"{\"recipient\":\"ann@A.example\"}", 0x01},
        {"{\"recipient\":\"bob@a.example\"}", 0}, /* delivered */
        {"{\"recipient\":\"cid@b.example\"}", 0x02},
        {"{\"recipient\":\"fay@e.example\"}", 0},
        {"{\"state\":\"queued\"}", 0x01},
        {"{\"state\":\"deferred\"}", 0x02},
        {"{\"state\":\"active\"}", 0x04},
        {"{\"state\":\"held\"}", 0x08},
        {"{\"state\":\"damaged\"}", 0},
        {"{\"older_s\":3500}", 0x0F},
        {"{\"older_s\":3700}", 0},
        {"{\"domain\":\"b.example\",\"state\":\"deferred\",\"older_s\":60}", 0x02},
        {"{\"domain\":\"b.example\",\"state\":\"queued\"}", 0},
    };
    struct queue_envelope envelope = {.sender = "s@S.example",
                                      .recipients = recipients,
                                      .recipient_count = sizeof recipients / sizeof recipients[0],
                                      .units = units,
                                      .unit_count = sizeof units / sizeof units[0],
                                      .accepted_unix_ms = time_wall_ms() - INT64_C(3600000)};
    struct unit_set set = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *request = NULL;
        struct selector selector;
        char error[512] = "";
        unsigned matched = 0;
        assert_true(read_request(cases[i].request, &selector, &request, error, sizeof error));
        size_t count = selector_pick(&selector, &control, ID, &envelope, &set);
        assert_int_equal(count, set.count);
        for (size_t n = 0; n < set.count; n++) {
            assert_true(n == 0 || set.numbers[n] > set.numbers[n - 1]);
            matched |= 1U << set.numbers[n];
        }
        if (matched != cases[i].units)
            fail_msg("%s matched %x", cases[i].request, matched);
        json_decref(request);
    }
    unit_set_deinit(&set);
}

/* A clock that was stepped: nothing is older than it is, whatever the clock says. */
static void test_ages(void **state)
{
    (void)state;
    static const struct {
        int64_t accepted_ms, now_ms, age_s;
        bool older; /* than a minute */
    } cases[] = {
        {1000000, 1059999, 59, false},
        {1000000, 1060000, 60, true},
        {1000000, 1000000, 0, false},
        {2000000, 1000000, 0, false}, /* it was set back */
        {0, INT64_C(1800000000000), 1800000000, true},
    };
    struct unit_set set = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct queue_envelope envelope = {.sender = "",
                                          .units = units,
                                          .unit_count = 1,
                                          .accepted_unix_ms = cases[i].accepted_ms};
        struct selector selector = {.older_ms = 60000, .now_unix_ms = cases[i].now_ms};
        assert_int_equal(age_seconds(cases[i].accepted_ms, cases[i].now_ms), cases[i].age_s);
        assert_int_equal(selector_pick(&selector, &control, ID, &envelope, &set), cases[i].older);
        selector.older_ms = INT64_MAX / 1000 * 1000; /* the most that a request can say */
        assert_int_equal(selector_pick(&selector, &control, ID, &envelope, &set), 0);
    }
    unit_set_deinit(&set);
}

/* How the log names a selection. */
static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *request, *text;
    } cases[] = {
        {"{}", ""},
        {"{\"all\":true}", "--all"},
        {"{\"id\":\"" ID_TEXT "\",\"domain\":\"a.example\"}", "--domain a.example " ID_TEXT},
        {"{\"sender\":\"\",\"state\":\"held\",\"older_s\":60}",
         "--sender <> --state held --older 60s"},
        {"{\"recipient\":\"a@a.example\"}", "--recipient a@a.example"},
    };
    char text[1024];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *request = NULL;
        struct selector selector;
        char error[512] = "";
        assert_true(read_request(cases[i].request, &selector, &request, error, sizeof error));
        selector_text(&selector, text, sizeof text);
        assert_string_equal(text, cases[i].text);
        char little[8];
        selector_text(&selector, little, sizeof little); /* what fits, in whole parts */
        assert_true(strncmp(little, text, strlen(little)) == 0);
        json_decref(request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_empty),
        cmocka_unit_test(test_matches), cmocka_unit_test(test_ages),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
