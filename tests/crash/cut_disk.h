/* tests/crash/cut_disk.h - the disk behind a record of calls (cut_log.h): what is surely on it at a
 * point of the record, and what it may look like when the power is cut there.
 *
 * Model. Sure is what ended before a sync began that ended well, and a synced (O_DSYNC) write that
 * ended well, with the older bytes of its page and nothing else. Of all other writes any part may
 * be there, in sectors of 512 bytes, but of two writes to one place not the older without room for
 * the newer: they share a page of the cache. A sync that failed drops what it should have written:
 * some of it is on disk, the rest never will be by a later sync. Nothing about order follows from
 * anything else. */
#ifndef TESTS_CRASH_CUT_DISK_H
#define TESTS_CRASH_CUT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crash/cut_log.h"

/* Deliberately wrong readings of the record: with these, what the queue promises cannot hold. */
enum cut_mutant {
    CUT_HONEST,
    CUT_NO_SYNC,  /* no sync did anything */
    CUT_NO_DSYNC, /* a write through a synced descriptor was like any other */
};

/* What of the uncertain survives. */
enum cut_choice {
    CUT_NOTHING,
    CUT_ALL,
    CUT_ONLY_LAST,
    CUT_ALL_BUT_FIRST,
    CUT_ONLY_META, /* only what is under way through a synced descriptor */
    CUT_ALL_BUT_META,
    CUT_ONLY_SIZE,    /* the file has grown, what should fill it is zero */
    CUT_IN_ORDER,     /* up to some write, which is torn */
    CUT_WHOLE_WRITES, /* some of them, each whole */
    CUT_PAGES,        /* some 4096-byte pages of each */
    CUT_SECTORS,      /* some 512-byte sectors of each */
    CUT_CHOICES,
};
extern const char *const cut_choice_names[CUT_CHOICES];

struct cut_disk;

/* log: a file of records; image (len bytes) is the file as it was before, all of it on disk. Ends
 * the process if the log does not make sense. */
struct cut_disk *cut_disk_new(const char *log, const void *image, size_t len,
                              enum cut_mutant mutant, uint64_t seed);
void cut_disk_free(struct cut_disk **diskp);

/* Number of records in the log. */
size_t cut_disk_records(const struct cut_disk *disk);
/* The next record, after its effect. bytes_out: of a mark, borrowed until free. @return false: the
 * end
 */
bool cut_disk_next(struct cut_disk *disk, struct cut_record *record_out, const void **bytes_out);
/* How many writes are uncertain now. */
size_t cut_disk_uncertain(const struct cut_disk *disk);

/* Make the file behind fd what a power cut just now may leave. Changes only what differs. seed: of
 * the random choices. */
void cut_disk_crash(struct cut_disk *disk, enum cut_choice choice, uint64_t seed, int fd);
/* Is the file what the process has done to it? To be asked at the end of a record without failed
 * calls. */
bool cut_disk_is_whole(struct cut_disk *disk, const char *path);

/* A small generator of our own, so that a seed gives the same run everywhere. */
uint32_t cut_roll(uint64_t *random, uint32_t below);

#endif
