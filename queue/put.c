/* queue/put.c - accepting: pieces on their way, the commit, the abort.
 *
 * A put belongs to its caller's thread until commit or abort, then to the writer. Its pieces wait
 * in `pending` (under the queue's lock) until the writer takes them over into `writing`; what a
 * transaction took is in `written` until that transaction is over. A message whose last byte is not
 * in the transaction gets a row in `incoming`; the accepting commit removes it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "queue/batch.h"
#include "queue/body.h"

#define LAZY_BYTES_MAX ((size_t)1 << 20) /* so many bytes of lone pieces need no more company */

struct piece {
    struct piece *next;
    struct queue_completion *stored;
    size_t len;
    uint8_t bytes[];
};

struct pieces {
    struct piece *head;
    struct piece *tail;
    size_t bytes;
};

struct queue_put {
    struct queue *queue;
    struct queue_port *port;
    uint64_t id;
    uint64_t total; /* bytes handed over */

    /* under queue->lock */
    struct pieces pending;
    struct queue_put *prev; /* in queue->puts */
    struct queue_put *next;
    int64_t since_ns;
    bool listed;    /* in queue->puts */
    bool collected; /* pieces_job is with the writer */
    bool ended;     /* commit or abort is submitted */

    /* writer */
    struct queue_job pieces_job;
    struct queue_job end_job;
    struct pieces writing;
    size_t head_pos; /* bytes of writing.head that are written */
    struct pieces written;
    uint64_t offset; /* bytes in the store */
    bool begun;      /* has an `incoming` row */
    int error;       /* why it cannot be stored any more */

    /* given with the commit */
    struct queue_new *message; /* NULL: over a limit */
    struct queue_completion *completion;
};

static struct queue_put *of_pieces(struct queue_job *job)
{
    return (struct queue_put *)(void *)((char *)job - offsetof(struct queue_put, pieces_job));
}

static struct queue_put *of_end(struct queue_job *job)
{
    return (struct queue_put *)(void *)((char *)job - offsetof(struct queue_put, end_job));
}

/* ---- pieces ---- */

static void pieces_push(struct pieces *pieces, struct piece *piece)
{
    piece->next = NULL;
    if (pieces->tail != NULL)
        pieces->tail->next = piece;
    else
        pieces->head = piece;
    pieces->tail = piece;
    pieces->bytes += piece->len;
}

static void pieces_append(struct pieces *pieces, struct pieces *more)
{
    if (more->head == NULL)
        return;
    if (pieces->tail != NULL)
        pieces->tail->next = more->head;
    else
        pieces->head = more->head;
    pieces->tail = more->tail;
    pieces->bytes += more->bytes;
    *more = (struct pieces){0};
}

/* Give their memory back and say so. */
static void pieces_release(struct queue *queue, struct pieces *pieces)
{
    struct piece *piece = pieces->head;
    *pieces = (struct pieces){0};
    while (piece != NULL) {
        struct piece *next = piece->next;
        struct queue_completion *stored = piece->stored;
        free(piece);
        queue_completion_post(&queue->answers, stored, 0);
        piece = next;
    }
}

static void take_pending(struct queue_put *put)
{
    (void)pthread_mutex_lock(&put->queue->lock);
    pieces_append(&put->writing, &put->pending);
    (void)pthread_mutex_unlock(&put->queue->lock);
}

static void drop_all(struct queue_put *put)
{
    take_pending(put);
    pieces_append(&put->written, &put->writing);
    put->head_pos = 0;
    pieces_release(put->queue, &put->written);
}

/* ---- the list of puts with lone pieces; all under queue->lock ---- */

static void list_put(struct queue_put *put)
{
    struct queue *queue = put->queue;
    put->listed = true;
    put->since_ns = queue_now_ns();
    put->next = NULL;
    put->prev = queue->puts_tail;
    if (put->prev != NULL)
        put->prev->next = put;
    else
        queue->puts_head = put;
    queue->puts_tail = put;
    queue->piece_bytes += put->pending.bytes;
}

static void unlist_put(struct queue_put *put)
{
    struct queue *queue = put->queue;
    if (!put->listed)
        return;
    put->listed = false;
    queue->piece_bytes -= put->pending.bytes;
    if (put->prev != NULL)
        put->prev->next = put->next;
    else
        queue->puts_head = put->next;
    if (put->next != NULL)
        put->next->prev = put->prev;
    else
        queue->puts_tail = put->prev;
}

int64_t queue_puts_deadline(const struct queue *queue)
{
    if (queue->puts_head == NULL)
        return INT64_MAX;
    if (queue->piece_bytes >= LAZY_BYTES_MAX)
        return 0;
    return queue->puts_head->since_ns + QUEUE_WAIT_NS;
}

