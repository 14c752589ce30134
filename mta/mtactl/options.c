/* mta/mtactl/options.c - see options.h. The two tables are the documentation: which commands there
 * are, and which options go with them. */
#include "mta/mtactl/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mtactl/words.h"

#define LIMIT_MAX  ((uint64_t)1 << 53)
#define REASON_MAX 512

enum { /* bits of ctl_command.takes */
       TAKES_ALWAYS = 0,
       TAKES_SELECTORS = 1,
       TAKES_LIMIT = 2,
       TAKES_DRY_RUN = 4, /* and --verbose: it changes mail */
       TAKES_SOCKET = 8,
       TAKES_REASON = 16,
       TAKES_BY = 32,
       TAKES_REPAIR = 64,
       TAKES_FORCE = 128,
       TAKES_FILE = 256, /* one, instead of ids */
       TAKES_NAME = 512, /* of a user, instead of ids */
       TAKES_SENDERS = 1024,
};

static const struct ctl_command commands[] = {
    {"status", "",
     "What the daemon holds and does: the queue by state, connections, totals since its start.\n",
     0, CTL_STATUS, TAKES_SOCKET},
    {"list", "[ID...] [selectors] [--limit N]",
     "One line a unit: the recipients of a message that travel together to one domain. Oldest\n"
     "message first; records that could not be read come last.\n",
     SIZE_MAX, CTL_LIST, TAKES_SOCKET | TAKES_SELECTORS | TAKES_LIMIT},
    {"summary", "[selectors] [--by domain|sender] [--limit N]",
     "What waits, by domain and age: T is the total, a column counts what is younger than so\n"
     "many minutes (and older than the column before), the last one what is older. A message\n"
     "counts once in each domain that it still has to reach. --by sender counts messages by the\n"
     "domain of their sender. The domains with the most come first; 20 unless --limit says more.\n",
     0, CTL_SUMMARY, TAKES_SOCKET | TAKES_SELECTORS | TAKES_LIMIT | TAKES_BY},
    {"show", "ID",
     "Envelope, recipients, every attempt with the other side's answer, and what comes next.\n", 1,
     CTL_SHOW, TAKES_SOCKET},
    {"cat", "ID",
     "The message itself, byte for byte. With --json one object; bytes that are not UTF-8\n"
     "become \\u00XX.\n",
     1, CTL_CAT, TAKES_SOCKET},
    {"retry", "ID...|selectors [--dry-run] [--verbose]",
     "Try now instead of at the next time; held mail is left alone (see release).\n", SIZE_MAX,
     CTL_RETRY, TAKES_SOCKET | TAKES_SELECTORS | TAKES_DRY_RUN},
    {"hold", "ID...|selectors [--dry-run] [--verbose]",
     "Stop trying until released: also over a restart, and mail that is held does not expire. An\n"
     "attempt that is under way ends as it began.\n",
     SIZE_MAX, CTL_HOLD, TAKES_SOCKET | TAKES_SELECTORS | TAKES_DRY_RUN},
    {"release", "ID...|selectors [--dry-run] [--verbose]",
     "Let held mail go on: it is tried now.\n", SIZE_MAX, CTL_RELEASE,
     TAKES_SOCKET | TAKES_SELECTORS | TAKES_DRY_RUN},
    {"delete", "ID...|selectors [--dry-run] [--verbose]",
     "Remove mail; nobody is told. Where several recipients travel together, --recipient removes\n"
     "none of them: it would take the others too.\n",
     SIZE_MAX, CTL_DELETE, TAKES_SOCKET | TAKES_SELECTORS | TAKES_DRY_RUN},
    {"bounce", "ID...|selectors [--reason TEXT] [--dry-run] [--verbose]",
     "Return mail to its sender, held mail too: they get the usual report, with the reason.\n"
     "--recipient as with delete.\n",
     SIZE_MAX, CTL_BOUNCE, TAKES_SOCKET | TAKES_SELECTORS | TAKES_DRY_RUN | TAKES_REASON},
    {"check", "",
     "Read the configuration (not the running daemon) and say what is wrong in it. Keys and\n"
     "certificates that it names are read by `mtad --check`.\n",
     0, CTL_CHECK, TAKES_ALWAYS},
    {"reload", "",
     "Read configuration and certificates anew. A faulty one changes nothing and says why.\n", 0,
     CTL_RELOAD, TAKES_SOCKET},
    {"queue check", "[--repair]",
     "Verify everything the queue holds: its file's pages, every record and message, the order of\n"
     "work, the counters. While mtad runs, mail goes on flowing. --repair needs mtad stopped: it "
     "puts\n"
     "right what can be, loses no message that can be read, sets aside what cannot, and tells "
     "each\n"
     "thing it does. Exit status 1 if there were problems, also if all were put right.\n",
     0, CTL_QUEUE_CHECK, TAKES_SOCKET | TAKES_REPAIR},
    {"queue compact", "",
     "Give the disk back what the queue's file keeps free, while mail goes on flowing.\n", 0,
     CTL_QUEUE_COMPACT, TAKES_SOCKET},
    {"queue backup", "FILE",
     "Copy the queue as it is at this moment, while mail goes on flowing. FILE is there whole at "
     "the\n"
     "end, or not at all; one of that name is replaced.\n",
     0, CTL_QUEUE_BACKUP, TAKES_SOCKET | TAKES_FILE},
    {"queue restore", "FILE [--force]",
     "Put a backup in place; mtad must be stopped. Mail that was delivered after the backup was "
     "made\n"
     "is delivered again. A queue that holds messages is replaced only with --force (and its file\n"
     "kept beside), and only so is a backup taken in which a check finds problems.\n",
     0, CTL_QUEUE_RESTORE, TAKES_FORCE | TAKES_FILE},
    {"user add", "NAME [--sender PATTERN]...",
     "Let NAME log in, or give it a new password. The password is read from standard input, one\n"
     "line, and kept as hashes only. PATTERN is an address, @domain or *: what NAME may send "
     "as,\n"
     "in the envelope and in From; without any: everything, or what it was allowed before. Works\n"
     "without mtad, in the file that users_file names; mtad notices by itself, with the next "
     "login.\n",
     0, CTL_USER_ADD, TAKES_NAME | TAKES_SENDERS},
    {"user remove", "NAME",
     "Let NAME log in no more; its connections end with their next message.\n", 0, CTL_USER_REMOVE,
     TAKES_NAME},
    {"user list", "", "Who may log in, and what each may send from.\n", 0, CTL_USER_LIST,
     TAKES_ALWAYS},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

/* Commands that later versions have: their names are worth a better answer than "unknown". */
static const char *const later_commands[] = {
    "explain", "suspend", "resume", "route", "doctor", "dkim", "top", "trace",
};

enum option_name {
    OPT_CONFIG,
    OPT_SOCKET,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION,
    OPT_DOMAIN,
    OPT_SENDER,
    OPT_RECIPIENT,
    OPT_STATE,
    OPT_OLDER,
    OPT_ALL,
    OPT_LIMIT,
    OPT_DRY_RUN,
    OPT_VERBOSE,
    OPT_REASON,
    OPT_BY,
    OPT_REPAIR,
    OPT_FORCE,
};

static const struct option_row {
    const char *name;
    bool has_value;
    unsigned needs; /* a bit that the command must take */
} option_rows[] = {
    [OPT_CONFIG] = {"--config", true, TAKES_ALWAYS},
    [OPT_SOCKET] = {"--socket", true, TAKES_SOCKET},
    [OPT_JSON] = {"--json", false, TAKES_ALWAYS},
    [OPT_HELP] = {"--help", false, TAKES_ALWAYS},
    [OPT_VERSION] = {"--version", false, TAKES_ALWAYS},
    [OPT_DOMAIN] = {"--domain", true, TAKES_SELECTORS},
    [OPT_SENDER] = {"--sender", true, TAKES_SELECTORS},
    [OPT_RECIPIENT] = {"--recipient", true, TAKES_SELECTORS},
    [OPT_STATE] = {"--state", true, TAKES_SELECTORS},
    [OPT_OLDER] = {"--older", true, TAKES_SELECTORS},
    [OPT_ALL] = {"--all", false, TAKES_SELECTORS},
    [OPT_LIMIT] = {"--limit", true, TAKES_LIMIT},
    [OPT_DRY_RUN] = {"--dry-run", false, TAKES_DRY_RUN},
    [OPT_VERBOSE] = {"--verbose", false, TAKES_DRY_RUN},
    [OPT_REASON] = {"--reason", true, TAKES_REASON},
    [OPT_BY] = {"--by", true, TAKES_BY},
    [OPT_REPAIR] = {"--repair", false, TAKES_REPAIR},
    [OPT_FORCE] = {"--force", false, TAKES_FORCE},
};
#define OPTION_COUNT (sizeof option_rows / sizeof option_rows[0])

/* Commands of two words. */
static const struct group {
    const char *name, *commands;
} groups[] = {
    {"queue", "check, compact, backup or restore"},
    {"user", "add, remove or list"},
};
#define GROUP_COUNT (sizeof groups / sizeof groups[0])

struct parser {
    int argc, next;
    char **argv;
    struct ctl_options *options;
    unsigned given;            /* one bit an option */
    bool wants_help_on;        /* "help COMMAND" */
    const struct group *group; /* the first word of "queue COMMAND" was read; or NULL */
    char *error;
    size_t error_size;
};

#define FAIL(parser, ...) ((void)snprintf((parser)->error, (parser)->error_size, __VA_ARGS__), -1)

/* ---- values ---- */

static int read_state(struct parser *parser, const char *value)
{
    static const char *const states[] = {"queued", "active", "deferred", "held", "damaged"};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strcmp(states[i], value) == 0) {
            parser->options->state = value;
            return 0;
        }
    }
    return FAIL(parser, "--state: expected queued, active, deferred, held or damaged, not \"%s\"",
                value);
}

