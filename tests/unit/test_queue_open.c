/* Opening: the folder, the lock, the schema; each refusal says what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <lmdb.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/queue_fixture.h"

static int setup(void **state)
{
    *state = fixture_new();
    return 0;
}

static int teardown(void **state)
{
    fixture_free((struct fixture **)state);
    return 0;
}

static int try_open(struct fixture *f, const char *folder, char *error)
{
    struct queue_options options = fixture_options(f, 1u << 30);
    struct queue *queue = NULL;
    options.folder = folder;
    error[0] = '\0';
    int rc = queue_open(&options, &queue, error, 512);
    if (rc == 0)
        queue_close(&queue);
    else
        assert_null(queue);
    return rc;
}

static void the_folder_is_made(void **state)
{
    struct fixture *f = *state;
    char path[128];
    char error[512];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/queue", f->folder);
    assert_int_equal(try_open(f, path, error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    (void)snprintf(path, sizeof path, "%s/queue/data.mdb", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void refusals_of_folders(void **state)
{
    struct fixture *f = *state;
    char path[128];
    char error[512];
    (void)snprintf(path, sizeof path, "%s/no/queue", f->folder);
    assert_int_equal(try_open(f, path, error), QUEUE_ERR_IO);
    assert_non_null(strstr(error, path));
    assert_non_null(strstr(error, "No such file"));
    (void)snprintf(path, sizeof path, "%s/file", f->folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(try_open(f, path, error), QUEUE_ERR_IO);
    assert_non_null(strstr(error, "Not a directory"));
}

/* As a user that may not: in a child, for the tests may run as root. */
static void a_folder_that_cannot_be_written(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->folder, 0555), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char error[512];
        if (geteuid() == 0 && setuid(65534) != 0)
            _exit(9);
        int rc = try_open(f, f->folder, error);
        _exit(rc == QUEUE_ERR_IO && strstr(error, "Permission denied") != NULL &&
                      strstr(error, f->folder) != NULL
                  ? 0
                  : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(chmod(f->folder, 0700), 0);
}

static void a_second_opener_is_told_who_holds_it(void **state)
{
    struct fixture *f = *state;
    char error[512];
    char pid_text[32];
    fixture_open(f);
    (void)snprintf(pid_text, sizeof pid_text, "process %ld", (long)getpid());
    assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_LOCKED);
    assert_non_null(strstr(error, pid_text));
    pid_t pid = fork();
    if (pid == 0) {
        int rc = try_open(f, f->folder, error);
        _exit(rc == QUEUE_ERR_LOCKED && strstr(error, pid_text) != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    fixture_close(f);
    assert_int_equal(try_open(f, f->folder, error), 0); /* a lock file left behind locks nothing */
}

static int no_locks; /* this file system knows none */

int fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (no_locks && cmd == F_OFD_SETLK) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

static void a_file_system_without_locks_is_refused(void **state)
{
    struct fixture *f = *state;
    char error[512];
    no_locks = 1;
    assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_IO);
    no_locks = 0;
    assert_non_null(strstr(error, "has no locks"));
    assert_non_null(strstr(error, f->folder));
    assert_int_equal(try_open(f, f->folder, error), 0);
}

/* Put these words into the lock file. */
static void write_lock(struct fixture *f, int fd, const char *text)
{
    (void)f;
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
}

/* A holder in another container has a pid that means nothing here; on another host too. */
static void a_holder_elsewhere_is_told_apart(void **state)
{
    static const struct {
        const char *text; /* %s: this host */
        const char *told;
        const char *not_told;
    } cases[] = {
        {"7 %s pid:[1]\n", "by process 7 of another container", "on host"},
        {"1 far.example pid:[1]\n", "by process 1 on host far.example", "container"},
        {"77\n", "by process 77", "host"}, /* as it was written once */
        {"", "by another process", "host"},
        {"\x1b[31m\n", "by another process", "\x1b"},
        {"12 \x1b[31m pid:[1]\n", "by process 12", "\x1b"},
    };
    struct fixture *f = *state;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[128];
    char host[64] = "";
    char text[256];
    char error[512];
    (void)snprintf(path, sizeof path, "%s/lock", f->folder);
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *here = strstr(cases[i].text, "%s");
        size_t before = here != NULL ? (size_t)(here - cases[i].text) : 0;
        (void)snprintf(text, sizeof text, "%.*s%s%s", (int)before, cases[i].text,
                       here != NULL ? host : "", here != NULL ? here + 2 : cases[i].text);
        write_lock(f, fd, text);
        assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_LOCKED);
        assert_non_null(strstr(error, cases[i].told));
        assert_null(strstr(error, cases[i].not_told));
    }
    (void)close(fd);
    assert_int_equal(try_open(f, f->folder, error), 0); /* whatever a dead one left in it */
}

/* The power went while the queue was made. */
static void a_first_start_cut_short_is_no_obstacle(void **state)
{
    struct fixture *f = *state;
    char path[128];
    char junk[8192] = "";
    char error[512];
    (void)snprintf(path, sizeof path, "%s/data.new", f->folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    (void)close(fd);
    assert_int_equal(try_open(f, f->folder, error), 0);
    assert_int_equal(access(path, F_OK), -1);
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(try_open(f, f->folder, error), 0);
}

static void write_meta(struct fixture *f, const char *database, const char *schema)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 20), 0);
    assert_int_equal(mdb_env_open(env, f->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, MDB_CREATE, &dbi), 0);
    MDB_val key = {6, (void *)"schema"};
    MDB_val value = {strlen(schema), (void *)schema};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void another_schema_is_refused(void **state)
{
    struct fixture *f = *state;
    char error[512];
    static const char *const schemas[] = {"1", "3", "20", "", "\x1b[31m"};
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
        write_meta(f, "meta", schemas[i]);
        assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_SCHEMA);
        assert_non_null(strstr(error, "schema version"));
        assert_null(strchr(error, '\x1b'));
    }
    write_meta(f, "meta", "2");
    assert_int_equal(try_open(f, f->folder, error), 0);
}

static void a_store_of_somebody_else_is_refused(void **state)
{
    struct fixture *f = *state;
    char error[512];
    write_meta(f, "people", "1");
    assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_SCHEMA);
}

static void a_file_that_is_no_store_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[128];
    char error[512];
    char junk[8192];
    memset(junk, 'j', sizeof junk);
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    (void)close(fd);
    assert_int_equal(try_open(f, f->folder, error), QUEUE_ERR_IO);
    assert_non_null(strstr(error, f->folder));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, sizeof junk); /* and left alone */
}

static void error_texts(void **state)
{
    (void)state;
    for (int code = QUEUE_ERR_LIMIT; code <= 0; code++)
        assert_string_not_equal(queue_error_text(code), "unknown error");
    assert_string_equal(queue_error_text(-77), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_folder_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_of_folders, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_opener_is_told_who_holds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_system_without_locks_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_holder_elsewhere_is_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_first_start_cut_short_is_no_obstacle, setup, teardown),
        cmocka_unit_test_setup_teardown(another_schema_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_of_somebody_else_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_store_is_refused, setup, teardown),
        cmocka_unit_test(error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
