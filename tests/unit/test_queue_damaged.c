/* One bad entry stops nothing: it is set aside, told once, kept, shown, and can be deleted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lmdb.h>

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

/* ---- the store behind the queue's back, while it is closed ---- */

typedef void (*meddle_fn)(MDB_txn *txn, MDB_dbi dbi, uint64_t id);

static void id_key(uint8_t bytes[8], uint64_t id)
{
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(id >> (56 - 8 * i));
}

static void meddle(struct fixture *f, const char *database, meddle_fn fn, uint64_t id)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    queue_port_free(&f->port);
    queue_close(&f->queue);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 20), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 1u << 30), 0);
    assert_int_equal(mdb_env_open(env, f->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, 0, &dbi), 0);
    fn(txn, dbi, id);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    fixture_open(f);
}

static void put_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id, const void *bytes, size_t len)
{
    uint8_t k[8];
    id_key(k, id);
    MDB_val key = {sizeof k, k};
    MDB_val value = {len, (void *)bytes};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
}

/* A copy of the row, one byte longer than it is. */
static uint8_t *get_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id, size_t *len_out)
{
    uint8_t k[8];
    id_key(k, id);
    MDB_val key = {sizeof k, k};
    MDB_val value;
    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    uint8_t *copy = malloc(value.mv_size + 1);
    assert_non_null(copy);
    memcpy(copy, value.mv_data, value.mv_size);
    copy[value.mv_size] = 0;
    *len_out = value.mv_size;
    return copy;
}

static void make_empty(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    put_row(txn, dbi, id, "", 0);
}

static void cut_short(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    size_t len = 0;
    uint8_t *row = get_row(txn, dbi, id, &len);
    put_row(txn, dbi, id, row, len / 2);
    free(row);
}

static void change_version(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    size_t len = 0;
    uint8_t *row = get_row(txn, dbi, id, &len);
    row[0] = 99;
    put_row(txn, dbi, id, row, len);
    free(row);
}

static void change_checksum(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    size_t len = 0;
    uint8_t *row = get_row(txn, dbi, id, &len);
    row[4] = (uint8_t)(row[4] + 1);
    put_row(txn, dbi, id, row, len);
    free(row);
}

static void make_lengths_huge(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    size_t len = 0;
    uint8_t *row = get_row(txn, dbi, id, &len);
    memset(row + 8, 0xff, len - 8);
    put_row(txn, dbi, id, row, len);
    free(row);
}

static void make_one_byte(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    put_row(txn, dbi, id, "\1", 1);
}

static void add_a_byte(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    size_t len = 0;
    uint8_t *row = get_row(txn, dbi, id, &len);
    put_row(txn, dbi, id, row, len + 1);
    free(row);
}

static const struct {
    const char *reason; /* a part of it */
    meddle_fn meddle;
} cases[] = {
    {"empty", make_empty},         {"checksum", cut_short},         {"version", change_version},
    {"checksum", change_checksum}, {"checksum", make_lengths_huge}, {"cut short", make_one_byte},
    {"checksum", add_a_byte},
};
#define CASES (sizeof cases / sizeof cases[0])

struct found {
    size_t count;
    uint64_t ids[CASES];
    char reasons[CASES][128];
    size_t bytes[CASES];
};

static bool add_found(const struct queue_damaged *damaged, void *ctx)
{
    struct found *found = ctx;
    assert_true(found->count < CASES);
    found->ids[found->count] = damaged->id;
    found->bytes[found->count] = damaged->bytes;
    (void)snprintf(found->reasons[found->count++], 128, "%s", damaged->reason);
    return true;
}

static bool count_due(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    (void)due;
    (void)id;
    (void)unit;
    (*(int *)ctx)++;
    return true;
}

static bool count_next(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    (void)lane;
    (void)due;
    (void)domain;
    (*(int *)ctx)++;
    return true;
}

static int dues(struct fixture *f, const char *domain)
{
    int count = 0;
    assert_int_equal(fixture_read_due(f, domain, INT64_MAX, count_due, &count), 0);
    return count;
}

static int nexts(struct fixture *f)
{
    int count = 0;
    assert_int_equal(fixture_read_next(f, INT64_MAX, count_next, &count), 0);
    return count;
}

/* Wait until so many are set aside. */
static void await_damaged(struct fixture *f, uint64_t want)
{
    for (int i = 0; i < 1000 && fixture_counts(f).damaged < want; i++) {
        fixture_settle(f);
        usleep(2000);
    }
    assert_int_equal(fixture_counts(f).damaged, want);
}

