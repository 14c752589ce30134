/* tls/tls_private.h - what the files of this folder share and nobody else sees. */
#ifndef TLS_TLS_PRIVATE_H
#define TLS_TLS_PRIVATE_H

#include "tls/tls.h"

#include <gnutls/gnutls.h>
#include <stdatomic.h>

struct tls_credentials {
    atomic_uint references;
    bool server;
    bool ask_client; /* server only: there is a trust store for clients' certificates */
    gnutls_certificate_credentials_t certificates;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key; /* server only; a reload makes a new one */
};

/* ---- library.c ---- */

/* Zeroed memory; without any the process ends, here and nowhere else. */
void *tls_alloc(size_t size);
void *tls_grow(void *old, size_t size);

/* "path: reason" into `error`; a NULL or empty buffer is accepted. */
void tls_error_file(char *error, size_t error_size, const char *path, const char *reason);

/* ---- pem.c ---- */

/* The bytes of a PEM file, NUL-terminated behind len. Owned by the caller: tls_pem_free(). */
struct tls_pem {
    char *text;
    size_t len;
};

/* A regular, non-empty file of at most 4 MiB. @return 0; TLS_ERR_FILE or TLS_ERR_FORMAT with
 * `error` */
TLS_MUST_USE int tls_pem_read(const char *path, struct tls_pem *pem_out, char *error,
                              size_t error_size);
void tls_pem_free(struct tls_pem *pem); /* wipes: it may hold a key */

/* Why these bytes cannot be a usable private key, or NULL if they look like one. Static text. */
const char *tls_pem_key_fault(const struct tls_pem *pem);

/* ---- bytes.c ---- */

/* A queue of bytes: append at the end, take at the front. All zero is empty. */
struct tls_bytes {
    uint8_t *data;
    size_t start, end, capacity;
};

size_t tls_bytes_len(const struct tls_bytes *queue);
void tls_bytes_add(struct tls_bytes *queue, const void *bytes, size_t len);
/* Copies to `to` unless that is NULL, and removes. @return what there was, at most len */
size_t tls_bytes_take(struct tls_bytes *queue, void *to, size_t len);
void tls_bytes_clear(struct tls_bytes *queue); /* and gives the memory back */

/* ---- verdict.c ---- */

/* of_client: the peer is the client of a session. */
void tls_verdict_fill(gnutls_session_t tls, bool of_client, const char *server_name,
                      struct tls_verdict *verdict_out);

/* ---- peer_names.c ---- */

/* @return how many of TLS_NAMES_MAX; judges nothing */
size_t tls_names_read(gnutls_session_t tls, struct tls_name *names_out);

/* ---- binding.c ---- */

size_t tls_binding_read(gnutls_session_t tls, enum tls_binding kind,
                        uint8_t binding_out[TLS_BINDING_MAX_BYTES]);

#endif
