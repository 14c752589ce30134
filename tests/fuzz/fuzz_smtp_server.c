/* tests/fuzz/fuzz_smtp_server.c - server sessions. The first byte and the upper bits of the second
 * choose the options, the lower bits the segment length; the rest is what the peer sends. It goes
 * in whole and in segments: both sessions must say and ask the same, replies must be well-formed,
 * and an accepted message must hold no bare CR, bare LF or NUL and end a line. */
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/server.h"

struct record {
    struct smtp_server *server;
    unsigned options;
    struct buf events;
    struct buf content; /* of the message that is arriving */
    unsigned quits;
    bool asked; /* AUTH waits for an answer */
    char first; /* of the response; 0: none */
};

enum more_options { WITH_AUTH = 32, WITH_EXTENSIONS = 64, UNDER_TLS = 128 };

static void check(bool good)
{
    if (!good)
        abort();
}

static void note(struct record *record, const char *event, struct str detail)
{
    check(buf_printf(&record->events, "%s %.*s;", event, (int)detail.len,
                     detail.len > 0 ? detail.p : ""));
}

static void on_hello(struct str name, bool extended, void *ctx)
{
    for (size_t i = 0; i < name.len; i++)
        check(name.p[i] > ' ' && name.p[i] <= '~');
    check(name.len > 0 && name.len <= 255);
    note(ctx, extended ? "ehlo" : "helo", name);
}

static void on_starttls(void *ctx)
{
    note(ctx, "starttls", STR(""));
}

/* The address's first letter decides, so that every kind of verdict is reached. */
static void decide(struct str address, struct smtp_verdict *verdict)
{
    if (address.len > 0 && address.p[0] == 'd')
        *verdict = (struct smtp_verdict){550, "5.7.1 No"};
    if (address.len > 0 && address.p[0] == 'l')
        *verdict = (struct smtp_verdict){421, "4.7.0 Leave"};
}

/* What is handed on ends up in commands, fields and logs. */
static void check_text(struct str text, bool utf8)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        check((c >= ' ' && c <= '~') || (utf8 && c >= 0x80));
    }
    check(str_utf8_valid(text));
}

static void on_mail(const struct smtp_mail *mail, struct smtp_verdict *verdict, void *ctx)
{
    check(mail->envid.len <= 100);
    check_text(mail->envid, false);
    check_text(mail->sender, mail->smtputf8);
    decide(mail->sender, verdict);
    note(ctx, "mail", mail->sender);
    note(ctx, "envid", mail->envid);
}

static void on_rcpt(const struct smtp_rcpt *rcpt, struct smtp_verdict *verdict, void *ctx)
{
    const struct smtp_address *address = &rcpt->address;

    check(address->local.len > 0 && address->whole.len >= address->local.len);
    check(rcpt->orcpt.len <= 500 && rcpt->notify < 16);
    check_text(rcpt->orcpt, true);
    check_text(address->whole, address->utf8);
    decide(address->whole, verdict);
    note(ctx, "rcpt", address->whole);
    note(ctx, "orcpt", rcpt->orcpt);
}

static void on_data(struct smtp_verdict *verdict, void *ctx)
{
    struct record *record = ctx;

    (void)verdict;
    buf_clear(&record->content);
    note(record, "data", STR(""));
}

static void on_content(const char *bytes, size_t len, void *ctx)
{
    struct record *record = ctx;

    check(len > 0 && buf_add(&record->content, bytes, len));
}

static void on_content_end(bool refused, const char *reason, void *ctx)
{
    static const struct smtp_verdict stored = {250, "2.0.0 Ok: queued"};
    struct record *record = ctx;
    struct str content = buf_str(&record->content);

    check(refused == (reason[0] != '\0'));
    note(record, refused ? "refused" : "end", refused ? str_from(reason) : content);
    for (size_t i = 0; !refused && i < content.len; i++) {
        bool lf_next = i + 1 < content.len && content.p[i + 1] == '\n';
        check(content.p[i] != '\0');
        check(content.p[i] != '\r' || lf_next);
        check(content.p[i] != '\n' || (i > 0 && content.p[i - 1] == '\r'));
    }
    check(refused || content.len == 0 || content.p[content.len - 1] == '\n');
    if (!refused && (record->options & 1) != 0)
        smtp_server_answer(record->server, &stored);
}

static void on_reset(void *ctx)
{
    note(ctx, "reset", STR(""));
}

/* The response's first letter decides. */
static void answer_auth(struct record *record)
{
    static const struct smtp_verdict good = {0, ""};
    static const struct smtp_verdict wrong = {535, "5.7.8 Wrong"};

    check(record->asked);
    record->asked = false;
    if (record->first == 'T')
        smtp_server_auth_end(record->server, &good);
    else if (record->first == 'Y')
        smtp_server_auth_end(record->server, &wrong);
    else
        smtp_server_auth_challenge(record->server, STR("Y29kZTo="));
}

static void take_auth(struct record *record, struct str response)
{
    check(!record->asked && response.len % 4 == 0 && response.len <= SMTP_AUTH_LINE_MAX);
    check_text(response, false);
    record->asked = true;
    record->first = response.len > 0 ? response.p[0] : '\0';
    if ((record->options & 1) != 0)
        answer_auth(record);
}