static void check_listing(struct fixture *f, const uint64_t *ids)
{
    struct found found = {.count = 0};
    assert_int_equal(queue_read_damaged(f->queue, add_found, &found), 0);
    assert_int_equal(found.count, CASES);
    for (size_t i = 0; i < CASES; i++) {
        assert_int_equal(found.ids[i], ids[i]);
        assert_non_null(strstr(found.reasons[i], cases[i].reason));
    }
    assert_int_equal(found.bytes[0], 0);
    assert_true(found.bytes[1] > 50);
}

/* One good message between bad ones, all deferred; the bad ones are met by a reader. */
static void each_kind_is_set_aside(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[CASES];
    uint64_t good = 0;
    for (size_t i = 0; i < CASES; i++) {
        assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "body", 4, &ids[i]), 0);
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_WAITING, 100), 0);
        if (i == CASES / 2)
            assert_int_equal(fixture_accept(f, "c@x.example", "good", 4, &good), 0);
    }
    assert_int_equal(fixture_record(f, good, 0, 0, QUEUE_RCPT_WAITING, 100), 0);
    for (size_t i = 0; i < CASES; i++)
        meddle(f, "message", cases[i].meddle, ids[i]);

    for (size_t i = 0; i < CASES; i++) {
        struct queue_message *message = NULL;
        assert_int_equal(queue_read_message(f->queue, ids[i], &message), QUEUE_ERR_DAMAGED);
        assert_null(message);
    }
    await_damaged(f, CASES);
    for (size_t i = 0; i < CASES; i++) { /* and it stays so, without being told again */
        struct queue_message *message = NULL;
        char byte;
        assert_int_equal(queue_read_message(f->queue, ids[i], &message), QUEUE_ERR_DAMAGED);
        assert_int_equal(queue_read_body(f->queue, ids[i], 0, &byte, 1), QUEUE_ERR_DAMAGED);
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    }
    fixture_settle(f);
    assert_int_equal(f->notice_count, CASES);
    check_listing(f, ids);

    /* their rows lead nobody on: only the good one is due */
    (void)dues(f, "x.example");
    fixture_settle(f);
    usleep(20000);
    fixture_settle(f);
    assert_int_equal(dues(f, "x.example"), 1);
    assert_int_equal(nexts(f), 1);
    uint64_t all[CASES + 2];
    assert_int_equal(queue_read_fresh(f->queue, 0, all, CASES + 2), 0);
    assert_int_equal(queue_read_ids(f->queue, 0, all, CASES + 2), CASES + 1);
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages, 1);
    assert_int_equal(counts.units_fresh, 0);
    assert_int_equal(counts.units_deferred, 1);
    assert_int_equal(counts.bytes, 4);
    assert_int_equal(fixture_record(f, good, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_int_equal(nexts(f), 0);

    /* kept over a restart, until an admin deletes it */
    fixture_reopen(f);
    assert_int_equal(fixture_counts(f).damaged, CASES);
    for (size_t i = 0; i < CASES; i++)
        assert_int_equal(fixture_admin(f, ids[i], QUEUE_VERB_DELETE), 0);
    assert_int_equal(fixture_counts(f).damaged, 0);
    assert_int_equal(queue_read_ids(f->queue, 0, all, CASES + 2), 0);
}

/* The writer meets it first. */
static void an_outcome_sets_it_aside_too(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[3];
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "body", 4, &ids[i]), 0);
        meddle(f, "message", change_checksum, ids[i]);
    }
    assert_int_equal(fixture_record(f, ids[0], 0, 0, QUEUE_RCPT_WAITING, 5), QUEUE_ERR_DAMAGED);
    assert_int_equal(fixture_counts(f).damaged, 1);
    assert_int_equal(fixture_admin(f, ids[1], QUEUE_VERB_RETRY), QUEUE_ERR_DAMAGED);
    assert_int_equal(fixture_counts(f).damaged, 2);
    assert_int_equal(fixture_admin(f, ids[2], QUEUE_VERB_DELETE), 0);
    assert_int_equal(fixture_counts(f).damaged, 2);
    assert_int_equal(fixture_counts(f).messages, 0);
    assert_int_equal(fixture_counts(f).units_fresh, 0);
}

