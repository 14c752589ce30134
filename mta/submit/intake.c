/* mta/submit/intake.c - one message on its way into the queue.
 *
 * The header section is collected first (bounded), completed once (trace field; what a submission
 * lacks), and everything behind it flows on to the writer in pieces, hashed for DKIM as it passes:
 * signed bytes = stored bytes = wire bytes. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "mta/base/time.h"
#include "mta/mail/dkim.h"
#include "mta/mail/header.h"
#include "mta/mail/submission.h"
#include "mta/mail/trace.h"
#include "mta/smtp/address.h"
#include "mta/submit/submit_private.h"
#include "mta/submit/trust.h"

#define ADDED_MAX       4096 /* fields of ours */
#define RECIPIENT_BYTES 128  /* besides its texts: the struct, its place in the table, malloc */

static_assert((int)SMTP_RET_FULL == (int)QUEUE_RET_FULL &&
                  (int)SMTP_RET_HDRS == (int)QUEUE_RET_HDRS,
              "one set of values");
static_assert(SMTP_ENVID_MAX <= QUEUE_ENVID_MAX && SMTP_ORCPT_MAX <= QUEUE_ORCPT_MAX,
              "what a client may ask for can be stored");

struct recipient {
    char *address;
    char *domain; /* A-labels, lower case */
    char *orcpt;  /* NULL: none */
    uint8_t notify;
    UT_hash_handle hh;
};

enum intake_phase {
    INTAKE_ENVELOPE,
    INTAKE_HEADER,
    INTAKE_BODY,
    INTAKE_NO_ROOM, /* the header section did not fit: content is dropped */
    INTAKE_COMMITTING,
    INTAKE_ABANDONED
};

struct intake {
    struct intake *prev, *next; /* commits of the worker */
    struct submit_worker *worker;
    const struct config *config;
    const struct config_listener *listener;
    struct submit_settings *settings;
    enum intake_phase phase;
    char *sender;
    bool body_8bit;
    uint32_t flags; /* of the envelope, without body_8bit */
    enum queue_ret ret;
    char *envid;
    struct recipient *recipients;
    size_t recipient_count;

    struct queue_put *put;
    uint64_t id;
    char id_text[QUEUE_ID_TEXT];
    int failure; /* of the queue, told at the end */
    char *helo, *tls, *user;
    char address[48];
    bool extended;
    const struct auth_user *login; /* until the end has come */
    char *author_refusal;          /* From names whom login may not be; or NULL */
    int64_t time_unix_ms;

    struct buf held; /* header until complete, then content on its way */
    size_t charged;  /* of held, in the budget: nothing before the header is complete */
    size_t kept;     /* recipients and the header until complete, of SUBMIT_KEPT_MAX */
    uint64_t header_bytes;
    struct header_facts facts;
    struct tls_sha256 *sha;
    struct dkim_body body;
    uint8_t body_hash[32];

    intake_done_fn on_done;
    void *ctx;
};

/* ---- budget ---- */

static void charge(struct intake *intake, size_t len)
{
    intake->charged += len;
    atomic_fetch_add(&intake->worker->submit->budget_used, len);
}

static void on_room(struct loop *loop, void *arg)
{
    (void)loop;
    session_budget_freed(arg);
}

static void discharge(struct submit *submit, size_t len)
{
    size_t before = atomic_fetch_sub(&submit->budget_used, len);
    if (before - len > SUBMIT_BUDGET_BYTES / 4 * 3 ||
        !atomic_exchange(&submit->budget_short, false))
        return;
    for (size_t i = 0; i < submit->worker_count; i++) {
        bool posted = loop_post(submit->workers[i].loop, on_room, &submit->workers[i]);
        (void)posted; /* false: stopping, nobody reads any more */
    }
}

static void on_stored(size_t len, void *ctx)
{
    discharge(ctx, len);
}

static void on_short(struct loop *loop, void *arg)
{
    (void)loop;
    session_budget_short(arg);
}

void intake_budget_short(struct submit *submit)
{
    if (atomic_exchange(&submit->budget_short, true))
        return;
    for (size_t i = 0; i < submit->worker_count; i++) {
        bool posted = loop_post(submit->workers[i].loop, on_short, &submit->workers[i]);
        (void)posted; /* false: stopping, nobody reads any more */
    }
}

static bool keep(struct intake *intake, size_t len)
{
    atomic_size_t *used = &intake->worker->submit->kept_used;
    if (atomic_fetch_add(used, len) + len > SUBMIT_KEPT_MAX) {
        atomic_fetch_sub(used, len);
        return false;
    }
    intake->kept += len;
    return true;
}

