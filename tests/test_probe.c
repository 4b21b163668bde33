/* The linear probe against a solution found elsewhere, and against plain computations in double. */
#include "test.h"

#include "audits.h"

enum { ROWS = 60, D = 5, CLASSES = 3 };

typedef struct fixture {
    float x[ROWS * D];
    uint32_t labels[ROWS];
    msae_data data;
} fixture;

static void open_fixture(fixture *f) {
    for (int r = 0; r < ROWS; r++) {
        f->labels[r] = (uint32_t)(r % CLASSES);
        for (int i = 0; i < D; i++) {
            const int value = (r * 31 + i * 17 + r * r * 7 + i * i * r * 3) % 101 - 40;
            f->x[r * D + i] = (float)(value + (i == r % CLASSES ? 30 : 0));
        }
    }
    f->data = msae_data_view(f->x, ROWS, D);
}

/* Where the gradient of the mean cross-entropy on these rows at unit length plus 0.005 ||W||^2 is
   zero (below 1e-16): SciPy 1.10, BFGS from zero and five steps of Newton's, all in double. */
static const double solution[CLASSES][D] = {
    {0.97343612, -0.44105685, -1.23330702, -0.42061329, 0.01902271},
    {-0.88526555, 1.54572641, -0.37095581, 0.46741801, 0.40144115},
    {-0.08817057, -1.10466956, 1.60426283, -0.04680473, -0.42046386},
};
static const double solution_bias[CLASSES] = {0.31439994, -0.17186846, -0.14253148};
static const double solution_loss = 0.8406370634566638;

static linear_probe_desc exact_desc(msae_simd simd) {
    linear_probe_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.l2 = 1e-2f;
    desc.tolerance = 1e-6f;
    desc.input = LINEAR_PROBE_INPUT_RAW;
    desc.host.simd = simd;
    return desc;
}

static void check_solution(const linear_probe *probe) {
    double mean = 0;
    for (size_t c = 0; c < CLASSES; c++) mean += (double)probe->bias[c] / CLASSES;
    for (size_t c = 0; c < CLASSES; c++) {
        for (size_t i = 0; i < D; i++) {
            CHECK(fabs((double)probe->weights[c * D + i] - solution[c][i]) < 1e-4);
        }
        CHECK(fabs((double)probe->bias[c] - mean - solution_bias[c]) < 1e-4);
    }
    CHECK(fabs(probe->loss - solution_loss) < 1e-6);
}

static void fits_what_another_solver_finds(void) {
    fixture f;
    open_fixture(&f);
    FOR_EACH_PATH(simd) {
        const linear_probe_desc desc = exact_desc(simd);
        linear_probe probe;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        if (!CHECK_STATUS(MSAE_OK,
                          linear_probe_fit(&probe, &f.data, f.labels, CLASSES, &desc, NULL))) {
            continue;
        }
        CHECK(probe.n_inputs == D && probe.n_classes == CLASSES);
        CHECK(probe.iterations > 2 && probe.iterations < 60);
        check_solution(&probe);
        linear_probe_free(&probe);
    }
}

/* Published input is raw input of rows less their mean. */
static void published_input(void) {
    fixture f;
    float centred[ROWS * D], p[2][ROWS * CLASSES];
    linear_probe probe[2];
    linear_probe_desc desc = exact_desc(MSAE_SIMD_AUTO);
    open_fixture(&f);
    for (size_t i = 0; i < D; i++) {
        double mean = 0;
        for (size_t r = 0; r < ROWS; r++) mean += (double)f.x[r * D + i] / ROWS;
        for (size_t r = 0; r < ROWS; r++)
            centred[r * D + i] = (float)((double)f.x[r * D + i] - mean);
    }
    const msae_data data = msae_data_view(centred, ROWS, D);
    CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe[1], &data, f.labels, CLASSES, &desc, NULL));
    desc.input = LINEAR_PROBE_INPUT_DEFAULT;
    CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe[0], &f.data, f.labels, CLASSES, &desc, NULL));
    CHECK(probe[0].mean != NULL && probe[1].mean == NULL);
    CHECK(fabs(probe[0].loss - probe[1].loss) < 1e-7);
    test_note("loss %g, of raw rows %g", probe[0].loss, solution_loss);
    CHECK(fabs(probe[0].loss - solution_loss) > 1e-5); /* another problem */
    test_predict(&probe[0], f.x, ROWS, p[0]);
    test_predict(&probe[1], centred, ROWS, p[1]);
    for (size_t i = 0; i < ROWS * CLASSES; i++) CHECK(fabsf(p[0][i] - p[1][i]) < 1e-4f);
    linear_probe_free(&probe[0]);
    linear_probe_free(&probe[1]);
    desc.input = LINEAR_PROBE_INPUT_COUNT;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_fit(&probe[0], &f.data, f.labels, CLASSES, &desc, NULL));
}

