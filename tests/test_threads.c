/* The same bits for every number of workers and every order of the tasks; and a pool that cannot be
   made. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* What a pool asks the system for, with failures on request. */
static size_t threads_left = SIZE_MAX, blocks_held;
static int heap_fails, cores_unknown;

static inline int limited_create(pthread_t *thread, const pthread_attr_t *attributes,
                                 void *(*start)(void *), void *argument) {
    if (threads_left == 0) return 11; /* as a system does that has no more */
    threads_left--;
    return pthread_create(thread, attributes, start, argument);
}

static inline void *limited_malloc(size_t bytes) {
    void *memory = heap_fails ? NULL : malloc(bytes);
    blocks_held += memory != NULL;
    return memory;
}

static inline void counted_free(void *memory) {
    blocks_held -= memory != NULL;
    free(memory);
}

static inline long counted_cores(int name) {
    return cores_unknown ? -1 : sysconf(name);
}

#define pthread_create limited_create
#define sysconf counted_cores
#define MSAE_MALLOC(bytes) limited_malloc(bytes)
#define MSAE_FREE(memory) counted_free(memory)
#include "test.h"

#include "audits.h"

/* More rows and latents than any tile holds, and no multiple of one. */
enum { D = 33, N = 201, ROWS = 523, STEPS = 4, K = 9 };

/* ---------------------------------------------------------------------------------------------
   Hooks
   ------------------------------------------------------------------------------------------ */

/* Runs the tasks one after the other, the last one first, under changing worker numbers. */
static void run_backwards(void *user, size_t tasks, msae_task task, void *context) {
    size_t workers = *(size_t *)user;
    for (size_t i = tasks; i-- > 0;) task(context, i, (i * 7 + 3) % workers);
}

/* A hook of the case at hand: alone, backwards with made-up workers, or a pool. */
typedef struct crew {
    const char *name;
    size_t workers;
    int pool;
} crew;

static const crew crews[] = {
    {"backwards, 1 worker", 1, 0}, {"backwards, 5 workers", 5, 0},
    {"pool of 1", 1, 1},           {"pool of 2", 2, 1},
    {"pool of 3", 3, 1},           {"pool of 7", 7, 1},
    {"pool of 16", 16, 1},
};

/* ---------------------------------------------------------------------------------------------
   What a crew computes
   ------------------------------------------------------------------------------------------ */

/* One run's results, one after the other. */
typedef struct tape {
    unsigned char *data;
    size_t size, room;
} tape;

static void record(tape *t, const void *data, size_t size) {
    if (t->size + size > t->room) {
        t->room = 2 * (t->size + size);
        unsigned char *larger = (unsigned char *)test_alloc(t->room);
        if (t->size) memcpy(larger, t->data, t->size);
        free(t->data);
        t->data = larger;
    }
    memcpy(t->data + t->size, data, size);
    t->size += size;
}

static void record_parameters(tape *t, const msae_model *model, const msae_parameters *p) {
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(model, p, list);
    for (size_t i = 0; i < count; i++) {
        record(t, list[i].values, list[i].rows * list[i].cols * sizeof(float));
    }
}

static void record_training(tape *t, msae_trainer *trainer, const float *x) {
    msae_data data = msae_data_view(x, ROWS, D);
    CHECK_STATUS(MSAE_OK, test_statistics(trainer, &data, NULL));
    for (size_t step = 0; step < STEPS; step++) {
        msae_step_stats stats;
        memset(&stats, 0, sizeof stats);
        CHECK_STATUS(MSAE_OK, msae_trainer_step(trainer, x, ROWS - step * 50, &stats, NULL));
        record(t, &stats.loss, sizeof stats.loss);
        record(t, stats.level_loss, trainer->model.n_levels * sizeof stats.level_loss[0]);
        record(t, &stats.sparse_loss, sizeof stats.sparse_loss);
        record(t, &stats.grad_norm, sizeof stats.grad_norm);
        record(t, &stats.l0, sizeof stats.l0);
        record(t, &stats.dead_latents, sizeof stats.dead_latents);
        record_parameters(t, &trainer->model, &trainer->grad);
    }
    size_t revived = 0;
    CHECK_STATUS(MSAE_OK, msae_trainer_revive(trainer, &data, NULL, ROWS, &revived, NULL));
    record(t, &revived, sizeof revived);
    msae_parameters weights = test_weights(&trainer->model);
    record_parameters(t, &trainer->model, &weights);
    record_parameters(t, &trainer->model, &trainer->moment1);
    record_parameters(t, &trainer->model, &trainer->moment2);
    record(t, &trainer->model.threshold, sizeof trainer->model.threshold);
}

