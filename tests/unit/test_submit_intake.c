/* A message on its way into the queue: what is added, what is refused, and the budget for content
 * that is not yet stored, which must come back to nothing on every path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mta/submit/session_private.h"
#include "queue_fixture.h"

struct world {
    struct fixture *fixture;
    struct submit submit;
    struct submit_worker worker;
    struct submit_settings *settings;
    const struct config *config;
    struct auth_user login;
    int answers, result;
    char id[QUEUE_ID_TEXT];
    char sign_domain[256]; /* of what stored() has read */
    bool is_8bit;
};

static const char *const yaml = "hostname: mta.sender.example\n"
                                "state_dir: /tmp/unused\n"
                                "max_hops: 3\n"
                                "aliases: {all: [a@d.example, b@d.example, c@d.example]}\n"
                                "listeners:\n"
                                "  - {address: \"127.0.0.1:1587\", role: submission, tls: off}\n"
                                "  - {address: \"127.0.0.1:1025\", role: relay, tls: off}\n";

static void no_port(void *ctx)
{
    (void)ctx; /* the tests look by themselves */
}

static void set_up(struct world *w)
{
    struct config_error error;
    memset(w, 0, sizeof *w);
    w->fixture = fixture_new();
    fixture_open(w->fixture);
    if (config_parse(yaml, strlen(yaml), "test.yaml", "/tmp", &w->config, &error) < 0)
        fail_msg("%s", error.text);
    w->submit.queue = w->fixture->queue;
    w->submit.workers = &w->worker;
    w->submit.worker_count = 0; /* no loops: nobody to be told of room */
    w->worker.submit = &w->submit;
    w->worker.port = queue_port_new(w->fixture->queue, no_port, NULL);
    w->settings = settings_new(w->config);
    w->login.name = "anna";
}

/* Run what the queue answers until the budget is empty and nothing is being committed. */
static void settle(struct world *w)
{
    for (int i = 0; i < 5000; i++) {
        queue_port_run(w->worker.port);
        if (atomic_load(&w->submit.budget_used) == 0 && w->worker.intakes == NULL) {
            assert_int_equal(atomic_load(&w->submit.kept_used), 0);
            return;
        }
        struct timespec ts = {.tv_nsec = 1000000};
        (void)nanosleep(&ts, NULL);
    }
    fail_msg("the budget holds %zu bytes", atomic_load(&w->submit.budget_used));
}

static void tear_down(struct world *w)
{
    settle(w);
    queue_port_free(&w->worker.port);
    assert_int_equal(atomic_load(&w->settings->references), 1);
    submit_settings_unref(&w->settings);
    config_unref(&w->config);
    fixture_free(&w->fixture);
}

static void on_done(const struct intake_result *result, void *ctx)
{
    struct world *w = ctx;
    w->answers++;
    w->result = result->result;
    snprintf(w->id, sizeof w->id, "%s", result->id);
}

static const struct smtp_mail plain = {.envid = {"", 0}};

/* A recipient of whom nothing is asked. */
static enum intake_rcpt add(struct intake *intake, const char *address)
{
    struct str whole = str_from(address);
    const char *at = strrchr(address, '@');
    return intake_add_recipient(intake, whole, str_from(at + 1), 0, STR(""));
}

static struct intake *begin(struct world *w, size_t listener)
{
    struct intake_client client = {.helo = "client.example",
                                   .extended = true,
                                   .address = "192.0.2.7",
                                   .tls = "",
                                   .user = "anna",
                                   .login = &w->login};
    struct intake *intake = intake_new(&w->worker, w->settings, &w->config->listeners[listener],
                                       STR("me@sender.example"), &plain);
    assert_int_equal(add(intake, "you@DEST.example"), INTAKE_RCPT_OK);
    assert_int_equal(add(intake, "you@DEST.example"), INTAKE_RCPT_OK);
    assert_int_equal(intake_begin(intake, &client), 0);
    return intake;
}

/* Content in pieces of `step` bytes. */
static void feed(struct intake *intake, const char *bytes, size_t len, size_t step)
{
    for (size_t at = 0; at < len; at += step)
        intake_content(intake, bytes + at, len - at < step ? len - at : step);
}

