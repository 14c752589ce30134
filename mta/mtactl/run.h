/* mta/mtactl/run.h - one command from its options to its output and exit code. */
#ifndef MTA_MTACTL_RUN_H
#define MTA_MTACTL_RUN_H

#include "mta/mtactl/options.h"

/* Talks to the daemon (or reads the configuration), prints to stdout and stderr. @return enum
 * ctl_exit */
int ctl_run(const struct ctl_options *options);

/* An error in the form asked for: {"error":text} on stdout, or words on stderr. */
void ctl_print_error(bool json, const char *text);

#endif
