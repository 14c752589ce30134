/* mta/submit/session.c - one client's session: stream + smtp_server + intake, on one loop.
 *
 * Events of the SMTP session only note what is to be done; session_step() does it after the bytes
 * have been eaten. Reading stops while a commit is outstanding and the input is full, while the
 * client does not take our replies, and, within a body, while the budget for content not yet stored
 * is used up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/submit/session_private.h"

#define OUTPUT_MAX                                                                                 \
    ((size_t)64 * 1024) /* replies that a client lets lie before we stop reading it */

/* ---- ending ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct session *s = handle->data;
    struct submit_worker *worker = s->worker;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        worker->sessions = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    submit_settings_unref(&s->settings);
    free(s);
    submit_check_stopped(worker);
}

void session_end(struct session *s, bool graceful)
{
    struct submit *submit = s->worker->submit;
    if (s->over)
        return;
    s->over = true;
    intake_abandon(&s->intake);
    smtp_server_free(&s->server);
    login_free(s);
    stream_close(&s->stream, graceful);
    loop_load_add(s->worker->loop, -1);
    atomic_fetch_sub(&submit->sessions, 1);
    atomic_fetch_sub(&submit->connections[s->listener_number], 1);
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

/* ---- what the SMTP session asks ---- */

static void on_hello(struct str name, bool extended, void *ctx)
{
    struct session *s = ctx;
    snprintf(s->helo, sizeof s->helo, "%.*s", (int)(name.len < 255 ? name.len : 255), name.p);
    s->extended = extended;
}

static void on_starttls(void *ctx)
{
    ((struct session *)ctx)->want_tls = true;
}

static void on_data(struct smtp_verdict *verdict, void *ctx)
{
    struct session *s = ctx;
    struct intake_client client = {
        .helo = s->helo,
        .extended = s->extended,
        .address = s->address,
        .tls = s->tls,
        .user = session_user(s),
        .login = s->login,
    };
    if (intake_begin(s->intake, &client) < 0)
        session_refuse(verdict, 451, "4.3.0 The queue takes no message just now, try again later");
}

static void on_content(const char *bytes, size_t len, void *ctx)
{
    struct session *s = ctx;
    intake_content(s->intake, bytes, len);
}

static void on_stored(const struct intake_result *result, void *ctx)
{
    struct session *s = ctx;
    struct smtp_verdict verdict = {0};
    s->intake = NULL;
    if (result->result != QUEUE_OK)
        snprintf(s->ended_id, sizeof s->ended_id, "%s", result->id);
    switch (result->result) {
    case QUEUE_OK:
        verdict.code = 250;
        snprintf(verdict.text, sizeof verdict.text, "2.0.0 Ok: queued as %s", result->id);
        submit_count_answer(s->worker->submit, uv_hrtime() - s->ended_ns);
        break;
    case QUEUE_ERR_FULL:
        session_refuse(&verdict, 452, "4.3.1 Insufficient system storage, try again later");
        break;
    default:
        session_refuse(&verdict, 451, "4.3.0 The message could not be stored, try again later");
        break;
    }
    smtp_server_answer(s->server, &verdict);
    session_step(s);
}

static void on_content_end(bool refused, const char *reason, void *ctx)
{
    struct session *s = ctx;
    struct smtp_verdict verdict = {0};
    (void)reason; /* logged with the reply */
    s->ended_ns = uv_hrtime();
    if (!refused &&
        intake_finish(s->intake, on_stored, s, &verdict.code, verdict.text, sizeof verdict.text))
        return;
    snprintf(s->ended_id, sizeof s->ended_id, "%s", intake_id(s->intake));
    intake_abandon(&s->intake);
    if (!refused)
        smtp_server_answer(s->server, &verdict);
}

static void on_reset(void *ctx)
{
    intake_abandon(&((struct session *)ctx)->intake);
}

static void on_quit(void *ctx)
{
    ((struct session *)ctx)->want_close = true;
}

