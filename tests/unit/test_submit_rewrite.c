/* Whom an address of the envelope means, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mta/base/buf.h"
#include "mta/submit/rewrite.h"
#include "queue/queue.h"

#define SYSTEM                                                                                     \
    "hostname: mail.example.com\n"                                                                 \
    "default_domain: example.com\n"                                                                \
    "aliases:\n"                                                                                   \
    "  root: [admin@person.example, ops]\n"                                                        \
    "  ops: [anna@person.example, bert]\n"                                                         \
    "  cron: root\n"                                                                               \
    "  keep: [keep, anna@person.example]\n"                                                        \
    "  twice: [ops, cron]\n"                                                                       \
    "  own: Root@Mail.Example.com\n"                                                               \
    "  left: right@localhost\n"                                                                    \
    "  right: left@localhost\n"                                                                    \
    "  abuse: postmaster\n"

static const struct config *parse(const char *yaml)
{
    const struct config *config = NULL;
    struct config_error error = {""};
    if (config_parse(yaml, strlen(yaml), "f", "/", &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

/* What came out, separated by blanks. */
struct found {
    char text[1024];
    size_t count, room;
};

static bool note(const struct smtp_address *address, void *ctx)
{
    struct found *found = ctx;
    if (found->count == found->room)
        return false;
    found->count++;
    size_t used = strlen(found->text);
    snprintf(found->text + used, sizeof found->text - used, "%s%.*s", used > 0 ? " " : "",
             (int)address->whole.len, address->whole.p);
    assert_int_equal(address->whole.len, address->local.len + 1 + address->domain.len);
    assert_memory_equal(address->whole.p, address->local.p, address->local.len);
    assert_memory_equal(address->whole.p + address->local.len + 1, address->domain.p,
                        address->domain.len);
    return true;
}

static struct smtp_address address_of(const char *text)
{
    enum smtp_path_kind kind;
    struct smtp_address address = {0};
    struct str rest;
    char *path = malloc(strlen(text) + 3); /* freed with the test's process; borrowed by address */
    assert_non_null(path);
    snprintf(path, strlen(text) + 3, "<%s>", text);
    assert_true(smtp_path_parse(str_from(path), &kind, &address, &rest));
    struct str whole = {path + 1, strlen(text)};
    assert_true(str_equal(address.whole, whole));
    return address;
}

static void check(const struct config *config, const char *recipient, bool complete,
                  enum rewrite_result want, const char *text)
{
    struct found found = {.room = 100};
    struct smtp_address address = address_of(recipient);
    enum rewrite_result result = rewrite_recipient(config, &address, complete, note, &found);
    free((char *)address.whole.p - 1);
    if (result != want || (want == REWRITE_OK && strcmp(found.text, text) != 0))
        fail_msg("%s: %d \"%s\", expected %d \"%s\"", recipient, (int)result, found.text, (int)want,
                 text);
    if (want == REWRITE_UNQUALIFIED)
        assert_int_equal(found.count, 0);
}

static void test_recipients(void **state)
{
    (void)state;
    static const struct {
        const char *recipient, *text;
    } rows[] = {
        {"bert@dest.example", "bert@dest.example"},
        {"bert", "bert@example.com"},
        {"root", "admin@person.example anna@person.example bert@example.com"},
        {"ROOT", "admin@person.example anna@person.example bert@example.com"},
        {"ops", "anna@person.example bert@example.com"},
        {"cron", "admin@person.example anna@person.example bert@example.com"},
        {"keep", "keep@example.com anna@person.example"},
        {"twice", "admin@person.example anna@person.example bert@example.com"},
        {"own", "admin@person.example anna@person.example bert@example.com"},
        /* this machine's own names */
        {"ops@localhost", "anna@person.example bert@example.com"},
        {"ops@LocalHost.localdomain", "anna@person.example bert@example.com"},
        {"ops@MAIL.example.com", "anna@person.example bert@example.com"},
        {"bert@localhost", "bert@localhost"},
        /* a domain of others, although a name without one gets it */
        {"root@example.com", "root@example.com"},
        {"root@mail.example.com.other.example", "root@mail.example.com.other.example"},
        {"root@[127.0.0.1]", "root@[127.0.0.1]"},
        /* no way out of a circle but the address itself */
        {"left", "left@example.com"},
        {"right", "right@example.com"},
        /* nobody is named: the domain's own */
        {"Postmaster", "Postmaster@example.com"},
        {"postmaster@example.com", "postmaster@example.com"},
        {"abuse", "postmaster@example.com"},
        /* parts of names are no names */
        {"roo", "roo@example.com"},
        {"roots", "roots@example.com"},
    };
    const struct config *config = parse(SYSTEM);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(config, rows[i].recipient, true, REWRITE_OK, rows[i].text);
    config_unref(&config);
}

