/* mta/mtactl/user_run.c - see user_run.h. */
#include "mta/mtactl/user_run.h"

#include <errno.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "config/config.h"
#include "mta/auth/users_edit.h"
#include "mta/mtactl/print.h"
#include "mta/mtactl/run.h"

#define ERROR_MAX    1024
#define PASSWORD_MAX 2048 /* raw; auth/ says how long one may be */

static int tell_failure(const struct ctl_options *options, const char *text)
{
    ctl_print_error(options->json, text);
    return CTL_EXIT_FAILED;
}

/* ---- the password ---- */

struct typed {
    char text[PASSWORD_MAX];
    size_t len;
};

/* A signal that ends us, which has come while nothing that was typed is shown. */
static volatile sig_atomic_t ending;

static void on_ending(int number)
{
    ending = number;
}

/* One line, read without stdio: it would keep a copy. @return NULL, or what is wrong */
static const char *read_line(struct typed *typed)
{
    typed->len = 0;
    for (;;) {
        if (typed->len == sizeof typed->text)
            return "the password is too long";
        ssize_t n = read(STDIN_FILENO, typed->text + typed->len, sizeof typed->text - typed->len);
        if (n < 0 && errno == EINTR && ending == 0)
            continue;
        if (n < 0)
            return strerror(errno);
        typed->len += (size_t)n;
        if (n == 0 || (isatty(STDIN_FILENO) && typed->text[typed->len - 1] == '\n'))
            break;
    }
    char *end = memchr(typed->text, '\n', typed->len);
    if (end != NULL && end + 1 != typed->text + typed->len)
        return "the password is to be one line on standard input";
    if (end != NULL)
        typed->len--;
    if (end != NULL && typed->len > 0 && typed->text[typed->len - 1] == '\r')
        typed->len--;
    return NULL;
}

/* At a terminal: asked for, not shown. Who interrupts it gets his terminal back as it was. */
static const char *ask_line(const char *prompt, struct typed *typed)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    enum { SIGNALS = sizeof signals / sizeof signals[0] };
    const struct sigaction note = {.sa_handler = on_ending};
    struct sigaction former[SIGNALS];
    struct termios before, quiet;

    if (tcgetattr(STDIN_FILENO, &before) != 0)
        return strerror(errno);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    for (size_t i = 0; i < SIGNALS; i++) {
        (void)sigaction(signals[i], &note, &former[i]);
        if (former[i].sa_handler == SIG_IGN) /* as nohup wants it */
            (void)sigaction(signals[i], &former[i], NULL);
    }
    (void)fputs(prompt, stderr);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    const char *fault = read_line(typed);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    (void)fputc('\n', stderr);
    for (size_t i = 0; i < SIGNALS; i++)
        (void)sigaction(signals[i], &former[i], NULL);
    if (ending != 0) {
        explicit_bzero(typed, sizeof *typed);
        (void)raise(ending);
    }
    return fault;
}

static const char *read_password(struct typed *typed)
{
    struct typed again = {.len = 0};

    if (!isatty(STDIN_FILENO))
        return read_line(typed);
    const char *fault = ask_line("Password: ", typed);
    if (fault == NULL)
        fault = ask_line("Again: ", &again);
    if (fault == NULL &&
        (again.len != typed->len || memcmp(again.text, typed->text, typed->len) != 0))
        fault = "the two are not the same";
    explicit_bzero(&again, sizeof again);
    return fault;
}

/* ---- commands ---- */

/* Who is to read the file beside its maker: mtad, as whom the configuration says. */
static gid_t group_of(const struct config *config)
{
    const struct passwd *account = getpwnam(config->user != NULL ? config->user : "mta");
    return account != NULL ? account->pw_gid : (gid_t)-1;
}

