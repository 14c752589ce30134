/* mta/auth/siphash.h - SipHash-2-4 (Aumasson, Bernstein 2012): a hash of few bytes under a secret, so that
 * nobody can choose names that collide. */
#ifndef MTA_AUTH_SIPHASH_H
#define MTA_AUTH_SIPHASH_H

#include "mta/base/str.h"

struct siphash_key {
    uint64_t words[2];
};

/* Of `a`, its length and `b`. */
uint64_t siphash(const struct siphash_key *key, struct str a, struct str b);

#endif
