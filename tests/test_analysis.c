/* Metrics against plain computations; the values themselves are in the golden vectors. */
#include "metrics.h"

#include "audits.h"

/* More rows than two tiles have; where there is a bad one, it is in the last. */
enum { D = 9, N = 50, ROWS = 133, BAD_ROW = 131 };

static int open_model(msae_model *model, const test_recipe *recipe, msae_simd simd,
                      const float *x) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_data data = msae_data_view(x, ROWS, D);
    test_note("%s, %s", recipe->name, msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    desc.model.host.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL))) return 0;
    test_randomize(model, 3);
    CHECK_STATUS(MSAE_OK, test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, model->mean,
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
    CHECK(near(got->l2_ratio, want->l2_ratio) && near(got->recon_bias, want->recon_bias));
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
            size_t ks[MSAE_MAX_LEVELS], count = msae__default_levels(msae__min(16, N), N, ks);
            double cknna;
            if (!open_model(&model, recipe, simd, x)) continue;
            memset(&desc, 0, sizeof desc);
            desc.cknna = 1;
            CHECK_STATUS(MSAE_OK,
                         msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
            void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
            for (size_t i = 0; i < count; i++) {
                CHECK_STATUS(MSAE_OK,
                             msae_forward(&model, workspace, x, ROWS, &ks[i], 1, recon, NULL));
                CHECK_STATUS(MSAE_OK,
                             msae_encode_dense(&model, workspace, x, ROWS, ks[i], z, NULL));
                want = test_measure(x, recon, z, ROWS, D, N);
                cknna = test_cknna(&model, x, D, z, N, ROWS);
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
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
    CHECK(results[0].k == 3 && results[1].k == 7 && test_is_nan(results[0].cknna));
    CHECK(results[0].l0 == 3 && results[1].l0 == 7);
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_evaluate(&model, &narrow, &desc, COUNT(results), results, NULL, NULL));
    desc.ks = falling;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
    desc.ks = beyond;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
    desc.ks = zero;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
    msae_data none = msae_data_view(x, 0, D), few = msae_data_view(x, 11, D);
    msae_error error;
    desc.ks = ks;
    desc.cknna = 1;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &few, &desc, COUNT(results), results, NULL, NULL));
    CHECK(test_is_nan(results[0].cknna) && test_is_finite(results[0].fvu_row));
    desc.cknna = 0;
    const float scales[] = {0, -1, INFINITY, NAN};
    desc.mean = model.mean;
    for (size_t i = 0; i < COUNT(scales); i++) {
        desc.scale = scales[i];
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
    }
    desc.mean = NULL;
    CHECK(msae_evaluate(&model, &none, &desc, COUNT(results), results, NULL, NULL) != MSAE_OK);
    x[BAD_ROW * D] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
}

/* The single k 0 is the model as it encodes by itself: by its k, or by its threshold. */
static void sweep_as_the_model_encodes(void) {
    static const size_t zero = 0;
    float *x = raw_rows(), *recon = test_floats(ROWS * D), *z = test_floats(ROWS * N);
    float *forward = test_floats(ROWS * D);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_model model;
        msae_metrics own, want;
        msae_eval_desc desc;
        double cknna;
        if (!open_model(&model, recipe, MSAE_SIMD_AUTO, x)) continue;
        model.threshold = 0.25f; /* of the batchtopk recipes: of the order of half of the codes */
        memset(&desc, 0, sizeof desc);
        desc.cknna = 1;
        desc.ks = &zero;
        desc.n_ks = 1;
        CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, 1, &own, NULL, NULL));
        void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
        for (size_t r = 0; r < ROWS; r++) {
            msae_code codes[N];
            float moments[2];
            size_t count;
            CHECK_STATUS(MSAE_OK, msae_encode_rows(&model, workspace, x + r * D, 1, 0,
                                                   &(msae_rows){codes, &count, N}, NULL));
            memset(z + r * N, 0, N * sizeof *z);
            for (size_t e = 0; e < count; e++) z[r * N + codes[e].latent] = codes[e].value;
            msae_row_moments(&model, x + r * D, moments);
            msae_decode(&model, codes, count, moments, recon + r * D);
        }
        want = test_measure(x, recon, z, ROWS, D, N);
        cknna = test_cknna(&model, x, D, z, N, ROWS);
        check_metrics(&own, &want);
        CHECK(own.k == 0 && fabs(own.cknna - cknna) <= 1e-4);
        CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, ROWS, &zero, 1, forward, NULL));
        for (size_t i = 0; i < ROWS * D; i++) CHECK(fabsf(forward[i] - recon[i]) <= 1e-5f);
        if (recipe->recipe == MSAE_RECIPE_BATCHTOPK) { /* as many as are above it, not k */
            CHECK(own.l0_std > 0 && own.l0 != (double)model.k);
        }
        free(workspace);
        msae_model_free(&model);
    }
    free(x);
    free(recon);
    free(forward);
    free(z);
}

