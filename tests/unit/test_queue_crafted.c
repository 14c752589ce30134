/* A store whose rows were changed at random, with their checksums put right or not: as somebody
 * might craft a backup. Whatever is in it, the queue works on, and a repair makes it clean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/batch.h"
#include "queue/body.h"
#include "tests/unit/queue_fixture.h"

#define ROUNDS    5
#define CHANGES   6 /* a round, at most */
#define LONG_LIST 70
#define IDS_MAX   64
#define ROW_MAX   ((size_t)1 << 17)

/* Rounds that once found something. */
static const unsigned known[] = {328, 1136, 2028};

static unsigned seed;
static char lines[4096];

static unsigned draw(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static void add_line(const char *line, void *ctx)
{
    (void)ctx;
    size_t at = strlen(lines);
    (void)snprintf(lines + at, sizeof lines - at, "  %s\n", line);
}

static struct queue_check_result checked(struct fixture *f, bool repair)
{
    struct queue_check_result result = {0};
    char error[512] = "";
    lines[0] = '\0';
    int rc = queue_check(f->folder, repair, add_line, NULL, &result, error, sizeof error);
    if (rc != 0)
        fail_msg("seed %u: %s", seed, error);
    return result;
}

/* ---- the store ---- */

static uint64_t accept_list(struct fixture *f)
{
    static char addresses[LONG_LIST][32];
    static struct queue_recipient rcpts[LONG_LIST];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    for (size_t i = 0; i < LONG_LIST; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%zu@d%zu.example", i, i % 40);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1};
    }
    struct queue_envelope envelope = {
        .sender = "", .recipients = rcpts, .recipient_count = LONG_LIST, .sign_domain = ""};
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, "list", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    return id;
}

static void fill(struct fixture *f)
{
    static char body[300000];
    uint64_t id[6];
    fixture_open(f);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body,
                                        i == 2 ? sizeof body : 5000 * i, &id[i]),
                         0);
    assert_int_equal(fixture_record(f, id[0], 0, 0, QUEUE_RCPT_WAITING, 1700000000000), 0);
    assert_int_equal(fixture_record(f, id[0], 0, 0, QUEUE_RCPT_WAITING, 1700000000001), 0);
    assert_int_equal(fixture_admin(f, id[1], QUEUE_VERB_HOLD), 0);
    assert_int_equal(fixture_record(f, id[2], 1, 1, QUEUE_RCPT_DELIVERED, 0), 0);
    queue_park(f->queue, NULL, id[3], 0, 1700000000002, NULL, NULL);
    assert_int_equal(fixture_admin(f, id[4], QUEUE_VERB_BOUNCE), 0);
    id[0] = accept_list(f);
    assert_int_equal(fixture_record(f, id[0], 3, 3, QUEUE_RCPT_WAITING, 1700000000003), 0);
    fixture_settle(f);
    fixture_close(f);
}

/* ---- one change ---- */

struct row {
    uint8_t key[512];
    size_t key_len;
    uint8_t value[ROW_MAX];
    size_t len;
};

/* @return false: the database is empty */
static bool pick(MDB_txn *txn, MDB_dbi dbi, struct row *row)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    MDB_stat stat;
    assert_int_equal(mdb_stat(txn, dbi, &stat), 0);
    if (stat.ms_entries == 0)
        return false;
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    unsigned which = draw((unsigned)stat.ms_entries);
    for (unsigned i = 0; i <= which; i++)
        assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    mdb_cursor_close(cursor);
    assert_true(value.mv_size <= sizeof row->value - 8);
    row->key_len = key.mv_size;
    row->len = value.mv_size;
    memcpy(row->key, key.mv_data, key.mv_size);
    memcpy(row->value, value.mv_data, value.mv_size);
    return true;
}

static void seal(enum queue_db db, struct row *row)
{
    size_t key_len = db == QUEUE_DB_ATTEMPT ? 0 : row->key_len;
    if (db == QUEUE_DB_BODY && row->len > QUEUE_BODY_SUM) {
        size_t len = row->len - QUEUE_BODY_SUM;
        queue_le32_put(row->value + len,
                       queue_crc32c(queue_crc32c(0, row->key, row->key_len), row->value, len));
    } else if ((db == QUEUE_DB_MESSAGE || db == QUEUE_DB_ATTEMPT || db == QUEUE_DB_META) &&
               row->len > 8) {
        queue_le32_put(row->value + 4, queue_crc32c(queue_crc32c(0, row->key, key_len),
                                                    row->value + 8, row->len - 8));
    }
}

