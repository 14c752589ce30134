/* mta/deliver/walk.h - the addresses of a site's hosts in the order in which they are to be tried:
 * preference, equals shuffled, the addresses of a host alternating IPv6 and IPv4; known-dead ones
 * last. On one worker's loop. */
#ifndef MTA_DELIVER_WALK_H
#define MTA_DELIVER_WALK_H

#include "mta/deliver/deliver_private.h"

struct walk;

struct walk_events {
    /* The next address. host and text are valid until the next call of walk_next. Also from inside
     * walk_next. */
    void (*on_address)(const char *host, const char *text, const struct sockaddr *address,
                       void *ctx);
    /* No further one. reason: why none of the hosts could even be tried (DNS, loop), or NONE if
     * some were. */
    void (*on_exhausted)(const struct mail_outcome *reason, void *ctx);
};

struct walk *walk_new(struct worker *worker, struct settings *settings,
                      const struct site_target *target, const struct walk_events *events,
                      void *ctx);
/* Exactly one event follows. Not to be called from inside on_exhausted. */
void walk_next(struct walk *walk);
void walk_free(struct walk **walkp);

#endif
