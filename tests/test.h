/* What the tests share: cases made of checks, the paths of this machine, random numbers, a heap
   that counts and fails on request, and a table of recipes. Every test includes this file first,
   and with it the library's own copy, internals included. One that looks at none may be built with
   TEST_LINKED and linked with linked.c, a copy that all of them share: compiling is most of the
   tests' time. */
#ifndef TEST_H
#define TEST_H

#define _POSIX_C_SOURCE 200809L

#ifndef TEST_LINKED
#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#endif
#ifndef TEST_NO_THREADS /* for systems without; only test_threads needs them */
#define MSAE_USE_PTHREADS
#endif
#include "msae.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <direct.h>
#define TEST_MKDIR(path) _mkdir(path)
#define TEST_RMDIR(path) _rmdir(path)
#else
#include <sys/stat.h>
#include <unistd.h>
#define TEST_MKDIR(path) mkdir(path, 0700)
#define TEST_RMDIR(path) rmdir(path)
#endif

#ifdef TEST_LINKED
msae_simd test_next_path(msae_simd simd);
msae_status test_median(const msae_source *source, const float *mean, float scale, int skip_bad,
                        const msae_collective *collective, const msae_allocator *allocator,
                        float *median, msae_error *error);
#else
#include "inside.h"
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------------------------------------
   Cases and checks
   ------------------------------------------------------------------------------------------ */

#define TEST_SHOWN 5 /* failed checks that a case prints */

static size_t test_passed, test_failed; /* cases */
static size_t test_failures;            /* failed checks of the running case */
static const char *test_case;
static char test_context[256]; /* where in its loops the case is */

/* Says where the running case is; printed with every failed check. */
static inline void test_note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(test_context, sizeof test_context, format, arguments);
    va_end(arguments);
}

static inline int test_check(int ok, const char *text, const char *file, int line) {
    if (!ok && ++test_failures <= TEST_SHOWN) {
        printf("%s:%d: %s: %s%s%s\n", file, line, test_case, text, *test_context ? " at " : "",
               test_context);
    }
    return ok;
}

static inline int test_check_status(msae_status expected, msae_status status, const char *text,
                                    const char *file, int line) {
    char buffer[512];
    snprintf(buffer, sizeof buffer, "%s is \"%s\", not \"%s\"", text, msae_status_text(status),
             msae_status_text(expected));
    return test_check(status == expected, buffer, file, line);
}

/* Both give 1 when the check holds, so that a case can stop where going on makes no sense. */
#define CHECK(condition) test_check(!!(condition), #condition, __FILE__, __LINE__)
#define CHECK_STATUS(expected, call) test_check_status(expected, call, #call, __FILE__, __LINE__)

static inline void test_begin(const char *name) {
    test_case = name;
    test_failures = 0;
    test_note("%s", "");
}

static inline void test_end(void) {
    if (test_failures > TEST_SHOWN) {
        printf("%s: %zu failed checks in all\n", test_case, test_failures);
    }
    if (test_failures) {
        test_failed++;
    } else {
        test_passed++;
    }
}

#define RUN(function) (test_begin(#function), function(), test_end())

/* The last line and the exit status of every test. */
static inline int test_finish(void) {
    printf("%zu passed, %zu failed\n", test_passed, test_failed);
    return test_failed || !test_passed;
}

/* ---------------------------------------------------------------------------------------------
   Paths, numbers, memory
   ------------------------------------------------------------------------------------------ */

#define FOR_EACH_PATH(simd)                                                       \
    for (msae_simd simd = test_next_path(MSAE_SIMD_AUTO); simd < MSAE_SIMD_COUNT; \
         simd = test_next_path(simd))

/* A test that runs out of memory by itself has nothing left to say. */
static inline void *test_alloc(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        printf("out of memory\n");
        exit(1);
    }
    return memory;
}

/* The k largest active latents of one row, whatever the model keeps. */
static inline size_t test_encode(const msae_model *model, void *workspace, const float *x, size_t k,
                                 msae_code *codes) {
    const msae_until all = {0, 0, 0};
    size_t count;
    CHECK_STATUS(MSAE_OK, msae_encode_until(model, workspace, x, &all, k, codes, &count, NULL));
    return count;
}