static void on_auth(struct str mechanism, const struct str *initial, void *ctx)
{
    check(str_equal_nocase(mechanism, STR("PLAIN")) || str_equal_nocase(mechanism, STR("LOGIN")));
    note(ctx, "auth", mechanism);
    take_auth(ctx, initial != NULL ? *initial : STR(""));
}

static void on_auth_response(struct str base64, void *ctx)
{
    note(ctx, "response", base64);
    take_auth(ctx, base64);
}

static void on_auth_cancel(void *ctx)
{
    ((struct record *)ctx)->asked = false;
    note(ctx, "cancel", STR(""));
}

static void on_quit(void *ctx)
{
    struct record *record = ctx;

    check(++record->quits == 1);
    note(record, "quit", STR(""));
}

static void on_refusal(const struct smtp_refusal *refusal, void *ctx)
{
    (void)ctx;
    check(refusal->code >= 400 && refusal->line.len > 4);
}

static void start(struct record *record, unsigned options, unsigned more)
{
    static const struct smtp_server_events events = {
        .on_hello = on_hello,
        .on_starttls = on_starttls,
        .on_mail = on_mail,
        .on_rcpt = on_rcpt,
        .on_data = on_data,
        .on_content = on_content,
        .on_reset = on_reset,
        .on_content_end = on_content_end,
        .on_quit = on_quit,
        .on_refusal = on_refusal,
        .on_auth = on_auth,
        .on_auth_response = on_auth_response,
        .on_auth_cancel = on_auth_cancel,
    };
    static const struct smtp_verdict welcome = {0, ""};
    struct smtp_server_options o = {
        .hostname = "h.example",
        .banner = "ESMTP",
        .max_message_bytes = (options & 2) != 0 ? 200 : 0,
        .max_recipients = 3,
        .offer_starttls = (options & 4) != 0,
        .require_starttls = (options & 8) != 0,
        .refuse_long_lines = (options & 16) != 0,
        .header_max = (options & 32) != 0 ? 100 : 0,
        .accept_unqualified = (options & 64) != 0,
        .auth_after_tls = (options & 128) != 0,
        .offer_dsn = (more & WITH_EXTENSIONS) != 0,
        .offer_smtputf8 = (more & WITH_EXTENSIONS) != 0,
        .offer_requiretls = (more & WITH_EXTENSIONS) != 0,
    };

    *record = (struct record){.options = options};
    buf_init(&record->events, 64U << 20);
    buf_init(&record->content, 64U << 20);
    record->server = smtp_server_new(&o, &events, record);
    if ((more & UNDER_TLS) != 0)
        check(smtp_server_tls_started(record->server) == 0);
    if ((more & WITH_AUTH) != 0)
        smtp_server_offer_auth(record->server, "PLAIN LOGIN");
    smtp_server_greet(record->server, &welcome);
}

static void give(struct record *record, char *bytes, size_t len)
{
    static const struct smtp_verdict failed = {451, "4.3.0 Disk"};

    smtp_server_input(record->server, bytes, len);
    while (smtp_server_answer_pending(record->server)) {
        check(smtp_server_auth_pending(record->server) == record->asked);
        if (record->asked)
            answer_auth(record);
        else
            smtp_server_answer(record->server, &failed);
    }
}

static void check_replies(struct str said)
{
    while (said.len > 0) {
        const char *lf = memchr(said.p, '\n', said.len);
        check(lf != NULL);
        size_t len = (size_t)(lf - said.p) + 1;
        check(len >= 6 && len <= 512 && said.p[len - 2] == '\r');
        check(said.p[0] >= '2' && said.p[0] <= '5' && (said.p[3] == ' ' || said.p[3] == '-'));
        for (size_t i = 0; i < len - 2; i++)
            check(said.p[i] >= ' ' && said.p[i] <= '~');
        said = str_skip(said, len);
    }
}

static void end(struct record *record)
{
    smtp_server_free(&record->server);
    buf_deinit(&record->events);
    buf_deinit(&record->content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record whole, cut;

    if (size < 2)
        return 0;
    size_t piece = data[1] % 32U + 1;
    size_t len = size - 2;
    char *bytes = mem_alloc(len); /* the sessions write to what they are given */
    start(&whole, data[0], data[1]);
    start(&cut, data[0], data[1]);
    memcpy(bytes, data + 2, len);
    give(&whole, bytes, len);
    memcpy(bytes, data + 2, len);
    for (size_t i = 0; i < len; i += piece)
        give(&cut, bytes + i, len - i < piece ? len - i : piece);
    free(bytes);

    struct str said = buf_str(smtp_server_output(whole.server));
    check_replies(said);
    check(str_equal(said, buf_str(smtp_server_output(cut.server))));
    check(str_equal(buf_str(&whole.events), buf_str(&cut.events)));
    check(smtp_server_in_data(whole.server) == smtp_server_in_data(cut.server));
    smtp_server_shut(whole.server, "4.4.2 Timeout");
    check(whole.quits == 1);
    check_replies(buf_str(smtp_server_output(whole.server)));
    end(&whole);
    end(&cut);
    return 0;
}
