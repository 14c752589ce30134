/* mta/auth/password.h - passwords: what they may be, hashing and checking them. Each is wiped by who
 * holds it. Any thread; a hasher belongs to one at a time.
 *
 * A password is 1..511 octets of UTF-8 after SASLprep (RFC 4013; printable ASCII is left as it is).
 * What SASLprep prohibits (control characters, say) or does not know (characters younger than Unicode 3.2)
 * is no password. */
#ifndef MTA_AUTH_PASSWORD_H
#define MTA_AUTH_PASSWORD_H

#include "mta/auth/users.h"

enum {
    PASSWORD_MAX_BYTES = 511, /* crypt(3) takes no more */
    PASSWORD_HASH_SIZE = 384,
    PASSWORD_SCRAM_COUNT = 20000, /* PBKDF2 is the client's work, at each login */
    PASSWORD_SALT_BYTES = 16,
};

struct password {
    char text[PASSWORD_MAX_BYTES + 1];
};

/* @return NULL, or why it is no password (static text; then *password_out is empty) */
const char *password_prepare(struct str raw, struct password *password_out);
void password_wipe(struct password *password);

/* Work space of the hash, about 32 KiB, and 16 MiB during the call. */
struct password_hasher;
struct password_hasher *password_hasher_new(void);
void password_hasher_free(struct password_hasher **hasherp);

/* Tenths of a second of CPU. hash is that of an auth_user. Compares in constant time. */
MUST_USE bool password_matches(struct password_hasher *hasher, const struct password *password,
                               const char *hash);

/* The same costs as password_make() with a hash that nothing matches: for unknown users. */
void password_match_nobody(struct password_hasher *hasher, const struct password *password);

/* With a new salt each. Ends the process if the system has no random bytes. */
void password_make(struct password_hasher *hasher, const struct password *password,
                   char hash_out[PASSWORD_HASH_SIZE], struct auth_scram *scram_out);

/* A digest that costs about a millisecond, under a secret that was made with the hasher: for
 * remembering for a while, in memory, that a password was right. `about` is mixed in.
 * @param password of at most PASSWORD_DIGESTED_MAX_BYTES */
enum { PASSWORD_DIGEST_BYTES = 43, PASSWORD_DIGESTED_MAX_BYTES = PASSWORD_MAX_BYTES - 16 };
void password_digest(struct password_hasher *hasher, const struct password *password, uint64_t about,
                     char digest_out[PASSWORD_DIGEST_BYTES]);

bool password_equal_bytes(const void *a, const void *b, size_t len); /* in constant time */
void password_random(void *bytes, size_t len);

#endif
