/* mta/submit/settings.c - what one reading of the configuration gave: immutable, counted. */
#include <stdlib.h>
#include <string.h>

#include "mta/submit/submit_private.h"

struct submit_settings *settings_new(const struct config *config)
{
    struct submit_settings *settings = mem_alloc(sizeof *settings);
    atomic_init(&settings->references, 1);
    settings->config = config_ref(config);
    settings->shares = descriptors_share_now(config->delivery.max_connections);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
    settings->tls = mem_alloc(config->listener_count * sizeof *settings->tls);
    return settings;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Listeners that ask their clients for the same share one set. */
static int load_credentials(struct submit_settings *settings, size_t number, char *error,
                            size_t error_size)
{
    const struct config *config = settings->config;
    const char *client_ca = config->listeners[number].client_ca;
    for (size_t i = 0; i < number; i++) {
        if (same_text(config->listeners[i].client_ca, client_ca)) {
            settings->tls[number] = tls_credentials_ref(settings->tls[i]);
            return 0;
        }
    }
    return tls_server_credentials_load(config->tls_certificate, config->tls_key, client_ca,
                                       &settings->tls[number], error, error_size);
}

struct submit_settings *settings_load(const struct config *config, char *error, size_t error_size)
{
    struct submit_settings *settings = settings_new(config);
    for (size_t i = 0; config->tls_certificate != NULL && i < config->listener_count; i++) {
        if (load_credentials(settings, i, error, error_size) < 0) {
            submit_settings_unref(&settings);
            return NULL;
        }
    }
    return settings;
}

struct submit_settings *submit_settings_ref(struct submit_settings *settings)
{
    atomic_fetch_add(&settings->references, 1);
    return settings;
}

void submit_settings_unref(struct submit_settings **settingsp)
{
    struct submit_settings *settings = *settingsp;
    *settingsp = NULL;
    if (settings == NULL || atomic_fetch_sub(&settings->references, 1) != 1)
        return;
    for (size_t i = 0; i < settings->config->listener_count; i++)
        tls_credentials_unref(&settings->tls[i]);
    free(settings->tls);
    config_unref(&settings->config);
    free(settings);
}
