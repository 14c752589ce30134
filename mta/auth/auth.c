/* mta/auth/auth.c - the loops' side of auth.h: start and end, ports, exchanges. */
#include "mta/auth/auth.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "mta/auth/auth_private.h"

/* ---- start and end ---- */

/* Signals are the main thread's. */
static void start_thread(pthread_t *thread, void *(*run)(void *), struct auth *auth)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, auth);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        fprintf(stderr, "auth: no thread can be started: %s\n", strerror(rc));
        abort();
    }
}

struct auth *auth_new(struct log *log)
{
    struct auth *auth = mem_alloc(sizeof *auth);
    pthread_condattr_t monotonic;

    auth->log = log;
    pthread_mutex_init(&auth->lock, NULL);
    pthread_mutex_init(&auth->file_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&auth->front_wakes, &monotonic);
    pthread_cond_init(&auth->hashers_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    auth->mechanisms = mechanisms_new();
    auth->standing = standing_new();
    auth->verified = verified_new();
    password_random(&auth->key, sizeof auth->key);
    start_thread(&auth->front, auth_front_run, auth);
    for (size_t i = 0; i < AUTH_HASHERS; i++)
        start_thread(&auth->hashers[i], auth_hasher_run, auth);
    return auth;
}

void auth_free(struct auth **authp)
{
    struct auth *auth = *authp;

    *authp = NULL;
    if (auth == NULL)
        return;
    pthread_mutex_lock(&auth->lock);
    auth->stopping = true;
    pthread_cond_broadcast(&auth->front_wakes);
    pthread_cond_broadcast(&auth->hashers_wake);
    pthread_mutex_unlock(&auth->lock);
    pthread_join(auth->front, NULL);
    for (size_t i = 0; i < AUTH_HASHERS; i++)
        pthread_join(auth->hashers[i], NULL);
    /* Whose owners left while a hasher had them. */
    while (auth->inbox != NULL) {
        struct auth_exchange *exchange = auth->inbox;
        assert(exchange->cancelled);
        auth_take_out(auth, exchange);
        auth_exchange_free(auth, exchange);
    }
    assert(auth->exchange_count == 0);
    mechanisms_free(&auth->mechanisms);
    standing_free(&auth->standing);
    verified_free(&auth->verified);
    auth_users_unref(&auth->users);
    free(auth->path);
    pthread_cond_destroy(&auth->front_wakes);
    pthread_cond_destroy(&auth->hashers_wake);
    pthread_mutex_destroy(&auth->lock);
    pthread_mutex_destroy(&auth->file_lock);
    explicit_bzero(auth, sizeof *auth);
    free(auth);
}

/* ---- what is offered ---- */

void auth_mechanisms(struct auth *auth, const struct auth_client *client,
                     char text_out[AUTH_MECHANISMS_TEXT_MAX])
{
    size_t len = 0;

    pthread_mutex_lock(&auth->lock);
    struct auth_users *users = auth->users != NULL ? auth_users_ref(auth->users) : NULL;
    /* Who logs in by certificate alone is not offered it before the file that names him is read,
     * and no login of his would have that done. */
    if (client->name_count > 0)
        auth_ask_to_look(auth);
    pthread_mutex_unlock(&auth->lock);
    text_out[0] = '\0';
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        if (!mechanism_is_offered((enum mechanism_kind)i, client, users))
            continue;
        len += (size_t)snprintf(text_out + len, AUTH_MECHANISMS_TEXT_MAX - len, "%s%s",
                                len > 0 ? " " : "", mechanism_names[i]);
        assert(len < AUTH_MECHANISMS_TEXT_MAX);
    }
    auth_users_unref(&users);
}

/* ---- logins of some time ago ---- */

static bool has_same_password(const struct auth_user *a, const struct auth_user *b)
{
    return strcmp(a->hash, b->hash) == 0 &&
           memcmp(a->scram.stored_key, b->scram.stored_key, AUTH_KEY_BYTES) == 0;
}

bool auth_user_stands(struct auth *auth, struct auth_user **userp)
{
    struct auth_user *now = NULL;

    pthread_mutex_lock(&auth->lock);
    const struct auth_user *found =
        auth->users != NULL ? auth_users_find(auth->users, str_from((*userp)->name)) : NULL;
    if (found != NULL && has_same_password(found, *userp))
        now = auth_user_ref(found);
    auth_ask_to_look(auth);
    pthread_mutex_unlock(&auth->lock);
    if (now == NULL)
        return false;
    auth_user_unref(userp);
    *userp = now;
    return true;
}

/* ---- exchanges ---- */

void auth_drop_token(struct auth_exchange *exchange)
{
    if (exchange->token != NULL)
        explicit_bzero(exchange->token, exchange->token_len);
    free(exchange->token);
    exchange->token = NULL;
}

/* Lock held. */
void auth_exchange_free(struct auth *auth, struct auth_exchange *exchange)
{
    auth_drop_token(exchange);
    mechanism_free(&exchange->mechanism);
    auth_users_unref(&exchange->users);
    for (size_t i = 0; i < exchange->client.name_count; i++)
        free((char *)(uintptr_t)exchange->client.names[i]);
    free(exchange->challenge);
    free(exchange);
    auth->exchange_count--;
}

