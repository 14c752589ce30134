/* tests/crash/queue_full.c - a queue on a file system of 40 MiB: filled until it is refused, then
 * drained.
 *
 * Mounts a tmpfs in a mount namespace of its own. Nothing accepted is lost, no signal ends the
 * process, outcomes and deletions go on while it is full, and it accepts again once it is drained,
 * without a restart. Somebody else filling the disk to the last byte is part of it. Exit 0: all of
 * it held; 77: no namespace to be had. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "queue/queue.h"
#include "tests/tools/no_hooks.h"

#define SKIP     77
#define MESSAGES 2000
#define BYTES    60000

static sem_t answered;
static int last_result;

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "queue_full: %s\n", what);
    exit(1);
}

static void on_notice(bool is_error, const char *text, void *ctx)
{
    (void)is_error;
    (void)ctx;
    (void)printf("notice: %s\n", text);
}

static void on_wake(void *ctx)
{
    (void)ctx;
    (void)sem_post(&answered);
}

static void on_done(int result, void *ctx)
{
    *(bool *)ctx = true;
    last_result = result;
}

static int wait_for(struct queue_port *port, const bool *done)
{
    while (!*done) {
        (void)sem_wait(&answered);
        queue_port_run(port);
    }
    return last_result;
}

static int submit(struct queue *queue, struct queue_port *port, uint64_t *id_out)
{
    static char body[BYTES];
    struct queue_recipient rcpt = {.address = "user@example.net", .domain = "example.net"};
    struct queue_envelope envelope = {.sender = "sender@example.org",
                                      .recipients = &rcpt,
                                      .recipient_count = 1,
                                      .sign_domain = ""};
    struct queue_put *put = NULL;
    bool done = false;
    if (queue_put_begin(queue, port, &put, id_out) != 0 ||
        queue_put_piece(put, body, sizeof body, NULL, NULL) != 0)
        die("cannot begin");
    queue_put_commit(put, &envelope, on_done, &done);
    return wait_for(port, &done);
}

static int record(struct queue *queue, struct queue_port *port, uint64_t id,
                  enum queue_rcpt_state state)
{
    struct queue_attempt attempt = {
        .host = "", .address = "", .status = "4.4.1", .text = "no answer", .tls = ""};
    struct queue_rcpt_outcome rcpt = {0, state, &attempt};
    struct queue_outcome outcome = {.id = id,
                                    .recipients = &rcpt,
                                    .recipient_count = 1,
                                    .due_unix_ms = 1000,
                                    .count_attempt = true};
    bool done = false;
    queue_record(queue, port, &outcome, on_done, &done);
    return wait_for(port, &done);
}

/* Another program takes what is left. */
static void fill_disk(const char *folder)
{
    static char block[4096];
    char path[256];
    (void)snprintf(path, sizeof path, "%s/other", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (fd < 0)
        die("other");
    while (write(fd, block, sizeof block) > 0)
        ;
    if (errno != ENOSPC)
        die("the disk does not fill");
    (void)close(fd);
}

static void check_whole(struct queue *queue, uint64_t id)
{
    static char body[BYTES + 1];
    if (queue_read_body(queue, id, 0, body, sizeof body) != BYTES)
        die("an accepted message is not whole");
}

/* @return how many were accepted */
static size_t fill_queue(struct queue *queue, struct queue_port *port, uint64_t *ids)
{
    size_t count = 0;
    int rc = 0;
    while (count < MESSAGES && (rc = submit(queue, port, &ids[count])) == 0)
        count++;
    if (rc != QUEUE_ERR_FULL || count < 100)
        die("it did not fill up as it should");
    return count;
}

static void play(const char *folder, struct queue *queue, struct queue_port *port)
{
    static uint64_t ids[MESSAGES];
    struct queue_counts counts;
    uint64_t id = 0;
    char path[256];
    size_t count = fill_queue(queue, port, ids);
    fill_disk(folder);
    for (size_t i = 0; i < count; i++) {
        if (record(queue, port, ids[i], QUEUE_RCPT_WAITING) != 0)
            die("a deferral was not recorded on the full disk");
    }
    if (submit(queue, port, &id) != QUEUE_ERR_FULL)
        die("accepted on a full disk");
    for (size_t i = 0; i < count; i++) {
        check_whole(queue, ids[i]);
        if (i < count / 2 && record(queue, port, ids[i], QUEUE_RCPT_DELIVERED) != 0)
            die("a delivery was not recorded on the full disk");
    }
    (void)snprintf(path, sizeof path, "%s/other", folder);
    (void)unlink(path);
    (void)sleep(2); /* the disk is looked at once a second */
    for (size_t i = 0; i < count / 4; i++) {
        if (submit(queue, port, &ids[i]) != 0)
            die("not accepted after it was drained");
    }
    if (queue_read_counts(queue, &counts) != 0 ||
        counts.messages != count - count / 2 + count / 4 || counts.damaged != 0)
        die("the counters are wrong");
    (void)printf(
        "%zu messages fitted; all of them were kept, deferred and half delivered while full\n",
        count);
}

int main(void)
{
    char folder[] = "/tmp/queue-full-XXXXXX";
    char inner[64];
    char error[256];
    struct queue *queue = NULL;
    if (mkdtemp(folder) == NULL)
        die("mkdtemp");
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=40m") != 0) {
        (void)rmdir(folder);
        (void)printf("skipped: no mount namespace: %s\n", strerror(errno));
        return SKIP;
    }
    (void)snprintf(inner, sizeof inner, "%s/queue", folder);
    struct queue_options options = {.folder = inner,
                                    .max_bytes = UINT64_C(1) << 30,
                                    .on_fresh = no_fresh,
                                    .on_due = no_due,
                                    .on_removed = no_removed,
                                    .on_notice = on_notice};
    if (sem_init(&answered, 0, 0) != 0 || queue_open(&options, &queue, error, sizeof error) != 0)
        die(error);
    struct queue_port *port = queue_port_new(queue, on_wake, NULL);
    play(folder, queue, port);
    queue_port_free(&port);
    queue_close(&queue);
    (void)umount(folder);
    (void)rmdir(folder);
    return 0;
}
