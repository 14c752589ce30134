/* tests/unit/test_tls_support.h - certificates and key files made on the spot with GnuTLS itself,
 * so that the tests of tls/ need no other program. */
#ifndef TEST_TLS_SUPPORT_H
#define TEST_TLS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tls/tls.h"

enum { PATH_SIZE = 128 };

static char support_folder[PATH_SIZE];

static inline void support_path(char path[PATH_SIZE], const char *name)
{
    snprintf(path, PATH_SIZE, "%.64s/%.60s", support_folder, name);
}

static inline int support_make_folder(void **state)
{
    (void)state;
    strcpy(support_folder, "/tmp/test-tls-XXXXXX");
    return mkdtemp(support_folder) == NULL ? -1 : 0;
}

/* Removes the named files, then the folder; a file that a test forgot makes it fail. */
static inline int support_remove_folder(const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char path[PATH_SIZE];
        support_path(path, names[i]);
        unlink(path);
    }
    return rmdir(support_folder);
}

static inline void support_write(const char *name, const void *bytes, size_t len)
{
    char path[PATH_SIZE];
    support_path(path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static inline void support_write_text(const char *name, const char *text)
{
    support_write(name, text, strlen(text));
}

static inline gnutls_x509_privkey_t support_key(gnutls_pk_algorithm_t algorithm, unsigned bits)
{
    gnutls_x509_privkey_t key;
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, algorithm, bits, 0), 0);
    return key;
}

static inline gnutls_x509_privkey_t support_ec_key(void)
{
    return support_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
}

/* PKCS#8; encrypted if there is a password. */
static inline void support_write_key(const char *name, gnutls_x509_privkey_t key,
                                     const char *password)
{
    gnutls_datum_t text;
    assert_int_equal(gnutls_x509_privkey_export2_pkcs8(
                         key, GNUTLS_X509_FMT_PEM, password,
                         password != NULL ? GNUTLS_PKCS_PBES2_AES_256 : GNUTLS_PKCS_PLAIN, &text),
                     0);
    support_write(name, text.data, text.size);
    gnutls_free(text.data);
}

/* PKCS#1 for RSA, SEC1 for EC. */
static inline void support_write_old_key(const char *name, gnutls_x509_privkey_t key)
{
    gnutls_datum_t text;
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &text), 0);
    support_write(name, text.data, text.size);
    gnutls_free(text.data);
}

struct support_certificate {
    const char *common_name;  /* or NULL */
    const char *dns_names[3]; /* SAN entries */
    const char *ipv4;         /* 4 bytes in the SAN, or NULL */
    long from_s, until_s;     /* relative to now; 0, 0: yesterday to tomorrow */
    const char *purpose;      /* extended key usage; NULL: TLS server */
    bool is_ca;
};

