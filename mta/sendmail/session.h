/* mta/sendmail/session.h - the client side of SMTP over a unix socket, blocking: one message to one
 * listener of ours. RFC 5321, 2920, 3461. */
#ifndef MTA_SENDMAIL_SESSION_H
#define MTA_SENDMAIL_SESSION_H

#include "mta/sendmail/options.h"
#include "mta/sendmail/recipients.h"
#include "mta/sendmail/verdict.h"

struct sendmail_session;

/* Connects only. @return the socket, or -1: the verdict says why (EX_TEMPFAIL) */
MUST_USE int sendmail_connect(const char *path, struct sendmail_verdict *verdict);

/* All return 0, or -1 with the verdict set; then only _close is left to do, and no recipient will
 * get the message (but for a verdict that says that the end of the session is not known). */

/* Connect, greeting, EHLO. */
MUST_USE int sendmail_session_open(const char *path, struct sendmail_session **session_out,
                                   struct sendmail_verdict *verdict);
/* MAIL, every RCPT, DATA up to 354: pipelined in batches. One refused recipient refuses all: who
 * called us has no way to learn which of them got it. */
MUST_USE int sendmail_session_begin(struct sendmail_session *session,
                                    const struct sendmail_options *options, const char *sender,
                                    const struct sendmail_recipients *recipients,
                                    struct sendmail_verdict *verdict);
/* Content with CRLF line ends; dots are added here. */
MUST_USE int sendmail_session_content(struct sendmail_session *session, struct str bytes,
                                      struct sendmail_verdict *verdict);
/* The final dot. 0: the message is in the queue. */
MUST_USE int sendmail_session_finish(struct sendmail_session *session,
                                     struct sendmail_verdict *verdict);
/* QUIT, if that is in order; stores NULL. Without _finish the message is dropped. */
void sendmail_session_close(struct sendmail_session **sessionp);

#endif
