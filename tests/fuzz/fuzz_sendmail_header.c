/* Standard input of mta-sendmail: whole and in pieces it is the same content; the header section
 * and its recipients survive anything, and no address can end the command that it is sent in. The
 * first byte picks the options. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/sendmail/header.h"
#include "mta/sendmail/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct str in, bool ignore_dot, size_t step, struct sendmail_header *header,
                     struct sendmail_input *input)
{
    sendmail_header_init(header);
    sendmail_input_init(input, ignore_dot);
    for (size_t at = 0; at < in.len; at += step) {
        size_t n = in.len - at < step ? in.len - at : step;
        sendmail_input_feed(input, in.p + at, n, &header->bytes);
        int rc = sendmail_header_look(header, false);
        assert(rc >= 0); /* so short */
    }
    sendmail_input_end(input, &header->bytes);
    int rc = sendmail_header_look(header, true);
    assert(rc == 1);
}

static void check_content(struct str content, enum sendmail_fault fault)
{
    assert(content.len == 0 || content.p[content.len - 1] == '\n');
    for (size_t i = 0; i < content.len; i++) {
        if (content.p[i] == '\n')
            assert(i > 0 && content.p[i - 1] == '\r');
        if (content.p[i] == '\r' && content.p[i + 1] != '\n')
            assert(fault != SENDMAIL_FAULT_NONE);
        if (content.p[i] == '\0')
            assert(fault != SENDMAIL_FAULT_NONE);
    }
}

static void check_recipients(struct str section)
{
    struct sendmail_recipients recipients = {0};
    char error[300];
    int rc = sendmail_header_recipients(section, &recipients, error, sizeof error);
    assert(rc == 0 || error[0] != '\0');
    for (size_t i = 0; i < recipients.count; i++) {
        assert(recipients.addresses[i][0] != '\0');
        for (const char *p = recipients.addresses[i]; *p != '\0'; p++)
            assert((unsigned char)*p >= ' ' && *p != 0x7f);
    }
    sendmail_recipients_deinit(&recipients);
}

static void check_written(struct str section, bool from_header)
{
    struct sendmail_options options = {.from_header = from_header, .name = "J\xc3\xb6rg"};
    struct buf out;
    buf_init(&out, section.len + SENDMAIL_ADDED_MAX);
    sendmail_header_write(section, &options, "root", &out);
    struct str written = buf_str(&out);
    assert(memcmp(written.p + written.len - 2, "\r\n", 2) == 0);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sendmail_header whole, pieces;
    struct sendmail_input input, other;
    if (size < 2 || size > 32768)
        return 0;
    struct str in = {(const char *)data + 1, size - 1};
    bool ignore_dot = (data[0] & 1) != 0;

    read_all(in, ignore_dot, in.len, &whole, &input);
    read_all(in, ignore_dot, 1U + (data[0] >> 2), &pieces, &other);
    assert(input.ended == other.ended);
    assert((input.fault == SENDMAIL_FAULT_NONE) == (other.fault == SENDMAIL_FAULT_NONE));
    assert(str_equal(buf_str(&whole.bytes), buf_str(&pieces.bytes)));
    assert(str_equal(sendmail_header_section(&whole), sendmail_header_section(&pieces)));
    assert(str_equal(sendmail_header_body(&whole), sendmail_header_body(&pieces)));
    check_content(buf_str(&whole.bytes), input.fault);
    check_recipients(sendmail_header_section(&whole));
    check_written(sendmail_header_section(&whole), (data[0] & 2) != 0);
    sendmail_header_deinit(&whole);
    sendmail_header_deinit(&pieces);
    return 0;
}
