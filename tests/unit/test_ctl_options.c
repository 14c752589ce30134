/* The command line of mtactl, down to the request that the daemon gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mtactl/options.h"
#include "mta/mtactl/request.h"

#define ID1       "0123456789ABC"
#define ID2       "ZZZZZZZZZZZZZ"
#define WORDS_MAX 16

/* Split at blanks; `_` is an empty word. */
static int split(const char *line, char *space, size_t size, char *argv[WORDS_MAX])
{
    int argc = 0;
    char *save = NULL;
    assert_true((size_t)snprintf(space, size, "mtactl %s", line) < size);
    for (char *p = strtok_r(space, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save)) {
        assert_true(argc < WORDS_MAX - 1);
        argv[argc++] = strcmp(p, "_") == 0 ? p + 1 : p;
    }
    argv[argc] = NULL;
    return argc;
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *line, *request;
    } cases[] = {
        {"status", "{\"command\":\"status\"}"},
        {"--json status", "{\"command\":\"status\"}"},
        {"status --json --socket s", "{\"command\":\"status\"}"},
        {"--config=a=b reload", "{\"command\":\"reload\"}"},
        {"--config c --socket s status", "{\"command\":\"status\"}"},
        {"list", "{\"command\":\"list\"}"},
        {"list --all", "{\"command\":\"list\",\"all\":true}"},
        {"--limit 3 list", "{\"command\":\"list\",\"limit\":3}"},
        {"list --domain a.example --state deferred --older=2h",
         "{\"command\":\"list\",\"domain\":\"a.example\",\"state\":\"deferred\",\"older_s\":7200}"},
        {"list --sender a@a.example --recipient b@b.example",
         "{\"command\":\"list\",\"sender\":\"a@a.example\",\"recipient\":\"b@b.example\"}"},
        {"list --sender <a@a.example> --recipient=<b@b.example>",
         "{\"command\":\"list\",\"sender\":\"a@a.example\",\"recipient\":\"b@b.example\"}"},
        {"list --sender _", "{\"command\":\"list\",\"sender\":\"\"}"},
        {"list --sender=", "{\"command\":\"list\",\"sender\":\"\"}"},
        {"list --sender <>", "{\"command\":\"list\",\"sender\":\"\"}"},
        {"list --sender <", "{\"command\":\"list\",\"sender\":\"<\"}"},
        {"list --domain --x", "{\"command\":\"list\",\"domain\":\"--x\"}"},
        {"list --sender \xc3\xa9@a.example",
         "{\"command\":\"list\",\"sender\":\"\xc3\xa9@a.example\"}"},
        {"show " ID1, "{\"command\":\"show\",\"id\":\"" ID1 "\"}"},
        {"cat " ID1 " --json", "{\"command\":\"cat\",\"id\":\"" ID1 "\"}"},
        {"show -- " ID1, "{\"command\":\"show\",\"id\":\"" ID1 "\"}"},
        {"retry " ID1, "{\"command\":\"retry\",\"id\":\"" ID1 "\",\"lines\":20}"},
        {"retry --state deferred", "{\"command\":\"retry\",\"state\":\"deferred\",\"lines\":20}"},
        {"retry --all --verbose", "{\"command\":\"retry\",\"all\":true}"},
        {"retry --all --json", "{\"command\":\"retry\",\"all\":true}"},
        {"hold --domain a.example", "{\"command\":\"hold\",\"domain\":\"a.example\",\"lines\":20}"},
        {"release --state held --verbose", "{\"command\":\"release\",\"state\":\"held\"}"},
        {"delete --all --dry-run",
         "{\"command\":\"delete\",\"all\":true,\"dry_run\":true,\"lines\":20}"},
        {"delete --older 1d --verbose " ID1,
         "{\"command\":\"delete\",\"id\":\"" ID1 "\",\"older_s\":86400}"},
        {"queue check", "{\"command\":\"queue check\"}"},
        {"queue --json check --repair", "{\"command\":\"queue check\"}"},
        {"queue compact --socket s", "{\"command\":\"queue compact\"}"},
        {"queue backup 0123456789ABC", "{\"command\":\"queue backup\"}"},
        {"--config c queue restore --force f", "{\"command\":\"queue restore\"}"},
        {"delete --state damaged", "{\"command\":\"delete\",\"state\":\"damaged\",\"lines\":20}"},
        {"bounce --json --reason=a,b " ID1,
         "{\"command\":\"bounce\",\"id\":\"" ID1 "\",\"reason\":\"a,b\"}"},
        {"summary", "{\"command\":\"summary\"}"},
        {"summary --by sender --limit 5 --state deferred",
         "{\"command\":\"summary\",\"state\":\"deferred\",\"rows\":5,\"by\":\"sender\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char space[512];
        char error[512] = "";
        char *argv[WORDS_MAX];
        struct ctl_options options;
        int argc = split(cases[i].line, space, sizeof space, argv);
        if (ctl_options_parse(argc, argv, &options, error, sizeof error) < 0)
            fail_msg("%s: %s", cases[i].line, error);
        json_t *request = ctl_request_new(&options, options.id_count > 0 ? options.ids[0] : NULL);
        char *text = json_dumps(request, JSON_COMPACT);
        assert_string_equal(text, cases[i].request);
        assert_int_equal(options.json, strstr(cases[i].line, "--json") != NULL);
        free(text);
        json_decref(request);
        ctl_options_deinit(&options);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *error;
    } cases[] = {
        {"", "which command? see mtactl --help"},
        {"--json", "which command?"},
        {"stats", "unknown command \"stats\"; see mtactl --help"},
        {"suspend a.example", "suspend is not in this version (" MTA_VERSION ") of mtactl"},
        {"explain --all", "explain is not in this version"},
        {"dkim keygen", "dkim is not in this version"},
        {"queue", "queue: check, compact, backup or restore?"},
        {"queue queue", "queue: expected check, compact, backup or restore, not \"queue\""},
        {"queue list", "queue: expected check, compact, backup or restore, not \"list\""},
        {"compact", "unknown command \"compact\""},
        {"queue check x", "queue check takes no argument"},
        {"queue check --force", "--force does not go with queue check"},
        {"queue compact --repair", "--repair does not go with queue compact"},
        {"queue backup", "queue backup: which file?"},
        {"queue backup a b", "queue backup takes one file"},
        {"queue backup _", "this cannot be the name of a file"},
        {"user", "user: add, remove or list?"},
        {"user user", "user: expected add, remove or list, not \"user\""},
        {"user check", "user: expected add, remove or list, not \"check\""},
        {"user queue check", "user: expected add, remove or list, not \"queue\""},
        {"add x", "unknown command \"add\""},
        {"user add", "user add: which user?"},
        {"user remove", "user remove: which user?"},
        {"user add a b", "user add takes one name"},
        {"user list a", "user list takes no argument"},
        {"user list --sender a@b", "--sender does not go with user list"},
        {"user remove a --sender a@b", "--sender does not go with user remove"},
        {"user add a --sender", "--sender: needs a value"},
        {"user add a --socket s", "--socket does not go with user add"},
        {"list --sender a@b --sender c@d", "--sender is given twice"},
        {"queue restore a --socket s", "--socket does not go with queue restore"},
        {"queue restore a --all", "--all does not go with queue restore"},
        {"list --what", "unknown option \"--what\""},
        {"list -x", "unknown option \"-x\""},
        {"list -", "unknown option \"-\""},
        {"list --domain", "--domain: needs a value"},
        {"list --domain=", "--domain: needs a value"},
        {"list --domain _", "--domain: needs a value"},
        {"--socket _ status", "--socket: needs a value"},
        {"list --all=yes", "--all takes no value"},
        {"list --all --all", "--all is given twice"},
        {"list --domain a --domain b", "--domain is given twice"},
        {"list --limit 0", "--limit: expected a number from 1 on, not \"0\""},
        {"list --limit x", "--limit: expected a number"},
        {"list --limit -1", "--limit: expected a number"},
        {"list --limit 99999999999999999999", "--limit: expected a number"},
        {"list --older 2", "--older: expected a time such as 90s, 30m, 2h or 3d, not \"2\""},
        {"list --state new", "--state: expected queued, active, deferred, held or damaged"},
        {"list --sender \xff", "--sender: the value is not UTF-8"},
        {"list abc", "\"abc\" is not a message id"},
        {"list 0123456789AB!", "is not a message id"},
        {"list 0123456789ABCD", "is not a message id"},
        {"status x", "status takes no argument, but \"x\" was given"},
        {"status --domain a", "--domain does not go with status"},
        {"--limit 3 status", "--limit does not go with status"},
        {"list --dry-run", "--dry-run does not go with list"},
        {"retry --all --limit 3", "--limit does not go with retry"},
        {"check --socket s", "--socket does not go with check"},
        {"show", "show: which message? give its id"},
        {"cat --json", "cat: which message?"},
        {"show " ID1 " " ID2, "show takes one id"},
        {"show --all " ID1, "--all does not go with show"},
        {"delete", "delete: which messages? give ids, --domain, --sender,"},
        {"retry --dry-run", "retry: which messages?"},
        {"hold", "hold: which messages?"},
        {"release --verbose", "release: which messages?"},
        {"bounce --reason x", "bounce: which messages?"},
        {"bounce --all --reason=", "--reason: expected a text of at most 512 octets"},
        {"delete --all --reason x", "--reason does not go with delete"},
        {"list --verbose", "--verbose does not go with list"},
        {"summary " ID1, "summary takes no argument"},
        {"summary --by size", "--by: expected domain or sender, not \"size\""},
        {"list --by sender", "--by does not go with list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char space[512];
        char error[512] = "";
        char *argv[WORDS_MAX];
        struct ctl_options options;
        int argc = split(cases[i].line, space, sizeof space, argv);
        if (ctl_options_parse(argc, argv, &options, error, sizeof error) == 0)
            fail_msg("\"%s\" was accepted", cases[i].line);
        if (strstr(error, cases[i].error) == NULL)
            fail_msg("\"%s\": %s", cases[i].line, error);
        assert_int_equal(options.json, strstr(cases[i].line, "--json") != NULL);
        ctl_options_deinit(&options);
    }
}

static void test_several_ids(void **state)
{
    (void)state;
    char space[512];
    char error[512];
    char *argv[WORDS_MAX];
    struct ctl_options options;
    int argc = split("delete " ID1 " --dry-run " ID2 " --json", space, sizeof space, argv);
    assert_int_equal(ctl_options_parse(argc, argv, &options, error, sizeof error), 0);
    assert_int_equal(options.id_count, 2);
    assert_string_equal(options.ids[0], ID1);
    assert_string_equal(options.ids[1], ID2);
    assert_true(options.dry_run);
    assert_true(options.json);
    ctl_options_deinit(&options);
}

static void test_help(void **state)
{
    (void)state;
    static const struct {
        const char *line, *command; /* "": of the program */
    } cases[] = {
        {"--help", ""},
        {"-h", ""},
        {"help", ""},
        {"help list", "list"},
        {"list --help", "list"},
        {"--help cat", "cat"},
        {"show -h", "show"},
        {"--version", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char space[512];
        char error[512];
        char *argv[WORDS_MAX];
        struct ctl_options options;
        int argc = split(cases[i].line, space, sizeof space, argv);
        if (ctl_options_parse(argc, argv, &options, error, sizeof error) < 0)
            fail_msg("\"%s\": %s", cases[i].line, error);
        assert_true(options.help || options.version);
        assert_string_equal(options.command != NULL ? options.command->name : "", cases[i].command);
        ctl_options_deinit(&options);
    }
}

/* Every command is in the help of the program, and its own help names it and its options. */
static void test_help_texts(void **state)
{
    (void)state;
    char *program = ctl_help_text(NULL);
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        const struct ctl_command *command = ctl_command_at(i);
        char line[64];
        char *text = ctl_help_text(command);
        (void)snprintf(line, sizeof line, "\n  %-8s ", command->name);
        assert_non_null(strstr(program, line));
        (void)snprintf(line, sizeof line, "usage: mtactl %s", command->name);
        assert_ptr_equal(strstr(text, line), text);
        bool looks = command->verb == CTL_LIST || command->verb == CTL_SUMMARY;
        bool changes = ctl_command_changes(command);
        assert_int_equal(strstr(text, "--older 2h") != NULL, changes || looks);
        assert_int_equal(strstr(text, "  --dry-run  ") != NULL, changes);
        assert_int_equal(strstr(text, "  --reason TEXT") != NULL, command->verb == CTL_BOUNCE);
        assert_int_equal(strstr(text, "  --by WHAT") != NULL, command->verb == CTL_SUMMARY);
        assert_non_null(strstr(text, "--json"));
        free(text);
    }
    free(program);
}

static void test_users(void **state)
{
    char space[256], error[256];
    char *argv[WORDS_MAX];
    struct ctl_options options;
    (void)state;

    int argc =
        split("--sender a@b user add bob --json --sender=@c --sender *", space, sizeof space, argv);
    assert_int_equal(ctl_options_parse(argc, argv, &options, error, sizeof error), 0);
    assert_int_equal(options.command->verb, CTL_USER_ADD);
    assert_true(ctl_command_is_user(options.command));
    assert_false(ctl_command_is_queue(options.command));
    assert_string_equal(options.name, "bob");
    assert_int_equal(options.sender_count, 3);
    assert_string_equal(options.senders[0], "a@b");
    assert_string_equal(options.senders[1], "@c");
    assert_string_equal(options.senders[2], "*");
    ctl_options_deinit(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),   cmocka_unit_test(test_requests),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_several_ids),
        cmocka_unit_test(test_help),    cmocka_unit_test(test_help_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
