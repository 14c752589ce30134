/* Queries against a scripted server: the five outcomes (cases O26), dead and forging servers, TCP
 * (O29), cancelling, closing, sharing, several loops. */
#include "test_dns_support.h"

/* Behaves as the first label of the name says. */
static bool script(struct test_server *s, const struct question *q, struct message *reply)
{
    static const struct {
        const char *label;
        uint8_t rcode;
    } rcodes[] = {{"formerr", 1}, {"servfail", 2}, {"nxdomain", 3}, {"notimp", 4}, {"refused", 5}};
    (void)s;

    for (size_t i = 0; i < sizeof rcodes / sizeof rcodes[0]; i++) {
        if (strcmp(q->first, rcodes[i].label) == 0) {
            reply->bytes[3] |= rcodes[i].rcode;
            add_soa(reply, "test", 60, 60);
            return true;
        }
    }
    if (strcmp(q->first, "silent") == 0)
        return false;
    if (strcmp(q->first, "nodata") == 0) {
        add_soa(reply, "test", 60, 60);
        return true;
    }
    if (strcmp(q->first, "tcp-closed") == 0) {
        reply->bytes[2] |= 2;
        return !q->tcp;
    }
    add_mx(reply, "@", 60, 10, "mx.test");
    if (strcmp(q->first, "ad") == 0 && q->ad)
        reply->bytes[3] |= FLAG_AD;
    if (strcmp(q->first, "cut") == 0)
        reply->len -= 3;
    return true;
}

static struct test_server server;
static struct client client;

