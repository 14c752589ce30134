/* mta/mail/address_list.c - see address_list.h. One pass with a cursor and a depth counter. What
 * cannot be read in one way only is no address: mail may not go to a guess, and the domain of From
 * picks the key that vouches for the message. */
#include "mta/mail/address_list.h"

#include <string.h>

#include "mta/mail/header.h"

struct cursor {
    struct str s;
    size_t at;
};

#define END (-1)

static int peek(const struct cursor *c)
{
    return c->at < c->s.len ? (unsigned char)c->s.p[c->at] : END;
}

static bool take(struct cursor *c, char byte)
{
    if (c->at >= c->s.len || c->s.p[c->at] != byte)
        return false;
    c->at++;
    return true;
}

static struct str since(const struct cursor *c, size_t start)
{
    return (struct str){c->s.p + start, c->at - start};
}

static bool is_space(int ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

/* atext (RFC 5322 section 3.2.3), and 8-bit bytes for UTF-8 (RFC 6532). */
static bool is_atom(int ch)
{
    return ch > ' ' && ch != 0x7f && strchr("()<>[]:;@\\,.\"", ch) == NULL;
}

static bool skip_comment(struct cursor *c)
{
    size_t depth = 0;
    for (; c->at < c->s.len; c->at++) {
        char ch = c->s.p[c->at];
        if (ch == '\\') {
            c->at++;
        } else if (ch == '(') {
            depth++;
        } else if (ch == ')') {
            depth--;
            if (depth == 0) {
                c->at++;
                return true;
            }
        }
    }
    return false;
}

static bool skip_cfws(struct cursor *c)
{
    for (;;) {
        int ch = peek(c);
        if (is_space(ch))
            c->at++;
        else if (ch != '(')
            return true;
        else if (!skip_comment(c))
            return false;
    }
}

/* "..." or [...]: from the opening byte to behind the closing one. */
static bool skip_delimited(struct cursor *c, char close)
{
    for (c->at++; c->at < c->s.len; c->at++) {
        char ch = c->s.p[c->at];
        if (ch == close) {
            c->at++;
            return true;
        }
        if (ch == '\\')
            c->at++;
    }
    return false;
}

/* Words and dots without white space between. Dots may stand anywhere: some large providers gave
 * out addresses with two in a row. */
static bool take_local(struct cursor *c, struct str *local_out)
{
    size_t start = c->at;
    for (;;) {
        int ch = peek(c);
        if (ch == '"') {
            if (!skip_delimited(c, '"'))
                return false;
        } else if (is_atom(ch) || ch == '.') {
            c->at++;
        } else {
            break;
        }
    }
    *local_out = since(c, start);
    return local_out->len > 0;
}

static bool take_domain(struct cursor *c, struct str *domain_out)
{
    size_t start = c->at;
    if (peek(c) == '[') {
        if (!skip_delimited(c, ']'))
            return false;
    } else {
        do {
            size_t label = c->at;
            while (is_atom(peek(c)))
                c->at++;
            if (c->at == label)
                return false;
        } while (take(c, '.'));
    }
    *domain_out = since(c, start);
    return true;
}

/* local@domain, or a local part alone. */
static enum address_item take_address(struct cursor *c, struct address *address)
{
    address->domain = (struct str){NULL, 0};
    if (!skip_cfws(c) || !take_local(c, &address->local) || !skip_cfws(c))
        return ADDRESS_BAD;
    if (!take(c, '@'))
        return ADDRESS_LOCAL;
    if (!skip_cfws(c) || !take_domain(c, &address->domain) || !skip_cfws(c))
        return ADDRESS_BAD;
    return ADDRESS_MAILBOX;
}

/* "@a,@b:" in front of an address (obs-route): read and ignored. */
static bool skip_route(struct cursor *c)
{
    while (peek(c) != ':') {
        int ch = peek(c);
        if (ch == '[') {
            if (!skip_delimited(c, ']'))
                return false;
        } else if (is_atom(ch) || ch == '@' || ch == ',' || ch == '.') {
            c->at++;
        } else {
            return false;
        }
        if (!skip_cfws(c))
            return false;
    }
    return take(c, ':');
}

static bool ends_element(int ch)
{
    return ch == END || ch == ',' || ch == ';';
}

static enum address_item read_angle(struct cursor *c, struct address *address)
{
    bool route = false;
    c->at++;
    address->bracketed = true;
    if (!skip_cfws(c))
        return ADDRESS_BAD;
    if (peek(c) == '@') {
        if (!skip_route(c))
            return ADDRESS_BAD;
        route = true;
    }
    enum address_item item = take_address(c, address);
    if (item == ADDRESS_BAD || (route && item == ADDRESS_LOCAL) || !take(c, '>'))
        return ADDRESS_BAD;
    if (!skip_cfws(c) || !ends_element(peek(c)))
        return ADDRESS_BAD;
    return item;
}

/* RFC 2047 section 5: such a word stands in a display name, never in an address. */
static bool is_encoded_word(struct str word)
{
    return word.len > 4 && memcmp(word.p, "=?", 2) == 0 &&
           memcmp(word.p + word.len - 2, "?=", 2) == 0;
}

/* Without angle brackets, what was passed over must be an address and nothing else. */
static enum address_item read_bare(struct str passed, bool has_at, struct address *address)
{
    struct cursor c = {passed, 0};
    enum address_item item = take_address(&c, address);
    if (item == ADDRESS_LOCAL && (address->local.p[0] == '"' || is_encoded_word(address->local)))
        return ADDRESS_WORDS; /* a display name without its address */
    if (item != ADDRESS_BAD && c.at == passed.len)
        return item;
    return has_at ? ADDRESS_BAD : ADDRESS_WORDS;
}

/* Up to, not including, the separator: ',' ';' ':' or the end. ADDRESS_END: there was nothing. */
static enum address_item read_element(struct cursor *c, struct address *address)
{
    size_t start = c->at;
    bool has_at = false;
    bool empty = true;
    for (;;) {
        if (!skip_cfws(c))
            return ADDRESS_BAD;
        int ch = peek(c);
        if (ch == '<')
            return read_angle(c, address);
        if (ends_element(ch) || ch == ':')
            break;
        empty = false;
        if (ch == '"' || ch == '[') {
            if (!skip_delimited(c, ch == '"' ? '"' : ']'))
                return ADDRESS_BAD;
            continue;
        }
        has_at = has_at || ch == '@';
        c->at++;
    }
    return empty ? ADDRESS_END : read_bare(since(c, start), has_at, address);
}

void address_list_init(struct address_list *list, struct str value)
{
    *list = (struct address_list){.value = value};
}

static enum address_item give_up(struct address_list *list, size_t start, struct address *address)
{
    *address = (struct address){.text = str_skip(list->value, start)};
    list->at = list->value.len;
    return ADDRESS_BAD;
}

enum address_item address_list_next(struct address_list *list, struct address *address_out)
{
    struct cursor c = {list->value, list->at};

    while (c.at < c.s.len) {
        size_t start = c.at;
        struct address address = {0};
        enum address_item item = read_element(&c, &address);
        bool names_group = peek(&c) == ':';
        if (item == ADDRESS_BAD || (names_group && (address.bracketed || address.domain.len > 0)))
            return give_up(list, start, address_out); /* an address is no group name */
        address.text = since(&c, start);
        c.at++; /* the separator */
        if (item == ADDRESS_END || names_group)
            continue;
        list->at = c.at;
        *address_out = address;
        return item;
    }
    list->at = c.at;
    return ADDRESS_END;
}

bool header_first_mailbox(struct str value, struct str *local_out, struct str *domain_out)
{
    struct address_list list;
    struct address address;
    enum address_item item;

    address_list_init(&list, value);
    do {
        item = address_list_next(&list, &address);
    } while (item == ADDRESS_WORDS || (item == ADDRESS_LOCAL && !address.bracketed));
    if (item != ADDRESS_MAILBOX)
        return false;
    *local_out = address.local;
    *domain_out = address.domain;
    return true;
}

static bool each_author(struct str value, header_author_fn on_author, void *ctx)
{
    struct address_list list;
    struct address address;
    bool any = false;

    address_list_init(&list, value);
    for (;;) {
        switch (address_list_next(&list, &address)) {
        case ADDRESS_END:
            return any;
        case ADDRESS_BAD:
            return false;
        case ADDRESS_WORDS:
            continue;
        case ADDRESS_LOCAL:
            if (!address.bracketed) /* "Doe, John <j@d>" */
                continue;
            break;
        case ADDRESS_MAILBOX:
            break;
        }
        if (!on_author(address.local, address.domain, ctx))
            return false;
        any = true;
    }
}

bool header_each_author(struct str section, header_author_fn on_author, void *ctx)
{
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, section);
    while (header_walk_next(&walk, &field)) {
        if (str_equal_nocase(field.name, STR("From")) && !each_author(field.value, on_author, ctx))
            return false;
    }
    return true;
}
