/* MX answers as the caller sees them (cases O26, O27). */
#include "test_dns_support.h"

static bool script(struct test_server *server, const struct question *q, struct message *reply)
{
    (void)server;
    if (strcmp(q->first, "two") == 0) {
        add_mx(reply, "@", 100, 20, "b.test");
        add_mx(reply, "@", 100, 10, "a.test");
    } else if (strcmp(q->first, "null") == 0) {
        add_mx(reply, "@", 100, 0, ".");
    } else if (strcmp(q->first, "null-and-more") == 0) {
        add_mx(reply, "@", 100, 0, ".");
        add_mx(reply, "@", 100, 10, "a.test");
    } else if (strcmp(q->first, "none") == 0) {
        add_soa(reply, "test", 600, 40);
    } else if (strcmp(q->first, "gone") == 0) {
        reply->bytes[3] |= 3;
        add_soa(reply, "test", 600, 40);
    } else if (strcmp(q->first, "alias") == 0) { /* the whole chain in one answer */
        add_cname(reply, "@", 50, "two.test");
        add_mx(reply, "two.test", 100, 10, "a.test");
    } else if (strcmp(q->first, "half-alias") == 0) { /* the resolver stops at the CNAME */
        add_cname(reply, "@", 50, "two.test");
    } else if (strcmp(q->first, "alias-to-gone") == 0) {
        add_cname(reply, "@", 50, "gone.test");
    } else if (strcmp(q->first, "alias-to-none") == 0) {
        add_cname(reply, "@", 50, "none.test");
    } else if (strcmp(q->first, "loop1") == 0) {
        add_cname(reply, "@", 50, "loop2.test");
    } else if (strcmp(q->first, "loop2") == 0) {
        add_cname(reply, "@", 50, "loop1.test");
    } else {
        reply->bytes[3] |= 2;
    }
    return true;
}

static const struct {
    const char *domain;
    enum dns_status status;
    bool null_mx, implicit;
    size_t count;
    const char *first;
    uint32_t ttl_s;
} cases[] = {
    {"two.test", DNS_ANSWER, false, false, 2, "a.test", 100},
    {"Two.TEST.", DNS_ANSWER, false, false, 2, "a.test", 100},
    {"null.test", DNS_ANSWER, true, false, 0, NULL, 100},
    {"null-and-more.test", DNS_ANSWER, false, false, 1, "a.test", 100},
    {"None.test.", DNS_ANSWER, false, true, 1, "none.test", 40},
    {"gone.test", DNS_NO_NAME, false, false, 0, NULL, 40},
    {"alias.test", DNS_ANSWER, false, false, 1, "a.test", 50},
    {"half-alias.test", DNS_ANSWER, false, false, 2, "a.test", 50},
    {"alias-to-gone.test", DNS_NO_NAME, false, false, 0, NULL, 40},
    {"alias-to-none.test", DNS_ANSWER, false, true, 1, "alias-to-none.test", 40},
    {"loop1.test", DNS_SERVER_FAILURE, false, false, 0, NULL, 5},
    {"broken.test", DNS_SERVER_FAILURE, false, false, 0, NULL, 5},
};

static void test_answers(void **state)
{
    struct test_server server;
    struct client client;
    (void)state;

    server_start(&server, script);
    client_start(&client, &server.port, 1);
    for (size_t round = 0; round < 2; round++) { /* the second time from the cache */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct told told;
            ask_mx(&client, cases[i].domain, 5000, &told);
            assert_int_equal(told.mx.status, cases[i].status);
            assert_int_equal(told.mx.null_mx, cases[i].null_mx);
            assert_int_equal(told.mx.implicit, cases[i].implicit);
            assert_int_equal(told.mx.host_count, cases[i].count);
            if (cases[i].first != NULL)
                assert_string_equal(told.hosts[0].name, cases[i].first);
            assert_in_range(told.mx.ttl_s, cases[i].ttl_s - 2, cases[i].ttl_s);
            assert_int_equal(told.mx.detail[0] != '\0', cases[i].status == DNS_SERVER_FAILURE);
        }
    }
    client_stop(&client);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
