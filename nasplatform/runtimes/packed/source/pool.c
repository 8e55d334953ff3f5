/* A few threads that share the steps of one session. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "packed.h"

#define API __attribute__((visibility("default")))

enum { SPINS = 4000, SHARES = 4 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
    pthread_t *threads;
    int64_t workers; /* beside the caller */
    pid_t owner;     /* a forked child has none of the threads */
    atomic_long round;
    atomic_long next, active;
    int64_t parts;
    int open, stop; /* open: a worker that wakes up may still join */
    kernel make;
    const step *what;
};

static void work(pool *p) {
    for (int64_t part; (part = atomic_fetch_add(&p->next, 1)) < p->parts;)
        p->make(p->what, part, p->parts);
}

static void *serve(void *given) {
    pool *p = given;
    long seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&p->round) == seen; i++) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        pthread_mutex_lock(&p->lock);
        while (atomic_load(&p->round) == seen && !p->stop)
            pthread_cond_wait(&p->begun, &p->lock);
        seen = atomic_load(&p->round);
        int stop = p->stop, joins = p->open && !stop;
        if (joins)
            atomic_fetch_add(&p->active, 1);
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        if (!joins) /* woken too late: the others have done it */
            continue;
        work(p);
        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_sub(&p->active, 1) == 1)
            pthread_cond_signal(&p->ended);
        pthread_mutex_unlock(&p->lock);
    }
}

API void packed_pool_free(pool *p) {
    if (p->owner == getpid()) {
        pthread_mutex_lock(&p->lock);
        p->stop = 1;
        pthread_cond_broadcast(&p->begun);
        pthread_mutex_unlock(&p->lock);
        for (int64_t i = 0; i < p->workers; i++)
            pthread_join(p->threads[i], NULL);
    }
    free(p->threads);
    free(p);
}

/* NULL where memory is short; fewer threads where the system refuses some. */
API pool *packed_pool_new(int64_t threads) {
    pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->threads = calloc(threads, sizeof *p->threads);
    if (!p->threads) {
        free(p);
        return NULL;
    }
    p->owner = getpid();
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->begun, NULL);
    pthread_cond_init(&p->ended, NULL);
    while (p->workers < threads - 1 &&
           pthread_create(&p->threads[p->workers], NULL, serve, p) == 0)
        p->workers++;
    return p;
}

void pool_run(pool *p, kernel make, const step *what) {
    if (p->workers == 0 || p->owner != getpid()) {
        make(what, 0, 1);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->make = make;
    p->what = what;
    p->parts = SHARES * (p->workers + 1);
    atomic_store(&p->next, 0);
    p->open = 1;
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->begun);
    pthread_mutex_unlock(&p->lock);
    work(p);
    pthread_mutex_lock(&p->lock);
    p->open = 0;
    while (atomic_load(&p->active) > 0)
        pthread_cond_wait(&p->ended, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
