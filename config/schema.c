/* config/schema.c - the table. Values and defaults are the product's documented interface. */
#include "config/schema.h"

#include <assert.h>
#include <string.h>

#define FIELD(type, member)                                                                        \
    {                                                                                              \
        (uint16_t) offsetof(type, member), (uint16_t)sizeof(((type *)0)->member)                   \
    }
#define TOP(member)  FIELD(struct config, member)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define MAP(key, of)                                                                               \
    {                                                                                              \
        .name = (key), .kind = SCHEMA_MAP, .map = &(of)                                            \
    }
#define ABSENT(key, word)                                                                          \
    {                                                                                              \
        .name = (key), .kind = SCHEMA_ABSENT, .only = (word)                                       \
    }
#define TIMEOUT(key, member, text)                                                                 \
    {                                                                                              \
        .name = (key), .kind = SCHEMA_DURATION, .field = TOP(timeouts.member), .min = 10,          \
        .max = 7 * DAY_MS, .fallback = (text)                                                      \
    }
#define LIMIT(key, type, member, highest, text)                                                    \
    {                                                                                              \
        .name = (key), .kind = SCHEMA_NUMBER, .field = FIELD(type, member), .min = 1,              \
        .max = (highest), .fallback = (text)                                                       \
    }
/* Where a list goes. */
#define ELEMENTS(type, member, count)                                                              \
    .field = {(uint16_t)offsetof(type, member), (uint16_t)sizeof(void *)},                         \
    .second = FIELD(type, count), .element = sizeof(*((type *)0)->member)

#define KIB    ((uint64_t)1 << 10)
#define MIB    ((uint64_t)1 << 20)
#define GIB    ((uint64_t)1 << 30)
#define DAY_MS ((uint64_t)24 * 60 * 60 * 1000)

/* The words of an enum go into a field of its size. */
static_assert(sizeof(enum config_tls) == sizeof(uint32_t), "enums are stored as 32 bits");

static const struct schema_word role_words[] = {
    {"submission", CONFIG_ROLE_SUBMISSION, false}, {"relay", CONFIG_ROLE_RELAY, false}, {0}};
static const struct schema_word listener_tls_words[] = {
    {"off", CONFIG_LISTENER_TLS_OFF, false},
    {"optional", CONFIG_LISTENER_TLS_OPTIONAL, false},
    {"required", CONFIG_LISTENER_TLS_REQUIRED, false},
    {"implicit", CONFIG_LISTENER_TLS_IMPLICIT, false},
    {0}};
static const struct schema_word tls_words[] = {{"off", CONFIG_TLS_OFF, false},
                                               {"opportunistic", CONFIG_TLS_OPPORTUNISTIC, false},
                                               {"encrypt", CONFIG_TLS_ENCRYPT, false},
                                               {"verify", CONFIG_TLS_VERIFY, false},
                                               {0}};
static const struct schema_word route_tls_words[] = {
    {"off", CONFIG_TLS_OFF, false},
    {"opportunistic", CONFIG_TLS_OPPORTUNISTIC, false},
    {"encrypt", CONFIG_TLS_ENCRYPT, false},
    {"verify", CONFIG_TLS_VERIFY, false},
    {"dane", 0, true},
    {0}};
static const struct schema_word auth_words[] = {{"off", CONFIG_AUTH_OFF, false},
                                                {"optional", CONFIG_AUTH_OPTIONAL, false},
                                                {"required", CONFIG_AUTH_REQUIRED, false},
                                                {0}};
static const struct schema_word cleartext_words[] = {
    {"never", CONFIG_CLEARTEXT_AUTH_NEVER, false},
    {"loopback", CONFIG_CLEARTEXT_AUTH_LOOPBACK, false},
    {0}};
static const struct schema_word long_lines_words[] = {
    {"accept", false, false}, {"refuse", true, false}, {0}};
static const struct schema_word choose_words[] = {
    {"failover", 0, false}, {"balance", 0, true}, {0}};
static const struct schema_word action_words[] = {
    {"deliver", 0, false}, {"discard", 0, true}, {"reject", 0, true}, {0}};
static const struct schema_word ip_words[] = {
    {"any", CONFIG_IP_ANY, false}, {"4", CONFIG_IP_4, false}, {"6", CONFIG_IP_6, false}, {0}};
static const struct schema_word format_words[] = {
    {"json", CONFIG_LOG_JSON, false}, {"text", CONFIG_LOG_TEXT, false}, {0}};
