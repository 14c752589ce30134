/* mta/mtactl/print_show.c - `show`: why one message is still here. */
#include <inttypes.h>
#include <string.h>

#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

/* A parameter as it stands in a command; nothing where it was not given. */
static void print_param(FILE *out, const char *name, const char *value)
{
    if (value[0] == '\0')
        return;
    (void)fprintf(out, " %s=", name);
    ctl_print_safe(out, value);
}

/* What the sender asked for beside the delivery. */
static void print_message_params(FILE *out, const json_t *message)
{
    const char *ret = ctl_json_string(message, "ret");
    const char *envid = ctl_json_string(message, "envid");
    bool smtputf8 = json_is_true(json_object_get(message, "smtputf8"));
    bool requiretls = json_is_true(json_object_get(message, "requiretls"));
    if (ret[0] == '\0' && envid[0] == '\0' && !smtputf8 && !requiretls)
        return;
    (void)fputs("Asked    ", out);
    print_param(out, "RET", ret);
    print_param(out, "ENVID", envid);
    (void)fprintf(out, "%s%s\n", smtputf8 ? " SMTPUTF8" : "", requiretls ? " REQUIRETLS" : "");
}

static void print_recipient_params(FILE *out, const json_t *recipient)
{
    const json_t *notify = json_object_get(recipient, "notify");
    const char *orcpt = ctl_json_string(recipient, "orcpt");
    if (json_array_size(notify) == 0 && orcpt[0] == '\0')
        return;
    (void)fputs("      asked", out);
    for (size_t i = 0; i < json_array_size(notify); i++) {
        const char *word = json_string_value(json_array_get(notify, i));
        (void)fputs(i == 0 ? " NOTIFY=" : ",", out);
        ctl_print_safe(out, word != NULL ? word : "");
    }
    print_param(out, "ORCPT", orcpt);
    if (json_is_true(json_object_get(recipient, "notify_expanded")))
        (void)fputs(" (and to be told that the name stands for several)", out);
    (void)fputc('\n', out);
}

static void print_envelope(const struct ctl_output *output, const json_t *message)
{
    FILE *out = output->out;
    char words[CTL_WORDS_MAX];
    char number[CTL_WORDS_MAX];
    (void)fputs("Message   ", out);
    ctl_print_safe(out, ctl_json_string(message, "id"));
    (void)fputs("\nSender    <", out);
    ctl_print_safe(out, ctl_json_string(message, "sender"));
    (void)fputs(json_is_true(json_object_get(message, "bounce")) ? ">  (a bounce made here)" : ">",
                out);
    (void)fputs("\nAccepted  ", out);
    ctl_print_time(out, ctl_json_string(message, "accepted"));
    ctl_duration_words(ctl_json_number(message, "age"), words);
    (void)fprintf(out, ", %s ago\n", words);
    ctl_number_words(ctl_json_number(message, "size"), number);
    (void)fprintf(out, "Size      %s bytes%s\n", number,
                  json_is_true(json_object_get(message, "8bit")) ? ", 8-bit" : "");
    if (ctl_json_string(message, "sign_domain")[0] != '\0') {
        (void)fputs("DKIM      ", out);
        ctl_print_safe(out, ctl_json_string(message, "sign_domain"));
        (void)fputc('\n', out);
    }
    print_message_params(out, message);
}

static void print_attempt(FILE *out, const json_t *attempt)
{
    const char *host = ctl_json_string(attempt, "host");
    const char *address = ctl_json_string(attempt, "address");
    uint64_t code = ctl_json_number(attempt, "code");
    const char *tls = ctl_json_string(attempt, "tls");
    (void)fputs("      ", out);
    ctl_print_time(out, ctl_json_string(attempt, "time"));
    (void)fputs("  ", out);
    ctl_print_safe(out, host[0] != '\0' || address[0] != '\0' ? host : "no host");
    if (address[0] != '\0') {
        (void)fputc('[', out);
        ctl_print_safe(out, address);
        (void)fputc(']', out);
    }
    if (tls[0] != '\0') {
        (void)fputs("  ", out);
        ctl_print_safe(out, tls);
    }
    (void)fputs("\n          ", out);
    if (code > 0)
        (void)fprintf(out, "%" PRIu64 " ", code);
    ctl_print_safe(out, ctl_json_string(attempt, "status"));
    (void)fputc(' ', out);
    ctl_print_safe(out, ctl_json_string(attempt, "text"));
    (void)fputc('\n', out);
}