static void test_not_completed(void **state)
{
    (void)state;
    const struct config *config = parse(SYSTEM "postmaster: who@person.example\n");
    check(config, "root", false, REWRITE_UNQUALIFIED, "");
    check(config, "bert", false, REWRITE_UNQUALIFIED, "");
    check(config, "postmaster", false, REWRITE_OK, "who@person.example");
    check(config, "POSTMASTER@mail.example.com", false, REWRITE_OK, "who@person.example");
    check(config, "postmaster@example.com", false, REWRITE_OK, "postmaster@example.com");
    check(config, "abuse", true, REWRITE_OK, "who@person.example");
    check(config, "cron@localhost", false, REWRITE_OK,
          "admin@person.example anna@person.example bert@example.com");
    config_unref(&config);

    config = parse("hostname: a.example\naliases: {postmaster: [x@b.example, y@b.example]}\n");
    check(config, "Postmaster", false, REWRITE_OK, "x@b.example y@b.example");
    check(config, "bert", true, REWRITE_OK, "bert@a.example");
    config_unref(&config);
}

static void test_bounds(void **state)
{
    (void)state;
    const struct config *config = parse(SYSTEM);
    struct smtp_address ops = {.whole = STR("ops"), .local = STR("ops")};
    struct found found = {.room = 1};
    assert_int_equal(rewrite_recipient(config, &ops, true, note, &found), REWRITE_STOPPED);
    assert_int_equal(found.count, 1);

    char local[SMTP_PATH_MAX], text[REWRITE_ADDRESS_MAX];
    struct smtp_address address;
    memset(local, 'x', sizeof local);
    struct str fits = {local, SMTP_PATH_MAX - sizeof "@example.com" + 1};
    struct str over = {local, fits.len + 1};
    assert_true(rewrite_complete(config, fits, text, &address));
    assert_int_equal(address.whole.len, SMTP_PATH_MAX);
    assert_false(rewrite_complete(config, over, text, &address));
    struct smtp_address recipient = {.whole = over, .local = over};
    found.room = 100;
    assert_int_equal(rewrite_recipient(config, &recipient, true, note, &found), REWRITE_TOO_LONG);
    config_unref(&config);
}

/* A chain as long as a file allows, named again at each of its links: each is followed once. */
static void test_long_chain(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    size_t size = (size_t)COUNT * 40 + 100;
    char *yaml = mem_alloc(size);
    size_t used = (size_t)snprintf(yaml, size, "hostname: a.example\naliases:\n");
    for (int i = 0; i < COUNT; i++)
        used += (size_t)snprintf(yaml + used, size - used, "  n%d: [n%d, n%d]\n", i, i + 1,
                                 i + 2 <= COUNT ? i + 2 : i + 1);
    snprintf(yaml + used, size - used, "  n%d: end@b.example\n", COUNT);
    const struct config *config = parse(yaml);
    check(config, "n0", true, REWRITE_OK, "end@b.example");
    config_unref(&config);
    free(yaml);
}

/* ---- what goes along: RFC 3461 section 5.2.7 ---- */

enum {
    NEVER = QUEUE_NOTIFY_NEVER,
    SUCCESS = QUEUE_NOTIFY_SUCCESS,
    FAILURE = QUEUE_NOTIFY_FAILURE,
    DELAY = QUEUE_NOTIFY_DELAY,
    EXPANDED = QUEUE_NOTIFY_EXPANDED,
};

