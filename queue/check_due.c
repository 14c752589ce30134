/* queue/check_due.c - the order of work: each row of `due` must be wanted by a unit, and `next`
 * must have exactly the earliest of each lane. That each waiting unit has its row was seen with the
 * messages. */
#include <string.h>

#include "queue/check.h"

#define KEY_MAX 511

/* A walk over one database that survives a new snapshot. */
struct place {
    struct check *check;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    unsigned generation;
    uint8_t last[KEY_MAX];
    size_t last_len;
};

static int next_row(struct place *place, MDB_val *key, MDB_val *value)
{
    int rc = check_pace(place->check);
    if (rc == 0)
        rc = check_settle(place->check, false);
    if (rc != 0)
        return rc;
    if (place->cursor != NULL && place->generation == place->check->generation) {
        rc = mdb_cursor_get(place->cursor, key, value, MDB_NEXT);
    } else {
        if (place->cursor != NULL)
            mdb_cursor_close(place->cursor);
        place->cursor = NULL;
        place->generation = place->check->generation;
        rc = mdb_cursor_open(place->check->txn, place->dbi, &place->cursor);
        if (rc != 0)
            return rc;
        *key = queue_val(place->last, place->last_len);
        rc = mdb_cursor_get(place->cursor, key, value,
                            place->last_len > 0 ? MDB_SET_RANGE : MDB_FIRST);
        if (rc == 0 && key->mv_size == place->last_len &&
            memcmp(key->mv_data, place->last, place->last_len) == 0)
            rc = mdb_cursor_get(place->cursor, key, value, MDB_NEXT);
    }
    if (rc == 0) {
        place->last_len = key->mv_size;
        memcpy(place->last, key->mv_data, key->mv_size);
    }
    return rc;
}

static void leave(struct place *place)
{
    if (place->cursor != NULL)
        mdb_cursor_close(place->cursor);
}

static int count_rows(const struct check *check, enum queue_db db, uint64_t *count_out)
{
    MDB_stat stat;
    int rc = mdb_stat(check->txn, check_db(check, db), &stat);
    *count_out = rc == 0 ? stat.ms_entries : 0;
    return rc;
}

/* ---- is a row of `due` wanted? ---- */

enum wanted { WANTED, STRAY, LEFT_OVER };

static int find_unit(const struct check *check, const struct queue_due_row *row,
                     struct queue_unit_row units[QUEUE_ROW_ITEMS],
                     const struct queue_unit_row **out)
{
    struct queue_rcpt_row rcpts[QUEUE_ROW_ITEMS];
    struct queue_head head;
    struct queue_row_key k = queue_row_key(row->id, QUEUE_ROW_HEAD, 0);
    MDB_val key = queue_val(k.bytes, k.len);
    MDB_val value;
    *out = NULL;
    int rc = mdb_get(check->txn, check_db(check, QUEUE_DB_MESSAGE), &key, &value);
    if (rc != 0)
        return rc;
    if (queue_head_read(&head, row->id, value.mv_data, value.mv_size, units, rcpts) != NULL ||
        row->unit >= head.unit_count)
        return 0;
    *out = &units[row->unit % QUEUE_ROW_ITEMS];
    if (queue_head_is_whole(&head))
        return 0;
    uint32_t number = row->unit / QUEUE_ROW_ITEMS;
    k = queue_row_key(row->id, QUEUE_ROW_UNITS, number);
    key = queue_val(k.bytes, k.len);
    rc = mdb_get(check->txn, check_db(check, QUEUE_DB_MESSAGE), &key, &value);
    if (rc == 0 &&
        queue_units_read(&head, row->id, number, value.mv_data, value.mv_size, units) != NULL)
        *out = NULL;
    return rc;
}

