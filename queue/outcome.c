/* queue/outcome.c - what became of a unit: queue_record and queue_park.
 *
 * The caller's thread copies and encodes; the writer changes rows. Everything an outcome says lands
 * in one transaction: states, attempts, due time, the bounce, and the message's end. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

#define BOUNCE_MAX ((size_t)2 << 20)
#define NO_ATTEMPT SIZE_MAX
/* A bounce that an admin wants while the unit is in delivery: due when that has let go of it. */
#define BOUNCE_SOON_MS 1000

struct result { /* one recipient's */
    uint32_t recipient;
    uint8_t state;
    size_t attempt; /* offset of its row in `rows`, or NO_ATTEMPT */
    size_t attempt_len;
    bool applied; /* scratch of one application: */
    bool kept;    /* the attempt; not when it would take the room that ends need */
    uint32_t n;   /* which attempt of the recipient it is */
};

struct record_job {
    struct queue_job job;
    uint64_t id;
    uint16_t unit;
    int64_t due_unix_ms;
    bool count_attempt;
    bool warned;
    char *prefix; /* or NULL */
    struct result *results;
    size_t result_count;
    struct queue_bytes rows; /* encoded attempts */
    struct queue_new *bounce;
    uint8_t *bounce_bytes;
    int invalid;       /* why it cannot be recorded */
    bool told_before;  /* scratch: of the delay, by an earlier outcome */
    bool keeps_bounce; /* scratch: a recipient stays BOUNCE_PENDING although it is to wait */
    struct queue_completion *completion;
};

/* ---- applying ---- */

static int64_t sane_due(const struct queue_batch *batch, int64_t due_unix_ms)
{
    if (due_unix_ms <= 0)
        return batch->wall_ms > 0 ? batch->wall_ms : 1;
    return due_unix_ms < QUEUE_NEVER ? due_unix_ms : QUEUE_NEVER - 1;
}

static uint32_t plus_one(uint32_t n)
{
    return n < UINT32_MAX ? n + 1 : n;
}

static void copy_out(void *ctx, uint8_t *out, size_t len)
{
    const uint8_t **next = ctx;
    memcpy(out, *next, len);
    *next += len;
}

static int store_bounce(struct queue_batch *batch, const struct record_job *record)
{
    const struct queue_new *bounce = record->bounce;
    const uint8_t *next = record->bounce_bytes;
    size_t total = (size_t)bounce->body_bytes;
    for (size_t at = 0; at < total; at += QUEUE_BODY_ROW) {
        size_t len = total - at < QUEUE_BODY_ROW ? total - at : QUEUE_BODY_ROW;
        int rc = queue_body_write(batch->txn, queue_batch_db(batch, QUEUE_DB_BODY), bounce->id, at,
                                  len, copy_out, &next);
        if (rc != 0)
            return rc;
    }
    batch->body_bytes += total;
    return queue_new_store(batch, bounce);
}

/* An admin may have decided on a bounce while the attempt was under way: only an end undoes that.
 */
static void set_state(struct record_job *record, struct queue_rcpt_row *rcpt, uint8_t state)
{
    if (rcpt->state == QUEUE_RCPT_BOUNCE_PENDING && state == QUEUE_RCPT_WAITING)
        record->keeps_bounce = true;
    else
        rcpt->state = state;
}

/* States first: whether attempt rows are wanted is known when the message's end is. Recipients of
 * another unit, and those that have ended (an admin was faster), are left alone. */
static int apply_states(struct queue_edit *edit, struct record_job *record,
                        struct queue_unit_row *unit)
{
    const struct queue_space *space = &edit->batch->queue->space;
    for (size_t i = 0; i < record->result_count; i++) {
        struct result *result = &record->results[i];
        struct queue_rcpt_row *rcpt = NULL;
        int rc = queue_edit_rcpt(edit, result->recipient, &rcpt);
        if (rc != 0 || edit->damaged != NULL)
            return rc;
        result->applied =
            rcpt != NULL && rcpt->unit == record->unit && queue_rcpt_is_open(rcpt->state);
        if (!result->applied)
            continue;
        set_state(record, rcpt, result->state);
        result->kept = result->attempt != NO_ATTEMPT && !queue_space_is_tight(space);
        if (result->kept) {
            result->n = rcpt->attempts;
            rcpt->attempts = plus_one(rcpt->attempts);
        }
        edit->rcpts_dirty = true;
        if (queue_rcpt_is_open(rcpt->state))
            continue;
        unit->open -= unit->open > 0 ? 1 : 0;
        edit->head.open -= edit->head.open > 0 ? 1 : 0;
        edit->head_dirty = true;
    }
    return 0;
}

