/* A long list or a large body is removed in steps: nobody sees what is left of it meanwhile, and
 * whatever interrupts the steps, all of it goes in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <lmdb.h>
#include <sys/wait.h>

#include "tests/unit/queue_fixture.h"

#define RCPTS      12000
#define DOMAINS    300
#define LARGE_BODY ((size_t)24 << 20)
#define SMALL      (UINT64_C(1) << 20) /* pages of an empty queue take less */

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

/* ---- large things ---- */

static void accept_large_body(struct fixture *f, uint64_t *id_out)
{
    char *body = calloc(1, LARGE_BODY);
    assert_non_null(body);
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body, LARGE_BODY, id_out), 0);
    free(body);
    assert_true(fixture_counts(f).file_bytes > LARGE_BODY);
}

static void accept_long_list(struct fixture *f, uint64_t *id_out)
{
    static char addresses[RCPTS][64];
    static char domains[DOMAINS][32];
    static struct queue_recipient rcpts[RCPTS];
    struct queue_envelope envelope = {
        .sender = "s", .recipients = rcpts, .recipient_count = RCPTS, .sign_domain = ""};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    for (size_t i = 0; i < DOMAINS; i++)
        (void)snprintf(domains[i], sizeof domains[i], "d%zu.example", i);
    for (size_t i = 0; i < RCPTS; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%zu@%s", i, domains[i % DOMAINS]);
        rcpts[i] =
            (struct queue_recipient){.address = addresses[i], .domain = domains[i % DOMAINS]};
    }
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, id_out), 0);
    assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
}

/* One attempt of every recipient, in a record of each unit. */
static void defer_all(struct fixture *f, uint64_t id)
{
    static struct queue_rcpt_outcome outcomes[RCPTS / DOMAINS];
    struct queue_attempt attempt = fixture_attempt("later");
    struct answer answer = {ANSWER_NONE, 0};
    for (uint32_t u = 0; u < DOMAINS; u++) {
        for (uint32_t i = 0; i < RCPTS / DOMAINS; i++)
            outcomes[i] =
                (struct queue_rcpt_outcome){i * DOMAINS + u, QUEUE_RCPT_WAITING, &attempt};
        struct queue_outcome outcome = {.id = id,
                                        .unit = (uint16_t)u,
                                        .recipients = outcomes,
                                        .recipient_count = RCPTS / DOMAINS,
                                        .due_unix_ms = 1800000000000,
                                        .count_attempt = true};
        queue_record(f->queue, f->port, &outcome, fixture_on_done, &answer);
    }
    assert_true(fixture_wait(f, &answer.times, DOMAINS));
    assert_int_equal(answer.result, 0);
}

/* ---- what is seen of it ---- */

static bool see_any(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    (void)id;
    (void)envelope;
    *(size_t *)ctx += 1;
    return true;
}

static void assert_nobody_sees(struct fixture *f, uint64_t id)
{
    struct queue_message *message = NULL;
    struct queue_counts counts = fixture_counts(f);
    uint64_t ids[4];
    uint64_t after = 0;
    size_t seen = 0;
    char byte;
    int more = 1;
    assert_int_equal(queue_read_message(f->queue, id, &message), 1);
    assert_int_equal(queue_read_body(f->queue, id, 0, &byte, 1), QUEUE_READ_GONE);
    assert_int_equal(queue_read_ids(f->queue, 0, ids, 4), 0);
    assert_int_equal(queue_read_fresh(f->queue, 0, ids, 4), 0);
    while (more == 1)
        more = queue_scan(f->queue, &after, see_any, &seen);
    assert_int_equal(more, 0);
    assert_int_equal(seen, 0);
    assert_int_equal(counts.messages, 0);
    assert_int_equal(counts.bytes, 0);
    assert_int_equal(counts.units_fresh + counts.units_deferred + counts.units_held, 0);
    fixture_check_all(f);
}

/* ---- the store, while no queue has it open ---- */

