/* The cache: time, limits, replacement, references. */
#include "test_dns_support.h"

static struct dns_result *make_result(enum dns_status status, size_t hosts)
{
    struct dns_parsed parsed = {.status = status};
    parsed.count = hosts;
    if (hosts > 0)
        parsed.hosts = dns_alloc(hosts * sizeof parsed.hosts[0]);
    return dns_result_new(status, &parsed, status == DNS_ANSWER ? NULL : "why");
}

static struct dns_name name_of(unsigned number)
{
    char text[32];
    struct dns_name name;
    snprintf(text, sizeof text, "d%u.example", number);
    assert_true(dns_name_read(text, &name));
    return name;
}

static void put_new(struct dns_cache *cache, unsigned number, uint16_t type, size_t hosts,
                    uint32_t ttl_s, uint64_t now_ms)
{
    struct dns_name name = name_of(number);
    struct dns_result *result = make_result(DNS_ANSWER, hosts);
    dns_cache_put(cache, &name, type, result, ttl_s, now_ms);
    dns_result_unref(&result);
}

static bool has(struct dns_cache *cache, unsigned number, uint16_t type, uint64_t now_ms)
{
    struct dns_name name = name_of(number);
    uint32_t ttl_s;
    struct dns_result *result = dns_cache_get(cache, &name, type, now_ms, &ttl_s);
    bool found = result != NULL;
    dns_result_unref(&result);
    return found;
}

static void test_time(void **state)
{
    struct dns_cache *cache = dns_cache_new(10);
    struct dns_name name = name_of(1);
    uint32_t ttl_s = 0;
    (void)state;

    put_new(cache, 1, DNS_TYPE_MX, 1, 10, 1000);
    struct dns_result *result = dns_cache_get(cache, &name, DNS_TYPE_MX, 1000, &ttl_s);
    assert_non_null(result);
    assert_int_equal(ttl_s, 10);
    dns_result_unref(&result);
    result = dns_cache_get(cache, &name, DNS_TYPE_MX, 10001, &ttl_s);
    assert_int_equal(ttl_s, 1);
    assert_false(has(cache, 1, DNS_TYPE_A, 1000)); /* another question */
    assert_false(has(cache, 1, DNS_TYPE_MX, 11000));
    assert_int_equal(dns_cache_count(cache), 0);
    assert_int_equal(result->status, DNS_ANSWER); /* who holds it keeps it */
    dns_result_unref(&result);
    put_new(cache, 2, DNS_TYPE_MX, 1, 0, 1000);
    assert_false(has(cache, 2, DNS_TYPE_MX, 1000));
    dns_cache_free(&cache);
    assert_null(cache);
    dns_cache_free(&cache);
}

static void test_oldest_go_first(void **state)
{
    struct dns_cache *cache = dns_cache_new(4);
    (void)state;

    for (unsigned i = 0; i < 6; i++)
        put_new(cache, i, DNS_TYPE_A, 0, 60, 0);
    assert_int_equal(dns_cache_count(cache), 4);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(has(cache, i, DNS_TYPE_A, 0), i >= 2);
    put_new(cache, 2, DNS_TYPE_A, 0, 60, 0); /* new again: the oldest is now 3 */
    put_new(cache, 6, DNS_TYPE_A, 0, 60, 0);
    assert_true(has(cache, 2, DNS_TYPE_A, 0));
    assert_false(has(cache, 3, DNS_TYPE_A, 0));
    dns_cache_clear(cache);
    assert_int_equal(dns_cache_count(cache), 0);
    dns_cache_free(&cache);
}

/* Answers of 64 hosts weigh 16 KiB each: memory is the limit then, not the number. */
static void test_memory_is_bounded(void **state)
{
    struct dns_cache *cache = dns_cache_new(10000);
    (void)state;

    for (unsigned i = 0; i < 10000; i++)
        put_new(cache, i, DNS_TYPE_MX, DNS_HOSTS_MAX, 60, 0);
    assert_in_range(dns_cache_count(cache), 100,
                    (size_t)10000 * 256 / (DNS_HOSTS_MAX * sizeof(struct dns_mx_host)));
    assert_true(has(cache, 9999, DNS_TYPE_MX, 0));
    dns_cache_free(&cache);
}

static void test_replacing(void **state)
{
    struct dns_cache *cache = dns_cache_new(4);
    struct dns_name name = name_of(1);
    uint32_t ttl_s;
    (void)state;

    put_new(cache, 1, DNS_TYPE_MX, 3, 60, 0);
    struct dns_result *result = make_result(DNS_SERVER_FAILURE, 0);
    dns_cache_put(cache, &name, DNS_TYPE_MX, result, 5, 0);
    dns_result_unref(&result);
    assert_int_equal(dns_cache_count(cache), 1);
    result = dns_cache_get(cache, &name, DNS_TYPE_MX, 0, &ttl_s);
    assert_int_equal(result->status, DNS_SERVER_FAILURE);
    assert_string_equal(result->detail, "why");
    assert_int_equal(ttl_s, 5);
    dns_result_unref(&result);
    dns_cache_free(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_oldest_go_first),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_replacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
