/* mta/control/select.c - which units a command means: the selectors that all commands share. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mta/base/time.h"
#include "mta/control/control_private.h"

static bool read_text(const json_t *request, const char *key, const char **out, char *text,
                      size_t size)
{
    const json_t *value = json_object_get(request, key);
    if (value == NULL)
        return true;
    if (!json_is_string(value)) {
        snprintf(text, size, "%s: expected a text", key);
        return false;
    }
    *out = json_string_value(value);
    return true;
}

static bool is_state(const char *state)
{
    static const char *const states[] = {"queued", "active", "deferred", "held", "damaged"};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strcmp(state, states[i]) == 0)
            return true;
    }
    return false;
}

bool selector_read(const json_t *request, struct selector *out, char *text, size_t size)
{
    const char *id = NULL;
    *out = (struct selector){0};
    if (!read_text(request, "id", &id, text, size) ||
        !read_text(request, "domain", &out->domain, text, size) ||
        !read_text(request, "sender", &out->sender, text, size) ||
        !read_text(request, "recipient", &out->recipient, text, size) ||
        !read_text(request, "state", &out->state, text, size))
        return false;
    if (id != NULL && !queue_id_parse(id, strlen(id), &out->id)) {
        snprintf(text, size,
                 "\"%s\" is not a message id (13 letters and digits, as `mtactl list` shows)", id);
        return false;
    }
    if (out->state != NULL && !is_state(out->state)) {
        snprintf(text, size,
                 "state: expected queued, active, deferred, held or damaged, not \"%s\"",
                 out->state);
        return false;
    }
    const json_t *older = json_object_get(request, "older_s");
    if (older != NULL && (!json_is_integer(older) || json_integer_value(older) < 0 ||
                          json_integer_value(older) > INT64_MAX / 1000)) {
        snprintf(text, size, "older_s: expected a number of seconds");
        return false;
    }
    out->older_ms = older != NULL ? (int64_t)json_integer_value(older) * 1000 : 0;
    out->by_id = id != NULL;
    out->all = json_is_true(json_object_get(request, "all"));
    return true;
}

bool selector_is_empty(const struct selector *s)
{
    return !s->by_id && !s->all && s->domain == NULL && s->sender == NULL && s->recipient == NULL &&
           s->state == NULL && s->older_ms == 0;
}

bool selector_looks_inside(const struct selector *s)
{
    return s->domain != NULL || s->sender != NULL || s->recipient != NULL || s->older_ms != 0 ||
           (s->state != NULL && strcmp(s->state, "damaged") != 0);
}

const char *unit_state_text(const struct control *control, uint64_t id,
                            const struct queue_unit *unit, size_t number)
{
    if (unit->done)
        return "done";
    if (unit->held)
        return "held";
    if (control->hooks.is_active(id, (uint16_t)number, control->hooks.ctx))
        return "active";
    return unit->attempts > 0 ? "deferred" : "queued";
}

bool recipient_is_open(const struct queue_recipient *recipient)
{
    return recipient->state == QUEUE_RCPT_WAITING || recipient->state == QUEUE_RCPT_BOUNCE_PENDING;
}

static bool has_recipient(const struct queue_envelope *envelope, size_t unit, const char *address)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (recipient->unit == unit && recipient_is_open(recipient) &&
            strcasecmp(recipient->address, address) == 0)
            return true;
    }
    return false;
}

bool selector_matches(const struct selector *s, const struct control *control, uint64_t id,
                      const struct queue_envelope *envelope, size_t unit)
{
    const struct queue_unit *u = &envelope->units[unit];
    if (u->done || (s->by_id && s->id != id))
        return false;
    if (s->domain != NULL && strcasecmp(u->domain, s->domain) != 0)
        return false;
    if (s->sender != NULL && strcasecmp(envelope->sender, s->sender) != 0)
        return false;
    if (s->recipient != NULL && !has_recipient(envelope, unit, s->recipient))
        return false;
    if (s->state != NULL && strcmp(unit_state_text(control, id, u, unit), s->state) != 0)
        return false;
    return s->older_ms == 0 || time_wall_ms() - envelope->accepted_unix_ms >= s->older_ms;
}
