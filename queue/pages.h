/* queue/pages.h - the pages of LMDB's file as they lie on disk: are its trees whole, and is every
 * page in use once, or free once? Private to queue/.
 *
 * LMDB itself trusts what it reads and may crash on a damaged file; this reads with pread, bounded,
 * and trusts nothing. The format is that of LMDB 0.9 (data version 1). */
#ifndef QUEUE_PAGES_H
#define QUEUE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

/* A problem in words. */
typedef void (*queue_pages_fn)(const char *text, void *ctx);

struct queue_pages {
    uint64_t txnid; /* of the state that was looked at */
    uint64_t page_bytes;
    uint64_t total; /* pages that state knows of */
    uint64_t used;
    uint64_t free;
    bool unreadable; /* LMDB should not be let near it */
    bool unwritable; /* reading is safe, but writing could overwrite what is in use */
};

struct queue_pages_options {
    uint64_t txnid; /* which of the two states in the file; 0: the newest */
    queue_pages_fn report;
    /* Called every now and then; false: stop. NULL: never. */
    bool (*pace)(void *ctx);
    void *ctx;
};

/* @return 0; 1: the file does not hold that state (any more); ECANCELED: pace said so; ENOMEM
 * never; else an errno of reading */
int queue_pages_check(int fd, const struct queue_pages_options *options,
                      struct queue_pages *pages_out);

#endif
