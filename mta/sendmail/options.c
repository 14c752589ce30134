/* mta/sendmail/options.c - see options.h. The table tells which letters there are and where their
 * values stand; applications rely on all of them being taken. */
#include "mta/sendmail/options.h"

#include <stdio.h>
#include <string.h>

enum value_place {
    NO_VALUE,
    VALUE,    /* behind the letter, or the next word */
    ATTACHED, /* behind the letter or nowhere: -q, -q30m */
};

static const struct letter_row {
    char letter;
    enum value_place place;
} letters[] = {
    {'A', VALUE},    {'B', VALUE},    {'C', VALUE},    {'E', NO_VALUE}, {'F', VALUE},
    {'G', NO_VALUE}, {'I', NO_VALUE}, {'L', VALUE},    {'N', VALUE},    {'O', VALUE},
    {'R', VALUE},    {'U', NO_VALUE}, {'V', VALUE},    {'X', VALUE},    {'b', VALUE},
    {'c', NO_VALUE}, {'d', ATTACHED}, {'e', VALUE},    {'f', VALUE},    {'h', VALUE},
    {'i', NO_VALUE}, {'m', NO_VALUE}, {'n', NO_VALUE}, {'o', VALUE},    {'p', VALUE},
    {'q', ATTACHED}, {'r', VALUE},    {'s', NO_VALUE}, {'t', NO_VALUE}, {'v', NO_VALUE},
    {'x', NO_VALUE},
};

struct parser {
    int argc, next;
    char **argv;
    struct sendmail_options *options;
    char *error;
    size_t error_size;
};

#define FAIL(parser, ...) ((void)snprintf((parser)->error, (parser)->error_size, __VA_ARGS__), -1)

static const struct letter_row *find_letter(char letter)
{
    for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++) {
        if (letters[i].letter == letter)
            return &letters[i];
    }
    return NULL;
}

/* ---- values ---- */

static int read_mode(struct parser *parser, const char *value)
{
    struct sendmail_options *options = parser->options;
    static const struct {
        const char *value;
        enum sendmail_mode mode;
    } modes[] = {
        {"m", SENDMAIL_SEND}, {"a", SENDMAIL_SEND},    {"s", SENDMAIL_SMTP},
        {"p", SENDMAIL_LIST}, {"i", SENDMAIL_NOTHING},
    };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i].value, value) == 0) {
            options->mode = modes[i].mode;
            return 0;
        }
    }
    return FAIL(parser, "-b%s is not supported: mtad is the daemon, mtactl looks into it", value);
}

static int read_body(struct parser *parser, const char *value)
{
    struct str given = str_from(value);
    parser->options->body_8bit = str_equal_nocase(given, STR("8BITMIME"));
    if (!parser->options->body_8bit && !str_equal_nocase(given, STR("7BIT")))
        return FAIL(parser, "-B: expected 7BIT or 8BITMIME, not \"%s\"", value);
    return 0;
}

static int read_ret(struct parser *parser, const char *value)
{
    struct str given = str_from(value);
    if (str_equal_nocase(given, STR("full")))
        parser->options->ret = "FULL";
    else if (str_equal_nocase(given, STR("hdrs")))
        parser->options->ret = "HDRS";
    else
        return FAIL(parser, "-R: expected full or hdrs, not \"%s\"", value);
    return 0;
}

enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };

