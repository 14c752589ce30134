/* Our sessions against a GnuTLS peer that misbehaves in ways our own kind never does (cases O15,
 * O22).
 */
#include "test_tls_support.h"

#include <gnutls/crypto.h>

static gnutls_certificate_credentials_t peer_credentials;

struct peer {
    gnutls_session_t tls;
    struct tls_session *ours;
    uint8_t in[65536];
    size_t in_start, in_end;
    size_t step; /* to our session */
};

static ssize_t peer_pull(gnutls_transport_ptr_t ptr, void *to, size_t size)
{
    struct peer *peer = ptr;
    size_t held = peer->in_end - peer->in_start;
    if (held == 0) {
        gnutls_transport_set_errno(peer->tls, EAGAIN);
        return -1;
    }
    size_t n = held < size ? held : size;
    memcpy(to, peer->in + peer->in_start, n);
    peer->in_start += n;
    return (ssize_t)n;
}

static ssize_t peer_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t len)
{
    struct peer *peer = ptr;
    for (size_t at = 0; at < len;) {
        size_t part = len - at < peer->step ? len - at : peer->step;
        if (feed_and_go_on(peer->ours, (const uint8_t *)bytes + at, part) == TLS_FAILED)
            break;
        at += part;
    }
    return (ssize_t)len;
}

static void peer_collect(struct peer *peer)
{
    size_t len;
    const uint8_t *bytes = tls_session_output(peer->ours, &len);
    if (peer->in_start == peer->in_end)
        peer->in_start = peer->in_end = 0;
    assert_true(len <= sizeof peer->in - peer->in_end);
    if (len > 0)
        memcpy(peer->in + peer->in_end, bytes, len);
    peer->in_end += len;
    tls_session_output_consumed(peer->ours, len);
}

/* A server peer for our client, or a client peer for our server. */
static void peer_init(struct peer *peer, bool peer_is_server, const char *priority, size_t step)
{
    memset(peer, 0, sizeof *peer);
    peer->step = step;
    if (peer_is_server)
        assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &peer->ours), 0);
    else
        assert_int_equal(tls_server_session_new(server_credentials, &peer->ours), 0);
    assert_int_equal(
        gnutls_init(&peer->tls, (peer_is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK),
        0);
    assert_int_equal(gnutls_priority_set_direct(peer->tls, priority, NULL), 0);
    assert_int_equal(gnutls_credentials_set(peer->tls, GNUTLS_CRD_CERTIFICATE, peer_credentials),
                     0);
    gnutls_transport_set_ptr(peer->tls, peer);
    gnutls_transport_set_pull_function(peer->tls, peer_pull);
    gnutls_transport_set_push_function(peer->tls, peer_push);
}

static void peer_deinit(struct peer *peer)
{
    gnutls_deinit(peer->tls);
    tls_session_free(&peer->ours);
}

/* @return what our side says in the end */
static int peer_handshake(struct peer *peer)
{
    int rc = tls_session_handshake(peer->ours), theirs = GNUTLS_E_AGAIN;
    for (int i = 0; i < 100; i++) {
        peer_collect(peer);
        if (theirs < 0 && gnutls_error_is_fatal(theirs) == 0)
            theirs = gnutls_handshake(peer->tls);
        rc = tls_session_handshake(peer->ours);
        if ((rc == 0 && theirs == 0) || rc == TLS_FAILED)
            break;
        if (theirs < 0 && gnutls_error_is_fatal(theirs) != 0)
            gnutls_alert_send_appropriate(peer->tls, theirs);
    }
    return rc;
}

static void peer_established(struct peer *peer, const char *priority, size_t step)
{
    peer_init(peer, true, priority, step);
    assert_int_equal(peer_handshake(peer), 0);
}

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"
static const char *const versions[] = {TLS12 ":-CIPHER-ALL:+AES-256-GCM", TLS13};

