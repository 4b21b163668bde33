/* Correlations with an attribute against SciPy, sweeps and ablations against plain computations. */
#include "test.h"

#include "audits.h"

enum { ROWS = 52, N = 8 };

/* A model of as many latents as inputs whose codes are the rows: z = max(x, 0). */
static void open_plain(msae_model *model, msae_simd simd) {
    msae_model_desc desc = test_desc(&test_recipes[0], N, N).model;
    desc.host.simd = simd;
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
        attribute_correlation all[N], wide[N], own[N];
        open_plain(&model, simd);
        CHECK(model.k > 0 && model.k < N);
        CHECK_STATUS(MSAE_OK, test_correlate(&model, &f.data, f.attribute, model.k, 0, all, NULL));
        CHECK_STATUS(MSAE_OK, test_correlate(&model, &f.data, f.attribute, 0, 0, own, NULL));
        for (size_t j = 0; j < N; j++) CHECK(all[j].mean[1] == own[j].mean[1]);
        CHECK_STATUS(MSAE_OK, test_correlate(&model, &f.data, f.attribute, N, 0, all, NULL));
        CHECK_STATUS(MSAE_OK, test_correlate(&model, &f.data, f.attribute, N, 0.9, wide, NULL));
        for (size_t i = 0; i < COUNT(expected); i++) {
            const double *want = expected[i];
            const attribute_correlation *c = &all[(size_t)want[0]];
            test_note("latent %g, %s", want[0], msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
            CHECK((double)c->latent == want[0]);
            CHECK(near_to(c->r, want[1], 1e-10));
            CHECK(near_to(c->low, want[2], 1e-9) && near_to(c->high, want[3], 1e-9));
            CHECK(near_to(wide[c->latent].low, want[4], 1e-9));
            CHECK(near_to(wide[c->latent].high, want[5], 1e-9));
            CHECK(near_to(c->p, want[6], 1e-8) && near_to(c->log10_p, want[7], 1e-10));
            CHECK(near_to(c->q, want[8], 1e-8));
            for (int g = 0; g < 2; g++) {
                CHECK(near_to(c->mean[g], want[9 + g], 1e-10));
                CHECK(near_to(c->frequency[g], want[11 + g], 1e-10));
            }
        }
        for (uint32_t j = 5; j < 7; j++) {
            const attribute_correlation *c = &all[j];
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
    attribute_correlation c[N];
    open_plain(&model, MSAE_SIMD_AUTO);
    for (size_t r = 0; r < MANY; r++) {
        attribute[r] = r % 4 == 1;
        for (size_t j = 0; j < N; j++) x[r * N + j] = (float)((r % 4 == 1 ? 1000 : 0) + r % 7);
        x[r * N + 1] = r % 4 == 1 ? 0 : 3;
    }
    const msae_data data = msae_data_view(x, MANY, N);
    CHECK_STATUS(MSAE_OK, test_correlate(&model, &data, attribute, N, 0, c, NULL));
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
        const double *t = table[i], got = attribute_log_beta(t[0], t[1], t[2], 1 - t[2]);
        test_note("I_%g(%g, %g): %.15g", t[2], t[0], t[1], got);
        /* Gamma of a million is e^12815504: its logarithm has an error of 2e-9. */
        CHECK(fabs(got - t[3]) < 1e-11 * fabs(t[3]) + (t[0] < 1e3 ? 1e-13 : 1e-8));
    }
    CHECK(attribute_log_beta(3, 0.5, 1, 0) == 0 && attribute_log_beta(3, 0.5, 0, 1) < -1e300);
}

/* ---------------------------------------------------------------------------------------------
   Sweeps and ablations
   ------------------------------------------------------------------------------------------ */

enum { D = 11, LATENTS = 40, CASES = 150, CLASSES = 3, K = 6, STEPS = 4 };

typedef struct effects {
    msae_model model;
    linear_probe probe;
    float *x, bias[CLASSES];
    uint8_t attribute[CASES];
    msae_data data;
} effects;

static void open_effects(effects *e, const test_recipe *recipe, msae_simd simd) {
    msae_model_desc desc = test_desc(recipe, D, LATENTS).model;
    desc.host.simd = simd;
    CHECK_STATUS(MSAE_OK, msae_model_init(&e->model, &desc, NULL));
    test_randomize(&e->model, 3);
    e->model.scale = 1.5f;
    for (size_t i = 0; i < D; i++) e->model.mean[i] = 0.1f * (float)i - 0.5f;
    e->x = test_random_floats(41, CASES * D, 1);
    for (size_t r = 0; r < CASES; r++) e->attribute[r] = (uint8_t)(r * 7 % 5 % 3);
    e->data = msae_data_view(e->x, CASES, D);
    memset(&e->probe, 0, sizeof e->probe);
    memset(e->bias, 0, sizeof e->bias);
    e->bias[1] = 0.3f;
    e->probe.n_inputs = D;
    e->probe.n_classes = CLASSES;
    e->probe.weights = test_random_floats(42, CLASSES * D, 3);
    e->probe.bias = e->bias;
    e->probe.host.simd = e->model.simd;
}

static void close_effects(effects *e) {
    msae_model_free(&e->model);
    free(e->probe.weights);
    free(e->x);
}

static size_t largest(const float *p) {
    size_t best = 0;
    for (size_t c = 1; c < CLASSES; c++) best = p[c] > p[best] ? c : best;
    return best;
}

/* p [CLASSES] of row r with the value of a latent set; 1: it was active. */
static int answer_with(const effects *e, const msae_code *codes, size_t count, size_t r,
                       uint32_t latent, float value, float *p) {
    msae_code changed[K + 1];
    float moments[2], raw[D];
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (codes[i].latent != latent) changed[kept++] = codes[i];
    }
    changed[kept].latent = latent;
    changed[kept].value = value;
    msae_row_moments(&e->model, e->x + r * D, moments);
    msae_decode(&e->model, changed, kept + 1, moments, raw);
    test_predict(&e->probe, raw, 1, p);
    return kept < count;
}

