/* mta/deliver/settle.c - outcomes to the store, the log and the bounce.
 *
 * A settling owns its delivery until the writer has committed what became of it. A bounce that does
 * not fit is left pending; an I/O error is tried again with a growing pause: what was delivered
 * must not be forgotten while we live. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/delivery.h"
#include "mta/deliver/retry.h"

#define AGAIN_FIRST_MS        200
#define AGAIN_MOST_MS         10000
#define BOUNCE_AGAIN_MS       60000
#define BOUNCE_NEXT_MS        1000
#define BOUNCE_RECIPIENTS_MAX 200 /* in one DSN; further ones follow at once in the next */

struct settling {
    struct delivery *delivery;
    settle_fn on_done;
    void *ctx;
    struct queue_rcpt_outcome *recipients;
    struct queue_attempt *attempts;
    size_t count;
    int64_t due_unix_ms;
    struct bounce *bounce;
    size_t put_off; /* failed recipients whose notification follows this one */
    bool warns;     /* `bounce` tells of the delay only */
    uv_timer_t timer;
    bool timer_open;
    uint64_t pause_ms;
};

static void free_settling(struct settling *s)
{
    bounce_free(&s->bounce);
    delivery_free(&s->delivery);
    free(s->recipients);
    free(s->attempts);
    free(s);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free_settling(handle->data);
}

/* recorded: what the store says of the unit is what became of it. */
static void finish(struct settling *s, bool recorded)
{
    struct worker *worker = s->delivery->worker;
    /* If it took so long that the next attempt is due by now, a draw may have passed it by because
     * it was still with us. */
    bool overdue = s->due_unix_ms <= time_wall_ms();
    if (recorded && !overdue)
        scheduler_finish(worker->deliver->scheduler, s->delivery->unit);
    else
        scheduler_forget(worker->deliver->scheduler, s->delivery->unit);
    settle_fn on_done = s->on_done;
    void *ctx = s->ctx;
    if (s->timer_open)
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    else
        free_settling(s);
    worker->recording--;
    if (on_done != NULL)
        on_done(ctx);
    worker_check_stopped(worker);
}

static void record(struct settling *s);
static void record_later(struct settling *s, int result);
static void bounce_put_off(struct settling *s);
static void log_outcome(const struct settling *s, size_t index, enum queue_rcpt_state state,
                        int64_t now);

static void on_again(uv_timer_t *timer)
{
    record(timer->data);
}

/* The failed recipients wait, with their outcome, until a DSN fits into the queue. */
static void leave_bounce_pending(struct settling *s)
{
    bounce_free(&s->bounce);
    s->put_off = 0;
    if (s->due_unix_ms ==
        QUEUE_NEVER) /* else with the next attempt: who waits keeps its schedule */
        s->due_unix_ms = time_wall_ms() + BOUNCE_AGAIN_MS;
    for (size_t i = 0; i < s->count; i++) {
        enum queue_rcpt_state state = s->recipients[i].state;
        if (state == QUEUE_RCPT_FAILED || state == QUEUE_RCPT_EXPIRED)
            s->recipients[i].state = QUEUE_RCPT_BOUNCE_PENDING;
    }
}

static void log_unrecordable(const struct settling *s, int result, const char *text)
{
    char id[QUEUE_ID_TEXT];
    queue_id_text(s->delivery->unit->id, id);
    log_event(s->delivery->worker->deliver->log, LOG_LEVEL_ERROR, "queue", LOG_T("id", id),
              LOG_T("error", queue_error_text(result)), LOG_T("text", text));
}

/* An admin's bounce is told when it is made: until it fits it is tried over and over. */
static void log_by_admin(const struct settling *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct queue_rcpt_outcome *recipient = &s->recipients[i];
        if (recipient->attempt == NULL && recipient->state == QUEUE_RCPT_FAILED)
            log_outcome(s, recipient->recipient, recipient->state, time_wall_ms());
    }
}

