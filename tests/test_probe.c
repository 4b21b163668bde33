/* The linear probe and what is asked of it: fits against scipy's, measures by hand, correlations,
   sweeps and ablations against plain computations in double. */
#include "test.h"

enum { R = 60, D = 5, CLASSES = 3, N = 24, K = 6 };

/* Rows and labels by a formula that the script of `fit_is_scipys` has too. */
static void formula(float *x, uint32_t *labels) {
    for (uint32_t r = 0; r < R; r++) {
        for (uint32_t i = 0; i < D; i++) {
            x[r * D + i] = (float)(sin(1.7 * r + 0.9 * i * i) + (i == r % 3 ? 0.8 : 0) + 0.3);
        }
        labels[r] = r % 7 ? r % 3 : r / 7 % 3;
    }
}

/* Made by scipy.optimize.minimize (L-BFGS-B, gtol 1e-10) on the same rows, in double: mean cross
   entropy on rows of unit length plus 0.01 / 2 times the sum of squared weights. */
static const double scipy_loss = 0.705884454;
static const double scipy_weights[CLASSES * D] = {
    2.028206,  -3.005117, -0.876846, 0.885767, 0.938996, -2.625955, 2.605244, -0.769697,
    -1.051221, -1.016053, 0.597750,  0.399874, 1.646543, 0.165454,  0.077057};
static const double scipy_bias[CLASSES] = {0.193652, 0.465060, -0.658712}; /* less their mean */

static void fit_is_scipys(void) {
    float x[R * D];
    uint32_t labels[R];
    formula(x, labels);
    FOR_EACH_PATH(simd) {
        msae_probe probe;
        msae_probe_desc desc;
        msae_data data = msae_data_view(x, R, D);
        memset(&desc, 0, sizeof desc);
        desc.simd = simd;
        desc.l2 = 0.01f;
        desc.tolerance = 1e-6f;
        test_note("%s", msae_simd_name(simd));
        if (!CHECK_STATUS(MSAE_OK, msae_probe_fit(&probe, &data, labels, CLASSES, &desc, NULL))) {
            continue;
        }
        CHECK(fabs(probe.loss - scipy_loss) < 1e-6);
        for (size_t i = 0; i < CLASSES * D; i++) {
            CHECK(fabs((double)probe.weights[i] - scipy_weights[i]) < 1e-3);
        }
        double mean = 0;
        for (size_t c = 0; c < CLASSES; c++) mean += (double)probe.bias[c] / CLASSES;
        for (size_t c = 0; c < CLASSES; c++) {
            CHECK(fabs((double)probe.bias[c] - mean - scipy_bias[c]) < 1e-3);
        }
        msae_probe_free(&probe);
    }
}

/* A probe whose weights are set by hand. */
static void open_probe(msae_probe *probe, const float *weights, const float *bias) {
    float x[R * D];
    uint32_t labels[R];
    msae_probe_desc desc;
    formula(x, labels);
    msae_data data = msae_data_view(x, R, D);
    memset(&desc, 0, sizeof desc);
    desc.max_iterations = 1;
    CHECK_STATUS(MSAE_OK, msae_probe_fit(probe, &data, labels, CLASSES, &desc, NULL));
    memcpy(probe->weights, weights, CLASSES * D * sizeof *weights);
    memcpy(probe->bias, bias, CLASSES * sizeof *bias);
}

static const float weights[CLASSES * D] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0};
static const float bias[CLASSES] = {0.5f, 0, -0.5f};

static void naive_predict(const float *x, double *p) {
    double squares = 0, sum = 0;
    for (size_t i = 0; i < D; i++) squares += (double)x[i] * (double)x[i];
    for (size_t c = 0; c < CLASSES; c++) {
        double logit = (double)bias[c];
        for (size_t i = 0; i < D && squares > 0; i++) {
            logit += (double)weights[c * D + i] * (double)x[i] / sqrt(squares);
        }
        p[c] = exp(logit);
        sum += p[c];
    }
    for (size_t c = 0; c < CLASSES; c++) p[c] /= sum;
}

