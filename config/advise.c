/* config/advise.c - what to say about an unknown key (schema_advise of schema.h). */
#include "config/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_LEN_MAX = 32 }; /* longer than any key: no near miss */

/* A text that grows to the end of its array and is cut there. */
static void append(struct schema_advice *advice, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct schema_advice *advice, const char *format, ...)
{
    size_t used = strlen(advice->text);
    va_list args;
    va_start(args, format);
    vsnprintf(advice->text + used, sizeof advice->text - used, format, args);
    va_end(args);
}

static unsigned char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned char)(c - 'A' + 'a');
    return c == '-' ? '_' : (unsigned char)c;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Insertions, deletions and swaps of neighbours that lead from a to b; a change counts as two, so
 * that "lisen" is nearer to "listeners" than to "expire". Letter case and "-" for "_" are free. */
static unsigned distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > NAME_LEN_MAX || b_len > NAME_LEN_MAX)
        return UINT32_MAX;
    unsigned d[NAME_LEN_MAX + 1][NAME_LEN_MAX + 1];
    for (unsigned i = 0; i <= a_len; i++)
        d[i][0] = i;
    for (unsigned k = 0; k <= b_len; k++)
        d[0][k] = k;
    for (size_t i = 1; i <= a_len; i++) {
        for (size_t k = 1; k <= b_len; k++) {
            unsigned change = fold(a[i - 1]) != fold(b[k - 1]) ? 2 : 0;
            d[i][k] = least(least(d[i - 1][k] + 1, d[i][k - 1] + 1), d[i - 1][k - 1] + change);
            if (i > 1 && k > 1 && fold(a[i - 1]) == fold(b[k - 2]) &&
                fold(a[i - 2]) == fold(b[k - 1]))
                d[i][k] = least(d[i][k], d[i - 2][k - 2] + 1);
        }
    }
    return d[a_len][b_len];
}

/* The key nearest to the name, among equals one with its first letter; NULL if none is near. */
static const struct schema_key *nearest(const struct schema_map *map, const char *name,
                                        unsigned *distance_out)
{
    const struct schema_key *best = NULL;
    size_t best_rank = SIZE_MAX;
    for (size_t i = 0; i < map->count; i++) {
        const char *candidate = map->keys[i].name;
        size_t longer = strlen(candidate) > strlen(name) ? strlen(candidate) : strlen(name);
        unsigned d = distance(candidate, name);
        size_t rank = (size_t)d * 2 + (fold(candidate[0]) != fold(name[0]));
        if (d <= longer * 2 / 3 && rank < best_rank) {
            best = &map->keys[i];
            best_rank = rank;
            *distance_out = d;
        }
    }
    return best;
}

/* ("`key` belongs inside dkim, tls"), if another mapping has exactly this key. */
static void append_homes(struct schema_advice *advice, const struct schema_map *map,
                         const char *name)
{
    const char *before = "";
    for (size_t i = 0; i < schema_map_count; i++) {
        const struct schema_map *home = schema_maps[i];
        if (home == map || schema_find(home, name) == NULL)
            continue;
        if (before[0] == '\0')
            append(advice, "; `%s` belongs ", name);
        append(advice, "%s%s%s", before, home->name[0] != '\0' ? "inside " : "at the top level",
               home->name);
        before = " or ";
    }
}

/* A slip of one or two letters in another mapping's key, nearer than what this mapping has.
 * @return was there one? */
static bool append_near_home(struct schema_advice *advice, const struct schema_map *map,
                             const char *name, unsigned nearer_than, const char *joint)
{
    const struct schema_map *home = NULL;
    const struct schema_key *best = NULL;
    unsigned best_distance = least(nearer_than, 3);
    for (size_t i = 0; i < schema_map_count; i++) {
        unsigned d = UINT32_MAX;
        const struct schema_key *key = nearest(schema_maps[i], name, &d);
        if (schema_maps[i] != map && key != NULL && d < best_distance) {
            best = key;
            best_distance = d;
            home = schema_maps[i];
        }
    }
    if (best == NULL)
        return false;
    append(advice, "%s `%s` %s%s", joint, best->name,
           home->name[0] != '\0' ? "inside " : "at the top level", home->name);
    return true;
}

static void append_all(struct schema_advice *advice, const struct schema_map *map)
{
    append(advice, "; expected one of ");
    for (size_t i = 0; i < map->count; i++)
        append(advice, "%s%s", i > 0 ? ", " : "", map->keys[i].name);
}

struct schema_advice schema_advise(const struct schema_map *map, const char *name)
{
    struct schema_advice advice = {"unknown key"};
    size_t bare = strlen(advice.text);
    unsigned d = UINT32_MAX;
    append_homes(&advice, map, name);
    bool has_home = strlen(advice.text) > bare;
    const struct schema_key *near = nearest(map, name, &d);
    bool asks = near != NULL;
    if (near != NULL)
        append(&advice, "; did you mean `%s`", near->name);
    if (!has_home && append_near_home(&advice, map, name, d, asks ? " or" : "; did you mean"))
        asks = true;
    if (asks)
        append(&advice, "?");
    if (strlen(advice.text) == bare)
        append_all(&advice, map);
    return advice;
}
