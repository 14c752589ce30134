/* queue/space.c - room on disk and below the configured maximum. */
#include "queue/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "queue/bytes.h"

#define MIB         (UINT64_C(1) << 20)
#define LOOK_MS     1000
#define SHARE       32 /* of the file system: nearly full below this part, within the limits */
#define LOW_MIN     (2 * MIB)
#define LOW_MAX     (64 * MIB)
#define BALLAST_MAX (16 * MIB)
#define RAN_OUT     (MIB / 16) /* less than one write of LMDB wants */

static int64_t monotonic_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void path_of(const struct queue_space *space, const char *name, char path[4096])
{
    (void)snprintf(path, 4096, "%s/%s", space->folder, name);
}

/* What the database could hold if it took all: free blocks, if they are for us, and those its file
 * has (LMDB takes pages that are free in the file first). Pages in use come off it later: they
 * change with every commit. */
static void look(struct queue_space *space)
{
    char path[4096];
    struct statvfs fs;
    struct stat st;
    if (statvfs(space->folder, &fs) != 0)
        return;
    uint64_t room = atomic_load(&space->denied) ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
    path_of(space, "data.mdb", path);
    if (stat(path, &st) == 0)
        room += (uint64_t)st.st_blocks * 512;
    atomic_store(&space->room_bytes, room);
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

void queue_space_init(struct queue_space *space, const char *folder, uint64_t max_bytes,
                      uint64_t tight_bytes)
{
    struct statvfs fs;
    uint64_t share = LOW_MAX;
    space->folder = queue_alloc(strlen(folder) + 1);
    memcpy(space->folder, folder, strlen(folder) + 1);
    space->max_bytes = max_bytes;
    space->tight_bytes = tight_bytes;
    if (statvfs(folder, &fs) == 0)
        share = (uint64_t)fs.f_blocks * fs.f_frsize / SHARE;
    space->low_bytes = clamp(share, LOW_MIN, LOW_MAX);
    space->ballast_bytes = clamp(share, LOW_MIN, BALLAST_MAX);
    space->settled = false;
    space->restore_ms = 0;
    atomic_init(&space->released, false);
    atomic_init(&space->denied, false);
    atomic_init(&space->used_bytes, 0);
    atomic_init(&space->room_bytes, UINT64_MAX);
    atomic_init(&space->looked_ms, monotonic_ms());
    look(space);
}

void queue_space_deinit(struct queue_space *space)
{
    free(space->folder);
    space->folder = NULL;
}

static void look_now_and_then(struct queue_space *space)
{
    int64_t now = monotonic_ms();
    int64_t looked = atomic_load(&space->looked_ms);
    if (now - looked >= LOOK_MS && atomic_compare_exchange_strong(&space->looked_ms, &looked, now))
        look(space);
}

/* Once the ballast was needed, nothing is accepted before there is room for a new one as well. */
static uint64_t kept_free(struct queue_space *space)
{
    return space->low_bytes + (atomic_load(&space->released) ? space->ballast_bytes : 0);
}

bool queue_space_is_full(struct queue_space *space, uint64_t bytes)
{
    look_now_and_then(space);
    uint64_t used = atomic_load(&space->used_bytes);
    uint64_t room = atomic_load(&space->room_bytes);
    uint64_t keep = kept_free(space) + used;
    if (used >= space->max_bytes || bytes > space->max_bytes - used)
        return true;
    return room < keep || bytes > room - keep;
}

bool queue_space_is_tight(const struct queue_space *space)
{
    return atomic_load(&space->used_bytes) >= space->tight_bytes;
}

void queue_space_set_used(struct queue_space *space, uint64_t used_bytes)
{
    atomic_store(&space->used_bytes, used_bytes);
}

bool queue_space_release(struct queue_space *space)
{
    char path[4096];
    path_of(space, "ballast", path);
    atomic_store(&space->room_bytes, 0); /* until the next look, whatever the last one said */
    atomic_store(&space->looked_ms, monotonic_ms());
    atomic_store(&space->released, true);
    space->settled = false;
    space->restore_ms = monotonic_ms() + LOOK_MS;
    return unlink(path) == 0;
}

/* What statvfs does not know of, a quota, is found by asking for blocks: a file without a name. */
static bool are_blocks_denied(const struct queue_space *space)
{
    int fd = open(space->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EDQUOT || errno == ENOSPC;
    bool denied = fallocate(fd, 0, 0, (off_t)RAN_OUT) != 0 && (errno == EDQUOT || errno == ENOSPC);
    (void)close(fd);
    return denied;
}

bool queue_space_ran_out(const struct queue_space *space)
{
    struct statvfs fs;
    if (statvfs(space->folder, &fs) != 0)
        return false;
    return (uint64_t)fs.f_bavail * fs.f_frsize < RAN_OUT || are_blocks_denied(space);
}

/* fallocate, not posix_fallocate: where the file system cannot, 16 MiB are not worth writing out.
 * @return 0, or why not */
static int make_ballast(const struct queue_space *space)
{
    char path[4096];
    struct stat st;
    int rc = 0;
    path_of(space, "ballast", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    bool there = fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= space->ballast_bytes;
    if (!there && fallocate(fd, 0, 0, (off_t)space->ballast_bytes) != 0)
        rc = errno;
    if (rc != 0)
        (void)unlink(path);
    (void)close(fd);
    return rc == EOPNOTSUPP ? 0 : rc;
}

void queue_space_restore(struct queue_space *space)
{
    struct statvfs fs;
    int64_t now = monotonic_ms();
    if (space->settled || now < space->restore_ms)
        return;
    space->restore_ms = now + LOOK_MS;
    /* Only free blocks help here: pages that are free in the database's file are not the disk's. */
    if (statvfs(space->folder, &fs) != 0 ||
        (uint64_t)fs.f_bavail * fs.f_frsize < 2 * space->ballast_bytes)
        return;
    int rc = make_ballast(space);
    space->settled = rc == 0;
    if (space->settled)
        atomic_store(&space->released, false);
    atomic_store(&space->denied, rc == EDQUOT || rc == ENOSPC);
    look(space);
}

int64_t queue_space_wake_ns(const struct queue_space *space)
{
    bool waits = atomic_load(&space->released) || atomic_load(&space->denied);
    return waits && !space->settled ? space->restore_ms * 1000000 : INT64_MAX;
}
