/* mta/control/ages.c - see ages.h: an open-addressing table of names, their text in one piece of
 * memory. */
#include "mta/control/ages.h"

#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 256 /* with its NUL */

const unsigned ages_minutes[AGES_COLUMNS - 1] = {5, 10, 20, 40, 80, 160, 320, 640, 1280};

struct entry {
    uint32_t name; /* where it begins in `text` */
    uint32_t hash;
    uint32_t total;
    uint32_t counts[AGES_COLUMNS];
};

struct ages {
    size_t max, count;
    struct entry *entries;
    uint32_t *slots; /* index + 1 of an entry, 0: none */
    uint32_t slot_mask;
    char *text; /* names one behind the other, NUL-terminated */
    size_t text_len, text_size;
    uint32_t *order;  /* of the entries, room for ages_rows */
    uint64_t dropped; /* names that were counted as others, each time */
    struct ages_row all;
};

struct ages *ages_new(size_t names_max)
{
    struct ages *ages = mem_alloc(sizeof *ages);
    uint32_t slots = 4;
    while (slots < names_max * 2)
        slots *= 2;
    ages->max = names_max;
    ages->entries = mem_alloc(names_max * sizeof *ages->entries);
    ages->order = mem_alloc(names_max * sizeof *ages->order);
    ages->slots = mem_alloc(slots * sizeof *ages->slots);
    ages->slot_mask = slots - 1;
    ages->text = mem_alloc(NAME_SIZE);
    ages->text_size = NAME_SIZE;
    ages->all.name = "";
    return ages;
}

void ages_free(struct ages **agesp)
{
    struct ages *ages = *agesp;
    if (ages == NULL)
        return;
    free(ages->entries);
    free(ages->order);
    free(ages->slots);
    free(ages->text);
    free(ages);
    *agesp = NULL;
}

static uint32_t hash_name(const char *name) /* FNV-1a */
{
    uint32_t hash = 2166136261U;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619U;
    return hash;
}

/* The slot of the name, or the free one where it belongs. */
static uint32_t *find_slot(const struct ages *ages, const char *name, uint32_t hash)
{
    uint32_t at = hash & ages->slot_mask;
    while (ages->slots[at] != 0) {
        const struct entry *entry = &ages->entries[ages->slots[at] - 1];
        if (entry->hash == hash && strcmp(ages->text + entry->name, name) == 0)
            break;
        at = (at + 1) & ages->slot_mask;
    }
    return &ages->slots[at];
}

static int compare(const void *a, const void *b, void *arg)
{
    const struct ages *ages = arg;
    const struct entry *x = &ages->entries[*(const uint32_t *)a];
    const struct entry *y = &ages->entries[*(const uint32_t *)b];
    if (x->total != y->total)
        return x->total < y->total ? 1 : -1;
    return strcmp(ages->text + x->name, ages->text + y->name);
}

static void sort(struct ages *ages)
{
    for (size_t i = 0; i < ages->count; i++)
        ages->order[i] = (uint32_t)i;
    qsort_r(ages->order, ages->count, sizeof *ages->order, compare, ages);
}

static uint32_t keep_name(struct ages *ages, const char *name)
{
    size_t len = strlen(name) + 1;
    if (ages->text_size - ages->text_len < len) {
        ages->text_size = ages->text_size * 2 + NAME_SIZE;
        ages->text = mem_grow(ages->text, ages->text_size);
    }
    memcpy(ages->text + ages->text_len, name, len);
    ages->text_len += len;
    return (uint32_t)(ages->text_len - len);
}

/* The larger half stays. */
static void make_room(struct ages *ages)
{
    size_t keep = ages->max / 2;
    char *old_text = ages->text;
    struct entry *old = ages->entries;
    sort(ages);
    ages->entries = mem_alloc(ages->max * sizeof *ages->entries);
    ages->text = mem_alloc(NAME_SIZE);
    ages->text_len = 0;
    ages->text_size = NAME_SIZE;
    memset(ages->slots, 0, ((size_t)ages->slot_mask + 1) * sizeof *ages->slots);
    ages->dropped += ages->count - keep;
    for (size_t i = 0; i < keep; i++) {
        const struct entry *from = &old[ages->order[i]];
        ages->entries[i] = *from;
        ages->entries[i].name = keep_name(ages, old_text + from->name);
        *find_slot(ages, old_text + from->name, from->hash) = (uint32_t)i + 1;
    }
    ages->count = keep;
    free(old);
    free(old_text);
}

static size_t column_of(int64_t age_s)
{
    size_t column = 0;
    while (column < AGES_COLUMNS - 1 && age_s >= (int64_t)ages_minutes[column] * 60)
        column++;
    return column;
}

void ages_add(struct ages *ages, struct str name, int64_t age_s)
{
    char text[NAME_SIZE];
    size_t column = column_of(age_s);
    size_t len = name.len < NAME_SIZE ? name.len : NAME_SIZE - 1;
    if (len > 0)
        memcpy(text, name.p, len);
    text[len] = '\0';
    str_lower(text, len);
    uint32_t hash = hash_name(text);
    uint32_t *slot = find_slot(ages, text, hash);
    if (*slot == 0 && ages->count == ages->max) {
        make_room(ages);
        slot = find_slot(ages, text, hash);
    }
    if (*slot == 0) {
        ages->entries[ages->count] = (struct entry){.name = keep_name(ages, text), .hash = hash};
        *slot = (uint32_t)++ages->count;
    }
    struct entry *entry = &ages->entries[*slot - 1];
    entry->total++;
    entry->counts[column]++;
    ages->all.total++;
    ages->all.counts[column]++;
}

void ages_total(const struct ages *ages, struct ages_row *total_out)
{
    *total_out = ages->all;
}

size_t ages_rows(struct ages *ages, struct ages_row *rows_out, size_t max)
{
    size_t count = ages->count < max ? ages->count : max;
    sort(ages);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &ages->entries[ages->order[i]];
        rows_out[i] = (struct ages_row){.name = ages->text + entry->name, .total = entry->total};
        for (size_t c = 0; c < AGES_COLUMNS; c++)
            rows_out[i].counts[c] = entry->counts[c];
    }
    return count;
}

bool ages_others(const struct ages *ages, const struct ages_row *rows, size_t count,
                 struct ages_row *others_out, uint64_t *names_out)
{
    *others_out = ages->all;
    for (size_t i = 0; i < count; i++) {
        others_out->total -= rows[i].total;
        for (size_t c = 0; c < AGES_COLUMNS; c++)
            others_out->counts[c] -= rows[i].counts[c];
    }
    *names_out = ages->count - count;
    return ages->dropped > 0;
}
