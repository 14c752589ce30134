/* What a failure means, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mta/deliver/policy.h"

static struct smtp_result make(enum smtp_failure failure, enum smtp_stage stage, uint16_t code,
                               const char *status)
{
    static struct smtp_result result; /* large; the callers copy it or use it at once */
    memset(&result, 0, sizeof result);
    result.failure = failure;
    result.stage = stage;
    result.reply.code = code;
    snprintf(result.reply.status, sizeof result.reply.status, "%s", status);
    snprintf(result.reply.text, sizeof result.reply.text, "some words");
    return result;
}

static const struct judge_row {
    enum smtp_failure failure;
    enum smtp_stage stage;
    uint16_t code;
    const char *status;
    enum outcome_kind kind;
    uint16_t want_code;
    const char *want_status;
} judge_rows[] = {
    {SMTP_FAIL_NONE, SMTP_STAGE_DOT, 250, "2.6.0", OUTCOME_DELIVERED, 250, "2.6.0"},
    {SMTP_FAIL_NONE, SMTP_STAGE_DOT, 250, "", OUTCOME_DELIVERED, 250, "2.0.0"},
    {SMTP_FAIL_NONE, SMTP_STAGE_DOT, 250, "5.0.0", OUTCOME_DELIVERED, 250, "2.0.0"},
    /* the host's own matter, whatever its first digit */
    {SMTP_FAIL_REPLY, SMTP_STAGE_GREETING, 554, "5.7.1", OUTCOME_DEFERRED, 554, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_GREETING, 421, "4.3.2", OUTCOME_DEFERRED, 421, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_EHLO, 550, "", OUTCOME_DEFERRED, 550, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_HELO, 504, "", OUTCOME_DEFERRED, 504, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_STARTTLS, 502, "5.5.1", OUTCOME_DEFERRED, 502, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RSET, 500, "5.5.2", OUTCOME_DEFERRED, 500, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_QUIT, 500, "", OUTCOME_DEFERRED, 500, "4.3.2"},
    /* the message's or the recipient's */
    {SMTP_FAIL_REPLY, SMTP_STAGE_MAIL, 553, "5.1.8", OUTCOME_FAILED, 553, "5.1.8"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_MAIL, 452, "4.3.1", OUTCOME_DEFERRED, 452, "4.3.1"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_MAIL, 503, "5.5.1", OUTCOME_DEFERRED, 503, "4.5.1"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_MAIL, 530, "5.7.0", OUTCOME_DEFERRED, 530, "4.7.8"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 550, "5.1.1", OUTCOME_FAILED, 550, "5.1.1"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 550, "", OUTCOME_FAILED, 550, "5.0.0"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 550, "4.1.1", OUTCOME_FAILED, 550, "5.0.0"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 451, "", OUTCOME_DEFERRED, 451, "4.0.0"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 451, "5.0.0", OUTCOME_DEFERRED, 451, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_DATA, 554, "5.6.0", OUTCOME_FAILED, 554, "5.6.0"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_DATA, 421, "4.3.2", OUTCOME_DEFERRED, 421, "4.3.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_CONTENT, 552, "5.3.4", OUTCOME_FAILED, 552, "5.3.4"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_DOT, 554, "5.7.1", OUTCOME_FAILED, 554, "5.7.1"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_DOT, 421, "", OUTCOME_DEFERRED, 421, "4.0.0"},
    /* too many recipients, and what only looks like it (cases O24) */
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 452, "4.5.3", OUTCOME_ANOTHER, 452, "4.5.3"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 452, "", OUTCOME_ANOTHER, 452, "4.5.3"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 452, "4.2.2", OUTCOME_DEFERRED, 452, "4.2.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 552, "5.5.3", OUTCOME_ANOTHER, 552, "4.5.3"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 552, "", OUTCOME_ANOTHER, 552, "4.5.3"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_RCPT, 552, "5.2.2", OUTCOME_FAILED, 552, "5.2.2"},
    {SMTP_FAIL_REPLY, SMTP_STAGE_DOT, 552, "", OUTCOME_FAILED, 552, "5.0.0"},
    /* silence and nonsense */
    {SMTP_FAIL_TIMEOUT, SMTP_STAGE_MAIL, 0, "", OUTCOME_DEFERRED, 0, "4.4.2"},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_DOT, 0, "", OUTCOME_DEFERRED, 0, "4.4.2"},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_CONNECT, 0, "", OUTCOME_DEFERRED, 0, "4.4.1"},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_EHLO, 502, "", OUTCOME_DEFERRED, 0, "4.4.2"},
    {SMTP_FAIL_PROTOCOL, SMTP_STAGE_RCPT, 0, "", OUTCOME_DEFERRED, 0, "4.5.0"},
    {SMTP_FAIL_TLS, SMTP_STAGE_TLS, 0, "", OUTCOME_DEFERRED, 0, "4.7.5"},
    /* our own refusals */
    {SMTP_FAIL_POLICY, SMTP_STAGE_STARTTLS, 0, "", OUTCOME_DEFERRED, 0, "4.7.4"},
    {SMTP_FAIL_POLICY, SMTP_STAGE_MAIL, 552, "5.3.4", OUTCOME_FAILED, 0, "5.3.4"},
    {SMTP_FAIL_POLICY, SMTP_STAGE_MAIL, 0, "", OUTCOME_DEFERRED, 0, "4.0.0"},
    {SMTP_FAIL_POLICY, SMTP_STAGE_CONTENT, 0, "4.3.0", OUTCOME_DEFERRED, 0, "4.3.0"},
};

