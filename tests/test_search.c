/* Strongest rows, sparse indices, nearest rows, concept trees, edits and steering against plain
   computations. */
#include "test.h"

/* More rows than two tiles have; where there is a bad one, it is in the last. */
enum { D = 9, N = 50, ROWS = 133, BAD_ROW = 131 };

static int open_model(msae_model *model, const test_recipe *recipe, const float *x) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_data data = msae_data_view(x, ROWS, D);
    test_note("%s", recipe->name);
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL))) return 0;
    test_randomize(model, 3);
    CHECK_STATUS(MSAE_OK, test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, model->mean,
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
                         test_top_rows(&model, &data, k, NULL, N, top, hits, counts, NULL));
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
    CHECK_STATUS(MSAE_OK, test_top_rows(&model, &data, 5, NULL, N, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_OK, test_top_rows(&model, &data, 5, chosen, COUNT(chosen), TOP, some,
                                        some_counts, NULL));
    for (size_t i = 0; i < COUNT(chosen); i++) {
        CHECK(some_counts[i] == counts[chosen[i]]);
        for (size_t e = 0; e < TOP; e++) {
            CHECK(some[i * TOP + e].row == all[chosen[i] * TOP + e].row);
            CHECK(some[i * TOP + e].value == all[chosen[i] * TOP + e].value);
        }
    }
    model.parallel = backwards_with(&workers);
    CHECK_STATUS(MSAE_OK, test_top_rows(&model, &data, 5, NULL, N, TOP, again, again_counts, NULL));
    for (size_t i = 0; i < N * TOP; i++) {
        CHECK(all[i].row == again[i].row && test_same(&all[i].value, &again[i].value, 1));
    }
    CHECK(memcmp(counts, again_counts, sizeof counts) == 0);

    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_top_rows(&model, &data, 5, beyond, 2, TOP, all, counts, &error));
    CHECK(error.position == 1 && strstr(error.message, "50"));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_top_rows(&model, &data, N + 1, NULL, N, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_top_rows(&model, &data, 5, NULL, N, 0, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_top_rows(&model, &narrow, 5, NULL, N, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_top_rows(&model, &none, 5, NULL, N, TOP, all, counts, NULL));
    x[BAD_ROW * D + 1] = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_top_rows(&model, &data, 5, NULL, N, TOP, all, counts, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Sparse indices
   ------------------------------------------------------------------------------------------ */

static double dot(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Cosines of a dense query [width] with dense rows; 0 where there is none. */
static void cosines(const float *query, const float *rows, size_t width, float *out) {
    for (size_t r = 0; r < ROWS; r++) {
        const float *row = rows + r * width;
        const double norms = sqrt(dot(query, query, width)) * sqrt(dot(row, row, width));
        out[r] = norms > 0 ? (float)(dot(query, row, width) / norms) : 0;
    }
}

/* As check_hits, for values of which the last bits may differ: each hit has its row's value, the
   values descend, and none that is left out is above the last. */
static void check_near_hits(const msae_hit *hits, size_t n_hits, size_t top, const float *scores,
                            float within) {
    size_t active = 0;
    for (size_t r = 0; r < ROWS; r++) active += scores[r] != 0;
    CHECK(n_hits == (active < top ? active : top));
    for (size_t i = 0; i < n_hits; i++) {
        CHECK(fabsf(hits[i].value - scores[hits[i].row]) <= within);
        if (i == 0) continue;
        CHECK(hits[i - 1].value > hits[i].value ||
              (hits[i - 1].value == hits[i].value && hits[i - 1].row < hits[i].row));
    }
    for (size_t r = 0; r < ROWS && n_hits == top; r++) {
        size_t i = 0;
        while (i < n_hits && hits[i].row != r) i++;
        CHECK(i < n_hits || scores[r] == 0 || scores[r] <= hits[n_hits - 1].value + within);
    }
}

/* The codes of a dense row, last latent first: the order must not matter. */
static size_t codes_of(const float *z, msae_code *codes) {
    size_t count = 0;
    for (size_t j = N; j-- > 0;) {
        if (z[j] == 0) continue;
        codes[count].latent = (uint32_t)j;
        codes[count++].value = z[j];
    }
    return count;
}

static void check_query(const msae_index *index, const float *query, const float *z, size_t top) {
    float scores[ROWS];
    msae_code codes[N];
    msae_hit *hits = (msae_hit *)test_alloc(top * sizeof *hits);
    size_t n_hits = 99, count = codes_of(query, codes);
    test_fence workspace = test_fence_open(msae_index_workspace_bytes(index, top), 3);
    cosines(query, z, N, scores);
    CHECK_STATUS(MSAE_OK,
                 msae_index_query(index, workspace.memory, codes, count, top, hits, &n_hits, NULL));
    check_near_hits(hits, n_hits, top, scores, 1e-7f);
    test_fence_close(&workspace);
    free(hits);
}

/* Every row and some free lists of concepts against all dense codes. */
static void queries_are_cosines_of_dense_codes(void) {
    static const size_t ks[] = {0, 1, 7, N}, tops[] = {1, 10, ROWS + 5};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_model model;
        if (!open_model(&model, recipe, x)) continue;
        for (size_t i = 0; i < COUNT(ks); i++) {
            float *z = dense_codes(&model, x, ks[i]), query[N];
            msae_index index;
            size_t entries = 0;
            test_note("%s, k %zu", recipe->name, ks[i]);
            CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, ks[i], NULL));
            for (size_t e = 0; e < ROWS * N; e++) entries += z[e] != 0;
            CHECK(index.entries == entries && index.rows == ROWS && index.n_latents == N);
            CHECK(index.k == (ks[i] || test_is_batch_topk(recipe->recipe) ? ks[i] : model.k));
            for (size_t r = 0; r < ROWS; r += 11) check_query(&index, z + r * N, z, 10);
            for (size_t t = 0; t < COUNT(tops); t++) {
                memset(query, 0, sizeof query);
                query[3 + t] = 2;
                query[N - 1] = -0.5f;
                query[17] = 1e-20f;
                check_query(&index, query, z, tops[t]);
            }
            msae_index_free(&index);
            free(z);
        }
        msae_model_free(&model);
    }
    free(x);
}

/* Three blocks of rows, most without any code: a model of one latent that answers to one input. */
static void queries_of_many_rows(void) {
    enum { MANY = 2 * MSAE__QUERY_ROWS + 100, TOP = 40 };
    static const size_t active[] = {0, 5, MSAE__QUERY_ROWS - 1, MSAE__QUERY_ROWS,
                                    2 * MSAE__QUERY_ROWS + 99};
    msae_model_desc desc;
    msae_model model;
    msae_index index;
    float *x = test_floats(MANY);
    msae_data data = msae_data_view(x, MANY, 1);
    msae_hit hits[TOP];
    msae_code code = {0, 3};
    size_t n_hits;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = desc.n_latents = 1;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    model.encoder[0] = 1;
    for (size_t r = 0; r < MANY; r++) x[r] = -1;
    for (size_t i = 0; i < COUNT(active); i++) x[active[i]] = (float)(1 + i);
    for (size_t workers = 1; workers < 5; workers += 3) {
        model.parallel = backwards_with(&workers);
        CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, 1, NULL));
        void *workspace = test_alloc(msae_index_workspace_bytes(&index, TOP));
        for (size_t top = 2; top <= TOP; top += TOP - 2) {
            CHECK_STATUS(MSAE_OK,
                         msae_index_query(&index, workspace, &code, 1, top, hits, &n_hits, NULL));
            CHECK(n_hits == (top == 2 ? 2 : COUNT(active)));
            for (size_t i = 0; i < n_hits; i++) {
                CHECK(hits[i].row == active[i] && hits[i].value == 1);
            }
        }
        free(workspace);
        msae_index_free(&index);
    }
    msae_model_free(&model);
    free(x);
}

