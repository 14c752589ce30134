/* tests/unit/test_net_stream.c - streams in clear, against raw sockets on loopback. */
#include "test_net_support.h"

#include <sys/resource.h>

#define BIG ((size_t)12 << 20)

static void talks_both_ways(void **state)
{
    (void)state;
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        struct owner *owner = new_owner();
        struct buf in;
        buf_init(&in, 1000);
        int raw = connect_to_raw(owner);
        stream_write(owner->stream, "EHLO ", 5);
        stream_write(owner->stream, "x\r\n", 3);
        assert_int_equal(stream_pending(owner->stream), 8);
        RUN_UNTIL(raw_take(raw, &in) && buf_len(&in) >= 8);
        assert_true(str_equal(buf_str(&in), STR("EHLO x\r\n")));
        assert_int_equal(owner->drained, 1);
        assert_int_equal(stream_written_total(owner->stream), 8);

        const char reply[] = "250-mx\r\n250 PIPELINING\r\n";
        if (bytewise) {
            for (size_t i = 0; reply[i] != '\0'; i++) {
                raw_send(raw, (const char[]){reply[i], '\0'});
                RUN_UNTIL(buf_len(&owner->in) == i + 1);
            }
        } else {
            raw_send(raw, reply);
        }
        RUN_UNTIL(has(owner, reply));
        close(raw);
        RUN_UNTIL(owner->ended == 1);
        assert_int_equal(owner->how, STREAM_END_EOF);
        assert_int_equal(stream_open_count(), 1);
        free_owner(owner);
        buf_deinit(&in);
        RUN_UNTIL(stream_open_count() == 0);
    }
}

/* The owner is gone at once, the socket when the peer has ended its side too. */
static void counts_open_sockets(void **state)
{
    (void)state;
    for (int graceful = 0; graceful < 2; graceful++) {
        struct owner *owner = new_owner();
        atomic_size_t count = 7;
        int raw = connect_to_raw(owner);
        stream_count(owner->stream, &count);
        stream_close(&owner->stream, graceful);
        run_for(20);
        assert_int_equal(count, graceful ? 7 : 6);
        close(raw);
        RUN_UNTIL(stream_open_count() == 0);
        assert_int_equal(count, 6);
        free_owner(owner);
    }
}

static void says_why_it_cannot_connect(void **state)
{
    (void)state;
    /* Refused: nobody listens any more. */
    struct owner *owner = new_owner();
    struct sockaddr_in address;
    close(listen_on_loopback(&address));
    owner->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 5000, &notes, owner);
    stream_write(owner->stream, "x", 1);
    assert_int_equal(owner->ended, 0);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_ERROR);
    assert_string_equal(owner->text, "connection refused");
    free_owner(owner);

    /* A source address that is not ours fails at once, and says so on a later turn. */
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("192.0.2.1")};
    owner = new_owner();
    owner->stream = stream_connect(&loop, (const struct sockaddr *)&address,
                                   (const struct sockaddr *)&source, 5000, &notes, owner);
    assert_int_equal(owner->ended, 0);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_ERROR);
    assert_string_equal(owner->text, "address not available");
    free_owner(owner);

    /* No descriptor is left: that says nothing of the peer. */
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    owner = new_owner();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    owner->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 5000, &notes, owner);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_SHORTAGE);
    assert_string_equal(owner->text, "too many open files");
    free_owner(owner);

    /* Closed before it was told. */
    owner = new_owner();
    owner->stream = stream_connect(&loop, (const struct sockaddr *)&address,
                                   (const struct sockaddr *)&source, 5000, &notes, owner);
    stream_close(&owner->stream, true);
    run_for(20);
    assert_int_equal(owner->ended, 0);
    free_owner(owner);
}

/* A listener whose queue is full lets the kernel drop what else comes. */
static void gives_up_connecting_in_time(void **state)
{
    struct sockaddr_in address;
    int fillers[8];
    (void)state;
    int listener = listen_on_loopback(&address);
    assert_int_equal(listen(listener, 0), 0);
    for (size_t i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (const struct sockaddr *)&address, sizeof address);
    }
    struct owner *owner = new_owner();
    uint64_t before = time_monotonic_ms();
    owner->stream =
        stream_connect(&loop, (const struct sockaddr *)&address, NULL, 300, &notes, owner);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_TIMEOUT);
    uint64_t took = time_monotonic_ms() - before;
    assert_true(took >= 250 && took < 5000);
    free_owner(owner);
    for (size_t i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
}