static void test_judge(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof judge_rows / sizeof judge_rows[0]; i++) {
        const struct judge_row *row = &judge_rows[i];
        struct smtp_result result = make(row->failure, row->stage, row->code, row->status);
        struct mail_outcome outcome = {0};
        policy_judge(&result, &outcome);
        if (outcome.kind != row->kind || outcome.code != row->want_code ||
            strcmp(outcome.status, row->want_status) != 0)
            fail_msg("row %zu: kind %d code %u status %s", i, (int)outcome.kind,
                     (unsigned)outcome.code, outcome.status);
        assert_non_null(outcome.text);
        outcome_clear(&outcome);
    }
}

/* What ends a session never delivers and never bounces what waits for it. */
static void test_judge_session(void **unused)
{
    (void)unused;
    for (int failure = SMTP_FAIL_NONE; failure <= SMTP_FAIL_POLICY; failure++)
        for (int stage = SMTP_STAGE_CONNECT; stage <= SMTP_STAGE_QUIT; stage++)
            for (uint16_t code = 0; code < 600; code = (uint16_t)(code + 50)) {
                struct smtp_result result =
                    make((enum smtp_failure)failure, (enum smtp_stage)stage, code, "");
                struct mail_outcome outcome = {0};
                policy_judge_session(&result, &outcome);
                assert_int_equal(outcome.kind, OUTCOME_DEFERRED);
                assert_int_equal(outcome.status[0], '4');
                outcome_clear(&outcome);
            }
}

static void test_unknown_outcome_is_named(void **unused)
{
    struct mail_outcome outcome = {0};
    struct smtp_result result = make(SMTP_FAIL_TIMEOUT, SMTP_STAGE_DOT, 0, "");
    (void)unused;
    policy_judge(&result, &outcome);
    assert_non_null(strstr(outcome.text, "outcome unknown"));
    result = make(SMTP_FAIL_TIMEOUT, SMTP_STAGE_DATA, 0, "");
    policy_judge(&result, &outcome);
    assert_null(strstr(outcome.text, "outcome unknown"));
    outcome_clear(&outcome);
}