/* Without a descriptor: the default list of k, no CKNNA. */
static void sweep_by_default(void) {
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    msae_model model;
    msae_metrics results[MSAE_MAX_LEVELS], want[MSAE_MAX_LEVELS];
    msae_eval_desc desc;
    size_t ks[MSAE_MAX_LEVELS], count = 0;
    memset(&desc, 0, sizeof desc);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    desc.ks = ks;
    desc.n_ks = msae__default_levels(msae__min(16, N), N, ks);
    CHECK_STATUS(MSAE_OK,
                 msae_evaluate(&model, &data, NULL, COUNT(results), results, &count, NULL));
    CHECK(count == desc.n_ks);
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, COUNT(want), want, NULL, NULL));
    for (size_t i = 0; i < desc.n_ks; i++) {
        CHECK(results[i].k == ks[i] && test_is_nan(results[i].cknna));
        check_metrics(&results[i], &want[i]);
    }
    msae_model_free(&model);
    free(x);
}

/* Nothing is written where there are more ks than room, of the caller's list and the default one. */
static void sweep_within_its_room(void) {
    static const size_t ks[] = {3, 7, 9};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    msae_model model;
    msae_metrics results[3];
    msae_eval_desc desc;
    msae_error error;
    size_t count = 77;
    memset(&desc, 0, sizeof desc);
    memset(results, 0, sizeof results);
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, x)) return;
    desc.ks = ks;
    desc.n_ks = 3;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_evaluate(&model, &data, &desc, 2, results, &count, &error));
    CHECK(count == 0 && strcmp(error.message, "there is no room for 3 lines of results") == 0);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_evaluate(&model, &data, NULL, 2, results, &count, NULL));
    CHECK(count == 0 && results[0].rows == 0);
    desc.n_ks = 2;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, 3, results, &count, NULL));
    CHECK(count == 2 && results[1].k == 7 && results[2].k == 0 && results[2].rows == 0);
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
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &data, &desc, 1, &want, NULL, NULL));
    desc.mean = mean;
    desc.scale = scale;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &moved_data, &desc, 1, &own, NULL, NULL));
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
        const size_t n = lists[i].n;
        size_t ks[MSAE_MAX_LEVELS];
        test_note("n %zu", n);
        CHECK(msae__default_levels(msae__min(16, n), n, ks) == lists[i].count);
        CHECK(memcmp(ks, lists[i].ks, lists[i].count * sizeof *ks) == 0);
    }
    size_t most[MSAE_MAX_LEVELS];
    /* 2^4 .. 2^63, n */
    CHECK(msae__default_levels(16, SIZE_MAX, most) == sizeof(size_t) * 8 - 4 + 1);
}

