/* tests/unit/test_smtp_server_bdat.c - messages in chunks (RFC 3030): what is content, what is
 * refused, and that every announced octet is read. Conversations run whole, one byte at a time, and
 * cut in two at every byte. */
#include "tests/unit/smtp_server_peer.h"

#define HELLO    "EHLO c\r\n"
#define ENVELOPE HELLO "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
#define BEGUN    "ehlo c;mail a@b;rcpt c@d;data;"

static const struct talk {
    const char *input;
    const char *codes; /* behind the greeting */
    const char *events;
    const char *content;
} talks[] = {
    {ENVELOPE "BDAT 8 LAST\r\nS: x\r\n\r\nQUIT\r\n", "250 250 250 250 221", BEGUN "end;quit;",
     "S: x\r\n\r\n"},
    {ENVELOPE "BDAT 3\r\nS: BDAT 5 LAST\r\nx\r\n\r\nNOOP\r\n", "250 250 250 250 250 250",
     BEGUN "end;", "S: x\r\n\r\n"},
    {ENVELOPE "BDAT 8\r\nS: x\r\n\r\nBDAT 0 LAST\r\nNOOP\r\n", "250 250 250 250 250 250",
     BEGUN "end;", "S: x\r\n\r\n"},
    {ENVELOPE "BDAT 0\r\nBDAT 0\r\nBDAT 0 LAST\r\n", "250 250 250 250 250 250", BEGUN "end;", ""},
    /* a line end may be cut by chunks */
    {ENVELOPE "BDAT 2\r\na\rBDAT 3\r\n\nb\rBDAT 1\r\n\nBDAT 0 LAST\r\n",
     "250 250 250 250 250 250 250", BEGUN "end;", "a\r\nb\r\n"},
    /* dots are content, at every place */
    {ENVELOPE "BDAT 19 LAST\r\n.\r\n..\r\n.a\r\n\r\n.\r\n.\r\nNOOP\r\n", "250 250 250 250 250",
     BEGUN "end;", ".\r\n..\r\n.a\r\n\r\n.\r\n.\r\n"},
    {ENVELOPE "BDAT 3\r\nx\r\nBDAT 3\r\n.\r\nBDAT 3 LAST\r\ny\r\n", "250 250 250 250 250 250",
     BEGUN "end;", "x\r\n.\r\ny\r\n"},
    /* commands are content */
    {ENVELOPE "BDAT 39 LAST\r\nMAIL FROM:<forged@a>\r\nRCPT TO:<b@c>\r\n\r\nNOOP\r\n",
     "250 250 250 250 250", BEGUN "end;", "MAIL FROM:<forged@a>\r\nRCPT TO:<b@c>\r\n\r\n"},
    /* the final line end is added */
    {ENVELOPE "BDAT 9 LAST\r\nS: x\r\n\r\nyNOOP\r\n", "250 250 250 250 250", BEGUN "end;",
     "S: x\r\n\r\ny\r\n"},
    {ENVELOPE "BDAT 1\r\nxBDAT 0 LAST\r\n", "250 250 250 250 250", BEGUN "end;", "x\r\n"},
    /* two messages */
    {ENVELOPE "BDAT 3 LAST\r\n1\r\nMAIL FROM:<>\r\nRCPT TO:<e@f>\r\nBDAT 3 LAST\r\n2\r\n",
     "250 250 250 250 250 250 250", BEGUN "end;mail;rcpt e@f;data;end;", "1\r\n2\r\n"},
    {ENVELOPE "BDAT 3 LAST\r\n1\r\nMAIL FROM:<>\r\nRCPT TO:<e@f>\r\nDATA\r\n2\r\n.\r\n",
     "250 250 250 250 250 250 354 250", BEGUN "end;mail;rcpt e@f;data;end;", "1\r\n2\r\n"},
    /* faults: one 5xx, then 503 until RSET or MAIL, and no octet is taken for a command */
    {ENVELOPE "BDAT 9\r\nx\nRSET\r\nyBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nMAIL FROM:<a@b>\r\n",
     "250 250 250 554 503 503 250", BEGUN "refused;mail a@b;", ""},
    {ENVELOPE "BDAT 9 LAST\r\nx\rRSET\r\nyBDAT 6 LAST\r\nRSET\r\nRSET\r\n",
     "250 250 250 554 503 250", BEGUN "refused;", ""},
    {ENVELOPE "BDAT 2\r\nx\rBDAT 2 LAST\r\nRSNOOP\r\n", "250 250 250 250 554 250", BEGUN "refused;",
     "x\r"},
    {ENVELOPE "BDAT 2 LAST\r\nx\rNOOP\r\n", "250 250 250 554 250", BEGUN "refused;", "x\r"},
    {ENVELOPE "BDAT 2\r\nx\rBDAT 0 LAST\r\nNOOP\r\n", "250 250 250 250 554 250", BEGUN "refused;",
     "x\r"},
    {ENVELOPE "BDAT 1 LAST\r\n\nNOOP\r\n", "250 250 250 554 250", BEGUN "refused;", ""},
    /* nothing to begin with: still every octet is read */
    {"BDAT 6\r\nRSET\r\nNOOP\r\n", "503 250", "", ""},
    {HELLO "BDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "250 503 250", "ehlo c;", ""},
    {HELLO
     "MAIL FROM:<deny@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n",
     "250 550 503 503 503 250", "ehlo c;mail deny@b;", ""},
    {HELLO
     "MAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n",
     "250 250 550 554 503 250", "ehlo c;mail a@b;rcpt deny@d;reset;", ""},
    {HELLO "MAIL FROM:<a@b>\r\nBDAT 6\r\nRSET\r\nRCPT TO:<c@d>\r\nBDAT 6 LAST\r\nRSET\r\n",
     "250 250 503 503 503", "ehlo c;mail a@b;reset;", ""},
    /* bad arguments: a message that lacks a chunk is none */
    {ENVELOPE "BDAT 6 FIRST\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "250 250 250 501 503 250",
     "ehlo c;mail a@b;rcpt c@d;reset;", ""},
    {ENVELOPE "BDAT 1\r\nxBDAT 6 LAST x\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n",
     "250 250 250 250 501 503 250", BEGUN "reset;", "x"},
    {ENVELOPE "BDAT 1\r\nxBDAT\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "250 250 250 250 501 503 250",
     BEGUN "reset;", "x"},
    {ENVELOPE "BDAT 9223372036854775808 LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 501",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT 0x10\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 501",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT 5LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 501",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT undefined LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 501",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT -22\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 501",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT 1\r\nxBDAT LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 250 501",
     BEGUN "reset;quit;", "x"},
    /* a line that is no command at all */
    {ENVELOPE "BDAT 22 LAST\nMAIL FROM:<evil@x>\r\n", "250 250 250 500",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT\t22 LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 500",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    {ENVELOPE "BDAT 1\r\nxbdat 22\rLAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 250 500",
     BEGUN "reset;quit;", "x"},
    {"BDAT 22\nMAIL FROM:<evil@x>\r\n", "500", "quit;", ""},
    /* too big: known before the octets come */
    {ENVELOPE "BDAT 9223372036854775807 LAST\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 552",
     "ehlo c;mail a@b;rcpt c@d;reset;", ""},
    {ENVELOPE "BDAT 3\r\nx\r\nBDAT 999998\r\nMAIL FROM:<evil@x>\r\n", "250 250 250 250 552",
     BEGUN "reset;", "x\r\n"},
    /* in between */
    {ENVELOPE "BDAT 3\r\nx\r\nDATA\r\nMAIL FROM:<e@f>\r\nRCPT TO:<e@f>\r\nAUTH PLAIN\r\nNOOP\r\n"
              "BDAT 3 LAST\r\ny\r\n",
     "250 250 250 250 503 503 503 503 250 250", BEGUN "end;", "x\r\ny\r\n"},
    {ENVELOPE "BDAT 3\r\nx\r\nRSET\r\nBDAT 3 LAST\r\nx\r\n", "250 250 250 250 250 503",
     BEGUN "reset;", "x\r\n"},
    {ENVELOPE "BDAT 3\r\nx\r\nEHLO d\r\nBDAT 3 LAST\r\nx\r\n", "250 250 250 250 250 503",
     BEGUN "reset;ehlo d;", "x\r\n"},
    {ENVELOPE "BDAT 3\r\nx\r\nQUIT\r\n", "250 250 250 250 221", BEGUN "reset;quit;", "x\r\n"},
    {ENVELOPE "BDAT 3\r\nx\r\nSTARTTLS\r\nBDAT 3 LAST\r\ny\r\n", "250 250 250 250 220",
     BEGUN "reset;starttls;", "x\r\n"},
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
    peer_greet(&peer);
    for (size_t i = 0; i < len; i += piece) {
        piece = cut == 0 ? 1 : i < cut ? cut - i : len - i;
        peer_give(&peer, talk->input + i, piece);
    }
    snprintf(codes, sizeof codes, "220 %s", talk->codes);
    peer_expect_codes(&peer, codes);
    peer_expect_events(&peer, talk->events);
    /* of a refused message some may have come before the fault, depending on the segments */
    if (strstr(talk->events, "refused") == NULL) {
        assert_int_equal(buf_len(&peer.content), strlen(talk->content));
        assert_memory_equal(buf_str(&peer.content).p, talk->content, strlen(talk->content));
    }
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

/* All texts of CR, LF, dot and a letter, in one chunk and cut into two at every place: the same
 * verdict as by DATA, and the content is stored as it is. */
static void test_every_mix_of_line_ends(void **state)
{
    static const char signs[] = {'\r', '\n', '.', 'x'};
    struct smtp_server_options options = peer_options();
    (void)state;

    for (unsigned mix = 0; mix < 1024; mix++) {
        char text[6] = {signs[mix & 3],        signs[(mix >> 2) & 3], signs[(mix >> 4) & 3],
                        signs[(mix >> 6) & 3], signs[(mix >> 8) & 3], '\0'};
        bool good = true;
        for (size_t i = 0; i < 5; i++) {
            if (text[i] == '\r')
                good = good && text[i + 1] == '\n';
            if (text[i] == '\n')
                good = good && i > 0 && text[i - 1] == '\r';
        }
        for (int cut = 0; cut <= 5; cut++) {
            struct peer peer;
            char wire[300];
            snprintf(wire, sizeof wire, ENVELOPE "BDAT %d\r\n%.*sBDAT %d LAST\r\n%sNOOP\r\n", cut,
                     cut, text, 5 - cut, text + cut);
            peer_open(&peer, &options);
            peer_greet(&peer);
            peer_give_text(&peer, wire);
            assert_int_equal(peer_said(&peer, "250 2.0.0 Ok: queued"), good ? 1 : 0);
            assert_int_equal(peer_said(&peer, "554 5.6.0"), good ? 0 : 1);
            assert_int_equal(peer_said(&peer, "250 2.0.0 Ok\r\n"), 1); /* NOOP */
            if (good) {
                struct str content = buf_str(&peer.content);
                assert_memory_equal(content.p, text, 5);
                assert_int_equal(content.len, text[4] == '\n' ? 5 : 7);
            }
            peer_close(&peer);
        }
    }
}

static void test_nul(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "BDAT 5 LAST\r\n");
    peer_give(&peer, "a\0b\r\n", 5);
    assert_int_equal(peer_said(&peer, "554 5.6.0 Message has a NUL byte"), 1);
    peer_expect_events(&peer, BEGUN "refused;");
    peer_close(&peer);
}

/* Limits of the message hold over all chunks. */
static void test_limits(void **state)
{
    static const struct {
        size_t chunks;
        const char *chunk; /* 100 octets as a repeated pattern */
        const char *reply;
        bool refuse_long_lines;
    } cases[] = {
        {20, "0123456\r\n.", "250 2.0.0 Ok: queued", false},
        {21, "0123456\r\n.", "552 5.3.4 Message too big", false},
        {11, "X:345678\r\n", "552 5.3.4 Message header too big", false},
        {9, "X:345678\r\n", "250 2.0.0 Ok: queued", false},
        {9, "0123456789", "250 2.0.0 Ok: queued", true},
        {10, "0123456789", "554 5.6.0 Message has a line that is too long", true},
        {10, "0123456789", "250 2.0.0 Ok: queued", false},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    options.max_message_bytes = 2000;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        options.header_max = cases[i].chunk[0] == 'X' ? 1000 : 0;
        options.refuse_long_lines = cases[i].refuse_long_lines;
        peer_open(&peer, &options);
        peer_greet(&peer);
        peer_give_text(&peer, ENVELOPE);
        for (size_t n = 0; n < cases[i].chunks; n++) {
            peer_give_text(&peer, "BDAT 100\r\n");
            for (int k = 0; k < 10; k++)
                peer_give_text(&peer, cases[i].chunk);
        }
        peer_give_text(&peer, "BDAT 0 LAST\r\n");
        if (peer_said(&peer, cases[i].reply) != 1)
            fail_msg("%zu chunks, not %s: %.*s", cases[i].chunks, cases[i].reply,
                     (int)buf_len(&peer.said), buf_str(&peer.said).p);
        assert_int_equal(peer_said(&peer, "503"), cases[i].reply[0] == '2' ? 0 : 1);
        peer_close(&peer);
    }
}

static void test_owner_refuses(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.max_recipients = 7; /* the owner's sign for a full queue */
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n");
    peer_expect_codes(&peer, "220 250 250 250 452 503 250");
    peer_expect_events(&peer, BEGUN "reset;");
    peer_close(&peer);
}

/* Chunks pipelined behind a refused one are no faults, but bounded; so are empty ones. */
static void test_bounds(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "BDAT 1\r\n\n");
    for (int i = 0; i < 1400; i++)
        peer_give_text(&peer, "BDAT 1\r\nx");
    assert_int_equal(peer_said(&peer, "503 5.5.1"), 1400);
    peer_give_text(&peer, "BDAT 1\r\nx");
    assert_int_equal(peer_said(&peer, "421 4.7.0"), 1);
    assert_int_equal(peer.quits, 1);
    peer_close(&peer);

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE);
    for (int i = 0; i < 1000; i++)
        peer_give_text(&peer, "BDAT 0\r\n");
    assert_int_equal(peer_said(&peer, "250 2.0.0 0 octets received"), 1000);
    peer_give_text(&peer, "BDAT 0\r\n");
    assert_int_equal(peer_said(&peer, "450 4.7.0"), 1);
    peer_close(&peer);
}

