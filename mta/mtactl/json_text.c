/* mta/mtactl/json_text.c - see json_text.h. */
#include "mta/mtactl/json_text.h"

#include <string.h>

#include "mta/mtactl/words.h"

static void put_escaped(struct buf *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    const char text[6] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
    buf_add(out, text, sizeof text);
}

static void put_ascii(struct buf *out, char c)
{
    static const struct {
        char byte;
        const char *text;
    } shorts[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}};
    for (size_t i = 0; i < sizeof shorts / sizeof shorts[0]; i++) {
        if (shorts[i].byte == c) {
            buf_add_text(out, shorts[i].text);
            return;
        }
    }
    if ((unsigned char)c < 0x20 || c == 0x7F)
        put_escaped(out, (unsigned char)c);
    else
        buf_add(out, &c, 1);
}

/* @return how many bytes at the front were written; 0: they are the beginning of a sequence */
static size_t put_one(struct buf *out, struct str bytes)
{
    int length = str_utf8_length(bytes);
    if (length < 0)
        return 0;
    if (length == 0) {
        put_escaped(out, (unsigned char)bytes.p[0]);
        return 1;
    }
    if (length == 1)
        put_ascii(out, bytes.p[0]);
    else
        buf_add(out, bytes.p, (size_t)length);
    return (size_t)length;
}

/* The sequence begun in the piece before: one byte more at a time, until it is one or is none. */
static struct str finish_part(struct ctl_json_text *state, struct str bytes, struct buf *out)
{
    while (state->part_len > 0 && bytes.len > 0) {
        state->part[state->part_len++] = bytes.p[0];
        bytes = str_skip(bytes, 1);
        size_t done = put_one(out, (struct str){state->part, state->part_len});
        while (done > 0 && done < state->part_len) { /* the first byte was none: look behind it */
            state->part_len -= done;
            memmove(state->part, state->part + done, state->part_len);
            done = put_one(out, (struct str){state->part, state->part_len});
        }
        if (done > 0)
            state->part_len = 0;
    }
    return bytes;
}

void ctl_json_text_add(struct ctl_json_text *state, struct str bytes, struct buf *out)
{
    bytes = finish_part(state, bytes, out);
    while (bytes.len > 0) {
        size_t done = put_one(out, bytes);
        if (done == 0) {
            memcpy(state->part, bytes.p, bytes.len);
            state->part_len = bytes.len;
            return;
        }
        bytes = str_skip(bytes, done);
    }
}

void ctl_json_text_end(struct ctl_json_text *state, struct buf *out)
{
    for (size_t i = 0; i < state->part_len; i++)
        put_escaped(out, (unsigned char)state->part[i]);
    state->part_len = 0;
}