/* FULL: there will be room again. LIMIT: the notification is what does not fit, and never will. */
static void record_without_bounce(struct settling *s, int result)
{
    if (s->warns) { /* the next deferral tells */
        s->warns = false;
        bounce_free(&s->bounce);
    } else if (result == QUEUE_ERR_FULL) {
        leave_bounce_pending(s);
    } else {
        log_unrecordable(s, result, "no bounce could be made");
        bounce_free(&s->bounce);
    }
    record(s);
}

static void on_recorded(int result, void *ctx)
{
    struct settling *s = ctx;
    struct worker *worker = s->delivery->worker;
    if (result == QUEUE_OK && s->delivery->by_admin)
        log_by_admin(s);
    if (result == QUEUE_OK && s->put_off > 0) {
        bounce_put_off(s);
        return;
    }
    if (result == QUEUE_OK || result == QUEUE_ERR_CLOSED || result == QUEUE_ERR_DAMAGED) {
        finish(s, result == QUEUE_OK);
        return;
    }
    if ((result == QUEUE_ERR_FULL || result == QUEUE_ERR_LIMIT) && s->bounce != NULL) {
        record_without_bounce(s, result);
        return;
    }
    if (result == QUEUE_ERR_LIMIT) {
        log_unrecordable(s, result, "an outcome could not be recorded");
        finish(s, false);
        return;
    }
    if (worker->stopping) { /* the store has the state before the attempt: it is repeated, not lost
                             */
        finish(s, false);
        return;
    }
    record_later(s, result);
}

static void record_later(struct settling *s, int result)
{
    struct worker *worker = s->delivery->worker;
    if (!s->timer_open) {
        uv_timer_init(loop_uv(worker->loop), &s->timer);
        s->timer.data = s;
        s->timer_open = true;
    }
    s->pause_ms = s->pause_ms == 0 ? AGAIN_FIRST_MS : s->pause_ms * 2;
    if (s->pause_ms > AGAIN_MOST_MS)
        s->pause_ms = AGAIN_MOST_MS;
    int64_t left_out = 0;
    if (log_pace(&worker->deliver->unrecorded, &left_out))
        log_unrecordable(s, result, "an outcome could not be recorded; trying again");
    uv_timer_start(&s->timer, on_again, s->pause_ms, 0);
}

static void record(struct settling *s)
{
    struct delivery *d = s->delivery;
    struct queue_outcome outcome = {
        .id = d->unit->id,
        .unit = d->unit->number,
        .recipients = s->recipients,
        .recipient_count = s->count,
        .due_unix_ms = s->due_unix_ms,
        .count_attempt = d->count_attempt,
        .prefix = s->due_unix_ms != QUEUE_NEVER ? d->prefix : NULL,
        .warned = s->warns,
        .bounce = s->bounce != NULL ? bounce_queue(s->bounce) : NULL,
    };
    queue_record(d->worker->deliver->queue, d->worker->port, &outcome, on_recorded, s);
}

static void log_outcome(const struct settling *s, size_t index, enum queue_rcpt_state state,
                        int64_t now)
{
    const struct delivery *d = s->delivery;
    const struct queue_recipient *recipient = &d->envelope->recipients[index];
    const struct mail_outcome *outcome = &d->outcomes[index];
    struct deliver *deliver = d->worker->deliver;
    bool put_off = state == QUEUE_RCPT_BOUNCE_PENDING;
    const char *event = state == QUEUE_RCPT_DELIVERED           ? "delivered"
                        : state == QUEUE_RCPT_FAILED || put_off ? "bounced"
                        : state == QUEUE_RCPT_EXPIRED           ? "expired"
                                                                : "deferred";
    char id[QUEUE_ID_TEXT], next[TIME_TEXT_MAX] = "";
    queue_id_text(d->unit->id, id);
    if (state == QUEUE_RCPT_WAITING)
        time_iso(s->due_unix_ms, next);
    atomic_fetch_add(state == QUEUE_RCPT_DELIVERED ? &deliver->delivered
                     : state == QUEUE_RCPT_WAITING ? &deliver->deferred
                     : state == QUEUE_RCPT_EXPIRED ? &deliver->expired
                                                   : &deliver->bounced,
                     1);
    log_event(deliver->log, LOG_LEVEL_INFO, event, LOG_T("id", id),
              LOG_T("sender", d->envelope->sender), LOG_T("recipient", recipient->address),
              LOG_T("domain", recipient->domain), LOG_T("site", d->site), LOG_T("host", d->host),
              LOG_T("address", d->address), LOG_I("code", outcome->code),
              LOG_T("status", outcome->status), LOG_T("reply", outcome->text), LOG_T("tls", d->tls),
              LOG_SECONDS("delay", now - d->envelope->accepted_unix_ms),
              LOG_I("attempt", (int64_t)recipient->attempts + 1), LOG_T("next", next));
}

