/* tests/tools/no_hooks.h - hooks of the queue for programs that need no news of it. */
#ifndef TESTS_TOOLS_NO_HOOKS_H
#define TESTS_TOOLS_NO_HOOKS_H

#include "queue/queue.h"

static inline void no_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    (void)units;
    (void)count;
    (void)ctx;
}

static inline void no_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx)
{
    (void)domain;
    (void)lane;
    (void)due_unix_ms;
    (void)ctx;
}

static inline void no_removed(uint64_t id, void *ctx)
{
    (void)id;
    (void)ctx;
}

#endif
