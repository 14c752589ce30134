/* mta/mtactl/request.c - see request.h. */
#include "mta/mtactl/request.h"

#include <string.h>

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
        (void)json_object_set_new(request, "older_s", json_integer((json_int_t)options->older_s));
    if (options->all)
        (void)json_object_set_new(request, "all", json_true());
    if (options->limit > 0)
        (void)json_object_set_new(request, "limit", json_integer((json_int_t)options->limit));
    if (options->dry_run)
        (void)json_object_set_new(request, "dry_run", json_true());
    return request;
}
