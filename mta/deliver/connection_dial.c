/* mta/deliver/connection_dial.c - finding an address that answers: the walk over the hosts, the
 * connect, what is learnt from it, and what happens when nothing is left to try. */
#include <stdio.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/deliver/connection_private.h"

#define UNREACHABLE_FOR_MS UINT64_C(300000)
#define IPV6_DEAD_FOR_MS   UINT64_C(600000)
#define REDIAL_MS          1000

void connection_dialled(struct connection *c)
{
    struct memory *memory = c->worker->deliver->memory;
    memory_forget(memory, MEMORY_UNREACHABLE, c->place);
    if (c->ipv6)
        memory_forget(memory, MEMORY_IPV6_DEAD, "");
    else if (c->ipv6_failed)
        memory_learn(memory, MEMORY_IPV6_DEAD, "", time_monotonic_ms() + IPV6_DEAD_FOR_MS);
}

void connection_note_given_up(struct connection *c)
{
    char id[QUEUE_ID_TEXT] = "";
    const struct delivery *d = c->delivery;
    if (d != NULL)
        queue_id_text(d->unit->id, id);
    log_event(c->worker->deliver->log, LOG_LEVEL_INFO, "attempt", LOG_T("id", id),
              LOG_T("sender", d != NULL ? d->envelope->sender : ""),
              LOG_T("domain", d != NULL ? domain_name(d->unit->domain) : ""),
              LOG_T("site", site_target(c->site)->hosts[0].name), LOG_T("host", c->host),
              LOG_T("address", c->address), LOG_I("code", c->last.code),
              LOG_T("status", c->last.status), LOG_T("reply", c->last.text));
    size_t used = strlen(c->tried);
    c->given_up++;
    if (c->last.code != 0)
        snprintf(c->tried + used, sizeof c->tried - used, "%s%s [%s] said %u %s",
                 used > 0 ? "; " : "", c->host, c->address, c->last.code, c->last.text);
    else
        snprintf(c->tried + used, sizeof c->tried - used, "%s%s", used > 0 ? "; " : "",
                 c->last.text);
}

void connection_dial_failed(struct connection *c, const char *text)
{
    char words[512];
    memory_learn(c->worker->deliver->memory, MEMORY_UNREACHABLE, c->place,
                 time_monotonic_ms() + UNREACHABLE_FOR_MS);
    c->ipv6_failed = c->ipv6_failed || c->ipv6;
    snprintf(words, sizeof words, "connect to %s [%s]: %s", c->host, c->address, text);
    outcome_set(&c->last, OUTCOME_DEFERRED, 0, "4.4.1", words);
    connection_note_given_up(c);
    stream_close(&c->stream, false);
    c->state = CONNECTION_WALKING;
    walk_next(c->walk);
}

void connection_dial_later(struct connection *c, const char *text)
{
    struct deliver *deliver = c->worker->deliver;
    int64_t left_out = 0;
    stream_close(&c->stream, false);
    if (log_pace(&deliver->socketless, &left_out))
        log_event(deliver->log, LOG_LEVEL_ERROR, "attempt", LOG_T("host", c->host),
                  LOG_T("address", c->address), LOG_T("reply", text),
                  LOG_T("text", "no socket could be made; trying again"),
                  LOG_I("suppressed", left_out));
    c->redial_ms = time_monotonic_ms() + REDIAL_MS;
    connection_arm(c);
}

static const struct sockaddr *source_address(const struct connection *c,
                                             struct sockaddr_storage *storage)
{
    const struct config_source *source = &c->settings->config->delivery.source;
    memset(storage, 0, sizeof *storage);
    if (c->ipv6 && source->has_ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)storage;
        in6->sin6_family = AF_INET6;
        memcpy(&in6->sin6_addr, source->ipv6.bytes, 16);
        return (const struct sockaddr *)storage;
    }
    if (!c->ipv6 && source->has_ipv4) {
        struct sockaddr_in *in = (struct sockaddr_in *)storage;
        in->sin_family = AF_INET;
        memcpy(&in->sin_addr, source->ipv4.bytes, 4);
        return (const struct sockaddr *)storage;
    }
    return NULL;
}

void connection_dial(struct connection *c)
{
    struct sockaddr_storage source;
    c->state = CONNECTION_CONNECTING;
    c->redial_ms = 0;
    c->stream = stream_connect(
        loop_uv(c->worker->loop), (const struct sockaddr *)&c->socket, source_address(c, &source),
        (uint32_t)c->settings->config->timeouts.connect, &connection_stream_events, c);
    connection_arm(c);
    if (c->stream == NULL)
        connection_dial_failed(c, "no socket could be made");
}

static void on_address(const char *host, const char *text, const struct sockaddr *address,
                       void *ctx)
{
    struct connection *c = ctx;
    snprintf(c->host, sizeof c->host, "%s", host);
    snprintf(c->address, sizeof c->address, "%s", text);
    c->ipv6 = address->sa_family == AF_INET6;
    memory_place(c->place, text,
                 ntohs(c->ipv6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                               : ((const struct sockaddr_in *)address)->sin_port));
    memcpy(&c->socket, address, c->ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    c->helo_only = false;
    c->clear_only =
        memory_knows(c->worker->deliver->memory, MEMORY_TLS_BROKEN, c->place, time_monotonic_ms());
    connection_dial(c);
}

/* Nothing is left to try: the attempt has failed. So it has for what waits at this site, if no
 * address spoke with us and no other connection is doing better; a session that was lost over this
 * unit says nothing of the others. */
static void on_exhausted(const struct mail_outcome *reason, void *ctx)
{
    struct connection *c = ctx;
    struct scheduler *scheduler = c->worker->deliver->scheduler;
    if (reason->kind != OUTCOME_NONE) {
        outcome_copy(&c->last, reason);
        c->host[0] = c->address[0] = '\0';
    }
    if (c->given_up > 1)
        outcome_set(&c->last, c->last.kind, c->last.code, c->last.status, c->tried);
    if (c->delivery != NULL && c->last.kind != OUTCOME_NONE)
        connection_give_up(c);
    bool standing = scheduler_connections_standing(scheduler, c->site) > (c->counted ? 1u : 0u);
    if (!standing && !c->reached_ready && c->last.kind != OUTCOME_NONE && !c->worker->stopping) {
        struct settle_place place = {site_target(c->site)->hosts[0].name, c->host, c->address};
        struct unit_list rest = scheduler_take_all(scheduler, c->site);
        settle_list(c->worker, &rest, &c->last, c->opened_ms, &place);
    }
    connection_end(c);
}

const struct walk_events connection_walk_events = {
    .on_address = on_address,
    .on_exhausted = on_exhausted,
};
