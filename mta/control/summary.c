/* mta/control/summary.c - summary: what the selectors mean, by domain (or the sender's domain) and
 * age. */
#include <stdlib.h>
#include <string.h>

#include "mta/control/ages.h"
#include "mta/control/walk.h"

#define NAMES_MAX     16384 /* about 2 MiB a table */
#define SUMMARIES_MAX 4
#define ROWS          20
#define ROWS_MAX      10000

struct summary {
    struct ages *ages;
    bool by_sender;
    size_t rows;
};

static struct str domain_of_sender(const char *sender)
{
    const char *at = strrchr(sender, '@');
    if (sender[0] == '\0')
        return STR("<>");
    return str_from(at != NULL ? at + 1 : sender);
}

static bool visit(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                  size_t unit_from, size_t *resume_out)
{
    struct summary *summary = walk->own;
    int64_t age_s = age_seconds(envelope->accepted_unix_ms, walk->selector.now_unix_ms);
    (void)id;
    (void)unit_from; /* a message is taken whole */
    (void)resume_out;
    walk->matched++;
    if (summary->by_sender) {
        ages_add(summary->ages, domain_of_sender(envelope->sender), age_s);
        return true;
    }
    for (size_t i = 0; i < walk->set.count; i++)
        ages_add(summary->ages, str_from(envelope->units[walk->set.numbers[i]].domain), age_s);
    return true;
}

static json_t *row_line(const char *kind, const struct ages_row *row)
{
    json_t *counts = json_array();
    for (size_t i = 0; i < AGES_COLUMNS; i++)
        json_array_append_new(counts, json_integer((json_int_t)row->counts[i]));
    return json_pack("{s:s,s:o,s:I,s:o}", "row", kind, "name", control_text(row->name), "total",
                     (json_int_t)row->total, "counts", counts);
}

static json_t *minutes(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < AGES_COLUMNS - 1; i++)
        json_array_append_new(list, json_integer((json_int_t)ages_minutes[i]));
    return list;
}

static void end(struct walk *walk)
{
    struct summary *summary = walk->own;
    struct ages_row *rows = mem_alloc(summary->rows * sizeof *rows);
    struct ages_row row;
    uint64_t names = 0;
    ages_total(summary->ages, &row);
    json_t *line = row_line("total", &row);
    json_object_set_new(line, "minutes", minutes());
    control_walk_add_line(walk, line);
    size_t count = ages_rows(summary->ages, rows, summary->rows);
    for (size_t i = 0; i < count; i++)
        control_walk_add_line(walk, row_line(summary->by_sender ? "sender" : "domain", &rows[i]));
    bool is_cut = ages_others(summary->ages, rows, count, &row, &names);
    if (row.total > 0) {
        line = row_line("others", &row);
        json_object_set_new(line, "names", json_integer((json_int_t)names));
        json_object_set_new(line, "at_least", json_boolean(is_cut));
        control_walk_add_line(walk, line);
    }
    free(rows);
}

/* As with `list`: an empty queue is an answer. */
static int finish(struct walk *walk)
{
    const struct selector *s = &walk->selector;
    return walk->matched == 0 && !s->all && !selector_is_empty(s);
}

static void free_summary(struct walk *walk)
{
    struct summary *summary = walk->own;
    walk->client->control->summaries--;
    ages_free(&summary->ages);
    free(summary);
}

static const struct walk_kind summary_kind = {
    .visit = visit, .end = end, .finish = finish, .free = free_summary};

/* @return false: the client has been told */
static bool read_request(struct control_client *client, struct summary *summary)
{
    const json_t *by = json_object_get(client->request, "by");
    const json_t *rows = json_object_get(client->request, "rows");
    const char *name = by != NULL ? json_string_value(by) : "domain";
    *summary = (struct summary){.rows = ROWS};
    if (name == NULL || (strcmp(name, "domain") != 0 && strcmp(name, "sender") != 0)) {
        control_fail(client, "by: expected domain or sender");
        return false;
    }
    if (rows != NULL && (!json_is_integer(rows) || json_integer_value(rows) < 1)) {
        control_fail(client, "rows: expected a number from 1 on");
        return false;
    }
    if (rows != NULL)
        summary->rows =
            json_integer_value(rows) < ROWS_MAX ? (size_t)json_integer_value(rows) : ROWS_MAX;
    summary->by_sender = strcmp(name, "sender") == 0;
    if (client->control->summaries >= SUMMARIES_MAX) {
        control_fail(client, "other summaries are being made: try again when they are done");
        return false;
    }
    return true;
}

void command_summary(struct control_client *client)
{
    struct summary request;
    if (!read_request(client, &request))
        return;
    struct summary *summary = mem_alloc(sizeof *summary);
    *summary = request;
    summary->ages = ages_new(NAMES_MAX);
    client->control->summaries++;
    (void)control_walk_start(client, &summary_kind, summary); /* a failure is told */
}
