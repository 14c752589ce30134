/* mta/deliver/scheduler_slots.c - the table of units in memory, by id and number. Buckets are
 * chosen by id and the number's group, so that the units of one message are found without knowing
 * their numbers, and a message to very many domains does not make one long chain. */
#include <stdlib.h>

#include "mta/deliver/scheduler_private.h"

static size_t bucket_of(const struct slots *slots, uint64_t id, unsigned group)
{
    uint64_t x = id + (uint64_t)group * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 33; /* ids are times: their low bits hardly change */
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    return (size_t)x & slots->mask;
}

static void make_buckets(struct slots *slots, size_t expected)
{
    size_t count = 1024;
    while (count < expected)
        count *= 2;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
    slots->buckets = mem_alloc(count * sizeof *slots->buckets);
    slots->mask = count - 1;
}

void slots_init(struct slots *slots, size_t expected)
{
    *slots = (struct slots){0};
    make_buckets(slots, expected);
}

void slots_deinit(struct slots *slots)
{
    for (size_t i = 0; i <= slots->mask; i++) {
        while (slots->buckets[i] != NULL) {
            struct slot *slot = slots->buckets[i];
            slots->buckets[i] = slot->next_in_bucket;
            free(slot);
        }
    }
    free(slots->buckets);
    *slots = (struct slots){0};
}

static void put(struct slots *slots, struct slot *slot)
{
    size_t bucket = bucket_of(slots, slot->unit.id, slot->unit.number / SLOT_GROUP);
    slot->next_in_bucket = slots->buckets[bucket];
    slots->buckets[bucket] = slot;
}

void slots_resize(struct slots *slots, size_t expected)
{
    struct slots old = *slots;
    make_buckets(slots, expected);
    for (size_t i = 0; i <= old.mask; i++) {
        while (old.buckets[i] != NULL) {
            struct slot *slot = old.buckets[i];
            old.buckets[i] = slot->next_in_bucket;
            put(slots, slot);
        }
    }
    free(old.buckets);
}

struct slot *slots_find(const struct slots *slots, uint64_t id, uint16_t number)
{
    struct slot *slot = slots->buckets[bucket_of(slots, id, number / SLOT_GROUP)];
    while (slot != NULL && (slot->unit.id != id || slot->unit.number != number))
        slot = slot->next_in_bucket;
    return slot;
}

struct slot *slots_add(struct slots *slots, uint64_t id, uint16_t number)
{
    struct slot *slot = mem_alloc(sizeof *slot);
    slot->unit.id = id;
    slot->unit.number = number;
    put(slots, slot);
    slots->count++;
    if (number >= SLOT_GROUP) {
        slots->beyond++;
        if (number > slots->highest)
            slots->highest = number;
    }
    return slot;
}

void slots_remove(struct slots *slots, struct slot *slot)
{
    size_t bucket = bucket_of(slots, slot->unit.id, slot->unit.number / SLOT_GROUP);
    struct slot **at = &slots->buckets[bucket];
    while (*at != slot)
        at = &(*at)->next_in_bucket;
    *at = slot->next_in_bucket;
    slots->count--;
    if (slot->unit.number >= SLOT_GROUP && --slots->beyond == 0)
        slots->highest = 0;
    free(slot);
}

void slots_each(const struct slots *slots, uint64_t id, void (*fn)(struct slot *slot, void *ctx),
                void *ctx)
{
    unsigned groups = slots->highest / SLOT_GROUP + 1u;
    for (unsigned group = 0; group < groups; group++) {
        struct slot *slot = slots->buckets[bucket_of(slots, id, group)];
        for (; slot != NULL; slot = slot->next_in_bucket) {
            if (slot->unit.id == id && slot->unit.number / SLOT_GROUP == group)
                fn(slot, ctx);
        }
    }
}
