/* mta/smtp/client.c - the client session: life, timers, and which command a reply belongs to. See
 * client.h. client_hello.c has what the replies before READY mean, client_transaction.c those from
 * MAIL to the dot. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/log.h"
#include "mta/smtp/client.h"
#include "mta/smtp/client_private.h"

#define OUTPUT_MAX         (4 * SMTP_CLIENT_CONTENT_MAX) /* what waits, twice one piece, commands */
#define COMMAND_MAX        1500 /* two words, one path of 512 octets, parameters */
#define QUIT_TIMEOUT_MS    5000 /* courtesy only: nothing depends on the reply */
#define PEER_TEXT_MAX      256  /* how much of a peer's line goes into our own words */
#define DEADLINE_IMMEDIATE 0

typedef void (*reply_fn)(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms);

static void rset_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms);
static void quit_answered(struct smtp_client *client, const struct smtp_reply *reply,
                          uint64_t now_ms);

#define TIMEOUT(field) offsetof(struct smtp_client_options, field)

/* ok_low to ok_high is what the command hopes for; 4xx and 5xx refuse it; all else is a protocol
 * failure. */
static const struct command_row {
    enum smtp_stage stage;
    uint16_t ok_low, ok_high;
    size_t timeout; /* its uint32_t in struct smtp_client_options */
    reply_fn on_ok;
    reply_fn on_refused; /* NULL: the session ends with that reply */
} command_rows[] = {
    [COMMAND_GREETING] = {SMTP_STAGE_GREETING, 220, 220, TIMEOUT(greeting_ms), client_greeting_ok,
                          NULL},
    [COMMAND_EHLO] = {SMTP_STAGE_EHLO, 200, 299, TIMEOUT(ehlo_ms), client_ehlo_ok,
                      client_ehlo_refused},
    [COMMAND_HELO] = {SMTP_STAGE_HELO, 200, 299, TIMEOUT(ehlo_ms), client_helo_ok, NULL},
    [COMMAND_STARTTLS] = {SMTP_STAGE_STARTTLS, 220, 220, TIMEOUT(ehlo_ms), client_starttls_ok,
                          client_starttls_refused},
    [COMMAND_MAIL] = {SMTP_STAGE_MAIL, 200, 299, TIMEOUT(mail_ms), client_mail_ok,
                      client_mail_refused},
    [COMMAND_RCPT] = {SMTP_STAGE_RCPT, 200, 299, TIMEOUT(rcpt_ms), client_rcpt_ok,
                      client_rcpt_refused},
    [COMMAND_DATA] = {SMTP_STAGE_DATA, 300, 399, TIMEOUT(data_ms), client_data_ok,
                      client_data_refused},
    [COMMAND_DOT] = {SMTP_STAGE_DOT, 200, 299, TIMEOUT(dot_ms), client_dot_ok, client_dot_refused},
    [COMMAND_EMPTY_DOT] = {SMTP_STAGE_DOT, 200, 299, TIMEOUT(dot_ms), client_empty_dot_answered,
                           client_empty_dot_answered},
    [COMMAND_RSET] = {SMTP_STAGE_RSET, 200, 299, TIMEOUT(mail_ms), rset_ok, NULL},
    [COMMAND_QUIT] = {SMTP_STAGE_QUIT, 200, 399, TIMEOUT(ehlo_ms), quit_answered, quit_answered},
};
static_assert(sizeof command_rows / sizeof command_rows[0] == COMMAND_COUNT, "one row a command");

#define TO(state) (1U << STATE_##state)