static int read_older(struct parser *parser, const char *value)
{
    if (ctl_duration_parse(str_from(value), &parser->options->older_s))
        return 0;
    return FAIL(parser, "--older: expected a time such as 90s, 30m, 2h or 3d, not \"%s\"", value);
}

static int read_limit(struct parser *parser, const char *value)
{
    if (str_parse_u64(str_from(value), LIMIT_MAX, &parser->options->limit) &&
        parser->options->limit > 0)
        return 0;
    return FAIL(parser, "--limit: expected a number from 1 on, not \"%s\"", value);
}

static int read_by(struct parser *parser, const char *value)
{
    if (strcmp(value, "domain") != 0 && strcmp(value, "sender") != 0)
        return FAIL(parser, "--by: expected domain or sender, not \"%s\"", value);
    parser->options->by = value;
    return 0;
}

static int read_reason(struct parser *parser, const char *value)
{
    if (value[0] == '\0' || strlen(value) > REASON_MAX)
        return FAIL(parser, "--reason: expected a text of at most %d octets", REASON_MAX);
    parser->options->reason = value;
    return 0;
}

/* The null sender is "" here and may be given as "" or "<>"; no other value is empty. */
static int read_text(struct parser *parser, enum option_name name, const char *value,
                     const char **out)
{
    if (value[0] == '\0' && name != OPT_SENDER)
        return FAIL(parser, "%s: needs a value", option_rows[name].name);
    *out = value;
    return 0;
}

