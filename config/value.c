/* config/value.c - numbers, sizes, durations, names. Addresses are in value_address.c. */
#include "config/value.h"

#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool is_alnum(char c)
{
    char lower = to_lower(c);
    return is_digit(c) || (lower >= 'a' && lower <= 'z');
}

/* Digits at the start of text; the rest is behind *rest_out. Saturates instead of overflowing. */
static bool read_digits(const char *text, uint64_t *out, const char **rest_out)
{
    uint64_t value = 0;
    const char *p = text;
    for (; is_digit(*p); p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
    }
    if (p == text || (text[0] == '0' && p > text + 1))
        return false; /* 010 is eight in YAML 1.1, ten to most people */
    *out = value;
    *rest_out = p;
    return true;
}

bool value_number(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct reason *why)
{
    uint64_t value;
    const char *rest;
    if (!read_digits(text, &value, &rest) || *rest != '\0' || value < min || value > max)
        return reason_set(why, "expected a number from %llu to %llu", (unsigned long long)min,
                          (unsigned long long)max);
    *out = value;
    return true;
}

/* A number and one of the units; false also on overflow, where max is passed anyway. */
static bool read_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
    uint64_t value;
    const char *rest;
    if (!read_digits(text, &value, &rest))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rest, units[i].name) != 0)
            continue;
        *out = value > UINT64_MAX / units[i].factor ? UINT64_MAX : value * units[i].factor;
        return true;
    }
    return false;
}

/* For a message: the value in the largest unit (units are in rising order) that divides it. */
static uint64_t in_units(uint64_t value, const struct unit *units, size_t count,
                         const char **name_out)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        if (value >= units[i].factor && value % units[i].factor == 0)
            best = i;
    }
    *name_out = units[best].name;
    return value / units[best].factor;
}

static bool refuse_range(uint64_t min, uint64_t max, const char *what, const struct unit *units,
                         size_t count, struct reason *why)
{
    const char *min_unit, *max_unit;
    uint64_t low = in_units(min, units, count, &min_unit);
    uint64_t high = in_units(max, units, count, &max_unit);
    return reason_set(why, "expected a %s from %llu%s to %llu%s", what, (unsigned long long)low,
                      min_unit, (unsigned long long)high, max_unit);
}

bool value_size(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct reason *why)
{
    static const struct unit units[] = {
        {"", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    const size_t count = sizeof units / sizeof units[0];
    uint64_t value;
    if (!read_with_unit(text, units, count, &value))
        return reason_set(why, "expected a size such as 50MiB (a number of bytes, or with KiB, "
                               "MiB or GiB directly behind it)");
    if (value < min || value > max)
        return refuse_range(min, max, "size", units, count, why);
    *out = value;
    return true;
}

bool value_duration(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct reason *why)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const size_t count = sizeof units / sizeof units[0];
    uint64_t value;
    if (!read_with_unit(text, units, count, &value))
        return reason_set(why, "expected a duration such as 30s (a number with its unit ms, s, m, "
                               "h or d directly behind it)");
    if (value < min || value > max)
        return refuse_range(min, max, "duration", units, count, why);
    *out = value;
    return true;
}

/* The rule that text breaks as a domain name ("": there is no text), or NULL. */
static const char *domain_fault(const char *text, bool selector)
{
    size_t len = strlen(text);
    if (len == 0)
        return "";
    if (len > VALUE_DOMAIN_SIZE - 1)
        return "it is longer than 253 characters";
    const char *label = text;
    bool numeric = true;
    for (const char *p = text;; p++) {
        if (*p != '.' && *p != '\0') {
            if ((unsigned char)*p >= 0x80)
                return "international names are written as xn--...";
            if (!is_alnum(*p) && *p != '-' && !(selector && *p == '_'))
                return "only letters, digits, hyphens and dots";
            numeric = numeric && is_digit(*p);
            continue;
        }
        if (p == label)
            return *p == '\0' ? "without the dot at the end" : "an empty part between dots";
        if (p - label > 63)
            return "a part is longer than 63 characters";
        if (*label == '-' || p[-1] == '-')
            return "a part begins or ends with a hyphen";
        if (*p == '\0')
            break;
        label = p + 1;
        numeric = true;
    }
    return numeric && !selector ? "the last part is a number" : NULL;
}

static void copy_lower(const char *text, char *out)
{
    size_t i = 0;
    for (; text[i] != '\0'; i++)
        out[i] = to_lower(text[i]);
    out[i] = '\0';
}

static bool refuse_name(const char *what, const char *fault, struct reason *why)
{
    if (fault[0] == '\0') /* nothing is there at all */
        return reason_set(why, "expected %s", what);
    return reason_set(why, "expected %s (%s)", what, fault);
}

bool value_domain(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why)
{
    const char *fault = domain_fault(text, false);
    if (fault != NULL)
        return refuse_name("a domain name such as example.com", fault, why);
    copy_lower(text, out);
    return true;
}

bool value_selector(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why)
{
    const char *fault = domain_fault(text, true);
    if (fault != NULL)
        return refuse_name("a DKIM selector such as s1", fault, why);
    copy_lower(text, out);
    return true;
}

bool value_hostname(const char *text, char out[VALUE_DOMAIN_SIZE], struct reason *why)
{
    static const char *const local[] = {"local", "localhost", "localdomain"};
    const char *fault = domain_fault(text, false);
    const char *last = strrchr(text, '.');
    if (fault == NULL && last == NULL)
        fault = "it has no dot";
    if (fault != NULL)
        return refuse_name("a full host name such as mail.example.com", fault, why);
    char lower[VALUE_DOMAIN_SIZE];
    copy_lower(text, lower);
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        if (strcmp(lower + (last + 1 - text), local[i]) == 0)
            return reason_set(why,
                              "expected a full host name such as mail.example.com (.%s names "
                              "mean nothing to other machines)",
                              local[i]);
    }
    copy_lower(text, out);
    return true;
}

