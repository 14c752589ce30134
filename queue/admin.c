/* queue/admin.c - an admin's steps, units of one message each: retry, delete, hold, release,
 * bounce.
 *
 * A long list is changed over several transactions, as far as each has time; whatever stands
 * after one of them is consistent by itself. What a transaction did counts only once it is
 * committed: its progress is kept apart until then. */
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"

/* A long list is read through first: a damaged row then shows before anything has changed. */
enum phase { PHASE_LOOK_UNITS, PHASE_LOOK_RCPTS, PHASE_RCPTS, PHASE_UNITS, PHASE_END };

struct progress {
    enum phase phase;
    uint32_t at; /* the next unit or recipient */
    bool changed;
};

struct admin_job {
    struct queue_job job;
    uint64_t id;
    enum queue_verb verb;
    uint16_t *units; /* ascending; NULL: all */
    size_t unit_count;
    struct queue_bytes attempt; /* encoded */
    uint8_t *marked;            /* a bit a unit: a recipient of it was changed by BOUNCE */
    struct progress committed;
    struct progress now;
    struct queue_completion *completion;
};

/* ---- which units ---- */

static int compare_units(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static bool is_chosen(const struct admin_job *admin, uint32_t unit)
{
    uint16_t number = (uint16_t)unit;
    return admin->units == NULL || bsearch(&number, admin->units, admin->unit_count,
                                           sizeof *admin->units, compare_units) != NULL;
}

static void mark(struct admin_job *admin, const struct queue_edit *edit, uint32_t unit)
{
    if (admin->marked == NULL)
        admin->marked = queue_alloc(edit->head.unit_count / 8 + 1);
    admin->marked[unit / 8] |= (uint8_t)(1U << unit % 8);
}

static bool is_marked(const struct admin_job *admin, uint32_t unit)
{
    return admin->marked != NULL && (admin->marked[unit / 8] & 1U << unit % 8) != 0;
}

/* ---- one unit, one recipient ---- */

static int64_t now_ms(const struct queue_edit *edit)
{
    return edit->batch->wall_ms > 0 ? edit->batch->wall_ms : 1;
}

static uint32_t plus_one(uint32_t n)
{
    return n < UINT32_MAX ? n + 1 : n;
}

/* What is due already keeps its place in line. @return true: the scheduler is told all the same */
static bool set_due_now(const struct queue_edit *edit, struct queue_unit_row *unit)
{
    if (unit->due_unix_ms == 0 || unit->due_unix_ms > now_ms(edit))
        unit->due_unix_ms = now_ms(edit);
    return true;
}

static bool change_unit(const struct admin_job *admin, const struct queue_edit *edit,
                        uint32_t number, struct queue_unit_row *unit)
{
    switch (admin->verb) {
    case QUEUE_VERB_RETRY:
        return !unit->held && unit->due_unix_ms != 0 && set_due_now(edit, unit);
    case QUEUE_VERB_HOLD:
        if (unit->held)
            return false;
        unit->held = true;
        if (unit->due_unix_ms == 0)
            unit->due_unix_ms = now_ms(edit);
        return true;
    case QUEUE_VERB_RELEASE:
        if (!unit->held)
            return false;
        unit->held = false;
        return set_due_now(edit, unit);
    case QUEUE_VERB_BOUNCE:
        unit->held = false;
        unit->bounces = true;
        if (is_marked(admin, number))
            unit->attempts = plus_one(unit->attempts);
        return set_due_now(edit, unit);
    case QUEUE_VERB_DELETE:
        return false; /* ended with its last recipient */
    }
    return false;
}

static int visit_unit(struct admin_job *admin, struct queue_edit *edit, uint32_t number)
{
    struct queue_unit_row *unit = NULL;
    int rc = queue_edit_unit(edit, number, &unit);
    if (rc != 0 || unit == NULL || admin->now.phase == PHASE_LOOK_UNITS || unit->open == 0 ||
        !is_chosen(admin, number))
        return rc;
    struct queue_unit_row before = *unit;
    if (!change_unit(admin, edit, number, unit))
        return 0;
    admin->now.changed = true;
    return queue_edit_place(edit, number, &before, unit);
}

static int delete_rcpt(struct queue_edit *edit, struct queue_rcpt_row *rcpt)
{
    struct queue_unit_row *unit = NULL;
    int rc = queue_edit_unit(edit, rcpt->unit, &unit);
    if (rc != 0 || unit == NULL)
        return rc;
    struct queue_unit_row before = *unit;
    rcpt->state = QUEUE_RCPT_REMOVED;
    unit->open -= unit->open > 0 ? 1 : 0;
    edit->head.open -= edit->head.open > 0 ? 1 : 0;
    edit->rcpts_dirty = edit->units_dirty = edit->head_dirty = true;
    return unit->open == 0 ? queue_edit_place(edit, rcpt->unit, &before, unit) : 0;
}

static int bounce_rcpt(struct admin_job *admin, struct queue_edit *edit, uint32_t number,
                       struct queue_rcpt_row *rcpt)
{
    uint32_t n = rcpt->attempts;
    if (rcpt->state != QUEUE_RCPT_WAITING)
        return 0;
    rcpt->state = QUEUE_RCPT_BOUNCE_PENDING;
    mark(admin, edit, rcpt->unit);
    edit->rcpts_dirty = true;
    if (admin->attempt.len == 0 || queue_space_is_tight(&edit->batch->queue->space))
        return 0;
    rcpt->attempts = plus_one(n);
    return queue_edit_attempt(edit, number, n, admin->attempt.p, admin->attempt.len);
}

static int visit_rcpt(struct admin_job *admin, struct queue_edit *edit, uint32_t number)
{
    struct queue_rcpt_row *rcpt = NULL;
    int rc = queue_edit_rcpt(edit, number, &rcpt);
    if (rc != 0 || rcpt == NULL || admin->now.phase == PHASE_LOOK_RCPTS ||
        !queue_rcpt_is_open(rcpt->state) || !is_chosen(admin, rcpt->unit))
        return rc;
    if (admin->verb == QUEUE_VERB_BOUNCE)
        return bounce_rcpt(admin, edit, number, rcpt);
    admin->now.changed = true;
    return delete_rcpt(edit, rcpt);
}

/* ---- going through a message ---- */

typedef int (*visit_fn)(struct admin_job *admin, struct queue_edit *edit, uint32_t number);

/* From progress.at to the end of the list, or of the time. @return LMDB's code */
static int visit_all(struct admin_job *admin, struct queue_edit *edit, visit_fn visit,
                     uint32_t count, int64_t end_ns)
{
    struct progress *now = &admin->now;
    while (now->at < count) {
        int rc = visit(admin, edit, now->at);
        if (rc != 0 || edit->damaged != NULL)
            return rc;
        now->at++;
        if (now->at % QUEUE_ROW_ITEMS == 0 && queue_now_ns() >= end_ns)
            break;
    }
    if (now->at < count)
        return 0;
    now->at = 0;
    now->phase++;
    return 0;
}

static bool touches_rcpts(enum queue_verb verb)
{
    return verb == QUEUE_VERB_DELETE || verb == QUEUE_VERB_BOUNCE;
}

/* One phase, as far as time goes; phases that are not for this verb are passed over. */
static int run_phase(struct admin_job *admin, struct queue_edit *edit, int64_t end_ns)
{
    struct progress *now = &admin->now;
    bool whole = queue_head_is_whole(&edit->head);
    bool rcpts = touches_rcpts(admin->verb);
    bool wanted = now->phase == PHASE_LOOK_UNITS   ? !whole
                  : now->phase == PHASE_LOOK_RCPTS ? !whole && rcpts
                  : now->phase == PHASE_RCPTS      ? rcpts
                                                   : admin->verb != QUEUE_VERB_DELETE;
    if (!wanted) {
        now->phase++;
        return 0;
    }
    bool of_units = now->phase == PHASE_LOOK_UNITS || now->phase == PHASE_UNITS;
    return visit_all(admin, edit, of_units ? visit_unit : visit_rcpt,
                     of_units ? edit->head.unit_count : edit->head.recipient_count, end_ns);
}

static int change_message(struct admin_job *admin, struct queue_edit *edit)
{
    int64_t end_ns = edit->batch->end_ns;
    do {
        int rc = run_phase(admin, edit, end_ns);
        if (rc != 0 || edit->damaged != NULL)
            return rc;
    } while (admin->now.phase != PHASE_END && queue_now_ns() < end_ns);
    return edit->head.open == 0 ? queue_edit_remove(edit) : queue_edit_save(edit);
}

/* The record was set aside, just now or before: it can only be deleted, and only as a whole. */
static int apply_damaged(struct admin_job *admin, struct queue_batch *batch)
{
    bool found = false;
    int rc = 0;
    if (admin->verb == QUEUE_VERB_DELETE && admin->units == NULL)
        rc = queue_damaged_delete(batch, admin->id, &found);
    else if (batch->edit->damaged != NULL)
        admin->job.result = QUEUE_ERR_DAMAGED;
    admin->now.changed = admin->now.changed || found;
    return rc;
}

/* What waits for delivery in memory is to wait no longer. */
static bool ends_waiting(enum queue_verb verb)
{
    return verb == QUEUE_VERB_DELETE || verb == QUEUE_VERB_HOLD || verb == QUEUE_VERB_BOUNCE;
}

static int apply_admin(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct admin_job *admin = (struct admin_job *)job;
    struct queue_edit *edit = batch->edit;
    bool found = false;
    admin->now = admin->committed;
    batch->admin = true;
    int rc = queue_edit_open(edit, batch, admin->id, &found);
    if (rc == 0 && found)
        rc = change_message(admin, edit);
    if (rc != 0)
        return rc;
    bool there = found && edit->damaged == NULL;
    if (there && admin->now.phase != PHASE_END && edit->head.open > 0) {
        *finished_out = false;
        return 0;
    }
    if (!there)
        rc = apply_damaged(admin, batch);
    if (rc == 0 && admin->now.changed && ends_waiting(admin->verb))
        queue_batch_note_removed(batch, admin->id);
    if (rc == 0 && job->result == 0 && !admin->now.changed)
        job->result = 1;
    return rc;
}

/* A transaction with a part of the work is over. */
static void step_admin(struct queue *queue, struct queue_job *job, int result)
{
    struct admin_job *admin = (struct admin_job *)job;
    (void)queue;
    if (result == 0)
        admin->committed = admin->now;
}

static void report_admin(struct queue *queue, struct queue_job *job, int result)
{
    queue_completion_post(&queue->answers, ((struct admin_job *)job)->completion, result);
}

static void release_admin(struct queue *queue, struct queue_job *job, int result)
{
    struct admin_job *admin = (struct admin_job *)job;
    (void)queue;
    (void)result;
    queue_bytes_deinit(&admin->attempt);
    free(admin->marked);
    free(admin->units);
    free(admin);
}

static const struct queue_job_type admin_type = {apply_admin, step_admin, report_admin,
                                                 release_admin, QUEUE_JOB_ADMIN};

/* NOLINTNEXTLINE(readability-function-size): the parameters are queue.h's */
void queue_admin(struct queue *queue, struct queue_port *port, enum queue_verb verb, uint64_t id,
                 const uint16_t *units, size_t unit_count, const struct queue_attempt *attempt,
                 queue_done_fn on_done, void *ctx)
{
    struct admin_job *admin = queue_alloc(sizeof *admin);
    admin->job = (struct queue_job){.type = &admin_type, .urgent = true};
    admin->id = id;
    admin->verb = verb;
    if (unit_count > 0) {
        admin->units = queue_alloc(unit_count * sizeof *units);
        memcpy(admin->units, units, unit_count * sizeof *units);
        admin->unit_count = unit_count;
    }
    if (verb == QUEUE_VERB_BOUNCE && attempt != NULL)
        queue_attempt_write(&admin->attempt, attempt);
    admin->completion = queue_completion_done(port, on_done, ctx);
    queue_submit(queue, &admin->job);
}
