/* mta/mtactl/queue_private.h - what the files of `mtactl queue` share. */
#ifndef MTA_MTACTL_QUEUE_PRIVATE_H
#define MTA_MTACTL_QUEUE_PRIVATE_H

#include <jansson.h>

#include "mta/mtactl/options.h"

/* ---- queue_file.c: a file that is there whole or not at all ---- */
struct ctl_file {
    const char *path; /* borrowed */
    char *part;       /* FILE.part, until it is whole */
    int fd;           /* -1: none */
    uint64_t bytes;
    int failure; /* errno of the first write that failed */
};
/* @return 0; -1: error has the words */
MUST_USE int ctl_file_begin(struct ctl_file *file, const char *path, char *error, size_t size);
/* @return false: it cannot be written, file->failure tells */
MUST_USE bool ctl_file_add(struct ctl_file *file, const void *bytes, size_t len);
/* Sync it and give it its name. @return 0; -1: error has the words */
MUST_USE int ctl_file_end(struct ctl_file *file, char *error, size_t size);
/* Also after the end: what is not whole is removed. */
void ctl_file_close(struct ctl_file *file);

/* ---- queue_local.c: without mtad; each prints and @return enum ctl_exit ---- */
int ctl_local_check(const struct ctl_options *options, const char *folder);
int ctl_local_backup(const struct ctl_options *options, const char *folder);
int ctl_local_restore(const struct ctl_options *options, const char *folder);

/* ---- queue_print.c ---- */
/* An object of the answer: a line, or the result at the end. */
void ctl_queue_print(const struct ctl_options *options, const json_t *object);

#endif