static void record_inference(tape *t, const msae_model *model, const float *x) {
    static const size_t ks[3] = {2, K, N};
    void *workspace = test_alloc(msae_workspace_bytes(model, ROWS));
    msae_code *codes = (msae_code *)test_alloc(ROWS * K * sizeof *codes);
    size_t *counts = (size_t *)test_alloc(ROWS * sizeof *counts);
    float *z = test_floats(ROWS * N), *recon = test_floats(COUNT(ks) * ROWS * D);
    CHECK_STATUS(MSAE_OK, msae_encode_rows(model, workspace, x, ROWS, K,
                                           &(msae_rows){codes, counts, K}, NULL));
    record(t, counts, ROWS * sizeof *counts);
    for (size_t b = 0; b < ROWS; b++) record(t, codes + b * K, counts[b] * sizeof *codes);
    CHECK_STATUS(MSAE_OK, msae_encode_dense(model, workspace, x, ROWS, K, z, NULL));
    record(t, z, ROWS * N * sizeof *z);
    CHECK_STATUS(MSAE_OK, msae_forward(model, workspace, x, ROWS, ks, COUNT(ks), recon, NULL));
    record(t, recon, COUNT(ks) * ROWS * D * sizeof *recon);
    free(workspace);
    workspace = test_alloc(msae_refine_bytes(model, ROWS));
    CHECK_STATUS(MSAE_OK, msae_refine_rows(model, workspace, x, ROWS, 2,
                                           &(msae_rows){codes, counts, K}, NULL));
    record(t, counts, ROWS * sizeof *counts);
    for (size_t b = 0; b < ROWS; b++) record(t, codes + b * K, counts[b] * sizeof *codes);
    free(workspace);
    free(codes);
    free(counts);
    free(z);
    free(recon);
}

/* An index and its concept tree, more edges than by default. */
static void record_tree(tape *t, const msae_model *model, const msae_data *data) {
    const msae_tree_desc desc = {2, 1, 0.1f, 1, 1.1f};
    msae_edge *edges = (msae_edge *)test_alloc(N * 2 * sizeof *edges);
    msae_index index;
    size_t count = 0;
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, model, data, K, NULL));
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    CHECK(count > 0);
    record(t, index.entry_value, index.entries * sizeof *index.entry_value);
    record(t, edges, count * sizeof *edges);
    msae_index_free(&index);
    free(edges);
}

static void record_analysis(tape *t, const msae_model *model, const float *x) {
    msae_metrics results[MSAE_MAX_LEVELS];
    msae_eval_desc desc;
    msae_data data = msae_data_view(x, ROWS, D);
    msae_name *names = (msae_name *)test_alloc(N * sizeof *names);
    double overlap = 0;
    size_t count = 0;
    memset(&desc, 0, sizeof desc);
    memset(names, 0, N * sizeof *names);
    memset(results, 0, sizeof results);
    desc.cknna = 1;
    CHECK_STATUS(MSAE_OK,
                 msae_evaluate(model, &data, &desc, COUNT(results), results, &count, NULL));
    record(t, results, count * sizeof *results);
    CHECK_STATUS(MSAE_OK, msae_name_latents(model, &data, NULL, names, NULL));
    record(t, names, N * sizeof *names);
    const msae_source source = msae_source_data(&data);
    msae_score *scores = (msae_score *)test_alloc(N * sizeof *scores);
    CHECK_STATUS(MSAE_OK, msae_score_latents(model, &source, NULL, scores, &overlap, NULL));
    record(t, scores, N * sizeof *scores);
    record(t, &overlap, sizeof overlap);
    free(scores);
    record_tree(t, model, &data);
    CHECK_STATUS(MSAE_OK, msae_decoder_overlap(model, 0, &overlap, NULL));
    record(t, &overlap, sizeof overlap);
    msae_host host;
    alignment_result alignment;
    size_t *columns = (size_t *)test_alloc(N * sizeof *columns);
    memset(&host, 0, sizeof host);
    memset(&alignment, 0, sizeof alignment);
    host.simd = model->simd;
    host.parallel = model->parallel;
    CHECK_STATUS(MSAE_OK, test_align(model->decoder, N, x, N, D, &host, columns, &alignment));
    record(t, columns, N * sizeof *columns);
    record(t, &alignment, sizeof alignment);
    free(columns);
    free(names);
}

