/* mta/mtactl/main.c - the admin's program: looks into mtad and steers it, over its control socket.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/mtactl/run.h"

#define ERROR_MAX 1024

static void print_help(const struct ctl_command *command)
{
    char *text = ctl_help_text(command);
    (void)fputs(text, stdout);
    free(text);
}

/* A full disk under `mtactl cat ID >FILE` must not look like a whole message. */
static int flush_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    (void)fprintf(stderr, "mtactl: the output cannot be written: %s\n", strerror(errno));
    return code == CTL_EXIT_DONE ? CTL_EXIT_FAILED : code;
}

int main(int argc, char **argv)
{
    char error[ERROR_MAX];
    struct ctl_options options;
    int code = CTL_EXIT_DONE;
    if (ctl_options_parse(argc, argv, &options, error, sizeof error) < 0) {
        ctl_print_error(options.json, error);
        code = CTL_EXIT_USAGE;
    } else if (options.version) {
        (void)puts("mtactl " MTA_VERSION);
    } else if (options.help) {
        print_help(options.command);
    } else {
        /* not with a pager: it has the terminal */
        options.progress = !options.json && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
        code = ctl_run(&options);
    }
    ctl_options_deinit(&options);
    return flush_output(code);
}