/* What the model keeps of one row; codes has room for all. */
static inline size_t test_encode_own(const msae_model *model, void *workspace, const float *x,
                                     msae_code *codes) {
    size_t count;
    CHECK_STATUS(MSAE_OK, msae_encode(model, workspace, x, model->n_latents, codes, &count));
    return count;
}

static inline float *test_floats(size_t count) {
    return (float *)test_alloc(count * sizeof(float));
}

/* The whole of a file that is not empty, *size bytes, to be freed; NULL when it cannot be read. */
static inline void *test_read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    void *bytes = NULL;
    long length;
    *size = 0;
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) > 0) {
        bytes = test_alloc((size_t)length);
        rewind(file);
        *size = fread(bytes, 1, (size_t)length, file);
        if (*size != (size_t)length) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

/* A new folder for files; TEST_RMDIR takes it away when it is empty. */
static inline const char *test_folder(void) {
    static char path[64];
    int i = 0;
    do {
        snprintf(path, sizeof path, "/tmp/msae-test-%d", i);
    } while (TEST_MKDIR(path) != 0 && ++i < 10000);
    if (i == 10000) {
        printf("no folder for files\n");
        exit(1);
    }
    return path;
}

/* splitmix64: the tests' own numbers, the same everywhere. */
static inline uint64_t test_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-range, range). */
static inline void test_fill(uint64_t *state, float *values, size_t count, float range) {
    for (size_t i = 0; i < count; i++) {
        values[i] = range * ((float)(test_random(state) >> 40) / (float)(1 << 23) - 1.0f);
    }
}

static inline float *test_random_floats(uint64_t seed, size_t count, float range) {
    float *values = test_floats(count);
    test_fill(&seed, values, count, range);
    return values;
}

static inline double test_norm(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* ||got - want|| / ||want||; where `want` is zero, ||got||. */
static inline double test_error(const float *got, const float *want, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)got[i] - (double)want[i];
        sum += difference * difference;
    }
    double norm = test_norm(want, count);
    return sqrt(sum) / (norm > 0 ? norm : 1);
}

/* Numbers by their bits: isnan, isinf and signbit say nothing under -ffast-math, where the compiler
   takes it that there is no NaN, no Inf and one zero. */
static inline int test_is_negative(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 != 0;
}

/* The bits of |value|: TEST_INFINITY for Inf, more for NaN. */
#define TEST_INFINITY ((uint64_t)0x7ff << 52)

static inline uint64_t test_magnitude(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & ~((uint64_t)1 << 63);
}

static inline int test_is_finite(double value) {
    return test_magnitude(value) < TEST_INFINITY;
}

static inline int test_is_nan(double value) {
    return test_magnitude(value) > TEST_INFINITY;
}

static inline int test_same(const float *a, const float *b, size_t count) {
    return memcmp(a, b, count * sizeof *a) == 0;
}

/* Copies floats between memory and the order of files, which is little-endian everywhere. */
static inline void test_copy_le(void *to, const void *from, size_t count) {
    const uint16_t one = 1;
    const size_t flip = *(const unsigned char *)&one ? 0 : 3;
    for (size_t i = 0; i < 4 * count; i++) {
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i ^ flip];
    }
}

/* A block with canaries before and after it. */
typedef struct test_fence {
    unsigned char *block, *memory;
    size_t bytes;
} test_fence;

enum { TEST_CANARY = 0xa5, TEST_CANARIES = 64 };

/* The block's address is `offset`, below 64, beyond a multiple of 64. */
static inline test_fence test_fence_open(size_t bytes, size_t offset) {
    size_t size = bytes + 2 * TEST_CANARIES + 128;
    test_fence fence;
    fence.block = (unsigned char *)test_alloc(size);
    fence.memory = fence.block + TEST_CANARIES;
    fence.memory += 64 - (uintptr_t)fence.memory % 64 + offset;
    fence.bytes = bytes;
    memset(fence.block, TEST_CANARY, size);
    return fence;
}

static inline void test_fence_close(test_fence *fence) {
    size_t touched = 0;
    for (size_t i = 0; i < TEST_CANARIES; i++) {
        touched += *(fence->memory - 1 - i) != TEST_CANARY;
        touched += fence->memory[fence->bytes + i] != TEST_CANARY;
    }
    CHECK(touched == 0);
    free(fence->block);
}

/* A heap behind the allocator hook. Blocks are counted by the sizes that alloc and free are told,
   so a free with another size shows as bytes that stay. */