void queue_puts_collect(struct queue *queue, int64_t now_ns, struct queue_jobs *jobs)
{
    bool all = queue->piece_bytes >= LAZY_BYTES_MAX;
    while (queue->puts_head != NULL) {
        struct queue_put *put = queue->puts_head;
        if (!all && put->since_ns + QUEUE_WAIT_NS > now_ns)
            return;
        unlist_put(put);
        put->collected = true;
        queue_jobs_push(jobs, &put->pieces_job);
    }
}

/* ---- writing ---- */

/* Copy the next len bytes of `writing` to out; pieces used up go to `written`. */
static void copy_out(void *ctx, uint8_t *out, size_t len)
{
    struct queue_put *put = ctx;
    while (len > 0) {
        struct piece *piece = put->writing.head;
        assert(piece != NULL); /* len was taken from what is there */
        size_t part = piece->len - put->head_pos;
        if (part > len)
            part = len;
        memcpy(out, piece->bytes + put->head_pos, part);
        out += part;
        len -= part;
        put->head_pos += part;
        if (put->head_pos < piece->len)
            return;
        put->head_pos = 0;
        put->writing.head = piece->next;
        if (put->writing.head == NULL)
            put->writing.tail = NULL;
        put->writing.bytes -= piece->len;
        pieces_push(&put->written, piece);
    }
}

static int write_row(struct queue_batch *batch, struct queue_put *put, size_t len)
{
    int rc = queue_body_write(batch->txn, queue_batch_db(batch, QUEUE_DB_BODY), put->id,
                              put->offset, len, copy_out, put);
    if (rc != 0)
        return rc;
    put->offset += len;
    batch->body_bytes += len;
    return 0;
}

/* Write what waits, as far as the transaction goes. last: no more bytes will come. */
static int write_pieces(struct queue_batch *batch, struct queue_put *put, bool last, bool *all_out)
{
    take_pending(put);
    size_t left = put->writing.bytes - put->head_pos;
    if (queue_space_is_full(&batch->queue->space, batch->body_bytes + left)) {
        put->error = QUEUE_ERR_FULL;
        *all_out = true;
        return 0;
    }
    while (left > 0 && batch->body_bytes < QUEUE_BATCH_BODY) {
        size_t len = left < QUEUE_BODY_ROW ? left : QUEUE_BODY_ROW;
        int rc = write_row(batch, put, len);
        if (rc != 0)
            return rc;
        left -= len;
    }
    *all_out = left == 0;
    if ((last && left == 0) || put->begun)
        return 0;
    uint8_t bytes[8];
    queue_be64_put(bytes, put->id);
    MDB_val key = queue_val(bytes, sizeof bytes);
    MDB_val value = queue_val("", 0);
    put->begun = true;
    if (put->id > batch->state.id_high) /* the id has rows now: none may get it after a crash */
        batch->state.id_high = put->id;
    return mdb_put(batch->txn, queue_batch_db(batch, QUEUE_DB_INCOMING), &key, &value, 0);
}

/* ---- job: lone pieces ---- */

static int apply_pieces(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct queue_put *put = of_pieces(job);
    if (put->error != 0)
        return 0;
    return write_pieces(batch, put, false, finished_out);
}

static void step_pieces(struct queue *queue, struct queue_job *job, int result)
{
    (void)result;
    pieces_release(queue, &of_pieces(job)->written);
}

static void report_pieces(struct queue *queue, struct queue_job *job, int result)
{
    struct queue_put *put = of_pieces(job);
    (void)queue;
    /* Undecided is only the room they take: the message is not accepted, and may be refused. */
    if (result != 0)
        put->error = result == QUEUE_ERR_UNSURE ? QUEUE_ERR_IO : result;
    if (put->error != 0)
        drop_all(put);
}

static void release_pieces(struct queue *queue, struct queue_job *job, int result)
{
    struct queue_put *put = of_pieces(job);
    (void)result;
    job->refused = 0;
    (void)pthread_mutex_lock(&queue->lock);
    put->collected = false;
    if (!put->ended && put->pending.head != NULL)
        list_put(put);
    (void)pthread_mutex_unlock(&queue->lock);
}

static const struct queue_job_type pieces_type = {apply_pieces, step_pieces, report_pieces,
                                                  release_pieces, QUEUE_JOB_PUT};

/* ---- job: abort ---- */

static int apply_abort(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    (void)batch;
    (void)job;
    (void)finished_out;
    return 0;
}

static void report_abort(struct queue *queue, struct queue_job *job, int result)
{
    (void)queue;
    (void)result;
    drop_all(of_end(job));
}

