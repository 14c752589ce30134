/* The page, the look at all messages, health, and the listener's moves: a real queue, real loops,
 * and clients over loopback. The test's thread is the main thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"
#include "queue_fixture.h"

#define WAIT_MS  20000
#define STUCK_MS 1500

struct bed {
    struct fixture *fixture;
    uv_loop_t main_loop;
    struct loop **loops;
    struct metrics *metrics;
    pthread_mutex_t lock;
    struct metrics_parts parts; /* under the lock: read on the serving thread */
    struct config config;
    char address[64];
    char error[512];
};

static void read_parts(struct metrics_parts *out, void *ctx)
{
    struct bed *bed = ctx;
    pthread_mutex_lock(&bed->lock);
    *out = bed->parts;
    pthread_mutex_unlock(&bed->lock);
}

static void set_parts(struct bed *bed, const struct metrics_parts *parts)
{
    pthread_mutex_lock(&bed->lock);
    bed->parts = *parts;
    pthread_mutex_unlock(&bed->lock);
}

/* A port of 127.0.0.1 that nobody has just now. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* The configuration says 127.0.0.1 and this port; 0: off. */
static void configure(struct bed *bed, uint16_t port)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    memset(&bed->config, 0, sizeof bed->config);
    if (port == 0)
        return;
    bed->config.metrics.on = true;
    bed->config.metrics.address.address.prefix = 32;
    memcpy(bed->config.metrics.address.address.bytes, loopback, sizeof loopback);
    bed->config.metrics.address.port = port;
    (void)snprintf(bed->address, sizeof bed->address, "127.0.0.1:%u", port);
    bed->config.metrics.address.text = bed->address;
}

static void start(struct bed *bed, uint64_t max_bytes, uint16_t port)
{
    pthread_mutex_init(&bed->lock, NULL);
    bed->fixture = fixture_new();
    fixture_open_max(bed->fixture, max_bytes);
    assert_int_equal(uv_loop_init(&bed->main_loop), 0);
    assert_int_equal(loops_start(2, &bed->loops), 0);
    configure(bed, port);
    struct metrics_options options = {
        .queue = bed->fixture->queue,
        .main_loop = &bed->main_loop,
        .loops = bed->loops,
        .loop_count = 2,
        .hooks = {read_parts, bed},
        .state_dir = bed->fixture->folder,
        .queue_max_bytes = max_bytes,
        .stuck_ms = STUCK_MS,
    };
    assert_int_equal(metrics_new(&bed->config, &bed->metrics, bed->error, sizeof bed->error), 0);
    assert_int_equal(metrics_start(bed->metrics, &options, bed->error, sizeof bed->error), 0);
}

static int setup(void **state)
{
    struct bed *bed = mem_alloc(sizeof *bed);
    start(bed, UINT64_C(1) << 30, free_port());
    *state = bed;
    return 0;
}

static int setup_off(void **state)
{
    struct bed *bed = mem_alloc(sizeof *bed);
    start(bed, UINT64_C(1) << 30, 0);
    *state = bed;
    return 0;
}

static int setup_small(void **state)
{
    struct bed *bed = mem_alloc(sizeof *bed);
    start(bed, UINT64_C(1) << 20, free_port());
    *state = bed;
    return 0;
}

static int teardown(void **state)
{
    struct bed *bed = *state;
    metrics_stop(bed->metrics);
    loops_stop(&bed->loops, 2);
    uv_run(&bed->main_loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->main_loop), 0);
    metrics_free(&bed->metrics);
    fixture_free(&bed->fixture);
    pthread_mutex_destroy(&bed->lock);
    free(bed);
    return 0;
}

/* ---- a client ---- */

/* The whole answer; NULL: nobody listens at the port. Owned. */
static char *get(uint16_t port, const char *path)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char request[128], piece[16384];
    struct buf all;
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return NULL;
    }
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
    buf_init(&all, METRICS_PAGE_MAX);
    for (ssize_t got = recv(fd, piece, sizeof piece, 0); got > 0;
         got = recv(fd, piece, sizeof piece, 0))
        assert_true(buf_add(&all, piece, (size_t)got));
    close(fd);
    char *text = str_dup(buf_str(&all));
    buf_deinit(&all);
    return text;
}

