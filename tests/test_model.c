/* Models: descriptors, memory, and inference. */
#include "test.h"

/* More rows than two tiles have. */
enum { D = 13, N = 70, ROWS = 133 };

/* ---------------------------------------------------------------------------------------------
   A model to ask
   ------------------------------------------------------------------------------------------ */

/* A model of random weights with a mean and a scale, raw rows for it and a workspace. */
typedef struct subject {
    msae_model model;
    float *x; /* [ROWS, D] */
    void *workspace;
} subject;

static int open_subject(subject *s, const test_recipe *recipe, msae_simd simd) {
    msae_train_desc desc = test_desc(recipe, D, N);
    test_note("%s, %s", recipe->name, msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    desc.model.host.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&s->model, &desc.model, NULL))) return 0;
    test_randomize(&s->model, 21);
    s->x = test_random_floats(22, ROWS * D, 2);
    for (size_t i = 0; i < ROWS * D; i++) s->x[i] += 3; /* far from the origin, as embeddings are */
    msae_data data = msae_data_view(s->x, ROWS, D);
    CHECK_STATUS(MSAE_OK, test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, s->model.mean,
                                               &s->model.scale, NULL));
    if (test_is_batch_topk(recipe->recipe)) s->model.threshold = 0.3f;
    s->workspace = test_alloc(msae_workspace_bytes(&s->model, ROWS));
    return 1;
}

static void close_subject(subject *s) {
    msae_model_free(&s->model);
    free(s->x);
    free(s->workspace);
}

