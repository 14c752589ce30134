/* mta/auth/auth: exchanges through a port, with the real threads: answers, delays, changes of the
 * file, many at once, and owners that leave at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mta/auth/auth.h"
#include "mta/auth/base64.h"
#include "mta/base/time.h"

/* "password", with small costs; keys of "pencil". */
#define HASH "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."
#define SCRAM                                                                                      \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                 \
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                                                \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define OTHER_SCRAM                                                                                \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                 \
    "AG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                                                \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define LINE(name) name "\t" HASH "\t" SCRAM "\n"

static char folder[64], path[96];
static struct auth *auth;
static struct auth_port *port;
static int event_fd = -1;

static void write_file(const char *text)
{
    char made[128];
    snprintf(made, sizeof made, "%s.new", path);
    FILE *file = fopen(made, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(made, path), 0);
}

static void notify(void *ctx)
{
    uint64_t one = 1;
    assert_int_equal(write(*(int *)ctx, &one, sizeof one), sizeof one);
}

static int start(void **state)
{
    char error[256] = "";
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test-auth-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/users", folder);
    write_file(LINE("app.example") LINE("user") LINE("user2"));
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    auth = auth_new(NULL);
    assert_int_equal(auth_set_users_file(auth, path, error, sizeof error), 0);
    port = auth_port_new(auth, notify, &event_fd);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    auth_port_free(&port);
    auth_free(&auth);
    close(event_fd);
    unlink(path);
    return rmdir(folder);
}

/* ---- a client ---- */

struct login {
    struct auth_exchange *exchange;
    const char *const *responses; /* base64, in their order; NULL at the end: leave */
    bool done;
    enum auth_answer_kind kind;
    char user[64], name[64], challenge[256], text[128];
    uint64_t begun_ms, took_ms;
    struct auth_user **keep; /* where to keep who is in, or NULL */
};

static void on_answer(const struct auth_answer *answer, void *ctx)
{
    struct login *login = ctx;

    assert_false(login->done);
    snprintf(login->challenge, sizeof login->challenge, "%.*s", (int)answer->challenge.len,
             answer->challenge.len > 0 ? answer->challenge.p : "");
    if (answer->kind == AUTH_CHALLENGE && login->responses != NULL && *login->responses != NULL) {
        auth_step(login->exchange, str_from(*login->responses++));
        return;
    }
    if (answer->kind == AUTH_CHALLENGE)
        auth_cancel(&login->exchange);
    login->exchange = NULL;
    login->done = true;
    login->kind = answer->kind;
    login->took_ms = time_monotonic_ms() - login->begun_ms;
    if (login->keep != NULL && answer->user != NULL)
        *login->keep = auth_user_ref(answer->user);
    snprintf(login->user, sizeof login->user, "%s", answer->user != NULL ? answer->user->name : "");
    snprintf(login->name, sizeof login->name, "%s", answer->name != NULL ? answer->name : "");
    snprintf(login->text, sizeof login->text, "%s", answer->text);
}

static void begin(struct login *login, const struct auth_client *client, const char *mechanism,
                  const char *initial)
{
    struct str text = str_from(initial);
    login->begun_ms = time_monotonic_ms();
    login->exchange = auth_start(port, client, str_from(mechanism), initial != NULL ? &text : NULL,
                                 on_answer, login);
}

static void run_once(int timeout_ms)
{
    struct pollfd waits = {.fd = event_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&waits, 1, timeout_ms) == 1)
        assert_int_equal(read(event_fd, &count, sizeof count), sizeof count);
    auth_port_run(port);
}

static void finish(struct login *logins, size_t count)
{
    uint64_t deadline_ms = time_monotonic_ms() + 60000;
    for (size_t i = 0; i < count; i++) {
        while (!logins[i].done) {
            assert_true(time_monotonic_ms() < deadline_ms);
            run_once(1000);
        }
    }
}

static struct login run(const struct auth_client *client, const char *mechanism,
                        const char *initial, const char *const *responses)
{
    struct login login = {.responses = responses};
    begin(&login, client, mechanism, initial);
    assert_false(login.done); /* never from inside */
    finish(&login, 1);
    return login;
}

static char *plain(const char *name, const char *password)
{
    static char text[BASE64_ENCODED_SIZE(128)];
    char token[128];
    int len = snprintf(token, sizeof token, "%c%s%c%s", 0, name, 0, password);
    base64_encode(token, (size_t)len, text);
    return text;
}

