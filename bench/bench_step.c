/* How long a training step takes, for every recipe: gradients and update apart, medians of
   interleaved rounds. Arguments: [--latents N] [--batch B] [--threads T] [--rounds R] [--data FILE]
   [--recipe NAME] [--json]. Without --data the rows are 512 random numbers each, which costs the
   same. */
#define _POSIX_C_SOURCE 200112L /* clock_gettime */
#define MSAE_IMPLEMENTATION
#define MSAE_USE_PTHREADS
#include "msae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { INPUTS = 512, MAX_ROUNDS = 200 };

typedef struct bench {
    msae_trainer trainer;
    double gradients[MAX_ROUNDS], update[MAX_ROUNDS];
    msae_step_stats stats;
} bench;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

static int fail(const char *what, const msae_error *error) {
    fprintf(stderr, "bench_step: %s: %s\n", what, error->message);
    return 1;
}

/* Rows with the spread of real embeddings: a few strong directions and many weak ones. */
static int random_rows(msae_data *data, size_t rows) {
    float *x = (float *)malloc(rows * INPUTS * sizeof *x);
    uint32_t state = 1;
    if (x == NULL) return 0;
    for (size_t i = 0; i < rows * INPUTS; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) / 16777216.0f - 0.5f;
        }
        x[i] = sum / (1.0f + 0.05f * (float)(i % INPUTS));
    }
    *data = msae_data_view(x, rows, INPUTS);
    data->owned = x; /* so that msae_data_free gives it back */
    data->owned_bytes = rows * INPUTS * sizeof *x;
    return 1;
}

static int step(bench *b, const msae_data *data, const size_t *index, size_t rows, int round) {
    msae_error error;
    const double start = seconds();
    double middle;
    if (msae_train_gradients(&b->trainer, data, index, rows, &b->stats, &error) != MSAE_OK) {
        return fail("gradients", &error);
    }
    middle = seconds();
    if (msae_train_update(&b->trainer, &b->stats, &error) != MSAE_OK) return fail("update", &error);
    if (round >= 0) {
        b->gradients[round] = middle - start;
        b->update[round] = seconds() - middle;
    }
    return 0;
}

static void print_result(bench *b, size_t rounds, size_t rows, int json) {
    const double gradients = median(b->gradients, rounds), update = median(b->update, rounds);
    const char *name = msae_recipe_name(b->trainer.model.recipe);
    const double all = gradients + update, rate = (double)rows / all;
    if (json) {
        printf("{\"recipe\":\"%s\",\"latents\":%zu,\"batch\":%zu,\"threads\":%zu,\"simd\":\"%s\","
               "\"gradients_ms\":%.3f,\"update_ms\":%.3f,\"rows_per_s\":%.1f,\"l0\":%.1f}\n",
               name, b->trainer.model.n_latents, rows, b->trainer.model.parallel.workers,
               msae_simd_name(b->trainer.model.simd), gradients * 1e3, update * 1e3, rate,
               b->stats.l0);
    } else {
        printf("%-10s %12.1f %10.1f %10.1f %10.0f %8.0f\n", name, gradients * 1e3, update * 1e3,
               all * 1e3, rate, b->stats.l0);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    size_t latents = 4096, batch = 1024, threads = 0, rounds = 5, *index;
    const char *path = NULL, *only = NULL;
    static bench benches[MSAE_RECIPE_COUNT];
    msae_data data;
    msae_pool *pool;
    msae_error error;
    int json = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0) {
            json = 1;
            continue;
        }
        if (strcmp(argv[i], "--latents") == 0)
            latents = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--batch") == 0)
            batch = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--threads") == 0)
            threads = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--data") == 0)
            path = value;
        else if (strcmp(argv[i], "--recipe") == 0)
            only = value;
        else
            return fprintf(stderr, "bench_step: unknown option %s\n", argv[i]), 2;
        i++;
    }
    if (rounds < 1 || rounds > MAX_ROUNDS || batch < 1) {
        return fprintf(stderr, "bench_step: 1 to %d rounds, 1 row or more\n", MAX_ROUNDS), 2;
    }
    if (path ? msae_data_load_file(&data, path, NULL, NULL, &error) != MSAE_OK
             : !random_rows(&data, 4 * batch)) {
        return fail(path ? path : "rows", &error);
    }
    if (msae_pool_create(&pool, threads, &error) != MSAE_OK) return fail("threads", &error);
    index = (size_t *)malloc(batch * sizeof *index);
    if (index == NULL) return 1;
    for (int r = 1; r < MSAE_RECIPE_COUNT; r++) {
        msae_train_desc desc;
        if (only && strcmp(only, msae_recipe_name((msae_recipe)r)) != 0) continue;
        memset(&desc, 0, sizeof desc);
        desc.model.n_inputs = data.cols;
        desc.model.n_latents = latents;
        desc.model.recipe = (msae_recipe)r;
        desc.model.parallel = msae_pool_parallel(pool);
        desc.batch = batch;
        if (msae_trainer_init(&benches[r].trainer, &desc, &error) != MSAE_OK ||
            msae_train_statistics(&benches[r].trainer, &data, &error) != MSAE_OK) {
            return fail(msae_recipe_name((msae_recipe)r), &error);
        }
    }
    if (!json) {
        printf("d %zu, n %zu, %zu rows, milliseconds (medians of %zu rounds)\n", data.cols, latents,
               batch, rounds);
        printf("%-10s %12s %10s %10s %10s %8s\n", "recipe", "gradients", "update", "step", "rows/s",
               "l0");
    }
    for (int round = -1; round < (int)rounds; round++) { /* the first one warms up */
        for (size_t i = 0; i < batch; i++) {
            index[i] = ((size_t)(round + 1) * batch + i) % data.rows;
        }
        for (int r = 1; r < MSAE_RECIPE_COUNT; r++) {
            if (!benches[r].trainer.memory) continue;
            if (step(&benches[r], &data, index, batch, round) != 0) return 1;
        }
    }
    for (int r = 1; r < MSAE_RECIPE_COUNT; r++) {
        if (!benches[r].trainer.memory) continue;
        print_result(&benches[r], rounds, batch, json);
        msae_trainer_free(&benches[r].trainer);
    }
    free(index);
    msae_pool_free(pool);
    msae_data_free(&data);
    return 0;
}
