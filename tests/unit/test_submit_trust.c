/* Nothing relays without right: every combination of what can be known of a client, and whose name
 * he may use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "mta/submit/trust.h"

static const struct config_network networks[] = {
    {.bytes = {192, 0, 2, 0}, .prefix = 24},
    {.ipv6 = true, .bytes = {0x20, 0x01, 0x0d, 0xb8}, .prefix = 32},
};
static const char *const trusted_names[] = {"*.mta.example", "relay.example"};

static struct config_listener make_listener(enum config_auth auth)
{
    return (struct config_listener){
        .tls = CONFIG_LISTENER_TLS_OPTIONAL,
        .auth = auth,
        .cleartext_auth = CONFIG_CLEARTEXT_AUTH_LOOPBACK,
        .trusted = networks,
        .trusted_count = 2,
        .client_ca = "/ca.pem",
        .trusted_names = trusted_names,
        .trusted_name_count = 2,
    };
}

static struct trust_client from(const char *address)
{
    struct trust_client client = {.ipv6 = strchr(address, ':') != NULL};
    assert_int_equal(inet_pton(client.ipv6 ? AF_INET6 : AF_INET, address, client.address), 1);
    return client;
}

/* The whole matrix, against a second way of saying it: auth x network x socket x login x
 * certificate x its name x TLS x role. */
static void test_matrix(void **state)
{
    (void)state;
    static const char *const good[] = {"host.other.example", "a.mta.example"};
    static const char *const bad[] = {"mta.example", "relay.example.evil.example"};
    static const enum config_auth auths[] = {CONFIG_AUTH_OFF, CONFIG_AUTH_OPTIONAL,
                                             CONFIG_AUTH_REQUIRED};
    for (unsigned bits = 0; bits < 3U << 7; bits++) {
        enum config_auth auth = auths[bits >> 7];
        bool network = bits & 1, is_unix = bits & 2, login = bits & 4, certificate = bits & 8;
        bool named = bits & 16, tls = bits & 32, relay = bits & 64;
        struct config_listener listener = make_listener(auth);
        struct trust_client client = from(network ? "192.0.2.7" : "198.51.100.7");
        listener.role = relay ? CONFIG_ROLE_RELAY : CONFIG_ROLE_SUBMISSION;
        client.is_unix = is_unix;
        client.login = login ? "anna" : NULL;
        client.has_certificate = certificate;
        client.dns_names = named ? good : bad;
        client.dns_name_count = 2;
        client.tls = tls;

        bool may = auth == CONFIG_AUTH_REQUIRED ? login
                                                : network || is_unix || (certificate && named) ||
                                                      (login && auth == CONFIG_AUTH_OPTIONAL);
        enum trust trust = trust_of(&listener, &client);
        if ((trust != TRUST_NONE) != may)
            fail_msg("bits %x: %d", bits, (int)trust);
        if (login && auth != CONFIG_AUTH_OFF)
            assert_int_equal(trust, TRUST_LOGIN); /* so that the user's limits hold */
    }
}

static void test_nothing_known(void **state)
{
    (void)state;
    struct config_listener listener = {.auth = CONFIG_AUTH_OPTIONAL};
    struct trust_client client = from("127.0.0.1");
    assert_int_equal(trust_of(&listener, &client), TRUST_NONE);
    client.is_unix = true;
    assert_int_equal(trust_of(&listener, &client), TRUST_UNIX);
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        bool trusted;
    } rows[] = {
        {"192.0.2.0", true},        {"192.0.2.255", true},       {"192.0.3.0", false},
        {"127.0.0.1", false},       {"2001:db8::1", true},       {"2001:db9::1", false},
        {"::ffff:192.0.2.9", true}, {"::ffff:192.0.3.9", false}, {"c000:0200::", false},
    };
    struct config_listener listener = make_listener(CONFIG_AUTH_OFF);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trust_client client = from(rows[i].address);
        if ((trust_of(&listener, &client) == TRUST_NETWORK) != rows[i].trusted)
            fail_msg("%s", rows[i].address);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool trusted;
    } rows[] = {
        {"a.mta.example", true},      {"A.MTA.Example", true}, {"a.b.mta.example", true},
        {"mta.example", false},       {".mta.example", false}, {"xmta.example", false},
        {"relay.example", true},      {"RELAY.example", true}, {"a.relay.example", false},
        {"relay.example.net", false}, {"*.mta.example", true}, {"", false},
    };
    struct config_listener listener = make_listener(CONFIG_AUTH_OFF);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trust_client client = from("198.51.100.7");
        client.dns_names = &rows[i].name;
        client.dns_name_count = 1;
        client.has_certificate = true;
        if ((trust_of(&listener, &client) == TRUST_CERTIFICATE) != rows[i].trusted)
            fail_msg("%s", rows[i].name);
        client.has_certificate = false;
        assert_int_equal(trust_of(&listener, &client), TRUST_NONE);
    }
}

