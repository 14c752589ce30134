/* tests/unit/test_smtp_transaction.c - the client's transactions: MAIL to the reply to the dot. */
#include "tests/unit/smtp_dialogue.h"

/* ---- in lockstep ---- */

static const struct dialogue lockstep_dialogues[] = {
    {.name = "two_messages_one_connection",
     .transactions = 2,
     .steps = {GREET,
               PLAIN,
               IN_STEP,
               {TEXT, ACT_DRAINED, ""},
               {"", ACT_SAY, "250 2.0.0 q1\r\n"},
               IN_STEP,
               {TEXT, ACT_SAY, "250 2.0.0 q2\r\n"},
               {"", ACT_QUIT, ""},
               {QUIT, ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone ok at final dot 250 2.0.0 q1\n"
               "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone ok at final dot 250 2.0.0 q2\n"
               "ready\nend ok at QUIT session closed\n"},
    {.name = "mail_550",
     .transactions = 1,
     .recipients = 2,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, "550 5.1.8 bad sender\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 550 5.1.8 bad sender\n"
               "rcpt 1 REPLY at MAIL 550 5.1.8 bad sender\n"
               "done REPLY at MAIL 550 5.1.8 bad sender\nready\n"},
    {.name = "mixed_recipients",
     .transactions = 1,
     .recipients = 4,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, OK},
               {RCPT(1), ACT_SAY, "550 5.1.1 who\r\n"},
               {RCPT(2), ACT_SAY, "451 4.7.1 grey\r\n"},
               {RCPT(3), ACT_SAY, "251 2.1.5 will forward\r\n"},
               {DATA, ACT_SAY, GO},
               {TEXT, ACT_SAY, OK}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\nrcpt 1 REPLY at RCPT 550 5.1.1 who\n"
               "rcpt 2 REPLY at RCPT 451 4.7.1 grey\nrcpt 3 ok at RCPT 251 2.1.5 will forward\ngo\n"
               "done ok at final dot 250 ok\nready\n"},
    {.name = "all_recipients_refused_resets",
     .transactions = 2,
     .recipients = 2,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, "550 a\r\n"},
               {RCPT(1), ACT_SAY, "450 b\r\n"},
               {"RSET\r\n", ACT_SAY, OK},
               {MAIL, ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\nrcpt 1 REPLY at RCPT 450 b\n"
               "done REPLY at RCPT 450 b\nready\n"
               "rcpt 0 CLOSED at MAIL connection lost at MAIL: eof\n"
               "rcpt 1 CLOSED at MAIL connection lost at MAIL: eof\n"
               "done CLOSED at MAIL connection lost at MAIL: eof\n"
               "end CLOSED at MAIL connection lost at MAIL: eof\n"},
    {.name = "rset_500",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, "550 a\r\n"},
               {"RSET\r\n", ACT_SAY, "500 what\r\n"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\nend REPLY at RSET 500 "
               "what\n"},
    {.name = "data_554",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, OK},
               {DATA, ACT_SAY, "554 5.7.1 no\r\n"},
               {"RSET\r\n", ACT_SAY, OK}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ndone REPLY at DATA 554 5.7.1 no\nready\n"},
    {.name = "data_250",
     .transactions = 1,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, OK}, {RCPT(0), ACT_SAY, OK}, {DATA, ACT_SAY, OK}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\n"
               "done PROTOCOL at DATA unexpected reply 250 at DATA: ok\n"
               "end PROTOCOL at DATA unexpected reply 250 at DATA: ok\n"},
    {.name = "rcpt_354",
     .transactions = 1,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, OK}, {RCPT(0), ACT_SAY, GO}},
     .events = "ready\nrcpt 0 PROTOCOL at RCPT unexpected reply 354 at RCPT: go\n"
               "done PROTOCOL at RCPT unexpected reply 354 at RCPT: go\n"
               "end PROTOCOL at RCPT unexpected reply 354 at RCPT: go\n"},
    {.name = "dot_550",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               IN_STEP,
               {TEXT, ACT_DRAINED, ""},
               {"", ACT_SAY, "550 5.7.1 spam\r\n"},
               {"RSET\r\n", ACT_SAY, OK}},
     .events =
         "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone REPLY at final dot 550 5.7.1 spam\nready\n"},
    {.name = "dot_354",
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {TEXT, ACT_DRAINED, ""}, {"", ACT_SAY, GO}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done PROTOCOL at final dot unexpected reply 354 at final dot: go\n"
               "end PROTOCOL at final dot unexpected reply 354 at final dot: go\n"},
    {.name = "mail_150",
     .transactions = 1,
     .steps = {GREET, PLAIN, {MAIL, ACT_SAY, "150 wait\r\n"}},
     .events = "ready\nrcpt 0 PROTOCOL at MAIL unreadable reply at MAIL: \"150 wait\\x0d\"\n"
               "done PROTOCOL at MAIL unreadable reply at MAIL: \"150 wait\\x0d\"\n"
               "end PROTOCOL at MAIL unreadable reply at MAIL: \"150 wait\\x0d\"\n"},
    {.name = "null_sender_is_not_special",
     .transactions = 1,
     .size = 12,
     .body_8bit = true,
     .steps = {GREET,
               {EHLO, ACT_SAY, "250-mx\r\n250-8bitmime\r\n250 size\r\n"},
               END("MAIL FROM:<s@x> SIZE=12 BODY=8BITMIME\r\n")},
     .events = "ready\n"},
};

