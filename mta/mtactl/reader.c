/* mta/mtactl/reader.c - see reader.h. */
#include "mta/mtactl/reader.h"

#include <string.h>

#define ROOM ((size_t)64 * 1024)

void ctl_reader_init(struct ctl_reader *reader)
{
    *reader = (struct ctl_reader){0};
    buf_init(&reader->input, CTL_LINE_MAX + ROOM);
}

void ctl_reader_deinit(struct ctl_reader *reader)
{
    buf_deinit(&reader->input);
    json_decref(reader->object);
    reader->object = NULL;
}

char *ctl_reader_room(struct ctl_reader *reader, size_t *size_out)
{
    *size_out = ROOM;
    return buf_reserve(&reader->input, ROOM);
}

void ctl_reader_filled(struct ctl_reader *reader, size_t len)
{
    buf_filled(&reader->input, len);
}

static enum ctl_event broken(struct ctl_answer *answer, const char *text)
{
    answer->text = text;
    return CTL_BROKEN;
}

static enum ctl_event take_raw(struct ctl_reader *reader, struct ctl_answer *answer)
{
    struct str all = buf_str(&reader->input);
    if (all.len == 0)
        return CTL_MORE;
    if (all.len > reader->raw_left)
        all.len = (size_t)reader->raw_left;
    reader->raw_left -= all.len;
    reader->used = all.len;
    answer->raw = all;
    return CTL_RAW;
}

static enum ctl_event judge(struct ctl_reader *reader, struct ctl_answer *answer)
{
    const json_t *object = reader->object;
    const json_t *error = json_object_get(object, "error");
    const json_t *raw = json_object_get(object, "raw");
    if (json_is_string(error)) {
        answer->text = json_string_value(error);
        return CTL_ERROR;
    }
    if (json_is_true(json_object_get(object, "done"))) {
        const json_t *code = json_object_get(object, "exit");
        answer->exit_code = json_is_integer(code) && json_integer_value(code) == 0 ? 0 : 1;
        return CTL_DONE;
    }
    if (raw != NULL) {
        if (!json_is_integer(raw) || json_integer_value(raw) < 0)
            return broken(answer, "the daemon's answer is not understood");
        reader->raw_left = (uint64_t)json_integer_value(raw);
        return CTL_MORE;
    }
    answer->object = object;
    return CTL_LINE;
}

static enum ctl_event take_line(struct ctl_reader *reader, struct ctl_answer *answer)
{
    json_error_t error;
    struct str all = buf_str(&reader->input);
    const char *end = all.len > reader->looked
                          ? memchr(all.p + reader->looked, '\n', all.len - reader->looked)
                          : NULL;
    if (end == NULL) {
        reader->looked = all.len;
        return all.len < CTL_LINE_MAX ? CTL_MORE
                                      : broken(answer, "a line of the daemon's answer is too long");
    }
    size_t len = (size_t)(end - all.p);
    reader->looked = 0;
    reader->used = len + 1;
    reader->object = json_loadb(all.p, len, 0, &error);
    if (!json_is_object(reader->object))
        return broken(answer, "the daemon's answer is not understood");
    return judge(reader, answer);
}

enum ctl_event ctl_reader_next(struct ctl_reader *reader, struct ctl_answer *answer_out)
{
    enum ctl_event event = CTL_MORE;
    *answer_out = (struct ctl_answer){0};
    do { /* the line that opens a piece is no event: go on with the bytes behind it */
        buf_consume(&reader->input, reader->used);
        reader->used = 0;
        json_decref(reader->object);
        reader->object = NULL;
        event = reader->raw_left > 0 ? take_raw(reader, answer_out) : take_line(reader, answer_out);
    } while (event == CTL_MORE && reader->used > 0);
    return event;
}
