/* tests/unit/test_smtp_server_limits.c - what the server session bounds: errors, chatter,
 * recipients, line lengths. */
#include "tests/unit/smtp_server_peer.h"

static void repeat(struct peer *peer, const char *text, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        peer_give_text(peer, text);
}

static void test_error_budget(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    repeat(&peer, "FOO\r\n", SMTP_SERVER_ERRORS_MAX);
    assert_int_equal(peer_said(&peer, "500 5.5.1"), SMTP_SERVER_ERRORS_MAX);
    assert_int_equal(peer.quits, 0);
    peer_give_text(&peer, "FOO\r\nNOOP\r\n");
    assert_int_equal(peer_said(&peer, "421 4.7.0"), 1);
    assert_int_equal(peer_said(&peer, "250"), 0);
    assert_int_equal(peer.quits, 1);
    assert_int_equal(peer.refusals, SMTP_SERVER_ERRORS_MAX + 1);
    peer_close(&peer);
}

static void test_error_budget_is_renewed_by_mail(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\n");
    for (int i = 0; i < 3; i++) {
        repeat(&peer, "FOO\r\n", 40);
        peer_give_text(&peer, "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\n");
    }
    assert_int_equal(peer.quits, 0);
    peer_close(&peer);
}

/* Refused addresses, and what was pipelined behind a refused MAIL, are no reason to end a session.
 */
static void test_refused_addresses_are_no_errors(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\nMAIL FROM:<deny@b>\r\n");
    repeat(&peer, "RCPT TO:<a@b>\r\n", 200);
    peer_give_text(&peer, "MAIL FROM:<a@b>\r\n");
    repeat(&peer, "RCPT TO:<deny@b>\r\nDATA\r\n", 100);
    repeat(&peer, "RCPT TO:<deny@b>\r\nRCPT TO:<bad>\r\nRCPT TO:<a@>\r\nDATA\r\n", 100);
    peer_give_text(&peer, "RCPT TO:<a@b>\r\nDATA\r\n.\r\n");
    assert_int_equal(peer.quits, 0);
    assert_int_equal(peer_said(&peer, "250 2.0.0 Ok: queued"), 1);
    peer_close(&peer);
}

