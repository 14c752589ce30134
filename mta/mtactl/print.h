/* mta/mtactl/print.h - the answers as people read them. Everything foreign is printed without
 * bytes that could steer a terminal. Pure but for the two streams. */
#ifndef MTA_MTACTL_PRINT_H
#define MTA_MTACTL_PRINT_H

#include <jansson.h>
#include <stdio.h>

#include "mta/mtactl/options.h"

struct ctl_output {
    FILE *out;
    const struct ctl_options *options;
    unsigned width; /* columns of the terminal; 0: it is none, nothing is cut */
    int64_t now_unix_ms;
    bool has_header;
};

/* ---- print.c ---- */
/* Members of an object, whatever the daemon sent: "" and 0 for what is missing or of another type.
 */
const char *ctl_json_string(const json_t *object, const char *key);
uint64_t ctl_json_number(const json_t *object, const char *key);
/* Owned copy without control bytes and what is not UTF-8. */
char *ctl_safe_text(const char *text);
void ctl_print_safe(FILE *out, const char *text);
/* At most `columns` characters, the last one `~` if it was cut; padded to them with `pad`.
 * columns 0: whole. */
void ctl_print_cell(FILE *out, const char *text, unsigned columns, bool cut, bool pad);
/* "2026-11-25 00:52:06Z" of a time as the daemon writes it. */
void ctl_print_time(FILE *out, const char *iso);

/* ---- print_status.c, print_list.c, print_show.c ---- */
void ctl_print_status(const struct ctl_output *output, const json_t *status);
void ctl_print_unit(struct ctl_output *output, const json_t *unit);
void ctl_print_show(const struct ctl_output *output, const json_t *message);

/* ---- print_verb.c ---- */
/* What became of the messages, over all requests of a command. */
struct ctl_sum {
    uint64_t count, units; /* messages and units that were changed, or would be */
    uint64_t partial;      /* messages of which other units stay */
    uint64_t skipped;      /* units with which there was nothing to do */
    uint64_t kept;         /* units whose other recipients the selectors do not mean */
    uint64_t gone, failed; /* messages */
    uint64_t unlisted;     /* messages that were not named */
};
/* A message's line of a verb. */
void ctl_print_verb(const struct ctl_output *output, const json_t *line);
void ctl_sum_add(struct ctl_sum *sum, const json_t *line);
json_t *ctl_sum_json(const struct ctl_sum *sum, bool dry_run);
void ctl_print_sum(const struct ctl_output *output, const struct ctl_sum *sum);

/* ---- print_summary.c ---- */
/* The table, from the lines that the daemon has sent: an array. */
void ctl_print_summary(const struct ctl_output *output, const json_t *rows);

#endif
