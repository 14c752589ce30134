/* mta/auth/users.c - reading the users file, and who may send as whom. See users.h. */
#include "mta/auth/users.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/auth/base64.h"

enum {
    PATTERN_MAX_BYTES = 320,
    COUNT_MIN = 4096, /* RFC 7677 section 4 */
    COUNT_MAX = 10 * 1000 * 1000,
};

struct record {
    struct auth_user user; /* first: the public face */
    atomic_uint references;
    size_t line;
    char text[]; /* what the strings of `user` point into */
};

struct auth_users {
    atomic_uint references;
    struct record **records; /* by name */
    size_t count, capacity;
};

/* ---- one user ---- */

static struct record *record_of(const struct auth_user *user)
{
    return (struct record *)(uintptr_t)user; /* its first member */
}

struct auth_user *auth_user_ref(const struct auth_user *user)
{
    struct record *record = record_of(user);
    atomic_fetch_add_explicit(&record->references, 1, memory_order_relaxed);
    return &record->user;
}

void auth_user_unref(struct auth_user **userp)
{
    struct auth_user *user = *userp;
    *userp = NULL;
    if (user == NULL)
        return;
    struct record *record = record_of(user);
    if (atomic_fetch_sub_explicit(&record->references, 1, memory_order_acq_rel) == 1)
        free(record);
}

static bool matches_sender(struct str pattern, struct str address)
{
    if (pattern.p[0] != '@')
        return str_equal_nocase(pattern, address);
    /* The last @ begins the domain: a quoted local part may hold others, a domain none. */
    const char *at = memrchr(address.p, '@', address.len);
    return at != NULL && str_equal_nocase(pattern, str_skip(address, (size_t)(at - address.p)));
}

/* Takes the next word off the front. @return false: none is left */
static bool next_word(struct str *text, struct str *word_out)
{
    const char *end = text->len > 0 ? memchr(text->p, ' ', text->len) : NULL;
    *word_out = (struct str){text->p, end != NULL ? (size_t)(end - text->p) : text->len};
    *text = str_skip(*text, word_out->len + 1);
    return word_out->len > 0;
}

bool auth_user_may_send(const struct auth_user *user, struct str address)
{
    struct str patterns = str_from(user->senders), pattern;

    if (user->senders == NULL || address.len == 0)
        return true;
    while (next_word(&patterns, &pattern)) {
        if (matches_sender(pattern, address))
            return true;
    }
    return false;
}

/* ---- what a field may be ---- */

static bool is_graph(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] <= ' ' || text.p[i] > '~')
            return false;
    }
    return true;
}

const char *auth_name_fault(struct str name)
{
    if (name.len == 0)
        return "the name is empty";
    if (name.len > AUTH_NAME_MAX_BYTES)
        return "the name is longer than 255 octets";
    if (!is_graph(name))
        return "a name has only printable ASCII characters, and no blanks";
    return name.p[0] == '#' ? "a name does not begin with #" : NULL;
}

const char *auth_sender_fault(struct str pattern)
{
    static const char expected[] = "an allowed sender is an address, @domain, or *";
    const char *at = pattern.len > 0 ? memrchr(pattern.p, '@', pattern.len) : NULL;

    if (str_equal(pattern, STR("*")))
        return NULL;
    /* Non-ASCII octets: an address of RFC 6531. */
    for (size_t i = 0; i < pattern.len; i++) {
        unsigned char c = (unsigned char)pattern.p[i];
        if (c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == ',')
            return expected;
    }
    bool has_domain = at != NULL && at + 1 < pattern.p + pattern.len;
    if (pattern.len > 0 && pattern.p[0] == '@' && at != pattern.p)
        return expected; /* @domain holds one */
    return has_domain && pattern.len <= PATTERN_MAX_BYTES ? NULL : expected;
}

/* crypt(5): $y$ params $ salt $ hash. Only costs that a login can bear: the memory of one check is
 * 2^(N+7+r) octets and its time grows with it, whatever a file says. */
static const char *hash_fault(struct str hash)
{
    char setting[CRYPT_OUTPUT_SIZE];

    if (!is_graph(hash) || hash.len < 16 || hash.len >= sizeof setting ||
        memcmp(hash.p, "$y$", 3) != 0)
        return "the second field is no yescrypt hash ($y$...)";
    /* Flavour j, N from 5 to B, r 5 or T (8 or 32): from 1 MiB to 64 MiB. */
    struct str params = {hash.p + 3, 4};
    if (params.p[0] != 'j' || strchr("56789AB", params.p[1]) == NULL ||
        strchr("5T", params.p[2]) == NULL || params.p[3] != '$')
        return "the yescrypt hash has unusual costs: $y$j9T$ is common, up to $y$jBT$";
    memcpy(setting, hash.p, hash.len);
    setting[hash.len] = '\0';
    /* 43 characters are a hash of 256 bits. */
    const char *last = strrchr(setting, '$');
    if (last < setting + 7 || strlen(last + 1) != 43 || crypt_checksalt(setting) != CRYPT_SALT_OK)
        return "the yescrypt hash is not complete";
    return NULL;
}