static enum queue_rcpt_state decide(const struct mail_outcome *outcome, bool expired)
{
    switch (outcome->kind) {
    case OUTCOME_DELIVERED:
        return QUEUE_RCPT_DELIVERED;
    case OUTCOME_FAILED:
        return QUEUE_RCPT_FAILED;
    case OUTCOME_DEFERRED:
    case OUTCOME_ANOTHER:
        return expired ? QUEUE_RCPT_EXPIRED : QUEUE_RCPT_WAITING;
    case OUTCOME_NONE:
        return QUEUE_RCPT_WAITING;
    }
    unreachable_bug();
}

static struct retry_schedule schedule_of(const struct delivery *d, const struct config *config)
{
    bool from_null = d->envelope->sender[0] == '\0';
    return (struct retry_schedule){
        .intervals_ms = config->retry.intervals_ms,
        .interval_count = config->retry.interval_count,
        .expire_ms = from_null ? config->retry.expire_bounces_ms : config->retry.expire_ms,
    };
}

/* What time means for this attempt. */
struct timing {
    struct retry_schedule schedule;
    uint32_t attempts; /* this one included */
    int64_t now_unix_ms, age_ms;
    bool expired;
};

static struct timing time_it(const struct delivery *d, const struct config *config)
{
    struct deliver *deliver = d->worker->deliver;
    uint32_t attempts = d->envelope->units[d->unit->number].attempts;
    feeder_notice_clock(deliver->feeder);
    struct timing timing = {
        .schedule = schedule_of(d, config),
        .attempts = attempts == UINT32_MAX ? attempts : attempts + 1,
        .now_unix_ms = time_wall_ms(),
    };
    timing.age_ms = retry_age_ms(
        &timing.schedule, timing.attempts,
        clock_age_ms(&deliver->clock, timing.now_unix_ms, d->envelope->accepted_unix_ms));
    /* An attempt from before the clock was set says nothing of the time after. */
    timing.expired = clock_is_steady_since(&deliver->clock, d->started_ms) &&
                     retry_is_expired(&timing.schedule, timing.age_ms);
    return timing;
}

/* Fill in states, attempt rows and the next due time. @return does anything need a bounce? */
static bool decide_all(struct settling *s, const struct timing *timing)
{
    struct delivery *d = s->delivery;
    bool waits = false;
    size_t failed = 0, put_off = 0;

    for (size_t i = 0; i < d->envelope->recipient_count; i++) {
        const struct mail_outcome *outcome = &d->outcomes[i];
        if (outcome->kind == OUTCOME_NONE)
            continue;
        bool was_pending = d->states[i] == QUEUE_RCPT_BOUNCE_PENDING;
        d->states[i] = decide(outcome, timing->expired);
        if (d->states[i] == QUEUE_RCPT_FAILED || d->states[i] == QUEUE_RCPT_EXPIRED) {
            failed++;
            if (failed > BOUNCE_RECIPIENTS_MAX && d->envelope->sender[0] != '\0') {
                d->states[i] = QUEUE_RCPT_BOUNCE_PENDING;
                put_off++;
            }
        }
        waits = waits || d->states[i] == QUEUE_RCPT_WAITING;
        s->attempts[s->count] = (struct queue_attempt){
            .time_unix_ms = timing->now_unix_ms,
            .host = d->host,
            .address = d->address,
            .code = outcome->code,
            .status = outcome->status,
            .text = outcome->text,
            .tls = d->tls,
        };
        s->recipients[s->count] = (struct queue_rcpt_outcome){
            .recipient = (uint32_t)i,
            .state = d->states[i],
            .attempt = was_pending ? NULL : &s->attempts[s->count],
        };
        s->count++;
    }
    s->due_unix_ms = waits ? retry_next(&timing->schedule, timing->attempts, timing->now_unix_ms,
                                        timing->age_ms, worker_random(d->worker))
                           : QUEUE_NEVER;
    s->put_off = put_off;
    if (put_off > 0 && !waits) /* should we be stopped before they follow */
        s->due_unix_ms = timing->now_unix_ms + BOUNCE_NEXT_MS;
    return failed > 0;
}

