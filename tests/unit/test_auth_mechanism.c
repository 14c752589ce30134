/* mta/auth/mechanism: each conversation, right, wrong and malformed; SCRAM against the client of
 * GNU SASL with the keys of RFC 7677. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/auth/base64.h"
#include "mta/auth/mechanism.h"

#define HASH "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."
#define SCRAM                                                                                      \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                 \
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                                                \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct mechanisms *shared;
static struct auth_users *users;
static struct password_hasher *hasher;
static const struct auth_client plain_client = {.local = true};

static int start(void **state)
{
    char error[256];
    (void)state;
    shared = mechanisms_new();
    hasher = password_hasher_new();
    return auth_users_parse(STR("user\t" HASH "\t" SCRAM "\na=b,c\t" HASH "\t" SCRAM
                                "\napp.example\t" HASH "\t" SCRAM "\n"),
                            "users", &users, error, sizeof error);
}

static int stop(void **state)
{
    (void)state;
    password_hasher_free(&hasher);
    auth_users_unref(&users);
    mechanisms_free(&shared);
    return 0;
}

/* As the service does it. */
static enum mechanism_next step(struct mechanism *mechanism, const struct str *token)
{
    enum mechanism_next next = mechanism_step(mechanism, token);
    return next == MECHANISM_CHECK ? mechanism_check(mechanism, hasher) : next;
}

static void assert_challenge(const struct mechanism *mechanism, const char *text)
{
    struct str challenge = mechanism_challenge(mechanism);
    assert_int_equal(challenge.len, strlen(text));
    assert_memory_equal(challenge.p, text, challenge.len);
}

/* ---- PLAIN ---- */

static void test_plain(void **state)
{
#define T(text) text, sizeof text - 1
    static const struct {
        const char *token;
        size_t len;
        enum mechanism_next next;
    } cases[] = {
        {T("\0user\0password"), MECHANISM_ACCEPTED},
        {T("user\0user\0password"), MECHANISM_ACCEPTED},
        {T("\0a=b,c\0password"), MECHANISM_ACCEPTED},
        {T("\0user\0Password"), MECHANISM_WRONG},
        {T("\0user\0"), MECHANISM_WRONG},
        {T("\0user\0password "), MECHANISM_WRONG},
        {T("\0user\0password\n"), MECHANISM_WRONG},
        {T("\0user\0\xff"), MECHANISM_WRONG},
        {T("\0USER\0password"), MECHANISM_WRONG},
        {T("\0use\0password"), MECHANISM_WRONG},
        {T("\0nobody\0password"), MECHANISM_WRONG},
        {T("a=b,c\0user\0password"), MECHANISM_WRONG}, /* for another */
        {T("\0\xff\xfe\0password"), MECHANISM_WRONG},
        {T("\0us er\0password"), MECHANISM_WRONG},
        {T(""), MECHANISM_MALFORMED},
        {T("\0"), MECHANISM_MALFORMED},
        {T("\0\0"), MECHANISM_MALFORMED},
        {T("\0\0password"), MECHANISM_MALFORMED},
        {T("user password"), MECHANISM_MALFORMED},
        {T("user\0password"), MECHANISM_MALFORMED},
        {T("\0user\0password\0"), MECHANISM_MALFORMED},
        {T("\0user\0pass\0word"), MECHANISM_MALFORMED},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str token = {cases[i].token, cases[i].len};
        /* With the initial response, and asked for. */
        for (int asked = 0; asked < 2; asked++) {
            struct mechanism *mechanism =
                mechanism_new(shared, MECHANISM_PLAIN, &plain_client, users);
            if (asked == 1) {
                assert_int_equal(mechanism_step(mechanism, NULL), MECHANISM_ASK);
                assert_challenge(mechanism, "");
            }
            enum mechanism_next next = step(mechanism, &token);
            if (next != cases[i].next)
                fail_msg("case %zu: %d", i, next);
            mechanism_free(&mechanism);
            assert_null(mechanism);
        }
    }
}

/* A name of 255 octets that is followed by more is not that name. */
static void test_long_names(void **state)
{
    char text[600] = "", line[1200], error[256];
    struct auth_users *long_users = NULL;
    (void)state;

    memset(text + 1, 'n', 255);
    snprintf(line, sizeof line, "%s\t" HASH "\t" SCRAM "\n", text + 1);
    assert_int_equal(auth_users_parse(str_from(line), "users", &long_users, error, sizeof error),
                     0);
    for (size_t len = 255; len < 257; len++) {
        memset(text + 1, 'n', len);
        memcpy(text + 1 + len, "\0password", 9);
        struct str token = {text, 1 + len + 9};
        struct mechanism *mechanism =
            mechanism_new(shared, MECHANISM_PLAIN, &plain_client, long_users);
        assert_int_equal(step(mechanism, &token),
                         len == 255 ? MECHANISM_ACCEPTED : MECHANISM_WRONG);
        assert_int_equal(mechanism_user(mechanism) != NULL, len == 255);
        assert_int_equal(mechanism_name(mechanism).len, 255);
        mechanism_free(&mechanism);
    }
    auth_users_unref(&long_users);
}

