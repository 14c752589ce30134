/* queue/queue.h - the durable queue: an LMDB store, its group-commit writer thread, the due order.
 *
 * Knows envelopes and bytes, not SMTP. LMDB stays inside this folder. Who may call what:
 *   - queue_put_*, queue_record, queue_admin: any thread; they hand work to the writer thread and
 *     return at once. The result comes back through the caller's port (below).
 *   - queue_read_* : any thread; one LMDB read transaction a thread, held at most 10 ms.
 * Everything the writer finds waiting goes into one transaction (at most 4 MiB of body or 20 ms of
 * work), is committed (synced), and only then reported. A lone message is committed at once; outcomes
 * join the next accept's transaction, or are committed alone 5 ms after the first one waits. While mail
 * comes in, those that end nothing (deferred, parked) may wait for up to 250 ms, to be committed together.
 * Three lines wait for the writer: what accepts mail, outcomes and parking, admin's steps. Accepting goes
 * first; the others have a third of a transaction's working time while it waits, so that neither flood
 * delays the other by more than a commit. With an admin's steps in line they have 1 to 10 ms each: as
 * much as keeps the transaction, its sync included, at 15 ms if mail is accepted, else 20.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_MUST_USE __attribute__((warn_unused_result))

#define QUEUE_DOMAIN_MAX 255      /* octets of a next-hop domain, without NUL */
#define QUEUE_ADDRESS_MAX 1024    /* octets of a sender or recipient */
#define QUEUE_ENVID_MAX 100       /* octets (RFC 3461 section 4.4), */
#define QUEUE_ORCPT_MAX 500       /* (section 4.2) */
#define QUEUE_RECIPIENTS_MAX 50000
#define QUEUE_PIECE_MAX ((size_t)256 * 1024)
#define QUEUE_TEXT_MAX 1024       /* octets of an attempt's text; longer is cut */
#define QUEUE_ID_TEXT 14          /* 13 characters of Crockford base32 and a NUL */
#define QUEUE_NEVER INT64_MAX

enum {
    QUEUE_OK = 0,
    QUEUE_ERR_FULL = -1,   /* max_size reached or the disk is nearly full: 452 4.3.1 */
    QUEUE_ERR_IO = -2,     /* nothing was stored */
    QUEUE_ERR_UNSURE = -3, /* undecided and could not be settled: neither 250 nor a refusal may be told */
    QUEUE_ERR_LOCKED = -4, /* another process holds the queue */
    QUEUE_ERR_SCHEMA = -5, /* written by a version that this one does not know */
    QUEUE_ERR_DAMAGED = -6,/* the record does not decode; it is set aside */
    QUEUE_ERR_CLOSED = -7, /* the queue is shutting down; nothing was stored */
    QUEUE_ERR_LIMIT = -8,  /* an argument is over a limit above */
    QUEUE_ERR_UNABLE = -9, /* the file system cannot do this */
};
const char *queue_error_text(int code);

/* ---- identifiers ---- */
/* max(last + 1, milliseconds since the epoch << 22); reserved ahead in `meta`: no two messages of which
 * anything was stored ever share one. */
void queue_id_text(uint64_t id, char text[QUEUE_ID_TEXT]);
/* Upper or lower case; I, L read as 1, O as 0 (Crockford). */
QUEUE_MUST_USE bool queue_id_parse(const char *text, size_t len, uint64_t *id_out);

/* ---- ports: how results come back ---- */
struct queue;
struct queue_port; /* one a consuming thread */

/* notify is called from the writer thread when something waits (not again until queue_port_run has
 * begun); it must only wake the owner (uv_async_send). */
typedef void (*queue_notify_fn)(void *ctx);
struct queue_port *queue_port_new(struct queue *queue, queue_notify_fn notify, void *ctx);
void queue_port_run(struct queue_port *port);  /* owner's thread: runs the waiting callbacks */
void queue_port_free(struct queue_port **portp); /* owner's thread; callbacks still to come are dropped */

/* ---- open and close ---- */
/* A unit: (message, next-hop domain), the recipients that travel together. */
struct queue_unit_ref {
    uint64_t id;
    uint16_t unit;
    int64_t accepted_unix_ms;
    const char *domain; /* NUL-terminated, borrowed for the call */
};

