/* mta/mail/header.h - reading a header section. Pure; survives anything; never changes bytes. RFC
 * 5322 section 2.2. */
#ifndef MTA_MAIL_HEADER_H
#define MTA_MAIL_HEADER_H

#include "mta/base/buf.h"

struct header_field {
    struct str name;  /* without ':' and white space before it */
    struct str value; /* behind ':', folds included, final CRLF excluded */
    struct str whole; /* the field with its folds and final CRLF */
};

/* Walks the fields of a header section (CRLF line ends). A line that is no field (no colon, empty
 * name) ends the walk's field with name.len 0 and whole set. @return false at the end (blank line
 * or no bytes left) */
struct header_walk {
    struct str rest;
};
void header_walk_init(struct header_walk *walk, struct str section);
MUST_USE bool header_walk_next(struct header_walk *walk, struct header_field *field_out);

/* Length of the header section in bytes (the blank line excluded), once its end has been seen.
 * @return false: the end (CRLFCRLF, or a first line that is blank) is not in these bytes */
MUST_USE bool header_section_end(struct str bytes, size_t *header_len_out, size_t *body_start_out);

struct header_facts {
    bool has_date, has_message_id, has_from, has_mime_version;
    uint32_t received_count; /* saturate, all of them */
    uint32_t from_count, date_count, subject_count, to_count;
    bool has_malformed;    /* a line that is no field */
    char from_domain[256]; /* lower case; of the first mailbox in From ("" if none can be read):
                              picks the DKIM key */
};
void header_facts_read(struct str section, struct header_facts *facts_out);

/* First mailbox of an address list (From): address_list.h, words without a domain passed over.
 * @return false: none. The parts point into value. */
MUST_USE bool header_first_mailbox(struct str value, struct str *local_out, struct str *domain_out);

/* Whom a From field names as author: verbatim, domain "" where it has none. @return false: stop */
typedef bool (*header_author_fn)(struct str local, struct str domain, void *ctx);

/**
 * The authors in all From fields of a section; words without an address are passed over.
 *
 * @return false: on_author said so, or a From field names nobody or cannot be read to its end (it may
 *         show another author in every mail program)
 */
MUST_USE bool header_each_author(struct str section, header_author_fn on_author, void *ctx);

#endif
