/* mta/control/metrics_page.c - the page for Prometheus: text format 0.0.4. Names and labels are an
 * interface (dashboards, alerts): change them together with their test. Labels come from fixed
 * lists and the number of loops; nothing that a stranger chose is on the page. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mta/base/time.h"
#include "mta/control/metrics_private.h"

#define LABELS_MAX 64

/* ---- the format ---- */

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* labels: "" or {name="value",...} */
static void sample(struct buf *out, const char *name, const char *labels, uint64_t value)
{
    buf_printf(out, "%s%s %" PRIu64 "\n", name, labels, value);
}

static void sample_ms(struct buf *out, const char *name, const char *labels, int64_t value_ms)
{
    buf_printf(out, "%s%s %" PRId64 ".%03" PRId64 "\n", name, labels, value_ms / 1000,
               value_ms % 1000);
}

static void gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "gauge", help);
    sample(out, name, "", value);
}

static void gauge_ms(struct buf *out, const char *name, const char *help, int64_t value_ms)
{
    family(out, name, "gauge", help);
    sample_ms(out, name, "", value_ms > 0 ? value_ms : 0);
}

static void counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "counter", help);
    sample(out, name, "", value);
}

static void histogram(struct buf *out, const char *name, const char *help,
                      const double bounds[QUEUE_BUCKETS], const struct queue_histogram *values)
{
    uint64_t so_far = 0;
    family(out, name, "histogram", help);
    for (size_t i = 0; i < QUEUE_BUCKETS; i++) {
        so_far += values->counts[i];
        buf_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], so_far);
    }
    so_far += values->counts[QUEUE_BUCKETS];
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, so_far);
    buf_printf(out, "%s_sum %.9g\n%s_count %" PRIu64 "\n", name, values->sum, name, so_far);
}

/* ---- the queue ---- */

static void write_counts(const struct queue_counts *counts, struct buf *out)
{
    gauge(out, "mta_queue_messages", "Messages in the queue.", counts->messages);
    family(out, "mta_queue_units", "gauge",
           "Pairs of message and destination: queued (no attempt yet), deferred (to be tried "
           "again), held (by an admin).");
    sample(out, "mta_queue_units", "{state=\"queued\"}", counts->units_fresh);
    sample(out, "mta_queue_units", "{state=\"deferred\"}", counts->units_deferred);
    sample(out, "mta_queue_units", "{state=\"held\"}", counts->units_held);
    gauge(out, "mta_queue_damaged_messages", "Damaged records that were set aside.",
          counts->damaged);
    gauge(out, "mta_queue_message_bytes", "Bytes of the messages in the queue.", counts->bytes);
    gauge(out, "mta_queue_file_bytes", "Bytes of the database file that are in use.",
          counts->file_bytes);
    counter(out, "mta_queue_commits_total", "Transactions that were synced to disk.",
            counts->commits);
}

static bool is_oldest(uint64_t id, const struct queue_envelope *envelope, void *ctx)
{
    (void)id;
    *(int64_t *)ctx = envelope->accepted_unix_ms;
    return false; /* the first one is the oldest: ids rise with time */
}

/* The store read anew: exact, whenever the page is asked for. */
static void write_store(const struct page_source *source, struct buf *out)
{
    struct queue *queue = source->options->queue;
    struct queue_counts counts;
    struct statvfs disk;
    int64_t oldest_ms = 0;
    uint64_t after = 0;
    bool readable = queue_read_counts(queue, &counts) == QUEUE_OK &&
                    queue_scan(queue, &after, is_oldest, &oldest_ms) >= 0;
    gauge(out, "mta_queue_readable", "1: the store could be read for this page.", readable);
    if (readable) {
        write_counts(&counts, out);
        gauge_ms(out, "mta_queue_oldest_message_age_seconds",
                 "Age of the oldest message; 0: the queue is empty.",
                 oldest_ms > 0 ? time_wall_ms() - oldest_ms : 0);
    }
    gauge(out, "mta_queue_full", "1: new mail of 64 KiB is refused for want of room.",
          queue_is_full(queue, METRICS_MAIL_BYTES));
    gauge(out, "mta_queue_max_bytes", "What the configuration allows (queue.max_size).",
          source->options->queue_max_bytes);
    if (statvfs(source->options->state_dir, &disk) == 0)
        gauge(out, "mta_queue_disk_free_bytes", "Free bytes on the disk of the queue.",
              (uint64_t)disk.f_bavail * disk.f_frsize);
}