/* A domain's order of work has two lanes, so that neither kind of mail can starve the other. */
enum queue_lane {
    QUEUE_LANE_NEW = 0,   /* no attempt was counted yet: parked */
    QUEUE_LANE_RETRY = 1, /* deferred */
};

struct queue_options {
    const char *folder;  /* made if absent, mode 0700 */
    uint64_t max_bytes;
    /* Called on the writer thread after each commit that made units ready for delivery at once: a
     * message was accepted (fresh). Must not block; copies what it keeps. Never NULL. */
    void (*on_fresh)(const struct queue_unit_ref *units, size_t count, void *ctx);
    /* After a commit in which a unit of the domain entered the lane at this time (parked, deferred,
     * retried, released). One call an entry; entries that leave are not told. Same rules. */
    void (*on_due)(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx);
    /* After the commit that ends a QUEUE_VERB_DELETE, _HOLD or _BOUNCE which changed something: the
     * message, some of its units, or a record that was set aside. Same rules. */
    void (*on_removed)(uint64_t id, void *ctx);
    /* A line for the log: something an admin should know (n interrupted messages, record set aside, I/O error). */
    void (*on_notice)(bool is_error, const char *text, void *ctx);
    void *ctx;
    int64_t (*wall_ms)(void); /* NULL: the system's clock; tests give their own */
};

/**
 * Lock the folder, open the store, start the writer thread; it removes what interrupted transfers left.
 *
 * @return QUEUE_OK; QUEUE_ERR_LOCKED (error names the pid); QUEUE_ERR_SCHEMA; QUEUE_ERR_IO
 * Does not scan the queue: cost does not depend on its depth (but for `incoming`, which is small).
 */
QUEUE_MUST_USE int queue_open(const struct queue_options *options, struct queue **queue_out,
                              char *error, size_t error_size);

/* Commit what waits, stop the writer, close. All ports must be freed first. Stores NULL. */
void queue_close(struct queue **queuep);

/* ---- accepting ---- */
enum queue_rcpt_state {
    QUEUE_RCPT_WAITING = 0, /* not tried, or to be tried again */
    QUEUE_RCPT_DELIVERED = 1,
    QUEUE_RCPT_FAILED = 2,         /* bounced (or null sender: logged only) */
    QUEUE_RCPT_EXPIRED = 3,        /* bounced after its time */
    QUEUE_RCPT_REMOVED = 4,        /* by an admin */
    QUEUE_RCPT_BOUNCE_PENDING = 5, /* failed for good, its DSN is not stored yet (queue was full) */
};

/* Of what the sender wants to be told (NOTIFY, RFC 3461 section 4.1); 0: nothing was said. */
enum queue_notify {
    QUEUE_NOTIFY_NEVER = 1, /* without the next three */
    QUEUE_NOTIFY_SUCCESS = 2,
    QUEUE_NOTIFY_FAILURE = 4,
    QUEUE_NOTIFY_DELAY = 8,
    /* Beside one of these, without SUCCESS: the sender wanted to be told of success, but of a name that
     * stands for several addresses. That is due to it once, as "expanded" (section 5.2.7.3), and the first
     * of these addresses has this mark. */
    QUEUE_NOTIFY_EXPANDED = 16,
};

/* What is to be returned with a failure (RET, section 4.3). */
enum queue_ret { QUEUE_RET_NONE = 0, QUEUE_RET_FULL = 1, QUEUE_RET_HDRS = 2 };

struct queue_recipient {
    const char *address; /* as given in RCPT, without <>; NUL-terminated; never empty */
    const char *domain;  /* next-hop domain, lower case A-labels: recipients of equal domain form a unit */
    uint8_t notify;      /* enum queue_notify bits */
    const char *orcpt;   /* ORCPT as given, "type;xtext"; no blanks, no control bytes. Put: "" or NULL is none;
                          * read back: never NULL */
    /* Below: read back only; ignored by put. */
    uint16_t unit;
    enum queue_rcpt_state state;
    uint32_t attempts; /* saturates */
};

struct queue_unit {
    const char *domain;
    int64_t due_unix_ms; /* next attempt; 0: fresh; QUEUE_NEVER: held or done */
    uint32_t attempts;   /* finished ones; saturates */
    bool held;           /* by an admin: nothing is tried until released */
    bool warned;         /* its sender has been told of the delay */
    bool done;           /* every recipient has ended */
};

