/* mta/deliver/connection.c - the life of one outgoing connection: find an address, connect, speak
 * SMTP, carry units, idle, end. On one worker's loop.
 *
 * Callbacks of stream and client only note what happened; connection_step() then decides, so that
 * nothing is ended or freed from inside a callee. Sources: RFC 5321 sections 4.5.4 and 5.1, RFC
 * 3207. */
#include "mta/deliver/connection_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/policy.h"

#define TLS_BROKEN_FOR_MS UINT64_C(3600000)

/* ---- ending ---- */

static void free_when_over(struct connection *c)
{
    struct worker *worker = c->worker;
    if (c->state != CONNECTION_OVER || !c->timer_closed || c->signing || c->recording)
        return;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        worker->connections = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    outcome_clear(&c->last);
    settings_unref(&c->settings);
    free(c);
    worker_check_stopped(worker);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    c->timer_closed = true;
    free_when_over(c);
}

static void drop_session(struct connection *c, bool graceful)
{
    stream_close(&c->stream, graceful);
    smtp_client_free(&c->client);
    c->news = (struct session_news){0};
    c->tls_handshaking = false;
    c->in_transaction = c->content_going = c->content_done = false;
    c->tls[0] = '\0';
    c->transactions = c->completed = 0;
}

void connection_end(struct connection *c)
{
    if (c->state == CONNECTION_OVER)
        return;
    bool counted = c->counted;
    bool polite = c->state == CONNECTION_QUITTING || c->state == CONNECTION_SESSION;
    drop_session(c, polite && !c->worker->stopping);
    c->state = CONNECTION_OVER;
    walk_free(&c->walk);
    if (c->delivery != NULL)
        connection_drop_unit(c);
    loop_load_add(c->worker->loop, -1);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    scheduler_connection_gone(c->worker->deliver->scheduler, c->site, counted);
}

void connection_quit(struct connection *c)
{
    if (c->worker->stopping || !smtp_client_ready(c->client)) {
        connection_end(c);
        return;
    }
    c->state = CONNECTION_QUITTING;
    smtp_client_quit(c->client, time_monotonic_ms());
}

/* ---- the timer: the earliest of the session's, the attempt's and the idle deadline ---- */

static void on_timer(uv_timer_t *timer);

void connection_arm(struct connection *c)
{
    uint64_t at = UINT64_MAX;
    if (c->delivery != NULL)
        at = c->deadline_ms;
    if (c->client != NULL && !c->tls_handshaking && smtp_client_deadline(c->client) < at)
        at = smtp_client_deadline(c->client);
    if (c->state == CONNECTION_IDLE)
        at = c->idle_until_ms;
    if (c->redial_ms != 0 && c->redial_ms < at)
        at = c->redial_ms;
    if (at == UINT64_MAX) {
        uv_timer_stop(&c->timer);
        return;
    }
    /* Replies move deadlines further off all the time: the timer stays and looks again when it
     * fires early. */
    if (uv_is_active((uv_handle_t *)&c->timer) && c->armed_ms <= at)
        return;
    uint64_t now_ms = time_monotonic_ms();
    c->armed_ms = at;
    uv_update_time(loop_uv(c->worker->loop));
    uv_timer_start(&c->timer, on_timer, at > now_ms ? at - now_ms : 0, 0);
}

static void on_total_timeout(struct connection *c)
{
    outcome_set(&c->last, OUTCOME_DEFERRED, 0, "4.4.2",
                c->delivery->sent ? "outcome unknown: the attempt took longer than timeouts.total"
                                  : "the attempt took longer than timeouts.total");
    connection_give_up(c);
    connection_end(c);
}

static void on_timer(uv_timer_t *timer)
{
    struct connection *c = timer->data;
    uint64_t now_ms = time_monotonic_ms();
    if (c->state == CONNECTION_IDLE) {
        if (now_ms < c->idle_until_ms) {
            connection_arm(c);
        } else if (scheduler_unidle(c->worker->deliver->scheduler, &c->idler)) {
            c->state = CONNECTION_SESSION;
            connection_quit(c);
            connection_step(c);
        } else {
            c->state = CONNECTION_WAKING;
        }
        return;
    }
    if (c->delivery != NULL && now_ms >= c->deadline_ms) {
        on_total_timeout(c);
        return;
    }
    if (c->redial_ms != 0) {
        if (now_ms >= c->redial_ms)
            connection_dial(c);
        else
            connection_arm(c);
        return;
    }
    if (c->client != NULL && c->stream != NULL && !c->tls_handshaking) {
        uint64_t written = stream_written_total(c->stream);
        if (written != c->written_seen) { /* slow, but moving: the block timer starts anew */
            c->written_seen = written;
            smtp_client_progress(c->client, stream_pending(c->stream) == 0, now_ms);
        }
        if (now_ms >= smtp_client_deadline(c->client))
            smtp_client_timeout(c->client, now_ms);
    }
    connection_step(c);
}

