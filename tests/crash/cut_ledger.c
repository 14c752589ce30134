/* tests/crash/cut_ledger.c - what was promised when the power went, and whether the queue keeps it.
 */
#include "tests/crash/cut_ledger.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/cut_state.h"

#define ACTS_MAX 6 /* that wait for an answer, on one message */

struct entry {
    uint64_t id;     /* 0: a bounce whose id nobody has told */
    uint64_t origin; /* of a bounce; 0: handed in from outside */
    uint32_t size;
    uint16_t origin_unit;
    bool may;               /* be there */
    bool must;              /* be there, until an act ended it */
    struct cut_state state; /* with all acts that are known to be done */
    struct cut_note acts[ACTS_MAX];
    size_t act_count;
    /* of one comparison: */
    bool seen;
    struct cut_state found;
    size_t applied; /* so many of the acts are in what was found */
};

struct cut_ledger {
    struct entry *entries; /* in the order in which they began */
    size_t count;
    size_t room;
    struct cut_numbers numbers;
    char *error;
    size_t error_size;
};

struct cut_ledger *cut_ledger_new(void)
{
    struct cut_ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL)
        abort();
    return ledger;
}

struct cut_ledger *cut_ledger_copy(const struct cut_ledger *ledger)
{
    struct cut_ledger *copy = cut_ledger_new();
    copy->count = copy->room = ledger->count;
    copy->entries = calloc(ledger->count + 1, sizeof *copy->entries);
    if (copy->entries == NULL)
        abort();
    if (ledger->count > 0)
        memcpy(copy->entries, ledger->entries, ledger->count * sizeof *copy->entries);
    return copy;
}

void cut_ledger_free(struct cut_ledger **ledgerp)
{
    if (*ledgerp != NULL)
        free((*ledgerp)->entries);
    free(*ledgerp);
    *ledgerp = NULL;
}

static _Noreturn void nonsense(const char *what, uint64_t id)
{
    (void)fprintf(stderr, "cut_ledger: %s (%" PRIx64 ")\n", what, id);
    exit(2);
}

static struct entry *find(struct cut_ledger *ledger, uint64_t id)
{
    for (size_t i = ledger->count; i-- > 0;) {
        if (ledger->entries[i].id == id)
            return &ledger->entries[i];
    }
    return NULL;
}

static struct entry *find_bounce(struct cut_ledger *ledger, uint64_t origin, uint16_t unit)
{
    for (size_t i = ledger->count; i-- > 0;) {
        if (ledger->entries[i].origin == origin && ledger->entries[i].origin_unit == unit)
            return &ledger->entries[i];
    }
    return NULL;
}

static struct entry *add(struct cut_ledger *ledger)
{
    if (ledger->count == ledger->room) {
        ledger->room = ledger->room > 0 ? ledger->room * 2 : 1024;
        ledger->entries = realloc(ledger->entries, ledger->room * sizeof *ledger->entries);
        if (ledger->entries == NULL)
            abort();
    }
    struct entry *entry = &ledger->entries[ledger->count++];
    memset(entry, 0, sizeof *entry);
    cut_state_begin(&entry->state);
    return entry;
}

static void make(const struct entry *entry, struct cut_mail *mail)
{
    if (entry->origin != 0)
        cut_mail_make_bounce(mail, entry->origin, entry->origin_unit);
    else
        cut_mail_make(mail, entry->id, entry->size);
}

/* ---- marks ---- */

static void begin_act(struct cut_ledger *ledger, const struct cut_note *note)
{
    struct entry *entry = find(ledger, note->id);
    if (entry == NULL || entry->act_count == ACTS_MAX)
        nonsense("an act on an unknown message, or too many", note->id);
    entry->acts[entry->act_count++] = *note;
    if (note->act != CUT_ACT_FAIL)
        return;
    struct entry *bounce = find_bounce(ledger, note->id, note->unit);
    if (bounce == NULL) /* else: tried once more */
        bounce = add(ledger);
    bounce->origin = note->id;
    bounce->origin_unit = note->unit;
    bounce->may = true;
}

