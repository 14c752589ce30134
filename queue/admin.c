/* queue/admin.c - an admin's steps, one message each: retry now, delete. */
#include <stdlib.h>

#include "queue/batch.h"

struct admin_job {
    struct queue_job job;
    uint64_t id;
    enum queue_verb verb;
    struct queue_completion *completion;
};

static int retry_unit(struct queue_edit *edit, uint32_t number, struct queue_unit_row *unit)
{
    if (unit->open == 0 || unit->held || unit->due_unix_ms == 0)
        return 0;
    int64_t now = edit->batch->wall_ms > 0 ? edit->batch->wall_ms : 1;
    struct queue_due_move move = {.domain = unit->domain,
                                  .id = edit->id,
                                  .unit = (uint16_t)number,
                                  .from = unit->due_unix_ms,
                                  .to = now,
                                  .deferred = unit->attempts > 0};
    unit->due_unix_ms = now;
    edit->units_dirty = true;
    return queue_due_apply(edit->batch, &move);
}

static int delete_unit(struct queue_edit *edit, uint32_t number, struct queue_unit_row *unit)
{
    if (unit->open == 0)
        return 0;
    queue_edit_count(edit, unit, -1);
    struct queue_due_move move = {.domain = unit->domain,
                                  .id = edit->id,
                                  .unit = (uint16_t)number,
                                  .from = unit->held ? 0 : unit->due_unix_ms};
    return queue_due_apply(edit->batch, &move);
}

static int look_at_unit(struct queue_edit *edit, uint32_t number, struct queue_unit_row *unit)
{
    (void)edit;
    (void)number;
    (void)unit;
    return 0;
}

typedef int (*unit_fn)(struct queue_edit *edit, uint32_t number, struct queue_unit_row *unit);

static int each_unit(struct queue_edit *edit, unit_fn fn)
{
    for (uint32_t i = 0; i < edit->head.unit_count; i++) {
        struct queue_unit_row *unit = NULL;
        int rc = queue_edit_unit(edit, i, &unit);
        if (rc != 0 || unit == NULL)
            return rc;
        rc = fn(edit, i, unit);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* A long list is read through first: a damaged row then shows before anything has changed. */
static int change_units(struct queue_edit *edit, enum queue_verb verb)
{
    int rc = queue_head_is_whole(&edit->head) ? 0 : each_unit(edit, look_at_unit);
    if (rc != 0 || edit->damaged != NULL)
        return rc;
    return each_unit(edit, verb == QUEUE_VERB_RETRY ? retry_unit : delete_unit);
}

static int apply_admin(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct admin_job *admin = (struct admin_job *)job;
    struct queue_edit *edit = batch->edit;
    bool found = false;
    (void)finished_out;
    int rc = queue_edit_open(edit, batch, admin->id, &found);
    if (rc == 0 && found)
        rc = change_units(edit, admin->verb);
    if (rc == 0 && found && edit->damaged == NULL)
        rc = admin->verb == QUEUE_VERB_RETRY ? queue_edit_save(edit) : queue_edit_remove(edit);
    /* What is set aside (just now, or before) can be deleted as well. */
    if (rc == 0 && (!found || edit->damaged != NULL) && admin->verb == QUEUE_VERB_DELETE)
        rc = queue_damaged_delete(batch, admin->id, &found);
    else if (edit->damaged != NULL)
        job->result = QUEUE_ERR_DAMAGED;
    if (rc == 0 && found && admin->verb == QUEUE_VERB_DELETE)
        queue_batch_note_removed(batch, admin->id);
    if (rc == 0 && !found && job->result == 0)
        job->result = 1;
    return rc;
}

static void report_admin(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    queue_completion_post(((struct admin_job *)job)->completion, result);
}

static void release_admin(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)result;
    free(job);
}

static const struct queue_job_type admin_type = {apply_admin, NULL, report_admin, release_admin};

void queue_admin(struct queue *queue, struct queue_port *port, uint64_t id, enum queue_verb verb,
                 queue_done_fn on_done, void *ctx)
{
    struct admin_job *admin = queue_alloc(sizeof *admin);
    admin->job = (struct queue_job){.type = &admin_type, .urgent = true};
    admin->id = id;
    admin->verb = verb;
    admin->completion = queue_completion_done(port, on_done, ctx);
    queue_submit(queue, &admin->job);
}
