/* queue/pages.c - see pages.h. One pass over the trees: the table of databases, each database, the
 * list of free pages; every page is marked in a map of bits when it is met. */
#include "queue/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/bytes.h"

#define MAGIC     UINT32_C(0xBEEFC0DE)
#define VERSION   1
#define HEADER    16 /* octets of a page's header */
#define NODE      8  /* octets of a node's header */
#define DB        48 /* octets of a database's description */
#define TREES     24 /* where a header has these */
#define KEY_MAX   511
#define DEPTH_MAX 32
#define NO_PAGE   UINT64_MAX
#define SLACK                                                                                      \
    (UINT64_C(1) << 30) /* a page that was given back unwritten may lie beyond the end             \
                         */
#define PACE_EVERY 64

enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { NODE_BIG = 0x01, NODE_DB = 0x02, NODE_DUPS = 0x04 };
/* Of the kind of a table; beside them the description of the free pages has LMDB's own flags. */
enum { KIND_ALL = 0x7E, KIND_INTEGER_KEYS = 0x08 };

struct tree { /* a database as its description tells */
    char name[64];
    bool is_main, is_free;
    uint32_t flags;
    uint64_t depth;
    uint64_t branches, leaves, overflows, entries;
    uint64_t root;
};

struct meta {
    uint64_t last_page, txnid;
    uint32_t page_bytes;
    struct tree free, main;
};

struct level {
    uint8_t *page;
    uint64_t number;
    unsigned count, at;
};

struct walk {
    int fd;
    const struct queue_pages_options *options;
    struct queue_pages *pages;
    uint64_t file_bytes;
    uint64_t last_page;
    size_t page_bytes;
    uint8_t *seen; /* a bit a page */
    struct level levels[DEPTH_MAX];
    unsigned depth;
    /* of the tree at hand */
    const struct tree *tree;
    struct tree found; /* its counts */
    uint8_t last_key[KEY_MAX];
    size_t last_len;
    bool has_last;
    uint8_t bound[KEY_MAX]; /* the next key is not below */
    size_t bound_len;
    bool has_bound;
    struct tree *inner; /* databases met in the main tree */
    size_t inner_count;
    unsigned paced;
    int error;
};