/* Values of 0 are no codes, and a cosine that is 0 as a float is no hit. A model that gives back its
   two inputs, of either sign. */
static void values_and_cosines_of_zero(void) {
    float x[] = {0, 0, 2, 0, 0, -3, 4, 3}, identity[] = {1, 0, 0, 1};
    const msae_data data = msae_data_view(x, 4, 2);
    const msae_code codes[] = {{0, 1e-30f}, {1, -1e30f}};
    msae_model_desc desc;
    msae_model model;
    msae_index index;
    msae_hit hits[4];
    size_t n_hits;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = desc.n_latents = 2;
    desc.activation = MSAE_ACTIVATION_IDENTITY;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    memcpy(model.encoder, identity, sizeof identity);
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, 2, NULL));
    CHECK(index.entries == 4 && index.counts[0] == 0 && index.counts[3] == 2);
    CHECK(index.starts[1] == 2 && index.entry_row[0] == 1 && index.entry_value[2] == -3);
    void *workspace = test_alloc(msae_index_workspace_bytes(&index, 4));
    CHECK_STATUS(MSAE_OK, msae_index_query(&index, workspace, codes, 2, 4, hits, &n_hits, NULL));
    CHECK(n_hits == 2 && hits[0].row == 2 && hits[0].value == 1);
    CHECK(hits[1].row == 3 && hits[1].value == -0.6f);
    free(workspace);
    msae_index_free(&index);
    msae_model_free(&model);
}

static void queries_that_cannot_be(void) {
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_data fewer = msae_data_view(x, ROWS - 1, D), none = msae_data_view(x, 0, D);
    msae_code beyond[] = {{1, 1}, {N, 1}}, twice[] = {{1, 1}, {9, 1}, {1, 2}};
    msae_code bad[] = {{4, NAN}}, zero[] = {{4, 0}};
    msae_hit hits[3];
    size_t n_hits = 9;
    msae_model model;
    msae_index index;
    msae_error error;
    if (!open_model(&model, &test_recipes[0], x)) return;
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_index_build(&index, &model, &narrow, 5, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_index_build(&index, &model, &none, 5, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_build(&index, &model, &data, N + 1, NULL));
    CHECK(index.memory == NULL);
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, 5, NULL));
    void *workspace = test_alloc(msae_index_workspace_bytes(&index, 3));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_index_query(&index, workspace, beyond, 2, 3, hits, &n_hits, &error));
    CHECK(error.position == 1);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_index_query(&index, workspace, twice, 3, 3, hits, &n_hits, &error));
    CHECK(error.position == 2);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_index_query(&index, workspace, bad, 1, 3, hits, &n_hits, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_index_query(&index, workspace, zero, 1, 0, hits, &n_hits, NULL));
    n_hits = 9;
    CHECK_STATUS(MSAE_OK, msae_index_query(&index, workspace, zero, 1, 3, hits, &n_hits, NULL));
    CHECK(n_hits == 0);
    n_hits = 9;
    CHECK_STATUS(MSAE_OK, msae_index_query(&index, workspace, NULL, 0, 3, hits, &n_hits, NULL));
    CHECK(n_hits == 0);

    /* what an index belongs to */
    CHECK_STATUS(MSAE_OK, msae_index_check(&index, &model, &data, NULL));
    CHECK_STATUS(MSAE_OK, msae_index_check(&index, &model, NULL, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_check(&index, &model, &fewer, NULL));
    x[70 * D] += 0.25f;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_check(&index, &model, &data, NULL));
    x[70 * D] -= 0.25f;
    CHECK_STATUS(MSAE_OK, msae_index_check(&index, &model, &data, NULL));
    model.encoder[N * D - 1] += 0.25f;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_check(&index, &model, NULL, NULL));
    model.encoder[N * D - 1] -= 0.25f;
    model.mean[2] += 0.25f;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_check(&index, &model, NULL, NULL));

    x[BAD_ROW * D + 1] = INFINITY;
    msae_index other;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_index_build(&other, &model, &data, 5, &error));
    CHECK(error.position == BAD_ROW && other.memory == NULL);
    free(workspace);
    msae_index_free(&index);
    msae_model_free(&model);
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   The file of an index
   ------------------------------------------------------------------------------------------ */

/* A model of numbers that every machine has exactly. */
static int open_exact(msae_model *model) {
    msae_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = 3;
    desc.n_latents = 5;
    desc.recipe = MSAE_RECIPE_TOPK;
    desc.k = 2;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc, NULL))) return 0;
    for (size_t i = 0; i < 15; i++) {
        model->encoder[i] = (float)(i * 7 % 13) / 8 - 0.5f;
        model->decoder[i] = (float)(i * 5 % 11) / 4 - 1;
    }
    for (size_t i = 0; i < 3; i++) {
        model->pre_bias[i] = (float)i / 4;
        model->mean[i] = (float)i / 2 - 1;
    }
    for (size_t i = 0; i < 5; i++) model->latent_bias[i] = (float)i / 8 - 0.25f;
    model->scale = 1.5f;
    return 1;
}

