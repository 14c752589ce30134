/* mta/mail/dkim_private.h - what dkim_canon.c gives to dkim_sign.c. */
#ifndef MTA_MAIL_DKIM_PRIVATE_H
#define MTA_MAIL_DKIM_PRIVATE_H

#include "mta/mail/dkim.h"

/* Gathers small pieces, so that the hash is called seldom and with much. */
struct dkim_batch {
    const struct dkim_hash *hash;
    size_t len;
    char bytes[4096];
};
void dkim_batch_init(struct dkim_batch *batch, const struct dkim_hash *hash);
void dkim_batch_add(struct dkim_batch *batch, const char *bytes, size_t len);
void dkim_batch_flush(struct dkim_batch *batch);

/* One field ("Name: value", folds included; a final CRLF counts as white space) in relaxed form
 * (RFC 6376 section 3.4.2), without its CRLF. The name must be valid: see header_walk_next(). */
void dkim_relax_field(struct dkim_batch *batch, struct str name, struct str value);

#endif