static const struct state_row {
    unsigned next;         /* TO() bits; ENDED may follow on each */
    enum smtp_stage stage; /* where it stands while no command is outstanding */
} state_rows[] = {
    [STATE_NEW] = {TO(GREETING), SMTP_STAGE_CONNECT},
    [STATE_GREETING] = {TO(HELLO), SMTP_STAGE_GREETING},
    [STATE_HELLO] = {TO(HELLO) | TO(STARTTLS) | TO(READY), SMTP_STAGE_EHLO},
    [STATE_STARTTLS] = {TO(TLS) | TO(READY), SMTP_STAGE_STARTTLS},
    [STATE_TLS] = {TO(HELLO), SMTP_STAGE_TLS},
    [STATE_READY] = {TO(ENVELOPE) | TO(REFUSED) | TO(QUIT), SMTP_STAGE_MAIL},
    [STATE_REFUSED] = {TO(READY), SMTP_STAGE_MAIL},
    [STATE_ENVELOPE] = {TO(CONTENT) | TO(RSET) | TO(READY), SMTP_STAGE_MAIL},
    [STATE_CONTENT] = {TO(DOT_WRITING) | TO(ABORTED), SMTP_STAGE_CONTENT},
    [STATE_ABORTED] = {0, SMTP_STAGE_CONTENT},
    [STATE_DOT_WRITING] = {TO(DOT) | TO(READY), SMTP_STAGE_DOT},
    [STATE_DOT] = {TO(READY) | TO(RSET), SMTP_STAGE_DOT},
    [STATE_RSET] = {TO(READY), SMTP_STAGE_RSET},
    [STATE_QUIT] = {0, SMTP_STAGE_QUIT},
    [STATE_ENDED] = {0, SMTP_STAGE_QUIT},
};
static_assert(sizeof state_rows / sizeof state_rows[0] == STATE_COUNT, "one row a state");

const char *smtp_stage_text(enum smtp_stage stage)
{
    switch (stage) {
    case SMTP_STAGE_CONNECT:
        return "connect";
    case SMTP_STAGE_GREETING:
        return "greeting";
    case SMTP_STAGE_EHLO:
        return "EHLO";
    case SMTP_STAGE_HELO:
        return "HELO";
    case SMTP_STAGE_STARTTLS:
        return "STARTTLS";
    case SMTP_STAGE_TLS:
        return "TLS handshake";
    case SMTP_STAGE_MAIL:
        return "MAIL";
    case SMTP_STAGE_RCPT:
        return "RCPT";
    case SMTP_STAGE_DATA:
        return "DATA";
    case SMTP_STAGE_CONTENT:
        return "message content";
    case SMTP_STAGE_DOT:
        return "final dot";
    case SMTP_STAGE_RSET:
        return "RSET";
    case SMTP_STAGE_QUIT:
        return "QUIT";
    }
    unreachable_bug();
}

/* ---- shared with client_transaction.c ---- */

void client_set_state(struct smtp_client *client, enum client_state next)
{
    assert(next == STATE_ENDED ? client->state != STATE_ENDED
                               : (state_rows[client->state].next & (1U << next)) != 0);
    client->state = next;
}

void client_arm(struct smtp_client *client, uint32_t timeout_ms, uint64_t now_ms)
{
    client->deadline_ms = now_ms + timeout_ms;
}

static void arm_oldest(struct smtp_client *client, uint64_t now_ms)
{
    enum client_command oldest = client->sent[client->sent_first].command;
    uint32_t timeout_ms;
    memcpy(&timeout_ms, (const char *)&client->options + command_rows[oldest].timeout,
           sizeof timeout_ms);
    if (oldest == COMMAND_QUIT && timeout_ms > QUIT_TIMEOUT_MS)
        timeout_ms = QUIT_TIMEOUT_MS;
    client_arm(client, timeout_ms, now_ms);
}

void client_expect_reply(struct smtp_client *client, enum client_command command, uint64_t now_ms)
{
    if (client->sent_count == 0)
        client->sent_first = 0;
    size_t at = client->sent_first + client->sent_count;
    if (at == client->sent_capacity) {
        client->sent_capacity = at < 8 ? 8 : at * 2;
        client->sent = mem_grow(client->sent, client->sent_capacity * sizeof *client->sent);
    }
    client->sent[at] = (struct sent_command){command, client->queued_total};
    client->sent_count++;
    if (client->sent_count == 1)
        arm_oldest(client, now_ms);
}

