/* Space goes back to the disk; no message and no reader notices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lmdb.h>
#include <sys/wait.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define MESSAGES 600
#define BODY     20000

static uint64_t ids[MESSAGES];
static char body[BODY];

static uint64_t disk_bytes(const struct fixture *f)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* All at once, so that few commits are waited for. */
static void fill(struct fixture *f)
{
    static struct answer answers[MESSAGES];
    struct fixture_envelope e;
    char space[512];
    fixture_envelope(&e, "a@x.example", space);
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < MESSAGES; i++) {
        struct queue_put *put = NULL;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &ids[i]), 0);
        memset(body, (int)('a' + i % 26), sizeof body);
        assert_int_equal(queue_put_piece(put, body, sizeof body, NULL, NULL), 0);
        queue_put_commit(put, &e.envelope, fixture_on_done, &answers[i]);
    }
    for (size_t i = 0; i < MESSAGES; i++)
        assert_int_equal(fixture_result(f, &answers[i]), 0);
}

/* Delete all but every 20th. */
static void drain(struct fixture *f)
{
    static struct answer answers[MESSAGES];
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < MESSAGES; i++) {
        if (i % 20 != 0)
            queue_admin(f->queue, f->port, QUEUE_VERB_DELETE, ids[i], NULL, 0, NULL,
                        fixture_on_done, &answers[i]);
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        if (i % 20 != 0)
            assert_int_equal(fixture_result(f, &answers[i]), 0);
    }
    fixture_settle(f); /* two more transactions: what was freed is out of every state's sight */
}

static void assert_rest_whole(struct fixture *f)
{
    static char got[BODY + 1];
    for (size_t i = 0; i < MESSAGES; i += 20) {
        assert_int_equal(queue_read_body(f->queue, ids[i], 0, got, sizeof got), BODY);
        for (size_t k = 0; k < BODY; k++)
            assert_int_equal(got[k], (char)('a' + i % 26));
    }
}

static int compact(struct fixture *f, struct queue_compact_progress *progress)
{
    struct answer answer = {ANSWER_NONE, 0};
    assert_int_equal(queue_compact_start(f->queue, f->port, fixture_on_done, &answer), 0);
    int rc = fixture_result(f, &answer);
    queue_compact_progress(f->queue, progress);
    return rc;
}

static void add_line(const char *line, void *ctx)
{
    (void)ctx;
    print_message("%s\n", line);
}

static void assert_clean(struct fixture *f)
{
    struct queue_check_result result;
    char error[512] = "";
    fixture_close(f);
    assert_int_equal(queue_check(f->folder, false, add_line, NULL, &result, error, sizeof error),
                     0);
    assert_int_equal(result.problems, 0);
    fixture_open(f);
}

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

static void test_gives_space_back(void **state)
{
    struct fixture *f = *state;
    struct queue_compact_progress progress;
    fill(f);
    drain(f);
    uint64_t before = disk_bytes(f);
    assert_true(before > (uint64_t)MESSAGES * BODY);
    int rc = compact(f, &progress);
    if (rc == QUEUE_ERR_UNABLE) /* on this file system */
        skip();
    assert_int_equal(rc, 0);
    assert_false(progress.going);
    assert_int_equal(progress.before_bytes, before);
    assert_int_equal(progress.now_bytes, disk_bytes(f));
    assert_true(progress.now_bytes < before / 4);
    assert_true(progress.punched_bytes >= before - progress.now_bytes);
    assert_rest_whole(f);
    assert_clean(f);
    assert_rest_whole(f);
    fill(f); /* the holes are filled again */
    assert_clean(f);
    assert_int_equal(compact(f, &progress), 0);
    drain(f);
    assert_int_equal(compact(f, &progress), 0);
    assert_rest_whole(f);
    assert_clean(f);
}

static void test_empty_and_twice(void **state)
{
    struct fixture *f = *state;
    struct queue_compact_progress progress;
    struct answer answer = {ANSWER_NONE, 0};
    int rc = compact(f, &progress);
    assert_true(rc == 0 || rc == QUEUE_ERR_UNABLE);
    fill(f);
    drain(f);
    assert_int_equal(queue_compact_start(f->queue, f->port, fixture_on_done, &answer), 0);
    queue_compact_progress(f->queue, &progress);
    if (progress.going)
        assert_int_equal(queue_compact_start(f->queue, f->port, fixture_on_done, &answer), 1);
    (void)fixture_result(f, &answer);
    /* Closing in the middle: nothing is waited for, nothing is lost. */
    fill(f);
    drain(f);
    answer = (struct answer){ANSWER_NONE, 0};
    assert_int_equal(queue_compact_start(f->queue, f->port, fixture_on_done, &answer), 0);
    assert_clean(f);
    assert_rest_whole(f);
}

/* ---- a reader that was there first ---- */

/* Sum of all bytes of all messages, as another process sees them. */
static uint64_t sum_all(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    uint64_t sum = 0;
    if (mdb_cursor_open(txn, dbi, &cursor) != 0)
        return 0;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        for (size_t i = 0; i < value.mv_size; i++)
            sum = sum * 31 + ((const uint8_t *)value.mv_data)[i];
    }
    mdb_cursor_close(cursor);
    return sum;
}

/* Look, tell that it has, wait, look again at the same state. */
static int read_twice(const char *folder, int go, int ready)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    char byte = 'r';
    if (mdb_env_create(&env) != 0 || mdb_env_set_maxdbs(env, 20) != 0 ||
        mdb_env_open(env, folder, MDB_RDONLY, 0600) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0 || mdb_dbi_open(txn, "body", 0, &dbi) != 0)
        return 2;
    uint64_t first = sum_all(txn, dbi);
    if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1)
        return 3;
    bool same = sum_all(txn, dbi) == first;
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return same ? 0 : 1;
}

static void test_long_reader_keeps_its_pages(void **state)
{
    struct fixture *f = *state;
    struct queue_compact_progress progress;
    int go[2];
    int ready[2];
    char byte = 'g';
    int status = 0;
    fill(f);
    assert_int_equal(pipe(go) | pipe(ready), 0);
    fixture_close(f); /* a fork must not have the store open */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(read_twice(f->folder, go[0], ready[1]));
    assert_int_equal(read(ready[0], &byte, 1), 1);
    fixture_open(f);
    drain(f);
    int rc = compact(f, &progress);
    assert_true(rc == 0 || rc == QUEUE_ERR_UNABLE);
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    uint64_t with_reader = progress.now_bytes;
    fixture_settle(f);
    if (rc == 0) { /* it has left */
        assert_int_equal(compact(f, &progress), 0);
        assert_true(progress.now_bytes < with_reader / 2);
    }
    assert_rest_whole(f);
    assert_clean(f);
    for (int i = 0; i < 2; i++) {
        close(go[i]);
        close(ready[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gives_space_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_and_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_reader_keeps_its_pages, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
