/* mta/smtp/client_transaction.c - the client's mail transaction: MAIL, RCPT, DATA, content, the
 * reply to the dot. RFC 5321 section 3.3, RFC 2920 (what may go in one write), RFC 1870 (SIZE), RFC
 * 6152 (8BITMIME). */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "mta/smtp/client.h"
#include "mta/smtp/client_private.h"

/* No more content is taken above the first; a longer envelope goes on when it is below the second.
 */
#define OUTPUT_HIGH_BYTES   ((size_t)256 * 1024)
#define ENVELOPE_HIGH_BYTES ((size_t)128 * 1024)
#define ADDRESS_MAX         512 /* RFC 5321 section 4.5.3.1.3 says 256; the field sends more */

/* ---- the owner's results ---- */

static void report(struct smtp_client *client, const struct smtp_result *result)
{
    size_t index = client->transaction.reported++;
    client->events->on_recipient(index, result, client->ctx);
}

static void report_rest(struct smtp_client *client, const struct smtp_result *result)
{
    while (client->transaction.reported < client->transaction.what.recipient_count)
        report(client, result);
}

static void tell_done(struct smtp_client *client, const struct smtp_result *result)
{
    client->transaction.what.recipient_count = 0;
    client->events->on_transaction_done(result, client->ctx);
}

void client_abandon_transaction(struct smtp_client *client, const struct smtp_result *result)
{
    struct client_transaction *transaction = &client->transaction;
    if (transaction->what.recipient_count == 0)
        return;
    bool all_refused =
        transaction->reported == transaction->what.recipient_count && transaction->accepted == 0;
    report_rest(client, result);
    tell_done(client, all_refused ? &transaction->failure : result);
}

/* Nobody gets the message. A server that took MAIL must be told to forget it. */
static void finish_refused(struct smtp_client *client, uint64_t now_ms)
{
    bool reset = client->transaction.mail == MAIL_ACCEPTED;
    if (reset) {
        client_set_state(client, STATE_RSET);
        tell_done(client, &client->transaction.failure);
        client_command(client, COMMAND_RSET, now_ms, "RSET\r\n");
    } else {
        tell_done(client, &client->transaction.failure);
        client_become_ready(client);
    }
}

/* ---- the envelope ---- */

static void send_mail(struct smtp_client *client, uint64_t now_ms)
{
    const struct smtp_transaction *what = &client->transaction.what;
    char size[32] = "";
    if ((client->offered & EXTENSION_SIZE) != 0 && what->size_bytes > 0)
        snprintf(size, sizeof size, " SIZE=%" PRIu64, what->size_bytes);
    bool body = what->body_8bit && (client->offered & EXTENSION_8BITMIME) != 0;
    client_command(client, COMMAND_MAIL, now_ms, "MAIL FROM:<%.*s>%s%s\r\n", (int)what->sender.len,
                   what->sender.p, size, body ? " BODY=8BITMIME" : "");
}

static void send_rcpt(struct smtp_client *client, uint64_t now_ms)
{
    struct str recipient = client->transaction.what.recipients[client->transaction.sent++];
    client_command(client, COMMAND_RCPT, now_ms, "RCPT TO:<%.*s>\r\n", (int)recipient.len,
                   recipient.p);
}

/* One command at a time, or as much as the output takes where PIPELINING is offered. */
static bool may_send(const struct smtp_client *client)
{
    if ((client->offered & EXTENSION_PIPELINING) == 0)
        return client->sent_count == 0;
    return buf_len(&client->output) < ENVELOPE_HIGH_BYTES;
}

static void send_envelope(struct smtp_client *client, uint64_t now_ms)
{
    struct client_transaction *transaction = &client->transaction;
    size_t count = transaction->what.recipient_count;
    while (transaction->next != NEXT_NOTHING && may_send(client)) {
        switch (transaction->next) {
        case NEXT_MAIL:
            send_mail(client, now_ms);
            transaction->next = NEXT_RCPT;
            break;
        case NEXT_RCPT:
            send_rcpt(client, now_ms);
            if (transaction->sent == count)
                transaction->next = NEXT_DATA;
            break;
        case NEXT_DATA:
            /* Without a recipient there is nothing to send. */
            if (transaction->reported < count || transaction->accepted > 0)
                client_command(client, COMMAND_DATA, now_ms, "DATA\r\n");
            transaction->next = NEXT_NOTHING;
            break;
        case NEXT_NOTHING:
            break;
        }
    }
}