/* Runs a case on every recipe and path. */
static void for_every_model(void (*run)(subject *s)) {
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            subject s;
            if (!open_subject(&s, recipe, simd)) continue;
            run(&s);
            close_subject(&s);
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Inference
   ------------------------------------------------------------------------------------------ */

static void check_forward(subject *s) {
    static const size_t ks[] = {1, 2, 5, 16, 33, N};
    float *recon = test_floats(COUNT(ks) * ROWS * D), decoded[D], moments[2];
    msae_code codes[N];
    CHECK_STATUS(MSAE_OK,
                 msae_forward(&s->model, s->workspace, s->x, ROWS, ks, COUNT(ks), recon, NULL));
    for (size_t i = 0; i < COUNT(ks); i++) {
        for (size_t b = 0; b < ROWS; b++) {
            const float *x = s->x + b * D;
            size_t count = test_encode(&s->model, s->workspace, x, ks[i], codes);
            msae_row_moments(&s->model, x, moments);
            msae_decode(&s->model, codes, count, moments, decoded);
            CHECK(test_error(decoded, recon + (i * ROWS + b) * D, D) <= 2e-6);
            if (s->model.normalize) continue;
            CHECK(moments[0] == 0 && moments[1] == 1);
            msae_decode(&s->model, codes, count, NULL, decoded);
            CHECK(test_error(decoded, recon + (i * ROWS + b) * D, D) <= 2e-6);
        }
    }
    free(recon);
}

static void encode_then_decode_is_forward(void) {
    for_every_model(check_forward);
}

/* Codes come by descending value, and fewer of them are the start of more. */
static void check_prefixes(subject *s) {
    msae_code all[N], some[N];
    for (size_t b = 0; b < ROWS; b++) {
        const float *x = s->x + b * D;
        size_t count = test_encode(&s->model, s->workspace, x, N, all);
        CHECK(count > 0 && count <= N);
        for (size_t i = 1; i < count; i++) {
            CHECK(all[i].value < all[i - 1].value ||
                  (all[i].value == all[i - 1].value && all[i].latent > all[i - 1].latent));
        }
        for (size_t k = 1; k <= N; k++) {
            size_t fewer = test_encode(&s->model, s->workspace, x, k, some);
            CHECK(fewer == (k < count ? k : count));
            CHECK(memcmp(some, all, fewer * sizeof *some) == 0);
        }
    }
}

static void fewer_codes_are_a_prefix(void) {
    for_every_model(check_prefixes);
}

/* One row at a time, many rows, and dense codes say the same. */
static void check_rows_and_dense(subject *s) {
    static const size_t ks[] = {0, 1, 7, N};
    msae_code *codes = (msae_code *)test_alloc(ROWS * N * sizeof *codes), single[N];
    size_t counts[ROWS];
    float *z = test_floats(ROWS * N);
    for (size_t i = 0; i < COUNT(ks); i++) {
        size_t stride = ks[i] ? ks[i] : N;
        CHECK_STATUS(MSAE_OK, msae_encode_rows(&s->model, s->workspace, s->x, ROWS, ks[i],
                                               &(msae_rows){codes, counts, stride}, NULL));
        CHECK_STATUS(MSAE_OK,
                     msae_encode_dense(&s->model, s->workspace, s->x, ROWS, ks[i], z, NULL));
        for (size_t b = 0; b < ROWS; b++) {
            const float *x = s->x + b * D;
            size_t count = ks[i] ? test_encode(&s->model, s->workspace, x, ks[i], single)
                                 : test_encode_own(&s->model, s->workspace, x, single);
            if (!CHECK(count == counts[b])) continue;
            float dense[N] = {0};
            for (size_t c = 0; c < count; c++) {
                const msae_code *code = &codes[b * stride + c];
                CHECK(code->latent == single[c].latent);
                CHECK(fabsf(code->value - single[c].value) <= 1e-6f * fabsf(single[0].value));
                dense[code->latent] = code->value;
            }
            CHECK(test_error(z + b * N, dense, N) <= 1e-6);
            for (size_t j = 0; j < N; j++) CHECK((z[b * N + j] != 0) == (dense[j] != 0));
        }
    }
    free(codes);
    free(z);
}

static void rows_and_dense_codes_agree(void) {
    for_every_model(check_rows_and_dense);
}

/* What the model keeps by itself. */
static void check_own_k(subject *s) {
    const msae_model *model = &s->model;
    msae_code all[N], own[N];
    for (size_t b = 0; b < ROWS; b++) {
        const float *x = s->x + b * D;
        size_t count = test_encode(model, s->workspace, x, N, all);
        size_t kept = test_encode_own(model, s->workspace, x, own), want = count;
        if (model->k > 0 && want > model->k) want = model->k;
        if (test_is_batch_topk(model->recipe)) {
            for (want = 0; want < count && all[want].value > model->threshold;) want++;
        }
        CHECK(kept == want);
        CHECK(memcmp(own, all, want * sizeof *own) == 0);
    }
}

static void own_k_of_the_model(void) {
    for_every_model(check_own_k);
}

/* No more is written than there is room for, and it is the start of what there would be. */
static void check_room(subject *s) {
    static const size_t rooms[] = {0, 1, 7, N, 2 * N};
    msae_code all[N];
    for (size_t i = 0; i < COUNT(rooms); i++) {
        const size_t room = rooms[i];
        size_t counts[ROWS], count = 1;
        test_fence one = test_fence_open(room * sizeof(msae_code), sizeof(uint32_t));
        test_fence rows = test_fence_open(ROWS * room * sizeof(msae_code), sizeof(uint32_t));
        CHECK_STATUS(MSAE_OK,
                     msae_encode_rows(&s->model, s->workspace, s->x, ROWS, 0,
                                      &(msae_rows){(msae_code *)rows.memory, counts, room}, NULL));
        for (size_t b = 0; b < ROWS; b++) {
            const float *x = s->x + b * D;
            const size_t kept = test_encode_own(&s->model, s->workspace, x, all);
            const size_t want = kept < room ? kept : room;
            CHECK_STATUS(MSAE_OK, msae_encode(&s->model, s->workspace, x, room,
                                              (msae_code *)one.memory, &count));
            CHECK(count == want && counts[b] == want);
            CHECK(want == 0 || memcmp(one.memory, all, want * sizeof *all) == 0);
        }
        test_fence_close(&one);
        test_fence_close(&rows);
    }
    size_t counts[ROWS], count = 1;
    CHECK_STATUS(MSAE_OK, msae_encode(&s->model, s->workspace, s->x, 0, NULL, &count));
    CHECK(count == 0);
    CHECK_STATUS(MSAE_OK, msae_encode_rows(&s->model, s->workspace, s->x, ROWS, 5,
                                           &(msae_rows){NULL, counts, 0}, NULL));
    CHECK(counts[0] == 0 && counts[ROWS - 1] == 0);
}

static void no_more_codes_than_room(void) {
    for_every_model(check_room);
}

/* A model with mean and scale does to raw rows what one without does to transformed rows. */
static void check_mean_and_scale(subject *s) {
    static const size_t ks[] = {6};
    float *inner = test_floats(ROWS * D), *raw = test_floats(ROWS * D);
    float *expected = test_floats(ROWS * D), mean[D], scale = s->model.scale;
    memcpy(mean, s->model.mean, sizeof mean);
    CHECK(scale != 1);
    CHECK_STATUS(MSAE_OK, msae_forward(&s->model, s->workspace, s->x, ROWS, ks, 1, raw, NULL));
    for (size_t i = 0; i < ROWS * D; i++) inner[i] = (s->x[i] - mean[i % D]) * scale;
    memset(s->model.mean, 0, sizeof mean);
    s->model.scale = 1;
    CHECK_STATUS(MSAE_OK,
                 msae_forward(&s->model, s->workspace, inner, ROWS, ks, 1, expected, NULL));
    for (size_t i = 0; i < ROWS * D; i++) expected[i] = expected[i] / scale + mean[i % D];
    CHECK(test_error(raw, expected, ROWS * D) <= 2e-6);
    free(inner);
    free(raw);
    free(expected);
}

static void raw_rows_in_and_out(void) {
    for_every_model(check_mean_and_scale);
}

/* The levels of training and inference at the same k are one function. */
static void check_training_levels(subject *s) {
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    msae_trainer trainer;
    if (!msae__is_nested(s->model.recipe)) return;
    desc.model.recipe = s->model.recipe;
    desc.model.activation = s->model.activation;
    desc.model.tied = s->model.tied;
    desc.model.normalize = s->model.normalize;
    desc.model.soft_cap = s->model.soft_cap;
    desc.model.host.simd = s->model.simd;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    test_randomize(&trainer.model, 21);
    memset(s->model.mean, 0, D * sizeof(float));
    s->model.scale = 1;
    size_t levels = s->model.n_levels;
    float *trained = test_floats(levels * ROWS * D), *inferred = test_floats(levels * ROWS * D);
    msae_data data = msae_data_view(s->x, ROWS, D);
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_forward(&trainer, &data, NULL, ROWS, trained, NULL, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_forward(&s->model, s->workspace, s->x, ROWS, s->model.nesting,
                                       levels, inferred, NULL));
    CHECK(test_error(inferred, trained, levels * ROWS * D) <= 2e-6);
    free(trained);
    free(inferred);
    msae_trainer_free(&trainer);
}

static void inference_is_what_was_trained(void) {
    for_every_model(check_training_levels);
}

static void check_bad_rows(subject *s) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    static const size_t ks[] = {3};
    msae_code codes[ROWS * 3];
    size_t counts[ROWS];
    float *z = test_floats(ROWS * N), *recon = test_floats(ROWS * D);
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t row = 5 + 60 * i;
        float kept = s->x[row * D + i];
        msae_error error;
        s->x[row * D + i] = bad[i];
        const msae_until until = {3, 0, 0};
        size_t count = 1;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_encode(&s->model, s->workspace, s->x + row * D, 3, codes, &count));
        CHECK(count == 0);
        count = 1;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_encode_until(&s->model, s->workspace, s->x + row * D, &until, 3, codes,
                                       &count, NULL));
        CHECK(count == 0);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_encode_rows(&s->model, s->workspace, s->x, ROWS, 3,
                                      &(msae_rows){codes, counts, 3}, &error));
        CHECK(error.position == row);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_encode_dense(&s->model, s->workspace, s->x, ROWS, 3, z, &error));
        CHECK(error.position == row);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_forward(&s->model, s->workspace, s->x, ROWS, ks, 1, recon, &error));
        CHECK(error.position == row);
        s->x[row * D + i] = kept;
    }
    free(z);
    free(recon);
}

