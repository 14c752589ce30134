/* Accepting: what is answered OK is there, whole, also after closing and opening again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/queue_fixture.h"

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free((struct fixture **)state);
    return 0;
}

/* Bytes that differ from message to message and place to place. */
static char *make_body(uint64_t seed, size_t len)
{
    char *body = malloc(len + 1);
    assert_non_null(body);
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        body[i] = (char)(seed >> 33);
    }
    return body;
}

static void check_body(struct fixture *f, uint64_t id, const char *body, size_t len, size_t step)
{
    char *got = malloc(len + step + 1);
    assert_non_null(got);
    size_t at = 0;
    for (;;) {
        long part = queue_read_body(f->queue, id, at, got + at, step);
        assert_true(part >= 0);
        if (part == 0)
            break;
        at += (size_t)part;
        assert_true(at <= len);
    }
    assert_int_equal(at, len);
    assert_memory_equal(got, body, len);
    free(got);
}

static const size_t sizes[] = {0,      1,      100,    2000,    4075,   4076,  4077,
                               4400,   8160,   32768,  32769,   16364,  16365, 65536,
                               262143, 262144, 262145, 1000000, 6000001};

static void each_size_comes_back_whole(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[sizeof sizes / sizeof sizes[0]];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            char *body = make_body(i, sizes[i]);
            if (round == 0)
                assert_int_equal(fixture_accept(f, "a@x.example", body, sizes[i], &ids[i]), 0);
            check_body(f, ids[i], body, sizes[i], 262144);
            check_body(f, ids[i], body, sizes[i], sizes[i] < 10000 ? 7 : 4999);
            free(body);
        }
        fixture_reopen(f);
    }
    assert_int_equal(fixture_counts(f).messages, sizeof sizes / sizeof sizes[0]);
}

static void the_envelope_comes_back(void **state)
{
    struct fixture *f = *state;
    struct queue_recipient rcpts[] = {{.address = "a@x.example", .domain = "x.example"},
                                      {.address = "b@y.example", .domain = "y.example"},
                                      {.address = "\"c d\"@x.example", .domain = "x.example"}};
    struct queue_envelope envelope = {.sender = "",
                                      .recipients = rcpts,
                                      .recipient_count = 3,
                                      .flags = QUEUE_FLAG_8BIT | QUEUE_FLAG_BOUNCE,
                                      .header_bytes = 4,
                                      .body_hash = {1, 2, 3},
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000123};
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, "head", 4, NULL, NULL), 0);
    assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    fixture_reopen(f);

    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_string_equal(e->sender, "");
    assert_int_equal(e->flags, QUEUE_FLAG_8BIT | QUEUE_FLAG_BOUNCE);
    assert_int_equal(e->header_bytes, 4);
    assert_int_equal(e->body_bytes, 8);
    assert_memory_equal(e->body_hash, envelope.body_hash, 32);
    assert_int_equal(e->accepted_unix_ms, 1700000000123);
    assert_string_equal(e->prefix, "");
    assert_int_equal(e->unit_count, 2);
    assert_string_equal(e->units[0].domain, "x.example");
    assert_string_equal(e->units[1].domain, "y.example");
    assert_int_equal(e->units[0].due_unix_ms, 0);
    assert_false(e->units[0].done);
    assert_int_equal(e->recipient_count, 3);
    assert_string_equal(e->recipients[2].address, "\"c d\"@x.example");
    assert_string_equal(e->recipients[2].domain, "x.example");
    assert_int_equal(e->recipients[2].unit, 0);
    assert_int_equal(e->recipients[1].unit, 1);
    assert_int_equal(e->recipients[1].state, QUEUE_RCPT_WAITING);
    queue_message_free(&message);
    assert_int_equal(fixture_counts(f).units_fresh, 2);
}

static void accepting_announces_units_once(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t ids[4];
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example c@x.example", "hello", 5, &id), 0);
    fixture_settle(f);
    assert_int_equal(f->fresh_count, 2);
    assert_int_equal(f->fresh[0].id, id);
    assert_string_equal(f->fresh[0].domain, "x.example");
    assert_int_equal(f->fresh[1].unit, 1);
    assert_string_equal(f->fresh[1].domain, "y.example");
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 4), 1);
    assert_int_equal(ids[0], id);
    assert_int_equal(queue_read_fresh(f->queue, id + 1, ids, 4), 0);
}

