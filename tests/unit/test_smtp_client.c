/* tests/unit/test_smtp_client.c - the client session before, between and after transactions, and
 * peers that are rude at any stage. */
#include "tests/unit/smtp_dialogue.h"

/* ---- greeting, EHLO, HELO ---- */

static const struct dialogue hello_dialogues[] = {
    {.name = "greets_and_quits",
     .steps = {GREET, PLAIN, {"", ACT_QUIT, ""}, {QUIT, ACT_SAY, "221 bye\r\n"}},
     .events = "ready\nend ok at QUIT session closed\n"},
    {.name = "greets_in_many_lines",
     .steps = {{"", ACT_SAY, "220-mx\r\n220-no spam\r\n220 here\r\n"}, PLAIN},
     .events = "ready\n"},
    {.name = "greeting_554",
     .steps = {{"", ACT_SAY, "554 5.7.1 no service\r\n"}, END(QUIT)},
     .events = "end REPLY at greeting 554 5.7.1 no service\n"},
    {.name = "greeting_421",
     .steps = {{"", ACT_SAY, "421 4.3.2 busy\r\n"}},
     .events = "end REPLY at greeting 421 4.3.2 busy\n"},
    {.name = "greeting_250",
     .steps = {{"", ACT_SAY, "250 hello\r\n"}},
     .events = "end PROTOCOL at greeting unexpected reply 250 at greeting: hello\n"},
    {.name = "greeting_is_http",
     .steps = {{"", ACT_SAY, "HTTP/1.1 400 Bad\x1b\r\n"}},
     .events =
         "end PROTOCOL at greeting unreadable reply at greeting: \"HTTP/1.1 400 Bad\\x1b\\x0d\"\n"},
    {.name = "closes_before_greeting",
     .steps = {{"", ACT_CLOSE, "end of file"}},
     .events = "end CLOSED at greeting connection lost at greeting: end of file\n"},
    {.name = "closes_within_greeting",
     .steps = {{"", ACT_SAY, "220 mx"}, {"", ACT_CLOSE, "reset"}},
     .events = "end CLOSED at greeting connection lost at greeting: reset\n"},
    {.name = "silent_before_greeting",
     .steps = {{"", ACT_SAY, "22"}, {"", ACT_TIMEOUT, "980"}},
     .events = "end TIMEOUT at greeting no reply in time at greeting\n"},
    {.name = "silent_after_ehlo",
     .steps = {GREET, {EHLO, ACT_TIMEOUT, "1990"}},
     .events = "end TIMEOUT at EHLO no reply in time at EHLO\n"},
    {.name = "ehlo_500_then_helo",
     .steps = {GREET, {EHLO, ACT_SAY, "500 what\r\n"}, {HELO, ACT_SAY, "250 mx\r\n"}},
     .events = "ready\n"},
    {.name = "ehlo_502_then_helo",
     .steps = {GREET, {EHLO, ACT_SAY, "502 what\r\n"}, {HELO, ACT_SAY, "250 mx\r\n"}},
     .events = "ready\n"},
    {.name = "ehlo_504_then_helo",
     .steps = {GREET, {EHLO, ACT_SAY, "504 what\r\n"}, {HELO, ACT_SAY, "250 mx\r\n"}},
     .events = "ready\n"},
    {.name = "ehlo_550_then_helo_550",
     .steps =
         {GREET, {EHLO, ACT_SAY, "550 go\r\n"}, {HELO, ACT_SAY, "550 5.7.1 away\r\n"}, END(QUIT)},
     .events = "end REPLY at HELO 550 5.7.1 away\n"},
    {.name = "ehlo_451",
     .steps = {GREET, {EHLO, ACT_SAY, "451 4.3.0 later\r\n"}, END(QUIT)},
     .events = "end REPLY at EHLO 451 4.3.0 later\n"},
    {.name = "ehlo_421",
     .steps = {GREET, {EHLO, ACT_SAY, "421 4.3.2 closing\r\n"}},
     .events = "end REPLY at EHLO 421 4.3.2 closing\n"},
    {.name = "ehlo_354",
     .steps = {GREET, {EHLO, ACT_SAY, "354 go\r\n"}},
     .events = "end PROTOCOL at EHLO unexpected reply 354 at EHLO: go\n"},
    {.name = "ehlo_502_and_closes",
     .steps = {GREET, {EHLO, ACT_SAY, "502 5.5.1 what\r\n"}, {HELO, ACT_CLOSE, "end of file"}},
     .events = "end CLOSED at EHLO 502 5.5.1 what\n"},
    {.name = "closes_after_ehlo",
     .steps = {GREET, {EHLO, ACT_CLOSE, "end of file"}},
     .events = "end CLOSED at EHLO connection lost at EHLO: end of file\n"},
    {.name = "helo_only",
     .helo_only = true,
     .steps = {GREET, {HELO, ACT_CLOSE, "end of file"}},
     .events = "end CLOSED at HELO connection lost at HELO: end of file\n"},
    {.name = "helo_offers_nothing",
     .helo_only = true,
     .tls = SMTP_CLIENT_TLS_MAY,
     .transactions = 1,
     .size = 5,
     .steps = {GREET,
               {HELO, ACT_SAY, "250-mx\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE 1\r\n"},
               END(MAIL)},
     .events = "ready\n"},
    {.name = "two_replies_at_once_are_not_ehlo",
     .steps = {{"", ACT_SAY, "220 mx\r\n250 STARTTLS\r\n"}},
     .events = "end PROTOCOL at EHLO unsolicited reply 250 at EHLO: STARTTLS\n"},
    {.name = "code_changes_in_ehlo",
     .steps = {GREET, {EHLO, ACT_SAY, "250-mx\r\n550 x\r\n"}},
     .events = "end PROTOCOL at EHLO unreadable reply at EHLO: \"550 x\\x0d\"\n"},
};

