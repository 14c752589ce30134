/* config/build.h - the node tree, checked against the schema's table, becomes the structure. */
#ifndef CONFIG_BUILD_H
#define CONFIG_BUILD_H

#include "config/node.h"

struct build {
    const struct report *report;
    struct arena *arena; /* owns what the configuration points to */
    const char *folder;  /* absolute; the base of relative paths */
};

/**
 * Fill `config` (zeroed) with values and defaults, each value checked for itself.
 *
 * @return 0; -1: the report says where and what was expected
 *
 * What needs two settings together is check.c's matter, and so are hostname without a value
 * (stays NULL) and the control socket's folder.
 */
CONFIG_MUST_USE int build_config(const struct build *build, const struct node *root,
                                 struct config *config);

/* `path` itself if absolute, else below the folder. */
const char *build_path(struct arena *arena, const char *folder, const char *path);

#endif
