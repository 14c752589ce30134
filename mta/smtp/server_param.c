/* mta/smtp/server_param.c - the parameters of MAIL and RCPT: which there are, which extension
 * brings them, what their values may be. RFC 1870, 6152, 4954, 3461, 6531, 6533, 8689. */
#include <string.h>

#include "mta/smtp/server_private.h"

#define SIZE_DIGITS_MAX 20 /* RFC 1870 section 4 */

enum extension { ALWAYS, WITH_DSN, WITH_SMTPUTF8, WITH_REQUIRETLS };

enum owner { OF_MAIL, OF_RCPT };

/* Where values go: one of them. */
struct target {
    const struct smtp_server *server;
    struct smtp_mail *mail;
    struct smtp_rcpt *rcpt;
};

static const struct server_refusal ok = {0, NULL};

static bool parse_hex(char c, unsigned *value_out)
{
    if (c >= '0' && c <= '9')
        *value_out = (unsigned)(c - '0');
    else if (c >= 'A' && c <= 'F') /* lower case is none, RFC 3461 section 4 */
        *value_out = (unsigned)(c - 'A') + 10;
    else
        return false;
    return true;
}

/* xtext of RFC 3461 section 4, not empty. What it stands for must be printable: it ends up in the
 * fields of a notification. */
static bool is_xtext(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned high, low;
        if (text.p[i] <= ' ' || text.p[i] > '~' || text.p[i] == '=')
            return false;
        if (text.p[i] != '+')
            continue;
        if (i + 2 >= text.len || !parse_hex(text.p[i + 1], &high) ||
            !parse_hex(text.p[i + 2], &low))
            return false;
        unsigned byte = high * 16 + low;
        if (byte < ' ' || byte > '~')
            return false;
        i += 2;
    }
    return text.len > 0;
}

/* Length of "\x{HEX}" at the start of text, RFC 6533 section 3; 0: none, or no character that may
 * stand in an address. */
static size_t unicode_escape_len(struct str text)
{
    static const struct str open = {"\\x{", 3};
    unsigned code = 0;
    unsigned digit;
    size_t i = open.len;

    if (!str_starts_nocase(text, open))
        return 0;
    for (; i < text.len && i < open.len + 6 && parse_hex(text.p[i], &digit); i++)
        code = code * 16 + digit;
    if (i >= text.len || text.p[i] != '}' || code < ' ' || (code >= 0x7f && code < 0xa0) ||
        (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
        return 0;
    return i + 1;
}

/* The address of type "utf-8", RFC 6533 section 3; raw UTF-8 only with SMTPUTF8. */
static bool is_utf8_address(struct str text, bool raw)
{
    size_t i = 0;

    while (i < text.len) {
        char c = text.p[i];
        int len = 1;
        if ((unsigned char)c >= 0x80)
            len = raw ? str_utf8_length(str_skip(text, i)) : 0;
        else if (c == '\\')
            len = (int)unicode_escape_len(str_skip(text, i));
        else if (c <= ' ' || c > '~' || c == '+' || c == '=')
            len = 0;
        if (len <= 0)
            return false;
        i += (size_t)len;
    }
    return text.len > 0;
}

/* ---- of MAIL ---- */

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    }
    return s.len > 0;
}

static struct server_refusal take_size(const struct target *to, struct str value)
{
    uint64_t max = to->server->options.max_message_bytes;

    if (!all_digits(value) || value.len > SIZE_DIGITS_MAX)
        return (struct server_refusal){501, "5.5.4 Bad SIZE"};
    /* 20 digits are good syntax, even where they are no 64-bit number */
    if (!str_parse_u64(value, UINT64_MAX, &to->mail->declared_bytes))
        to->mail->declared_bytes = UINT64_MAX;
    if (max > 0 && to->mail->declared_bytes > max)
        return (struct server_refusal){552, "5.3.4 Message too big"};
    return ok;
}

