/* tests/crash/cut_disk.c - replays a record of calls onto a disk that may lose power. See
 * cut_disk.h for the model. */
#include "tests/crash/cut_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define PAGE   4096

const char *const cut_choice_names[CUT_CHOICES] = {
    [CUT_NOTHING] = "nothing",         [CUT_ALL] = "all",
    [CUT_ONLY_LAST] = "only the last", [CUT_ALL_BUT_FIRST] = "all but the first",
    [CUT_ONLY_META] = "only meta",     [CUT_ALL_BUT_META] = "all but meta",
    [CUT_ONLY_SIZE] = "only the size", [CUT_IN_ORDER] = "in order",
    [CUT_WHOLE_WRITES] = "whole ones", [CUT_PAGES] = "pages",
    [CUT_SECTORS] = "sectors",
};

struct change { /* a call that changes the file, not yet sure */
    struct cut_record record;
    uint8_t *bytes; /* of a write; in the log's private mapping */
    bool ended;
};

struct cut_disk {
    uint8_t *log;
    size_t log_len;
    size_t at;
    size_t records;
    enum cut_mutant mutant;
    uint64_t fate;   /* decides what of a failed call is on disk */
    uint64_t random; /* decides what survives a cut */
    uint8_t *base;   /* what is surely there */
    size_t base_len;
    uint8_t *image; /* scratch of a cut */
    size_t room;
    struct change *changes; /* oldest first */
    size_t change_count;
    size_t change_room;
    uint64_t sync_call; /* the sync under way, 0: none */
    size_t sync_covers; /* so many of the changes, from the oldest, ended before it began or are
                           marked */
    bool *covered;
};

static _Noreturn void senseless(const char *what)
{
    (void)fprintf(stderr, "cut_disk: %s\n", what);
    exit(2);
}

uint32_t cut_roll(uint64_t *random, uint32_t below)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33) % below;
}

/* ---- the log ---- */

static size_t payload(const struct cut_record *record)
{
    return record->kind == CUT_WRITE || record->kind == CUT_MARK ? (size_t)record->len : 0;
}

static bool read_record(const struct cut_disk *disk, size_t at, struct cut_record *out)
{
    if (at == disk->log_len)
        return false;
    if (disk->log_len - at < sizeof *out)
        senseless("the log ends within a record");
    memcpy(out, disk->log + at, sizeof *out);
    if (payload(out) > disk->log_len - at - sizeof *out)
        senseless("the log ends within a record's bytes");
    return true;
}

static void measure(struct cut_disk *disk)
{
    struct cut_record record;
    for (size_t at = 0; read_record(disk, at, &record); at += sizeof record + payload(&record)) {
        size_t end = 0;
        if (record.kind == CUT_WRITE)
            end = (size_t)(record.offset + record.len);
        else if (record.kind == CUT_SIZE || record.kind == CUT_GROW)
            end = (size_t)record.offset;
        disk->room = end > disk->room ? end : disk->room;
        disk->records++;
    }
    disk->room = (disk->room + PAGE - 1) / PAGE * PAGE + PAGE;
}

