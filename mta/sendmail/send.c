/* mta/sendmail/send.c - a message from standard input into the queue: run.h. The header section is
 * read first, then everything streams: memory does not grow with the message. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/sendmail/header.h"
#include "mta/sendmail/input.h"
#include "mta/sendmail/run.h"
#include "mta/sendmail/session.h"

/* What a caller may still write after we have failed, so that it does not die of a closed pipe
 * before it has read our exit code. */
#define LEFT_OVER_MAX ((size_t)256 * 1024 * 1024)

struct sending {
    const struct sendmail_options *options;
    struct sendmail_verdict *verdict;
    struct sendmail_input input;
    struct sendmail_header header;
    struct sendmail_recipients recipients;
    char *sender;
    struct sendmail_session *session;
    bool at_end; /* of standard input */
};

/* ---- standard input ---- */

/* A piece of it, as content, appended to out. */
static int read_piece(struct sending *s, struct buf *out)
{
    char bytes[SENDMAIL_PIECE_MAX];
    ssize_t got = 0;
    do {
        got = read(STDIN_FILENO, bytes, sizeof bytes);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return sendmail_fail(s->verdict, EX_IOERR, "standard input: %s", strerror(errno));
    if (got == 0) {
        sendmail_input_end(&s->input, out);
        s->at_end = true;
    }
    sendmail_input_feed(&s->input, bytes, (size_t)got, out);
    switch (s->input.fault) {
    case SENDMAIL_FAULT_NONE:
        return 0;
    case SENDMAIL_FAULT_CR:
        return sendmail_fail(s->verdict, EX_DATAERR,
                             "the message has a bare CR (RFC 5321 section 2.3.8)");
    case SENDMAIL_FAULT_NUL:
        return sendmail_fail(s->verdict, EX_DATAERR, "the message has a NUL byte");
    }
    unreachable_bug();
}

static bool is_over(const struct sending *s)
{
    return s->at_end || s->input.ended;
}

static void read_left_over(struct sending *s)
{
    char bytes[SENDMAIL_PIECE_MAX];
    size_t left = LEFT_OVER_MAX;
    if (is_over(s) || isatty(STDIN_FILENO))
        return;
    while (left >= sizeof bytes) {
        ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
        if (got == 0 || (got < 0 && errno != EINTR))
            return;
        left -= got > 0 ? (size_t)got : 0;
    }
}

/* ---- what comes before the first command ---- */

static int read_header(struct sending *s)
{
    int found = sendmail_header_look(&s->header, false);
    while (found == 0) {
        if (read_piece(s, &s->header.bytes) < 0)
            return -1;
        found = sendmail_header_look(&s->header, is_over(s));
    }
    if (found < 0)
        return sendmail_fail(s->verdict, EX_DATAERR, "the header section is over %zu KiB",
                             SENDMAIL_HEADER_MAX / 1024);
    return 0;
}

static int find_sender(struct sending *s)
{
    char error[300];
    const struct passwd *account = getpwuid(getuid());
    char number[24];
    if (s->options->sender != NULL) {
        s->sender = sendmail_sender_read(str_from(s->options->sender), error, sizeof error);
        return s->sender != NULL ? 0 : sendmail_fail(s->verdict, EX_USAGE, "-f: %s", error);
    }
    (void)snprintf(number, sizeof number, "%u", (unsigned)getuid());
    s->sender = str_dup(str_from(account != NULL ? account->pw_name : number));
    return 0;
}

static int find_recipients(struct sending *s)
{
    char error[300];
    for (size_t i = 0; i < s->options->recipient_count; i++) {
        if (sendmail_recipients_add(&s->recipients, str_from(s->options->recipients[i]), error,
                                    sizeof error) < 0)
            return sendmail_fail(s->verdict, EX_USAGE, "recipient: %s", error);
    }
    if (s->options->from_header &&
        sendmail_header_recipients(sendmail_header_section(&s->header), &s->recipients, error,
                                   sizeof error) < 0)
        return sendmail_fail(s->verdict, EX_DATAERR, "recipient in the header: %s", error);
    if (s->recipients.count == 0)
        return sendmail_fail(s->verdict, EX_USAGE, "no recipient: %s",
                             s->options->from_header ? "To, Cc and Bcc of the message name none"
                                                     : "name one, or use -t");
    return 0;
}

/* ---- the message ---- */

static int send_header(struct sending *s)
{
    struct str section = sendmail_header_section(&s->header);
    struct buf out;
    buf_init(&out, section.len + SENDMAIL_ADDED_MAX);
    sendmail_header_write(section, s->options, s->sender, &out);
    int rc = sendmail_session_content(s->session, buf_str(&out), s->verdict);
    buf_deinit(&out);
    if (rc == 0)
        rc = sendmail_session_content(s->session, sendmail_header_body(&s->header), s->verdict);
    sendmail_header_deinit(&s->header);
    return rc;
}

static int send_rest(struct sending *s)
{
    struct buf piece;
    int rc = 0;
    buf_init(&piece, 2 * SENDMAIL_PIECE_MAX + 8);
    while (rc == 0 && !is_over(s)) {
        rc = read_piece(s, &piece);
        if (rc == 0)
            rc = sendmail_session_content(s->session, buf_str(&piece), s->verdict);
        buf_clear(&piece);
    }
    buf_deinit(&piece);
    return rc;
}

static int send_all(struct sending *s)
{
    char path[256];
    if (sendmail_socket_path(s->options->config, path, sizeof path, s->verdict) < 0 ||
        read_header(s) < 0 || find_sender(s) < 0 || find_recipients(s) < 0)
        return -1;
    if (sendmail_session_open(path, &s->session, s->verdict) < 0 ||
        sendmail_session_begin(s->session, s->options, s->sender, &s->recipients, s->verdict) < 0)
        return -1;
    if (send_header(s) < 0 || send_rest(s) < 0)
        return -1;
    return sendmail_session_finish(s->session, s->verdict);
}

int sendmail_send(const struct sendmail_options *options, struct sendmail_verdict *verdict)
{
    struct sending s = {.options = options, .verdict = verdict};
    sendmail_input_init(&s.input, options->ignore_dot);
    sendmail_header_init(&s.header);
    int rc = send_all(&s);
    sendmail_session_close(&s.session);
    sendmail_header_deinit(&s.header);
    sendmail_recipients_deinit(&s.recipients);
    free(s.sender);
    if (rc < 0)
        read_left_over(&s);
    return rc;
}
