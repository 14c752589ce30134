/* Signing keys: every form that the field knows loads or is refused with file and reason (cases
 * O07); signatures verify, from several threads at once. */
#include "test_tls_support.h"

#include <pthread.h>

#include "tls/tls.h"

static const char *const files[] = {
    "rsa1.pem",      "rsa8.pem",          "ed25519.pem", "ec.pem",  "weak.pem",
    "encrypted.pem", "old_encrypted.pem", "empty",       "public",  "certificate",
    "seed",          "truncated",         "garbage",     "openssh", "with_certificate.pem",
};

static void write_variants(gnutls_x509_privkey_t rsa)
{
    gnutls_x509_crt_t certificate = support_make_certificate(
        &(struct support_certificate){.common_name = "a"}, rsa, NULL, NULL);
    gnutls_datum_t text, pem;
    gnutls_privkey_t abstract;
    gnutls_pubkey_t public_key;

    support_write_certificate("certificate", certificate);
    assert_int_equal(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
    assert_int_equal(
        gnutls_x509_privkey_export2_pkcs8(rsa, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text),
        0);
    support_write("truncated", text.data, text.size / 2);
    char *both = malloc(pem.size + text.size);
    memcpy(both, pem.data, pem.size);
    memcpy(both + pem.size, text.data, text.size);
    support_write("with_certificate.pem", both, pem.size + text.size);
    free(both);
    gnutls_free(text.data);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(certificate);

    assert_int_equal(gnutls_privkey_init(&abstract), 0);
    assert_int_equal(gnutls_privkey_import_x509(abstract, rsa, 0), 0);
    assert_int_equal(gnutls_pubkey_init(&public_key), 0);
    assert_int_equal(gnutls_pubkey_import_privkey(public_key, abstract, 0, 0), 0);
    assert_int_equal(gnutls_pubkey_export2(public_key, GNUTLS_X509_FMT_PEM, &text), 0);
    support_write("public", text.data, text.size);
    gnutls_free(text.data);
    gnutls_pubkey_deinit(public_key);
    gnutls_privkey_deinit(abstract);
}

static int start(void **state)
{
    if (tls_init() != 0 || support_make_folder(state) != 0)
        return -1;
    gnutls_x509_privkey_t rsa = support_key(GNUTLS_PK_RSA, 2048);
    support_write_old_key("rsa1.pem", rsa);
    support_write_key("rsa8.pem", rsa, NULL);
    support_write_key("encrypted.pem", rsa, "secret");
    write_variants(rsa);
    gnutls_x509_privkey_deinit(rsa);

    gnutls_x509_privkey_t other = support_key(GNUTLS_PK_EDDSA_ED25519, 256);
    support_write_key("ed25519.pem", other, NULL);
    gnutls_x509_privkey_deinit(other);
    other = support_ec_key();
    support_write_key("ec.pem", other, NULL);
    gnutls_x509_privkey_deinit(other);
    other = support_key(GNUTLS_PK_RSA, 512);
    support_write_old_key("weak.pem", other);
    gnutls_x509_privkey_deinit(other);

    support_write_text("empty", "");
    support_write_text("seed", "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n");
    support_write_text("garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    support_write_text("openssh", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n"
                                  "-----END OPENSSH PRIVATE KEY-----\n");
    support_write_text("old_encrypted.pem",
                       "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                       "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n"
                       "-----END RSA PRIVATE KEY-----\n");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tls_deinit();
    return support_remove_folder(files, sizeof files / sizeof files[0]);
}

static void test_good_keys_load(void **state)
{
    static const struct {
        const char *file;
        bool rsa;
        unsigned bits;
    } cases[] = {
        {"rsa1.pem", true, 2048},
        {"rsa8.pem", true, 2048},
        {"with_certificate.pem", true, 2048},
        {"ed25519.pem", false, 256},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[PATH_SIZE], error[256] = "untouched";
        struct tls_key *key = NULL;
        support_path(path, cases[i].file);
        assert_int_equal(tls_key_load(path, &key, error, sizeof error), 0);
        assert_int_equal(tls_key_is_rsa(key), cases[i].rsa);
        assert_int_equal(tls_key_bits(key), cases[i].bits);
        assert_string_equal(error, "untouched");
        tls_key_unref(&key);
        assert_null(key);
    }
}

static void test_bad_keys_are_refused_with_file_and_reason(void **state)
{
    static const struct {
        const char *file;
        int code;
        const char *reason;
    } cases[] = {
        {"encrypted.pem", TLS_ERR_FORMAT, "encrypted"},
        {"old_encrypted.pem", TLS_ERR_FORMAT, "encrypted"},
        {"empty", TLS_ERR_FORMAT, "empty"},
        {"public", TLS_ERR_FORMAT, "public key"},
        {"certificate", TLS_ERR_FORMAT, "certificate"},
        {"seed", TLS_ERR_FORMAT, "no private key in PEM form"},
        {"weak.pem", TLS_ERR_FORMAT, "1024 bits"},
        {"ec.pem", TLS_ERR_FORMAT, "neither an RSA nor an Ed25519 key"},
        {"openssh", TLS_ERR_FORMAT, "OpenSSH"},
        {"truncated", TLS_ERR_FORMAT, ""},
        {"garbage", TLS_ERR_FORMAT, ""},
        {"missing", TLS_ERR_FILE, "No such file"},
        {".", TLS_ERR_FILE, "not a regular file"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[PATH_SIZE], error[256] = "";
        struct tls_key *key = NULL;
        support_path(path, cases[i].file);
        assert_int_equal(tls_key_load(path, &key, error, sizeof error), cases[i].code);
        assert_null(key);
        assert_memory_equal(error, path, strlen(path));
        assert_non_null(strstr(error + strlen(path), cases[i].reason));
        assert_true(strlen(error) > strlen(path) + 4);
        assert_null(strchr(error, '\n'));
    }
    char path[PATH_SIZE];
    struct tls_key *key = NULL;
    support_path(path, "empty");
    assert_int_equal(tls_key_load(path, &key, NULL, 0), TLS_ERR_FORMAT);
}

static void check_signature(struct tls_key *key, const uint8_t digest[32])
{
    uint8_t der[1024], signature[1024];
    gnutls_pubkey_t public_key;

    long der_len = tls_key_public_der(key, der, sizeof der);
    long len = tls_key_sign_sha256(key, digest, signature, sizeof signature);
    assert_int_equal(len, 256);
    assert_in_range(der_len, 290, 300);
    assert_int_equal(gnutls_pubkey_init(&public_key), 0);
    gnutls_datum_t data = {der, (unsigned)der_len};
    assert_int_equal(gnutls_pubkey_import(public_key, &data, GNUTLS_X509_FMT_DER), 0);
    gnutls_datum_t hash = {.data = (unsigned char *)digest, .size = 32};
    gnutls_datum_t sig = {.data = signature, .size = (unsigned)len};
    assert_int_equal(gnutls_pubkey_verify_hash2(public_key, GNUTLS_SIGN_RSA_SHA256, 0, &hash, &sig),
                     0);
    signature[7] ^= 1;
    assert_true(gnutls_pubkey_verify_hash2(public_key, GNUTLS_SIGN_RSA_SHA256, 0, &hash, &sig) < 0);
    gnutls_pubkey_deinit(public_key);
}

static void test_signature_verifies(void **state)
{
    char path[PATH_SIZE];
    uint8_t digest[32], out[300];
    struct tls_key *key;
    (void)state;

    tls_random(digest, sizeof digest);
    support_path(path, "rsa1.pem");
    assert_int_equal(tls_key_load(path, &key, NULL, 0), 0);
    check_signature(key, digest);
    assert_int_equal(tls_key_sign_sha256(key, digest, out, 255), TLS_FAILED);
    assert_int_equal(tls_key_public_der(key, out, 10), TLS_FAILED);
    tls_key_unref(&key);

    support_path(path, "ed25519.pem");
    assert_int_equal(tls_key_load(path, &key, NULL, 0), 0);
    assert_int_equal(tls_key_sign_sha256(key, digest, out, sizeof out), TLS_FAILED);
    assert_int_equal(tls_key_public_der(key, out, sizeof out), 44); /* RFC 8410 */
    tls_key_unref(&key);
}

struct signer {
    pthread_t thread;
    struct tls_key *key;
    uint8_t digest[32];
    uint8_t signature[256];
    long len;
};

static void *sign_many(void *ctx)
{
    struct signer *signer = ctx;
    for (int i = 0; i < 50; i++)
        signer->len = tls_key_sign_sha256(signer->key, signer->digest, signer->signature,
                                          sizeof signer->signature);
    tls_key_unref(&signer->key);
    return NULL;
}

static void test_threads_sign_at_once(void **state)
{
    struct signer signers[4];
    char path[PATH_SIZE];
    struct tls_key *key;
    (void)state;

    support_path(path, "rsa8.pem");
    assert_int_equal(tls_key_load(path, &key, NULL, 0), 0);
    for (size_t i = 0; i < 4; i++) {
        signers[i].key = tls_key_ref(key);
        memset(signers[i].digest, (int)i, sizeof signers[i].digest);
        assert_int_equal(pthread_create(&signers[i].thread, NULL, sign_many, &signers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        uint8_t expected[256];
        assert_int_equal(pthread_join(signers[i].thread, NULL), 0);
        assert_int_equal(signers[i].len, 256);
        assert_int_equal(tls_key_sign_sha256(key, signers[i].digest, expected, sizeof expected),
                         256);
        assert_memory_equal(signers[i].signature, expected, sizeof expected);
    }
    tls_key_unref(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_keys_load),
        cmocka_unit_test(test_bad_keys_are_refused_with_file_and_reason),
        cmocka_unit_test(test_signature_verifies),
        cmocka_unit_test(test_threads_sign_at_once),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
