/* A backup of a queue in use is a whole queue; restored, it is the queue as it was then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define MESSAGES 60

static uint64_t ids[MESSAGES];
static size_t sizes[MESSAGES];
static const struct queue_patience patient = {0};

struct bytes {
    uint8_t *p;
    size_t len;
    size_t most; /* refuse beyond; 0: never */
};

static bool take_bytes(const void *bytes, size_t len, void *ctx)
{
    struct bytes *out = ctx;
    if (out->most > 0 && out->len + len > out->most)
        return false;
    out->p = realloc(out->p, out->len + len);
    assert_non_null(out->p);
    memcpy(out->p + out->len, bytes, len);
    out->len += len;
    return true;
}

static char byte_at(size_t message, size_t i)
{
    return (char)('a' + (message * 7 + i) % 26);
}

static void accept(struct fixture *f, size_t i, size_t len)
{
    static char body[200000];
    for (size_t k = 0; k < len; k++)
        body[k] = byte_at(i, k);
    sizes[i] = len;
    assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body, len, &ids[i]), 0);
}

static void assert_message(struct fixture *f, size_t i)
{
    static char got[200001];
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, ids[i], &message), 0);
    assert_int_equal(queue_message_envelope(message)->recipient_count, 2);
    queue_message_free(&message);
    assert_int_equal(queue_read_body(f->queue, ids[i], 0, got, sizeof got), sizes[i]);
    for (size_t k = 0; k < sizes[i]; k++)
        assert_true(got[k] == byte_at(i, k));
}

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    fixture_open(f);
    for (size_t i = 0; i < MESSAGES / 2; i++)
        accept(f, i, i % 10 == 0 ? 150000 : 100 + 300 * i);
    for (size_t i = 0; i < MESSAGES / 2; i += 3)
        assert_int_equal(
            fixture_record(f, ids[i], 0, 0, QUEUE_RCPT_WAITING, 1700000000000 + (int64_t)i), 0);
    queue_park(f->queue, NULL, ids[1], 1, 1700000009999, NULL, NULL);
    fixture_settle(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free((struct fixture **)state);
    return 0;
}

static struct bytes backup_of(struct fixture *f)
{
    struct bytes bytes = {0};
    struct queue_backup_result result;
    char error[512] = "";
    int rc = queue_backup(f->queue, &patient, take_bytes, &bytes, &result, error, sizeof error);
    if (rc != 0)
        fail_msg("%s", error);
    assert_int_equal(result.bytes, bytes.len);
    assert_int_equal(result.messages, fixture_counts(f).messages);
    return bytes;
}

