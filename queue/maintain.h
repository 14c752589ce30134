/* queue/maintain.h - looking after a queue: check and repair.
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

#endif