void client_command(struct smtp_client *client, enum client_command command, uint64_t now_ms,
                    const char *format, ...)
{
    char line[COMMAND_MAX];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    assert(len > 0 && (size_t)len < sizeof line); /* addresses and names were checked for length */
    bool fits = buf_add(&client->output, line, (size_t)len);
    assert(fits);
    client->queued_total += (size_t)len;
    client_expect_reply(client, command, now_ms);
}

void client_result_reply(struct smtp_result *result, enum smtp_stage stage,
                         const struct smtp_reply *reply)
{
    result->failure = SMTP_FAIL_REPLY;
    result->stage = stage;
    result->reply = *reply;
}

void client_result_text(struct smtp_result *result, enum smtp_failure failure,
                        enum smtp_stage stage, const char *format, ...)
{
    result->failure = failure;
    result->stage = stage;
    result->reply.code = 0;
    result->reply.status[0] = '\0';
    va_list args;
    va_start(args, format);
    vsnprintf(result->reply.text, sizeof result->reply.text, format, args);
    va_end(args);
}

void client_become_ready(struct smtp_client *client)
{
    client_set_state(client, STATE_READY);
    client->deadline_ms = UINT64_MAX; /* how long it may idle is the owner's matter */
    client->events->on_ready(client->ctx);
}

void client_end(struct smtp_client *client, const struct smtp_result *result)
{
    enum client_state last = client->state;
    client_set_state(client, STATE_ENDED);
    client->deadline_ms = UINT64_MAX;
    client->sent_count = 0;
    buf_clear(&client->output);
    /* A peer that only said no is left in good manners. Never within content, where it would be
     * read as text. */
    if (last <= STATE_STARTTLS && result->reply.code != 421 &&
        (result->failure == SMTP_FAIL_REPLY || result->failure == SMTP_FAIL_POLICY))
        buf_add_text(&client->output, "QUIT\r\n");
    client_abandon_transaction(client, result);
    client->events->on_end(result, client->ctx);
}

/* ---- replies that need no more than this file ---- */

static void rset_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    (void)now_ms;
    client_become_ready(client);
}

/* However the connection ends after QUIT, nothing has failed. */
static void end_after_quit(struct smtp_client *client)
{
    struct smtp_result result;
    client_result_text(&result, SMTP_FAIL_NONE, SMTP_STAGE_QUIT, "session closed");
    client_end(client, &result);
}

static void quit_answered(struct smtp_client *client, const struct smtp_reply *reply,
                          uint64_t now_ms)
{
    (void)reply;
    (void)now_ms;
    end_after_quit(client);
}

/* ---- replies ---- */

static enum smtp_stage current_stage(const struct smtp_client *client)
{
    if (client->sent_count > 0)
        return command_rows[client->sent[client->sent_first].command].stage;
    return state_rows[client->state].stage;
}

static void end_by_reply(struct smtp_client *client, enum smtp_stage stage,
                         const struct smtp_reply *reply)
{
    struct smtp_result result;
    client_result_reply(&result, stage, reply);
    client_end(client, &result);
}

static void end_by_unexpected(struct smtp_client *client, enum smtp_stage stage,
                              const struct smtp_reply *reply, const char *what)
{
    struct smtp_result result;
    char text[PEER_TEXT_MAX];
    log_escape(str_from(reply->text), text, sizeof text);
    client_result_text(&result, SMTP_FAIL_PROTOCOL, stage, "%s reply %u at %s: %s", what,
                       (unsigned)reply->code, smtp_stage_text(stage), text);
    client_end(client, &result);
}

static void end_by_garbage(struct smtp_client *client)
{
    struct smtp_result result;
    char text[PEER_TEXT_MAX];
    enum smtp_stage stage = current_stage(client);
    struct str line = {client->parser.line, client->parser.line_len};
    if (line.len > PEER_TEXT_MAX)
        line.len = PEER_TEXT_MAX;
    log_escape(line, text, sizeof text);
    client_result_text(&result, SMTP_FAIL_PROTOCOL, stage, "unreadable reply at %s: \"%s\"",
                       smtp_stage_text(stage), text);
    client_end(client, &result);
}

/* Has the oldest command left the output? Before that a reply cannot be its own, whatever it says.
 */
