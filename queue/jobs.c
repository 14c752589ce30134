/* queue/jobs.c - lists of work, and what waits for the writer. */
#include <time.h>

#include "queue/compact.h"
#include "queue/queue_private.h"

#define LAZY_JOBS_MAX 2048 /* so many outcomes need no more company */
#define PATIENCE_NS   INT64_C(250000000)
#define GATHER_GAP_NS 150000
#define GATHER_MAX_NS INT64_C(2000000)
#define GATHER_SHARE  4  /* of the time a commit took at most one in so many is spent waiting */
#define GATHER_EACH   16 /* senders that are waited for at once */

/* ---- lists ---- */

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

enum queue_line queue_job_line(const struct queue_job *job)
{
    switch (job->type->kind) {
    case QUEUE_JOB_ACCEPT:
    case QUEUE_JOB_PUT:
        return QUEUE_LINE_ACCEPT;
    case QUEUE_JOB_OUTCOME:
    case QUEUE_JOB_PARK:
    case QUEUE_JOB_OTHER:
        return QUEUE_LINE_OUTCOME;
    case QUEUE_JOB_ADMIN:
        return QUEUE_LINE_ADMIN;
    }
    return QUEUE_LINE_OUTCOME;
}

/* ---- handing over ---- */

void queue_wake(struct queue *queue)
{
    if (queue->idle)
        (void)pthread_cond_signal(&queue->wake);
}

void queue_submit_locked(struct queue *queue, struct queue_job *job)
{
    struct queue_jobs *line = &queue->waiting[queue_job_line(job)];
    job->since_ns = queue_now_ns();
    if (queue->closing && job->grows)
        job->refused = QUEUE_ERR_CLOSED;
    queue_jobs_push(line, job);
    queue->urgent += job->urgent ? 1 : 0;
    queue->hasty += queue_job_line(job) == QUEUE_LINE_OUTCOME && !job->patient ? 1 : 0;
    if (job->type->kind == QUEUE_JOB_ACCEPT)
        atomic_store_explicit(&queue->accept_waits, true, memory_order_relaxed);
    if (job->urgent || line->count == 1 || line->count == LAZY_JOBS_MAX)
        queue_wake(queue);
    if (queue->awaited > 0 && queue->waiting[QUEUE_LINE_ACCEPT].count >= queue->awaited)
        (void)pthread_cond_signal(&queue->wake);
}

void queue_submit(struct queue *queue, struct queue_job *job)
{
    (void)pthread_mutex_lock(&queue->lock);
    queue_submit_locked(queue, job);
    (void)pthread_mutex_unlock(&queue->lock);
}

/* ---- taking: the writer's side, queue->lock held ---- */

static size_t waiting_jobs(const struct queue *queue)
{
    size_t count = 0;
    for (size_t i = 0; i < QUEUE_LINES; i++)
        count += queue->waiting[i].count;
    return count;
}

/* When what waits for company is taken without it. After a commit that answered senders they get
 * the same time to come back with their next message, which takes along what gathered meanwhile:
 * a lone sender never waits for a commit of outcomes alone. */
static int64_t company_deadline(const struct queue *queue)
{
    int64_t deadline = queue_puts_deadline(queue);
    for (size_t i = 0; i < QUEUE_LINES; i++) {
        const struct queue_job *oldest = queue->waiting[i].head;
        if (oldest == NULL)
            continue;
        int64_t since =
            oldest->since_ns > queue->answered_ns ? oldest->since_ns : queue->answered_ns;
        if (since + QUEUE_WAIT_NS < deadline)
            deadline = since + QUEUE_WAIT_NS;
    }
    return deadline;
}

static void sleep_until(struct queue *queue, int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        (void)pthread_cond_wait(&queue->wake, &queue->lock);
    } else {
        struct timespec ts = {.tv_sec = deadline_ns / 1000000000,
                              .tv_nsec = deadline_ns % 1000000000};
        (void)pthread_cond_timedwait(&queue->wake, &queue->lock, &ts);
    }
}

