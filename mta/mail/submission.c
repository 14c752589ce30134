/* mta/mail/submission.c - see submission.h. */
#include "mta/mail/submission.h"

#include <string.h>

#include "mta/mail/address_list.h"

enum treatment { COPY, DROP, COMPLETE };

static const struct treatment_row {
    struct str name;
    enum treatment treatment;
} treatments[] = {
    {{"Bcc", 3}, DROP},
    {{"Resent-Bcc", 10}, DROP},
    {{"From", 4}, COMPLETE},
    {{"Sender", 6}, COMPLETE},
    {{"Reply-To", 8}, COMPLETE},
    {{"To", 2}, COMPLETE},
    {{"Cc", 2}, COMPLETE},
    {{"Resent-From", 11}, COMPLETE},
    {{"Resent-Sender", 13}, COMPLETE},
    {{"Resent-To", 9}, COMPLETE},
    {{"Resent-Cc", 9}, COMPLETE},
};

static enum treatment find_treatment(struct str name)
{
    for (size_t i = 0; i < sizeof treatments / sizeof treatments[0]; i++) {
        if (str_equal_nocase(treatments[i].name, name))
            return treatments[i].treatment;
    }
    return COPY;
}

/* How many local parts stand in a field that holds nothing else. */
static size_t count_locals(struct str value)
{
    struct address_list list;
    struct address address;
    size_t count = 0;

    address_list_init(&list, value);
    for (;;) {
        switch (address_list_next(&list, &address)) {
        case ADDRESS_END:
            return count;
        case ADDRESS_LOCAL:
            count++;
            break;
        case ADDRESS_MAILBOX:
        case ADDRESS_WORDS:
        case ADDRESS_BAD:
            return 0;
        }
    }
}

static bool add_completed(struct str whole, struct str value, const char *domain, struct buf *out)
{
    struct address_list list;
    struct address address;
    const char *done = whole.p;
    bool ok = true;

    address_list_init(&list, value);
    while (ok && address_list_next(&list, &address) == ADDRESS_LOCAL) {
        const char *end = address.local.p + address.local.len;
        ok = buf_add(out, done, (size_t)(end - done)) && buf_add_text(out, "@") &&
             buf_add_text(out, domain);
        done = end;
    }
    return ok && buf_add(out, done, (size_t)(whole.p + whole.len - done));
}

bool submission_is_mailbox_line(struct str line)
{
    while (line.len > 0 && line.p[0] == '>')
        line = str_skip(line, 1);
    return line.len >= 5 && memcmp(line.p, "From ", 5) == 0;
}

struct str submission_skip_mailbox_line(struct str section)
{
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, section);
    bool skip = header_walk_next(&walk, &field) && field.name.len == 0 &&
                submission_is_mailbox_line(field.whole);
    return skip ? walk.rest : section;
}

bool submission_copy_header(struct str section, const char *domain, struct buf *out)
{
    size_t room = SUBMISSION_COMPLETED_MAX;
    size_t added = domain != NULL ? strlen(domain) + 1 : 0;
    struct header_walk walk;
    struct header_field field;
    bool ok = true;

    header_walk_init(&walk, section);
    while (ok && header_walk_next(&walk, &field)) {
        enum treatment treatment = find_treatment(field.name);
        if (treatment == DROP)
            continue;
        size_t locals = treatment == COMPLETE && domain != NULL ? count_locals(field.value) : 0;
        if (locals == 0 || locals > room / added) {
            ok = buf_add_str(out, field.whole);
            continue;
        }
        room -= locals * added;
        ok = add_completed(field.whole, field.value, domain, out);
    }
    return ok;
}

const char *submission_repeated_field(const struct header_facts *facts)
{
    if (facts->from_count > 1)
        return "From";
    if (facts->date_count > 1)
        return "Date";
    if (facts->subject_count > 1)
        return "Subject";
    return facts->to_count > 1 ? "To" : NULL;
}
