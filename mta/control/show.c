/* mta/control/show.c - one message: its envelope with every attempt (show), its bytes (cat). */
#include <stdio.h>
#include <string.h>

#include "mta/base/buf.h"
#include "mta/base/time.h"
#include "mta/control/control_private.h"

#define CAT_STEP     ((size_t)32 * 1024)
#define ATTEMPTS_MAX ((size_t)4 * 1024 * 1024) /* octets of text in one answer */

static const char *recipient_state_text(enum queue_rcpt_state state)
{
    switch (state) {
    case QUEUE_RCPT_WAITING:
        return "waiting";
    case QUEUE_RCPT_DELIVERED:
        return "delivered";
    case QUEUE_RCPT_FAILED:
        return "bounced";
    case QUEUE_RCPT_EXPIRED:
        return "expired";
    case QUEUE_RCPT_REMOVED:
        return "removed";
    case QUEUE_RCPT_BOUNCE_PENDING:
        return "bounce pending";
    }
    unreachable_bug();
}

struct attempt_list {
    json_t *recipients;
    size_t bytes;
    bool cut;
};

static bool add_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    struct attempt_list *list = ctx;
    json_t *entry = json_array_get(list->recipients, recipient);
    if (entry == NULL)
        return true;
    list->bytes += 256 + strlen(attempt->text);
    list->cut = list->bytes > ATTEMPTS_MAX;
    if (list->cut)
        return false;
    json_array_append_new(
        json_object_get(entry, "attempts"),
        json_pack("{s:o,s:o,s:o,s:i,s:o,s:o,s:o}", "time", control_time(attempt->time_unix_ms),
                  "host", control_text(attempt->host), "address", control_text(attempt->address),
                  "code", (int)attempt->code, "status", control_text(attempt->status), "text",
                  control_text(attempt->text), "tls", control_text(attempt->tls)));
    return true;
}

/* ---- parameters of MAIL and RCPT, in SMTP's own words, where they were given ---- */

static json_t *notify_words(uint8_t notify)
{
    static const struct {
        uint8_t bit;
        const char *word;
    } rows[] = {
        {QUEUE_NOTIFY_NEVER, "NEVER"},
        {QUEUE_NOTIFY_SUCCESS, "SUCCESS"},
        {QUEUE_NOTIFY_FAILURE, "FAILURE"},
        {QUEUE_NOTIFY_DELAY, "DELAY"},
    };
    json_t *words = json_array();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if ((notify & rows[i].bit) != 0)
            json_array_append_new(words, json_string(rows[i].word));
    }
    return words;
}

static void add_recipient_params(json_t *entry, const struct queue_recipient *recipient)
{
    if (recipient->notify != 0)
        json_object_set_new(entry, "notify", notify_words(recipient->notify));
    if ((recipient->notify & QUEUE_NOTIFY_EXPANDED) != 0)
        json_object_set_new(entry, "notify_expanded", json_true());
    if (recipient->orcpt[0] != '\0')
        json_object_set_new(entry, "orcpt", control_text(recipient->orcpt));
}

static void add_message_params(json_t *message, const struct queue_envelope *envelope)
{
    if (envelope->ret != QUEUE_RET_NONE)
        json_object_set_new(message, "ret",
                            json_string(envelope->ret == QUEUE_RET_FULL ? "FULL" : "HDRS"));
    if (envelope->envid[0] != '\0')
        json_object_set_new(message, "envid", control_text(envelope->envid));
    if ((envelope->flags & QUEUE_FLAG_SMTPUTF8) != 0)
        json_object_set_new(message, "smtputf8", json_true());
    if ((envelope->flags & QUEUE_FLAG_REQUIRETLS) != 0)
        json_object_set_new(message, "requiretls", json_true());
}

/* ---- the envelope ---- */

