/* Right files: defaults, every setting, the shipped examples; ownership; networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"

/* The machine's name as the tests want it: these stand in for the C library's. */
static const char *machine_name;
static const char *canonical_name; /* NULL: not found */
static int lookups;

int gethostname(char *name, size_t len)
{
    snprintf(name, len, "%s", machine_name);
    return 0;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    lookups++;
    assert_string_equal(node, machine_name);
    assert_null(service);
    assert_int_equal(hints->ai_flags, AI_CANONNAME);
    if (canonical_name == NULL)
        return EAI_NONAME;
    *out = calloc(1, sizeof **out);
    assert_non_null(*out);
    (*out)->ai_canonname = (char *)canonical_name;
    return 0;
}

void freeaddrinfo(struct addrinfo *info)
{
    free(info);
}

static const struct config *parse(const char *yaml)
{
    const struct config *config = NULL;
    struct config_error error = {""};
    if (config_parse(yaml, strlen(yaml), "mta.yaml", "/etc/mta", &config, &error) < 0)
        fail_msg("%s\n  got: %s", yaml, error.text);
    return config;
}

static const struct config *load(const char *path)
{
    const struct config *config = NULL;
    struct config_error error = {""};
    if (config_load(path, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

static void assert_address(const struct config_network *network, const char *text, unsigned prefix)
{
    char shown[INET6_ADDRSTRLEN];
    inet_ntop(network->ipv6 ? AF_INET6 : AF_INET, network->bytes, shown, sizeof shown);
    assert_string_equal(shown, text);
    assert_int_equal(network->prefix, prefix);
}

static void assert_listener_defaults(const struct config_listener *listener)
{
    assert_int_equal(listener->role, CONFIG_ROLE_SUBMISSION);
    assert_int_equal(listener->tls, CONFIG_LISTENER_TLS_OPTIONAL);
    assert_int_equal(listener->trusted_count, 2);
    assert_address(&listener->trusted[0], "127.0.0.0", 8);
    assert_address(&listener->trusted[1], "::1", 128);
    assert_int_equal(listener->max_message_bytes, 50 << 20);
    assert_int_equal(listener->max_recipients, 1000);
    assert_int_equal(listener->max_connections, 2000);
    assert_false(listener->refuse_long_lines);
    assert_int_equal(listener->auth, CONFIG_AUTH_OFF);
    assert_null(listener->client_ca);
    assert_int_equal(listener->trusted_name_count, 0);
    assert_false(listener->trace_client);
}

static void test_defaults(void **state)
{
    (void)state;
    static const uint64_t minutes[] = {5, 10, 20, 30, 60, 120, 240};
    const struct config *config = parse("hostname: Mail.Example.COM\n");
    assert_string_equal(config->path, "/etc/mta/mta.yaml");
    assert_string_equal(config->hostname, "mail.example.com");
    assert_string_equal(config->state_dir, "/var/lib/mta");
    assert_string_equal(config->control_socket, "/var/lib/mta/control");
    assert_null(config->user);
    assert_int_equal(config->listener_count, 1);
    assert_int_equal(config->listeners[0].address_count, 2);
    assert_string_equal(config->listeners[0].addresses[0].text, "127.0.0.1:587");
    assert_address(&config->listeners[0].addresses[0].address, "127.0.0.1", 32);
    assert_int_equal(config->listeners[0].addresses[0].port, 587);
    assert_address(&config->listeners[0].addresses[1].address, "::1", 128);
    assert_null(config->listeners[0].addresses[0].unix_path);
    assert_int_equal(config->listeners[0].line, 0);
    assert_int_equal(config->listeners[0].cleartext_auth, CONFIG_CLEARTEXT_AUTH_LOOPBACK);
    assert_listener_defaults(&config->listeners[0]);
    assert_null(config->tls_certificate);
    assert_null(config->tls_key);
    assert_null(config->tls_ca);
    assert_int_equal(config->dkim_count, 0);
    assert_int_equal(config->route_count, 0);
    assert_int_equal(config->delivery.port, 25);
    assert_int_equal(config->delivery.ip, CONFIG_IP_ANY);
    assert_false(config->delivery.source.has_ipv4);
    assert_false(config->delivery.source.has_ipv6);
    assert_int_equal(config->delivery.tls, CONFIG_TLS_OPPORTUNISTIC);
    assert_int_equal(config->delivery.max_connections, 1000);
    assert_int_equal(config->delivery.site_connections, 20);
    assert_int_equal(config->delivery.site_messages_per_connection, 100);
    assert_int_equal(config->delivery.site_recipients_per_message, 100);
    assert_false(config->delivery.allow_private_addresses);
    assert_int_equal(config->delivery.units_in_memory, 50000);
    assert_int_equal(config->retry.interval_count, 7);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(config->retry.intervals_ms[i], minutes[i] * 60000);
    assert_int_equal(config->retry.expire_ms, UINT64_C(5) * 86400000);
    assert_int_equal(config->retry.expire_bounces_ms, 86400000);
    assert_int_equal(config->retry.warn_ms, 0);
    assert_false(config->metrics.on);
    assert_int_equal(config->timeouts.connect, 30000);
    assert_int_equal(config->timeouts.greeting, 300000);
    assert_int_equal(config->timeouts.ehlo, 300000);
    assert_int_equal(config->timeouts.tls, 60000);
    assert_int_equal(config->timeouts.mail, 300000);
    assert_int_equal(config->timeouts.rcpt, 300000);
    assert_int_equal(config->timeouts.data, 120000);
    assert_int_equal(config->timeouts.block, 180000);
    assert_int_equal(config->timeouts.dot, 600000);
    assert_int_equal(config->timeouts.total, 7200000);
    assert_int_equal(config->timeouts.idle, 10000);
    assert_int_equal(config->timeouts.server, 300000);
    assert_int_equal(config->timeouts.shutdown_grace, 30000);
    assert_int_equal(config->queue_max_bytes, UINT64_C(100) << 30);
    assert_int_equal(config->max_hops, 100);
    assert_int_equal(config->dns_server_count, 0);
    assert_int_equal(config->log.format, CONFIG_LOG_JSON);
    assert_int_equal(config->log.level, CONFIG_LOG_INFO);
    assert_int_equal(config->log.target, CONFIG_LOG_STDERR);
    assert_null(config->log.file);
    config_unref(&config);
    assert_null(config);
}

/* The design's own example, with what is not there yet left out or at its absent value. */
static const char full[] =
    "hostname: mail.example.com\n"
    "state_dir: ./state\n"
    "control_socket: run/control\n"
    "user: mta\n"
    "aliases: {}\n"
    "listeners:\n"
    "  - address: [\"127.0.0.1:587\", \"[::1]:587\"]\n"
    "    role: submission\n"
    "    tls: optional\n"
    "    auth: off\n"
    "    trusted: [127.0.0.0/8, \"::1\"]\n"
    "    cleartext_auth: never\n"
    "    max_message_size: 50MiB\n"
    "    max_recipients: 1000\n"
    "    max_connections: 2000\n"
    "    long_lines: accept\n"
    "  - address: 192.0.2.1:25\n"
    "    role: relay\n"
    "    tls: \"off\"\n"
    "    trusted: []\n"
    "    max_message_size: 2048\n"
    "    long_lines: refuse\n"
    "tls: {certificate: cert.pem, key: /keys/key.pem, ca: ../ca.pem}\n"
    "dkim:\n"
    "  - {domain: Example.com, selector: S1, key: s1.pem}\n"
    "  - {domain: example.com, selector: 2024, key: s2.pem}\n"
    "  - {domain: other.example, selector: s_1.x, key: s2.pem}\n"
    "routes:\n"
    "  - match: {recipients: [\"internal.Example\", \"*.internal.example\"], senders: [], users: "
    "[],"
    " listeners: []}\n"
    "    to: [\"Relay1.example:25\", \"192.0.2.9:26\", \"[2001:DB8::1]:27\"]\n"
    "    choose: failover\n"
    "    tls: verify\n"
    "    auth: off\n"
    "    action: deliver\n"
    "  - match: {recipients: [a.Example]}\n"
    "    to: relay:2525\n"
    "  - {}\n"
    "delivery:\n"
    "  port: 2525\n"
    "  ip: 4\n"
    "  source: {ipv4: 192.0.2.1, ipv6: \"2001:db8::1\"}\n"
    "  tls: encrypt\n"
    "  dane: false\n"
    "  mta_sts: false\n"
    "  max_connections: 7\n"
    "  site: {connections: 8, messages_per_connection: 9, recipients_per_message: 10, rate: "
    "unlimited}\n"
    "  allow_private_addresses: true\n"
    "  units_in_memory: 1000\n"
    "sites: []\n"
    "retry: {intervals: [1s, 90m], expire: 2d, expire_bounces: 3h, warn: 4h}\n"
    "timeouts: {total: 2s, idle: 10ms}\n"
    "queue: {max_size: 64MiB}\n"
    "max_hops: 3\n"
    "dns: {servers: [\"127.0.0.1:5353\", 192.0.2.53, \"::1\", \"[::2]:54\", \"[::3]\"], trust_ad: "
    "false}\n"
    "log: {format: text, level: debug, to: /var/log/mta.log}\n"
    "metrics: {address: \"[::1]:9587\"}\n";

static void check_full_listeners(const struct config *config)
{
    assert_int_equal(config->listener_count, 2);
    assert_listener_defaults(&config->listeners[0]);
    assert_int_equal(config->listeners[0].line, 7);
    const struct config_listener *relay = &config->listeners[1];
    assert_int_equal(relay->line, 17);
    assert_int_equal(relay->address_count, 1);
    assert_address(&relay->addresses[0].address, "192.0.2.1", 32);
    assert_int_equal(relay->addresses[0].port, 25);
    assert_int_equal(relay->role, CONFIG_ROLE_RELAY);
    assert_int_equal(relay->tls, CONFIG_LISTENER_TLS_OFF);
    assert_int_equal(relay->trusted_count, 0);
    assert_int_equal(relay->max_message_bytes, 2048);
    assert_int_equal(relay->max_recipients, 1000);
    assert_true(relay->refuse_long_lines);
}

static void check_full_keys(const struct config *config)
{
    assert_string_equal(config->tls_certificate, "/etc/mta/cert.pem");
    assert_string_equal(config->tls_key, "/keys/key.pem");
    assert_string_equal(config->tls_ca, "/etc/mta/../ca.pem");
    assert_int_equal(config->dkim_count, 3);
    assert_string_equal(config->dkim[0].domain, "example.com");
    assert_string_equal(config->dkim[0].selector, "s1");
    assert_string_equal(config->dkim[0].key_path, "/etc/mta/s1.pem");
    assert_int_equal(config->dkim[0].line, 25);
    assert_string_equal(config->dkim[1].selector, "2024");
    assert_string_equal(config->dkim[2].selector, "s_1.x");
}

static void check_full_routes(const struct config *config)
{
    assert_int_equal(config->route_count, 3);
    const struct config_route *route = &config->routes[0];
    assert_int_equal(route->line, 29);
    assert_int_equal(route->recipient_count, 2);
    assert_string_equal(route->recipients[0], "internal.example");
    assert_string_equal(route->recipients[1], "*.internal.example");
    assert_int_equal(route->to_count, 3);
    assert_string_equal(route->to[0].host, "relay1.example");
    assert_string_equal(route->to[0].text, "Relay1.example:25");
    assert_int_equal(route->to[0].port, 25);
    assert_string_equal(route->to[1].host, "192.0.2.9");
    assert_int_equal(route->to[1].port, 26);
    assert_string_equal(route->to[2].host, "2001:DB8::1");
    assert_int_equal(route->to[2].port, 27);
    assert_int_equal(route->tls, CONFIG_TLS_VERIFY);

    route = &config->routes[1];
    assert_int_equal(route->recipient_count, 1);
    assert_string_equal(route->recipients[0], "a.example");
    assert_int_equal(route->to_count, 1);
    assert_string_equal(route->to[0].host, "relay");
    assert_int_equal(route->tls, CONFIG_TLS_ENCRYPT); /* as delivery.tls */
    assert_int_equal(config->routes[2].to_count, 0);
    assert_int_equal(config->routes[2].tls, CONFIG_TLS_ENCRYPT);
}

static void check_full_delivery(const struct config *config)
{
    assert_int_equal(config->delivery.port, 2525);
    assert_int_equal(config->delivery.ip, CONFIG_IP_4);
    assert_true(config->delivery.source.has_ipv4);
    assert_true(config->delivery.source.has_ipv6);
    assert_address(&config->delivery.source.ipv4, "192.0.2.1", 32);
    assert_address(&config->delivery.source.ipv6, "2001:db8::1", 128);
    assert_int_equal(config->delivery.tls, CONFIG_TLS_ENCRYPT);
    assert_int_equal(config->delivery.max_connections, 7);
    assert_int_equal(config->delivery.site_connections, 8);
    assert_int_equal(config->delivery.site_messages_per_connection, 9);
    assert_int_equal(config->delivery.site_recipients_per_message, 10);
    assert_true(config->delivery.allow_private_addresses);
    assert_int_equal(config->delivery.units_in_memory, 1000);
    assert_int_equal(config->retry.interval_count, 2);
    assert_int_equal(config->retry.intervals_ms[0], 1000);
    assert_int_equal(config->retry.intervals_ms[1], 5400000);
    assert_int_equal(config->retry.expire_ms, 172800000);
    assert_int_equal(config->retry.expire_bounces_ms, 10800000);
    assert_int_equal(config->retry.warn_ms, 14400000);
    assert_int_equal(config->timeouts.total, 2000);
    assert_int_equal(config->timeouts.idle, 10);
    assert_int_equal(config->timeouts.connect, 30000);
}

static void check_full_rest(const struct config *config)
{
    static const struct {
        const char *address;
        uint16_t port;
    } servers[] = {{"127.0.0.1", 5353}, {"192.0.2.53", 53}, {"::1", 53}, {"::2", 54}, {"::3", 53}};
    assert_string_equal(config->hostname, "mail.example.com");
    assert_string_equal(config->state_dir, "/etc/mta/state");
    assert_string_equal(config->control_socket, "/etc/mta/state/run/control");
    assert_string_equal(config->user, "mta");
    assert_int_equal(config->queue_max_bytes, 64 << 20);
    assert_int_equal(config->max_hops, 3);
    assert_int_equal(config->dns_server_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_address(&config->dns_servers[i].address, servers[i].address,
                       strchr(servers[i].address, ':') != NULL ? 128 : 32);
        assert_int_equal(config->dns_servers[i].port, servers[i].port);
    }
    assert_int_equal(config->log.format, CONFIG_LOG_TEXT);
    assert_int_equal(config->log.level, CONFIG_LOG_DEBUG);
    assert_int_equal(config->log.target, CONFIG_LOG_FILE);
    assert_string_equal(config->log.file, "/var/log/mta.log");
    assert_true(config->metrics.on);
    assert_address(&config->metrics.address.address, "::1", 128);
    assert_int_equal(config->metrics.address.port, 9587);
    assert_string_equal(config->metrics.address.text, "[::1]:9587");
}

static void check_full(const char *yaml)
{
    const struct config *config = parse(yaml);
    check_full_listeners(config);
    check_full_keys(config);
    check_full_routes(config);
    check_full_delivery(config);
    check_full_rest(config);
    config_unref(&config);
}

static void test_full(void **state)
{
    (void)state;
    check_full(full);
}

/* The same from a Windows editor: a byte order mark and CRLF. */
static void test_crlf(void **state)
{
    (void)state;
    char *yaml = calloc(1, 2 * sizeof full + 3);
    assert_non_null(yaml);
    size_t used = (size_t)snprintf(yaml, 4, "\xef\xbb\xbf");
    for (const char *p = full; *p != '\0'; p++) {
        if (*p == '\n')
            yaml[used++] = '\r';
        yaml[used++] = *p;
    }
    check_full(yaml);
    free(yaml);
}

/* Every beginning of a good file is read or refused, but never read beyond its end. */
static void test_truncated(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof full; len++) {
        char *bytes = malloc(len > 0 ? len : 1);
        const struct config *config = NULL;
        struct config_error error = {""};
        assert_non_null(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = full[i];
        machine_name = "mail.example.com";
        if (config_parse(bytes, len, "mta.yaml", "/etc/mta", &config, &error) < 0)
            assert_non_null(strstr(error.text, "mta.yaml:"));
        config_unref(&config);
        free(bytes);
    }
}

static void test_log_targets(void **state)
{
    (void)state;
    const struct config *config = parse("hostname: a.example\nlog: {to: syslog}\n");
    assert_int_equal(config->log.target, CONFIG_LOG_SYSLOG);
    config_unref(&config);
    config = parse("hostname: a.example\nlog: {to: mta.log}\n");
    assert_int_equal(config->log.target, CONFIG_LOG_FILE);
    assert_string_equal(config->log.file, "/etc/mta/mta.log");
    config_unref(&config);
}

static void test_warn(void **state)
{
    (void)state;
    const struct config *config = parse("hostname: a.example\nretry: {warn: off, expire: 1s}\n");
    assert_int_equal(config->retry.warn_ms, 0);
    config_unref(&config);
    config = parse("hostname: a.example\nretry: {warn: 1s, expire: 1001ms}\n");
    assert_int_equal(config->retry.warn_ms, 1000);
    config_unref(&config);
}

/* Who may hand mail in, and how. */
static void test_submission(void **state)
{
    (void)state;
    const struct config *config =
        parse("hostname: a.example\n"
              "users_file: users\n"
              "tls: {certificate: c.pem, key: k.pem}\n"
              "listeners:\n"
              "  - address: [\"unix:run/submission\", \"127.0.0.1:587\"]\n"
              "  - {address: \"unix:/run/mta/s\", auth: required, cleartext_auth: never}\n"
              "  - {address: \"127.0.0.1:25\", role: relay, auth: off, client_ca: ca.pem,\n"
              "     trusted_names: [\"*.Example.com\", b.example], tls: required}\n"
              "  - {address: \"127.0.0.1:26\", role: relay, trace_client: false}\n"
              "  - {address: \"127.0.0.1:27\", trace_client: true}\n");
    const struct config_listener *l = config->listeners;
    assert_string_equal(config->users_file, "/etc/mta/users");
    assert_int_equal(config->listener_count, 5);
    assert_string_equal(l[0].addresses[0].unix_path, "/etc/mta/run/submission");
    assert_string_equal(l[0].addresses[0].text, "unix:run/submission");
    assert_null(l[0].addresses[1].unix_path);
    assert_int_equal(l[0].auth, CONFIG_AUTH_OPTIONAL);
    assert_int_equal(l[1].auth, CONFIG_AUTH_REQUIRED);
    assert_int_equal(l[1].cleartext_auth, CONFIG_CLEARTEXT_AUTH_NEVER);
    assert_int_equal(l[2].auth, CONFIG_AUTH_OFF);
    assert_string_equal(l[2].client_ca, "/etc/mta/ca.pem");
    assert_int_equal(l[2].trusted_name_count, 2);
    assert_string_equal(l[2].trusted_names[0], "*.example.com");
    assert_string_equal(l[2].trusted_names[1], "b.example");
    assert_true(l[2].trace_client);
    assert_false(l[3].trace_client);
    assert_true(l[4].trace_client);
    config_unref(&config);
}

static void test_hostname_default(void **state)
{
    (void)state;
    const struct config *config = NULL;
    struct config_error error = {""};

    lookups = 0;
    machine_name = "Host.example.net";
    config = parse("max_hops: 5\n");
    assert_string_equal(config->hostname, "host.example.net");
    assert_int_equal(lookups, 0);
    config_unref(&config);

    machine_name = "host";
    canonical_name = "host.example.org";
    config = parse("max_hops: 5\n");
    assert_string_equal(config->hostname, "host.example.org");
    assert_int_equal(lookups, 1);
    config_unref(&config);

    static const char *const useless[] = {NULL, "host", "host.local", "localhost.localdomain", ""};
    for (size_t i = 0; i < sizeof useless / sizeof useless[0]; i++) {
        canonical_name = useless[i];
        assert_int_equal(config_parse("max_hops: 5\n", 12, "f", "/", &config, &error), -1);
        assert_non_null(strstr(error.text, "f:1:1: hostname: missing, and this machine's own name "
                                           "\"host\" cannot stand in for it: expected a full"));
    }
}

static void test_shipped(void **state)
{
    (void)state;
    const struct config *config = load(MTA_SOURCE_DIR "/config/example.yaml");
    assert_string_equal(config->hostname, "mail.example.com");
    assert_int_equal(config->listener_count, 2);
    assert_int_equal(config->dkim_count, 2);
    assert_int_equal(config->route_count, 2);
    assert_int_equal(config->retry.warn_ms, 0);
    assert_string_equal(config->metrics.address.text, "127.0.0.1:9587");
    config_unref(&config);

    config = load(MTA_SOURCE_DIR "/config/quickstart.yaml");
    assert_string_equal(config->hostname, "mta.sandbox.example");
    assert_string_equal(config->listeners[0].addresses[0].text, "127.0.0.1:587");
    assert_string_equal(config->dkim[0].domain, "sandbox.example");
    assert_string_equal(config->dns_servers[0].text, "127.0.0.1:5353");
    assert_int_equal(config->delivery.port, 2525);
    assert_true(config->delivery.allow_private_addresses);
    config_unref(&config);
}

/* Relative paths are relative to the file, wherever the process stands. */
static void test_files(void **state)
{
    (void)state;
    const struct config *config = NULL;
    struct config_error error = {""};
    char folder[] = "/tmp/test_config_XXXXXX";
    char path[64], expected[96], before[4096];
    assert_non_null(mkdtemp(folder));
    assert_non_null(getcwd(before, sizeof before));
    snprintf(path, sizeof path, "%s/m.yaml", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("hostname: a.example\nstate_dir: state\n", file);
    fclose(file);

    snprintf(expected, sizeof expected, "%s/state", folder);
    config = load(path);
    assert_string_equal(config->path, path);
    assert_string_equal(config->state_dir, expected);
    config_unref(&config);
    assert_int_equal(chdir(folder), 0);
    config = load("m.yaml");
    assert_string_equal(config->path, path);
    assert_string_equal(config->state_dir, expected);
    config_unref(&config);

    assert_int_equal(config_load("none.yaml", &config, &error), -1);
    assert_string_equal(error.text, "none.yaml: cannot open: No such file or directory");
    assert_int_equal(config_load("no/such/none.yaml", &config, &error), -1);
    assert_string_equal(error.text, "no/such/none.yaml: cannot open: No such file or directory");
    assert_int_equal(config_load("..", &config, &error), -1);
    assert_string_equal(error.text, "..: cannot read: Is a directory");

    assert_int_equal(truncate(path, 1024 * 1024 + 1), 0);
    assert_int_equal(config_load("m.yaml", &config, &error), -1);
    assert_string_equal(error.text, "m.yaml: larger than 1 MiB");
    assert_null(config);
    assert_int_equal(chdir(before), 0);
    unlink(path);
    rmdir(folder);
}

static void *share(void *arg)
{
    const struct config *mine = arg;
    for (int i = 0; i < 1000; i++) {
        const struct config *again = config_ref(mine);
        assert_int_equal(again->max_hops, 100);
        config_unref(&again);
    }
    config_unref(&mine);
    return NULL;
}

static void test_references(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    const struct config *config = parse("hostname: a.example\n");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, share, (void *)config_ref(config)), 0);
    config_unref(&config);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    config_unref(&config); /* a pointer to NULL is fine */
}

static void test_contains(void **state)
{
    (void)state;
    static const struct {
        const char *network;
        const char *address;
        unsigned prefix;
        bool inside;
    } cases[] = {
        {"127.0.0.0", "127.0.0.1", 8, true},
        {"127.0.0.0", "127.255.255.255", 8, true},
        {"127.0.0.0", "128.0.0.0", 8, false},
        {"127.0.0.0", "126.255.255.255", 8, false},
        {"10.1.2.0", "10.1.3.255", 23, true},
        {"10.1.2.0", "10.1.4.0", 23, false},
        {"10.1.2.3", "10.1.2.3", 32, true},
        {"10.1.2.3", "10.1.2.2", 32, false},
        {"10.0.0.0", "10.0.0.1", 31, true},
        {"0.0.0.0", "1.2.3.4", 0, true},
        {"0.0.0.0", "::1", 0, false},
        {"::", "1.2.3.4", 0, false},
        {"::1", "::1", 128, true},
        {"::1", "::2", 128, false},
        {"2001:db8::", "2001:db8:7fff::1", 33, true},
        {"2001:db8::", "2001:db8:8000::1", 33, false},
        {"127.0.0.0", "::ffff:127.0.0.1", 8, true},
        {"127.0.0.0", "::ffff:126.0.0.1", 8, false},
        {"::", "::ffff:127.0.0.1", 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_network network = {.ipv6 = strchr(cases[i].network, ':') != NULL,
                                         .prefix = (uint8_t)cases[i].prefix};
        bool ipv6 = strchr(cases[i].address, ':') != NULL;
        uint8_t *bytes = malloc(ipv6 ? 16 : 4); /* exactly sized for the sanitizer */
        assert_non_null(bytes);
        inet_pton(network.ipv6 ? AF_INET6 : AF_INET, cases[i].network, network.bytes);
        inet_pton(ipv6 ? AF_INET6 : AF_INET, cases[i].address, bytes);
        if (config_network_contains(&network, ipv6, bytes) != cases[i].inside)
            fail_msg("%s/%u %s", cases[i].network, cases[i].prefix, cases[i].address);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_full),
        cmocka_unit_test(test_crlf),        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_log_targets), cmocka_unit_test(test_hostname_default),
        cmocka_unit_test(test_warn),        cmocka_unit_test(test_submission),
        cmocka_unit_test(test_shipped),     cmocka_unit_test(test_files),
        cmocka_unit_test(test_references),  cmocka_unit_test(test_contains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
