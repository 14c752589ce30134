/* queue/snapshot.c - see snapshot.h. */
#include "queue/snapshot.h"

#include <stdio.h>
#include <sys/statvfs.h>
#include <time.h>

#define SLICE_NS    INT64_C(5000000)
#define REST_MAX_NS INT64_C(50000000)
#define CALLS       16 /* between two looks at the clock */
#define MIB         (UINT64_C(1) << 20)
#define GROWTH_MIN  (64 * MIB)
#define GROWTH_FREE (1024 * MIB) /* always allowed, if there is four times the room */

static uint64_t pages_in_file(struct queue_store *store)
{
    MDB_envinfo info;
    return mdb_env_info(store->env, &info) == 0 ? info.me_last_pgno + 1 : 0;
}

/* By how much the file may grow: a quarter of the room there is, but no more than the queue itself
 * takes (or 1 GiB). */
static uint64_t default_growth(const struct queue_snapshot *snapshot)
{
    struct queue *queue = snapshot->queue;
    uint64_t file = snapshot->first_pages * snapshot->page_bytes;
    uint64_t map = queue->store.map_bytes;
    uint64_t room = map > file ? map - file : 0;
    uint64_t most = file > GROWTH_FREE ? file : GROWTH_FREE;
    struct statvfs fs;
    if (statvfs(queue->store.folder, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < room)
        room = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t limit = room / 4 < most ? room / 4 : most;
    return limit > GROWTH_MIN ? limit : GROWTH_MIN;
}

int queue_snapshot_begin(struct queue_snapshot *snapshot, struct queue *queue,
                         const struct queue_patience *patience)
{
    MDB_stat stat;
    *snapshot = (struct queue_snapshot){.queue = queue, .patience = *patience};
    int rc = queue_store_read(&queue->store, &snapshot->txn);
    if (rc < 0)
        return rc;
    snapshot->page_bytes = mdb_stat(snapshot->txn, 0, &stat) == 0 ? stat.ms_psize : 4096;
    snapshot->first_pages = pages_in_file(&queue->store);
    snapshot->growth_bytes =
        patience->growth_bytes > 0 ? patience->growth_bytes : default_growth(snapshot);
    snapshot->slice_ns = queue_now_ns();
    return 0;
}

bool queue_look_must_end(struct queue *queue)
{
    return atomic_load(&queue->store.leave);
}

static bool give_up(struct queue_snapshot *snapshot, const char *reason)
{
    if (!snapshot->given_up)
        (void)snprintf(snapshot->reason, sizeof snapshot->reason, "%s", reason);
    snapshot->given_up = true;
    return false;
}

static bool may_go_on(struct queue_snapshot *snapshot)
{
    struct queue *queue = snapshot->queue;
    char reason[256];
    if (snapshot->patience.stop != NULL && atomic_load(snapshot->patience.stop))
        return give_up(snapshot, "it was told to stop");
    if (queue_look_must_end(queue))
        return give_up(snapshot, "the queue had to be opened again after a failed write");
    uint64_t pages = pages_in_file(&queue->store);
    uint64_t grown =
        pages > snapshot->first_pages ? (pages - snapshot->first_pages) * snapshot->page_bytes : 0;
    if (grown > snapshot->growth_bytes) {
        (void)snprintf(reason, sizeof reason,
                       "the queue's file grew by %llu MiB meanwhile, for what is looked at must be "
                       "kept; the limit is %llu MiB: try again when less mail flows",
                       (unsigned long long)(grown / MIB),
                       (unsigned long long)(snapshot->growth_bytes / MIB));
        return give_up(snapshot, reason);
    }
    if (grown > 0 && queue_is_full(queue, 0))
        return give_up(snapshot, "the queue or its disk became full meanwhile");
    return true;
}

bool queue_snapshot_pace(void *ctx)
{
    struct queue_snapshot *snapshot = ctx;
    if (snapshot->given_up)
        return false;
    if (++snapshot->calls % CALLS != 0)
        return true;
    int64_t worked = queue_now_ns() - snapshot->slice_ns;
    if (worked < SLICE_NS)
        return true;
    if (worked > REST_MAX_NS) /* it was not work that took so long */
        worked = REST_MAX_NS;
    struct timespec rest = {.tv_nsec = worked};
    bool go_on = may_go_on(snapshot);
    if (go_on)
        (void)nanosleep(&rest, NULL);
    snapshot->slice_ns = queue_now_ns();
    return go_on;
}

void queue_snapshot_end(struct queue_snapshot *snapshot)
{
    queue_store_read_end(&snapshot->queue->store, snapshot->txn);
    snapshot->txn = NULL;
}
