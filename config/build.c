/* config/build.c - walks table and tree side by side. Knows kinds, not settings. */
#include "config/build.h"

#include "config/alias.h"
#include "config/scalar.h"
#include "config/schema.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The dotted name of a setting. */
struct key_name {
    char text[96];
};

static struct key_name name_of(const struct schema_map *map, const char *key)
{
    struct key_name name;
    snprintf(name.text, sizeof name.text, "%s%s%.48s", map->name, map->name[0] != '\0' ? "." : "",
             key);
    return name;
}

static int fail_value(const struct build *b, const struct schema_map *map,
                      const struct schema_key *key, const struct node *node, const char *why)
{
    return report_at(b->report, node->place, name_of(map, key->name).text, "%s, found %s", why,
                     node_describe(node).text);
}

static bool scalar_is(const struct node *node, const char *text)
{
    return node->kind == NODE_SCALAR && strcmp(node->text, text) == 0;
}

/* Does the node hold the one value that means that the feature is not used? */
static bool means_absent(const struct node *node, const char *only)
{
    if (only == NULL)
        return false;
    if (strcmp(only, "[]") == 0)
        return node->kind == NODE_LIST && node->count == 0;
    if (strcmp(only, "{}") == 0)
        return node->kind == NODE_MAP && node->count == 0;
    return scalar_is(node, only);
}

static int check_absent(const struct build *b, const struct schema_map *map,
                        const struct schema_key *key, const struct node *node)
{
    if (means_absent(node, key->only))
        return 0;
    struct reason why = {""};
    if (key->only == NULL)
        reason_set(&why, "not available in this version (leave the key out)");
    else
        reason_set(&why, "not available in this version (allowed: %s)", key->only);
    return fail_value(b, map, key, node, why.text);
}

static int set_scalar(const struct build *b, const struct schema_map *map,
                      const struct schema_key *key, const struct node *node, void *value,
                      void *second)
{
    struct reason why = {""};
    const struct scalar_context context = {b->arena, b->folder};
    if (node->kind != NODE_SCALAR || node_is_null(node)) {
        scalar_expected(key, &why);
        return fail_value(b, map, key, node, why.text);
    }
    if (!scalar_parse(&context, key, node->text, value, second, &why))
        return fail_value(b, map, key, node, why.text);
    return key->only != NULL ? check_absent(b, map, key, node) : 0;
}

static void *field_of(void *base, struct schema_field field)
{
    return field.size > 0 ? (unsigned char *)base + field.offset : NULL;
}

/* The list's pointer and count are set once its elements stand. */
static void store_list(const struct schema_key *key, void *base, void *elements, size_t count)
{
    memcpy(field_of(base, key->field), &elements, sizeof elements);
    memcpy(field_of(base, key->second), &count, sizeof count);
}

/* The defaults are our own text: one that does not parse is a bug. */
static void set_fallback(const struct build *b, const struct schema_key *key, void *base)
{
    const struct scalar_context context = {b->arena, b->folder};
    struct reason why = {""};
    if (key->fallback == NULL)
        return;
    if (key->shape == SCHEMA_ONE) {
        bool good = scalar_parse(&context, key, key->fallback, field_of(base, key->field),
                                 field_of(base, key->second), &why);
        assert(good);
        return;
    }
    size_t count = 1;
    for (const char *p = key->fallback; *p != '\0'; p++)
        count += *p == ' ';
    unsigned char *elements = arena_alloc(b->arena, count * key->element);
    const char *word = key->fallback;
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(word, " ");
        bool good = scalar_parse(&context, key, arena_copy(b->arena, word, len),
                                 elements + i * key->element, NULL, &why);
        assert(good);
        word += len + 1;
    }
    store_list(key, base, elements, count);
}

static int build_map(const struct build *b, const struct schema_map *map, const struct node *node,
                     void *base);

/* A mapping in a list: its own structure. */
static int set_item_map(const struct build *b, const struct schema_map *map,
                        const struct schema_key *key, const struct node *node, void *element)
{
    if (node->kind != NODE_MAP)
        return fail_value(b, map, key, node, "expected a mapping (name: value) in each \"- \"");
    memcpy(field_of(element, key->map->line), &node->place.line, sizeof node->place.line);
    return build_map(b, key->map, node, element);
}

static int set_list(const struct build *b, const struct schema_map *map,
                    const struct schema_key *key, const struct node *node, void *base)
{
    if (node->count == 0 && !key->may_be_empty)
        return report_at(b->report, node->place, name_of(map, key->name).text,
                         "expected at least one entry (or leave the key out), found []");
    unsigned char *elements = arena_alloc(b->arena, node->count * key->element);
    unsigned char *element = elements;
    for (const struct node *child = node->first; child != NULL; child = child->next) {
        int rc = key->kind == SCHEMA_MAP ? set_item_map(b, map, key, child, element)
                                         : set_scalar(b, map, key, child, element, NULL);
        if (rc < 0)
            return rc;
        element += key->element;
    }
    store_list(key, base, elements, node->count);
    return 0;
}

