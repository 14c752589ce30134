/* Each kind of damage, made by hand: the check names it, repair puts it right, a second look is
 * clean, and no message that can be read is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "queue/batch.h"
#include "queue/body.h"
#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define LINES_MAX 128
#define DUE       INT64_C(1700000100000)
#define LONG_LIST 100

enum { DEFERRED, NEW, LARGE, PARKED, HELD, LIST, IDS };

struct lines {
    size_t count;
    char text[LINES_MAX][512];
};

static struct lines lines;
static uint64_t ids[IDS];

static void add_line(const char *line, void *ctx)
{
    (void)ctx;
    if (lines.count < LINES_MAX)
        (void)snprintf(lines.text[lines.count], sizeof lines.text[0], "%s", line);
    lines.count++;
}

static struct queue_check_result checked(struct fixture *f, bool repair)
{
    struct queue_check_result result = {0};
    char error[512] = "";
    lines.count = 0;
    int rc = queue_check(f->folder, repair, add_line, NULL, &result, error, sizeof error);
    if (rc != 0)
        fail_msg("queue_check: %s", error);
    return result;
}

static bool has_line(const char *part)
{
    for (size_t i = 0; i < lines.count && i < LINES_MAX; i++) {
        if (strstr(lines.text[i], part) != NULL)
            return true;
    }
    return false;
}

static void print_lines(void)
{
    for (size_t i = 0; i < lines.count && i < LINES_MAX; i++)
        print_message("  %s\n", lines.text[i]);
}

/* ---- the store that is damaged: six messages ---- */

static void accept_list(struct fixture *f)
{
    static char addresses[LONG_LIST][32];
    static struct queue_recipient rcpts[LONG_LIST];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    for (size_t i = 0; i < LONG_LIST; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%zu@d%zu.example", i, i % 40);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1,
                                            .notify = i == 40 ? QUEUE_NOTIFY_NEVER : 0,
                                            .orcpt = i == 99 ? "rfc822;list@here" : NULL};
    }
    struct queue_envelope envelope = {.sender = "",
                                      .recipients = rcpts,
                                      .recipient_count = LONG_LIST,
                                      .flags = QUEUE_FLAG_REQUIRETLS,
                                      .ret = QUEUE_RET_HDRS,
                                      .envid = "list",
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000000};
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &ids[LIST]), 0);
    assert_int_equal(queue_put_piece(put, "list", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
}

static int setup(void **state)
{
    static char body[100000];
    struct fixture *f = fixture_new();
    fixture_open(f);
    memset(body, 'b', sizeof body);
    assert_int_equal(fixture_accept(f, "a@x.example", body, 3000, &ids[DEFERRED]), 0);
    assert_int_equal(fixture_record(f, ids[DEFERRED], 0, 0, QUEUE_RCPT_WAITING, DUE), 0);
    assert_int_equal(fixture_record(f, ids[DEFERRED], 0, 0, QUEUE_RCPT_WAITING, DUE), 0);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body, 3000, &ids[NEW]), 0);
    assert_int_equal(fixture_accept(f, "c@z.example", body, sizeof body, &ids[LARGE]), 0);
    assert_int_equal(fixture_accept(f, "d@x.example", body, 10, &ids[PARKED]), 0);
    queue_park(f->queue, NULL, ids[PARKED], 0, DUE + 5, NULL, NULL);
    assert_int_equal(fixture_accept(f, "e@x.example", body, 10, &ids[HELD]), 0);
    assert_int_equal(fixture_admin(f, ids[HELD], QUEUE_VERB_HOLD), 0);
    accept_list(f);
    assert_int_equal(fixture_record(f, ids[LIST], 3, 3, QUEUE_RCPT_WAITING, DUE + 9), 0);
    fixture_settle(f);
    fixture_close(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_open(*state);
    fixture_free((struct fixture **)state);
    return 0;
}

/* ---- ways to damage it ---- */

struct hand {
    struct queue_store store;
    MDB_txn *txn;
};

typedef void (*damage_fn)(struct hand *hand);