/* NEVER goes alone (RFC 3461 section 4.1); each of the others is said once. */
static int read_notify(struct parser *parser, const char *value)
{
    static const char *const names[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    struct sendmail_options *options = parser->options;
    struct str rest = str_from(value);
    unsigned given = 0;
    bool more = true;

    while (more) {
        const char *comma = memchr(rest.p, ',', rest.len);
        struct str word = {rest.p, comma != NULL ? (size_t)(comma - rest.p) : rest.len};
        unsigned bit = 0;
        for (unsigned i = 0; i < 4; i++) {
            if (str_equal_nocase(str_trim(word), str_from(names[i])))
                bit = 1U << i;
        }
        if (bit == 0)
            return FAIL(parser, "-N: expected never, or some of success,failure,delay, not \"%s\"",
                        value);
        given |= bit;
        more = comma != NULL;
        rest = str_skip(rest, word.len + 1);
    }
    if ((given & NOTIFY_NEVER) != 0 && given != NOTIFY_NEVER)
        return FAIL(parser, "-N: never goes with nothing else");
    options->notify_text[0] = '\0';
    for (unsigned i = 0; i < 4; i++) {
        size_t len = strlen(options->notify_text);
        if ((given & 1U << i) != 0)
            (void)snprintf(options->notify_text + len, sizeof options->notify_text - len, "%s%s",
                           len > 0 ? "," : "", names[i]);
    }
    options->notify = options->notify_text;
    return 0;
}

/* RFC 3461 section 4.4: printable, at most 100 characters when encoded. */
static int read_envid(struct parser *parser, const char *value)
{
    size_t encoded = 0;
    for (const char *p = value; *p != '\0'; p++) {
        if (*p < ' ' || *p >= 0x7f)
            return FAIL(parser, "-V: expected printable ASCII");
        encoded += *p == ' ' || *p == '+' || *p == '=' ? 3 : 1;
    }
    if (encoded == 0 || encoded > 100)
        return FAIL(parser, "-V: expected 1 to 100 characters");
    parser->options->envid = value;
    return 0;
}

/* ---- words of the line ---- */

static int take_letter(struct parser *parser, char letter, const char *value)
{
    struct sendmail_options *options = parser->options;
    switch (letter) {
    case 'B':
        return read_body(parser, value);
    case 'C':
        options->config = value;
        return 0;
    case 'F':
        options->name = value;
        return 0;
    case 'I':
    case 'q':
        options->mode = SENDMAIL_NOTHING;
        return 0;
    case 'N':
        return read_notify(parser, value);
    case 'R':
        return read_ret(parser, value);
    case 'V':
        return read_envid(parser, value);
    case 'b':
        return read_mode(parser, value);
    case 'f':
    case 'r':
        options->sender = value;
        return 0;
    case 'i':
        options->ignore_dot = true;
        return 0;
    case 'o':
        if (strcmp(value, "i") == 0)
            options->ignore_dot = true;
        return 0;
    case 't':
        options->from_header = true;
        return 0;
    default: /* for another vendor's delivery */
        return 0;
    }
}

static int take_letters(struct parser *parser, const char *word)
{
    for (const char *p = word + 1; *p != '\0'; p++) {
        const struct letter_row *row = find_letter(*p);
        if (row == NULL)
            return FAIL(parser, "unknown option -%c in \"%s\"; see mta-sendmail --help", *p, word);
        const char *value = p + 1;
        if (row->place == VALUE && *value == '\0') {
            if (parser->next == parser->argc)
                return FAIL(parser, "-%c: needs a value", *p);
            value = parser->argv[parser->next++];
        }
        if (take_letter(parser, *p, value) < 0)
            return -1;
        if (row->place != NO_VALUE)
            break;
    }
    return 0;
}

static int take_word(struct parser *parser, const char *word)
{
    if (strcmp(word, "--help") == 0)
        parser->options->mode = SENDMAIL_HELP;
    else if (strcmp(word, "--version") == 0)
        parser->options->mode = SENDMAIL_VERSION;
    else if (word[1] == '-' || word[1] == '\0')
        return FAIL(parser, "unknown option \"%s\"; see mta-sendmail --help", word);
    else
        return take_letters(parser, word);
    return 0;
}

static enum sendmail_mode mode_of_name(const char *program)
{
    const char *slash = strrchr(program, '/');
    const char *name = slash != NULL ? slash + 1 : program;
    if (strcmp(name, "mailq") == 0)
        return SENDMAIL_LIST;
    return strcmp(name, "newaliases") == 0 ? SENDMAIL_NOTHING : SENDMAIL_SEND;
}

/* The recipients are what follows the options: sendmail(1) knows none behind the first of them, but
 * "sendmail bob -f anna" is seen in the field. They are moved to the end of argv. */
int sendmail_options_parse(int argc, char **argv, struct sendmail_options *options_out, char *error,
                           size_t error_size)
{
    struct sendmail_options options = {.mode = SENDMAIL_SEND, .notify = ""};
    struct parser parser = {.argc = argc,
                            .next = 1,
                            .argv = argv,
                            .options = options_out,
                            .error = error,
                            .error_size = error_size};
    int kept = 0;
    bool only_words = false;

    if (argc > 0)
        options.mode = mode_of_name(argv[0]);
    *options_out = options;
    while (parser.next < argc) {
        char *word = argv[parser.next++];
        if (only_words || word[0] != '-') {
            argv[kept++] = word; /* never behind next: the slot of a word that was read */
            continue;
        }
        only_words = strcmp(word, "--") == 0;
        if (!only_words && take_word(&parser, word) < 0)
            return -1;
    }
    options_out->recipients = argv;
    options_out->recipient_count = (size_t)kept;
    return 0;
}

const char *sendmail_help_text(void)
{
    return "usage: mta-sendmail [options] [--] [recipient ...]   a message from standard input\n"
           "       mta-sendmail -bs                              SMTP on standard input and "
           "output\n"
           "       mta-sendmail -bp                              the queue, as mtactl list shows "
           "it\n"
           "\n"
           "  -t             recipients also from To, Cc and Bcc; Bcc is taken out. Where there "
           "is\n"
           "                 a Resent-To, -Cc or -Bcc, from these instead\n"
           "  -i, -oi        a line with a single dot does not end the message\n"
           "  -f ADDRESS     the envelope sender; also -r. Default: the account's name\n"
           "  -F NAME        the full name, for a message without From\n"
           "  -N never | success,failure,delay   which reports the sender wants\n"
           "  -R full|hdrs   what of the message a report returns\n"
           "  -V ID          an envelope id, returned in reports\n"
           "  -B 7BIT|8BITMIME\n"
           "  -C FILE        mtad's configuration; default /etc/mta/mta.yaml where it can be "
           "read.\n"
           "                 Its first unix socket is used, else /run/mta/submission\n"
           "  -bm            the default; -bi, -I and -q do nothing: mtad needs no telling\n"
           "  -o..., -O, -e, -h, -m, -v and others of sendmail(1) are read over\n"
           "  --help, --version\n"
           "\n"
           "Exit, as sysexits.h has it: 0 in the queue, 64 usage, 65 the message or an address is\n"
           "wrong, 67 no such recipient, 68 no such host, 69 refused, 74 input or output failed,\n"
           "75 try again later (mtad does not run, say), 76 protocol, 77 not permitted, 78 the\n"
           "configuration. Anything but 0: no recipient gets it.\n";
}
