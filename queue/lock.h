/* queue/lock.h - one process holds a queue folder: file `lock` with its pid, host and pid namespace.
 * LMDB itself refuses nobody. */
#ifndef QUEUE_LOCK_H
#define QUEUE_LOCK_H

#include <stddef.h>

#include "queue/queue.h"

/* Make the folder if absent and take its lock; also refuses a second open in the same process.
 * @return 0, QUEUE_ERR_LOCKED (error names the holder's pid), QUEUE_ERR_IO; fd_out is owned */
QUEUE_MUST_USE int queue_lock_take(const char *folder, int *fd_out, char *error, size_t error_size);
void queue_lock_drop(int *fd);

#endif
