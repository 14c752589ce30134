/* mta/auth/auth_work.c - the threads: one that does all that is quick, in front of some that hash.
 *
 * inbox -> step -> (wait) -> check -> hash -> conclude -> (hold back) -> answers of the port */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "mta/auth/auth_private.h"
#include "mta/auth/base64.h"
#include "mta/base/time.h"

/* ---- lists ---- */

static struct auth_exchange **list_of(struct auth *auth, struct auth_exchange *exchange)
{
    switch (exchange->place) {
    case AUTH_IN_INBOX:
        return &auth->inbox;
    case AUTH_IN_TIMED:
        return &auth->timed;
    case AUTH_IN_HASHES:
        return &auth->hashes;
    case AUTH_IN_ANSWERS:
        return &exchange->port->answers;
    case AUTH_WITH_CLIENT:
    case AUTH_AT_WORK:
        return NULL;
    }
    unreachable_bug();
}

static uint64_t order_of(const struct auth_exchange *exchange)
{
    if (exchange->place == AUTH_IN_TIMED)
        return exchange->due_ms;
    return exchange->place == AUTH_IN_HASHES ? exchange->turn : 0;
}

static void insert(struct auth_exchange **list, struct auth_exchange *exchange)
{
    struct auth_exchange *before = *list != NULL ? (*list)->prev : NULL; /* the last */

    while (before != NULL && order_of(before) > order_of(exchange))
        before = before != *list ? before->prev : NULL;
    if (before == NULL)
        DL_PREPEND2(*list, exchange, prev, following);
    else
        DL_APPEND_ELEM2(*list, before, exchange, prev, following);
}

static void wake_port(struct auth_port *port)
{
    assert(port != NULL);
    if (!port->notified) {
        port->notified = true;
        port->notify(port->ctx);
    }
}

void auth_put(struct auth *auth, struct auth_exchange *exchange, enum auth_place place)
{
    exchange->place = place;
    struct auth_exchange **list = list_of(auth, exchange);
    if (list != NULL)
        insert(list, exchange);
    if (place == AUTH_IN_INBOX || place == AUTH_IN_TIMED)
        pthread_cond_signal(&auth->front_wakes);
    if (place == AUTH_IN_HASHES)
        pthread_cond_signal(&auth->hashers_wake);
    if (place == AUTH_IN_ANSWERS)
        wake_port(exchange->port);
}

void auth_take_out(struct auth *auth, struct auth_exchange *exchange)
{
    struct auth_exchange **list = list_of(auth, exchange);
    if (list != NULL)
        DL_DELETE2(*list, exchange, prev, following);
    exchange->place = AUTH_AT_WORK;
}

/* ---- the front thread: each returns where the exchange goes ---- */

static enum auth_place answer(struct auth_exchange *exchange, enum auth_answer_kind kind)
{
    exchange->answer = kind;
    exchange->action = AUTH_DO_ANSWER;
    if (exchange->mechanism != NULL)
        mechanism_forget_password(exchange->mechanism);
    return AUTH_IN_ANSWERS;
}

static struct standing_client standing_of(const struct auth_client *client)
{
    struct standing_client copy = {.local = client->local, .ipv6 = client->ipv6};
    memcpy(copy.address, client->address, sizeof copy.address);
    return copy;
}

static enum auth_place hold_back(struct auth *auth, struct auth_exchange *exchange)
{
    uint64_t now_ms = time_monotonic_ms();
    struct standing_client client = standing_of(&exchange->client);

    (void)answer(exchange, AUTH_WRONG);
    exchange->due_ms = now_ms + standing_fail(auth->standing, &client,
                                              mechanism_name(exchange->mechanism), now_ms);
    return AUTH_IN_TIMED;
}

static enum auth_place ask_client(struct auth_exchange *exchange)
{
    struct str plain = mechanism_challenge(exchange->mechanism);

    free(exchange->challenge);
    exchange->challenge = mem_alloc(BASE64_ENCODED_SIZE(plain.len));
    base64_encode(plain.p, plain.len, exchange->challenge);
    exchange->answer = AUTH_CHALLENGE;
    exchange->action = AUTH_DO_STEP;
    return AUTH_IN_ANSWERS;
}

