/* Metrics and names against plain computations; the values themselves are in the golden vectors. */
#include "test.h"

/* More rows than two tiles have; where there is a bad one, it is in the last. */
enum { D = 9, N = 50, ROWS = 133, BAD_ROW = 131 };

static int open_model(msae_model *model, const test_recipe *recipe, msae_simd simd,
                      const float *x) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_data data = msae_data_view(x, ROWS, D);
    test_note("%s, %s", recipe->name, msae_simd_name(simd));
    desc.model.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL))) return 0;
    test_randomize(model, 3);
    CHECK_STATUS(MSAE_OK, msae_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, model->mean,
                                               &model->scale, NULL));
    return 1;
}

/* Embeddings away from the origin. */
static float *raw_rows(void) {
    float *x = test_random_floats(8, ROWS * D, 1);
    for (size_t i = 0; i < ROWS * D; i++) x[i] += 0.5f;
    return x;
}

static int near(double a, double b) {
    return (test_is_nan(a) && test_is_nan(b)) || fabs(a - b) <= 1e-6 * (1e-3 + fabs(b));
}

static void check_metrics(const msae_metrics *got, const msae_metrics *want) {
    CHECK(got->rows == want->rows && got->ndn == want->ndn);
    CHECK(near(got->fvu_row, want->fvu_row) && near(got->fvu_row_std, want->fvu_row_std));
    CHECK(near(got->fvu_set, want->fvu_set));
    CHECK(near(got->nmse, want->nmse) && near(got->nmse_std, want->nmse_std));
    CHECK(near(got->nmae, want->nmae) && near(got->nmae_std, want->nmae_std));
    CHECK(near(got->cs, want->cs) && near(got->cs_std, want->cs_std));
    CHECK(near(got->sparsity, want->sparsity));
    CHECK(near(got->l0, want->l0) && near(got->l0_std, want->l0_std));
}

/* The sweep is forward, dense codes and the metrics of arrays, at every k. */
static void sweep_is_its_parts(void) {
    float *x = raw_rows(), *recon = test_floats(ROWS * D), *z = test_floats(ROWS * N);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            msae_model model;
            msae_metrics results[MSAE_MAX_LEVELS], want;
            msae_eval_desc desc;
            size_t ks[MSAE_MAX_LEVELS], count = msae_default_ks(N, ks);
            double cknna;
            if (!open_model(&model, recipe, simd, x)) continue;
            memset(&desc, 0, sizeof desc);
            desc.cknna = 1;
            CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, results, NULL));
            void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
            for (size_t i = 0; i < count; i++) {
                CHECK_STATUS(MSAE_OK,
                             msae_forward(&model, workspace, x, ROWS, &ks[i], 1, recon, NULL));
                CHECK_STATUS(MSAE_OK,
                             msae_encode_dense(&model, workspace, x, ROWS, ks[i], z, NULL));
                CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, ROWS, D, N, NULL, &want, NULL));
                CHECK_STATUS(MSAE_OK, msae_cknna(&model, x, D, z, N, ROWS, &cknna, NULL));
                CHECK(results[i].k == ks[i] && results[i].rows == ROWS);
                check_metrics(&results[i], &want);
                CHECK(fabs(results[i].cknna - cknna) <= 1e-4);
            }
            free(workspace);
            msae_model_free(&model);
        }
    }
    free(x);
    free(recon);
    free(z);
}

static void sweep_of_chosen_ks_without_cknna(void) {
    static const size_t ks[] = {3, 7}, falling[] = {7, 3}, beyond[] = {3, N + 1}, zero[] = {0, 3};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_model model;
    msae_metrics results[2];
    msae_eval_desc desc;
    memset(&desc, 0, sizeof desc);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    desc.ks = ks;
    desc.n_ks = 2;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, results, NULL));
    CHECK(results[0].k == 3 && results[1].k == 7 && test_is_nan(results[0].cknna));
    CHECK(results[0].l0 == 3 && results[1].l0 == 7);
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_evaluate(&model, &narrow, &desc, results, NULL));
    desc.ks = falling;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_evaluate(&model, &data, &desc, results, NULL));
    desc.ks = beyond;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_evaluate(&model, &data, &desc, results, NULL));
    desc.ks = zero;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_evaluate(&model, &data, &desc, results, NULL));
    msae_data none = msae_data_view(x, 0, D), few = msae_data_view(x, 11, D);
    msae_error error;
    desc.ks = ks;
    desc.cknna = 1;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &few, &desc, results, NULL));
    CHECK(test_is_nan(results[0].cknna) && test_is_finite(results[0].fvu_row));
    desc.cknna = 0;
    const float scales[] = {0, -1, INFINITY, NAN};
    desc.mean = model.mean;
    for (size_t i = 0; i < COUNT(scales); i++) {
        desc.scale = scales[i];
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_evaluate(&model, &data, &desc, results, NULL));
    }
    desc.mean = NULL;
    CHECK(msae_evaluate(&model, &none, &desc, results, NULL) != MSAE_OK);
    x[BAD_ROW * D] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_evaluate(&model, &data, &desc, results, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
}