static const struct schema_word off_words[] = {{"off", 0, false}, {0}};
static const struct schema_word level_words[] = {{"debug", CONFIG_LOG_DEBUG, false},
                                                 {"info", CONFIG_LOG_INFO, false},
                                                 {"warning", CONFIG_LOG_WARNING, false},
                                                 {"error", CONFIG_LOG_ERROR, false},
                                                 {0}};

static const struct schema_key listener_keys[] = {
    {.name = "address",
     .kind = SCHEMA_LISTEN,
     .shape = SCHEMA_ONE_OR_LIST,
     .required = true,
     ELEMENTS(struct config_listener, addresses, address_count),
     .fallback = "127.0.0.1:587 [::1]:587"},
    {.name = "role",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_listener, role),
     .words = role_words,
     .fallback = "submission"},
    {.name = "tls",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_listener, tls),
     .words = listener_tls_words,
     .fallback = "optional"},
    {.name = "auth",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_listener, auth),
     .words = auth_words,
     .fallback = "optional"},
    {.name = "trusted",
     .kind = SCHEMA_NETWORK,
     .shape = SCHEMA_LIST,
     .may_be_empty = true,
     ELEMENTS(struct config_listener, trusted, trusted_count),
     .fallback = "127.0.0.0/8 ::1"},
    {.name = "cleartext_auth",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_listener, cleartext_auth),
     .words = cleartext_words,
     .fallback = "loopback"},
    {.name = "client_ca", .kind = SCHEMA_PATH, .field = FIELD(struct config_listener, client_ca)},
    {.name = "trusted_names",
     .kind = SCHEMA_RECIPIENT,
     .shape = SCHEMA_ONE_OR_LIST,
     .may_be_empty = true,
     ELEMENTS(struct config_listener, trusted_names, trusted_name_count)},
    {.name = "trace_client", /* its default is the role's matter: check.c */
     .kind = SCHEMA_BOOL,
     .field = FIELD(struct config_listener, trace_client)},
    {.name = "max_message_size",
     .kind = SCHEMA_SIZE,
     .field = FIELD(struct config_listener, max_message_bytes),
     .min = KIB,
     .max = 2 * GIB,
     .fallback = "50MiB"},
    LIMIT("max_recipients", struct config_listener, max_recipients, 50000, "1000"),
    LIMIT("max_connections", struct config_listener, max_connections, 100000, "2000"),
    {.name = "long_lines",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_listener, refuse_long_lines),
     .words = long_lines_words,
     .fallback = "accept"},
};
static const struct schema_map listener_map = {"listeners", listener_keys, COUNT(listener_keys),
                                               FIELD(struct config_listener, line)};

static const struct schema_key tls_keys[] = {
    {.name = "certificate", .kind = SCHEMA_PATH, .field = TOP(tls_certificate)},
    {.name = "key", .kind = SCHEMA_PATH, .field = TOP(tls_key)},
    {.name = "ca", .kind = SCHEMA_PATH, .field = TOP(tls_ca)},
};
static const struct schema_map tls_map = {"tls", tls_keys, COUNT(tls_keys), {0}};

static const struct schema_key dkim_keys[] = {
    {.name = "domain",
     .kind = SCHEMA_DOMAIN,
     .required = true,
     .field = FIELD(struct config_dkim, domain)},
    {.name = "selector",
     .kind = SCHEMA_SELECTOR,
     .required = true,
     .field = FIELD(struct config_dkim, selector)},
    {.name = "key",
     .kind = SCHEMA_PATH,
     .required = true,
     .field = FIELD(struct config_dkim, key_path)},
};
static const struct schema_map dkim_map = {"dkim", dkim_keys, COUNT(dkim_keys),
                                           FIELD(struct config_dkim, line)};

static const struct schema_key match_keys[] = {
    {.name = "recipients",
     .kind = SCHEMA_RECIPIENT,
     .shape = SCHEMA_LIST,
     .may_be_empty = true,
     ELEMENTS(struct config_route, recipients, recipient_count)},
    ABSENT("senders", "[]"),
    ABSENT("users", "[]"),
    ABSENT("listeners", "[]"),
};
static const struct schema_map match_map = {"routes.match", match_keys, COUNT(match_keys), {0}};

static const struct schema_key route_keys[] = {
    MAP("match", match_map),
    {.name = "to",
     .kind = SCHEMA_HOP,
     .shape = SCHEMA_ONE_OR_LIST,
     ELEMENTS(struct config_route, to, to_count)},
    {.name = "choose", .kind = SCHEMA_WORD, .words = choose_words},
    {.name = "tls",
     .kind = SCHEMA_WORD,
     .field = FIELD(struct config_route, tls),
     .words = route_tls_words},
    ABSENT("auth", "off"),
    {.name = "action", .kind = SCHEMA_WORD, .words = action_words},
    ABSENT("source", NULL),
};
static const struct schema_map route_map = {"routes", route_keys, COUNT(route_keys),
                                            FIELD(struct config_route, line)};