static int read_option(struct parser *parser, enum option_name name, const char *value)
{
    struct ctl_options *options = parser->options;
    switch (name) {
    case OPT_CONFIG:
        return read_text(parser, name, value, &options->config);
    case OPT_SOCKET:
        return read_text(parser, name, value, &options->socket);
    case OPT_JSON: /* noted before, so that errors are told in JSON wherever it stands */
        return 0;
    case OPT_HELP:
        options->help = true;
        return 0;
    case OPT_VERSION:
        options->version = true;
        return 0;
    case OPT_DOMAIN:
        return read_text(parser, name, value, &options->domain);
    case OPT_SENDER:
        options->senders[options->sender_count++] = value;
        return read_text(parser, name, value, &options->sender);
    case OPT_RECIPIENT:
        return read_text(parser, name, value, &options->recipient);
    case OPT_STATE:
        return read_state(parser, value);
    case OPT_OLDER:
        return read_older(parser, value);
    case OPT_ALL:
        options->all = true;
        return 0;
    case OPT_LIMIT:
        return read_limit(parser, value);
    case OPT_DRY_RUN:
        options->dry_run = true;
        return 0;
    case OPT_VERBOSE:
        options->verbose = true;
        return 0;
    case OPT_REASON:
        return read_reason(parser, value);
    case OPT_BY:
        return read_by(parser, value);
    case OPT_REPAIR:
        options->repair = true;
        return 0;
    case OPT_FORCE:
        options->force = true;
        return 0;
    }
    unreachable_bug();
}

