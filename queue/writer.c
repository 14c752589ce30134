/* queue/writer.c - the writer thread: takes what waits, one transaction, one commit, then the
 * answers.
 *
 * When a transaction fails, its jobs go back to the front of their lines: those that only store new
 * bytes are refused, others are tried once more without them when the store is merely full. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/compact.h"

#define BACKOFF_MIN_NS INT64_C(1000000000)
#define BACKOFF_MAX_NS INT64_C(30000000000)
#define ANSWERS_MAX    128                 /* so many are told before the others are made ready */
#define NOTICE_NS      INT64_C(1000000000) /* at most one line on failures in this time */

struct writer {
    struct queue *queue;
    struct queue_batch *batch;
    struct queue_jobs todo[QUEUE_LINES]; /* taken, not yet decided */
    bool partly[QUEUE_LINES];  /* the first of the line is done in part in the transaction */
    struct queue_jobs done;    /* applied in the transaction at hand */
    struct queue_job *spoiler; /* the job that made the transaction fail */
    bool spare;                /* room is short: the next transaction accepts nothing */
    int64_t soft_end_ns;       /* from here on a waiting sender ends it */
    int64_t admin_ns;          /* of it for an admin's steps */
    int64_t paced_ns;          /* when these were last in one */
    int64_t noticed_ns;
    int64_t reopened_ns;    /* when that was last told */
    struct queue_work work; /* the transaction at hand, for the metrics */
    /* a broken store */
    int64_t reopen_ns; /* when to try again */
    int64_t backoff_ns;
    uint64_t unsure_txn;  /* the undecided transaction; 0: none */
    uint64_t *unsure_ids; /* messages it accepts, if it turns out to be committed */
    size_t unsure_count;
};

static bool has_work(const struct writer *writer)
{
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        if (writer->todo[i].head != NULL)
            return true;
    }
    return false;
}

/* ---- deciding ---- */

/* Answer everything in `done`, in order. committed: in a transaction, whose news are told in
 * between. */
static void settle_done(struct writer *writer, bool committed)
{
    struct queue *queue = writer->queue;
    for (struct queue_job *job = writer->done.head; job != NULL; job = job->next) {
        if (job->type->step != NULL)
            job->type->step(queue, job, job->result);
        job->type->report(queue, job, job->result);
        if (queue->answers.count >= ANSWERS_MAX)
            queue_answers_tell(&queue->answers);
    }
    queue_answers_tell(&queue->answers);
    for (size_t i = 0; committed && i < QUEUE_LINES; i++) {
        struct queue_job *part = writer->partly[i] ? writer->todo[i].head : NULL;
        if (part != NULL && part->type->step != NULL)
            part->type->step(queue, part, 0);
    }
    if (committed)
        queue_batch_tell(writer->batch);
    for (struct queue_job *job = queue_jobs_shift(&writer->done); job != NULL;
         job = queue_jobs_shift(&writer->done))
        job->type->release(queue, job, job->result);
}

static void settle_refused(struct writer *writer)
{
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        struct queue_jobs all = writer->todo[i];
        writer->todo[i] = (struct queue_jobs){0};
        for (struct queue_job *job = queue_jobs_shift(&all); job != NULL;
             job = queue_jobs_shift(&all)) {
            if (job->refused != 0)
                job->result = job->refused;
            queue_jobs_push(job->refused != 0 ? &writer->done : &writer->todo[i], job);
        }
    }
    if (writer->done.head != NULL)
        queue_metrics_refused(writer->queue, writer->done.head);
    settle_done(writer, false);
}

static void refuse_all(struct writer *writer, int code)
{
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        for (struct queue_job *job = writer->todo[i].head; job != NULL; job = job->next)
            job->refused = job->refused != 0 ? job->refused : code;
    }
    settle_refused(writer);
}

/* ---- a store whose last commit is undecided ---- */