/* Columns of very different spread and a weak penalty: by default the gradient of the objective, in
   double, ends below 1e-4 of what it was. */
static void converges_by_default(void) {
    enum { MANY = 400, WIDTH = 24 };
    float *x = test_random_floats(8, MANY * WIDTH, 1);
    float p[CLASSES];
    uint32_t labels[MANY];
    double gradient[CLASSES][WIDTH] = {{0}}, first[CLASSES][WIDTH] = {{0}}, norm = 0, before = 0;
    linear_probe probe;
    for (size_t r = 0; r < MANY; r++) {
        for (size_t i = 0; i < WIDTH; i++) x[r * WIDTH + i] *= (float)pow(0.9, (double)i);
        labels[r] = (uint32_t)(r % 5 == 0 ? r / 5 % CLASSES : x[r * WIDTH + 9] > 0 ? 1 : r % 2 * 2);
    }
    const msae_data data = msae_data_view(x, MANY, WIDTH);
    if (!CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe, &data, labels, CLASSES, NULL, NULL)))
        return;
    for (size_t r = 0; r < MANY; r++) {
        double squares = 0;
        test_predict(&probe, x + r * WIDTH, 1, p);
        for (size_t i = 0; i < WIDTH; i++) {
            const double value = (double)x[r * WIDTH + i] - (double)probe.mean[i];
            squares += value * value;
        }
        for (size_t c = 0; c < CLASSES; c++) {
            for (size_t i = 0; i < WIDTH; i++) {
                const double unit =
                    ((double)x[r * WIDTH + i] - (double)probe.mean[i]) / sqrt(squares) / MANY;
                gradient[c][i] += ((double)p[c] - (labels[r] == c)) * unit;
                first[c][i] += (1.0 / CLASSES - (labels[r] == c)) * unit;
            }
        }
    }
    for (size_t c = 0; c < CLASSES; c++) {
        for (size_t i = 0; i < WIDTH; i++) {
            gradient[c][i] += 1e-6 * (double)probe.weights[c * WIDTH + i];
            norm += gradient[c][i] * gradient[c][i];
            before += first[c][i] * first[c][i];
        }
    }
    test_note("%zu iterations, %g of the first gradient", probe.iterations, sqrt(norm / before));
    CHECK(sqrt(norm / before) < 1e-4);
    linear_probe_free(&probe);
    free(x);
}

/* Rows without a class, whatever is in them, and rows of any length are as good as the others. */
static void rows_without_a_class_are_left_out(void) {
    enum { MORE = 2 * ROWS };
    fixture f;
    float x[MORE * D];
    uint32_t labels[MORE];
    linear_probe probe;
    linear_probe_score score;
    const linear_probe_desc desc = exact_desc(MSAE_SIMD_AUTO);
    open_fixture(&f);
    for (size_t r = 0; r < MORE; r++) {
        const float scale = r % 8 < 2 ? 1e18f : r % 8 < 4 ? 1e-12f : 1;
        labels[r] = r % 2 ? f.labels[r / 2] : LINEAR_PROBE_NO_CLASS;
        for (size_t i = 0; i < D; i++) {
            x[r * D + i] = r % 2 ? scale * f.x[r / 2 * D + i] : (float)(r * i) - 50;
        }
    }
    memset(x, 0, D * sizeof *x);
    const msae_data data = msae_data_view(x, MORE, D);
    if (!CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe, &data, labels, CLASSES, &desc, NULL)))
        return;
    check_solution(&probe);
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe, &data, labels, &score, NULL));
    CHECK(score.rows == ROWS && fabs(score.accuracy - 0.65) < 1e-12);
    linear_probe_free(&probe);
}

