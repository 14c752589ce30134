/* mta/mtactl/print_status.c - `status`, for somebody who was woken by it. */
#include <string.h>

#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

static void print_number_row(const struct ctl_output *output, const char *label,
                             const json_t *status, const char *key, const char *meaning)
{
    char number[CTL_WORDS_MAX];
    ctl_number_words(ctl_json_number(status, key), number);
    (void)fprintf(output->out, "  %-12s %12s   %s\n", label, number, meaning);
}

static void print_size_row(const struct ctl_output *output, const char *label, const json_t *status,
                           const char *key, const char *meaning)
{
    char size[CTL_WORDS_MAX];
    ctl_size_words(ctl_json_number(status, key), size);
    (void)fprintf(output->out, "  %-12s %12s   %s\n", label, size, meaning);
}

/* What must not be overlooked, before any number. */
static void print_alarms(FILE *out, const json_t *status)
{
    if (json_is_true(json_object_get(status, "broken")))
        (void)fputs("\nTHE QUEUE CANNOT BE WRITTEN: new mail is refused for now (451). Look at the "
                    "log\nfor the reason, and at the disk. What was accepted is kept.\n",
                    out);
    if (json_is_true(json_object_get(status, "full")))
        (void)fputs("\nTHE QUEUE IS FULL: new mail is refused for now (452 4.3.1), deliveries go "
                    "on.\nEither queue.max_size is reached or the disk is nearly full.\n",
                    out);
}

static void print_oldest(FILE *out, const json_t *status)
{
    char words[CTL_WORDS_MAX];
    if (!json_is_integer(json_object_get(status, "oldest_age")))
        return;
    ctl_duration_words(ctl_json_number(status, "oldest_age"), words);
    (void)fprintf(out, "  %-12s %12s   %s\n", "oldest", words, "since it was accepted");
}

static void print_queue(const struct ctl_output *output, const json_t *status)
{
    FILE *out = output->out;
    (void)fputs("\nIn the queue\n", out);
    print_number_row(output, "messages", status, "queued", "in all");
    print_size_row(output, "size", status, "bytes", "of them");
    print_oldest(out, status);
    print_number_row(output, "new", status, "fresh", "not tried yet");
    print_number_row(output, "deferred", status, "deferred", "tried, to be tried again");
    print_number_row(output, "held", status, "held", "until an admin releases them");
    print_number_row(output, "active", status, "active", "of these: being delivered now");
    print_number_row(output, "in memory", status, "in_memory",
                     "of these: next in line; the rest waits on disk");
    if (ctl_json_number(status, "damaged") > 0)
        print_number_row(output, "damaged", status, "damaged",
                         "set aside: mtactl list --state damaged");
}

void ctl_print_status(const struct ctl_output *output, const json_t *status)
{
    FILE *out = output->out;
    char uptime[CTL_WORDS_MAX];
    ctl_duration_words(ctl_json_number(status, "uptime"), uptime);
    (void)fputs("mtad ", out);
    ctl_print_safe(out, ctl_json_string(status, "version"));
    (void)fprintf(out, " is running, for %s now\n", uptime);
    print_alarms(out, status);
    print_queue(output, status);
    (void)fputs("\nAt work\n", out);
    print_number_row(output, "clients", status, "sessions", "connected to submit mail");
    print_number_row(output, "deliveries", status, "connections", "connections to other servers");
    print_number_row(output, "sites", status, "sites", "destinations with work");
    print_size_row(output, "unwritten", status, "bytes_waiting", "received, not yet on disk");
    (void)fputs("\nSince the start\n", out);
    print_number_row(output, "accepted", status, "accepted", "messages");
    print_number_row(output, "refused", status, "rejected", "commands of clients");
    print_number_row(output, "delivered", status, "delivered", "recipients");
    print_number_row(output, "put off", status, "retried", "recipients, once each time");
    print_number_row(output, "bounced", status, "bounced", "recipients");
    print_number_row(output, "commits", status, "commits", "of the queue to disk");
    print_size_row(output, "queue file", status, "file_bytes", "in use");
}
