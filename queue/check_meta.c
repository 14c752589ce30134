/* queue/check_meta.c - the counters against what was counted, and `control`. */
#include <string.h>

#include "queue/check.h"

static int count_damaged(struct check *check)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(check->txn, check_db(check, QUEUE_DB_DAMAGED), &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        check->state.damaged +=
            key.mv_size == 9 && ((const uint8_t *)key.mv_data)[8] == 'R' ? 1 : 0;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static void compare(struct check *check, const char *what, uint64_t stored, uint64_t counted)
{
    if (stored != counted)
        check_problem(check, CHECK_COUNTER, "the counter of %s says %llu, but there are %llu", what,
                      (unsigned long long)stored, (unsigned long long)counted);
}

static void compare_all(struct check *check, const struct queue_state *stored)
{
    const struct queue_state *counted = &check->state;
    compare(check, "messages", stored->messages, counted->messages);
    compare(check, "new mail", stored->units_fresh, counted->units_fresh);
    compare(check, "deferred mail", stored->units_deferred, counted->units_deferred);
    /* A held message that was set aside could not say so. */
    if (stored->units_held < counted->units_held || counted->damaged == 0)
        compare(check, "held mail", stored->units_held, counted->units_held);
    compare(check, "messages set aside", stored->damaged, counted->damaged);
    compare(check, "bytes", stored->bytes, counted->bytes);
    if (stored->id_high < counted->id_high)
        check_problem(check, CHECK_COUNTER,
                      "ids are in use that the queue would give out once more");
}

static int look_at_counters(struct check *check)
{
    struct queue_state stored = {0};
    struct queue_state *state = &check->state;
    int rc = queue_meta_read(&check->queue->store, check->txn, &stored);
    if (rc == MDB_NOTFOUND && (state->id_high > 0 || state->damaged > 0))
        check_problem(check, CHECK_COUNTER, "the counters are lost or damaged");
    else if (rc == 0)
        compare_all(check, &stored);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (!check->repair || (rc == 0 && memcmp(&stored, state, sizeof stored) == 0))
        return 0;
    state->id_high = stored.id_high > state->id_high ? stored.id_high : state->id_high;
    state->newest_ms = stored.newest_ms;
    return check_put_state(check);
}

/* Suspensions; no version writes them yet. */
static int look_at_control(struct check *check)
{
    MDB_stat stat;
    int rc = mdb_stat(check->txn, check_db(check, QUEUE_DB_CONTROL), &stat);
    if (rc == 0 && stat.ms_entries > 0)
        check_note(check, "%llu entries of `control` were left by another version",
                   (unsigned long long)stat.ms_entries);
    return rc;
}

int check_meta(struct check *check)
{
    int rc = count_damaged(check);
    if (rc == 0)
        rc = look_at_counters(check);
    if (rc == 0)
        rc = look_at_control(check);
    return rc == 0 ? check_settle(check, true) : rc;
}