/* ---------------------------------------------------------------------------------------------
   Answers, scores
   ------------------------------------------------------------------------------------------ */

/* A probe with weights of its own, borrowed. */
static linear_probe probe_of(float *weights, float *bias, size_t d, size_t classes,
                             msae_simd simd) {
    linear_probe probe;
    memset(&probe, 0, sizeof probe);
    probe.n_inputs = d;
    probe.n_classes = classes;
    probe.weights = weights;
    probe.bias = bias;
    probe.host.simd = simd;
    return probe;
}

static void naive_answer(const linear_probe *probe, const float *x, double *p) {
    double squares = 0, sum = 0;
    for (size_t i = 0; i < probe->n_inputs; i++) squares += (double)x[i] * (double)x[i];
    for (size_t c = 0; c < probe->n_classes; c++) {
        double logit = (double)probe->bias[c];
        for (size_t i = 0; i < probe->n_inputs && squares > 0; i++) {
            const double weight = (double)probe->weights[c * probe->n_inputs + i];
            logit += weight * (double)x[i] / sqrt(squares);
        }
        p[c] = exp(logit);
        sum += p[c];
    }
    for (size_t c = 0; c < probe->n_classes; c++) p[c] /= sum;
}

/* Of a width that is no multiple of anything; a row of zeros; rows of any length. */
static void answers_are_a_softmax(void) {
    enum { WIDTH = 523, MANY = 19, COUNT_OF = 7 };
    static const float scale[COUNT_OF] = {1, 0, 1e20f, 3e37f, 1e-20f, 1e-38f, 1};
    float *x = test_random_floats(5, COUNT_OF * WIDTH, 1);
    float *weights = test_random_floats(6, MANY * WIDTH, 9), bias[MANY], p[COUNT_OF * MANY];
    uint64_t state = 7;
    test_fill(&state, bias, MANY, 2);
    for (size_t i = 0; i < COUNT_OF * WIDTH; i++) x[i] *= scale[i / WIDTH];
    FOR_EACH_PATH(simd) {
        const linear_probe probe = probe_of(weights, bias, WIDTH, MANY, simd);
        test_predict(&probe, x, COUNT_OF, p);
        for (size_t r = 0; r < COUNT_OF; r++) {
            double want[MANY];
            naive_answer(&probe, x + r * WIDTH, want);
            for (size_t c = 0; c < MANY; c++) {
                test_note("row %zu, class %zu, %s", r, c,
                          msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                CHECK(fabs((double)p[r * MANY + c] - want[c]) < 1e-5);
            }
        }
    }
    free(x);
    free(weights);
}

/* Two inputs, three classes, of which the last is never right and a fourth never occurs. */
static void scores_by_hand(void) {
    enum { COUNT_OF = 6 };
    float weights[4 * 2] = {2, 0, 0, 2, 1, 1, -9, -9}, bias[4] = {0, 0, 0.5f, -9};
    const float x[COUNT_OF * 2] = {3, 0, 0, 2, 5, 5, 1, 0, 0, 0, 0, 1};
    const uint32_t labels[COUNT_OF] = {0, 1, 2, 1, LINEAR_PROBE_NO_CLASS, 1};
    const uint32_t sure[1] = {3};
    const msae_data data = msae_data_view(x, COUNT_OF, 2);
    const linear_probe probe = probe_of(weights, bias, 2, 4, MSAE_SIMD_AUTO);
    linear_probe_score score;
    double want = 0, p[4];
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe, &data, labels, &score, NULL));
    for (size_t r = 0; r < COUNT_OF; r++) {
        if (labels[r] == LINEAR_PROBE_NO_CLASS) continue;
        naive_answer(&probe, x + 2 * r, p);
        want -= log(p[labels[r]]) / 5;
    }
    /* The answers are 0, 1, 2, 0, -, 1: F1 is 2/3, 4/5 and 1. */
    CHECK(score.rows == 5 && fabs(score.accuracy - 0.8) < 1e-12);
    CHECK(fabs(score.macro_f1 - (2.0 / 3 + 4.0 / 5 + 1) / 3) < 1e-12);
    CHECK(fabs(score.log_loss - want) < 1e-6);
    bias[3] = -1e6f; /* of probability zero */
    const msae_data one = msae_data_view(x, 1, 2);
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe, &one, sure, &score, NULL));
    CHECK(score.rows == 1 && score.accuracy == 0 && score.macro_f1 == 0);
    CHECK(fabs(score.log_loss - 38 * log(10)) < 1e-9);
}

