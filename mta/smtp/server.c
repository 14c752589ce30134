/* mta/smtp/server.c - life of a server session, bytes in and replies out. RFC 5321, 2920, 3207. */
#include "mta/smtp/server.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/server_private.h"

#define INPUT_WANTED_MAX (64UL * 1024)       /* with this much waiting, no more is asked for */
#define INPUT_MAX        (1024UL * 1024)     /* an owner that does not look at wants_input */
#define OUTPUT_MAX       (8UL * 1024 * 1024) /* a peer that reads no reply */
#define REPLY_MAX        512                 /* RFC 5321 section 4.5.3.1.5, CRLF included */

struct smtp_server *smtp_server_new(const struct smtp_server_options *options,
                                    const struct smtp_server_events *events, void *ctx)
{
    struct smtp_server *server = mem_alloc(sizeof *server);

    server->options = *options;
    server->options.hostname = str_dup(str_from(options->hostname));
    server->options.banner = str_dup(str_from(options->banner));
    server->events = *events;
    server->ctx = ctx;
    buf_init_secret(&server->input, INPUT_MAX); /* a line of AUTH may lie there */
    buf_init(&server->output, OUTPUT_MAX);
    return server;
}

void smtp_server_free(struct smtp_server **serverp)
{
    struct smtp_server *server = *serverp;

    if (server == NULL)
        return;
    assert(!server->running);
    free((char *)server->options.hostname);
    free((char *)server->options.banner);
    free(server->shut_text);
    free(server->sender);
    free(server->auth.mechanisms);
    buf_deinit(&server->input);
    buf_deinit(&server->output);
    buf_deinit(&server->content.piece);
    free(server);
    *serverp = NULL;
}

void server_set_state(struct smtp_server *server, enum server_state state)
{
#define TO(s) (1U << (s))
    static const unsigned legal[] = {
        [SERVER_UNGREETED] = TO(SERVER_NEW),
        [SERVER_NEW] = TO(SERVER_READY) | TO(SERVER_STARTTLS),
        [SERVER_READY] =
            TO(SERVER_READY) | TO(SERVER_MAIL) | TO(SERVER_STARTTLS) | TO(SERVER_AUTH_ANSWER),
        [SERVER_MAIL] = TO(SERVER_READY) | TO(SERVER_RCPT),
        [SERVER_RCPT] = TO(SERVER_READY) | TO(SERVER_RCPT) | TO(SERVER_DATA) | TO(SERVER_CHUNK),
        [SERVER_DATA] = TO(SERVER_READY) | TO(SERVER_ANSWER),
        [SERVER_CHUNK] = TO(SERVER_READY) | TO(SERVER_BDAT) | TO(SERVER_ANSWER),
        [SERVER_BDAT] = TO(SERVER_READY) | TO(SERVER_CHUNK),
        [SERVER_ANSWER] = TO(SERVER_READY),
        [SERVER_AUTH_ANSWER] = TO(SERVER_READY) | TO(SERVER_AUTH_RESPONSE),
        [SERVER_AUTH_RESPONSE] = TO(SERVER_READY) | TO(SERVER_AUTH_ANSWER),
        [SERVER_STARTTLS] = TO(SERVER_NEW),
        [SERVER_CLOSED] = 0,
    };
    assert(state == SERVER_CLOSED || (legal[server->state] & TO(state)) != 0);
#undef TO
    server->state = state;
}

/* ---- replies ---- */

/* The enhanced code at the start of our own texts. RFC 2034. */
static struct str read_status(const char *text)
{
    size_t len = strcspn(text, " ");

    return strspn(text, "0123456789.") == len ? (struct str){text, len} : STR("");
}

