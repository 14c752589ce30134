/* Rows: what is written reads back the same; anything else is refused with a reason, never with a
 * crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "queue/record.h"

#define ID UINT64_C(0x0102030405060708)

static const struct queue_unit_row sample_units[] = {
    {.due_unix_ms = 0, .attempts = 0, .open = 1, .domain = "x.example"},
    {.due_unix_ms = 1700000000000, .attempts = 3, .open = 1, .held = true, .domain = "y.example"},
};
static const struct queue_rcpt_row sample_rcpts[] = {
    {.unit = 0, .state = QUEUE_RCPT_WAITING, .attempts = 0, .address = "a@x.example"},
    {.unit = 1, .state = QUEUE_RCPT_BOUNCE_PENDING, .attempts = 3, .address = "b@y.example"},
    {.unit = 1, .state = QUEUE_RCPT_DELIVERED, .attempts = 1, .address = "c@y.example"},
};

static struct queue_head sample_head(void)
{
    return (struct queue_head){.accepted_unix_ms = 1700000000123,
                               .flags = 3,
                               .header_bytes = 100,
                               .body_bytes = 4096,
                               .body_hash = {9, 8, 7},
                               .recipient_count = 3,
                               .unit_count = 2,
                               .open = 2,
                               .fresh = 1,
                               .sender = "s@example.org",
                               .sign_domain = "example.org",
                               .prefix = "DKIM-Signature: x\r\n"};
}

static struct queue_bytes sample(void)
{
    struct queue_bytes out = {0};
    struct queue_head head = sample_head();
    queue_head_write(&out, ID, &head, sample_units, sample_rcpts);
    return out;
}

/* Reads from memory that ends where the row ends, so that a sanitizer sees a step beyond. */
static const char *read_exact(struct queue_head *head, uint64_t id, const uint8_t *bytes,
                              size_t len)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    const char *reason = queue_head_read(head, id, copy, len, units, rcpts);
    free(copy);
    return reason;
}

static void a_head_reads_back(void **state)
{
    (void)state;
    struct queue_bytes row = sample();
    struct queue_head want = sample_head();
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint64_t body = 0;
    assert_null(queue_head_read(&head, ID, row.p, row.len, units, rcpts));
    assert_int_equal(head.accepted_unix_ms, want.accepted_unix_ms);
    assert_int_equal(head.flags, want.flags);
    assert_int_equal(head.header_bytes, want.header_bytes);
    assert_int_equal(head.body_bytes, want.body_bytes);
    assert_memory_equal(head.body_hash, want.body_hash, 32);
    assert_int_equal(head.open, 2);
    assert_int_equal(head.fresh, 1);
    assert_string_equal(head.sender, want.sender);
    assert_string_equal(head.sign_domain, want.sign_domain);
    assert_string_equal(head.prefix, want.prefix);
    assert_int_equal(units[1].due_unix_ms, 1700000000000);
    assert_int_equal(units[1].attempts, 3);
    assert_true(units[1].held);
    assert_false(units[0].held);
    assert_string_equal(units[1].domain, "y.example");
    assert_int_equal(rcpts[1].state, QUEUE_RCPT_BOUNCE_PENDING);
    assert_int_equal(rcpts[2].unit, 1);
    assert_string_equal(rcpts[2].address, "c@y.example");
    assert_true(queue_head_peek_body(row.p, row.len, &body));
    assert_int_equal(body, 4096);
    queue_bytes_deinit(&row);
}

static void every_cut_and_every_flipped_bit_is_refused(void **state)
{
    (void)state;
    struct queue_bytes row = sample();
    struct queue_head head;
    for (size_t len = 0; len < row.len; len++)
        assert_non_null(read_exact(&head, ID, row.p, len));
    for (size_t bit = 0; bit < row.len * 8; bit++) {
        row.p[bit / 8] = (uint8_t)(row.p[bit / 8] ^ 1u << bit % 8);
        assert_non_null(read_exact(&head, ID, row.p, row.len));
        row.p[bit / 8] = (uint8_t)(row.p[bit / 8] ^ 1u << bit % 8);
    }
    assert_null(read_exact(&head, ID, row.p, row.len));
    assert_non_null(read_exact(&head, ID + 1, row.p, row.len)); /* another message's record */
    queue_bytes_8(&row, 0);
    assert_non_null(read_exact(&head, ID, row.p, row.len));
    queue_bytes_deinit(&row);
}

