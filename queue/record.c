/* queue/record.c - encoding and decoding of rows. Pure. */
#include "queue/record.h"

#include <string.h>

#define ROW_HEADER      8
#define UNIT_HELD       1U
#define UNIT_WARNED     2U
#define UNIT_BOUNCES    4U
#define HEAD_BODY_BYTES (ROW_HEADER + 8 + 4 + 8) /* where a head keeps body_bytes */

/* What a head of the first version has room for. */
#define FIRST_FLAGS ((uint32_t)(QUEUE_FLAG_8BIT | QUEUE_FLAG_BOUNCE))
#define ALL_FLAGS   (FIRST_FLAGS | QUEUE_FLAG_SMTPUTF8 | QUEUE_FLAG_REQUIRETLS)

static const char truncated[] = "the record is cut short or a length in it is too large";
static const char trailing[] = "bytes follow the end of the record";
static const char impossible[] = "a count or state in the record is impossible";

struct queue_row_key queue_row_key(uint64_t id, enum queue_row_kind kind, uint32_t number)
{
    struct queue_row_key key = {.len = 8};
    queue_be64_put(key.bytes, id);
    if (kind == QUEUE_ROW_HEAD)
        return key;
    key.bytes[8] = (uint8_t)kind;
    queue_be16_put(key.bytes + 9, (uint16_t)number);
    key.len = QUEUE_MESSAGE_KEY;
    return key;
}

bool queue_rcpt_is_open(uint8_t state)
{
    return state == QUEUE_RCPT_WAITING || state == QUEUE_RCPT_BOUNCE_PENDING;
}

/* ---- parameters ---- */

/* It will be said in a command: not a byte that ends a word or a line there. */
static bool is_word(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == 0x7f)
            return false;
    }
    return len <= max;
}

bool queue_head_params_fit(uint32_t flags, unsigned ret, const char *envid)
{
    return (flags & ~ALL_FLAGS) == 0 && ret <= QUEUE_RET_HDRS &&
           (envid == NULL || is_word(envid, QUEUE_ENVID_MAX));
}

bool queue_rcpt_params_fit(unsigned notify, const char *orcpt)
{
    const unsigned others = QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_DELAY;
    bool never = (notify & QUEUE_NOTIFY_NEVER) != 0;
    bool expanded = (notify & QUEUE_NOTIFY_EXPANDED) != 0;
    if (notify > (others | QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_EXPANDED) ||
        (never && (notify & others) != 0) ||
        (expanded && (notify == QUEUE_NOTIFY_EXPANDED || (notify & QUEUE_NOTIFY_SUCCESS) != 0)))
        return false;
    return orcpt == NULL || is_word(orcpt, QUEUE_ORCPT_MAX);
}

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static void write_optional(struct queue_bytes *out, const char *text)
{
    queue_bytes_text(out, text, text != NULL ? strlen(text) : 0);
}

/* The version that these have, and no other. */
static uint8_t version_of_rcpts(const struct queue_rcpt_row *rcpts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rcpts[i].notify != 0 || is_given(rcpts[i].orcpt))
            return QUEUE_RECORD_PARAMS;
    }
    return QUEUE_RECORD_VERSION;
}

static uint8_t version_of_head(const struct queue_head *head, const struct queue_rcpt_row *rcpts)
{
    if ((head->flags & ~FIRST_FLAGS) != 0 || head->ret != QUEUE_RET_NONE || is_given(head->envid))
        return QUEUE_RECORD_PARAMS;
    return queue_head_is_whole(head) ? version_of_rcpts(rcpts, head->recipient_count)
                                     : QUEUE_RECORD_VERSION;
}

static uint8_t newest_version(enum queue_row_kind kind)
{
    return kind == QUEUE_ROW_HEAD || kind == QUEUE_ROW_RCPTS ? QUEUE_RECORD_PARAMS
                                                             : QUEUE_RECORD_VERSION;
}

static bool is_known_version(uint8_t version, enum queue_row_kind kind)
{
    return version >= QUEUE_RECORD_VERSION && version <= newest_version(kind);
}

