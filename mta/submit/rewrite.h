/* mta/submit/rewrite.h - whom an address of the envelope means: aliases, <Postmaster>, names without
 * a domain; and what of its parameters goes along. RFC 5321 sections 2.3.5 and 4.5.1, RFC 6409
 * section 4.2, RFC 3461 section 5.2.7. Pure. */
#ifndef MTA_SUBMIT_REWRITE_H
#define MTA_SUBMIT_REWRITE_H

#include "config/config.h"
#include "mta/smtp/server.h"

#define REWRITE_ADDRESS_MAX (SMTP_PATH_MAX + 1) /* the longest that comes out, with its NUL */

/* One who gets the mail. Borrowed for the call. @return false: no room, stop */
typedef bool (*rewrite_add_fn)(const struct smtp_address *address, void *ctx);

enum rewrite_result {
    REWRITE_OK,
    REWRITE_UNQUALIFIED, /* a name without a domain, and nobody is there to complete it for */
    REWRITE_TOO_LONG,    /* together with the domain */
    REWRITE_STOPPED,     /* add said so; it may have been called before */
};

/**
 * Who gets the mail of this recipient: itself, or those whom its alias names.
 *
 * @param complete the client is one whose names are completed by default_domain
 *
 * An alias counts for a name without a domain, and at this machine's own names (config.hostname,
 * localhost). Of names without a domain only <Postmaster> is known to a client whose names are not
 * completed. `add` is called once for each address or more often for the same one, and at least once
 * with REWRITE_OK. Each alias is followed once, so the work is bounded by the configuration's size.
 */
MUST_USE enum rewrite_result rewrite_recipient(const struct config *config,
                                               const struct smtp_address *recipient, bool complete,
                                               rewrite_add_fn add, void *ctx);

/* What RCPT asks for, as it goes along with each of those whom its address means. */
struct rewrite_asked {
    uint8_t notify; /* enum queue_notify bits; EXPANDED is for one of them */
    char orcpt[SMTP_ORCPT_MAX + 1]; /* "": none */
};

/**
 * A name that means one address is the same recipient elsewhere: all is handed on (section 5.2.7.2).
 * One that means several is done with once it has been taken apart: NOTIFY=SUCCESS is not handed on,
 * or the sender would be told as often as there are addresses that it does not know; it is to be told
 * once of "expanded" (section 5.2.7.3, the second of its three ways). Of failures and delays it hears
 * as it asked to. ORCPT stays as it was given; without one, the sender of a NOTIFY is to read in the
 * answer the name that it wrote, not only the address which that has become.
 */
void rewrite_asked(const struct config *config, const struct smtp_rcpt *rcpt, bool complete,
                   struct rewrite_asked *asked_out);

/**
 * A name without a domain and default_domain together.
 *
 * @param text_out holds what address_out borrows
 * @return false: longer than an address may be
 */
MUST_USE bool rewrite_complete(const struct config *config, struct str local,
                               char text_out[REWRITE_ADDRESS_MAX],
                               struct smtp_address *address_out);

#endif