static void write_scan(const struct page_source *source, struct buf *out)
{
    static const char *const messages = "mta_queue_scan_messages";
    static const char *const oldest = "mta_queue_scan_oldest_timestamp_seconds";
    struct scan_result result;
    char labels[LABELS_MAX];
    scan_want(source->scan);
    scan_read(source->scan, &result);
    if (result.made_unix_ms == 0)
        return; /* the first look is not through yet */
    family(out, messages, "gauge",
           "Messages by state, at least so many seconds old, at the time of the last look at all "
           "of them. A message with several destinations counts as deferred before queued before "
           "held.");
    for (size_t state = 0; state < SCAN_STATES; state++) {
        for (size_t age = 0; age < SCAN_AGES; age++) {
            snprintf(labels, sizeof labels, "{state=\"%s\",min_age=\"%" PRIu32 "\"}",
                     scan_state_names[state], scan_ages_s[age]);
            sample(out, messages, labels, result.messages[state][age]);
        }
    }
    family(out, oldest, "gauge", "When the oldest message of the state was accepted; 0: none.");
    for (size_t state = 0; state < SCAN_STATES; state++) {
        snprintf(labels, sizeof labels, "{state=\"%s\"}", scan_state_names[state]);
        sample_ms(out, oldest, labels, result.oldest_unix_ms[state]);
    }
    gauge_ms(out, "mta_queue_scan_timestamp_seconds", "When the last look at all messages began.",
             result.made_unix_ms);
    gauge_ms(out, "mta_queue_scan_duration_seconds", "How long the last look at all took.",
             (int64_t)result.took_ms);
}

static void write_writer(const struct queue_metrics *queue, struct buf *out)
{
    gauge(out, "mta_queue_broken", "1: the store cannot be written until it is mended.",
          queue->broken);
    gauge_ms(out, "mta_queue_writer_busy_seconds",
             "How long the transaction at hand has lasted; 0: the writer sleeps.",
             (int64_t)queue->busy_ms);
    histogram(out, "mta_queue_accept_duration_seconds",
              "From the end of a message to its being on disk.", queue_time_bounds, &queue->accept);
    histogram(out, "mta_queue_commit_duration_seconds", "A transaction, work and sync.",
              queue_time_bounds, &queue->commit);
    histogram(out, "mta_queue_sync_duration_seconds", "The sync of a transaction to disk.",
              queue_time_bounds, &queue->sync);
    histogram(out, "mta_queue_admin_commit_duration_seconds",
              "Transactions with steps of an admin's command in them.", queue_time_bounds,
              &queue->admin);
    histogram(out, "mta_queue_batch_jobs", "Messages, outcomes and steps in a transaction.",
              queue_batch_bounds, &queue->batch);
    counter(out, "mta_queue_accepted_messages_total",
            "Messages stored; bounces come with outcomes.", queue->accepted);
    counter(out, "mta_queue_outcomes_total", "Outcomes of deliveries recorded.", queue->outcomes);
    counter(out, "mta_queue_parked_units_total", "Units left on disk because memory had no room.",
            queue->parked);
    counter(out, "mta_queue_admin_steps_total", "Steps of admins' commands done.",
            queue->admin_steps);
    counter(out, "mta_queue_refused_full_total", "Messages refused for want of room.",
            queue->refused_full);
    counter(out, "mta_queue_failed_commits_total", "Transactions that failed: nothing was stored.",
            queue->failed_io);
    counter(out, "mta_queue_undecided_commits_total",
            "Transactions of which the disk did not tell whether they are stored.",
            queue->undecided);
}

/* ---- submission and delivery ---- */

