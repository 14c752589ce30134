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
           (b[0] == 192 && b[1] == 168) || b[0] >= 224;
}

bool route_address_is_private(bool ipv6, const uint8_t *bytes)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    static const uint8_t zeros[15] = {0};
    if (!ipv6)
        return ipv4_is_private(bytes);
    if (memcmp(bytes, mapped, sizeof mapped) == 0)
        return ipv4_is_private(bytes + 12);
    if (memcmp(bytes, zeros, sizeof zeros) == 0 && bytes[15] <= 1)
        return true;                                          /* :: and ::1 */
    return (bytes[0] & 0xFE) == 0xFC ||                       /* fc00::/7 */
           (bytes[0] == 0xFE && (bytes[1] & 0xC0) >= 0x80) || /* fe80::/10, fec0::/10 */
           bytes[0] == 0xFF;
}