/* Nor is what follows a BDAT line without end taken for commands. */
static void test_endless_line(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "BDAT 22");
    for (int i = 0; i < 300; i++)
        peer_give_text(&peer, "          ");
    peer_give_text(&peer, "\r\nMAIL FROM:<evil@x>\r\n");
    peer_expect_codes(&peer, "220 250 250 250 500");
    peer_expect_events(&peer, "ehlo c;mail a@b;rcpt c@d;reset;quit;");
    peer_close(&peer);
}

static void test_where_it_stands(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, ENVELOPE "BDAT 3\r\nx");
    assert_true(smtp_server_in_data(peer.server));
    peer_give_text(&peer, "\r\n");
    assert_true(smtp_server_in_data(peer.server)); /* between chunks */
    smtp_server_shut(peer.server, "4.4.2 Timeout");
    peer_take(&peer);
    assert_false(smtp_server_in_data(peer.server));
    peer_expect_events(&peer, BEGUN "reset;quit;");
    peer_expect_codes(&peer, "220 250 250 250 250 421");
    peer_close(&peer);

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, HELLO "BDAT 30\r\nx");
    assert_false(smtp_server_in_data(peer.server)); /* refused: only dropped */
    smtp_server_shut(peer.server, "4.4.2 Timeout");
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 503 421");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talks),        cmocka_unit_test(test_every_mix_of_line_ends),
        cmocka_unit_test(test_nul),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_owner_refuses),
        cmocka_unit_test(test_endless_line), cmocka_unit_test(test_where_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