/* ---------------------------------------------------------------------------------------------
   With a model
   ------------------------------------------------------------------------------------------ */

enum { MODEL_D = 11, N = 40, MODEL_ROWS = 150, MODEL_CLASSES = 4, KS = 3 };
static const size_t ks[KS] = {2, 7, N};

static void open_model(msae_model *model, linear_probe *probe, float **x, msae_simd simd) {
    const msae_train_desc desc = test_desc(&test_recipes[0], MODEL_D, N);
    msae_model_desc model_desc = desc.model;
    float *weights = test_random_floats(32, MODEL_CLASSES * MODEL_D, 4);
    static float bias[MODEL_CLASSES] = {0.2f, -0.1f, 0, 0.4f};
    model_desc.host.simd = simd;
    CHECK_STATUS(MSAE_OK, msae_model_init(model, &model_desc, NULL));
    test_randomize(model, 3);
    *x = test_random_floats(31, MODEL_ROWS * MODEL_D, 1);
    *probe = probe_of(weights, bias, MODEL_D, MODEL_CLASSES, simd);
}

static void close_model(msae_model *model, linear_probe *probe, float *x) {
    msae_model_free(model);
    free(probe->weights);
    free(x);
}

static size_t largest(const double *p) {
    size_t best = 0;
    for (size_t c = 1; c < MODEL_CLASSES; c++) best = p[c] > p[best] ? c : best;
    return best;
}

static void agreement_against_the_definition(void) {
    FOR_EACH_PATH(simd) {
        msae_model model;
        linear_probe probe;
        linear_probe_agreement results[KS];
        float *x, *recon = test_floats(KS * MODEL_ROWS * MODEL_D);
        open_model(&model, &probe, &x, simd);
        const msae_data data = msae_data_view(x, MODEL_ROWS, MODEL_D);
        void *workspace = test_alloc(msae_workspace_bytes(&model, MODEL_ROWS));
        CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, MODEL_ROWS, ks, KS, recon, NULL));
        CHECK_STATUS(MSAE_OK, linear_probe_compare(&probe, &model, &data, ks, KS, results, NULL));
        for (size_t i = 0; i < KS; i++) {
            double sum = 0, squares = 0, equal = 0;
            for (size_t r = 0; r < MODEL_ROWS; r++) {
                double p[MODEL_CLASSES], q[MODEL_CLASSES], kl = 0;
                naive_answer(&probe, x + r * MODEL_D, p);
                naive_answer(&probe, recon + (i * MODEL_ROWS + r) * MODEL_D, q);
                for (size_t c = 0; c < MODEL_CLASSES; c++) kl += p[c] * log(p[c] / q[c]);
                sum += kl / MODEL_ROWS;
                squares += kl * kl;
                equal += largest(p) == largest(q);
            }
            const double deviation = sqrt(squares / MODEL_ROWS - sum * sum);
            test_note("k %zu, %s", ks[i], msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
            CHECK(results[i].k == ks[i] && sum > 0.1);
            CHECK(fabs(results[i].kl - sum) < 1e-4 * sum);
            CHECK(fabs(results[i].kl_std - deviation) < 1e-4 * sum);
            CHECK(fabs(results[i].agreement - equal / MODEL_ROWS) < 1e-12);
        }
        free(workspace);
        free(recon);
        close_model(&model, &probe, x);
    }
}

/* ---------------------------------------------------------------------------------------------
   Workers, memory, bad input
   ------------------------------------------------------------------------------------------ */