/* An undecided commit may have stored the message after all: then it stays. */
static void release_abort(struct queue *queue, struct queue_job *job, int result)
{
    struct queue_put *put = of_end(job);
    (void)result;
    if (put->begun)
        queue_sweep_submit(queue, put->id);
    queue_new_free(&put->message);
    free(put);
}

static const struct queue_job_type abort_type = {apply_abort, NULL, report_abort, release_abort,
                                                 QUEUE_JOB_PUT};

/* ---- job: commit ---- */

static int apply_commit(struct queue_batch *batch, struct queue_job *job, bool *finished_out)
{
    struct queue_put *put = of_end(job);
    uint8_t bytes[8];
    if (put->error == 0 && put->message == NULL)
        put->error = QUEUE_ERR_LIMIT;
    if (put->error == 0) {
        int rc = write_pieces(batch, put, true, finished_out);
        if (rc != 0 || !*finished_out)
            return rc;
    }
    job->result = put->error;
    if (put->error != 0)
        return 0;
    int rc = queue_new_store(batch, put->message);
    if (rc != 0 || !put->begun)
        return rc;
    queue_be64_put(bytes, put->id);
    return queue_store_delete(batch->txn, queue_batch_db(batch, QUEUE_DB_INCOMING), bytes, 8);
}

static void step_commit(struct queue *queue, struct queue_job *job, int result)
{
    (void)result;
    pieces_release(queue, &of_end(job)->written);
}

static void report_commit(struct queue *queue, struct queue_job *job, int result)
{
    struct queue_put *put = of_end(job);
    drop_all(put);
    queue_completion_post(&queue->answers, put->completion, result);
    put->completion = NULL;
}

static void release_commit(struct queue *queue, struct queue_job *job, int result)
{
    if (result == 0)
        of_end(job)->begun = false; /* nothing is left to remove */
    release_abort(queue, job, result);
}

static const struct queue_job_type commit_type = {apply_commit, step_commit, report_commit,
                                                  release_commit, QUEUE_JOB_ACCEPT};

/* ---- the caller's side ---- */

int queue_put_begin(struct queue *queue, struct queue_port *port, struct queue_put **put_out,
                    uint64_t *id_out)
{
    (void)pthread_mutex_lock(&queue->lock);
    bool closing = queue->closing;
    (void)pthread_mutex_unlock(&queue->lock);
    if (closing)
        return QUEUE_ERR_CLOSED;
    struct queue_put *put = queue_alloc(sizeof *put);
    put->queue = queue;
    put->port = port;
    put->id = queue_ids_next(&queue->ids, queue_wall_ms(queue));
    put->pieces_job = (struct queue_job){.type = &pieces_type, .grows = true};
    *put_out = put;
    *id_out = put->id;
    return 0;
}

int queue_put_piece(struct queue_put *put, const void *bytes, size_t len, queue_stored_fn on_stored,
                    void *ctx)
{
    struct queue *queue = put->queue;
    if (len > QUEUE_PIECE_MAX)
        return QUEUE_ERR_LIMIT;
    struct piece *piece = queue_resize(NULL, sizeof *piece + len); /* not zeroed first */
    *piece = (struct piece){.len = len};
    memcpy(piece->bytes, bytes, len);
    if (on_stored != NULL)
        piece->stored = queue_completion_stored(put->port, len, on_stored, ctx);
    put->total += len;
    (void)pthread_mutex_lock(&queue->lock);
    bool wake = queue->puts_head == NULL;
    pieces_push(&put->pending, piece);
    if (put->listed)
        queue->piece_bytes += len;
    else if (!put->collected)
        list_put(put);
    if (wake || queue->piece_bytes >= LAZY_BYTES_MAX)
        queue_wake(queue);
    (void)pthread_mutex_unlock(&queue->lock);
    return 0;
}

static void end_put(struct queue_put *put)
{
    (void)pthread_mutex_lock(&put->queue->lock);
    unlist_put(put);
    put->ended = true;
    queue_submit_locked(put->queue, &put->end_job);
    (void)pthread_mutex_unlock(&put->queue->lock);
}

void queue_put_commit(struct queue_put *put, const struct queue_envelope *envelope,
                      queue_done_fn on_done, void *ctx)
{
    put->message = queue_new_encode(put->id, envelope, put->total);
    put->completion = queue_completion_done(put->port, on_done, ctx);
    put->end_job = (struct queue_job){.type = &commit_type, .urgent = true, .grows = true};
    end_put(put);
}

void queue_put_abort(struct queue_put *put)
{
    put->end_job = (struct queue_job){.type = &abort_type};
    end_put(put);
}
