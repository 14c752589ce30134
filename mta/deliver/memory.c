/* mta/deliver/memory.c - facts about hosts. A fixed table: an older fact in the same place gives
 * way. */
#include "mta/deliver/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACES ((size_t)4096)
#define WAYS   ((size_t)4)

struct fact {
    uint64_t until_ms;
    uint8_t kind;
    char key[MEMORY_KEY_MAX];
};

struct memory {
    pthread_mutex_t lock;
    struct fact facts[PLACES];
};

void memory_place(char key[MEMORY_KEY_MAX], const char *address, uint16_t port)
{
    snprintf(key, MEMORY_KEY_MAX, "%.47s:%u", address, port);
}

struct memory *memory_new(void)
{
    struct memory *memory = mem_alloc(sizeof *memory);
    pthread_mutex_init(&memory->lock, NULL);
    return memory;
}

void memory_free(struct memory **memoryp)
{
    if (*memoryp == NULL)
        return;
    pthread_mutex_destroy(&(*memoryp)->lock);
    free(*memoryp);
    *memoryp = NULL;
}

/* FNV-1a; the four places from here on may hold the fact. */
static size_t place_of(enum memory_fact kind, const char *key)
{
    uint32_t hash = 2166136261u ^ (uint32_t)kind;
    for (const char *p = key; *p != '\0'; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    return (hash / 16) % (PLACES / WAYS) * WAYS;
}

static struct fact *find(struct memory *memory, enum memory_fact kind, const char *key)
{
    struct fact *first = &memory->facts[place_of(kind, key)];
    for (size_t i = 0; i < WAYS; i++) {
        if (first[i].until_ms != 0 && first[i].kind == (uint8_t)kind &&
            strcmp(first[i].key, key) == 0)
            return &first[i];
    }
    return NULL;
}

void memory_learn(struct memory *memory, enum memory_fact kind, const char *key, uint64_t until_ms)
{
    pthread_mutex_lock(&memory->lock);
    struct fact *fact = find(memory, kind, key);
    if (fact == NULL) {
        struct fact *first = &memory->facts[place_of(kind, key)];
        fact = first;
        for (size_t i = 1; i < WAYS; i++) {
            if (first[i].until_ms < fact->until_ms)
                fact = &first[i];
        }
    }
    fact->kind = (uint8_t)kind;
    fact->until_ms = until_ms;
    snprintf(fact->key, sizeof fact->key, "%s", key);
    pthread_mutex_unlock(&memory->lock);
}

void memory_forget(struct memory *memory, enum memory_fact kind, const char *key)
{
    pthread_mutex_lock(&memory->lock);
    struct fact *fact = find(memory, kind, key);
    if (fact != NULL)
        fact->until_ms = 0;
    pthread_mutex_unlock(&memory->lock);
}

bool memory_knows(struct memory *memory, enum memory_fact kind, const char *key, uint64_t now_ms)
{
    pthread_mutex_lock(&memory->lock);
    const struct fact *fact = find(memory, kind, key);
    bool known = fact != NULL && fact->until_ms > now_ms;
    pthread_mutex_unlock(&memory->lock);
    return known;
}
