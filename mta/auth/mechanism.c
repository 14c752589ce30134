/* mta/auth/mechanism.c - see mechanism.h. */
#include "mta/auth/mechanism.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/auth/base64.h"
#include "mta/auth/siphash.h"

enum { SCRAM_TOKEN_MAX_BYTES = 2048 };

const char *const mechanism_names[MECHANISM_COUNT] = {
    [MECHANISM_SCRAM_PLUS] = "SCRAM-SHA-256-PLUS",
    [MECHANISM_SCRAM] = "SCRAM-SHA-256",
    [MECHANISM_PLAIN] = "PLAIN",
    [MECHANISM_LOGIN] = "LOGIN",
    [MECHANISM_EXTERNAL] = "EXTERNAL",
};

struct mechanisms {
    Gsasl *gsasl;
    struct siphash_key salts; /* of nobody */
    uint8_t nobody_key[AUTH_KEY_BYTES];
};

/* Where a conversation stands. */
enum stage {
    STAGE_BEGIN,
    STAGE_NAME,     /* LOGIN: asked for it */
    STAGE_PASSWORD, /* LOGIN: asked for it */
    STAGE_TOKEN,    /* asked for the first token */
    STAGE_PROOF,    /* SCRAM: asked for the proof */
    STAGE_CHECK,
    STAGE_CONFIRM, /* SCRAM: our signature is out; an empty line is due */
    STAGE_OVER
};

struct mechanism {
    struct mechanisms *shared;
    enum mechanism_kind kind;
    enum stage stage;
    const struct auth_client *client;
    struct auth_users *users;
    const struct auth_user *user;
    char name[AUTH_NAME_MAX_BYTES + 1];
    struct password password; /* empty: none that could be right */
    Gsasl_session *session;   /* SCRAM, EXTERNAL */
    char *challenge;          /* malloc: GNU SASL's way */
    size_t challenge_len;
    char proof[SCRAM_TOKEN_MAX_BYTES + 1];
    size_t proof_len;
};

/* ---- what is offered ---- */

static const struct auth_user *find_certificate(const struct auth_client *client,
                                                const struct auth_users *users, struct str wanted)
{
    for (size_t i = 0; i < client->name_count; i++) {
        struct str name = str_from(client->names[i]);
        const struct auth_user *user = auth_users_find(users, name);
        if (user != NULL && (wanted.len == 0 || str_equal(wanted, name)))
            return user;
    }
    return NULL;
}

bool mechanism_is_offered(enum mechanism_kind kind, const struct auth_client *client,
                          const struct auth_users *users)
{
    if (users == NULL)
        return false;
    switch (kind) {
    case MECHANISM_SCRAM_PLUS:
        return client->exporter_len > 0 || client->unique_len > 0;
    case MECHANISM_SCRAM:
    case MECHANISM_PLAIN:
    case MECHANISM_LOGIN:
        return true;
    case MECHANISM_EXTERNAL:
        return find_certificate(client, users, STR("")) != NULL;
    case MECHANISM_COUNT:
        break;
    }
    unreachable_bug();
}

/* @return false: too long to be one; then there is no such user */
static bool set_name(struct mechanism *mechanism, struct str name)
{
    bool fits = name.len <= AUTH_NAME_MAX_BYTES;
    size_t len = fits ? name.len : AUTH_NAME_MAX_BYTES;

    if (len > 0)
        memcpy(mechanism->name, name.p, len);
    mechanism->name[len] = '\0';
    mechanism->user = fits ? auth_users_find(mechanism->users, name) : NULL;
    return fits;
}

/* ---- GNU SASL asks ---- */

static int set_base64(Gsasl_session *session, Gsasl_property property, const void *bytes,
                      size_t len)
{
    char text[BASE64_ENCODED_SIZE(AUTH_BINDING_MAX_BYTES)];
    base64_encode(bytes, len, text);
    return gsasl_property_set(session, property, text);
}
static_assert((int)AUTH_SALT_MAX_BYTES <= (int)AUTH_BINDING_MAX_BYTES, "room for salts too");

static int set_binding(Gsasl_session *session, Gsasl_property property, const uint8_t *bytes,
                       size_t len, int none)
{
    return len > 0 ? set_base64(session, property, bytes, len) : none;
}

/* RFC 5802 section 9: who asks for an unknown user must not see that it is unknown. Its salt is the
 * same each time. */
