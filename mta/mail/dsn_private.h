/* mta/mail/dsn_private.h - what dsn.c and dsn_text.c share. */
#ifndef MTA_MAIL_DSN_PRIVATE_H
#define MTA_MAIL_DSN_PRIVATE_H

#include "mta/mail/dsn.h"

#define DSN_ADDRESS_MAX 900  /* a line must hold it; longer ones are cut */
#define DSN_TEXT_MAX    1200 /* a reply made printable */
#define DSN_WORD_MAX    900

/* Bytes outside printable ASCII become '?'. NULL is "". */
void dsn_make_address(const char *address, char out[DSN_ADDRESS_MAX + 1]);
/* Runs of white space, line ends too, become one space; bytes outside printable ASCII \xXX. NULL is
 * "". */
void dsn_make_text(const char *text, char out[DSN_TEXT_MAX + 1]);
/* The recipient's status, or 5.0.0 (delayed: 4.0.0) if it is none for this kind by RFC 3463. */
const char *dsn_status(const struct dsn *dsn, const struct dsn_recipient *recipient);

/* The part for people, lines of at most 72 octets where words allow. */
void dsn_add_words(struct buf *out, const struct dsn *dsn);

#endif
