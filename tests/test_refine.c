/* Refined codes: values against the exact least squares, exchanges, every type of weights and path,
   and what is refused. */
#include "test.h"

enum { D = 37, N = 90, ROWS = 70, K = 9 };

static const msae_dtype kinds[] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};

typedef struct refining {
    msae_model model;
    float *x;
    msae_code *codes;
    size_t *counts;
    void *workspace;
    size_t bytes;
} refining;

/* A model with random weights of that kind, rows and what its calls work in. */
static int begin(refining *r, const test_recipe *recipe, msae_dtype kind, msae_simd simd) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_load_desc load;
    msae_model whole;
    memset(&load, 0, sizeof load);
    desc.model.host.simd = load.host.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&whole, &desc.model, NULL))) return 0;
    test_randomize(&whole, 5);
    whole.scale = 1.25f;
    if (test_is_batch_topk(recipe->recipe)) whole.threshold = 0.2f;
    r->model = whole;
    if (kind != MSAE_F32) {
        if (!CHECK_STATUS(MSAE_OK, msae_compact(&whole, kind, &load, &r->model, NULL))) return 0;
        msae_model_free(&whole);
    }
    r->x = test_random_floats(3, ROWS * D, 1.5f);
    r->codes = (msae_code *)test_alloc(ROWS * N * sizeof *r->codes);
    r->counts = (size_t *)test_alloc(ROWS * sizeof *r->counts);
    r->bytes = msae_refine_bytes(&r->model, ROWS);
    r->workspace = test_alloc(r->bytes);
    return 1;
}

static void end(refining *r) {
    msae_model_free(&r->model);
    free(r->x);
    free(r->codes);
    free(r->counts);
    free(r->workspace);
}

static msae_rows rows_of(const refining *r) {
    const msae_rows rows = {r->codes, r->counts, N};
    return rows;
}

static void encode(refining *r, size_t k) {
    const msae_rows rows = rows_of(r);
    CHECK(msae_workspace_bytes(&r->model, ROWS) <= r->bytes);
    CHECK_STATUS(MSAE_OK, msae_encode_rows(&r->model, r->workspace, r->x, ROWS, k, &rows, NULL));
}

static msae_status refine(refining *r, size_t exchanges, msae_error *error) {
    const msae_rows rows = rows_of(r);
    return msae_refine_rows(&r->model, r->workspace, r->x, ROWS, exchanges, &rows, error);
}

/* What row b, as the encoder sees it, is to be the sum of. */
static void target_of(const refining *r, size_t b, double target[D]) {
    const msae_model *model = &r->model;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < D; i++) {
        target[i] = ((double)r->x[b * D + i] - model->mean[i]) * model->scale;
        mean += target[i] / D;
    }
    for (size_t i = 0; i < D; i++) squares += (target[i] - mean) * (target[i] - mean);
    for (size_t i = 0; i < D; i++) {
        if (model->normalize) target[i] = (target[i] - mean) / (sqrt(squares / (D - 1)) + 1e-5);
        target[i] -= model->pre_bias[i];
    }
}

/* A decoder row as the model decodes with it. */
static void decoder_row(const refining *r, size_t j, double row[D]) {
    const msae_code one = {(uint32_t)j, 1};
    float with[D], without[D];
    msae_model plain = r->model;
    float zeros[D] = {0};
    plain.mean = zeros;
    plain.scale = 1;
    msae_decode(&plain, &one, 1, NULL, with);
    msae_decode(&plain, &one, 0, NULL, without);
    for (size_t i = 0; i < D; i++) row[i] = (double)with[i] - without[i];
}

static double squared(const double left[D]) {
    double sum = 0;
    for (size_t i = 0; i < D; i++) sum += left[i] * left[i];
    return sum;
}

/* The squared error of a row's codes; with `best`, the least that their latents can reach within
   the values' range, by passes in double until nothing changes. */
static double error_of(const refining *r, size_t b, const msae_code *codes, size_t count,
                       int best) {
    const msae_model *model = &r->model;
    const double most = model->soft_cap > 0 ? (double)model->soft_cap : 1e30;
    const double least = model->activation == MSAE_ACTIVATION_IDENTITY ? -most : 0;
    double left[D], rows[N][D], values[N], before;
    target_of(r, b, left);
    for (size_t e = 0; e < count; e++) {
        decoder_row(r, codes[e].latent, rows[e]);
        values[e] = (double)codes[e].value;
        for (size_t i = 0; i < D; i++) left[i] -= values[e] * rows[e][i];
    }
    if (!best) return squared(left);
    for (size_t pass = 0; pass < 100000; pass++) {
        before = squared(left);
        for (size_t e = 0; e < count; e++) {
            double slope = 0, value;
            for (size_t i = 0; i < D; i++) slope += left[i] * rows[e][i];
            value = values[e] + slope / squared(rows[e]);
            value = value < least ? least : value > most ? most : value;
            for (size_t i = 0; i < D; i++) left[i] -= (value - values[e]) * rows[e][i];
            values[e] = value;
        }
        if (before - squared(left) <= 1e-12 * before) break;
    }
    return squared(left);
}