/* Of a row that was opened. */
static uint8_t version_of_row(const void *bytes)
{
    return *(const uint8_t *)bytes;
}

/* ---- rows ---- */

size_t queue_row_items(uint32_t total, uint32_t row)
{
    uint64_t first = (uint64_t)row * QUEUE_ROW_ITEMS;
    if (first >= total)
        return 0;
    uint64_t left = total - first;
    return left < QUEUE_ROW_ITEMS ? (size_t)left : QUEUE_ROW_ITEMS;
}

size_t queue_row_begin(struct queue_bytes *out, enum queue_row_kind kind)
{
    size_t begin = out->len;
    queue_bytes_8(out, QUEUE_RECORD_VERSION);
    queue_bytes_8(out, (uint8_t)kind);
    queue_bytes_16(out, 0);
    queue_bytes_32(out, 0);
    return begin;
}

static size_t begin_version(struct queue_bytes *out, enum queue_row_kind kind, uint8_t version)
{
    size_t begin = queue_row_begin(out, kind);
    out->p[begin] = version;
    return begin;
}

static uint32_t crc_of_key(uint8_t version, const void *key, size_t key_len)
{
    return queue_crc32c((uint32_t)version - QUEUE_RECORD_VERSION, key, key_len);
}

void queue_row_seal(struct queue_bytes *out, size_t begin, const void *key, size_t key_len)
{
    uint32_t crc = crc_of_key(out->p[begin], key, key_len);
    crc = queue_crc32c(crc, out->p + begin + ROW_HEADER, out->len - begin - ROW_HEADER);
    queue_le32_put(out->p + begin + 4, crc);
}

const char *queue_row_open(struct queue_walk *walk, enum queue_row_kind kind, const void *key,
                           size_t key_len, const void *bytes, size_t len)
{
    *walk = (struct queue_walk){.p = bytes, .left = len};
    if (len == 0)
        return "the record is empty";
    if (len < ROW_HEADER)
        return truncated;
    uint8_t version = queue_walk_8(walk);
    if (!is_known_version(version, kind))
        return "the record has a version that this program does not know";
    if (queue_walk_8(walk) != (uint8_t)kind || queue_walk_16(walk) != 0)
        return "the record is of another kind";
    uint32_t want = queue_walk_32(walk);
    uint32_t crc = crc_of_key(version, key, key_len);
    if (queue_crc32c(crc, walk->p, walk->left) != want)
        return "the checksum of the record is wrong";
    return NULL;
}

/* What every reader ends with. */
static const char *finish(const struct queue_walk *walk)
{
    if (walk->bad)
        return truncated;
    return walk->left > 0 ? trailing : NULL;
}

/* ---- items ---- */

static void write_units(struct queue_bytes *out, const struct queue_unit_row *units, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        queue_bytes_64(out, (uint64_t)units[i].due_unix_ms);
        queue_bytes_32(out, units[i].attempts);
        queue_bytes_32(out, units[i].open);
        queue_bytes_8(out, (uint8_t)((units[i].held ? UNIT_HELD : 0) |
                                     (units[i].warned ? UNIT_WARNED : 0) |
                                     (units[i].bounces ? UNIT_BOUNCES : 0)));
        queue_bytes_text(out, units[i].domain, strlen(units[i].domain));
    }
}

static void write_rcpts(struct queue_bytes *out, const struct queue_rcpt_row *rcpts, size_t count,
                        uint8_t version)
{
    for (size_t i = 0; i < count; i++) {
        queue_bytes_16(out, rcpts[i].unit);
        queue_bytes_8(out, rcpts[i].state);
        queue_bytes_32(out, rcpts[i].attempts);
        queue_bytes_text(out, rcpts[i].address, strlen(rcpts[i].address));
        if (version == QUEUE_RECORD_PARAMS) {
            queue_bytes_8(out, rcpts[i].notify);
            write_optional(out, rcpts[i].orcpt);
        }
    }
}