static int setup(void **state)
{
    (void)state;
    server_start(&server, script);
    client_start(&client, &server.port, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_stop(&client);
    server_stop(&server);
    return 0;
}

static void test_outcomes(void **state)
{
    static const struct {
        const char *name;
        enum dns_status status;
        const char *detail;
    } cases[] = {
        {"good.test", DNS_ANSWER, ""},
        {"nxdomain.test", DNS_NO_NAME, ""},
        {"nodata.test", DNS_ANSWER, ""}, /* implicit MX */
        {"servfail.test", DNS_SERVER_FAILURE, "SERVFAIL from 127.0.0.1:"},
        {"refused.test", DNS_SERVER_FAILURE, "REFUSED from 127.0.0.1:"},
        {"formerr.test", DNS_SERVER_FAILURE, "FORMERR from 127.0.0.1:"},
        {"notimp.test", DNS_SERVER_FAILURE, "NOTIMP from 127.0.0.1:"},
        {"cut.test", DNS_SERVER_FAILURE, "a malformed answer from 127.0.0.1:"},
        {"tcp-closed.test", DNS_SERVER_FAILURE, "no connection or no whole answer from 127.0.0.1:"},
        {"silent.test", DNS_TIMEOUT, "no answer within 300 ms"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct told told;
        ask_mx(&client, cases[i].name, strstr(cases[i].name, "silent") != NULL ? 300 : 5000, &told);
        assert_int_equal(told.mx.status, cases[i].status);
        assert_memory_equal(told.mx.detail, cases[i].detail, strlen(cases[i].detail));
        assert_int_equal(told.mx.implicit, strstr(cases[i].name, "nodata") != NULL);
        if (cases[i].status != DNS_ANSWER)
            assert_int_equal(told.mx.host_count, 0);
    }
}

/* Without the caller's limit: the lookup's own tries end it, and say who was silent. */
static void test_silence_ends_by_itself(void **state)
{
    struct told told;
    (void)state;

    uint64_t start_ms = uv_hrtime() / 1000000;
    ask_mx(&client, "silent.test", 30000, &told);
    assert_int_equal(told.mx.status, DNS_TIMEOUT);
    assert_memory_equal(told.mx.detail, "no answer from 127.0.0.1:", 25);
    assert_in_range(uv_hrtime() / 1000000 - start_ms, 7000, 11000);
    assert_int_equal(atomic_load(&server.udp_questions), 4);
    assert_in_range(told.mx.ttl_s, 1, 5);
}

static void test_nothing_listens(void **state)
{
    struct client alone;
    struct told told;
    uint16_t port = server.port;
    (void)state;

    server_stop(&server);
    client_start(&alone, &port, 1);
    uint64_t start_ms = uv_hrtime() / 1000000;
    ask_mx(&alone, "good.test", 5000, &told);
    assert_int_equal(told.mx.status, DNS_SERVER_FAILURE);
    assert_true(uv_hrtime() / 1000000 - start_ms < 1000);
    client_stop(&alone);
    server_start(&server, script);
}

static void test_authentic_is_asked_for_and_told(void **state)
{
    struct told told;
    (void)state;

    ask_mx(&client, "ad.test", 5000, &told);
    assert_true(told.mx.authentic);
    ask_mx(&client, "ad.test", 5000, &told); /* cached */
    assert_true(told.mx.authentic);
    ask_mx(&client, "good.test", 5000, &told);
    assert_false(told.mx.authentic);
}

static void test_cache_saves_questions(void **state)
{
    static const char *const names[] = {"good.test", "nxdomain.test", "nodata.test",
                                        "servfail.test"};
    struct told first, second;
    (void)state;

    for (size_t i = 0; i < 4; i++) {
        ask_mx(&client, names[i], 5000, &first);
        int asked = atomic_load(&server.udp_questions);
        ask_mx(&client, names[i], 5000, &second);
        assert_int_equal(atomic_load(&server.udp_questions), asked);
        assert_int_equal(second.mx.status, first.mx.status);
        assert_string_equal(second.mx.detail, first.mx.detail);
        assert_int_equal(second.mx.host_count, first.mx.host_count);
        assert_in_range(second.mx.ttl_s, 1, 60);
    }
    int asked = atomic_load(&server.udp_questions);
    ask_mx(&client, "GOOD.Test.", 5000, &second);
    assert_int_equal(atomic_load(&server.udp_questions), asked);
    assert_int_equal(second.mx.status, DNS_ANSWER);
}

/* ---- O29 ---- */

static bool truncate_or_sixty(struct test_server *s, const struct question *q,
                              struct message *reply)
{
    char host[64];
    (void)s;
    if (!q->tcp) {
        reply->bytes[2] |= 2;
        return true;
    }
    for (int i = 59; i >= 0; i--) {
        snprintf(host, sizeof host, "mx%02d.%.20s", i, q->name);
        add_mx(reply, "@", 60, (uint16_t)i, host);
    }
    return true;
}

static void test_truncated_answer_comes_by_tcp_on_the_same_port(void **state)
{
    struct told told;
    (void)state;

    server.script = truncate_or_sixty;
    ask_mx(&client, "big.test", 5000, &told);
    assert_int_equal(told.mx.status, DNS_ANSWER);
    assert_int_equal(told.mx.host_count, 60);
    assert_string_equal(told.hosts[0].name, "mx00.big.test");
    assert_string_equal(told.hosts[59].name, "mx59.big.test");
    assert_int_equal(atomic_load(&server.udp_questions), 1);
    assert_int_equal(atomic_load(&server.tcp_questions), 1);
    ask_mx(&client, "big2.test", 5000, &told); /* after the first connection is gone */
    assert_int_equal(told.mx.host_count, 60);
    assert_int_equal(atomic_load(&server.tcp_questions), 2);
}

/* Connections that break must not take other questions with them. */
static void test_broken_tcp_harms_only_its_own_question(void **state)
{
    enum { COUNT = 40 };
    static struct told told[COUNT + 4];
    struct dns_query *query;
    int last = 0;
    (void)state;

    memset(told, 0, sizeof told);
    for (int i = 0; i < COUNT + 4; i++) {
        char name[32];
        snprintf(name, sizeof name, i % 11 == 3 ? "tcp-closed.n%d.test" : "good.n%d.test", i);
        assert_int_equal(dns_mx_start(client.dns, name, 8000, on_mx, &told[i], &query), 0);
    }
    for (int i = 0; i < COUNT + 4; i++) {
        run_until(&client.loop, &told[i].calls, 1, 8000);
        assert_int_equal(told[i].mx.status, i % 11 == 3 ? DNS_SERVER_FAILURE : DNS_ANSWER);
        last = i;
    }
    assert_int_equal(last, COUNT + 3);
}

static bool say_nothing(struct test_server *s, const struct question *q, struct message *reply)
{
    (void)s;
    (void)q;
    (void)reply;
    return false;
}

static void test_dead_first_server(void **state)
{
    struct test_server dead;
    struct client two;
    struct told told;
    (void)state;

    server_start(&dead, say_nothing);
    uint16_t ports[] = {dead.port, server.port};
    client_start(&two, ports, 2);
    uint64_t start_ms = uv_hrtime() / 1000000;
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "good.n%d.test", i);
        ask_mx(&two, name, 10000, &told);
        assert_int_equal(told.mx.status, DNS_ANSWER);
    }
    assert_in_range(uv_hrtime() / 1000000 - start_ms, 1900, 10000);
    assert_int_equal(atomic_load(&dead.udp_questions), 1); /* remembered */
    client_stop(&two);
    server_stop(&dead);
}

