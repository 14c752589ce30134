/* queue/queue_private.h - what the files of queue/ share: the queue, its jobs, the writer's batch.
 */
#ifndef QUEUE_QUEUE_PRIVATE_H
#define QUEUE_QUEUE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "queue/bytes.h"
#include "queue/id.h"
#include "queue/maintain.h"
#include "queue/meta.h"
#include "queue/port.h"
#include "queue/queue.h"
#include "queue/space.h"
#include "queue/store.h"

struct queue_batch;
struct queue_compact;
struct queue_due_row;
struct queue_job;

enum queue_job_kind {
    QUEUE_JOB_ACCEPT,  /* the commit of a put */
    QUEUE_JOB_PUT,     /* its pieces, its abort */
    QUEUE_JOB_OUTCOME, /* of a delivery */
    QUEUE_JOB_PARK,
    QUEUE_JOB_ADMIN,
    QUEUE_JOB_OTHER, /* the queue's own */
};

/* What waits for the writer. Within a line the order is kept. */
enum queue_line { QUEUE_LINE_ACCEPT, QUEUE_LINE_OUTCOME, QUEUE_LINE_ADMIN, QUEUE_LINES };

/* What a kind of work does. All of it on the writer's thread. */
struct queue_job_type {
    /**
     * Do it in the batch's transaction, or the part of it that still fits.
     *
     * @param finished_out  false: call again in the next transaction
     * @return 0, with job->result set; or LMDB's code: the transaction is spoilt and nothing of it
     * counts. May be called again from the start after that.
     */
    int (*apply)(struct queue_batch *batch, struct queue_job *job, bool *finished_out);
    /* A transaction with a part of the work is over (result: 0 or QUEUE_ERR_*). NULL: nothing to do
     */
    void (*step)(struct queue *queue, struct queue_job *job, int result);
    /* It is decided; tell whoever waits. */
    void (*report)(struct queue *queue, struct queue_job *job, int result);
    /* Last: free it. */
    void (*release)(struct queue *queue, struct queue_job *job, int result);
    enum queue_job_kind kind;
};

struct queue_job {
    struct queue_job *next;
    const struct queue_job_type *type;
    bool urgent;  /* commit as soon as possible; else wait for company */
    bool patient; /* an outcome that ends nothing: may wait while senders come and go */
    bool grows;   /* stores new bytes: a full store refuses it, others are tried again alone */
    bool tried;  /* was in a transaction that failed */
    int result;
    int refused;      /* not 0: decided without the store */
    int64_t since_ns; /* monotonic */
};

struct queue_jobs {
    struct queue_job *head;
    struct queue_job *tail;
    size_t count;
};

void queue_jobs_push(struct queue_jobs *jobs, struct queue_job *job);
struct queue_job *queue_jobs_shift(struct queue_jobs *jobs);
void queue_jobs_append(struct queue_jobs *jobs, struct queue_jobs *more); /* empties more */
enum queue_line queue_job_line(const struct queue_job *job);

struct queue_put;

struct queue {
    struct queue_options options;
    struct queue_store store;
    struct queue_space space;
    struct queue_ids ids;
    int lock_fd;
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct queue_jobs waiting[QUEUE_LINES];
    size_t urgent;               /* among waiting */
    size_t hasty;                /* outcomes among waiting that are not patient */
    size_t awaited;              /* the writer gathers: wake it when so many accepts wait; or 0 */
    size_t expected;             /* senders: answered by the last commit, or too late for it */
    int64_t answered_ns;         /* when that was over, */
    int64_t synced_ns;           /* and how long it took to be synced */
    struct queue_put *puts_head; /* puts with pieces, not committed: oldest first */
    struct queue_put *puts_tail;
    size_t piece_bytes; /* of the pieces of these */
    int64_t taken_ns;   /* when the writer last took work: */
    bool idle;          /* it sleeps now */
    bool closing;
    struct queue_state state; /* as of the last commit */
    uint64_t commits;
    uint64_t file_bytes;
    struct queue_metrics metrics;
    struct queue_jobs resting; /* sweeps for later, and when; writer's thread */
    int64_t rested_ns;
    atomic_bool accept_waits; /* a put's commit came since the writer last looked; any thread */
    bool broken;              /* the store waits for being opened again */
    struct queue_compact *compact; /* under way, or NULL; the writer alone takes it away */
    struct queue_compact_progress compact_progress;

