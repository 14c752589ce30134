/* A notification about anything: all foreign text comes from the input. Its lines are whole and
 * short, its header is its own, and its parts are three. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/dsn.h"
#include "mta/mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECIPIENTS 3

/* The next piece of the input: up to a byte 0xfe, as a text that ends at its first NUL. */
static char *take_text(struct str *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->p, 0xfe, rest->len) : NULL;
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->p);
    char *text = str_dup((struct str){rest->p, len});
    *rest = str_skip(*rest, len + 1);
    return text;
}

static void check_lines(struct str s)
{
    size_t column = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\r') {
            assert(i + 1 < s.len && s.p[i + 1] == '\n');
            i++;
            column = 0;
            continue;
        }
        assert(s.p[i] != '\n' && s.p[i] != '\0');
        column++;
        assert(column <= 998);
    }
    assert(column == 0);
}

static size_t count(struct str s, const char *text)
{
    size_t n = 0;
    while (s.len > 0) {
        const char *at = memmem(s.p, s.len, text, strlen(text));
        if (at == NULL)
            break;
        n++;
        s = str_skip(s, (size_t)(at - s.p) + 1);
    }
    return n;
}

static void check_report(struct str all, size_t header_len, bool is_8bit)
{
    struct header_facts facts;
    size_t end;
    size_t body;
    bool found = header_section_end(all, &end, &body);
    assert(found && end == header_len);
    header_facts_read((struct str){all.p, header_len}, &facts);
    assert(facts.from_count == 1 && !facts.has_malformed && facts.received_count == 0);
    assert(strcmp(facts.from_domain, "mail.example.com") == 0);

    char delimiter[128] = "\r\n--";
    const char *start = memmem(all.p, header_len, "\r\n boundary=\"", 13);
    assert(start != NULL);
    start += 13;
    size_t len = (size_t)(strchr(start, '"') - start);
    memcpy(delimiter + 4, start, len);
    assert(count(str_skip(all, header_len), delimiter) == 4);

    bool any = false;
    for (size_t i = 0; i < all.len; i++)
        any = any || ((unsigned char)all.p[i] & 0x80) != 0;
    assert(any == is_8bit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size};
    char *texts[1 + 4 * RECIPIENTS];
    struct dsn_recipient recipients[RECIPIENTS];
    struct buf out;
    size_t header_len = 0;
    bool is_8bit = false;

    if (size > 100000)
        return 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        texts[i] = take_text(&rest);
    for (size_t i = 0; i < RECIPIENTS; i++)
        recipients[i] = (struct dsn_recipient){
            .address = texts[1 + 4 * i],
            .status = texts[2 + 4 * i],
            .text = texts[3 + 4 * i],
            .remote_host = texts[4 + 4 * i],
            .last_attempt_unix_ms = (int64_t)size * 1000000,
            .code = (uint16_t)(size * 7 % 1000),
            .expired = size % 2 == 0,
        };
    struct dsn dsn = {
        .reporting_mta = "mail.example.com",
        .to = texts[0],
        .id = "0ABCDEFGHJKMN",
        .own_id = "0",
        .now_unix_ms = 1795567926123,
        .recipients = recipients,
        .recipient_count = RECIPIENTS,
        .original_header = rest,
    };
    buf_init(&out, DSN_SIZE_MAX(RECIPIENTS));
    bool ok = dsn_build(&dsn, &out, &header_len, &is_8bit);
    assert(ok);
    check_lines(buf_str(&out));
    check_report(buf_str(&out), header_len, is_8bit);
    buf_deinit(&out);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    return 0;
}
