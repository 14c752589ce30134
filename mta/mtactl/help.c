/* mta/mtactl/help.c - the texts of --help, from the table of commands. */
#include <stdio.h>
#include <string.h>

#include "mta/base/buf.h"
#include "mta/mtactl/options.h"

#define HELP_MAX ((size_t)64 * 1024)

static const char selectors_text[] =
    "\nSelectors (several: all of them must hold)\n"
    "  ID               one message; several may be given\n"
    "  --domain D       units that go to this domain\n"
    "  --sender S       messages from this sender; \"\" or <> is the null sender\n"
    "  --recipient R    units with this recipient (and those who travel with them)\n"
    "  --state STATE    queued | active | deferred | held | damaged\n"
    "  --older 2h       accepted longer ago than this (s, m, h, d)\n"
    "  --all            everything\n";

static const char common_text[] =
    "\nOptions\n"
    "  --config FILE    tells where mtad is; default " CTL_DEFAULT_CONFIG "\n"
    "  --socket PATH    mtad's control socket, instead of --config\n"
    "  --json           print JSON; a listing is one object a line\n"
    "  --help, --version\n"
    "\nExit status: 0 done, 1 failed or nothing matched, 2 wrong usage or configuration,\n"
    "3 mtad is not reachable.\n";

static char *take_text(struct buf *buf)
{
    char *text = str_dup(buf_str(buf));
    buf_deinit(buf);
    return text;
}

static char *program_help(void)
{
    struct buf buf;
    buf_init(&buf, HELP_MAX);
    buf_add_text(&buf, "usage: mtactl [--config FILE | --socket PATH] [--json] COMMAND [args]\n\n");
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        const struct ctl_command *command = ctl_command_at(i);
        size_t len = strcspn(command->help, ":.;");
        buf_printf(&buf, "  %-13s %.*s\n", command->name, (int)len, command->help);
    }
    buf_add_text(&buf, "\n`mtactl help COMMAND` tells more about one.\n");
    buf_add_text(&buf, selectors_text);
    buf_add_text(&buf, common_text);
    return take_text(&buf);
}

char *ctl_help_text(const struct ctl_command *command)
{
    struct buf buf;
    if (command == NULL)
        return program_help();
    buf_init(&buf, HELP_MAX);
    buf_printf(&buf, "usage: mtactl %s%s%s\n\n%s", command->name,
               command->args[0] != '\0' ? " " : "", command->args, command->help);
    if (strstr(command->args, "selectors") != NULL)
        buf_add_text(&buf, selectors_text);
    if (strstr(command->args, "--limit") != NULL)
        buf_add_text(&buf, "  --limit N        at most so many lines\n");
    if (strstr(command->args, "--by") != NULL)
        buf_add_text(&buf, "  --by WHAT        domain (of the recipients) | sender (its domain)\n");
    if (strstr(command->args, "--reason") != NULL)
        buf_add_text(&buf, "  --reason TEXT    is told to the sender, and kept with the message\n");
    if (strstr(command->args, "--dry-run") != NULL)
        buf_add_text(
            &buf, "  --dry-run        change nothing; tell how many messages are meant, and which\n"
                  "  --verbose        name every message, not the first 20 (--json does, too)\n");
    if (strstr(command->args, "--repair") != NULL)
        buf_add_text(&buf, "  --repair         put right what can be; mtad must be stopped\n");
    if (strstr(command->args, "--force") != NULL)
        buf_add_text(&buf, "  --force          replace a queue that holds messages\n");
    if (strstr(command->args, "--sender") != NULL)
        buf_add_text(&buf, "  --sender PATTERN address | @domain | *; as often as needed\n");
    buf_add_text(&buf, common_text);
    return take_text(&buf);
}
