/* mta/auth/password.c - see password.h. yescrypt by libxcrypt, SCRAM keys by GNU SASL (RFC 5802
 * section 3). */
#include "mta/auth/password.h"

#include <assert.h>
#include <crypt.h>
#include <gsasl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mta/auth/base64.h"

static_assert(PASSWORD_HASH_SIZE == CRYPT_OUTPUT_SIZE, "room for what crypt gives");
static_assert(PASSWORD_MAX_BYTES < CRYPT_MAX_PASSPHRASE_SIZE, "crypt refuses more");

struct password_hasher {
    struct crypt_data data;
    char nobody[CRYPT_OUTPUT_SIZE];        /* a setting with the usual costs */
    char quick[CRYPT_GENSALT_OUTPUT_SIZE]; /* a secret one with small costs */
    char phrase[PASSWORD_MAX_BYTES + 1];   /* wiped after each use */
};

void password_random(void *bytes, size_t len)
{
    uint8_t *to = bytes;
    while (len > 0) {
        ssize_t n = getrandom(to, len, 0);
        if (n <= 0) {
            fprintf(stderr, "auth: the system gives no random bytes\n");
            abort();
        }
        to += n;
        len -= (size_t)n;
    }
}

bool password_equal_bytes(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t differs = 0;

    for (size_t i = 0; i < len; i++)
        differs |= x[i] ^ y[i];
    return differs == 0;
}

void password_wipe(struct password *password)
{
    explicit_bzero(password, sizeof *password);
}

/* ---- what a password may be ---- */

static const char *prepare_unicode(struct password *password)
{
    char *prepared = NULL;
    const char *fault = NULL;

    /* With the flag of gsasl_scram_secrets_from_password(), which must take what is prepared here.
     * In GNU SASL 2.2 it does the contrary of its name: such code points are refused. */
    int rc = gsasl_saslprep(password->text, GSASL_ALLOW_UNASSIGNED, &prepared, NULL);
    if (rc != GSASL_OK)
        return "the password is not UTF-8, or has characters that passwords cannot have (RFC 4013)";
    size_t len = strlen(prepared);
    password_wipe(password);
    if (len == 0)
        fault = "the password is empty";
    else if (len > PASSWORD_MAX_BYTES)
        fault = "the password is longer than 511 octets";
    else
        memcpy(password->text, prepared, len);
    explicit_bzero(prepared, len);
    gsasl_free(prepared);
    return fault;
}

const char *password_prepare(struct str raw, struct password *password_out)
{
    bool ascii = true;
    const char *fault = NULL;

    password_wipe(password_out);
    if (raw.len == 0)
        return "the password is empty";
    if (raw.len > PASSWORD_MAX_BYTES)
        return "the password is longer than 511 octets";
    for (size_t i = 0; i < raw.len; i++) {
        unsigned char c = (unsigned char)raw.p[i];
        if (c < ' ' || c == 0x7f)
            return "the password has a control character";
        ascii = ascii && c < 0x80;
    }
    memcpy(password_out->text, raw.p, raw.len);
    /* SASLprep leaves ASCII as it is, and makes copies on its way that nobody wipes. */
    if (!ascii)
        fault = prepare_unicode(password_out);
    if (fault != NULL)
        password_wipe(password_out);
    return fault;
}

/* ---- hashing ---- */

/* Costs as Debian gives them to the passwords of its own users ($y$j9T$: 16 MiB). */
static void make_setting(char setting_out[CRYPT_GENSALT_OUTPUT_SIZE])
{
    char random[16];

    password_random(random, sizeof random);
    if (crypt_gensalt_rn("$y$", 0, random, sizeof random, setting_out, CRYPT_GENSALT_OUTPUT_SIZE) ==
        NULL)
        unreachable_bug(); /* libxcrypt knows yescrypt since 4.3 */
}