static enum auth_place let_wait(struct auth *auth, struct auth_exchange *exchange)
{
    uint64_t now_ms = time_monotonic_ms();
    struct standing_client client = standing_of(&exchange->client);

    struct standing_admission admission =
        standing_admit(auth->standing, &client, mechanism_name(exchange->mechanism), now_ms);
    if (!admission.admitted)
        return answer(exchange, AUTH_BUSY);
    exchange->action = AUTH_DO_CHECK;
    exchange->due_ms = now_ms + admission.wait_ms;
    return admission.wait_ms > 0 ? AUTH_IN_TIMED : AUTH_IN_INBOX;
}

static enum auth_place follow(struct auth *auth, struct auth_exchange *exchange,
                              enum mechanism_next next)
{
    switch (next) {
    case MECHANISM_ASK:
        return ask_client(exchange);
    case MECHANISM_CHECK:
        return let_wait(auth, exchange);
    case MECHANISM_ACCEPTED:
        return answer(exchange, AUTH_ACCEPTED);
    case MECHANISM_WRONG:
        return hold_back(auth, exchange);
    case MECHANISM_MALFORMED:
        return answer(exchange, AUTH_MALFORMED);
    }
    unreachable_bug();
}

/* The first time: with the users of this moment, which the exchange then keeps. */
static bool begin(struct auth *auth, struct auth_exchange *exchange)
{
    auth_look_at_file(auth);
    pthread_mutex_lock(&auth->lock);
    exchange->users = auth->users != NULL ? auth_users_ref(auth->users) : NULL;
    bool crowded = auth->exchange_count > AUTH_EXCHANGES_MAX;
    pthread_mutex_unlock(&auth->lock);
    if (crowded) {
        (void)answer(exchange, AUTH_BUSY);
        return false;
    }
    if (exchange->kind < 0 || !mechanism_is_offered((enum mechanism_kind)exchange->kind,
                                                    &exchange->client, exchange->users)) {
        (void)answer(exchange, AUTH_UNKNOWN);
        return false;
    }
    exchange->mechanism = mechanism_new(auth->mechanisms, (enum mechanism_kind)exchange->kind,
                                        &exchange->client, exchange->users);
    return true;
}

static enum auth_place step(struct auth *auth, struct auth_exchange *exchange)
{
    uint8_t bytes[BASE64_DECODED_MAX(AUTH_TOKEN_MAX_BYTES)];
    struct str token = {(const char *)bytes, 0};

    if (exchange->mechanism == NULL && !begin(auth, exchange))
        return AUTH_IN_ANSWERS;
    if (exchange->token == NULL)
        return follow(auth, exchange, mechanism_step(exchange->mechanism, NULL));
    struct str text = {exchange->token, exchange->token_len};
    bool valid = text.len <= AUTH_TOKEN_MAX_BYTES && base64_decode(text, bytes, &token.len);
    auth_drop_token(exchange);
    enum mechanism_next next =
        valid ? mechanism_step(exchange->mechanism, &token) : MECHANISM_MALFORMED;
    explicit_bzero(bytes, sizeof bytes);
    return follow(auth, exchange, next);
}

/* What the digest of a password is about: a user as the file has it. */
static uint64_t about(const struct auth *auth, const struct auth_user *user)
{
    return siphash(&auth->key, str_from(user->name), str_from(user->hash));
}

static enum auth_place check(struct auth *auth, struct auth_exchange *exchange)
{
    struct mechanism *mechanism = exchange->mechanism;
    const struct auth_user *user = mechanism_user(mechanism);
    struct standing_client client = standing_of(&exchange->client);
    uint64_t now_ms = time_monotonic_ms();

