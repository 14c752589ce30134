/* config/report.c - error texts. They may be cut at the end, never at the position. */
#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A path longer than this is shown by its end, so that the position always fits. */
enum { NAME_SHOWN_MAX = 160 };

int report_at(const struct report *report, struct place place, const char *key, const char *format,
              ...)
{
    char *text = report->error->text;
    size_t size = sizeof report->error->text;
    const char *name = report->name;
    const char *dots = "";
    size_t len = strlen(name);
    if (len > NAME_SHOWN_MAX) {
        name += len - NAME_SHOWN_MAX;
        dots = "...";
    }
    char where[32] = "";
    if (place.line > 0)
        snprintf(where, sizeof where, ":%u:%u", place.line, place.column);
    snprintf(text, size, "%s%s%s: %.99s%s", dots, name, where, key != NULL ? key : "",
             key != NULL ? ": " : "");

    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
    return -1;
}

struct excerpt excerpt_of(const char *text)
{
    struct excerpt out;
    size_t room = sizeof out.text - sizeof "\"...\"";
    size_t used = 0;
    out.text[used++] = '"';
    while (*text != '\0' && used < room) {
        unsigned char c = (unsigned char)*text;
        out.text[used++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
        text++;
    }
    if (*text != '\0') {
        /* do not cut inside a UTF-8 character */
        while (((unsigned char)*text & 0xc0) == 0x80 && used > 1) {
            text--;
            used--;
        }
        memcpy(out.text + used, "...", 3);
        used += 3;
    }
    out.text[used++] = '"';
    out.text[used] = '\0';
    return out;
}

bool reason_set(struct reason *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return false;
}
