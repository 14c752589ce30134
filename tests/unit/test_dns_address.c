/* The addresses of a host: two families, one answer (cases O26, O28). */
#include "test_dns_support.h"

/* "A-x" with x for what each family gets, A first: y records, n none, x no name, f failure, s
 * silence. */
static bool script(struct test_server *server, const struct question *q, struct message *reply)
{
    bool ipv6 = q->type == DNS_TYPE_AAAA;
    char what = q->first[ipv6 ? 1 : 0];
    (void)server;

    switch (what) {
    case 'y':
        add_address(reply, "@", ipv6 ? 90 : 100, ipv6 ? "2001:db8::1" : "192.0.2.1");
        add_address(reply, "@", 100, ipv6 ? "2001:db8::2" : "192.0.2.2");
        if (!ipv6)
            add_address(reply, "@", 100, "192.0.2.3");
        return true;
    case 'c': /* behind a CNAME of which the answer says no more */
        add_cname(reply, "@", 100, "yy.test");
        return true;
    case 'n':
        add_soa(reply, "test", 60, 60);
        return true;
    case 'x':
        reply->bytes[3] |= 3;
        add_soa(reply, "test", 60, 60);
        return true;
    case 'f':
        reply->bytes[3] |= 2;
        return true;
    default:
        return false;
    }
}

static struct test_server server;
static struct client client;

static int start(void **state)
{
    (void)state;
    server_start(&server, script);
    client_start(&client, &server.port, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    client_stop(&client);
    server_stop(&server);
    return 0;
}

static void test_combinations(void **state)
{
    static const struct {
        const char *host;
        enum dns_family family;
        enum dns_status status;
        const char *order; /* family of each address */
    } cases[] = {
        {"yy.a.test", DNS_FAMILY_ANY, DNS_ANSWER, "64644"},
        {"yy.b.test", DNS_FAMILY_4, DNS_ANSWER, "444"},
        {"yy.c.test", DNS_FAMILY_6, DNS_ANSWER, "66"},
        {"cc.test", DNS_FAMILY_ANY, DNS_ANSWER, "64644"},
        {"yn.test", DNS_FAMILY_ANY, DNS_ANSWER, "444"},
        {"ny.test", DNS_FAMILY_ANY, DNS_ANSWER, "66"},
        {"yf.test", DNS_FAMILY_ANY, DNS_ANSWER, "444"},
        {"fy.test", DNS_FAMILY_ANY, DNS_ANSWER, "66"},
        {"nn.test", DNS_FAMILY_ANY, DNS_NO_RECORD, ""},
        {"xx.test", DNS_FAMILY_ANY, DNS_NO_NAME, ""},
        {"xn.test", DNS_FAMILY_ANY, DNS_NO_RECORD, ""},
        {"nx.test", DNS_FAMILY_ANY, DNS_NO_RECORD, ""},
        {"ff.test", DNS_FAMILY_ANY, DNS_SERVER_FAILURE, ""},
        {"nf.test", DNS_FAMILY_ANY, DNS_SERVER_FAILURE, ""},
        {"fn.test", DNS_FAMILY_ANY, DNS_SERVER_FAILURE, ""},
        {"xf.test", DNS_FAMILY_ANY, DNS_SERVER_FAILURE, ""},
        {"ny.d.test", DNS_FAMILY_4, DNS_NO_RECORD, ""},
    };
    (void)state;

    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct told told;
            ask_address(&client, cases[i].host, cases[i].family, 5000, &told);
            assert_int_equal(told.address.status, cases[i].status);
            assert_int_equal(told.address.address_count, strlen(cases[i].order));
            for (size_t a = 0; a < told.address.address_count; a++)
                assert_int_equal(told.addresses[a].ipv6, cases[i].order[a] == '6');
            assert_int_equal(told.address.detail[0] != '\0', cases[i].status == DNS_SERVER_FAILURE);
        }
    }
}

static void test_order_and_ttl(void **state)
{
    struct told told;
    (void)state;

    ask_address(&client, "yy.ttl.test", DNS_FAMILY_ANY, 5000, &told);
    assert_int_equal(told.addresses[0].bytes[15], 1);
    assert_memory_equal(told.addresses[1].bytes, "\xc0\0\2\1", 4);
    assert_int_equal(told.addresses[2].bytes[15], 2);
    assert_memory_equal(told.addresses[4].bytes, "\xc0\0\2\3", 4);
    assert_in_range(told.address.ttl_s, 88, 90);
}

/* A server that drops one type must not cost the other one's addresses, nor more than a second. */
static void test_one_family_silent(void **state)
{
    static const struct {
        const char *host;
        uint32_t timeout_ms;
        enum dns_status status;
        size_t count;
        uint64_t least_ms, most_ms;
    } cases[] = {
        {"ys.test", 10000, DNS_ANSWER, 3, 900, 5000},
        {"sy.test", 10000, DNS_ANSWER, 2, 900, 5000},
        {"ys.a.test", 300, DNS_ANSWER, 3, 250, 2000},
        {"ns.test", 400, DNS_TIMEOUT, 0, 350, 3000},
        {"ss.test", 400, DNS_TIMEOUT, 0, 350, 3000},
        {"fs.test", 400, DNS_SERVER_FAILURE, 0, 350, 3000},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct told told;
        uint64_t start_ms = uv_hrtime() / 1000000;
        uv_update_time(&client.loop);
        ask_address(&client, cases[i].host, DNS_FAMILY_ANY, cases[i].timeout_ms, &told);
        assert_int_equal(told.address.status, cases[i].status);
        assert_int_equal(told.address.address_count, cases[i].count);
        assert_in_range(uv_hrtime() / 1000000 - start_ms, cases[i].least_ms, cases[i].most_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_order_and_ttl),
        cmocka_unit_test(test_one_family_silent),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
