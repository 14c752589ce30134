/* mta/control/scanner.c - see scanner.h. */
#include "mta/control/scanner.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct job_list {
    struct scanner_job *first, **end;
};

struct scanner {
    pthread_t thread;
    uv_async_t async;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock: */
    struct job_list waiting, finished;
    bool stopping;
};

static void list_init(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_add(struct job_list *list, struct scanner_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
}

static struct scanner_job *list_take(struct job_list *list)
{
    struct scanner_job *job = list->first;
    if (job == NULL)
        return NULL;
    list->first = job->next;
    if (list->first == NULL)
        list->end = &list->first;
    return job;
}

static void *run(void *arg)
{
    struct scanner *scanner = arg;
    pthread_mutex_lock(&scanner->lock);
    while (!scanner->stopping) {
        struct scanner_job *job = list_take(&scanner->waiting);
        if (job == NULL) {
            pthread_cond_wait(&scanner->wake, &scanner->lock);
            continue;
        }
        pthread_mutex_unlock(&scanner->lock);
        job->work(job);
        pthread_mutex_lock(&scanner->lock);
        list_add(&scanner->finished, job);
        uv_async_send(&scanner->async);
    }
    pthread_mutex_unlock(&scanner->lock);
    return NULL;
}

static void on_async(uv_async_t *async)
{
    struct scanner *scanner = async->data;
    for (;;) {
        pthread_mutex_lock(&scanner->lock);
        struct scanner_job *job = list_take(&scanner->finished);
        pthread_mutex_unlock(&scanner->lock);
        if (job == NULL)
            return;
        job->done(job);
    }
}

static void free_when_closed(uv_handle_t *handle)
{
    struct scanner *scanner = handle->data;
    pthread_cond_destroy(&scanner->wake);
    pthread_mutex_destroy(&scanner->lock);
    free(scanner);
}

/* Signals are the main thread's. */
static int start_thread(struct scanner *scanner)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&scanner->thread, NULL, run, scanner);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : -1;
}

int scanner_start(uv_loop_t *loop, struct scanner **scanner_out)
{
    struct scanner *scanner = mem_alloc(sizeof *scanner);
    pthread_mutex_init(&scanner->lock, NULL);
    pthread_cond_init(&scanner->wake, NULL);
    list_init(&scanner->waiting);
    list_init(&scanner->finished);
    uv_async_init(loop, &scanner->async, on_async);
    scanner->async.data = scanner;
    if (start_thread(scanner) < 0) {
        uv_close((uv_handle_t *)&scanner->async, free_when_closed);
        return -1;
    }
    *scanner_out = scanner;
    return 0;
}

void scanner_add(struct scanner *scanner, struct scanner_job *job)
{
    pthread_mutex_lock(&scanner->lock);
    list_add(&scanner->waiting, job);
    pthread_cond_signal(&scanner->wake);
    pthread_mutex_unlock(&scanner->lock);
}

void scanner_stop(struct scanner **scannerp)
{
    struct scanner *scanner = *scannerp;
    if (scanner == NULL)
        return;
    pthread_mutex_lock(&scanner->lock);
    scanner->stopping = true;
    pthread_cond_signal(&scanner->wake);
    pthread_mutex_unlock(&scanner->lock);
    pthread_join(scanner->thread, NULL);
    uv_close((uv_handle_t *)&scanner->async, free_when_closed);
    *scannerp = NULL;
}
