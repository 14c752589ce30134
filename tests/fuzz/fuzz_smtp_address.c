/* tests/fuzz/fuzz_smtp_address.c - paths and domains from foreign bytes. What is accepted must be
 * printable ASCII, put together from its parts, and parse to the same again. */
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/address.h"

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_domain(struct str domain, bool must)
{
    char once[SMTP_DOMAIN_MAX + 1], twice[SMTP_DOMAIN_MAX + 1];

    if (!smtp_domain_ascii(domain, once, sizeof once)) {
        check(!must);
        return;
    }
    for (const char *p = once; *p != '\0'; p++)
        check(*p > ' ' && *p <= '~' && !(*p >= 'A' && *p <= 'Z'));
    check(smtp_domain_ascii(str_from(once), twice, sizeof twice));
    check(strcmp(once, twice) == 0);
}

static void check_address(const struct smtp_address *address)
{
    struct smtp_address again;

    bool ascii = true;

    for (size_t i = 0; i < address->whole.len; i++) {
        unsigned char c = (unsigned char)address->whole.p[i];
        check(c >= ' ' && c != 0x7f);
        ascii = ascii && c < 0x80;
    }
    check(address->utf8 == !ascii && str_utf8_valid(address->whole));
    check(address->local.p == address->whole.p && address->local.len > 0 &&
          address->local.len <= 255);
    if (address->domain.len == 0) {
        check(address->whole.len == address->local.len && !address->literal);
        check(!smtp_address_parse(address->whole, &again));
        return;
    }
    check(address->whole.len == address->local.len + 1 + address->domain.len);
    check(address->whole.p[address->local.len] == '@');
    check(address->domain.p == address->whole.p + address->local.len + 1);
    check(smtp_address_parse(address->whole, &again) == ascii);
    if (ascii)
        check(again.local.len == address->local.len && again.literal == address->literal);
    check_domain(address->domain, true);
}

static void check_path(struct str text, enum smtp_path_kind kind,
                       const struct smtp_address *address, struct str rest)
{
    check(rest.len < text.len && rest.p + rest.len == text.p + text.len);
    check(rest.p[-1] == '>');
    if (kind == SMTP_PATH_NULL)
        check(address->whole.len == 0);
    else
        check_address(address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct smtp_address address;
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct str rest;

    if (smtp_path_parse(text, &kind, &address, &rest)) {
        check_path(text, kind, &address, rest);
        check(!address.utf8);
        check(smtp_path_parse_utf8(text, &kind, &address, &rest)); /* takes all that is ASCII */
        check(!address.utf8);
    } else if (smtp_path_parse_utf8(text, &kind, &address, &rest)) {
        check_path(text, kind, &address, rest);
    }
    if (smtp_address_parse(text, &address)) {
        check(address.whole.len == size);
        check_address(&address);
    }
    check_domain(text, false);
    return 0;
}