static const char *read_units(struct queue_walk *walk, const struct queue_head *head,
                              struct queue_unit_row *units, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct queue_unit_row *unit = &units[i];
        uint64_t due = queue_walk_64(walk);
        unit->attempts = queue_walk_32(walk);
        unit->open = queue_walk_32(walk);
        uint8_t flags = queue_walk_8(walk);
        unit->domain = queue_walk_text(walk, QUEUE_DOMAIN_MAX);
        if (walk->bad)
            return truncated;
        if (due > INT64_MAX || unit->open > head->open ||
            (flags & ~(UNIT_HELD | UNIT_WARNED | UNIT_BOUNCES)) != 0 || unit->domain[0] == '\0')
            return impossible;
        unit->due_unix_ms = (int64_t)due;
        unit->held = (flags & UNIT_HELD) != 0;
        unit->warned = (flags & UNIT_WARNED) != 0;
        unit->bounces = (flags & UNIT_BOUNCES) != 0;
    }
    return NULL;
}

static const char *read_rcpts(struct queue_walk *walk, const struct queue_head *head,
                              struct queue_rcpt_row *rcpts, size_t count, uint8_t version)
{
    for (size_t i = 0; i < count; i++) {
        struct queue_rcpt_row *rcpt = &rcpts[i];
        rcpt->notify = 0;
        rcpt->orcpt = "";
        rcpt->unit = queue_walk_16(walk);
        rcpt->state = queue_walk_8(walk);
        rcpt->attempts = queue_walk_32(walk);
        rcpt->address = queue_walk_text(walk, QUEUE_ADDRESS_MAX);
        if (version == QUEUE_RECORD_PARAMS) {
            rcpt->notify = queue_walk_8(walk);
            rcpt->orcpt = queue_walk_text(walk, QUEUE_ORCPT_MAX);
        }
        if (walk->bad)
            return truncated;
        if (rcpt->unit >= head->unit_count || rcpt->state > QUEUE_RCPT_BOUNCE_PENDING ||
            rcpt->address[0] == '\0' || !queue_rcpt_params_fit(rcpt->notify, rcpt->orcpt))
            return impossible;
    }
    return NULL;
}

/* ---- heads ---- */

void queue_head_write(struct queue_bytes *out, uint64_t id, const struct queue_head *head,
                      const struct queue_unit_row *units, const struct queue_rcpt_row *rcpts)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_HEAD, 0);
    uint8_t version = version_of_head(head, rcpts);
    size_t begin = begin_version(out, QUEUE_ROW_HEAD, version);
    queue_bytes_64(out, (uint64_t)head->accepted_unix_ms);
    queue_bytes_32(out, head->flags);
    queue_bytes_64(out, head->header_bytes);
    queue_bytes_64(out, head->body_bytes);
    queue_bytes_add(out, head->body_hash, sizeof head->body_hash);
    queue_bytes_32(out, head->recipient_count);
    queue_bytes_32(out, head->unit_count);
    queue_bytes_32(out, head->open);
    queue_bytes_32(out, head->fresh);
    queue_bytes_text(out, head->sender, strlen(head->sender));
    queue_bytes_text(out, head->sign_domain, strlen(head->sign_domain));
    queue_bytes_text(out, head->prefix, strlen(head->prefix));
    if (version == QUEUE_RECORD_PARAMS) {
        queue_bytes_8(out, head->ret);
        write_optional(out, head->envid);
    }
    if (queue_head_is_whole(head)) {
        write_units(out, units, head->unit_count);
        write_rcpts(out, rcpts, head->recipient_count, version);
    }
    queue_row_seal(out, begin, key.bytes, key.len);
}

/* The sums that outcomes count down must agree with the states, or they would never reach zero. */
static const char *check_sums(const struct queue_head *head, const struct queue_unit_row *units,
                              const struct queue_rcpt_row *rcpts)
{
    uint32_t open[QUEUE_ROW_ITEMS] = {0};
    uint32_t total = 0;
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < head->recipient_count; i++) {
        if (!queue_rcpt_is_open(rcpts[i].state))
            continue;
        open[rcpts[i].unit]++;
        total++;
    }
    for (uint32_t i = 0; i < head->unit_count; i++) {
        if (open[i] != units[i].open)
            return impossible;
        if (units[i].open > 0 && units[i].due_unix_ms == 0)
            fresh++;
    }
    return total == head->open && fresh == head->fresh ? NULL : impossible;
}

