/* mta/auth/standing.c - see standing.h. */
#include "mta/auth/standing.h"

#include <stdlib.h>
#include <string.h>

#include "mta/auth/password.h"
#include "mta/auth/siphash.h"

enum {
    SETS = 1024,
    WAYS = 8,
    FAILURES_MAX = 10,
    FAILURES_FREE = 3,      /* fewer, and nobody waits: people mistype */
    CHECK_SPACING_MS = 125, /* then: 8 checks a second */
};

struct entry {
    uint64_t key; /* 0: empty */
    uint64_t failed_ms;
    uint64_t slot_ms; /* when the next check may begin */
    uint64_t turn;    /* of the last check */
    uint32_t failures;
};

struct standing {
    struct siphash_key key;
    uint64_t served;
    struct entry entries[SETS][WAYS];
};

struct standing *standing_new(void)
{
    struct standing *standing = mem_alloc(sizeof *standing);
    password_random(&standing->key, sizeof standing->key);
    return standing;
}

void standing_free(struct standing **standingp)
{
    free(*standingp);
    *standingp = NULL;
}

/* ---- entries ---- */

static uint32_t failures_of(const struct entry *entry, uint64_t now_ms)
{
    uint64_t forgotten = (now_ms - entry->failed_ms) / STANDING_FORGET_MS;
    return forgotten >= entry->failures ? 0 : entry->failures - (uint32_t)forgotten;
}

static uint64_t last_use(const struct entry *entry)
{
    return entry->failed_ms > entry->slot_ms ? entry->failed_ms : entry->slot_ms;
}

/* Finds it, or puts it in the place of the one in its set that matters least. */
static struct entry *entry_of(struct standing *standing, uint64_t key, uint64_t now_ms)
{
    struct entry *set = standing->entries[key % SETS], *least = &set[0];

    key = key != 0 ? key : 1;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
    }
    for (size_t i = 1; i < WAYS; i++) {
        uint32_t mine = failures_of(&set[i], now_ms), worst = failures_of(least, now_ms);
        if (mine < worst || (mine == worst && last_use(&set[i]) < last_use(least)))
            least = &set[i];
    }
    *least = (struct entry){.key = key, .failed_ms = now_ms};
    return least;
}

static struct entry *user_entry(struct standing *standing, const struct standing_client *client,
                                struct str name, uint64_t now_ms)
{
    struct str kind = client->local ? STR("user here") : STR("user");
    return entry_of(standing, siphash(&standing->key, kind, name), now_ms);
}

/* NULL: a local client has none. */
static struct entry *address_entry(struct standing *standing, const struct standing_client *client,
                                   uint64_t now_ms)
{
    if (client->local)
        return NULL;
    /* A host of IPv6 has a whole /64 for itself. */
    struct str bytes = {(const char *)client->address, client->ipv6 ? 8 : 4};
    return entry_of(standing, siphash(&standing->key, STR("address"), bytes), now_ms);
}

/* ---- what follows from them ---- */

static uint32_t wait_for(uint32_t failures)
{
    if (failures < FAILURES_FREE)
        return 0;
    uint32_t doublings = failures - FAILURES_FREE;
    return doublings >= 2 ? STANDING_WAIT_MAX_MS : 250U << doublings;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

struct standing_admission standing_admit(struct standing *standing,
                                         const struct standing_client *client, struct str name,
                                         uint64_t now_ms)
{
    struct standing_admission admission = {.admitted = true};

    struct entry *user = user_entry(standing, client, name, now_ms);
    admission.wait_ms = wait_for(failures_of(user, now_ms));
    struct entry *address = address_entry(standing, client, now_ms);
    if (address != NULL)
        admission.wait_ms = larger(admission.wait_ms, wait_for(failures_of(address, now_ms)));

    /* Over the network the address is held to a rate and not the user, so that guesses from
     * elsewhere keep nobody out. */
    struct entry *held = address != NULL ? address : user;
    if (failures_of(held, now_ms) >= FAILURES_FREE) {
        uint64_t slot_ms = held->slot_ms > now_ms ? held->slot_ms : now_ms;
        if (slot_ms - now_ms > STANDING_WAIT_MAX_MS)
            return (struct standing_admission){.admitted = false};
        held->slot_ms = slot_ms + CHECK_SPACING_MS;
        admission.wait_ms = larger(admission.wait_ms, (uint32_t)(slot_ms - now_ms));
    }
    return admission;
}

/* Start-time fair queueing: each has a clock that a check moves on, and that never lags behind what
 * is served. */
uint64_t standing_turn(struct standing *standing, const struct standing_client *client,
                       struct str name, uint64_t now_ms)
{
    struct entry *address = address_entry(standing, client, now_ms);
    struct entry *held = address != NULL ? address : user_entry(standing, client, name, now_ms);

    held->turn = (held->turn > standing->served ? held->turn : standing->served) + 1;
    return held->turn;
}

void standing_serve(struct standing *standing, uint64_t turn)
{
    if (turn > standing->served)
        standing->served = turn;
}

static uint32_t count_failure(struct entry *entry, uint64_t now_ms)
{
    uint32_t failures = failures_of(entry, now_ms);
    entry->failures = failures < FAILURES_MAX ? failures + 1 : FAILURES_MAX;
    entry->failed_ms = now_ms;
    return entry->failures;
}

uint32_t standing_fail(struct standing *standing, const struct standing_client *client,
                       struct str name, uint64_t now_ms)
{
    uint32_t failures = count_failure(user_entry(standing, client, name, now_ms), now_ms);
    struct entry *address = address_entry(standing, client, now_ms);
    if (address != NULL)
        failures = larger(failures, count_failure(address, now_ms));
    uint32_t doublings = failures - 1;
    return doublings >= 5 ? STANDING_LAST_MS : (uint32_t)STANDING_FIRST_MS << doublings;
}