/* Each is refused with LIMIT, and nothing of it stays. */
static void limits_are_kept(void **state)
{
    struct fixture *f = *state;
    static char long_domain[QUEUE_DOMAIN_MAX + 2];
    static char long_address[QUEUE_ADDRESS_MAX + 2];
    memset(long_domain, 'd', sizeof long_domain - 1);
    memset(long_address, 'a', sizeof long_address - 1);
    const struct {
        const char *sender;
        const char *address;
        const char *domain;
        size_t count;
        uint64_t header;
    } cases[] = {
        {"s", "a@b", "b", 0, 0},        {"s", "", "b", 1, 0},
        {"s", "a@b", "", 1, 0},         {"s", "a@b", long_domain, 1, 0},
        {"s", long_address, "b", 1, 0}, {long_address, "a@b", "b", 1, 0},
        {"s", "a@b", "b", 1, 5}, /* a header longer than the message */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct queue_recipient rcpt = {.address = cases[i].address, .domain = cases[i].domain};
        struct queue_envelope envelope = {.sender = cases[i].sender,
                                          .recipients = &rcpt,
                                          .recipient_count = cases[i].count,
                                          .header_bytes = cases[i].header,
                                          .sign_domain = ""};
        struct answer answer = {ANSWER_NONE, 0};
        struct queue_put *put = NULL;
        uint64_t id = 0;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
        queue_put_commit(put, &envelope, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), QUEUE_ERR_LIMIT);
    }
    struct queue_put *put = NULL;
    uint64_t id = 0;
    char *big = make_body(1, QUEUE_PIECE_MAX + 1);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, big, QUEUE_PIECE_MAX + 1, NULL, NULL), QUEUE_ERR_LIMIT);
    queue_put_abort(put);
    free(big);
    fixture_settle(f);
    assert_int_equal(fixture_counts(f).messages, 0);
    assert_int_equal(f->fresh_count, 0);
}

static void many_recipients_make_further_rows(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 1000, DOMAINS = 100 };
    static char addresses[COUNT][40];
    static struct queue_recipient rcpts[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "user%zu@d%zu.example", i, i % DOMAINS);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1};
    }
    struct queue_envelope envelope = {.sender = "s",
                                      .recipients = rcpts,
                                      .recipient_count = COUNT,
                                      .sign_domain = "",
                                      .accepted_unix_ms = 5};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    uint64_t id = 0;
    uint64_t small = 0;
    uint64_t ids[4];
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &small), 0);
    fixture_reopen(f);
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    const struct queue_envelope *e = queue_message_envelope(message);
    assert_int_equal(e->recipient_count, COUNT);
    assert_int_equal(e->unit_count, DOMAINS);
    for (size_t i = 0; i < COUNT; i++) {
        assert_string_equal(e->recipients[i].address, addresses[i]);
        assert_string_equal(e->recipients[i].domain, rcpts[i].domain);
    }
    queue_message_free(&message);
    assert_int_equal(queue_read_ids(f->queue, 0, ids, 4), 2); /* its further rows count once */
    assert_int_equal(ids[0], id);
    assert_int_equal(ids[1], small);
    assert_int_equal(fixture_counts(f).units_fresh, DOMAINS + 1);
}

struct stored {
    size_t bytes;
    int times;
};

static void on_stored(size_t len, void *ctx)
{
    struct stored *stored = ctx;
    stored->bytes += len;
    stored->times++;
}

