/* mta/mtactl/link.h - the connection to mtad's control socket. Blocks. */
#ifndef MTA_MTACTL_LINK_H
#define MTA_MTACTL_LINK_H

#include "mta/mtactl/reader.h"

struct ctl_link;

/**
 * Connect and ask.
 *
 * @param request   borrowed
 * @param patient   the daemon may go over its whole queue before the first word: wait without limit
 *                  (else 30 s between any two words)
 * @param error     what to look at, in words
 * @return 0; -1: the daemon is not reachable
 */
MUST_USE int ctl_link_open(const char *path, const json_t *request, bool patient,
                           struct ctl_link **link_out, char *error, size_t error_size);

/* The next event, never CTL_MORE. A daemon that goes away or falls silent is CTL_BROKEN. */
enum ctl_event ctl_link_next(struct ctl_link *link, struct ctl_answer *answer_out);

void ctl_link_close(struct ctl_link **linkp);

#endif
