/* mta/auth/users_edit: adding and removing users while others read and write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/auth/password.h"
#include "mta/auth/users_edit.h"

#define HASH  "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."
#define KEY   "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define SCRAM "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" KEY ":" KEY

static char folder[64], path[96], error[512];
static struct auth_edit edit = {.path = path, .group = (gid_t)-1};

static int start(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test-auth-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/users", folder);
    error[0] = '\0';
    return 0;
}

static int stop(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails where something was left beside it */
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static char *read_file(void)
{
    static char text[8192];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    return text;
}

static enum auth_edit_result add(const char *name, const char *password, const char *sender)
{
    return auth_edit_add(&edit, str_from(name), str_from(password), &sender, sender != NULL, error,
                         sizeof error);
}

static struct auth_users *load(void)
{
    struct auth_users *users = NULL;
    int rc = auth_users_load(path, &users, error, sizeof error);
    assert_string_equal(error, "");
    assert_int_equal(rc, 0);
    return users;
}

static bool has_password(const char *name, const char *text)
{
    struct password_hasher *hasher = password_hasher_new();
    struct auth_users *users = load();
    struct password password;

    assert_null(password_prepare(str_from(text), &password));
    const struct auth_user *user = auth_users_find(users, str_from(name));
    bool matches = user != NULL && password_matches(hasher, &password, user->hash);
    auth_users_unref(&users);
    password_hasher_free(&hasher);
    return matches;
}

static void test_add_change_remove(void **state)
{
    static const char *const two[] = {"a@x.example", "@y.example"};
    struct stat info;
    (void)state;

    assert_int_equal(add("bob", "secret", NULL), AUTH_EDIT_ADDED);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_true(has_password("bob", "secret"));
    assert_false(has_password("bob", "other"));
    assert_null(strstr(read_file(), "secret"));

    assert_int_equal(auth_edit_add(&edit, STR("al"), STR("pw"), two, 2, error, sizeof error),
                     AUTH_EDIT_ADDED);
    struct auth_users *users = load();
    assert_int_equal(auth_users_count(users), 2);
    assert_null(auth_users_find(users, STR("bob"))->senders);
    assert_string_equal(auth_users_find(users, STR("al"))->senders, "a@x.example @y.example");
    auth_users_unref(&users);

    /* A new password leaves the limits as they are. */
    assert_int_equal(add("al", "next", NULL), AUTH_EDIT_CHANGED);
    users = load();
    assert_string_equal(auth_users_find(users, STR("al"))->senders, "a@x.example @y.example");
    auth_users_unref(&users);
    assert_true(has_password("al", "next"));
    assert_int_equal(add("al", "next", "*"), AUTH_EDIT_CHANGED);
    users = load();
    assert_null(auth_users_find(users, STR("al"))->senders);
    auth_users_unref(&users);

    assert_int_equal(auth_edit_remove(&edit, STR("bob"), error, sizeof error), AUTH_EDIT_REMOVED);
    assert_int_equal(auth_edit_remove(&edit, STR("bob"), error, sizeof error), AUTH_EDIT_NOBODY);
    assert_int_equal(auth_edit_remove(&edit, STR("a"), error, sizeof error), AUTH_EDIT_NOBODY);
    users = load();
    assert_int_equal(auth_users_count(users), 1);
    auth_users_unref(&users);
}

static void test_the_rest_stays(void **state)
{
    (void)state;
    write_file("# users\nzoe\t" HASH "\t" SCRAM "\n\n# of the shop\nbob\t" HASH "\t" SCRAM
               "\t@x\nbo\t" HASH "\t" SCRAM); /* no line end */
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(add("bob", "secret", NULL), AUTH_EDIT_CHANGED);
    const char *text = read_file();
    assert_memory_equal(text, "# users\nzoe\t" HASH "\t" SCRAM "\n\n# of the shop\nbob\t$y$j9T$",
                        40);
    const char *bob = strstr(text, "# of the shop\nbob\t$y$j9T$");
    assert_non_null(bob);
    assert_non_null(strstr(bob, "\t@x\nbo\t" HASH "\t" SCRAM "\n"));
    assert_int_equal(auth_edit_remove(&edit, STR("bob"), error, sizeof error), AUTH_EDIT_REMOVED);
    assert_string_equal(read_file(), "# users\nzoe\t" HASH "\t" SCRAM "\n\n# of the shop\nbo\t" HASH
                                     "\t" SCRAM "\n");
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *name, *password, *sender, *reason;
    } cases[] = {
        {"", "secret", NULL, "the name is empty"},
        {"two words", "secret", NULL, "no blanks"},
        {"x\ty", "secret", NULL, "no blanks"},
        {"#x", "secret", NULL, "does not begin with #"},
        {"x", "", NULL, "the password is empty"},
        {"x", "a\tb", NULL, "control character"},
        {"x", "\xff", NULL, "not UTF-8"},
        {"x", "secret", "example.com", "an address, @domain, or *, not \"example.com\""},
        {"x", "secret", "a@b c@d", "an address, @domain, or *"},
        {"x", "secret", "", "an address, @domain, or *"},
    };
    (void)state;

    write_file("zoe\t" HASH "\t" SCRAM "\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(add(cases[i].name, cases[i].password, cases[i].sender), AUTH_EDIT_FAILED);
        if (strstr(error, cases[i].reason) == NULL)
            fail_msg("case %zu: %s", i, error);
    }
    assert_string_equal(read_file(), "zoe\t" HASH "\t" SCRAM "\n");
}

