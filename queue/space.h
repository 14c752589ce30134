/* queue/space.h - is there room: the configured maximum, the disk, the ballast file. Private to
 * queue/. */
#ifndef QUEUE_SPACE_H
#define QUEUE_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct queue_space {
    char *folder;
    uint64_t max_bytes;
    uint64_t tight_bytes;        /* of pages in use: half of the map's reserve is gone */
    uint64_t low_bytes;          /* less than this free on disk is nearly full */
    uint64_t ballast_bytes;      /* what the ballast file should hold */
    bool settled;                /* nothing to do about the ballast; writer's thread */
    int64_t restore_ms;          /* not before this monotonic time; writer's thread */
    _Atomic bool released;       /* the ballast was given back and is not made again yet */
    _Atomic bool denied;         /* the system refuses blocks that statvfs calls free: a quota */
    _Atomic uint64_t used_bytes; /* pages in use, as of the last commit */
    _Atomic uint64_t room_bytes; /* what the database could grow to, as of the last look */
    _Atomic int64_t looked_ms;   /* monotonic time of the last look */
};

void queue_space_init(struct queue_space *space, const char *folder, uint64_t max_bytes,
                      uint64_t tight_bytes);
void queue_space_deinit(struct queue_space *space);

/* Any thread: would bytes more be too many? Looks at the disk at most once a second. */
bool queue_space_is_full(struct queue_space *space, uint64_t bytes);

/* Writer's thread: is the rest of the map needed for what must not fail, the ends of messages? */
bool queue_space_is_tight(const struct queue_space *space);

/* Writer's thread, after a commit. */
void queue_space_set_used(struct queue_space *space, uint64_t used_bytes);
/* Writer's thread, after ENOSPC: give the ballast back. @return whether there was one */
bool queue_space_release(struct queue_space *space);
/* Writer's thread: is there no room at all just now? LMDB reports a write that was cut short by a
 * full disk, or by a quota, as EIO. */
bool queue_space_ran_out(const struct queue_space *space);
/* Writer's thread: make the ballast when the disk has room for it; tries at most once a second. */
void queue_space_restore(struct queue_space *space);
/* Writer's thread: when it must be tried again even if there is nothing else to do, in nanoseconds
 * of the monotonic clock; INT64_MAX: no need. */
int64_t queue_space_wake_ns(const struct queue_space *space);

#endif
