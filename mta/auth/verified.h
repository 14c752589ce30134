/* mta/auth/verified.h - passwords that were right a while ago, as digests under a secret of this process:
 * an app that logs in for each message then costs a millisecond and not a fifth of a second, and gets in
 * while guesses of others wait for the slow hash. One thread.
 *
 * A wrong password never gets shorter by it: what is not remembered goes to the hash, like an unknown
 * user. Bounded; forgotten after an hour, and with any change of the user's line. */
#ifndef MTA_AUTH_VERIFIED_H
#define MTA_AUTH_VERIFIED_H

#include "mta/auth/password.h"

enum { VERIFIED_KEEP_MS = 3600 * 1000 };

struct verified;
struct verified *verified_new(void);
void verified_free(struct verified **verifiedp);

/* about: a keyed hash of the user's name and hash (siphash()). A millisecond of CPU, whether
 * remembered or not. */
MUST_USE bool verified_knows(struct verified *verified, uint64_t about,
                             const struct password *password, uint64_t now_ms);
/* The slow hash has just matched. */
void verified_remember(struct verified *verified, uint64_t about, const struct password *password,
                       uint64_t now_ms);

#endif
