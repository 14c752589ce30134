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

void ctl_print_status(const struct ctl_output *output, const json_t *status)
{
    FILE *out = output->out;
    char uptime[CTL_WORDS_MAX];
    ctl_duration_words(ctl_json_number(status, "uptime"), uptime);
    (void)fputs("mtad ", out);
    ctl_print_safe(out, ctl_json_string(status, "version"));
    (void)fprintf(out, " is running, for %s now\n\nIn the queue\n", uptime);
    print_number_row(output, "messages", status, "queued", "in all");
    print_size_row(output, "size", status, "bytes", "of them");
    print_number_row(output, "new", status, "fresh", "not tried yet");
    print_number_row(output, "deferred", status, "deferred", "tried, to be tried again");
    print_number_row(output, "active", status, "active", "of both: being delivered now");
    print_number_row(output, "held", status, "held", "until an admin releases them");
    if (ctl_json_number(status, "damaged") > 0)
        print_number_row(output, "damaged", status, "damaged",
                         "set aside: mtactl list --state damaged");
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
