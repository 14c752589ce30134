/* queue/maintain.h - looking after a queue: check and repair, space given back, backup, restore.
 *
 * queue_check is for a queue that no daemon has open: it takes the folder's lock itself. It needs
 * memory of one bit a page of the file and little more, whatever the queue's depth. */
#ifndef QUEUE_MAINTAIN_H
#define QUEUE_MAINTAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/queue.h"

/* One sentence, without a line end, borrowed for the call. */
typedef void (*queue_line_fn)(const char *line, void *ctx);

struct queue_check_result {
    uint64_t messages; /* whole ones */
    uint64_t units;    /* that still wait, of these */
    uint64_t recipients;
    uint64_t body_bytes;
    uint64_t damaged;  /* messages that are set aside */
    uint64_t problems; /* found */
    uint64_t repaired; /* of these, put right in this call */
};

/**
 * Look at everything a queue holds and at each reference between its parts: LMDB's own pages, every
 * record's checksum, the bytes of every message, the order of work, the counters.
 *
 * @param folder  as in queue_options; must exist
 * @param repair  put right what can be: nothing of a message that can be read is lost, what cannot
 *                be read is set aside with its bytes (`damaged`). Without it nothing is written.
 * @param line    called for each problem, at most 20 times for problems of one kind
 * @return QUEUE_OK: result_out tells what was found; QUEUE_ERR_LOCKED (error names the pid),
 *         QUEUE_ERR_SCHEMA, QUEUE_ERR_IO (there is no queue, or it cannot be read): error has the
 *         words, nothing was changed
 */
QUEUE_MUST_USE int queue_check(const char *folder, bool repair, queue_line_fn line, void *ctx,
                               struct queue_check_result *result_out, char *error,
                               size_t error_size);

/* ---- a queue in use, looked at for long ---- */

/* What a long look may cost. While it lasts, the queue's file grows by what is written. */
struct queue_patience {
    uint64_t growth_bytes;    /* give up beyond; 0: a quarter of the room there is, and no more
                               * than the file already takes (or 1 GiB) */
    const _Atomic bool *stop; /* set by anybody: give up soon. NULL: none */
};

/* Does the store have to be opened again (a commit is undecided)? Everybody waits until looks under
 * way have ended: whoever holds one up, in a callback, must return. Any thread. */
bool queue_look_must_end(struct queue *queue);

/**
 * queue_check without repair, on one state of a queue that is open in this process, while mail
 * flows. Blocks the calling thread, which must be one of its own, and takes half of a core.
 *
 * @return QUEUE_OK; QUEUE_ERR_IO; QUEUE_ERR_LIMIT: it gave up, error says why
 */
QUEUE_MUST_USE int queue_check_open(struct queue *queue, const struct queue_patience *patience,
                                    queue_line_fn line, void *ctx,
                                    struct queue_check_result *result_out, char *error,
                                    size_t error_size);

/* Takes the next bytes of a backup; may block, for as long as its caller has patience and
 * queue_look_must_end() says no.
 * @return false: no more */
typedef bool (*queue_bytes_fn)(const void *bytes, size_t len, void *ctx);

struct queue_backup_result {
    uint64_t messages; /* in the backup */
    uint64_t bytes;    /* of it */
};

/**
 * Copy one state of a queue that is open in this process, while mail flows: what queue_restore
 * takes. Transfers that have not ended are not in it. Thread and patience as for queue_check_open.
 *
 * @return QUEUE_OK: all bytes were taken; QUEUE_ERR_IO; QUEUE_ERR_LIMIT: it gave up, error says
 * why. What was handed over before a failure is no backup and is recognised as none.
 */
QUEUE_MUST_USE int queue_backup(struct queue *queue, const struct queue_patience *patience,
                                queue_bytes_fn write, void *ctx,
                                struct queue_backup_result *result_out, char *error,
                                size_t error_size);

/* The same of a queue that no daemon has open: takes the folder's lock. Also QUEUE_ERR_LOCKED
 * (error names the pid), QUEUE_ERR_SCHEMA. */
QUEUE_MUST_USE int queue_backup_folder(const char *folder, queue_bytes_fn write, void *ctx,
                                       struct queue_backup_result *result_out, char *error,
                                       size_t error_size);

/* ---- a backup put in place ---- */

struct queue_restore_source {
    const char *folder; /* of the queue */
    int fd;             /* the backup, from here on */
    bool force; /* also replace a queue that holds messages (its file is kept beside), and take
                 * a backup in which the check finds problems */
};

struct queue_restore_result {
    struct queue_check_result check; /* of what is in place now */
    char kept[256];                  /* name of the file the old queue is kept in, or "" */
};

/**
 * Make the backup the queue in the folder (made if absent), which no daemon may have open. It is
 * built beside, checked, synced and only then put in place, at once: whatever fails before leaves
 * the old queue as it was. Mail that left the queue after the backup was made will be delivered
 * again.
 *
 * @param line  called for each problem found
 * @return QUEUE_OK; QUEUE_ERR_LOCKED (error names the pid); QUEUE_ERR_SCHEMA; QUEUE_ERR_DAMAGED:
 *         the file is no whole backup; QUEUE_ERR_LIMIT: needs force; QUEUE_ERR_FULL; QUEUE_ERR_IO
 */
QUEUE_MUST_USE int queue_restore(const struct queue_restore_source *source, queue_line_fn line,
                                 void *ctx, struct queue_restore_result *result_out, char *error,
                                 size_t error_size);

/* ---- giving space back, while mail flows ---- */

struct queue_compact_progress {
    bool going;
    uint64_t before_bytes;  /* of disk that the file took when it began */
    uint64_t now_bytes;     /* after the last step */
    uint64_t punched_bytes; /* given back in this run; mail may have taken some again */
};

/**
 * Give the disk back what the queue's file keeps free: holes are punched in it, in steps of at most
 * 10 ms by the writer's thread between its transactions. Messages that arrive go first; readers
 * keep what they see. The file's size stays, its use of the disk shrinks.
 *
 * on_done through the port: QUEUE_OK; QUEUE_ERR_UNABLE: the file system cannot punch holes;
 * QUEUE_ERR_IO, QUEUE_ERR_FULL (what was punched until then counts); QUEUE_ERR_CLOSED.
 *
 * @return 0; 1: one is under way already, on_done will not come
 */
QUEUE_MUST_USE int queue_compact_start(struct queue *queue, struct queue_port *port,
                                       queue_done_fn on_done, void *ctx);
/* Any thread, at any time: of the run under way, or of the last one. */
void queue_compact_progress(struct queue *queue, struct queue_compact_progress *progress_out);

#endif
