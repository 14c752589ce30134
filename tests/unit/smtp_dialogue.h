/* tests/unit/smtp_dialogue.h - dialogues of the SMTP client with a scripted server, shared by two
 * test programs. A dialogue is a table row: what the client must have written, then what the server
 * does; and the list of events the owner must have seen. Every dialogue runs with the server's
 * bytes whole and one at a time. */
#ifndef TESTS_UNIT_SMTP_DIALOGUE_H
#define TESTS_UNIT_SMTP_DIALOGUE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mta/smtp/client.h"

#define LOG_MAX 8192
#define STEPS   16

enum act {
    ACT_NONE,     /* end of the dialogue */
    ACT_SAY,      /* the server sends text */
    ACT_CLOSE,    /* the connection ends; text: detail */
    ACT_TIMEOUT,  /* nothing until the deadline, which is text ms away */
    ACT_TLS,      /* the handshake succeeds */
    ACT_TLS_FAIL, /* or not */
    ACT_QUIT,
    ACT_TICK,     /* smtp_client_timeout as the deadline "now" asks for */
    ACT_ABORT,    /* the owner cannot supply the rest */
    ACT_PROGRESS, /* the kernel took some, not all */
    ACT_DRAINED,  /* it took all */
    ACT_FINISH,   /* the owner supplies its last line and ends the content */
};

struct step {
    const char *expect; /* the client's output up to here, exactly */
    enum act act;
    const char *text;
};

enum owner { OWNER_SENDS_ALL, OWNER_HOLDS_BACK /* half of the content, then waits */ };

struct dialogue {
    const char *name;
    int tls; /* SMTP_CLIENT_TLS_... */
    bool helo_only;
    enum owner owner;
    int transactions;  /* started from on_ready */
    size_t recipients; /* of each: r0@x, r1@x ...; 0 means 1 */
    uint64_t size;
    bool body_8bit;
    struct step steps[STEPS];
    const char *events;
};

struct world {
    struct smtp_client *client;
    const struct dialogue *dialogue;
    struct smtp_transaction transaction;
    struct str recipients[8];
    char log[LOG_MAX];
    int left; /* transactions */
    uint64_t now_ms;
    bool ended;
};

static const struct smtp_client_options timers = {
    .hostname = "me.example",
    .greeting_ms = 1000,
    .ehlo_ms = 2000,
    .tls_ms = 3000,
    .mail_ms = 4000,
    .rcpt_ms = 5000,
    .data_ms = 6000,
    .block_ms = 7000,
    .dot_ms = 8000,
};

/* ---- the owner ---- */

static void note(struct world *world, const char *format, ...)
{
    assert_false(world->ended); /* no event after on_end */
    size_t at = strlen(world->log);
    va_list args;
    va_start(args, format);
    vsnprintf(world->log + at, LOG_MAX - at, format, args);
    va_end(args);
}

static void note_result(struct world *world, const char *what, const struct smtp_result *result)
{
    static const char *const failures[] = {"ok",     "REPLY", "PROTOCOL", "TIMEOUT",
                                           "CLOSED", "TLS",   "POLICY"};
    note(world, "%s %s at %s", what, failures[result->failure], smtp_stage_text(result->stage));
    if (result->reply.code != 0)
        note(world, " %d", result->reply.code);
    if (result->reply.status[0] != '\0')
        note(world, " %s", result->reply.status);
    note(world, " %s\n", result->reply.text);
}

static void on_ready(void *ctx)
{
    struct world *world = ctx;
    note(world, "ready\n");
    assert_true(smtp_client_ready(world->client));
    if (world->left == 0)
        return;
    world->left--;
    struct smtp_transaction transaction = world->transaction; /* copied by the client */
    smtp_client_send(world->client, &transaction, world->now_ms);
    memset(&transaction, 0xff, sizeof transaction);
}

static void on_starttls(void *ctx)
{
    note(ctx, "starttls\n");
}

