/* The answer parser on messages made by hand, good and hostile. Each also runs cut off after every
 * byte: no prefix may crash it, and none may pass for the whole. */
#include "test_dns_support.h"

static struct message m;

static void parse(const char *name, uint16_t type, struct dns_parsed *parsed)
{
    /* An exact copy: reading beyond it is seen by the address sanitizer. */
    uint8_t *copy = malloc(m.len > 0 ? m.len : 1);
    memcpy(copy, m.bytes, m.len);
    dns_parse_answer(copy, m.len, name, type, parsed);
    free(copy);
}

static void expect(const char *name, uint16_t type, enum dns_status status, const char *problem)
{
    struct dns_parsed parsed;
    parse(name, type, &parsed);
    assert_int_equal(parsed.status, status);
    if (problem != NULL)
        assert_string_equal(parsed.problem, problem);
    if (status != DNS_ANSWER)
        assert_int_equal(parsed.count, 0);
    dns_parsed_deinit(&parsed);
}

static void test_mx_sorted_and_without_doubles(void **state)
{
    static const struct {
        uint16_t preference;
        const char *name;
    } expected[] = {{5, "c.test"}, {10, "a.test"}, {10, "b.test"}, {20, "d.test"}};
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY | FLAG_AD, "Example.TEST", DNS_TYPE_MX);
    add_mx(&m, "@", 300, 20, "d.test");
    add_mx(&m, "example.test", 200, 10, "A.test");
    add_mx(&m, "@", 300, 10, "b.test");
    add_mx(&m, "@", 300, 30, "c.test");
    add_mx(&m, "@", 300, 5, "C.TEST"); /* the better of two */
    add_mx(&m, "@", 300, 40, "a.test");
    add_mx(&m, "other.test", 1, 1, "not.test");
    add_address(&m, "a.test", 300, "192.0.2.1");
    parse("example.test", DNS_TYPE_MX, &parsed);
    assert_int_equal(parsed.status, DNS_ANSWER);
    assert_int_equal(parsed.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(parsed.hosts[i].name, expected[i].name);
        assert_int_equal(parsed.hosts[i].preference, expected[i].preference);
    }
    assert_int_equal(parsed.ttl_s, 200);
    assert_true(parsed.authentic);
    assert_false(parsed.null_mx);
    dns_parsed_deinit(&parsed);
}

static void test_more_hosts_than_are_kept(void **state)
{
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
    for (unsigned i = 0; i < 200; i++) {
        char host[32];
        snprintf(host, sizeof host, "h%u.test", i);
        add_mx(&m, "@", 300, (uint16_t)(199 - i), host);
    }
    parse("example.test", DNS_TYPE_MX, &parsed);
    assert_int_equal(parsed.count, DNS_HOSTS_MAX);
    for (unsigned i = 0; i < DNS_HOSTS_MAX; i++)
        assert_int_equal(parsed.hosts[i].preference, i); /* the best ones */
    dns_parsed_deinit(&parsed);
}

/* O27, RFC 7505. */
static void test_null_mx(void **state)
{
    static const struct {
        const char *targets[3];
        bool null_mx;
        size_t count;
    } cases[] = {
        {{"."}, true, 0},
        {{".", "."}, true, 0},
        {{".", "mx.test"}, false, 1},
        {{"mx.test", ".", "mx2.test"}, false, 2},
        {{"localhost"}, false, 1},
        {{"192.0.2.1"}, false, 1}, /* a name that reads like an address stays a name */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned base = 0; base <= 10; base += 10) {
            struct dns_parsed parsed;
            start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
            for (unsigned t = 0; t < 3 && cases[i].targets[t] != NULL; t++)
                add_mx(&m, "@", 300, (uint16_t)(base + t), cases[i].targets[t]);
            parse("example.test", DNS_TYPE_MX, &parsed);
            assert_int_equal(parsed.status, DNS_ANSWER);
            assert_int_equal(parsed.null_mx, cases[i].null_mx);
            assert_int_equal(parsed.count, cases[i].count);
            dns_parsed_deinit(&parsed);
        }
    }
}

static void test_targets_that_are_no_host_names(void **state)
{
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
    add_mx(&m, "@", 300, 1, "a b.test");
    add_mx(&m, "@", 300, 2, "x\r\ny.test");
    add_mx(&m, "@", 300, 3, "b\xc3\xbc.test");
    expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE,
           "MX records without a usable host name");
    add_mx(&m, "@", 300, 4, "good.test");
    size_t data =
        start_record(&m, SECTION_ANSWER, "@", DNS_TYPE_MX, 300); /* a dot inside a label */
    put(&m, "\0\5\3a.b\4test\0", 12);
    end_record(&m, data);
    data = start_record(&m, SECTION_ANSWER, "@", DNS_TYPE_MX, 300); /* a NUL inside a label */
    put(&m, "\0\6\3a\0b\4test\0", 12);
    end_record(&m, data);
    parse("example.test", DNS_TYPE_MX, &parsed);
    assert_int_equal(parsed.count, 1);
    assert_string_equal(parsed.hosts[0].name, "good.test");
    dns_parsed_deinit(&parsed);
}