static struct login log_in(const struct auth_client *client, const char *name, const char *password)
{
    return run(client, "PLAIN", plain(name, password), NULL);
}

/* Each test has addresses of its own: failures of others do not slow it. */
static struct auth_client remote(uint8_t number)
{
    return (struct auth_client){.address = {192, 0, 2, number}};
}

/* ---- tests ---- */

static void test_what_is_offered(void **state)
{
    struct auth_client client = remote(1);
    char text[AUTH_MECHANISMS_TEXT_MAX];
    (void)state;

    auth_mechanisms(auth, &client, text);
    assert_string_equal(text, "SCRAM-SHA-256 PLAIN LOGIN");
    client.exporter_len = 32;
    auth_mechanisms(auth, &client, text);
    assert_string_equal(text, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
    client.name_count = 1;
    client.names[0] = "app.example";
    auth_mechanisms(auth, &client, text);
    assert_string_equal(text, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN EXTERNAL");
    struct login login = run(&client, "EXTERNAL", "=", NULL);
    assert_int_equal(login.kind, AUTH_ACCEPTED);
    assert_string_equal(login.user, "app.example");
    client.names[0] = "no.example";
    auth_mechanisms(auth, &client, text);
    assert_string_equal(text, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
    assert_int_equal(run(&client, "EXTERNAL", "=", NULL).kind, AUTH_UNKNOWN);
}

static void test_answers(void **state)
{
    static const struct {
        const char *mechanism, *initial;
        const char *responses[3];
        enum auth_answer_kind kind;
        const char *name;
    } cases[] = {
        {"PLAIN", "AHVzZXIAcGFzc3dvcmQ=", {NULL}, AUTH_ACCEPTED, "user"},
        {"plain", NULL, {"AHVzZXIAcGFzc3dvcmQ="}, AUTH_ACCEPTED, "user"},
        {"LOGIN", NULL, {"dXNlcg==", "cGFzc3dvcmQ="}, AUTH_ACCEPTED, "user"},
        {"LOGIN", "dXNlcg==", {"cGFzc3dvcmQ="}, AUTH_ACCEPTED, "user"},
        {"LOGIN", NULL, {NULL}, AUTH_CHALLENGE, ""},
        {"PLAIN", "!!!!", {NULL}, AUTH_MALFORMED, ""},
        {"PLAIN", "=", {NULL}, AUTH_MALFORMED, ""},
        {"PLAIN", "AAA", {NULL}, AUTH_MALFORMED, ""},
        {"PLAIN", NULL, {"="}, AUTH_MALFORMED, ""},
        {"PLAIN", NULL, {""}, AUTH_MALFORMED, ""},
        {"PLAIN", "dXNlcg==", {NULL}, AUTH_MALFORMED, ""},
        {"LOGIN", "dXNlcg==", {"!"}, AUTH_MALFORMED, "user"},
        {"LOGIN", "=", {NULL}, AUTH_MALFORMED, ""},
        {"SCRAM-SHA-256", "=", {NULL}, AUTH_MALFORMED, ""},
        {"SCRAM-SHA-256", "biwsbj11c2VyLHI9YWJjZGVm", {"AAAA"}, AUTH_MALFORMED, "user"},
        {"SCRAM-SHA-256-PLUS", "biws", {NULL}, AUTH_UNKNOWN, ""},
        {"SCRAM-SHA-1", NULL, {NULL}, AUTH_UNKNOWN, ""},
        {"CRAM-MD5", NULL, {NULL}, AUTH_UNKNOWN, ""},
        {"", NULL, {NULL}, AUTH_UNKNOWN, ""},
    };
    const struct auth_client client = remote(2);
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct login login = run(&client, cases[i].mechanism, cases[i].initial, cases[i].responses);
        if (login.kind != cases[i].kind || strcmp(login.name, cases[i].name) != 0)
            fail_msg("case %zu: %d %s", i, login.kind, login.name);
        if (login.kind == AUTH_ACCEPTED)
            assert_string_equal(login.user, "user");
    }
}

static void test_tokens_have_a_longest(void **state)
{
    static char text[AUTH_TOKEN_MAX_BYTES + 5];
    const struct auth_client client = remote(3);
    (void)state;

    memset(text, 'A',
           AUTH_TOKEN_MAX_BYTES); /* NULs: two of them end PLAIN's name, others are too many */
    assert_int_equal(run(&client, "PLAIN", text, NULL).kind, AUTH_MALFORMED);
    /* A valid one of that length: the name is too long to be anybody's. */
    memset(text, 'e', AUTH_TOKEN_MAX_BYTES);
    memcpy(text, "AHVz", 4);
    memcpy(text + AUTH_TOKEN_MAX_BYTES - 8, "AHVzZXIA", 8);
    assert_int_equal(run(&client, "PLAIN", text, NULL).kind, AUTH_MALFORMED);
    memcpy(text + AUTH_TOKEN_MAX_BYTES - 8, "egB6enp6", 8);
    assert_int_equal(run(&client, "PLAIN", text, NULL).kind, AUTH_WRONG);
    memset(text, 'e', AUTH_TOKEN_MAX_BYTES + 4);
    assert_int_equal(run(&client, "PLAIN", text, NULL).kind, AUTH_MALFORMED);
}

static void test_wrong_ones_take_longer_each_time(void **state)
{
    const struct auth_client client = remote(4);
    (void)state;

    struct login first = log_in(&client, "user", "guess");
    assert_int_equal(first.kind, AUTH_WRONG);
    assert_string_equal(first.name, "user");
    assert_string_equal(first.user, "");
    assert_true(first.took_ms >= 500);
    struct login second = log_in(&client, "nobody", "guess");
    assert_int_equal(second.kind, AUTH_WRONG);
    assert_string_equal(second.name, ""); /* may be a password, typed in the wrong place */
    assert_true(second.took_ms >= 1000);
    assert_string_equal(first.text, second.text);
}

/* One user is attacked on this machine, and from one address: the right password gets in, from
 * there as from elsewhere. */
static void test_a_right_one_among_wrong_ones(void **state)
{
    enum { MANY = 40 };
    static struct login wrong[MANY];
    const struct auth_client client = remote(5), elsewhere = remote(6);
    (void)state;

    assert_int_equal(log_in(&client, "user2", "password").kind, AUTH_ACCEPTED);
    for (size_t i = 0; i < MANY; i++) {
        wrong[i] = (struct login){0};
        begin(&wrong[i], &client, "PLAIN", plain("user2", "guess"));
    }
    struct login right = log_in(&client, "user2", "password");
    assert_int_equal(right.kind, AUTH_ACCEPTED);
    assert_true(right.took_ms < 2000);
    right = log_in(&elsewhere, "user", "password");
    assert_int_equal(right.kind, AUTH_ACCEPTED);
    assert_true(right.took_ms < 2000);
    size_t held = 0;
    for (size_t i = 0; i < MANY; i++) {
        held += !wrong[i].done;
        auth_cancel(&wrong[i].exchange);
    }
    assert_true(held > MANY / 2);
}

static void test_the_file_is_looked_at(void **state)
{
    const struct auth_client client = remote(7), other = remote(8);
    char error[256], text[AUTH_MECHANISMS_TEXT_MAX];
    (void)state;

    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_WRONG);
    write_file(LINE("late") LINE("user") LINE("user2"));
    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_ACCEPTED);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    write_file(LINE("user") LINE("user2"));
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0); /* it cannot be opened now */
    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_ACCEPTED);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(log_in(&other, "late", "password").kind, AUTH_WRONG);
    write_file(LINE("late") LINE("user") LINE("user2"));
    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_ACCEPTED);
    write_file("nonsense\n");
    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_ACCEPTED);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(log_in(&client, "late", "password").kind, AUTH_ACCEPTED);
    assert_int_equal(auth_set_users_file(auth, path, error, sizeof error), -1);
    assert_non_null(strstr(error, "No such file"));
    write_file(LINE("user") LINE("user2") LINE("app.example"));
    /* Remembered, and yet gone. */
    assert_int_equal(log_in(&other, "late", "password").kind, AUTH_WRONG);

    assert_int_equal(auth_set_users_file(auth, NULL, error, sizeof error), 0);
    auth_mechanisms(auth, &client, text);
    assert_string_equal(text, "");
    assert_int_equal(log_in(&client, "user", "password").kind, AUTH_UNKNOWN);
    assert_int_equal(auth_set_users_file(auth, path, error, sizeof error), 0);
    assert_int_equal(log_in(&client, "user", "password").kind, AUTH_ACCEPTED);
}

