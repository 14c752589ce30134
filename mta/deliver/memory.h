/* mta/deliver/memory.h - what hosts lately taught us: bounded, forgotten after a time. Own lock;
 * any thread. */
#ifndef MTA_DELIVER_MEMORY_H
#define MTA_DELIVER_MEMORY_H

#include "mta/base/str.h"

enum memory_fact {
    MEMORY_UNREACHABLE, /* key: place: could not be connected; tried after the others */
    MEMORY_TLS_BROKEN,  /* key: place: the handshake failed; opportunistic TLS goes in clear */
    MEMORY_IPV6_DEAD,   /* key: "": IPv6 connects fail while IPv4 works; IPv4 first */
};

struct memory;

#define MEMORY_KEY_MAX 56
/* "address:port": one machine may run several servers. */
void memory_place(char key[MEMORY_KEY_MAX], const char *address, uint16_t port);

struct memory *memory_new(void);
void memory_free(struct memory **memoryp);
void memory_learn(struct memory *memory, enum memory_fact fact, const char *key, uint64_t until_ms);
void memory_forget(struct memory *memory, enum memory_fact fact, const char *key);
bool memory_knows(struct memory *memory, enum memory_fact fact, const char *key, uint64_t now_ms);

#endif