static void drop_acts(struct entry *entry, size_t from, size_t count)
{
    entry->act_count -= count;
    memmove(&entry->acts[from], &entry->acts[from + count],
            (entry->act_count - from) * sizeof *entry->acts);
}

static size_t act_index(const struct entry *entry, const struct cut_note *note)
{
    for (size_t i = 0; entry != NULL && i < entry->act_count; i++) {
        if (entry->acts[i].number == note->number)
            return i;
    }
    nonsense("an answer to no act", note->id);
}

/* The queue works in order: what was asked for before it is done too. */
static void finish_act(struct cut_ledger *ledger, const struct cut_note *note)
{
    struct cut_mail mail;
    struct entry *entry = find(ledger, note->id);
    size_t last = act_index(entry, note);
    make(entry, &mail);
    for (size_t i = 0; i <= last; i++) {
        cut_state_act(&entry->state, &mail, &entry->acts[i]);
        if (entry->acts[i].act == CUT_ACT_FAIL) {
            struct entry *bounce = find_bounce(ledger, note->id, entry->acts[i].unit);
            bounce->must = true;
        }
    }
    drop_acts(find(ledger, note->id), 0, last + 1);
}

static void void_act(struct cut_ledger *ledger, const struct cut_note *note)
{
    struct entry *entry = find(ledger, note->id);
    size_t index = act_index(entry, note);
    if (entry->acts[index].act == CUT_ACT_FAIL) {
        struct entry *bounce = find_bounce(ledger, note->id, entry->acts[index].unit);
        bounce->may = bounce->must;
    }
    drop_acts(entry, index, 1);
}

void cut_ledger_note(struct cut_ledger *ledger, const struct cut_note *note)
{
    enum cut_step step = (enum cut_step)note->step;
    if (step == CUT_STEP_BEGUN) {
        if (find(ledger, note->id) != NULL)
            nonsense("an id came twice", note->id);
        struct entry *entry = add(ledger);
        entry->id = note->id;
        entry->size = note->size;
        return;
    }
    if (step == CUT_STEP_BOUNCE_ID) {
        struct entry *bounce = find_bounce(ledger, note->origin, note->unit);
        if (bounce == NULL || (bounce->id != 0 && bounce->id != note->id))
            nonsense("a bounce that nobody wanted", note->id);
        bounce->id = note->id;
        bounce->must = true;
        return;
    }
    struct entry *entry = find(ledger, note->id);
    if (entry == NULL)
        nonsense("a mark of an unknown message", note->id);
    switch (step) {
    case CUT_STEP_BEGUN:
    case CUT_STEP_BOUNCE_ID:
        break;
    case CUT_STEP_HANDED_IN:
    case CUT_STEP_UNSURE:
        entry->may = true;
        break;
    case CUT_STEP_ACCEPTED:
        entry->may = entry->must = true;
        break;
    case CUT_STEP_ABORTED:
    case CUT_STEP_REFUSED:
        entry->may = false;
        break;
    case CUT_STEP_ACT:
        begin_act(ledger, note);
        break;
    case CUT_STEP_ACT_DONE:
        finish_act(ledger, note);
        break;
    case CUT_STEP_ACT_VOID:
        void_act(ledger, note);
        break;
    }
}

/* ---- comparing ---- */

__attribute__((format(printf, 3, 4))) static bool wrong(struct cut_ledger *ledger, uint64_t id,
                                                        const char *format, ...)
{
    va_list args;
    char what[400];
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    (void)snprintf(ledger->error, ledger->error_size, "message %" PRIx64 ": %s", id, what);
    return false;
}

static bool body_is_whole(struct cut_ledger *ledger, struct queue *queue, const struct entry *entry,
                          uint64_t id, uint64_t size)
{
    static uint8_t got[256 * 1024];
    static uint8_t want[sizeof got];
    uint64_t key =
        entry->origin != 0 ? cut_mail_bounce_key(entry->origin, entry->origin_unit) : entry->id;
    uint64_t at = 0;
    for (;;) {
        long n = queue_read_body(queue, id, at, got, sizeof got);
        if (n < 0 || (n == 0 && at != size) || (uint64_t)n > size - at)
            return wrong(ledger, id, "its body is broken at %" PRIu64 " of %" PRIu64 " (%ld)", at,
                         size, n);
        if (n == 0)
            return true;
        cut_mail_fill(key, at, want, (size_t)n);
        if (memcmp(got, want, (size_t)n) != 0)
            return wrong(ledger, id, "its bytes at %" PRIu64 " are others", at);
        at += (uint64_t)n;
    }
}

