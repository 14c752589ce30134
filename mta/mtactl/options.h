/* mta/mtactl/options.h - the command line: argv in, one checked structure out. Pure. */
#ifndef MTA_MTACTL_OPTIONS_H
#define MTA_MTACTL_OPTIONS_H

#include "mta/base/str.h"

#define CTL_DEFAULT_CONFIG "/etc/mta/mta.yaml"

enum ctl_exit { /* what the program ends with; scripts rely on it */
                CTL_EXIT_DONE = 0,
                CTL_EXIT_FAILED = 1, /* or nothing matched */
                CTL_EXIT_USAGE = 2,  /* or a wrong configuration */
                CTL_EXIT_UNREACHABLE = 3,
};

enum ctl_verb {
    CTL_STATUS,
    CTL_LIST,
    CTL_SUMMARY,
    CTL_SHOW,
    CTL_CAT,
    CTL_RETRY,
    CTL_HOLD,
    CTL_RELEASE,
    CTL_DELETE,
    CTL_BOUNCE,
    CTL_CHECK,
    CTL_RELOAD,
    CTL_QUEUE_CHECK, /* queue_run.c has these */
    CTL_QUEUE_COMPACT,
    CTL_QUEUE_BACKUP,
    CTL_QUEUE_RESTORE,
    CTL_USER_ADD, /* user_run.c has these */
    CTL_USER_REMOVE,
    CTL_USER_LIST,
};

struct ctl_command {
    const char *name;
    const char *args; /* for the usage line */
    const char *help;
    size_t ids_max; /* 0: none */
    enum ctl_verb verb;
    unsigned takes; /* bits of options.c: which options go with it */
};

struct ctl_options {
    const struct ctl_command *command; /* NULL only with help or version */
    const char *config, *socket;       /* NULL: not given */
    bool json, help, version;
    /* Selectors; NULL or 0: not given. Borrowed from argv. */
    const char *domain, *sender, *recipient, *state;
    uint64_t older_s;
    bool all;
    const char **ids;
    size_t id_count;
    uint64_t limit;
    bool dry_run, verbose;
    const char *reason; /* of a bounce */
    const char *by;     /* of a summary: domain | sender */
    const char *file;   /* of a backup */
    const char *name;   /* of a user */
    const char **senders; /* of a user: each --sender, in their order */
    size_t sender_count;
    bool repair, force;
    bool progress; /* not from argv: somebody at a terminal waits for the end */
};

/**
 * Read the command line. Options may stand before and after the command, as "--name VALUE" or
 * "--name=VALUE".
 *
 * @param options_out  always written (json tells how to print the error); ctl_options_deinit()
 * @return 0; -1: error says what is wrong, in one line (exit CTL_EXIT_USAGE)
 */
MUST_USE int ctl_options_parse(int argc, char **argv, struct ctl_options *options_out, char *error,
                               size_t error_size);
void ctl_options_deinit(struct ctl_options *options);

/* Does it change mail, as its selectors tell? */
bool ctl_command_changes(const struct ctl_command *command);

/* Is it one of `mtactl queue`? */
bool ctl_command_is_queue(const struct ctl_command *command);

/* Is it one of `mtactl user`? */
bool ctl_command_is_user(const struct ctl_command *command);

/* The commands of this version; NULL beyond the last. */
const struct ctl_command *ctl_command_at(size_t index);

/* The text of --help: of one command, or of the program (NULL). Owned by the caller. */
char *ctl_help_text(const struct ctl_command *command);

#endif
