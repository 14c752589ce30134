/* tests/unit/test_smtp_dot.c - dots both ways, against slow references that work on whole strings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/smtp/dot.h"

#define TEXT_MAX 512

/* ---- reading ---- */

struct reading {
    char content[TEXT_MAX];
    size_t len;
    size_t used;
    unsigned faults;
    bool done;
};

/* Feeds wire[0..cut) and wire[cut..len); cut 0 means one byte at a time. */
static struct reading read_wire(const char *wire, size_t len, size_t cut, size_t line_max)
{
    struct smtp_dot_reader reader;
    struct reading r = {0};
    struct buf out;

    buf_init(&out, TEXT_MAX);
    smtp_dot_reader_init(&reader, line_max);
    while (r.used < len && !r.done) {
        size_t piece = cut == 0 ? 1 : r.used < cut ? cut - r.used : len - r.used;
        size_t used = 0;
        assert_true(smtp_dot_read(&reader, wire + r.used, piece, &used, &out, &r.done));
        assert_true(used == piece || r.done);
        r.used += used;
    }
    r.len = buf_len(&out);
    memcpy(r.content, buf_str(&out).p, r.len);
    r.faults = reader.faults;
    buf_deinit(&out);
    return r;
}

/* RFC 5321 section 4.5.2 read literally, with the CRLF of the DATA line put in front. */
static struct reading read_slowly(const char *wire, size_t len, size_t line_max)
{
    struct reading r = {0};
    char all[TEXT_MAX] = "\r\n";
    size_t line = 0;

    memcpy(all + 2, wire, len);
    const char *end = memmem(all, len + 2, "\r\n.\r\n", 5);
    assert_non_null(end);
    r.done = true;
    r.used = (size_t)(end - all) + 5 - 2;
    size_t stop = (size_t)(end - all) + 2;
    for (size_t i = 2; i < stop; i++) {
        bool crlf_before = all[i - 2] == '\r' && all[i - 1] == '\n';
        if (crlf_before)
            line = 0;
        if (crlf_before && all[i] == '.')
            continue;
        r.content[r.len++] = all[i];
        bool is_crlf =
            (all[i] == '\r' && all[i + 1] == '\n') || (all[i] == '\n' && all[i - 1] == '\r');
        line += is_crlf ? 0 : 1;
        r.faults |= line > line_max ? SMTP_DOT_LONG_LINE : 0;
        r.faults |= all[i] == '\0' ? SMTP_DOT_NUL : 0;
        r.faults |= all[i] == '\r' && !is_crlf ? SMTP_DOT_BARE_CR : 0;
        r.faults |= all[i] == '\n' && !is_crlf ? SMTP_DOT_BARE_LF : 0;
    }
    return r;
}

static void compare_reading(const char *wire, size_t len, size_t line_max)
{
    struct reading want = read_slowly(wire, len, line_max);

    for (size_t cut = 0; cut <= len; cut++) {
        struct reading got = read_wire(wire, len, cut, line_max);
        assert_true(got.done);
        assert_int_equal(got.used, want.used);
        assert_int_equal(got.faults, want.faults);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.content, want.content, want.len);
    }
}

/* Every string of up to 7 of these bytes, at the start and inside a line, ended properly: the
 * smuggling matrix (cases O11). The end must be the same for every segmentation and for a literal
 * reading of the RFC. */
static void test_every_mix(void **state)
{
    static const char alphabet[4] = {'\r', '\n', '.', 'a'};
    (void)state;

    for (unsigned len = 0; len <= 7; len++) {
        for (unsigned long n = 0; n < 1UL << (2 * len); n++) {
            char wire[32];
            for (unsigned i = 0; i < len; i++)
                wire[i] = alphabet[(n >> (2 * i)) & 3];
            snprintf(wire + len, 6, "\r\n.\r\n");
            compare_reading(wire, len + 5, 3);
            if (len > 5)
                continue;
            memmove(wire + 1, wire, len + 5);
            wire[0] = 'x';
            compare_reading(wire, len + 6, 3);
        }
    }
}

