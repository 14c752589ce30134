/* A disk that fails: full, broken at a page, at the sync, at the meta page. This program's own
 * pwrite, writev and fdatasync stand before the C library's, also for LMDB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/unit/queue_fixture.h"

#define META_MAX 8192 /* LMDB's meta pages are the first two */

enum fault {
    FAULT_NONE,
    FAULT_WRITE_ENOSPC, /* a page cannot be written */
    FAULT_WRITE_EIO,
    FAULT_SYNC_EIO,
    FAULT_META_BEFORE, /* the meta page cannot be written, nothing of it arrived */
    FAULT_META_AFTER,  /* it arrived, but the call fails */
    FAULT_META_BROKEN, /* as BEFORE, and the store cannot be opened again for a while */
    FAULT_META_LATE,   /* as AFTER, and so */
};

static _Atomic int fault;
static _Atomic int fault_count; /* how many calls still fail */
static _Atomic int hits;
static _Atomic int rewrites; /* of both meta pages, from the first byte on */

static bool hit(enum fault which)
{
    if (atomic_load(&fault) != (int)which || atomic_load(&fault_count) <= 0)
        return false;
    atomic_fetch_sub(&fault_count, 1);
    atomic_fetch_add(&hits, 1);
    return true;
}

static void set_fault(enum fault which, int count)
{
    atomic_store(&fault, (int)which);
    atomic_store(&fault_count, count);
    atomic_store(&hits, 0);
}

static bool page_fault(void)
{
    if (hit(FAULT_WRITE_ENOSPC)) {
        errno = ENOSPC;
        return true;
    }
    if (hit(FAULT_WRITE_EIO)) {
        errno = EIO;
        return true;
    }
    return false;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    bool meta = n < 4096 && n > 64 && offset < META_MAX;
    if (offset == 0 && n == META_MAX)
        atomic_fetch_add(&rewrites, 1);
    if (!meta && n >= 4096 && page_fault())
        return -1;
    if (meta && (hit(FAULT_META_BEFORE) || hit(FAULT_META_BROKEN))) {
        errno = EIO;
        return -1;
    }
    if (meta && (hit(FAULT_META_AFTER) || hit(FAULT_META_LATE))) {
        if (atomic_load(&hits) == 1) /* next LMDB tries to put the old page back */
            (void)syscall(SYS_pwrite64, fd, buf, n, offset);
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, buf, n, offset);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (count > 0 && iov[0].iov_len >= 4096 && page_fault())
        return -1;
    return syscall(SYS_writev, fd, iov, count);
}

ssize_t write(int fd, const void *buf, size_t n)
{
    if (n >= 4096 && page_fault())
        return -1;
    return syscall(SYS_write, fd, buf, n);
}

int fdatasync(int fd)
{
    bool broken = atomic_load(&hits) > 0 && /* from the meta page on */
                  (hit(FAULT_META_BROKEN) || hit(FAULT_META_LATE));
    if (broken || hit(FAULT_SYNC_EIO)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    set_fault(FAULT_NONE, 0);
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    set_fault(FAULT_NONE, 0);
    fixture_free((struct fixture **)state);
    return 0;
}

static bool is_there(struct fixture *f, uint64_t id, const char *body)
{
    struct queue_message *message = NULL;
    char got[64] = "";
    int rc = queue_read_message(f->queue, id, &message);
    queue_message_free(&message);
    if (rc != 0)
        return false;
    assert_int_equal(queue_read_body(f->queue, id, 0, got, sizeof got), strlen(body));
    assert_string_equal(got, body);
    return true;
}

/* Faults that leave nothing behind, and what is told. */
static void nothing_is_stored_and_it_passes(void **state)
{
    static const struct {
        enum fault fault;
        int result;
    } cases[] = {
        {FAULT_WRITE_ENOSPC, QUEUE_ERR_FULL},
        {FAULT_WRITE_EIO, QUEUE_ERR_IO},
        {FAULT_SYNC_EIO, QUEUE_ERR_IO},
        {FAULT_META_BEFORE, QUEUE_ERR_IO},
    };
    struct fixture *f = *state;
    uint64_t old = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &old), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t id = 0;
        uint64_t after = 0;
        set_fault(cases[i].fault, 1);
        assert_int_equal(fixture_accept(f, "a@x.example", "lost", 4, &id), cases[i].result);
        assert_int_equal(atomic_load(&hits), 1);
        set_fault(FAULT_NONE, 0);
        assert_false(is_there(f, id, "lost"));
        if (cases[i].fault == FAULT_WRITE_ENOSPC) /* nearly full is believed for a second */
            sleep(2);
        assert_int_equal(fixture_accept(f, "a@x.example", "new", 3, &after), 0);
        fixture_reopen(f);
        assert_false(is_there(f, id, "lost"));
        assert_true(is_there(f, after, "new"));
        assert_true(is_there(f, old, "old"));
        assert_int_equal(fixture_counts(f).messages, i + 2);
    }
    fixture_settle(f);
    assert_int_equal(f->fresh_count, 5);
    assert_true(f->notice_count >= 4);
}

