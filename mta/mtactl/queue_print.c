/* mta/mtactl/queue_print.c - what `mtactl queue` says, in words or in JSON. */
#include <stdio.h>

#include "mta/mtactl/print.h"
#include "mta/mtactl/queue_private.h"
#include "mta/mtactl/words.h"

static void print_count(uint64_t count, const char *one, const char *many)
{
    char number[CTL_WORDS_MAX];
    ctl_number_words(count, number);
    (void)printf("%s %s", number, count == 1 ? one : many);
}

static void print_messages(const json_t *result)
{
    char size[CTL_WORDS_MAX];
    ctl_size_words(ctl_json_number(result, "bytes"), size);
    print_count(ctl_json_number(result, "messages"), "message", "messages");
    (void)printf(", %s", size);
}

static void print_checked(const json_t *result)
{
    uint64_t problems = ctl_json_number(result, "problems");
    uint64_t repaired = ctl_json_number(result, "repaired");
    uint64_t damaged = ctl_json_number(result, "damaged");
    print_messages(result);
    (void)fputs(": ", stdout);
    if (problems == 0) {
        (void)fputs("no problems", stdout);
    } else {
        print_count(problems, "problem", "problems");
        if (repaired == problems)
            (void)fputs(", put right", stdout);
        else if (repaired > 0)
            (void)printf(", %llu put right", (unsigned long long)repaired);
    }
    (void)putchar('\n');
    if (damaged > 0) {
        print_count(damaged, "message is", "messages are");
        (void)fputs(" set aside: mtactl list --state damaged\n", stdout);
    }
}

static void print_compacted(const json_t *result)
{
    char before[CTL_WORDS_MAX];
    char after[CTL_WORDS_MAX];
    ctl_size_words(ctl_json_number(result, "before"), before);
    ctl_size_words(ctl_json_number(result, "after"), after);
    (void)printf("the queue takes %s of the disk, %s before\n", after, before);
}

static void print_restored(const json_t *result)
{
    const char *kept = ctl_json_string(result, "kept");
    (void)fputs("restored: ", stdout);
    print_messages(result);
    (void)putchar('\n');
    if (kept[0] != '\0') {
        (void)fputs("the queue that was there is kept as ", stdout);
        ctl_print_safe(stdout, kept);
        (void)putchar('\n');
    }
}

static void print_backed_up(const struct ctl_options *options, const json_t *result)
{
    ctl_print_safe(stdout, options->file);
    (void)fputs(": ", stdout);
    print_messages(result);
    (void)putchar('\n');
}

void ctl_queue_print(const struct ctl_options *options, const json_t *object)
{
    const char *line = ctl_json_string(object, "line");
    if (options->json) {
        (void)json_dumpf(object, stdout, JSON_COMPACT);
        (void)putchar('\n');
    } else if (line[0] != '\0') {
        ctl_print_safe(stdout, line);
        (void)putchar('\n');
    } else if (json_object_get(object, "problems") != NULL) {
        print_checked(object);
    } else if (json_object_get(object, "after") != NULL) {
        print_compacted(object);
    } else if (json_object_get(object, "kept") != NULL) {
        print_restored(object);
    } else {
        print_backed_up(options, object);
    }
    (void)fflush(stdout); /* a long check is read while it goes on */
}