enum { /* flags of an envelope */
    QUEUE_FLAG_8BIT = 1,    /* BODY=8BITMIME was given, or is needed */
    QUEUE_FLAG_BOUNCE = 2,  /* a DSN of ours */
    QUEUE_FLAG_SMTPUTF8 = 4,   /* RFC 6531 */
    QUEUE_FLAG_REQUIRETLS = 8, /* RFC 8689 */
};

struct queue_envelope {
    const char *sender; /* "" is the null sender */
    const struct queue_recipient *recipients;
    size_t recipient_count;
    uint32_t flags; /* of those above; others: QUEUE_ERR_LIMIT */
    enum queue_ret ret;
    const char *envid; /* ENVID, xtext as given; as orcpt */
    uint64_t header_bytes; /* length of the header section at the body's start, its final blank line excluded */
    uint64_t body_bytes;   /* all stored bytes; put: filled in by the queue */
    uint8_t body_hash[32]; /* DKIM relaxed body hash, made while it arrived; all zero: none */
    const char *sign_domain; /* lower case From domain that picks the DKIM key, or "" */
    int64_t accepted_unix_ms;
    /* Below: read back only. */
    const char *prefix;      /* header bytes to send before the stored ones (the DKIM signature), or "" */
    const struct queue_unit *units;
    size_t unit_count;
};

struct queue_put; /* a message on its way in */

/* Begin: takes an id (after a crash or a clock step never one that was used). Any thread, no I/O.
 * Calls on one put come from one thread. The port receives the result. */
QUEUE_MUST_USE int queue_put_begin(struct queue *queue, struct queue_port *port,
                                   struct queue_put **put_out, uint64_t *id_out);

/* Hand over the next bytes (copied; at most QUEUE_PIECE_MAX a call). They reach the store before the
 * commit, in transactions that are not larger than 4 MiB; `on_stored(len)` through the port tells that
 * len bytes no longer take memory: that is what a sender's budget counts. on_stored may be NULL.
 * @return 0, QUEUE_ERR_LIMIT. A failure to store shows up at commit. */
typedef void (*queue_stored_fn)(size_t len, void *ctx);
QUEUE_MUST_USE int queue_put_piece(struct queue_put *put, const void *bytes, size_t len,
                                   queue_stored_fn on_stored, void *ctx);

/* result: QUEUE_OK after the synced commit, and only then; FULL, IO, UNSURE, CLOSED, LIMIT. */
typedef void (*queue_done_fn)(int result, void *ctx);

/* All bytes are handed over; make it durable. Consumes the put; the envelope is copied. Exactly one
 * callback through the port (none after the port is freed). */
void queue_put_commit(struct queue_put *put, const struct queue_envelope *envelope,
                      queue_done_fn on_done, void *ctx);

/* Forget it; what was stored is removed. Consumes the put; no callback for the message, on_stored of its
 * pieces still comes. */
void queue_put_abort(struct queue_put *put);

/* Cheap and approximate: would a message of this size be refused as FULL just now? Any thread. */
bool queue_is_full(struct queue *queue, uint64_t bytes);

/* ---- outcomes ---- */
struct queue_attempt {
    int64_t time_unix_ms;
    const char *host;    /* "" if none was reached; all strings borrowed, cut at QUEUE_TEXT_MAX */
    const char *address;
    uint16_t code;       /* SMTP reply code, 0: none */
    const char *status;  /* RFC 3463, "4.4.1" */
    const char *text;    /* any bytes but NUL */
    const char *tls;     /* "TLS1.3 ..." or "" */
};

struct queue_rcpt_outcome {
    uint32_t recipient; /* index in the envelope */
    enum queue_rcpt_state state;
    const struct queue_attempt *attempt; /* NULL: none took place */
};

struct queue_bounce { /* a DSN that is accepted in the very transaction that records the failure */
    const struct queue_envelope *envelope;
    const void *bytes;
    size_t len; /* at most 2 MiB */
};

struct queue_outcome {
    uint64_t id;
    uint16_t unit;
    const struct queue_rcpt_outcome *recipients;
    size_t recipient_count;
    int64_t due_unix_ms; /* next attempt for what is still WAITING or BOUNCE_PENDING; ignored if nothing is */
    bool count_attempt;  /* false: parked or not tried (window full, shutdown): no attempt is counted */
    const char *prefix;  /* signature to keep for the next attempt, or NULL: unchanged */
    bool warned;         /* `bounce` tells of the delay: the unit is marked, nothing has failed by it */
    const struct queue_bounce *bounce; /* or NULL */
};