/* Strongest first, no value of 0, none out of its range, no latent twice. */
static void check_codes(const refining *r, size_t b, size_t k) {
    const msae_model *model = &r->model;
    const msae_code *codes = r->codes + b * N;
    CHECK(r->counts[b] <= k);
    for (size_t e = 0; e < r->counts[b]; e++) {
        const float value = codes[e].value;
        CHECK(e == 0 || value <= codes[e - 1].value);
        CHECK(value > 0 || (value < 0 && model->activation == MSAE_ACTIVATION_IDENTITY));
        CHECK(!(model->soft_cap > 0) || fabsf(value) <= model->soft_cap);
        for (size_t f = 0; f < e; f++) CHECK(codes[f].latent != codes[e].latent);
    }
}

/* Of every row: at most its number of codes, values at their optimum, no larger error. */
static void refine_and_check(refining *r, size_t k, size_t exchanges) {
    msae_code *as_encoded = (msae_code *)test_alloc(ROWS * N * sizeof *as_encoded);
    size_t counts[ROWS];
    encode(r, k);
    memcpy(as_encoded, r->codes, ROWS * N * sizeof *as_encoded);
    memcpy(counts, r->counts, sizeof counts);
    CHECK_STATUS(MSAE_OK, refine(r, exchanges, NULL));
    for (size_t b = 0; b < ROWS; b += 3) {
        const double before = error_of(r, b, as_encoded + b * N, counts[b], 0);
        const double now = error_of(r, b, r->codes + b * N, r->counts[b], 0);
        const double best = exchanges > 0 ? error_of(r, b, r->codes + b * N, r->counts[b], 1)
                                          : error_of(r, b, as_encoded + b * N, counts[b], 1);
        double target[D];
        test_note("row %zu, k %zu, %zu exchanges, %d, weights %d: %g, then %g, best %g", b, k,
                  exchanges, (int)r->model.simd, (int)r->model.weights, before, now, best);
        target_of(r, b, target);
        CHECK(now <= before * (1 + 1e-5));
        /* (more latents than inputs leave next to nothing, to which no share can be compared) */
        CHECK(now <= best * (1 + 1e-3) + (k > D ? 1e-2 : 1e-6) * squared(target));
        check_codes(r, b, counts[b]);
    }
    free(as_encoded);
}

static void values_are_least_squares(void) {
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            refining r;
            if (!begin(&r, recipe, MSAE_F32, simd)) return;
            refine_and_check(&r, K, 0);
            refine_and_check(&r, 0, 0);
            end(&r);
        }
    }
}

static void exchanges_keep_their_promises(void) {
    FOR_EACH_RECIPE(recipe) {
        refining r;
        if (!begin(&r, recipe, MSAE_F32, MSAE_SIMD_AUTO)) return;
        refine_and_check(&r, 1, 1);
        refine_and_check(&r, K, 1);
        refine_and_check(&r, K, 3);
        refine_and_check(&r, N, 1);
        end(&r);
    }
}

static void quantised_weights_too(void) {
    FOR_EACH_PATH(simd) {
        for (size_t i = 1; i < COUNT(kinds); i++) {
            refining r;
            if (!begin(&r, &test_recipes[0], kinds[i], simd)) return;
            refine_and_check(&r, K, 0);
            refine_and_check(&r, K, 2);
            end(&r);
        }
    }
}

static double total_error(const refining *r) {
    double sum = 0;
    for (size_t b = 0; b < ROWS; b++) {
        sum += error_of(r, b, r->codes + b * N, r->counts[b], 0);
    }
    return sum;
}

/* Each of the two steps lowers the error of random rows by far more than its neighbour's noise. */
static void better_latents_miss_less(void) {
    double encoded, fitted, exchanged;
    refining r;
    if (!begin(&r, &test_recipes[0], MSAE_F32, MSAE_SIMD_AUTO)) return;
    encode(&r, K);
    encoded = total_error(&r);
    CHECK_STATUS(MSAE_OK, refine(&r, 0, NULL));
    fitted = total_error(&r);
    CHECK_STATUS(MSAE_OK, refine(&r, 1, NULL));
    exchanged = total_error(&r);
    test_note("%g, %g, %g", encoded, fitted, exchanged);
    CHECK(fitted < 0.9 * encoded);
    CHECK(exchanged < 0.9 * fitted);
    end(&r);
}