/* ---- LOGIN ---- */

static enum mechanism_next login(struct str name, struct str password, bool initial)
{
    struct mechanism *mechanism = mechanism_new(shared, MECHANISM_LOGIN, &plain_client, users);

    if (!initial) {
        assert_int_equal(mechanism_step(mechanism, NULL), MECHANISM_ASK);
        assert_challenge(mechanism, "Username:");
    }
    enum mechanism_next next = step(mechanism, &name);
    if (next == MECHANISM_ASK) {
        assert_challenge(mechanism, "Password:");
        next = step(mechanism, &password);
    }
    mechanism_free(&mechanism);
    return next;
}

static void test_login(void **state)
{
    (void)state;
    for (int initial = 0; initial < 2; initial++) {
        assert_int_equal(login(STR("user"), STR("password"), initial), MECHANISM_ACCEPTED);
        assert_int_equal(login(STR("user"), STR("Password"), initial), MECHANISM_WRONG);
        assert_int_equal(login(STR("user"), STR(""), initial), MECHANISM_WRONG);
        assert_int_equal(login(STR("nobody"), STR("password"), initial), MECHANISM_WRONG);
        assert_int_equal(login(STR("\xff"), STR("password"), initial), MECHANISM_WRONG);
        assert_int_equal(login(STR(""), STR("password"), initial), MECHANISM_MALFORMED);
        assert_int_equal(login(STR("us\0er"), STR("password"), initial), MECHANISM_MALFORMED);
        assert_int_equal(login(STR("user"), STR("pass\0word"), initial), MECHANISM_MALFORMED);
    }
}

/* ---- SCRAM ---- */

static struct auth_client bound_client(void)
{
    struct auth_client client = {.exporter_len = 32, .unique_len = 12};
    memset(client.exporter, 0xe1, 32);
    memset(client.unique, 0xa7, 12);
    return client;
}

struct peer {
    const char *mechanism, *name, *password, *authzid;
    Gsasl_property binding; /* which it knows, if any */
    const char *value;      /* base64 */
};

static int answer_peer(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    const struct peer *peer = gsasl_session_hook_get(session);
    (void)gsasl;
    if (property == GSASL_AUTHID)
        return gsasl_property_set(session, property, peer->name);
    if (property == GSASL_PASSWORD)
        return gsasl_property_set(session, property, peer->password);
    if (property == GSASL_AUTHZID && peer->authzid != NULL)
        return gsasl_property_set(session, property, peer->authzid);
    if (peer->value != NULL && property == peer->binding)
        return gsasl_property_set(session, property, peer->value);
    return GSASL_NO_CALLBACK;
}

/* @return how it ended; the peer has accepted our signature where it did well */
static enum mechanism_next scram(struct peer *peer, enum mechanism_kind kind,
                                 const struct auth_client *client)
{
    struct mechanism *mechanism = mechanism_new(shared, kind, client, users);
    enum mechanism_next next = MECHANISM_ASK;
    struct str in = {NULL, 0};
    Gsasl *gsasl;
    Gsasl_session *session;
    int rc = GSASL_NEEDS_MORE;

    assert_int_equal(gsasl_init(&gsasl), 0);
    gsasl_callback_set(gsasl, answer_peer);
    assert_int_equal(gsasl_client_start(gsasl, peer->mechanism, &session), 0);
    gsasl_session_hook_set(session, peer);
    while (next == MECHANISM_ASK && rc == GSASL_NEEDS_MORE) {
        char *out = NULL;
        size_t len = 0;
        rc = gsasl_step(session, in.p, in.len, &out, &len);
        if (rc == GSASL_NEEDS_MORE || rc == GSASL_OK) {
            struct str token = {out, len};
            next = step(mechanism, &token);
            in = mechanism_challenge(mechanism);
        }
        gsasl_free(out);
    }
    if (next == MECHANISM_ACCEPTED) {
        assert_int_equal(rc, GSASL_OK);
        assert_string_equal(mechanism_user(mechanism)->name, peer->name);
    }
    gsasl_finish(session);
    gsasl_done(gsasl);
    mechanism_free(&mechanism);
    return next;
}

