/* tests/fuzz/fuzz_smtp_client.c - the client session against any server. The input is the server's
 * text; a byte below 0x10 that is neither TAB, LF nor CR is not sent but done: a timeout, a close,
 * a handshake ... Checked at every turn: the contract of the events, and that no command reaches
 * the wire which the server may not see then. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECIPIENTS 3
#define MESSAGE    "Subject: x\r\n\r\n.\r\n..text\r\nQUIT\r\n"
#define TURNS_MAX  4096

enum deed {
    DEED_TIMEOUT = 1,
    DEED_CLOSE,
    DEED_TLS,
    DEED_TLS_FAIL,
    DEED_PROGRESS,
    DEED_DRAINED,
    DEED_FINISH,
    DEED_ABORT,
    DEED_QUIT = 11,
    DEED_HOLD, /* the output stays where it is for a while */
    DEED_PUMP = 14,
};

struct owner {
    struct smtp_client *client;
    struct smtp_transaction transaction;
    struct str recipients[RECIPIENTS];
    uint64_t now_ms;
    size_t told;     /* recipients with a result */
    size_t accepted; /* of them */
    unsigned sent;   /* transactions begun */
    enum { OWNER_IDLE, OWNER_SENDING, OWNER_CONTENT, OWNER_ENDED } state;
    bool slow; /* content is finished by a deed */
    bool holds;
};

static void check_result(const struct smtp_result *result)
{
    assert(result->stage <= SMTP_STAGE_QUIT && result->failure <= SMTP_FAIL_POLICY);
    assert(memchr(result->reply.text, '\0', sizeof result->reply.text) != NULL);
    assert(strpbrk(result->reply.text, "\r\n") == NULL);
    if (result->failure == SMTP_FAIL_REPLY)
        assert(result->reply.code >= 400);
    if (result->failure == SMTP_FAIL_PROTOCOL || result->failure == SMTP_FAIL_TIMEOUT)
        assert(result->reply.code == 0);
}

static void on_ready(void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state == OWNER_IDLE && smtp_client_ready(owner->client));
    if (owner->sent == 4)
        return;
    owner->sent++;
    owner->told = 0;
    owner->accepted = 0;
    owner->state = OWNER_SENDING;
    smtp_client_send(owner->client, &owner->transaction, owner->now_ms);
}

static void on_starttls(void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state == OWNER_IDLE && owner->sent == 0);
}

static void on_recipient(size_t index, const struct smtp_result *result, void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state == OWNER_SENDING && index == owner->told && index < RECIPIENTS);
    check_result(result);
    owner->told++;
    owner->accepted += result->failure == SMTP_FAIL_NONE;
}

static void on_go_ahead(void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state == OWNER_SENDING && owner->told == RECIPIENTS && owner->accepted > 0);
    owner->state = OWNER_CONTENT;
    assert(smtp_client_content(owner->client, MESSAGE, strlen(MESSAGE)));
    if (!owner->slow)
        smtp_client_content_end(owner->client, owner->now_ms);
}

static void on_transaction_done(const struct smtp_result *result, void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state == OWNER_SENDING || owner->state == OWNER_CONTENT);
    assert(owner->told == RECIPIENTS);
    check_result(result);
    if (result->failure == SMTP_FAIL_NONE)
        assert(owner->state == OWNER_CONTENT && result->stage == SMTP_STAGE_DOT &&
               result->reply.code / 100 == 2);
    owner->state = OWNER_IDLE;
}

static void on_end(const struct smtp_result *result, void *ctx)
{
    struct owner *owner = ctx;
    assert(owner->state ==
           OWNER_IDLE); /* the transaction was finished off, and this is the first */
    check_result(result);
    owner->state = OWNER_ENDED;
}

static const struct smtp_client_events events = {
    on_ready, on_starttls, on_recipient, on_go_ahead, on_transaction_done, on_end,
};

static void pump(struct owner *owner)
{
    struct buf *output = smtp_client_output(owner->client);
    assert(buf_len(output) < (size_t)16 * 1024);
    buf_consume(output, buf_len(output));
}