/**
 * Record what happened to a unit: recipient states, attempt rows (the first and the last 20 of each
 * recipient; none while half of the room beyond max_bytes is used), next due time; the message leaves the store when its last recipient has ended.
 * Everything is copied. on_done through the port after the commit; with QUEUE_ERR_FULL (the bounce does
 * not fit) or QUEUE_ERR_IO nothing of this outcome was recorded, or of very many recipients a part: recorded
 * again, it goes on. A message that is gone (an admin removed it): QUEUE_OK. Very many recipients take
 * several transactions; the last one has the due time and, with the bounce, all whose end it tells of.
 */
void queue_record(struct queue *queue, struct queue_port *port, const struct queue_outcome *outcome,
                  queue_done_fn on_done, void *ctx);

/* A unit that does not fit the scheduler's window: leaves `fresh`, enters `due` at the given time in the
 * lane of new mail. on_done as for queue_record; port NULL: nobody is told. */
void queue_park(struct queue *queue, struct queue_port *port, uint64_t id, uint16_t unit,
                int64_t due_unix_ms, queue_done_fn on_done, void *ctx);

/* ---- reading ---- */
struct queue_message; /* a decoded record, a copy: free it with queue_message_free */

/* @return 0; 1: no such message; QUEUE_ERR_DAMAGED; QUEUE_ERR_IO */
QUEUE_MUST_USE int queue_read_message(struct queue *queue, uint64_t id, struct queue_message **out);
const struct queue_envelope *queue_message_envelope(const struct queue_message *message);
void queue_message_free(struct queue_message **messagep);

/* Copy body bytes from offset on. @return bytes copied (0 at the end), or QUEUE_ERR_*; -100: gone */
enum { QUEUE_READ_GONE = -100 };
QUEUE_MUST_USE long queue_read_body(struct queue *queue, uint64_t id, uint64_t offset, void *buf,
                                    size_t size);

/* Attempts of a message in the order recipient, time. Stops when fn returns false. */
typedef bool (*queue_attempt_fn)(uint32_t recipient, const struct queue_attempt *attempt, void *ctx);
QUEUE_MUST_USE int queue_read_attempts(struct queue *queue, uint64_t id, queue_attempt_fn fn, void *ctx);

/* `fresh` from `from` on, at most max ids. @return count; QUEUE_ERR_IO. Called in a loop at start. */
QUEUE_MUST_USE long queue_read_fresh(struct queue *queue, uint64_t from, uint64_t *ids_out, size_t max);

/* `next` after the position (time, lane, domain) up to `until`: which lanes of which domains have
 * work, each once, with its earliest time. A NULL domain begins at the time. fn false: stop. */
typedef bool (*queue_next_fn)(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx);
QUEUE_MUST_USE int queue_read_next(struct queue *queue, int64_t after_ms, enum queue_lane after_lane,
                                   const char *after_domain, int64_t until_ms, queue_next_fn fn,
                                   void *ctx);

/* One lane of a domain, in time order, up to `until`. fn false: stop. *later_out (may be NULL): the
 * time of the first entry after `until`, QUEUE_NEVER if there is none or fn stopped. */
typedef bool (*queue_due_fn)(int64_t due_unix_ms, uint64_t id, uint16_t unit, void *ctx);
QUEUE_MUST_USE int queue_read_due(struct queue *queue, const char *domain, enum queue_lane lane,
                                  int64_t until_ms, queue_due_fn fn, void *ctx, int64_t *later_out);

/* The same for the scheduler: from a time on, and with what it must know of an entry. */
struct queue_due_entry {
    int64_t due_unix_ms;
    uint64_t id;
    uint16_t unit;
    bool bounce_only; /* nothing is to be sent: every recipient that has not ended is BOUNCE_PENDING */
};
typedef bool (*queue_draw_fn)(const struct queue_due_entry *entry, void *ctx);
QUEUE_MUST_USE int queue_draw_due(struct queue *queue, const char *domain, enum queue_lane lane,
                                  int64_t from_ms, int64_t until_ms, queue_draw_fn fn, void *ctx,
                                  int64_t *later_out);