static const char *read_head(struct queue_walk *walk, struct queue_head *head, uint8_t version)
{
    uint64_t accepted = queue_walk_64(walk);
    head->accepted_unix_ms = (int64_t)accepted;
    head->flags = queue_walk_32(walk);
    head->header_bytes = queue_walk_64(walk);
    head->body_bytes = queue_walk_64(walk);
    const uint8_t *hash = queue_walk_raw(walk, sizeof head->body_hash);
    if (hash != NULL)
        memcpy(head->body_hash, hash, sizeof head->body_hash);
    head->recipient_count = queue_walk_32(walk);
    head->unit_count = queue_walk_32(walk);
    head->open = queue_walk_32(walk);
    head->fresh = queue_walk_32(walk);
    head->sender = queue_walk_text(walk, QUEUE_ADDRESS_MAX);
    head->sign_domain = queue_walk_text(walk, QUEUE_DOMAIN_MAX);
    head->prefix = queue_walk_text(walk, QUEUE_PREFIX_MAX);
    head->ret = QUEUE_RET_NONE;
    head->envid = "";
    if (version == QUEUE_RECORD_PARAMS) {
        head->ret = queue_walk_8(walk);
        head->envid = queue_walk_text(walk, QUEUE_ENVID_MAX);
    }
    if (walk->bad)
        return truncated;
    if (head->recipient_count == 0 || head->recipient_count > QUEUE_RECIPIENTS_MAX ||
        head->unit_count == 0 || head->unit_count > head->recipient_count ||
        head->open > head->recipient_count || head->fresh > head->unit_count ||
        head->header_bytes > head->body_bytes || head->body_bytes > INT64_MAX ||
        accepted > INT64_MAX || !queue_head_params_fit(head->flags, head->ret, head->envid))
        return impossible;
    return NULL;
}

/* What follows a head whose items are in the same row. */
static const char *read_items(struct queue_walk *walk, const struct queue_head *head,
                              struct queue_unit_row *units, struct queue_rcpt_row *rcpts,
                              uint8_t version)
{
    const char *reason = read_units(walk, head, units, head->unit_count);
    if (reason == NULL)
        reason = read_rcpts(walk, head, rcpts, head->recipient_count, version);
    return reason != NULL ? reason : check_sums(head, units, rcpts);
}

const char *queue_head_read(struct queue_head *head, uint64_t id, const void *bytes, size_t len,
                            struct queue_unit_row *units, struct queue_rcpt_row *rcpts)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_HEAD, 0);
    struct queue_walk walk;
    const char *reason = queue_row_open(&walk, QUEUE_ROW_HEAD, key.bytes, key.len, bytes, len);
    if (reason != NULL)
        return reason;
    uint8_t version = version_of_row(bytes);
    reason = read_head(&walk, head, version);
    if (reason == NULL && queue_head_is_whole(head))
        reason = read_items(&walk, head, units, rcpts, version);
    if (reason == NULL)
        reason = finish(&walk);
    if (reason != NULL)
        return reason;
    return version == version_of_head(head, rcpts) ? NULL : impossible;
}

bool queue_head_peek_body(const void *bytes, size_t len, uint64_t *body_bytes_out)
{
    struct queue_walk walk = {.p = bytes, .left = len};
    if (len < HEAD_BODY_BYTES + 8 || !is_known_version(queue_walk_8(&walk), QUEUE_ROW_HEAD))
        return false;
    (void)queue_walk_raw(&walk, HEAD_BODY_BYTES - 1);
    *body_bytes_out = queue_walk_64(&walk);
    return *body_bytes_out <= INT64_MAX;
}

/* ---- further rows ---- */