static void reload_state(struct queue *queue)
{
    MDB_txn *txn = NULL;
    struct queue_state state;
    if (queue_store_read(&queue->store, &txn) != 0)
        return;
    if (queue_meta_read(&queue->store, txn, &state) == 0) {
        (void)pthread_mutex_lock(&queue->lock);
        queue->state = state;
        (void)pthread_mutex_unlock(&queue->lock);
    }
    queue_space_set_used(&queue->space, queue_store_used(&queue->store, txn));
    queue_store_read_end(&queue->store, txn);
}

static void remember_unsure(struct writer *writer, uint64_t txn)
{
    struct queue_batch *batch = writer->batch;
    writer->unsure_txn = txn;
    writer->unsure_count = 0;
    writer->unsure_ids =
        queue_resize(writer->unsure_ids, batch->fresh_count * sizeof *writer->unsure_ids);
    for (size_t i = 0; i < batch->fresh_count; i++) {
        if (i == 0 || batch->fresh[i].id != batch->fresh[i - 1].id)
            writer->unsure_ids[writer->unsure_count++] = batch->fresh[i].id;
    }
    batch->fresh_count = 0; /* they point into jobs; the other news keep until a batch begins */
}

/* What nobody was told about turned out to be stored: it is as good as anything else. */
static void announce_unsure(struct writer *writer)
{
    struct queue *queue = writer->queue;
    for (size_t i = 0; i < writer->unsure_count; i++) {
        struct queue_message *message = NULL;
        if (queue_read_message(queue, writer->unsure_ids[i], &message) != 0)
            continue;
        const struct queue_envelope *envelope = queue_message_envelope(message);
        for (size_t u = 0; u < envelope->unit_count; u++) {
            struct queue_unit_ref ref = {.id = writer->unsure_ids[i],
                                         .unit = (uint16_t)u,
                                         .accepted_unix_ms = envelope->accepted_unix_ms,
                                         .domain = envelope->units[u].domain};
            queue->options.on_fresh(&ref, 1, queue->options.ctx);
        }
        queue_message_free(&message);
    }
    queue_batch_tell(writer->batch);
}

static void set_broken(struct queue *queue, bool broken)
{
    (void)pthread_mutex_lock(&queue->lock);
    queue->broken = broken;
    (void)pthread_mutex_unlock(&queue->lock);
}

static void set_backoff(struct writer *writer)
{
    set_broken(writer->queue, true);
    int64_t next = writer->backoff_ns * 2;
    writer->backoff_ns = next < BACKOFF_MIN_NS ? BACKOFF_MIN_NS : next;
    if (writer->backoff_ns > BACKOFF_MAX_NS)
        writer->backoff_ns = BACKOFF_MAX_NS;
    writer->reopen_ns = queue_now_ns() + writer->backoff_ns;
    queue_notice(writer->queue, true,
                 "the store cannot be opened again after a failed commit; tried again in %lld s",
                 (long long)(writer->backoff_ns / 1000000000));
}

/* So that a failing disk is told of once in a while, not at each transaction. */
static bool is_news(int64_t *told_ns)
{
    int64_t now = queue_now_ns();
    if (*told_ns != 0 && now - *told_ns < NOTICE_NS)
        return false;
    *told_ns = now;
    return true;
}

/* @return the fate of transaction txn: 0 committed, QUEUE_ERR_IO not, QUEUE_ERR_UNSURE cannot be
 * told */
static int settle_undecided(struct writer *writer, uint64_t txn)
{
    struct queue *queue = writer->queue;
    uint64_t last = 0;
    if (queue_store_reopen(&queue->store, &last) != 0) {
        remember_unsure(writer, txn);
        set_backoff(writer);
        return QUEUE_ERR_UNSURE;
    }
    reload_state(queue);
    if (is_news(&writer->reopened_ns))
        queue_notice(queue, true, "the store was opened again after a failed commit: it was %s",
                     last >= txn ? "stored" : "not stored");
    return last >= txn ? 0 : QUEUE_ERR_IO;
}