static void test_a_refusing_server_is_passed_over(void **state)
{
    struct client two;
    struct told told;
    struct test_server gone;
    (void)state;

    server_start(&gone, say_nothing);
    uint16_t ports[] = {gone.port, server.port};
    server_stop(&gone); /* the kernel answers: port unreachable */
    client_start(&two, ports, 2);
    uint64_t start_ms = uv_hrtime() / 1000000;
    ask_mx(&two, "good.test", 10000, &told);
    assert_int_equal(told.mx.status, DNS_ANSWER);
    ask_mx(&two, "servfail.test", 10000, &told);
    assert_int_equal(told.mx.status, DNS_SERVER_FAILURE);
    assert_memory_equal(told.mx.detail, "SERVFAIL", 8);
    assert_true(uv_hrtime() / 1000000 - start_ms < 1500);
    client_stop(&two);
}

static bool fail_always(struct test_server *s, const struct question *q, struct message *reply)
{
    (void)s;
    (void)q;
    reply->bytes[3] |= 2;
    return true;
}

static void test_a_failing_server_is_passed_over_at_once(void **state)
{
    struct test_server failing;
    struct client two;
    struct told told;
    (void)state;

    server_start(&failing, fail_always);
    uint16_t ports[] = {failing.port, server.port};
    client_start(&two, ports, 2);
    ask_mx(&two, "good.test", 1500, &told);
    assert_int_equal(told.mx.status, DNS_ANSWER);
    assert_int_equal(atomic_load(&failing.udp_questions), 1);
    client_stop(&two);
    server_stop(&failing);
}

/* First a forged answer, then, 200 ms later, the true one. */
static bool forger(struct test_server *s, const struct question *q, struct message *reply)
{
    static _Thread_local struct message forged;

    if (strcmp(q->first, "forged-id") == 0)
        start_message(&forged, (uint16_t)(q->id ^ 1), REPLY, q->name, q->type);
    else
        start_message(&forged, q->id, REPLY, "other.test", q->type);
    add_mx(&forged, "@", 60, 10, "evil.test");
    send_udp(s, &forged);
    usleep(200000);
    add_mx(reply, "@", 60, 10, "mx.test");
    return true;
}

static void test_forged_answers_are_ignored(void **state)
{
    static const char *const names[] = {"forged-id.test", "forged-question.test"};
    struct told told;
    (void)state;

    server.script = forger;
    for (size_t i = 0; i < 2; i++) {
        ask_mx(&client, names[i], 5000, &told);
        assert_int_equal(told.mx.status, DNS_ANSWER);
        assert_int_equal(told.mx.host_count, 1);
        assert_string_equal(told.hosts[0].name, "mx.test");
    }
}

static bool answer_late(struct test_server *s, const struct question *q, struct message *reply)
{
    (void)s;
    (void)q;
    usleep(600000);
    add_mx(reply, "@", 60, 10, "mx.test");
    return true;
}

/* After the deadline nothing is told twice; the answer still serves the next who asks. */
static void test_answer_after_the_deadline(void **state)
{
    struct told told;
    int none = 0;
    (void)state;

    server.script = answer_late;
    ask_mx(&client, "late.test", 200, &told);
    assert_int_equal(told.mx.status, DNS_TIMEOUT);
    run_until(&client.loop, &none, 1, 900);
    assert_int_equal(told.calls, 1);
    ask_mx(&client, "late.test", 100, &told);
    assert_int_equal(told.mx.status, DNS_ANSWER);
    assert_int_equal(atomic_load(&server.udp_questions), 1);
}

static void test_doubled_answers_are_told_once(void **state)
{
    struct told told;
    int none = 0;
    (void)state;

    server.reply_copies = 3;
    ask_mx(&client, "good.test", 5000, &told);
    run_until(&client.loop, &none, 1, 100);
    assert_int_equal(told.calls, 1);
}

/* ---- sharing, cancelling, closing ---- */

static void test_same_question_is_asked_once(void **state)
{
    struct told told[20] = {0};
    struct dns_query *queries[20];
    (void)state;

    for (int i = 0; i < 20; i++)
        assert_int_equal(dns_mx_start(client.dns, "good.test", 5000, on_mx, &told[i], &queries[i]),
                         0);
    for (int i = 0; i < 10; i++)
        dns_cancel(&queries[i]);
    for (int i = 10; i < 20; i++)
        run_until(&client.loop, &told[i].calls, 1, 5000);
    for (int i = 0; i < 20; i++)
        assert_int_equal(told[i].calls, i < 10 ? 0 : 1);
    assert_int_equal(atomic_load(&server.udp_questions), 1);
}

