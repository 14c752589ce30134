/* tests/unit/test_net_stream_tls.c - streams under TLS: against each other, and against raw peers
 * that inject, stall, stop half way or break. */
#include <sys/ioctl.h>

#include "test_net_support.h"
#include "test_tls_support.h"

#define BIG ((size_t)8 << 20)

/* ---- two streams ---- */

struct pair {
    struct owner *client, *server;
};

static struct tls_session *client_session(void)
{
    struct tls_session *session = NULL;
    assert_int_equal(tls_client_session_new(client_credentials, "mx.example", &session), 0);
    return session;
}

static struct tls_session *server_session(void)
{
    struct tls_session *session = NULL;
    assert_int_equal(tls_server_session_new(server_credentials, &session), 0);
    return session;
}

static struct pair connect_pair(void)
{
    struct pair pair = {new_owner(), new_owner()};
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    pair.client->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 5000, &notes, pair.client);
    RUN_UNTIL(pair.client->opened == 1);
    pair.server->stream =
        stream_accept_fd(&loop, accept(listener, NULL, NULL), &notes, pair.server);
    assert_non_null(pair.server->stream);
    close(listener);
    return pair;
}

static struct pair shake_pair(void)
{
    struct pair pair = connect_pair();
    stream_start_tls(pair.client->stream, client_session(), 5000, NULL);
    stream_start_tls(pair.server->stream, server_session(), 5000, NULL);
    RUN_UNTIL(pair.client->shook == 1 && pair.server->shook == 1);
    return pair;
}

static void free_pair(struct pair *pair)
{
    free_owner(pair->client);
    free_owner(pair->server);
    RUN_UNTIL(stream_open_count() == 0);
}

/* Not all of them in one turn of the loop: others are served in between. */
static void many_handshakes_take_turns(void **state)
{
    enum { PAIRS = 100 };
    struct pair pairs[PAIRS];
    unsigned done = 0, most = 0;
    (void)state;
    for (int i = 0; i < PAIRS; i++)
        pairs[i] = connect_pair();
    for (int i = 0; i < PAIRS; i++) {
        stream_start_tls(pairs[i].client->stream, client_session(), 20000, NULL);
        stream_start_tls(pairs[i].server->stream, server_session(), 20000, NULL);
    }
    uint64_t too_late_ms = time_monotonic_ms() + 20000;
    while (done < 2 * PAIRS) {
        unsigned before = done;
        assert_true(time_monotonic_ms() < too_late_ms);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        done = 0;
        for (int i = 0; i < PAIRS; i++)
            done += pairs[i].client->shook + pairs[i].server->shook;
        if (done - before > most)
            most = done - before;
    }
    assert_true(most <= 8); /* the turn has two ends */
    for (int i = 0; i < PAIRS; i++) {
        free_owner(pairs[i].client);
        free_owner(pairs[i].server);
    }
    RUN_UNTIL(stream_open_count() == 0);
}

/* Whose turn has not come lets lie in its socket what it sends: a crowd takes no memory of ours. */
static void a_crowd_is_not_read_ahead(void **state)
{
    enum { CROWD = 100, SENT = 200000, TURNS = 6 }; /* 8 a turn at most */
    static const char nonsense[SENT];
    struct owner *owners[CROWD];
    int peers[CROWD], fds[CROWD];
    int waiting = 0;
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    (void)state;
    for (int i = 0; i < CROWD; i++) {
        peers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(peers[i], (const struct sockaddr *)&address, sizeof address), 0);
        set_nonblocking(peers[i]);
        fds[i] = accept(listener, NULL, NULL);
        owners[i] = new_owner();
        owners[i]->stream = stream_accept_fd(&loop, fds[i], &notes, owners[i]);
        stream_start_tls(owners[i]->stream, server_session(), 20000, NULL);
    }
    (void)uv_run(&loop, UV_RUN_NOWAIT); /* they wait for a first record */
    for (int i = 0; i < CROWD; i++)
        assert_true(write(peers[i], nonsense, SENT) > 0);
    for (int i = 0; i < TURNS; i++)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    for (int i = 0; i < CROWD; i++) {
        int unread = 0;
        if (owners[i]->ended > 0)
            continue;
        waiting++;
        assert_int_equal(ioctl(fds[i], FIONREAD, &unread), 0);
        assert_true(unread > 0);
    }
    assert_true(waiting >= CROWD / 2);
    for (int i = 0; i < CROWD; i++) {
        RUN_UNTIL(owners[i]->ended == 1);
        assert_int_equal(owners[i]->how, STREAM_END_TLS);
        free_owner(owners[i]);
        close(peers[i]);
    }
    close(listener);
    RUN_UNTIL(stream_open_count() == 0);
}