static bool prefix_is_right(const struct entry *entry, const struct queue_envelope *envelope)
{
    char want[128];
    cut_mail_prefix(entry->id, want);
    return envelope->prefix == NULL || envelope->prefix[0] == '\0' ||
           strcmp(envelope->prefix, want) == 0;
}

/* Which of the pending acts are in what was found? */
static bool place_state(struct cut_ledger *ledger, struct entry *entry, const struct cut_mail *mail)
{
    struct cut_state want = entry->state;
    for (size_t i = 0;; i++) {
        if (cut_state_agrees(&entry->found, &want, mail)) {
            entry->applied = i;
            return true;
        }
        if (i == entry->act_count)
            break;
        struct cut_state before = want;
        cut_state_act(&want, mail, &entry->acts[i]);
        if (entry->acts[i].act >= CUT_ACT_HOLD && before.there &&
            cut_state_between(&entry->found, &before, &want, mail)) {
            entry->applied = i; /* begun */
            return true;
        }
    }
    const struct cut_state *found = &entry->found;
    return wrong(ledger, entry->id,
                 "in a state that it never had (unit 0: due %" PRId64 " attempts %u held %d done "
                 "%d; should be there %d: due %" PRId64 " attempts %u held %d done %d; %zu acts "
                 "pending, the first %u)",
                 found->units[0].due_unix_ms, found->units[0].attempts, found->units[0].held,
                 found->units[0].done, entry->state.there, entry->state.units[0].due_unix_ms,
                 entry->state.units[0].attempts, entry->state.units[0].held,
                 entry->state.units[0].done, entry->act_count,
                 entry->act_count > 0 ? entry->acts[0].act : 99U);
}

static bool compare_message(struct cut_ledger *ledger, struct queue *queue, uint64_t id,
                            const struct queue_envelope *envelope)
{
    struct cut_mail mail;
    uint64_t origin = 0;
    uint16_t unit = 0;
    struct entry *entry = find(ledger, id);
    if (entry == NULL && cut_mail_is_bounce(envelope, &origin, &unit))
        entry = find_bounce(ledger, origin, unit);
    if (entry == NULL || !entry->may)
        return wrong(ledger, id, "nobody handed it in, or it was refused");
    if (entry->seen || (entry->id != 0 && entry->id != id))
        return wrong(ledger, id, "it is there twice");
    entry->seen = true;
    entry->id = id;
    make(entry, &mail);
    const char *what = cut_mail_differs(&mail, envelope);
    if (what != NULL)
        return wrong(ledger, id, "%s is another", what);
    if (!prefix_is_right(entry, envelope))
        return wrong(ledger, id, "its signature is another");
    cut_state_read(&entry->found, envelope);
    ledger->numbers.present++;
    ledger->numbers.bounces += entry->origin != 0 ? 1 : 0;
    ledger->numbers.pending += entry->act_count;
    return place_state(ledger, entry, &mail) &&
           body_is_whole(ledger, queue, entry, id, mail.envelope.body_bytes);
}

static bool compare_present(struct cut_ledger *ledger, struct queue *queue)
{
    uint64_t ids[256];
    uint64_t after = 0;
    long count;
    while ((count = queue_read_ids(queue, after, ids, 256)) > 0) {
        for (long i = 0; i < count; i++) {
            struct queue_message *message = NULL;
            int rc = queue_read_message(queue, ids[i], &message);
            if (rc != 0)
                return wrong(ledger, ids[i], "it cannot be read (%d)", rc);
            bool good = compare_message(ledger, queue, ids[i], queue_message_envelope(message));
            queue_message_free(&message);
            if (!good)
                return false;
        }
        after = ids[count - 1];
    }
    return count == 0 || wrong(ledger, after, "the list cannot be read (%ld)", count);
}

