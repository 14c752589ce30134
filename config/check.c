/* config/check.c - settings that must fit together. */
#include "config/check.h"

#include "config/value.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int check_tls_files(const struct build *b, const struct node *root,
                           const struct config *config)
{
    const struct node *tls = node_find(root, "tls");
    if ((config->tls_certificate == NULL) == (config->tls_key == NULL))
        return 0;
    if (config->tls_key == NULL)
        return report_at(b->report, node_find(tls, "certificate")->key_place, "tls.certificate",
                         "needs tls.key, the file with its private key");
    return report_at(b->report, node_find(tls, "key")->key_place, "tls.key",
                     "needs tls.certificate, the file with its certificate");
}

static int check_listener_tls(const struct build *b, const struct node *item,
                              const struct config *config, const struct config_listener *listener)
{
    const struct node *tls = node_find(item, "tls");
    bool needs = listener->tls == CONFIG_LISTENER_TLS_REQUIRED ||
                 listener->tls == CONFIG_LISTENER_TLS_IMPLICIT;
    if (needs && config->tls_certificate == NULL)
        return report_at(b->report, tls->place, "listeners.tls",
                         "%s needs tls.certificate and tls.key", tls->text);
    return 0;
}

static int check_listener_auth(const struct build *b, const struct node *item,
                               const struct config *config, const struct config_listener *listener)
{
    const struct node *auth = node_find(item, "auth");
    bool tls = listener->tls != CONFIG_LISTENER_TLS_OFF && config->tls_certificate != NULL;
    if (listener->auth != CONFIG_AUTH_REQUIRED)
        return 0;
    if (config->users_file == NULL)
        return report_at(b->report, auth->place, "listeners.auth",
                         "required needs users_file, the file that `mtactl user add` makes");
    if (!tls && listener->cleartext_auth == CONFIG_CLEARTEXT_AUTH_NEVER)
        return report_at(b->report, auth->place, "listeners.auth",
                         "required and nobody could log in: there is neither TLS (tls other than "
                         "off, tls.certificate and tls.key) nor cleartext_auth: loopback");
    return 0;
}

static int check_listener_names(const struct build *b, const struct node *item,
                                const struct config *config, const struct config_listener *listener)
{
    const struct node *ca = node_find(item, "client_ca");
    const struct node *names = node_find(item, "trusted_names");
    if (ca != NULL && config->tls_certificate == NULL)
        return report_at(b->report, ca->key_place, "listeners.client_ca",
                         "needs tls.certificate and tls.key: without TLS no client shows a "
                         "certificate");
    if (ca != NULL && listener->tls == CONFIG_LISTENER_TLS_OFF)
        return report_at(b->report, ca->key_place, "listeners.client_ca",
                         "needs tls other than off: without TLS no client shows a certificate");
    if (listener->trusted_name_count > 0 && ca == NULL)
        return report_at(b->report, names->key_place, "listeners.trusted_names",
                         "needs client_ca, the file of those who sign the clients' certificates");
    return 0;
}

static int check_listeners(const struct build *b, const struct node *root,
                           const struct config *config)
{
    const struct node *list = node_find(root, "listeners");
    const struct node *item = list != NULL ? list->first : NULL;
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        const struct config_listener *listener = &config->listeners[i];
        if (check_listener_tls(b, item, config, listener) < 0 ||
            check_listener_auth(b, item, config, listener) < 0 ||
            check_listener_names(b, item, config, listener) < 0)
            return -1;
    }
    return 0;
}

/* What a listener does where its mapping is silent and another setting decides. */
static void fill_listeners(const struct node *root, const struct config *config)
{
    const struct node *list = node_find(root, "listeners");
    const struct node *item = list != NULL ? list->first : NULL;
    /* ours until it is handed out */
    struct config_listener *listeners = (struct config_listener *)config->listeners;
    for (size_t i = 0; i < config->listener_count; i++) {
        if (config->users_file == NULL)
            listeners[i].auth = CONFIG_AUTH_OFF;
        if (node_find(item, "trace_client") == NULL)
            listeners[i].trace_client = listeners[i].role == CONFIG_ROLE_RELAY;
        item = item != NULL ? item->next : NULL;
    }
}

/* Something that may stand only once, and its place. */
struct once {
    const char *text;  /* equal for equal things */
    const char *shown; /* as written */
    struct place place;
};