static bool oldest_was_sent(const struct smtp_client *client)
{
    return client->sent_count > 0 &&
           client->sent[client->sent_first].end <= client->queued_total - buf_len(&client->output);
}

/* Nobody asked. 421 may come at any time (RFC 5321 section 3.8). Within the content a refusal is
 * the final reply come early: the rest of the content would be read as commands by some, so the
 * connection is over. */
static void unasked_reply(struct smtp_client *client, const struct smtp_reply *reply)
{
    enum smtp_stage stage = current_stage(client);
    bool in_content = client->state == STATE_CONTENT || client->state == STATE_DOT_WRITING;
    if (reply->code == 421 || (in_content && reply->code >= 400))
        end_by_reply(client, stage, reply);
    else
        end_by_unexpected(client, stage, reply, "unsolicited");
}

static void answer_oldest(struct smtp_client *client, const struct smtp_reply *reply,
                          uint64_t now_ms)
{
    const struct command_row *row = &command_rows[client->sent[client->sent_first].command];
    bool session_over = reply->code == 421 && client->state != STATE_QUIT;
    client->sent_first++;
    client->sent_count--;
    if (client->sent_count > 0)
        arm_oldest(client, now_ms);

    if (reply->code >= row->ok_low && reply->code <= row->ok_high)
        row->on_ok(client, reply, now_ms);
    else if (reply->code < 400)
        end_by_unexpected(client, row->stage, reply, "unexpected");
    else if (session_over || row->on_refused == NULL)
        end_by_reply(client, row->stage, reply);
    else
        row->on_refused(client, reply, now_ms);
}

static bool awaits_ehlo(const struct smtp_client *client)
{
    return client->sent_count > 0 && client->sent[client->sent_first].command == COMMAND_EHLO;
}

static void take_replies(struct smtp_client *client, const char *bytes, size_t len, uint64_t now_ms)
{
    /* What came in clear behind the 220 to STARTTLS is forgotten (RFC 3207 section 4.2), also when
     * the owner calls smtp_client_tls_started() from inside on_starttls. */
    bool forget = false;
    while (len > 0 && !forget && client->state != STATE_TLS && client->state != STATE_ENDED) {
        size_t used = 0;
        enum smtp_reply_result result =
            smtp_reply_feed(&client->parser, bytes, len, &used,
                            awaits_ehlo(client) ? client_note_extension : NULL, client);
        bytes += used;
        len -= used;
        if (result == SMTP_REPLY_BAD) {
            end_by_garbage(client);
        } else if (result == SMTP_REPLY_DONE) {
            forget = client->state == STATE_STARTTLS && client->parser.reply.code == 220;
            if (oldest_was_sent(client))
                answer_oldest(client, &client->parser.reply, now_ms);
            else
                unasked_reply(client, &client->parser.reply);
        }
    }
}

/* ---- entry functions ---- */

struct smtp_client *smtp_client_new(const struct smtp_client_options *options,
                                    const struct smtp_client_events *events, void *ctx)
{
    struct smtp_client *client = mem_alloc(sizeof *client);
    client->options = *options;
    client->hostname = str_dup(str_from(options->hostname));
    client->options.hostname = client->hostname;
    client->events = events;
    client->ctx = ctx;
    client->state = STATE_NEW;
    client->deadline_ms = UINT64_MAX;
    smtp_reply_parser_init(&client->parser);
    buf_init(&client->output, OUTPUT_MAX);
    return client;
}

void smtp_client_free(struct smtp_client **clientp)
{
    struct smtp_client *client = *clientp;
    if (client == NULL)
        return;
    assert(!client->running);
    buf_deinit(&client->output);
    free(client->sent);
    free(client->hostname);
    free(client);
    *clientp = NULL;
}

/* Around every function that may call events. What we refused ourselves is told first.
 * @return false: the session is over, nothing more to do (leave() still) */
static bool enter(struct smtp_client *client)
{
    assert(!client->running);
    client->running = true;
    if (client->state == STATE_REFUSED || client->state == STATE_ABORTED)
        client_tell_refusal(client);
    return client->state != STATE_ENDED;
}