/* Row r is reconstructed r / 10 too long and has r active latents: means and deviations (over
   their number) are those of 0, 1, 2, 3 and of their squares. */
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
    m = test_measure(x, recon, z, FEW, WIDTH, WIDTH);
    const double squares = 0.035, squares_std = sqrt(0.001225), line_std = sqrt(5.0 / 4);
    CHECK(near(m.nmse, squares) && near(m.nmse_std, squares_std));
    CHECK(near(m.fvu_row, squares) && near(m.fvu_row_std, squares_std));
    CHECK(near(m.nmae, 0.15) && near(m.nmae_std, line_std / 10));
    CHECK(near(m.l0, 1.5) && near(m.l0_std, line_std));
    CHECK(near(m.cs, 1) && near(m.cs_std, 0) && near(m.sparsity, 0.5) && m.ndn == 0);
    double product = 0, length = 0;
    for (size_t i = 0; i < COUNT(x); i++) {
        product += (double)x[i] * (double)recon[i];
        length += (double)recon[i] * (double)recon[i];
    }
    CHECK(near(m.l2_ratio, 1.15) && near(m.recon_bias, length / product));
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
    m = test_measure(x, recon, z, FEW * 2, 1, 1);
    CHECK(test_is_nan(m.fvu_row) && test_is_nan(m.fvu_row_std));
    CHECK(fabs(m.nmse - 0.25) < 1e-9 && fabs(m.nmae - 0.5) < 1e-9 && fabs(m.cs - 1) < 1e-9);
    CHECK(m.sparsity == 1 && m.l0 == 0 && m.ndn == 1);
    CHECK(fabs(m.l2_ratio - 1.5) < 1e-9 && fabs(m.recon_bias - 1.5) < 1e-9);

    x[6] = x[7];
    m = test_measure(x, recon, z, FEW, 2, 3);
    CHECK(test_magnitude(m.fvu_row) < TEST_INFINITY && m.ndn == 3 && m.rows == FEW);

    memset(x, 0, sizeof x); /* nothing to compare with, then nothing but zeros */
    m = test_measure(x, recon, z, FEW, 2, 3);
    CHECK(test_is_nan(m.nmse) && test_is_nan(m.nmae) && test_is_nan(m.cs) &&
          test_is_nan(m.fvu_set) && test_is_nan(m.fvu_row) && test_is_nan(m.recon_bias));
    memset(recon, 0, sizeof recon);
    x[0] = 2;
    m = test_measure(x, recon, z, FEW, 2, 3);
    CHECK(m.nmse == 1 && m.nmae == 1 && test_is_nan(m.cs) && test_is_nan(m.cs_std) &&
          test_is_finite(m.fvu_set));

    msae_model model;
    float *data = raw_rows();
    double cknna = 0;
    if (!open_model(&model, &test_recipes[0], MSAE_SIMD_AUTO, data)) return;
    cknna = test_cknna(&model, x, 2, z, 3, FEW);
    CHECK(test_is_nan(cknna));
    cknna = test_cknna(&model, data, D, data, D, 12);
    CHECK(fabs(cknna - 1) < 1e-3);
    msae_model_free(&model);
    free(data);
}

/* ---------------------------------------------------------------------------------------------
   Names
   ------------------------------------------------------------------------------------------ */

/* CKNNA as spec.md has it, with whole matrices: z [rows, n] against x [rows, d]. */
static double naive_similarity(const float *a, size_t d, size_t i, size_t j) {
    double sum = 0;
    for (size_t c = 0; c < d; c++) sum += (double)a[i * d + c] * (double)a[j * d + c];
    return sum;
}

/* mask [rows, rows]: each row's ten nearest without itself, ties to the lower row. */
static void naive_nearest(const double *similarity, size_t rows, double *mask) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < rows; j++) {
            size_t nearer = 0;
            for (size_t o = 0; o < rows; o++) {
                const double other = similarity[i * rows + o], own = similarity[i * rows + j];
                nearer += o != i && (other > own || (other == own && o < j));
            }
            mask[i * rows + j] = i != j && nearer < 10;
        }
    }
}

static double naive_hsic(const double *s, const double *t, size_t rows) {
    const double m = (double)rows;
    double trace = 0, sum_s = 0, sum_t = 0, product = 0;
    for (size_t i = 0; i < rows; i++) {
        double column = 0, row = 0;
        for (size_t j = 0; j < rows; j++) {
            trace += s[i * rows + j] * t[j * rows + i];
            column += s[j * rows + i];
            row += t[i * rows + j];
        }
        sum_s += column;
        sum_t += row;
        product += column * row;
    }
    return (trace + sum_s * sum_t / ((m - 1) * (m - 2)) - 2 * product / (m - 2)) / (m * (m - 3));
}

static double naive_cknna(const float *x, size_t d, const float *z, size_t n, size_t rows) {
    enum { K, P, MK, MP, BOTH_K, BOTH_P, MATRICES };
    double *m[MATRICES], value;
    for (int i = 0; i < MATRICES; i++) m[i] = test_alloc(rows * rows * sizeof(double));
    for (size_t i = 0; i < rows * rows; i++) {
        m[K][i] = naive_similarity(x, d, i / rows, i % rows);
        m[P][i] = naive_similarity(z, n, i / rows, i % rows);
    }
    naive_nearest(m[K], rows, m[MK]);
    naive_nearest(m[P], rows, m[MP]);
    for (size_t i = 0; i < rows * rows; i++) {
        m[BOTH_K][i] = m[MK][i] * m[MP][i] * m[K][i];
        m[BOTH_P][i] = m[MK][i] * m[MP][i] * m[P][i];
        m[K][i] *= m[MK][i];
        m[P][i] *= m[MP][i];
    }
    value = naive_hsic(m[BOTH_K], m[BOTH_P], rows) /
            (sqrt(naive_hsic(m[K], m[K], rows) * naive_hsic(m[P], m[P], rows)) + 1e-6);
    for (int i = 0; i < MATRICES; i++) free(m[i]);
    return value;
}