/* Pieces leave memory before the commit; an abort leaves nothing behind. */
static void pieces_are_stored_before_the_end(void **state)
{
    struct fixture *f = *state;
    enum { PIECES = 40 };
    char *piece = make_body(7, QUEUE_PIECE_MAX);
    for (int commit = 0; commit < 2; commit++) {
        struct stored stored = {0, 0};
        struct queue_put *put = NULL;
        struct answer answer = {ANSWER_NONE, 0};
        struct fixture_envelope e;
        char space[512];
        uint64_t id = 0;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        for (int i = 0; i < PIECES; i++)
            assert_int_equal(queue_put_piece(put, piece, QUEUE_PIECE_MAX, on_stored, &stored), 0);
        assert_true(fixture_wait(f, &stored.times, PIECES));
        assert_int_equal(stored.bytes, (size_t)PIECES * QUEUE_PIECE_MAX);
        assert_int_equal(fixture_counts(f).messages, 0); /* not accepted yet */
        if (commit == 0) {
            queue_put_abort(put);
            for (int i = 0; i < 2500 && fixture_counts(f).file_bytes >= QUEUE_PIECE_MAX; i++)
                (void)usleep(2000); /* removed in steps */
            char byte;
            assert_int_equal(queue_read_body(f->queue, id, 0, &byte, 1), QUEUE_READ_GONE);
            assert_true(fixture_counts(f).file_bytes < QUEUE_PIECE_MAX);
            continue;
        }
        fixture_envelope(&e, "a@x.example", space);
        queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), 0);
        assert_int_equal(fixture_counts(f).bytes, (size_t)PIECES * QUEUE_PIECE_MAX);
        for (size_t i = 0; i < PIECES; i++) {
            char byte;
            assert_int_equal(queue_read_body(f->queue, id, i * QUEUE_PIECE_MAX + 5, &byte, 1), 1);
            assert_int_equal(byte, piece[5]);
        }
    }
    free(piece);
}

/* Without waiting in between: the commit waits behind more than one transaction of its own bytes.
 */
static void a_commit_right_behind_many_pieces(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    size_t len = 20u << 20;
    char *body = make_body(9, len);
    assert_int_equal(fixture_accept(f, "a@x.example", body, len, &id), 0);
    check_body(f, id, body, len, 262144);
    fixture_reopen(f);
    check_body(f, id, body, len, 100000);
    assert_int_equal(f->notice_count, 0); /* nothing was swept */
    free(body);
}

static void small_pieces_join_into_chunks(void **state)
{
    struct fixture *f = *state;
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    char *body = make_body(3, 20000);
    fixture_envelope(&e, "a@x.example", space);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    for (size_t i = 0; i < 20000; i++)
        assert_int_equal(queue_put_piece(put, body + i, 1, NULL, NULL), 0);
    queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    check_body(f, id, body, 20000, 20000);
    free(body);
}

static void a_closed_port_drops_answers(void **state)
{
    struct fixture *f = *state;
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    struct queue_message *message = NULL;
    fixture_envelope(&e, "a@x.example", space);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, "x", 1, NULL, NULL), 0);
    queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
    fixture_reopen(f); /* frees the port at once; closing commits what waits */
    assert_int_equal(answer.times, 0);
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    queue_message_free(&message);
}

static void ids_never_repeat(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;
    atomic_store(&fixture_wall_ms, 2000000000000);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 5; i++) {
            uint64_t id = 0;
            assert_int_equal(fixture_accept(f, "a@x.example", "x", 1, &id), 0);
            assert_true(id > last);
            last = id;
        }
        struct queue_put *put = NULL;
        uint64_t id = 0;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        queue_put_abort(put);
        assert_true(id > last);
        last = id; /* never accepted, but it may be in a log */
        fixture_reopen(f);
        atomic_fetch_sub(&fixture_wall_ms, 86400000);
    }
    assert_true(f->notice_count > 0); /* a clock a day behind is told */
}

static void full_is_told_and_passes(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[200];
    size_t count = 0;
    char *body = make_body(1, 100000);
    fixture_close(f);
    fixture_open_max(f, 4u << 20);
    while (count < 200 && fixture_accept(f, "a@x.example", body, 100000, &ids[count]) == 0)
        count++;
    assert_true(count > 20 && count < 50);
    assert_int_equal(fixture_accept(f, "a@x.example", body, 100000, &ids[count]), QUEUE_ERR_FULL);
    assert_true(queue_is_full(f->queue, 100000));
    assert_int_equal(fixture_counts(f).messages, count);
    for (size_t i = 0; i < count; i++) /* the reserve serves outcomes */
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_WAITING, 1), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_false(queue_is_full(f->queue, 100000));
    assert_int_equal(fixture_accept(f, "a@x.example", body, 100000, &ids[0]), 0);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_size_comes_back_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(the_envelope_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(accepting_announces_units_once, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(many_recipients_make_further_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_are_stored_before_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_right_behind_many_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(small_pieces_join_into_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_port_drops_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_never_repeat, setup, teardown),
        cmocka_unit_test_setup_teardown(full_is_told_and_passes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
