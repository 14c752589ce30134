/* mta/auth/users: the users file with every kind of error, and who may send as whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/auth/users.h"

#define HASH "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."
/* RFC 7677 section 3, as keys: user "user", password "pencil". */
#define SCRAM                                                                                      \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                 \
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                                                \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define KEY "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="

static struct auth_users *parse(const char *text)
{
    struct auth_users *users = NULL;
    char error[256] = "";
    int rc = auth_users_parse(str_from(text), "users", &users, error, sizeof error);
    assert_string_equal(error, "");
    assert_int_equal(rc, 0);
    return users;
}

static void test_a_file(void **state)
{
    struct auth_users *users =
        parse("# made by hand\n"
              "zoe\t" HASH "\t" SCRAM "\n"
              "\n"
              "app@example.com\t" HASH "\t" SCRAM "\tapp@example.com @news.example\n"
              "ap\t" HASH "\t" SCRAM); /* no line end behind the last */
    (void)state;

    assert_int_equal(auth_users_count(users), 3);
    assert_string_equal(auth_users_at(users, 0)->name, "ap");
    assert_string_equal(auth_users_at(users, 1)->name, "app@example.com");
    assert_string_equal(auth_users_at(users, 2)->name, "zoe");
    const struct auth_user *zoe = auth_users_find(users, STR("zoe"));
    assert_string_equal(zoe->hash, HASH);
    assert_int_equal(zoe->scram.count, 4096);
    assert_int_equal(zoe->scram.salt_len, 16);
    assert_int_equal(zoe->scram.salt[0], 0x5b);
    assert_int_equal(zoe->scram.stored_key[0], 0x58);
    assert_int_equal(zoe->scram.server_key[31], 0xd5);
    assert_null(zoe->senders);
    assert_string_equal(auth_users_find(users, STR("app@example.com"))->senders,
                        "app@example.com @news.example");
    assert_null(auth_users_find(users, STR("a")));
    assert_null(auth_users_find(users, STR("app")));
    assert_null(auth_users_find(users, STR("ZOE")));
    assert_null(auth_users_find(users, STR("zoe\0")));
    assert_null(auth_users_find(users, STR("")));
    assert_null(auth_users_find(users, STR("zz")));

    /* One of them outlives the file. */
    struct auth_user *kept = auth_user_ref(zoe);
    struct auth_users *again = auth_users_ref(users);
    auth_users_unref(&users);
    auth_users_unref(&again);
    assert_string_equal(kept->name, "zoe");
    auth_user_unref(&kept);
    assert_null(kept);
}

static void test_nobody(void **state)
{
    (void)state;
    struct auth_users *users = parse("");
    assert_int_equal(auth_users_count(users), 0);
    assert_null(auth_users_find(users, STR("x")));
    auth_users_unref(&users);
}

#define NOT_HASH  "no yescrypt hash"
#define NOT_SCRAM "the third field is not SCRAM-SHA-256$count:salt$StoredKey:ServerKey"
#define COUNT     "three or four fields"

static const struct {
    const char *text, *place, *reason;
} faults[] = {
    {"x", "users:1: ", COUNT},
    {"x\t" HASH, "users:1: ", COUNT},
    {"\n# c\nx " HASH " " SCRAM "\n", "users:3: ", COUNT},
    {"x\t" HASH "\t" SCRAM "\t*\t*", "users:1: ", COUNT},
    {"x\t" HASH "\t" SCRAM "\t", "users:1: ", "leave it out to allow any"},
    {"x\t" HASH "\t" SCRAM "\ta@b  c@d", "users:1: ", "an address, @domain, or *"},
    {"x\t" HASH "\t" SCRAM "\ta@b ", "users:1: ", "leave it out to allow any"},
    {"x\t" HASH "\t" SCRAM "\ta@b,c@d", "users:1: ", "an address, @domain, or *"},
    {"x\t" HASH "\t" SCRAM "\texample.com", "users:1: ", "an address, @domain, or *"},
    {"x\t" HASH "\t" SCRAM "\ta@", "users:1: ", "an address, @domain, or *"},
    {"x\t" HASH "\t" SCRAM "\t@a@b", "users:1: ", "an address, @domain, or *"},
    {"x\t" HASH "\t" SCRAM "\t<a@b>", "users:1: ", "an address, @domain, or *"},
    {"\t" HASH "\t" SCRAM, "users:1: ", "the name is empty"},
    {"two words\t" HASH "\t" SCRAM, "users:1: ", "printable ASCII"},
    {"j\xc3\xb6rg\t" HASH "\t" SCRAM, "users:1: ", "printable ASCII"},
    {"x\x7f\t" HASH "\t" SCRAM, "users:1: ", "printable ASCII"},
    {"x\t" HASH "\t" SCRAM "\nx\t" HASH "\t" SCRAM,
     "users:2: ", "the user x stands in line 1 already"},
    {"b\t" HASH "\t" SCRAM "\na\t" HASH "\t" SCRAM "\nb\t" HASH "\t" SCRAM,
     "users:3: ", "the user b stands in line 1 already"},
    {"x\tpassword\t" SCRAM, "users:1: ", NOT_HASH},
    {"x\t$6$saltsalt$abcdefghijklmnop\t" SCRAM, "users:1: ", NOT_HASH},
    {"x\t$Y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs.\t" SCRAM,
     "users:1: ", NOT_HASH},
    {"x\t\t" SCRAM, "users:1: ", NOT_HASH},
    {"x\t$y$jFT$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs.\t" SCRAM,
     "users:1: ", "unusual costs"},
    {"x\t$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$short\t" SCRAM, "users:1: ", "not complete"},
    {"x\t$y$j75$HDRz7Lnj7GKJeE4a/tbBz/\t" SCRAM, "users:1: ", "not complete"},
    {"x\t" HASH "\r\t" SCRAM, "users:1: ", NOT_HASH},
    {"x\t" HASH "\t" SCRAM "\r", "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\t", "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-1$4096:AAAA$" KEY ":" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4095:AAAA$" KEY ":" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$99999999:AAAA$" KEY ":" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:$" KEY ":" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:AAA$" KEY ":" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:AAAA$AAAA:" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:AAAA$" KEY ":AAAA", "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:AAAA$" KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096:AAAA$" KEY ":" KEY KEY, "users:1: ", NOT_SCRAM},
    {"x\t" HASH "\tSCRAM-SHA-256$4096", "users:1: ", NOT_SCRAM},
};

static void test_faulty_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct auth_users *users = NULL;
        char error[256] = "";
        assert_int_equal(
            auth_users_parse(str_from(faults[i].text), "users", &users, error, sizeof error), -1);
        assert_null(users);
        if (strncmp(error, faults[i].place, strlen(faults[i].place)) != 0 ||
            strstr(error, faults[i].reason) == NULL)
            fail_msg("case %zu: %s", i, error);
    }
}

