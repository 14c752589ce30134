/* mta/auth/users_edit.h - changing the users file: one writer at a time (a lock on the file), and readers
 * see the former file or the new one, whole. Comments and the order of lines stay. A faulty file is not
 * touched. */
#ifndef MTA_AUTH_USERS_EDIT_H
#define MTA_AUTH_USERS_EDIT_H

#include <sys/types.h>

#include "mta/auth/users.h"

struct auth_edit {
    const char *path;
    gid_t group; /* whose a new file is, beside its maker; (gid_t)-1: as the system gives it */
};

enum auth_edit_result { AUTH_EDIT_FAILED = -1, AUTH_EDIT_ADDED, AUTH_EDIT_CHANGED, AUTH_EDIT_REMOVED,
                        AUTH_EDIT_NOBODY /* no user of that name; nothing was written */ };

/**
 * A new user, or a new password for one that is there.
 *
 * @param password raw, as typed; the caller wipes it
 * @param senders  patterns; count 0: any, or those that the user has already. One "*" takes a limit away.
 * @return ADDED, CHANGED, or FAILED with a line in error
 *
 * Makes the file, with mode 0640; the group of a former one stays, and where that is not permitted
 * the change fails. Synced once it returns. Tenths of a second of CPU.
 */
MUST_USE enum auth_edit_result auth_edit_add(const struct auth_edit *edit, struct str name,
                                             struct str password, const char *const *senders,
                                             size_t sender_count, char *error, size_t error_size);

/* @return REMOVED, NOBODY, or FAILED with a line in error */
MUST_USE enum auth_edit_result auth_edit_remove(const struct auth_edit *edit, struct str name,
                                                char *error, size_t error_size);

#endif
