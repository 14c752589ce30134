/* mta/submit/session_mail.c - MAIL and RCPT: may this client, as whom, and whom does it mean? */
#include <stdio.h>

#include "mta/submit/rewrite.h"
#include "mta/submit/session_private.h"

void session_refuse(struct smtp_verdict *verdict, uint16_t code, const char *text)
{
    verdict->code = code;
    snprintf(verdict->text, sizeof verdict->text, "%s", text);
}

const char *session_user(const struct session *s)
{
    if (s->client.login != NULL)
        return s->client.login;
    return s->account[0] != '\0' ? s->account : NULL;
}

/* ---- MAIL ---- */

static void refuse_relaying(struct session *s, const struct smtp_mail *mail,
                            struct smtp_verdict *verdict)
{
    bool unqualified = mail->sender.len > 0 && mail->sender_domain.len == 0;
    if (++s->denials > SESSION_DENIALS_MAX) {
        session_refuse(verdict, 421, "4.7.0 Relaying denied, closing the connection");
        return;
    }
    trust_refusal(s->listener, &s->client, s->address, verdict);
    if (unqualified && verdict->code == 554) /* no login could change that */
        session_refuse(verdict, 553,
                       "5.1.3 The sender address needs a domain: only those of trusted clients are "
                       "completed");
}

/* The sender as it is stored. @return false: refused */
static bool take_sender(const struct session *s, const struct smtp_mail *mail,
                        char text[REWRITE_ADDRESS_MAX], struct smtp_address *sender,
                        struct smtp_verdict *verdict)
{
    size_t at = mail->sender.len - mail->sender_domain.len;
    *sender = (struct smtp_address){.whole = mail->sender,
                                    .local = {mail->sender.p, at > 0 ? at - 1 : 0},
                                    .domain = mail->sender_domain};
    if (mail->sender.len > 0 && mail->sender_domain.len == 0 &&
        !rewrite_complete(s->settings->config, mail->sender, text, sender)) {
        session_refuse(verdict, 553, "5.1.7 The sender address is too long");
        return false;
    }
    if (sender->whole.len > QUEUE_ADDRESS_MAX) {
        session_refuse(verdict, 553, "5.1.7 The sender address is too long");
        return false;
    }
    return s->login == NULL || trust_sender(s->login, sender->whole, verdict);
}

void session_on_mail(const struct smtp_mail *mail, struct smtp_verdict *verdict, void *ctx)
{
    struct session *s = ctx;
    char text[REWRITE_ADDRESS_MAX];
    struct smtp_address sender;
    intake_abandon(&s->intake);
    if (!login_stands(s)) {
        session_refuse(verdict, 421,
                       "4.7.0 The login of this connection holds no more (the user was removed, or "
                       "has a new password): connect and log in again");
        return;
    }
    if (trust_of(s->listener, &s->client) == TRUST_NONE) {
        refuse_relaying(s, mail, verdict);
        return;
    }
    if (!take_sender(s, mail, text, &sender, verdict))
        return;
    if (queue_is_full(s->worker->submit->queue, mail->declared_bytes)) {
        session_refuse(verdict, 452, "4.3.1 Insufficient system storage, try again later");
        return;
    }
    s->intake = intake_new(s->worker, s->settings, s->listener, sender.whole, mail);
}

/* ---- RCPT ---- */

struct adding {
    struct intake *intake;
    struct rewrite_asked asked;
    enum intake_rcpt result;
};

static bool add_recipient(const struct smtp_address *address, void *ctx)
{
    struct adding *adding = ctx;
    struct rewrite_asked *asked = &adding->asked;
    size_t before = intake_recipient_count(adding->intake);
    adding->result = intake_add_recipient(adding->intake, address->whole, address->domain,
                                          asked->notify, str_from(asked->orcpt));
    if (intake_recipient_count(adding->intake) > before)
        asked->notify &= (uint8_t)~QUEUE_NOTIFY_EXPANDED; /* is told once */
    return adding->result == INTAKE_RCPT_OK;
}

static void refuse_recipient(enum intake_rcpt result, struct smtp_verdict *verdict)
{
    switch (result) {
    case INTAKE_RCPT_OK:
        break;
    case INTAKE_RCPT_NO_DOMAIN:
        session_refuse(verdict, 553,
                       "5.1.3 The domain of the recipient is not a valid domain name");
        break;
    case INTAKE_RCPT_NO_ROOM:
        session_refuse(verdict, 452, "4.3.1 Insufficient system storage, try again later");
        break;
    }
}

void session_on_rcpt(const struct smtp_rcpt *rcpt, struct smtp_verdict *verdict, void *ctx)
{
    struct session *s = ctx;
    struct adding adding = {.intake = s->intake};
    bool complete = s->listener->role == CONFIG_ROLE_SUBMISSION;
    size_t before = intake_recipient_count(s->intake);
    rewrite_asked(s->settings->config, rcpt, complete, &adding.asked);
    switch (
        rewrite_recipient(s->settings->config, &rcpt->address, complete, add_recipient, &adding)) {
    case REWRITE_OK:
        return;
    case REWRITE_UNQUALIFIED:
        session_refuse(verdict, 553, "5.1.3 The recipient address needs a domain");
        break;
    case REWRITE_TOO_LONG:
        session_refuse(verdict, 553, "5.1.3 The recipient address is too long");
        break;
    case REWRITE_STOPPED:
        refuse_recipient(adding.result, verdict);
        break;
    }
    intake_drop_recipients(s->intake, before); /* all of an alias, or nobody */
}