struct password_hasher *password_hasher_new(void)
{
    struct password_hasher *hasher = mem_alloc(sizeof *hasher);
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];

    make_setting(setting);
    memcpy(hasher->nobody, setting, strlen(setting) + 1);
    /* The salt is the secret; 256 KiB are enough for what never leaves this process. */
    snprintf(hasher->quick, sizeof hasher->quick, "$y$j55%s", strrchr(setting, '$'));
    make_setting(setting);
    memcpy(hasher->nobody, setting, strlen(setting) + 1);
    return hasher;
}

void password_hasher_free(struct password_hasher **hasherp)
{
    if (*hasherp != NULL)
        explicit_bzero(*hasherp, sizeof **hasherp);
    free(*hasherp);
    *hasherp = NULL;
}

/* @return the hash, within the hasher until the next call; NULL: libxcrypt refuses the setting, or
 * is out of memory */
static const char *run_crypt(struct password_hasher *hasher, const char *phrase,
                             const char *setting)
{
    /* It keeps no state between calls; what is left of the last one is wiped. */
    explicit_bzero(&hasher->data, sizeof hasher->data);
    return crypt_rn(phrase, setting, &hasher->data, sizeof hasher->data);
}

bool password_matches(struct password_hasher *hasher, const struct password *password,
                      const char *hash)
{
    const char *made = run_crypt(hasher, password->text, hash);
    size_t len = strlen(hash);
    bool same = made != NULL && strlen(made) == len && password_equal_bytes(made, hash, len) &&
                password->text[0] != '\0';

    explicit_bzero(&hasher->data, sizeof hasher->data);
    return same;
}

void password_match_nobody(struct password_hasher *hasher, const struct password *password)
{
    (void)run_crypt(hasher, password->text, hasher->nobody);
    explicit_bzero(&hasher->data, sizeof hasher->data);
}

void password_make(struct password_hasher *hasher, const struct password *password,
                   char hash_out[PASSWORD_HASH_SIZE], struct auth_scram *scram_out)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], salted[GSASL_HASH_MAX_SIZE],
        client[GSASL_HASH_MAX_SIZE], server[GSASL_HASH_MAX_SIZE], stored[GSASL_HASH_MAX_SIZE];

    make_setting(setting);
    const char *made = run_crypt(hasher, password->text, setting);
    assert(made != NULL); /* a setting of our own; or no memory, which ends the process */
    snprintf(hash_out, PASSWORD_HASH_SIZE, "%s", made);
    explicit_bzero(&hasher->data, sizeof hasher->data);

    *scram_out =
        (struct auth_scram){.count = PASSWORD_SCRAM_COUNT, .salt_len = PASSWORD_SALT_BYTES};
    password_random(scram_out->salt, PASSWORD_SALT_BYTES);
    int rc = gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, password->text,
                                               PASSWORD_SCRAM_COUNT, (const char *)scram_out->salt,
                                               PASSWORD_SALT_BYTES, salted, client, server, stored);
    if (rc != GSASL_OK)
        unreachable_bug();
    memcpy(scram_out->stored_key, stored, AUTH_KEY_BYTES);
    memcpy(scram_out->server_key, server, AUTH_KEY_BYTES);
    explicit_bzero(salted, sizeof salted);
    explicit_bzero(client, sizeof client);
}

void password_digest(struct password_hasher *hasher, const struct password *password,
                     uint64_t about, char digest_out[PASSWORD_DIGEST_BYTES])
{
    assert(strlen(password->text) <= PASSWORD_DIGESTED_MAX_BYTES);
    snprintf(hasher->phrase, sizeof hasher->phrase, "%016" PRIx64 "%.*s", about,
             PASSWORD_DIGESTED_MAX_BYTES, password->text);
    const char *made = run_crypt(hasher, hasher->phrase, hasher->quick);
    assert(made != NULL);
    memcpy(digest_out, made + strlen(made) - PASSWORD_DIGEST_BYTES, PASSWORD_DIGEST_BYTES);
    explicit_bzero(hasher->phrase, sizeof hasher->phrase);
    explicit_bzero(&hasher->data, sizeof hasher->data);
}
