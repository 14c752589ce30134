/* mta/auth/standing.h - who failed lately, and how long others of that kind wait for it. One thread.
 *
 * Failures count for the user and for the address (IPv6: its /64). Clients of this machine share one
 * address, so theirs count for the user alone, apart from what comes over the network. One is forgotten
 * each minute. Nothing here ever locks out: a check waits a second at most.
 *
 * The table is bounded; keys are kept as keyed hashes. */
#ifndef MTA_AUTH_STANDING_H
#define MTA_AUTH_STANDING_H

#include "mta/base/str.h"

enum {
    STANDING_WAIT_MAX_MS = 1000,
    STANDING_FIRST_MS = 500,   /* the answer to a first failure */
    STANDING_LAST_MS = 16000,  /* and to the sixth and later ones */
    STANDING_FORGET_MS = 60000,
};

struct standing;

struct standing_client {
    bool local, ipv6;
    uint8_t address[16];
};

struct standing *standing_new(void);
void standing_free(struct standing **standingp);

struct standing_admission {
    bool admitted;    /* false: too many checks wait already for this user or address */
    uint32_t wait_ms; /* 0..STANDING_WAIT_MAX_MS, before the check */
};

/* A name and password are about to be checked. */
struct standing_admission standing_admit(struct standing *standing,
                                         const struct standing_client *client, struct str name,
                                         uint64_t now_ms);
/* The place of a check in the line for the slow hash: the smallest goes first. Fair between addresses
 * (on this machine: between users), however many checks one of them has in the line. */
uint64_t standing_turn(struct standing *standing, const struct standing_client *client,
                       struct str name, uint64_t now_ms);
/* That one has been hashed: turns given from now on are not smaller. */
void standing_serve(struct standing *standing, uint64_t turn);

/* The check failed. @return how long its answer is held back, STANDING_FIRST_MS..STANDING_LAST_MS */
uint32_t standing_fail(struct standing *standing, const struct standing_client *client,
                       struct str name, uint64_t now_ms);

#endif