static void check_sweep(const effects *e, const msae_code *codes, const size_t *counts,
                        uint32_t latent, size_t class_index) {
    static const float values[STEPS] = {0, 0.7f, -0.4f, 3};
    double want[STEPS][3] = {{0}}, rows[3] = {0};
    attribute_point points[STEPS], of_all[STEPS];
    for (size_t r = 0; r < CASES; r++) {
        for (size_t s = 0; s < STEPS; s++) {
            float p[CLASSES];
            answer_with(e, codes + r * K, counts[r], r, latent, values[s], p);
            want[s][e->attribute[r]] += (double)p[class_index];
        }
        rows[e->attribute[r]]++;
    }
    CHECK_STATUS(MSAE_OK, test_sweep(test_audit_by(&e->probe, class_index, &e->model, &e->data,
                                                   e->attribute, K),
                                     latent, values, STEPS, points, NULL));
    CHECK_STATUS(MSAE_OK,
                 test_sweep(test_audit_by(&e->probe, class_index, &e->model, &e->data, NULL, K),
                            latent, values, STEPS, of_all, NULL));
    for (size_t s = 0; s < STEPS; s++) {
        const double mean = (want[s][0] + want[s][1] + want[s][2]) / CASES;
        CHECK(test_same(&points[s].value, &values[s], 1));
        CHECK(fabs(points[s].probability - mean) < 1e-5);
        CHECK(of_all[s].probability == points[s].probability);
        for (int g = 0; g < 2; g++) {
            CHECK(rows[g] > 0 && fabs(points[s].of_group[g] - want[s][g] / rows[g]) < 1e-5);
            CHECK(test_is_nan(of_all[s].of_group[g]));
        }
    }
}

