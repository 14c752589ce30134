/* mta/smtp/server_command.c - the command table: which command may come when, and what it does. RFC
 * 5321 section 4. */
#include <assert.h>
#include <inttypes.h>

#include "mta/smtp/server_private.h"

#define HELLO_NAME_MAX 255
/* Health checks say EHLO and QUIT; nobody honest asks for so many long replies without sending
 * mail. */
#define CHATTER_MAX 100
/* NOOP keeps a pooled connection open, RSET stands before each message of some clients. */
#define IDLING_MAX 1000

#define IN(state) (1U << (state))
#define IN_MAIL   (IN(SERVER_MAIL) | IN(SERVER_RCPT))
#define IN_ANY    (IN(SERVER_NEW) | IN(SERVER_READY) | IN_MAIL | IN(SERVER_BDAT))

enum cmd_flags {
    CMD_NO_ARGS = 1,
    CMD_NEEDS_TLS = 2, /* where TLS is required */
    CMD_CHATTER = 4,   /* counts against CHATTER_MAX */
    CMD_IDLING = 8,    /* counts against IDLING_MAX */
    CMD_CHUNK = 16,    /* octets follow, also where it is refused */
};

/* ---- EHLO, HELO ---- */

/* Only the characters count, not whether it is a name: clients are behind NAT or misconfigured, and
 * must be served (RFC 5321 section 4.1.4). It ends up in a header field, so what is not printable
 * ASCII goes. */
static bool clean_name(struct str args, char name[HELLO_NAME_MAX], size_t *len_out)
{
    if (args.len == 0 || args.len > HELLO_NAME_MAX)
        return false;
    for (size_t i = 0; i < args.len; i++) {
        bool printable = args.p[i] > ' ' && args.p[i] <= '~';
        name[i] = args.p[i];
        if (!printable)
            name[i] = '?';
    }
    *len_out = args.len;
    return true;
}

static bool hello(struct smtp_server *server, struct str args, bool extended)
{
    char name[HELLO_NAME_MAX];
    size_t len = 0;

    if (!clean_name(args, name, &len)) {
        server_reply_fault(server, 501, "Syntax: EHLO hostname");
        return false;
    }
    server_reset(server);
    server_set_state(server, SERVER_READY);
    server->events.on_hello((struct str){name, len}, extended, server->ctx);
    return true;
}

static void on_helo(struct smtp_server *server, struct str args)
{
    if (hello(server, args, false))
        server_reply(server, 250, server->options.hostname);
}

bool server_offers_requiretls(const struct smtp_server *server)
{
    return server->options.offer_requiretls && server->tls; /* RFC 8689 section 2 */
}

static void on_ehlo(struct smtp_server *server, struct str args)
{
    const struct smtp_server_options *options = &server->options;
    const char *mechanisms = server_auth_mechanisms(server);
    struct buf *out = &server->output;

    if (!hello(server, args, true))
        return;
    bool room = buf_printf(out,
                           "250-%s\r\n250-PIPELINING\r\n250-SIZE %" PRIu64
                           "\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n",
                           options->hostname, options->max_message_bytes);
    if (options->offer_starttls && !server->tls)
        room = room && buf_add_text(out, "250-STARTTLS\r\n");
    if (mechanisms != NULL)
        room = room && buf_printf(out, "250-AUTH %s\r\n", mechanisms);
    if (options->offer_dsn)
        room = room && buf_add_text(out, "250-DSN\r\n");
    if (options->offer_smtputf8)
        room = room && buf_add_text(out, "250-SMTPUTF8\r\n");
    if (server_offers_requiretls(server))
        room = room && buf_add_text(out, "250-REQUIRETLS\r\n");
    if (!room || !buf_add_text(out, "250 HELP\r\n"))
        server_end(server);
}

/* ---- the rest ---- */