/* Without a descriptor: the default list of k, no CKNNA. */
static void sweep_by_default(void) {
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    msae_model model;
    msae_metrics results[MSAE_MAX_LEVELS], want[MSAE_MAX_LEVELS];
    msae_eval_desc desc;
    size_t ks[MSAE_MAX_LEVELS];
    memset(&desc, 0, sizeof desc);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    desc.ks = ks;
    desc.n_ks = msae_default_ks(N, ks);
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, NULL, results, NULL));
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, want, NULL));
    for (size_t i = 0; i < desc.n_ks; i++) {
        CHECK(results[i].k == ks[i] && test_is_nan(results[i].cknna));
        check_metrics(&results[i], &want[i]);
    }
    msae_model_free(&model);
    free(x);
}

/* A set with a mean and a scale of its own is judged as the same set moved onto the model's. */
static void another_mean_and_scale(void) {
    static const size_t k = 6;
    float *x = raw_rows(), *moved = test_floats(ROWS * D), mean[D], scale = 3;
    msae_model model;
    msae_metrics own, want;
    msae_eval_desc desc;
    memset(&desc, 0, sizeof desc);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    for (size_t i = 0; i < ROWS * D; i++) {
        mean[i % D] = (float)(i % D);
        moved[i] = (x[i] - model.mean[i % D]) * model.scale / scale + mean[i % D];
    }
    msae_data data = msae_data_view(x, ROWS, D), moved_data = msae_data_view(moved, ROWS, D);
    desc.ks = &k;
    desc.n_ks = 1;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, &want, NULL));
    desc.mean = mean;
    desc.scale = scale;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &moved_data, &desc, &own, NULL));
    CHECK(fabs(own.fvu_set - want.fvu_set) <= 1e-4 * want.fvu_set);
    CHECK(own.l0 == want.l0 && own.ndn == want.ndn);
    msae_model_free(&model);
    free(x);
    free(moved);
}

static void default_list_of_ks(void) {
    static const struct {
        size_t n, count, ks[8];
    } lists[] = {{100, 4, {16, 32, 64, 100}},
                 {64, 3, {16, 32, 64}},
                 {16, 1, {16}},
                 {5, 1, {5}},
                 {1, 1, {1}}};
    for (size_t i = 0; i < COUNT(lists); i++) {
        size_t ks[MSAE_MAX_LEVELS];
        test_note("n %zu", lists[i].n);
        CHECK(msae_default_ks(lists[i].n, NULL) == lists[i].count);
        CHECK(msae_default_ks(lists[i].n, ks) == lists[i].count);
        CHECK(memcmp(ks, lists[i].ks, lists[i].count * sizeof *ks) == 0);
    }
    CHECK(msae_default_ks(SIZE_MAX, NULL) == sizeof(size_t) * 8 - 4 + 1); /* 2^4 .. 2^63, n */
}

/* Row r is reconstructed r / 10 too long and has r active latents: means and deviations (n - 1) are
   those of 0, 1, 2, 3 and of their squares. */
static void means_and_deviations(void) {
    enum { FEW = 4, WIDTH = 3 };
    float x[FEW * WIDTH], recon[FEW * WIDTH], z[FEW * WIDTH] = {0};
    msae_metrics m;
    for (size_t i = 0; i < COUNT(x); i++) {
        size_t row = i / WIDTH, col = i % WIDTH;
        x[i] = (float)(i * i % 7) + 1;
        recon[i] = x[i] * (1 + (float)row / 10);
        if (col < row) z[i] = -0.5f;
    }
    CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, FEW, WIDTH, WIDTH, NULL, &m, NULL));
    const double squares = 0.035, squares_std = sqrt(0.00163333333333), line_std = sqrt(5.0 / 3);
    CHECK(near(m.nmse, squares) && near(m.nmse_std, squares_std));
    CHECK(near(m.fvu_row, squares) && near(m.fvu_row_std, squares_std));
    CHECK(near(m.nmae, 0.15) && near(m.nmae_std, line_std / 10));
    CHECK(near(m.l0, 1.5) && near(m.l0_std, line_std));
    CHECK(near(m.cs, 1) && near(m.cs_std, 0) && near(m.sparsity, 0.5) && m.ndn == 0);
}