static void test_reading_table(void **state)
{
    static const struct {
        const char *wire;
        const char *content;
        const char *rest;
        unsigned faults;
    } cases[] = {
        {".\r\n", "", "", 0},
        {"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n", 0},
        {"\r\n.\r\n", "\r\n", "", 0},
        {"..\r\n.\r\n", ".\r\n", "", 0},
        {".a\r\n...\r\n.\r\n", "a\r\n..\r\n", "", 0},
        {"a.\r\n.\r\n", "a.\r\n", "", 0},
        {"a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", "", SMTP_DOT_BARE_LF},
        {"a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", "", SMTP_DOT_BARE_LF},
        {"a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", "", SMTP_DOT_BARE_LF},
        {"a\r.\rb\r\n.\r\n", "a\r.\rb\r\n", "", SMTP_DOT_BARE_CR},
        {"a\n.\rb\r\n.\r\n", "a\n.\rb\r\n", "", SMTP_DOT_BARE_CR | SMTP_DOT_BARE_LF},
        {"a\r\n.\r\r\n.\r\n", "a\r\n\r\r\n", "", SMTP_DOT_BARE_CR},
        {"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", "", SMTP_DOT_BARE_CR},
        {"1234\r\n12345\r\n.\r\n", "1234\r\n12345\r\n", "", 0},
        {"123456\r\n.\r\n", "123456\r\n", "", SMTP_DOT_LONG_LINE},
        {".12345\r\n.\r\n", "12345\r\n", "", 0}, /* the dot on the wire is none of the line */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = strlen(cases[i].wire);
        for (size_t cut = 0; cut <= len; cut++) {
            struct reading r = read_wire(cases[i].wire, len, cut, 5);
            assert_true(r.done);
            assert_int_equal(r.faults, cases[i].faults);
            assert_string_equal(r.content, cases[i].content);
            assert_string_equal(cases[i].wire + r.used, cases[i].rest);
        }
    }
}

static void test_nul(void **state)
{
    static const char wire[] = "a\0b\r\n.\r\n\0";
    (void)state;

    compare_reading(wire, 8, 100);
    assert_int_equal(read_wire(wire, 8, 8, 100).faults, SMTP_DOT_NUL);
    /* behind the end it is no longer content */
    assert_int_equal(read_wire(wire + 2, 7, 7, 100).faults, 0);
}

static void test_reading_full(void **state)
{
    struct smtp_dot_reader reader;
    struct buf out;
    size_t used = 77;
    bool done = false;
    (void)state;

    buf_init(&out, 9);
    smtp_dot_reader_init(&reader, 998);
    assert_false(smtp_dot_read(&reader, "12345678", 8, &used, &out, &done));
    assert_int_equal(used, 77);
    assert_true(smtp_dot_read(&reader, "1234567", 7, &used, &out, &done));
    assert_int_equal(used, 7);
    buf_deinit(&out);
}

/* Time per byte must not grow with the size of the piece when every other byte is a fault. */
static void test_faults_stay_linear(void **state)
{
    static const char *const patterns[] = {"a\r", "a\n", "\r\r", "\n.", ".\r", "\r\n.."};
    size_t len = (size_t)8 << 20;
    char *bytes = malloc(len);
    (void)state;

    assert_non_null(bytes);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct smtp_dot_reader reader;
        struct smtp_dot_writer writer;
        struct buf out;
        size_t used = 0;
        bool done = false;
        for (size_t k = 0; k < len; k++)
            bytes[k] = patterns[i][k % strlen(patterns[i])];
        buf_init(&out, 2 * len + 2);
        smtp_dot_reader_init(&reader, SIZE_MAX);
        assert_true(smtp_dot_read(&reader, bytes, len, &used, &out, &done)); /* quadratic: hours */
        assert_int_equal(used, len);
        buf_clear(&out);
        smtp_dot_writer_init(&writer);
        assert_true(smtp_dot_write(&writer, bytes, len, &out));
        buf_deinit(&out);
    }
    free(bytes);
}

/* ---- writing ---- */

/* One byte at a time when cut is 0. */
static size_t write_content(const char *content, size_t len, size_t cut, char wire[TEXT_MAX])
{
    struct smtp_dot_writer writer;
    struct buf out;
    size_t piece = 0;

    buf_init(&out, TEXT_MAX);
    smtp_dot_writer_init(&writer);
    for (size_t i = 0; i < len; i += piece) {
        piece = cut == 0 ? 1 : i < cut ? cut - i : len - i;
        assert_true(smtp_dot_write(&writer, content + i, piece, &out));
    }
    assert_true(smtp_dot_finish(&writer, &out));
    size_t wire_len = buf_len(&out);
    memcpy(wire, buf_str(&out).p, wire_len);
    wire[wire_len] = '\0';
    buf_deinit(&out);
    return wire_len;
}

/* Content with every CR, LF and CRLF as CRLF, and a CRLF at the end of what is not empty. */
static size_t normal_form(const char *content, size_t len, char out[TEXT_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (content[i] != '\r' && content[i] != '\n') {
            out[n++] = content[i];
            continue;
        }
        if (content[i] == '\r' && i + 1 < len && content[i + 1] == '\n')
            i++;
        out[n++] = '\r';
        out[n++] = '\n';
    }
    if (n > 0 && out[n - 1] != '\n') {
        out[n++] = '\r';
        out[n++] = '\n';
    }
    return n;
}