/* O15: after close_notify nothing is looked at, be it TLS or clear text. */
static void test_close_in_the_middle(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        FOR_EACH_STEP(step)
        {
            struct peer peer;
            char buf[64];
            peer_established(&peer, versions[v], step);
            assert_int_equal(gnutls_record_send(peer.tls, "half a mess", 11), 11);
            assert_int_equal(gnutls_bye(peer.tls, GNUTLS_SHUT_WR), 0);
            assert_int_equal(tls_session_feed(peer.ours, "\r\n.\r\nQUIT\r\n", 11), 0);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), 11);
            assert_memory_equal(buf, "half a mess", 11);
            for (int i = 0; i < 3; i++) {
                assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_CLOSED);
                assert_int_equal(tls_session_feed(peer.ours, "Q", 1), 0);
            }
            tls_session_close(peer.ours);
            tls_session_close(peer.ours);
            assert_int_equal(tls_session_write(peer.ours, "x", 1), TLS_FAILED);
            peer_collect(&peer);
            assert_int_equal(gnutls_record_recv(peer.tls, buf, sizeof buf), 0);
            assert_int_equal(peer.in_start, peer.in_end); /* close_notify once only */
            peer_deinit(&peer);
        }
    }
}

static void test_fatal_alert(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        FOR_EACH_STEP(step)
        {
            struct peer peer;
            char buf[64];
            peer_established(&peer, versions[v], step);
            assert_int_equal(gnutls_record_send(peer.tls, "abc", 3), 3);
            assert_int_equal(gnutls_alert_send(peer.tls, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR),
                             0);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), 3);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_FAILED);
            assert_non_null(strstr(tls_session_error(peer.ours), "Internal error"));
            assert_int_equal(tls_session_feed(peer.ours, "Q", 1), TLS_FAILED);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_FAILED);
            assert_int_equal(tls_session_write(peer.ours, "x", 1), TLS_FAILED);
            assert_int_equal(tls_session_handshake(peer.ours), TLS_FAILED);
            tls_session_close(peer.ours);
            peer_deinit(&peer);
        }
    }
}

static void test_warning_alert_is_passed_over(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        struct peer peer;
        char buf[64];
        peer_established(&peer, TLS12, step);
        for (int i = 0; i < 5; i++)
            gnutls_alert_send(peer.tls, GNUTLS_AL_WARNING, GNUTLS_A_UNRECOGNIZED_NAME);
        assert_int_equal(gnutls_record_send(peer.tls, "abc", 3), 3);
        assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), 3);
        assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_AGAIN);
        peer_deinit(&peer);
    }
}

/* A record without data, as TLS 1.2 allows it (RFC 5246 section 6.2.1). GnuTLS sends none, so this
 * one is sealed by hand with the session's own keys (RFC 5288). */
static void send_empty_tls12_record(struct peer *peer)
{
    static const unsigned char head[4] = {0x17, 3, 3, 0};
    gnutls_datum_t mac, iv, key;
    unsigned char sequence[8], wire[5 + 8 + 16], nonce[12], header[13];
    size_t tag_len = 16;
    gnutls_aead_cipher_hd_t cipher;

    assert_int_equal(gnutls_record_get_state(peer->tls, 0, &mac, &iv, &key, sequence), 0);
    memcpy(nonce, iv.data, 4);
    memcpy(nonce + 4, sequence, 8);
    memcpy(header, sequence, 8);
    memcpy(header + 8, head, 4);
    header[12] = 0;
    memcpy(wire, head, 4);
    wire[4] = 8 + 16;
    memcpy(wire + 5, sequence, 8);
    assert_int_equal(gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_256_GCM, &key), 0);
    assert_int_equal(
        gnutls_aead_cipher_encrypt(cipher, nonce, 12, header, 13, 16, "", 0, wire + 13, &tag_len),
        0);
    gnutls_aead_cipher_deinit(cipher);
    peer_push(peer, wire, sizeof wire);
    sequence[7]++;
    assert_int_equal(gnutls_record_set_state(peer->tls, 0, sequence), 0);
}

static void send_empty_record(struct peer *peer)
{
    if (gnutls_protocol_get_version(peer->tls) == GNUTLS_TLS1_2)
        send_empty_tls12_record(peer);
    else
        assert_int_equal(gnutls_record_send2(peer->tls, "", 0, 1, 0), 0);
}

/* O15: empty records are neither data nor the end; a flood of them ends the session. */
static void test_empty_records(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        FOR_EACH_STEP(step)
        {
            struct peer peer;
            char buf[64];
            peer_established(&peer, versions[v], step);
            for (int i = 0; i < 3; i++)
                send_empty_record(&peer);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_AGAIN);
            assert_int_equal(gnutls_record_send(peer.tls, "abc", 3), 3);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), 3);
            send_empty_record(&peer);
            assert_int_equal(gnutls_bye(peer.tls, GNUTLS_SHUT_WR), 0);
            assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_CLOSED);
            peer_deinit(&peer);
        }
    }
}

