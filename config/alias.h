/* config/alias.h - the aliases: the one mapping whose keys are names that the user chooses. */
#ifndef CONFIG_ALIAS_H
#define CONFIG_ALIAS_H

#include "config/build.h"
#include "config/config.h"
#include "config/node.h"

/**
 * Build the list of aliases from the value of the key `aliases`.
 *
 * @param aliases_out node->count of them, in the arena; written on success only
 * @return 0; -1: reported
 *
 * Sorted by name, for looking up. Names are lower-cased; two that differ in case only are the same name given twice. A chain of
 * aliases that comes back to its start is refused, but not an alias that names itself.
 */
CONFIG_MUST_USE int alias_build(const struct build *build, const struct node *node,
                                struct config_alias **aliases_out);

#endif
