/* config/alias.c - see alias.h. */
#include "config/alias.h"

#include "config/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The dotted name of one alias, for messages. */
struct alias_key {
    char text[96];
};

static struct alias_key key_of(const char *name)
{
    struct alias_key key;
    snprintf(key.text, sizeof key.text, "aliases.%.64s", name);
    return key;
}

static const char *copy_lower(struct arena *arena, const char *text)
{
    char *copy = arena_copy(arena, text, strlen(text));
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    return copy;
}

static int set_target(const struct build *b, const char *name, const struct node *node,
                      const char **target_out)
{
    struct reason why = {""};
    const char *text = node->kind == NODE_SCALAR && !node_is_null(node) ? node->text : "";
    if (!value_mailbox(text, false, &why))
        return report_at(b->report, node->place, key_of(name).text, "%s, found %s", why.text,
                         node_describe(node).text);
    *target_out = arena_copy(b->arena, text, strlen(text));
    return 0;
}

static int set_alias(const struct build *b, const struct node *node, struct config_alias *alias)
{
    struct reason why = {""};
    if (!value_alias(node->key, &why))
        return report_at(b->report, node->key_place, key_of(node->key).text, "%s", why.text);
    if (node->kind == NODE_LIST && node->count == 0)
        return report_at(b->report, node->place, key_of(node->key).text,
                         "expected at least one address (or leave the name out), found []");
    size_t count = node->kind == NODE_LIST ? node->count : 1;
    const char **targets = arena_alloc(b->arena, count * sizeof *targets);
    const struct node *child = node->kind == NODE_LIST ? node->first : node;
    for (size_t i = 0; i < count; i++, child = child->next) {
        if (set_target(b, node->key, child, &targets[i]) < 0)
            return -1;
    }
    alias->name = copy_lower(b->arena, node->key);
    alias->targets = targets;
    alias->target_count = count;
    alias->line = node->key_place.line;
    return 0;
}

/* ---- names given twice, circles ---- */

/* An alias by its name; sorted by it, for looking up. */
struct entry {
    const struct config_alias *alias;
    const struct node *node;
    enum { FRESH, OPEN, DONE } state; /* of the walk */
    size_t next;                      /* the target to follow next */
};

static int compare_names(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    int order = strcmp(left->alias->name, right->alias->name);
    if (order != 0)
        return order;
    struct place a_place = left->node->key_place, b_place = right->node->key_place;
    if (a_place.line != b_place.line)
        return a_place.line < b_place.line ? -1 : 1;
    return a_place.column < b_place.column ? -1 : 1;
}

static int compare_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct entry *)entry)->alias->name);
}

static struct entry *find(struct arena *scratch, struct entry *entries, size_t count,
                          const char *target)
{
    if (strchr(target, '@') != NULL)
        return NULL;
    return bsearch(copy_lower(scratch, target), entries, count, sizeof *entries, compare_name);
}

static int refuse_twins(const struct build *b, const struct entry *entries, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (strcmp(entries[i - 1].alias->name, entries[i].alias->name) == 0)
            return report_at(
                b->report, entries[i].node->key_place, key_of(entries[i].node->key).text,
                "given twice: the first is at line %u", entries[i - 1].node->key_place.line);
    }
    return 0;
}

static int compare_aliases(const void *a, const void *b)
{
    return strcmp(((const struct config_alias *)a)->name, ((const struct config_alias *)b)->name);
}

/* Depth first without recursion: `path` holds the chain at hand. */
static int refuse_circle(const struct build *b, struct arena *scratch, struct entry *entries,
                         size_t count, struct entry *start, struct entry **path)
{
    size_t depth = 1;
    path[0] = start;
    start->state = OPEN;
    while (depth > 0) {
        struct entry *top = path[depth - 1];
        if (top->next == top->alias->target_count) {
            top->state = DONE;
            depth--;
            continue;
        }
        struct entry *to = find(scratch, entries, count, top->alias->targets[top->next++]);
        if (to == NULL || to == top || to->state == DONE)
            continue;
        if (to->state == OPEN)
            return report_at(b->report, to->node->key_place, key_of(to->node->key).text,
                             "goes round in a circle by way of `%s`", top->alias->name);
        to->state = OPEN;
        path[depth++] = to;
    }
    return 0;
}

static int check_aliases(const struct build *b, const struct node *node,
                         const struct config_alias *aliases)
{
    struct arena scratch = {0};
    size_t count = node->count;
    struct entry *entries = arena_alloc(&scratch, count * sizeof *entries);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
    struct entry **path = arena_alloc(&scratch, count * sizeof *path);
    const struct node *child = node->first;
    for (size_t i = 0; i < count; i++, child = child->next)
        entries[i] = (struct entry){.alias = &aliases[i], .node = child};
    qsort(entries, count, sizeof *entries, compare_names);
    int rc = refuse_twins(b, entries, count);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (entries[i].state == FRESH)
            rc = refuse_circle(b, &scratch, entries, count, &entries[i], path);
    }
    arena_free(&scratch);
    return rc;
}

int alias_build(const struct build *build, const struct node *node,
                struct config_alias **aliases_out)
{
    if (node->kind != NODE_MAP)
        return report_at(build->report, node->place, "aliases",
                         "expected a mapping of names to addresses, such as {root: "
                         "admin@example.com}, found %s",
                         node_describe(node).text);
    struct config_alias *aliases = arena_alloc(build->arena, node->count * sizeof *aliases);
    const struct node *child = node->first;
    for (size_t i = 0; i < node->count; i++, child = child->next) {
        if (set_alias(build, child, &aliases[i]) < 0)
            return -1;
    }
    if (node->count > 0 && check_aliases(build, node, aliases) < 0)
        return -1;
    qsort(aliases, node->count, sizeof *aliases, compare_aliases);
    *aliases_out = aliases;
    return 0;
}