static void test_scram(void **state)
{
    static const struct {
        struct peer peer;
        enum mechanism_next next;
    } cases[] = {
        {{.name = "user", .password = "pencil"}, MECHANISM_ACCEPTED},
        {{.name = "a=b,c", .password = "pencil"}, MECHANISM_ACCEPTED}, /* =3D, =2C */
        {{.name = "user", .password = "pencil", .authzid = "user"}, MECHANISM_ACCEPTED},
        {{.name = "user", .password = "pencil", .authzid = "a=b,c"}, MECHANISM_WRONG},
        {{.name = "user", .password = "Pencil"}, MECHANISM_WRONG},
        {{.name = "nobody", .password = "pencil"}, MECHANISM_WRONG},
        {{.name = "n\xc3\xb6", .password = "pencil"}, MECHANISM_MALFORMED},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer = cases[i].peer;
        peer.mechanism = "SCRAM-SHA-256";
        enum mechanism_next next = scram(&peer, MECHANISM_SCRAM, &plain_client);
        if (next != cases[i].next)
            fail_msg("case %zu: %d", i, next);
    }
}

static void test_scram_plus(void **state)
{
    struct auth_client client = bound_client();
    char exporter[64], unique[64], other[64];
    (void)state;

    base64_encode(client.exporter, 32, exporter);
    base64_encode(client.unique, 12, unique);
    base64_encode("somebody in the middle: other by", 32, other);
    struct peer peer = {.mechanism = "SCRAM-SHA-256-PLUS", .name = "user", .password = "pencil"};
    peer.binding = GSASL_CB_TLS_EXPORTER;
    peer.value = exporter;
    assert_int_equal(scram(&peer, MECHANISM_SCRAM_PLUS, &client), MECHANISM_ACCEPTED);
    peer.value = other;
    assert_int_equal(scram(&peer, MECHANISM_SCRAM_PLUS, &client), MECHANISM_WRONG);
    peer.binding = GSASL_CB_TLS_UNIQUE;
    peer.value = unique;
    assert_int_equal(scram(&peer, MECHANISM_SCRAM_PLUS, &client), MECHANISM_ACCEPTED);
    /* A session that has no such binding. */
    client.unique_len = 0;
    assert_int_equal(scram(&peer, MECHANISM_SCRAM_PLUS, &client), MECHANISM_WRONG);
    client.exporter_len = 0;
    assert_false(mechanism_is_offered(MECHANISM_SCRAM_PLUS, &client, users));
}

static enum mechanism_next first_token(enum mechanism_kind kind, const struct auth_client *client,
                                       struct str token)
{
    struct mechanism *mechanism = mechanism_new(shared, kind, client, users);
    enum mechanism_next next = step(mechanism, &token);
    mechanism_free(&mechanism);
    return next;
}