/* Is the line in the page within the time? Turns the main loop meanwhile. */
static void await_line(struct bed *bed, uint16_t port, const char *path, const char *line)
{
    uint64_t until_ms = time_monotonic_ms() + WAIT_MS;
    for (;;) {
        char *page = get(port, path);
        bool found = page != NULL && strstr(page, line) != NULL;
        if (!found && time_monotonic_ms() > until_ms)
            fail_msg("no \"%s\" in:\n%s", line, page != NULL ? page : "nothing");
        free(page);
        if (found)
            return;
        uv_run(&bed->main_loop, UV_RUN_NOWAIT);
        usleep(20000);
    }
}

static uint16_t port_of(const struct bed *bed)
{
    return bed->config.metrics.address.port;
}

static void assert_page_has(const char *page, const char *line)
{
    char whole[256];
    (void)snprintf(whole, sizeof whole, "\n%s\n", line);
    if (strstr(page, whole) == NULL)
        fail_msg("no \"%s\" in:\n%s", line, page);
}

/* ---- tests ---- */

static void the_page_tells_what_is(void **state)
{
    static const char *const lines[] = {
        "mta_queue_messages 3",
        "mta_queue_units{state=\"queued\"} 2",
        "mta_queue_units{state=\"deferred\"} 1",
        "mta_queue_units{state=\"held\"} 1",
        "mta_queue_message_bytes 12",
        "mta_queue_max_bytes 1073741824",
        "mta_queue_readable 1",
        "mta_queue_full 0",
        "mta_queue_broken 0",
        "mta_queue_accepted_messages_total 3",
        "mta_queue_outcomes_total 1",
        "mta_queue_accept_duration_seconds_count 3",
        "mta_queue_accept_duration_seconds_bucket{le=\"+Inf\"} 3",
        "mta_queue_accept_duration_seconds_bucket{le=\"10\"} 3",
        "mta_submission_sessions 4",
        "mta_submission_messages_total 5",
        "mta_submission_rejects_total 6",
        "mta_submission_waiting_bytes 7",
        "mta_delivery_recipients_total{outcome=\"delivered\"} 8",
        "mta_delivery_recipients_total{outcome=\"deferred\"} 9",
        "mta_delivery_recipients_total{outcome=\"bounced\"} 10",
        "mta_delivery_recipients_total{outcome=\"expired\"} 11",
        "mta_delivery_connections 12",
        "mta_delivery_sites 13",
        "mta_delivery_units_in_memory 14",
        "mta_delivery_units_active 15",
        "mta_log_dropped_lines_total 16",
        "mta_config_last_reload_successful 1",
        "mta_config_last_reload_success_timestamp_seconds 1700000000.123",
        "mta_build_info{version=\"" MTA_VERSION "\"} 1",
        /* the look at all: a message counts once; all are as old as 2023 */
        "mta_queue_scan_messages{state=\"queued\",min_age=\"0\"} 1",
        "mta_queue_scan_messages{state=\"queued\",min_age=\"432000\"} 1",
        "mta_queue_scan_messages{state=\"deferred\",min_age=\"0\"} 1",
        "mta_queue_scan_messages{state=\"deferred\",min_age=\"3600\"} 1",
        "mta_queue_scan_messages{state=\"held\",min_age=\"86400\"} 1",
        "mta_queue_scan_oldest_timestamp_seconds{state=\"deferred\"} 1700000000.000",
    };
    struct bed *bed = *state;
    struct fixture *f = bed->fixture;
    uint64_t id = 0;
    const struct metrics_parts parts = {.sessions = 4,
                                        .accepted = 5,
                                        .rejected = 6,
                                        .bytes_waiting = 7,
                                        .delivered = 8,
                                        .deferred = 9,
                                        .bounced = 10,
                                        .expired = 11,
                                        .connections = 12,
                                        .sites_at_work = 13,
                                        .units = 14,
                                        .active = 15,
                                        .log_dropped = 16,
                                        .reloaded_unix_ms = 1700000000123};
    set_parts(bed, &parts);
    assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "body", 4, &id), 0);
    assert_int_equal(fixture_record(f, id, 1, 1, QUEUE_RCPT_WAITING, 1700000900000), 0);
    assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_HOLD), 0);
    await_line(bed, port_of(bed), "/metrics", "state=\"deferred\",min_age=\"0\"} 1\n");
    char *page = get(port_of(bed), "/metrics");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_page_has(page, lines[i]);
    assert_non_null(strstr(page, "mta_queue_oldest_message_age_seconds"));
    assert_null(strstr(page, "x.example"));
    free(page);
}

