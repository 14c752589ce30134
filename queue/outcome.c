/* queue/outcome.c - what became of a unit: queue_record and queue_park.
 *
 * The caller's thread copies and encodes; the writer changes rows. Everything an outcome says lands
 * in one transaction: states, attempts, due time, the bounce, and the message's end. One of very
 * many recipients takes several: states and attempts as far as each has time, and in the last one
 * the rest, with all whose end the bounce tells. Until then the unit is where it was, so that a
 * crash makes those be tried again that were not recorded. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

#define BOUNCE_MAX ((size_t)2 << 20)
#define NO_ATTEMPT SIZE_MAX
#define LOOK_EACH  64                  /* recipients between two looks at the clock */
#define STEP_NS    QUEUE_ADMIN_WORK_NS /* of a transaction for one outcome */
/* A bounce that an admin wants while the unit is in delivery: due when that has let go of it. */
#define BOUNCE_SOON_MS 1000

struct result { /* one recipient's */
    uint32_t recipient;
    uint8_t state;
    size_t attempt; /* offset of its row in `rows`, or NO_ATTEMPT */
    size_t attempt_len;
    bool applied;
};

struct progress {
    size_t at; /* the next result */
    uint32_t waiting;
    uint32_t pending;
    bool keeps_bounce; /* a recipient stays BOUNCE_PENDING although it is to wait */
};

struct record_job {
    struct queue_job job;
    uint64_t id;
    uint16_t unit;
    int64_t due_unix_ms;
    bool count_attempt;
    bool warned;
    char *prefix;           /* or NULL */
    struct result *results; /* what the bounce tells of comes last: */
    size_t result_count;
    size_t told_from;
    bool all_end;
    struct queue_bytes rows; /* encoded attempts */
    struct queue_new *bounce;
    uint8_t *bounce_bytes;
    int invalid; /* why it cannot be recorded */
    struct progress committed;
    struct progress now; /* scratch from here on */
    bool keeps;          /* the attempts */
    bool more;           /* the transaction has no time for the rest */
    bool ends;           /* the transaction has the rest */
    bool told_before;    /* of the delay, by an earlier outcome */
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
        record->now.keeps_bounce = true;
    else
        rcpt->state = state;
    record->now.waiting += rcpt->state == QUEUE_RCPT_WAITING ? 1 : 0;
    record->now.pending += rcpt->state == QUEUE_RCPT_BOUNCE_PENDING ? 1 : 0;
}

static int keep_attempt(struct queue_edit *edit, const struct record_job *record,
                        const struct result *result, struct queue_rcpt_row *rcpt)
{
    uint32_t n = rcpt->attempts;
    if (result->attempt == NO_ATTEMPT)
        return 0;
    rcpt->attempts = plus_one(n);
    edit->rcpts_dirty = true;
    return queue_edit_attempt(edit, result->recipient, n, record->rows.p + result->attempt,
                              result->attempt_len);
}

/* A recipient of another unit, or one that has ended (an admin was faster), is left alone. */
static int apply_result(struct queue_edit *edit, struct record_job *record,
                        struct queue_unit_row *unit, struct result *result)
{
    struct queue_rcpt_row *rcpt = NULL;
    int rc = queue_edit_rcpt(edit, result->recipient, &rcpt);
    if (rc != 0 || rcpt == NULL || rcpt->unit != record->unit || !queue_rcpt_is_open(rcpt->state))
        return rc;
    result->applied = true;
    set_state(record, rcpt, result->state);
    edit->rcpts_dirty = true;
    if (!queue_rcpt_is_open(rcpt->state)) {
        unit->open -= unit->open > 0 ? 1 : 0;
        edit->head.open -= edit->head.open > 0 ? 1 : 0;
        edit->units_dirty = edit->head_dirty = true;
    }
    return record->keeps ? keep_attempt(edit, record, result, rcpt) : 0;
}

/* The message did not end after all: others of its recipients were left out of the outcome. */
static int keep_all(struct queue_edit *edit, const struct record_job *record)
{
    for (size_t i = 0; i < record->result_count; i++) {
        const struct result *result = &record->results[i];
        struct queue_rcpt_row *rcpt = NULL;
        int rc = result->applied ? queue_edit_rcpt(edit, result->recipient, &rcpt) : 0;
        if (rc == 0 && rcpt != NULL)
            rc = keep_attempt(edit, record, result, rcpt);
        if (rc != 0 || edit->damaged != NULL)
            return rc;
    }
    return 0;
}

/* As far as time goes. Attempts are not kept when the message is about to end, nor when they would
 * take the room that ends need. */
static int apply_results(struct queue_edit *edit, struct record_job *record,
                         struct queue_unit_row *unit)
{
    size_t *at = &record->now.at;
    int64_t end_ns = queue_now_ns() + STEP_NS;
    if (end_ns > edit->batch->end_ns)
        end_ns = edit->batch->end_ns;
    bool tight = queue_space_is_tight(&edit->batch->queue->space);
    bool last = record->all_end && edit->head.open <= record->result_count - *at;
    record->keeps = !last && !tight;
    for (size_t done = 0; *at < record->result_count; done++) {
        if (done > 0 && done % LOOK_EACH == 0 && *at <= record->told_from &&
            queue_now_ns() >= end_ns)
            break;
        int rc = apply_result(edit, record, unit, &record->results[*at]);
        if (rc != 0 || edit->damaged != NULL)
            return rc;
        (*at)++;
    }
    record->more = *at < record->result_count && unit->open > 0;
    return last && !tight && !record->more && edit->head.open > 0 ? keep_all(edit, record) : 0;
}