/* Rows that are sums of a few decoder rows are found out, whatever the encoder makes of them. */
static void sums_of_decoder_rows_are_found(void) {
    refining r;
    double error = 0, all = 0;
    if (!begin(&r, &test_recipes[0], MSAE_F32, MSAE_SIMD_AUTO)) return;
    for (size_t b = 0; b < ROWS; b++) {
        const msae_code sum[3] = {{(uint32_t)(b % N), 2},
                                  {(uint32_t)((b + 17) % N), 1.5f},
                                  {(uint32_t)((b + 40) % N), 1}};
        msae_decode(&r.model, sum, 3, NULL, r.x + b * D);
    }
    encode(&r, 6);
    CHECK_STATUS(MSAE_OK, refine(&r, 20, NULL));
    for (size_t b = 0; b < ROWS; b++) {
        double target[D];
        target_of(&r, b, target);
        all += squared(target);
    }
    error = total_error(&r);
    test_note("%g of %g", error, all);
    CHECK(error < 0.02 * all);
    end(&r);
}

/* The workspace is not exceeded, wherever it lies, and one row is done as well as many. */
static void workspace_is_kept(void) {
    for (size_t i = 0; i < COUNT(kinds); i++) {
        refining r;
        if (!begin(&r, &test_recipes[0], kinds[i], MSAE_SIMD_AUTO)) return;
        for (size_t count = 1; count <= ROWS; count += ROWS - 1) {
            test_fence fence = test_fence_open(msae_refine_bytes(&r.model, count), 4);
            const msae_rows rows = rows_of(&r);
            encode(&r, K);
            CHECK_STATUS(MSAE_OK,
                         msae_refine_rows(&r.model, fence.memory, r.x, count, 2, &rows, NULL));
            test_fence_close(&fence);
        }
        CHECK_STATUS(MSAE_OK, msae_refine_rows(&r.model, r.workspace, r.x, 0, 2,
                                               &(msae_rows){r.codes, r.counts, N}, NULL));
        end(&r);
    }
}

/* With model.refine all that encodes rows gives what msae_refine_rows does. */
static void a_model_refines_by_itself(void) {
    const size_t ks[3] = {3, K, N};
    FOR_EACH_RECIPE(recipe) {
        msae_metrics encoded[3], refined[3];
        msae_eval_desc desc;
        msae_code *want = (msae_code *)test_alloc(ROWS * N * sizeof *want);
        float *recon = test_floats(3 * ROWS * D), *z = test_floats(ROWS * N), row[D];
        size_t counts[ROWS], count = 0;
        refining r;
        if (!begin(&r, recipe, MSAE_F32, MSAE_SIMD_AUTO)) return;
        const msae_data data = msae_data_view(r.x, ROWS, D);
        encode(&r, K);
        CHECK_STATUS(MSAE_OK, refine(&r, 1, NULL));
        memcpy(want, r.codes, ROWS * N * sizeof *want);
        memcpy(counts, r.counts, sizeof counts);
        memset(&desc, 0, sizeof desc);
        desc.ks = ks;
        desc.n_ks = 3;
        CHECK_STATUS(MSAE_OK, msae_evaluate(&r.model, &data, &desc, 3, encoded, NULL, NULL));
        r.model.refine = 2;
        free(r.workspace);
        r.bytes = msae_workspace_bytes(&r.model, ROWS);
        test_fence fence = test_fence_open(r.bytes, 12);
        r.workspace = fence.memory;
        memset(r.codes, 0, ROWS * N * sizeof *r.codes);
        encode(&r, K);
        CHECK_STATUS(MSAE_OK, msae_encode_dense(&r.model, r.workspace, r.x, ROWS, K, z, NULL));
        CHECK_STATUS(MSAE_OK, msae_forward(&r.model, r.workspace, r.x, ROWS, ks, 3, recon, NULL));
        for (size_t b = 0; b < ROWS; b++) {
            float moments[2];
            test_note("%s, row %zu", recipe->name, b);
            CHECK(r.counts[b] == counts[b]);
            CHECK(memcmp(r.codes + b * N, want + b * N, counts[b] * sizeof *want) == 0);
            msae_row_moments(&r.model, r.x + b * D, moments);
            msae_decode(&r.model, want + b * N, counts[b], moments, row);
            CHECK(test_error(row, recon + (ROWS + b) * D, D) < 1e-5);
            for (size_t e = 0; e < counts[b]; e++) {
                CHECK(z[b * N + want[b * N + e].latent] == want[b * N + e].value);
            }
        }
        CHECK_STATUS(MSAE_OK, msae_evaluate(&r.model, &data, &desc, 3, refined, &count, NULL));
        CHECK(count == 3);
        for (size_t i = 0; i < 3; i++) CHECK(refined[i].fvu_set <= encoded[i].fvu_set);
        r.model.refine = MSAE_MAX_EXCHANGES + 2;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     msae_encode_dense(&r.model, r.workspace, r.x, 1, K, z, NULL));
        test_fence_close(&fence);
        r.workspace = NULL;
        free(want);
        free(recon);
        free(z);
        end(&r);
    }
}

