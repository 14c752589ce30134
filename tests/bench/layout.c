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
/* A large store that lost every second of its small messages, and then gets larger ones, one a
 * commit: free pages enough, but few side by side. */
#define SCATTERED_SMALL 200000
#define SCATTERED_BYTES (30 * KIB)
#define SCATTERED_ADDED 1000

struct layout {
    const char *name;
    size_t row;  /* octets of a row's value at most; 0: the message in one */
    size_t tail; /* so many octets beyond full pages get a row of their own, in a leaf */
    bool joined; /* bytes and envelope in one record */
};
static const struct layout layouts[] = {
    {"half a page", PAGE / 2 - 40, 0, false},
    {"1 page", PAGE - 16, 0, false},
    {"2 pages", 2 * PAGE - 16, 0, false},
    {"4 pages", 4 * PAGE - 16, 0, false},
    {"4 pages, tail 1024", 4 * PAGE - 16, 1024, false},
    {"16 pages", 16 * PAGE - 16, 0, false},
    {"one row", 0, 0, false},
    {"one record", 0, 0, true},
};

struct message {
    uint64_t id;
    size_t bytes;
};

enum table { MESSAGE, BODY, FRESH, TABLES };

struct store {
    const struct layout *layout;
    size_t bytes; /* of a message; 0: mixed */
    size_t count; /* live messages */
    size_t batch; /* messages a transaction */
    MDB_env *env;
    MDB_dbi dbi[TABLES];
    MDB_txn *txn;
    struct message *live;
    uint64_t next_id;
    uint64_t seed;
    size_t live_bytes;
    char *body;
    char folder[4000];
};

