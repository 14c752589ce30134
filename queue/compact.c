/* queue/compact.c - holes in the file where LMDB keeps pages that are free.
 *
 * LMDB never gives space back: a page that is free stays in its file for later. A hole is a page of
 * zeros that takes no room on disk; LMDB does not read a free page, and writing it fills the hole
 * again. What is safe to punch is what LMDB itself would use next: pages in the list of free ones
 * under a transaction older than every reader and than the last commit, so that also the state
 * before that, to which a crash may fall back, does not have them. Only the writer's thread
 * punches, and never inside a transaction, which may have taken pages from the list already.
 *
 * Before the first step comes a transaction that changes next to nothing: after it, what the one
 * before has freed is out of sight as well.
 *
 * One step reads a part of the list, from where the last one ended, and punches what lies side by
 * side at once: a hole costs much the same whatever its length. The list changes between steps
 * (LMDB moves what it took and did not need to later transactions): it is gone over until little is
 * found, and each page is punched once in a run, so that the run ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "queue/batch.h"
#include "queue/compact.h"

#define STEP_NS    INT64_C(8000000) /* of work; with what ends a step, 10 ms */
#define YIELD_NS   INT64_C(1000000) /* so much of it even when mail waits */
#define REST       3                /* times as long as the step, if mail waits */
#define PASSES_MAX 3
#define HOLE_PAGES 2048              /* one call's work stays short */
#define PART_PAGES ((size_t)1 << 16) /* of the list, looked at in one go */

struct compact_place { /* in the list: a transaction, and how many of its pages are done */
    uint64_t key;
    size_t index;
};

struct queue_compact {
    struct queue_job job; /* comes before the first step */
    struct queue_completion *completion;
    bool ready; /* it has */
    int64_t next_ns;
    bool begun;
    struct compact_place place;
    unsigned pass;
    uint64_t found; /* pages punched in this pass */
    uint64_t page_bytes;
    uint64_t pages;
    uint8_t *done;  /* a bit a page: punched in this run */
    uint8_t *now;   /* a bit a page: in the part at hand, to be punched */
    uint64_t *part; /* its pages that are not done yet */
    size_t part_count;
    size_t part_looked; /* entries of the list that were looked at for it */
    /* of the step */
    int fd;
    uint64_t oldest; /* transaction that somebody may still read */
    int64_t end_ns;
    int64_t yield_ns;
    bool full; /* its time is over */
};

static void end(struct queue *queue, int result)
{
    struct queue_compact *compact = queue->compact;
    (void)pthread_mutex_lock(&queue->lock);
    queue->compact = NULL;
    queue->compact_progress.going = false;
    (void)pthread_mutex_unlock(&queue->lock);
    queue_completion_post(&queue->answers, compact->completion, result);
    free(compact->done);
    free(compact->now);
    free(compact->part);
    free(compact);
}

/* ---- the transaction before ---- */

static int apply_first(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    (void)job;
    (void)finished_out;
    batch->state.newest_ms++; /* any change will do */
    return 0;
}

static void report_first(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)job;
    (void)result;
}

static void release_first(struct queue *queue, struct queue_job *job, int result)
{
    struct queue_compact *compact = queue->compact; /* which the job is part of */
    (void)job;
    if (result != 0) {
        end(queue, result);
        return;
    }
    compact->ready = true;
}

static const struct queue_job_type first_type = {apply_first, NULL, report_first, release_first,
                                                 QUEUE_JOB_OTHER};

/* ---- the caller's side ---- */

int queue_compact_start(struct queue *queue, struct queue_port *port, queue_done_fn on_done,
                        void *ctx)
{
    struct queue_compact *compact = NULL;
    (void)pthread_mutex_lock(&queue->lock);
    if (queue->compact == NULL && !queue->closing) {
        compact = queue_alloc(sizeof *compact);
        compact->completion = queue_completion_done(port, on_done, ctx);
        queue->compact = compact;
        queue->compact_progress = (struct queue_compact_progress){.going = true};
    }
    (void)pthread_mutex_unlock(&queue->lock);
    if (compact == NULL)
        return 1;
    compact->job = (struct queue_job){.type = &first_type, .urgent = true};
    queue_submit(queue, &compact->job);
    return 0;
}

void queue_compact_progress(struct queue *queue, struct queue_compact_progress *progress_out)
{
    (void)pthread_mutex_lock(&queue->lock);
    *progress_out = queue->compact_progress;
    (void)pthread_mutex_unlock(&queue->lock);
}