static void on_refusal(const struct smtp_refusal *refusal, void *ctx)
{
    struct session *s = ctx;
    struct submit *submit = s->worker->submit;
    atomic_fetch_add(&submit->rejected, 1);
    log_event(submit->log, LOG_LEVEL_INFO, "reject", LOG_T("id", s->ended_id),
              LOG_S("sender", refusal->sender), LOG_S("recipient", refusal->recipient),
              LOG_T("address", s->address),
              LOG_T("user", s->attempted != NULL ? s->attempted : session_user(s)),
              LOG_T("helo", s->helo), LOG_I("code", refusal->code),
              LOG_S("status", refusal->status), LOG_S("reply", refusal->line),
              LOG_T("tls", s->tls));
    s->ended_id[0] = '\0';
}

static const struct smtp_server_events server_events = {
    .on_hello = on_hello,
    .on_starttls = on_starttls,
    .on_mail = session_on_mail,
    .on_rcpt = session_on_rcpt,
    .on_data = on_data,
    .on_content = on_content,
    .on_content_end = on_content_end,
    .on_reset = on_reset,
    .on_quit = on_quit,
    .on_refusal = on_refusal,
    .on_auth = login_on_auth,
    .on_auth_response = login_on_auth_response,
    .on_auth_cancel = login_on_auth_cancel,
};

/* ---- doing what was noted ---- */

static void greet(struct session *s)
{
    struct smtp_verdict verdict = {0};
    if (s->crowded)
        session_refuse(&verdict, 421, "4.3.2 Too many connections, try again later");
    login_offer(s);
    smtp_server_greet(s->server, &verdict);
    if (s->crowded)
        s->want_close = true;
}

static void start_tls(struct session *s)
{
    struct tls_session *tls = NULL;
    size_t dropped = 0;
    if (tls_server_session_new(s->settings->tls[s->listener_number], &tls) < 0) {
        session_end(s, false);
        return;
    }
    s->handshaking = true;
    stream_start_tls(s->stream, tls, (uint32_t)s->settings->config->timeouts.tls, &dropped);
    if (dropped > 0)
        log_event(s->worker->submit->log, LOG_LEVEL_WARNING, "reject", LOG_T("address", s->address),
                  LOG_T("text", "bytes sent ahead of the TLS handshake were dropped"),
                  LOG_I("bytes", (int64_t)dropped));
}

static void flush(struct session *s)
{
    struct buf *out = smtp_server_output(s->server);
    struct str bytes = buf_str(out);
    if (bytes.len > 0) {
        stream_write(s->stream, bytes.p, bytes.len);
        buf_consume(out, bytes.len);
        buf_release(out); /* thousands of idle sessions hold nothing */
    }
}

/* Read on, or let the client wait? */
static void steer_reading(struct session *s)
{
    struct submit *submit = s->worker->submit;
    if (s->half)
        return;
    bool fed = s->starved;
    s->unread = stream_pending(s->stream) > OUTPUT_MAX;
    s->starved = false;
    if (smtp_server_in_data(s->server) && intake_in_body(s->intake)) {
        bool over = atomic_load(&submit->budget_used) > SUBMIT_BUDGET_BYTES;
        if (over || atomic_load(&submit->budget_short))
            intake_flush(s->intake); /* what we hold must not be what everybody waits for */
        if (over) {
            intake_budget_short(submit); /* before the second look: else nobody would wake us */
            s->starved = atomic_load(&submit->budget_used) > SUBMIT_BUDGET_BYTES;
        }
    }
    if (fed && !s->starved)
        s->active_ms = time_monotonic_ms();
    bool stop = s->starved || s->unread || !smtp_server_wants_input(s->server);
    if (stop && !s->paused)
        stream_pause(s->stream);
    else if (!stop && s->paused)
        stream_resume(s->stream);
    s->paused = stop;
}

void session_step(struct session *s)
{
    if (s->over || s->server == NULL)
        return;
    flush(s);
    if (s->want_tls && !s->half) {
        s->want_tls = false;
        start_tls(s);
        return;
    }
    if (s->want_close || (s->half && !smtp_server_answer_pending(s->server))) {
        session_end(s, true);
        return;
    }
    steer_reading(s);
}

/* ---- the stream ---- */

static void on_bytes(char *bytes, size_t len, void *ctx)
{
    struct session *s = ctx;
    if (s->over)
        return;
    s->active_ms = time_monotonic_ms();
    smtp_server_input(s->server, bytes, len);
    session_step(s);
}

