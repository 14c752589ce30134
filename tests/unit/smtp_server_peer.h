/* tests/unit/smtp_server_peer.h - an owner for server sessions under test: writes down what the
 * session says and asks, and answers by simple rules. Shared by the test_smtp_server*.c programs.
 */
#ifndef TESTS_UNIT_SMTP_SERVER_PEER_H
#define TESTS_UNIT_SMTP_SERVER_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/server.h"

enum peer_answer { ANSWER_AT_ONCE, ANSWER_LATER, ANSWER_BY_TEST };

struct peer {
    struct smtp_server *server;
    struct smtp_server_options options;
    enum peer_answer answer;
    struct buf events;  /* "hello NAME;mail A 8bit;rcpt B;data;end;..." */
    struct buf content; /* all messages, one behind the other */
    struct buf said;    /* output that was taken */
    uint64_t content_bytes;
    size_t pieces;
    bool keep_no_content;
    size_t dropped; /* bytes behind STARTTLS, with tls_at_once */
    unsigned refusals;
    char refusal[200]; /* the last: "CODE STATUS SENDER>RECIPIENT" */
    unsigned quits;
    const char *mechanisms; /* offered anew when TLS starts at once */
    bool auth_asked;        /* the answer is due later */
    char auth_response[64]; /* to what; the beginning */
    bool tls_at_once;    /* the handshake ends inside on_starttls */
    const char *shut_on; /* event name at which the owner shuts the session from inside */
};

static inline void peer_note(struct peer *peer, const char *event, struct str detail)
{
    assert_true(buf_printf(&peer->events, "%s%s%.*s;", event, detail.len > 0 ? " " : "",
                           (int)detail.len, detail.len > 0 ? detail.p : ""));
    if (peer->shut_on != NULL && strcmp(peer->shut_on, event) == 0)
        smtp_server_shut(peer->server, "4.3.2 Shutting down");
}

static inline void peer_on_hello(struct str name, bool extended, void *ctx)
{
    peer_note(ctx, extended ? "ehlo" : "helo", name);
}

static inline void peer_on_starttls(void *ctx)
{
    struct peer *peer = ctx;

    peer_note(peer, "starttls", STR(""));
    if (peer->tls_at_once) {
        peer->dropped = smtp_server_tls_started(peer->server);
        smtp_server_offer_auth(peer->server, peer->mechanisms);
    }
}

static inline void peer_verdict(struct str local, struct smtp_verdict *verdict)
{
    if (str_equal(local, STR("deny")))
        *verdict = (struct smtp_verdict){550, "5.7.1 Relaying denied"};
    if (str_equal(local, STR("later")))
        *verdict = (struct smtp_verdict){451, "4.3.0 Later"};
    if (str_equal(local, STR("leave")))
        *verdict = (struct smtp_verdict){421, "4.3.2 Go away"};
    if (str_equal(local, STR("fine")))
        *verdict = (struct smtp_verdict){251, "2.1.5 Will forward"};
    if (str_equal(local, STR("lines")))
        *verdict = (struct smtp_verdict){550, "5.1.1 a\r\n250 b\x01\xff"};
}

static inline void peer_on_mail(const struct smtp_mail *mail, struct smtp_verdict *verdict,
                                void *ctx)
{
    static const char *const rets[] = {"", " full", " hdrs"};
    char text[900];
    struct smtp_address address = {0};

    if (smtp_address_parse(mail->sender, &address))
        assert_true(str_equal(address.domain, mail->sender_domain));
    else
        assert_true(mail->smtputf8 || mail->sender_domain.len == 0);
    peer_verdict(address.local, verdict);
    snprintf(text, sizeof text, "%.*s%s", (int)mail->sender.len, mail->sender.p,
             mail->body_8bit ? " 8bit" : "");
    if (mail->declared_bytes > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %llu",
                 (unsigned long long)mail->declared_bytes);
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s%s%.*s", rets[mail->ret],
             mail->smtputf8 ? " utf8" : "", mail->requiretls ? " requiretls" : "",
             mail->envid.len > 0 ? " " : "", (int)mail->envid.len, mail->envid.p);
    peer_note(ctx, "mail", str_from(text));
}