static void test_login_in_clear(void **state)
{
    (void)state;
    static const struct {
        const char *address; /* NULL: the socket */
        bool local;
    } rows[] = {
        {"127.0.0.1", true},
        {"127.255.0.9", true},
        {"::1", true},
        {"::ffff:127.0.0.1", true},
        {"::ffff:192.0.2.1", false},
        {"192.0.2.1", false},
        {"::", false},
        {"::2", false},
        {"2001:db8::1", false},
        {"7f00::1", false},
        {NULL, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_listener listener = make_listener(CONFIG_AUTH_OPTIONAL);
        struct trust_client client = from(rows[i].address != NULL ? rows[i].address : "192.0.2.1");
        client.is_unix = rows[i].address == NULL;
        assert_int_equal(trust_may_log_in(&listener, &client), rows[i].local);
        listener.tls = CONFIG_LISTENER_TLS_REQUIRED;
        assert_int_equal(trust_may_log_in(&listener, &client), client.is_unix);
        listener.tls = CONFIG_LISTENER_TLS_OPTIONAL;
        listener.cleartext_auth = CONFIG_CLEARTEXT_AUTH_NEVER;
        assert_false(trust_may_log_in(&listener, &client));
        client.tls = true;
        assert_true(trust_may_log_in(&listener, &client));
        listener.auth = CONFIG_AUTH_OFF;
        assert_false(trust_may_log_in(&listener, &client));
    }
}

static void assert_refusal(const struct config_listener *listener,
                           const struct trust_client *client, unsigned code, const char *text)
{
    struct smtp_verdict verdict = {0};
    trust_refusal(listener, client, "198.51.100.7", &verdict);
    if (verdict.code != code || strncmp(verdict.text, text, strlen(text)) != 0)
        fail_msg("%u %s", verdict.code, verdict.text);
}

static void test_refusals(void **state)
{
    (void)state;
    struct config_listener listener = make_listener(CONFIG_AUTH_OFF);
    struct trust_client client = from("198.51.100.7");
    client.tls_possible = true;
    assert_refusal(&listener, &client, 554,
                   "5.7.1 Relaying denied: 198.51.100.7 is not among the "
                   "trusted networks of this listener and has shown no");
    listener.client_ca = NULL;
    assert_refusal(&listener, &client, 554,
                   "5.7.1 Relaying denied: 198.51.100.7 is not among the "
                   "trusted networks of this listener");
    listener.auth = CONFIG_AUTH_OPTIONAL;
    assert_refusal(&listener, &client, 530,
                   "5.7.0 Authentication required: use STARTTLS, then AUTH before MAIL");
    client.tls = true;
    assert_refusal(&listener, &client, 530, "5.7.0 Authentication required: use AUTH before MAIL");
    client.tls = client.tls_possible = false; /* no certificate: no way in at all */
    assert_refusal(&listener, &client, 554, "5.7.1 Relaying denied: 198.51.100.7 is not among");
    listener.auth = CONFIG_AUTH_REQUIRED;
    assert_refusal(&listener, &client, 554, "5.7.1 Relaying denied: a login is required here");
    client = from("127.0.0.1");
    assert_refusal(&listener, &client, 530, "5.7.0 Authentication required: use AUTH before MAIL");
}

static void test_sender(void **state)
{
    (void)state;
    static const char many[] = "a23456789012345678901234567890@example.com "
                               "b23456789012345678901234567890@example.com "
                               "c23456789012345678901234567890@example.com";
    struct auth_user shop = {.name = "shop", .senders = "anna@example.com @shop.example"};
    struct smtp_verdict verdict = {0};
    assert_true(trust_sender(&shop, STR("any@shop.example"), &verdict));
    assert_true(trust_sender(&shop, STR(""), &verdict));
    assert_int_equal(verdict.code, 0);
    assert_false(trust_sender(&shop, STR("ceo@example.com"), &verdict));
    assert_int_equal(verdict.code, 553);
    assert_string_equal(verdict.text,
                        "5.7.1 shop may not send as <ceo@example.com>, but as anna@example.com, "
                        "@shop.example: set the sender (MAIL FROM) of your application to that, or "
                        "ask the mail admin for more");

    char user[300], sender[300], pattern[300];
    memset(user, 'u', sizeof user - 1);
    memset(sender, 's', sizeof sender - 1);
    memset(pattern, 'p', sizeof pattern - 1);
    user[299] = sender[299] = pattern[299] = '\0';
    struct auth_user longest = {.name = user, .senders = many};
    assert_false(trust_sender(&longest, str_from(sender), &verdict));
    assert_non_null(
        strstr(verdict.text, "b23456789012345678901234567890@example.com, and others:"));
    assert_non_null(strstr(verdict.text, "ask the mail admin for more"));
    longest.senders = pattern;
    assert_false(trust_sender(&longest, str_from(sender), &verdict));
    assert_non_null(strstr(verdict.text, "but as other addresses: set the sender"));
}

static void test_author(void **state)
{
    (void)state;
    static const struct {
        const char *section, *refused; /* refused NULL: may send; "": From cannot be read */
    } rows[] = {
        {"", NULL}, /* none: the sender is added */
        {"From: anna@example.com\r\n", NULL},
        {"from : \"Anna, ceo@example.com\" <ANNA@example.com>\r\n", NULL},
        {"From: Doe, Anna <any@shop.example>\r\n", NULL},
        {"From: anna@example.com,\r\n any@shop.example\r\n", NULL},
        {"From: Shop: any@shop.example;\r\n", NULL},
        {"To: ceo@example.com\r\nX-From: ceo@example.com\r\nReply-To: ceo@example.com\r\n", NULL},
        {"From: ceo@example.com\r\n", "ceo@example.com"},
        {"From: anna@example.com <ceo@example.com>\r\n", "ceo@example.com"},
        {"From: anna@example.com, ceo@example.com\r\n", "ceo@example.com"},
        {"From: Shop: any@shop.example, ceo@example.com;\r\n", "ceo@example.com"},
        {"From: anna@example.com\r\nFrom: ceo@example.com\r\n", "ceo@example.com"},
        {"FROM\t: (x) \r\n ceo (y) @ (z) example.com\r\n", "ceo@example.com"},
        {"From: <@a,@b:ceo@example.com>\r\n", "ceo@example.com"},
        {"From: Boss <ceo>\r\n", "ceo"},
        {"From: \"anna@example.com\"@evil.example\r\n", "\"anna@example.com\"@evil.example"},
        {"From: ceo\r\n", ""},
        {"From:\r\n", ""},
        {"From: anna@example.com, ceo@example.com (\r\n", ""},
        {"From: anna@example.com ceo@example.com\r\n", ""},
        {"From: any@shop.example, \"\r\n", ""},
    };
    static const struct auth_user shop = {.name = "shop",
                                          .senders = "anna@example.com @shop.example"};
    static const struct auth_user unlimited = {.name = "shop"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct smtp_verdict verdict = {0};
        char wanted[400] = "";
        if (rows[i].refused != NULL)
            snprintf(wanted, sizeof wanted,
                     "5.7.1 shop may not send %s%s%s, but as anna@example.com, @shop.example: set "
                     "the sender (From field) of your application to that, or ask the mail admin "
                     "for more",
                     rows[i].refused[0] != '\0' ? "as <" : "with this From", rows[i].refused,
                     rows[i].refused[0] != '\0' ? ">" : "");
        bool may = trust_author(&shop, str_from(rows[i].section), &verdict);
        if (may != (rows[i].refused == NULL) || strcmp(verdict.text, wanted) != 0)
            fail_msg("'%s': %s", rows[i].section, verdict.text);
        assert_int_equal(verdict.code, may ? 0 : 554);
        assert_true(trust_author(&unlimited, str_from(rows[i].section), &verdict));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),         cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_networks),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_login_in_clear), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sender),         cmocka_unit_test(test_author),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