static void starttls_both_ways(void **state)
{
    (void)state;
    struct pair pair = connect_pair();
    size_t dropped = 99;
    stream_write(pair.client->stream, "STARTTLS\r\n", 10);
    RUN_UNTIL(has(pair.server, "STARTTLS\r\n"));
    stream_write(pair.server->stream, "220 go\r\n", 8);
    stream_start_tls(pair.server->stream, server_session(), 5000, &dropped);
    assert_int_equal(dropped, 0);
    assert_false(stream_is_tls(pair.server->stream));
    RUN_UNTIL(has(pair.client, "220 go\r\n"));
    stream_start_tls(pair.client->stream, client_session(), 5000, &dropped);
    assert_int_equal(dropped, 0);
    stream_write(pair.client->stream, "EHLO x\r\n", 8); /* waits for the handshake */
    RUN_UNTIL(pair.client->shook == 1 && pair.server->shook == 1);
    assert_true(stream_is_tls(pair.client->stream) && stream_is_tls(pair.server->stream));
    assert_true(pair.client->verdict.trusted && pair.client->verdict.name_matches);
    RUN_UNTIL(has(pair.server, "STARTTLS\r\nEHLO x\r\n"));
    assert_int_equal(pair.client->drained, 2);

    stream_write(pair.server->stream, "221 bye\r\n", 9);
    stream_close(&pair.server->stream, true);
    RUN_UNTIL(pair.client->ended == 1);
    assert_true(has(pair.client, "220 go\r\n221 bye\r\n"));
    assert_int_equal(pair.client->how, STREAM_END_EOF);
    stream_close(&pair.client->stream, true);
    uint64_t before = time_monotonic_ms();
    RUN_UNTIL(stream_open_count() == 0);
    assert_true(time_monotonic_ms() - before < 1000);
    free_pair(&pair);
}

static void implicit_tls_keeps_what_came_first(void **state)
{
    (void)state;
    struct owner *client = new_owner();
    struct owner *server = new_owner();
    struct sockaddr_in address;
    size_t dropped = 99;
    int listener = listen_on_loopback(&address);
    client->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 5000, &notes, client);
    stream_start_tls(client->stream, client_session(), 5000, NULL); /* before it is open */
    RUN_UNTIL(client->opened == 1);
    run_for(20); /* the client's first message waits in the socket */
    server->stream = stream_accept_fd(&loop, accept(listener, NULL, NULL), &notes, server);
    stream_start_tls(server->stream, server_session(), 5000, &dropped);
    assert_int_equal(dropped, 0);
    stream_write(server->stream, "220 hello\r\n", 11);
    RUN_UNTIL(has(client, "220 hello\r\n"));
    close(listener);
    free_owner(client);
    free_owner(server);
}

