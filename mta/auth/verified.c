/* mta/auth/verified.c - see verified.h. */
#include "mta/auth/verified.h"

#include <stdlib.h>
#include <string.h>

enum { SETS = 512, WAYS = 2 };

struct entry {
    uint64_t about;
    uint64_t since_ms;
    bool used;
    char digest[PASSWORD_DIGEST_BYTES];
};

struct verified {
    struct password_hasher *hasher;
    struct entry entries[SETS][WAYS];
};

struct verified *verified_new(void)
{
    struct verified *verified = mem_alloc(sizeof *verified);
    verified->hasher = password_hasher_new();
    return verified;
}

void verified_free(struct verified **verifiedp)
{
    struct verified *verified = *verifiedp;
    *verifiedp = NULL;
    if (verified == NULL)
        return;
    password_hasher_free(&verified->hasher);
    explicit_bzero(verified->entries, sizeof verified->entries);
    free(verified);
}

static bool is_digestible(const struct password *password)
{
    return strlen(password->text) <= PASSWORD_DIGESTED_MAX_BYTES;
}

bool verified_knows(struct verified *verified, uint64_t about, const struct password *password,
                    uint64_t now_ms)
{
    struct entry *set = verified->entries[about % SETS];
    char digest[PASSWORD_DIGEST_BYTES];
    bool known = false;

    if (!is_digestible(password))
        return false;
    password_digest(verified->hasher, password, about, digest);
    for (size_t i = 0; i < WAYS; i++) {
        bool same =
            set[i].used && set[i].about == about && now_ms - set[i].since_ms < VERIFIED_KEEP_MS;
        known = known || (same && password_equal_bytes(set[i].digest, digest, sizeof digest));
    }
    explicit_bzero(digest, sizeof digest);
    return known;
}

void verified_remember(struct verified *verified, uint64_t about, const struct password *password,
                       uint64_t now_ms)
{
    struct entry *set = verified->entries[about % SETS], *place = &set[0];

    if (!is_digestible(password))
        return;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used && set[i].about == about) {
            place = &set[i];
            break;
        }
        if (!set[i].used || (place->used && set[i].since_ms < place->since_ms))
            place = &set[i];
    }
    place->about = about;
    place->since_ms = now_ms;
    place->used = true;
    password_digest(verified->hasher, password, about, place->digest);
}
