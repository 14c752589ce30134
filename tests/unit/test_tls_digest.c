/* SHA-256 against the vectors of FIPS 180-2, in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tls/tls.h"

static const struct {
    const char *text;
    const char *digest;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void expect_digest(struct tls_sha256 *sha, const char *expected)
{
    uint8_t digest[32];
    char text[65];

    tls_sha256_final(sha, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, expected);
}

static void test_known_vectors_in_pieces(void **state)
{
    (void)state;
    struct tls_sha256 *sha = tls_sha256_new();

    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++) {
        size_t len = strlen(vectors[v].text);
        for (size_t piece = 1; piece <= len + 1; piece++) {
            for (size_t at = 0; at < len; at += piece)
                tls_sha256_update(sha, vectors[v].text + at, len - at < piece ? len - at : piece);
            expect_digest(sha, vectors[v].digest); /* final starts anew: the same object goes on */
        }
    }
    tls_sha256_free(&sha);
    assert_null(sha);
    tls_sha256_free(&sha);
}

static void test_random_bytes_differ(void **state)
{
    (void)state;
    uint8_t first[32] = {0}, second[32] = {0}, none[32] = {0};

    tls_random(first, sizeof first);
    tls_random(second, sizeof second);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_not_equal(first, none, sizeof first);
}

static int start(void **state)
{
    (void)state;
    return tls_init();
}

static int stop(void **state)
{
    (void)state;
    tls_deinit();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_vectors_in_pieces),
        cmocka_unit_test(test_random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
