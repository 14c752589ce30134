/* config/config.h - the whole configuration as one immutable, reference-counted value.
 *
 * config_load() reads YAML (libyaml), checks every key against the table in schema.c and
 * returns a complete structure with all defaults filled in. Knows nothing of the rest of the
 * product: durations are milliseconds, sizes bytes, addresses plain bytes.
 * Any thread may read; config_ref/config_unref are atomic. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_MUST_USE __attribute__((warn_unused_result))

#define CONFIG_UNLIMITED UINT32_MAX

/* An IP address or network. IPv4 uses the first 4 bytes. */
struct config_network {
    bool ipv6;
    uint8_t bytes[16]; /* network order */
    uint8_t prefix;    /* 0..32 or 0..128; a lone address has the full length */
};

struct config_endpoint {
    struct config_network address; /* full prefix */
    uint16_t port;
    const char *unix_path; /* absolute, fits a socket's address; NULL: address and port count */
    const char *text;      /* as written, for messages */
};

enum config_role { CONFIG_ROLE_SUBMISSION, CONFIG_ROLE_RELAY };
enum config_listener_tls {
    CONFIG_LISTENER_TLS_OFF,
    CONFIG_LISTENER_TLS_OPTIONAL,
    CONFIG_LISTENER_TLS_REQUIRED,
    CONFIG_LISTENER_TLS_IMPLICIT
};
enum config_auth { CONFIG_AUTH_OFF, CONFIG_AUTH_OPTIONAL, CONFIG_AUTH_REQUIRED };
enum config_cleartext_auth { CONFIG_CLEARTEXT_AUTH_NEVER, CONFIG_CLEARTEXT_AUTH_LOOPBACK };
enum config_tls { CONFIG_TLS_OFF, CONFIG_TLS_OPPORTUNISTIC, CONFIG_TLS_ENCRYPT, CONFIG_TLS_VERIFY };
enum config_ip { CONFIG_IP_ANY, CONFIG_IP_4, CONFIG_IP_6 };
enum config_log_format { CONFIG_LOG_JSON, CONFIG_LOG_TEXT };
enum config_log_level { CONFIG_LOG_DEBUG, CONFIG_LOG_INFO, CONFIG_LOG_WARNING, CONFIG_LOG_ERROR };
enum config_log_target { CONFIG_LOG_STDERR, CONFIG_LOG_SYSLOG, CONFIG_LOG_FILE };

struct config_listener {
    const struct config_endpoint *addresses;
    size_t address_count; /* at least 1 */
    enum config_role role;
    enum config_listener_tls tls;
    /* Off, too, where it was optional and there is no users_file: nobody could log in. */
    enum config_auth auth;
    enum config_cleartext_auth cleartext_auth;
    const struct config_network *trusted;
    size_t trusted_count;
    const char *client_ca; /* absolute path, or NULL: clients are asked for no certificate */
    /* A verified client certificate with such a DNS name may relay. Patterns as in a route. */
    const char *const *trusted_names;
    size_t trusted_name_count;
    bool trace_client; /* Received tells address and user of the client */
    uint64_t max_message_bytes;
    uint32_t max_recipients;
    uint32_t max_connections;
    bool refuse_long_lines;
    uint32_t line; /* where it stands in the file, for later messages */
};

/* A name of system mail and who gets it instead. */
struct config_alias {
    const char *name; /* local part, lower case */
    /* Each "local@domain", or a bare local part: another alias, or completed by default_domain.
     * No circles, but an alias may name itself: then it means name@default_domain. */
    const char *const *targets;
    size_t target_count; /* at least 1 */
    uint32_t line;
};

struct config_dkim {
    const char *domain; /* lower case */
    const char *selector;
    const char *key_path; /* absolute */
    uint32_t line;
};

struct config_hop {
    const char *host; /* name or address literal; never an MX lookup */
    uint16_t port;
    const char *text; /* as written */
};

struct config_route {
    /* Patterns, lower case: "name", "*.name". Count 0: matches all. */
    const char *const *recipients;
    size_t recipient_count;
    const struct config_hop *to; /* count 0: by MX; tried in order (failover) */
    size_t to_count;
    enum config_tls tls; /* the route's own, or delivery.tls where it says none */
    uint32_t line;
};

