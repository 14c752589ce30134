/* mta/mtad.c - the daemon: wires config, queue, deliver, submit and control together, starts and
 * ends them.
 *
 * The main thread runs the main loop: signals, accepting, the control socket. Mail runs on the
 * loops of net/loops.h. The order of the start is the design's: parse, bind, drop root, open keys
 * and files as that user, lock and open the queue, threads. Never forks. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "config/config.h"
#include "mta/base/time.h"
#include "mta/control/control.h"
#include "mta/control/metrics.h"
#include "mta/deliver/deliver.h"
#include "mta/net/stream.h"
#include "mta/privilege.h"
#include "mta/submit/submit.h"
#include "tls/tls.h"

#define DEFAULT_CONFIG "/etc/mta/mta.yaml"
#define ERROR_MAX      768
#define LOOPS_MAX      64
#define DRAIN_MS       1000 /* for peers to take our last bytes, once all work is done */

enum { EXIT_WRONG = 2 /* usage or configuration */ };

struct mtad {
    const struct config *config;
    const char *config_path;
    struct privilege privilege;
    struct log *log;
    struct queue *queue;
    struct submit *submit;
    struct deliver *deliver;
    struct control *control;
    struct metrics *metrics;
    struct loop **loops;
    size_t loop_count;

    uv_loop_t main_loop;
    uv_signal_t term, interrupt, hangup;
    uv_async_t part_stopped;
    atomic_size_t parts_left; /* submit and deliver, then the loops */
    bool draining;
    atomic_bool stopping, stopping_now;
    atomic_bool reload_failed;            /* the last one */
    atomic_int_fast64_t reloaded_unix_ms; /* the last one that worked, or the start */
    uint64_t started_ms;
};

/* ---- what went wrong before the log is open ---- */

static void complain(const char *text)
{
    fprintf(stderr, "mtad: %s\n", text);
}

/* ---- reload ---- */

