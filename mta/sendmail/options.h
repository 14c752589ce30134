/* mta/sendmail/options.h - the command line of sendmail(1): argv in, one structure out. Pure. */
#ifndef MTA_SENDMAIL_OPTIONS_H
#define MTA_SENDMAIL_OPTIONS_H

#include "mta/base/str.h"

enum sendmail_mode {
    SENDMAIL_SEND,    /* -bm, the default: a message from standard input */
    SENDMAIL_SMTP,    /* -bs: SMTP on standard input and output */
    SENDMAIL_LIST,    /* -bp, or called as mailq */
    SENDMAIL_NOTHING, /* -q, -bi, -I, or called as newaliases: mtad does that by itself */
    SENDMAIL_HELP,
    SENDMAIL_VERSION,
};

/* All text is borrowed from argv. */
struct sendmail_options {
    enum sendmail_mode mode;
    bool from_header;  /* -t */
    bool ignore_dot;   /* -i, -oi */
    bool body_8bit;    /* -B 8BITMIME */
    const char *config; /* -C; NULL: not given */
    const char *sender; /* -f or -r, the last one; NULL: not given */
    const char *name;   /* -F; NULL: not given */
    const char *notify; /* -N as RFC 3461 writes it, "SUCCESS,DELAY"; "": not given */
    const char *ret;    /* -R: "FULL" or "HDRS"; NULL: not given */
    const char *envid;  /* -V; NULL: not given */
    char **recipients;  /* words of argv, addresses or lists of them */
    size_t recipient_count;
    char notify_text[64];
};

/**
 * Read the command line. Letters may be combined ("-ti"), values stand behind the letter or in the
 * next word ("-fanna", "-f anna", "-tif anna"); "--" ends the options. Options that steer another
 * vendor's delivery (-o..., -O, -e, -m, -v and the like) are read over.
 *
 * @return 0; -1: error says what is wrong, in one line (EX_USAGE)
 */
MUST_USE int sendmail_options_parse(int argc, char **argv, struct sendmail_options *options_out,
                                    char *error, size_t error_size);

/* What --help prints. */
const char *sendmail_help_text(void);

#endif