/* Signed by the issuer, or by itself where that is NULL. */
static inline gnutls_x509_crt_t support_make_certificate(const struct support_certificate *what,
                                                         gnutls_x509_privkey_t key,
                                                         gnutls_x509_crt_t issuer,
                                                         gnutls_x509_privkey_t issuer_key)
{
    static unsigned serial = 0;
    unsigned char id[4] = {1, 0, 0, (unsigned char)++serial};
    gnutls_x509_crt_t made;
    time_t now = time(NULL);
    bool no_times = what->from_s == 0 && what->until_s == 0;

    assert_int_equal(gnutls_x509_crt_init(&made), 0);
    assert_int_equal(gnutls_x509_crt_set_version(made, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_key(made, key), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(made, id, sizeof id), 0);
    gnutls_x509_crt_set_activation_time(made, now + (no_times ? -86400 : what->from_s));
    gnutls_x509_crt_set_expiration_time(made, now + (no_times ? 86400 : what->until_s));
    if (what->common_name != NULL)
        assert_int_equal(gnutls_x509_crt_set_dn_by_oid(made, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                       what->common_name,
                                                       (unsigned)strlen(what->common_name)),
                         0);
    for (size_t i = 0; i < 3 && what->dns_names[i] != NULL; i++)
        assert_int_equal(gnutls_x509_crt_set_subject_alt_name(
                             made, GNUTLS_SAN_DNSNAME, what->dns_names[i],
                             (unsigned)strlen(what->dns_names[i]), GNUTLS_FSAN_APPEND),
                         0);
    if (what->ipv4 != NULL)
        assert_int_equal(gnutls_x509_crt_set_subject_alt_name(made, GNUTLS_SAN_IPADDRESS,
                                                              what->ipv4, 4, GNUTLS_FSAN_APPEND),
                         0);
    if (what->is_ca) {
        gnutls_x509_crt_set_ca_status(made, 1);
        gnutls_x509_crt_set_key_usage(made, GNUTLS_KEY_KEY_CERT_SIGN);
    } else {
        gnutls_x509_crt_set_key_purpose_oid(
            made, what->purpose != NULL ? what->purpose : GNUTLS_KP_TLS_WWW_SERVER, 0);
    }
    gnutls_x509_privkey_t signer = issuer != NULL ? issuer_key : key;
    bool ed25519 = gnutls_x509_privkey_get_pk_algorithm(signer) == GNUTLS_PK_EDDSA_ED25519;
    assert_int_equal(gnutls_x509_crt_sign2(made, issuer != NULL ? issuer : made, signer,
                                           ed25519 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256, 0),
                     0);
    return made;
}

static inline void support_write_certificate(const char *name, gnutls_x509_crt_t certificate)
{
    gnutls_datum_t text;
    assert_int_equal(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &text), 0);
    support_write(name, text.data, text.size);
    gnutls_free(text.data);
}

/* ---- one CA, one server "mx.example" below it, and credentials for both ends ---- */

static struct tls_credentials *server_credentials, *client_credentials;
static gnutls_x509_privkey_t server_key;
static gnutls_x509_crt_t server_certificate;

static inline int support_start_pki(void **state)
{
    char certificate_path[PATH_SIZE], key_path[PATH_SIZE], ca_path[PATH_SIZE], error[256] = "";

    if (support_make_folder(state) != 0 || tls_init() != 0)
        return -1;
    gnutls_x509_privkey_t ca_key = support_ec_key();
    gnutls_x509_crt_t ca = support_make_certificate(
        &(struct support_certificate){.common_name = "CA", .is_ca = true}, ca_key, NULL, NULL);
    server_key = support_key(GNUTLS_PK_RSA, 2048);
    server_certificate = support_make_certificate(
        &(struct support_certificate){.dns_names = {"mx.example"}}, server_key, ca, ca_key);
    support_write_certificate("ca.crt", ca);
    support_write_certificate("server.crt", server_certificate);
    support_write_key("server.key", server_key, NULL);
    gnutls_x509_crt_deinit(ca);
    gnutls_x509_privkey_deinit(ca_key);

    support_path(ca_path, "ca.crt");
    support_path(certificate_path, "server.crt");
    support_path(key_path, "server.key");
    if (tls_server_credentials_load(certificate_path, key_path, NULL, &server_credentials, error,
                                    sizeof error) < 0)
        return -1;
    return tls_client_credentials_load(ca_path, &client_credentials, error, sizeof error);
}

static inline int support_stop_pki(void **state)
{
    static const char *const files[] = {"ca.crt", "server.crt", "server.key"};
    (void)state;
    tls_credentials_unref(&server_credentials);
    tls_credentials_unref(&client_credentials);
    gnutls_x509_crt_deinit(server_certificate);
    gnutls_x509_privkey_deinit(server_key);
    tls_deinit();
    return support_remove_folder(files, 3);
}

/* Every exchange runs whole and one byte at a time. */
static const size_t support_steps[] = {SIZE_MAX, 1};
#define FOR_EACH_STEP(step)                                                                        \
    for (size_t step##_i = 0, step = SIZE_MAX; step##_i < 2; step = support_steps[1], step##_i++)

/* @return what the handshake says after these bytes */
static inline int feed_and_go_on(struct tls_session *session, const void *bytes, size_t len)
{
    int rc = tls_session_feed(session, bytes, len);
    return rc < 0 ? rc : tls_session_handshake(session);
}

#endif
