/* mta/auth/base64.h - base64 (RFC 4648 section 4), strict: full padding, no blanks or line ends, no bits
 * left over. */
#ifndef MTA_AUTH_BASE64_H
#define MTA_AUTH_BASE64_H

#include "mta/base/str.h"

/* Room that decoding needs. */
#define BASE64_DECODED_MAX(len) ((len) / 4 * 3)
/* Room that encoding needs, with the NUL. */
#define BASE64_ENCODED_SIZE(len) (((len) + 2) / 3 * 4 + 1)

/* @param bytes_out room for BASE64_DECODED_MAX(text.len); holds anything after a failure
 * @return false: not base64 */
MUST_USE bool base64_decode(struct str text, uint8_t *bytes_out, size_t *len_out);

/* @param text_out room for BASE64_ENCODED_SIZE(len); NUL-terminated @return its length */
size_t base64_encode(const void *bytes, size_t len, char *text_out);

#endif