/* Faults under a right checksum: each changes one thing of the sample. */
static void impossible_content_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t at; /* in the row */
        uint8_t byte;
    } cases[] = {
        {"accepted before 1970", 8 + 7, 0x80},
        {"header longer than body", 8 + 8 + 4 + 1, 0xff},
        {"no recipients", 8 + 60, 0},
        {"too many recipients", 8 + 60 + 3, 1},
        {"no units", 8 + 64, 0},
        {"more units than recipients", 8 + 64, 4},
        {"more open than recipients", 8 + 68, 4},
        {"open does not agree", 8 + 68, 1},
        {"fresh does not agree", 8 + 72, 0},
        {"a huge sender length", 8 + 76 + 1, 0xff},
        {"a sender length beyond its NUL", 8 + 76, 14},
        {"a sender with a NUL inside", 8 + 78, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct queue_bytes row = sample();
        struct queue_head head;
        struct queue_row_key key = queue_row_key(ID, QUEUE_ROW_HEAD, 0);
        row.p[cases[i].at] = cases[i].byte;
        queue_row_seal(&row, 0, key.bytes, key.len);
        if (read_exact(&head, ID, row.p, row.len) == NULL)
            fail_msg("accepted: %s", cases[i].what);
        queue_bytes_deinit(&row);
    }
}

static void reasons_name_the_fault(void **state)
{
    (void)state;
    struct queue_bytes row = sample();
    struct queue_head head;
    assert_string_equal(read_exact(&head, ID, row.p, 0), "the record is empty");
    static const uint8_t unknown[] = {0, 3, 255};
    for (size_t i = 0; i < sizeof unknown; i++) {
        row.p[0] = unknown[i];
        assert_string_equal(read_exact(&head, ID, row.p, row.len),
                            "the record has a version that this program does not know");
    }
    row.p[0] = 1;
    row.p[row.len - 1] = 1;
    assert_string_equal(read_exact(&head, ID, row.p, row.len),
                        "the checksum of the record is wrong");
    queue_bytes_deinit(&row);
}

/* ---- parameters ---- */

/* As a program without them wrote it: one unit, one recipient, tried twice. */
static const uint8_t first_head[] = {
    0x01, 0x48, 0x00, 0x00, 0x17, 0x49, 0x75, 0x24, 0x7b, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x09, 0x08, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x0b, 0x00, 0x73, 0x40, 0x61, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c,
    0x65, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x09, 0x00, 0x78, 0x2e, 0x65, 0x78, 0x61,
    0x6d, 0x70, 0x6c, 0x65, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x0b, 0x00, 0x62, 0x40,
    0x78, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x00,
};
/* The second row of a long list of 33. */
static const uint8_t first_rcpts[] = {
    0x01, 0x52, 0x00, 0x00, 0xdd, 0xbd, 0xb4, 0xb8, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
    0x0b, 0x00, 0x62, 0x40, 0x78, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x00,
};

/* The first version is read, and what has no parameters is still written so: no octet more. */
static void the_first_version_stays(void **state)
{
    (void)state;
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_bytes out = {0};
    assert_null(queue_head_read(&head, ID, first_head, sizeof first_head, units, rcpts));
    assert_string_equal(head.sender, "s@a.example");
    assert_int_equal(head.flags, QUEUE_FLAG_8BIT | QUEUE_FLAG_BOUNCE);
    assert_int_equal(head.ret, QUEUE_RET_NONE);
    assert_string_equal(head.envid, "");
    assert_true(units[0].warned);
    assert_int_equal(rcpts[0].notify, 0);
    assert_string_equal(rcpts[0].orcpt, "");
    queue_head_write(&out, ID, &head, units, rcpts);
    assert_int_equal(out.len, sizeof first_head);
    assert_memory_equal(out.p, first_head, out.len);

    head.recipient_count = QUEUE_ROW_ITEMS + 1;
    rcpts[0] = (struct queue_rcpt_row){.notify = 9, .orcpt = "x"};
    assert_null(queue_rcpts_read(&head, ID, 1, first_rcpts, sizeof first_rcpts, rcpts));
    assert_int_equal(rcpts[0].notify, 0);
    assert_string_equal(rcpts[0].orcpt, "");
    out.len = 0;
    queue_rcpts_write(&out, ID, 1, rcpts, 1);
    assert_int_equal(out.len, sizeof first_rcpts);
    assert_memory_equal(out.p, first_rcpts, out.len);
    queue_bytes_deinit(&out);
}