/* What has no value is no number, and a row without variance does not count. */
static void metrics_without_a_value(void) {
    enum { FEW = 11 };
    float x[FEW * 2], recon[FEW * 2], z[FEW * 3] = {0};
    msae_metrics m;
    for (size_t i = 0; i < COUNT(x); i++) {
        x[i] = (float)(i % 5) + 1;
        recon[i] = x[i] * 1.5f;
    }
    CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, FEW * 2, 1, 1, NULL, &m, NULL));
    CHECK(test_is_nan(m.fvu_row) && test_is_nan(m.fvu_row_std));
    CHECK(fabs(m.nmse - 0.25) < 1e-9 && fabs(m.nmae - 0.5) < 1e-9 && fabs(m.cs - 1) < 1e-9);
    CHECK(m.sparsity == 1 && m.l0 == 0 && m.ndn == 1);

    x[6] = x[7];
    CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, FEW, 2, 3, NULL, &m, NULL));
    CHECK(test_magnitude(m.fvu_row) < TEST_INFINITY && m.ndn == 3 && m.rows == FEW);

    memset(x, 0, sizeof x); /* nothing to compare with, then nothing but zeros */
    CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, FEW, 2, 3, NULL, &m, NULL));
    CHECK(test_is_nan(m.nmse) && test_is_nan(m.nmae) && test_is_nan(m.cs) &&
          test_is_nan(m.fvu_set) && test_is_nan(m.fvu_row));
    memset(recon, 0, sizeof recon);
    x[0] = 2;
    CHECK_STATUS(MSAE_OK, msae_measure(x, recon, z, FEW, 2, 3, NULL, &m, NULL));
    CHECK(m.nmse == 1 && m.nmae == 1 && test_is_nan(m.cs) && test_is_nan(m.cs_std) &&
          test_is_finite(m.fvu_set));

    msae_model model;
    float *data = raw_rows();
    double cknna = 0;
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, data)) return;
    CHECK_STATUS(MSAE_OK, msae_cknna(&model, x, 2, z, 3, FEW, &cknna, NULL));
    CHECK(test_is_nan(cknna));
    CHECK_STATUS(MSAE_OK, msae_cknna(&model, data, D, data, D, 12, &cknna, NULL));
    CHECK(fabs(cknna - 1) < 1e-3);
    msae_model_free(&model);
    free(data);
}

/* ---------------------------------------------------------------------------------------------
   Names
   ------------------------------------------------------------------------------------------ */

static double cosine(const double *a, const double *b) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < D; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* The two best words of latent j, the slow way. */
static msae_name name_of(const msae_model *model, size_t j, const float *words, size_t n_words,
                         int keep_means) {
    double concept[D], word[D], mean[D] = {0}, best = -2, second = -2;
    msae_name name = {0, 0, 0, 0};
    for (size_t i = 0; i < n_words * D; i++) mean[i % D] += (double)words[i] / (double)n_words;
    for (size_t i = 0; i < D; i++) {
        concept[i] = (double)model->decoder[j * D + i] / (double)model->scale;
        if (keep_means) concept[i] += (double)model->mean[i];
    }
    for (size_t w = 0; w < n_words; w++) {
        for (size_t i = 0; i < D; i++) {
            word[i] = (double)words[w * D + i] - (keep_means ? 0 : mean[i]);
        }
        double score = cosine(concept, word);
        if (score > best) {
            second = best;
            name.runner_up = name.word;
            best = score;
            name.word = w;
        } else if (score > second) {
            second = score;
            name.runner_up = w;
        }
    }
    name.score = (float)best;
    name.runner_up_score = (float)second;
    return name;
}

static void names_are_the_nearest_words(void) {
    enum { WORDS = 300 };
    float *x = raw_rows(), *words = test_random_floats(14, WORDS * D, 1);
    for (size_t i = 0; i < WORDS * D; i++) words[i] += 0.3f;
    msae_data vocabulary = msae_data_view(words, WORDS, D);
    FOR_EACH_PATH(simd) {
        for (int keep_means = 0; keep_means < 2; keep_means++) {
            msae_model model;
            msae_name names[N];
            msae_name_desc desc = {keep_means};
            if (!open_model(&model, &test_recipes[0], simd, x)) continue;
            CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &vocabulary, &desc, names, NULL));
            for (size_t j = 0; j < N; j++) {
                msae_name want = name_of(&model, j, words, WORDS, keep_means);
                test_note("latent %zu, keep_means %d, %s", j, keep_means, msae_simd_name(simd));
                CHECK(names[j].word == want.word && names[j].runner_up == want.runner_up);
                CHECK(fabsf(names[j].score - want.score) < 1e-5f);
                CHECK(fabsf(names[j].runner_up_score - want.runner_up_score) < 1e-5f);
            }
            msae_model_free(&model);
        }
    }
    free(x);
    free(words);
}

static void vocabularies_that_cannot_serve(void) {
    float *x = raw_rows();
    msae_model model;
    msae_name names[N];
    msae_error error;
    msae_data one = msae_data_view(x, 1, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_data none = msae_data_view(x, 0, D), bad = msae_data_view(x, ROWS, D);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    msae_name_desc keep = {1};
    CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &one, &keep, names, NULL));
    CHECK(names[0].word == 0 && names[0].runner_up == 0 && names[0].runner_up_score == -1);
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_name_latents(&model, &narrow, NULL, names, NULL));
    CHECK(msae_name_latents(&model, &none, NULL, names, NULL) != MSAE_OK);
    x[BAD_ROW * D + 1] = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_name_latents(&model, &bad, NULL, names, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
}

int main(void) {
    RUN(sweep_is_its_parts);
    RUN(sweep_of_chosen_ks_without_cknna);
    RUN(sweep_by_default);
    RUN(another_mean_and_scale);
    RUN(default_list_of_ks);
    RUN(means_and_deviations);
    RUN(metrics_without_a_value);
    RUN(names_are_the_nearest_words);
    RUN(vocabularies_that_cannot_serve);
    return test_finish();
}
