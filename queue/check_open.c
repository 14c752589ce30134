/* queue/check_open.c - the check of a queue in use: the same walks over one snapshot. */
#include <stdio.h>

#include "queue/check.h"
#include "queue/snapshot.h"

/* To find the pages of a snapshot before two more commits have gone over them. */
#define TRIES 100

/* @return LMDB's code, CHECK_STOPPED; 1: the file does not have that state any more */
static int look(struct check *check, struct queue_snapshot *snapshot)
{
    mdb_filehandle_t fd = -1;
    bool readable = false;
    int rc = mdb_env_get_fd(check->queue->store.env, &fd);
    if (rc == 0)
        rc = check_pages(check, fd, mdb_txn_id(snapshot->txn), &readable);
    if (rc != 0)
        return rc;
    if (readable)
        return check_contents(check);
    check_note(check, "the file of the queue is damaged; what is in it was not looked at");
    return 0;
}

int queue_check_open(struct queue *queue, const struct queue_patience *patience, queue_line_fn line,
                     void *ctx, struct queue_check_result *result_out, char *error,
                     size_t error_size)
{
    struct queue_snapshot snapshot;
    struct check check;
    int rc = 1;
    for (int i = 0; i < TRIES && rc == 1; i++) {
        if (queue_snapshot_begin(&snapshot, queue, patience) < 0) {
            rc = MDB_PANIC;
            break;
        }
        check = (struct check){.queue = queue,
                               .txn = snapshot.txn,
                               .in_use = true,
                               .line = line,
                               .ctx = ctx,
                               .pace = queue_snapshot_pace,
                               .pace_ctx = &snapshot};
        rc = look(&check, &snapshot);
        queue_snapshot_end(&snapshot);
    }
    if (rc == CHECK_STOPPED) {
        (void)snprintf(error, error_size, "the check gave up: %s", snapshot.reason);
        return QUEUE_ERR_LIMIT;
    }
    if (rc != 0) {
        (void)snprintf(error, error_size, "the queue cannot be read: %s",
                       rc == 1 ? "it changes too fast" : mdb_strerror(rc));
        return QUEUE_ERR_IO;
    }
    *result_out = check.result;
    return 0;
}
