/* mta/sendmail/session.c - see session.h. */
#include "mta/sendmail/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/smtp/dot.h"

/* The listener waits up to timeouts.server (5 min) for room; the commit behind the dot takes what
 * the disk takes. RFC 5321 section 4.5.3.2.6: 10 minutes. */
#define PATIENCE_S 660
/* Commands sent before their replies are read: far less than the listener lets lie unread. */
#define BATCH_MAX      100
#define OUT_MAX        ((size_t)512 * 1024)
#define CONTENT_MAX    ((size_t)64 * 1024)
#define REFUSALS_SHOWN 3

enum { OFFERS_PIPELINING = 1, OFFERS_DSN = 2, OFFERS_8BITMIME = 4, OFFERS_SMTPUTF8 = 8 };

struct sendmail_session {
    int fd;
    bool in_order; /* between commands: QUIT may be said */
    unsigned offers;
    struct smtp_reply_parser parser;
    char in[4096];
    size_t in_start, in_end;
    struct buf out;
    struct smtp_dot_writer dots;
};

/* ---- the socket ---- */

static int explain_connect(int failure, const char *path, struct sendmail_verdict *verdict)
{
    switch (failure) {
    case ENOENT:
    case ENOTDIR:
        return sendmail_fail(verdict, EX_TEMPFAIL,
                             "mtad is not reachable: there is no socket %s (is mtad running, with "
                             "a listener on \"unix:%s\"?)",
                             path, path);
    case ECONNREFUSED:
        return sendmail_fail(verdict, EX_TEMPFAIL,
                             "mtad is not reachable: it is not running (nobody serves %s)", path);
    default:
        return sendmail_fail(verdict, EX_TEMPFAIL, "mtad is not reachable: %s: %s", path,
                             strerror(failure));
    }
}

int sendmail_connect(const char *path, struct sendmail_verdict *verdict)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = PATIENCE_S};
    if (strlen(path) >= sizeof address.sun_path)
        return explain_connect(ENAMETOOLONG, path, verdict);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return explain_connect(errno, path, verdict);
    int rc = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (rc == 0)
        rc = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (rc == 0)
        rc = connect(fd, (const struct sockaddr *)&address, sizeof address);
    if (rc == 0)
        return fd;
    int failure = errno;
    close(fd);
    return explain_connect(failure, path, verdict);
}

/* ---- replies ---- */

static void on_keyword(struct str line, void *ctx)
{
    static const struct {
        struct str keyword;
        unsigned offer;
    } rows[] = {
        {{"PIPELINING", 10}, OFFERS_PIPELINING},
        {{"DSN", 3}, OFFERS_DSN},
        {{"8BITMIME", 8}, OFFERS_8BITMIME},
        {{"SMTPUTF8", 8}, OFFERS_SMTPUTF8},
    };
    struct sendmail_session *session = ctx;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (str_equal_nocase(str_trim(line), rows[i].keyword))
            session->offers |= rows[i].offer;
    }
}

static int fill_in(struct sendmail_session *session, struct sendmail_verdict *verdict)
{
    ssize_t got = 0;
    do {
        got = read(session->fd, session->in, sizeof session->in);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        session->in_start = 0;
        session->in_end = (size_t)got;
        return 0;
    }
    if (got < 0 && errno == EAGAIN)
        return sendmail_fail(verdict, EX_TEMPFAIL, "mtad does not answer");
    return sendmail_fail(verdict, EX_TEMPFAIL, "mtad has closed the connection");
}

/* One whole reply; session->parser.reply holds it. */
static int read_reply(struct sendmail_session *session, smtp_reply_line_fn on_line,
                      struct sendmail_verdict *verdict)
{
    for (;;) {
        size_t used = 0;
        if (session->in_start == session->in_end && fill_in(session, verdict) < 0)
            return -1;
        enum smtp_reply_result result =
            smtp_reply_feed(&session->parser, session->in + session->in_start,
                            session->in_end - session->in_start, &used, on_line, session);
        session->in_start += used;
        if (result == SMTP_REPLY_DONE)
            return 0;
        if (result == SMTP_REPLY_BAD)
            return sendmail_fail(verdict, EX_PROTOCOL, "the listener does not speak SMTP");
    }
}