/* Is it time to tell the sender that the message is late? Once, with a deferral. */
static bool is_to_warn(const struct settling *s, const struct config *config,
                       const struct timing *timing)
{
    const struct delivery *d = s->delivery;
    bool waits = false;
    for (size_t i = 0; i < s->count; i++)
        waits = waits || s->recipients[i].state == QUEUE_RCPT_WAITING;
    return waits && config->retry.warn_ms > 0 && timing->age_ms >= (int64_t)config->retry.warn_ms &&
           d->count_attempt && !d->envelope->units[d->unit->number].warned;
}

/* The DSN that goes with the outcome; never one about a DSN. */
static void add_bounce(struct settling *s, const struct config *config, bool failed,
                       const struct timing *timing)
{
    int64_t left = (int64_t)timing->schedule.expire_ms - timing->age_ms;
    if (s->delivery->envelope->sender[0] == '\0')
        return;
    if (failed) {
        s->bounce = bounce_new(s->delivery, config, 0);
    } else if (is_to_warn(s, config, timing)) {
        s->bounce = bounce_new(s->delivery, config, timing->now_unix_ms + (left > 0 ? left : 0));
        s->warns = s->bounce != NULL;
    }
}

/* The next notification of the same round: its recipients are in the store as pending. */
static void bounce_put_off(struct settling *s)
{
    struct delivery *d = s->delivery;
    for (size_t i = 0; i < s->count; i++) /* told already, or waiting: not in this one */
        if (s->recipients[i].state != QUEUE_RCPT_BOUNCE_PENDING)
            outcome_clear(&d->outcomes[s->recipients[i].recipient]);
    size_t left = 0;
    s->count = 0;
    for (size_t i = 0; i < d->envelope->recipient_count; i++) {
        if (d->outcomes[i].kind == OUTCOME_NONE)
            continue;
        if (s->count == BOUNCE_RECIPIENTS_MAX) {
            left++;
            continue;
        }
        d->states[i] = decide(&d->outcomes[i], true);
        s->recipients[s->count++] =
            (struct queue_rcpt_outcome){.recipient = (uint32_t)i, .state = d->states[i]};
    }
    s->put_off = left;
    d->count_attempt = false;
    bounce_free(&s->bounce);
    struct settings *settings = deliver_settings(d->worker->deliver);
    s->bounce = bounce_new(d, settings->config, 0);
    settings_unref(&settings);
    record(s);
}

void settle_delivery(struct delivery *delivery, settle_fn on_done, void *ctx)
{
    struct settling *s = mem_alloc(sizeof *s);
    size_t most = delivery->envelope->recipient_count;
    s->delivery = delivery;
    s->on_done = on_done;
    s->ctx = ctx;
    s->recipients = mem_alloc(most * sizeof *s->recipients);
    s->attempts = mem_alloc(most * sizeof *s->attempts);
    delivery->worker->recording++;

    struct settings *settings = deliver_settings(delivery->worker->deliver);
    struct timing timing = time_it(delivery, settings->config);
    bool failed = decide_all(s, &timing);
    /* A pending bounce was told when it failed, or will be once it is made. */
    for (size_t i = 0; i < s->count; i++)
        if (s->recipients[i].attempt != NULL)
            log_outcome(s, s->recipients[i].recipient, s->recipients[i].state, timing.now_unix_ms);
    add_bounce(s, settings->config, failed, &timing);
    settings_unref(&settings);
    record(s);
}