typedef struct test_heap {
    size_t allocations; /* asked for so far */
    size_t bytes;       /* held now */
    size_t most;        /* ever held */
    size_t fail_at;     /* this allocation, counted from 1, fails; 0: none does */
    int fail_on;        /* and so do all after it */
} test_heap;

static inline void *test_heap_alloc(size_t bytes, void *user) {
    test_heap *heap = (test_heap *)user;
    heap->allocations++;
    if (heap->fail_at &&
        (heap->fail_on ? heap->allocations >= heap->fail_at : heap->allocations == heap->fail_at)) {
        return NULL;
    }
    heap->bytes += bytes;
    if (heap->bytes > heap->most) heap->most = heap->bytes;
    return test_alloc(bytes);
}

static inline void test_heap_free(void *memory, size_t bytes, void *user) {
    if (memory) ((test_heap *)user)->bytes -= bytes;
    free(memory);
}

static inline msae_allocator test_heap_allocator(test_heap *heap) {
    msae_allocator allocator = {test_heap_alloc, test_heap_free, heap};
    return allocator;
}

/* ---------------------------------------------------------------------------------------------
   Models
   ------------------------------------------------------------------------------------------ */

typedef struct test_recipe {
    const char *name;
    msae_recipe recipe;
    msae_activation activation;
    msae_loss loss;
    int tied, normalize;
    float soft_cap;
} test_recipe;

/* Every recipe, and every option at least once. */
static const test_recipe test_recipes[] = {
    {"msae-uw", MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 0, 0},
    {"msae-uw tied", MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 1, 0, 0},
    {"msae-uw normalize", MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 1, 0},
    {"msae-rw cosine", MSAE_RECIPE_MSAE_RW, MSAE_ACTIVATION_RELU, MSAE_LOSS_COSINE, 0, 0, 0},
    {"msae-rw identity", MSAE_RECIPE_MSAE_RW, MSAE_ACTIVATION_IDENTITY, MSAE_LOSS_MSE, 0, 0, 0},
    {"topk", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 0, 0},
    {"topk abs cap", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_ABS, MSAE_LOSS_MSE, 0, 0, 0.7f},
    {"batchtopk", MSAE_RECIPE_BATCHTOPK, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_NMSE, 0, 0, 0},
    {"relu", MSAE_RECIPE_RELU, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_NMSE, 0, 0, 0},
    {"jumprelu", MSAE_RECIPE_JUMPRELU, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_NMSE, 0, 0, 0},
    {"msae", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 0, 0},
    {"msae-width", MSAE_RECIPE_MSAE_WIDTH, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_NMSE, 0, 0, 0},
};

/* Whether latents are chosen over the batch and, at inference, by a threshold. */
static inline int test_is_batch_topk(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_BATCHTOPK || recipe == MSAE_RECIPE_MSAE_WIDTH;
}

/* Whether a row keeps a number of latents, and not just all that are active. */
static inline int test_has_k(msae_recipe recipe) {
    return recipe != MSAE_RECIPE_RELU && recipe != MSAE_RECIPE_JUMPRELU;
}

#define FOR_EACH_RECIPE(recipe)                                                                 \
    for (const test_recipe *recipe = test_recipes; recipe < test_recipes + COUNT(test_recipes); \
         recipe++)

/* msae_top_rows of a descriptor of these. */
static inline msae_status test_top_rows(const msae_model *model, const msae_data *data, size_t k,
                                        const uint32_t *latents, size_t n_latents, size_t top,
                                        msae_hit *hits, size_t *counts, msae_error *error) {
    const msae_top_desc desc = {latents, n_latents, top, k};
    return msae_top_rows(model, data, &desc, hits, counts, error);
}