static size_t check_ablations(const effects *e, const msae_code *codes, const size_t *counts,
                              size_t class_index) {
    uint32_t latents[LATENTS];
    attribute_ablation results[LATENTS];
    size_t flipped = 0;
    for (uint32_t i = 0; i < LATENTS; i++) latents[i] = LATENTS - 1 - i;
    CHECK_STATUS(MSAE_OK,
                 test_ablate(test_audit_by(&e->probe, class_index, &e->model, &e->data, NULL, K),
                             latents, LATENTS, results, NULL));
    for (uint32_t i = 0; i < LATENTS; i++) {
        attribute_ablation want = {latents[i], 0, 0, 0, 0};
        for (size_t r = 0; r < CASES; r++) {
            const msae_code *row = codes + r * K;
            float p[CLASSES];
            size_t before, after;
            answer_with(e, row, counts[r], r, LATENTS, 0, p); /* ignored */
            before = largest(p);
            want.active += (size_t)answer_with(e, row, counts[r], r, latents[i], 0, p);
            after = largest(p);
            want.flips += after != before;
            want.gained += after != before && after == class_index;
            want.lost += after != before && before == class_index;
        }
        test_note("latent %u, class %zu", (unsigned)latents[i], class_index);
        CHECK(results[i].latent == want.latent && results[i].active == want.active);
        CHECK(results[i].flips == want.flips);
        CHECK(results[i].gained == want.gained && results[i].lost == want.lost);
        flipped += results[i].gained + results[i].lost;
    }
    return flipped;
}

