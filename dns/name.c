/* dns/name.c - domain names as text, and small things all files need. */
#include "dns/dns_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *dns_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL) {
        fputs("dns: out of memory\n", stderr);
        abort();
    }
    return memory;
}

const char *dns_status_text(enum dns_status status)
{
    switch (status) {
    case DNS_ANSWER:
        return "answer";
    case DNS_NO_NAME:
        return "no such name";
    case DNS_NO_RECORD:
        return "no such record";
    case DNS_SERVER_FAILURE:
        return "server failure";
    case DNS_TIMEOUT:
        return "timeout";
    }
    abort();
}

static bool is_label_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_name_read(const char *text, struct dns_name *name_out)
{
    struct dns_name name = {0};
    size_t label = 0, len = strnlen(text, DNS_NAME_MAX + 1);

    if (len > 0 && text[len - 1] == '.')
        len--;
    if (len == 0 || len >= DNS_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c == '.' ? label == 0 : !is_label_byte(c))
            return false;
        label = c == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
        name.text[i] = c;
    }
    if (label == 0)
        return false;
    name.len = len;
    *name_out = name;
    return true;
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* FNV-1a. */
uint32_t dns_name_hash(const struct dns_name *name, uint16_t type)
{
    uint32_t hash = 2166136261U ^ type;

    for (size_t i = 0; i < name->len; i++)
        hash = (hash ^ (unsigned char)name->text[i]) * 16777619U;
    return hash ^ (hash >> 15);
}
