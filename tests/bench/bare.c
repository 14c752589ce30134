/* tests/bench/bare.c - the records of the queue, written by a plain loop around LMDB: same tables,
 * same keys and lengths, same flags, one transaction a batch. What the queue adds to that (threads,
 * answers, encoding, checksums, accounting) is what the comparison shows. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/bytes.h"
#include "tests/bench/bench.h"

#define ROWS_MAX 64
#define MAP      ((size_t)64 << 30)

struct pattern_row {
    unsigned table;
    uint8_t key[64];
    size_t key_len;
    uint8_t *value;
    size_t value_len;
};

struct bare_pattern {
    struct pattern_row rows[ROWS_MAX];
    size_t count;
};

struct bare {
    MDB_env *env;
    MDB_dbi dbi[3];
    MDB_dbi meta;
    const struct bare_pattern *pattern;
    uint64_t next_id;
    uint64_t *added;
    size_t added_count;
    uint64_t seed;
};

static const char *const tables[] = {"body", "message", "fresh"}; /* in the queue's order */
#define TABLES (sizeof tables / sizeof tables[0])

static void check(int rc, const char *what)
{
    if (rc == 0)
        return;
    (void)fprintf(stderr, "queue_bench: %s: %s\n", what, mdb_strerror(rc));
    exit(1);
}

static MDB_env *open_env(const char *folder, unsigned flags)
{
    MDB_env *env = NULL;
    check(mdb_env_create(&env), "mdb_env_create");
    check(mdb_env_set_mapsize(env, MAP), "mdb_env_set_mapsize");
    check(mdb_env_set_maxdbs(env, 20), "mdb_env_set_maxdbs");
    check(mdb_env_open(env, folder, MDB_NOTLS | MDB_NORDAHEAD | flags, 0600), "mdb_env_open");
    return env;
}

/* ---- the pattern ---- */