static json_t *recipients_of(const struct queue_envelope *envelope)
{
    json_t *list = json_array();
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct queue_recipient *r = &envelope->recipients[i];
        json_t *entry =
            json_pack("{s:o,s:o,s:s,s:I,s:[]}", "address", control_text(r->address), "domain",
                      control_text(r->domain), "state", recipient_state_text(r->state),
                      "attempt_count", (json_int_t)r->attempts, "attempts");
        add_recipient_params(entry, r);
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *units_of(const struct control *control, uint64_t id,
                        const struct queue_envelope *envelope)
{
    json_t *list = json_array();
    for (size_t i = 0; i < envelope->unit_count; i++) {
        const struct queue_unit *unit = &envelope->units[i];
        json_array_append_new(
            list, json_pack("{s:o,s:s,s:o,s:I,s:b}", "domain", control_text(unit->domain), "state",
                            unit_state_text(control, id, unit, i), "next",
                            control_time(unit->done ? 0 : unit->due_unix_ms), "attempts",
                            (json_int_t)unit->attempts, "warned", (int)unit->warned));
    }
    return list;
}

struct damage_search {
    uint64_t id;
    struct damage *damage;
    bool found;
};

static bool take_if_sought(const struct queue_damaged *damaged, void *ctx)
{
    struct damage_search *search = ctx;
    search->found = damaged->id == search->id;
    if (!search->found)
        return true;
    snprintf(search->damage->reason, sizeof search->damage->reason, "%s", damaged->reason);
    search->damage->bytes = damaged->bytes;
    return false;
}

bool damage_find(struct queue *queue, uint64_t id, struct damage *damage_out)
{
    struct damage_search search = {.id = id, .damage = damage_out};
    *damage_out = (struct damage){{0}, 0};
    int rc = queue_read_damaged(queue, take_if_sought, &search);
    return rc == 0 && search.found;
}

/* @return the message, or NULL after the client has been told */
static struct queue_message *read_or_fail(struct control_client *client, uint64_t *id_out)
{
    struct queue_message *message = NULL;
    struct selector selector;
    struct damage damage;
    char text[512];
    if (!selector_read(client->request, &selector, text, sizeof text)) {
        control_fail(client, text);
        return NULL;
    }
    if (!selector.by_id) {
        control_fail(client, "which message? give its id");
        return NULL;
    }
    struct queue *queue = client->control->queue;
    int rc = queue_read_message(queue, selector.id, &message);
    *id_out = selector.id;
    if (rc == 0)
        return message;
    if (rc == 1)
        snprintf(text, sizeof text,
                 "no such message in the queue: it was delivered, bounced or removed");
    else if (damage_find(queue, selector.id, &damage))
        snprintf(text, sizeof text, "the record of this message is damaged and set aside: %s",
                 damage.reason);
    else
        snprintf(text, sizeof text, "the message cannot be read: %s", queue_error_text(rc));
    control_fail(client, text);
    return NULL;
}

void command_show(struct control_client *client)
{
    uint64_t id = 0;
    char id_text[QUEUE_ID_TEXT];
    struct queue_message *message = read_or_fail(client, &id);
    if (message == NULL)
        return;
    const struct queue_envelope *envelope = queue_message_envelope(message);
    queue_id_text(id, id_text);
    struct attempt_list list = {.recipients = recipients_of(envelope)};
    int rc = queue_read_attempts(client->control->queue, id, add_attempt, &list);
    (void)rc; /* attempts that cannot be read are not shown; the envelope is */
    int64_t age_s = age_seconds(envelope->accepted_unix_ms, time_wall_ms());
    json_t *answer = json_pack(
        "{s:s,s:o,s:I,s:o,s:I,s:b,s:b,s:o,s:o,s:o,s:b}", "id", id_text, "sender",
        control_text(envelope->sender), "size", (json_int_t)envelope->body_bytes, "accepted",
        control_time(envelope->accepted_unix_ms), "age", (json_int_t)age_s, "8bit",
        (envelope->flags & QUEUE_FLAG_8BIT) != 0, "bounce",
        (envelope->flags & QUEUE_FLAG_BOUNCE) != 0, "sign_domain",
        control_text(envelope->sign_domain), "units", units_of(client->control, id, envelope),
        "recipients", list.recipients, "attempts_cut", list.cut);
    add_message_params(answer, envelope);
    control_send(client, answer);
    queue_message_free(&message);
    control_finish(client, 0);
}

/* ---- cat: a line {"raw":bytes}, then so many bytes, as often as it takes ---- */

static void send_raw(struct control_client *client, const void *bytes, size_t len)
{
    control_send(client, json_pack("{s:I}", "raw", (json_int_t)len));
    control_send_bytes(client, bytes, len);
}

void command_cat(struct control_client *client)
{
    struct queue_message *message = read_or_fail(client, &client->cat_id);
    if (message == NULL)
        return;
    const char *prefix = queue_message_envelope(message)->prefix;
    if (prefix[0] != '\0')
        send_raw(client, prefix, strlen(prefix));
    queue_message_free(&message);
    client->cat_going = true;
    control_step_start(client);
}

void cat_step(struct control_client *client)
{
    char piece[CAT_STEP];
    if (control_is_slow(client)) {
        control_step_wait(client);
        return;
    }
    long n = queue_read_body(client->control->queue, client->cat_id, client->cat_offset, piece,
                             sizeof piece);
    if (n == 0) {
        control_finish(client, 0);
        return;
    }
    if (n < 0) {
        control_fail(client, n == QUEUE_READ_GONE ? "the message left the queue meanwhile"
                                                  : queue_error_text((int)n));
        return;
    }
    client->cat_offset += (uint64_t)n;
    send_raw(client, piece, (size_t)n);
}
