/* queue/metrics.c - what the writer does, in numbers. Counted on the writer's thread, once a
 * transaction. */
#include "queue/queue_private.h"

const double queue_time_bounds[QUEUE_BUCKETS] = {
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10};
const double queue_batch_bounds[QUEUE_BUCKETS] = {1,   2,   4,    8,    16,   32,   64,    128,
                                                  256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

static void observe(struct queue_histogram *histogram, const double bounds[QUEUE_BUCKETS],
                    double value)
{
    size_t at = 0;
    while (at < QUEUE_BUCKETS && value > bounds[at])
        at++;
    histogram->counts[at]++;
    histogram->count++;
    histogram->sum += value;
}

static double seconds(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e9;
}

/* @return whether it accepted a message */
static bool count_job(struct queue_metrics *metrics, const struct queue_job *job, int64_t now_ns)
{
    switch (job->type->kind) {
    case QUEUE_JOB_ACCEPT:
        metrics->refused_full += job->result == QUEUE_ERR_FULL ? 1 : 0;
        if (job->result != 0)
            return false;
        metrics->accepted++;
        observe(&metrics->accept, queue_time_bounds, seconds(job->since_ns, now_ns));
        return true;
    case QUEUE_JOB_OUTCOME:
        metrics->outcomes++;
        return false;
    case QUEUE_JOB_PARK:
        metrics->parked++;
        return false;
    case QUEUE_JOB_ADMIN:
        metrics->admin_steps++;
        return false;
    case QUEUE_JOB_PUT:
    case QUEUE_JOB_OTHER:
        return false;
    }
    return false;
}

size_t queue_metrics_commit(struct queue *queue, const struct queue_work *work)
{
    struct queue_metrics *metrics = &queue->metrics;
    double took_s = seconds(work->begun_ns, work->ended_ns);
    double jobs = 0;
    size_t accepted = 0;
    (void)pthread_mutex_lock(&queue->lock);
    for (const struct queue_job *job = work->done; job != NULL; job = job->next) {
        accepted += count_job(metrics, job, work->ended_ns) ? 1 : 0;
        jobs++;
    }
    observe(&metrics->commit, queue_time_bounds, took_s);
    observe(&metrics->sync, queue_time_bounds, seconds(work->synced_ns, work->ended_ns));
    observe(&metrics->batch, queue_batch_bounds, jobs);
    if (work->admin)
        observe(&metrics->admin, queue_time_bounds, took_s);
    (void)pthread_mutex_unlock(&queue->lock);
    return accepted;
}

void queue_metrics_failure(struct queue *queue, int code)
{
    (void)pthread_mutex_lock(&queue->lock);
    queue->metrics.failed_io += code == QUEUE_ERR_IO ? 1 : 0;
    queue->metrics.undecided += code == QUEUE_ERR_UNSURE ? 1 : 0;
    (void)pthread_mutex_unlock(&queue->lock);
}

void queue_metrics_refused(struct queue *queue, const struct queue_job *job)
{
    (void)pthread_mutex_lock(&queue->lock);
    for (; job != NULL; job = job->next) {
        bool full = job->result == QUEUE_ERR_FULL && job->type->kind == QUEUE_JOB_ACCEPT;
        queue->metrics.refused_full += full ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&queue->lock);
}

void queue_read_metrics(struct queue *queue, struct queue_metrics *metrics_out)
{
    bool full = queue_space_is_full(&queue->space, 0);
    (void)pthread_mutex_lock(&queue->lock);
    *metrics_out = queue->metrics;
    metrics_out->broken = queue->broken;
    metrics_out->busy_ms = queue->idle ? 0 : (uint64_t)(queue_now_ns() - queue->taken_ns) / 1000000;
    (void)pthread_mutex_unlock(&queue->lock);
    metrics_out->full = full;
}