static void put(struct hand *hand, enum queue_db db, const void *key, size_t key_len,
                const void *value, size_t len)
{
    MDB_val k = queue_val(key, key_len);
    MDB_val v = queue_val(value, len);
    assert_int_equal(mdb_put(hand->txn, hand->store.dbi[db], &k, &v, 0), 0);
}

static size_t get(struct hand *hand, enum queue_db db, const void *key, size_t key_len,
                  uint8_t *out, size_t size)
{
    MDB_val k = queue_val(key, key_len);
    MDB_val v;
    assert_int_equal(mdb_get(hand->txn, hand->store.dbi[db], &k, &v), 0);
    assert_true(v.mv_size <= size);
    memcpy(out, v.mv_data, v.mv_size);
    return v.mv_size;
}

static void del(struct hand *hand, enum queue_db db, const void *key, size_t key_len)
{
    MDB_val k = queue_val(key, key_len);
    assert_int_equal(mdb_del(hand->txn, hand->store.dbi[db], &k, NULL), 0);
}

/* Change one byte, the at-th from the row's end. */
static void flip(struct hand *hand, enum queue_db db, const void *key, size_t key_len, size_t at)
{
    uint8_t row[20000];
    size_t len = get(hand, db, key, key_len, row, sizeof row);
    row[len - 1 - at] ^= 0x20;
    put(hand, db, key, key_len, row, len);
}

static struct queue_row_key head_of(int which)
{
    return queue_row_key(ids[which], QUEUE_ROW_HEAD, 0);
}

static void body_key(uint8_t key[16], int which, uint64_t offset)
{
    queue_be64_put(key, ids[which]);
    queue_be64_put(key + 8, offset);
}

static void flip_record(struct hand *hand)
{
    struct queue_row_key key = head_of(NEW);
    flip(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, 3);
}

static void lose_list_row(struct hand *hand)
{
    struct queue_row_key key = queue_row_key(ids[LIST], QUEUE_ROW_UNITS, 1);
    del(hand, QUEUE_DB_MESSAGE, key.bytes, key.len);
}

static void lose_head(struct hand *hand)
{
    struct queue_row_key key = head_of(LIST);
    del(hand, QUEUE_DB_MESSAGE, key.bytes, key.len);
}

static void flip_body(struct hand *hand)
{
    uint8_t key[16];
    body_key(key, NEW, 0);
    flip(hand, QUEUE_DB_BODY, key, sizeof key, 100);
}

static void lose_body_row(struct hand *hand)
{
    uint8_t key[16];
    body_key(key, LARGE, QUEUE_BODY_ROW);
    del(hand, QUEUE_DB_BODY, key, sizeof key);
}

static void lose_all_body(struct hand *hand)
{
    uint8_t key[16];
    body_key(key, NEW, 0);
    del(hand, QUEUE_DB_BODY, key, sizeof key);
}

static void fill(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 'b', len);
}

static void overlap_body(struct hand *hand)
{
    assert_int_equal(
        queue_body_write(hand->txn, hand->store.dbi[QUEUE_DB_BODY], ids[LARGE], 5, 90, fill, NULL),
        0);
}

static void extend_body(struct hand *hand)
{
    assert_int_equal(
        queue_body_write(hand->txn, hand->store.dbi[QUEUE_DB_BODY], ids[NEW], 3000, 90, fill, NULL),
        0);
}

static void orphan_body(struct hand *hand)
{
    assert_int_equal(queue_body_write(hand->txn, hand->store.dbi[QUEUE_DB_BODY], ids[NEW] + 7, 0,
                                      90, fill, NULL),
                     0);
}

/* Rewrite units row 0 of the long list, its first unit saying something else. */
static void miscount_list(struct hand *hand)
{
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint8_t head_row[8192];
    uint8_t row[8192];
    struct queue_bytes out = {0};
    struct queue_row_key key = head_of(LIST);
    size_t len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, head_row, sizeof head_row);
    assert_null(queue_head_read(&head, ids[LIST], head_row, len, units, rcpts));
    key = queue_row_key(ids[LIST], QUEUE_ROW_UNITS, 0);
    len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, row, sizeof row);
    assert_null(queue_units_read(&head, ids[LIST], 0, row, len, units));
    units[0].open = 77;
    queue_units_write(&out, ids[LIST], 0, units, QUEUE_ROW_ITEMS);
    put(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, out.p, out.len);
    queue_bytes_deinit(&out);
}

