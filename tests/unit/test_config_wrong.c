/* Wrong files: each is refused with its place, its key and what was expected (cases O37). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

#define H "hostname: a.example\n" /* line 1 of most cases */

#define LABEL_27 "abcdefghijklmnopqrstuvwxyz."
#define T        "tls: {certificate: c.pem, key: k.pem}\n"

struct wrong {
    const char *yaml;
    const char *text; /* beginning of what follows "f:" */
};

static void refuse(const char *yaml, size_t len, const char *text)
{
    /* exactly sized, so that the sanitizer sees a read beyond the end */
    char *bytes = malloc(len > 0 ? len : 1);
    const struct config *config = NULL;
    struct config_error error = {""};
    assert_non_null(bytes);
    memcpy(bytes, yaml, len);
    int rc = config_parse(bytes, len, "f", "/etc/mta", &config, &error);
    free(bytes);
    if (rc == 0 || strncmp(error.text, "f:", 2) != 0 ||
        strncmp(error.text + 2, text, strlen(text)) != 0)
        fail_msg("%.*s\n  got: %s\n  expected: f:%s", (int)(len < 300 ? len : 300), yaml,
                 rc == 0 ? "0" : error.text, text);
    assert_null(config);
}

static void refuse_all(const struct wrong *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        refuse(cases[i].yaml, strlen(cases[i].yaml), cases[i].text);
}

#define REFUSE_ALL(cases) refuse_all(cases, sizeof(cases) / sizeof(cases)[0])

static void test_unknown_keys(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {"lisen: 587\n", "1:1: lisen: unknown key; did you mean `listeners`?"},
        {H "dkim: {domian: x}\n", "2:8: dkim.domian: unknown key; did you mean `domain`?"},
        {H "dkim:\n  - domian: x\n", "3:5: dkim.domian: unknown key; did you mean `domain`?"},
        {"Hostname: a.example\n", "1:1: Hostname: unknown key; did you mean `hostname`?"},
        {H "max-hops: 3\n", "2:1: max-hops: unknown key; did you mean `max_hops`?"},
        {H "timeouts: {conect: 1s}\n",
         "2:12: timeouts.conect: unknown key; did you mean `connect`?"},
        /* at the wrong level */
        {H "port: 25\n", "2:1: port: unknown key; `port` belongs inside delivery"},
        {H "selector: s1\n", "2:1: selector: unknown key; `selector` belongs inside dkim"},
        {H "domain: x\n", "2:1: domain: unknown key; `domain` belongs inside dkim"},
        {H "key: x\n", "2:1: key: unknown key; `key` belongs inside tls or inside dkim"},
        {H "delivery:\n  max_hops: 3\n",
         "3:3: delivery.max_hops: unknown key; `max_hops` belongs at the top level"},
        {H "delivery: {site: {port: 25}}\n",
         "2:19: delivery.site.port: unknown key; `port` belongs inside delivery"},
        {H "prot: 25\n",
         "2:1: prot: unknown key; did you mean `routes` or `port` inside delivery?"},
        {H "selektor: s1\n", "2:1: selektor: unknown key; did you mean `selector` inside dkim?"},
        {H "queue: {zzz: 1}\n", "2:9: queue.zzz: unknown key; expected one of max_size"},
        {H "foo: 1\n", "2:1: foo: unknown key; expected one of hostname, state_dir"},
        {H "? ''\n: 1\n", "2:3: : unknown key; expected one of hostname"},
        {H "a_key_that_is_longer_than_all_that_there_are_in_the_table: 1\n",
         "2:1: a_key_that_is_longer_than_all_that_there_are_in_: unknown key; expected one of "},
        {H "metrics: {adress: \"127.0.0.1:9587\"}\n",
         "2:11: metrics.adress: unknown key; did you mean `address`?"},
        {H "metric: {address: \"127.0.0.1:9587\"}\n",
         "2:1: metric: unknown key; did you mean `metrics`?"},
        {H "retry: {warning: 4h}\n", "2:9: retry.warning: unknown key; did you mean `warn`?"},
        {H "warn: 4h\n", "2:1: warn: unknown key; `warn` belongs inside retry"},
        {H "queue: {units_in_memory: 5000}\n", "2:9: queue.units_in_memory: unknown key; "
                                               "`units_in_memory` belongs inside delivery"},
        /* given twice */
        {H "max_hops: 3\nhostname: b.example\n",
         "3:1: hostname: given twice: the first is at line 1"},
        {H "delivery: {port: 25, port: 26}\n",
         "2:22: delivery.port: given twice: the first is at line 2"},
    };
    REFUSE_ALL(cases);
}

