/* tests/unit/test_smtp_server_auth.c - the line exchange of AUTH (RFC 4954, case O12 and O13): what
 * the owner is asked, what ends it. Conversations run whole, one byte at a time, and cut in two at
 * every byte. */
#include "mta/smtp/server_private.h"
#include "tests/unit/smtp_server_peer.h"

#define HELLO "EHLO c\r\n"

/* The owner takes "T0s=" for the right password and asks once more for "TU9SRQ==". */
static const struct talk {
    const char *input;
    const char *codes; /* behind the greeting */
    const char *events;
} talks[] = {
    {HELLO "AUTH PLAIN T0s=\r\nMAIL FROM:<a@b>\r\n", "250 235 250",
     "ehlo c;auth PLAIN;initial T0s=;mail a@b;"},
    {HELLO "AUTH PLAIN\r\nT0s=\r\nMAIL FROM:<a@b>\r\n", "250 334 235 250",
     "ehlo c;auth PLAIN;response T0s=;mail a@b;"},
    {HELLO "auth login\r\nTU9SRQ==\r\nT0s=\r\n", "250 334 334 235",
     "ehlo c;auth login;response TU9SRQ==;response T0s=;"},
    {HELLO "AUTH  PLAIN   T0s=  \r\n", "250 235", "ehlo c;auth PLAIN;initial T0s=;"},
    /* an empty initial response is none the less one; an empty line is an empty response */
    {HELLO "AUTH PLAIN =\r\n", "250 535", "ehlo c;auth PLAIN;initial;"},
    {HELLO "AUTH PLAIN\r\n\r\nNOOP\r\n", "250 334 535 250", "ehlo c;auth PLAIN;response;"},
    {HELLO "AUTH PLAIN\r\n=\r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    /* wrong, and once more */
    {HELLO "AUTH PLAIN YWJj\r\nAUTH PLAIN T0s=\r\nAUTH PLAIN T0s=\r\n", "250 535 235 503",
     "ehlo c;auth PLAIN;initial YWJj;auth PLAIN;initial T0s=;"},
    {HELLO "AUTH PLAIN TEFURVI=\r\nAUTH PLAIN T0s=\r\n", "250 454 235",
     "ehlo c;auth PLAIN;initial TEFURVI=;auth PLAIN;initial T0s=;"},
    /* cancelled */
    {HELLO "AUTH PLAIN\r\n*\r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    {HELLO "AUTH LOGIN\r\nTU9SRQ==\r\n*\r\nAUTH PLAIN T0s=\r\n", "250 334 334 501 235",
     "ehlo c;auth LOGIN;response TU9SRQ==;cancel;auth PLAIN;initial T0s=;"},
    /* no base64 */
    {HELLO "AUTH PLAIN AAA\r\nNOOP\r\n", "250 501 250", "ehlo c;"},
    {HELLO "AUTH PLAIN A===\r\nNOOP\r\n", "250 501 250", "ehlo c;"},
    {HELLO "AUTH PLAIN AA=A\r\nNOOP\r\n", "250 501 250", "ehlo c;"},
    {HELLO "AUTH PLAIN ==\r\nNOOP\r\n", "250 501 250", "ehlo c;"},
    {HELLO "AUTH PLAIN AAAA AAAA\r\nNOOP\r\n", "250 501 250", "ehlo c;"},
    {HELLO "AUTH PLAIN\r\nAAAA \r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    {HELLO "AUTH PLAIN\r\nAA-_\r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    {HELLO "AUTH PLAIN\r\nAA\xc3\xbc\r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    /* bare line ends */
    {HELLO "AUTH PLAIN\r\nT0s=\nNOOP\r\n", "250 334 500 250", "ehlo c;auth PLAIN;cancel;"},
    {HELLO "AUTH PLAIN\r\nT0s=\r\r\nNOOP\r\n", "250 334 501 250", "ehlo c;auth PLAIN;cancel;"},
    /* mechanisms */
    {HELLO "AUTH GSSAPI\r\nAUTH PLAI\r\nAUTH PLAINX\r\nAUTH X-\x7f\r\n", "250 504 504 504 500",
     "ehlo c;"},
    /* order */
    {"AUTH PLAIN T0s=\r\n", "503", ""},
    {HELLO "MAIL FROM:<a@b>\r\nAUTH PLAIN T0s=\r\nRCPT TO:<c@d>\r\n", "250 250 503 250",
     "ehlo c;mail a@b;rcpt c@d;"},
    /* a login outlives RSET, EHLO and a message */
    {HELLO "AUTH PLAIN T0s=\r\nRSET\r\nEHLO d\r\nAUTH PLAIN T0s=\r\n", "250 235 250 250 503",
     "ehlo c;auth PLAIN;initial T0s=;ehlo d;"},
    {HELLO "AUTH PLAIN T0s=\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nAUTH LOGIN\r\n",
     "250 235 250 250 354 250 503", "ehlo c;auth PLAIN;initial T0s=;mail a@b;rcpt c@d;data;end;"},
    /* commands behind AUTH are responses, never commands */
    {HELLO "AUTH PLAIN\r\nMAIL FROM:<a@b>\r\nQUIT\r\n", "250 334 501 221",
     "ehlo c;auth PLAIN;cancel;quit;"},
};

static void run_talk(const struct talk *talk, size_t cut, enum peer_answer answer)
{
    struct smtp_server_options options = peer_options();
    size_t len = strlen(talk->input);
    struct peer peer;
    size_t piece = 0;
    char codes[256];

    peer_open(&peer, &options);
    peer.answer = answer;
    smtp_server_offer_auth(peer.server, "PLAIN LOGIN X-Y");
    peer_greet(&peer);
    for (size_t i = 0; i < len; i += piece) {
        piece = cut == 0 ? 1 : i < cut ? cut - i : len - i;
        peer_give(&peer, talk->input + i, piece);
    }
    snprintf(codes, sizeof codes, "220 %s", talk->codes);
    peer_expect_codes(&peer, codes);
    peer_expect_events(&peer, talk->events);
    peer_close(&peer);
}

static void test_talks(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof talks / sizeof talks[0]; i++) {
        for (size_t cut = 0; cut <= strlen(talks[i].input); cut++) {
            run_talk(&talks[i], cut, ANSWER_AT_ONCE);
            run_talk(&talks[i], cut, ANSWER_LATER);
        }
    }
}

/* O13: in clear, where AUTH comes with TLS, no response is waited for. */
static void test_not_offered(void **state)
{
    static const struct {
        const char *mechanisms;
        bool after_tls, require_starttls;
        const char *code;
    } cases[] = {
        {NULL, false, false, "502 5.5.1"},   {"", false, false, "502 5.5.1"},
        {NULL, true, false, "538 5.7.11"},   {"PLAIN", true, false, "334 "},
        {"PLAIN", true, true, "538 5.7.11"}, {"PLAIN", false, true, "502 5.5.1"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smtp_server_options options = peer_options();
        struct peer peer;
        options.auth_after_tls = cases[i].after_tls;
        options.require_starttls = cases[i].require_starttls;
        peer_open(&peer, &options);
        peer.answer = ANSWER_AT_ONCE;
        smtp_server_offer_auth(peer.server, cases[i].mechanisms);
        peer_greet(&peer);
        peer_give_text(&peer, HELLO "AUTH PLAIN\r\n");
        assert_int_equal(peer_said(&peer, cases[i].code), 1);
        assert_int_equal(peer_said(&peer, "250-AUTH"), cases[i].code[0] == '3' ? 1 : 0);
        peer_close(&peer);
    }
}

/* TLS forgets the login and the offer. */
static void test_tls_starts_afresh(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    smtp_server_offer_auth(peer.server, "PLAIN");
    peer_greet(&peer);
    peer_give_text(&peer, HELLO "AUTH PLAIN T0s=\r\nSTARTTLS\r\nAUTH PLAIN T0s=\r\n");
    assert_int_equal(smtp_server_tls_started(peer.server), 17);
    peer_give_text(&peer, HELLO "AUTH PLAIN T0s=\r\n");
    smtp_server_offer_auth(peer.server, "PLAIN LOGIN");
    peer_give_text(&peer, HELLO "AUTH PLAIN T0s=\r\n");
    peer_expect_codes(&peer, "220 250 235 220 250 502 250 235");
    assert_int_equal(peer_said(&peer, "250-AUTH PLAIN\r\n"), 1);
    assert_int_equal(peer_said(&peer, "250-AUTH PLAIN LOGIN\r\n"), 1);
    peer_close(&peer);
}

/* Responses may be longer than commands, up to a limit that is exact; then the session is in step
 * again. O09 (b) and O12. */
static void test_line_lengths(void **state)
{
    static char line[SMTP_AUTH_LINE_MAX + 100];
    static const size_t pieces[] = {1, 1000, sizeof line};
    struct smtp_server_options options = peer_options();
    (void)state;

    memset(line, 'A', sizeof line);
    for (size_t i = 0; i < 3; i++) {
        for (size_t over = 0; over < 2; over++) {
            /* both lines end with CRLF at the limit, or 4 octets of base64 behind it */
            size_t len = SMTP_AUTH_LINE_MAX + over * 4;
            struct peer peer;
            peer_open(&peer, &options);
            smtp_server_offer_auth(peer.server, "PLAIN");
            peer_greet(&peer);
            peer_give_text(&peer, HELLO "AUTH PLAIN\r\n");
            for (size_t k = 0; k < len - 4; k += pieces[i])
                peer_give(&peer, line, len - 4 - k < pieces[i] ? len - 4 - k : pieces[i]);
            peer_give_text(&peer, "\r\nAUTH PLAIN ");
            size_t initial = (SMTP_AUTH_LINE_MAX - 13) / 4 * 4 + over * 4;
            for (size_t k = 0; k < initial; k += pieces[i])
                peer_give(&peer, line, initial - k < pieces[i] ? initial - k : pieces[i]);
            peer_give_text(&peer, "\r\nNOOP\r\n");
            peer_expect_codes(&peer,
                              over == 0 ? "220 250 334 535 535 250" : "220 250 334 500 500 250");
            assert_int_equal(peer_said(&peer, "500 5.5.6"), over == 0 ? 0 : 2);
            peer_close(&peer);
        }
    }
}

/* A client may guess only so often on one connection, or play with the exchange. */
static void test_failures_are_bounded(void **state)
{
    static const struct {
        const char *input;
        unsigned times;
    } cases[] = {
        {"AUTH PLAIN YWJj\r\n", SMTP_AUTH_FAILURES_MAX},
        {"AUTH PLAIN\r\nYWJj\r\n", SMTP_AUTH_FAILURES_MAX},
        {"AUTH PLAIN\r\n*\r\n", SMTP_SERVER_ERRORS_MAX},
        {"AUTH PLAIN\r\n!\r\n", SMTP_SERVER_ERRORS_MAX},
        {"AUTH X\r\n", SMTP_SERVER_ERRORS_MAX},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        smtp_server_offer_auth(peer.server, "PLAIN");
        peer_greet(&peer);
        peer_give_text(&peer, HELLO);
        for (unsigned n = 0; n < cases[i].times; n++)
            peer_give_text(&peer, cases[i].input);
        assert_int_equal(peer.quits, 0);
        peer_give_text(&peer, cases[i].input);
        assert_int_equal(peer.quits, 1);
        assert_int_equal(peer_said(&peer, "421 4.7.0"), 1);
        peer_close(&peer);
    }
}

/* The session ends while the owner thinks, or while the client does: the owner is told, once. */
static void test_shut_within(void **state)
{
    static const struct {
        const char *input, *codes, *events;
    } cases[] = {
        {"AUTH PLAIN YWJj\r\nNOOP\r\n", "220 250 421",
         "ehlo c;auth PLAIN;initial YWJj;cancel;quit;"},
        {"AUTH PLAIN\r\n", "220 250 421", "ehlo c;auth PLAIN;cancel;quit;"},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer.answer = ANSWER_BY_TEST;
        smtp_server_offer_auth(peer.server, "PLAIN");
        peer_greet(&peer);
        peer_give_text(&peer, HELLO);
        peer_give_text(&peer, cases[i].input);
        assert_true(smtp_server_answer_pending(peer.server));
        assert_true(smtp_server_auth_pending(peer.server));
        smtp_server_shut(peer.server, "4.4.2 Timeout");
        peer_take(&peer);
        assert_false(smtp_server_auth_pending(peer.server));
        peer_expect_codes(&peer, cases[i].codes);
        peer_expect_events(&peer, cases[i].events);
        peer_close(&peer);
    }
}

static void test_shut_between_responses(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    smtp_server_offer_auth(peer.server, "PLAIN");
    peer_greet(&peer);
    peer_give_text(&peer, HELLO "AUTH PLAIN\r\n");
    assert_false(smtp_server_auth_pending(peer.server));
    smtp_server_shut(peer.server, "4.4.2 Timeout");
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 334 421");
    peer_expect_events(&peer, "ehlo c;auth PLAIN;cancel;quit;");
    peer_close(&peer);
}

/* The owner shuts the session from inside an event. */
static void test_shut_from_inside(void **state)
{
    static const struct {
        const char *event, *codes, *events;
    } cases[] = {
        {"auth", "220 250 334 421", "ehlo c;auth PLAIN;cancel;quit;"},
        {"response", "220 250 334 235 421", "ehlo c;auth PLAIN;response T0s=;quit;"},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer.shut_on = cases[i].event;
        smtp_server_offer_auth(peer.server, "PLAIN");
        peer_greet(&peer);
        peer_give_text(&peer, HELLO "AUTH PLAIN\r\nT0s=\r\nNOOP\r\n");
        peer_expect_codes(&peer, cases[i].codes);
        peer_expect_events(&peer, cases[i].events);
        peer_close(&peer);
    }
}

static void test_input_waits(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer.answer = ANSWER_BY_TEST;
    smtp_server_offer_auth(peer.server, "PLAIN");
    peer_greet(&peer);
    peer_give_text(&peer, HELLO "AUTH PLAIN T0s=\r\nMAIL FROM:<a@b>\r\n");
    peer_expect_codes(&peer, "220 250");
    peer_answer_auth(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 235 250");
    peer_close(&peer);
}

/* ---- no password stays ---- */

/* Its letter is Q, which stands nowhere else. */
static const char *const secrets[] = {
    HELLO "AUTH PLAIN QQQQ\r\nNOOP\r\n", HELLO "auth plain QQQQQQQQ\r\n",
    HELLO "AUTH PLAIN\r\nQQQQ\r\nNOOP\r\n",
    HELLO "AUTH LOGIN\r\nTU9SRQ==\r\nQQQQ\r\nAUTH PLAIN QQQQ\r\n",
    /* in the wrong place or the wrong way */
    "AUTH PLAIN QQQQ\r\n", HELLO "AUTH GSSAPI QQQQ\r\n", HELLO "AUTH PLAIN QQQ\r\n",
    HELLO "AUTH PLAIN\r\nQQQQ\nNOOP\r\n", HELLO "AUTH PLAIN\r\nQ Q\r\nNOOP\r\n",
    HELLO "AUTH PLAIN QQQQ\r\nAUTH PLAIN QQQQ\r\nAUTH PLAIN QQQQ",
    HELLO "STARTTLS\r\nAUTH PLAIN QQQQ\r\n", HELLO "MAIL FROM:<a@b>\r\nAUTH PLAIN QQQQ\r\n",
    "GET / HTTP/1.1\r\nAuthorization: Basic QQQQ\r\n", /* ends the session */
};

/* Gives bytes and looks at what is left of them. */
static void give_secret(struct peer *peer, const char *bytes, size_t len)
{
    char copy[2 * SMTP_AUTH_LINE_MAX];

    assert_true(len <= sizeof copy);
    memcpy(copy, bytes, len);
    smtp_server_input(peer->server, copy, len);
    if (memchr(copy, 'Q', len) != NULL)
        fail_msg("a password stays: %.*s", (int)len, copy);
}

static void test_no_password_stays_with_the_caller(void **state)
{
    static char line[SMTP_AUTH_LINE_MAX + 1000] = HELLO "AUTH PLAIN ";
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        size_t len = strlen(secrets[i]);
        for (size_t cut = 0; cut <= 2 * len; cut++) {
            struct peer peer;
            peer_open(&peer, &options);
            peer.answer = cut % 2 == 0 ? ANSWER_AT_ONCE : ANSWER_BY_TEST;
            smtp_server_offer_auth(peer.server, "PLAIN LOGIN");
            peer_greet(&peer);
            give_secret(&peer, secrets[i], cut / 2);
            give_secret(&peer, secrets[i] + cut / 2, len - cut / 2);
            peer_close(&peer);
        }
    }
    memset(line + strlen(line), 'Q', sizeof line - strlen(line));
    for (size_t piece = 1; piece <= sizeof line; piece = piece * 7) {
        struct peer peer;
        peer_open(&peer, &options);
        smtp_server_offer_auth(peer.server, "PLAIN");
        peer_greet(&peer);
        for (size_t at = 0; at < sizeof line; at += piece)
            give_secret(&peer, line + at, sizeof line - at < piece ? sizeof line - at : piece);
        peer_close(&peer);
    }
}

/* What was kept of a line until its end came is wiped behind it. */
static void test_no_password_stays_in_the_session(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer.answer = ANSWER_BY_TEST;
    smtp_server_offer_auth(peer.server, "PLAIN");
    peer_greet(&peer);
    peer_give_text(&peer, HELLO "AUTH PLAIN QQ");
    const struct buf *input = &peer.server->input;
    assert_memory_equal(input->data, "AUTH PLAIN QQ", 13);
    peer_give_text(&peer, "QQ\r\nNOOP\r\n");
    peer_expect_events(&peer, "ehlo c;auth PLAIN;initial QQQQ;");
    assert_int_equal(input->start, 17);
    for (size_t i = 0; i < input->start; i++)
        assert_int_equal(input->data[i], 0);
    assert_memory_equal(input->data + input->start, "NOOP\r\n", 6);
    peer_answer_auth(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 535 250");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talks),
        cmocka_unit_test(test_not_offered),
        cmocka_unit_test(test_tls_starts_afresh),
        cmocka_unit_test(test_line_lengths),
        cmocka_unit_test(test_failures_are_bounded),
        cmocka_unit_test(test_shut_within),
        cmocka_unit_test(test_shut_between_responses),
        cmocka_unit_test(test_shut_from_inside),
        cmocka_unit_test(test_input_waits),
        cmocka_unit_test(test_no_password_stays_with_the_caller),
        cmocka_unit_test(test_no_password_stays_in_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