static void test_what_only_lengths_break(void **state)
{
    static char text[70 * 1024];
    struct auth_users *users = NULL;
    char error[256];
    (void)state;

    /* A NUL, which no literal above can hold. */
    assert_int_equal(
        auth_users_parse(STR("x\t" HASH "\0\t" SCRAM), "users", &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "users:1: there is a NUL"));
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(auth_users_parse(str_from(text), "users", &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "longer than 64 KiB"));
    snprintf(text + 256, sizeof text - 256, "\t" HASH "\t" SCRAM);
    assert_int_equal(auth_users_parse(str_from(text), "users", &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "longer than 255"));
    /* One octet less is a name. */
    assert_int_equal(auth_users_parse(str_from(text + 1), "users", &users, error, sizeof error), 0);
    auth_users_unref(&users);
    /* A salt of 64 octets is the longest. */
    snprintf(
        text, sizeof text, "x\t" HASH "\tSCRAM-SHA-256$4096:%.88s$" KEY ":" KEY,
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==");
    assert_int_equal(auth_users_parse(str_from(text), "users", &users, error, sizeof error), 0);
    auth_users_unref(&users);
    snprintf(
        text, sizeof text, "x\t" HASH "\tSCRAM-SHA-256$4096:%.88s$" KEY ":" KEY,
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_int_equal(auth_users_parse(str_from(text), "users", &users, error, sizeof error), -1);
}

static void test_files_that_cannot_be_read(void **state)
{
    char folder[] = "/tmp/test-auth-XXXXXX", path[64], error[256];
    struct auth_users *users = NULL;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/users", folder);
    assert_int_equal(auth_users_load(path, &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "No such file"));
    assert_non_null(strstr(error, "mtactl user add"));
    assert_int_equal(auth_users_load(folder, &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "not a regular file"));

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("x\t" HASH "\t" SCRAM "\n", file);
    fclose(file);
    assert_int_equal(auth_users_load(path, &users, error, sizeof error), 0);
    assert_int_equal(auth_users_count(users), 1);
    auth_users_unref(&users);
    assert_int_equal(truncate(path, 16 * 1024 * 1024 + 1), 0);
    assert_int_equal(auth_users_load(path, &users, error, sizeof error), -1);
    assert_non_null(strstr(error, "larger than 16 MiB"));
    unlink(path);
    rmdir(folder);
}

/* "*" is no limit, whatever stands beside it. */
static void test_anybody(void **state)
{
    static const char *const fields[] = {"", "\t*", "\ta@x.example *", "\t* @x.example"};
    struct auth_users *users = NULL;
    char line[400], error[200];
    (void)state;

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        snprintf(line, sizeof line, "x\t" HASH "\t" SCRAM "%s\n", fields[i]);
        assert_int_equal(auth_users_parse(str_from(line), "f", &users, error, sizeof error), 0);
        assert_null(auth_users_at(users, 0)->senders);
        assert_true(auth_user_may_send(auth_users_at(users, 0), STR("b@z.example")));
        auth_users_unref(&users);
    }
}

static void test_who_may_send_as_whom(void **state)
{
    static const struct {
        const char *senders, *address;
        bool may;
    } cases[] = {
        {NULL, "anybody@any.example", true},
        {"a@x.example", "a@x.example", true},
        {"a@x.example", "A@X.Example", true},
        {"a@x.example", "aa@x.example", false},
        {"a@x.example", "a@x.example.org", false},
        {"a@x.example", "a", false},
        {"@x.example", "who@x.example", true},
        {"@x.example", "\"a@y\"@X.EXAMPLE", true},
        {"@x.example", "\"a@x.example\"@y.example", false},
        {"@x.example", "who@sub.x.example", false},
        {"@x.example", "who@ax.example", false},
        {"@x.example", "x.example", false},
        {"a@x.example @y.example", "b@y.example", true},
        {"a@x.example @y.example", "b@x.example", false},
        {"a@x.example", "", true},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct auth_user user = {.name = "x", .senders = cases[i].senders};
        if (auth_user_may_send(&user, str_from(cases[i].address)) != cases[i].may)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_faulty_lines),
        cmocka_unit_test(test_what_only_lengths_break),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_anybody),
        cmocka_unit_test(test_who_may_send_as_whom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
