/* Room: a disk that is nearly full, a quota that only a refused write tells of, max_size made
 * smaller, and what is counted as used. This program's statvfs, fallocate and writes stand before
 * the C library's, also for LMDB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define MIB      (UINT64_C(1) << 20)
#define BODY     100000
#define NO_LIMIT UINT64_MAX

/* ---- the disk ---- */

static _Atomic uint64_t disk_free = NO_LIMIT; /* what statvfs tells */
static _Atomic int over_quota;                /* errno of whatever would take new blocks; 0: none */
static _Atomic bool little_left;              /* for writes: the ballast's blocks, say */
static _Atomic bool cut_short;                /* of a write that is refused the first page passes */
static _Atomic int denied;                    /* how often blocks were refused */

int statvfs(const char *path, struct statvfs *fs)
{
    (void)path;
    uint64_t bytes = atomic_load(&disk_free);
    *fs = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1 << 20};
    fs->f_bavail = (bytes == NO_LIMIT ? 4096 * MIB : bytes) / 4096;
    fs->f_bfree = fs->f_bavail;
    return 0;
}

static bool is_denied(void)
{
    int code = atomic_load(&over_quota);
    if (code == 0)
        return false;
    atomic_fetch_add(&denied, 1);
    errno = code;
    return true;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (mode == 0 && is_denied())
        return -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

/* Only what lies beyond the file's end takes blocks. */
static bool is_growth_denied(int fd, off_t end)
{
    struct stat st;
    return fstat(fd, &st) == 0 && end > st.st_size && !atomic_load(&little_left) && is_denied();
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    if (is_growth_denied(fd, offset + (off_t)len))
        return -1;
    return syscall(SYS_pwrite64, fd, bytes, len, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    size_t len = 0;
    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    if (is_growth_denied(fd, lseek(fd, 0, SEEK_CUR) + (off_t)len)) {
        if (!atomic_load(&cut_short))
            return -1;
        count = 1;
    }
    return syscall(SYS_writev, fd, parts, count);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    atomic_store(&disk_free, NO_LIMIT);
    atomic_store(&over_quota, 0);
    atomic_store(&little_left, false);
    atomic_store(&cut_short, false);
    atomic_store(&denied, 0);
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    atomic_store(&over_quota, 0);
    fixture_free((struct fixture **)state);
    return 0;
}

static int accept_one(struct fixture *f, uint64_t *id_out)
{
    static char body[BODY];
    return fixture_accept(f, "a@x.example", body, BODY, id_out);
}

static bool has_ballast(const struct fixture *f)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/ballast", f->folder);
    return access(path, F_OK) == 0;
}

/* The disk is looked at once a second. */
static bool comes_to_be_full(const struct fixture *f, uint64_t bytes, bool full)
{
    for (int i = 0; i < 50 && queue_is_full(f->queue, bytes) != full; i++)
        usleep(100000);
    return queue_is_full(f->queue, bytes) == full;
}

static uint64_t blocks_of(const struct fixture *f)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Nearly full is told before anything is taken; what makes room goes on, and it ends by itself. */
static void a_disk_nearly_full(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[20];
    uint64_t id = 0;
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    atomic_store(&disk_free, MIB);
    assert_true(comes_to_be_full(f, 0, true));
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    assert_true(has_ballast(f)); /* nothing had to be tried */
    assert_int_equal(fixture_record(f, ids[0], 0, 0, QUEUE_RCPT_WAITING, 9), 0);
    assert_int_equal(fixture_record(f, ids[1], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_int_equal(fixture_counts(f).messages, 19);
    atomic_store(&disk_free, 200 * MIB);
    assert_true(comes_to_be_full(f, BODY, false));
    assert_true(queue_is_full(f->queue, 190 * MIB)); /* 64 MiB are kept */
    assert_int_equal(accept_one(f, &id), 0);
}

/* statvfs does not know of it: blocks it calls free are refused. Nobody has anything to write, and
 * still the end is noticed. */
static void meet_quota(struct fixture *f, int code, bool short_writes)
{
    uint64_t ids[40];
    uint64_t id = 0;
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    assert_true(has_ballast(f));
    atomic_store(&cut_short, short_writes);
    atomic_store(&over_quota, code);
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    assert_false(has_ballast(f));
    usleep(2500000); /* the disk is looked at, and asked for a ballast */
    assert_true(queue_is_full(f->queue, 0));
    int before = atomic_load(&denied);
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    assert_true(atomic_load(&denied) <= before + 1); /* not tried: that was the ballast again */
    atomic_store(&over_quota, 0);
    assert_true(comes_to_be_full(f, BODY, false));
    assert_true(has_ballast(f));
    assert_int_equal(accept_one(f, &id), 0);
    assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
}

static void a_quota(void **state)
{
    meet_quota(*state, EDQUOT, false);
}

static void a_disk_that_tells_of_room_it_has_not(void **state)
{
    meet_quota(*state, ENOSPC, false);
}

/* A write that was cut short is an I/O error to LMDB. */
static void a_quota_met_within_a_write(void **state)
{
    meet_quota(*state, EDQUOT, true);
}

/* Over quota from the start: nothing is tried before something is given back. */
static void a_start_over_quota(void **state)
{
    struct fixture *f = *state;
    char path[128];
    uint64_t id = 0;
    fixture_close(f);
    (void)snprintf(path, sizeof path, "%s/ballast", f->folder);
    assert_int_equal(unlink(path), 0);
    atomic_store(&over_quota, EDQUOT);
    fixture_open(f);
    assert_true(queue_is_full(f->queue, 0));
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    assert_int_equal(f->notice_count, 0); /* no transaction failed */
    atomic_store(&over_quota, 0);
    assert_true(comes_to_be_full(f, BODY, false));
    assert_int_equal(accept_one(f, &id), 0);
}

/* What is there under the name but holds no blocks, as after a copy, is no ballast. */
static void a_hollow_ballast_is_filled(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat st;
    fixture_close(f);
    (void)snprintf(path, sizeof path, "%s/ballast", f->folder);
    assert_int_equal(stat(path, &st), 0);
    if (st.st_blocks == 0) {
        fixture_open(f);
        skip(); /* a file system that gives no blocks ahead */
    }
    int64_t blocks = (int64_t)st.st_blocks;
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, st.st_size), 0);
    fixture_open(f);
    assert_int_equal(stat(path, &st), 0);
    assert_true((int64_t)st.st_blocks >= blocks);
}

/* LMDB stores into its list of readers through a map: holes would end the process on a full disk.
 */
static void the_list_of_readers_has_blocks(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/lock.mdb", f->folder);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_size >= 500 * 64);
        assert_true((off_t)st.st_blocks * 512 >= st.st_size);
        fixture_close(f);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(truncate(path, st.st_size), 0);
        fixture_open(f);
    }
}

