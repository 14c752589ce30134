/* Our two kinds of session against each other in memory, and against bytes that are no TLS (cases
 * O21, O22). */
#include "test_tls_support.h"

/* Gives what waits in `from` to `to`, `step` bytes at a time; after each the receiver goes on. */
static bool move_bytes(struct tls_session *from, struct tls_session *to, size_t step)
{
    bool moved = false;
    for (;;) {
        size_t len;
        const uint8_t *bytes = tls_session_output(from, &len);
        if (len == 0)
            return moved;
        size_t part = len < step ? len : step;
        assert_int_not_equal(feed_and_go_on(to, bytes, part), TLS_FAILED);
        tls_session_output_consumed(from, part);
        moved = true;
    }
}

struct pair {
    struct tls_session *client, *server;
};

static void pair_init(struct pair *pair, const char *name, size_t step)
{
    assert_int_equal(tls_client_session_new(client_credentials, name, &pair->client), 0);
    assert_int_equal(tls_server_session_new(server_credentials, &pair->server), 0);
    assert_int_equal(tls_session_handshake(pair->client), TLS_AGAIN);
    bool moved = true;
    while (moved) {
        moved = move_bytes(pair->client, pair->server, step);
        moved = move_bytes(pair->server, pair->client, step) || moved;
    }
    assert_int_equal(tls_session_handshake(pair->client), 0);
    assert_int_equal(tls_session_handshake(pair->server), 0);
}

static void pair_deinit(struct pair *pair)
{
    tls_session_free(&pair->client);
    tls_session_free(&pair->server);
    assert_null(pair->client);
}

/* Writes in one go, reads at the other side after every step, compares. */
static void send_across(struct tls_session *from, struct tls_session *to, size_t len, size_t step)
{
    uint8_t *sent = malloc(len), *got = malloc(len + 1), *wire;
    size_t got_len = 0, wire_len;

    tls_random(sent, len);
    assert_int_equal(tls_session_write(from, sent, len), 0);
    const uint8_t *output = tls_session_output(from, &wire_len);
    wire = malloc(wire_len);
    memcpy(wire, output, wire_len);
    tls_session_output_consumed(from, wire_len);
    if (step > 65536)
        step = 65536;
    for (size_t at = 0; at < wire_len; at += step) {
        assert_int_equal(
            tls_session_feed(to, wire + at, wire_len - at < step ? wire_len - at : step), 0);
        long n = tls_session_read(to, got + got_len, len + 1 - got_len);
        for (; n > 0; n = tls_session_read(to, got + got_len, len + 1 - got_len))
            got_len += (size_t)n;
        assert_int_equal(n, TLS_AGAIN);
    }
    assert_int_equal(got_len, len);
    assert_memory_equal(sent, got, len);
    free(sent);
    free(got);
    free(wire);
}

static void test_both_kinds_talk(void **state)
{
    static const size_t sizes[] = {1, 17, 16384, 16385, 100000};
    (void)state;

    FOR_EACH_STEP(step)
    {
        struct pair pair;
        pair_init(&pair, "mx.example", step);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            send_across(pair.client, pair.server, sizes[i], step);
            send_across(pair.server, pair.client, sizes[i], step);
        }
        assert_string_equal(tls_session_error(pair.client), "");
        pair_deinit(&pair);
    }
}

static void test_verdict_of_a_good_server(void **state)
{
    struct tls_verdict verdict;
    struct pair pair;
    (void)state;

    pair_init(&pair, "mx.example.", SIZE_MAX);
    tls_session_verdict(pair.client, &verdict);
    assert_string_equal(verdict.version, "TLS1.3");
    assert_memory_equal(verdict.cipher, "TLS_", 4);
    assert_true(verdict.trusted);
    assert_true(verdict.name_matches);
    assert_string_equal(verdict.problem, "");
    tls_session_verdict(pair.server, &verdict);
    assert_string_equal(verdict.version, "TLS1.3");
    assert_false(verdict.trusted);
    assert_false(verdict.name_matches);
    assert_string_equal(verdict.problem, "no certificate");
    pair_deinit(&pair);
}

static void test_name_absent_or_odd_still_encrypts(void **state)
{
    static const char *const names[] = {
        NULL, "", ".", "192.0.2.1", "2001:db8::1", "a b", "\xff\xfe.example", "_x.example"};
    (void)state;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct tls_verdict verdict;
        struct pair pair;
        pair_init(&pair, names[i], SIZE_MAX);
        tls_session_verdict(pair.client, &verdict);
        assert_true(verdict.trusted);
        assert_false(verdict.name_matches);
        pair_deinit(&pair);
    }
}

