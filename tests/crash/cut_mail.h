/* tests/crash/cut_mail.h - the messages of the power-cut test: content and envelope follow from the
 * id, so that what is found after a cut can be compared without having kept anything. */
#ifndef TESTS_CRASH_CUT_MAIL_H
#define TESTS_CRASH_CUT_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/queue.h"

#define CUT_MAIL_MAX   ((size_t)3 << 20)
#define CUT_RCPTS_MAX  80
#define CUT_UNITS_MAX  3
#define CUT_DOMAINS    8
#define CUT_HOME       "origin.example" /* where bounces go */
#define CUT_BOUNCE_LEN 700

struct cut_mail {
    struct queue_envelope envelope;
    struct queue_recipient recipients[CUT_RCPTS_MAX]; /* with their units */
    const char *units[CUT_UNITS_MAX];                 /* domains */
    size_t unit_count;
    char sender[64];
    char addresses[CUT_RCPTS_MAX][64];
};

/* What the message of this id is like. */
void cut_mail_make(struct cut_mail *mail, uint64_t id, uint64_t size);
/* The bounce that tells of a unit's end; its id does not matter. */
void cut_mail_make_bounce(struct cut_mail *mail, uint64_t origin, uint16_t unit);
/* From the recipient of such a bounce. @return false: it is none */
bool cut_mail_is_bounce(const struct queue_envelope *envelope, uint64_t *origin_out,
                        uint16_t *unit_out);

/* len bytes at `at` of the content that belongs to key (an id; for a bounce cut_mail_bounce_key).
 */
void cut_mail_fill(uint64_t key, uint64_t at, void *out, size_t len);
uint64_t cut_mail_bounce_key(uint64_t origin, uint16_t unit);

/* The signature kept with a deferral. */
void cut_mail_prefix(uint64_t id, char out[128]);

/* NULL, or what differs between the envelope read and the one made. States are not looked at. */
const char *cut_mail_differs(const struct cut_mail *mail, const struct queue_envelope *read);

#endif
