/* Correlations with an attribute against SciPy, sweeps and ablations against plain computations. */
#include "test.h"

enum { ROWS = 52, N = 8 };

/* A model of as many latents as inputs whose codes are the rows: z = max(x, 0). */
static void open_plain(msae_model *model, msae_simd simd) {
    msae_model_desc desc = test_desc(&test_recipes[0], N, N).model;
    desc.simd = simd;
    CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc, NULL));
    memset(model->encoder, 0, N * N * sizeof *model->encoder);
    memset(model->pre_bias, 0, N * sizeof *model->pre_bias);
    memset(model->latent_bias, 0, N * sizeof *model->latent_bias);
    for (size_t j = 0; j < N; j++) model->encoder[j * N + j] = 1;
}

/* The attribute and a latent's value in row r; rows with 2 are left out. Latent 5 is the same on all
   others, latent 6 never active, latent 7 nearly the attribute. */
static uint8_t group_of(int r) {
    return r % 7 == 3 ? 2 : r % 3 == 0;
}

static int value_of(int r, int j) {
    int value = (r * 13 + j * 29 + r * r * 5 + j * r * r * 3) % 53;
    if (r == 3) return 1000;
    if ((r + j) % 4 == 0) value = 0;
    if (group_of(r) == 1 && j < 3) value += 9 * j;
    if (group_of(r) == 0 && j == 4) value += 20;
    if (j == 5) return 7;
    if (j == 6) return 0;
    return j == 7 ? (group_of(r) == 1 ? 500 : 0) + r % 5 : value;
}

/* latent; r; interval of 0.95; of 0.9; p; log10_p; q; means; shares: pointbiserialr, pearsonr's
   confidence_interval and ttest_ind of SciPy 1.10, log10_p by mpmath with 40 digits, q by hand. */
static const double expected[][13] = {
    {0, 0.209216250715, -0.0898345886984, 0.473661624349, -0.0414311140377, 0.43508983493,
     0.167805078097, -0.775194900742, 0.251707617145, 18, 26.5333333333, 0.733333333333,
     0.733333333333},
    {1, 0.0726317645934, -0.225714351504, 0.358522027697, -0.179094024953, 0.315432092224,
     0.635396462024, -0.196955207714, 0.635396462024, 21.3666666667, 24.2666666667, 0.733333333333,
     1},
    {2, 0.299730044924, 0.00679386351351, 0.545288928337, 0.0553598934552, 0.510221663946,
     0.0454654781204, -1.34231823746, 0.0909309562408, 21.4333333333, 33.3333333333, 0.766666666667,
     1},
    {3, 0.175106600685, -0.124844272509, 0.44573010738, -0.0767253450722, 0.405936558184,
     0.249933130153, -0.602176171688, 0.299919756184, 20.5666666667, 27.4666666667, 0.733333333333,
     0.8},
    {4, -0.532291445335, -0.714230059941, -0.282970412603, -0.689574237963, -0.327058343453,
     0.00016752024307, -3.77593270551, 0.000502560729209, 40.4, 18.7333333333, 1, 0.733333333333},
    {7, 0.999982110453, 0.999967244623, 0.999990229549, 0.999970279903, 0.999989231693,
     3.05939566857e-97, -96.5143643525, 1.83563740114e-96, 2.03333333333, 501.8, 0.8, 1},
};

typedef struct fixture {
    float x[ROWS * N];
    uint8_t attribute[ROWS];
    msae_data data;
} fixture;

static void open_fixture(fixture *f) {
    for (int r = 0; r < ROWS; r++) {
        f->attribute[r] = group_of(r);
        for (int j = 0; j < N; j++) f->x[r * N + j] = (float)value_of(r, j);
    }
    f->data = msae_data_view(f->x, ROWS, N);
}

static int near_to(double got, double want, double relative) {
    return fabs(got - want) <= relative * fabs(want);
}

