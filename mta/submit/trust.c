/* mta/submit/trust.c - see trust.h. */
#include "mta/submit/trust.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mta/mail/header.h"

static bool in_networks(const struct config_listener *listener, const struct trust_client *client)
{
    if (client->is_unix)
        return false;
    for (size_t i = 0; i < listener->trusted_count; i++) {
        if (config_network_contains(&listener->trusted[i], client->ipv6, client->address))
            return true;
    }
    return false;
}

/* "name" or "*.name"; the star stands for one or more whole labels, and for the star of a
 * certificate that was made for all of them. */
static bool name_matches(const char *pattern, const char *name)
{
    size_t pattern_len = strlen(pattern), name_len = strlen(name);
    if (pattern[0] != '*')
        return strcasecmp(pattern, name) == 0;
    return name_len > pattern_len - 1 &&
           strcasecmp(name + name_len - (pattern_len - 1), pattern + 1) == 0;
}

static bool has_trusted_name(const struct config_listener *listener,
                             const struct trust_client *client)
{
    if (!client->has_certificate)
        return false;
    for (size_t i = 0; i < listener->trusted_name_count; i++) {
        for (size_t k = 0; k < client->dns_name_count; k++) {
            if (name_matches(listener->trusted_names[i], client->dns_names[k]))
                return true;
        }
    }
    return false;
}

enum trust trust_of(const struct config_listener *listener, const struct trust_client *client)
{
    if (client->login != NULL && listener->auth != CONFIG_AUTH_OFF)
        return TRUST_LOGIN;
    if (listener->auth == CONFIG_AUTH_REQUIRED)
        return TRUST_NONE;
    if (in_networks(listener, client))
        return TRUST_NETWORK;
    if (client->is_unix)
        return TRUST_UNIX;
    if (has_trusted_name(listener, client))
        return TRUST_CERTIFICATE;
    return TRUST_NONE;
}

bool trust_is_local(const struct trust_client *client)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    if (client->is_unix)
        return true;
    if (!client->ipv6)
        return client->address[0] == 127;
    if (memcmp(client->address, mapped, sizeof mapped) == 0)
        return client->address[12] == 127;
    return memcmp(client->address, one, sizeof one) == 0;
}

bool trust_may_log_in(const struct config_listener *listener, const struct trust_client *client)
{
    if (listener->auth == CONFIG_AUTH_OFF)
        return false;
    /* In clear, "required" TLS comes first: MAIL would be refused anyway. */
    bool demands_tls = listener->tls == CONFIG_LISTENER_TLS_REQUIRED && !client->is_unix;
    bool in_clear = listener->cleartext_auth == CONFIG_CLEARTEXT_AUTH_LOOPBACK && !demands_tls &&
                    trust_is_local(client);
    return client->tls || in_clear;
}

void trust_refusal(const struct config_listener *listener, const struct trust_client *client,
                   const char *shown, struct smtp_verdict *verdict_out)
{
    char *text = verdict_out->text;
    size_t size = sizeof verdict_out->text;
    if (trust_may_log_in(listener, client)) {
        verdict_out->code = 530;
        snprintf(text, size, "5.7.0 Authentication required: use AUTH before MAIL");
    } else if (listener->auth != CONFIG_AUTH_OFF && client->tls_possible) {
        verdict_out->code = 530;
        snprintf(text, size, "5.7.0 Authentication required: use STARTTLS, then AUTH before MAIL");
    } else if (listener->auth == CONFIG_AUTH_REQUIRED) {
        verdict_out->code = 554;
        snprintf(text, size,
                 "5.7.1 Relaying denied: a login is required here, and %s cannot log in without "
                 "TLS, for which this server has no certificate",
                 shown);
    } else {
        verdict_out->code = 554;
        snprintf(text, size,
                 "5.7.1 Relaying denied: %s is not among the trusted networks of this listener%s",
                 shown, listener->client_ca != NULL ? " and has shown no trusted certificate" : "");
    }
}

/* The first of the patterns, as many as fit whole, with commas between. @return did all fit? */
static bool list_patterns(const char *patterns, char *list, size_t size)
{
    static const char more[] = ", and others";
    size_t used = 0;
    list[0] = '\0';
    for (const char *p = patterns; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (used + len + sizeof more > size)
            return false;
        used +=
            (size_t)snprintf(list + used, size - used, "%s%.*s", used > 0 ? ", " : "", (int)len, p);
        p += len;
        p += strspn(p, " ");
    }
    return true;
}

/* field: what of the application is to be set. */
static void refuse_name(const struct auth_user *user, struct str name, const char *field,
                        struct smtp_verdict *verdict_out)
{
    enum { SHOWN_MAX = 80, LIST_MAX = 110 }; /* of what the client or the file's writer chose */
    char list[LIST_MAX], shown[SHOWN_MAX + 8] = "with this From";
    bool all = list_patterns(user->senders, list, sizeof list);
    bool none = list[0] == '\0';
    if (name.len > 0)
        snprintf(shown, sizeof shown, "as <%.*s>",
                 (int)(name.len < SHOWN_MAX ? name.len : SHOWN_MAX), name.p);
    snprintf(verdict_out->text, sizeof verdict_out->text,
             "5.7.1 %.64s may not send %s, but as %s%s: set the sender (%s) of your application to "
             "that, or ask the mail admin for more",
             user->name, shown, none ? "other addresses" : list, none || all ? "" : ", and others",
             field);
}

bool trust_sender(const struct auth_user *user, struct str sender, struct smtp_verdict *verdict_out)
{
    if (auth_user_may_send(user, sender))
        return true;
    verdict_out->code = 553;
    refuse_name(user, sender, "MAIL FROM", verdict_out);
    return false;
}

/* ---- From ---- */

struct author_check {
    const struct auth_user *user;
    char refused[SMTP_PATH_MAX + 1]; /* the first whom he may not be, or its beginning */
};

static bool check_author(struct str local, struct str domain, void *ctx)
{
    struct author_check *check = ctx;
    char text[SMTP_PATH_MAX + 1] = "";
    int len = snprintf(text, sizeof text, "%.*s%s%.*s", (int)local.len, local.p,
                       domain.len > 0 ? "@" : "", (int)domain.len, domain.len > 0 ? domain.p : "");
    bool whole = len > 0 && (size_t)len < sizeof text;
    if (whole && auth_user_may_send(check->user, str_from(text)))
        return true;
    snprintf(check->refused, sizeof check->refused, "%s", text);
    return false;
}

bool trust_author(const struct auth_user *user, struct str section,
                  struct smtp_verdict *verdict_out)
{
    struct author_check check = {.user = user};
    if (user->senders == NULL || header_each_author(section, check_author, &check))
        return true;
    verdict_out->code = 554;
    refuse_name(user, str_from(check.refused), "From field", verdict_out);
    return false;
}