void queue_units_write(struct queue_bytes *out, uint64_t id, uint32_t row,
                       const struct queue_unit_row *units, size_t count)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_UNITS, row);
    size_t begin = queue_row_begin(out, QUEUE_ROW_UNITS);
    write_units(out, units, count);
    queue_row_seal(out, begin, key.bytes, key.len);
}

void queue_rcpts_write(struct queue_bytes *out, uint64_t id, uint32_t row,
                       const struct queue_rcpt_row *rcpts, size_t count)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_RCPTS, row);
    uint8_t version = version_of_rcpts(rcpts, count);
    size_t begin = begin_version(out, QUEUE_ROW_RCPTS, version);
    write_rcpts(out, rcpts, count, version);
    queue_row_seal(out, begin, key.bytes, key.len);
}

const char *queue_units_read(const struct queue_head *head, uint64_t id, uint32_t row,
                             const void *bytes, size_t len, struct queue_unit_row *units)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_UNITS, row);
    struct queue_walk walk;
    const char *reason = queue_row_open(&walk, QUEUE_ROW_UNITS, key.bytes, key.len, bytes, len);
    if (reason == NULL)
        reason = read_units(&walk, head, units, queue_row_items(head->unit_count, row));
    return reason != NULL ? reason : finish(&walk);
}

const char *queue_rcpts_read(const struct queue_head *head, uint64_t id, uint32_t row,
                             const void *bytes, size_t len, struct queue_rcpt_row *rcpts)
{
    struct queue_row_key key = queue_row_key(id, QUEUE_ROW_RCPTS, row);
    struct queue_walk walk;
    size_t count = queue_row_items(head->recipient_count, row);
    const char *reason = queue_row_open(&walk, QUEUE_ROW_RCPTS, key.bytes, key.len, bytes, len);
    if (reason != NULL)
        return reason;
    uint8_t version = version_of_row(bytes);
    reason = read_rcpts(&walk, head, rcpts, count, version);
    if (reason == NULL)
        reason = finish(&walk);
    if (reason != NULL)
        return reason;
    return version == version_of_rcpts(rcpts, count) ? NULL : impossible;
}

/* ---- attempts ---- */

void queue_attempt_key(uint8_t key[QUEUE_ATTEMPT_KEY], uint64_t id, uint32_t recipient, uint32_t n)
{
    queue_be64_put(key, id);
    queue_be64_put(key + 8, (uint64_t)recipient << 32 | n);
}

static void write_cut(struct queue_bytes *out, const char *text)
{
    queue_bytes_text(out, text, strnlen(text, QUEUE_TEXT_MAX));
}

void queue_attempt_write(struct queue_bytes *out, const struct queue_attempt *attempt)
{
    size_t begin = queue_row_begin(out, QUEUE_ROW_ATTEMPT);
    queue_bytes_64(out, (uint64_t)attempt->time_unix_ms);
    queue_bytes_16(out, attempt->code);
    write_cut(out, attempt->host);
    write_cut(out, attempt->address);
    write_cut(out, attempt->status);
    write_cut(out, attempt->text);
    write_cut(out, attempt->tls);
    queue_row_seal(out, begin, "", 0);
}

const char *queue_attempt_read(struct queue_attempt *attempt, const void *bytes, size_t len)
{
    struct queue_walk walk;
    const char *reason = queue_row_open(&walk, QUEUE_ROW_ATTEMPT, "", 0, bytes, len);
    if (reason != NULL)
        return reason;
    attempt->time_unix_ms = (int64_t)queue_walk_64(&walk);
    attempt->code = queue_walk_16(&walk);
    attempt->host = queue_walk_text(&walk, QUEUE_TEXT_MAX);
    attempt->address = queue_walk_text(&walk, QUEUE_TEXT_MAX);
    attempt->status = queue_walk_text(&walk, QUEUE_TEXT_MAX);
    attempt->text = queue_walk_text(&walk, QUEUE_TEXT_MAX);
    attempt->tls = queue_walk_text(&walk, QUEUE_TEXT_MAX);
    return finish(&walk);
}
