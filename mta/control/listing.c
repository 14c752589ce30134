/* mta/control/listing.c - commands that go over the queue: list, and the verbs that take selectors.
 * By id in steps of a few ms; a listing waits for a slow client, a verb for the writer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/control/control_private.h"

#define IDS_A_STEP      64
#define OUTSTANDING_MAX 64

static void send_unit(struct control_client *client, uint64_t id,
                      const struct queue_envelope *envelope, size_t number)
{
    const struct queue_unit *unit = &envelope->units[number];
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(id, id_text);
    json_t *recipients = json_array();
    for (size_t i = 0; i < envelope->recipient_count && json_array_size(recipients) < 100; i++) {
        if (envelope->recipients[i].unit == number)
            json_array_append_new(recipients, control_text(envelope->recipients[i].address));
    }
    int64_t age_ms = time_wall_ms() - envelope->accepted_unix_ms;
    control_send(client,
                 json_pack("{s:s,s:o,s:o,s:o,s:s,s:o,s:I,s:I,s:I}", "id", id_text, "domain",
                           control_text(unit->domain), "sender", control_text(envelope->sender),
                           "recipients", recipients, "state",
                           unit_state_text(client->control, id, unit, number), "next",
                           control_time(unit->due_unix_ms), "attempts", (json_int_t)unit->attempts,
                           "size", (json_int_t)envelope->body_bytes, "age",
                           (json_int_t)(age_ms / 1000)));
}

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
    walk->after = walk->selector.by_id ? walk->selector.id - 1 : 0;
    walk->dry_run = json_is_true(json_object_get(client->request, "dry_run"));
    walk->going = true;
    control_step_start(client);
    return true;
}

static bool send_damaged(const struct queue_damaged *damaged, void *ctx)
{
    struct control_client *client = ctx;
    char id_text[QUEUE_ID_TEXT];
    const struct selector *s = &client->walk.selector;
    if ((s->by_id && s->id != damaged->id) || client->walk.matched >= client->walk.limit)
        return true;
    queue_id_text(damaged->id, id_text);
    control_send(client,
                 json_pack("{s:s,s:s,s:o,s:I}", "id", id_text, "state", "damaged", "reason",
                           control_text(damaged->reason), "size", (json_int_t)damaged->bytes));
    client->walk.matched++;
    return true;
}

void command_list(struct control_client *client)
{
    client->walk.kind = WALK_LIST;
    if (!start_walk(client))
        return;
    const struct selector *s = &client->walk.selector;
    bool others =
        s->domain != NULL || s->sender != NULL || s->recipient != NULL || s->older_ms != 0;
    if (!others && (s->state == NULL || strcmp(s->state, "damaged") == 0)) {
        int rc = queue_read_damaged(client->control->queue, send_damaged, client);
        (void)rc; /* unreadable: the listing of the rest still helps */
    }
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

/* ---- stepping ---- */

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
    bool nothing = walk->kind == WALK_VERB && (walk->dry_run ? walk->matched : walk->done) == 0;
    bool missing = walk->kind == WALK_LIST && walk->selector.by_id && walk->matched == 0;
    control_finish(client, nothing || missing ? 1 : 0);
}

struct verb_call {
    struct verb_call *prev, *next; /* of the client */
    struct control_client *client;
    uint64_t id;
};

/* More of the queue is to be visited, and there is room for it. */
static bool walk_rests(const struct control_client *client)
{
    return !client->walk.scanned && !control_is_slow(client);
}

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
    free(call);
}

void listing_forget_calls(struct control_client *client)
{
    while (client->walk.calls != NULL)
        free_call(client->walk.calls);
}

static void on_verb_done(int result, void *ctx)
{
    struct verb_call *call = ctx;
    struct control_client *client = call->client;
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(call->id, id_text);
    if (result == QUEUE_OK) {
        client->walk.done++;
        control_send(client, json_pack("{s:s,s:s}", "id", id_text, "result", "done"));
    } else {
        control_send(client,
                     json_pack("{s:s,s:o}", "id", id_text, "result",
                               control_text(result == 1 ? "gone" : queue_error_text(result))));
    }
    free_call(call);
    if (client->closing && client->walk.outstanding == 0)
        control_client_settled(client);
    else if (walk_rests(client))
        control_step_resume(client);
    else
        finish_when_done(client);
}

/* Deleting takes the whole message: not if recipients that were not selected would go with it. */
static bool spares_nobody(const struct control_client *client, uint64_t id,
                          const struct queue_envelope *envelope)
{
    for (size_t i = 0; i < envelope->unit_count; i++) {
        if (!envelope->units[i].done &&
            !selector_matches(&client->walk.selector, client->control, id, envelope, i))
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
        control_send(
            client,
            json_pack("{s:s,s:s}", "id", id_text, "result",
                      "kept: it has recipients at other domains as well; delete it by its id"));
        return;
    }
    walk->matched++;
    if (walk->dry_run) {
        control_send(client,
                     json_pack("{s:s,s:o,s:s}", "id", id_text, "sender",
                               control_text(envelope->sender), "result", "would be changed"));
        return;
    }
    struct verb_call *call = mem_alloc(sizeof *call);
    call->client = client;
    call->id = id;
    call->next = walk->calls;
    if (call->next != NULL)
        call->next->prev = call;
    walk->calls = call;
    walk->outstanding++;
    queue_admin(client->control->queue, client->control->port, id, walk->verb, on_verb_done, call);
}

static void visit(struct control_client *client, uint64_t id)
{
    struct walk_state *walk = &client->walk;
    struct queue_message *message = NULL;
    if (queue_read_message(client->control->queue, id, &message) != 0)
        return;
    const struct queue_envelope *envelope = queue_message_envelope(message);
    for (size_t i = 0; i < envelope->unit_count && walk->matched < walk->limit; i++) {
        if (!selector_matches(&walk->selector, client->control, id, envelope, i))
            continue;
        if (walk->kind == WALK_VERB) {
            apply_verb(client, id, envelope);
            break;
        }
        walk->matched++;
        send_unit(client, id, envelope, i);
    }
    queue_message_free(&message);
}

void listing_step(struct control_client *client)
{
    struct walk_state *walk = &client->walk;
    uint64_t ids[IDS_A_STEP];
    if (control_is_slow(client) || walk->outstanding >= OUTSTANDING_MAX) {
        control_step_wait(client);
        return;
    }
    long count = queue_read_ids(client->control->queue, walk->after, ids, IDS_A_STEP);
    if (count < 0) {
        control_fail(client, queue_error_text((int)count));
        return;
    }
    for (long i = 0; i < count && walk->matched < walk->limit; i++) {
        walk->after = ids[i];
        if (walk->selector.by_id && ids[i] != walk->selector.id)
            break;
        visit(client, ids[i]);
    }
    if (count < IDS_A_STEP || walk->matched >= walk->limit || walk->selector.by_id) {
        walk->scanned = true;
        control_step_stop(client);
        finish_when_done(client);
    }
}