static void finish(struct world *w, struct intake *intake)
{
    uint16_t code = 0;
    char text[200] = "";
    if (!intake_finish(intake, on_done, w, &code, text, sizeof text))
        fail_msg("%u %s", (unsigned)code, text);
    settle(w);
    assert_int_equal(w->answers, 1);
    assert_int_equal(w->result, QUEUE_OK);
}

/* The stored message, NUL-terminated, and its envelope checked. */
static char *stored(struct world *w)
{
    struct queue_message *message = NULL;
    uint64_t id = 0;
    assert_true(queue_id_parse(w->id, strlen(w->id), &id));
    assert_int_equal(queue_read_message(w->fixture->queue, id, &message), 0);
    const struct queue_envelope *envelope = queue_message_envelope(message);
    assert_string_equal(envelope->sender, "me@sender.example");
    assert_int_equal(envelope->recipient_count, 1); /* named twice, kept once */
    assert_string_equal(envelope->recipients[0].domain, "dest.example");
    snprintf(w->sign_domain, sizeof w->sign_domain, "%s", envelope->sign_domain);
    w->is_8bit = (envelope->flags & QUEUE_FLAG_8BIT) != 0;
    char *bytes = mem_alloc(envelope->body_bytes + 1);
    size_t have = 0;
    while (have < envelope->body_bytes) {
        long n =
            queue_read_body(w->fixture->queue, id, have, bytes + have, envelope->body_bytes - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_true(envelope->header_bytes + 2 <= envelope->body_bytes);
    assert_memory_equal(bytes + envelope->header_bytes - 2, "\r\n\r\n", 4);
    queue_message_free(&message);
    return bytes;
}

static const struct row {
    const char *in;
    size_t listener;
    bool adds_date, adds_id;
    const char *out; /* how the stored message ends */
} rows[] = {
    {"Subject: x\r\n\r\nbody\r\n", 0, true, true, "Subject: x\r\n\r\nbody\r\n"},
    {"Date: now\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n", 0, false, false,
     "Date: now\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n"},
    {"Subject: x\r\n\r\nbody\r\n", 1, false, false, "Subject: x\r\n\r\nbody\r\n"},
    {"Subject: no body\r\n", 0, true, true, "Subject: no body\r\n\r\n"},
    {"Subject: blank\r\n\r\n", 0, true, true, "Subject: blank\r\n\r\n"},
    {"\r\nbody\r\n", 0, true, true, "\r\n\r\nbody\r\n"},
    {"no field here\r\n\r\nmore\r\n", 0, true, true, "\r\n\r\nno field here\r\n\r\nmore\r\n"},
    {"", 0, true, true, "\r\n\r\n"},
    /* Bcc: gone before the hash and the store, where submission is; in the body it is text */
    {"Bcc: a@x,\r\n b@y\r\nSubject: x\r\nbcc : c\r\n\r\nBcc: body\r\n", 0, true, true,
     "Subject: x\r\n\r\nBcc: body\r\n"},
    {"Bcc: a@x\r\nSubject: x\r\n\r\nbody\r\n", 1, false, false,
     "Bcc: a@x\r\nSubject: x\r\n\r\nbody\r\n"},
    {"Resent-Bcc: a@x\r\n\r\nbody\r\n", 0, true, true, "\r\n\r\nbody\r\n"},
    {"Bcc: a@x\r\n", 0, true, true, "\r\n\r\n"},
    {"From me\r\nSubject: mbox\r\n\r\nbody\r\n", 0, true, true, "Subject: mbox\r\n\r\nbody\r\n"},
    /* what it leaves at the top may be no field: still not a byte of it comes in as body */
    {"Bcc: a@x\r\nno field\r\nSubject: x\r\n\r\nbody\r\n", 0, true, true,
     "@mta.sender.example>\r\nno field\r\nSubject: x\r\n\r\nbody\r\n"},
    {"From me\r\nBcc: a@x\r\nno field\r\n\r\nbody\r\n", 0, true, true,
     "@mta.sender.example>\r\nno field\r\n\r\nbody\r\n"},
    {"From: root\r\nSubject: x\r\n\r\nbody\r\n", 0, true, true,
     "From: root@mta.sender.example\r\nSubject: x\r\n\r\nbody\r\n"},
    {"To: a\r\nTo: b\r\nSubject: x\r\n\r\nbody\r\n", 1, false, false,
     "\r\nTo: a\r\nTo: b\r\nSubject: x\r\n\r\nbody\r\n"}, /* relaying does not judge */
};

static void test_content(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i / 2];
        size_t len = strlen(row->in), out_len = strlen(row->out);
        struct world w;
        set_up(&w);
        struct intake *intake = begin(&w, row->listener);
        feed(intake, row->in, len, i % 2 == 0 ? len + 1 : 1);
        finish(&w, intake);
        char *bytes = stored(&w);
        size_t have = strlen(bytes);
        assert_true(have >= out_len);
        if (strcmp(bytes + have - out_len, row->out) != 0)
            fail_msg("row %zu: %s", i / 2, bytes);
        assert_memory_equal(bytes, "Received: ", 10);
        assert_int_equal(strstr(bytes, "\r\nDate: ") != NULL, row->adds_date || i / 2 == 1);
        assert_int_equal(strstr(bytes, "\r\nMessage-ID: ") != NULL, row->adds_id || i / 2 == 1);
        free(bytes);
        tear_down(&w);
    }
}

