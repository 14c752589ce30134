/* tests/unit/test_smtp_server_states.c - every command in every state of the server session: a
 * table of reply codes. Each conversation runs whole, one byte at a time and cut in two at every
 * byte, with the owner answering at once and later; all must come out the same. */
#include "tests/unit/smtp_server_peer.h"

#define HELLO    "EHLO c.example\r\n"
#define ENVELOPE HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

/* Conversations that lead into each state. The first word of the table's columns. */
static const struct place {
    const char *name;
    const char *way;
    bool must_start_tls;
} places[] = {
    {"new", "", false},
    {"helo", "HELO c.example\r\n", false},
    {"ehlo", HELLO, false},
    {"mail", HELLO "MAIL FROM:<a@b.example>\r\n", false},
    {"rcpt", ENVELOPE, false},
    {"bdat", ENVELOPE "BDAT 3\r\nx\r\n", false},
    {"refused mail", HELLO "MAIL FROM:<deny@b>\r\n", false},
    {"refused rcpt", HELLO "MAIL FROM:<a@b>\r\nRCPT TO:<deny@b>\r\n", false},
    {"failed bdat", ENVELOPE "BDAT 3\r\nx\n\n", false},
    {"done", ENVELOPE "DATA\r\n.\r\n", false},
    {"in auth", HELLO "AUTH PLAIN\r\n", false},
    {"logged in", HELLO "AUTH PLAIN T0s=\r\n", false},
    {"tls, no ehlo", HELLO "AUTH PLAIN T0s=\r\nSTARTTLS\r\n", false},
    {"tls", "STARTTLS\r\n" HELLO, false},
    {"tls demanded", HELLO, true},
};
#define PLACES (sizeof places / sizeof places[0])

