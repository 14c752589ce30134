/* mta/auth/password and verified: what may be a password, hashes that match it, keys as RFC 7677
 * has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <gsasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/auth/base64.h"
#include "mta/auth/password.h"
#include "mta/auth/verified.h"

/* "password", with small costs. */
#define HASH "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."

static struct password_hasher *hasher;

static int start(void **state)
{
    (void)state;
    hasher = password_hasher_new();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    password_hasher_free(&hasher);
    return 0;
}

static struct password prepared(const char *text)
{
    struct password password;
    assert_null(password_prepare(str_from(text), &password));
    return password;
}

static void test_what_may_be_one(void **state)
{
    static const struct {
        const char *raw, *prepared, *fault; /* fault NULL: none */
    } cases[] = {
        {"secret", "secret", NULL},
        {" with blanks ", " with blanks ", NULL},
        {"", "", "empty"},
        {"tab\there", "", "control character"},
        {"line\n", "", "control character"},
        {"del\x7f", "", "control character"},
        /* RFC 4013 section 3, and what a composed and a split umlaut have in common. */
        {"I\xc2\xadX", "IX", NULL},
        {"user\xc2\xaa", "usera", NULL},
        {"\xe2\x85\xa8", "IX", NULL},
        {"\xc2\xa0x", " x", NULL},
        {"u\xcc\x88", "\xc3\xbc", NULL},
        {"\xc3\xbc", "\xc3\xbc", NULL},
        {"\xc2\xad", "", "empty"},
        {"\xf0\x9f\x94\x91", "", "cannot have"}, /* younger than Unicode 3.2 */
        {"latin1 \xfc", "", "not UTF-8"},
        {"\xd8\xa7\x31", "", "characters that passwords cannot have"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct password password = {"left"};
        const char *fault = password_prepare(str_from(cases[i].raw), &password);
        if (cases[i].fault == NULL)
            assert_null(fault);
        else
            assert_non_null(strstr(fault, cases[i].fault));
        assert_string_equal(password.text, cases[i].prepared);
    }
}

static void test_lengths(void **state)
{
    char text[PASSWORD_MAX_BYTES + 2];
    struct password password;
    (void)state;

    memset(text, 'x', sizeof text);
    assert_null(password_prepare((struct str){text, PASSWORD_MAX_BYTES}, &password));
    assert_true(password_equal_bytes(password.text, text, PASSWORD_MAX_BYTES));
    assert_non_null(password_prepare((struct str){text, PASSWORD_MAX_BYTES + 1}, &password));
    assert_non_null(password_prepare(STR("nul\0inside"), &password));
    /* U+FDFA grows to 33 octets: beyond the limit only once it is prepared. */
    for (size_t i = 0; i + 3 <= 300; i += 3)
        memcpy(text + i, "\xef\xb7\xba", 3);
    assert_non_null(password_prepare((struct str){text, 300}, &password));
    assert_string_equal(password.text, "");
}

static void test_hashes(void **state)
{
    struct password right = prepared("password"), wrong = prepared("Password"), none = {""},
                    unicode = prepared("\xe2\x82\xac u\xcc\x88");
    char hash[PASSWORD_HASH_SIZE];
    struct auth_scram scram, again;
    (void)state;

    assert_true(password_matches(hasher, &right, HASH));
    assert_false(password_matches(hasher, &wrong, HASH));
    assert_false(password_matches(hasher, &none, HASH));
    assert_false(password_matches(hasher, &right, "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$"));
    assert_false(password_matches(hasher, &right, "*"));
    assert_false(password_matches(hasher, &right, "*0")); /* what crypt(3) fails with */
    assert_false(password_matches(hasher, &right, ""));

    password_make(hasher, &right, hash, &scram);
    assert_memory_equal(hash, "$y$j9T$", 7);
    assert_true(password_matches(hasher, &right, hash));
    assert_false(password_matches(hasher, &wrong, hash));
    assert_int_equal(scram.count, PASSWORD_SCRAM_COUNT);
    assert_int_equal(scram.salt_len, PASSWORD_SALT_BYTES);
    password_make(hasher, &unicode, hash, &scram);
    assert_true(password_matches(hasher, &unicode, hash));
    /* New salts each time. */
    password_make(hasher, &right, hash, &scram);
    char hash_again[PASSWORD_HASH_SIZE];
    password_make(hasher, &right, hash_again, &again);
    assert_string_not_equal(hash, hash_again);
    assert_memory_not_equal(scram.salt, again.salt, PASSWORD_SALT_BYTES);
    assert_memory_not_equal(scram.stored_key, again.stored_key, AUTH_KEY_BYTES);
}

/* RFC 7677 section 3: "pencil". The keys are those that the proof and the signature there come
 * from. */
static void test_keys_of_rfc7677(void **state)
{
    char salted[32], client[32], server[32], stored[32], text[BASE64_ENCODED_SIZE(32)];
    uint8_t salt[18];
    size_t len;
    (void)state;

    assert_true(base64_decode(STR("W22ZaJ0SNY7soEsUEjb6gQ=="), salt, &len));
    assert_int_equal(gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, "pencil", 4096,
                                                       (const char *)salt, len, salted, client,
                                                       server, stored),
                     GSASL_OK);
    base64_encode(stored, 32, text);
    assert_string_equal(text, "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
    base64_encode(server, 32, text);
    assert_string_equal(text, "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
}

/* ---- what is remembered ---- */

static void test_remembered(void **state)
{
    struct verified *verified = verified_new();
    struct password right = prepared("password"), wrong = prepared("Password"), none = {""};
    (void)state;

    assert_false(verified_knows(verified, 7, &right, 0));
    verified_remember(verified, 7, &right, 0);
    assert_true(verified_knows(verified, 7, &right, VERIFIED_KEEP_MS - 1));
    assert_false(verified_knows(verified, 7, &wrong, 0));
    assert_false(verified_knows(verified, 7, &none, 0));
    assert_false(verified_knows(verified, 8, &right, 0));
    assert_false(verified_knows(verified, 7 + 512, &right, 0)); /* in the same set */
    assert_false(verified_knows(verified, 7, &right, VERIFIED_KEEP_MS));
    /* Another password takes the place of the former. */
    verified_remember(verified, 7, &wrong, 10);
    assert_false(verified_knows(verified, 7, &right, 11));
    assert_true(verified_knows(verified, 7, &wrong, 11));
    /* The oldest of a set goes. */
    verified_remember(verified, 7 + 512, &right, 20);
    verified_remember(verified, 7 + 1024, &right, 30);
    assert_false(verified_knows(verified, 7, &wrong, 31));
    assert_true(verified_knows(verified, 7 + 512, &right, 31));
    assert_true(verified_knows(verified, 7 + 1024, &right, 31));
    verified_free(&verified);
    assert_null(verified);
}

/* The end of one so long would not be in the digest. */
static void test_long_ones_are_not_remembered(void **state)
{
    struct verified *verified = verified_new();
    char text[PASSWORD_MAX_BYTES + 1];
    (void)state;

    memset(text, 'x', sizeof text - 1);
    text[PASSWORD_DIGESTED_MAX_BYTES + 1] = '\0';
    struct password password = prepared(text);
    verified_remember(verified, 7, &password, 0);
    assert_false(verified_knows(verified, 7, &password, 0));
    text[PASSWORD_DIGESTED_MAX_BYTES] = '\0';
    password = prepared(text);
    verified_remember(verified, 7, &password, 0);
    assert_true(verified_knows(verified, 7, &password, 0));
    password.text[PASSWORD_DIGESTED_MAX_BYTES - 1] = 'y';
    assert_false(verified_knows(verified, 7, &password, 0));
    verified_free(&verified);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_may_be_one), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_hashes),          cmocka_unit_test(test_keys_of_rfc7677),
        cmocka_unit_test(test_remembered),      cmocka_unit_test(test_long_ones_are_not_remembered),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
