/* What MAIL and RCPT asked for (RFC 3461, 6531, 8689) stays with a message through everything that
 * rewrites its rows: outcomes, admin's steps, a restart, a repair, a backup put in place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "queue/maintain.h"
#include "tests/unit/queue_fixture.h"

#define LONG_LIST 70 /* three rows of recipients */
#define DUE       INT64_C(1700000100000)

/* Each third recipient asks for nothing, so that rows of both versions stand beside each other; in
 * a long list the second row (32 to 63) has no parameter at all. */
static uint8_t notify_of(size_t i)
{
    static const uint8_t all[] = {
        0,
        QUEUE_NOTIFY_NEVER,
        QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_DELAY,
        0,
        QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_EXPANDED,
        QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_EXPANDED,
    };
    return i / 32 == 1 ? 0 : all[i % 6];
}

static const char *orcpt_of(size_t i)
{
    static const char *const all[] = {NULL, "rfc822;a+2Bb@x", "", "utf-8;\xc3\xa4@x"};
    return i / 32 == 1 ? NULL : all[i % 3 == 0 ? 0 : i % 4];
}

/* Recipient i goes to the domain i modulo 2. */
static uint64_t accept(struct fixture *f, size_t count)
{
    static char addresses[LONG_LIST][40];
    struct queue_recipient rcpts[LONG_LIST];
    struct queue_put *put = NULL;
    struct answer answer = {ANSWER_NONE, 0};
    uint64_t id = 0;
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%zu@d%zu.example", i, i % 2);
        rcpts[i] = (struct queue_recipient){.address = addresses[i],
                                            .domain = strchr(addresses[i], '@') + 1,
                                            .notify = notify_of(i),
                                            .orcpt = orcpt_of(i)};
    }
    struct queue_envelope envelope = {.sender = "s@example.org",
                                      .recipients = rcpts,
                                      .recipient_count = count,
                                      .flags = QUEUE_FLAG_SMTPUTF8 | QUEUE_FLAG_REQUIRETLS,
                                      .ret = QUEUE_RET_HDRS,
                                      .envid = "QQ+2D314",
                                      .sign_domain = "",
                                      .accepted_unix_ms = 1700000000000};
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    assert_int_equal(queue_put_piece(put, "body", 4, NULL, NULL), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    return id;
}

static void assert_envelope(const struct queue_envelope *e, size_t count)
{
    assert_int_equal(e->flags, QUEUE_FLAG_SMTPUTF8 | QUEUE_FLAG_REQUIRETLS);
    assert_int_equal(e->ret, QUEUE_RET_HDRS);
    assert_string_equal(e->envid, "QQ+2D314");
    assert_int_equal(e->recipient_count, count);
    for (size_t i = 0; i < count; i++) {
        const char *orcpt = orcpt_of(i);
        assert_int_equal(e->recipients[i].notify, notify_of(i));
        assert_string_equal(e->recipients[i].orcpt, orcpt != NULL ? orcpt : "");
    }
}

static void assert_message(struct fixture *f, uint64_t id, size_t count)
{
    struct queue_message *message = NULL;
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    assert_envelope(queue_message_envelope(message), count);
    queue_message_free(&message);
}

static bool see(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    size_t *seen = ctx;
    (void)id;
    assert_envelope(envelope, envelope->recipient_count);
    (*seen)++;
    return true;
}

static void print_line(const char *line, void *ctx)
{
    (void)ctx;
    print_message("  %s\n", line);
}

static void assert_no_problem(struct fixture *f)
{
    static const struct queue_patience patient = {0};
    struct queue_check_result result;
    char error[512] = "";
    int rc = queue_check_open(f->queue, &patient, print_line, NULL, &result, error, sizeof error);
    if (rc != 0)
        fail_msg("%s", error);
    assert_int_equal(result.problems, 0);
}

static const size_t counts[] = {1, 2, 32, 33, LONG_LIST};
enum { COUNTS = sizeof counts / sizeof counts[0] };

static void they_are_read_back(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[COUNTS];
    uint64_t after = 0;
    size_t seen = 0;
    for (size_t i = 0; i < COUNTS; i++)
        ids[i] = accept(f, counts[i]);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNTS; i++)
            assert_message(f, ids[i], counts[i]);
        fixture_reopen(f);
    }
    assert_int_equal(queue_scan(f->queue, &after, see, &seen), 0);
    assert_int_equal(seen, COUNTS);
    assert_no_problem(f);
}

static void they_stay_while_rows_are_rewritten(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNTS; i++) {
        size_t count = counts[i];
        uint64_t id = accept(f, count);
        uint32_t last = (uint32_t)(count - 1);
        uint16_t unit = (uint16_t)(last % 2);
        assert_int_equal(fixture_record(f, id, unit, last, QUEUE_RCPT_WAITING, DUE), 0);
        assert_message(f, id, count);
        assert_int_equal(fixture_admin(f, id, QUEUE_VERB_HOLD), 0);
        assert_int_equal(fixture_admin(f, id, QUEUE_VERB_RELEASE), 0);
        assert_message(f, id, count);
        assert_int_equal(fixture_admin(f, id, QUEUE_VERB_BOUNCE), 0);
        assert_message(f, id, count);
        for (uint32_t r = 1; r < count; r++) /* all but the first end */
            assert_int_equal(fixture_record(f, id, (uint16_t)(r % 2), r, QUEUE_RCPT_DELIVERED, DUE),
                             0);
        assert_message(f, id, count);
    }
    assert_no_problem(f);
}

