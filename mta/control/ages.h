/* mta/control/ages.h - a table of names by age: how many of each, in columns of minutes. Memory is
 * bounded whatever the number of names. Pure. */
#ifndef MTA_CONTROL_AGES_H
#define MTA_CONTROL_AGES_H

#include "mta/base/str.h"

#define AGES_COLUMNS 10 /* younger than 5, 10, 20 ... 1280 minutes; older */
extern const unsigned ages_minutes[AGES_COLUMNS - 1];

struct ages;

struct ages_row {
    const char *name; /* lower case; borrowed from the table until the next ages_add */
    uint64_t total;
    uint64_t counts[AGES_COLUMNS];
};

/* Keeps at most so many names (2 or more). When one more comes, the half with the least is counted
 * as others, so that a name with a large share is in the table however late it comes. */
struct ages *ages_new(size_t names_max);
void ages_free(struct ages **agesp);

/* name: any bytes but NUL; 255 count, and case does not. */
void ages_add(struct ages *ages, struct str name, int64_t age_s);

void ages_total(const struct ages *ages, struct ages_row *total_out); /* name "" */
/* The largest first, of equals the first by name, at most max. @return how many */
size_t ages_rows(struct ages *ages, struct ages_row *rows_out, size_t max);
/* All that these rows, as ages_rows gave them, leave over. names_out: of so many names; if names
 * had to make room (true is returned), of at least so many, and rows of few may miss some. */
bool ages_others(const struct ages *ages, const struct ages_row *rows, size_t count,
                 struct ages_row *others_out, uint64_t *names_out);

#endif
