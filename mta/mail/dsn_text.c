/* mta/mail/dsn_text.c - the words of a notification: what happened, to whom, what the other server
 * said, and what the sender can do. Written for people who have never heard of SMTP. */
#include "mta/mail/dsn_private.h"

#include "mta/base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WIDTH          72
#define RECIPIENTS_MAX 100 /* told in words; the report has all */

enum advice {
    ADVICE_ADDRESS,
    ADVICE_DOMAIN,
    ADVICE_FULL,
    ADVICE_SIZE,
    ADVICE_RULES,
    ADVICE_UNREACHABLE,
    ADVICE_OTHER,
    ADVICE_COUNT,
};

static const char *const advices[] = {
    [ADVICE_ADDRESS] =
        "The address does not exist there, or no longer. Look for a typing error, or "
        "ask the recipient in another way for the right address.",
    [ADVICE_DOMAIN] = "The part of the address behind the @ names no place that takes mail. Look "
                      "for a typing error.",
    [ADVICE_FULL] =
        "The recipient's mailbox is full. Try again in some days, or tell the recipient "
        "in another way.",
    [ADVICE_SIZE] = "The message is too large for the recipient's server. Send it without large "
                    "attachments, or share these in another way.",
    [ADVICE_RULES] =
        "The recipient's server refused the message by its own rules. Its answer often "
        "says which. If it does not help you, forward this notification to your "
        "administrator.",
    [ADVICE_UNREACHABLE] = "The recipient's server could not be reached or did not take the "
                           "message. Try again later. If that fails too, forward this notification "
                           "to your administrator.",
    [ADVICE_OTHER] = "If the reason above does not help you, forward this notification to your "
                     "administrator.",
};
_Static_assert(sizeof advices / sizeof advices[0] == ADVICE_COUNT, "one text per advice");

/* RFC 3463 subject and detail; the first row whose text begins the status counts. */
static const struct advice_row {
    const char *detail;
    enum advice advice;
} advice_rows[] = {
    {"1.2", ADVICE_DOMAIN}, {"1.10", ADVICE_DOMAIN},    {"1.7", ADVICE_RULES},
    {"1.8", ADVICE_RULES},  {"1.", ADVICE_ADDRESS},     {"2.1", ADVICE_ADDRESS},
    {"2.2", ADVICE_FULL},   {"2.3", ADVICE_SIZE},       {"3.4", ADVICE_SIZE},
    {"4.6", ADVICE_OTHER},  {"4.", ADVICE_UNREACHABLE}, {"7.", ADVICE_RULES},
};

static enum advice advise(const struct dsn *dsn, const struct dsn_recipient *recipient)
{
    struct str detail = str_from(dsn_status(dsn, recipient) + 2);
    for (size_t i = 0; i < sizeof advice_rows / sizeof advice_rows[0]; i++) {
        struct str row = str_from(advice_rows[i].detail);
        bool group = row.p[row.len - 1] == '.';
        if (group ? str_starts_nocase(detail, row) : str_equal(detail, row))
            return advice_rows[i].advice;
    }
    return recipient->expired ? ADVICE_UNREACHABLE : ADVICE_OTHER;
}

/* Words up to the width; each line begins with `lead` spaces, the first with `mark` in their place.
 */
static void add_paragraph(struct buf *out, const char *mark, size_t lead, const char *text)
{
    size_t column = strlen(mark);
    bool fresh = true;
    (void)buf_add_text(out, mark);
    for (struct str rest = str_from(text); rest.len > 0;) {
        const char *space = memchr(rest.p, ' ', rest.len);
        size_t len = space == NULL ? rest.len : (size_t)(space - rest.p);
        if (len > DSN_WORD_MAX)
            len = DSN_WORD_MAX;
        if (!fresh && column + 1 + len > WIDTH) {
            (void)buf_printf(out, "\r\n%*s", (int)lead, "");
            column = lead;
        } else if (!fresh) {
            (void)buf_add_text(out, " ");
            column++;
        }
        (void)buf_add(out, rest.p, len);
        column += len;
        fresh = false;
        rest = str_skip(rest, len);
        if (rest.len > 0 && rest.p[0] == ' ')
            rest = str_skip(rest, 1);
    }
    (void)buf_add_text(out, "\r\n");
}

