/* mta/mail/address_list.h - the addresses of a To, Cc, Bcc or From field. Pure; survives anything.
 * RFC 5322 section 3.4 with the obsolete forms of section 4.4: comments, quoted strings, display
 * names, groups, routes; a semicolon separates as a comma does. Linear in time, no recursion. */
#ifndef MTA_MAIL_ADDRESS_LIST_H
#define MTA_MAIL_ADDRESS_LIST_H

#include "mta/base/str.h"

enum address_item {
    ADDRESS_END,
    ADDRESS_MAILBOX, /* local and domain */
    ADDRESS_LOCAL,   /* a local part alone, "root" or "Cron Daemon <root>": domain is empty */
    ADDRESS_WORDS,   /* words without an address, "John Doe" */
    ADDRESS_BAD,     /* not to be read, or to be read in two ways: the walk is over */
};

struct address_list {
    struct str value;
    size_t at;
};

/* All parts point into the value. */
struct address {
    struct str local;  /* verbatim, quotes included */
    struct str domain; /* verbatim, brackets of a literal included */
    bool bracketed;    /* it stood in <> */
    struct str text;   /* the element, display name included; of ADDRESS_BAD: from its start on */
};

void address_list_init(struct address_list *list, struct str value);
/* The next one. After ADDRESS_END and ADDRESS_BAD comes ADDRESS_END. */
enum address_item address_list_next(struct address_list *list, struct address *address_out);

#endif
