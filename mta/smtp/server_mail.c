/* mta/smtp/server_mail.c - MAIL and RCPT with their parameters. RFC 5321 section 4.1.1, RFC 1870,
 * RFC 6152. */
#include <assert.h>

#include "mta/smtp/server_private.h"

#define SIZE_DIGITS_MAX 20 /* RFC 1870 section 4 */

/* What is wrong with a command: code 0 is nothing. */
struct refusal {
    uint16_t code;
    const char *text;
};

static const struct refusal ok = {0, NULL};

/* "FROM:<path>" into path and what stands behind it. A space behind the colon is against the
 * grammar but sent by real clients. */
static struct refusal parse_path(struct str args, struct str prefix, bool sender,
                                 enum smtp_path_kind *kind, struct smtp_address *address,
                                 struct str *rest)
{
    if (!str_starts_nocase(args, prefix))
        return sender ? (struct refusal){501, "5.5.4 Syntax: MAIL FROM:<address>"}
                      : (struct refusal){501, "5.5.4 Syntax: RCPT TO:<address>"};
    struct str path = str_trim(str_skip(args, prefix.len));
    if (!smtp_path_parse(path, kind, address, rest)) {
        for (size_t i = 0; i < path.len; i++) {
            if ((unsigned char)path.p[i] >= 0x80) /* RFC 6531 section 3.5 */
                return (struct refusal){553, "5.6.7 Address must be ASCII"};
        }
        return sender ? (struct refusal){501, "5.1.7 Bad sender address syntax"}
                      : (struct refusal){501, "5.1.3 Bad recipient address syntax"};
    }
    if (rest->len > 0 && rest->p[0] != ' ')
        return (struct refusal){501, "5.5.4 Space expected behind the address"};
    return ok;
}

/* ---- parameters of MAIL ---- */

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    }
    return s.len > 0;
}

static struct refusal take_size(const struct smtp_server *server, struct str value,
                                struct smtp_mail *mail)
{
    if (!all_digits(value) || value.len > SIZE_DIGITS_MAX)
        return (struct refusal){501, "5.5.4 Bad SIZE"};
    /* 20 digits are good syntax, even where they are no 64-bit number */
    if (!str_parse_u64(value, UINT64_MAX, &mail->declared_bytes))
        mail->declared_bytes = UINT64_MAX;
    if (server->options.max_message_bytes > 0 &&
        mail->declared_bytes > server->options.max_message_bytes)
        return (struct refusal){552, "5.3.4 Message too big"};
    return ok;
}

static struct refusal take_body(const struct smtp_server *server, struct str value,
                                struct smtp_mail *mail)
{
    (void)server;
    mail->body_8bit = str_equal_nocase(value, STR("8BITMIME"));
    if (!mail->body_8bit && !str_equal_nocase(value, STR("7BIT")))
        return (struct refusal){501, "5.5.4 BODY must be 7BIT or 8BITMIME"};
    return ok;
}

static const struct mail_param {
    struct str name;
    struct refusal (*take)(const struct smtp_server *server, struct str value,
                           struct smtp_mail *mail);
} mail_params[] = {
    {{"SIZE", 4}, take_size},
    {{"BODY", 4}, take_body},
};

/* One "NAME=value". seen: a bit for each row that had its turn. */
static struct refusal take_param(const struct smtp_server *server, struct str param, unsigned *seen,
                                 struct smtp_mail *mail)
{
    struct str name = {param.p, 0};

    while (name.len < param.len && param.p[name.len] != '=')
        name.len++;
    for (unsigned i = 0; i < sizeof mail_params / sizeof mail_params[0]; i++) {
        if (!str_equal_nocase(name, mail_params[i].name))
            continue;
        if ((*seen & (1U << i)) != 0)
            return (struct refusal){501, "5.5.4 Parameter given twice"};
        *seen |= 1U << i;
        return mail_params[i].take(server, str_skip(param, name.len + 1), mail);
    }
    return (struct refusal){555, "5.5.4 Unknown parameter"};
}

static struct refusal take_params(const struct smtp_server *server, struct str rest,
                                  struct smtp_mail *mail)
{
    unsigned seen = 0;

    for (rest = str_trim(rest); rest.len > 0; rest = str_trim(rest)) {
        struct str param = {rest.p, 0};
        while (param.len < rest.len && rest.p[param.len] != ' ')
            param.len++;
        rest = str_skip(rest, param.len);
        struct refusal refusal = take_param(server, param, &seen, mail);
        if (refusal.code != 0)
            return refusal;
    }
    return ok;
}

static struct refusal parse_mail(const struct smtp_server *server, struct str args,
                                 struct smtp_mail *mail)
{
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct smtp_address address = {0};
    struct str rest = {0};
    struct refusal refusal = parse_path(args, STR("FROM:"), true, &kind, &address, &rest);

    if (refusal.code != 0)
        return refusal;
    if (kind == SMTP_PATH_UNQUALIFIED && !server->options.accept_unqualified)
        return (struct refusal){553, "5.1.7 Sender address needs a domain"};
    mail->sender = address.whole;
    mail->sender_domain = address.domain;
    return take_params(server, rest, mail);
}

static bool is_fault(struct refusal refusal)
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

static void refuse_mail(struct smtp_server *server, struct refusal refusal)
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
    struct refusal refusal = parse_mail(server, args, &mail);

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
    server_set_state(server, SERVER_MAIL);
    reply_accepted(server, &verdict, "2.1.0 Sender ok");
}

/* ---- RCPT ---- */

static struct refusal parse_rcpt(const struct smtp_server *server, struct str args,
                                 struct smtp_address *address)
{
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct str rest = {0};
    struct refusal refusal = parse_path(args, STR("TO:"), false, &kind, address, &rest);

    if (refusal.code != 0)
        return refusal;
    if (kind == SMTP_PATH_NULL)
        return (struct refusal){501, "5.1.3 Bad recipient address syntax"};
    if (kind == SMTP_PATH_UNQUALIFIED && !server->options.accept_unqualified &&
        !str_equal_nocase(address->local, STR("postmaster")))
        return (struct refusal){553, "5.1.3 Recipient address needs a domain"};
    if (str_trim(rest).len > 0)
        return (struct refusal){555, "5.5.4 Unknown parameter"};
    if (server->options.max_recipients > 0 && server->recipients >= server->options.max_recipients)
        return (struct refusal){452, "4.5.3 Too many recipients"};
    return ok;
}

static void handle_rcpt(struct smtp_server *server, struct str args)
{
    struct smtp_rcpt rcpt = {.orcpt = {"", 0}};
    struct smtp_verdict verdict = {0};
    struct refusal refusal = parse_rcpt(server, args, &rcpt.address);

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