static void hello(void **state)
{
    (void)state;
    RUN_ALL(hello_dialogues);
}

/* ---- STARTTLS ---- */

#define OFFER                                                                                      \
    {                                                                                              \
        EHLO, ACT_SAY, "250-mx\r\n250-SIZE 10\r\n250 starttls\r\n"                                 \
    }
#define STARTTLS "STARTTLS\r\n"

static const struct dialogue tls_dialogues[] = {
    {.name = "tls_and_second_ehlo",
     .tls = SMTP_CLIENT_TLS_MAY,
     .transactions = 1,
     .size = 500, /* over the limit told in clear, which no longer counts (cases O23) */
     .body_8bit = true,
     .steps = {GREET,
               OFFER,
               {STARTTLS, ACT_SAY, "220 go\r\n"},
               {"", ACT_TLS, ""},
               {EHLO, ACT_SAY, "250-mx\r\n250-8BITMIME\r\n250 STARTTLS\r\n"},
               END("MAIL FROM:<s@x> BODY=8BITMIME\r\n")},
     .events = "starttls\nready\n"},
    {.name = "tls_must_and_offered",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "220 go\r\n"}, {"", ACT_TLS, ""}, PLAIN},
     .events = "starttls\nready\n"},
    {.name = "tls_off_ignores_offer",
     .tls = SMTP_CLIENT_TLS_OFF,
     .steps = {GREET, OFFER},
     .events = "ready\n"},
    {.name = "tls_may_not_offered",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, PLAIN},
     .events = "ready\n"},
    {.name = "tls_must_not_offered",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET, PLAIN, END(QUIT)},
     .events = "end POLICY at STARTTLS TLS is required, but the server does not offer STARTTLS\n"},
    {.name = "tls_must_ehlo_502",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET, {EHLO, ACT_SAY, "502 what\r\n"}, END(QUIT)},
     .events = "end POLICY at STARTTLS TLS is required, but the server refused EHLO with 502\n"},
    {.name = "tls_must_helo_only",
     .tls = SMTP_CLIENT_TLS_MUST,
     .helo_only = true,
     .steps = {GREET, END(QUIT)},
     .events = "end POLICY at STARTTLS TLS is required, but the server takes HELO only\n"},
    {.name = "starttls_454_goes_on_in_clear",
     .tls = SMTP_CLIENT_TLS_MAY,
     .transactions = 1,
     .size = 7,
     .steps = {GREET,
               OFFER,
               {STARTTLS, ACT_SAY, "454 4.7.0 not now\r\n"},
               END("MAIL FROM:<s@x> SIZE=7\r\n")},
     .events = "ready\n"},
    {.name = "starttls_502_goes_on_in_clear",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "502 no\r\n"}},
     .events = "ready\n"},
    {.name = "starttls_454_under_must",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "454 4.7.0 not now\r\n"}, END(QUIT)},
     .events = "end REPLY at STARTTLS 454 4.7.0 not now\n"},
    {.name = "starttls_421",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "421 bye\r\n"}},
     .events = "end REPLY at STARTTLS 421 bye\n"},
    {.name = "starttls_250",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "250 ok\r\n"}},
     .events = "end PROTOCOL at STARTTLS unexpected reply 250 at STARTTLS: ok\n"},
    {.name = "clear_text_behind_220_is_forgotten",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET,
               OFFER,
               {STARTTLS, ACT_SAY, "220 go\r\n250-evil\r\n250 PIPELINING\r\n25"},
               {"", ACT_TLS, ""},
               PLAIN},
     .events = "starttls\nready\n"},
    {.name = "tls_fails",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps =
         {GREET, OFFER, {STARTTLS, ACT_SAY, "220 go\r\n"}, {"", ACT_TLS_FAIL, "no common cipher"}},
     .events = "starttls\nend TLS at TLS handshake no common cipher\n"},
    {.name = "tls_stalls",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "220 go\r\n"}, {"", ACT_TIMEOUT, "2990"}},
     .events = "starttls\nend TLS at TLS handshake the TLS handshake did not end in time\n"},
    {.name = "closes_in_handshake",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, OFFER, {STARTTLS, ACT_SAY, "220 go\r\n"}, {"", ACT_CLOSE, "reset"}},
     .events = "starttls\nend TLS at TLS handshake connection lost at TLS handshake: reset\n"},
    {.name = "closes_after_tls",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET,
               OFFER,
               {STARTTLS, ACT_SAY, "220 go\r\n"},
               {"", ACT_TLS, ""},
               {EHLO, ACT_CLOSE, "reset"}},
     .events = "starttls\nend CLOSED at EHLO connection lost at EHLO: reset\n"},
    {.name = "ehlo_502_after_tls",
     .tls = SMTP_CLIENT_TLS_MUST,
     .steps = {GREET,
               OFFER,
               {STARTTLS, ACT_SAY, "220 go\r\n"},
               {"", ACT_TLS, ""},
               {EHLO, ACT_SAY, "502 no\r\n"},
               {HELO, ACT_SAY, "250 mx\r\n"}},
     .events = "starttls\nready\n"},
    {.name = "silent_after_starttls",
     .tls = SMTP_CLIENT_TLS_MAY,
     .steps = {GREET, OFFER, {STARTTLS, ACT_TIMEOUT, "1990"}},
     .events = "end TIMEOUT at STARTTLS no reply in time at STARTTLS\n"},
};

