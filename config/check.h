/* config/check.h - what needs two settings together, and the defaults that depend on others. */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/build.h"

/**
 * Finish a configuration that build_config() filled.
 *
 * @param root  the tree, for positions
 * @return 0; -1: the report says where and why. May ask the resolver for the machine's name.
 */
CONFIG_MUST_USE int check_config(const struct build *build, const struct node *root,
                                 struct config *config);

#endif