/* A descriptor of d inputs and n latents with small levels and a large learning rate. */
static inline msae_train_desc test_desc(const test_recipe *recipe, size_t d, size_t n) {
    const int has_penalty =
        recipe->recipe == MSAE_RECIPE_RELU || recipe->recipe == MSAE_RECIPE_JUMPRELU;
    const int has_levels = !has_penalty && recipe->recipe != MSAE_RECIPE_TOPK &&
                           recipe->recipe != MSAE_RECIPE_BATCHTOPK;
    msae_train_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = d;
    desc.model.n_latents = n;
    desc.model.recipe = recipe->recipe;
    desc.model.activation = recipe->activation;
    if (has_levels) desc.model.nesting_start = n < 4 ? n : 4;
    if (test_has_k(recipe->recipe)) desc.model.k = n < 5 ? n : 5;
    desc.model.tied = recipe->tied;
    desc.model.normalize = recipe->normalize;
    desc.model.soft_cap = recipe->soft_cap;
    if (recipe->recipe == MSAE_RECIPE_JUMPRELU) desc.model.threshold = 0.1f;
    desc.model.seed = 7;
    desc.loss = recipe->loss;
    desc.batch = 64;
    desc.lr = 0.01f;
    if (has_penalty) desc.sparse_weight = 0.03f;
    if (recipe->recipe == MSAE_RECIPE_JUMPRELU) desc.bandwidth = 0.5f;
    return desc;
}

/* The functions over a source, of data in memory. */
static inline msae_status test_fit(msae_trainer *trainer, const msae_data *data,
                                   msae_progress_fn progress, void *user, msae_error *error) {
    const msae_source source = msae_source_data(data);
    return msae_trainer_fit(trainer, &source, NULL, progress, user, error);
}

static inline msae_status test_statistics(msae_trainer *trainer, const msae_data *data,
                                          msae_error *error) {
    const msae_source source = msae_source_data(data);
    return msae_trainer_statistics(trainer, &source, error);
}

static inline msae_status test_data_statistics(const msae_data *data, msae_scaling scaling,
                                               int skip_bad, const msae_allocator *allocator,
                                               float *mean, float *scale, msae_error *error) {
    const msae_source source = msae_source_data(data);
    return msae_source_statistics(&source, scaling, skip_bad, NULL, allocator, mean, scale, error);
}

static inline msae_status test_geometric_median(const msae_data *data, const float *mean,
                                                float scale, int skip_bad,
                                                const msae_allocator *allocator, float *median,
                                                msae_error *error) {
    const msae_source source = msae_source_data(data);
    return test_median(&source, mean, scale, skip_bad, NULL, allocator, median, error);
}

/* A stream over rows in memory, all of which are one window. */
static inline msae_status test_stream(msae_stream *stream, const msae_data *data, size_t batch,
                                      uint64_t seed, const msae_position *at) {
    const msae_source source = msae_source_data(data);
    msae_stream_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.batch = batch;
    desc.seed = seed;
    return msae_stream_init(stream, &source, &desc, at, NULL);
}

/* Its next batch; 0 at the end of an epoch. */
static inline size_t test_next(msae_stream *stream, const size_t **index) {
    msae_batch batch;
    CHECK_STATUS(MSAE_OK, msae_stream_next(stream, &batch, NULL));
    *index = batch.index;
    return batch.rows;
}

typedef struct test_parameter {
    const char *name;
    float *values;
    size_t rows, cols;
} test_parameter;

#define TEST_MAX_PARAMETERS 5

static inline msae_parameters test_weights(const msae_model *model) {
    msae_parameters weights = {model->encoder, model->decoder, model->pre_bias, model->latent_bias,
                               model->log_threshold};
    return weights;
}

/* The arrays that exist in `p` (weights, gradients or moments of `model`), each once. */
static inline size_t test_list(const msae_model *model, const msae_parameters *p,
                               test_parameter *list) {
    size_t d = model->n_inputs, n = model->n_latents, count = 0;
    test_parameter all[TEST_MAX_PARAMETERS] = {
        {"encoder", p->encoder, n, d},
        {"decoder", model->tied ? NULL : p->decoder, n, d},
        {"pre_bias", p->pre_bias, 1, d},
        {"latent_bias", p->latent_bias, 1, n},
        {"log_threshold", p->log_threshold, 1, n},
    };
    for (size_t i = 0; i < COUNT(all); i++) {
        if (all[i].values) list[count++] = all[i];
    }
    return count;
}

/* Weights that are no special case: all random, biases too, thresholds among the activations. */
static inline void test_randomize(msae_model *model, uint64_t seed) {
    msae_parameters weights = test_weights(model);
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(model, &weights, list);
    for (size_t i = 0; i < count; i++) {
        size_t size = list[i].rows * list[i].cols;
        test_fill(&seed, list[i].values, size, list[i].rows > 1 ? 0.5f : 0.1f);
        if (strcmp(list[i].name, "log_threshold") == 0) {
            for (size_t j = 0; j < size; j++) list[i].values[j] -= 2;
        }
    }
}

#endif
