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
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *request = NULL;
        struct selector selector;
        char error[512] = "";
        unsigned matched = 0;
        assert_true(read_request(cases[i].request, &selector, &request, error, sizeof error));
        for (unsigned unit = 0; unit < envelope.unit_count; unit++) {
            if (selector_matches(&selector, &control, ID, &envelope, unit))
                matched |= 1U << unit;
        }
        if (matched != cases[i].units)
            fail_msg("%s matched %x", cases[i].request, matched);
        json_decref(request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
