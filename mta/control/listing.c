/* mta/control/listing.c - commands that go over the queue: list, and the verbs that take selectors.
 * By id, in steps of a few ms, also within a message of many units. A listing waits for a slow
 * client, a verb for the writer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mta/base/time.h"
#include "mta/control/control_private.h"

#define STEP_MS         5
#define OUTSTANDING_MAX 64
#define RECIPIENTS_MAX  100 /* in a line of `list` */
#define REASONS_MAX     100 /* looking one up reads all records that were set aside */

/* ---- starting ---- */

static bool start_walk(struct control_client *client)
{
    char text[512];
    struct walk_state *walk = &client->walk;
    const json_t *limit = json_object_get(client->request, "limit");
    if (!selector_read(client->request, &walk->selector, text, sizeof text)) {
        control_fail(client, text);
        return false;
    }
    if (limit != NULL && (!json_is_integer(limit) || json_integer_value(limit) < 1)) {
        control_fail(client, "limit: expected a number from 1 on");
        return false;
    }
    walk->limit = limit != NULL ? (uint64_t)json_integer_value(limit) : UINT64_MAX;
    walk->dry_run = json_is_true(json_object_get(client->request, "dry_run"));
    if (walk->selector.by_id) {
        walk->ids[0] = walk->selector.id;
        walk->id_count = 1;
    }
    walk->going = true;
    control_step_start(client);
    return true;
}

void command_list(struct control_client *client)
{
    client->walk.kind = WALK_LIST;
    (void)start_walk(client); /* a failure has been told */
}

static void start_verb(struct control_client *client, enum queue_verb verb)
{
    client->walk.kind = WALK_VERB;
    client->walk.verb = verb;
    if (!start_walk(client))
        return;
    if (selector_is_empty(&client->walk.selector))
        control_fail(client, "which messages? give an id, --domain, --sender, --recipient, "
                             "--state, --older or --all");
}

void command_retry(struct control_client *client)
{
    start_verb(client, QUEUE_VERB_RETRY);
}

void command_delete(struct control_client *client)
{
    start_verb(client, QUEUE_VERB_DELETE);
}

/* ---- ending ---- */

static int exit_code(const struct walk_state *walk)
{
    if (walk->kind == WALK_VERB)
        return walk->failed > 0 || (walk->dry_run ? walk->matched : walk->done) == 0;
    /* An empty queue is an answer; a selection of nothing is none. */
    const struct selector *s = &walk->selector;
    return walk->matched == 0 && !s->all && !selector_is_empty(s);
}

static void finish_when_done(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    if (!walk->scanned || walk->outstanding > 0 || client->finishing)
        return;
    walk->going = false;
    if (walk->kind == WALK_VERB)
        control_send(client, json_pack("{s:I,s:b}", "count",
                                       (json_int_t)(walk->dry_run ? walk->matched : walk->done),
                                       "dry_run", walk->dry_run));
    control_finish(client, exit_code(walk));
}

/* ---- verbs ---- */

struct verb_call {
    struct verb_call *prev, *next; /* of the client */
    struct control_client *client;
    uint64_t id;
    struct queue_message *message; /* of a removal, for the log; NULL: a damaged record */
};

static void free_call(struct verb_call *call)
{
    struct walk_state *walk = &call->client->walk;
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        walk->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    walk->outstanding--;
    queue_message_free(&call->message);
    free(call);
}

void listing_forget_calls(struct control_client *client)
{
    struct verb_call *call = client->walk.calls;
    while (call != NULL) {
        struct verb_call *next = call->next;
        queue_message_free(&call->message);
        free(call);
        call = next;
    }
    client->walk.calls = NULL;
    client->walk.outstanding = 0;
}

void listing_free(struct control_client *client)
{
    queue_message_free(&client->walk.message);
}

static void send_result(struct control_client *client, uint64_t id, const char *result)
{
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(id, id_text);
    if (!client->finishing) /* nothing follows the last line */
        control_send(client, json_pack("{s:s,s:s}", "id", id_text, "result", result));
}