static void test_scram_first_messages(void **state)
{
    static const struct {
        const char *token;
        enum mechanism_next next, plus;
    } cases[] = {
        {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_ASK, MECHANISM_WRONG},
        /* "You have no -PLUS": a lie of somebody in the middle, where we have one. */
        {"y,,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_WRONG, MECHANISM_WRONG},
        {"p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_MALFORMED, MECHANISM_ASK},
        {"p=tls-unique,,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_MALFORMED, MECHANISM_ASK},
        {"p=tls-server-end-point,,n=user,r=abc", MECHANISM_MALFORMED, MECHANISM_WRONG},
        {"p=,,n=user,r=abc", MECHANISM_MALFORMED, MECHANISM_WRONG},
        {"", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
        {"n", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
        {"x,,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
        {"n,,n=,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
        {"n,,m=ext,n=user,r=rOprNGfwEbeRWgbNEkqO", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
        {"n,,n=user,r=\r\n", MECHANISM_MALFORMED, MECHANISM_MALFORMED},
    };
    const struct auth_client client = bound_client();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str token = str_from(cases[i].token);
        enum mechanism_next next = first_token(MECHANISM_SCRAM, &client, token);
        enum mechanism_next plus = first_token(MECHANISM_SCRAM_PLUS, &client, token);
        if (next != cases[i].next || plus != cases[i].plus)
            fail_msg("case %zu: %d, plus %d", i, next, plus);
    }
    /* Where there is none, "you have no -PLUS" is the truth. */
    assert_int_equal(
        first_token(MECHANISM_SCRAM, &plain_client, STR("y,,n=user,r=rOprNGfwEbeRWgb")),
        MECHANISM_ASK);
    static char longest[2050];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "n,,n=user,r=", 12);
    assert_int_equal(first_token(MECHANISM_SCRAM, &plain_client, (struct str){longest, 2048}),
                     MECHANISM_ASK);
    assert_int_equal(first_token(MECHANISM_SCRAM, &plain_client, (struct str){longest, 2049}),
                     MECHANISM_MALFORMED);
}

/* RFC 7677 section 3, as far as the server's nonce lets it repeat. */
static void test_scram_challenge(void **state)
{
    static const char nonce[] = "r=rOprNGfwEbeRWgbNEkqO";
    struct str token = STR("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    struct mechanism *mechanism = mechanism_new(shared, MECHANISM_SCRAM, &plain_client, users);
    (void)state;

    assert_int_equal(step(mechanism, &token), MECHANISM_ASK);
    struct str challenge = mechanism_challenge(mechanism);
    assert_true(challenge.len > sizeof nonce + 20);
    assert_memory_equal(challenge.p, nonce, sizeof nonce - 1);
    assert_true(str_ends_nocase(challenge, STR(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")));
    assert_string_equal(mechanism_name(mechanism).p, "user");
    /* Another nonce in the proof. */
    struct str proof = STR("c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_int_equal(step(mechanism, &proof), MECHANISM_WRONG);
    mechanism_free(&mechanism);
}

/* Unknown users have salts too, the same each time, and each its own. */
static void salt_of(const char *name, char salt_out[64])
{
    char text[64];
    int len = snprintf(text, sizeof text, "n,,n=%s,r=rOprNGfwEbeRWgbNEkqO", name);
    struct str token = {text, (size_t)len};
    struct mechanism *mechanism = mechanism_new(shared, MECHANISM_SCRAM, &plain_client, users);
    assert_int_equal(step(mechanism, &token), MECHANISM_ASK);
    struct str challenge = mechanism_challenge(mechanism);
    const char *salt = memmem(challenge.p, challenge.len, ",s=", 3);
    assert_non_null(salt);
    snprintf(salt_out, 64, "%.*s", (int)(challenge.p + challenge.len - salt), salt);
    mechanism_free(&mechanism);
}

static void test_scram_of_nobody(void **state)
{
    char one[64], again[64], other[64], known[64];
    (void)state;

    salt_of("nobody", one);
    salt_of("nobody", again);
    salt_of("somebody", other);
    salt_of("user", known);
    assert_string_equal(one, again);
    assert_string_not_equal(one, other);
    assert_int_equal(strlen(one), strlen(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=20000"));
    assert_non_null(strstr(one, ",i=20000"));
    assert_string_equal(known, ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
}

/* ---- EXTERNAL ---- */

static void test_external(void **state)
{
    static const struct {
        const char *names[2];
        const char *authzid;
        enum mechanism_next next;
    } cases[] = {
        {{"app.example"}, "", MECHANISM_ACCEPTED},
        {{"app.example"}, "app.example", MECHANISM_ACCEPTED},
        {{"other.example", "app.example"}, "", MECHANISM_ACCEPTED},
        {{"app.example"}, "user", MECHANISM_WRONG},
        {{"app.example"}, "App.Example", MECHANISM_WRONG},
        {{"app.example", "other.example"}, "other.example", MECHANISM_WRONG}, /* no user */
        {{"other.example"}, "", MECHANISM_WRONG},
        {{NULL}, "", MECHANISM_WRONG},
        {{NULL}, "user", MECHANISM_WRONG},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct auth_client client = {.names = {cases[i].names[0], cases[i].names[1]}};
        while (client.name_count < 2 && client.names[client.name_count] != NULL)
            client.name_count++;
        enum mechanism_next next =
            first_token(MECHANISM_EXTERNAL, &client, str_from(cases[i].authzid));
        if (next != cases[i].next)
            fail_msg("case %zu: %d", i, next);
    }
    struct auth_client client = {.names = {"app.example"}, .name_count = 1};
    assert_int_equal(first_token(MECHANISM_EXTERNAL, &client, STR("app.example\0")),
                     MECHANISM_MALFORMED);
    assert_true(mechanism_is_offered(MECHANISM_EXTERNAL, &client, users));
    client.names[0] = "other.example";
    assert_false(mechanism_is_offered(MECHANISM_EXTERNAL, &client, users));
    assert_false(mechanism_is_offered(MECHANISM_PLAIN, &client, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),           cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_login),           cmocka_unit_test(test_scram),
        cmocka_unit_test(test_scram_plus),      cmocka_unit_test(test_scram_first_messages),
        cmocka_unit_test(test_scram_challenge), cmocka_unit_test(test_scram_of_nobody),
        cmocka_unit_test(test_external),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
