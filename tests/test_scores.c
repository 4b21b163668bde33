/* Scores of latents against their definitions: all pairs of rows, all pairs of latents. */
#include "test.h"

enum { D = 9, WIDE = 14, N = 45, ROWS = 1400, K = 5, DEAD = 11, BAD_ROW = 1231 };

typedef struct fixture {
    float *x, *other, *z; /* [ROWS][D], [ROWS][WIDE], [ROWS][N] */
    msae_data data, by;
    msae_source source, by_source;
    msae_model model;
} fixture;

static void encode_fixture(fixture *f, size_t k) {
    void *workspace = test_alloc(msae_workspace_bytes(&f->model, ROWS));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&f->model, workspace, f->x, ROWS, k, f->z, NULL));
    free(workspace);
}

static void open_fixture(fixture *f, msae_simd simd, msae_activation activation) {
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    f->x = test_random_floats(8, ROWS * D, 1);
    f->other = test_random_floats(14, ROWS * WIDE, 1);
    f->z = test_floats(ROWS * N);
    for (size_t i = 0; i < ROWS * D; i++) f->x[i] += 0.5f;
    for (size_t i = 0; i < ROWS * WIDE; i++) f->other[i] += 0.1f;
    for (size_t i = 0; i < D; i++) f->x[70 * D + i] *= 1000; /* one weight above all others */
    memset(f->other + 3 * WIDE, 0, WIDE * sizeof *f->other); /* and a row without a direction */
    f->data = msae_data_view(f->x, ROWS, D);
    f->by = msae_data_view(f->other, ROWS, WIDE);
    f->source = msae_source_data(&f->data);
    f->by_source = msae_source_data(&f->by);
    desc.model.host.simd = simd;
    desc.model.activation = activation;
    CHECK_STATUS(MSAE_OK, msae_model_init(&f->model, &desc.model, NULL));
    test_randomize(&f->model, 3);
    f->model.latent_bias[DEAD] = activation == MSAE_ACTIVATION_RELU ? -100000.0f : 0;
    memset(f->model.decoder + 7 * D, 0, D * sizeof(float));
    encode_fixture(f, K);
}

static void close_fixture(fixture *f) {
    msae_model_free(&f->model);
    free(f->x);
    free(f->other);
    free(f->z);
}

/* ---------------------------------------------------------------------------------------------
   The slow way
   ------------------------------------------------------------------------------------------ */

static double cosine_of(const float *a, const float *b, size_t d) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < d; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static double weight_of(const fixture *f, size_t row, size_t latent) {
    return latent < N ? fabs((double)f->z[row * N + latent]) : 1; /* N: of the set */
}

/* sum w_r w_s cos(r, s) / sum w_r w_s over pairs of different rows that have a direction. */
static double mean_cosine(const fixture *f, const float *rows, size_t d, size_t latent) {
    static size_t list[ROWS];
    double sum = 0, weights = 0;
    size_t count = 0;
    for (size_t r = 0; r < ROWS; r++) {
        if (weight_of(f, r, latent) > 0 && test_norm(rows + r * d, d) > 0) list[count++] = r;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            const double w = weight_of(f, list[i], latent) * weight_of(f, list[j], latent);
            sum += w * cosine_of(rows + list[i] * d, rows + list[j] * d, d);
            weights += w;
        }
    }
    return count > 1 ? sum / weights : (double)NAN;
}

static size_t shared_rows(const fixture *f, size_t j, size_t p) {
    size_t count = 0;
    for (size_t r = 0; r < ROWS; r++) count += f->z[r * N + j] != 0 && f->z[r * N + p] != 0;
    return count;
}

/* The best of the other latents must be as good as any. */
static void check_neighbours(const fixture *f, const msae_score *scores, size_t j) {
    const msae_score *score = &scores[j];
    double cosine = -2, overlap = 0;
    for (size_t p = 0; p < N; p++) {
        const float *a = f->model.decoder + j * D, *b = f->model.decoder + p * D;
        const size_t both = shared_rows(f, j, p), own = shared_rows(f, p, p);
        const double near = test_norm(a, D) > 0 && test_norm(b, D) > 0 ? cosine_of(a, b, D) : 0;
        const double share = both ? (double)both / (double)(score->rows + own - both) : 0;
        if (p == j || own == 0) continue;
        if (near > cosine) cosine = near;
        if (share > overlap) overlap = share;
        if (p == score->nearest) CHECK(fabs(near - score->cosine) < 1e-6);
        if (p == score->companion) CHECK(fabs(share - score->overlap) < 1e-12);
    }
    CHECK(score->nearest < N && fabs(cosine - score->cosine) < 1e-6);
    CHECK(score->companion < N && fabs(overlap - score->overlap) < 1e-12);
}

