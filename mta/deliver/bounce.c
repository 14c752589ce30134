/* mta/deliver/bounce.c - a delivery status notification for what failed for good, or is late, in
 * one attempt (RFC 3461 section 6.2, RFC 3464): a new message from <>, stored in the transaction
 * that records the failure or deferral. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/delivery.h"
#include "mta/mail/dkim.h"
#include "mta/mail/dsn.h"
#include "mta/smtp/address.h"

#define DSN_MAX        ((size_t)2 * 1024 * 1024) /* settle.c bounds the recipients that failed */
#define HEADER_MAX     ((size_t)64 * 1024)
#define RECIPIENTS_MAX 200 /* told of a delay; it counts those beyond */

struct bounce {
    struct buf bytes;
    struct queue_recipient recipient;
    struct queue_envelope envelope;
    struct queue_bounce bounce;
    char domain[SMTP_DOMAIN_MAX + 1];
};

static void sha_update(void *ctx, const void *bytes, size_t len)
{
    tls_sha256_update(ctx, bytes, len);
}

static void sha_final(void *ctx, uint8_t digest[32])
{
    tls_sha256_final(ctx, digest);
}

static void hash_body(struct bounce *bounce, size_t header_len)
{
    struct tls_sha256 *sha = tls_sha256_new();
    struct dkim_hash hash = {.update = sha_update, .final = sha_final, .ctx = sha};
    struct dkim_body body;
    struct str all = buf_str(&bounce->bytes);
    struct str content = str_skip(all, header_len + 2);
    dkim_body_init(&body, &hash);
    dkim_body_update(&body, content.p, content.len);
    dkim_body_final(&body, bounce->envelope.body_hash);
    tls_sha256_free(&sha);
}

static bool is_told(const struct delivery *d, size_t i, bool delayed)
{
    if (d->outcomes[i].kind == OUTCOME_NONE)
        return false;
    if (delayed)
        return d->states[i] == QUEUE_RCPT_WAITING;
    return d->states[i] == QUEUE_RCPT_FAILED || d->states[i] == QUEUE_RCPT_EXPIRED;
}

static void collect(const struct delivery *d, struct dsn_recipient *recipients, struct dsn *dsn)
{
    bool delayed = dsn->kind == DSN_DELAYED;
    dsn->recipients = recipients;
    for (size_t i = 0; i < d->envelope->recipient_count; i++) {
        if (!is_told(d, i, delayed))
            continue;
        if (delayed && dsn->recipient_count == RECIPIENTS_MAX) {
            dsn->more_recipients++;
            continue;
        }
        recipients[dsn->recipient_count++] = (struct dsn_recipient){
            .address = d->envelope->recipients[i].address,
            .status = d->outcomes[i].status,
            .code = d->outcomes[i].code,
            .text = d->outcomes[i].text,
            .remote_host = d->host,
            .last_attempt_unix_ms = dsn->now_unix_ms,
            .expired = d->states[i] == QUEUE_RCPT_EXPIRED,
        };
    }
}

static struct str read_header(const struct delivery *d, char *buf)
{
    size_t want =
        d->envelope->header_bytes < HEADER_MAX ? (size_t)d->envelope->header_bytes : HEADER_MAX;
    size_t have = 0;
    while (have < want) {
        long n =
            queue_read_body(d->worker->deliver->queue, d->unit->id, have, buf + have, want - have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return (struct str){buf, have};
}

static void own_id_text(char *text, size_t size)
{
    uint64_t random[2];
    tls_random(random, sizeof random);
    snprintf(text, size, "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
}

/* Fill the envelope: to the sender alone, from nobody, asking for nothing: what the message asked
 * for (RET, ENVID, NOTIFY ...) is not its notification's (RFC 3461 section 6.1). @return false: the
 * sender has no domain to send to */
static bool address_it(struct bounce *bounce, const struct delivery *d, const struct config *config,
                       int64_t now)
{
    struct smtp_address sender;
    if (!smtp_address_parse(str_from(d->envelope->sender), &sender) ||
        !smtp_domain_ascii(sender.domain, bounce->domain, sizeof bounce->domain))
        return false;
    bounce->recipient =
        (struct queue_recipient){.address = d->envelope->sender, .domain = bounce->domain};
    bounce->envelope.sender = "";
    bounce->envelope.recipients = &bounce->recipient;
    bounce->envelope.recipient_count = 1;
    bounce->envelope.sign_domain = config->hostname;
    bounce->envelope.accepted_unix_ms = now;
    return true;
}

struct bounce *bounce_new(const struct delivery *d, const struct config *config,
                          int64_t retry_until_unix_ms)
{
    struct bounce *bounce = mem_alloc(sizeof *bounce);
    struct dsn_recipient *told = mem_alloc(d->envelope->recipient_count * sizeof *told);
    char *header = mem_alloc(HEADER_MAX);
    char id[QUEUE_ID_TEXT], own_id[33];
    int64_t now = time_wall_ms();
    size_t header_len = 0;
    bool is_8bit = false;

    buf_init(&bounce->bytes, DSN_MAX);
    bool ok = address_it(bounce, d, config, now);
    queue_id_text(d->unit->id, id);
    own_id_text(own_id, sizeof own_id);
    struct dsn dsn = {
        .kind = retry_until_unix_ms > 0 ? DSN_DELAYED : DSN_FAILED,
        .retry_until_unix_ms = retry_until_unix_ms,
        .reporting_mta = config->hostname,
        .to = d->envelope->sender,
        .id = id,
        .own_id = own_id,
        .arrival_unix_ms = d->envelope->accepted_unix_ms,
        .now_unix_ms = now,
        .original_header = read_header(d, header),
    };
    collect(d, told, &dsn);
    ok = ok && dsn_build(&dsn, &bounce->bytes, &header_len, &is_8bit);
    if (ok) {
        struct str all = buf_str(&bounce->bytes);
        bounce->envelope.flags = QUEUE_FLAG_BOUNCE | (is_8bit ? QUEUE_FLAG_8BIT : 0);
        bounce->envelope.header_bytes = header_len;
        bounce->envelope.body_bytes = all.len;
        hash_body(bounce, header_len);
        bounce->bounce = (struct queue_bounce){&bounce->envelope, all.p, all.len};
    } else {
        log_event(d->worker->deliver->log, LOG_LEVEL_ERROR, "queue", LOG_T("id", id),
                  LOG_T("sender", d->envelope->sender), LOG_T("text", "no bounce could be made"));
        bounce_free(&bounce);
    }
    free(header);
    free(told);
    return bounce;
}

const struct queue_bounce *bounce_queue(const struct bounce *bounce)
{
    return &bounce->bounce;
}

void bounce_free(struct bounce **bouncep)
{
    if (*bouncep == NULL)
        return;
    buf_deinit(&(*bouncep)->bytes);
    free(*bouncep);
    *bouncep = NULL;
}