/* A message that is not there: did something end it, or was it never promised? */
static bool absence_is_right(struct cut_ledger *ledger, struct entry *entry)
{
    struct cut_mail mail;
    struct cut_state state = entry->state;
    entry->applied = 0;
    if (!entry->may || !state.there)
        return true;
    make(entry, &mail);
    while (entry->applied < entry->act_count && state.there)
        cut_state_act(&state, &mail, &entry->acts[entry->applied++]);
    if (!state.there)
        return true;
    entry->applied = 0;
    return !entry->must || wrong(ledger, entry->id, "it is gone");
}

/* A bounce comes with the act that made it, in one piece. */
static bool bounces_are_right(struct cut_ledger *ledger, const struct entry *entry)
{
    for (size_t i = 0; i < entry->act_count; i++) {
        if (entry->acts[i].act != CUT_ACT_FAIL)
            continue;
        struct entry *bounce = find_bounce(ledger, entry->id, entry->acts[i].unit);
        bool happened = i < entry->applied;
        if (happened && !bounce->seen && bounce->act_count == 0 && bounce->state.there)
            return wrong(ledger, entry->id, "it failed without a bounce");
        if (!happened && bounce->seen)
            return wrong(ledger, entry->id, "it bounced without having failed");
    }
    return true;
}

/* ---- the order of work ---- */

struct order {
    struct cut_ledger *ledger;
    const char *domain;
    enum queue_lane lane;
    size_t rows;
    int64_t earliest;
    bool good;
};

static bool check_due(int64_t due_unix_ms, uint64_t id, uint16_t unit, void *ctx)
{
    struct order *order = ctx;
    const struct entry *entry = find(order->ledger, id);
    struct cut_mail mail;
    if (order->earliest == QUEUE_NEVER)
        order->earliest = due_unix_ms;
    order->rows++;
    if (entry == NULL || !entry->seen || unit >= CUT_UNITS_MAX) {
        order->good = wrong(order->ledger, id, "a row of `due` leads nowhere");
        return false;
    }
    make(entry, &mail);
    const struct cut_state *found = &entry->found;
    order->good = found->units[unit].due_unix_ms == due_unix_ms && !found->units[unit].held &&
                  !found->units[unit].done && strcmp(mail.units[unit], order->domain) == 0 &&
                  (found->units[unit].attempts > 0) == (order->lane == QUEUE_LANE_RETRY);
    if (!order->good)
        (void)wrong(order->ledger, id, "its row of `due` does not agree with it");
    return order->good;
}

struct heads { /* of `next` */
    struct {
        char domain[64];
        enum queue_lane lane;
        int64_t due_unix_ms;
    } rows[(CUT_DOMAINS + 1) * 2];
    size_t count;
};

static bool note_head(int64_t due_unix_ms, enum queue_lane lane, const char *domain, void *ctx)
{
    struct heads *heads = ctx;
    if (heads->count == sizeof heads->rows / sizeof heads->rows[0])
        return false;
    (void)snprintf(heads->rows[heads->count].domain, sizeof heads->rows[0].domain, "%s", domain);
    heads->rows[heads->count].lane = lane;
    heads->rows[heads->count++].due_unix_ms = due_unix_ms;
    return true;
}

static bool due_is_right(struct cut_ledger *ledger, struct queue *queue, size_t expected)
{
    struct heads heads = {.count = 0};
    struct order order = {.ledger = ledger, .good = true};
    if (queue_read_next(queue, 0, QUEUE_LANE_NEW, NULL, QUEUE_NEVER, note_head, &heads) != 0)
        return wrong(ledger, 0, "`next` cannot be read");
    for (size_t i = 0; i < heads.count; i++) {
        order.domain = heads.rows[i].domain;
        order.lane = heads.rows[i].lane;
        order.earliest = QUEUE_NEVER;
        if (queue_read_due(queue, order.domain, order.lane, QUEUE_NEVER, check_due, &order, NULL) !=
            0)
            return wrong(ledger, 0, "`due` cannot be read");
        if (order.good && order.earliest != heads.rows[i].due_unix_ms)
            return wrong(ledger, 0, "`next` does not have the earliest time of %s", order.domain);
        if (!order.good)
            return false;
    }
    return order.rows == expected ||
           wrong(ledger, 0, "%zu rows of `due` for %zu units", order.rows, expected);
}