static void check_scores(const fixture *f, const float *rows, size_t d, const msae_score *scores,
                         double set_cosine) {
    const double all = mean_cosine(f, rows, d, N);
    CHECK(fabs(set_cosine - all) < 1e-6);
    for (size_t j = 0; j < N; j++) {
        const msae_score *score = &scores[j];
        const size_t active = shared_rows(f, j, j);
        double sum = 0, largest = 0;
        test_note("latent %zu", j);
        for (size_t r = 0; r < ROWS; r++) {
            sum += weight_of(f, r, j);
            if (weight_of(f, r, j) > largest) largest = weight_of(f, r, j);
        }
        CHECK(score->rows == active && fabs(score->frequency - (double)active / ROWS) < 1e-12);
        if (active == 0) {
            CHECK(test_is_nan(score->typical) && test_is_nan(score->largest));
            CHECK(test_is_nan(score->monosemanticity) && test_is_nan(score->cosine));
            CHECK(test_is_nan(score->overlap));
            CHECK(score->nearest == MSAE_NO_LATENT && score->companion == MSAE_NO_LATENT);
            continue;
        }
        CHECK(fabs(score->typical - sum / (double)active) < 1e-9 * sum);
        CHECK(score->largest == largest);
        CHECK(fabs(score->monosemanticity - (mean_cosine(f, rows, d, j) - all)) < 1e-5);
        check_neighbours(f, scores, j);
    }
}

/* ---------------------------------------------------------------------------------------------
   Cases
   ------------------------------------------------------------------------------------------ */

static void as_defined(void) {
    FOR_EACH_PATH(simd) {
        fixture f;
        msae_score scores[N];
        msae_score_desc desc;
        double set_cosine = 0;
        memset(&desc, 0, sizeof desc);
        desc.k = K;
        open_fixture(&f, simd, MSAE_ACTIVATION_RELU);
        CHECK_STATUS(MSAE_OK,
                     msae_score_latents(&f.model, &f.source, &desc, scores, &set_cosine, NULL));
        CHECK(scores[DEAD].rows == 0);
        check_scores(&f, f.x, D, scores, set_cosine);
        desc.by = &f.by_source;
        CHECK_STATUS(MSAE_OK,
                     msae_score_latents(&f.model, &f.source, &desc, scores, &set_cosine, NULL));
        check_scores(&f, f.other, WIDE, scores, set_cosine);
        close_fixture(&f);
    }
}

/* Values below zero weigh by their size. */
static void negative_values(void) {
    fixture f;
    msae_score scores[N];
    double set_cosine = 0;
    size_t negative = 0;
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_IDENTITY);
    msae_score_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.k = N;
    encode_fixture(&f, N);
    for (size_t i = 0; i < ROWS * N; i++) negative += f.z[i] < 0;
    CHECK(negative > 0);
    CHECK_STATUS(MSAE_OK,
                 msae_score_latents(&f.model, &f.source, &desc, scores, &set_cosine, NULL));
    check_scores(&f, f.x, D, scores, set_cosine);
    close_fixture(&f);
}

static void run_backwards(void *user, size_t tasks, msae_task task, void *context) {
    const size_t workers = *(const size_t *)user;
    while (tasks-- > 0) task(context, tasks, tasks % workers);
}

static void the_same_for_any_threads(void) {
    fixture f;
    msae_score alone[N], scores[N];
    msae_score_desc desc;
    memset(&desc, 0, sizeof desc);
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_RELU);
    desc.by = &f.by_source;
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, alone, NULL, NULL));
    for (size_t workers = 2; workers < 8; workers += 3) {
        f.model.parallel.parallel_for = run_backwards;
        f.model.parallel.user = &workers;
        f.model.parallel.workers = workers;
        CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, scores, NULL, NULL));
        CHECK(memcmp(alone, scores, sizeof scores) == 0);
    }
    close_fixture(&f);
}

/* Rows that are left out, on either side, are as if they were not there, but for what another
   number of rows in a tile makes of the last bits of codes. */