static void nan_and_infinity_are_refused(void) {
    for_every_model(check_bad_rows);
}

static void edited_and_foreign_codes(void) {
    subject s;
    float base[D], out[D];
    if (!open_subject(&s, &test_recipes[0], MSAE_SIMD_AUTO)) return;
    msae_decode(&s.model, NULL, 0, NULL, base);
    for (size_t i = 0; i < D; i++) {
        CHECK(fabsf(base[i] - (s.model.pre_bias[i] / s.model.scale + s.model.mean[i])) <= 1e-5f);
    }
    msae_code codes[] = {{N, 5}, {UINT32_MAX, 5}, {3, -2}, {3, 0.5f}};
    msae_decode(&s.model, codes, COUNT(codes), NULL, out);
    for (size_t i = 0; i < D; i++) {
        CHECK(fabsf(out[i] - base[i] + 1.5f * s.model.decoder[3 * D + i] / s.model.scale) <= 1e-5f);
    }
    close_subject(&s);
}

static void levels_that_do_not_exist(void) {
    static const size_t wrong[][2] = {{0, 1}, {1, N + 1}, {2, 1}, {2, 2}};
    subject s;
    float *recon = test_floats(2 * ROWS * D);
    if (!open_subject(&s, &test_recipes[0], MSAE_SIMD_AUTO)) return;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        test_note("%zu, %zu", wrong[i][0], wrong[i][1]);
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     msae_forward(&s.model, s.workspace, s.x, ROWS, wrong[i], 2, recon, NULL));
    }
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_forward(&s.model, s.workspace, s.x, ROWS, wrong[0], 0, recon, NULL));
    close_subject(&s);
    free(recon);
}

/* More codes than are gathered at once, in any order and with repeats, are their sum. */
static void many_codes(void) {
    enum { MANY = 700 };
    msae_code codes[MANY];
    double want[D];
    float out[D];
    subject s;
    if (!open_subject(&s, &test_recipes[0], MSAE_SIMD_AUTO)) return;
    for (size_t i = 0; i < D; i++) want[i] = (double)s.model.pre_bias[i];
    for (size_t e = 0; e < MANY; e++) {
        codes[e].latent = (uint32_t)(e * 7 % (N + 1)); /* N is none */
        codes[e].value = (float)(e % 11) * 0.1f;
        for (size_t i = 0; i < D && codes[e].latent < N; i++) {
            want[i] += (double)codes[e].value * (double)s.model.decoder[codes[e].latent * D + i];
        }
    }
    msae_decode(&s.model, codes, MANY, NULL, out);
    for (size_t i = 0; i < D; i++) {
        const double raw = want[i] / (double)s.model.scale + (double)s.model.mean[i];
        CHECK(fabs((double)out[i] - raw) <= 1e-4);
    }
    close_subject(&s);
}

/* One input, one latent, one row. */
static void smallest_sizes(void) {
    static const size_t sizes[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 17}};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            for (size_t i = 0; i < COUNT(sizes); i++) {
                size_t d = sizes[i][0], n = sizes[i][1], k = n;
                float x[3] = {0.5f, -0.25f, 0.75f}, recon[3], decoded[3], moments[2];
                msae_train_desc desc = test_desc(recipe, d, n);
                msae_model model;
                msae_code codes[17];
                test_note("%s, d %zu, n %zu, %s", recipe->name, d, n,
                          msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                desc.model.host.simd = simd;
                if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) continue;
                void *workspace = test_alloc(msae_workspace_bytes(&model, 1));
                size_t count = test_encode(&model, workspace, x, n, codes);
                CHECK(count <= n);
                msae_row_moments(&model, x, moments);
                msae_decode(&model, codes, count, moments, decoded);
                CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, 1, &k, 1, recon, NULL));
                CHECK(test_error(decoded, recon, d) <= 2e-6);
                for (size_t j = 0; j < d; j++) CHECK(test_magnitude(recon[j]) < TEST_INFINITY);
                free(workspace);
                msae_model_free(&model);
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Memory
   ------------------------------------------------------------------------------------------ */

