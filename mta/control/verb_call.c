/* mta/control/verb_call.c - calls to the writer for an admin's verb: gathered by a step, handed on
 * so many at a time that the writer's transactions are full but no more, and told when done. */
#include <stdlib.h>
#include <string.h>

#include "mta/control/verb.h"

#define OUTSTANDING_MAX 4096              /* some transactions' worth */
#define BATCH_MAX       512               /* calls a step */
#define LOGGED_BYTES    ((size_t)2 << 20) /* remembered for the log: a step's calls, all calls */
#define LOGGED_MAX      1000              /* recipients of a message; of more, their number */
#define REMOVED_MAX     ((size_t)4 << 20) /* what they can come to, and more */
#define RESULTS_STEP    ((size_t)8 * 1024)
#define FAILURES_MAX    20 /* told one by one even if no message is to be */

/* What the writer was asked for, and what to say when it is done. */
struct verb_call {
    struct verb_call *prev, *next; /* of those with the writer; in a batch only next */
    struct walk *walk;
    uint64_t id;
    uint16_t *units; /* NULL: all */
    size_t unit_count;
    char *line;         /* for the client, without its result and end; NULL: none */
    struct buf removed; /* sender NUL, then recipient NUL domain NUL ... */
    uint64_t unlogged;  /* recipients beyond LOGGED_MAX */
};

/* ---- gathering, on the scanner's thread ---- */

static bool has_number(const struct unit_set *set, uint16_t number)
{
    size_t low = 0;
    size_t high = set->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->count && set->numbers[low] == number;
}

static void remember_text(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text) + 1);
}

/* Who will have been removed: afterwards nobody can tell. */
static void remember_removed(struct verb_call *call, const struct queue_envelope *envelope,
                             const struct unit_set *set)
{
    size_t count = 0;
    buf_init(&call->removed, REMOVED_MAX);
    remember_text(&call->removed, envelope->sender);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        if (!recipient_is_open(recipient) || !has_number(set, recipient->unit))
            continue;
        if (count++ >= LOGGED_MAX) {
            call->unlogged++;
            continue;
        }
        remember_text(&call->removed, recipient->address);
        remember_text(&call->removed, recipient->domain);
    }
}

static void add_call(struct walk *walk, struct verb_call *call)
{
    struct verb *verb = walk->own;
    call->walk = walk;
    call->next = NULL;
    *verb->batch_end = call;
    verb->batch_end = &call->next;
    verb->batch_count++;
    verb->batch_bytes += buf_len(&call->removed);
}

/* The object's text without its last brace, so that "result" can be added when it is known. */
static char *open_line(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text != NULL)
        text[strlen(text) - 1] = '\0';
    return text;
}

void verb_gather(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                 const struct unit_set *set, json_t *line)
{
    const struct verb *verb = walk->own;
    struct verb_call *call = mem_alloc(sizeof *call);
    call->id = id;
    call->unit_count = set->count;
    if (set->count < envelope->unit_count) {
        call->units = mem_alloc(set->count * sizeof *call->units);
        memcpy(call->units, set->numbers, set->count * sizeof *call->units);
    }
    if (line != NULL)
        call->line = open_line(line);
    if (verb->row->verb == QUEUE_VERB_DELETE)
        remember_removed(call, envelope, set);
    add_call(walk, call);
}

void verb_gather_damaged(struct walk *walk, uint64_t id, json_t *line)
{
    struct verb_call *call = mem_alloc(sizeof *call);
    call->id = id;
    call->line = open_line(line);
    add_call(walk, call);
}

bool verb_batch_is_full(const struct verb *verb)
{
    return verb->batch_count >= BATCH_MAX || verb->batch_bytes >= LOGGED_BYTES;
}

/* ---- results, on the main loop ---- */

/* Every recipient ends in one recorded way: this is the one of those that an admin takes out. */
static void log_removed(struct log *log, const struct verb_call *call)
{
    char id[QUEUE_ID_TEXT];
    struct str rest = buf_str(&call->removed);
    const char *sender = rest.p;
    queue_id_text(call->id, id);
    if (rest.len == 0) {
        log_event(log, LOG_LEVEL_INFO, "removed", LOG_T("id", id),
                  LOG_T("text", "the record was damaged"));
        return;
    }
    rest = str_skip(rest, strlen(sender) + 1);
    while (rest.len > 0) {
        const char *recipient = rest.p;
        const char *domain = recipient + strlen(recipient) + 1;
        log_event(log, LOG_LEVEL_INFO, "removed", LOG_T("id", id), LOG_T("sender", sender),
                  LOG_T("recipient", recipient), LOG_T("domain", domain));
        rest = str_skip(rest, (size_t)(domain - recipient) + strlen(domain) + 1);
    }
    if (call->unlogged > 0)
        log_event(log, LOG_LEVEL_INFO, "removed", LOG_T("id", id), LOG_T("sender", sender),
                  LOG_I("recipients", (int64_t)call->unlogged),
                  LOG_T("text", "further recipients of the same message"));
}