static int set_salt(struct mechanism *mechanism)
{
    const struct auth_user *user = mechanism->user;
    uint64_t words[PASSWORD_SALT_BYTES / 8];

    if (user != NULL)
        return set_base64(mechanism->session, GSASL_SCRAM_SALT, user->scram.salt,
                          user->scram.salt_len);
    for (size_t i = 0; i < PASSWORD_SALT_BYTES / 8; i++)
        words[i] = siphash(&mechanism->shared->salts, i == 0 ? STR("salt") : STR("more salt"),
                           mechanism_name(mechanism));
    return set_base64(mechanism->session, GSASL_SCRAM_SALT, words, sizeof words);
}

/* The first thing that GNU SASL asks for once it has read the name. */
static int set_count(struct mechanism *mechanism)
{
    char text[16];

    set_name(mechanism, str_from(gsasl_property_fast(mechanism->session, GSASL_AUTHID)));
    snprintf(text, sizeof text, "%" PRIu32,
             mechanism->user != NULL ? mechanism->user->scram.count : PASSWORD_SCRAM_COUNT);
    return gsasl_property_set(mechanism->session, GSASL_SCRAM_ITER, text);
}

static int validate_external(struct mechanism *mechanism)
{
    struct str wanted = str_from(gsasl_property_fast(mechanism->session, GSASL_AUTHZID));
    const struct auth_user *user = find_certificate(mechanism->client, mechanism->users, wanted);

    (void)set_name(mechanism, user != NULL ? str_from(user->name) : wanted);
    return user != NULL ? GSASL_OK : GSASL_AUTHENTICATION_ERROR;
}

static int answer_property(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    struct mechanism *mechanism = gsasl_session_hook_get(session);
    const struct auth_client *client = mechanism->client;
    const struct auth_user *user = mechanism->user;
    const uint8_t *nobody = mechanism->shared->nobody_key;
    (void)gsasl;

    if (property == GSASL_CB_TLS_EXPORTER)
        return set_binding(session, property, client->exporter, client->exporter_len,
                           GSASL_NO_CB_TLS_EXPORTER);
    if (property == GSASL_CB_TLS_UNIQUE)
        return set_binding(session, property, client->unique, client->unique_len,
                           GSASL_NO_CB_TLS_UNIQUE);
    if (property == GSASL_SCRAM_SALT)
        return set_salt(mechanism);
    if (property == GSASL_SCRAM_ITER)
        return set_count(mechanism);
    if (property == GSASL_SCRAM_STOREDKEY)
        return set_base64(session, property, user != NULL ? user->scram.stored_key : nobody,
                          AUTH_KEY_BYTES);
    if (property == GSASL_SCRAM_SERVERKEY)
        return set_base64(session, property, user != NULL ? user->scram.server_key : nobody,
                          AUTH_KEY_BYTES);
    if (property == GSASL_VALIDATE_EXTERNAL)
        return validate_external(mechanism);
    return GSASL_NO_CALLBACK;
}

/* ---- life ---- */

/* Hosts keep theirs over a restart, and so do the salts of users that do not exist: a client that
 * comes back sees no difference to one that does. */
static void read_machine_id(struct siphash_key *key_out)
{
    char id[64];
    struct siphash_key none = {{0, 0}};

    FILE *file = fopen("/etc/machine-id", "re");
    size_t len = file != NULL ? fread(id, 1, sizeof id, file) : 0;
    if (file != NULL)
        fclose(file);
    if (len < 32) {
        password_random(key_out, sizeof *key_out);
        return;
    }
    struct str text = {id, len};
    key_out->words[0] = siphash(&none, STR("salts of nobody"), text);
    key_out->words[1] = siphash(&none, STR("more of them"), text);
}

struct mechanisms *mechanisms_new(void)
{
    struct mechanisms *shared = mem_alloc(sizeof *shared);

    if (gsasl_init(&shared->gsasl) != GSASL_OK)
        unreachable_bug(); /* out of memory, or a library that cannot work */
    gsasl_callback_set(shared->gsasl, answer_property);
    read_machine_id(&shared->salts);
    password_random(shared->nobody_key, sizeof shared->nobody_key);
    return shared;
}

void mechanisms_free(struct mechanisms **mechanismsp)
{
    struct mechanisms *shared = *mechanismsp;
    *mechanismsp = NULL;
    if (shared == NULL)
        return;
    gsasl_done(shared->gsasl);
    free(shared);
}

static bool is_gsasl(enum mechanism_kind kind)
{
    return kind == MECHANISM_SCRAM || kind == MECHANISM_SCRAM_PLUS || kind == MECHANISM_EXTERNAL;
}