/* The sample with parameters: of the message, of two of its recipients. */
struct asked {
    struct queue_head head;
    struct queue_rcpt_row rcpts[3];
};

static struct asked asked_sample(void)
{
    struct asked asked = {.head = sample_head()};
    asked.head.flags |= QUEUE_FLAG_SMTPUTF8;
    asked.head.ret = QUEUE_RET_FULL;
    asked.head.envid = "env+2B1";
    memcpy(asked.rcpts, sample_rcpts, sizeof asked.rcpts);
    asked.rcpts[0].notify = QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_DELAY;
    asked.rcpts[2].orcpt = "rfc822;c@y";
    return asked;
}

static struct queue_bytes write_asked(const struct asked *asked)
{
    struct queue_bytes out = {0};
    queue_head_write(&out, ID, &asked->head, sample_units, asked->rcpts);
    return out;
}

static void parameters_read_back(void **state)
{
    (void)state;
    struct asked asked = asked_sample();
    struct queue_bytes row = write_asked(&asked);
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint64_t body = 0;
    assert_int_equal(row.p[0], QUEUE_RECORD_PARAMS);
    assert_null(queue_head_read(&head, ID, row.p, row.len, units, rcpts));
    assert_int_equal(head.flags, 3 | QUEUE_FLAG_SMTPUTF8);
    assert_int_equal(head.ret, QUEUE_RET_FULL);
    assert_string_equal(head.envid, "env+2B1");
    assert_string_equal(head.prefix, "DKIM-Signature: x\r\n");
    assert_int_equal(rcpts[0].notify, QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_DELAY);
    assert_string_equal(rcpts[0].orcpt, "");
    assert_int_equal(rcpts[1].notify, 0);
    assert_string_equal(rcpts[1].orcpt, "");
    assert_string_equal(rcpts[1].address, "b@y.example");
    assert_string_equal(rcpts[2].orcpt, "rfc822;c@y");
    assert_true(queue_head_peek_body(row.p, row.len, &body));
    assert_int_equal(body, 4096);
    queue_bytes_deinit(&row);
}

/* Any one of them alone makes the version; the others are none. */
static void each_parameter_is_kept_alone(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        struct asked asked = {.head = sample_head()};
        struct queue_head head;
        struct queue_unit_row units[QUEUE_ROW_ITEMS];
        struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
        memcpy(asked.rcpts, sample_rcpts, sizeof asked.rcpts);
        asked.head.flags |= i == 0 ? QUEUE_FLAG_SMTPUTF8 : i == 1 ? QUEUE_FLAG_REQUIRETLS : 0U;
        asked.head.ret = i == 2 ? QUEUE_RET_HDRS : QUEUE_RET_NONE;
        asked.head.envid = i == 3 ? "e" : NULL;
        asked.rcpts[2].notify = i == 4 ? QUEUE_NOTIFY_NEVER : 0;
        asked.rcpts[2].orcpt = i == 5 ? "x;y" : NULL;
        struct queue_bytes row = write_asked(&asked);
        assert_int_equal(row.p[0], i == 6 ? QUEUE_RECORD_VERSION : QUEUE_RECORD_PARAMS);
        assert_null(queue_head_read(&head, ID, row.p, row.len, units, rcpts));
        assert_int_equal(head.flags, asked.head.flags);
        assert_int_equal(head.ret, asked.head.ret);
        assert_string_equal(head.envid, i == 3 ? "e" : "");
        assert_int_equal(rcpts[2].notify, asked.rcpts[2].notify);
        assert_string_equal(rcpts[2].orcpt, i == 5 ? "x;y" : "");
        queue_bytes_deinit(&row);
    }
}

