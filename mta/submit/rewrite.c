/* mta/submit/rewrite.c - see rewrite.h. */
#include "mta/submit/rewrite.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/buf.h"
#include "queue/queue.h"

static_assert((int)SMTP_NOTIFY_NEVER == (int)QUEUE_NOTIFY_NEVER &&
                  (int)SMTP_NOTIFY_SUCCESS == (int)QUEUE_NOTIFY_SUCCESS &&
                  (int)SMTP_NOTIFY_FAILURE == (int)QUEUE_NOTIFY_FAILURE &&
                  (int)SMTP_NOTIFY_DELAY == (int)QUEUE_NOTIFY_DELAY,
              "one set of bits");

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

/* ---- parameters ---- */

/* Whom a name means: this address, or more than one. */
struct meaning {
    char first[REWRITE_ADDRESS_MAX];
    size_t first_len;
    bool several;
};

static bool note_meaning(const struct smtp_address *address, void *ctx)
{
    struct meaning *meaning = ctx;
    struct str first = {meaning->first, meaning->first_len};
    if (meaning->first_len > 0) {
        meaning->several = meaning->several || !str_equal(first, address->whole);
    } else if (address->whole.len <= sizeof meaning->first) {
        memcpy(meaning->first, address->whole.p, address->whole.len);
        meaning->first_len = address->whole.len;
    }
    return !meaning->several; /* more need not be known */
}

/* Is the one address another than the name in full? *name_out: that name, in text if it had to be
 * completed. */
static bool is_renamed(const struct config *config, const struct smtp_rcpt *rcpt,
                       const struct meaning *meaning, char text[REWRITE_ADDRESS_MAX],
                       struct str *name_out)
{
    struct smtp_address name = rcpt->address;
    struct str first = {meaning->first, meaning->first_len};
    if (name.domain.len == 0 && !rewrite_complete(config, name.local, text, &name))
        return false;
    *name_out = name.whole;
    return meaning->several || !str_equal(first, name.whole);
}

/* "rfc822;" and the address as xtext (RFC 3461 section 4); "" if that is too long or the address is
 * not ASCII. */
static void make_orcpt(struct str address, char out[SMTP_ORCPT_MAX + 1])
{
    static const char hex[] = "0123456789ABCDEF";
    size_t used = sizeof "rfc822;" - 1;
    memcpy(out, "rfc822;", used);
    for (size_t i = 0; i < address.len; i++) {
        unsigned char c = (unsigned char)address.p[i];
        bool is_plain = c > ' ' && c != '+' && c != '=';
        if (c < ' ' || c > '~' || used + 3 > SMTP_ORCPT_MAX) {
            used = 0;
            break;
        }
        if (is_plain) {
            out[used++] = address.p[i];
        } else {
            out[used++] = '+';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
        }
    }
    out[used] = '\0';
}

void rewrite_asked(const struct config *config, const struct smtp_rcpt *rcpt, bool complete,
                   struct rewrite_asked *asked_out)
{
    struct meaning meaning = {.first_len = 0};
    char text[REWRITE_ADDRESS_MAX];
    struct str name;
    unsigned notify = rcpt->notify;
    *asked_out = (struct rewrite_asked){.notify = (uint8_t)notify};
    assert(rcpt->orcpt.len <= SMTP_ORCPT_MAX);
    if (rcpt->orcpt.len > 0)
        memcpy(asked_out->orcpt, rcpt->orcpt.p, rcpt->orcpt.len);
    if (notify == 0) /* nearly always; the default is told under the address that failed */
        return;
    enum rewrite_result result =
        rewrite_recipient(config, &rcpt->address, complete, note_meaning, &meaning);
    if (result != REWRITE_OK && result != REWRITE_STOPPED)
        return; /* it will be refused */
    if (meaning.several && (notify & SMTP_NOTIFY_SUCCESS) != 0) {
        notify &= ~(unsigned)SMTP_NOTIFY_SUCCESS;
        if (notify == 0) /* it wanted nothing else; "not said" would be failures */
            notify = SMTP_NOTIFY_NEVER;
        asked_out->notify = (uint8_t)(notify | QUEUE_NOTIFY_EXPANDED);
    }
    if (rcpt->orcpt.len == 0 && is_renamed(config, rcpt, &meaning, text, &name))
        make_orcpt(name, asked_out->orcpt);
}