/* All recipients of the long list have ended but one that is deferred, and no sum says so. */
static void end_most_of_list(struct hand *hand)
{
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint8_t head_row[8192];
    uint8_t row[8192];
    struct queue_row_key key = head_of(LIST);
    size_t len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, head_row, sizeof head_row);
    assert_null(queue_head_read(&head, ids[LIST], head_row, len, units, rcpts));
    for (uint32_t n = 0; queue_row_items(LONG_LIST, n) > 0; n++) {
        struct queue_bytes out = {0};
        size_t items = queue_row_items(LONG_LIST, n);
        key = queue_row_key(ids[LIST], QUEUE_ROW_RCPTS, n);
        len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, row, sizeof row);
        assert_null(queue_rcpts_read(&head, ids[LIST], n, row, len, rcpts));
        for (size_t i = 0; i < items; i++) {
            if (n != 0 || i != 3)
                rcpts[i].state = QUEUE_RCPT_DELIVERED;
        }
        queue_rcpts_write(&out, ids[LIST], n, rcpts, items);
        put(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, out.p, out.len);
        queue_bytes_deinit(&out);
    }
}

/* The record of NEW, every recipient of which has ended. */
static void end_all(struct hand *hand)
{
    struct queue_head head;
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint8_t row[8192];
    struct queue_bytes out = {0};
    struct queue_row_key key = head_of(NEW);
    size_t len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, row, sizeof row);
    assert_null(queue_head_read(&head, ids[NEW], row, len, units, rcpts));
    for (int i = 0; i < 2; i++) {
        rcpts[i].state = QUEUE_RCPT_DELIVERED;
        units[i].open = 0;
    }
    head.open = head.fresh = 0;
    queue_head_write(&out, ids[NEW], &head, units, rcpts);
    put(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, out.p, out.len);
    queue_bytes_deinit(&out);
}

static void due_key(struct hand *hand, bool add, int which, const char *domain,
                    enum queue_lane lane, int64_t due)
{
    uint8_t key[QUEUE_DUE_KEY];
    struct queue_due_row row = {
        .domain = domain, .lane = lane, .due_unix_ms = due, .id = ids[which], .unit = 0};
    size_t len = queue_due_key(key, &row);
    if (add)
        put(hand, QUEUE_DB_DUE, key, len, "", 0);
    else
        del(hand, QUEUE_DB_DUE, key, len);
}

static void lose_due(struct hand *hand)
{
    due_key(hand, false, DEFERRED, "x.example", QUEUE_LANE_RETRY, DUE);
}

static void move_due(struct hand *hand)
{
    due_key(hand, false, DEFERRED, "x.example", QUEUE_LANE_RETRY, DUE);
    due_key(hand, true, DEFERRED, "x.example", QUEUE_LANE_RETRY, DUE + 1);
}

static void wrong_lane(struct hand *hand)
{
    due_key(hand, false, DEFERRED, "x.example", QUEUE_LANE_RETRY, DUE);
    due_key(hand, true, DEFERRED, "x.example", QUEUE_LANE_NEW, DUE);
}

static void stray_due(struct hand *hand)
{
    due_key(hand, true, NEW, "x.example", QUEUE_LANE_RETRY, 5);
}

static void due_of_held(struct hand *hand)
{
    due_key(hand, true, HELD, "x.example", QUEUE_LANE_NEW, 5);
}

static void unreadable_due(struct hand *hand)
{
    put(hand, QUEUE_DB_DUE, "zz", 2, "", 0);
}

static void next_row(struct hand *hand, bool add, const char *domain, enum queue_lane lane,
                     int64_t due)
{
    uint8_t key[QUEUE_NEXT_KEY];
    size_t len = queue_next_key(key, domain, lane, due);
    if (add)
        put(hand, QUEUE_DB_NEXT, key, len, "", 0);
    else
        del(hand, QUEUE_DB_NEXT, key, len);
}

static void lose_next(struct hand *hand)
{
    next_row(hand, false, "x.example", QUEUE_LANE_RETRY, DUE);
}

