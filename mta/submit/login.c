/* mta/submit/login.c - AUTH of one session: between the lines of smtp/ and the exchanges of auth/.
 * RFC 4954. What a client sends in an exchange is never logged, nor is a name that no user has: it
 * may be a password in the wrong place. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/submit/session_private.h"

static_assert((int)TLS_NAMES_MAX <= (int)AUTH_CERTIFICATE_NAMES_MAX,
              "all names of a certificate may log in");
static_assert((int)TLS_BINDING_MAX_BYTES <= (int)AUTH_BINDING_MAX_BYTES, "a binding fits");

struct session_names {
    struct tls_name names[TLS_NAMES_MAX];
    size_t count;
    const char *dns[TLS_NAMES_MAX]; /* those that are DNS names; trust_client borrows this */
    size_t dns_count;
};

/* ---- who is asking ---- */

static void learn_bindings(const struct session *s, struct auth_client *client)
{
    const struct tls_session *tls = stream_tls_session(s->stream);
    if (tls == NULL)
        return;
    client->exporter_len = tls_session_binding(tls, TLS_BINDING_EXPORTER, client->exporter);
    client->unique_len = tls_session_binding(tls, TLS_BINDING_UNIQUE, client->unique);
}

static void fill_client(const struct session *s, struct auth_client *client)
{
    *client = (struct auth_client){.local = trust_is_local(&s->client), .ipv6 = s->client.ipv6};
    memcpy(client->address, s->client.address, sizeof client->address);
    if (s->client.tls)
        learn_bindings(s, client);
    for (size_t i = 0; s->names != NULL && i < s->names->count; i++)
        client->names[client->name_count++] = s->names->names[i].text;
}

void login_offer(struct session *s)
{
    char mechanisms[AUTH_MECHANISMS_TEXT_MAX];
    struct auth_client client;
    if (!trust_may_log_in(s->listener, &s->client))
        return; /* TLS forgets what was offered before it */
    fill_client(s, &client);
    auth_mechanisms(s->worker->submit->auth, &client, mechanisms);
    smtp_server_offer_auth(s->server, mechanisms);
}

static void learn_names(struct session *s)
{
    struct session_names *names = mem_alloc(sizeof *names);
    names->count = tls_session_peer_names(stream_tls_session(s->stream), names->names);
    for (size_t i = 0; i < names->count; i++) {
        if (names->names[i].kind == TLS_NAME_DNS)
            names->dns[names->dns_count++] = names->names[i].text;
    }
    s->names = names;
    s->client.has_certificate = true;
    s->client.dns_names = names->dns;
    s->client.dns_name_count = names->dns_count;
}

void login_tls_started(struct session *s, const struct tls_verdict *verdict)
{
    auth_user_unref(&s->login);
    s->client.login = NULL;
    s->client.tls = true;
    if (verdict->trusted)
        learn_names(s);
    login_offer(s);
}

bool login_stands(struct session *s)
{
    if (s->login == NULL)
        return true;
    bool stands = auth_user_stands(s->worker->submit->auth, &s->login);
    s->client.login = s->login->name;
    return stands;
}

void login_free(struct session *s)
{
    auth_cancel(&s->exchange);
    auth_user_unref(&s->login);
    s->client.login = NULL;
    s->client.dns_names = NULL;
    s->client.dns_name_count = 0;
    free(s->names);
    s->names = NULL;
}

/* ---- the exchange ---- */

static void accept_login(struct session *s, const struct auth_user *user)
{
    static const struct smtp_verdict success = {0};
    s->login = auth_user_ref(user);
    s->client.login = s->login->name;
    smtp_server_auth_end(s->server, &success);
}

static void refuse_login(struct session *s, const struct auth_answer *answer, uint16_t code,
                         const char *status)
{
    struct smtp_verdict verdict = {.code = code};
    snprintf(verdict.text, sizeof verdict.text, "%s %s", status, answer->text);
    s->attempted = answer->name;
    smtp_server_auth_end(s->server, &verdict);
    s->attempted = NULL;
}

static void on_answer(const struct auth_answer *answer, void *ctx)
{
    struct session *s = ctx;
    if (answer->kind != AUTH_CHALLENGE)
        s->exchange = NULL;
    s->active_ms = time_monotonic_ms(); /* the wait was ours, not the client's */
    switch (answer->kind) {
    case AUTH_CHALLENGE:
        smtp_server_auth_challenge(s->server, answer->challenge);
        break;
    case AUTH_ACCEPTED:
        accept_login(s, answer->user);
        break;
    case AUTH_WRONG:
        refuse_login(s, answer, 535, "5.7.8");
        break;
    case AUTH_MALFORMED:
        refuse_login(s, answer, 501, "5.5.2");
        break;
    case AUTH_UNKNOWN:
        refuse_login(s, answer, 504, "5.5.4");
        break;
    case AUTH_BUSY:
        refuse_login(s, answer, 454, "4.7.0");
        break;
    }
    session_step(s);
}

void login_on_auth(struct str mechanism, const struct str *initial, void *ctx)
{
    static const struct str empty = {"=", 1}; /* as auth/ has it: RFC 4954 section 4 */
    struct session *s = ctx;
    struct auth_client client;
    fill_client(s, &client);
    s->exchange = auth_start(s->worker->auth_port, &client, mechanism,
                             initial != NULL && initial->len == 0 ? &empty : initial, on_answer, s);
}

void login_on_auth_response(struct str base64, void *ctx)
{
    struct session *s = ctx;
    auth_step(s->exchange, base64);
}

void login_on_auth_cancel(void *ctx)
{
    struct session *s = ctx;
    auth_cancel(&s->exchange);
}