static void test_a_faulty_file_is_left_alone(void **state)
{
    (void)state;
    write_file("zoe\t" HASH "\t" SCRAM "\nnonsense\n");
    assert_int_equal(add("bob", "secret", NULL), AUTH_EDIT_FAILED);
    assert_non_null(strstr(error, "users:2: "));
    assert_int_equal(auth_edit_remove(&edit, STR("zoe"), error, sizeof error), AUTH_EDIT_FAILED);
    assert_string_equal(read_file(), "zoe\t" HASH "\t" SCRAM "\nnonsense\n");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(auth_edit_remove(&edit, STR("zoe"), error, sizeof error), AUTH_EDIT_FAILED);
    assert_non_null(strstr(error, "No such file"));
    assert_int_equal(access(path, F_OK), -1);
}

static void test_a_link_stays_one(void **state)
{
    char link_path[96];
    struct stat info;
    (void)state;

    write_file("");
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(symlink("users", link_path), 0);
    struct auth_edit by_link = {.path = link_path, .group = (gid_t)-1};
    const char *none = NULL;
    assert_int_equal(
        auth_edit_add(&by_link, STR("bob"), STR("secret"), &none, 0, error, sizeof error),
        AUTH_EDIT_ADDED);
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_true(has_password("bob", "secret"));
    assert_int_equal(unlink(link_path), 0);
}

/* An admin who is not root, but of the group that mtad reads the file by. */
static void test_the_group_stays(void **state)
{
    enum { ADMIN = 5001, OWN_GROUP = 5001, READERS = 5002, STRANGERS = 5003 };
    const gid_t groups[] = {READERS};
    struct stat info;
    (void)state;

    if (geteuid() != 0)
        skip();
    for (gid_t group = READERS; group <= STRANGERS; group++) {
        write_file("zoe\t" HASH "\t" SCRAM "\n");
        assert_int_equal(chown(path, 0, group), 0);
        assert_int_equal(chmod(path, 0644), 0);
        assert_int_equal(chown(folder, ADMIN, OWN_GROUP), 0);
        pid_t admin = fork();
        assert_true(admin >= 0);
        if (admin == 0) {
            bool is_admin =
                setgroups(1, groups) == 0 && setgid(OWN_GROUP) == 0 && setuid(ADMIN) == 0;
            _exit(is_admin && add("bob", "secret", NULL) == AUTH_EDIT_ADDED ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(admin, &status, 0), admin);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), group == READERS ? 0 : 1);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_gid, group);
        assert_int_equal(strstr(read_file(), "bob") != NULL, group == READERS);
    }
}

/* Processes that all add at once lose nothing, and readers always see a whole file. */
static void test_many_writers(void **state)
{
    enum { WRITERS = 6 };
    pid_t writers[WRITERS];
    (void)state;

    write_file("");
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        assert_true(writers[i] >= 0);
        if (writers[i] == 0) {
            char name[16];
            snprintf(name, sizeof name, "user%d", i);
            _exit(add(name, "secret", NULL) == AUTH_EDIT_ADDED ? 0 : 1);
        }
    }
    for (int left = WRITERS; left > 0;) {
        struct auth_users *users = load();
        auth_users_unref(&users);
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG);
        assert_true(ended <= 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        left -= ended > 0;
    }
    struct auth_users *users = load();
    assert_int_equal(auth_users_count(users), WRITERS);
    auth_users_unref(&users);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_add_change_remove, start, stop),
        cmocka_unit_test_setup_teardown(test_the_rest_stays, start, stop),
        cmocka_unit_test_setup_teardown(test_what_is_refused, start, stop),
        cmocka_unit_test_setup_teardown(test_a_faulty_file_is_left_alone, start, stop),
        cmocka_unit_test_setup_teardown(test_a_link_stays_one, start, stop),
        cmocka_unit_test_setup_teardown(test_the_group_stays, start, stop),
        cmocka_unit_test_setup_teardown(test_many_writers, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
