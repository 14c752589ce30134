/* queue/check_message.c - one message: its record, its bytes, its attempts, and where it stands in
 * the order of work. */
#include <stdlib.h>
#include <string.h>

#include "queue/body.h"
#include "queue/check.h"

#define LAST_KEPT 20 /* attempts of a recipient that are kept, besides the first */

struct look {
    struct check *check;
    struct check_walk *walk;
    uint64_t id;
    char text[QUEUE_ID_TEXT];
    struct queue_head head;
    bool whole; /* all in one row, whose own sums were checked with it */
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    uint32_t *open; /* of a long list: open recipients of each unit, counted */
    uint32_t open_sum, fresh_sum;
    bool sums_wrong;
};

/* ---- the record ---- */

static int get_row(const struct look *look, enum queue_row_kind kind, uint32_t row,
                   MDB_val *value_out)
{
    struct queue_row_key k = queue_row_key(look->id, kind, row);
    MDB_val key = queue_val(k.bytes, k.len);
    return mdb_get(look->check->txn, check_db(look->check, QUEUE_DB_MESSAGE), &key, value_out);
}

/* Load further row `row` of a long list, or what the head holds. @return LMDB's code; count_out 0:
 * beyond the end */
static int load_units(struct look *look, uint32_t row, size_t *count_out, const char **reason_out)
{
    MDB_val value;
    *count_out = look->whole && row > 0 ? 0 : queue_row_items(look->head.unit_count, row);
    if (look->whole || *count_out == 0)
        return 0;
    int rc = get_row(look, QUEUE_ROW_UNITS, row, &value);
    if (rc == 0)
        *reason_out =
            queue_units_read(&look->head, look->id, row, value.mv_data, value.mv_size, look->units);
    else if (rc == MDB_NOTFOUND)
        *reason_out = "a row of the record is missing";
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int load_rcpts(struct look *look, uint32_t row, size_t *count_out, const char **reason_out)
{
    MDB_val value;
    *count_out = look->whole && row > 0 ? 0 : queue_row_items(look->head.recipient_count, row);
    if (look->whole || *count_out == 0)
        return 0;
    int rc = get_row(look, QUEUE_ROW_RCPTS, row, &value);
    if (rc == 0)
        *reason_out =
            queue_rcpts_read(&look->head, look->id, row, value.mv_data, value.mv_size, look->rcpts);
    else if (rc == MDB_NOTFOUND)
        *reason_out = "a row of the record is missing";
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* A long list: the sums that a head in one row checks by itself. */
static int add_up(struct look *look, const char **reason_out)
{
    size_t count = 0;
    look->open = queue_alloc(look->head.unit_count * sizeof *look->open);
    for (uint32_t row = 0; queue_row_items(look->head.recipient_count, row) > 0; row++) {
        int rc = load_rcpts(look, row, &count, reason_out);
        if (rc != 0 || *reason_out != NULL)
            return rc;
        for (size_t i = 0; i < count; i++)
            look->open[look->rcpts[i].unit] += queue_rcpt_is_open(look->rcpts[i].state) ? 1 : 0;
    }
    for (uint32_t row = 0; queue_row_items(look->head.unit_count, row) > 0; row++) {
        int rc = load_units(look, row, &count, reason_out);
        if (rc != 0 || *reason_out != NULL)
            return rc;
        for (size_t i = 0; i < count; i++) {
            uint32_t open = look->open[(size_t)row * QUEUE_ROW_ITEMS + i];
            look->open_sum += open;
            look->fresh_sum += open > 0 && look->units[i].due_unix_ms == 0 ? 1 : 0;
            look->sums_wrong = look->sums_wrong || open != look->units[i].open;
        }
    }
    look->sums_wrong = look->sums_wrong || look->open_sum != look->head.open ||
                       look->fresh_sum != look->head.fresh;
    return 0;
}

/* @return LMDB's code; *reason_out: why the record is damaged, or NULL */
static int read_record(struct look *look, const char **reason_out)
{
    const struct check_rows *rows = &look->walk->message;
    if (rows->key.mv_size != 8) {
        *reason_out = "the first row of the record is missing";
        return 0;
    }
    *reason_out = queue_head_read(&look->head, look->id, rows->value.mv_data, rows->value.mv_size,
                                  look->units, look->rcpts);
    if (*reason_out != NULL)
        return 0;
    look->whole = queue_head_is_whole(&look->head);
    look->open_sum = look->head.open;
    look->fresh_sum = look->head.fresh;
    if (look->whole)
        return 0;
    look->open_sum = look->fresh_sum = 0;
    return add_up(look, reason_out);
}

/* Rows beyond those that the head speaks of. */
static int look_at_further_rows(struct look *look)
{
    struct check_rows *rows = &look->walk->message;
    for (int rc = check_rows_next(rows); check_rows_at(rows, look->id);
         rc = check_rows_next(rows)) {
        const uint8_t *key = rows->key.mv_data;
        if (rc != 0)
            return rc;
        uint32_t total = 0;
        if (rows->key.mv_size == QUEUE_MESSAGE_KEY && !look->whole)
            total = key[8] == QUEUE_ROW_UNITS   ? look->head.unit_count
                    : key[8] == QUEUE_ROW_RCPTS ? look->head.recipient_count
                                                : 0;
        if (total > 0 && queue_row_items(total, queue_be16_get(key + 9)) > 0)
            continue;
        rc = check_keep_foreign(look->check, QUEUE_DB_MESSAGE, &rows->key, &rows->value);
        if (rc != 0)
            return rc;
        check_problem(look->check, CHECK_KEY, "message %s has a row that does not belong to it",
                      look->text);
    }
    return 0;
}

/* ---- its bytes ---- */

static int look_at_body(struct look *look, const char **reason_out)
{
    struct check_rows *rows = &look->walk->body;
    uint64_t at = 0;
    while (check_rows_at(rows, look->id) && at < look->head.body_bytes) {
        struct queue_body_row row;
        *reason_out = queue_body_row_read(&rows->key, &rows->value, &row);
        if (*reason_out == NULL && row.offset > at)
            *reason_out = "bytes of the message are missing";
        if (*reason_out == NULL && (row.offset < at || row.len > look->head.body_bytes - at))
            *reason_out = "bytes of the message are stored twice";
        if (*reason_out != NULL)
            return 0;
        at += row.len;
        int rc = check_rows_next(rows);
        if (rc != 0)
            return rc;
    }
    if (at < look->head.body_bytes)
        *reason_out = "bytes of the message are missing";
    return 0;
}

static int look_at_extra_body(struct look *look)
{
    struct check_rows *rows = &look->walk->body;
    if (!check_rows_at(rows, look->id))
        return 0;
    while (check_rows_at(rows, look->id)) {
        int rc = check_delete(look->check, QUEUE_DB_BODY, rows->key.mv_data, rows->key.mv_size);
        if (rc == 0)
            rc = check_rows_next(rows);
        if (rc != 0)
            return rc;
    }
    check_problem(look->check, CHECK_BODY_EXTRA, "message %s has bytes beyond its end", look->text);
    return 0;
}

/* ---- sums of a long list ---- */

static int mend_units(struct look *look, struct queue_bytes *row_bytes)
{
    const char *reason = NULL;
    size_t count = 0;
    for (uint32_t row = 0; queue_row_items(look->head.unit_count, row) > 0; row++) {
        int rc = load_units(look, row, &count, &reason);
        bool wrong = false;
        for (size_t i = 0; rc == 0 && i < count; i++) {
            uint32_t open = look->open[(size_t)row * QUEUE_ROW_ITEMS + i];
            wrong = wrong || open != look->units[i].open;
            look->units[i].open = open;
        }
        if (rc == 0 && wrong) {
            struct queue_row_key key = queue_row_key(look->id, QUEUE_ROW_UNITS, row);
            row_bytes->len = 0;
            queue_units_write(row_bytes, look->id, row, look->units, count);
            rc = check_put(look->check, QUEUE_DB_MESSAGE, key.bytes, key.len, row_bytes->p,
                           row_bytes->len);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The head at hand stays as it was: the rows in the snapshot are read by it. */
static int mend_sums(struct look *look)
{
    struct queue_bytes row = {0};
    struct queue_head head = look->head;
    struct queue_row_key key = queue_row_key(look->id, QUEUE_ROW_HEAD, 0);
    int rc = mend_units(look, &row);
    head.open = look->open_sum;
    head.fresh = look->fresh_sum;
    row.len = 0;
    queue_head_write(&row, look->id, &head, look->units, look->rcpts);
    if (rc == 0)
        rc = check_put(look->check, QUEUE_DB_MESSAGE, key.bytes, key.len, row.p, row.len);
    queue_bytes_deinit(&row);
    check_problem(look->check, CHECK_SUMS, "message %s counts other open recipients than it has",
                  look->text);
    return rc;
}

/* ---- its place in the order of work ---- */

static int look_at_due(struct look *look, const struct queue_due_row *row)
{
    uint8_t bytes[QUEUE_DUE_KEY];
    MDB_val key = queue_val(bytes, queue_due_key(bytes, row));
    MDB_val want = queue_due_value(row);
    MDB_val value;
    look->check->waiting++;
    int rc = mdb_get(look->check->txn, check_db(look->check, QUEUE_DB_DUE), &key, &value);
    if (rc == 0 && value.mv_size == want.mv_size &&
        memcmp(value.mv_data, want.mv_data, want.mv_size) == 0)
        return 0;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    rc = check_put(look->check, QUEUE_DB_DUE, bytes, key.mv_size, want.mv_data, want.mv_size);
    check_problem(look->check, CHECK_DUE,
                  "message %s waits for its next attempt at %s, but the order of work does not "
                  "have it",
                  look->text, row->domain);
    return rc;
}

static int look_at_unit(struct look *look, uint32_t number, const struct queue_unit_row *unit)
{
    struct queue_state *state = &look->check->state;
    struct queue_due_row row = {
        .domain = unit->domain,
        .lane = unit->attempts > 0 ? QUEUE_LANE_RETRY : QUEUE_LANE_NEW,
        .due_unix_ms = unit->due_unix_ms,
        .id = look->id,
        .unit = (uint16_t)number,
        .bounces = unit->bounces,
    };
    uint32_t open = look->whole ? unit->open : look->open[number];
    if (open == 0)
        return 0;
    look->check->result.units++;
    if (unit->held)
        state->units_held++;
    else if (unit->attempts > 0)
        state->units_deferred++;
    else
        state->units_fresh++;
    return unit->held || unit->due_unix_ms == 0 ? 0 : look_at_due(look, &row);
}

static int look_at_units(struct look *look)
{
    const char *reason = NULL;
    size_t count = 1;
    int rc = 0;
    for (uint32_t row = 0; rc == 0 && count > 0; row++) {
        rc = load_units(look, row, &count, &reason);
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = look_at_unit(look, row * QUEUE_ROW_ITEMS + (uint32_t)i, &look->units[i]);
    }
    return rc;
}

static int look_at_fresh(struct look *look)
{
    const struct check_rows *rows = &look->walk->fresh;
    bool has = check_rows_at(rows, look->id);
    bool right =
        has && rows->value.mv_size == 4 && queue_le32_get(rows->value.mv_data) == look->fresh_sum;
    uint8_t id[8];
    uint8_t count[4];
    if (look->fresh_sum > 0 ? right : !has)
        return 0;
    queue_be64_put(id, look->id);
    queue_le32_put(count, look->fresh_sum);
    int rc = look->fresh_sum > 0
                 ? check_put(look->check, QUEUE_DB_FRESH, id, sizeof id, count, sizeof count)
                 : check_delete(look->check, QUEUE_DB_FRESH, id, sizeof id);
    check_problem(look->check, CHECK_FRESH,
                  "message %s has %u parts that are new, but the list of new messages says "
                  "otherwise",
                  look->text, look->fresh_sum);
    return rc;
}

/* ---- its attempts ---- */

static bool is_kept(uint32_t n, uint32_t attempts)
{
    return n < attempts && (n == 0 || n + LAST_KEPT >= attempts);
}

/* A row that says that there is none. */
static int put_lost_attempt(struct look *look, uint32_t recipient, uint32_t n)
{
    uint8_t key[QUEUE_ATTEMPT_KEY];
    struct queue_bytes row = {0};
    struct queue_attempt attempt = {
        .time_unix_ms = look->head.accepted_unix_ms,
        .host = "",
        .address = "",
        .status = "",
        .text = "the record of this attempt was lost",
        .tls = "",
    };
    queue_attempt_key(key, look->id, recipient, n);
    queue_attempt_write(&row, &attempt);
    int rc = check_put(look->check, QUEUE_DB_ATTEMPT, key, sizeof key, row.p, row.len);
    queue_bytes_deinit(&row);
    return rc;
}

/* One row of the recipient. found: bit 0 is the first attempt, bit i the i-th of the last ones */
static int take_attempt(struct look *look, uint32_t recipient, uint32_t attempts, uint32_t *found)
{
    struct check_rows *rows = &look->walk->attempt;
    struct queue_attempt attempt;
    uint32_t n = (uint32_t)queue_be64_get((const uint8_t *)rows->key.mv_data + 8);
    const char *reason = queue_attempt_read(&attempt, rows->value.mv_data, rows->value.mv_size);
    int rc = 0;
    if (!is_kept(n, attempts)) {
        rc = check_delete(look->check, QUEUE_DB_ATTEMPT, rows->key.mv_data, rows->key.mv_size);
        check_problem(look->check, CHECK_ORPHAN_ATTEMPT,
                      "message %s has a recorded attempt that none of its recipients counts",
                      look->text);
        return rc;
    }
    *found |= n == 0 ? 1U : 1U << (attempts - n);
    if (reason == NULL)
        return 0;
    rc = put_lost_attempt(look, recipient, n);
    check_problem(look->check, CHECK_ATTEMPT, "message %s: an attempt's record is damaged (%s)",
                  look->text, reason);
    return rc;
}

static int mend_lost(struct look *look, uint32_t recipient, uint32_t attempts, uint32_t found)
{
    uint32_t lost = 0;
    int rc = 0;
    for (uint32_t i = 0; i <= LAST_KEPT && rc == 0; i++) {
        uint32_t n = i == 0 ? 0 : attempts - i;
        bool wanted = i == 0 ? attempts > 0 : i < attempts;
        if (!wanted || (found & 1U << i) != 0)
            continue;
        rc = put_lost_attempt(look, recipient, n);
        lost++;
    }
    if (lost > 0)
        check_problem(look->check, CHECK_ATTEMPT_LOST,
                      "message %s lacks the records of %u of its attempts", look->text, lost);
    return rc;
}

static uint32_t recipient_of(const struct check_rows *rows)
{
    return (uint32_t)(queue_be64_get((const uint8_t *)rows->key.mv_data + 8) >> 32);
}

static int look_at_rcpt(struct look *look, uint32_t recipient, const struct queue_rcpt_row *rcpt)
{
    struct check_rows *rows = &look->walk->attempt;
    uint32_t attempts = rcpt->attempts;
    uint32_t found = 0;
    look->check->result.recipients++;
    while (check_rows_at(rows, look->id) && recipient_of(rows) <= recipient) {
        int rc = take_attempt(look, recipient, attempts, &found);
        if (rc == 0)
            rc = check_rows_next(rows);
        if (rc != 0)
            return rc;
    }
    return attempts < UINT32_MAX ? mend_lost(look, recipient, attempts, found) : 0;
}

static int look_at_rcpts(struct look *look)
{
    struct check_rows *rows = &look->walk->attempt;
    const char *reason = NULL;
    uint32_t none = 0;
    size_t count = 1;
    int rc = 0;
    for (uint32_t row = 0; rc == 0 && count > 0; row++) {
        rc = load_rcpts(look, row, &count, &reason);
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = look_at_rcpt(look, row * QUEUE_ROW_ITEMS + (uint32_t)i, &look->rcpts[i]);
    }
    while (rc == 0 && check_rows_at(rows, look->id)) { /* of recipients that it has not */
        rc = take_attempt(look, 0, 0, &none);
        if (rc == 0)
            rc = check_rows_next(rows);
    }
    return rc;
}

/* ---- the whole ---- */

static int set_aside(struct look *look, enum check_kind kind, const char *what, const char *reason)
{
    int rc = check_set_aside(look->check, look->id, reason);
    check_problem(look->check, kind, "message %s: %s (%s)", look->text, what, reason);
    return rc;
}

static int look_at_all(struct look *look)
{
    const char *reason = NULL;
    int rc = read_record(look, &reason);
    if (rc == 0 && reason != NULL)
        return set_aside(look, CHECK_RECORD, "its record is damaged", reason);
    if (rc == 0)
        rc = look_at_body(look, &reason);
    if (rc == 0 && reason != NULL)
        return set_aside(look, CHECK_BODY, "its bytes are damaged", reason);
    if (rc == 0 && look->sums_wrong)
        rc = mend_sums(look);
    if (rc == 0 && look->open_sum == 0) {
        rc = check_remove(look->check, look->id);
        check_problem(look->check, CHECK_ENDED,
                      "message %s is still there, though each of its recipients has ended",
                      look->text);
        return rc;
    }
    look->check->state.messages++;
    look->check->state.bytes += look->head.body_bytes;
    rc = rc == 0 ? look_at_extra_body(look) : rc;
    rc = rc == 0 ? look_at_units(look) : rc;
    rc = rc == 0 ? look_at_fresh(look) : rc;
    rc = rc == 0 ? look_at_rcpts(look) : rc;
    return rc == 0 ? look_at_further_rows(look) : rc;
}

int check_message(struct check *check, struct check_walk *walk, uint64_t id)
{
    struct look look;
    look.check = check;
    look.walk = walk;
    look.id = id;
    look.open = NULL;
    look.sums_wrong = false;
    queue_id_text(id, look.text);
    int rc = look_at_all(&look);
    free(look.open);
    return rc;
}