struct cost {
    double rate;    /* messages/s */
    double written; /* KiB a message */
    double writes;  /* runs of pages a message */
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

static void put_envelope(struct store *store, const struct message *message)
{
    put(store, MESSAGE, message->id, 0, 8, store->body,
        store->layout->joined ? ENVELOPE + message->bytes : ENVELOPE);
}

/* How long the next row is when so many bytes are left. */
static size_t next_row(const struct layout *layout, size_t left)
{
    size_t row = layout->row > 0 && layout->row < left ? layout->row : left;
    size_t pages = (row + 16) / PAGE;
    size_t over = row - (pages * PAGE - 16);
    return pages > 0 && over > 0 && over <= layout->tail ? row - over : row;
}

static size_t next_size(struct store *store)
{
    static const size_t sizes[] = {1, 2,  3,  4,  4,  4,  4,  4,  4,   4,
                                   6, 10, 10, 15, 20, 30, 40, 60, 100, 250};
    if (store->bytes > 0)
        return store->bytes;
    return sizes[bench_random(&store->seed) % (sizeof sizes / sizeof sizes[0])] * KIB -
           bench_random(&store->seed) % 1000;
}

static void add_message(struct store *store, size_t at)
{
    struct message *message = &store->live[at];
    *message = (struct message){store->next_id++, next_size(store)};
    for (size_t done = 0; !store->layout->joined && done < message->bytes;) {
        size_t row = next_row(store->layout, message->bytes - done);
        put(store, BODY, message->id, done, 16, store->body + done, row);
        done += row;
    }
    put_envelope(store, message);
    put(store, FRESH, message->id, 0, 8, "1234", 4);
    store->live_bytes += message->bytes;
}

static void remove_message(struct store *store, size_t at)
{
    struct message *message = &store->live[at];
    uint8_t key_bytes[16];
    queue_be64_put(key_bytes, message->id);
    MDB_val key = {8, key_bytes};
    check(mdb_del(store->txn, store->dbi[MESSAGE], &key, NULL), "mdb_del");
    check(mdb_del(store->txn, store->dbi[FRESH], &key, NULL), "mdb_del");
    for (size_t done = 0; !store->layout->joined && done < message->bytes;) {
        queue_be64_put(key_bytes + 8, done);
        key = (MDB_val){16, key_bytes};
        check(mdb_del(store->txn, store->dbi[BODY], &key, NULL), "mdb_del");
        done += next_row(store->layout, message->bytes - done);
    }
    store->live_bytes -= message->bytes;
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

static void remove_one(struct store *store, size_t i)
{
    size_t at = bench_random(&store->seed) % store->count;
    (void)i;
    remove_message(store, at);
    store->live[at] = store->live[--store->count];
}

static void append_one(struct store *store, size_t i)
{
    (void)i;
    add_message(store, store->count++);
}

/* A deferral writes the record anew. */
static void defer_one(struct store *store, size_t i)
{
    (void)i;
    put_envelope(store, &store->live[bench_random(&store->seed) % store->count]);
}

/* ---- runs ---- */

static struct cost run(struct store *store, void (*op)(struct store *, size_t), size_t count)
{
    uint64_t written = bench_written();
    uint64_t writes = bench_writes();
    double begun_s = bench_now_s();
    for (size_t i = 0; i < count;) {
        check(mdb_txn_begin(store->env, NULL, 0, &store->txn), "mdb_txn_begin");
        for (size_t m = 0; m < store->batch && i < count; m++)
            op(store, i++);
        check(mdb_txn_commit(store->txn), "mdb_txn_commit");
    }
    double took_s = bench_now_s() - begun_s;
    return (struct cost){(double)count / took_s,
                         (double)(bench_written() - written) / (double)count / 1024,
                         (double)(bench_writes() - writes) / (double)count};
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
    store->live_bytes = 0;
    store->seed = 4711;
}

static void close_store(struct store *store)
{
    mdb_env_close(store->env);
    free(store->live);
    bench_folder_remove(store->folder);
}

/* The file's size by that of the messages in it. */
static double file_ratio(const struct store *store)
{
    return (double)bench_file_blocks(store->folder, "data.mdb") / (double)store->live_bytes;
}

/* Where pages lie does not depend on syncs. */
static void run_unsynced(struct store *store, void (*op)(struct store *, size_t), size_t count)
{
    check(mdb_env_set_flags(store->env, MDB_NOSYNC, 1), "mdb_env_set_flags");
    (void)run(store, op, count);
    check(mdb_env_set_flags(store->env, MDB_NOSYNC, 0), "mdb_env_set_flags");
    check(mdb_env_sync(store->env, 1), "mdb_env_sync");
}

static void print_cost(const struct cost *cost)
{
    (void)printf("  %8.0f %8.1f %7.2f", cost->rate, cost->written, cost->writes);
}

static void measure(struct store *store)
{
    open_store(store);
    struct cost fresh = run(store, fill_one, store->count);
    double fresh_ratio = file_ratio(store);
    run_unsynced(store, replace_one, TURNS * store->count);
    struct cost churned = run(store, replace_one, store->count);
    struct cost deferred = run(store, defer_one, store->count);
    (void)printf("%6zu  %-20s", store->bytes / KIB, store->layout->name);
    print_cost(&fresh);
    (void)printf(" %7.2f", fresh_ratio);
    print_cost(&churned);
    (void)printf(" %7.2f", file_ratio(store));
    print_cost(&deferred);
    (void)printf("\n");
    (void)fflush(stdout);
    close_store(store);
}

static void measure_scattered(struct store *store, const struct layout *layout)
{
    store->layout = &layouts[1]; /* small messages lie in single pages in any case */
    store->bytes = 4 * KIB;
    store->count = SCATTERED_SMALL;
    store->batch = 512;
    open_store(store);
    run_unsynced(store, fill_one, SCATTERED_SMALL);
    run_unsynced(store, remove_one, SCATTERED_SMALL / 2);
    store->layout = layout;
    store->bytes = SCATTERED_BYTES;
    store->batch = 1;
    struct cost added = run(store, append_one, SCATTERED_ADDED);
    (void)printf("scattered  %-20s", layout->name);
    print_cost(&added);
    (void)printf("\n");
    (void)fflush(stdout);
    close_store(store);
}

static bool makes_sense(const struct layout *layout, size_t bytes)
{
    size_t most = layout->row;
    if (bytes == 0)
        return !layout->joined && most > PAGE / 2;
    if (layout->joined)
        return bytes <= 16 * KIB;
    if (most > 0 && most < PAGE - 16)
        return bytes <= 32 * KIB;
    return most <= PAGE || most < 2 * bytes; /* larger rows would all be the same */
}

static void measure_size(struct store *store, size_t kib)
{
    bench_check(kib <= MESSAGE_MAX / KIB, "a size is at most 20480 KiB");
    store->bytes = kib * KIB;
    store->count = STORE / (kib > 0 ? store->bytes : 30 * KIB);
    store->count = store->count > LIVE_MAX ? LIVE_MAX : store->count;
    store->count = store->count < LIVE_MIN ? LIVE_MIN : store->count;
    store->batch = kib > 0 ? BATCH_BYTES / store->bytes : BATCH;
    store->batch = store->batch > BATCH ? BATCH : store->batch;
    store->batch = store->batch < 1 ? 1 : store->batch;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        store->layout = &layouts[i];
        if (makes_sense(store->layout, store->bytes))
            measure(store);
    }
}

int layout_main(int argc, char **argv)
{
    static const size_t sizes[] = {1, 4, 16, 32, 64, 100, 256, 1024, 20480, 0}; /* KiB */
    struct store store = {0};
    if (argc < 1) {
        (void)fprintf(stderr,
                      "usage: queue_bench layout FOLDER [KIB...|scattered]   (0: mixed sizes)\n");
        return 2;
    }
    (void)mkdir(argv[0], 0700);
    (void)snprintf(store.folder, sizeof store.folder, "%s/layout", argv[0]);
    store.body = bench_alloc(MESSAGE_MAX + ENVELOPE);
    memset(store.body, 'x', MESSAGE_MAX + ENVELOPE);
    (void)printf("messages/s, KiB and runs of pages written, each a message, file by contents: "
                 "filled fresh; "
                 "replaced at random; deferred at random\n");
    size_t count = argc > 1 ? (size_t)argc - 1 : sizeof sizes / sizeof sizes[0];
    for (size_t s = 0; s < count; s++) {
        if (argc <= 1)
            measure_size(&store, sizes[s]);
        else if (strcmp(argv[s + 1], "scattered") != 0)
            measure_size(&store, strtoul(argv[s + 1], NULL, 10));
    }
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        bool asked = argc <= 1 || strcmp(argv[argc - 1], "scattered") == 0;
        if (asked && !layouts[i].joined && layouts[i].row >= PAGE - 16)
            measure_scattered(&store, &layouts[i]);
    }
    free(store.body);
    return 0;
}
