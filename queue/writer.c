/* queue/writer.c - the writer thread: gathers what waits, one transaction, one commit, then the
 * answers.
 *
 * When a transaction fails, its jobs go back to the front of the line: those that only store new
 * bytes are refused, others are tried once more without them when the store is merely full. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue/batch.h"

#define LAZY_JOBS_MAX  512 /* so many outcomes need no more company */
#define BACKOFF_MIN_NS INT64_C(1000000000)
#define BACKOFF_MAX_NS INT64_C(30000000000)
#define NOTICE_NS      INT64_C(1000000000) /* at most one line on failures in this time */

struct writer {
    struct queue *queue;
    struct queue_batch *batch;
    struct queue_jobs todo; /* taken, not yet decided; the first may be done in part */
    struct queue_jobs done; /* applied in the transaction at hand */
    int64_t noticed_ns;
    struct queue_work work; /* the transaction at hand, for the metrics */
    /* a broken store */
    int64_t reopen_ns; /* when to try again */
    int64_t backoff_ns;
    uint64_t unsure_txn;  /* the undecided transaction; 0: none */
    uint64_t *unsure_ids; /* messages it accepts, if it turns out to be committed */
    size_t unsure_count;
};

void queue_jobs_push(struct queue_jobs *jobs, struct queue_job *job)
{
    job->next = NULL;
    if (jobs->tail != NULL)
        jobs->tail->next = job;
    else
        jobs->head = job;
    jobs->tail = job;
    jobs->count++;
}

struct queue_job *queue_jobs_shift(struct queue_jobs *jobs)
{
    struct queue_job *job = jobs->head;
    if (job == NULL)
        return NULL;
    jobs->head = job->next;
    if (jobs->head == NULL)
        jobs->tail = NULL;
    jobs->count--;
    job->next = NULL;
    return job;
}

void queue_jobs_append(struct queue_jobs *jobs, struct queue_jobs *more)
{
    if (more->head == NULL)
        return;
    if (jobs->tail != NULL)
        jobs->tail->next = more->head;
    else
        jobs->head = more->head;
    jobs->tail = more->tail;
    jobs->count += more->count;
    *more = (struct queue_jobs){0};
}

void queue_wake(struct queue *queue)
{
    if (queue->idle)
        (void)pthread_cond_signal(&queue->wake);
}

void queue_submit(struct queue *queue, struct queue_job *job)
{
    job->since_ns = queue_now_ns();
    (void)pthread_mutex_lock(&queue->lock);
    if (queue->closing && job->grows)
        job->refused = QUEUE_ERR_CLOSED;
    queue_jobs_push(&queue->waiting, job);
    queue->urgent += job->urgent ? 1 : 0;
    if (job->urgent || queue->waiting.count == 1 || queue->waiting.count == LAZY_JOBS_MAX)
        queue_wake(queue);
    (void)pthread_mutex_unlock(&queue->lock);
}

/* ---- waiting ---- */

static int64_t next_deadline(const struct writer *writer)
{
    const struct queue *queue = writer->queue;
    int64_t deadline = queue_puts_deadline(queue);
    const struct queue_job *oldest = queue->waiting.head;
    if (oldest != NULL && oldest->since_ns + QUEUE_WAIT_NS < deadline)
        deadline = oldest->since_ns + QUEUE_WAIT_NS;
    if (queue->store.env == NULL && writer->reopen_ns < deadline)
        deadline = writer->reopen_ns;
    return deadline;
}

static void sleep_until(struct queue *queue, int64_t deadline_ns)
{
    queue->idle = true;
    if (deadline_ns == INT64_MAX) {
        (void)pthread_cond_wait(&queue->wake, &queue->lock);
    } else {
        struct timespec ts = {.tv_sec = deadline_ns / 1000000000,
                              .tv_nsec = deadline_ns % 1000000000};
        (void)pthread_cond_timedwait(&queue->wake, &queue->lock, &ts);
    }
    queue->idle = false;
}

/* Sleep until there is something to do and take it. @return false: closing, and nothing is left */
static bool take_work(struct writer *writer)
{
    struct queue *queue = writer->queue;
    bool go = true;
    (void)pthread_mutex_lock(&queue->lock);
    while (writer->todo.count == 0 && queue->urgent == 0 && queue->waiting.count < LAZY_JOBS_MAX) {
        if (queue->closing) {
            go = queue->waiting.count > 0;
            break;
        }
        int64_t deadline = next_deadline(writer);
        if (deadline <= queue_now_ns())
            break;
        sleep_until(queue, deadline);
    }
    if (!queue->closing)
        queue_puts_collect(queue, queue_now_ns(), &writer->todo);
    queue_jobs_append(&writer->todo, &queue->waiting);
    queue->urgent = 0;
    queue->taken_ns = queue_now_ns();
    (void)pthread_mutex_unlock(&queue->lock);
    return go || writer->todo.count > 0;
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
    }
    struct queue_job *part = committed ? writer->todo.head : NULL;
    if (part != NULL && part->type->step != NULL && part->refused == 0)
        part->type->step(queue, part, 0);
    if (committed)
        queue_batch_tell(writer->batch);
    for (struct queue_job *job = queue_jobs_shift(&writer->done); job != NULL;
         job = queue_jobs_shift(&writer->done))
        job->type->release(queue, job, job->result);
}