static void an_empty_queue(void **state)
{
    struct bed *bed = *state;
    await_line(bed, port_of(bed), "/metrics", "mta_queue_scan_timestamp_seconds");
    char *page = get(port_of(bed), "/metrics");
    assert_page_has(page, "mta_queue_messages 0");
    assert_page_has(page, "mta_queue_oldest_message_age_seconds 0.000");
    assert_page_has(page, "mta_queue_scan_messages{state=\"queued\",min_age=\"0\"} 0");
    assert_page_has(page, "mta_queue_scan_oldest_timestamp_seconds{state=\"held\"} 0.000");
    free(page);
}

static void hold_loop(struct loop *loop, void *arg)
{
    (void)loop;
    uv_sem_wait(arg);
}

static void stuck_loops_are_told(void **state)
{
    struct bed *bed = *state;
    uv_sem_t let_go;
    uv_sem_init(&let_go, 0);
    await_line(bed, port_of(bed), "/healthz", "HTTP/1.1 200 OK");
    assert_true(loop_post(bed->loops[1], hold_loop, &let_go));
    await_line(bed, port_of(bed), "/healthz", "a loop that carries mail is stuck");
    char *page = get(port_of(bed), "/metrics");
    assert_null(strstr(page, "mta_loop_lag_seconds{loop=\"1\"} 0."));
    assert_non_null(strstr(page, "mta_loop_lag_seconds{loop=\"0\"} 0."));
    free(page);
    uv_sem_post(&let_go);
    await_line(bed, port_of(bed), "/healthz", "{\"status\":\"ok\",\"reasons\":[]}\n");

    usleep((STUCK_MS + 2 * METRICS_BEAT_MS + 500) * 1000); /* the main loop does not turn */
    page = get(port_of(bed), "/healthz");
    assert_non_null(strstr(page, "HTTP/1.1 503 "));
    assert_non_null(strstr(page, "the main loop is stuck"));
    assert_null(strstr(page, "carries mail"));
    free(page);
    await_line(bed, port_of(bed), "/healthz", "HTTP/1.1 200 OK");
    uv_sem_destroy(&let_go);
}

static void stopping_is_told(void **state)
{
    struct bed *bed = *state;
    set_parts(bed, &(struct metrics_parts){.stopping = true, .reload_failed = true});
    await_line(bed, port_of(bed), "/healthz",
               "{\"status\":\"failing\",\"reasons\":[\"shutting down\"]}\n");
    await_line(bed, port_of(bed), "/metrics", "mta_config_last_reload_successful 0\n");
}

static void a_full_queue_is_told(void **state)
{
    static char body[64 * 1024];
    struct bed *bed = *state;
    uint64_t id = 0;
    int rc = 0;
    await_line(bed, port_of(bed), "/healthz", "HTTP/1.1 200 OK");
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = fixture_accept(bed->fixture, "a@x.example", body, sizeof body, &id);
    assert_int_equal(rc, QUEUE_ERR_FULL);
    await_line(bed, port_of(bed), "/healthz", "the queue is full");
    await_line(bed, port_of(bed), "/metrics", "mta_queue_full 1\n");
    await_line(bed, port_of(bed), "/metrics", "mta_queue_refused_full_total 1\n");
}

