/* mta/sendmail/header.c - see header.h. */
#include "mta/sendmail/header.h"

#include <string.h>

#include "mta/mail/header.h"
#include "mta/mail/submission.h"

#define NAME_MAX_BYTES 200 /* of -F */

void sendmail_header_init(struct sendmail_header *header)
{
    *header = (struct sendmail_header){0};
    buf_init(&header->bytes, SENDMAIL_HEADER_MAX + 2 * SENDMAIL_PIECE_MAX + 8);
}

void sendmail_header_deinit(struct sendmail_header *header)
{
    buf_deinit(&header->bytes);
}

/* ---- where it ends ---- */

enum line_kind { LINE_FIELD, LINE_BLANK, LINE_DROPPED, LINE_BODY };

static enum line_kind classify(const struct sendmail_header *header, struct str line)
{
    bool first = header->checked == header->start;
    struct header_walk walk;
    struct header_field field;

    if (str_equal(line, STR("\r\n")))
        return LINE_BLANK;
    if (!first && (line.p[0] == ' ' || line.p[0] == '\t'))
        return LINE_FIELD;
    if (first && submission_is_mailbox_line(line))
        return LINE_DROPPED;
    header_walk_init(&walk, line);
    return header_walk_next(&walk, &field) && field.name.len > 0 ? LINE_FIELD : LINE_BODY;
}

static void end_header(struct sendmail_header *header, size_t body)
{
    header->ended = true;
    header->body = body;
}

static void take_line(struct sendmail_header *header, struct str line)
{
    switch (classify(header, line)) {
    case LINE_FIELD:
        header->checked += line.len;
        return;
    case LINE_BLANK:
        end_header(header, header->checked + line.len);
        return;
    case LINE_DROPPED:
        header->checked += line.len;
        header->start = header->checked;
        return;
    case LINE_BODY:
        end_header(header, header->checked);
        return;
    }
    unreachable_bug();
}

int sendmail_header_look(struct sendmail_header *header, bool last)
{
    while (!header->ended) {
        struct str rest = str_skip(buf_str(&header->bytes), header->checked);
        const char *lf = rest.len > 0 ? memchr(rest.p, '\n', rest.len) : NULL;
        if (lf == NULL)
            break;
        take_line(header, (struct str){rest.p, (size_t)(lf - rest.p) + 1});
    }
    if (!header->ended && last)
        end_header(header, header->checked);
    if (header->checked - header->start > SENDMAIL_HEADER_MAX ||
        (!header->ended && buf_len(&header->bytes) > SENDMAIL_HEADER_MAX))
        return -1;
    return header->ended ? 1 : 0;
}

struct str sendmail_header_section(const struct sendmail_header *header)
{
    struct str rest = str_skip(buf_str(&header->bytes), header->start);
    return (struct str){rest.p, header->checked - header->start};
}

struct str sendmail_header_body(const struct sendmail_header *header)
{
    return str_skip(buf_str(&header->bytes), header->body);
}

/* ---- recipients ---- */

static bool names_recipients(struct str name, bool resent)
{
    static const char *const names[] = {"To", "Cc", "Bcc"};
    static const struct str prefix = {"Resent-", 7};
    if (str_starts_nocase(name, prefix) != resent)
        return false;
    if (resent)
        name = str_skip(name, prefix.len);
    for (size_t i = 0; i < 3; i++) {
        if (str_equal_nocase(name, str_from(names[i])))
            return true;
    }
    return false;
}

static bool is_resent(struct str section)
{
    struct header_walk walk;
    struct header_field field;
    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        if (names_recipients(field.name, true))
            return true;
    }
    return false;
}

int sendmail_header_recipients(struct str section, struct sendmail_recipients *recipients,
                               char *error, size_t error_size)
{
    bool resent = is_resent(section);
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        if (names_recipients(field.name, resent) &&
            sendmail_recipients_add(recipients, field.value, error, error_size) < 0)
            return -1;
    }
    return 0;
}

/* ---- what is sent ---- */

static bool is_safe(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* RFC 2047 section 4.2; an encoded word may be 75 octets long and break no character. */
static void add_encoded(struct buf *out, const char *name, size_t len)
{
    size_t column = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        bool begins = (c & 0xc0) != 0x80;
        if (column == 0 || (begins && column > 50)) {
            (void)buf_add_text(out, column == 0 ? "=?utf-8?q?" : "?=\r\n =?utf-8?q?");
            column = 10;
        }
        (void)buf_printf(out, is_safe(name[i]) ? "%c" : "=%02X", c);
        column += is_safe(name[i]) ? 1 : 3;
    }
    (void)buf_add_text(out, "?=");
}

static void add_quoted(struct buf *out, const char *name, size_t len)
{
    (void)buf_add_text(out, "\"");
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '"' || name[i] == '\\')
            (void)buf_add_text(out, "\\");
        (void)buf_add(out, name + i, 1);
    }
    (void)buf_add_text(out, "\"");
}

/* Nothing of the name can end the field or begin another. */
static void add_from(const char *name, const char *sender, struct buf *out)
{
    char clean[NAME_MAX_BYTES];
    size_t len = 0;
    bool ascii = true;
    for (; len < sizeof clean && name[len] != '\0'; len++) {
        bool control = (unsigned char)name[len] < ' ' || name[len] == 0x7f;
        clean[len] = (char)(control ? '?' : name[len]);
        ascii = ascii && (unsigned char)name[len] < 0x80;
    }
    (void)buf_add_text(out, "From: ");
    if (ascii)
        add_quoted(out, clean, len);
    else
        add_encoded(out, clean, len);
    (void)buf_printf(out, "\r\n <%s>\r\n", sender);
}

void sendmail_header_write(struct str section, const struct sendmail_options *options,
                           const char *sender, struct buf *out)
{
    struct header_facts facts;
    bool named = options->name != NULL && options->name[0] != '\0' && sender[0] != '\0';
    bool ok = true;

    header_facts_read(section, &facts);
    if (named && !facts.has_from)
        add_from(options->name, sender, out);
    if (options->from_header)
        ok = submission_copy_header(section, NULL, out);
    else
        ok = buf_add_str(out, section);
    if (!ok || !buf_add_text(out, "\r\n"))
        unreachable_bug(); /* the caller gives the room */
}
