/* mta/control/verb.h - what an admin does to many messages: one call to the writer a message. */
#ifndef MTA_CONTROL_VERB_H
#define MTA_CONTROL_VERB_H

#include "mta/control/walk.h"

#define VERB_REASON_MAX  512
#define VERB_RESULTS_MAX ((size_t)4 << 20)

struct verb;
struct verb_call;

struct verb_row {
    const char *name;
    /* Mirrors queue_admin, so that a dry run counts what the real one would change. */
    bool (*can)(const struct verb *verb, const struct queue_unit *unit, size_t number);
    enum queue_verb verb;
    bool is_final; /* never done to recipients that --recipient did not name */
};

struct verb {
    const struct verb_row *row;
    bool dry_run;
    struct queue_attempt attempt;     /* of BOUNCE */
    char text[VERB_REASON_MAX + 128]; /* its text */

    /* The step's: */
    struct verb_call *batch, **batch_end;
    size_t batch_count, batch_bytes;
    uint64_t lines_left; /* the client wants so many messages named */
    uint64_t unlisted;   /* and these were not */
    uint64_t units, skipped, kept, partial, unreadable;
    uint8_t waiting[UINT16_MAX / 8 + 1]; /* BOUNCE: units that have a waiting recipient */

    /* The main loop's: */
    struct verb_call *calls; /* with the writer */
    size_t outstanding, logged_bytes;
    uint64_t messages, units_done, gone, failed;
    struct buf results;
    bool finished;
};

/* ---- verb_call.c ---- */
/* Scanner's thread: the writer is to be called for these units of the message; line: an object that
 * names it to the client (the reference is taken), or NULL. */
void verb_gather(struct walk *walk, uint64_t id, const struct queue_envelope *envelope,
                 const struct unit_set *set, json_t *line);
/* The same for a record that was set aside. */
void verb_gather_damaged(struct walk *walk, uint64_t id, json_t *line);
/* Enough for this step? */
bool verb_batch_is_full(const struct verb *verb);
/* Main loop: the step's calls go to the writer, the lines to the client. */
void verb_hand_on(struct walk *walk);
bool verb_must_wait(const struct walk *walk);
void verb_send_results(struct walk *walk);
void verb_free_calls(struct verb *verb); /* whatever is left of them */

#endif