struct config_source {
    bool has_ipv4, has_ipv6;
    struct config_network ipv4, ipv6;
};

struct config {
    const char *path;           /* of the file, absolute */
    const char *hostname;       /* checked: has a dot, not .local; lower case */
    const char *state_dir;      /* absolute */
    const char *control_socket; /* absolute */
    const char *user;           /* NULL: not given */
    const char *postmaster;     /* local@domain, or NULL */
    const struct config_alias *aliases; /* by name, as strcmp() orders */
    size_t alias_count;
    const char *default_domain; /* completes unqualified addresses; lower case; never NULL */
    const char *users_file;     /* absolute path, or NULL */

    const struct config_listener *listeners;
    size_t listener_count;
    const char *tls_certificate; /* absolute path, or NULL; certificate and key come together */
    const char *tls_key;
    const char *tls_ca; /* absolute path, or NULL: the system's */
    const struct config_dkim *dkim;
    size_t dkim_count;
    const struct config_route *routes;
    size_t route_count;

    struct {
        uint16_t port;
        enum config_ip ip;
        struct config_source source;
        enum config_tls tls;
        uint32_t max_connections;
        uint32_t site_connections;
        uint32_t site_messages_per_connection;
        uint32_t site_recipients_per_message;
        bool allow_private_addresses;
        /* Message and destination pairs that wait in memory, all together; the rest of the queue
         * stays on disk. 1,000 .. 1,000,000; default 50,000 (about 10 MiB). */
        uint32_t units_in_memory;
    } delivery;

    struct {
        /* At least one; the last repeats; the jitter of 0..+20% is up to who uses them. */
        const uint64_t *intervals_ms;
        size_t interval_count;
        uint64_t expire_ms;
        uint64_t expire_bounces_ms;
        uint64_t warn_ms; /* the sender is told of a delay after so long, once; 0: off */
    } retry;

    struct {
        bool on;
        struct config_endpoint address; /* HTTP: /metrics, /healthz */
    } metrics;

    /* All in milliseconds. */
    struct {
        uint64_t connect, greeting, ehlo, tls, mail, rcpt, data, block, dot, total, idle, server,
            shutdown_grace;
    } timeouts;

    uint64_t queue_max_bytes;
    uint32_t max_hops;
    const struct config_endpoint *dns_servers; /* count 0: resolv.conf */
    size_t dns_server_count;

    struct {
        enum config_log_format format;
        enum config_log_level level;
        enum config_log_target target;
        const char *file; /* absolute, when target is CONFIG_LOG_FILE */
    } log;
};

/* One problem, ready to print: "file:line:column: key: what was expected". */
struct config_error {
    char text[512];
};

/**
 * Read and check a file.
 *
 * @param path       as the user gave it; relative paths inside are relative to its folder
 * @param config_out written on success only; one reference, give it back with config_unref()
 * @param error_out  written on failure only
 * @return 0; -1: the file cannot be read or is wrong (error_out says where and what was expected)
 *
 * Does not open the files that the configuration names (keys, certificates), asks no DNS;
 * the default hostname is the machine's FQDN by gethostname/getaddrinfo(AI_CANONNAME).
 * Blocks on file I/O.
 */
CONFIG_MUST_USE int config_load(const char *path, const struct config **config_out,
                                struct config_error *error_out);

/* The same from memory; `name` stands for the file in messages, `folder` is the base of relative
 * paths. The bytes are hostile until checked: at most 1 MiB, any content. */
CONFIG_MUST_USE int config_parse(const char *bytes, size_t len, const char *name,
                                 const char *folder, const struct config **config_out,
                                 struct config_error *error_out);

/* Another owner; returns its argument. */
const struct config *config_ref(const struct config *config);

/* Give one reference back and store NULL; the last one frees. Accepts a pointer to NULL. */
void config_unref(const struct config **configp);

/* Is the address (4 or 16 bytes) inside the network? IPv4-mapped IPv6 addresses count as IPv4. */
bool config_network_contains(const struct config_network *network, bool ipv6, const uint8_t *bytes);

#endif