static void test_yaml(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {"", "1:1: the file is empty: expected a mapping of settings"},
        {"\n\n", "1:1: the file is empty: "},
        {"# nothing\n", "1:1: the file is empty: "},
        {"---\n", "1:1: the file is empty: "},
        {"\xef\xbb\xbf", "1:1: the file is empty: "},
        {"hello\n",
         "1:1: expected a mapping of settings (lines of \"name: value\"), found \"hello\""},
        {"- a\n", "1:1: expected a mapping of settings (lines of \"name: value\"), found a list"},
        {"tls:\n\tkey: a\n", "2:1: a tab in the indentation: use spaces"},
        {"tls:\n  ca: a\n  \tkey: a\n", "3:3: a tab in the indentation: use spaces"},
        {H "a\xff: 1\n", "2:2: not valid UTF-8"},
        {H "# \xc3\xa4\xc3\n", "2:4: not valid UTF-8"},
        {H "\xc0\xaf: 1\n", "2:1: not valid UTF-8"},         /* overlong */
        {H "\xed\xa0\x80: 1\n", "2:1: not valid UTF-8"},     /* surrogate */
        {H "\xf4\x90\x80\x80: 1\n", "2:1: not valid UTF-8"}, /* beyond U+10FFFF */
        {H "user: \xf0\x9f\x98", "2:7: not valid UTF-8"},    /* cut */
        {"\xff\xfeh\x01", "1:1: not valid UTF-8"},           /* UTF-16 */
        {H "user: a\x01\n", "2:8: a control character (code 1) in the file"},
        {H "user: a\x7f\n", "2:8: a control character (code 127) in the file"},
        {H "user: \xc2\x9b\n", "2:7: a control character (code 155) in the file"},
        {H "user: \"a\\0b\"\n", "2:7: a value must be one line without control characters"},
        {H "user: \"a\\n\"\n", "2:7: a value must be one line"},
        {H "user: \"\\x9b\"\n", "2:7: a value must be one line"},
        {H "user: |\n  mta\n", "2:7: a value must be one line"},
        {H "user: &a mta\n", "2:7: anchors (&name) are not supported"},
        {H "tls: &a {key: k}\n", "2:6: anchors (&name) are not supported"},
        {H "dns: {servers: &a [127.0.0.1]}\n", "2:16: anchors (&name) are not supported"},
        {H "user: *a\n", "2:7: aliases (*name) are not supported"},
        {H "user: !!str mta\n", "2:7: tags (!name) are not supported"},
        {H "tls: !x {key: k}\n", "2:6: tags (!name) are not supported"},
        {H "tls: {<<: {key: k}}\n", "2:7: merge keys (<<) are not supported"},
        {H "---\n" H, "2:1: a second document (---)"},
        {H "...\n---\n" H, "3:1: a second document (---)"},
        {"%YAML 1.1\n---\n" H, "1:1: directives (%NAME) are not supported"},
        {H "[a]: 1\n", "2:1: expected a name as key, found a list or mapping"},
        {H "{a: 1}: 1\n", "2:1: expected a name as key, found a list or mapping"},
        {H "tls: {key: [[[[[[[[[[[[a]]]]]]]]]]]]}\n", "2:20: nested too deep for a configuration"},
        {H "  user: a\n", "2:7: not valid YAML: mapping values are not allowed in this context"},
        {H "user: \"mta\n", "3:1: not valid YAML: found unexpected end of stream, while scanning a "
                            "quoted scalar that began at line 2"},
        {H "dns: {servers: [127.0.0.1\n", "3:1: not valid YAML: did not find expected"},
        {H "user: @a\n", "2:7: not valid YAML: found character that cannot start any token"},
    };
    REFUSE_ALL(cases);
    refuse("a\0b", 3, "1:2: a control character (code 0) in the file");
}

