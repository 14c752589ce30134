/* mta/mtactl/progress.h - one line at the terminal that tells how far a long command is. */
#ifndef MTA_MTACTL_PROGRESS_H
#define MTA_MTACTL_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct ctl_progress {
    FILE *out; /* a terminal */
    bool shown;
};

/* The daemon's "progress" member. */
void ctl_progress_show(struct ctl_progress *progress, const json_t *values);
/* Before anything else is printed. */
void ctl_progress_clear(struct ctl_progress *progress);

#endif