static int64_t next_time(const struct queue_edit *edit, const struct record_job *record)
{
    int64_t due = sane_due(edit->batch, record->due_unix_ms);
    int64_t soon = sane_due(edit->batch, 0) + BOUNCE_SOON_MS;
    return record->now.keeps_bounce && due > soon ? soon : due;
}

/* Every recipient is recorded: what that makes of the unit. */
static int end_unit(struct queue_edit *edit, struct record_job *record, struct queue_unit_row *unit,
                    const struct queue_unit_row *before)
{
    record->ends = true;
    if (record->count_attempt)
        unit->attempts = plus_one(unit->attempts);
    /* Is a bounce all that is left to do? An outcome covers all that waited. */
    if (record->result_count > 0)
        unit->bounces = record->now.waiting == 0 && record->now.pending == unit->open;
    record->told_before = record->warned && unit->warned;
    unit->warned = unit->warned || record->warned;
    unit->due_unix_ms = unit->open > 0 ? next_time(edit, record) : 0;
    if (record->prefix != NULL) {
        edit->head.prefix = record->prefix;
        edit->head_dirty = true;
    }
    return queue_edit_place(edit, record->unit, before, unit);
}

static int apply_unit(struct queue_edit *edit, struct record_job *record,
                      struct queue_unit_row *unit)
{
    struct queue_unit_row before = *unit;
    int rc = apply_results(edit, record, unit);
    if (rc == 0 && edit->damaged == NULL && !record->more)
        rc = end_unit(edit, record, unit, &before);
    if (rc != 0 || edit->damaged != NULL)
        return rc;
    return edit->head.open == 0 ? queue_edit_remove(edit) : queue_edit_save(edit);
}

/* Did this outcome end or change anything that the bounce tells of? If not (recorded before, or an
 * admin was faster) the bounce must not go out either. */
static bool has_effect(const struct record_job *record)
{
    size_t from = record->told_from < record->result_count ? record->told_from : 0;
    if (!record->ends || record->told_before)
        return false;
    for (size_t i = from; i < record->result_count; i++) {
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
    record->now = record->committed;
    for (size_t i = record->now.at; i < record->result_count; i++)
        record->results[i].applied = false;
    record->more = record->ends = record->told_before = false;
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
    *finished_out = job->result != 0 || !record->more;
    return rc;
}

static void step_record(struct queue *queue, struct queue_job *job, int result)
{
    struct record_job *record = (struct record_job *)job;
    (void)queue;
    if (result == 0)
        record->committed = record->now;
}

static void report_record(struct queue *queue, struct queue_job *job, int result)
{
    struct record_job *record = (struct record_job *)job;
    queue_completion_post(&queue->answers, record->completion, result);
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

static const struct queue_job_type record_type = {apply_record, step_record, report_record,
                                                  release_record, QUEUE_JOB_OUTCOME};
static const struct queue_job_type park_type = {apply_record, NULL, report_record, release_record,
                                                QUEUE_JOB_PARK};

/* ---- handing over ---- */

static bool is_told(const struct queue_outcome *outcome, enum queue_rcpt_state state)
{
    return outcome->bounce != NULL && (state == QUEUE_RCPT_FAILED || state == QUEUE_RCPT_EXPIRED);
}

/* Those that the bounce tells of, or the others. Recipients that shared an attempt share its row.
 */
static void copy_some(struct record_job *record, const struct queue_outcome *outcome, bool told)
{
    const struct queue_attempt *last = NULL;
    size_t at = NO_ATTEMPT;
    size_t len = 0;
    for (size_t i = 0; i < outcome->recipient_count; i++) {
        const struct queue_rcpt_outcome *from = &outcome->recipients[i];
        if (is_told(outcome, from->state) != told)
            continue;
        if (from->attempt != NULL && from->attempt != last) {
            at = record->rows.len;
            queue_attempt_write(&record->rows, from->attempt);
            len = record->rows.len - at;
            last = from->attempt;
        }
        record->all_end = record->all_end && !queue_rcpt_is_open((uint8_t)from->state);
        record->results[record->result_count++] = (struct result){
            .recipient = from->recipient,
            .state = (uint8_t)from->state,
            .attempt = from->attempt != NULL ? at : NO_ATTEMPT,
            .attempt_len = len,
        };
    }
}

static void copy_results(struct record_job *record, const struct queue_outcome *outcome)
{
    record->results = queue_alloc(outcome->recipient_count * sizeof *record->results);
    record->all_end = true;
    copy_some(record, outcome, false);
    record->told_from = record->result_count;
    copy_some(record, outcome, true);
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

static bool ends_any(const struct record_job *record)
{
    for (size_t i = 0; i < record->result_count; i++) {
        if (!queue_rcpt_is_open(record->results[i].state))
            return true;
    }
    return false;
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
    record->job.patient = outcome->bounce == NULL && !ends_any(record);
    queue_submit(queue, &record->job);
}

void queue_park(struct queue *queue, struct queue_port *port, uint64_t id, uint16_t unit,
                int64_t due_unix_ms, queue_done_fn on_done, void *ctx)
{
    struct record_job *record = queue_alloc(sizeof *record);
    record->job = (struct queue_job){.type = &park_type, .patient = true};
    record->id = id;
    record->unit = unit;
    record->due_unix_ms = due_unix_ms;
    if (port != NULL)
        record->completion = queue_completion_done(port, on_done, ctx);
    queue_submit(queue, &record->job);
}
