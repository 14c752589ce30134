/* queue/file.h - the database's file itself: brought into being whole, and its two meta pages made
 * sure of. Private to queue/. Whoever holds the folder's lock; no LMDB environment open on it. */
#ifndef QUEUE_FILE_H
#define QUEUE_FILE_H

#include <stddef.h>

#include "queue/queue.h"

/* Make data.mdb if it is absent or empty, under another name first: whatever moment the power is
 * cut at, the file is absent or a database. @return 0 or LMDB's code */
QUEUE_MUST_USE int queue_file_make(const char *folder);

/**
 * Write the meta pages once more as they are read, and sync.
 *
 * After a failed write the page cache may hold what the disk does not, and no longer knows: a sync
 * alone would then write nothing and succeed. @return 0 or errno: what is read may not be on disk
 */
QUEUE_MUST_USE int queue_file_settle(const char *folder);

/**
 * See that lock.mdb, LMDB's list of readers, has blocks for so many bytes.
 *
 * LMDB maps it and stores into it: a page without a block would end the process once the disk is
 * full. @return 0 or errno: there is no room for it
 */
QUEUE_MUST_USE int queue_file_fill_lock(const char *folder, size_t bytes);

/* Make the names in a folder durable. @return 0 or errno; a file system that knows no such sync is
 * no error */
QUEUE_MUST_USE int queue_file_sync_folder(const char *folder);

#endif