/* The reply to a command must be of this class: 2 or 3. */
static int expect(struct sendmail_session *session, unsigned class, const char *command,
                  struct sendmail_verdict *verdict)
{
    if (read_reply(session, NULL, verdict) < 0)
        return -1;
    if (session->parser.reply.code / 100U == class)
        return 0;
    return sendmail_fail_reply(verdict, command, &session->parser.reply);
}

/* What is in out goes. Who has refused and left may have said why. */
static int flush(struct sendmail_session *session, struct sendmail_verdict *verdict)
{
    while (buf_len(&session->out) > 0) {
        struct str out = buf_str(&session->out);
        ssize_t sent = send(session->fd, out.p, out.len, MSG_NOSIGNAL);
        if (sent >= 0) {
            buf_consume(&session->out, (size_t)sent);
        } else if (errno == EAGAIN) {
            return sendmail_fail(verdict, EX_TEMPFAIL, "mtad takes no more bytes");
        } else if (errno != EINTR) {
            if (read_reply(session, NULL, verdict) < 0)
                return -1;
            return sendmail_fail_reply(verdict, "the connection was closed",
                                       &session->parser.reply);
        }
    }
    return 0;
}

/* ---- opening ---- */

static int say_hello(struct sendmail_session *session, struct sendmail_verdict *verdict)
{
    char name[256] = "localhost";
    if (gethostname(name, sizeof name) < 0 || name[0] == '\0')
        (void)snprintf(name, sizeof name, "localhost");
    name[sizeof name - 1] = '\0';
    (void)buf_printf(&session->out, "EHLO %s\r\n", name);
    if (flush(session, verdict) < 0 || read_reply(session, on_keyword, verdict) < 0)
        return -1;
    if (session->parser.reply.code / 100U == 2)
        return 0;
    return sendmail_fail_reply(verdict, "EHLO", &session->parser.reply);
}

int sendmail_session_open(const char *path, struct sendmail_session **session_out,
                          struct sendmail_verdict *verdict)
{
    int fd = sendmail_connect(path, verdict);
    if (fd < 0)
        return -1;
    struct sendmail_session *session = mem_alloc(sizeof *session);
    session->fd = fd;
    smtp_reply_parser_init(&session->parser);
    buf_init(&session->out, OUT_MAX);
    if (expect(session, 2, "the greeting", verdict) < 0 || say_hello(session, verdict) < 0) {
        sendmail_session_close(&session);
        return -1;
    }
    session->in_order = true;
    *session_out = session;
    return 0;
}

void sendmail_session_close(struct sendmail_session **sessionp)
{
    struct sendmail_session *session = *sessionp;
    *sessionp = NULL;
    if (session == NULL)
        return;
    if (session->in_order)
        (void)!send(session->fd, "QUIT\r\n", 6, MSG_NOSIGNAL);
    close(session->fd);
    buf_deinit(&session->out);
    free(session);
}

/* ---- the envelope ---- */

/* RFC 3461 section 4: xtext. */
static void add_xtext(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '+' || *p == '=' || *p <= ' ' || *p >= 0x7f)
            (void)buf_printf(out, "+%02X", (unsigned)(unsigned char)*p);
        else
            (void)buf_add(out, p, 1);
    }
}

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text > 0x7f)
            return false;
    }
    return true;
}

static void add_mail(struct sendmail_session *session, const struct sendmail_options *options,
                     const char *sender, const struct sendmail_recipients *recipients)
{
    struct buf *out = &session->out;
    bool ascii = is_ascii(sender);
    for (size_t i = 0; ascii && i < recipients->count; i++)
        ascii = is_ascii(recipients->addresses[i]);
    (void)buf_printf(out, "MAIL FROM:<%s>", sender);
    if (options->body_8bit && (session->offers & OFFERS_8BITMIME) != 0)
        (void)buf_add_text(out, " BODY=8BITMIME");
    if (!ascii && (session->offers & OFFERS_SMTPUTF8) != 0)
        (void)buf_add_text(out, " SMTPUTF8");
    if (options->ret != NULL && (session->offers & OFFERS_DSN) != 0)
        (void)buf_printf(out, " RET=%s", options->ret);
    if (options->envid != NULL && (session->offers & OFFERS_DSN) != 0) {
        (void)buf_add_text(out, " ENVID=");
        add_xtext(out, options->envid);
    }
    (void)buf_add_text(out, "\r\n");
}