struct bytes {
    uint8_t p[1 << 20];
    size_t len;
};

static bool take_bytes(const void *bytes, size_t len, void *ctx)
{
    struct bytes *out = ctx;
    if (len > sizeof out->p - out->len)
        return false;
    memcpy(out->p + out->len, bytes, len);
    out->len += len;
    return true;
}

static void they_are_in_a_backup(void **state)
{
    struct fixture *f = *state;
    struct fixture *other = fixture_new();
    static struct bytes bytes;
    static const struct queue_patience patient = {0};
    struct queue_backup_result made;
    struct queue_restore_result result;
    char error[512] = "";
    char path[] = "/tmp/test-params-XXXXXX";
    uint64_t ids[COUNTS];
    for (size_t i = 0; i < COUNTS; i++)
        ids[i] = accept(f, counts[i]);
    assert_int_equal(
        queue_backup(f->queue, &patient, take_bytes, &bytes, &made, error, sizeof error), 0);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)unlink(path);
    assert_int_equal(write(fd, bytes.p, bytes.len), bytes.len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct queue_restore_source source = {.folder = other->folder, .fd = fd};
    assert_int_equal(queue_restore(&source, print_line, NULL, &result, error, sizeof error), 0);
    (void)close(fd);
    assert_int_equal(result.check.problems, 0);
    fixture_open(other);
    for (size_t i = 0; i < COUNTS; i++)
        assert_message(other, ids[i], counts[i]);
    fixture_free(&other);
}

/* Each is refused with LIMIT: what could break a command out of its line, or means nothing. */
static void what_cannot_be_is_refused(void **state)
{
    struct fixture *f = *state;
    static char long_envid[QUEUE_ENVID_MAX + 2];
    static char long_orcpt[QUEUE_ORCPT_MAX + 2];
    memset(long_envid, 'e', sizeof long_envid - 1);
    memset(long_orcpt, 'o', sizeof long_orcpt - 1);
    const struct {
        uint32_t flags;
        unsigned ret;
        const char *envid;
        uint8_t notify;
        const char *orcpt;
    } cases[] = {
        {16, 0, "", 0, ""},
        {UINT32_C(1) << 31, 0, "", 0, ""},
        {0, 3, "", 0, ""},
        {0, 0, "a b", 0, ""},
        {0, 0, "a\r\nRCPT", 0, ""},
        {0, 0, "\x7f", 0, ""},
        {0, 0, long_envid, 0, ""},
        {0, 0, "", QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_DELAY, ""},
        {0, 0, "", QUEUE_NOTIFY_EXPANDED, ""},
        {0, 0, "", QUEUE_NOTIFY_EXPANDED | QUEUE_NOTIFY_SUCCESS, ""},
        {0, 0, "", 32, ""},
        {0, 0, "", 0, "rfc822;a\tb"},
        {0, 0, "", 0, "rfc822;a\nb"},
        {0, 0, "", 0, long_orcpt},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct queue_recipient rcpt = {
            .address = "a@b", .domain = "b", .notify = cases[i].notify, .orcpt = cases[i].orcpt};
        struct queue_envelope envelope = {.sender = "s",
                                          .recipients = &rcpt,
                                          .recipient_count = 1,
                                          .flags = cases[i].flags,
                                          .ret = (enum queue_ret)cases[i].ret,
                                          .envid = cases[i].envid,
                                          .sign_domain = ""};
        struct answer answer = {ANSWER_NONE, 0};
        struct queue_put *put = NULL;
        uint64_t id = 0;
        assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
        queue_put_commit(put, &envelope, fixture_on_done, &answer);
        if (fixture_result(f, &answer) != QUEUE_ERR_LIMIT)
            fail_msg("case %zu was taken", i);
    }
    long_envid[QUEUE_ENVID_MAX] = long_orcpt[QUEUE_ORCPT_MAX] = '\0'; /* the longest fit */
    struct queue_recipient rcpt = {.address = "a@b", .domain = "b", .orcpt = long_orcpt};
    struct queue_envelope envelope = {.sender = "s",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .envid = long_envid,
                                      .sign_domain = ""};
    struct answer answer = {ANSWER_NONE, 0};
    struct queue_put *put = NULL;
    struct queue_message *message = NULL;
    uint64_t id = 0;
    assert_int_equal(queue_put_begin(f->queue, f->port, &put, &id), 0);
    queue_put_commit(put, &envelope, fixture_on_done, &answer);
    assert_int_equal(fixture_result(f, &answer), 0);
    assert_int_equal(queue_read_message(f->queue, id, &message), 0);
    assert_string_equal(queue_message_envelope(message)->envid, long_envid);
    assert_string_equal(queue_message_envelope(message)->recipients[0].orcpt, long_orcpt);
    queue_message_free(&message);
    assert_int_equal(fixture_counts(f).messages, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_are_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(they_stay_while_rows_are_rewritten, setup, teardown),
        cmocka_unit_test_setup_teardown(they_are_in_a_backup, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