static void inference_allocates_nothing(void) {
    static const size_t ks[] = {2, N};
    test_heap heap = {0, 0, 0, 0, 0};
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    msae_model model;
    float *x = test_random_floats(1, ROWS * D, 1), *recon = test_floats(2 * ROWS * D);
    float *z = test_floats(ROWS * N);
    msae_code *codes = (msae_code *)test_alloc(ROWS * N * sizeof *codes);
    size_t counts[ROWS];
    desc.model.host.allocator = test_heap_allocator(&heap);
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) return;
    size_t before = heap.allocations;
    CHECK(before > 0 && heap.bytes > 0);
    void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
    CHECK(test_encode_own(&model, workspace, x, codes) > 0);
    msae_decode(&model, codes, 3, NULL, recon);
    CHECK_STATUS(MSAE_OK, msae_encode_rows(&model, workspace, x, ROWS, N,
                                           &(msae_rows){codes, counts, N}, NULL));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&model, workspace, x, ROWS, N, z, NULL));
    CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, ROWS, ks, 2, recon, NULL));
    CHECK(heap.allocations == before);
    msae_model_free(&model);
    CHECK(heap.bytes == 0);
    free(workspace);
    free(codes);
    free(recon);
    free(z);
    free(x);
}

static void model_in_the_callers_memory(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, D, N);
        msae_model model, other;
        size_t bytes;
        test_note("%s", recipe->name);
        CHECK_STATUS(MSAE_OK, msae_model_init_in(&model, &desc.model, NULL, &bytes, NULL));
        test_fence memory = test_fence_open(bytes, 1);
        size_t less = bytes - 1;
        CHECK(msae_model_init_in(&model, &desc.model, memory.memory, &less, NULL) != MSAE_OK);
        desc.model.nesting_start = N + 1;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     msae_model_init_in(&model, &desc.model, memory.memory, &bytes, NULL));
        CHECK(model.encoder == NULL && model.n_latents == 0);
        desc.model.nesting_start = 0;
        if (CHECK_STATUS(MSAE_OK,
                         msae_model_init_in(&model, &desc.model, memory.memory, &bytes, NULL)) &&
            CHECK_STATUS(MSAE_OK, msae_model_init(&other, &desc.model, NULL))) {
            CHECK(test_same(model.encoder, other.encoder, N * D));
            test_randomize(&model, 1); /* writes to the last byte of every array */
            msae_model_free(&model);
            msae_model_free(&other);
        }
        test_fence_close(&memory);
    }
}

/* An allocator without a free, as an arena has it: nothing is given back, to nobody. */
static void memory_that_is_never_freed(void) {
    test_heap heap = {0, 0, 0, 0, 0};
    msae_model_desc desc = test_desc(&test_recipes[0], D, N).model;
    msae_model model;
    desc.host.allocator = test_heap_allocator(&heap);
    desc.host.allocator.free = NULL;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL))) return;
    void *memory = model.memory;
    const size_t bytes = heap.bytes;
    CHECK(heap.allocations == 1 && bytes > 0);
    msae_model_free(&model);
    CHECK(heap.bytes == bytes && model.memory == NULL);
    free(memory);
}

static void workspace_is_as_large_as_it_says(void) {
    static const size_t rows[] = {1, 2, 3, 4, 5, 63, 64, 65, ROWS};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            subject s;
            if (!open_subject(&s, recipe, simd)) continue;
            float *z = test_floats(ROWS * N), *recon = test_floats(2 * ROWS * D);
            msae_code *codes = (msae_code *)test_alloc(ROWS * N * sizeof *codes);
            size_t counts[ROWS], ks[2] = {3, N};
            for (size_t i = 0; i < COUNT(rows); i++) {
                test_fence f = test_fence_open(msae_workspace_bytes(&s.model, rows[i]), 1);
                CHECK(test_encode_own(&s.model, f.memory, s.x, codes) > 0);
                CHECK_STATUS(MSAE_OK, msae_encode_rows(&s.model, f.memory, s.x, rows[i], 0,
                                                       &(msae_rows){codes, counts, N}, NULL));
                CHECK_STATUS(MSAE_OK,
                             msae_encode_dense(&s.model, f.memory, s.x, rows[i], N, z, NULL));
                CHECK_STATUS(MSAE_OK,
                             msae_forward(&s.model, f.memory, s.x, rows[i], ks, 2, recon, NULL));
                test_fence_close(&f);
            }
            free(z);
            free(recon);
            free(codes);
            close_subject(&s);
        }
    }
}

static void workspace_stops_growing(void) {
    subject s;
    if (!open_subject(&s, &test_recipes[0], MSAE_SIMD_AUTO)) return;
    size_t previous = 0, limit = msae_workspace_bytes(&s.model, SIZE_MAX);
    for (size_t rows = 1; rows < 1000000; rows *= 3) {
        size_t bytes = msae_workspace_bytes(&s.model, rows);
        CHECK(bytes >= previous && bytes <= limit);
        previous = bytes;
    }
    CHECK(previous == limit);
    close_subject(&s);
}

static void freed_models_are_zero(void) {
    msae_model model, zero;
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    memset(&zero, 0, sizeof zero);
    memset(&model, 0, sizeof model);
    msae_model_free(&model);
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL));
    msae_model_free(&model);
    CHECK(memcmp(&model, &zero, sizeof model) == 0);
    msae_model_free(&model);
}

/* ---------------------------------------------------------------------------------------------
   Descriptors
   ------------------------------------------------------------------------------------------ */

static msae_model_desc plain(size_t d, size_t n) {
    msae_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = d;
    desc.n_latents = n;
    return desc;
}

