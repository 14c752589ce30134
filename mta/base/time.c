/* mta/base/time.c - the two clocks and their text forms. */
#include "mta/base/time.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DAY_MS       INT64_C(86400000)
#define YEAR_9999_MS INT64_C(253402300799999) /* the last time that four digits can tell */

uint64_t time_monotonic_ms(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(rc == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int64_t time_wall_ms(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    assert(rc == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t clamp(int64_t unix_ms)
{
    if (unix_ms < 0)
        return 0;
    return unix_ms < YEAR_9999_MS ? unix_ms : YEAR_9999_MS;
}

/* Gregorian date of a day since 1970-01-01. The year is counted from March, so that the leap day
 * is its last day; 719468 is the number of days from 0000-03-01 to 1970-01-01. */
static void date_of_day(uint32_t day, uint32_t *year_out, uint32_t *month_out, uint32_t *mday_out)
{
    uint32_t z = day + 719468;
    uint32_t era = z / 146097;
    uint32_t day_of_era = z % 146097;
    uint32_t year =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;

    *mday_out = day_of_year - (153 * march_month + 2) / 5 + 1;
    *month_out = march_month < 10 ? march_month + 3 : march_month - 9;
    *year_out = era * 400 + year + (*month_out <= 2 ? 1 : 0);
}

static char *put_digits(char *out, uint32_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + digits;
}

/* By hand because gmtime_r takes a process-wide lock in glibc, and every log line passes here. */
void time_iso(int64_t unix_ms, char text[TIME_TEXT_MAX])
{
    int64_t ms = clamp(unix_ms);
    uint32_t of_day = (uint32_t)(ms % DAY_MS);
    uint32_t year;
    uint32_t month;
    uint32_t mday;
    date_of_day((uint32_t)(ms / DAY_MS), &year, &month, &mday);

    char *p = put_digits(text, year, 4);
    *p++ = '-';
    p = put_digits(p, month, 2);
    *p++ = '-';
    p = put_digits(p, mday, 2);
    *p++ = 'T';
    p = put_digits(p, of_day / 3600000, 2);
    *p++ = ':';
    p = put_digits(p, of_day / 60000 % 60, 2);
    *p++ = ':';
    p = put_digits(p, of_day / 1000 % 60, 2);
    *p++ = '.';
    p = put_digits(p, of_day % 1000, 3);
    *p++ = 'Z';
    *p = '\0';
}

void time_rfc5322(int64_t unix_ms, char text[TIME_TEXT_MAX])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(clamp(unix_ms) / 1000);
    struct tm tm;
    bool local = localtime_r(&seconds, &tm) != NULL;
    assert(local); /* it fails only for years that an int cannot hold */

    char sign = tm.tm_gmtoff < 0 ? '-' : '+';
    unsigned offset_min = (unsigned)(labs(tm.tm_gmtoff) / 60 % (24L * 60));
    (void)snprintf(text, TIME_TEXT_MAX, "%s, %02d %s %04d %02d:%02d:%02d %c%02u%02u",
                   days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                   tm.tm_min, tm.tm_sec, sign, offset_min / 60, offset_min % 60);
}