static void on_recipient(size_t index, const struct smtp_result *result, void *ctx)
{
    char what[20];
    snprintf(what, sizeof what, "rcpt %zu", index);
    note_result(ctx, what, result);
}

static void finish_content(struct world *world)
{
    assert_true(smtp_client_content(world->client, ".dot\r\n", 6));
    smtp_client_content_end(world->client, world->now_ms);
}

static void on_go_ahead(void *ctx)
{
    struct world *world = ctx;
    note(world, "go\n");
    assert_true(smtp_client_content(world->client, "S: t\r\n\r\n", 8));
    if (world->dialogue->owner == OWNER_SENDS_ALL)
        finish_content(world);
}

static void on_transaction_done(const struct smtp_result *result, void *ctx)
{
    note_result(ctx, "done", result);
}

static void on_end(const struct smtp_result *result, void *ctx)
{
    struct world *world = ctx;
    note_result(world, "end", result);
    world->ended = true;
}

static const struct smtp_client_events events = {
    on_ready, on_starttls, on_recipient, on_go_ahead, on_transaction_done, on_end,
};

/* ---- the server ---- */

static void expect_output(struct world *world, size_t step, const char *expect)
{
    struct buf *output = smtp_client_output(world->client);
    struct str got = buf_str(output);
    if (!str_equal(got, str_from(expect)))
        fail_msg("%s, step %zu: client wrote \"%.*s\" instead of \"%s\"", world->dialogue->name,
                 step, (int)got.len, got.len > 0 ? got.p : "", expect);
    buf_consume(output, got.len);
}

static void say(struct world *world, const char *text, bool bytewise)
{
    size_t len = strlen(text);
    if (!bytewise) {
        smtp_client_input(world->client, text, len, world->now_ms);
        return;
    }
    for (size_t i = 0; i < len; i++)
        smtp_client_input(world->client, text + i, 1, world->now_ms);
}

static void time_out(struct world *world, const char *text)
{
    uint64_t deadline = smtp_client_deadline(world->client);
    if (deadline != world->now_ms + strtoull(text, NULL, 10))
        fail_msg("%s: deadline in %d ms, not %s", world->dialogue->name,
                 (int)(deadline - world->now_ms), text);
    size_t before = strlen(world->log);
    smtp_client_timeout(world->client, deadline - 1);
    assert_int_equal(strlen(world->log), before); /* not a moment too early */
    world->now_ms = deadline;
    smtp_client_timeout(world->client, deadline);
}

static void act(struct world *world, const struct step *step, bool bytewise)
{
    struct smtp_client *client = world->client;
    world->now_ms += 10;
    switch (step->act) {
    case ACT_NONE:
        break;
    case ACT_SAY:
        say(world, step->text, bytewise);
        break;
    case ACT_CLOSE:
        smtp_client_closed(client, step->text, world->now_ms);
        break;
    case ACT_TIMEOUT:
        time_out(world, step->text);
        break;
    case ACT_TLS:
        smtp_client_tls_started(client, world->now_ms);
        break;
    case ACT_TLS_FAIL:
        smtp_client_tls_failed(client, step->text, world->now_ms);
        break;
    case ACT_QUIT:
        smtp_client_quit(client, world->now_ms);
        break;
    case ACT_TICK:
        assert_int_equal(smtp_client_deadline(client), 0);
        smtp_client_timeout(client, world->now_ms);
        break;
    case ACT_ABORT:
        smtp_client_content_abort(client, step->text, world->now_ms);
        break;
    case ACT_PROGRESS:
        smtp_client_progress(client, false, world->now_ms);
        break;
    case ACT_DRAINED:
        smtp_client_progress(client, true, world->now_ms);
        break;
    case ACT_FINISH:
        finish_content(world);
        break;
    }
}