static void rows_that_are_left_out(void) {
    fixture f;
    msae_score all[N], only[N];
    msae_score_desc desc;
    double all_cosine = 0, only_cosine = 1;
    size_t used = 0;
    memset(&desc, 0, sizeof desc);
    desc.k = K;
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_RELU);
    desc.by = &f.by_source;
    for (size_t r = 5; r < ROWS; r += 97) f.x[r * D + r % D] = INFINITY;
    for (size_t r = 9; r < ROWS; r += 131) f.other[r * WIDE + r % WIDE] = NAN;
    desc.skip_bad = 1;
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, all, &all_cosine, NULL));
    desc.skip_bad = 0;
    f.by.skip_bad = 1;
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, only, &only_cosine, NULL));
    CHECK(all_cosine == only_cosine && memcmp(all, only, sizeof all) == 0);
    for (size_t r = 0; r < ROWS; r++) {
        const float *x = f.x + r * D, *other = f.other + r * WIDE;
        int bad = 0;
        for (size_t i = 0; i < D; i++) bad |= !test_is_finite((double)x[i]);
        for (size_t i = 0; i < WIDE; i++) bad |= !test_is_finite((double)other[i]);
        if (bad) continue;
        memmove(f.x + used * D, x, D * sizeof *x);
        memmove(f.other + used++ * WIDE, other, WIDE * sizeof *other);
    }
    CHECK(used < ROWS);
    f.data.rows = f.by.rows = used;
    f.source = msae_source_data(&f.data);
    f.by_source = msae_source_data(&f.by);
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, only, &only_cosine, NULL));
    CHECK(fabs(all_cosine - only_cosine) < 1e-9);
    for (size_t j = 0; j < N; j++) {
        CHECK(all[j].rows == only[j].rows && all[j].companion == only[j].companion);
        CHECK(all[j].nearest == only[j].nearest);
        if (all[j].rows == 0) continue;
        CHECK(fabs(all[j].monosemanticity - only[j].monosemanticity) < 1e-6);
        CHECK(fabs(all[j].typical - only[j].typical) < 1e-5 * all[j].typical);
    }
    close_fixture(&f);
}

/* A source of no matrix in memory, which fails from some row on. */
typedef struct lender {
    const float *x;
    uint64_t fails_at;
} lender;

static msae_status lend(void *user, uint64_t first, size_t rows, float *out, msae_error *error) {
    const lender *from = (const lender *)user;
    if (first + rows > from->fails_at) {
        error->code = MSAE_ERROR_IO;
        error->position = first;
        return MSAE_ERROR_IO;
    }
    memcpy(out, from->x + (size_t)first * D, rows * D * sizeof *out);
    return MSAE_OK;
}

static void any_source(void) {
    fixture f;
    msae_score want[N], scores[N];
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_RELU);
    lender from = {f.x, ROWS};
    const msae_source source = {ROWS, D, lend, &from, NULL};
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, NULL, want, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &source, NULL, scores, NULL, NULL));
    CHECK(memcmp(want, scores, sizeof want) == 0);
    from.fails_at = ROWS - 1;
    CHECK_STATUS(MSAE_ERROR_IO, msae_score_latents(&f.model, &source, NULL, scores, NULL, NULL));
    from.fails_at = ROWS;
    f.x[BAD_ROW * D] = NAN;
    msae_error error;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_score_latents(&f.model, &source, NULL, scores, NULL, &error));
    CHECK(error.position == BAD_ROW);
    close_fixture(&f);
}

