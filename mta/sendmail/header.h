/* mta/sendmail/header.h - the header section of the message on standard input: gathered with a bound
 * before the first command is sent, since the recipients may stand in it. Pure. */
#ifndef MTA_SENDMAIL_HEADER_H
#define MTA_SENDMAIL_HEADER_H

#include "mta/base/buf.h"
#include "mta/sendmail/options.h"
#include "mta/sendmail/recipients.h"

#define SENDMAIL_HEADER_MAX ((size_t)256 * 1024) /* a listener takes no more */
#define SENDMAIL_PIECE_MAX  ((size_t)32 * 1024)  /* of standard input at a time */

/* As sendmail(1) reads it: "From " lines of a mailbox file in front are dropped; the section ends at
 * a blank line, or at the first line that is no field and continues none: that is body already. */
struct sendmail_header {
    struct buf bytes; /* content from its first byte on; sendmail_input writes here */
    size_t start;     /* behind what was dropped */
    size_t checked;   /* the lines up to here belong to the section */
    size_t body;      /* where the body begins, once ended */
    bool ended;
};

void sendmail_header_init(struct sendmail_header *header);
void sendmail_header_deinit(struct sendmail_header *header);

/* Looks at what was appended since the last time. last: nothing follows.
 * @return 1: its end was found; 0: more is needed; -1: it is over SENDMAIL_HEADER_MAX */
MUST_USE int sendmail_header_look(struct sendmail_header *header, bool last);

/* Once it has ended: the fields, without the blank line; and what there is of the body. */
struct str sendmail_header_section(const struct sendmail_header *header);
struct str sendmail_header_body(const struct sendmail_header *header);

/* -t: the addresses in To, Cc and Bcc, or, where there is a Resent-To, Resent-Cc or Resent-Bcc, in
 * these only. @return 0; -1: one cannot be read, error names it */
MUST_USE int sendmail_header_recipients(struct str section, struct sendmail_recipients *recipients,
                                        char *error, size_t error_size);

/**
 * Append the section as it is sent: without Bcc (-t), with a From made of -F and the sender where it
 * has none and there is a name, and the blank line.
 *
 * @param sender "" for <>: no From is made
 * @param out    has room for the section and SENDMAIL_ADDED_MAX
 */
#define SENDMAIL_ADDED_MAX ((size_t)4096)
void sendmail_header_write(struct str section, const struct sendmail_options *options,
                           const char *sender, struct buf *out);

#endif
