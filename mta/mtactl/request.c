/* mta/mtactl/request.c - see request.h. */
#include "mta/mtactl/request.h"

#include <string.h>

#define LINES 20 /* messages that a verb names, unless all are asked for */

static void put_text(json_t *request, const char *key, const char *value)
{
    if (value != NULL)
        (void)json_object_set_new(request, key, json_string(value));
}

/* An address may be written <as@in.a.log>; the daemon compares what is between. */
static void put_address(json_t *request, const char *key, const char *value)
{
    if (value == NULL)
        return;
    size_t len = strlen(value);
    bool pointed = len >= 2 && value[0] == '<' && value[len - 1] == '>';
    json_t *text = pointed ? json_stringn(value + 1, len - 2) : json_string(value);
    (void)json_object_set_new(request, key, text);
}

static void put_number(json_t *request, const char *key, uint64_t value)
{
    (void)json_object_set_new(request, key, json_integer((json_int_t)value));
}

static bool is_long(const struct ctl_command *command)
{
    return command->verb == CTL_LIST || command->verb == CTL_SUMMARY ||
           ctl_command_changes(command);
}

json_t *ctl_request_new(const struct ctl_options *options, const char *id)
{
    json_t *request = json_object();
    put_text(request, "command", options->command->name);
    put_text(request, "id", id);
    put_text(request, "domain", options->domain);
    put_address(request, "sender", options->sender);
    put_address(request, "recipient", options->recipient);
    put_text(request, "state", options->state);
    if (options->older_s > 0)
        put_number(request, "older_s", options->older_s);
    if (options->all)
        (void)json_object_set_new(request, "all", json_true());
    if (options->limit > 0)
        put_number(request, options->command->verb == CTL_SUMMARY ? "rows" : "limit",
                   options->limit);
    put_text(request, "by", options->by);
    put_text(request, "reason", options->reason);
    if (options->dry_run)
        (void)json_object_set_new(request, "dry_run", json_true());
    if (ctl_command_changes(options->command) && !options->verbose && !options->json)
        put_number(request, "lines", LINES);
    if (options->progress && is_long(options->command))
        (void)json_object_set_new(request, "progress", json_true());
    return request;
}
