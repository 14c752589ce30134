/* tests/crash/cut_log.h - what shim_record.so writes down: every change of one file, every sync,
 * and the marks that the process puts in between, in the order in which the calls began.
 *
 * A call is a record of its kind when it begins and CUT_END when it has returned; `call` joins the
 * two. The shim reads from its environment
 *   CUT_BIRTH    the name under which that file begins, before it is renamed
 *   CUT_TARGET   the file whose changes are recorded (it may not exist yet)
 *   CUT_LOG      where to
 *   CUT_SYNC_US  how long a sync takes; nothing is really synced
 *   CUT_FAULTS   absent, or a seed: now and then a sync, a write or a synced write fails with EIO
 */
#ifndef TESTS_CRASH_CUT_LOG_H
#define TESTS_CRASH_CUT_LOG_H

#include <stdint.h>

enum cut_kind {
    CUT_WRITE = 1,   /* len bytes at offset, which follow */
    CUT_PUNCH,       /* len bytes at offset become zero */
    CUT_SIZE,        /* the file's size becomes offset */
    CUT_GROW,        /* the file's size becomes at least offset */
    CUT_SYNC,        /* all that ended before is on disk once this has ended well */
    CUT_FOLDER_SYNC, /* an fsync of a folder; offset: its inode */
    CUT_NAME,        /* the file got the name CUT_TARGET */
    CUT_END,         /* of `call`, with its result */
    CUT_MARK,        /* len bytes of the process's own, which follow */
};

enum {                /* flags of CUT_WRITE */
       CUT_DSYNC = 1, /* through an O_DSYNC or O_SYNC descriptor: on disk once it has ended well */
};

struct cut_record {
    uint32_t kind;
    uint32_t flags;
    uint64_t call;
    uint64_t offset;
    uint64_t len;
    int64_t result; /* of CUT_END: as the call returned it; below 0: it failed */
};

/* In shim_record.so, found by dlsym. Any thread. */
typedef void (*cut_mark_fn)(const void *bytes, uint64_t len);

#endif
