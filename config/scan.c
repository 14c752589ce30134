/* config/scan.c - UTF-8 (RFC 3629), control characters, tabs. */
#include "config/scan.h"

/* Bytes of the character at p, or 0 when it is no valid UTF-8. */
static size_t decode(const unsigned char *p, size_t len, uint32_t *code_out)
{
    static const struct {
        size_t size;
        uint32_t least; /* below it: overlong */
        unsigned char mask, lead;
    } forms[] = {{1, 0, 0x80, 0x00},
                 {2, 0x80, 0xe0, 0xc0},
                 {3, 0x800, 0xf0, 0xe0},
                 {4, 0x10000, 0xf8, 0xf0}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if ((p[0] & forms[i].mask) != forms[i].lead)
            continue;
        if (forms[i].size > len)
            return 0;
        uint32_t code = p[0] & (unsigned char)~forms[i].mask;
        for (size_t k = 1; k < forms[i].size; k++) {
            if ((p[k] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (p[k] & 0x3f);
        }
        if (code < forms[i].least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
            return 0;
        *code_out = code;
        return forms[i].size;
    }
    return 0;
}

static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

/* A tab before the first character of a line that is neither empty nor a comment. */
static bool tab_indents(const char *bytes, size_t len, size_t at)
{
    while (at < len && (bytes[at] == ' ' || bytes[at] == '\t'))
        at++;
    return at < len && bytes[at] != '\n' && bytes[at] != '\r' && bytes[at] != '#';
}

int scan_bytes(const struct report *report, const char *bytes, size_t len)
{
    struct place place = {1, 1};
    bool indent = true; /* only blanks so far on this line */
    size_t size;
    for (size_t at = 0; at < len; at += size) {
        uint32_t code = 0;
        size = decode((const unsigned char *)bytes + at, len - at, &code);
        if (size == 0)
            return report_at(report, place, NULL, "not valid UTF-8");
        if (code == '\n' || (code == '\r' && (at + 1 == len || bytes[at + 1] != '\n'))) {
            place = (struct place){place.line + 1, 1};
            indent = true;
            continue;
        }
        if (code == '\t' && indent && tab_indents(bytes, len, at))
            return report_at(report, place, NULL, "a tab in the indentation: use spaces");
        if (code == '%' && place.column == 1)
            return report_at(report, place, NULL, "directives (%%NAME) are not supported");
        if (is_control(code) && code != '\t' && code != '\r')
            return report_at(report, place, NULL, "a control character (code %u) in the file",
                             (unsigned)code);
        if (code != ' ' && code != '\t')
            indent = false;
        place.column++;
    }
    return 0;
}

bool scan_has_control(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            return true;
        if (c == 0xc2 && i + 1 < len && ((unsigned char)text[i + 1] & 0xe0) == 0x80)
            return true;
    }
    return false;
}
