/* queue/snapshot.h - one state of a queue in use, read for long: what that may cost, and when to
 * give up. Private to queue/.
 *
 * While it is held, LMDB cannot use again what is freed: the file grows by what is written. A
 * thread of its own, at most half of a core. */
#ifndef QUEUE_SNAPSHOT_H
#define QUEUE_SNAPSHOT_H

#include "queue/maintain.h"
#include "queue/queue_private.h"

struct queue_snapshot {
    struct queue *queue;
    MDB_txn *txn;
    struct queue_patience patience;
    uint64_t page_bytes;
    uint64_t first_pages; /* in the file when it began */
    uint64_t growth_bytes;
    int64_t slice_ns; /* when the stretch of work at hand began */
    unsigned calls;
    bool given_up;
    char reason[256]; /* why */
};

/* @return 0, QUEUE_ERR_IO */
QUEUE_MUST_USE int queue_snapshot_begin(struct queue_snapshot *snapshot, struct queue *queue,
                                        const struct queue_patience *patience);
/* To be called often: rests as long as was worked. @return false: give up, reason says why */
bool queue_snapshot_pace(void *snapshot);
void queue_snapshot_end(struct queue_snapshot *snapshot);

#endif