/* But there is an end to it: each is a line in a log. */
static void test_refusals_are_bounded(void **state)
{
    static const struct {
        const char *first, *again;
        unsigned max;
        const char *reply;
    } cases[] = {
        {"", "MAIL FROM:<deny@b>\r\n", 100, "550 5.7.1"},
        {"", "MAIL FROM:<a@b> SIZE=99999999999\r\n", 100, "552 5.3.4"},
        {"MAIL FROM:<deny@b>\r\n", "RCPT TO:<a@b>\r\n", 1028, "503 5.5.1"},
        {"MAIL FROM:<deny@b>\r\n", "DATA\r\n", 1028, "503 5.5.1"},
        {"MAIL FROM:<a@b>\r\n", "RCPT TO:<deny@b>\r\n", 1028, "550 5.7.1"},
        {"MAIL FROM:<a@b>\r\n", "RCPT TO:<bad>\r\n", 1028, "553 5.1.3"},
        {"MAIL FROM:<a@b>\r\nRCPT TO:<deny@b>\r\n", "DATA\r\n", 1027, "554 5.5.1"},
        {"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n", "DATA\r\n", 100, "452 4.3.1"},
        {"", "NOOP\r\n", 1050, "250 2.0.0 Ok"},
        {"", "RSET\r\n", 1050, "250 2.0.0 Ok"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smtp_server_options options = peer_options();
        struct peer peer;
        options.max_recipients = 7; /* DATA is refused: a full queue */
        peer_open(&peer, &options);
        peer_greet(&peer);
        peer_give_text(&peer, "EHLO x\r\n");
        peer_give_text(&peer, cases[i].first);
        buf_clear(&peer.said);
        repeat(&peer, cases[i].again, cases[i].max);
        assert_true(peer_said(&peer, cases[i].reply) >= 100);
        if (peer.quits != 0)
            fail_msg("%s ends too early", cases[i].again);
        repeat(&peer, cases[i].again, 1);
        if (peer.quits != 1)
            fail_msg("%s does not end", cases[i].again);
        assert_int_equal(peer_said(&peer, "421 4.7.0"), 1);
        peer_close(&peer);
    }
}

/* A client that stays, with RSET before each message. */
static void test_refusals_are_renewed_by_mail(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\n");
    for (int i = 0; i < 3; i++) {
        repeat(&peer, "MAIL FROM:<deny@b>\r\n", 90);
        repeat(&peer, "RSET\r\n", 900);
        peer_give_text(&peer, "MAIL FROM:<a@b>\r\n");
        repeat(&peer, "RCPT TO:<deny@b>\r\n", 900);
        peer_give_text(&peer, "RCPT TO:<a@b>\r\nDATA\r\n.\r\n");
    }
    assert_int_equal(peer.quits, 0);
    assert_int_equal(peer_said(&peer, "250 2.0.0 Ok: queued"), 3);
    peer_close(&peer);
}

static void test_out_of_order_is_an_error(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\n");
    repeat(&peer, "RCPT TO:<a@b>\r\n", SMTP_SERVER_ERRORS_MAX + 1);
    assert_int_equal(peer.quits, 1);
    peer_close(&peer);
}

/* The excuse of a refused MAIL ends with the transaction. */
static void test_out_of_order_after_reset(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\nMAIL FROM:<deny@b>\r\nRSET\r\n");
    repeat(&peer, "RCPT TO:<a@b>\r\n", SMTP_SERVER_ERRORS_MAX + 1);
    assert_int_equal(peer.quits, 1);
    peer_close(&peer);
}

static void test_chatter(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    repeat(&peer, "EHLO x\r\n", 60);
    peer_give_text(&peer, "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\n"); /* renews it */
    buf_clear(&peer.said);
    repeat(&peer, "EHLO x\r\n", 100);
    assert_int_equal(peer_said(&peer, "250 HELP"), 100);
    repeat(&peer, "EHLO x\r\n", 50);
    assert_int_equal(peer_said(&peer, "450 4.7.0"), 50);
    repeat(&peer, "EHLO x\r\n", 1);
    assert_int_equal(peer.quits, 1);
    peer_close(&peer);
}

static void test_recipient_limit(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.max_recipients = 3;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\n");
    repeat(&peer, "RCPT TO:<c@d>\r\n",
           5); /* the same one: removing doubles is the owner's matter */
    peer_give_text(&peer, "DATA\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    peer_expect_codes(&peer, "220 250 250 550 250 250 250 452 452 354 250 250 250");
    assert_int_equal(peer_said(&peer, "452 4.5.3"), 2);
    peer_close(&peer);
}

/* O09: one 500 as soon as the limit is passed, then nothing until the line ends; memory stays flat.
 */
static void test_endless_line(void **state)
{
    static const size_t pieces[] = {1, 100, 2047, 2048, 2049, 65536};
    struct smtp_server_options options = peer_options();
    static char a[65536];
    (void)state;

    memset(a, 'A', sizeof a);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer_greet(&peer);
        for (size_t sent = 0; sent < 300000; sent += pieces[i]) {
            assert_int_equal(peer_said(&peer, "500 5.5.2"), sent >= 2048 ? 1 : 0);
            peer_give(&peer, a, pieces[i]);
            assert_true(smtp_server_wants_input(peer.server));
        }
        peer_give_text(&peer, "\r");
        peer_give_text(&peer, "\nNOOP\r\n");
        peer_expect_codes(&peer, "220 500 250");
        peer_close(&peer);
    }
}

static void test_line_limit_is_exact(void **state)
{
    struct smtp_server_options options = peer_options();
    char line[SMTP_COMMAND_LINE_MAX + 2];
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    memset(line, 'x', sizeof line);
    snprintf(line, sizeof line, "NOOP ");
    line[5] = 'x';
    line[SMTP_COMMAND_LINE_MAX - 2] = '\r';
    line[SMTP_COMMAND_LINE_MAX - 1] = '\n';
    peer_give(&peer, line, SMTP_COMMAND_LINE_MAX);
    peer_expect_codes(&peer, "220 250");
    line[SMTP_COMMAND_LINE_MAX - 2] = 'x';
    line[SMTP_COMMAND_LINE_MAX - 1] = '\r';
    line[SMTP_COMMAND_LINE_MAX] = '\n';
    peer_give(&peer, line, SMTP_COMMAND_LINE_MAX + 1);
    peer_expect_codes(&peer, "220 250 500");
    peer_give_text(&peer, "NOOP\r\n");
    peer_expect_codes(&peer, "220 250 500 250");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_budget),
        cmocka_unit_test(test_error_budget_is_renewed_by_mail),
        cmocka_unit_test(test_refused_addresses_are_no_errors),
        cmocka_unit_test(test_refusals_are_bounded),
        cmocka_unit_test(test_refusals_are_renewed_by_mail),
        cmocka_unit_test(test_out_of_order_is_an_error),
        cmocka_unit_test(test_out_of_order_after_reset),
        cmocka_unit_test(test_chatter),
        cmocka_unit_test(test_recipient_limit),
        cmocka_unit_test(test_endless_line),
        cmocka_unit_test(test_line_limit_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
