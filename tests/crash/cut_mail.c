/* tests/crash/cut_mail.c - messages that follow from their ids. */
#include "tests/crash/cut_mail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const domains[CUT_DOMAINS] = {
    "a.example", "b.example", "c.example", "d.example",
    "e.example", "f.example", "g.example", "a.example.org",
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 32;
}

void cut_mail_fill(uint64_t key, uint64_t at, void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        uint64_t word = mix(key + at / 8 * UINT64_C(0x632be59bd9b4e019));
        size_t skip = at % 8;
        size_t part = 8 - skip < len ? 8 - skip : len;
        memcpy(p, (const uint8_t *)&word + skip, part);
        p += part;
        at += part;
        len -= part;
    }
}

uint64_t cut_mail_bounce_key(uint64_t origin, uint16_t unit)
{
    return mix(origin) + unit;
}

/* One recipient, several, or so many that they go on in further rows. */
static size_t recipients_of(uint64_t h)
{
    uint64_t roll = h % 16;
    if (roll < 9)
        return 1;
    return roll < 15 ? 2 + h / 16 % 5 : 33 + h / 16 % (CUT_RCPTS_MAX - 33);
}

static void add_unit(struct cut_mail *mail, struct queue_recipient *rcpt)
{
    for (size_t i = 0; i < mail->unit_count; i++) {
        if (strcmp(mail->units[i], rcpt->domain) == 0) {
            rcpt->unit = (uint16_t)i;
            return;
        }
    }
    rcpt->unit = (uint16_t)mail->unit_count;
    mail->units[mail->unit_count++] = rcpt->domain;
}

void cut_mail_make(struct cut_mail *mail, uint64_t id, uint64_t size)
{
    uint64_t h = mix(id);
    size_t count = recipients_of(h);
    size_t spread = 1 + h / 1024 % CUT_UNITS_MAX;
    bool asks = h / 256 % 4 == 0;
    mail->unit_count = 0;
    (void)snprintf(mail->sender, sizeof mail->sender, "s%" PRIx64 "@" CUT_HOME, id);
    for (size_t i = 0; i < count; i++) {
        struct queue_recipient *rcpt = &mail->recipients[i];
        (void)snprintf(mail->addresses[i], sizeof mail->addresses[i], "u%zu.%" PRIx64 "@x", i, id);
        *rcpt = (struct queue_recipient){
            .address = mail->addresses[i],
            .domain = domains[(h / 4096 + i % spread) % CUT_DOMAINS],
            .notify = asks ? (uint8_t)(i % 4 * QUEUE_NOTIFY_FAILURE) : 0,
            .orcpt = asks && i % 3 == 0 ? "rfc822;list@" CUT_HOME : "",
        };
        add_unit(mail, rcpt);
    }
    mail->envelope = (struct queue_envelope){
        .sender = mail->sender,
        .recipients = mail->recipients,
        .recipient_count = count,
        .flags = (h / 64 % 2 != 0 ? QUEUE_FLAG_8BIT : 0U) | (asks ? QUEUE_FLAG_REQUIRETLS : 0U),
        .ret = asks ? QUEUE_RET_HDRS : QUEUE_RET_NONE,
        .envid = asks ? "cut" : "",
        .header_bytes = size / 3,
        .body_bytes = size,
        .sign_domain = h / 128 % 2 != 0 ? "sign.example" : "",
        .accepted_unix_ms = (int64_t)(id >> 22),
    };
    cut_mail_fill(~id, 0, mail->envelope.body_hash, sizeof mail->envelope.body_hash);
}

void cut_mail_make_bounce(struct cut_mail *mail, uint64_t origin, uint16_t unit)
{
    mail->sender[0] = '\0';
    (void)snprintf(mail->addresses[0], sizeof mail->addresses[0], "b%" PRIx64 ".%u@" CUT_HOME,
                   origin, unit);
    mail->recipients[0] =
        (struct queue_recipient){.address = mail->addresses[0], .domain = CUT_HOME, .orcpt = ""};
    mail->units[0] = CUT_HOME;
    mail->unit_count = 1;
    mail->envelope = (struct queue_envelope){
        .sender = mail->sender,
        .recipients = mail->recipients,
        .recipient_count = 1,
        .flags = QUEUE_FLAG_BOUNCE,
        .envid = "",
        .header_bytes = 100,
        .body_bytes = CUT_BOUNCE_LEN,
        .sign_domain = "",
        .accepted_unix_ms = (int64_t)(origin >> 22),
    };
}

bool cut_mail_is_bounce(const struct queue_envelope *envelope, uint64_t *origin_out,
                        uint16_t *unit_out)
{
    if (envelope->sender[0] != '\0' || envelope->recipient_count != 1)
        return false;
    return sscanf(envelope->recipients[0].address, "b%" SCNx64 ".%" SCNu16 "@" CUT_HOME, origin_out,
                  unit_out) == 2;
}

void cut_mail_prefix(uint64_t id, char out[128])
{
    (void)snprintf(out, 128, "DKIM-Signature: b=%016" PRIx64 "%016" PRIx64 "\r\n", mix(id), ~id);
}

static const char *recipient_differs(const struct queue_recipient *a,
                                     const struct queue_recipient *b)
{
    if (strcmp(a->address, b->address) != 0)
        return "a recipient's address";
    if (strcmp(a->domain, b->domain) != 0 || a->unit != b->unit)
        return "a recipient's unit";
    if (a->notify != b->notify || strcmp(a->orcpt, b->orcpt) != 0)
        return "what a recipient's sender asked for";
    return NULL;
}

const char *cut_mail_differs(const struct cut_mail *mail, const struct queue_envelope *read)
{
    const struct queue_envelope *made = &mail->envelope;
    if (strcmp(made->sender, read->sender) != 0)
        return "the sender";
    if (made->recipient_count != read->recipient_count)
        return "the number of recipients";
    if (made->flags != read->flags || made->header_bytes != read->header_bytes ||
        made->body_bytes != read->body_bytes)
        return "flags or lengths";
    if (made->ret != read->ret || strcmp(made->envid, read->envid) != 0)
        return "what the sender asked for";
    if (memcmp(made->body_hash, read->body_hash, sizeof made->body_hash) != 0 ||
        strcmp(made->sign_domain, read->sign_domain) != 0)
        return "what signing needs";
    if (made->accepted_unix_ms != read->accepted_unix_ms)
        return "the time";
    if (mail->unit_count != read->unit_count)
        return "the number of units";
    for (size_t i = 0; i < mail->unit_count; i++) {
        if (strcmp(mail->units[i], read->units[i].domain) != 0)
            return "a unit's domain";
    }
    for (size_t i = 0; i < made->recipient_count; i++) {
        const char *what = recipient_differs(&made->recipients[i], &read->recipients[i]);
        if (what != NULL)
            return what;
    }
    return NULL;
}