/* A broken store: try to open it when it is time. @return whether it works */
static bool mend(struct writer *writer)
{
    struct queue *queue = writer->queue;
    uint64_t last = 0;
    if (queue->store.env != NULL)
        return true;
    if (queue_now_ns() < writer->reopen_ns)
        return false;
    if (queue_store_reopen(&queue->store, &last) != 0) {
        set_backoff(writer);
        return false;
    }
    reload_state(queue);
    set_broken(queue, false);
    queue_notice(queue, true, "the store works again");
    if (writer->unsure_txn != 0 && last >= writer->unsure_txn)
        announce_unsure(writer);
    writer->unsure_txn = 0;
    writer->backoff_ns = 0;
    return true;
}

/* ---- one transaction ---- */

static void notice_failure(struct writer *writer, int lmdb, int code)
{
    if (!is_news(&writer->noticed_ns))
        return;
    queue_notice(writer->queue, true, "a transaction of the queue failed: %s (%s)",
                 mdb_strerror(lmdb), queue_error_text(code));
}

static void fail_job(struct writer *writer, struct queue_job *job, int code)
{
    if (code != QUEUE_ERR_FULL || job->grows || job->tried) {
        job->refused = code;
        return;
    }
    job->tried = true;
    writer->spare = true;
}

/* The transaction is gone. Decide what becomes of its jobs, and put them back in their lines. */
static void fail(struct writer *writer, int lmdb, int code)
{
    struct queue_jobs back[QUEUE_LINES] = {{0}};
    queue_batch_abort(writer->batch);
    queue_metrics_failure(writer->queue, code);
    notice_failure(writer, lmdb, code);
    if (code == QUEUE_ERR_FULL)
        (void)queue_space_release(&writer->queue->space);
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        struct queue_job *first = writer->todo[i].head;
        if (first != NULL && (writer->partly[i] || first == writer->spoiler))
            fail_job(writer, first, code);
    }
    for (struct queue_job *job = queue_jobs_shift(&writer->done); job != NULL;
         job = queue_jobs_shift(&writer->done)) {
        fail_job(writer, job, code);
        queue_jobs_push(&back[queue_job_line(job)], job);
    }
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        queue_jobs_append(&back[i], &writer->todo[i]);
        writer->todo[i] = back[i];
    }
    settle_refused(writer);
}

static bool is_time(const struct writer *writer, int64_t end_ns)
{
    int64_t now = queue_now_ns();
    return now >= end_ns ||
           (now >= writer->soft_end_ns &&
            atomic_load_explicit(&writer->queue->accept_waits, memory_order_relaxed));
}

/* Apply jobs of one line until the time, at least one. Bounces have some room of their own, so that
 * large messages do not keep outcomes out. @return LMDB's code */
static int apply_line(struct writer *writer, enum queue_line line, int64_t end_ns)
{
    struct queue_batch *batch = writer->batch;
    struct queue_jobs *todo = &writer->todo[line];
    uint64_t most = line == QUEUE_LINE_ACCEPT ? QUEUE_BATCH_BODY : QUEUE_BATCH_BODY * 3 / 2;
    batch->end_ns = end_ns;
    while (todo->head != NULL && !writer->partly[line] && batch->body_bytes < most) {
        struct queue_job *job = todo->head;
        bool finished = true;
        job->result = 0;
        int rc = job->type->apply(batch, job, &finished);
        if (rc != 0) {
            writer->spoiler = job;
            return rc;
        }
        writer->partly[line] = !finished;
        if (finished)
            queue_jobs_push(&writer->done, queue_jobs_shift(todo));
        if (is_time(writer, end_ns))
            break;
    }
    return 0;
}

/* ---- who gets how much of a transaction ---- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Outcomes and admin's steps. While both wait they share alike, and both keep to the time that an
 * admin's steps may take. */