static int store_attempts(struct queue_edit *edit, const struct record_job *record)
{
    for (size_t i = 0; i < record->result_count; i++) {
        const struct result *result = &record->results[i];
        if (!result->applied || !result->kept)
            continue;
        int rc = queue_edit_attempt(edit, result->recipient, result->n,
                                    record->rows.p + result->attempt, result->attempt_len);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int64_t next_time(const struct queue_edit *edit, const struct record_job *record)
{
    int64_t due = sane_due(edit->batch, record->due_unix_ms);
    int64_t soon = sane_due(edit->batch, 0) + BOUNCE_SOON_MS;
    return record->keeps_bounce && due > soon ? soon : due;
}

/* Is a bounce all that is left to do for the unit? An outcome covers all that waited. */
static void note_bounces(struct queue_edit *edit, const struct record_job *record,
                         struct queue_unit_row *unit)
{
    uint32_t pending = 0;
    for (size_t i = 0; i < record->result_count; i++) {
        struct queue_rcpt_row *rcpt = NULL;
        if (record->results[i].applied &&
            queue_edit_rcpt(edit, record->results[i].recipient, &rcpt) == 0 && rcpt != NULL)
            pending += rcpt->state == QUEUE_RCPT_BOUNCE_PENDING ? 1 : 0;
    }
    if (record->result_count > 0)
        unit->bounces = pending == unit->open;
}

static int apply_unit(struct queue_edit *edit, struct record_job *record,
                      struct queue_unit_row *unit)
{
    struct queue_unit_row before = *unit;
    int rc = apply_states(edit, record, unit);
    if (rc != 0 || edit->damaged != NULL)
        return rc;
    if (record->count_attempt)
        unit->attempts = plus_one(unit->attempts);
    note_bounces(edit, record, unit);
    record->told_before = record->warned && unit->warned;
    unit->warned = unit->warned || record->warned;
    unit->due_unix_ms = unit->open > 0 ? next_time(edit, record) : 0;
    rc = queue_edit_place(edit, record->unit, &before, unit);
    if (rc != 0)
        return rc;
    if (edit->head.open == 0)
        return queue_edit_remove(edit);
    rc = store_attempts(edit, record);
    if (rc == 0 && record->prefix != NULL) {
        edit->head.prefix = record->prefix;
        edit->head_dirty = true;
    }
    return rc == 0 ? queue_edit_save(edit) : rc;
}

/* Did this application end or change anything? If not (recorded before, or an admin was faster) its
 * bounce must not go out either. */
static bool has_effect(const struct record_job *record)
{
    if (record->told_before)
        return false;
    for (size_t i = 0; i < record->result_count; i++) {
        if (record->results[i].applied)
            return true;
    }
    return false;
}

static int apply_record(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct record_job *record = (struct record_job *)job;
    struct queue_edit *edit = batch->edit;
    struct queue_unit_row *unit = NULL;
    bool found = false;
    (void)finished_out;
    for (size_t i = 0; i < record->result_count; i++)
        record->results[i].applied = false;
    record->told_before = record->keeps_bounce = false;
    job->result = record->invalid;
    if (record->invalid != 0)
        return 0;
    if (record->bounce != NULL &&
        queue_space_is_full(&batch->queue->space, batch->body_bytes + record->bounce->body_bytes)) {
        job->result = QUEUE_ERR_FULL;
        return 0;
    }
    int rc = queue_edit_open(edit, batch, record->id, &found);
    if (rc == 0 && found)
        rc = queue_edit_unit(edit, record->unit, &unit);
    if (rc == 0 && unit != NULL && unit->open > 0)
        rc = apply_unit(edit, record, unit);
    if (rc == 0 && edit->damaged != NULL)
        job->result = QUEUE_ERR_DAMAGED;
    else if (rc == 0 && found && unit == NULL)
        job->result = QUEUE_ERR_LIMIT;
    else if (rc == 0 && record->bounce != NULL && has_effect(record))
        rc = store_bounce(batch, record);
    return rc;
}

static void report_record(struct queue *queue, struct queue_job *job, int result)
{
    struct record_job *record = (struct record_job *)job;
    (void)queue;
    queue_completion_post(record->completion, result);
}

static void release_record(struct queue *queue, struct queue_job *job, int result)
{
    struct record_job *record = (struct record_job *)job;
    (void)queue;
    (void)result;
    free(record->prefix);
    free(record->results);
    free(record->bounce_bytes);
    queue_bytes_deinit(&record->rows);
    queue_new_free(&record->bounce);
    free(record);
}

static const struct queue_job_type record_type = {apply_record, NULL, report_record, release_record,
                                                  QUEUE_JOB_OUTCOME};
static const struct queue_job_type park_type = {apply_record, NULL, report_record, release_record,
                                                QUEUE_JOB_PARK};

/* ---- handing over ---- */

/* Recipients that shared an attempt share its row. */
static void copy_results(struct record_job *record, const struct queue_outcome *outcome)
{
    const struct queue_attempt *last = NULL;
    size_t at = NO_ATTEMPT;
    size_t len = 0;
    record->result_count = outcome->recipient_count;
    record->results = queue_alloc(outcome->recipient_count * sizeof *record->results);
    for (size_t i = 0; i < outcome->recipient_count; i++) {
        const struct queue_rcpt_outcome *from = &outcome->recipients[i];
        if (from->attempt != NULL && from->attempt != last) {
            at = record->rows.len;
            queue_attempt_write(&record->rows, from->attempt);
            len = record->rows.len - at;
            last = from->attempt;
        }
        record->results[i] = (struct result){
            .recipient = from->recipient,
            .state = (uint8_t)from->state,
            .attempt = from->attempt != NULL ? at : NO_ATTEMPT,
            .attempt_len = len,
        };
    }
}

static void copy_bounce(struct queue *queue, struct record_job *record,
                        const struct queue_bounce *bounce)
{
    if (bounce->len > BOUNCE_MAX) {
        record->invalid = QUEUE_ERR_LIMIT;
        return;
    }
    uint64_t id = queue_ids_next(&queue->ids, queue_wall_ms(queue));
    record->bounce = queue_new_encode(id, bounce->envelope, bounce->len);
    record->bounce_bytes = queue_alloc(bounce->len);
    memcpy(record->bounce_bytes, bounce->bytes, bounce->len);
    if (record->bounce == NULL)
        record->invalid = QUEUE_ERR_LIMIT;
}

void queue_record(struct queue *queue, struct queue_port *port, const struct queue_outcome *outcome,
                  queue_done_fn on_done, void *ctx)
{
    struct record_job *record = queue_alloc(sizeof *record);
    record->job = (struct queue_job){.type = &record_type, .grows = outcome->bounce != NULL};
    record->id = outcome->id;
    record->unit = outcome->unit;
    record->due_unix_ms = outcome->due_unix_ms;
    record->count_attempt = outcome->count_attempt;
    record->warned = outcome->warned;
    if (outcome->recipient_count <= QUEUE_RECIPIENTS_MAX)
        copy_results(record, outcome);
    else
        record->invalid = QUEUE_ERR_LIMIT;
    if (outcome->prefix != NULL) {
        size_t len = strlen(outcome->prefix);
        if (len > QUEUE_PREFIX_MAX)
            record->invalid = QUEUE_ERR_LIMIT;
        record->prefix = queue_alloc(len + 1);
        memcpy(record->prefix, outcome->prefix, len + 1);
    }
    if (outcome->bounce != NULL)
        copy_bounce(queue, record, outcome->bounce);
    record->completion = queue_completion_done(port, on_done, ctx);
    queue_submit(queue, &record->job);
}

void queue_park(struct queue *queue, uint64_t id, uint16_t unit, int64_t due_unix_ms)
{
    struct record_job *record = queue_alloc(sizeof *record);
    record->job = (struct queue_job){.type = &park_type};
    record->id = id;
    record->unit = unit;
    record->due_unix_ms = due_unix_ms;
    queue_submit(queue, &record->job);
}