/* What there is too little of has no value; no value is NaN and not a guess. */
static void little_to_say(void) {
    fixture f;
    msae_score scores[N];
    msae_score_desc desc;
    double set_cosine = 0;
    memset(&desc, 0, sizeof desc);
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_RELU);
    f.data.rows = f.by.rows = 1;
    f.source = msae_source_data(&f.data);
    f.by_source = msae_source_data(&f.by);
    desc.k = 1;
    CHECK_STATUS(MSAE_OK,
                 msae_score_latents(&f.model, &f.source, &desc, scores, &set_cosine, NULL));
    CHECK(test_is_nan(set_cosine));
    for (size_t j = 0; j < N; j++) {
        CHECK(test_is_nan(scores[j].monosemanticity) && scores[j].nearest == MSAE_NO_LATENT);
        CHECK(scores[j].companion == MSAE_NO_LATENT && scores[j].rows <= 1);
    }
    /* no row of `by` has a direction */
    f.data.rows = f.by.rows = ROWS;
    f.source = msae_source_data(&f.data);
    f.by_source = msae_source_data(&f.by);
    memset(f.other, 0, ROWS * WIDE * sizeof *f.other);
    desc.k = K;
    desc.by = &f.by_source;
    desc.no_companions = 1;
    CHECK_STATUS(MSAE_OK,
                 msae_score_latents(&f.model, &f.source, &desc, scores, &set_cosine, NULL));
    CHECK(test_is_nan(set_cosine));
    for (size_t j = 0; j < N; j++) {
        CHECK(test_is_nan(scores[j].monosemanticity) && test_is_nan(scores[j].overlap));
        CHECK(scores[j].companion == MSAE_NO_LATENT);
        CHECK(scores[j].rows == 0 || scores[j].nearest < N);
    }
    close_fixture(&f);
}

/* No more memory than the comment of the function says, and none that stays. */
static void memory_as_stated(void) {
    for (int companions = 0; companions < 2; companions++) {
        fixture f;
        test_heap heap;
        msae_score scores[N];
        msae_score_desc desc;
        const size_t stated = 8 * N * WIDE + 4 * N * D + (companions ? 2 * N * N : 0) + 1024 * N +
                              ROWS * 4 * (D + WIDE);
        memset(&desc, 0, sizeof desc);
        memset(&heap, 0, sizeof heap);
        open_fixture(&f, MSAE_SIMD_SCALAR, MSAE_ACTIVATION_RELU);
        desc.by = &f.by_source;
        desc.k = N; /* 24 bytes a code: below 6 MB */
        desc.no_companions = !companions;
        const msae_allocator own = f.model.allocator;
        f.model.allocator = test_heap_allocator(&heap);
        CHECK_STATUS(MSAE_OK, msae_score_latents(&f.model, &f.source, &desc, scores, NULL, NULL));
        f.model.allocator = own;
        test_note("%zu bytes of %zu", heap.most, stated + 1024 * 24 * N);
        CHECK(heap.bytes == 0 && heap.most <= stated + 1024 * 24 * N + ((size_t)200 << 10));
        close_fixture(&f);
    }
}

static void what_cannot_be_scored(void) {
    fixture f;
    msae_score scores[N];
    msae_score_desc desc;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    open_fixture(&f, MSAE_SIMD_AUTO, MSAE_ACTIVATION_RELU);
    desc.k = N + 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_score_latents(&f.model, &f.source, &desc, scores, NULL, NULL));
    desc.k = K;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_score_latents(&f.model, &f.by_source, &desc, scores, NULL, NULL));
    msae_source other = f.by_source;
    desc.by = &other;
    other.rows = ROWS - 1;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_score_latents(&f.model, &f.source, &desc, scores, NULL, &error));
    CHECK(strcmp(error.message, "the other embeddings have 1399 rows, not as many as the data") ==
          0);
    other = f.by_source;
    f.other[BAD_ROW * WIDE + 2] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_score_latents(&f.model, &f.source, &desc, scores, NULL, &error));
    CHECK(error.position == BAD_ROW);
    CHECK(strcmp(error.message, "row 1231 of the other embeddings has a NaN or Inf") == 0);
    desc.by = NULL;
    other = f.source;
    other.rows = UINT32_MAX;
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_score_latents(&f.model, &other, &desc, scores, NULL, NULL));
    other.rows = 0;
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_score_latents(&f.model, &other, &desc, scores, NULL, NULL));
    for (size_t i = 0; i < ROWS; i++) f.x[i * D] = NAN;
    desc.skip_bad = 1;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_score_latents(&f.model, &f.source, &desc, scores, NULL, NULL));
    f.model.weights = MSAE_F16;
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED,
                 msae_score_latents(&f.model, &f.source, &desc, scores, NULL, NULL));
    f.model.weights = MSAE_F32;
    close_fixture(&f);
}

int main(void) {
    RUN(as_defined);
    RUN(negative_values);
    RUN(the_same_for_any_threads);
    RUN(rows_that_are_left_out);
    RUN(any_source);
    RUN(little_to_say);
    RUN(memory_as_stated);
    RUN(what_cannot_be_scored);
    return test_finish();
}
