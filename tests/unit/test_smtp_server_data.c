/* tests/unit/test_smtp_server_data.c - content behind DATA, the owner's answer, and ends from our
 * side (cases O08, O09, O11). */
#include "tests/unit/smtp_server_peer.h"

#define ENVELOPE "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"

/* ---- smuggling ---- */

/* O11: none of these ends the message; what stands behind is content until the real end, and then
 * all is refused. */
static void test_smuggling(void **state)
{
    static const char *const ends[] = {"\n.\n",       "\n.\r\n",   "\r\n.\n",     "\r.\r",
                                       "\n.\r",       "\r.\r\n",   "\r\n.\r",     "\r\r\n.\r\r\n",
                                       "\r\n.\r\r\n", "\n\n.\r\n", "\r\n\n.\r\n", "\r.\n"};
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char wire[512];
        int len = snprintf(
            wire, sizeof wire,
            ENVELOPE "body%sMAIL FROM:<forged@a>\r\nRCPT TO:<b@c>\r\nDATA\r\nX\r\n.\r\nNOOP\r\n",
            ends[i]);
        for (int cut = 0; cut < len; cut++) {
            struct peer peer;
            peer_open(&peer, &options);
            peer_greet(&peer);
            for (int k = 0; cut == 0 && k < len; k++)
                peer_give(&peer, wire + k, 1);
            if (cut > 0) {
                peer_give(&peer, wire, (size_t)cut);
                peer_give(&peer, wire + cut, (size_t)(len - cut));
            }
            peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;data;refused;");
            peer_expect_codes(&peer, "220 250 250 250 354 554 250");
            assert_int_equal(peer_said(&peer, "554 5.6.0 Message has a bare CR or LF"), 1);
            peer_close(&peer);
        }
    }
}

/* ---- faults of content ---- */

static void fill(char *bytes, size_t len, const char *pattern)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern[i % strlen(pattern)];
}

/* Content of `len` bytes of a repeated pattern between two fixed strings. */
static const struct fault_case {
    const char *before, *pattern;
    size_t len;
    const char *after;
    const char *reply;
    bool refuse_long_lines;
} fault_cases[] = {
    {"", "x", 0, "", "250 2.0.0", false},
    {"S: x\r\n\r\n", "x", 998, "\r\n", "250 2.0.0", true},
    {"S: x\r\n\r\n", "x", 999, "\r\n", "554 5.6.0 Message has a line", true},
    {"S: x\r\n\r\n.", "x", 998, "\r\n", "250 2.0.0",
     true}, /* the doubled dot is none of the line */
    {"S: x\r\n\r\n", "x", 5000, "\r\n", "250 2.0.0", false},
    {"S: x\r\n\r\n", "x", 1U << 20, "\r\n", "250 2.0.0", false},
    {"S: x\r\n\r\n", "x", (1U << 20) + 1, "\r\n", "554 5.6.0 Message has a line", false},
    {"S: x\r\n\r\n", "x\r\n", 1999992, "", "250 2.0.0", false}, /* 2,000,000 in all */
    {"S: x\r\n\r\n", "x\r\n", 1999992, "y\r\n", "552 5.3.4 Message too big", false},
    {"S: x\r\n\r\n", "..\r\n", 2666656, "", "250 2.0.0", false}, /* counted without the dots */
    {"S: x\r\n\r\n", "x\n", 4, "\r\n", "554 5.6.0 Message has a bare", false},
    {"S: x\r\n\r\n", "x\r", 4, "\r\n", "554 5.6.0 Message has a bare", false},
    {"S: ", "x\r\n ", 99988, "\r\n\r\n", "250 2.0.0", false},
    {"S: ", "x\r\n ", 100004, "\r\n\r\n", "552 5.3.4 Message header", false},
    {"S: ", "x\r\n ", 100004, "\r\n", "552 5.3.4 Message header", false}, /* no body at all */
    {"", "x\r\n", 100005, "", "552 5.3.4 Message header",
     false},                                           /* short lines are no empty ones */
    {"\r\n", "x\r\n", 199998, "", "250 2.0.0", false}, /* an empty header section */
};

