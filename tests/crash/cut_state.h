/* tests/crash/cut_state.h - the state of one message, and what an act makes of it: the queue's
 * rules once more, in their shortest form. */
#ifndef TESTS_CRASH_CUT_STATE_H
#define TESTS_CRASH_CUT_STATE_H

#include "tests/crash/cut_ledger.h"

#define CUT_DUE_NOW (-1) /* some time that has come */

struct cut_state {
    bool there;
    bool prefix;
    struct {
        int64_t due_unix_ms; /* 0: fresh; meaningless when held or done */
        uint32_t attempts;
        bool held;
        bool done;
    } units[CUT_UNITS_MAX];
    uint8_t rcpts[CUT_RCPTS_MAX]; /* enum queue_rcpt_state */
    uint8_t tries[CUT_RCPTS_MAX];
};

/* A message just accepted. */
void cut_state_begin(struct cut_state *state);
void cut_state_act(struct cut_state *state, const struct cut_mail *mail,
                   const struct cut_note *act);
void cut_state_read(struct cut_state *state, const struct queue_envelope *envelope);
/* Does what is found agree with what should be? */
bool cut_state_agrees(const struct cut_state *found, const struct cut_state *want,
                      const struct cut_mail *mail);
/* Is each part of it one of the two? For an admin's step that takes several transactions. */
bool cut_state_between(const struct cut_state *found, const struct cut_state *before,
                       const struct cut_state *after, const struct cut_mail *mail);

#endif