static void queue_line(struct smtp_server *server, uint16_t code, const char *text)
{
    char line[REPLY_MAX - 2 + 1];
    int printed = snprintf(line, sizeof line, "%u %s", (unsigned)code, text);
    size_t len = (size_t)printed < sizeof line ? (size_t)printed : sizeof line - 1;

    assert(code >= 200 && code <= 599 && printed > 0);
    for (size_t i = 0; i < len; i++) {
        if (line[i] < ' ' || line[i] > '~')
            line[i] = '?';
    }
    if (!buf_printf(&server->output, "%s\r\n", line)) {
        server_end(server); /* sends commands without end and reads no reply */
        return;
    }
    struct smtp_refusal refusal = {
        .code = code,
        .status = read_status(text),
        .line = {line, len},
        .sender = str_from(server->sender),
        .recipient = server->recipient,
    };
    if (code >= 400)
        server->events.on_refusal(&refusal, server->ctx);
}

void server_end(struct smtp_server *server)
{
    bool transaction =
        server->state == SERVER_MAIL || server->state == SERVER_RCPT || smtp_server_in_data(server);
    bool auth = server->state == SERVER_AUTH_ANSWER || server->state == SERVER_AUTH_RESPONSE;

    if (server->state == SERVER_CLOSED)
        return;
    server_set_state(server, SERVER_CLOSED);
    if (transaction)
        server->events.on_reset(server->ctx);
    if (auth)
        server->events.on_auth_cancel(server->ctx);
    server->events.on_quit(server->ctx);
}

void server_reply(struct smtp_server *server, uint16_t code, const char *text)
{
    queue_line(server, code, text);
    if (code == 421) /* RFC 5321 section 3.8: only before closing */
        server_end(server);
}

static void reply_counted(struct smtp_server *server, bool too_many, uint16_t code,
                          const char *text)
{
    if (too_many)
        server_reply(server, 421, "4.7.0 Too many errors");
    else
        server_reply(server, code, text);
}

void server_reply_fault(struct smtp_server *server, uint16_t code, const char *text)
{
    reply_counted(server, ++server->faults > SMTP_SERVER_ERRORS_MAX, code, text);
}

void server_reply_refused_mail(struct smtp_server *server, uint16_t code, const char *text)
{
    reply_counted(server, ++server->refused_mails > SMTP_SERVER_REFUSED_MAX, code, text);
}

void server_reply_refused_recipient(struct smtp_server *server, uint16_t code, const char *text)
{
    unsigned max = SMTP_SERVER_REFUSED_RCPT_MAX(server->options.max_recipients);

    reply_counted(server, ++server->refused_recipients > max, code, text);
}

void server_forget_sender(struct smtp_server *server)
{
    free(server->sender);
    server->sender = NULL;
}

void server_reset(struct smtp_server *server)
{
    server_end_transaction(server);
    server_forget_sender(server);
}

void server_end_transaction(struct smtp_server *server)
{
    bool transaction = server->state == SERVER_MAIL || server->state == SERVER_RCPT ||
                       server->state == SERVER_BDAT;

    server->refused = false;
    server->recipients = 0;
    if (server->state != SERVER_NEW)
        server_set_state(server, SERVER_READY);
    if (transaction)
        server->events.on_reset(server->ctx);
}

/* ---- bytes in ---- */

static bool input_waits(const struct smtp_server *server)
{
    return server->state == SERVER_UNGREETED || server->state == SERVER_ANSWER ||
           server->state == SERVER_AUTH_ANSWER;
}

static void skip_line(struct smtp_server *server)
{
    const char *lf = memchr(server->now.p, '\n', server->now.len);
    size_t used = lf != NULL ? (size_t)(lf - server->now.p) + 1 : server->now.len;

    server->skipping = lf == NULL;
    server->now = str_skip(server->now, used);
}

static void skip_octets(struct smtp_server *server)
{
    uint64_t len = server->now.len;

    if (len > server->skip_bytes)
        len = server->skip_bytes;
    server->skip_bytes -= len;
    server->now = str_skip(server->now, (size_t)len);
}

/* How long the line may be that begins here; SMTP_COMMAND_LINE_MAX is enough to tell. */
static size_t line_max(const struct smtp_server *server)
{
    bool auth =
        server->state == SERVER_AUTH_RESPONSE || str_starts_nocase(server->now, STR("AUTH "));

    return auth ? SMTP_AUTH_LINE_MAX : SMTP_COMMAND_LINE_MAX;
}