static void correlations_as_by_scipy(void) {
    fixture f;
    open_fixture(&f);
    FOR_EACH_PATH(simd) {
        msae_model model;
        msae_correlation all[N], wide[N];
        open_plain(&model, simd);
        CHECK_STATUS(MSAE_OK, msae_correlate(&model, &f.data, f.attribute, N, 0, all, NULL));
        CHECK_STATUS(MSAE_OK, msae_correlate(&model, &f.data, f.attribute, 0, 0.9, wide, NULL));
        for (size_t i = 0; i < COUNT(expected); i++) {
            const double *want = expected[i];
            const msae_correlation *c = &all[(size_t)want[0]];
            test_note("latent %g, %s", want[0], msae_simd_name(simd));
            CHECK((double)c->latent == want[0]);
            CHECK(near_to(c->r, want[1], 1e-10));
            CHECK(near_to(c->low, want[2], 1e-9) && near_to(c->high, want[3], 1e-9));
            CHECK(near_to(wide[c->latent].low, want[4], 1e-9));
            CHECK(near_to(wide[c->latent].high, want[5], 1e-9));
            CHECK(near_to(c->p, want[6], 1e-8) && near_to(c->log10_p, want[7], 1e-10));
            CHECK(near_to(c->q, want[8], 1e-8));
            for (int g = 0; g < 2; g++) {
                CHECK(near_to(c->mean[g], want[9 + g], 1e-10));
                CHECK(near_to(c->active[g], want[11 + g], 1e-10));
            }
        }
        for (uint32_t j = 5; j < 7; j++) {
            const msae_correlation *c = &all[j];
            const double value = j == 5 ? 7 : 0;
            CHECK(c->latent == j && test_is_nan(c->r) && test_is_nan(c->low));
            CHECK(test_is_nan(c->high) && test_is_nan(c->p) && test_is_nan(c->log10_p));
            CHECK(test_is_nan(c->q) && c->mean[0] == value && c->mean[1] == value);
        }
        msae_model_free(&model);
    }
}

/* Several tiles of rows; p is far below what a double holds. Expected from mpmath. */
static void correlations_that_are_nearly_one(void) {
    enum { MANY = 4000 };
    float *x = test_floats(MANY * N);
    uint8_t attribute[MANY];
    msae_model model;
    msae_correlation c[N];
    open_plain(&model, MSAE_SIMD_AUTO);
    for (size_t r = 0; r < MANY; r++) {
        attribute[r] = r % 4 == 1;
        for (size_t j = 0; j < N; j++) x[r * N + j] = (float)((r % 4 == 1 ? 1000 : 0) + r % 7);
        x[r * N + 1] = r % 4 == 1 ? 0 : 3;
    }
    const msae_data data = msae_data_view(x, MANY, N);
    CHECK_STATUS(MSAE_OK, msae_correlate(&model, &data, attribute, N, 0, c, NULL));
    CHECK(near_to(c[0].r, 0.99998933219115185, 1e-13));
    CHECK(fabs(c[0].log10_p - -9339.02229811326) < 1e-4);
    CHECK(c[0].p == 0 && c[0].q == 0 && c[0].low < c[0].r && c[0].r < c[0].high);
    CHECK(near_to(c[1].r, -1, 1e-14) && c[1].p == 0 && c[1].q == 0 && c[1].log10_p < -20000);
    CHECK(fabs(c[1].low + 1) < 1e-12 && fabs(c[1].high + 1) < 1e-12);
    msae_model_free(&model);
    free(x);
}

/* ln I_x(a, b) by mpmath with 40 digits. */
static void the_incomplete_beta_function(void) {
    static const double table[][4] = {
        {0.5, 0.5, 0.3, -0.9969312110207781},
        {2, 3, 0.7, -0.08741145701096954},
        {17.5, 0.5, 0.875, -3.447596395878086},
        {17.5, 0.5, 0.998046875, -0.2293155693212353},
        {0.5, 40, 0.03125, -0.1189161792752472},
        {300, 200, 0.625, -0.135221115624471},
        {300, 200, 0.5, -12.55040118823538},
        {5000, 0.5, 0.9990234375, -6.334567275836773},
        {24000, 0.5, 0.5, -16640.80105538571},
        {24000, 0.5, 0.9999847412109375, -0.9362384996841587},
        {1000000, 0.5, 0.9999990463256836, -1.788217591265679},
        {5, 0.5, 2.409919865102884e-181, -2080.843584397924},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        const double *t = table[i], got = msae__log_beta(t[0], t[1], t[2], 1 - t[2]);
        test_note("I_%g(%g, %g): %.15g", t[2], t[0], t[1], got);
        /* Gamma of a million is e^12815504: its logarithm has an error of 2e-9. */
        CHECK(fabs(got - t[3]) < 1e-11 * fabs(t[3]) + (t[0] < 1e3 ? 1e-13 : 1e-8));
    }
    CHECK(msae__log_beta(3, 0.5, 1, 0) == 0 && msae__log_beta(3, 0.5, 0, 1) < -1e300);
}

int main(void) {
    RUN(correlations_as_by_scipy);
    RUN(correlations_that_are_nearly_one);
    RUN(the_incomplete_beta_function);
    return test_finish();
}