/* ---- what the SMTP session says ---- */

static void on_ready(void *ctx)
{
    ((struct connection *)ctx)->reached_ready = true; /* connection_step asks smtp_client_ready() */
}

static void on_starttls(void *ctx)
{
    struct connection *c = ctx;
    c->news.starttls = true;
}

static void on_recipient(size_t index, const struct smtp_result *result, void *ctx)
{
    struct connection *c = ctx;
    if (c->delivery != NULL)
        connection_recipient_result(c, index, result);
}

static void on_go_ahead(void *ctx)
{
    struct connection *c = ctx;
    c->news.go_ahead = true;
}

static void on_transaction_done(const struct smtp_result *result, void *ctx)
{
    struct connection *c = ctx;
    c->news.done = true;
    c->news.done_result = *result;
}

static void on_session_end(const struct smtp_result *result, void *ctx)
{
    struct connection *c = ctx;
    c->news.ended = true;
    c->news.end_result = *result;
}

static const struct smtp_client_events client_events = {
    .on_ready = on_ready,
    .on_starttls = on_starttls,
    .on_recipient = on_recipient,
    .on_go_ahead = on_go_ahead,
    .on_transaction_done = on_transaction_done,
    .on_end = on_session_end,
};

static void start_session(struct connection *c)
{
    const struct config *config = c->settings->config;
    enum config_tls tls = site_target(c->site)->tls;
    struct smtp_client_options options = {
        .hostname = config->hostname,
        .helo_only = c->helo_only,
        .tls = SMTP_CLIENT_TLS_MUST,
        .greeting_ms = (uint32_t)config->timeouts.greeting,
        .ehlo_ms = (uint32_t)config->timeouts.ehlo,
        .tls_ms = (uint32_t)config->timeouts.tls,
        .mail_ms = (uint32_t)config->timeouts.mail,
        .rcpt_ms = (uint32_t)config->timeouts.rcpt,
        .data_ms = (uint32_t)config->timeouts.data,
        .block_ms = (uint32_t)config->timeouts.block,
        .dot_ms = (uint32_t)config->timeouts.dot,
    };
    if (tls == CONFIG_TLS_OFF || (tls == CONFIG_TLS_OPPORTUNISTIC && c->clear_only))
        options.tls = SMTP_CLIENT_TLS_OFF;
    else if (tls == CONFIG_TLS_OPPORTUNISTIC)
        options.tls = SMTP_CLIENT_TLS_MAY;
    c->client = smtp_client_new(&options, &client_events, c);
    smtp_client_start(c->client, time_monotonic_ms());
}

/* ---- what the stream says ---- */

static void on_stream_open(void *ctx)
{
    struct connection *c = ctx;
    connection_dialled(c);
    if (!c->counted) {
        scheduler_connected(c->worker->deliver->scheduler, c->site);
        c->counted = true;
    }
    c->state = CONNECTION_SESSION;
    start_session(c);
    connection_step(c);
}

static void on_stream_tls(const struct tls_verdict *verdict, void *ctx)
{
    struct connection *c = ctx;
    char words[512];
    c->tls_handshaking = false;
    if (site_target(c->site)->tls == CONFIG_TLS_VERIFY &&
        !(verdict->trusted && verdict->name_matches)) {
        snprintf(words, sizeof words, "the certificate of %s is not verified: %s", c->host,
                 verdict->problem);
        smtp_client_tls_failed(c->client, words, time_monotonic_ms());
    } else {
        snprintf(c->tls, sizeof c->tls, "%s %s", verdict->version, verdict->cipher);
        smtp_client_tls_started(c->client, time_monotonic_ms());
    }
    connection_step(c);
}

static void on_stream_bytes(char *bytes, size_t len, void *ctx)
{
    struct connection *c = ctx;
    if (c->client == NULL)
        return;
    smtp_client_input(c->client, bytes, len, time_monotonic_ms());
    connection_step(c);
}

static void on_stream_drain(void *ctx)
{
    struct connection *c = ctx;
    if (c->client == NULL)
        return;
    c->written_seen = stream_written_total(c->stream);
    smtp_client_progress(c->client, true, time_monotonic_ms());
    connection_step(c);
}