static void add_rcpt(struct sendmail_session *session, const struct sendmail_options *options,
                     const char *recipient)
{
    struct buf *out = &session->out;
    (void)buf_printf(out, "RCPT TO:<%s>", recipient);
    if (options->notify[0] != '\0' && (session->offers & OFFERS_DSN) != 0)
        (void)buf_printf(out, " NOTIFY=%s", options->notify);
    (void)buf_add_text(out, "\r\n");
}

/* Refusals are gathered, so that all of them are told at once. A permanent one outweighs: trying
 * again would not help. */
static void note_refusal(const struct smtp_reply *reply, const char *recipient, size_t number,
                         struct sendmail_verdict *verdict)
{
    struct sendmail_verdict one;
    size_t len = number > 0 ? strlen(verdict->text) : 0;
    int before = verdict->code;
    (void)sendmail_fail_reply(&one, recipient, reply);
    if (number < REFUSALS_SHOWN)
        (void)snprintf(verdict->text + len, sizeof verdict->text - len, "%s%.400s",
                       number > 0 ? "; " : "", one.text);
    else if (number == REFUSALS_SHOWN)
        (void)snprintf(verdict->text + len, sizeof verdict->text - len, "; and more");
    verdict->code = number > 0 && before != EX_TEMPFAIL ? before : one.code;
}

static int send_recipients(struct sendmail_session *session, const struct sendmail_options *options,
                           const struct sendmail_recipients *recipients,
                           struct sendmail_verdict *verdict)
{
    size_t batch = (session->offers & OFFERS_PIPELINING) != 0 ? BATCH_MAX : 1;
    size_t refused = 0;
    for (size_t done = 0; done < recipients->count;) {
        size_t n = recipients->count - done < batch ? recipients->count - done : batch;
        for (size_t i = done; i < done + n; i++)
            add_rcpt(session, options, recipients->addresses[i]);
        if (flush(session, verdict) < 0)
            return -1;
        for (size_t i = done; i < done + n; i++) {
            struct sendmail_verdict broken;
            if (read_reply(session, NULL, &broken) < 0) {
                if (refused == 0)
                    *verdict = broken;
                return -1;
            }
            if (session->parser.reply.code / 100U != 2)
                note_refusal(&session->parser.reply, recipients->addresses[i], refused++, verdict);
        }
        done += n;
        if (refused > 0) /* the rest would change nothing */
            return -1;
    }
    return 0;
}

int sendmail_session_begin(struct sendmail_session *session, const struct sendmail_options *options,
                           const char *sender, const struct sendmail_recipients *recipients,
                           struct sendmail_verdict *verdict)
{
    char command[64];
    add_mail(session, options, sender, recipients);
    (void)snprintf(command, sizeof command, "sender <%.40s>", sender);
    if (flush(session, verdict) < 0 || expect(session, 2, command, verdict) < 0 ||
        send_recipients(session, options, recipients, verdict) < 0)
        return -1;
    (void)buf_add_text(&session->out, "DATA\r\n");
    if (flush(session, verdict) < 0 || expect(session, 3, "DATA", verdict) < 0)
        return -1;
    session->in_order = false;
    smtp_dot_writer_init(&session->dots);
    return 0;
}

/* ---- the content ---- */

int sendmail_session_content(struct sendmail_session *session, struct str bytes,
                             struct sendmail_verdict *verdict)
{
    while (bytes.len > 0) {
        size_t n = bytes.len < CONTENT_MAX ? bytes.len : CONTENT_MAX;
        if (!smtp_dot_write(&session->dots, bytes.p, n, &session->out))
            unreachable_bug(); /* out is flushed each time and holds twice CONTENT_MAX */
        if (flush(session, verdict) < 0)
            return -1;
        bytes = str_skip(bytes, n);
    }
    return 0;
}

int sendmail_session_finish(struct sendmail_session *session, struct sendmail_verdict *verdict)
{
    if (!smtp_dot_finish(&session->dots, &session->out))
        unreachable_bug();
    if (flush(session, verdict) < 0)
        return -1;
    if (read_reply(session, NULL, verdict) < 0)
        return sendmail_fail(verdict, EX_TEMPFAIL,
                             "no answer to the end of the message: it may be in the queue already");
    if (session->parser.reply.code / 100U != 2)
        return sendmail_fail_reply(verdict, "the message", &session->parser.reply);
    session->in_order = true;
    return 0;
}