/* An address in brackets that lacks its quotes is a list to YAML: the message says so. */
static void test_quotes_hint(void **state)
{
    (void)state;
    static const char *const cases[] = {
        H "listeners:\n  - address: [::1]:587\n",
        H "listeners:\n  - address: [127.0.0.1:587, [::1]:587]\n",
        H "listeners:\n  - {address: [::1]:587}\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct config *config = NULL;
        struct config_error error = {""};
        assert_int_equal(config_parse(cases[i], strlen(cases[i]), "f", "/", &config, &error), -1);
        if (strncmp(error.text, "f:3:", 4) != 0 || strstr(error.text, "needs quotes") == NULL)
            fail_msg("%s\n  got: %s", cases[i], error.text);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {H "delivery: [a]\n", "2:11: delivery: expected a mapping (name: value), found a list"},
        {H "delivery: a\n", "2:11: delivery: expected a mapping (name: value), found \"a\""},
        {H "delivery:\n", "2:10: delivery: expected a mapping (name: value), found nothing"},
        {H "listeners: {address: \"127.0.0.1:25\"}\n",
         "2:12: listeners: expected a list of mappings, each begun by \"- \", found a mapping"},
        {H "listeners: x\n", "2:12: listeners: expected a list of mappings, each begun by \"- \", "
                             "found \"x\""},
        {H "listeners: [x]\n", "2:13: listeners: expected a mapping (name: value) in each \"- \", "
                               "found \"x\""},
        {H "listeners: []\n", "2:12: listeners: expected at least one entry"},
        {H "routes: [{to: }]\n", "2:15: routes.to: expected host:port such as"},
        {H "routes: [{to: [[a]]}]\n", "2:16: routes.to: expected host:port such as"},
        {H "dns: {servers: {a: b}}\n", "2:16: dns.servers: expected an IP address, with or"},
        {H "log: {to: [a.log]}\n", "2:11: log.to: expected stderr, syslog or a file"},
        {H "delivery: {source: {ipv4: }}\n", "2:27: delivery.source.ipv4: expected an IPv4"},
        {H "listeners: [{trusted: [[]]}]\n", "2:24: listeners.trusted: expected an address"},
        {H "routes: [{match: {recipients: [{}]}}]\n",
         "2:32: routes.match.recipients: expected a pattern"},
        {H "dns: {servers: []}\n", "2:16: dns.servers: expected at least one entry"},
        {H "routes: [{to: []}]\n", "2:15: routes.to: expected at least one entry"},
        {H "routes: [{match: {recipients: a.example}}]\n",
         "2:31: routes.match.recipients: expected a list in [ ], found \"a.example\""},
        {H "user: [mta]\n",
         "2:7: user: expected the name of an account, such as mta, found a list"},
        {H "user: {a: b}\n", "2:7: user: expected the name of an account, such as mta, found a "
                             "mapping"},
        {H "user:\n", "2:6: user: expected the name of an account, such as mta, found nothing"},
        {H "user: ~\n", "2:7: user: expected the name of an account, such as mta, found \"~\""},
        {H "user: null\n",
         "2:7: user: expected the name of an account, such as mta, found \"null\""},
        {"hostname: [a]\n", "1:11: hostname: expected a full host name such as mail.example.com, "
                            "found a list"},
        {H "dkim: [{domain: a.example, selector: s1}]\n",
         "2:8: dkim.key: missing: expected the path"},
        {H "dkim: [{selector: s1, key: k}]\n", "2:8: dkim.domain: missing: expected a domain name"},
        {H "dkim: [{domain: a.example, key: k}]\n",
         "2:8: dkim.selector: missing: expected a DKIM selector"},
        {H "listeners: [{role: relay}]\n",
         "2:13: listeners.address: missing: expected an IP address and port such as "},
    };
    REFUSE_ALL(cases);
}