    struct queue_answers answers; /* not yet told; the writer's alone */
};

int64_t queue_now_ns(void); /* monotonic */
int64_t queue_wall_ms(const struct queue *queue);
void queue_notice(const struct queue *queue, bool is_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- jobs.c ---- */
/* Hand work to the writer. When the queue is closing, new bytes are refused with QUEUE_ERR_CLOSED.
 */
void queue_submit(struct queue *queue, struct queue_job *job);
void queue_submit_locked(struct queue *queue, struct queue_job *job); /* with queue->lock held */
/* With queue->lock held: wake the writer if it sleeps. */
void queue_wake(struct queue *queue);
/* Writer: sleep until there is something to do (until wake_ns; not at all if busy), take it into
 * its lines. @return false: closing, and nothing was left */
bool queue_take(struct queue *queue, struct queue_jobs lines[QUEUE_LINES], bool busy,
                int64_t wake_ns);
/* Writer, `have` jobs into a transaction that it began at since_ns: the senders whom the last commit
 * answered, if they come back at once, and those who came too late for it shall share this one,
 * instead of the first of them getting a commit of its own. Wait for some and take them.
 * @return false: all are there, no more are coming, or it is time */
bool queue_gather(struct queue *queue, struct queue_jobs *accepts, size_t have, int64_t since_ns);

/* ---- writer.c ---- */
QUEUE_MUST_USE int queue_writer_start(struct queue *queue);
void queue_writer_stop(struct queue *queue); /* commits what waits */

/* ---- metrics.c ---- */
struct queue_work { /* one transaction */
    int64_t begun_ns;
    int64_t synced_ns; /* just before the commit */
    int64_t ended_ns;
    const struct queue_job *done; /* a list */
    bool admin;                   /* an admin's step is in it */
};
/* A transaction was committed, its jobs are about to be told. @return messages accepted by it */
size_t queue_metrics_commit(struct queue *queue, const struct queue_work *work);
/* A transaction failed for this reason. */
void queue_metrics_failure(struct queue *queue, int code);
/* Jobs that were refused without a transaction. */
void queue_metrics_refused(struct queue *queue, const struct queue_job *job);

/* ---- sweep.c ---- */
/* Have what is left of a message removed in steps; any thread. One that is in the queue stays. */
void queue_sweep_submit(struct queue *queue, uint64_t id);
/* Writer's thread: have those tried again that failed a while ago. @return when to call again */
int64_t queue_sweep_wake(struct queue *queue);
/* The writer has ended. */
void queue_sweep_drop(struct queue *queue);
/* At open, before the writer starts: have all removed that an earlier run left. @return LMDB's code
 */
QUEUE_MUST_USE int queue_sweep_open(struct queue *queue);

/* ---- put.c: called by the writer ---- */
/* Under queue->lock: move the pieces that waited long enough (all, if many) into jobs. */
void queue_puts_collect(struct queue *queue, int64_t now_ns, struct queue_jobs *jobs);
/* Under queue->lock: when the oldest waiting piece must be taken; INT64_MAX: none waits. */
int64_t queue_puts_deadline(const struct queue *queue);

/* ---- damaged.c ---- */
/* From a reader: have the writer look at this message and set it aside. check_body: its bytes too.
 */
void queue_damaged_suspect(struct queue *queue, uint64_t id, bool check_body);
/* From a reader: this row of `due` leads to no message; have the writer drop it. */
void queue_damaged_stray(struct queue *queue, const struct queue_due_row *row);

#define QUEUE_WAIT_NS       INT64_C(5000000) /* how long outcomes and lone pieces wait for company */
#define QUEUE_BATCH_BODY    (UINT64_C(4) << 20)
#define QUEUE_BATCH_WORK_NS INT64_C(20000000)
/* Of it for an admin's steps: between these, so that the transaction takes as long as it should
 * with its sync, or less if it accepts mail as well. */
#define QUEUE_ADMIN_WORK_NS  INT64_C(10000000)
#define QUEUE_ADMIN_LEAST_NS INT64_C(1000000)
#define QUEUE_ADMIN_AIM_NS   INT64_C(20000000)
#define QUEUE_ADMIN_SHORT_NS INT64_C(15000000)
#define QUEUE_ADMIN_REST_NS                                                                        \
    INT64_C(1000000000) /* so long without any: what was learnt is forgotten */

#endif