/* Over quota, but with pages of our own to give: these are used. */
static void free_pages_count_under_a_quota(void **state)
{
    struct fixture *f = *state;
    enum { MANY = 900 }; /* 88 MiB: more than is kept, 64 and 16 for the ballast while it is away */
    static uint64_t ids[MANY];
    uint64_t id = 0;
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    atomic_store(&over_quota, EDQUOT);
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    atomic_store(&little_left, true);
    for (size_t i = 0; i < MANY / 10; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    usleep(1500000); /* the disk is asked for a ballast */
    assert_false(has_ballast(f));
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL); /* room is kept for what is there */
    for (size_t i = MANY / 10; i < MANY; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    atomic_store(&little_left, false);
    assert_true(comes_to_be_full(f, BODY, false));
    assert_int_equal(accept_one(f, &id), 0);
}

/* max_size below what is stored: nothing new, all else; and new mail again once enough has gone. */
static void a_smaller_max_size(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[100];
    uint64_t id = 0;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    fixture_close(f);
    fixture_open_max(f, 4 * MIB);
    assert_true(queue_is_full(f->queue, 0));
    assert_int_equal(accept_one(f, &id), QUEUE_ERR_FULL);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_WAITING, 9), 0);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_true(queue_is_full(f->queue, 0)); /* half is still more than 4 MiB */
    for (size_t i = 50; i < 100; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_false(queue_is_full(f->queue, BODY));
    assert_int_equal(accept_one(f, &id), 0);
}

/* What is used follows what is stored, through churn and compacting; the sum of what the disk has
 * and the file holds does not change by compacting. */
static void used_space_is_true(void **state)
{
    struct fixture *f = *state;
    enum { LIVE = 100 };
    uint64_t ids[LIVE];
    uint64_t seed = 1;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t empty = fixture_counts(f).file_bytes;
    for (size_t i = 0; i < LIVE; i++)
        assert_int_equal(accept_one(f, &ids[i]), 0);
    uint64_t filled = fixture_counts(f).file_bytes - empty;
    assert_true(filled >= LIVE * (uint64_t)BODY && filled < LIVE * (uint64_t)BODY * 11 / 10);
    for (size_t turn = 0; turn < 3 * LIVE; turn++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        size_t at = (seed >> 33) % LIVE;
        assert_int_equal(fixture_record(f, ids[at], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
        assert_int_equal(accept_one(f, &ids[at]), 0);
    }
    uint64_t churned = fixture_counts(f).file_bytes - empty;
    assert_true(churned >= LIVE * (uint64_t)BODY && churned < LIVE * (uint64_t)BODY * 12 / 10);
    assert_true(blocks_of(f) < 2 * filled); /* free pages were taken first */
    for (size_t i = 0; i < LIVE; i++)
        assert_int_equal(fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_DELIVERED, 0), 0);
    assert_true(fixture_counts(f).file_bytes < empty + MIB);
    uint64_t before = blocks_of(f);
    assert_int_equal(queue_compact_start(f->queue, f->port, fixture_on_done, &answer), 0);
    int rc = fixture_result(f, &answer);
    if (rc == QUEUE_ERR_UNABLE)
        return; /* a file system without holes */
    assert_int_equal(rc, 0);
    uint64_t after = blocks_of(f);
    assert_true(after < before / 2);
    /* 64 MiB are kept: what was given back is room */
    atomic_store(&disk_free, 64 * MIB + before - after);
    usleep(1200000);
    assert_false(queue_is_full(f->queue, BODY));
    assert_true(queue_is_full(f->queue, before));
    assert_int_equal(accept_one(f, &ids[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_nearly_full, setup, teardown),
        cmocka_unit_test_setup_teardown(a_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_tells_of_room_it_has_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_quota_met_within_a_write, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_over_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hollow_ballast_is_filled, setup, teardown),
        cmocka_unit_test_setup_teardown(the_list_of_readers_has_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(free_pages_count_under_a_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(a_smaller_max_size, setup, teardown),
        cmocka_unit_test_setup_teardown(used_space_is_true, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