static const struct asked_row {
    const char *recipient;
    unsigned notify;
    const char *orcpt;
    unsigned want_notify;
    const char *want_orcpt;
} asked_rows[] = {
    /* a name that stands for itself, or for one: all as it was given */
    {"bert@dest.example", 0, "", 0, ""},
    {"bert@dest.example", SUCCESS | DELAY, "", SUCCESS | DELAY, ""},
    {"bert@dest.example", SUCCESS, "rfc822;x@y", SUCCESS, "rfc822;x@y"},
    {"bert@dest.example", 0, "rfc822;x@y", 0, "rfc822;x@y"},
    {"bert", SUCCESS, "", SUCCESS, ""}, /* completed, not renamed */
    {"Postmaster", NEVER, "", NEVER, "rfc822;Postmaster@example.com"},
    {"own1", SUCCESS | FAILURE, "", SUCCESS | FAILURE, "rfc822;own1@example.com"},
    {"own1@LocalHost", SUCCESS, "", SUCCESS, "rfc822;own1@LocalHost"},
    {"own1", SUCCESS, "utf-8;x@y", SUCCESS, "utf-8;x@y"},
    {"own1", 0, "", 0, ""}, /* nothing was asked: nothing is said */
    {"own1", 0, "rfc822;x@y", 0, "rfc822;x@y"},
    /* one that stands for several: success is told here, the rest as it was given */
    {"ops", SUCCESS | FAILURE | DELAY, "", FAILURE | DELAY | EXPANDED, "rfc822;ops@example.com"},
    {"ops", SUCCESS | DELAY, "rfc822;x@y", DELAY | EXPANDED, "rfc822;x@y"},
    {"ops", SUCCESS, "", NEVER | EXPANDED, "rfc822;ops@example.com"},
    {"ops", FAILURE, "", FAILURE, "rfc822;ops@example.com"},
    {"ops", NEVER, "rfc822;x@y", NEVER, "rfc822;x@y"},
    {"ops", 0, "", 0, ""},
    {"keep", SUCCESS, "", NEVER | EXPANDED, "rfc822;keep@example.com"},
    {"same", SUCCESS, "", SUCCESS, "rfc822;same@example.com"},       /* one, twice */
    {"a+b=~", SUCCESS, "", SUCCESS, "rfc822;a+2Bb+3D~@example.com"}, /* xtext */
};

static void test_asked(void **state)
{
    const struct config *config = parse(SYSTEM "  own1: who@person.example\n"
                                               "  same: [again, who@person.example]\n"
                                               "  again: who@person.example\n"
                                               "  a+b=~: who@person.example\n"
                                               "postmaster: who@person.example\n");
    (void)state;
    for (size_t i = 0; i < sizeof asked_rows / sizeof asked_rows[0]; i++) {
        const struct asked_row *row = &asked_rows[i];
        struct smtp_rcpt rcpt = {.address = address_of(row->recipient),
                                 .notify = row->notify,
                                 .orcpt = str_from(row->orcpt)};
        struct rewrite_asked asked;
        rewrite_asked(config, &rcpt, true, &asked);
        free((char *)rcpt.address.whole.p - 1);
        if (asked.notify != row->want_notify || strcmp(asked.orcpt, row->want_orcpt) != 0)
            fail_msg("%s %u %s: %u %s", row->recipient, row->notify, row->orcpt,
                     (unsigned)asked.notify, asked.orcpt);
    }
    config_unref(&config);
}

static void test_asked_bounds(void **state)
{
    const struct config *config = parse("hostname: a.example\npostmaster: who@person.example\n");
    char orcpt[SMTP_ORCPT_MAX];
    struct smtp_rcpt rcpt = {.notify = SMTP_NOTIFY_SUCCESS, .orcpt = {orcpt, sizeof orcpt}};
    struct rewrite_asked asked;
    (void)state;
    memset(orcpt, 'o', sizeof orcpt);
    rcpt.address = (struct smtp_address){.whole = STR("postmaster"), .local = STR("postmaster")};
    rewrite_asked(config, &rcpt, false, &asked);
    assert_memory_equal(asked.orcpt, orcpt, sizeof orcpt);
    assert_int_equal(strlen(asked.orcpt), sizeof orcpt);

    rcpt.orcpt.len = 0;
    rewrite_asked(config, &rcpt, false, &asked);
    assert_string_equal(asked.orcpt, "rfc822;postmaster@a.example");
    rcpt.address = (struct smtp_address){.whole = STR("bert"), .local = STR("bert")};
    rewrite_asked(config, &rcpt, false, &asked); /* will be refused */
    assert_string_equal(asked.orcpt, "");
    config_unref(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipients), cmocka_unit_test(test_not_completed),
        cmocka_unit_test(test_bounds),     cmocka_unit_test(test_long_chain),
        cmocka_unit_test(test_asked),      cmocka_unit_test(test_asked_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
