/* mta/sendmail/socket_path.c - where the listener is: run.h. The environment has no say: a program
 * with rights of its own may have called us. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "config/config.h"
#include "mta/sendmail/run.h"

static const char *find_socket(const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        for (size_t k = 0; k < listener->address_count; k++) {
            if (listener->role == CONFIG_ROLE_SUBMISSION &&
                listener->addresses[k].unix_path != NULL)
                return listener->addresses[k].unix_path;
        }
    }
    return NULL;
}

int sendmail_socket_path(const char *config_path, char *path, size_t size,
                         struct sendmail_verdict *verdict)
{
    const char *file = config_path != NULL ? config_path : SENDMAIL_DEFAULT_CONFIG;
    const struct config *config = NULL;
    struct config_error error;

    (void)snprintf(path, size, "%s", SENDMAIL_DEFAULT_SOCKET);
    if (config_path == NULL && access(file, R_OK) < 0)
        return 0;
    if (config_load(file, &config, &error) < 0)
        return config_path == NULL ? 0 : sendmail_fail(verdict, EX_CONFIG, "%s", error.text);
    const char *found = find_socket(config);
    if (found != NULL)
        (void)snprintf(path, size, "%s", found);
    config_unref(&config);
    if (found == NULL && config_path != NULL)
        return sendmail_fail(verdict, EX_CONFIG,
                             "%s: no submission listener has a unix socket; add the address "
                             "\"unix:%s\"",
                             file, SENDMAIL_DEFAULT_SOCKET);
    return 0;
}