/* clang-format off */
static const struct row {
    const char *input; /* without the last line end */
    const char *codes; /* one a place */
} rows[] = {
    /*                          new helo ehlo mail rcpt bdat -mail -rcpt -bdat done auth login tls- tls demand */
    {"EHLO x",                 "250 250 250 250 250 250 250 250 250 250 501 250 250 250 250"},
    {"HELO x",                 "250 250 250 250 250 250 250 250 250 250 501 250 250 250 250"},
    {"EHLO",                   "501 501 501 501 501 501 501 501 501 501 535 501 501 501 501"},
    {"HELO   ",                "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"MAIL FROM:<a@b>",        "503 250 250 503 503 503 250 503 250 250 501 250 503 250 530"},
    {"MAIL FROM:<deny@b>",     "503 550 550 503 503 503 550 503 550 550 501 550 503 550 530"},
    {"MAIL FROM:<a@b> X=1",    "503 555 555 503 503 503 555 503 555 555 501 555 503 555 530"},
    {"MAIL",                   "503 501 501 503 503 503 501 503 501 501 535 501 503 501 530"},
    {"RCPT TO:<a@b>",          "503 503 503 250 250 503 503 250 503 503 501 503 503 503 530"},
    {"RCPT TO:<deny@b>",       "503 503 503 550 550 503 503 550 503 503 501 503 503 503 530"},
    {"RCPT TO:<a@b> X=1",      "503 503 503 555 555 503 503 555 503 503 501 503 503 503 530"},
    {"DATA",                   "503 503 503 503 354 503 503 554 503 503 535 503 503 503 530"},
    {"DATA ",                  "503 503 503 503 354 503 503 554 503 503 501 503 503 503 530"},
    {"DATA x",                 "503 503 503 503 501 503 503 554 503 503 501 503 503 503 530"},
    {"BDAT 3\r\nx",            "503 503 503 503 250 250 503 554 503 503 500 503 503 503 530"},
    {"BDAT 3 last\r\nx",       "503 503 503 503 250 250 503 554 503 503 500 503 503 503 530"},
    {"BDAT 2 LAST\r\n",        "503 503 503 503 250 250 503 554 503 503 500 503 503 503 530"},
    {"BDAT 0",                 "503 503 503 503 250 250 503 554 503 503 501 503 503 503 530"},
    {"BDAT 0 LAST",            "503 503 503 503 250 250 503 554 503 503 501 503 503 503 530"},
    {"BDAT 2 X\r\n",           "503 503 503 503 501 501 503 554 503 503 500 503 503 503 530"},
    {"BDAT",                   "501 501 501 501 501 501 501 501 501 501 535 501 501 501 501"},
    {"BDAT LAST",              "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"BDAT -1",                "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"BDAT 9223372036854775808", "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"RSET",                   "250 250 250 250 250 250 250 250 250 250 535 250 250 250 250"},
    {"RSET x",                 "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"NOOP",                   "250 250 250 250 250 250 250 250 250 250 535 250 250 250 250"},
    {"NOOP what ever  ",       "250 250 250 250 250 250 250 250 250 250 501 250 250 250 250"},
    {"VRFY a",                 "252 252 252 252 252 252 252 252 252 252 501 252 252 252 530"},
    {"VRFY",                   "501 501 501 501 501 501 501 501 501 501 535 501 501 501 530"},
    {"EXPN a",                 "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"ETRN a",                 "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"TURN",                   "502 502 502 502 502 502 502 502 502 502 535 502 502 502 502"},
    {"SEND FROM:<a@b>",        "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"SOML FROM:<a@b>",        "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"SAML FROM:<a@b>",        "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"BURL a",                 "502 502 502 502 502 502 502 502 502 502 501 502 502 502 502"},
    {"HELP",                   "214 214 214 214 214 214 214 214 214 214 535 214 214 214 214"},
    {"HELP MAIL",              "214 214 214 214 214 214 214 214 214 214 501 214 214 214 214"},
    {"QUIT",                   "221 221 221 221 221 221 221 221 221 221 535 221 221 221 221"},
    {"QUIT ",                  "221 221 221 221 221 221 221 221 221 221 501 221 221 221 221"},
    {"QUIT x",                 "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"STARTTLS",               "220 220 220 220 220 220 220 220 220 220 535 220 503 503 220"},
    {"STARTTLS x",             "501 501 501 501 501 501 501 501 501 501 501 501 501 501 501"},
    {"AUTH",                   "503 501 501 503 503 503 501 503 501 501 535 503 503 501 538"},
    {"AUTH PLAIN",             "503 334 334 503 503 503 334 503 334 334 501 503 503 334 538"},
    {"auth login",             "503 334 334 503 503 503 334 503 334 334 501 503 503 334 538"},
    {"AUTH PLAIN =",           "503 535 535 503 503 503 535 503 535 535 501 503 503 535 538"},
    {"AUTH PLAIN T0s=",        "503 235 235 503 503 503 235 503 235 235 501 503 503 235 538"},
    {"AUTH PLAIN TEFURVI=",    "503 454 454 503 503 503 454 503 454 454 501 503 503 454 538"},
    {"AUTH PLAIN !!!!",        "503 501 501 503 503 503 501 503 501 501 501 503 503 501 538"},
    {"AUTH PLAIN T0s= x",      "503 501 501 503 503 503 501 503 501 501 501 503 503 501 538"},
    {"AUTH NTLM",              "503 504 504 503 503 503 504 503 504 504 501 503 503 504 538"},
    {"AUTH PLAIN LOGIN",       "503 501 501 503 503 503 501 503 501 501 501 503 503 501 538"},
    {"*",                      "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"T0s=",                   "500 500 500 500 500 500 500 500 500 500 235 500 500 500 500"},
    {"TU9SRQ==",               "500 500 500 500 500 500 500 500 500 500 334 500 500 500 500"},
    {"",                       "500 500 500 500 500 500 500 500 500 500 535 500 500 500 500"},
    {"FOO",                    "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"NOOPS",                  "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {" NOOP",                  "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"MAILFROM:<a@b>",         "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"NO\tOP",                 "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"NOOP \x7f",              "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"NOOP\rNOOP",             "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"NOOP\r",                 "500 500 500 500 500 500 500 500 500 500 501 500 500 500 500"},
    {"GET / HTTP/1.1",         "421 421 421 421 421 421 421 421 421 421 501 421 421 421 421"},
    {"post / HTTP/1.1",        "421 421 421 421 421 421 421 421 421 421 501 421 421 421 421"},
};
/* clang-format on */

/* How a conversation is fed. */
struct feed {
    size_t cut; /* 0: byte by byte; beyond the end: whole */
    enum peer_answer answer;
};

static void run(struct peer *peer, const struct place *place, const struct row *row,
                struct feed feed)
{
    struct smtp_server_options options = peer_options();
    char wire[512];
    size_t piece = 0;
    size_t tls = 0; /* nothing in clear may follow STARTTLS in its segment */

    options.auth_after_tls = true;
    options.require_starttls = place->must_start_tls;
    int len = snprintf(wire, sizeof wire, "%s%s\r\n", place->way, row->input);
    assert_in_range(len, 2, sizeof wire - 1);
    const char *starttls = strstr(place->way, "STARTTLS\r\n");
    if (starttls != NULL)
        tls = (size_t)(starttls - place->way) + 10;
    peer_open(peer, &options);
    peer->answer = feed.answer;
    peer->tls_at_once = true;
    peer->mechanisms = "PLAIN LOGIN";
    smtp_server_offer_auth(peer->server, peer->mechanisms);
    peer_greet(peer);
    peer_take(peer);
    for (size_t i = 0; i < (size_t)len; i += piece) {
        size_t left = (size_t)len - i;
        piece = feed.cut == 0 ? 1 : i < feed.cut ? feed.cut - i : left;
        if (piece > left)
            piece = left;
        if (i < tls && i + piece > tls)
            piece = tls - i;
        peer_give(peer, wire + i, piece);
    }
}

/* Replies have an enhanced code of the same class (RFC 2034), but those to EHLO and HELO. */
static void check_status(const struct peer *peer, const struct row *row)
{
    struct str said = buf_str(&peer->said);
    bool hello = strncmp(row->input, "EHLO", 4) == 0 || strncmp(row->input, "HELO", 4) == 0;
    size_t at = said.len - 2;

    while (at > 0 && said.p[at - 1] != '\n')
        at--;
    const char *line = said.p + at;
    if (hello || line[0] == '3')
        return;
    assert_true(line[4] == line[0]);
    assert_true(line[5] == '.');
}

static void check(const struct place *place, const struct row *row, const char *want)
{
    char codes[256];
    struct peer whole;

    run(&whole, place, row, (struct feed){SIZE_MAX, ANSWER_AT_ONCE});
    peer_codes(&whole, codes, sizeof codes);
    const char *last = codes + strlen(codes) - 3;
    if (strncmp(last, want, 3) != 0)
        fail_msg("\"%s\" in state \"%s\": %s, not %.3s", row->input, place->name, codes, want);
    check_status(&whole, row);
    size_t len = strlen(place->way) + strlen(row->input) + 2;
    for (size_t cut = 0; cut < len; cut++) {
        for (int later = 0; later < 2; later++) {
            struct peer cuts;
            run(&cuts, place, row, (struct feed){cut, later == 1 ? ANSWER_LATER : ANSWER_AT_ONCE});
            if (!str_equal(buf_str(&cuts.said), buf_str(&whole.said)) ||
                !str_equal(buf_str(&cuts.events), buf_str(&whole.events)))
                fail_msg("\"%s\" in state \"%s\", cut at %zu", row->input, place->name, cut);
            peer_close(&cuts);
        }
    }
    peer_close(&whole);
}

static void test_every_command_in_every_state(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(strlen(rows[i].codes), PLACES * 4 - 1);
        for (size_t place = 0; place < PLACES; place++)
            check(&places[place], &rows[i], rows[i].codes + place * 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_command_in_every_state)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