static int compare_once(const void *a, const void *b)
{
    const struct once *left = a, *right = b;
    int order = strcmp(left->text, right->text);
    if (order != 0)
        return order;
    if (left->place.line != right->place.line)
        return left->place.line < right->place.line ? -1 : 1;
    if (left->place.column != right->place.column)
        return left->place.column < right->place.column ? -1 : 1;
    return 0;
}

static int refuse_twins(const struct build *b, const char *key, struct once *all, size_t count)
{
    if (count < 2)
        return 0;
    qsort(all, count, sizeof *all, compare_once);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(all[i - 1].text, all[i].text) == 0)
            return report_at(b->report, all[i].place, key,
                             "%s stands twice: the first is at line %u",
                             excerpt_of(all[i].shown).text, all[i - 1].place.line);
    }
    return 0;
}

/* Address and port in one spelling: "[::1]:587" and "[0::1]:587" are the same. */
static const char *spell_endpoint(struct arena *arena, const struct config_endpoint *endpoint)
{
    static const char digits[] = "0123456789abcdef";
    if (endpoint->unix_path != NULL)
        return endpoint->unix_path;
    size_t size = endpoint->address.ipv6 ? 16 : 4;
    char *text = arena_alloc(arena, 2 * size + 8);
    char *p = text;
    for (size_t i = 0; i < size; i++) {
        *p++ = digits[endpoint->address.bytes[i] >> 4];
        *p++ = digits[endpoint->address.bytes[i] & 15];
    }
    for (unsigned shift = 0; shift < 16; shift += 4)
        *p++ = digits[endpoint->port >> shift & 15];
    return text;
}

static int check_addresses(const struct build *b, struct arena *scratch, const struct node *root,
                           const struct config *config)
{
    const struct node *list = node_find(root, "listeners");
    const struct node *item = list != NULL ? list->first : NULL;
    size_t total = 0, used = 0;
    for (size_t i = 0; i < config->listener_count; i++)
        total += config->listeners[i].address_count;
    struct once *all = arena_alloc(scratch, total * sizeof *all);
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        const struct config_listener *listener = &config->listeners[i];
        const struct node *node = node_find(item, "address");
        node = node->kind == NODE_LIST ? node->first : node;
        for (size_t k = 0; k < listener->address_count; k++, node = node->next)
            all[used++] = (struct once){spell_endpoint(scratch, &listener->addresses[k]),
                                        node->text, node->place};
    }
    return refuse_twins(b, "listeners.address", all, used);
}

static int check_metrics(const struct build *b, struct arena *scratch, const struct node *root,
                         const struct config *config)
{
    if (!config->metrics.on)
        return 0;
    const struct node *node = node_find(node_find(root, "metrics"), "address");
    const char *own = spell_endpoint(scratch, &config->metrics.address);
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        for (size_t k = 0; k < listener->address_count; k++) {
            if (strcmp(own, spell_endpoint(scratch, &listener->addresses[k])) == 0)
                return report_at(b->report, node->place, "metrics.address",
                                 "%s is a listener's address; expected one of its own such as "
                                 "127.0.0.1:9587",
                                 excerpt_of(node->text).text);
        }
    }
    return 0;
}

/* Mail that has gone back before its sender would be warned: a slip in one of the two. */
static int check_warn(const struct build *b, const struct node *root, const struct config *config)
{
    const struct node *node = node_find(node_find(root, "retry"), "warn");
    if (config->retry.warn_ms < config->retry.expire_ms)
        return 0;
    return report_at(b->report, node->place, "retry.warn",
                     "%s is not shorter than retry.expire: the message has expired by then; "
                     "expected a shorter time, or off",
                     excerpt_of(node->text).text);
}

static int check_dkim(const struct build *b, struct arena *scratch, const struct node *root,
                      const struct config *config)
{
    const struct node *list = node_find(root, "dkim");
    const struct node *item = list != NULL ? list->first : NULL;
    struct once *all = arena_alloc(scratch, config->dkim_count * sizeof *all);
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        const struct config_dkim *dkim = &config->dkim[i];
        size_t selector = strlen(dkim->selector), domain = strlen(dkim->domain);
        char *text = arena_alloc(scratch, selector + domain + sizeof "._domainkey.");
        memcpy(text, dkim->selector, selector);
        memcpy(text + selector, "._domainkey.", sizeof "._domainkey." - 1);
        memcpy(text + selector + sizeof "._domainkey." - 1, dkim->domain, domain);
        all[i] = (struct once){text, text, node_find(item, "selector")->place};
    }
    return refuse_twins(b, "dkim.selector", all, config->dkim_count);
}