static void finish(struct owner *owner)
{
    if (owner->state != OWNER_CONTENT || smtp_client_awaits_dot(owner->client))
        return;
    assert(smtp_client_content(owner->client, "end", 3));
    smtp_client_content_end(owner->client, owner->now_ms);
}

static void time_out(struct owner *owner)
{
    uint64_t deadline = smtp_client_deadline(owner->client);
    if (deadline != UINT64_MAX && deadline > owner->now_ms)
        owner->now_ms = deadline;
    smtp_client_timeout(owner->client, owner->now_ms);
}

static void act(struct owner *owner, enum deed deed)
{
    struct smtp_client *client = owner->client;
    switch (deed) {
    case DEED_TIMEOUT:
        time_out(owner);
        break;
    case DEED_CLOSE:
        smtp_client_closed(client, "closed", owner->now_ms);
        break;
    case DEED_TLS:
        smtp_client_tls_started(client, owner->now_ms);
        break;
    case DEED_TLS_FAIL:
        smtp_client_tls_failed(client, "failed", owner->now_ms);
        break;
    case DEED_PROGRESS:
        smtp_client_progress(client, false, owner->now_ms);
        break;
    case DEED_DRAINED:
        smtp_client_progress(client, true, owner->now_ms);
        break;
    case DEED_FINISH:
        finish(owner);
        break;
    case DEED_ABORT:
        smtp_client_content_abort(client, "aborted", owner->now_ms);
        break;
    case DEED_QUIT:
        if (smtp_client_ready(client))
            smtp_client_quit(client, owner->now_ms);
        break;
    case DEED_HOLD:
        owner->holds = true;
        break;
    case DEED_PUMP:
        owner->holds = false;
        break;
    }
}

static bool is_deed(uint8_t byte)
{
    return byte > 0 && byte < 0x10 && byte != '\t' && byte != '\n' && byte != '\r' && byte != 15;
}

/* One turn of the owner's loop: a run of the server's text, or a deed. @return bytes used */
static size_t turn(struct owner *owner, const uint8_t *data, size_t size, bool bytewise)
{
    size_t used = 1;
    owner->now_ms++;
    if (is_deed(data[0])) {
        act(owner, (enum deed)data[0]);
    } else {
        while (!bytewise && used < size && !is_deed(data[used]))
            used++;
        smtp_client_input(owner->client, (const char *)data, used, owner->now_ms);
    }
    if (!owner->holds)
        pump(owner);
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct smtp_client_options options = {
        .hostname = "me.example",
        .helo_only = (data[0] & 4) != 0,
        .greeting_ms = 1,
        .ehlo_ms = 2,
        .tls_ms = 3,
        .mail_ms = 4,
        .rcpt_ms = 5,
        .data_ms = 6,
        .block_ms = 7,
        .dot_ms = 8,
    };
    if ((data[0] & 3) == 1)
        options.tls = SMTP_CLIENT_TLS_MAY;
    else if ((data[0] & 3) == 2)
        options.tls = SMTP_CLIENT_TLS_MUST;
    struct owner owner = {
        .recipients = {STR("a@x"), STR("\"b c\"@x"), STR("c@x")},
        .slow = (data[0] & 8) != 0,
        .now_ms = 1000,
    };
    owner.transaction = (struct smtp_transaction){
        .recipients = owner.recipients,
        .recipient_count = RECIPIENTS,
        .size_bytes = 1000,
        .body_8bit = (data[0] & 16) != 0,
    };
    bool bytewise = (data[0] & 32) != 0;
    owner.client = smtp_client_new(&options, &events, &owner);
    smtp_client_start(owner.client, owner.now_ms);

    size_t at = 1;
    for (size_t turns = 0; at < size && turns < TURNS_MAX; turns++)
        at += turn(&owner, data + at, size - at, bytewise);
    /* Whatever happened, it ends when the peer has gone. */
    smtp_client_closed(owner.client, "closed", owner.now_ms);
    assert(owner.state == OWNER_ENDED);
    assert(smtp_client_deadline(owner.client) == UINT64_MAX);
    smtp_client_free(&owner.client);
    return 0;
}