static void checksums_are_of_the_weights(void) {
    static const msae_dtype smaller[] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};
    msae_load_desc widen;
    msae_model model;
    memset(&widen, 0, sizeof widen);
    widen.widen = 1;
    if (!open_exact(&model)) return;
    const uint64_t checksum = msae_model_checksum(&model);
    CHECK(checksum == 0x42d0b3014908bf7fu);
    model.k = model.nesting[0] = 3;
    model.threshold = 7;
    model.history.steps += 9;
    CHECK(msae_model_checksum(&model) == checksum);
    float *const parts[] = {model.encoder,      model.encoder + 14, model.decoder,
                            model.decoder + 14, model.pre_bias + 2, model.latent_bias + 4,
                            model.latent_bias,  model.mean + 2,     &model.scale};
    for (size_t i = 0; i < COUNT(parts); i++) {
        const float value = *parts[i];
        *parts[i] = value + 0.125f;
        CHECK(msae_model_checksum(&model) != checksum);
        *parts[i] = value;
    }
    for (size_t i = 0; i < COUNT(smaller); i++) {
        msae_model compact, wide;
        size_t bytes;
        test_note("%s", msae_enum_name(MSAE_ENUM_DTYPE, (int)smaller[i]));
        CHECK_STATUS(MSAE_OK, msae_compact(&model, smaller[i], NULL, &compact, NULL));
        const uint64_t own = msae_model_checksum(&compact);
        CHECK((own == checksum) == (smaller[i] != MSAE_I8)); /* whose steps miss these weights */
        msae_writer writer = msae_to_memory(NULL, 0);
        CHECK_STATUS(MSAE_OK, msae_save(&compact, &writer, NULL));
        bytes = writer.bytes;
        void *file = test_alloc(bytes);
        writer = msae_to_memory(file, bytes);
        CHECK_STATUS(MSAE_OK, msae_save(&compact, &writer, NULL));
        CHECK_STATUS(MSAE_OK, msae_load(&wide, msae_from_memory(file, bytes), &widen, NULL));
        CHECK(msae_model_checksum(&wide) == own);
        msae_model_free(&wide);
        msae_model_free(&compact);
        free(file);
    }
    msae_model_free(&model);
}

/* Before 0.6.0 an index had another checksum, which tells its model as well. */
static void older_indices_know_their_model(void) {
    const uint64_t older = 0x788e10eefd443a5eu;
    float x[3 * 4];
    for (size_t i = 0; i < 12; i++) x[i] = (float)(i * 3 % 7) / 2;
    const msae_data data = msae_data_view(x, 4, 3);
    msae_model model;
    msae_index index;
    msae_error error;
    char digits[24];
    if (!open_exact(&model)) return;
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, 2, NULL));
    CHECK(index.model == msae_model_checksum(&model));
    index.model = older;
    CHECK_STATUS(MSAE_OK, msae_index_check(&index, &model, &data, NULL));
    index.model++;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_index_check(&index, &model, &data, &error));
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)index.model);
    CHECK(strstr(error.message, digits) != NULL);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)msae_model_checksum(&model));
    CHECK(strstr(error.message, digits) != NULL);
    msae_index_free(&index);
    msae_model_free(&model);
}

static int same_index(const msae_index *a, const msae_index *b) {
    return a->rows == b->rows && a->n_latents == b->n_latents && a->k == b->k &&
           a->model == b->model && a->data == b->data && a->entries == b->entries &&
           memcmp(a->starts, b->starts, (a->n_latents + 1) * sizeof *a->starts) == 0 &&
           memcmp(a->entry_row, b->entry_row, a->entries * sizeof *a->entry_row) == 0 &&
           test_same(a->entry_value, b->entry_value, a->entries) &&
           memcmp(a->counts, b->counts, a->rows * sizeof *a->counts) == 0 &&
           memcmp(a->norms, b->norms, a->rows * sizeof *a->norms) == 0;
}

static int write_counted(void *user, const void *bytes, size_t size) {
    unsigned char **at = (unsigned char **)user;
    memcpy(*at, bytes, size);
    *at += size;
    return 1;
}

static int write_never(void *user, const void *bytes, size_t size) {
    (void)user;
    (void)bytes;
    (void)size;
    return 0;
}

static int read_never(void *user, uint64_t offset, void *buffer, size_t bytes) {
    (void)user;
    (void)offset;
    (void)buffer;
    (void)bytes;
    return 0;
}

static unsigned char *save_index(const msae_index *index, size_t *bytes) {
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_index_save(index, &writer, NULL));
    *bytes = writer.bytes;
    unsigned char *file = (unsigned char *)test_alloc(*bytes);
    writer = msae_to_memory(file, *bytes);
    CHECK_STATUS(MSAE_OK, msae_index_save(index, &writer, NULL));
    return file;
}

static void indices_survive_files(void) {
    static const size_t ks[] = {0, 3};
    float *x = raw_rows();
    msae_data data = msae_data_view(x, ROWS, D);
    const char *folder = test_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/index.safetensors", folder);
    FOR_EACH_RECIPE(recipe) {
        for (size_t i = 0; i < COUNT(ks); i++) {
            msae_model model;
            msae_index index, loaded;
            size_t bytes;
            if (!open_model(&model, recipe, x)) continue;
            CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model, &data, ks[i], NULL));
            unsigned char *file = save_index(&index, &bytes);
            msae_writer writer = msae_to_memory(file, bytes - 1);
            CHECK(msae_index_save(&index, &writer, NULL) != MSAE_OK);
            unsigned char *again = (unsigned char *)test_alloc(bytes), *at = again;
            msae_writer counted = {write_counted, &at, NULL, NULL, 0, 0};
            msae_writer broken = {write_never, NULL, NULL, NULL, 0, 0};
            writer = msae_to_memory(file, bytes);
            CHECK_STATUS(MSAE_OK, msae_index_save(&index, &writer, NULL));
            CHECK_STATUS(MSAE_OK, msae_index_save(&index, &counted, NULL));
            CHECK(at == again + bytes && memcmp(file, again, bytes) == 0);
            CHECK_STATUS(MSAE_ERROR_IO, msae_index_save(&index, &broken, NULL));

            CHECK_STATUS(MSAE_OK,
                         msae_index_load(&loaded, msae_from_memory(file, bytes), NULL, NULL));
            CHECK(same_index(&index, &loaded));
            CHECK_STATUS(MSAE_OK, msae_index_check(&loaded, &model, &data, NULL));
            msae_index_free(&loaded);
            const msae_reader dead = {read_never, NULL, bytes, NULL, NULL};
            msae_reader reader = msae_from_memory(file, bytes);
            reader.memory = NULL; /* as of any other source */
            CHECK_STATUS(MSAE_OK, msae_index_load(&loaded, reader, NULL, NULL));
            CHECK(same_index(&index, &loaded));
            msae_index_free(&loaded);
            CHECK_STATUS(MSAE_ERROR_IO, msae_index_load(&loaded, dead, NULL, NULL));
            writer = msae_to_file(path);
            CHECK_STATUS(MSAE_OK, msae_index_save(&index, &writer, NULL));
            CHECK_STATUS(MSAE_OK, msae_index_load(&loaded, msae_from_file(path), NULL, NULL));
            CHECK(same_index(&index, &loaded));
            msae_index_free(&loaded);
            CHECK(loaded.memory == NULL && loaded.rows == 0);
            remove(path);
            CHECK_STATUS(MSAE_ERROR_IO, msae_index_load(&loaded, msae_from_file(path), NULL, NULL));
            free(file);
            free(again);
            msae_index_free(&index);
            msae_model_free(&model);
        }
    }
    TEST_RMDIR(folder);
    free(x);
}

/* A small index, made by hand: 3 latents over 4 rows, of which row 2 has none. */
typedef struct small_index {
    msae_index index;
    uint64_t starts[4];
    uint32_t rows[4], counts[4];
    float values[4];
} small_index;