static const struct schema_key source_keys[] = {
    {.name = "ipv4",
     .kind = SCHEMA_SOURCE4,
     .field = TOP(delivery.source.ipv4),
     .second = TOP(delivery.source.has_ipv4)},
    {.name = "ipv6",
     .kind = SCHEMA_SOURCE6,
     .field = TOP(delivery.source.ipv6),
     .second = TOP(delivery.source.has_ipv6)},
};
static const struct schema_map source_map = {
    "delivery.source", source_keys, COUNT(source_keys), {0}};

static const struct schema_key site_keys[] = {
    LIMIT("connections", struct config, delivery.site_connections, 10000, "20"),
    LIMIT("messages_per_connection", struct config, delivery.site_messages_per_connection, 1000000,
          "100"),
    LIMIT("recipients_per_message", struct config, delivery.site_recipients_per_message, 50000,
          "100"),
    ABSENT("rate", "unlimited"),
};
static const struct schema_map site_map = {"delivery.site", site_keys, COUNT(site_keys), {0}};

static const struct schema_key delivery_keys[] = {
    LIMIT("port", struct config, delivery.port, 65535, "25"),
    {.name = "ip",
     .kind = SCHEMA_WORD,
     .field = TOP(delivery.ip),
     .words = ip_words,
     .fallback = "any"},
    MAP("source", source_map),
    {.name = "tls",
     .kind = SCHEMA_WORD,
     .field = TOP(delivery.tls),
     .words = tls_words,
     .fallback = "opportunistic"},
    {.name = "dane", .kind = SCHEMA_BOOL, .only = "false"},
    {.name = "mta_sts", .kind = SCHEMA_BOOL, .only = "false"},
    LIMIT("max_connections", struct config, delivery.max_connections, 100000, "1000"),
    MAP("site", site_map),
    {.name = "allow_private_addresses",
     .kind = SCHEMA_BOOL,
     .field = TOP(delivery.allow_private_addresses),
     .fallback = "false"},
    {.name = "units_in_memory",
     .kind = SCHEMA_NUMBER,
     .field = TOP(delivery.units_in_memory),
     .min = 1000,
     .max = 1000000,
     .fallback = "50000"},
};
static const struct schema_map delivery_map = {
    "delivery", delivery_keys, COUNT(delivery_keys), {0}};

static const struct schema_key retry_keys[] = {
    {.name = "intervals",
     .kind = SCHEMA_DURATION,
     .shape = SCHEMA_LIST,
     ELEMENTS(struct config, retry.intervals_ms, retry.interval_count),
     .min = 1000,
     .max = 30 * DAY_MS,
     .fallback = "5m 10m 20m 30m 1h 2h 4h"},
    {.name = "expire",
     .kind = SCHEMA_DURATION,
     .field = TOP(retry.expire_ms),
     .min = 1000,
     .max = 365 * DAY_MS,
     .fallback = "5d"},
    {.name = "expire_bounces",
     .kind = SCHEMA_DURATION,
     .field = TOP(retry.expire_bounces_ms),
     .min = 1000,
     .max = 365 * DAY_MS,
     .fallback = "1d"},
    {.name = "warn",
     .kind = SCHEMA_DURATION,
     .field = TOP(retry.warn_ms),
     .words = off_words,
     .min = 1000,
     .max = 365 * DAY_MS,
     .fallback = "off"},
};
static const struct schema_map retry_map = {"retry", retry_keys, COUNT(retry_keys), {0}};

static const struct schema_key timeout_keys[] = {
    TIMEOUT("connect", connect, "30s"),
    TIMEOUT("greeting", greeting, "5m"),
    TIMEOUT("ehlo", ehlo, "5m"),
    TIMEOUT("tls", tls, "1m"),
    TIMEOUT("mail", mail, "5m"),
    TIMEOUT("rcpt", rcpt, "5m"),
    TIMEOUT("data", data, "2m"),
    TIMEOUT("block", block, "3m"),
    TIMEOUT("dot", dot, "10m"),
    TIMEOUT("total", total, "2h"),
    TIMEOUT("idle", idle, "10s"),
    TIMEOUT("server", server, "5m"),
    TIMEOUT("shutdown_grace", shutdown_grace, "30s"),
};
static const struct schema_map timeout_map = {"timeouts", timeout_keys, COUNT(timeout_keys), {0}};

