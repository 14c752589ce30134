/* mta/smtp/server_data.c - message content, behind 354 or in chunks (RFC 3030). Reads to the real
 * end whatever is found on the way, answers once. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mta/smtp/server_private.h"

#define PIECE_MAX     (64UL * 1024) /* given to the owner at once: stays in the processor's cache */
#define TEXT_LINE_MAX 998           /* RFC 5322 section 2.1.1 */
#define ANY_LINE_MAX                                                                               \
    (1024UL * 1024) /* whatever is accepted: what reads the message later needs a bound */

#define EMPTY_CHUNKS_MAX 1000 /* since the last accepted message: they never make one */

static void begin(struct smtp_server *server)
{
    struct server_content *content = &server->content;

    *content = (struct server_content){0};
    buf_init(&content->piece, PIECE_MAX + 2);
    smtp_dot_reader_init(&content->reader,
                         server->options.refuse_long_lines ? TEXT_LINE_MAX : ANY_LINE_MAX);
}

void server_content_begin(struct smtp_server *server)
{
    begin(server);
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

static void refuse_content(struct smtp_server *server, uint16_t code, const char *reason)
{
    bool chunked = server->state == SERVER_CHUNK;

    server_set_state(server, SERVER_READY);
    server_end_transaction(server);
    server->refused = chunked; /* the chunks pipelined behind it are no fault */
    server->events.on_content_end(true, reason, server->ctx);
    server_reply(server, code, reason);
    server_forget_sender(server);
}

static void end_content(struct smtp_server *server)
{
    uint16_t code = 0;
    const char *reason = find_fault(server, &code);

    buf_deinit(&server->content.piece);
    if (reason != NULL) {
        refuse_content(server, code, reason);
        return;
    }
    server_set_state(server, SERVER_ANSWER);
    server->events.on_content_end(false, "", server->ctx);
}

static void take_piece(struct smtp_server *server, struct str piece)
{
    uint16_t code = 0;

    server->content.bytes += piece.len;
    measure_header(&server->content, piece);
    if (piece.len > 0 && find_fault(server, &code) == NULL)
        server->events.on_content(piece.p, piece.len, server->ctx);
}

void server_content_input(struct smtp_server *server)
{
    struct server_content *content = &server->content;
    size_t len = server->now.len < PIECE_MAX ? server->now.len : PIECE_MAX;
    size_t used = 0;
    bool done = false;

    buf_clear(&content->piece);
    if (!smtp_dot_read(&content->reader, server->now.p, len, &used, &content->piece, &done))
        unreachable_bug();
    server->now = str_skip(server->now, used);
    take_piece(server, buf_str(&content->piece));
    if (done)
        end_content(server);
}

/* ---- chunks ---- */

/* "123" or "123 LAST". */
static bool parse_chunk(struct str args, struct server_chunk *chunk_out)
{
    size_t len = 0;

    while (len < args.len && args.p[len] != ' ')
        len++;
    struct str rest = str_trim(str_skip(args, len));
    chunk_out->last = str_equal_nocase(rest, STR("LAST"));
    chunk_out->good = chunk_out->last || rest.len == 0;
    return str_parse_u64((struct str){args.p, len}, INT64_MAX, &chunk_out->bytes);
}

void server_chunk_lost(struct smtp_server *server)
{
    if (server->state != SERVER_MAIL && server->state != SERVER_RCPT &&
        server->state != SERVER_BDAT)
        return;
    server_reset(server);
    server->refused = true; /* what is pipelined behind it is no fault */
}

bool server_chunk_announce(struct smtp_server *server, struct str args)
{
    if (parse_chunk(args, &server->chunk)) {
        server->skip_bytes = server->chunk.bytes;
        return true;
    }
    server_reply_fault(server, 501, "5.5.4 Syntax: BDAT size [LAST]");
    server_chunk_lost(server);
    /* Octets follow, and nobody knows how many: content must not be taken for commands. */
    if (args.len > 0)
        server_end(server);
    return false;
}

static struct server_refusal check_chunk(struct smtp_server *server)
{
    const struct server_chunk *chunk = &server->chunk;
    uint64_t max = server->options.max_message_bytes;
    uint64_t before = server->state == SERVER_BDAT ? server->content.announced : 0;

    if (!chunk->good)
        return (struct server_refusal){501, "5.5.4 Syntax: BDAT size [LAST]"};
    if (max > 0 && (chunk->bytes > max || before > max - chunk->bytes))
        return (struct server_refusal){552, "5.3.4 Message too big"};
    if (chunk->bytes == 0 && !chunk->last && ++server->empty_chunks > EMPTY_CHUNKS_MAX)
        return (struct server_refusal){450, "4.7.0 Too many empty chunks"};
    return (struct server_refusal){0, NULL};
}

static void refuse_chunk(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    if (verdict->code == 501)
        server_reply_fault(server, verdict->code, verdict->text);
    else
        server_reply_refused_mail(server, verdict->code, verdict->text);
    server_chunk_lost(server);
}

/* All octets of a chunk are there. */
static void end_chunk(struct smtp_server *server)
{
    struct server_content *content = &server->content;
    char text[80];
    uint16_t code = 0;

    if (server->chunk.last) {
        bool whole = smtp_dot_check_end(&content->reader);
        if (!whole && find_fault(server, &code) == NULL)
            server->events.on_content("\r\n", 2, server->ctx);
        end_content(server);
        return;
    }
    const char *reason = find_fault(server, &code);
    if (reason != NULL) {
        refuse_content(server, code, reason);
        return;
    }
    server_set_state(server, SERVER_BDAT);
    snprintf(text, sizeof text, "2.0.0 %" PRIu64 " octets received", server->chunk.bytes);
    server_reply(server, 250, text);
}

void server_bdat(struct smtp_server *server, struct str args)
{
    struct smtp_verdict verdict = {0};
    struct server_refusal refusal = check_chunk(server);

    (void)args;
    if (refusal.code != 0) {
        verdict.code = refusal.code;
        snprintf(verdict.text, sizeof verdict.text, "%s", refusal.text);
    } else if (server->state == SERVER_RCPT) {
        server->events.on_data(&verdict, server->ctx);
    }
    assert(verdict.code == 0 || verdict.code >= 400);
    if (verdict.code != 0) {
        refuse_chunk(server, &verdict);
        return;
    }
    if (server->state == SERVER_RCPT)
        begin(server);
    server_set_state(server, SERVER_CHUNK);
    server->content.announced += server->chunk.bytes;
    server->content.chunk_left = server->chunk.bytes;
    server->skip_bytes = 0;
    if (server->chunk.bytes == 0)
        end_chunk(server);
}

void server_chunk_input(struct smtp_server *server)
{
    struct server_content *content = &server->content;
    size_t len = server->now.len < PIECE_MAX ? server->now.len : PIECE_MAX;

    if (len > content->chunk_left)
        len = (size_t)content->chunk_left;
    struct str piece = {server->now.p, len};
    server->now = str_skip(server->now, len);
    content->chunk_left -= len;
    smtp_dot_check(&content->reader, piece.p, piece.len);
    take_piece(server, piece);
    if (content->chunk_left == 0)
        end_chunk(server);
}
