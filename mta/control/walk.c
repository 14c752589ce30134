/* mta/control/walk.c - see walk.h. */
#include "mta/control/walk.h"

#include <stdlib.h>

#include "mta/base/time.h"

#define OUTPUT_MAX ((size_t)16 * 1024 * 1024) /* beyond what any step gathers */

/* ---- on the scanner's thread ---- */

void control_walk_add_line(struct walk *walk, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return;
    buf_add_text(&walk->output, text);
    buf_add(&walk->output, "\n", 1);
    free(text);
}

bool control_walk_is_full(const struct walk *walk)
{
    return buf_len(&walk->output) >= WALK_OUTPUT_STEP || walk->matched >= walk->limit;
}

static bool visit(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    struct walk *walk = ctx;
    size_t from = walk->resume_id == id ? walk->unit_from : 0;
    size_t resume = 0;
    if (id > walk->until) {
        walk->past = true;
        return false;
    }
    walk->unit_from = 0;
    walk->seen += from == 0;
    if (selector_pick(&walk->selector, walk->client->control, id, envelope, &walk->set) == 0)
        return true;
    walk->cut = !walk->kind->visit(walk, id, envelope, from, &resume);
    walk->resume_id = id;
    walk->unit_from = resume;
    return !walk->cut;
}

static bool wants_damaged(const struct walk *walk)
{
    return walk->kind->visit_damaged != NULL && !selector_looks_inside(&walk->selector);
}

static void step_scan(struct walk *walk)
{
    int rc = queue_scan(walk->client->control->queue, &walk->after, visit, walk);
    if (rc < 0)
        walk->failure = rc;
    else if (walk->unit_from > 0)
        walk->after = walk->resume_id - 1;
    else if (rc == 0 && (walk->past || !walk->cut))
        walk->phase = wants_damaged(walk) ? WALK_SETTLE : WALK_END;
}

static bool visit_damaged(const struct queue_damaged *damaged, void *ctx)
{
    struct walk *walk = ctx;
    if (damaged->id <= walk->after)
        return true;
    walk->after = damaged->id;
    walk->cut = !walk->kind->visit_damaged(walk, damaged);
    return !walk->cut;
}

static void step_damaged(struct walk *walk)
{
    int rc = queue_read_damaged(walk->client->control->queue, visit_damaged, walk);
    if (rc < 0)
        walk->failure = rc;
    else if (!walk->cut)
        walk->phase = WALK_END;
}

static bool visit_if_sought(const struct queue_damaged *damaged, void *ctx)
{
    struct walk *walk = ctx;
    if (damaged->id != walk->selector.id)
        return true;
    (void)walk->kind->visit_damaged(walk, damaged);
    return false;
}

static void step_id(struct walk *walk)
{
    struct queue *queue = walk->client->control->queue;
    struct queue_message *message = NULL;
    uint64_t id = walk->selector.id;
    int rc = queue_read_message(queue, id, &message);
    if (rc == 0)
        (void)visit(id, queue_message_envelope(message), walk);
    queue_message_free(&message);
    if (rc < 0 && wants_damaged(walk))
        rc = queue_read_damaged(queue, visit_if_sought, walk);
    if (rc < 0)
        walk->failure = rc;
    else if (walk->unit_from == 0)
        walk->phase = WALK_END;
}

static void work(struct scanner_job *job)
{
    struct walk *walk = (struct walk *)job;
    walk->cut = false;
    if (walk->phase == WALK_ID)
        step_id(walk);
    else if (walk->phase == WALK_SCAN)
        step_scan(walk);
    else if (walk->phase == WALK_DAMAGED)
        step_damaged(walk);
    if (walk->phase < WALK_END && walk->matched >= walk->limit)
        walk->phase = WALK_END;
    if (walk->phase == WALK_END) {
        if (walk->kind->end != NULL)
            walk->kind->end(walk);
        walk->phase = WALK_DONE;
    }
}

/* ---- on the main loop ---- */

static void send_output(struct walk *walk)
{
    struct str output = buf_str(&walk->output);
    control_send_bytes(walk->client, output.p, output.len);
    buf_clear(&walk->output);
}

static void send_progress(struct walk *walk)
{
    uint64_t now_ms = time_monotonic_ms();
    if (!walk->wants_progress || now_ms - walk->progress_ms < WALK_PROGRESS_MS)
        return;
    walk->progress_ms = now_ms;
    control_send(walk->client,
                 json_pack("{s:{s:I,s:I,s:I}}", "progress", "seen", (json_int_t)walk->seen, "total",
                           (json_int_t)walk->total, "matched", (json_int_t)walk->matched));
}

