/* tls/tls.h - GnuTLS sessions as byte filters: bytes in, bytes out, no sockets, no clock.
 *
 * Credentials are immutable and reference-counted: load new ones to replace certificates while old
 * sessions go on. A session belongs to one thread at a time. TLS 1.2 is the floor on both sides;
 * SSLKEYLOGFILE has no effect. RFC 8446, 5246, 3207. */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_MUST_USE __attribute__((warn_unused_result))

enum {
    TLS_AGAIN = -1,  /* needs more bytes from the peer (feed), nothing wrong */
    TLS_FAILED = -2, /* the session is over; tls_session_error() says why */
    TLS_CLOSED = -3, /* the peer sent close_notify: no byte of this session may be read any more */
};

enum tls_err {
    TLS_ERR_FILE = -10,   /* cannot be read */
    TLS_ERR_FORMAT = -11, /* not what it should be, encrypted, or too weak */
    TLS_ERR_PAIR = -12,   /* certificate and key do not belong together */
    TLS_ERR_SETUP = -13,  /* the library refused */
};

/* Once a process, before any other call; unsets SSLKEYLOGFILE. */
TLS_MUST_USE int tls_init(void);
void tls_deinit(void);

/* ---- credentials ---- */
struct tls_credentials;

/* PEM files: a chain with the leaf first, and its key (PKCS#1, PKCS#8 or SEC1; RSA, ECDSA, Ed25519).
 * client_ca_path: each client is asked for a certificate that leads to this PEM bundle; one that shows
 * none, or another, is served all the same, and the verdict says so. NULL: nobody is asked.
 * `error` receives a line that names the file and the reason. Blocks on file I/O. */
TLS_MUST_USE int tls_server_credentials_load(const char *certificate_path, const char *key_path,
                                             const char *client_ca_path,
                                             struct tls_credentials **out, char *error,
                                             size_t error_size);

/* ca_path: PEM bundle, or NULL for the system's trust store. */
TLS_MUST_USE int tls_client_credentials_load(const char *ca_path, struct tls_credentials **out,
                                             char *error, size_t error_size);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials);
void tls_credentials_unref(struct tls_credentials **credentialsp);

/* ---- sessions ---- */
struct tls_session;

TLS_MUST_USE int tls_server_session_new(struct tls_credentials *credentials,
                                        struct tls_session **out);

/* server_name: sent as SNI and checked against the certificate in the verdict; NULL or an address
 * literal: no SNI. The handshake never fails for an untrusted certificate: the verdict is a value
 * (tls_session_verdict) and the caller decides. */
TLS_MUST_USE int tls_client_session_new(struct tls_credentials *credentials, const char *server_name,
                                        struct tls_session **out);
void tls_session_free(struct tls_session **sessionp);

/* Hand over bytes that came from the peer; copied. Call handshake/read until TLS_AGAIN afterwards.
 * @return 0; TLS_FAILED when more than 256 KiB lie unread (the caller must read first) */
TLS_MUST_USE int tls_session_feed(struct tls_session *session, const void *bytes, size_t len);

/* Go on with the handshake. @return 0: established; TLS_AGAIN; TLS_FAILED.
 * Output may be waiting in every case (an alert too). */
TLS_MUST_USE int tls_session_handshake(struct tls_session *session);

/* Decrypted bytes. @return > 0 count; TLS_AGAIN; TLS_CLOSED; TLS_FAILED. After CLOSED or FAILED
 * every later read says the same and nothing fed is looked at (cases O15). Renegotiation is refused. */
TLS_MUST_USE long tls_session_read(struct tls_session *session, void *buf, size_t size);

/* Encrypt; always takes all of it (the ciphertext grows the output). @return 0; TLS_FAILED.
 * The caller bounds what it writes: look at tls_session_output() first. */
TLS_MUST_USE int tls_session_write(struct tls_session *session, const void *bytes, size_t len);

/* Queue close_notify. Harmless before the handshake is done and when repeated. */
void tls_session_close(struct tls_session *session);

/* Bytes that wait to go to the peer: valid until the next call on the session. */
const uint8_t *tls_session_output(const struct tls_session *session, size_t *len_out);
void tls_session_output_consumed(struct tls_session *session, size_t len);

