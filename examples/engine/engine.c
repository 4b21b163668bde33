/* Concepts inside a game's frame loop. The library is compiled for inference alone, without stdio;
   its memory is the engine's arena, its threads are the engine's job system, its model a file that
   the engine read by its own means and that msae_map uses where it lies. A thing that the player
   meets is encoded over several frames, so many latents in each, so that no frame pays for all of
   it. Argument: the folder with the assets that bake.c made. */
#define _POSIX_C_SOURCE 200809L
#define MSAE_IMPLEMENTATION
#define MSAE_NO_STDIO
#define MSAE_RUN_ONLY
#include "../../msae.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- memory: one block, handed out in order ---- */

typedef struct arena {
    unsigned char *block;
    size_t used, size;
} arena;

static void *arena_take(size_t bytes, void *user) {
    arena *a = user;
    const size_t rounded = (bytes + 63) / 64 * 64;
    if (rounded < bytes || rounded > a->size - a->used) return NULL;
    a->used += rounded;
    return a->block + a->used - rounded;
}

static void arena_give(void *memory, size_t bytes, void *user) {
    arena *a = user;
    const size_t rounded = (bytes + 63) / 64 * 64;
    if ((unsigned char *)memory + rounded == a->block + a->used) a->used -= rounded; /* the last */
}

/* ---- jobs: one thread beside the frame's own, which sleeps until there is a loop to share ---- */

enum { WORKERS = 2 };

typedef struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    pthread_t thread;
    msae_task task;
    void *context;
    size_t next, tasks, running;
    int quit, threaded;
    size_t loops; /* for the report */
} jobs;

/* Takes tasks until none is left; called and left with the lock held. */
static void work(jobs *j, size_t worker) {
    while (j->next < j->tasks) {
        const size_t task = j->next++;
        j->running++;
        pthread_mutex_unlock(&j->lock);
        j->task(j->context, task, worker);
        pthread_mutex_lock(&j->lock);
        if (--j->running == 0 && j->next == j->tasks) pthread_cond_signal(&j->done);
    }
}

