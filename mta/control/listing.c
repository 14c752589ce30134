/* mta/control/listing.c - list: a line a unit, oldest message first; records that were set aside
 * come last. */
#include <stdlib.h>
#include <string.h>

#include "mta/control/walk.h"

#define RECIPIENTS_MAX 100 /* in a line */
#define NOBODY         UINT32_MAX

/* The open recipients of each unit, as chains, so that a message of very many units is gone through
 * once and not once a unit. */
struct listing {
    uint32_t *first, *count; /* of a unit */
    size_t unit_size;
    uint32_t *next; /* of a recipient */
    size_t recipient_size;
};

static void fit(uint32_t **array, size_t *size, size_t want)
{
    if (*size < want)
        *array = mem_grow(*array, want * sizeof **array);
    *size = *size < want ? want : *size;
}

static void chain_recipients(struct listing *listing, const struct queue_envelope *envelope)
{
    size_t unit_size = listing->unit_size;
    fit(&listing->first, &unit_size, envelope->unit_count);
    fit(&listing->count, &listing->unit_size, envelope->unit_count);
    fit(&listing->next, &listing->recipient_size, envelope->recipient_count);
    for (size_t i = 0; i < envelope->unit_count; i++) {
        listing->first[i] = NOBODY;
        listing->count[i] = 0;
    }
    for (size_t i = envelope->recipient_count; i > 0;
         i--) { /* so that a chain begins at the first */
        const struct queue_recipient *recipient = &envelope->recipients[i - 1];
        if (!recipient_is_open(recipient))
            continue;
        listing->next[i - 1] = listing->first[recipient->unit];
        listing->first[recipient->unit] = (uint32_t)(i - 1);
        listing->count[recipient->unit]++;
    }
}

static json_t *open_recipients(const struct listing *listing, const struct queue_envelope *envelope,
                               size_t unit)
{
    json_t *list = json_array();
    uint32_t at = listing->first[unit];
    for (size_t i = 0; i < RECIPIENTS_MAX && at != NOBODY; i++) {
        json_array_append_new(list, control_text(envelope->recipients[at].address));
        at = listing->next[at];
    }
    return list;
}

static void add_unit(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                     size_t number)
{
    const struct listing *listing = walk->own;
    const struct queue_unit *unit = &envelope->units[number];
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(id, id_text);
    control_walk_add_line(
        walk,
        json_pack("{s:s,s:o,s:o,s:o,s:I,s:s,s:o,s:I,s:I,s:I}", "id", id_text, "domain",
                  control_text(unit->domain), "sender", control_text(envelope->sender),
                  "recipients", open_recipients(listing, envelope, number), "recipient_count",
                  (json_int_t)listing->count[number], "state",
                  unit_state_text(walk->client->control, id, unit, number), "next",
                  control_time(unit->due_unix_ms), "attempts", (json_int_t)unit->attempts, "size",
                  (json_int_t)envelope->body_bytes, "age",
                  (json_int_t)age_seconds(envelope->accepted_unix_ms, walk->selector.now_unix_ms)));
}

static bool visit(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                  size_t unit_from, size_t *resume_out)
{
    const struct unit_set *set = &walk->set;
    chain_recipients(walk->own, envelope);
    for (size_t i = 0; i < set->count; i++) {
        if (set->numbers[i] < unit_from)
            continue;
        if (control_walk_is_full(walk)) {
            *resume_out = set->numbers[i];
            return false;
        }
        add_unit(walk, id, envelope, set->numbers[i]);
        walk->matched++;
    }
    return !control_walk_is_full(walk);
}

static bool visit_damaged(struct walk *walk, const struct queue_damaged *damaged)
{
    char id_text[QUEUE_ID_TEXT];
    queue_id_text(damaged->id, id_text);
    control_walk_add_line(walk, json_pack("{s:s,s:s,s:o,s:I}", "id", id_text, "state", "damaged",
                                          "reason", control_text(damaged->reason), "size",
                                          (json_int_t)damaged->bytes));
    walk->matched++;
    return !control_walk_is_full(walk);
}

/* An empty queue is an answer; a selection of nothing is none. */
static int finish(struct walk *walk)
{
    const struct selector *s = &walk->selector;
    return walk->matched == 0 && !s->all && !selector_is_empty(s);
}

static void free_listing(struct walk *walk)
{
    struct listing *listing = walk->own;
    free(listing->first);
    free(listing->count);
    free(listing->next);
    free(listing);
}

static const struct walk_kind list_kind = {
    .visit = visit, .visit_damaged = visit_damaged, .finish = finish, .free = free_listing};

void command_list(struct control_client *client)
{
    (void)control_walk_start(client, &list_kind,
                             mem_alloc(sizeof(struct listing))); /* a failure is told */
}