static void test_writing_every_mix(void **state)
{
    static const char alphabet[4] = {'\r', '\n', '.', 'a'};
    (void)state;

    for (unsigned len = 0; len <= 7; len++) {
        for (unsigned long n = 0; n < 1UL << (2 * len); n++) {
            char content[8] = "", normal[TEXT_MAX] = "", wire[TEXT_MAX];
            for (unsigned i = 0; i < len; i++)
                content[i] = alphabet[(n >> (2 * i)) & 3];
            size_t normal_len = normal_form(content, len, normal);
            for (size_t cut = 0; cut <= len; cut++) {
                size_t wire_len = write_content(content, len, cut, wire);
                struct reading r = read_slowly(wire, wire_len, 998);
                assert_int_equal(r.faults, 0); /* no bare CR or LF ever */
                assert_int_equal(r.used, wire_len);
                assert_int_equal(r.len, normal_len);
                assert_memory_equal(r.content, normal, normal_len);
            }
        }
    }
}

static void test_writing_table(void **state)
{
    static const struct {
        const char *content;
        const char *wire;
    } cases[] = {
        {"", ".\r\n"},
        {"a\r\n", "a\r\n.\r\n"},
        {"a", "a\r\n.\r\n"},
        {".", "..\r\n.\r\n"},
        {"a\r\n.\r\nb.\r\n", "a\r\n..\r\nb.\r\n.\r\n"},
        {".a\r\n..b\r\n", "..a\r\n...b\r\n.\r\n"},
        {"a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"},
        {"a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t cut = 0; cut <= strlen(cases[i].content); cut++) {
            char wire[TEXT_MAX];
            write_content(cases[i].content, strlen(cases[i].content), cut, wire);
            assert_string_equal(wire, cases[i].wire);
        }
    }
}

static void test_writing_full(void **state)
{
    struct smtp_dot_writer writer;
    struct buf out;
    (void)state;

    buf_init(&out, 10);
    smtp_dot_writer_init(&writer);
    assert_false(smtp_dot_write(&writer, "......", 6, &out));
    assert_int_equal(buf_len(&out), 0);
    assert_true(smtp_dot_write(&writer, "\r\n.\r\n", 5, &out));
    assert_true(smtp_dot_write(&writer, ".", 1, &out));
    assert_false(smtp_dot_finish(&writer, &out));
    buf_consume(&out, 6);
    assert_true(smtp_dot_finish(&writer, &out));
    assert_false(out.overflow);
    buf_deinit(&out);
}

/* ---- checking without dots ---- */

/* Faults of the text, read literally. */
static unsigned check_slowly(const char *text, size_t len, size_t line_max)
{
    unsigned faults = 0;
    size_t line = 0;

    for (size_t i = 0; i < len; i++) {
        bool lf_next = i + 1 < len && text[i + 1] == '\n';
        bool ends = text[i] == '\n' && i > 0 && text[i - 1] == '\r';
        faults |= text[i] == '\r' && !lf_next ? SMTP_DOT_BARE_CR : 0;
        faults |= text[i] == '\n' && !ends ? SMTP_DOT_BARE_LF : 0;
        faults |= text[i] == '\0' ? SMTP_DOT_NUL : 0;
        line = ends ? 0 : line + (text[i] == '\r' && lf_next ? 0 : 1);
        if (text[i] == '\r' && i + 1 == len)
            line--; /* counted once it is known what follows */
        faults |= line > line_max ? SMTP_DOT_LONG_LINE : 0;
    }
    return faults;
}

static void test_checking_every_mix(void **state)
{
    static const char alphabet[5] = {'\r', '\n', '.', 'a', '\0'};
    (void)state;

    for (unsigned n = 0; n < 5 * 5 * 5 * 5 * 5 * 5; n++) {
        char text[6];
        unsigned rest = n;
        for (size_t i = 0; i < sizeof text; i++, rest /= 5)
            text[i] = alphabet[rest % 5];
        unsigned want = check_slowly(text, sizeof text, 3);
        bool whole = text[4] == '\r' && text[5] == '\n';
        for (size_t cut = 0; cut <= sizeof text; cut++) {
            struct smtp_dot_reader reader;
            smtp_dot_reader_init(&reader, 3);
            for (size_t i = 0; cut == 0 && i < sizeof text; i++)
                smtp_dot_check(&reader, text + i, 1);
            if (cut > 0) {
                smtp_dot_check(&reader, text, cut);
                smtp_dot_check(&reader, text + cut, sizeof text - cut);
            }
            assert_int_equal(smtp_dot_check_end(&reader), whole);
            assert_int_equal(reader.faults, want);
        }
    }
}

static void test_checking_nothing(void **state)
{
    struct smtp_dot_reader reader;
    (void)state;

    smtp_dot_reader_init(&reader, 3);
    smtp_dot_check(&reader, "", 0);
    assert_true(smtp_dot_check_end(&reader));
    assert_int_equal(reader.faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading_table),
        cmocka_unit_test(test_every_mix),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_reading_full),
        cmocka_unit_test(test_faults_stay_linear),
        cmocka_unit_test(test_writing_table),
        cmocka_unit_test(test_writing_every_mix),
        cmocka_unit_test(test_writing_full),
        cmocka_unit_test(test_checking_every_mix),
        cmocka_unit_test(test_checking_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
