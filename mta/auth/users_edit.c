/* mta/auth/users_edit.c - see users_edit.h. */
#include "mta/auth/users_edit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/auth/base64.h"
#include "mta/auth/password.h"
#include "mta/base/buf.h"

enum {
    TRIES = 100, /* to get the lock of a file that others keep replacing */
    PATH_MAX_BYTES = 4096,
};

/* The file while it is locked. */
struct open_file {
    char path[PATH_MAX_BYTES]; /* of itself, where the given one is a link */
    int fd;
    struct stat info;
    struct buf text;
    char *error;
    size_t error_size;
};

static int fail(struct open_file *file, const char *what)
{
    snprintf(file->error, file->error_size, "%s: %s: %s", file->path, what, strerror(errno));
    return -1;
}

/* ---- opening ---- */

static int resolve(struct open_file *file, const char *path)
{
    char *real = realpath(path, NULL);
    int len = snprintf(file->path, sizeof file->path, "%s", real != NULL ? real : path);

    free(real);
    if (len < 0 || (size_t)len + sizeof ".XXXXXX" > sizeof file->path) {
        snprintf(file->error, file->error_size, "%s: the path is too long", path);
        return -1;
    }
    return 0;
}

/* Whose lock it is must be the file that the name leads to: it may have been replaced meanwhile. */
static int lock_file(struct open_file *file, bool make)
{
    struct stat named;

    for (int i = 0; i < TRIES; i++) {
        file->fd = open(file->path,
                        O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0), 0640);
        if (file->fd < 0)
            return fail(file, "cannot be opened");
        if (flock(file->fd, LOCK_EX) != 0 || fstat(file->fd, &file->info) != 0)
            return fail(file, "cannot be locked");
        if (stat(file->path, &named) == 0 && named.st_ino == file->info.st_ino &&
            named.st_dev == file->info.st_dev)
            return 0;
        close(file->fd);
        file->fd = -1;
    }
    errno = EBUSY;
    return fail(file, "is replaced again and again");
}

static int read_text(struct open_file *file)
{
    if (!S_ISREG(file->info.st_mode) || file->info.st_size > AUTH_FILE_MAX_BYTES) {
        snprintf(file->error, file->error_size, "%s: not a regular file of at most 16 MiB",
                 file->path);
        return -1;
    }
    size_t left = (size_t)file->info.st_size;
    char *to = left > 0 ? buf_reserve(&file->text, left) : NULL;
    while (left > 0) {
        ssize_t n = read(file->fd, to, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(file, "cannot be read");
        if (n == 0)
            break;
        buf_filled(&file->text, (size_t)n);
        to += n;
        left -= (size_t)n;
    }
    return 0;
}

/* @param users_out what it says now */
static int open_file(struct open_file *file, const struct auth_edit *edit, bool make,
                     struct auth_users **users_out)
{
    buf_init(&file->text, AUTH_FILE_MAX_BYTES + AUTH_LINE_MAX_BYTES + 2);
    if (resolve(file, edit->path) < 0 || lock_file(file, make) < 0 || read_text(file) < 0)
        return -1;
    return auth_users_parse(buf_str(&file->text), file->path, users_out, file->error,
                            file->error_size);
}

static void close_file(struct open_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    buf_deinit(&file->text);
}

/* ---- writing ---- */

static int write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.p, text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text = str_skip(text, (size_t)n);
    }
    return 0;
}