/* After each reply: more of the envelope, or the end of a transaction that came to nothing. */
static void advance(struct smtp_client *client, uint64_t now_ms)
{
    send_envelope(client, now_ms);
    if (client->sent_count == 0 && client->transaction.next == NEXT_NOTHING)
        finish_refused(client, now_ms);
}

void client_mail_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    client->transaction.mail = MAIL_ACCEPTED;
    advance(client, now_ms);
}

void client_mail_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms)
{
    struct client_transaction *transaction = &client->transaction;
    transaction->mail = MAIL_REFUSED;
    transaction->next = NEXT_NOTHING;
    client_result_reply(&transaction->failure, SMTP_STAGE_MAIL, reply);
    report_rest(client, &transaction->failure);
    advance(client, now_ms);
}

void client_rcpt_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    struct smtp_result result;
    if (client->transaction.mail == MAIL_REFUSED) {
        /* Out of step: going on could hand it an empty message for this recipient. */
        client_result_text(&result, SMTP_FAIL_PROTOCOL, SMTP_STAGE_RCPT,
                           "RCPT was accepted after MAIL was refused");
        client_end(client, &result);
        return;
    }
    client_result_reply(&result, SMTP_STAGE_RCPT, reply);
    result.failure = SMTP_FAIL_NONE;
    client->transaction.accepted++;
    report(client, &result);
    advance(client, now_ms);
}

void client_rcpt_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms)
{
    if (client->transaction.mail != MAIL_REFUSED) { /* else it has its result */
        client_result_reply(&client->transaction.failure, SMTP_STAGE_RCPT, reply);
        report(client, &client->transaction.failure);
    }
    advance(client, now_ms);
}

void client_data_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    if (client->transaction.accepted == 0) {
        /* Pipelined, all refused, and yet 354: a dot and nothing else (RFC 2920 section 3.1). */
        client_command(client, COMMAND_EMPTY_DOT, now_ms, ".\r\n");
        return;
    }
    client_set_state(client, STATE_CONTENT);
    client_arm(client, client->options.block_ms, now_ms);
    smtp_dot_writer_init(&client->transaction.writer);
    client->events->on_go_ahead(client->ctx);
}

void client_data_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms)
{
    if (client->transaction.accepted > 0) /* else the recipients' own failures say more */
        client_result_reply(&client->transaction.failure, SMTP_STAGE_DATA, reply);
    finish_refused(client, now_ms);
}

/* It ended the server's transaction whatever it says: no RSET. */
void client_empty_dot_answered(struct smtp_client *client, const struct smtp_reply *reply,
                               uint64_t now_ms)
{
    (void)reply;
    (void)now_ms;
    tell_done(client, &client->transaction.failure);
    client_become_ready(client);
}

/* ---- the reply to the dot ---- */

void client_dot_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)now_ms;
    struct smtp_result result;
    client_result_reply(&result, SMTP_STAGE_DOT, reply);
    result.failure = SMTP_FAIL_NONE;
    tell_done(client, &result);
    client_become_ready(client);
}

void client_dot_refused(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    struct smtp_result result;
    client_result_reply(&result, SMTP_STAGE_DOT, reply);
    if (client->state ==
        STATE_DOT_WRITING) { /* early: it has not read all, so we may be out of step */
        client_end(client, &result);
        return;
    }
    /* The reply should have ended the transaction (RFC 5321 section 4.1.1.4). Servers exist,
     * aiosmtpd after an error of its own for one, that then refuse the next, innocent MAIL: ask for
     * a clean slate. */
    client_set_state(client, STATE_RSET);
    tell_done(client, &result);
    client_command(client, COMMAND_RSET, now_ms, "RSET\r\n");
}

/* ---- what the owner calls ---- */

/* The last line of defence: submission let in no such address. */
static bool sendable(struct str address)
{
    for (size_t i = 0; i < address.len; i++)
        if ((unsigned char)address.p[i] < ' ' || address.p[i] == 0x7f)
            return false;
    return address.len <= ADDRESS_MAX;
}