static int file_of(const struct bytes *bytes, size_t len)
{
    char path[] = "/tmp/test-backup-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)unlink(path);
    assert_int_equal(write(fd, bytes->p, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static char first_line[512];

static void note_line(const char *line, void *ctx)
{
    (void)ctx;
    if (first_line[0] == '\0')
        (void)snprintf(first_line, sizeof first_line, "%s", line);
}

static int restore(const char *folder, const struct bytes *bytes, size_t len, bool force,
                   struct queue_restore_result *result, char error[512])
{
    int fd = file_of(bytes, len);
    error[0] = first_line[0] = '\0';
    *result = (struct queue_restore_result){0};
    struct queue_restore_source source = {folder, fd, force};
    int rc = queue_restore(&source, note_line, NULL, result, error, 512);
    close(fd);
    return rc;
}

static size_t files_in(const char *folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += entry->d_name[0] != '.' ? 1 : 0;
    closedir(dir);
    return count;
}

static void test_restored_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct fixture *other = fixture_new();
    struct queue_restore_result result;
    char error[512];
    struct bytes bytes = backup_of(f);
    assert_int_equal(rmdir(other->folder), 0);
    assert_int_equal(restore(other->folder, &bytes, bytes.len, false, &result, error), 0);
    assert_int_equal(result.check.problems, 0);
    assert_int_equal(result.check.messages, MESSAGES / 2);
    assert_string_equal(result.kept, "");
    assert_int_equal(files_in(other->folder), 2); /* data.mdb, lock */
    struct queue_counts was = fixture_counts(f);
    fixture_open(other);
    struct queue_counts is = fixture_counts(other);
    assert_int_equal(is.messages, was.messages);
    assert_int_equal(is.units_fresh, was.units_fresh);
    assert_int_equal(is.units_deferred, was.units_deferred);
    assert_int_equal(is.bytes, was.bytes);
    for (size_t i = 0; i < MESSAGES / 2; i++)
        assert_message(other, i);
    accept(other, MESSAGES / 2, 50); /* and it goes on working, with new ids */
    assert_true(ids[MESSAGES / 2] > ids[MESSAGES / 2 - 1]);
    fixture_free(&other);
    free(bytes.p);
}

static void test_force(void **state)
{
    struct fixture *f = *state;
    struct queue_restore_result result;
    char error[512];
    char path[512];
    struct bytes bytes = backup_of(f);
    assert_int_equal(restore(f->folder, &bytes, bytes.len, true, &result, error), QUEUE_ERR_LOCKED);
    (void)snprintf(path, sizeof path, "process %ld", (long)getpid());
    assert_non_null(strstr(error, path));
    assert_int_equal(fixture_admin(f, ids[0], QUEUE_VERB_DELETE), 0);
    accept(f, MESSAGES / 2, 70);
    fixture_close(f);
    size_t files = files_in(f->folder);
    assert_int_equal(restore(f->folder, &bytes, bytes.len, false, &result, error), QUEUE_ERR_LIMIT);
    assert_non_null(strstr(error, "--force"));
    assert_int_equal(files_in(f->folder), files);
    fixture_open(f);
    assert_message(f, MESSAGES / 2); /* nothing has changed */
    fixture_close(f);

    assert_int_equal(restore(f->folder, &bytes, bytes.len, true, &result, error), 0);
    assert_non_null(strstr(result.kept, "data.mdb.replaced-"));
    (void)snprintf(path, sizeof path, "%s/%s", f->folder, result.kept);
    assert_int_equal(access(path, R_OK), 0);
    fixture_open(f);
    for (size_t i = 0; i < MESSAGES / 2; i++)
        assert_message(f, i); /* also the one that was deleted later */
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, ids[MESSAGES / 2], &message), 1);

    /* An empty queue needs no force. */
    for (size_t i = 0; i < MESSAGES / 2; i++)
        assert_int_equal(fixture_admin(f, ids[i], QUEUE_VERB_DELETE), 0);
    fixture_close(f);
    assert_int_equal(restore(f->folder, &bytes, bytes.len, false, &result, error), 0);
    assert_string_equal(result.kept, "");
    fixture_open(f);
    assert_message(f, 3);
    free(bytes.p);
}

/* The same without its daemon: nothing is written in the folder. */
static void test_of_a_closed_queue(void **state)
{
    struct fixture *f = *state;
    struct fixture *other = fixture_new();
    struct queue_backup_result made;
    struct queue_restore_result result;
    struct bytes bytes = {0};
    char error[512] = "";
    assert_int_equal(queue_backup_folder(f->folder, take_bytes, &bytes, &made, error, sizeof error),
                     QUEUE_ERR_LOCKED);
    assert_int_equal(bytes.len, 0);
    fixture_close(f);
    assert_int_equal(
        queue_backup_folder("/nonexistent", take_bytes, &bytes, &made, error, sizeof error),
        QUEUE_ERR_IO);
    assert_int_equal(queue_backup_folder(f->folder, take_bytes, &bytes, &made, error, sizeof error),
                     0);
    assert_int_equal(made.messages, MESSAGES / 2);
    assert_int_equal(made.bytes, bytes.len);
    assert_int_equal(restore(other->folder, &bytes, bytes.len, false, &result, error), 0);
    fixture_open(other);
    for (size_t i = 0; i < MESSAGES / 2; i++)
        assert_message(other, i);
    fixture_free(&other);
    fixture_open(f);
    free(bytes.p);
}

/* Whatever is wrong with the file, it is refused, and the queue in place stays. */
static void test_damaged_backups(void **state)
{
    struct fixture *f = *state;
    struct queue_restore_result result;
    char error[512];
    unsigned seed = 99;
    struct bytes bytes = backup_of(f);
    fixture_close(f);
    size_t files = files_in(f->folder);
    for (size_t i = 0; i < 40; i++) {
        size_t len = i < 10 ? i * 3 : (size_t)rand_r(&seed) % bytes.len;
        assert_int_equal(restore(f->folder, &bytes, len, true, &result, error), QUEUE_ERR_DAMAGED);
        assert_non_null(strstr(error, "no whole backup"));
    }
    for (size_t i = 0; i < 40; i++) {
        size_t at = i < 10 ? i * 4 : (size_t)rand_r(&seed) % bytes.len;
        bytes.p[at] ^= 0x11;
        int rc = restore(f->folder, &bytes, bytes.len, true, &result, error);
        assert_true(rc == QUEUE_ERR_DAMAGED || rc == QUEUE_ERR_SCHEMA);
        bytes.p[at] ^= 0x11;
    }
    bytes.p[17] = '9';
    assert_int_equal(restore(f->folder, &bytes, bytes.len, true, &result, error), QUEUE_ERR_SCHEMA);
    assert_int_equal(files_in(f->folder), files);
    fixture_open(f);
    assert_message(f, 5);
    free(bytes.p);
}

