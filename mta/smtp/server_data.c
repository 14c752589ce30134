/* mta/smtp/server_data.c - message content behind 354. Reads to the real end whatever is found on
 * the way, answers once. */
#include <string.h>

#include "mta/smtp/server_private.h"

#define PIECE_MAX     (64UL * 1024) /* given to the owner at once: stays in the processor's cache */
#define TEXT_LINE_MAX 998           /* RFC 5322 section 2.1.1 */
#define ANY_LINE_MAX                                                                               \
    (1024UL * 1024) /* whatever is accepted: what reads the message later needs a bound */

void server_content_begin(struct smtp_server *server)
{
    struct server_content *content = &server->content;

    *content = (struct server_content){0};
    buf_init(&content->piece, PIECE_MAX + 2);
    smtp_dot_reader_init(&content->reader,
                         server->options.refuse_long_lines ? TEXT_LINE_MAX : ANY_LINE_MAX);
    server_set_state(server, SERVER_DATA);
}

/* Measures the header section: up to the first empty line. */
static void measure_header(struct server_content *content, struct str piece)
{
    size_t i = 0;

    while (i < piece.len && !content->header_ended) {
        const char *lf = memchr(piece.p + i, '\n', piece.len - i);
        size_t end = lf != NULL ? (size_t)(lf - piece.p) + 1 : piece.len;
        content->header_line_bytes += end - i;
        if (lf != NULL) {
            content->header_ended = content->header_line_bytes <= 2;
            content->header_line_bytes = 0;
        }
        content->header_bytes += end - i;
        i = end;
    }
}

/* Why the message cannot be accepted; NULL: nothing known so far. In order of weight, not of
 * discovery. */
static const char *find_fault(const struct smtp_server *server, uint16_t *code_out)
{
    const struct server_content *content = &server->content;
    const struct smtp_server_options *options = &server->options;
    unsigned faults = content->reader.faults;

    *code_out = 554;
    if ((faults & (SMTP_DOT_BARE_CR | SMTP_DOT_BARE_LF)) != 0)
        return "5.6.0 Message has a bare CR or LF (RFC 5321 section 2.3.8)";
    if ((faults & SMTP_DOT_NUL) != 0)
        return "5.6.0 Message has a NUL byte";
    if ((faults & SMTP_DOT_LONG_LINE) != 0)
        return "5.6.0 Message has a line that is too long";
    *code_out = 552;
    if (options->max_message_bytes > 0 && content->bytes > options->max_message_bytes)
        return "5.3.4 Message too big";
    if (options->header_max > 0 && content->header_bytes > options->header_max)
        return "5.3.4 Message header too big";
    return NULL;
}

static void end_content(struct smtp_server *server)
{
    uint16_t code = 0;
    const char *reason = find_fault(server, &code);

    buf_deinit(&server->content.piece);
    if (reason == NULL) {
        server_set_state(server, SERVER_ANSWER);
        server->events.on_content_end(false, "", server->ctx);
        return;
    }
    server_set_state(server, SERVER_READY);
    server_end_transaction(server);
    server->events.on_content_end(true, reason, server->ctx);
    server_reply(server, code, reason);
    server_forget_sender(server);
}

void server_content_input(struct smtp_server *server)
{
    struct server_content *content = &server->content;
    size_t len = server->now.len < PIECE_MAX ? server->now.len : PIECE_MAX;
    size_t used = 0;
    uint16_t code = 0;
    bool done = false;

    buf_clear(&content->piece);
    if (!smtp_dot_read(&content->reader, server->now.p, len, &used, &content->piece, &done))
        unreachable_bug();
    server->now = str_skip(server->now, used);
    struct str piece = buf_str(&content->piece);
    content->bytes += piece.len;
    measure_header(content, piece);
    if (piece.len > 0 && find_fault(server, &code) == NULL)
        server->events.on_content(piece.p, piece.len, server->ctx);
    if (done)
        end_content(server);
}
