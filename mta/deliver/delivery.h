/* mta/deliver/delivery.h - one unit in hand: its message, the recipients that wait, and what became
 * of each. On the loop of one worker. */
#ifndef MTA_DELIVER_DELIVERY_H
#define MTA_DELIVER_DELIVERY_H

#include "mta/deliver/deliver_private.h"
#include "mta/smtp/client.h"

struct delivery {
    struct worker *worker;
    struct unit *unit;
    struct queue_message *message;
    const struct queue_envelope *envelope;
    struct mail_outcome *outcomes; /* one a recipient of the envelope */
    enum queue_rcpt_state *states; /* decided when settled */
    uint32_t *waiting;             /* recipients still to be sent to */
    size_t waiting_count;
    bool bounce_only; /* nothing to send: a DSN that did not fit earlier, or that an admin wants */
    bool by_admin;    /* of those, the latter: nobody has logged it yet; settle.c does */
    bool sent;        /* a final dot went out in this attempt */

    /* The transaction under way: the first batch_count of `waiting`. */
    struct str *batch;
    size_t batch_count;
    uint64_t offset; /* of the next content byte, the prefix counted first */
    char *prefix;    /* DKIM-Signature fields; NULL until signed */
    size_t prefix_len;
    uint64_t started_ms; /* monotonic */

    /* Where it went, for the record. */
    char host[256], address[48], tls[96], site[256];
    bool count_attempt;
};

enum delivery_load {
    DELIVERY_READY,
    DELIVERY_SKIP,  /* gone, done, held or not due: forget the unit */
    DELIVERY_LATER, /* the store cannot be read now */
};

/* Takes the unit only with DELIVERY_READY. */
MUST_USE enum delivery_load delivery_load(struct worker *worker, struct unit *unit,
                                          struct delivery **delivery_out);
void delivery_free(struct delivery **deliveryp); /* not the unit */

/* The next recipients, at most max. @return false: none is left */
MUST_USE bool delivery_begin_batch(struct delivery *delivery, size_t max,
                                   struct smtp_transaction *transaction_out);
/* Takes the recipients of the batch off the waiting list, but for those whose outcome is ANOTHER
 * (if one got further) or, with `again`, all that have not failed for good. */
void delivery_end_batch(struct delivery *delivery, bool again);
/* Has this attempt ended a recipient (delivered, failed for good) that is not recorded yet? */
bool delivery_has_progress(const struct delivery *delivery);
struct mail_outcome *delivery_batch_outcome(struct delivery *delivery, size_t index);

/* Content from the current offset: prefix, then body. @return count, 0 at the end, < 0: the store
 * failed */
MUST_USE long delivery_read_content(struct delivery *delivery, char *buf, size_t size);
uint64_t delivery_content_bytes(const struct delivery *delivery);

/* The same outcome for all that still wait. */
void delivery_fail_rest(struct delivery *delivery, const struct mail_outcome *outcome);

#endif