static void on_stream_end(enum stream_end end, const char *text, void *ctx)
{
    struct connection *c = ctx;
    if (c->state == CONNECTION_CONNECTING && end == STREAM_END_SHORTAGE) {
        connection_dial_later(c, text);
        return;
    }
    if (c->state == CONNECTION_CONNECTING) {
        connection_dial_failed(c, text);
        return;
    }
    if (c->client == NULL)
        return;
    /* a TLS record that does not decrypt ends an established session like a reset */
    if (c->tls_handshaking)
        smtp_client_tls_failed(c->client, text, time_monotonic_ms());
    else
        smtp_client_closed(c->client, text, time_monotonic_ms());
    c->tls_handshaking = false;
    connection_step(c);
}

const struct stream_events connection_stream_events = {
    .on_open = on_stream_open,
    .on_tls = on_stream_tls,
    .on_bytes = on_stream_bytes,
    .on_drain = on_stream_drain,
    .on_end = on_stream_end,
};

/* ---- deciding ---- */

static void flush_output(struct connection *c)
{
    struct buf *out = smtp_client_output(c->client);
    struct str bytes = buf_str(out);
    if (bytes.len == 0 || c->tls_handshaking)
        return;
    stream_write(c->stream, bytes.p, bytes.len);
    buf_consume(out, bytes.len);
}

static void start_tls(struct connection *c)
{
    struct tls_session *session = NULL;
    c->tls_tried = true;
    if (tls_client_session_new(c->settings->tls, c->host, &session) < 0) {
        smtp_client_tls_failed(c->client, "no TLS session could be made", time_monotonic_ms());
        return;
    }
    c->tls_handshaking = true;
    stream_start_tls(c->stream, session, (uint32_t)c->settings->config->timeouts.tls, NULL);
}

/* The session is of no more use. A unit that still waits goes on by what policy.c says. */
static void on_ended(struct connection *c)
{
    struct smtp_result result = c->news.end_result;
    bool reused = c->completed > 0;
    struct policy_situation situation = {
        .opportunistic = site_target(c->site)->tls == CONFIG_TLS_OPPORTUNISTIC,
        .under_tls = c->tls_tried || result.stage == SMTP_STAGE_STARTTLS,
        .helo_only = c->helo_only,
        .dot_sent = c->delivery != NULL && c->delivery->sent,
    };
    if (c->delivery == NULL) {
        connection_end(c);
        return;
    }
    policy_judge_session(&result, &c->last);
    if (c->worker->stopping) {
        connection_end(c);
        return;
    }
    if (reused && !situation.dot_sent && !c->delivery->unit->requeued &&
        !delivery_has_progress(c->delivery)) {
        connection_end(c); /* stale: the unit goes back to the queue, no attempt is counted */
        return;
    }
    drop_session(c, true);
    c->tls_tried = false;
    switch (policy_after_end(&result, &situation)) {
    case POLICY_SAME_CLEAR:
        memory_learn(c->worker->deliver->memory, MEMORY_TLS_BROKEN, c->place,
                     time_monotonic_ms() + TLS_BROKEN_FOR_MS);
        log_event(c->worker->deliver->log, LOG_LEVEL_WARNING, "attempt", LOG_T("host", c->host),
                  LOG_T("address", c->address), LOG_T("reply", c->last.text),
                  LOG_T("text", "TLS failed; going on in clear, as opportunistic TLS allows"));
        c->clear_only = true;
        connection_dial(c);
        return;
    case POLICY_SAME_HELO:
        c->helo_only = true;
        connection_dial(c);
        return;
    case POLICY_NEXT_ADDRESS:
        connection_note_given_up(c);
        c->state = CONNECTION_WALKING;
        walk_next(c->walk);
        return;
    case POLICY_GIVE_UP:
        connection_give_up(c);
        connection_end(c);
        return;
    }
    unreachable_bug();
}

static void go_idle(struct connection *c)
{
    bool work = false;
    c->state = CONNECTION_IDLE;
    c->idle_until_ms = time_monotonic_ms() + c->settings->config->timeouts.idle;
    if (scheduler_idle(c->worker->deliver->scheduler, c->site, &c->idler, &work)) {
        connection_arm(c);
        return;
    }
    c->state = CONNECTION_SESSION;
    if (!work)
        connection_quit(c);
}