/* Several blocks of rows, codes sparse enough for shared latents and dense ones, rows that are
   equal, rows without codes. */
static void neighbours_by_the_definition(void) {
    enum { MANY = 400, WIDE = 96, DEEP = 8 };
    static const size_t ks[] = {2, 24};
    const test_recipe *recipe = &test_recipes[0];
    float *x = test_random_floats(5, MANY * DEEP, 1), *z = test_floats(MANY * WIDE);
    for (size_t r = 0; r < 40; r++) {
        memcpy(x + (MANY - 1 - r) * DEEP, x + 3 * r * DEEP, DEEP * sizeof *x);
    }
    memset(x + 7 * DEEP, 0, DEEP * sizeof *x);
    msae_data data = msae_data_view(x, MANY, DEEP);
    msae_train_desc train = test_desc(recipe, DEEP, WIDE);
    FOR_EACH_PATH(simd) {
        msae_model model;
        msae_metrics results[COUNT(ks)];
        msae_eval_desc desc;
        train.model.host.simd = simd;
        if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &train.model, NULL))) return;
        for (size_t j = 0; j < WIDE; j++) model.latent_bias[j] = j % 3 == 0 ? -0.01f : 0.001f;
        memset(&desc, 0, sizeof desc);
        desc.ks = ks;
        desc.n_ks = COUNT(ks);
        desc.cknna = 1;
        CHECK_STATUS(MSAE_OK,
                     msae_evaluate(&model, &data, &desc, COUNT(results), results, NULL, NULL));
        void *workspace = test_alloc(msae_workspace_bytes(&model, MANY));
        for (size_t i = 0; i < COUNT(ks); i++) {
            CHECK_STATUS(MSAE_OK, msae_encode_dense(&model, workspace, x, MANY, ks[i], z, NULL));
            test_note("k %zu, %s", ks[i], msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
            CHECK(fabs(results[i].cknna - naive_cknna(x, DEEP, z, WIDE, MANY)) < 1e-3);
        }
        free(workspace);
        msae_model_free(&model);
    }
    free(x);
    free(z);
}

/* CKNNA is of full batches of 10,000 rows; the others are of all. */
static void rows_beyond_the_last_batch(void) {
    enum { BATCH = 10000, MORE = 200, NARROW = 3, FEW = 16 };
    static const size_t k = 4;
    float *x = test_random_floats(6, (BATCH + MORE) * NARROW, 1);
    msae_data all = msae_data_view(x, BATCH + MORE, NARROW);
    msae_data first = msae_data_view(x, BATCH, NARROW);
    msae_train_desc train = test_desc(&test_recipes[0], NARROW, FEW);
    msae_eval_desc desc;
    msae_metrics of_all, of_first;
    msae_model model;
    memset(&desc, 0, sizeof desc);
    desc.ks = &k;
    desc.n_ks = 1;
    desc.cknna = 1;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &train.model, NULL))) return;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &all, &desc, 1, &of_all, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_evaluate(&model, &first, &desc, 1, &of_first, NULL, NULL));
    CHECK(of_all.rows == BATCH + MORE && of_first.rows == BATCH);
    CHECK(of_all.cknna == of_first.cknna && of_all.cknna > 0.1);
    CHECK(of_all.nmse != of_first.nmse);
    msae_model_free(&model);
    free(x);
}

/* The sum of cosines of the best matching of rows from `i` on with the columns not taken. */
static double best_matching(const double *cosine, size_t rows, size_t cols, size_t i,
                            unsigned taken) {
    double best = -1e9;
    if (i == rows) return 0;
    for (size_t j = 0; j < cols; j++) {
        if (taken >> j & 1) continue;
        const double sum =
            cosine[i * cols + j] + best_matching(cosine, rows, cols, i + 1, taken | 1u << j);
        if (sum > best) best = sum;
    }
    return best;
}

