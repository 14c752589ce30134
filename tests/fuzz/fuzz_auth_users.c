/* tests/fuzz/fuzz_auth_users.c - a users file. What is taken has only names and patterns that may
 * be written, can be found, and says where it is wrong otherwise. */
#include <stdlib.h>
#include <string.h>

#include "mta/auth/users.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_user(const struct auth_users *users, const struct auth_user *user)
{
    check(auth_name_fault(str_from(user->name)) == NULL);
    check(auth_users_find(users, str_from(user->name)) == user);
    check(memcmp(user->hash, "$y$j", 4) == 0);
    check(user->scram.count >= 4096 && user->scram.salt_len > 0);
    check(user->scram.salt_len <= AUTH_SALT_MAX_BYTES);
    check(auth_user_may_send(user, STR("")));
    if (user->senders == NULL) {
        check(auth_user_may_send(user, STR("anybody@any.example")));
        return;
    }
    /* Each pattern that is an address lets itself through. */
    struct str left = str_from(user->senders);
    while (left.len > 0) {
        const char *end = memchr(left.p, ' ', left.len);
        struct str pattern = {left.p, end != NULL ? (size_t)(end - left.p) : left.len};
        check(auth_sender_fault(pattern) == NULL);
        check(auth_user_may_send(user, pattern));
        left = str_skip(left, pattern.len + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct auth_users *users = NULL;
    char error[512] = "";

    if (auth_users_parse((struct str){(const char *)data, size}, "users", &users, error,
                         sizeof error) < 0) {
        check(users == NULL && memcmp(error, "users:", 6) == 0 && error[6] >= '1');
        return 0;
    }
    check(error[0] == '\0');
    for (size_t i = 0; i < auth_users_count(users); i++) {
        const struct auth_user *user = auth_users_at(users, i);
        if (i > 0)
            check(strcmp(auth_users_at(users, i - 1)->name, user->name) < 0);
        check_user(users, user);
    }
    auth_users_unref(&users);
    return 0;
}