/* The file is looked at behind the question: asked again and again, the answer becomes this one. */
static void wait_until_stands(struct auth_user **user, bool wanted)
{
    uint64_t deadline_ms = time_monotonic_ms() + 10000;
    while (auth_user_stands(auth, user) != wanted) {
        assert_true(time_monotonic_ms() < deadline_ms);
        (void)poll(NULL, 0, 5);
    }
}

/* A connection that stays open is no way round the users file. */
static void test_a_login_that_is_taken_back(void **state)
{
    static const char otherwise[] = "user\t" HASH "\t" SCRAM "\t@x.example\n";
    static const char next_password[] = "user\t" HASH "\t" OTHER_SCRAM "\n";
    const struct auth_client client = remote(10);
    struct auth_user *user = NULL;
    struct login login = {.keep = &user};
    char error[256];
    (void)state;

    begin(&login, &client, "PLAIN", plain("user", "password"));
    finish(&login, 1);
    assert_non_null(user);
    assert_true(auth_user_stands(auth, &user));
    assert_null(user->senders);

    write_file(otherwise);
    for (int i = 0; i < 1000 && user->senders == NULL; i++) {
        assert_true(auth_user_stands(auth, &user));
        (void)poll(NULL, 0, 5);
    }
    assert_string_equal(user->senders, "@x.example");
    write_file(next_password);
    wait_until_stands(&user, false);
    assert_string_equal(user->senders, "@x.example"); /* as it was */
    write_file(otherwise);
    wait_until_stands(&user, true);
    write_file(LINE("user2"));
    wait_until_stands(&user, false);
    write_file(otherwise);
    wait_until_stands(&user, true);
    assert_int_equal(auth_set_users_file(auth, NULL, error, sizeof error), 0);
    assert_false(auth_user_stands(auth, &user));

    write_file(LINE("user") LINE("user2") LINE("app.example"));
    assert_int_equal(auth_set_users_file(auth, path, error, sizeof error), 0);
    auth_user_unref(&user);
}

