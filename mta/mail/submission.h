/* mta/mail/submission.h - what submission changes in a header section, and what it refuses. RFC 6409
 * section 8, RFC 5322 section 3.6. Pure; survives anything. Relaying uses none of it. */
#ifndef MTA_MAIL_SUBMISSION_H
#define MTA_MAIL_SUBMISSION_H

#include "mta/mail/header.h"

/**
 * Append a copy of a section in which
 * - Bcc and Resent-Bcc are gone, whole folded fields: whoever stands there is in the envelope
 *   already, and the others are not to know (RFC 5322 section 3.6.3);
 * - From, Sender, Reply-To, To, Cc and their Resent- forms that name nobody but local parts ("root",
 *   "Cron Daemon <root>") have "@domain" behind each; a field that also holds a domain, or cannot be
 *   read, is copied as it is.
 * All else is copied byte for byte.
 *
 * @param domain  NULL: nothing is completed
 * @param out     grows by at most section.len + SUBMISSION_COMPLETED_MAX; what would need more is not
 *                completed
 * @return false: no room in out
 */
#define SUBMISSION_COMPLETED_MAX ((size_t)16 * 1024)
MUST_USE bool submission_copy_header(struct str section, const char *domain, struct buf *out);

/* Is it the line that a mailbox file has in front of each message: "From anna@... Wed Nov 25 ..."? */
bool submission_is_mailbox_line(struct str line);
/* The section behind such a line, if it begins with one: else all of it would pass for body. */
struct str submission_skip_mailbox_line(struct str section);

/* The field that may stand there once only and does twice: readers differ in which one they show.
 * From, Date, Subject, To. @return its name; NULL: none */
const char *submission_repeated_field(const struct header_facts *facts);

#endif
