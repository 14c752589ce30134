/* mta/sendmail/input.c - see input.h. The bulk of a line moves in one piece; only line ends,
 * line-start dots and faults are looked at singly. */
#include "mta/sendmail/input.h"

#include <string.h>

enum input_state {
    LINE_START,
    IN_LINE,
    AFTER_CR,  /* held back until it is known whether LF follows */
    AFTER_DOT, /* a dot that began the line, likewise */
    AFTER_DOT_CR,
};

void sendmail_input_init(struct sendmail_input *input, bool ignore_dot)
{
    *input = (struct sendmail_input){.ignore_dot = ignore_dot, .state = LINE_START};
}

static void note(struct sendmail_input *input, enum sendmail_fault fault)
{
    if (input->fault == SENDMAIL_FAULT_NONE)
        input->fault = fault;
}

static void add(struct buf *out, const char *bytes, size_t len)
{
    if (!buf_add(out, bytes, len))
        unreachable_bug(); /* the caller gives the room */
}

static void end_line(struct sendmail_input *input, struct buf *out)
{
    add(out, "\r\n", 2);
    input->state = LINE_START;
}

/* What was held back was not what it could have been. */
static void release(struct sendmail_input *input, struct buf *out)
{
    if (input->state == AFTER_DOT || input->state == AFTER_DOT_CR)
        add(out, ".", 1);
    if (input->state == AFTER_CR || input->state == AFTER_DOT_CR) {
        add(out, "\r", 1);
        note(input, SENDMAIL_FAULT_CR);
    }
    input->state = IN_LINE;
}

static void take_lf(struct sendmail_input *input, struct buf *out)
{
    if (input->state == AFTER_DOT || input->state == AFTER_DOT_CR)
        input->ended = true;
    else
        end_line(input, out);
}

static void take_cr(struct sendmail_input *input, struct buf *out)
{
    if (input->state == AFTER_CR || input->state == AFTER_DOT_CR)
        release(input, out);
    input->state = input->state == AFTER_DOT ? AFTER_DOT_CR : AFTER_CR;
}

/* @return bytes of the line that went out, one at least */
static size_t take_run(struct sendmail_input *input, const char *bytes, size_t len, struct buf *out)
{
    size_t run = 0;
    if (input->state != LINE_START && input->state != IN_LINE)
        release(input, out);
    while (run < len && bytes[run] != '\n' && bytes[run] != '\r')
        run++;
    if (memchr(bytes, '\0', run) != NULL)
        note(input, SENDMAIL_FAULT_NUL);
    add(out, bytes, run);
    input->state = IN_LINE;
    return run;
}

void sendmail_input_feed(struct sendmail_input *input, const char *bytes, size_t len,
                         struct buf *out)
{
    size_t i = 0;
    while (i < len && !input->ended) {
        if (bytes[i] == '\n') {
            take_lf(input, out);
            i++;
        } else if (bytes[i] == '\r') {
            take_cr(input, out);
            i++;
        } else if (bytes[i] == '.' && input->state == LINE_START && !input->ignore_dot) {
            input->state = AFTER_DOT;
            i++;
        } else {
            i += take_run(input, bytes + i, len - i, out);
        }
    }
}

void sendmail_input_end(struct sendmail_input *input, struct buf *out)
{
    if (input->ended || input->state == LINE_START)
        return;
    take_lf(input, out);
}
