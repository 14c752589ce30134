/* config/report.h - how a problem in the file becomes one printable line. */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include "config/config.h"

struct report {
    const char *name;           /* the file, as the user wrote it */
    struct config_error *error; /* where the text goes */
};

/* A place in the file; line 0: the file as a whole. Both count from 1. */
struct place {
    uint32_t line, column;
};

/**
 * Write "file:line:column: key: text".
 *
 * @param key  dotted name of the setting, or NULL
 * @return always -1, so that callers can return it
 */
int report_at(const struct report *report, struct place place, const char *key, const char *format,
              ...) __attribute__((format(printf, 4, 5)));

/* The beginning of a foreign text in quotes, control characters replaced: safe to print. */
struct excerpt {
    char text[68];
};
struct excerpt excerpt_of(const char *text);

/* What a value should have been: "expected ...", or "not available in this version ...". */
struct reason {
    char text[320];
};

/* @return always false, so that parsers can return it */
bool reason_set(struct reason *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
