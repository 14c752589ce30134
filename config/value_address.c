/* config/value_address.c - addresses, networks, endpoints and hops of value.h. */
#include "config/value.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool parse_address(const char *text, size_t len, struct config_network *out)
{
    char copy[INET6_ADDRSTRLEN + 1];
    struct config_network address = {0};
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    address.ipv6 = strchr(copy, ':') != NULL;
    address.prefix = address.ipv6 ? 128 : 32;
    if (inet_pton(address.ipv6 ? AF_INET6 : AF_INET, copy, address.bytes) != 1)
        return false;
    *out = address;
    return true;
}

static bool is_mapped(const struct config_network *address)
{
    return address->ipv6 && memcmp(address->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

bool value_address(const char *text, struct config_network *out)
{
    return parse_address(text, strlen(text), out);
}

bool value_source(const char *text, bool ipv6, struct config_network *out, struct reason *why)
{
    static const uint8_t zero[16] = {0};
    struct config_network address;
    bool good = parse_address(text, strlen(text), &address) && address.ipv6 == ipv6 &&
                !is_mapped(&address) && memcmp(address.bytes, zero, sizeof zero) != 0;
    if (good && (ipv6 ? address.bytes[0] == 0xff : address.bytes[0] >= 224))
        good = false; /* multicast and broadcast */
    if (!good)
        return reason_set(why, "expected an %s address of this machine, such as %s",
                          ipv6 ? "IPv6" : "IPv4", ipv6 ? "\"2001:db8::1\"" : "192.0.2.1");
    *out = address;
    return true;
}

/* Clear the bits behind the prefix. @return were any set? */
static bool clear_host_bits(struct config_network *network)
{
    bool any = false;
    size_t size = network->ipv6 ? 16 : 4;
    for (size_t i = 0; i < size; i++) {
        size_t first = i * 8;
        unsigned keep = network->prefix >= first + 8 ? 8
                        : network->prefix > first    ? (unsigned)(network->prefix - first)
                                                     : 0;
        uint8_t mask = (uint8_t)(0xff00u >> keep);
        any = any || (network->bytes[i] & (uint8_t)~mask) != 0;
        network->bytes[i] &= mask;
    }
    return any;
}

bool value_network(const char *text, struct config_network *out, struct reason *why)
{
    const char *expected =
        "expected an address or network such as 192.0.2.0/24 or \"2001:db8::/32\"";
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct config_network network;
    if (!parse_address(text, len, &network))
        return reason_set(why, "%s", expected);
    if (is_mapped(&network))
        return reason_set(why, "%s (write an IPv4 address without ::ffff:)", expected);
    if (slash != NULL) {
        uint64_t prefix;
        if (!value_number(slash + 1, 0, network.prefix, &prefix, why))
            return reason_set(why, "%s (the prefix is a number from 0 to %u)", expected,
                              network.prefix);
        network.prefix = (uint8_t)prefix;
    }
    if (network.prefix == 0)
        return reason_set(why, "%s (/0 is everybody: that would be an open relay)", expected);
    if (clear_host_bits(&network)) {
        char shown[INET6_ADDRSTRLEN];
        inet_ntop(network.ipv6 ? AF_INET6 : AF_INET, network.bytes, shown, sizeof shown);
        return reason_set(why, "%s (bits behind the prefix are set: perhaps %s/%u?)", expected,
                          shown, network.prefix);
    }
    *out = network;
    return true;
}

/* "HOST:PORT" or "[V6]:PORT" into its parts, not checked further. */
struct host_port {
    const char *host;
    size_t host_len;
    const char *port; /* NULL: none */
    bool brackets;
};

static bool split_host_port(const char *text, struct host_port *out)
{
    struct host_port parts = {.host = text, .host_len = strlen(text)};
    const char *colon = strrchr(text, ':');
    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (close == NULL || (close[1] != '\0' && close[1] != ':'))
            return false;
        parts.brackets = true;
        parts.host = text + 1;
        parts.host_len = (size_t)(close - text) - 1;
        parts.port = close[1] == ':' ? close + 2 : NULL;
    } else if (colon != NULL && strchr(text, ':') == colon) {
        parts.host_len = (size_t)(colon - text);
        parts.port = colon + 1;
    }
    *out = parts;
    return true;
}

static bool parse_port(const char *text, uint16_t *out)
{
    uint64_t port;
    struct reason unused = {""};
    if (!value_number(text, 1, 65535, &port, &unused))
        return false;
    *out = (uint16_t)port;
    return true;
}

bool value_endpoint(const char *text, uint16_t default_port, struct config_endpoint *out,
                    struct reason *why)
{
    const char *expected = default_port != 0
                               ? "expected an IP address, with or without port, such as "
                                 "127.0.0.1:53 or \"[::1]:53\""
                               : "expected an IP address and port such as 127.0.0.1:587 or "
                                 "\"[::1]:587\"";
    struct host_port parts;
    struct config_network address;
    uint16_t port = default_port;
    if (!split_host_port(text, &parts))
        return reason_set(why, "%s", expected);
    if (!parse_address(parts.host, parts.host_len, &address) || (parts.brackets && !address.ipv6))
        return reason_set(why, "%s", expected);
    if (parts.port == NULL && default_port == 0)
        return reason_set(why, "%s%s", expected,
                          address.ipv6 && !parts.brackets ? " (IPv6 in brackets)"
                                                          : " (the port is missing)");
    if (parts.port != NULL && !parse_port(parts.port, &port))
        return reason_set(why, "%s (a port is a number from 1 to 65535)", expected);
    out->address = address;
    out->port = port;
    return true;
}

bool value_hop(const char *text, char host_out[VALUE_DOMAIN_SIZE], uint16_t *port_out,
               struct reason *why)
{
    const char *expected =
        "expected host:port such as relay.example.com:25, 192.0.2.1:25 or \"[2001:db8::1]:25\"";
    struct host_port parts;
    struct config_network address;
    uint16_t port;
    if (text[0] == '\0' || !split_host_port(text, &parts) || parts.host_len >= VALUE_DOMAIN_SIZE)
        return reason_set(why, "%s", expected);
    char host[VALUE_DOMAIN_SIZE];
    memcpy(host, parts.host, parts.host_len);
    host[parts.host_len] = '\0';
    bool is_address = value_address(host, &address);
    if (is_address ? address.ipv6 != parts.brackets : parts.brackets)
        return reason_set(why, "%s (IPv6 addresses, and only they, are in brackets)", expected);
    if (parts.port == NULL)
        return reason_set(why, "%s (the port is missing)", expected);
    if (!parse_port(parts.port, &port))
        return reason_set(why, "%s (a port is a number from 1 to 65535)", expected);
    if (!is_address && !value_domain(host, host_out, why))
        return reason_set(why, "%s", expected);
    if (is_address)
        memcpy(host_out, host, parts.host_len + 1);
    *port_out = port;
    return true;
}