/* The name is durable only with its folder. */
static int sync_folder(const char *path)
{
    char folder[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    int len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);

    snprintf(folder, sizeof folder, "%.*s", len, slash == NULL ? "." : path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

/* Root keeps the owner of the former file, and gives a new one to the group that is to read it.
 * Others keep the group: without it mtad could not read the file any more. */
static int set_owner(const struct open_file *file, const struct auth_edit *edit, int fd)
{
    bool fresh = file->info.st_size == 0;
    gid_t group = fresh && edit->group != (gid_t)-1 ? edit->group : file->info.st_gid;

    if (fchmod(fd, 0640) != 0)
        return -1;
    if (geteuid() == 0)
        return fchown(fd, file->info.st_uid, group);
    int rc = fchown(fd, (uid_t)-1, group);
    return fresh ? 0
                 : rc; /* of a new one the group may be out of reach: who runs mtad can mend it */
}

static int replace(struct open_file *file, const struct auth_edit *edit, struct str text)
{
    char made[PATH_MAX_BYTES + 8];
    snprintf(made, sizeof made, "%s.XXXXXX", file->path);

    int fd = mkostemp(made, O_CLOEXEC);
    if (fd < 0)
        return fail(file, "a new one cannot be made beside it");
    if (set_owner(file, edit, fd) != 0 || write_all(fd, text) != 0 || fsync(fd) != 0 ||
        rename(made, file->path) != 0) {
        (void)fail(file, "cannot be written");
        close(fd);
        unlink(made);
        return -1;
    }
    close(fd);
    return sync_folder(file->path) == 0 ? 0 : fail(file, "its folder cannot be synced");
}

/* ---- lines ---- */

static bool is_line_of(struct str line, struct str name)
{
    return line.len > name.len && memcmp(line.p, name.p, name.len) == 0 && line.p[name.len] == '\t';
}

/* The text with the user's line replaced, or behind it, or (line empty) without it. */
static void put_line(struct buf *out, struct str text, struct str name, struct str line)
{
    bool placed = line.len == 0;

    while (text.len > 0) {
        const char *end = memchr(text.p, '\n', text.len);
        struct str old = {text.p, end != NULL ? (size_t)(end - text.p) : text.len};
        text = str_skip(text, old.len + 1);
        if (!is_line_of(old, name)) {
            buf_add_str(out, old);
            buf_add_text(out, "\n");
        } else if (!placed) {
            buf_add_str(out, line);
            placed = true;
        }
    }
    if (!placed)
        buf_add_str(out, line);
}

static int change(struct open_file *file, const struct auth_edit *edit, struct str name,
                  struct str line)
{
    struct buf changed;
    int rc;

    buf_init(&changed, AUTH_FILE_MAX_BYTES);
    put_line(&changed, buf_str(&file->text), name, line);
    if (changed.overflow) {
        snprintf(file->error, file->error_size, "%s: it would be larger than 16 MiB", file->path);
        rc = -1;
    } else {
        rc = replace(file, edit, buf_str(&changed));
    }
    buf_deinit(&changed);
    return rc;
}

static void put_senders(struct buf *line, const struct auth_user *old, const char *const *senders,
                        size_t count)
{
    if (count == 0 && old != NULL && old->senders != NULL)
        buf_printf(line, "\t%s", old->senders);
    if (count == 1 && strcmp(senders[0], "*") == 0)
        return;
    for (size_t i = 0; i < count; i++)
        buf_printf(line, "%c%s", i == 0 ? '\t' : ' ', senders[i]);
}

static void make_line(struct buf *line, struct str name, const struct password *password)
{
    char hash[PASSWORD_HASH_SIZE], salt[BASE64_ENCODED_SIZE(AUTH_SALT_MAX_BYTES)],
        stored[BASE64_ENCODED_SIZE(AUTH_KEY_BYTES)], server[BASE64_ENCODED_SIZE(AUTH_KEY_BYTES)];
    struct password_hasher *hasher = password_hasher_new();
    struct auth_scram scram;

    password_make(hasher, password, hash, &scram);
    password_hasher_free(&hasher);
    base64_encode(scram.salt, scram.salt_len, salt);
    base64_encode(scram.stored_key, AUTH_KEY_BYTES, stored);
    base64_encode(scram.server_key, AUTH_KEY_BYTES, server);
    buf_add_str(line, name);
    buf_printf(line, "\t%s\tSCRAM-SHA-256$%" PRIu32 ":%s$%s:%s", hash, scram.count, salt, stored,
               server);
}

/* ---- the two changes ---- */

/* @return false with a text */
static bool check_words(struct str name, const char *const *senders, size_t count, char *error,
                        size_t error_size)
{
    const char *fault = auth_name_fault(name);

    if (fault != NULL) {
        snprintf(error, error_size, "%s", fault);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        fault = auth_sender_fault(str_from(senders[i]));
        if (fault != NULL) {
            snprintf(error, error_size, "%s, not \"%.100s\"", fault, senders[i]);
            return false;
        }
    }
    return true;
}

static enum auth_edit_result add_to(struct open_file *file, const struct auth_edit *edit,
                                    struct auth_users *users, struct str name, struct buf *line,
                                    const char *const *senders, size_t count)
{
    const struct auth_user *old = auth_users_find(users, name);

    put_senders(line, old, senders, count);
    buf_add_text(line, "\n");
    if (line->overflow) {
        snprintf(file->error, file->error_size,
                 "too many allowed senders: the line would pass 64 KiB");
        return AUTH_EDIT_FAILED;
    }
    if (change(file, edit, name, buf_str(line)) < 0)
        return AUTH_EDIT_FAILED;
    return old != NULL ? AUTH_EDIT_CHANGED : AUTH_EDIT_ADDED;
}

enum auth_edit_result auth_edit_add(const struct auth_edit *edit, struct str name,
                                    struct str password, const char *const *senders,
                                    size_t sender_count, char *error, size_t error_size)
{
    struct open_file file = {.fd = -1, .error = error, .error_size = error_size};
    enum auth_edit_result result = AUTH_EDIT_FAILED;
    struct auth_users *users = NULL;
    struct password prepared;
    struct buf line;

    if (!check_words(name, senders, sender_count, error, error_size))
        return AUTH_EDIT_FAILED;
    const char *fault = password_prepare(password, &prepared);
    if (fault != NULL) {
        snprintf(error, error_size, "%s", fault);
        return AUTH_EDIT_FAILED;
    }
    buf_init(&line, AUTH_LINE_MAX_BYTES + 1);
    make_line(&line, name, &prepared); /* before the lock: it takes its time */
    password_wipe(&prepared);
    if (open_file(&file, edit, true, &users) == 0)
        result = add_to(&file, edit, users, name, &line, senders, sender_count);
    auth_users_unref(&users);
    close_file(&file);
    buf_deinit(&line);
    return result;
}

enum auth_edit_result auth_edit_remove(const struct auth_edit *edit, struct str name, char *error,
                                       size_t error_size)
{
    struct open_file file = {.fd = -1, .error = error, .error_size = error_size};
    enum auth_edit_result result = AUTH_EDIT_FAILED;
    struct auth_users *users = NULL;

    if (open_file(&file, edit, false, &users) == 0) {
        if (auth_users_find(users, name) == NULL)
            result = AUTH_EDIT_NOBODY;
        else if (change(&file, edit, name, STR("")) == 0)
            result = AUTH_EDIT_REMOVED;
    }
    auth_users_unref(&users);
    close_file(&file);
    return result;
}