/* More rows than are worked on at once, and more classes. */
static void the_same_for_any_threads(void) {
    enum { MANY = 1500, WIDTH = 21, GROUPS = 37 };
    float *x = test_random_floats(8, MANY * WIDTH, 1), *p[2];
    uint32_t labels[MANY];
    linear_probe probe[2];
    linear_probe_score score[2];
    linear_probe_desc desc;
    msae_model model;
    linear_probe_agreement agreement[2][KS];
    msae_train_desc model_desc = test_desc(&test_recipes[0], WIDTH, N);
    msae_pool *pool;
    const msae_data data = msae_data_view(x, MANY, WIDTH);
    memset(&desc, 0, sizeof desc);
    memset(agreement, 0, sizeof agreement);
    memset(score, 0, sizeof score);
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL))) return;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &model_desc.model, NULL));
    for (uint32_t r = 0; r < MANY; r++) labels[r] = r * r % GROUPS;
    for (int i = 0; i < 2; i++) {
        if (i) desc.host.parallel = model.parallel = msae_pool_parallel(pool);
        CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe[i], &data, labels, GROUPS, &desc, NULL));
        CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe[i], &data, labels, &score[i], NULL));
        CHECK_STATUS(MSAE_OK,
                     linear_probe_compare(&probe[i], &model, &data, ks, KS, agreement[i], NULL));
        p[i] = test_floats(MANY * GROUPS);
        test_predict(&probe[i], x, MANY, p[i]);
    }
    CHECK(probe[0].loss == probe[1].loss && probe[0].iterations == probe[1].iterations);
    CHECK(test_same(probe[0].weights, probe[1].weights, GROUPS * WIDTH));
    CHECK(test_same(probe[0].bias, probe[1].bias, GROUPS));
    CHECK(test_same(p[0], p[1], MANY * GROUPS));
    CHECK(memcmp(&score[0], &score[1], sizeof score[0]) == 0);
    CHECK(memcmp(agreement[0], agreement[1], sizeof agreement[0]) == 0);
    for (int i = 0; i < 2; i++) {
        linear_probe_free(&probe[i]);
        free(p[i]);
    }
    msae_model_free(&model);
    msae_pool_free(pool);
    free(x);
}

static void bad_rows_and_labels(void) {
    fixture f;
    msae_error error;
    linear_probe probe;
    linear_probe_score score;
    uint32_t none[ROWS];
    open_fixture(&f);
    for (size_t r = 0; r < ROWS; r++) none[r] = LINEAR_PROBE_NO_CLASS;
    const msae_data narrow = msae_data_view(f.x, ROWS, D - 1), no_rows = msae_data_view(f.x, 0, D);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_fit(&probe, &f.data, none, CLASSES, NULL, &error));
    CHECK(strstr(error.message, "no row has a label") && error.position == MSAE_NO_POSITION);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_fit(&probe, &no_rows, f.labels, CLASSES, NULL, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, linear_probe_fit(&probe, &f.data, f.labels, 0, NULL, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, linear_probe_fit(&probe, &f.data, f.labels, 2, NULL, &error));
    CHECK(error.position == 2); /* the first row of class 2 */
    CHECK(probe.memory == NULL && probe.weights == NULL);

    if (!CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe, &f.data, f.labels, CLASSES, NULL, NULL))) {
        return;
    }
    CHECK_STATUS(MSAE_ERROR_SHAPE, linear_probe_measure(&probe, &narrow, f.labels, &score, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, linear_probe_measure(&probe, &f.data, none, &score, NULL));
    f.labels[7] = CLASSES;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_measure(&probe, &f.data, f.labels, &score, &error));
    CHECK(error.position == 7);
    f.labels[7] = 1;
    f.x[41 * D + 3] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 linear_probe_measure(&probe, &f.data, f.labels, &score, &error));
    CHECK(error.position == 41);
    f.labels[41] = LINEAR_PROBE_NO_CLASS;
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe, &f.data, f.labels, &score, NULL));
    CHECK(score.rows == ROWS - 1);
    linear_probe_free(&probe);
    linear_probe_free(&probe);

    CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe, &f.data, f.labels, CLASSES, NULL, NULL));
    linear_probe_free(&probe);
    f.labels[41] = 1;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 linear_probe_fit(&probe, &f.data, f.labels, CLASSES, NULL, &error));
    CHECK(error.position == 41);
    memset(f.x + 40 * D, 0, D * sizeof *f.x);
    const linear_probe_desc raw = exact_desc(MSAE_SIMD_AUTO);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_fit(&probe, &f.data, f.labels, CLASSES, &raw, &error));
    CHECK(error.position == 40 && strstr(error.message, "length"));
}

