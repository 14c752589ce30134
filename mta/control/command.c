/* mta/control/command.c - the table of commands, and the short ones. */
#include <stdio.h>
#include <string.h>

#include "mta/base/time.h"
#include "mta/control/control_private.h"
#include "mta/control/maintenance.h"
#include "mta/control/walk.h"

#define OLDEST_TRIES 8 /* records that may be damaged */

/* When the first message that can be read was accepted; 0: there is none. */
static int64_t oldest_unix_ms(struct queue *queue)
{
    uint64_t ids[OLDEST_TRIES];
    int64_t accepted = 0;
    long count = queue_read_ids(queue, 0, ids, OLDEST_TRIES);
    for (long i = 0; i < count && accepted == 0; i++) {
        struct queue_message *message = NULL;
        if (queue_read_message(queue, ids[i], &message) == 0)
            accepted = queue_message_envelope(message)->accepted_unix_ms;
        queue_message_free(&message);
    }
    return accepted;
}

static json_t *queue_status(struct queue *queue, const struct queue_counts *counts)
{
    struct queue_metrics metrics;
    int64_t oldest = oldest_unix_ms(queue);
    queue_read_metrics(queue, &metrics);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:b,s:b}", "queued", (json_int_t)counts->messages,
        "fresh", (json_int_t)counts->units_fresh, "deferred", (json_int_t)counts->units_deferred,
        "held", (json_int_t)counts->units_held, "damaged", (json_int_t)counts->damaged, "bytes",
        (json_int_t)counts->bytes, "file_bytes", (json_int_t)counts->file_bytes, "commits",
        (json_int_t)counts->commits, "oldest_age",
        oldest > 0 ? json_integer((json_int_t)age_seconds(oldest, time_wall_ms())) : json_null(),
        "full", (int)(metrics.full || queue_is_full(queue, 1)), "broken", (int)metrics.broken);
}

static void command_status(struct control_client *client)
{
    struct control *control = client->control;
    struct control_status status = {0};
    struct queue_counts counts;
    int rc = queue_read_counts(control->queue, &counts);
    if (rc < 0) {
        control_fail(client, queue_error_text(rc));
        return;
    }
    control->hooks.read_status(&status, control->hooks.ctx);
    json_t *answer = queue_status(control->queue, &counts);
    json_t *rest = json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "version", MTA_VERSION, "uptime",
        (json_int_t)status.uptime_s, "active", (json_int_t)status.active, "in_memory",
        (json_int_t)status.units_in_memory, "sessions", (json_int_t)status.sessions, "connections",
        (json_int_t)status.connections, "sites", (json_int_t)status.sites_at_work, "accepted",
        (json_int_t)status.accepted, "rejected", (json_int_t)status.rejected, "delivered",
        (json_int_t)status.delivered, "retried", (json_int_t)status.deferred, "bounced",
        (json_int_t)status.failed, "bytes_waiting", (json_int_t)status.bytes_waiting);
    json_object_update(answer, rest);
    json_decref(rest);
    control_send(client, answer);
    control_finish(client, 0);
}

static void command_reload(struct control_client *client)
{
    char text[1024];
    struct control *control = client->control;
    if (control->hooks.reload(text, sizeof text, control->hooks.ctx) < 0) {
        control_fail(client, text);
        return;
    }
    control_send(client, json_pack("{s:s}", "result", "reloaded"));
    control_finish(client, 0);
}

static const struct command_row {
    const char *name;
    void (*run)(struct control_client *client);
} commands[] = {
    {"status", command_status},
    {"list", command_list},
    {"summary", command_summary},
    {"show", command_show},
    {"cat", command_cat},
    {"retry", command_retry},
    {"hold", command_hold},
    {"release", command_release},
    {"delete", command_delete},
    {"bounce", command_bounce},
    {"reload", command_reload},
    {"queue check", command_queue_check},
    {"queue backup", command_queue_backup},
    {"queue compact", command_queue_compact},
};

void control_command_start(struct control_client *client)
{
    const char *name = json_string_value(json_object_get(client->request, "command"));
    for (size_t i = 0; name != NULL && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            commands[i].run(client);
            return;
        }
    }
    control_fail(client, "this daemon does not know the command");
}

void control_command_step(struct control_client *client)
{
    if (client->closing || client->finishing)
        control_step_stop(client);
    else if (client->cat_going)
        cat_step(client);
    else if (client->walk != NULL)
        control_walk_step(client);
    else if (client->maintenance != NULL)
        maintenance_step(client);
}