static void unkeep(struct intake *intake, size_t len)
{
    intake->kept -= len;
    atomic_fetch_sub(&intake->worker->submit->kept_used, len);
}

/* ---- envelope ---- */

struct intake *intake_new(struct submit_worker *worker, const struct submit_settings *settings,
                          const struct config_listener *listener, struct str sender,
                          const struct smtp_mail *mail)
{
    struct intake *intake = mem_alloc(sizeof *intake);
    intake->worker = worker;
    intake->settings = submit_settings_ref((struct submit_settings *)settings);
    intake->config = settings->config;
    intake->listener = listener;
    intake->sender = str_dup(sender);
    intake->body_8bit = mail->body_8bit;
    intake->flags = (mail->smtputf8 ? QUEUE_FLAG_SMTPUTF8 : 0U) |
                    (mail->requiretls ? QUEUE_FLAG_REQUIRETLS : 0U);
    intake->ret = (enum queue_ret)mail->ret;
    intake->envid = str_dup(mail->envid);
    buf_init(&intake->held,
             SUBMIT_HEADER_MAX + SUBMIT_PIECE_BYTES + ADDED_MAX + SUBMIT_PIECE_BYTES);
    return intake;
}

enum intake_rcpt intake_add_recipient(struct intake *intake, struct str address, struct str domain,
                                      uint8_t notify, struct str orcpt)
{
    char ascii[SMTP_DOMAIN_MAX + 1];
    struct recipient *found = NULL;
    if (address.len > QUEUE_ADDRESS_MAX || !smtp_domain_ascii(domain, ascii, sizeof ascii))
        return INTAKE_RCPT_NO_DOMAIN;
    HASH_FIND(hh, intake->recipients, address.p, address.len, found);
    if (found != NULL)
        return INTAKE_RCPT_OK; /* named twice, delivered once */
    if (intake->recipient_count >= QUEUE_RECIPIENTS_MAX ||
        !keep(intake, RECIPIENT_BYTES + address.len + strlen(ascii) + orcpt.len))
        return INTAKE_RCPT_NO_ROOM;
    struct recipient *recipient = mem_alloc(sizeof *recipient);
    recipient->address = str_dup(address);
    recipient->domain = str_dup(str_from(ascii));
    recipient->orcpt = orcpt.len > 0 ? str_dup(orcpt) : NULL;
    recipient->notify = notify;
    HASH_ADD_KEYPTR(hh, intake->recipients, recipient->address, address.len, recipient);
    intake->recipient_count++;
    return INTAKE_RCPT_OK;
}

size_t intake_recipient_count(const struct intake *intake)
{
    return intake->recipient_count;
}

void intake_drop_recipients(struct intake *intake, size_t count)
{
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): not seen: the last HASH_DEL takes the table along */
    while (intake->recipient_count > count) {
        assert(intake->recipients != NULL); /* as many as are counted */
        struct UT_hash_table *table = intake->recipients->hh.tbl;
        struct recipient *last = ELMT_FROM_HH(table, table->tail);
        unkeep(intake, RECIPIENT_BYTES + strlen(last->address) + strlen(last->domain) +
                           str_from(last->orcpt).len);
        HASH_DEL(intake->recipients, last);
        free(last->address);
        free(last->domain);
        free(last->orcpt);
        free(last);
        intake->recipient_count--;
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
}

static void free_intake(struct intake *intake)
{
    intake_drop_recipients(intake, 0);
    discharge(intake->worker->submit, intake->charged);
    unkeep(intake, intake->kept);
    buf_deinit(&intake->held);
    tls_sha256_free(&intake->sha);
    free(intake->sender);
    free(intake->envid);
    free(intake->helo);
    free(intake->tls);
    free(intake->user);
    free(intake->author_refusal);
    submit_settings_unref(&intake->settings);
    free(intake);
}

/* ---- content ---- */

static void sha_update(void *ctx, const void *bytes, size_t len)
{
    tls_sha256_update(ctx, bytes, len);
}

static void sha_final(void *ctx, uint8_t digest[32])
{
    tls_sha256_final(ctx, digest);
}