static void on_settled(int result, void *ctx)
{
    struct walk *walk = ctx;
    struct control_client *client = walk->client;
    (void)result; /* it concerned no message */
    walk->phase = WALK_DAMAGED;
    walk->after = 0;
    control_step_resume(client);
    control_unhold(client);
}

/* The scan has reported damaged records to the writer, one job each; this one comes behind them. */
static void settle(struct walk *walk)
{
    struct control *control = walk->client->control;
    walk->phase = WALK_SETTLING;
    control_hold(walk->client);
    control_step_wait(walk->client);
    queue_admin(control->queue, control->port, QUEUE_VERB_RETRY, 0, NULL, 0, NULL, on_settled,
                walk);
}

static void on_worked(struct scanner_job *job)
{
    struct walk *walk = (struct walk *)job;
    struct control_client *client = walk->client;
    walk->stepping = false;
    if (!client->closing) {
        send_output(walk);
        if (walk->kind->after_step != NULL)
            walk->kind->after_step(walk);
        send_progress(walk);
        control_step_resume(client);
    }
    control_unhold(client);
}

static void finish(struct walk *walk)
{
    struct control_client *client = walk->client;
    int code = walk->kind->finish(walk);
    if (code < 0)
        control_step_wait(client);
    else if (walk->failure < 0)
        control_fail(client, queue_error_text(walk->failure));
    else
        control_finish(client, code);
}

/* Look at more. */
static void launch(struct walk *walk)
{
    struct control_client *client = walk->client;
    walk->stepping = true;
    control_hold(client);
    control_step_wait(client);
    scanner_add(client->control->scanner, &walk->job);
}

/* The client must read first, or the kind's work must come back. */
static bool must_rest(const struct walk *walk)
{
    return control_is_slow(walk->client) ||
           (walk->kind->must_wait != NULL && walk->kind->must_wait(walk));
}

void control_walk_step(struct control_client *client)
{
    struct walk *walk = client->walk;
    bool away = walk->stepping || walk->phase == WALK_SETTLING; /* with another thread */
    if (!away && control_has_left(client))
        control_close(client);
    else if (away || must_rest(walk))
        control_step_wait(client);
    else if (walk->phase == WALK_DONE || walk->failure < 0)
        finish(walk);
    else if (walk->phase == WALK_SETTLE)
        settle(walk);
    else
        launch(walk);
}

/* ---- life ---- */

static bool read_request(struct walk *walk, const json_t *request, char *text, size_t size)
{
    const json_t *limit = json_object_get(request, "limit");
    if (!selector_read(request, &walk->selector, text, size))
        return false;
    if (limit != NULL && (!json_is_integer(limit) || json_integer_value(limit) < 1)) {
        (void)snprintf(text, size, "limit: expected a number from 1 on");
        return false;
    }
    walk->limit = limit != NULL ? (uint64_t)json_integer_value(limit) : UINT64_MAX;
    walk->wants_progress = json_is_true(json_object_get(request, "progress"));
    return true;
}

static enum walk_phase first_phase(const struct walk *walk)
{
    if (walk->selector.by_id)
        return WALK_ID;
    if (walk->selector.state != SELECT_DAMAGED)
        return WALK_SCAN;
    return wants_damaged(walk) ? WALK_DAMAGED : WALK_END;
}

struct walk *control_walk_start(struct control_client *client, const struct walk_kind *kind,
                                void *own)
{
    char text[512];
    struct queue_counts counts;
    struct walk *walk = mem_alloc(sizeof *walk);
    *walk = (struct walk){.job = {.work = work, .done = on_worked},
                          .client = client,
                          .kind = kind,
                          .own = own,
                          .until = UINT64_MAX,
                          .progress_ms = time_monotonic_ms()};
    buf_init(&walk->output, OUTPUT_MAX);
    client->walk = walk;
    if (!read_request(walk, client->request, text, sizeof text)) {
        control_fail(client, text);
        return NULL;
    }
    walk->phase = first_phase(walk);
    if (queue_read_counts(client->control->queue, &counts) == 0)
        walk->total = counts.messages;
    control_step_start(client);
    return walk;
}

/* Ids only grow, whatever the clock does: the next one marks the moment. */
void control_walk_bound(struct walk *walk)
{
    struct control *control = walk->client->control;
    struct queue_put *put = NULL;
    if (queue_put_begin(control->queue, control->port, &put, &walk->until) == 0)
        queue_put_abort(put);
}

void control_walk_free(struct walk **walkp)
{
    struct walk *walk = *walkp;
    if (walk == NULL)
        return;
    walk->kind->free(walk);
    buf_deinit(&walk->output);
    unit_set_deinit(&walk->set);
    free(walk);
    *walkp = NULL;
}

void control_walk_abandon(struct walk *walk)
{
    if (walk != NULL)
        walk->stepping = false;
}
