/* mta/mtactl/words.c - see words.h. */
#include "mta/mtactl/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MINUTE_S  60U
#define HOUR_S    3600U
#define DAY_S     86400U
#define LONGEST_S ((uint64_t)100 * 365 * DAY_S)

/* ---- durations ---- */

static uint64_t unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return MINUTE_S;
    case 'h':
        return HOUR_S;
    case 'd':
        return DAY_S;
    default:
        return 0;
    }
}

bool ctl_duration_parse(struct str text, uint64_t *seconds_out)
{
    uint64_t number = 0;
    if (text.len < 2)
        return false;
    uint64_t unit = unit_seconds(text.p[text.len - 1]);
    if (unit == 0 || !str_parse_u64((struct str){text.p, text.len - 1}, LONGEST_S, &number) ||
        number == 0 || number > LONGEST_S / unit)
        return false;
    *seconds_out = number * unit;
    return true;
}

/* The second part is left out where it is zero: "3h", not "3h0m". */
static void two_parts(char out[CTL_WORDS_MAX], uint64_t big, char big_unit, uint64_t small,
                      char small_unit)
{
    if (small == 0)
        (void)snprintf(out, CTL_WORDS_MAX, "%" PRIu64 "%c", big, big_unit);
    else
        (void)snprintf(out, CTL_WORDS_MAX, "%" PRIu64 "%c%" PRIu64 "%c", big, big_unit, small,
                       small_unit);
}

void ctl_duration_words(uint64_t seconds, char out[CTL_WORDS_MAX])
{
    if (seconds < MINUTE_S)
        two_parts(out, seconds, 's', 0, 's');
    else if (seconds < HOUR_S)
        two_parts(out, seconds / MINUTE_S, 'm', 0, 's');
    else if (seconds < 2 * (uint64_t)DAY_S)
        two_parts(out, seconds / HOUR_S, 'h', seconds % HOUR_S / MINUTE_S, 'm');
    else if (seconds < 1000 * (uint64_t)DAY_S)
        two_parts(out, seconds / DAY_S, 'd', seconds % DAY_S / HOUR_S, 'h');
    else
        two_parts(out, seconds / DAY_S, 'd', 0, 'h');
}

void ctl_next_words(int64_t due_unix_ms, int64_t now_unix_ms, char out[CTL_WORDS_MAX])
{
    char length[CTL_WORDS_MAX];
    if (due_unix_ms <= now_unix_ms) {
        (void)snprintf(out, CTL_WORDS_MAX, "now");
        return;
    }
    ctl_duration_words((uint64_t)(due_unix_ms - now_unix_ms + 999) / 1000, length);
    (void)snprintf(out, CTL_WORDS_MAX, "in %.*s", CTL_WORDS_MAX - 4, length);
}

/* ---- sizes and numbers ---- */

void ctl_size_words(uint64_t bytes, char out[CTL_WORDS_MAX])
{
    static const char units[] = "KMGTPE";
    if (bytes < 1000) {
        (void)snprintf(out, CTL_WORDS_MAX, "%" PRIu64, bytes);
        return;
    }
    size_t unit = 0;
    double value = (double)bytes / 1024;
    while (value >= 999.5 && unit + 2 < sizeof units) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, CTL_WORDS_MAX, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

void ctl_number_words(uint64_t number, char out[CTL_WORDS_MAX])
{
    char digits[CTL_WORDS_MAX];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, number);
    size_t to = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
}

/* ---- times ---- */

bool ctl_time_parse(const char *text, int64_t *unix_ms_out)
{
    static const char pattern[] = "0000-00-00T00:00:00.000Z";
    int part[7] = {0};
    size_t field = 0;
    if (strlen(text) != sizeof pattern - 1)
        return false;
    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (pattern[i] != '0' ? text[i] != pattern[i] : !digit)
            return false;
        if (digit)
            part[field] = part[field] * 10 + (text[i] - '0');
        else
            field++;
    }
    struct tm tm = {.tm_year = part[0] - 1900,
                    .tm_mon = part[1] - 1,
                    .tm_mday = part[2],
                    .tm_hour = part[3],
                    .tm_min = part[4],
                    .tm_sec = part[5]};
    *unix_ms_out = (int64_t)timegm(&tm) * 1000 + part[6];
    return true;
}
