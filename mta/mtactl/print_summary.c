/* mta/mtactl/print_summary.c - the table of `summary`. */
#include <inttypes.h>
#include <string.h>

#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

#define COLUMNS_MAX 32
#define NAME_LEAST  12
#define NAME_MOST   60
#define GAP         1

struct table {
    const struct ctl_output *output;
    const json_t *rows;
    size_t columns; /* the total's first */
    unsigned widths[COLUMNS_MAX];
    unsigned name_width;
};

/* ---- cells ---- */

/* Column 0 is the total. */
static void header_text(const json_t *rows, size_t column, size_t columns, char out[CTL_WORDS_MAX])
{
    const json_t *minutes = json_object_get(json_array_get(rows, 0), "minutes");
    if (column == 0) {
        (void)snprintf(out, CTL_WORDS_MAX, "T");
        return;
    }
    bool last = column == columns - 1; /* everything beyond the minutes before */
    json_int_t value = json_integer_value(json_array_get(minutes, last ? column - 2 : column - 1));
    (void)snprintf(out, CTL_WORDS_MAX, "%" JSON_INTEGER_FORMAT "%s", value, last ? "+" : "");
}

static void cell_text(const json_t *row, size_t column, char out[CTL_WORDS_MAX])
{
    const json_t *counts = json_object_get(row, "counts");
    json_int_t value = column == 0 ? json_integer_value(json_object_get(row, "total"))
                                   : json_integer_value(json_array_get(counts, column - 1));
    (void)snprintf(out, CTL_WORDS_MAX, "%" JSON_INTEGER_FORMAT, value);
}

static void name_text(const json_t *row, char *out, size_t size)
{
    const char *kind = ctl_json_string(row, "row");
    if (strcmp(kind, "total") == 0)
        (void)snprintf(out, size, "TOTAL");
    else if (strcmp(kind, "others") == 0)
        (void)snprintf(out, size, "(%s%" PRIu64 " others)",
                       json_is_true(json_object_get(row, "at_least")) ? "at least " : "",
                       ctl_json_number(row, "names"));
    else
        (void)snprintf(out, size, "%s", ctl_json_string(row, "name"));
}

/* ---- layout ---- */

static void widen(unsigned *width, const char *text)
{
    unsigned len = (unsigned)strnlen(text, NAME_MOST);
    *width = *width < len ? len : *width;
}

static void measure(struct table *table)
{
    char text[CTL_WORDS_MAX];
    char name[512];
    unsigned used = 0;
    for (size_t column = 0; column < table->columns; column++) {
        header_text(table->rows, column, table->columns, text);
        widen(&table->widths[column], text);
        for (size_t i = 0; i < json_array_size(table->rows); i++) {
            cell_text(json_array_get(table->rows, i), column, text);
            widen(&table->widths[column], text);
        }
        used += table->widths[column] + GAP;
    }
    for (size_t i = 0; i < json_array_size(table->rows); i++) {
        name_text(json_array_get(table->rows, i), name, sizeof name);
        widen(&table->name_width, name);
    }
    unsigned width = table->output->width;
    unsigned left = width > used ? width - used : 0;
    if (width > 0 && table->name_width > left)
        table->name_width = left > NAME_LEAST ? left : NAME_LEAST;
}

static void print_row(const struct table *table, const char *name, const json_t *row)
{
    FILE *out = table->output->out;
    char text[CTL_WORDS_MAX];
    ctl_print_cell(out, name, table->name_width, table->output->width > 0, true);
    for (size_t column = 0; column < table->columns; column++) {
        if (row == NULL)
            header_text(table->rows, column, table->columns, text);
        else
            cell_text(row, column, text);
        (void)fprintf(out, "%*s%*s", GAP, "", (int)table->widths[column], text);
    }
    (void)fputc('\n', out);
}

void ctl_print_summary(const struct ctl_output *output, const json_t *rows)
{
    struct table table = {.output = output, .rows = rows};
    const json_t *minutes = json_object_get(json_array_get(rows, 0), "minutes");
    const char *by = output->options->by;
    char name[512];
    table.columns = json_array_size(minutes) + 2;
    if (table.columns < 3 || table.columns > COLUMNS_MAX)
        table.columns = 1; /* a daemon that tells no ages */
    measure(&table);
    print_row(&table, by != NULL && strcmp(by, "sender") == 0 ? "SENDER" : "DOMAIN", NULL);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        name_text(row, name, sizeof name);
        print_row(&table, name, row);
    }
    if (json_is_true(json_object_get(json_array_get(rows, json_array_size(rows) - 1), "at_least")))
        (void)fputs("\nThere are too many names to count each: small rows may be more than is "
                    "shown.\n",
                    output->out);
}
