/* Strongest rows, sparse indices, nearest rows, edits and steering against plain computations. */
#include "test.h"

/* More rows than two tiles have; where there is a bad one, it is in the last. */
enum { D = 9, N = 50, ROWS = 133, BAD_ROW = 131 };

static int open_model(msae_model *model, const test_recipe *recipe, const float *x) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_data data = msae_data_view(x, ROWS, D);
    test_note("%s", recipe->name);
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL))) return 0;
    test_randomize(model, 3);
    CHECK_STATUS(MSAE_OK, msae_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, model->mean,
                                               &model->scale, NULL));
    return 1;
}

/* Embeddings away from the origin; every third row is there twice, so that there are ties. */
static float *raw_rows(void) {
    float *x = test_random_floats(8, ROWS * D, 1);
    for (size_t i = 0; i < ROWS * D; i++) x[i] += 0.5f;
    for (size_t r = 0; r + 1 < ROWS; r += 3) {
        memcpy(x + (r + 1) * D, x + r * D, D * sizeof *x);
    }
    return x;
}

/* Dense codes [ROWS, N]. */
static float *dense_codes(const msae_model *model, const float *x, size_t k) {
    float *z = test_floats(ROWS * N);
    void *workspace = test_alloc(msae_workspace_bytes(model, ROWS));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(model, workspace, x, ROWS, k, z, NULL));
    free(workspace);
    return z;
}

/* Tasks in descending order, each with the worker that comes next: what a pool may do. */
static void backwards(void *user, size_t tasks, msae_task task, void *context) {
    const size_t workers = *(const size_t *)user;
    while (tasks-- > 0) task(context, tasks, tasks % workers);
}

static msae_parallel backwards_with(size_t *workers) {
    msae_parallel parallel = {backwards, workers, *workers};
    return parallel;
}

/* ---------------------------------------------------------------------------------------------
   Strongest rows
   ------------------------------------------------------------------------------------------ */

/* Row numbers sorted by the scores, descending, lower rows first: a plain selection sort. */
static void sort_rows(size_t *rows, size_t count, const float *scores) {
    for (size_t i = 0; i < count; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < count; j++) {
            const float a = scores[rows[j]], b = scores[rows[best]];
            if (a > b || (a == b && rows[j] < rows[best])) best = j;
        }
        const size_t row = rows[best];
        rows[best] = rows[i];
        rows[i] = row;
    }
}

/* The hits of one list against all rows whose score is not 0. */
static void check_hits(const msae_hit *hits, size_t n_hits, size_t top, const float *scores) {
    size_t rows[ROWS], count = 0;
    for (size_t r = 0; r < ROWS; r++) {
        if (scores[r] != 0) rows[count++] = r;
    }
    sort_rows(rows, count, scores);
    CHECK(n_hits == (count < top ? count : top));
    for (size_t i = 0; i < n_hits; i++) {
        CHECK(hits[i].row == rows[i] && hits[i].value == scores[rows[i]]);
    }
}

static void strongest_rows_are_those_of_dense_codes(void) {
    static const size_t ks[] = {0, 1, 7, N}, tops[] = {1, 2, 10, ROWS + 5};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_model model;
        if (!open_model(&model, recipe, x)) continue;
        for (size_t i = 0; i < COUNT(ks) * COUNT(tops); i++) {
            const size_t k = ks[i % COUNT(ks)], top = tops[i / COUNT(ks)];
            float *z = dense_codes(&model, x, k), column[ROWS];
            msae_hit *hits = (msae_hit *)test_alloc(N * top * sizeof *hits);
            size_t counts[N];
            test_note("%s, k %zu, top %zu", recipe->name, k, top);
            CHECK_STATUS(MSAE_OK,
                         msae_top_rows(&model, &data, k, NULL, 0, top, hits, counts, NULL));
            for (size_t j = 0; j < N; j++) {
                size_t active = 0;
                for (size_t r = 0; r < ROWS; r++) {
                    column[r] = z[r * N + j];
                    active += column[r] != 0;
                }
                CHECK(counts[j] == active);
                check_hits(hits + j * top, active < top ? active : top, top, column);
                for (size_t e = active; e < top; e++) {
                    CHECK(hits[j * top + e].row == 0 && hits[j * top + e].value == 0);
                }
            }
            free(hits);
            free(z);
        }
        msae_model_free(&model);
    }
    free(x);
}

static void strongest_rows_of_chosen_latents_and_any_workers(void) {
    enum { TOP = 6 };
    static const uint32_t chosen[] = {41, 0, 7, 41}, beyond[] = {3, N};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_data none = msae_data_view(x, 0, D);
    msae_model model;
    msae_hit all[N * TOP], some[COUNT(chosen) * TOP], again[N * TOP];
    size_t counts[N], some_counts[COUNT(chosen)], again_counts[N], workers = 3;
    msae_error error;
    if (!open_model(&model, &test_recipes[0], x)) return;
    memset(all, 0xff, sizeof all);
    memset(again, 0, sizeof again); /* (padding is compared too) */
    CHECK_STATUS(MSAE_OK, msae_top_rows(&model, &data, 5, NULL, 0, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_OK, msae_top_rows(&model, &data, 5, chosen, COUNT(chosen), TOP, some,
                                        some_counts, NULL));
    for (size_t i = 0; i < COUNT(chosen); i++) {
        CHECK(some_counts[i] == counts[chosen[i]]);
        for (size_t e = 0; e < TOP; e++) {
            CHECK(some[i * TOP + e].row == all[chosen[i] * TOP + e].row);
            CHECK(some[i * TOP + e].value == all[chosen[i] * TOP + e].value);
        }
    }
    model.parallel = backwards_with(&workers);
    CHECK_STATUS(MSAE_OK, msae_top_rows(&model, &data, 5, NULL, 0, TOP, again, again_counts, NULL));
    for (size_t i = 0; i < N * TOP; i++) {
        CHECK(all[i].row == again[i].row && test_same(&all[i].value, &again[i].value, 1));
    }
    CHECK(memcmp(counts, again_counts, sizeof counts) == 0);

    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_top_rows(&model, &data, 5, beyond, 2, TOP, all, counts, &error));
    CHECK(error.position == 1 && strstr(error.message, "50"));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_top_rows(&model, &data, N + 1, NULL, 0, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_top_rows(&model, &data, 5, NULL, 0, 0, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_top_rows(&model, &narrow, 5, NULL, 0, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_top_rows(&model, &none, 5, NULL, 0, TOP, all, counts, NULL));
    x[BAD_ROW * D + 1] = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_top_rows(&model, &data, 5, NULL, 0, TOP, all, counts, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
}

int main(void) {
    RUN(strongest_rows_are_those_of_dense_codes);
    RUN(strongest_rows_of_chosen_latents_and_any_workers);
    return test_finish();
}