static void settle_refused(struct writer *writer)
{
    struct queue_jobs all = writer->todo;
    writer->todo = (struct queue_jobs){0};
    for (struct queue_job *job = queue_jobs_shift(&all); job != NULL;
         job = queue_jobs_shift(&all)) {
        if (job->refused == 0) {
            queue_jobs_push(&writer->todo, job);
            continue;
        }
        job->result = job->refused;
        queue_jobs_push(&writer->done, job);
    }
    if (writer->done.head != NULL)
        queue_metrics_refused(writer->queue, writer->done.head);
    settle_done(writer, false);
}

static void refuse_all(struct writer *writer, int code)
{
    for (struct queue_job *job = writer->todo.head; job != NULL; job = job->next)
        job->refused = job->refused != 0 ? job->refused : code;
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
    const struct queue_batch *batch = writer->batch;
    writer->unsure_txn = txn;
    writer->unsure_count = 0;
    writer->unsure_ids =
        queue_resize(writer->unsure_ids, batch->fresh_count * sizeof *writer->unsure_ids);
    for (size_t i = 0; i < batch->fresh_count; i++) {
        if (i == 0 || batch->fresh[i].id != batch->fresh[i - 1].id)
            writer->unsure_ids[writer->unsure_count++] = batch->fresh[i].id;
    }
}

/* Messages that nobody was told about turned out to be stored: they are as good as any other. */
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
    int64_t now = queue_now_ns();
    if (writer->noticed_ns != 0 && now - writer->noticed_ns < NOTICE_NS)
        return;
    writer->noticed_ns = now;
    queue_notice(writer->queue, true, "a transaction of the queue failed: %s (%s)",
                 mdb_strerror(lmdb), queue_error_text(code));
}

static void fail_job(struct queue_job *job, int code)
{
    if (code == QUEUE_ERR_FULL && !job->grows && !job->tried)
        job->tried = true;
    else
        job->refused = code;
}

/* The transaction is gone. Decide what becomes of its jobs, and put them back in line. */
static void fail(struct writer *writer, int lmdb, int code)
{
    queue_batch_abort(writer->batch);
    queue_metrics_failure(writer->queue, code);
    notice_failure(writer, lmdb, code);
    if (code == QUEUE_ERR_FULL)
        (void)queue_space_release(&writer->queue->space);
    for (struct queue_job *job = writer->done.head; job != NULL; job = job->next)
        fail_job(job, code);
    if (writer->todo.head != NULL)
        fail_job(writer->todo.head, code); /* it failed, or is done in part */
    queue_jobs_append(&writer->done, &writer->todo);
    writer->todo = writer->done;
    writer->done = (struct queue_jobs){0};
    settle_refused(writer);
}

/* Apply jobs until the transaction is large enough. @return LMDB's code */
static int apply_jobs(struct writer *writer)
{
    struct queue_batch *batch = writer->batch;
    int64_t begun_ns = writer->work.begun_ns;
    while (writer->todo.head != NULL) {
        struct queue_job *job = writer->todo.head;
        bool finished = true;
        job->result = 0;
        int rc = job->type->apply(batch, job, &finished);
        if (rc != 0 || !finished)
            return rc;
        queue_jobs_push(&writer->done, queue_jobs_shift(&writer->todo));
        if (batch->body_bytes >= QUEUE_BATCH_BODY ||
            queue_now_ns() - begun_ns >= QUEUE_BATCH_WORK_NS)
            return 0;
    }
    return 0;
}

/* What a failed step of LMDB means for those who wait. */
static int code_of(const struct writer *writer, int rc)
{
    int code = queue_store_code(rc);
    if (code == QUEUE_ERR_IO && rc == EIO && queue_space_ran_out(&writer->queue->space))
        return QUEUE_ERR_FULL;
    return code;
}

static void count_work(struct writer *writer)
{
    writer->work.ended_ns = queue_now_ns();
    writer->work.done = writer->done.head;
    writer->work.admin = writer->batch->admin;
    queue_metrics_commit(writer->queue, &writer->work);
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
    if (writer->todo.head == NULL)
        return;
    writer->work.begun_ns = queue_now_ns();
    int rc = queue_batch_begin(batch);
    if (rc == 0)
        rc = apply_jobs(writer);
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
    count_work(writer);
    settle_done(writer, true);
    queue_space_restore(&writer->queue->space);
}

static void *writer_main(void *arg)
{
    struct writer writer = {.queue = arg, .batch = queue_batch_new(arg)};
    while (take_work(&writer))
        run_batch(&writer);
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