/* The session is ready for the next transaction. @return true: something was done, look again */
static bool use_ready_session(struct connection *c)
{
    if (c->worker->stopping) { /* no further transaction, also of a unit that is half done */
        connection_end(c);
        return true;
    }
    if (c->delivery == NULL) {
        if (c->transactions >= c->settings->config->delivery.site_messages_per_connection) {
            connection_quit(c);
            return true;
        }
        if (c->signing)
            return false;
        if (!connection_take_unit(c)) {
            go_idle(c);
            return c->state != CONNECTION_IDLE;
        }
    }
    if (c->signing || c->in_transaction)
        return false;
    c->transactions++;
    connection_begin_transaction(c);
    return true;
}

/* @return true: look again */
static bool step_once(struct connection *c)
{
    flush_output(c);
    if (c->news.starttls) {
        c->news.starttls = false;
        start_tls(c);
        return true;
    }
    if (c->news.done) {
        c->news.done = false;
        if (c->delivery != NULL)
            connection_end_transaction(c);
        return true;
    }
    if (c->news.ended) {
        on_ended(c);
        return false;
    }
    if (c->news.go_ahead) {
        c->news.go_ahead = false;
        c->content_going = true;
    }
    if (c->content_going && !c->content_done)
        connection_pump_content(c);
    if (!c->tls_handshaking && smtp_client_deadline(c->client) <= time_monotonic_ms()) {
        smtp_client_timeout(c->client, time_monotonic_ms());
        return true;
    }
    if (c->state == CONNECTION_SESSION && smtp_client_ready(c->client))
        return use_ready_session(c);
    return false;
}

void connection_step(struct connection *c)
{
    while (c->client != NULL &&
           (c->state == CONNECTION_SESSION || c->state == CONNECTION_QUITTING) && step_once(c))
        continue;
    if (c->state == CONNECTION_IDLE && c->news.ended) {
        if (scheduler_unidle(c->worker->deliver->scheduler, &c->idler))
            connection_end(c);
        else
            c->state = CONNECTION_WAKING;
    }
    if (c->state == CONNECTION_OVER) {
        free_when_over(c);
        return;
    }
    if (c->client != NULL)
        flush_output(c);
    connection_arm(c);
}

/* ---- starting, waking, stopping ---- */

void connection_open(struct worker *worker, struct site *site)
{
    struct connection *c = mem_alloc(sizeof *c);
    c->worker = worker;
    c->site = site;
    c->settings = deliver_settings(worker->deliver);
    c->state = CONNECTION_WALKING;
    c->next = worker->connections;
    if (c->next != NULL)
        c->next->prev = c;
    worker->connections = c;
    uv_timer_init(loop_uv(worker->loop), &c->timer);
    c->timer.data = c;
    c->armed_ms = UINT64_MAX;
    c->opened_ms = time_monotonic_ms();
    loop_load_add(worker->loop, 1);
    if (worker->stopping || !connection_take_unit(c)) {
        connection_end(c);
        return;
    }
    c->walk = walk_new(worker, c->settings, site_target(site), &connection_walk_events, c);
    connection_arm(c);
    walk_next(c->walk);
}

static struct connection *connection_of(const struct idler *idler)
{
    return (struct connection *)(void *)((const char *)idler - offsetof(struct connection, idler));
}

struct loop *connection_loop(const struct idler *idler)
{
    return connection_of(idler)->worker->loop;
}

void connection_woken(struct idler *idler)
{
    struct connection *c = connection_of(idler);
    scheduler_woken(c->worker->deliver->scheduler, c->site);
    if (c->state == CONNECTION_OVER)
        return; /* cannot be: it waits for this wake-up */
    if (c->worker->stopping || c->news.ended || stream_is_stale(c->stream)) {
        connection_end(c);
        return;
    }
    c->state = CONNECTION_SESSION;
    connection_step(c);
}

void connection_stop_all(struct worker *worker, bool now)
{
    struct connection *next = NULL;
    for (struct connection *c = worker->connections; c != NULL; c = next) {
        next = c->next;
        if (c->state == CONNECTION_OVER || c->state == CONNECTION_WAKING)
            continue;
        if (c->state == CONNECTION_IDLE &&
            !scheduler_unidle(worker->deliver->scheduler, &c->idler)) {
            c->state = CONNECTION_WAKING;
            continue;
        }
        bool in_flight = c->client != NULL && smtp_client_awaits_dot(c->client);
        if (!now && in_flight)
            continue;
        if (in_flight && c->delivery != NULL) {
            outcome_set(&c->last, OUTCOME_DEFERRED, 0, "4.4.2",
                        "outcome unknown: shut down while waiting for the reply to the final dot");
            connection_give_up(c);
        }
        connection_end(c);
    }
}