static double row_cosine(const float *a, const float *b, size_t d) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < d; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Every pair of sizes up to seven, against all permutations; with equal rows and rows of zeros. */
static void matchings_are_the_best(void) {
    enum { MOST = 7, DEEP = 3 };
    uint64_t seed = 5;
    for (size_t round = 0; round < 4 * MOST * MOST; round++) {
        const size_t rows = 1 + round % MOST, cols = 1 + round / MOST % MOST;
        const size_t least = rows < cols ? rows : cols;
        float a[MOST * DEEP], b[MOST * DEEP], cosines[MOST];
        double cosine[MOST * MOST], flipped[MOST * MOST], sum = 0, want;
        size_t columns[MOST], matched = 0, above = 0;
        unsigned taken = 0;
        alignment_sides sides;
        alignment_result out;
        test_fill(&seed, a, rows * DEEP, 1);
        test_fill(&seed, b, cols * DEEP, 1);
        if (round % 3 == 1) memcpy(b, a, least * DEEP * sizeof *a);
        if (round % 3 == 2) memset(a, 0, DEEP * sizeof *a);
        if (round % 2 == 1 && cols > 1) memcpy(b + DEEP, b, DEEP * sizeof *b);
        memset(&sides, 0, sizeof sides);
        sides.a = a;
        sides.b = b;
        sides.rows_a = rows;
        sides.rows_b = cols;
        sides.d = DEEP;
        CHECK_STATUS(MSAE_OK, align_rows(&sides, columns, cosines, &out, NULL));
        for (size_t i = 0; i < rows; i++) {
            for (size_t j = 0; j < cols; j++) {
                cosine[i * cols + j] = row_cosine(a + i * DEEP, b + j * DEEP, DEEP);
                flipped[j * rows + i] = cosine[i * cols + j];
            }
            if (columns[i] == ALIGNMENT_NO_MATCH) continue;
            CHECK(columns[i] < cols && !(taken >> columns[i] & 1));
            taken |= 1u << columns[i];
            matched++;
            CHECK(fabs((double)cosines[i] - cosine[i * cols + columns[i]]) < 1e-6);
            sum += cosine[i * cols + columns[i]];
            above += cosines[i] > 0.7f;
        }
        want = rows <= cols ? best_matching(cosine, rows, cols, 0, 0)
                            : best_matching(flipped, cols, rows, 0, 0);
        test_note("%zu rows, %zu columns", rows, cols);
        CHECK(matched == least && out.matched == least);
        CHECK(fabs(sum - want) < 1e-6);
        CHECK(fabs(out.mean - sum / (double)least) < 1e-6);
        CHECK(fabs(out.above_70 - (double)above / (double)least) < 1e-9);
    }
}

/* A permutation with noise is found again on every path. */
static void a_hidden_permutation(void) {
    enum { MANY = 300, DEEP = 24 };
    float *a = test_random_floats(3, MANY * DEEP, 1), *b = test_random_floats(4, MANY * DEEP, 0.3f);
    size_t *columns = (size_t *)test_alloc(MANY * sizeof *columns);
    alignment_sides sides;
    msae_error error;
    memset(&sides, 0, sizeof sides);
    sides.a = a;
    sides.b = b;
    sides.rows_a = sides.rows_b = MANY;
    sides.d = DEEP;
    for (size_t i = 0; i < MANY; i++) {
        const size_t to = (i * 77 + 5) % MANY;
        for (size_t c = 0; c < DEEP; c++) b[to * DEEP + c] += a[i * DEEP + c];
    }
    FOR_EACH_PATH(simd) {
        alignment_result out;
        memset(&sides.host, 0, sizeof sides.host);
        sides.host.simd = simd;
        CHECK_STATUS(MSAE_OK, align_rows(&sides, columns, NULL, &out, NULL));
        for (size_t i = 0; i < MANY; i++) CHECK(columns[i] == (i * 77 + 5) % MANY);
        CHECK(out.mean > 0.9);
    }
    b[17 * DEEP + 3] = NAN;
    alignment_result out;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, align_rows(&sides, columns, NULL, &out, &error));
    CHECK(error.position == 17 && strstr(error.message, "row 17 of the second side"));
    b[17 * DEEP + 3] = 0;
    for (size_t fail_at = 1;; fail_at++) {
        test_heap heap;
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        sides.host.allocator = test_heap_allocator(&heap);
        const msae_status status = align_rows(&sides, columns, NULL, &out, NULL);
        CHECK(heap.bytes == 0);
        if (status == MSAE_OK) break;
        CHECK(status == MSAE_ERROR_MEMORY && fail_at < 5);
    }
    free(a);
    free(b);
    free(columns);
}

int main(void) {
    RUN(sweep_is_its_parts);
    RUN(sweep_of_chosen_ks_without_cknna);
    RUN(sweep_as_the_model_encodes);
    RUN(sweep_by_default);
    RUN(sweep_within_its_room);
    RUN(another_mean_and_scale);
    RUN(default_list_of_ks);
    RUN(means_and_deviations);
    RUN(metrics_without_a_value);
    RUN(neighbours_by_the_definition);
    RUN(rows_beyond_the_last_batch);
    RUN(matchings_are_the_best);
    RUN(a_hidden_permutation);
    return test_finish();
}
