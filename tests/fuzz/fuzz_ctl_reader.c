/* The daemon's answer as mtactl reads it, in pieces whose sizes the first byte picks. Raw bytes go
 * on into a JSON string, lines to the printers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mtactl/json_text.h"
#include "mta/mtactl/print.h"
#include "mta/mtactl/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was made of raw bytes must be a JSON string. */
static void check_text(struct str bytes)
{
    struct ctl_json_text state = {0};
    struct buf text;
    buf_init(&text, CTL_JSON_TEXT_MAX(bytes.len) + 4);
    buf_add_text(&text, "[\"");
    ctl_json_text_add(&state, (struct str){bytes.p, bytes.len / 2}, &text);
    ctl_json_text_add(&state, str_skip(bytes, bytes.len / 2), &text);
    ctl_json_text_end(&state, &text);
    buf_add_text(&text, "\"]");
    struct str all = buf_str(&text);
    json_t *value = json_loadb(all.p, all.len, JSON_ALLOW_NUL, NULL);
    if (value == NULL)
        abort();
    json_decref(value);
    buf_deinit(&text);
}

static void print_all(FILE *out, const json_t *object)
{
    struct ctl_options options = {.command = ctl_command_at(0)};
    struct ctl_output output = {.out = out, .options = &options, .width = 80};
    ctl_print_unit(&output, object);
    ctl_print_show(&output, object);
    ctl_print_status(&output, object);
    ctl_print_verb(&output, object);
}

/* @return false: the answer is over */
static bool take_events(struct ctl_reader *reader, FILE *out)
{
    struct ctl_answer answer;
    for (;;) {
        switch (ctl_reader_next(reader, &answer)) {
        case CTL_MORE:
            return true;
        case CTL_LINE:
            print_all(out, answer.object);
            break;
        case CTL_RAW:
            check_text(answer.raw);
            break;
        case CTL_DONE:
        case CTL_ERROR:
        case CTL_BROKEN:
            return false;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ctl_reader reader;
    char *printed = NULL;
    size_t printed_len = 0;
    if (size == 0)
        return 0;
    size_t step = data[0] == 0 ? size : data[0];
    FILE *out = open_memstream(&printed, &printed_len);
    ctl_reader_init(&reader);
    for (size_t at = 1; at < size;) {
        size_t room_size = 0;
        char *room = ctl_reader_room(&reader, &room_size);
        size_t part = size - at < step ? size - at : step;
        if (room == NULL || part > room_size)
            break;
        memcpy(room, data + at, part);
        ctl_reader_filled(&reader, part);
        at += part;
        if (!take_events(&reader, out))
            break;
    }
    ctl_reader_deinit(&reader);
    (void)fclose(out);
    for (size_t i = 0; i < printed_len; i++) {
        unsigned char c = (unsigned char)printed[i];
        if (c != '\n' && (c < 0x20 || c == 0x7F))
            abort();
    }
    free(printed);
    return 0;
}
