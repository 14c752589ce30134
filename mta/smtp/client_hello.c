/* mta/smtp/client_hello.c - from the greeting to a session that is ready: EHLO or HELO, what the
 * server offers, STARTTLS. RFC 5321 section 3.2, RFC 3207. */
#include "mta/smtp/client.h"
#include "mta/smtp/client_private.h"

void client_send_ehlo(struct smtp_client *client, uint64_t now_ms)
{
    client->offered = 0;
    client->size_limit = 0;
    client->ehlo_lines = 0;
    client->ehlo_refusal.code = 0;
    client_set_state(client, STATE_HELLO);
    client_command(client, COMMAND_EHLO, now_ms, "EHLO %s\r\n", client->hostname);
}

/* HELO brings no extensions, hence no STARTTLS: where TLS is required this is the end. */
static void send_helo(struct smtp_client *client, uint64_t now_ms)
{
    client->offered = 0;
    if (client->options.tls == SMTP_CLIENT_TLS_MUST && !client->encrypted) {
        struct smtp_result result;
        if (client->ehlo_refusal.code == 0)
            client_result_text(&result, SMTP_FAIL_POLICY, SMTP_STAGE_STARTTLS,
                               "TLS is required, but the server takes HELO only");
        else
            client_result_text(&result, SMTP_FAIL_POLICY, SMTP_STAGE_STARTTLS,
                               "TLS is required, but the server refused EHLO with %u",
                               (unsigned)client->ehlo_refusal.code);
        client_end(client, &result);
        return;
    }
    client_set_state(client, STATE_HELLO);
    client_command(client, COMMAND_HELO, now_ms, "HELO %s\r\n", client->hostname);
}

void client_greeting_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    if (client->options.helo_only)
        send_helo(client, now_ms);
    else
        client_send_ehlo(client, now_ms);
}

static void note_size(struct smtp_client *client, struct str value)
{
    client->offered |= EXTENSION_SIZE;
    if (!str_parse_u64(value, UINT64_MAX, &client->size_limit))
        client->size_limit = 0; /* none, or unreadable: no limit known (RFC 1870 section 4) */
}

/* One line of the reply to EHLO: "KEYWORD" or "KEYWORD parameters" (RFC 5321 section 4.1.1.1). */
void client_note_extension(struct str line, void *ctx)
{
    struct smtp_client *client = ctx;
    if (client->ehlo_lines++ == 0)
        return; /* the server's name and greeting */

    line = str_trim(line);
    size_t end = 0;
    while (end < line.len && line.p[end] != ' ' && line.p[end] != '\t')
        end++;
    struct str keyword = {line.p, end};
    if (str_equal_nocase(keyword, STR("PIPELINING")))
        client->offered |= EXTENSION_PIPELINING;
    else if (str_equal_nocase(keyword, STR("8BITMIME")))
        client->offered |= EXTENSION_8BITMIME;
    else if (str_equal_nocase(keyword, STR("STARTTLS")))
        client->offered |= EXTENSION_STARTTLS;
    else if (str_equal_nocase(keyword, STR("SIZE")))
        note_size(client, str_trim(str_skip(line, end)));
}

void client_ehlo_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    bool wants_tls = !client->encrypted && client->options.tls != SMTP_CLIENT_TLS_OFF;
    if (wants_tls && (client->offered & EXTENSION_STARTTLS) != 0) {
        client_set_state(client, STATE_STARTTLS);
        client_command(client, COMMAND_STARTTLS, now_ms, "STARTTLS\r\n");
    } else if (wants_tls && client->options.tls == SMTP_CLIENT_TLS_MUST) {
        struct smtp_result result;
        client_result_text(&result, SMTP_FAIL_POLICY, SMTP_STAGE_STARTTLS,
                           "TLS is required, but the server does not offer STARTTLS");
        client_end(client, &result);
    } else {
        client_become_ready(client);
    }
}

/* 5xx: a server that knows HELO only. 4xx is an answer, not a lack. */
void client_ehlo_refused(struct smtp_client *client, const struct smtp_reply *reply,
                         uint64_t now_ms)
{
    if (reply->code >= 500) {
        client->ehlo_refusal = *reply;
        send_helo(client, now_ms);
        return;
    }
    struct smtp_result result;
    client_result_reply(&result, SMTP_STAGE_EHLO, reply);
    client_end(client, &result);
}

void client_helo_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    (void)now_ms;
    client_become_ready(client);
}

void client_starttls_ok(struct smtp_client *client, const struct smtp_reply *reply, uint64_t now_ms)
{
    (void)reply;
    client_set_state(client, STATE_TLS);
    client_arm(client, client->options.tls_ms, now_ms);
    client->events->on_starttls(client->ctx);
}

void client_starttls_refused(struct smtp_client *client, const struct smtp_reply *reply,
                             uint64_t now_ms)
{
    (void)now_ms;
    if (client->options.tls == SMTP_CLIENT_TLS_MAY) {
        client_become_ready(client);
        return;
    }
    struct smtp_result result;
    client_result_reply(&result, SMTP_STAGE_STARTTLS, reply);
    client_end(client, &result);
}
