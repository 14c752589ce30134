/* mta/mtactl/reader.h - the daemon's answer: bytes in, events out. Pure; the bytes are not trusted.
 *
 * The answer is lines of JSON. {"done":true,"exit":N} and {"error":"text"} end it; {"raw":N} says
 * that N bytes follow which are no line. */
#ifndef MTA_MTACTL_READER_H
#define MTA_MTACTL_READER_H

#include <jansson.h>

#include "mta/base/buf.h"

#define CTL_LINE_MAX ((size_t)64 * 1024 * 1024)

enum ctl_event {
    CTL_MORE,   /* nothing yet: give more bytes */
    CTL_LINE,   /* object */
    CTL_RAW,    /* raw: the next bytes of a piece */
    CTL_DONE,   /* exit_code; nothing follows */
    CTL_ERROR,  /* text: the daemon's own words; nothing follows */
    CTL_BROKEN, /* text: no answer, or none that this program understands; nothing follows */
};

struct ctl_answer {
    const json_t *object; /* borrowed until the next call, as the others */
    struct str raw;
    const char *text;
    int exit_code;
};

struct ctl_reader {
    struct buf input;
    size_t looked;     /* bytes of input that hold no end of line */
    size_t used;       /* bytes of the last event, consumed by the next call */
    uint64_t raw_left; /* of the piece at hand */
    json_t *object;    /* of the last event */
};

void ctl_reader_init(struct ctl_reader *reader);
void ctl_reader_deinit(struct ctl_reader *reader);

/* Where the next bytes go; size_out tells how many there may be. NULL: CTL_LINE_MAX is reached. */
char *ctl_reader_room(struct ctl_reader *reader, size_t *size_out);
void ctl_reader_filled(struct ctl_reader *reader, size_t len);

/* What came. Call until CTL_MORE. */
enum ctl_event ctl_reader_next(struct ctl_reader *reader, struct ctl_answer *answer_out);

#endif