static void carries_much_in_bounded_memory(void **state)
{
    char *pattern = make_pattern(BIG);
    (void)state;
    struct pair pair = shake_pair();
    pair.server->on_bytes = ACT_PAUSE;
    stream_write(pair.client->stream, pattern, BIG);
    run_for(100);
    assert_int_equal(pair.server->read, 1);
    size_t pending = stream_pending(pair.client->stream);
    uint64_t taken = stream_written_total(pair.client->stream);
    assert_true(pending > 0 && taken > 0);
    /* Ciphertext: 16 KiB records cost about 22 bytes each; the handshake came on top. */
    assert_true(pending + taken >= BIG && pending + taken < BIG + BIG / 100);
    assert_int_equal(pair.client->drained, 0);

    while (buf_len(&pair.server->in) < BIG / 2) { /* one piece at a time, also out of the session */
        unsigned reads = pair.server->read;
        stream_resume(pair.server->stream);
        RUN_UNTIL(pair.server->read == reads + 1);
    }
    pair.server->on_bytes = ACT_NOTHING;
    stream_resume(pair.server->stream);
    RUN_UNTIL(buf_len(&pair.server->in) == BIG);
    assert_memory_equal(buf_str(&pair.server->in).p, pattern, BIG);
    assert_int_equal(pair.client->drained, 1);
    assert_int_equal(stream_pending(pair.client->stream), 0);
    free(pattern);
    free_pair(&pair);
}

static void closes_inside_any_callback(void **state)
{
    (void)state;
    for (enum act how = ACT_CLOSE; how <= ACT_CLOSE_GRACEFULLY; how++) {
        for (int place = 0; place < 4; place++) {
            struct pair pair = connect_pair();
            pair.server->on_tls = place == 0 ? how : ACT_NOTHING;
            pair.server->on_bytes = place == 1 ? how : ACT_NOTHING;
            pair.server->on_drain = place == 2 ? how : ACT_NOTHING;
            pair.server->on_end = place == 3 ? how : ACT_NOTHING;
            stream_start_tls(pair.client->stream, client_session(), 5000, NULL);
            stream_start_tls(pair.server->stream, server_session(), 5000, NULL);
            stream_write(pair.client->stream, "one", 3);
            RUN_UNTIL(pair.server->shook == 1);
            if (pair.server->stream != NULL)
                stream_write(pair.server->stream, "two", 3);
            RUN_UNTIL(pair.client->shook == 1 && pair.client->drained == 1);
            if (place == 3)
                stream_close(&pair.client->stream, true);
            RUN_UNTIL(pair.server->stream == NULL);
            unsigned events = pair.server->read + pair.server->drained + pair.server->ended;
            stream_close(&pair.client->stream, false);
            RUN_UNTIL(stream_open_count() == 0);
            assert_int_equal(pair.server->read + pair.server->drained + pair.server->ended, events);
            free_pair(&pair);
        }
    }
}

static void sees_a_stale_connection(void **state)
{
    (void)state;
    struct pair pair = shake_pair();
    struct owner *client = pair.client;
    /* The server's session tickets came after the handshake: no news. */
    run_for(5);
    assert_false(stream_is_stale(client->stream));
    stream_write(pair.server->stream, "421 bye\r\n", 9);
    RUN_UNTIL(pair.server->drained == 1);
    RUN_UNTIL(has(client, "421 bye\r\n"));
    assert_false(stream_is_stale(client->stream));

    /* Written, and looked at before the client's loop could read: seen, and not lost. */
    unsigned reads = client->read;
    client->on_bytes = ACT_PAUSE;
    stream_pause(client->stream);
    run_for(5);
    stream_write(pair.server->stream, "more\r\n", 6);
    RUN_UNTIL(pair.server->drained == 2);
    run_for(5);
    assert_int_equal(client->read, reads);
    assert_true(stream_is_stale(client->stream));
    stream_resume(client->stream);
    RUN_UNTIL(has(client, "421 bye\r\nmore\r\n"));

    stream_close(&pair.server->stream, true);
    run_for(20);
    assert_int_equal(client->ended, 0); /* paused */
    assert_true(stream_is_stale(client->stream));
    stream_resume(client->stream);
    RUN_UNTIL(client->ended == 1);
    assert_int_equal(client->how, STREAM_END_EOF);
    free_pair(&pair);
}

/* ---- a stream and a raw peer ---- */

struct raw_tls {
    int fd;
    struct tls_session *session;
    size_t step; /* bytes a write */
    bool established;
    struct buf in;
};