static void on_starttls(struct smtp_server *server, struct str args)
{
    (void)args;
    if (!server->options.offer_starttls) {
        server_reply_fault(server, 502, "5.5.1 STARTTLS not available");
        return;
    }
    if (server->tls) {
        server_reply_fault(server, 503, "5.5.1 TLS is already active");
        return;
    }
    server_reset(server);
    server_set_state(server, SERVER_STARTTLS);
    server_reply(server, 220, "2.0.0 Ready to start TLS");
    /* before the event: nothing said in clear may be handled as if said under TLS (CVE-2011-0411)
     */
    server_drop_input(server);
    if (server->state == SERVER_STARTTLS)
        server->events.on_starttls(server->ctx);
}

static void on_data(struct smtp_server *server, struct str args)
{
    struct smtp_verdict verdict = {0};

    (void)args;
    server->events.on_data(&verdict, server->ctx);
    assert(verdict.code == 0 || verdict.code >= 400);
    if (verdict.code != 0) {
        server_reply_refused_mail(server, verdict.code, verdict.text);
        return;
    }
    server_content_begin(server);
    server_reply(server, 354, "End data with <CR><LF>.<CR><LF>");
}

static void on_rset(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reset(server);
    server_reply(server, 250, "2.0.0 Ok");
}

static void on_noop(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reply(server, 250, "2.0.0 Ok");
}

static void on_vrfy(struct smtp_server *server, struct str args)
{
    if (args.len == 0)
        server_reply_fault(server, 501, "5.5.4 Syntax: VRFY address");
    else
        server_reply(server, 252, "2.5.2 Cannot verify, send mail to find out");
}

static void on_help(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reply(server, 214,
                 "2.0.0 EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT");
}

static void on_quit(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reply(server, 221, "2.0.0 Bye");
    server_end(server);
}

static void on_missing(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reply_fault(server, 502, "5.5.1 Command not implemented");
}

/* A web page can make a browser on a trusted machine post a form to this port; the form's text
 * would then be handled as commands. */
static void on_http(struct smtp_server *server, struct str args)
{
    (void)args;
    server_reply(server, 421, "4.7.0 This is SMTP, not HTTP");
}

static const struct cmd_row {
    struct str name;
    unsigned states;
    unsigned flags; /* enum cmd_flags */
    void (*handle)(struct smtp_server *server, struct str args);
} cmd_rows[] = {
    {{"EHLO", 4}, IN_ANY, CMD_CHATTER, on_ehlo},
    {{"HELO", 4}, IN_ANY, CMD_CHATTER, on_helo},
    {{"STARTTLS", 8}, IN_ANY, CMD_NO_ARGS, on_starttls},
    {{"MAIL", 4}, IN(SERVER_READY), CMD_NEEDS_TLS, server_mail},
    {{"RCPT", 4}, IN_MAIL, CMD_NEEDS_TLS, server_rcpt},
    {{"DATA", 4}, IN(SERVER_RCPT), CMD_NEEDS_TLS | CMD_NO_ARGS, on_data},
    {{"RSET", 4}, IN_ANY, CMD_NO_ARGS | CMD_IDLING, on_rset},
    {{"NOOP", 4}, IN_ANY, CMD_IDLING, on_noop},
    {{"BDAT", 4}, IN(SERVER_RCPT) | IN(SERVER_BDAT), CMD_NEEDS_TLS | CMD_CHUNK, server_bdat},
    {{"VRFY", 4}, IN_ANY, CMD_NEEDS_TLS | CMD_CHATTER, on_vrfy},
    {{"HELP", 4}, IN_ANY, CMD_CHATTER, on_help},
    {{"QUIT", 4}, IN_ANY, CMD_NO_ARGS, on_quit},
    {{"AUTH", 4}, IN(SERVER_READY), 0, server_auth},
    {{"EXPN", 4}, IN_ANY, 0, on_missing},
    {{"ETRN", 4}, IN_ANY, 0, on_missing},
    {{"TURN", 4}, IN_ANY, 0, on_missing},
    {{"ATRN", 4}, IN_ANY, 0, on_missing},
    {{"SEND", 4}, IN_ANY, 0, on_missing},
    {{"SOML", 4}, IN_ANY, 0, on_missing},
    {{"SAML", 4}, IN_ANY, 0, on_missing},
    {{"BURL", 4}, IN_ANY, 0, on_missing},
    {{"GET", 3}, IN_ANY, 0, on_http},
    {{"HEAD", 4}, IN_ANY, 0, on_http},
    {{"POST", 4}, IN_ANY, 0, on_http},
    {{"PUT", 3}, IN_ANY, 0, on_http},
    {{"OPTIONS", 7}, IN_ANY, 0, on_http},
    {{"CONNECT", 7}, IN_ANY, 0, on_http},
};