static void test_values(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {H "delivery: {port: \"587 \"}\n",
         "2:18: delivery.port: expected a number from 1 to 65535, found \"587 \""},
        {H "delivery: {port: 0}\n", "2:18: delivery.port: expected a number from 1 to 65535"},
        {H "delivery: {port: 65536}\n", "2:18: delivery.port: expected a number from 1 to 65535"},
        {H "delivery: {tls: requird}\n", "2:17: delivery.tls: expected off, opportunistic, encrypt "
                                         "or verify, found \"requird\""},
        {H "listeners: [{address: \"127.0.0.1:25\", tls: requird}]\n",
         "2:44: listeners.tls: expected off, optional, required or implicit, found \"requird\""},
        {H "delivery: {tls: no}\n", "2:17: delivery.tls: expected off, opportunistic"},
        {H "delivery: {ip: 5}\n", "2:16: delivery.ip: expected any, 4 or 6, found \"5\""},
        {H "delivery: {allow_private_addresses: yes}\n",
         "2:37: delivery.allow_private_addresses: expected true or false, found \"yes\""},
        {H "delivery: {dane: yes}\n", "2:18: delivery.dane: expected true or false, found \"yes\""},
        {H "delivery: {source: {ipv4: \"::1\"}}\n",
         "2:27: delivery.source.ipv4: expected an IPv4 address of this machine"},
        {H "delivery: {source: {ipv6: 192.0.2.1}}\n",
         "2:27: delivery.source.ipv6: expected an IPv6 address of this machine"},
        {H "delivery: {site: {connections: 0}}\n",
         "2:32: delivery.site.connections: expected a number from 1 to 10000"},
        {H "max_hops: 0x10\n", "2:11: max_hops: expected a number from 1 to 1000, found \"0x10\""},
        {H "max_hops: 010\n", "2:11: max_hops: expected a number from 1 to 1000, found \"010\""},
        {H "queue: {max_size: 10GB}\n", "2:19: queue.max_size: expected a size such as 50MiB"},
        {H "queue: {max_size: 1KiB}\n",
         "2:19: queue.max_size: expected a size from 1MiB to 65536GiB, found \"1KiB\""},
        {H "queue: {max_size: 99999999999999999999GiB}\n",
         "2:19: queue.max_size: expected a size from 1MiB"},
        {H "timeouts: {total: 30}\n", "2:19: timeouts.total: expected a duration such as 30s (a "
                                      "number with its unit ms, s, m, h or d directly behind it), "
                                      "found \"30\""},
        {H "timeouts: {total: 1ms}\n",
         "2:19: timeouts.total: expected a duration from 10ms to 7d, found \"1ms\""},
        {H "timeouts: {total: 99999999999999999999d}\n",
         "2:19: timeouts.total: expected a duration from 10ms to 7d"},
        {H "retry: {intervals: []}\n", "2:20: retry.intervals: expected at least one entry"},
        {H "retry: {intervals: 5m}\n", "2:20: retry.intervals: expected a list in [ ]"},
        {H "retry: {intervals: [5m, 0s]}\n",
         "2:25: retry.intervals: expected a duration from 1s to 30d, found \"0s\""},
        {H "retry: {intervals: [31d]}\n",
         "2:21: retry.intervals: expected a duration from 1s to 30d"},
        {H "retry: {expire: 0s}\n", "2:17: retry.expire: expected a duration from 1s to 365d"},
        {H "retry: {warn: 0s}\n",
         "2:15: retry.warn: expected off or a duration from 1s to 365d, found \"0s\""},
        {H "retry: {warn: on}\n", "2:15: retry.warn: expected off or a duration such as 30s (a "
                                  "number with its unit ms, s, m, h or d directly behind it), "
                                  "found \"on\""},
        {H "retry: {warn: [4h]}\n", "2:15: retry.warn: expected off or a duration such as 30s"},
        {H "delivery: {units_in_memory: 999}\n",
         "2:29: delivery.units_in_memory: expected a number from 1000 to 1000000, found \"999\""},
        {H "delivery: {units_in_memory: 1000001}\n",
         "2:29: delivery.units_in_memory: expected a number from 1000 to 1000000"},
        {H "log: {to: stdrr}\n", "2:11: log.to: expected stderr, syslog or a file"},
        {H "log: {format: xml}\n", "2:15: log.format: expected json or text, found \"xml\""},
        {H "user: 'a b'\n", "2:7: user: expected the name of an account"},
        {H "state_dir: ''\n", "2:12: state_dir: expected the path of a file"},
        {H "state_dir: ~/mta\n", "2:12: state_dir: expected a path (~ means"},
        {"hostname: mail\n",
         "1:11: hostname: expected a full host name such as mail.example.com (it "
         "has no dot), found \"mail\""},
        {"hostname: pc.local\n", "1:11: hostname: expected a full host name such as "
                                 "mail.example.com (.local names mean nothing to other machines)"},
        {"hostname: pc.LOCAL\n", "1:11: hostname: expected a full host name"},
        {"hostname: 192.0.2.1\n", "1:11: hostname: expected a full host name such as "
                                  "mail.example.com (the last part is a number)"},
    };
    REFUSE_ALL(cases);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {H "listeners: [{address: 587}]\n",
         "2:23: listeners.address: expected an IP address and port such as 127.0.0.1:587"},
        {H "listeners: [{address: \"localhost:587\"}]\n",
         "2:23: listeners.address: expected an IP"},
        {H "listeners: [{address: [\"127.0.0.1:587 \"]}]\n",
         "2:24: listeners.address: expected an IP address and port such as 127.0.0.1:587 or "
         "\"[::1]:587\" (a port is a number from 1 to 65535), found \"127.0.0.1:587 \""},
        {H "listeners: [{address: \"::1:587\"}]\n",
         "2:23: listeners.address: expected an IP address and port such as 127.0.0.1:587 or "
         "\"[::1]:587\" (IPv6 in brackets)"},
        {H "listeners: [{address: a, trusted: [10.0.0.1/8]}]\n", "2:23: listeners.address: "},
        {H "listeners: [{trusted: [10.0.0.1/8]}]\n",
         "2:24: listeners.trusted: expected an address or network such as 192.0.2.0/24 or "
         "\"2001:db8::/32\" (bits behind the prefix are set: perhaps 10.0.0.0/8?), found "
         "\"10.0.0.1/8\""},
        {H "listeners: [{trusted: [0.0.0.0/0]}]\n",
         "2:24: listeners.trusted: expected an address or network such as 192.0.2.0/24 or "
         "\"2001:db8::/32\" (/0 is everybody: that would be an open relay)"},
        {H "listeners: [{address: \"unix:\"}]\n",
         "2:23: listeners.address: expected the path of a socket, such as "
         "unix:/run/mta/submission, found \"unix:\""},
        {H "listeners: [{address: \"unix:/run/\"}]\n",
         "2:23: listeners.address: expected the path of a socket"},
        {H "listeners: [{address: \"unix:" LABEL_27 LABEL_27 LABEL_27 LABEL_27 "\"}]\n",
         "2:23: listeners.address: expected a shorter path: a socket's has at most 107 characters"},
        {H "listeners: [{auth: on}]\n",
         "2:20: listeners.auth: expected off, optional or required, found \"on\""},
        {H "listeners: [{cleartext_auth: yes}]\n",
         "2:30: listeners.cleartext_auth: expected never or loopback, found \"yes\""},
        {H "listeners: [{trace_client: yes}]\n",
         "2:28: listeners.trace_client: expected true or false, found \"yes\""},
        {H "listeners: [{trusted_names: [\"a@b.example\"]}]\n",
         "2:30: listeners.trusted_names: expected a pattern: example.com or *.example.com"},
        {H "metrics: {address: 9587}\n",
         "2:20: metrics.address: expected an IP address and port such as 127.0.0.1:587"},
        {H "metrics: {address: [\"127.0.0.1:9587\"]}\n",
         "2:20: metrics.address: expected an IP address and port such as 127.0.0.1:587"},
        {H "metrics: {address: \"unix:/run/mta\"}\n",
         "2:20: metrics.address: expected an IP address and port such as 127.0.0.1:587"},
        {H "metrics: {}\n", "2:10: metrics.address: missing: expected an IP address and port"},
        {H "metrics: 127.0.0.1:9587\n", "2:10: metrics: expected a mapping (name: value)"},
        {H "dns: {servers: [localhost]}\n", "2:17: dns.servers: expected an IP address, with or"},
        {H "dns: {servers: \"127.0.0.1:x\"}\n",
         "2:16: dns.servers: expected an IP address, with or"},
        {H "routes: [{to: relay.example}]\n", "2:15: routes.to: expected host:port such as "
                                              "relay.example.com:25, 192.0.2.1:25 or "
                                              "\"[2001:db8::1]:25\" (the port is missing)"},
        {H "routes: [{to: \"smtp://relay.example:25\"}]\n", "2:15: routes.to: expected host:port"},
        {H "routes: [{match: {recipients: [\"*\"]}}]\n",
         "2:32: routes.match.recipients: expected a pattern such as *.example.com (to match all, "
         "leave the key out)"},
        {H "routes: [{match: {recipients: [u@a.example]}}]\n",
         "2:32: routes.match.recipients: expected a pattern: example.com or *.example.com (only "},
        {H "dkim: [{domain: bücher.example, selector: s, key: k}]\n",
         "2:17: dkim.domain: expected a domain name such as example.com (international names are "
         "written as xn--...), found \"bücher.example\""},
        {H "dkim: [{domain: a.example, selector: a b, key: k}]\n",
         "2:38: dkim.selector: expected a DKIM selector such as s1 (only letters"},
    };
    REFUSE_ALL(cases);
}

