/* mta/sendmail/input.h - standard input to message content: line ends, the lone dot, the line of a
 * mailbox file. Pure. */
#ifndef MTA_SENDMAIL_INPUT_H
#define MTA_SENDMAIL_INPUT_H

#include "mta/base/buf.h"

/* What no listener of ours takes. */
enum sendmail_fault { SENDMAIL_FAULT_NONE, SENDMAIL_FAULT_CR, SENDMAIL_FAULT_NUL };

struct sendmail_input {
    bool ignore_dot;
    int state;
    bool ended;                /* the lone dot was seen: nothing more is taken */
    enum sendmail_fault fault; /* the first */
};

void sendmail_input_init(struct sendmail_input *input, bool ignore_dot);

/* Appends the content to out: LF and CRLF become CRLF; a CR alone and a NUL are noted, and go as
 * they are. out gets at most 2 * len + 4 bytes and must have room for them. */
void sendmail_input_feed(struct sendmail_input *input, const char *bytes, size_t len,
                         struct buf *out);
/* The end of the input: the last line gets its end. */
void sendmail_input_end(struct sendmail_input *input, struct buf *out);

#endif