static void print_recipient(FILE *out, const json_t *recipient)
{
    const json_t *attempts = json_object_get(recipient, "attempts");
    size_t shown = json_array_size(attempts);
    uint64_t made = ctl_json_number(recipient, "attempt_count");
    (void)fputs("  <", out);
    ctl_print_safe(out, ctl_json_string(recipient, "address"));
    (void)fputs(">  ", out);
    ctl_print_safe(out, ctl_json_string(recipient, "state"));
    if (made > shown)
        (void)fprintf(out, "  (%zu of %" PRIu64 " attempts follow)", shown, made);
    (void)fputc('\n', out);
    print_recipient_params(out, recipient);
    for (size_t i = 0; i < shown; i++)
        print_attempt(out, json_array_get(attempts, i));
}

/* Recipients of the domain in this state? */
static bool has_state(const json_t *recipients, const char *domain, const char *state)
{
    for (size_t i = 0; i < json_array_size(recipients); i++) {
        const json_t *recipient = json_array_get(recipients, i);
        if (strcmp(ctl_json_string(recipient, "domain"), domain) == 0 &&
            strcmp(ctl_json_string(recipient, "state"), state) == 0)
            return true;
    }
    return false;
}

/* When, of what is no attempt at this moment. */
static void print_next(const struct ctl_output *output, const char *next)
{
    FILE *out = output->out;
    int64_t due = 0;
    bool has_time = ctl_time_parse(next, &due);
    if (has_time && due > output->now_unix_ms) {
        char words[CTL_WORDS_MAX];
        ctl_next_words(due, output->now_unix_ms, words);
        (void)fprintf(out, ", next attempt %s, at ", words);
        ctl_print_time(out, next);
    } else if (has_time) {
        (void)fputs(", the next attempt is due now", out);
    }
}

/* What comes next. */
static void print_outlook(const struct ctl_output *output, const json_t *unit, bool bounce_pending)
{
    FILE *out = output->out;
    const char *state = ctl_json_string(unit, "state");
    if (strcmp(state, "active") == 0) {
        (void)fputs("being delivered at this moment", out);
    } else if (strcmp(state, "held") == 0) {
        (void)fputs("held: not tried until an admin releases it (mtactl release)", out);
    } else if (strcmp(state, "done") == 0) {
        (void)fputs("done: every recipient has its final state", out);
    } else if (strcmp(state, "queued") == 0) {
        (void)fputs("not tried yet, waits for its first attempt", out);
    } else {
        ctl_print_safe(out, state);
        print_next(output, ctl_json_string(unit, "next"));
    }
    if (bounce_pending && strcmp(state, "done") != 0)
        (void)fputs("; failed for good, and its sender is to be told next", out);
    if (json_is_true(json_object_get(unit, "warned")))
        (void)fputs("; its sender was told of the delay", out);
}

static void print_unit(const struct ctl_output *output, const json_t *unit,
                       const json_t *recipients)
{
    FILE *out = output->out;
    const char *domain = ctl_json_string(unit, "domain");
    uint64_t attempts = ctl_json_number(unit, "attempts");
    (void)fputc('\n', out);
    ctl_print_safe(out, domain);
    (void)fputs(": ", out);
    print_outlook(output, unit, has_state(recipients, domain, "bounce pending"));
    if (attempts > 0)
        (void)fprintf(out, "; %" PRIu64 " attempt%s so far", attempts, attempts == 1 ? "" : "s");
    (void)fputc('\n', out);
    for (size_t i = 0; i < json_array_size(recipients); i++) {
        const json_t *recipient = json_array_get(recipients, i);
        if (strcmp(ctl_json_string(recipient, "domain"), domain) == 0)
            print_recipient(out, recipient);
    }
}

void ctl_print_show(const struct ctl_output *output, const json_t *message)
{
    const json_t *units = json_object_get(message, "units");
    const json_t *recipients = json_object_get(message, "recipients");
    print_envelope(output, message);
    for (size_t i = 0; i < json_array_size(units); i++)
        print_unit(output, json_array_get(units, i), recipients);
    if (json_is_true(json_object_get(message, "attempts_cut")))
        (void)fputs("\nThere are more attempts than are shown here.\n", output->out);
}