static void starttls(void **state)
{
    (void)state;
    RUN_ALL(tls_dialogues);
}

/* ---- 421, silence and noise at every stage ---- */

static const struct dialogue rude_dialogues[] = {
    {.name = "idle_421",
     .steps = {GREET, PLAIN, {"", ACT_SAY, "421 4.4.2 idle\r\n"}, {"", ACT_CLOSE, "eof"}},
     .events = "ready\nend REPLY at MAIL 421 4.4.2 idle\n"},
    {.name = "idle_close",
     .steps = {GREET, PLAIN, {"", ACT_CLOSE, "eof"}},
     .events = "ready\nend CLOSED at MAIL connection lost at MAIL: eof\n"},
    {.name = "idle_250",
     .steps = {GREET, PLAIN, {"", ACT_SAY, "250 ok\r\n"}},
     .events = "ready\nend PROTOCOL at MAIL unsolicited reply 250 at MAIL: ok\n"},
    {.name = "421_behind_ehlo",
     .transactions = 1,
     .steps = {GREET, {EHLO, ACT_SAY, "250 mx\r\n421 4.3.2 bye\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 421 4.3.2 bye\ndone REPLY at MAIL 421 4.3.2 bye\n"
               "end REPLY at MAIL 421 4.3.2 bye\n"},
    {.name = "421_behind_the_250_to_the_dot",
     .transactions = 1,
     .steps =
         {GREET, PLAIN, IN_STEP, {TEXT, ACT_DRAINED, ""}, {"", ACT_SAY, "250 ok\r\n421 bye\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone ok at final dot 250 ok\nready\n"
               "end REPLY at MAIL 421 bye\n"},
    {.name = "421_to_mail",
     .transactions = 1,
     .recipients = 2,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, "421 bye\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 421 bye\nrcpt 1 REPLY at MAIL 421 bye\n"
               "done REPLY at MAIL 421 bye\nend REPLY at MAIL 421 bye\n"},
    {.name = "421_to_the_second_rcpt",
     .transactions = 1,
     .recipients = 3,
     .steps = {GREET, PIPE, {BATCH3, ACT_SAY, "250 m\r\n250 a\r\n421 bye\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 a\nrcpt 1 REPLY at RCPT 421 bye\nrcpt 2 REPLY at RCPT "
               "421 bye\n"
               "done REPLY at RCPT 421 bye\nend REPLY at RCPT 421 bye\n"},
    {.name = "421_to_data",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, OK},
               {DATA, ACT_SAY, "421 bye\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ndone REPLY at DATA 421 bye\nend REPLY at DATA 421 "
               "bye\n"},
    {.name = "421_to_the_dot",
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {TEXT, ACT_DRAINED, ""}, {"", ACT_SAY, "421 4.3.2 bye\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone REPLY at final dot 421 4.3.2 bye\n"
               "end REPLY at final dot 421 4.3.2 bye\n"},
    {.name = "421_to_rset",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, "550 a\r\n"},
               {"RSET\r\n", ACT_SAY, "421 bye\r\n"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\nend REPLY at RSET 421 "
               "bye\n"},
    {.name = "421_to_quit",
     .steps = {GREET, PLAIN, {"", ACT_QUIT, ""}, {QUIT, ACT_SAY, "421 bye\r\n"}},
     .events = "ready\nend ok at QUIT session closed\n"},
    {.name = "silent_after_quit",
     .steps = {GREET, PLAIN, {"", ACT_QUIT, ""}, {QUIT, ACT_TIMEOUT, "1990"}},
     .events = "ready\nend ok at QUIT session closed\n"},
    {.name = "silent_after_mail",
     .transactions = 1,
     .steps = {GREET, PLAIN, {MAIL, ACT_TIMEOUT, "3990"}},
     .events = "ready\nrcpt 0 TIMEOUT at MAIL no reply in time at MAIL\n"
               "done TIMEOUT at MAIL no reply in time at MAIL\nend TIMEOUT at MAIL no reply in "
               "time at MAIL\n"},
    {.name = "silent_after_data",
     .transactions = 1,
     .steps =
         {GREET, PLAIN, {MAIL, ACT_SAY, OK}, {RCPT(0), ACT_SAY, OK}, {DATA, ACT_TIMEOUT, "5990"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ndone TIMEOUT at DATA no reply in time at DATA\n"
               "end TIMEOUT at DATA no reply in time at DATA\n"},
    {.name = "silent_after_rset",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, "550 a\r\n"},
               {"RSET\r\n", ACT_TIMEOUT, "3990"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\n"
               "end TIMEOUT at RSET no reply in time at RSET\n"},
    {.name = "odd_bytes_in_a_refusal",
     .transactions = 1,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, "550 a\x1b[2J\xff\rfrom=<x>\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 550 a\x1b[2J\xff from=<x>\n"
               "done REPLY at MAIL 550 a\x1b[2J\xff from=<x>\nready\n"},
};

static void rude(void **state)
{
    (void)state;
    RUN_ALL(rude_dialogues);
}

/* ---- the session as such ---- */

static void every_call_is_harmless_after_the_end(void **state)
{
    (void)state;
    static const struct dialogue dialogue = {.name = "after_the_end"};
    struct world world;
    begin(&world, &dialogue);
    smtp_client_closed(world.client, "eof", world.now_ms);
    assert_true(world.ended);
    say(&world, "220 mx\r\n", true); /* any event now fails in note() */
    smtp_client_closed(world.client, "eof", world.now_ms);
    smtp_client_timeout(world.client, UINT64_MAX);
    smtp_client_progress(world.client, true, world.now_ms);
    smtp_client_tls_started(world.client, world.now_ms);
    smtp_client_tls_failed(world.client, "no", world.now_ms);
    smtp_client_content_end(world.client, world.now_ms);
    smtp_client_content_abort(world.client, "no", world.now_ms);
    assert_true(smtp_client_content(world.client, "x", 1));
    assert_int_equal(buf_len(smtp_client_output(world.client)), 0);
    assert_int_equal(smtp_client_deadline(world.client), UINT64_MAX);
    assert_false(smtp_client_ready(world.client));
    smtp_client_free(&world.client);
    smtp_client_free(&world.client);
}

static void connection_that_never_stood(void **state)
{
    (void)state;
    struct world world = {.dialogue = &(struct dialogue){.name = "refused connection"}};
    world.client = smtp_client_new(&timers, &events, &world);
    assert_int_equal(smtp_client_deadline(world.client), UINT64_MAX);
    smtp_client_closed(world.client, "connection refused", 1);
    assert_string_equal(world.log,
                        "end CLOSED at connect connection lost at connect: connection refused\n");
    smtp_client_free(&world.client);
}

static void capabilities_are_told(void **state)
{
    (void)state;
    static const struct dialogue dialogue = {.name = "capabilities"};
    struct world world;
    world_ready(&world, &dialogue, "250-mx\r\n250 8BITMIME\r\n");
    assert_true(smtp_client_has_8bitmime(world.client));
    smtp_client_free(&world.client);
    world_ready(&world, &dialogue, "250 8BITMIME\r\n");
    assert_false(smtp_client_has_8bitmime(world.client));
    smtp_client_free(&world.client);
}

static void stages_have_names(void **state)
{
    (void)state;
    for (int stage = SMTP_STAGE_CONNECT; stage <= SMTP_STAGE_QUIT; stage++)
        for (int other = SMTP_STAGE_CONNECT; other < stage; other++)
            assert_string_not_equal(smtp_stage_text((enum smtp_stage)stage),
                                    smtp_stage_text((enum smtp_stage)other));
    assert_string_equal(smtp_stage_text(SMTP_STAGE_DOT), "final dot");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello),
        cmocka_unit_test(starttls),
        cmocka_unit_test(rude),
        cmocka_unit_test(every_call_is_harmless_after_the_end),
        cmocka_unit_test(connection_that_never_stood),
        cmocka_unit_test(capabilities_are_told),
        cmocka_unit_test(stages_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
