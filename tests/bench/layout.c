/* tests/bench/layout.c - how bytes should lie in LMDB: rows of one page, of several, a message in
 * one row, or in one record with its envelope; for each size of message, on a fresh store and after
 * churn.
 *
 * A bare loop: what is measured is LMDB and the disk. A message is a record of the envelope, the
 * rows of its bytes and a row in `fresh`. Churn replaces random messages by new ones, as deliveries
 * do. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "queue/bytes.h"
#include "tests/bench/bench.h"

#define KIB         ((size_t)1024)
#define PAGE        ((size_t)4096)
#define ENVELOPE    ((size_t)230) /* a record with one recipient */
#define MESSAGE_MAX (20 * KIB * KIB)
#define STORE       (128 * KIB * KIB) /* filled with so much */
#define LIVE_MAX    20000
#define LIVE_MIN    6
#define BATCH       64 /* messages a transaction, */
#define BATCH_BYTES (4 * KIB * KIB)
#define TURNS       3 /* each message is replaced so often before the second measurement */

struct layout {
    const char *name;
    size_t row;  /* octets of a row's value at most; 0: the message in one */
    bool joined; /* bytes and envelope in one record */
};
static const struct layout layouts[] = {
    {"rows of half a page", PAGE / 2 - 40, false},
    {"rows of 1 page", PAGE - 16, false},
    {"rows of 2 pages", 2 * PAGE - 16, false},
    {"rows of 4 pages", 4 * PAGE - 16, false},
    {"rows of 8 pages", 8 * PAGE - 16, false},
    {"rows of 16 pages", 16 * PAGE - 16, false},
    {"one row", 0, false},
    {"one record", 0, true},
};

enum table { MESSAGE, BODY, FRESH, TABLES };

struct store {
    const struct layout *layout;
    size_t bytes; /* of a message */
    size_t count; /* live messages */
    size_t batch; /* messages a transaction */
    MDB_env *env;
    MDB_dbi dbi[TABLES];
    MDB_txn *txn;
    uint64_t *live;
    uint64_t next_id;
    uint64_t seed;
    char *body;
    char folder[4000];
};

struct cost {
    double rate;    /* messages/s */
    double written; /* KiB a message */
};

static void check(int rc, const char *what)
{
    if (rc == 0)
        return;
    (void)fprintf(stderr, "queue_bench: %s: %s\n", what, mdb_strerror(rc));
    exit(1);
}

/* ---- operations, each within store->txn ---- */

static void put(struct store *store, enum table table, uint64_t id, uint64_t offset, size_t key_len,
                const void *bytes, size_t len)
{
    uint8_t key_bytes[16];
    queue_be64_put(key_bytes, id);
    queue_be64_put(key_bytes + 8, offset);
    MDB_val key = {key_len, key_bytes};
    MDB_val value = {len, (void *)bytes};
    int rc = mdb_put(store->txn, store->dbi[table], &key, &value, MDB_APPEND);
    if (rc == MDB_KEYEXIST)
        rc = mdb_put(store->txn, store->dbi[table], &key, &value, 0);
    check(rc, "mdb_put");
}

static void put_envelope(struct store *store, uint64_t id)
{
    put(store, MESSAGE, id, 0, 8, store->body,
        store->layout->joined ? ENVELOPE + store->bytes : ENVELOPE);
}

static void add_message(struct store *store, size_t at)
{
    uint64_t id = store->next_id++;
    size_t row = store->layout->row > 0 ? store->layout->row : store->bytes;
    for (size_t done = 0; !store->layout->joined && done < store->bytes; done += row)
        put(store, BODY, id, done, 16, store->body + done,
            store->bytes - done < row ? store->bytes - done : row);
    put_envelope(store, id);
    put(store, FRESH, id, 0, 8, "1234", 4);
    store->live[at] = id;
}

static void remove_message(struct store *store, size_t at)
{
    size_t row = store->layout->row > 0 ? store->layout->row : store->bytes;
    uint8_t key_bytes[16];
    queue_be64_put(key_bytes, store->live[at]);
    MDB_val key = {8, key_bytes};
    check(mdb_del(store->txn, store->dbi[MESSAGE], &key, NULL), "mdb_del");
    check(mdb_del(store->txn, store->dbi[FRESH], &key, NULL), "mdb_del");
    for (size_t done = 0; !store->layout->joined && done < store->bytes; done += row) {
        queue_be64_put(key_bytes + 8, done);
        key = (MDB_val){16, key_bytes};
        check(mdb_del(store->txn, store->dbi[BODY], &key, NULL), "mdb_del");
    }
}

static void fill_one(struct store *store, size_t i)
{
    add_message(store, i);
}

static void replace_one(struct store *store, size_t i)
{
    size_t at = bench_random(&store->seed) % store->count;
    (void)i;
    remove_message(store, at);
    add_message(store, at);
}

/* A deferral writes the record anew. */
static void defer_one(struct store *store, size_t i)
{
    (void)i;
    put_envelope(store, store->live[bench_random(&store->seed) % store->count]);
}

/* ---- runs ---- */