    if (!mechanism_is_slow(mechanism))
        return follow(auth, exchange, mechanism_check(mechanism, NULL));
    /* An unknown user's takes as long. */
    bool known = verified_knows(auth->verified, user != NULL ? about(auth, user) : 0,
                                mechanism_password(mechanism), now_ms);
    if (known && user != NULL)
        return answer(exchange, AUTH_ACCEPTED);
    exchange->action = AUTH_DO_CONCLUDE;
    exchange->turn = standing_turn(auth->standing, &client, mechanism_name(mechanism), now_ms);
    return AUTH_IN_HASHES;
}

static enum auth_place conclude(struct auth *auth, struct auth_exchange *exchange)
{
    standing_serve(auth->standing, exchange->turn);
    if (exchange->next == MECHANISM_ACCEPTED)
        verified_remember(auth->verified, about(auth, mechanism_user(exchange->mechanism)),
                          mechanism_password(exchange->mechanism), time_monotonic_ms());
    return follow(auth, exchange, exchange->next);
}

static enum auth_place work_on(struct auth *auth, struct auth_exchange *exchange)
{
    switch (exchange->action) {
    case AUTH_DO_STEP:
        return step(auth, exchange);
    case AUTH_DO_CHECK:
        return check(auth, exchange);
    case AUTH_DO_CONCLUDE:
        return conclude(auth, exchange);
    case AUTH_DO_ANSWER:
        return AUTH_IN_ANSWERS;
    }
    unreachable_bug();
}

/* Lock held. @return the next that is due, or NULL after some wait */
static struct auth_exchange *next_due(struct auth *auth)
{
    uint64_t now_ms = time_monotonic_ms();

    /* Those that have waited come first: their time is over. */
    if (auth->timed != NULL && auth->timed->due_ms <= now_ms)
        return auth->timed;
    if (auth->inbox != NULL)
        return auth->inbox;
    if (auth->timed == NULL) {
        pthread_cond_wait(&auth->front_wakes, &auth->lock);
        return NULL;
    }
    struct timespec due = {.tv_sec = (time_t)(auth->timed->due_ms / 1000),
                           .tv_nsec = (long)(auth->timed->due_ms % 1000) * 1000000};
    pthread_cond_timedwait(&auth->front_wakes, &auth->lock, &due);
    return NULL;
}

/* Lock held, but not meanwhile. */
static void look_at_file(struct auth *auth)
{
    auth->look_asked = false;
    auth->looked_ms = time_monotonic_ms();
    pthread_mutex_unlock(&auth->lock);
    auth_look_at_file(auth);
    pthread_mutex_lock(&auth->lock);
}

void *auth_front_run(void *arg)
{
    struct auth *auth = arg;

    pthread_mutex_lock(&auth->lock);
    while (!auth->stopping) {
        if (auth->look_asked) {
            look_at_file(auth);
            continue;
        }
        struct auth_exchange *exchange = next_due(auth);
        if (exchange == NULL)
            continue;
        auth_take_out(auth, exchange);
        pthread_mutex_unlock(&auth->lock);
        enum auth_place place = work_on(auth, exchange);
        pthread_mutex_lock(&auth->lock);
        if (exchange->cancelled)
            auth_exchange_free(auth, exchange);
        else
            auth_put(auth, exchange, place);
    }
    pthread_mutex_unlock(&auth->lock);
    return NULL;
}

/* ---- the hashers ---- */

void *auth_hasher_run(void *arg)
{
    struct auth *auth = arg;
    struct password_hasher *hasher = password_hasher_new();

    pthread_mutex_lock(&auth->lock);
    while (!auth->stopping) {
        struct auth_exchange *exchange = auth->hashes;
        if (exchange == NULL) {
            pthread_cond_wait(&auth->hashers_wake, &auth->lock);
            continue;
        }
        auth_take_out(auth, exchange);
        pthread_mutex_unlock(&auth->lock);
        exchange->next = mechanism_check(exchange->mechanism, hasher);
        pthread_mutex_lock(&auth->lock);
        /* Of a client that has hung up too: its failure counts. */
        auth_put(auth, exchange, AUTH_IN_INBOX);
    }
    pthread_mutex_unlock(&auth->lock);
    password_hasher_free(&hasher);
    return NULL;
}