/* Every message after id *after, oldest first, decoded in place: for looking at very many. Goes on
 * for at most about 5 ms (one read transaction), then returns; *after is where it stopped. The
 * envelope is valid for the call only; fn must be quick and not read the queue. fn false: stop, this
 * message counted as seen. Records that do not decode are left out (reported to the writer, set aside).
 * @return 1: more; 0: the end, or fn stopped; QUEUE_ERR_IO */
typedef bool (*queue_scan_fn)(uint64_t id, const struct queue_envelope *envelope, void *ctx);
QUEUE_MUST_USE int queue_scan(struct queue *queue, uint64_t *after, queue_scan_fn fn, void *ctx);

/* Messages by id after `after`, at most max; set-aside ones included. @return count; QUEUE_ERR_IO */
QUEUE_MUST_USE long queue_read_ids(struct queue *queue, uint64_t after, uint64_t *ids_out, size_t max);

/* Records that did not decode: set aside at the first look (kept byte for byte in database `damaged`). */
struct queue_damaged {
    uint64_t id;
    const char *reason;
    size_t bytes;
};
typedef bool (*queue_damaged_fn)(const struct queue_damaged *damaged, void *ctx);
QUEUE_MUST_USE int queue_read_damaged(struct queue *queue, queue_damaged_fn fn, void *ctx);

struct queue_counts {
    uint64_t messages;
    uint64_t units_fresh;    /* not tried yet (also those parked or in delivery) */
    uint64_t units_deferred;
    uint64_t units_held;
    uint64_t damaged;
    uint64_t bytes;          /* stored message bytes */
    uint64_t file_bytes;     /* of the map in use */
    uint64_t commits;        /* since open */
};
/* Counters kept in the same transactions (units) : no scan. */
QUEUE_MUST_USE int queue_read_counts(struct queue *queue, struct queue_counts *counts_out);

/* ---- what the writer does, for metrics ---- */
#define QUEUE_BUCKETS 16
struct queue_histogram {
    uint64_t counts[QUEUE_BUCKETS + 1]; /* not cumulative; the last one: above all bounds */
    uint64_t count;
    double sum;
};
extern const double queue_time_bounds[QUEUE_BUCKETS];  /* seconds, 0.0001 .. 10 */
extern const double queue_batch_bounds[QUEUE_BUCKETS]; /* messages and outcomes, 1 .. 32768 */
struct queue_metrics {
    struct queue_histogram accept;  /* from queue_put_commit to the answer, seconds */
    struct queue_histogram commit;  /* a transaction: work and sync, seconds */
    struct queue_histogram sync;    /* the commit alone, seconds */
    struct queue_histogram admin;   /* transactions with an admin's step in them, seconds */
    struct queue_histogram batch;   /* jobs a transaction */
    uint64_t accepted, outcomes, parked, admin_steps; /* jobs done */
    uint64_t refused_full, failed_io, undecided;      /* puts refused; transactions */
    bool full, broken;                                /* now */
    uint64_t busy_ms; /* the transaction at hand has lasted so long; 0: the writer sleeps */
};
void queue_read_metrics(struct queue *queue, struct queue_metrics *metrics_out);

/* ---- admin steps: units of one message a call, through the writer ---- */
enum queue_verb {
    QUEUE_VERB_RETRY,   /* what waits (deferred or parked) becomes due now; held units are left alone */
    QUEUE_VERB_DELETE,  /* waiting recipients end as REMOVED; no bounce */
    QUEUE_VERB_HOLD,    /* nothing is tried until released; an attempt under way ends as it began */
    QUEUE_VERB_RELEASE, /* held units become due now, in their lane */
    QUEUE_VERB_BOUNCE,  /* waiting recipients become BOUNCE_PENDING with the attempt given, due now:
                         * the delivery side makes the DSN; held units too */
};
/* units: numbers, ascending, copied; unit_count 0: all units of the message. A unit whose recipients have
 * ended is left alone. attempt: what BOUNCE records, else NULL; copied. A message with very many units is
 * changed over several transactions. DELETE without units reaches records that were set aside as well.
 * A unit that is due already keeps its place under RETRY and RELEASE; on_due is told all the same.
 * @return through on_done: QUEUE_OK: something changed; 1: nothing to change (or no such message) */
void queue_admin(struct queue *queue, struct queue_port *port, enum queue_verb verb, uint64_t id,
                 const uint16_t *units, size_t unit_count, const struct queue_attempt *attempt,
                 queue_done_fn on_done, void *ctx);

#endif