static void add_rows(struct bare_pattern *pattern, MDB_txn *txn, unsigned table)
{
    MDB_dbi dbi;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    check(mdb_dbi_open(txn, tables[table], 0, &dbi), tables[table]);
    check(mdb_cursor_open(txn, dbi, &cursor), "mdb_cursor_open");
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    check(rc, "no message to take as a pattern");
    uint8_t id[8];
    memcpy(id, key.mv_data, sizeof id);
    while (rc == 0 && memcmp(key.mv_data, id, sizeof id) == 0) {
        bench_check(pattern->count < ROWS_MAX && key.mv_size <= 64, "too large a pattern");
        struct pattern_row *row = &pattern->rows[pattern->count++];
        row->table = table;
        row->key_len = key.mv_size;
        memcpy(row->key, key.mv_data, key.mv_size);
        row->value_len = value.mv_size;
        row->value = bench_alloc(value.mv_size);
        memcpy(row->value, value.mv_data, value.mv_size);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
}

struct bare_pattern *bare_pattern_read(const char *folder)
{
    struct bare_pattern *pattern = bench_alloc(sizeof *pattern);
    MDB_env *env = open_env(folder, MDB_RDONLY);
    MDB_txn *txn = NULL;
    check(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "mdb_txn_begin");
    for (unsigned table = 0; table < TABLES; table++)
        add_rows(pattern, txn, table);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return pattern;
}

size_t bare_pattern_bytes(const struct bare_pattern *pattern)
{
    size_t bytes = 0;
    for (size_t i = 0; i < pattern->count; i++)
        bytes += pattern->rows[i].key_len + pattern->rows[i].value_len;
    return bytes;
}

void bare_pattern_free(struct bare_pattern **patternp)
{
    struct bare_pattern *pattern = *patternp;
    *patternp = NULL;
    for (size_t i = 0; i < pattern->count; i++)
        free(pattern->rows[i].value);
    free(pattern);
}

/* ---- the loop ---- */

static uint64_t last_id(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    check(mdb_cursor_open(txn, dbi, &cursor), "mdb_cursor_open");
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    uint64_t id = rc == 0 && key.mv_size >= 8 ? queue_be64_get(key.mv_data) : 1;
    mdb_cursor_close(cursor);
    return id;
}

struct bare *bare_open(const char *folder, const struct bare_pattern *pattern)
{
    struct bare *bare = bench_alloc(sizeof *bare);
    MDB_txn *txn = NULL;
    bare->env = open_env(folder, 0);
    bare->pattern = pattern;
    bare->seed = 4711;
    check(mdb_txn_begin(bare->env, NULL, 0, &txn), "mdb_txn_begin");
    for (unsigned table = 0; table < TABLES; table++)
        check(mdb_dbi_open(txn, tables[table], MDB_CREATE, &bare->dbi[table]), "mdb_dbi_open");
    check(mdb_dbi_open(txn, "meta", MDB_CREATE, &bare->meta), "mdb_dbi_open");
    bare->next_id = last_id(txn, bare->dbi[0]) + 1;
    check(mdb_txn_commit(txn), "mdb_txn_commit");
    return bare;
}

static void put_message(struct bare *bare, MDB_txn *txn, uint64_t id)
{
    for (size_t i = 0; i < bare->pattern->count; i++) {
        const struct pattern_row *row = &bare->pattern->rows[i];
        uint8_t bytes[64];
        memcpy(bytes, row->key, row->key_len);
        queue_be64_put(bytes, id);
        MDB_val key = {row->key_len, bytes};
        MDB_val value = {row->value_len, row->value};
        check(mdb_put(txn, bare->dbi[row->table], &key, &value, MDB_APPEND), "mdb_put");
    }
}

static void put_meta(struct bare *bare, MDB_txn *txn)
{
    uint8_t state[72] = {0}; /* as long as the queue's counters */
    MDB_val key = {5, (void *)"state"};
    MDB_val value = {sizeof state, state};
    queue_be64_put(state, bare->next_id);
    check(mdb_put(txn, bare->meta, &key, &value, 0), "mdb_put");
}

double bare_run(struct bare *bare, const uint32_t *batches, size_t count)
{
    size_t messages = 0;
    for (size_t i = 0; i < count; i++)
        messages += batches[i];
    bare->added = bench_resize(bare->added, (bare->added_count + messages) * sizeof *bare->added);
    double begun_s = bench_now_s();
    for (size_t i = 0; i < count; i++) {
        MDB_txn *txn = NULL;
        check(mdb_txn_begin(bare->env, NULL, 0, &txn), "mdb_txn_begin");
        for (uint32_t m = 0; m < batches[i]; m++) {
            put_message(bare, txn, bare->next_id);
            bare->added[bare->added_count++] = bare->next_id++;
        }
        put_meta(bare, txn);
        check(mdb_txn_commit(txn), "mdb_txn_commit");
    }
    return bench_now_s() - begun_s;
}

static void delete_message(struct bare *bare, MDB_txn *txn, uint64_t id)
{
    for (size_t i = 0; i < bare->pattern->count; i++) {
        const struct pattern_row *row = &bare->pattern->rows[i];
        uint8_t bytes[64];
        memcpy(bytes, row->key, row->key_len);
        queue_be64_put(bytes, id);
        MDB_val key = {row->key_len, bytes};
        check(mdb_del(txn, bare->dbi[row->table], &key, NULL), "mdb_del");
    }
}

void bare_remove_added(struct bare *bare)
{
    while (bare->added_count > 0) {
        MDB_txn *txn = NULL;
        check(mdb_txn_begin(bare->env, NULL, 0, &txn), "mdb_txn_begin");
        for (size_t i = 0; i < 512 && bare->added_count > 0; i++) {
            size_t at = bench_random(&bare->seed) % bare->added_count;
            delete_message(bare, txn, bare->added[at]);
            bare->added[at] = bare->added[--bare->added_count];
        }
        check(mdb_txn_commit(txn), "mdb_txn_commit");
    }
}

void bare_close(struct bare **barep)
{
    struct bare *bare = *barep;
    *barep = NULL;
    mdb_env_close(bare->env);
    free(bare->added);
    free(bare);
}