static void leave(struct smtp_client *client)
{
    client->running = false;
}

void smtp_client_start(struct smtp_client *client, uint64_t now_ms)
{
    client_set_state(client, STATE_GREETING);
    client_expect_reply(client, COMMAND_GREETING, now_ms);
}

void smtp_client_input(struct smtp_client *client, const char *bytes, size_t len, uint64_t now_ms)
{
    if (enter(client))
        take_replies(client, bytes, len, now_ms);
    leave(client);
}

static void end_by_close(struct smtp_client *client, const char *detail)
{
    struct smtp_result result;
    enum smtp_stage stage = current_stage(client);
    if (client->state == STATE_HELLO && client->ehlo_refusal.code != 0) {
        client_result_reply(&result, SMTP_STAGE_EHLO, &client->ehlo_refusal);
        result.failure = SMTP_FAIL_CLOSED;
    } else {
        client_result_text(&result, client->state == STATE_TLS ? SMTP_FAIL_TLS : SMTP_FAIL_CLOSED,
                           stage, "connection lost at %s: %s", smtp_stage_text(stage), detail);
    }
    client_end(client, &result);
}

void smtp_client_closed(struct smtp_client *client, const char *detail, uint64_t now_ms)
{
    (void)now_ms;
    if (enter(client)) {
        if (client->state == STATE_QUIT)
            end_after_quit(client);
        else
            end_by_close(client, detail);
    }
    leave(client);
}

uint64_t smtp_client_deadline(const struct smtp_client *client)
{
    if (client->state == STATE_REFUSED || client->state == STATE_ABORTED)
        return DEADLINE_IMMEDIATE;
    return client->deadline_ms;
}

static void end_by_timeout(struct smtp_client *client)
{
    struct smtp_result result;
    enum smtp_stage stage = current_stage(client);
    if (client->state == STATE_TLS)
        client_result_text(&result, SMTP_FAIL_TLS, stage, "the TLS handshake did not end in time");
    else if (client->state == STATE_CONTENT || client->state == STATE_DOT_WRITING)
        client_result_text(&result, SMTP_FAIL_TIMEOUT, stage,
                           "the server stopped reading the message");
    else
        client_result_text(&result, SMTP_FAIL_TIMEOUT, stage, "no reply in time at %s",
                           smtp_stage_text(stage));
    client_end(client, &result);
}

void smtp_client_timeout(struct smtp_client *client, uint64_t now_ms)
{
    if (enter(client) && now_ms >= client->deadline_ms) {
        if (client->state == STATE_QUIT)
            end_after_quit(client);
        else
            end_by_timeout(client);
    }
    leave(client);
}

void smtp_client_tls_started(struct smtp_client *client, uint64_t now_ms)
{
    if (client->state != STATE_TLS)
        return;
    smtp_reply_parser_init(&client->parser);
    buf_clear(&client->output);
    client->encrypted = true;
    client_send_ehlo(client, now_ms);
}

void smtp_client_tls_failed(struct smtp_client *client, const char *detail, uint64_t now_ms)
{
    (void)now_ms;
    if (enter(client) && client->state == STATE_TLS) {
        struct smtp_result result;
        client_result_text(&result, SMTP_FAIL_TLS, SMTP_STAGE_TLS, "%s", detail);
        client_end(client, &result);
    }
    leave(client);
}

void smtp_client_quit(struct smtp_client *client, uint64_t now_ms)
{
    assert(client->state == STATE_READY);
    client_set_state(client, STATE_QUIT);
    client_command(client, COMMAND_QUIT, now_ms, "QUIT\r\n");
}

/* ---- questions ---- */

struct buf *smtp_client_output(struct smtp_client *client)
{
    return &client->output;
}

bool smtp_client_ready(const struct smtp_client *client)
{
    return client->state == STATE_READY;
}

bool smtp_client_has_8bitmime(const struct smtp_client *client)
{
    return (client->offered & EXTENSION_8BITMIME) != 0;
}

bool smtp_client_awaits_dot(const struct smtp_client *client)
{
    return client->state == STATE_DOT_WRITING || client->state == STATE_DOT;
}