/* ---- the writer's side ---- */

int64_t queue_compact_deadline(const struct queue *queue)
{
    if (queue->compact == NULL || !queue->compact->ready || queue->store.env == NULL)
        return INT64_MAX;
    return queue->compact->next_ns;
}

void queue_compact_drop(struct queue *queue)
{
    if (queue->compact != NULL)
        end(queue, QUEUE_ERR_CLOSED);
}

static uint64_t disk_bytes(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* A line of LMDB's list of readers: process, thread, transaction ("-": at rest). */
static int take_reader(const char *line, void *ctx)
{
    uint64_t *oldest = ctx;
    unsigned long long txn = 0;
    if (sscanf(line, "%*d %*s %llu", &txn) == 1 && txn < *oldest)
        *oldest = txn;
    return 0;
}

static int begin_run(struct queue_compact *compact, struct queue *queue, MDB_txn *txn)
{
    MDB_envinfo info;
    MDB_stat stat;
    int dead = 0;
    (void)mdb_reader_check(queue->store.env, &dead);
    int rc = mdb_env_info(queue->store.env, &info);
    if (rc == 0)
        rc = mdb_stat(txn, 0, &stat);
    if (rc != 0)
        return rc;
    compact->page_bytes = stat.ms_psize;
    compact->pages = info.me_last_pgno + 1;
    compact->done = queue_alloc((size_t)(compact->pages / 8 + 1));
    compact->now = queue_alloc((size_t)(compact->pages / 8 + 1));
    compact->part = queue_alloc(PART_PAGES * sizeof *compact->part);
    compact->begun = true;
    (void)pthread_mutex_lock(&queue->lock);
    queue->compact_progress.before_bytes = disk_bytes(compact->fd);
    (void)pthread_mutex_unlock(&queue->lock);
    return 0;
}

/* Is the step's time over? Mail that waits goes first. */
static bool is_over(struct queue_compact *compact, struct queue *queue)
{
    int64_t now = queue_now_ns();
    compact->full = now >= compact->end_ns;
    if (!compact->full && now >= compact->yield_ns) {
        (void)pthread_mutex_lock(&queue->lock);
        compact->full = queue->urgent > 0 || queue->closing;
        (void)pthread_mutex_unlock(&queue->lock);
    }
    return compact->full;
}

static bool has_bit(const uint8_t *map, uint64_t page)
{
    return (map[page / 8] & 1U << page % 8) != 0;
}

static void set_bit(uint8_t *map, uint64_t page)
{
    map[page / 8] |= (uint8_t)(1U << page % 8);
}

static void clear_bit(uint8_t *map, uint64_t page)
{
    map[page / 8] &= (uint8_t) ~(1U << page % 8);
}

/* One record of the list: its length, then the pages. @return false: the part ends before it does
 */
static bool take_record(struct compact_place *place, struct queue_compact *compact,
                        const MDB_val *value)
{
    const uint8_t *list = value->mv_data;
    uint64_t count = 0;
    uint64_t page = 0;
    if (value->mv_size >= sizeof count)
        memcpy(&count, list, sizeof count);
    if (value->mv_size < sizeof count || count > value->mv_size / 8 - 1)
        count = 0; /* not a list */
    for (; place->index < count; place->index++) {
        if (compact->part_looked == PART_PAGES)
            return false;
        compact->part_looked++;
        memcpy(&page, list + 8 * (place->index + 1), sizeof page);
        if (page < 2 || page >= compact->pages || has_bit(compact->done, page))
            continue;
        set_bit(compact->now, page);
        compact->part[compact->part_count++] = page;
    }
    return true;
}

/* Take the part of the list that begins at the place, which moves to its end. @return 0, LMDB's
 * code; MDB_NOTFOUND: it is the last one */
static int take_part(struct compact_place *place, struct queue_compact *compact, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    uint64_t of = place->key;
    MDB_val key = queue_val(&of, sizeof of);
    MDB_val value;
    compact->part_count = compact->part_looked = 0;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size == sizeof of)
            memcpy(&of, key.mv_data, sizeof of);
        if (key.mv_size != sizeof of || of >= compact->oldest) {
            rc = MDB_NOTFOUND;
            break;
        }
        if (of != place->key)
            *place = (struct compact_place){.key = of};
        if (!take_record(place, compact, &value))
            break;
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* The run of pages in the part that this one belongs to. */
static uint64_t find_run(const struct queue_compact *compact, uint64_t page, uint64_t *count_out)
{
    uint64_t first = page;
    uint64_t end = page + 1;
    while (end - first < HOLE_PAGES && has_bit(compact->now, first - 1)) /* 0 and 1 are never set */
        first--;
    while (end - first < HOLE_PAGES && end < compact->pages && has_bit(compact->now, end))
        end++;
    *count_out = end - first;
    return first;
}

/* @return 0 or errno */
static int punch(struct queue_compact *compact, uint64_t first, uint64_t count)
{
    if (fallocate(compact->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(first * compact->page_bytes), (off_t)(count * compact->page_bytes)) != 0)
        return errno;
    for (uint64_t page = first; page < first + count; page++) {
        set_bit(compact->done, page);
        clear_bit(compact->now, page);
    }
    compact->found += count;
    return 0;
}

/* As far as the time goes; nothing is left in the map then. @return 0 or errno */
static int punch_part(struct queue_compact *compact, struct queue *queue)
{
    int rc = 0;
    for (size_t i = 0; i < compact->part_count && rc == 0 && !is_over(compact, queue); i++) {
        uint64_t count = 0;
        if (!has_bit(compact->now, compact->part[i]))
            continue;
        uint64_t first = find_run(compact, compact->part[i], &count);
        rc = punch(compact, first, count);
    }
    for (size_t i = 0; i < compact->part_count; i++)
        clear_bit(compact->now, compact->part[i]);
    return rc;
}

/* From the place on, as far as the time goes. @return 0, LMDB's code or errno; MDB_NOTFOUND: the
 * end of the list */
static int punch_list(struct queue_compact *compact, struct queue *queue, MDB_txn *txn)
{
    for (;;) {
        struct compact_place end = compact->place;
        int taken = take_part(&end, compact, txn);
        int rc = taken == 0 || taken == MDB_NOTFOUND ? punch_part(compact, queue) : taken;
        if (rc != 0 || compact->full) /* the same part again, less what is done */
            return rc;
        compact->place = end;
        if (taken != 0 || is_over(compact, queue))
            return taken;
    }
}

/* @return as punch_list */
static int work(struct queue_compact *compact, struct queue *queue, MDB_txn *txn)
{
    mdb_filehandle_t fd = -1;
    int64_t now = queue_now_ns();
    int rc = mdb_env_get_fd(queue->store.env, &fd);
    compact->fd = fd;
    compact->end_ns = now + STEP_NS;
    compact->yield_ns = now + YIELD_NS;
    compact->full = false;
    if (rc == 0 && !compact->begun)
        rc = begin_run(compact, queue, txn);
    compact->oldest = mdb_txn_id(txn);
    if (rc == 0 && mdb_reader_list(queue->store.env, take_reader, &compact->oldest) < 0)
        rc = EIO;
    return rc == 0 ? punch_list(compact, queue, txn) : rc;
}

static bool goes_on(struct queue_compact *compact)
{
    bool more = compact->found > compact->pages / 100 && ++compact->pass < PASSES_MAX;
    compact->place = (struct compact_place){0};
    compact->found = 0;
    return more;
}

static int code_of(int rc)
{
    if (rc == EOPNOTSUPP || rc == ENOSYS)
        return QUEUE_ERR_UNABLE;
    return queue_store_code(rc);
}

void queue_compact_step(struct queue *queue)
{
    MDB_txn *txn = NULL;
    (void)pthread_mutex_lock(&queue->lock);
    struct queue_compact *compact = queue->compact; /* from here on only this thread changes it */
    (void)pthread_mutex_unlock(&queue->lock);
    int64_t begun_ns = queue_now_ns();
    if (compact == NULL || !compact->ready || begun_ns < compact->next_ns ||
        queue->store.env == NULL || queue_store_read(&queue->store, &txn) != 0)
        return;
    uint64_t before = compact->found;
    int rc = work(compact, queue, txn);
    queue_store_read_end(&queue->store, txn);
    int64_t now = queue_now_ns();
    (void)pthread_mutex_lock(&queue->lock);
    queue->compact_progress.punched_bytes += (compact->found - before) * compact->page_bytes;
    queue->compact_progress.now_bytes = disk_bytes(compact->fd);
    compact->next_ns = queue->urgent > 0 ? now + REST * (now - begun_ns) : now;
    (void)pthread_mutex_unlock(&queue->lock);
    if (rc == MDB_NOTFOUND && goes_on(compact))
        return;
    if (rc != 0)
        end(queue, rc == MDB_NOTFOUND ? QUEUE_OK : code_of(rc));
}
