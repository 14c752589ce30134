/* mta/auth/users.h - who may log in: the users file, as an immutable, reference-counted value.
 *
 * One user a line, fields separated by a TAB:
 *     name  yescrypt-hash  SCRAM-SHA-256$count:salt$StoredKey:ServerKey  [allowed senders]
 * Allowed senders are separated by blanks: an address, @domain, or *; without the field: any.
 * Empty lines and lines that begin with # are skipped. `mtactl user` writes it.
 *
 * Names are 1..255 octets of printable ASCII without blanks, not beginning with #; they are compared
 * octet by octet. Any thread; references are atomic. */
#ifndef MTA_AUTH_USERS_H
#define MTA_AUTH_USERS_H

#include "mta/base/str.h"

enum {
    AUTH_NAME_MAX_BYTES = 255,
    AUTH_SALT_MAX_BYTES = 64,
    AUTH_KEY_BYTES = 32, /* SHA-256 */
    AUTH_FILE_MAX_BYTES = 16 * 1024 * 1024,
    AUTH_LINE_MAX_BYTES = 64 * 1024,
};

struct auth_user {
    const char *name;
    const char *hash; /* yescrypt, as crypt(5) writes it */
    struct auth_scram {
        uint32_t count; /* of PBKDF2 */
        uint8_t salt[AUTH_SALT_MAX_BYTES];
        size_t salt_len;
        uint8_t stored_key[AUTH_KEY_BYTES], server_key[AUTH_KEY_BYTES];
    } scram;
    const char *senders; /* the patterns with one blank between each, none of them "*"; NULL: any
                            sender */
};

/* One user outlives the file it came from: a session keeps the one that logged in. */
struct auth_user *auth_user_ref(const struct auth_user *user);
void auth_user_unref(struct auth_user **userp); /* stores NULL; accepts a pointer to NULL */

/* May this user send from that address (MAIL FROM, without the angle brackets)? The empty one
 * (notifications of MUAs): yes. Letters are compared without case, ASCII only. */
bool auth_user_may_send(const struct auth_user *user, struct str address);

struct auth_users;

/**
 * Read and check the whole file.
 *
 * @param error "path:line: what is wrong" or "path: reason"
 * @return 0; -1: it cannot be read, or a line is wrong (nothing is taken from a faulty file)
 *
 * At most AUTH_FILE_MAX_BYTES. Blocks on file I/O. Where it could not be opened, errno tells why.
 */
MUST_USE int auth_users_load(const char *path, struct auth_users **users_out, char *error,
                             size_t error_size);
/* The same from memory; `path` stands in messages. Any content. */
MUST_USE int auth_users_parse(struct str text, const char *path, struct auth_users **users_out,
                              char *error, size_t error_size);
struct auth_users *auth_users_ref(struct auth_users *users);
void auth_users_unref(struct auth_users **usersp);

size_t auth_users_count(const struct auth_users *users);
/* In the order of their names. Borrowed. */
const struct auth_user *auth_users_at(const struct auth_users *users, size_t i);
/* NULL: nobody of that name. Borrowed. */
const struct auth_user *auth_users_find(const struct auth_users *users, struct str name);

/* ---- for who writes the file ---- */

/* NULL, or why this cannot be a name / a pattern of allowed senders; static text. */
const char *auth_name_fault(struct str name);
const char *auth_sender_fault(struct str pattern);

#endif
