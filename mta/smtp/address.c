/* mta/smtp/address.c - mailbox grammar. The grammar is strict about bytes and lenient about dots:
 * "a..b@x" and "a.@x" are no dot-strings (RFC 5321 section 4.1.2), but mailboxes of that form exist
 * and only the receiving domain can say whether a local part is one. */
#include "mta/smtp/address.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <string.h>

#define LOCAL_ACCEPTED_MAX 255
#define DOMAIN_NAME_MAX    253 /* 255 octets on the DNS wire */
#define LABEL_MAX          63
#define IDN_INPUT_MAX      1024 /* UTF-8 takes more octets than the A-labels */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_printable(char c)
{
    return c >= ' ' && c <= '~';
}

static bool is_dot_atom_byte(char c)
{
    return is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~.", c) != NULL);
}

static struct str str_part(struct str s, size_t from, size_t to)
{
    return (struct str){s.p + from, to - from};
}

/* Length of the character at text[i], ASCII or, with utf8, any other; 0: control byte, not UTF-8.
 */
static size_t char_len(struct str text, size_t i, bool utf8)
{
    if (i >= text.len)
        return 0;
    if ((unsigned char)text.p[i] < 0x80)
        return is_printable(text.p[i]) ? 1 : 0;
    int len = utf8 ? str_utf8_length(str_skip(text, i)) : 0;
    return len > 0 ? (size_t)len : 0;
}

/* Length of the quoted string at the start of text, quotes included; 0: none. */
static size_t quoted_len(struct str text, bool utf8)
{
    size_t i = 1;

    while (i < text.len) {
        if (text.p[i] == '"')
            return i + 1;
        bool pair = text.p[i] == '\\'; /* only ASCII may be quoted so, RFC 6531 section 3.3 */
        size_t len = char_len(text, pair ? i + 1 : i, utf8 && !pair);
        if (len == 0)
            return 0;
        i += len + (pair ? 1 : 0);
    }
    return 0;
}

/* Length of the local part at the start of text; 0: none or too long. */
static size_t local_len(struct str text, bool utf8)
{
    size_t len = 0;

    if (text.len > 0 && text.p[0] == '"') {
        len = quoted_len(text, utf8);
    } else {
        while (len < text.len &&
               (is_dot_atom_byte(text.p[len]) || (unsigned char)text.p[len] >= 0x80)) {
            size_t step = char_len(text, len, utf8);
            if (step == 0)
                return 0;
            len += step;
        }
    }
    return len <= LOCAL_ACCEPTED_MAX ? len : 0;
}

/* RFC 5321 section 4.1.3; a general address literal is of no use to anybody and is refused. */
static bool literal_valid(struct str domain)
{
    static const struct str tag = {"[IPv6:", 6};
    unsigned char address[sizeof(struct in6_addr)];
    char text[INET6_ADDRSTRLEN];
    bool v6 = str_starts_nocase(domain, tag);
    size_t from = v6 ? tag.len : 1;

    if (domain.len < from + 2 || domain.p[domain.len - 1] != ']')
        return false;
    struct str inner = str_part(domain, from, domain.len - 1);
    if (inner.len >= sizeof text || memchr(inner.p, '\0', inner.len) != NULL)
        return false;
    memcpy(text, inner.p, inner.len);
    text[inner.len] = '\0';
    return inet_pton(v6 ? AF_INET6 : AF_INET, text, address) == 1;
}

static bool label_valid(struct str label)
{
    if (label.len < 1 || label.len > LABEL_MAX || label.p[0] == '-' ||
        label.p[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++) {
        /* '_' is no host name letter, but names with it receive mail */
        if (!is_alnum(label.p[i]) && label.p[i] != '-' && label.p[i] != '_')
            return false;
    }
    return true;
}

static bool name_valid(struct str domain)
{
    size_t start = 0;

    if (domain.len > DOMAIN_NAME_MAX)
        return false;
    for (size_t i = 0; i <= domain.len; i++) {
        if (i < domain.len && domain.p[i] != '.')
            continue;
        if (!label_valid(str_part(domain, start, i)))
            return false;
        start = i + 1;
    }
    return true;
}

static bool copy_lower(struct str s, char *out, size_t size)
{
    if (s.len >= size)
        return false;
    memcpy(out, s.p, s.len);
    out[s.len] = '\0';
    str_lower(out, s.len);
    return true;
}

static bool is_ascii(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.p[i] >= 0x80)
            return false;
    }
    return true;
}

