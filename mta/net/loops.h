/* mta/net/loops.h - the loop threads: one libuv loop and thread each, and a mailbox into each.
 *
 * A session never leaves its loop. Work enters a loop from other threads only through loop_post. */
#ifndef MTA_NET_LOOPS_H
#define MTA_NET_LOOPS_H

#include <uv.h>

#include "mta/base/str.h"

struct loop;

typedef void (*loop_fn)(struct loop *loop, void *arg);

/* Makes `count` loops (1..64) and starts their threads (signals blocked in them). @return 0, -1 */
MUST_USE int loops_start(size_t count, struct loop ***loops_out);

/* Runs fn on the loop's thread on a later turn, in the order of posting. Any thread. One wake-up
 * for many posts. @return false: the loop is stopping, fn will not run */
bool loop_post(struct loop *loop, loop_fn fn, void *arg);

uv_loop_t *loop_uv(struct loop *loop);
size_t loop_index(const struct loop *loop);
/* Sessions on the loop, for "least busy": any thread reads, the loop's own thread changes. */
void loop_load_add(struct loop *loop, int delta);
int loop_load(const struct loop *loop);

/* Stops accepting posts, runs what was posted, waits for the threads. All handles that were opened
 * on a loop must have been closed by functions posted before; what is left open is a bug (asserts).
 * Frees. */
void loops_stop(struct loop ***loopsp, size_t count);

#endif
