/* Any bytes as a configuration file: a structure, or an error that begins with the file's name. */
#include <assert.h>
#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The machine's name needs no resolver here: it would make every run slow and different. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    (void)node;
    (void)service;
    (void)hints;
    (void)out;
    return EAI_NONAME;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct config *config = NULL;
    struct config_error error = {""};
    if (config_parse((const char *)data, size, "fuzz.yaml", "/etc/mta", &config, &error) < 0) {
        assert(config == NULL);
        assert(strncmp(error.text, "fuzz.yaml:", 10) == 0);
        return 0;
    }
    assert(strchr(config->hostname, '.') != NULL);
    assert(config->state_dir[0] == '/' && config->control_socket[0] == '/');
    assert(config->listener_count > 0 && config->retry.interval_count > 0);
    for (size_t i = 0; i < config->listener_count; i++)
        assert(config->listeners[i].address_count > 0);
    for (size_t i = 0; i < config->route_count; i++) {
        for (size_t k = 0; k < config->routes[i].to_count; k++)
            assert(config->routes[i].to[k].port != 0);
    }
    config_unref(&config);
    return 0;
}
