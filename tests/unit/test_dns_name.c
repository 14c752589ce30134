/* Names as text. */
#include "test_dns_support.h"

#define L10 "abcdefghij"
#define L63 L10 L10 L10 L10 L10 L10 "abc"
#define L61 L10 L10 L10 L10 L10 L10 "a"

static const struct {
    const char *text;
    const char *expected; /* NULL: refused */
} cases[] = {
    {"example.com", "example.com"},
    {"Example.COM.", "example.com"},
    {"a", "a"},
    {"xn--bcher-kva.example", "xn--bcher-kva.example"},
    {"_dmarc.example.com", "_dmarc.example.com"},
    {"192.0.2.1", "192.0.2.1"},
    {L63 ".com", L63 ".com"},
    {L63 "." L63 "." L63 "." L61, L63 "." L63 "." L63 "." L61}, /* 253 octets */
    {L63 "." L63 "." L63 "." L61 ".", L63 "." L63 "." L63 "." L61},
    {L63 "." L63 "." L63 "." L61 "a", NULL}, /* 254 */
    {L63 "a.com", NULL},
    {"", NULL},
    {".", NULL},
    {"..", NULL},
    {"a..b", NULL},
    {".a", NULL},
    {"a..", NULL},
    {"a b", NULL},
    {"a@b", NULL},
    {"a\\046b", NULL},
    {"b\xc3\xbc"
     "cher.example",
     NULL},
    {"a\nb", NULL},
    {"2001:db8::1", NULL},
    {"*.example", NULL},
};

static void test_reading(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_name name = {.len = 99};
        assert_int_equal(dns_name_read(cases[i].text, &name), cases[i].expected != NULL);
        if (cases[i].expected == NULL) {
            assert_int_equal(name.len, 99); /* written on success only */
            continue;
        }
        assert_string_equal(name.text, cases[i].expected);
        assert_int_equal(name.len, strlen(cases[i].expected));
    }
}

static void test_start_refuses_what_is_no_name(void **state)
{
    struct client client;
    uint16_t port = 9;
    (void)state;

    client_start(&client, &port, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_query *query = NULL;
        struct told told = {0};
        int expected = cases[i].expected != NULL ? 0 : DNS_ERR_NAME;
        assert_int_equal(dns_mx_start(client.dns, cases[i].text, 1000, on_mx, &told, &query),
                         expected);
        assert_int_equal(query == NULL, expected != 0);
        dns_cancel(&query);
        assert_int_equal(dns_address_start(client.dns, cases[i].text, DNS_FAMILY_ANY, 1000,
                                           on_address, &told, &query),
                         expected);
        dns_cancel(&query);
        assert_int_equal(told.calls, 0);
    }
    client_stop(&client);
}

static void test_equality_and_status_texts(void **state)
{
    struct dns_name a, b, c;
    (void)state;

    assert_true(dns_name_read("MX.example", &a));
    assert_true(dns_name_read("mx.Example.", &b));
    assert_true(dns_name_read("mx.example1", &c));
    assert_true(dns_name_equal(&a, &b));
    assert_false(dns_name_equal(&a, &c));
    assert_int_equal(dns_name_hash(&a, DNS_TYPE_MX), dns_name_hash(&b, DNS_TYPE_MX));
    assert_int_not_equal(dns_name_hash(&a, DNS_TYPE_MX), dns_name_hash(&a, DNS_TYPE_A));
    assert_string_equal(dns_status_text(DNS_ANSWER), "answer");
    assert_string_equal(dns_status_text(DNS_NO_NAME), "no such name");
    assert_string_equal(dns_status_text(DNS_NO_RECORD), "no such record");
    assert_string_equal(dns_status_text(DNS_SERVER_FAILURE), "server failure");
    assert_string_equal(dns_status_text(DNS_TIMEOUT), "timeout");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_start_refuses_what_is_no_name),
        cmocka_unit_test(test_equality_and_status_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