bool value_pattern(const char *text, char out[VALUE_PATTERN_SIZE], struct reason *why)
{
    if (strcmp(text, "*") == 0)
        return reason_set(why, "expected a pattern such as *.example.com (to match all, leave the "
                               "key out)");
    const char *fault = domain_fault(strncmp(text, "*.", 2) == 0 ? text + 2 : text, false);
    if (fault != NULL)
        return refuse_name("a pattern: example.com or *.example.com", fault, why);
    copy_lower(text, out);
    return true;
}

enum { LOCAL_PART_MAX = 64 }; /* RFC 5321 section 4.5.3.1.1 */

/* The rule that text breaks as a local part without quotes (RFC 5322 section 3.2.3), or NULL. */
static const char *local_fault(const char *text, size_t len)
{
    if (len == 0)
        return "the name is missing";
    if (len > LOCAL_PART_MAX)
        return "the name is longer than 64 characters";
    if (text[0] == '|' || text[0] == '/' || text[0] == ':')
        return "programs, files and lists of /etc/aliases are not supported";
    for (size_t i = 0; i < len; i++) {
        bool dot = text[i] == '.';
        if (dot && (i == 0 || i + 1 == len || text[i - 1] == '.'))
            return "a dot at an end or next to another";
        if (!dot && !is_alnum(text[i]) && strchr("!#$%&'*+-/=?^_`{|}~", text[i]) == NULL)
            return "a character that an address has only within quotes";
    }
    return NULL;
}

bool value_mailbox(const char *text, bool needs_domain, struct reason *why)
{
    const char *what = needs_domain ? "an address such as admin@example.com"
                                    : "an address such as admin@example.com, or another name";
    char domain[VALUE_DOMAIN_SIZE];
    const char *at = strrchr(text, '@');
    if (text[0] == '\0')
        return refuse_name(what, "", why);
    const char *fault = local_fault(text, at != NULL ? (size_t)(at - text) : strlen(text));
    if (fault == NULL && at == NULL && needs_domain)
        fault = "the domain is missing";
    if (fault == NULL && at != NULL && !value_domain(at + 1, domain, why))
        fault = "what is behind the @ is no domain name";
    return fault == NULL || refuse_name(what, fault, why);
}

bool value_alias(const char *text, struct reason *why)
{
    const char *fault = local_fault(text, strlen(text));
    if (strchr(text, '@') != NULL)
        fault = "without the @ and what follows";
    return fault == NULL || refuse_name("the name of an alias, such as root", fault, why);
}

bool value_user(const char *text, struct reason *why)
{
    size_t len = strlen(text);
    bool good = len > 0 && len <= 64 && text[0] != '-';
    for (size_t i = 0; i < len; i++)
        good = good && (is_alnum(text[i]) || strchr("_-.", text[i]) != NULL);
    return good || reason_set(why, "expected the name of an account, such as mta");
}
