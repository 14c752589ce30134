/* Body rows: what was torn, swapped or lost below the queue is never handed out as mail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/body.h"
#include "queue/bytes.h"
#include "tests/unit/queue_fixture.h"

#define BODY 100000 /* several rows */

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

static void fill(char *body, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        body[i] = (char)(seed >> 16);
    }
}

/* ---- a row by itself ---- */

static void every_flipped_bit_of_a_row_is_seen(void **state)
{
    (void)state;
    uint8_t k[QUEUE_BODY_KEY] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t bytes[20 + QUEUE_BODY_SUM] = "twenty bytes of text";
    MDB_val key = queue_val(k, sizeof k);
    MDB_val value = queue_val(bytes, sizeof bytes);
    struct queue_body_row row;
    queue_le32_put(bytes + 20, queue_crc32c(queue_crc32c(0, k, sizeof k), bytes, 20));
    assert_null(queue_body_row_read(&key, &value, &row));
    assert_int_equal(row.id, UINT64_C(0x0102030405060708));
    assert_int_equal(row.offset, 0);
    assert_int_equal(row.len, 20);
    assert_ptr_equal(row.bytes, bytes);
    for (size_t bit = 0; bit < 8 * (sizeof k + sizeof bytes); bit++) {
        uint8_t *at = bit / 8 < sizeof k ? &k[bit / 8] : &bytes[bit / 8 - sizeof k];
        *at = (uint8_t)(*at ^ 1u << bit % 8);
        assert_non_null(queue_body_row_read(&key, &value, &row));
        *at = (uint8_t)(*at ^ 1u << bit % 8);
    }
    for (size_t len = 0; len < sizeof bytes; len++) {
        value.mv_size = len;
        assert_non_null(queue_body_row_read(&key, &value, &row));
    }
    value.mv_size = sizeof bytes;
    key.mv_size = 8;
    assert_non_null(queue_body_row_read(&key, &value, &row));
}

/* ---- rows changed behind the queue's back ---- */

struct meddling {
    MDB_txn *txn;
    MDB_dbi dbi;
    uint8_t key[2][QUEUE_BODY_KEY]; /* of the second row of either message */
    uint8_t row[2][1 << 16];
    size_t len[2];
};

static void load_second(struct meddling *m, int which, uint64_t id)
{
    MDB_cursor *cursor = NULL;
    MDB_val value;
    uint8_t first[QUEUE_BODY_KEY] = {0};
    queue_be64_put(first, id);
    MDB_val key = queue_val(first, sizeof first);
    assert_int_equal(mdb_cursor_open(m->txn, m->dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_SET), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    memcpy(m->key[which], key.mv_data, QUEUE_BODY_KEY);
    memcpy(m->row[which], value.mv_data, value.mv_size);
    m->len[which] = value.mv_size;
    mdb_cursor_close(cursor);
}

static void store(struct meddling *m, const uint8_t *key_bytes, int which, size_t len)
{
    MDB_val key = queue_val(key_bytes, QUEUE_BODY_KEY);
    MDB_val value = queue_val(m->row[which], len);
    assert_int_equal(mdb_put(m->txn, m->dbi, &key, &value, 0), 0);
}

static void flip_first(struct meddling *m)
{
    m->row[0][0] ^= 1;
    store(m, m->key[0], 0, m->len[0]);
}

static void flip_last(struct meddling *m)
{
    m->row[0][m->len[0] - QUEUE_BODY_SUM - 1] ^= 0x80;
    store(m, m->key[0], 0, m->len[0]);
}

static void flip_sum(struct meddling *m)
{
    m->row[0][m->len[0] - 1] ^= 0x10;
    store(m, m->key[0], 0, m->len[0]);
}

/* Half of the row is what was on the disk before: a torn write. */
static void tear(struct meddling *m)
{
    memset(m->row[0] + m->len[0] / 2, 0, m->len[0] - m->len[0] / 2);
    store(m, m->key[0], 0, m->len[0]);
}

static void cut(struct meddling *m)
{
    store(m, m->key[0], 0, m->len[0] - 1);
}

static void make_empty(struct meddling *m)
{
    store(m, m->key[0], 0, 0);
}

/* A sound row of another message in this one's place. */
static void swap(struct meddling *m)
{
    store(m, m->key[0], 1, m->len[1]);
}

static void drop(struct meddling *m)
{
    MDB_val key = queue_val(m->key[0], QUEUE_BODY_KEY);
    assert_int_equal(mdb_del(m->txn, m->dbi, &key, NULL), 0);
}

static void meddle(struct fixture *f, void (*fn)(struct meddling *m), const uint64_t ids[2])
{
    struct meddling *m = calloc(1, sizeof *m);
    MDB_env *env = NULL;
    assert_non_null(m);
    fixture_close(f);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 20), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 1u << 30), 0);
    assert_int_equal(mdb_env_open(env, f->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &m->txn), 0);
    assert_int_equal(mdb_dbi_open(m->txn, "body", 0, &m->dbi), 0);
    load_second(m, 0, ids[0]);
    load_second(m, 1, ids[1]);
    fn(m);
    assert_int_equal(mdb_txn_commit(m->txn), 0);
    mdb_env_close(env);
    free(m);
    fixture_open(f);
}

/* What is handed out before the damage is right, byte for byte; then comes DAMAGED. */
static void check_damaged(struct fixture *f, uint64_t id, const char *body, size_t step)
{
    static char got[BODY + 65536];
    size_t at = 0;
    long part;
    while ((part = queue_read_body(f->queue, id, at, got, step)) > 0) {
        assert_true((size_t)part <= BODY - at);
        assert_memory_equal(got, body + at, (size_t)part);
        at += (size_t)part;
    }
    assert_int_equal(part, QUEUE_ERR_DAMAGED);
    assert_true(at < BODY);
}

static bool count_damaged(const struct queue_damaged *damaged, void *ctx)
{
    uint64_t *id = ctx;
    assert_true(strstr(damaged->reason, "bytes") != NULL);
    *id = damaged->id;
    return true;
}

static void a_damaged_row_is_never_mail(void **state)
{
    struct fixture *f = *state;
    static void (*const ways[])(struct meddling *) = {flip_first, flip_last,  flip_sum, tear,
                                                      cut,        make_empty, swap,     drop};
    static char body[2][BODY];
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        uint64_t ids[2];
        uint64_t aside = 0;
        for (unsigned j = 0; j < 2; j++) {
            fill(body[j], BODY, (unsigned)i * 2 + j);
            assert_int_equal(fixture_accept(f, "a@x.example", body[j], BODY, &ids[j]), 0);
        }
        meddle(f, ways[i], ids);
        check_damaged(f, ids[0], body[0], i % 2 == 0 ? 65536 : 1000);
        fixture_settle(f);
        assert_int_equal(fixture_counts(f).damaged, i + 1);
        assert_int_equal(fixture_counts(f).messages, i + 1);
        assert_int_equal(queue_read_damaged(f->queue, count_damaged, &aside), 0);
        assert_int_equal(aside, ids[0]); /* the newest comes last */
        static char got[BODY];
        assert_int_equal(queue_read_body(f->queue, ids[1], 0, got, BODY), BODY);
        assert_memory_equal(got, body[1], BODY); /* its neighbour is well */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_of_a_row_is_seen),
        cmocka_unit_test_setup_teardown(a_damaged_row_is_never_mail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