/* Names of 255 octets on the wire are legal, 256 are not (RFC 1035 section 2.3.4). */
static void test_longest_names(void **state)
{
    struct dns_parsed parsed;
    char text[300];
    (void)state;

    for (size_t extra = 0; extra < 2; extra++) {
        size_t len = 253 + extra;
        memset(text, 'a', len);
        text[63] = text[127] = text[191] = '.';
        text[len] = '\0';
        start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
        add_mx(&m, "@", 300, 1, text);
        parse("example.test", DNS_TYPE_MX, &parsed);
        assert_int_equal(parsed.status, extra == 0 ? DNS_ANSWER : DNS_SERVER_FAILURE);
        if (extra == 0)
            assert_string_equal(parsed.hosts[0].name, text);
        dns_parsed_deinit(&parsed);
    }
}

static void test_addresses(void **state)
{
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY, "mx.test", DNS_TYPE_A);
    add_address(&m, "@", 100000000, "192.0.2.1");
    add_address(&m, "@", 100000000, "192.0.2.2");
    add_address(&m, "@", 100000000, "192.0.2.1");
    add_address(&m, "@", 100000000, "2001:db8::1"); /* of another type */
    parse("mx.test", DNS_TYPE_A, &parsed);
    assert_int_equal(parsed.count, 2);
    assert_memory_equal(parsed.addresses[1].bytes, "\xc0\0\2\2", 4);
    assert_false(parsed.addresses[0].ipv6);
    assert_int_equal(parsed.ttl_s, DNS_TTL_MAX_S);
    dns_parsed_deinit(&parsed);

    start_message(&m, 1, REPLY, "mx.test", DNS_TYPE_AAAA);
    for (int i = 0; i < 60; i++) {
        char text[32];
        snprintf(text, sizeof text, "2001:db8::%x", i);
        add_address(&m, "@", 0x80000001, text); /* RFC 2181 section 8: counts as 0 */
    }
    parse("mx.test", DNS_TYPE_AAAA, &parsed);
    assert_int_equal(parsed.count, DNS_ADDRESSES_MAX);
    assert_true(parsed.addresses[39].ipv6);
    assert_int_equal(parsed.addresses[39].bytes[15], 39);
    assert_int_equal(parsed.ttl_s, 0);
    dns_parsed_deinit(&parsed);

    start_message(&m, 1, REPLY, "mx.test", DNS_TYPE_A);
    size_t data = start_record(&m, SECTION_ANSWER, "@", DNS_TYPE_A, 60);
    put(&m, "\xc0\0\2", 3);
    end_record(&m, data);
    expect("mx.test", DNS_TYPE_A, DNS_SERVER_FAILURE, "a malformed answer");
}

static void test_cname_chain_inside_the_answer(void **state)
{
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY, "a.test", DNS_TYPE_MX);
    add_mx(&m, "c.test", 500, 1, "mx.test"); /* the order does not matter */
    add_cname(&m, "B.test", 70, "c.test");
    add_cname(&m, "@", 90, "b.test");
    parse("a.test", DNS_TYPE_MX, &parsed);
    assert_int_equal(parsed.status, DNS_ANSWER);
    assert_false(parsed.follow);
    assert_int_equal(parsed.count, 1);
    assert_int_equal(parsed.hops, 2);
    assert_int_equal(parsed.ttl_s, 70);
    dns_parsed_deinit(&parsed);
}

static void test_cname_chain_that_leads_out(void **state)
{
    struct dns_parsed parsed;
    (void)state;

    start_message(&m, 1, REPLY, "a.test", DNS_TYPE_A);
    add_cname(&m, "@", 90, "b.test");
    add_cname(&m, "b.test", 80, "C.test");
    parse("a.test", DNS_TYPE_A, &parsed);
    assert_int_equal(parsed.status, DNS_ANSWER);
    assert_true(parsed.follow);
    assert_string_equal(parsed.target, "c.test");
    assert_int_equal(parsed.ttl_s, 80);
    assert_int_equal(parsed.count, 0);
    dns_parsed_deinit(&parsed);

    add_soa(&m, "test", 60, 30); /* the resolver knows: there is none */
    parse("a.test", DNS_TYPE_A, &parsed);
    assert_int_equal(parsed.status, DNS_NO_RECORD);
    assert_int_equal(parsed.ttl_s, 30);
    dns_parsed_deinit(&parsed);

    start_message(&m, 1, REPLY | 3, "a.test", DNS_TYPE_A);
    add_cname(&m, "@", 90, "gone.test");
    expect("a.test", DNS_TYPE_A, DNS_NO_NAME, NULL);
    start_message(&m, 1, REPLY, "a.test", DNS_TYPE_A);
    add_cname(&m, "@", 90, "a b.test");
    expect("a.test", DNS_TYPE_A, DNS_SERVER_FAILURE, "a CNAME to what is no host name");
}