static void connects_from_a_source_address(void **state)
{
    struct sockaddr_in address;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("127.0.0.7")};
    char text[64];
    uint16_t port;
    (void)state;
    int listener = listen_on_loopback(&address);
    struct owner *owner = new_owner();
    owner->stream = stream_connect(&loop, (const struct sockaddr *)&address,
                                   (const struct sockaddr *)&source, 5000, &notes, owner);
    RUN_UNTIL(owner->opened == 1);
    stream_local(owner->stream, text, sizeof text, &port);
    assert_string_equal(text, "127.0.0.7");
    assert_true(port > 0);
    stream_peer(owner->stream, text, sizeof text, &port);
    assert_string_equal(text, "127.0.0.1");
    assert_int_equal(port, ntohs(address.sin_port));
    free_owner(owner);
    close(listener);
}

static void knows_both_addresses(void **state)
{
    static const struct {
        const char *listen_on, *connect_to, *peer;
        bool ipv6;
        uint8_t first, last;
    } cases[] = {
        {"::1", "::1", "::1", true, 0, 1},
        {"::", "127.0.0.1", "127.0.0.1", false, 127, 1}, /* an IPv4 peer of a dual-stack socket */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6};
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        socklen_t len = sizeof address;
        uint8_t bytes[16];
        char text[64];
        uint16_t port;
        int listener = socket(AF_INET6, SOCK_STREAM, 0);
        inet_pton(AF_INET6, cases[i].listen_on, &address.sin6_addr);
        if (listener < 0 || bind(listener, (const struct sockaddr *)&address, len) < 0)
            skip(); /* a kernel without IPv6 */
        listen(listener, 1);
        getsockname(listener, (struct sockaddr *)&address, &len);
        int raw = socket(cases[i].ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        v4.sin_port = address.sin6_port;
        v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(cases[i].ipv6
                             ? connect(raw, (const struct sockaddr *)&address, sizeof address)
                             : connect(raw, (const struct sockaddr *)&v4, sizeof v4),
                         0);
        struct owner *owner = new_owner();
        owner->stream = stream_accept_fd(&loop, accept(listener, NULL, NULL), &notes, owner);
        stream_peer(owner->stream, text, sizeof text, &port);
        assert_string_equal(text, cases[i].peer);
        stream_local(owner->stream, text, sizeof text, &port);
        assert_string_equal(text, cases[i].peer);
        assert_int_equal(port, ntohs(address.sin6_port));
        assert_int_equal(stream_peer_bytes(owner->stream, bytes), cases[i].ipv6);
        assert_int_equal(bytes[0], cases[i].first);
        assert_int_equal(bytes[cases[i].ipv6 ? 15 : 3], cases[i].last);
        free_owner(owner);
        close(raw);
        close(listener);
    }
    assert_null(stream_accept_fd(&loop, -1, &notes, NULL));
}

