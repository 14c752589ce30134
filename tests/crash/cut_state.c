/* tests/crash/cut_state.c - what an act makes of a message. */
#include "tests/crash/cut_state.h"

#include <string.h>
#include <time.h>

static bool is_open(uint8_t state)
{
    return state == QUEUE_RCPT_WAITING || state == QUEUE_RCPT_BOUNCE_PENDING;
}

void cut_state_begin(struct cut_state *state)
{
    memset(state, 0, sizeof *state);
    state->there = true;
}

static bool is_of(const struct cut_note *act, uint16_t unit)
{
    return act->unit == CUT_ALL_UNITS || act->unit == unit;
}

/* The state that a recipient gets; `old` if the act does not change it. */
static uint8_t new_state(const struct cut_note *act, size_t number, uint8_t old)
{
    switch ((enum cut_act)act->act) {
    case CUT_ACT_DELIVER:
        return QUEUE_RCPT_DELIVERED;
    case CUT_ACT_MIXED:
        return number % 2 == 0 ? QUEUE_RCPT_DELIVERED : old;
    case CUT_ACT_FAIL:
        return QUEUE_RCPT_FAILED;
    case CUT_ACT_BOUNCE:
        return QUEUE_RCPT_BOUNCE_PENDING;
    case CUT_ACT_DELETE:
        return QUEUE_RCPT_REMOVED;
    case CUT_ACT_PARK:
    case CUT_ACT_DEFER:
    case CUT_ACT_HOLD:
    case CUT_ACT_RELEASE:
    case CUT_ACT_RETRY:
        return old;
    }
    return old;
}

/* Was an attempt made on the recipient? */
static bool is_try(const struct cut_note *act, uint8_t old)
{
    if (act->act == CUT_ACT_BOUNCE)
        return old == QUEUE_RCPT_WAITING;
    return act->act == CUT_ACT_DELIVER || act->act == CUT_ACT_DEFER || act->act == CUT_ACT_MIXED ||
           act->act == CUT_ACT_FAIL;
}

static void act_on_rcpts(struct cut_state *state, const struct cut_mail *mail,
                         const struct cut_note *act, bool changed[CUT_UNITS_MAX])
{
    for (size_t i = 0; i < mail->envelope.recipient_count; i++) {
        uint16_t unit = mail->recipients[i].unit;
        uint8_t old = state->rcpts[i];
        if (!is_open(old) || !is_of(act, unit))
            continue;
        state->rcpts[i] = new_state(act, i, old);
        state->tries[i] = (uint8_t)(state->tries[i] + (is_try(act, old) ? 1 : 0));
        changed[unit] = changed[unit] || state->rcpts[i] != old;
    }
}

static void act_on_unit(struct cut_state *state, size_t unit, const struct cut_note *act,
                        bool changed)
{
    switch ((enum cut_act)act->act) {
    case CUT_ACT_PARK:
        state->units[unit].due_unix_ms = act->due_unix_ms;
        break;
    case CUT_ACT_DELIVER:
    case CUT_ACT_DEFER:
    case CUT_ACT_MIXED:
    case CUT_ACT_FAIL:
        state->units[unit].attempts++;
        state->units[unit].due_unix_ms = act->due_unix_ms;
        break;
    case CUT_ACT_HOLD:
        state->units[unit].held = true;
        break;
    case CUT_ACT_RELEASE:
        if (state->units[unit].held)
            state->units[unit].due_unix_ms = CUT_DUE_NOW;
        state->units[unit].held = false;
        break;
    case CUT_ACT_RETRY:
        if (!state->units[unit].held && state->units[unit].due_unix_ms != 0)
            state->units[unit].due_unix_ms = CUT_DUE_NOW;
        break;
    case CUT_ACT_BOUNCE:
        state->units[unit].held = false;
        state->units[unit].due_unix_ms = CUT_DUE_NOW;
        state->units[unit].attempts += changed ? 1 : 0;
        break;
    case CUT_ACT_DELETE:
        break;
    }
}

void cut_state_act(struct cut_state *state, const struct cut_mail *mail, const struct cut_note *act)
{
    bool changed[CUT_UNITS_MAX] = {false};
    size_t open[CUT_UNITS_MAX] = {0};
    if (!state->there)
        return;
    act_on_rcpts(state, mail, act, changed);
    for (size_t i = 0; i < mail->envelope.recipient_count; i++)
        open[mail->recipients[i].unit] += is_open(state->rcpts[i]) ? 1 : 0;
    state->there = false;
    for (size_t u = 0; u < mail->unit_count; u++) {
        if (!state->units[u].done && is_of(act, (uint16_t)u))
            act_on_unit(state, u, act, changed[u]);
        state->units[u].done = open[u] == 0;
        state->there = state->there || open[u] > 0;
    }
    state->prefix = state->prefix || act->prefix;
}

void cut_state_read(struct cut_state *state, const struct queue_envelope *envelope)
{
    memset(state, 0, sizeof *state);
    state->there = true;
    state->prefix = envelope->prefix != NULL && envelope->prefix[0] != '\0';
    for (size_t u = 0; u < envelope->unit_count && u < CUT_UNITS_MAX; u++) {
        state->units[u].due_unix_ms = envelope->units[u].due_unix_ms;
        state->units[u].attempts = envelope->units[u].attempts;
        state->units[u].held = envelope->units[u].held;
        state->units[u].done = envelope->units[u].done;
    }
    for (size_t i = 0; i < envelope->recipient_count && i < CUT_RCPTS_MAX; i++) {
        state->rcpts[i] = (uint8_t)envelope->recipients[i].state;
        state->tries[i] = (uint8_t)envelope->recipients[i].attempts;
    }
}

static bool unit_agrees(const struct cut_state *found, const struct cut_state *want, size_t unit)
{
    struct timespec now;
    int64_t due = found->units[unit].due_unix_ms;
    if (found->units[unit].done != want->units[unit].done)
        return false;
    if (want->units[unit].done)
        return true;
    if (found->units[unit].attempts != want->units[unit].attempts ||
        found->units[unit].held != want->units[unit].held)
        return false;
    if (want->units[unit].held)
        return due == QUEUE_NEVER;
    if (want->units[unit].due_unix_ms != CUT_DUE_NOW)
        return due == want->units[unit].due_unix_ms;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return due > 0 && due <= (int64_t)now.tv_sec * 1000 + 1000;
}

static bool rcpt_agrees(const struct cut_state *found, const struct cut_state *want, size_t i)
{
    return found->rcpts[i] == want->rcpts[i] && found->tries[i] == want->tries[i];
}

bool cut_state_agrees(const struct cut_state *found, const struct cut_state *want,
                      const struct cut_mail *mail)
{
    if (!want->there || found->prefix != want->prefix)
        return false;
    return cut_state_between(found, want, want, mail);
}

bool cut_state_between(const struct cut_state *found, const struct cut_state *before,
                       const struct cut_state *after, const struct cut_mail *mail)
{
    for (size_t u = 0; u < mail->unit_count; u++) {
        if (!unit_agrees(found, before, u) && !unit_agrees(found, after, u))
            return false;
    }
    for (size_t i = 0; i < mail->envelope.recipient_count; i++) {
        if (!rcpt_agrees(found, before, i) && !rcpt_agrees(found, after, i))
            return false;
    }
    return true;
}