static void stray_next(struct hand *hand)
{
    next_row(hand, true, "x.example", QUEUE_LANE_RETRY, DUE - 1);
}

static void swap_next(struct hand *hand)
{
    next_row(hand, false, "x.example", QUEUE_LANE_NEW, DUE + 5);
    next_row(hand, true, "x.example", QUEUE_LANE_NEW, DUE + 6);
}

static void fresh_row(struct hand *hand, uint64_t id, uint32_t count)
{
    uint8_t key[8];
    uint8_t value[4];
    queue_be64_put(key, id);
    queue_le32_put(value, count);
    put(hand, QUEUE_DB_FRESH, key, sizeof key, value, sizeof value);
}

static void lose_fresh(struct hand *hand)
{
    uint8_t key[8];
    queue_be64_put(key, ids[NEW]);
    del(hand, QUEUE_DB_FRESH, key, sizeof key);
}

static void miscount_fresh(struct hand *hand)
{
    fresh_row(hand, ids[NEW], 9);
}

static void fresh_of_deferred(struct hand *hand)
{
    fresh_row(hand, ids[DEFERRED], 1);
}

static void fresh_of_nothing(struct hand *hand)
{
    fresh_row(hand, ids[NEW] + 3, 1);
}

static void flip_attempt(struct hand *hand)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(key, ids[DEFERRED], 0, 1);
    flip(hand, QUEUE_DB_ATTEMPT, key, sizeof key, 4);
}

static void lose_attempt(struct hand *hand)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(key, ids[DEFERRED], 0, 0);
    del(hand, QUEUE_DB_ATTEMPT, key, sizeof key);
}

static void stray_attempt(struct hand *hand)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(key, ids[DEFERRED], 0, 9);
    put(hand, QUEUE_DB_ATTEMPT, key, sizeof key, "x", 1);
}

static void attempt_of_nobody(struct hand *hand)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(key, ids[DEFERRED], 44, 0);
    put(hand, QUEUE_DB_ATTEMPT, key, sizeof key, "x", 1);
}

static void attempt_of_nothing(struct hand *hand)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    queue_attempt_key(key, ids[DEFERRED] + 1, 0, 0);
    put(hand, QUEUE_DB_ATTEMPT, key, sizeof key, "x", 1);
}

static void change_state(struct hand *hand, uint64_t messages, uint64_t id_high)
{
    struct queue_state state;
    assert_int_equal(queue_meta_read(&hand->store, hand->txn, &state), 0);
    state.messages += messages;
    state.id_high = id_high > 0 ? id_high : state.id_high;
    assert_int_equal(queue_meta_write(&hand->store, hand->txn, &state), 0);
}

static void miscount(struct hand *hand)
{
    change_state(hand, 2, 0);
}

static void lower_high(struct hand *hand)
{
    change_state(hand, 0, ids[DEFERRED] - 1);
}

static void lose_counters(struct hand *hand)
{
    del(hand, QUEUE_DB_META, "state", 5);
}

static void foreign_message_row(struct hand *hand)
{
    put(hand, QUEUE_DB_MESSAGE, "abc", 3, "who wrote this?", 15);
}

static void foreign_list_row(struct hand *hand)
{
    struct queue_row_key key = queue_row_key(ids[NEW], QUEUE_ROW_UNITS, 4);
    put(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, "x", 1);
}

static void twice(struct hand *hand)
{
    uint8_t key[9];
    queue_be64_put(key, ids[NEW]);
    key[8] = 'R';
    put(hand, QUEUE_DB_DAMAGED, key, sizeof key, "why", 3);
}

/* NEW is set aside as it should be, but a row is left where it was. */
static void left_beside(struct hand *hand)
{
    uint8_t aside[9];
    uint8_t row[8192];
    struct queue_row_key key = head_of(NEW);
    size_t len = get(hand, QUEUE_DB_MESSAGE, key.bytes, key.len, row, sizeof row);
    twice(hand);
    queue_be64_put(aside, ids[NEW]);
    aside[8] = 'V';
    put(hand, QUEUE_DB_DAMAGED, aside, sizeof aside, row, len);
    del(hand, QUEUE_DB_MESSAGE, key.bytes, key.len);
    foreign_list_row(hand);
}

