/* mta/base/time.h - the two clocks and their text forms. */
#ifndef MTA_BASE_TIME_H
#define MTA_BASE_TIME_H

#include "mta/base/str.h"

uint64_t time_monotonic_ms(void);
int64_t time_wall_ms(void); /* since the epoch */

#define TIME_TEXT_MAX 40
/* "2026-11-25T00:52:06.123Z" */
void time_iso(int64_t unix_ms, char text[TIME_TEXT_MAX]);
/* "Wed, 25 Nov 2026 00:52:06 +0000" (RFC 5322 section 3.3), local zone offset, independent of the
 * locale */
void time_rfc5322(int64_t unix_ms, char text[TIME_TEXT_MAX]);

#endif