static void check_nesting(msae_recipe recipe, size_t n, size_t start, const size_t *want,
                          size_t count) {
    msae_model_desc desc = plain(8, n), resolved;
    size_t levels[MSAE_MAX_LEVELS];
    float weights[MSAE_MAX_LEVELS];
    desc.recipe = recipe;
    desc.nesting_start = start;
    test_note("%s, n %zu, start %zu", msae_enum_name(MSAE_ENUM_RECIPE, (int)recipe), n, start);
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, weights, NULL));
    CHECK(resolved.n_levels == count && memcmp(levels, want, count * sizeof *want) == 0);
    for (size_t i = 0; i < count; i++) {
        const float first = i == 0 ? 2.25f : i == 1 ? 1.75f : 1;
        const float balanced = i + 1 == count ? 3.0f : first;
        CHECK(weights[i] == (recipe == MSAE_RECIPE_MSAE ? balanced : 1));
    }
}

/* That of a nested model has nothing to do with its levels, and may be set. */
static void own_k_of_nested_models(void) {
    enum { INPUTS = 3, LATENTS = 100 };
    for (int recipe = MSAE_RECIPE_DEFAULT; recipe < MSAE_RECIPE_COUNT; recipe++) {
        msae_model_desc desc = plain(INPUTS, LATENTS);
        msae_model model;
        msae_code codes[LATENTS];
        const float x[INPUTS] = {1, 2, 3};
        desc.recipe = (msae_recipe)recipe;
        if (!msae__is_nested(desc.recipe) && recipe != MSAE_RECIPE_DEFAULT) continue;
        desc.activation = MSAE_ACTIVATION_ABS; /* all are active */
        test_note("%s", msae_enum_name(MSAE_ENUM_RECIPE, (int)desc.recipe));
        CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
        void *workspace = test_alloc(msae_workspace_bytes(&model, 1));
        CHECK(model.k == 64);
        CHECK(test_encode_own(&model, workspace, x, codes) == 64);
        CHECK(test_encode(&model, workspace, x, LATENTS, codes) == LATENTS);
        model.k = 3;
        CHECK(test_encode_own(&model, workspace, x, codes) == 3);
        free(workspace);
        msae_model_free(&model);
        desc.k = 70;
        CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
        CHECK(model.k == 70 && model.nesting[0] != 70);
        msae_model_free(&model);
    }
}

/* A program may set model.k to anything: what is saved can be read, with that k. */
static void models_that_no_file_can_hold(void) {
    enum { INPUTS = 3, LATENTS = 9 };
    static const size_t ks[] = {0, 1, LATENTS, LATENTS + 1, SIZE_MAX};
    static unsigned char buffer[1 << 15];
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, INPUTS, LATENTS);
        msae_trainer trainer;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        msae_model *model = &trainer.model;
        const size_t own = model->k;
        for (size_t i = 0; i <= COUNT(ks); i++) {
            const size_t k = i < COUNT(ks) ? ks[i] : own;
            const int holds = own == 0 ? k == 0 : k >= 1 && k <= LATENTS;
            const msae_status wanted = holds ? MSAE_OK : MSAE_ERROR_ARGUMENT;
            size_t bytes = 0;
            msae_error error;
            msae_model loaded;
            test_note("%s, k = %zu", recipe->name, k);
            model->k = k;
            msae_writer writer = msae_to_memory(buffer, sizeof buffer);
            CHECK_STATUS(wanted, msae_save(model, &writer, &error));
            writer = msae_to_memory(NULL, 0);
            CHECK_STATUS(wanted, msae_trainer_save(&trainer, &writer, NULL));
            CHECK(holds == (writer.bytes > 0));
            writer = msae_to_memory(buffer, sizeof buffer);
            CHECK_STATUS(wanted, msae_trainer_save(&trainer, &writer, NULL));
            writer = msae_to_memory(NULL, 0);
            CHECK_STATUS(wanted, msae_save(model, &writer, NULL));
            bytes = writer.bytes;
            CHECK(holds == (bytes > 0));
            if (!holds) {
                CHECK(error.code == MSAE_ERROR_ARGUMENT);
                continue;
            }
            writer = msae_to_memory(buffer, bytes);
            CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
            if (!CHECK_STATUS(MSAE_OK,
                              msae_load(&loaded, msae_from_memory(buffer, bytes), NULL, &error))) {
                continue;
            }
            CHECK(loaded.k == k);
            msae_model_free(&loaded);
        }
        model->k = own;
        msae_trainer_free(&trainer);
    }
}