static void test_cname_chain_length(void **state)
{
    (void)state;
    for (unsigned length = 15; length <= 18; length++) {
        start_message(&m, 1, REPLY, "n0.test", DNS_TYPE_A);
        for (unsigned i = 0; i < length; i++) {
            char from[32], to[32];
            snprintf(from, sizeof from, "n%u.test", i);
            snprintf(to, sizeof to, "n%u.test", i + 1);
            add_cname(&m, from, 60, to);
            if (i + 1 == length)
                add_address(&m, to, 60, "192.0.2.1");
        }
        expect("n0.test", DNS_TYPE_A, length <= DNS_CNAME_MAX ? DNS_ANSWER : DNS_SERVER_FAILURE,
               NULL);
    }
    start_message(&m, 1, REPLY, "a.test", DNS_TYPE_A);
    add_cname(&m, "a.test", 60, "b.test");
    add_cname(&m, "b.test", 60, "a.test");
    expect("a.test", DNS_TYPE_A, DNS_SERVER_FAILURE, "more than 16 CNAMEs in a row");
}

/* RFC 2308. */
static void test_negative_answers(void **state)
{
    static const struct {
        unsigned rcode;
        bool soa;
        uint32_t ttl_s, minimum_s, expected_s;
        enum dns_status status;
    } cases[] = {
        {3, true, 60, 600, 60, DNS_NO_NAME},       {3, true, 600, 60, 60, DNS_NO_NAME},
        {3, true, 86400, 86400, 900, DNS_NO_NAME}, {3, false, 0, 0, 0, DNS_NO_NAME},
        {0, true, 60, 600, 60, DNS_NO_RECORD},     {0, true, 7200, 7200, 900, DNS_NO_RECORD},
        {0, false, 0, 0, 0, DNS_NO_RECORD},        {0, true, 60, 0x80000000U, 60, DNS_NO_RECORD},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_parsed parsed;
        start_message(&m, 1, REPLY | cases[i].rcode, "example.test", DNS_TYPE_MX);
        if (cases[i].soa)
            add_soa(&m, "test", cases[i].ttl_s, cases[i].minimum_s);
        parse("example.test", DNS_TYPE_MX, &parsed);
        assert_int_equal(parsed.status, cases[i].status);
        assert_int_equal(parsed.ttl_s, cases[i].expected_s);
        dns_parsed_deinit(&parsed);
    }
}

static void test_failures(void **state)
{
    static const struct {
        unsigned flags;
        const char *problem;
    } cases[] = {
        {REPLY | 1, "FORMERR"},
        {REPLY | 2, "SERVFAIL"},
        {REPLY | 4, "NOTIMP"},
        {REPLY | 5, "REFUSED"},
        {REPLY | 6, "an unexpected response code"},
        {REPLY | 15, "an unexpected response code"},
        {REPLY | 3, "NXDOMAIN together with records"},
        {REPLY | FLAG_TC, "a truncated answer"},
        {FLAG_RD, "a malformed answer"},        /* a question */
        {REPLY | 0x2000, "a malformed answer"}, /* another opcode */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start_message(&m, 1, cases[i].flags, "example.test", DNS_TYPE_MX);
        add_mx(&m, "@", 300, 1, "mx.test");
        expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, cases[i].problem);
    }
    start_message(&m, 1, REPLY, "other.test", DNS_TYPE_MX);
    expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, "an answer to another question");
    start_message(&m, 1, REPLY, "example.test", DNS_TYPE_A);
    expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, "an answer to another question");
    start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
    m.bytes[5] = 0; /* no question */
    m.len = 12;
    expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, "an answer to another question");
}

/* A server that only refers to others must not pass for "no MX": mail would go to the A record. */
static void test_referral_is_a_failure(void **state)
{
    (void)state;
    for (int authoritative = 0; authoritative < 2; authoritative++) {
        start_message(&m, 1, REPLY | (authoritative != 0 ? FLAG_AA : 0), "example.test",
                      DNS_TYPE_MX);
        size_t data = start_record(&m, SECTION_AUTHORITY, "test", DNS_TYPE_NS, 300);
        put_name(&m, "ns.test");
        end_record(&m, data);
        expect("example.test", DNS_TYPE_MX, authoritative != 0 ? DNS_NO_RECORD : DNS_SERVER_FAILURE,
               NULL);
    }
}

