/* config/node.h - YAML text to a tree in which every node knows its line and column.
 *
 * node.c is the only place that knows libyaml. The tree is plain: no aliases, anchors, tags,
 * merge keys or second documents. Scalars stay text; what they mean is the schema's matter. */
#ifndef CONFIG_NODE_H
#define CONFIG_NODE_H

#include "config/arena.h"
#include "config/report.h"

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    struct place place;
    const char *text; /* scalar: one line of valid UTF-8, NUL-terminated, no control characters */
    bool plain;       /* scalar: written without quotes */

    const char *key; /* member of a mapping: its key, else NULL */
    struct place key_place;

    struct node *first; /* list, mapping: the children in order of the file */
    struct node *next;
    size_t count;
};

/**
 * Parse a whole file.
 *
 * @param bytes     hostile; any content
 * @param arena     owns the tree
 * @param root_out  always a mapping; written on success only
 * @return 0; -1: not what we accept as YAML, the report has the place and the reason
 *
 * Duplicate and unknown keys are still in the tree.
 */
CONFIG_MUST_USE int node_parse(const struct report *report, struct arena *arena, const char *bytes,
                               size_t len, struct node **root_out);

/* The member of a mapping, or NULL; also when node is NULL or no mapping. */
const struct node *node_find(const struct node *node, const char *key);

/* A plain `null`, `~` or empty scalar, YAML's "nothing": a value that looks given and is not. */
bool node_is_null(const struct node *node);

/* "a mapping", "a list", "nothing" or the scalar's text in quotes. */
struct excerpt node_describe(const struct node *node);

#endif
