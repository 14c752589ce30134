/* mta/deliver/route.h - which route a recipient domain takes. Pure. */
#ifndef MTA_DELIVER_ROUTE_H
#define MTA_DELIVER_ROUTE_H

#include "config/config.h"
#include "mta/base/str.h"

/* First route whose recipient patterns match the domain (lower case); NULL: none, by MX. */
const struct config_route *route_match(const struct config *config, const char *domain);

/* "name" or "*.name" (any depth below name, not name itself). */
bool route_pattern_matches(const char *pattern, const char *domain);

/* Loopback, private, link-local, unspecified, multicast, documentation is public: addresses no MX
 * host may have unless allow_private_addresses says so (RFC 1918, 4193, 3927, 6598, 5735). 4 or 16
 * bytes. */
bool route_address_is_private(bool ipv6, const uint8_t *bytes);

#endif
