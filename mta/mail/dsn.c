/* mta/mail/dsn.c - a notification: words for a person, fields for a program, the original's header.
 * The words are in dsn_text.c. RFC 3461, 3464, 6522; Auto-Submitted and In-Reply-To by RFC
 * 3834.
 *
 * Addresses and replies come from outside: whatever is not printable ASCII is replaced before it is
 * written, so none of it can end a line. */
#include "mta/mail/dsn_private.h"

#include "mta/base/time.h"
#include "mta/mail/fold_private.h"
#include "mta/mail/header.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER_MAX     ((size_t)64 * 1024)
#define LINE_MAX_BYTES 990 /* longer lines of the original are folded */
#define MESSAGE_ID_MAX 900
#define BOUNDARY_MAX   96

/* ---- foreign text ---- */

void dsn_make_address(const char *address, char out[DSN_ADDRESS_MAX + 1])
{
    size_t len = 0;
    if (address == NULL)
        address = "";
    for (; len < DSN_ADDRESS_MAX && address[len] != '\0'; len++) {
        out[len] = '?';
        if (address[len] >= ' ' && address[len] < 0x7f)
            out[len] = address[len];
    }
    out[len] = '\0';
}

void dsn_make_text(const char *text, char out[DSN_TEXT_MAX + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    const size_t room = DSN_TEXT_MAX - sizeof "..." + 1;
    size_t len = 0;
    if (text == NULL)
        text = "";
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool space = c == ' ' || (c >= '\t' && c <= '\r');
        if (len + 4 > room) {
            memcpy(out + len, "...", 3);
            len += 3;
            break;
        }
        if (space) {
            if (len > 0 && out[len - 1] != ' ')
                out[len++] = ' ';
        } else if (c > ' ' && c < 0x7f) {
            out[len++] = (char)c;
        } else {
            out[len++] = '\\';
            out[len++] = 'x';
            out[len++] = digits[c >> 4];
            out[len++] = digits[c & 15];
        }
    }
    if (len > 0 && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
}

static bool skip_number(const char **p)
{
    const char *start = *p;
    while (**p >= '0' && **p <= '9')
        (*p)++;
    return *p > start && *p - start <= 3;
}

const char *dsn_status(const struct dsn *dsn, const struct dsn_recipient *recipient)
{
    bool delayed = dsn->kind == DSN_DELAYED;
    const char *general = delayed ? "4.0.0" : "5.0.0";
    const char *p = recipient->status;
    if (p == NULL || (*p != '4' && (delayed || *p != '5')) || p[1] != '.')
        return general;
    p += 2;
    if (!skip_number(&p) || *p != '.')
        return general;
    p++;
    return skip_number(&p) && *p == '\0' ? recipient->status : general;
}

/* ---- the part for programs: message/delivery-status ---- */

/* "Name: type; value". */
static void add_typed(struct buf *out, const char *name, const char *type, const char *value)
{
    struct fold fold;
    char text[DSN_ADDRESS_MAX + 1];
    dsn_make_address(value, text);
    fold_begin(&fold, out, name);
    fold_word(&fold, str_from(type));
    fold_word(&fold, str_from(text));
    fold_end(&fold);
}

static void add_time(struct buf *out, const char *name, int64_t unix_ms)
{
    char date[TIME_TEXT_MAX];
    if (unix_ms <= 0)
        return;
    time_rfc5322(unix_ms, date);
    (void)buf_printf(out, "%s %s\r\n", name, date);
}

static void add_diagnostic(struct buf *out, const struct dsn *dsn,
                           const struct dsn_recipient *recipient)
{
    struct fold fold;
    char text[DSN_TEXT_MAX + 1];

    dsn_make_text(recipient->text, text);
    if (recipient->code == 0 && text[0] == '\0')
        return;
    fold_begin(&fold, out, "Diagnostic-Code:");
    if (recipient->code == 0) {
        fold_word(&fold, STR("x-mta;"));
    } else {
        char code[32];
        (void)snprintf(code, sizeof code, "smtp; %" PRIu16 " %s", recipient->code,
                       dsn_status(dsn, recipient));
        fold_word(&fold, str_from(code));
    }
    fold_words(&fold, str_from(text), DSN_WORD_MAX);
    fold_end(&fold);
}

static void add_status(struct buf *out, const struct dsn *dsn)
{
    add_typed(out, "Reporting-MTA:", "dns;", dsn->reporting_mta);
    (void)buf_printf(out, "X-Queue-ID: %.64s\r\n", dsn->id);
    add_time(out, "Arrival-Date:", dsn->arrival_unix_ms);
    for (size_t i = 0; i < dsn->recipient_count; i++) {
        const struct dsn_recipient *recipient = &dsn->recipients[i];
        (void)buf_add_text(out, "\r\n");
        add_typed(out, "Final-Recipient:", "rfc822;", recipient->address);
        (void)buf_printf(out, "Action: %s\r\nStatus: %s\r\n",
                         dsn->kind == DSN_DELAYED ? "delayed" : "failed",
                         dsn_status(dsn, recipient));
        if (recipient->remote_host != NULL && recipient->remote_host[0] != '\0')
            add_typed(out, "Remote-MTA:", "dns;", recipient->remote_host);
        add_diagnostic(out, dsn, recipient);
        add_time(out, "Last-Attempt-Date:", recipient->last_attempt_unix_ms);
        if (dsn->kind == DSN_DELAYED)
            add_time(out, "Will-Retry-Until:", dsn->retry_until_unix_ms);
    }
}

/* ---- the original's header ---- */

static void add_line(struct buf *out, struct str line, bool *is_8bit)
{
    char piece[LINE_MAX_BYTES];
    bool first = true;
    do {
        size_t len = 0;
        for (; len < line.len && len < sizeof piece; len++) {
            char c = line.p[len];
            *is_8bit = *is_8bit || ((unsigned char)c & 0x80) != 0;
            piece[len] = c;
            if (c == '\0' || c == '\r' || c == '\n')
                piece[len] = '?';
        }
        if (!first)
            (void)buf_add_text(out, " ");
        (void)buf_add(out, piece, len);
        (void)buf_add_text(out, "\r\n");
        line = str_skip(line, len);
        first = false;
    } while (line.len > 0);
}

static void add_original(struct buf *out, struct str section, bool *is_8bit)
{
    size_t used = 0;
    while (section.len > 0) {
        const char *end = memmem(section.p, section.len, "\r\n", 2);
        size_t len = end == NULL ? section.len : (size_t)(end - section.p);
        used += len + 2;
        if (len == 0 || used > HEADER_MAX)
            return;
        add_line(out, (struct str){section.p, len}, is_8bit);
        section = str_skip(section, len + 2);
    }
}

/* ---- the whole ---- */

struct parts {
    struct buf human, status, original;
};

static bool contains(const struct buf *buf, const char *text)
{
    struct str s = buf_str(buf);
    return s.len > 0 && memmem(s.p, s.len, text, strlen(text)) != NULL;
}

/* Ends: the parts are finite and hold finitely many of the candidates. */
static void choose_boundary(const struct parts *parts, const char *own_id,
                            char boundary[BOUNDARY_MAX])
{
    uint64_t n = 0;
    do {
        (void)snprintf(boundary, BOUNDARY_MAX, "=_%.64s_%" PRIu64, own_id, n++);
    } while (contains(&parts->human, boundary) || contains(&parts->status, boundary) ||
             contains(&parts->original, boundary));
}

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The original's Message-ID, if it is one printable <...>. */
static bool find_message_id(struct str section, struct str *id_out)
{
    struct header_walk walk;
    struct header_field field;
    struct str id = {NULL, 0};

    header_walk_init(&walk, section);
    while (id.len == 0 && header_walk_next(&walk, &field)) {
        if (str_equal_nocase(field.name, STR("Message-ID")))
            id = field.value;
    }
    while (id.len > 0 && is_white(id.p[0]))
        id = str_skip(id, 1);
    while (id.len > 0 && is_white(id.p[id.len - 1]))
        id.len--;
    if (id.len < 3 || id.len > MESSAGE_ID_MAX || id.p[0] != '<' || id.p[id.len - 1] != '>')
        return false;
    for (size_t i = 0; i < id.len; i++) {
        if (id.p[i] <= ' ' || id.p[i] >= 0x7f)
            return false;
    }
    *id_out = id;
    return true;
}

/* Lets a mail program show the notification under the message (RFC 3834 section 3.1.5). */
static void add_references(struct buf *out, struct str section)
{
    struct fold fold;
    struct str id;
    if (!find_message_id(section, &id))
        return;
    fold_begin(&fold, out, "In-Reply-To:");
    fold_word(&fold, id);
    fold_end(&fold);
    fold_begin(&fold, out, "References:");
    fold_word(&fold, id);
    fold_end(&fold);
}

static void add_header(struct buf *out, const struct dsn *dsn, const char *boundary, bool is_8bit)
{
    struct fold fold;
    char address[DSN_ADDRESS_MAX + 1];
    char to[sizeof address + 2];

    (void)buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", dsn->reporting_mta);
    dsn_make_address(dsn->to, address);
    (void)snprintf(to, sizeof to, "<%s>", address);
    fold_begin(&fold, out, "To:");
    fold_word(&fold, str_from(to));
    fold_end(&fold);
    (void)buf_add_text(out, dsn->kind == DSN_DELAYED
                                ? "Subject: Your message is delayed and will be tried again\r\n"
                                : "Subject: Your message could not be delivered\r\n");
    add_time(out, "Date:", dsn->now_unix_ms);
    (void)buf_printf(out, "Message-ID: <%s@%s>\r\n", dsn->own_id, dsn->reporting_mta);
    add_references(out, dsn->original_header);
    (void)buf_printf(out,
                     "Auto-Submitted: auto-replied\r\n"
                     "MIME-Version: 1.0\r\n"
                     "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                     " boundary=\"%s\"\r\n"
                     "Content-Transfer-Encoding: %s\r\n",
                     boundary, is_8bit ? "8bit" : "7bit");
}

static void add_part(struct buf *out, const char *boundary, const char *fields,
                     const struct buf *content)
{
    (void)buf_printf(out, "\r\n--%s\r\n%s\r\n", boundary, fields);
    (void)buf_add_str(out, buf_str(content));
}

static void add_parts(struct buf *out, const struct parts *parts, const char *boundary,
                      bool is_8bit)
{
    add_part(out, boundary,
             "Content-Type: text/plain; charset=us-ascii\r\n"
             "Content-Description: Notification\r\n",
             &parts->human);
    add_part(out, boundary,
             "Content-Type: message/delivery-status\r\n"
             "Content-Description: Delivery report\r\n",
             &parts->status);
    add_part(out, boundary,
             is_8bit ? "Content-Type: text/rfc822-headers\r\n"
                       "Content-Transfer-Encoding: 8bit\r\n"
                       "Content-Description: Header of the message\r\n"
                     : "Content-Type: text/rfc822-headers\r\n"
                       "Content-Description: Header of the message\r\n",
             &parts->original);
    (void)buf_printf(out, "\r\n--%s--\r\n", boundary);
}

bool dsn_build(const struct dsn *dsn, struct buf *out, size_t *header_len_out, bool *is_8bit_out)
{
    struct parts parts;
    char boundary[BOUNDARY_MAX];
    bool is_8bit = false;
    bool ok = false;

    buf_init(&parts.human, out->max);
    buf_init(&parts.status, out->max);
    buf_init(&parts.original, out->max);
    dsn_add_words(&parts.human, dsn);
    add_status(&parts.status, dsn);
    add_original(&parts.original, dsn->original_header, &is_8bit);
    if (parts.human.overflow || parts.status.overflow || parts.original.overflow)
        goto done;

    size_t start = buf_len(out);
    choose_boundary(&parts, dsn->own_id, boundary);
    add_header(out, dsn, boundary, is_8bit);
    size_t header_len = buf_len(out) - start;
    add_parts(out, &parts, boundary, is_8bit);
    ok = !out->overflow;
    if (ok) {
        *header_len_out = header_len;
        *is_8bit_out = is_8bit;
    }
done:
    buf_deinit(&parts.human);
    buf_deinit(&parts.status);
    buf_deinit(&parts.original);
    return ok;
}