static void set_token(struct auth_exchange *exchange, struct str base64)
{
    auth_drop_token(exchange);
    /* One octet more than allowed is enough to be refused. */
    size_t len = base64.len <= AUTH_TOKEN_MAX_BYTES ? base64.len : AUTH_TOKEN_MAX_BYTES + 1;
    exchange->token = str_dup((struct str){base64.p, len});
    exchange->token_len = len;
}

static int find_kind(struct str name)
{
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        if (str_equal_nocase(name, str_from(mechanism_names[i])))
            return i;
    }
    return -1;
}

struct auth_exchange *auth_start(struct auth_port *port, const struct auth_client *client,
                                 struct str mechanism, const struct str *initial,
                                 auth_answer_fn on_answer, void *ctx)
{
    struct auth *auth = port->auth;
    struct auth_exchange *exchange = mem_alloc(sizeof *exchange);

    exchange->port = port;
    exchange->kind = find_kind(mechanism);
    exchange->on_answer = on_answer;
    exchange->ctx = ctx;
    exchange->client = *client;
    assert(client->name_count <= AUTH_CERTIFICATE_NAMES_MAX);
    for (size_t i = 0; i < client->name_count; i++)
        exchange->client.names[i] = str_dup(str_from(client->names[i]));
    if (initial != NULL)
        set_token(exchange, str_equal(*initial, STR("=")) ? STR("") : *initial);
    exchange->action = AUTH_DO_STEP;
    pthread_mutex_lock(&auth->lock);
    auth->exchange_count++;
    auth_put(auth, exchange, AUTH_IN_INBOX);
    pthread_mutex_unlock(&auth->lock);
    return exchange;
}

void auth_step(struct auth_exchange *exchange, struct str base64)
{
    struct auth *auth = exchange->port->auth;

    assert(exchange->place == AUTH_WITH_CLIENT);
    set_token(exchange, base64);
    pthread_mutex_lock(&auth->lock);
    auth_put(auth, exchange, AUTH_IN_INBOX);
    pthread_mutex_unlock(&auth->lock);
}

void auth_cancel(struct auth_exchange **exchangep)
{
    struct auth_exchange *exchange = *exchangep;

    *exchangep = NULL;
    if (exchange == NULL)
        return;
    struct auth *auth = exchange->port->auth;
    pthread_mutex_lock(&auth->lock);
    bool at_work = exchange->place == AUTH_AT_WORK ||
                   (exchange->place == AUTH_IN_INBOX && exchange->action == AUTH_DO_CONCLUDE);
    if (at_work) {
        exchange->cancelled = true;
    } else {
        auth_take_out(auth, exchange);
        auth_exchange_free(auth, exchange);
    }
    pthread_mutex_unlock(&auth->lock);
}

/* ---- ports ---- */

struct auth_port *auth_port_new(struct auth *auth, void (*notify)(void *ctx), void *ctx)
{
    struct auth_port *port = mem_alloc(sizeof *port);
    port->auth = auth;
    port->notify = notify;
    port->ctx = ctx;
    return port;
}

static const char *text_of(const struct auth_exchange *exchange)
{
    switch (exchange->answer) {
    case AUTH_CHALLENGE:
        return "";
    case AUTH_ACCEPTED:
        return "logged in";
    case AUTH_WRONG:
        return exchange->kind == MECHANISM_EXTERNAL
                   ? "the client certificate has no name of a user, or not the one asked for"
                   : "user name or password is wrong";
    case AUTH_MALFORMED:
        return "not base64, or not what this mechanism sends";
    case AUTH_UNKNOWN:
        return "this mechanism is not offered here; EHLO lists those that are";
    case AUTH_BUSY:
        return "too many logins at once for this user, this address or the server; try again in a "
               "second";
    }
    unreachable_bug();
}

static void deliver(struct auth_exchange *exchange)
{
    const struct auth_user *user =
        exchange->mechanism != NULL ? mechanism_user(exchange->mechanism) : NULL;
    struct auth_answer answer = {
        .kind = exchange->answer,
        .challenge = str_from(exchange->challenge),
        .user = exchange->answer == AUTH_ACCEPTED ? user : NULL,
        .name = user != NULL ? user->name : NULL,
        .text = text_of(exchange),
    };
    exchange->on_answer(&answer, exchange->ctx);
}

void auth_port_run(struct auth_port *port)
{
    struct auth *auth = port->auth;
    struct auth_exchange *last = NULL;
    size_t count = 0;

    pthread_mutex_lock(&auth->lock);
    port->notified = false;
    DL_COUNT2(port->answers, last, count, following);
    while (count-- > 0 && port->answers != NULL) {
        struct auth_exchange *exchange = port->answers;
        bool ends = exchange->answer != AUTH_CHALLENGE;
        auth_take_out(auth, exchange);
        exchange->place = AUTH_WITH_CLIENT;
        pthread_mutex_unlock(&auth->lock);
        deliver(exchange); /* of a challenge: may step or cancel it */
        pthread_mutex_lock(&auth->lock);
        if (ends)
            auth_exchange_free(auth, exchange);
    }
    pthread_mutex_unlock(&auth->lock);
}

void auth_port_free(struct auth_port **portp)
{
    if (*portp != NULL)
        assert((*portp)->answers == NULL);
    free(*portp);
    *portp = NULL;
}