/* Name compression that never ends, or leads forward. */
static void test_compression_loops(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } names[] = {
        {"\xc0\x2c", 2},    /* to itself: the record begins at 30 + 12 + 2 */
        {"\xc0\x30", 2},    /* forward */
        {"\xff\xff", 2},    /* far beyond the end */
        {"\1a\xc0\x2c", 4}, /* to its own beginning */
        {"\x40", 1},        /* reserved */
        {"\x80\1", 2},      /* reserved */
        {"\x3f"
         "abc",
         4},         /* a label beyond the end */
        {"\xc0", 1}, /* half a pointer */
    };
    (void)state;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
        assert_int_equal(m.len, 30);
        size_t data = start_record(&m, SECTION_ANSWER, "@", DNS_TYPE_MX, 300);
        put_number(&m, 10, 2);
        put(&m, names[i].bytes, names[i].len);
        end_record(&m, data);
        expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, "a malformed answer");
    }
}

/* A staircase of pointers, each to the one before: legal one by one, refused in number. */
static void test_long_staircase_of_pointers(void **state)
{
    (void)state;
    for (unsigned steps = 100; steps <= 8000; steps += 7900) {
        start_message(&m, 1, REPLY, "example.test", DNS_TYPE_MX);
        size_t data = start_record(&m, SECTION_ANSWER, "pad.test", 16, 300);
        unsigned at = (unsigned)m.len;
        put_name(&m, "mx.test");
        unsigned to = at;
        for (unsigned i = 0; i < steps; i++) {
            unsigned here = (unsigned)m.len;
            put_number(&m, 0xc000 | to, 2);
            to = here;
        }
        end_record(&m, data);
        data = start_record(&m, SECTION_ANSWER, "@", DNS_TYPE_MX, 300);
        put_number(&m, 10, 2);
        put_number(&m, 0xc000 | (to & 0x3fff), 2);
        end_record(&m, data);
        expect("example.test", DNS_TYPE_MX, steps == 100 ? DNS_ANSWER : DNS_SERVER_FAILURE, NULL);
    }
}

static void test_every_prefix_is_refused(void **state)
{
    static struct message whole;
    (void)state;

    start_message(&whole, 1, REPLY, "example.test", DNS_TYPE_MX);
    add_cname(&whole, "@", 60, "b.test");
    add_mx(&whole, "b.test", 60, 10, "mx.test");
    for (size_t len = 0; len < whole.len; len++) {
        memcpy(m.bytes, whole.bytes, len);
        m.len = len;
        expect("example.test", DNS_TYPE_MX, DNS_SERVER_FAILURE, NULL);
    }
}

/* Every byte of a good answer changed to some others: anything may come out, nothing may break. */
static void test_every_byte_changed(void **state)
{
    static const uint8_t values[] = {0x00, 0x01, 0x3f, 0x40, 0x7f, 0xc0, 0xff};
    static struct message whole;
    (void)state;

    start_message(&whole, 1, REPLY, "example.test", DNS_TYPE_MX);
    add_cname(&whole, "@", 60, "b.test");
    add_mx(&whole, "b.test", 60, 10, "mx.test");
    add_soa(&whole, "test", 60, 60);
    for (size_t at = 0; at < whole.len; at++) {
        for (size_t i = 0; i < sizeof values; i++) {
            struct dns_parsed parsed;
            m = whole;
            m.bytes[at] = values[i];
            parse("example.test", DNS_TYPE_MX, &parsed);
            assert_true(parsed.count <= 1);
            assert_int_not_equal(parsed.status, DNS_TIMEOUT);
            assert_int_equal(parsed.problem != NULL, parsed.status == DNS_SERVER_FAILURE);
            dns_parsed_deinit(&parsed);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mx_sorted_and_without_doubles),
        cmocka_unit_test(test_more_hosts_than_are_kept),
        cmocka_unit_test(test_null_mx),
        cmocka_unit_test(test_targets_that_are_no_host_names),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_cname_chain_inside_the_answer),
        cmocka_unit_test(test_cname_chain_that_leads_out),
        cmocka_unit_test(test_cname_chain_length),
        cmocka_unit_test(test_negative_answers),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_referral_is_a_failure),
        cmocka_unit_test(test_compression_loops),
        cmocka_unit_test(test_long_staircase_of_pointers),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_every_byte_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
