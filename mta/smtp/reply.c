/* mta/smtp/reply.c - reading a server's replies. See reply.h. */
#include <string.h>

#include "mta/smtp/reply.h"

enum line_kind { LINE_BAD, LINE_MORE, LINE_LAST };

void smtp_reply_parser_init(struct smtp_reply_parser *parser)
{
    memset(parser, 0, sizeof *parser);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The line without its code and separator in text_out. 1xx does not exist in SMTP (RFC 5321
 * section 4.2.1). A code alone is a last line: receivers must take it (section 4.2). */
static enum line_kind split_line(struct str line, uint16_t *code_out, struct str *text_out)
{
    if (line.len < 3 || line.p[0] < '2' || line.p[0] > '5' || !is_digit(line.p[1]) ||
        !is_digit(line.p[2]))
        return LINE_BAD;
    *code_out = (uint16_t)((line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0'));
    *text_out = str_skip(line, 4);
    if (line.len == 3 || line.p[3] == ' ')
        return LINE_LAST;
    return line.p[3] == '-' ? LINE_MORE : LINE_BAD;
}

/* "1" to "999" at the start of s. @return its digits, 0: none */
static size_t count_digits(struct str s)
{
    size_t n = 0;
    while (n < s.len && n < 4 && is_digit(s.p[n]))
        n++;
    return n <= 3 ? n : 0;
}

/* Length of an enhanced status code that fits the reply's class (RFC 2034 section 4), 0: none.
 * A misfit, "250 5.1.1 ok", stays text: the code decides. */
static size_t status_length(struct str text, uint16_t code)
{
    if (text.len < 5 || text.p[0] != (char)('0' + code / 100) || text.p[0] == '3' ||
        text.p[1] != '.')
        return 0;
    size_t subject = count_digits(str_skip(text, 2));
    if (subject == 0 || 2 + subject >= text.len || text.p[2 + subject] != '.')
        return 0;
    size_t detail = count_digits(str_skip(text, 3 + subject));
    if (detail == 0)
        return 0;
    size_t end = 3 + subject + detail;
    return end == text.len || text.p[end] == ' ' || text.p[end] == '\t' ? end : 0;
}

static void add_char(struct smtp_reply_parser *parser, char c)
{
    if (parser->text_len + 1 >= sizeof parser->reply.text)
        return;
    parser->reply.text[parser->text_len++] = c;
    parser->reply.text[parser->text_len] = '\0';
}

static void keep_text(struct smtp_reply_parser *parser, struct str text)
{
    size_t status = status_length(text, parser->reply.code);
    if (status > 0) {
        memcpy(parser->reply.status, text.p, status);
        parser->reply.status[status] = '\0';
    }
    text = str_trim(str_skip(text, status));
    if (text.len > 0 && parser->text_len > 0)
        add_char(parser, ' ');
    for (size_t i = 0; i < text.len; i++) {
        bool unfit = text.p[i] == '\0' || text.p[i] == '\r' || text.p[i] == '\n';
        add_char(parser, (char)(unfit ? ' ' : text.p[i]));
    }
}

static enum smtp_reply_result end_line(struct smtp_reply_parser *parser, smtp_reply_line_fn on_line,
                                       void *ctx)
{
    struct str line = {parser->line, parser->line_len};
    if (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;

    uint16_t code = 0;
    struct str text = {NULL, 0};
    enum line_kind kind = split_line(line, &code, &text);
    if (kind == LINE_BAD || (parser->lines > 0 && code != parser->reply.code) ||
        parser->lines == SMTP_REPLY_LINES_MAX)
        return SMTP_REPLY_BAD;

    parser->lines++;
    parser->reply.code = code;
    keep_text(parser, text);
    if (on_line != NULL)
        on_line(text, ctx);
    parser->line_len = 0;
    if (kind == LINE_MORE)
        return SMTP_REPLY_MORE;
    parser->lines = 0; /* the next byte begins a new reply */
    return SMTP_REPLY_DONE;
}

static void begin_reply(struct smtp_reply_parser *parser)
{
    parser->reply.code = 0;
    parser->reply.status[0] = '\0';
    parser->reply.text[0] = '\0';
    parser->text_len = 0;
}

enum smtp_reply_result smtp_reply_feed(struct smtp_reply_parser *parser, const char *bytes,
                                       size_t len, size_t *used_out, smtp_reply_line_fn on_line,
                                       void *ctx)
{
    size_t used = 0;
    enum smtp_reply_result result = SMTP_REPLY_MORE;
    if (len > 0 && parser->lines == 0 && parser->line_len == 0)
        begin_reply(parser);

    while (result == SMTP_REPLY_MORE && used < len) {
        const char *lf = memchr(bytes + used, '\n', len - used);
        size_t piece = (lf != NULL ? (size_t)(lf - bytes) : len) - used;
        if (piece > sizeof parser->line - parser->line_len) {
            result = SMTP_REPLY_BAD;
            break;
        }
        memcpy(parser->line + parser->line_len, bytes + used, piece);
        parser->line_len += piece;
        used += piece;
        if (lf != NULL) {
            used++;
            result = end_line(parser, on_line, ctx);
        }
    }
    *used_out = used;
    return result;
}
