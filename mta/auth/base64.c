/* mta/auth/base64.c - see base64.h. */
#include "mta/auth/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

enum { PADDING = 64 }; /* its place there */

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool base64_decode(struct str text, uint8_t *bytes_out, size_t *len_out)
{
    size_t len = 0;

    if (text.len % 4 != 0)
        return false;
    for (size_t at = 0; at < text.len; at += 4) {
        uint32_t bits = 0;
        size_t padding = 0;
        for (size_t i = 0; i < 4; i++) {
            char c = text.p[at + i];
            int value = value_of(c);
            /* Padding only at the very end, and at most two of it. */
            if (c == '=' && at + 4 == text.len && i >= 2) {
                padding++;
                value = 0;
            } else if (value < 0 || padding > 0) {
                return false;
            }
            bits = bits << 6 | (uint32_t)value;
        }
        if ((padding > 0 && (bits & 0xff) != 0) || (padding > 1 && (bits & 0xffff) != 0))
            return false;
        for (size_t i = 0; i < 3 - padding; i++)
            bytes_out[len++] = (uint8_t)(bits >> (16 - 8 * i));
    }
    *len_out = len;
    return true;
}

size_t base64_encode(const void *bytes, size_t len, char *text_out)
{
    const uint8_t *from = bytes;
    size_t out = 0;

    for (size_t at = 0; at < len; at += 3) {
        size_t left = len - at;
        uint32_t bits = (uint32_t)from[at] << 16;
        if (left > 1)
            bits |= (uint32_t)from[at + 1] << 8;
        if (left > 2)
            bits |= from[at + 2];
        text_out[out++] = alphabet[bits >> 18 & 63];
        text_out[out++] = alphabet[bits >> 12 & 63];
        text_out[out++] = alphabet[left > 1 ? bits >> 6 & 63 : PADDING];
        text_out[out++] = alphabet[left > 2 ? bits & 63 : PADDING];
    }
    text_out[out] = '\0';
    return out;
}
