/* config/arena.c - blocks in a list, filled from the front. */
#include "config/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char bytes[];
};

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    if (size < BLOCK_BYTES)
        size = BLOCK_BYTES;
    struct arena_block *block = calloc(1, sizeof *block + size);
    if (block == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    block->size = size;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t align = alignof(max_align_t);
    size = (size + align - 1) / align * align;
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->size - block->used < size)
        block = add_block(arena, size);
    void *p = block->bytes + block->used;
    block->used += size;
    return p;
}

char *arena_copy(struct arena *arena, const char *bytes, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    memcpy(copy, bytes, len);
    return copy;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
