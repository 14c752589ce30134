/* mta/base/log_private.h - how a line looks (log_line.c), for the thread that writes it (log.c). */
#ifndef MTA_BASE_LOG_PRIVATE_H
#define MTA_BASE_LOG_PRIVATE_H

#include "mta/base/log.h"

/* Ten fields of 1,024 octets each, every one escaped six-fold. What would be longer is cut. */
#define LOG_LINE_MAX ((size_t)65536)

/* One line with its LF, not NUL-terminated. Pure. @return its length, at most LOG_LINE_MAX */
size_t log_line_format(char line[LOG_LINE_MAX], enum log_format format, enum log_level level,
                       int64_t unix_ms, const char *event, const struct log_field *fields,
                       size_t count);

#endif
