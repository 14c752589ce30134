/* tests/crash/cut_ledger.h - what must hold after a power cut: built from the marks that the
 * working process put into the record, compared with a queue that was opened on what the cut left.
 */
#ifndef TESTS_CRASH_CUT_LEDGER_H
#define TESTS_CRASH_CUT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/queue.h"
#include "tests/crash/cut_mail.h"

enum cut_step {
    CUT_STEP_BEGUN = 1, /* id and size: pieces go to the queue from now on */
    CUT_STEP_HANDED_IN, /* commit is asked for: it may be there from now on */
    CUT_STEP_ABORTED,   /* it must not be there */
    CUT_STEP_ACCEPTED,  /* the queue said so, or told that it is fresh: it must be there */
    CUT_STEP_REFUSED,   /* the queue said that nothing is stored: it must not be there */
    CUT_STEP_UNSURE,    /* undecided: it may be there for good */
    CUT_STEP_BOUNCE_ID, /* the bounce of origin and unit has this id */
    CUT_STEP_ACT,       /* something is asked for: may have happened from now on */
    CUT_STEP_ACT_DONE,  /* the queue said so */
    CUT_STEP_ACT_VOID,  /* the queue said that it changed nothing, or failed */
};

enum cut_act {
    CUT_ACT_PARK,    /* to due_unix_ms; the queue does not say when it is done */
    CUT_ACT_DELIVER, /* every recipient of the unit that waits */
    CUT_ACT_DEFER,   /* all of them, to due_unix_ms */
    CUT_ACT_MIXED,   /* those of even number are delivered, the others deferred */
    CUT_ACT_FAIL,    /* all of them; a bounce comes into being */
    CUT_ACT_HOLD,    /* an admin's: the unit, or all with CUT_ALL_UNITS */
    CUT_ACT_RELEASE,
    CUT_ACT_RETRY,
    CUT_ACT_BOUNCE,
    CUT_ACT_DELETE,
};
#define CUT_ALL_UNITS UINT16_MAX

struct cut_note { /* a mark */
    uint32_t step;
    uint32_t number; /* of the act */
    uint64_t id;
    uint64_t origin;
    int64_t due_unix_ms;
    uint32_t size;
    uint16_t unit;
    uint8_t act;
    bool prefix; /* the act keeps a signature */
};

struct cut_ledger;

struct cut_ledger *cut_ledger_new(void);
struct cut_ledger *cut_ledger_copy(const struct cut_ledger *ledger);
void cut_ledger_free(struct cut_ledger **ledgerp);
void cut_ledger_note(struct cut_ledger *ledger, const struct cut_note *note);

struct cut_numbers { /* what a comparison saw */
    size_t expected, present, bounces, pending;
};

/**
 * Compare with an open queue that nobody else uses.
 *
 * adopt: what is found is taken as the truth from now on, for another life of the queue.
 * @return whether all holds; if not, error says what does not
 */
bool cut_ledger_compare(struct cut_ledger *ledger, struct queue *queue, bool adopt,
                        struct cut_numbers *numbers_out, char *error, size_t error_size);

#endif
