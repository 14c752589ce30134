/* A message as one JSON string, piece by piece: whole, one byte at a time, and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "mta/mtactl/json_text.h"

static void convert(struct str bytes, size_t step, struct buf *out)
{
    struct ctl_json_text state = {0};
    buf_init(out, CTL_JSON_TEXT_MAX(bytes.len));
    while (bytes.len > 0) {
        size_t part = bytes.len < step ? bytes.len : step;
        ctl_json_text_add(&state, (struct str){bytes.p, part}, out);
        bytes = str_skip(bytes, part);
    }
    ctl_json_text_end(&state, out);
    assert_false(out->overflow);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        struct str bytes;
        const char *text;
    } cases[] = {
        {{"", 0}, ""},
        {{"a\"b\\c/\r\n\t", 9}, "a\\\"b\\\\c/\\r\\n\\t"},
        {{"\0\x01\x1f\x7f", 4}, "\\u0000\\u0001\\u001f\\u007f"},
        {{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9}, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {{"\xff\xfe", 2}, "\\u00ff\\u00fe"},
        {{"\x80x", 2}, "\\u0080x"},
        {{"\xc3", 1}, "\\u00c3"},
        {{"\xc3\xc3\xa9", 3}, "\\u00c3\xc3\xa9"},
        {{"\xc3\"", 2}, "\\u00c3\\\""},
        {{"\xe2\x82", 2}, "\\u00e2\\u0082"},
        {{"\xe2\x82x", 3}, "\\u00e2\\u0082x"},
        {{"\xe2\xe2\x82\xac", 4}, "\\u00e2\xe2\x82\xac"},
        {{"\xf0\x9f\x98\xc3\xa9", 5}, "\\u00f0\\u009f\\u0098\xc3\xa9"},
        {{"\xf0\x9f\xe2\x82\xac", 5}, "\\u00f0\\u009f\xe2\x82\xac"},
        {{"\xed\xa0\x80", 3}, "\\u00ed\\u00a0\\u0080"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t step = 1; step <= 10; step++) {
            struct buf out;
            convert(cases[i].bytes, step, &out);
            struct str all = buf_str(&out);
            if (!str_equal(all, str_from(cases[i].text)))
                fail_msg("case %zu by %zu gave %.*s", i, step, (int)all.len, all.p);
            buf_deinit(&out);
        }
    }
}

/* Every pair of bytes gives valid JSON, the same whether it comes whole or in two pieces. */
static void test_all_pairs(void **state)
{
    (void)state;
    for (unsigned pair = 0; pair < 65536; pair++) {
        char bytes[3] = {(char)(pair >> 8), (char)(pair & 255), '.'};
        char json[64];
        struct buf whole;
        struct buf halves;
        convert((struct str){bytes, 3}, 3, &whole);
        convert((struct str){bytes, 3}, 1, &halves);
        struct str text = buf_str(&whole);
        assert_true(str_equal(text, buf_str(&halves)));
        int len = snprintf(json, sizeof json, "[\"%.*s\"]", (int)text.len, text.p);
        json_t *value = json_loadb(json, (size_t)len, JSON_ALLOW_NUL, NULL);
        if (value == NULL)
            fail_msg("%04x gave %s", pair, json);
        json_decref(value);
        buf_deinit(&whole);
        buf_deinit(&halves);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_all_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
