/* mta/mtactl/json_text.h - a long text as a JSON string, piece by piece. Pure. */
#ifndef MTA_MTACTL_JSON_TEXT_H
#define MTA_MTACTL_JSON_TEXT_H

#include "mta/base/buf.h"

struct ctl_json_text {
    char part[4]; /* a UTF-8 sequence of which the end has not come yet */
    size_t part_len;
};

/* Room that the text of len bytes may take: every byte as \u00XX, and what lay in `part`. */
#define CTL_JSON_TEXT_MAX(len) (((len) + 4) * 6)

/* Append the bytes as they stand inside the quotes of a JSON string (RFC 8259 section 7). What is
 * not UTF-8 becomes \u00XX, one a byte. Start from a zeroed state. */
void ctl_json_text_add(struct ctl_json_text *state, struct str bytes, struct buf *out);
/* No more bytes: what is left of a sequence was none. */
void ctl_json_text_end(struct ctl_json_text *state, struct buf *out);

#endif
