/* mta/mtactl/run.c - see run.h. A command with several ids is several requests, one after the
 * other; their worst exit code is the program's. */
#include "mta/mtactl/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "config/config.h"
#include "mta/base/time.h"
#include "mta/mtactl/json_text.h"
#include "mta/mtactl/link.h"
#include "mta/mtactl/print.h"
#include "mta/mtactl/progress.h"
#include "mta/mtactl/queue_run.h"
#include "mta/mtactl/request.h"
#include "mta/mtactl/user_run.h"

#define ERROR_MAX 1024

struct run {
    const struct ctl_options *options;
    const char *socket;
    struct ctl_output output;
    bool has_sum;       /* the daemon has told one */
    struct ctl_sum sum; /* over the requests */
    json_t *rows;       /* of a summary, until all are there; NULL: none */
    struct ctl_progress progress;
    /* of the request at hand */
    const char *id;
    uint64_t lines;
    bool told;     /* why it failed */
    bool cat_open; /* the JSON object of cat has begun */
    struct ctl_json_text cat_text;
};

/* ---- printing ---- */

static void print_json(json_t *object)
{
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(object);
}

void ctl_print_error(bool json, const char *text)
{
    char *safe = ctl_safe_text(text);
    if (json)
        print_json(json_pack("{s:s}", "error", safe));
    else
        (void)fprintf(stderr, "mtactl: %s\n", safe);
    free(safe);
}

static void tell(struct run *run, const char *text)
{
    char words[ERROR_MAX];
    run->told = true;
    if (run->id != NULL && run->options->id_count > 1) {
        (void)snprintf(words, sizeof words, "%s: %s", run->id, text);
        text = words;
    }
    ctl_print_error(run->options->json, text);
}

static unsigned terminal_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return 0;
    return size.ws_col;
}

static void keep_row(struct run *run, const json_t *line)
{
    if (run->rows == NULL)
        run->rows = json_array();
    (void)json_array_append_new(run->rows, json_deep_copy(line));
}

/* @return false: it is no line but news about the command as a whole */
static bool is_line(struct run *run, const json_t *line)
{
    const json_t *progress = json_object_get(line, "progress");
    bool changes = ctl_command_changes(run->options->command);
    if (json_is_object(progress) && run->options->progress) {
        ctl_progress_show(&run->progress, progress);
        return false;
    }
    ctl_progress_clear(&run->progress);
    if (changes && json_is_integer(json_object_get(line, "count"))) {
        run->has_sum = true;
        ctl_sum_add(&run->sum, line); /* one sum at the end */
        return false;
    }
    return true;
}

static void print_line(struct run *run, const json_t *line)
{
    struct ctl_output *output = &run->output;
    if (!is_line(run, line))
        return;
    run->lines++;
    if (run->options->json) {
        print_json(json_deep_copy(line));
        return;
    }
    switch (run->options->command->verb) {
    case CTL_STATUS:
        ctl_print_status(output, line);
        return;
    case CTL_LIST:
        ctl_print_unit(output, line);
        return;
    case CTL_SUMMARY:
        keep_row(run, line);
        return;
    case CTL_SHOW:
        ctl_print_show(output, line);
        return;
    case CTL_RETRY:
    case CTL_HOLD:
    case CTL_RELEASE:
    case CTL_DELETE:
    case CTL_BOUNCE:
        ctl_print_verb(output, line);
        return;
    case CTL_RELOAD:
        (void)fputs("reloaded\n", stdout);
        return;
    case CTL_CAT:
    case CTL_CHECK:
    case CTL_QUEUE_CHECK:
    case CTL_QUEUE_COMPACT:
    case CTL_QUEUE_BACKUP:
    case CTL_QUEUE_RESTORE:
    case CTL_USER_ADD:
    case CTL_USER_REMOVE:
    case CTL_USER_LIST:
        return; /* have no lines here */
    }
    unreachable_bug();
}

/* ---- cat ---- */

static void print_raw(struct run *run, struct str bytes)
{
    struct buf text;
    if (!run->options->json) {
        (void)fwrite(bytes.p, 1, bytes.len, stdout);
        return;
    }
    if (!run->cat_open)
        (void)printf("{\"id\":\"%s\",\"message\":\"", run->id);
    run->cat_open = true;
    buf_init(&text, CTL_JSON_TEXT_MAX(bytes.len));
    ctl_json_text_add(&run->cat_text, bytes, &text);
    struct str all = buf_str(&text);
    (void)fwrite(all.p, 1, all.len, stdout);
    buf_deinit(&text);
}

/* Close the object, which stays valid JSON if the message broke off: it then has an "error". */
static void end_cat(struct run *run, const char *error)
{
    struct buf text;
    if (!run->cat_open)
        return;
    run->cat_open = false;
    buf_init(&text, 2 * CTL_JSON_TEXT_MAX((size_t)ERROR_MAX));
    ctl_json_text_end(&run->cat_text, &text);
    buf_add_text(&text, "\"");
    if (error != NULL) {
        struct ctl_json_text state = {0};
        char cut[ERROR_MAX];
        (void)snprintf(cut, sizeof cut, "%s", error);
        buf_add_text(&text, ",\"error\":\"");
        ctl_json_text_add(&state, str_from(cut), &text);
        ctl_json_text_end(&state, &text);
        buf_add_text(&text, "\"");
        run->told = true;
    }
    buf_add_text(&text, "}\n");
    struct str all = buf_str(&text);
    (void)fwrite(all.p, 1, all.len, stdout);
    buf_deinit(&text);
}

/* ---- one request ---- */