/* An index says how its rows were refined, also as a file. */
static void an_index_says_how_it_was_refined(void) {
    refining r;
    if (!begin(&r, &test_recipes[0], MSAE_F32, MSAE_SIMD_AUTO)) return;
    for (int of = 0; of <= 2; of += 2) {
        static unsigned char bytes[1 << 17];
        const msae_data data = msae_data_view(r.x, ROWS, D);
        msae_index index, loaded;
        msae_writer writer = msae_to_memory(bytes, sizeof bytes);
        r.model.refine = of;
        CHECK_STATUS(MSAE_OK, msae_index_build(&index, &r.model, &data, K, NULL));
        CHECK(index.refine == (size_t)of);
        CHECK_STATUS(MSAE_OK, msae_index_save(&index, &writer, NULL));
        CHECK_STATUS(MSAE_OK,
                     msae_index_load(&loaded, msae_from_memory(bytes, writer.bytes), NULL, NULL));
        CHECK(loaded.refine == (size_t)of && loaded.entries == index.entries);
        msae_index_free(&index);
        msae_index_free(&loaded);
    }
    end(&r);
}

/* A latent whose decoder row is zero, one that occurs twice, and a row without codes. */
static void odd_codes_do_no_harm(void) {
    refining r;
    if (!begin(&r, &test_recipes[0], MSAE_F32, MSAE_SIMD_AUTO)) return;
    memset(r.model.decoder + 7 * D, 0, D * sizeof(float));
    encode(&r, K);
    r.counts[1] = 0;
    r.counts[2] = 2;
    r.codes[2 * N].latent = r.codes[2 * N + 1].latent = 3;
    r.codes[3 * N].latent = 7;
    r.codes[4 * N].value = -5;
    CHECK_STATUS(MSAE_OK, refine(&r, 2, NULL));
    CHECK(r.counts[1] == 0 && r.counts[2] <= 2 && r.counts[3] <= K);
    for (size_t b = 0; b < ROWS; b++) {
        for (size_t e = 0; e < r.counts[b]; e++) CHECK(r.codes[b * N + e].value > 0);
    }
    end(&r);
}

/* What is wrong is said with its row, and nothing has changed. */
static void wrong_input_is_refused(void) {
    msae_code before[ROWS * N];
    msae_error error;
    refining r;
    if (!begin(&r, &test_recipes[0], MSAE_F32, MSAE_SIMD_AUTO)) return;
    memset(r.codes, 0, ROWS * N * sizeof *r.codes);
    encode(&r, K);
    memcpy(before, r.codes, sizeof before);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, refine(&r, MSAE_MAX_EXCHANGES + 1, &error));
    CHECK(strstr(error.message, "100 exchanges") != NULL);
    r.x[68 * D + 1] = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, refine(&r, 1, &error));
    CHECK(error.position == 68);
    r.x[68 * D + 1] = 1;
    r.codes[66 * N + 2].latent = N;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, refine(&r, 1, &error));
    CHECK(error.position == 66 && strstr(error.message, "row 66") != NULL);
    r.codes[66 * N + 2] = before[66 * N + 2];
    r.codes[65 * N].value = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, refine(&r, 1, &error));
    CHECK(error.position == 65);
    r.codes[65 * N] = before[65 * N];
    r.counts[64] = N + 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, refine(&r, 1, &error));
    r.counts[64] = K;
    const msae_rows narrow = {r.codes, r.counts, K - 1};
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_refine_rows(&r.model, r.workspace, r.x, 1, 1, &narrow, &error));
    CHECK(memcmp(before, r.codes, sizeof before) == 0);
    end(&r);
}

int main(void) {
    RUN(values_are_least_squares);
    RUN(exchanges_keep_their_promises);
    RUN(quantised_weights_too);
    RUN(better_latents_miss_less);
    RUN(sums_of_decoder_rows_are_found);
    RUN(workspace_is_kept);
    RUN(a_model_refines_by_itself);
    RUN(an_index_says_how_it_was_refined);
    RUN(odd_codes_do_no_harm);
    RUN(wrong_input_is_refused);
    return test_finish();
}
