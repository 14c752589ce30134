/* mta/submit/rewrite.c - see rewrite.h. */
#include "mta/submit/rewrite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/buf.h"

static const struct str postmaster = {"postmaster", 10};

/* An expansion under way. */
struct expansion {
    const struct config *config;
    rewrite_add_fn add;
    void *ctx;
    size_t added;
    bool *followed;  /* one for each alias */
    size_t *waiting; /* aliases that were named and not followed yet */
    size_t waiting_count;
};

bool rewrite_complete(const struct config *config, struct str local,
                      char text_out[REWRITE_ADDRESS_MAX], struct smtp_address *address_out)
{
    size_t domain_len = strlen(config->default_domain);
    if (local.len + 1 + domain_len > SMTP_PATH_MAX)
        return false;
    memcpy(text_out, local.p, local.len);
    text_out[local.len] = '@';
    memcpy(text_out + local.len + 1, config->default_domain, domain_len + 1);
    *address_out = (struct smtp_address){
        .whole = {text_out, local.len + 1 + domain_len},
        .local = {text_out, local.len},
        .domain = {text_out + local.len + 1, domain_len},
    };
    return true;
}

/* Names that mean this machine wherever they are said. */
static bool is_own_domain(const struct config *config, struct str domain)
{
    return domain.len == 0 || str_equal_nocase(domain, str_from(config->hostname)) ||
           str_equal_nocase(domain, STR("localhost")) ||
           str_equal_nocase(domain, STR("localhost.localdomain"));
}

static int compare_name(const void *key, const void *element)
{
    const struct str *name = key;
    const struct config_alias *alias = element;
    size_t alias_len = strlen(alias->name);
    size_t len = name->len < alias_len ? name->len : alias_len;
    for (size_t i = 0; i < len; i++) {
        char c = name->p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c != alias->name[i])
            return (unsigned char)c < (unsigned char)alias->name[i] ? -1 : 1;
    }
    return (name->len > alias_len) - (name->len < alias_len);
}

static const struct config_alias *find_alias(const struct config *config, struct str name)
{
    if (config->alias_count == 0)
        return NULL;
    return bsearch(&name, config->aliases, config->alias_count, sizeof *config->aliases,
                   compare_name);
}

static enum rewrite_result add_address(struct expansion *e, const struct smtp_address *address)
{
    e->added++;
    return e->add(address, e->ctx) ? REWRITE_OK : REWRITE_STOPPED;
}

static enum rewrite_result add_completed(struct expansion *e, struct str local)
{
    char text[REWRITE_ADDRESS_MAX];
    struct smtp_address address;
    if (!rewrite_complete(e->config, local, text, &address))
        return REWRITE_TOO_LONG;
    return add_address(e, &address);
}

/* An address of the configuration, where a local part has no quotes. */
static struct smtp_address split(const char *text)
{
    struct str whole = str_from(text);
    const char *at = strrchr(text, '@');
    if (at == NULL)
        return (struct smtp_address){.whole = whole, .local = whole};
    struct str local = {text, (size_t)(at - text)};
    return (struct smtp_address){
        .whole = whole, .local = local, .domain = str_skip(whole, local.len + 1)};
}

static enum rewrite_result add_final(struct expansion *e, const struct smtp_address *address)
{
    bool bare = address->domain.len == 0;
    if (is_own_domain(e->config, address->domain) && e->config->postmaster != NULL &&
        str_equal_nocase(address->local, postmaster)) {
        struct smtp_address person = split(e->config->postmaster);
        return add_address(e, &person);
    }
    return bare ? add_completed(e, address->local) : add_address(e, address);
}

/* Another alias is to be followed later, once; one that names itself means an address. */
static enum rewrite_result add_target(struct expansion *e, size_t from, const char *target)
{
    struct smtp_address address = split(target);
    const struct config_alias *alias = NULL;
    if (is_own_domain(e->config, address.domain))
        alias = find_alias(e->config, address.local);
    size_t number = alias != NULL ? (size_t)(alias - e->config->aliases) : 0;
    if (alias == NULL || number == from)
        return add_final(e, &address);
    if (!e->followed[number]) {
        e->followed[number] = true;
        e->waiting[e->waiting_count++] = number;
    }
    return REWRITE_OK;
}

static enum rewrite_result follow(struct expansion *e, const struct config_alias *first)
{
    enum rewrite_result result = REWRITE_OK;
    size_t count = e->config->alias_count;
    e->followed = mem_alloc(count * sizeof *e->followed);
    e->waiting = mem_alloc(count * sizeof *e->waiting);
    e->waiting[e->waiting_count++] = (size_t)(first - e->config->aliases);
    e->followed[e->waiting[0]] = true;
    while (e->waiting_count > 0 && result == REWRITE_OK) {
        size_t number = e->waiting[--e->waiting_count];
        const struct config_alias *alias = &e->config->aliases[number];
        for (size_t i = 0; i < alias->target_count && result == REWRITE_OK; i++)
            result = add_target(e, number, alias->targets[i]);
    }
    free(e->followed);
    free(e->waiting);
    if (result == REWRITE_OK && e->added == 0) /* a circle by way of our own domain's name */
        result = add_completed(e, str_from(first->name));
    return result;
}

enum rewrite_result rewrite_recipient(const struct config *config,
                                      const struct smtp_address *recipient, bool complete,
                                      rewrite_add_fn add, void *ctx)
{
    struct expansion e = {.config = config, .add = add, .ctx = ctx};
    bool is_postmaster = str_equal_nocase(recipient->local, postmaster);
    if (recipient->domain.len == 0 && !complete && !is_postmaster)
        return REWRITE_UNQUALIFIED;
    const struct config_alias *alias = NULL;
    if (is_own_domain(config, recipient->domain))
        alias = find_alias(config, recipient->local);
    return alias != NULL ? follow(&e, alias) : add_final(&e, recipient);
}