/* A long body goes on its way while it comes; the budget follows it. */
static void test_long_body(void **unused)
{
    struct world w;
    static char body[3 << 20];
    (void)unused;
    set_up(&w);
    memset(body, 'a', sizeof body);
    for (size_t i = 78; i + 1 < sizeof body; i += 80)
        memcpy(body + i, "\r\n", 2);
    memcpy(body, "Subject: long\r\n\r\n", 17);
    struct intake *intake = begin(&w, 0);
    feed(intake, body, sizeof body, 10000);
    assert_true(atomic_load(&w.submit.budget_used) > 0);
    intake_flush(intake);
    intake_flush(intake);
    finish(&w, intake);
    char *bytes = stored(&w);
    assert_memory_equal(strstr(bytes, "Subject: long"), body, sizeof body);
    free(bytes);
    tear_down(&w);
}

/* What the log and the next server are told, and who signs. */
static void test_envelope(void **unused)
{
    static const struct {
        const char *in;
        size_t listener;
        const char *sign_domain;
        bool is_8bit;
    } cases[] = {
        {"Subject: x\r\n\r\nbody\r\n", 0, "sender.example", false}, /* From is added */
        {"Subject: x\r\n\r\nbody\r\n", 1, "", false},
        {"From: root\r\n\r\nbody\r\n", 0, "mta.sender.example", false},
        {"From: a@Other.example\r\n\r\nbody \xe4\r\n", 0, "other.example", true},
        {"From: a@b\r\nSubject: \xc3\xa4\r\n\r\nbody\r\n", 1, "b", true},
    };
    (void)unused;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        size_t len = strlen(cases[i / 2].in);
        struct world w;
        set_up(&w);
        struct intake *intake = begin(&w, cases[i / 2].listener);
        feed(intake, cases[i / 2].in, len, i % 2 == 0 ? len : 1);
        finish(&w, intake);
        free(stored(&w));
        assert_string_equal(w.sign_domain, cases[i / 2].sign_domain);
        assert_int_equal(w.is_8bit, cases[i / 2].is_8bit);
        tear_down(&w);
    }
}

/* Where and who the client is stays here, unless the listener relays. */
static void test_received(void **unused)
{
    (void)unused;
    for (size_t listener = 0; listener < 2; listener++) {
        struct world w;
        set_up(&w);
        struct intake *intake = begin(&w, listener);
        feed(intake, "\r\n", 2, 2);
        finish(&w, intake);
        char *bytes = stored(&w);
        const char *expected = listener == 0
                                   ? "Received: by mta.sender.example with ESMTPA id "
                                   : "Received: from client.example ([192.0.2.7]) "
                                     "(user anna)\r\n by mta.sender.example with ESMTPA id ";
        assert_memory_equal(bytes, expected, strlen(expected));
        assert_int_equal(strstr(bytes, "192.0.2.7") != NULL, listener == 1);
        free(bytes);
        tear_down(&w);
    }
}

static void test_repeated_field(void **unused)
{
    struct world w;
    uint16_t code = 0;
    char text[200];
    (void)unused;
    set_up(&w);
    struct intake *intake = begin(&w, 0);
    feed(intake, "Subject: a\r\nSubject: b\r\n\r\nbody\r\n", 32, 5);
    assert_false(intake_finish(intake, on_done, &w, &code, text, sizeof text));
    assert_int_equal(code, 554);
    assert_string_equal(text,
                        "5.6.0 Message has more than one Subject field (RFC 5322 section 3.6)");
    intake_abandon(&intake);
    tear_down(&w);
    assert_int_equal(w.answers, 0);
}

