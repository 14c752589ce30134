/* mta/mtactl/queue_run.c - `mtactl queue ...`: who does it. A running mtad holds the queue and is
 * asked; without one, this program looks into the folder itself. */
#include "mta/mtactl/queue_run.h"

#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "mta/mtactl/link.h"
#include "mta/mtactl/print.h"
#include "mta/mtactl/queue_private.h"
#include "mta/mtactl/request.h"
#include "mta/mtactl/run.h"

#define ERROR_MAX 1024

struct place { /* where the queue is */
    const char *socket;
    char folder[4096]; /* "": not known, as no configuration was read */
};

/* ---- asking mtad ---- */

static int tell_failure(const struct ctl_options *options, const char *text)
{
    ctl_print_error(options->json, text);
    return CTL_EXIT_FAILED;
}

static int take_raw(const struct ctl_options *options, struct ctl_file *file, struct str bytes)
{
    char error[ERROR_MAX];
    if (file == NULL)
        return tell_failure(options, "the daemon's answer is not understood");
    if (ctl_file_add(file, bytes.p, bytes.len))
        return CTL_EXIT_DONE;
    (void)snprintf(error, sizeof error, "cannot write %s: %s", file->part, strerror(file->failure));
    return tell_failure(options, error);
}

static int end_file(const struct ctl_options *options, struct ctl_file *file, json_t *result)
{
    char error[ERROR_MAX];
    if (result == NULL)
        return tell_failure(options, "the daemon's answer is not understood");
    if (ctl_file_end(file, error, sizeof error) < 0)
        return tell_failure(options, error);
    (void)json_object_set_new(result, "file", json_string(file->path));
    ctl_queue_print(options, result);
    return CTL_EXIT_DONE;
}

/* file: where the bytes of a backup go, or NULL. What it came to is told only once it is there. */
static int read_answers(const struct ctl_options *options, struct ctl_link *link,
                        struct ctl_file *file)
{
    struct ctl_answer answer;
    json_t *result = NULL;
    int code = -1;
    while (code < 0) {
        int taken = CTL_EXIT_DONE;
        switch (ctl_link_next(link, &answer)) {
        case CTL_LINE:
            if (file == NULL)
                ctl_queue_print(options, answer.object);
            else if (result == NULL)
                result = json_deep_copy(answer.object);
            break;
        case CTL_RAW:
            taken = take_raw(options, file, answer.raw);
            break;
        case CTL_DONE:
            code = file != NULL && answer.exit_code == 0 ? end_file(options, file, result)
                                                         : answer.exit_code;
            break;
        case CTL_ERROR:
        case CTL_BROKEN:
            taken = tell_failure(options, answer.text);
            break;
        case CTL_MORE:
            unreachable_bug();
        }
        if (taken != CTL_EXIT_DONE || ferror(stdout)) /* the latter is told at the end */
            code = CTL_EXIT_FAILED;
    }
    json_decref(result);
    return code;
}

/* @return the exit code; CTL_EXIT_UNREACHABLE: error has the words, nothing was told yet */
static int ask(const struct ctl_options *options, const struct place *place, struct ctl_file *file,
               char *error, size_t size)
{
    struct ctl_link *link = NULL;
    json_t *request = ctl_request_new(options, NULL);
    int rc = ctl_link_open(place->socket, request, true, &link, error, size);
    json_decref(request);
    if (rc < 0)
        return CTL_EXIT_UNREACHABLE;
    int code = read_answers(options, link, file);
    ctl_link_close(&link);
    return code;
}

static int ask_for_backup(const struct ctl_options *options, const struct place *place, char *error,
                          size_t size)
{
    struct ctl_file file;
    int code = CTL_EXIT_FAILED;
    if (ctl_file_begin(&file, options->file, error, size) < 0)
        (void)tell_failure(options, error);
    else
        code = ask(options, place, &file, error, size);
    ctl_file_close(&file);
    return code;
}

/* ---- who does it ---- */

/* Is mtad away, rather than busy or closed to this user? Then the folder can be looked into; its
 * lock tells for sure. */
static int check_or_backup(const struct ctl_options *options, const struct place *place)
{
    bool check = options->command->verb == CTL_QUEUE_CHECK;
    char error[ERROR_MAX];
    int code = CTL_EXIT_UNREACHABLE;
    if (!options->repair)
        code = check ? ask(options, place, NULL, error, sizeof error)
                     : ask_for_backup(options, place, error, sizeof error);
    if (code != CTL_EXIT_UNREACHABLE)
        return code;
    if (place->folder[0] != '\0')
        return check ? ctl_local_check(options, place->folder)
                     : ctl_local_backup(options, place->folder);
    ctl_print_error(options->json, error);
    return code;
}

static int compact(const struct ctl_options *options, const struct place *place)
{
    char error[ERROR_MAX];
    int code = ask(options, place, NULL, error, sizeof error);
    if (code == CTL_EXIT_UNREACHABLE)
        ctl_print_error(options->json, error);
    return code;
}

static int run_at(const struct ctl_options *options, const struct place *place)
{
    if (options->command->verb == CTL_QUEUE_COMPACT)
        return compact(options, place);
    if (options->command->verb == CTL_QUEUE_RESTORE)
        return ctl_local_restore(options, place->folder);
    return check_or_backup(options, place);
}

int ctl_queue_run(const struct ctl_options *options)
{
    const char *path = options->config != NULL ? options->config : CTL_DEFAULT_CONFIG;
    const struct config *config = NULL;
    struct config_error error;
    struct place place = {.socket = options->socket};
    bool needs_folder = options->repair || options->command->verb == CTL_QUEUE_RESTORE;
    if (options->socket == NULL || options->config != NULL || needs_folder) {
        if (config_load(path, &config, &error) < 0) {
            ctl_print_error(options->json, error.text);
            return CTL_EXIT_USAGE;
        }
        (void)snprintf(place.folder, sizeof place.folder, "%s/queue", config->state_dir);
        if (place.socket == NULL)
            place.socket = config->control_socket;
    }
    int code = run_at(options, &place);
    config_unref(&config);
    return code;
}