/* Take the accepting line; the others, and what of them is urgent, go on waiting. */
static void take_accepts(struct queue *queue, struct queue_jobs *accepts)
{
    struct queue_jobs *line = &queue->waiting[QUEUE_LINE_ACCEPT];
    for (const struct queue_job *job = line->head; job != NULL; job = job->next)
        queue->urgent -= job->urgent ? 1 : 0;
    queue_jobs_append(accepts, line);
    atomic_store_explicit(&queue->accept_waits, false, memory_order_relaxed);
}

bool queue_gather(struct queue *queue, struct queue_jobs *accepts, size_t have, int64_t since_ns)
{
    (void)pthread_mutex_lock(&queue->lock);
    const struct queue_jobs *line = &queue->waiting[QUEUE_LINE_ACCEPT];
    int64_t now = queue_now_ns();
    int64_t share = queue->synced_ns / GATHER_SHARE;
    int64_t most = share < GATHER_MAX_NS ? share : GATHER_MAX_NS;
    int64_t gap = most / 2 > GATHER_GAP_NS ? most / 2 : GATHER_GAP_NS;
    int64_t end = since_ns + most;
    bool wanted = queue->expected >= 2 && have < queue->expected && now < end &&
                  since_ns - queue->answered_ns < QUEUE_WAIT_NS && !queue->closing;
    if (wanted && line->count == 0) {
        size_t missing = queue->expected - have;
        queue->awaited = missing < GATHER_EACH ? missing : GATHER_EACH;
        sleep_until(queue, now + gap < end ? now + gap : end);
        queue->awaited = 0;
    }
    bool came = wanted && line->count > 0 && !queue->closing;
    if (came)
        take_accepts(queue, accepts);
    (void)pthread_mutex_unlock(&queue->lock);
    return came;
}

/* Units that go on waiting get rows of `due` in pages far apart, which senders would wait for; many
 * at once share more of these pages. Lost in a crash, such an outcome costs one attempt too many:
 * one that ends something would cost a second copy, so it takes all along. */
static bool may_wait(const struct queue *queue)
{
    const struct queue_jobs *outcomes = &queue->waiting[QUEUE_LINE_OUTCOME];
    return queue->hasty == 0 && outcomes->count < LAZY_JOBS_MAX && outcomes->head != NULL &&
           queue_now_ns() - outcomes->head->since_ns < PATIENCE_NS && !queue->closing;
}

bool queue_take(struct queue *queue, struct queue_jobs lines[QUEUE_LINES], bool busy,
                int64_t wake_ns)
{
    bool go = true;
    (void)pthread_mutex_lock(&queue->lock);
    while (!busy && queue->urgent == 0 && waiting_jobs(queue) < LAZY_JOBS_MAX) {
        if (queue->closing) {
            go = waiting_jobs(queue) > 0;
            break;
        }
        int64_t deadline = company_deadline(queue);
        int64_t compact = queue_compact_deadline(queue);
        int64_t now = queue_now_ns();
        if (wake_ns < deadline)
            deadline = wake_ns;
        if (deadline <= now)
            break;
        if (compact <= now) { /* what waits for company goes on waiting */
            (void)pthread_mutex_unlock(&queue->lock);
            return true;
        }
        queue->idle = true;
        sleep_until(queue, compact < deadline ? compact : deadline);
        queue->idle = false;
    }
    if (!queue->closing)
        queue_puts_collect(queue, queue_now_ns(), &lines[QUEUE_LINE_ACCEPT]);
    queue_jobs_append(&lines[QUEUE_LINE_ACCEPT], &queue->waiting[QUEUE_LINE_ACCEPT]);
    queue_jobs_append(&lines[QUEUE_LINE_ADMIN], &queue->waiting[QUEUE_LINE_ADMIN]);
    if (lines[QUEUE_LINE_ACCEPT].head == NULL || !may_wait(queue)) {
        queue_jobs_append(&lines[QUEUE_LINE_OUTCOME], &queue->waiting[QUEUE_LINE_OUTCOME]);
        queue->hasty = 0;
    }
    queue->urgent = 0;
    queue->taken_ns = queue_now_ns();
    atomic_store_explicit(&queue->accept_waits, false, memory_order_relaxed);
    (void)pthread_mutex_unlock(&queue->lock);
    return go;
}