/* Shared: a fork for each crash point then need not copy it page by page. */
static uint8_t *new_room(const struct cut_disk *disk)
{
    uint8_t *room =
        mmap(NULL, disk->room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        senseless("no memory for the disk");
    return room;
}

struct cut_disk *cut_disk_new(const char *log, const void *image, size_t len,
                              enum cut_mutant mutant, uint64_t seed)
{
    struct stat st;
    struct cut_disk *disk = calloc(1, sizeof *disk);
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    if (disk == NULL || fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
        senseless("no log");
    disk->log_len = (size_t)st.st_size;
    disk->log = mmap(NULL, disk->log_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (disk->log == MAP_FAILED)
        senseless("the log cannot be mapped");
    disk->mutant = mutant;
    disk->fate = seed;
    disk->room = len;
    measure(disk);
    disk->base = new_room(disk);
    disk->image = new_room(disk);
    if (len > 0)
        memcpy(disk->base, image, len);
    disk->base_len = len;
    return disk;
}

void cut_disk_free(struct cut_disk **diskp)
{
    struct cut_disk *disk = *diskp;
    if (disk == NULL)
        return;
    (void)munmap(disk->log, disk->log_len);
    (void)munmap(disk->base, disk->room);
    (void)munmap(disk->image, disk->room);
    free(disk->changes);
    free(disk->covered);
    free(disk);
    *diskp = NULL;
}

size_t cut_disk_records(const struct cut_disk *disk)
{
    return disk->records;
}

size_t cut_disk_uncertain(const struct cut_disk *disk)
{
    return disk->change_count;
}

/* ---- what becomes sure ---- */

static size_t range_end(const struct change *change)
{
    return (size_t)(change->record.offset + change->record.len);
}

/* Bytes from .. to of the change (offsets in the file) onto the file's content. */
static void apply_range(const struct change *change, uint8_t *file, size_t from, size_t to)
{
    size_t begin = (size_t)change->record.offset;
    size_t end = range_end(change);
    from = from > begin ? from : begin;
    to = to < end ? to : end;
    if (from >= to)
        return;
    if (change->record.kind == CUT_WRITE)
        memcpy(file + from, change->bytes + (from - begin), to - from);
    else
        memset(file + from, 0, to - from);
}

static bool is_range(const struct change *change)
{
    return change->record.kind == CUT_WRITE || change->record.kind == CUT_PUNCH;
}

static void set_length(const struct change *change, size_t *len, uint8_t *file)
{
    size_t end =
        change->record.kind == CUT_WRITE ? range_end(change) : (size_t)change->record.offset;
    if (change->record.kind == CUT_PUNCH)
        return;
    if (change->record.kind == CUT_SIZE && end < *len)
        memset(file + end, 0, *len - end);
    if (change->record.kind == CUT_SIZE || end > *len)
        *len = end;
}

/* Older uncertain writes must not come over it again. */
static void overrule(struct cut_disk *disk, size_t before, size_t from, size_t to)
{
    for (size_t i = 0; i < before; i++) {
        struct change *older = &disk->changes[i];
        size_t begin = (size_t)older->record.offset;
        size_t end = range_end(older);
        size_t low = from > begin ? from : begin;
        size_t high = to < end ? to : end;
        if (!is_range(older) || low >= high)
            continue;
        if (older->record.kind == CUT_PUNCH)
            senseless("a write over a hole that is being punched");
        memcpy(older->bytes + (low - begin), disk->base + low, high - low);
    }
}

static void settle(struct cut_disk *disk, size_t index)
{
    struct change *change = &disk->changes[index];
    if (is_range(change)) {
        apply_range(change, disk->base, 0, SIZE_MAX);
        overrule(disk, index, (size_t)change->record.offset, range_end(change));
    }
    set_length(change, &disk->base_len, disk->base);
}

/* A synced write takes the older bytes of its page along. */
static void settle_page(struct cut_disk *disk, size_t index)
{
    const struct change *change = &disk->changes[index];
    size_t from = (size_t)change->record.offset / PAGE * PAGE;
    size_t to = (range_end(change) + PAGE - 1) / PAGE * PAGE;
    for (size_t i = 0; i < index; i++) {
        if (disk->changes[i].record.kind == CUT_WRITE)
            apply_range(&disk->changes[i], disk->base, from, to);
    }
    settle(disk, index);
}

/* What a failed sync should have written: each page is there, or lost for good. */
static void settle_some(struct cut_disk *disk, size_t index, size_t unit)
{
    const struct change *change = &disk->changes[index];
    size_t end = range_end(change);
    if (!is_range(change) || cut_roll(&disk->fate, 3) == 0)
        return;
    for (size_t at = (size_t)change->record.offset / unit * unit; at < end; at += unit) {
        if (cut_roll(&disk->fate, 2) == 0)
            continue;
        size_t low = at > change->record.offset ? at : (size_t)change->record.offset;
        size_t high = at + unit < end ? at + unit : end;
        apply_range(change, disk->base, low, high);
        overrule(disk, index, low, high);
        if (change->record.kind == CUT_WRITE && high > disk->base_len)
            disk->base_len = high;
    }
}

static void remove_change(struct cut_disk *disk, size_t index)
{
    disk->change_count--;
    memmove(&disk->changes[index], &disk->changes[index + 1],
            (disk->change_count - index) * sizeof *disk->changes);
    if (index < disk->sync_covers) {
        disk->sync_covers--;
        memmove(&disk->covered[index], &disk->covered[index + 1], disk->sync_covers - index);
    }
}

/* ---- records ---- */

static void begin_change(struct cut_disk *disk, const struct cut_record *record, uint8_t *bytes)
{
    if (disk->change_count == disk->change_room) {
        disk->change_room = disk->change_room > 0 ? disk->change_room * 2 : 256;
        disk->changes = realloc(disk->changes, disk->change_room * sizeof *disk->changes);
        disk->covered = realloc(disk->covered, disk->change_room);
        if (disk->changes == NULL || disk->covered == NULL)
            senseless("no memory");
    }
    disk->changes[disk->change_count++] = (struct change){*record, bytes, false};
}

static void begin_sync(struct cut_disk *disk, const struct cut_record *record)
{
    if (disk->sync_call != 0)
        senseless("two syncs at a time");
    disk->sync_call = record->call;
    disk->sync_covers = disk->change_count;
    for (size_t i = 0; i < disk->change_count; i++)
        disk->covered[i] = disk->changes[i].ended;
}

static void end_sync(struct cut_disk *disk, const struct cut_record *record)
{
    bool sure = record->result == 0;
    disk->sync_call = 0;
    if (disk->mutant == CUT_NO_SYNC)
        return;
    for (size_t i = 0; i < disk->sync_covers;) {
        if (!disk->covered[i]) {
            i++;
            continue;
        }
        if (sure)
            settle(disk, i);
        else
            settle_some(disk, i, PAGE);
        remove_change(disk, i);
    }
    disk->sync_covers = 0;
}

static void end_change(struct cut_disk *disk, size_t index, int64_t result)
{
    struct change *change = &disk->changes[index];
    bool synced = (change->record.flags & CUT_DSYNC) != 0 && disk->mutant != CUT_NO_DSYNC;
    change->ended = true;
    if (result < 0) {
        if (synced) /* the cache has it, clean; the disk perhaps */
            settle_some(disk, index, SECTOR);
        remove_change(disk, index);
        return;
    }
    if (change->record.kind == CUT_WRITE)
        change->record.len = (uint64_t)result; /* a short write */
    if (synced) {
        settle_page(disk, index);
        remove_change(disk, index);
    }
}

static void end_call(struct cut_disk *disk, const struct cut_record *record)
{
    if (record->call == disk->sync_call) {
        end_sync(disk, record);
        return;
    }
    for (size_t i = disk->change_count; i-- > 0;) {
        if (disk->changes[i].record.call == record->call) {
            end_change(disk, i, record->result);
            return;
        }
    }
}

bool cut_disk_next(struct cut_disk *disk, struct cut_record *record_out, const void **bytes_out)
{
    struct cut_record record;
    if (!read_record(disk, disk->at, &record))
        return false;
    uint8_t *bytes = disk->log + disk->at + sizeof record;
    disk->at += sizeof record + payload(&record);
    switch ((enum cut_kind)record.kind) {
    case CUT_WRITE:
    case CUT_PUNCH:
    case CUT_SIZE:
    case CUT_GROW:
        begin_change(disk, &record, bytes);
        break;
    case CUT_SYNC:
        begin_sync(disk, &record);
        break;
    case CUT_END:
        end_call(disk, &record);
        break;
    case CUT_FOLDER_SYNC:
    case CUT_NAME:
    case CUT_MARK:
        break;
    default:
        senseless("a record of an unknown kind");
    }
    *record_out = record;
    *bytes_out = bytes;
    return true;
}

/* ---- the cut ---- */

static void put_bytes(int fd, const uint8_t *bytes, size_t len, size_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)offset);
        if (n <= 0)
            senseless("the image cannot be written");
        bytes += n;
        offset += (size_t)n;
        len -= (size_t)n;
    }
}

