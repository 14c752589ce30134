/* config/scalar.c - kinds to parsers of value.h, and results into their fields. */
#include "config/scalar.h"

#include "config/build.h"
#include "config/value.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* Into a field of 1 (bool), 2, 4 or 8 bytes; the row's bounds made sure that it fits. */
static void store_number(const struct schema_key *key, uint64_t number, void *out)
{
    size_t size = key->element > 0 ? key->element : key->field.size;
    if (out == NULL)
        return;
    if (size == sizeof(bool)) {
        *(bool *)out = number != 0;
    } else if (size == sizeof(uint16_t)) {
        *(uint16_t *)out = (uint16_t)number;
    } else if (size == sizeof(uint32_t)) {
        uint32_t value = (uint32_t)number;
        memcpy(out, &value, sizeof value); /* may be an enum */
    } else {
        *(uint64_t *)out = number;
    }
}

static void store_text(const struct scalar_context *context, const char *text, void *out)
{
    const char *copy = arena_copy(context->arena, text, strlen(text));
    memcpy(out, &copy, sizeof copy);
}

/* "a, b or c" of the words that are there, or of those that are not. */
static void list_words(const struct schema_word *words, bool absent, const char *last_joint,
                       char *out, size_t size)
{
    size_t total = 0, shown = 0;
    for (const struct schema_word *w = words; w->name != NULL; w++)
        total += w->absent == absent;
    size_t used = 0;
    out[0] = '\0';
    for (const struct schema_word *w = words; w->name != NULL && used < size; w++) {
        if (w->absent != absent)
            continue;
        const char *joint = shown == 0 ? "" : shown + 1 == total ? last_joint : ", ";
        used += (size_t)snprintf(out + used, size - used, "%s%s", joint, w->name);
        shown++;
    }
}

static bool expect_words(const struct schema_word *words, struct reason *why)
{
    char good[128], absent[128];
    list_words(words, false, " or ", good, sizeof good);
    list_words(words, true, " and ", absent, sizeof absent);
    if (absent[0] == '\0')
        return reason_set(why, "expected %s", good);
    return reason_set(why, "expected %s (%s: not available in this version)", good, absent);
}

static bool parse_word(const struct schema_key *key, const char *text, void *out,
                       struct reason *why)
{
    for (const struct schema_word *w = key->words; w->name != NULL; w++) {
        if (strcmp(w->name, text) != 0)
            continue;
        if (w->absent) {
            char good[128];
            list_words(key->words, false, " or ", good, sizeof good);
            return reason_set(why, "not available in this version (allowed: %s)", good);
        }
        store_number(key, w->value, out);
        return true;
    }
    return expect_words(key->words, why);
}

static bool parse_bool(const struct schema_key *key, const char *text, void *out,
                       struct reason *why)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return reason_set(why, "expected true or false");
    store_number(key, yes, out);
    return true;
}

/* Some durations have a word as well: `off`. */
static bool parse_duration(const struct schema_key *key, const char *text, void *out,
                           struct reason *why)
{
    static const char start[] = "expected ";
    uint64_t number = 0;
    for (const struct schema_word *w = key->words; w != NULL && w->name != NULL; w++) {
        if (strcmp(w->name, text) != 0)
            continue;
        store_number(key, w->value, out);
        return true;
    }
    struct reason bare = {""};
    if (value_duration(text, key->min, key->max, &number, &bare)) {
        store_number(key, number, out);
        return true;
    }
    char words[64] = "";
    if (key->words != NULL)
        list_words(key->words, false, ", ", words, sizeof words);
    return reason_set(why, "%s%s%s%s", start, words, words[0] != '\0' ? " or " : "",
                      bare.text + sizeof start - 1);
}

static bool parse_number(const struct schema_key *key, const char *text, void *out,
                         struct reason *why)
{
    uint64_t number = 0;
    bool good = key->kind == SCHEMA_NUMBER ? value_number(text, key->min, key->max, &number, why)
                                           : value_size(text, key->min, key->max, &number, why);
    if (good)
        store_number(key, number, out);
    return good;
}

static bool parse_name(const struct scalar_context *context, const struct schema_key *key,
                       const char *text, void *out, struct reason *why)
{
    char name[VALUE_PATTERN_SIZE];
    bool good = key->kind == SCHEMA_HOSTNAME   ? value_hostname(text, name, why)
                : key->kind == SCHEMA_DOMAIN   ? value_domain(text, name, why)
                : key->kind == SCHEMA_SELECTOR ? value_selector(text, name, why)
                                               : value_pattern(text, name, why);
    if (good)
        store_text(context, name, out);
    return good;
}

static bool check_path(const char *text, struct reason *why)
{
    if (text[0] == '\0' || text[strlen(text) - 1] == '/')
        return reason_set(why, "expected the path of a file");
    if (text[0] == '~')
        return reason_set(why, "expected a path (~ means a home folder to shells only)");
    if (strlen(text) >= PATH_MAX)
        return reason_set(why, "expected a path of less than %d characters", PATH_MAX);
    return true;
}

static bool parse_path(const struct scalar_context *context, const char *text, void *out,
                       struct reason *why)
{
    if (!check_path(text, why))
        return false;
    const char *path = build_path(context->arena, context->folder, text);
    memcpy(out, &path, sizeof path);
    return true;
}

