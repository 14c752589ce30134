/* mta/mail/mailbox.c - the first mailbox of an address list, RFC 5322 section 3.4 with the obsolete
 * forms of 4.4. One pass with a cursor and a depth counter: linear in time, no recursion. What
 * cannot be read in one way only gives no mailbox, since the domain picks the key that vouches for
 * the message. */
#include "mta/mail/header.h"

#include <string.h>

struct cursor {
    struct str s;
    size_t at;
};

enum element {
    ELEMENT_EMPTY, /* nothing, a group's name, or words without an address */
    ELEMENT_MAILBOX,
    ELEMENT_BAD,
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

static bool take_address(struct cursor *c, struct str *local_out, struct str *domain_out)
{
    return skip_cfws(c) && take_local(c, local_out) && skip_cfws(c) && take(c, '@') &&
           skip_cfws(c) && take_domain(c, domain_out) && skip_cfws(c);
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

static enum element read_angle(struct cursor *c, struct str *local_out, struct str *domain_out)
{
    c->at++;
    if (!skip_cfws(c))
        return ELEMENT_BAD;
    if (peek(c) == '@' && !skip_route(c))
        return ELEMENT_BAD;
    if (!take_address(c, local_out, domain_out) || !take(c, '>'))
        return ELEMENT_BAD;
    if (!skip_cfws(c) || !ends_element(peek(c)))
        return ELEMENT_BAD;
    return ELEMENT_MAILBOX;
}

/* Without angle brackets, what was passed over must be an address and nothing else. */
static enum element read_bare(struct str passed, struct str *local_out, struct str *domain_out)
{
    struct cursor c = {passed, 0};
    if (!take_address(&c, local_out, domain_out) || c.at != passed.len)
        return ELEMENT_BAD;
    return ELEMENT_MAILBOX;
}

/* Up to, not including, the separator: ',' ';' ':' or the end. */
static enum element read_element(struct cursor *c, struct str *local_out, struct str *domain_out)
{
    size_t start = c->at;
    bool has_at = false;
    for (;;) {
        if (!skip_cfws(c))
            return ELEMENT_BAD;
        int ch = peek(c);
        if (ch == '<')
            return read_angle(c, local_out, domain_out);
        if (ends_element(ch) || ch == ':')
            break;
        if (ch == '"' || ch == '[') {
            if (!skip_delimited(c, ch == '"' ? '"' : ']'))
                return ELEMENT_BAD;
            continue;
        }
        has_at = has_at || ch == '@';
        c->at++;
    }
    if (!has_at)
        return ELEMENT_EMPTY;
    return read_bare(since(c, start), local_out, domain_out);
}

bool header_first_mailbox(struct str value, struct str *local_out, struct str *domain_out)
{
    struct cursor c = {value, 0};
    struct str local = {NULL, 0};
    struct str domain = {NULL, 0};

    while (c.at < value.len) {
        switch (read_element(&c, &local, &domain)) {
        case ELEMENT_MAILBOX:
            if (peek(&c) == ':') /* an address is no group name */
                return false;
            *local_out = local;
            *domain_out = domain;
            return true;
        case ELEMENT_BAD:
            return false;
        case ELEMENT_EMPTY:
            c.at++; /* the separator */
            break;
        }
    }
    return false;
}