static const struct next_row {
    enum smtp_failure failure;
    enum smtp_stage stage;
    uint16_t code;
    struct policy_situation situation; /* opportunistic, under_tls, helo_only, dot_sent */
    enum policy_next want;
} next_rows[] = {
    {SMTP_FAIL_CLOSED, SMTP_STAGE_GREETING, 0, {true, false, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_REPLY, SMTP_STAGE_GREETING, 554, {true, false, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_TLS, SMTP_STAGE_TLS, 0, {true, true, false, false}, POLICY_SAME_CLEAR},
    {SMTP_FAIL_TLS, SMTP_STAGE_TLS, 0, {false, true, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_STARTTLS, 0, {true, true, false, false}, POLICY_SAME_CLEAR},
    {SMTP_FAIL_TIMEOUT, SMTP_STAGE_STARTTLS, 0, {true, true, false, false}, POLICY_SAME_CLEAR},
    {SMTP_FAIL_REPLY, SMTP_STAGE_STARTTLS, 421, {true, true, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_POLICY, SMTP_STAGE_STARTTLS, 0, {false, true, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_EHLO, 502, {true, false, false, false}, POLICY_SAME_HELO},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_EHLO, 502, {true, false, true, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_CLOSED, SMTP_STAGE_EHLO, 0, {true, false, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_REPLY, SMTP_STAGE_EHLO, 421, {true, false, false, false}, POLICY_NEXT_ADDRESS},
    {SMTP_FAIL_REPLY, SMTP_STAGE_MAIL, 421, {true, true, false, false}, POLICY_NEXT_ADDRESS},
    /* the dot is out: never another host at once */
    {SMTP_FAIL_TIMEOUT, SMTP_STAGE_DOT, 0, {true, false, false, true}, POLICY_GIVE_UP},
    {SMTP_FAIL_TLS, SMTP_STAGE_TLS, 0, {true, true, false, true}, POLICY_GIVE_UP},
};

static void test_next(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof next_rows / sizeof next_rows[0]; i++) {
        const struct next_row *row = &next_rows[i];
        struct smtp_result result = make(row->failure, row->stage, row->code, "");
        enum policy_next next = policy_after_end(&result, &row->situation);
        if (next != row->want)
            fail_msg("row %zu: %d", i, (int)next);
    }
}

static void test_dns(void **unused)
{
    static const struct {
        enum dns_status status;
        enum outcome_kind kind;
        const char *want;
    } rows[] = {
        {DNS_NO_NAME, OUTCOME_FAILED, "5.1.2"},
        {DNS_NO_RECORD, OUTCOME_FAILED, "5.4.4"},
        {DNS_SERVER_FAILURE, OUTCOME_DEFERRED, "4.4.3"},
        {DNS_TIMEOUT, OUTCOME_DEFERRED, "4.4.3"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mail_outcome outcome = {0};
        policy_judge_dns(rows[i].status, "dest.example", "", &outcome);
        assert_int_equal(outcome.kind, rows[i].kind);
        assert_string_equal(outcome.status, rows[i].want);
        assert_non_null(strstr(outcome.text, "dest.example"));
        outcome_clear(&outcome);
    }
}

/* An outcome may be set from its own text. */
static void test_outcome_of_itself(void **unused)
{
    struct mail_outcome outcome = {0};
    (void)unused;
    outcome_set(&outcome, OUTCOME_DEFERRED, 451, "4.2.1", "words");
    outcome_copy(&outcome, &outcome);
    assert_string_equal(outcome.text, "words");
    outcome_set(&outcome, OUTCOME_FAILED, 550, outcome.status, outcome.text + 2);
    assert_string_equal(outcome.text, "rds");
    assert_string_equal(outcome.status, "4.2.1");
    outcome_clear(&outcome);
    assert_int_equal(outcome.kind, OUTCOME_NONE);
    assert_null(outcome.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_judge_session),
        cmocka_unit_test(test_unknown_outcome_is_named),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_outcome_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