int intake_begin(struct intake *intake, const struct intake_client *client)
{
    int rc = queue_put_begin(intake->worker->submit->queue, intake->worker->port, &intake->put,
                             &intake->id);
    if (rc < 0)
        return rc;
    queue_id_text(intake->id, intake->id_text);
    intake->helo = str_dup(str_from(client->helo));
    intake->tls = str_dup(str_from(client->tls));
    intake->user = str_dup(str_from(client->user));
    intake->login = client->login;
    snprintf(intake->address, sizeof intake->address, "%s", client->address);
    intake->extended = client->extended;
    intake->time_unix_ms = time_wall_ms();
    intake->sha = tls_sha256_new();
    struct dkim_hash hash = {.update = sha_update, .final = sha_final, .ctx = intake->sha};
    dkim_body_init(&intake->body, &hash);
    intake->phase = INTAKE_HEADER;
    return 0;
}

const char *intake_id(const struct intake *intake)
{
    return intake->id_text;
}

bool intake_in_body(const struct intake *intake)
{
    return intake->phase == INTAKE_BODY;
}

/* Many clients send 8-bit text without declaring it; the next server is to know. */
static void note_8bit(struct intake *intake, struct str bytes)
{
    unsigned char all = 0;
    if (intake->body_8bit || bytes.p == NULL) /* NULL: not a byte came */
        return;
    for (size_t i = 0; i < bytes.len; i++)
        all |= (unsigned char)bytes.p[i];
    intake->body_8bit = all > 0x7f;
}

/* What is held goes to the writer; the budget follows it there. */
void intake_flush(struct intake *intake)
{
    if (intake->phase != INTAKE_BODY)
        return;
    struct str held = buf_str(&intake->held);
    while (held.len > 0) {
        size_t n = held.len < QUEUE_PIECE_MAX ? held.len : QUEUE_PIECE_MAX;
        if (intake->failure == 0)
            intake->failure =
                queue_put_piece(intake->put, held.p, n, on_stored, intake->worker->submit);
        if (intake->failure == 0)
            intake->charged -= n; /* on_stored gives it back */
        held = str_skip(held, n);
    }
    buf_clear(&intake->held);
    discharge(intake->worker->submit, intake->charged);
    intake->charged = 0;
}

static bool is_submission(const struct intake *intake)
{
    return intake->listener->role == CONFIG_ROLE_SUBMISSION;
}

/* What is added is what the DKIM key is chosen by. */
static bool add_from(struct intake *intake, struct buf *out)
{
    struct header_facts added;
    size_t before = buf_len(out);
    bool ok = trace_add_from(intake->sender, intake->config->hostname, out);
    header_facts_read(str_skip(buf_str(out), before), &added);
    memcpy(intake->facts.from_domain, added.from_domain, sizeof added.from_domain);
    return ok;
}

static bool add_fields(struct intake *intake, struct buf *out)
{
    const struct header_facts *facts = &intake->facts;
    const char *hostname = intake->config->hostname;
    struct trace_session session = {
        .extended = intake->extended,
        .tls = intake->tls[0] != '\0',
        .logged_in = intake->login != NULL,
    };
    struct trace_received received = {
        .helo = str_from(intake->helo),
        .address = intake->address,
        .user = intake->user,
        .private_client = !intake->listener->trace_client,
        .by = hostname,
        .protocol = trace_protocol(session),
        .tls = intake->tls,
        .id = intake->id_text,
        .recipient = intake->recipient_count == 1 ? intake->recipients->address : NULL,
        .time_unix_ms = intake->time_unix_ms,
    };
    bool ok = trace_add_received(&received, out);
    if (!is_submission(intake))
        return ok;
    if (!facts->has_from)
        ok = ok && add_from(intake, out);
    if (!facts->has_date)
        ok = ok && trace_add_date(intake->time_unix_ms, out);
    if (!facts->has_message_id)
        ok = ok && trace_add_message_id(intake->id_text, hostname, intake->time_unix_ms, out);
    return ok;
}

/* A message whose very first line is no field has no header section at all: all of it is body. */
static bool starts_without_fields(struct str section)
{
    struct header_walk walk;
    struct header_field field;
    header_walk_init(&walk, section);
    return header_walk_next(&walk, &field) && field.name.len == 0;
}

/* The section as it is stored. *cleaned holds it where it had to be changed. *all_is_body_out:
 * there is none. That is seen from the client's first line: what is left of a section may begin
 * with a line that is no field, because the Bcc in front of it is gone. */
static struct str clean_section(struct intake *intake, struct str section, struct buf *cleaned,
                                bool *all_is_body_out)
{
    if (is_submission(intake))
        section = submission_skip_mailbox_line(section);
    *all_is_body_out = starts_without_fields(section);
    if (*all_is_body_out)
        return STR("");
    if (!is_submission(intake))
        return section;
    if (!submission_copy_header(section, intake->config->default_domain, cleaned))
        intake->failure = QUEUE_ERR_LIMIT;
    return buf_str(cleaned);
}

