/* mta/smtp/address.h - mailbox grammar of RFC 5321 section 4.1.2, and domains as A-labels. Pure. */
#ifndef MTA_SMTP_ADDRESS_H
#define MTA_SMTP_ADDRESS_H

#include "mta/base/str.h"

#define SMTP_LOCAL_MAX  64   /* RFC 5321 section 4.5.3.1.1; we accept up to 255 (VERP in the field) */
#define SMTP_PATH_MAX   512
#define SMTP_DOMAIN_MAX 255

struct smtp_address {
    struct str whole;  /* local@domain exactly as written: quotes are never re-parsed (cases O14) */
    struct str local;  /* verbatim, with its quotes */
    struct str domain; /* verbatim; with brackets for an address literal */
    bool literal;
    bool utf8; /* bytes beyond ASCII: needs SMTPUTF8 */
};

enum smtp_path_kind { SMTP_PATH_NULL, SMTP_PATH_MAILBOX, SMTP_PATH_UNQUALIFIED /* <postmaster>, <root> */ };

/**
 * Parse "<...>" at the start of text: a source route is skipped (RFC 5321 section 4.1.1.3), quoted local parts
 * may hold any printable ASCII, '@', '>' and spaces; address literals IPv4 and IPv6: are checked. 8-bit
 * bytes are refused.
 *
 * @param rest_out what stands behind '>' (parameters)
 * @return false: not a path (syntax, over the lengths above, control bytes)
 */
MUST_USE bool smtp_path_parse(struct str text, enum smtp_path_kind *kind_out,
                              struct smtp_address *address_out, struct str *rest_out);

/* The same with SMTPUTF8 (RFC 6531 section 3.3): the local part may hold UTF-8, the domain U-labels. */
MUST_USE bool smtp_path_parse_utf8(struct str text, enum smtp_path_kind *kind_out,
                                   struct smtp_address *address_out, struct str *rest_out);

/* Without the brackets: "local@domain". */
MUST_USE bool smtp_address_parse(struct str text, struct smtp_address *address_out);

/* Lower case A-label form (libidn2, non-transitional; ASCII is only lower-cased and checked). Address
 * literals are kept as they are, lower case. @return false: no domain name */
MUST_USE bool smtp_domain_ascii(struct str domain, char *out, size_t size);

#endif