static int apply_others(struct writer *writer, int64_t end_ns)
{
    const struct queue_jobs *admin = &writer->todo[QUEUE_LINE_ADMIN];
    int64_t now = queue_now_ns();
    if (admin->head == NULL)
        return apply_line(writer, QUEUE_LINE_OUTCOME, end_ns);
    if (now - writer->paced_ns > QUEUE_ADMIN_REST_NS)
        writer->admin_ns = QUEUE_ADMIN_LEAST_NS;
    int64_t share_ns = sooner((end_ns - now) / 2, writer->admin_ns);
    int rc = apply_line(writer, QUEUE_LINE_OUTCOME, now + share_ns);
    if (rc != 0)
        return rc;
    rc = apply_line(writer, QUEUE_LINE_ADMIN, sooner(end_ns, queue_now_ns() + writer->admin_ns));
    if (rc == 0 && admin->head == NULL && !is_time(writer, end_ns))
        rc = apply_line(writer, QUEUE_LINE_OUTCOME, end_ns);
    return rc;
}

/* What is there, and what comes while that is applied: so the senders prepare their next messages
 * at the same time. */
static int apply_accepts(struct writer *writer, int64_t end_ns)
{
    struct queue_jobs *todo = &writer->todo[QUEUE_LINE_ACCEPT];
    int rc = apply_line(writer, QUEUE_LINE_ACCEPT, end_ns);
    while (rc == 0 && todo->head == NULL && queue_now_ns() < end_ns &&
           writer->batch->body_bytes < QUEUE_BATCH_BODY &&
           queue_gather(writer->queue, todo, writer->done.count, writer->work.begun_ns))
        rc = apply_line(writer, QUEUE_LINE_ACCEPT, end_ns);
    return rc;
}

/* Fill the transaction. Senders wait for its commit, so the others get a third of its time and no
 * more when there are any; alone they get all of it, but stop for a sender who comes meanwhile.
 * @return LMDB's code */
static int apply_jobs(struct writer *writer)
{
    const struct queue_jobs *todo = writer->todo;
    int64_t third = QUEUE_BATCH_WORK_NS / 3;
    int64_t begun = writer->work.begun_ns;
    bool accepts = todo[QUEUE_LINE_ACCEPT].head != NULL && !writer->spare;
    bool others = todo[QUEUE_LINE_OUTCOME].head != NULL || todo[QUEUE_LINE_ADMIN].head != NULL;
    int rc = 0;
    writer->soft_end_ns = accepts ? INT64_MAX : begun + third;
    if (accepts)
        rc = apply_accepts(writer, begun + (others ? 2 : 3) * third);
    int64_t now = queue_now_ns();
    if (rc == 0 && others)
        rc = apply_others(writer, accepts ? now + third : begun + 3 * third);
    if (rc == 0 && accepts && others && queue_now_ns() < begun + 3 * third)
        rc = apply_line(writer, QUEUE_LINE_ACCEPT, begun + 3 * third);
    return rc;
}

/* What a failed step of LMDB means for those who wait. */
static int code_of(const struct writer *writer, int rc)
{
    int code = queue_store_code(rc);
    if (code == QUEUE_ERR_IO && rc == EIO && queue_space_ran_out(&writer->queue->space))
        return QUEUE_ERR_FULL;
    return code;
}

/* The transaction is committed: numbers for the metrics, and for who comes next. @return messages
 * that it accepted */
static size_t count_work(struct writer *writer)
{
    struct queue *queue = writer->queue;
    struct queue_work *work = &writer->work;
    work->ended_ns = queue_now_ns();
    work->done = writer->done.head;
    work->admin = writer->batch->admin;
    size_t accepted = queue_metrics_commit(queue, work);
    (void)pthread_mutex_lock(&queue->lock);
    if (accepted > 0) {
        queue->expected = accepted + queue->waiting[QUEUE_LINE_ACCEPT].count;
        queue->answered_ns = work->ended_ns;
        queue->synced_ns = work->ended_ns - work->synced_ns;
    }
    (void)pthread_mutex_unlock(&queue->lock);
    return accepted;
}