static void test_given_up(void **state)
{
    struct fixture *f = *state;
    struct queue_backup_result result;
    struct bytes bytes = {.most = 100000};
    char error[512] = "";
    assert_int_equal(
        queue_backup(f->queue, &patient, take_bytes, &bytes, &result, error, sizeof error),
        QUEUE_ERR_LIMIT);
    assert_non_null(strstr(error, "not taken any more"));
    free(bytes.p);
    /* The snapshot has been given back: the queue goes on, and a next one works. */
    accept(f, MESSAGES / 2, 60);
    bytes = backup_of(f);
    free(bytes.p);
}

/* ---- in use ---- */

struct busy {
    struct fixture *f;
    struct bytes bytes;
    _Atomic bool stop;
    struct queue_patience patience;
    int rc;
    struct queue_check_result check;
    char error[512];
    _Atomic bool done;
};

static bool take_slowly(const void *bytes, size_t len, void *ctx)
{
    struct busy *busy = ctx;
    usleep(60000);
    return take_bytes(bytes, len, &busy->bytes);
}

static void *back_up(void *ctx)
{
    struct busy *busy = ctx;
    struct queue_backup_result result;
    busy->rc = queue_backup(busy->f->queue, &busy->patience, take_slowly, busy, &result,
                            busy->error, sizeof busy->error);
    atomic_store(&busy->done, true);
    return NULL;
}

static void *check_it(void *ctx)
{
    struct busy *busy = ctx;
    busy->rc = 0;
    for (int i = 0; i < 20 && busy->rc == 0; i++) {
        busy->rc = queue_check_open(busy->f->queue, &busy->patience, note_line, NULL, &busy->check,
                                    busy->error, sizeof busy->error);
        if (busy->check.problems > 0)
            break;
    }
    atomic_store(&busy->done, true);
    return NULL;
}

static void run_busy(struct busy *busy, void *(*body)(void *))
{
    pthread_t thread;
    struct fixture *f = busy->f;
    size_t i = 0;
    first_line[0] = '\0';
    assert_int_equal(pthread_create(&thread, NULL, body, busy), 0);
    while (!atomic_load(&busy->done)) {
        uint64_t id = 0;
        assert_int_equal(fixture_accept(f, "n@new.example", "new", 3, &id), 0);
        if (i++ % 2 == 0)
            assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 1800000000000), 0);
        if (i % 3 == 0)
            assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_backup_in_use(void **state)
{
    struct fixture *f = *state;
    struct fixture *other = fixture_new();
    struct queue_restore_result result;
    char error[512];
    struct busy busy = {.f = f};
    run_busy(&busy, back_up);
    assert_int_equal(busy.rc, 0);
    int rc = restore(other->folder, &busy.bytes, busy.bytes.len, false, &result, error);
    if (rc != 0)
        fail_msg("%s; %s", error, first_line);
    assert_int_equal(result.check.problems, 0);
    assert_true(result.check.messages >= MESSAGES / 2);
    fixture_open(other);
    for (size_t i = 0; i < MESSAGES / 2; i++)
        assert_message(other, i);
    fixture_free(&other);
    free(busy.bytes.p);
}

static void test_check_in_use(void **state)
{
    struct busy busy = {.f = *state};
    run_busy(&busy, check_it);
    if (busy.rc != 0 || busy.check.problems > 0)
        fail_msg("%s; %s", busy.error, first_line);
    assert_true(busy.check.messages >= MESSAGES / 2);
}

static void test_growth_is_limited(void **state)
{
    struct busy busy = {.f = *state, .patience = {.growth_bytes = 4096}};
    run_busy(&busy, back_up);
    assert_int_equal(busy.rc, QUEUE_ERR_LIMIT);
    assert_non_null(strstr(busy.error, "the queue's file grew"));
    free(busy.bytes.p);
}

static void test_told_to_stop(void **state)
{
    struct busy busy = {.f = *state};
    busy.patience.stop = &busy.stop;
    atomic_store(&busy.stop, true);
    run_busy(&busy, back_up);
    assert_int_equal(busy.rc, QUEUE_ERR_LIMIT);
    assert_non_null(strstr(busy.error, "told to stop"));
    free(busy.bytes.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_restored_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_force, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_a_closed_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_backups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backup_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_growth_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_told_to_stop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