static void on_tls(const struct tls_verdict *verdict, void *ctx)
{
    struct session *s = ctx;
    bool implicit = s->tls_mode == CONFIG_LISTENER_TLS_IMPLICIT;
    s->handshaking = false;
    s->active_ms = time_monotonic_ms();
    snprintf(s->tls, sizeof s->tls, "%s %s", verdict->version, verdict->cipher);
    size_t dropped = smtp_server_tls_started(s->server);
    if (dropped > 0)
        log_event(s->worker->submit->log, LOG_LEVEL_WARNING, "reject", LOG_T("address", s->address),
                  LOG_T("text", "commands pipelined behind STARTTLS were dropped"),
                  LOG_I("bytes", (int64_t)dropped));
    s->helo[0] = '\0';
    login_tls_started(s, verdict);
    if (implicit)
        greet(s);
    session_step(s);
}

static void on_drain(void *ctx)
{
    session_step(ctx);
}

static void on_end(enum stream_end end, const char *text, void *ctx)
{
    struct session *s = ctx;
    if (s->over)
        return;
    /* Who guesses passwords and leaves before he is told is to be seen too. */
    bool guessing = s->exchange != NULL && end != STREAM_END_EOF;
    if (end == STREAM_END_TLS || s->handshaking || smtp_server_in_data(s->server) || guessing)
        log_event(s->worker->submit->log, LOG_LEVEL_INFO, "reject", LOG_T("address", s->address),
                  LOG_T("helo", s->helo), LOG_T("text", text),
                  LOG_T("stage", s->handshaking ? "tls"
                                 : guessing     ? "auth"
                                                : "session"));
    if (end != STREAM_END_EOF || s->handshaking) {
        session_end(s, false);
        return;
    }
    s->half = true; /* it may still read: what was asked is answered */
    session_step(s);
}

static const struct stream_events stream_events = {
    .on_open = NULL,
    .on_tls = on_tls,
    .on_bytes = on_bytes,
    .on_drain = on_drain,
    .on_end = on_end,
};

/* ---- time ---- */

static void on_timer(uv_timer_t *timer)
{
    struct session *s = timer->data;
    uint64_t limit = s->settings->config->timeouts.server;
    uint64_t now_ms = time_monotonic_ms();
    /* Our own waiting for a commit is not the client's idleness. That for the budget ends like it:
     * whatever holds the budget, nobody waits for ever. */
    if ((s->paused && !s->unread && !s->starved) || smtp_server_answer_pending(s->server))
        s->active_ms = now_ms;
    uint64_t quiet = now_ms - s->active_ms;
    if (quiet < limit) {
        uv_timer_start(timer, on_timer, limit - quiet, 0);
        return;
    }
    if (s->handshaking || s->want_close) {
        session_end(s, false);
        return;
    }
    smtp_server_shut(s->server, s->starved ? "4.3.1 Insufficient system storage, try again later"
                                           : "4.4.2 Idle for too long, closing the connection");
    session_step(s);
    if (!s->over) /* a client that takes no bytes either */
        session_end(s, true);
}

/* ---- opening ---- */

/* What does not leave the machine needs no TLS, and programs that use such sockets know none: where
 * the listener's addresses demand it, its socket only offers it. */
static enum config_listener_tls tls_mode_of(const struct config_listener *listener, bool is_unix)
{
    return is_unix && listener->tls != CONFIG_LISTENER_TLS_OFF ? CONFIG_LISTENER_TLS_OPTIONAL
                                                               : listener->tls;
}

/* What is known of the client from the connection alone. */
static void learn_client(struct session *s, const struct session_start *start)
{
    struct trust_client *client = &s->client;
    client->is_unix = start->is_unix;
    client->tls_possible =
        s->settings->tls[s->listener_number] != NULL && s->listener->tls != CONFIG_LISTENER_TLS_OFF;
    if (start->is_unix) {
        snprintf(s->address, sizeof s->address, "unix");
        if (!unix_socket_user(start->fd, s->account, sizeof s->account))
            s->account[0] = '\0';
        return;
    }
    stream_peer(s->stream, s->address, sizeof s->address, &s->port);
    client->ipv6 = stream_peer_bytes(s->stream, client->address);
}

