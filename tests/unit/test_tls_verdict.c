/* What certificates prove: chain and name are judged apart, and neither ends the session (O22). */
#include "test_tls_support.h"

#define DAY 86400L

static gnutls_x509_privkey_t ca_key, leaf_key;
static gnutls_x509_crt_t ca;

static int start(void **state)
{
    if (support_start_pki(state) != 0)
        return -1;
    ca_key = support_ec_key();
    leaf_key = support_ec_key();
    ca = support_make_certificate(
        &(struct support_certificate){.common_name = "Other CA", .is_ca = true}, ca_key, NULL,
        NULL);
    support_write_certificate("other_ca.crt", ca);
    support_write_key("leaf.key", leaf_key, NULL);
    return 0;
}

static int stop(void **state)
{
    static const char *const more[] = {"other_ca.crt", "leaf.key", "leaf.crt"};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_SIZE];
        support_path(path, more[i]);
        unlink(path);
    }
    gnutls_x509_crt_deinit(ca);
    gnutls_x509_privkey_deinit(ca_key);
    gnutls_x509_privkey_deinit(leaf_key);
    return support_stop_pki(state);
}

static void judge(const struct support_certificate *what, bool self_signed, const char *name,
                  struct tls_verdict *verdict_out)
{
    char leaf_path[PATH_SIZE], key_path[PATH_SIZE], ca_path[PATH_SIZE];
    struct tls_credentials *server = NULL, *client = NULL;
    struct tls_session *ours, *theirs;

    gnutls_x509_crt_t leaf = support_make_certificate(what, leaf_key, self_signed ? NULL : ca,
                                                      self_signed ? NULL : ca_key);
    support_write_certificate("leaf.crt", leaf);
    gnutls_x509_crt_deinit(leaf);
    support_path(leaf_path, "leaf.crt");
    support_path(key_path, "leaf.key");
    support_path(ca_path, "other_ca.crt");
    assert_int_equal(tls_server_credentials_load(leaf_path, key_path, NULL, &server, NULL, 0), 0);
    assert_int_equal(tls_client_credentials_load(ca_path, &client, NULL, 0), 0);
    assert_int_equal(tls_server_session_new(server, &theirs), 0);
    assert_int_equal(tls_client_session_new(client, name, &ours), 0);
    tls_credentials_unref(&server);
    tls_credentials_unref(&client);

    int rc = tls_session_handshake(ours);
    for (int turn = 0; turn < 4; turn++) {
        struct tls_session *from = turn % 2 == 0 ? ours : theirs,
                           *to = turn % 2 == 0 ? theirs : ours;
        size_t len;
        const uint8_t *bytes = tls_session_output(from, &len);
        rc = feed_and_go_on(to, bytes, len);
        assert_int_not_equal(rc, TLS_FAILED);
        tls_session_output_consumed(from, len);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(tls_session_handshake(theirs), 0);
    tls_session_verdict(ours, verdict_out);
    tls_session_free(&ours);
    tls_session_free(&theirs);
}

static const struct {
    struct support_certificate certificate;
    const char *name;
    const char *problem; /* part of it; "": none at all */
    bool self_signed, trusted, name_matches;
} cases[] = {
    {{.dns_names = {"mx.example"}}, "mx.example", "", false, true, true},
    {{.dns_names = {"mx.example"}}, "MX.Example", "", false, true, true},
    {{.dns_names = {"mx.example"}}, "mx.example.", "", false, true, true},
    {{.dns_names = {"a.example", "b.example", "mx.example"}}, "mx.example", "", false, true, true},
    {{.dns_names = {"mx.example"}}, "mx2.example", "not for mx2.example", false, true, false},
    {{.dns_names = {"mx.example"}}, "example", "not for example", false, true, false},
    {{.dns_names = {"*.example.com"}}, "mx.example.com", "", false, true, true},
    {{.dns_names = {"*.example.com"}}, "a.mx.example.com", "not for", false, true, false},
    {{.dns_names = {"*.example.com"}}, "example.com", "not for", false, true, false},
    {{.common_name = "mx.example"}, "mx.example", "", false, true, true},
    {{.common_name = "mx.example", .dns_names = {"x.example"}},
     "mx.example",
     "not for",
     false,
     true,
     false},
    {{.ipv4 = "\xc0\x00\x02\x01"}, "192.0.2.1", "", false, true, true},
    {{.ipv4 = "\xc0\x00\x02\x01"}, "192.0.2.2", "not for 192.0.2.2", false, true, false},
    {{.dns_names = {"mx.example"}}, NULL, "", false, true, false},
    {{.dns_names = {"mx.example"}}, "mx.example", "issuer unknown", true, false, true},
    {{.dns_names = {"mx.example"}}, "x.example", "issuer unknown, not for x.", true, false, false},
    {{.dns_names = {"mx.example"}, .from_s = -9 * DAY, .until_s = -DAY},
     "mx.example",
     "expired",
     false,
     false,
     true},
    {{.dns_names = {"mx.example"}, .from_s = DAY, .until_s = 9 * DAY},
     "mx.example",
     "not valid yet",
     false,
     false,
     true},
    {{.dns_names = {"mx.example"}, .purpose = GNUTLS_KP_EMAIL_PROTECTION},
     "mx.example",
     "not for this end of TLS",
     false,
     false,
     true},
};

static void test_table(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_verdict verdict;
        judge(&cases[i].certificate, cases[i].self_signed, cases[i].name, &verdict);
        assert_int_equal(verdict.trusted, cases[i].trusted);
        assert_int_equal(verdict.name_matches, cases[i].name_matches);
        assert_non_null(strstr(verdict.problem, cases[i].problem));
        if (cases[i].problem[0] == '\0')
            assert_string_equal(verdict.problem, "");
    }
}

static void test_a_long_name_is_cut(void **state)
{
    char name[300];
    struct tls_verdict verdict;
    (void)state;

    memset(name, 'a', sizeof name);
    for (size_t i = 50; i < sizeof name; i += 50)
        name[i] = '.';
    name[sizeof name - 1] = '\0';
    judge(&(struct support_certificate){.dns_names = {"mx.example"}}, false, name, &verdict);
    assert_int_equal(strlen(verdict.problem), sizeof verdict.problem - 1);
    assert_false(verdict.name_matches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_a_long_name_is_cut),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
