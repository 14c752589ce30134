/* mta/privilege.h - from root to an ordinary user, keeping only the right to bind low ports. Main
 * thread, before any other thread starts. */
#ifndef MTA_PRIVILEGE_H
#define MTA_PRIVILEGE_H

#include <sys/types.h>

#include "mta/base/str.h"

struct privilege {
    bool drop;      /* started as root and another user is to be used */
    bool stay_root; /* `user: root`: honoured, with a warning */
    uid_t uid;
    gid_t gid;
    char name[64];
};

/* Who shall we be? configured may be NULL: the account `mta` if it exists, else refused with the
 * words how to go on. Not started as root: nobody else than we are (a configured other name is
 * refused). @return 0; -1 with a text */
MUST_USE int privilege_find(const char *configured, struct privilege *privilege_out, char *error,
                            size_t error_size);
/* Make the folder if absent and give it to that user. @return 0; -1 with a text */
MUST_USE int privilege_prepare_folder(const struct privilege *privilege, const char *path,
                                      char *error, size_t error_size);
/* Groups, gid, uid; CAP_NET_BIND_SERVICE stays. @return 0; -1 with a text */
MUST_USE int privilege_drop(const struct privilege *privilege, char *error, size_t error_size);
/* RLIMIT_NOFILE to its hard limit. */
void privilege_set_limits(void);

#endif