static void change_value(struct row *row)
{
    static const uint8_t odd[] = {0, 1, 2, 0x7F, 0x80, 0xFF};
    size_t at = row->len > 0 ? draw((unsigned)row->len) : 0;
    if (draw(2) == 0 && at > 120)
        at = draw(120);
    switch (draw(8)) {
    case 0:
        row->len = at;
        break;
    case 1:
        row->value[row->len++] = 0;
        break;
    default:
        for (unsigned i = 0, count = 1 + draw(3); i < count && at + i < row->len; i++)
            row->value[at + i] = draw(3) == 0 ? (uint8_t)draw(256) : odd[draw(sizeof odd)];
    }
}

static void change_key(struct row *row)
{
    unsigned at = draw((unsigned)row->key_len);
    if (draw(4) == 0)
        row->key_len = at + 1;
    else
        row->key[at] = (uint8_t)(draw(2) == 0 ? draw(256) : row->key[at] + 1U);
}

static void change(MDB_txn *txn, const MDB_dbi *dbis)
{
    static struct row row;
    enum queue_db db = (enum queue_db)draw(QUEUE_DB_COUNT);
    if (draw(3) == 0)
        db = QUEUE_DB_MESSAGE;
    if (!pick(txn, dbis[db], &row) || (db == QUEUE_DB_META && row.key_len != 5))
        return;
    MDB_val key = queue_val(row.key, row.key_len);
    unsigned how = draw(8);
    if (how == 0 || how == 1)
        assert_int_equal(mdb_del(txn, dbis[db], &key, NULL), 0);
    if (how == 0)
        return;
    if (how == 1 || how == 2)
        change_key(&row);
    else
        change_value(&row);
    if (draw(4) > 0)
        seal(db, &row);
    if (how == 3)
        db = (enum queue_db)draw(QUEUE_DB_COUNT);
    if (db == QUEUE_DB_META)
        row.key_len = 5;
    key = queue_val(row.key, row.key_len);
    MDB_val value = queue_val(row.value, row.len);
    assert_int_equal(mdb_put(txn, dbis[db], &key, &value, 0), 0);
}

static void meddle(struct fixture *f)
{
    struct queue_store store;
    MDB_txn *txn = NULL;
    char error[512];
    assert_int_equal(queue_store_open(&store, f->folder, UINT64_C(1) << 30, error, sizeof error),
                     0);
    assert_int_equal(mdb_txn_begin(store.env, NULL, 0, &txn), 0);
    for (unsigned i = 0, count = 1 + draw(CHANGES); i < count; i++)
        change(txn, store.dbi);
    assert_int_equal(mdb_txn_commit(txn), 0);
    queue_store_close(&store);
}

/* ---- work on it ---- */

static bool see_message(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    size_t *sum = ctx;
    (void)id;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        *sum += strlen(envelope->recipients[i].address) + strlen(envelope->recipients[i].domain);
    return true;
}

static bool see_attempt(uint32_t recipient, const struct queue_attempt *attempt, void *ctx)
{
    (void)recipient;
    *(size_t *)ctx += strlen(attempt->text);
    return true;
}

static bool see_due(int64_t due, uint64_t id, uint16_t unit, void *ctx)
{
    (void)due;
    (void)id;
    *(size_t *)ctx += unit;
    return true;
}

static bool see_next(int64_t due, enum queue_lane lane, const char *domain, void *ctx)
{
    struct fixture *f = ctx;
    size_t sum = 0;
    (void)due;
    assert_int_equal(queue_read_due(f->queue, domain, lane, INT64_MAX, see_due, &sum, NULL), 0);
    return true;
}

static bool see_damaged(const struct queue_damaged *damaged, void *ctx)
{
    *(size_t *)ctx += strlen(damaged->reason);
    return true;
}