static void lockstep(void **state)
{
    (void)state;
    RUN_ALL(lockstep_dialogues);
}

/* ---- in one write ---- */

static const struct dialogue pipelined_dialogues[] = {
    {.name = "one_write",
     .transactions = 1,
     .recipients = 3,
     .steps = {GREET,
               PIPE,
               {BATCH3, ACT_SAY, "250 m\r\n250 a\r\n550 b\r\n452 4.5.3 c\r\n354 go\r\n"},
               {TEXT, ACT_SAY, "250 2.0.0 q\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 a\nrcpt 1 REPLY at RCPT 550 b\n"
               "rcpt 2 REPLY at RCPT 452 4.5.3 c\ngo\ndone ok at final dot 250 2.0.0 q\nready\n"},
    {.name = "mail_refused_rest_503",
     .transactions = 2,
     .recipients = 3,
     .steps = {GREET,
               PIPE,
               {BATCH3, ACT_SAY, "550 m\r\n503 a\r\n503 b\r\n503 c\r\n503 d\r\n"},
               END(BATCH3)},
     .events = "ready\nrcpt 0 REPLY at MAIL 550 m\nrcpt 1 REPLY at MAIL 550 m\n"
               "rcpt 2 REPLY at MAIL 550 m\ndone REPLY at MAIL 550 m\nready\n"},
    {.name = "mail_refused_rcpt_accepted",
     .transactions = 1,
     .recipients = 3,
     .steps = {GREET, PIPE, {BATCH3, ACT_SAY, "450 m\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 450 m\nrcpt 1 REPLY at MAIL 450 m\n"
               "rcpt 2 REPLY at MAIL 450 m\ndone REPLY at MAIL 450 m\n"
               "end PROTOCOL at RCPT RCPT was accepted after MAIL was refused\n"},
    {.name = "all_refused_data_503",
     .transactions = 1,
     .steps = {GREET,
               PIPE,
               {BATCH1, ACT_SAY, "250 m\r\n550 a\r\n503 no recipients\r\n"},
               {"RSET\r\n", ACT_SAY, OK}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\nready\n"},
    {.name = "all_refused_data_354_gets_a_dot",
     .transactions = 1,
     .steps = {GREET,
               PIPE,
               {BATCH1, ACT_SAY, "250 m\r\n550 a\r\n354 go\r\n"},
               {".\r\n", ACT_SAY, "554 no valid recipients\r\n"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\nready\n"},
    {.name = "mail_refused_data_354_gets_a_dot",
     .transactions = 1,
     .steps = {GREET,
               PIPE,
               {BATCH1, ACT_SAY, "550 m\r\n503 a\r\n354 go\r\n"},
               {".\r\n", ACT_SAY, "250 ok\r\n"}},
     .events = "ready\nrcpt 0 REPLY at MAIL 550 m\ndone REPLY at MAIL 550 m\nready\n"},
    {.name = "closes_after_the_empty_dot",
     .transactions = 1,
     .steps = {GREET,
               PIPE,
               {BATCH1, ACT_SAY, "250 m\r\n550 a\r\n354 go\r\n"},
               {".\r\n", ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\n"
               "end CLOSED at final dot connection lost at final dot: eof\n"},
    {.name = "some_accepted_data_451",
     .transactions = 1,
     .recipients = 3,
     .steps = {GREET,
               PIPE,
               {BATCH3, ACT_SAY, "250 m\r\n250 a\r\n550 b\r\n250 c\r\n451 4.3.0 d\r\n"},
               {"RSET\r\n", ACT_SAY, OK}},
     .events =
         "ready\nrcpt 0 ok at RCPT 250 a\nrcpt 1 REPLY at RCPT 550 b\nrcpt 2 ok at RCPT 250 c\n"
         "done REPLY at DATA 451 4.3.0 d\nready\n"},
    {.name = "silent_among_recipients",
     .transactions = 1,
     .recipients = 3,
     .steps = {GREET, PIPE, {BATCH3, ACT_SAY, "250 m\r\n250 a\r\n"}, {"", ACT_TIMEOUT, "4990"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 a\nrcpt 1 TIMEOUT at RCPT no reply in time at RCPT\n"
               "rcpt 2 TIMEOUT at RCPT no reply in time at RCPT\n"
               "done TIMEOUT at RCPT no reply in time at RCPT\n"
               "end TIMEOUT at RCPT no reply in time at RCPT\n"},
    {.name = "all_refused_then_closes",
     .transactions = 1,
     .steps = {GREET, PIPE, {BATCH1, ACT_SAY, "250 m\r\n550 a\r\n"}, {"", ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 REPLY at RCPT 550 a\ndone REPLY at RCPT 550 a\n"
               "end CLOSED at DATA connection lost at DATA: eof\n"},
    {.name = "one_reply_too_many",
     .transactions = 1,
     .steps = {GREET, PIPE, {BATCH1, ACT_SAY, "250 m\r\n250 a\r\n354 go\r\n250 ok\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 a\ngo\n"
               "done PROTOCOL at final dot unsolicited reply 250 at final dot: ok\n"
               "end PROTOCOL at final dot unsolicited reply 250 at final dot: ok\n"},
    {.name = "pipelining_spelt_oddly",
     .transactions = 1,
     .steps = {GREET,
               {EHLO, ACT_SAY, "250-PIPELINING\r\n250- PipeLining\t\r\n250 SIZE=5\r\n"},
               END(BATCH1)},
     .events = "ready\n"},
    {.name = "first_ehlo_line_is_no_keyword",
     .transactions = 1,
     .steps = {GREET, {EHLO, ACT_SAY, "250-PIPELINING\r\n250 HELP\r\n"}, END(MAIL)},
     .events = "ready\n"},
};

static void pipelined(void **state)
{
    (void)state;
    RUN_ALL(pipelined_dialogues);
}

/* ---- content and the final dot ---- */

#define HALF "S: t\r\n\r\n"
#define TAIL "..dot\r\n.\r\n"

static const struct dialogue content_dialogues[] = {
    {.name = "closes_after_the_dot",
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {TEXT, ACT_DRAINED, ""}, {"", ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done CLOSED at final dot connection lost at final dot: eof\n"
               "end CLOSED at final dot connection lost at final dot: eof\n"},
    {.name = "silent_after_the_dot",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               IN_STEP,
               {TEXT, ACT_PROGRESS, ""},
               {"", ACT_DRAINED, ""},
               {"", ACT_DRAINED, ""},
               {"", ACT_TIMEOUT, "7980"}}, /* a second drain changes nothing */
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done TIMEOUT at final dot no reply in time at final dot\n"
               "end TIMEOUT at final dot no reply in time at final dot\n"},
    {.name = "stops_reading_before_the_dot",
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {TEXT, ACT_PROGRESS, ""}, {"", ACT_TIMEOUT, "6990"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done TIMEOUT at final dot the server stopped reading the message\n"
               "end TIMEOUT at final dot the server stopped reading the message\n"},
    {.name = "stops_reading_the_content",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_PROGRESS, ""}, {"", ACT_TIMEOUT, "6990"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done TIMEOUT at message content the server stopped reading the message\n"
               "end TIMEOUT at message content the server stopped reading the message\n"},
    {.name = "closes_in_the_content",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_CLOSE, "reset"}, {"", ACT_FINISH, ""}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done CLOSED at message content connection lost at message content: reset\n"
               "end CLOSED at message content connection lost at message content: reset\n"},
    {.name = "content_in_pieces",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               IN_STEP,
               {HALF, ACT_DRAINED, ""},
               {"", ACT_FINISH, ""},
               {TAIL, ACT_DRAINED, ""},
               {"", ACT_SAY, OK}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone ok at final dot 250 ok\nready\n"},
    {.name = "refuses_552_in_the_content",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps =
         {GREET, PLAIN, IN_STEP, {HALF, ACT_SAY, "552 5.3.4 too big\r\n"}, {"", ACT_FINISH, ""}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done REPLY at message content 552 5.3.4 too big\n"
               "end REPLY at message content 552 5.3.4 too big\n"},
    {.name = "refuses_421_in_the_content",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_SAY, "421 4.3.0 bye\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone REPLY at message content 421 4.3.0 bye\n"
               "end REPLY at message content 421 4.3.0 bye\n"},
    {.name = "accepts_250_in_the_content",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_SAY, "250 ok\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done PROTOCOL at message content unsolicited reply 250 at message content: ok\n"
               "end PROTOCOL at message content unsolicited reply 250 at message content: ok\n"},
    {.name = "refuses_452_before_the_dot_is_out",
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {TEXT, ACT_SAY, "452 4.3.1 full\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone REPLY at final dot 452 4.3.1 full\n"
               "end REPLY at final dot 452 4.3.1 full\n"},
    {.name = "refuses_452_behind_the_354",
     .transactions = 1,
     .steps = {GREET,
               PLAIN,
               {MAIL, ACT_SAY, OK},
               {RCPT(0), ACT_SAY, OK},
               {DATA, ACT_SAY, "354 go\r\n452 full\r\n"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\ndone REPLY at final dot 452 full\n"
               "end REPLY at final dot 452 full\n"},
    {.name = "owner_gives_up",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_ABORT, "body unreadable"}, {"", ACT_TICK, ""}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done POLICY at message content 4.3.0 body unreadable\n"
               "end POLICY at message content 4.3.0 body unreadable\n"},
    {.name = "owner_gives_up_as_peer_closes",
     .owner = OWNER_HOLDS_BACK,
     .transactions = 1,
     .steps = {GREET, PLAIN, IN_STEP, {HALF, ACT_ABORT, "body unreadable"}, {"", ACT_CLOSE, "eof"}},
     .events = "ready\nrcpt 0 ok at RCPT 250 ok\ngo\n"
               "done POLICY at message content 4.3.0 body unreadable\n"
               "end POLICY at message content 4.3.0 body unreadable\n"},
};

static void content(void **state)
{
    (void)state;
    RUN_ALL(content_dialogues);
}

/* ---- refused by ourselves ---- */

#define SIZE10                                                                                     \
    {                                                                                              \
        EHLO, ACT_SAY, "250-mx\r\n250 SIZE 10\r\n"                                                 \
    }
#define TOO_BIG "POLICY at MAIL 552 5.3.4 message of 11 bytes is over the server's limit of 10\n"

static const struct dialogue refused_dialogues[] = {
    {.name = "too_big_is_not_sent",
     .transactions = 2,
     .recipients = 2,
     .size = 11,
     .steps = {GREET, SIZE10, {"", ACT_TICK, ""}, {"", ACT_TICK, ""}},
     .events = "ready\nrcpt 0 " TOO_BIG "rcpt 1 " TOO_BIG "done " TOO_BIG "ready\nrcpt 0 " TOO_BIG
               "rcpt 1 " TOO_BIG "done " TOO_BIG "ready\n"},
    {.name = "too_big_and_421",
     .transactions = 1,
     .size = 11,
     .steps = {GREET, SIZE10, {"", ACT_SAY, "421 bye\r\n"}},
     .events = "ready\nrcpt 0 " TOO_BIG "done " TOO_BIG "ready\nend REPLY at MAIL 421 bye\n"},
    {.name = "just_fits",
     .transactions = 1,
     .size = 10,
     .steps = {GREET, SIZE10, END("MAIL FROM:<s@x> SIZE=10\r\n")},
     .events = "ready\n"},
    {.name = "size_zero_is_no_limit",
     .transactions = 1,
     .size = 11,
     .steps = {GREET,
               {EHLO, ACT_SAY, "250-mx\r\n250 SIZE 0\r\n"},
               END("MAIL FROM:<s@x> SIZE=11\r\n")},
     .events = "ready\n"},
    {.name = "size_unreadable_is_no_limit",
     .transactions = 1,
     .size = 11,
     .steps = {GREET,
               {EHLO, ACT_SAY, "250-mx\r\n250 SIZE -1\r\n"},
               END("MAIL FROM:<s@x> SIZE=11\r\n")},
     .events = "ready\n"},
    {.name = "nothing_offered_nothing_used",
     .transactions = 1,
     .size = 11,
     .body_8bit = true,
     .steps = {GREET, PLAIN, END(MAIL)},
     .events = "ready\n"},
};

static void refused(void **state)
{
    (void)state;
    RUN_ALL(refused_dialogues);
}

/* A damaged store must not write commands into the peer's session. */
static void address_with_crlf_is_never_sent(void **state)
{
    (void)state;
    static const struct dialogue dialogue = {.name = "address_with_crlf"};
    static const struct {
        const char *sender, *recipient;
    } bad[] = {
        {"s@x>\r\nRCPT TO:<v@x", "r@x"}, {"s@x", "r@x\nDATA"}, {"s@x", ""}, {"s@x", "\x7f@x"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct world world;
        begin(&world, &dialogue);
        say(&world, "220 mx\r\n", false);
        buf_clear(smtp_client_output(world.client));
        say(&world, "250 mx\r\n", false);
        world.transaction.sender = str_from(bad[i].sender);
        world.recipients[0] = str_from(bad[i].recipient);
        smtp_client_send(world.client, &world.transaction, world.now_ms);
        assert_int_equal(buf_len(smtp_client_output(world.client)), 0);
        smtp_client_timeout(world.client, world.now_ms);
        assert_non_null(strstr(world.log, "done POLICY at MAIL the envelope holds an address"));
        assert_true(smtp_client_ready(world.client));
        smtp_client_free(&world.client);
    }
}

/* ---- bounds ---- */

/* 5,000 recipients: the envelope goes out in parts of some 128 KiB, all replies find their
 * recipient. */
static void long_envelope_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    static const struct dialogue dialogue = {.name = "long_envelope"};
    static char names[COUNT][300];
    static struct str recipients[COUNT];
    static const char ok[] = "250 ok\r\n";
    struct world world;
    world_ready(&world, &dialogue, "250-mx\r\n250 PIPELINING\r\n");
    for (size_t i = 0; i < COUNT; i++) {
        int len = snprintf(names[i], sizeof names[i], "%0250zu@x", i);
        recipients[i] = (struct str){names[i], (size_t)len};
    }
    world.transaction.recipients = recipients;
    world.transaction.recipient_count = COUNT;
    smtp_client_send(world.client, &world.transaction, world.now_ms);

    size_t commands = 0, turns = 0, replied = 0;
    while (commands < COUNT + 2 && turns++ < 100) {
        struct buf *output = smtp_client_output(world.client);
        struct str bytes = buf_str(output);
        assert_true(bytes.len > 0 && bytes.len < (size_t)129 * 1024);
        for (size_t i = 0; i < bytes.len; i++)
            commands += bytes.p[i] == '\n';
        assert_true(commands < COUNT + 2 || str_ends_nocase(bytes, STR("DATA\r\n")));
        buf_consume(output, bytes.len);
        if (turns % 2 == 0) /* either the kernel's progress or a reply lets it go on */
            smtp_client_progress(world.client, true, world.now_ms);
        else
            for (; replied < commands && replied < COUNT; replied++)
                smtp_client_input(world.client, ok, strlen(ok), world.now_ms);
    }
    assert_true(turns > 5 && turns < 30);
    for (world.log[0] = '\0'; replied < COUNT + 1; replied++) {
        world.log[0] = '\0';
        smtp_client_input(world.client, ok, strlen(ok), world.now_ms);
    }
    assert_string_equal(world.log, "rcpt 4999 ok at RCPT 250 ok\n");
    say(&world, GO, false);
    assert_non_null(strstr(world.log, "go\n"));
    smtp_client_free(&world.client);
}

/* A message of lone dots doubles; the output stays bounded and says when it has had enough. */
static void content_output_is_bounded(void **state)
{
    (void)state;
    static const struct dialogue dialogue = {
        .name = "content_bounded", .owner = OWNER_HOLDS_BACK, .transactions = 1};
    static const char line[] = {'.', '\r', '\n'};
    static char dots[SMTP_CLIENT_CONTENT_MAX];
    for (size_t i = 0; i + 2 < sizeof dots; i += 3)
        memcpy(dots + i, line, sizeof line);
    dots[sizeof dots - 1] = '.';
    struct world world;
    world_ready(&world, &dialogue, "250-mx\r\n250 PIPELINING\r\n");
    buf_clear(smtp_client_output(world.client));
    say(&world, "250 m\r\n250 a\r\n354 go\r\n", false);

    assert_true(smtp_client_content(world.client, dots, (size_t)200 * 1024));
    assert_false(smtp_client_content(world.client, dots, 1));
    buf_clear(smtp_client_output(world.client));
    assert_true(smtp_client_content(world.client, dots, sizeof dots));
    assert_false(smtp_client_content(world.client, dots, 1));
    assert_false(smtp_client_awaits_dot(world.client));
    smtp_client_content_end(world.client, world.now_ms);
    assert_true(smtp_client_awaits_dot(world.client));
    struct str tail = buf_str(smtp_client_output(world.client));
    assert_true(str_ends_nocase(tail, STR("\r\n.\r\n")));
    assert_true(tail.len < (size_t)600 * 1024);
    smtp_client_free(&world.client);
}

/* The dot's own timer starts only with the last byte: a peer that drains slowly is not late. */
static void slow_reader_restarts_the_block_timer(void **state)
{
    (void)state;
    static const struct dialogue dialogue = {.name = "slow_reader", .transactions = 1};
    struct world world;
    world_ready(&world, &dialogue, "250-mx\r\n250 PIPELINING\r\n");
    buf_clear(smtp_client_output(world.client));
    say(&world, "250 m\r\n250 a\r\n354 go\r\n", false);
    for (int i = 0; i < 100; i++) {
        world.now_ms += timers.block_ms - 1;
        smtp_client_timeout(world.client, world.now_ms);
        assert_false(world.ended);
        /* "drained" while the output still holds bytes is not the last byte */
        smtp_client_progress(world.client, true, world.now_ms);
        assert_int_equal(smtp_client_deadline(world.client), world.now_ms + timers.block_ms);
    }
    buf_clear(smtp_client_output(world.client));
    smtp_client_progress(world.client, true, world.now_ms);
    assert_int_equal(smtp_client_deadline(world.client), world.now_ms + timers.dot_ms);
    smtp_client_free(&world.client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lockstep),
        cmocka_unit_test(pipelined),
        cmocka_unit_test(content),
        cmocka_unit_test(refused),
        cmocka_unit_test(address_with_crlf_is_never_sent),
        cmocka_unit_test(long_envelope_is_bounded),
        cmocka_unit_test(content_output_is_bounded),
        cmocka_unit_test(slow_reader_restarts_the_block_timer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
