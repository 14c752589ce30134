/* mta/deliver/delivery.c - one unit in hand. See delivery.h. */
#include "mta/deliver/delivery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"

/* A unit that became due by the writer's clock a moment ago may look early by a few ms. */
#define DUE_SLACK_MS 1000

struct last_words {
    struct delivery *delivery;
};

/* What `mtactl bounce` writes: no failure of ours has this status without a host or a code. */
static bool is_by_admin(const struct queue_attempt *attempt)
{
    return attempt->code == 0 && attempt->host[0] == '\0' && strcmp(attempt->status, "5.7.0") == 0;
}

/* A pending bounce repeats what the last attempt said. */
static bool take_last_words(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    struct delivery *delivery = ((struct last_words *)ctx)->delivery;
    if (recipient < delivery->envelope->recipient_count &&
        delivery->envelope->recipients[recipient].state == QUEUE_RCPT_BOUNCE_PENDING) {
        outcome_set(&delivery->outcomes[recipient], OUTCOME_FAILED, attempt->code, attempt->status,
                    attempt->text);
        snprintf(delivery->host, sizeof delivery->host, "%s", attempt->host);
        delivery->by_admin = is_by_admin(attempt);
    }
    return true;
}

static void collect_recipients(struct delivery *delivery)
{
    const struct queue_envelope *envelope = delivery->envelope;
    size_t pending = 0;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *recipient = &envelope->recipients[i];
        delivery->states[i] = recipient->state;
        if (recipient->unit != delivery->unit->number)
            continue;
        if (recipient->state == QUEUE_RCPT_WAITING)
            delivery->waiting[delivery->waiting_count++] = (uint32_t)i;
        if (recipient->state == QUEUE_RCPT_BOUNCE_PENDING) {
            outcome_set(&delivery->outcomes[i], OUTCOME_FAILED, 0, "5.0.0", "delivery failed");
            pending++;
        }
    }
    if (pending > 0) {
        struct last_words words = {delivery};
        int rc = queue_read_attempts(delivery->worker->deliver->queue, delivery->unit->id,
                                     take_last_words, &words);
        (void)rc; /* the general words stand then */
    }
    delivery->bounce_only = delivery->waiting_count == 0 && pending > 0;
}

static bool is_due(struct deliver *deliver, const struct queue_envelope *envelope, uint16_t number)
{
    if (number >= envelope->unit_count)
        return false;
    int64_t now = time_wall_ms();
    const struct queue_unit *unit = &envelope->units[number];
    if (unit->done || unit->held || unit->due_unix_ms == QUEUE_NEVER)
        return false;
    return unit->due_unix_ms <= now + DUE_SLACK_MS ||
           unit->due_unix_ms > deliver_horizon(deliver, now);
}

enum delivery_load delivery_load(struct worker *worker, struct unit *unit,
                                 struct delivery **delivery_out)
{
    struct queue_message *message = NULL;
    int rc = queue_read_message(worker->deliver->queue, unit->id, &message);
    if (rc == QUEUE_ERR_IO)
        return DELIVERY_LATER;
    if (rc != 0)
        return DELIVERY_SKIP;
    const struct queue_envelope *envelope = queue_message_envelope(message);
    if (!is_due(worker->deliver, envelope, unit->number)) {
        queue_message_free(&message);
        return DELIVERY_SKIP;
    }
    struct delivery *d = mem_alloc(sizeof *d);
    size_t count = envelope->recipient_count;
    d->worker = worker;
    d->unit = unit;
    d->message = message;
    d->envelope = envelope;
    d->outcomes = mem_alloc(count * sizeof *d->outcomes);
    d->states = mem_alloc(count * sizeof *d->states);
    d->waiting = mem_alloc(count * sizeof *d->waiting);
    d->batch = mem_alloc(count * sizeof *d->batch);
    d->started_ms = time_monotonic_ms();
    d->count_attempt = true;
    collect_recipients(d);
    if (d->waiting_count == 0 && !d->bounce_only) {
        delivery_free(&d);
        return DELIVERY_SKIP;
    }
    *delivery_out = d;
    return DELIVERY_READY;
}