struct mechanism *mechanism_new(struct mechanisms *mechanisms, enum mechanism_kind kind,
                                const struct auth_client *client, struct auth_users *users)
{
    struct mechanism *mechanism = mem_alloc(sizeof *mechanism);

    mechanism->shared = mechanisms;
    mechanism->kind = kind;
    mechanism->client = client;
    mechanism->users = users;
    if (is_gsasl(kind)) {
        if (gsasl_server_start(mechanisms->gsasl, mechanism_names[kind], &mechanism->session) !=
            GSASL_OK)
            unreachable_bug(); /* Debian's library has all three */
        gsasl_session_hook_set(mechanism->session, mechanism);
    }
    return mechanism;
}

void mechanism_free(struct mechanism **mechanismp)
{
    struct mechanism *mechanism = *mechanismp;

    *mechanismp = NULL;
    if (mechanism == NULL)
        return;
    if (mechanism->session != NULL)
        gsasl_finish(mechanism->session);
    free(mechanism->challenge);
    explicit_bzero(mechanism, sizeof *mechanism);
    free(mechanism);
}

/* ---- steps ---- */

static enum mechanism_next ask(struct mechanism *mechanism, enum stage stage, char *owned,
                               size_t len)
{
    free(mechanism->challenge);
    mechanism->challenge = owned;
    mechanism->challenge_len = len;
    mechanism->stage = stage;
    return MECHANISM_ASK;
}

static enum mechanism_next ask_words(struct mechanism *mechanism, enum stage stage,
                                     struct str words)
{
    return ask(mechanism, stage, str_dup(words), words.len);
}

static enum mechanism_next end(struct mechanism *mechanism, enum mechanism_next how)
{
    mechanism->stage = STAGE_OVER;
    return how;
}

static enum mechanism_next check_password(struct mechanism *mechanism, struct str password,
                                          bool possible)
{
    /* What cannot be right is checked all the same: it must take as long. */
    if (password_prepare(password, &mechanism->password) != NULL || !possible)
        password_wipe(&mechanism->password);
    mechanism->stage = STAGE_CHECK;
    return MECHANISM_CHECK;
}

/* RFC 4616: [authzid] NUL authcid NUL password */
static enum mechanism_next step_plain(struct mechanism *mechanism, struct str token)
{
    struct str parts[3];
    size_t count = 0;

    for (; count < 2; count++) {
        const char *end_of = token.len > 0 ? memchr(token.p, '\0', token.len) : NULL;
        if (end_of == NULL)
            return end(mechanism, MECHANISM_MALFORMED);
        parts[count] = (struct str){token.p, (size_t)(end_of - token.p)};
        token = str_skip(token, parts[count].len + 1);
    }
    parts[2] = token;
    if (parts[1].len == 0 || (token.len > 0 && memchr(token.p, '\0', token.len) != NULL))
        return end(mechanism, MECHANISM_MALFORMED);
    /* Nobody acts for another here. */
    bool possible = parts[0].len == 0 || str_equal(parts[0], parts[1]);
    possible = set_name(mechanism, parts[1]) && possible;
    return check_password(mechanism, parts[2], possible);
}

static enum mechanism_next step_login(struct mechanism *mechanism, struct str token)
{
    if (token.len > 0 && memchr(token.p, '\0', token.len) != NULL)
        return end(mechanism, MECHANISM_MALFORMED);
    if (mechanism->stage == STAGE_PASSWORD)
        return check_password(mechanism, token, mechanism->user != NULL);
    if (token.len == 0)
        return end(mechanism, MECHANISM_MALFORMED);
    (void)set_name(mechanism, token);
    return ask_words(mechanism, STAGE_PASSWORD, STR("Password:"));
}

/* What GNU SASL makes of it. */
static enum mechanism_next step_gsasl(struct mechanism *mechanism, struct str token,
                                      enum stage more)
{
    char *out = NULL;
    size_t len = 0;

    int rc = gsasl_step(mechanism->session, token.len > 0 ? token.p : "", token.len, &out, &len);
    if (rc == GSASL_NEEDS_MORE)
        return ask(mechanism, more, out, len);
    if (rc == GSASL_OK && len > 0)
        return ask(mechanism, STAGE_CONFIRM, out, len);
    gsasl_free(out);
    if (rc == GSASL_OK)
        return end(mechanism, MECHANISM_ACCEPTED);
    bool malformed = rc == GSASL_MECHANISM_PARSE_ERROR || rc == GSASL_BASE64_ERROR;
    return end(mechanism, malformed ? MECHANISM_MALFORMED : MECHANISM_WRONG);
}

