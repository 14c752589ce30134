/* mta/smtp/server_mail.c - MAIL and RCPT. RFC 5321 section 4.1.1, RFC 6531. */
#include <assert.h>

#include "mta/smtp/server_private.h"

static const struct server_refusal ok = {0, NULL};
static const struct server_refusal not_ascii = {553, "5.6.7 Address must be ASCII"};

/* "FROM:<path>" into path and what stands behind it. A space behind the colon is against the
 * grammar but sent by real clients. */
static struct server_refusal parse_path(const struct smtp_server *server, struct str args,
                                        bool sender, enum smtp_path_kind *kind,
                                        struct smtp_address *address, struct str *rest)
{
    struct str prefix = sender ? STR("FROM:") : STR("TO:");
    bool utf8 = server->options.offer_smtputf8;

    if (!str_starts_nocase(args, prefix))
        return sender ? (struct server_refusal){501, "5.5.4 Syntax: MAIL FROM:<address>"}
                      : (struct server_refusal){501, "5.5.4 Syntax: RCPT TO:<address>"};
    struct str path = str_trim(str_skip(args, prefix.len));
    bool good = utf8 ? smtp_path_parse_utf8(path, kind, address, rest)
                     : smtp_path_parse(path, kind, address, rest);
    if (!good) {
        for (size_t i = 0; !utf8 && i < path.len; i++) {
            if ((unsigned char)path.p[i] >= 0x80) /* RFC 6531 section 3.5 */
                return not_ascii;
        }
        return sender ? (struct server_refusal){501, "5.1.7 Bad sender address syntax"}
                      : (struct server_refusal){501, "5.1.3 Bad recipient address syntax"};
    }
    if (rest->len > 0 && rest->p[0] != ' ')
        return (struct server_refusal){501, "5.5.4 Space expected behind the address"};
    return ok;
}

static struct server_refusal parse_mail(const struct smtp_server *server, struct str args,
                                        struct smtp_mail *mail)
{
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct smtp_address address = {0};
    struct str rest = {0};
    struct server_refusal refusal = parse_path(server, args, true, &kind, &address, &rest);

    if (refusal.code != 0)
        return refusal;
    if (kind == SMTP_PATH_UNQUALIFIED && !server->options.accept_unqualified)
        return (struct server_refusal){553, "5.1.7 Sender address needs a domain"};
    mail->sender = address.whole;
    mail->sender_domain = address.domain;
    refusal = server_mail_params(server, rest, mail);
    if (refusal.code == 0 && address.utf8 && !mail->smtputf8)
        return not_ascii;
    return refusal;
}

static bool is_fault(struct server_refusal refusal)
{
    /* Syntax of the command is the client's doing; what addresses and sizes are like often is not.
     */
    return refusal.code == 501 || refusal.code == 555;
}

static bool accepted(const struct smtp_verdict *verdict)
{
    assert(verdict->code == 0 || (verdict->code >= 200 && verdict->code < 600));
    return verdict->code < 400;
}

static void reply_accepted(struct smtp_server *server, const struct smtp_verdict *verdict,
                           const char *usual)
{
    server_reply(server, verdict->code != 0 ? verdict->code : 250,
                 verdict->code != 0 ? verdict->text : usual);
}

/* What a refused command named, for the log: the address, or what stood where it should. */
static struct str named(struct str address, struct str args, struct str prefix)
{
    if (address.len > 0)
        return address;
    return str_starts_nocase(args, prefix) ? str_trim(str_skip(args, prefix.len)) : STR("");
}

static void refuse_mail(struct smtp_server *server, struct server_refusal refusal)
{
    if (is_fault(refusal))
        server_reply_fault(server, refusal.code, refusal.text);
    else
        server_reply_refused_mail(server, refusal.code, refusal.text);
    server_forget_sender(server);
}

void server_mail(struct smtp_server *server, struct str args)
{
    struct smtp_mail mail = {.sender = {"", 0}, .sender_domain = {"", 0}, .envid = {"", 0}};
    struct smtp_verdict verdict = {0};
    struct server_refusal refusal = parse_mail(server, args, &mail);

    server->refused = true;
    server->sender =
        str_dup(refusal.code == 0 ? mail.sender : named(mail.sender, args, STR("FROM:")));
    if (refusal.code != 0) {
        refuse_mail(server, refusal);
        return;
    }
    server->events.on_mail(&mail, &verdict, server->ctx);
    if (!accepted(&verdict)) {
        server_reply_refused_mail(server, verdict.code, verdict.text);
        server_forget_sender(server);
        return;
    }
    server->refused = false;
    server->smtputf8 = mail.smtputf8;
    server_set_state(server, SERVER_MAIL);
    reply_accepted(server, &verdict, "2.1.0 Sender ok");
}

/* ---- RCPT ---- */

static struct server_refusal parse_rcpt(const struct smtp_server *server, struct str args,
                                        struct smtp_rcpt *rcpt)
{
    struct smtp_address *address = &rcpt->address;
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct str rest = {0};
    struct server_refusal refusal = parse_path(server, args, false, &kind, address, &rest);

    if (refusal.code != 0)
        return refusal;
    if (kind == SMTP_PATH_NULL)
        return (struct server_refusal){501, "5.1.3 Bad recipient address syntax"};
    if (kind == SMTP_PATH_UNQUALIFIED && !server->options.accept_unqualified &&
        !str_equal_nocase(address->local, STR("postmaster")))
        return (struct server_refusal){553, "5.1.3 Recipient address needs a domain"};
    refusal = server_rcpt_params(server, rest, rcpt);
    if (refusal.code != 0)
        return refusal;
    if (address->utf8 && !server->smtputf8)
        return not_ascii;
    if (server->options.max_recipients > 0 && server->recipients >= server->options.max_recipients)
        return (struct server_refusal){452, "4.5.3 Too many recipients"};
    return ok;
}

static void handle_rcpt(struct smtp_server *server, struct str args)
{
    struct smtp_rcpt rcpt = {.orcpt = {"", 0}};
    struct smtp_verdict verdict = {0};
    struct server_refusal refusal = parse_rcpt(server, args, &rcpt);

    server->recipient = named(rcpt.address.whole, args, STR("TO:"));
    if (refusal.code != 0) {
        /* Never a fault: one bad list must not end a session that has good recipients too. */
        server->refused = true;
        server_reply_refused_recipient(server, refusal.code, refusal.text);
        return;
    }
    server->events.on_rcpt(&rcpt, &verdict, server->ctx);
    if (!accepted(&verdict)) {
        server->refused = true;
        server_reply_refused_recipient(server, verdict.code, verdict.text);
        return;
    }
    server->recipients++;
    server_set_state(server, SERVER_RCPT);
    reply_accepted(server, &verdict, "2.1.5 Recipient ok");
}

void server_rcpt(struct smtp_server *server, struct str args)
{
    handle_rcpt(server, args);
    server->recipient = STR("");
}
