/* mta/sendmail/recipients.h - whom the message goes to. Pure. */
#ifndef MTA_SENDMAIL_RECIPIENTS_H
#define MTA_SENDMAIL_RECIPIENTS_H

#include "mta/base/str.h"

struct sendmail_recipients {
    char **addresses; /* "local@domain", or "local" for the listener to complete; owned */
    size_t count, capacity;
};

void sendmail_recipients_deinit(struct sendmail_recipients *recipients);

/* All addresses of a list (mta/mail/address_list.h). What cannot be read as one is an error: mail goes
 * to all or to nobody. @return 0; -1: error says which, printable */
MUST_USE int sendmail_recipients_add(struct sendmail_recipients *recipients, struct str list,
                                     char *error, size_t error_size);

/* The one address of a list, or "" for "" and "<>": an envelope sender. Owned by the caller.
 * @return NULL: there is none, or more than one; error says so */
MUST_USE char *sendmail_sender_read(struct str text, char *error, size_t error_size);

#endif