/* Names are ASCII, and the rest of SCRAM's messages too. */
static bool is_printable(struct str token)
{
    for (size_t i = 0; i < token.len; i++) {
        if (token.p[i] < ' ' || token.p[i] > '~')
            return false;
    }
    return true;
}

static enum mechanism_next step_scram(struct mechanism *mechanism, struct str token)
{
    if (mechanism->stage == STAGE_CONFIRM)
        return end(mechanism, token.len == 0 ? MECHANISM_ACCEPTED : MECHANISM_MALFORMED);
    if (token.len == 0 || token.len > SCRAM_TOKEN_MAX_BYTES || !is_printable(token))
        return end(mechanism, MECHANISM_MALFORMED);
    if (mechanism->stage == STAGE_PROOF) {
        memcpy(mechanism->proof, token.p, token.len);
        mechanism->proof_len = token.len;
        mechanism->stage = STAGE_CHECK;
        return MECHANISM_CHECK;
    }
    /* GNU SASL would take a binding of no bytes (RFC 5802 section 6: only -PLUS binds). */
    if (mechanism->kind == MECHANISM_SCRAM && token.p[0] == 'p')
        return end(mechanism, MECHANISM_MALFORMED);
    return step_gsasl(mechanism, token, STAGE_PROOF);
}

enum mechanism_next mechanism_step(struct mechanism *mechanism, const struct str *token)
{
    if (mechanism->stage == STAGE_BEGIN) {
        bool login = mechanism->kind == MECHANISM_LOGIN;
        if (token == NULL)
            return ask_words(mechanism, login ? STAGE_NAME : STAGE_TOKEN,
                             login ? STR("Username:") : STR(""));
        mechanism->stage = login ? STAGE_NAME : STAGE_TOKEN;
    }
    if (token == NULL || mechanism->stage == STAGE_CHECK || mechanism->stage == STAGE_OVER)
        unreachable_bug(); /* the caller's */
    switch (mechanism->kind) {
    case MECHANISM_PLAIN:
        return step_plain(mechanism, *token);
    case MECHANISM_LOGIN:
        return step_login(mechanism, *token);
    case MECHANISM_SCRAM:
    case MECHANISM_SCRAM_PLUS:
        return step_scram(mechanism, *token);
    case MECHANISM_EXTERNAL:
        return step_gsasl(mechanism, *token, STAGE_TOKEN);
    case MECHANISM_COUNT:
        break;
    }
    unreachable_bug();
}

bool mechanism_is_slow(const struct mechanism *mechanism)
{
    return !is_gsasl(mechanism->kind);
}

static enum mechanism_next check_proof(struct mechanism *mechanism)
{
    struct str proof = {mechanism->proof, mechanism->proof_len};

    enum mechanism_next next = step_gsasl(mechanism, proof, STAGE_OVER);
    if (next != MECHANISM_ASK)
        return next;
    const char *authzid = gsasl_property_fast(mechanism->session, GSASL_AUTHZID);
    bool itself = authzid == NULL || authzid[0] == '\0' || strcmp(authzid, mechanism->name) == 0;
    if (mechanism->stage != STAGE_CONFIRM || mechanism->user == NULL || !itself)
        return end(mechanism, MECHANISM_WRONG);
    return MECHANISM_ASK;
}

enum mechanism_next mechanism_check(struct mechanism *mechanism, struct password_hasher *hasher)
{
    bool right = false;

    if (!mechanism_is_slow(mechanism))
        return check_proof(mechanism);
    if (mechanism->user != NULL && mechanism->password.text[0] != '\0')
        right = password_matches(hasher, &mechanism->password, mechanism->user->hash);
    else
        password_match_nobody(hasher, &mechanism->password);
    return end(mechanism, right ? MECHANISM_ACCEPTED : MECHANISM_WRONG);
}

/* ---- looking at it ---- */

struct str mechanism_challenge(const struct mechanism *mechanism)
{
    return (struct str){mechanism->challenge, mechanism->challenge_len};
}

void mechanism_forget_password(struct mechanism *mechanism)
{
    password_wipe(&mechanism->password);
}

const struct password *mechanism_password(const struct mechanism *mechanism)
{
    return &mechanism->password;
}

struct str mechanism_name(const struct mechanism *mechanism)
{
    return str_from(mechanism->name);
}

const struct auth_user *mechanism_user(const struct mechanism *mechanism)
{
    return mechanism->user;
}
