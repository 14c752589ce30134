/* mta/control/scanner.h - one thread for work that looks at very many messages, so that the main
 * loop (signals, accepting, this socket) stays free. Jobs run one at a time, in the order in which
 * they were added; a long walk adds itself again after each step, so that several walks share the
 * thread fairly. */
#ifndef MTA_CONTROL_SCANNER_H
#define MTA_CONTROL_SCANNER_H

#include <uv.h>

#include "mta/base/str.h"

struct scanner;

struct scanner_job {
    void (*work)(struct scanner_job *job); /* on the scanner's thread: some ms */
    void (*done)(struct scanner_job *job); /* afterwards, on the loop; may add the job again */
    struct scanner_job *next;              /* the scanner's own */
};

/* @return 0; -1: no thread */
MUST_USE int scanner_start(uv_loop_t *loop, struct scanner **scanner_out);
/* The loop's thread. The job is lent until its done(). */
void scanner_add(struct scanner *scanner, struct scanner_job *job);
/* The loop's thread. Waits for the job at work; all jobs are given back without their done(). The
 * handle closes on the loop's next turn. */
void scanner_stop(struct scanner **scannerp);

#endif