static void predictions_are_softmax(void) {
    msae_probe probe;
    float x[R * D], p[R * CLASSES];
    uint32_t labels[R];
    open_probe(&probe, weights, bias);
    formula(x, labels);
    memset(x, 0, D * sizeof *x);
    for (size_t i = 0; i < D; i++) {
        x[D + i] *= 1e25f;
        x[2 * D + i] *= 1e-25f;
    }
    msae_probe_predict(&probe, x, R, p);
    for (size_t r = 0; r < R; r++) {
        double want[CLASSES];
        naive_predict(x + r * D, want);
        for (size_t c = 0; c < CLASSES; c++)
            CHECK(fabs((double)p[r * CLASSES + c] - want[c]) < 1e-6);
    }
    msae_probe_free(&probe);
}

/* Four rows that point along an axis each: the answers are 0, 1, 2 and 0. */
static void measures_by_hand(void) {
    static const float x[4 * D] = {3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0};
    static const uint32_t labels[4] = {0, 2, 2, MSAE_NO_CLASS};
    msae_probe probe;
    msae_probe_score score;
    double p[3][CLASSES];
    msae_data data = msae_data_view(x, 4, D);
    open_probe(&probe, weights, bias);
    CHECK_STATUS(MSAE_OK, msae_probe_measure(&probe, &data, labels, &score, NULL));
    for (size_t r = 0; r < 3; r++) naive_predict(x + r * D, p[r]);
    CHECK(score.rows == 3 && fabs(score.accuracy - 2.0 / 3) < 1e-12);
    /* class 0: right; class 1: answered once, never a label; class 2: one of two found */
    CHECK(fabs(score.macro_f1 - (1 + 0 + 2.0 / 3) / 3) < 1e-12);
    CHECK(fabs(score.log_loss + (log(p[0][0]) + log(p[1][2]) + log(p[2][2])) / 3) < 1e-6);
    msae_probe_free(&probe);
}

static void open_model(msae_model *model, const float *x, const test_recipe *recipe) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_data data = msae_data_view(x, R, D);
    CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL));
    test_randomize(model, 3);
    CHECK_STATUS(MSAE_OK, msae_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, model->mean,
                                               &model->scale, NULL));
    model->latent_bias[5] = -1000; /* never active */
}

static void agreement_by_hand(void) {
    static const size_t ks[] = {2, 9, N};
    float x[R * D], recon[R * D];
    uint32_t labels[R];
    msae_probe probe;
    msae_model model;
    msae_agreement got[COUNT(ks)];
    formula(x, labels);
    open_probe(&probe, weights, bias);
    open_model(&model, x, &test_recipes[0]);
    msae_data data = msae_data_view(x, R, D);
    CHECK_STATUS(MSAE_OK, msae_probe_agreement(&probe, &model, &data, ks, COUNT(ks), got, NULL));
    void *workspace = test_alloc(msae_workspace_bytes(&model, R));
    for (size_t i = 0; i < COUNT(ks); i++) {
        double mean = 0, kl[R], squares = 0;
        size_t equal = 0;
        CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, R, &ks[i], 1, recon, NULL));
        for (size_t r = 0; r < R; r++) {
            double p[CLASSES], q[CLASSES];
            size_t best = 0, other = 0;
            naive_predict(x + r * D, p);
            naive_predict(recon + r * D, q);
            kl[r] = 0;
            for (size_t c = 0; c < CLASSES; c++) {
                kl[r] += p[c] * log(p[c] / q[c]);
                if (p[c] > p[best]) best = c;
                if (q[c] > q[other]) other = c;
            }
            mean += kl[r] / R;
            equal += best == other;
        }
        for (size_t r = 0; r < R; r++) squares += (kl[r] - mean) * (kl[r] - mean);
        CHECK(got[i].k == ks[i] && fabs(got[i].kl - mean) < 1e-5);
        CHECK(fabs(got[i].kl_std - sqrt(squares / (R - 1))) < 1e-5);
        CHECK(fabs(got[i].agreement - (double)equal / R) < 1e-12);
    }
    CHECK(got[0].kl > got[2].kl);
    free(workspace);
    msae_model_free(&model);
    msae_probe_free(&probe);
}