static inline void peer_on_rcpt(const struct smtp_rcpt *rcpt, struct smtp_verdict *verdict,
                                void *ctx)
{
    char text[900];

    peer_verdict(rcpt->address.local, verdict);
    snprintf(text, sizeof text, "%.*s%s%.*s", (int)rcpt->address.whole.len, rcpt->address.whole.p,
             rcpt->orcpt.len > 0 ? " " : "", (int)rcpt->orcpt.len, rcpt->orcpt.p);
    if (rcpt->notify != 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %u", rcpt->notify);
    peer_note(ctx, "rcpt", str_from(text));
}

static inline void peer_on_data(struct smtp_verdict *verdict, void *ctx)
{
    struct peer *peer = ctx;

    if (peer->options.max_recipients == 7) /* the table's sign for a full queue */
        *verdict = (struct smtp_verdict){452, "4.3.1 Queue is full"};
    peer_note(peer, "data", STR(""));
}

static inline void peer_on_content(const char *bytes, size_t len, void *ctx)
{
    struct peer *peer = ctx;

    assert_true(len > 0);
    peer->content_bytes += len;
    peer->pieces++;
    if (!peer->keep_no_content)
        assert_true(buf_add(&peer->content, bytes, len));
    if (peer->shut_on != NULL && strcmp(peer->shut_on, "content") == 0)
        smtp_server_shut(peer->server, "4.3.2 Shutting down");
}

static inline void peer_answer_now(struct peer *peer)
{
    static const struct smtp_verdict stored = {250, "2.0.0 Ok: queued as 1"};
    smtp_server_answer(peer->server, &stored);
}

/* "OK", "LATER" and "MORE" in base64 are answered accordingly, all else is a wrong password. */
static inline void peer_answer_auth(struct peer *peer)
{
    static const struct smtp_verdict good = {0, ""};
    static const struct smtp_verdict later = {454, "4.7.0 Temporary authentication failure"};
    static const struct smtp_verdict wrong = {535, "5.7.8 Wrong name or password"};
    const char *response = peer->auth_response;

    peer->auth_asked = false;
    if (strcmp(response, "T0s=") == 0)
        smtp_server_auth_end(peer->server, &good);
    else if (strcmp(response, "TEFURVI=") == 0)
        smtp_server_auth_end(peer->server, &later);
    else if (strcmp(response, "TU9SRQ==") == 0)
        smtp_server_auth_challenge(peer->server, STR("TU9SRQ=="));
    else if (strcmp(response, "none") == 0)
        smtp_server_auth_challenge(peer->server, STR(""));
    else
        smtp_server_auth_end(peer->server, &wrong);
}

static inline void peer_take_auth(struct peer *peer, struct str response)
{
    snprintf(peer->auth_response, sizeof peer->auth_response, "%.*s", (int)response.len,
             response.len > 0 ? response.p : "");
    peer->auth_asked = true;
    if (peer->answer == ANSWER_AT_ONCE)
        peer_answer_auth(peer);
}

static inline void peer_on_auth(struct str mechanism, const struct str *initial, void *ctx)
{
    peer_note(ctx, "auth", mechanism);
    if (initial != NULL)
        peer_note(ctx, "initial", *initial);
    peer_take_auth(ctx, initial != NULL ? *initial : STR("none"));
}

static inline void peer_on_auth_response(struct str base64, void *ctx)
{
    peer_note(ctx, "response", base64);
    peer_take_auth(ctx, base64);
}

static inline void peer_on_auth_cancel(void *ctx)
{
    struct peer *peer = ctx;

    peer->auth_asked = false;
    peer_note(peer, "cancel", STR(""));
}

static inline void peer_on_content_end(bool refused, const char *reason, void *ctx)
{
    struct peer *peer = ctx;

    assert_int_equal(refused, reason[0] != '\0');
    peer_note(peer, refused ? "refused" : "end", STR(""));
    if (!refused && peer->answer == ANSWER_AT_ONCE)
        peer_answer_now(peer);
}

static inline void peer_on_reset(void *ctx)
{
    peer_note(ctx, "reset", STR(""));
}

static inline void peer_on_quit(void *ctx)
{
    struct peer *peer = ctx;

    peer->quits++;
    peer_note(peer, "quit", STR(""));
}

static inline void peer_on_refusal(const struct smtp_refusal *refusal, void *ctx)
{
    struct peer *peer = ctx;
    struct str line = refusal->line;
    uint16_t code = refusal->code;

    assert_true(code >= 400);
    assert_true(line.len > 4 && strtoul(line.p, NULL, 10) == code);
    assert_null(memchr(line.p, '\n', line.len));
    if (refusal->status.len > 0)
        assert_memory_equal(line.p + 4, refusal->status.p, refusal->status.len);
    peer->refusals++;
    snprintf(peer->refusal, sizeof peer->refusal, "%u %.*s %.*s>%.*s", (unsigned)code,
             (int)refusal->status.len, refusal->status.p, (int)refusal->sender.len,
             refusal->sender.p, (int)refusal->recipient.len, refusal->recipient.p);
    if (peer->shut_on != NULL && strcmp(peer->shut_on, "refusal") == 0)
        smtp_server_shut(peer->server, "4.3.2 Shutting down");
}

static const struct smtp_server_events peer_events = {
    .on_hello = peer_on_hello,
    .on_starttls = peer_on_starttls,
    .on_mail = peer_on_mail,
    .on_rcpt = peer_on_rcpt,
    .on_data = peer_on_data,
    .on_content = peer_on_content,
    .on_content_end = peer_on_content_end,
    .on_reset = peer_on_reset,
    .on_quit = peer_on_quit,
    .on_refusal = peer_on_refusal,
    .on_auth = peer_on_auth,
    .on_auth_response = peer_on_auth_response,
    .on_auth_cancel = peer_on_auth_cancel,
};

static inline struct smtp_server_options peer_options(void)
{
    return (struct smtp_server_options){
        .hostname = "mail.example.com",
        .banner = "ESMTP",
        .max_message_bytes = 1000000,
        .max_recipients = 100,
        .offer_starttls = true,
        .header_max = 100000,
    };
}

/* The greeting is not sent yet. */
static inline void peer_open(struct peer *peer, const struct smtp_server_options *options)
{
    *peer = (struct peer){.options = *options};
    buf_init(&peer->events, 1 << 20);
    buf_init(&peer->content, 1 << 22);
    buf_init(&peer->said, 1 << 22);
    peer->server = smtp_server_new(options, &peer_events, peer);
}

static inline void peer_greet(struct peer *peer)
{
    static const struct smtp_verdict welcome = {0, ""};
    smtp_server_greet(peer->server, &welcome);
}

static inline void peer_take(struct peer *peer)
{
    struct buf *output = smtp_server_output(peer->server);

    assert_true(buf_add_str(&peer->said, buf_str(output)));
    buf_consume(output, buf_len(output));
}

/* Gives bytes; an answer that is due later comes after them. */
static inline void peer_give(struct peer *peer, const char *bytes, size_t len)
{
    /* a copy of exact size: reading beyond it is found by the sanitizer */
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    smtp_server_input(peer->server, copy, len);
    free(copy);
    while (peer->answer == ANSWER_LATER && smtp_server_answer_pending(peer->server)) {
        assert_int_equal(smtp_server_auth_pending(peer->server), peer->auth_asked);
        if (peer->auth_asked)
            peer_answer_auth(peer);
        else
            peer_answer_now(peer);
    }
    peer_take(peer);
}

static inline void peer_give_text(struct peer *peer, const char *text)
{
    peer_give(peer, text, strlen(text));
}

static inline void peer_close(struct peer *peer)
{
    smtp_server_free(&peer->server);
    assert_null(peer->server);
    buf_deinit(&peer->events);
    buf_deinit(&peer->content);
    buf_deinit(&peer->said);
}

/* What was said since the start, its reply codes only: "220 250 ...", a multi-line reply once.
 * Every line must be a proper reply line of printable ASCII. */
static inline void peer_codes(const struct peer *peer, char *codes, size_t size)
{
    struct str said = buf_str(&peer->said);
    size_t n = 0;

    codes[0] = '\0';
    while (said.len > 0) {
        const char *lf = memchr(said.p, '\n', said.len);
        assert_non_null(lf);
        size_t len = (size_t)(lf - said.p) + 1;
        assert_true(len >= 6 && len <= 512 && said.p[len - 2] == '\r');
        for (size_t i = 0; i < len - 2; i++)
            assert_true(said.p[i] >= ' ' && said.p[i] <= '~');
        assert_true(said.p[3] == ' ' || said.p[3] == '-');
        if (said.p[3] == ' ')
            n += (size_t)snprintf(codes + n, size - n, "%s%.3s", n > 0 ? " " : "", said.p);
        assert_true(n < size);
        said = str_skip(said, len);
    }
}

static inline void peer_expect_codes(const struct peer *peer, const char *want)
{
    char codes[4096];
    peer_codes(peer, codes, sizeof codes);
    assert_string_equal(codes, want);
}

static inline void peer_expect_events(const struct peer *peer, const char *want)
{
    char events[4096];
    struct str s = buf_str(&peer->events);
    snprintf(events, sizeof events, "%.*s", (int)s.len, s.len > 0 ? s.p : "");
    assert_string_equal(events, want);
}

/* How often text stands in what was said. */
static inline unsigned peer_said(const struct peer *peer, const char *text)
{
    struct str s = buf_str(&peer->said);
    unsigned count = 0;
    const char *at = s.len > 0 ? memmem(s.p, s.len, text, strlen(text)) : NULL;
    while (at != NULL) {
        count++;
        s = str_skip(s, (size_t)(at - s.p) + 1);
        at = memmem(s.p, s.len, text, strlen(text));
    }
    return count;
}

#endif