/* An instruction path that no machine has. */
static void no_such_path(void) {
    fixture f;
    float weights[CLASSES * D] = {0}, bias[CLASSES] = {0}, p[CLASSES] = {7};
    const linear_probe_desc desc = exact_desc(MSAE_SIMD_COUNT);
    const linear_probe made = probe_of(weights, bias, D, CLASSES, MSAE_SIMD_COUNT);
    linear_probe probe;
    linear_probe_score score;
    msae_error error;
    open_fixture(&f);
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED,
                 linear_probe_fit(&probe, &f.data, f.labels, CLASSES, &desc, &error));
    CHECK(probe.memory == NULL && strstr(error.message, "instruction path"));
    CHECK(linear_probe_workspace_bytes(&made, 1) == SIZE_MAX);
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, linear_probe_predict(&made, &f, f.x, 1, p, &error));
    CHECK(strstr(error.message, "instruction path") && p[0] == 7);
    CHECK(linear_probe_measure(&made, &f.data, f.labels, &score, NULL) != MSAE_OK);
}

static void agreement_that_cannot_be(void) {
    static const size_t twice[2] = {2, 2}, many[1] = {N + 1};
    msae_model model;
    linear_probe probe;
    linear_probe_agreement results[KS];
    msae_error error;
    float *x;
    open_model(&model, &probe, &x, MSAE_SIMD_AUTO);
    const msae_data data = msae_data_view(x, MODEL_ROWS, MODEL_D);
    const msae_data narrow = msae_data_view(x, MODEL_ROWS, MODEL_D - 1);
    const msae_data no_rows = msae_data_view(x, 0, MODEL_D);
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 linear_probe_compare(&probe, &model, &narrow, ks, KS, results, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 linear_probe_compare(&probe, &model, &no_rows, ks, KS, results, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_compare(&probe, &model, &data, twice, 2, results, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 linear_probe_compare(&probe, &model, &data, many, 1, results, NULL));
    probe.n_inputs--;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 linear_probe_compare(&probe, &model, &data, ks, KS, results, NULL));
    probe.n_inputs++;
    x[149 * MODEL_D] = -INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 linear_probe_compare(&probe, &model, &data, ks, KS, results, &error));
    CHECK(error.position == 149);
    close_model(&model, &probe, x);
}

static msae_status everything(test_heap *heap) {
    fixture f;
    msae_model model;
    linear_probe fitted, probe;
    linear_probe_score score;
    linear_probe_agreement results[KS];
    float *x;
    linear_probe_desc desc = exact_desc(MSAE_SIMD_AUTO);
    open_fixture(&f);
    open_model(&model, &probe, &x, MSAE_SIMD_AUTO);
    const msae_allocator own = model.allocator;
    const msae_data data = msae_data_view(x, MODEL_ROWS, MODEL_D);
    desc.host.allocator = model.allocator = test_heap_allocator(heap);
    msae_status status = linear_probe_fit(&fitted, &f.data, f.labels, CLASSES, &desc, NULL);
    if (status == MSAE_OK) {
        status = linear_probe_measure(&fitted, &f.data, f.labels, &score, NULL);
    }
    if (status == MSAE_OK) {
        status = linear_probe_compare(&probe, &model, &data, ks, KS, results, NULL);
    }
    linear_probe_free(&fitted);
    model.allocator = own;
    close_model(&model, &probe, x);
    return status;
}

/* Every allocation fails once; nothing leaks. */
static void memory_that_fails(void) {
    for (size_t fail_at = 1;; fail_at++) {
        test_heap heap;
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        const msae_status status = everything(&heap);
        CHECK(heap.bytes == 0);
        if (status == MSAE_OK) {
            CHECK(fail_at > 4);
            break;
        }
        if (!CHECK(status == MSAE_ERROR_MEMORY && fail_at < 20)) break;
    }
}

int main(void) {
    RUN(fits_what_another_solver_finds);
    RUN(published_input);
    RUN(converges_by_default);
    RUN(rows_without_a_class_are_left_out);
    RUN(answers_are_a_softmax);
    RUN(scores_by_hand);
    RUN(agreement_against_the_definition);
    RUN(the_same_for_any_threads);
    RUN(bad_rows_and_labels);
    RUN(no_such_path);
    RUN(agreement_that_cannot_be);
    RUN(memory_that_fails);
    return test_finish();
}