static struct log_options log_options_of(const struct config *config)
{
    static const enum log_level levels[] = {
        [CONFIG_LOG_DEBUG] = LOG_LEVEL_DEBUG,
        [CONFIG_LOG_INFO] = LOG_LEVEL_INFO,
        [CONFIG_LOG_WARNING] = LOG_LEVEL_WARNING,
        [CONFIG_LOG_ERROR] = LOG_LEVEL_ERROR,
    };
    static const enum log_target targets[] = {
        [CONFIG_LOG_STDERR] = LOG_TO_STDERR,
        [CONFIG_LOG_SYSLOG] = LOG_TO_SYSLOG,
        [CONFIG_LOG_FILE] = LOG_TO_FILE,
    };
    return (struct log_options){
        .format = config->log.format == CONFIG_LOG_JSON ? LOG_JSON : LOG_TEXT,
        .level = levels[config->log.level],
        .target = targets[config->log.target],
        .file = config->log.file,
    };
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Keys that only a restart can change. @return the key, or NULL */
static const char *restart_key(const struct config *old, const struct config *new)
{
    if (!same_text(old->state_dir, new->state_dir))
        return "state_dir";
    if (!same_text(old->control_socket, new->control_socket))
        return "control_socket";
    if (!same_text(old->user, new->user))
        return "user";
    if (old->queue_max_bytes != new->queue_max_bytes)
        return "queue.max_size";
    return NULL;
}

static int apply_config(struct mtad *mtad, const struct config *config, char *text, size_t size)
{
    struct log_options log_options = log_options_of(config);
    const char *key = restart_key(mtad->config, config);
    if (key != NULL) {
        snprintf(text, size, "%s: %s can be changed only by a restart", config->path, key);
        return -1;
    }
    if (metrics_reload_begin(mtad->metrics, config, text, size) < 0 ||
        submit_reload(mtad->submit, config, text, size) < 0)
        return -1;
    char ignored[ERROR_MAX];
    if (deliver_reload(mtad->deliver, config, text, size) < 0) {
        int back = submit_reload(mtad->submit, mtad->config, ignored, sizeof ignored);
        (void)back; /* what was loaded before loads again, or its files have gone: new connections
                       say so */
        return -1;
    }
    if (log_reopen(mtad->log, &log_options, text, size) < 0) {
        int submit_back = submit_reload(mtad->submit, mtad->config, ignored, sizeof ignored);
        int deliver_back = deliver_reload(mtad->deliver, mtad->config, ignored, sizeof ignored);
        (void)submit_back;
        (void)deliver_back;
        return -1;
    }
    return 0;
}

static int reload(char *text, size_t size, void *ctx)
{
    struct mtad *mtad = ctx;
    const struct config *config = NULL;
    struct config_error error;
    int rc = config_load(mtad->config_path, &config, &error);
    if (rc < 0)
        snprintf(text, size, "%s", error.text);
    else
        rc = apply_config(mtad, config, text, size);
    metrics_reload_end(mtad->metrics, rc == 0);
    atomic_store(&mtad->reload_failed, rc < 0);
    if (rc < 0) {
        log_event(mtad->log, LOG_LEVEL_ERROR, "reload", LOG_T("error", text),
                  LOG_T("text", "the configuration in use stays"));
        config_unref(&config);
        return -1;
    }
    config_unref(&mtad->config);
    mtad->config = config;
    atomic_store(&mtad->reloaded_unix_ms, time_wall_ms());
    log_event(mtad->log, LOG_LEVEL_INFO, "reload", LOG_T("config", config->path));
    return 0;
}

static void on_hangup(uv_signal_t *handle, int signum)
{
    char text[ERROR_MAX];
    (void)signum;
    int rc = reload(text, sizeof text, handle->data);
    (void)rc; /* logged */
}

/* ---- stopping ---- */

/* On a loop thread: submit and deliver each call it once, then each loop. */
static void part_stopped(void *ctx)
{
    struct mtad *mtad = ctx;
    if (atomic_fetch_sub(&mtad->parts_left, 1) == 1)
        uv_async_send(&mtad->part_stopped);
}

static void drain_loop(struct loop *loop, void *arg)
{
    struct mtad *mtad = arg;
    stream_drain(loop_uv(loop), mtad->stopping_now ? 0 : DRAIN_MS, part_stopped, mtad);
}

/* Both parts have stopped: what they closed gracefully gets a moment; then the loops can end. */
static void on_part_stopped(uv_async_t *async)
{
    struct mtad *mtad = async->data;
    if (mtad->draining) {
        uv_stop(&mtad->main_loop);
        return;
    }
    mtad->draining = true;
    atomic_store(&mtad->parts_left, mtad->loop_count);
    for (size_t i = 0; i < mtad->loop_count; i++) {
        if (!loop_post(mtad->loops[i], drain_loop, mtad))
            part_stopped(mtad);
    }
}

static void on_term(uv_signal_t *handle, int signum)
{
    struct mtad *mtad = handle->data;
    (void)signum;
    if (mtad->draining)
        return; /* a second at most is left */
    if (mtad->stopping) {
        mtad->stopping_now = true;
        submit_stop_now(mtad->submit);
        deliver_stop_now(mtad->deliver);
        return;
    }
    mtad->stopping = true;
    log_event(mtad->log, LOG_LEVEL_INFO, "stop", LOG_T("text", "ending: no new work"));
    uint64_t grace_ms = mtad->config->timeouts.shutdown_grace;
    submit_stop(mtad->submit, grace_ms, part_stopped, mtad);
    deliver_stop(mtad->deliver, grace_ms, part_stopped, mtad);
}

/* ---- hooks ---- */

/* Who removed what is logged where it was asked for: control/verb.c knows the envelope. */
static void on_removed(uint64_t id, void *ctx)
{
    deliver_on_changed(id, ((struct mtad *)ctx)->deliver);
}

static void on_notice(bool is_error, const char *text, void *ctx)
{
    struct mtad *mtad = ctx;
    log_event(mtad->log, is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "queue",
              LOG_T("text", text));
}

static void on_fresh(const struct queue_unit_ref *units, size_t count, void *ctx)
{
    deliver_on_fresh(units, count, ((struct mtad *)ctx)->deliver);
}

static void on_due(const char *domain, enum queue_lane lane, int64_t due_unix_ms, void *ctx)
{
    deliver_on_due(domain, lane, due_unix_ms, ((struct mtad *)ctx)->deliver);
}

static void read_status(struct control_status *out, void *ctx)
{
    struct mtad *mtad = ctx;
    struct submit_counts submit;
    struct deliver_counts deliver;
    submit_read_counts(mtad->submit, &submit);
    deliver_read_counts(mtad->deliver, &deliver);
    *out = (struct control_status){
        .accepted = submit.accepted,
        .rejected = submit.rejected,
        .delivered = deliver.delivered,
        .deferred = deliver.deferred,
        .failed = deliver.bounced + deliver.expired,
        .sessions = submit.sessions,
        .connections = deliver.connections,
        .sites_at_work = deliver.sites_at_work,
        .active = deliver.active,
        .units_in_memory = deliver.units,
        .bytes_waiting = submit.bytes_waiting,
        .uptime_s = (time_monotonic_ms() - mtad->started_ms) / 1000,
    };
}

static void read_parts(struct metrics_parts *out, void *ctx)
{
    struct mtad *mtad = ctx;
    struct submit_counts submit;
    struct deliver_counts deliver;
    submit_read_counts(mtad->submit, &submit);
    deliver_read_counts(mtad->deliver, &deliver);
    *out = (struct metrics_parts){
        .accepted = submit.accepted,
        .rejected = submit.rejected,
        .delivered = deliver.delivered,
        .deferred = deliver.deferred,
        .bounced = deliver.bounced,
        .expired = deliver.expired,
        .sessions = submit.sessions,
        .bytes_waiting = submit.bytes_waiting,
        .answered = submit.answered,
        .connections = deliver.connections,
        .sites_at_work = deliver.sites_at_work,
        .units = deliver.units,
        .active = deliver.active,
        .log_dropped = log_dropped(mtad->log),
        .stopping = mtad->stopping,
        .reload_failed = mtad->reload_failed,
        .reloaded_unix_ms = mtad->reloaded_unix_ms,
    };
}

static bool is_active(uint64_t id, uint16_t unit, void *ctx)
{
    return deliver_is_active(((struct mtad *)ctx)->deliver, id, unit);
}

/* ---- starting ---- */

/* Can we write where the queue lives? As the user that we are at the moment of the call. */
static int check_state_dir(const struct mtad *mtad, char *error, size_t size)
{
    const char *path = mtad->config->state_dir;
    const char *name = mtad->privilege.name;
    if (access(path, W_OK | X_OK) == 0)
        return 0;
    int n = snprintf(error, size, "state_dir: %s cannot be written: %s", path, strerror(errno));
    if (n > 0 && (size_t)n < size && mtad->privilege.drop)
        snprintf(error + n, size - (size_t)n,
                 "; mtad runs as the user %s, so mend it with: chown %s %s", name, name, path);
    return -1;
}

/* A key that only root can read would be refused at the next reload: say so now, with the line that
 * mends it. */
static int check_readable(const struct mtad *mtad, const char *path, char *error, size_t size)
{
    if (path == NULL || access(path, R_OK) == 0 || errno != EACCES || !mtad->privilege.drop)
        return 0;
    snprintf(error, size,
             "%s: cannot be read by the user %s, as whom mtad runs; mend it with: chown %s %s",
             path, mtad->privilege.name, mtad->privilege.name, path);
    return -1;
}

static int check_all_readable(const struct mtad *mtad, char *error, size_t size)
{
    const struct config *config = mtad->config;
    if (check_readable(mtad, config->tls_certificate, error, size) < 0 ||
        check_readable(mtad, config->tls_key, error, size) < 0 ||
        check_readable(mtad, config->tls_ca, error, size) < 0 ||
        check_readable(mtad, config->users_file, error, size) < 0)
        return -1;
    for (size_t i = 0; i < config->listener_count; i++) {
        if (check_readable(mtad, config->listeners[i].client_ca, error, size) < 0)
            return -1;
    }
    for (size_t i = 0; i < config->dkim_count; i++) {
        if (check_readable(mtad, config->dkim[i].key_path, error, size) < 0)
            return -1;
    }
    return 0;
}

/* Parse to drop. @return the exit code, 0 to go on */
static int start_as_root(struct mtad *mtad)
{
    char error[ERROR_MAX];
    const struct config *config = mtad->config;
    privilege_set_limits();
    if (privilege_find(config->user, &mtad->privilege, error, sizeof error) < 0) {
        complain(error);
        return EXIT_WRONG;
    }
    const struct submit_owner owner = {mtad->privilege.uid, mtad->privilege.gid};
    if (submit_new(config, &owner, &mtad->submit, error, sizeof error) < 0 ||
        privilege_prepare_folder(&mtad->privilege, config->state_dir, error, sizeof error) < 0 ||
        check_state_dir(mtad, error, sizeof error) < 0 ||
        metrics_new(config, &mtad->metrics, error, sizeof error) < 0 ||
        control_new(config->control_socket, mtad->privilege.uid, mtad->privilege.gid,
                    &mtad->control, error, sizeof error) < 0 ||
        privilege_drop(&mtad->privilege, error, sizeof error) < 0 ||
        check_state_dir(mtad, error, sizeof error) < 0) {
        complain(error);
        return EXIT_FAILURE;
    }
    return 0;
}

/* Keys and files, as the user that stays. @return the exit code, 0 to go on */
static int start_files(struct mtad *mtad)
{
    char error[ERROR_MAX];
    struct log_options log_options = log_options_of(mtad->config);
    if (log_open(&log_options, &mtad->log, error, sizeof error) < 0) {
        complain(error);
        return EXIT_FAILURE;
    }
    if (check_all_readable(mtad, error, sizeof error) < 0 ||
        submit_load(mtad->submit, mtad->log, error, sizeof error) < 0 ||
        deliver_new(mtad->config, mtad->log, &mtad->deliver, error, sizeof error) < 0) {
        complain(error);
        return EXIT_WRONG;
    }
    return 0;
}

static int start_queue(struct mtad *mtad)
{
    char error[ERROR_MAX], folder[4096];
    snprintf(folder, sizeof folder, "%s/queue", mtad->config->state_dir);
    struct queue_options options = {
        .folder = folder,
        .max_bytes = mtad->config->queue_max_bytes,
        .on_fresh = on_fresh,
        .on_due = on_due,
        .on_removed = on_removed,
        .on_notice = on_notice,
        .ctx = mtad,
    };
    if (queue_open(&options, &mtad->queue, error, sizeof error) < 0) {
        complain(error);
        return EXIT_FAILURE;
    }
    return 0;
}

static int start_metrics(struct mtad *mtad, char *error, size_t size)
{
    const struct metrics_options options = {
        .queue = mtad->queue,
        .main_loop = &mtad->main_loop,
        .loops = mtad->loops,
        .loop_count = mtad->loop_count,
        .hooks = {read_parts, mtad},
        .state_dir = mtad->config->state_dir,
        .queue_max_bytes = mtad->config->queue_max_bytes,
    };
    mtad->reloaded_unix_ms = time_wall_ms();
    return metrics_start(mtad->metrics, &options, error, size);
}

static int start_threads(struct mtad *mtad)
{
    char error[ERROR_MAX] = "the loop threads cannot be started";
    struct control_hooks hooks = {
        .read_status = read_status, .is_active = is_active, .reload = reload, .ctx = mtad};
    size_t count = uv_available_parallelism();
    mtad->loop_count = count < LOOPS_MAX ? count : LOOPS_MAX;
    if (loops_start(mtad->loop_count, &mtad->loops) < 0 ||
        deliver_start(mtad->deliver, mtad->queue, mtad->loops, mtad->loop_count, error,
                      sizeof error) < 0 ||
        control_start(mtad->control, &mtad->main_loop, mtad->queue, mtad->log, &hooks, error,
                      sizeof error) < 0 ||
        submit_start(mtad->submit, mtad->queue, &mtad->main_loop, mtad->loops, mtad->loop_count,
                     error, sizeof error) < 0 ||
        start_metrics(mtad, error, sizeof error) < 0) {
        complain(error);
        return EXIT_FAILURE;
    }
    return 0;
}

static void watch_signals(struct mtad *mtad)
{
    signal(SIGPIPE, SIG_IGN);
    uv_signal_init(&mtad->main_loop, &mtad->term);
    uv_signal_init(&mtad->main_loop, &mtad->interrupt);
    uv_signal_init(&mtad->main_loop, &mtad->hangup);
    mtad->term.data = mtad->interrupt.data = mtad->hangup.data = mtad;
    uv_signal_start(&mtad->term, on_term, SIGTERM);
    uv_signal_start(&mtad->interrupt, on_term, SIGINT);
    uv_signal_start(&mtad->hangup, on_hangup, SIGHUP);
    uv_async_init(&mtad->main_loop, &mtad->part_stopped, on_part_stopped);
    mtad->part_stopped.data = mtad;
    atomic_store(&mtad->parts_left, 2);
}

static void log_start(const struct mtad *mtad)
{
    if (mtad->privilege.stay_root)
        log_event(mtad->log, LOG_LEVEL_WARNING, "start",
                  LOG_T("text", "running as root: give mtad an account of its own with `user:`"));
    log_event(mtad->log, LOG_LEVEL_INFO, "start", LOG_T("version", MTA_VERSION),
              LOG_T("config", mtad->config->path), LOG_T("hostname", mtad->config->hostname),
              LOG_I("loops", (int64_t)mtad->loop_count), LOG_I("pid", getpid()),
              LOG_T("metrics", metrics_address(mtad->metrics)));
}

/* ---- ending ---- */

static void close_main_loop(struct mtad *mtad)
{
    uv_close((uv_handle_t *)&mtad->term, NULL);
    uv_close((uv_handle_t *)&mtad->interrupt, NULL);
    uv_close((uv_handle_t *)&mtad->hangup, NULL);
    uv_close((uv_handle_t *)&mtad->part_stopped, NULL);
    uv_run(&mtad->main_loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&mtad->main_loop);
    (void)rc; /* a handle left open is seen by the leak checks of the tests */
}

/* Also after a start that failed half-way: whatever was made is taken down. */
static void free_all(struct mtad *mtad)
{
    queue_close(&mtad->queue);
    deliver_free(&mtad->deliver);
    submit_free(&mtad->submit);
    control_free(&mtad->control);
    metrics_free(&mtad->metrics);
    log_close(&mtad->log);
    config_unref(&mtad->config);
    tls_deinit();
}

static int run(struct mtad *mtad)
{
    uv_loop_init(&mtad->main_loop);
    watch_signals(mtad);
    int code = start_threads(mtad);
    if (code != 0) {
        /* Threads may run, and log: the store is consistent whenever the process ends, so end it
         * here. */
        _exit(code);
    }
    mtad->started_ms = time_monotonic_ms();
    log_start(mtad);
    uv_run(&mtad->main_loop, UV_RUN_DEFAULT);
    metrics_stop(mtad->metrics); /* while the loops that it asks are there */
    loops_stop(&mtad->loops, mtad->loop_count);
    control_stop(mtad->control);
    log_event(mtad->log, LOG_LEVEL_INFO, "stop", LOG_T("text", "ended"));
    close_main_loop(mtad);
    return 0;
}

static int daemon_main(const char *config_path)
{
    struct mtad mtad = {.config_path = config_path};
    struct config_error error;
    if (config_load(config_path, &mtad.config, &error) < 0) {
        complain(error.text);
        return EXIT_WRONG;
    }
    int code = start_as_root(&mtad);
    if (code == 0)
        code = start_files(&mtad);
    if (code == 0)
        code = start_queue(&mtad);
    if (code == 0)
        code = run(&mtad);
    free_all(&mtad);
    return code;
}

/* The configuration and the files it names, nothing started. */
static int check_main(const char *config_path)
{
    const struct config *config = NULL;
    struct config_error config_error;
    struct deliver *deliver = NULL;
    char error[ERROR_MAX];
    if (config_load(config_path, &config, &config_error) < 0) {
        complain(config_error.text);
        return EXIT_WRONG;
    }
    int code = 0;
    if (deliver_new(config, NULL, &deliver, error, sizeof error) < 0 ||
        submit_check(config, error, sizeof error) < 0) {
        complain(error);
        code = EXIT_WRONG;
    } else {
        printf("%s: ok\n", config->path);
    }
    deliver_free(&deliver);
    config_unref(&config);
    return code;
}

static void print_usage(FILE *to)
{
    fputs("usage: mtad [--config FILE] [--check] [--version]\n"
          "  --config FILE  default " DEFAULT_CONFIG "\n"
          "  --check        read the configuration and the files it names, and end\n"
          "  --foreground   accepted, changes nothing: mtad never forks\n",
          to);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"version", no_argument, NULL, 'v'},      {"foreground", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    const char *config_path = DEFAULT_CONFIG;
    bool check = false;
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
         c = getopt_long(argc, argv, "", options, NULL)) {
        switch (c) {
        case 'c':
            config_path = optarg;
            break;
        case 'k':
            check = true;
            break;
        case 'v':
            puts("mtad " MTA_VERSION);
            return EXIT_SUCCESS;
        case 'f':
            break;
        case 'h':
            print_usage(stdout);
            return EXIT_SUCCESS;
        default:
            print_usage(stderr);
            return EXIT_WRONG;
        }
    }
    if (optind < argc) {
        print_usage(stderr);
        return EXIT_WRONG;
    }
    if (tls_init() < 0) {
        complain("GnuTLS cannot be initialised");
        return EXIT_FAILURE;
    }
    return check ? check_main(config_path) : daemon_main(config_path);
}