/* In the section as it is stored: what we add for <> vouches for this machine. */
static void judge_author(struct intake *intake, struct str section)
{
    struct smtp_verdict verdict = {0};
    if (intake->login != NULL && !trust_author(intake->login, section, &verdict))
        intake->author_refusal = str_dup(str_from(verdict.text));
}

/* The header section is complete: complete it with ours, and let the rest follow. */
static void end_header(struct intake *intake, size_t header_len, size_t body_start)
{
    struct str all = buf_str(&intake->held);
    struct buf cleaned, complete;
    buf_init(&cleaned, header_len + SUBMISSION_COMPLETED_MAX);
    bool all_is_body = false;
    struct str section =
        clean_section(intake, (struct str){all.p, header_len}, &cleaned, &all_is_body);
    struct str rest = str_skip(all, all_is_body ? 0 : body_start);
    buf_init(&complete, intake->held.max + SUBMISSION_COMPLETED_MAX + ADDED_MAX);
    header_facts_read(section, &intake->facts);
    bool ok = add_fields(intake, &complete) && buf_add_str(&complete, section);
    intake->header_bytes = buf_len(&complete);
    judge_author(intake, buf_str(&complete));
    ok = ok && buf_add_text(&complete, "\r\n") && buf_add_str(&complete, rest);
    if (!ok)
        intake->failure = QUEUE_ERR_LIMIT;
    note_8bit(intake, all);
    dkim_body_update(&intake->body, rest.p, rest.len);
    unkeep(intake, all.len);
    charge(intake, buf_len(&complete));
    buf_deinit(&cleaned);
    buf_deinit(&intake->held);
    intake->held = complete;
    intake->phase = INTAKE_BODY;
}

