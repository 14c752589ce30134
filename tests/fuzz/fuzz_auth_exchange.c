/* tests/fuzz/fuzz_auth_exchange.c - what a client sends within AUTH. The first octet chooses
 * mechanism, client and form, the rest are its tokens, one a line: in base64, or bare. Nobody gets
 * in who does not know a password, and what is asked back can be sent. */
#include <stdlib.h>
#include <string.h>

#include "mta/auth/base64.h"
#include "mta/auth/mechanism.h"

#define HASH "$y$j75$HDRz7Lnj7GKJeE4a/tbBz/$ZOFqJXGRkksBg9WizbVRUhpBw2sXDHXADGa6hTiENs."
#define SCRAM                                                                                      \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                 \
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                                                \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

enum { FORM_BARE = 8, CLIENT_BOUND = 16, CLIENT_NAMED = 32, NO_INITIAL = 64, TOKENS_MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static struct mechanisms *shared;
static struct auth_users *users;

static void start_once(void)
{
    char error[256];
    if (shared != NULL)
        return;
    shared = mechanisms_new();
    check(auth_users_parse(STR("user\t" HASH "\t" SCRAM "\napp.example\t" HASH "\t" SCRAM "\n"),
                           "users", &users, error, sizeof error) == 0);
}

static void check_user(enum mechanism_kind kind, const struct mechanism *mechanism)
{
    const struct auth_user *user = mechanism_user(mechanism);

    check(kind == MECHANISM_EXTERNAL && strcmp(user->name, "app.example") == 0);
}

/* The slow ones are not hashed: here only what would be. */
static enum mechanism_next go_on(struct mechanism *mechanism, const struct str *token)
{
    enum mechanism_next next = mechanism_step(mechanism, token);

    if (next != MECHANISM_CHECK)
        return next;
    if (!mechanism_is_slow(mechanism))
        return mechanism_check(mechanism, NULL);
    check(mechanism_name(mechanism).len <= AUTH_NAME_MAX_BYTES);
    check(strlen(mechanism_password(mechanism)->text) <= PASSWORD_MAX_BYTES);
    mechanism_forget_password(mechanism);
    check(mechanism_password(mechanism)->text[0] == '\0');
    return MECHANISM_WRONG;
}

static bool next_line(struct str *text, struct str *line_out)
{
    if (text->len == 0)
        return false;
    const char *end = memchr(text->p, '\n', text->len);
    *line_out = (struct str){text->p, end != NULL ? (size_t)(end - text->p) : text->len};
    *text = str_skip(*text, line_out->len + 1);
    return true;
}

/* @return false: no base64 */
static bool read_token(struct str line, bool bare, char *space, struct str *token_out)
{
    size_t len;

    *token_out = line;
    if (bare)
        return true;
    if (!base64_decode(line, (uint8_t *)space, &len))
        return false;
    /* It is the only text for these octets. */
    char *text = malloc(BASE64_ENCODED_SIZE(len));
    check(text != NULL && base64_encode(space, len, text) == line.len);
    check(memcmp(text, line.p, line.len) == 0);
    free(text);
    *token_out = (struct str){space, len};
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct auth_client client = {.local = true};
    static char space[AUTH_TOKEN_MAX_BYTES];

    start_once();
    if (size < 1 || size > AUTH_TOKEN_MAX_BYTES)
        return 0;
    unsigned choice = data[0];
    enum mechanism_kind kind = (enum mechanism_kind)((choice & 7) % MECHANISM_COUNT);
    if ((choice & CLIENT_BOUND) != 0) {
        client.exporter_len = 32;
        client.unique_len = 12;
    }
    client.names[0] = "app.example";
    client.name_count = (choice & CLIENT_NAMED) != 0;

    struct mechanism *mechanism = mechanism_new(shared, kind, &client, users);
    struct str text = {(const char *)data + 1, size - 1}, line, token;
    enum mechanism_next next = MECHANISM_ASK;
    if ((choice & NO_INITIAL) != 0)
        next = go_on(mechanism, NULL);
    for (int i = 0; i < TOKENS_MAX && next == MECHANISM_ASK && next_line(&text, &line); i++) {
        if (!read_token(line, (choice & FORM_BARE) != 0, space, &token))
            break;
        next = go_on(mechanism, &token);
        if (next == MECHANISM_ACCEPTED)
            check_user(kind, mechanism);
    }
    check(mechanism_challenge(mechanism).len < AUTH_TOKEN_MAX_BYTES);
    mechanism_free(&mechanism);
    return 0;
}
