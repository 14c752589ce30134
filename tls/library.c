/* tls/library.c - start and end of GnuTLS in this process, random bytes, and the one place where
 * running out of memory ends the process. */
#include "tls/tls_private.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>

int tls_init(void)
{
    /* GnuTLS would write every session's secrets to that file. */
    if (unsetenv("SSLKEYLOGFILE") != 0)
        return TLS_ERR_SETUP;
    return gnutls_global_init() == GNUTLS_E_SUCCESS ? 0 : TLS_ERR_SETUP;
}

void tls_deinit(void)
{
    gnutls_global_deinit();
}

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "tls: %s\n", what);
    abort();
}

void *tls_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

void *tls_grow(void *old, size_t size)
{
    void *memory = realloc(old, size > 0 ? size : 1);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

void tls_random(void *bytes, size_t len)
{
    if (gnutls_rnd(GNUTLS_RND_RANDOM, bytes, len) != GNUTLS_E_SUCCESS)
        die("the system gives no random bytes");
}

void tls_error_file(char *error, size_t error_size, const char *path, const char *reason)
{
    if (error != NULL && error_size > 0)
        snprintf(error, error_size, "%s: %s", path, reason);
}
