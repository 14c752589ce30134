/* mta/smtp/dot.c - dots doubled and undoubled. Every byte of every message passes here, so the bulk
 * moves in runs that memchr finds and memcpy copies; only line ends, line-start dots and faults are
 * looked at singly. */
#include "mta/smtp/dot.h"

#include <assert.h>
#include <string.h>

/* ---- writing ---- */

/* Looking for a line's end no further than this keeps the work linear when there is a fault at
 * every other byte. */
#define SCAN_MAX 4096

enum writer_state {
    WRITE_LINE_START,
    WRITE_IN_LINE,
    WRITE_AFTER_CR, /* "CRLF" is out already: a line start that swallows the LF, should it come */
};

void smtp_dot_writer_init(struct smtp_dot_writer *writer)
{
    writer->state = WRITE_LINE_START;
}

/* Length of what can go out unchanged from p, which stands neither at a CR or LF nor at a dot to be
 * doubled: whole CRLF lines up to one that starts with a dot, then the sound beginning of the line
 * behind them. *state_out: where that leaves the writer. */
static size_t clean_run(const char *p, size_t len, int *state_out)
{
    size_t line = 0;

    while (line < len && (line == 0 || p[line] != '.')) {
        size_t window = len - line < SCAN_MAX ? len - line : SCAN_MAX;
        const char *cr = memchr(p + line, '\r', window);
        size_t end = cr != NULL ? (size_t)(cr - p) : line + window;
        const char *lf = memchr(p + line, '\n', end - line);
        if (lf == NULL && cr != NULL && end + 1 < len && p[end + 1] == '\n') {
            line = end + 2;
            continue;
        }
        *state_out = WRITE_IN_LINE;
        return lf != NULL ? (size_t)(lf - p) : end;
    }
    *state_out = WRITE_LINE_START;
    return line;
}

bool smtp_dot_write(struct smtp_dot_writer *writer, const char *bytes, size_t len, struct buf *out)
{
    size_t i = 0;

    /* each byte becomes two at most */
    if (out->overflow || len > (out->max - buf_len(out)) / 2)
        return false;
    while (i < len) {
        bool good = true;
        if (bytes[i] == '\n' && writer->state == WRITE_AFTER_CR) {
            writer->state = WRITE_LINE_START;
            i++;
        } else if (bytes[i] == '\n' || bytes[i] == '\r') {
            writer->state = bytes[i] == '\r' ? WRITE_AFTER_CR : WRITE_LINE_START;
            good = buf_add(out, "\r\n", 2);
            i++;
        } else if (bytes[i] == '.' && writer->state != WRITE_IN_LINE) {
            writer->state = WRITE_IN_LINE;
            good = buf_add(out, "..", 2);
            i++;
        } else {
            size_t run = clean_run(bytes + i, len - i, &writer->state);
            good = buf_add(out, bytes + i, run);
            i += run;
        }
        assert(good);
    }
    return true;
}

bool smtp_dot_finish(struct smtp_dot_writer *writer, struct buf *out)
{
    struct str end = writer->state == WRITE_IN_LINE ? STR("\r\n.\r\n") : STR(".\r\n");

    if (out->overflow || end.len > out->max - buf_len(out))
        return false;
    smtp_dot_writer_init(writer);
    return buf_add_str(out, end);
}

/* ---- reading ---- */

enum reader_state {
    READ_LINE_START,
    READ_IN_LINE,
    READ_CR,     /* a CR is held back until it is known whether LF follows */
    READ_DOT,    /* a dot at the line start is held back: it is dropped in any case */
    READ_DOT_CR, /* LF now is the end; anything else makes that CR a bare one */
};

void smtp_dot_reader_init(struct smtp_dot_reader *reader, size_t line_max)
{
    *reader = (struct smtp_dot_reader){.state = READ_LINE_START, .line_max = line_max};
}

static void count_line(struct smtp_dot_reader *reader, size_t len)
{
    reader->line_len += len;
    if (reader->line_len > reader->line_max)
        reader->faults |= SMTP_DOT_LONG_LINE;
}

/* Length of the content at p, which stands neither at a CR nor at a line-start dot: whole CRLF
 * lines up to one that starts with a dot, then what there is of a line up to a CR that is bare or
 * not decided yet. Bare LFs are passed and noted: they end no line. */
