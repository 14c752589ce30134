/* mta/net/loops.c - the loop threads and their mailboxes. A mailbox is an array under a lock; the
 * loop swaps it for an empty one and runs what was in it, so that many posts cost one wake-up. */
#include "mta/net/loops.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define FIRST_CAPACITY 64
#define KEPT_CAPACITY  4096 /* a larger mailbox is given back after a burst */
#define LAST_TURNS     100  /* for handles that were closed just before the stop */

struct post {
    loop_fn fn;
    void *arg;
};

struct mailbox {
    struct post *posts;
    size_t count, capacity;
};

struct loop {
    uv_loop_t uv;
    uv_async_t async;
    pthread_t thread;
    size_t index;
    atomic_int load;
    struct mailbox running; /* the loop's own */

    pthread_mutex_t lock;
    struct mailbox waiting; /* under the lock */
    bool stopping;          /* under the lock */
};

static void on_wake(uv_async_t *async)
{
    struct loop *loop = async->data;
    pthread_mutex_lock(&loop->lock);
    struct mailbox mail = loop->waiting;
    loop->waiting = loop->running;
    bool stopping = loop->stopping;
    pthread_mutex_unlock(&loop->lock);

    for (size_t i = 0; i < mail.count; i++)
        mail.posts[i].fn(loop, mail.posts[i].arg);

    mail.count = 0;
    if (mail.capacity > KEPT_CAPACITY) {
        free(mail.posts);
        mail = (struct mailbox){NULL, 0, 0};
    }
    loop->running = mail;
    /* Nothing can be posted any more: this was the last mail. */
    if (stopping && !uv_is_closing((uv_handle_t *)async))
        uv_close((uv_handle_t *)async, NULL);
}

static void *run(void *arg)
{
    struct loop *loop = arg;
    while (!uv_is_closing((uv_handle_t *)&loop->async))
        (void)uv_run(&loop->uv, UV_RUN_ONCE);
    for (int i = 0; i < LAST_TURNS && uv_loop_alive(&loop->uv); i++)
        (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    int rc = uv_loop_close(&loop->uv);
    assert(rc == 0); /* somebody left a handle open */
    return NULL;
}

static void free_loop(struct loop *loop)
{
    pthread_mutex_destroy(&loop->lock);
    free(loop->waiting.posts);
    free(loop->running.posts);
    free(loop);
}

static int start_thread(struct loop *loop)
{
    /* Signals are for the main thread. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&loop->thread, NULL, run, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : -1;
}

static struct loop *start_loop(size_t index)
{
    struct loop *loop = mem_alloc(sizeof *loop);
    loop->index = index;
    loop->async.data = loop;
    pthread_mutex_init(&loop->lock, NULL);
    if (uv_loop_init(&loop->uv) < 0) {
        free_loop(loop);
        return NULL;
    }
    if (uv_async_init(&loop->uv, &loop->async, on_wake) < 0)
        goto failed;
    if (start_thread(loop) == 0)
        return loop;
    uv_close((uv_handle_t *)&loop->async, NULL);
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
failed:
    (void)uv_loop_close(&loop->uv);
    free_loop(loop);
    return NULL;
}

int loops_start(size_t count, struct loop ***loops_out)
{
    assert(count >= 1 && count <= 64);
    struct loop **loops = mem_alloc(count * sizeof(struct loop *));
    for (size_t i = 0; i < count; i++) {
        loops[i] = start_loop(i);
        if (loops[i] == NULL) {
            loops_stop(&loops, i);
            return -1;
        }
    }
    *loops_out = loops;
    return 0;
}

bool loop_post(struct loop *loop, loop_fn fn, void *arg)
{
    pthread_mutex_lock(&loop->lock);
    bool accepted = !loop->stopping;
    if (accepted) {
        struct mailbox *mail = &loop->waiting;
        if (mail->count == mail->capacity) {
            mail->capacity = mail->capacity > 0 ? mail->capacity * 2 : FIRST_CAPACITY;
            mail->posts = mem_grow(mail->posts, mail->capacity * sizeof(struct post));
        }
        mail->posts[mail->count++] = (struct post){fn, arg};
        /* Under the lock, because the handle closes after `stopping` is seen. */
        if (mail->count == 1)
            (void)uv_async_send(&loop->async);
    }
    pthread_mutex_unlock(&loop->lock);
    return accepted;
}

uv_loop_t *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

size_t loop_index(const struct loop *loop)
{
    return loop->index;
}

void loop_load_add(struct loop *loop, int delta)
{
    atomic_fetch_add_explicit(&loop->load, delta, memory_order_relaxed);
}

int loop_load(const struct loop *loop)
{
    return atomic_load_explicit(&loop->load, memory_order_relaxed);
}

void loops_stop(struct loop ***loopsp, size_t count)
{
    struct loop **loops = *loopsp;
    if (loops == NULL)
        return;
    *loopsp = NULL;
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&loops[i]->lock);
        loops[i]->stopping = true;
        (void)uv_async_send(&loops[i]->async);
        pthread_mutex_unlock(&loops[i]->lock);
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(loops[i]->thread, NULL);
    for (size_t i = 0; i < count; i++)
        free_loop(loops[i]);
    free(loops);
}