/* Who has no password never logs in otherwise. */
static void test_a_certificate_that_becomes_a_user(void **state)
{
    struct auth_client client = remote(11);
    char text[AUTH_MECHANISMS_TEXT_MAX] = "";
    (void)state;

    client.name_count = 1;
    client.names[0] = "new.example";
    auth_mechanisms(auth, &client, text);
    assert_null(strstr(text, "EXTERNAL"));
    write_file(LINE("user") LINE("user2") LINE("new.example"));
    for (int i = 0; i < 1000 && strstr(text, "EXTERNAL") == NULL; i++) {
        (void)poll(NULL, 0, 5);
        auth_mechanisms(auth, &client, text);
    }
    assert_non_null(strstr(text, "EXTERNAL"));
}

/* At each moment of an exchange, and all together. */
static void test_owners_that_leave(void **state)
{
    enum { MANY = 300 };
    static struct login logins[MANY];
    const struct auth_client client = remote(9);
    (void)state;

    for (size_t i = 0; i < MANY; i++) {
        logins[i] = (struct login){0};
        begin(&logins[i], &client, i % 3 == 0 ? "LOGIN" : "PLAIN",
              i % 3 == 0 ? NULL : plain("user", i % 3 == 1 ? "guess" : "password"));
        if (i % 7 == 0)
            run_once(2);
        if (i % 5 == 0)
            auth_cancel(&logins[i / 2].exchange);
    }
    for (size_t i = 0; i < MANY; i++)
        auth_cancel(&logins[i].exchange);
    struct auth_exchange *none = NULL;
    auth_cancel(&none);
    /* Nothing comes of any of them. */
    size_t done = 0;
    for (size_t i = 0; i < MANY; i++)
        done += logins[i].done;
    run_once(300);
    for (size_t i = 0; i < MANY; i++)
        done -= logins[i].done;
    assert_int_equal(done, 0);
}

/* An app that opens them all at once is no attack. */
static void test_many_right_ones_at_once(void **state)
{
    enum { MANY = 200 };
    static struct login logins[MANY];
    struct auth_client client = {.local = true};
    (void)state;

    for (size_t i = 0; i < MANY; i++) {
        logins[i] = (struct login){0};
        begin(&logins[i], &client, "PLAIN", plain("user", "password"));
    }
    finish(logins, MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(logins[i].kind, AUTH_ACCEPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_offered),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_tokens_have_a_longest),
        cmocka_unit_test(test_wrong_ones_take_longer_each_time),
        cmocka_unit_test(test_a_right_one_among_wrong_ones),
        cmocka_unit_test(test_the_file_is_looked_at),
        cmocka_unit_test(test_a_login_that_is_taken_back),
        cmocka_unit_test(test_a_certificate_that_becomes_a_user),
        cmocka_unit_test(test_owners_that_leave),
        cmocka_unit_test(test_many_right_ones_at_once),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