static void raw_flush(struct raw_tls *raw)
{
    for (;;) {
        size_t len;
        const uint8_t *bytes = tls_session_output(raw->session, &len);
        if (len == 0)
            return;
        ssize_t n = send(raw->fd, bytes, len < raw->step ? len : raw->step, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        tls_session_output_consumed(raw->session, (size_t)n);
        if (raw->step == 1)
            (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
}

/* @return false: the peer hung up */
static bool raw_go_on(struct raw_tls *raw)
{
    char bytes[16384];
    raw_flush(raw);
    ssize_t n = recv(raw->fd, bytes, sizeof bytes, 0);
    if (n > 0)
        assert_int_equal(tls_session_feed(raw->session, bytes, (size_t)n), 0);
    if (!raw->established)
        raw->established = tls_session_handshake(raw->session) == 0;
    long plain = raw->established ? tls_session_read(raw->session, bytes, sizeof bytes) : 0;
    if (plain > 0)
        assert_true(buf_add(&raw->in, bytes, (size_t)plain));
    raw_flush(raw);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static void raw_write(struct raw_tls *raw, const char *text)
{
    assert_int_equal(tls_session_write(raw->session, text, strlen(text)), 0);
    raw_flush(raw);
}

/* An accepted stream under TLS, and its raw client. */
static struct raw_tls shake_with_raw(struct owner *owner, size_t step)
{
    struct raw_tls raw = {accept_from_raw(owner), client_session(), step, false, {0}};
    buf_init(&raw.in, BIG);
    stream_start_tls(owner->stream, server_session(), 5000, NULL);
    RUN_UNTIL(raw_go_on(&raw) && raw.established && owner->shook == 1);
    return raw;
}

static void free_raw(struct raw_tls *raw)
{
    close(raw->fd);
    tls_session_free(&raw->session);
    buf_deinit(&raw->in);
}

static void bytes_one_by_one_make_the_same_session(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        struct owner *owner = new_owner();
        struct raw_tls raw = shake_with_raw(owner, step);
        raw_write(&raw, "EHLO a\r\n");
        raw_write(&raw, "NOOP\r\n");
        RUN_UNTIL(has(owner, "EHLO a\r\nNOOP\r\n"));
        stream_write(owner->stream, "250 ok\r\n", 8);
        RUN_UNTIL(raw_go_on(&raw) && str_equal(buf_str(&raw.in), STR("250 ok\r\n")));
        tls_session_close(raw.session);
        raw_flush(&raw);
        RUN_UNTIL(owner->ended == 1);
        assert_int_equal(owner->how, STREAM_END_EOF);
        free_owner(owner);
        free_raw(&raw);
    }
}

/* cases O10: a server. The second segment comes before the 220 has left. */
static void drops_what_a_client_injects(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        struct owner *owner = new_owner();
        size_t dropped = 0;
        struct raw_tls raw = {accept_from_raw(owner), client_session(), step, false, {0}};
        buf_init(&raw.in, BIG);
        raw_send(raw.fd, "STARTTLS\r\n");
        RUN_UNTIL(has(owner, "STARTTLS\r\n"));
        raw_send(raw.fd, "MAIL FROM:<evil@x>\r\nRCPT TO:<");
        usleep(10000);
        stream_write(owner->stream, "220 go\r\n", 8);
        stream_start_tls(owner->stream, server_session(), 5000, &dropped);
        assert_int_equal(dropped, strlen("MAIL FROM:<evil@x>\r\nRCPT TO:<"));
        char go[9] = "";
        RUN_UNTIL(recv(raw.fd, go, 8, 0) == 8);
        assert_string_equal(go, "220 go\r\n");
        RUN_UNTIL(raw_go_on(&raw) && raw.established && owner->shook == 1);
        raw_write(&raw, "EHLO x\r\n");
        RUN_UNTIL(has(owner, "STARTTLS\r\nEHLO x\r\n")); /* nothing in between */
        free_owner(owner);
        free_raw(&raw);
    }
}

/* CVE-2011-0411 from the other side: replies in clear behind the 220. */
static void drops_what_a_server_injects(void **state)
{
    (void)state;
    struct owner *owner = new_owner();
    size_t dropped = 0;
    struct raw_tls raw = {connect_to_raw(owner), server_session(), SIZE_MAX, false, {0}};
    buf_init(&raw.in, BIG);
    stream_write(owner->stream, "STARTTLS\r\n", 10);
    RUN_UNTIL(owner->drained == 1);
    char command[11] = "";
    assert_int_equal(recv(raw.fd, command, 10, 0), 10);
    raw_send(raw.fd, "220 go\r\n");
    RUN_UNTIL(has(owner, "220 go\r\n"));
    raw_send(raw.fd, "250 SIZE 1\r\n");
    usleep(10000);
    stream_start_tls(owner->stream, client_session(), 5000, &dropped);
    assert_int_equal(dropped, 12);
    RUN_UNTIL(raw_go_on(&raw) && raw.established && owner->shook == 1);
    raw_write(&raw, "250 ok\r\n");
    RUN_UNTIL(has(owner, "220 go\r\n250 ok\r\n"));
    free_owner(owner);
    free_raw(&raw);
}

/* What arrives while the go-ahead is stuck behind a full socket is dropped too. */
static void drops_what_comes_before_the_go_ahead_is_out(void **state)
{
    char *pattern = make_pattern(BIG);
    struct buf in;
    (void)state;
    buf_init(&in, BIG + 8);
    struct owner *owner = new_owner();
    struct raw_tls raw = {accept_from_raw(owner), client_session(), SIZE_MAX, false, {0}};
    buf_init(&raw.in, BIG);
    stream_write(owner->stream, pattern, BIG);
    stream_write(owner->stream, "220 go\r\n", 8);
    stream_start_tls(owner->stream, server_session(), 5000, NULL);
    stream_write(owner->stream, "secret", 6); /* must not go out in clear behind the 220 */
    run_for(20);
    raw_send(raw.fd, "MAIL FROM:<evil@x>\r\n");
    run_for(20);
    RUN_UNTIL(raw_take(raw.fd, &in) && buf_len(&in) >= BIG + 8);
    run_for(20);
    (void)raw_take(raw.fd, &in);
    assert_int_equal(buf_len(&in), BIG + 8);
    assert_memory_equal(buf_str(&in).p + BIG, "220 go\r\n", 8);
    RUN_UNTIL(raw_go_on(&raw) && raw.established && owner->shook == 1);
    RUN_UNTIL(raw_go_on(&raw) && str_equal(buf_str(&raw.in), STR("secret")));
    assert_int_equal(owner->read, 0);
    free(pattern);
    buf_deinit(&in);
    free_owner(owner);
    free_raw(&raw);
}

/* cases O21: silence, garbage, FIN and RST instead of a handshake, for both roles. */
static void a_handshake_that_fails_always_ends(void **state)
{
    enum { SILENT, GARBAGE, HANGS_UP, RESETS, WAYS };
    const struct linger reset = {1, 0};
    (void)state;
    for (int way = 0; way < WAYS; way++) {
        for (int client = 0; client < 2; client++) {
            struct owner *owner = new_owner();
            int raw = client ? connect_to_raw(owner) : accept_from_raw(owner);
            uint64_t before = time_monotonic_ms();
            if (client)
                stream_pause(owner->stream); /* a pause must not hold a handshake */
            stream_start_tls(owner->stream, client ? client_session() : server_session(), 300,
                             NULL);
            run_for(5);
            if (way == GARBAGE)
                raw_send(raw, "220 I speak no TLS, sorry for that\r\n");
            else if (way == HANGS_UP)
                shutdown(raw, SHUT_WR);
            else if (way == RESETS)
                setsockopt(raw, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            if (way == RESETS)
                close(raw);
            RUN_UNTIL(owner->ended == 1);
            uint64_t took = time_monotonic_ms() - before;
            assert_int_equal(owner->how, way == SILENT ? STREAM_END_TIMEOUT : STREAM_END_TLS);
            assert_true(way == SILENT ? took >= 250 && took < 5000 : took < 300);
            assert_int_equal(owner->shook + owner->read, 0);
            if (way == GARBAGE) { /* the peer is told: an alert record */
                char record[2048];
                ssize_t n = recv(raw, record, sizeof record, 0);
                assert_true(n >= 7);
                assert_int_equal(record[n - 7], 21);
            }
            free_owner(owner);
            if (way != RESETS)
                close(raw);
        }
    }
}

/* cases O15: TLS ends in the middle of a body; nothing after that is looked at. */
static void the_end_of_tls_is_the_end(void **state)
{
    enum { CLOSE_NOTIFY, FIN, GARBAGE, WAYS };
    static const enum stream_end expected[WAYS] = {STREAM_END_EOF, STREAM_END_ERROR,
                                                   STREAM_END_TLS};
    (void)state;
    FOR_EACH_STEP(step)
    {
        for (int way = 0; way < WAYS; way++) {
            struct owner *owner = new_owner();
            struct raw_tls raw = shake_with_raw(owner, step);
            raw_write(&raw, "Subject: half a body\r\n");
            if (way == CLOSE_NOTIFY) {
                tls_session_close(raw.session);
                raw_flush(&raw);
                raw_send(raw.fd, "x");
            } else if (way == FIN) {
                shutdown(raw.fd, SHUT_WR);
            } else {
                raw_send(raw.fd, "\r\n.\r\nQUIT\r\n");
            }
            RUN_UNTIL(owner->ended == 1);
            assert_int_equal(owner->how, expected[way]);
            if (way != FIN)
                (void)send(raw.fd, "\r\n.\r\n", 5, MSG_NOSIGNAL);
            run_for(10);
            assert_true(has(owner, "Subject: half a body\r\n"));
            owner->stream == NULL ? (void)0 : stream_close(&owner->stream, true);
            RUN_UNTIL(stream_open_count() == 0); /* no wait for a FIN */
            free_owner(owner);
            free_raw(&raw);
        }
    }
}

/* A peer that ended its side of TLS still gets what is queued. */
static void answers_after_close_notify(void **state)
{
    (void)state;
    struct owner *owner = new_owner();
    struct raw_tls raw = shake_with_raw(owner, SIZE_MAX);
    owner->answer = "221 bye\r\n";
    owner->on_end = ACT_CLOSE_GRACEFULLY;
    raw_write(&raw, "QUIT\r\n");
    tls_session_close(raw.session);
    raw_flush(&raw);
    RUN_UNTIL(!raw_go_on(&raw));
    assert_true(has(owner, "QUIT\r\n"));
    assert_true(str_equal(buf_str(&raw.in), STR("221 bye\r\n")));
    RUN_UNTIL(stream_open_count() == 0);
    free_owner(owner);
    free_raw(&raw);
}

int main(void)
{
#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, start_loop, stop_loop)
    const struct CMUnitTest tests[] = {
        STREAM_TEST(starttls_both_ways),
        STREAM_TEST(many_handshakes_take_turns),
        STREAM_TEST(a_crowd_is_not_read_ahead),
        STREAM_TEST(implicit_tls_keeps_what_came_first),
        STREAM_TEST(carries_much_in_bounded_memory),
        STREAM_TEST(closes_inside_any_callback),
        STREAM_TEST(sees_a_stale_connection),
        STREAM_TEST(bytes_one_by_one_make_the_same_session),
        STREAM_TEST(drops_what_a_client_injects),
        STREAM_TEST(drops_what_a_server_injects),
        STREAM_TEST(drops_what_comes_before_the_go_ahead_is_out),
        STREAM_TEST(a_handshake_that_fails_always_ends),
        STREAM_TEST(the_end_of_tls_is_the_end),
        STREAM_TEST(answers_after_close_notify),
    };
    return cmocka_run_group_tests(tests, support_start_pki, support_stop_pki);
}