static void nesting_list_from_its_start(void) {
    static const size_t usual[] = {64, 128, 256, 512, 1024, 2048, 4096, 6144};
    static const size_t exact[] = {64, 128, 256}, lone[] = {64}, small[] = {40};
    static const size_t odd[] = {3, 6, 12, 20}, one[] = {1, 2, 4, 5}, least[] = {1};
    static const size_t early[] = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 6144};
    static const size_t early_odd[] = {16, 20}, sixteen[] = {16}, fifteen[] = {15};
    static const size_t widths[] = {192, 384, 768, 1536, 3072, 6144};
    static const size_t wide_odd[] = {1, 2, 4, 8, 16, 32, 33};
    static const msae_recipe all[] = {MSAE_RECIPE_MSAE_UW, MSAE_RECIPE_MSAE,
                                      MSAE_RECIPE_MSAE_WIDTH};
    const msae_recipe uniform = MSAE_RECIPE_MSAE_UW, ours = MSAE_RECIPE_MSAE;
    check_nesting(uniform, 6144, 0, usual, COUNT(usual));
    check_nesting(uniform, 64, 0, lone, COUNT(lone));
    check_nesting(uniform, 40, 0, small, COUNT(small));
    check_nesting(ours, 6144, 0, early, COUNT(early));
    check_nesting(ours, 20, 0, early_odd, COUNT(early_odd));
    check_nesting(ours, 16, 0, sixteen, 1);
    check_nesting(ours, 15, 0, fifteen, 1);
    check_nesting(MSAE_RECIPE_MSAE_WIDTH, 6144, 0, widths, COUNT(widths));
    check_nesting(MSAE_RECIPE_MSAE_WIDTH, 33, 0, wide_odd, COUNT(wide_odd));
    for (size_t i = 0; i < COUNT(all); i++) {
        check_nesting(all[i], 256, 64, exact, COUNT(exact));
        check_nesting(all[i], 20, 3, odd, COUNT(odd));
        check_nesting(all[i], 5, 1, one, COUNT(one));
        check_nesting(all[i], 1, 0, least, 1);
    }
}

static void defaults_of_a_model(void) {
    msae_model_desc desc = plain(8, 1000), resolved;
    size_t levels[MSAE_MAX_LEVELS];
    float weights[MSAE_MAX_LEVELS];
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, weights, NULL));
    CHECK(resolved.recipe == MSAE_RECIPE_MSAE && resolved.activation == MSAE_ACTIVATION_RELU);
    CHECK(levels[0] == 16 && resolved.n_levels == 7 && levels[6] == 1000);
    desc.nesting = levels; /* no list without a length */
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, NULL, NULL, NULL));
    CHECK(resolved.n_levels == 7);
    desc.nesting = NULL;

    desc.recipe = MSAE_RECIPE_MSAE_UW;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, weights, NULL));
    CHECK(levels[0] == 64 && resolved.n_levels == 5 && levels[4] == 1000);

    desc.recipe = MSAE_RECIPE_MSAE_RW;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, weights, NULL));
    for (size_t i = 0; i < 5; i++) CHECK(weights[i] == (float)(5 - i));

    desc.recipe = MSAE_RECIPE_TOPK;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, NULL, NULL));
    CHECK(resolved.k == 64 && resolved.n_levels == 1 && levels[0] == 64);

    desc.recipe = MSAE_RECIPE_BATCHTOPK;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, NULL, NULL, NULL));
    CHECK(resolved.k == 32);
    desc.recipe = MSAE_RECIPE_MSAE_WIDTH;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, levels, NULL, NULL));
    CHECK(resolved.k == 32 && resolved.n_levels == 7 && levels[0] == 31 && levels[6] == 1000);
    desc.n_latents = 10;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, NULL, NULL, NULL));
    CHECK(resolved.k == 10);
    desc.recipe = MSAE_RECIPE_BATCHTOPK;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, NULL, NULL, NULL));
    CHECK(resolved.k == 10);

    desc.recipe = MSAE_RECIPE_JUMPRELU;
    CHECK_STATUS(MSAE_OK, msae__resolve_model(&desc, &resolved, NULL, NULL, NULL));
    CHECK(resolved.threshold == (float)0.001f);
    msae_model model;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL))) return;
    for (size_t j = 0; j < 10; j++) CHECK(fabsf(model.log_threshold[j] - logf(0.001f)) < 1e-5f);
    msae_model_free(&model);
}

static void initial_weights(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, D, N);
        msae_model model, again, other;
        test_note("%s", recipe->name);
        CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL));
        CHECK_STATUS(MSAE_OK, msae_model_init(&again, &desc.model, NULL));
        desc.model.seed++;
        CHECK_STATUS(MSAE_OK, msae_model_init(&other, &desc.model, NULL));
        for (size_t j = 0; j < N; j++) {
            CHECK(fabs(test_norm(model.decoder + j * D, D) - 0.1) < 1e-6);
        }
        CHECK(test_same(model.encoder, model.decoder, N * D));
        CHECK((model.encoder == model.decoder) == recipe->tied);
        CHECK(test_same(model.encoder, again.encoder, N * D));
        CHECK(!test_same(model.encoder, other.encoder, N * D));
        CHECK(test_norm(model.pre_bias, D) == 0 && test_norm(model.latent_bias, N) == 0);
        CHECK(test_norm(model.mean, D) == 0 && model.scale == 1);
        CHECK(!model.log_threshold == (recipe->recipe != MSAE_RECIPE_JUMPRELU));
        msae_model_free(&model);
        msae_model_free(&again);
        msae_model_free(&other);
    }
}

static void expect_bad_desc(const char *what, const msae_model_desc *desc) {
    msae_model model;
    msae_error error;
    size_t bytes;
    test_note("%s", what);
    memset(&error, 0, sizeof error);
    memset(&model, 0xff, sizeof model);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_model_init(&model, desc, &error));
    CHECK(error.code == MSAE_ERROR_ARGUMENT && error.message[0] && !strchr(error.message, '\n'));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_model_init_in(&model, desc, NULL, &bytes, NULL));
    msae_model_free(&model);
}

