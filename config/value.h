/* config/value.h - the text of one value to the value: numbers, sizes, durations, addresses, names.
 *
 * Pure. Each parser takes the whole text, accepts nothing around the value, and returns true, or
 * false with "expected ..." in *why. Output is written on success only. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "config/report.h"

#define VALUE_DOMAIN_SIZE 254 /* 253 characters and the NUL */

/* Decimal digits only: no sign, no leading zero, no other base. */
bool value_number(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct reason *why);

/* Bytes: plain, or with KiB, MiB, GiB. */
bool value_size(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct reason *why);

/* Milliseconds, from a number with one of ms, s, m, h, d. */
bool value_duration(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                    struct reason *why);

/* Letters, digits, hyphens in labels of at most 63, no dot at the end; lower-cased. */
bool value_domain(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why);

/* A DKIM selector: like a domain, underscores and numeric labels too. */
bool value_selector(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why);

/* A domain with a dot that means something outside this machine. */
bool value_hostname(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why);

/* "name" or "*.name". Lower-cased. */
#define VALUE_PATTERN_SIZE (2 + VALUE_DOMAIN_SIZE)
bool value_pattern(const char *text, char out[VALUE_PATTERN_SIZE], struct reason *why);

/* "local@domain" in the characters that need no quotes; without the domain too, unless it is
 * needed. */
bool value_mailbox(const char *text, bool needs_domain, struct reason *why);

/* The name of an alias: a local part as above. */
bool value_alias(const char *text, struct reason *why);

/* An account: letters, digits, "_", "-", "."; at most 64. */
bool value_user(const char *text, struct reason *why);

/* A lone IPv4 or IPv6 address without prefix, port or brackets. */
bool value_address(const char *text, struct config_network *out);

/* A local address to send from, of the wanted family. */
bool value_source(const char *text, bool ipv6, struct config_network *out, struct reason *why);

/* "ADDRESS" or "ADDRESS/PREFIX" without host bits; /0 is refused, for it names everybody. */
bool value_network(const char *text, struct config_network *out, struct reason *why);

/* "IP:PORT" or "[IPv6]:PORT"; a default_port other than 0 makes ":PORT" and brackets optional.
 * out->text is left alone. */
bool value_endpoint(const char *text, uint16_t default_port, struct config_endpoint *out,
                    struct reason *why);

/* "HOST:PORT"; the host is a name or an address, IPv6 in brackets (host_out has none). */
bool value_hop(const char *text, char host_out[VALUE_DOMAIN_SIZE], uint16_t *port_out,
               struct reason *why);

#endif
