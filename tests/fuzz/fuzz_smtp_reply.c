/* tests/fuzz/fuzz_smtp_reply.c - foreign bytes into the reply parser, whole and in pieces: both
 * must say the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_line(struct str line, void *ctx)
{
    size_t *sum = ctx;
    for (size_t i = 0; i < line.len; i++)
        *sum += (unsigned char)line.p[i];
    (*sum)++;
}

static void check_reply(const struct smtp_reply *reply)
{
    assert(reply->code >= 200 && reply->code <= 599);
    assert(memchr(reply->text, '\0', sizeof reply->text) != NULL);
    assert(strpbrk(reply->text, "\r\n") == NULL);
    assert(memchr(reply->status, '\0', sizeof reply->status) != NULL);
    assert(reply->status[0] == '\0' || reply->status[0] - '0' == reply->code / 100);
}

/* One reply from a buffer of exactly len bytes, `piece` at a time. */
static enum smtp_reply_result read_one(struct smtp_reply_parser *parser, const char *bytes,
                                       size_t len, size_t piece, size_t *taken_out, size_t *sum_out)
{
    enum smtp_reply_result result = SMTP_REPLY_MORE;
    size_t taken = 0;
    *sum_out = 0;
    while (result == SMTP_REPLY_MORE && taken < len) {
        size_t used = 0;
        size_t now = piece < len - taken ? piece : len - taken;
        result = smtp_reply_feed(parser, bytes + taken, now, &used, count_line, sum_out);
        assert(used <= now && (result != SMTP_REPLY_MORE || used == now));
        taken += used;
    }
    *taken_out = taken;
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t piece = (size_t)data[0] % 16 + 1;
    const char *bytes = (const char *)data + 1;
    size_t len = size - 1;
    struct smtp_reply_parser *whole = malloc(sizeof *whole);
    struct smtp_reply_parser *pieces = malloc(sizeof *pieces);
    assert(whole != NULL && pieces != NULL);
    smtp_reply_parser_init(whole);
    smtp_reply_parser_init(pieces);

    enum smtp_reply_result result = SMTP_REPLY_DONE;
    while (result == SMTP_REPLY_DONE && len > 0) {
        size_t taken = 0, taken_in_pieces = 0, sum = 0, sum_in_pieces = 0;
        result = read_one(whole, bytes, len, len, &taken, &sum);
        enum smtp_reply_result other =
            read_one(pieces, bytes, len, piece, &taken_in_pieces, &sum_in_pieces);
        assert(result == other && sum == sum_in_pieces);
        if (result == SMTP_REPLY_DONE) {
            assert(taken == taken_in_pieces);
            check_reply(&whole->reply);
            assert(whole->reply.code == pieces->reply.code);
            assert(strcmp(whole->reply.text, pieces->reply.text) == 0);
            assert(strcmp(whole->reply.status, pieces->reply.status) == 0);
        }
        bytes += taken;
        len -= taken;
    }
    free(whole);
    free(pieces);
    return 0;
}