static void report(struct walk *walk, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void report(struct walk *walk, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    walk->options->report(text, walk->options->ctx);
}

static uint64_t native64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static uint32_t native32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static uint16_t native16(const uint8_t *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* ---- meta pages ---- */

static void read_tree(struct tree *tree, const uint8_t *p, const char *name)
{
    (void)snprintf(tree->name, sizeof tree->name, "%s", name);
    tree->flags = native16(p + 4);
    tree->depth = native16(p + 6);
    tree->branches = native64(p + 8);
    tree->leaves = native64(p + 16);
    tree->overflows = native64(p + 24);
    tree->entries = native64(p + 32);
    tree->root = native64(p + 40);
}

/* @return whether it is a meta page that this program understands */
static bool read_meta(struct meta *meta, const uint8_t *page)
{
    const uint8_t *p = page + HEADER;
    if ((native16(page + 10) & PAGE_META) == 0 || native32(p) != MAGIC ||
        native32(p + 4) != VERSION)
        return false;
    *meta = (struct meta){.page_bytes = native32(p + 24)};
    read_tree(&meta->free, p + TREES, "of free pages");
    read_tree(&meta->main, p + TREES + DB, "of databases");
    meta->free.is_free = true;
    meta->main.is_main = true;
    meta->last_page = native64(p + TREES + 2 * (size_t)DB);
    meta->txnid = native64(p + TREES + 2 * (size_t)DB + 8);
    uint32_t bytes = meta->page_bytes;
    if (meta->main.flags != 0 || (meta->free.flags & KIND_ALL) != KIND_INTEGER_KEYS)
        return false;
    return bytes >= 512 && bytes <= 65536 && (bytes & (bytes - 1)) == 0;
}

/* The state to look at. @return 0; 1: it is not there; errno */
static int choose_meta(struct walk *walk, struct meta *out)
{
    uint8_t page[512];
    struct meta metas[2] = {0};
    bool good[2] = {false, false};
    uint64_t at = 0;
    for (int i = 0; i < 2; i++) {
        ssize_t got = pread(walk->fd, page, sizeof page, (off_t)at);
        if (got < 0)
            return errno;
        good[i] = got == (ssize_t)sizeof page && read_meta(&metas[i], page);
        at = good[0] ? metas[0].page_bytes : (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (!good[0] || !good[1]) { /* LMDB wants both */
        report(walk, "the file's header (page %d) is damaged", good[0] ? 1 : 0);
        walk->pages->unreadable = true;
        return 0;
    }
    const struct meta *newest = &metas[metas[1].txnid > metas[0].txnid ? 1 : 0];
    if (walk->options->txnid != 0 && newest->txnid != walk->options->txnid)
        newest = &metas[metas[0].txnid == walk->options->txnid ? 0 : 1];
    if (walk->options->txnid != 0 && newest->txnid != walk->options->txnid)
        return 1;
    *out = *newest;
    return 0;
}

/* ---- pages ---- */

/* Note that a page is in use. @return whether this is the first time */
static bool mark(struct walk *walk, uint64_t number, const char *what)
{
    if (number < 2 || number > walk->last_page) {
        report(walk, "%s is said to be page %" PRIu64 ", which the file does not have", what,
               number);
        return false;
    }
    uint8_t bit = (uint8_t)(1U << number % 8);
    if ((walk->seen[number / 8] & bit) != 0) {
        report(walk, "page %" PRIu64 " is used twice, now as %s", number, what);
        return false;
    }
    walk->seen[number / 8] |= bit;
    return true;
}

static bool read_page(struct walk *walk, uint64_t number, uint8_t *out, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(walk->fd, out + got, len - got, (off_t)(number * walk->page_bytes + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            report(walk, "page %" PRIu64 " cannot be read: %s", number,
                   n < 0 ? strerror(errno) : "the file ends before it");
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static bool pace(struct walk *walk)
{
    if (walk->options->pace == NULL || ++walk->paced % PACE_EVERY != 0)
        return true;
    if (!walk->options->pace(walk->options->ctx))
        walk->error = ECANCELED;
    return walk->error == 0;
}

static const uint8_t *node_at(const struct level *level, unsigned i)
{
    return level->page + native16(level->page + HEADER + 2 * (size_t)i);
}

static size_t node_key_len(const uint8_t *node)
{
    return native16(node + 6);
}

static uint32_t node_data_len(const uint8_t *node)
{
    return native16(node) | (uint32_t)native16(node + 2) << 16;
}

static uint64_t node_child(const uint8_t *node)
{
    return node_data_len(node) | (uint64_t)native16(node + 4) << 32;
}

/* Does every node lie inside the page? */
static bool nodes_fit(const struct walk *walk, const struct level *level, bool leaf)
{
    size_t upper = native16(level->page + 14);
    for (unsigned i = 0; i < level->count; i++) {
        size_t at = native16(level->page + HEADER + 2 * (size_t)i);
        if (at < upper || at + NODE > walk->page_bytes || at % 2 != 0)
            return false;
        const uint8_t *node = level->page + at;
        size_t len = NODE + node_key_len(node);
        if (leaf)
            len += (native16(node + 4) & NODE_BIG) != 0 ? 8 : node_data_len(node);
        if (node_key_len(node) > KEY_MAX || at + len > walk->page_bytes ||
            (leaf && node_key_len(node) == 0))
            return false;
    }
    return true;
}

/* Read a branch or leaf page onto the stack. */
static bool push(struct walk *walk, uint64_t number)
{
    char what[96];
    (void)snprintf(what, sizeof what, "a page of the table %s", walk->tree->name);
    if (walk->depth == DEPTH_MAX || walk->depth >= walk->tree->depth) {
        report(walk, "the table %s is deeper than it says", walk->tree->name);
        return false;
    }
    struct level *level = &walk->levels[walk->depth];
    if (level->page == NULL)
        level->page = queue_alloc(walk->page_bytes);
    if (!mark(walk, number, what) || !read_page(walk, number, level->page, walk->page_bytes))
        return false;
    walk->pages->used++;
    bool leaf = walk->depth + 1 == walk->tree->depth;
    size_t lower = native16(level->page + 12);
    size_t upper = native16(level->page + 14);
    level->number = number;
    level->at = 0;
    level->count = (unsigned)((lower - HEADER) / 2);
    if (native64(level->page) != number ||
        native16(level->page + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH) || lower < HEADER ||
        lower > upper || upper > walk->page_bytes || lower % 2 != 0 || level->count == 0 ||
        !nodes_fit(walk, level, leaf)) {
        report(walk, "page %" PRIu64 " (of the table %s) is damaged", number, walk->tree->name);
        return false;
    }
    if (leaf)
        walk->found.leaves++;
    else
        walk->found.branches++;
    walk->depth++;
    return true;
}

/* ---- keys ---- */

static int compare_keys(const struct tree *tree, const uint8_t *a, size_t a_len, const uint8_t *b,
                        size_t b_len)
{
    if (tree->is_free && a_len == 8 && b_len == 8) {
        uint64_t x = native64(a);
        uint64_t y = native64(b);
        return x < y ? -1 : x > y;
    }
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order != 0)
        return order;
    return a_len < b_len ? -1 : a_len > b_len;
}

static bool in_order(struct walk *walk, const uint8_t *key, size_t len)
{
    bool fine =
        !walk->has_last || compare_keys(walk->tree, walk->last_key, walk->last_len, key, len) < 0;
    if (walk->has_bound)
        fine = fine && compare_keys(walk->tree, walk->bound, walk->bound_len, key, len) <= 0;
    memcpy(walk->last_key, key, len);
    walk->last_len = len;
    walk->has_last = true;
    walk->has_bound = false;
    if (!fine)
        report(walk, "page %" PRIu64 " (of the table %s) holds keys out of order",
               walk->levels[walk->depth - 1].number, walk->tree->name);
    return fine;
}

/* What stands before a child in a branch: keys before are below it, keys in the child are not. */
static bool take_separator(struct walk *walk, const uint8_t *node)
{
    size_t len = node_key_len(node);
    if (walk->has_last &&
        compare_keys(walk->tree, walk->last_key, walk->last_len, node + NODE, len) >= 0) {
        report(walk, "page %" PRIu64 " (of the table %s) holds keys out of order",
               walk->levels[walk->depth - 1].number, walk->tree->name);
        return false;
    }
    memcpy(walk->bound, node + NODE, len);
    walk->bound_len = len;
    walk->has_bound = true;
    return true;
}

/* ---- what a leaf holds ---- */

/* Mark the pages of a large value. first_out: its first page */
static bool mark_overflow(struct walk *walk, const uint8_t *node, uint64_t *first_out)
{
    uint8_t header[HEADER];
    char what[96];
    uint64_t first = native64(node + NODE + node_key_len(node));
    uint64_t want = (HEADER - 1 + (uint64_t)node_data_len(node)) / walk->page_bytes + 1;
    (void)snprintf(what, sizeof what, "a value of the table %s", walk->tree->name);
    for (uint64_t i = 0; i < want; i++) {
        if (!mark(walk, first + i, what))
            return false;
        walk->pages->used++;
    }
    *first_out = first;
    if (!read_page(walk, first, header, sizeof header))
        return false;
    if (native64(header) != first || native16(header + 10) != PAGE_OVERFLOW ||
        native32(header + 12) < want) {
        report(walk, "page %" PRIu64 " (a value of the table %s) is damaged", first,
               walk->tree->name);
        return false;
    }
    for (uint64_t i = want; i < native32(header + 12); i++) { /* LMDB may keep more than it needs */
        if (!mark(walk, first + i, what))
            return false;
        walk->pages->used++;
    }
    if ((first + want) * walk->page_bytes > walk->file_bytes) {
        report(walk, "page %" PRIu64 " (a value of the table %s) lies beyond the end of the file",
               first, walk->tree->name);
        return false;
    }
    walk->found.overflows += native32(header + 12);
    return true;
}

static bool take_database(struct walk *walk, const uint8_t *node)
{
    char name[64];
    size_t len = node_key_len(node);
    const uint8_t *p = node + NODE + len;
    if ((native16(node + 4) & NODE_DUPS) != 0 || node_data_len(node) != DB) {
        report(walk, "the table of databases holds something that is none");
        return false;
    }
    (void)snprintf(name, sizeof name, "\"%.*s\"", (int)(len < 50 ? len : 50),
                   (const char *)node + NODE);
    walk->inner = queue_resize(walk->inner, (walk->inner_count + 1) * sizeof *walk->inner);
    struct tree *tree = &walk->inner[walk->inner_count++];
    *tree = (struct tree){0};
    read_tree(tree, p, name);
    if (tree->flags == 0)
        return true;
    report(walk, "the database %s is of a kind that no version makes", name);
    return false;
}

/* One list of free pages: its length, then the numbers, descending. */
static bool take_free_list(struct walk *walk, const uint8_t *list, size_t len)
{
    uint64_t count = len >= 8 ? native64(list) : NO_PAGE;
    if (count > len / 8 - (len >= 8 ? 1 : 0)) {
        report(walk, "a list of free pages is damaged");
        return false;
    }
    for (uint64_t i = 1; i <= count; i++) {
        if (!mark(walk, native64(list + 8 * i), "a free page"))
            return false;
        walk->pages->free++;
    }
    return true;
}

/* The list may be a large value, of any size: read it in parts. */
static bool take_free_node(struct walk *walk, const uint8_t *node)
{
    size_t len = node_data_len(node);
    uint64_t first = 0;
    if (node_key_len(node) != 8 || native64(node + NODE) > walk->pages->txnid) {
        report(walk, "the list of free pages has an impossible key");
        return false;
    }
    if ((native16(node + 4) & NODE_BIG) == 0)
        return take_free_list(walk, node + NODE + 8, len);
    if (!mark_overflow(walk, node, &first))
        return false;
    uint8_t *list = queue_alloc(len);
    bool fine = true;
    size_t got = 0;
    while (fine && got < len) {
        ssize_t n = pread(walk->fd, list + got, len - got,
                          (off_t)(first * walk->page_bytes + HEADER + got));
        fine = n > 0;
        got += fine ? (size_t)n : 0;
    }
    if (!fine)
        report(walk, "page %" PRIu64 " (a list of free pages) cannot be read", first);
    fine = fine && take_free_list(walk, list, len);
    free(list);
    return fine;
}

static bool take_leaf_node(struct walk *walk, const uint8_t *node)
{
    uint64_t first = 0;
    unsigned flags = native16(node + 4);
    walk->found.entries++;
    if (!in_order(walk, node + NODE, node_key_len(node)))
        return false;
    if (walk->tree->is_free)
        return take_free_node(walk, node);
    if ((flags & NODE_DB) != 0 && walk->tree->is_main)
        return take_database(walk, node);
    if ((flags & (NODE_DB | NODE_DUPS)) != 0) {
        report(walk, "page %" PRIu64 " (of the table %s) is damaged",
               walk->levels[walk->depth - 1].number, walk->tree->name);
        return false;
    }
    return (flags & NODE_BIG) == 0 || mark_overflow(walk, node, &first);
}

/* ---- trees ---- */

static void compare_counts(struct walk *walk)
{
    const struct tree *says = walk->tree;
    const struct tree *has = &walk->found;
    if (says->branches != has->branches || says->leaves != has->leaves ||
        says->overflows != has->overflows || says->entries != has->entries)
        report(walk,
               "the table %s says it has %" PRIu64 " entries on %" PRIu64
               " pages, but it has %" PRIu64 " on %" PRIu64,
               says->name, says->entries, says->branches + says->leaves + says->overflows,
               has->entries, has->branches + has->leaves + has->overflows);
}

/* @return false: the tree is damaged */
static bool walk_nodes(struct walk *walk)
{
    while (walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        if (level->at == level->count) {
            walk->depth--;
            continue;
        }
        unsigned i = level->at++;
        const uint8_t *node = node_at(level, i);
        bool leaf = walk->depth == walk->tree->depth;
        if (!leaf && i > 0 && !take_separator(walk, node))
            return false;
        if (leaf ? !take_leaf_node(walk, node) : !push(walk, node_child(node)))
            return false;
        if (!pace(walk))
            return true;
    }
    return true;
}

static void walk_tree(struct walk *walk, const struct tree *tree)
{
    walk->tree = tree;
    walk->found = (struct tree){0};
    walk->has_last = walk->has_bound = false;
    walk->depth = 0;
    bool fine = true;
    if (tree->root != NO_PAGE)
        fine = push(walk, tree->root) && walk_nodes(walk);
    if (walk->error != 0)
        return;
    if (!fine && tree->is_free)
        walk->pages->unwritable = true;
    else if (!fine)
        walk->pages->unreadable = true;
    else
        compare_counts(walk);
}

/* ---- the whole ---- */

static void count_lost(struct walk *walk)
{
    uint64_t lost = 0;
    uint64_t first = 0;
    for (uint64_t i = 2; i <= walk->last_page; i++) {
        if ((walk->seen[i / 8] & 1U << i % 8) != 0)
            continue;
        first = lost == 0 ? i : first;
        lost++;
    }
    if (lost > 0)
        report(walk,
               "%" PRIu64 " pages (the first is %" PRIu64 ") are neither in use nor free: their "
               "space is lost, no mail is",
               lost, first);
}

static void walk_all(struct walk *walk, const struct meta *meta)
{
    walk_tree(walk, &meta->main);
    for (size_t i = 0; i < walk->inner_count && walk->error == 0; i++) {
        struct tree tree = walk->inner[i];
        walk_tree(walk, &tree);
    }
    /* Last, so that a page that is both in use and free shows as damage of this list. */
    if (walk->error == 0)
        walk_tree(walk, &meta->free);
    if (walk->error == 0 && !walk->pages->unreadable && !walk->pages->unwritable)
        count_lost(walk);
}

static int begin(struct walk *walk, struct meta *meta)
{
    struct stat st;
    if (fstat(walk->fd, &st) != 0)
        return errno;
    walk->file_bytes = (uint64_t)st.st_size;
    int rc = choose_meta(walk, meta);
    if (rc != 0 || walk->pages->unreadable)
        return rc;
    walk->page_bytes = meta->page_bytes;
    walk->last_page = meta->last_page;
    walk->pages->page_bytes = meta->page_bytes;
    walk->pages->txnid = meta->txnid;
    walk->pages->used = 2;
    if (meta->last_page < 1 || meta->last_page > (walk->file_bytes + SLACK) / walk->page_bytes) {
        report(walk,
               "the file was cut short: it has %" PRIu64 " bytes, and %" PRIu64 " pages of %" PRIu32
               " bytes are in it",
               walk->file_bytes, meta->last_page + 1, meta->page_bytes);
        walk->pages->unreadable = true;
        return 0;
    }
    walk->pages->total = meta->last_page + 1;
    walk->seen = queue_alloc((size_t)(meta->last_page / 8 + 1));
    return 0;
}

int queue_pages_check(int fd, const struct queue_pages_options *options,
                      struct queue_pages *pages_out)
{
    struct queue_pages pages = {0};
    struct walk *walk = queue_alloc(sizeof *walk);
    struct meta meta = {0};
    walk->fd = fd;
    walk->options = options;
    walk->pages = &pages;
    int rc = begin(walk, &meta);
    if (rc == 0 && !pages.unreadable)
        walk_all(walk, &meta);
    if (rc == 0)
        rc = walk->error;
    if (rc == 0)
        *pages_out = pages;
    for (unsigned i = 0; i < DEPTH_MAX; i++)
        free(walk->levels[i].page);
    free(walk->seen);
    free(walk->inner);
    free(walk);
    return rc;
}