static void *worker_thread(void *user) {
    jobs *j = user;
    pthread_mutex_lock(&j->lock);
    while (!j->quit) {
        work(j, 1);
        if (!j->quit) pthread_cond_wait(&j->more, &j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* The hook: msae_parallel.parallel_for. */
static void jobs_for(void *user, size_t tasks, msae_task task, void *context) {
    jobs *j = user;
    pthread_mutex_lock(&j->lock);
    j->task = task;
    j->context = context;
    j->next = 0;
    j->tasks = tasks;
    j->loops++;
    pthread_cond_signal(&j->more);
    work(j, 0);
    while (j->running > 0) pthread_cond_wait(&j->done, &j->lock);
    j->tasks = 0;
    pthread_mutex_unlock(&j->lock);
}

static void jobs_start(jobs *j) {
    memset(j, 0, sizeof *j);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->more, NULL);
    pthread_cond_init(&j->done, NULL);
    j->threaded = pthread_create(&j->thread, NULL, worker_thread, j) == 0; /* else alone */
}

static void jobs_stop(jobs *j) {
    pthread_mutex_lock(&j->lock);
    j->quit = 1;
    pthread_cond_signal(&j->more);
    pthread_mutex_unlock(&j->lock);
    if (j->threaded) pthread_join(j->thread, NULL);
}

/* ---- files: the engine's own ---- */

/* A file of the folder in the arena, with a zero behind it; NULL when it cannot be read. */
static void *read_asset(arena *a, const char *folder, const char *name, size_t *size) {
    char path[512];
    long length;
    unsigned char *bytes = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0) {
        rewind(file);
        *size = (size_t)length;
        bytes = arena_take(*size + 1, a);
        if (bytes && fread(bytes, 1, *size, file) != *size) bytes = NULL;
        if (bytes) bytes[*size] = 0;
    }
    fclose(file);
    return bytes;
}

/* Splits a text into its lines; returns how many. */
static size_t split(char *text, const char **lines, size_t room) {
    size_t count = 0;
    while (*text && count < room) {
        lines[count++] = text;
        text += strcspn(text, "\n");
        if (*text) *text++ = 0;
    }
    return count;
}

/* ---- the game ---- */

enum { FRAMES = 60, BUDGET = 128, KEEP = 4, MAX_THINGS = 16, MAX_LATENTS = 4096 };

static double microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

int main(int argc, char **argv) {
    static unsigned char block[8 << 20];
    static const char *names[MAX_LATENTS], *things[MAX_THINGS];
    static msae_code codes[MAX_THINGS][KEEP], again[MAX_THINGS * KEEP];
    size_t counts[MAX_THINGS] = {0}, check[MAX_THINGS], bytes = 0, text = 0, vectors = 0;
    arena memory = {block, 0, sizeof block};
    jobs j;
    msae_model model;
    msae_load_desc desc;
    msae_error error;
    msae_slices slices;
    if (argc != 2) return 2;

    const void *file = read_asset(&memory, argv[1], "concepts.safetensors", &bytes);
    char *name_text = read_asset(&memory, argv[1], "concepts.txt", &text);
    char *thing_text = read_asset(&memory, argv[1], "things.txt", &text);
    const float *x = read_asset(&memory, argv[1], "things.f32", &vectors);
    if (!file || !name_text || !thing_text || !x) {
        fprintf(stderr, "engine: an asset is missing in %s\n", argv[1]);
        return 1;
    }
    jobs_start(&j);
    memset(&desc, 0, sizeof desc);
    desc.host.allocator.alloc = arena_take;
    desc.host.allocator.free = arena_give;
    desc.host.allocator.user = &memory;
    desc.host.parallel.parallel_for = jobs_for;
    desc.host.parallel.user = &j;
    desc.host.parallel.workers = WORKERS;
    desc.check = 1;
    const double start = microseconds();
    if (msae_map(&model, file, bytes, &desc, &error) != MSAE_OK) {
        fprintf(stderr, "engine: %s\n", error.message);
        return 1;
    }
    printf("a model of %zu latents, %zu bytes: mapped in %.0f us by %s\n", model.n_latents, bytes,
           microseconds() - start, msae_enum_name(MSAE_ENUM_SIMD, (int)model.simd));
    const size_t n_names = split(name_text, names, MAX_LATENTS);
    const size_t n_things = split(thing_text, things, MAX_THINGS);
    void *workspace = arena_take(msae_workspace_bytes(&model, n_things), &memory);
    if (!workspace || n_names != model.n_latents ||
        vectors != n_things * model.n_inputs * sizeof *x) {
        fprintf(stderr, "engine: the assets do not belong together\n");
        return 1;
    }

    /* Each frame works on one thing for its budget, and goes on with it in the next. */
    const size_t held = memory.used;
    size_t thing = 0, frame = 0, done = 0;
    double worst = 0, all = 0;
    int open = 0;
    for (; frame < FRAMES && thing < n_things; frame++) {
        const double begin = microseconds();
        if (!open) {
            msae_encode_begin(&slices, &model, workspace, x + thing * model.n_inputs);
            open = 1;
        }
        const size_t left = msae_encode_some(&slices, BUDGET);
        if (left == 0) {
            if (msae_encode_end(&slices, KEEP, codes[thing], &counts[thing]) != MSAE_OK) {
                fprintf(stderr, "engine: %s gives a NaN or Inf\n", things[thing]);
                return 1;
            }
            thing++;
            open = 0;
        }
        const double took = microseconds() - begin;
        worst = took > worst ? took : worst;
        all += took;
        if (frame < 5) printf("frame %zu: %.1f us, %zu latents left\n", frame, took, left);
    }
    printf("%zu frames: %.1f us each, %.1f at most\n", frame, all / (double)frame, worst);

    /* At a loading screen there is time for all at once, over the jobs; the codes are the same. */
    if (msae_encode_rows(&model, workspace, x, n_things, 0, &(msae_rows){again, check, KEEP},
                         &error) != MSAE_OK) {
        fprintf(stderr, "engine: %s\n", error.message);
        return 1;
    }
    for (size_t t = 0; t < n_things; t++) {
        printf("%-8s", things[t]);
        for (size_t e = 0; e < counts[t]; e++) {
            printf(" %s (%.2f)", names[codes[t][e].latent], (double)codes[t][e].value);
            done += again[t * KEEP + e].latent == codes[t][e].latent;
        }
        printf("\n");
        done -= check[t];
    }
    printf("memory taken while playing: %zu bytes; loops given to the jobs: %zu\n",
           memory.used - held, j.loops);
    jobs_stop(&j);
    return done != 0 || memory.used != held || thing < n_things;
}
