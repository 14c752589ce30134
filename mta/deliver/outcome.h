/* mta/deliver/outcome.h - what became of one recipient in one attempt, as a value. */
#ifndef MTA_DELIVER_OUTCOME_H
#define MTA_DELIVER_OUTCOME_H

#include "mta/base/str.h"

enum outcome_kind {
    OUTCOME_NONE,      /* nothing known yet */
    OUTCOME_DELIVERED, /* 2xx to the final dot */
    OUTCOME_DEFERRED,  /* try again by the schedule */
    OUTCOME_FAILED,    /* for good: bounce */
    OUTCOME_ANOTHER, /* refused only because the transaction was full: send in a further one at once
                      */
};

struct mail_outcome {
    enum outcome_kind kind;
    uint16_t code;   /* SMTP reply code, 0: no reply */
    char status[12]; /* RFC 3463, always set once kind is not NONE */
    char *text; /* owned; the peer's words (raw bytes) or ours, never NULL once kind is not NONE */
};

/* Sets everything; text is copied. `outcome` may hold an earlier value (its text is freed). */
void outcome_set(struct mail_outcome *outcome, enum outcome_kind kind, uint16_t code,
                 const char *status, const char *text);
void outcome_copy(struct mail_outcome *to, const struct mail_outcome *from);
void outcome_clear(struct mail_outcome *outcome);

#endif