static void test_together(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {H "tls: {certificate: c.pem}\n", "2:7: tls.certificate: needs tls.key"},
        {H "tls: {key: k.pem}\n", "2:7: tls.key: needs tls.certificate"},
        {H "listeners: [{address: \"127.0.0.1:25\", tls: required}]\n",
         "2:44: listeners.tls: required needs tls.certificate and tls.key"},
        {H "listeners:\n  - address: \"127.0.0.1:25\"\n  - address: \"127.0.0.1:465\"\n"
           "    tls: implicit\n",
         "5:10: listeners.tls: implicit needs tls.certificate and tls.key"},
        {H "listeners:\n  - address: \"127.0.0.1:25\"\n  - address: [\"127.0.0.1:26\", "
           "\"127.0.0.1:25\"]\n",
         "4:31: listeners.address: \"127.0.0.1:25\" stands twice: the first is at line 3"},
        {H "listeners:\n  - address: [\"[::1]:25\", \"[0:0::1]:25\"]\n",
         "3:27: listeners.address: \"[0:0::1]:25\" stands twice: the first is at line 3"},
        {H "listeners:\n  - address: [\"127.0.0.1:25\", \"[::1]:25\"]\n"
           "metrics: {address: \"[0:0::1]:25\"}\n",
         "4:20: metrics.address: \"[0:0::1]:25\" is a listener's address; expected one of its own"},
        {H "metrics: {address: \"127.0.0.1:587\"}\n",
         "2:20: metrics.address: \"127.0.0.1:587\" is a listener's address"},
        {H "listeners: [{address: [\"unix:/s\", \"unix:/s\"]}]\n",
         "2:35: listeners.address: \"unix:/s\" stands twice: the first is at line 2"},
        {H "state_dir: /v\nlisteners: [{address: \"unix:/v/control\"}]\n",
         "3:23: listeners.address: \"unix:/v/control\" is the control_socket; expected another"},
        {H "listeners: [{address: \"unix:/s\", auth: required}]\n",
         "2:40: listeners.auth: required needs users_file, the file that `mtactl user add` makes"},
        {H "users_file: u\nlisteners: [{address: \"unix:/s\", auth: required, cleartext_auth: "
           "never}]\n",
         "3:40: listeners.auth: required and nobody could log in: there is neither TLS"},
        {H T "users_file: u\nlisteners: [{address: \"unix:/s\", auth: required, tls: off, "
             "cleartext_auth: never}]\n",
         "4:40: listeners.auth: required and nobody could log in: there is neither TLS"},
        {H "listeners: [{address: \"unix:/s\", client_ca: ca.pem}]\n",
         "2:34: listeners.client_ca: needs tls.certificate and tls.key: without TLS no client"},
        {H T "listeners: [{address: \"unix:/s\", tls: off, client_ca: ca.pem}]\n",
         "3:44: listeners.client_ca: needs tls other than off: without TLS no client"},
        {H T "listeners: [{address: \"unix:/s\", trusted_names: [\"*.example\"]}]\n",
         "3:34: listeners.trusted_names: needs client_ca, the file of those who sign"},
        {H "retry: {warn: 5d}\n", "2:15: retry.warn: \"5d\" is not shorter than retry.expire: the "
                                  "message has expired by then; expected a shorter time, or off"},
        {H "retry:\n  warn: 4h\n  expire: 2h\n", "3:9: retry.warn: \"4h\" is not shorter than"},
        {H "dkim:\n  - {domain: A.example, selector: s1, key: k}\n"
           "  - {domain: a.example, selector: s2, key: k}\n"
           "  - {domain: a.example, selector: S1, key: k}\n",
         "5:35: dkim.selector: \"s1._domainkey.a.example\" stands twice: the first is at line 3"},
    };
    REFUSE_ALL(cases);

    char yaml[512], text[200];
    snprintf(yaml, sizeof yaml, H "state_dir: /%0100d\ncontrol_socket: control\n", 0);
    snprintf(text, sizeof text, "3:17: control_socket: \"/000");
    refuse(yaml, strlen(yaml), text);
    snprintf(yaml, sizeof yaml, H "state_dir: /%0100d\n", 0);
    refuse(yaml, strlen(yaml), "2:12: control_socket: \"/000");
}