static void drop_second_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    uint8_t k[16] = {0};
    MDB_cursor *cursor = NULL;
    id_key(k, id);
    MDB_val key = {sizeof k, k};
    MDB_val value;
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_SET), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    assert_int_equal(mdb_cursor_del(cursor, 0), 0);
    mdb_cursor_close(cursor);
}

/* A body with a hole is never handed out as if it were the whole message. */
static void missing_bytes_are_seen(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    static char body[100000];
    static char got[100000];
    assert_int_equal(fixture_accept(f, "a@x.example", body, sizeof body, &id), 0);
    meddle(f, "body", drop_second_row, id);
    assert_int_equal(queue_read_body(f->queue, id, 0, got, 4000), 4000);
    assert_int_equal(queue_read_body(f->queue, id, 4000, got, 10000), QUEUE_ERR_DAMAGED);
    await_damaged(f, 1);
    struct found found = {.count = 0};
    assert_int_equal(queue_read_damaged(f->queue, add_found, &found), 0);
    assert_int_equal(found.count, 1);
    assert_non_null(strstr(found.reasons[0], "missing"));
    assert_true(found.bytes[0] > 50);             /* its record is kept */
    assert_int_equal(fixture_counts(f).bytes, 0); /* not only those that are left of it */
}

/* Its record can still be read, so that it leaves the order of work and the counters at once. */
static void damaged_bytes_leave_nothing_behind(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[2];
    static char body[100000];
    char got;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body, sizeof body, &ids[i]),
                         0);
        meddle(f, "body", drop_second_row, ids[i]);
    }
    assert_int_equal(fixture_admin(f, ids[0], QUEUE_VERB_HOLD), 0);
    assert_int_equal(fixture_record(f, ids[1], 0, 0, QUEUE_RCPT_WAITING, 100), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(queue_read_body(f->queue, ids[i], sizeof body - 1, &got, 1), 1);
        assert_int_equal(queue_read_body(f->queue, ids[i], 4100, &got, 1), QUEUE_ERR_DAMAGED);
    }
    await_damaged(f, 2);
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.units_held, 0);
    assert_int_equal(counts.units_deferred, 0);
    assert_int_equal(counts.units_fresh, 0);
    assert_int_equal(counts.bytes, 0);
    assert_int_equal(nexts(f), 0);
}

static void flip_last_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    static uint8_t copy[1 << 16];
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    (void)id; /* it is the only message */
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_LAST), 0);
    assert_true(value.mv_size <= sizeof copy);
    memcpy(copy, value.mv_data, value.mv_size);
    copy[5] ^= 4;
    value.mv_data = copy;
    assert_int_equal(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    mdb_cursor_close(cursor);
}

/* Far back in a large message, which is looked at in steps. */
static void a_flipped_bit_in_a_large_body_is_seen(void **state)
{
    enum { LARGE = 40 << 20 };
    struct fixture *f = *state;
    uint64_t id = 0;
    char got[4];
    char *body = calloc(1, LARGE);
    assert_non_null(body);
    assert_int_equal(fixture_accept(f, "a@x.example", body, LARGE, &id), 0);
    free(body);
    meddle(f, "body", flip_last_row, id);
    assert_int_equal(queue_read_body(f->queue, id, 0, got, 4), 4);
    assert_int_equal(queue_read_body(f->queue, id, LARGE - 4, got, 4), QUEUE_ERR_DAMAGED);
    await_damaged(f, 1);
    assert_int_equal(fixture_counts(f).messages, 0);
    assert_int_equal(fixture_counts(f).bytes, 0);
    struct found found = {.count = 0};
    assert_int_equal(queue_read_damaged(f->queue, add_found, &found), 0);
    assert_non_null(strstr(found.reasons[0], "checksum"));
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    for (int i = 0; i < 5000 && fixture_counts(f).file_bytes > LARGE / 2; i++)
        (void)usleep(2000);
    assert_true(fixture_counts(f).file_bytes < LARGE / 2);
}

static void break_second_units_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    uint8_t k[11] = {0};
    id_key(k, id);
    k[8] = 'U';
    k[10] = 1;
    MDB_val key = {sizeof k, k};
    MDB_val value = {3, (void *)"bad"};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
}

static void drop_third_rcpts_row(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    uint8_t k[11] = {0};
    id_key(k, id);
    k[8] = 'R';
    k[10] = 2;
    MDB_val key = {sizeof k, k};
    assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
}