static const struct schema_key queue_keys[] = {
    {.name = "max_size",
     .kind = SCHEMA_SIZE,
     .field = TOP(queue_max_bytes),
     .min = MIB,
     .max = 65536 * GIB,
     .fallback = "100GiB"},
};
static const struct schema_map queue_map = {"queue", queue_keys, COUNT(queue_keys), {0}};

static const struct schema_key dns_keys[] = {
    {.name = "servers",
     .kind = SCHEMA_SERVER,
     .shape = SCHEMA_ONE_OR_LIST,
     ELEMENTS(struct config, dns_servers, dns_server_count)},
    {.name = "trust_ad", .kind = SCHEMA_BOOL, .only = "false"},
};
static const struct schema_map dns_map = {"dns", dns_keys, COUNT(dns_keys), {0}};

static const struct schema_key log_keys[] = {
    {.name = "format",
     .kind = SCHEMA_WORD,
     .field = TOP(log.format),
     .words = format_words,
     .fallback = "json"},
    {.name = "level",
     .kind = SCHEMA_WORD,
     .field = TOP(log.level),
     .words = level_words,
     .fallback = "info"},
    {.name = "to",
     .kind = SCHEMA_LOG,
     .field = TOP(log.target),
     .second = TOP(log.file),
     .fallback = "stderr"},
};
static const struct schema_map log_map = {"log", log_keys, COUNT(log_keys), {0}};

static const struct schema_key metrics_keys[] = {
    {.name = "address",
     .kind = SCHEMA_HTTP,
     .required = true,
     .field = TOP(metrics.address),
     .second = TOP(metrics.on)},
};
static const struct schema_map metrics_map = {"metrics", metrics_keys, COUNT(metrics_keys), {0}};

static const struct schema_key top_keys[] = {
    {.name = "hostname", .kind = SCHEMA_HOSTNAME, .field = TOP(hostname)},
    {.name = "state_dir", .kind = SCHEMA_PATH, .field = TOP(state_dir), .fallback = "/var/lib/mta"},
    {.name = "control_socket",
     .kind = SCHEMA_SOCKET,
     .field = TOP(control_socket),
     .fallback = "control"},
    {.name = "user", .kind = SCHEMA_USER, .field = TOP(user)},
    {.name = "postmaster", .kind = SCHEMA_MAILBOX, .field = TOP(postmaster)},
    {.name = "aliases", .kind = SCHEMA_ALIASES, ELEMENTS(struct config, aliases, alias_count)},
    {.name = "default_domain", .kind = SCHEMA_DOMAIN, .field = TOP(default_domain)},
    {.name = "listeners",
     .kind = SCHEMA_MAP,
     .shape = SCHEMA_LIST,
     .map = &listener_map,
     ELEMENTS(struct config, listeners, listener_count)},
    MAP("tls", tls_map),
    {.name = "users_file", .kind = SCHEMA_PATH, .field = TOP(users_file)},
    {.name = "dkim",
     .kind = SCHEMA_MAP,
     .shape = SCHEMA_LIST,
     .map = &dkim_map,
     .may_be_empty = true,
     ELEMENTS(struct config, dkim, dkim_count)},
    {.name = "routes",
     .kind = SCHEMA_MAP,
     .shape = SCHEMA_LIST,
     .map = &route_map,
     .may_be_empty = true,
     ELEMENTS(struct config, routes, route_count)},
    MAP("delivery", delivery_map),
    ABSENT("sites", "[]"),
    MAP("retry", retry_map),
    MAP("timeouts", timeout_map),
    MAP("queue", queue_map),
    LIMIT("max_hops", struct config, max_hops, 1000, "100"),
    MAP("dns", dns_map),
    MAP("log", log_map),
    MAP("metrics", metrics_map),
};
static const struct schema_map top_map = {"", top_keys, COUNT(top_keys), {0}};

const struct schema_map *const schema_maps[] = {
    &top_map,     &listener_map, &tls_map,    &dkim_map, &route_map,
    &match_map,   &delivery_map, &source_map, &site_map, &retry_map,
    &timeout_map, &queue_map,    &dns_map,    &log_map,  &metrics_map,
};
const size_t schema_map_count = COUNT(schema_maps);

const struct schema_key *schema_find(const struct schema_map *map, const char *name)
{
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->keys[i].name, name) == 0)
            return &map->keys[i];
    }
    return NULL;
}