/* Does the part at `at` of a change survive? */
static bool survives(struct cut_disk *disk, enum cut_choice choice, size_t index, size_t torn)
{
    bool meta = (disk->changes[index].record.flags & CUT_DSYNC) != 0;
    switch (choice) {
    case CUT_NOTHING:
    case CUT_ONLY_SIZE:
        return false;
    case CUT_ALL:
        return true;
    case CUT_ONLY_LAST:
        return index + 1 == disk->change_count;
    case CUT_ALL_BUT_FIRST:
        return index > 0;
    case CUT_ONLY_META:
        return meta;
    case CUT_ALL_BUT_META:
        return !meta;
    case CUT_IN_ORDER:
        return index < torn || (index == torn && cut_roll(&disk->random, 2) == 0);
    case CUT_WHOLE_WRITES:
    case CUT_PAGES:
    case CUT_SECTORS:
    case CUT_CHOICES:
        return cut_roll(&disk->random, 2) == 0;
    }
    return false;
}

static void crash_change(struct cut_disk *disk, enum cut_choice choice, size_t index, size_t torn,
                         uint8_t *file, size_t *len)
{
    const struct change *change = &disk->changes[index];
    size_t unit = choice == CUT_PAGES ? PAGE : SECTOR;
    size_t end = range_end(change);
    bool in_parts =
        choice == CUT_PAGES || choice == CUT_SECTORS || (choice == CUT_IN_ORDER && index == torn);
    if (!is_range(change) || !in_parts) {
        if (!survives(disk, choice, index, torn))
            return;
        if (is_range(change))
            apply_range(change, file, 0, SIZE_MAX);
        set_length(change, len, file);
        return;
    }
    for (size_t at = (size_t)change->record.offset / unit * unit; at < end; at += unit) {
        if (!survives(disk, choice, index, torn))
            continue;
        apply_range(change, file, at, at + unit);
        size_t high = at + unit < end ? at + unit : end;
        if (change->record.kind == CUT_WRITE && high > *len)
            *len = high;
    }
}