/* scipy.special.betainc, its logarithm. */
static void incomplete_beta(void) {
    static const double cases[][4] = {
        {0.5, 0.5, 0.3, -0.996931211021},   {2, 3, 0.4, -0.644738041352},
        {49, 0.5, 0.9, -6.60785073218},     {49, 0.5, 0.2, -81.2741969216},
        {24000, 0.5, 0.99, -244.522801984}, {24000, 0.5, 0.9999, -3.5593752205},
        {1.5, 0.5, 1e-9, -31.9419465685},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const double *c = cases[i], got = msae__log_beta(c[0], c[1], c[2], 1 - c[2]);
        test_note("I_%g(%g, %g)", c[2], c[0], c[1]);
        CHECK(fabs(got - c[3]) < 1e-8 * fabs(c[3]) + 1e-10);
    }
    CHECK(msae__log_beta(3, 0.5, 1, 0) == 0);
    CHECK(fabs(msae__normal_bound(0.95) - 1.959963984540054) < 1e-12);
}

static void attribute_of(const uint32_t *labels, uint8_t *attribute) {
    for (size_t r = 0; r < R; r++) attribute[r] = (uint8_t)(r % 11 == 10 ? 9 : labels[r] == 1);
}

static void correlations_by_hand(void) {
    float x[R * D], *z = test_floats(R * N);
    uint32_t labels[R];
    uint8_t attribute[R];
    msae_model model;
    msae_correlation got[N];
    double p[N], rows[2] = {0, 0};
    formula(x, labels);
    attribute_of(labels, attribute);
    open_model(&model, x, &test_recipes[0]);
    msae_data data = msae_data_view(x, R, D);
    void *workspace = test_alloc(msae_workspace_bytes(&model, R));
    CHECK_STATUS(MSAE_OK, msae_correlate(&model, &data, attribute, K, 0, got, NULL));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&model, workspace, x, R, K, z, NULL));
    for (size_t r = 0; r < R; r++) {
        if (attribute[r] < 2) rows[attribute[r]]++;
    }
    const double n = rows[0] + rows[1];
    size_t varying = 0;
    for (size_t j = 0; j < N; j++) {
        double mean = 0, share = rows[1] / n, xy = 0, xx = 0, yy = 0, of[2] = {0, 0},
               on[2] = {0, 0};
        for (size_t r = 0; r < R; r++) {
            if (attribute[r] > 1) continue;
            mean += (double)z[r * N + j] / n;
            of[attribute[r]] += (double)z[r * N + j] / rows[attribute[r]];
            on[attribute[r]] += (z[r * N + j] != 0) / rows[attribute[r]];
        }
        for (size_t r = 0; r < R; r++) {
            if (attribute[r] > 1) continue;
            const double a = (double)z[r * N + j] - mean, b = attribute[r] - share;
            xy += a * b;
            xx += a * a;
            yy += b * b;
        }
        test_note("latent %zu", j);
        CHECK(got[j].latent == j);
        for (int g = 0; g < 2; g++) {
            CHECK(fabs(got[j].mean[g] - of[g]) < 1e-9 && fabs(got[j].active[g] - on[g]) < 1e-9);
        }
        p[j] = 2;
        if (xx == 0) {
            CHECK(test_is_nan(got[j].r) && test_is_nan(got[j].q) && test_is_nan(got[j].log10_p));
            continue;
        }
        const double r = xy / sqrt(xx * yy), off = 1.959963984540054 / sqrt(n - 3);
        CHECK(fabs(got[j].r - r) < 1e-9);
        CHECK(fabs(got[j].low - tanh(atanh(r) - off)) < 1e-9);
        CHECK(fabs(got[j].high - tanh(atanh(r) + off)) < 1e-9);
        CHECK(fabs(log10(got[j].p) - got[j].log10_p) < 1e-9);
        p[j] = got[j].p;
        varying++;
    }
    CHECK(varying < N && varying > N / 2);
    for (size_t j = 0; j < N; j++) { /* the least p m / rank over all p from its own on */
        double least = 1;
        for (size_t i = 0; i < N && p[j] < 2; i++) {
            size_t rank = 0;
            if (p[i] < p[j] || p[i] > 1) continue;
            for (size_t o = 0; o < N; o++) rank += p[o] <= p[i];
            if (p[i] * (double)varying / (double)rank < least) {
                least = p[i] * (double)varying / (double)rank;
            }
        }
        if (p[j] < 2) CHECK(fabs(got[j].q - least) < 1e-12);
    }
    memset(attribute, 1, sizeof attribute);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_correlate(&model, &data, attribute, K, 0, got, NULL));
    free(workspace);
    free(z);
    msae_model_free(&model);
}

