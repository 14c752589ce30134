/* queue/space.c - room on disk and below the configured maximum. */
#include "queue/space.h"

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

/* Blocks the database file holds beyond its pages in use are room too: LMDB takes them first. */
static void look(struct queue_space *space)
{
    char path[4096];
    struct statvfs fs;
    struct stat st;
    if (statvfs(space->folder, &fs) != 0)
        return;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    path_of(space, "data.mdb", path);
    if (stat(path, &st) == 0) {
        uint64_t blocks = (uint64_t)st.st_blocks * 512;
        uint64_t used = atomic_load(&space->used_bytes);
        room += blocks > used ? blocks - used : 0;
    }
    atomic_store(&space->free_bytes, room);
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

void queue_space_init(struct queue_space *space, const char *folder, uint64_t max_bytes)
{
    struct statvfs fs;
    uint64_t share = LOW_MAX;
    space->folder = queue_alloc(strlen(folder) + 1);
    memcpy(space->folder, folder, strlen(folder) + 1);
    space->max_bytes = max_bytes;
    if (statvfs(folder, &fs) == 0)
        share = (uint64_t)fs.f_blocks * fs.f_frsize / SHARE;
    space->low_bytes = clamp(share, LOW_MIN, LOW_MAX);
    space->ballast_bytes = clamp(share, LOW_MIN, BALLAST_MAX);
    space->settled = false;
    atomic_init(&space->released, false);
    atomic_init(&space->used_bytes, 0);
    atomic_init(&space->free_bytes, UINT64_MAX);
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
    uint64_t room = atomic_load(&space->free_bytes);
    uint64_t keep = kept_free(space);
    if (used >= space->max_bytes || bytes > space->max_bytes - used)
        return true;
    return room < keep || bytes > room - keep;
}

void queue_space_set_used(struct queue_space *space, uint64_t used_bytes)
{
    atomic_store(&space->used_bytes, used_bytes);
}

bool queue_space_release(struct queue_space *space)
{
    char path[4096];
    path_of(space, "ballast", path);
    atomic_store(&space->free_bytes, 0); /* until the next look, whatever the last one said */
    atomic_store(&space->looked_ms, monotonic_ms());
    atomic_store(&space->released, true);
    space->settled = false;
    return unlink(path) == 0;
}

bool queue_space_ran_out(const struct queue_space *space)
{
    struct statvfs fs;
    return statvfs(space->folder, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < RAN_OUT;
}

void queue_space_restore(struct queue_space *space)
{
    char path[4096];
    struct stat st;
    uint64_t want = space->ballast_bytes;
    if (space->settled)
        return;
    look_now_and_then(space);
    if (atomic_load(&space->free_bytes) < space->low_bytes + 2 * want)
        return;
    path_of(space, "ballast", path);
    space->settled = true; /* also if it cannot be made: not again before the next ENOSPC */
    atomic_store(&space->released, false);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    /* fallocate, not posix_fallocate: where the file system cannot, 16 MiB are not worth writing
     * out. */
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < want && fallocate(fd, 0, 0, (off_t)want) != 0)
        (void)unlink(path);
    (void)close(fd);
}