static struct server_refusal take_body(const struct target *to, struct str value)
{
    if (str_equal_nocase(value, STR("BINARYMIME")))
        return (struct server_refusal){555, "5.5.4 BODY=BINARYMIME is not offered here"};
    to->mail->body_8bit = str_equal_nocase(value, STR("8BITMIME"));
    if (!to->mail->body_8bit && !str_equal_nocase(value, STR("7BIT")))
        return (struct server_refusal){501, "5.5.4 BODY must be 7BIT or 8BITMIME"};
    return ok;
}

static struct server_refusal take_auth(const struct target *to, struct str value)
{
    (void)to;
    return is_xtext(value) ? ok
                           : (struct server_refusal){501, "5.5.4 AUTH must be <> or an address"};
}

static struct server_refusal take_ret(const struct target *to, struct str value)
{
    if (str_equal_nocase(value, STR("FULL")))
        to->mail->ret = SMTP_RET_FULL;
    else if (str_equal_nocase(value, STR("HDRS")))
        to->mail->ret = SMTP_RET_HDRS;
    else
        return (struct server_refusal){501, "5.5.4 RET must be FULL or HDRS"};
    return ok;
}

static struct server_refusal take_envid(const struct target *to, struct str value)
{
    if (value.len > SMTP_ENVID_MAX || !is_xtext(value))
        return (struct server_refusal){501, "5.5.4 Bad ENVID (RFC 3461 section 4.4)"};
    to->mail->envid = value;
    return ok;
}

static struct server_refusal take_smtputf8(const struct target *to, struct str value)
{
    if (value.p != NULL)
        return (struct server_refusal){501, "5.5.4 SMTPUTF8 takes no value"};
    to->mail->smtputf8 = true;
    return ok;
}

static struct server_refusal take_requiretls(const struct target *to, struct str value)
{
    if (value.p != NULL)
        return (struct server_refusal){501, "5.5.4 REQUIRETLS takes no value"};
    to->mail->requiretls = true;
    return ok;
}

/* ---- of RCPT ---- */

static unsigned notify_bit(struct str word)
{
    static const struct {
        struct str name;
        enum smtp_notify bit;
    } rows[] = {
        {{"NEVER", 5}, SMTP_NOTIFY_NEVER},
        {{"SUCCESS", 7}, SMTP_NOTIFY_SUCCESS},
        {{"FAILURE", 7}, SMTP_NOTIFY_FAILURE},
        {{"DELAY", 5}, SMTP_NOTIFY_DELAY},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (str_equal_nocase(rows[i].name, word))
            return rows[i].bit;
    }
    return 0;
}

static struct server_refusal take_notify(const struct target *to, struct str value)
{
    static const struct server_refusal bad = {501, "5.5.4 Bad NOTIFY (RFC 3461 section 4.1)"};
    unsigned notify = 0;
    size_t start = 0;

    if (value.p == NULL)
        return bad;
    for (size_t i = 0; i <= value.len; i++) {
        if (i < value.len && value.p[i] != ',')
            continue;
        unsigned bit = notify_bit((struct str){value.p + start, i - start});
        if (bit == 0)
            return bad;
        notify |= bit;
        start = i + 1;
    }
    if ((notify & SMTP_NOTIFY_NEVER) != 0 && notify != SMTP_NOTIFY_NEVER)
        return bad; /* it stands alone */
    to->rcpt->notify = notify;
    return ok;
}

static bool is_type_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

static struct server_refusal take_orcpt(const struct target *to, struct str value)
{
    static const struct server_refusal bad = {501, "5.5.4 Bad ORCPT (RFC 3461 section 4.2)"};
    struct str type = {value.p, 0};

