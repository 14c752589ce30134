/* mta/sendmail/verdict.h - how it ended: an exit code of sysexits.h and one line of words. Pure. */
#ifndef MTA_SENDMAIL_VERDICT_H
#define MTA_SENDMAIL_VERDICT_H

#include "mta/smtp/reply.h"

struct sendmail_verdict {
    int code; /* EX_OK .. EX_CONFIG */
    char text[1500];
};

/* Always -1, for `return`. */
int sendmail_fail(struct sendmail_verdict *verdict, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a reply of 4xx or 5xx (anything else is a breach of the protocol) means to who called us:
 * EX_TEMPFAIL for 4xx, and for 5xx what its enhanced code tells. */
int sendmail_reply_code(const struct smtp_reply *reply);

/* The same with words: "to WHOM: 550 5.1.1 no such user". Unprintable bytes become '?'. Always -1. */
int sendmail_fail_reply(struct sendmail_verdict *verdict, const char *command,
                        const struct smtp_reply *reply);

#endif
