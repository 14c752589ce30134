/* The table of a summary: columns, order, and names that must make room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mta/control/ages.h"

static void add(struct ages *ages, const char *name, int64_t age_s, unsigned times)
{
    while (times-- > 0)
        ages_add(ages, str_from(name), age_s);
}

static void test_columns(void **state)
{
    (void)state;
    static const struct {
        int64_t age_s;
        size_t column;
    } cases[] = {
        {INT64_MIN, 0}, {0, 0},     {299, 0},   {300, 1},   {599, 1},       {600, 2},
        {1199, 2},      {1200, 3},  {2400, 4},  {4800, 5},  {9600, 6},      {19200, 7},
        {38400, 8},     {76799, 8}, {76800, 9}, {76801, 9}, {INT64_MAX, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ages *ages = ages_new(2);
        struct ages_row row;
        add(ages, "a.example", cases[i].age_s, 1);
        assert_int_equal(ages_rows(ages, &row, 1), 1);
        assert_int_equal(row.counts[cases[i].column], 1);
        assert_int_equal(row.total, 1);
        ages_free(&ages);
    }
}

static void test_order(void **state)
{
    (void)state;
    struct ages *ages = ages_new(100);
    struct ages_row rows[10];
    struct ages_row others;
    uint64_t names = 77;
    assert_int_equal(ages_rows(ages, rows, 10), 0); /* of nothing */
    assert_false(ages_others(ages, rows, 0, &others, &names));
    assert_int_equal(names, 0);
    assert_int_equal(others.total, 0);
    add(ages, "b.example", 0, 2);
    add(ages, "c.example", 700, 5);
    add(ages, "A.example", 0, 1); /* case does not matter */
    add(ages, "a.EXAMPLE", 400, 1);
    add(ages, "", 0, 1);
    add(ages, "<>", 0, 3);
    assert_int_equal(ages_rows(ages, rows, 10), 5);
    static const char *const order[] = {"c.example", "<>", "a.example", "b.example", ""};
    static const uint64_t totals[] = {5, 3, 2, 2, 1};
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(rows[i].name, order[i]);
        assert_int_equal(rows[i].total, totals[i]);
    }
    assert_int_equal(rows[2].counts[0], 1);
    assert_int_equal(rows[2].counts[1], 1);

    assert_int_equal(ages_rows(ages, rows, 2), 2);
    assert_false(ages_others(ages, rows, 2, &others, &names));
    assert_int_equal(names, 3);
    assert_int_equal(others.total, 5);
    assert_int_equal(others.counts[0], 4);
    ages_total(ages, &others);
    assert_int_equal(others.total, 13);
    assert_int_equal(others.counts[2], 5);
    ages_free(&ages);
    ages_free(&ages);
}

static void test_long_names(void **state)
{
    (void)state;
    char name[400];
    struct ages *ages = ages_new(4);
    struct ages_row row;
    memset(name, 'x', sizeof name);
    for (size_t len = 250; len < 400; len += 10)
        ages_add(ages, (struct str){name, len}, 0);
    assert_int_equal(ages_rows(ages, &row, 1), 1);
    assert_int_equal(row.total, 14); /* all but the one of 250 */
    assert_int_equal(strlen(row.name), 255);
    ages_free(&ages);
}

/* A million names, each once, and some large ones that come late: they are found, and nothing is
 * lost from the sum. */
static void test_bounded(void **state)
{
    (void)state;
    struct ages *ages = ages_new(1000);
    struct ages_row rows[3];
    struct ages_row others;
    struct ages_row total;
    uint64_t names = 0;
    char name[64];
    for (unsigned i = 0; i < 200000; i++) {
        (void)snprintf(name, sizeof name, "d%u.example", i);
        add(ages, name, 0, 1);
        if (i >= 100000 && i % 20 == 0)
            add(ages, "late.example", 90000, 1);
        if (i >= 199000)
            add(ages, "last.example", 600, 10);
    }
    assert_int_equal(ages_rows(ages, rows, 3), 3);
    assert_string_equal(rows[0].name, "last.example");
    assert_int_equal(rows[0].total, 10000);
    assert_string_equal(rows[1].name, "late.example");
    assert_int_equal(rows[1].total, 5000);
    assert_int_equal(rows[1].counts[9], 5000);
    assert_int_equal(rows[2].total, 1);
    assert_true(ages_others(ages, rows, 2, &others, &names));
    assert_in_range(names, 498, 998);
    assert_int_equal(others.total, 200000);
    assert_int_equal(others.counts[0], 200000);
    ages_total(ages, &total);
    assert_int_equal(total.total, 215000);
    ages_free(&ages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
