/* System mail: aliases, postmaster, default_domain; circles of aliases are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

#define H "hostname: a.example\n"

static const struct config *parse(const char *yaml)
{
    const struct config *config = NULL;
    struct config_error error = {""};
    if (config_parse(yaml, strlen(yaml), "f", "/etc/mta", &config, &error) < 0)
        fail_msg("%s\n  got: %s", yaml, error.text);
    return config;
}

static void test_right(void **state)
{
    (void)state;
    const struct config *config = parse(H "postmaster: Post.Master@Example.com\n"
                                          "default_domain: Example.COM\n"
                                          "aliases:\n"
                                          "  Root: [admin@example.com, root, ops]\n"
                                          "  ops: \"o'neill+x@b.example\"\n"
                                          "  cron: root\n");
    assert_string_equal(config->postmaster, "Post.Master@Example.com");
    assert_string_equal(config->default_domain, "example.com");
    assert_int_equal(config->alias_count, 3);
    assert_string_equal(config->aliases[0].name, "cron");
    assert_int_equal(config->aliases[0].target_count, 1);
    assert_string_equal(config->aliases[0].targets[0], "root");
    assert_string_equal(config->aliases[1].targets[0], "o'neill+x@b.example");
    assert_string_equal(config->aliases[2].name, "root");
    assert_int_equal(config->aliases[2].line, 5);
    assert_int_equal(config->aliases[2].target_count, 3);
    assert_string_equal(config->aliases[2].targets[0], "admin@example.com");
    assert_string_equal(config->aliases[2].targets[1], "root");
    assert_string_equal(config->aliases[2].targets[2], "ops");
    config_unref(&config);
}

static void test_defaults(void **state)
{
    (void)state;
    const struct config *config = parse(H "aliases: {}\n");
    assert_int_equal(config->alias_count, 0);
    assert_null(config->postmaster);
    assert_null(config->users_file);
    assert_string_equal(config->default_domain, "a.example");
    config_unref(&config);
}

static void test_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *text;
    } cases[] = {
        {H "aliases: []\n", "2:10: aliases: expected a mapping of names to addresses, such as "
                            "{root: admin@example.com}, found a list"},
        {H "aliases: root\n", "2:10: aliases: expected a mapping"},
        {H "aliases:\n", "2:9: aliases: expected a mapping of names to addresses, such as {root: "
                         "admin@example.com}, found nothing"},
        {H "aliases: {root: }\n",
         "2:17: aliases.root: expected an address such as admin@example.com, or another name, "
         "found nothing"},
        {H "aliases: {root: ~}\n", "2:17: aliases.root: expected an address"},
        {H "aliases: {root: [a@b.example, null]}\n", "2:31: aliases.root: expected an address"},
        {H "aliases: {root: []}\n", "2:17: aliases.root: expected at least one address"},
        {H "aliases: {root: {a: b}}\n", "2:17: aliases.root: expected an address"},
        {H "aliases: {root: [[a]]}\n", "2:18: aliases.root: expected an address"},
        {H "aliases: {root: \"|/bin/cat\"}\n",
         "2:17: aliases.root: expected an address such as admin@example.com, or another name "
         "(programs, files and lists of /etc/aliases are not supported), found \"|/bin/cat\""},
        {H "aliases: {root: /var/mail/root}\n", "2:17: aliases.root: expected an address"},
        {H "aliases: {root: \":include:/x\"}\n", "2:17: aliases.root: expected an address"},
        {H "aliases: {root: a@b@c.example}\n",
         "2:17: aliases.root: expected an address such as admin@example.com, or another name (a "
         "character that an address has only within quotes)"},
        {H "aliases: {root: a@}\n", "2:17: aliases.root: expected an address such as "
                                    "admin@example.com, or another name (what is behind the @ is "
                                    "no domain name)"},
        {H "aliases: {root: \"@b.example\"}\n",
         "2:17: aliases.root: expected an address such as admin@example.com, or another name (the "
         "name is missing)"},
        {H "aliases: {root: \"a b\"}\n", "2:17: aliases.root: expected an address"},
        {H "aliases: {root: a..b}\n", "2:17: aliases.root: expected an address such as "
                                      "admin@example.com, or another name (a dot at an end"},
        {H "aliases: {root@a.example: b}\n",
         "2:11: aliases.root@a.example: expected the name of an alias, such as root (without the @ "
         "and what follows)"},
        {H "aliases: {'': b}\n", "2:11: aliases.: expected the name of an alias, such as root"},
        {H "aliases: {root: a, ROOT: b}\n",
         "2:20: aliases.ROOT: given twice: the first is at line 2"},
        {H "aliases:\n  root: a\n  x: y\n  Root: b\n",
         "5:3: aliases.Root: given twice: the first is at line 3"},
        {H "postmaster: admin\n", "2:13: postmaster: expected an address such as "
                                  "admin@example.com (the domain is missing), found \"admin\""},
        {H "postmaster: []\n", "2:13: postmaster: expected an address such as admin@example.com"},
        {H "postmaster: a@b.example\naliases: {PostMaster: c@d.example}\n",
         "3:11: aliases.postmaster: given twice: the key `postmaster` at line 2 says it too"},
        {H "default_domain: a@b.example\n", "2:17: default_domain: expected a domain name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct config *config = NULL;
        struct config_error error = {""};
        int rc = config_parse(cases[i].yaml, strlen(cases[i].yaml), "f", "/", &config, &error);
        if (rc == 0 || strncmp(error.text + 2, cases[i].text, strlen(cases[i].text)) != 0)
            fail_msg("%s\n  got: %s\n  expected: f:%s", cases[i].yaml, error.text, cases[i].text);
    }
}

static void test_circles(void **state)
{
    (void)state;
    static const char *const circles[] = {
        "{a: b, b: a}",
        "{a: b, b: c, c: [x@y.example, A]}",
        "{a: b, b: [d, c], c: b}",
        "{x: a, a: [a, b], b: [b, a]}",
    };
    static const char *const none[] = {
        "{a: a}",           "{a: [a, b], b: [b]}", "{a: [b, c], b: d, c: d, d: e@f.example}",
        "{a: a@a.example}", "{a: nobody, b: a}",
    };
    for (size_t i = 0; i < sizeof circles / sizeof circles[0]; i++) {
        char yaml[256];
        const struct config *config = NULL;
        struct config_error error = {""};
        snprintf(yaml, sizeof yaml, H "aliases: %s\n", circles[i]);
        assert_int_equal(config_parse(yaml, strlen(yaml), "f", "/", &config, &error), -1);
        assert_non_null(strstr(error.text, ": goes round in a circle by way of `"));
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        char yaml[256];
        snprintf(yaml, sizeof yaml, H "aliases: %s\n", none[i]);
        const struct config *config = parse(yaml);
        config_unref(&config);
    }
}

/* As deep as a file allows: no recursion, no time that grows with the square. */
static void test_long_chain(void **state)
{
    (void)state;
    enum { COUNT = 30000 };
    size_t size = (size_t)COUNT * 24 + 64;
    char *yaml = malloc(size);
    assert_non_null(yaml);
    size_t used = (size_t)snprintf(yaml, size, H "aliases:\n");
    for (int i = 0; i < COUNT; i++)
        used += (size_t)snprintf(yaml + used, size - used, "  n%d: n%d\n", i, i + 1);
    const struct config *config = parse(yaml);
    assert_int_equal(config->alias_count, COUNT);
    config_unref(&config);
    snprintf(yaml + used, size - used, "  n%d: n0\n", COUNT);
    struct config_error error = {""};
    assert_int_equal(config_parse(yaml, strlen(yaml), "f", "/", &config, &error), -1);
    assert_non_null(strstr(error.text, ": goes round in a circle"));
    free(yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),      cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_wrong),      cmocka_unit_test(test_circles),
        cmocka_unit_test(test_long_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