static void begin(struct world *world, const struct dialogue *dialogue)
{
    static const char *const names[] = {"r0@x", "r1@x", "r2@x", "r3@x"};
    struct smtp_client_options options = timers;
    memset(world, 0, sizeof *world);
    world->dialogue = dialogue;
    world->now_ms = 100000;
    world->left = dialogue->transactions;
    for (size_t i = 0; i < 4; i++)
        world->recipients[i] = str_from(names[i]);
    world->transaction = (struct smtp_transaction){
        .sender = str_from("s@x"),
        .recipients = world->recipients,
        .recipient_count = dialogue->recipients > 0 ? dialogue->recipients : 1,
        .size_bytes = dialogue->size,
        .body_8bit = dialogue->body_8bit,
    };
    if (dialogue->tls == SMTP_CLIENT_TLS_MAY)
        options.tls = SMTP_CLIENT_TLS_MAY;
    if (dialogue->tls == SMTP_CLIENT_TLS_MUST)
        options.tls = SMTP_CLIENT_TLS_MUST;
    options.helo_only = dialogue->helo_only;
    world->client = smtp_client_new(&options, &events, world);
    smtp_client_start(world->client, world->now_ms);
}

static void run(const struct dialogue *dialogue, bool bytewise)
{
    struct world world;
    begin(&world, dialogue);
    size_t i = 0;
    for (; i < STEPS && dialogue->steps[i].expect != NULL; i++) {
        expect_output(&world, i, dialogue->steps[i].expect);
        act(&world, &dialogue->steps[i], bytewise);
    }
    if (i > 0 && dialogue->steps[i - 1].act != ACT_NONE)
        expect_output(&world, i, "");
    if (strcmp(world.log, dialogue->events) != 0)
        fail_msg("%s%s: events\n%s instead of\n%s", dialogue->name, bytewise ? " (bytewise)" : "",
                 world.log, dialogue->events);
    smtp_client_free(&world.client);
    assert_null(world.client);
}

static void run_all(const struct dialogue *dialogues, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        run(&dialogues[i], false);
        run(&dialogues[i], true);
    }
}

#define RUN_ALL(table) run_all((table), sizeof(table) / sizeof((table)[0]))

#define EHLO "EHLO me.example\r\n"
#define HELO "HELO me.example\r\n"
#define GREET                                                                                      \
    {                                                                                              \
        "", ACT_SAY, "220 mx ESMTP\r\n"                                                            \
    }
#define PLAIN                                                                                      \
    {                                                                                              \
        EHLO, ACT_SAY, "250 mx\r\n"                                                                \
    }
#define PIPE                                                                                       \
    {                                                                                              \
        EHLO, ACT_SAY, "250-mx\r\n250 PIPELINING\r\n"                                              \
    }
#define MAIL    "MAIL FROM:<s@x>\r\n"
#define RCPT(n) "RCPT TO:<r" #n "@x>\r\n"
#define DATA    "DATA\r\n"
#define TEXT    "S: t\r\n\r\n..dot\r\n.\r\n"
#define QUIT    "QUIT\r\n"
#define END(output)                                                                                \
    {                                                                                              \
        (output), ACT_NONE, NULL                                                                   \
    }

#define OK "250 ok\r\n"
#define GO "354 go\r\n"
#define IN_STEP                                                                                    \
    {MAIL, ACT_SAY, OK}, {RCPT(0), ACT_SAY, OK},                                                   \
    {                                                                                              \
        DATA, ACT_SAY, GO                                                                          \
    }

#define BATCH1 MAIL RCPT(0) DATA
#define BATCH3 MAIL RCPT(0) RCPT(1) RCPT(2) DATA

/* As far as a session that is ready, with the transactions of the dialogue begun. */
static inline void world_ready(struct world *world, const struct dialogue *dialogue,
                               const char *ehlo)
{
    begin(world, dialogue);
    say(world, "220 mx\r\n", false);
    buf_clear(smtp_client_output(world->client));
    say(world, ehlo, false);
}

#endif
