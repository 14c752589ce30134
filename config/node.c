/* config/node.c - libyaml's events to our tree, with bounds on depth and number of nodes. */
#include "config/node.h"

#include "config/scan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
    DEPTH_MAX = 10, /* the deepest setting, routes.match.recipients, needs 5 */
    NODES_MAX = 100000,
};

/* A collection that is still open. */
struct level {
    struct node *node;
    struct node **tail;
    const char *key; /* mapping: a key that waits for its value, else NULL */
    struct place key_place;
};

struct builder {
    const struct report *report;
    struct arena *arena;
    const char *bytes;
    size_t len;
    struct level levels[DEPTH_MAX];
    size_t depth;
    size_t nodes;
    struct node *root;
    unsigned documents;
};

static struct place place_of(yaml_mark_t mark)
{
    /* the file has at most 1 MiB, so both fit */
    return (struct place){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

static int fail(const struct builder *b, const yaml_event_t *event, const char *text)
{
    return report_at(b->report, place_of(event->start_mark), NULL, "%s", text);
}

/* Hang the node in: into the open collection, or as the root. */
static void attach(struct builder *b, struct node *node)
{
    if (b->depth == 0) {
        b->root = node;
        return;
    }
    struct level *level = &b->levels[b->depth - 1];
    node->key = level->key;
    node->key_place = level->key_place;
    level->key = NULL;
    *level->tail = node;
    level->tail = &node->next;
    level->node->count++;
}

static int add_node(struct builder *b, const yaml_event_t *event, enum node_kind kind,
                    struct node **node_out)
{
    if (++b->nodes > NODES_MAX)
        return fail(b, event, "too many values for a configuration");
    struct node *node = arena_alloc(b->arena, sizeof *node);
    node->kind = kind;
    node->place = place_of(event->start_mark);
    *node_out = node;
    return 0;
}

static bool expects_key(const struct builder *b)
{
    if (b->depth == 0)
        return false;
    const struct level *level = &b->levels[b->depth - 1];
    assert(level->node != NULL);
    return level->node->kind == NODE_MAP && level->key == NULL;
}

static int refuse_extras(const struct builder *b, const yaml_event_t *event,
                         const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor != NULL)
        return fail(b, event, "anchors (&name) are not supported: write the value out");
    if (tag != NULL)
        return fail(b, event, "tags (!name) are not supported: write the plain value");
    return 0;
}

static int take_scalar(struct builder *b, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (refuse_extras(b, event, event->data.scalar.anchor, event->data.scalar.tag) < 0)
        return -1;
    /* quoted scalars can bring in by escapes what the file itself may not contain */
    if (scan_has_control(text, len))
        return fail(b, event, "a value must be one line without control characters");

    if (expects_key(b)) {
        if (plain && strcmp(text, "<<") == 0)
            return fail(b, event, "merge keys (<<) are not supported: write the settings out");
        struct level *level = &b->levels[b->depth - 1];
        level->key = arena_copy(b->arena, text, len);
        level->key_place = place_of(event->start_mark);
        return 0;
    }
    struct node *node = NULL;
    if (add_node(b, event, NODE_SCALAR, &node) < 0)
        return -1;
    node->text = arena_copy(b->arena, text, len);
    node->plain = plain;
    attach(b, node);
    return 0;
}

static int open_collection(struct builder *b, const yaml_event_t *event, enum node_kind kind,
                           const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (refuse_extras(b, event, anchor, tag) < 0)
        return -1;
    if (expects_key(b))
        return fail(b, event,
                    "expected a name as key, found a list or mapping (an address such as "
                    "\"[::1]:587\" needs quotes)");
    if (b->depth == DEPTH_MAX)
        return fail(b, event, "nested too deep for a configuration");
    struct node *node = NULL;
    if (add_node(b, event, kind, &node) < 0)
        return -1;
    attach(b, node);
    b->levels[b->depth++] = (struct level){.node = node, .tail = &node->first};
    return 0;
}

static int take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++ > 0)
            return fail(b, event, "a second document (---): a configuration is one document");
        return 0;
    case YAML_ALIAS_EVENT:
        return fail(b, event, "aliases (*name) are not supported: write the value out");
    case YAML_SCALAR_EVENT:
        return take_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(b, event, NODE_LIST, event->data.sequence_start.anchor,
                               event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return open_collection(b, event, NODE_MAP, event->data.mapping_start.anchor,
                               event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return 0;
    }
    return 0;
}