/* Every recipient ends in one recorded way: this is the one of those that an admin takes out. */
static void log_removed(const struct verb_call *call)
{
    struct log *log = call->client->control->log;
    char id[QUEUE_ID_TEXT];
    queue_id_text(call->id, id);
    if (call->message == NULL) {
        log_event(log, LOG_LEVEL_INFO, "removed", LOG_T("id", id));
        return;
    }
    const struct queue_envelope *envelope = queue_message_envelope(call->message);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (recipient_is_open(recipient))
            log_event(log, LOG_LEVEL_INFO, "removed", LOG_T("id", id),
                      LOG_T("sender", envelope->sender), LOG_T("recipient", recipient->address),
                      LOG_T("domain", recipient->domain));
    }
}

static void on_verb_done(int result, void *ctx)
{
    struct verb_call *call = ctx;
    struct control_client *client = call->client;
    struct walk_state *walk = &client->walk;
    bool gone = result == 1; /* nothing to change, or it left the queue meanwhile: no failure */
    if (result == QUEUE_OK && walk->verb == QUEUE_VERB_DELETE)
        log_removed(call);
    if (result == QUEUE_OK)
        walk->done++;
    else if (!gone)
        walk->failed++;
    send_result(client, call->id,
                result == QUEUE_OK ? "done"
                : gone             ? "gone"
                                   : queue_error_text(result));
    free_call(call);
    if (client->closing && walk->outstanding == 0)
        control_client_settled(client);
    else if (!walk->scanned && !control_is_slow(client))
        control_step_resume(client);
    else
        finish_when_done(client);
}

static void call_writer(struct control_client *client, uint64_t id)
{
    struct walk_state *walk = &client->walk;
    struct verb_call *call = mem_alloc(sizeof *call);
    call->client = client;
    call->id = id;
    if (walk->verb == QUEUE_VERB_DELETE &&
        queue_read_message(client->control->queue, id, &call->message) != 0)
        call->message = NULL;
    call->next = walk->calls;
    if (call->next != NULL)
        call->next->prev = call;
    walk->calls = call;
    walk->outstanding++;
    queue_admin(client->control->queue, client->control->port, walk->verb, id, NULL, 0, NULL,
                on_verb_done, call);
}

/* Deleting takes the whole message: not if recipients that were not selected would go with it. */
static bool spares_nobody(const struct control_client *client, uint64_t id,
                          const struct queue_envelope *envelope)
{
    const struct selector *s = &client->walk.selector;
    for (size_t i = 0; i < envelope->unit_count; i++) {
        if (!envelope->units[i].done && !selector_matches(s, client->control, id, envelope, i))
            return false;
    }
    for (size_t i = 0; s->recipient != NULL && i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (recipient_is_open(recipient) && strcasecmp(recipient->address, s->recipient) != 0)
            return false;
    }
    return true;
}

static void apply_verb(struct control_client *client, uint64_t id,
                       const struct queue_envelope *envelope)
{
    struct walk_state *walk = &client->walk;
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(id, id_text);
    if (walk->verb == QUEUE_VERB_DELETE && !spares_nobody(client, id, envelope)) {
        send_result(client, id, "kept: it has other recipients as well; delete it by its id");
        return;
    }
    walk->matched++;
    if (walk->dry_run)
        control_send(client,
                     json_pack("{s:s,s:o,s:s}", "id", id_text, "sender",
                               control_text(envelope->sender), "result", "would be changed"));
    else
        call_writer(client, id);
}

/* ---- listing ---- */

static json_t *open_recipients(const struct queue_envelope *envelope, size_t unit,
                               uint64_t *count_out)
{
    json_t *list = json_array();
    uint64_t count = 0;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (recipient->unit != unit || !recipient_is_open(recipient))
            continue;
        if (count < RECIPIENTS_MAX)
            json_array_append_new(list, control_text(recipient->address));
        count++;
    }
    *count_out = count;
    return list;
}

