/* mta/mtactl/print_list.c - the table of `list`, which streams: the columns are fixed before the
 * first line is known. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/buf.h"
#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

#define ID_COLUMNS    13
#define AGE_COLUMNS   7
#define SIZE_COLUMNS  6
#define STATE_COLUMNS 8
#define NEXT_COLUMNS  9
#define GAP           2
#define FIXED_COLUMNS                                                                              \
    (ID_COLUMNS + AGE_COLUMNS + SIZE_COLUMNS + STATE_COLUMNS + NEXT_COLUMNS + 5 * GAP)
#define SENDER_COLUMNS 28 /* where nothing is cut */
#define LEAST_COLUMNS  12
#define NAMES_MAX      ((size_t)1024 * 1024)

static unsigned sender_columns(const struct ctl_output *output)
{
    if (output->width == 0)
        return SENDER_COLUMNS;
    unsigned rest = output->width > FIXED_COLUMNS ? output->width - FIXED_COLUMNS : 0;
    unsigned half = rest > GAP ? (rest - GAP) / 2 : 0;
    return half < LEAST_COLUMNS ? LEAST_COLUMNS : half;
}

static unsigned recipient_columns(const struct ctl_output *output)
{
    unsigned before = FIXED_COLUMNS + sender_columns(output) + GAP;
    return output->width > before + LEAST_COLUMNS ? output->width - before : LEAST_COLUMNS;
}

struct row {
    const char *id, *age, *size, *state, *next, *sender, *recipients;
};

static void print_row(const struct ctl_output *output, const struct row *row)
{
    FILE *out = output->out;
    bool cut = output->width > 0;
    const struct {
        const char *text;
        unsigned columns;
    } cells[] = {{row->id, ID_COLUMNS},     {row->age, AGE_COLUMNS},
                 {row->size, SIZE_COLUMNS}, {row->state, STATE_COLUMNS},
                 {row->next, NEXT_COLUMNS}, {row->sender, sender_columns(output)}};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        ctl_print_cell(out, cells[i].text, cells[i].columns, cut, true);
        (void)fputs("  ", out);
    }
    ctl_print_cell(out, row->recipients, recipient_columns(output), cut, false);
    (void)fputc('\n', out);
}

/* "a@x, b@x and 12 more" */
static char *join_recipients(const json_t *unit)
{
    const json_t *list = json_object_get(unit, "recipients");
    size_t shown = json_array_size(list);
    uint64_t total = ctl_json_number(unit, "recipient_count");
    struct buf names;
    buf_init(&names, NAMES_MAX);
    for (size_t i = 0; i < shown; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", name != NULL ? name : "?");
    }
    if (total > shown)
        buf_printf(&names, " and %" PRIu64 " more", total - shown);
    char *text = str_dup(buf_str(&names));
    buf_deinit(&names);
    return text;
}

static void next_words(const struct ctl_output *output, const json_t *unit, char out[CTL_WORDS_MAX])
{
    int64_t due = 0;
    bool has_time = ctl_time_parse(ctl_json_string(unit, "next"), &due);
    const char *state = ctl_json_string(unit, "state");
    if (has_time && strcmp(state, "deferred") == 0)
        ctl_next_words(due, output->now_unix_ms, out);
    else
        (void)snprintf(out, CTL_WORDS_MAX, "%s", strcmp(state, "queued") == 0 ? "now" : "-");
}

void ctl_print_unit(struct ctl_output *output, const json_t *unit)
{
    char age[CTL_WORDS_MAX] = "-";
    char size[CTL_WORDS_MAX];
    char next[CTL_WORDS_MAX];
    bool damaged = json_object_get(unit, "sender") == NULL;
    const char *sender = ctl_json_string(unit, "sender");
    char *recipients = damaged ? NULL : join_recipients(unit);
    if (!output->has_header)
        print_row(output,
                  &(struct row){"ID", "AGE", "SIZE", "STATE", "NEXT", "SENDER", "RECIPIENTS"});
    output->has_header = true;
    if (!damaged)
        ctl_duration_words(ctl_json_number(unit, "age"), age);
    ctl_size_words(ctl_json_number(unit, "size"), size);
    next_words(output, unit, next);
    print_row(output, &(struct row){ctl_json_string(unit, "id"), age, size,
                                    ctl_json_string(unit, "state"), next,
                                    damaged             ? "-"
                                    : sender[0] == '\0' ? "<>"
                                                        : sender,
                                    damaged ? ctl_json_string(unit, "reason") : recipients});
    free(recipients);
}