static bool fresh_is_right(struct cut_ledger *ledger, struct queue *queue, size_t expected)
{
    uint64_t ids[256];
    uint64_t from = 0;
    size_t rows = 0;
    long count;
    while ((count = queue_read_fresh(queue, from, ids, 256)) > 0) {
        for (long i = 0; i < count; i++) {
            const struct entry *entry = find(ledger, ids[i]);
            if (entry == NULL || !entry->seen)
                return wrong(ledger, ids[i], "a row of `fresh` leads nowhere");
        }
        rows += (size_t)count;
        from = ids[count - 1] + 1;
    }
    return (count == 0 && rows == expected) ||
           wrong(ledger, 0, "%zu rows of `fresh` for %zu messages", rows, expected);
}

/* Every unit that waits is in exactly one place; the counters agree. */
static bool order_is_right(struct cut_ledger *ledger, struct queue *queue)
{
    size_t fresh = 0;
    size_t due = 0;
    size_t held = 0;
    struct queue_counts counts;
    for (size_t i = 0; i < ledger->count; i++) {
        const struct entry *entry = &ledger->entries[i];
        bool has_fresh = false;
        for (size_t u = 0; entry->seen && u < CUT_UNITS_MAX; u++) {
            struct cut_mail mail;
            make(entry, &mail);
            if (u >= mail.unit_count || entry->found.units[u].done)
                continue;
            held += entry->found.units[u].held ? 1 : 0;
            has_fresh = has_fresh || entry->found.units[u].due_unix_ms == 0;
            due += !entry->found.units[u].held && entry->found.units[u].due_unix_ms != 0 ? 1 : 0;
        }
        fresh += has_fresh ? 1 : 0;
    }
    if (queue_read_counts(queue, &counts) != 0)
        return wrong(ledger, 0, "the counters cannot be read");
    if (counts.messages != ledger->numbers.present || counts.units_held != held ||
        counts.damaged != 0)
        return wrong(ledger, 0, "the counters: %zu messages, %zu held, %zu damaged; %zu and %zu",
                     (size_t)counts.messages, (size_t)counts.units_held, (size_t)counts.damaged,
                     ledger->numbers.present, held);
    return due_is_right(ledger, queue, due) && fresh_is_right(ledger, queue, fresh);
}

static void adopt_all(struct cut_ledger *ledger)
{
    for (size_t i = 0; i < ledger->count; i++) {
        struct entry *entry = &ledger->entries[i];
        entry->act_count = 0;
        entry->may = entry->must = entry->seen;
        if (entry->seen)
            entry->state = entry->found;
    }
}

bool cut_ledger_compare(struct cut_ledger *ledger, struct queue *queue, bool adopt,
                        struct cut_numbers *numbers_out, char *error, size_t error_size)
{
    bool good = true;
    ledger->numbers = (struct cut_numbers){0};
    ledger->error = error;
    ledger->error_size = error_size;
    for (size_t i = 0; i < ledger->count; i++) {
        ledger->entries[i].seen = false;
        ledger->entries[i].applied = 0;
        ledger->numbers.expected += ledger->entries[i].must && ledger->entries[i].state.there;
    }
    good = compare_present(ledger, queue);
    for (size_t i = 0; good && i < ledger->count; i++)
        good = ledger->entries[i].seen || absence_is_right(ledger, &ledger->entries[i]);
    for (size_t i = 0; good && i < ledger->count; i++)
        good = bounces_are_right(ledger, &ledger->entries[i]);
    good = good && order_is_right(ledger, queue);
    if (good && adopt)
        adopt_all(ledger);
    *numbers_out = ledger->numbers;
    return good;
}