/* Whom the user may send as is a limit for From too, whatever the listener's role. */
static void test_author(void **unused)
{
    static const struct {
        const char *header, *refused; /* refused NULL: accepted */
    } cases[] = {
        {"From: me@sender.example\r\n", NULL},
        {"Subject: x\r\n", NULL},
        {"From: ceo@sender.example\r\n", "as <ceo@sender.example>, but as me@sender.example: "},
        {"From: root\r\n", "as <root@mta.sender.example>, but"}, /* completed first */
    };
    static const char body[] = "\r\nFrom: ceo@sender.example\r\n";
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        uint16_t code = 0;
        char text[400] = "";
        set_up(&w);
        w.login.senders = "me@sender.example";
        struct intake *intake = begin(&w, 0);
        feed(intake, cases[i].header, strlen(cases[i].header), 7);
        feed(intake, body, strlen(body), 7);
        bool taken = intake_finish(intake, on_done, &w, &code, text, sizeof text);
        assert_int_equal(taken, cases[i].refused == NULL);
        if (!taken) {
            assert_int_equal(code, 554);
            assert_memory_equal(text, "5.7.1 anna may not send ", 24);
            assert_non_null(strstr(text, cases[i].refused));
            intake_abandon(&intake);
        }
        tear_down(&w);
        assert_int_equal(w.answers, taken ? 1 : 0);
    }
}

static void test_too_many_hops(void **unused)
{
    struct world w;
    (void)unused;
    for (int hops = 3; hops <= 4; hops++) {
        uint16_t code = 0;
        char text[200];
        set_up(&w);
        struct intake *intake = begin(&w, 0);
        for (int i = 0; i < hops; i++)
            feed(intake, "Received: from a by b; now\r\n", 28, 28);
        feed(intake, "\r\nbody\r\n", 8, 8);
        bool taken = intake_finish(intake, on_done, &w, &code, text, sizeof text);
        assert_int_equal(taken, hops == 3);
        if (!taken) {
            assert_int_equal(code, 554);
            assert_memory_equal(text, "5.4.6", 5);
            intake_abandon(&intake);
        }
        tear_down(&w);
        assert_int_equal(w.answers, taken ? 1 : 0);
    }
}

/* Gone in every phase: nothing is answered, nothing is kept, the budget is whole. */
static void test_abandoned(void **unused)
{
    static char content[200000] = "Subject: x\r\n\r\n";
    (void)unused;
    memset(content + 14, 'b', sizeof content - 14);
    for (int phase = 0; phase < 5; phase++) {
        struct world w;
        uint16_t code = 0;
        char text[200];
        struct queue_counts counts;
        set_up(&w);
        struct intake *intake =
            phase == 0 ? intake_new(&w.worker, w.settings, &w.config->listeners[0], STR(""), &plain)
                       : begin(&w, 0);
        if (phase == 2)
            feed(intake, content, 7, 7); /* within the header */
        if (phase >= 3)
            feed(intake, content, sizeof content, 5000);
        if (phase == 4)
            assert_true(intake_finish(intake, on_done, &w, &code, text, sizeof text));
        intake_abandon(&intake);
        assert_null(intake);
        settle(&w);
        assert_int_equal(w.answers, 0);
        assert_int_equal(queue_read_counts(w.fixture->queue, &counts), 0);
        /* Committed without being told: kept, since nobody was told otherwise. */
        assert_int_equal(counts.messages, phase == 4 ? 1 : 0);
        tear_down(&w);
    }
}