static void a_turn_is_one_write(void **state)
{
    char bytes[1000];
    int fds[2];
    (void)state;
    /* A socket that keeps writes apart. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    struct owner *owner = new_owner();
    owner->stream = stream_accept_fd(&loop, fds[0], &notes, owner);
    for (int i = 0; i < 20; i++)
        stream_write(owner->stream, "RCPT TO:<a@b>\r\n", 15);
    RUN_UNTIL(owner->drained == 1);
    assert_int_equal(recv(fds[1], bytes, sizeof bytes, 0), 300);
    assert_int_equal(recv(fds[1], bytes, sizeof bytes, 0), -1);
    free_owner(owner);
    close(fds[1]);
}

static void write_from_timer(uv_timer_t *timer)
{
    struct owner *owner = timer->data;
    stream_write(owner->stream, "late", 4);
    uv_close((uv_handle_t *)timer, NULL);
}

static void give_up(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, NULL);
}

/* What a timer queued goes out before the loop sleeps. */
static void a_timer_writes_without_delay(void **state)
{
    static uv_timer_t timer; /* closes after the test has returned */
    static uv_timer_t guard;
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    uv_timer_init(&loop, &timer);
    uv_timer_init(&loop, &guard);
    timer.data = owner;
    uv_timer_start(&timer, write_from_timer, 10, 0);
    uv_timer_start(&guard, give_up, 3000, 0);
    uint64_t before = time_monotonic_ms();
    while (owner->drained == 0)
        (void)uv_run(&loop, UV_RUN_ONCE); /* sleeps if it may */
    assert_true(time_monotonic_ms() - before < 2000);
    uv_close((uv_handle_t *)&guard, NULL);
    free_owner(owner);
    close(raw);
}

static void keeps_what_the_peer_does_not_take(void **state)
{
    char *pattern = make_pattern(BIG);
    struct buf in;
    (void)state;
    buf_init(&in, BIG);
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    for (size_t at = 0; at < BIG; at += BIG / 64)
        stream_write(owner->stream, pattern + at, BIG / 64);
    run_for(100);
    assert_int_equal(owner->drained, 0);
    assert_true(stream_pending(owner->stream) > 0);
    assert_int_equal(stream_pending(owner->stream) + stream_written_total(owner->stream), BIG);
    uint64_t taken = stream_written_total(owner->stream);
    assert_true(taken > 0);
    char some[65536];
    for (int i = 0; i < 80; i++) { /* progress shows before all is out */
        ssize_t n = recv(raw, some, sizeof some, 0);
        if (n > 0)
            assert_true(buf_add(&in, some, (size_t)n));
        run_for(1);
    }
    assert_true(stream_written_total(owner->stream) > taken);
    RUN_UNTIL(raw_take(raw, &in) && buf_len(&in) >= BIG && owner->drained > 0);
    assert_int_equal(owner->drained, 1);
    assert_int_equal(stream_written_total(owner->stream), BIG);
    assert_memory_equal(buf_str(&in).p, pattern, BIG);
    free_owner(owner);
    buf_deinit(&in);
    free(pattern);
    close(raw);
}

static void a_pause_holds_at_once(void **state)
{
    char *pattern = make_pattern((size_t)1 << 20);
    size_t sent = 0;
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    owner->on_bytes = ACT_PAUSE;
    while (sent < (size_t)1 << 20) {
        ssize_t n = send(raw, pattern + sent, ((size_t)1 << 20) - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        run_for(2);
        if (n < 0)
            break;
    }
    assert_int_equal(owner->read, 1); /* although many buffers full were there */
    unsigned reads = 1;
    while (buf_len(&owner->in) < sent) {
        stream_resume(owner->stream);
        reads++;
        RUN_UNTIL(owner->read == reads);
        run_for(3);
        assert_int_equal(owner->read, reads);
    }
    assert_memory_equal(buf_str(&owner->in).p, pattern, sent);

    /* Pause and resume within a turn change nothing. */
    owner->on_bytes = ACT_NOTHING;
    stream_resume(owner->stream);
    stream_pause(owner->stream);
    stream_resume(owner->stream);
    raw_send(raw, "more");
    RUN_UNTIL(buf_len(&owner->in) == sent + 4);
    free_owner(owner);
    free(pattern);
    close(raw);
}

/* Whatever callback it comes from: no further callback, no memory left. */
static void closes_inside_any_callback(void **state)
{
    (void)state;
    for (enum act how = ACT_CLOSE; how <= ACT_CLOSE_GRACEFULLY; how++) {
        for (int place = 0; place < 4; place++) {
            struct owner *owner = new_owner();
            owner->on_open = place == 0 ? how : ACT_NOTHING;
            owner->on_bytes = place == 1 ? how : ACT_NOTHING;
            owner->on_drain = place == 2 ? how : ACT_NOTHING;
            owner->on_end = place == 3 ? how : ACT_NOTHING;
            int raw = connect_to_raw(owner);
            if (place > 0)
                stream_write(owner->stream, "x", 1);
            raw_send(raw, "220 hello\r\n");
            if (place == 3)
                shutdown(raw, SHUT_WR);
            RUN_UNTIL(owner->stream == NULL);
            unsigned events = owner->read + owner->drained + owner->ended;
            shutdown(raw, SHUT_WR);
            RUN_UNTIL(stream_open_count() == 0);
            assert_int_equal(owner->read + owner->drained + owner->ended, events);
            free_owner(owner);
            close(raw);
        }
    }
}

static void a_graceful_close_sends_all(void **state)
{
    char *pattern = make_pattern(BIG);
    struct buf in;
    (void)state;
    buf_init(&in, BIG);
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    stream_pause(owner->stream);
    stream_write(owner->stream, pattern, BIG);
    stream_close(&owner->stream, true);
    assert_null(owner->stream);
    raw_send(raw, "QUIT\r\n"); /* is thrown away */
    RUN_UNTIL(!raw_take(raw, &in));
    assert_int_equal(buf_len(&in), BIG);
    assert_memory_equal(buf_str(&in).p, pattern, BIG);
    run_for(50);
    assert_int_equal(stream_open_count(), 1); /* waits for the peer's FIN */
    uint64_t before = time_monotonic_ms();
    close(raw);
    RUN_UNTIL(stream_open_count() == 0);
    assert_true(time_monotonic_ms() - before < 1000);
    assert_int_equal(owner->read + owner->drained + owner->ended, 0);
    free_owner(owner);
    buf_deinit(&in);
    free(pattern);
}

static void a_silent_peer_holds_a_close_for_five_seconds(void **state)
{
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    uint64_t before = time_monotonic_ms();
    stream_write(owner->stream, "221 bye\r\n", 9);
    stream_close(&owner->stream, true);
    RUN_UNTIL(stream_open_count() == 0);
    uint64_t took = time_monotonic_ms() - before;
    assert_true(took >= 4900 && took < 9000);
    free_owner(owner);
    close(raw);
}

static void a_hard_close_does_not_wait(void **state)
{
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    char *pattern = make_pattern(BIG);
    stream_write(owner->stream, pattern, BIG);
    run_for(20); /* part of it is with libuv */
    stream_close(&owner->stream, false);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(stream_open_count(), 0);
    stream_close(&owner->stream, false); /* NULL */
    free_owner(owner);
    free(pattern);
    close(raw);
}

static void answers_a_peer_that_only_listens_any_more(void **state)
{
    struct buf in;
    (void)state;
    buf_init(&in, 100);
    struct owner *owner = new_owner();
    owner->answer = "221 bye\r\n";
    owner->on_end = ACT_CLOSE_GRACEFULLY;
    int raw = accept_from_raw(owner);
    raw_send(raw, "QUIT\r\n");
    shutdown(raw, SHUT_WR);
    RUN_UNTIL(!raw_take(raw, &in));
    assert_true(has(owner, "QUIT\r\n"));
    assert_int_equal(owner->how, STREAM_END_EOF);
    assert_true(str_equal(buf_str(&in), STR("221 bye\r\n")));
    RUN_UNTIL(stream_open_count() == 0); /* both ends are done: no wait */
    free_owner(owner);
    buf_deinit(&in);
    close(raw);
}

/* cases O17: the reason is in the socket although our write already fails. */
static void hears_last_words_after_a_failed_write(void **state)
{
    const struct linger reset = {1, 0};
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    run_for(5);
    raw_send(raw, "421 too busy\r\n");
    setsockopt(raw, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(raw);
    for (int i = 0; i < 3; i++)
        stream_write(owner->stream, "MAIL FROM:<>\r\n", 14);
    RUN_UNTIL(owner->ended == 1);
    assert_true(has(owner, "421 too busy\r\n"));
    assert_int_equal(owner->how, STREAM_END_ERROR);
    stream_write(owner->stream, "x", 1); /* goes nowhere, harms nothing */
    run_for(5);
    free_owner(owner);

    /* Paused, it cannot hear: the failed write ends it. */
    owner = new_owner();
    raw = accept_from_raw(owner);
    stream_pause(owner->stream);
    run_for(5);
    setsockopt(raw, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(raw);
    stream_write(owner->stream, "x", 1);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_ERROR);
    free_owner(owner);
}

static void a_reset_is_an_error(void **state)
{
    const struct linger reset = {1, 0};
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    setsockopt(raw, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(raw);
    RUN_UNTIL(owner->ended == 1);
    assert_int_equal(owner->how, STREAM_END_ERROR);
    assert_string_equal(owner->text, "connection reset by peer");
    free_owner(owner);
}

static void sees_a_stale_connection(void **state)
{
    (void)state;
    struct owner *owner = new_owner();
    int raw = accept_from_raw(owner);
    run_for(5);
    assert_false(stream_is_stale(owner->stream));
    raw_send(raw, "421 bye\r\n");
    usleep(10000);
    assert_true(stream_is_stale(owner->stream));
    RUN_UNTIL(has(owner, "421 bye\r\n")); /* a look takes nothing away */
    assert_false(stream_is_stale(owner->stream));
    shutdown(raw, SHUT_WR);
    usleep(10000);
    assert_true(stream_is_stale(owner->stream));
    RUN_UNTIL(owner->ended == 1);
    assert_true(stream_is_stale(owner->stream));
    free_owner(owner);
    close(raw);
}

int main(void)
{
#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, start_loop, stop_loop)
    const struct CMUnitTest tests[] = {
        STREAM_TEST(talks_both_ways),
        STREAM_TEST(counts_open_sockets),
        STREAM_TEST(says_why_it_cannot_connect),
        STREAM_TEST(gives_up_connecting_in_time),
        STREAM_TEST(connects_from_a_source_address),
        STREAM_TEST(knows_both_addresses),
        STREAM_TEST(a_turn_is_one_write),
        STREAM_TEST(a_timer_writes_without_delay),
        STREAM_TEST(keeps_what_the_peer_does_not_take),
        STREAM_TEST(a_pause_holds_at_once),
        STREAM_TEST(closes_inside_any_callback),
        STREAM_TEST(a_graceful_close_sends_all),
        STREAM_TEST(a_silent_peer_holds_a_close_for_five_seconds),
        STREAM_TEST(a_hard_close_does_not_wait),
        STREAM_TEST(answers_a_peer_that_only_listens_any_more),
        STREAM_TEST(hears_last_words_after_a_failed_write),
        STREAM_TEST(a_reset_is_an_error),
        STREAM_TEST(sees_a_stale_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