/* A route without `tls` does as deliveries do; that may stand further down in the file. */
static void fill_route_tls(const struct node *root, const struct config *config)
{
    const struct node *list = node_find(root, "routes");
    const struct node *item = list != NULL ? list->first : NULL;
    /* ours until it is handed out */
    struct config_route *routes = (struct config_route *)config->routes;
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        if (node_find(item, "tls") == NULL)
            routes[i].tls = config->delivery.tls;
    }
}

static int place_socket(const struct build *b, const struct node *root, struct config *config)
{
    struct sockaddr_un address;
    config->control_socket = build_path(b->arena, config->state_dir, config->control_socket);
    if (strlen(config->control_socket) < sizeof address.sun_path)
        return 0;
    const struct node *node = node_find(root, "control_socket");
    if (node == NULL)
        node = node_find(root, "state_dir");
    return report_at(b->report, node != NULL ? node->place : (struct place){1, 1}, "control_socket",
                     "%s is too long: a socket's whole path has at most %zu characters",
                     excerpt_of(config->control_socket).text, sizeof address.sun_path - 1);
}

/* Two sockets cannot share a path; the later one would take it from the other. */
static int check_control_socket(const struct build *b, const struct node *root,
                                const struct config *config)
{
    const struct node *list = node_find(root, "listeners");
    const struct node *item = list != NULL ? list->first : NULL;
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        const struct config_listener *listener = &config->listeners[i];
        for (size_t k = 0; k < listener->address_count; k++) {
            const char *path = listener->addresses[k].unix_path;
            if (path != NULL && strcmp(path, config->control_socket) == 0)
                return report_at(b->report, node_find(item, "address")->place, "listeners.address",
                                 "%s is the control_socket; expected another path",
                                 excerpt_of(listener->addresses[k].text).text);
        }
    }
    return 0;
}

/* Two ways to say the same, and one of them would go unheard. */
static int check_postmaster(const struct build *b, const struct node *root,
                            const struct config *config)
{
    const struct node *list = node_find(root, "aliases");
    if (config->postmaster == NULL || list == NULL)
        return 0;
    for (const struct node *alias = list->first; alias != NULL; alias = alias->next) {
        if (strcasecmp(alias->key, "postmaster") == 0)
            return report_at(b->report, alias->key_place, "aliases.postmaster",
                             "given twice: the key `postmaster` at line %u says it too",
                             node_find(root, "postmaster")->key_place.line);
    }
    return 0;
}

static int default_hostname(const struct build *b, struct config *config)
{
    struct place start = {1, 1};
    char machine[VALUE_DOMAIN_SIZE] = "", name[VALUE_DOMAIN_SIZE];
    struct reason why = {""};
    if (gethostname(machine, sizeof machine - 1) != 0)
        machine[0] = '\0';
    bool good = value_hostname(machine, name, &why);
    if (!good && machine[0] != '\0') {
        const struct addrinfo hints = {.ai_flags = AI_CANONNAME};
        struct addrinfo *found = NULL;
        if (getaddrinfo(machine, NULL, &hints, &found) == 0 && found->ai_canonname != NULL)
            good = value_hostname(found->ai_canonname, name, &why);
        if (found != NULL)
            freeaddrinfo(found);
    }
    if (!good)
        return report_at(b->report, start, "hostname",
                         "missing, and this machine's own name %s cannot stand in for it: %s",
                         excerpt_of(machine).text, why.text);
    config->hostname = arena_copy(b->arena, name, strlen(name));
    return 0;
}

int check_config(const struct build *build, const struct node *root, struct config *config)
{
    struct arena scratch = {0};
    int rc = check_tls_files(build, root, config);
    if (rc == 0)
        rc = check_listeners(build, root, config);
    if (rc == 0)
        rc = check_addresses(build, &scratch, root, config);
    if (rc == 0)
        rc = check_metrics(build, &scratch, root, config);
    if (rc == 0)
        rc = check_dkim(build, &scratch, root, config);
    if (rc == 0)
        rc = check_warn(build, root, config);
    if (rc == 0)
        rc = place_socket(build, root, config);
    if (rc == 0)
        rc = check_control_socket(build, root, config);
    if (rc == 0)
        rc = check_postmaster(build, root, config);
    if (rc == 0 && config->hostname == NULL)
        rc = default_hostname(build, config);
    if (rc == 0) {
        fill_route_tls(root, config);
        fill_listeners(root, config);
        if (config->default_domain == NULL)
            config->default_domain = config->hostname;
    }
    arena_free(&scratch);
    return rc;
}