static const struct cmd_row *find_row(struct str name)
{
    for (size_t i = 0; i < sizeof cmd_rows / sizeof cmd_rows[0]; i++) {
        if (str_equal_nocase(cmd_rows[i].name, name))
            return &cmd_rows[i];
    }
    return NULL;
}

/* The words for a command that may not come now; RFC 5321 section 4.1.4 and, for DATA, 4.1.1.4. */
static void refuse_order(struct smtp_server *server, const struct cmd_row *row)
{
    if (server->state == SERVER_NEW)
        server_reply_fault(server, 503, "5.5.1 Send EHLO first");
    else if (server->state == SERVER_BDAT)
        server_reply_fault(server, 503, "5.5.1 Send the rest with BDAT, or RSET");
    else if (row->handle == server_mail || row->handle == server_auth)
        server_reply_fault(server, 503, "5.5.1 A transaction is open already");
    else if (server->state == SERVER_MAIL && server->refused)
        server_reply_refused_recipient(server, 554, "5.5.1 No valid recipients");
    else if (server->state == SERVER_MAIL)
        server_reply_fault(server, 503, "5.5.1 Send RCPT first");
    else if (server->refused)
        server_reply_refused_recipient(server, 503, "5.5.1 Send MAIL first");
    else
        server_reply_fault(server, 503, "5.5.1 Send MAIL first");
    if ((row->flags & CMD_CHUNK) != 0)
        server_chunk_lost(server);
}

static bool has_control_byte(struct str line)
{
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.p[i] < ' ' || line.p[i] == 0x7f)
            return true;
    }
    return false;
}

void server_refuse_unread(struct smtp_server *server, struct str line, uint16_t code,
                          const char *text)
{
    server_reply_fault(server, code, text);
    if (str_starts_nocase(line, STR("BDAT")))
        server_end(server);
}

void server_command(struct smtp_server *server, struct str line)
{
    struct str name = {line.p, 0};

    if (has_control_byte(line)) {
        server_refuse_unread(server, line, 500, "5.5.2 Control byte in command");
        return;
    }
    while (name.len < line.len && line.p[name.len] != ' ')
        name.len++;
    struct str args = str_trim(str_skip(line, name.len));
    const struct cmd_row *row = find_row(name);

    if (row == NULL)
        server_reply_fault(server, 500, "5.5.1 Command not recognized");
    else if ((row->flags & CMD_CHUNK) != 0 && !server_chunk_announce(server, args))
        return;
    else if ((row->flags & CMD_NEEDS_TLS) != 0 && server->options.require_starttls && !server->tls)
        server_reply_fault(server, 530, "5.7.0 Must issue a STARTTLS command first");
    else if ((row->states & IN(server->state)) == 0)
        refuse_order(server, row);
    else if ((row->flags & CMD_NO_ARGS) != 0 && args.len > 0)
        server_reply_fault(server, 501, "5.5.4 Command takes no parameters");
    else if (((row->flags & CMD_CHATTER) != 0 && ++server->chatter > CHATTER_MAX) ||
             ((row->flags & CMD_IDLING) != 0 && ++server->idling > IDLING_MAX))
        server_reply_fault(server, 450, "4.7.0 Too many commands without mail");
    else
        row->handle(server, args);
}