static void cut_parameters_are_refused(void **state)
{
    (void)state;
    struct asked asked = asked_sample();
    struct queue_bytes row = write_asked(&asked);
    struct queue_row_key key = queue_row_key(ID, QUEUE_ROW_HEAD, 0);
    struct queue_head head;
    for (size_t len = 0; len < row.len; len++) {
        assert_non_null(read_exact(&head, ID, row.p, len));
        if (len < 8)
            continue;
        struct queue_bytes cut = {0}; /* under a right checksum */
        queue_bytes_add(&cut, row.p, len);
        queue_row_seal(&cut, 0, key.bytes, key.len);
        assert_non_null(read_exact(&head, ID, cut.p, cut.len));
        queue_bytes_deinit(&cut);
    }
    for (size_t bit = 0; bit < row.len * 8; bit++) {
        row.p[bit / 8] = (uint8_t)(row.p[bit / 8] ^ 1u << bit % 8);
        assert_non_null(read_exact(&head, ID, row.p, row.len));
        row.p[bit / 8] = (uint8_t)(row.p[bit / 8] ^ 1u << bit % 8);
    }
    assert_null(read_exact(&head, ID, row.p, row.len));
    queue_bytes_deinit(&row);
}

/* The checksum tells the versions apart; under a right one the content does not agree. */
static void one_version_is_not_the_other(void **state)
{
    (void)state;
    struct asked asked = asked_sample();
    struct queue_bytes rows[] = {sample(), write_asked(&asked)};
    struct queue_row_key key = queue_row_key(ID, QUEUE_ROW_HEAD, 0);
    struct queue_head head;
    for (size_t i = 0; i < 2; i++) {
        rows[i].p[0] ^= QUEUE_RECORD_VERSION ^ QUEUE_RECORD_PARAMS;
        assert_string_equal(read_exact(&head, ID, rows[i].p, rows[i].len),
                            "the checksum of the record is wrong");
        queue_row_seal(&rows[i], 0, key.bytes, key.len);
        assert_non_null(read_exact(&head, ID, rows[i].p, rows[i].len));
        queue_bytes_deinit(&rows[i]);
    }
}