static struct cost run(struct store *store, void (*op)(struct store *, size_t), size_t count)
{
    uint64_t written = bench_written();
    double begun_s = bench_now_s();
    for (size_t i = 0; i < count;) {
        check(mdb_txn_begin(store->env, NULL, 0, &store->txn), "mdb_txn_begin");
        for (size_t m = 0; m < store->batch && i < count; m++)
            op(store, i++);
        check(mdb_txn_commit(store->txn), "mdb_txn_commit");
    }
    double took_s = bench_now_s() - begun_s;
    return (struct cost){(double)count / took_s,
                         (double)(bench_written() - written) / (double)count / 1024};
}

static void open_store(struct store *store)
{
    static const char *const names[] = {"message", "body", "fresh"};
    bench_folder_remove(store->folder);
    bench_check(mkdir(store->folder, 0700) == 0, "cannot make a folder");
    check(mdb_env_create(&store->env), "mdb_env_create");
    check(mdb_env_set_mapsize(store->env, (size_t)16 << 30), "mdb_env_set_mapsize");
    check(mdb_env_set_maxdbs(store->env, TABLES), "mdb_env_set_maxdbs");
    check(mdb_env_open(store->env, store->folder, MDB_NOTLS | MDB_NORDAHEAD, 0600), "mdb_env_open");
    check(mdb_txn_begin(store->env, NULL, 0, &store->txn), "mdb_txn_begin");
    for (unsigned i = 0; i < TABLES; i++)
        check(mdb_dbi_open(store->txn, names[i], MDB_CREATE, &store->dbi[i]), "mdb_dbi_open");
    check(mdb_txn_commit(store->txn), "mdb_txn_commit");
    store->live = bench_alloc(store->count * sizeof *store->live);
    store->next_id = 1;
    store->seed = 4711;
}

static void close_store(struct store *store)
{
    mdb_env_close(store->env);
    free(store->live);
    bench_folder_remove(store->folder);
}

static double file_kib(const struct store *store)
{
    return (double)bench_file_blocks(store->folder, "data.mdb") / 1024 / (double)store->count;
}

static void measure(struct store *store)
{
    open_store(store);
    struct cost fresh = run(store, fill_one, store->count);
    double fresh_kib = file_kib(store);
    /* Where pages lie does not depend on syncs. */
    check(mdb_env_set_flags(store->env, MDB_NOSYNC, 1), "mdb_env_set_flags");
    (void)run(store, replace_one, TURNS * store->count);
    check(mdb_env_set_flags(store->env, MDB_NOSYNC, 0), "mdb_env_set_flags");
    check(mdb_env_sync(store->env, 1), "mdb_env_sync");
    struct cost churned = run(store, replace_one, store->count);
    struct cost deferred = run(store, defer_one, store->count);
    (void)printf("%7zu  %-20s %8.0f %9.1f %9.1f  %8.0f %9.1f %9.1f  %8.0f %9.1f\n",
                 store->bytes / KIB, store->layout->name, fresh.rate, fresh.written, fresh_kib,
                 churned.rate, churned.written, file_kib(store), deferred.rate, deferred.written);
    (void)fflush(stdout);
    close_store(store);
}

static bool makes_sense(const struct layout *layout, size_t bytes)
{
    size_t most = layout->row;
    if (layout->joined)
        return bytes <= 16 * KIB;
    if (most > 0 && most < PAGE - 16)
        return bytes <= 32 * KIB;
    return most <= PAGE || most < 2 * bytes; /* larger rows would all be the same */
}

int layout_main(int argc, char **argv)
{
    static const size_t sizes[] = {1, 2, 4, 8, 16, 32, 64, 100, 256, 1024, 20480}; /* KiB */
    struct store store = {0};
    if (argc < 1) {
        (void)fprintf(stderr, "usage: queue_bench layout FOLDER [KIB...]\n");
        return 2;
    }
    (void)mkdir(argv[0], 0700);
    (void)snprintf(store.folder, sizeof store.folder, "%s/layout", argv[0]);
    store.body = bench_alloc(MESSAGE_MAX + ENVELOPE);
    memset(store.body, 'x', MESSAGE_MAX + ENVELOPE);
    (void)printf(
        "                              fresh: fill                    churned: replace          "
        "     defer\n    KiB  layout               message/s  KiB wrtn  KiB file message/s  KiB "
        "wrtn  KiB file      n/s  KiB wrtn\n");
    size_t count = argc > 1 ? (size_t)argc - 1 : sizeof sizes / sizeof sizes[0];
    for (size_t s = 0; s < count; s++) {
        size_t kib = argc > 1 ? strtoul(argv[s + 1], NULL, 10) : sizes[s];
        bench_check(kib > 0 && kib <= MESSAGE_MAX / KIB, "a size is 1 to 20480 KiB");
        store.bytes = kib * KIB;
        store.count = STORE / store.bytes;
        store.count = store.count > LIVE_MAX ? LIVE_MAX : store.count;
        store.count = store.count < LIVE_MIN ? LIVE_MIN : store.count;
        store.batch = BATCH_BYTES / store.bytes;
        store.batch = store.batch > BATCH ? BATCH : store.batch;
        store.batch = store.batch < 1 ? 1 : store.batch;
        for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
            store.layout = &layouts[i];
            if (makes_sense(store.layout, store.bytes))
                measure(&store);
        }
    }
    free(store.body);
    return 0;
}
