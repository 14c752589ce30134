/* mta/smtp/dot.h - the transparency of DATA (RFC 5321 section 4.5.2), both ways. Pure. */
#ifndef MTA_SMTP_DOT_H
#define MTA_SMTP_DOT_H

#include "mta/base/buf.h"

/* ---- writing: content to the wire ---- */
struct smtp_dot_writer {
    int state;
};
void smtp_dot_writer_init(struct smtp_dot_writer *writer);
/* Appends len bytes of content, dots doubled at line starts, to out (room for 2*len needed). A bare CR or LF is never
 * emitted: it would be sent as CRLF (the store holds none; this is the last line of defence). @return false: no room */
MUST_USE bool smtp_dot_write(struct smtp_dot_writer *writer, const char *bytes, size_t len, struct buf *out);
/* "CRLF" if the content did not end with one, then ".CRLF". */
MUST_USE bool smtp_dot_finish(struct smtp_dot_writer *writer, struct buf *out);

/* ---- reading: wire to content ---- */
enum smtp_dot_fault { SMTP_DOT_BARE_CR = 1, SMTP_DOT_BARE_LF = 2, SMTP_DOT_NUL = 4, SMTP_DOT_LONG_LINE = 8 };
struct smtp_dot_reader {
    int state;
    unsigned faults;     /* enum smtp_dot_fault bits seen so far; reading goes on to the end */
    size_t line_len;     /* octets of the current line, CRLF excluded */
    size_t line_max;     /* over it: SMTP_DOT_LONG_LINE */
};
void smtp_dot_reader_init(struct smtp_dot_reader *reader, size_t line_max);
/* Eats wire bytes; content (dots removed, CRLF kept) is appended to out, at most as many bytes as eaten plus 2.
 * Only CRLF.CRLF ends the data. *done_out: the end was seen at *used_out bytes. @return false: out is full */
MUST_USE bool smtp_dot_read(struct smtp_dot_reader *reader, const char *bytes, size_t len,
                            size_t *used_out, struct buf *out, bool *done_out);

/* ---- content without dots (BDAT), by the same rules ---- */
/* Looks at len bytes, which stay as they are. Line ends may be cut between calls. */
void smtp_dot_check(struct smtp_dot_reader *reader, const char *bytes, size_t len);
/* The content is complete: a CR without its LF is a bare one. @return whether it ends a line (or is empty) */
MUST_USE bool smtp_dot_check_end(struct smtp_dot_reader *reader);
#endif