static void refuse_line(struct smtp_server *server, struct str line, uint16_t code,
                        const char *text)
{
    if (server->state == SERVER_AUTH_RESPONSE)
        server_auth_line_fault(server, code, text);
    else
        server_refuse_unread(server, line, code, text);
}

/* @return false: the line is not complete yet */
static bool next_line(struct smtp_server *server)
{
    struct str now = server->now;
    size_t max = line_max(server);
    const char *lf = memchr(now.p, '\n', now.len < max ? now.len : max);

    if (lf == NULL && now.len < max)
        return false;
    if (lf == NULL) {
        skip_line(server);
        if (max == SMTP_AUTH_LINE_MAX) /* RFC 4954 section 4 */
            refuse_line(server, now, 500, "5.5.6 Authentication exchange line is too long");
        else
            refuse_line(server, now, 500, "5.5.2 Line too long");
        return true;
    }
    struct str line = {now.p, (size_t)(lf - now.p)};
    server->now = str_skip(now, line.len + 1);
    /* A bare LF ends no line for a strict peer in front of us: to execute it would be to see
     * commands that this peer took for content (CVE-2023-51764). A bare CR is refused with the
     * control bytes. */
    if (line.len == 0 || line.p[line.len - 1] != '\r') {
        refuse_line(server, line, 500, "5.5.2 Line must end with CRLF");
        return true;
    }
    line.len--;
    if (server->state == SERVER_AUTH_RESPONSE)
        server_auth_line(server, line);
    else
        server_command(server, line);
    return true;
}

static void finish_shut(struct smtp_server *server)
{
    /* shut_text stays until the end: on_refusal may ask once more */
    if (server->state == SERVER_STARTTLS)
        server_end(server); /* a line in clear would be no TLS record: just close */
    else if (server->state != SERVER_CLOSED)
        server_reply(server, 421, server->shut_text);
    free(server->shut_text);
    server->shut_text = NULL;
}

/* What is in `now` is the caller's or ours, and none of it constant. */
static void wipe(struct str bytes)
{
    explicit_bzero((char *)bytes.p, bytes.len);
}

void server_drop_input(struct smtp_server *server)
{
    wipe(server->now);
    server->dropped_bytes += server->now.len;
    server->now.len = 0;
}

/* May a password lie in what is handled next? Also where a client says it in the wrong place. */
static bool is_secret(const struct smtp_server *server)
{
    if (server->state == SERVER_DATA || server->state == SERVER_CHUNK || server->skip_bytes > 0)
        return false;
    return server->skipping || line_max(server) == SMTP_AUTH_LINE_MAX;
}

/* Handles server->now until it is used up or has to wait. */
static void run(struct smtp_server *server)
{
    bool more = true;

    assert(!server->running);
    server->running = true;
    while (more && server->now.len > 0 && !input_waits(server)) {
        struct str before = server->now;
        bool secret = is_secret(server);
        if (server->state == SERVER_CLOSED || server->state == SERVER_STARTTLS) {
            server_drop_input(server);
        } else if (server->state == SERVER_DATA) {
            server_content_input(server);
        } else if (server->state == SERVER_CHUNK) {
            server_chunk_input(server);
        } else if (server->skip_bytes > 0) {
            skip_octets(server);
        } else if (server->skipping) {
            skip_line(server);
        } else {
            more = next_line(server);
        }
        if (secret)
            wipe((struct str){before.p, before.len - server->now.len});
        if (server->shut_text != NULL && server->state != SERVER_ANSWER)
            finish_shut(server);
    }
    server->running = false;
}

/* Handles what waits in the input buffer. */
static void run_waiting(struct smtp_server *server)
{
    server->now = buf_str(&server->input);
    run(server);
    buf_consume(&server->input, buf_len(&server->input) - server->now.len);
    buf_release(&server->input);
    server->now = (struct str){NULL, 0};
}