static void make_small(small_index *small) {
    static const small_index plain = {.starts = {0, 2, 2, 4},
                                      .rows = {0, 3, 1, 3},
                                      .counts = {1, 1, 0, 2},
                                      .values = {0.5f, 2, -1, 0.25f}};
    *small = plain;
    small->index.rows = small->index.entries = 4;
    small->index.n_latents = 3;
    small->index.k = 2;
    small->index.starts = small->starts;
    small->index.entry_row = small->rows;
    small->index.entry_value = small->values;
    small->index.counts = small->counts;
}

/* Saves the small index as it is now and says what becomes of loading it. */
static msae_status load_small(const small_index *small, msae_error *error) {
    msae_index loaded;
    size_t bytes;
    unsigned char *file = save_index(&small->index, &bytes);
    msae_status status = msae_index_load(&loaded, msae_from_memory(file, bytes), NULL, error);
    if (status == MSAE_OK) {
        CHECK(fabs(loaded.norms[3] - sqrt(4.0625)) < 1e-15 && loaded.norms[2] == 0);
        msae_index_free(&loaded);
    } else {
        CHECK(loaded.memory == NULL && loaded.starts == NULL);
    }
    free(file);
    return status;
}

static void malformed_indices_are_refused(void) {
    small_index small;
    msae_error error;
    make_small(&small);
    CHECK_STATUS(MSAE_OK, load_small(&small, NULL));
#define SPOILED(change, status, text)                                         \
    do {                                                                      \
        test_note("%s", #change);                                             \
        make_small(&small);                                                   \
        small.change;                                                         \
        CHECK_STATUS(status, load_small(&small, &error));                     \
        if (!CHECK(strstr(error.message, text) != NULL)) puts(error.message); \
    } while (0)
    SPOILED(starts[0] = 1, MSAE_ERROR_FORMAT, "start at 0");
    SPOILED(starts[1] = 3, MSAE_ERROR_FORMAT, "rows of latent 0");
    SPOILED(starts[2] = 1, MSAE_ERROR_FORMAT, "latent 1 ends before");
    SPOILED(starts[2] = 5, MSAE_ERROR_FORMAT, "latent 1 ends before it starts or behind");
    SPOILED(starts[1] = UINT64_MAX, MSAE_ERROR_FORMAT, "latent 0 ends");
    SPOILED(starts[3] = 3, MSAE_ERROR_FORMAT, "end with the entries");
    SPOILED(rows[1] = 4, MSAE_ERROR_FORMAT, "rows of latent 0");
    SPOILED(rows[1] = 0, MSAE_ERROR_FORMAT, "rows of latent 0");
    SPOILED(rows[2] = 3, MSAE_ERROR_FORMAT, "rows of latent 2");
    SPOILED(rows[2] = 2, MSAE_ERROR_FORMAT, "row 1 has another number");
    SPOILED(counts[2] = 1, MSAE_ERROR_FORMAT, "row 2 has another number");
    SPOILED(counts[0] = 0, MSAE_ERROR_FORMAT, "row 0 has another number");
    SPOILED(values[2] = 0, MSAE_ERROR_FORMAT, "latent 2 has an entry of 0");
    SPOILED(values[2] = INFINITY, MSAE_ERROR_NOT_FINITE, "values");
    SPOILED(values[0] = NAN, MSAE_ERROR_NOT_FINITE, "values");
    SPOILED(index.k = 4, MSAE_ERROR_FORMAT, "k is more");
#undef SPOILED
}

/* An index file with a header of one's own behind the right lists. */
static msae_status load_with(const char *name, const msae_tensor *tensor, const char *key,
                             const char *value, msae_error *error) {
    small_index small;
    msae__file file;
    msae_index loaded;
    size_t bytes;
    make_small(&small);
    msae__describe_index(&small.index, &file);
    for (size_t i = 0; i < file.list.n_tensors && name; i++) {
        if (strcmp(file.list.tensors[i].name, name) != 0) continue;
        if (tensor) {
            file.list.tensors[i] = *tensor;
        } else {
            file.list.tensors[i] = file.list.tensors[--file.list.n_tensors];
        }
    }
    for (size_t i = 0; i < file.notes.count && key; i++) {
        if (strcmp(file.notes.items[i].key, key) != 0) continue;
        if (value) {
            file.notes.items[i].value = value;
            file.notes.items[i].value_bytes = strlen(value);
        } else {
            file.notes.items[i] = file.notes.items[--file.notes.count];
        }
    }
    if (!key || strcmp(key, "msae.checksum") != 0) { /* right for what is there now */
        file.notes.count--;
        msae__finish_description(&file);
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.list.tensors, file.list.n_tensors,
                                                 file.notes.items, file.notes.count, NULL));
    bytes = writer.bytes;
    unsigned char *memory = (unsigned char *)test_alloc(bytes);
    writer = msae_to_memory(memory, bytes);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.list.tensors, file.list.n_tensors,
                                                 file.notes.items, file.notes.count, NULL));
    msae_status status = msae_index_load(&loaded, msae_from_memory(memory, bytes), NULL, error);
    if (status == MSAE_OK) msae_index_free(&loaded);
    free(memory);
    return status;
}

static void headers_of_other_files_are_refused(void) {
    static const char *const names[] = {"starts", "rows", "values", "counts"};
    static const char *const keys[] = {"msae.format", "msae.checksum", "msae.k", "msae.model",
                                       "msae.data"};
    static const char *const bad[] = {"msae", "0123456789abcdef", "-1", "x",
                                      "18446744073709551616"};
    unsigned char bytes[64] = {0};
    msae_error error;
    CHECK_STATUS(MSAE_OK, load_with(NULL, NULL, NULL, NULL, NULL));
    for (size_t i = 0; i < COUNT(names); i++) {
        msae_tensor tensor;
        test_note("%s", names[i]);
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(names[i], NULL, NULL, NULL, &error));
        CHECK(strstr(error.message, names[i]));
        memset(&tensor, 0, sizeof tensor);
        tensor.name = names[i];
        tensor.name_bytes = strlen(names[i]);
        tensor.data = bytes;
        tensor.dtype = MSAE_I16; /* a type that none has */
        tensor.rank = 1;
        tensor.shape[0] = 4;
        tensor.bytes = 8;
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(names[i], &tensor, NULL, NULL, NULL));
        tensor.dtype = i == 0 ? MSAE_U64 : i == 2 ? MSAE_F32 : MSAE_U32; /* of no elements */
        tensor.shape[0] = 0;
        tensor.bytes = 0;
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(names[i], &tensor, NULL, NULL, NULL));
        tensor.rank = 2;
        tensor.shape[0] = 2;
        tensor.shape[1] = 2;
        tensor.bytes = 4 * msae_dtype_bytes(tensor.dtype);
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(names[i], &tensor, NULL, NULL, NULL));
    }
    for (size_t i = 0; i < COUNT(keys); i++) {
        test_note("%s", keys[i]);
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(NULL, NULL, keys[i], NULL, NULL));
        CHECK_STATUS(MSAE_ERROR_FORMAT, load_with(NULL, NULL, keys[i], bad[i], NULL));
    }
}