static int fail_request(struct run *run, const char *text)
{
    ctl_progress_clear(&run->progress);
    end_cat(run, text);
    if (!run->told)
        tell(run, text);
    return CTL_EXIT_FAILED;
}

static int read_answers(struct run *run, struct ctl_link *link)
{
    struct ctl_answer answer;
    for (;;) {
        switch (ctl_link_next(link, &answer)) {
        case CTL_LINE:
            print_line(run, answer.object);
            break;
        case CTL_RAW:
            if (run->options->command->verb != CTL_CAT)
                return fail_request(run, "the daemon's answer is not understood");
            print_raw(run, answer.raw);
            break;
        case CTL_DONE:
            ctl_progress_clear(&run->progress);
            end_cat(run, NULL);
            return answer.exit_code;
        case CTL_ERROR:
        case CTL_BROKEN:
            return fail_request(run, answer.text);
        case CTL_MORE:
            unreachable_bug();
        }
        if (ferror(stdout)) /* told at the end of the program */
            return CTL_EXIT_FAILED;
    }
}

/* Did the selectors mean anything at all? */
static bool has_matched(const struct run *run, const struct ctl_sum *before)
{
    return run->lines > 0 || memcmp(&run->sum, before, sizeof *before) != 0;
}

/* The daemon went over the queue and had nothing to say. */
static void tell_nothing(struct run *run, int code)
{
    bool verb_by_id = run->id != NULL && ctl_command_changes(run->options->command);
    if (code == CTL_EXIT_DONE) {
        (void)fputs("mtactl: the queue is empty\n", stderr);
        return;
    }
    run->told = true;
    if (verb_by_id && run->options->json)
        print_json(json_pack("{s:s,s:s}", "id", run->id, "result", "nothing matched"));
    else if (run->id != NULL)
        (void)fprintf(stderr,
                      "mtactl: %s: nothing matched (delivered, bounced or removed already?)\n",
                      run->id);
    else
        (void)fputs("mtactl: nothing matched\n", stderr);
}

/* Commands that go over the queue: the daemon may do so before its first word. */
static bool is_patient(enum ctl_verb verb)
{
    return verb == CTL_LIST || verb == CTL_SUMMARY || verb == CTL_RETRY || verb == CTL_HOLD ||
           verb == CTL_RELEASE || verb == CTL_DELETE || verb == CTL_BOUNCE;
}

static int ask(struct run *run, const char *id)
{
    char error[ERROR_MAX];
    struct ctl_link *link = NULL;
    struct ctl_sum before = run->sum;
    bool patient = is_patient(run->options->command->verb);
    json_t *request = ctl_request_new(run->options, id);
    run->id = id;
    run->lines = 0;
    run->told = false;
    run->cat_text = (struct ctl_json_text){0};
    int rc = ctl_link_open(run->socket, request, patient, &link, error, sizeof error);
    json_decref(request);
    if (rc < 0) {
        ctl_print_error(run->options->json, error);
        return CTL_EXIT_UNREACHABLE;
    }
    int code = read_answers(run, link);
    if (patient && !run->told && !has_matched(run, &before))
        tell_nothing(run, code);
    ctl_link_close(&link);
    return code;
}

static int ask_all(struct run *run)
{
    const struct ctl_options *options = run->options;
    int code = options->id_count == 0 ? ask(run, NULL) : CTL_EXIT_DONE;
    for (size_t i = 0; i < options->id_count && code != CTL_EXIT_UNREACHABLE; i++) {
        int one = ask(run, options->ids[i]);
        code = one > code ? one : code;
    }
    if (run->rows != NULL)
        ctl_print_summary(&run->output, run->rows);
    json_decref(run->rows);
    if (run->has_sum && options->json)
        print_json(ctl_sum_json(&run->sum, options->dry_run));
    else if (run->has_sum)
        ctl_print_sum(&run->output, &run->sum);
    return code;
}

/* ---- commands ---- */

static int check(const struct ctl_options *options, const char *path)
{
    const struct config *config = NULL;
    struct config_error error;
    if (config_load(path, &config, &error) < 0) {
        ctl_print_error(options->json, error.text);
        return CTL_EXIT_USAGE;
    }
    if (options->json)
        print_json(json_pack("{s:s,s:b}", "file", config->path, "ok", 1));
    else
        (void)printf("%s: ok\n", config->path);
    config_unref(&config);
    return CTL_EXIT_DONE;
}

static int ask_configured(struct run *run, const char *path)
{
    const struct config *config = NULL;
    struct config_error error;
    char words[ERROR_MAX];
    if (config_load(path, &config, &error) < 0) {
        (void)snprintf(words, sizeof words,
                       "%s (the configuration tells where mtad's control socket is; --socket PATH "
                       "goes without it)",
                       error.text);
        ctl_print_error(run->options->json, words);
        return CTL_EXIT_USAGE;
    }
    run->socket = config->control_socket;
    int code = ask_all(run);
    config_unref(&config);
    return code;
}

int ctl_run(const struct ctl_options *options)
{
    struct run run = {.options = options,
                      .socket = options->socket,
                      .progress = {.out = stderr},
                      .output = {.out = stdout,
                                 .options = options,
                                 .width = terminal_width(),
                                 .now_unix_ms = time_wall_ms()}};
    const char *path = options->config != NULL ? options->config : CTL_DEFAULT_CONFIG;
    if (options->command->verb == CTL_CHECK)
        return check(options, path);
    if (ctl_command_is_queue(options->command))
        return ctl_queue_run(options);
    if (ctl_command_is_user(options->command))
        return ctl_user_run(options);
    return options->socket != NULL ? ask_all(&run) : ask_configured(&run, path);
}
