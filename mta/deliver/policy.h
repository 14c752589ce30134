/* mta/deliver/policy.h - what a failure means: the only place that decides between next host, defer
 * and bounce (RFC 5321 sections 4.2.1 and 4.5.4.1, RFC 3463). Pure. */
#ifndef MTA_DELIVER_POLICY_H
#define MTA_DELIVER_POLICY_H

#include "dns/dns.h"
#include "mta/deliver/outcome.h"
#include "mta/smtp/client.h"

/* The outcome for a recipient from the session's result. */
void policy_judge(const struct smtp_result *result, struct mail_outcome *outcome_out);

/* The same for what waits on a session that ended: whatever ended it, it is never the recipients'
 * fault, and nothing was delivered by it. Always OUTCOME_DEFERRED. */
void policy_judge_session(const struct smtp_result *result, struct mail_outcome *outcome_out);

/* What the connection does after a session ended while a unit was waiting for it. */
enum policy_next {
    POLICY_NEXT_ADDRESS, /* the host itself failed: its next address, then the next host */
    POLICY_SAME_CLEAR,   /* the same address on a new connection without STARTTLS */
    POLICY_SAME_HELO,    /* the same address on a new connection with HELO */
    POLICY_GIVE_UP,      /* nothing another host could mend: the attempt is over */
};

struct policy_situation {
    bool opportunistic; /* TLS is wanted but not needed */
    bool under_tls;     /* the session had reached TLS or was reaching for it */
    bool helo_only;
    bool dot_sent; /* the final dot was written: outcome unknown, never try another host at once */
};
enum policy_next policy_after_end(const struct smtp_result *result,
                                  const struct policy_situation *situation);

/* A domain that could not be turned into hosts. */
void policy_judge_dns(enum dns_status status, const char *domain, const char *detail,
                      struct mail_outcome *outcome_out);

#endif