/* The commit failed for LMDB, but the disk has it: looked at again, it counts. */
static void a_commit_that_arrived_counts(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    uint64_t more = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &id), 0);
    set_fault(FAULT_META_AFTER, 2);
    atomic_store(&rewrites, 0);
    assert_int_equal(fixture_accept(f, "a@x.example", "new", 3, &id), 0);
    assert_int_equal(atomic_load(&hits), 2);
    /* The cache that says so may be ahead of the disk, which no sync would know: written once more.
     */
    assert_int_equal(atomic_load(&rewrites), 1);
    set_fault(FAULT_NONE, 0);
    assert_true(is_there(f, id, "new"));
    fixture_settle(f);
    assert_int_equal(f->fresh_count, 2);
    assert_int_equal(fixture_counts(f).messages, 2);
    assert_int_equal(fixture_accept(f, "a@x.example", "more", 4, &more), 0);
    fixture_reopen(f);
    assert_true(is_there(f, id, "new"));
    assert_int_equal(fixture_counts(f).messages, 3);
}

/* Outcomes survive a full disk: they are tried again without the messages beside them. */
static void outcomes_go_on_when_full(void **state)
{
    struct fixture *f = *state;
    struct answer done = {ANSWER_NONE, 0};
    struct answer put_done = {ANSWER_NONE, 0};
    struct queue_rcpt_outcome rcpt = {0, QUEUE_RCPT_WAITING, NULL};
    struct queue_outcome outcome = {
        .recipients = &rcpt, .recipient_count = 1, .due_unix_ms = 5, .count_attempt = true};
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    uint64_t id = 0;
    uint64_t lost = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &id), 0);
    outcome.id = id;
    fixture_envelope(&e, "b@y.example", space);
    set_fault(FAULT_WRITE_ENOSPC, 1);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &lost), 0);
    queue_record(f->queue, f->port, &outcome, fixture_on_done, &done);
    queue_put_commit(put, &e.envelope, fixture_on_done, &put_done);
    assert_int_equal(fixture_result(f, &done), 0);
    assert_int_equal(fixture_result(f, &put_done), QUEUE_ERR_FULL);
    assert_int_equal(atomic_load(&hits), 1);
    assert_int_equal(fixture_counts(f).units_deferred, 1);
    assert_int_equal(fixture_counts(f).messages, 1);
    assert_true(queue_is_full(f->queue, 0)); /* until the next look at the disk */
    char path[128];
    (void)snprintf(path, sizeof path, "%s/ballast", f->folder);
    assert_int_equal(access(path, F_OK), -1);
    sleep(2);
    assert_false(queue_is_full(f->queue, 0));
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 6), 0);
    fixture_settle(f);
    assert_int_equal(access(path, F_OK), 0); /* and made again */
}

/* Pieces that failed make the commit fail, and what was stored of it before is removed. */
static void a_failed_piece_fails_the_message(void **state)
{
    struct fixture *f = *state;
    static char piece[QUEUE_PIECE_MAX];
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    fixture_envelope(&e, "b@y.example", space);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 500 && fixture_counts(f).file_bytes < 8 * sizeof piece; i++)
        usleep(2000);
    assert_true(fixture_counts(f).file_bytes >= 8 * sizeof piece);
    set_fault(FAULT_WRITE_EIO, 1);
    assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 500 && atomic_load(&hits) == 0; i++)
        usleep(2000);
    set_fault(FAULT_NONE, 0);
    assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), QUEUE_ERR_IO);
    for (int i = 0; i < 500 && fixture_counts(f).file_bytes >= sizeof piece; i++)
        fixture_settle(f); /* it is removed in steps */
    assert_true(fixture_counts(f).file_bytes < sizeof piece);
    assert_int_equal(fixture_counts(f).messages, 0);
}

/* Nothing may be told until the store opens again; then everything works, and nothing is there
 * twice. */
static void undecided_for_a_while(struct fixture *f, enum fault which, bool stored)
{
    uint64_t old = 0;
    uint64_t id = 0;
    uint64_t refused = 0;
    struct queue_message *message = NULL;
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &old), 0);
    set_fault(which, 1000);
    assert_int_equal(fixture_accept(f, "a@x.example", "new", 3, &id), QUEUE_ERR_UNSURE);
    assert_int_equal(queue_read_message(f->queue, old, &message), QUEUE_ERR_IO);
    assert_int_equal(fixture_accept(f, "a@x.example", "refused", 7, &refused), QUEUE_ERR_IO);
    assert_int_equal(fixture_record(f, old, 0, 0, QUEUE_RCPT_WAITING, 6), QUEUE_ERR_IO);
    set_fault(FAULT_NONE, 0);
    for (int i = 0; i < 40 && !is_there(f, old, "old"); i++)
        usleep(100000); /* tried again after a second */
    assert_true(is_there(f, old, "old"));
    assert_false(is_there(f, refused, "refused"));
    fixture_settle(f); /* reading works a moment before counting does */
    assert_int_equal(is_there(f, id, "new"), stored);
    assert_int_equal(fixture_counts(f).messages, stored ? 2 : 1);
    assert_int_equal(f->fresh_count, stored ? 2 : 1);
    assert_int_equal(fixture_record(f, old, 0, 0, QUEUE_RCPT_DELIVERED, 6), 0);
}