static void work_on(struct fixture *f, uint64_t id)
{
    static char body[300001];
    struct queue_message *message = NULL;
    size_t sum = 0;
    long got = 1;
    if (queue_read_message(f->queue, id, &message) == 0)
        (void)see_message(id, queue_message_envelope(message), &sum);
    queue_message_free(&message);
    for (uint64_t at = 0; got > 0; at += (uint64_t)got)
        got = queue_read_body(f->queue, id, at, body, sizeof body);
    assert_int_equal(queue_read_attempts(f->queue, id, see_attempt, &sum), 0);
    (void)fixture_record(f, id, (uint16_t)draw(4), draw(6), (enum queue_rcpt_state)draw(6),
                         1700000000000 + (int64_t)draw(9));
    (void)fixture_admin(f, id, (enum queue_verb)draw(QUEUE_VERB_BOUNCE + 1));
}

static void use(struct fixture *f)
{
    uint64_t ids[IDS_MAX];
    uint64_t after = 0;
    size_t sum = 0;
    fixture_open(f);
    while (queue_scan(f->queue, &after, see_message, &sum) == 1)
        ;
    assert_int_equal(fixture_read_next(f, INT64_MAX, see_next, f), 0);
    long count = queue_read_ids(f->queue, 0, ids, IDS_MAX);
    for (long i = 0; i < count; i++)
        work_on(f, ids[i]);
    assert_int_equal(queue_read_damaged(f->queue, see_damaged, &sum), 0);
    assert_true(queue_read_fresh(f->queue, 0, ids, IDS_MAX) >= 0);
    fixture_settle(f);
    fixture_close(f);
}

static void delete_all(struct fixture *f)
{
    uint64_t ids[IDS_MAX];
    fixture_open(f);
    long count = queue_read_ids(f->queue, 0, ids, IDS_MAX);
    for (long i = 0; i < count; i++) {
        if (fixture_admin(f, ids[i], QUEUE_VERB_DELETE) != 0)
            fail_msg("seed %u: cannot delete", seed);
    }
    fixture_settle(f);
    fixture_close(f);
}

static bool write_bytes(const void *bytes, size_t len, void *ctx)
{
    return write(*(int *)ctx, bytes, len) == (ssize_t)len;
}

/* A backup is taken and put in place. */
static void go_through_a_backup(struct fixture *f)
{
    char path[] = "/tmp/test-crafted-XXXXXX";
    struct queue_backup_result backup;
    struct queue_restore_result restored;
    struct queue_restore_source source = {.folder = f->folder, .force = true};
    char error[512] = "";
    source.fd = mkstemp(path);
    assert_true(source.fd >= 0);
    (void)unlink(path);
    if (queue_backup_folder(f->folder, write_bytes, &source.fd, &backup, error, sizeof error) != 0)
        fail_msg("seed %u: %s", seed, error);
    assert_int_equal(lseek(source.fd, 0, SEEK_SET), 0);
    if (queue_restore(&source, add_line, NULL, &restored, error, sizeof error) != 0)
        fail_msg("seed %u: %s", seed, error);
    close(source.fd);
}

static void assert_clean(struct fixture *f, unsigned round, const char *when)
{
    struct queue_check_result result = checked(f, false);
    if (result.problems > 0)
        fail_msg("round %u, %s:\n%s", round, when, lines);
}

static void run_round(unsigned round)
{
    struct fixture *f = fixture_new();
    seed = round;
    fill(f);
    assert_clean(f, round, "at first");
    meddle(f);
    (void)checked(f, false);
    if (round % 2 == 0)
        use(f);
    if (round % 3 == 0)
        go_through_a_backup(f);
    struct queue_check_result result = checked(f, true);
    if (result.repaired != result.problems)
        fail_msg("round %u, not all repaired:\n%s", round, lines);
    assert_clean(f, round, "after the repair");
    delete_all(f);
    result = checked(f, false);
    if (result.problems > 0 || result.messages > 0)
        fail_msg("round %u, %d messages in the end:\n%s", round, (int)result.messages, lines);
    fixture_open(f);
    fixture_free(&f);
}

/* CRAFTED_FIRST and CRAFTED_COUNT in the environment: other rounds, more of them. */
static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void each_crafted_store_is_survived_and_mended(void **state)
{
    (void)state;
    unsigned first = number("CRAFTED_FIRST", 0);
    unsigned count = number("CRAFTED_COUNT", sizeof known / sizeof known[0] + ROUNDS);
    for (unsigned i = 0; i < count; i++)
        run_round(first > 0 || i >= sizeof known / sizeof known[0] ? first + i : known[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_crafted_store_is_survived_and_mended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