static void run_fault(const struct fault_case *c, size_t piece)
{
    struct smtp_server_options options = peer_options();
    size_t len = strlen(c->before) + c->len + strlen(c->after);
    char *content = malloc(len + 1);
    struct peer peer;

    assert_non_null(content);
    memcpy(content, c->before, strlen(c->before));
    fill(content + strlen(c->before), c->len, c->pattern);
    memcpy(content + len - strlen(c->after), c->after, strlen(c->after));
    options.refuse_long_lines = c->refuse_long_lines;
    options.max_message_bytes = 2000000;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE);
    buf_clear(&peer.said);
    for (size_t i = 0; i < len; i += piece)
        peer_give(&peer, content + i, len - i < piece ? len - i : piece);
    assert_int_equal(buf_len(&peer.said), 0); /* no word before the end (O08) */
    peer_give_text(&peer, ".\r\nRSET\r\n");
    if (!str_starts_nocase(buf_str(&peer.said), str_from(c->reply)))
        fail_msg("%s...: %.*s", c->before, (int)buf_len(&peer.said), buf_str(&peer.said).p);
    peer_expect_codes(&peer, c->reply[0] == '2'   ? "250 250"
                             : c->reply[2] == '4' ? "554 250"
                                                  : "552 250");
    peer_expect_events(&peer, c->reply[0] == '2' ? "ehlo c;mail a@b;rcpt c@d;data;end;"
                                                 : "ehlo c;mail a@b;rcpt c@d;data;refused;");
    /* the same connection goes on */
    buf_clear(&peer.said);
    peer_give_text(&peer, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nX: y\r\n.\r\n");
    peer_expect_codes(&peer, "250 250 354 250");
    peer_close(&peer);
    free(content);
}

static void test_content_faults(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof fault_cases / sizeof fault_cases[0]; i++) {
        run_fault(&fault_cases[i], SIZE_MAX);
        run_fault(&fault_cases[i], 65536);
        run_fault(&fault_cases[i], 1021);
        if (fault_cases[i].len < 6000)
            run_fault(&fault_cases[i], 1);
    }
}

static void test_nul_in_content(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE);
    peer_give(&peer, "a\0b\r\n.\r\n", 8);
    assert_int_equal(peer_said(&peer, "554 5.6.0 Message has a NUL byte"), 1);
    peer_give(&peer, "NO\0OP\r\n", 7);
    peer_expect_codes(&peer, "220 250 250 250 354 554 500");
    assert_int_equal(buf_len(&peer.content), 0);
    peer_close(&peer);
}

/* O08: past the limit nothing is handed on, and nothing is kept. */
static void test_oversize_is_not_handed_on(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[65536];
    struct peer peer;
    (void)state;

    fill(block, sizeof block, "0123456789abcde\n");
    for (size_t i = 14; i < sizeof block; i += 16)
        block[i] = '\r';
    peer_open(&peer, &options);
    peer.keep_no_content = true;
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE);
    for (int i = 0; i < 160; i++)
        peer_give(&peer, block, sizeof block); /* 10 MiB */
    assert_true(peer.content_bytes <= options.max_message_bytes);
    peer_give_text(&peer, ".\r\n");
    assert_int_equal(peer_said(&peer, "552 5.3.4"), 1);
    assert_int_equal(peer.refusals, 1);
    peer_close(&peer);
}