/* What MAIL and RCPT ask for is stored with the message. */
static void test_asked(void **unused)
{
    static const struct {
        struct smtp_mail mail;
        uint32_t flags;
        enum queue_ret ret;
        const char *envid, *content;
    } cases[] = {
        {{.envid = {"", 0}}, 0, QUEUE_RET_NONE, "", "\r\nbody\r\n"},
        {{.envid = {"", 0}, .body_8bit = true}, 1, QUEUE_RET_NONE, "", "\r\nbody\r\n"},
        {{.envid = {"", 0}, .smtputf8 = true}, 4, QUEUE_RET_NONE, "", "\r\nbody\r\n"},
        {{.envid = {"", 0}, .requiretls = true}, 8, QUEUE_RET_NONE, "", "\r\nbody\r\n"},
        {{.envid = {"QQ+3Dxyz", 4}, .ret = SMTP_RET_FULL},
         1,
         QUEUE_RET_FULL,
         "QQ+3",
         "\r\n\xe4\r\n"},
        {{.envid = {"", 0}, .ret = SMTP_RET_HDRS, .smtputf8 = true, .requiretls = true},
         12,
         QUEUE_RET_HDRS,
         "",
         ""},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct intake_client client = {.helo = "c", .address = "192.0.2.7", .tls = ""};
        struct queue_message *message = NULL;
        struct world w;
        uint64_t id = 0;
        set_up(&w);
        struct intake *intake = intake_new(&w.worker, w.settings, &w.config->listeners[0],
                                           STR("me@sender.example"), &cases[i].mail);
        assert_int_equal(intake_add_recipient(intake, STR("a@d.example"), STR("d.example"),
                                              QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_EXPANDED,
                                              (struct str){"rfc822;list@xyz", 13}),
                         INTAKE_RCPT_OK);
        assert_int_equal(intake_add_recipient(intake, STR("b@d.example"), STR("d.example"),
                                              QUEUE_NOTIFY_NEVER, STR("")),
                         INTAKE_RCPT_OK);
        assert_int_equal(add(intake, "c@d.example"), INTAKE_RCPT_OK);
        assert_int_equal(add(intake, "a@d.example"), INTAKE_RCPT_OK); /* as it was named first */
        assert_int_equal(intake_begin(intake, &client), 0);
        feed(intake, cases[i].content, strlen(cases[i].content), 4);
        finish(&w, intake);
        assert_true(queue_id_parse(w.id, strlen(w.id), &id));
        assert_int_equal(queue_read_message(w.fixture->queue, id, &message), 0);
        const struct queue_envelope *envelope = queue_message_envelope(message);
        assert_int_equal(envelope->flags, cases[i].flags);
        assert_int_equal(envelope->ret, cases[i].ret);
        assert_string_equal(envelope->envid, cases[i].envid);
        assert_int_equal(envelope->recipient_count, 3);
        assert_int_equal(envelope->recipients[0].notify,
                         QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_EXPANDED);
        assert_string_equal(envelope->recipients[0].orcpt, "rfc822;list@x");
        assert_int_equal(envelope->recipients[1].notify, QUEUE_NOTIFY_NEVER);
        assert_string_equal(envelope->recipients[1].orcpt, "");
        assert_int_equal(envelope->recipients[2].notify, 0);
        queue_message_free(&message);
        tear_down(&w);
    }
}

/* RCPT of an alias: each address has what goes along, the first new one the mark. */
static void test_alias(void **unused)
{
    static const struct {
        const char *address;
        uint8_t notify;
        const char *orcpt;
    } want[] = {
        {"b@d.example", QUEUE_NOTIFY_NEVER, ""},
        {"a@d.example", QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_EXPANDED,
         "rfc822;all@mta.sender.example"},
        {"c@d.example", QUEUE_NOTIFY_FAILURE, "rfc822;all@mta.sender.example"},
    };
    struct intake_client client = {.helo = "c", .address = "192.0.2.7", .tls = ""};
    struct smtp_verdict verdict = {.code = 0};
    struct smtp_rcpt rcpt = {
        .address = {.whole = STR("b@d.example"), .local = STR("b"), .domain = STR("d.example")},
        .notify = SMTP_NOTIFY_NEVER,
        .orcpt = STR("")};
    struct queue_message *message = NULL;
    struct session session = {.worker = NULL};
    struct world w;
    uint64_t id = 0;
    (void)unused;
    set_up(&w);
    session.settings = w.settings;
    session.listener = &w.config->listeners[0];
    session.intake = intake_new(&w.worker, w.settings, session.listener, STR("me@x"), &plain);
    session_on_rcpt(&rcpt, &verdict, &session);
    rcpt.address = (struct smtp_address){.whole = STR("all"), .local = STR("all")};
    rcpt.notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE;
    session_on_rcpt(&rcpt, &verdict, &session);
    assert_int_equal(verdict.code, 0);
    assert_int_equal(intake_begin(session.intake, &client), 0);
    finish(&w, session.intake);
    assert_true(queue_id_parse(w.id, strlen(w.id), &id));
    assert_int_equal(queue_read_message(w.fixture->queue, id, &message), 0);
    const struct queue_envelope *envelope = queue_message_envelope(message);
    assert_int_equal(envelope->recipient_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(envelope->recipients[i].address, want[i].address);
        assert_int_equal(envelope->recipients[i].notify, want[i].notify);
        assert_string_equal(envelope->recipients[i].orcpt, want[i].orcpt);
    }
    queue_message_free(&message);
    tear_down(&w);
}