static void send_unit(struct control_client *client, uint64_t id,
                      const struct queue_envelope *envelope, size_t number)
{
    const struct queue_unit *unit = &envelope->units[number];
    char id_text[QUEUE_ID_TEXT];
    uint64_t count = 0;
    json_t *recipients = open_recipients(envelope, number, &count);
    int64_t age_ms = time_wall_ms() - envelope->accepted_unix_ms;
    queue_id_text(id, id_text);
    control_send(client,
                 json_pack("{s:s,s:o,s:o,s:o,s:I,s:s,s:o,s:I,s:I,s:I}", "id", id_text, "domain",
                           control_text(unit->domain), "sender", control_text(envelope->sender),
                           "recipients", recipients, "recipient_count", (json_int_t)count, "state",
                           unit_state_text(client->control, id, unit, number), "next",
                           control_time(unit->due_unix_ms), "attempts", (json_int_t)unit->attempts,
                           "size", (json_int_t)envelope->body_bytes, "age",
                           (json_int_t)(age_ms / 1000)));
}

static void list_damaged(struct control_client *client, uint64_t id, int failure)
{
    struct walk_state *walk = &client->walk;
    struct damage damage = {{0}, 0};
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(id, id_text);
    bool found = walk->damaged++ < REASONS_MAX && damage_find(client->control->queue, id, &damage);
    walk->matched++;
    control_send(client, json_pack("{s:s,s:s,s:o,s:I}", "id", id_text, "state", "damaged", "reason",
                                   control_text(found ? damage.reason : queue_error_text(failure)),
                                   "size", (json_int_t)damage.bytes));
}

/* A record that cannot be read. Verbs touch it only when it is meant: by its id or its state. */
static void visit_damaged(struct control_client *client, uint64_t id, int failure)
{
    struct walk_state *walk = &client->walk;
    const struct selector *s = &walk->selector;
    if (selector_looks_inside(s))
        return;
    if (walk->kind == WALK_LIST) {
        list_damaged(client, id, failure);
        return;
    }
    if (!s->by_id && s->state == NULL)
        return;
    if (walk->verb != QUEUE_VERB_DELETE) {
        walk->failed++;
        send_result(client, id, queue_error_text(failure));
        return;
    }
    walk->matched++;
    if (walk->dry_run)
        send_result(client, id, "would be changed");
    else
        call_writer(client, id);
}

/* ---- stepping ---- */

/* Read ahead. @return false: nothing is left, or the client has been told of a failure */
static bool read_ids(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    long count = 0;
    if (!walk->selector.by_id)
        count = queue_read_ids(client->control->queue, walk->after, walk->ids, CONTROL_IDS_A_READ);
    if (count < 0)
        control_fail(client, queue_error_text((int)count));
    walk->scanned = count == 0;
    if (count <= 0)
        return false;
    walk->id_count = (size_t)count;
    walk->id_next = 0;
    walk->after = walk->ids[count - 1];
    return true;
}

static void open_next(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    if (walk->id_next == walk->id_count && !read_ids(client))
        return;
    walk->id = walk->ids[walk->id_next++];
    walk->unit = 0;
    int rc = queue_read_message(client->control->queue, walk->id, &walk->message);
    if (rc < 0)
        visit_damaged(client, walk->id, rc);
}

static void visit_next_unit(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    const struct queue_envelope *envelope = queue_message_envelope(walk->message);
    size_t unit = walk->unit++;
    bool last = walk->unit >= envelope->unit_count;
    if (unit < envelope->unit_count &&
        selector_matches(&walk->selector, client->control, walk->id, envelope, unit)) {
        if (walk->kind == WALK_VERB) {
            apply_verb(client, walk->id, envelope);
            last = true;
        } else {
            walk->matched++;
            send_unit(client, walk->id, envelope, unit);
        }
    }
    if (last)
        queue_message_free(&walk->message);
}

static bool must_wait(const struct control_client *client)
{
    return control_is_slow(client) || client->walk.outstanding >= OUTSTANDING_MAX;
}

void listing_step(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    uint64_t started_ms = time_monotonic_ms();
    while (!walk->scanned && !client->closing && !client->finishing && !must_wait(client) &&
           time_monotonic_ms() - started_ms < STEP_MS) {
        if (walk->message == NULL)
            open_next(client);
        else
            visit_next_unit(client);
        walk->scanned = walk->scanned || walk->matched >= walk->limit;
    }
    if (walk->scanned) {
        control_step_stop(client);
        finish_when_done(client);
    } else if (must_wait(client)) {
        control_step_wait(client);
    }
}
