/* mta/base/log_line.c - the text of a log line, and the escaping of foreign bytes. Whatever a peer
 * sends stays inside its value and on its line, and moves no cursor on a terminal. RFC 8259, 3629.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mta/base/log_private.h"
#include "mta/base/time.h"

#define VALUE_MAX       ((size_t)1024)
#define ESCAPE_MAX      ((size_t)6)  /* \u00XX */
#define FIELD_EXTRA_MAX ((size_t)32) /* quotes, colon, comma, a number */

/* What one character of a value becomes. */
enum kind { KIND_PLAIN, KIND_SPECIAL, KIND_ESCAPED };

/* How many bytes may follow unescaped. The caller has checked that the worst case fits. */
struct out {
    char *p;
};

static void put(struct out *out, const char *bytes, size_t len)
{
    memcpy(out->p, bytes, len);
    out->p += len;
}

static void put_text(struct out *out, const char *text)
{
    put(out, text, strlen(text));
}

static void put_hex(struct out *out, const char *prefix, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    put_text(out, prefix);
    *out->p++ = digits[byte >> 4];
    *out->p++ = digits[byte & 15];
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates, at
 * most U+10FFFF), or 0. */
static size_t utf8_length(const unsigned char *p, size_t len, uint32_t *code_out)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t need = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (need == 0 || need > len)
        return 0;
    uint32_t code = p[0] & (0xFFU >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3FU);
    }
    if (code < smallest[need] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *code_out = code;
    return need;
}

/* Well-formed, but it would control a terminal, end a line for some reader, or turn the direction
 * of the text: C1 controls, line and paragraph separators, bidirectional overrides. */
static bool is_harmful(uint32_t code)
{
    return code < 0xA0 || (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

/* The character at s: its length in *len_out. Bytes that are no character are taken one by one. */
static enum kind classify(struct str s, size_t *len_out)
{
    const unsigned char *p = (const unsigned char *)s.p;
    uint32_t code;
    *len_out = 1;
    if (p[0] < 0x80) {
        if (p[0] < 0x20 || p[0] == 0x7F)
            return KIND_ESCAPED;
        return p[0] == '"' || p[0] == '\\' ? KIND_SPECIAL : KIND_PLAIN;
    }
    size_t len = utf8_length(p, s.len, &code);
    if (len == 0 || is_harmful(code))
        return KIND_ESCAPED;
    *len_out = len;
    return KIND_PLAIN;
}

static void put_escaped(struct out *out, struct str s, const char *hex_prefix)
{
    while (s.len > 0) {
        size_t len;
        switch (classify(s, &len)) {
        case KIND_ESCAPED:
            put_hex(out, hex_prefix, (unsigned char)s.p[0]);
            break;
        case KIND_SPECIAL:
            *out->p++ = '\\';
            *out->p++ = s.p[0];
            break;
        case KIND_PLAIN:
            put(out, s.p, len);
            break;
        }
        s = str_skip(s, len);
    }
}

static bool needs_quotes(struct str s)
{
    while (s.len > 0) {
        size_t len;
        if (classify(s, &len) != KIND_PLAIN || s.p[0] == ' ' || s.p[0] == '=')
            return true;
        s = str_skip(s, len);
    }
    return false;
}

/* At most max octets, and no character in two. */
static struct str cut(struct str s, size_t max)
{
    if (s.len <= max)
        return s;
    size_t len = max;
    while (len > 0 && max - len < 3 && ((unsigned char)s.p[len] & 0xC0) == 0x80)
        len--;
    return (struct str){s.p, len};
}

static void put_number(struct out *out, const struct log_field *field)
{
    int64_t n = field->number;
    if (field->type == LOG_TYPE_MS)
        out->p += snprintf(out->p, FIELD_EXTRA_MAX, "%s%" PRId64 ".%03" PRId64, n < 0 ? "-" : "",
                           n < 0 ? -(n / 1000) : n / 1000, n < 0 ? -(n % 1000) : n % 1000);
    else
        out->p += snprintf(out->p, FIELD_EXTRA_MAX, "%" PRId64, n);
}

static void put_json_field(struct out *out, const struct log_field *field, struct str text)
{
    put(out, ",\"", 2);
    put_text(out, field->key);
    put(out, "\":", 2);
    if (field->type != LOG_TYPE_STR) {
        put_number(out, field);
        return;
    }
    *out->p++ = '"';
    put_escaped(out, text, "\\u00");
    *out->p++ = '"';
}

static void put_text_field(struct out *out, const struct log_field *field, struct str text)
{
    *out->p++ = ' ';
    put_text(out, field->key);
    *out->p++ = '=';
    if (field->type != LOG_TYPE_STR) {
        put_number(out, field);
        return;
    }
    if (!needs_quotes(text)) {
        put(out, text.p, text.len);
        return;
    }
    *out->p++ = '"';
    put_escaped(out, text, "\\x");
    *out->p++ = '"';
}

static void put_head(struct out *out, enum log_format format, enum log_level level, int64_t unix_ms,
                     const char *event)
{
    static const char names[][8] = {
        [LOG_LEVEL_DEBUG] = "debug",
        [LOG_LEVEL_INFO] = "info",
        [LOG_LEVEL_WARNING] = "warning",
        [LOG_LEVEL_ERROR] = "error",
    };
    char time[TIME_TEXT_MAX];
    time_iso(unix_ms, time);
    if (format == LOG_TEXT) {
        put_text(out, time);
        *out->p++ = ' ';
        put_text(out, names[level]);
        *out->p++ = ' ';
        put_text(out, event);
        return;
    }
    put_text(out, "{\"time\":\"");
    put_text(out, time);
    put_text(out, "\",\"event\":\"");
    put_text(out, event);
    put_text(out, "\",\"level\":\"");
    put_text(out, names[level]);
    *out->p++ = '"';
}

size_t log_line_format(char line[LOG_LINE_MAX], enum log_format format, enum log_level level,
                       int64_t unix_ms, const char *event, const struct log_field *fields,
                       size_t count)
{
    struct out out = {line};
    put_head(&out, format, level, unix_ms, event);
    for (size_t i = 0; i < count; i++) {
        const struct log_field *field = &fields[i];
        if (field->type == LOG_END || (field->type == LOG_TYPE_STR && field->text.len == 0))
            continue;
        size_t room = LOG_LINE_MAX - (size_t)(out.p - line);
        size_t fixed = strlen(field->key) + FIELD_EXTRA_MAX;
        if (room < fixed + ESCAPE_MAX)
            break;
        size_t fits = (room - fixed) / ESCAPE_MAX;
        struct str text = cut(field->text, fits < VALUE_MAX ? fits : VALUE_MAX);
        if (format == LOG_JSON)
            put_json_field(&out, field, text);
        else
            put_text_field(&out, field, text);
    }
    if (format == LOG_JSON)
        *out.p++ = '}';
    *out.p++ = '\n';
    return (size_t)(out.p - line);
}

void log_escape(struct str s, char *out, size_t size)
{
    if (size == 0)
        return;
    struct out to = {out};
    while (s.len > 0) {
        size_t len;
        bool escaped = classify(s, &len) == KIND_ESCAPED;
        if ((escaped ? 4 : len) >= size - (size_t)(to.p - out))
            break;
        if (escaped)
            put_hex(&to, "\\x", (unsigned char)s.p[0]);
        else
            put(&to, s.p, len);
        s = str_skip(s, len);
    }
    *to.p = '\0';
}