/* Everything on one recipe, with `parallel` in the descriptor. */
static tape run(const test_recipe *recipe, msae_simd simd, msae_parallel parallel) {
    tape t = {NULL, 0, 0};
    msae_trainer trainer;
    msae_train_desc desc = test_desc(recipe, D, N);
    desc.batch = ROWS;
    desc.geometric_median = 1;
    desc.revivals = 1;
    desc.model.host.simd = simd;
    desc.model.host.parallel = parallel;
    float *x = test_random_floats(3, ROWS * D, 1.5f);
    if (CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) {
        record_training(&t, &trainer, x);
        record_inference(&t, &trainer.model, x);
        record_analysis(&t, &trainer.model, x);
        msae_trainer_free(&trainer);
    }
    free(x);
    return t;
}

static void compare(const test_recipe *recipe, msae_simd simd) {
    msae_parallel alone = {NULL, NULL, 0};
    test_note("%s, %s, alone", recipe->name, msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    tape want = run(recipe, simd, alone);
    for (size_t i = 0; i < COUNT(crews); i++) {
        size_t workers = crews[i].workers;
        msae_parallel parallel = {run_backwards, &workers, workers};
        msae_pool *pool = NULL;
        test_note("%s, %s, %s", recipe->name, msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                  crews[i].name);
        if (crews[i].pool) {
            if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, workers, NULL))) continue;
            parallel = msae_pool_parallel(pool);
            CHECK(parallel.workers == workers);
        }
        tape got = run(recipe, simd, parallel);
        size_t differ = 0;
        while (differ < got.size && differ < want.size && got.data[differ] == want.data[differ]) {
            differ++;
        }
        CHECK(got.size == want.size && differ == want.size);
        free(got.data);
        msae_pool_free(pool);
    }
    free(want.data);
}

/* ---------------------------------------------------------------------------------------------
   Cases
   ------------------------------------------------------------------------------------------ */

static void every_recipe_on_the_best_path(void) {
    FOR_EACH_RECIPE(recipe) compare(recipe, MSAE_SIMD_AUTO);
}

static void every_recipe_on_the_scalar_path(void) {
    FOR_EACH_RECIPE(recipe) compare(recipe, MSAE_SIMD_SCALAR);
}

static void count_task(void *context, size_t task, size_t worker) {
    ((size_t *)context)[task] += worker < 3 ? 1 : 100;
}

/* Every task once, worker numbers below the pool's, loops of any length one after the other. */
static void pool_runs_every_task_once(void) {
    msae_pool *pool;
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL))) return;
    msae_parallel parallel = msae_pool_parallel(pool);
    for (size_t tasks = 0; tasks < 400; tasks += 1 + tasks / 9) {
        size_t counts[400] = {0}, wrong = 0;
        parallel.parallel_for(parallel.user, tasks, count_task, counts);
        for (size_t i = 0; i < COUNT(counts); i++) wrong += counts[i] != (i < tasks);
        test_note("%zu tasks", tasks);
        CHECK(wrong == 0);
    }
    msae_pool_free(pool);
}