/* An admin's steps go over the whole queue, so each dirties pages of its own: what they cost shows
 * in the sync. Their share of a transaction follows the time that it takes in all; it begins small,
 * since another verb may cost more than the last one. */
static void pace_admin(struct writer *writer, bool accepted)
{
    int64_t took_ns = writer->work.ended_ns - writer->work.begun_ns;
    int64_t aim_ns = accepted ? QUEUE_ADMIN_SHORT_NS : QUEUE_ADMIN_AIM_NS;
    int64_t share_ns = writer->admin_ns;
    if (!writer->work.admin)
        return;
    if (took_ns > aim_ns)
        share_ns = sooner(share_ns - share_ns / 4, share_ns * aim_ns / took_ns);
    else if (writer->todo[QUEUE_LINE_ADMIN].head != NULL) /* it was too small */
        share_ns += share_ns / 16;
    writer->paced_ns = writer->work.ended_ns;
    writer->admin_ns = share_ns < QUEUE_ADMIN_LEAST_NS  ? QUEUE_ADMIN_LEAST_NS
                       : share_ns > QUEUE_ADMIN_WORK_NS ? QUEUE_ADMIN_WORK_NS
                                                        : share_ns;
}

static void begin_work(struct writer *writer)
{
    memset(writer->partly, 0, sizeof writer->partly);
    writer->spoiler = NULL;
    writer->work.begun_ns = queue_now_ns();
}

static void run_batch(struct writer *writer)
{
    struct queue_batch *batch = writer->batch;
    uint64_t txn = 0;
    if (!mend(writer)) {
        refuse_all(writer, QUEUE_ERR_IO);
        return;
    }
    settle_refused(writer);
    if (!has_work(writer))
        return;
    begin_work(writer);
    int rc = queue_batch_begin(batch);
    if (rc == 0)
        rc = apply_jobs(writer);
    writer->spare = false;
    writer->work.synced_ns = queue_now_ns();
    if (rc != 0) {
        fail(writer, rc, code_of(writer, rc));
        return;
    }
    rc = queue_batch_commit(batch, &txn);
    if (rc != 0) {
        int code = code_of(writer, rc);
        if (queue_store_is_undecided(&writer->queue->store))
            code = settle_undecided(writer, txn);
        if (code != 0) {
            fail(writer, rc, code);
            return;
        }
    }
    pace_admin(writer, count_work(writer) > 0);
    settle_done(writer, true);
}

static void *writer_main(void *arg)
{
    struct writer writer = {
        .queue = arg, .batch = queue_batch_new(arg), .admin_ns = QUEUE_ADMIN_LEAST_NS};
    for (;;) {
        int64_t wake_ns =
            sooner(queue_sweep_wake(writer.queue), queue_space_wake_ns(&writer.queue->space));
        if (writer.queue->store.env == NULL)
            wake_ns = sooner(wake_ns, writer.reopen_ns);
        bool busy = has_work(&writer);
        if (!queue_take(writer.queue, writer.todo, busy, wake_ns) && !busy)
            break;
        run_batch(&writer);
        queue_space_restore(&writer.queue->space);
        queue_compact_step(writer.queue);
        queue_answers_tell(&writer.queue->answers);
    }
    queue_batch_free(&writer.batch);
    free(writer.unsure_ids);
    return NULL;
}

int queue_writer_start(struct queue *queue)
{
    queue->taken_ns = queue_now_ns();
    queue->running = pthread_create(&queue->thread, NULL, writer_main, queue) == 0;
    return queue->running ? 0 : QUEUE_ERR_IO;
}

void queue_writer_stop(struct queue *queue)
{
    if (!queue->running)
        return;
    (void)pthread_mutex_lock(&queue->lock);
    queue->closing = true;
    (void)pthread_cond_signal(&queue->wake);
    (void)pthread_mutex_unlock(&queue->lock);
    (void)pthread_join(queue->thread, NULL);
    queue->running = false;
}
