/* The command lines that applications really use, and those that cannot be meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mta/sendmail/options.h"

#define WORDS_MAX 32

struct line {
    char text[400];
    char *argv[WORDS_MAX];
    struct sendmail_options options;
    char error[300];
    int rc;
};

/* Words are separated by '|'. */
static void parse(struct line *line, const char *text)
{
    int argc = 0;
    memset(line, 0, sizeof *line);
    (void)snprintf(line->text, sizeof line->text, "%s", text);
    for (char *p = line->text; p != NULL && argc < WORDS_MAX;) {
        line->argv[argc++] = p;
        p = strchr(p, '|');
        if (p != NULL)
            *p++ = '\0';
    }
    line->rc =
        sendmail_options_parse(argc, line->argv, &line->options, line->error, sizeof line->error);
}

/* What was read, in one text. */
static void describe(const struct sendmail_options *options, char *out, size_t size)
{
    static const char *const modes[] = {"send", "smtp", "list", "nothing", "help", "version"};
    size_t len = (size_t)snprintf(out, size, "%s%s%s%s", modes[options->mode],
                                  options->from_header ? " t" : "", options->ignore_dot ? " i" : "",
                                  options->body_8bit ? " 8" : "");
    const struct {
        const char *name, *value;
    } values[] = {
        {"C", options->config}, {"f", options->sender},
        {"F", options->name},   {"N", options->notify[0] != '\0' ? options->notify : NULL},
        {"R", options->ret},    {"V", options->envid}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (values[i].value != NULL)
            len +=
                (size_t)snprintf(out + len, size - len, " %s=%s", values[i].name, values[i].value);
    }
    for (size_t i = 0; i < options->recipient_count; i++)
        len += (size_t)snprintf(out + len, size - len, " <%s>", options->recipients[i]);
}

static const struct row {
    const char *line, *read;
} rows[] = {
    {"sendmail|a@b", "send <a@b>"},
    {"sendmail", "send"},
    {"/usr/sbin/sendmail|-t|-i", "send t i"}, /* PHP */
    {"sendmail|-ti", "send t i"},
    {"sendmail|-it|--|a@b", "send t i <a@b>"},
    {"sendmail|-FCronDaemon|-i|-odi|-oem|-oi|-t|-f|root", "send t i f=root F=CronDaemon"},
    {"sendmail|-FCronDaemon|-i|-B8BITMIME|-oem|root", "send i 8 F=CronDaemon <root>"},
    {"sendmail|-oem|-oi|-f|anna@b|--|a@b|c@d", "send i f=anna@b <a@b> <c@d>"}, /* mutt */
    {"sendmail|-oem|-oi|-N|failure,delay|-R|hdrs|-B8BITMIME|a@b",
     "send i 8 N=FAILURE,DELAY R=HDRS <a@b>"},
    {"sendmail|-i|a@b|-f|x@y|c@d", "send i f=x@y <a@b> <c@d>"},
    {"sendmail|-tif|anna", "send t i f=anna"},
    {"sendmail|-tifanna", "send t i f=anna"},
    {"sendmail|-f||a@b", "send f= <a@b>"},
    {"sendmail|-f<>|a@b", "send f=<> <a@b>"},
    {"sendmail|-r|x@y|-fz@y|a@b", "send f=z@y <a@b>"},
    {"sendmail|-o|i|a@b", "send i <a@b>"},
    {"sendmail|-oTx|-O|IgnoreDots|-eq|-e|m|-m|-n|-v|-U|-G|-x|-L|tag|-X|log|-h|3|-h30|-pSMTP:h|a@b",
     "send <a@b>"},
    {"sendmail|-d0.1|-d|a@b", "send <a@b>"},
    {"sendmail|-Ac|-A|m|a@b", "send <a@b>"},
    {"sendmail|--|-f|a@b", "send <-f> <a@b>"},
    {"sendmail|-N|never|-V|id 7|a@b", "send N=NEVER V=id 7 <a@b>"},
    {"sendmail|-Nsuccess,failure,success|a@b", "send N=SUCCESS,FAILURE <a@b>"},
    {"sendmail|-Rfull|-B|7bit|a@b", "send R=FULL <a@b>"},
    {"sendmail|-bm|a@b", "send <a@b>"},
    {"sendmail|-bs", "smtp"},
    {"sendmail|-b|s|-C|/x/y.yaml", "smtp C=/x/y.yaml"},
    {"sendmail|-bp", "list"},
    {"mailq", "list"},
    {"/usr/bin/mailq|-v", "list"},
    {"sendmail|-bi", "nothing"},
    {"newaliases", "nothing"},
    {"sendmail|-q", "nothing"},
    {"sendmail|-q30m", "nothing"},
    {"sendmail|--help", "help"},
    {"sendmail|--version", "version"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct line line;
        char read[400];
        parse(&line, rows[i].line);
        if (line.rc < 0)
            fail_msg("%s: %s", rows[i].line, line.error);
        describe(&line.options, read, sizeof read);
        if (strcmp(read, rows[i].read) != 0)
            fail_msg("%s: %s", rows[i].line, read);
    }
}

static void test_wrong(void **state)
{
    (void)state;
    static const struct row wrong[] = {
        {"sendmail|-f", "-f: needs a value"},
        {"sendmail|-tif", "-f: needs a value"},
        {"sendmail|-Z", "unknown option -Z in \"-Z\"; see mta-sendmail --help"},
        {"sendmail|-iZ", "unknown option -Z in \"-iZ\"; see mta-sendmail --help"},
        {"sendmail|-", "unknown option \"-\"; see mta-sendmail --help"},
        {"sendmail|--config|x", "unknown option \"--config\"; see mta-sendmail --help"},
        {"sendmail|-bd", "-bd is not supported: mtad is the daemon, mtactl looks into it"},
        {"sendmail|-b|", "-b is not supported: mtad is the daemon, mtactl looks into it"},
        {"sendmail|-BX", "-B: expected 7BIT or 8BITMIME, not \"X\""},
        {"sendmail|-R|x", "-R: expected full or hdrs, not \"x\""},
        {"sendmail|-Nalways",
         "-N: expected never, or some of success,failure,delay, not \"always\""},
        {"sendmail|-Nsuccess,",
         "-N: expected never, or some of success,failure,delay, not \"success,\""},
        {"sendmail|-Nnever,success", "-N: never goes with nothing else"},
        {"sendmail|-V\t", "-V: expected printable ASCII"},
        {"sendmail|-V|", "-V: expected 1 to 100 characters"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct line line;
        parse(&line, wrong[i].line);
        assert_int_equal(line.rc, -1);
        assert_string_equal(line.error, wrong[i].read);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