/* Student's t: r = 0.5 over 12 rows has p = 0.097854614257812 (two-sided, scipy.stats.t), and a group
   apart from the other has a p that no double holds. */
static void p_of_a_correlation(void) {
    msae__group_sums sums;
    const size_t few[2] = {6, 6}, many[2] = {1000, 1000};
    memset(&sums, 0, sizeof sums);
    sums.sum[0] = -3; /* means -0.5 and 0.5; a spread that makes r 0.5 */
    sums.sum[1] = 3;
    sums.squares = 12;
    msae_correlation c = msae__correlation(&sums, 0, few, 1.96);
    CHECK(fabs(c.r - 0.5) < 1e-12);
    CHECK(fabs(c.p - 0.097854614257812) < 1e-8);
    sums.sum[0] = -1000;
    sums.sum[1] = 1000;
    sums.squares = 2000.2;
    c = msae__correlation(&sums, 0, many, 1.96);
    CHECK(c.r > 0.9999 && c.p == 0 && c.log10_p < -3000 && c.log10_p > -5000);
}

static void sweeps_and_ablations_by_hand(void) {
    static const float values[] = {0, 0.7f, 3};
    static const uint32_t latents[] = {0, 3, 5, 11};
    float x[R * D];
    uint32_t labels[R];
    uint8_t attribute[R];
    msae_probe probe;
    formula(x, labels);
    attribute_of(labels, attribute);
    open_probe(&probe, weights, bias);
    msae_data data = msae_data_view(x, R, D);
    FOR_EACH_RECIPE(recipe) {
        msae_model model;
        msae_sweep_point points[COUNT(values)];
        msae_ablation ablations[COUNT(latents)];
        msae_code codes[K + 1];
        size_t active[COUNT(latents)] = {0}, flips[COUNT(latents)] = {0};
        size_t gained[COUNT(latents)] = {0}, lost[COUNT(latents)] = {0};
        double sums[COUNT(values)] = {0}, of_group[COUNT(values)] = {0}, rows = 0;
        open_model(&model, x, recipe);
        test_note("%s", recipe->name);
        void *workspace = test_alloc(msae_workspace_bytes(&model, 1));
        CHECK_STATUS(MSAE_OK, msae_sweep_latent(&probe, &model, &data, attribute, K, 3, 1, values,
                                                COUNT(values), points, NULL));
        CHECK_STATUS(MSAE_OK, msae_ablate(&probe, &model, &data, K, 1, latents, COUNT(latents),
                                          ablations, NULL));
        for (size_t r = 0; r < R; r++) {
            float moments[2], out[D];
            double p[CLASSES];
            size_t count = msae_encode(&model, workspace, x + r * D, K, codes), best = 0;
            msae_row_moments(&model, x + r * D, moments);
            msae_decode_with(&model, codes, count, moments, out);
            naive_predict(out, p);
            for (size_t c = 1; c < CLASSES; c++) best = p[c] > p[best] ? c : best;
            rows += attribute[r] == 1;
            for (size_t l = 0; l < COUNT(latents); l++) {
                for (size_t e = 0; e < count; e++) {
                    const float kept = codes[e].value;
                    size_t after = 0;
                    if (codes[e].latent != latents[l] || kept == 0) continue;
                    codes[e].value = 0;
                    msae_decode_with(&model, codes, count, moments, out);
                    codes[e].value = kept;
                    naive_predict(out, p);
                    for (size_t c = 1; c < CLASSES; c++) after = p[c] > p[after] ? c : after;
                    active[l]++;
                    flips[l] += after != best;
                    gained[l] += after != best && after == 1;
                    lost[l] += after != best && best == 1;
                }
            }
            size_t kept = 0; /* all but latent 3, which comes last */
            for (size_t e = 0; e < count; e++) {
                if (codes[e].latent != 3) codes[kept++] = codes[e];
            }
            for (size_t s = 0; s < COUNT(values); s++) {
                codes[kept].latent = 3;
                codes[kept].value = values[s];
                msae_decode_with(&model, codes, kept + 1, moments, out);
                naive_predict(out, p);
                sums[s] += p[1] / R;
                of_group[s] += attribute[r] == 1 ? p[1] : 0;
            }
        }
        for (size_t s = 0; s < COUNT(values); s++) {
            CHECK(points[s].value == values[s] && fabs(points[s].probability - sums[s]) < 1e-5);
            CHECK(fabs(points[s].of_group[1] - of_group[s] / rows) < 1e-5);
        }
        for (size_t l = 0; l < COUNT(latents); l++) {
            const msae_ablation *a = &ablations[l];
            CHECK(a->latent == latents[l] && a->active == active[l] && a->flips == flips[l]);
            CHECK(a->gained == gained[l] && a->lost == lost[l]);
        }
        CHECK(ablations[2].active == 0 || model.activation == MSAE_ACTIVATION_ABS);
        free(workspace);
        msae_model_free(&model);
    }
    msae_probe_free(&probe);
}

