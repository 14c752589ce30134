/* mta/control/walk.h - a command that goes over the queue: every message that its selectors mean,
 * oldest id first, then (where asked for) the records that were set aside.
 *
 * A walk alternates between two threads and belongs to one at a time: a step looks at messages on
 * the scanner's thread (at most about 5 ms, one read transaction) and gathers; back on the main
 * loop its lines are sent and its work is handed on. It rests while its client has enough to read
 * or its kind says so, and ends when the client has left. */
#ifndef MTA_CONTROL_WALK_H
#define MTA_CONTROL_WALK_H

#include "mta/base/buf.h"
#include "mta/control/control_private.h"
#include "mta/control/scanner.h"

#define WALK_OUTPUT_STEP ((size_t)8 * 1024) /* a step that has gathered so many bytes is full */
#define WALK_PROGRESS_MS 500

struct walk_kind {
    /* Scanner's thread, inside a read transaction (must not read the queue): a message of which the
     * units in walk->set are meant (never none). Those below unit_from had an earlier step.
     * @return false: the step is full. The walk goes on behind this message, or, if *resume_out was
     * set, with this one and that unit */
    bool (*visit)(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                  size_t unit_from, size_t *resume_out);
    /* Scanner's thread: a record that was set aside and is meant. NULL: the walk has no interest in
     * any. @return as above, without resuming */
    bool (*visit_damaged)(struct walk *walk, const struct queue_damaged *damaged);
    /* Scanner's thread, once, after the last message. May be NULL. */
    void (*end)(struct walk *walk);
    /* Main loop. NULL: never. */
    bool (*must_wait)(const struct walk *walk);
    void (*after_step)(struct walk *walk);
    /* Main loop, all has been seen, or walk->failure says why not (the client is told after this):
     * the last lines. @return the exit code, or -1: something is under way; control_step_resume()
     * when it has ended */
    int (*finish)(struct walk *walk);
    void (*free)(struct walk *walk); /* also of one that was cut short */
};

enum walk_phase {
    WALK_ID,       /* one message by its id */
    WALK_SCAN,     /* all messages */
    WALK_SETTLE,   /* what the scan found damaged must be set aside by the writer first ... */
    WALK_SETTLING, /* ... and is just being */
    WALK_DAMAGED,  /* the records set aside */
    WALK_END,      /* the kind's end() */
    WALK_DONE,
};

struct walk {
    struct scanner_job job;
    struct control_client *client;
    const struct walk_kind *kind;
    void *own; /* the kind's */
    enum walk_phase phase;
    bool stepping; /* with the scanner */
    struct selector selector;
    uint64_t until;     /* the last id that is meant: what came later is another matter */
    uint64_t limit;     /* messages or lines that are wanted; UINT64_MAX: all */
    uint64_t after;     /* the last id seen whole */
    uint64_t resume_id; /* a message of which ... */
    size_t unit_from;   /* ... units below this one have been seen; 0: there is none */
    bool cut;           /* the step was full before it had looked at everything */
    bool past;          /* it came to what is not meant any more */
    struct unit_set set;
    struct buf output; /* lines of the step at hand */
    int failure;       /* QUEUE_ERR_*, or 0 */
    uint64_t seen;     /* messages looked at */
    uint64_t matched;  /* lines or messages: counts against the limit */
    uint64_t total;    /* messages in the queue when it began */
    bool wants_progress;
    uint64_t progress_ms; /* when it was told last */
};

/**
 * Begin a walk over what the client's request selects (members as in README.md; "limit",
 * "progress"). The client is told if the request is wrong.
 *
 * @param kind  static
 * @param own   freed by kind->free(), also when this fails
 * @return the walk, owned by the client; NULL: the client has been told
 */
struct walk *control_walk_start(struct control_client *client, const struct walk_kind *kind,
                                void *own);
/* Leave out what is accepted from now on: the command may take long, and mail goes on coming. */
void control_walk_bound(struct walk *walk);
/* One more step, or rest. Main loop. */
void control_walk_step(struct control_client *client);
/* Client's end. Not while the scanner has it. */
void control_walk_free(struct walk **walkp);
/* The scanner was stopped: nothing is under way any more. */
void control_walk_abandon(struct walk *walk);

/* A line for the client; takes the reference. Both threads, each in its turn. */
void control_walk_add_line(struct walk *walk, json_t *object);
bool control_walk_is_full(const struct walk *walk);

#endif