/* Every key and word of the design whose feature is not there: known, and never ignored. */
static void test_not_available(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {H "sites: [{mx: \"*.google.com\"}]\n",
         "2:8: sites: not available in this version (allowed: []), found a list"},
        {H "sites: {}\n", "2:8: sites: not available in this version (allowed: [])"},
        {H "routes: [{match: {senders: [a.example]}}]\n",
         "2:28: routes.match.senders: not available in this version (allowed: [])"},
        {H "routes: [{match: {users: [u]}}]\n",
         "2:26: routes.match.users: not available in this version (allowed: [])"},
        {H "routes: [{match: {listeners: [l]}}]\n",
         "2:30: routes.match.listeners: not available in this version (allowed: [])"},
        {H "routes: [{to: [\"a.example:25\", \"smtps://relay2.example:465\"]}]\n",
         "2:32: routes.to: not available in this version (allowed: host:port), found \"smtps://"},
        {H "routes: [{to: \"lmtp:unix:/run/lmtp\"}]\n",
         "2:15: routes.to: not available in this version (allowed: host:port)"},
        {H "routes: [{choose: balance}]\n",
         "2:19: routes.choose: not available in this version (allowed: failover)"},
        {H "routes: [{tls: dane}]\n", "2:16: routes.tls: not available in this version (allowed: "
                                      "off, opportunistic, encrypt or verify), found \"dane\""},
        {H "routes: [{auth: {user: u, password_file: f}}]\n",
         "2:17: routes.auth: not available in this version (allowed: off), found a mapping"},
        {H "routes: [{action: discard}]\n",
         "2:19: routes.action: not available in this version (allowed: deliver)"},
        {H "routes: [{action: reject}]\n", "2:19: routes.action: not available in this version"},
        {H "routes: [{source: {ipv4: 192.0.2.1}}]\n",
         "2:19: routes.source: not available in this version (leave the key out)"},
        {H "delivery: {dane: true}\n",
         "2:18: delivery.dane: not available in this version (allowed: false), found \"true\""},
        {H "delivery: {mta_sts: true}\n",
         "2:21: delivery.mta_sts: not available in this version (allowed: false)"},
        {H "delivery: {site: {rate: 100/s}}\n",
         "2:25: delivery.site.rate: not available in this version (allowed: unlimited)"},
        {H "dns: {trust_ad: true}\n",
         "2:17: dns.trust_ad: not available in this version (allowed: false)"},
    };
    REFUSE_ALL(cases);
}

