/* mta/deliver/policy.c - what a failure means. See policy.h. */
#include "mta/deliver/policy.h"

#include <stdio.h>
#include <string.h>

/* Is this 4xx/5xx to RCPT only about the number of recipients? 552 is what old servers say for 452
 * (RFC 5321 section 4.5.3.1.10), but with another enhanced code it means a full mailbox. */
static bool says_too_many(const struct smtp_result *result)
{
    const struct smtp_reply *reply = &result->reply;
    if (result->stage != SMTP_STAGE_RCPT)
        return false;
    if (reply->code == 452)
        return reply->status[0] == '\0' || strcmp(reply->status, "4.5.3") == 0;
    if (reply->code == 552)
        return reply->status[0] == '\0' || strcmp(reply->status, "5.5.3") == 0;
    return false;
}

static const char *default_status(uint16_t code)
{
    return code >= 500 ? "5.0.0" : "4.0.0";
}

static void judge_reply(const struct smtp_result *result, struct mail_outcome *out)
{
    const struct smtp_reply *reply = &result->reply;
    const char *status = reply->status[0] != '\0' ? reply->status : default_status(reply->code);
    bool of_the_host = result->stage < SMTP_STAGE_MAIL || result->stage > SMTP_STAGE_DOT;

    if (says_too_many(result)) {
        outcome_set(out, OUTCOME_ANOTHER, reply->code, "4.5.3", reply->text);
        return;
    }
    if (result->stage == SMTP_STAGE_MAIL && reply->code == 530) {
        /* The relay wants a login: a matter of configuration, never the message's fault. */
        outcome_set(out, OUTCOME_DEFERRED, reply->code, "4.7.8", reply->text);
        return;
    }
    if (reply->code == 503 && !of_the_host) {
        /* Bad sequence of commands: we and the server are out of step, which says nothing of the
         * mail. */
        outcome_set(out, OUTCOME_DEFERRED, reply->code, "4.5.1", reply->text);
        return;
    }
    if (reply->code >= 500 && !of_the_host) {
        outcome_set(out, OUTCOME_FAILED, reply->code, status[0] == '5' ? status : "5.0.0",
                    reply->text);
        return;
    }
    /* A refused greeting, EHLO, STARTTLS or RSET belongs to the host, whatever its first digit. */
    outcome_set(out, OUTCOME_DEFERRED, reply->code, status[0] == '4' ? status : "4.3.2",
                reply->text);
}

static void judge_silence(const struct smtp_result *result, struct mail_outcome *out)
{
    char text[SMTP_REPLY_TEXT_MAX + 128];
    const char *status = result->failure == SMTP_FAIL_PROTOCOL ? "4.5.0" : "4.4.2";
    const char *words = result->reply.text;
    if (result->stage == SMTP_STAGE_CONNECT)
        status = "4.4.1";
    if (result->stage == SMTP_STAGE_DOT)
        snprintf(text, sizeof text,
                 "outcome unknown: %s while waiting for the reply to the final dot", words);
    else
        snprintf(text, sizeof text, "%s (%s)", words, smtp_stage_text(result->stage));
    outcome_set(out, OUTCOME_DEFERRED, 0, status, text);
}

static void judge_own_policy(const struct smtp_result *result, struct mail_outcome *out)
{
    const struct smtp_reply *reply = &result->reply;
    bool for_good = reply->code >= 500 && result->stage >= SMTP_STAGE_MAIL;
    const char *status = reply->status[0] != '\0'               ? reply->status
                         : result->stage == SMTP_STAGE_STARTTLS ? "4.7.4"
                                                                : default_status(reply->code);
    outcome_set(out, for_good ? OUTCOME_FAILED : OUTCOME_DEFERRED, 0, status, reply->text);
}

void policy_judge(const struct smtp_result *result, struct mail_outcome *outcome_out)
{
    switch (result->failure) {
    case SMTP_FAIL_NONE:
        outcome_set(outcome_out, OUTCOME_DELIVERED, result->reply.code,
                    result->reply.status[0] == '2' ? result->reply.status : "2.0.0",
                    result->reply.text);
        return;
    case SMTP_FAIL_REPLY:
        judge_reply(result, outcome_out);
        return;
    case SMTP_FAIL_PROTOCOL:
    case SMTP_FAIL_TIMEOUT:
    case SMTP_FAIL_CLOSED:
        judge_silence(result, outcome_out);
        return;
    case SMTP_FAIL_TLS:
        outcome_set(outcome_out, OUTCOME_DEFERRED, 0, "4.7.5", result->reply.text);
        return;
    case SMTP_FAIL_POLICY:
        judge_own_policy(result, outcome_out);
        return;
    }
    unreachable_bug();
}

void policy_judge_session(const struct smtp_result *result, struct mail_outcome *outcome_out)
{
    policy_judge(result, outcome_out);
    outcome_out->kind = OUTCOME_DEFERRED;
    if (outcome_out->status[0] != '4')
        memcpy(outcome_out->status, "4.3.2", sizeof "4.3.2");
}

enum policy_next policy_after_end(const struct smtp_result *result,
                                  const struct policy_situation *situation)
{
    if (situation->dot_sent)
        return POLICY_GIVE_UP;
    if (situation->opportunistic && situation->under_tls &&
        (result->failure == SMTP_FAIL_TLS || result->stage == SMTP_STAGE_TLS ||
         (result->stage == SMTP_STAGE_STARTTLS && result->failure != SMTP_FAIL_REPLY)))
        return POLICY_SAME_CLEAR;
    if (result->stage == SMTP_STAGE_EHLO && result->failure == SMTP_FAIL_CLOSED &&
        !situation->helo_only && result->reply.code >= 500)
        return POLICY_SAME_HELO;
    return POLICY_NEXT_ADDRESS;
}

void policy_judge_dns(enum dns_status status, const char *domain, const char *detail,
                      struct mail_outcome *outcome_out)
{
    char text[512];
    const char *extra = detail[0] != '\0' ? detail : dns_status_text(status);
    switch (status) {
    case DNS_NO_NAME:
        snprintf(text, sizeof text, "the domain %s does not exist (%s)", domain, extra);
        outcome_set(outcome_out, OUTCOME_FAILED, 0, "5.1.2", text);
        return;
    case DNS_NO_RECORD:
        snprintf(text, sizeof text, "the domain %s has neither MX nor address records", domain);
        outcome_set(outcome_out, OUTCOME_FAILED, 0, "5.4.4", text);
        return;
    case DNS_ANSWER:
    case DNS_SERVER_FAILURE:
    case DNS_TIMEOUT:
        snprintf(text, sizeof text, "DNS lookup of %s failed: %s", domain, extra);
        outcome_set(outcome_out, OUTCOME_DEFERRED, 0, "4.4.3", text);
        return;
    }
    unreachable_bug();
}