/* A record that was tampered with, and clear text inside a session. */
static void test_garbage_ends_the_session(void **state)
{
    static const char *const garbage[] = {"250 2.0.0 ok\r\n250 ok\r\n",
                                          "\x17\x03\x03\x00\x18"
                                          "AAAAAAAAAAAAAAAAAAAAAAAA",
                                          "\x17\x03\x03\xff\xff"
                                          "AAAA"};
    static const size_t lengths[] = {22, 29, 9};
    (void)state;

    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < 3; i++) {
            FOR_EACH_STEP(step)
            {
                struct peer peer;
                char buf[64];
                peer_established(&peer, versions[v], step);
                peer_collect(&peer);
                peer.in_start = peer.in_end; /* what the handshake left behind */
                peer_push(&peer, garbage[i], lengths[i]);
                assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_FAILED);
                assert_true(strlen(tls_session_error(peer.ours)) > 5);
                peer_collect(&peer);
                assert_int_equal(gnutls_record_recv(peer.tls, buf, sizeof buf),
                                 GNUTLS_E_FATAL_ALERT_RECEIVED);
                peer_deinit(&peer);
            }
        }
    }
}

/* RFC 8996: below TLS 1.2 no session on either side, and the other side is told by an alert. */
static void test_floor_is_tls_1_2(void **state)
{
    (void)state;
    for (int server = 0; server < 2; server++) {
        FOR_EACH_STEP(step)
        {
            struct peer peer;
            peer_init(&peer, server != 0, "NORMAL:-VERS-ALL:+VERS-TLS1.0:+VERS-TLS1.1", step);
            assert_int_equal(peer_handshake(&peer), TLS_FAILED);
            assert_true(strlen(tls_session_error(peer.ours)) > 5);
            peer_deinit(&peer);
            peer_init(&peer, server != 0, TLS12, step);
            assert_int_equal(peer_handshake(&peer), 0);
            struct tls_verdict verdict;
            tls_session_verdict(peer.ours, &verdict);
            assert_string_equal(verdict.version, "TLS1.2");
            peer_deinit(&peer);
        }
    }
}

/* O22: a server whose Diffie-Hellman prime has 512 bits. GnuTLS refuses to be one, so its messages
 * are made by hand: ServerHello, Certificate and a properly signed ServerKeyExchange (RFC 5246
 * section 7.4). */
struct flight {
    uint8_t bytes[4096];
    size_t len;
};

static void add_bytes(struct flight *flight, const void *bytes, size_t len)
{
    assert_true(len <= sizeof flight->bytes - flight->len);
    memcpy(flight->bytes + flight->len, bytes, len);
    flight->len += len;
}

static void add_length(struct flight *flight, size_t value, size_t octets)
{
    while (octets-- > 0) {
        uint8_t octet = (uint8_t)(value >> (8 * octets));
        add_bytes(flight, &octet, 1);
    }
}

static void add_record(struct flight *flight, uint8_t type, const struct flight *message)
{
    add_bytes(flight, "\x16\x03\x03", 3);
    add_length(flight, message->len + 4, 2);
    add_bytes(flight, &type, 1);
    add_length(flight, message->len, 3);
    add_bytes(flight, message->bytes, message->len);
}

static void sign_params(const uint8_t randoms[64], const struct flight *params,
                        struct flight *message)
{
    struct flight signed_bytes = {.len = 0};
    gnutls_datum_t signature;
    gnutls_privkey_t key;

    add_bytes(&signed_bytes, randoms, 64);
    add_bytes(&signed_bytes, params->bytes, params->len);
    gnutls_datum_t data = {signed_bytes.bytes, (unsigned)signed_bytes.len};
    assert_int_equal(gnutls_privkey_init(&key), 0);
    assert_int_equal(gnutls_privkey_import_x509(key, server_key, 0), 0);
    assert_int_equal(gnutls_privkey_sign_data2(key, GNUTLS_SIGN_RSA_SHA256, 0, &data, &signature),
                     0);
    add_bytes(message, params->bytes, params->len);
    add_bytes(message, "\x04\x01", 2);
    add_length(message, signature.size, 2);
    add_bytes(message, signature.data, signature.size);
    gnutls_free(signature.data);
    gnutls_privkey_deinit(key);
}

