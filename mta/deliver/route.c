/* mta/deliver/route.c - routes and the addresses that mail must not go to. */
#include "mta/deliver/route.h"

#include <string.h>

bool route_pattern_matches(const char *pattern, const char *domain)
{
    if (pattern[0] == '*' && pattern[1] == '.') {
        size_t suffix = strlen(pattern + 1);
        size_t len = strlen(domain);
        return len > suffix && strcmp(domain + (len - suffix), pattern + 1) == 0;
    }
    return strcmp(pattern, domain) == 0;
}

const struct config_route *route_match(const struct config *config, const char *domain)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        if (route->recipient_count == 0)
            return route;
        for (size_t k = 0; k < route->recipient_count; k++) {
            if (route_pattern_matches(route->recipients[k], domain))
                return route;
        }
    }
    return NULL;
}

static bool ipv4_is_private(const uint8_t *b)
{
    return b[0] == 0 || b[0] == 10 || b[0] == 127 || (b[0] == 100 && (b[1] & 0xC0) == 64) ||
           (b[0] == 169 && b[1] == 254) || (b[0] == 172 && (b[1] & 0xF0) == 16) ||
           (b[0] == 192 && b[1] == 168) || (b[0] == 198 && (b[1] & 0xFE) == 18) ||
           (b[0] == 192 && b[1] == 0 && b[2] == 0) || b[0] >= 224;
}

/* An IPv4 address inside an IPv6 one: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056). */
static const uint8_t *embedded_ipv4(const uint8_t *b)
{
    static const uint8_t zeros[12] = {0};
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    static const uint8_t nat64[12] = {0, 0x64, 0xFF, 0x9B};
    if (memcmp(b, mapped, 12) == 0 || memcmp(b, zeros, 12) == 0 || memcmp(b, nat64, 12) == 0)
        return b + 12;
    return b[0] == 0x20 && b[1] == 0x02 ? b + 2 : NULL;
}

bool route_address_is_private(bool ipv6, const uint8_t *bytes)
{
    if (!ipv6)
        return ipv4_is_private(bytes);
    const uint8_t *inside = embedded_ipv4(bytes); /* :: and ::1 are 0.0.0.0/8 that way */
    if (inside != NULL)
        return ipv4_is_private(inside);
    return (bytes[0] & 0xFE) == 0xFC ||                       /* fc00::/7 */
           (bytes[0] == 0xFE && (bytes[1] & 0xC0) >= 0x80) || /* fe80::/10, fec0::/10 */
           bytes[0] == 0xFF;
}