static bool parse_log(const struct scalar_context *context, const char *text, void *out,
                      void *file_out, struct reason *why)
{
    uint32_t target = CONFIG_LOG_FILE;
    if (strcmp(text, "stderr") == 0)
        target = CONFIG_LOG_STDERR;
    else if (strcmp(text, "syslog") == 0)
        target = CONFIG_LOG_SYSLOG;
    else if (strpbrk(text, "/.") == NULL) /* a slip such as "stdrr" must not become a file */
        return reason_set(why, "expected stderr, syslog or a file (with a / or a . in its name)");
    else if (!parse_path(context, text, file_out, why))
        return false;
    memcpy(out, &target, sizeof target);
    return true;
}

static bool parse_source(const struct schema_key *key, const char *text, void *out,
                         void *present_out, struct reason *why)
{
    if (!value_source(text, key->kind == SCHEMA_SOURCE6, out, why))
        return false;
    *(bool *)present_out = true;
    return true;
}

/* The path of a socket, once it is absolute, must fit its address. */
static bool parse_unix(const struct scalar_context *context, const char *text,
                       struct config_endpoint *endpoint, struct reason *why)
{
    struct sockaddr_un address;
    const char *path = text + strlen("unix:");
    if (!check_path(path, why))
        return reason_set(why, "expected the path of a socket, such as unix:/run/mta/submission");
    path = build_path(context->arena, context->folder, path);
    if (strlen(path) >= sizeof address.sun_path)
        return reason_set(why, "expected a shorter path: a socket's has at most %zu characters",
                          sizeof address.sun_path - 1);
    endpoint->unix_path = path;
    endpoint->text = arena_copy(context->arena, text, strlen(text));
    return true;
}

static bool parse_endpoint(const struct scalar_context *context, const struct schema_key *key,
                           const char *text, void *out, void *present_out, struct reason *why)
{
    struct config_endpoint *endpoint = out;
    if (key->kind == SCHEMA_LISTEN && strncmp(text, "unix:", 5) == 0)
        return parse_unix(context, text, endpoint, why);
    if (!value_endpoint(text, key->kind == SCHEMA_SERVER ? 53 : 0, endpoint, why))
        return false;
    endpoint->text = arena_copy(context->arena, text, strlen(text));
    if (present_out != NULL)
        *(bool *)present_out = true;
    return true;
}

static bool parse_hop(const struct scalar_context *context, const char *text, void *out,
                      struct reason *why)
{
    struct config_hop *hop = out;
    char host[VALUE_DOMAIN_SIZE];
    if (strncmp(text, "smtps:", 6) == 0 || strncmp(text, "lmtp:", 5) == 0)
        return reason_set(why, "not available in this version (allowed: host:port)");
    uint16_t port;
    if (!value_hop(text, host, &port, why))
        return false;
    hop->port = port;
    hop->host = arena_copy(context->arena, host, strlen(host));
    hop->text = arena_copy(context->arena, text, strlen(text));
    return true;
}

bool scalar_parse(const struct scalar_context *context, const struct schema_key *key,
                  const char *text, void *value_out, void *second_out, struct reason *why)
{
    switch (key->kind) {
    case SCHEMA_WORD:
        return parse_word(key, text, value_out, why);
    case SCHEMA_BOOL:
        return parse_bool(key, text, value_out, why);
    case SCHEMA_NUMBER:
    case SCHEMA_SIZE:
        return parse_number(key, text, value_out, why);
    case SCHEMA_DURATION:
        return parse_duration(key, text, value_out, why);
    case SCHEMA_HOSTNAME:
    case SCHEMA_DOMAIN:
    case SCHEMA_SELECTOR:
    case SCHEMA_RECIPIENT:
        return parse_name(context, key, text, value_out, why);
    case SCHEMA_USER:
        if (!value_user(text, why))
            return false;
        store_text(context, text, value_out);
        return true;
    case SCHEMA_PATH:
        return parse_path(context, text, value_out, why);
    case SCHEMA_SOCKET:
        if (!check_path(text, why))
            return false;
        store_text(context, text, value_out);
        return true;
    case SCHEMA_LOG:
        return parse_log(context, text, value_out, second_out, why);
    case SCHEMA_SOURCE4:
    case SCHEMA_SOURCE6:
        return parse_source(key, text, value_out, second_out, why);
    case SCHEMA_NETWORK:
        return value_network(text, value_out, why);
    case SCHEMA_MAILBOX:
        if (!value_mailbox(text, true, why))
            return false;
        store_text(context, text, value_out);
        return true;
    case SCHEMA_LISTEN:
    case SCHEMA_HTTP:
    case SCHEMA_SERVER:
        return parse_endpoint(context, key, text, value_out, second_out, why);
    case SCHEMA_HOP:
        return parse_hop(context, text, value_out, why);
    case SCHEMA_MAP:
    case SCHEMA_ALIASES:
    case SCHEMA_ABSENT:
        break; /* no scalars */
    }
    return reason_set(why, "expected no single value");
}

/* What the parser itself says to an empty text, which no kind accepts. */
void scalar_expected(const struct schema_key *key, struct reason *why)
{
    union {
        uint64_t number;
        const char *text;
        struct config_network network;
        struct config_endpoint endpoint;
        struct config_hop hop;
    } unused = {0}, unused_second = {0};
    struct arena none = {0};
    const struct scalar_context context = {&none, "/"};
    bool good = scalar_parse(&context, key, "", &unused, &unused_second, why);
    assert(!good);
}
