/* tests/unit/test_base_buf.c - the byte buffer with a hard maximum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mta/base/buf.h"

static void appends_whole_or_not_at_all(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 10);
    assert_true(str_equal(buf_str(&buf), STR("")));
    assert_true(buf_add(&buf, NULL, 0));
    assert_true(buf_add_text(&buf, "12345"));
    assert_true(buf_add_str(&buf, STR("6789")));
    assert_true(buf_add(&buf, "0", 1)); /* exactly full */
    assert_false(buf.overflow);
    assert_false(buf_add(&buf, "x", 1));
    assert_true(buf.overflow);
    assert_true(str_equal(buf_str(&buf), STR("1234567890")));

    buf_consume(&buf, 5);
    assert_false(buf_add(&buf, "x", 1)); /* what follows a dropped piece is dropped too */
    assert_true(str_equal(buf_str(&buf), STR("67890")));

    buf_clear(&buf);
    assert_true(buf_add(&buf, "x", 1));
    assert_int_equal(buf_len(&buf), 1);
    buf_deinit(&buf);
    buf_deinit(&buf);
}

static void prints_up_to_the_maximum(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 8);
    assert_true(buf_printf(&buf, "%s-%d", "ab", 12345));
    assert_true(str_equal(buf_str(&buf), STR("ab-12345")));
    assert_true(buf_printf(&buf, "%s", ""));
    assert_false(buf_printf(&buf, "%d", 1));
    assert_true(buf.overflow);
    assert_true(str_equal(buf_str(&buf), STR("ab-12345")));
    buf_deinit(&buf);
}

static void reserves_and_fills(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 1000);
    char *room = buf_reserve(&buf, 1000);
    assert_non_null(room);
    memset(room, 'r', 1000);
    buf_filled(&buf, 600);
    assert_null(buf_reserve(&buf, 401));
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_false(buf.overflow); /* asking is not appending */
    buf_consume(&buf, 600);
    assert_non_null(buf_reserve(&buf, 1000));
    buf_deinit(&buf);
}

/* Against a plain model: bytes come out in order whatever the sizes of the pieces. */
static void keeps_order_while_it_moves(void **state)
{
    struct buf buf;
    uint32_t random = 1;
    unsigned char in = 0;
    unsigned char out = 0;
    (void)state;
    buf_init(&buf, 5000);
    for (int i = 0; i < 20000; i++) {
        unsigned char piece[700];
        random = random * 1664525 + 1013904223;
        size_t len = (random >> 16) % sizeof piece;
        if (len <= buf.max - buf_len(&buf)) {
            for (size_t k = 0; k < len; k++)
                piece[k] = in++;
            assert_true(buf_add(&buf, piece, len));
        }
        random = random * 1664525 + 1013904223;
        size_t take = (random >> 16) % 700;
        if (take > buf_len(&buf))
            take = buf_len(&buf);
        for (size_t k = 0; k < take; k++)
            assert_int_equal((unsigned char)buf_str(&buf).p[k], out++);
        buf_consume(&buf, take);
        assert_true(buf.capacity <= buf.max + 1);
    }
    buf_consume(&buf, SIZE_MAX); /* at most what is there */
    assert_int_equal(buf_len(&buf), 0);
    buf_deinit(&buf);
}

static void gives_memory_back_when_empty(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 1000);
    assert_true(buf_add_text(&buf, "a"));
    buf_release(&buf);
    assert_non_null(buf.data);
    buf_consume(&buf, 1);
    buf_release(&buf);
    assert_null(buf.data);
    assert_true(buf_add_text(&buf, "b"));
    assert_true(str_equal(buf_str(&buf), STR("b")));
    buf_deinit(&buf);
}

/* Where the bytes were before they left or moved, there is nothing. */
static void leaves_no_copy_of_secrets(void **state)
{
    struct buf buf;
    (void)state;
    buf_init_secret(&buf, 1000);
    assert_true(buf_add_text(&buf, "passwordpass"));
    buf_consume(&buf, 8);
    assert_true(str_equal(buf_str(&buf), STR("pass")));
    assert_memory_equal(buf.data, "\0\0\0\0\0\0\0\0pass", 12);
    buf_consume(&buf, 9);
    assert_null(memmem(buf.data, 12, "s", 1));

    /* it moves to the front to make room, and then to a larger block */
    char fill[250];
    memset(fill, 'x', sizeof fill);
    assert_true(buf_add(&buf, fill, sizeof fill));
    buf_consume(&buf, 200);
    assert_true(buf_add_text(&buf, "0123456789"));
    assert_int_equal(buf.start, 0);
    assert_memory_equal(buf.data + 40, "xxxxxxxxxx0123456789\0\0\0\0", 24);
    for (size_t i = 60; i < 250; i++)
        assert_int_equal(buf.data[i], 0);
    const char *old = buf.data;
    assert_true(buf_add(&buf, fill, sizeof fill));
    assert_true(buf.data != old && buf.capacity > 256);
    assert_memory_equal(buf_str(&buf).p + 50, "0123456789xxx", 13);

    buf_clear(&buf);
    for (size_t i = 0; i < 310; i++)
        assert_int_equal(buf.data[i], 0);
    buf_release(&buf);
    assert_true(buf_add_text(&buf, "again"));
    buf_deinit(&buf);
    assert_true(buf.secret); /* and so it stays */
    assert_true(buf_add_text(&buf, "again"));
    buf_consume(&buf, 5);
    assert_int_equal(buf.data[0], 0);
    buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_whole_or_not_at_all),
        cmocka_unit_test(prints_up_to_the_maximum),
        cmocka_unit_test(reserves_and_fills),
        cmocka_unit_test(keeps_order_while_it_moves),
        cmocka_unit_test(gives_memory_back_when_empty),
        cmocka_unit_test(leaves_no_copy_of_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