/* What cannot be handled yet moves into the input buffer. @return false: there is no room */
static bool keep_input(struct smtp_server *server, char *bytes, size_t len)
{
    bool fits = buf_add(&server->input, bytes, len);

    explicit_bzero(bytes, len);
    if (!fits)
        smtp_server_shut(server, "4.7.0 Too much input");
    return fits;
}

void smtp_server_input(struct smtp_server *server, char *bytes, size_t len)
{
    assert(!server->running);
    if (len == 0)
        return;
    if (server->state == SERVER_CLOSED) {
        explicit_bzero(bytes, len);
        return;
    }
    if (buf_len(&server->input) > 0) {
        if (keep_input(server, bytes, len))
            run_waiting(server);
        return;
    }
    /* the usual case: straight from the caller's bytes, only the rest is copied */
    server->now = (struct str){bytes, len};
    run(server);
    size_t rest = server->now.len;
    server->now = (struct str){NULL, 0};
    if (rest > 0)
        (void)keep_input(server, bytes + len - rest, rest);
}

bool smtp_server_wants_input(const struct smtp_server *server)
{
    return server->state != SERVER_CLOSED && server->shut_text == NULL &&
           buf_len(&server->input) < INPUT_WANTED_MAX;
}

struct buf *smtp_server_output(struct smtp_server *server)
{
    return &server->output;
}

/* ---- what the owner tells ---- */

void smtp_server_greet(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    char text[REPLY_MAX];

    assert(!server->running);
    if (server->state != SERVER_UNGREETED)
        return; /* was shut before it was greeted */
    if (verdict->code >= 400) {
        server_reply(server, verdict->code, verdict->text);
        server_end(server);
        return;
    }
    snprintf(text, sizeof text, "%s %s", server->options.hostname, server->options.banner);
    server_set_state(server, SERVER_NEW);
    server_reply(server, 220, text);
    run_waiting(server);
}

void smtp_server_answer(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    assert(server->state == SERVER_ANSWER);
    server_set_state(server, SERVER_READY);
    server_end_transaction(server);
    if (verdict->code < 400) {
        server->faults = 0;
        server->chatter = 0;
        server->idling = 0;
        server->empty_chunks = 0;
        server->refused_mails = 0;
        server->refused_recipients = 0;
    }
    server_reply(server, verdict->code != 0 ? verdict->code : 250,
                 verdict->code != 0 ? verdict->text : "2.0.0 Ok");
    server_forget_sender(server);
    server_go_on(server);
}

void server_go_on(struct smtp_server *server)
{
    if (server->running)
        return;
    if (server->shut_text != NULL)
        finish_shut(server);
    run_waiting(server);
}

size_t smtp_server_tls_started(struct smtp_server *server)
{
    size_t dropped = server->dropped_bytes + buf_len(&server->input);

    assert(server->state == SERVER_STARTTLS || server->state == SERVER_UNGREETED ||
           server->state == SERVER_CLOSED);
    server->dropped_bytes = 0;
    buf_clear(&server->input);
    buf_release(&server->input);
    if (server->state == SERVER_CLOSED)
        return dropped;
    server->tls = true;
    server->auth.done = false;
    smtp_server_offer_auth(server, NULL);
    if (server->state == SERVER_STARTTLS)
        server_set_state(server, SERVER_NEW);
    return dropped;
}

void smtp_server_shut(struct smtp_server *server, const char *text)
{
    if (server->state == SERVER_CLOSED || server->shut_text != NULL)
        return;
    server->shut_text = str_dup(str_from(text));
    if (!server->running && server->state != SERVER_ANSWER)
        finish_shut(server);
}

bool smtp_server_in_data(const struct smtp_server *server)
{
    return server->state == SERVER_DATA || server->state == SERVER_CHUNK ||
           server->state == SERVER_BDAT;
}

bool smtp_server_answer_pending(const struct smtp_server *server)
{
    return server->state == SERVER_ANSWER || server->state == SERVER_AUTH_ANSWER;
}
