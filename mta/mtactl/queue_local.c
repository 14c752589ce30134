/* mta/mtactl/queue_local.c - the queue in its folder, while mtad does not run. The queue's lock,
 * which a running mtad holds, guards all of it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/mtactl/queue_private.h"
#include "mta/mtactl/run.h"
#include "queue/maintain.h"

#define ERROR_MAX 1024

/* ---- whose files they are ---- */

/* Root works in the folder as its owner: what is made there must be usable by mtad, which is not
 * root. */
struct identity {
    bool changed;
    gid_t group;
};

/* The folder, or the nearest one above that is there. */
static int owner_of(const char *folder, struct stat *st)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s", folder);
    while (stat(path, st) != 0) {
        char *slash = strrchr(path, '/');
        if (errno != ENOENT || slash == NULL || slash == path)
            return -1;
        *slash = '\0';
    }
    return 0;
}

/* @return 0; -1: error has the words */
static int take_identity(struct identity *identity, const char *folder, char *error, size_t size)
{
    struct stat st;
    *identity = (struct identity){.group = getegid()};
    if (geteuid() != 0 || owner_of(folder, &st) < 0 || st.st_uid == 0)
        return 0;
    identity->changed = true;
    if (setegid(st.st_gid) == 0 && seteuid(st.st_uid) == 0)
        return 0;
    (void)snprintf(error, size, "cannot act as the owner of %s: %s", folder, strerror(errno));
    return -1;
}

static void give_identity_back(const struct identity *identity)
{
    if (!identity->changed)
        return;
    if (seteuid(0) != 0 || setegid(identity->group) != 0)
        abort(); /* cannot be: the saved user is root */
}

/* ---- printing ---- */

static void print_line(const char *line, void *ctx)
{
    json_t *object = json_pack("{s:s}", "line", line);
    if (object == NULL) /* not UTF-8: peer text in a damaged record */
        object = json_pack("{s:s}", "line", "(a line that cannot be shown)");
    ctl_queue_print(ctx, object);
    json_decref(object);
}

static json_t *check_json(const struct queue_check_result *result)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "messages", (json_int_t)result->messages,
                     "units", (json_int_t)result->units, "recipients",
                     (json_int_t)result->recipients, "bytes", (json_int_t)result->body_bytes,
                     "damaged", (json_int_t)result->damaged, "problems",
                     (json_int_t)result->problems, "repaired", (json_int_t)result->repaired);
}

static int finish(const struct ctl_options *options, json_t *object, int code)
{
    ctl_queue_print(options, object);
    json_decref(object);
    return code;
}

static int failed(const struct ctl_options *options, const char *error)
{
    ctl_print_error(options->json, error);
    return CTL_EXIT_FAILED;
}

/* ---- check ---- */

int ctl_local_check(const struct ctl_options *options, const char *folder)
{
    struct queue_check_result result = {0};
    struct identity identity;
    char error[ERROR_MAX];
    int rc = take_identity(&identity, folder, error, sizeof error);
    if (rc == 0)
        rc = queue_check(folder, options->repair, print_line, (void *)options, &result, error,
                         sizeof error);
    give_identity_back(&identity);
    if (rc < 0)
        return failed(options, error);
    return finish(options, check_json(&result),
                  result.problems > 0 ? CTL_EXIT_FAILED : CTL_EXIT_DONE);
}

/* ---- backup ---- */

static bool take_bytes(const void *bytes, size_t len, void *ctx)
{
    return ctl_file_add(ctx, bytes, len);
}

static int back_up(struct ctl_file *file, const char *folder, struct queue_backup_result *result,
                   char *error, size_t size)
{
    struct identity identity;
    int rc = take_identity(&identity, folder, error, size);
    if (rc == 0)
        rc = queue_backup_folder(folder, take_bytes, file, result, error, size);
    if (rc < 0 && file->failure != 0)
        (void)snprintf(error, size, "cannot write %s: %s", file->part, strerror(file->failure));
    give_identity_back(&identity);
    return rc == 0 ? ctl_file_end(file, error, size) : rc;
}

int ctl_local_backup(const struct ctl_options *options, const char *folder)
{
    struct queue_backup_result result = {0};
    struct ctl_file file;
    char error[ERROR_MAX];
    int rc = ctl_file_begin(&file, options->file, error, sizeof error);
    if (rc == 0)
        rc = back_up(&file, folder, &result, error, sizeof error);
    ctl_file_close(&file);
    if (rc < 0)
        return failed(options, error);
    return finish(options,
                  json_pack("{s:s,s:I,s:I}", "file", options->file, "messages",
                            (json_int_t)result.messages, "bytes", (json_int_t)result.bytes),
                  CTL_EXIT_DONE);
}

/* ---- restore ---- */

/* mtad makes its queue's folder, but not the one that this lies in. */
static bool has_parent(const char *folder)
{
    char path[4096];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s", folder);
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    return stat(path, &st) == 0;
}

int ctl_local_restore(const struct ctl_options *options, const char *folder)
{
    struct queue_restore_source source = {.folder = folder, .force = options->force};
    struct queue_restore_result result = {0};
    struct identity identity;
    char error[ERROR_MAX];
    int fd = open(options->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(error, sizeof error, "cannot open %s: %s", options->file, strerror(errno));
        return failed(options, error);
    }
    if (!has_parent(folder)) {
        (void)snprintf(
            error, sizeof error,
            "%s cannot be made: its folder (state_dir) is not there; make it, for mtad's "
            "user",
            folder);
        (void)close(fd);
        return failed(options, error);
    }
    source.fd = fd;
    int rc = take_identity(&identity, folder, error, sizeof error);
    if (rc == 0)
        rc = queue_restore(&source, print_line, (void *)options, &result, error, sizeof error);
    give_identity_back(&identity);
    (void)close(fd);
    if (rc < 0)
        return failed(options, error);
    return finish(options,
                  json_pack("{s:I,s:I,s:s}", "messages", (json_int_t)result.check.messages, "bytes",
                            (json_int_t)result.check.body_bytes, "kept", result.kept),
                  CTL_EXIT_DONE);
}
