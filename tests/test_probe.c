/* The linear probe against a solution found elsewhere, and against plain computations in double. */
#include "test.h"

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

static msae_probe_desc exact_desc(msae_simd simd) {
    msae_probe_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.l2 = 1e-2f;
    desc.tolerance = 1e-6f;
    desc.simd = simd;
    return desc;
}

static void check_solution(const msae_probe *probe) {
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
        const msae_probe_desc desc = exact_desc(simd);
        msae_probe probe;
        test_note("%s", msae_simd_name(simd));
        if (!CHECK_STATUS(MSAE_OK,
                          msae_probe_fit(&probe, &f.data, f.labels, CLASSES, &desc, NULL))) {
            continue;
        }
        CHECK(probe.n_inputs == D && probe.n_classes == CLASSES);
        CHECK(probe.iterations > 2 && probe.iterations < 60);
        check_solution(&probe);
        msae_probe_free(&probe);
    }
}

/* Rows without a class, whatever is in them, and rows of any length are as good as the others. */
static void rows_without_a_class_are_left_out(void) {
    enum { MORE = 2 * ROWS };
    fixture f;
    float x[MORE * D];
    uint32_t labels[MORE];
    msae_probe probe;
    msae_probe_score score;
    const msae_probe_desc desc = exact_desc(MSAE_SIMD_AUTO);
    open_fixture(&f);
    for (size_t r = 0; r < MORE; r++) {
        const float scale = r % 8 < 2 ? 1e18f : r % 8 < 4 ? 1e-12f : 1;
        labels[r] = r % 2 ? f.labels[r / 2] : MSAE_NO_CLASS;
        for (size_t i = 0; i < D; i++) {
            x[r * D + i] = r % 2 ? scale * f.x[r / 2 * D + i] : (float)(r * i) - 50;
        }
    }
    memset(x, 0, D * sizeof *x);
    const msae_data data = msae_data_view(x, MORE, D);
    if (!CHECK_STATUS(MSAE_OK, msae_probe_fit(&probe, &data, labels, CLASSES, &desc, NULL))) return;
    check_solution(&probe);
    CHECK_STATUS(MSAE_OK, msae_probe_measure(&probe, &data, labels, &score, NULL));
    CHECK(score.rows == ROWS && fabs(score.accuracy - 0.65) < 1e-12);
    msae_probe_free(&probe);
}

int main(void) {
    RUN(fits_what_another_solver_finds);
    RUN(rows_without_a_class_are_left_out);
    return test_finish();
}