/* Takes what stands before `mark` off the front. */
static bool cut(struct str *text, char mark, struct str *part_out)
{
    const char *end = text->len > 0 ? memchr(text->p, mark, text->len) : NULL;
    if (end == NULL)
        return false;
    *part_out = (struct str){text->p, (size_t)(end - text->p)};
    *text = str_skip(*text, part_out->len + 1);
    return true;
}

static bool read_key(struct str text, uint8_t key_out[AUTH_KEY_BYTES])
{
    uint8_t bytes[AUTH_KEY_BYTES + 3];
    size_t len;

    if (BASE64_DECODED_MAX(text.len) > sizeof bytes || !base64_decode(text, bytes, &len) ||
        len != AUTH_KEY_BYTES)
        return false;
    memcpy(key_out, bytes, len);
    return true;
}

/* RFC 5803 in the form that PostgreSQL uses too. */
static bool read_scram(struct str text, struct auth_scram *scram_out)
{
    struct str kind, count, salt, stored_key;
    uint8_t bytes[AUTH_SALT_MAX_BYTES + 3];
    uint64_t number;

    if (!cut(&text, '$', &kind) || !str_equal(kind, STR("SCRAM-SHA-256")) ||
        !cut(&text, ':', &count) || !cut(&text, '$', &salt) || !cut(&text, ':', &stored_key))
        return false;
    if (!str_parse_u64(count, COUNT_MAX, &number) || number < COUNT_MIN)
        return false;
    if (BASE64_DECODED_MAX(salt.len) > sizeof bytes ||
        !base64_decode(salt, bytes, &scram_out->salt_len) || scram_out->salt_len == 0 ||
        scram_out->salt_len > AUTH_SALT_MAX_BYTES)
        return false;
    memcpy(scram_out->salt, bytes, scram_out->salt_len);
    scram_out->count = (uint32_t)number;
    return read_key(stored_key, scram_out->stored_key) && read_key(text, scram_out->server_key);
}

static const char *senders_fault(struct str senders)
{
    struct str pattern;

    if (senders.len == 0 || senders.p[senders.len - 1] == ' ')
        return "the fourth field holds allowed senders with one blank between each; leave it out "
               "to "
               "allow any";
    while (senders.len > 0) {
        (void)next_word(&senders, &pattern);
        const char *fault = auth_sender_fault(pattern);
        if (fault != NULL)
            return fault;
    }
    return NULL;
}

/* One "*" among the patterns, and the others say nothing. */
static bool allows_any(struct str senders)
{
    struct str pattern;

    while (next_word(&senders, &pattern)) {
        if (str_equal(pattern, STR("*")))
            return true;
    }
    return false;
}

/* ---- lines ---- */

static char *put(char **to, struct str text)
{
    char *start = *to;
    memcpy(start, text.p, text.len);
    start[text.len] = '\0';
    *to = start + text.len + 1;
    return start;
}

static struct record *new_record(const struct str fields[4], bool limited)
{
    struct record *record =
        mem_alloc(sizeof *record + fields[0].len + fields[1].len + fields[3].len + 3);
    char *to = record->text;

    atomic_init(&record->references, 1);
    record->user.name = put(&to, fields[0]);
    record->user.hash = put(&to, fields[1]);
    record->user.senders = limited ? put(&to, fields[3]) : NULL;
    return record;
}

/* @return NULL, or what is wrong with the line */
static const char *read_line(struct str line, struct record **record_out)
{
    struct str fields[4] = {{NULL, 0}};
    struct auth_scram scram = {0};
    size_t count = 0;

    if (line.len > AUTH_LINE_MAX_BYTES)
        return "the line is longer than 64 KiB";
    if (memchr(line.p, '\0', line.len) != NULL)
        return "there is a NUL in the line";
    while (count < 3 && cut(&line, '\t', &fields[count]))
        count++;
    fields[count++] = line;
    if (count < 3 || memchr(line.p, '\t', line.len) != NULL)
        return "a line has three or four fields, separated by a TAB: name, yescrypt hash, SCRAM "
               "keys, "
               "allowed senders";
    const char *fault = auth_name_fault(fields[0]);
    if (fault == NULL)
        fault = hash_fault(fields[1]);
    if (fault == NULL && !read_scram(fields[2], &scram))
        fault = "the third field is not SCRAM-SHA-256$count:salt$StoredKey:ServerKey";
    if (fault == NULL && count == 4)
        fault = senders_fault(fields[3]);
    if (fault != NULL)
        return fault;
    *record_out = new_record(fields, count == 4 && !allows_any(fields[3]));
    (*record_out)->user.scram = scram;
    return NULL;
}