void delivery_free(struct delivery **deliveryp)
{
    struct delivery *d = *deliveryp;
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->envelope->recipient_count; i++)
        outcome_clear(&d->outcomes[i]);
    free(d->outcomes);
    free(d->states);
    free(d->waiting);
    free(d->batch);
    free(d->prefix);
    queue_message_free(&d->message);
    free(d);
    *deliveryp = NULL;
}

bool delivery_begin_batch(struct delivery *d, size_t max, struct smtp_transaction *transaction_out)
{
    d->batch_count = d->waiting_count < max ? d->waiting_count : max;
    d->offset = 0;
    if (d->batch_count == 0)
        return false;
    for (size_t i = 0; i < d->batch_count; i++) {
        outcome_clear(&d->outcomes[d->waiting[i]]);
        d->batch[i] = str_from(d->envelope->recipients[d->waiting[i]].address);
    }
    *transaction_out = (struct smtp_transaction){
        .sender = str_from(d->envelope->sender),
        .recipients = d->batch,
        .recipient_count = d->batch_count,
        .size_bytes = delivery_content_bytes(d),
        .body_8bit = (d->envelope->flags & QUEUE_FLAG_8BIT) != 0,
    };
    return true;
}

struct mail_outcome *delivery_batch_outcome(struct delivery *d, size_t index)
{
    return &d->outcomes[d->waiting[index]];
}

bool delivery_has_progress(const struct delivery *d)
{
    for (size_t i = 0; i < d->envelope->recipient_count; i++) {
        enum outcome_kind kind = d->outcomes[i].kind;
        if (d->states[i] == QUEUE_RCPT_WAITING &&
            (kind == OUTCOME_DELIVERED || kind == OUTCOME_FAILED))
            return true;
    }
    return false;
}

void delivery_end_batch(struct delivery *d, bool again)
{
    bool progress = false;
    for (size_t i = 0; i < d->batch_count; i++) {
        enum outcome_kind kind = delivery_batch_outcome(d, i)->kind;
        progress = progress || kind == OUTCOME_DELIVERED;
    }
    size_t kept = 0;
    for (size_t i = 0; i < d->waiting_count; i++) {
        uint32_t recipient = d->waiting[i];
        enum outcome_kind kind = d->outcomes[recipient].kind;
        bool keep = i >= d->batch_count || (again && kind != OUTCOME_FAILED) ||
                    (progress && kind == OUTCOME_ANOTHER);
        if (keep)
            d->waiting[kept++] = recipient;
        else if (kind == OUTCOME_ANOTHER)
            d->outcomes[recipient].kind = OUTCOME_DEFERRED;
    }
    d->waiting_count = kept;
    d->batch_count = 0;
}

long delivery_read_content(struct delivery *d, char *buf, size_t size)
{
    if (d->offset < d->prefix_len) {
        size_t n = d->prefix_len - (size_t)d->offset;
        if (n > size)
            n = size;
        memcpy(buf, d->prefix + d->offset, n);
        d->offset += n;
        return (long)n;
    }
    long n = queue_read_body(d->worker->deliver->queue, d->unit->id, d->offset - d->prefix_len, buf,
                             size);
    if (n > 0)
        d->offset += (uint64_t)n;
    else if (n == 0 && d->offset != delivery_content_bytes(d))
        return QUEUE_ERR_DAMAGED; /* shorter than it was accepted: never send a part as the whole */
    return n;
}

uint64_t delivery_content_bytes(const struct delivery *d)
{
    return d->prefix_len + d->envelope->body_bytes;
}

void delivery_fail_rest(struct delivery *d, const struct mail_outcome *outcome)
{
    for (size_t i = 0; i < d->waiting_count; i++)
        outcome_copy(&d->outcomes[d->waiting[i]], outcome);
    d->waiting_count = 0;
    d->batch_count = 0;
}