static void write_image(int fd, const uint8_t *file, size_t len)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || ftruncate(fd, (off_t)len) != 0)
        senseless("the image cannot be resized");
    size_t old = (size_t)st.st_size < len ? (size_t)st.st_size : len;
    const uint8_t *there =
        old > 0 ? mmap(NULL, old, PROT_READ, MAP_SHARED, fd, 0) : (const uint8_t *)"";
    if (there == MAP_FAILED)
        senseless("the image cannot be mapped");
    for (size_t at = 0; at < len; at += PAGE) {
        size_t part = len - at < PAGE ? len - at : PAGE;
        if (at + part > old || memcmp(there + at, file + at, part) != 0)
            put_bytes(fd, file + at, part, at);
    }
    if (old > 0)
        (void)munmap((void *)there, old);
}

void cut_disk_crash(struct cut_disk *disk, enum cut_choice choice, uint64_t seed, int fd)
{
    size_t len = disk->base_len;
    size_t torn = 0;
    disk->random = seed;
    if (disk->change_count > 0)
        torn = cut_roll(&disk->random, (uint32_t)disk->change_count);
    memcpy(disk->image, disk->base, len);
    memset(disk->image + len, 0, disk->room - len);
    for (size_t i = 0; i < disk->change_count; i++) {
        const struct change *change = &disk->changes[i];
        crash_change(disk, choice, i, torn, disk->image, &len);
        if (choice == CUT_ONLY_SIZE && change->record.kind == CUT_WRITE && range_end(change) > len)
            len = range_end(change);
    }
    write_image(fd, disk->image, len);
}

bool cut_disk_is_whole(struct cut_disk *disk, const char *path)
{
    bool same = false;
    struct stat st;
    for (size_t i = 0; i < disk->change_count; i++) {
        if (!disk->changes[i].ended) /* stopped in the middle of a call */
            return true;
        settle(disk, i);
    }
    disk->change_count = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        senseless("the real file cannot be read");
    const uint8_t *there = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_SHARED, fd, 0);
    if (there != MAP_FAILED) {
        same =
            (size_t)st.st_size == disk->base_len && memcmp(there, disk->base, disk->base_len) == 0;
        (void)munmap((void *)there, (size_t)st.st_size + 1);
    }
    (void)close(fd);
    return same;
}