/* Looks only at what is new: a header that comes byte by byte costs no more. */
static bool find_header_end(const struct intake *intake, size_t seen, size_t *header_len_out,
                            size_t *body_start_out)
{
    struct str all = buf_str(&intake->held);
    size_t from = seen > 3 ? seen - 3 : 0;
    if (all.len >= 2 && memcmp(all.p, "\r\n", 2) == 0) { /* the blank line comes first */
        *header_len_out = 0;
        *body_start_out = 2;
        return true;
    }
    const char *end = memmem(all.p + from, all.len - from, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    *header_len_out = (size_t)(end - all.p) + 2;
    *body_start_out = *header_len_out + 2;
    return true;
}

void intake_content(struct intake *intake, const char *bytes, size_t len)
{
    size_t header_len, body_start;
    size_t seen = buf_len(&intake->held);
    if (intake->phase == INTAKE_NO_ROOM)
        return;
    if (intake->phase == INTAKE_BODY) {
        note_8bit(intake, (struct str){bytes, len});
        dkim_body_update(&intake->body, bytes, len);
        if (buf_len(&intake->held) + len > SUBMIT_PIECE_BYTES)
            intake_flush(intake);
        charge(intake, len);
    } else if (!keep(intake, len)) {
        unkeep(intake, seen);
        buf_deinit(&intake->held);
        intake->phase = INTAKE_NO_ROOM;
        return;
    }
    if (!buf_add(&intake->held, bytes, len)) {
        intake->failure = QUEUE_ERR_LIMIT; /* cannot be: the session refuses such headers */
        return;
    }
    if (intake->phase == INTAKE_HEADER && find_header_end(intake, seen, &header_len, &body_start))
        end_header(intake, header_len, body_start);
}

/* ---- the end ---- */

/* Its client's refusal is told by itself; this is for whoever looks after the disk. */
static void log_unstored(const struct intake *intake, int result)
{
    struct submit *submit = intake->worker->submit;
    int64_t left_out = 0;
    if (!log_pace(&submit->unstored, &left_out))
        return;
    log_event(submit->log, LOG_LEVEL_ERROR, "queue", LOG_T("id", intake->id_text),
              LOG_T("error", queue_error_text(result)),
              LOG_T("text", "a message could not be stored"), LOG_I("suppressed", left_out));
}

static void on_committed(int result, void *ctx)
{
    struct intake *intake = ctx;
    struct submit_worker *worker = intake->worker;
    struct submit *submit = worker->submit;
    if (intake->prev != NULL)
        intake->prev->next = intake->next;
    else
        worker->intakes = intake->next;
    if (intake->next != NULL)
        intake->next->prev = intake->prev;
    if (result == QUEUE_OK) {
        atomic_fetch_add(&submit->accepted, 1);
        log_event(submit->log, LOG_LEVEL_INFO, "accept", LOG_T("id", intake->id_text),
                  LOG_T("sender", intake->sender),
                  LOG_T("recipient", intake->recipients->address), /* the first of them */
                  LOG_I("recipients", (int64_t)intake->recipient_count),
                  LOG_T("address", intake->address), LOG_T("user", intake->user),
                  LOG_T("tls", intake->tls));
    } else {
        log_unstored(intake, result);
    }
    if (intake->phase == INTAKE_COMMITTING) {
        struct intake_result answer = {.result = result, .id = intake->id_text};
        intake->on_done(&answer, intake->ctx);
    }
    free_intake(intake);
    submit_check_stopped(worker);
}

static void commit(struct intake *intake)
{
    struct submit_worker *worker = intake->worker;
    struct queue_recipient *recipients = mem_alloc(intake->recipient_count * sizeof *recipients);
    size_t count = 0;
    for (struct recipient *r = intake->recipients; r != NULL; r = r->hh.next) {
        recipients[count].address = r->address;
        recipients[count].domain = r->domain;
        recipients[count].notify = r->notify;
        recipients[count].orcpt = r->orcpt;
        count++;
    }
    struct queue_envelope envelope = {
        .sender = intake->sender,
        .recipients = recipients,
        .recipient_count = count,
        .flags = intake->flags | (intake->body_8bit ? QUEUE_FLAG_8BIT : 0U),
        .ret = intake->ret,
        .envid = intake->envid,
        .header_bytes = intake->header_bytes,
        .sign_domain = intake->facts.from_domain,
        .accepted_unix_ms = intake->time_unix_ms,
    };
    memcpy(envelope.body_hash, intake->body_hash, sizeof envelope.body_hash);
    intake->phase = INTAKE_COMMITTING;
    intake->next = worker->intakes;
    if (intake->next != NULL)
        intake->next->prev = intake;
    worker->intakes = intake;
    struct queue_put *put = intake->put;
    intake->put = NULL;
    queue_put_commit(put, &envelope, on_committed, intake);
    free(recipients);
}

/* What is wrong with the header section as a whole. @return false: nothing */
static bool find_refusal(const struct intake *intake, uint16_t *code_out, char *text, size_t size)
{
    const char *repeated = submission_repeated_field(&intake->facts);
    *code_out = 554;
    if (intake->facts.received_count > intake->config->max_hops) {
        snprintf(text, size, "5.4.6 Too many hops: %u Received fields, this message is in a loop",
                 intake->facts.received_count);
        return true;
    }
    if (is_submission(intake) && repeated != NULL) {
        snprintf(text, size, "5.6.0 Message has more than one %s field (RFC 5322 section 3.6)",
                 repeated);
        return true;
    }
    if (intake->author_refusal != NULL) {
        snprintf(text, size, "%s", intake->author_refusal);
        return true;
    }
    return false;
}

bool intake_finish(struct intake *intake, intake_done_fn on_done, void *ctx, uint16_t *code_out,
                   char *text, size_t text_size)
{
    if (intake->phase == INTAKE_NO_ROOM) {
        *code_out = 452;
        snprintf(text, text_size, "4.3.1 Insufficient system storage, try again later");
        return false;
    }
    if (intake->phase == INTAKE_HEADER) { /* no blank line: a header section without a body */
        size_t len = buf_len(&intake->held);
        end_header(intake, len, len);
    }
    if (find_refusal(intake, code_out, text, text_size))
        return false;
    dkim_body_final(&intake->body, intake->body_hash);
    intake_flush(intake);
    if (intake->failure != 0) {
        *code_out = 451;
        snprintf(text, text_size, "4.3.0 The message could not be taken: %s",
                 queue_error_text(intake->failure));
        return false;
    }
    intake->on_done = on_done;
    intake->ctx = ctx;
    commit(intake);
    return true;
}

void intake_abandon(struct intake **intakep)
{
    struct intake *intake = *intakep;
    *intakep = NULL;
    if (intake == NULL)
        return;
    if (intake->phase == INTAKE_COMMITTING) {
        intake->phase = INTAKE_ABANDONED;
        return;
    }
    if (intake->put != NULL)
        queue_put_abort(intake->put);
    free_intake(intake);
}
