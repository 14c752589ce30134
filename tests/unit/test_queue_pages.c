/* A file that is damaged below LMDB's feet: cut short, overwritten, flipped bits. The check says
 * so, and never crashes, whatever lies in the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <lmdb.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define PAGE   4096
#define ROUNDS 400

struct image { /* the file as the queue left it */
    char path[128];
    uint8_t *bytes;
    size_t len;
};

static unsigned line_count;
static char first_line[512];

static void add_line(const char *line, void *ctx)
{
    (void)ctx;
    if (line_count++ == 0)
        (void)snprintf(first_line, sizeof first_line, "%s", line);
}

static uint64_t problems_of(struct fixture *f)
{
    struct queue_check_result result = {0};
    char error[512] = "";
    line_count = 0;
    first_line[0] = '\0';
    int rc = queue_check(f->folder, false, add_line, NULL, &result, error, sizeof error);
    if (rc == 0)
        return result.problems;
    (void)snprintf(first_line, sizeof first_line, "%s", error);
    assert_true(rc == QUEUE_ERR_IO || rc == QUEUE_ERR_SCHEMA);
    assert_true(error[0] != '\0');
    return 1;
}

static void take_image(struct fixture *f, struct image *image)
{
    struct stat st;
    (void)snprintf(image->path, sizeof image->path, "%s/data.mdb", f->folder);
    int fd = open(image->path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    image->len = (size_t)st.st_size;
    image->bytes = malloc(image->len);
    assert_non_null(image->bytes);
    assert_int_equal(read(fd, image->bytes, image->len), image->len);
    close(fd);
}

static void put_image(const struct image *image, size_t len)
{
    int fd = open(image->path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, image->bytes, len), len);
    close(fd);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new();
    static char body[60000];
    uint64_t id = 0;
    fixture_open(f);
    memset(body, 'x', sizeof body);
    for (int i = 0; i < 120; i++) {
        assert_int_equal(fixture_accept(f, "a@x.example b@y.example", body,
                                        i % 50 == 0 ? sizeof body : 500 + 50 * (size_t)i, &id),
                         0);
        if (i % 3 == 0)
            assert_int_equal(fixture_record(f, id, 0, 0, QUEUE_RCPT_WAITING, 1700000000000 + i), 0);
        if (i % 7 == 0)
            assert_int_equal(fixture_admin(f, id, QUEUE_VERB_DELETE), 0);
    }
    fixture_settle(f);
    fixture_close(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)nftw(f->folder, fixture_unlink, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void test_cut_short(void **state)
{
    struct fixture *f = *state;
    struct image image;
    take_image(f, &image);
    assert_int_equal(problems_of(f), 0);
    for (size_t cut = 1; cut < image.len; cut = cut * 2 + 100) {
        put_image(&image, image.len - cut);
        if (problems_of(f) == 0 && cut > 64 * PAGE) /* the last pages may be free ones */
            fail_msg("%zu bytes cut off were not missed", cut);
    }
    put_image(&image, 0);
    assert_int_equal(problems_of(f), 0); /* as a first start leaves it that had no time */
    put_image(&image, 100);
    assert_true(problems_of(f) > 0);
    put_image(&image, image.len);
    free(image.bytes);
}

/* Every page in turn is overwritten: what is in use is missed, what is free is not. */
static void test_each_page_overwritten(void **state)
{
    struct fixture *f = *state;
    struct image image;
    uint8_t saved[PAGE];
    size_t missed = 0;
    take_image(f, &image);
    for (size_t at = 0; at + PAGE <= image.len; at += PAGE) {
        memcpy(saved, image.bytes + at, PAGE);
        memset(image.bytes + at, 0xA5, PAGE);
        put_image(&image, image.len);
        missed += problems_of(f) > 0 ? 0 : 1;
        memcpy(image.bytes + at, saved, PAGE);
    }
    assert_true(missed < image.len / PAGE / 4);
    put_image(&image, image.len);
    assert_int_equal(problems_of(f), 0);
    free(image.bytes);
}

/* Random bytes change: whatever is said, nothing crashes, and what was not said was harmless. */
static void test_random_flips(void **state)
{
    struct fixture *f = *state;
    struct image image;
    unsigned seed = 815;
    take_image(f, &image);
    for (int i = 0; i < ROUNDS; i++) {
        size_t at[8];
        uint8_t was[8];
        int count = 1 + rand_r(&seed) % 8;
        for (int k = 0; k < count; k++) {
            size_t page = (size_t)rand_r(&seed) % (image.len / PAGE);
            size_t in_page = (size_t)rand_r(&seed) % (rand_r(&seed) % 2 == 0 ? 200 : PAGE);
            at[k] = page * PAGE + in_page;
            was[k] = image.bytes[at[k]];
            image.bytes[at[k]] = (uint8_t)rand_r(&seed);
        }
        put_image(&image, image.len);
        (void)problems_of(f);
        for (int k = count; k-- > 0;)
            image.bytes[at[k]] = was[k];
    }
    put_image(&image, image.len);
    free(image.bytes);
}

/* In both headers, so that it is the newest one's. */
static void flip_flag(struct image *image, size_t at, unsigned bit)
{
    for (size_t meta = 0; meta < 2; meta++)
        image->bytes[meta * PAGE + at + bit / 8] ^= (uint8_t)(1U << bit % 8);
    put_image(image, image->len);
}

/* LMDB ends the process over a table of databases that says it has duplicates. */
static void test_flags_of_the_tables(void **state)
{
    enum { FREE_FLAGS = 16 + 24 + 4, MAIN_FLAGS = FREE_FLAGS + 48, DUPLICATES = 2 };
    struct fixture *f = *state;
    struct image image;
    take_image(f, &image);
    for (unsigned bit = 0; bit < 16; bit++) {
        flip_flag(&image, MAIN_FLAGS, bit);
        assert_true(problems_of(f) > 0);
        flip_flag(&image, MAIN_FLAGS, bit);
    }
    flip_flag(&image, FREE_FLAGS, DUPLICATES);
    assert_true(problems_of(f) > 0);
    flip_flag(&image, FREE_FLAGS, DUPLICATES);
    assert_int_equal(problems_of(f), 0);
    free(image.bytes);
}

static void test_not_a_store(void **state)
{
    struct fixture *f = *state;
    struct queue_check_result result;
    char error[512] = "";
    char path[128];
    assert_int_equal(
        queue_check("/nonexistent/queue", false, add_line, NULL, &result, error, sizeof error),
        QUEUE_ERR_IO);
    assert_non_null(strstr(error, "there is no queue in /nonexistent/queue"));
    fixture_open(f);
    assert_int_equal(queue_check(f->folder, true, add_line, NULL, &result, error, sizeof error),
                     QUEUE_ERR_LOCKED);
    (void)snprintf(path, sizeof path, "process %ld", (long)getpid());
    assert_non_null(strstr(error, path));
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_short),    cmocka_unit_test(test_each_page_overwritten),
        cmocka_unit_test(test_random_flips), cmocka_unit_test(test_flags_of_the_tables),
        cmocka_unit_test(test_not_a_store),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