/* O09 (c): a line without end within the message. */
static void test_endless_content_line(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[65536];
    struct peer peer;
    (void)state;

    memset(block, 'A', sizeof block);
    options.max_message_bytes = 0;
    peer_open(&peer, &options);
    peer.keep_no_content = true;
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "S: x\r\n\r\n");
    for (int i = 0; i < 3200; i++)
        peer_give(&peer, block, sizeof block); /* 200 MiB */
    assert_true(peer.content_bytes <= (1U << 20) + 65536);
    peer_give_text(&peer, "\r\n.\r\n");
    assert_int_equal(peer_said(&peer, "554 5.6.0 Message has a line"), 1);
    peer_close(&peer);
}

static void test_content_moves_in_big_pieces(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[200000];
    struct peer peer;
    (void)state;

    fill(block, sizeof block, "012345678901234567890123456789\r\n");
    options.header_max = 0;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE);
    peer_give(&peer, block, sizeof block);
    assert_int_equal(peer.pieces, 4); /* of 64 KiB */
    assert_int_equal(buf_len(&peer.content), sizeof block);
    assert_memory_equal(buf_str(&peer.content).p, block, sizeof block);
    peer_close(&peer);
}

static void test_owner_refuses_data(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.max_recipients = 7;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "RSET\r\nNOOP\r\n");
    peer_expect_codes(&peer, "220 250 250 250 452 250 250");
    peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;data;reset;");
    peer_close(&peer);
}

/* ---- the answer ---- */

static void test_answer_codes(void **state)
{
    static const struct {
        struct smtp_verdict verdict;
        const char *reply;
        const char *events; /* behind end; */
    } cases[] = {
        {{0, ""}, "250 2.0.0 Ok\r\n", ""},
        {{250, "2.0.0 Ok: queued as X"}, "250 2.0.0 Ok: queued as X\r\n", ""},
        {{451, "4.3.0 Try again"}, "451 4.3.0 Try again\r\n", ""},
        {{554, "5.6.0 No"}, "554 5.6.0 No\r\n", ""},
        {{421, "4.3.2 Stopping"}, "421 4.3.2 Stopping\r\n", "quit;"},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer.answer = ANSWER_BY_TEST;
        peer_greet(&peer);
        peer_give_text(&peer, ENVELOPE);
        assert_true(smtp_server_in_data(peer.server));
        assert_false(smtp_server_answer_pending(peer.server));
        peer_give_text(&peer, ".\r\n");
        assert_false(smtp_server_in_data(peer.server));
        assert_true(smtp_server_answer_pending(peer.server));
        buf_clear(&peer.said);
        buf_clear(&peer.events);
        smtp_server_answer(peer.server, &cases[i].verdict);
        assert_false(smtp_server_answer_pending(peer.server));
        peer_take(&peer);
        assert_true(str_equal(buf_str(&peer.said), str_from(cases[i].reply)));
        peer_expect_events(&peer, cases[i].events);
        peer_close(&peer);
    }
}

/* While the answer is outstanding input waits, up to 64 KiB by contract, and is handled afterwards.
 */
static void test_input_waits_for_answer(void **state)
{
    struct smtp_server_options options = peer_options();
    static char line[131]; /* long: so many short ones would be too many */
    struct peer peer;
    unsigned given = 0;
    (void)state;

    memset(line, 'x', sizeof line - 1);
    memcpy(line, "NOOP ", 5);
    memcpy(line + sizeof line - 3, "\r\n", 2);

    peer_open(&peer, &options);
    peer.answer = ANSWER_BY_TEST;
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE ".\r\n");
    buf_clear(&peer.said);
    while (smtp_server_wants_input(peer.server)) {
        peer_give_text(&peer, line);
        given++;
    }
    assert_int_equal(given, 65536 / strlen(line) + 1);
    assert_int_equal(buf_len(&peer.said), 0);
    peer_answer_now(&peer);
    peer_take(&peer);
    assert_int_equal(peer_said(&peer, "250 2.0.0 Ok: queued"), 1);
    assert_int_equal(peer_said(&peer, "250 2.0.0 Ok\r\n"), given);
    assert_true(smtp_server_wants_input(peer.server));
    peer_close(&peer);
}

