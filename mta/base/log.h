/* mta/base/log.h - events, one a line, as JSON or text. Any thread: a line is formatted by the
 * caller into a bounded ring (4 MiB) and written by a log thread of its own, so a stalled pipe
 * never stalls mail; what does not fit is dropped and counted, and the count is logged when there
 * is room again. All values are escaped: JSON rules; bytes that are not valid UTF-8 and control
 * bytes become \u00XX (JSON) or \xXX (text). Values are cut at 1,024 octets. Keys are an interface
 * (DESIGN: Log). */
#ifndef MTA_BASE_LOG_H
#define MTA_BASE_LOG_H

#include "mta/base/str.h"

enum log_format { LOG_JSON, LOG_TEXT };
enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

struct log_options {
    enum log_format format;
    enum log_level level;
    enum log_target target;
    const char *file;
};

struct log;

/* Opens the target and starts the log thread. @return 0; -1 with a text in error */
MUST_USE int log_open(const struct log_options *options, struct log **log_out, char *error,
                      size_t error_size);
/* Reopens the file (rotation) or changes target, format and level (reload). On failure the old
 * target stays. */
MUST_USE int log_reopen(struct log *log, const struct log_options *options, char *error,
                        size_t error_size);
/* Lines that were dropped since the start. Any thread. */
uint64_t log_dropped(struct log *log);
void log_close(struct log **logp); /* writes what waits (2 s at most), ends the thread */

enum log_type { LOG_END, LOG_TYPE_STR, LOG_TYPE_INT, LOG_TYPE_MS };
struct log_field {
    const char *key;
    enum log_type type;
    struct str text;
    int64_t number;
};
#define LOG_S(k, s) ((struct log_field){(k), LOG_TYPE_STR, (s), 0})         /* struct str */
#define LOG_T(k, t) ((struct log_field){(k), LOG_TYPE_STR, str_from(t), 0}) /* NUL-terminated */
#define LOG_I(k, n) ((struct log_field){(k), LOG_TYPE_INT, {0, 0}, (n)})
/* Milliseconds, written as seconds with three decimals: 1.042 */
#define LOG_SECONDS(k, ms) ((struct log_field){(k), LOG_TYPE_MS, {0, 0}, (ms)})

/* A line {"time":"2026-11-25T00:52:06.123Z","event":...,"level":...,fields}. Empty strings are left
 * out. `log` may be NULL (tests). */
void log_event_fields(struct log *log, enum log_level level, const char *event,
                      const struct log_field *fields, size_t count);
#define log_event(log, level, event, ...)                                                          \
    log_event_fields((log), (level), (event), (const struct log_field[]){__VA_ARGS__},             \
                     sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* For lines that can come in floods. Zero it at first. Any thread. */
struct log_pace {
    _Atomic uint64_t told_ms;
    _Atomic uint64_t left_out;
};
/* May one be written now? At most one a second. left_out_out: how many were not, since the last */
MUST_USE bool log_pace(struct log_pace *pace, int64_t *left_out_out);

/* Bytes for a terminal or a one-line text: control and non-UTF-8 bytes become \xXX. Always
 * NUL-terminates. */
void log_escape(struct str s, char *out, size_t size);

#endif
