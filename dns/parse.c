/* dns/parse.c - one bounded reader does all the walking over an answer; see parse_private.h. */
#include "dns/dns_private.h"
#include "dns/parse_private.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEADER_SIZE = 12,
    WIRE_NAME_MAX = 255, /* RFC 1035 section 2.3.4 */
    JUMPS_MAX = 128,     /* a name has at most 127 labels */
    CLASS_IN = 1,
    RCODE_NXDOMAIN = 3,
};

struct reader {
    const uint8_t *bytes;
    size_t len, at;
    bool failed; /* sticky: later reads give 0 */
};

/* A name as on the wire, lower case, uncompressed, with its root label. */
struct wire_name {
    size_t len;
    uint8_t bytes[WIRE_NAME_MAX];
};

struct record {
    struct wire_name owner;
    uint16_t type, class;
    uint32_t ttl_s;
    size_t data, data_len; /* offset into the message */
};

static uint32_t read_number(struct reader *reader, size_t octets)
{
    uint32_t value = 0;

    if (reader->failed || reader->len - reader->at < octets) {
        reader->failed = true;
        return 0;
    }
    while (octets-- > 0)
        value = value << 8 | reader->bytes[reader->at++];
    return value;
}

static void skip(struct reader *reader, size_t octets)
{
    if (reader->failed || reader->len - reader->at < octets)
        reader->failed = true;
    else
        reader->at += octets;
}

static void add_label(struct reader *from, size_t len, struct wire_name *name)
{
    if (from->len - from->at < len || sizeof name->bytes - name->len < len + 2) {
        from->failed = true;
        return;
    }
    name->bytes[name->len++] = (uint8_t)len;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = from->bytes[from->at++];
        name->bytes[name->len++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
    }
}

/* RFC 1035 section 4.1.4. A pointer must lead before the place where the part that holds it began,
 * so that every jump goes down and the walk ends. */
static void read_name(struct reader *reader, struct wire_name *name_out)
{
    struct reader walk = *reader;
    size_t lowest = reader->at;
    unsigned jumps = 0;

    name_out->len = 0;
    for (;;) {
        uint32_t octet = read_number(&walk, 1);
        if (walk.failed || octet == 0)
            break;
        if ((octet & 0xc0) == 0xc0) {
            size_t to = (octet & 0x3f) << 8 | read_number(&walk, 1);
            if (jumps++ == 0)
                reader->at = walk.at;
            if (to >= lowest || jumps > JUMPS_MAX)
                walk.failed = true;
            lowest = to;
            walk.at = to;
        } else if ((octet & 0xc0) == 0) {
            add_label(&walk, octet, name_out);
        } else {
            walk.failed = true;
        }
        if (walk.failed)
            break;
    }
    if (!walk.failed)
        name_out->bytes[name_out->len++] = 0;
    if (jumps == 0)
        reader->at = walk.at;
    reader->failed = reader->failed || walk.failed;
}