static size_t content_run(struct smtp_dot_reader *reader, const char *p, size_t len)
{
    size_t i = 0;

    while (i < len && (i == 0 || p[i] != '.')) {
        const char *cr = memchr(p + i, '\r', len - i);
        size_t end = cr != NULL ? (size_t)(cr - p) : len;
        if (memchr(p + i, '\n', end - i) != NULL)
            reader->faults |= SMTP_DOT_BARE_LF;
        count_line(reader, end - i);
        if (cr == NULL || end + 1 == len || p[end + 1] != '\n') {
            reader->state = READ_IN_LINE;
            return end;
        }
        reader->line_len = 0;
        i = end + 2;
    }
    reader->state = READ_LINE_START;
    return i;
}

/* A CR was held back and c follows. @return whether c was eaten too */
static bool after_cr(struct smtp_dot_reader *reader, char c, char *out, size_t *out_len)
{
    out[(*out_len)++] = '\r';
    if (c == '\n') {
        out[(*out_len)++] = '\n';
        reader->line_len = 0;
        reader->state = READ_LINE_START;
        return true;
    }
    reader->faults |= SMTP_DOT_BARE_CR;
    count_line(reader, 1);
    reader->state = READ_IN_LINE;
    return false;
}

/* Eats up to the end of the data or of bytes. @return how much was eaten */
static size_t read_bytes(struct smtp_dot_reader *reader, const char *bytes, size_t len, char *out,
                         size_t *out_len, bool *done)
{
    size_t i = 0;

    while (i < len && !*done) {
        char c = bytes[i];
        if (reader->state == READ_DOT_CR && c == '\n') {
            *done = true;
            i++;
        } else if (reader->state == READ_CR || reader->state == READ_DOT_CR) {
            i += after_cr(reader, c, out, out_len) ? 1 : 0;
        } else if (reader->state == READ_LINE_START && c == '.') {
            reader->state = READ_DOT;
            i++;
        } else if (c == '\r') {
            reader->state = reader->state == READ_DOT ? READ_DOT_CR : READ_CR;
            i++;
        } else {
            size_t run = content_run(reader, bytes + i, len - i);
            memcpy(out + *out_len, bytes + i, run);
            *out_len += run;
            i += run;
        }
    }
    return i;
}

bool smtp_dot_read(struct smtp_dot_reader *reader, const char *bytes, size_t len, size_t *used_out,
                   struct buf *out, bool *done_out)
{
    size_t out_len = 0;
    bool done = false;
    char *space = buf_reserve(out, len + 2);

    if (space == NULL)
        return false;
    size_t used = read_bytes(reader, bytes, len, space, &out_len, &done);
    buf_filled(out, out_len);
    if (used > 0 && memchr(bytes, '\0', used) != NULL)
        reader->faults |= SMTP_DOT_NUL;
    *used_out = used;
    *done_out = done;
    return true;
}

/* ---- content without dots ---- */

void smtp_dot_check(struct smtp_dot_reader *reader, const char *bytes, size_t len)
{
    size_t i = 0;

    if (len > 0 && memchr(bytes, '\0', len) != NULL)
        reader->faults |= SMTP_DOT_NUL;
    while (i < len) {
        if (reader->state == READ_CR && bytes[i] == '\n') {
            reader->line_len = 0;
            reader->state = READ_LINE_START;
            i++;
            continue;
        }
        if (reader->state == READ_CR) {
            reader->faults |= SMTP_DOT_BARE_CR;
            count_line(reader, 1);
        }
        const char *cr = memchr(bytes + i, '\r', len - i);
        size_t end = cr != NULL ? (size_t)(cr - bytes) : len;
        if (memchr(bytes + i, '\n', end - i) != NULL)
            reader->faults |= SMTP_DOT_BARE_LF;
        count_line(reader, end - i);
        reader->state = cr != NULL ? READ_CR : READ_IN_LINE;
        i = cr != NULL ? end + 1 : len;
    }
}

bool smtp_dot_check_end(struct smtp_dot_reader *reader)
{
    if (reader->state == READ_CR)
        reader->faults |= SMTP_DOT_BARE_CR;
    return reader->state == READ_LINE_START;
}