/* A lone value where a list may stand: a list of one. */
static int set_lone(const struct build *b, const struct schema_map *map,
                    const struct schema_key *key, const struct node *node, void *base)
{
    void *element = arena_alloc(b->arena, key->element);
    if (set_scalar(b, map, key, node, element, NULL) < 0)
        return -1;
    store_list(key, base, element, 1);
    return 0;
}

/* A list is wanted and something else is there. */
static int refuse_no_list(const struct build *b, const struct schema_map *map,
                          const struct schema_key *key, const struct node *node)
{
    if (key->kind != SCHEMA_MAP)
        return fail_value(b, map, key, node, "expected a list in [ ]");
    if (node->kind == NODE_MAP) {
        /* a misspelt key in there is the more useful message */
        unsigned char *unused = arena_alloc(b->arena, key->element);
        if (set_item_map(b, map, key, node, unused) < 0)
            return -1;
    }
    return fail_value(b, map, key, node, "expected a list of mappings, each begun by \"- \"");
}

static int set_aliases(const struct build *b, const struct schema_key *key, const struct node *node,
                       void *base)
{
    struct config_alias *aliases = NULL;
    if (alias_build(b, node, &aliases) < 0)
        return -1;
    store_list(key, base, aliases, node->count);
    return 0;
}

static int set_key(const struct build *b, const struct schema_map *map,
                   const struct schema_key *key, const struct node *node, void *base)
{
    if (key->kind == SCHEMA_ABSENT)
        return check_absent(b, map, key, node);
    if (key->kind == SCHEMA_ALIASES)
        return set_aliases(b, key, node, base);
    if (key->shape != SCHEMA_ONE && node->kind == NODE_LIST)
        return set_list(b, map, key, node, base);
    if (key->shape == SCHEMA_ONE_OR_LIST)
        return set_lone(b, map, key, node, base);
    if (key->shape == SCHEMA_LIST)
        return refuse_no_list(b, map, key, node);
    if (key->kind != SCHEMA_MAP)
        return set_scalar(b, map, key, node, field_of(base, key->field),
                          field_of(base, key->second));
    if (node->kind != NODE_MAP)
        return fail_value(b, map, key, node, "expected a mapping (name: value)");
    return build_map(b, key->map, node, base);
}

/* In the order of the file, so that the first mistake is the one reported. */
static int set_given(const struct build *b, const struct schema_map *map, const struct node *node,
                     void *base)
{
    for (const struct node *child = node->first; child != NULL; child = child->next) {
        const struct schema_key *key = schema_find(map, child->key);
        if (key == NULL)
            return report_at(b->report, child->key_place, name_of(map, child->key).text, "%s",
                             schema_advise(map, child->key).text);
        const struct node *before = node_find(node, child->key);
        if (before != child)
            return report_at(b->report, child->key_place, name_of(map, child->key).text,
                             "given twice: the first is at line %u", before->key_place.line);
        if (set_key(b, map, key, child, base) < 0)
            return -1;
    }
    return 0;
}

/* node NULL: all defaults. */
static int build_map(const struct build *b, const struct schema_map *map, const struct node *node,
                     void *base)
{
    if (node != NULL && set_given(b, map, node, base) < 0)
        return -1;
    for (size_t i = 0; i < map->count; i++) {
        const struct schema_key *key = &map->keys[i];
        if (node_find(node, key->name) != NULL)
            continue;
        if (key->required && node != NULL) {
            struct reason why = {""};
            scalar_expected(key, &why);
            return report_at(b->report, node->place, name_of(map, key->name).text, "missing: %s",
                             why.text);
        }
        if (key->kind == SCHEMA_MAP && key->shape == SCHEMA_ONE) {
            if (build_map(b, key->map, NULL, base) < 0)
                return -1;
        } else {
            set_fallback(b, key, base);
        }
    }
    return 0;
}

int build_config(const struct build *build, const struct node *root, struct config *config)
{
    const struct schema_map *top = schema_maps[0];
    if (build_map(build, top, root, config) < 0)
        return -1;
    if (config->listener_count > 0)
        return 0;
    struct config_listener *listener = arena_alloc(build->arena, sizeof *listener);
    config->listeners = listener;
    config->listener_count = 1;
    return build_map(build, schema_find(top, "listeners")->map, NULL, listener);
}

const char *build_path(struct arena *arena, const char *folder, const char *path)
{
    if (path[0] == '/')
        return arena_copy(arena, path, strlen(path));
    while (path[0] == '.' && path[1] == '/')
        path += strspn(path + 1, "/") + 1;
    size_t folder_len = strlen(folder);
    while (folder_len > 0 && folder[folder_len - 1] == '/')
        folder_len--;
    size_t size = folder_len + 1 + strlen(path) + 1;
    char *joined = arena_alloc(arena, size);
    snprintf(joined, size, "%.*s/%s", (int)folder_len, folder, path);
    return joined;
}