    while (type.len < value.len && is_type_byte(value.p[type.len]))
        type.len++;
    if (type.len == 0 || type.len >= value.len || value.p[type.len] != ';' ||
        value.len > SMTP_ORCPT_MAX)
        return bad;
    struct str address = str_skip(value, type.len + 1);
    bool good = str_equal_nocase(type, STR("utf-8"))
                    ? is_utf8_address(address, to->server->smtputf8)
                    : is_xtext(address);
    if (!good)
        return bad;
    to->rcpt->orcpt = value;
    return ok;
}

/* ---- the table ---- */

static const struct param_row {
    struct str name;
    enum owner owner;
    enum extension extension;
    /* value: what stands behind "="; p NULL without one */
    struct server_refusal (*take)(const struct target *to, struct str value);
} param_rows[] = {
    {{"SIZE", 4}, OF_MAIL, ALWAYS, take_size},
    {{"BODY", 4}, OF_MAIL, ALWAYS, take_body},
    {{"AUTH", 4}, OF_MAIL, ALWAYS, take_auth},
    {{"RET", 3}, OF_MAIL, WITH_DSN, take_ret},
    {{"ENVID", 5}, OF_MAIL, WITH_DSN, take_envid},
    {{"SMTPUTF8", 8}, OF_MAIL, WITH_SMTPUTF8, take_smtputf8},
    {{"REQUIRETLS", 10}, OF_MAIL, WITH_REQUIRETLS, take_requiretls},
    {{"NOTIFY", 6}, OF_RCPT, WITH_DSN, take_notify},
    {{"ORCPT", 5}, OF_RCPT, WITH_DSN, take_orcpt},
};

static bool is_offered(const struct smtp_server *server, enum extension extension)
{
    switch (extension) {
    case ALWAYS:
        return true;
    case WITH_DSN:
        return server->options.offer_dsn;
    case WITH_SMTPUTF8:
        return server->options.offer_smtputf8;
    case WITH_REQUIRETLS:
        return server_offers_requiretls(server);
    }
    unreachable_bug();
}

/* One "NAME=value" or "NAME". seen: a bit for each row that had its turn. */
static struct server_refusal take_param(const struct target *to, struct str param, unsigned *seen)
{
    const char *sign = memchr(param.p, '=', param.len);
    struct str name = {param.p, sign != NULL ? (size_t)(sign - param.p) : param.len};
    struct str value = {NULL, 0};

    if (sign != NULL)
        value = str_skip(param, name.len + 1);
    for (unsigned i = 0; i < sizeof param_rows / sizeof param_rows[0]; i++) {
        const struct param_row *row = &param_rows[i];
        if (!str_equal_nocase(name, row->name) || (row->owner == OF_MAIL) != (to->mail != NULL) ||
            !is_offered(to->server, row->extension))
            continue;
        if ((*seen & (1U << i)) != 0)
            return (struct server_refusal){501, "5.5.4 Parameter given twice"};
        *seen |= 1U << i;
        return row->take(to, value);
    }
    return (struct server_refusal){555, "5.5.4 Unknown parameter"};
}

static struct server_refusal take_params(const struct target *to, struct str rest)
{
    unsigned seen = 0;

    for (rest = str_trim(rest); rest.len > 0; rest = str_trim(rest)) {
        const char *space = memchr(rest.p, ' ', rest.len);
        struct str param = {rest.p, space != NULL ? (size_t)(space - rest.p) : rest.len};
        rest = str_skip(rest, param.len);
        struct server_refusal refusal = take_param(to, param, &seen);
        if (refusal.code != 0)
            return refusal;
    }
    return ok;
}

struct server_refusal server_mail_params(const struct smtp_server *server, struct str rest,
                                         struct smtp_mail *mail)
{
    struct target to = {.server = server, .mail = mail};

    return take_params(&to, rest);
}

struct server_refusal server_rcpt_params(const struct smtp_server *server, struct str rest,
                                         struct smtp_rcpt *rcpt)
{
    struct target to = {.server = server, .rcpt = rcpt};

    return take_params(&to, rest);
}
