/* mta/deliver/connection_unit.c - the units that travel on a connection: signature, transactions,
 * content, results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/connection_private.h"
#include "mta/deliver/policy.h"

#define CONTENT_STEP       ((size_t)64 * 1024)
#define STREAM_PENDING_MAX ((size_t)256 * 1024)

static void on_signed(const char *prefix, void *ctx)
{
    struct connection *c = ctx;
    bool later = c->signing; /* not from inside signer_start */
    c->signing = false;
    if (c->delivery != NULL && prefix != NULL) {
        c->delivery->prefix = str_dup(str_from(prefix));
        c->delivery->prefix_len = strlen(prefix);
    } else if (c->delivery != NULL) {
        /* Mail of a signing domain never leaves unsigned. */
        outcome_set(&c->last, OUTCOME_DEFERRED, 0, "4.7.5", "the DKIM signature could not be made");
        connection_give_up(c);
    }
    if (later)
        connection_step(c);
}

/* ---- taking ---- */

static bool load(struct connection *c, struct unit *unit)
{
    struct worker *worker = c->worker;
    struct deliver *deliver = worker->deliver;
    struct delivery *delivery = NULL;
    switch (delivery_load(worker, unit, &delivery)) {
    case DELIVERY_READY:
        break;
    case DELIVERY_LATER:
        scheduler_forget(deliver->scheduler, unit);
        feeder_recover(deliver->feeder);
        return false;
    case DELIVERY_SKIP:
        scheduler_forget(deliver->scheduler, unit);
        return false;
    }
    snprintf(delivery->site, sizeof delivery->site, "%s", site_target(c->site)->hosts[0].name);
    if (delivery->bounce_only) {
        delivery->count_attempt = false;
        settle_delivery(delivery, NULL, NULL);
        return false;
    }
    c->delivery = delivery;
    return true;
}

bool connection_take_unit(struct connection *c)
{
    while (c->delivery == NULL && !c->signing) {
        struct unit *unit = scheduler_pull(c->worker->deliver->scheduler, c->site);
        if (unit == NULL)
            return false;
        if (!load(c, unit))
            continue;
        c->deadline_ms = time_monotonic_ms() + c->settings->config->timeouts.total;
        c->in_transaction = false;
        c->given_up = 0;
        c->tried[0] = '\0';
        signer_start(c->worker, c->settings, c->delivery->unit->id, c->delivery->envelope,
                     on_signed, c);
        c->signing = c->delivery != NULL && c->delivery->prefix == NULL;
    }
    return c->delivery != NULL;
}

static void log_attempt(const struct connection *c)
{
    char id[QUEUE_ID_TEXT];
    queue_id_text(c->delivery->unit->id, id);
    log_event(c->worker->deliver->log, LOG_LEVEL_INFO, "attempt", LOG_T("id", id),
              LOG_T("sender", c->delivery->envelope->sender),
              LOG_T("recipient", c->delivery->batch_count == 1 ? c->delivery->batch[0].p : ""),
              LOG_T("site", c->delivery->site),
              LOG_T("domain", domain_name(c->delivery->unit->domain)), LOG_T("host", c->host),
              LOG_T("address", c->address), LOG_T("tls", c->tls),
              LOG_I("recipients", (int64_t)c->delivery->batch_count));
}

void connection_begin_transaction(struct connection *c)
{
    struct smtp_transaction transaction;
    struct delivery *d = c->delivery;
    if (c->signing || c->in_transaction)
        return;
    if (!delivery_begin_batch(d, c->settings->config->delivery.site_recipients_per_message,
                              &transaction))
        unreachable_bug(); /* a delivery without waiting recipients has been settled */
    c->in_transaction = true;
    c->content_going = c->content_done = false;
    snprintf(d->host, sizeof d->host, "%s", c->host);
    snprintf(d->address, sizeof d->address, "%s", c->address);
    snprintf(d->tls, sizeof d->tls, "%s", c->tls);
    log_attempt(c);
    smtp_client_send(c->client, &transaction, time_monotonic_ms());
}

/* ---- content ---- */

