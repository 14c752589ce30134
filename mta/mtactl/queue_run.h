/* mta/mtactl/queue_run.h - `mtactl queue ...`: looking after the queue, through mtad while it runs,
 * or in its folder while it does not. */
#ifndef MTA_MTACTL_QUEUE_RUN_H
#define MTA_MTACTL_QUEUE_RUN_H

#include "mta/mtactl/options.h"

/* Prints to stdout and stderr. @return enum ctl_exit */
int ctl_queue_run(const struct ctl_options *options);

#endif