static void the_same_for_any_threads(void) {
    enum { MANY = 1300 }; /* several blocks */
    float *x = test_random_floats(4, MANY * D, 1);
    uint32_t *labels = test_alloc(MANY * sizeof *labels);
    uint8_t *attribute = test_alloc(MANY);
    msae_correlation one_r[N], three_r[N];
    msae_probe one, three;
    msae_probe_desc desc;
    msae_pool *pool;
    msae_model model;
    for (size_t r = 0; r < MANY; r++) {
        labels[r] = r % 5 == 0 ? MSAE_NO_CLASS : x[r * D] > x[r * D + 1];
        attribute[r] = x[r * D] > 0;
    }
    msae_data data = msae_data_view(x, MANY, D);
    memset(&desc, 0, sizeof desc);
    memset(one_r, 0, sizeof one_r);
    memset(three_r, 0, sizeof three_r);
    open_model(&model, x, &test_recipes[0]);
    CHECK_STATUS(MSAE_OK, msae_probe_fit(&one, &data, labels, 2, &desc, NULL));
    CHECK_STATUS(MSAE_OK, msae_correlate(&model, &data, attribute, K, 0, one_r, NULL));
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL))) return;
    desc.parallel = model.parallel = msae_pool_parallel(pool);
    CHECK_STATUS(MSAE_OK, msae_probe_fit(&three, &data, labels, 2, &desc, NULL));
    CHECK_STATUS(MSAE_OK, msae_correlate(&model, &data, attribute, K, 0, three_r, NULL));
    CHECK(one.loss == three.loss && test_same(one.weights, three.weights, 2 * D));
    CHECK(test_same(one.bias, three.bias, 2));
    CHECK(memcmp(one_r, three_r, sizeof one_r) == 0);
    msae_probe_score score;
    CHECK_STATUS(MSAE_OK, msae_probe_measure(&three, &data, labels, &score, NULL));
    CHECK(score.accuracy > 0.98); /* a plane divides them */
    msae_probe_free(&one);
    msae_probe_free(&three);
    msae_model_free(&model);
    msae_pool_free(pool);
    free(x);
    free(labels);
    free(attribute);
}

