/* config/arena.h - memory that dies together: the node tree of one parse, or one configuration. */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include <stddef.h>

struct arena_block;

/* All zero is an empty arena. */
struct arena {
    struct arena_block *blocks;
};

/* Zeroed and aligned for anything; size 0 gives a valid pointer. Out of memory ends the process:
 * the file is bounded (1 MiB), so what is asked for here is bounded too. */
void *arena_alloc(struct arena *arena, size_t size);

/* A NUL-terminated copy of len bytes. */
char *arena_copy(struct arena *arena, const char *bytes, size_t len);

/* Frees everything; the arena is empty again. */
void arena_free(struct arena *arena);

#endif
