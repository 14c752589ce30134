/* mta/auth/mechanism.h - one SASL conversation, server side: tokens in, what to do next out. Blocks for
 * nothing but mechanism_check(). One thread at a time.
 *
 * PLAIN (RFC 4616) and LOGIN are done here: GNU SASL frees its copies of a password without wiping them,
 * and its LOGIN passes over an initial response and asks with words that some clients do not know. SCRAM
 * (RFC 5802, 7677) and EXTERNAL (RFC 4422) are GNU SASL's. */
#ifndef MTA_AUTH_MECHANISM_H
#define MTA_AUTH_MECHANISM_H

#include <gsasl.h>

#include "mta/auth/auth.h"
#include "mta/auth/password.h"

enum mechanism_kind {
    MECHANISM_SCRAM_PLUS,
    MECHANISM_SCRAM,
    MECHANISM_PLAIN,
    MECHANISM_LOGIN,
    MECHANISM_EXTERNAL,
    MECHANISM_COUNT
};
extern const char *const mechanism_names[MECHANISM_COUNT];

/* May this client use it? users may be NULL: then none. */
bool mechanism_is_offered(enum mechanism_kind kind, const struct auth_client *client,
                          const struct auth_users *users);

/* What all conversations share. */
struct mechanisms;
struct mechanisms *mechanisms_new(void);
void mechanisms_free(struct mechanisms **mechanismsp);

enum mechanism_next {
    MECHANISM_ASK,       /* send mechanism_challenge(), step with what comes back */
    MECHANISM_CHECK,     /* mechanism_check() decides; it is at the caller when */
    MECHANISM_ACCEPTED,  /* mechanism_user() is in */
    MECHANISM_WRONG,
    MECHANISM_MALFORMED, /* not what the mechanism sends */
};

struct mechanism;

/* All borrowed for the mechanism's life. */
struct mechanism *mechanism_new(struct mechanisms *mechanisms, enum mechanism_kind kind,
                                const struct auth_client *client, struct auth_users *users);
void mechanism_free(struct mechanism **mechanismp); /* wipes */

/* token: decoded, borrowed; NULL: there is no initial response. */
MUST_USE enum mechanism_next mechanism_step(struct mechanism *mechanism, const struct str *token);
/* After MECHANISM_ASK: plain bytes, before base64. Until the next call. */
struct str mechanism_challenge(const struct mechanism *mechanism);

/* After MECHANISM_CHECK: a slow one needs a hasher, the others take no time. */
bool mechanism_is_slow(const struct mechanism *mechanism);
MUST_USE enum mechanism_next mechanism_check(struct mechanism *mechanism,
                                             struct password_hasher *hasher);
const struct password *mechanism_password(const struct mechanism *mechanism); /* if it is slow */
void mechanism_forget_password(struct mechanism *mechanism); /* it has been checked */

/* The name that the client gave, "" before it did; any bytes but NUL. And the user of that name, or
 * NULL. */
struct str mechanism_name(const struct mechanism *mechanism);
const struct auth_user *mechanism_user(const struct mechanism *mechanism);

#endif
