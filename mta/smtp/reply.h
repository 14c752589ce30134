/* mta/smtp/reply.h - reading a server's replies: RFC 5321 section 4.2, RFC 2034. Pure, bounded. */
#ifndef MTA_SMTP_REPLY_H
#define MTA_SMTP_REPLY_H

#include "mta/base/buf.h"

#define SMTP_REPLY_LINE_MAX  2048   /* RFC says 512; the field sends more */
#define SMTP_REPLY_TEXT_MAX  1024   /* kept text; the rest is dropped */
#define SMTP_REPLY_LINES_MAX 256

struct smtp_reply {
    uint16_t code;        /* 200..599 */
    char status[12];      /* enhanced code "5.1.1" of the last line that has one fitting the class, or "" */
    char text[SMTP_REPLY_TEXT_MAX]; /* lines joined with one space, enhanced codes left out; raw bytes but NUL, CR, LF,
                                       which become spaces; NUL-terminated */
};

/* Called for each line of a multi-line reply (EHLO keywords): text behind the separator. */
typedef void (*smtp_reply_line_fn)(struct str line, void *ctx);

struct smtp_reply_parser {
    struct smtp_reply reply;
    unsigned lines;
    size_t text_len;
    char line[SMTP_REPLY_LINE_MAX];
    size_t line_len;
};
void smtp_reply_parser_init(struct smtp_reply_parser *parser);

enum smtp_reply_result { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

/* Eat bytes until one reply is complete. *used_out says how many were taken; the rest belongs to the next reply.
 * BAD: no code, code changes mid-reply, line or reply too long. A bare LF ends a line here too (old servers).
 * After DONE parser->reply is valid until the next feed. After BAD the parser is of no more use; parser->line
 * and line_len hold the line at fault (as far as it fitted). on_line may be NULL. */
MUST_USE enum smtp_reply_result smtp_reply_feed(struct smtp_reply_parser *parser, const char *bytes,
                                                size_t len, size_t *used_out,
                                                smtp_reply_line_fn on_line, void *ctx);
#endif
