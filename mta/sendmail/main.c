/* mta/sendmail/main.c - sendmail(1) for applications that pipe their mail to a command. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/sendmail/run.h"

/* mtactl knows how to look into the queue; it lies beside us (a link named sendmail or mailq may
 * lie elsewhere). */
static int list_queue(const struct sendmail_options *options, struct sendmail_verdict *verdict)
{
    static char program[4096];
    char *with_config[] = {"mtactl", "--config", (char *)options->config, "list", NULL};
    char *without[] = {"mtactl", "list", NULL};
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - sizeof "mtactl");
    if (len <= 0)
        return sendmail_fail(verdict, EX_OSERR, "/proc/self/exe: %s", strerror(errno));
    program[len] = '\0';
    char *slash = strrchr(program, '/');
    memcpy(slash != NULL ? slash + 1 : program, "mtactl", sizeof "mtactl");
    (void)signal(SIGPIPE, SIG_DFL);
    execv(program, options->config != NULL ? with_config : without);
    return sendmail_fail(verdict, EX_OSFILE, "%s: %s", program, strerror(errno));
}

static int run(const struct sendmail_options *options, struct sendmail_verdict *verdict)
{
    char path[256];
    switch (options->mode) {
    case SENDMAIL_SEND:
        return sendmail_send(options, verdict);
    case SENDMAIL_SMTP:
        if (sendmail_socket_path(options->config, path, sizeof path, verdict) < 0)
            return -1;
        return sendmail_relay(path, STDIN_FILENO, STDOUT_FILENO, verdict);
    case SENDMAIL_LIST:
        return list_queue(options, verdict);
    case SENDMAIL_NOTHING:
        return 0;
    case SENDMAIL_HELP:
        (void)fputs(sendmail_help_text(), stdout);
        return 0;
    case SENDMAIL_VERSION:
        (void)puts("mta-sendmail " MTA_VERSION);
        return 0;
    }
    unreachable_bug();
}

/* A caller may have closed some of the three: the socket would get their number, and be taken for
 * standard input or get words meant for people. Reading such a standard input still fails. */
static void hold_descriptors(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_WRONLY);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct sendmail_options options;
    struct sendmail_verdict verdict = {.code = EX_OK};
    char error[300];
    hold_descriptors();
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that left is an error like any other */
    if (sendmail_options_parse(argc, argv, &options, error, sizeof error) < 0)
        (void)sendmail_fail(&verdict, EX_USAGE, "%s", error);
    else if (run(&options, &verdict) == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        (void)sendmail_fail(&verdict, EX_IOERR, "the output cannot be written: %s",
                            strerror(errno));
    if (verdict.code != EX_OK)
        (void)fprintf(stderr, "mta-sendmail: %s\n", verdict.text);
    return verdict.code;
}