static void aside_without_reason(struct hand *hand)
{
    uint8_t key[9];
    queue_be64_put(key, ids[NEW] + 5);
    key[8] = 'V';
    put(hand, QUEUE_DB_DAMAGED, key, sizeof key, "row", 3);
}

static const struct {
    damage_fn damage;
    const char *says;  /* a part of the line of the check */
    uint64_t messages; /* after the repair */
    uint64_t damaged;
} cases[] = {
    {flip_record, "its record is damaged (the checksum", IDS - 1, 1},
    {lose_list_row, "its record is damaged (a row of the record is missing)", IDS - 1, 1},
    {lose_head, "the first row of the record is missing", IDS - 1, 1},
    {flip_body, "its bytes are damaged", IDS - 1, 1},
    {lose_body_row, "bytes of the message are missing", IDS - 1, 1},
    {lose_all_body, "bytes of the message are missing", IDS - 1, 1},
    {overlap_body, "stored twice", IDS - 1, 1},
    {extend_body, "bytes beyond its end", IDS, 0},
    {orphan_body, "whose record is not there", IDS, 1},
    {miscount_list, "counts other open recipients than it has", IDS, 0},
    {end_most_of_list, "counts other open recipients than it has", IDS, 0},
    {end_all, "each of its recipients has ended", IDS - 1, 0},
    {lose_due, "the order of work does not have it", IDS, 0},
    {move_due, "that it does not want", IDS, 0},
    {wrong_lane, "that it does not want", IDS, 0},
    {stray_due, "that it does not want", IDS, 0},
    {due_of_held, "that it does not want", IDS, 0},
    {unreadable_due, "cannot be read", IDS, 0},
    {lose_next, "missing among the next ones", IDS, 0},
    {stray_next, "not its earliest", IDS, 0},
    {swap_next, "not its earliest", IDS, 0},
    {lose_fresh, "the list of new messages says otherwise", IDS, 0},
    {miscount_fresh, "the list of new messages says otherwise", IDS, 0},
    {fresh_of_deferred, "the list of new messages says otherwise", IDS, 0},
    {fresh_of_nothing, "the list of new messages names", IDS, 0},
    {flip_attempt, "an attempt's record is damaged", IDS, 0},
    {lose_attempt, "lacks the records of 1 of its attempts", IDS, 0},
    {stray_attempt, "none of its recipients counts", IDS, 0},
    {attempt_of_nobody, "none of its recipients counts", IDS, 0},
    {attempt_of_nothing, "which is not there", IDS, 0},
    {miscount, "the counter of messages says 8, but there are 6", IDS, 0},
    {lower_high, "would give out once more", IDS, 0},
    {lose_counters, "the counters are lost", IDS, 0},
    {foreign_message_row, "a key that no version writes", IDS, 1},
    {foreign_list_row, "a row that does not belong to it", IDS, 1},
    {twice, "set aside as well", IDS, 0},
    {left_beside, "rows of it are in the queue as well", IDS - 1, 2},
    {aside_without_reason, "without a reason", IDS, 1},
};

static void damage(struct fixture *f, damage_fn fn)
{
    struct hand hand;
    char error[512];
    assert_int_equal(
        queue_store_open(&hand.store, f->folder, UINT64_C(1) << 30, error, sizeof error), 0);
    assert_int_equal(mdb_txn_begin(hand.store.env, NULL, 0, &hand.txn), 0);
    fn(&hand);
    assert_int_equal(mdb_txn_commit(hand.txn), 0);
    queue_store_close(&hand.store);
}

/* A repair loses nothing of what was asked for. */
static void assert_params(const struct queue_envelope *list)
{
    assert_int_equal(list->flags, QUEUE_FLAG_REQUIRETLS);
    assert_int_equal(list->ret, QUEUE_RET_HDRS);
    assert_string_equal(list->envid, "list");
    assert_int_equal(list->recipients[40].notify, QUEUE_NOTIFY_NEVER);
    assert_string_equal(list->recipients[99].orcpt, "rfc822;list@here");
}

