/* config/scalar.h - one value of a setting, by the kind of its row in the schema. */
#ifndef CONFIG_SCALAR_H
#define CONFIG_SCALAR_H

#include "config/arena.h"
#include "config/report.h"
#include "config/schema.h"

struct scalar_context {
    struct arena *arena; /* owns strings */
    const char *folder;  /* base of relative paths */
};

/**
 * Parse the text of one value, or of one element of a list.
 *
 * @param value_out   of the row's field or element; NULL: the row is checked and stored nowhere
 * @param second_out  of the row's second field (kinds SCHEMA_LOG, SCHEMA_SOURCE*), else NULL
 * @return true; false: *why has "expected ..." or "not available ..."
 */
bool scalar_parse(const struct scalar_context *context, const struct schema_key *key,
                  const char *text, void *value_out, void *second_out, struct reason *why);

/* "expected ..." for a value that is missing or no scalar at all. */
void scalar_expected(const struct schema_key *key, struct reason *why);

#endif
