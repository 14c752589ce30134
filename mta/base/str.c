/* mta/base/str.c - borrowed text, and the one place of mta/ where memory running out is handled. */
#include "mta/base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* tolower() follows the locale; protocols do not. */
static char lower(char c)
{
    if (c < 'A' || c > 'Z')
        return c;
    return (char)(c - 'A' + 'a');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str str_from(const char *text)
{
    if (text == NULL)
        return (struct str){NULL, 0};
    return (struct str){text, strlen(text)};
}

bool str_equal(struct str a, struct str b)
{
    /* memcmp wants real pointers even for no bytes. */
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool str_equal_nocase(struct str a, struct str b)
{
    return a.len == b.len && str_starts_nocase(a, b);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    if (prefix.len > s.len)
        return false;
    for (size_t i = 0; i < prefix.len; i++) {
        if (lower(s.p[i]) != lower(prefix.p[i]))
            return false;
    }
    return true;
}

bool str_ends_nocase(struct str s, struct str suffix)
{
    if (suffix.len > s.len)
        return false;
    return str_starts_nocase(str_skip(s, s.len - suffix.len), suffix);
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && is_blank(s.p[0]))
        s = str_skip(s, 1);
    while (s.len > 0 && is_blank(s.p[s.len - 1]))
        s.len--;
    return s;
}

struct str str_skip(struct str s, size_t n)
{
    if (n > s.len)
        n = s.len;
    if (n == 0)
        return s;
    return (struct str){s.p + n, s.len - n};
}

char *str_dup(struct str s)
{
    char *copy = mem_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.p, s.len);
    return copy;
}

void str_lower(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        text[i] = lower(text[i]);
}

bool str_parse_u64(struct str s, uint64_t max, uint64_t *value_out)
{
    uint64_t value = 0;
    if (s.len == 0 || s.len > 20)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (value > max)
        return false;
    *value_out = value;
    return true;
}

int str_utf8_length(struct str s)
{
    if (s.len == 0)
        return -1;
    unsigned char first = (unsigned char)s.p[0];
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    for (size_t i = 1; i < (size_t)length; i++) {
        if (i == s.len)
            return -1;
        unsigned char c = (unsigned char)s.p[i];
        unsigned char low = 0x80;
        unsigned char high = 0xBF;
        if (i == 1 && (first == 0xE0 || first == 0xF0)) /* overlong */
            low = first == 0xE0 ? 0xA0 : 0x90;
        if (i == 1 && (first == 0xED || first == 0xF4)) /* surrogates; beyond U+10FFFF */
            high = first == 0xED ? 0x9F : 0x8F;
        if (c < low || c > high)
            return 0;
    }
    return length;
}

bool str_utf8_valid(struct str s)
{
    while (s.len > 0) {
        int length = str_utf8_length(s);
        if (length <= 0)
            return false;
        s = str_skip(s, (size_t)length);
    }
    return true;
}

static _Noreturn void die_of_memory(void)
{
    fputs("out of memory\n", stderr);
    abort();
}

void *mem_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL)
        die_of_memory();
    return memory;
}

void *mem_grow(void *old, size_t size)
{
    void *memory = realloc(old, size > 0 ? size : 1);
    if (memory == NULL)
        die_of_memory();
    return memory;
}

void bug_abort(const char *file, int line)
{
    fprintf(stderr, "%s:%d: a bug: this place cannot be reached\n", file, line);
    abort();
}
