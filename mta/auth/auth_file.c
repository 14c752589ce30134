/* mta/auth/auth_file.c - keeping up with the users file: at start, at a reload, and by itself when
 * it has been replaced. */
#include "mta/auth/auth_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"

static void replace_users(struct auth *auth, struct auth_users *users)
{
    pthread_mutex_lock(&auth->lock);
    struct auth_users *old = auth->users;
    auth->users = users;
    pthread_mutex_unlock(&auth->lock);
    auth_users_unref(&old);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

int auth_set_users_file(struct auth *auth, const char *path, char *error, size_t error_size)
{
    struct auth_users *users = NULL;
    struct stat file = {0};
    int rc = 0;

    pthread_mutex_lock(&auth->file_lock);
    /* Looked at before it is read: what changes in between is read again. */
    bool known = path != NULL && stat(path, &file) == 0;
    if (path != NULL)
        rc = auth_users_load(path, &users, error, error_size);
    if (rc == 0) {
        free(auth->path);
        auth->path = path != NULL ? str_dup(str_from(path)) : NULL;
        auth->file = file;
        auth->file_known = known;
        replace_users(auth, users);
    }
    pthread_mutex_unlock(&auth->file_lock);
    return rc;
}

/* @return false: it is to be looked at again though it has not changed, since it was for want of
 * descriptors or memory that it could not be opened: who was removed must not stay for that */
static bool read_again(struct auth *auth)
{
    struct auth_users *users = NULL;
    char error[512];

    errno = 0;
    if (auth_users_load(auth->path, &users, error, sizeof error) < 0) {
        bool passes = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
        char text[sizeof error + 32];
        snprintf(text, sizeof text, "%s; the former users stay", error);
        log_event(auth->log, LOG_LEVEL_WARNING, "reload", LOG_T("file", auth->path),
                  LOG_T("text", text));
        return !passes;
    }
    log_event(auth->log, LOG_LEVEL_INFO, "reload", LOG_T("file", auth->path),
              LOG_I("users", (int64_t)auth_users_count(users)));
    replace_users(auth, users);
    return true;
}

void auth_look_at_file(struct auth *auth)
{
    struct stat file;

    pthread_mutex_lock(&auth->file_lock);
    if (auth->path != NULL) {
        bool there = stat(auth->path, &file) == 0;
        if (!there)
            memset(&file, 0, sizeof file);
        if (!auth->file_known || !same_file(&file, &auth->file)) {
            auth->file = file;
            auth->file_known = read_again(auth);
        }
    }
    pthread_mutex_unlock(&auth->file_lock);
}

void auth_ask_to_look(struct auth *auth)
{
    enum { LOOKS_APART_MS = 50 }; /* a crowd of messages makes no crowd of looks */

    if (auth->look_asked || time_monotonic_ms() - auth->looked_ms < LOOKS_APART_MS)
        return;
    auth->look_asked = true;
    pthread_cond_signal(&auth->front_wakes);
}