static int is_wanted(const struct check *check, const struct queue_due_row *row,
                     enum wanted *wanted_out)
{
    struct queue_unit_row units[QUEUE_ROW_ITEMS];
    const struct queue_unit_row *unit = NULL;
    uint8_t bytes[9];
    MDB_val value;
    *wanted_out = STRAY;
    int rc = find_unit(check, row, units, &unit);
    if (rc == 0 && unit != NULL && unit->open > 0 && !unit->held &&
        unit->due_unix_ms == row->due_unix_ms &&
        (unit->attempts > 0) == (row->lane == QUEUE_LANE_RETRY) &&
        strcmp(unit->domain, row->domain) == 0)
        *wanted_out = WANTED;
    if (rc != MDB_NOTFOUND)
        return rc;
    queue_be64_put(bytes, row->id);
    bytes[8] = 'R';
    MDB_val key = queue_val(bytes, sizeof bytes);
    rc = mdb_get(check->txn, check_db(check, QUEUE_DB_DAMAGED), &key, &value);
    if (rc == 0)
        *wanted_out = LEFT_OVER;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- `due` ---- */

static int drop_stray(struct check *check, const MDB_val *key, const struct queue_due_row *row)
{
    char text[QUEUE_ID_TEXT];
    int rc = check_delete(check, QUEUE_DB_DUE, key->mv_data, key->mv_size);
    queue_id_text(row->id, text);
    check_problem(check, CHECK_DUE_STRAY,
                  "the order of work for %s has an entry of message %s that it does not want",
                  row->domain, text);
    return rc;
}

static int drop_unreadable(struct check *check, enum queue_db db, enum check_kind kind,
                           const MDB_val *key)
{
    int rc = check_delete(check, db, key->mv_data, key->mv_size);
    check_problem(check, kind, "the order of work has an entry that cannot be read");
    return rc;
}

/* A row that leads to a message set aside is dropped by the daemon when it meets it; until then it
 * is counted. */
static int take_left_over(struct check *check, const MDB_val *key, const struct queue_due_row *row)
{
    if (check->repair)
        return check_delete(check, QUEUE_DB_DUE, key->mv_data, key->mv_size);
    check->leftovers++;
    if (row->lane == QUEUE_LANE_NEW)
        check->state.units_fresh++;
    else
        check->state.units_deferred++;
    return 0;
}

static int look_at_earliest(struct check *check, const struct queue_due_row *row, uint64_t *found)
{
    uint8_t bytes[QUEUE_NEXT_KEY];
    MDB_val key = queue_val(bytes, queue_next_key(bytes, row->domain, row->lane, row->due_unix_ms));
    MDB_val value;
    int rc = mdb_get(check->txn, check_db(check, QUEUE_DB_NEXT), &key, &value);
    (*found)++;
    if (rc != MDB_NOTFOUND)
        return rc;
    rc = check_put(check, QUEUE_DB_NEXT, bytes, key.mv_size, "", 0);
    check_problem(check, CHECK_NEXT, "the earliest entry of %s is missing among the next ones",
                  row->domain);
    return rc;
}

/* lanes_out: how many lanes have work */
static int walk_due(struct check *check, bool look, uint64_t *lanes_out)
{
    struct place place = {.check = check, .dbi = check_db(check, QUEUE_DB_DUE)};
    uint8_t lane[QUEUE_DUE_KEY];
    size_t lane_len = 0;
    MDB_val key;
    MDB_val value;
    int rc = next_row(&place, &key, &value);
    for (; rc == 0; rc = next_row(&place, &key, &value)) {
        struct queue_due_row row;
        enum wanted wanted = WANTED;
        bool readable = queue_due_key_read(&key, &row);
        if (!readable)
            rc = drop_unreadable(check, QUEUE_DB_DUE, CHECK_DUE_STRAY, &key);
        else if (look)
            rc = is_wanted(check, &row, &wanted);
        if (rc == 0 && wanted == STRAY)
            rc = drop_stray(check, &key, &row);
        else if (rc == 0 && wanted == LEFT_OVER)
            rc = take_left_over(check, &key, &row);
        if (rc != 0)
            break;
        bool stays = readable && (!check->repair || wanted == WANTED);
        if (!stays ||
            (lane_len > 0 && key.mv_size > lane_len && memcmp(key.mv_data, lane, lane_len) == 0))
            continue;
        lane_len = queue_due_prefix(lane, row.domain, row.lane);
        rc = look_at_earliest(check, &row, lanes_out);
        if (rc != 0)
            break;
    }
    leave(&place);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- `next` ---- */

/* Is this the earliest of its lane? In the snapshot that has all changes to `due`. */
static int is_earliest(const struct check *check, const char *domain, enum queue_lane lane,
                       int64_t due_unix_ms, bool *yes_out)
{
    uint8_t bytes[QUEUE_DUE_KEY];
    struct queue_due_row row;
    MDB_cursor *cursor = NULL;
    MDB_val key = queue_val(bytes, queue_due_prefix(bytes, domain, lane));
    MDB_val value;
    *yes_out = false;
    int rc = mdb_cursor_open(check->txn, check_db(check, QUEUE_DB_DUE), &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && !queue_due_key_read(&key, &row))
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    if (rc == 0)
        *yes_out =
            strcmp(row.domain, domain) == 0 && row.lane == lane && row.due_unix_ms == due_unix_ms;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int walk_next(struct check *check)
{
    struct place place = {.check = check, .dbi = check_db(check, QUEUE_DB_NEXT)};
    MDB_val key;
    MDB_val value;
    int rc = next_row(&place, &key, &value);
    for (; rc == 0; rc = next_row(&place, &key, &value)) {
        char domain[QUEUE_DOMAIN_MAX + 1];
        enum queue_lane lane;
        int64_t due = 0;
        bool yes = false;
        if (!queue_next_key_read(&key, domain, &lane, &due)) {
            rc = drop_unreadable(check, QUEUE_DB_NEXT, CHECK_NEXT_STRAY, &key);
            if (rc != 0)
                break;
            continue;
        }
        rc = is_earliest(check, domain, lane, due, &yes);
        if (rc == 0 && !yes) {
            rc = check_delete(check, QUEUE_DB_NEXT, key.mv_data, key.mv_size);
            check_problem(check, CHECK_NEXT_STRAY,
                          "the next ones have an entry of %s that is not its earliest", domain);
        }
        if (rc != 0)
            break;
    }
    leave(&place);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int check_due(struct check *check)
{
    uint64_t rows = 0;
    uint64_t lanes = 0;
    int rc = check_settle(check, true); /* what the messages wanted is in `due` now */
    if (rc == 0)
        rc = count_rows(check, QUEUE_DB_DUE, &rows);
    /* As many rows as units that want one, each of which has its own: then none is stray. */
    if (rc == 0)
        rc = walk_due(check, rows != check->waiting || check->kinds[CHECK_DUE] > 0, &lanes);
    if (rc == 0)
        rc = check_settle(check, true);
    if (rc == 0)
        rc = count_rows(check, QUEUE_DB_NEXT, &rows);
    if (rc == 0 && (rows != lanes || check->kinds[CHECK_NEXT] > 0))
        rc = walk_next(check);
    return rc == 0 ? check_settle(check, true) : rc;
}