/* Who said what follows, and whether it was the last of many tries. */
static void add_source(struct buf *out, const struct dsn *dsn,
                       const struct dsn_recipient *recipient)
{
    char host[DSN_ADDRESS_MAX + 1];
    char line[DSN_ADDRESS_MAX + 128];
    const char *tries = dsn->kind == DSN_DELAYED ? "At the last try: "
                        : recipient->expired     ? "Given up after several tries. At the last one: "
                                                 : "";

    dsn_make_address(recipient->remote_host, host);
    if (recipient->code == 0)
        (void)snprintf(line, sizeof line, "%sno success%s%s, because:", tries,
                       host[0] != '\0' ? " at the server " : "", host);
    else if (host[0] != '\0')
        (void)snprintf(line, sizeof line, "%sthe server %s answered:", tries, host);
    else
        (void)snprintf(line, sizeof line, "%sthe recipient's server answered:", tries);
    if (line[0] >= 'a')
        line[0] = (char)(line[0] - 'a' + 'A');
    add_paragraph(out, "    ", 4, line);
}

static void add_recipient(struct buf *out, const struct dsn *dsn,
                          const struct dsn_recipient *recipient)
{
    char address[DSN_ADDRESS_MAX + 1];
    char text[DSN_TEXT_MAX + 1];
    char line[DSN_TEXT_MAX + 64];

    dsn_make_address(recipient->address, address);
    dsn_make_text(recipient->text, text);
    (void)buf_printf(out, "\r\n  <%s>\r\n", address);
    add_source(out, dsn, recipient);
    if (recipient->code != 0)
        (void)snprintf(line, sizeof line, "%" PRIu16 " %s %s", recipient->code,
                       dsn_status(dsn, recipient), text);
    else
        (void)snprintf(line, sizeof line, "%s", text[0] != '\0' ? text : "the reason is not known");
    add_paragraph(out, "      ", 6, line);
}

static void add_recipients(struct buf *out, const struct dsn *dsn)
{
    for (size_t i = 0; i < dsn->recipient_count && i < RECIPIENTS_MAX; i++)
        add_recipient(out, dsn, &dsn->recipients[i]);
    if (dsn->recipient_count > RECIPIENTS_MAX)
        (void)buf_printf(out, "\r\n  and %zu more, listed in the delivery report below.\r\n",
                         dsn->recipient_count - RECIPIENTS_MAX);
    if (dsn->more_recipients > 0)
        (void)buf_printf(out, "\r\n  The same holds for %zu more.\r\n", dsn->more_recipients);
}

static void add_advice(struct buf *out, const struct dsn *dsn)
{
    bool fits[ADVICE_COUNT] = {false};
    if (dsn->kind == DSN_DELAYED) {
        (void)buf_add_text(out, "\r\n");
        add_paragraph(out, "", 0,
                      "You need not do anything, and need not send the message again. If it cannot "
                      "wait, tell the recipient in another way.");
        return;
    }
    for (size_t i = 0; i < dsn->recipient_count; i++)
        fits[advise(dsn, &dsn->recipients[i])] = true;
    (void)buf_add_text(out, "\r\nWhat you can do:\r\n\r\n");
    for (size_t i = 0; i < ADVICE_COUNT; i++) {
        if (fits[i])
            add_paragraph(out, "- ", 2, advices[i]);
    }
}

/* Sentences that begin with what happened and end with what comes next. */
static void add_verdict(struct buf *out, const struct dsn *dsn)
{
    char date[TIME_TEXT_MAX], until[TIME_TEXT_MAX + 8] = "";
    char line[512];
    const char *whom = dsn->recipient_count == 1 ? "the address" : "the addresses";

    time_rfc5322(dsn->arrival_unix_ms, date);
    if (dsn->kind == DSN_FAILED) {
        (void)snprintf(line, sizeof line,
                       "I am sorry: your message of %s could not be delivered to %s below. It will "
                       "not be tried again.",
                       date, whom);
        add_paragraph(out, "", 0, line);
        return;
    }
    if (dsn->retry_until_unix_ms > 0) {
        memcpy(until, " until ", sizeof " until ");
        time_rfc5322(dsn->retry_until_unix_ms, until + strlen(until));
    }
    (void)snprintf(line, sizeof line,
                   "Your message of %s could not be delivered to %s below so far. This is a notice "
                   "only: it will be tried again%s. If it fails for good, you will be told.",
                   date, whom, until);
    add_paragraph(out, "", 0, line);
}

void dsn_add_words(struct buf *out, const struct dsn *dsn)
{
    char line[512];

    (void)buf_printf(out, "This is the mail system at %s.\r\n\r\n", dsn->reporting_mta);
    add_verdict(out, dsn);
    add_recipients(out, dsn);
    add_advice(out, dsn);
    (void)snprintf(line, sizeof line,
                   "The header of your message is attached. Your administrator finds the message "
                   "in the log as %.64s.",
                   dsn->id);
    (void)buf_add_text(out, "\r\n");
    add_paragraph(out, "", 0, line);
}