/* Why it failed, one printable line; "" if it did not. Owned by the session. */
const char *tls_session_error(const struct tls_session *session);

struct tls_verdict {
    const char *version;   /* "TLS1.3" */
    const char *cipher;    /* "TLS_AES_256_GCM_SHA384"-like suite name */
    bool trusted;          /* chain leads to the trust store, in its time, right purpose */
    bool name_matches;     /* server_name is in the certificate (RFC 6125, no CN fallback where SAN exists) */
    char problem[160];     /* "" or why it is not verified, one line */
};

/* Only after the handshake. Server sessions: about the client's certificate; never trusted where none
 * was asked for; name_matches is false (tls_session_peer_names() tells who it is). */
void tls_session_verdict(const struct tls_session *session, struct tls_verdict *verdict_out);

enum tls_name_kind { TLS_NAME_DNS, TLS_NAME_EMAIL, TLS_NAME_COMMON };
enum { TLS_NAMES_MAX = 16, TLS_NAME_MAX_BYTES = 255 };
struct tls_name {
    enum tls_name_kind kind;
    char text[TLS_NAME_MAX_BYTES + 1]; /* printable ASCII without blanks */
};

/**
 * What the peer's certificate calls it: DNS names and addresses of its subjectAltName, in their order;
 * its common name only where that has neither. Names with other bytes, or too long, are left out.
 *
 * @param names_out room for TLS_NAMES_MAX; what is beyond is left out
 * @return how many; 0 too where the verdict is not `trusted`, since such names prove nothing
 *
 * Only after the handshake.
 */
TLS_MUST_USE size_t tls_session_peer_names(const struct tls_session *session,
                                           struct tls_name *names_out);

/* Channel bindings (RFC 5056): bytes that are the same on both ends of this very session. */
enum tls_binding {
    TLS_BINDING_EXPORTER, /* RFC 9266: TLS 1.3, or 1.2 with the extended master secret */
    TLS_BINDING_UNIQUE,   /* RFC 5929: TLS 1.2 with the extended master secret (RFC 7627) */
};
enum { TLS_BINDING_MAX_BYTES = 64 };

/* @return its length, at most TLS_BINDING_MAX_BYTES; 0: this session has none of that kind.
 * Only after the handshake. */
TLS_MUST_USE size_t tls_session_binding(const struct tls_session *session, enum tls_binding kind,
                                        uint8_t binding_out[TLS_BINDING_MAX_BYTES]);

/* ---- keys and digests: passed into mta/mail as function pointers ---- */
struct tls_key;

/* A private key from PEM for signing: RSA of at least 1024 bits (PKCS#1 or PKCS#8), or Ed25519 (PKCS#8).
 * Refused with a reason: encrypted, empty, public, weak, anything else. */
TLS_MUST_USE int tls_key_load(const char *path, struct tls_key **out, char *error, size_t error_size);
struct tls_key *tls_key_ref(struct tls_key *key);
void tls_key_unref(struct tls_key **keyp);
bool tls_key_is_rsa(const struct tls_key *key);
unsigned tls_key_bits(const struct tls_key *key);

/* rsa-sha256 (RFC 8017 PKCS#1 v1.5) over a SHA-256 digest of 32 bytes. Any thread, also at once.
 * @param signature at least tls_key_bits/8 bytes, 1024 at most @return length, or TLS_FAILED */
TLS_MUST_USE long tls_key_sign_sha256(struct tls_key *key, const uint8_t digest[32],
                                      uint8_t *signature, size_t size);

/* The public key, DER SubjectPublicKeyInfo, as DKIM's p= wants it (before base64). @return length or TLS_FAILED */
TLS_MUST_USE long tls_key_public_der(struct tls_key *key, uint8_t *der, size_t size);

struct tls_sha256; /* a running digest */
struct tls_sha256 *tls_sha256_new(void);
void tls_sha256_update(struct tls_sha256 *sha, const void *bytes, size_t len);
void tls_sha256_final(struct tls_sha256 *sha, uint8_t digest[32]); /* and starts anew */
void tls_sha256_free(struct tls_sha256 **shap);

/* Cryptographically strong random bytes; ends the process if the system has none. */
void tls_random(void *bytes, size_t len);

#endif
