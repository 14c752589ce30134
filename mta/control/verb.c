/* mta/control/verb.c - retry, hold, release, delete, bounce: what an admin does to the units that
 * the selectors mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mta/base/time.h"
#include "mta/control/verb.h"

/* ---- the table: what a verb has something to do with ---- */

static bool can_retry(const struct verb *verb, const struct queue_unit *unit, size_t number)
{
    (void)verb;
    (void)number;
    return !unit->held && unit->due_unix_ms != 0;
}

static bool can_hold(const struct verb *verb, const struct queue_unit *unit, size_t number)
{
    (void)verb;
    (void)number;
    return !unit->held;
}

static bool can_release(const struct verb *verb, const struct queue_unit *unit, size_t number)
{
    (void)verb;
    (void)number;
    return unit->held;
}

static bool can_delete(const struct verb *verb, const struct queue_unit *unit, size_t number)
{
    (void)verb;
    (void)unit;
    (void)number;
    return true;
}

/* Not if all that is left of it is a bounce to be made. */
static bool can_bounce(const struct verb *verb, const struct queue_unit *unit, size_t number)
{
    (void)unit;
    return (verb->waiting[number / 8] & 1U << number % 8) != 0;
}

static const struct verb_row verb_rows[] = {
    {"retry", can_retry, QUEUE_VERB_RETRY, false},
    {"hold", can_hold, QUEUE_VERB_HOLD, false},
    {"release", can_release, QUEUE_VERB_RELEASE, false},
    {"delete", can_delete, QUEUE_VERB_DELETE, true},
    {"bounce", can_bounce, QUEUE_VERB_BOUNCE, true},
};

/* ---- a step, on the scanner's thread ---- */

static json_t *message_line(const struct queue_envelope *envelope, const struct unit_set *set,
                            uint64_t id)
{
    char id_text[QUEUE_ID_TEXT];
    const struct queue_unit *first = &envelope->units[set->numbers[0]];
    queue_id_text(id, id_text);
    return json_pack("{s:s,s:o,s:o,s:I}", "id", id_text, "sender", control_text(envelope->sender),
                     "domain", control_text(first->domain), "units", (json_int_t)set->count);
}

static bool wants_line(struct verb *verb)
{
    if (verb->lines_left == 0) {
        verb->unlisted++;
        return false;
    }
    verb->lines_left--;
    return true;
}

static void add_result(struct walk *walk, json_t *line, const char *result)
{
    json_object_set_new(line, "result", json_string(result));
    control_walk_add_line(walk, line);
}

/* Somebody else's copy goes nowhere because of a selector that names another recipient. */
static bool has_other_recipients(const struct queue_envelope *envelope, uint16_t unit,
                                 const char *address)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (recipient->unit == unit && recipient_is_open(recipient) &&
            strcasecmp(recipient->address, address) != 0)
            return true;
    }
    return false;
}

static void mark_waiting(struct verb *verb, const struct queue_envelope *envelope)
{
    memset(verb->waiting, 0, envelope->unit_count / 8 + 1);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        uint16_t unit = envelope->recipients[i].unit;
        if (envelope->recipients[i].state == QUEUE_RCPT_WAITING)
            verb->waiting[unit / 8] |= (uint8_t)(1U << unit % 8);
    }
}

/* Leave in the set what the verb can be done to. */
static void sift(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                 struct unit_set *set)
{
    struct verb *verb = walk->own;
    const char *address = walk->selector.recipient;
    size_t left = 0;
    if (verb->row->verb == QUEUE_VERB_BOUNCE)
        mark_waiting(verb, envelope);
    for (size_t i = 0; i < set->count; i++) {
        uint16_t number = set->numbers[i];
        if (!verb->row->can(verb, &envelope->units[number], number)) {
            verb->skipped++;
        } else if (verb->row->is_final && address != NULL &&
                   has_other_recipients(envelope, number, address)) {
            verb->kept++;
            if (wants_line(verb))
                add_result(walk, message_line(envelope, &(struct unit_set){&number, 1, 1}, id),
                           "kept: other recipients travel with this one");
        } else {
            set->numbers[left++] = number;
        }
    }
    set->count = left;
}

/* Does the message have open units beside these? */
static bool leaves_some(const struct queue_envelope *envelope, const struct unit_set *set)
{
    size_t open = 0;
    for (size_t i = 0; set->count < envelope->unit_count && i < envelope->unit_count; i++)
        open += !envelope->units[i].done;
    return open > set->count;
}

static bool step_is_full(const struct walk *walk)
{
    return verb_batch_is_full(walk->own) || control_walk_is_full(walk);
}

static bool visit(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                  size_t unit_from, size_t *resume_out)
{
    struct verb *verb = walk->own;
    struct unit_set *set = &walk->set;
    (void)unit_from; /* a message is taken whole */
    (void)resume_out;
    sift(walk, id, envelope, set);
    if (set->count > 0) {
        walk->matched++;
        verb->units += set->count;
        verb->partial += leaves_some(envelope, set);
        if (!verb->dry_run)
            verb_gather(walk, id, envelope, set,
                        wants_line(verb) ? message_line(envelope, set, id) : NULL);
        else if (wants_line(verb))
            add_result(walk, message_line(envelope, set, id), "would be changed");
    }
    return !step_is_full(walk);
}