static void make_server(struct session *s)
{
    const struct config *config = s->settings->config;
    bool tls = s->client.tls_possible;
    enum config_listener_tls mode = s->tls_mode;
    struct smtp_server_options options = {
        .hostname = config->hostname,
        .banner = "ESMTP",
        .max_message_bytes = s->listener->max_message_bytes,
        .max_recipients = s->listener->max_recipients,
        .offer_starttls =
            tls && (mode == CONFIG_LISTENER_TLS_OPTIONAL || mode == CONFIG_LISTENER_TLS_REQUIRED),
        .require_starttls = mode == CONFIG_LISTENER_TLS_REQUIRED,
        .refuse_long_lines = s->listener->refuse_long_lines,
        .header_max = SUBMIT_HEADER_MAX,
        .accept_unqualified = s->listener->role == CONFIG_ROLE_SUBMISSION,
        .auth_after_tls = tls && s->listener->auth != CONFIG_AUTH_OFF,
    };
    s->server = smtp_server_new(&options, &server_events, s);
}

void session_open(const struct session_start *start)
{
    struct submit_worker *worker = start->worker;
    struct submit *submit = worker->submit;
    struct session *s = mem_alloc(sizeof *s);
    s->worker = worker;
    s->settings = start->settings;
    s->listener_number = start->listener;
    s->listener = &s->settings->config->listeners[start->listener];
    s->tls_mode = tls_mode_of(s->listener, start->is_unix);
    s->crowded = start->crowded;
    s->active_ms = time_monotonic_ms();
    s->next = worker->sessions;
    if (s->next != NULL)
        s->next->prev = s;
    worker->sessions = s;
    atomic_fetch_add(&submit->sessions, 1);
    loop_load_add(worker->loop, 1);
    uv_timer_init(loop_uv(worker->loop), &s->timer);
    s->timer.data = s;
    s->stream = stream_accept_fd(loop_uv(worker->loop), start->fd, &stream_events, s);
    if (s->stream == NULL)
        atomic_fetch_sub(&submit->sockets, 1);
    else
        stream_count(s->stream, &submit->sockets);
    if (s->stream == NULL || worker->stopping) {
        session_end(s, false);
        return;
    }
    learn_client(s, start);
    make_server(s);
    uv_timer_start(&s->timer, on_timer, s->settings->config->timeouts.server, 0);
    log_event(submit->log, LOG_LEVEL_INFO, "connect", LOG_T("address", s->address),
              LOG_I("port", s->port), LOG_T("user", s->account), LOG_T("listener", start->text));
    if (s->tls_mode == CONFIG_LISTENER_TLS_IMPLICIT) {
        if (!s->crowded) {
            start_tls(s);
            return;
        }
        /* No handshake only to say no: that costs more than the session. */
        log_event(submit->log, LOG_LEVEL_INFO, "reject", LOG_T("address", s->address),
                  LOG_T("text", "too many connections"));
        atomic_fetch_add(&submit->rejected, 1);
        session_end(s, false);
        return;
    }
    greet(s);
    session_step(s);
}

/* ---- for all ---- */

void session_shut_all(struct submit_worker *worker)
{
    struct session *next = NULL;
    for (struct session *s = worker->sessions; s != NULL; s = next) {
        next = s->next;
        if (s->over)
            continue;
        if (s->handshaking) {
            session_end(s, false);
            continue;
        }
        smtp_server_shut(s->server, "4.3.2 Service shutting down, try again later");
        session_step(s);
    }
}

void session_cut_all(struct submit_worker *worker)
{
    struct session *next = NULL;
    for (struct session *s = worker->sessions; s != NULL; s = next) {
        next = s->next;
        session_end(s, false);
    }
}

void session_budget_short(struct submit_worker *worker)
{
    for (struct session *s = worker->sessions; s != NULL; s = s->next) {
        if (!s->over && s->intake != NULL)
            intake_flush(s->intake);
    }
}

void session_budget_freed(struct submit_worker *worker)
{
    struct session *next = NULL;
    for (struct session *s = worker->sessions; s != NULL; s = next) {
        next = s->next;
        if (!s->over && s->paused && !s->handshaking)
            steer_reading(s);
    }
}