static void rows_that_cannot_serve(void) {
    float x[R * D];
    uint32_t labels[R];
    msae_probe probe;
    msae_error error;
    formula(x, labels);
    msae_data data = msae_data_view(x, R, D);
    labels[7] = CLASSES;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_probe_fit(&probe, &data, labels, CLASSES, NULL, &error));
    CHECK(error.position == 7);
    labels[7] = MSAE_NO_CLASS;
    x[7 * D] = NAN; /* is left out, so it may be anything */
    CHECK_STATUS(MSAE_OK, msae_probe_fit(&probe, &data, labels, CLASSES, NULL, &error));
    msae_probe_free(&probe);
    labels[7] = 0;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_probe_fit(&probe, &data, labels, CLASSES, NULL, &error));
    CHECK(error.position == 7 && probe.memory == NULL);
    memset(x + 7 * D, 0, D * sizeof *x);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_probe_fit(&probe, &data, labels, CLASSES, NULL, &error));
    CHECK(error.position == 7 && strcmp(error.message, "row 7 has no length") == 0);
    for (size_t r = 0; r < R; r++) labels[r] = MSAE_NO_CLASS;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_probe_fit(&probe, &data, labels, CLASSES, NULL, &error));
}

/* Every allocation fails once; nothing leaks. */
static void memory_that_fails(void) {
    static const float values[] = {0, 1};
    static const size_t ks[] = {2, 4};
    static const uint32_t latent = 3;
    float x[R * D];
    uint32_t labels[R];
    uint8_t attribute[R];
    msae_model model;
    formula(x, labels);
    attribute_of(labels, attribute);
    open_model(&model, x, &test_recipes[0]);
    msae_data data = msae_data_view(x, R, D);
    const msae_allocator own = model.allocator;
    for (size_t fail_at = 1;; fail_at++) {
        test_heap heap;
        msae_probe probe;
        msae_probe_desc desc;
        msae_probe_score score;
        msae_agreement agreement[COUNT(ks)];
        msae_correlation correlations[N];
        msae_sweep_point points[COUNT(values)];
        msae_ablation ablation;
        memset(&heap, 0, sizeof heap);
        memset(&desc, 0, sizeof desc);
        heap.fail_at = fail_at;
        desc.allocator = model.allocator = test_heap_allocator(&heap);
        desc.max_iterations = 2;
        msae_status status = msae_probe_fit(&probe, &data, labels, CLASSES, &desc, NULL);
        if (status == MSAE_OK) status = msae_probe_measure(&probe, &data, labels, &score, NULL);
        if (status == MSAE_OK) {
            status = msae_probe_agreement(&probe, &model, &data, ks, 2, agreement, NULL);
        }
        if (status == MSAE_OK) {
            status = msae_correlate(&model, &data, attribute, K, 0, correlations, NULL);
        }
        if (status == MSAE_OK) {
            status = msae_sweep_latent(&probe, &model, &data, attribute, K, latent, 1, values, 2,
                                       points, NULL);
        }
        if (status == MSAE_OK) {
            status = msae_ablate(&probe, &model, &data, K, 1, &latent, 1, &ablation, NULL);
        }
        msae_probe_free(&probe);
        CHECK(heap.bytes == 0);
        if (status == MSAE_OK) break;
        if (!CHECK(status == MSAE_ERROR_MEMORY && fail_at < 20)) break;
    }
    model.allocator = own;
    msae_model_free(&model);
}

int main(void) {
    RUN(fit_is_scipys);
    RUN(predictions_are_softmax);
    RUN(measures_by_hand);
    RUN(agreement_by_hand);
    RUN(incomplete_beta);
    RUN(correlations_by_hand);
    RUN(p_of_a_correlation);
    RUN(sweeps_and_ablations_by_hand);
    RUN(the_same_for_any_threads);
    RUN(rows_that_cannot_serve);
    RUN(memory_that_fails);
    return test_finish();
}