static void free_call(struct verb_call *call)
{
    free(call->units);
    free(call->line);
    buf_deinit(&call->removed);
    free(call);
}

static void free_calls(struct verb_call *call)
{
    while (call != NULL) {
        struct verb_call *next = call->next;
        free_call(call);
        call = next;
    }
}

void verb_send_results(struct walk *walk)
{
    struct verb *verb = walk->own;
    struct str results = buf_str(&verb->results);
    control_send_bytes(walk->client, results.p, results.len);
    buf_clear(&verb->results);
}

/* Failures are told also where no message is to be named, as long as they are few. */
static void tell_result(struct verb_call *call, int result)
{
    struct verb *verb = call->walk->own;
    char id[QUEUE_ID_TEXT];
    bool is_failure = result != QUEUE_OK && result != 1;
    const char *text = result == QUEUE_OK ? "done"
                       : result == 1      ? "gone"
                                          : queue_error_text(result);
    if (call->walk->client->finishing) /* nothing follows the last line */
        return;
    if (call->line != NULL) {
        buf_printf(&verb->results, "%s,\"result\":\"%s\"}\n", call->line, text);
    } else if (is_failure && verb->failed <= FAILURES_MAX) {
        queue_id_text(call->id, id);
        buf_printf(&verb->results, "{\"id\":\"%s\",\"result\":\"%s\"}\n", id, text);
    }
    if (buf_len(&verb->results) >= RESULTS_STEP)
        verb_send_results(call->walk);
}

static void take_out(struct verb_call *call)
{
    struct verb *verb = call->walk->own;
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        verb->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    verb->outstanding--;
    call->walk->client->control->calls--;
    verb->logged_bytes -= buf_len(&call->removed);
}

static void on_verb_done(int result, void *ctx)
{
    struct verb_call *call = ctx;
    struct control_client *client = call->walk->client;
    struct verb *verb = call->walk->own;
    if (result == QUEUE_OK) {
        verb->messages++;
        verb->units_done += call->unit_count;
        if (verb->row->verb == QUEUE_VERB_DELETE)
            log_removed(client->control->log, call);
    } else if (result == 1) {
        verb->gone++; /* it left, or was changed by another command: nothing has failed */
    } else {
        verb->failed++;
    }
    tell_result(call, result);
    take_out(call);
    free_call(call);
    control_step_resume(client);
    control_unhold(client);
}

static void call_writer(struct walk *walk, struct verb_call *call)
{
    struct control *control = walk->client->control;
    struct verb *verb = walk->own;
    size_t unit_count = call->units != NULL ? call->unit_count : 0;
    call->prev = NULL;
    call->next = verb->calls;
    if (call->next != NULL)
        call->next->prev = call;
    verb->calls = call;
    verb->outstanding++;
    control->calls++;
    verb->logged_bytes += buf_len(&call->removed);
    control_hold(walk->client);
    queue_admin(control->queue, control->port, verb->row->verb, call->id, call->units, unit_count,
                verb->row->verb == QUEUE_VERB_BOUNCE ? &verb->attempt : NULL, on_verb_done, call);
}

static struct verb_call *take_batch(struct verb *verb)
{
    struct verb_call *batch = verb->batch;
    verb->batch = NULL;
    verb->batch_end = &verb->batch;
    verb->batch_count = 0;
    verb->batch_bytes = 0;
    return batch;
}

void verb_hand_on(struct walk *walk)
{
    struct verb_call *call = take_batch(walk->own);
    while (call != NULL) {
        struct verb_call *next = call->next;
        call_writer(walk, call);
        call = next;
    }
    verb_send_results(walk);
}

bool verb_must_wait(const struct walk *walk)
{
    const struct verb *verb = walk->own;
    return verb->outstanding >= OUTSTANDING_MAX || verb->logged_bytes >= LOGGED_BYTES;
}

void verb_free_calls(struct verb *verb)
{
    free_calls(take_batch(verb));
    free_calls(verb->calls);
    verb->calls = NULL;
}