static int tell_done(const struct ctl_options *options, const char *done)
{
    if (options->json) {
        json_t *object = json_pack("{s:s,s:s}", "name", options->name, "result", done);
        (void)json_dumpf(object, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(object);
    } else {
        (void)printf("%s %s\n", options->name, done);
    }
    return CTL_EXIT_DONE;
}

static int tell_edited(const struct ctl_options *options, enum auth_edit_result result,
                       const char *error)
{
    char text[ERROR_MAX];

    switch (result) {
    case AUTH_EDIT_FAILED:
        return tell_failure(options, error);
    case AUTH_EDIT_ADDED:
        return tell_done(options, "added");
    case AUTH_EDIT_CHANGED:
        return tell_done(options, "changed");
    case AUTH_EDIT_REMOVED:
        return tell_done(options, "removed");
    case AUTH_EDIT_NOBODY:
        snprintf(text, sizeof text, "there is no user \"%s\"; `mtactl user list` shows who is",
                 options->name);
        return tell_failure(options, text);
    }
    unreachable_bug();
}

static int add(const struct ctl_options *options, const struct auth_edit *edit)
{
    char error[ERROR_MAX];
    struct typed typed = {.len = 0};
    enum auth_edit_result result = AUTH_EDIT_FAILED;

    /* Before anybody types a password for nothing. */
    const char *fault = auth_name_fault(str_from(options->name));
    if (fault == NULL)
        fault = read_password(&typed);
    if (fault != NULL)
        snprintf(error, sizeof error, "%s", fault);
    else
        result = auth_edit_add(edit, str_from(options->name), (struct str){typed.text, typed.len},
                               options->senders, options->sender_count, error, sizeof error);
    explicit_bzero(&typed, sizeof typed);
    return tell_edited(options, result, error);
}

static void print_user(const struct ctl_options *options, const struct auth_user *user)
{
    if (!options->json) {
        (void)printf("%-30s ", user->name);
        ctl_print_safe(stdout, user->senders != NULL ? user->senders : "*");
        (void)putchar('\n');
        return;
    }
    json_t *senders = json_array(), *object;
    const char *text = user->senders != NULL ? user->senders : "*";
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        json_t *pattern = json_stringn(text, len);
        (void)json_array_append_new(senders, pattern != NULL ? pattern : json_string("?"));
        text += len + (text[len] == ' ');
    }
    object = json_pack("{s:s,s:o}", "name", user->name, "senders", senders);
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(object);
}

static int list(const struct ctl_options *options, const char *path)
{
    struct auth_users *users = NULL;
    char error[ERROR_MAX];

    if (auth_users_load(path, &users, error, sizeof error) < 0)
        return tell_failure(options, error);
    for (size_t i = 0; i < auth_users_count(users); i++)
        print_user(options, auth_users_at(users, i));
    auth_users_unref(&users);
    return CTL_EXIT_DONE;
}

static int run(const struct ctl_options *options, const struct config *config)
{
    struct auth_edit edit = {.path = config->users_file, .group = group_of(config)};
    char error[ERROR_MAX];

    if (options->command->verb == CTL_USER_LIST)
        return list(options, config->users_file);
    if (options->command->verb == CTL_USER_ADD)
        return add(options, &edit);
    enum auth_edit_result result =
        auth_edit_remove(&edit, str_from(options->name), error, sizeof error);
    return tell_edited(options, result, error);
}

int ctl_user_run(const struct ctl_options *options)
{
    const char *path = options->config != NULL ? options->config : CTL_DEFAULT_CONFIG;
    const struct config *config;
    struct config_error error;
    int code;

    if (config_load(path, &config, &error) < 0) {
        ctl_print_error(options->json, error.text);
        return CTL_EXIT_USAGE;
    }
    if (config->users_file != NULL) {
        code = run(options, config);
    } else {
        char text[ERROR_MAX];
        snprintf(text, sizeof text, "%s: set users_file there first: the file to keep users in",
                 path);
        ctl_print_error(options->json, text);
        code = CTL_EXIT_USAGE;
    }
    config_unref(&config);
    return code;
}
