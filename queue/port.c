/* queue/port.c - ports: from the writer thread to the thread that asked. */
#include "queue/port.h"

#include <pthread.h>
#include <stdlib.h>

#include "queue/bytes.h"

struct queue_completion {
    struct queue_completion *next;
    struct queue_port *port;
    queue_done_fn done;     /* this one, */
    queue_stored_fn stored; /* or this one */
    void *ctx;
    size_t len;
    int result;
};

struct queue_port {
    pthread_mutex_t lock;
    queue_notify_fn notify;
    void *ctx;
    struct queue_completion *head;
    struct queue_completion *tail;
    size_t refs; /* the owner, and each completion not yet run */
    bool notified;
    bool closed;
};

struct queue_port *queue_port_new(struct queue *queue, queue_notify_fn notify, void *ctx)
{
    (void)queue; /* a port serves any queue; the parameter leaves room */
    struct queue_port *port = queue_alloc(sizeof *port);
    (void)pthread_mutex_init(&port->lock, NULL);
    port->notify = notify;
    port->ctx = ctx;
    port->refs = 1;
    return port;
}

static void drop_refs(struct queue_port *port, size_t count)
{
    (void)pthread_mutex_lock(&port->lock);
    port->refs -= count;
    bool last = port->refs == 0;
    (void)pthread_mutex_unlock(&port->lock);
    if (!last)
        return;
    (void)pthread_mutex_destroy(&port->lock);
    free(port);
}

static struct queue_completion *new_completion(struct queue_port *port, void *ctx)
{
    struct queue_completion *completion = queue_alloc(sizeof *completion);
    completion->port = port;
    completion->ctx = ctx;
    (void)pthread_mutex_lock(&port->lock);
    port->refs++;
    (void)pthread_mutex_unlock(&port->lock);
    return completion;
}

struct queue_completion *queue_completion_done(struct queue_port *port, queue_done_fn fn, void *ctx)
{
    struct queue_completion *completion = new_completion(port, ctx);
    completion->done = fn;
    return completion;
}

struct queue_completion *queue_completion_stored(struct queue_port *port, size_t len,
                                                 queue_stored_fn fn, void *ctx)
{
    struct queue_completion *completion = new_completion(port, ctx);
    completion->stored = fn;
    completion->len = len;
    return completion;
}

static void push(struct queue_answers *answers, struct queue_completion *completion)
{
    completion->next = NULL;
    if (answers->tail != NULL)
        answers->tail->next = completion;
    else
        answers->head = completion;
    answers->tail = completion;
    answers->count++;
}

void queue_completion_post(struct queue_answers *answers, struct queue_completion *completion,
                           int result)
{
    if (completion == NULL)
        return;
    completion->result = result;
    push(answers, completion);
}

/* Take out those of one port. */
static struct queue_answers part_of(struct queue_answers *answers, const struct queue_port *port)
{
    struct queue_answers part = {0};
    struct queue_completion *next = answers->head;
    *answers = (struct queue_answers){0};
    while (next != NULL) {
        struct queue_completion *completion = next;
        next = completion->next;
        push(completion->port == port ? &part : answers, completion);
    }
    return part;
}

static void hand_over(struct queue_port *port, const struct queue_answers *part)
{
    (void)pthread_mutex_lock(&port->lock);
    bool closed = port->closed;
    if (!closed) {
        if (port->tail != NULL)
            port->tail->next = part->head;
        else
            port->head = part->head;
        port->tail = part->tail;
        /* Under the lock: once queue_port_free has passed, ctx is never touched again. */
        if (!port->notified)
            port->notify(port->ctx);
        port->notified = true;
    }
    (void)pthread_mutex_unlock(&port->lock);
    if (!closed)
        return;
    for (struct queue_completion *next = part->head; next != NULL;) {
        struct queue_completion *completion = next;
        next = completion->next;
        free(completion);
    }
    drop_refs(port, part->count);
}

void queue_answers_tell(struct queue_answers *answers)
{
    while (answers->head != NULL) {
        struct queue_port *port = answers->head->port;
        struct queue_answers part = part_of(answers, port);
        hand_over(port, &part);
    }
}

static struct queue_completion *take_all(struct queue_port *port)
{
    (void)pthread_mutex_lock(&port->lock);
    struct queue_completion *list = port->head;
    port->head = NULL;
    port->tail = NULL;
    port->notified = false;
    (void)pthread_mutex_unlock(&port->lock);
    return list;
}

/* Runs in the owner's thread, which alone sets closed: it may be read without the lock. A callback
 * may free the port: its memory stays until the references of this list are dropped. @return how
 * many these are */
static size_t run_list(struct queue_port *port, struct queue_completion *list)
{
    size_t count = 0;
    while (list != NULL) {
        struct queue_completion *completion = list;
        list = completion->next;
        if (!port->closed && completion->done != NULL)
            completion->done(completion->result, completion->ctx);
        else if (!port->closed && completion->stored != NULL)
            completion->stored(completion->len, completion->ctx);
        free(completion);
        count++;
    }
    return count;
}

void queue_port_run(struct queue_port *port)
{
    size_t count = run_list(port, take_all(port));
    if (count > 0)
        drop_refs(port, count);
}

void queue_port_free(struct queue_port **portp)
{
    struct queue_port *port = *portp;
    if (port == NULL)
        return;
    *portp = NULL;
    (void)pthread_mutex_lock(&port->lock);
    port->closed = true;
    (void)pthread_mutex_unlock(&port->lock);
    size_t count = run_list(port, take_all(port)); /* only frees: the port is closed */
    drop_refs(port, count + 1);
}
