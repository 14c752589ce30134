/* tests/unit/test_smtp_server.c - commands of the server session: what they take and answer; the
 * table of states is in test_smtp_server_states.c. Every conversation of the tables runs whole, one
 * byte at a time, and cut in two at every byte. */
#include "tests/unit/smtp_server_peer.h"

/* Conversations that lead into a state. */
enum place { AT_READY, AT_MAIL, PLACE_COUNT };
static const char *const way_to[PLACE_COUNT] = {
    [AT_READY] = "EHLO c.example\r\n",
    [AT_MAIL] = "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n",
};

/* ---- MAIL and RCPT ---- */

struct argument_case {
    const char *line;
    const char *reply;
    const char *event;
};

static const struct argument_case mail_cases[] = {
    {"MAIL FROM:<>", "250 2.1.0", "mail;"},
    {"mail from:<a@b.example>", "250 2.1.0", "mail a@b.example;"},
    {"MAIL FROM: <a@b>", "250 2.1.0", "mail a@b;"},
    {"MAIL  FROM:<a@b>  ", "250 2.1.0", "mail a@b;"},
    {"MAIL FROM:<@r.example:a@b>", "250 2.1.0", "mail a@b;"},
    {"MAIL FROM:<\"a b> SIZE=9\"@c>", "250 2.1.0", "mail \"a b> SIZE=9\"@c;"},
    {"MAIL FROM:<a@b> BODY=8BITMIME", "250 2.1.0", "mail a@b 8bit;"},
    {"MAIL FROM:<a@b> body=7bit size=10", "250 2.1.0", "mail a@b 10;"},
    {"MAIL FROM:<a@b>  SIZE=1000000   BODY=8bitMIME ", "250 2.1.0", "mail a@b 8bit 1000000;"},
    {"MAIL FROM:<a@b> SIZE=0", "250 2.1.0", "mail a@b;"},
    {"MAIL FROM:<a@b> SIZE=00000000000000000001", "250 2.1.0", "mail a@b 1;"},
    {"MAIL FROM:<a@b> SIZE=1000001", "552 5.3.4", ""},
    {"MAIL FROM:<a@b> SIZE=10485760", "552 5.3.4", ""},
    {"MAIL FROM:<a@b> SIZE=99999999999999999999", "552 5.3.4", ""},
    {"MAIL FROM:<a@b> SIZE=100000000000000000000", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=-1", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=0x10", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=+1", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> BODY=7BIT BODY=8BITMIME", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> BODY=BINARYMIME", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> BODY=8BIT", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> AUTH=<>", "250 2.1.0", "mail a@b;"},
    {"MAIL FROM:<a@b> AUTH=e+3Dmc2@example.com", "250 2.1.0", "mail a@b;"},
    {"MAIL FROM:<a@b> AUTH=", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> AUTH", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> AUTH=a+0D+0Ab", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> AUTH=a=b", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=x", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> REQUIRETLS", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> NOTIFY=NEVER", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> SIZE=1\xc3\xbc", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> BODY", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SMTPUTF8", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> RET=FULL", "555 5.5.4", ""},
    {"MAIL FROM:<a@b> =", "555 5.5.4", ""},
    {"MAIL FROM:<a@b>SIZE=1", "501 5.5.4", ""},
    {"MAIL FROM:<a@b>>", "501 5.5.4", ""},
    {"MAIL", "501 5.5.4", ""},
    {"MAIL FROM", "501 5.5.4", ""},
    {"MAIL TO:<a@b>", "501 5.5.4", ""},
    {"MAIL FROM:", "501 5.1.7", ""},
    {"MAIL FROM:a@b", "501 5.1.7", ""},
    {"MAIL FROM:<a@b", "501 5.1.7", ""},
    {"MAIL FROM:<a b@c>", "501 5.1.7", ""},
    {"MAIL FROM:<a@b.>", "501 5.1.7", ""},
    {"MAIL FROM:<\xc3\xbc@b>", "553 5.6.7", ""},
    {"MAIL FROM:<root>", "553 5.1.7", ""},
    {"MAIL FROM:<deny@b>", "550 5.7.1", "mail deny@b;"},
    {"MAIL FROM:<later@b>", "451 4.3.0", "mail later@b;"},
    {"MAIL FROM:<leave@b>", "421 4.3.2", "mail leave@b;quit;"},
};

static const struct argument_case rcpt_cases[] = {
    {"RCPT TO:<a@b.example>", "250 2.1.5", "rcpt a@b.example;"},
    {"rcpt to:<a@b>", "250 2.1.5", "rcpt a@b;"},
    {"RCPT TO: <a@b>", "250 2.1.5", "rcpt a@b;"},
    {"RCPT TO:<postmaster>", "250 2.1.5", "rcpt postmaster;"},
    {"RCPT TO:<PostMaster>", "250 2.1.5", "rcpt PostMaster;"},
    {"RCPT TO:<a@[192.0.2.1]>", "250 2.1.5", "rcpt a@[192.0.2.1];"},
    {"RCPT TO:<\"foo@evil.test> ORCPT=a@b\"@good.test>", "250 2.1.5",
     "rcpt \"foo@evil.test> ORCPT=a@b\"@good.test;"},
    {"RCPT TO:<a..b@c>", "250 2.1.5", "rcpt a..b@c;"},
    {"RCPT TO:<fine@b>", "251 2.1.5", "rcpt fine@b;"},
    {"RCPT TO:<deny@b>", "550 5.7.1", "rcpt deny@b;"},
    {"RCPT TO:<later@b>", "451 4.3.0", "rcpt later@b;"},
    {"RCPT TO:<leave@b>", "421 4.3.2", "rcpt leave@b;reset;quit;"},
    {"RCPT TO:<lines@b>", "550 5.1.1 a??250 b??\r\n", "rcpt lines@b;"},
    {"RCPT TO:<a@b> ORCPT=rfc822;a@b", "555 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4", ""},
    {"RCPT TO:<a@b> SIZE=1", "555 5.5.4", ""},
    {"RCPT TO:<a@b>x", "501 5.5.4", ""},
    {"RCPT TO:<>", "501 5.1.3", ""},
    {"RCPT TO:<\"\">", "501 5.1.3", ""},
    {"RCPT TO:a@b", "501 5.1.3", ""},
    {"RCPT TO:<a@b,c@d>", "501 5.1.3", ""},
    {"RCPT FROM:<a@b>", "501 5.5.4", ""},
    {"RCPT", "501 5.5.4", ""},
    {"RCPT TO:<root>", "553 5.1.3", ""},
    {"RCPT TO:<a@\xc3\xbc>", "553 5.6.7", ""},
};

static void check_arguments(const struct argument_case *cases, size_t count, const char *way,
                            const struct smtp_server_options *options)
{
    for (size_t i = 0; i < count; i++) {
        struct peer peer;
        peer_open(&peer, options);
        peer.tls_at_once = true;
        peer_greet(&peer);
        const char *end = strstr(way, "STARTTLS\r\n"); /* the rest goes behind the handshake */
        size_t first = end != NULL ? (size_t)(end - way) + 10 : 0;
        peer_give(&peer, way, first);
        peer_give_text(&peer, way + first);
        buf_clear(&peer.said);
        buf_clear(&peer.events);
        peer_give_text(&peer, cases[i].line);
        peer_give_text(&peer, "\r\n");
        if (!str_starts_nocase(buf_str(&peer.said), str_from(cases[i].reply)))
            fail_msg("%s: %.*s", cases[i].line, (int)buf_len(&peer.said), buf_str(&peer.said).p);
        peer_expect_events(&peer, cases[i].event);
        char codes[64];
        peer_codes(&peer, codes, sizeof codes);
        assert_int_equal(strlen(codes), 3); /* one reply, whatever is in it */
        peer_close(&peer);
    }
}

static void test_mail_arguments(void **state)
{
    struct smtp_server_options options = peer_options();
    (void)state;
    check_arguments(mail_cases, sizeof mail_cases / sizeof mail_cases[0], way_to[AT_READY],
                    &options);
}

static void test_rcpt_arguments(void **state)
{
    struct smtp_server_options options = peer_options();
    (void)state;
    check_arguments(rcpt_cases, sizeof rcpt_cases / sizeof rcpt_cases[0], way_to[AT_MAIL],
                    &options);
}

static void test_unqualified_where_accepted(void **state)
{
    static const struct argument_case mail[] = {
        {"MAIL FROM:<root>", "250 2.1.0", "mail root;"},
        {"MAIL FROM:<\"root\">", "501 5.1.7", ""},
    };
    static const struct argument_case rcpt[] = {{"RCPT TO:<root>", "250 2.1.5", "rcpt root;"}};
    struct smtp_server_options options = peer_options();
    (void)state;

    options.accept_unqualified = true;
    check_arguments(mail, 2, way_to[AT_READY], &options);
    check_arguments(rcpt, 1, way_to[AT_MAIL], &options);
}

/* What the extensions bring, where they are offered. */
static const struct argument_case extended_mail_cases[] = {
    {"MAIL FROM:<a@b> RET=FULL ENVID=QQ314159", "250 2.1.0", "mail a@b full QQ314159;"},
    {"MAIL FROM:<a@b> ret=hdrs envid=a+2Bb+3D", "250 2.1.0", "mail a@b hdrs a+2Bb+3D;"},
    {"MAIL FROM:<a@b> RET=NONE", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> RET", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> RET=FULL RET=HDRS", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=a+2", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=a+2b", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=a+0D+0ABcc:+20x", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=a+00", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=a+7F", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> ENVID=\xc3\xbc", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> SMTPUTF8", "250 2.1.0", "mail a@b utf8;"},
    {"MAIL FROM:<\xc3\xbc@b\xc3\xbc> SMTPUTF8 BODY=8BITMIME", "250 2.1.0",
     "mail \xc3\xbc@b\xc3\xbc 8bit utf8;"},
    {"MAIL FROM:<\"\xc3\xbc\"@b> SMTPUTF8", "250 2.1.0", "mail \"\xc3\xbc\"@b utf8;"},
    {"MAIL FROM:<\"\\\xc3\xbc\"@b> SMTPUTF8", "501 5.1.7", ""},
    {"MAIL FROM:<\xc3@b> SMTPUTF8", "501 5.1.7", ""},
    {"MAIL FROM:<\xed\xa0\x80@b> SMTPUTF8", "501 5.1.7", ""},
    {"MAIL FROM:<a@\xff> SMTPUTF8", "501 5.1.7", ""},
    {"MAIL FROM:<\xc3\xbc@b>", "553 5.6.7", ""},
    {"MAIL FROM:<a@b\xc3\xbc> BODY=8BITMIME", "553 5.6.7", ""},
    {"MAIL FROM:<a@b> SMTPUTF8=1", "501 5.5.4", ""},
    {"MAIL FROM:<a@b> REQUIRETLS", "250 2.1.0", "mail a@b requiretls;"},
    {"MAIL FROM:<a@b> REQUIRETLS=", "501 5.5.4", ""},
};

static const struct argument_case extended_rcpt_cases[] = {
    {"RCPT TO:<a@b> NOTIFY=NEVER", "250 2.1.5", "rcpt a@b 1;"},
    {"RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE,DELAY", "250 2.1.5", "rcpt a@b 14;"},
    {"RCPT TO:<a@b> notify=failure", "250 2.1.5", "rcpt a@b 4;"},
    {"RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", "501 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY=", "501 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY", "501 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY=SUCCESS,", "501 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY=SUCCESS, FAILURE", "501 5.5.4", ""},
    {"RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=rfc822;a+2Bx@b", "250 2.1.5", "rcpt a@b rfc822;a+2Bx@b;"},
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\x{FC}@b NOTIFY=DELAY", "250 2.1.5",
     "rcpt a@b utf-8;a\\x{FC}@b 8;"},
    {"RCPT TO:<a@b> ORCPT=utf-8;\xc3\xbc@b", "501 5.5.4", ""}, /* the mail has no SMTPUTF8 */
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\x{A}@b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\x{D800}@b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\x{110000}@b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\x{FC", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;a\\xFC", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;a+40b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=utf-8;", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=rfc822;", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=a@b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=;a@b", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=rfc822", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT", "501 5.5.4", ""},
    {"RCPT TO:<a@b> ORCPT=rfc822;a@b+0D+0ABcc:x", "501 5.5.4", ""},
    {"RCPT TO:<a@b> RET=FULL", "555 5.5.4", ""},
    {"RCPT TO:<\xc3\xbc@b>", "553 5.6.7", ""},
};

static const struct argument_case utf8_rcpt_cases[] = {
    {"RCPT TO:<\xc3\xbc@b> ORCPT=utf-8;\xc3\xbc@b", "250 2.1.5",
     "rcpt \xc3\xbc@b utf-8;\xc3\xbc@b;"},
    {"RCPT TO:<a@b> ORCPT=utf-8;\xc3", "501 5.5.4", ""},
};

static void test_extended_arguments(void **state)
{
    struct smtp_server_options options = peer_options();
    char line[700];
    (void)state;

    options.offer_dsn = true;
    options.offer_smtputf8 = true;
    options.offer_requiretls = true;
    struct argument_case too_long[] = {
        {line, "501 5.5.4", ""},
    };
    check_arguments(extended_mail_cases, sizeof extended_mail_cases / sizeof extended_mail_cases[0],
                    "STARTTLS\r\nEHLO x\r\n", &options);
    check_arguments(extended_rcpt_cases, sizeof extended_rcpt_cases / sizeof extended_rcpt_cases[0],
                    way_to[AT_MAIL], &options);
    check_arguments(utf8_rcpt_cases, sizeof utf8_rcpt_cases / sizeof utf8_rcpt_cases[0],
                    "EHLO x\r\nMAIL FROM:<> SMTPUTF8\r\n", &options);
    snprintf(line, sizeof line, "MAIL FROM:<a@b> ENVID=%0101d", 1);
    check_arguments(too_long, 1, way_to[AT_READY], &options);
    snprintf(line, sizeof line, "RCPT TO:<a@b> ORCPT=rfc822;%0494d", 1);
    check_arguments(too_long, 1, way_to[AT_MAIL], &options);
}

/* In clear REQUIRETLS is neither announced nor taken. */
static void test_extension_keywords(void **state)
{
    static const struct argument_case in_clear = {"MAIL FROM:<a@b> REQUIRETLS", "555 5.5.4", ""};
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.offer_dsn = true;
    options.offer_smtputf8 = true;
    options.offer_requiretls = true;
    check_arguments(&in_clear, 1, way_to[AT_READY], &options);
    peer_open(&peer, &options);
    peer.tls_at_once = true;
    peer.mechanisms = "PLAIN LOGIN";
    smtp_server_offer_auth(peer.server, "SCRAM-SHA-256");
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\n");
    static const char clear[] =
        "250-CHUNKING\r\n250-STARTTLS\r\n250-AUTH SCRAM-SHA-256\r\n250-DSN\r\n"
        "250-SMTPUTF8\r\n250 HELP\r\n";
    assert_int_equal(peer_said(&peer, clear), 1);
    peer_give_text(&peer, "STARTTLS\r\n");
    peer_give_text(&peer, "EHLO x\r\n");
    static const char tls[] = "250-CHUNKING\r\n250-AUTH PLAIN LOGIN\r\n250-DSN\r\n"
                              "250-SMTPUTF8\r\n250-REQUIRETLS\r\n250 HELP\r\n";
    assert_int_equal(peer_said(&peer, tls), 1);
    peer_close(&peer);
}

static void test_without_limits(void **state)
{
    static const struct argument_case cases[] = {
        {"MAIL FROM:<a@b> SIZE=18446744073709551614", "250 2.1.0",
         "mail a@b 18446744073709551614;"},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    options.max_message_bytes = 0;
    check_arguments(cases, 1, way_to[AT_READY], &options);
}

/* ---- conversations ---- */

static const struct talk {
    const char *input;
    const char *codes;
    const char *events;
    const char *content;
} talks[] = {
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\nS: "
     "x\r\n\r\n..dot\r\n.\r\nQUIT\r\nNOOP\r\n",
     "220 250 250 250 250 354 250 221", "ehlo c;mail a@b;rcpt c@d;rcpt e@f;data;end;quit;",
     "S: x\r\n\r\n.dot\r\n"},
    /* two messages in one connection, the second pipelined behind the first's dot */
    {"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n1\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT "
     "TO:<c@d>\r\nDATA\r\n2\r\n.\r\n",
     "220 250 250 250 354 250 250 250 354 250",
     "helo c;mail;rcpt c@d;data;end;mail a@b;rcpt c@d;data;end;", "1\r\n2\r\n"},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRSET\r\nRSET\r\nDATA\r\n", "220 250 250 250 250 503",
     "ehlo c;mail a@b;reset;", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nEHLO e\r\nRCPT TO:<c@d>\r\nHELO f\r\n",
     "220 250 250 250 250 503 250", "ehlo c;mail a@b;rcpt c@d;reset;ehlo e;helo f;", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n", "220 250 250 250 221",
     "ehlo c;mail a@b;rcpt c@d;reset;quit;", ""},
    /* RFC 2920: a pipelined group of which the server refuses a part */
    {"EHLO c\r\nMAIL FROM:<deny@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nMAIL FROM:<a@b>\r\n",
     "220 250 550 503 503 250", "ehlo c;mail deny@b;mail a@b;", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\nRCPT TO:<x@>\r\nDATA\r\nRSET\r\n",
     "220 250 250 550 501 554 250", "ehlo c;mail a@b;rcpt deny@d;reset;", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n",
     "220 250 250 550 250 354 250", "ehlo c;mail a@b;rcpt deny@d;rcpt c@d;data;end;", ""},
    /* bare line ends: refused, never executed */
    {"EHLO c\nNOOP\r\n", "220 500 250", "", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n", "220 250 500 503", "ehlo c;", ""},
    {"\nNOOP\r\n\r\n", "220 500 250 500", "", ""},
    /* what the peer calls itself goes into a header field */
    {"EHLO a b(c)\xff\r\n", "220 250", "ehlo a?b(c)?;", ""},
    {"EHLO [127.0.0.1]\r\n", "220 250", "ehlo [127.0.0.1];", ""},
    /* a browser made to post: nothing behind the first line is looked at */
    {"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO c\r\nMAIL FROM:<a@b>\r\n", "220 421", "quit;", ""},
    /* O10: behind STARTTLS nothing in clear counts, not even a part of a command */
    {"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<v@y>\r\nRCPT TO:<", "220 250 220",
     "ehlo c;starttls;", ""},
    {"EHLO c\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n", "220 250 250 220",
     "ehlo c;mail a@b;reset;starttls;", ""},
};

static void run_talk(const struct talk *talk, size_t cut, enum peer_answer answer)
{
    struct smtp_server_options options = peer_options();
    size_t len = strlen(talk->input);
    struct peer peer;
    size_t piece = 0;

    peer_open(&peer, &options);
    peer.answer = answer;
    peer_greet(&peer);
    for (size_t i = 0; i < len; i += piece) {
        piece = cut == 0 ? 1 : i < cut ? cut - i : len - i;
        peer_give(&peer, talk->input + i, piece);
    }
    peer_expect_codes(&peer, talk->codes);
    peer_expect_events(&peer, talk->events);
    assert_int_equal(buf_len(&peer.content), strlen(talk->content));
    assert_memory_equal(buf_str(&peer.content).p, talk->content, strlen(talk->content));
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

static void test_ehlo_keywords(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_take(&peer);
    assert_int_equal(peer_said(&peer, "220 mail.example.com ESMTP\r\n"), 1);
    buf_clear(&peer.said);
    peer_give_text(&peer, "EHLO x\r\n");
    static const char want[] =
        "250-mail.example.com\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n"
        "250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 HELP\r\n";
    assert_int_equal(buf_len(&peer.said), sizeof want - 1);
    assert_memory_equal(buf_str(&peer.said).p, want, sizeof want - 1);
    peer_give_text(&peer, "STARTTLS\r\n");
    assert_int_equal(smtp_server_tls_started(peer.server), 0);
    buf_clear(&peer.said);
    peer_give_text(&peer, "EHLO x\r\n");
    assert_int_equal(peer_said(&peer, "STARTTLS"), 0);
    assert_int_equal(peer_said(&peer, "250 HELP\r\n"), 1);
    peer_close(&peer);
}

static void test_starttls_not_offered(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.offer_starttls = false;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\nSTARTTLS\r\n");
    assert_int_equal(peer_said(&peer, "250-STARTTLS"), 0);
    peer_expect_codes(&peer, "220 250 502");
    peer_close(&peer);
}

/* Everything learnt in clear is forgotten, what was pipelined is counted, in one segment or byte by
 * byte. */
static void test_tls_starts_afresh(void **state)
{
    static const char clear[] =
        "EHLO c\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<";
    static const size_t injected = sizeof "MAIL FROM:<evil@x>\r\nRCPT TO:<" - 1;
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t cut = 0; cut < sizeof clear; cut++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer_greet(&peer);
        for (size_t i = 0; cut == 0 && i < sizeof clear - 1; i++)
            peer_give(&peer, clear + i, 1);
        if (cut > 0) {
            peer_give(&peer, clear, cut);
            peer_give(&peer, clear + cut, sizeof clear - 1 - cut);
        }
        buf_clear(&peer.said);
        buf_clear(&peer.events);
        assert_int_equal(smtp_server_tls_started(peer.server), injected);
        peer_give_text(&peer,
                       "v@y>\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n");
        peer_expect_codes(&peer, "500 503 503 250 250");
        peer_expect_events(&peer, "ehlo x;mail a@b;");
        peer_close(&peer);
    }
}

/* Nothing in clear may be run even if the owner says at once that TLS runs. */
static void test_tls_starts_inside_the_event(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer.tls_at_once = true;
    peer_greet(&peer);
    peer_give_text(&peer, "STARTTLS\r\nEHLO evil\r\n");
    assert_int_equal(peer.dropped, 11);
    peer_give_text(&peer, "EHLO x\r\n");
    peer_expect_codes(&peer, "220 220 250");
    peer_expect_events(&peer, "starttls;ehlo x;");
    peer_close(&peer);
}

static void test_implicit_tls(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.require_starttls = true;
    peer_open(&peer, &options);
    peer_give_text(&peer, "EHLO evil\r\n"); /* in clear, ahead of the handshake */
    assert_int_equal(smtp_server_tls_started(peer.server), 11);
    peer_greet(&peer);
    peer_give_text(&peer, "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n");
    peer_expect_codes(&peer, "220 250 503 250");
    peer_expect_events(&peer, "ehlo x;mail a@b;");
    assert_int_equal(peer_said(&peer, "250-STARTTLS"), 0);
    peer_close(&peer);
}

static void test_tls_required(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    options.require_starttls = true;
    peer_open(&peer, &options);
    peer_greet(&peer);
    peer_give_text(
        &peer,
        "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nVRFY a\r\nNOOP\r\nSTARTTLS\r\n");
    assert_int_equal(peer_said(&peer, "530 5.7.0 Must issue a STARTTLS command first\r\n"), 4);
    peer_expect_codes(&peer, "220 250 530 530 530 530 250 220");
    assert_int_equal(smtp_server_tls_started(peer.server), 0);
    peer_give_text(&peer, "EHLO x\r\nMAIL FROM:<a@b>\r\n");
    peer_expect_codes(&peer, "220 250 530 530 530 530 250 220 250 250");
    peer_close(&peer);
}

static void test_early_talker_waits_for_greeting(void **state)
{
    struct smtp_server_options options = peer_options();
    struct peer peer;
    (void)state;

    peer_open(&peer, &options);
    peer_give_text(&peer, "EHLO c\r\nNO");
    peer_give_text(&peer, "OP\r\n");
    peer_expect_codes(&peer, "");
    peer_greet(&peer);
    peer_take(&peer);
    peer_expect_codes(&peer, "220 250 250");
    peer_close(&peer);
}

/* What a refusal says about itself. */
static void test_refusal_facts(void **state)
{
    static const struct {
        const char *input, *refusal;
    } cases[] = {
        {"EHLO\r\n", "501  >"},
        {"FOO\r\n", "500 5.5.1 >"},
        {"EHLO c\r\nMAIL FROM:<deny@b>\r\n", "550 5.7.1 deny@b>"},
        {"EHLO c\r\nMAIL FROM:<a@b> SIZE=99999999\r\n", "552 5.3.4 a@b>"},
        {"EHLO c\r\nMAIL FROM: <a b@c>\r\n", "501 5.1.7 <a b@c>>"},
        {"EHLO c\r\nMAIL TO:<a@b>\r\n", "501 5.5.4 >"},
        {"EHLO c\r\nMAIL FROM:<deny@b>\r\nRCPT TO:<c@d>\r\n", "503 5.5.1 >"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\n", "550 5.7.1 a@b>deny@d"},
        {"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<deny@d>\r\n", "550 5.7.1 >deny@d"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<x y>\r\n", "501 5.1.3 a@b><x y>"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@d>\r\nDATA\r\n", "554 5.5.1 a@b>"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\nFOO\r\n",
         "500 5.5.1 a@b>"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\ny\r\n.\r\n", "554 5.6.0 a@b>"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nFOO\r\n", "500 5.5.1 >"},
        {"EHLO c\r\nMAIL FROM:<a@b>\r\nRSET\r\nFOO\r\n", "500 5.5.1 >"},
    };
    struct smtp_server_options options = peer_options();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer_greet(&peer);
        peer_give_text(&peer, cases[i].input);
        assert_int_equal(peer.refusals, i == 6 || i == 10 ? 2 : 1);
        assert_string_equal(peer.refusal, cases[i].refusal);
        peer_close(&peer);
    }
}

static void test_refusing_greeting(void **state)
{
    static const struct smtp_verdict busy = {421, "4.3.2 Too many connections"};
    static const struct smtp_verdict never = {554, "5.7.1 No service for you"};
    struct smtp_server_options options = peer_options();
    (void)state;

    for (int i = 0; i < 2; i++) {
        struct peer peer;
        peer_open(&peer, &options);
        peer_give_text(&peer, "EHLO c\r\n");
        smtp_server_greet(peer.server, i == 0 ? &busy : &never);
        peer_give_text(&peer, "NOOP\r\n");
        peer_expect_codes(&peer, i == 0 ? "421" : "554");
        peer_expect_events(&peer, "quit;");
        assert_int_equal(peer.refusals, 1);
        assert_false(smtp_server_wants_input(peer.server));
        peer_close(&peer);
    }
}

/* Random bytes with command words between them: replies stay well-formed, segmentation changes
 * nothing. */
static void test_garbage(void **state)
{
    static const char *const words[] = {"EHLO x\r\n",
                                        "MAIL FROM:<a@b>\r\n",
                                        "RCPT TO:<c@d>\r\n",
                                        "DATA\r\n",
                                        "\r\n.\r\n",
                                        "\r\n",
                                        "\r",
                                        "\n",
                                        ".",
                                        "\xff\xfe",
                                        "RSET\r\n",
                                        "NOOP\r\n"};
    struct smtp_server_options options = peer_options();
    uint32_t random = 1;
    (void)state;

    for (int round = 0; round < 300; round++) {
        char text[1024];
        size_t len = 0;
        while (len < sizeof text - 20) {
            random = random * 1664525 + 1013904223;
            const char *word = words[(random >> 16) % (sizeof words / sizeof words[0])];
            len += (size_t)snprintf(text + len, sizeof text - len, "%s", word);
        }
        struct peer whole, bytes;
        peer_open(&whole, &options);
        peer_open(&bytes, &options);
        peer_greet(&whole);
        peer_greet(&bytes);
        peer_give(&whole, text, len);
        for (size_t i = 0; i < len; i++)
            peer_give(&bytes, text + i, 1);
        char codes[4096];
        peer_codes(&whole, codes, sizeof codes);
        peer_expect_codes(&bytes, codes);
        assert_true(str_equal(buf_str(&whole.events), buf_str(&bytes.events)));
        peer_close(&whole);
        peer_close(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mail_arguments),
        cmocka_unit_test(test_rcpt_arguments),
        cmocka_unit_test(test_unqualified_where_accepted),
        cmocka_unit_test(test_extended_arguments),
        cmocka_unit_test(test_extension_keywords),
        cmocka_unit_test(test_without_limits),
        cmocka_unit_test(test_talks),
        cmocka_unit_test(test_ehlo_keywords),
        cmocka_unit_test(test_starttls_not_offered),
        cmocka_unit_test(test_tls_starts_afresh),
        cmocka_unit_test(test_tls_starts_inside_the_event),
        cmocka_unit_test(test_implicit_tls),
        cmocka_unit_test(test_tls_required),
        cmocka_unit_test(test_early_talker_waits_for_greeting),
        cmocka_unit_test(test_refusing_greeting),
        cmocka_unit_test(test_refusal_facts),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