/* A position survives whatever the file's name is. */
static void test_long_name(void **state)
{
    (void)state;
    char name[5000];
    const struct config *config = NULL;
    struct config_error error = {""};
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(config_parse("user: a b\n", 10, name, "/", &config, &error), -1);
    assert_non_null(strstr(error.text, "nnn:1:7: user: expected the name of an account"));
}

/* Without the NUL. */
static void put(char *at, const char *text)
{
    while (*text != '\0')
        *at++ = *text++;
}

static void test_bounds(void **state)
{
    (void)state;
    size_t len = 1024 * 1024 + 1;
    char *bytes = malloc(len);
    const struct config *config = NULL;
    struct config_error error = {""};
    assert_non_null(bytes);

    memset(bytes, '#', len);
    assert_int_equal(config_parse(bytes, len, "f", "/", &config, &error), -1);
    assert_string_equal(error.text, "f: larger than 1 MiB");
    refuse(bytes, len - 1, "1:1: the file is empty");

    memset(bytes, '[', len);
    put(bytes, "user: ");
    refuse(bytes, len - 1, "1:16: nested too deep");

    for (size_t i = 6; i + 1 < len; i += 2)
        put(bytes + i, i == 6 ? "[x" : ",x");
    refuse(bytes, len - 1, "1:200004: too many values");

    memset(bytes, 'x', len);
    put(bytes, "user: ");
    refuse(bytes, len - 1, "1:7: user: expected the name of an account, such as mta, found \"xxx");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_quotes_hint),  cmocka_unit_test(test_types),
        cmocka_unit_test(test_values),       cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_together),     cmocka_unit_test(test_not_available),
        cmocka_unit_test(test_long_name),    cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