/* An owner that reads on is stopped at a bound, but the answer is still told. */
static void test_too_much_input_while_waiting(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[65536];
    struct peer peer;
    (void)state;

    fill(block, sizeof block, "NOOP\r\n");
    peer_open(&peer, &options);
    peer.answer = ANSWER_BY_TEST;
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE ".\r\n");
    for (int i = 0; i < 20; i++)
        peer_give(&peer, block, sizeof block);
    buf_clear(&peer.said);
    peer_answer_now(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "250 421");
    peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;data;end;quit;");
    peer_close(&peer);
}

static void test_early_talker_is_limited(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[65536];
    struct peer peer;
    (void)state;

    fill(block, sizeof block, "NOOP\r\n");
    peer_open(&peer, &options);
    peer_give(&peer, block, sizeof block);
    assert_false(smtp_server_wants_input(peer.server));
    for (int i = 0; i < 20; i++)
        peer_give(&peer, block, sizeof block);
    peer_greet(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "421");
    peer_expect_events(&peer, "quit;");
    peer_close(&peer);
}

/* A peer that sends and never reads, with an owner that lets the output lie. */
static void test_output_is_bounded(void **state)
{
    struct smtp_server_options options = peer_options();
    static char block[5400];                  /* 900 commands */
    static char message[] = ENVELOPE ".\r\n"; /* renews the bound for commands */
    struct peer peer;
    (void)state;

    fill(block, sizeof block, "NOOP\r\n");
    peer_open(&peer, &options);
    peer_greet(&peer);
    for (int i = 0; i < 500; i++) {
        smtp_server_input(peer.server, block, sizeof block);
        smtp_server_input(peer.server, message, sizeof message - 1);
    }
    assert_int_equal(peer.quits, 0);
    for (int i = 0; i < 500; i++) {
        smtp_server_input(peer.server, block, sizeof block);
        smtp_server_input(peer.server, message, sizeof message - 1);
    }
    assert_int_equal(peer.quits, 1);
    assert_true(buf_len(smtp_server_output(peer.server)) <= 8U << 20);
    peer_close(&peer);
}

/* ---- shut ---- */

static const struct shut_case {
    const char *input; /* given before */
    const char *codes;
    const char *events;
} shut_cases[] = {
    {"", "220 421", "quit;"},
    {"NOO", "220 421", "quit;"},
    {"EHLO c\r\n", "220 250 421", "ehlo c;quit;"},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\n", "220 250 250 421", "ehlo c;mail a@b;reset;quit;"},
    {ENVELOPE "half a message", "220 250 250 250 354 421",
     "ehlo c;mail a@b;rcpt c@d;data;reset;quit;"},
    {ENVELOPE "\n", "220 250 250 250 354 421", "ehlo c;mail a@b;rcpt c@d;data;reset;quit;"},
    /* in clear nothing may be said any more */
    {"STARTTLS\r\n", "220 220", "starttls;quit;"},
    {"QUIT\r\n", "220 221", "quit;"},
};

static void test_shut_by_state(void **state)
{
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof shut_cases / sizeof shut_cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer_greet(&peer);
        peer_give_text(&peer, shut_cases[i].input);
        smtp_server_shut(peer.server, "4.4.2 Timeout");
        smtp_server_shut(peer.server, "4.3.2 Shutting down");
        assert_false(smtp_server_wants_input(peer.server));
        peer_give_text(&peer, "NOOP\r\n.\r\n");
        peer_expect_codes(&peer, shut_cases[i].codes);
        peer_expect_events(&peer, shut_cases[i].events);
        assert_int_equal(peer_said(&peer, "4.3.2"), 0);
        peer_close(&peer);
    }
}

static void test_shut_before_greeting(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    smtp_server_shut(peer.server, "4.3.2 Shutting down");
    peer_greet(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "421");
    peer_expect_events(&peer, "quit;");
    peer_close(&peer);
}