static void test_cancel_at_every_moment(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct told told = {0};
        struct dns_query *query, *none = NULL;
        char name[32];
        snprintf(name, sizeof name, "good.c%d.test", turns / 2);
        assert_int_equal(
            dns_address_start(client.dns, name, DNS_FAMILY_ANY, 5000, on_address, &told, &query),
            0);
        for (int i = 0; i < turns && told.calls == 0; i++)
            uv_run(&client.loop, UV_RUN_NOWAIT);
        int calls = told.calls;
        if (calls == 0)
            dns_cancel(&query);
        dns_cancel(&none);
        for (int i = 0; i < 5; i++) {
            usleep(1000);
            uv_run(&client.loop, UV_RUN_NOWAIT);
        }
        assert_int_equal(told.calls, calls);
    }
}

struct meddler {
    struct dns_query *others[3];
    struct told told;
};

static void cancel_others(const struct dns_mx_answer *answer, void *ctx)
{
    struct meddler *meddler = ctx;
    on_mx(answer, &meddler->told);
    for (size_t i = 0; i < 3; i++)
        dns_cancel(&meddler->others[i]);
}

static void test_cancel_others_from_a_callback(void **state)
{
    struct meddler meddler = {0};
    struct told told[3] = {0};
    struct dns_query *query;
    int none = 0;
    (void)state;

    ask_mx(&client, "good.test", 5000,
           &told[0]); /* into the cache: then all four are ready at once */
    memset(told, 0, sizeof told);
    assert_int_equal(dns_mx_start(client.dns, "good.test", 5000, cancel_others, &meddler, &query),
                     0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(
            dns_mx_start(client.dns, "good.test", 5000, on_mx, &told[i], &meddler.others[i]), 0);
    run_until(&client.loop, &none, 1, 50);
    assert_int_equal(meddler.told.calls, 1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(told[i].calls, 0);
}

static void close_in_callback(const struct dns_mx_answer *answer, void *ctx)
{
    on_mx(answer, ctx);
    dns_close(&client.dns);
}

static void test_close_from_a_callback(void **state)
{
    struct told told[3] = {0};
    struct dns_query *query;
    (void)state;

    ask_mx(&client, "good.test", 5000, &told[0]);
    memset(told, 0, sizeof told);
    assert_int_equal(
        dns_mx_start(client.dns, "good.test", 5000, close_in_callback, &told[0], &query), 0);
    assert_int_equal(dns_mx_start(client.dns, "good.test", 5000, on_mx, &told[1], &query), 0);
    assert_int_equal(dns_mx_start(client.dns, "silent.test", 5000, on_mx, &told[2], &query), 0);
    run_until(&client.loop, &told[0].calls, 1, 1000);
    assert_int_equal(told[0].calls, 1);
    assert_int_equal(told[1].calls + told[2].calls, 0);
    assert_null(client.dns);
}

/* More than may be under way at once, and TCP among them: nobody is called, nothing is left. */
static void test_close_with_queries_under_way(void **state)
{
    static struct told told[400];
    (void)state;

    memset(told, 0, sizeof told);
    for (int turns = 0; turns < 4; turns++) {
        for (int i = 0; i < 400; i++) {
            struct dns_query *query;
            char name[32];
            snprintf(name, sizeof name, i % 3 == 0 ? "silent.%d.test" : "tcp-closed.%d.test", i);
            assert_int_equal(dns_mx_start(client.dns, name, 5000, on_mx, &told[i], &query), 0);
        }
        for (int i = 0; i < turns; i++)
            uv_run(&client.loop, UV_RUN_NOWAIT);
        client_stop(&client);
        client_start(&client, &server.port, 1);
    }
    for (int i = 0; i < 400; i++)
        assert_int_equal(told[i].mx.status == DNS_ANSWER && told[i].calls > 0, 0);
}

static void test_a_burst_is_answered_whole(void **state)
{
    enum { COUNT = 3000 };
    static struct told told[COUNT];
    struct dns_query *query;
    (void)state;

    memset(told, 0, sizeof told);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "good.b%d.test", i);
        assert_int_equal(dns_mx_start(client.dns, name, 20000, on_mx, &told[i], &query), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        run_until(&client.loop, &told[i].calls, 1, 20000);
        assert_int_equal(told[i].calls, 1);
        assert_int_equal(told[i].mx.status, DNS_ANSWER);
    }
}

static void test_new_servers_take_over(void **state)
{
    struct test_server failing;
    struct told told, slow = {0};
    struct dns_server address;
    struct dns_query *query;
    (void)state;

    server_start(&failing, fail_always);
    server_address(failing.port, &address);
    ask_mx(&client, "good.test", 5000, &told);
    assert_int_equal(told.mx.status, DNS_ANSWER);
    server.script = answer_late;
    assert_int_equal(dns_mx_start(client.dns, "slow.test", 5000, on_mx, &slow, &query), 0);
    struct dns_options options = {.servers = &address, .server_count = 1};
    assert_int_equal(dns_shared_set_servers(client.shared, &options), 0);
    ask_mx(&client, "good.test", 5000, &told); /* the cache is empty, the new server fails */
    assert_int_equal(told.mx.status, DNS_SERVER_FAILURE);
    run_until(&client.loop, &slow.calls, 1, 5000); /* begun with the old one */
    assert_int_equal(slow.mx.status, DNS_ANSWER);
    ask_mx(&client, "slow.test", 5000, &told); /* an answer of the old one is not kept */
    assert_int_equal(told.mx.status, DNS_SERVER_FAILURE);
    server_stop(&failing);
}

static void test_servers_from_the_system(void **state)
{
    struct dns_options options = {0};
    struct dns_shared *shared;
    struct dns_server_list list = {0};
    (void)state;

    assert_int_equal(dns_shared_new(&options, &shared), 0);
    dns_shared_servers(shared, &list);
    assert_in_range(list.count, 1, DNS_SERVERS_MAX);
    const struct sockaddr_in *first = (const struct sockaddr_in *)&list.servers[0].address;
    assert_int_not_equal(first->sin_port, 0);
    dns_shared_free(&shared);
}

/* ---- several loops, one cache ---- */

struct looper {
    pthread_t thread;
    struct client own;
    int answered;
};

static void *run_looper(void *ctx)
{
    struct looper *looper = ctx;
    struct client *own = &looper->own;

    assert_int_equal(dns_open(&own->loop, own->shared, &own->dns), 0);
    for (int i = 0; i < 300; i++) {
        struct told told;
        char name[32];
        snprintf(name, sizeof name, "good.n%d.test", i % 50);
        ask_mx(own, name, 10000, &told);
        looper->answered += told.mx.status == DNS_ANSWER && told.mx.host_count == 1;
    }
    dns_close(&own->dns);
    uv_run(&own->loop, UV_RUN_NOWAIT);
    return NULL;
}

static void test_loops_share_the_cache(void **state)
{
    struct looper loopers[3];
    struct dns_server address;
    (void)state;

    server_address(server.port, &address);
    struct dns_options options = {.servers = &address, .server_count = 1, .cache_entries = 30};
    struct dns_shared *shared;
    assert_int_equal(dns_shared_new(&options, &shared), 0);
    /* Made and closed here: libuv closes descriptors behind the thread sanitizer's back, and one
     * thread's number would come again in another. */
    for (size_t i = 0; i < 3; i++) {
        loopers[i] = (struct looper){.own = {.shared = shared}};
        assert_int_equal(uv_loop_init(&loopers[i].own.loop), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&loopers[i].thread, NULL, run_looper, &loopers[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        usleep(2000);
        assert_int_equal(dns_shared_set_servers(shared, &options), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(loopers[i].thread, NULL);
        assert_int_equal(loopers[i].answered, 300);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(uv_loop_close(&loopers[i].own.loop), 0);
    dns_shared_free(&shared);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_outcomes),
        TEST(test_silence_ends_by_itself),
        TEST(test_nothing_listens),
        TEST(test_authentic_is_asked_for_and_told),
        TEST(test_cache_saves_questions),
        TEST(test_truncated_answer_comes_by_tcp_on_the_same_port),
        TEST(test_broken_tcp_harms_only_its_own_question),
        TEST(test_dead_first_server),
        TEST(test_a_refusing_server_is_passed_over),
        TEST(test_a_failing_server_is_passed_over_at_once),
        TEST(test_forged_answers_are_ignored),
        TEST(test_answer_after_the_deadline),
        TEST(test_doubled_answers_are_told_once),
        TEST(test_same_question_is_asked_once),
        TEST(test_cancel_at_every_moment),
        TEST(test_cancel_others_from_a_callback),
        TEST(test_close_from_a_callback),
        TEST(test_close_with_queries_under_way),
        TEST(test_a_burst_is_answered_whole),
        TEST(test_new_servers_take_over),
        TEST(test_servers_from_the_system),
        TEST(test_loops_share_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