static void descriptors_that_make_no_sense(void) {
    static const float weights[4] = {1, 0.5f, 0, 2}, negative[4] = {1, -1, 1, 1};
    static const float zeros[4] = {0, 0, 0, 0}, too_large[4] = {3e38f, 3e38f, 1, 1};
    const float not_a_number[4] = {1, NAN, 1, 1}, infinite[4] = {1, INFINITY, 1, 1};
    static const size_t list[4] = {2, 4, 8, 16}, beyond[4] = {2, 4, 8, 21};
    static const size_t falling[4] = {2, 8, 4, 16}, equal[4] = {2, 4, 4, 16};
    static const size_t from_zero[4] = {0, 4, 8, 16}, short_of_all[2] = {5, 19};
    msae_model model;
    const msae_model_desc good = plain(8, 20);
    msae_model_desc desc = good;
    desc.nesting = list;
    desc.n_levels = 4;
    desc.level_weights = weights;
    desc.n_level_weights = 4;
    const msae_model_desc nested = desc;
    if (CHECK_STATUS(MSAE_OK, msae_model_init(&model, &nested, NULL))) {
        CHECK(test_same(model.level_weights, weights, 4));
        msae_model_free(&model);
    }

#define BAD(from, change)                \
    do {                                 \
        desc = from;                     \
        change;                          \
        expect_bad_desc(#change, &desc); \
    } while (0)

    BAD(good, desc.n_inputs = 0);
    BAD(good, desc.n_latents = 0);
    BAD(good, desc.n_latents = (size_t)UINT32_MAX + 1);
    BAD(good, desc.recipe = MSAE_RECIPE_COUNT);
    BAD(good, desc.activation = (msae_activation)(MSAE_ACTIVATION_ABS + 1));
    BAD(good, desc.nesting_start = 21);
    BAD(good, desc.soft_cap = -1);
    BAD(good, desc.soft_cap = NAN);
    BAD(good, desc.soft_cap = INFINITY);
    BAD(good, desc.threshold = NAN);
    BAD(good, desc.threshold = INFINITY);
    BAD(good, desc.host.parallel.workers = MSAE_MAX_WORKERS + 1);
    BAD(good, desc.level_weights = weights);
    BAD(nested, desc.nesting = beyond);
    BAD(nested, desc.nesting = falling);
    BAD(nested, desc.nesting = equal);
    BAD(nested, desc.nesting = from_zero);
    BAD(nested, desc.n_levels = MSAE_MAX_LEVELS + 1);
    BAD(nested, desc.n_level_weights = 3);
    BAD(nested, desc.n_level_weights = 5);
    BAD(nested, desc.level_weights = negative);
    BAD(nested, desc.level_weights = zeros);
    BAD(nested, desc.level_weights = not_a_number);
    BAD(nested, desc.level_weights = infinite);
    BAD(nested, desc.level_weights = too_large);
    BAD(good, (desc.recipe = MSAE_RECIPE_TOPK, desc.k = 21));
    BAD(good, (desc.recipe = MSAE_RECIPE_BATCHTOPK, desc.k = 21));
    BAD(good, (desc.recipe = MSAE_RECIPE_MSAE_WIDTH, desc.k = 21));
    BAD(good, desc.k = 21);
    BAD(nested, desc.k = 21);
    BAD(good, (desc.recipe = MSAE_RECIPE_RELU, desc.k = 1));
    BAD(good, (desc.recipe = MSAE_RECIPE_JUMPRELU, desc.k = 1));
    BAD(good, (desc.recipe = MSAE_RECIPE_MSAE_WIDTH, desc.activation = MSAE_ACTIVATION_ABS));
    BAD(good,
        (desc.recipe = MSAE_RECIPE_MSAE_WIDTH, desc.nesting = short_of_all, desc.n_levels = 2));
    BAD(good, (desc.recipe = MSAE_RECIPE_MSAE_WIDTH, desc.nesting = equal, desc.n_levels = 4));
    BAD(good, (desc.recipe = MSAE_RECIPE_RELU, desc.activation = MSAE_ACTIVATION_ABS));
    BAD(good, (desc.recipe = MSAE_RECIPE_JUMPRELU, desc.threshold = -1));
#undef BAD
}

/* Products of sizes that no memory holds are errors, not small numbers. */
static void sizes_that_overflow(void) {
    static const size_t sizes[][2] = {
        {SIZE_MAX, 3},
        {SIZE_MAX / 2, 3},
        {SIZE_MAX / 4, 1},
        {SIZE_MAX >> 24, (size_t)1 << 31},
        {UINT32_MAX, UINT32_MAX - 1},
    };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        msae_model_desc desc = plain(sizes[i][0], sizes[i][1]);
        msae_model model;
        test_note("d %zu, n %zu", sizes[i][0], sizes[i][1]);
        CHECK(msae_model_init(&model, &desc, NULL) != MSAE_OK);
    }
}

/* The same of data: more columns than memory has bytes, though it has no rows. */
static void data_of_impossible_width(void) {
    static const size_t widths[] = {SIZE_MAX / 4, SIZE_MAX / 8, SIZE_MAX};
    float mean = 0, scale = 0, median = 0;
    for (size_t i = 0; i < COUNT(widths); i++) {
        msae_data data = msae_data_view(&mean, 0, widths[i]);
        test_note("%zu columns", widths[i]);
        CHECK_STATUS(MSAE_ERROR_MEMORY,
                     test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, &mean, &scale, NULL));
        CHECK_STATUS(MSAE_ERROR_MEMORY,
                     test_geometric_median(&data, NULL, 1, 0, NULL, &median, NULL));
    }
}

/* A message that is too long for its place ends within it. */
static void texts_are_cut(void) {
    char place[8];
    msae__text text = msae__text_in(place, 6);
    memset(place + 6, 'x', 2);
    msae__put(&text, "abc");
    msae__put_number(&text, 12345);
    msae__put(&text, "d");
    CHECK(strcmp(place, "abc12") == 0 && place[6] == 'x');
}