static int reload(struct bed *bed, uint16_t port, bool good)
{
    configure(bed, port);
    int rc = metrics_reload_begin(bed->metrics, &bed->config, bed->error, sizeof bed->error);
    metrics_reload_end(bed->metrics, rc == 0 && good);
    return rc;
}

/* Off, on, elsewhere, taken, off again: each time exactly the right address is served. */
static void the_listener_moves(void **state)
{
    struct bed *bed = *state;
    uint16_t first = free_port(), second = 0, taken = 0;
    assert_string_equal(metrics_address(bed->metrics), "");
    assert_null(get(first, "/metrics"));
    assert_int_equal(reload(bed, first, true), 0);
    await_line(bed, first, "/healthz", "HTTP/1.1 200 OK");
    assert_string_equal(metrics_address(bed->metrics), bed->address);
    assert_int_equal(reload(bed, first, true), 0); /* nothing changes */
    await_line(bed, first, "/healthz", "HTTP/1.1 200 OK");

    second = free_port();
    assert_int_equal(reload(bed, second, false), 0); /* another part of the daemon refused */
    assert_null(get(second, "/healthz"));
    await_line(bed, first, "/healthz", "HTTP/1.1 200 OK");
    assert_int_equal(reload(bed, second, true), 0);
    await_line(bed, second, "/healthz", "HTTP/1.1 200 OK");
    assert_null(get(first, "/healthz"));

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(holder, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(holder, 1), 0);
    assert_int_equal(getsockname(holder, (struct sockaddr *)&address, &len), 0);
    taken = ntohs(address.sin_port);
    assert_int_equal(reload(bed, taken, true), -1);
    assert_non_null(strstr(bed->error, "metrics.address: cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(bed->error, "(another program holds this port)"));
    await_line(bed, second, "/healthz", "HTTP/1.1 200 OK");
    close(holder);

    configure(bed, second);
    memset(bed->config.metrics.address.address.bytes, 0, 4); /* the same port, every address */
    assert_int_equal(
        metrics_reload_begin(bed->metrics, &bed->config, bed->error, sizeof bed->error), -1);
    assert_non_null(strstr(bed->error, "a restart moves it"));
    metrics_reload_end(bed->metrics, false);

    assert_int_equal(reload(bed, 0, true), 0);
    for (int i = 0; i < 200; i++) {
        char *page = get(second, "/healthz");
        if (page == NULL)
            break;
        free(page);
        usleep(10000);
    }
    assert_null(get(second, "/healthz"));
    assert_string_equal(metrics_address(bed->metrics), "");
}

/* Moves faster than the serving thread can follow leave no socket behind. */
static void many_moves(void **state)
{
    struct bed *bed = *state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(reload(bed, i % 5 == 4 ? 0 : free_port(), i % 3 != 2), 0);
    uint16_t last = free_port();
    assert_int_equal(reload(bed, last, true), 0);
    await_line(bed, last, "/healthz", "HTTP/1.1 200 OK");
}

/* Clients that hold on do not hold up the end (the teardown). */
static void the_end_with_clients(void **state)
{
    struct bed *bed = *state;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port_of(bed)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int i = 0; i < 5; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(send(fd, "GET /me", 7, MSG_NOSIGNAL), 7);
    }
    await_line(bed, port_of(bed), "/healthz", "HTTP/1.1 200 OK");
    uint64_t began_ms = time_monotonic_ms();
    metrics_stop(bed->metrics);
    assert_true(time_monotonic_ms() - began_ms < 2000);
}

static void a_port_in_use_is_a_start_error(void **state)
{
    struct bed *bed = *state;
    struct metrics *second = NULL;
    assert_int_equal(metrics_new(&bed->config, &second, bed->error, sizeof bed->error), -1);
    assert_null(second);
    assert_non_null(strstr(bed->error, "Address already in use (another program holds this port)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_page_tells_what_is, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(stuck_loops_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(stopping_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_is_told, setup_small, teardown),
        cmocka_unit_test_setup_teardown(the_listener_moves, setup_off, teardown),
        cmocka_unit_test_setup_teardown(many_moves, setup_off, teardown),
        cmocka_unit_test_setup_teardown(the_end_with_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_a_start_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