/* A record that cannot be read can be deleted when it is meant: by its id or its state. */
static bool visit_damaged(struct walk *walk, const struct queue_damaged *damaged)
{
    struct verb *verb = walk->own;
    const struct selector *s = &walk->selector;
    char id_text[QUEUE_ID_TEXT];
    if (!s->by_id && s->state != SELECT_DAMAGED)
        return true;
    queue_id_text(damaged->id, id_text);
    json_t *line = json_pack("{s:s}", "id", id_text);
    if (verb->row->verb != QUEUE_VERB_DELETE) {
        verb->unreadable++;
        add_result(walk, line, queue_error_text(QUEUE_ERR_DAMAGED));
        return !step_is_full(walk);
    }
    walk->matched++;
    if (verb->dry_run)
        add_result(walk, line, "would be changed");
    else
        verb_gather_damaged(walk, damaged->id, line);
    return !step_is_full(walk);
}

/* ---- the end ---- */

static void log_step(const struct walk *walk, bool whole)
{
    const struct verb *verb = walk->own;
    char selector[1024];
    char text[128];
    selector_text(&walk->selector, selector, sizeof selector);
    (void)snprintf(text, sizeof text, "%s by an admin%s", verb->row->name,
                   walk->failure < 0 ? ", cut short: the queue cannot be read"
                   : whole           ? ""
                                     : ", cut short: mtactl left or mtad stops");
    log_event(walk->client->control->log, LOG_LEVEL_INFO, "queue", LOG_T("text", text),
              LOG_T("selector", selector), LOG_I("count", (int64_t)verb->messages),
              LOG_I("units", (int64_t)verb->units_done), LOG_I("failed", (int64_t)verb->failed));
}

static int finish(struct walk *walk)
{
    struct verb *verb = walk->own;
    if (verb->outstanding > 0)
        return -1;
    uint64_t count = verb->dry_run ? walk->matched : verb->messages;
    uint64_t units = verb->dry_run ? verb->units : verb->units_done;
    uint64_t failed = verb->failed + verb->unreadable;
    verb_send_results(walk);
    control_send(walk->client,
                 json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "count", (json_int_t)count,
                           "units", (json_int_t)units, "partial", (json_int_t)verb->partial,
                           "skipped", (json_int_t)verb->skipped, "kept", (json_int_t)verb->kept,
                           "gone", (json_int_t)verb->gone, "failed", (json_int_t)failed, "unlisted",
                           (json_int_t)verb->unlisted, "dry_run", (int)verb->dry_run));
    if (!verb->dry_run)
        log_step(walk, true);
    verb->finished = true;
    return failed > 0 || (count == 0 && verb->skipped == 0);
}

static void free_verb(struct walk *walk)
{
    struct verb *verb = walk->own;
    if (!verb->finished && !verb->dry_run && verb->messages + verb->outstanding > 0)
        log_step(walk, false);
    verb_free_calls(verb);
    buf_deinit(&verb->results);
    free(verb);
}

static const struct walk_kind verb_kind = {.visit = visit,
                                           .visit_damaged = visit_damaged,
                                           .must_wait = verb_must_wait,
                                           .after_step = verb_hand_on,
                                           .finish = finish,
                                           .free = free_verb};

/* ---- starting ---- */

static bool read_reason(struct verb *verb, const json_t *request, char *text, size_t size)
{
    const json_t *reason = json_object_get(request, "reason");
    if (reason != NULL &&
        (!json_is_string(reason) || json_string_length(reason) > VERB_REASON_MAX)) {
        (void)snprintf(text, size, "reason: expected a text of at most %d octets", VERB_REASON_MAX);
        return false;
    }
    (void)snprintf(verb->text, sizeof verb->text, "returned to the sender by the administrator%s%s",
                   reason != NULL ? ": " : "", reason != NULL ? json_string_value(reason) : "");
    verb->attempt = (struct queue_attempt){.time_unix_ms = time_wall_ms(),
                                           .host = "",
                                           .address = "",
                                           .status = "5.7.0",
                                           .text = verb->text,
                                           .tls = ""};
    return true;
}

static void start(struct control_client *client, enum queue_verb verb)
{
    char text[512];
    const json_t *lines = json_object_get(client->request, "lines");
    struct verb *own = mem_alloc(sizeof *own);
    for (size_t i = 0; i < sizeof verb_rows / sizeof verb_rows[0]; i++) {
        if (verb_rows[i].verb == verb)
            own->row = &verb_rows[i];
    }
    own->batch_end = &own->batch;
    own->dry_run = json_is_true(json_object_get(client->request, "dry_run"));
    own->lines_left = json_is_integer(lines) && json_integer_value(lines) >= 0
                          ? (uint64_t)json_integer_value(lines)
                          : UINT64_MAX;
    buf_init(&own->results, VERB_RESULTS_MAX);
    struct walk *walk = control_walk_start(client, &verb_kind, own);
    if (walk == NULL)
        return;
    if (selector_is_empty(&walk->selector))
        control_fail(client, "which messages? give an id, --domain, --sender, --recipient, "
                             "--state, --older or --all");
    else if (!read_reason(own, client->request, text, sizeof text))
        control_fail(client, text);
    else
        control_walk_bound(walk);
}

void command_retry(struct control_client *client)
{
    start(client, QUEUE_VERB_RETRY);
}

void command_hold(struct control_client *client)
{
    start(client, QUEUE_VERB_HOLD);
}

void command_release(struct control_client *client)
{
    start(client, QUEUE_VERB_RELEASE);
}

void command_delete(struct control_client *client)
{
    start(client, QUEUE_VERB_DELETE);
}

void command_bounce(struct control_client *client)
{
    start(client, QUEUE_VERB_BOUNCE);
}