static void make_dh_flight(const uint8_t client_random[32], size_t prime_len, struct flight *flight)
{
    struct flight hello = {.len = 0}, certificate = {.len = 0}, params = {.len = 0},
                  key = {.len = 0};
    uint8_t randoms[64] = {0}, number[512];
    gnutls_datum_t der;

    memcpy(randoms, client_random, 32);
    add_bytes(&hello, "\x03\x03", 2);
    add_bytes(&hello, randoms + 32, 32);
    add_bytes(&hello, "\x00\x00\x9e\x00\x00\x05\xff\x01\x00\x01\x00", 11); /* DHE-RSA, RFC 5746 */
    add_record(flight, 2, &hello);

    assert_int_equal(gnutls_x509_crt_export2(server_certificate, GNUTLS_X509_FMT_DER, &der), 0);
    add_length(&certificate, der.size + 3, 3);
    add_length(&certificate, der.size, 3);
    add_bytes(&certificate, der.data, der.size);
    gnutls_free(der.data);
    add_record(flight, 11, &certificate);

    tls_random(number, sizeof number);
    number[0] |= 0x80;
    number[prime_len - 1] |= 1;
    add_length(&params, prime_len, 2);
    add_bytes(&params, number, prime_len);
    add_bytes(&params, "\x00\x01\x02", 3);
    add_length(&params, prime_len - 1, 2);
    add_bytes(&params, number + 1, prime_len - 1);
    sign_params(randoms, &params, &key);
    add_record(flight, 12, &key);
    memset(&hello, 0, sizeof hello);
    add_record(flight, 14, &hello); /* ServerHelloDone */
}

static void test_tiny_dh_is_refused(void **state)
{
    static const struct {
        size_t prime_len;
        int expected;
    } cases[] = {{64, TLS_FAILED}, {96, TLS_FAILED}, {256, TLS_AGAIN}};
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        FOR_EACH_STEP(step)
        {
            static struct flight flight;
            struct tls_session *ours;
            size_t len;
            flight.len = 0;
            assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &ours), 0);
            assert_int_equal(tls_session_handshake(ours), TLS_AGAIN);
            make_dh_flight(tls_session_output(ours, &len) + 11, cases[i].prime_len, &flight);
            int rc = TLS_AGAIN;
            for (size_t at = 0; at < flight.len && rc == TLS_AGAIN; at += len) {
                len = step == 1 ? 1 : flight.len;
                rc = feed_and_go_on(ours, flight.bytes + at, len);
            }
            assert_int_equal(rc, cases[i].expected);
            if (rc == TLS_FAILED)
                assert_non_null(strstr(tls_session_error(ours), "prime"));
            tls_session_free(&ours);
        }
    }
}

static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        struct peer peer;
        char buf[64];
        peer_established(&peer, TLS12, step);
        assert_int_equal(gnutls_rehandshake(peer.tls), 0);
        assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), TLS_FAILED);
        assert_non_null(strstr(tls_session_error(peer.ours), "renegotiate"));
        peer_deinit(&peer);
    }
}

static void test_key_update_goes_unnoticed(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        struct peer peer;
        char buf[64];
        peer_established(&peer, TLS13, step);
        assert_int_equal(gnutls_session_key_update(peer.tls, GNUTLS_KU_PEER), 0);
        assert_int_equal(gnutls_record_send(peer.tls, "abc", 3), 3);
        assert_int_equal(tls_session_read(peer.ours, buf, sizeof buf), 3);
        assert_int_equal(tls_session_write(peer.ours, "defg", 4), 0);
        peer_collect(&peer);
        ssize_t n = GNUTLS_E_AGAIN;
        for (int i = 0; i < 10 && n == GNUTLS_E_AGAIN; i++)
            n = gnutls_record_recv(peer.tls, buf, sizeof buf);
        assert_int_equal(n, 4);
        peer_deinit(&peer);
    }
}

static int start(void **state)
{
    if (support_start_pki(state) != 0 ||
        gnutls_certificate_allocate_credentials(&peer_credentials) < 0)
        return -1;
    return gnutls_certificate_set_x509_key(peer_credentials, &server_certificate, 1, server_key);
}

static int stop(void **state)
{
    gnutls_certificate_free_credentials(peer_credentials);
    return support_stop_pki(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_in_the_middle),
        cmocka_unit_test(test_fatal_alert),
        cmocka_unit_test(test_warning_alert_is_passed_over),
        cmocka_unit_test(test_empty_records),
        cmocka_unit_test(test_garbage_ends_the_session),
        cmocka_unit_test(test_floor_is_tls_1_2),
        cmocka_unit_test(test_tiny_dh_is_refused),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_key_update_goes_unnoticed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