/* The commonest mistake with IPv6: [::1]:587 without quotes starts a list. */
static const char *hint_for(const struct builder *b, uint32_t line)
{
    const char *p = b->bytes, *end = b->bytes + b->len;
    for (uint32_t n = 1; n < line && p < end; n++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        p = eol != NULL ? eol + 1 : end;
    }
    const char *eol = memchr(p, '\n', (size_t)(end - p));
    size_t len = (size_t)((eol != NULL ? eol : end) - p);
    return memmem(p, len, "]:", 2) != NULL ? "; an address such as \"[::1]:587\" needs quotes" : "";
}

static int report_syntax(const struct builder *b, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        fputs("out of memory\n", stderr);
        abort();
    }
    struct place place = place_of(parser->problem_mark);
    const char *problem = parser->problem != NULL ? parser->problem : "unknown problem";
    const char *hint = hint_for(b, place.line);
    if (parser->context == NULL)
        return report_at(b->report, place, NULL, "not valid YAML: %s%s", problem, hint);
    return report_at(b->report, place, NULL, "not valid YAML: %s, %s that began at line %u%s",
                     problem, parser->context, place_of(parser->context_mark).line, hint);
}

static int read_events(struct builder *b, yaml_parser_t *parser)
{
    bool more = true;
    while (more) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return report_syntax(b, parser);
        more = event.type != YAML_STREAM_END_EVENT;
        int rc = take_event(b, &event);
        yaml_event_delete(&event);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_root(const struct builder *b)
{
    const struct node *root = b->root;
    struct place start = {1, 1};
    if (root == NULL || (root->kind == NODE_SCALAR && root->plain && root->text[0] == '\0'))
        return report_at(b->report, start, NULL,
                         "the file is empty: expected a mapping of settings");
    if (root->kind != NODE_MAP)
        return report_at(b->report, root->place, NULL,
                         "expected a mapping of settings (lines of \"name: value\"), found %s",
                         node_describe(root).text);
    return 0;
}

int node_parse(const struct report *report, struct arena *arena, const char *bytes, size_t len,
               struct node **root_out)
{
    static const char mark[] = "\xef\xbb\xbf"; /* some editors begin UTF-8 files with this */
    if (len >= 3 && memcmp(bytes, mark, 3) == 0) {
        bytes += 3;
        len -= 3;
    }
    if (scan_bytes(report, bytes, len) < 0)
        return -1;

    struct builder b = {.report = report, .arena = arena, .bytes = bytes, .len = len};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        fputs("out of memory\n", stderr);
        abort();
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);
    int rc = read_events(&b, &parser);
    yaml_parser_delete(&parser);
    if (rc == 0)
        rc = check_root(&b);
    if (rc == 0)
        *root_out = b.root;
    return rc;
}

const struct node *node_find(const struct node *node, const char *key)
{
    if (node == NULL || node->kind != NODE_MAP)
        return NULL;
    for (const struct node *child = node->first; child != NULL; child = child->next) {
        if (strcmp(child->key, key) == 0)
            return child;
    }
    return NULL;
}

bool node_is_null(const struct node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != NODE_SCALAR || !node->plain)
        return false;
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        if (strcmp(node->text, nulls[i]) == 0)
            return true;
    }
    return false;
}

struct excerpt node_describe(const struct node *node)
{
    switch (node->kind) {
    case NODE_LIST:
        return (struct excerpt){"a list"};
    case NODE_MAP:
        return (struct excerpt){"a mapping"};
    case NODE_SCALAR:
        break;
    }
    if (node->plain && node->text[0] == '\0')
        return (struct excerpt){"nothing"};
    return excerpt_of(node->text);
}