/* Every length but the whole, and every byte changed: refused, or an index that can be queried. */
static void cut_and_changed_indices(void) {
    small_index small;
    msae_index loaded;
    size_t bytes, taken = 0;
    make_small(&small);
    unsigned char *file = save_index(&small.index, &bytes);
    for (size_t size = 0; size < bytes; size++) {
        unsigned char *part = (unsigned char *)test_alloc(size);
        memcpy(part, file, size);
        test_note("%zu bytes", size);
        CHECK(msae_index_load(&loaded, msae_from_memory(part, size), NULL, NULL) != MSAE_OK);
        CHECK(loaded.memory == NULL);
        free(part);
    }
    for (size_t at = 0; at < bytes; at++) {
        for (unsigned flip = 1; flip < 256; flip *= 2) {
            msae_code codes[] = {{0, 1}, {1, 1}, {2, -1}};
            msae_hit hits[4];
            size_t n_hits;
            file[at] ^= (unsigned char)flip;
            if (msae_index_load(&loaded, msae_from_memory(file, bytes), NULL, NULL) == MSAE_OK) {
                void *workspace = test_alloc(msae_index_workspace_bytes(&loaded, 4));
                CHECK_STATUS(MSAE_OK, msae_index_query(&loaded, workspace, codes, 3, 4, hits,
                                                       &n_hits, NULL));
                CHECK(n_hits <= 3);
                free(workspace);
                msae_index_free(&loaded);
                taken++;
            }
            file[at] ^= (unsigned char)flip;
        }
    }
    test_note("%zu taken", taken);
    CHECK(taken > 0 && taken <= 8 * 4 * 4); /* bits of the values alone */
    free(file);
}

/* ---------------------------------------------------------------------------------------------
   Nearest rows
   ------------------------------------------------------------------------------------------ */

static void nearest_rows_are_those_of_plain_cosines(void) {
    static const size_t tops[] = {1, 7, ROWS + 3};
    enum { QUERIES = 100 }; /* more than one group */
    float *x = raw_rows(), *queries = test_random_floats(5, QUERIES * D, 1), scores[ROWS];
    msae_model model;
    size_t counts[QUERIES], workers = 3;
    memset(x + 4 * D, 0, D * sizeof *x); /* has no cosine */
    for (size_t i = 0; i < D; i++) x[9 * D + i] *= 1e30f;
    for (size_t i = 0; i < D; i++) x[10 * D + i] *= 1e-30f;
    memset(queries + 6 * D, 0, D * sizeof *queries);
    for (size_t i = 0; i < D; i++) queries[7 * D + i] *= 1e-30f;
    memcpy(queries + 8 * D, x + 8 * D, D * sizeof *x);
    FOR_EACH_PATH(simd) {
        msae_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.n_inputs = desc.n_latents = 1; /* of the model only the kernels count */
        desc.host.simd = simd;
        CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
        for (size_t i = 0; i < 2 * COUNT(tops); i++) {
            const size_t top = tops[i / 2], n_queries = i % 2 ? QUERIES : 9;
            msae_data data = msae_data_view(x, ROWS, D);
            msae_hit *hits = (msae_hit *)test_alloc(QUERIES * top * sizeof *hits);
            msae_hit *again = (msae_hit *)test_alloc(QUERIES * top * sizeof *hits);
            test_note("%s, top %zu", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), top);
            memset(&model.parallel, 0, sizeof model.parallel);
            CHECK_STATUS(MSAE_OK, msae_nearest_rows(&model, &data, queries, n_queries, top, hits,
                                                    counts, NULL));
            for (size_t q = 0; q < n_queries; q++) {
                cosines(queries + q * D, x, D, scores);
                check_near_hits(hits + q * top, counts[q], top, scores, 2e-6f);
            }
            CHECK(counts[6] == 0 && hits[8 * top].value > 0.999999f);
            model.parallel = backwards_with(&workers);
            CHECK_STATUS(MSAE_OK, msae_nearest_rows(&model, &data, queries, n_queries, top, again,
                                                    counts, NULL));
            for (size_t q = 0; q < n_queries; q++) {
                for (size_t e = q * top; e < q * top + counts[q]; e++) {
                    CHECK(hits[e].row == again[e].row && hits[e].value == again[e].value);
                }
            }
            free(hits);
            free(again);
        }
        msae_model_free(&model);
    }
    free(x);
    free(queries);
}

/* More rows than a tile, in float16: +1, -1 and 0 are exact, and so are these cosines. */
static void nearest_rows_of_halves(void) {
    enum { MANY = 2 * MSAE__NEAREST_ROWS + 7, TOP = 5 };
    static const unsigned char plus[] = {0, 0x3c}, minus[] = {0, 0xbc};
    unsigned char *half = (unsigned char *)test_alloc(MANY * 4 * 2);
    msae_model_desc desc;
    msae_model model;
    msae_data data = msae_data_view(NULL, MANY, 4);
    float query[] = {2, 2, 2, 2};
    msae_hit hits[TOP];
    size_t count;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = desc.n_latents = 1;
    for (size_t i = 0; i < MANY * 4; i++) memcpy(half + 2 * i, i % 4 < 2 ? plus : minus, 2);
    for (size_t i = 0; i < 4; i++) memcpy(half + 2 * (4 * (MANY - 1) + i), plus, 2);
    memcpy(half + 2 * (4 * MSAE__NEAREST_ROWS + 3), plus, 2);
    memcpy(half + 2 * (4 * MSAE__NEAREST_ROWS - 1), plus, 2);
    data.values = half;
    data.dtype = MSAE_F16;
    data.native = 0;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL));
    CHECK_STATUS(MSAE_OK, msae_nearest_rows(&model, &data, query, 1, TOP, hits, &count, NULL));
    const size_t rows[] = {MANY - 1, MSAE__NEAREST_ROWS - 1, MSAE__NEAREST_ROWS, 0, 1};
    const float values[] = {1, 0.5f, 0.5f, 0, 0};
    CHECK(count == TOP);
    for (size_t i = 0; i < TOP; i++) CHECK(hits[i].row == rows[i] && hits[i].value == values[i]);

    msae_data none = msae_data_view(query, 0, 4);
    float bad[] = {1, 2, 3, 4, 1, NAN, 3, 4};
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_nearest_rows(&model, &none, query, 1, TOP, hits, &count, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_nearest_rows(&model, &data, query, 1, 0, hits, &count, NULL));
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_nearest_rows(&model, &data, bad, 2, TOP, hits, &count, &error));
    CHECK(error.position == 1 && strstr(error.message, "query 1"));
    half[2 * 4 * (MANY - 3) + 1] = 0x7c; /* Inf */
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_nearest_rows(&model, &data, query, 1, TOP, hits, &count, &error));
    CHECK(error.position == MANY - 3);
    msae_model_free(&model);
    free(half);
}

