/* mta/smtp/server_auth.c - the line exchange of AUTH, without knowing any mechanism. RFC 4954. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/server_private.h"

static bool is_base64_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* RFC 4648 section 4: whole groups of four, padded at the end only. */
static bool is_base64(struct str text)
{
    size_t padding = 0;

    if (text.len % 4 != 0)
        return false;
    while (padding < 2 && padding < text.len && text.p[text.len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.len - padding; i++) {
        if (!is_base64_byte(text.p[i]))
            return false;
    }
    return true;
}

/* Up to the next space. */
static struct str first_word(struct str text)
{
    const char *space = memchr(text.p, ' ', text.len);

    return (struct str){text.p, space != NULL ? (size_t)(space - text.p) : text.len};
}

static bool offered(const struct smtp_server *server, struct str mechanism)
{
    struct str rest = str_from(server->auth.mechanisms);

    while (rest.len > 0) {
        struct str word = first_word(rest);
        if (word.len > 0 && str_equal_nocase(word, mechanism))
            return true;
        rest = str_skip(rest, word.len + 1);
    }
    return false;
}

const char *server_auth_mechanisms(const struct smtp_server *server)
{
    bool hidden = server->options.require_starttls && !server->tls;

    return hidden ? NULL : server->auth.mechanisms;
}

static void refuse_unoffered(struct smtp_server *server)
{
    if (server->options.auth_after_tls && !server->tls)
        server_reply_fault(server, 538, "5.7.11 Use STARTTLS first: no passwords in clear");
    else
        server_reply_fault(server, 502, "5.5.1 AUTH not available");
}

void server_auth(struct smtp_server *server, struct str args)
{
    struct str mechanism = first_word(args);
    struct str initial = str_trim(str_skip(args, mechanism.len));
    bool given = initial.len > 0;

    if (server_auth_mechanisms(server) == NULL) {
        refuse_unoffered(server);
    } else if (server->auth.done) {
        server_reply_fault(server, 503, "5.5.1 Already authenticated");
    } else if (mechanism.len == 0) {
        server_reply_fault(server, 501, "5.5.4 Syntax: AUTH mechanism [initial-response]");
    } else if (!offered(server, mechanism)) {
        server_reply_fault(server, 504, "5.5.4 Mechanism not available, EHLO lists those that are");
    } else {
        if (str_equal(initial, STR("="))) /* an empty response, RFC 4954 section 4 */
            initial.len = 0;
        if (!is_base64(initial)) {
            server_reply_fault(server, 501, "5.5.2 Initial response is not base64");
            return;
        }
        server_set_state(server, SERVER_AUTH_ANSWER);
        server->events.on_auth(mechanism, given ? &initial : NULL, server->ctx);
    }
}

static void cancel(struct smtp_server *server, uint16_t code, const char *text)
{
    server_set_state(server, SERVER_READY);
    server->events.on_auth_cancel(server->ctx);
    server_reply_fault(server, code, text);
}

void server_auth_line(struct smtp_server *server, struct str line)
{
    if (str_equal(line, STR("*"))) {
        cancel(server, 501, "5.7.0 Authentication cancelled");
    } else if (!is_base64(line)) {
        cancel(server, 501, "5.5.2 Response is not base64");
    } else {
        server_set_state(server, SERVER_AUTH_ANSWER);
        server->events.on_auth_response(line, server->ctx);
    }
}

void server_auth_line_fault(struct smtp_server *server, uint16_t code, const char *text)
{
    cancel(server, code, text);
}

void smtp_server_offer_auth(struct smtp_server *server, const char *mechanisms)
{
    free(server->auth.mechanisms);
    server->auth.mechanisms = NULL;
    if (mechanisms != NULL && mechanisms[0] != '\0')
        server->auth.mechanisms = str_dup(str_from(mechanisms));
}

void smtp_server_auth_challenge(struct smtp_server *server, struct str base64)
{
    assert(server->state == SERVER_AUTH_ANSWER);
    assert(base64.len <= SMTP_AUTH_LINE_MAX);
    server_set_state(server, SERVER_AUTH_RESPONSE);
    if (!buf_printf(&server->output, "334 %.*s\r\n", (int)base64.len,
                    base64.len > 0 ? base64.p : ""))
        server_end(server);
    server_go_on(server);
}

void smtp_server_auth_end(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    assert(server->state == SERVER_AUTH_ANSWER);
    assert(verdict->code == 0 || verdict->code == 235 || verdict->code >= 400);
    server_set_state(server, SERVER_READY);
    if (verdict->code < 400) {
        server->auth.done = true;
        server_reply(server, 235,
                     verdict->code != 0 ? verdict->text : "2.7.0 Authentication succeeded");
    } else if (++server->auth.failures > SMTP_AUTH_FAILURES_MAX) {
        server_reply(server, 421, "4.7.0 Too many failed logins");
    } else {
        server_reply(server, verdict->code, verdict->text);
    }
    server_go_on(server);
}

bool smtp_server_auth_pending(const struct smtp_server *server)
{
    return server->state == SERVER_AUTH_ANSWER;
}
