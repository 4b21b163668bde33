/* The library starts no threads; it hands its loops to a hook. Here the hook is a plain fork and
   join over the program's own threads (an engine would put its job system there), and the model
   comes out the same to the bit for every number of them. */
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WORKERS = 16 };

/* One loop: every thread takes the next task until there are no more. */
typedef struct loop {
    pthread_mutex_t lock;
    size_t next, tasks;
    msae_task task;
    void *context;
} loop;

typedef struct worker {
    loop *work;
    size_t number;
} worker;

static size_t take_task(loop *work) {
    pthread_mutex_lock(&work->lock);
    const size_t taken = work->next < work->tasks ? work->next++ : work->tasks;
    pthread_mutex_unlock(&work->lock);
    return taken;
}

static void *run_worker(void *argument) {
    worker *self = argument;
    loop *work = self->work;
    for (size_t i = take_task(work); i < work->tasks; i = take_task(work)) {
        work->task(work->context, i, self->number);
    }
    return NULL;
}

/* The hook. `user` is the number of workers. A thread that cannot be started is not missed: the
   others do its share. */
static void fork_and_join(void *user, size_t tasks, msae_task task, void *context) {
    const size_t workers = *(size_t *)user;
    loop work = {PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, NULL};
    worker selves[MAX_WORKERS];
    pthread_t threads[MAX_WORKERS];
    size_t started = 1;
    work.tasks = tasks;
    work.task = task;
    work.context = context;
    for (size_t i = 0; i < workers; i++) {
        selves[i].work = &work;
        selves[i].number = i;
    }
    while (started < workers && started < tasks &&
           pthread_create(&threads[started], NULL, run_worker, &selves[started]) == 0) {
        started++;
    }
    run_worker(&selves[0]); /* the caller works too */
    for (size_t i = 1; i < started; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&work.lock);
}

/* Trains on the bundled word vectors; returns a checksum of the decoder (FNV-1a), 0 on failure. */
static uint64_t train(const msae_data *vectors, size_t workers) {
    const msae_source source = msae_source_data(vectors);
    msae_train_desc desc;
    msae_trainer trainer;
    msae_error error;
    uint64_t hash = 14695981039346656037u;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = vectors->cols;
    desc.model.n_latents = 1024;
    desc.model.host.parallel.parallel_for = fork_and_join;
    desc.model.host.parallel.user = &workers;
    desc.model.host.parallel.workers = workers;
    desc.batch = 2048;
    desc.epochs = 1;
    if (msae_trainer_init(&trainer, &desc, &error) != MSAE_OK ||
        msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, &error) != MSAE_OK) {
        fprintf(stderr, "own_threads: %s\n", error.message);
        msae_trainer_free(&trainer);
        return 0;
    }
    const unsigned char *bytes = (const unsigned char *)trainer.model.decoder;
    const size_t size = trainer.model.n_latents * trainer.model.n_inputs * sizeof(float);
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    msae_trainer_free(&trainer);
    return hash;
}

int main(void) {
    msae_data vectors;
    msae_error error;
    uint64_t first = 0;
    const char *path = "examples/data/glove_f16.npy";
    if (msae_data_load(&vectors, msae_from_file(path), NULL, NULL, &error) != MSAE_OK) {
        fprintf(stderr, "own_threads: %s: %s (run me from the folder that holds examples/)\n", path,
                error.message);
        return 1;
    }
    for (size_t workers = 1; workers <= 4; workers++) {
        const uint64_t hash = train(&vectors, workers);
        if (workers == 1) first = hash;
        printf("%zu worker%s: decoder %016llx%s\n", workers, workers == 1 ? " " : "s",
               (unsigned long long)hash, hash == first ? "" : ", which DIFFERS");
        if (hash == 0 || hash != first) return 1;
    }
    msae_data_free(&vectors);
    return 0;
}
