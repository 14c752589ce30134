/* A server session that asks for a certificate: what it then knows of the client, and channel
 * bindings as a GnuTLS client computes them on its own. */
#include "test_tls_support.h"

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static struct tls_credentials *asking;
static gnutls_x509_privkey_t ca_key, client_key;
static gnutls_x509_crt_t ca;

static int start(void **state)
{
    char certificate[PATH_SIZE], key[PATH_SIZE], client_ca[PATH_SIZE], error[256];

    if (support_start_pki(state) != 0)
        return -1;
    ca_key = support_ec_key();
    client_key = support_ec_key();
    ca = support_make_certificate(
        &(struct support_certificate){.common_name = "clients", .is_ca = true}, ca_key, NULL, NULL);
    support_write_certificate("client_ca.crt", ca);
    support_path(certificate, "server.crt");
    support_path(key, "server.key");
    support_path(client_ca, "client_ca.crt");
    return tls_server_credentials_load(certificate, key, client_ca, &asking, error, sizeof error);
}

static int stop(void **state)
{
    char path[PATH_SIZE];

    tls_credentials_unref(&asking);
    gnutls_x509_crt_deinit(ca);
    gnutls_x509_privkey_deinit(ca_key);
    gnutls_x509_privkey_deinit(client_key);
    support_path(path, "client_ca.crt");
    unlink(path);
    return support_stop_pki(state);
}

/* ---- a client of GnuTLS itself ---- */

struct client {
    gnutls_session_t tls;
    gnutls_certificate_credentials_t credentials;
    struct tls_session *server;
    gnutls_datum_t resume; /* of an earlier session, or nothing */
};

static ssize_t client_pull(gnutls_transport_ptr_t ptr, void *to, size_t size)
{
    struct client *client = ptr;
    size_t len;
    const uint8_t *bytes = tls_session_output(client->server, &len);

    if (len == 0) {
        gnutls_transport_set_errno(client->tls, EAGAIN);
        return -1;
    }
    if (len > size)
        len = size;
    memcpy(to, bytes, len);
    tls_session_output_consumed(client->server, len);
    return (ssize_t)len;
}

static ssize_t client_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t len)
{
    struct client *client = ptr;
    (void)feed_and_go_on(client->server, bytes, len);
    return (ssize_t)len;
}

/* certificate NULL: it has none. Both ends have ended their handshakes. */
static void connect_client(struct client *client, struct tls_credentials *server,
                           const char *priority, gnutls_x509_crt_t certificate)
{
    char byte;
    int rc = GNUTLS_E_AGAIN;

    assert_int_equal(gnutls_certificate_allocate_credentials(&client->credentials), 0);
    /* Shown whatever CAs the server names, as hostile clients do. */
    if (certificate != NULL)
        assert_int_equal(
            gnutls_certificate_set_x509_key(client->credentials, &certificate, 1, client_key), 0);
    assert_int_equal(tls_server_session_new(server, &client->server), 0);
    assert_int_equal(
        gnutls_init(&client->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT), 0);
    assert_int_equal(gnutls_priority_set_direct(client->tls, priority, NULL), 0);
    gnutls_credentials_set(client->tls, GNUTLS_CRD_CERTIFICATE, client->credentials);
    if (client->resume.size > 0)
        assert_int_equal(
            gnutls_session_set_data(client->tls, client->resume.data, client->resume.size), 0);
    gnutls_transport_set_ptr(client->tls, client);
    gnutls_transport_set_pull_function(client->tls, client_pull);
    gnutls_transport_set_push_function(client->tls, client_push);
    for (int turn = 0; turn < 20 && rc == GNUTLS_E_AGAIN; turn++)
        rc = gnutls_handshake(client->tls);
    assert_int_equal(rc, 0);
    assert_int_equal(tls_session_handshake(client->server), 0);
    /* Takes the session tickets of TLS 1.3. */
    assert_int_equal(gnutls_record_recv(client->tls, &byte, 1), GNUTLS_E_AGAIN);
}

static void end_client(struct client *client)
{
    gnutls_deinit(client->tls);
    gnutls_certificate_free_credentials(client->credentials);
    tls_session_free(&client->server);
}

static gnutls_x509_crt_t make(const struct support_certificate *what)
{
    return support_make_certificate(what, client_key, ca, ca_key);
}

/* ---- names ---- */