/* ---------------------------------------------------------------------------------------------
   Edits and steering
   ------------------------------------------------------------------------------------------ */

static void edits_by_hand(void) {
    static const msae_code before[] = {{7, 4}, {2, 3}, {9, 2}, {1, 1}};
    static const msae_edit edits[] = {
        {2, MSAE_EDIT_SET, 5, 0},      /* 3 becomes 5 */
        {9, MSAE_EDIT_ADD, -3, 0},     /* 2 becomes -1 */
        {30, MSAE_EDIT_SET, 0.5f, 0},  /* is new */
        {30, MSAE_EDIT_SCALE, 4, 0},   /* 0.5 becomes 2 */
        {7, MSAE_EDIT_CLAMP, 0, 2.5f}, /* 4 becomes 2.5 */
        {1, MSAE_EDIT_ABLATE, NAN, 0}, /* goes; its value is not looked at */
        {31, MSAE_EDIT_CLAMP, 1, 2},   /* 0 becomes 1: is new */
        {32, MSAE_EDIT_CLAMP, -1, 2},  /* 0 stays 0 */
        {33, MSAE_EDIT_SCALE, 9, 0},   /* so does this */
        {34, MSAE_EDIT_ABLATE, 0, 0},  /* and this */
        {31, MSAE_EDIT_ADD, -1, 0},    /* goes again */
        {35, MSAE_EDIT_ADD, 6, 0},     /* is new */
    };
    static const msae_code after[] = {{7, 2.5f}, {2, 5}, {9, -1}, {30, 2}, {35, 6}};
    static const msae_edit wrong[][2] = {
        {{0, MSAE_EDIT_SET, 1, 0}, {N, MSAE_EDIT_SET, 1, 0}},
        {{0, MSAE_EDIT_SET, 1, 0}, {1, MSAE_EDIT_COUNT, 1, 0}},
        {{0, MSAE_EDIT_SET, 1, 0}, {1, MSAE_EDIT_SET, NAN, 0}},
        {{0, MSAE_EDIT_SET, 1, 0}, {1, MSAE_EDIT_CLAMP, 0, INFINITY}},
        {{0, MSAE_EDIT_SET, 1, 0}, {1, MSAE_EDIT_CLAMP, 2, 1}},
    };
    msae_model model;
    msae_code codes[COUNT(before) + COUNT(edits)];
    size_t count = COUNT(before);
    msae_error error;
    memset(&model, 0, sizeof model);
    model.n_latents = N;
    memcpy(codes, before, sizeof before);
    CHECK_STATUS(MSAE_OK, msae_edit_codes(&model, edits, COUNT(edits), codes, &count, NULL));
    CHECK(count == COUNT(after));
    for (size_t i = 0; i < COUNT(after); i++) {
        CHECK(codes[i].latent == after[i].latent && codes[i].value == after[i].value);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        memcpy(codes, before, sizeof before);
        count = COUNT(before);
        test_note("wrong edit %zu", i);
        CHECK(msae_edit_codes(&model, wrong[i], 2, codes, &count, &error) != MSAE_OK);
        CHECK(error.position == 1 && count == COUNT(before));
        CHECK(memcmp(codes, before, sizeof before) == 0);
    }
    const msae_edit huge = {7, MSAE_EDIT_SCALE, 3e38f, 0};
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_edit_codes(&model, &huge, 1, codes, &count, &error));
    CHECK(strstr(error.message, "latent 7"));
    count = 0;
    CHECK_STATUS(MSAE_OK, msae_edit_codes(&model, NULL, 0, codes, &count, NULL));
    CHECK(count == 0);
}

/* Dense codes to a raw row by the formula, in double. */
static void decode_plainly(const msae_model *model, const float *z, const float moments[2],
                           double *out) {
    for (size_t i = 0; i < D; i++) {
        double sum = model->pre_bias[i];
        for (size_t j = 0; j < N; j++) sum += (double)z[j] * model->decoder[j * D + i];
        out[i] = (sum * moments[1] + moments[0]) / model->scale + model->mean[i];
    }
}

static double plain_distance(const double *a, const double *b) {
    double squares = 0;
    for (size_t i = 0; i < D; i++) squares += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(squares);
}