static void pool_of_every_core(void) {
    msae_pool *pool;
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 0, NULL))) return;
    size_t workers = msae_pool_parallel(pool).workers;
    CHECK(workers >= 1 && workers <= MSAE_MAX_WORKERS);
    msae_pool_free(pool);
    msae_pool_free(NULL);
    cores_unknown = 1; /* then the caller works alone */
    CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 0, NULL));
    cores_unknown = 0;
    CHECK(msae_pool_parallel(pool).workers == 1);
    msae_pool_free(pool);
}

/* Without memory or threads there is no pool; threads that did start have ended, and their memory
   is given back. */
static void pools_that_cannot_be_made(void) {
    const size_t before = blocks_held;
    msae_pool *pool = (msae_pool *)&pool;
    msae_error error;
    heap_fails = 1;
    CHECK_STATUS(MSAE_ERROR_MEMORY, msae_pool_create(&pool, 4, &error));
    heap_fails = 0;
    CHECK(pool == NULL && error.code == MSAE_ERROR_MEMORY);
    for (size_t started = 0; started < 4; started++) {
        test_note("%zu threads", started);
        threads_left = started;
        pool = (msae_pool *)&pool;
        memset(&error, 0, sizeof error);
        CHECK_STATUS(MSAE_ERROR_MEMORY, msae_pool_create(&pool, 5, &error));
        CHECK(pool == NULL && threads_left == 0 && strstr(error.message, "thread"));
        CHECK(blocks_held == before);
    }
    threads_left = SIZE_MAX;
    CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 5, NULL));
    CHECK(blocks_held == before + 1);
    msae_pool_free(pool);
    CHECK(blocks_held == before);
}

/* A hook that does not say how many workers it has counts as one. */
static void hook_without_workers(void) {
    size_t one = 1;
    msae_model_desc desc;
    msae_model model;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = 3;
    desc.n_latents = 300;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    const size_t alone = msae_workspace_bytes(&model, 8);
    msae_model_free(&model);
    desc.host.parallel.parallel_for = run_backwards;
    desc.host.parallel.user = &one;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    CHECK(msae_workspace_bytes(&model, 8) == alone);
    msae_model_free(&model);
    desc.host.parallel.workers = 2;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    CHECK(msae_workspace_bytes(&model, 8) > alone);
    msae_model_free(&model);
}

static void count_runs(void *context, size_t task, size_t worker) {
    CHECK(task == 0 && worker == 0);
    ++*(size_t *)context;
}

/* A thread for reading ahead runs what it is given, once each, and may have nothing to do; without
   memory or threads there is a status. */
static void background_thread(void) {
    msae_background background;
    msae_error error;
    size_t runs = 0;
    CHECK_STATUS(MSAE_OK, msae_background_create(&background, &error));
    background.wait(background.user);
    for (size_t i = 1; i <= 1000; i++) {
        CHECK(background.start(background.user, count_runs, &runs));
        background.wait(background.user);
        CHECK(runs == i);
        if (i % 3 == 0) background.wait(background.user);
    }
    CHECK(background.start(background.user, count_runs, &runs));
    msae_background_free(&background); /* which does what it was given first */
    CHECK(runs == 1001 && blocks_held == 0);
    msae_background_free(&background);
    heap_fails = 1;
    CHECK_STATUS(MSAE_ERROR_MEMORY, msae_background_create(&background, &error));
    heap_fails = 0;
    CHECK(!background.start && !background.wait && error.message[0]);
    threads_left = 0;
    CHECK_STATUS(MSAE_ERROR_MEMORY, msae_background_create(&background, &error));
    threads_left = SIZE_MAX;
    CHECK(!background.start && !background.wait && strstr(error.message, "thread"));
    CHECK(blocks_held == 0);
    msae_background_free(&background);
}

int main(void) {
    RUN(pool_runs_every_task_once);
    RUN(pool_of_every_core);
    RUN(pools_that_cannot_be_made);
    RUN(hook_without_workers);
    RUN(background_thread);
    RUN(every_recipe_on_the_best_path);
    RUN(every_recipe_on_the_scalar_path);
    return test_finish();
}