/* A further row of a long list is bad: met by a reader, by an outcome, by an admin. */
static void a_bad_further_row(void **state)
{
    enum { COUNT = 100 };
    static char addresses[COUNT][40];
    struct fixture *f = *state;
    struct queue_recipient rcpts[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "u@d%zu.example", i);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1};
    }
    struct queue_envelope envelope = {
        .sender = "s", .recipients = rcpts, .recipient_count = COUNT, .sign_domain = ""};
    for (unsigned way = 0; way < 6; way++) {
        struct answer answer = {ANSWER_NONE, 0};
        struct queue_put *put = NULL;
        struct queue_message *message = NULL;
        uint64_t id = 0;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
        queue_put_commit(put, &envelope, fixture_on_done, &answer);
        assert_int_equal(fixture_result(f, &answer), 0);
        meddle(f, "message", way % 2 == 0 ? break_second_units_row : drop_third_rcpts_row, id);
        if (way / 2 == 0)
            assert_int_equal(queue_read_message(f->queue, id, &message), QUEUE_ERR_DAMAGED);
        else if (way / 2 == 1)
            assert_int_equal(fixture_record(f, id, 40, 70, QUEUE_RCPT_DELIVERED, 0),
                             QUEUE_ERR_DAMAGED);
        else if (way == 4)
            assert_int_equal(fixture_admin(f, id, QUEUE_VERB_RETRY), QUEUE_ERR_DAMAGED);
        else /* a delete needs no recipients */
            assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
        if (way < 5)
            await_damaged(f, way + 1);
        assert_int_equal(fixture_counts(f).messages, 0);
        assert_int_equal(fixture_counts(f).units_fresh, 0);
        assert_int_equal(fixture_counts(f).bytes, 0);
    }
}

static void break_state(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    MDB_val key = {5, (void *)"state"};
    MDB_val value = {4, (void *)"junk"};
    (void)id;
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
}

static void lost_counters_are_counted_anew(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[3];
    atomic_store(&fixture_wall_ms, 1900000000000);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", "body", 4, &ids[0]), 0);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example c@z.example", "four", 4, &ids[1]),
                     0);
    assert_int_equal(fixture_accept(f, "a@x.example", "four", 4, &ids[2]), 0);
    assert_int_equal(fixture_record(f, ids[0], 0, 0, QUEUE_RCPT_WAITING, 100), 0);
    queue_park(f->queue, NULL, ids[1], 2, 100, NULL, NULL);
    fixture_settle(f);
    meddle(f, "message", change_checksum, ids[2]);
    assert_int_equal(fixture_admin(f, ids[2], QUEUE_VERB_RETRY), QUEUE_ERR_DAMAGED);
    struct queue_counts before = fixture_counts(f);
    atomic_store(&fixture_wall_ms, 1800000000000);
    meddle(f, "meta", break_state, 0);
    struct queue_counts after = fixture_counts(f);
    assert_int_equal(after.messages, before.messages);
    assert_int_equal(after.units_fresh, before.units_fresh);
    assert_int_equal(after.units_deferred, before.units_deferred);
    assert_int_equal(after.damaged, before.damaged);
    assert_int_equal(before.units_fresh, 4);
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
    assert_true(id > ids[2]);
}

static void add_incoming(MDB_txn *txn, MDB_dbi dbi, uint64_t id)
{
    put_row(txn, dbi, id, "", 0);
    put_row(txn, dbi, id + 100, "", 0);
    MDB_val key = {3, (void *)"odd"};
    MDB_val value = {0, (void *)""};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
}

/* Should a row of `incoming` ever stand for an accepted message, that message stays. */
static void the_sweep_never_touches_an_accepted_message(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    char got[4];
    assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
    meddle(f, "incoming", add_incoming, id);
    assert_int_equal(queue_read_body(f->queue, id, 0, got, 4), 4);
    assert_memory_equal(got, "body", 4);
    assert_int_equal(f->notice_count, 1);
    fixture_settle(f);
    assert_int_equal(queue_read_body(f->queue, id, 0, got, 4), 4);
    fixture_reopen(f);
    assert_int_equal(f->notice_count, 1); /* swept once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_kind_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outcome_sets_it_aside_too, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_bytes_are_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_bit_in_a_large_body_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_bytes_leave_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_further_row, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_counters_are_counted_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(the_sweep_never_touches_an_accepted_message, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