static double plain_cosine(const double *a, const double *b) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < D; i++) {
        aa += a[i] * a[i];
        bb += b[i] * b[i];
        ab += a[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static int close_to(double a, double b) {
    return fabs(a - b) <= 1e-5 * (1 + fabs(b));
}

static void steering_is_its_parts(void) {
    static const msae_edit edits[] = {{3, MSAE_EDIT_SET, 1.5f, 0},
                                      {8, MSAE_EDIT_ABLATE, 0, 0},
                                      {11, MSAE_EDIT_SCALE, 2, 0},
                                      {20, MSAE_EDIT_CLAMP, 0.25f, 0.5f},
                                      {21, MSAE_EDIT_ADD, -0.125f, 0}};
    static const size_t ks[] = {0, 6, N};
    float *x = raw_rows(), *out = test_floats(ROWS * D), *base = test_floats(ROWS * D);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        for (size_t i = 0; i < 2 * COUNT(ks); i++) {
            msae_steer_desc desc = {edits, COUNT(edits), ks[i / 2], (int)(i % 2)};
            msae_steered steered[ROWS];
            msae_change changes[N];
            msae_model model;
            if (!open_model(&model, recipe, x)) continue;
            test_note("%s, k %zu%s", recipe->name, desc.k, i % 2 ? ", the rest kept" : "");
            CHECK_STATUS(MSAE_OK, msae_steer(&model, &data, &desc, out, steered, changes, NULL));
            float *z = dense_codes(&model, x, desc.k);
            for (size_t r = 0; r < ROWS; r++) {
                double was[D], is[D], raw[D], result[D], worst = 0;
                float edited[N], moments[2];
                memcpy(edited, z + r * N, sizeof edited);
                edited[3] = 1.5f;
                edited[8] = 0;
                edited[11] *= 2;
                edited[20] = edited[20] < 0.25f ? 0.25f : edited[20] > 0.5f ? 0.5f : edited[20];
                edited[21] -= 0.125f;
                msae_row_moments(&model, x + r * D, moments);
                decode_plainly(&model, z + r * N, moments, was);
                decode_plainly(&model, edited, moments, is);
                for (size_t c = 0; c < D; c++) {
                    raw[c] = x[r * D + c];
                    result[c] = desc.keep_rest ? raw[c] + is[c] - was[c] : is[c];
                    worst = fmax(worst, fabs(result[c] - out[r * D + c]));
                    base[r * D + c] = desc.keep_rest ? x[r * D + c] : (float)was[c];
                }
                CHECK(worst < 1e-5);
                CHECK(close_to(steered[r].cosine, plain_cosine(raw, result)));
                CHECK(close_to(steered[r].distance, plain_distance(raw, result)));
                CHECK(close_to(steered[r].recon_cosine, plain_cosine(was, is)));
                CHECK(close_to(steered[r].recon_distance, plain_distance(was, is)));
            }
            free(z);
            /* a latent near a cut may fall to either side: with k and thresholds not compared */
            if (desc.k == N && recipe->recipe != MSAE_RECIPE_JUMPRELU) {
                float *before = dense_codes(&model, base, N), *after = dense_codes(&model, out, N);
                for (size_t j = 0; j < N; j++) {
                    double sums[3] = {0, 0, 0};
                    for (size_t r = 0; r < ROWS; r++) {
                        const double a = before[r * N + j], b = after[r * N + j];
                        sums[0] += a / ROWS;
                        sums[1] += b / ROWS;
                        sums[2] += fabs(b - a) / ROWS;
                    }
                    CHECK(close_to(changes[j].before, sums[0]));
                    CHECK(close_to(changes[j].after, sums[1]));
                    CHECK(close_to(changes[j].change, sums[2]));
                }
                free(before);
                free(after);
            }
            msae_model_free(&model);
        }
    }
    free(x);
    free(out);
    free(base);
}

static void steering_without_edits_changes_nothing(void) {
    float *x = raw_rows(), *out = test_floats(ROWS * D), *again = test_floats(ROWS * D);
    msae_data data = msae_data_view(x, ROWS, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_steer_desc desc = {NULL, 0, 7, 1};
    msae_steered steered[ROWS];
    msae_change changes[N], others[N];
    msae_model model;
    msae_error error;
    size_t workers = 3;
    const msae_edit edit = {5, MSAE_EDIT_SET, 2, 0}, beyond = {N, MSAE_EDIT_SET, 2, 0};
    const msae_edit huge = {5, MSAE_EDIT_SET, 3e38f, 0};
    if (!open_model(&model, &test_recipes[0], x)) return;
    CHECK_STATUS(MSAE_OK, msae_steer(&model, &data, &desc, out, steered, changes, NULL));
    CHECK(test_same(x, out, ROWS * D));
    for (size_t r = 0; r < ROWS; r++)
        CHECK(steered[r].distance < 1e-6 && steered[r].cosine > 0.999999);
    for (size_t j = 0; j < N; j++) {
        CHECK(changes[j].change < 1e-6 && fabs(changes[j].before - changes[j].after) < 1e-6);
    }
    desc.edits = &edit;
    desc.n_edits = 1;
    CHECK_STATUS(MSAE_OK, msae_steer(&model, &data, &desc, out, steered, changes, NULL));
    CHECK(changes[5].change > 0 && steered[0].distance > 0);
    model.parallel = backwards_with(&workers);
    CHECK_STATUS(MSAE_OK, msae_steer(&model, &data, &desc, again, NULL, others, NULL));
    CHECK(test_same(out, again, ROWS * D) && memcmp(changes, others, sizeof changes) == 0);
    CHECK_STATUS(MSAE_OK, msae_steer(&model, &data, &desc, again, NULL, NULL, NULL));

    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_steer(&model, &narrow, &desc, out, NULL, NULL, NULL));
    desc.k = N + 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_steer(&model, &data, &desc, out, NULL, NULL, NULL));
    desc.k = 7;
    desc.edits = &beyond;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_steer(&model, &data, &desc, out, NULL, NULL, NULL));
    desc.edits = &huge;
    for (size_t i = 0; i < D; i++) model.decoder[5 * D + i] = 10;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_steer(&model, &data, &desc, out, NULL, NULL, &error));
    CHECK(error.position == 0);
    desc.edits = &edit;
    x[BAD_ROW * D + 1] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_steer(&model, &data, &desc, out, NULL, NULL, &error));
    CHECK(error.position == BAD_ROW);
    msae_model_free(&model);
    free(x);
    free(out);
    free(again);
}

/* ---------------------------------------------------------------------------------------------
   The concept tree
   ------------------------------------------------------------------------------------------ */

/* Whether each latent of dense codes [ROWS, N] is active, on how many rows, on how many rows any of
   them is, and the strong rows of latent j: the first (support + 1) / 2 of strong[j]. */
typedef struct active_rows {
    const float *z;
    size_t support[N], rows, strong[N][ROWS];
} active_rows;

static void find_active(active_rows *active, const float *z) {
    float column[ROWS];
    memset(active, 0, sizeof *active);
    active->z = z;
    for (size_t r = 0; r < ROWS; r++) {
        size_t codes = 0;
        for (size_t j = 0; j < N; j++) codes += z[r * N + j] != 0;
        active->rows += codes > 0;
    }
    for (size_t j = 0; j < N; j++) {
        for (size_t r = 0; r < ROWS; r++) {
            column[r] = z[r * N + j];
            if (column[r] != 0) active->strong[j][active->support[j]++] = r;
        }
        sort_rows(active->strong[j], active->support[j], column);
    }
}

/* The edge from latent j to a parent, by its definition; 0 when it is none. */
static int find_edge(const active_rows *active, const msae_tree_desc *desc, size_t j, size_t parent,
                     msae_edge *edge) {
    const size_t strong = (active->support[j] + 1) / 2;
    size_t together = 0;
    if (strong < desc->strong_rows || active->support[parent] == 0) return 0;
    for (size_t i = 0; i < strong; i++) {
        together += active->z[active->strong[j][i] * N + parent] != 0;
    }
    const double p = (double)together / (double)strong;
    edge->latent = (uint32_t)j;
    edge->parent = (uint32_t)parent;
    edge->rows_latent = (uint32_t)active->support[j];
    edge->rows_parent = (uint32_t)active->support[parent];
    edge->p = (float)p;
    edge->lift = (float)(p * (double)active->rows / (double)active->support[parent]);
    return together > 0 && (double)edge->rows_parent >= (double)desc->ratio * edge->rows_latent &&
           edge->p >= (desc->p == MSAE_OFF ? 0 : desc->p) &&
           edge->lift >= (desc->lift == MSAE_OFF ? 0 : desc->lift);
}

static int is_better(const msae_edge *a, const msae_edge *b) {
    if (a->p != b->p) return a->p > b->p;
    return a->rows_parent != b->rows_parent ? a->rows_parent < b->rows_parent
                                            : a->parent < b->parent;
}

/* The best edges of latent j, all others tried: each is the best of those behind the last one. */
static size_t plain_parents(const active_rows *active, const msae_tree_desc *desc, size_t j,
                            msae_edge *edges) {
    size_t count = 0;
    while (count < desc->parents) {
        msae_edge best, edge;
        int is_there = 0;
        for (size_t parent = 0; parent < N; parent++) {
            if (!find_edge(active, desc, j, parent, &edge)) continue;
            if (count > 0 && !is_better(&edges[count - 1], &edge)) continue;
            if (!is_there || is_better(&edge, &best)) best = edge;
            is_there = 1;
        }
        if (!is_there) break;
        edges[count++] = best;
    }
    return count;
}

