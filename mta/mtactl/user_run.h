/* mta/mtactl/user_run.h - `mtactl user ...`: who may log in. Works in the users file itself, with or without
 * mtad. */
#ifndef MTA_MTACTL_USER_RUN_H
#define MTA_MTACTL_USER_RUN_H

#include "mta/mtactl/options.h"

/* Reads a password from stdin where it needs one, prints to stdout and stderr. @return enum ctl_exit */
int ctl_user_run(const struct ctl_options *options);

#endif