static void every_status_and_name(void) {
    for (int status = 0; status <= MSAE_STATUS_COUNT; status++) {
        const char *text = msae_status_text((msae_status)status);
        CHECK(text && *text && !strchr(text, '\n'));
    }
    static const int counts[MSAE_ENUM_COUNT] = {
        MSAE_RECIPE_COUNT, MSAE_ACTIVATION_ABS + 1, MSAE_DTYPE_COUNT, MSAE_SIMD_COUNT,
        MSAE_LOSS_COUNT,   MSAE_SCHEDULE_COUNT,     MSAE_START_COUNT, MSAE_SCALING_COUNT};
    for (int kind = 0; kind < MSAE_ENUM_COUNT; kind++) {
        const msae_enum of = (msae_enum)kind;
        test_note("kind %d", kind);
        for (int value = 0; value < counts[kind]; value++) {
            const char *name = msae_enum_name(of, value);
            CHECK(*name && strcmp(name, "unknown") != 0);
            CHECK(msae_enum_value(of, name) == value);
        }
        CHECK(strcmp(msae_enum_name(of, counts[kind]), "unknown") == 0);
        CHECK(strcmp(msae_enum_name(of, counts[kind] + 1), "unknown") == 0);
        CHECK(strcmp(msae_enum_name(of, -1), "unknown") == 0);
        CHECK(msae_enum_value(of, "unknown") == -1);
        CHECK(msae_enum_value(of, "") == -1);
    }
    test_note("%s", "");
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_COUNT, 0), "unknown") == 0);
    CHECK(msae_enum_value(MSAE_ENUM_COUNT, "msae") == -1);
    CHECK(msae_enum_value(MSAE_ENUM_RECIPE, "msae") == MSAE_RECIPE_MSAE);
    CHECK(msae_enum_value(MSAE_ENUM_RECIPE, "msae-") == -1);
    CHECK(msae_enum_value(MSAE_ENUM_RECIPE, "default") == MSAE_RECIPE_DEFAULT);
    CHECK(msae_enum_value(MSAE_ENUM_ACTIVATION, "identity") == MSAE_ACTIVATION_IDENTITY);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SIMD, MSAE_SIMD_AVX2), "avx2") == 0);
    for (int dtype = 0; dtype < MSAE_DTYPE_COUNT; dtype++) {
        CHECK((msae_dtype_bytes((msae_dtype)dtype) > 0) == (dtype < MSAE_F6_E2M3));
    }
    CHECK(msae_dtype_bytes(MSAE_DTYPE_COUNT) == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_LOSS, MSAE_LOSS_COSINE), "cosine") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SCHEDULE, MSAE_SCHEDULE_CONSTANT), "constant") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SCHEDULE, MSAE_SCHEDULE_TRAPEZOID), "trapezoid") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SCHEDULE, MSAE_SCHEDULE_CAPPED), "capped") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SCHEDULE, MSAE_SCHEDULE_PUBLISHED), "published") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_START, MSAE_START_RANDOM), "random") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_START, MSAE_START_ROWS), "rows") == 0);
    CHECK(strcmp(msae_enum_name(MSAE_ENUM_SCALING, MSAE_SCALING_PAPER), "paper") == 0);
    CHECK(msae__simd_available(MSAE_SIMD_SCALAR));
    CHECK(!msae__simd_available(MSAE_SIMD_COUNT));
}

static void forced_paths(void) {
    for (int simd = MSAE_SIMD_AUTO; simd < MSAE_SIMD_COUNT; simd++) {
        msae_model_desc desc = plain(3, 4);
        msae_model model;
        desc.host.simd = (msae_simd)simd;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)desc.host.simd));
        msae_status status = msae_model_init(&model, &desc, NULL);
        if (simd == MSAE_SIMD_AUTO || msae__simd_available(desc.host.simd)) {
            CHECK_STATUS(MSAE_OK, status);
            CHECK(model.simd == desc.host.simd || simd == MSAE_SIMD_AUTO);
            CHECK(model.simd != MSAE_SIMD_AUTO);
            msae_model_free(&model);
        } else {
            CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, status);
        }
    }
}

int main(void) {
    RUN(encode_then_decode_is_forward);
    RUN(fewer_codes_are_a_prefix);
    RUN(rows_and_dense_codes_agree);
    RUN(own_k_of_the_model);
    RUN(own_k_of_nested_models);
    RUN(no_more_codes_than_room);
    RUN(raw_rows_in_and_out);
    RUN(inference_is_what_was_trained);
    RUN(nan_and_infinity_are_refused);
    RUN(edited_and_foreign_codes);
    RUN(levels_that_do_not_exist);
    RUN(many_codes);
    RUN(smallest_sizes);
    RUN(inference_allocates_nothing);
    RUN(model_in_the_callers_memory);
    RUN(memory_that_is_never_freed);
    RUN(workspace_is_as_large_as_it_says);
    RUN(workspace_stops_growing);
    RUN(freed_models_are_zero);
    RUN(models_that_no_file_can_hold);
    RUN(nesting_list_from_its_start);
    RUN(defaults_of_a_model);
    RUN(initial_weights);
    RUN(descriptors_that_make_no_sense);
    RUN(sizes_that_overflow);
    RUN(data_of_impossible_width);
    RUN(texts_are_cut);
    RUN(every_status_and_name);
    RUN(forced_paths);
    return test_finish();
}
