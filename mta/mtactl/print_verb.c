/* mta/mtactl/print_verb.c - what retry, hold, release, delete and bounce have done, or would do. */
#include <inttypes.h>
#include <string.h>

#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

static const struct verb_words {
    enum ctl_verb verb;
    const char *done, *would; /* behind a message */
    const char *all;          /* behind a number of messages */
    const char *would_all;
    const char *skipped; /* why there was nothing to do with a unit */
} verb_words[] = {
    {CTL_RETRY, "is due now", "would be due now", "due now", "would be due now",
     "held (release them), or not put off"},
    {CTL_HOLD, "held", "would be held", "held", "would be held", "held already"},
    {CTL_RELEASE, "released", "would be released", "released", "would be released", "not held"},
    {CTL_DELETE, "deleted", "would be deleted", "deleted", "would be deleted", ""},
    {CTL_BOUNCE, "is being returned to its sender", "would be returned to its sender",
     "on the way back to their senders", "would be returned to their senders",
     "a bounce is on its way already"},
};

static const struct verb_words *words_of(const struct ctl_output *output)
{
    size_t i = 0;
    while (i + 1 < sizeof verb_words / sizeof verb_words[0] &&
           verb_words[i].verb != output->options->command->verb)
        i++;
    return &verb_words[i];
}

void ctl_print_verb(const struct ctl_output *output, const json_t *line)
{
    const struct verb_words *words = words_of(output);
    const char *result = ctl_json_string(line, "result");
    uint64_t units = ctl_json_number(line, "units");
    if (strcmp(result, "done") == 0)
        result = words->done;
    else if (strcmp(result, "would be changed") == 0)
        result = words->would;
    else if (strcmp(result, "gone") == 0)
        result = "had left the queue, or changed, meanwhile";
    ctl_print_safe(output->out, ctl_json_string(line, "id"));
    (void)fputs("  ", output->out);
    ctl_print_safe(output->out, result);
    if (json_object_get(line, "sender") != NULL) {
        (void)fputs("  from <", output->out);
        ctl_print_safe(output->out, ctl_json_string(line, "sender"));
        (void)fputs(">  to ", output->out);
        ctl_print_safe(output->out, ctl_json_string(line, "domain"));
    }
    if (units > 1)
        (void)fprintf(output->out, " and %" PRIu64 " more domains", units - 1);
    (void)fputc('\n', output->out);
}

/* ---- the sum ---- */

static const struct {
    const char *key;
    size_t offset;
} members[] = {
    {"count", offsetof(struct ctl_sum, count)},     {"units", offsetof(struct ctl_sum, units)},
    {"partial", offsetof(struct ctl_sum, partial)}, {"skipped", offsetof(struct ctl_sum, skipped)},
    {"kept", offsetof(struct ctl_sum, kept)},       {"gone", offsetof(struct ctl_sum, gone)},
    {"failed", offsetof(struct ctl_sum, failed)},
};
#define MEMBERS (sizeof members / sizeof members[0])

void ctl_sum_add(struct ctl_sum *sum, const json_t *line)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        uint64_t *member = (uint64_t *)(void *)((char *)sum + members[i].offset);
        *member += ctl_json_number(line, members[i].key);
    }
    sum->unlisted += ctl_json_number(line, "unlisted");
}

json_t *ctl_sum_json(const struct ctl_sum *sum, bool dry_run)
{
    json_t *object = json_object();
    for (size_t i = 0; i < MEMBERS; i++) {
        const uint64_t *member =
            (const uint64_t *)(const void *)((const char *)sum + members[i].offset);
        (void)json_object_set_new(object, members[i].key, json_integer((json_int_t)*member));
    }
    (void)json_object_set_new(object, "dry_run", json_boolean(dry_run));
    return object;
}

static const char *counted(uint64_t count, const char *noun, char text[CTL_WORDS_MAX + 16])
{
    char number[CTL_WORDS_MAX];
    ctl_number_words(count, number);
    (void)snprintf(text, CTL_WORDS_MAX + 16, "%s %s%s", number, noun, count == 1 ? "" : "s");
    return text;
}

static void print_count(const struct ctl_output *output, const struct ctl_sum *sum)
{
    const struct verb_words *words = words_of(output);
    bool dry_run = output->options->dry_run;
    char text[CTL_WORDS_MAX + 16];
    (void)fprintf(output->out, "%s %s", counted(sum->count, "message", text),
                  dry_run ? words->would_all : words->all);
    if (sum->units > sum->count)
        (void)fprintf(output->out, " (%s)", counted(sum->units, "unit", text));
    if (sum->partial > 0)
        (void)fprintf(output->out, ", %s only in part",
                      sum->partial == sum->count ? "all of them"
                                                 : counted(sum->partial, "message", text));
    (void)fputs(dry_run ? "; nothing was changed\n" : "\n", output->out);
}

void ctl_print_sum(const struct ctl_output *output, const struct ctl_sum *sum)
{
    FILE *out = output->out;
    char text[CTL_WORDS_MAX + 16];
    if (sum->unlisted > 0) {
        ctl_number_words(sum->unlisted, text);
        (void)fprintf(out, "... and %s more (--verbose names all)\n", text);
    }
    if (sum->count > 0)
        print_count(output, sum);
    if (sum->skipped > 0)
        (void)fprintf(out, "%s left alone: %s\n", counted(sum->skipped, "unit", text),
                      words_of(output)->skipped);
    if (sum->kept > 0)
        (void)fprintf(out,
                      "%s kept: other recipients travel with the one that was named; to take them "
                      "all, name the message and --domain\n",
                      counted(sum->kept, "unit", text));
    if (sum->gone > 0)
        (void)fprintf(out, "%s had left the queue, or changed, meanwhile\n",
                      counted(sum->gone, "message", text));
    if (sum->failed > 0)
        (void)fprintf(out, "%s could not be changed\n", counted(sum->failed, "message", text));
}