/* The messages that are still there can be read to their last byte, and worked on. */
static void use_all(struct fixture *f, uint64_t messages)
{
    uint64_t seen[2 * IDS];
    static char body[100001];
    fixture_open(f);
    assert_int_equal(fixture_counts(f).messages, messages);
    long count = queue_read_ids(f->queue, 0, seen, 2 * IDS);
    uint64_t whole = 0;
    for (long i = 0; i < count; i++) {
        struct queue_message *message = NULL;
        if (queue_read_message(f->queue, seen[i], &message) != 0)
            continue;
        uint64_t bytes = queue_message_envelope(message)->body_bytes;
        if (seen[i] == ids[LIST])
            assert_params(queue_message_envelope(message));
        assert_int_equal(queue_read_body(f->queue, seen[i], 0, body, sizeof body), bytes);
        queue_message_free(&message);
        assert_int_equal(fixture_admin(f, seen[i], QUEUE_VERB_DELETE), 0);
        whole++;
    }
    assert_int_equal(whole, messages);
    fixture_settle(f);
    struct queue_counts counts = fixture_counts(f);
    assert_int_equal(counts.messages + counts.units_fresh + counts.units_deferred +
                         counts.units_held + counts.bytes,
                     0);
    fixture_close(f);
}

static void run_case(struct fixture *f, size_t i)
{
    damage(f, cases[i].damage);
    struct queue_check_result result = checked(f, false);
    if (result.problems == 0 || !has_line(cases[i].says)) {
        print_lines();
        fail_msg("case %zu: \"%s\" was not said", i, cases[i].says);
    }
    assert_int_equal(result.repaired, 0);
    struct queue_check_result again = checked(f, false); /* looking changes nothing */
    assert_memory_equal(&again, &result, sizeof result);

    result = checked(f, true);
    if (result.repaired != result.problems || !has_line(cases[i].says)) {
        print_lines();
        fail_msg("case %zu: %d of %d repaired", i, (int)result.repaired, (int)result.problems);
    }
    result = checked(f, true);
    if (result.problems != 0) {
        print_lines();
        fail_msg("case %zu: not clean after its repair", i);
    }
    assert_int_equal(result.messages, cases[i].messages);
    assert_int_equal(result.damaged, cases[i].damaged);
    use_all(f, cases[i].messages);
    assert_int_equal(checked(f, false).problems, 0);
}

static void test_each_damage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        void *f = NULL;
        (void)setup(&f);
        run_case(f, i);
        (void)teardown(&f);
    }
}

static uint64_t kept_bytes;

/* Of NEW's record, among what is set aside. */
static void note_kept(struct hand *hand)
{
    MDB_val key;
    MDB_val value;
    MDB_cursor *cursor = NULL;
    kept_bytes = 0;
    assert_int_equal(mdb_cursor_open(hand->txn, hand->store.dbi[QUEUE_DB_DAMAGED], &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        const uint8_t *p = key.mv_data;
        if (key.mv_size == 9 && p[8] == 'V' && queue_be64_get(p) == ids[NEW])
            kept_bytes += value.mv_size;
    }
    mdb_cursor_close(cursor);
}

/* What was set aside can be all there is of a message: it goes only for a better one. */
static void test_what_was_set_aside_stays(void **state)
{
    struct fixture *f = *state;
    damage(f, left_beside);
    damage(f, note_kept);
    uint64_t before = kept_bytes;
    assert_true(before > 50);
    (void)checked(f, true);
    damage(f, note_kept);
    assert_int_equal(kept_bytes, before);
}

static void test_all_damages_at_once(void **state)
{
    struct fixture *f = *state;
    static const damage_fn some[] = {
        flip_record, lose_body_row, lose_due,      stray_due,           miscount_list,
        lose_next,   lose_attempt,  lose_counters, foreign_message_row, orphan_body};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        damage(f, some[i]);
    struct queue_check_result result = checked(f, true);
    assert_true(result.problems >=
                sizeof some / sizeof some[0] - 1); /* NEW is set aside: stray_due is its */
    assert_int_equal(result.repaired, result.problems);
    result = checked(f, false);
    if (result.problems != 0)
        print_lines();
    assert_int_equal(result.problems, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_damage),
        cmocka_unit_test_setup_teardown(test_what_was_set_aside_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_damages_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