/* O21, O22: what comes instead of a ServerHello. */
static void test_handshake_answered_with_clear_text(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int expected;
    } cases[] = {
        {"250 ok\r\n", 8, TLS_FAILED},
        {"454 4.7.0 TLS not available\r\n", 29, TLS_FAILED},
        {"\x15\x03\x01\x00\x02\x02\x28", 7, TLS_FAILED}, /* alert handshake_failure */
        {"\x15\x03\x03\x00\x02\x01\x00", 7, TLS_FAILED}, /* close_notify */
        {"\x16\x03\x03\x40\x00\x02", 6, TLS_AGAIN},
        {"\x16", 1, TLS_AGAIN},
        {"", 0, TLS_AGAIN},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, TLS_FAILED},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FOR_EACH_STEP(step)
        {
            struct tls_session *ours;
            size_t len;
            assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &ours), 0);
            assert_int_equal(tls_session_handshake(ours), TLS_AGAIN);
            (void)tls_session_output(ours, &len);
            assert_true(len > 100);
            tls_session_output_consumed(ours, len);
            int rc = TLS_AGAIN;
            for (size_t at = 0; at < cases[i].len && rc == TLS_AGAIN; at += step) {
                size_t part = cases[i].len - at < step ? cases[i].len - at : step;
                assert_int_equal(tls_session_feed(ours, cases[i].bytes + at, part), 0);
                rc = tls_session_handshake(ours);
                if (part == cases[i].len)
                    break;
            }
            assert_int_equal(rc, cases[i].expected);
            assert_int_equal(tls_session_error(ours)[0] != '\0', rc == TLS_FAILED);
            tls_session_free(&ours);
        }
    }
}

static void test_server_meets_a_client_that_speaks_no_tls(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        static const char text[] = "EHLO injected.example\r\nMAIL FROM:<a@b>\r\n";
        struct tls_session *ours;
        assert_int_equal(tls_server_session_new(server_credentials, &ours), 0);
        assert_int_equal(tls_session_handshake(ours), TLS_AGAIN);
        int rc = TLS_AGAIN;
        for (size_t at = 0; at < sizeof text - 1 && rc == TLS_AGAIN; at++) {
            size_t part = step == 1 ? 1 : sizeof text - 1;
            assert_int_equal(tls_session_feed(ours, text + at, part), 0);
            rc = tls_session_handshake(ours);
        }
        assert_int_equal(rc, TLS_FAILED);
        tls_session_free(&ours);
    }
}

static void test_calls_out_of_turn(void **state)
{
    struct tls_session *ours;
    char buf[64];
    size_t len;
    (void)state;

    assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &ours), 0);
    assert_null(tls_session_output(ours, &len));
    assert_int_equal(len, 0);
    tls_session_close(ours); /* nothing to close yet */
    assert_null(tls_session_output(ours, &len));
    assert_int_equal(tls_session_read(ours, buf, sizeof buf), TLS_AGAIN);
    assert_int_equal(tls_session_write(ours, "x", 1), TLS_FAILED);
    assert_int_equal(tls_session_handshake(ours), TLS_AGAIN);
    assert_string_equal(tls_session_error(ours), "");
    tls_session_free(&ours);
    tls_session_free(&ours); /* accepts NULL */
}

static void test_feed_has_a_limit(void **state)
{
    static uint8_t zeros[200 * 1024];
    struct pair pair;
    (void)state;

    pair_init(&pair, "mx.example", SIZE_MAX);
    assert_int_equal(tls_session_feed(pair.server, zeros, sizeof zeros), 0);
    assert_int_equal(tls_session_feed(pair.server, zeros, sizeof zeros), TLS_FAILED);
    assert_int_equal(tls_session_feed(pair.server, zeros, 57344), 0);
    assert_int_equal(tls_session_feed(pair.server, zeros, 1), TLS_FAILED);
    pair_deinit(&pair);
}

/* A handshake cut off after every number of bytes: freed in whatever state it is. */
static void test_free_at_any_point(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < 1600; cut += 61) {
        struct pair pair;
        size_t left = cut;
        assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &pair.client), 0);
        assert_int_equal(tls_server_session_new(server_credentials, &pair.server), 0);
        assert_int_equal(tls_session_handshake(pair.client), TLS_AGAIN);
        for (int turn = 0; turn < 4 && left > 0; turn++) {
            struct tls_session *from = turn % 2 == 0 ? pair.client : pair.server;
            struct tls_session *to = turn % 2 == 0 ? pair.server : pair.client;
            size_t len;
            const uint8_t *bytes = tls_session_output(from, &len);
            size_t part = len < left ? len : left;
            assert_int_not_equal(feed_and_go_on(to, bytes, part), TLS_FAILED);
            tls_session_output_consumed(from, part);
            left -= part;
        }
        pair_deinit(&pair);
    }
}

static void test_no_secrets_are_written(void **state)
{
    struct pair pair;
    (void)state;

    pair_init(&pair, "mx.example", SIZE_MAX);
    pair_deinit(&pair);
    assert_int_equal(access("/tmp/test-tls-keylog", F_OK), -1);
    assert_null(getenv("SSLKEYLOGFILE"));
}

/* With the variable set before the start no file appears. */
static int start(void **state)
{
    unlink("/tmp/test-tls-keylog");
    setenv("SSLKEYLOGFILE", "/tmp/test-tls-keylog", 1);
    return support_start_pki(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_kinds_talk),
        cmocka_unit_test(test_verdict_of_a_good_server),
        cmocka_unit_test(test_name_absent_or_odd_still_encrypts),
        cmocka_unit_test(test_handshake_answered_with_clear_text),
        cmocka_unit_test(test_server_meets_a_client_that_speaks_no_tls),
        cmocka_unit_test(test_calls_out_of_turn),
        cmocka_unit_test(test_feed_has_a_limit),
        cmocka_unit_test(test_free_at_any_point),
        cmocka_unit_test(test_no_secrets_are_written),
    };
    return cmocka_run_group_tests(tests, start, support_stop_pki);
}
