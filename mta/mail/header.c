/* mta/mail/header.c - reading a header section: the walk over its fields, its end, and the facts
 * that submission wants to know. The address reading is in address_list.c. RFC 5322 section 2.2. */
#include "mta/mail/header.h"

#include <string.h>

#define DOMAIN_MAX 255

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Bytes up to and with the next CRLF; all of them if there is none. */
static size_t line_length(struct str s)
{
    const char *end = s.len > 0 ? memmem(s.p, s.len, "\r\n", 2) : NULL;
    return end == NULL ? s.len : (size_t)(end - s.p) + 2;
}

/* The first line and the lines that continue it. */
static size_t field_length(struct str s)
{
    size_t len = line_length(s);
    while (len < s.len && is_blank(s.p[len]))
        len += line_length(str_skip(s, len));
    return len;
}

/* A field name is printable ASCII without colon (RFC 5322 section 2.2); white space before the
 * colon is obsolete, but must be read (section 4.5). */
static void split_field(struct header_field *field)
{
    struct str whole = field->whole;
    const char *colon = memchr(whole.p, ':', whole.len);
    if (colon == NULL)
        return;

    struct str name = {whole.p, (size_t)(colon - whole.p)};
    while (name.len > 0 && is_blank(name.p[name.len - 1]))
        name.len--;
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f)
            return;
    }
    if (name.len == 0)
        return;

    struct str value = str_skip(whole, (size_t)(colon - whole.p) + 1);
    if (value.len >= 2 && memcmp(value.p + value.len - 2, "\r\n", 2) == 0)
        value.len -= 2;
    field->name = name;
    field->value = value;
}

void header_walk_init(struct header_walk *walk, struct str section)
{
    walk->rest = section;
}

bool header_walk_next(struct header_walk *walk, struct header_field *field_out)
{
    struct str rest = walk->rest;
    if (rest.len == 0 || (rest.len >= 2 && memcmp(rest.p, "\r\n", 2) == 0))
        return false;

    struct header_field field = {.whole = {rest.p, field_length(rest)}};
    split_field(&field);
    walk->rest = str_skip(rest, field.whole.len);
    *field_out = field;
    return true;
}

bool header_section_end(struct str bytes, size_t *header_len_out, size_t *body_start_out)
{
    if (bytes.len >= 2 && memcmp(bytes.p, "\r\n", 2) == 0) {
        *header_len_out = 0;
        *body_start_out = 2;
        return true;
    }
    const char *end = bytes.len >= 4 ? memmem(bytes.p, bytes.len, "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return false;
    *header_len_out = (size_t)(end - bytes.p) + 2;
    *body_start_out = *header_len_out + 2;
    return true;
}

static void count_up(uint32_t *counter)
{
    if (*counter < UINT32_MAX)
        (*counter)++;
}

static void read_from(struct str value, struct header_facts *facts)
{
    struct str local;
    struct str domain;
    if (!header_first_mailbox(value, &local, &domain) || domain.len > DOMAIN_MAX)
        return;
    memcpy(facts->from_domain, domain.p, domain.len);
    facts->from_domain[domain.len] = '\0';
    str_lower(facts->from_domain, domain.len);
}

static void note_field(const struct header_field *field, struct header_facts *facts)
{
    if (field->name.len == 0) {
        facts->has_malformed = true;
    } else if (str_equal_nocase(field->name, STR("Received"))) {
        count_up(&facts->received_count);
    } else if (str_equal_nocase(field->name, STR("From"))) {
        if (!facts->has_from)
            read_from(field->value, facts);
        facts->has_from = true;
        count_up(&facts->from_count);
    } else if (str_equal_nocase(field->name, STR("Date"))) {
        facts->has_date = true;
        count_up(&facts->date_count);
    } else if (str_equal_nocase(field->name, STR("Subject"))) {
        count_up(&facts->subject_count);
    } else if (str_equal_nocase(field->name, STR("To"))) {
        count_up(&facts->to_count);
    } else if (str_equal_nocase(field->name, STR("Message-ID"))) {
        facts->has_message_id = true;
    } else if (str_equal_nocase(field->name, STR("MIME-Version"))) {
        facts->has_mime_version = true;
    }
}

void header_facts_read(struct str section, struct header_facts *facts_out)
{
    struct header_facts facts = {0};
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field))
        note_field(&field, &facts);
    *facts_out = facts;
}
