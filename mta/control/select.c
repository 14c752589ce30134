/* mta/control/select.c - which units a command means: the selectors that all commands share. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

static const char *const state_texts[] = {
    [SELECT_ANY] = "",          [SELECT_QUEUED] = "queued",
    [SELECT_ACTIVE] = "active", [SELECT_DEFERRED] = "deferred",
    [SELECT_HELD] = "held",     [SELECT_DAMAGED] = "damaged",
};
#define STATE_COUNT (sizeof state_texts / sizeof state_texts[0])

static bool read_state(const char *text, enum selector_state *out)
{
    for (size_t i = SELECT_ANY + 1; i < STATE_COUNT; i++) {
        if (strcmp(text, state_texts[i]) == 0) {
            *out = (enum selector_state)i;
            return true;
        }
    }
    return false;
}

bool selector_read(const json_t *request, struct selector *out, char *text, size_t size)
{
    const char *id = NULL;
    const char *state = NULL;
    *out = (struct selector){.now_unix_ms = time_wall_ms()};
    if (!read_text(request, "id", &id, text, size) ||
        !read_text(request, "domain", &out->domain, text, size) ||
        !read_text(request, "sender", &out->sender, text, size) ||
        !read_text(request, "recipient", &out->recipient, text, size) ||
        !read_text(request, "state", &state, text, size))
        return false;
    if (id != NULL && !queue_id_parse(id, strlen(id), &out->id)) {
        snprintf(text, size,
                 "\"%s\" is not a message id (13 letters and digits, as `mtactl list` shows)", id);
        return false;
    }
    if (state != NULL && !read_state(state, &out->state)) {
        snprintf(text, size,
                 "state: expected queued, active, deferred, held or damaged, not \"%s\"", state);
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
           s->state == SELECT_ANY && s->older_ms == 0;
}

bool selector_looks_inside(const struct selector *s)
{
    return s->domain != NULL || s->sender != NULL || s->recipient != NULL || s->older_ms != 0 ||
           (s->state != SELECT_ANY && s->state != SELECT_DAMAGED);
}

void selector_text(const struct selector *s, char *text, size_t size)
{
    char id[QUEUE_ID_TEXT] = "";
    char older[32] = "";
    struct buf buf;
    const struct {
        const char *name, *value;
    } parts[] = {{"--domain ", s->domain},
                 {"--sender ", s->sender},
                 {"--recipient ", s->recipient},
                 {"--state ", s->state != SELECT_ANY ? state_texts[s->state] : NULL},
                 {"--older ", s->older_ms != 0 ? older : NULL},
                 {"", s->by_id ? id : NULL},
                 {"--all", s->all ? "" : NULL}};
    buf_init(&buf, size - 1);
    queue_id_text(s->id, id);
    (void)snprintf(older, sizeof older, "%" PRId64 "s", s->older_ms / 1000);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].value != NULL)
            buf_printf(&buf, "%s%s%s", buf_len(&buf) > 0 ? " " : "", parts[i].name,
                       parts[i].value[0] != '\0' || i != 1 ? parts[i].value : "<>");
    }
    struct str all = buf_str(&buf);
    (void)snprintf(text, size, "%.*s", (int)all.len, all.len > 0 ? all.p : "");
    buf_deinit(&buf);
}

int64_t age_seconds(int64_t accepted_unix_ms, int64_t now_unix_ms)
{
    return now_unix_ms > accepted_unix_ms ? (now_unix_ms - accepted_unix_ms) / 1000 : 0;
}

/* ---- what a unit is ---- */

static enum selector_state state_of(const struct control *control, uint64_t id,
                                    const struct queue_unit *unit, size_t number)
{
    if (unit->held)
        return SELECT_HELD;
    if (control->hooks.is_active(id, (uint16_t)number, control->hooks.ctx))
        return SELECT_ACTIVE;
    return unit->attempts > 0 ? SELECT_DEFERRED : SELECT_QUEUED;
}

const char *unit_state_text(const struct control *control, uint64_t id,
                            const struct queue_unit *unit, size_t number)
{
    return unit->done ? "done" : state_texts[state_of(control, id, unit, number)];
}

/* What is known without the scheduler's lock comes first: most units are ruled out by it. */
static bool is_in_state(const struct control *control, uint64_t id, const struct queue_unit *unit,
                        size_t number, enum selector_state state)
{
    bool can_be = state == SELECT_ACTIVE     ? !unit->held
                  : state == SELECT_QUEUED   ? !unit->held && unit->attempts == 0
                  : state == SELECT_DEFERRED ? !unit->held && unit->attempts > 0
                                             : state == SELECT_HELD && unit->held;
    return can_be && state_of(control, id, unit, number) == state;
}

bool recipient_is_open(const struct queue_recipient *recipient)
{
    return recipient->state == QUEUE_RCPT_WAITING || recipient->state == QUEUE_RCPT_BOUNCE_PENDING;
}

/* ---- picking ---- */

static void set_add(struct unit_set *set, size_t number)
{
    if (set->count == set->size) {
        set->size = set->size == 0 ? 16 : set->size * 2;
        set->numbers = mem_grow(set->numbers, set->size * sizeof *set->numbers);
    }
    set->numbers[set->count++] = (uint16_t)number;
}

void unit_set_deinit(struct unit_set *set)
{
    free(set->numbers);
    *set = (struct unit_set){0};
}

static bool unit_matches(const struct selector *s, const struct control *control, uint64_t id,
                         const struct queue_envelope *envelope, size_t number)
{
    const struct queue_unit *unit = &envelope->units[number];
    if (unit->done || (s->domain != NULL && strcasecmp(unit->domain, s->domain) != 0))
        return false;
    return s->state == SELECT_ANY || is_in_state(control, id, unit, number, s->state);
}

/* An address has one domain, hence one unit. */
static size_t pick_recipient(const struct selector *s, const struct control *control, uint64_t id,
                             const struct queue_envelope *envelope, struct unit_set *set)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (!recipient_is_open(recipient) || strcasecmp(recipient->address, s->recipient) != 0)
            continue;
        if (unit_matches(s, control, id, envelope, recipient->unit))
            set_add(set, recipient->unit);
        break;
    }
    return set->count;
}

size_t selector_pick(const struct selector *s, const struct control *control, uint64_t id,
                     const struct queue_envelope *envelope, struct unit_set *set)
{
    set->count = 0;
    if ((s->by_id && s->id != id) ||
        (s->older_ms != 0 && envelope->accepted_unix_ms > s->now_unix_ms - s->older_ms) ||
        (s->sender != NULL && strcasecmp(envelope->sender, s->sender) != 0))
        return 0;
    if (s->recipient != NULL)
        return pick_recipient(s, control, id, envelope, set);
    for (size_t i = 0; i < envelope->unit_count; i++) {
        if (unit_matches(s, control, id, envelope, i))
            set_add(set, i);
    }
    return set->count;
}