static void add_record(struct auth_users *users, struct record *record)
{
    if (users->count == users->capacity) {
        users->capacity = users->capacity > 0 ? users->capacity * 2 : 16;
        users->records = mem_grow(users->records, users->capacity * sizeof(struct record *));
    }
    users->records[users->count++] = record;
}

static int compare_records(const void *a, const void *b)
{
    const struct record *x = *(struct record *const *)a, *y = *(struct record *const *)b;
    int order = strcmp(x->user.name, y->user.name);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

/* @return false with a text: a name stands twice */
static bool sort_records(struct auth_users *users, const char *path, char *error, size_t error_size)
{
    if (users->count > 0)
        qsort(users->records, users->count, sizeof(struct record *), compare_records);
    for (size_t i = 1; i < users->count; i++) {
        const struct record *first = users->records[i - 1], *second = users->records[i];
        if (strcmp(first->user.name, second->user.name) != 0)
            continue;
        snprintf(error, error_size, "%s:%zu: the user %s stands in line %zu already", path,
                 second->line, second->user.name, first->line);
        return false;
    }
    return true;
}

int auth_users_parse(struct str text, const char *path, struct auth_users **users_out, char *error,
                     size_t error_size)
{
    struct auth_users *users = mem_alloc(sizeof *users);
    size_t number = 0;

    atomic_init(&users->references, 1);
    while (text.len > 0) {
        const char *end = memchr(text.p, '\n', text.len);
        struct str line = {text.p, end != NULL ? (size_t)(end - text.p) : text.len};
        text = str_skip(text, line.len + 1);
        number++;
        if (line.len == 0 || line.p[0] == '#')
            continue;
        struct record *record = NULL;
        const char *fault = read_line(line, &record);
        if (fault != NULL) {
            snprintf(error, error_size, "%s:%zu: %s", path, number, fault);
            auth_users_unref(&users);
            return -1;
        }
        record->line = number;
        add_record(users, record);
    }
    if (!sort_records(users, path, error, error_size)) {
        auth_users_unref(&users);
        return -1;
    }
    *users_out = users;
    return 0;
}

/* ---- the file ---- */

/* @return NULL and the bytes (owned), or a reason */
static const char *read_open_file(int fd, struct str *bytes_out)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return strerror(errno);
    if (!S_ISREG(info.st_mode))
        return "not a regular file";
    if (info.st_size > AUTH_FILE_MAX_BYTES)
        return "larger than 16 MiB";
    size_t size = (size_t)info.st_size, len = 0;
    char *bytes = mem_alloc(size + 1);
    while (len < size) {
        ssize_t n = read(fd, bytes + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(bytes);
            return strerror(errno);
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *bytes_out = (struct str){bytes, len};
    return NULL;
}

int auth_users_load(const char *path, struct auth_users **users_out, char *error, size_t error_size)
{
    struct str bytes = {NULL, 0};

    /* O_NONBLOCK: a FIFO in the place of a file must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int failure = errno;
        snprintf(error, error_size, "%s: %s%s", path, strerror(failure),
                 failure == ENOENT ? " (`mtactl user add` makes it)" : "");
        errno = failure;
        return -1;
    }
    const char *reason = read_open_file(fd, &bytes);
    close(fd);
    if (reason != NULL) {
        snprintf(error, error_size, "%s: %s", path, reason);
        return -1;
    }
    int rc = auth_users_parse(bytes, path, users_out, error, error_size);
    free((char *)(uintptr_t)bytes.p);
    return rc;
}

/* ---- the whole ---- */

struct auth_users *auth_users_ref(struct auth_users *users)
{
    atomic_fetch_add_explicit(&users->references, 1, memory_order_relaxed);
    return users;
}

void auth_users_unref(struct auth_users **usersp)
{
    struct auth_users *users = *usersp;

    *usersp = NULL;
    if (users == NULL ||
        atomic_fetch_sub_explicit(&users->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < users->count; i++) {
        struct auth_user *user = &users->records[i]->user;
        auth_user_unref(&user);
    }
    free(users->records);
    free(users);
}

size_t auth_users_count(const struct auth_users *users)
{
    return users->count;
}

const struct auth_user *auth_users_at(const struct auth_users *users, size_t i)
{
    return &users->records[i]->user;
}

const struct auth_user *auth_users_find(const struct auth_users *users, struct str name)
{
    size_t low = 0, high = users->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct auth_user *user = &users->records[middle]->user;
        size_t len = strlen(user->name);
        int order = name.len > 0 ? memcmp(name.p, user->name, name.len < len ? name.len : len) : 0;
        if (order == 0)
            order = (name.len > len) - (name.len < len);
        if (order == 0)
            return user;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