/* ---- words of the line ---- */

static bool find_option(struct str word, enum option_name *name_out)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (str_equal(word, str_from(option_rows[i].name))) {
            *name_out = (enum option_name)i;
            return true;
        }
    }
    return false;
}

static int take_option(struct parser *parser, const char *word)
{
    enum option_name name = OPT_HELP;
    const char *equals = strchr(word, '=');
    struct str key = {word, equals != NULL ? (size_t)(equals - word) : strlen(word)};
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (strcmp(word, "-h") != 0 && !find_option(key, &name))
        return FAIL(parser, "unknown option \"%s\"; see mtactl --help", word);
    const struct option_row *row = &option_rows[name];
    /* How often --sender may stand there depends on the command, which may come behind it. */
    if ((parser->given & 1U << name) != 0 && name != OPT_SENDER)
        return FAIL(parser, "%s is given twice", row->name);
    parser->given |= 1U << name;
    if (!row->has_value && value != NULL)
        return FAIL(parser, "%s takes no value", row->name);
    if (row->has_value && value == NULL) {
        if (parser->next == parser->argc)
            return FAIL(parser, "%s: needs a value", row->name);
        value = parser->argv[parser->next++];
    }
    if (value == NULL)
        value = "";
    if (!str_utf8_valid(str_from(value)))
        return FAIL(parser, "%s: the value is not UTF-8", row->name);
    return read_option(parser, name, value);
}

static bool is_named(const struct parser *parser, const struct ctl_command *command,
                     const char *word)
{
    const char *space = strchr(command->name, ' ');
    if (parser->group == NULL)
        return space == NULL && strcmp(command->name, word) == 0;
    size_t len = strlen(parser->group->name);
    return space == command->name + len && memcmp(command->name, parser->group->name, len) == 0 &&
           strcmp(space + 1, word) == 0;
}

static int take_command(struct parser *parser, const char *word)
{
    if (strcmp(word, "help") == 0 && !parser->wants_help_on) {
        parser->options->help = true;
        parser->wants_help_on = true;
        return 0;
    }
    for (size_t i = 0; i < GROUP_COUNT && parser->group == NULL; i++) {
        if (strcmp(word, groups[i].name) == 0) {
            parser->group = &groups[i];
            return 0;
        }
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (is_named(parser, &commands[i], word)) {
            parser->options->command = &commands[i];
            return 0;
        }
    }
    if (parser->group != NULL)
        return FAIL(parser, "%s: expected %s, not \"%s\"", parser->group->name,
                    parser->group->commands, word);
    for (size_t i = 0; i < sizeof later_commands / sizeof later_commands[0]; i++) {
        if (strcmp(later_commands[i], word) == 0)
            return FAIL(parser, "%s is not in this version (" MTA_VERSION ") of mtactl", word);
    }
    return FAIL(parser, "unknown command \"%s\"; see mtactl --help", word);
}

/* The daemon decodes; this finds the word that can be no id, before anything is done. */
static bool looks_like_id(const char *word)
{
    if (strlen(word) != 13)
        return false;
    for (const char *p = word; *p != '\0'; p++) {
        if (!isascii(*p) || !isalnum((unsigned char)*p))
            return false;
    }
    return true;
}

static int take_file(struct parser *parser, const char *word)
{
    if (parser->options->file != NULL)
        return FAIL(parser, "%s takes one file", parser->options->command->name);
    if (word[0] == '\0' || !str_utf8_valid(str_from(word)))
        return FAIL(parser, "%s: this cannot be the name of a file",
                    parser->options->command->name);
    parser->options->file = word;
    return 0;
}

static int take_name(struct parser *parser, const char *word)
{
    if (parser->options->name != NULL)
        return FAIL(parser, "%s takes one name", parser->options->command->name);
    parser->options->name = word;
    return 0;
}