void connection_pump_content(struct connection *c)
{
    static _Thread_local char piece[CONTENT_STEP];
    uint64_t now_ms = time_monotonic_ms();
    while (c->content_going && !c->content_done) {
        struct buf *out = smtp_client_output(c->client);
        if (stream_pending(c->stream) + buf_len(out) > STREAM_PENDING_MAX)
            return; /* on_drain comes back here */
        if (c->recording && c->delivery->offset == delivery_content_bytes(c->delivery))
            return; /* one message in flight a connection: the dot waits for the last outcome's
                       commit */
        long n = delivery_read_content(c->delivery, piece, sizeof piece);
        if (n < 0) {
            c->content_done = true;
            smtp_client_content_abort(c->client,
                                      n == QUEUE_READ_GONE
                                          ? "the message was removed from the queue"
                                          : "the message could not be read from the queue",
                                      now_ms);
            return;
        }
        if (n == 0) {
            c->content_done = true;
            c->delivery->sent = true;
            smtp_client_content_end(c->client, now_ms);
        } else if (!smtp_client_content(c->client, piece, (size_t)n)) {
            c->delivery->offset -= (uint64_t)n;
            return;
        }
        struct str bytes = buf_str(out);
        stream_write(c->stream, bytes.p, bytes.len);
        buf_consume(out, bytes.len);
    }
}

/* ---- results ---- */

void connection_recipient_result(struct connection *c, size_t index,
                                 const struct smtp_result *result)
{
    struct mail_outcome *outcome = delivery_batch_outcome(c->delivery, index);
    if (result->failure == SMTP_FAIL_NONE)
        outcome_clear(outcome); /* accepted: the final dot decides */
    else
        policy_judge(result, outcome);
}

/* Was this the host's failure, before the message was on its way? Then another address may do. */
static bool is_host_failure(const struct connection *c, const struct smtp_result *result)
{
    if (c->delivery->sent || !c->news.ended)
        return false;
    switch (result->failure) {
    case SMTP_FAIL_TIMEOUT:
    case SMTP_FAIL_CLOSED:
    case SMTP_FAIL_PROTOCOL:
        return true;
    case SMTP_FAIL_REPLY:
        return result->reply.code == 421;
    case SMTP_FAIL_NONE:
    case SMTP_FAIL_TLS:
    case SMTP_FAIL_POLICY:
        return false;
    }
    unreachable_bug();
}

static void on_settled(void *ctx)
{
    struct connection *c = ctx;
    c->recording = false;
    connection_step(c);
}

static void settle(struct connection *c)
{
    struct delivery *d = c->delivery;
    c->delivery = NULL;
    c->in_transaction = false;
    if (c->recording) {
        settle_delivery(d, NULL, NULL);
        return;
    }
    c->recording = true;
    settle_delivery(d, on_settled, c);
}

static void fail_rest_of_session(struct delivery *d)
{
    struct mail_outcome rest = {0};
    outcome_set(&rest, OUTCOME_DEFERRED, 0, "4.4.2",
                "the session ended before this recipient's turn");
    delivery_fail_rest(d, &rest);
    outcome_clear(&rest);
}

void connection_end_transaction(struct connection *c)
{
    struct delivery *d = c->delivery;
    const struct smtp_result *result = &c->news.done_result;
    c->in_transaction = false;
    c->content_going = false;
    if (is_host_failure(c, result)) {
        policy_judge(result, &c->last);
        delivery_end_batch(d, true);
        if (d->waiting_count == 0)
            settle(c);
        return; /* the end of the session decides what comes next */
    }
    for (size_t i = 0; i < d->batch_count; i++) {
        struct mail_outcome *outcome = delivery_batch_outcome(d, i);
        if (outcome->kind == OUTCOME_NONE)
            policy_judge(result, outcome);
    }
    if (!c->news.ended)
        c->completed++;
    policy_judge(result, &c->last);
    delivery_end_batch(d, false);
    d->sent = false;
    if (d->waiting_count > 0 && c->news.ended) {
        /* Further recipients of the unit, and the session has ended: they wait for the next
         * attempt. */
        fail_rest_of_session(d);
    }
    if (d->waiting_count == 0)
        settle(c);
}

void connection_give_up(struct connection *c)
{
    struct delivery *d = c->delivery;
    snprintf(d->host, sizeof d->host, "%s", c->host);
    snprintf(d->address, sizeof d->address, "%s", c->address);
    snprintf(d->tls, sizeof d->tls, "%s", c->tls);
    delivery_fail_rest(d, &c->last);
    settle(c);
}

void connection_drop_unit(struct connection *c)
{
    struct deliver *deliver = c->worker->deliver;
    struct scheduler *scheduler = deliver->scheduler;
    struct unit *unit = c->delivery->unit;
    if (delivery_has_progress(c->delivery)) {
        /* An earlier transaction of this attempt has been answered: that must not be forgotten. */
        fail_rest_of_session(c->delivery);
        settle(c);
        return;
    }
    delivery_free(&c->delivery);
    c->in_transaction = false;
    if (c->worker->stopping || unit->requeued) { /* it waits in the store as it did */
        scheduler_forget(scheduler, unit);
        if (!c->worker->stopping)
            feeder_recover(deliver->feeder);
        return;
    }
    unit->requeued = true;
    scheduler_requeue(scheduler, unit);
}
