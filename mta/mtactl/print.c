/* mta/mtactl/print.c - see print.h: what all answers share. */
#include "mta/mtactl/print.h"

#include <stdlib.h>
#include <string.h>

#include "mta/base/log.h"
#include "mta/mtactl/words.h"

const char *ctl_json_string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

uint64_t ctl_json_number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

char *ctl_safe_text(const char *text)
{
    size_t len = strlen(text);
    size_t size = len * 4 + 1; /* every byte as \xXX */
    char *safe = mem_alloc(size);
    log_escape((struct str){text, len}, safe, size);
    return safe;
}

void ctl_print_safe(FILE *out, const char *text)
{
    char *safe = ctl_safe_text(text);
    (void)fputs(safe, out);
    free(safe);
}

/* Characters, not bytes; one that takes two columns on the screen counts as one. */
static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static size_t bytes_of(const char *text, size_t characters)
{
    struct str rest = str_from(text);
    for (; characters > 0 && rest.len > 0; characters--) {
        int length = str_utf8_length(rest);
        rest = str_skip(rest, length > 0 ? (size_t)length : 1);
    }
    return (size_t)(rest.p - text);
}

void ctl_print_cell(FILE *out, const char *text, unsigned columns, bool cut, bool pad)
{
    char *safe = ctl_safe_text(text);
    size_t count = count_characters(safe);
    if (cut && columns > 0 && count > columns) {
        (void)fprintf(out, "%.*s~", (int)bytes_of(safe, columns - 1), safe);
        count = columns;
    } else {
        (void)fputs(safe, out);
    }
    if (pad && count < columns)
        (void)fprintf(out, "%*s", (int)(columns - count), "");
    free(safe);
}

void ctl_print_time(FILE *out, const char *iso)
{
    int64_t unused = 0;
    if (ctl_time_parse(iso, &unused))
        (void)fprintf(out, "%.10s %.8sZ", iso, iso + 11);
    else
        ctl_print_safe(out, iso);
}