/* The message is stored or not: that is told first. */
static void test_shut_waits_for_answer(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer.answer = ANSWER_BY_TEST;
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE ".\r\nMAIL FROM:<a@b>\r\n");
    smtp_server_shut(peer.server, "4.3.2 Shutting down");
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 250 250 354");
    assert_true(smtp_server_answer_pending(peer.server));
    assert_false(smtp_server_wants_input(peer.server));
    assert_int_equal(peer.quits, 0);
    peer_answer_now(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 250 250 354 250 421");
    peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;data;end;quit;");
    peer_close(&peer);
}

static const struct inside_case {
    const char *event;
    const char *codes;
    const char *events;
} inside_cases[] = {
    {"ehlo", "220 250 421", "ehlo c;quit;"},
    {"mail", "220 250 250 421", "ehlo c;mail a@b;reset;quit;"},
    {"rcpt", "220 250 250 250 421", "ehlo c;mail a@b;rcpt c@d;reset;quit;"},
    {"end", "220 250 250 250 354 250 421", "ehlo c;mail a@b;rcpt c@d;data;end;quit;"},
    {"refusal", "220 250 250 250 354 250 500 421", "ehlo c;mail a@b;rcpt c@d;data;end;quit;"},
    {"starttls", "220 250 250 250 354 250 500 220",
     "ehlo c;mail a@b;rcpt c@d;data;end;starttls;quit;"},
};

static void test_shut_from_inside_events(void **state)
{
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof inside_cases / sizeof inside_cases[0]; i++) {
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            static const char input[] = ENVELOPE "x\r\n.\r\nFOO\r\nSTARTTLS\r\n";
            struct peer peer;
            peer_open(&peer, &options);
            peer.shut_on = inside_cases[i].event;
            peer_greet(&peer);
            for (size_t k = 0; bytewise == 1 && k < sizeof input - 1; k++)
                peer_give(&peer, input + k, 1);
            if (bytewise == 0)
                peer_give(&peer, input, sizeof input - 1);
            peer_expect_codes(&peer, inside_cases[i].codes);
            peer_expect_events(&peer, inside_cases[i].events);
            peer_close(&peer);
        }
    }
}

static void test_shut_from_inside_content(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer.shut_on = "content";
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "x\r\n");
    peer_give_text(&peer, "y\r\n.\r\n");
    peer_expect_codes(&peer, "220 250 250 250 354 421");
    peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;data;reset;quit;");
    assert_true(str_equal(buf_str(&peer.content), STR("x\r\n")));
    peer_close(&peer);
}

/* A handshake that ends after the session was shut must not wake it. */
static void test_tls_after_shut(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "STARTTLS\r\nabc");
    smtp_server_shut(peer.server, "4.4.2 Timeout");
    assert_int_equal(smtp_server_tls_started(peer.server), 3);
    peer_give_text(&peer, "NOOP\r\n");
    peer_expect_codes(&peer, "220 220");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_content_faults),
        cmocka_unit_test(test_nul_in_content),
        cmocka_unit_test(test_oversize_is_not_handed_on),
        cmocka_unit_test(test_endless_content_line),
        cmocka_unit_test(test_content_moves_in_big_pieces),
        cmocka_unit_test(test_owner_refuses_data),
        cmocka_unit_test(test_answer_codes),
        cmocka_unit_test(test_input_waits_for_answer),
        cmocka_unit_test(test_too_much_input_while_waiting),
        cmocka_unit_test(test_early_talker_is_limited),
        cmocka_unit_test(test_output_is_bounded),
        cmocka_unit_test(test_shut_by_state),
        cmocka_unit_test(test_shut_before_greeting),
        cmocka_unit_test(test_shut_waits_for_answer),
        cmocka_unit_test(test_shut_from_inside_events),
        cmocka_unit_test(test_shut_from_inside_content),
        cmocka_unit_test(test_tls_after_shut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