static bool same_name(const struct wire_name *a, const struct wire_name *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* The text is a checked name (dns_name_read). */
static void name_from_text(const char *text, struct wire_name *name_out)
{
    size_t len = strlen(text);

    name_out->len = 0;
    for (size_t at = 0; at < len;) {
        size_t label = strcspn(text + at, ".");
        name_out->bytes[name_out->len++] = (uint8_t)label;
        memcpy(name_out->bytes + name_out->len, text + at, label);
        name_out->len += label;
        at += label + 1;
    }
    name_out->bytes[name_out->len++] = 0;
}

/* @return false: nothing that could be asked for or connected to (a byte that is no host name's) */
static bool name_to_text(const struct wire_name *name, char text[DNS_NAME_MAX])
{
    char raw[WIRE_NAME_MAX + 1];
    struct dns_name checked;
    size_t len = 0;

    for (size_t at = 0; name->bytes[at] != 0; at += 1U + name->bytes[at]) {
        size_t label = name->bytes[at];
        if (memchr(name->bytes + at + 1, '.', label) != NULL ||
            memchr(name->bytes + at + 1, 0, label) != NULL)
            return false;
        memcpy(raw + len, name->bytes + at + 1, label);
        len += label;
        raw[len++] = '.';
    }
    raw[len] = '\0';
    if (!dns_name_read(raw, &checked))
        return false;
    memcpy(text, checked.text, checked.len + 1);
    return true;
}

static void read_record(struct reader *reader, struct record *record_out)
{
    read_name(reader, &record_out->owner);
    record_out->type = (uint16_t)read_number(reader, 2);
    record_out->class = (uint16_t)read_number(reader, 2);
    record_out->ttl_s = read_number(reader, 4);
    if (record_out->ttl_s > INT32_MAX) /* RFC 2181 section 8 */
        record_out->ttl_s = 0;
    record_out->data_len = read_number(reader, 2);
    record_out->data = reader->at;
    skip(reader, record_out->data_len);
}

/* ---- collecting ---- */

struct answer {
    struct reader at_answers; /* stands at the first record */
    uint32_t answer_count, authority_count;
    uint16_t type;
    struct dns_parsed *parsed;
};

static void fail(struct dns_parsed *parsed, const char *problem)
{
    parsed->status = DNS_SERVER_FAILURE;
    parsed->problem = problem;
}

static void lower_ttl(struct dns_parsed *parsed, uint32_t ttl_s)
{
    if (ttl_s < parsed->ttl_s)
        parsed->ttl_s = ttl_s;
}

/* Keeps the list sorted by preference, equals as they came, one entry a name, the best ones only.
 */
static void insert_host(struct dns_parsed *parsed, const char *name, uint16_t preference)
{
    struct dns_mx_host *hosts = parsed->hosts;
    size_t at = 0;

    for (size_t i = 0; i < parsed->count; i++) {
        if (strcmp(hosts[i].name, name) != 0)
            continue;
        if (hosts[i].preference <= preference)
            return;
        parsed->count--;
        memmove(&hosts[i], &hosts[i + 1], (parsed->count - i) * sizeof hosts[0]);
        break;
    }
    while (at < parsed->count && hosts[at].preference <= preference)
        at++;
    if (at == DNS_HOSTS_MAX)
        return;
    if (parsed->count == DNS_HOSTS_MAX)
        parsed->count--;
    memmove(&hosts[at + 1], &hosts[at], (parsed->count - at) * sizeof hosts[0]);
    hosts[at].preference = preference;
    memcpy(hosts[at].name, name, strlen(name) + 1);
    parsed->count++;
}

static bool take_mx(struct answer *answer, const struct record *record)
{
    struct reader reader = answer->at_answers;
    struct wire_name target;
    char text[DNS_NAME_MAX];

    reader.at = record->data;
    uint16_t preference = (uint16_t)read_number(&reader, 2);
    read_name(&reader, &target);
    if (reader.failed || reader.at != record->data + record->data_len)
        return false;
    if (target.len == 1)
        answer->parsed->null_mx = true; /* RFC 7505; whether it is the only one shows at the end */
    else if (name_to_text(&target, text))
        insert_host(answer->parsed, text, preference);
    return true;
}

static bool take_address(struct answer *answer, const struct record *record)
{
    struct dns_parsed *parsed = answer->parsed;
    struct dns_address address = {.ipv6 = record->type == DNS_TYPE_AAAA};

    if (record->data_len != (address.ipv6 ? 16U : 4U))
        return false;
    memcpy(address.bytes, answer->at_answers.bytes + record->data, record->data_len);
    for (size_t i = 0; i < parsed->count; i++) {
        if (memcmp(parsed->addresses[i].bytes, address.bytes, sizeof address.bytes) == 0)
            return true;
    }
    if (parsed->count < DNS_ADDRESSES_MAX)
        parsed->addresses[parsed->count++] = address;
    return true;
}

enum step { STEP_END, STEP_FOUND, STEP_CNAME, STEP_MALFORMED };

/* Takes the records of one owner; where there is a CNAME instead, *owner becomes its target. */
static enum step take_owner(struct answer *answer, struct wire_name *owner)
{
    struct reader reader = answer->at_answers;
    struct wire_name next = {0};
    enum step step = STEP_END;

    for (uint32_t i = 0; i < answer->answer_count; i++) {
        struct record record;
        read_record(&reader, &record);
        if (reader.failed)
            return STEP_MALFORMED;
        if (record.class != CLASS_IN || !same_name(&record.owner, owner))
            continue;
        if (record.type == answer->type) {
            if (!(record.type == DNS_TYPE_MX ? take_mx : take_address)(answer, &record))
                return STEP_MALFORMED;
            step = STEP_FOUND;
            lower_ttl(answer->parsed, record.ttl_s);
        } else if (record.type == DNS_TYPE_CNAME && step == STEP_END) {
            struct reader data = reader;
            data.at = record.data;
            read_name(&data, &next);
            if (data.failed || data.at != record.data + record.data_len)
                return STEP_MALFORMED;
            step = STEP_CNAME;
            lower_ttl(answer->parsed, record.ttl_s);
        }
    }
    if (step == STEP_CNAME)
        *owner = next;
    return step;
}

/* RFC 2308 section 5: the SOA tells how long "no" holds. Without one nothing is kept. */
static void read_authority(struct answer *answer, bool *soa_out, bool *referral_out)
{
    struct reader reader = answer->at_answers;
    struct record record;
    struct wire_name unused;

    *soa_out = *referral_out = false;
    for (uint32_t i = 0; i < answer->answer_count; i++)
        read_record(&reader, &record);
    for (uint32_t i = 0; i < answer->authority_count && !*soa_out; i++) {
        read_record(&reader, &record);
        if (reader.failed)
            return;
        if (record.type == DNS_TYPE_NS)
            *referral_out = true;
        if (record.type != DNS_TYPE_SOA || record.class != CLASS_IN)
            continue;
        struct reader data = reader;
        data.at = record.data;
        read_name(&data, &unused);
        read_name(&data, &unused);
        skip(&data, 16);
        uint32_t minimum_s = read_number(&data, 4);
        if (data.failed || data.at != record.data + record.data_len)
            continue;
        *soa_out = true;
        lower_ttl(answer->parsed, record.ttl_s);
        lower_ttl(answer->parsed, minimum_s);
        lower_ttl(answer->parsed, DNS_NEGATIVE_TTL_MAX_S);
    }
    if (!*soa_out)
        answer->parsed->ttl_s = 0;
    else
        *referral_out = false;
}

/* No record of the type was found under the last name of the chain. */
static void conclude_nothing(struct answer *answer, unsigned rcode, bool authoritative,
                             const struct wire_name *owner)
{
    struct dns_parsed *parsed = answer->parsed;
    uint32_t chain_ttl_s = parsed->ttl_s;
    bool soa, referral;

    read_authority(answer, &soa, &referral);
    parsed->status = rcode == RCODE_NXDOMAIN ? DNS_NO_NAME : DNS_NO_RECORD;
    if (rcode == RCODE_NXDOMAIN || soa)
        return;
    if (parsed->hops > 0) {
        if (!name_to_text(owner, parsed->target)) {
            fail(parsed, "a CNAME to what is no host name");
            return;
        }
        parsed->status = DNS_ANSWER;
        parsed->follow = true;
        parsed->ttl_s = chain_ttl_s;
    } else if (referral && !authoritative) {
        /* Taken for "no such record" it would turn mail away from the domain's MX. */
        fail(parsed, "a referral (not a recursive resolver)");
    }
}

static void conclude_found(struct answer *answer, unsigned rcode)
{
    struct dns_parsed *parsed = answer->parsed;

    parsed->status = DNS_ANSWER;
    parsed->null_mx = parsed->null_mx && parsed->count == 0;
    if (rcode == RCODE_NXDOMAIN)
        fail(parsed, "NXDOMAIN together with records");
    else if (answer->type == DNS_TYPE_MX && parsed->count == 0 && !parsed->null_mx)
        fail(parsed, "MX records without a usable host name");
}

static const char *rcode_problem(unsigned rcode)
{
    static const char *const problems[] = {
        [1] = "FORMERR",
        [2] = "SERVFAIL",
        [4] = "NOTIMP",
        [5] = "REFUSED",
    };

    if (rcode < sizeof problems / sizeof problems[0] && problems[rcode] != NULL)
        return problems[rcode];
    return "an unexpected response code";
}

static void walk_chain(struct answer *answer, const char *name, unsigned rcode, bool authoritative)
{
    struct wire_name owner;

    name_from_text(name, &owner);
    for (;;) {
        switch (take_owner(answer, &owner)) {
        case STEP_FOUND:
            conclude_found(answer, rcode);
            return;
        case STEP_END:
            conclude_nothing(answer, rcode, authoritative, &owner);
            return;
        case STEP_MALFORMED:
            fail(answer->parsed, "a malformed answer");
            return;
        case STEP_CNAME:
            answer->parsed->hops++;
            if (answer->parsed->hops > DNS_CNAME_MAX) {
                fail(answer->parsed, "more than 16 CNAMEs in a row");
                return;
            }
        }
    }
}

static bool read_question(struct reader *reader, uint32_t count, const char *name, uint16_t type)
{
    struct wire_name asked, expected;

    if (count != 1)
        return false;
    read_name(reader, &asked);
    uint32_t asked_type = read_number(reader, 2);
    uint32_t asked_class = read_number(reader, 2);
    name_from_text(name, &expected);
    return !reader->failed && asked_type == type && asked_class == CLASS_IN &&
           same_name(&asked, &expected);
}

static void parse(struct answer *answer, const char *name)
{
    struct reader *reader = &answer->at_answers;
    struct dns_parsed *parsed = answer->parsed;

    skip(reader, 2);
    uint32_t flags = read_number(reader, 2);
    uint32_t question_count = read_number(reader, 2);
    answer->answer_count = read_number(reader, 2);
    answer->authority_count = read_number(reader, 2);
    skip(reader, 2);
    unsigned rcode = flags & 0x0f;
    if (reader->failed || (flags & 0xf800) != 0x8000) { /* a response, opcode QUERY */
        fail(parsed, "a malformed answer");
    } else if (rcode != 0 && rcode != RCODE_NXDOMAIN) {
        fail(parsed, rcode_problem(rcode));
    } else if ((flags & 0x0200) != 0) {
        fail(parsed, "a truncated answer");
    } else if (!read_question(reader, question_count, name, answer->type)) {
        fail(parsed, "an answer to another question");
    } else {
        parsed->authentic = (flags & 0x0020) != 0;
        walk_chain(answer, name, rcode, (flags & 0x0400) != 0);
    }
}

/* A copy without what the answer did not need: most have one or two records. Frees the old one. */
static void *shrink(void *array, size_t size)
{
    void *copy = NULL;

    if (size > 0 && array != NULL) {
        copy = dns_alloc(size);
        memcpy(copy, array, size);
    }
    free(array);
    return copy;
}

void dns_parse_answer(const uint8_t *bytes, size_t len, const char *name, uint16_t type,
                      struct dns_parsed *parsed_out)
{
    struct answer answer = {
        .at_answers = {.bytes = bytes, .len = len}, .type = type, .parsed = parsed_out};

    *parsed_out = (struct dns_parsed){.ttl_s = DNS_TTL_MAX_S};
    if (type == DNS_TYPE_MX)
        parsed_out->hosts = dns_alloc(DNS_HOSTS_MAX * sizeof parsed_out->hosts[0]);
    else
        parsed_out->addresses = dns_alloc(DNS_ADDRESSES_MAX * sizeof parsed_out->addresses[0]);
    parse(&answer, name);
    if (parsed_out->status != DNS_ANSWER || parsed_out->follow)
        parsed_out->count = 0;
    if (parsed_out->status == DNS_SERVER_FAILURE) {
        parsed_out->ttl_s = 0;
        parsed_out->authentic = false;
        parsed_out->null_mx = false;
    }
    parsed_out->hosts = shrink(parsed_out->hosts, parsed_out->count * sizeof parsed_out->hosts[0]);
    parsed_out->addresses =
        shrink(parsed_out->addresses, parsed_out->count * sizeof parsed_out->addresses[0]);
}

void dns_parsed_deinit(struct dns_parsed *parsed)
{
    free(parsed->hosts);
    free(parsed->addresses);
    *parsed = (struct dns_parsed){0};
}