static void write_submission(const struct metrics_parts *parts, struct buf *out)
{
    gauge(out, "mta_submission_sessions", "Connections of clients.", parts->sessions);
    counter(out, "mta_submission_messages_total", "Messages accepted from clients.",
            parts->accepted);
    histogram(out, "mta_submission_accept_duration_seconds",
              "From the end of a message to the 250 for it.", queue_time_bounds, &parts->answered);
    counter(out, "mta_submission_rejects_total", "Replies of 4xx and 5xx to clients.",
            parts->rejected);
    gauge(out, "mta_submission_waiting_bytes", "Message bytes received and not yet on disk.",
          parts->bytes_waiting);
}

static void write_delivery(const struct metrics_parts *parts, struct buf *out)
{
    static const char *const recipients = "mta_delivery_recipients_total";
    family(out, recipients, "counter",
           "Recipients by outcome of an attempt; deferred ones count each time.");
    sample(out, recipients, "{outcome=\"delivered\"}", parts->delivered);
    sample(out, recipients, "{outcome=\"deferred\"}", parts->deferred);
    sample(out, recipients, "{outcome=\"bounced\"}", parts->bounced);
    sample(out, recipients, "{outcome=\"expired\"}", parts->expired);
    gauge(out, "mta_delivery_connections", "Connections to servers.", parts->connections);
    gauge(out, "mta_delivery_sites", "Sites with connections or work that is due.",
          parts->sites_at_work);
    gauge(out, "mta_delivery_units_in_memory", "Units that wait in memory or are with a server.",
          parts->units);
    gauge(out, "mta_delivery_units_active", "Units in delivery just now.", parts->active);
}

/* ---- the process ---- */

static void write_loops(const struct page_source *source, struct buf *out)
{
    static const char *const name = "mta_loop_lag_seconds";
    const struct health *health = source->health;
    uint64_t now_ms = time_monotonic_ms();
    char labels[LABELS_MAX];
    family(out, name, "gauge", "How long a loop took to answer, or has not answered yet.");
    sample_ms(out, name, "{loop=\"main\"}", (int64_t)health_lag_ms(&health->main_beat, now_ms));
    for (size_t i = 0; i < source->options->loop_count; i++) {
        snprintf(labels, sizeof labels, "{loop=\"%zu\"}", i);
        sample_ms(out, name, labels, (int64_t)health_lag_ms(&health->loop_beats[i], now_ms));
    }
}

static void write_memory(struct buf *out)
{
    unsigned long total, resident, shared;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    /* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
    int fields = fscanf(file, "%lu %lu %lu", &total, &resident, &shared);
    fclose(file);
    if (fields != 3)
        return;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    gauge(out, "mta_process_resident_memory_bytes",
          "Memory of the process, pages of the database file included.", resident * page);
    gauge(out, "mta_process_anonymous_memory_bytes", "Memory without what belongs to files.",
          (resident > shared ? resident - shared : 0) * page);
}

static void write_process(const struct page_source *source, const struct metrics_parts *parts,
                          struct buf *out)
{
    struct rusage usage;
    family(out, "mta_build_info", "gauge", "Always 1; the label tells the version.");
    sample(out, "mta_build_info", "{version=\"" MTA_VERSION "\"}", 1);
    gauge_ms(out, "mta_process_start_time_seconds", "When the daemon started.",
             source->started_unix_ms);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        family(out, "mta_process_cpu_seconds_total", "counter", "Processor time used.");
        sample_ms(out, "mta_process_cpu_seconds_total", "",
                  (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
                      (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
    }
    write_memory(out);
    counter(out, "mta_log_dropped_lines_total", "Lines that the log's target did not take in time.",
            parts->log_dropped);
    gauge(out, "mta_config_last_reload_successful", "0: the configuration in use is an older one.",
          !parts->reload_failed);
    gauge_ms(out, "mta_config_last_reload_success_timestamp_seconds",
             "When the configuration in use was read.", parts->reloaded_unix_ms);
}

void page_write(const struct page_source *source, struct buf *out)
{
    const struct metrics_hooks *hooks = &source->options->hooks;
    struct metrics_parts parts;
    struct queue_metrics queue;
    hooks->read_parts(&parts, hooks->ctx);
    queue_read_metrics(source->options->queue, &queue);
    write_store(source, out);
    write_scan(source, out);
    write_writer(&queue, out);
    write_submission(&parts, out);
    write_delivery(&parts, out);
    write_loops(source, out);
    write_process(source, &parts, out);
}
