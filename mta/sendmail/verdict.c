/* mta/sendmail/verdict.c - see verdict.h. */
#include "mta/sendmail/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

int sendmail_fail(struct sendmail_verdict *verdict, int code, const char *format, ...)
{
    va_list args;
    verdict->code = code;
    va_start(args, format);
    (void)vsnprintf(verdict->text, sizeof verdict->text, format, args);
    va_end(args);
    for (char *p = verdict->text; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    return -1;
}

/* RFC 3463. The longest prefix that fits stands first. */
static const struct status_row {
    const char *status;
    int code;
} status_rows[] = {
    {"5.1.2", EX_NOHOST}, {"5.1.3", EX_DATAERR}, {"5.1.7", EX_DATAERR},     {"5.1.8", EX_DATAERR},
    {"5.1.", EX_NOUSER},  {"5.2.", EX_NOUSER},   {"5.5.4", EX_UNAVAILABLE}, {"5.5.", EX_PROTOCOL},
    {"5.6.", EX_DATAERR}, {"5.7.", EX_NOPERM},
};

int sendmail_reply_code(const struct smtp_reply *reply)
{
    if (reply->code / 100 == 4)
        return EX_TEMPFAIL;
    if (reply->code / 100 != 5)
        return EX_PROTOCOL;
    for (size_t i = 0; i < sizeof status_rows / sizeof status_rows[0]; i++) {
        const char *status = status_rows[i].status;
        bool prefix = status[strlen(status) - 1] == '.';
        if (prefix ? strncmp(reply->status, status, strlen(status)) == 0
                   : strcmp(reply->status, status) == 0)
            return status_rows[i].code;
    }
    return EX_UNAVAILABLE;
}

int sendmail_fail_reply(struct sendmail_verdict *verdict, const char *command,
                        const struct smtp_reply *reply)
{
    return sendmail_fail(verdict, sendmail_reply_code(reply), "%s: %u%s%s %s", command,
                         (unsigned)reply->code, reply->status[0] != '\0' ? " " : "", reply->status,
                         reply->text);
}