static void test_recipients(void **unused)
{
    struct world w;
    (void)unused;
    set_up(&w);
    struct intake *intake =
        intake_new(&w.worker, w.settings, &w.config->listeners[0], STR(""), &plain);
    assert_int_equal(add(intake, "a@dest.example"), INTAKE_RCPT_OK);
    assert_int_equal(add(intake, "A@dest.example"), INTAKE_RCPT_OK);
    assert_int_equal(add(intake, "a@[192.0.2.1]"), INTAKE_RCPT_OK);
    assert_int_equal(add(intake, "a@a..b"), INTAKE_RCPT_NO_DOMAIN);
    /* an alias that stopped half-way leaves nobody behind */
    size_t kept = atomic_load(&w.submit.kept_used);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(intake_recipient_count(intake), 3);
        assert_int_equal(add(intake, "b@dest.example"), INTAKE_RCPT_OK);
        assert_int_equal(add(intake, "c@dest.example"), INTAKE_RCPT_OK);
        assert_int_equal(intake_recipient_count(intake), 5);
        assert_int_equal(intake_add_recipient(intake, STR("d@dest.example"), STR("dest.example"),
                                              QUEUE_NOTIFY_NEVER, STR("rfc822;d@dest.example")),
                         INTAKE_RCPT_OK);
        intake_drop_recipients(intake, 3);
        assert_int_equal(atomic_load(&w.submit.kept_used), kept);
    }
    intake_abandon(&intake);
    intake_abandon(&intake);
    tear_down(&w);
}

/* Header sections and recipients have a bound of their own: above it nothing more is kept, the
 * message is refused at its end, and the budget for bodies is not touched. */
static void test_no_room(void **unused)
{
    struct world w;
    uint16_t code = 0;
    char text[200] = "";
    (void)unused;
    set_up(&w);
    struct intake *intake = begin(&w, 0);
    feed(intake, "Subject: x\r\n", 12, 1);
    assert_false(intake_in_body(intake));
    size_t kept = atomic_load(&w.submit.kept_used);
    assert_in_range(kept, 12 + strlen("you@DEST.example"), 1000);
    assert_int_equal(atomic_load(&w.submit.budget_used), 0);

    atomic_fetch_add(&w.submit.kept_used, SUBMIT_KEPT_MAX - kept); /* of other sessions */
    assert_int_equal(add(intake, "c@dest.example"), INTAKE_RCPT_NO_ROOM);
    assert_int_equal(add(intake, "you@DEST.example"), INTAKE_RCPT_OK); /* is there already */
    feed(intake, "To: y\r\n", 7, 7);
    assert_int_equal(atomic_load(&w.submit.kept_used), SUBMIT_KEPT_MAX - 12);
    atomic_fetch_sub(&w.submit.kept_used, SUBMIT_KEPT_MAX - kept);
    feed(intake, "\r\nbody\r\n", 8, 3); /* a hole in a message is not closed by room */
    assert_false(intake_finish(intake, on_done, &w, &code, text, sizeof text));
    assert_int_equal(code, 452);
    assert_memory_equal(text, "4.3.1", 5);
    intake_abandon(&intake);
    tear_down(&w);
    assert_int_equal(w.answers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),        cmocka_unit_test(test_long_body),
        cmocka_unit_test(test_too_many_hops),  cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_recipients),     cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_envelope),       cmocka_unit_test(test_received),
        cmocka_unit_test(test_repeated_field), cmocka_unit_test(test_author),
        cmocka_unit_test(test_asked),          cmocka_unit_test(test_alias),
    };
    int failed = tls_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    tls_deinit();
    return failed;
}
