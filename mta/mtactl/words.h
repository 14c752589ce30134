/* mta/mtactl/words.h - durations, sizes and times as people write and read them. Pure. */
#ifndef MTA_MTACTL_WORDS_H
#define MTA_MTACTL_WORDS_H

#include "mta/base/str.h"

#define CTL_WORDS_MAX 32

/* "90s", "30m", "2h", "3d": a whole number from 1 on and one unit, at most 100 years.
 * @return false: something else */
MUST_USE bool ctl_duration_parse(struct str text, uint64_t *seconds_out);

/* At most 7 columns: "42s", "17m", "3h12m", "4d3h", "1200d". */
void ctl_duration_words(uint64_t seconds, char out[CTL_WORDS_MAX]);
/* "in 4m"; "now" for what is due. */
void ctl_next_words(int64_t due_unix_ms, int64_t now_unix_ms, char out[CTL_WORDS_MAX]);
/* Bytes in at most 6 columns: "512", "4.1K", "50M". */
void ctl_size_words(uint64_t bytes, char out[CTL_WORDS_MAX]);
/* "1,204,311" */
void ctl_number_words(uint64_t number, char out[CTL_WORDS_MAX]);

/* "2026-11-25T00:52:06.123Z", as the daemon writes times. @return false: something else */
MUST_USE bool ctl_time_parse(const char *text, int64_t *unix_ms_out);

#endif