static int take_word(struct parser *parser, const char *word)
{
    struct ctl_options *options = parser->options;
    if (options->command == NULL)
        return take_command(parser, word);
    if ((options->command->takes & TAKES_FILE) != 0)
        return take_file(parser, word);
    if ((options->command->takes & TAKES_NAME) != 0)
        return take_name(parser, word);
    if (options->command->ids_max == 0)
        return FAIL(parser, "%s takes no argument, but \"%s\" was given", options->command->name,
                    word);
    if (!looks_like_id(word))
        return FAIL(parser,
                    "\"%s\" is not a message id (13 letters and digits, as `mtactl list` shows)",
                    word);
    if (options->id_count == options->command->ids_max)
        return FAIL(parser, "%s takes one id", options->command->name);
    options->ids[options->id_count++] = word;
    return 0;
}

/* ---- the whole ---- */

static bool has_selector(const struct ctl_options *options)
{
    return options->id_count > 0 || options->all || options->domain != NULL ||
           options->sender != NULL || options->recipient != NULL || options->state != NULL ||
           options->older_s > 0;
}

/* Which options go with this command? */
static int check_options(struct parser *parser)
{
    const struct ctl_options *options = parser->options;
    const struct ctl_command *command = options->command;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        unsigned needs = option_rows[i].needs;
        if (i == OPT_SENDER && (command->takes & TAKES_SENDERS) != 0)
            continue;
        if ((parser->given & 1U << i) != 0 && (command->takes & needs) != needs)
            return FAIL(parser, "%s does not go with %s", option_rows[i].name, command->name);
    }
    if (options->sender_count > 1 && (command->takes & TAKES_SENDERS) == 0)
        return FAIL(parser, "--sender is given twice");
    return 0;
}

static int check_together(struct parser *parser)
{
    const struct ctl_options *options = parser->options;
    const struct ctl_command *command = options->command;
    if (options->help || options->version)
        return 0;
    if (command == NULL && parser->group != NULL)
        return FAIL(parser, "%s: %s? see mtactl --help", parser->group->name,
                    parser->group->commands);
    if (command == NULL)
        return FAIL(parser, "which command? see mtactl --help");
    int rc = check_options(parser);
    if (rc < 0)
        return rc;
    if (command->ids_max == 1 && options->id_count == 0)
        return FAIL(parser, "%s: which message? give its id, as `mtactl list` shows",
                    command->name);
    if ((command->takes & TAKES_FILE) != 0 && options->file == NULL)
        return FAIL(parser, "%s: which file?", command->name);
    if ((command->takes & TAKES_NAME) != 0 && options->name == NULL)
        return FAIL(parser, "%s: which user?", command->name);
    if (ctl_command_changes(command) && !has_selector(options))
        return FAIL(parser,
                    "%s: which messages? give ids, --domain, --sender, --recipient, --state, "
                    "--older or --all",
                    command->name);
    return 0;
}

int ctl_options_parse(int argc, char **argv, struct ctl_options *options_out, char *error,
                      size_t error_size)
{
    struct parser parser = {.argc = argc,
                            .next = 1,
                            .argv = argv,
                            .options = options_out,
                            .error = error,
                            .error_size = error_size};
    bool only_words = false;
    *options_out = (struct ctl_options){0};
    options_out->ids = mem_alloc(((size_t)argc + 1) * sizeof *options_out->ids);
    options_out->senders = mem_alloc(((size_t)argc + 1) * sizeof *options_out->senders);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        options_out->json = options_out->json || strcmp(argv[i], "--json") == 0;
    while (parser.next < argc) {
        const char *word = argv[parser.next++];
        int rc = 0;
        if (!only_words && strcmp(word, "--") == 0)
            only_words = true;
        else if (!only_words && word[0] == '-')
            rc = take_option(&parser, word);
        else
            rc = take_word(&parser, word);
        if (rc < 0)
            return rc;
    }
    return check_together(&parser);
}

void ctl_options_deinit(struct ctl_options *options)
{
    free(options->ids);
    free(options->senders);
    *options = (struct ctl_options){0};
}

bool ctl_command_changes(const struct ctl_command *command)
{
    return (command->takes & TAKES_DRY_RUN) != 0;
}

bool ctl_command_is_queue(const struct ctl_command *command)
{
    return command->verb >= CTL_QUEUE_CHECK && command->verb <= CTL_QUEUE_RESTORE;
}

bool ctl_command_is_user(const struct ctl_command *command)
{
    return command->verb >= CTL_USER_ADD;
}

const struct ctl_command *ctl_command_at(size_t index)
{
    return index < COMMAND_COUNT ? &commands[index] : NULL;
}