static bool idn_to_ascii(struct str domain, char *out, size_t size)
{
    char input[IDN_INPUT_MAX + 1];
    char *ascii = NULL;

    if (domain.len > IDN_INPUT_MAX || memchr(domain.p, '\0', domain.len) != NULL)
        return false;
    memcpy(input, domain.p, domain.len);
    input[domain.len] = '\0';
    if (idn2_to_ascii_8z(input, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        return false;
    /* mapping can make dots and other signs out of what looked like letters: check what came out */
    bool good = name_valid(str_from(ascii)) && copy_lower(str_from(ascii), out, size);
    idn2_free(ascii);
    return good;
}

/* Length of the domain or address literal at the start of text; 0: none that is valid. */
static size_t domain_len(struct str text, bool utf8)
{
    char ascii[DOMAIN_NAME_MAX + 1];
    size_t len = 0;

    if (text.len > 0 && text.p[0] == '[') {
        const char *end = memchr(text.p, ']', text.len);
        if (end == NULL)
            return 0;
        len = (size_t)(end - text.p) + 1;
        return literal_valid(str_part(text, 0, len)) ? len : 0;
    }
    while (len < text.len && (is_alnum(text.p[len]) || text.p[len] == '-' || text.p[len] == '_' ||
                              text.p[len] == '.' || (utf8 && (unsigned char)text.p[len] >= 0x80)))
        len++;
    struct str name = str_part(text, 0, len);
    if (is_ascii(name))
        return name_valid(name) ? len : 0;
    return idn_to_ascii(name, ascii, sizeof ascii) ? len : 0;
}

/* Length of "local@domain" or, with domain.len 0, of "local" at the start of text; 0: neither. */
static size_t mailbox_parse(struct str text, bool utf8, struct smtp_address *address_out)
{
    size_t local = local_len(text, utf8);
    size_t domain = 0;
    size_t end = local;

    if (local == 0)
        return 0;
    if (local < text.len && text.p[local] == '@') {
        domain = domain_len(str_skip(text, local + 1), utf8);
        if (domain == 0)
            return 0;
        end = local + 1 + domain;
    }
    *address_out = (struct smtp_address){
        .whole = str_part(text, 0, end),
        .local = str_part(text, 0, local),
        .domain = str_part(text, end - domain, end),
        .literal = domain > 0 && text.p[end - domain] == '[',
        .utf8 = !is_ascii(str_part(text, 0, end)),
    };
    return end;
}

/* "@a,@b:" in front of a mailbox. Length with the colon; 0: malformed. */
static size_t source_route_len(struct str text, bool utf8)
{
    size_t i = 0;

    while (i < text.len && text.p[i] == '@') {
        size_t domain = domain_len(str_skip(text, i + 1), utf8);
        if (domain == 0)
            return 0;
        i += 1 + domain;
        if (i >= text.len)
            return 0;
        if (text.p[i] == ':')
            return i + 1;
        if (text.p[i] != ',')
            return 0;
        i++;
    }
    return 0;
}

static bool path_parse(struct str text, bool utf8, enum smtp_path_kind *kind_out,
                       struct smtp_address *address_out, struct str *rest_out)
{
    struct smtp_address address = {0};
    enum smtp_path_kind kind = SMTP_PATH_NULL;
    struct str path = {text.p, text.len < SMTP_PATH_MAX ? text.len : SMTP_PATH_MAX};
    size_t i = 1;

    if (path.len < 2 || path.p[0] != '<')
        return false;
    if (path.p[i] != '>') {
        size_t route = path.p[i] == '@' ? source_route_len(str_skip(path, i), utf8) : 0;
        size_t len = mailbox_parse(str_skip(path, i + route), utf8, &address);
        if (len == 0)
            return false;
        i += route + len;
        kind = address.domain.len > 0 ? SMTP_PATH_MAILBOX : SMTP_PATH_UNQUALIFIED;
        if (kind == SMTP_PATH_UNQUALIFIED && (route > 0 || address.local.p[0] == '"'))
            return false;
    }
    if (i >= path.len || path.p[i] != '>')
        return false;
    *kind_out = kind;
    *address_out = address;
    *rest_out = str_skip(text, i + 1);
    return true;
}

bool smtp_path_parse(struct str text, enum smtp_path_kind *kind_out,
                     struct smtp_address *address_out, struct str *rest_out)
{
    return path_parse(text, false, kind_out, address_out, rest_out);
}

bool smtp_path_parse_utf8(struct str text, enum smtp_path_kind *kind_out,
                          struct smtp_address *address_out, struct str *rest_out)
{
    return path_parse(text, true, kind_out, address_out, rest_out);
}

bool smtp_address_parse(struct str text, struct smtp_address *address_out)
{
    struct smtp_address address;
    size_t len = text.len <= SMTP_PATH_MAX - 2 ? mailbox_parse(text, false, &address) : 0;

    if (len == 0 || len != text.len || address.domain.len == 0)
        return false;
    *address_out = address;
    return true;
}

bool smtp_domain_ascii(struct str domain, char *out, size_t size)
{
    if (domain.len == 0)
        return false;
    if (!is_ascii(domain))
        return idn_to_ascii(domain, out, size);
    if (domain_len(domain, false) != domain.len)
        return false;
    return copy_lower(domain, out, size);
}