static void test_who_the_client_is(void **state)
{
    static const struct {
        struct support_certificate certificate;
        const char *names; /* kind and text of each; NULL: not trusted */
        const char *problem;
    } cases[] = {
        {{.dns_names = {"app.example", "*.b.example"}, .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
         "d:app.example d:*.b.example ",
         ""},
        {{.common_name = "relay", .purpose = GNUTLS_KP_TLS_WWW_CLIENT}, "c:relay ", ""},
        {{.common_name = "relay", .dns_names = {"a.example"}, .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
         "d:a.example ",
         ""},
        /* What an MTA serves with, it shows as a client too. */
        {{.dns_names = {"mx.example"}, .purpose = GNUTLS_KP_TLS_WWW_SERVER}, "d:mx.example ", ""},
        {{.dns_names = {"mx.example"}, .purpose = GNUTLS_KP_CODE_SIGNING},
         NULL,
         "not for this end of TLS"},
        {{.dns_names = {"old.example"},
          .from_s = -20000,
          .until_s = -10000,
          .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
         NULL,
         "expired"},
        {{.common_name = "two words", .purpose = GNUTLS_KP_TLS_WWW_CLIENT}, "", ""},
    };
    (void)state;

    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        struct client client = {0};
        struct tls_verdict verdict;
        struct tls_name names[TLS_NAMES_MAX];
        char text[512] = "";
        gnutls_x509_crt_t certificate = make(&cases[i / 2].certificate);
        connect_client(&client, asking, i % 2 == 0 ? TLS12 : TLS13, certificate);
        tls_session_verdict(client.server, &verdict);
        assert_string_equal(verdict.problem, cases[i / 2].problem);
        assert_int_equal(verdict.trusted, cases[i / 2].names != NULL);
        assert_false(verdict.name_matches);
        size_t count = tls_session_peer_names(client.server, names);
        for (size_t k = 0; k < count; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%c:%s ",
                     "dec"[names[k].kind], names[k].text);
        assert_string_equal(text, cases[i / 2].names != NULL ? cases[i / 2].names : "");
        end_client(&client);
        gnutls_x509_crt_deinit(certificate);
    }
}

static void add_name(gnutls_x509_crt_t to, gnutls_x509_subject_alt_name_t kind, const void *name,
                     size_t len)
{
    assert_int_equal(
        gnutls_x509_crt_set_subject_alt_name(to, kind, name, (unsigned)len, GNUTLS_FSAN_APPEND), 0);
}

/* A name with a NUL inside is "good.example" to who reads it as a C string. GnuTLS writes none: one
 * is put in the place of an X, and the whole signed again. */
static gnutls_x509_crt_t with_nul_for_x(gnutls_x509_crt_t made)
{
    gnutls_datum_t der;
    gnutls_x509_crt_t changed;

    assert_int_equal(gnutls_x509_crt_export2(made, GNUTLS_X509_FMT_DER, &der), 0);
    unsigned char *name = memmem(der.data, der.size, "good.exampleX", 13);
    assert_non_null(name);
    name[12] = '\0';
    assert_int_equal(gnutls_x509_crt_init(&changed), 0);
    assert_int_equal(gnutls_x509_crt_import(changed, &der, GNUTLS_X509_FMT_DER), 0);
    assert_int_equal(gnutls_x509_crt_sign2(changed, ca, ca_key, GNUTLS_DIG_SHA256, 0), 0);
    gnutls_free(der.data);
    gnutls_x509_crt_deinit(made);
    return changed;
}

static void test_names_of_every_kind(void **state)
{
    struct client client = {0};
    struct tls_name names[TLS_NAMES_MAX];
    char too_long[TLS_NAME_MAX_BYTES + 1];
    (void)state;

    memset(too_long, 'a', sizeof too_long);
    for (size_t i = 50; i < sizeof too_long - 10; i += 51)
        too_long[i] = '.';
    gnutls_x509_crt_t certificate = make(&(struct support_certificate){
        .common_name = "never", .purpose = GNUTLS_KP_TLS_WWW_CLIENT, .ipv4 = "\x7f\0\0\x1"});
    add_name(certificate, GNUTLS_SAN_DNSNAME, "good.exampleX.evil.example", 26);
    add_name(certificate, GNUTLS_SAN_DNSNAME, too_long, sizeof too_long - 1);
    add_name(certificate, GNUTLS_SAN_DNSNAME, too_long, sizeof too_long);
    add_name(certificate, GNUTLS_SAN_RFC822NAME, "app@a.example", 13);
    for (int i = 0; i < TLS_NAMES_MAX; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "n%d.example", i);
        add_name(certificate, GNUTLS_SAN_DNSNAME, name, (size_t)len);
    }
    certificate = with_nul_for_x(certificate);
    connect_client(&client, asking, TLS13, certificate);
    assert_int_equal(tls_session_peer_names(client.server, names), TLS_NAMES_MAX);
    assert_int_equal(strlen(names[0].text), TLS_NAME_MAX_BYTES);
    assert_string_equal(names[1].text, "app@a.example");
    assert_int_equal(names[1].kind, TLS_NAME_EMAIL);
    assert_string_equal(names[15].text, "n13.example");
    end_client(&client);
    gnutls_x509_crt_deinit(certificate);
}

static void test_nobody_must_show_one(void **state)
{
    static const char *const priorities[] = {TLS12, TLS13};
    struct tls_name names[TLS_NAMES_MAX];
    struct tls_verdict verdict;
    (void)state;

    for (size_t i = 0; i < 2; i++) {
        struct client client = {0};
        connect_client(&client, asking, priorities[i], NULL);
        tls_session_verdict(client.server, &verdict);
        assert_false(verdict.trusted);
        assert_string_equal(verdict.problem, "no certificate");
        assert_int_equal(tls_session_peer_names(client.server, names), 0);
        end_client(&client);

        /* One of another CA is served all the same, and proves nothing. */
        gnutls_x509_crt_t own = support_make_certificate(
            &(struct support_certificate){.dns_names = {"app.example"},
                                          .purpose = GNUTLS_KP_TLS_WWW_CLIENT},
            client_key, NULL, NULL);
        client = (struct client){0};
        connect_client(&client, asking, priorities[i], own);
        tls_session_verdict(client.server, &verdict);
        assert_false(verdict.trusted);
        assert_string_equal(verdict.problem, "issuer unknown");
        assert_int_equal(tls_session_peer_names(client.server, names), 0);
        end_client(&client);

        /* Nobody asked, nobody knows. */
        client = (struct client){0};
        connect_client(&client, server_credentials, priorities[i], own);
        tls_session_verdict(client.server, &verdict);
        assert_string_equal(verdict.problem, "no certificate");
        end_client(&client);
        gnutls_x509_crt_deinit(own);
    }
}

static void test_resumed_sessions_know_the_client_too(void **state)
{
    static const char *const priorities[] = {TLS12, TLS13};
    struct tls_name names[TLS_NAMES_MAX];
    (void)state;

    gnutls_x509_crt_t certificate = make(&(struct support_certificate){
        .dns_names = {"app.example"}, .purpose = GNUTLS_KP_TLS_WWW_CLIENT});
    for (size_t i = 0; i < 2; i++) {
        struct client first = {0}, second = {0};
        connect_client(&first, asking, priorities[i], certificate);
        assert_int_equal(gnutls_session_get_data2(first.tls, &second.resume), 0);
        connect_client(&second, asking, priorities[i], NULL);
        assert_int_not_equal(gnutls_session_is_resumed(second.tls), 0);
        assert_int_equal(tls_session_peer_names(second.server, names), 1);
        assert_string_equal(names[0].text, "app.example");
        end_client(&first);
        end_client(&second);
        gnutls_free(second.resume.data);
    }
    gnutls_x509_crt_deinit(certificate);
}

static void test_the_ca_file_is_checked(void **state)
{
    char certificate[PATH_SIZE], key[PATH_SIZE], error[256];
    struct tls_credentials *made = NULL;
    (void)state;

    support_path(certificate, "server.crt");
    support_path(key, "server.key");
    assert_int_equal(
        tls_server_credentials_load(certificate, key, "/nowhere/ca", &made, error, sizeof error),
        TLS_ERR_FILE);
    assert_string_equal(error, "/nowhere/ca: No such file or directory");
    assert_int_equal(tls_server_credentials_load(certificate, key, key, &made, error, sizeof error),
                     TLS_ERR_FORMAT);
    assert_non_null(strstr(error, "no certificate in PEM form"));
    assert_null(made);
}

/* ---- channel bindings ---- */

static void test_bindings(void **state)
{
    static const struct {
        const char *priority;
        size_t exporter, unique;
    } cases[] = {
        {TLS13, 32, 0},
        {TLS12, 32, 12},
        /* Without the extended master secret a man in the middle can make two that are equal. */
        {TLS12 ":%NO_SESSION_HASH", 0, 0},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client client = {0};
        uint8_t ours[TLS_BINDING_MAX_BYTES];
        gnutls_datum_t theirs;
        connect_client(&client, server_credentials, cases[i].priority, NULL);
        assert_int_equal(tls_session_binding(client.server, TLS_BINDING_EXPORTER, ours),
                         cases[i].exporter);
        if (cases[i].exporter > 0) {
            /* RFC 9266 section 2, by the exporter itself. */
            uint8_t exported[32];
            assert_int_equal(gnutls_prf_rfc5705(client.tls, 24, "EXPORTER-Channel-Binding", 0, "",
                                                sizeof exported, (char *)exported),
                             0);
            assert_memory_equal(ours, exported, 32);
        }
        assert_int_equal(tls_session_binding(client.server, TLS_BINDING_UNIQUE, ours),
                         cases[i].unique);
        if (cases[i].unique > 0) {
            assert_int_equal(
                gnutls_session_channel_binding(client.tls, GNUTLS_CB_TLS_UNIQUE, &theirs), 0);
            assert_int_equal(theirs.size, cases[i].unique);
            assert_memory_equal(ours, theirs.data, theirs.size);
            gnutls_free(theirs.data);
        }
        end_client(&client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_the_client_is),
        cmocka_unit_test(test_names_of_every_kind),
        cmocka_unit_test(test_nobody_must_show_one),
        cmocka_unit_test(test_resumed_sessions_know_the_client_too),
        cmocka_unit_test(test_the_ca_file_is_checked),
        cmocka_unit_test(test_bindings),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