static int same_edge(const msae_edge *a, const msae_edge *b) {
    return a->latent == b->latent && a->parent == b->parent && a->rows_latent == b->rows_latent &&
           a->rows_parent == b->rows_parent && test_same(&a->p, &b->p, 1) &&
           test_same(&a->lift, &b->lift, 1);
}

/* All edges of one rule against the definition; returns how many there are. */
static size_t check_tree(const msae_model *model, const float *x, size_t k,
                         const msae_tree_desc *desc, const msae_tree_desc *given) {
    const msae_data data = msae_data_view(x, ROWS, D);
    float *z = dense_codes(model, x, k);
    msae_edge *edges = (msae_edge *)test_alloc(N * desc->parents * sizeof *edges);
    msae_edge wanted[N];
    size_t count = 0, at = 0;
    active_rows active;
    msae_index index;
    find_active(&active, z);
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, model, &data, k, NULL));
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, given, edges, &count, NULL));
    for (size_t j = 0; j < N; j++) {
        const size_t found = plain_parents(&active, desc, j, wanted);
        for (size_t e = 0; e < found; e++, at++) {
            CHECK(at < count && same_edge(&edges[at], &wanted[e]));
        }
    }
    CHECK(at == count);
    msae_index_free(&index);
    free(edges);
    free(z);
    return count;
}

/* All rules, one worker and several. */
static void trees_are_their_definition(void) {
    static const size_t ks[] = {0, 1, 7};
    static const msae_tree_desc descs[] = {
        {3, 5, 0.4f, 3, 1.5f}, /* the defaults */
        {2, 2, 0.2f, MSAE_OFF, 1.1f},
        {N, 1, MSAE_OFF, MSAE_OFF, 1.0001f},
        {1, 1, 1, 1.5f, 2},
    };
    float *x = raw_rows();
    size_t all = 0, workers = 0;
    FOR_EACH_RECIPE(recipe) {
        msae_model model;
        if (!open_model(&model, recipe, x)) continue;
        for (size_t i = 0; i < COUNT(ks) * COUNT(descs); i++) {
            const size_t k = ks[i % COUNT(ks)], rule = i / COUNT(ks);
            test_note("%s, k %zu, rule %zu", recipe->name, k, rule);
            workers = 1 + i % 4;
            model.parallel = backwards_with(&workers);
            all += check_tree(&model, x, k, &descs[rule], &descs[rule]);
            if (rule == 0) all += check_tree(&model, x, k, &descs[0], NULL);
        }
        msae_model_free(&model);
    }
    CHECK(all > 1000);
    free(x);
}

/* An index by hand: animal on rows 0 .. 19, dog on 0 .. 9, puppy on 4 .. 9 with rows 6 .. 8 strong,
   thing on all 40 rows, a latent on no row. */
static void a_tree_by_hand(void) {
    enum { LATENTS = 5, HAND_ROWS = 40, ENTRIES = 20 + 10 + 6 + 40 };
    static const uint32_t spans[LATENTS][2] = {{0, 20}, {0, 10}, {4, 10}, {0, 40}, {0, 0}};
    msae_tree_desc desc = {2, 3, 0, 2, 0};
    uint64_t starts[LATENTS + 1] = {0};
    uint32_t rows[ENTRIES], counts[HAND_ROWS] = {0};
    float values[ENTRIES];
    msae_edge edges[LATENTS * 3];
    size_t count = 99, at = 0;
    msae_index index;
    msae_error error;
    memset(&index, 0, sizeof index);
    for (size_t j = 0; j < LATENTS; j++) {
        for (uint32_t r = spans[j][0]; r < spans[j][1]; r++, at++) {
            rows[at] = r;
            values[at] = j == 2 && r >= 6 && r < 9 ? 2.0f : 1.0f;
            counts[r]++;
        }
        starts[j + 1] = at;
    }
    index.rows = HAND_ROWS;
    index.n_latents = LATENTS;
    index.entries = at;
    index.starts = starts;
    index.entry_row = rows;
    index.entry_value = values;
    index.counts = counts;
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    /* puppy: dog before animal, as both are on all of its strong rows; thing is on all rows. */
    CHECK(count == 3);
    CHECK(edges[0].latent == 1 && edges[0].parent == 0 && edges[0].p == 1 && edges[0].lift == 2);
    CHECK(edges[0].rows_latent == 10 && edges[0].rows_parent == 20);
    CHECK(edges[1].latent == 2 && edges[1].parent == 1 && edges[1].lift == 4);
    CHECK(edges[2].latent == 2 && edges[2].parent == 0 && edges[2].rows_latent == 6);
    desc.strong_rows = 4; /* puppy has 3 */
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    CHECK(count == 1 && edges[0].latent == 1);
    desc.ratio = 2.1f; /* animal is on twice dog's rows, and thing has no lift */
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    CHECK(count == 0);
    desc.lift = MSAE_OFF;
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    CHECK(count == 1 && edges[0].latent == 1 && edges[0].parent == 3 && edges[0].lift == 1);

#define REFUSED(member, value, text)                                                      \
    do {                                                                                  \
        memset(&desc, 0, sizeof desc);                                                    \
        desc.member = value;                                                              \
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,                                                 \
                     msae_concept_tree(&index, &desc, edges, &count, &error));            \
        CHECK(strstr(error.message, text) != NULL && error.position == MSAE_NO_POSITION); \
    } while (0)
    REFUSED(p, 1.01f, "p of an edge");
    REFUSED(p, -0.5f, "p of an edge");
    REFUSED(p, NAN, "p of an edge");
    REFUSED(lift, -2, "lift");
    REFUSED(lift, INFINITY, "lift");
    REFUSED(ratio, 1, "ratio");
    REFUSED(ratio, NAN, "ratio");
#undef REFUSED
    memset(&desc, 0, sizeof desc);
    desc.parents = SIZE_MAX / 16; /* (for the latents that have room for none) */
    index.entries = index.n_latents = 0;
    memset(counts, 0, sizeof counts);
    CHECK_STATUS(MSAE_OK, msae_concept_tree(&index, &desc, edges, &count, NULL));
    CHECK(count == 0);
}

int main(void) {
    RUN(strongest_rows_are_those_of_dense_codes);
    RUN(strongest_rows_of_chosen_latents_and_any_workers);
    RUN(queries_are_cosines_of_dense_codes);
    RUN(queries_of_many_rows);
    RUN(values_and_cosines_of_zero);
    RUN(queries_that_cannot_be);
    RUN(checksums_are_of_the_weights);
    RUN(older_indices_know_their_model);
    RUN(indices_survive_files);
    RUN(malformed_indices_are_refused);
    RUN(headers_of_other_files_are_refused);
    RUN(cut_and_changed_indices);
    RUN(nearest_rows_are_those_of_plain_cosines);
    RUN(nearest_rows_of_halves);
    RUN(trees_are_their_definition);
    RUN(a_tree_by_hand);
    RUN(edits_by_hand);
    RUN(steering_is_its_parts);
    RUN(steering_without_edits_changes_nothing);
    return test_finish();
}