static MDB_txn *open_store(struct fixture *f, const char *database, MDB_env **env, MDB_dbi *dbi)
{
    MDB_txn *txn = NULL;
    assert_int_equal(mdb_env_create(env), 0);
    assert_int_equal(mdb_env_set_maxdbs(*env, 20), 0);
    assert_int_equal(mdb_env_set_mapsize(*env, 1u << 30), 0);
    assert_int_equal(mdb_env_open(*env, f->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(*env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, 0, dbi), 0);
    return txn;
}

static size_t rows_of(struct fixture *f, const char *database)
{
    MDB_env *env = NULL;
    MDB_dbi dbi;
    MDB_stat stat;
    MDB_txn *txn = open_store(f, database, &env, &dbi);
    assert_int_equal(mdb_stat(txn, dbi, &stat), 0);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return stat.ms_entries;
}

/* Until nothing is left; closing leaves some to the next start each time. */
static void await_empty(struct fixture *f)
{
    size_t left = 1;
    for (int i = 0; i < 5000 && fixture_counts(f).file_bytes > SMALL; i++)
        (void)usleep(2000);
    assert_true(fixture_counts(f).file_bytes < SMALL);
    for (int i = 0; i < 100 && left > 0; i++) {
        (void)usleep(20000);
        fixture_close(f);
        left = rows_of(f, "incoming");
        fixture_open(f);
    }
    fixture_close(f);
    assert_int_equal(left, 0);
    assert_int_equal(rows_of(f, "message"), 0);
    assert_int_equal(rows_of(f, "body"), 0);
    assert_int_equal(rows_of(f, "attempt"), 0);
    fixture_open(f);
    fixture_check_all(f);
}

/* A row with a key that no version writes. */
static void add_odd_row(struct fixture *f, const char *database, uint64_t id)
{
    uint8_t bytes[11] = {0};
    MDB_env *env = NULL;
    MDB_dbi dbi;
    MDB_txn *txn = open_store(f, database, &env, &dbi);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(id >> (56 - 8 * i));
    MDB_val key = {sizeof bytes, bytes};
    MDB_val value = {4, (void *)"junk"};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void assert_clean(const struct fixture *f, bool repair)
{
    struct queue_check_result result;
    char error[256] = "";
    assert_int_equal(
        queue_check(f->folder, repair, fixture_problem, NULL, &result, error, sizeof error), 0);
    assert_int_equal(result.problems, 0);
    assert_int_equal(result.messages, 0);
    assert_int_equal(result.damaged, 0);
}

/* Remove a large message and close before all of it is swept. */
static void leave_a_rest(struct fixture *f)
{
    uint64_t id = 0;
    for (int i = 0; i < 20; i++) {
        accept_large_body(f, &id);
        assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
        fixture_close(f);
        if (rows_of(f, "body") > 0)
            break;
        fixture_open(f);
    }
    assert_true(rows_of(f, "body") > 0);
    assert_int_equal(rows_of(f, "incoming"), 1);
    assert_int_equal(rows_of(f, "message"), 0);
}

/* ---- tests ---- */

static void a_large_body_goes(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    accept_large_body(f, &id);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_int_equal(fixture_record(f, id, 1, 1, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_nobody_sees(f, id);
    await_empty(f);
}

static void a_long_list_goes_with_its_attempts(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    accept_long_list(f, &id);
    defer_all(f, id);
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    assert_nobody_sees(f, id);
    await_empty(f);
}

static void a_rest_is_no_problem_and_goes_at_the_next_start(void **state)
{
    struct fixture *f = *state;
    leave_a_rest(f);
    assert_clean(f, false);
    assert_clean(f, true);
    assert_true(rows_of(f, "body") > 0);
    f->notice_count = 0;
    fixture_open(f);
    fixture_check_all(f);
    await_empty(f);
    assert_int_equal(f->notice_count, 0); /* it was no interrupted transfer */
}

static bool write_bytes(const void *bytes, size_t len, void *ctx)
{
    return write(*(int *)ctx, bytes, len) == (ssize_t)len;
}

static void a_rest_is_not_in_a_backup(void **state)
{
    struct fixture *f = *state;
    struct fixture *g = fixture_new();
    struct queue_backup_result backup;
    struct queue_restore_result restored;
    char error[256] = "";
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    assert_true(fd >= 0);
    leave_a_rest(f);
    assert_int_equal(queue_backup_folder(f->folder, write_bytes, &fd, &backup, error, sizeof error),
                     0);
    assert_int_equal(backup.messages, 0);
    assert_true(backup.bytes < SMALL);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct queue_restore_source source = {.folder = g->folder, .fd = fd};
    assert_int_equal(queue_restore(&source, fixture_problem, NULL, &restored, error, sizeof error),
                     0);
    assert_int_equal(restored.check.problems, 0);
    assert_int_equal(rows_of(g, "body"), 0);
    (void)close(fd);
    fixture_open(g);
    fixture_free(&g);
    fixture_open(f);
}

static void odd_rows_go_too(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    accept_long_list(f, &id);
    fixture_close(f);
    add_odd_row(f, "body", id);
    add_odd_row(f, "attempt", id);
    add_odd_row(f, "message", id);
    fixture_open(f);
    assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    await_empty(f);
}

/* Several at once, mail coming and going between their steps. */
static void mail_goes_on_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t ids[4];
    uint64_t id = 0;
    for (size_t i = 0; i < 4; i++)
        accept_large_body(f, &ids[i]);
    for (size_t i = 0; i < 4; i++)
        queue_admin(f->queue, f->port, QUEUE_VERB_DELETE, ids[i], NULL, 0, NULL, fixture_on_done,
                    &answer);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
        assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    }
    assert_true(fixture_wait(f, &answer.times, 4));
    assert_int_equal(answer.result, 0);
    assert_nobody_sees(f, id);
    await_empty(f);
}

static void an_aborted_transfer_goes(void **state)
{
    struct fixture *f = *state;
    static char piece[QUEUE_PIECE_MAX];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 5000 && fixture_counts(f).file_bytes < 40 * sizeof piece; i++)
        (void)usleep(2000);
    assert_true(fixture_counts(f).file_bytes >= 40 * sizeof piece);
    queue_put_abort(put);
    await_empty(f);
}

/* Another process: it takes a message in, and is killed before that is whole. */
static void begin_and_die(const char *folder, int answer_fd)
{
    static char piece[QUEUE_PIECE_MAX];
    struct fixture *f = fixture_new();
    struct queue_put *put = NULL;
    uint64_t id = 0;
    (void)rmdir(f->folder);
    (void)snprintf(f->folder, sizeof f->folder, "%s", folder);
    fixture_open(f);
    bool fine = queue_put_begin(f->queue, f->port, &put, &id) == 0;
    for (int i = 0; fine && i < 20; i++)
        fine = queue_put_piece(put, piece, sizeof piece, NULL, NULL) == 0;
    for (int i = 0; i < 5000 && fixture_counts(f).file_bytes < 20 * sizeof piece; i++)
        (void)usleep(2000);
    fine = fine && write(answer_fd, &id, sizeof id) == (ssize_t)sizeof id;
    _exit(fine ? 0 : 1);
}

/* Else the sweep would take the new message's bytes for what the old one left. */
static void the_id_of_a_rest_is_not_given_out_again(void **state)
{
    struct fixture *f = *state;
    struct queue_put *put = NULL;
    uint64_t id = 0;
    uint64_t old = 0;
    int fds[2];
    int status = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "body", 4, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    fixture_close(f);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        begin_and_die(f->folder, fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], &old, sizeof old), sizeof old);
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_true(old > id);
    fixture_open(f); /* at once: by the clock alone ids would begin where they did before */
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_true(id > old);
    queue_put_abort(put);
    await_empty(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_body_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_list_goes_with_its_attempts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rest_is_no_problem_and_goes_at_the_next_start, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_rest_is_not_in_a_backup, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_rows_go_too, setup, teardown),
        cmocka_unit_test_setup_teardown(mail_goes_on_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(an_aborted_transfer_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_id_of_a_rest_is_not_given_out_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