static void effects_against_the_slow_way(void) {
    FOR_EACH_RECIPE(recipe) {
        FOR_EACH_PATH(simd) {
            effects e;
            msae_code codes[CASES * K];
            size_t counts[CASES], active = 0;
            open_effects(&e, recipe, simd);
            void *workspace = test_alloc(msae_workspace_bytes(&e.model, CASES));
            CHECK_STATUS(MSAE_OK, msae_encode_rows(&e.model, workspace, e.x, CASES, K,
                                                   &(msae_rows){codes, counts, K}, NULL));
            free(workspace);
            for (size_t r = 0; r < CASES; r++) active += counts[r];
            CHECK(active > CASES);
            for (uint32_t latent = 0; latent < LATENTS; latent += 13) {
                test_note("latent %u, %s, %s", (unsigned)latent, recipe->name,
                          msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                check_sweep(&e, codes, counts, latent, latent % CLASSES);
            }
            CHECK(check_ablations(&e, codes, counts, 0) > 10);
            CHECK(check_ablations(&e, codes, counts, 2) > 10);
            close_effects(&e);
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Workers, memory, bad input
   ------------------------------------------------------------------------------------------ */

enum { ASKED = 5 };
static const uint32_t asked[ASKED] = {0, 3, 7, 3, 39};
static const float set_to[STEPS] = {0, 1, 2, 3};

typedef struct answers {
    attribute_correlation correlations[LATENTS];
    attribute_point points[STEPS];
    attribute_ablation ablations[ASKED];
} answers;

static msae_status ask(const effects *e, answers *a) {
    msae_status status =
        test_correlate(&e->model, &e->data, e->attribute, K, 0, a->correlations, NULL);
    if (status != MSAE_OK) return status;
    status = test_sweep(test_audit_by(&e->probe, 1, &e->model, &e->data, e->attribute, K), 3,
                        set_to, STEPS, a->points, NULL);
    if (status != MSAE_OK) return status;
    return test_ablate(test_audit_by(&e->probe, 1, &e->model, &e->data, NULL, K), asked, ASKED,
                       a->ablations, NULL);
}

static void the_same_for_any_threads(void) {
    static answers one, three;
    effects e;
    msae_pool *pool;
    open_effects(&e, &test_recipes[0], MSAE_SIMD_AUTO);
    CHECK_STATUS(MSAE_OK, ask(&e, &one));
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL))) return;
    e.model.parallel = e.probe.host.parallel = msae_pool_parallel(pool);
    CHECK_STATUS(MSAE_OK, ask(&e, &three));
    CHECK(memcmp(one.points, three.points, sizeof one.points) == 0);
    CHECK(memcmp(one.ablations, three.ablations, sizeof one.ablations) == 0);
    CHECK(memcmp(&one.ablations[1], &one.ablations[3], sizeof one.ablations[1]) == 0);
    for (size_t j = 0; j < LATENTS; j++) {
        const attribute_correlation *a = &one.correlations[j], *b = &three.correlations[j];
        CHECK(a->latent == b->latent);
        CHECK(memcmp(&a->r, &b->r, sizeof *a - offsetof(attribute_correlation, r)) == 0);
    }
    msae_pool_free(pool);
    close_effects(&e);
}

/* Every allocation fails once; nothing leaks. */
static void memory_that_fails(void) {
    static answers a;
    effects e;
    open_effects(&e, &test_recipes[0], MSAE_SIMD_AUTO);
    const msae_allocator own = e.model.allocator;
    for (size_t fail_at = 1;; fail_at++) {
        test_heap heap;
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        e.model.allocator = test_heap_allocator(&heap);
        const msae_status status = ask(&e, &a);
        CHECK(heap.bytes == 0);
        if (status == MSAE_OK) {
            CHECK(fail_at > 3);
            break;
        }
        if (!CHECK(status == MSAE_ERROR_MEMORY && fail_at < 20)) break;
    }
    e.model.allocator = own;
    close_effects(&e);
}

static void attributes_that_cannot_serve(void) {
    fixture f;
    msae_model model;
    attribute_correlation all[N];
    msae_error error;
    open_fixture(&f);
    open_plain(&model, MSAE_SIMD_AUTO);
    const msae_data narrow = msae_data_view(f.x, ROWS, N - 1), few = msae_data_view(f.x, 4, N);
    for (uint8_t value = 0; value < 3; value++) {
        uint8_t constant[ROWS];
        memset(constant, value, sizeof constant);
        constant[9] = 2;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     test_correlate(&model, &f.data, constant, N, 0, all, &error));
        CHECK(strstr(error.message, "the same on all rows"));
    }
    /* Rows 0 .. 2 and 3, which is left out: a p, but no interval. */
    CHECK_STATUS(MSAE_OK, test_correlate(&model, &few, f.attribute, N, 0, all, NULL));
    CHECK(test_is_finite(all[0].p) && test_is_nan(all[0].low) && test_is_nan(all[0].high));
    f.attribute[2] = 2;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, test_correlate(&model, &few, f.attribute, N, 0, all, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE, test_correlate(&model, &narrow, f.attribute, N, 0, all, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_correlate(&model, &f.data, f.attribute, N + 1, 0, all, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_correlate(&model, &f.data, f.attribute, N, 1, all, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_correlate(&model, &f.data, f.attribute, N, -0.5, all, NULL));
    f.x[50 * N] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_correlate(&model, &f.data, f.attribute, N, 0, all, &error));
    CHECK(error.position == 50);
    msae_model_free(&model);
}

static void effects_that_cannot_be(void) {
    static const uint32_t beyond[3] = {1, 2, LATENTS};
    static const float values[STEPS] = {0, 1, 3e38f, INFINITY};
    effects e;
    attribute_point points[STEPS];
    attribute_ablation results[3];
    msae_error error;
    open_effects(&e, &test_recipes[0], MSAE_SIMD_AUTO);
    const msae_data narrow = msae_data_view(e.x, CASES, D - 1), empty = msae_data_view(e.x, 0, D);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, K), beyond, 3,
                             results, &error));
    CHECK(error.position == 2 && strstr(error.message, "no latent 40"));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_sweep(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, K), LATENTS, values,
                            2, points, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_sweep(test_audit_by(&e.probe, CLASSES, &e.model, &e.data, NULL, K), 1, values,
                            2, points, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, LATENTS + 1),
                             asked, 3, results, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &narrow, NULL, K), asked, 3,
                             results, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &empty, NULL, K), asked, 3,
                             results, NULL));
    e.probe.n_inputs--;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, K), asked, 3,
                             results, NULL));
    e.probe.n_inputs++;
    e.model.decoder[D] = 10; /* of latent 1 */
    for (size_t first = 0; first < 4; first++) {
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     test_sweep(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, K), 1,
                                values + first, STEPS - first, points, &error));
        CHECK(error.position == (first < 2 ? 2 - first : 0));
    }
    e.x[100 * D] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_ablate(test_audit_by(&e.probe, 0, &e.model, &e.data, NULL, K), asked, 3,
                             results, &error));
    CHECK(error.position == 100);
    close_effects(&e);
}

int main(void) {
    RUN(correlations_as_by_scipy);
    RUN(correlations_that_are_nearly_one);
    RUN(the_incomplete_beta_function);
    RUN(effects_against_the_slow_way);
    RUN(the_same_for_any_threads);
    RUN(memory_that_fails);
    RUN(attributes_that_cannot_serve);
    RUN(effects_that_cannot_be);
    return test_finish();
}
