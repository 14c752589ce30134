/* mta/mail/trace.c - Received, Date, From and Message-ID. What a client said never shapes the
 * field: it is reduced to harmless bytes first. */
#include "mta/mail/trace.h"

#include "mta/base/time.h"
#include "mta/mail/fold_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HELO_MAX      255
#define RECIPIENT_MAX 512
#define COMMENT_MAX   200
#define ADDRESS_MAX   64

/* The bytes of a domain or an address literal (RFC 5321 section 4.1.2) and the underscore, which
 * many machine names have. Anything else could pass for a clause, a comment or the date. */
static bool is_helo_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("-._:[]", c) != NULL);
}

static void add_helo(struct fold *fold, struct str helo)
{
    char text[HELO_MAX];
    size_t len = 0;
    for (; len < helo.len && len < sizeof text; len++) {
        text[len] = '?';
        if (is_helo_byte(helo.p[len]))
            text[len] = helo.p[len];
    }
    fold_word(fold, len > 0 ? (struct str){text, len} : STR("unknown"));
}

static void add_address(struct fold *fold, const char *address)
{
    char text[ADDRESS_MAX + 16];
    if (address == NULL || strpbrk(address, ".:") == NULL) /* a local socket */
        return;
    (void)snprintf(text, sizeof text, "([%s%.*s])", strchr(address, ':') != NULL ? "IPv6:" : "",
                   ADDRESS_MAX, address);
    fold_word(fold, str_from(text));
}

/* A comment; only its brackets and backslashes could end it early. */
static void add_comment(struct fold *fold, const char *text)
{
    char comment[COMMENT_MAX + 3] = "(";
    size_t len = 1;
    if (text == NULL || text[0] == '\0')
        return;
    for (size_t i = 0; text[i] != '\0' && len <= COMMENT_MAX; i++) {
        bool plain = text[i] >= ' ' && text[i] < 0x7f && strchr("()\\", text[i]) == NULL;
        comment[len] = '?';
        if (plain)
            comment[len] = text[i];
        len++;
    }
    comment[len++] = ')';
    fold_words(fold, (struct str){comment, len}, sizeof comment);
}

/* RFC 5321 section 4.4 lets "for" be left out: better than a changed address. */
static bool can_name(const char *recipient)
{
    if (recipient == NULL || recipient[0] == '\0')
        return false;
    size_t len = 0;
    for (; recipient[len] != '\0'; len++) {
        if (recipient[len] < ' ' || recipient[len] >= 0x7f)
            return false;
    }
    return len <= RECIPIENT_MAX;
}

/* "id X" and the like in one piece: easier to read and to search for. */
static void add_clause(struct fold *fold, const char *word, const char *value)
{
    char text[RECIPIENT_MAX + 16];
    (void)snprintf(text, sizeof text, "%s %s", word, value);
    fold_word(fold, str_from(text));
}

static void add_recipient(struct fold *fold, const char *recipient)
{
    char text[RECIPIENT_MAX + 4];
    if (!can_name(recipient))
        return;
    (void)snprintf(text, sizeof text, "<%s>", recipient);
    add_clause(fold, "for", text);
}

static void add_user(struct fold *fold, const char *user)
{
    char text[COMMENT_MAX + 1];
    if (user == NULL || user[0] == '\0')
        return;
    (void)snprintf(text, sizeof text, "user %s", user);
    add_comment(fold, text);
}

/* RFC 5321 section 4.4 wants "from"; what submission agents for people do is to leave it out, since
 * its reader is a stranger to whom the sender has not told where he sits. */
static void add_client(struct fold *fold, const struct trace_received *received)
{
    if (received->private_client) {
        fold_word(fold, STR("by"));
        return;
    }
    fold_word(fold, STR("from"));
    add_helo(fold, received->helo);
    add_address(fold, received->address);
    add_user(fold, received->user);
    fold_break(fold);
    fold_add(fold, STR("by"));
}

bool trace_add_received(const struct trace_received *received, struct buf *out)
{
    struct fold fold;
    char date[TIME_TEXT_MAX];

    fold_begin(&fold, out, "Received:");
    add_client(&fold, received);
    fold_word(&fold, str_from(received->by));
    add_clause(&fold, "with", received->protocol);
    add_comment(&fold, received->tls);
    add_clause(&fold, "id", received->id);
    add_recipient(&fold, received->recipient);
    fold_add(&fold, STR(";"));
    time_rfc5322(received->time_unix_ms, date);
    fold_word(&fold, str_from(date));
    fold_end(&fold);
    return !out->overflow;
}

const char *trace_protocol(struct trace_session session)
{
    static const char *const plain[] = {"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"};
    static const char *const utf8[] = {"UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"};
    size_t which = (session.tls ? 1U : 0U) + (session.logged_in ? 2U : 0U);
    if (!session.extended)
        return "SMTP";
    return session.utf8 ? utf8[which] : plain[which];
}

bool trace_add_from(const char *sender, const char *hostname, struct buf *out)
{
    if (sender[0] == '\0')
        return buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", hostname);
    if (!can_name(sender) || strchr(sender, '@') == NULL)
        return true;
    return buf_printf(out, "From: %s\r\n", sender);
}

bool trace_add_date(int64_t time_unix_ms, struct buf *out)
{
    char date[TIME_TEXT_MAX];
    time_rfc5322(time_unix_ms, date);
    return buf_printf(out, "Date: %s\r\n", date);
}

bool trace_add_message_id(const char *id, const char *hostname, int64_t time_unix_ms,
                          struct buf *out)
{
    /* The time keeps it unique also when a queue begins anew and its ids with it. */
    return buf_printf(out, "Message-ID: <%" PRId64 ".%s@%s>\r\n", time_unix_ms, id, hostname);
}