/* The writer writes what it is given. */
static void impossible_parameters_are_refused(void **state)
{
    (void)state;
    static char long_envid[QUEUE_ENVID_MAX + 2];
    static char long_orcpt[QUEUE_ORCPT_MAX + 2];
    memset(long_envid, 'e', sizeof long_envid - 1);
    memset(long_orcpt, 'o', sizeof long_orcpt - 1);
    const struct {
        uint32_t flags;
        uint8_t ret, notify;
        const char *envid, *orcpt;
        bool good;
    } cases[] = {
        {4, 1, 1, "e", "o", true},
        {4 | 16, 1, 1, "e", "o", false},
        {UINT32_MAX, 1, 1, "e", "o", false},
        {4, 3, 1, "e", "o", false},
        {4, 255, 1, "e", "o", false},
        {4, 1, 3, "e", "o", false},
        {4, 1, 16, "e", "o", false},
        {4, 1, 16 | 2, "e", "o", false},
        {4, 1, 16 | 1, "e", "o", true},
        {4, 1, 16 | 12, "e", "o", true},
        {4, 1, 14, "e", "o", true},
        {4, 1, 32, "e", "o", false},
        {4, 1, 128, "e", "o", false},
        {4, 1, 1, "e f", "o", false},
        {4, 1, 1, "e\r\nQUIT", "o", false},
        {4, 1, 1, long_envid, "o", false},
        {4, 1, 1, long_envid + 1, "o", true},
        {4, 1, 1, "e", "o\n", false},
        {4, 1, 1, "e", "\x7f", false},
        {4, 1, 1, "e", long_orcpt, false},
        {4, 1, 1, "e", long_orcpt + 1, true},
        {4, 1, 1, "e", "utf-8;\xc3\xa4", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asked asked = asked_sample();
        struct queue_head head;
        asked.head.flags = cases[i].flags;
        asked.head.ret = cases[i].ret;
        asked.head.envid = cases[i].envid;
        asked.rcpts[1].notify = cases[i].notify;
        asked.rcpts[1].orcpt = cases[i].orcpt;
        struct queue_bytes row = write_asked(&asked);
        if ((read_exact(&head, ID, row.p, row.len) == NULL) != cases[i].good)
            fail_msg("case %zu", i);
        queue_bytes_deinit(&row);
    }
}

/* A row of the second version in which nothing is asked for: nobody writes it. */
static void parameters_that_are_none_are_refused(void **state)
{
    (void)state;
    struct asked asked = {.head = sample_head()};
    struct queue_row_key key = queue_row_key(ID, QUEUE_ROW_HEAD, 0);
    struct queue_head head;
    memcpy(asked.rcpts, sample_rcpts, sizeof asked.rcpts);
    asked.head.flags = 3 | QUEUE_FLAG_REQUIRETLS;
    struct queue_bytes row = write_asked(&asked);
    assert_null(read_exact(&head, ID, row.p, row.len));
    row.p[8 + 8] = 3; /* the flags */
    queue_row_seal(&row, 0, key.bytes, key.len);
    assert_string_equal(read_exact(&head, ID, row.p, row.len),
                        "a count or state in the record is impossible");
    queue_bytes_deinit(&row);

    row = sample(); /* nor can the first version say what only the second one can */
    row.p[8 + 8] = 3 | QUEUE_FLAG_REQUIRETLS;
    queue_row_seal(&row, 0, key.bytes, key.len);
    assert_string_equal(read_exact(&head, ID, row.p, row.len),
                        "a count or state in the record is impossible");
    queue_bytes_deinit(&row);
}

static void further_rows_keep_parameters(void **state)
{
    (void)state;
    struct queue_bytes out = {0};
    struct asked asked = asked_sample();
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_row_key key = queue_row_key(ID, QUEUE_ROW_RCPTS, 1);
    asked.head.recipient_count = QUEUE_ROW_ITEMS + 3;
    asked.head.unit_count = 2;
    queue_rcpts_write(&out, ID, 1, asked.rcpts, 3);
    assert_int_equal(out.p[0], QUEUE_RECORD_PARAMS);
    assert_null(queue_rcpts_read(&asked.head, ID, 1, out.p, out.len, rcpts));
    assert_int_equal(rcpts[0].notify, QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_DELAY);
    assert_string_equal(rcpts[2].orcpt, "rfc822;c@y");
    for (size_t len = 8; len < out.len; len++) {
        struct queue_bytes cut = {0};
        queue_bytes_add(&cut, out.p, len);
        queue_row_seal(&cut, 0, key.bytes, key.len);
        uint8_t *exact = malloc(len);
        assert_non_null(exact);
        memcpy(exact, cut.p, len);
        assert_non_null(queue_rcpts_read(&asked.head, ID, 1, exact, len, rcpts));
        free(exact);
        queue_bytes_deinit(&cut);
    }
    out.p[0] = QUEUE_RECORD_VERSION;
    queue_row_seal(&out, 0, key.bytes, key.len);
    assert_non_null(queue_rcpts_read(&asked.head, ID, 1, out.p, out.len, rcpts));

    asked.rcpts[1].notify = QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_FAILURE;
    out.len = 0;
    queue_rcpts_write(&out, ID, 1, asked.rcpts, 3);
    assert_string_equal(queue_rcpts_read(&asked.head, ID, 1, out.p, out.len, rcpts),
                        "a count or state in the record is impossible");
    /* the head of a long list has the message's own alone */
    asked.head.open = 2;
    out.len = 0;
    queue_head_write(&out, ID, &asked.head, NULL, NULL);
    struct queue_head head;
    assert_null(read_exact(&head, ID, out.p, out.len));
    assert_int_equal(head.ret, QUEUE_RET_FULL);
    /* rows of units know one version */
    out.len = 0;
    queue_units_write(&out, ID, 0, sample_units, 2);
    out.p[0] = QUEUE_RECORD_PARAMS;
    key = queue_row_key(ID, QUEUE_ROW_UNITS, 0);
    queue_row_seal(&out, 0, key.bytes, key.len);
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    assert_string_equal(queue_units_read(&asked.head, ID, 0, out.p, out.len, units),
                        "the record has a version that this program does not know");
    queue_bytes_deinit(&out);
}

static void further_rows_read_back(void **state)
{
    (void)state;
    struct queue_bytes out = {0};
    struct queue_head head = sample_head();
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    head.recipient_count = QUEUE_ROW_ITEMS + 3; /* the second row holds three */
    head.unit_count = QUEUE_ROW_ITEMS + 2;
    head.open = 3;
    queue_rcpts_write(&out, ID, 1, sample_rcpts, 3);
    assert_null(queue_rcpts_read(&head, ID, 1, out.p, out.len, rcpts));
    assert_string_equal(rcpts[2].address, "c@y.example");
    assert_non_null(queue_rcpts_read(&head, ID, 2, out.p, out.len, rcpts));
    assert_non_null(queue_rcpts_read(&head, ID, 0, out.p, out.len, rcpts));
    assert_non_null(queue_units_read(&head, ID, 1, out.p, out.len, units));
    out.len = 0;
    queue_units_write(&out, ID, 1, sample_units, 2);
    assert_null(queue_units_read(&head, ID, 1, out.p, out.len, units));
    assert_string_equal(units[1].domain, "y.example");
    for (size_t len = 0; len < out.len; len++)
        assert_non_null(queue_units_read(&head, ID, 1, out.p, len, units));
    queue_bytes_deinit(&out);
    assert_int_equal(queue_row_items(65, 0), 32);
    assert_int_equal(queue_row_items(65, 2), 1);
    assert_int_equal(queue_row_items(65, 3), 0);
    assert_int_equal(queue_row_items(64, 2), 0);
    assert_int_equal(queue_row_items(64, UINT32_MAX), 0);
}

static void attempts_read_back_and_are_cut(void **state)
{
    (void)state;
    struct queue_bytes out = {0};
    char text[QUEUE_TEXT_MAX + 10];
    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct queue_attempt attempt = {.time_unix_ms = -5,
                                    .host = "h",
                                    .address = "",
                                    .code = 550,
                                    .status = "5.1.1",
                                    .text = text,
                                    .tls = "TLS1.3"};
    struct queue_attempt got;
    queue_attempt_write(&out, &attempt);
    assert_null(queue_attempt_read(&got, out.p, out.len));
    assert_int_equal(got.time_unix_ms, -5);
    assert_int_equal(got.code, 550);
    assert_string_equal(got.host, "h");
    assert_string_equal(got.address, "");
    assert_string_equal(got.status, "5.1.1");
    assert_string_equal(got.tls, "TLS1.3");
    assert_int_equal(strlen(got.text), QUEUE_TEXT_MAX);
    for (size_t len = 0; len < out.len; len++)
        assert_non_null(queue_attempt_read(&got, out.p, len));
    queue_bytes_deinit(&out);
}

static void crc_is_the_known_one(void **state)
{
    (void)state;
    static const uint8_t zeros[32] = {0};
    assert_int_equal(queue_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(queue_crc32c(0, zeros, 32), 0x8a9136aau); /* RFC 3720 appendix B.4 */
    assert_int_equal(queue_crc32c(queue_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
    assert_int_equal(queue_crc32c_tables(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(queue_crc32c_tables(0, zeros, 32), 0x8a9136aau);
}

/* With and without the instruction: a store moves from one machine to another. */
static void both_ways_give_the_same_crc(void **state)
{
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 167 + (i >> 3));
    for (size_t at = 0; at < 9; at++) {
        for (size_t len = 0; at + len <= sizeof bytes; len++) {
            uint32_t seed = (uint32_t)(len * 2654435761u);
            assert_int_equal(queue_crc32c(seed, bytes + at, len),
                             queue_crc32c_tables(seed, bytes + at, len));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_reads_back),
        cmocka_unit_test(every_cut_and_every_flipped_bit_is_refused),
        cmocka_unit_test(impossible_content_is_refused),
        cmocka_unit_test(reasons_name_the_fault),
        cmocka_unit_test(the_first_version_stays),
        cmocka_unit_test(parameters_read_back),
        cmocka_unit_test(each_parameter_is_kept_alone),
        cmocka_unit_test(cut_parameters_are_refused),
        cmocka_unit_test(one_version_is_not_the_other),
        cmocka_unit_test(impossible_parameters_are_refused),
        cmocka_unit_test(parameters_that_are_none_are_refused),
        cmocka_unit_test(further_rows_keep_parameters),
        cmocka_unit_test(further_rows_read_back),
        cmocka_unit_test(attempts_read_back_and_are_cut),
        cmocka_unit_test(crc_is_the_known_one),
        cmocka_unit_test(both_ways_give_the_same_crc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
