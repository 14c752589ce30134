/* Server and client credentials: what loads, what is refused and how that reads. */
#include "test_tls_support.h"

#include "tls/tls.h"

static const char *const files[] = {
    "rsa.crt", "rsa.key", "rsa1.key",  "ec.crt",        "ec.key",       "sec1.key",
    "ed.crt",  "ed.key",  "chain.crt", "ca.crt",        "weak.key",     "weak.crt",
    "empty",   "garbage", "many.crt",  "encrypted.key", "reversed.crt",
};

static void write_pair(const char *certificate_name, const char *key_name, const char *old_key_name,
                       gnutls_x509_privkey_t key)
{
    gnutls_x509_crt_t certificate = support_make_certificate(
        &(struct support_certificate){.dns_names = {"mx.example"}}, key, NULL, NULL);
    support_write_certificate(certificate_name, certificate);
    support_write_key(key_name, key, NULL);
    if (old_key_name != NULL)
        support_write_old_key(old_key_name, key);
    gnutls_x509_crt_deinit(certificate);
}

static void append(char *text, size_t size, gnutls_x509_crt_t certificate)
{
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
    size_t len = strlen(text);
    snprintf(text + len, size - len, "%.*s", (int)pem.size, (const char *)pem.data);
    gnutls_free(pem.data);
}

static void write_chains(gnutls_x509_privkey_t leaf_key)
{
    static char text[65536];
    gnutls_x509_privkey_t ca_key = support_ec_key();
    gnutls_x509_crt_t ca = support_make_certificate(
        &(struct support_certificate){.common_name = "CA", .is_ca = true}, ca_key, NULL, NULL);
    gnutls_x509_crt_t leaf = support_make_certificate(
        &(struct support_certificate){.dns_names = {"mx.example"}}, leaf_key, ca, ca_key);

    support_write_certificate("ca.crt", ca);
    append(text, sizeof text, leaf);
    append(text, sizeof text, ca);
    support_write_text("chain.crt", text);
    text[0] = '\0';
    append(text, sizeof text, ca);
    append(text, sizeof text, leaf);
    support_write_text("reversed.crt", text);
    for (int i = 0; i < 20; i++)
        append(text, sizeof text, ca);
    support_write_text("many.crt", text);
    gnutls_x509_crt_deinit(leaf);
    gnutls_x509_crt_deinit(ca);
    gnutls_x509_privkey_deinit(ca_key);
}

static int start(void **state)
{
    if (tls_init() != 0 || support_make_folder(state) != 0)
        return -1;
    gnutls_x509_privkey_t key = support_key(GNUTLS_PK_RSA, 2048);
    write_pair("rsa.crt", "rsa.key", "rsa1.key", key);
    write_chains(key);
    support_write_key("encrypted.key", key, "secret");
    gnutls_x509_privkey_deinit(key);
    key = support_ec_key();
    write_pair("ec.crt", "ec.key", "sec1.key", key);
    gnutls_x509_privkey_deinit(key);
    key = support_key(GNUTLS_PK_EDDSA_ED25519, 256);
    write_pair("ed.crt", "ed.key", NULL, key);
    gnutls_x509_privkey_deinit(key);
    key = support_key(GNUTLS_PK_RSA, 512);
    write_pair("weak.crt", "weak.key", NULL, key);
    gnutls_x509_privkey_deinit(key);
    support_write_text("empty", "");
    support_write_text("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tls_deinit();
    return support_remove_folder(files, sizeof files / sizeof files[0]);
}

static void test_server_credentials(void **state)
{
    static const struct {
        const char *certificate, *key;
        int code;
        const char *named; /* the file that the error names */
        const char *reason;
    } cases[] = {
        {"rsa.crt", "rsa.key", 0, "", ""},
        {"rsa.crt", "rsa1.key", 0, "", ""},
        {"ec.crt", "ec.key", 0, "", ""},
        {"ec.crt", "sec1.key", 0, "", ""},
        {"ed.crt", "ed.key", 0, "", ""},
        {"chain.crt", "rsa.key", 0, "", ""},
        {"reversed.crt", "rsa.key", TLS_ERR_PAIR, "rsa.key",
         "not the key of the first certificate"},
        {"rsa.crt", "ec.key", TLS_ERR_PAIR, "ec.key", "not the key"},
        {"rsa.crt", "weak.key", TLS_ERR_FORMAT, "weak.key", "1024 bits"},
        {"rsa.crt", "encrypted.key", TLS_ERR_FORMAT, "encrypted.key", "encrypted"},
        {"rsa.crt", "rsa.crt", TLS_ERR_FORMAT, "rsa.crt", "certificate"},
        {"rsa.crt", "empty", TLS_ERR_FORMAT, "empty", "empty"},
        {"rsa.crt", "missing", TLS_ERR_FILE, "missing", "No such file"},
        {"missing", "rsa.key", TLS_ERR_FILE, "missing", "No such file"},
        {"empty", "rsa.key", TLS_ERR_FORMAT, "empty", "empty"},
        {"rsa.key", "rsa.key", TLS_ERR_FORMAT, "rsa.key", "no certificate in PEM form"},
        {"garbage", "rsa.key", TLS_ERR_FORMAT, "garbage", ""},
        {"many.crt", "rsa.key", TLS_ERR_FORMAT, "many.crt", "16 certificates"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char certificate[PATH_SIZE], key[PATH_SIZE], named[PATH_SIZE], error[256] = "";
        struct tls_credentials *made = NULL;
        support_path(certificate, cases[i].certificate);
        support_path(key, cases[i].key);
        int rc = tls_server_credentials_load(certificate, key, NULL, &made, error, sizeof error);
        assert_int_equal(rc, cases[i].code);
        if (rc == 0) {
            struct tls_credentials *again = tls_credentials_ref(made);
            tls_credentials_unref(&made);
            struct tls_session *session;
            assert_int_equal(tls_server_session_new(again, &session), 0);
            tls_credentials_unref(&again); /* the session keeps its own */
            tls_session_free(&session);
            continue;
        }
        assert_null(made);
        support_path(named, cases[i].named);
        assert_memory_equal(error, named, strlen(named));
        assert_non_null(strstr(error + strlen(named), cases[i].reason));
        assert_null(strchr(error, '\n'));
    }
}

static void test_client_credentials(void **state)
{
    static const struct {
        const char *file; /* NULL: the system's */
        int code;
        const char *reason;
    } cases[] = {
        {NULL, 0, ""},
        {"ca.crt", 0, ""},
        {"many.crt", 0, ""},
        {"missing", TLS_ERR_FILE, "No such file"},
        {"empty", TLS_ERR_FORMAT, "empty"},
        {"rsa.key", TLS_ERR_FORMAT, "no certificate in PEM form"},
        {"garbage", TLS_ERR_FORMAT, ""},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[PATH_SIZE], error[256] = "";
        struct tls_credentials *made = NULL;
        support_path(path, cases[i].file != NULL ? cases[i].file : "");
        int rc = tls_client_credentials_load(cases[i].file != NULL ? path : NULL, &made, error,
                                             sizeof error);
        assert_int_equal(rc, cases[i].code);
        if (rc == 0) {
            tls_credentials_unref(&made);
            continue;
        }
        assert_null(made);
        assert_memory_equal(error, path, strlen(path));
        assert_non_null(strstr(error + strlen(path), cases[i].reason));
    }
    struct tls_credentials *none = NULL;
    tls_credentials_unref(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_credentials),
        cmocka_unit_test(test_client_credentials),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