static bool all_sendable(const struct smtp_transaction *what)
{
    bool good = sendable(what->sender);
    for (size_t i = 0; good && i < what->recipient_count; i++)
        good = sendable(what->recipients[i]) && what->recipients[i].len > 0;
    return good;
}

/* @return true: not to be sent at all; transaction.failure says why */
static bool refuse_ourselves(struct smtp_client *client)
{
    struct client_transaction *transaction = &client->transaction;
    uint64_t limit = client->size_limit;
    if (limit > 0 && transaction->what.size_bytes > limit) {
        client_result_text(&transaction->failure, SMTP_FAIL_POLICY, SMTP_STAGE_MAIL,
                           "message of %" PRIu64 " bytes is over the server's limit of %" PRIu64,
                           transaction->what.size_bytes, limit);
        transaction->failure.reply.code = 552;
        snprintf(transaction->failure.reply.status, sizeof transaction->failure.reply.status,
                 "5.3.4");
        return true;
    }
    if (!all_sendable(&transaction->what)) {
        client_result_text(&transaction->failure, SMTP_FAIL_POLICY, SMTP_STAGE_MAIL,
                           "the envelope holds an address that cannot be sent");
        return true;
    }
    return false;
}

void smtp_client_send(struct smtp_client *client, const struct smtp_transaction *transaction,
                      uint64_t now_ms)
{
    assert(client->state == STATE_READY && transaction->recipient_count > 0);
    client->transaction = (struct client_transaction){.what = *transaction};
    if (refuse_ourselves(client)) {
        client_set_state(client, STATE_REFUSED);
        return;
    }
    client_set_state(client, STATE_ENVELOPE);
    send_envelope(client, now_ms);
}

void client_tell_refusal(struct smtp_client *client)
{
    struct smtp_result result = client->transaction.failure;
    if (client->state == STATE_ABORTED) {
        client_end(client, &result);
        return;
    }
    report_rest(client, &result);
    tell_done(client, &result);
    client_become_ready(client);
}

static void count_output(struct smtp_client *client, size_t before, bool fits)
{
    assert(fits); /* the output's maximum has room for the longest piece */
    client->queued_total += buf_len(&client->output) - before;
}

bool smtp_client_content(struct smtp_client *client, const char *bytes, size_t len)
{
    assert(len <= SMTP_CLIENT_CONTENT_MAX);
    if (client->state != STATE_CONTENT)
        return true;
    if (buf_len(&client->output) > OUTPUT_HIGH_BYTES)
        return false;
    size_t before = buf_len(&client->output);
    bool fits = smtp_dot_write(&client->transaction.writer, bytes, len, &client->output);
    count_output(client, before, fits);
    return true;
}

void smtp_client_content_end(struct smtp_client *client, uint64_t now_ms)
{
    if (client->state != STATE_CONTENT)
        return;
    size_t before = buf_len(&client->output);
    bool fits = smtp_dot_finish(&client->transaction.writer, &client->output);
    count_output(client, before, fits);
    client_set_state(client, STATE_DOT_WRITING);
    client_expect_reply(client, COMMAND_DOT, now_ms);
    client_arm(client, client->options.block_ms,
               now_ms); /* the dot's own timer starts when it is out */
}

void smtp_client_content_abort(struct smtp_client *client, const char *detail, uint64_t now_ms)
{
    (void)now_ms;
    if (client->state != STATE_CONTENT)
        return;
    client_result_text(&client->transaction.failure, SMTP_FAIL_POLICY, SMTP_STAGE_CONTENT, "%s",
                       detail);
    snprintf(client->transaction.failure.reply.status,
             sizeof client->transaction.failure.reply.status, "4.3.0");
    client_set_state(client, STATE_ABORTED);
}

void smtp_client_progress(struct smtp_client *client, bool drained, uint64_t now_ms)
{
    if (client->state == STATE_ENVELOPE) {
        send_envelope(client, now_ms);
    } else if (client->state == STATE_DOT_WRITING && drained && buf_len(&client->output) == 0) {
        client_set_state(client, STATE_DOT);
        client_arm(client, client->options.dot_ms, now_ms);
    } else if (client->state == STATE_CONTENT || client->state == STATE_DOT_WRITING) {
        client_arm(client, client->options.block_ms, now_ms);
    }
}
