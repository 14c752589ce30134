/* mta/submit/rewrite.h - whom an address of the envelope means: aliases, <Postmaster>, names without
 * a domain. RFC 5321 sections 2.3.5 and 4.5.1, RFC 6409 section 4.2. Pure. */
#ifndef MTA_SUBMIT_REWRITE_H
#define MTA_SUBMIT_REWRITE_H

#include "config/config.h"
#include "mta/smtp/address.h"

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
