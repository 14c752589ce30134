/* mta/mtactl/request.h - what the daemon is asked: one JSON object, see mta/control/README.md.
 * Pure. */
#ifndef MTA_MTACTL_REQUEST_H
#define MTA_MTACTL_REQUEST_H

#include <jansson.h>

#include "mta/mtactl/options.h"

/* The request of a command that the daemon does. id: one of options->ids, or NULL.
 * @return a new reference */
json_t *ctl_request_new(const struct ctl_options *options, const char *id);

#endif