static void undecided_and_not_stored(void **state)
{
    undecided_for_a_while(*state, FAULT_META_BROKEN, false);
}

/* Nobody was told of it; it is announced for delivery all the same. */
static void undecided_and_stored(void **state)
{
    undecided_for_a_while(*state, FAULT_META_LATE, true);
}

static size_t due_notes_at(struct fixture *f, int64_t due)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->due_count; i++)
        count += f->due[i].due == due ? 1 : 0;
    (void)pthread_mutex_unlock(&f->lock);
    return count;
}

/* Nor was anybody told that a unit has its time: else nobody would look for it. */
static void undecided_outcome_and_stored(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0;
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &id), 0);
    set_fault(FAULT_META_LATE, 1000);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 77), QUEUE_ERR_UNSURE);
    assert_int_equal(due_notes_at(f, 77), 0);
    set_fault(FAULT_NONE, 0);
    for (int i = 0; i < 40 && !is_there(f, id, "old"); i++)
        usleep(100000);
    fixture_settle(f);
    assert_int_equal(fixture_counts(f).units_deferred, 1);
    assert_int_equal(due_notes_at(f, 77), 1);
}

/* What is left of a large message goes although a step fails, and nobody else wakes the writer. */
static void a_failed_sweep_is_tried_again(void **state)
{
    struct fixture *f = *state;
    static char body[1 << 20];
    for (int i = 0; i < 20 && atomic_load(&hits) == 0; i++) {
        uint64_t id = 0;
        assert_int_equal(fixture_accept(f, "a@x.example", body, sizeof body, &id), 0);
        assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
        set_fault(FAULT_SYNC_EIO, 1); /* in time, unless the machine is very busy */
        for (int k = 0; k < 100 && atomic_load(&hits) == 0; k++)
            (void)usleep(1000);
    }
    assert_int_equal(atomic_load(&hits), 1);
    for (int k = 0; k < 5000 && fixture_counts(f).file_bytes > sizeof body / 2; k++)
        (void)usleep(2000);
    assert_true(fixture_counts(f).file_bytes < sizeof body / 2);
}

/* Opening it again was tried, and failed. */
static bool is_broken(struct fixture *f)
{
    struct queue_metrics metrics;
    queue_read_metrics(f->queue, &metrics);
    return metrics.broken;
}

/* A message whose bytes are undecided is none, whatever becomes of them: it is refused, and nothing
 * of it stays. */
static void an_undecided_piece(struct fixture *f, enum fault which)
{
    static char piece[QUEUE_PIECE_MAX];
    struct fixture_envelope e;
    char space[512];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t old = 0;
    uint64_t id = 0;
    fixture_envelope(&e, "b@y.example", space);
    assert_int_equal(fixture_accept(f, "a@x.example", "old", 3, &old), 0);
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 500 && fixture_counts(f).file_bytes < sizeof piece; i++)
        usleep(2000);
    set_fault(which, 1000);
    assert_int_equal(queue_put_piece(put, piece, sizeof piece, NULL, NULL), 0);
    for (int i = 0; i < 500 && !is_broken(f); i++)
        usleep(2000);
    assert_true(is_broken(f));
    set_fault(FAULT_NONE, 0);
    for (int i = 0; i < 40 && !is_there(f, old, "old"); i++)
        usleep(100000);
    fixture_settle(f);
    queue_put_commit(put, &e.envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), QUEUE_ERR_IO);
    for (int i = 0; i < 500 && fixture_counts(f).file_bytes >= sizeof piece; i++)
        fixture_settle(f);
    assert_true(fixture_counts(f).file_bytes < sizeof piece);
    assert_true(is_there(f, old, "old"));
    assert_int_equal(fixture_counts(f).messages, 1);
}

static void an_undecided_piece_fails_the_message(void **state)
{
    an_undecided_piece(*state, FAULT_META_BROKEN);
}

static void and_if_it_was_stored_after_all(void **state)
{
    an_undecided_piece(*state, FAULT_META_LATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_stored_and_it_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_that_arrived_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(outcomes_go_on_when_full, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_piece_fails_the_message, setup, teardown),
        cmocka_unit_test_setup_teardown(an_undecided_piece_fails_the_message, setup, teardown),
        cmocka_unit_test_setup_teardown(and_if_it_was_stored_after_all, setup, teardown),
        cmocka_unit_test_setup_teardown(undecided_and_not_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(undecided_and_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(undecided_outcome_and_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_sweep_is_tried_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
